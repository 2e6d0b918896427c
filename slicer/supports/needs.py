"""The underside of a part, seen along the upright lines of a grid: how far each place reaches beyond what carries it.

For each angle of ``free_spans`` of the process there is a reach of its own: what is steeper carries itself. A place hangs where
one of them is beyond the free ledge and no bridge of the span that belongs to it carries the place.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.overhang import beyond_limit
from batchone.slicer.supports.columns import STEP_MM, Columns, Flags

_ON_PLATE_MM: Final = 1e-3  # numerical: what lies so near to the plate stands on it
_LINK_MM: Final = 2.0 * STEP_MM  # numerical: neighbours of one overhang differ by no more in height
_SLOPE: Final = 1.1  # numerical: distances from cell to cell are up to 8 % too long
_DIP: Final = 0.5  # of a layer: a place that lies lower by so much is not carried from beside it
_RAYS: Final = 32  # numerical: directions in which what carries is looked for

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Underside:
    """Places of the underside, one for each time that a line goes into the part.

    Attributes
    ----------
    cell
        (n,) int64.
    top_mm, foot_mm
        (n,) float64: the underside, and what lies below it: the part, or the plate at 0.
    region
        (n,) int64: the connected overhang that a place belongs to, -1 where it does not hang over.
    start, beside, cost_mm
        From each place to its neighbours, in compressed rows: how much farther these reach, (k, edges) for k angles.
    columns
        The lines.
    process
        What it carries freely.
    """

    cell: Numbers
    top_mm: FloatArray
    foot_mm: FloatArray
    region: Numbers
    start: Numbers
    beside: Numbers
    cost_mm: FloatArray
    columns: Columns
    process: Process

    def reach_mm(self) -> FloatArray:
        """(k, n) how far each place reaches beyond what stands on the plate; infinite where nothing does."""
        reach = np.full((len(self.cost_mm), len(self.cell)), math.inf)
        self.carry(reach, np.flatnonzero(self.top_mm <= _ON_PLATE_MM))
        return reach

    def carry(self, reach_mm: FloatArray, places: Numbers) -> None:
        """Let some places be carried, and lower the reach of what they carry, in place."""
        for cost, reach in zip(self.cost_mm, reach_mm, strict=True):
            _carry(self.start, self.beside, cost, reach, places)

    def hangs(self, reach_mm: FloatArray, places: Numbers) -> Flags:
        """Which of some places are neither a ledge nor a bridge nor the roof of a hole, as far as things are carried now."""
        return self._far_mm(reach_mm, places) > 0.0

    def _far_mm(self, reach_mm: FloatArray, places: Numbers) -> FloatArray:
        """How far those of some places reach that hang; 0 for the others."""
        lines, process = self.columns, self.process
        far_mm = np.zeros(len(places))
        for (_, span_mm), reach in zip(process.free_spans, reach_mm, strict=True):
            hangs = _hangs(
                lines.start, lines.height_mm, lines.columns, self.cell, self.top_mm, reach, places,
                STEP_MM, process.free_ledge_mm, span_mm, process.layer_mm,
            )  # fmt: skip
            far_mm = np.maximum(far_mm, np.where(hangs, reach[places], 0.0))
        return far_mm

    def hanging(self, reach_mm: FloatArray) -> Flags:
        """(n,) all places that hang, but for patches that are smaller and reach less far than the process lets them."""
        far_mm = self._far_mm(reach_mm, np.arange(len(self.cell)))
        hangs = far_mm > 0.0
        one = np.repeat(np.arange(len(self.cell)), np.diff(self.start))
        level = np.abs(self.top_mm[one] - self.top_mm[self.beside]) <= _LINK_MM
        both = hangs[one] & hangs[self.beside] & level
        pairs = (one[both], self.beside[both])
        graph = coo_array((np.ones(int(both.sum()), dtype=np.int8), pairs), shape=(len(hangs), len(hangs)))
        patch = connected_components(graph, directed=False)[1]
        area_mm2 = np.bincount(patch, hangs) * STEP_MM**2
        farthest_mm = np.zeros(len(area_mm2))  # infinite where nothing carries the patch
        np.maximum.at(farthest_mm, patch, far_mm)
        counts = (area_mm2 >= self.process.least_support_mm2) | (farthest_mm > self.process.small_reach_mm)
        return np.asarray(hangs & counts[patch])


def underside(mesh: Mesh, columns: Columns, process: Process, *, from_deg: float) -> Underside:
    """Look at a closed mesh from below, as it stands on or above the plate.

    Parameters
    ----------
    mesh, columns
        The part, mm, and lines through it.
    process
        What it carries freely.
    from_deg
        From the vertical: what is less steep belongs to the region of an overhang.
    """
    corners = mesh.vertices_mm[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.sqrt((cross**2).sum(axis=1))
    normals = cross / np.where(length > 0.0, length, 1.0)[:, None]
    hangs = beyond_limit(normals, np.array([0.0, 0.0, 1.0]), from_deg)
    position = np.arange(len(columns.height_mm)) - np.repeat(columns.start[:-1], np.diff(columns.start))
    into = np.flatnonzero(position % 2 == 0)
    number = np.full(len(columns.height_mm), -1, dtype=np.int64)
    number[into] = np.arange(len(into))
    one, other = (number[end] for end in _neighbours(columns.start, columns.height_mm, columns.rows, columns.columns))
    cell, top = columns.cell[into], columns.height_mm[into]
    foot = np.where(position[into] > 0, columns.height_mm[np.maximum(into - 1, 0)], 0.0)
    order = np.argsort(one, kind="stable")
    one, other = one[order], other[order]
    apart = np.hypot(*(columns.at_mm(cell)[one] - columns.at_mm(cell)[other]).T)
    rise = top[other] - top[one]
    lower = apart - rise * process.free_ledge_mm / (_DIP * process.layer_mm)
    slopes = [math.tan(math.radians(limit_deg)) * _SLOPE for limit_deg, _ in process.free_spans]
    cost = np.stack([np.where(rise >= 0.0, np.maximum(0.0, apart - rise * slope), lower) for slope in slopes])
    start = np.searchsorted(one, np.arange(len(into) + 1)).astype(np.int64)
    over = hangs[columns.face[into]]
    both = over[one] & over[other] & (np.abs(rise) <= _LINK_MM)
    graph = coo_array((np.ones(int(both.sum()), dtype=np.int8), (one[both], other[both])), shape=(len(into), len(into)))
    region = np.where(over, connected_components(graph, directed=False)[1], -1).astype(np.int64)
    return Underside(cell, top, foot, region, start, np.ascontiguousarray(other), cost, columns, process)


@njit("Tuple((i8[::1], i8[::1]))(i8[::1], f8[::1], i8, i8)", cache=True, nogil=True)
def _neighbours(start: Numbers, height: FloatArray, rows: int, columns: int) -> tuple[Numbers, Numbers]:
    """Pairs of crossings into the part, side by side (8 neighbours), whose material meets; each pair both ways."""
    one = np.empty(8 * height.shape[0] + 1, np.int64)
    other = np.empty(8 * height.shape[0] + 1, np.int64)
    count = 0
    for row in range(1, rows - 1):
        for column in range(1, columns - 1):
            cell = row * columns + column
            for k in range(start[cell], start[cell + 1] - 1, 2):
                for dj in range(-1, 2):
                    for di in range(-1, 2):
                        beside = (row + dj) * columns + column + di
                        if beside == cell:
                            continue
                        for n in range(start[beside], start[beside + 1] - 1, 2):
                            if height[n] < height[k + 1] and height[k] < height[n + 1] and count < one.shape[0]:
                                one[count], other[count] = k, n
                                count += 1
    return one[:count].copy(), other[:count].copy()


@njit("void(i8[::1], i8[::1], f8[::1], f8[::1], i8[::1])", cache=True, nogil=True)
def _carry(start: Numbers, beside: Numbers, cost: FloatArray, reach: FloatArray, places: Numbers) -> None:
    """Dijkstra's shortest paths from some places on, as far as they are shorter than those known."""
    heap = [(0.0, np.int64(-1))]
    for p in places:
        if reach[p] > 0.0:
            reach[p] = 0.0
            heapq.heappush(heap, (0.0, p))
    while len(heap) > 0:
        far, p = heapq.heappop(heap)
        if p < 0 or far > reach[p]:
            continue
        for e in range(start[p], start[p + 1]):
            further = far + cost[e]
            if further < reach[beside[e]]:
                reach[beside[e]] = further
                heapq.heappush(heap, (further, beside[e]))


