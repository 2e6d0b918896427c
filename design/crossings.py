"""Self-intersections of a triangle surface: every pair of triangles whose boxes meet is tested in double precision.

A tree of boxes over triangles in Morton order finds the pairs; two triangles cross when an edge of one passes through the other
and each reaches beyond the other's plane by more than a tolerance on both sides. Sheets that touch or nearly touch are none.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, IntArray, Mesh

_LEAF = 4  # triangles per leaf; measured: 2 to 8 are equally fast
_MORTON_BITS = 10  # numerical: cells per axis of the sorting grid, as a power of two
_ON_EDGE_MM = 1e-9  # numerical: rounding of a point on an edge (double precision); wider would count near misses as crossings
_NO_HEIGHT_MM = 1e-7  # numerical: a triangle of less height has lost its normal
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
    high = np.flatnonzero(_heights_mm(mesh) > _NO_HEIGHT_MM)
    if len(high) == 0:
        return np.empty((0, 2), dtype=np.int32)
    return np.asarray(high[_crossing(mesh.vertices_mm, mesh.faces[high], tolerance_mm)], dtype=np.int32).reshape(-1, 2)


def _heights_mm(mesh: Mesh) -> FloatArray:
    """(m,) least height of each triangle."""
    corners = mesh.vertices_mm[mesh.faces]
    sides = corners[:, [1, 2, 0]] - corners
    longest = np.sqrt(np.einsum("ijk,ijk->ij", sides, sides)).max(axis=1, initial=0.0)
    twice_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    return np.asarray(twice_area / np.maximum(longest, _NO_HEIGHT_MM))


def _crossing(points_mm: FloatArray, faces: IntArray, tolerance_mm: float) -> IntArray:
    corners = points_mm[faces]
    low = np.minimum(np.minimum(corners[:, 0], corners[:, 1]), corners[:, 2])
    high = np.maximum(np.maximum(corners[:, 0], corners[:, 1]), corners[:, 2])
    order = _morton_order(0.5 * (low + high))
    boxes, leaves = _tree(low[order], high[order])
    partner = np.full(len(order), -1, dtype=np.int32)
    _find(
        np.ascontiguousarray(corners[order]),
        np.ascontiguousarray(faces[order]),
        np.ascontiguousarray(low[order]),
        np.ascontiguousarray(high[order]),
        boxes,
        leaves,
        tolerance_mm,
        partner,
    )
    first = np.flatnonzero(partner >= 0)
    pairs = np.sort(np.column_stack([order[first], order[partner[first]]]), axis=1)
    return np.ascontiguousarray(np.unique(pairs, axis=0), dtype=np.int32).reshape(-1, 2)


def _morton_order(centres_mm: FloatArray) -> npt.NDArray[np.int64]:
    low = centres_mm.min(axis=0)
    extent = float((centres_mm.max(axis=0) - low).max()) or 1.0
    cell = np.minimum((centres_mm - low) / extent * (1 << _MORTON_BITS), (1 << _MORTON_BITS) - 1).astype(np.int64)
    code = np.zeros(len(cell), dtype=np.int64)
    for bit in range(_MORTON_BITS):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


def _tree(low: FloatArray, high: FloatArray) -> tuple[FloatArray, int]:
    """Boxes (2 * leaves, 6) of a complete binary tree, root at 1, leaves at the end."""
    leaves = 1
    while leaves * _LEAF < len(low):
        leaves *= 2
    padded_low = np.full((leaves * _LEAF, 3), np.inf)
    padded_high = np.full((leaves * _LEAF, 3), -np.inf)
    padded_low[: len(low)], padded_high[: len(high)] = low, high
    boxes = np.empty((2 * leaves, 6))
    boxes[leaves:, :3] = padded_low.reshape(leaves, _LEAF, 3).min(axis=1)
    boxes[leaves:, 3:] = padded_high.reshape(leaves, _LEAF, 3).max(axis=1)
    size = leaves
    while size > 1:
        below = boxes[size : 2 * size].reshape(size // 2, 2, 6)
        size //= 2
        boxes[size : 2 * size, :3] = below[:, :, :3].min(axis=1)
        boxes[size : 2 * size, 3:] = below[:, :, 3:].max(axis=1)
    return boxes, leaves


@numba.njit("boolean(float64[:,::1], int64, float64[:,::1], float64)", cache=True)
def _pierces(triangle, edge, other, tolerance):  # type: ignore[no-untyped-def]
    """Does edge number ``edge`` of a triangle pass through the other?"""
    p, q = triangle[edge], triangle[(edge + 1) % 3]
    a, b, c = other[0], other[1], other[2]
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    twice = np.sqrt(nx * nx + ny * ny + nz * nz)
    if twice <= tolerance * tolerance:
        return False
    nx, ny, nz = nx / twice, ny / twice, nz / twice
    above = (p[0] - a[0]) * nx + (p[1] - a[1]) * ny + (p[2] - a[2]) * nz
    below = (q[0] - a[0]) * nx + (q[1] - a[1]) * ny + (q[2] - a[2]) * nz
    if not ((above > tolerance and below < -tolerance) or (above < -tolerance and below > tolerance)):
        return False
    t = above / (above - below)
    x, y, z = p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1]), p[2] + t * (q[2] - p[2])
    for k in range(3):
        s, e = other[k], other[(k + 1) % 3]
        ex, ey, ez = e[0] - s[0], e[1] - s[1], e[2] - s[2]
        ix, iy, iz = ny * ez - nz * ey, nz * ex - nx * ez, nx * ey - ny * ex
        length = np.sqrt(ex * ex + ey * ey + ez * ez)
        if (x - s[0]) * ix + (y - s[1]) * iy + (z - s[2]) * iz < -_ON_EDGE_MM * length:
            return False
    return True


@numba.njit("boolean(float64[:,::1], float64[:,::1], float64)", cache=True)
def _straddles(triangle, other, tolerance):  # type: ignore[no-untyped-def]
    """Does a triangle reach beyond the other's plane on both sides?"""
    a, b, c = other[0], other[1], other[2]
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    reach = tolerance * np.sqrt(nx * nx + ny * ny + nz * nz)
    above, below = False, False
    for k in range(3):
        height = (triangle[k, 0] - a[0]) * nx + (triangle[k, 1] - a[1]) * ny + (triangle[k, 2] - a[2]) * nz
        above = above or height > reach
        below = below or height < -reach
    return above and below


