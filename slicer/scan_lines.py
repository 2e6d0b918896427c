"""The compiled part of hatching: parallel lines through contours, ended where a disc first touches one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, types

from batchone.pipeline.values import FloatArray

_POINTS = types.Array(types.float64, 2, "C", readonly=True)
_STARTS = types.Array(types.int64, 1, "C", readonly=True)
_TURNS = types.Array(types.float64, 1, "C", readonly=True)
_LEVEL = 1e-12  # numerical: a direction is along an axis


@njit("Tuple((f8, f8))(f8, f8, f8, f8, f8, f8)", cache=True, nogil=True)
def _shut(au: float, av: float, bu: float, bv: float, v: float, reach: float) -> tuple[float, float]:
    """From where to where the line at height ``v`` lies nearer than ``reach`` to the edge from a to b; empty as inf, -inf."""
    low, high = np.inf, -np.inf
    for eu, ev in ((au, av), (bu, bv)):
        square = reach * reach - (v - ev) * (v - ev)
        if square > 0.0:
            half = np.sqrt(square)
            low, high = min(low, eu - half), max(high, eu + half)
    du, dv = bu - au, bv - av
    length = np.sqrt(du * du + dv * dv)
    if length == 0.0:
        return low, high
    du, dv, w = du / length, dv / length, v - av
    left, right = -np.inf, np.inf
    if abs(du) > _LEVEL:  # between the ends
        one, other = au - w * dv / du, au + (length - w * dv) / du
        left, right = min(one, other), max(one, other)
    elif w * dv < 0.0 or w * dv > length:
        return low, high
    if abs(dv) > _LEVEL:  # beside the edge
        one, other = au + (w * du - reach) / dv, au + (w * du + reach) / dv
        left, right = max(left, min(one, other)), min(right, max(one, other))
    elif abs(w * du) > reach:
        return low, high
    if left < right:
        low, high = min(low, left), max(high, right)
    return low, high


@njit("void(f8[::1], f8[::1], i8, i8)", cache=True, nogil=True)
def _sort(key: FloatArray, other: FloatArray, start: int, stop: int) -> None:
    """Sort a short run by ``key``, ``other`` along with it."""
    for i in range(start + 1, stop):
        a, b, j = key[i], other[i], i
        while j > start and key[j - 1] > a:
            key[j], other[j] = key[j - 1], other[j - 1]
            j -= 1
        key[j], other[j] = a, b


@njit("f8[:, ::1](f8[:, ::1], i8)", cache=True, nogil=True)
def _longer(rows: FloatArray, used: int) -> FloatArray:
    """Room for twice as many rows."""
    grown = np.empty((2 * rows.shape[0], rows.shape[1]))
    grown[:used] = rows[:used]
    return grown


@njit("Tuple((f8[:, ::1], i8))(f8[:, ::1], i8, f8, f8, f8, f8, f8)", cache=True, nogil=True)
def _put(rows: FloatArray, used: int, left: float, right: float, v: float, least: float, stripe: float) -> tuple[FloatArray, int]:
    """Add a line as rows of stripe, height, left and right end: cut at the stripes' edges, no piece shorter than ``least``."""
    if right - left < least:
        return rows, used
    at = left
    while True:
        cut = (np.floor(at / stripe) + 1.0) * stripe if stripe < np.inf else np.inf
        if cut - at < least:
            cut += stripe
        end = right if cut > right - least else cut
        if used == rows.shape[0]:
            rows = _longer(rows, used)
        rows[used, 0] = np.floor(0.5 * (at + end) / stripe) if stripe < np.inf else 0.0
        rows[used, 1], rows[used, 2], rows[used, 3] = v, at, end
        used += 1
        if end == right:
            return rows, used
        at = end


@njit("UniTuple(i8, 2)(f8, f8, f8, f8, i8, i8)", cache=True, nogil=True)
def _reached(av: float, bv: float, reach: float, spacing: float, first: int, lines: int) -> tuple[int, int]:
    """First and last of the lines that may lie nearer than ``reach`` to an edge's heights: one more each way, for rounding."""
    begin = int(np.ceil((min(av, bv) - reach) / spacing - 0.5)) - first - 1
    end = int(np.floor((max(av, bv) + reach) / spacing - 0.5)) - first + 1
    return max(0, begin), min(lines - 1, end)


