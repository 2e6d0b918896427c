"""The layers as they were written, parts and supports together: whether each carries the next, however supports are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import manifold3d
import numpy as np
import numpy.typing as npt

from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray
from batchone.slicer.layers import Layers
from batchone.slicer.supports.runs import islands_of, reaches_of, runs_of

ROW_MM: Final = 0.2  # numerical: rows and cells in which layers are looked at
_SLOPE: Final = 1.1  # numerical: distances between cells are up to 8 % too long


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """What nothing carries.

    Attributes
    ----------
    islands
        (n, 4) float64: layer, x, y (mm, plate frame), area (mm2) of pieces of a layer that lie on nothing of the layer below.
    afloat
        (n,) bool: the layer below holds nothing at all.
    reach_mm, where_mm
        How far material reaches beyond what carries it, at most, and the place, (3,) mm in the plate frame.
    """

    islands: FloatArray
    afloat: npt.NDArray[np.bool_]
    reach_mm: float
    where_mm: FloatArray

    def islands_of(self, least_mm2: float) -> FloatArray:
        """(n, 4) the islands of at least so much area, and any with nothing at all below."""
        return self.islands[(self.islands[:, 3] >= least_mm2) | self.afloat]


def carried(layers: Layers, process: Process) -> Carried:
    """Look at all layers from below: pieces that begin in the air, and undersides that reach too far."""
    low, high = layers.points_mm.min(axis=0), layers.points_mm.max(axis=0)
    x, y = (float(value) for value in np.floor(low / ROW_MM) * ROW_MM + 0.5 * ROW_MM)
    rows, columns = math.ceil((high[1] - y) / ROW_MM) + 1, math.ceil((high[0] - x) / ROW_MM) + 2
    start, runs = runs_of(layers.points_mm, layers.loop_start, layers.loop_layer, layers.count, y, ROW_MM, rows)
    islands = _measured(islands_of(start, runs, layers.count, rows, y, ROW_MM), layers)
    pitch = max(1, round(ROW_MM / layers.layer_mm))
    chosen = np.arange(0, layers.count, pitch, dtype=np.int64)
    slope = math.tan(math.radians(process.max_overhang_deg)) * _SLOPE
    reaches = reaches_of(start, runs, chosen, rows, x, y, ROW_MM, slope, columns, layers.layer_mm)
    worst = int(np.argmax(reaches[:, 0]))
    where = np.array([reaches[worst, 1], reaches[worst, 2], (chosen[worst] + 0.5) * layers.layer_mm])
    afloat = layers.area_mm2()[islands[:, 0].astype(np.int64) - 1] <= 0.0
    return Carried(islands, afloat, float(reaches[worst, 0]), where)


def _measured(islands: FloatArray, layers: Layers) -> FloatArray:
    """Those islands that are whole pieces of their layer, with their area: a neck narrower than a row joins others to what is
    carried. A piece is what a contour holds less its holes: a ring about a post that is carried is not carried by it."""
    found = []
    for layer in np.unique(islands[:, 0]).astype(np.int64).tolist():
        here, below = _material(layers, layer), _material(layers, layer - 1)
        pieces = [(piece, piece.to_polygons()) for piece in here.decompose()]
        seen: dict[int, list[list[float]]] = {}
        for island in islands[islands[:, 0] == layer].tolist():
            for number, (_, rings) in enumerate(pieces):
                if sum(_inside(ring, island[1], island[2]) for ring in rings) % 2:
                    seen.setdefault(number, []).append(island)
        for number, those in seen.items():
            piece = pieces[number][0]
            if sum(one[3] for one in those) >= 0.5 * piece.area() and (piece ^ below).area() <= 0.0:
                found.append([*those[0][:3], piece.area()])
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def _material(layers: Layers, layer: int) -> manifold3d.CrossSection:
    """All that a layer fills, parts and supports."""
    first, last = np.searchsorted(layers.loop_layer, (layer, layer + 1)).tolist()
    loops = [layers.points_mm[layers.loop_start[i] : layers.loop_start[i + 1]] for i in range(first, last)]
    return manifold3d.CrossSection(loops, manifold3d.FillRule.Positive)


def _inside(loop: FloatArray, x: float, y: float) -> bool:
    """Whether a point lies within a contour: how often a ray to the right crosses it."""
    after = np.roll(loop, -1, axis=0)
    crosses = (loop[:, 1] > y) != (after[:, 1] > y)
    one, other = loop[crosses], after[crosses]
    return bool(np.count_nonzero(one[:, 0] + (y - one[:, 1]) / (other[:, 1] - one[:, 1]) * (other[:, 0] - one[:, 0]) > x) % 2)
