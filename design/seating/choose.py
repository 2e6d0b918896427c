"""Which shell should be made, and where it should touch: of shells that may be made the one that seats best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchone.design.booleans import face_areas
from batchone.design.contact.seat import CONTACT
from batchone.design.seating.contacts import Contact, Landscape
from batchone.design.seating.friction import spread
from batchone.design.seating.make import seated
from batchone.design.seating.stability import press_of
from batchone.design.seating.underside import Shape, Underside
from batchone.design.seating.uniqueness import planned_seat, reference, uniqueness
from batchone.design.seating.zones import cells_of, steadiest
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Bone, FloatArray, IntArray, Part

LEAST_AREA = 0.6  # of the plain contact's area a chosen one has no less, and no more than all; project default, unverified
SEED = 20260108  # any will do
SEARCHED, STARTS = 500, 1000  # numerical: starts for each step of a search; for the best of what was tried
MADE, SAMPLED = 2400, 12  # numerical: starts for each part, and samplings of it: its share that sticks errs by half a point
ROUNDS = 3  # numerical: over all ways of trimming
CELL_MM = 5.0  # zones are made of squares of this size; narrower ones are relieved; project default, unverified
THINNED, BEGUN = 6, 2  # numerical: shells thinned to zones; of these and the trimmed ones so many are moved on
MOVES, MOVED = 16, 0.15  # numerical: moves tried from each; of the squares, at most so many are moved at once
JUDGED_AGAIN, FINALISTS = 16, 10  # numerical: of what was tried, so many are judged on more starts, and so many made as parts
OVER = 0.4  # numerical: share of stuck starts that as much contact again as the plain shell's costs in a search
WRONG, BAD = 0.01, 0.05  # shares that count alike: what a release may have of each (facts, METHODS C.8)
WITHIN = 0.25  # numerical: how much less a share that a release may have counts
EXCHANGES = 120  # numerical: of squares, for the zones that a search begins with
_SHARES = (1.3, 1.0)  # of the plain contact's area that zones have before their edges are rounded
_EVERY = 3  # numerical: one column in so many, each way, is a place in the search: 0.9 mm


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A part as made, its figures, and the seat of the plain and of this one: shares of wrong and of stuck or lost starts."""

    part: Part
    of_part: tuple[tuple[str, float], ...]
    before: tuple[float, float]
    after: tuple[float, float]

    @property
    def figures(self) -> list[tuple[str, float]]:
        """Those of the part, and percentages before and after, by name."""
        names = ("wrong_seats_percent", "stuck_or_lost_percent")
        return list(self.of_part) + [
            (f"contact_{name}_{when}", 100.0 * value)
            for when, shares in (("before", self.before), ("after", self.after))
            for name, value in zip(names, shares, strict=True)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class _Zones:
    """A shell that touches over some squares of what may touch: ``squares`` (x, y) their numbers, ``kept`` those that do."""

    whole: Shape
    squares: IntArray
    kept: frozenset[int]

    @property
    def shape(self) -> Shape:
        """With contact over the kept squares only."""
        return Shape(self.whole.zones & np.isin(self.squares, sorted(self.kept)), self.whole.footprint_mm)


@dataclass(frozen=True, slots=True)
class _Range:
    """What the area of contact may be, mm2."""

    low_mm2: float
    high_mm2: float

    def holds(self, area_mm2: float) -> bool:
        """Neither less nor more."""
        return self.low_mm2 <= area_mm2 <= self.high_mm2


def best_made(
    shapes: Sequence[Shape],
    make: Callable[[Shape], tuple[Part, list[tuple[str, float]]]],
    sound: Callable[[Part], bool],
    bone: Bone,
    pose: FloatArray,
) -> Chosen:
    """Make a part of each shell and choose the one that seats best, as a part is scored; the plain one where none is better.

    Parameters
    ----------
    shapes
        From :func:`finalists`, the plain one first.
    make
        Makes a part and its figures of a shell. What cannot be made, or touches more than the plain part or far
        less, is left out.
    sound
        Whether a part may be printed; one that may not is not chosen.
    bone, pose
        What it sits on, and (4, 4) the guide's frame in LPS.

    Raises
    ------
    DesignError
        The plain part cannot be made.
    """
    first, *others = shapes
    plain = make(first)
    made, most_mm2 = [plain], face_areas(plain[0])[CONTACT]
    for shape in others:
        try:
            one = make(shape)
        except DesignError:
            continue
        if LEAST_AREA * most_mm2 <= face_areas(one[0])[CONTACT] <= most_mm2:
            made.append(one)
    seats = [seated(part, bone, pose, count=SAMPLED) for part, _ in made]
    costs = [_cost(_seats(one.body, one.ground, MADE, SEED + 5)) for one in seats]
    best = next(int(n) for n in np.argsort(costs, kind="stable") if n == 0 or sound(made[n][0]))
    before, after = (_seats(seats[n].body, seats[n].ground, MADE, SEED + 10) for n in (0, best))
    if _cost(after) >= _cost(before):
        best, after = 0, before
    return Chosen(made[best][0], tuple(made[best][1]), before, after)


def finalists(
    underside: Underside,
    plain: Shape,
    trimmed: Callable[[tuple[float, ...]], Shape],
    ways: Sequence[Sequence[float]],
    start: tuple[float, ...] | None = None,
) -> tuple[Shape, ...]:
    """The plain shell, and those that may seat better with no more contact, the best first.

    A wide shell is trimmed from one side after the other, to where it seats best, until no side gains any more: what is trimmed
    away catches on no bone, and the rest of the contact lies further apart. Then zones of the best are moved square by square.

    Parameters
    ----------
    underside
        Bone, and what all shells share.
    plain
        What is made if nothing is chosen.
    trimmed
        Makes a shell of one value of each way.
    ways
        The values that may be tried for each way of trimming, that of the whole shell first.
    start
        Values near the plain shell, where the search begins unless the whole shell seats better.
    """
    touching = underside.of(plain)
    if touching is None:
        return (plain,)
    most_mm2 = touching.area_mm2
    search = _Search(underside, _Range(LEAST_AREA * most_mm2, most_mm2))
    tried: dict[tuple[float, ...], tuple[float, float]] = {}

    def cost(values: tuple[float, ...]) -> float:
        if values not in tried:
            tried[values] = search.cost(trimmed(values))
        return tried[values][0]

    whole = tuple(values[0] for values in ways)
    best, before = min([whole, *([start] if start else [])], key=cost), None
    for _ in range(ROUNDS):
        if best == before:
            break
        before = best
        for number, values in enumerate(ways):
            along = [(*best[:number], value, *best[number + 1 :]) for value in values]
            best = min([best, *along], key=cost)
    unlike = {costs: values for values, costs in reversed(tried.items()) if np.isfinite(costs[0])}  # the same costs: the same
    shells = [(costs[0], search.whole(trimmed(unlike[costs]))) for costs in sorted(unlike)[:JUDGED_AGAIN]]
    wholes = [search.whole(trimmed(unlike[costs])) for costs in sorted(unlike, key=lambda one: one[1])[:THINNED]]
    begun = [zones for number, one in enumerate(wholes) for zones in search.begun(one, SEED + 100 * number)]
    ranked = sorted([*shells, *((search.cost(one.shape)[0], one) for one in begun)], key=lambda row: row[0])
    judged = search.sorted_out([one for _, one in ranked[:JUDGED_AGAIN]])
    moved = [search.moved(one, SEED + 1000 * number) for number, (_, one) in enumerate(judged[:BEGUN])]
    last = [*judged, *search.sorted_out([one for one in moved if all(one is not other for _, other in judged)])]
    return (plain, *(one.shape for _, one in sorted(last, key=lambda row: row[0])[:FINALISTS]))


@dataclass(frozen=True, slots=True)
class _Search:
    """Shells over one piece of bone, and the area that they may have."""

    underside: Underside
    area: _Range

    def cost(self, shape: Shape) -> tuple[float, float]:
        """Share of stuck or lost starts, few and the same for all, with and without what too large an area costs.

        Wrong seats are left to the parts: they hang on single points of rims, of which an underside says little.
        """
        under = self.underside.of(shape)
        if under is None or under.area_mm2 < self.area.low_mm2:
            return np.inf, np.inf
        bad = _bad(under.body, under.ground, SEARCHED, SEED)
        return bad + OVER * max(under.area_mm2 / self.area.high_mm2 - 1.0, 0.0), bad

    def whole(self, shape: Shape) -> _Zones:
        """A shell that touches wherever it may."""
        x, y = np.indices(shape.zones.shape)
        places = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64) * self.underside.step_mm
        squares = cells_of(places, CELL_MM).reshape(shape.zones.shape)
        return _Zones(shape, squares, frozenset(np.unique(squares[shape.zones]).tolist()))

    def sorted_out(self, zones: Sequence[_Zones]) -> list[tuple[float, _Zones]]:
        """Those with an area that they may have and what they cost by more and other starts, the best first; of some that
        touch alike, one."""
        unders = [(self.underside.of(one.shape), one) for one in zones]
        may = {under.area_mm2: (under, one) for under, one in unders if under is not None and self.area.holds(under.area_mm2)}
        costs = [(_bad(under.body, under.ground, STARTS, SEED + 2), one) for under, one in may.values()]
        return sorted(costs, key=lambda row: row[0])

    def begun(self, whole: _Zones, seed: int) -> Iterator[_Zones]:
        """Zones that a search may begin with: far apart, on flanks that face each other."""
        zones, squares = whole.whole.zones, whole.squares
        sparse = np.zeros(zones.shape, dtype=np.bool_)
        sparse[::_EVERY, ::_EVERY] = True
        asked = zones & sparse
        surface = self.underside.surface_mm(asked)
        if len(surface) == 0:
            return
        names, order = np.unique(squares[asked], return_inverse=True)
        cells: IntArray = order.ravel().astype(np.int32)
        sizes = np.bincount(cells).astype(np.int32)
        each_mm2 = float(np.median(sizes)) * (_EVERY * self.underside.step_mm) ** 2
        places, normals = surface - surface.mean(axis=0), self.underside.normals(surface)
        for number, share in enumerate(_SHARES):
            few = int(np.clip(round(share * self.area.high_mm2 / each_mm2), 6, len(names) - 1))
            if few < 6:
                return
            kept = set(steadiest(places, normals, cells, few, exchanges=EXCHANGES, seed=seed + number).tolist())
            small = [cell for cell in np.argsort(sizes, kind="stable").tolist() if cell in kept]
            while small:
                one = replace(whole, kept=frozenset(names[sorted(kept)].tolist()))
                under = self.underside.of(one.shape)
                area_mm2 = under.area_mm2 if under else 0.0
                if area_mm2 <= self.area.high_mm2:
                    if self.area.holds(area_mm2):
                        yield one
                    break
                many = max(1, int(0.5 * (area_mm2 / self.area.high_mm2 - 1.0) * len(small)))
                kept -= set(small[:many])
                small = small[many:]

    def moved(self, zones: _Zones, seed: int) -> _Zones:
        """Zones of which squares are dropped and others taken while they seat better."""
        rng = np.random.default_rng(seed)
        every = np.unique(zones.squares[zones.whole.zones])
        best, least = zones, self.cost(zones.shape)[0]
        for _ in range(MOVES):
            kept = np.array(sorted(best.kept))
            free = np.setdiff1d(every, kept)
            most = max(1, round(MOVED * len(kept)))
            out = rng.choice(kept, int(rng.integers(0, min(most, len(kept) - 1) + 1)), replace=False)
            into = rng.choice(free, min(int(rng.integers(0 if len(out) else 1, most + 1)), len(free)), replace=False)
            one = replace(best, kept=frozenset(np.union1d(np.setdiff1d(kept, out), into).tolist()))
            if (now := self.cost(one.shape)[0]) < least:
                best, least = one, now
        return best


def _seats(body: Contact, ground: Landscape, count: int, seed: int) -> tuple[float, float]:
    """Shares of wrong starts, of half as many, and of those that stick or are lost."""
    press = press_of(body)
    seat = reference(body, planned_seat(body, ground, press))
    wrong = uniqueness(body, ground, press, seat, count=count // 2, seed=seed).wrong
    return wrong, spread(body, ground, press, seat, count=count, seed=seed + 1).bad


def _bad(body: Contact, ground: Landscape, count: int, seed: int) -> float:
    """Share of starts that stick or are lost."""
    press = press_of(body)
    return spread(body, ground, press, reference(body, planned_seat(body, ground, press)), count=count, seed=seed).bad


def _cost(shares: tuple[float, float]) -> float:
    """What is within a release counts little less, so that wrong seats are not bought with stuck ones."""
    ratios = (shares[0] / WRONG, shares[1] / BAD)
    return sum(max(one, 1.0) + WITHIN * min(one, 1.0) for one in ratios)
