"""The compiled sweep: from a closed triangle mesh and ascending heights to closed loops.

A vertex that lies exactly on a plane counts as above it (symbolic perturbation): every triangle that a plane crosses then has
one half-edge that rises through the plane and one that falls, and following the rising one to its twin always comes back.
Half-edge ``3 t + i`` runs from corner ``i`` of triangle ``t`` to the next corner.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from batchone.pipeline.values import FloatArray, IntArray


@njit("i4[::1](i4[::1], i4[::1], i8)", cache=True, nogil=True)
def _sorted_by(key: IntArray, order: IntArray, size: int) -> IntArray:
    """Stable counting sort of ``order`` by ``key[order[i]]`` (0 to size - 1)."""
    begin = np.zeros(size + 1, np.int64)
    for h in range(order.shape[0]):
        begin[key[h] + 1] += 1
    for v in range(size):
        begin[v + 1] += begin[v]
    placed = np.empty(order.shape[0], np.int32)
    for i in range(order.shape[0]):
        h = order[i]
        placed[begin[key[h]]] = h
        begin[key[h]] += 1
    return placed


@njit("i8(i4[::1], b1[::1], i4[::1], i8, i8)", cache=True, nogil=True)
def _pair(order: IntArray, forward: npt.NDArray[np.bool_], twins: IntArray, begin: int, end: int) -> int:
    """Pair the half-edges of one edge: first forward with first backward, and so on; returns how many stay alone."""
    f = begin
    b = begin
    alone = end - begin
    while True:
        while f < end and not forward[order[f]]:
            f += 1
        while b < end and forward[order[b]]:
            b += 1
        if f >= end or b >= end:
            return alone
        twins[order[f]] = order[b]
        twins[order[b]] = order[f]
        alone -= 2
        f += 1
        b += 1


@njit("Tuple((i4[::1], i8, i8))(i4[:, ::1], i8)", cache=True, nogil=True)
def half_edge_twins(faces: IntArray, vertices: int) -> tuple[IntArray, int, int]:
    """Pair each half-edge with the one that runs the other way.

    Parameters
    ----------
    faces
        (m, 3) int32.
    vertices
        Number of vertices.

    Returns
    -------
    twins
        (3 m,) int32, -1 where there is none.
    open_edges
        Number of half-edges without a twin: zero when the mesh is closed and consistently oriented.
    crowded_edges
        Number of edges with more than two half-edges: zero too when the mesh is two-manifold along its edges.
    """
    n = 3 * faces.shape[0]
    low = np.empty(n, np.int32)
    high = np.empty(n, np.int32)
    forward = np.empty(n, np.bool_)
    for h in range(n):
        a = faces[h // 3, h % 3]
        b = faces[h // 3, (h + 1) % 3]
        low[h] = min(a, b)
        high[h] = max(a, b)
        forward[h] = a < b
    order = _sorted_by(low, _sorted_by(high, np.arange(n).astype(np.int32), vertices), vertices)
    twins = np.full(n, -1, np.int32)
    open_edges = 0
    crowded_edges = 0
    begin = 0
    for i in range(1, n + 1):
        if i == n or low[order[i]] != low[order[begin]] or high[order[i]] != high[order[begin]]:
            open_edges += _pair(order, forward, twins, begin, i)
            crowded_edges += 1 if i - begin > 2 else 0
            begin = i
    return twins, open_edges, crowded_edges


@njit("i8(f8[:, ::1], i4[:, ::1], i4[::1], i4[::1], f8, i8, i8, i4[::1], f8[:, ::1], i8)", cache=True, nogil=True)
def _trace(
    vertices_mm: FloatArray,
    faces: IntArray,
    twins: IntArray,
    level: IntArray,
    z_mm: float,
    plane: int,
    start: int,
    seen: IntArray,
    points_mm: FloatArray,
    begin: int,
) -> int:
    """Follow one loop from triangle to triangle, writing its points from ``begin`` on; returns where it ends."""
    end = begin
    t = start
    while True:
        seen[t] = plane
        corner = 0
        while not (level[faces[t, corner]] <= plane < level[faces[t, (corner + 1) % 3]]):
            corner += 1
        a = faces[t, corner]
        b = faces[t, (corner + 1) % 3]
        s = (z_mm - vertices_mm[a, 2]) / (vertices_mm[b, 2] - vertices_mm[a, 2])
        x = vertices_mm[a, 0] + s * (vertices_mm[b, 0] - vertices_mm[a, 0])
        y = vertices_mm[a, 1] + s * (vertices_mm[b, 1] - vertices_mm[a, 1])
        if end == begin or x != points_mm[end - 1, 0] or y != points_mm[end - 1, 1]:
            points_mm[end, 0] = x
            points_mm[end, 1] = y
            end += 1
        t = twins[3 * t + corner] // 3
        if t == start:
            break
    while end > begin + 1 and points_mm[end - 1, 0] == points_mm[begin, 0] and points_mm[end - 1, 1] == points_mm[begin, 1]:
        end -= 1
    return end


@njit("f8(f8[:, ::1], i8, i8)", cache=True, nogil=True)
def _area_mm2(points_mm: FloatArray, begin: int, end: int) -> float:
    """Signed area of the loop ``begin .. end``, about its first point."""
    twice = 0.0
    for p in range(begin + 1, end - 1):
        ax, ay = points_mm[p, 0] - points_mm[begin, 0], points_mm[p, 1] - points_mm[begin, 1]
        bx, by = points_mm[p + 1, 0] - points_mm[begin, 0], points_mm[p + 1, 1] - points_mm[begin, 1]
        twice += ax * by - bx * ay
    return 0.5 * twice


@njit("Tuple((i4[::1], i4[::1], i8))(i4[:, ::1], i4[::1])", cache=True, nogil=True)
def _spans(faces: IntArray, level: IntArray) -> tuple[IntArray, IntArray, int]:
    """First plane that crosses each triangle, the plane after the last, and the number of crossings in all."""
    first = np.empty(faces.shape[0], np.int32)
    last = np.empty(faces.shape[0], np.int32)
    crossings = 0
    for t in range(faces.shape[0]):
        a, b, c = level[faces[t, 0]], level[faces[t, 1]], level[faces[t, 2]]
        first[t] = min(a, b, c)
        last[t] = max(a, b, c)
        crossings += last[t] - first[t]
    return first, last, crossings


@njit("Tuple((f8[:, ::1], i8[::1], i4[::1], f8[::1]))(f8[:, ::1], i4[:, ::1], i4[::1], i4[::1], f8[::1])", cache=True, nogil=True)
def sweep(
    vertices_mm: FloatArray, faces: IntArray, twins: IntArray, level: IntArray, heights_mm: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.int64], IntArray, FloatArray]:
    """Cut a closed mesh at ascending heights.

    Parameters
    ----------
    vertices_mm
        (n, 3) float64, z up.
    faces
        (m, 3) int32, counter-clockwise from outside.
    twins
        (3 m,) int32, all paired.
    level
        (n,) int32: number of heights that are <= the vertex' z.
    heights_mm
        (k,) float64, strictly ascending.

    Returns
    -------
    points_mm
        (p, 2) float64: the loops one after the other, material on the left, no repeated neighbours.
    loop_start
        (l + 1,) int64 offsets into ``points_mm``.
    loop_height
        (l,) int32 index of the height, ascending.
    loop_area_mm2
        (l,) float64, signed: outer positive, holes negative, never zero.
    """
    first, last, crossings = _spans(faces, level)
    entering = _sorted_by(first, np.arange(faces.shape[0]).astype(np.int32), heights_mm.shape[0] + 1)
    points = np.empty((crossings, 2), np.float64)
    loop_start = np.zeros(crossings // 3 + 2, np.int64)
    loop_height = np.empty(crossings // 3 + 1, np.int32)
    loop_area = np.empty(crossings // 3 + 1, np.float64)
    active = np.empty(faces.shape[0], np.int32)
    seen = np.full(faces.shape[0], -1, np.int32)
    n_active = n_entered = n_points = n_loops = 0
    for k in range(heights_mm.shape[0]):
        kept = 0
        for i in range(n_active):
            if last[active[i]] > k:
                active[kept] = active[i]
                kept += 1
        n_active = kept
        while n_entered < entering.shape[0] and first[entering[n_entered]] <= k:
            if last[entering[n_entered]] > k:
                active[n_active] = entering[n_entered]
                n_active += 1
            n_entered += 1
        for i in range(n_active):
            if seen[active[i]] == k:
                continue
            end = _trace(vertices_mm, faces, twins, level, heights_mm[k], k, active[i], seen, points, n_points)
            area = _area_mm2(points, n_points, end)
            if end - n_points < 3 or area == 0.0:  # the plane touches a corner or an edge
                continue
            loop_height[n_loops] = k
            loop_area[n_loops] = area
            n_loops += 1
            n_points = end
            loop_start[n_loops] = end
    return points[:n_points].copy(), loop_start[: n_loops + 1].copy(), loop_height[:n_loops].copy(), loop_area[:n_loops].copy()
