"""Smoothing and the valley: how much darker a place is than both sides of it, from the second derivatives of the grey values."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.segment.apart.grid import BoolArray, Float32Array

_FIELD = nb.types.Array(nb.float32, 3, "C", readonly=True)
_KERNEL = nb.types.Array(nb.float32, 1, "C", readonly=True)
_MASK = nb.types.Array(nb.boolean, 3, "C", readonly=True)


@nb.njit(nb.void(_FIELD, _KERNEL, nb.float32[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _smooth_rows(field: Float32Array, kernel: Float32Array, out: Float32Array) -> None:
    """Convolve along the last two axes (a symmetric kernel, the edge repeated), slice by slice."""
    reach = kernel.shape[0] // 2
    rows, columns = field.shape[1], field.shape[2]
    for z in nb.prange(field.shape[0]):
        between = np.empty((rows, columns), dtype=np.float32)
        for y in range(rows):
            for x in range(columns):
                between[y, x] = kernel[reach] * field[z, y, x]
            for d in range(1, reach + 1):
                up, down = max(y - d, 0), min(y + d, rows - 1)
                for x in range(columns):
                    between[y, x] += kernel[reach + d] * (field[z, up, x] + field[z, down, x])
        for y in range(rows):
            for x in range(columns):
                out[z, y, x] = kernel[reach] * between[y, x]
            for d in range(1, reach + 1):
                weight = kernel[reach + d]
                inner, left, right = out[z, y, d : columns - d], between[y, : columns - 2 * d], between[y, 2 * d :]
                for x in range(columns - 2 * d):
                    inner[x] += weight * (left[x] + right[x])
                for x in range(min(d, columns)):
                    out[z, y, x] += weight * (between[y, 0] + between[y, min(x + d, columns - 1)])
                for x in range(max(columns - d, min(d, columns)), columns):
                    out[z, y, x] += weight * (between[y, max(x - d, 0)] + between[y, columns - 1])


@nb.njit(nb.void(_FIELD, _KERNEL, nb.float32[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _smooth_slices(field: Float32Array, kernel: Float32Array, out: Float32Array) -> None:
    """Convolve along the first axis."""
    reach = kernel.shape[0] // 2
    slices = field.shape[0]
    for z in nb.prange(slices):
        for y in range(field.shape[1]):
            for x in range(field.shape[2]):
                out[z, y, x] = kernel[reach] * field[z, y, x]
            for d in range(1, reach + 1):
                up, down = max(nb.int64(z) - d, 0), min(nb.int64(z) + d, slices - 1)
                for x in range(field.shape[2]):
                    out[z, y, x] += kernel[reach + d] * (field[up, y, x] + field[down, y, x])


@nb.njit(nb.float64(nb.float64, nb.float64, nb.float64, nb.float64, nb.float64, nb.float64), cache=True, nogil=True)
def _largest(a: float, b: float, c: float, d: float, e: float, f: float) -> float:
    """Largest eigenvalue of the symmetric matrix [[a, d, e], [d, b, f], [e, f, c]], in closed form."""
    off = d * d + e * e + f * f
    mean = (a + b + c) / 3.0
    spread = (a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2 + 2.0 * off
    if spread < 1e-12:
        return mean
    p = math.sqrt(spread / 6.0)
    a, b, c, d, e, f = (a - mean) / p, (b - mean) / p, (c - mean) / p, d / p, e / p, f / p
    half = 0.5 * (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e))
    return mean + 2.0 * p * math.cos(math.acos(min(1.0, max(-1.0, half))) / 3.0)


@nb.njit(nb.void(_FIELD, _MASK, nb.float32, nb.float32[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _valley(field: Float32Array, mask: BoolArray, step: float, out: Float32Array) -> None:
    nz, ny, nx = field.shape
    scale = 1.0 / (step * step)
    for z in nb.prange(nz):
        for y in range(ny):
            for x in range(nx):
                if not mask[z, y, x]:
                    continue
                i, j, k = max(1, min(nb.int64(z), nz - 2)), max(1, min(y, ny - 2)), max(1, min(x, nx - 2))
                centre = 2.0 * field[i, j, k]
                zz = field[i - 1, j, k] + field[i + 1, j, k] - centre
                yy = field[i, j - 1, k] + field[i, j + 1, k] - centre
                xx = field[i, j, k - 1] + field[i, j, k + 1] - centre
                zy = field[i + 1, j + 1, k] - field[i + 1, j - 1, k] - field[i - 1, j + 1, k] + field[i - 1, j - 1, k]
                zx = field[i + 1, j, k + 1] - field[i + 1, j, k - 1] - field[i - 1, j, k + 1] + field[i - 1, j, k - 1]
                yx = field[i, j + 1, k + 1] - field[i, j + 1, k - 1] - field[i, j - 1, k + 1] + field[i, j - 1, k - 1]
                value = _largest(zz, yy, xx, 0.25 * zy, 0.25 * zx, 0.25 * yx) * scale
                out[z, y, x] = max(value, 0.0)


def smoothed(field: npt.NDArray[np.float32] | npt.NDArray[np.int16], sigma: float) -> Float32Array:
    """Gaussian smoothing, ``sigma`` in voxels."""
    reach = max(1, int(np.ceil(3.0 * sigma)))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (weights / weights.sum()).astype(np.float32)
    first = np.array(field, dtype=np.float32, order="C")
    between = np.empty_like(first)
    _smooth_rows(first, kernel, between)
    _smooth_slices(between, kernel, first)
    return first


def valley_of(smooth: Float32Array, mask: BoolArray, step_mm: float) -> Float32Array:
    """The valley, HU/mm2: the largest second derivative over all directions, never below 0; 0 off the mask.

    ``smooth`` are grey values smoothed over about 1 mm and clipped to those of bone.
    """
    out = np.zeros(smooth.shape, dtype=np.float32)
    _valley(smooth, mask, step_mm, out)
    return out
