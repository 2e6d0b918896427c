"""Bones apart, as labels on the scan's grid: what a backend gives, what a person may edit, what surfaces are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.labels import Cut as Cut
from batchone.pipeline.labels import Label as Label
from batchone.pipeline.labels import Numbering as Numbering
from batchone.pipeline.labels import VoxelLabels
from batchone.pipeline.values import FloatArray
from batchone.segment.bits import Words

LabelArray = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]

MAX_LABEL = 255

_LABELS = nb.types.Array(nb.uint8, 3, "C", readonly=True)


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Labels on the scan's grid.

    Attributes
    ----------
    voxels
        (slices, rows, columns) uint8, 0 where there is no bone.
    affine
        (4, 4) (column, row, slice) index -> LPS mm, the scan's own.
    labels
        In the order of their values.
    cuts
        Between labels that touch.
    """

    voxels: LabelArray
    affine: FloatArray
    labels: tuple[Label, ...]
    cuts: tuple[Cut, ...] = ()

    def label(self, value: int) -> Label:
        """The label of that value; KeyError when there is none."""
        for label in self.labels:
            if label.value == value:
                return label
        raise KeyError(value)


@nb.njit(nb.void(_LABELS, nb.int64[:, ::1]), parallel=True, cache=True, nogil=True)
def _count_runs(voxels: LabelArray, counts: Int64Array) -> None:
    for z in nb.prange(voxels.shape[0]):
        for y in range(voxels.shape[1]):
            here, before = voxels[z, y, 1:], voxels[z, y, :-1]
            count = nb.int64(voxels[z, y, 0] != 0)
            for x in range(here.shape[0]):
                count += nb.int64(here[x] != 0) & nb.int64(here[x] != before[x])
            counts[z, y] = count


@nb.njit(
    nb.void(_LABELS, nb.int64[:, ::1], nb.int64[:, ::1], nb.int32[::1], nb.int16[::1], nb.uint8[::1]),
    parallel=True,
    cache=True,
    nogil=True,
)
def _write_runs(
    voxels: LabelArray,
    counts: Int64Array,
    offsets: Int64Array,
    start: npt.NDArray[np.int32],
    length: npt.NDArray[np.int16],
    value: LabelArray,
) -> None:
    slices, rows, columns = voxels.shape
    for z in nb.prange(slices):
        for y in range(rows):
            if counts[z, y] == 0:
                continue
            at, before = offsets[z, y] - 1, nb.uint8(0)
            for x in range(columns):
                here = voxels[z, y, x]
                if here != 0:
                    if here != before:
                        at += 1
                        start[at] = (z * rows + y) * columns + x
                        length[at] = 0
                        value[at] = here
                    length[at] += 1
                before = here


@nb.njit(
    nb.void(
        nb.types.Array(nb.int32, 1, "C", readonly=True), nb.types.Array(nb.int16, 1, "C", readonly=True), *[nb.uint8[::1]] * 2
    ),
    cache=True,
    nogil=True,
)
def _paint_runs(start: npt.NDArray[np.int32], length: npt.NDArray[np.int16], value: LabelArray, flat: LabelArray) -> None:
    for n in range(start.shape[0]):
        flat[start[n] : start[n] + length[n]] = value[n]


