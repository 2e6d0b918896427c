"""What a part costs in each of many build directions: areas by its triangles, volumes and sections by pooled surface elements.

Elements are what of the surface lies in one cell of a grid and faces about the same way: their areas as vectors add up exactly,
so the section at a height, which is the flux through what lies below, is right to within a cell. Supports are seen in columns of
a cell's width: from what overhangs down to the highest face below it that looks up, else to the plate. The plate shuts what
opens downwards alone: room above it is open as far up as a way leads out sideways, below the lowest faces of the columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit, prange

from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray
from batchone.slicer.overhang import Surface, middles_of

MEASURES: Final = (
    "overhang_mm2", "functional_mm2", "flat_mm2", "stair_mm", "height_mm",
    "support_mm3", "contact_mm2", "powder_mm3", "section_mm2", "jump_mm2", "shrink_mm2",
)  # fmt: skip
FLAT_DEG: Final = 15.0  # project default, unverified: faces this close to the layer plane curl and show steps (sls)
_CELLS: Final = 48  # numerical: cells along the largest extent, 1 to 4 mm for devices of 50 to 200 mm
_FACING: Final = 6  # numerical: elements face the same way within 1/6, about 10 deg
_RUN: Final = 2048  # numerical: triangles at a time, so that they stay in the processor's cache
_TOGETHER: Final = 32  # numerical: directions that look at them before the next


@dataclass(frozen=True, slots=True, eq=False)
class _Elements:
    """Surface elements: middles (e, 3) mm, areas as vectors (e, 3) mm2; and the width of a cell, mm."""

    middles_mm: FloatArray
    areas_mm2: FloatArray
    cell_mm: float


def scores(of: Surface, directions: FloatArray, process: Process) -> FloatArray:
    """Measures of a part in build directions.

    Parameters
    ----------
    of
        The part's surface, patient LPS mm, closed.
    directions
        (k, 3) unit vectors that are up, patient LPS.
    process
        Overhang limit and height of a layer.

    Returns
    -------
    FloatArray
        (k, 11), the columns of ``MEASURES``: area beyond the overhang limit that is not functional, and that is (before what may
        hang freely); area within 15 deg of the layers; root mean square of layer x cosine over functional faces; height; volume
        of supports, and area where they touch the part, seen from above; volume between the part and the part right above it, or
        the plate where that shuts it, where loose powder neither falls nor is blown out straight; the largest layer, the largest
        change of a layer within a cell, and the mean layer that a place of the part lies in, which shrinks at once.
    """
    directions = np.ascontiguousarray(directions)
    limit = math.sin(math.radians(process.max_overhang_deg)) + 1e-9  # as in beyond_limit
    along = of.normals.T.copy()
    functional = of.areas_mm2 * of.protected
    areas = _areas(along, of.areas_mm2 - functional, functional, directions, limit, math.cos(math.radians(FLAT_DEG)))
    areas[:, 3] = process.layer_mm * np.sqrt(areas[:, 3] / max(float(functional.sum()), np.finfo(np.float64).tiny))
    low, high = _reach(of.hull_mm, directions).T.copy()
    elements = _elements(of)
    rest = _columns(elements.middles_mm, elements.areas_mm2, directions, low, high, limit, elements.cell_mm)
    return np.column_stack([areas, high - low, rest])


@njit("f8[:, ::1](f8[:, ::1], f8[:, ::1])", cache=True, parallel=True)
def _reach(points, directions):  # type: ignore[no-untyped-def]
    """(k, 2) lowest and highest of points along each direction."""
    found = np.empty((directions.shape[0], 2))
    for k in prange(directions.shape[0]):
        low, high = math.inf, -math.inf
        for p in range(points.shape[0]):
            along = points[p, 0] * directions[k, 0] + points[p, 1] * directions[k, 1] + points[p, 2] * directions[k, 2]
            low, high = min(low, along), max(high, along)
        found[k, 0], found[k, 1] = low, high
    return found


@njit("f8[:, ::1](f8[:, ::1], f8[::1], f8[::1], f8[:, ::1], f8, f8)", cache=True, parallel=True, fastmath=True)
def _areas(normals, other, functional, directions, limit, flat):  # type: ignore[no-untyped-def]
    """(k, 4) sums over triangles: other and functional area beyond the limit, area that is flat, functional area x cosine^2."""
    found = np.zeros((directions.shape[0], 4))
    for some in prange((directions.shape[0] + _TOGETHER - 1) // _TOGETHER):
        for begin in range(0, normals.shape[1], _RUN):
            end = min(begin + _RUN, normals.shape[1])
            for k in range(some * _TOGETHER, min((some + 1) * _TOGETHER, directions.shape[0])):
                x, y, z = directions[k, 0], directions[k, 1], directions[k, 2]
                a = b = c = d = 0.0
                for t in range(begin, end):
                    cosine = normals[0, t] * x + normals[1, t] * y + normals[2, t] * z
                    hangs = 1.0 if -cosine > limit else 0.0
                    lies = 1.0 if abs(cosine) > flat else 0.0
                    a += other[t] * hangs
                    b += functional[t] * hangs
                    c += (other[t] + functional[t]) * lies
                    d += functional[t] * cosine * cosine
                found[k, 0] += a
                found[k, 1] += b
                found[k, 2] += c
                found[k, 3] += d
    return found


def _elements(of: Surface) -> _Elements:
    vertices = of.part.mesh.vertices_mm
    cell = float(np.ptp(of.hull_mm, axis=0).max()) / _CELLS
    middles, face = middles_of(vertices[of.part.mesh.faces], cell)
    area = (of.areas_mm2 / np.bincount(face, minlength=len(of.areas_mm2)))[face]
    place = np.floor((middles - vertices.min(axis=0)) / cell).astype(np.int64)
    facing = np.rint(of.normals[face] * _FACING).astype(np.int64) + _FACING
    key = np.zeros(len(face), dtype=np.int64)
    for column, size in [*((place[:, i], 2 * _CELLS) for i in range(3)), *((facing[:, i], 2 * _FACING + 1) for i in range(3))]:
        key = key * size + column
    _, which = np.unique(key, return_inverse=True)
    pooled = [np.bincount(which, weight) for weight in (area, *(area * middles.T), *(area * of.normals[face].T))]
    whole = np.maximum(pooled[0], np.finfo(np.float64).tiny)
    return _Elements(np.stack(pooled[1:4], axis=1) / whole[:, None], np.stack(pooled[4:], axis=1), cell)


@njit("Tuple((i8[::1], i8, i8))(f8[:, ::1], f8[::1], f8)", cache=True)
def _column_of(middles, up, cell_mm):  # type: ignore[no-untyped-def]
    """The column (e,) that each element stands in, seen from above, how many there are, and how many in a row of them."""
    across = np.zeros(3)
    across[np.argmin(np.abs(up))] = 1.0
    first = np.cross(across, up)
    first /= np.sqrt((first**2).sum())
    second = np.cross(up, first)
    v = np.empty(middles.shape[0])
    w = np.empty(middles.shape[0])
    for e in range(middles.shape[0]):
        v[e] = middles[e, 0] * first[0] + middles[e, 1] * first[1] + middles[e, 2] * first[2]
        w[e] = middles[e, 0] * second[0] + middles[e, 1] * second[1] + middles[e, 2] * second[2]
    low_v, low_w = v.min(), w.min()
    rows = int((w.max() - low_w) / cell_mm) + 1
    column = np.empty(middles.shape[0], np.int64)
    for e in range(middles.shape[0]):
        column[e] = int((v[e] - low_v) / cell_mm) * rows + int((w[e] - low_w) / cell_mm)
    return column, column.max() + 1, rows


@njit("f8[::1](f8[::1], i8[::1], i8, i8)", cache=True)
def _open_below(height, column, count, rows):  # type: ignore[no-untyped-def]
    """(count,) up to which height a way leads from each column out sideways, above the plate and below all of the part."""
    lines, wide = (count - 1) // rows + 3, rows + 2  # with a rim that is empty
    lowest = np.full((lines, wide), math.inf)
    for e in range(column.shape[0]):
        i, j = column[e] // rows + 1, column[e] % rows + 1
        lowest[i, j] = min(lowest[i, j], height[e])
    open_mm = np.full((lines, wide), math.inf)
    open_mm[1:-1, 1:-1] = -math.inf
    changed = True
    while changed:
        changed = False
        for turn in range(2):
            for a in range(1, lines - 1):
                i = a if turn == 0 else lines - 1 - a
                for b in range(1, wide - 1):
                    j = b if turn == 0 else wide - 1 - b
                    beside = max(open_mm[i - 1, j], open_mm[i + 1, j], open_mm[i, j - 1], open_mm[i, j + 1])
                    reached = min(lowest[i, j], beside)
                    if reached > open_mm[i, j]:
                        open_mm[i, j] = reached
                        changed = True
    found = np.empty(count)
    for c in range(count):  # a column in which a wall begins is as open as those beside it
        i, j = c // rows + 1, c % rows + 1
        beside = max(open_mm[i - 1, j], open_mm[i + 1, j], open_mm[i, j - 1], open_mm[i, j + 1])
        found[c] = max(open_mm[i, j], beside)
    return found


@njit("UniTuple(f8, 3)(f8[:, ::1], f8[::1], f8[::1], i8[::1], i8, i8, f8, f8)", cache=True)
def _supports(areas, height, rise, column, count, rows, limit, cell_mm):  # type: ignore[no-untyped-def]
    """Volume below what overhangs, and its area seen from above with that of what it stands on where that is the part; and the
    volume below all that looks down where the part is below it, or where the plate shuts it.
    """
    begin = np.zeros(count + 1, np.int64)
    for e in range(column.shape[0]):
        begin[column[e] + 1] += 1 if rise[e] > 0.0 else 0
    for c in range(count):
        begin[c + 1] += begin[c]
    tops = np.empty(begin[count])
    filled = begin.copy()
    for e in range(column.shape[0]):
        if rise[e] > 0.0:
            tops[filled[column[e]]] = height[e]
            filled[column[e]] += 1
    open_mm = _open_below(height, column, count, rows)
    volume = contact = roofed = 0.0
    for e in range(column.shape[0]):
        if rise[e] >= 0.0:
            continue
        size = math.sqrt(areas[e, 0] ** 2 + areas[e, 1] ** 2 + areas[e, 2] ** 2)
        # the upper side of a sheet that slopes as the element does is not below it, though it may be in its column
        own = cell_mm * math.sqrt(max(size * size - rise[e] * rise[e], 0.0)) / -rise[e]
        floor = 0.0
        for i in range(begin[column[e]], begin[column[e] + 1]):
            if floor < tops[i] < height[e] - own:
                floor = tops[i]
        if floor > 0.0:
            roofed -= rise[e] * (height[e] - floor)
        elif height[e] - own > open_mm[column[e]] + cell_mm:
            roofed -= rise[e] * (height[e] - open_mm[column[e]])
        if -rise[e] > limit * size:
            volume -= rise[e] * (height[e] - floor)
            contact -= rise[e] * (2.0 if floor > 0.0 else 1.0)
    return volume, contact, roofed


@njit("UniTuple(f8, 3)(f8[::1], f8[::1], i8, f8)", cache=True)
def _sections(height, rise, levels, cell_mm):  # type: ignore[no-untyped-def]
    """Largest section, largest change of it from level to level, and the mean section of the material."""
    flux = np.zeros(levels)
    for e in range(height.shape[0]):
        flux[min(int(height[e] / cell_mm), levels - 1)] -= rise[e]
    section = largest = change = whole = squares = 0.0
    for level in range(levels):
        section += flux[level]
        largest = max(largest, section)
        change = max(change, abs(flux[level]))
        whole += max(section, 0.0)
        squares += section * section
    return largest, change, squares / whole if whole > 0.0 else 0.0


@njit("f8[:, ::1](f8[:, ::1], f8[:, ::1], f8[:, ::1], f8[::1], f8[::1], f8, f8)", cache=True, parallel=True)
def _columns(middles, areas, directions, low, high, limit, cell_mm):  # type: ignore[no-untyped-def]
    """(k, 6) volume and contact of supports, room that is roofed, largest section, its largest change, and the mean section."""
    found = np.zeros((directions.shape[0], 6))
    for k in prange(directions.shape[0]):
        height = np.empty(middles.shape[0])
        rise = np.empty(middles.shape[0])
        for e in range(middles.shape[0]):
            height[e] = -low[k]
            rise[e] = 0.0
            for i in range(3):
                height[e] += middles[e, i] * directions[k, i]
                rise[e] += areas[e, i] * directions[k, i]
        column, count, rows = _column_of(middles, directions[k], cell_mm)
        found[k, 0], found[k, 1], found[k, 2] = _supports(areas, height, rise, column, count, rows, limit, cell_mm)
        found[k, 3], found[k, 4], found[k, 5] = _sections(height, rise, int((high[k] - low[k]) / cell_mm) + 1, cell_mm)
    return found
