"""Joints without a spine to tell where they are: a component falls apart without its valleys, and each cut is judged at once."""

from __future__ import annotations

import numpy as np

from batchone.segment.apart.cut import Ground, box_around, cut_in_two, ground
from batchone.segment.apart.grid import BoolArray
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.pieces import components
from batchone.segment.apart.quality import contact
from batchone.segment.apart.table import (
    JOINT_CORE_MM3,
    JOINT_LEVELS,
    JOINT_MARGIN_MM,
    JOINT_PART_MM3,
    JOINT_RATIO,
)
from batchone.segment.bits import ball, eroded, packed, unpacked


def apart_at_joints(
    mask: BoneMask, step_mm: float, low_mm: tuple[float, ...], high_mm: tuple[float, ...], bone: BoolArray
) -> list[BoolArray]:
    """A component's bones.

    The component is eroded and its valleys are taken out, gently first. Where two bulky cores come apart, the cheapest cut
    between them is made; it stays when the grey values on it are darker than those beside it, as in a joint space, and is
    given up when they are not, as in a waist of one bone.

    Parameters
    ----------
    bone
        (slices, rows, columns) the component on the whole work grid; ``low_mm`` and ``high_mm`` are its corners.

    Returns
    -------
    The bones, on the whole work grid.
    """
    low = tuple(value - JOINT_MARGIN_MM for value in low_mm)
    high = tuple(value + JOINT_MARGIN_MM for value in high_mm)
    box = box_around(bone.shape, low, high, step_mm)
    place = ground(mask, step_mm, box)
    marrow = place.bone & ~mask.bone[box]
    parts = [(bone[box] | marrow) & place.bone]
    done: list[BoolArray] = []
    for quantile, erode_mm in JOINT_LEVELS:
        parts = [piece for part in parts for piece in _split(place, mask, part, quantile, erode_mm)]
    for part in parts:
        whole = np.zeros_like(bone)
        whole[box] = part
        done.append(whole)
    return done


def _split(place: Ground, mask: BoneMask, part: BoolArray, quantile: float, erode_mm: float) -> list[BoolArray]:
    columns = part.shape[2]
    level = float(np.quantile(place.valley[part], quantile)) if part.any() else 0.0
    free = part & (place.valley <= level)
    core = unpacked(eroded(packed(free), columns, ball(max(erode_mm, place.step_mm), (place.step_mm,) * 3)), columns)
    numbers, voxels = components(core)
    bulky = [int(k) for k in np.argsort(-voxels, kind="stable") if k and voxels[k] * place.step_mm**3 >= JOINT_CORE_MM3]
    rest, found = part, []
    for k in reversed(bulky[1:]):
        others = np.isin(numbers, [n for n in bulky if n != k]) & rest
        seed = (numbers == k) & rest
        if not others.any() or not seed.any():
            continue
        side = cut_in_two(place, rest, seed, others)
        both = np.where(side, np.uint8(1), np.uint8(2)) * rest
        least = min(int(side.sum()), int((rest & ~side).sum())) * place.step_mm**3
        if least < JOINT_PART_MM3 or contact(both, mask.capped[place.box], place.step_mm) > JOINT_RATIO:
            continue
        found.append(side)
        rest = rest & ~side
    return [rest, *found]
