"""Where the slices of one series lie: order, spacing and affine, or the reason why they make no true volume.

Order comes from the position along the slice normal only; names, instance numbers and slice locations are never used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.header import Header
from batchone.pipeline.values import FloatArray

MAX_TILT_DEG = 0.5  # angle between slice normal and stack; beyond it the volume would have to be resampled; project default
MAX_ORTHONORMAL_ERROR = 1e-3  # unit length and right angle of the row and column directions; project default
SAME_ORIENTATION = 1e-4  # largest difference of a direction cosine within one stack; project default
SPACING_TOLERANCE_MM = 0.01  # a slice may be this far from an even grid; project default
SPACING_TOLERANCE_SHARE = 0.01  # ... or this share of the spacing, whichever is larger
MAX_ROUNDING_SHARE = 0.2  # positions rounded more coarsely than this share of the spacing earn no allowance
SAME_POSITION_SHARE = 0.1  # two slices closer than this share of the median gap lie at one position
MAX_OFF_LINE_MM = 0.1  # a slice may lie this far beside the line through first and last; project default
MAX_PIXEL_MM = 20.0  # a pixel larger than this is not a CT image
MIN_PIXEL_MM = 0.01
MAX_POSITION_MM = 10_000.0  # from the origin of the frame of reference; a scanner's room is smaller


@dataclass(frozen=True, slots=True)
class Geometry:
    """The geometry of a stack of slices.

    Attributes
    ----------
    order
        Indices into the headers, by rising position along the slice normal.
    affine
        (4, 4) float64 as nested tuples: (column, row, slice) -> LPS mm, orthogonal axes, positive determinant.
    spacing_mm, pixel_mm
        Between slices along the normal; between columns, between rows.
    tilt_deg
        Angle between the slice normal and the line through first and last slice.
    drift_mm
        How far the last slice is shifted sideways against the first, along column and row axes. The affine is that of
        the straight stack in which the middle slice stays in place.
    """

    order: tuple[int, ...]
    affine: tuple[tuple[float, float, float, float], ...]
    shape: tuple[int, int, int]
    spacing_mm: float
    pixel_mm: tuple[float, float]
    tilt_deg: float
    drift_mm: tuple[float, float]

    @property
    def matrix(self) -> FloatArray:
        """The affine as an array."""
        return np.array(self.affine, dtype=np.float64)

    @property
    def normal(self) -> FloatArray:
        """Unit slice normal, LPS."""
        return np.asarray(self.matrix[:3, 2] / self.spacing_mm)


def measure_stack(headers: Sequence[Header]) -> Geometry:
    """Measure a stack of slices of equal size and orientation.

    Raises
    ------
    SeriesError
        Attributes missing or invalid, mixed orientations, two images at one position, missing slices, uneven spacing,
        slices shifted sideways, or gantry tilt beyond 0.5 degrees.
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
    spacing_mm = _even_spacing(along_mm[order], float(rounding_mm @ np.abs(normal)))
    stack = places[order[-1]] - places[order[0]]
    drift_mm = (float(stack @ across), float(stack @ down))
    tilt_deg = math.degrees(math.atan2(math.hypot(*drift_mm), abs(float(stack @ normal))))
    _refuse_off_line(places[order], float(np.linalg.norm(rounding_mm)))
    if tilt_deg > MAX_TILT_DEG:
        raise SeriesError(
            f"the slices are tilted by {tilt_deg:.2f} deg against the table (gantry tilt), at most {MAX_TILT_DEG:g} deg",
            hint="ask the sender for a reconstruction without gantry tilt",
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * column_mm, down * row_mm, normal * spacing_mm
    affine[:3, 3] = places[order[0]] + 0.5 * (across * drift_mm[0] + down * drift_mm[1])
    rows, columns = headers[0].integer("Rows") or 0, headers[0].integer("Columns") or 0
    return Geometry(
        order=tuple(int(index) for index in order),
        affine=tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in affine),
        shape=(len(headers), rows, columns),
        spacing_mm=spacing_mm,
        pixel_mm=(column_mm, row_mm),
        tilt_deg=tilt_deg,
        drift_mm=drift_mm,
    )


def orientation(header: Header) -> FloatArray | None:
    """Direction cosines of the row and of the column, (2, 3); None when absent or not six finite numbers."""
    numbers = header.numbers("ImageOrientationPatient")
    if numbers is None or len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        return None
    return np.array(numbers).reshape(2, 3)


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


def _position(header: Header) -> tuple[float, ...]:
    numbers = header.numbers("ImagePositionPatient")
    if numbers is None or len(numbers) != 3 or not all(abs(value) <= MAX_POSITION_MM for value in numbers):
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


def _even_spacing(along_mm: FloatArray, rounding_mm: float) -> float:
    """The spacing of sorted slices.

    Raises
    ------
    SeriesError
        Two at one position, missing slices, uneven.
    """
    gaps_mm = np.diff(along_mm)
    median_mm = float(np.median(gaps_mm))
    closest = int(np.argmin(gaps_mm))
    same = int(np.count_nonzero(gaps_mm <= max(SPACING_TOLERANCE_MM, SAME_POSITION_SHARE * median_mm)))
    if same:
        raise SeriesError(
            f"two images lie at one position, {same} times in {len(along_mm)} images (one at {along_mm[closest]:.2f} mm), "
            "at most one image each",
            hint="ask the sender for one reconstruction (one phase, one kernel) as a series of its own",
        )
    spacing_mm = float(along_mm[-1] - along_mm[0]) / len(gaps_mm)
    allowance_mm = rounding_mm if 2 * rounding_mm <= MAX_ROUNDING_SHARE * median_mm else 0.0
    tolerance_mm = max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE_SHARE * median_mm) + 2 * allowance_mm
    off_mm = np.abs(along_mm - (along_mm[0] + spacing_mm * np.arange(len(along_mm))))
    gap_off_mm = np.abs(gaps_mm - median_mm)
    if max(float(gap_off_mm.max()), float(off_mm.max())) <= tolerance_mm:
        return spacing_mm
    _refuse_gaps(along_mm, median_mm, tolerance_mm)
    raise SeriesError(
        f"the slice spacing varies from {gaps_mm.min():.3f} to {gaps_mm.max():.3f} mm, "
        f"must be within {tolerance_mm:.3f} mm of {median_mm:.3f} mm",
        hint="ask the sender for a reconstruction with even spacing",
    )


def _refuse_gaps(along_mm: FloatArray, median_mm: float, tolerance_mm: float) -> None:
    """Refuse when all that is wrong are gaps of whole multiples of the spacing."""
    gaps_mm = np.diff(along_mm)
    steps = np.round(gaps_mm / median_mm)
    if np.any(steps < 1) or np.any(np.abs(gaps_mm - steps * median_mm) > tolerance_mm * np.maximum(steps, 1)):
        return
    missing = int(np.sum(steps - 1))
    if missing <= 0:
        return
    widest = int(np.argmax(gaps_mm))
    raise SeriesError(
        f"{missing} slice{'' if missing == 1 else 's'} missing: the gap between {along_mm[widest]:.2f} and "
        f"{along_mm[widest + 1]:.2f} mm along the normal is {gaps_mm[widest]:.2f} mm, at most {median_mm + tolerance_mm:.2f} mm",
        hint="ask the sender for the missing slices",
    )


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
