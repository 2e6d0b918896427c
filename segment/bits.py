"""Masks with one bit per voxel: packing, and dilation, erosion and closing by a ball.

A mask is a (slices, rows, words) uint64 array; bit ``b`` of word ``w`` is column ``64 * w + b``. A ball becomes, for every
row offset, a half width in columns: rows are joined in whole words, the widest first, and widened column by column.
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
_ROWS = nb.types.Array(nb.int64, 2, "C", readonly=True)
_NONE, _ALL = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
_EIGHT = np.uint64(0x0102040810204080)  # times eight bytes of 0 or 1: the product's upper byte has them as bits, the first lowest


@nb.njit(nb.void(_HU, nb.int16, nb.uint64[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _pack_above(hu: HuArray, level_hu: int, words: Words) -> None:
    for z in nb.prange(hu.shape[0]):
        row = np.zeros(64 * words.shape[2], dtype=np.uint8)
        eights = row.view(np.uint64)
        for y in range(hu.shape[1]):
            for x in range(hu.shape[2]):
                row[x] = hu[z, y, x] > level_hu
            for w in range(words.shape[2]):
                word = nb.uint64(0)
                for k in range(8):
                    word |= ((eights[8 * w + k] * _EIGHT) >> nb.uint64(56)) << nb.uint64(8 * k)
                words[z, y, w] = word


@nb.njit(nb.void(nb.types.Array(nb.boolean, 3, "C", readonly=True), nb.uint64[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _pack(mask: BoolArray, words: Words) -> None:
    for z in nb.prange(mask.shape[0]):
        row = np.zeros(64 * words.shape[2], dtype=np.uint8)
        eights = row.view(np.uint64)
        for y in range(mask.shape[1]):
            for x in range(mask.shape[2]):
                row[x] = mask[z, y, x]
            for w in range(words.shape[2]):
                word = nb.uint64(0)
                for k in range(8):
                    word |= ((eights[8 * w + k] * _EIGHT) >> nb.uint64(56)) << nb.uint64(8 * k)
                words[z, y, w] = word


@nb.njit(nb.void(_WORDS, nb.boolean[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _unpack(words: Words, mask: BoolArray) -> None:
    for z in nb.prange(mask.shape[0]):
        for y in range(mask.shape[1]):
            for w in range(words.shape[2]):
                word, part = words[z, y, w], mask[z, y, 64 * w : 64 * w + 64]
                if word == 0:
                    part[:] = False
                    continue
                for b in range(part.shape[0]):
                    part[b] = (word >> nb.uint64(b)) & nb.uint64(1)


@nb.njit(nb.void(nb.int16[:, :, ::1], _WORDS, nb.int64), parallel=True, cache=True, nogil=True)
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


@nb.njit(nb.void(_WORDS, nb.int64[::1], nb.uint64[:, :, ::1]), parallel=True, cache=True, nogil=True)
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


@nb.njit(nb.void(nb.uint64[:, ::1], nb.uint64), cache=True, nogil=True)
def _widen(layer: Words, tail: int) -> None:
    """Dilate the rows of a layer by one column to both sides, in place."""
    one, last = nb.uint64(1), nb.uint64(63)
    count = layer.shape[1]
    for y in range(layer.shape[0]):
        layer[y, count - 1] &= tail
        before = nb.uint64(0)
        for w in range(count):
            here = layer[y, w]
            following = layer[y, w + 1] & one if w + 1 < count else nb.uint64(0)
            layer[y, w] = here | (here << one) | (here >> one) | (before >> last) | (following << last)
            before = here


@nb.njit(nb.void(_WORDS, _ROWS, nb.uint64, nb.uint64, nb.uint64[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _dilate(words: Words, rows: npt.NDArray[np.int64], flip: int, tail: int, out: Words) -> None:
    """Dilate by a ball given as rows (slice offset, row offset, half width), widest first; all bits of ``flip``: the complement.

    A row of half width h holds those of every smaller one, so each is joined once, before the widenings that are left for it.
    """
    slices, height, count = words.shape
    for z in nb.prange(slices):
        layer = out[z]
        layer[:] = 0
        flat = layer.reshape(-1)
        k = 0
        for d in range(rows[0, 2], -1, -1):
            while k < rows.shape[0] and rows[k, 2] == d:
                i, shift = z + rows[k, 0], rows[k, 1]
                k += 1
                if i < 0 or i >= slices or abs(shift) >= height:
                    continue
                size = (height - abs(shift)) * count
                here = flat[max(-shift, 0) * count : max(-shift, 0) * count + size]
                there = words[i].reshape(-1)[max(shift, 0) * count : max(shift, 0) * count + size]
                for n in range(size):
                    here[n] |= there[n] ^ flip
            if d > 0:
                _widen(layer, tail)
        for y in range(height):
            for w in range(count):
                layer[y, w] ^= flip
            layer[y, count - 1] &= tail


@nb.njit(nb.int64(_WORDS), parallel=True, cache=True, nogil=True)
def counted(words: Words) -> int:
    """Number of set voxels."""
    total = 0
    for z in nb.prange(words.shape[0]):
        own = nb.uint64(0)
        for y in range(words.shape[1]):
            for w in range(words.shape[2]):  # pairs, fours, bytes, and the bytes' sum
                n = words[z, y, w]
                n -= (n >> nb.uint64(1)) & nb.uint64(0x5555555555555555)
                n = (n & nb.uint64(0x3333333333333333)) + ((n >> nb.uint64(2)) & nb.uint64(0x3333333333333333))
                n = (n + (n >> nb.uint64(4))) & nb.uint64(0x0F0F0F0F0F0F0F0F)
                own += (n * nb.uint64(0x0101010101010101)) >> nb.uint64(56)
        total += nb.int64(own)
    return total


def packed_above(hu: HuArray, level_hu: float) -> Words:
    """Pack ``hu > level_hu``; ``hu`` is (slices, rows, columns) int16."""
    words = np.empty((*hu.shape[:2], -(-hu.shape[2] // 64)), dtype=np.uint64)
    _pack_above(np.ascontiguousarray(hu), np.int16(np.clip(np.floor(level_hu), -32768, 32767)), words)
    return words


def packed(mask: BoolArray) -> Words:
    """Pack a (slices, rows, columns) boolean mask."""
    words = np.empty((*mask.shape[:2], -(-mask.shape[2] // 64)), dtype=np.uint64)
    _pack(np.ascontiguousarray(mask), words)
    return words


def unpacked(words: Words, columns: int) -> BoolArray:
    """The (slices, rows, columns) boolean mask of packed words."""
    mask = np.empty((*words.shape[:2], columns), dtype=np.bool_)
    _unpack(words, mask)
    return mask


def moved(words: Words, first: tuple[int, int, int], shape: tuple[int, ...]) -> Words:
    """The box of ``shape`` whose first voxel is ``first`` (slice, row, column) of a packed mask; 0 outside the mask."""
    out = np.zeros((*shape[:2], -(-shape[2] // 64)), dtype=np.uint64)
    _move(words, np.array(first, dtype=np.int64), out)
    out[:, :, -1] &= last_bits(shape[2])
    return out


def put(values: HuArray, where: Words, value: int) -> None:
    """Write ``value`` into an int16 array where the packed mask is set (in place)."""
    _put(values, where, value)


def inverted(words: Words, columns: int) -> Words:
    """All other voxels; bits past the last column stay 0."""
    out = ~words
    out[:, :, -1] &= last_bits(columns)
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


def ball_rows(half_widths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A ball given by :func:`ball` as (n, 3) rows: slice offset, row offset, half width in columns; widest first."""
    dz, dy = np.nonzero(half_widths >= 0)
    reach_z, reach_y = (n // 2 for n in half_widths.shape)
    rows = np.stack([dz - reach_z, dy - reach_y, half_widths[dz, dy]], axis=1).astype(np.int64)
    return np.ascontiguousarray(rows[np.argsort(-rows[:, 2], kind="stable")])


def dilated(words: Words, columns: int, half_widths: npt.NDArray[np.int64]) -> Words:
    """Dilate by a ball given by :func:`ball`; outside the volume there is nothing."""
    out = np.empty_like(words)
    _dilate(np.ascontiguousarray(words), ball_rows(half_widths), _NONE, last_bits(columns), out)
    return out


def eroded(words: Words, columns: int, half_widths: npt.NDArray[np.int64]) -> Words:
    """Erode by a ball; outside the volume counts as filled."""
    out = np.empty_like(words)
    _dilate(np.ascontiguousarray(words), ball_rows(half_widths), _ALL, last_bits(columns), out)
    return out


def last_bits(columns: int) -> np.uint64:
    """The bits of a row's last word that are columns."""
    return np.uint64((1 << (columns % 64)) - 1) if columns % 64 else _ALL


def closed(words: Words, columns: int, half_widths: npt.NDArray[np.int64]) -> Words:
    """Close by a ball. Exact where the mask keeps the ball's reach away from the volume's sides."""
    return eroded(dilated(words, columns, half_widths), columns, half_widths)