@nb.njit(
    nb.void(
        nb.types.Array(nb.int32, 1, "C", readonly=True),
        nb.types.Array(nb.int16, 1, "C", readonly=True),
        nb.types.Array(nb.uint8, 1, "C", readonly=True),
        nb.int64,
        nb.int64,
        nb.int64[::1],
        nb.int64[:, :, ::1],
    ),
    cache=True,
    nogil=True,
)
def _measure_runs(
    start: npt.NDArray[np.int32],
    length: npt.NDArray[np.int16],
    value: LabelArray,
    rows: int,
    columns: int,
    voxels: Int64Array,
    boxes: Int64Array,
) -> None:
    for n in range(start.shape[0]):
        line, x = start[n] // columns, start[n] % columns
        low, box = (line // rows, line % rows, x), boxes[value[n]]
        new = voxels[value[n]] == 0
        for axis in range(3):
            high = low[axis] + (length[n] if axis == 2 else 1)
            box[axis, 0] = low[axis] if new else min(box[axis, 0], low[axis])
            box[axis, 1] = high if new else max(box[axis, 1], high)
        voxels[value[n]] += length[n]


@nb.njit(nb.void(_LABELS, nb.int64[::1], nb.boolean[::1], nb.uint64[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _pack(voxels: LabelArray, first: Int64Array, wanted: npt.NDArray[np.bool_], words: Words) -> None:
    """The bits of a box that begins at voxel ``first``, set where ``wanted[voxel]``; the box's size is that of ``words``."""
    slices, rows, columns = voxels.shape
    for k in nb.prange(words.shape[0]):
        z = k + first[0]
        if z < 0 or z >= slices:
            continue
        for j in range(words.shape[1]):
            y = j + first[1]
            if y < 0 or y >= rows:
                continue
            for w in range(words.shape[2]):
                start = 64 * w + first[2]
                line = voxels[z, y, max(0, start) : min(columns, start + 64)]
                some = nb.uint8(0)
                for x in range(line.shape[0]):
                    some |= line[x]
                if some == 0:  # most of a scan
                    continue
                for x in range(line.shape[0]):
                    words[k, j, w] |= nb.uint64(wanted[line[x]]) << nb.uint64(x + max(0, -start))


def compact(label_map: LabelMap) -> VoxelLabels:
    """The same labels as runs."""
    voxels = np.ascontiguousarray(label_map.voxels)
    counts = np.zeros(voxels.shape[:2], dtype=np.int64)
    _count_runs(voxels, counts)
    ends = np.cumsum(counts.reshape(-1))
    total = int(ends[-1])
    start, length, value = np.empty(total, np.int32), np.empty(total, np.int16), np.empty(total, np.uint8)
    offsets = np.ascontiguousarray((ends - counts.reshape(-1)).reshape(counts.shape))
    _write_runs(voxels, counts, offsets, start, length, value)
    shape = (voxels.shape[0], voxels.shape[1], voxels.shape[2])
    return VoxelLabels(label_map.affine, shape, start, length, value, label_map.labels)


def expanded(labels: VoxelLabels) -> LabelMap:
    """The label map of runs; cuts are not kept."""
    voxels = np.zeros(labels.shape, dtype=np.uint8)
    _paint_runs(labels.start, labels.length, np.array(labels.value), voxels.reshape(-1))
    return LabelMap(voxels, labels.affine, labels.labels)


def measured(labels: VoxelLabels) -> tuple[Int64Array, Int64Array]:
    """(256,) voxels, and (256, 3, 2) half-open index box along (slice, row, column), of each label value."""
    voxels, boxes = np.zeros(MAX_LABEL + 1, dtype=np.int64), np.zeros((MAX_LABEL + 1, 3, 2), dtype=np.int64)
    _measure_runs(labels.start, labels.length, labels.value, labels.shape[1], labels.shape[2], voxels, boxes)
    return voxels, boxes


def centres(labels: VoxelLabels) -> FloatArray:
    """(256, 3) mean (column, row, slice) index of each label value; not a number where it has no voxels."""
    _, rows, columns = labels.shape
    row, column = np.divmod(labels.start.astype(np.int64), columns)
    slice_, row = np.divmod(row, rows)
    length = labels.length.astype(np.float64)
    count = np.bincount(labels.value, weights=length, minlength=MAX_LABEL + 1)
    places = (column + 0.5 * (length - 1.0), row, slice_)
    sums = [np.bincount(labels.value, weights=length * place, minlength=MAX_LABEL + 1) for place in places]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.stack(sums, axis=1) / count[:, None])


def packed_labels(voxels: LabelArray, values: tuple[int, ...], first: tuple[int, int, int], shape: tuple[int, ...]) -> Words:
    """Where a label map has one of ``values``, in the box of ``shape`` whose first voxel is ``first``, packed."""
    wanted = np.zeros(MAX_LABEL + 1, dtype=np.bool_)
    wanted[list(values)] = True
    wanted[0] = False
    words = np.zeros((*shape[:2], -(-shape[2] // 64)), dtype=np.uint64)
    if not wanted.any():
        return words
    _pack(np.ascontiguousarray(voxels), np.array(first, dtype=np.int64), wanted, words)
    tail = shape[2] % 64
    if tail:
        words[:, :, -1] &= np.uint64((1 << tail) - 1)
    return words
