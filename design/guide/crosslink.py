"""A flat bar that joins two sleeves, led round what stands between them; it carries the label."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from batchone.design.booleans import Solid, box_solid
from batchone.design.contact.field import Float32Array, Lattice
from batchone.design.guide.sleeve import Sleeve
from batchone.pipeline.values import FloatArray

BAR = "crosslink"
THICK_MM = 4.0  # of the bar; project default, unverified
_ASIDE_MM = np.arange(-18.0, 22.1, 1.0)  # numerical: places tried across the line of the sleeves
_SAMPLES = 24  # numerical: along each stretch


@dataclass(frozen=True, slots=True, eq=False)
class Crosslink:
    """Corners (4, 3) of the bar's middle line from sleeve to sleeve, its width, and the direction that its flat face looks."""

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


def crosslink(
    first: Sleeve, second: Sleeve, lattice: Lattice, free_mm: Float32Array, *, width_mm: float, apart_mm: float
) -> Crosslink | None:
    """Lead a bar from one sleeve to the other, as short as possible; None where there is no room.

    Parameters
    ----------
    first, second
        The sleeves; the bar's flat face looks along z.
    lattice, free_mm
        (x, y, z) how near what is at each voxel comes to bone on its way out.
    width_mm
        Of the bar.
    apart_mm
        The bar keeps this distance from bone.
    """
    need = np.hypot(0.5 * width_mm, 0.5 * THICK_MM) + apart_mm
    best: tuple[float, FloatArray] | None = None
    low = max(4.0, 0.5 * THICK_MM + 2.0)
    for below_top in np.arange(0.5 * THICK_MM, max(min(first.top_mm, second.top_mm) - low, 0.5 * THICK_MM) + 0.1, 1.0):
        ends = [sleeve.at_mm(sleeve.top_mm - below_top) for sleeve in (first, second)]
        for aside in _ASIDE_MM:
            step = np.array([0.0, aside, 0.0])
            height = max(ends[0][2], ends[1][2])
            level = [np.array([end[0], end[1], height]) + step for end in ends]
            corners = np.stack([ends[0], level[0], level[1], ends[1]])
            length = float(np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()) + 0.2 * below_top
            if (best is None or length < best[0]) and _free(corners, lattice, free_mm) >= need:
                best = (length, corners)
    return None if best is None else Crosslink(best[1], width_mm, np.array([0.0, 0.0, 1.0]))


def _free(corners: FloatArray, lattice: Lattice, free_mm: Float32Array) -> float:
    """Least distance to bone along the middle line between the two inner corners and to the sleeves."""
    share = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
    line = [a + share * (b - a) for a, b in pairwise(corners)]
    return float(lattice.at(free_mm, np.concatenate(line)).min())


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
