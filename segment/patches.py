"""The shape of a surface around each of its vertices: a paraboloid laid on the vertices nearby.

It gives normals and curvature that a single triangle is too noisy for, and a place for the vertex that its neighbours agree on.
A paraboloid follows a curved surface, so nothing shrinks: a ball stays a ball.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, IntArray, Mesh
from batchone.segment.cholesky import solve

SAME_SHEET = 0.4  # cosine between the normals of two vertices of one sheet; the other side of a thin plate has about -1
LEAST_VERTICES = 12  # twice the unknowns of a paraboloid; numerical

_POINTS = nb.types.Array(nb.float64, 2, "C", readonly=True)
_VALUES = nb.types.Array(nb.float64, 1, "C", readonly=True)
_INDEX = nb.types.Array(nb.int64, 1, "C", readonly=True)
_FACES = nb.types.Array(nb.int32, 2, "C", readonly=True)


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Paraboloids about vertices, in the frame (across, beside, normal) of each.

    Attributes
    ----------
    normal, across, beside
        (n, 3) unit vectors, right-handed.
    height_mm
        (n,) the paraboloid over the vertex, along the normal.
    bend
        (n, 3) second derivatives (across across, across beside, beside beside), 1/mm; negative where the bone is convex.
    residual_mm
        (n,) root mean square distance of the vertices nearby; not a number where there are too few.
    radius_mm
        (n,) within which they lie.
    """

    normal: FloatArray
    across: FloatArray
    beside: FloatArray
    height_mm: FloatArray
    bend: FloatArray
    residual_mm: FloatArray
    radius_mm: FloatArray

    def at(self, rows: slice | npt.NDArray[Any]) -> Patches:
        """Some of the rows."""
        return Patches(*(np.ascontiguousarray(getattr(self, name)[rows]) for name in self.__slots__))

    def put(self, rows: npt.NDArray[np.int64], others: Patches) -> None:
        """Replace some of the rows, in place."""
        for name in self.__slots__:
            getattr(self, name)[rows] = getattr(others, name)


@nb.njit(nb.float64[:, ::1](_POINTS, _FACES), cache=True, nogil=True)
def vertex_normals(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """Unit normals, weighted by the triangles' areas."""
    normals = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (a, b, c):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(len(normals)):
        length = max(np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2), 1e-12)
        for i in range(3):
            normals[v, i] /= length
    return normals


@nb.njit(nb.void(nb.float64[:, ::1]), cache=True, nogil=True)
def _across(frame: FloatArray) -> None:
    """Complete a frame (across, beside, normal) from across, or any direction where that is along the normal, and the normal."""
    normal = frame[2]
    along = frame[0, 0] * normal[0] + frame[0, 1] * normal[1] + frame[0, 2] * normal[2]
    frame[0] -= along * normal
    length = np.sqrt(frame[0, 0] ** 2 + frame[0, 1] ** 2 + frame[0, 2] ** 2)
    if length < 0.5:  # begin with the axis that the normal is furthest from
        axis = 0
        for a in range(1, 3):
            if abs(normal[a]) < abs(normal[axis]):
                axis = a
        frame[0] = -normal[axis] * normal
        frame[0, axis] += 1.0
        length = np.sqrt(frame[0, 0] ** 2 + frame[0, 1] ** 2 + frame[0, 2] ** 2)
    frame[0] /= length
    frame[1, 0] = normal[1] * frame[0, 2] - normal[2] * frame[0, 1]
    frame[1, 1] = normal[2] * frame[0, 0] - normal[0] * frame[0, 2]
    frame[1, 2] = normal[0] * frame[0, 1] - normal[1] * frame[0, 0]


@nb.njit(
    nb.int64(_POINTS, _INDEX, _INDEX, nb.float64, nb.int64[::1], nb.float64[:, ::1], nb.float64[::1], nb.float64[:, ::1],
             nb.float64[::1], nb.float64[::1]),
    cache=True, nogil=True,
)  # fmt: skip
def _gathered(
    sorted_by_cell: FloatArray,
    starts: npt.NDArray[np.int64],
    shape: npt.NDArray[np.int64],
    radius_mm: float,
    cell: npt.NDArray[np.int64],
    frame: FloatArray,
    centre: FloatArray,
    matrix: FloatArray,
    right: FloatArray,
    sums: FloatArray,
) -> int:
    """Normal equations of the paraboloid over a point, from the vertices of its sheet within the radius; returns their number.

    ``sorted_by_cell`` holds points, normals and weights, ``frame`` across, beside and normal; ``sums`` gets the whole weight and
    the weighted square of the heights."""
    basis = np.empty(6)
    matrix[:], right[:], sums[:] = 0.0, 0.0, 0.0
    count = 0
    for k in range(max(cell[2] - 1, 0), min(cell[2] + 2, shape[2])):
        for j in range(max(cell[1] - 1, 0), min(cell[1] + 2, shape[1])):
            row = (k * shape[1] + j) * shape[0]
            for e in range(starts[row + max(cell[0] - 1, 0)], starts[row + min(cell[0] + 2, shape[0])]):
                one = sorted_by_cell[e]
                dx, dy, dz = one[0] - centre[0], one[1] - centre[1], one[2] - centre[2]
                near = 1.0 - (dx * dx + dy * dy + dz * dz) / (radius_mm * radius_mm)
                if near <= 0.0:
                    continue
                same = one[3] * frame[2, 0] + one[4] * frame[2, 1] + one[5] * frame[2, 2]
                if same < SAME_SHEET or one[6] == 0.0:
                    continue
                u = dx * frame[0, 0] + dy * frame[0, 1] + dz * frame[0, 2]
                w = dx * frame[1, 0] + dy * frame[1, 1] + dz * frame[1, 2]
                z = dx * frame[2, 0] + dy * frame[2, 1] + dz * frame[2, 2]
                basis[0], basis[1], basis[2] = 1.0, u, w
                basis[3], basis[4], basis[5] = 0.5 * u * u, u * w, 0.5 * w * w
                share = one[6] * near * near
                sums[0] += share
                sums[1] += share * z * z
                count += 1
                for a in range(6):
                    right[a] += share * basis[a] * z
                    for b in range(a + 1):
                        matrix[a, b] += share * basis[a] * basis[b]
    return count


