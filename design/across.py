"""What lies across from each triangle of a surface: the first face that a ray along its normal meets, in double precision.

Triangles are sorted into cells about as large as they are, and each ray walks from cell to cell (Amanatides and Woo 1987).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt

from batchone.design.crossings import along_curve
from batchone.design.triangles import areas_mm2, box_mm
from batchone.pipeline.values import FloatArray, IntArray, Mesh

_PER_CELL = 6.0  # numerical: triangles wanted in a cell that the surface runs through
_MOST_CELLS = 1 << 23  # numerical: bounds memory (32 MB of starts)
_START_MM = 1e-4  # numerical: a ray starts this far off its own triangle, so that the neighbours beside it are not met
_BESIDE = 1e-9  # numerical: share of a triangle's sides by which a ray may miss it: none slips between two
_PAD_MM = 1e-6  # numerical: a triangle that touches the wall of a cell from outside lies in it too
_BLOCK = 256  # numerical: rays that one thread follows at a time

_POINTS = numba.types.Array(numba.float64, 2, "C", readonly=True)
_FACES = numba.types.Array(numba.int32, 2, "C", readonly=True)
_ORDER = numba.types.Array(numba.int32, 1, "C", readonly=True)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A surface sorted into cells, about their first corner ``low_mm`` (3,).

    Attributes
    ----------
    order
        (m,) int32 the triangles along a curve; from here on a triangle is its place in it.
    middles
        (m, 3) float64 of the triangles.
    planes
        (m, 3, 4) float64: the unit normal and what is added to its product with a place to make its height above the plane; the
        same twice for the shares of two sides that lead to the place. All zero for a triangle without area.
    cell_mm, shape
        Size of the cells, and how many there are along each axis.
    starts, held
        The triangles of each cell, and where they begin.
    """

    order: IntArray
    middles: FloatArray
    planes: FloatArray
    low_mm: FloatArray
    cell_mm: float
    shape: npt.NDArray[np.int64]
    starts: IntArray
    held: IntArray


@lru_cache(maxsize=1)
def cells_of(mesh: Mesh) -> Cells:
    """Sort a surface into cells: what one check has sorted serves the next."""
    points, faces = np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces, dtype=np.int32)
    low, high = box_mm(points)
    extent = high - low
    wanted = float(np.sqrt(_PER_CELL * max(float(areas_mm2(mesh).mean()), 1e-12)))
    cell_mm = max(wanted, float((np.maximum(extent, wanted).prod() / _MOST_CELLS) ** (1.0 / 3.0)), float(extent.max()) / 1024.0)
    shape = (np.floor(extent / cell_mm) + 1.0).astype(np.int64)
    order = along_curve(mesh)
    middles, planes, reach = _planes(points, faces, order, low)
    starts, nothing = np.zeros(int(shape.prod()) + 1, dtype=np.int32), np.empty(0, dtype=np.int32)
    _sort(planes, reach, cell_mm, shape, starts, nothing)
    held = np.empty(int(starts[-1]), dtype=np.int32)
    _sort(planes, reach, cell_mm, shape, starts, held)
    return Cells(order, middles, planes, low, cell_mm, shape, starts, held)


def across(cells: Cells, rays: IntArray, *, outside: bool, reach_mm: float) -> tuple[FloatArray, IntArray, FloatArray]:
    """Look from some triangles (n,) of cells, each with an area, straight across.

    Parameters
    ----------
    cells
        The surface.
    rays
        (n,) triangles to look from, by their place in ``cells``; neighbours in space are best neighbours here.
    outside
        Away from the material instead of through it.
    reach_mm
        How far to look.

    Returns
    -------
    tuple
        (n,) distance from the triangle's middle, mm, infinite where nothing is met; (n,) the triangle that is met, or -1;
        (n,) cosine of the angle by which the two are turned against each other, 0 where nothing is met.
    """
    distance, met, cosine = np.empty(len(rays)), np.empty(len(rays), dtype=np.int32), np.empty(len(rays))
    _across(
        cells.middles, cells.planes, cells.cell_mm, cells.shape, cells.starts, cells.held, rays,
        1.0 if outside else -1.0, reach_mm, distance, met, cosine,
    )  # fmt: skip
    return distance, met, cosine


