"""Compiled kernels of the check by layer: layers as runs of material along rows, what overlaps what, and how far it reaches."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from batchone.pipeline.values import FloatArray, IntArray


@njit("Tuple((i8[::1], f8[:, ::1]))(i8[::1], f8[::1], i1[::1])", cache=True, nogil=True)
def _merged(
    start: npt.NDArray[np.int64], cross_x: FloatArray, cross_way: npt.NDArray[np.int8]
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Crossings of each row, ascending, to runs of material: where more contours were entered than left."""
    slots = start.shape[0] - 1
    first = np.zeros(slots + 1, np.int64)
    runs = np.empty((cross_x.shape[0] // 2 + 1, 2), np.float64)
    count = 0
    for slot in range(slots):
        winding = 0
        for k in range(start[slot], start[slot + 1]):
            was = winding
            winding += cross_way[k]
            if was <= 0 < winding:
                runs[count, 0] = cross_x[k]
            elif winding <= 0 < was and cross_x[k] > runs[count, 0]:
                runs[count, 1] = cross_x[k]
                count += 1
        first[slot + 1] = count
    return first, runs[:count].copy()


@njit("Tuple((i8[::1], f8[:, ::1]))(f8[:, ::1], i8[::1], i4[::1], i8, f8, f8, i8)", cache=True, nogil=True)
def runs_of(
    points_mm: FloatArray,
    loop_start: npt.NDArray[np.int64],
    loop_layer: IntArray,
    layers: int,
    y_mm: float,
    row_mm: float,
    rows: int,
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Material along the rows ``y_mm + row * row_mm`` of each layer, whatever contours overlap.

    Returns
    -------
    start
        (layers * rows + 1,) int64 offsets.
    runs
        (n, 2) from x to x, mm, ascending and apart in each row.
    """
    start = np.zeros(layers * rows + 1, np.int64)
    place = np.empty(points_mm.shape[0], np.float64)
    for p in range(points_mm.shape[0]):
        place[p] = (points_mm[p, 1] - y_mm) / row_mm
    cross_x = np.empty(0, np.float64)
    cross_way = np.empty(0, np.int8)
    at = start
    for turn in range(2):  # first crossings are counted, then written
        for i in range(loop_start.shape[0] - 1):
            base = loop_layer[i] * rows
            last = loop_start[i + 1] - 1
            before = last
            for p in range(loop_start[i], last + 1):
                one, other = place[before], place[p]
                low, high = math.ceil(min(one, other)), math.ceil(max(one, other))
                for row in range(max(low, 0), min(high, rows)):
                    if turn == 0:
                        start[base + row + 1] += 1
                        continue
                    share = (row - one) / (other - one)
                    x = points_mm[before, 0] + share * (points_mm[p, 0] - points_mm[before, 0])
                    k = at[base + row]
                    while k > start[base + row] and cross_x[k - 1] > x:
                        cross_x[k], cross_way[k] = cross_x[k - 1], cross_way[k - 1]
                        k -= 1
                    cross_x[k] = x
                    cross_way[k] = -1 if other > one else 1
                    at[base + row] += 1
                before = p
        if turn == 0:
            for slot in range(layers * rows):
                start[slot + 1] += start[slot]
            cross_x = np.empty(start[-1], np.float64)
            cross_way = np.empty(start[-1], np.int8)
            at = start[:-1].copy()
    return _merged(start, cross_x, cross_way)


@njit("i8(i8[::1], i8)", cache=True, nogil=True)
def _root(parent: npt.NDArray[np.int64], n: int) -> int:
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


@njit("void(i8[::1], f8[:, ::1], i8, i8, b1, i8[::1], b1[::1])", cache=True, nogil=True)
def _meet(
    start: npt.NDArray[np.int64], runs: FloatArray, slot: int, beside: int, join: bool,
    parent: npt.NDArray[np.int64], carried: npt.NDArray[np.bool_],
) -> None:  # fmt: skip
    """Walk two rows together: runs that overlap are joined to one piece, or else those of the first are carried."""
    k, n = start[slot], start[beside]
    while k < start[slot + 1] and n < start[beside + 1]:
        if min(runs[k, 1], runs[n, 1]) > max(runs[k, 0], runs[n, 0]):
            if join:
                a, b = _root(parent, k), _root(parent, n)
                parent[max(a, b)] = min(a, b)
            else:
                carried[k] = True
        if runs[n, 1] < runs[k, 1]:
            n += 1
        else:
            k += 1


@njit("f8[:, ::1](i8[::1], f8[:, ::1], i8, i8, f8, f8)", cache=True, nogil=True)
def islands_of(start: npt.NDArray[np.int64], runs: FloatArray, layers: int, rows: int, y_mm: float, row_mm: float) -> FloatArray:
    """Pieces of a layer, the first one apart, that overlap nothing of the layer below: (n, 4) layer, x, y mm, area mm2."""
    parent = np.arange(runs.shape[0])
    carried = np.zeros(runs.shape[0], np.bool_)
    for layer in range(layers):
        for row in range(rows):
            slot = layer * rows + row
            for turn in range(2):
                if (row, layer)[turn] == 0:
                    continue
                beside = slot - 1 if turn == 0 else slot - rows
                _meet(start, runs, slot, beside, turn == 0, parent, carried)
    area = np.zeros(runs.shape[0], np.float64)
    for k in range(runs.shape[0]):
        root = _root(parent, k)
        carried[root] |= carried[k]
        area[root] += (runs[k, 1] - runs[k, 0]) * row_mm
    found = np.empty((runs.shape[0], 4), np.float64)
    count = 0
    for slot in range(rows, layers * rows):
        for k in range(start[slot], start[slot + 1]):
            if parent[k] == k and not carried[k]:
                found[count, 0] = slot // rows
                found[count, 1] = 0.5 * (runs[k, 0] + runs[k, 1])
                found[count, 2] = y_mm + (slot % rows) * row_mm
                found[count, 3] = area[k]
                count += 1
    return found[:count].copy()
