"""What would hang of a part that stands one way, wherever supports may stand: a forecast by coarse layers, before any is made.

The layers are looked at from below as in the check by layer (:mod:`batchone.slicer.supports.check`). Of what hangs, places count
as carried that a support may touch and to which one has a free way: straight from the plate or from the part, or from aside. Then
the layers are looked at once more: what hangs still, no support that keeps off functional faces carries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import ndimage

from batchone.pipeline.process import Process, Supports
from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.layers import Layers, slice_parts
from batchone.slicer.overhang import Surface
from batchone.slicer.supports.check import NOTHING, limits_of, patches
from batchone.slicer.supports.hanging import hanging_of
from batchone.slicer.supports.runs import runs_of

_STEP_MM: Final = 0.4  # numerical: cells and layers; a slot of 1 mm shows
_MOST_CELLS: Final = 12_000_000  # numerical: larger parts are looked at more coarsely
_WAYS: Final = 16  # directions in which a way around is looked for

Cells = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


def out_of_reach_mm2(of: Surface, rotation: FloatArray, process: Process) -> float:
    """Largest area, seen from above, that hangs wherever supports stand, mm2; what lies on nothing or reaches far counts more.

    Parameters
    ----------
    of
        The part's surface, patient LPS mm.
    rotation
        (3, 3) to plate axes, z up.
    process
        What it carries freely, and its supports.
    """
    made = process.supports
    if not process.needs_supports or made is None or not of.protected.any():
        return 0.0
    turned = of.part.mesh.vertices_mm @ rotation.T
    low, size = turned.min(axis=0), np.ptp(turned, axis=0)
    step = max(_STEP_MM, float((size.prod() / _MOST_CELLS) ** (1.0 / 3.0)))
    margin = math.ceil(0.5 * process.part_spacing_mm / step) + 1
    to_plate = np.array([margin * step, margin * step, math.ceil(made.lift_mm / step) * step]) - low
    view = _view(Mesh(turned + to_plate, of.part.mesh.faces), step, margin)
    hangs = view.hanging(process, NOTHING)
    cells = hangs[:, :3].astype(np.int64)
    kept_free = _lowest(np.asarray(of.kept_free.data), rotation, to_plate, step, *view.solid.shape[1:])
    clear = made.gap_mm  # the surface of a support comes as near

    def far_from_kept_free(layer: Numbers) -> Cells:
        places = view.at_mm(np.column_stack([layer, cells[:, 1:]]))
        return np.asarray(of.kept_free.query((places - to_plate) @ rotation, distance_upper_bound=clear)[0] > clear)

    foot = _feet(view.solid, cells)
    touched = far_from_kept_free(cells[:, 0])
    on_part = (foot > 0) & far_from_kept_free(foot)
    rises = view.rises_mm(kept_free, made)
    within = made.tip_height_mm, 2.0 * (_radii(made)[-1] + made.side_gap_mm)
    drop_mm = view.step_mm / math.tan(math.radians(made.lean_deg))
    way = _has_way(view.solid, cells, rises[0], rises[-1], step, *within, made.raft_mm, drop_mm, made.aside_mm)
    held = np.zeros_like(view.solid)
    held[tuple(cells[touched & (on_part | way)].T)] = True
    left = view.hanging(process, held)
    if len(left) == 0:
        return 0.0
    found = patches(left, np.arange(view.layers.count), view.layers, 0.0, 0.0, cell_mm=step)
    far = found[:, 1] > process.small_reach_mm + step  # islands too
    return float((found[:, 0] + far * process.least_support_mm2).max())


def _radii(made: Supports) -> tuple[float, ...]:
    """Half widths of what may carry: a trunk, and a wall where the process has blocks."""
    return (0.5 * made.trunk_mm, *((0.5 * made.block.wall_mm,) if made.block else ()))


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A part above the plate in coarse layers: runs of material along rows, as cells too, (layers, rows, columns)."""

    layers: Layers
    start: Numbers
    runs: FloatArray
    solid: Cells
    step_mm: float

    def hanging(self, process: Process, held: Cells) -> FloatArray:
        """(n, 4) cells that hang, islands with them, while something carries those that are held."""
        slopes_mm, spans_mm = limits_of(process, self.step_mm)
        steps = np.arange(self.layers.count, dtype=np.int64)
        rows, columns = self.solid.shape[1:]
        ledge_mm = process.free_ledge_mm + 0.5 * self.step_mm
        return hanging_of(
            self.start, self.runs, steps, rows, columns, 0.0, self.step_mm, slopes_mm, spans_mm, ledge_mm, held, True
        )

    def at_mm(self, cells: Numbers) -> FloatArray:
        """(n, 3) the middles of the lower sides of cells (layer, row, column)."""
        return np.column_stack([cells[:, 2] + 0.5, cells[:, 1] + 0.5, cells[:, 0]]) * self.step_mm

    def rises_mm(self, kept_free: FloatArray, made: Supports) -> list[FloatArray]:
        """(rows, columns) how high upright bodies of each of the radii may rise from the plate; ``kept_free``: what is lowest."""
        lowest = np.where(self.solid.any(axis=0), self.solid.argmax(axis=0) * self.step_mm, np.inf)
        return [
            np.minimum(
                ndimage.minimum_filter(lowest, footprint=_disc((radius_mm + made.side_gap_mm) / self.step_mm)),
                ndimage.minimum_filter(kept_free, footprint=_disc((radius_mm + made.gap_mm) / self.step_mm)) - made.gap_mm,
            )
            for radius_mm in _radii(made)
        ]


