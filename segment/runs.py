"""Connected components and enclosed cavities on run-length encoded masks.

A run is a stretch of set voxels in one row. Components are 6-connected; they are numbered in the order of their first run,
so the result does not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.segment.bits import Words

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

_WORDS = nb.types.Array(nb.uint64, 3, "C", readonly=True)
_ROW = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_NONE, _ONE = np.uint64(0), np.uint64(1)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)  # times a single bit, its upper six bits say which bit that was
_PLACE = np.empty(64, dtype=np.int64)
_PLACE[[((1 << bit) * int(_DE_BRUIJN) % (1 << 64)) >> 58 for bit in range(64)]] = np.arange(64)


@nb.njit(nb.int64(_ROW, nb.int64, nb.int64, nb.int32[::1], nb.int32[::1], nb.boolean), cache=True, nogil=True)
def _scan_row(row: Words, columns: int, at: int, begin: Int32Array, end: Int32Array, write: bool) -> int:
    """Write the runs of one row from place ``at`` on, or only count them; returns the place after the last."""
    inside = False
    for w in range(row.shape[0]):
        edges = row[w] ^ ((row[w] << _ONE) | (_ONE if inside else _NONE))  # where a voxel differs from the one before it
        while edges != 0:  # the lowest first
            lowest = edges & (~edges + _ONE)
            edges ^= lowest
            x = 64 * w + _PLACE[(lowest * _DE_BRUIJN) >> nb.uint64(58)]
            if x >= columns:  # a run that reaches the row's end; bits past the last column are 0
                break
            if write and not inside:
                begin[at] = x
            elif write:
                end[at] = x
            at += inside
            inside = not inside
    if inside:
        if write:
            end[at] = columns
        at += 1
    return at


@nb.njit(
    nb.void(_WORDS, nb.int64, nb.int64[:, ::1], nb.int32[::1], nb.int32[::1], nb.boolean), parallel=True, cache=True, nogil=True
)
def _scan(words: Words, columns: int, offsets: Int64Array, begin: Int32Array, end: Int32Array, write: bool) -> None:
    """Count the runs of every row into ``offsets``, or write them starting at ``offsets``."""
    for z in nb.prange(words.shape[0]):
        for y in range(words.shape[1]):
            at = offsets[z, y] if write else 0
            at = _scan_row(words[z, y], columns, at, begin, end, write)
            if not write:
                offsets[z, y] = at


@nb.njit(nb.int64(nb.int32[::1], nb.int64), cache=True, nogil=True)
def _root(parent: Int32Array, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@nb.njit(nb.void(nb.int64[::1], nb.int64, nb.int64, nb.int32[::1], nb.int32[::1], nb.int32[::1]), cache=True, nogil=True)
def _join_rows(offsets: Int64Array, here: int, there: int, begin: Int32Array, end: Int32Array, parent: Int32Array) -> None:
    """Join the runs of two neighbouring rows that share a column; the earlier root stays."""
    a, b = offsets[here], offsets[there]
    while a < offsets[here + 1] and b < offsets[there + 1]:
        if begin[a] < end[b] and begin[b] < end[a]:
            first, second = _root(parent, a), _root(parent, b)
            parent[max(first, second)] = min(first, second)
        if end[a] < end[b]:
            a += 1
        else:
            b += 1


@nb.njit(nb.int64(nb.int64[::1], nb.int64, nb.int64, nb.int32[::1], nb.int32[::1], nb.int32[::1]), cache=True, nogil=True)
def _join(offsets: Int64Array, slices: int, rows: int, begin: Int32Array, end: Int32Array, label: Int32Array) -> int:
    """Union-find over runs that touch in the next row or slice; afterwards ``label`` counts from 0. Returns the count."""
    for run in range(label.shape[0]):
        label[run] = run
    for here in range(slices * rows):
        if here % rows:
            _join_rows(offsets, here, here - 1, begin, end, label)
        if here >= rows:
            _join_rows(offsets, here, here - rows, begin, end, label)
    count = 0
    for run in range(label.shape[0]):  # a parent comes before its children, so it is numbered already
        if label[run] == run:
            label[run] = count
            count += 1
        else:
            label[run] = label[label[run]]
    return count


@nb.njit(
    nb.void(nb.int64[::1], nb.int64, nb.int32[::1], nb.int32[::1], nb.int32[::1], nb.int64[::1], nb.int64[:, :, ::1]),
    cache=True,
    nogil=True,
)
def _measure(
    offsets: Int64Array, rows: int, begin: Int32Array, end: Int32Array, label: Int32Array, voxels: Int64Array, boxes: Int64Array
) -> None:
    for row in range(offsets.shape[0] - 1):
        z, y = row // rows, row % rows
        for run in range(offsets[row], offsets[row + 1]):
            box = boxes[label[run]]
            if voxels[label[run]] == 0:
                box[0, 0], box[1, 0], box[2, 0] = z, y, begin[run]
            voxels[label[run]] += end[run] - begin[run]
            box[0, 1] = z + 1
            box[1, 0], box[1, 1] = min(box[1, 0], y), max(box[1, 1], y + 1)
            box[2, 0], box[2, 1] = min(box[2, 0], begin[run]), max(box[2, 1], end[run])


@nb.njit(
    nb.void(nb.int64[::1], nb.int32[::1], nb.int32[::1], nb.boolean[::1], nb.uint64[:, :, ::1]),
    parallel=True,
    cache=True,
    nogil=True,
)
def _paint(offsets: Int64Array, begin: Int32Array, end: Int32Array, keep: npt.NDArray[np.bool_], words: Words) -> None:
    rows = words.shape[1]
    for z in nb.prange(words.shape[0]):
        for y in range(rows):
            for run in range(offsets[z * rows + y], offsets[z * rows + y + 1]):
                if keep[run]:
                    for x in range(begin[run], end[run]):
                        words[z, y, x >> 6] |= nb.uint64(1) << nb.uint64(x & 63)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """The runs of a mask and the component each belongs to.

    Attributes
    ----------
    shape
        (slices, rows, columns).
    offsets
        (slices * rows + 1,) int64: where each row's runs start.
    begin, end
        (n,) int32 columns, end exclusive.
    label
        (n,) int32 component numbers from 0.
    count
        Number of components.
    """

    shape: tuple[int, int, int]
    offsets: Int64Array
    begin: Int32Array
    end: Int32Array
    label: Int32Array
    count: int

    def measured(self) -> tuple[Int64Array, Int64Array]:
        """(count,) voxels, and (count, 3, 2) half-open index box along (slice, row, column), of each component."""
        voxels = np.zeros(self.count, dtype=np.int64)
        boxes = np.zeros((self.count, 3, 2), dtype=np.int64)
        _measure(self.offsets, self.shape[1], self.begin, self.end, self.label, voxels, boxes)
        return voxels, boxes

    def painted(self, keep: npt.NDArray[np.bool_]) -> Words:
        """Pack the components for which ``keep`` (count,) is True."""
        words = np.zeros((*self.shape[:2], -(-self.shape[2] // 64)), dtype=np.uint64)
        _paint(self.offsets, self.begin, self.end, np.ascontiguousarray(keep[self.label]), words)
        return words


def labelled(words: Words, columns: int) -> Runs:
    """Find the 6-connected components of a packed mask."""
    slices, rows = words.shape[:2]
    starts = np.zeros((slices, rows), dtype=np.int64)
    nothing = np.empty(0, dtype=np.int32)
    _scan(words, columns, starts, nothing, nothing, False)
    offsets = np.concatenate([[0], np.cumsum(starts.reshape(-1))]).astype(np.int64)
    total = int(offsets[-1])
    begin, end, label = (np.empty(total, dtype=np.int32) for _ in range(3))
    _scan(words, columns, np.ascontiguousarray(offsets[:-1].reshape(slices, rows)), begin, end, True)
    count = int(_join(offsets, slices, rows, begin, end, label))
    return Runs((slices, rows, columns), offsets, begin, end, label, count)
