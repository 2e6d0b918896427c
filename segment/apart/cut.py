"""One engine for all joints: what a cut costs, the minimal cut, and how good the cut is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.pipeline.values import HuArray
from batchone.segment.apart.fill import grey_filled
from batchone.segment.apart.grid import BoolArray, Float32Array
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.maxflow import CAPACITY, source_side
from batchone.segment.apart.pieces import counted_in
from batchone.segment.apart.table import (
    COST_BASE,
    COST_FROM_OVER_SOFT_HU,
    COST_LEAST,
    COST_POWER,
    COST_RANGE_HU,
    COST_VALLEY,
    COST_VALLEY_PERCENTILE,
    MASK_SIGMA_VOXELS,
    VALLEY_CLIP_OVER_SOFT_HU,
    VALLEY_MM,
    WEAK_PULL,
)
from batchone.segment.apart.valley import smoothed, valley_of
from batchone.segment.bits import ball, dilated, packed, unpacked
from batchone.segment.runs import Int32Array, Int64Array, labelled

Box = tuple[slice, slice, slice]
_STRONG = 1_000_000  # more than any cut of one voxel


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A box of the work volume, ready to be cut.

    Attributes
    ----------
    box
        Its place on the work grid.
    step_mm
        Distance of neighbours.
    bone
        (slices, rows, columns) bool.
    valley
        HU/mm2, 0 off the bone, in units of the usual deep valley.
    cost
        Of a cut through each voxel, 0 to about 1.
    """

    box: Box
    step_mm: float
    bone: BoolArray
    valley: Float32Array
    cost: Float32Array

    def places_mm(self, where: BoolArray) -> tuple[Float32Array, Float32Array, Float32Array]:
        """(slice, row, column) mm on the work grid of the voxels of a mask of this box."""
        return self.at_mm(np.nonzero(where))

    def at_mm(self, index: tuple[Int64Array, ...]) -> tuple[Float32Array, Float32Array, Float32Array]:
        """(slice, row, column) mm on the work grid of voxels of this box, given along the three axes."""
        z, y, x = (((along + edge.start) * self.step_mm).astype(np.float32) for along, edge in zip(index, self.box, strict=True))
        return z, y, x


def marrow_filled(mask: BoneMask, box: Box) -> HuArray:
    """The grey values of a box with enclosed dark places raised, within the range where valleys are looked for."""
    low, high = (mask.soft_hu + edge for edge in VALLEY_CLIP_OVER_SOFT_HU)
    return grey_filled(mask.capped[box], mask.bone_hu, (low, high))


def ground(mask: BoneMask, step_mm: float, box: Box, grey: HuArray | None = None) -> Ground:
    """Measure valley and cost in a box, with its :func:`marrow_filled` values where they are known."""
    if grey is None:
        grey = marrow_filled(mask, box)
    bone = _with_marrow(mask, box, grey)
    smooth = smoothed(grey, VALLEY_MM / step_mm)
    valley = valley_of(smooth, bone, step_mm)
    deep = float(np.percentile(valley[bone], COST_VALLEY_PERCENTILE)) if bone.any() else 1.0
    valley /= max(deep, 1e-6)
    dense = (smoothed(grey, MASK_SIGMA_VOXELS) - (mask.soft_hu + COST_FROM_OVER_SOFT_HU)) / COST_RANGE_HU
    cost = np.clip(dense, COST_LEAST, 1.0) ** COST_POWER * np.exp(-COST_VALLEY * valley) + COST_BASE
    return Ground(box, step_mm, bone, valley, cost.astype(np.float32))


def _with_marrow(mask: BoneMask, box: Box, grey: HuArray) -> BoolArray:
    """Bone with what it encloses: raised places that touch it."""
    columns = grey.shape[2]
    bone = np.ascontiguousarray(mask.bone[box])
    raised = packed((grey > mask.bone_hu) & (mask.capped[box] <= mask.bone_hu))
    enclosed = labelled(raised, columns)
    beside = dilated(packed(bone), columns, ball(1.0, (1.0, 1.0, 1.0)))
    return bone | unpacked(enclosed.painted(counted_in(enclosed, beside) > 0), columns)


def cut_in_two(
    place: Ground,
    within: BoolArray,
    first: BoolArray,
    second: BoolArray,
    weak_first: BoolArray | None = None,
    weak_second: BoolArray | None = None,
    weak_pull: float = WEAK_PULL,
) -> BoolArray:
    """The voxels of ``within`` on the side of ``first`` in the cheapest cut between two seeds.

    ``weak_first`` and ``weak_second`` are tied to a side by ``weak_pull`` per voxel only.
    """
    pull: Int32Array = np.zeros(within.shape, dtype=np.int32)
    if weak_first is not None:
        pull[weak_first] += int(weak_pull * CAPACITY)
    if weak_second is not None:
        pull[weak_second] -= int(weak_pull * CAPACITY)
    pull[first], pull[second] = _STRONG, -_STRONG
    return source_side(within, place.cost, pull)


def box_around(shape: tuple[int, ...], low_mm: tuple[float, ...], high_mm: tuple[float, ...], step_mm: float) -> Box:
    """The box of the work grid from one corner to another, within the grid."""
    edges = [
        slice(int(np.clip(np.floor(a / step_mm), 0, n - 1)), int(np.clip(np.ceil(b / step_mm) + 1, 1, n)))
        for a, b, n in zip(low_mm, high_mm, shape, strict=True)
    ]
    return edges[0], edges[1], edges[2]
