"""Where the slices of one series lie: order, spacing and affine, or the reason why they make no true volume.

Order comes from the position along the slice normal only; names, instance numbers and slice locations are never used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.gaps import Grid, find_grid
from batchone.pipeline.intake.header import Header
from batchone.pipeline.values import FloatArray

MAX_TILT_DEG = 45.0  # gantries tilt by up to 30 degrees; beyond this the slices are no stack; project default
MAX_ORTHONORMAL_ERROR = 1e-3  # unit length and right angle of the row and column directions; project default
MAX_COSINE = 1.1  # a direction cosine is at most 1; how far off it may be is judged with the axes
MAX_INSTANCE_NUMBER = 2**31 - 1  # of the integer string that holds it
SAME_ORIENTATION = 1e-4  # largest difference of a direction cosine within one stack; project default
MAX_OFF_LINE_MM = 0.1  # a slice may lie this far beside the line through first and last; project default
NEGLIGIBLE_PIXELS = 0.05  # slices this little beside their place stay as they are; a twentieth of a pixel is below the noise
MAX_PIXEL_MM = 20.0  # a pixel larger than this is not a CT image
MIN_PIXEL_MM = 0.01
MAX_POSITION_MM = 10_000.0  # from the origin of the frame of reference; a scanner's room is smaller
_WHOLE_PIXEL = 1e-6  # of a pixel: closer to a whole number is one


@dataclass(frozen=True, slots=True)
class Geometry:
    """The geometry of a stack of slices, and of the true volume that they make.

    Attributes
    ----------
    order
        Indices into the headers, by rising position along the slice normal.
    affine
        (4, 4) float64 as nested tuples: (column, row, slice) of the true volume -> LPS mm, orthogonal axes, positive
        determinant.
    shape
        (slices, rows, columns) of the true volume; it covers every slice, so it is larger than they are where they drift.
    spacing_mm, pixel_mm
        Between slices of the volume along the normal; between columns, between rows.
    smallest_gap_mm, largest_gap_mm
        Between neighbouring slices as they came; the largest is the spacing when that is even.
    tilt_deg
        Angle between the slice normal and the line through the slices, as they came.
    drift_mm
        How far the last slice lies sideways against the first, along column and row axes.
    along_mm
        One per slice: its place along the normal, from the volume's first slice.
    offsets
        One per slice: (column, row) of the volume, not whole, at which its first pixel lies; all zero without tilt.
    """

    order: tuple[int, ...]
    affine: tuple[tuple[float, float, float, float], ...]
    shape: tuple[int, int, int]
    spacing_mm: float
    smallest_gap_mm: float
    largest_gap_mm: float
    pixel_mm: tuple[float, float]
    tilt_deg: float
    drift_mm: tuple[float, float]
    along_mm: tuple[float, ...]
    offsets: tuple[tuple[float, float], ...]

    @property
    def matrix(self) -> FloatArray:
        """The affine as an array."""
        return np.array(self.affine, dtype=np.float64)

    @property
    def normal(self) -> FloatArray:
        """Unit slice normal, LPS."""
        return np.asarray(self.matrix[:3, 2] / self.spacing_mm)

    @property
    def sheared(self) -> bool:
        """Whether slices have to be shifted in their plane."""
        return any(column or row for column, row in self.offsets)

    @property
    def uneven(self) -> bool:
        """Whether the slices have to be resampled along the normal."""
        return self.shape[0] != len(self.order) or any(
            abs(place - k * self.spacing_mm) > _WHOLE_PIXEL * self.spacing_mm for k, place in enumerate(self.along_mm)
        )

    @property
    def residual_tilt_deg(self) -> float:
        """What is left of the tilt in the true volume: nothing where it was corrected."""
        return 0.0 if self.sheared else self.tilt_deg


def measure_stack(headers: Sequence[Header]) -> Geometry:
    """Measure a stack of slices of equal size and orientation.

    Raises
    ------
    SeriesError
        Attributes missing or invalid, mixed orientations, two images at one position, missing slices, slices shifted
        sideways, or a stack that leans more than any gantry.
    """
    if len(headers) < 2:
        raise SeriesError(
            f"the series has {len(headers)} slice, at least 2 are needed for a spacing",
            hint="ask the sender for the whole axial series",
        )
    row_mm, column_mm = _pixel_spacing(headers[0])
    across, down, normal = _axes(headers)
    places = np.array([_position(header) for header in headers])
    along_mm = places @ normal
    order = np.argsort(along_mm, kind="stable")
    rounding_mm = _rounding_mm(headers)
    numbers = [_whole(headers[index].number("InstanceNumber")) for index in order]
    grid = find_grid(along_mm[order], rounding_mm=float(rounding_mm @ np.abs(normal)), numbers=numbers)
    _refuse_off_line(places[order], float(np.linalg.norm(rounding_mm)))
    leaning = _Leaning.of(places[order], across, down, normal)
    tilt_deg = math.degrees(math.atan(math.hypot(*leaning.slope)))
    if tilt_deg > MAX_TILT_DEG:
        raise SeriesError(
            f"the slices lean by {tilt_deg:.2f} deg against the line through them, at most {MAX_TILT_DEG:g} deg (gantry tilt)",
            hint="ask the sender for the original axial images",
        )
    pixel_mm = (column_mm, row_mm)
    rows, columns = headers[0].integer("Rows") or 0, headers[0].integer("Columns") or 0
    sideways_mm, offsets, grown = _sheared_grid(leaning, pixel_mm, float(np.linalg.norm(rounding_mm)))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * column_mm, down * row_mm, normal * grid.step_mm
    affine[:3, 3] = across * sideways_mm[0] + down * sideways_mm[1] + normal * grid.first_mm
    return Geometry(
        order=tuple(int(index) for index in order),
        affine=tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in affine),
        shape=(grid.count, rows + grown[1], columns + grown[0]),
        spacing_mm=grid.step_mm,
        smallest_gap_mm=grid.smallest_gap_mm,
        largest_gap_mm=grid.largest_gap_mm,
        pixel_mm=pixel_mm,
        tilt_deg=tilt_deg,
        drift_mm=leaning.drift_mm,
        along_mm=_places_along(along_mm[order], grid),
        offsets=offsets,
    )


@dataclass(frozen=True, slots=True)
class _Leaning:
    """How a stack leans: per slice its sideways place (n, 2) on the line fitted through all, along columns and rows, mm."""

    slope: tuple[float, float]
    sideways_mm: FloatArray

    @classmethod
    def of(cls, places: FloatArray, across: FloatArray, down: FloatArray, normal: FloatArray) -> _Leaning:
        along = places @ normal
        sideways = places @ np.stack([across, down], axis=1)
        centred = along - along.mean()
        slope = centred @ (sideways - sideways.mean(axis=0)) / float(centred @ centred)
        return cls((float(slope[0]), float(slope[1])), sideways.mean(axis=0) + np.outer(centred, slope))

    @property
    def drift_mm(self) -> tuple[float, float]:
        """From the first slice to the last."""
        drift = self.sideways_mm[-1] - self.sideways_mm[0]
        return float(drift[0]), float(drift[1])


def _sheared_grid(
    leaning: _Leaning, pixel_mm: tuple[float, float], rounding_mm: float
) -> tuple[FloatArray, tuple[tuple[float, float], ...], tuple[int, int]]:
    """The sideways place of a grid that covers all slices, where each slice lies in it, and by how much it grew.

    The grid is that of the first slice, grown by whole pixels towards where the others lie: the first slice is copied as it
    is, and the corner is where dcm2niix puts it. A drift that is negligible, or no more than the rounding of positions, is none.
    """
    half_mm = math.hypot(*leaning.drift_mm) / 2.0
    if half_mm <= max(NEGLIGIBLE_PIXELS * min(pixel_mm), rounding_mm):
        return leaning.sideways_mm.mean(axis=0), ((0.0, 0.0),) * len(leaning.sideways_mm), (0, 0)
    beside = (leaning.sideways_mm - leaning.sideways_mm[0]) / np.array(pixel_mm)  # pixels
    before = np.ceil(-beside.min(axis=0) - _WHOLE_PIXEL)
    offsets = beside + before
    columns, rows = (math.ceil(value - _WHOLE_PIXEL) for value in offsets.max(axis=0))
    first_mm = leaning.sideways_mm[0] - before * np.array(pixel_mm)
    return first_mm, tuple((float(column), float(row)) for column, row in offsets), (columns, rows)


def _places_along(along_mm: FloatArray, grid: Grid) -> tuple[float, ...]:
    if grid.even:
        return tuple(k * grid.step_mm for k in range(grid.count))
    return tuple(float(place) for place in along_mm - grid.first_mm)


def _whole(number: float | None) -> int | None:
    return int(number) if number is not None and abs(number) <= MAX_INSTANCE_NUMBER else None


def orientation(header: Header) -> FloatArray | None:
    """Direction cosines of the row and of the column, (2, 3); None when absent or not six numbers that could be cosines."""
    numbers = header.numbers("ImageOrientationPatient")
    if numbers is None or len(numbers) != 6 or not all(abs(value) <= MAX_COSINE for value in numbers):
        return None
    return np.array(numbers).reshape(2, 3)


def places_along(headers: Sequence[Header]) -> tuple[FloatArray, float] | None:
    """Places (n,) of images along the slice normal of the first, and how far one may be off by its rounding, mm.

    None when one of them does not state its own.
    """
    first = orientation(headers[0])
    places = [header.numbers("ImagePositionPatient") for header in headers]
    if first is None or not all(place is not None and _is_position(place) for place in places):
        return None
    normal = np.cross(first[0], first[1])
    return np.asarray(np.array(places, dtype=np.float64) @ normal), float(_rounding_mm(headers) @ np.abs(normal))


def _pixel_spacing(header: Header) -> tuple[float, float]:
    """Spacing between rows, between columns (that is the order in the attribute), mm."""
    numbers = header.numbers("PixelSpacing")
    if numbers is None or len(numbers) != 2 or not all(MIN_PIXEL_MM <= value <= MAX_PIXEL_MM for value in numbers):
        stated = "missing" if numbers is None else f"{numbers[0]:g} mm"
        raise SeriesError(
            f"the pixel spacing is {stated}, must be two values from {MIN_PIXEL_MM:g} to {MAX_PIXEL_MM:g} mm",
            hint="ask the sender for the original images with PixelSpacing",
        )
    return numbers[0], numbers[1]


def _is_position(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 3 and all(abs(value) <= MAX_POSITION_MM for value in numbers)  # false for what is no number


def _position(header: Header) -> tuple[float, ...]:
    numbers = header.numbers("ImagePositionPatient")
    if numbers is None or not _is_position(numbers):
        raise SeriesError(
            f"an image has no valid position, must be three values within {MAX_POSITION_MM:g} mm",
            hint="ask the sender for the original images with ImagePositionPatient",
        )
    return numbers


def _axes(headers: Sequence[Header]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Unit vectors along a row (rising column), down a column (rising row), and their right-handed normal."""
    first = orientation(headers[0])
    if first is None:
        raise SeriesError(
            "the image orientation is missing or not six numbers",
            hint="ask the sender for the original images with ImageOrientationPatient",
        )
    error = float(max(abs(np.linalg.norm(first[0]) - 1), abs(np.linalg.norm(first[1]) - 1), abs(first[0] @ first[1])))
    if not error <= MAX_ORTHONORMAL_ERROR:
        raise SeriesError(
            f"row and column directions are off perpendicular unit vectors by {error:.4f}, at most {MAX_ORTHONORMAL_ERROR:g}",
            hint="ask the sender for the original images",
        )
    for header in headers:
        other = orientation(header)
        if other is None or float(np.abs(other - first).max()) > SAME_ORIENTATION:
            raise SeriesError(
                f"the orientations differ inside the series by more than {SAME_ORIENTATION:g}, at most {SAME_ORIENTATION:g}",
                hint="ask the sender for one series of one orientation",
            )
    across = first[0] / np.linalg.norm(first[0])
    down = first[1] - (first[1] @ across) * across
    down = down / np.linalg.norm(down)
    return across, down, np.cross(across, down)


