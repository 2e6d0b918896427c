"""Masks with one bit per voxel: packing, and dilation, erosion and closing by a ball.

A mask is a (slices, rows, words) uint64 array; bit ``b`` of word ``w`` is column ``64 * w + b``. A ball becomes, for every
row offset, a half width in columns: a row is widened once per half width that occurs, then whole words are combined.
Every kernel's ``prange`` runs over slices and writes its own slice only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from batchone.pipeline.values import HuArray

Words = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_WORDS = nb.types.Array(nb.uint64, 3, "C", readonly=True)
_WIDE = nb.types.Array(nb.uint64, 4, "C", readonly=True)


@nb.njit(nb.void(_HU, nb.int64, nb.uint64[:, :, ::1]), parallel=True, cache=True)
def _pack_above(hu: HuArray, level_hu: int, words: Words) -> None:
    for z in nb.prange(hu.shape[0]):
        for y in range(hu.shape[1]):
            for w in range(words.shape[2]):
                first = 64 * w
                count = min(64, hu.shape[2] - first)
                word = nb.uint64(0)
                for b in range(count):
                    word |= nb.uint64(hu[z, y, first + b] > level_hu) << nb.uint64(b)
                words[z, y, w] = word


@nb.njit(nb.void(_WORDS, nb.boolean[:, :, ::1]), parallel=True, cache=True)
def _unpack(words: Words, mask: BoolArray) -> None:
    for z in nb.prange(mask.shape[0]):
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                mask[z, y, x] = (words[z, y, x >> 6] >> nb.uint64(x & 63)) & nb.uint64(1)


@nb.njit(nb.void(nb.int16[:, :, ::1], _WORDS, nb.int64), parallel=True, cache=True)
def _put(values: HuArray, words: Words, value: int) -> None:
    for z in nb.prange(values.shape[0]):
        for y in range(values.shape[1]):
            for w in range(words.shape[2]):
                word = words[z, y, w]
                x = 64 * w
                while word != 0:
                    if word & nb.uint64(1) != 0:
                        values[z, y, x] = value
                    word = word >> nb.uint64(1)
                    x += 1


@nb.njit(nb.void(_WORDS, nb.int64[::1], nb.uint64[:, :, ::1]), parallel=True, cache=True)
def _move(words: Words, first: npt.NDArray[np.int64], out: Words) -> None:
    """Fill ``out`` from ``words`` such that its voxel 0 is voxel ``first`` of ``words``; 0 outside."""
    for k in nb.prange(out.shape[0]):
        z = k + first[0]
        if z < 0 or z >= words.shape[0]:
            continue
        for j in range(out.shape[1]):
            y = j + first[1]
            if y < 0 or y >= words.shape[1]:
                continue
            for i in range(out.shape[2]):
                w, shift = (64 * i + first[2]) >> 6, nb.uint64((64 * i + first[2]) & 63)
                if 0 <= w < words.shape[2]:
                    out[k, j, i] = words[z, y, w] >> shift
                if shift != 0 and 0 <= w + 1 < words.shape[2]:
                    out[k, j, i] |= words[z, y, w + 1] << (nb.uint64(64) - shift)


@nb.njit(nb.void(_WORDS, nb.int64[::1], nb.uint64[:, :, :, ::1]), parallel=True, cache=True)
def _widen(words: Words, widths: npt.NDArray[np.int64], wide: Words) -> None:
    """Fill ``wide[k]`` with each row dilated by ``widths[k]`` columns (ascending) to both sides."""
    one, last = nb.uint64(1), nb.uint64(63)
    count = words.shape[2]
    for z in nb.prange(words.shape[0]):
        row = np.empty(count, dtype=np.uint64)
        new = np.empty(count, dtype=np.uint64)
        for y in range(words.shape[1]):
            some = False
            for w in range(count):
                row[w] = words[z, y, w]
                some |= row[w] != 0
            if not some:
                continue
            done = 0
            for k in range(widths.shape[0]):
                while done < widths[k]:
                    for w in range(count):
                        word = row[w] | (row[w] << one) | (row[w] >> one)
                        if w > 0:
                            word |= row[w - 1] >> last
                        if w + 1 < count:
                            word |= row[w + 1] << last
                        new[w] = word
                    row, new = new, row
                    done += 1
                for w in range(count):
                    wide[k, z, y, w] = row[w]


@nb.njit(
    nb.void(nb.types.Array(nb.uint64, 4, "C", readonly=True), nb.int64[:, ::1], nb.uint64[:, :, ::1]), parallel=True, cache=True
)
def _gather(wide: Words, table: npt.NDArray[np.int64], out: Words) -> None:
    """Combine rows: ``table[dz, dy]`` is the index of the widening at that offset, -1 for none."""
    reach_z, reach_y = table.shape[0] // 2, table.shape[1] // 2
    for z in nb.prange(out.shape[0]):
        for y in range(out.shape[1]):
            for dz in range(-reach_z, reach_z + 1):
                if z + dz < 0 or z + dz >= out.shape[0]:
                    continue
                for dy in range(-reach_y, reach_y + 1):
                    k = table[dz + reach_z, dy + reach_y]
                    if k < 0 or y + dy < 0 or y + dy >= out.shape[1]:
                        continue
                    for w in range(out.shape[2]):
                        out[z, y, w] |= wide[k, z + dz, y + dy, w]


def packed_above(hu: HuArray, level_hu: float) -> Words:
    """Pack ``hu > level_hu``; ``hu`` is (slices, rows, columns) int16."""
    words = np.empty((*hu.shape[:2], -(-hu.shape[2] // 64)), dtype=np.uint64)
    _pack_above(np.ascontiguousarray(hu), int(np.floor(level_hu)), words)
    return words


def packed(mask: BoolArray) -> Words:
    """Pack a (slices, rows, columns) boolean mask."""
    return packed_above(mask.astype(np.int16), 0.0)


def unpacked(words: Words, columns: int) -> BoolArray:
    """The (slices, rows, columns) boolean mask of packed words."""
    mask = np.empty((*words.shape[:2], columns), dtype=np.bool_)
    _unpack(words, mask)
    return mask


def moved(words: Words, first: tuple[int, int, int], shape: tuple[int, ...]) -> Words:
    """The box of ``shape`` whose first voxel is ``first`` (slice, row, column) of a packed mask; 0 outside the mask."""
    out = np.zeros((*shape[:2], -(-shape[2] // 64)), dtype=np.uint64)
    _move(words, np.array(first, dtype=np.int64), out)
    return inverted(inverted(out, shape[2]), shape[2])


def put(values: HuArray, where: Words, value: int) -> None:
    """Write ``value`` into an int16 array where the packed mask is set (in place)."""
    _put(values, where, value)


def inverted(words: Words, columns: int) -> Words:
    """All other voxels; bits past the last column stay 0."""
    out = ~words
    tail = columns % 64
    if tail:
        out[:, :, -1] &= np.uint64((1 << tail) - 1)
    return np.ascontiguousarray(out)


def ball(radius_mm: float, spacing_mm: tuple[float, float, float]) -> npt.NDArray[np.int64]:
    """Half widths, in columns, of a ball on the grid: (2 * reach_z + 1, 2 * reach_y + 1), -1 outside the ball.

    ``spacing_mm`` is along (column, row, slice). A voxel belongs to the ball when its centre does.
    """
    step_x, step_y, step_z = spacing_mm
    slack = 1e-9 * radius_mm  # rounding: an offset of exactly the radius is inside
    reach_z, reach_y = int((radius_mm + slack) / step_z), int((radius_mm + slack) / step_y)
    dz = np.arange(-reach_z, reach_z + 1)[:, None] * step_z
    dy = np.arange(-reach_y, reach_y + 1)[None, :] * step_y
    rest = (radius_mm + slack) ** 2 - dz**2 - dy**2
    half = np.floor(np.sqrt(np.maximum(rest, 0.0)) / step_x).astype(np.int64)
    return np.where(rest >= 0.0, half, -1)


def dilated(words: Words, columns: int, half_widths: npt.NDArray[np.int64]) -> Words:
    """Dilate by a ball given by :func:`ball`; outside the volume there is nothing."""
    widths = np.unique(half_widths[half_widths >= 0])
    wide = np.zeros((len(widths), *words.shape), dtype=np.uint64)
    _widen(words, widths, wide)
    table = np.where(half_widths >= 0, np.searchsorted(widths, np.maximum(half_widths, 0)), -1).astype(np.int64)
    out = np.zeros_like(words)
    _gather(wide, np.ascontiguousarray(table), out)
    return inverted(inverted(out, columns), columns)


def eroded(words: Words, columns: int, half_widths: npt.NDArray[np.int64]) -> Words:
    """Erode by a ball; outside the volume counts as filled."""
    return inverted(dilated(inverted(words, columns), columns, half_widths), columns)


def closed(words: Words, columns: int, half_widths: npt.NDArray[np.int64]) -> Words:
    """Close by a ball. Exact where the mask keeps the ball's reach away from the volume's sides."""
    return eroded(dilated(words, columns, half_widths), columns, half_widths)
