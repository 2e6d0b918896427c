"""Metal: how much of it, where, and how far its streaks disturb the tissue beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.pipeline.intake.appraisal.noise import MIN_PATCHES, most_frequent
from batchone.pipeline.intake.appraisal.sample import Sample
from batchone.pipeline.values import Vector

METAL_HU = 3000  # above it nothing but metal; enamel and the densest bone reach 2500 to 3000 HU; project default
DENSE_HU = 2500  # metal, enamel or very dense bone; project default
BESIDE_MM = 40.0  # streaks are looked for this far from the metal in its slices; project default
PATCH_MM = 12.0  # streaks are a few millimetres wide: a patch must hold dark and bright ones; project default
TISSUE_HU = (-200.0, 200.0)  # mean of a patch of soft tissue with streaks in it; project default
_BONE_HU = 300  # a patch that holds more than some of it is no soft tissue
_MAX_BONE_SHARE = 0.02
_MAX_SLICES = 12


@dataclass(frozen=True, slots=True)
class Metal:
    """What was found.

    ``share`` and ``dense_share`` are of the voxels looked at, ``volume_mm3`` is that share of the scanned box; ``middle_mm``
    LPS, ``slices`` first and last slice number with metal. ``streak_ratio`` is the spread of HU in soft tissue beside the metal
    over that in slices without; None where there is no metal, or nothing to compare.
    """

    share: float
    dense_share: float
    volume_mm3: float
    middle_mm: Vector | None = None
    slices: tuple[int, int] | None = None
    streak_ratio: float | None = None


def measure_metal(sample: Sample) -> Metal:
    """Measure the metal of a series."""
    counts = np.array([int(np.count_nonzero(image > METAL_HU)) for image in sample.hu])
    dense = sum(int(np.count_nonzero(image > DENSE_HU)) for image in sample.hu)
    share = float(counts.sum() / sample.hu.size)
    column_mm, row_mm, slice_mm = sample.spacing_mm
    box_mm3 = sample.hu[0].size * column_mm * row_mm * slice_mm * sample.slices
    found = Metal(share, dense / sample.hu.size, share * box_mm3)
    if not counts.any():
        return found
    places = np.flatnonzero(counts)
    points = np.concatenate([np.column_stack((np.full(counts[k], k), np.argwhere(sample.hu[k] > METAL_HU))) for k in places])
    place, row, column = points.mean(axis=0)
    return Metal(
        share=found.share,
        dense_share=found.dense_share,
        volume_mm3=found.volume_mm3,
        middle_mm=sample.point_mm(float(column), float(row), float(place)),
        slices=(sample.index[int(places[0])], sample.index[int(places[-1])]),
        streak_ratio=_streaks(sample, counts),
    )


def _streaks(sample: Sample, counts: npt.NDArray[np.int64]) -> float | None:
    with_metal = np.argsort(-counts, kind="stable")[: min(_MAX_SLICES, int(np.count_nonzero(counts)))]
    without = np.flatnonzero(counts == 0)
    without = without[np.unique(np.rint(np.linspace(0, len(without) - 1, min(_MAX_SLICES, len(without)))).astype(int))]
    beside = [_spreads(sample, int(place), near_metal=True) for place in with_metal]
    elsewhere = [_spreads(sample, int(place), near_metal=False) for place in without]
    disturbed, calm = (_middle(parts) for parts in (beside, elsewhere))
    return None if disturbed is None or calm is None or calm <= 0 else disturbed / calm


def _middle(parts: list[npt.NDArray[np.float32]]) -> float | None:
    values = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    return float(np.median(values)) if most_frequent(values) is not None and len(values) >= MIN_PATCHES else None


def _spreads(sample: Sample, place: int, *, near_metal: bool) -> npt.NDArray[np.float32]:
    """Standard deviations of the soft-tissue patches of a slice; near the metal, or all."""
    image = sample.hu[place]
    column_mm, row_mm, _ = sample.spacing_mm
    side = max(5, round(PATCH_MM / max(column_mm, row_mm)))
    rows, columns = image.shape[0] // side, image.shape[1] // side
    tiles = image[: rows * side, : columns * side].reshape(rows, side, columns, side).transpose(0, 2, 1, 3)
    patches = tiles.reshape(rows, columns, side * side).astype(np.float32)
    mean = patches.mean(axis=2)
    soft = (mean >= TISSUE_HU[0]) & (mean <= TISSUE_HU[1]) & ((patches > _BONE_HU).mean(axis=2) <= _MAX_BONE_SHARE)
    if near_metal:
        points = np.argwhere(image > METAL_HU)
        reach = BESIDE_MM / min(column_mm, row_mm)
        low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
        row, column = ((np.arange(count) + 0.5) * side for count in (rows, columns))
        soft &= ((row >= low[0]) & (row <= high[0]))[:, None] & ((column >= low[1]) & (column <= high[1]))[None, :]
    return np.asarray(patches[soft].std(axis=1), dtype=np.float32)
