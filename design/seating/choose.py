"""Which columns of a footprint should carry: candidates that slide least or dock best, of these the one that seats best."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from batchone.design.contact.seat import BoolArray, Ground, level_map_mm
from batchone.design.seating.contacts import Contact, Landscape, contact, landscape
from batchone.design.seating.friction import spread
from batchone.design.seating.stability import stability
from batchone.design.seating.uniqueness import planned_seat, reference, uniqueness
from batchone.design.seating.zones import cells_of, docking, steadiest
from batchone.pipeline.values import FloatArray

CELL_MM = 5.0  # zones are made of squares of this size; narrower ones are relieved; project default, unverified
STARTS, TOLD_STARTS, SEED = 300, 500, 20260108  # numerical: for each candidate, and for what is told; any seed will do
EXCHANGES = 120  # numerical: for each candidate
ROUNDS = 2  # numerical: seeds that are tried for each rule and share
WRONG, BAD = 0.01, 0.05  # shares that count alike: what a release may have of each (facts, METHODS C.8)
_SHARES = (1.6, 1.3, 1.0)  # of the plain contact's area that candidates have before the edges of their zones are rounded
_RULES = (steadiest, docking)
_TOUCHES_MM = 1e-3  # numerical
_SPACING_MM = 1.0  # numerical: of the places that are tried, as those of the score


@dataclass(frozen=True, slots=True, eq=False)
class Zones:
    """Columns that carry (x, y), and the seat of the plain and the chosen ones: shares of wrong and of stuck or lost starts."""

    carries: BoolArray
    before: tuple[float, float]
    after: tuple[float, float]

    @property
    def figures(self) -> list[tuple[str, float]]:
        """Percentages before and after, by name."""
        names = ("wrong_seats_percent", "stuck_or_lost_percent")
        return [
            (f"contact_{name}_{when}", 100.0 * value)
            for when, shares in (("before", self.before), ("after", self.after))
            for name, value in zip(names, shares, strict=True)
        ]


def best_zones(
    ground: Ground, height_mm: FloatArray, may: BoolArray, plain: BoolArray, *, offset_mm: float, relief_mm: float
) -> Zones:
    """Choose columns of ``may`` with about the area of ``plain`` that seat better than these; ``plain`` where none do.

    Parameters
    ----------
    ground, height_mm
        The bone, and (x, y) the height of its first face.
    may, plain
        (x, y) columns that may carry, and those that carry if nothing is chosen.
    offset_mm, relief_mm
        Gap where the guide touches, and elsewhere.
    """
    lattice = ground.lattice
    every = max(1, round(_SPACING_MM / lattice.step_mm))
    i, j = np.nonzero(may & _sparse(may.shape, every))
    surface = np.column_stack([lattice.x_mm[i, 0], lattice.y_mm[0, j], height_mm[i, j]])
    bone = landscape(ground.bone, surface)
    normals = bone.normals(surface)
    cells = cells_of(surface, CELL_MM)
    sizes = np.bincount(cells)
    area = flat(plain, lattice.step_mm)
    was, most = area[i, j], int(area.sum())
    count = float(was.sum()) / float(np.median(sizes))
    mine_columns = plain
    best, mine = _seats(bone, surface, normals, was, offset_mm, relief_mm, STARTS, SEED), was
    places = surface - surface.mean(axis=0)
    for number, (rule, share) in enumerate(product(_RULES * ROUNDS, _SHARES)):
        few = int(np.clip(round(share * count), 6, len(sizes) - 1))
        found = rule(places, normals, cells, few, exchanges=EXCHANGES, seed=SEED + number)
        kept = np.isin(cells, found)
        for cell in [one for one in np.argsort(sizes, kind="stable") if one in found]:
            columns = _grown(may, i, j, kept, lattice.x_mm[:, 0], lattice.y_mm[0])
            area = flat(columns, lattice.step_mm)
            if int(area.sum()) <= most:
                break
            kept &= cells != cell
        carries = area[i, j]
        seats = _seats(bone, surface, normals, carries, offset_mm, relief_mm, STARTS, SEED)
        if _cost(seats) < _cost(best):
            best, mine, mine_columns = seats, carries, columns
    before, after = (_seats(bone, surface, normals, one, offset_mm, relief_mm, TOLD_STARTS, SEED + 10) for one in (was, mine))
    if mine is was or _cost(after) >= _cost(before):
        return Zones(plain, before, before)
    return Zones(mine_columns, before, after)


def _sparse(shape: tuple[int, ...], every: int) -> BoolArray:
    found = np.zeros(shape, dtype=np.bool_)
    found[::every, ::every] = True
    return found


def flat(zones: BoolArray, step_mm: float) -> BoolArray:
    """(x, y) where a guide touches in the end: the edges of its zones are rounded."""
    return np.asarray(level_map_mm(zones, step_mm, offset_mm=0.0, relief_mm=1.0) <= _TOUCHES_MM)


def _grown(may: BoolArray, i: np.ndarray, j: np.ndarray, mine: BoolArray, x_mm: FloatArray, y_mm: FloatArray) -> BoolArray:
    """All columns of the chosen cells."""
    squares = {
        (int(np.floor(x_mm[a] / CELL_MM)), int(np.floor(y_mm[b] / CELL_MM))) for a, b in zip(i[mine], j[mine], strict=True)
    }
    column, row = np.floor(x_mm / CELL_MM).astype(int), np.floor(y_mm / CELL_MM).astype(int)
    found = np.zeros(may.shape, dtype=np.bool_)
    for a, b in sorted(squares):
        found |= (column == a)[:, None] & (row == b)[None]
    return found & may


def _seats(
    bone: Landscape, surface: FloatArray, normals: FloatArray, carries: BoolArray,
    offset_mm: float, relief_mm: float, count: int, seed: int,
) -> tuple[float, float]:  # fmt: skip
    """Shares of wrong starts, and of those that stick or are lost, with some places that carry."""
    body, ground = _body(bone, surface, normals, carries, offset_mm, relief_mm)
    press = stability(body).press
    seat = reference(body, planned_seat(body, ground, press))
    where = uniqueness(body, ground, press, seat, count=count, seed=seed)
    return where.wrong, spread(body, ground, press, seat, count=count, seed=seed + 1).bad


def _body(
    bone: Landscape, surface: FloatArray, normals: FloatArray, carries: BoolArray, offset_mm: float, relief_mm: float
) -> tuple[Contact, Landscape]:
    touching = surface[carries] + offset_mm * normals[carries]
    others = surface[~carries] + relief_mm * normals[~carries]
    middle = touching.mean(axis=0)
    lattice = bone.lattice
    ground = Landscape(type(lattice)(lattice.origin_mm - middle, lattice.step_mm, lattice.shape), bone.distance_mm)
    return contact(touching - middle, others - middle, ground), ground


def _cost(shares: tuple[float, float]) -> float:
    return max(shares[0] / WRONG, 1.0) + max(shares[1] / BAD, 1.0)
