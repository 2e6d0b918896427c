"""How far the surface may be off along its normal: one standard deviation per vertex, mm.

First version, an edge-slope model: image noise and an error of the half level, both divided by the slope of the values at the
vertex, and a floor for what the grid hides. It does not see the bias of cortex thinner than the blur, except through the lower
slope and the share ``LEVEL_SHARE``.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from batchone.pipeline.values import FloatArray, HuArray, Mesh, moved_points
from batchone.segment.bone import Grid

LEVEL_SHARE = 0.08  # one standard deviation of the half level, as share of the step: cortex varies by about 8 %; project default
FLOOR_SHARE = 0.04  # of the voxel's edge along the normal: interpolation between samples; project default, unverified
REACH_MM = 1.5  # the step at the edge is read this far to both sides
MAX_SIGMA_MM = 2.0  # beyond, the values say nothing about the place

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_POINTS = nb.types.Array(nb.float64, 2, "C", readonly=True)


@nb.njit(nb.float64(_HU, nb.float64, nb.float64, nb.float64), cache=True, nogil=True)
def value_at(hu: HuArray, x: float, y: float, z: float) -> float:
    """Trilinear value at (column, row, slice); beyond the sides, the value at the side."""
    x = min(max(x, 0.0), hu.shape[2] - 1.001)
    y = min(max(y, 0.0), hu.shape[1] - 1.001)
    z = min(max(z, 0.0), hu.shape[0] - 1.001)
    i, j, k = int(x), int(y), int(z)
    u, v, w = x - i, y - j, z - k
    low = (hu[k, j, i] * (1 - u) + hu[k, j, i + 1] * u) * (1 - v) + (hu[k, j + 1, i] * (1 - u) + hu[k, j + 1, i + 1] * u) * v
    k += 1
    high = (hu[k, j, i] * (1 - u) + hu[k, j, i + 1] * u) * (1 - v) + (hu[k, j + 1, i] * (1 - u) + hu[k, j + 1, i + 1] * u) * v
    return low * (1 - w) + high * w


@nb.njit(nb.void(_HU, _POINTS, nb.float64[::1], nb.float64, nb.float64[:, ::1]), parallel=True, cache=True, nogil=True)
def _edges(hu: HuArray, points: FloatArray, spacing_mm: FloatArray, reach_mm: float, out: FloatArray) -> None:
    """Per point: slope (HU/mm), step over ``reach_mm`` to both sides (HU), and voxel size along the slope (mm)."""
    for n in nb.prange(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        gx = (value_at(hu, x + 0.5, y, z) - value_at(hu, x - 0.5, y, z)) / spacing_mm[0]
        gy = (value_at(hu, x, y + 0.5, z) - value_at(hu, x, y - 0.5, z)) / spacing_mm[1]
        gz = (value_at(hu, x, y, z + 0.5) - value_at(hu, x, y, z - 0.5)) / spacing_mm[2]
        slope = np.sqrt(gx * gx + gy * gy + gz * gz)
        scale = 1.0 / max(slope, 1e-9)
        gx, gy, gz = gx * scale, gy * scale, gz * scale
        dx, dy, dz = gx * reach_mm / spacing_mm[0], gy * reach_mm / spacing_mm[1], gz * reach_mm / spacing_mm[2]
        out[n, 0] = slope
        out[n, 1] = abs(value_at(hu, x + dx, y + dy, z + dz) - value_at(hu, x - dx, y - dy, z - dz))
        out[n, 2] = np.sqrt((gx * spacing_mm[0]) ** 2 + (gy * spacing_mm[1]) ** 2 + (gz * spacing_mm[2]) ** 2)


def surface_sigma_mm(mesh: Mesh, grid: Grid, noise_hu: float) -> FloatArray:
    """One standard deviation along the normal per vertex, (n,) mm.

    Parameters
    ----------
    mesh
        The surface, LPS mm.
    grid
        The values it was taken from.
    noise_hu
        One standard deviation of a voxel.
    """
    points = moved_points(np.linalg.inv(grid.affine).astype(np.float64), mesh.vertices_mm)
    edges = np.empty((len(points), 3))
    _edges(grid.hu, points, np.array(grid.spacing_mm), REACH_MM, edges)
    slope = np.maximum(edges[:, 0], 1e-6)
    variance = (noise_hu / slope) ** 2 + (LEVEL_SHARE * edges[:, 1] / slope) ** 2 + (FLOOR_SHARE * edges[:, 2]) ** 2
    return np.minimum(np.sqrt(variance), MAX_SIGMA_MM)
