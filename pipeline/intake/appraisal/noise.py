"""Noise: the standard deviation of HU in small homogeneous patches, in soft tissue and in air.

The patches' most frequent standard deviation is taken, for structure can only raise it (Christianson et al. 2015, AJR
205:W93, the global noise level).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.pipeline.intake.appraisal.sample import FLOOR_HU, Sample
from batchone.pipeline.values import HuArray

PATCH_MM = 6.0  # side of a patch; Christianson et al. 2015
MIN_PATCH_SIDE = 5  # voxels; fewer make no standard deviation
SOFT_HU = (0.0, 100.0)  # mean of a patch of soft tissue; Christianson et al. 2015
AIR_HU = (-1050.0, -950.0)  # mean of a patch of air; the definition of the scale, within the width that intake allows
MIN_PATCHES = 30  # fewer are no statistic; project default
MAX_PADDED_SHARE = 0.5  # of a patch at -1024: more is padding, not air; project default
MAX_SLICES = 16  # slices whose patches are measured; project default


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation of HU; None where there are too few homogeneous patches."""

    soft_hu: float | None
    air_hu: float | None


def measure_noise(sample: Sample) -> Noise:
    """Measure the noise of a series."""
    soft: list[npt.NDArray[np.float32]] = []
    air: list[npt.NDArray[np.float32]] = []
    side = max(MIN_PATCH_SIDE, round(PATCH_MM / max(sample.spacing_mm[:2])))
    for place in sample.spread(MAX_SLICES):
        patches = _patches(sample.hu[place], side)
        mean = patches.sum(axis=1, dtype=np.int32) / patches.shape[1]
        soft.append(patches[(mean >= SOFT_HU[0]) & (mean <= SOFT_HU[1])].std(axis=1, ddof=1, dtype=np.float32))
        some = patches[(mean >= AIR_HU[0]) & (mean <= AIR_HU[1])]
        some = some[np.count_nonzero(some <= FLOOR_HU, axis=1) <= MAX_PADDED_SHARE * some.shape[1]]
        air.append(_upper_spread(some))
    return Noise(most_frequent(np.concatenate(soft)), most_frequent(np.concatenate(air)))


def most_frequent(values: npt.NDArray[np.float32]) -> float | None:
    """The middle of the shortest interval that holds half of the values; None when there are fewer than 30."""
    if len(values) < MIN_PATCHES:
        return None
    ordered = np.sort(values.astype(np.float64))
    half = len(ordered) // 2
    start = int(np.argmin(ordered[half:] - ordered[:-half]))
    return float(np.mean(ordered[start : start + half + 1]))


def _patches(image: HuArray, side: int) -> HuArray:
    """(n, side * side) int16 patches that tile a slice."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    tiles = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3)).reshape(rows * columns, side * side)


def _upper_spread(patches: HuArray) -> npt.NDArray[np.float32]:
    """Standard deviation of each patch from the values above its median alone: scanners cut air off at -1024 HU."""
    ordered = np.sort(patches, axis=1)  # of int16 faster than a median of floating point
    half = patches.shape[1] // 2
    median = (ordered[:, half] + ordered[:, -half - 1]) * np.float32(0.5)
    above = ordered[:, half:] - median[:, None]
    count = np.maximum(np.count_nonzero(above > 0, axis=1), 1)
    return np.asarray(np.sqrt(np.square(np.maximum(above, 0)).sum(axis=1) / count), dtype=np.float32)