@nb.njit(
    nb.void(_POINTS, _POINTS, _POINTS, _INDEX, _INDEX, _VALUES, _INDEX, nb.float64, nb.float64[:, :, ::1], nb.float64[:, ::1]),
    parallel=True,
    cache=True, nogil=True,
)  # fmt: skip
def _fit(
    points: FloatArray,
    normals: FloatArray,
    sorted_by_cell: FloatArray,
    starts: npt.NDArray[np.int64],
    shape: npt.NDArray[np.int64],
    low: FloatArray,
    targets: npt.NDArray[np.int64],
    radius_mm: float,
    frames: FloatArray,
    out: FloatArray,
) -> None:
    """Per target: across, beside, normal; height, three bends, residual."""
    for n in nb.prange(targets.shape[0]):
        v = targets[n]
        frame = frames[n]
        frame[2] = normals[v]
        _across(frame)
        matrix, right, moment, sums = np.empty((6, 6)), np.empty(6), np.empty(6), np.empty(2)
        cell = np.empty(3, dtype=np.int64)
        for axis in range(3):
            cell[axis] = nb.int64((points[v, axis] - low[axis]) / radius_mm)
        count = _gathered(sorted_by_cell, starts, shape, radius_mm, cell, frame, points[v].copy(), matrix, right, sums)
        out[n, :] = 0.0
        out[n, 4] = np.nan
        if count < LEAST_VERTICES:
            continue
        matrix /= sums[0]
        right /= sums[0]
        moment[:] = right
        if not solve(matrix, right, 6):
            continue
        square = sums[1] / sums[0]
        for a in range(6):
            square -= right[a] * moment[a]
        out[n, 4] = np.sqrt(max(square, 0.0))
        flat = 1.0 / np.sqrt(1.0 + right[1] * right[1] + right[2] * right[2])
        frame[2] = (frame[2] - right[1] * frame[0] - right[2] * frame[1]) * flat
        _across(frame)
        out[n, 0] = right[0]
        for a in range(3):
            out[n, 1 + a] = right[3 + a] * flat * flat * flat


def patches(
    mesh: Mesh, targets: npt.NDArray[np.int64], *, radius_mm: float, normals: FloatArray, weight: FloatArray | None = None
) -> Patches:
    """Lay a paraboloid on the vertices within ``radius_mm`` of each target.

    Parameters
    ----------
    mesh
        The surface.
    targets
        (n,) vertices.
    normals
        (all, 3) unit normals, to tell sheets apart and to begin with.
    weight
        (all,) how much each vertex counts; all alike when absent.
    """
    points = np.ascontiguousarray(mesh.vertices_mm)
    low = points.min(axis=0)
    cell = ((points - low) / radius_mm).astype(np.int64)
    shape = cell.max(axis=0) + 1
    number = (cell[:, 2] * shape[1] + cell[:, 1]) * shape[0] + cell[:, 0]
    order = np.argsort(number, kind="stable").astype(np.int64)
    starts = np.searchsorted(number[order], np.arange(int(np.prod(shape)) + 1)).astype(np.int64)
    out, frames = np.empty((len(targets), 5)), np.zeros((len(targets), 3, 3))
    each = np.ones(len(points)) if weight is None else weight
    sorted_by_cell = np.column_stack([points, normals, each])[order]
    _fit(points, normals, sorted_by_cell, starts, shape, low, targets, radius_mm, frames, out)
    radii = np.full(len(targets), radius_mm)
    across, beside, normal = (np.ascontiguousarray(frames[:, n]) for n in range(3))
    return Patches(normal, across, beside, out[:, 0].copy(), np.ascontiguousarray(out[:, 1:4]), out[:, 4].copy(), radii)
