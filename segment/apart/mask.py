"""Bone in the work volume: metal apart, a threshold that follows the scan's own soft tissue, and pieces that hold real bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.pipeline.values import HuArray
from batchone.segment.apart.grid import BoolArray, Float32Array, WorkVolume
from batchone.segment.apart.pieces import counted_in
from batchone.segment.apart.table import (
    BONE_LEAST_OVER_SOFT_HU,
    BONE_LOSS_HU_PER_MM,
    BONE_OVER_SOFT_HU,
    CORE_MM3,
    CORE_OVER_SOFT_HU,
    MASK_SIGMA_VOXELS,
    METAL_CAP_HU,
    METAL_HU,
    METAL_RIM_MM,
    METAL_SURE_HU,
    PIECE_MM3,
)
from batchone.segment.apart.valley import smoothed
from batchone.segment.bits import ball, dilated, packed, packed_above, unpacked
from batchone.segment.bone import scan_figures
from batchone.segment.runs import labelled


@dataclass(frozen=True, slots=True, eq=False)
class BoneMask:
    """Bone and metal of a work volume.

    Attributes
    ----------
    bone
        (slices, rows, columns) bool: bone and metal, not filled.
    metal
        (slices, rows, columns) bool: metal with its blooming.
    capped
        (slices, rows, columns) int16 HU: the scan with metal held at compact bone, for all filters.
    smooth
        (slices, rows, columns) float32 HU, slightly smoothed.
    soft_hu, bone_hu
        Typical soft tissue, and the threshold of bone.
    """

    bone: BoolArray
    metal: BoolArray
    capped: HuArray
    smooth: Float32Array
    soft_hu: float
    bone_hu: float


def bone_threshold_hu(soft_hu: float, coarse_mm: float) -> float:
    """Where bone begins: above the scan's own soft tissue, and less so where voxels are coarse (partial volume)."""
    loss = BONE_LOSS_HU_PER_MM * max(0.0, coarse_mm - 1.0)
    return soft_hu + max(BONE_LEAST_OVER_SOFT_HU, BONE_OVER_SOFT_HU - loss)


def bone_mask(volume: WorkVolume, body: BoolArray) -> BoneMask:
    """Find bone and metal within the body."""
    columns = volume.hu.shape[2]
    spacing = (volume.step_mm,) * 3
    voxel_mm3 = volume.step_mm**3
    soft_hu = scan_figures(volume.hu).soft_hu
    rim = labelled(packed_above(volume.hu, METAL_HU), columns)
    sure = rim.painted(counted_in(rim, packed_above(volume.hu, METAL_SURE_HU)) > 0)
    metal = unpacked(dilated(sure, columns, ball(METAL_RIM_MM, spacing)), columns)
    capped = np.where(metal, np.int16(METAL_CAP_HU), volume.hu)
    bone_hu = bone_threshold_hu(soft_hu, volume.coarse_mm)
    smooth = smoothed(capped, MASK_SIGMA_VOXELS)
    words = packed((smooth > bone_hu) & body)
    runs = labelled(words, columns)
    enough = runs.measured()[0] * voxel_mm3 >= PIECE_MM3
    enough &= counted_in(runs, packed_above(capped, soft_hu + CORE_OVER_SOFT_HU)) * voxel_mm3 >= CORE_MM3
    return BoneMask(unpacked(runs.painted(enough), columns), metal, capped, smooth, soft_hu, bone_hu)
