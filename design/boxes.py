"""A tree of boxes over the triangles of a surface, which are halved across the longest side of their box again and again."""

from __future__ import annotations

import numba
import numpy as np

from batchone.pipeline.values import FloatArray, IntArray, Mesh

LEAF = 4  # triangles per leaf
DEPTH = 64  # numerical: entries of a traversal's stack, more than the depth of any tree

_POINTS = numba.types.Array(numba.float64, 2, "C", readonly=True)
_FACES = numba.types.Array(numba.int32, 2, "C", readonly=True)
_ORDER = numba.types.Array(numba.int32, 1, "C", readonly=True)


def tree_of(mesh: Mesh) -> tuple[IntArray, FloatArray]:
    """Sort triangles (m, 3), at least one, and put boxes around them.

    Returns
    -------
    tuple
        (m,) the triangles as they stand in the leaves, ``LEAF`` in each; (2 n, 6) boxes from low to high, n the number of leaves,
        a power of two: the root is at 1, those below node k at 2 k and 2 k + 1, leaves from n; those at the end may hold nothing.
    """
    points, faces = np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces, dtype=np.int32)
    leaves = 1
    while leaves * LEAF < len(faces):
        leaves *= 2
    order = np.asarray(_halved(_middles(points, faces), leaves))
    return order, np.asarray(_boxes(points, faces, order, leaves))


@numba.njit(numba.float32[:, ::1](_POINTS, _FACES), cache=True, nogil=True)
def _middles(points, faces):  # type: ignore[no-untyped-def]
    """(m, 3), to sort by."""
    middles = np.empty(faces.shape, dtype=np.float32)
    for f in range(faces.shape[0]):
        for k in range(3):
            middles[f, k] = (points[faces[f, 0], k] + points[faces[f, 1], k] + points[faces[f, 2], k]) / 3.0
    return middles


@numba.njit(
    numba.void(numba.float32[:, ::1], numba.int32[::1], numba.int64, numba.int64, numba.int64, numba.int64),
    cache=True,
    nogil=True,
)
def _part(middles, order, low, high, at, axis):  # type: ignore[no-untyped-def]
    """Exchange rows low to high - 1 until none before ``at`` lies beyond any other along an axis (Hoare 1961)."""
    high -= 1
    while low < high:
        i, j = low, high
        one, two, three = middles[low, axis], middles[(low + high) // 2, axis], middles[high, axis]
        pivot = max(min(one, two), min(max(one, two), three))
        while i <= j:
            while middles[i, axis] < pivot:
                i += 1
            while middles[j, axis] > pivot:
                j -= 1
            if i <= j:
                for k in range(3):
                    middles[i, k], middles[j, k] = middles[j, k], middles[i, k]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if at < j + 1:
            high = j
        elif at > j + 1 and at >= i:
            low = i
        else:
            return


@numba.njit(numba.int32[::1](numba.float32[:, ::1], numba.int64), cache=True, parallel=True, nogil=True)
def _halved(middles, leaves):  # type: ignore[no-untyped-def]
    """The order of the triangles; ``middles`` are sorted on the way."""
    count = middles.shape[0]
    order = np.arange(count).astype(np.int32)
    size = leaves * LEAF
    while size > LEAF:
        for node in numba.prange((count + size - 1) // size):
            low, high = node * size, min(node * size + size, count)
            half = low + size // 2
            if half < high:
                longest, axis = np.float32(-1.0), 0
                for k in range(3):
                    least, most = middles[low, k], middles[low, k]
                    for n in range(low + 1, high):
                        least, most = min(least, middles[n, k]), max(most, middles[n, k])
                    if most - least > longest:
                        longest, axis = most - least, k
                _part(middles, order, low, high, half, axis)
        size //= 2
    return order


@numba.njit(numba.float64[:, ::1](_POINTS, _FACES, _ORDER, numba.int64), cache=True, nogil=True)
def _boxes(points, faces, order, leaves):  # type: ignore[no-untyped-def]
    boxes = np.empty((2 * leaves, 6))
    boxes[:, :3], boxes[:, 3:] = np.inf, -np.inf
    for n in range(order.shape[0]):
        node = leaves + n // LEAF
        for corner in range(3):
            vertex = faces[order[n], corner]
            for axis in range(3):
                boxes[node, axis] = min(boxes[node, axis], points[vertex, axis])
                boxes[node, 3 + axis] = max(boxes[node, 3 + axis], points[vertex, axis])
    for node in range(leaves - 1, 0, -1):
        for axis in range(3):
            boxes[node, axis] = min(boxes[2 * node, axis], boxes[2 * node + 1, axis])
            boxes[node, 3 + axis] = max(boxes[2 * node, 3 + axis], boxes[2 * node + 1, 3 + axis])
    return boxes
