"""A slightly tilted stack made straight: every slice shifted in its plane by a fraction of a pixel."""

from __future__ import annotations

import math

import numpy as np

from batchone.pipeline.intake.geometry import Geometry
from batchone.pipeline.intake.package import in_threads
from batchone.pipeline.values import HuArray

NEGLIGIBLE_PIXELS = 0.05  # a slice this little beside its place stays as it is; a twentieth of a pixel is below the noise
OUTSIDE_HU = -1024  # nothing was measured there
_TAPS = (-1, 0, 1, 2)


def straighten(hu: HuArray, geometry: Geometry) -> float:
    """Shift the slices in place so that the stack is perpendicular; returns the largest shift in mm, 0 when none was needed.

    Cubic convolution (Keys 1981, a = -1/2) along columns and rows. ``geometry.affine`` describes the straight stack
    already: its middle slice stays where it is.
    """
    half_mm = math.hypot(*geometry.drift_mm) / 2.0
    if half_mm <= NEGLIGIBLE_PIXELS * min(geometry.pixel_mm):
        return 0.0
    last = len(hu) - 1

    def shift(number: int) -> None:
        share = number / last - 0.5
        across, down = (-share * drift / pixel for drift, pixel in zip(geometry.drift_mm, geometry.pixel_mm, strict=True))
        moved = _shifted(_shifted(hu[number].astype(np.float32), across, axis=1), down, axis=0)
        hu[number] = np.rint(np.clip(moved, OUTSIDE_HU, 32767)).astype(np.int16)

    in_threads(shift, range(len(hu)))
    return half_mm


def _shifted(values: np.ndarray, by: float, *, axis: int) -> np.ndarray:
    """Sample at index + ``by`` along an axis; ``OUTSIDE_HU`` beyond the image."""
    length = values.shape[axis]
    whole = math.floor(by)
    place = np.arange(length) + whole
    moved = np.zeros_like(values)
    for tap, weight in zip(_TAPS, _weights(by - whole), strict=True):
        moved += np.float32(weight) * np.take(values, np.clip(place + tap, 0, length - 1), axis=axis)
    outside = (np.arange(length) + by < -0.5) | (np.arange(length) + by > length - 0.5)
    if axis == 0:
        moved[outside] = OUTSIDE_HU
    else:
        moved[:, outside] = OUTSIDE_HU
    return moved


def _weights(fraction: float) -> tuple[float, float, float, float]:
    """Cubic convolution weights of the four neighbours at -1, 0, 1, 2."""
    f = fraction
    return (
        -0.5 * f + f * f - 0.5 * f**3,
        1.0 - 2.5 * f * f + 1.5 * f**3,
        0.5 * f + 2.0 * f * f - 1.5 * f**3,
        -0.5 * f * f + 0.5 * f**3,
    )
