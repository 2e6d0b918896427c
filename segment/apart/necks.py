"""Pieces that only touch: a component of bone is taken apart where a narrow neck joins two bulky parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from batchone.pipeline.side_by_side import side_by_side
from batchone.segment.apart.cut import Box, Ground, cut_in_two
from batchone.segment.apart.grid import BoolArray
from batchone.segment.apart.pieces import alone, components
from batchone.segment.apart.table import NECK_CORE_MM3, NECK_ERODE_MM, NECK_MM2, NECK_PART_MM3
from batchone.segment.bits import ball, eroded, packed, unpacked
from batchone.segment.runs import labelled


def parted(bone: BoolArray, step_mm: float) -> list[BoolArray]:
    """A component, or its parts where a cut of at most ``NECK_MM2`` separates them.

    The cut is the smallest in area, whatever the grey values: two bones that touch, as scapula and rib do, have no valley of
    a voxel's width between them, but they touch in a spot.
    """
    columns = bone.shape[2]
    radius = max(NECK_ERODE_MM, step_mm)
    core = unpacked(eroded(packed(bone), columns, ball(radius, (step_mm,) * 3)), columns)
    numbers, voxels = components(core)
    bulky = [int(k) for k in np.argsort(-voxels, kind="stable") if k and voxels[k] * step_mm**3 >= NECK_CORE_MM3]
    rest, parts = bone, []
    for k in reversed(bulky[1:]):
        others = np.isin(numbers, [n for n in bulky if n != k]) & rest
        if not others.any():
            continue
        flat = Ground((slice(0, 0),) * 3, step_mm, rest, np.zeros(rest.shape, np.float32), np.ones(rest.shape, np.float32))
        side = cut_in_two(flat, rest, (numbers == k) & rest, others)
        if _faces(side, rest & ~side) * step_mm**2 > NECK_MM2:
            continue
        if min(int(side.sum()), int((rest & ~side).sum())) * step_mm**3 < NECK_PART_MM3:
            continue
        parts.append(side)
        rest = rest & ~side
    return [rest, *parts]


def all_parted(bone: BoolArray, step_mm: float, least_mm3: float) -> list[tuple[Box, BoolArray]]:
    """Every component of a mask from the largest down, taken apart at its necks, each in its box."""
    runs = labelled(packed(bone), bone.shape[2])
    voxels, boxes = runs.measured()
    found: list[tuple[Box, Callable[[], list[BoolArray]]]] = []
    for piece in np.argsort(-voxels, kind="stable"):
        if voxels[piece] * step_mm**3 < least_mm3:
            break
        low, high = boxes[piece].T
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        part = alone(runs, int(piece), boxes[piece])
        large = voxels[piece] * step_mm**3 >= 2 * NECK_PART_MM3
        found.append((box, partial(parted, part, step_mm) if large else partial(list, (part,))))
    parts = side_by_side([piece for _, piece in found])
    return [(box, one) for (box, _), ones in zip(found, parts, strict=True) for one in ones]


def _faces(one: BoolArray, two: BoolArray) -> int:
    count = 0
    for axis in range(3):
        a = [slice(None)] * 3
        b = [slice(None)] * 3
        a[axis], b[axis] = slice(0, -1), slice(1, None)
        count += int((one[tuple(a)] & two[tuple(b)]).sum() + (two[tuple(a)] & one[tuple(b)]).sum())
    return count