def _rounding_mm(headers: Sequence[Header]) -> FloatArray:
    """How far each coordinate (x, y, z) may be off because the file rounds it to few decimals, mm.

    A text such as ``-12.5`` is taken as rounded to the most decimals that this coordinate has anywhere in the series.
    """
    decimals = [0, 0, 0]
    for header in headers:
        for axis, text in enumerate(header.texts("ImagePositionPatient")[:3]):
            mantissa, _, exponent = text.lower().partition("e")
            shift = int(exponent) if exponent.lstrip("+-").isdigit() and len(exponent) < 4 else 0
            decimals[axis] = max(decimals[axis], len(mantissa.partition(".")[2]) - shift)
    return np.array([0.5 * 10.0 ** -min(max(count, -4), 12) for count in decimals])


def _refuse_off_line(places: FloatArray, rounding_mm: float) -> None:
    """Refuse slices that lie beside the line through the first and the last."""
    direction = (places[-1] - places[0]) / np.linalg.norm(places[-1] - places[0])
    beside = places - places[0]
    beside = beside - np.outer(beside @ direction, direction)
    worst_mm = float(np.linalg.norm(beside, axis=1).max())
    limit_mm = MAX_OFF_LINE_MM + 2 * rounding_mm
    if worst_mm > limit_mm:
        raise SeriesError(
            f"a slice lies {worst_mm:.2f} mm beside the line of the others, at most {limit_mm:.2f} mm",
            hint="ask the sender for a series in which patient and table did not move sideways",
        )