@numba.njit(
    numba.types.Tuple((numba.float64[:, ::1], numba.float64[:, :, ::1], numba.float64[:, ::1]))(
        _POINTS, _FACES, _ORDER, numba.float64[::1]
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _planes(points, faces, order, low):  # type: ignore[no-untyped-def]
    """Middles (m, 3), planes (m, 3, 4) and boxes (m, 6) of triangles in an order, about a corner."""
    count = order.shape[0]
    middles, planes, reach = np.empty((count, 3)), np.zeros((count, 3, 4)), np.empty((count, 6))
    a, u, v, n = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for f in range(count):
        for k in range(3):
            one, other = points[faces[order[f], 0], k] - low[k], points[faces[order[f], 1], k] - low[k]
            third = points[faces[order[f], 2], k] - low[k]
            a[k], u[k], v[k] = one, other - one, third - one
            middles[f, k] = (one + other + third) / 3.0
            reach[f, k], reach[f, 3 + k] = min(one, other, third) - _PAD_MM, max(one, other, third) + _PAD_MM
        for k in range(3):
            n[k] = u[(k + 1) % 3] * v[(k + 2) % 3] - u[(k + 2) % 3] * v[(k + 1) % 3]
        square = n[0] * n[0] + n[1] * n[1] + n[2] * n[2]
        if square == 0.0:
            continue
        for k in range(3):
            i, j = (k + 1) % 3, (k + 2) % 3
            planes[f, 0, k] = n[k] / np.sqrt(square)
            planes[f, 1, k] = (v[i] * n[j] - v[j] * n[i]) / square
            planes[f, 2, k] = (n[i] * u[j] - n[j] * u[i]) / square
        for side in range(3):
            planes[f, side, 3] = -(planes[f, side, 0] * a[0] + planes[f, side, 1] * a[1] + planes[f, side, 2] * a[2])
    return middles, planes, reach


@numba.njit(
    numba.void(
        numba.float64[:, :, ::1], numba.float64[:, ::1], numba.float64, numba.int64[::1], numba.int32[::1], numba.int32[::1]
    ),
    cache=True, nogil=True,
)  # fmt: skip
def _sort(planes, reach, cell, shape, starts, held):  # type: ignore[no-untyped-def]
    """Count the triangles of each cell into ``starts``, or with room in ``held`` write them there, as ``starts`` says.

    A cell that a triangle's plane passes by does not hold it.
    """
    write = held.shape[0] > 0
    for f in range(planes.shape[0]):
        i0, i1 = max(int(reach[f, 0] / cell), 0), min(int(reach[f, 3] / cell), shape[0] - 1)
        j0, j1 = max(int(reach[f, 1] / cell), 0), min(int(reach[f, 4] / cell), shape[1] - 1)
        k0, k1 = max(int(reach[f, 2] / cell), 0), min(int(reach[f, 5] / cell), shape[2] - 1)
        nx, ny, nz = planes[f, 0, 0] * cell, planes[f, 0, 1] * cell, planes[f, 0, 2] * cell
        near = 0.5 * (abs(nx) + abs(ny) + abs(nz)) + _PAD_MM
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                for k in range(k0, k1 + 1):
                    if abs((i + 0.5) * nx + (j + 0.5) * ny + (k + 0.5) * nz + planes[f, 0, 3]) > near:
                        continue
                    at = (i * shape[1] + j) * shape[2] + k
                    if write:
                        held[starts[at]] = f
                        starts[at] += 1
                    else:
                        starts[at + 1] += 1
    if write:
        for at in range(starts.shape[0] - 1, 0, -1):
            starts[at] = starts[at - 1]
        starts[0] = 0
    else:
        for at in range(starts.shape[0] - 1):
            starts[at + 1] += starts[at]


@numba.njit(
    numba.float64(
        numba.float64[:, :, ::1], numba.int32, numba.float64, numba.float64, numba.float64, numba.float64, numba.float64,
        numba.float64, numba.float64,
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _far(planes, f, x, y, z, dx, dy, dz, best):  # type: ignore[no-untyped-def]
    """How far along a ray a triangle is met; infinite where it is not, or not up to ``best``."""
    height = planes[f, 0, 0] * x + planes[f, 0, 1] * y + planes[f, 0, 2] * z + planes[f, 0, 3]
    far = -height / (planes[f, 0, 0] * dx + planes[f, 0, 1] * dy + planes[f, 0, 2] * dz)
    if not (far > 0.0 and far <= best):  # behind, along the plane, or no plane
        return np.inf
    x, y, z = x + far * dx, y + far * dy, z + far * dz
    s = planes[f, 1, 0] * x + planes[f, 1, 1] * y + planes[f, 1, 2] * z + planes[f, 1, 3]
    if s < -_BESIDE or s > 1.0 + _BESIDE:
        return np.inf
    t = planes[f, 2, 0] * x + planes[f, 2, 1] * y + planes[f, 2, 2] * z + planes[f, 2, 3]
    return far if t >= -_BESIDE and s + t <= 1.0 + _BESIDE else np.inf


@numba.njit(
    numba.void(
        numba.float64[:, ::1], numba.float64[:, :, ::1], numba.float64, numba.int64[::1], numba.int32[::1], numba.int32[::1],
        numba.int32[::1], numba.float64, numba.float64, numba.float64[::1], numba.int32[::1], numba.float64[::1],
    ),
    cache=True, parallel=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _across(middles, planes, cell, shape, starts, held, rays, sign, reach, distance, met, cosine):  # type: ignore[no-untyped-def]
    """Follow each ray from cell to cell until what it met lies nearer than the next one.

    Of equally near triangles the first counts.
    """
    for block in numba.prange((rays.shape[0] + _BLOCK - 1) // _BLOCK):
        leaves, every = np.empty(3), np.empty(3)
        at, step = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
        for n in range(block * _BLOCK, min(block * _BLOCK + _BLOCK, rays.shape[0])):
            own = rays[n]
            dx, dy, dz = sign * planes[own, 0, 0], sign * planes[own, 0, 1], sign * planes[own, 0, 2]
            x, y, z = middles[own, 0] + _START_MM * dx, middles[own, 1] + _START_MM * dy, middles[own, 2] + _START_MM * dz
            for k in range(3):
                start, along = (x, y, z)[k], (dx, dy, dz)[k]
                at[k] = min(max(int(start / cell), 0), shape[k] - 1)
                step[k], leaves[k], every[k] = 0, np.inf, np.inf
                if along != 0.0:
                    step[k], every[k] = (1 if along > 0.0 else -1), cell / abs(along)
                    leaves[k] = ((at[k] + (1 if along > 0.0 else 0)) * cell - start) / along
            best, nearest, entered = reach, np.int32(-1), 0.0
            while entered <= best:
                here = (at[0] * shape[1] + at[1]) * shape[2] + at[2]
                for h in range(starts[here], starts[here + 1]):
                    f = held[h]
                    far = _far(planes, f, x, y, z, dx, dy, dz, best)
                    if far < best or (far == best and f < nearest):  # none is met yet: -1
                        best, nearest = far, f
                k = 0 if leaves[0] <= leaves[1] and leaves[0] <= leaves[2] else (1 if leaves[1] <= leaves[2] else 2)
                entered = leaves[k]
                at[k] += step[k]
                if step[k] == 0 or at[k] < 0 or at[k] >= shape[k]:
                    break
                leaves[k] += every[k]
            met[n], distance[n], cosine[n] = nearest, np.inf, 0.0
            if nearest >= 0:
                distance[n] = best + _START_MM
                cosine[n] = -sign * (planes[nearest, 0, 0] * dx + planes[nearest, 0, 1] * dy + planes[nearest, 0, 2] * dz)
