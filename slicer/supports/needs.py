"""The underside of a part, seen along the upright lines of a grid: how far each place reaches beyond what carries it."""

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

from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.overhang import beyond_limit
from batchone.slicer.supports.columns import STEP_MM, Columns

_ON_PLATE_MM: Final = 1e-3  # numerical: what lies so near to the plate stands on it
_LINK_MM: Final = 2.0 * STEP_MM  # numerical: neighbours of one overhang differ by no more in height
_SLOPE: Final = 1.1  # numerical: distances from cell to cell are up to 8 % too long

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
        From each place to its neighbours, in compressed rows: how much farther these reach.
    """

    cell: Numbers
    top_mm: FloatArray
    foot_mm: FloatArray
    region: Numbers
    start: Numbers
    beside: Numbers
    cost_mm: FloatArray

    def reach_mm(self) -> FloatArray:
        """(n,) how far each place reaches beyond what stands on the plate; infinite where nothing does."""
        reach = np.full(len(self.cell), math.inf)
        self.carry(reach, np.flatnonzero(self.top_mm <= _ON_PLATE_MM))
        return reach

    def carry(self, reach_mm: FloatArray, places: Numbers) -> None:
        """Let some places be carried, and lower the reach of what they carry, in place."""
        _carry(self.start, self.beside, self.cost_mm, reach_mm, places)


def underside(mesh: Mesh, columns: Columns, *, max_overhang_deg: float, free_mm: float, dip_mm: float) -> Underside:
    """Look at a closed mesh from below, as it stands on or above the plate.

    Parameters
    ----------
    mesh, columns
        The part, mm, and lines through it.
    max_overhang_deg
        From the vertical: steeper faces carry themselves.
    free_mm, dip_mm
        How far the rest may reach; a place that lies lower by ``dip_mm`` than what would carry it counts as so far away.
    """
    corners = mesh.vertices_mm[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.sqrt((cross**2).sum(axis=1))
    normals = cross / np.where(length > 0.0, length, 1.0)[:, None]
    hangs = beyond_limit(normals, np.array([0.0, 0.0, 1.0]), max_overhang_deg)
    position = np.arange(len(columns.height_mm)) - np.repeat(columns.start[:-1], np.diff(columns.start))
    into = np.flatnonzero(position % 2 == 0)
    number = np.full(len(columns.height_mm), -1, dtype=np.int64)
    number[into] = np.arange(len(into))
    one, other = (number[end] for end in _neighbours(columns.start, columns.height_mm, columns.rows, columns.columns))
    cell, top = columns.cell[into], columns.height_mm[into]
    foot = np.where(position[into] > 0, columns.height_mm[np.maximum(into - 1, 0)], 0.0)
    apart = np.hypot(*(columns.at_mm(cell)[one] - columns.at_mm(cell)[other]).T)
    rise = top[other] - top[one]
    slope = math.tan(math.radians(max_overhang_deg)) * _SLOPE
    cost = np.where(rise >= 0.0, np.maximum(0.0, apart - rise * slope), apart - rise * free_mm / dip_mm)
    order = np.argsort(one, kind="stable")
    start = np.searchsorted(one[order], np.arange(len(into) + 1)).astype(np.int64)
    over = hangs[columns.face[into]]
    both = over[one] & over[other] & (np.abs(rise) <= _LINK_MM)
    graph = coo_array((np.ones(int(both.sum()), dtype=np.int8), (one[both], other[both])), shape=(len(into), len(into)))
    region = np.where(over, connected_components(graph, directed=False)[1], -1).astype(np.int64)
    return Underside(cell, top, foot, region, start, np.ascontiguousarray(other[order]), np.ascontiguousarray(cost[order]))


@njit("Tuple((i8[::1], i8[::1]))(i8[::1], f8[::1], i8, i8)", cache=True)
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


@njit("void(i8[::1], i8[::1], f8[::1], f8[::1], i8[::1])", cache=True)
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
