"""Which shell should be made, and where it should touch: of shells that may be made the one that seats best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from batchone.design.contact.seat import BoolArray
from batchone.design.seating.friction import spread
from batchone.design.seating.stability import stability
from batchone.design.seating.underside import FINE_MM, ROUGH_MM, Shape, Under, Underside
from batchone.design.seating.uniqueness import planned_seat, reference, uniqueness
from batchone.design.seating.zones import cells_of, docking, steadiest
from batchone.pipeline.values import IntArray

CELL_MM = 5.0  # zones are made of squares of this size; narrower ones are relieved; project default, unverified
LEAST_AREA = 0.6  # of the plain contact's area a chosen one has no less, and no more than all; project default, unverified
SORTED, STARTS, TOLD_STARTS, SEED = 150, 300, 500, 20260108  # numerical: to sort, to choose, for what is told; any seed will do
THINNED, FINALISTS = 4, 4  # numerical: of the sorted, those whose contact is thinned to zones, and those judged in full
EXCHANGES = 120  # numerical: for each candidate
WRONG, BAD = 0.01, 0.05  # shares that count alike: what a release may have of each (facts, METHODS C.8)
_SHARES = (1.3, 1.0)  # of the plain contact's area that zones have before their edges are rounded
_RULES = (steadiest, docking)
_EVERY = 3  # numerical: one column in so many, each way, is a place in the search: 0.9 mm


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A shell and where it touches, and the seat of the plain and of this one: shares of wrong and of stuck or lost starts."""

    shape: Shape
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


def best_shape(underside: Underside, plain: Shape, may: Sequence[Shape], *, rounds: int = 1) -> Chosen:
    """Choose what seats better than the plain shell with no more contact; the plain one where nothing does.

    Parameters
    ----------
    underside
        Bone, and what all shells share.
    plain
        What is made if nothing is chosen.
    may
        Other shells, each touching wherever it may: where that is too much, zones are chosen.
    rounds
        Seeds that are tried for each rule and share of the zones.
    """
    most_mm2 = underside.of(plain, ROUGH_MM).area_mm2
    wholes = [(one, underside.of(one, ROUGH_MM)) for one in may]
    wholes = [(one, under) for one, under in wholes if under.area_mm2 >= LEAST_AREA * most_mm2]
    tried = [one for one, under in wholes if under.area_mm2 <= most_mm2]
    sticks = [_sticks(under, SORTED, SEED) for _, under in wholes]
    for number in np.argsort(sticks, kind="stable")[:THINNED].tolist():
        tried += _with_zones(underside, wholes[number][0], most_mm2, SEED + 100 * number, rounds)
    sticks = [_sticks(underside.of(one, ROUGH_MM), SORTED, SEED) for one in tried]
    order = np.argsort(sticks, kind="stable")[:FINALISTS].tolist()
    finals = [plain, *(tried[number] for number in order)]
    costs = [_cost(_seats(underside.of(one, FINE_MM), STARTS, SEED + 5)) for one in finals]
    found = finals[int(np.argmin(costs))]
    before, after = (_seats(underside.of(one, FINE_MM), TOLD_STARTS, SEED + 10) for one in (plain, found))
    return Chosen(found, before, after) if _cost(after) < _cost(before) else Chosen(plain, before, before)


def _with_zones(underside: Underside, whole: Shape, most_mm2: float, seed: int, rounds: int) -> Iterator[Shape]:
    """A shell with less contact: squares of what may touch, by each rule and share."""
    squares = _squares(whole.zones, underside.step_mm)
    sparse = np.zeros(whole.zones.shape, dtype=np.bool_)
    sparse[::_EVERY, ::_EVERY] = True
    asked = whole.zones & sparse
    surface = underside.surface_mm(asked)
    if len(surface) == 0:
        return
    names, order = np.unique(squares[underside.seen(asked)], return_inverse=True)
    cells: IntArray = order.ravel().astype(np.int32)
    sizes = np.bincount(cells).astype(np.int32)
    each_mm2 = float(np.median(sizes)) * (_EVERY * underside.step_mm) ** 2
    places, normals = surface - surface.mean(axis=0), underside.normals(surface)
    for number, (rule, share) in enumerate(product(_RULES * rounds, _SHARES)):
        few = int(np.clip(round(share * most_mm2 / each_mm2), 6, len(names) - 1))
        if few < 6:
            return
        kept = set(rule(places, normals, cells, few, exchanges=EXCHANGES, seed=seed + number).tolist())
        small = [cell for cell in np.argsort(sizes, kind="stable").tolist() if cell in kept]
        while small:
            shape = Shape(whole.zones & np.isin(squares, names[sorted(kept)]), whole.footprint_mm)
            area_mm2 = underside.of(shape, ROUGH_MM).area_mm2
            if area_mm2 <= most_mm2:
                if area_mm2 >= LEAST_AREA * most_mm2:
                    yield shape
                break
            many = max(1, int(0.5 * (area_mm2 / most_mm2 - 1.0) * len(small)))
            kept -= set(small[:many])
            small = small[many:]


def _squares(zones: BoolArray, step_mm: float) -> IntArray:
    """(x, y) number of the square that each column lies in."""
    x, y = np.indices(zones.shape)
    places = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64) * step_mm
    return cells_of(places, CELL_MM).reshape(zones.shape)


def _seats(under: Under, count: int, seed: int) -> tuple[float, float]:
    """Shares of wrong starts, and of those that stick or are lost."""
    press = stability(under.body).press
    seat = reference(under.body, planned_seat(under.body, under.ground, press))
    where = uniqueness(under.body, under.ground, press, seat, count=count, seed=seed)
    return where.wrong, spread(under.body, under.ground, press, seat, count=count, seed=seed + 1).bad


def _sticks(under: Under, count: int, seed: int) -> float:
    """Share of starts that stick or are lost."""
    press = stability(under.body).press
    seat = reference(under.body, planned_seat(under.body, under.ground, press))
    return spread(under.body, under.ground, press, seat, count=count, seed=seed).bad


def _cost(shares: tuple[float, float]) -> float:
    """What is within a release counts no less, so that wrong seats are not bought with stuck ones."""
    return max(shares[0] / WRONG, 1.0) + max(shares[1] / BAD, 1.0)
