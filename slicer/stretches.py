"""Stretches of parallel lines: what of each lies within contours and how far off them, what layers have in common, what is left.

Lines run along u; stretches are held line by line, (n, 2) from and to, ends rising, with an offset for each line.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, types

from batchone.pipeline.values import FloatArray

POINTS = types.Array(types.float64, 2, "C", readonly=True)
STARTS = types.Array(types.int64, 1, "C", readonly=True)
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


@njit("UniTuple(i8, 2)(f8, f8, f8, f8, i8, i8)", cache=True, nogil=True)
def _reached(av: float, bv: float, reach: float, spacing: float, first: int, lines: int) -> tuple[int, int]:
    """First and last of the lines that may lie nearer than ``reach`` to an edge's heights: one more each way, for rounding."""
    begin = int(np.ceil((min(av, bv) - reach) / spacing - 0.5)) - first - 1
    end = int(np.floor((max(av, bv) + reach) / spacing - 0.5)) - first + 1
    return max(0, begin), min(lines - 1, end)


@njit("UniTuple(i8[::1], 2)(f8[:, ::1], i8[::1], f8, f8, i8, b1[::1])", cache=True, nogil=True)
def _count(
    uv: FloatArray, starts: npt.NDArray[np.int64], spacing: float, reach: float, first: int, wanted: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each line's crossings, and what is shut on it, begin; nothing is counted on lines that are not wanted."""
    lines = wanted.shape[0]
    crossing, shut = np.zeros(lines + 1, np.int64), np.zeros(lines + 1, np.int64)
    for loop in range(starts.shape[0] - 1):
        before = starts[loop + 1] - 1
        for p in range(starts[loop], starts[loop + 1]):
            av, bv = uv[before, 1], uv[p, 1]
            before = p
            begin, end = _reached(av, bv, reach, spacing, first, lines)
            for k in range(begin, end + 1):
                if not wanted[k]:
                    continue
                v = (first + k + 0.5) * spacing
                crossing[k + 1] += 1 if min(av, bv) <= v < max(av, bv) else 0
                shut[k + 1] += 1
    for k in range(lines):
        crossing[k + 1] += crossing[k]
        shut[k + 1] += shut[k]
    return crossing, shut


@njit("UniTuple(f8[::1], 4)(f8[:, ::1], i8[::1], f8, f8, i8, b1[::1], i8[::1], i8[::1])", cache=True, nogil=True)
def _met(
    uv: FloatArray,
    starts: npt.NDArray[np.int64],
    spacing: float,
    reach: float,
    first: int,
    wanted: npt.NDArray[np.bool_],
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
                if not wanted[k]:
                    continue
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


@njit("i8(f8[:, ::1], i8, f8, f8, f8[::1], f8[::1], i8, i8)", cache=True, nogil=True)
def _open(
    found: FloatArray, used: int, left: float, right: float, shut_low: FloatArray, shut_high: FloatArray, at: int, stop: int
) -> int:
    """Add what is open of a line between two ends to the stretches found."""
    while at < stop and shut_low[at] < right:
        if shut_low[at] > left:
            found[used, 0], found[used, 1] = left, shut_low[at]
            used += 1
        left = max(left, shut_high[at])
        at += 1
    if right > left:
        found[used, 0], found[used, 1] = left, right
        used += 1
    return used


@njit("Tuple((i8[::1], f8[:, ::1]))(f8[:, ::1], i8[::1], f8, f8, i8, b1[::1])", cache=True, nogil=True)
def within(
    uv: FloatArray, starts: npt.NDArray[np.int64], spacing: float, reach: float, first: int, wanted: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Where each line's stretches begin, and the stretches (n, 2) that lie within contours and keep off them; ends rising."""
    lines = wanted.shape[0]
    crossing, shut = _count(uv, starts, spacing, reach, first, wanted)
    cross_u, cross_way, shut_low, shut_high = _met(uv, starts, spacing, reach, first, wanted, crossing, shut)
    begins, used = np.zeros(lines + 1, np.int64), 0
    found = np.empty((crossing[lines] // 2 + shut[lines] + 1, 2))
    for k in range(lines):
        winding, left = 0.0, 0.0
        for c in range(crossing[k], crossing[k + 1]):
            was = winding
            winding += cross_way[c]
            if was <= 0.0 < winding:
                left = cross_u[c]
            elif winding <= 0.0 < was:
                used = _open(found, used, left, cross_u[c], shut_low, shut_high, shut[k], shut[k + 1])
        begins[k + 1] = used
    return begins, found


@njit("UniTuple(i8, 2)(f8[:, ::1], f8)", cache=True, nogil=True)
def grid(uv: FloatArray, spacing: float) -> tuple[int, int]:
    """First line that meets some points, and how many do; line k lies at (first + k + 1/2) x spacing."""
    lowest, highest = np.inf, -np.inf
    for p in range(uv.shape[0]):
        lowest, highest = min(lowest, uv[p, 1]), max(highest, uv[p, 1])
    first = int(np.ceil(lowest / spacing - 0.5))
    return first, max(0, int(np.floor(highest / spacing - 0.5)) - first + 1)


@njit(types.float64[:, ::1](POINTS, types.int64, types.int64, types.float64, types.float64), cache=True, nogil=True)
def turned(points_mm: FloatArray, low: int, high: int, cos: float, sin: float) -> FloatArray:
    """Some points, turned so that lines run along u."""
    uv = np.empty((high - low, 2))
    for p in range(high - low):
        x, y = points_mm[low + p, 0], points_mm[low + p, 1]
        uv[p, 0], uv[p, 1] = x * cos + y * sin, y * cos - x * sin
    return uv


@njit("Tuple((i8[::1], f8[:, ::1]))(i8[::1], f8[::1], f8[::1])", cache=True, nogil=True)
def _paired(
    begins: npt.NDArray[np.int64], cross_u: FloatArray, cross_way: FloatArray
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Stretches from where lines enter to where they leave."""
    found, used, of = np.empty((cross_u.shape[0] // 2 + 1, 2)), 0, np.zeros_like(begins)
    for k in range(begins.shape[0] - 1):
        _sort(cross_u, cross_way, begins[k], begins[k + 1])
        winding = 0.0
        for c in range(begins[k], begins[k + 1]):
            was = winding
            winding += cross_way[c]
            if was <= 0.0 < winding:
                found[used, 0] = cross_u[c]
            elif winding <= 0.0 < was:
                found[used, 1] = cross_u[c]
                used += 1
        of[k + 1] = used
    return of, found


@njit("i8[::1](f8[:, ::1], f8, i8, i8)", cache=True, nogil=True)
def _levels(uv: FloatArray, spacing: float, first: int, lines: int) -> npt.NDArray[np.int64]:
    """The first line not below each point, ``lines`` where all are: an edge crosses those from one end's to the other's."""
    level = np.empty(uv.shape[0], np.int64)
    for p in range(uv.shape[0]):
        k = int(np.ceil(uv[p, 1] / spacing - 0.5)) - first
        while (first + k - 0.5) * spacing >= uv[p, 1]:
            k -= 1
        while (first + k + 0.5) * spacing < uv[p, 1]:
            k += 1
        level[p] = min(max(k, 0), lines)
    return level


@njit("Tuple((i8[::1], f8[:, ::1]))(f8[:, ::1], i8[::1], f8, i8, b1[::1])", cache=True, nogil=True)
def inside(
    uv: FloatArray, starts: npt.NDArray[np.int64], spacing: float, first: int, wanted: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Where each line's stretches begin, and the stretches (n, 2) within contours, up to them; ends rising."""
    lines = wanted.shape[0]
    level = _levels(uv, spacing, first, lines)
    begins = np.zeros(lines + 1, np.int64)
    for loop in range(starts.shape[0] - 1):
        before = starts[loop + 1] - 1
        for p in range(starts[loop], starts[loop + 1]):
            for k in range(min(level[before], level[p]), max(level[before], level[p])):
                begins[k + 1] += 1 if wanted[k] else 0
            before = p
    for k in range(lines):
        begins[k + 1] += begins[k]
    cross_u, cross_way, at = np.empty(begins[lines]), np.empty(begins[lines]), begins[:lines].copy()
    for loop in range(starts.shape[0] - 1):
        before = starts[loop + 1] - 1
        for p in range(starts[loop], starts[loop + 1]):
            au, av, bu, bv = uv[before, 0], uv[before, 1], uv[p, 0], uv[p, 1]
            for k in range(min(level[before], level[p]), max(level[before], level[p])):
                if wanted[k]:
                    v = (first + k + 0.5) * spacing
                    cross_u[at[k]] = au + (v - av) / (bv - av) * (bu - au)
                    cross_way[at[k]] = 1.0 if bv < av else -1.0
                    at[k] += 1
            before = p
    return _paired(begins, cross_u, cross_way)


@njit("Tuple((i8[::1], f8[:, ::1]))(i8[::1], f8[:, ::1], i8[::1], f8[:, ::1])", cache=True, nogil=True)
def _common(
    begins: npt.NDArray[np.int64], one: FloatArray, other_begins: npt.NDArray[np.int64], other: FloatArray
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """What two sets of stretches have in common, line by line."""
    found, used = np.empty((one.shape[0] + other.shape[0], 2)), 0
    both = np.zeros_like(begins)
    for k in range(begins.shape[0] - 1):
        i, j = begins[k], other_begins[k]
        while i < begins[k + 1] and j < other_begins[k + 1]:
            left, right = max(one[i, 0], other[j, 0]), min(one[i, 1], other[j, 1])
            if left < right:
                found[used, 0], found[used, 1] = left, right
                used += 1
            if one[i, 1] < other[j, 1]:
                i += 1
            else:
                j += 1
        both[k + 1] = used
    return both, found


@njit(
    types.Tuple((types.int64[::1], types.float64[:, ::1]))(
        POINTS, STARTS, STARTS, STARTS, types.float64, types.float64, types.float64, types.int64, types.boolean[::1]
    ),
    cache=True,
    nogil=True,
)
def cover(
    points_mm: FloatArray,
    loop_start: npt.NDArray[np.int64],
    group_loop: npt.NDArray[np.int64],
    near: npt.NDArray[np.int64],
    cos: float,
    sin: float,
    spacing: float,
    first: int,
    wanted: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The stretches of lines that lie within the contours of all of some groups; none where a group is -1, all where none is."""
    if near.shape[0] == 0:
        whole = np.empty((wanted.shape[0], 2))
        whole[:, 0], whole[:, 1] = -np.inf, np.inf
        return np.arange(wanted.shape[0] + 1), whole
    begins, found = np.zeros(wanted.shape[0] + 1, np.int64), np.empty((1, 2))
    for n in range(near.shape[0]):
        if near[n] < 0:
            return begins, found
    for n in range(near.shape[0]):
        low, high = loop_start[group_loop[near[n]]], loop_start[group_loop[near[n] + 1]]
        starts = loop_start[group_loop[near[n]] : group_loop[near[n] + 1] + 1] - low
        more, those = inside(turned(points_mm, low, high, cos, sin), starts, spacing, first, wanted)
        begins, found = (more, those) if n == 0 else _common(begins, found, more, those)
    return begins, found


@njit("i8(f8[:, ::1], i8, i8, f8[:, ::1], i8, i8, f8, f8[:, ::1])", cache=True, nogil=True)
def without(of: FloatArray, a: int, b: int, taken: FloatArray, c: int, d: int, least: float, found: FloatArray) -> int:
    """What of the stretches a to b lies outside of those from c to d and is at least so long; how many there are."""
    used = 0
    for i in range(a, b):
        left, right = of[i, 0], of[i, 1]
        while c < d and taken[c, 1] <= left:
            c += 1
        j = c
        while left < right:
            end = min(right, taken[j, 0]) if j < d else right
            if end > left and end - left >= least:
                found[used, 0], found[used, 1] = left, end
                used += 1
            if j == d:
                break
            left = max(left, taken[j, 1])
            j += 1
    return used
