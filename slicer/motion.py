"""How long a toolpath takes, from its G-code alone.

A machine plans its moves ahead: each one speeds up at its acceleration, cruises and slows down, so that at the joint with the
next no axis jumps by more than its jerk. So does Marlin's planner with classic jerk; here all moves are known in advance.
Not counted, as nobody can tell from the file: heating, homing, and the machine's own start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from batchone.pipeline.values import FloatArray
from batchone.slicer.moves import ACCELERATION, CRUISE, FRESH, JUNCTION, LENGTH, PAUSE_S, STOP, E, Moves


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What a toolpath takes.

    Attributes
    ----------
    seconds
        In all.
    layer_s
        (layers + 1,) float64: by layer, first what comes before the first one.
    filament_mm
        Filament that is used up; what is pulled back and pushed again counts once.
    """

    seconds: float
    layer_s: FloatArray
    filament_mm: float


def simulate(moves: Moves) -> Motion:
    """Time a toolpath (see :func:`batchone.slicer.moves.read_moves`)."""
    seconds = planned_s(moves.table) + moves.table[:, PAUSE_S]
    layer_s = np.bincount(moves.layer, weights=seconds).astype(np.float64)
    layer_s[-1] += moves.last_pause_s
    return Motion(float(layer_s.sum()), layer_s, used_mm(moves.table[:, E]))


def used_mm(filament_mm: FloatArray) -> float:
    """Filament that has left the nozzle after steps (n,) forward and, below 0, back: as far as it was ever pushed."""
    return max(0.0, float(np.cumsum(filament_mm).max(initial=0.0)))


@njit("f8(f8, f8, f8, f8, f8)", cache=True, nogil=True)
def trapezoid_s(length_mm: float, start: float, cruise: float, end: float, acceleration: float) -> float:
    """Seconds of one move between two speeds, mm/s: with a stretch at ``cruise``, or without where it is too short for that."""
    square = acceleration * length_mm + 0.5 * (start * start + end * end)  # of the highest speed that it could reach
    if square < cruise * cruise:
        return (2.0 * np.sqrt(square) - start - end) / acceleration
    ramps_mm = (2.0 * cruise * cruise - start * start - end * end) / (2.0 * acceleration)
    return (2.0 * cruise - start - end) / acceleration + (length_mm - ramps_mm) / cruise


@njit("f8[::1](f8[:, ::1])", cache=True, nogil=True)
def planned_s(table: FloatArray) -> FloatArray:
    """(n,) seconds of each move of a table, pauses not counted."""
    count = table.shape[0]
    entry, seconds = np.empty(count + 1), np.empty(count)
    entry[count] = table[count - 1, STOP]
    for i in range(count - 1, -1, -1):  # what each may start with and still slow down for what follows
        end = table[i, STOP] if i == count - 1 or table[i + 1, FRESH] > 0.0 else entry[i + 1]
        entry[i] = min(table[i, JUNCTION], np.sqrt(end * end + 2.0 * table[i, ACCELERATION] * table[i, LENGTH]))
    start = entry[0]
    for i in range(count):  # what each reaches
        stops = i == count - 1 or table[i + 1, FRESH] > 0.0
        reached = np.sqrt(start * start + 2.0 * table[i, ACCELERATION] * table[i, LENGTH])
        end = min(table[i, STOP] if stops else entry[i + 1], reached)
        seconds[i] = trapezoid_s(table[i, LENGTH], start, table[i, CRUISE], end, table[i, ACCELERATION])
        start = entry[i + 1] if stops else end
    return seconds
