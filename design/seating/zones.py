"""Where a guide should touch: zones chosen so that it docks best, at a given area of contact.

Places that may carry are sorted into square cells. From cells far apart, one cell is exchanged for another, chosen by a seeded
generator, as long as the docking margin of the best push rises. Points that do not carry any more are relieved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from batchone.design.seating.contacts import BoolArray, farthest
from batchone.design.seating.stability import PRESS_CONE_DEG, cone, docking_facets, jacobian, margins_deg, wrench
from batchone.pipeline.values import FloatArray, IntArray

EXCHANGES = 300  # facts, METHODS C.7: not converged, and enough
SEED = 20260107  # any number will do
_CELL_POINTS = 3  # numerical: of a cell, so many places count in the search
_PUSHES = 12  # numerical: places that are tried for the push in the search


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Cells that carry (k,), as numbers, with their docking margin (deg), and that of the cells the search started from."""

    cells: IntArray
    margin_deg: float
    before_deg: float


def cells_of(places_mm: FloatArray, size_mm: float) -> IntArray:
    """(n,) number of the square cell, seen along z, that each place lies in."""
    return (
        np.unique(np.floor(places_mm[:, :2] / size_mm).astype(np.int64), axis=0, return_inverse=True)[1].astype(np.int32).ravel()
    )


def chosen(
    places_mm: FloatArray, normals: FloatArray, cells: IntArray, count: int, *, exchanges: int = EXCHANGES, seed: int = SEED
) -> Choice:
    """Choose so many cells.

    Parameters
    ----------
    places_mm, normals
        (n, 3) places that may carry, about the middle of the guide, and the bone's unit normals there.
    cells
        (n,) the cell of each.
    count
        Cells to choose.
    """
    rho = float(np.sqrt((places_mm**2).sum(axis=1).mean()))
    total = int(cells.max()) + 1
    rows = jacobian(places_mm, normals, rho)
    few = [_few(places_mm, np.flatnonzero(cells == cell).astype(np.int32)) for cell in range(total)]
    middles = np.array([places_mm[one].mean(axis=0) for one in few])
    pushes = places_mm[farthest(places_mm, _PUSHES)] * 0.6
    directions = cone(np.array([0.0, 0.0, -1.0]), PRESS_CONE_DEG, 2)
    loads = wrench(np.repeat(pushes, len(directions), axis=0), np.tile(directions, (len(pushes), 1)), rho)

    def margin(mine: BoolArray) -> float:
        points = np.concatenate([few[cell] for cell in np.flatnonzero(mine)])
        return float(margins_deg(docking_facets(rows[points]), loads).max())

    return Choice(*_exchanged(margin, middles, count, exchanges, seed))


def steadiest(
    places_mm: FloatArray, normals: FloatArray, cells: IntArray, count: int, *, exchanges: int = EXCHANGES, seed: int = SEED
) -> IntArray:
    """Cells (count,) whose contact slides least for each mm of gap, by exchange as in :func:`chosen`.

    They lie far apart on flanks that face each other: there a guide that lies aside slides home in spite of friction.
    """
    rho = float(np.sqrt((places_mm**2).sum(axis=1).mean()))
    total = int(cells.max()) + 1
    rows = jacobian(places_mm, normals, rho)
    squares = np.array([rows[cells == cell].T @ rows[cells == cell] for cell in range(total)])
    sizes = np.bincount(cells)
    middles = np.array([places_mm[cells == cell].mean(axis=0) for cell in range(total)])

    def hold(mine: BoolArray) -> float:
        return float(np.linalg.eigvalsh(squares[mine].sum(axis=0) / sizes[mine].sum())[0])

    return _exchanged(hold, middles, count, exchanges, seed)[0]


def _exchanged(
    value: Callable[[BoolArray], float], middles: FloatArray, count: int, exchanges: int, seed: int
) -> tuple[IntArray, float, float]:
    """Cells (k,) whose value no tried exchange of two raises; their value, and that of the cells far apart it started from."""
    total = len(middles)
    rng = np.random.default_rng(seed)
    mine = np.zeros(total, dtype=np.bool_)
    mine[farthest(middles, min(count, total))] = True
    best = before = value(mine)
    for _ in range(exchanges if count < total else 0):
        out, into = rng.choice(np.flatnonzero(mine)), rng.choice(np.flatnonzero(~mine))
        mine[out], mine[into] = False, True
        now = value(mine)
        if now > best:
            best = now
        else:
            mine[out], mine[into] = True, False
    return np.flatnonzero(mine).astype(np.int32), best, before


def _few(places_mm: FloatArray, inside: IntArray) -> IntArray:
    return np.asarray(inside[farthest(places_mm[inside], _CELL_POINTS)], dtype=np.int32)
