"""Compiled kernel of the check by layer: how far material that is new in a layer reaches from what is carried, and what is left.

Cells of a grid are filled from layer to layer. From what lies below, the distance within the material counts, less what a slope
at the limit allows on the way up; a bridge is looked for along rays through what is filled, to what is carried on both sides.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from batchone.pipeline.values import FloatArray

NONE = np.float32(1.0e9)  # numerical: no way from what is carried
_RAYS = 32  # numerical: directions in which what carries is looked for

Places = npt.NDArray[np.int32]
Reach = npt.NDArray[np.float32]


@njit("void(i8[::1], f8[:, ::1], i8, i8, i8, f8, f8, i4[:, ::1], i4[:, ::1], i8[::1])", cache=True)
def _fill(
    start: npt.NDArray[np.int64], runs: FloatArray, first: int, last: int, rows: int, x_mm: float, row_mm: float,
    since: Places, seen: Places, box: npt.NDArray[np.int64],
) -> None:  # fmt: skip
    """Fill cells by the layers from ``first`` to ``last``; ``since``: the layer of each, -1 where the last one is empty.

    ``box`` holds the rows and columns of what is or was filled, the last ones included.
    """
    for layer in range(first, last + 1):
        for row in range(rows):
            for k in range(start[layer * rows + row], start[layer * rows + row + 1]):
                left = max(0, math.floor((runs[k, 0] - x_mm) / row_mm))
                right = min(since.shape[1] - 3, math.floor((runs[k, 1] - x_mm) / row_mm))
                for column in range(left, right + 1):
                    if since[row + 1, column + 1] < 0:
                        since[row + 1, column + 1] = layer
                    seen[row + 1, column + 1] = layer
                if left <= right:
                    box[0], box[1] = min(box[0], row + 1), max(box[1], row + 1)
                    box[2], box[3] = min(box[2], left + 1), max(box[3], right + 1)
    for j in range(box[0], box[1] + 1):
        for i in range(box[2], box[3] + 1):
            if seen[j, i] != last:
                since[j, i] = -1


@njit("void(f4[:, ::1], i4[:, ::1], i8, i8[::1], f8, f8)", cache=True)
def _spread(reach: Reach, since: Places, before: int, box: npt.NDArray[np.int64], row_mm: float, slope_mm: float) -> None:
    """Let distances (chamfer 1 : sqrt 2) run into what is new since the layer ``before``, less ``slope_mm`` for a layer up."""
    for turn in range(4):
        step = 1 if turn % 2 == 0 else -1
        for b in range(box[1] - box[0] + 1):
            j = box[0] + b if step > 0 else box[1] - b
            for a in range(box[3] - box[2] + 1):
                i = box[2] + a if step > 0 else box[3] - a
                if since[j, i] <= before:
                    continue
                far = reach[j, i]
                for dj, di in ((0, -step), (-step, 0), (-step, -step), (-step, step)):
                    was = since[j + dj, i + di]
                    if was < 0 or was > since[j, i] + 1:  # not there yet
                        continue
                    apart = row_mm * (1.0 if dj == 0 or di == 0 else math.sqrt(2.0))
                    apart -= slope_mm * max(0, since[j, i] - max(was, before))
                    far = min(far, reach[j + dj, i + di] + np.float32(max(0.0, apart)))
                reach[j, i] = far


@njit("b1(f4[:, ::1], i4[:, ::1], i8, i8, i8, f8, f8, f8)", cache=True)
def _bridged(reach: Reach, since: Places, before: int, j: int, i: int, row_mm: float, slope_mm: float, span_mm: float) -> bool:
    """Whether a cell lies between two that are carried, to within a cell, as far apart as a bridge may be."""
    found = np.full(_RAYS, np.inf)
    most = math.floor(span_mm / row_mm)
    for ray in range(_RAYS):
        x, y = math.cos(2.0 * math.pi * ray / _RAYS), math.sin(2.0 * math.pi * ray / _RAYS)
        for t in range(1, most + 1):
            row, column = j + round(t * y), i + round(t * x)
            if row < 0 or column < 0 or row >= since.shape[0] or column >= since.shape[1]:
                break
            was = since[row, column]
            if was < 0 or was > since[j, i] + 1:
                break
            if reach[row, column] - slope_mm * max(0, since[j, i] - max(was, before)) <= row_mm:
                found[ray] = t * row_mm
                break
    for ray in range(_RAYS):
        other = ray + _RAYS // 2
        over = min(found[(other - 1) % _RAYS], found[other % _RAYS], found[(other + 1) % _RAYS])
        if found[ray] + over <= span_mm:
            return True
    return False


@njit("void(f4[:, ::1], i4[:, ::1], f4[:, ::1], i8, i8[::1], f8, f8, f8, f8, b1)", cache=True)
def _hang(
    reach: Reach, since: Places, far: Reach, before: int, box: npt.NDArray[np.int64], row_mm: float, slope_mm: float,
    span_mm: float, ledge_mm: float, alone: bool,
) -> None:  # fmt: skip
    """Where what is new is no ledge and no bridge, raise ``far`` to its reach; what is a bridge carries the layers above it.

    ``alone``: of islands too.
    """
    bridges = []
    for j in range(box[0], box[1] + 1):
        for i in range(box[2], box[3] + 1):
            if since[j, i] <= before:
                continue
            if reach[j, i] >= NONE:  # an island
                if alone:
                    far[j, i] = NONE
                reach[j, i] = np.float32(0.0)
            elif reach[j, i] > ledge_mm:
                if _bridged(reach, since, before, j, i, row_mm, slope_mm, span_mm):
                    bridges.append((j, i))
                else:
                    far[j, i] = max(far[j, i], reach[j, i])
    for j, i in bridges:
        reach[j, i] = np.float32(0.0)


@njit("void(f4[:, ::1], i4[:, ::1], i8, i8, i8[::1], f8)", cache=True)
def _rise(reach: Reach, since: Places, before: int, last: int, box: npt.NDArray[np.int64], slope_mm: float) -> None:
    """Lower distances by what a slope allows up to the layer ``last``."""
    for j in range(box[0], box[1] + 1):
        for i in range(box[2], box[3] + 1):
            if since[j, i] >= 0:
                reach[j, i] = max(np.float32(0.0), reach[j, i] - np.float32(slope_mm * (last - max(since[j, i], before))))


@njit("void(i4[:, ::1], i8, i8[::1], i8[::1])", cache=True)
def _new(since: Places, before: int, box: npt.NDArray[np.int64], wet: npt.NDArray[np.int64]) -> None:
    """Let ``wet`` hold the rows and columns of what is new since the layer ``before``."""
    wet[0], wet[1], wet[2], wet[3] = since.shape[0], 0, since.shape[1], 0
    for j in range(box[0], box[1] + 1):
        for i in range(box[2], box[3] + 1):
            if since[j, i] > before:
                wet[0], wet[1] = min(wet[0], j), max(wet[1], j)
                wet[2], wet[3] = min(wet[2], i), max(wet[3], i)


@njit("f8[:, ::1](i8[::1], f8[:, ::1], i8[::1], i8, i8, f8, f8, f8[::1], f8[::1], f8, b1[:, :, ::1], b1)", cache=True, nogil=True)
def hanging_of(
    start: npt.NDArray[np.int64], runs: FloatArray, steps: npt.NDArray[np.int64], rows: int, columns: int,
    x_mm: float, row_mm: float, slopes_mm: FloatArray, spans_mm: FloatArray, ledge_mm: float, held: npt.NDArray[np.bool_],
    alone: bool,
) -> FloatArray:  # fmt: skip
    """Cells that are new in a layer and that nothing carries.

    Parameters
    ----------
    start, runs, rows
        As of :func:`batchone.slicer.supports.runs.runs_of`.
    steps
        (k,) ascending layers at which cells are looked at, from 0; what is new between two of them counts.
    columns, x_mm, row_mm
        Cells of a row, where the first one begins, and how wide they are.
    slopes_mm, spans_mm
        (n,) how far along a slope may go for a layer up, and what may then lie between two sides; each of them must hold.
    ledge_mm
        What may stand out.
    held
        (k, rows, columns) cells that something else carries where they are new; (0, 0, 0) for none.
    alone
        Tell of islands too, which reach ``NONE``.

    Returns
    -------
    FloatArray
        (m, 4): number of the step, row, column, and how far the cell reaches, mm. Pieces that nothing carries at all count as
        carried: they are islands.
    """
    since = np.full((rows + 2, columns + 2), -1, np.int32)
    seen = np.full((rows + 2, columns + 2), -1, np.int32)
    far = np.zeros((rows + 2, columns + 2), np.float32)
    reach = np.zeros((slopes_mm.shape[0], rows + 2, columns + 2), np.float32)
    box, wet = np.array([rows, 0, columns, 0], np.int64), np.zeros(4, np.int64)
    found = [(0.0, 0.0, 0.0, 0.0)]
    before = -1
    for n in range(steps.shape[0]):
        last = steps[n]
        _fill(start, runs, before + 1, last, rows, x_mm, row_mm, since, seen, box)
        _new(since, before, box, wet)
        for k in range(slopes_mm.shape[0]):
            for j in range(wet[0], wet[1] + 1):
                for i in range(wet[2], wet[3] + 1):
                    if since[j, i] > before:
                        stands = n == 0 or (held.shape[0] > 0 and held[n, j - 1, i - 1])
                        reach[k, j, i] = np.float32(0.0) if stands else NONE
            if n > 0:
                _spread(reach[k], since, before, wet, row_mm, slopes_mm[k])
                _hang(reach[k], since, far, before, wet, row_mm, slopes_mm[k], spans_mm[k], ledge_mm, alone)
                _rise(reach[k], since, before, last, box, slopes_mm[k])
        for j in range(wet[0], wet[1] + 1):
            for i in range(wet[2], wet[3] + 1):
                if far[j, i] > 0.0:
                    found.append((float(n), j - 1.0, i - 1.0, float(far[j, i])))
                    far[j, i] = 0.0
        before = last
    table = np.empty((len(found) - 1, 4), np.float64)
    for m in range(len(found) - 1):
        table[m, 0], table[m, 1], table[m, 2], table[m, 3] = found[m + 1]
    return table
