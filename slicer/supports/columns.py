"""A part seen along upright lines on a grid: where each line goes into it and comes out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from batchone.pipeline.values import FloatArray, IntArray, Mesh

STEP_MM: Final = 0.2  # PySLM 0.6 default (resolution of its rays)
_POINTS_MM: Final = 0.1  # numerical: points that stand for a protected face are nowhere farther apart
BETWEEN_MM: Final = _POINTS_MM / math.sqrt(2.0)  # numerical: from a place of a face to the nearest of those points
_OFF: Final = 0.3137  # numerical: share of a step by which lines keep off round coordinates, where faces and edges like to lie
_SLACK: Final = 1e-6  # numerical: steps by which the box of a triangle is widened before its edges decide

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Lines at ``low_mm + step * (column, row)``; cell = row * columns + column.

    Attributes
    ----------
    low_mm
        Place of the first line, (x, y) mm.
    rows, columns
        Size of the grid; at least two lines about the part are empty.
    start
        (rows * columns + 1,) int64 offsets into the crossings.
    height_mm
        (k,) float64, ascending in each cell: into the part, out of it, in turn.
    face
        (k,) int32 triangle that is crossed.
    """

    low_mm: tuple[float, float]
    rows: int
    columns: int
    start: npt.NDArray[np.int64]
    height_mm: FloatArray
    face: IntArray

    @property
    def cell(self) -> npt.NDArray[np.int64]:
        """(k,) cell of each crossing."""
        return np.repeat(np.arange(self.rows * self.columns), np.diff(self.start))

    def at_mm(self, cell: npt.NDArray[np.int64]) -> FloatArray:
        """(n, 2) places of cells."""
        return np.stack([cell % self.columns, cell // self.columns], axis=1) * STEP_MM + np.array(self.low_mm)

    def cell_at(self, xy_mm: FloatArray) -> npt.NDArray[np.int64]:
        """(n,) nearest cell of places (n, 2), -1 outside the grid."""
        index = np.rint((xy_mm - np.array(self.low_mm)) / STEP_MM).astype(np.int64)
        inside = ((index >= 0) & (index < [self.columns, self.rows])).all(axis=1)
        return np.where(inside, index[:, 1] * self.columns + index[:, 0], -1)


def columns_of(mesh: Mesh, *, margin_mm: float) -> Columns:
    """Cast upright lines through a closed mesh, with so much room around it."""
    low, high = mesh.vertices_mm.min(axis=0), mesh.vertices_mm.max(axis=0)
    border = math.ceil(margin_mm / STEP_MM) + 2
    first = (np.floor(low[:2] / STEP_MM) - border + _OFF) * STEP_MM
    columns, rows = (math.ceil(side / STEP_MM) + border for side in (high[:2] - first).tolist())
    x, y = (float(value) for value in first)
    vertices = np.ascontiguousarray(mesh.vertices_mm, dtype=np.float64)
    start, height, face = _crossings(vertices, np.ascontiguousarray(mesh.faces, dtype=np.int32), x, y, STEP_MM, rows, columns)
    return Columns((x, y), rows, columns, start, height, face)


@njit("b1(f8[:, ::1], i8, i8, f8, f8)", cache=True, nogil=True)
def _left_up(vertices_mm: FloatArray, a: int, b: int, x: float, y: float) -> bool:
    ax, ay = vertices_mm[a, 0], vertices_mm[a, 1]
    return (vertices_mm[b, 0] - ax) * (y - ay) - (vertices_mm[b, 1] - ay) * (x - ax) >= 0.0


@njit("b1(f8[:, ::1], i8, i8, f8, f8)", cache=True, nogil=True)
def _left(vertices_mm: FloatArray, a: int, b: int, x: float, y: float) -> bool:
    """Whether a point lies to the left of an edge in the plane; the same answer, turned, for the edge the other way."""
    if a > b:
        return not _left_up(vertices_mm, b, a, x, y)
    return _left_up(vertices_mm, a, b, x, y)


@njit("Tuple((i8[::1], f8[::1], i4[::1]))(f8[:, ::1], i4[:, ::1], f8, f8, f8, i8, i8)", cache=True, nogil=True)
def _crossings(
    vertices_mm: FloatArray, faces: IntArray, x_mm: float, y_mm: float, step_mm: float, rows: int, columns: int
) -> tuple[npt.NDArray[np.int64], FloatArray, IntArray]:
    start = np.zeros(rows * columns + 1, np.int64)
    height = np.empty(0, np.float64)
    face = np.empty(0, np.int32)
    at = start
    for turn in range(2):  # first they are counted, then written
        for t in range(faces.shape[0]):
            a, b, c = np.int64(faces[t, 0]), np.int64(faces[t, 1]), np.int64(faces[t, 2])
            ax, ay, az = vertices_mm[a, 0], vertices_mm[a, 1], vertices_mm[a, 2]
            bx, by, bz = vertices_mm[b, 0], vertices_mm[b, 1], vertices_mm[b, 2]
            cx, cy, cz = vertices_mm[c, 0], vertices_mm[c, 1], vertices_mm[c, 2]
            twice = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            left = math.ceil((min(ax, bx, cx) - x_mm) / step_mm - _SLACK)
            right = math.floor((max(ax, bx, cx) - x_mm) / step_mm + _SLACK)
            below = math.ceil((min(ay, by, cy) - y_mm) / step_mm - _SLACK)
            above = math.floor((max(ay, by, cy) - y_mm) / step_mm + _SLACK)
            if left > right or below > above or twice == 0.0:
                continue
            for j in range(below, above + 1):
                y = y_mm + j * step_mm
                for i in range(left, right + 1):
                    x = x_mm + i * step_mm
                    side = _left(vertices_mm, a, b, x, y)
                    if _left(vertices_mm, b, c, x, y) != side or _left(vertices_mm, c, a, x, y) != side:
                        continue
                    cell = j * columns + i
                    if turn == 0:
                        start[cell + 1] += 1
                        continue
                    wb = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / twice
                    wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / twice
                    z = az + wb * (bz - az) + wc * (cz - az)
                    k = at[cell]
                    while k > start[cell] and height[k - 1] > z:
                        height[k], face[k] = height[k - 1], face[k - 1]
                        k -= 1
                    height[k], face[k] = z, np.int32(t)
                    at[cell] += 1
        if turn == 0:
            for cell in range(rows * columns):
                start[cell + 1] += start[cell]
            height = np.empty(start[-1], np.float64)
            face = np.empty(start[-1], np.int32)
            at = start[:-1].copy()
    return start, height, face


@dataclass(frozen=True, slots=True, eq=False)
class Obstacles:
    """What supports must keep off: the part, and further off still its protected faces, as points sorted into the cells."""

    part: Columns
    start: npt.NDArray[np.int64]
    points_mm: FloatArray

    def free(
        self, places_mm: FloatArray, low_mm: FloatArray, high_mm: FloatArray, *,
        part_mm: float, radii_mm: tuple[float, float], gap_mm: float, slack_mm: float = 0.0,
    ) -> Flags:  # fmt: skip
        """Whether upright rods at (n, 2) places are clear of the part by ``part_mm`` from their axis (but for ``slack_mm`` at
        both of their ends), and of protected faces by ``gap_mm`` from their surface; those outside the grid are not.

        ``radii_mm`` are those of their low and their high end, between which they taper."""
        return _free(
            self.part.start, self.part.height_mm, self.start, self.points_mm, self.part.rows, self.part.columns,
            self.part.cell_at(places_mm), np.ascontiguousarray(places_mm), np.ascontiguousarray(low_mm),
            np.ascontiguousarray(high_mm), part_mm / STEP_MM, *radii_mm, gap_mm + BETWEEN_MM, slack_mm, STEP_MM,
        )  # fmt: skip


def obstacles(mesh: Mesh, protected: Flags, part: Columns) -> Obstacles:
    """The obstacles of a part; ``protected`` (m,) marks its triangles."""
    points = _sampled(mesh.vertices_mm[mesh.faces[protected]])
    cell = part.cell_at(points[:, :2])
    order = np.argsort(cell, kind="stable")
    start = np.searchsorted(cell[order], np.arange(part.rows * part.columns + 1)).astype(np.int64)
    return Obstacles(part, start, np.ascontiguousarray(points[order]))


def _sampled(corners_mm: FloatArray) -> FloatArray:
    """(n, 3) points on triangles (m, 3, 3), nowhere farther than ``_POINTS_MM`` from the next."""
    if len(corners_mm) == 0:
        return np.empty((0, 3))
    sides = np.linalg.norm(np.roll(corners_mm, -1, axis=1) - corners_mm, axis=2)
    longest = sides.argmax(axis=1)
    a, b, c = (corners_mm[np.arange(len(longest)), (longest + k) % 3] for k in range(3))
    length = sides.max(axis=1)
    high = np.linalg.norm(np.cross(b - a, c - a), axis=1) / np.maximum(length, np.finfo(np.float64).tiny)
    along, across = (np.ceil(side / _POINTS_MM).astype(np.int64) for side in (length, high))
    found = []
    for n, m in np.unique(np.stack([along, across], axis=1), axis=0).tolist():  # triangles of about one size together
        chosen = (along == n) & (across == m)
        u, v = (share.reshape(1, -1, 1) for share in np.meshgrid(np.linspace(0.0, 1.0, n + 1), np.linspace(0.0, 1.0, m + 1)))
        one, other, tip = a[chosen, None], b[chosen, None], c[chosen, None]
        found.append(((1.0 - v) * (one + u * (other - one)) + v * tip).reshape(-1, 3))
    return np.concatenate(found)


@njit("b1(i8[::1], f8[::1], i8, f8, f8)", cache=True, nogil=True)
def _within(start: npt.NDArray[np.int64], height: FloatArray, cell: int, low: float, high: float) -> bool:
    """Whether material of a cell lies between two heights."""
    within = False
    for k in range(start[cell], start[cell + 1] - 1, 2):
        within |= height[k] < high and height[k + 1] > low
    return within


@njit("f8(f8, f8, f8, f8, f8, f8)", cache=True, nogil=True)
def _squared(beside: float, z: float, low: float, high: float, low_radius: float, high_radius: float) -> float:
    """Squared distance of a point, so far beside the axis, to an upright rod that tapers; 0 inside."""
    wide, tall = high_radius - low_radius, high - low
    at = min(1.0, max(0.0, (z - low) / max(tall, _SLACK)))
    if beside <= low_radius + at * wide:  # inside, above or below it
        return max(0.0, low - z, z - high) ** 2
    share = ((beside - low_radius) * wide + (z - low) * tall) / max(wide * wide + tall * tall, _SLACK)
    share = min(1.0, max(0.0, share))
    off, up = beside - low_radius - share * wide, z - low - share * tall
    return off * off + up * up


@njit(
    "b1[::1](i8[::1], f8[::1], i8[::1], f8[:, ::1], i8, i8, i8[::1], f8[:, ::1], f8[::1], f8[::1], f8, f8, f8, f8, f8, f8)",
    cache=True,
    nogil=True,
)
def _free(
    start: npt.NDArray[np.int64], height: FloatArray, point_start: npt.NDArray[np.int64], points: FloatArray,
    rows: int, columns: int, cells: npt.NDArray[np.int64], places: FloatArray, low: FloatArray, high: FloatArray,
    part_cells: float, low_radius: float, high_radius: float, gap: float, slack: float, step: float,
) -> Flags:  # fmt: skip
    found = np.zeros(cells.shape[0], np.bool_)
    reach = max(low_radius, high_radius) + gap
    near = math.ceil(max(part_cells, reach / step) + 1.0)
    for n in range(cells.shape[0]):
        row, column = cells[n] // columns, cells[n] % columns
        if cells[n] < 0 or min(row, column) < near or row + near >= rows or column + near >= columns:
            continue
        clear = True
        for spot in range((2 * near + 1) ** 2):
            dj, di = spot // (2 * near + 1) - near, spot % (2 * near + 1) - near
            apart = math.sqrt(di * di + dj * dj)
            cell = (row + dj) * columns + column + di
            if apart <= part_cells and _within(start, height, cell, low[n] + slack, high[n] - slack):
                clear = False
                break
            if (apart - 1.0) * step > reach:
                continue
            for k in range(point_start[cell], point_start[cell + 1]):
                x, y, z = points[k, 0] - places[n, 0], points[k, 1] - places[n, 1], points[k, 2]
                if not low[n] - gap < z < high[n] + gap:
                    continue
                beside = math.sqrt(x * x + y * y)
                if _squared(beside, z, low[n], high[n], low_radius, high_radius) < gap * gap:
                    clear = False
                    break
            if not clear:
                break
        found[n] = clear
    return found
