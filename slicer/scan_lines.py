"""The compiled part of hatching: parallel lines through contours, ended where a disc first touches one, and cut into regions.

On a line everything is a set of stretches: what lies within the contours of a layer and off them, what the layers above and below
cover of it, and what is left when one is taken from another. So regions are exact, and no polygon is made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, types

from batchone.pipeline.values import FloatArray
from batchone.slicer.stretches import POINTS, STARTS, cover, grid, inside, turned, within, without

_TURNS = types.Array(types.float64, 1, "C", readonly=True)
_NEAR = types.Array(types.int64, 2, "C", readonly=True)
CORE, UP, DOWN = 0, 1, 2  # regions of a layer


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


@njit("Tuple((f8[:, ::1], i8))(f8[:, ::1], i8, f8[:, ::1], i8, f8[:, ::1], i8, i8, f8, f8, f8, f8)", cache=True, nogil=True)
def _put_skin(
    rows: FloatArray,
    used: int,
    skin: FloatArray,
    count: int,
    room: FloatArray,
    at: int,
    stop: int,
    overlap: float,
    v: float,
    least: float,
    stripe: float,
) -> tuple[FloatArray, int]:
    """Add stretches of skin, each drawn out by ``overlap`` at both ends as far as there is room on the line."""
    last = -np.inf
    for i in range(count):
        while at < stop and room[at, 1] < skin[i, 1]:
            at += 1
        left, right = max(room[at, 0], skin[i, 0] - overlap, last), min(room[at, 1], skin[i, 1] + overlap)
        if i + 1 < count:
            right = min(right, skin[i + 1, 0])
        rows, used = _put(rows, used, left, right, v, least, stripe)
        last = right
    return rows, used


@njit("void(i8[::1], f8[:, ::1], i8[::1], f8[:, ::1], f8, b1[::1])", cache=True, nogil=True)
def _bare(
    begins: npt.NDArray[np.int64],
    stretches: FloatArray,
    cover_begins: npt.NDArray[np.int64],
    covers: FloatArray,
    least: float,
    wanted: npt.NDArray[np.bool_],
) -> None:
    """Mark the lines on which something as long as ``least`` is not covered."""
    scratch = np.empty((stretches.shape[0] + covers.shape[0], 2))
    for k in range(wanted.shape[0]):
        found = without(stretches, begins[k], begins[k + 1], covers, cover_begins[k], cover_begins[k + 1], least, scratch)
        wanted[k] = found > 0


@njit(
    types.Tuple((types.float64[:, ::1], types.int64))(
        types.float64[:, ::1], types.int64, types.int64, POINTS, STARTS, STARTS, types.int64, types.float64,
        STARTS, STARTS, types.float64, types.float64, types.float64, types.float64, types.float64,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def _fill(
    rows: FloatArray,
    used: int,
    kind: int,
    points_mm: FloatArray,
    loop_start: npt.NDArray[np.int64],
    group_loop: npt.NDArray[np.int64],
    g: int,
    turn: float,
    above: npt.NDArray[np.int64],
    below: npt.NDArray[np.int64],
    spacing: float,
    overlap: float,
    reach: float,
    least: float,
    stripe: float,
) -> tuple[FloatArray, int]:
    """Lines of one region of one layer of one part; line by line, ends rising."""
    cos, sin = np.cos(turn), np.sin(turn)
    low, high = loop_start[group_loop[g]], loop_start[group_loop[g + 1]]
    starts, uv = loop_start[group_loop[g] : group_loop[g + 1] + 1] - low, turned(points_mm, low, high, cos, sin)
    first, lines = grid(uv, spacing)
    wanted = np.ones(lines, np.bool_)
    if kind != CORE:  # only lines that have such a skin, however near to the contours
        own_at, own = inside(uv, starts, spacing, first, wanted)
        near = above if kind == UP else below
        near_at, covers = cover(points_mm, loop_start, group_loop, near, cos, sin, spacing, first, wanted)
        _bare(own_at, own, near_at, covers, least, wanted)
        if not wanted.any():
            return rows, used
    room_at, room = within(uv, starts, spacing, reach, first, wanted)
    over_at, over = cover(points_mm, loop_start, group_loop, above, cos, sin, spacing, first, wanted)
    under_at, under = cover(points_mm, loop_start, group_loop, below, cos, sin, spacing, first, wanted)
    most = 1
    for k in range(lines):
        size = room_at[k + 1] - room_at[k] + over_at[k + 1] - over_at[k] + under_at[k + 1] - under_at[k]
        most = max(most, 4 * size)  # a stretch that is taken away makes at most one more
    down, up, bare, rest = np.empty((most, 2)), np.empty((most, 2)), np.empty((most, 2)), np.empty((most, 2))
    for k in range(lines):
        v, a, b = (first + k + 0.5) * spacing, room_at[k], room_at[k + 1]
        downs = without(room, a, b, under, under_at[k], under_at[k + 1], least, down)
        bares = without(room, a, b, over, over_at[k], over_at[k + 1], 0.0, bare)
        ups = without(bare, 0, bares, down, 0, downs, least, up)
        if kind == DOWN:
            rows, used = _put_skin(rows, used, down, downs, room, a, b, overlap, v, least, stripe)
        elif kind == UP:
            rows, used = _put_skin(rows, used, up, ups, room, a, b, overlap, v, least, stripe)
        else:
            bares = without(room, a, b, down, 0, downs, 0.0, bare)
            rests = without(bare, 0, bares, up, 0, ups, 0.0, rest)
            for i in range(rests):
                rows, used = _put(rows, used, rest[i, 0], rest[i, 1], v, least, stripe)
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
        POINTS, STARTS, STARTS, types.int64, types.int64, _TURNS, _NEAR, _NEAR, STARTS, _TURNS, _TURNS,
        types.float64, types.float64, types.float64,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def scan_lines(
    points_mm: FloatArray,
    loop_start: npt.NDArray[np.int64],
    group_loop: npt.NDArray[np.int64],
    low: int,
    high: int,
    turn_rad: FloatArray,
    above: npt.NDArray[np.int64],
    below: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int64],
    spacing_mm: FloatArray,
    overlap_mm: FloatArray,
    reach_mm: float,
    least_mm: float,
    stripe_mm: float,
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Fill some groups of contours, each the layer of a part, region by region.

    Parameters
    ----------
    points_mm, loop_start
        As in :class:`batchone.slicer.layers.Layers`.
    group_loop
        (g + 1,) int64: group i holds the loops ``group_loop[i] .. group_loop[i + 1]``.
    low, high
        The groups from ``low`` to ``high - 1`` are filled.
    turn_rad
        (g,) float64: direction of the lines of each group.
    above, below
        (g, n) int64: the next groups of the same part above and below, -1 where it has none; n = 0: no such skin.
    kinds
        (r,) int64: ``CORE``, ``UP`` and ``DOWN`` in the order in which they are scanned.
    spacing_mm
        (r,) between lines; they lie at odd multiples of its half from the plate's origin.
    overlap_mm
        (r,) by which lines of a skin go on beyond it.
    reach_mm
        Lines keep so far off the contours.
    least_mm
        Shorter lines are left out, and shorter stretches of a skin are left to the core.
    stripe_mm
        Lines are cut at multiples of this along their direction; infinite: never.

    Returns
    -------
    tuple
        (v, 4) float64 lines in the order in which they are scanned, and ((high - low) * r,) int64 how many each region of each
        group has.
    """
    regions = kinds.shape[0]
    counts = np.zeros((high - low) * regions, np.int64)
    rows, used = np.empty((4096, 4)), 0
    for g in range(low, high):
        for r in range(regions):
            before = used
            rows, used = _fill(
                rows, used, kinds[r], points_mm, loop_start, group_loop, g, turn_rad[g],
                above[g], below[g], spacing_mm[r], overlap_mm[r], reach_mm, least_mm, stripe_mm,
            )  # fmt: skip
            counts[(g - low) * regions + r] = used - before
    vectors = np.empty((used, 4))
    at = 0
    for n in range(counts.shape[0]):
        if counts[n] > 0:
            turn = turn_rad[low + n // regions]
            _in_order(rows, at, at + counts[n], spacing_mm[n % regions], np.cos(turn), np.sin(turn), vectors)
        at += counts[n]
    return vectors, counts
