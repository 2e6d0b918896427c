"""Nesting: parts of several jobs on one plate or in one cake.

On a plate nothing stands above another: what counts is the shadow of each part, as irregular as it is. In a cake of powder parts
also lie above one another. Each part keeps the side up that its job was approved with and is turned about the vertical only,
not so that more of its thin walls meets the blade of a recoater flat than in its job.
The search runs on cells (``columns.py``) that hold the surfaces whole, so that what it finds keeps the clearance; that it does is
measured afterwards on the meshes themselves (``clearances.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import shapely

from batchone.pipeline.errors import MachineError
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh
from batchone.slicer.plate import usable_box_mm
from batchone.slicer.recoater import thin_walls
from batchone.slicer.room import Room, best_place, cells_of, empty_room, swollen, take

_STEP_MM: Final = 1.0  # numerical: cells, to the next whole number of layers
_TURNS: Final = 16  # numerical: angles about the vertical that are tried, from the one along the smallest rectangle
_CAKE_STRIDE: Final = 2  # numerical: cells of a cake between places that are tried
_THREADS: Final = 2  # units that are turned at a time
_WHOLE: Final = 1e-9  # numerical: room for rounding in the number of cells
_FINE_TURNS: Final = (0.5, 0.25)  # of the step between them, to both sides of the best so far
_SPREAD: Final = (3.0, 2.0, 1.5, 1.0)  # project default: clearances that a plate is tried with; heat spreads, wipers pass
_CAKE_WEIGHTS: Final = (0.002, 0.05, 1.0)  # project default: a low cake first, it costs time; then rows from one corner
_FLAT_WEIGHTS: Final = (0.02, 1.0, 0.0)  # project default: rows from one corner
_CROWD: Final = 0.5  # project default: what it costs two parts to stand their own height apart, in cells of the leading axis

Others = Sequence[tuple[float, float, float]]  # middle of each unit placed so far, cells, and its height, mm


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """What moves as one: a part, which comes first, and its supports.

    ``group`` is its job: the parts of a job are placed together or not at all. ``bodies`` stand as in their job, mm, z up.
    """

    name: str
    group: str
    bodies: tuple[Mesh, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Nest:
    """Where units are placed.

    Attributes
    ----------
    moves
        For each unit the (4, 4) rigid motion from its job's plate frame to this one's; None when it was left out.
    spacing_mm
        The clearance that was kept for: at least the process's own.
    left_out
        Groups that have no room, in the order of the units.
    findings
        Of each unit placed, what of its thin walls meets the recoater's blade flat; none where no hard blade is known.
    """

    moves: tuple[FloatArray | None, ...]
    spacing_mm: float
    left_out: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """A unit turned about the vertical: columns of cells, size, and where the corner of its box lies after the turn."""

    turn: FloatArray
    low: IntArray
    high: IntArray
    corner_mm: FloatArray
    size_mm: FloatArray


class _Place(NamedTuple):
    """A free place: what it costs, the turn about the vertical, and the cell of the corner."""

    cost: float
    deg: float
    cell: tuple[int, int, int]


def nest(units: Sequence[Unit], *, process: Process, machine: Machine, leave_out: bool = False) -> Nest:
    """Place units, the most urgent first.

    Parameters
    ----------
    units
        By urgency; units of one group side by side.
    leave_out
        Leave out groups for which there is no room, the least urgent first, rather than refuse.

    Raises
    ------
    MachineError
        A unit is larger than the machine; or not all have room, and ``leave_out`` is not set.
    """
    packing = _Packing(units, process, machine)
    packing.turn_all()
    packing.refuse_oversize()
    by_size = sorted(range(len(units)), key=lambda index: (-packing.bulk(index), index))
    for spacing_mm in packing.spacings_mm:
        placed = packing.pack([by_size], spacing_mm)
        if len(placed) == len(units):
            return packing.nest(placed, spacing_mm)
    groups = list(dict.fromkeys(unit.group for unit in units))
    members = [[index for index in by_size if units[index].group == group] for group in groups]
    found = packing.nest(packing.pack(members, process.part_spacing_mm), process.part_spacing_mm)
    if not leave_out or len(found.left_out) == len(groups):
        raise MachineError(
            f"{len(found.left_out)} of {len(groups)} jobs have no room on {machine.name} with {process.part_spacing_mm:g} mm "
            f"between parts: {', '.join(found.left_out)}",
            hint="nest fewer jobs, or let --partial leave those out that are due last",
        )
    return found


class _Packing:
    """Units on their way into one machine."""

    def __init__(self, units: Sequence[Unit], process: Process, machine: Machine) -> None:
        self.units = units
        self.flat = process.kind != "sls"
        self.step_mm = max(1, round(_STEP_MM / process.layer_mm)) * process.layer_mm
        self.box_mm = np.array(usable_box_mm(machine))
        self.margin_mm = machine.plate_margin_mm
        self.spacings_mm = [process.part_spacing_mm * factor for factor in (_SPREAD if self.flat else (1.0,))]
        self.machine = machine
        self._shapes: dict[tuple[int, float], _Shape] = {}
        self._walls = [thin_walls(unit.bodies[0], process, machine) for unit in units]
        self._turns_deg = [self._tried_deg(index) for index in range(len(units))]

    def turn_all(self) -> None:
        """Make the shapes that are tried first, side by side."""
        indices = range(len(self.units))
        with ThreadPoolExecutor(_THREADS) as pool:  # the kernel lets other threads run
            turned = list(pool.map(self._made_turned, indices))
        for index, shapes in zip(indices, turned, strict=True):
            self._shapes.update({(index, deg): shape for deg, shape in zip(self._turns_deg[index], shapes, strict=True)})

    def _made_turned(self, index: int) -> list[_Shape]:
        return [self._made(self.units[index], deg) for deg in self._turns_deg[index]]

    def _tried_deg(self, index: int) -> list[float]:
        first_deg = _rectangle_deg(self.units[index])
        evenly = [first_deg + 360.0 / _TURNS * k for k in range(_TURNS)]
        tried = [deg for deg in evenly if self._allowed(index, deg)]
        return tried if len(tried) == _TURNS else list(dict.fromkeys([*tried, 0.0, 180.0]))

    def _allowed(self, index: int, deg: float) -> bool:
        """Whether a turn leaves thin walls as far off the recoater's blade as they are in their job."""
        walls = self._walls[index]
        return walls is None or walls.allow(deg)

    def refuse_oversize(self) -> None:
        """Refuse what does not fit the machine even alone, whichever way it is turned."""
        for index, unit in enumerate(self.units):
            if not any(min(self._most(self.shape(index, deg))) >= 0 for deg in self._turns_deg[index]):
                size = self.shape(index, self._turns_deg[index][0]).size_mm
                raise MachineError(
                    f"{unit.name} is {size[0]:.1f} x {size[1]:.1f} x {size[2]:.1f} mm, at most "
                    + " x ".join(f"{side:.1f}" for side in self.box_mm)
                    + f" mm fit {self.machine.name}",
                    hint="choose a larger machine",
                )

    def bulk(self, index: int) -> float:
        """What of the machine a unit takes: cells of its columns."""
        shape = self.shape(index, self._turns_deg[index][0])
        return float(np.maximum(shape.high - shape.low + 1, 0).sum())

    def shape(self, index: int, deg: float) -> _Shape:
        """A unit turned about the vertical."""
        key = (index, deg)
        if key not in self._shapes:
            self._shapes[key] = self._made(self.units[index], deg)
        return self._shapes[key]

    def _made(self, unit: Unit, deg: float) -> _Shape:
        turn = _turn(deg)
        bodies = [body.moved(turn) for body in unit.bodies]
        corner = np.min([body.vertices_mm.min(axis=0) for body in bodies], axis=0)
        corner[2] = 0.0  # as high above the plate as in its job
        far = np.max([body.vertices_mm.max(axis=0) for body in bodies], axis=0)
        first = np.cumsum([0, *(len(body.vertices_mm) for body in bodies)])
        low, high = cells_of(
            np.concatenate([body.vertices_mm for body in bodies]) - corner,
            np.concatenate([body.faces + start for body, start in zip(bodies, first[:-1], strict=True)]),
            step_mm=self.step_mm,
            flat=self.flat,
        )
        return _Shape(turn, low, high, corner, far - corner)

    def _most(self, shape: _Shape) -> tuple[int, int, int]:
        """The largest cells in which the corner of a shape may lie; below 0 where it does not fit."""
        room = np.floor((self.box_mm - shape.size_mm) / self.step_mm + _WHOLE).astype(int)
        if self.flat:
            room[2] = min(0, room[2])
        return (int(room[0]), int(room[1]), int(room[2]))

    def pack(self, groups: Sequence[Sequence[int]], spacing_mm: float) -> dict[int, FloatArray]:
        """Place groups in turn, each whole or not at all; the motion of each unit placed."""
        cells = np.floor(self.box_mm / self.step_mm + _WHOLE).astype(int) + 1
        room = empty_room((int(cells[0]), int(cells[1]), 1 if self.flat else int(cells[2])))
        placed: dict[int, FloatArray] = {}
        others: list[tuple[float, float, float]] = []
        for group in groups:
            before = room.copy() if len(groups) > 1 else room
            done: dict[int, FloatArray] = {}
            stood: list[tuple[float, float, float]] = []
            for index in group:
                found = self._put(index, room, [*others, *stood])
                if found is None:
                    break
                shape, (i, j, k) = found
                low, high, border = swollen(shape.low, shape.high, clearance_mm=spacing_mm, step_mm=self.step_mm)
                take(room, low, high, i - border, j - border, k)
                done[index] = self._motion(shape, (i, j, k))
                stood.append((i + 0.5 * shape.low.shape[0], j + 0.5 * shape.low.shape[1], float(shape.size_mm[2])))
            if len(done) < len(group):
                if len(groups) == 1:
                    return placed
                room = before
                continue
            placed.update(done)
            others += stood
        return placed

    def _put(self, index: int, room: Room, others: Others) -> tuple[_Shape, tuple[int, int, int]] | None:
        """The cheapest place of a unit: over all turns, then by finer turns about the best."""
        step_deg = 360.0 / _TURNS
        best: _Place | None = None
        for deg in self._turns_deg[index]:
            best = self._cheaper(index, deg, room, others, best) or best
        if best is None:
            return None
        for share in _FINE_TURNS:
            middle_deg = best.deg
            for deg in (middle_deg - share * step_deg, middle_deg + share * step_deg):
                if not self._allowed(index, deg):
                    continue
                best = self._cheaper(index, deg, room, others, best) or best
        return self.shape(index, best.deg), best.cell

    def _cheaper(self, index: int, deg: float, room: Room, others: Others, best: _Place | None) -> _Place | None:
        """The cheapest place at one turn, if it is cheaper than the best so far."""
        shape = self.shape(index, deg)
        weights = _FLAT_WEIGHTS if self.flat else _CAKE_WEIGHTS
        own = float(np.dot(weights, shape.size_mm)) / self.step_mm  # the far corner counts
        tall = float(shape.size_mm[2])
        crowd = np.array([(x, y, _CROWD * math.sqrt(tall * height) / self.step_mm) for x, y, height in others]).reshape(-1, 3)
        found = best_place(
            room,
            shape.low,
            shape.high,
            most=self._most(shape),
            stride=1 if self.flat else _CAKE_STRIDE,
            weights=weights,
            bound=math.inf if best is None else best.cost - own,
            others=crowd,
        )
        return None if found is None else _Place(found[0] + own, deg, found[1])

    def _motion(self, shape: _Shape, cell: tuple[int, int, int]) -> FloatArray:
        motion = shape.turn.copy()
        motion[:3, 3] = np.array(cell) * self.step_mm - shape.corner_mm
        motion[:2, 3] += self.margin_mm
        return motion

    def nest(self, placed: dict[int, FloatArray], spacing_mm: float) -> Nest:
        """The whole in the middle of the plate."""
        corners = [body.moved(motion).vertices_mm[:, :2] for index, motion in placed.items() for body in self.units[index].bodies]
        moves: list[FloatArray | None] = [None] * len(self.units)
        if corners:
            low, high = np.min([c.min(axis=0) for c in corners], axis=0), np.max([c.max(axis=0) for c in corners], axis=0)
            shift: FloatArray = np.eye(4)
            shift[:2, 3] = self.margin_mm + 0.5 * self.box_mm[:2] - 0.5 * (low + high)
            for index, motion in placed.items():
                moves[index] = shift @ motion
        left_out = dict.fromkeys(unit.group for unit, move in zip(self.units, moves, strict=True) if move is None)
        return Nest(tuple(moves), spacing_mm, tuple(left_out), self._findings(moves))

    def _findings(self, moves: Sequence[FloatArray | None]) -> tuple[Finding, ...]:
        return tuple(
            walls.finding(unit.name, math.degrees(math.atan2(move[1, 0], move[0, 0])))
            for unit, walls, move in zip(self.units, self._walls, moves, strict=True)
            if walls is not None and move is not None
        )


def _rectangle_deg(unit: Unit) -> float:
    """The turn that lays the smallest rectangle about a unit along x and y."""
    hull = shapely.convex_hull(shapely.linestrings(np.concatenate([body.vertices_mm[:, :2] for body in unit.bodies])))
    ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(hull))
    sides = np.diff(ring, axis=0)
    if len(sides) == 0:
        return 0.0
    longest = sides[int(np.argmax(np.round(np.hypot(*sides.T), 6)))]
    return round(-math.degrees(math.atan2(longest[1], longest[0])), 6)


def _turn(deg: float) -> FloatArray:
    turn: FloatArray = np.eye(4)
    c, s = math.cos(math.radians(deg)), math.sin(math.radians(deg))
    turn[:2, :2] = [[c, -s], [s, c]]
    return turn
