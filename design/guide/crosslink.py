"""A flat bar that joins two sleeves, led round what stands between them; it carries the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from batchone.design.booleans import Solid, box_solid
from batchone.design.contact.field import Float32Array, Lattice
from batchone.design.contact.shell import Above
from batchone.design.guide.sleeve import Sleeve
from batchone.pipeline.values import FloatArray

BAR = "crosslink"
THICK_MM = 4.0  # of the bar; project default, unverified
_ASIDE_MM = np.arange(-18.0, 22.1, 1.0)  # numerical: places tried across the line of the sleeves
_BELOW_STOP_MM = 0.5  # the bar ends so far below the stop faces: a drill's collar meets the stop, not the bar
_PER_MM = 0.2  # a bar that lies 1 mm lower may be so much longer; project default
_PER_RAISED_MM = 2.0  # sleeves that are 1 mm longer must save so much bar; project default
FREE_MM = 0.4  # between a sleeve and the label: as wide as a printable line; project default
STEP_MM = 0.5  # numerical: between heights that are tried
_SAMPLES = 24  # numerical: along each stretch
_TRIED_AT_ONCE = 64  # numerical: bars, the shortest first


@dataclass(frozen=True, slots=True, eq=False)
class Crosslink:
    """Corners (4, 3) of the bar's middle line from sleeve to sleeve, its width, and the direction that its flat face looks.

    The inner stretch, from the second corner to the third, leads to the reader's right, and carries the label.
    """

    corners_mm: FloatArray
    width_mm: float
    up: FloatArray

    def solids(self) -> tuple[Solid, ...]:
        """One block for each stretch, overlapping at the corners."""
        return tuple(
            _block(start, end, self.width_mm, self.up)
            for start, end in pairwise(self.corners_mm)
            if np.linalg.norm(end - start) > 1e-6
        )

    def over(self, lattice: Lattice) -> tuple[Above, ...]:
        """Each stretch as what stands over a shell, z up."""
        found = []
        for start, end in pairwise(self.corners_mm):
            length = float(np.linalg.norm((end - start)[:2]))
            if length > 1e-6:
                right, middle = (end - start)[:2] / length, 0.5 * (start + end)[:2]
                x, y = lattice.x_mm - middle[0], lattice.y_mm - middle[1]
                along = np.abs(x * right[0] + y * right[1]) - 0.5 * (length + self.width_mm)
                aside = np.abs(y * right[0] - x * right[1]) - 0.5 * self.width_mm
                found.append(Above(np.maximum(along, aside), float(min(start[2], end[2])) - 0.5 * THICK_MM))
        return tuple(found)

    def room_mm(self, sleeves: Sequence[Sleeve]) -> tuple[FloatArray, FloatArray]:
        """Where a label may start and end (3,) on the middle of the flat face: the inner stretch, less what the sleeves take."""
        start, end = self.corners_mm[1], self.corners_mm[2]
        long = float(np.linalg.norm(end - start))
        right = (end - start) / long
        low, high = -0.5 * self.width_mm, long + 0.5 * self.width_mm
        for sleeve in sleeves:
            place = sleeve.at_height_mm(float(start[2])) - start
            along = float(place @ right)
            taken = 0.5 * sleeve.outer_mm / abs(float(sleeve.outward[2])) + FREE_MM
            if float(np.linalg.norm(place - along * right)) < 0.5 * self.width_mm + taken:
                low, high = (max(low, along + taken), high) if along < 0.5 * long else (low, min(high, along - taken))
        up = 0.5 * THICK_MM * self.up
        return np.asarray(start + low * right + up), np.asarray(start + high * right + up)


def crosslink(
    first: Sleeve, second: Sleeve, lattice: Lattice, free_mm: Float32Array, *, width_mm: float, apart_mm: float, raise_mm: float
) -> Crosslink | None:
    """Lead a bar from one sleeve to the other at one height, as short as possible; None where there is no room.

    Parameters
    ----------
    first, second
        The sleeves; the bar's flat face looks along z.
    raise_mm
        The bar may lie so much higher than below both stop faces: then the sleeves are made longer.
    lattice, free_mm
        (x, y, z) how near what is at each voxel comes to bone on its way out.
    width_mm
        Of the bar.
    apart_mm
        The bar keeps this distance from bone.
    """
    need = need_mm(width_mm, apart_mm)
    sleeves = (first, second)
    highest, lowest = heights_mm(sleeves)
    heights = np.arange(highest + raise_mm, lowest, -STEP_MM)
    if len(heights) == 0:
        return None
    ends = np.array([[sleeve.at_height_mm(float(height)) for sleeve in sleeves] for height in heights])
    inner = ends[:, None] + np.array([0.0, 1.0, 0.0]) * _ASIDE_MM[:, None, None]  # (heights, asides, sleeves, 3)
    outer = np.broadcast_to(ends[:, None], inner.shape)
    corners = np.stack([outer[:, :, 0], inner[:, :, 0], inner[:, :, 1], outer[:, :, 1]], axis=2)
    cost = np.array([_cost_mm(float(height - highest)) for height in heights])
    length = np.linalg.norm(np.diff(corners, axis=2), axis=3).sum(axis=2) + cost[:, None]
    shortest = corners.reshape(-1, 4, 3)[np.argsort(length.ravel(), kind="stable")]
    for some in np.array_split(shortest, range(_TRIED_AT_ONCE, len(shortest), _TRIED_AT_ONCE)):
        free = np.flatnonzero(_free(some, lattice, free_mm) >= need)
        if len(free):
            return Crosslink(some[free[0]], width_mm, np.array([0.0, 0.0, 1.0]))
    return None


def need_mm(width_mm: float, apart_mm: float) -> float:
    """From a bar's middle line to bone."""
    return float(np.hypot(0.5 * width_mm, 0.5 * THICK_MM)) + apart_mm


