"""Motion: jumps from slice to slice, and edges that come twice inside a slice.

Both are figures for a person to look at; neither proves motion, so neither refuses a scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from batchone.pipeline.intake.appraisal.sample import Sample
from batchone.pipeline.intake.package import in_threads

BONE_HU = (150.0, 1200.0)  # jumps are followed by bone: between these values the image is kept; project default
MAX_JUMP_MM = 12.0  # shifts up to this are looked for; project default
NEIGHBOURS = 2  # a jump is judged against the median shift of so many pairs on either side
EXPLAINED = 0.5  # a jump must take away at least this share of the difference between two slices; project default
MAX_CANDIDATES = 4  # so many of the largest steps are looked at as images
EDGE_HU = (-500.0, 1000.0)  # second contours are looked for in skin and bone; half of bone beside air counts; project default
ECHO_MM = (3.5, 12.0)  # distance of a second contour: less is the edge itself, more is anatomy; project default
MAX_ECHO_SLICES = 12  # slices looked through for second contours; project default
_ECHO_PIXEL_MM = 0.6  # slices with finer pixels are halved first
_MIN_BONE_SHARE = 0.002  # of a slice; with less there is no edge to follow
_MIN_SIDE = 8  # pixels; smaller images are not halved, and show no second contour
_PROFILE_LINES = 128  # lines of a slice that make its profile; more say the same

Profile = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Jump:
    """The largest sideways step between neighbouring slices beyond the trend of its neighbours: mm, and slice number."""

    jump_mm: float
    slice: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Echo:
    """The strongest second contour: its strength (0 none, 0.5 as strong as the first), distance and slice number."""

    strength: float
    distance_mm: float
    slice: int
    slices: int


def largest_jump(sample: Sample) -> Jump | None:
    """Compare neighbouring slices by their profiles along rows and columns; None when there is too little bone."""
    found: list[tuple[int, tuple[_Match, _Match]]] = []
    before: tuple[int, tuple[Profile, Profile] | None] = (-1, None)
    for place in sample.neighbours:
        first = before[1] if before[0] == place else _profiles(sample.hu[place])
        second = _profiles(sample.hu[place + 1])
        before = (place + 1, second)
        if first is not None and second is not None:
            across, down = (
                _match(one, two, side_mm) for one, two, side_mm in zip(first, second, sample.spacing_mm[:2], strict=True)
            )
            found.append((place, (across, down)))
    if len(found) < 2 * NEIGHBOURS + 1:
        return None
    beyond = np.stack([_steps([both[axis] for _, both in found]) for axis in (0, 1)], axis=1)
    steps = np.hypot(beyond[:, 0], beyond[:, 1])
    for one in np.argsort(-steps, kind="stable")[:MAX_CANDIDATES]:
        place, (match_across, match_down) = found[one]
        moved = (match_across.best_mm, match_down.best_mm)
        trend = (moved[0] - float(beyond[one, 0]), moved[1] - float(beyond[one, 1]))
        if steps[one] > 0 and _difference(sample, place, moved) <= (1.0 - EXPLAINED) * _difference(sample, place, trend):
            return Jump(float(steps[one]), sample.index[place], len(found))
    return Jump(0.0, sample.index[found[0][0]], len(found))


def strongest_echo(sample: Sample) -> Echo | None:
    """Look for a second copy of the edges, shifted, inside single slices; None when there is too little bone."""
    places = sample.spread(MAX_ECHO_SLICES)
    found = in_threads(partial(_echo_at, sample), places)
    seen = [(place, *one) for place, one in zip(places, found, strict=True) if one is not None]
    if not seen:
        return None
    place, strength, distance_mm = max(seen, key=lambda one: one[1])
    return Echo(strength, distance_mm, sample.index[place], len(seen))


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """How unlike two profiles are at each shift, and the best shift, mm."""

    errors: Profile
    side_mm: float
    best_mm: float

    def error_at(self, shift_mm: float) -> float:
        reach = len(self.errors) // 2
        return float(np.interp(shift_mm / self.side_mm, np.arange(-reach, reach + 1), self.errors))


def _profiles(image: npt.NDArray[np.int16]) -> tuple[Profile, Profile] | None:
    down, across = (max(1, length // _PROFILE_LINES) for length in image.shape)
    low, high = BONE_HU
    rows, columns = (
        np.clip(lines, np.int16(low), np.int16(high)) - np.int16(low) for lines in (image[::down], image[:, ::across])
    )
    if np.count_nonzero(rows) < _MIN_BONE_SHARE * rows.size:
        return None
    return rows.sum(axis=0, dtype=np.int32).astype(np.float64), columns.sum(axis=1, dtype=np.int32).astype(np.float64)


def _match(first: Profile, second: Profile, side_mm: float) -> _Match:
    """Least squares over whole shifts, refined by a parabola."""
    length = len(first)
    most = max(1, min(int(MAX_JUMP_MM / side_mm), length // 4))
    inner = first[most : length - most]
    errors = np.square(np.lib.stride_tricks.sliding_window_view(second, len(inner)) - inner).sum(axis=1)
    best = int(np.argmin(errors))
    fine = 0.0
    if 0 < best < len(errors) - 1:
        before, here, after = errors[best - 1 : best + 2]
        bend = before - 2 * here + after
        fine = float(0.5 * (before - after) / bend) if bend > 0 else 0.0
    return _Match(errors, side_mm, (best - most + fine) * side_mm)


def _steps(matches: list[_Match]) -> Profile:
    """By how much each shift departs from the median of its neighbours', where this explains how the slices differ."""
    steps = np.zeros(len(matches))
    for one, match in enumerate(matches):
        around = [k for k in range(one - NEIGHBOURS, one + NEIGHBOURS + 1) if 0 <= k < len(matches) and k != one]
        trend_mm = float(np.median([matches[k].best_mm for k in around]))
        if match.error_at(match.best_mm) <= (1.0 - EXPLAINED) * match.error_at(trend_mm):
            steps[one] = match.best_mm - trend_mm
    return steps