def _view(standing: Mesh, step_mm: float, margin: int) -> _View:
    layers = slice_parts([standing], step_mm)
    wide, deep = standing.vertices_mm[:, :2].max(axis=0).tolist()
    rows, columns = (math.ceil(side / step_mm) + margin for side in (deep, wide))
    start, runs = runs_of(layers.points_mm, layers.loop_start, layers.loop_layer, layers.count, 0.5 * step_mm, step_mm, rows)
    return _View(layers, start, runs, _filled(start, runs, layers.count, rows, columns, step_mm), step_mm)


def _disc(radius: float) -> Cells:
    reach = math.floor(radius)
    away = np.arange(-reach, reach + 1)
    return np.asarray(away[:, None] ** 2 + away[None, :] ** 2 <= radius**2)


@njit("b1[:, :, ::1](i8[::1], f8[:, ::1], i8, i8, i8, f8)", cache=True, nogil=True)
def _filled(start: Numbers, runs: FloatArray, layers: int, rows: int, columns: int, step_mm: float) -> Cells:
    """Cells in which there is material, as the check by layer fills them."""
    found = np.zeros((layers, rows, columns), np.bool_)
    for layer in range(layers):
        for row in range(rows):
            for k in range(start[layer * rows + row], start[layer * rows + row + 1]):
                left, right = max(0, math.floor(runs[k, 0] / step_mm)), min(columns - 1, math.floor(runs[k, 1] / step_mm))
                found[layer, row, left : right + 1] = True
    return found


@njit("f8[:, ::1](f8[:, ::1], f8[:, ::1], f8[::1], f8, i8, i8)", cache=True, nogil=True)
def _lowest(points: FloatArray, rotation: FloatArray, shift: FloatArray, step_mm: float, rows: int, columns: int) -> FloatArray:
    """(rows, columns) the height of the lowest of some points, turned and moved, in each upright cell; infinite without any."""
    found = np.full((rows, columns), np.inf)
    at = np.empty(3)
    for p in range(points.shape[0]):
        for axis in range(3):
            x, y, z = points[p, 0], points[p, 1], points[p, 2]
            at[axis] = rotation[axis, 0] * x + rotation[axis, 1] * y + rotation[axis, 2] * z + shift[axis]
        row, column = math.floor(at[1] / step_mm), math.floor(at[0] / step_mm)
        found[row, column] = min(found[row, column], at[2])
    return found


@njit("i8[::1](b1[:, :, ::1], i8[:, ::1])", cache=True, nogil=True)
def _feet(solid: Cells, cells: Numbers) -> Numbers:
    """(n,) the layer above the part below each cell, 0 where there is the plate."""
    found = np.zeros(cells.shape[0], np.int64)
    for n in range(cells.shape[0]):
        layer = cells[n, 0]
        while layer > 0 and not solid[layer - 1, cells[n, 1], cells[n, 2]]:
            layer -= 1
        found[n] = layer
    return found


@njit("b1[::1](b1[:, :, ::1], i8[:, ::1], f8[:, ::1], f8[:, ::1], f8, f8, f8, f8, f8, f8)", cache=True, nogil=True)
def _has_way(
    solid: Cells, cells: Numbers, trunk_mm: FloatArray, wall_mm: FloatArray, step_mm: float, tip_mm: float, slack_mm: float,
    raft_mm: float, drop_mm: float, aside_mm: float,
) -> Cells:  # fmt: skip
    """(n,) which cells a wall or a trunk reaches from the plate, straight or along a branch; its axis alone is looked at."""
    found = np.zeros(cells.shape[0], np.bool_)
    for n in range(cells.shape[0]):
        layer, row, column = cells[n, 0], cells[n, 1], cells[n, 2]
        z = layer * step_mm
        knee = z - min(tip_mm, 0.5 * z)
        if wall_mm[row, column] >= z - slack_mm or trunk_mm[row, column] >= knee:
            found[n] = True
            continue
        for way in range(_WAYS):
            x, y = math.cos(2.0 * math.pi * way / _WAYS), math.sin(2.0 * math.pi * way / _WAYS)
            for t in range(1, math.floor(aside_mm / step_mm) + 1):
                j, i = row + round(t * y), column + round(t * x)
                low = knee - t * drop_mm
                if j < 0 or i < 0 or j >= solid.shape[1] or i >= solid.shape[2] or low <= raft_mm:
                    break
                if solid[math.floor(low / step_mm), j, i]:
                    break
                if trunk_mm[j, i] >= low:
                    found[n] = True
                    break
            if found[n]:
                break
    return found
