"""The layers as they were written, part and supports together: whether each carries the next. It knows nothing of how supports are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

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
    reach_mm, where_mm
        How far material reaches beyond what carries it, at most, and the place, (3,) mm in the plate frame.
    """

    islands: FloatArray
    reach_mm: float
    where_mm: FloatArray


def carried(layers: Layers, process: Process) -> Carried:
    """Look at all layers from below: pieces that begin in the air, and undersides that reach too far."""
    low, high = layers.points_mm.min(axis=0), layers.points_mm.max(axis=0)
    x, y = (float(value) for value in np.floor(low / ROW_MM) * ROW_MM + 0.5 * ROW_MM)
    rows, columns = math.ceil((high[1] - y) / ROW_MM) + 1, math.ceil((high[0] - x) / ROW_MM) + 2
    start, runs = runs_of(layers.points_mm, layers.loop_start, layers.loop_layer, layers.count, y, ROW_MM, rows)
    islands = islands_of(start, runs, layers.count, rows, y, ROW_MM)
    pitch = max(1, round(ROW_MM / layers.layer_mm))
    chosen = np.arange(0, layers.count, pitch, dtype=np.int64)
    slope = math.tan(math.radians(process.max_overhang_deg)) * _SLOPE
    reaches = reaches_of(start, runs, chosen, rows, x, y, ROW_MM, slope, columns, layers.layer_mm)
    worst = int(np.argmax(reaches[:, 0]))
    where = np.array([reaches[worst, 1], reaches[worst, 2], (chosen[worst] + 0.5) * layers.layer_mm])
    return Carried(islands, float(reaches[worst, 0]), where)