@njit("UniTuple(i8[::1], 2)(f8[:, ::1], i8[::1], f8, f8, i8, i8)", cache=True, nogil=True)
def _count(
    uv: FloatArray, starts: npt.NDArray[np.int64], spacing: float, reach: float, first: int, lines: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each line's crossings, and what is shut on it, begin."""
    crossing, shut = np.zeros(lines + 1, np.int64), np.zeros(lines + 1, np.int64)
    for loop in range(starts.shape[0] - 1):
        before = starts[loop + 1] - 1
        for p in range(starts[loop], starts[loop + 1]):
            av, bv = uv[before, 1], uv[p, 1]
            before = p
            begin, end = _reached(av, bv, reach, spacing, first, lines)
            for k in range(begin, end + 1):
                v = (first + k + 0.5) * spacing
                crossing[k + 1] += 1 if min(av, bv) <= v < max(av, bv) else 0
                shut[k + 1] += 1
    for k in range(lines):
        crossing[k + 1] += crossing[k]
        shut[k + 1] += shut[k]
    return crossing, shut


@njit("UniTuple(f8[::1], 4)(f8[:, ::1], i8[::1], f8, f8, i8, i8[::1], i8[::1])", cache=True, nogil=True)
def _met(
    uv: FloatArray,
    starts: npt.NDArray[np.int64],
    spacing: float,
    reach: float,
    first: int,
    crossing: npt.NDArray[np.int64],
    shut: npt.NDArray[np.int64],
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Where each line crosses contours, whether it enters (1) or leaves (-1), and from where to where it is shut: rising."""
    lines = crossing.shape[0] - 1
    cross_u, cross_way = np.empty(crossing[lines]), np.empty(crossing[lines])
    shut_low, shut_high = np.empty(shut[lines]), np.empty(shut[lines])
    crossing_at, shut_at = crossing[:lines].copy(), shut[:lines].copy()
    for loop in range(starts.shape[0] - 1):
        before = starts[loop + 1] - 1
        for p in range(starts[loop], starts[loop + 1]):
            au, av, bu, bv = uv[before, 0], uv[before, 1], uv[p, 0], uv[p, 1]
            before = p
            begin, end = _reached(av, bv, reach, spacing, first, lines)
            for k in range(begin, end + 1):
                v = (first + k + 0.5) * spacing
                if min(av, bv) <= v < max(av, bv):
                    cross_u[crossing_at[k]] = au + (v - av) / (bv - av) * (bu - au)
                    cross_way[crossing_at[k]] = 1.0 if bv < av else -1.0
                    crossing_at[k] += 1
                shut_low[shut_at[k]], shut_high[shut_at[k]] = _shut(au, av, bu, bv, v, reach)
                shut_at[k] += 1
    for k in range(lines):
        _sort(cross_u, cross_way, crossing[k], crossing[k + 1])
        _sort(shut_low, shut_high, shut[k], shut[k + 1])
    return cross_u, cross_way, shut_low, shut_high


@njit("Tuple((f8[:, ::1], i8))(f8[:, ::1], i8, f8, f8, f8, f8[::1], f8[::1], i8, i8, f8, f8)", cache=True, nogil=True)
def _open(
    rows: FloatArray,
    used: int,
    left: float,
    right: float,
    v: float,
    shut_low: FloatArray,
    shut_high: FloatArray,
    at: int,
    stop: int,
    least: float,
    stripe: float,
) -> tuple[FloatArray, int]:
    """Add what is open of a line between two ends."""
    while at < stop and shut_low[at] < right:
        if shut_low[at] > left:
            rows, used = _put(rows, used, left, shut_low[at], v, least, stripe)
        left = max(left, shut_high[at])
        at += 1
    return _put(rows, used, left, right, v, least, stripe)


@njit("Tuple((f8[:, ::1], i8))(f8[:, ::1], i8, f8[:, ::1], i8[::1], f8, f8, f8, f8)", cache=True, nogil=True)
def _fill(
    rows: FloatArray,
    used: int,
    uv: FloatArray,
    starts: npt.NDArray[np.int64],
    spacing: float,
    reach: float,
    least: float,
    stripe: float,
) -> tuple[FloatArray, int]:
    """Lines through the contours of one layer of one part, turned so that lines run along u; line by line, ends rising."""
    lowest, highest = np.inf, -np.inf
    for p in range(uv.shape[0]):
        lowest, highest = min(lowest, uv[p, 1]), max(highest, uv[p, 1])
    first = int(np.ceil(lowest / spacing - 0.5))
    lines = int(np.floor(highest / spacing - 0.5)) - first + 1
    if lines <= 0:
        return rows, used
    crossing, shut = _count(uv, starts, spacing, reach, first, lines)
    cross_u, cross_way, shut_low, shut_high = _met(uv, starts, spacing, reach, first, crossing, shut)
    for k in range(lines):
        winding, left = 0.0, 0.0
        for c in range(crossing[k], crossing[k + 1]):
            was = winding
            winding += cross_way[c]
            if was <= 0.0 < winding:
                left = cross_u[c]
            elif winding <= 0.0 < was:
                v = (first + k + 0.5) * spacing
                rows, used = _open(rows, used, left, cross_u[c], v, shut_low, shut_high, shut[k], shut[k + 1], least, stripe)
    return rows, used


@njit("void(f8[:, ::1], i8, i8, f8, f8, f8, f8[:, ::1])", cache=True, nogil=True)
def _in_order(rows: FloatArray, start: int, stop: int, spacing: float, cos: float, sin: float, out: FloatArray) -> None:
    """Stripe by stripe, to and fro along the lines; every other stripe is walked back, so that the next begins beside it."""
    least, most = np.inf, -np.inf
    for r in range(start, stop):
        least, most = min(least, rows[r, 0]), max(most, rows[r, 0])
    size = np.zeros(int(most - least) + 2, np.int64)
    for r in range(start, stop):
        size[int(rows[r, 0] - least) + 1] += 1
    for s in range(size.shape[0] - 1):
        size[s + 1] += size[s]
    place, order = size[:-1].copy(), np.empty(stop - start, np.int64)
    r = start
    while r < stop:
        last = r
        while last < stop and rows[last, 1] == rows[r, 1]:
            last += 1
        backward = int(np.floor(rows[r, 1] / spacing)) % 2 != 0
        for k in range(last - r):
            row = last - 1 - k if backward else r + k
            stripe = int(rows[row, 0] - least)
            order[place[stripe]] = row
            place[stripe] += 1
        r = last
    for s in range(size.shape[0] - 1):
        for k in range(size[s + 1] - size[s]):
            walked_back = s % 2 != 0
            row = order[size[s + 1] - 1 - k] if walked_back else order[size[s] + k]
            backward = (int(np.floor(rows[row, 1] / spacing)) % 2 != 0) != walked_back
            v, begin, end = rows[row, 1], rows[row, 2], rows[row, 3]
            if backward:
                begin, end = end, begin
            at = start + size[s] + k
            out[at, 0], out[at, 1] = begin * cos - v * sin, begin * sin + v * cos
            out[at, 2], out[at, 3] = end * cos - v * sin, end * sin + v * cos


@njit(
    types.Tuple((types.float64[:, ::1], types.int64[::1]))(
        _POINTS, _STARTS, _STARTS, _TURNS, types.float64, types.float64, types.float64, types.float64
    ),
    cache=True,
    nogil=True,
)
def scan_lines(
    points_mm: FloatArray,
    loop_start: npt.NDArray[np.int64],
    group_loop: npt.NDArray[np.int64],
    turn_rad: FloatArray,
    spacing_mm: float,
    reach_mm: float,
    least_mm: float,
    stripe_mm: float,
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Fill groups of contours.

    Parameters
    ----------
    points_mm, loop_start
        As in :class:`batchone.slicer.layers.Layers`.
    group_loop
        (g + 1,) int64: group i holds the loops ``group_loop[i] .. group_loop[i + 1]``.
    turn_rad
        (g,) float64: direction of the lines of each group.
    spacing_mm
        Between lines; they lie at odd multiples of its half from the plate's origin.
    reach_mm
        Lines keep so far off the contours.
    least_mm
        Shorter lines are left out.
    stripe_mm
        Lines are cut at multiples of this along their direction; infinite: never.

    Returns
    -------
    tuple
        (v, 4) float64 lines in the order in which they are scanned, and (g,) int64 how many each group has.
    """
    groups = turn_rad.shape[0]
    counts = np.zeros(groups, np.int64)
    rows, used = np.empty((4096, 4)), 0
    for g in range(groups):
        cos, sin = np.cos(turn_rad[g]), np.sin(turn_rad[g])
        low, high = loop_start[group_loop[g]], loop_start[group_loop[g + 1]]
        uv = np.empty((high - low, 2))
        for p in range(high - low):
            x, y = points_mm[low + p, 0], points_mm[low + p, 1]
            uv[p, 0], uv[p, 1] = x * cos + y * sin, y * cos - x * sin
        starts = loop_start[group_loop[g] : group_loop[g + 1] + 1] - low
        before = used
        rows, used = _fill(rows, used, uv, starts, spacing_mm, reach_mm, least_mm, stripe_mm)
        counts[g] = used - before
    vectors = np.empty((used, 4))
    at = 0
    for g in range(groups):
        if counts[g] > 0:
            _in_order(rows, at, at + counts[g], spacing_mm, np.cos(turn_rad[g]), np.sin(turn_rad[g]), vectors)
        at += counts[g]
    return vectors, counts
