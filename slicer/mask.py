"""The compiled part of layer images: how much of each pixel some contours cover, as runs of equal bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, types

from batchone.pipeline.values import FloatArray

Grey = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_POINTS = types.Array(types.float64, 2, "C", readonly=True)
_STARTS = types.Array(types.int64, 1, "C", readonly=True)
_BYTES = types.Array(types.uint8, 1, "C", readonly=True)


@njit("i8(i4[::1], f8[::1], i8, b1, i8, f8)", cache=True, nogil=True)
def _put(column: npt.NDArray[np.int32], change: FloatArray, at: int, keep: bool, where: int, value: float) -> int:
    if keep:
        column[at], change[at] = where, value
    return at + 1


@njit("void(i8[::1], i4[::1], f8[::1], b1, f8, f8, f8, f8)", cache=True, nogil=True)
def _edge(
    at: Numbers, column: npt.NDArray[np.int32], change: FloatArray, keep: bool, x0: float, y0: float, x1: float, y1: float
) -> None:
    """Note what an edge changes of the cover along each row: its rise within a pixel, shared with the next by the area beside it.

    The running sum along a row is then the signed area of each pixel that lies to the right of the edge. ``at`` (rows,) counts
    the changes of a row, and is where the next is written if they are kept.
    """
    if y0 == y1:
        return
    way = 1.0
    if y0 > y1:
        x0, y0, x1, y1, way = x1, y1, x0, y0, -1.0
    slope = (x1 - x0) / (y1 - y0)
    for row in range(max(0, int(np.floor(y0))), min(at.shape[0], int(np.ceil(y1)))):  # beyond by rounding alone
        low, high = max(y0, float(row)), min(y1, row + 1.0)
        if high <= low:
            continue
        a, b = x0 + (low - y0) * slope, x0 + (high - y0) * slope
        left, right = min(a, b), max(a, b)
        first, last = int(np.floor(left)), int(np.floor(right))
        rise = way * (high - low)
        if first == last or right - left == 0.0:
            inside = first + 1.0 - 0.5 * (left + right)  # share of the first pixel that lies right of the edge
            at[row] = _put(column, change, at[row], keep, first, rise * inside)
            at[row] = _put(column, change, at[row], keep, first + 1, rise * (1.0 - inside))
            continue
        before = 0.0  # area right of the edge, summed over the pixels passed so far
        done = 0.0
        for pixel in range(first, last + 1):
            enter, leave = max(left, float(pixel)), min(right, pixel + 1.0)
            part = (leave - enter) / (right - left) * rise
            area = done + part * (pixel + 1.0 - 0.5 * (enter + leave))
            at[row] = _put(column, change, at[row], keep, pixel, area - before)
            before = area
            done += part
        at[row] = _put(column, change, at[row], keep, last + 1, rise - before)


@njit("i8(i8[::1], u1[::1], i8, i8, u1)", cache=True, nogil=True)
def _extend(length: Numbers, grey: Grey, runs: int, pixels: int, value: int) -> int:
    """Append pixels of one grey to the runs; returns how many runs there are."""
    if pixels == 0:
        return runs
    if runs > 0 and grey[runs - 1] == value:
        length[runs - 1] += pixels
        return runs
    length[runs], grey[runs] = pixels, value
    return runs + 1


@njit(
    types.Tuple((types.int64[::1], types.uint8[::1]))(
        _POINTS, _STARTS, types.float64, types.float64, types.float64, types.int64, types.int64
    ),
    cache=True,
    nogil=True,
)
def shaded(
    points_mm: FloatArray, starts: Numbers, left_mm: float, top_mm: float, pixel_mm: float, rows: int, columns: int
) -> tuple[Numbers, Grey]:
    """The share of each pixel that contours cover: 0 none, 255 all of it, rounded.

    Parameters
    ----------
    points_mm, starts
        (p, 2) and (l + 1,): contours, outer ones counter-clockwise, holes clockwise, all inside of the image.
    left_mm, top_mm
        Place of the image's upper left corner: columns run along x, rows against y.
    pixel_mm
        Side of a pixel.
    rows, columns
        Pixels of the image.

    Returns
    -------
    tuple
        Length (r,) and grey (r,) of its runs, row after row, with one black pixel more before each row.
    """
    start = np.zeros(rows + 1, np.int64)
    column, change = np.empty(0, np.int32), np.empty(0, np.float64)
    for turn in range(2):  # first changes are counted, then kept
        at = start[1:] if turn == 0 else start[:-1].copy()
        for loop in range(starts.shape[0] - 1):
            before = starts[loop + 1] - 1
            for p in range(starts[loop], starts[loop + 1]):
                _edge(
                    at, column, change, turn == 1,
                    (points_mm[before, 0] - left_mm) / pixel_mm, (top_mm - points_mm[before, 1]) / pixel_mm,
                    (points_mm[p, 0] - left_mm) / pixel_mm, (top_mm - points_mm[p, 1]) / pixel_mm,
                )  # fmt: skip
                before = p
        if turn == 0:
            for row in range(rows):
                start[row + 1] += start[row]
            column, change = np.empty(start[rows], np.int32), np.empty(start[rows], np.float64)
    length, grey = np.empty(2 * start[rows] + 2 * rows, np.int64), np.empty(2 * start[rows] + 2 * rows, np.uint8)
    cover = np.zeros(columns + 2)
    runs = 0
    for row in range(rows):
        first, last = columns, -1
        for k in range(start[row], start[row + 1]):
            cover[column[k]] += change[k]
            first, last = min(first, int(column[k])), max(last, int(column[k]))
        covered, value, done = 0.0, np.uint8(0), -1
        for pixel in range(first, last + 1):
            if cover[pixel] == 0.0:
                continue
            covered += cover[pixel]
            cover[pixel] = 0.0
            if pixel < columns:
                runs = _extend(length, grey, runs, pixel - done, value)
                value, done = np.uint8(255.0 * min(max(covered, 0.0), 1.0) + 0.5), pixel
        runs = _extend(length, grey, runs, columns - done, value)
    return length[:runs].copy(), grey[:runs].copy()


@njit(types.int64(_BYTES), cache=True, nogil=True)
def summed(grey: Grey) -> int:
    """The sum of some bytes."""
    total = 0
    for k in range(grey.shape[0]):
        total += grey[k]
    return total