def heights_mm(sleeves: tuple[Sleeve, ...]) -> tuple[float, float]:
    """The highest place for a bar's middle below all stop faces, and the lowest above all entries."""
    highest = min(_lowest_of_stop(sleeve) for sleeve in sleeves) - 0.5 * THICK_MM - _BELOW_STOP_MM
    return highest, max(float(sleeve.entry_mm[2]) for sleeve in sleeves) + 0.5 * THICK_MM


def _cost_mm(above_mm: float) -> float:
    """What a height is worth in mm of bar: low bars are stiff and near; longer sleeves need a larger way in."""
    return _PER_RAISED_MM * above_mm if above_mm > 0.0 else _PER_MM * above_mm


def raised(sleeve: Sleeve, link: Crosslink) -> Sleeve:
    """The sleeve, made long enough for its stop face to lie over the bar."""
    missing = float(link.corners_mm[0, 2]) + 0.5 * THICK_MM + _BELOW_STOP_MM - _lowest_of_stop(sleeve)
    return sleeve if missing <= 0.0 else replace(sleeve, top_mm=sleeve.top_mm + missing / float(sleeve.outward[2]))


def _lowest_of_stop(sleeve: Sleeve) -> float:
    """Lowest z of a sleeve's stop face, which is a disc across its axis."""
    slope = float(np.hypot(sleeve.outward[0], sleeve.outward[1]))
    return float(sleeve.at_mm(sleeve.top_mm)[2]) - 0.5 * sleeve.outer_mm * slope


def _free(corners: FloatArray, lattice: Lattice, free_mm: Float32Array) -> FloatArray:
    """(n,) least distance to bone along middle lines (n, 4, 3), between the two inner corners and to the sleeves."""
    share = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
    line = corners[:, :-1, None] + share * (corners[:, 1:] - corners[:, :-1])[:, :, None]
    return np.asarray(lattice.at(free_mm, line.reshape(-1, 3)).reshape(len(corners), -1).min(axis=1))


def _block(start: FloatArray, end: FloatArray, width_mm: float, up: FloatArray) -> Solid:
    along = end - start
    length = float(np.linalg.norm(along))
    x = along / length
    z = up - x * (up @ x)
    if np.linalg.norm(z) < 1e-6:
        z = np.array([1.0, 0.0, 0.0])
    z /= np.linalg.norm(z)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    pose[:3, 3] = start
    half = 0.5 * width_mm
    return box_solid(np.array([-half, -half, -0.5 * THICK_MM]), np.array([length + half, half, 0.5 * THICK_MM]), BAR, pose=pose)
