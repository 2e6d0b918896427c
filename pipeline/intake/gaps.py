"""The grid that sorted slices lie on: even, uneven but whole, or with slices missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.values import FloatArray

SPACING_TOLERANCE_MM = 0.01  # a slice may be this far from an even grid; project default
SPACING_TOLERANCE_SHARE = 0.01  # ... or this share of the spacing, whichever is larger
MAX_ROUNDING_SHARE = 0.2  # positions rounded more coarsely than this share of the spacing earn no allowance
SAME_POSITION_SHARE = 0.1  # two slices closer than this share of the median gap lie at one position
WIDE_GAP = 1.5  # times the common spacing: wider is a gap in which a slice could lie
MIN_ZONE = 3  # equal gaps in a row make a zone of its own spacing, as head protocols have them; project default
MIN_SHARE_OF_STEP = 0.1  # of the gaps: so many must be as fine as the grid that an uneven stack is resampled to
MAX_PLACES = 8  # gaps that a hint names
FINEST_STEP = 0.5  # times the median gap: the finest grid where no gap is common


@dataclass(frozen=True, slots=True)
class Grid:
    """Places along the slice normal: ``count`` of them from ``first_mm``, every ``step_mm``.

    ``even`` says whether the slices lie on it (within the tolerance), or have to be resampled to it. The gaps are those
    between the slices as they came.
    """

    first_mm: float
    step_mm: float
    count: int
    even: bool
    smallest_gap_mm: float
    largest_gap_mm: float


def find_grid(along_mm: FloatArray, *, rounding_mm: float, numbers: Sequence[int | None]) -> Grid:
    """Measure the spacing of slices.

    Parameters
    ----------
    along_mm
        (n,) rising places along the slice normal, mm; n at least 2.
    rounding_mm
        How far a place may be off because the file rounds it.
    numbers
        Instance numbers of the slices; only asked whether a wide gap was counted as one step.

    Raises
    ------
    SeriesError
        Two at one position, or slices missing.
    """
    gaps_mm = np.diff(along_mm)
    refuse_doubled(along_mm)
    median_mm = float(np.median(gaps_mm))
    tolerance_mm = spacing_tolerance_mm(median_mm, rounding_mm)
    index = np.arange(len(along_mm), dtype=np.float64)
    step_mm, first_mm = (float(value) for value in np.polyfit(index, along_mm, 1))
    off_mm = np.abs(along_mm - (first_mm + step_mm * index))
    smallest, largest = float(gaps_mm.min()), float(gaps_mm.max())
    if max(float(np.abs(gaps_mm - median_mm).max()), float(off_mm.max())) <= tolerance_mm:
        return Grid(first_mm, step_mm, len(along_mm), even=True, smallest_gap_mm=smallest, largest_gap_mm=step_mm)
    _refuse_missing(along_mm, rounding_mm, numbers)
    length_mm = float(along_mm[-1] - along_mm[0])
    steps = int(np.ceil(length_mm / _step_mm(gaps_mm, rounding_mm) - SPACING_TOLERANCE_SHARE))
    return Grid(float(along_mm[0]), length_mm / steps, steps + 1, even=False, smallest_gap_mm=smallest, largest_gap_mm=largest)


def spacing_tolerance_mm(spacing_mm: float, rounding_mm: float) -> float:
    """How far gaps of about ``spacing_mm`` may differ and still be equal."""
    allowance_mm = rounding_mm if 2 * rounding_mm <= MAX_ROUNDING_SHARE * spacing_mm else 0.0
    return max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE_SHARE * spacing_mm) + 2 * allowance_mm


def same_position_mm(along_mm: FloatArray) -> float:
    """Slices that lie no further apart than this lie at one position; ``along_mm`` is sorted."""
    gaps_mm = np.diff(along_mm)
    apart_mm = gaps_mm[gaps_mm > SPACING_TOLERANCE_MM]
    return max(SPACING_TOLERANCE_MM, SAME_POSITION_SHARE * float(np.median(apart_mm)) if len(apart_mm) else 0.0)


def refuse_doubled(along_mm: FloatArray) -> None:
    """Refuse two images at one position.

    Raises
    ------
    SeriesError
        There are.
    """
    gaps_mm = np.diff(along_mm)
    same = int(np.count_nonzero(gaps_mm <= same_position_mm(along_mm)))
    if same:
        raise SeriesError(
            f"two images lie at one position, {same} times in {len(along_mm)} images (one at "
            f"{along_mm[int(np.argmin(gaps_mm))]:.2f} mm), at most one image each",
            hint="ask the sender for one reconstruction (one phase, one kernel) as a series of its own",
        )


def _common_mm(gaps_mm: FloatArray, rounding_mm: float) -> float | None:
    """The gap that at least half of all share, the smaller one of two; None when there is none."""
    counts = [
        (int(np.count_nonzero(np.abs(gaps_mm - gap) <= spacing_tolerance_mm(gap, rounding_mm))), -gap)
        for gap in map(float, gaps_mm)
    ]
    count, negative = max(counts)
    return -negative if 2 * count >= len(gaps_mm) else None


def _step_mm(gaps_mm: FloatArray, rounding_mm: float) -> float:
    """The finest gap that enough of the slices have: what an uneven stack is resampled to."""
    enough = max(MIN_ZONE, MIN_SHARE_OF_STEP * len(gaps_mm))
    for gap in np.sort(gaps_mm):
        equal = np.abs(gaps_mm - gap) <= spacing_tolerance_mm(float(gap), rounding_mm)
        if np.count_nonzero(equal) >= enough:
            return float(np.median(gaps_mm[equal]))
    return max(float(gaps_mm.min()), FINEST_STEP * float(np.median(gaps_mm)))


def _refuse_missing(along_mm: FloatArray, rounding_mm: float, numbers: Sequence[int | None]) -> None:
    """Refuse gaps of a whole number of steps in a stack that has one common spacing.

    A run of equal wide gaps is a zone of its own spacing, unless the images were counted as if there were more.
    """
    gaps_mm = np.diff(along_mm)
    common_mm = _common_mm(gaps_mm, rounding_mm)
    if common_mm is None:
        return
    tolerance_mm = spacing_tolerance_mm(common_mm, rounding_mm)
    steps = np.round(gaps_mm / common_mm).astype(int)
    whole = np.abs(gaps_mm - steps * common_mm) <= tolerance_mm * np.maximum(steps, 1)
    wide = whole & (gaps_mm > WIDE_GAP * common_mm)
    wide &= ~_in_zone(gaps_mm, rounding_mm) | (_counted(numbers) == steps)
    if not np.any(wide):
        return
    missing = int(np.sum(steps[wide] - 1))
    places = [f"{along_mm[k]:.2f} and {along_mm[k + 1]:.2f} mm" for k in np.flatnonzero(wide)]
    widest = int(np.argmax(np.where(wide, gaps_mm, 0)))
    more = f", {len(places)} gaps in all" if len(places) > 1 else ""
    start, stop = _largest_part(wide)
    raise SeriesError(
        f"{missing} slice{'' if missing == 1 else 's'} missing: the gap between {along_mm[widest]:.2f} and "
        f"{along_mm[widest + 1]:.2f} mm along the normal is {gaps_mm[widest]:.2f} mm, at most {common_mm + tolerance_mm:.2f} mm"
        f"{more} (the largest part without a gap has {stop - start} of {len(along_mm)} images, "
        f"from {along_mm[start]:.2f} to {along_mm[stop - 1]:.2f} mm)",
        hint=f"ask the sender for the missing slices: between {'; '.join(places[:MAX_PLACES])}",
    )


def _in_zone(gaps_mm: FloatArray, rounding_mm: float) -> np.ndarray:
    """Which gaps belong to a run of at least three equal ones."""
    inside = np.zeros(len(gaps_mm), dtype=bool)
    start = 0
    for end in range(1, len(gaps_mm) + 1):
        first_mm = float(gaps_mm[start])
        if end < len(gaps_mm) and abs(gaps_mm[end] - first_mm) <= spacing_tolerance_mm(first_mm, rounding_mm):
            continue
        inside[start:end] = end - start >= MIN_ZONE
        start = end
    return inside


def _counted(numbers: Sequence[int | None]) -> np.ndarray:
    """By how much the instance number changes from slice to slice; 0 where it does not tell."""
    return np.array([0 if a is None or b is None else abs(b - a) for a, b in pairwise(numbers)], dtype=int)


def _largest_part(gap: np.ndarray) -> tuple[int, int]:
    """The longest run of slices without one of these gaps: its first slice, and the one after its last."""
    edges = [0, *(int(k) + 1 for k in np.flatnonzero(gap)), len(gap) + 1]
    return max(pairwise(edges), key=lambda part: (part[1] - part[0], -part[0]))
