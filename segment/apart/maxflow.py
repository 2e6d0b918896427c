"""The minimal cut of a voxel graph with two terminals, by augmenting paths in two search trees.

Y. Boykov, V. Kolmogorov: An experimental comparison of min-cut/max-flow algorithms for energy minimization in vision, IEEE
TPAMI 26 (2004) 1124-1137, written anew for six neighbours and whole-number capacities: no float is summed, so the cut does
not depend on rounding.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.segment.apart.grid import BoolArray, Float32Array
from batchone.segment.runs import Int32Array, Int64Array

Int8Array = npt.NDArray[np.int8]
_NUMBERS = nb.types.Array(nb.int32, 3, "C", readonly=True)
_FIELD = nb.types.Array(nb.float32, 3, "C", readonly=True)
CAPACITY = 1000.0  # of an edge of cost 1: whole numbers


@nb.njit(nb.void(_NUMBERS, _FIELD, nb.int32[:, ::1], nb.int32[:, ::1]), parallel=True, cache=True, nogil=True)
def _edges(numbers: Int32Array, cost: Float32Array, near: Int32Array, room: Int32Array) -> None:
    """Neighbours (-1: none) and capacities of every node; direction ``d ^ 1`` is the way back."""
    nz, ny, nx = numbers.shape
    for p in nb.prange(nz):
        z = nb.int64(p)
        for y in range(ny):
            for x in range(nx):
                node = numbers[z, y, x]
                if node < 0:
                    continue
                for d in range(6):
                    k, j, i = z, y, x
                    shift = 1 if d & 1 else -1
                    if d < 2:
                        i += shift
                    elif d < 4:
                        j += shift
                    else:
                        k += shift
                    if i < 0 or j < 0 or k < 0 or i >= nx or j >= ny or k >= nz or numbers[k, j, i] < 0:
                        near[node, d] = -1
                        room[node, d] = 0
                    else:
                        near[node, d] = numbers[k, j, i]
                        room[node, d] = int(min(cost[z, y, x], cost[k, j, i]) * 1000.0 + 0.5)


@nb.njit(nb.int64(nb.int64, nb.int8[::1], nb.int32[:, ::1], nb.int64[::1], nb.int32[::1], nb.int64), cache=True, nogil=True)
def _distance(node: int, parent: Int8Array, near: Int32Array, stamp: Int64Array, far: Int32Array, now: int) -> int:
    """Steps from a node to its terminal; -1 when it hangs on an orphan. Marks the way with the time."""
    steps, at = 0, node
    while True:
        if stamp[at] == now:
            steps += far[at]
            break
        link = parent[at]
        steps += 1
        if link == 6:
            stamp[at], far[at] = now, 1
            break
        if link == 7 or link < 0:
            return -1
        at = near[at, link]
    total, at = steps, node
    while stamp[at] != now:
        stamp[at], far[at] = now, steps
        steps -= 1
        at = near[at, parent[at]]
    return total


@nb.njit(nb.void(nb.int32[:, ::1], nb.int32[:, ::1], nb.int32[::1], nb.int8[::1]), cache=True, nogil=True)
def _solve(near: Int32Array, room: Int32Array, pull: Int32Array, tree: Int8Array) -> None:  # noqa: C901 - compiled: grow, push, adopt in one loop
    """Fill ``tree`` with 1 for the source's side, else 0 or 2. ``pull``: capacity from the source (> 0) or to the sink (< 0)."""
    count = near.shape[0]
    parent = np.full(count, -1, dtype=np.int8)
    stamp = np.zeros(count, dtype=np.int64)
    far = np.zeros(count, dtype=np.int32)
    following = np.full(count, -1, dtype=np.int32)  # the queue of active nodes, -1: not in it, itself: the last
    orphans = np.empty(count + 1, dtype=np.int32)
    first, last = -1, -1
    for i in range(count):
        if pull[i] != 0:
            tree[i] = 1 if pull[i] > 0 else 2
            parent[i], far[i] = 6, 1
            following[i] = i
            if last >= 0:
                following[last] = i
            else:
                first = i
            last = i
    now = 0
    current = -1
    while True:
        i = current
        if i >= 0 and tree[i] == 0:
            i = -1
        current = -1
        while i < 0:
            if first < 0:
                break
            i = first
            if following[i] == i:
                first, last = -1, -1
            else:
                first = following[i]
            following[i] = -1
            if tree[i] == 0:
                i = -1
        if i < 0:
            break
        # grow until the trees meet
        meet_node, meet_way = -1, -1
        for d in range(6):
            j = near[i, d]
            if j < 0:
                continue
            open_ = room[i, d] if tree[i] == 1 else room[j, d ^ 1]
            if open_ <= 0:
                continue
            if tree[j] == 0:
                tree[j], parent[j], stamp[j], far[j] = tree[i], d ^ 1, stamp[i], far[i] + 1
                if following[j] < 0:
                    following[j] = j
                    if last >= 0:
                        following[last] = j
                    else:
                        first = j
                    last = j
            elif tree[j] != tree[i]:
                if tree[i] == 1:
                    meet_node, meet_way = i, d
                else:
                    meet_node, meet_way = j, d ^ 1
                break
            elif stamp[j] <= stamp[i] and far[j] > far[i]:
                parent[j], stamp[j], far[j] = d ^ 1, stamp[i], far[i] + 1
        now += 1
        if meet_node < 0:
            continue
        current = i
        # the least room along the path
        other = near[meet_node, meet_way]
        least = room[meet_node, meet_way]
        at = meet_node
        while parent[at] != 6:
            up = near[at, parent[at]]
            least = min(least, room[up, parent[at] ^ 1])
            at = up
        least = min(least, pull[at])
        at = other
        while parent[at] != 6:
            least = min(least, room[at, parent[at]])
            at = near[at, parent[at]]
        least = min(least, -pull[at])
        # push
        head, tail = 0, 0
        room[meet_node, meet_way] -= least
        room[other, meet_way ^ 1] += least
        at = meet_node
        while parent[at] != 6:
            link = parent[at]
            up = near[at, link]
            room[at, link] += least
            room[up, link ^ 1] -= least
            if room[up, link ^ 1] == 0:
                parent[at] = 7
                orphans[tail] = at
                tail += 1
            at = up
        pull[at] -= least
        if pull[at] == 0:
            parent[at] = 7
            orphans[tail] = at
            tail += 1
        at = other
        while parent[at] != 6:
            link = parent[at]
            up = near[at, link]
            room[up, link ^ 1] += least
            room[at, link] -= least
            if room[at, link] == 0:
                parent[at] = 7
                orphans[tail] = at
                tail += 1
            at = up
        pull[at] += least
        if pull[at] == 0:
            parent[at] = 7
            orphans[tail] = at
            tail += 1
        # adopt
        while head != tail:
            i = orphans[head]
            head = head + 1 if head < count else 0
            best, best_far = -1, 1 << 30
            for d in range(6):
                j = near[i, d]
                if j < 0 or tree[j] != tree[i]:
                    continue
                open_ = room[j, d ^ 1] if tree[i] == 1 else room[i, d]
                if open_ <= 0:
                    continue
                steps = _distance(j, parent, near, stamp, far, now)
                if 0 <= steps < best_far:
                    best, best_far = d, steps
            if best >= 0:
                parent[i], stamp[i], far[i] = best, now, best_far + 1
                continue
            for d in range(6):
                j = near[i, d]
                if j < 0 or tree[j] != tree[i]:
                    continue
                open_ = room[j, d ^ 1] if tree[i] == 1 else room[i, d]
                if open_ > 0 and following[j] < 0:
                    following[j] = j
                    if last >= 0:
                        following[last] = j
                    else:
                        first = j
                    last = j
                link = parent[j]
                if 0 <= link < 6 and near[j, link] == i:
                    parent[j] = 7
                    orphans[tail] = j
                    tail = tail + 1 if tail < count else 0
            tree[i], parent[i] = 0, -1


def source_side(mask: BoolArray, cost: Float32Array, pull: Int32Array) -> BoolArray:
    """The side of the source in the minimal cut of a mask.

    Parameters
    ----------
    mask
        (slices, rows, columns) the voxels that are cut.
    cost
        (slices, rows, columns) what a cut through a voxel costs, 0 to about 1; an edge costs the less of its two voxels.
    pull
        (slices, rows, columns) int32: > 0 ties a voxel to the source, < 0 to the sink, in units of 1 / ``CAPACITY``.
    """
    numbers = np.full(mask.shape, -1, dtype=np.int32)
    count = int(mask.sum())
    numbers[mask] = np.arange(count, dtype=np.int32)
    near, room = np.empty((count, 6), dtype=np.int32), np.empty((count, 6), dtype=np.int32)
    _edges(numbers, cost, near, room)
    tree = np.zeros(count, dtype=np.int8)
    _solve(near, room, np.ascontiguousarray(pull[mask]), tree)
    out = np.zeros_like(mask)
    out[mask] = tree == 1
    return out
