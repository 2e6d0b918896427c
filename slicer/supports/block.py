"""Block supports: thin upright walls on a grid and along its border, with holes in them and teeth where they meet the part."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import manifold3d
import numpy as np
import shapely

from batchone.pipeline.process import BlockSupports
from batchone.pipeline.values import FloatArray
from batchone.slicer.supports.columns import STEP_MM, Columns, Flags
from batchone.slicer.supports.needs import Numbers, Underside

_JUMP_MM: Final = 2.0 * STEP_MM  # numerical: a wall ends where what it carries or stands on jumps by more
_TOOTH_SHARE: Final = 0.4  # of the height of a low wall, for the teeth above and below
_SNAP_MM: Final = 1e-6  # numerical: cells that meet meet exactly
_CELLS: Final = 2.0  # what is smaller than a square of so many cells of the grid gets no walls along its border; project default
_STRAIGHT_MM: Final = STEP_MM  # numerical: a border is straight to within that

Line = tuple[
    FloatArray, Numbers
]  # places on the plate (n, 2) mm along a straight line, and the place of the underside above each


def walls(under: Underside, places: Numbers, columns: Columns, block: BlockSupports) -> tuple[list[manifold3d.Manifold], Numbers]:
    """Walls under the places of one region, along both axes of the plate and along the border.

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
    bodies, carried = [], [np.empty(0, dtype=np.int64)]
    for points, chain in _lines(under, places, columns, block):
        away = points - points[0]
        along = np.hypot(*away.T)
        profile = _profile(along, under.top_mm[chain], under.foot_mm[chain], block)
        if profile.is_empty():
            continue
        body = profile.extrude(block.wall_mm).translate((0.0, 0.0, -0.5 * block.wall_mm))
        (u, v), (x, y) = (away[-1] / along[-1]).tolist(), points[0].tolist()
        bodies.append(body.transform(np.array([(u, 0.0, v, x), (v, 0.0, -u, y), (0.0, 1.0, 0.0, 0.0)])))
        tips = _tips(along, block)
        carried.append(chain[np.abs(along[:, None] - tips[None, :]).argmin(axis=0)])
    return bodies, np.unique(np.concatenate(carried))


def _lines(under: Underside, places: Numbers, columns: Columns, block: BlockSupports) -> Iterator[Line]:
    """The lines along which walls stand: no jump in what they carry or stand on, at least two places."""
    for points, numbers in [*_grid(under, places, columns, block), *_border(under, places, columns, block)]:
        known = np.flatnonzero(numbers >= 0)
        chain = numbers[known]
        jump = (
            (np.diff(known) != 1) | (np.abs(np.diff(under.top_mm[chain])) > _JUMP_MM)
            | (np.abs(np.diff(under.foot_mm[chain])) > _JUMP_MM)
        )  # fmt: skip
        bounds = [0, *(np.flatnonzero(jump) + 1).tolist(), len(known)]
        for begin, end in pairwise(bounds):
            if end - begin > 1:
                yield points[known[begin:end]], chain[begin:end]


def _grid(under: Underside, places: Numbers, columns: Columns, block: BlockSupports) -> Iterator[Line]:
    """Lines along both axes; -1 where there is no place."""
    spacing = max(1, round(block.grid_mm / STEP_MM))
    number = _numbers(under, places, columns)
    row, column = np.divmod(under.cell[places], columns.columns)
    for across, along, width in ((column, row, 1), (row, column, columns.columns)):
        first = (int(across.min()) + int(across.max())) // 2 % spacing  # one of the walls runs through the middle
        on_line = np.arange(int(along.min()), int(along.max()) + 1)
        for line in range(first, int(across.max()) + 1, spacing):
            cells = line * width + on_line * (columns.columns if width == 1 else 1)
            yield columns.at_mm(cells), number[cells]


def _border(under: Underside, places: Numbers, columns: Columns, block: BlockSupports) -> Iterator[Line]:
    """Lines along the border, inside of it by half a wall; -1 where there is no place."""
    cell = np.sort(under.cell[places])
    ends = np.flatnonzero((np.diff(cell) != 1) | (cell[1:] % columns.columns == 0))
    first, last = cell[np.concatenate([[0], ends + 1])], cell[np.concatenate([ends, [len(cell) - 1]])]  # runs along x
    low, high = columns.at_mm(first) - 0.5 * STEP_MM, columns.at_mm(last) + 0.5 * STEP_MM
    whole = shapely.union_all(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]), grid_size=_SNAP_MM)
    inner = whole.buffer(-0.5 * block.wall_mm).simplify(_STRAIGHT_MM)
    number = _numbers(under, places, columns)
    rings = shapely.get_rings(inner)
    for ring in rings[shapely.area(shapely.polygons(rings)) >= (_CELLS * block.grid_mm) ** 2]:
        for one, other in pairwise(shapely.get_coordinates(ring)):
            length = float(np.hypot(*(other - one)))
            share = np.linspace(0.0, 1.0, max(2, math.ceil(length / STEP_MM) + 1))[:, None]
            points = one + share * (other - one)
            yield points, number[columns.cell_at(points)]


def _numbers(under: Underside, places: Numbers, columns: Columns) -> Numbers:
    """(cells,) the place above each cell, -1 where there is none."""
    number = np.full(columns.rows * columns.columns, -1, dtype=np.int64)
    number[under.cell[places]] = places
    return number


def _tips(along_mm: FloatArray, block: BlockSupports) -> FloatArray:
    """(n,) middles of the tips of the teeth of a wall, from end to end."""
    low, high = float(along_mm[0]) + 0.5 * block.tooth_tip_mm, float(along_mm[-1]) - 0.5 * block.tooth_tip_mm
    count = round((high - low) / (block.tooth_base_mm + block.tooth_gap_mm)) + 1
    if high - low < block.tooth_tip_mm:
        return np.array([0.5 * (low + high)])
    return np.linspace(low, high, max(2, count))


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
    tips = _tips(along_mm, block)
    pitch = float(tips[1] - tips[0]) if len(tips) > 1 else high - low
    half = 0.5 * max(block.tooth_tip_mm, pitch - block.tooth_gap_mm)
    tip = 0.5 * min(block.tooth_tip_mm, high - low)
    points: list[tuple[float, float]] = []
    for middle in tips.tolist():
        places = np.clip([middle - half, middle - tip, middle + tip, middle + half], low, high)
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
