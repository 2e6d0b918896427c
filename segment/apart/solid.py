"""Bones made solid: marrow and pores filled within each label, never the canal; and the way back to the scan's own voxels."""

from __future__ import annotations

from functools import partial

import numba as nb
import numpy as np
from scipy.ndimage import binary_fill_holes, find_objects

from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import Scan
from batchone.segment.apart.canal import Canal
from batchone.segment.apart.grid import BoolArray, LabelArray, WorkVolume, labels_on_scan
from batchone.segment.apart.table import CANAL_FREE_MM, CLOSE_MM, CLOSE_SHARE, HOLLOW_CLOSE_SHARE
from batchone.segment.bits import Words, ball, closed, inverted, last_bits, packed, unpacked
from batchone.segment.runs import Int64Array, labelled

_LABELS = nb.types.Array(nb.uint8, 3, "C", readonly=True)
_WORDS = nb.types.Array(nb.uint64, 3, "C", readonly=True)
_ROW = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_MASK = nb.types.Array(nb.boolean, 3, "C", readonly=True)


@nb.njit(nb.void(_LABELS, nb.uint8[:, :, ::1], nb.uint8[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _rim_and_core(labels: LabelArray, grown: LabelArray, core: LabelArray) -> None:
    """Labels with a rim of one voxel more, and without their outer voxels."""
    nz, ny, nx = labels.shape
    for p in nb.prange(nz):
        z = nb.int64(p)
        for y in range(ny):
            for x in range(nx):
                own = labels[z, y, x]
                around, inner = own, True
                for d in range(6):
                    k, j, i = z, y, x
                    shift = 1 if d & 1 else -1
                    if d < 2:
                        i += shift
                    elif d < 4:
                        j += shift
                    else:
                        k += shift
                    if i < 0 or j < 0 or k < 0 or i >= nx or j >= ny or k >= nz:
                        continue
                    near = labels[k, j, i]
                    if near == 0:
                        inner = False
                    elif around == 0:
                        around = near
                grown[z, y, x] = around
                core[z, y, x] = own if inner else nb.uint8(0)


@nb.njit(nb.void(nb.uint64[::1], _ROW), cache=True, nogil=True)
def _spread(reached: Words, free: Words) -> None:
    """Spread along a row through what is free, in place: word by word to the right, and back."""
    count = free.shape[0]
    carry = nb.uint64(0)
    for w in range(count):  # a bit wanders up in steps of 1, 2, 4 ... 32 as long as all on its way is free
        gone, open_ = (reached[w] | carry) & free[w], free[w]
        for n in range(6):
            gone |= open_ & (gone << nb.uint64(1 << n))
            open_ &= open_ << nb.uint64(1 << n)
        reached[w] = gone
        carry = gone >> nb.uint64(63)
    carry = nb.uint64(0)
    for w in range(count - 1, -1, -1):
        gone, open_ = (reached[w] | carry) & free[w], free[w]
        for n in range(6):
            gone |= open_ & (gone >> nb.uint64(1 << n))
            open_ &= open_ >> nb.uint64(1 << n)
        reached[w] = gone
        carry = gone << nb.uint64(63)


@nb.njit(nb.void(nb.uint64[:, ::1], nb.uint64[:, ::1]), cache=True, nogil=True)
def _flood(reached: Words, free: Words) -> None:
    """Spread over a layer (rows, words) through what is free, in place: down, and up, until nothing comes to it."""
    rows = free.shape[0]
    for y in range(rows):
        _spread(reached[y], free[y])
    grown = True
    while grown:
        grown = False
        for step in range(2 * rows - 2):
            y, from_ = (step + 1, step) if step < rows - 1 else (2 * rows - 3 - step, 2 * rows - 2 - step)
            new = False
            for w in range(free.shape[1]):
                come = reached[from_, w] & free[y, w] & ~reached[y, w]
                reached[y, w] |= come
                new |= come != 0
            if new:
                _spread(reached[y], free[y])
                grown = True


@nb.njit(nb.void(_WORDS, nb.int64, nb.int64, nb.uint64[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _fill_layers(words: Words, columns: int, along: int, out: Words) -> None:
    """Holes of every layer across axis ``along`` (0 or 1) filled: what its border does not reach through empty voxels."""
    rows, count = words.shape[1 - along], words.shape[2]
    last = nb.uint64((columns - 1) & 63)
    tail = ~nb.uint64(0) >> (nb.uint64(63) - last)
    for p in nb.prange(words.shape[along]):
        layer, filled = (words[p], out[p]) if along == 0 else (words[:, p], out[:, p])
        free, reached = np.empty((rows, count), dtype=np.uint64), np.zeros((rows, count), dtype=np.uint64)
        for y in range(rows):
            for w in range(count):
                free[y, w] = ~layer[y, w]
            free[y, count - 1] &= tail
            reached[y, 0] |= nb.uint64(1)
            reached[y, count - 1] |= nb.uint64(1) << last
        reached[0], reached[rows - 1] = free[0], free[rows - 1]
        _flood(reached, free)
        for y in range(rows):
            for w in range(count):
                filled[y, w] = ~reached[y, w]
            filled[y, count - 1] &= tail


@nb.njit(nb.void(_WORDS, nb.uint64, nb.uint64[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _fill_columns(words: Words, tail: int, out: Words) -> None:
    """The same for the layers across columns, 64 of them at once: bit ``b`` of a word is its place in layer ``b``."""
    slices, rows, count = words.shape
    for p in nb.prange(count):
        free, reached = np.empty((slices, rows), dtype=np.uint64), np.zeros((slices, rows), dtype=np.uint64)
        for z in range(slices):
            for y in range(rows):
                free[z, y] = ~words[z, y, p]
        reached[0], reached[slices - 1], reached[:, 0], reached[:, rows - 1] = (
            free[0],
            free[slices - 1],
            free[:, 0],
            free[:, rows - 1],
        )
        grown = True
        while grown:
            grown = False
            for step in range(2 * slices - 1):  # down, and up
                z = step if step < slices else 2 * slices - 2 - step
                from_ = z - 1 if step < slices else z + 1
                for y in range(rows):
                    come = reached[z, y]
                    if from_ >= 0:
                        come |= reached[from_, y]
                    if y > 0:
                        come |= reached[z, y - 1]
                    come &= free[z, y]
                    grown |= come != reached[z, y]
                    reached[z, y] = come
                for y in range(rows - 2, -1, -1):
                    come = reached[z, y] | (reached[z, y + 1] & free[z, y])
                    grown |= come != reached[z, y]
                    reached[z, y] = come
        last = tail if p == count - 1 else ~nb.uint64(0)
        for z in range(slices):
            for y in range(rows):
                out[z, y, p] = ~reached[z, y] & last


def layers_filled(words: Words, columns: int, axis: int) -> Words:
    """Holes of every layer of a packed mask across an axis filled: what its border does not reach through empty voxels."""
    out = np.empty_like(words)
    if axis == 2:
        _fill_columns(words, last_bits(columns), out)
    else:
        _fill_layers(words, columns, axis, out)
    return out


def canal_tube(volume: WorkVolume, canal: Canal) -> BoolArray:
    """The inside of the spinal canal, a tube round its middle."""
    out = np.zeros(volume.hu.shape, dtype=np.bool_)
    reach = int(np.ceil(CANAL_FREE_MM / volume.step_mm))
    offsets = np.argwhere(np.ones((2 * reach + 1,) * 3)) - reach
    offsets = offsets[np.linalg.norm(offsets, axis=1) * volume.step_mm <= CANAL_FREE_MM]
    index = np.rint(canal.points_mm[:, None] / volume.step_mm).astype(np.int64) + offsets[None]
    flat = index.reshape(-1, 3)
    inside = np.all((flat >= 0) & (flat < np.array(out.shape)), axis=1)
    out[tuple(flat[inside].T)] = True
    return out


@nb.njit(nb.void(_WORDS, nb.int64[::1], nb.uint8, _MASK, nb.uint8[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _give(words: Words, first: Int64Array, value: int, free: BoolArray, labels: LabelArray) -> None:
    """Give the unlabelled voxels of a packed mask, whose voxel 0 is ``first``, a value; none that is ``free``."""
    for k in nb.prange(words.shape[0]):
        z = k + first[0]
        if z < 0 or z >= labels.shape[0]:
            continue
        for j in range(words.shape[1]):
            y = j + first[1]
            if y < 0 or y >= labels.shape[1]:
                continue
            for w in range(words.shape[2]):
                word, x = words[k, j, w], 64 * w + first[2]
                while word != 0:
                    if word & nb.uint64(1) != 0 and 0 <= x < labels.shape[2] and labels[z, y, x] == 0 and not free[z, y, x]:
                        labels[z, y, x] = value
                    word = word >> nb.uint64(1)
                    x += 1


def filled_labels(labels: LabelArray, volume: WorkVolume, free: BoolArray, hollow: frozenset[int]) -> LabelArray:
    """Each label closed over ``CLOSE_MM`` and its holes filled, where no other label and no ``free`` space is.

    ``hollow`` labels have thinner shells and are closed wider where the scan is coarse. Per bone, so that what two bones
    enclose together (foramina between vertebrae, a joint) stays open.
    """
    boxes = [(value, box) for value, box in enumerate(find_objects(labels), start=1) if box is not None]

    def filled(value: int, box: tuple[slice, ...]) -> tuple[Words, Int64Array]:
        radius_mm = max(CLOSE_MM, (HOLLOW_CLOSE_SHARE if value in hollow else CLOSE_SHARE) * volume.coarse_mm)
        return _filled(labels, value, box, radius_mm, volume.step_mm)

    out = labels.copy()
    found = side_by_side([partial(filled, value, box) for value, box in boxes])
    for (value, _), (solid, first) in zip(boxes, found, strict=True):
        _give(solid, first, value, free, out)
    return out


def _filled(labels: LabelArray, value: int, box: tuple[slice, ...], radius_mm: float, step_mm: float) -> tuple[Words, Int64Array]:
    """A label closed by a ball and without holes, packed, in a box round it; and the index of the box's first voxel."""
    margin = int(np.ceil(radius_mm / step_mm)) + 2
    wide = tuple(slice(max(0, e.start - margin), min(n, e.stop + margin)) for e, n in zip(box, labels.shape, strict=True))
    own = np.pad(labels[wide] == value, margin, mode="edge")
    solid = unpacked(closed(packed(own), own.shape[2], ball(radius_mm, (step_mm,) * 3)), own.shape[2]) | own
    at_end = [(e.start == 0, e.stop == n) for e, n in zip(wide, labels.shape, strict=True)]
    full = _without_holes(packed(_with_lids(solid, margin, at_end)), own.shape[2])
    return full, np.array([e.start - margin for e in wide])


def _with_lids(solid: BoolArray, margin: int, at_end: list[tuple[bool, bool]]) -> BoolArray:
    """The margin of a padded bone: nothing, but a lid where the scan cuts the bone, so that its marrow counts as enclosed."""
    out = solid
    for axis, ends in enumerate(at_end):
        for side, cut in enumerate(ends):
            where: list[slice | int] = [slice(None)] * 3
            where[axis] = margin if side == 0 else solid.shape[axis] - margin - 1
            lid = np.expand_dims(np.asarray(binary_fill_holes(out[tuple(where)])), axis) if cut else False
            where[axis] = slice(0, margin) if side == 0 else slice(solid.shape[axis] - margin, None)
            out[tuple(where)] = lid
    return out


def _without_holes(solid: Words, columns: int) -> Words:
    """Cavities filled: those closed in space, and those closed in the slices along two of three axes."""
    runs = labelled(inverted(solid, columns), columns)
    boxes = runs.measured()[1]
    closed_ones = np.all((boxes[:, :, 0] > 0) & (boxes[:, :, 1] < np.array(runs.shape)), axis=1)
    whole = solid | runs.painted(closed_ones)
    one, two, three = (layers_filled(whole, columns, axis) for axis in range(3))
    return np.asarray(whole | (one & two) | (three & (one | two)))


def on_scan(labels: LabelArray, volume: WorkVolume, scan: Scan, bone_hu: float) -> LabelArray:
    """Labels on the scan's own voxels: near their surface the scan's own value decides."""
    grown, core = np.empty_like(labels), np.empty_like(labels)
    _rim_and_core(labels, grown, core)
    return labels_on_scan(grown, core, volume, scan, bone_hu)
