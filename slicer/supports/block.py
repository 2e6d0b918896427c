"""Block supports: a grid of thin upright walls with holes in them and teeth where they meet the part."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import manifold3d
import numpy as np

from batchone.pipeline.process import BlockSupports
from batchone.pipeline.values import FloatArray
from batchone.slicer.supports.columns import STEP_MM, Columns, Flags
from batchone.slicer.supports.needs import Numbers, Underside

_JUMP_MM: Final = 2.0 * STEP_MM  # numerical: a wall ends where what it carries or stands on jumps by more
_TOOTH_SHARE: Final = 0.4  # of the height of a low wall, for the teeth above and below


def walls(under: Underside, places: Numbers, columns: Columns, block: BlockSupports) -> tuple[list[manifold3d.Manifold], Numbers]:
    """Walls under the places of one region, along both axes of the plate.

    Parameters
    ----------
    under, columns
        The underside and its grid.
    places
        Where supports may stand, numbers of the underside.
    block
        How the walls are made.

    Returns
    -------
    tuple
        The bodies, each closed, and the places that their teeth carry.
    """
    spacing = max(1, round(block.grid_mm / STEP_MM))
    row, column = np.divmod(under.cell[places], columns.columns)
    bodies, carried = [], []
    for across, along in ((column, row), (row, column)):
        first = (int(across.min()) + int(across.max())) // 2 % spacing  # one of the walls runs through the middle
        on_line = np.flatnonzero(across % spacing == first)
        order = on_line[np.lexsort((along[on_line], across[on_line]))]
        for begin, end in _chains(under, places[order], across[order], along[order]):
            chain = places[order][begin:end]
            points = columns.at_mm(under.cell[chain])
            upright = across is column  # along y
            profile = _profile(points[:, 1 if upright else 0], under.top_mm[chain], under.foot_mm[chain], block)
            if profile.is_empty():
                continue
            body = profile.extrude(block.wall_mm).translate((0.0, 0.0, -0.5 * block.wall_mm))
            place = float(points[0, 0 if upright else 1])
            turn = ((0, 0, 1, place), (1, 0, 0, 0), (0, 1, 0, 0)) if upright else ((1, 0, 0, 0), (0, 0, -1, place), (0, 1, 0, 0))
            bodies.append(body.transform(np.array(turn, dtype=np.float64)))
            carried.append(chain[_at_teeth(chain, block)])
    return bodies, np.unique(np.concatenate(carried)) if carried else np.empty(0, dtype=np.int64)


def _at_teeth(chain: Numbers, block: BlockSupports) -> Numbers:
    """Which places of a wall lie nearest to the tips of its teeth."""
    length = (len(chain) - 1) * STEP_MM
    count, pitch = _teeth(length, block)
    middles = (np.arange(count) + 0.5) * pitch - 0.5 * block.tooth_gap_mm
    return np.rint(middles / STEP_MM).astype(np.int64)


def _teeth(length_mm: float, block: BlockSupports) -> tuple[int, float]:
    """How many teeth a wall has, and from tooth to tooth, mm."""
    count = max(1, round((length_mm + block.tooth_gap_mm) / (block.tooth_base_mm + block.tooth_gap_mm)))
    return count, (length_mm + block.tooth_gap_mm) / count


def _chains(under: Underside, places: Numbers, across: Numbers, along: Numbers) -> list[tuple[int, int]]:
    """Where one wall begins and ends, of sorted places: at least two in a row without a jump."""
    if len(places) == 0:
        return []
    jump = (
        (np.diff(across) != 0) | (np.diff(along) != 1)
        | (np.abs(np.diff(under.top_mm[places])) > _JUMP_MM) | (np.abs(np.diff(under.foot_mm[places])) > _JUMP_MM)
    )  # fmt: skip
    bounds = [0, *(np.flatnonzero(jump) + 1).tolist(), len(places)]
    return [(begin, end) for begin, end in pairwise(bounds) if end - begin > 1]


def _profile(along_mm: FloatArray, top_mm: FloatArray, foot_mm: FloatArray, block: BlockSupports) -> manifold3d.CrossSection:
    """The outline of a wall in its own plane: along it, and up."""
    tooth = min(block.tooth_height_mm, _TOOTH_SHARE * float((top_mm - foot_mm).min()))
    upper = _edge(along_mm, top_mm, tooth, block, up=1.0)
    on_plate = bool((foot_mm <= 0.0).all())
    lower = (
        [(float(along_mm[0]), 0.0), (float(along_mm[-1]), 0.0)] if on_plate else _edge(along_mm, foot_mm, tooth, block, up=-1.0)
    )
    outline = manifold3d.CrossSection([np.array([*lower, *reversed(upper)])], manifold3d.FillRule.Positive)
    holes = _holes(along_mm, top_mm - tooth, foot_mm if on_plate else foot_mm + tooth, block)
    return outline - manifold3d.CrossSection(holes, manifold3d.FillRule.Positive) if holes else outline


def _edge(
    along_mm: FloatArray, edge_mm: FloatArray, tooth_mm: float, block: BlockSupports, *, up: float
) -> list[tuple[float, float]]:
    """Teeth along a surface: points from one end to the other, that reach into it by the penetration."""
    low, high = float(along_mm[0]), float(along_mm[-1])
    count, pitch = _teeth(high - low, block)
    tip = min(block.tooth_tip_mm, 0.5 * (pitch - block.tooth_gap_mm))
    points: list[tuple[float, float]] = []
    for k in range(count):
        left = low + k * pitch
        right = left + pitch - block.tooth_gap_mm
        middle = 0.5 * (left + right)
        places = np.array([left, middle - 0.5 * tip, middle + 0.5 * tip, right])
        off = up * np.array([-tooth_mm, block.penetration_mm, block.penetration_mm, -tooth_mm])
        points += list(zip(places.tolist(), (np.interp(places, along_mm, edge_mm) + off).tolist(), strict=True))
    return points


def _holes(along_mm: FloatArray, high_mm: FloatArray, low_mm: FloatArray, block: BlockSupports) -> list[FloatArray]:
    """Squares on their corners, which carry themselves, with struts between them: those that lie whole within the wall."""
    half = 0.5 * block.hole_mm
    pitch = block.hole_mm + math.sqrt(2.0) * block.truss_mm
    margin = half + block.truss_mm
    if half <= 0.0 or float((high_mm - low_mm).max()) < 2.0 * margin or float(np.ptp(along_mm)) < 2.0 * margin:
        return []
    square = half * np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    found = []
    for row in range(math.floor(float(low_mm.min()) / (0.5 * pitch)), math.ceil(float(high_mm.max()) / (0.5 * pitch)) + 1):
        z = 0.5 * pitch * row
        first = math.ceil((float(along_mm[0]) + margin) / pitch - 0.5 * (row % 2))
        for k in range(first, math.floor((float(along_mm[-1]) - margin) / pitch - 0.5 * (row % 2)) + 1):
            s = (k + 0.5 * (row % 2)) * pitch
            near: Flags = np.abs(along_mm - s) <= margin
            if float(low_mm[near].max()) + margin <= z <= float(high_mm[near].min()) - margin:
                found.append(square + np.array([s, z]))
    return found