def _difference(sample: Sample, place: int, shift_mm: tuple[float, float]) -> float:
    """How unlike two neighbouring slices are when the second is moved back by (across, down) mm, to the nearest pixel."""
    across, down = (round(shift / side) for shift, side in zip(shift_mm, sample.spacing_mm[:2], strict=True))
    margin_across, margin_down = (int(MAX_JUMP_MM / side) + 1 for side in sample.spacing_mm[:2])
    low, high = BONE_HU
    first, second = (np.clip(sample.hu[place + one], low, high).astype(np.float32) for one in (0, 1))
    rows, columns = first.shape
    if rows <= 2 * margin_down or columns <= 2 * margin_across:
        return 0.0
    inner = first[margin_down : rows - margin_down, margin_across : columns - margin_across]
    top, left = margin_down + down, margin_across + across
    moved = second[top : top + inner.shape[0], left : left + inner.shape[1]]
    return float(np.sum((moved - inner) ** 2, dtype=np.float64))


def _echo_at(sample: Sample, place: int) -> tuple[float, float] | None:
    image, column_mm, row_mm = sample.hu[place], sample.spacing_mm[0], sample.spacing_mm[1]
    if np.count_nonzero(image[::2, ::2] > BONE_HU[0]) < _MIN_BONE_SHARE * image.size / 4:
        return None
    edges: Image = np.clip(_cropped(image, ECHO_MM[1] / column_mm, ECHO_MM[1] / row_mm), *EDGE_HU).astype(np.float32)
    while min(column_mm, row_mm) < _ECHO_PIXEL_MM and min(edges.shape) >= _MIN_SIDE:
        rows, columns = edges.shape[0] // 2, edges.shape[1] // 2
        edges = edges[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3), dtype=np.float32)
        column_mm, row_mm = 2 * column_mm, 2 * row_mm
    return _echo(edges, column_mm, row_mm)


def _cropped(image: npt.NDArray[np.int16], across: float, down: float) -> npt.NDArray[np.int16]:
    """The part of a slice that holds bone, with a margin in pixels."""
    bone = image > BONE_HU[0]
    rows, columns = np.flatnonzero(bone.any(axis=1)), np.flatnonzero(bone.any(axis=0))
    top, left = max(0, int(rows[0] - down)), max(0, int(columns[0] - across))
    return image[top : int(rows[-1] + down) + 1, left : int(columns[-1] + across) + 1]


def _echo(image: Image, column_mm: float, row_mm: float) -> tuple[float, float]:
    """Strength and distance (mm) of the strongest second contour of one slice, along rows, columns and diagonals.

    The difference of the image along a direction is correlated with itself along the same direction. An edge that comes
    twice with the same sign gives a peak at its distance; the two sides of a bone have opposite signs and give a dip.
    """
    best = (0.0, 0.0)
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        step_mm = float(np.hypot(down * row_mm, across * column_mm))
        first, second = _moved(image, down, across)
        edge = second - first
        last = min(int(ECHO_MM[1] / step_mm) + 1, min(edge.shape) - 1)
        line = np.array([_correlation(edge, lag * down, lag * across) for lag in range(last + 1)])
        if last < 1 or line[0] <= 0:
            continue
        line = line / line[0]
        for lag in range(max(2, int(np.ceil(ECHO_MM[0] / step_mm))), last):
            if line[lag] >= max(line[lag - 1], line[lag + 1]) and line[lag] > best[0]:
                best = (float(line[lag]), lag * step_mm)
    return best


def _moved(image: Image, down: int, across: int) -> tuple[Image, Image]:
    """Two views of an image, the second moved by whole pixels; ``down`` is not negative."""
    rows, columns = image.shape
    left, right = (0, across) if across >= 0 else (-across, 0)
    width = columns - abs(across)
    return image[: rows - down, left : left + width], image[down:, right : right + width]


def _correlation(edge: Image, down: int, across: int) -> float:
    first, second = _moved(edge, down, across)
    return float(np.einsum("ij,ij->i", first, second).sum(dtype=np.float64))