@numba.njit("boolean(float64[:,::1], float64[:,::1], int32[::1], int32[::1], float64)", cache=True)
def _cross(first, second, first_index, second_index, tolerance):  # type: ignore[no-untyped-def]
    """Do two triangles cross? Neighbours along an edge never do; across a shared corner only the far edges count."""
    shared = 0
    at_first, at_second = -1, -1
    for i in range(3):
        for j in range(3):
            if first_index[i] == second_index[j]:
                shared += 1
                at_first, at_second = i, j
    if shared >= 2 or not (_straddles(first, second, tolerance) and _straddles(second, first, tolerance)):
        return False
    if shared == 1:
        return _pierces(first, (at_first + 1) % 3, second, tolerance) or _pierces(second, (at_second + 1) % 3, first, tolerance)
    for edge in range(3):  # noqa: SIM110 - compiled
        if _pierces(first, edge, second, tolerance) or _pierces(second, edge, first, tolerance):
            return True
    return False


@numba.njit(
    "void(float64[:,:,::1], int32[:,::1], float64[:,::1], float64[:,::1], float64[:,::1], int64, float64, int32[::1])",
    cache=True,
    parallel=True,
)
def _find(corners, faces, low, high, boxes, leaves, tolerance, partner):  # type: ignore[no-untyped-def]
    """Write, for each triangle, the first later triangle (in tree order) that it crosses."""
    n = faces.shape[0]
    for leaf in numba.prange(leaves):
        stack = np.empty(_DEPTH, dtype=np.int64)
        start, stop = leaf * _LEAF, min(n, leaf * _LEAF + _LEAF)
        if start < stop:
            own = boxes[leaves + leaf]
            stack[0] = 1
            top = 1
            while top > 0:
                top -= 1
                node = stack[top]
                box = boxes[node]
                if box[0] > own[3] or box[1] > own[4] or box[2] > own[5] or own[0] > box[3] or own[1] > box[4] or own[2] > box[5]:
                    continue
                if node < leaves:
                    stack[top] = 2 * node + 1
                    stack[top + 1] = 2 * node
                    top += 2
                    continue
                first = (node - leaves) * _LEAF
                if first < start:
                    continue
                for a in range(start, stop):
                    if partner[a] >= 0:
                        continue
                    for b in range(max(a + 1, first), min(n, first + _LEAF)):
                        if (
                            low[b, 0] > high[a, 0]
                            or low[b, 1] > high[a, 1]
                            or low[b, 2] > high[a, 2]
                            or low[a, 0] > high[b, 0]
                            or low[a, 1] > high[b, 1]
                            or low[a, 2] > high[b, 2]
                        ):
                            continue
                        if _cross(corners[a], corners[b], faces[a], faces[b], tolerance):
                            partner[a] = b
                            break
