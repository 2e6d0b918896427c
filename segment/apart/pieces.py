"""Connected pieces of a mask as numbers on the grid, and how much of something else lies in each."""

from __future__ import annotations

import numba as nb
import numpy as np

from batchone.segment.apart.grid import BoolArray
from batchone.segment.bits import Words, packed, unpacked
from batchone.segment.runs import Int32Array, Int64Array, Runs, labelled

_WORDS = nb.types.Array(nb.uint64, 3, "C", readonly=True)


@nb.njit(
    nb.void(nb.int64[::1], nb.int32[::1], nb.int32[::1], nb.int32[::1], nb.int32[:, :, ::1]),
    parallel=True,
    cache=True,
    nogil=True,
)
def _number(offsets: Int64Array, begin: Int32Array, end: Int32Array, label: Int32Array, out: Int32Array) -> None:
    rows = out.shape[1]
    for z in nb.prange(out.shape[0]):
        for y in range(rows):
            for run in range(offsets[z * rows + y], offsets[z * rows + y + 1]):
                for x in range(begin[run], end[run]):
                    out[z, y, x] = label[run] + 1


@nb.njit(
    nb.void(nb.int64[::1], nb.int64, nb.int32[::1], nb.int32[::1], nb.int32[::1], _WORDS, nb.int64[::1]), cache=True, nogil=True
)
def _count_in(
    offsets: Int64Array, rows: int, begin: Int32Array, end: Int32Array, label: Int32Array, words: Words, counts: Int64Array
) -> None:
    for row in range(offsets.shape[0] - 1):
        z, y = row // rows, row % rows
        for run in range(offsets[row], offsets[row + 1]):
            for x in range(begin[run], end[run]):
                counts[label[run]] += nb.int64((words[z, y, x >> 6] >> nb.uint64(x & 63)) & nb.uint64(1))


@nb.njit(
    nb.void(
        nb.int64[::1], nb.int64, nb.int32[::1], nb.int32[::1], nb.int32[::1], nb.int64, nb.int64[::1], nb.boolean[:, :, ::1]
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def _fill_box(
    offsets: Int64Array,
    rows: int,
    begin: Int32Array,
    end: Int32Array,
    label: Int32Array,
    component: int,
    first: Int64Array,
    out: BoolArray,
) -> None:
    """Set the voxels of a component in a box that begins at ``first`` and holds all of it."""
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = (z + first[0]) * rows + y + first[1]
            for run in range(offsets[row], offsets[row + 1]):
                if label[run] == component:
                    out[z, y, begin[run] - first[2] : end[run] - first[2]] = True


def alone(runs: Runs, component: int, box: Int64Array) -> BoolArray:
    """One component in its half-open index box (3, 2), as :meth:`Runs.measured` gives it."""
    out = np.zeros(tuple(int(n) for n in box[:, 1] - box[:, 0]), dtype=np.bool_)
    _fill_box(runs.offsets, runs.shape[1], runs.begin, runs.end, runs.label, component, box[:, 0].copy(), out)
    return out


def numbered(runs: Runs) -> Int32Array:
    """(slices, rows, columns) int32: 0 off the mask, else the component's number plus 1."""
    out = np.zeros(runs.shape, dtype=np.int32)
    _number(runs.offsets, runs.begin, runs.end, runs.label, out)
    return out


def counted_in(runs: Runs, words: Words) -> Int64Array:
    """(count,) voxels of a packed mask in each component."""
    counts = np.zeros(runs.count, dtype=np.int64)
    _count_in(runs.offsets, runs.shape[1], runs.begin, runs.end, runs.label, words, counts)
    return counts


def components(mask: BoolArray) -> tuple[Int32Array, Int64Array]:
    """Components of a boolean mask, numbered from 1 on its grid, and their (count + 1,) voxel counts (the first is 0)."""
    runs = labelled(packed(mask), mask.shape[2])
    return numbered(runs), np.concatenate([[0], runs.measured()[0]])


def largest(mask: BoolArray) -> BoolArray:
    """The largest component of a mask."""
    numbers, voxels = components(mask)
    return np.asarray(numbers == int(voxels.argmax())) if voxels.max(initial=0) else np.zeros_like(mask)


def touching(mask: BoolArray, seed: BoolArray) -> BoolArray:
    """The components of a mask that hold a voxel of the seed."""
    runs = labelled(packed(mask), mask.shape[2])
    hit = counted_in(runs, packed(seed)) > 0
    return unpacked(runs.painted(hit), mask.shape[2])
