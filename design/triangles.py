"""Passes over the triangles of a mesh, compiled: half edges by their edge, pieces, fans, heights, areas, moments.

A half edge h = 3 f + k runs from corner k of triangle f to the next one.
"""

from __future__ import annotations

import numba
import numpy as np

from batchone.pipeline.values import FloatArray, IntArray, Mesh

_POINTS = numba.types.Array(numba.float64, 2, "C", readonly=True)
_FACES = numba.types.Array(numba.int32, 2, "C", readonly=True)
_LIST = numba.types.Array(numba.int32, 1, "C", readonly=True)
_FEW = 32  # numerical: half edges at one vertex that are sorted by inserting
_LEAST_MM = 1e-150  # numerical: keeps squares of lengths above zero


def _arrays(mesh: Mesh) -> tuple[FloatArray, IntArray]:
    """Vertices and triangles as the compiled passes take them, which look at no bounds.

    Raises
    ------
    IndexError
        A triangle names a vertex that is not there.
    """
    points, faces = np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces, dtype=np.int32)
    if len(faces) and int(faces.view(np.uint32).max()) >= len(points):  # below 0 is beyond too
        raise IndexError(f"triangles name vertices {faces.min()} to {faces.max()}, there are {len(points)}")
    return points, faces


def by_edge(mesh: Mesh) -> tuple[IntArray, IntArray]:
    """Sort the half edges of a mesh by the edge that they run along.

    Returns
    -------
    tuple
        (3 m,) half edges, those of one edge side by side and rising, edges by their lower and then their higher vertex;
        (e + 1,) where each edge's begin.
    """
    points, faces = _arrays(mesh)
    return _by_edge(faces, len(points))


def joined_vertices(mesh: Mesh) -> IntArray:
    """(n,) the least vertex of the piece that each vertex belongs to: what hangs together by triangles."""
    return _pieces(_arrays(mesh)[1], len(mesh.vertices_mm))


def fans(mesh: Mesh, order: IntArray, starts: IntArray) -> IntArray:
    """(n,) how many fans of triangles meet at each vertex, those that share an edge between two making one.

    ``order`` and ``starts`` are those of :func:`by_edge`.
    """
    return _fans(_arrays(mesh)[1], len(mesh.vertices_mm), order, starts)


def heights_mm(mesh: Mesh) -> FloatArray:
    """(m,) least height of each triangle, over its longest side; 0 where all corners fall together."""
    return _heights(*_arrays(mesh))


def area_vectors(mesh: Mesh) -> FloatArray:
    """(m, 3) outward normal of each triangle, twice its area long, mm2."""
    return _area_vectors(*_arrays(mesh))


def areas_mm2(mesh: Mesh) -> FloatArray:
    """(m,) area of each triangle."""
    return _areas(*_arrays(mesh))


