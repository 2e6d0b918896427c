"""The compiled part of nesting: bodies as columns of cells, the room that is left, and the best free place in it.

Cells are cubes; a plate on which nothing stands above another is one cell high. Cell ``(i, j, k)`` reaches from
``(i, j, k) * step_mm`` to ``(i + 1, j + 1, k + 1) * step_mm`` above the corner of the usable box. A body is held as one run of
cells in each column, from its lowest to its highest: nothing is ever placed within a hollow of another.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from batchone.pipeline.values import FloatArray, IntArray

Room = npt.NDArray[np.uint16]

NOTHING = 65535  # above every cell: the column holds nothing from here on
_SCATTER = 2654435761  # numerical: multiples of it, modulo 2**32, are spread evenly (Knuth, multiplicative hashing)


@njit("void(f8[:, ::1], i4[:, ::1], f8, b1, i4[:, ::1], i4[:, ::1])", cache=True, nogil=True)
def _mark_columns(vertices, faces, step_mm, flat, low, high):  # type: ignore[no-untyped-def]
    columns, rows, per_mm = low.shape[0] - 1, low.shape[1] - 1, 1.0 / step_mm
    for t in range(faces.shape[0]):
        a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
        ax, ay, az = vertices[a, 0] * per_mm, vertices[a, 1] * per_mm, vertices[a, 2] * per_mm
        bx, by, bz = vertices[b, 0] * per_mm - ax, vertices[b, 1] * per_mm - ay, vertices[b, 2] * per_mm - az
        cx, cy, cz = vertices[c, 0] * per_mm - ax, vertices[c, 1] * per_mm - ay, vertices[c, 2] * per_mm - az
        wide = max(abs(bx), abs(cx), abs(bx - cx), abs(by), abs(cy), abs(by - cy))
        n = max(1, math.ceil(wide))
        # small triangles, each held by the box of its corners: what is marked holds the whole surface
        for i in range(n):
            for j in range(n - i):
                for half in range(2 if i + j + 2 <= n else 1):
                    # corners (i, j), (i + 1, j), (i, j + 1); of the other half (i + 1, j + 1), (i + 1, j), (i, j + 1)
                    p, q = (i + half) / n, (j + half) / n
                    p1, q1, p2, q2 = (i + 1) / n, j / n, i / n, (j + 1) / n
                    x, x1, x2 = ax + p * bx + q * cx, ax + p1 * bx + q1 * cx, ax + p2 * bx + q2 * cx
                    y, y1, y2 = ay + p * by + q * cy, ay + p1 * by + q1 * cy, ay + p2 * by + q2 * cy
                    first, last = max(0, math.floor(min(x, x1, x2))), min(columns, math.floor(max(x, x1, x2)))
                    front, back = max(0, math.floor(min(y, y1, y2))), min(rows, math.floor(max(y, y1, y2)))
                    k0 = k1 = 0
                    if not flat:
                        z, z1, z2 = az + p * bz + q * cz, az + p1 * bz + q1 * cz, az + p2 * bz + q2 * cz
                        k0 = max(0, math.floor(min(z, z1, z2)))  # below the plate by rounding alone
                        k1 = max(0, math.floor(max(z, z1, z2)))
                    for column in range(first, last + 1):
                        for row in range(front, back + 1):
                            low[column, row] = min(low[column, row], k0)
                            high[column, row] = max(high[column, row], k1)


def cells_of(vertices_mm: FloatArray, faces: IntArray, *, step_mm: float, flat: bool) -> tuple[IntArray, IntArray]:
    """Lowest and highest cell of each column that a surface reaches; ``low > high`` where it reaches none.

    Parameters
    ----------
    vertices_mm, faces
        (n, 3) and (m, 3); lowest corner of the box at the origin.
    flat
        One cell high: what counts is the shadow.

    Returns
    -------
    tuple
        (x, y) int32, twice.
    """
    sides = np.floor(vertices_mm[:, :2].max(axis=0) / step_mm).astype(int) + 1
    low = np.full((int(sides[0]), int(sides[1])), NOTHING, dtype=np.int32)
    high = np.full_like(low, -1)
    _mark_columns(
        np.ascontiguousarray(vertices_mm, dtype=np.float64), np.ascontiguousarray(faces, dtype=np.int32), step_mm, flat, low, high
    )
    return low, high


def swollen(low: IntArray, high: IntArray, *, clearance_mm: float, step_mm: float) -> tuple[IntArray, IntArray, int]:
    """Columns in which the cells of another body may be nearer than the clearance; a border of that many cells is added.

    Two cells that lie ``d`` apart along an axis are ``(d - 1) * step_mm`` apart at least.
    """
    border = max(1, math.ceil(clearance_mm / step_mm))
    wide_low = np.full((low.shape[0] + 2 * border, low.shape[1] + 2 * border), NOTHING, dtype=np.int32)
    wide_high = np.full_like(wide_low, -NOTHING)
    filled = low <= high
    for dx in range(-border, border + 1):
        for dy in range(-border, border + 1):
            aside_mm = step_mm * math.hypot(max(0, abs(dx) - 1), max(0, abs(dy) - 1))
            if aside_mm >= clearance_mm:
                continue
            reach = math.ceil(math.sqrt(clearance_mm**2 - aside_mm**2) / step_mm)
            here = np.s_[border + dx : border + dx + low.shape[0], border + dy : border + dy + low.shape[1]]
            wide_low[here] = np.minimum(wide_low[here], np.where(filled, low - reach, NOTHING))
            wide_high[here] = np.maximum(wide_high[here], np.where(filled, high + reach, -NOTHING))
    return wide_low, wide_high, border


def empty_room(cells: tuple[int, int, int]) -> Room:
    """(x, y, z + 1) uint16: the next taken cell at or above each cell; all ``NOTHING``."""
    return np.full((cells[0], cells[1], cells[2] + 1), NOTHING, dtype=np.uint16)


@njit("void(u2[:, :, ::1], i4[:, ::1], i4[:, ::1], i8, i8, i8)", cache=True, nogil=True)
def take(room: Room, low: IntArray, high: IntArray, x: int, y: int, z: int) -> None:
    """Mark columns, moved by (x, y, z) cells, as taken; what lies outside of the room is left out."""
    top = room.shape[2] - 2
    for i in range(low.shape[0]):
        for j in range(low.shape[1]):
            column, row = x + i, y + j
            if low[i, j] > high[i, j] or column < 0 or row < 0 or column >= room.shape[0] or row >= room.shape[1]:
                continue
            first, last = max(0, z + low[i, j]), min(top, z + high[i, j])
            for k in range(first, last + 1):
                room[column, row, k] = k
            for k in range(first - 1, -1, -1):
                if room[column, row, k] < first:
                    break
                room[column, row, k] = first


@njit(
    "void(u2[:, :, ::1], i4[::1], i4[::1], i4[::1], i4[::1], i8[::1], i8, f8[::1], f8, f8[:, ::1], f8[::1], f8[:, ::1])",
    cache=True,
    nogil=True,
    parallel=True,
)
def _search(room, column, row, low, high, most, stride, weights, bound, others, middle, best):  # type: ignore[no-untyped-def]
    runs = len(column)
    for index in prange(best.shape[0]):
        i = index * stride
        best[index, 0] = bound
        best[index, 1] = -1.0
        for j in range(0, most[1] + 1, stride):
            if weights[0] * i + weights[1] * j >= best[index, 0]:
                break
            cost = weights[0] * i + weights[1] * j
            for other in range(others.shape[0]):
                away = math.hypot(i + middle[0] - others[other, 0], j + middle[1] - others[other, 1])
                cost += others[other, 2] / max(1.0, away)
            k = 0
            left, at = runs, 0
            while left > 0 and k <= most[2] and cost + weights[2] * k < best[index, 0]:
                taken = room[i + column[at], j + row[at], k + low[at]]
                if taken <= k + high[at]:
                    k = taken + 1 - low[at]  # above what is in the way, and all columns once more
                    left = runs
                else:
                    at = at + 1 if at + 1 < runs else 0
                    left -= 1
            cost += weights[2] * k
            if left == 0 and k <= most[2] and cost < best[index, 0]:
                best[index, 0], best[index, 1], best[index, 2], best[index, 3] = cost, i, j, k


def best_place(
    room: Room,
    low: IntArray,
    high: IntArray,
    *,
    most: tuple[int, int, int],
    stride: int,
    weights: tuple[float, float, float],
    bound: float,
    others: FloatArray,
) -> tuple[float, tuple[int, int, int]] | None:
    """The cheapest free place of a body; None where there is none below the bound.

    Parameters
    ----------
    room
        What is taken, swollen by the clearance.
    low, high
        Columns of the body.
    most
        Largest cells of its corner.
    stride
        Cells from one place that is tried to the next, along x and y.
    weights
        Cost of a cell along x, y and z.
    bound
        Only what costs less counts.
    others
        (n, 3) float64: middle of each body placed so far, cells, and what it costs to be a cell away from it, times cells.
    """
    if min(most) < 0:
        return None
    column, row = np.nonzero(low <= high)
    # scattered columns meet what is in the way sooner than neighbours do
    scattered = np.argsort(np.arange(len(column), dtype=np.uint32) * np.uint32(_SCATTER), kind="stable")
    column, row = column[scattered], row[scattered]
    best = np.zeros((most[0] // stride + 1, 4))
    _search(
        room,
        column.astype(np.int32),
        row.astype(np.int32),
        np.ascontiguousarray(low[column, row]),
        np.ascontiguousarray(high[column, row]),
        np.array(most, dtype=np.int64),
        stride,
        np.array(weights),
        bound,
        np.ascontiguousarray(others),
        0.5 * np.array(low.shape, dtype=np.float64),
        best,
    )
    found = np.where(best[:, 1] >= 0.0, best[:, 0], np.inf)
    first = int(np.argmin(found))
    if not np.isfinite(found[first]):
        return None
    return float(found[first]), (int(best[first, 1]), int(best[first, 2]), int(best[first, 3]))
