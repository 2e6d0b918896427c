"""Self-intersections of a triangle surface: every pair of triangles whose boxes meet is tested in double precision.

A tree of boxes over triangles in Morton order finds the pairs; two triangles cross when an edge of one passes through the other
and each reaches beyond the other's plane by more than a tolerance on both sides. Sheets that touch or nearly touch are none.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np

from batchone.design.triangles import box_mm, heights_mm
from batchone.pipeline.values import IntArray, Mesh

_LEAF = 4  # triangles per leaf; measured: 2 to 8 are equally fast
_MORTON_BITS = 10  # numerical: cells per axis of the sorting grid, as a power of two
_ON_EDGE_MM = 1e-9  # numerical: rounding of a point on an edge (double precision); wider would count near misses as crossings
_NO_HEIGHT_MM = 1e-7  # numerical: a triangle of less height has lost its normal
_POINTS = numba.types.Array(numba.float64, 2, "C", readonly=True)
_FACES = numba.types.Array(numba.int32, 2, "C", readonly=True)
_ORDER = numba.types.Array(numba.int32, 1, "C", readonly=True)
_DEPTH = 128  # numerical: entries of the traversal's stack, more than twice the depth of any tree


def crossing_pairs(mesh: Mesh, *, tolerance_mm: float) -> IntArray:
    """Find triangles that pass through each other.

    Parameters
    ----------
    mesh
        Any triangle surface, mm.
    tolerance_mm
        Each of the two must reach this far beyond the other's plane, on both sides of it.

    Returns
    -------
    IntArray
        (k, 2) triangle indices, for each crossing triangle its first partner, sorted; empty when the surface is clean. Triangles
        without height count for none: their plane is rounding, and each of their edges belongs to a neighbour too.
    """
    high = np.flatnonzero(heights_mm(mesh) > _NO_HEIGHT_MM)
    if len(high) == 0:
        return np.empty((0, 2), dtype=np.int32)
    whole = mesh if len(high) == len(mesh.faces) else Mesh(mesh.vertices_mm, mesh.faces[high])
    return np.asarray(high[_crossing(whole, tolerance_mm)], dtype=np.int32).reshape(-1, 2)


@lru_cache(maxsize=1)
def along_curve(mesh: Mesh) -> IntArray:
    """(m,) the triangles along a Z-shaped curve through their middles: neighbours in the list are mostly neighbours in space.

    What one check has sorted serves the next.
    """
    if len(mesh.faces) == 0:
        return np.empty(0, dtype=np.int32)
    points = np.ascontiguousarray(mesh.vertices_mm)
    low, high = box_mm(points)
    extent = float((high - low).max()) or 1.0
    return np.asarray(_morton_order(points, np.ascontiguousarray(mesh.faces, dtype=np.int32), low, extent))


def _crossing(mesh: Mesh, tolerance_mm: float) -> IntArray:
    points, faces = np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces, dtype=np.int32)
    order = along_curve(mesh)
    leaves = 1
    while leaves * _LEAF < len(order):
        leaves *= 2
    corners, normals, triangles, spans = _sorted(points, faces, order)
    partner = np.full(len(order), -1, dtype=np.int32)
    _find(corners, normals, triangles, spans, _tree(spans, leaves), leaves, tolerance_mm, partner)
    first = np.flatnonzero(partner >= 0)
    pairs = np.sort(np.column_stack([order[first], order[partner[first]]]), axis=1)
    return np.ascontiguousarray(np.unique(pairs, axis=0), dtype=np.int32).reshape(-1, 2)


@numba.njit(numba.int32[::1](_POINTS, _FACES, numba.float64[::1], numba.float64), cache=True, nogil=True)
def _morton_order(points, faces, low, extent):  # type: ignore[no-untyped-def]
    """Triangles by the cell of their middle, along a Z-shaped curve; those of one cell in their order."""
    count, cells = faces.shape[0], 1 << _MORTON_BITS
    spread = np.zeros(cells, dtype=np.int32)  # the bits of each cell, two free ones between them
    for cell in range(cells):
        for bit in range(_MORTON_BITS):
            spread[cell] |= ((cell >> bit) & 1) << (3 * bit)
    code, order = np.zeros(count, dtype=np.int32), np.arange(count).astype(np.int32)
    for f in range(count):
        for axis in range(3):
            middle = (points[faces[f, 0], axis] + points[faces[f, 1], axis] + points[faces[f, 2], axis]) / 3.0
            code[f] |= spread[min(int((middle - low[axis]) / extent * cells), cells - 1)] << axis
    other = np.empty(count, dtype=np.int32)
    for shift in range(0, 3 * _MORTON_BITS, _MORTON_BITS):  # sorted by one digit after the other
        starts = np.zeros(cells + 1, dtype=np.int64)
        for n in range(count):
            starts[((code[order[n]] >> shift) & (cells - 1)) + 1] += 1
        for digit in range(cells):
            starts[digit + 1] += starts[digit]
        for n in range(count):
            digit = (code[order[n]] >> shift) & (cells - 1)
            other[starts[digit]] = order[n]
            starts[digit] += 1
        order, other = other, order
    return order


@numba.njit(
    numba.types.Tuple((numba.float64[:, :, ::1], numba.float64[:, ::1], numba.int32[:, ::1], numba.float64[:, ::1]))(
        _POINTS, _FACES, _ORDER
    ),
    cache=True,
    nogil=True,
)
def _sorted(points, faces, order):  # type: ignore[no-untyped-def]
    """Corners (m, 3, 3), unit normals (m, 3), triangles (m, 3) and boxes (m, 6) in an order."""
    count = order.shape[0]
    corners, normals = np.empty((count, 3, 3)), np.empty((count, 3))
    triangles, spans = np.empty((count, 3), dtype=np.int32), np.empty((count, 6))
    for n in range(count):
        for k in range(3):
            triangles[n, k] = faces[order[n], k]
        for axis in range(3):
            a, b, c = points[triangles[n, 0], axis], points[triangles[n, 1], axis], points[triangles[n, 2], axis]
            corners[n, 0, axis], corners[n, 1, axis], corners[n, 2, axis] = a, b, c
            spans[n, axis], spans[n, 3 + axis] = min(a, b, c), max(a, b, c)
        ux, uy, uz = corners[n, 1, 0] - corners[n, 0, 0], corners[n, 1, 1] - corners[n, 0, 1], corners[n, 1, 2] - corners[n, 0, 2]
        vx, vy, vz = corners[n, 2, 0] - corners[n, 0, 0], corners[n, 2, 1] - corners[n, 0, 1], corners[n, 2, 2] - corners[n, 0, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        twice = np.sqrt(nx * nx + ny * ny + nz * nz)  # above 0: triangles without height are left out
        normals[n, 0], normals[n, 1], normals[n, 2] = nx / twice, ny / twice, nz / twice
    return corners, normals, triangles, spans


@numba.njit(numba.float64[:, ::1](numba.float64[:, ::1], numba.int64), cache=True, nogil=True)
def _tree(spans, leaves):  # type: ignore[no-untyped-def]
    """Boxes (2 * leaves, 6) of a complete binary tree, root at 1, leaves at the end; a box around nothing meets none."""
    boxes = np.empty((2 * leaves, 6))
    boxes[:, :3], boxes[:, 3:] = np.inf, -np.inf
    for n in range(spans.shape[0]):
        node = leaves + n // _LEAF
        for axis in range(3):
            boxes[node, axis] = min(boxes[node, axis], spans[n, axis])
            boxes[node, 3 + axis] = max(boxes[node, 3 + axis], spans[n, 3 + axis])
    for node in range(leaves - 1, 0, -1):
        for axis in range(3):
            boxes[node, axis] = min(boxes[2 * node, axis], boxes[2 * node + 1, axis])
            boxes[node, 3 + axis] = max(boxes[2 * node, 3 + axis], boxes[2 * node + 1, 3 + axis])
    return boxes


@numba.njit("boolean(float64[:,:,::1], float64[:,::1], int64, int64, int64, float64)", cache=True, nogil=True)
def _pierces(corners, normals, f, edge, g, tolerance):  # type: ignore[no-untyped-def]
    """Does edge number ``edge`` of triangle f pass through triangle g?"""
    to = (edge + 1) % 3
    ax, ay, az = corners[g, 0, 0], corners[g, 0, 1], corners[g, 0, 2]
    nx, ny, nz = normals[g, 0], normals[g, 1], normals[g, 2]
    px, py, pz = corners[f, edge, 0], corners[f, edge, 1], corners[f, edge, 2]
    qx, qy, qz = corners[f, to, 0], corners[f, to, 1], corners[f, to, 2]
    above = (px - ax) * nx + (py - ay) * ny + (pz - az) * nz
    below = (qx - ax) * nx + (qy - ay) * ny + (qz - az) * nz
    if not ((above > tolerance and below < -tolerance) or (above < -tolerance and below > tolerance)):
        return False
    t = above / (above - below)
    x, y, z = px + t * (qx - px), py + t * (qy - py), pz + t * (qz - pz)
    for k in range(3):
        e = (k + 1) % 3
        sx, sy, sz = corners[g, k, 0], corners[g, k, 1], corners[g, k, 2]
        ex, ey, ez = corners[g, e, 0] - sx, corners[g, e, 1] - sy, corners[g, e, 2] - sz
        ix, iy, iz = ny * ez - nz * ey, nz * ex - nx * ez, nx * ey - ny * ex
        length = np.sqrt(ex * ex + ey * ey + ez * ez)
        if (x - sx) * ix + (y - sy) * iy + (z - sz) * iz < -_ON_EDGE_MM * length:
            return False
    return True


@numba.njit("boolean(float64[:,:,::1], float64[:,::1], int64, int64, float64)", cache=True, nogil=True)
def _straddles(corners, normals, f, g, tolerance):  # type: ignore[no-untyped-def]
    """Does triangle f reach beyond the plane of g on both sides?"""
    ax, ay, az = corners[g, 0, 0], corners[g, 0, 1], corners[g, 0, 2]
    nx, ny, nz = normals[g, 0], normals[g, 1], normals[g, 2]
    above, below = False, False
    for k in range(3):
        height = (corners[f, k, 0] - ax) * nx + (corners[f, k, 1] - ay) * ny + (corners[f, k, 2] - az) * nz
        above = above or height > tolerance
        below = below or height < -tolerance
    return above and below


@numba.njit("boolean(float64[:,:,::1], float64[:,::1], int32[:,::1], int64, int64, float64)", cache=True, nogil=True)
def _cross(corners, normals, faces, f, g, tolerance):  # type: ignore[no-untyped-def]
    """Do two triangles cross, of which each straddles the other?

    Neighbours along an edge never do; across a shared corner only the far edges count.
    """
    shared = 0
    at_first, at_second = -1, -1
    for i in range(3):
        for j in range(3):
            if faces[f, i] == faces[g, j]:
                shared += 1
                at_first, at_second = i, j
    if shared >= 2:
        return False
    if shared == 1:
        return _pierces(corners, normals, f, (at_first + 1) % 3, g, tolerance) or _pierces(
            corners, normals, g, (at_second + 1) % 3, f, tolerance
        )
    for edge in range(3):
        if _pierces(corners, normals, f, edge, g, tolerance) or _pierces(corners, normals, g, edge, f, tolerance):
            return True
    return False


@numba.njit("boolean(float64[:,::1], int64, float64[:,::1], int64)", cache=True, nogil=True, inline="always")
def _meet(boxes, i, others, j):  # type: ignore[no-untyped-def]
    """Do two boxes meet?"""
    return (
        boxes[i, 0] <= others[j, 3] and boxes[i, 1] <= others[j, 4] and boxes[i, 2] <= others[j, 5]
        and others[j, 0] <= boxes[i, 3] and others[j, 1] <= boxes[i, 4] and others[j, 2] <= boxes[i, 5]
    )  # fmt: skip


@numba.njit(
    "void(float64[:,:,::1], float64[:,::1], int32[:,::1], float64[:,::1], float64[:,::1], int64, float64, int32[::1])",
    cache=True,
    parallel=True,
    nogil=True,
)
def _find(corners, normals, faces, spans, boxes, leaves, tolerance, partner):  # type: ignore[no-untyped-def]
    """Write, for each triangle, the first later triangle (in tree order) that it crosses.

    Each leaf looks into itself and into what lies to the right of its way up to the root.
    """
    n = faces.shape[0]
    for leaf in numba.prange(leaves):
        stack = np.empty(_DEPTH, dtype=np.int64)
        start, stop = leaf * _LEAF, min(n, leaf * _LEAF + _LEAF)
        if start < stop:
            up, top = leaves + leaf, 1
            stack[0] = up
            while top > 0 or up > 1:
                if top == 0:
                    if up % 2 == 0:
                        stack[0], top = up + 1, 1
                    up //= 2
                    continue
                top -= 1
                node = stack[top]
                if not _meet(boxes, node, boxes, leaves + leaf):
                    continue
                if node < leaves:
                    stack[top] = 2 * node + 1
                    stack[top + 1] = 2 * node
                    top += 2
                    continue
                first = (node - leaves) * _LEAF
                for a in range(start, stop):
                    if partner[a] >= 0 or not _meet(boxes, node, spans, a):
                        continue
                    for b in range(max(a + 1, first), min(n, first + _LEAF)):
                        if (
                            _meet(spans, a, spans, b)
                            and _straddles(corners, normals, a, b, tolerance)
                            and _straddles(corners, normals, b, a, tolerance)
                            and _cross(corners, normals, faces, a, b, tolerance)
                        ):
                            partner[a] = b
                            break