def box_mm(points_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(3,) lowest and (3,) highest coordinates of places (n, 3).

    Raises
    ------
    ValueError
        There is none.
    """
    if len(points_mm) == 0:
        raise ValueError("a box is about places, there are none")
    return _box(np.ascontiguousarray(points_mm, dtype=np.float64))


def moments(mesh: Mesh) -> tuple[float, FloatArray]:
    """Volume that a closed mesh encloses, mm3 (below 0: inside out), and (3,) its middle; summed about the middle of its box.

    Without volume the middle is that of the box, without triangles the origin.
    """
    if len(mesh.faces) == 0:
        return 0.0, np.zeros(3)
    low, high = box_mm(mesh.vertices_mm)
    middle = 0.5 * (low + high)
    sums = _moments(*_arrays(mesh), middle)
    volume = float(sums[0]) / 6.0
    return volume, middle + (sums[1:] / 24.0 / volume if volume != 0.0 else 0.0)


@numba.njit(numba.types.UniTuple(numba.int32[::1], 2)(_FACES, numba.int64), cache=True, nogil=True)
def _by_edge(faces, count):  # type: ignore[no-untyped-def]
    """Half edges are dealt to their lower vertex, and sorted there by the higher one."""
    halves = 3 * faces.shape[0]
    starts = np.zeros(count + 1, dtype=np.int32)
    for f in range(faces.shape[0]):
        for k in range(3):
            starts[min(faces[f, k], faces[f, (k + 1) % 3]) + 1] += 1
    for v in range(count):
        starts[v + 1] += starts[v]
    order, higher, at = np.empty(halves, dtype=np.int32), np.empty(halves, dtype=np.int32), starts[:count].copy()
    for f in range(faces.shape[0]):
        for k in range(3):
            a, b = faces[f, k], faces[f, (k + 1) % 3]
            low = min(a, b)
            order[at[low]] = 3 * f + k
            higher[at[low]] = max(a, b)
            at[low] += 1
    edges = np.empty(halves + 1, dtype=np.int32)
    found = 0
    for v in range(count):
        start, stop = starts[v], starts[v + 1]
        if stop - start > _FEW:
            turn = np.argsort(higher[start:stop], kind="mergesort")
            order[start:stop] = order[start:stop][turn]
            higher[start:stop] = higher[start:stop][turn]
        else:
            for i in range(start + 1, stop):
                half, end, j = order[i], higher[i], i
                while j > start and higher[j - 1] > end:
                    order[j], higher[j] = order[j - 1], higher[j - 1]
                    j -= 1
                order[j], higher[j] = half, end
        for i in range(start, stop):
            if i == start or higher[i] != higher[i - 1]:
                edges[found] = i
                found += 1
    edges[found] = halves
    return order, edges[: found + 1].copy()


@numba.njit(numba.int32(numba.int32[::1], numba.int32), cache=True, nogil=True, inline="always")
def _root(above, n):  # type: ignore[no-untyped-def]
    """The least of a tree; its ways are halved as they are walked (Tarjan 1975)."""
    while above[n] != n:
        above[n] = above[above[n]]
        n = above[n]
    return n


@numba.njit(numba.void(numba.int32[::1], numba.int32, numba.int32), cache=True, nogil=True, inline="always")
def _join(above, a, b):  # type: ignore[no-untyped-def]
    a, b = _root(above, a), _root(above, b)
    above[max(a, b)] = min(a, b)


@numba.njit(numba.int32[::1](_FACES, numba.int64), cache=True, nogil=True)
def _pieces(faces, count):  # type: ignore[no-untyped-def]
    above = np.arange(count).astype(np.int32)
    for f in range(faces.shape[0]):
        _join(above, faces[f, 0], faces[f, 1])
        _join(above, faces[f, 1], faces[f, 2])
    for v in range(count):
        above[v] = above[above[v]]  # a lower one leads to its root already
    return above


@numba.njit(numba.int32[::1](_FACES, numba.int64, _LIST, _LIST), cache=True, nogil=True)
def _fans(faces, count, order, starts):  # type: ignore[no-untyped-def]
    corners = faces.reshape(-1)
    above = np.arange(corners.shape[0]).astype(np.int32)
    for e in range(starts.shape[0] - 1):
        if starts[e + 1] - starts[e] != 2:
            continue
        one, other = order[starts[e]], order[starts[e] + 1]
        one_end, other_end = (one + 1 if one % 3 < 2 else one - 2), (other + 1 if other % 3 < 2 else other - 2)
        if corners[one] != corners[other]:  # they run opposite ways
            other, other_end = other_end, other
        _join(above, one, other)
        _join(above, one_end, other_end)
    fans = np.zeros(count, dtype=np.int32)
    for c in range(corners.shape[0]):
        if above[c] == c:
            fans[corners[c]] += 1
    return fans


@numba.njit(numba.float64[::1](_POINTS, _FACES), cache=True, nogil=True)
def _heights(points, faces):  # type: ignore[no-untyped-def]
    heights = np.empty(faces.shape[0])
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[b, 0], points[c, 1] - points[b, 1], points[c, 2] - points[b, 2]
        wx, wy, wz = points[a, 0] - points[c, 0], points[a, 1] - points[c, 1], points[a, 2] - points[c, 2]
        longest = max(ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz, wx * wx + wy * wy + wz * wz)
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        heights[f] = np.sqrt(x * x + y * y + z * z) / max(np.sqrt(longest), _LEAST_MM)
    return heights


@numba.njit(numba.float64[:, ::1](_POINTS, _FACES), cache=True, nogil=True)
def _area_vectors(points, faces):  # type: ignore[no-untyped-def]
    vectors = np.empty((faces.shape[0], 3))
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        vectors[f, 0], vectors[f, 1], vectors[f, 2] = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    return vectors


@numba.njit(numba.float64[::1](_POINTS, _FACES), cache=True, nogil=True)
def _areas(points, faces):  # type: ignore[no-untyped-def]
    areas = np.empty(faces.shape[0])
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        areas[f] = 0.5 * np.sqrt(x * x + y * y + z * z)
    return areas


@numba.njit(numba.types.UniTuple(numba.float64[::1], 2)(_POINTS), cache=True, nogil=True)
def _box(points):  # type: ignore[no-untyped-def]
    low, high = points[0].copy(), points[0].copy()
    for n in range(1, points.shape[0]):
        for k in range(3):
            low[k], high[k] = min(low[k], points[n, k]), max(high[k], points[n, k])
    return low, high


@numba.njit(numba.float64[::1](_POINTS, _FACES, numba.float64[::1]), cache=True, nogil=True)
def _moments(points, faces, middle):  # type: ignore[no-untyped-def]
    """Six times the volume, and 24 times its first moments, about ``middle``."""
    sums = np.zeros(4)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = points[a, 0] - middle[0], points[a, 1] - middle[1], points[a, 2] - middle[2]
        bx, by, bz = points[b, 0] - middle[0], points[b, 1] - middle[1], points[b, 2] - middle[2]
        cx, cy, cz = points[c, 0] - middle[0], points[c, 1] - middle[1], points[c, 2] - middle[2]
        six = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
        sums[0] += six
        sums[1] += six * (ax + bx + cx)
        sums[2] += six * (ay + by + cy)
        sums[3] += six * (az + bz + cz)
    return sums