@njit("b1[::1](i8[::1], f8[::1], i8, i8[::1], f8[::1], f8[::1], i8[::1], f8, f8, f8, f8)", cache=True, nogil=True)
def _hangs(
    line_start: Numbers, height_mm: FloatArray, columns: int, cell: Numbers, top_mm: FloatArray, reach_mm: FloatArray,
    places: Numbers, step_mm: float, ledge_mm: float, span_mm: float, layer_mm: float,
) -> Flags:  # fmt: skip
    """Which places reach beyond a ledge and lie between no two carried ones, across what is filled at their height."""
    first = np.searchsorted(cell, np.arange(line_start.shape[0]))
    most = math.floor(span_mm / step_mm)
    found = np.zeros(places.shape[0], np.bool_)
    away = np.empty(_RAYS, np.float64)
    for n in range(places.shape[0]):
        p = places[n]
        if reach_mm[p] <= ledge_mm:
            continue
        row, column, z = cell[p] // columns, cell[p] % columns, top_mm[p] + layer_mm
        away[:] = np.inf
        for ray in range(_RAYS):
            x, y = math.cos(2.0 * math.pi * ray / _RAYS), math.sin(2.0 * math.pi * ray / _RAYS)
            for t in range(1, most + 1):
                beside = (row + round(t * y)) * columns + column + round(t * x)  # lines around the part are empty
                q = -1
                for k in range(line_start[beside], line_start[beside + 1] - 1, 2):
                    if height_mm[k] < z <= height_mm[k + 1]:
                        q = first[beside] + (k - line_start[beside]) // 2
                if q < 0:
                    break
                if reach_mm[q] <= 0.0:
                    away[ray] = t * step_mm
                    break
        bridged = False
        for ray in range(_RAYS):
            other = ray + _RAYS // 2
            bridged |= away[ray] + min(away[(other - 1) % _RAYS], away[other % _RAYS], away[(other + 1) % _RAYS]) <= span_mm
        found[n] = not bridged
    return found
