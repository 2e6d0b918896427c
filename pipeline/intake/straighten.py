"""Slices that lie on no regular grid, brought onto one: shifted in their plane (tilt), resampled along their normal (gaps).

A tilted gantry shears the stack: each slice is whole, only beside the one before. A shift in the plane undoes that exactly,
so that nothing is interpolated across slices.
"""

from __future__ import annotations

import math

import numpy as np

from batchone.pipeline.intake.geometry import Geometry
from batchone.pipeline.intake.package import in_threads
from batchone.pipeline.values import HuArray

OUTSIDE_HU = -1024  # nothing was measured there
_TAPS = (-1, 0, 1, 2)
_WHOLE_PIXEL = 1e-6  # of a pixel or a step: closer to a whole number is copied


def straighten(hu: HuArray, geometry: Geometry) -> HuArray:
    """The true volume on the regular grid of ``geometry``: the same array where the slices lie on it already.

    In the plane by cubic convolution (Keys 1981, a = -1/2) along columns and rows; along the normal, linear between
    neighbouring slices, so that nothing is made up where they lie far apart.
    """
    if geometry.sheared:
        hu = _unsheared(hu, geometry)
    return _levelled(hu, geometry) if geometry.uneven else hu


def corrections(geometry: Geometry) -> tuple[str, ...]:
    """What :func:`straighten` does, in words."""
    said = []
    if geometry.sheared:
        by_mm = math.hypot(*geometry.drift_mm)
        said.append(
            f"gantry tilt of {geometry.tilt_deg:.2f} deg: slices were shifted in their plane by up to {by_mm:.2f} mm, "
            f"onto a straight grid of {geometry.shape[2]} x {geometry.shape[1]} pixels that covers them all"
        )
    if geometry.uneven:
        said.append(
            f"slice spacing varies from {geometry.smallest_gap_mm:.3f} to {geometry.largest_gap_mm:.3f} mm: "
            f"resampled to {geometry.shape[0]} slices every {geometry.spacing_mm:.3f} mm"
        )
    return tuple(said)


def _unsheared(hu: HuArray, geometry: Geometry) -> HuArray:
    _, rows, columns = geometry.shape
    straight = np.empty((len(hu), rows, columns), dtype=np.int16)

    def place(number: int) -> None:
        column, row = geometry.offsets[number]
        moved = _placed(_placed(hu[number].astype(np.float32), column, columns, axis=1), row, rows, axis=0)
        straight[number] = np.rint(np.clip(moved, OUTSIDE_HU, 32767)).astype(np.int16)

    in_threads(place, range(len(hu)))
    return straight


def _levelled(hu: HuArray, geometry: Geometry) -> HuArray:
    places = np.array(geometry.along_mm)
    level = np.empty((geometry.shape[0], *hu.shape[1:]), dtype=np.int16)

    def fill(number: int) -> None:
        at = number * geometry.spacing_mm
        above = int(np.clip(np.searchsorted(places, at), 1, len(places) - 1))
        share = float(np.clip((at - places[above - 1]) / (places[above] - places[above - 1]), 0.0, 1.0))
        if min(share, 1.0 - share) <= _WHOLE_PIXEL:
            level[number] = hu[above - 1 + round(share)]
            return
        mixed = hu[above - 1] * np.float32(1.0 - share) + hu[above] * np.float32(share)
        level[number] = np.rint(mixed).astype(np.int16)

    in_threads(fill, range(len(level)))
    return level


def _placed(values: np.ndarray, at: float, length: int, *, axis: int) -> np.ndarray:
    """Lay ``values`` from index ``at`` into an axis of another length; ``OUTSIDE_HU`` beyond them."""
    held = values.shape[axis]
    if abs(at - round(at)) <= _WHOLE_PIXEL:
        at = float(round(at))
    if at == 0.0 and held == length:
        return values
    whole = math.floor(-at)
    place = np.arange(length) + whole
    moved = np.zeros((length, values.shape[1]) if axis == 0 else (values.shape[0], length), dtype=np.float32)
    for tap, weight in zip(_TAPS, _weights(-at - whole), strict=True):
        if weight:
            moved += np.float32(weight) * np.take(values, np.clip(place + tap, 0, held - 1), axis=axis)
    index = np.arange(length) - at
    outside = (index < -0.5) | (index > held - 0.5)
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
