"""Which shell should be made, and where it should touch: of shells that may be made the one that seats best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchone.design.booleans import face_areas
from batchone.design.contact.seat import CONTACT, BoolArray
from batchone.design.seating.contacts import Contact, Landscape
from batchone.design.seating.friction import spread
from batchone.design.seating.make import seated
from batchone.design.seating.settle import Poses
from batchone.design.seating.stability import Press, press_of
from batchone.design.seating.underside import Shape, Under, Underside
from batchone.design.seating.uniqueness import planned_seat, reference, uniqueness
from batchone.design.seating.zones import cells_of, steadiest
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Bone, FloatArray, IntArray, Part

CELL_MM = 5.0  # zones are made of squares of this size; narrower ones are relieved; project default, unverified
LEAST_AREA = 0.6  # of the plain contact's area a chosen one has no less, and no more than all; project default, unverified
SEED = 20260108  # any will do
SORTED, RACED, STARTS, TOLD_STARTS = 150, 300, 500, 500  # numerical: to sort, for each step, for the finalists, for what is told
THINNED, HALVED, BEGUN, FINALISTS = (
    3,
    8,
    2,
    3,
)  # numerical: shells thinned to zones, then by rank: judged again, moved, judged in full
EXCHANGES = 120  # numerical: of squares, for the zones that the search begins with
FAR = 0.02  # numerical: of few starts a share errs by about so much
MOVES = 12  # numerical: tried from each beginning
MOVED = 0.15  # numerical: of the squares, at most so many are moved at once
WRONG, BAD = 0.01, 0.05  # shares that count alike: what a release may have of each (facts, METHODS C.8)
_SHARES = (1.3, 1.0)  # of the plain contact's area that zones have before their edges are rounded
_SEEDS = 1  # numerical: beginnings of each share
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
    shapes: Sequence[Shape], make: Callable[[Shape], tuple[Part, list[tuple[str, float]]]], bone: Bone, pose: FloatArray
) -> Chosen:
    """Make a part of each shell and choose the one that seats best, as a part is scored; the plain one where none is better.

    Parameters
    ----------
    shapes
        From :func:`finalists`, the plain one first.
    make
        Makes a part and its figures of a shell. What cannot be made, or touches more than the plain part or far
        less, is left out.
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
    seats = [seated(part, bone, pose) for part, _ in made]
    costs = [_cost(_seats(one.body, one.ground, STARTS, SEED + 5)) for one in seats]
    best = int(np.argmin(costs))
    before, after = (_seats(seats[n].body, seats[n].ground, TOLD_STARTS, SEED + 10) for n in (0, best))
    if _cost(after) >= _cost(before):
        best, after = 0, before
    return Chosen(made[best][0], tuple(made[best][1]), before, after)


def finalists(underside: Underside, plain: Shape, may: Sequence[Shape]) -> tuple[Shape, ...]:
    """The plain shell, and those that may seat better with no more contact, the best first.

    Shells are sorted by what sticks of a few starts; zones of the best are moved square by square, each step judged on the same
    starts as the last.

    Parameters
    ----------
    underside
        Bone, and what all shells share.
    plain
        What is made if nothing is chosen.
    may
        Other shells, each touching wherever it may: where that is too much, zones are chosen.
    """
    most_mm2 = underside.of(plain).area_mm2
    area = _Range(LEAST_AREA * most_mm2, most_mm2)
    squares = _squares(plain.zones, underside.step_mm)
    wholes = []
    for shape in (plain, *may):
        under = underside.of(shape)
        held = _held(under)
        if under.area_mm2 >= area.low_mm2:
            every = frozenset(np.unique(squares[shape.zones]).tolist())
            wholes.append((held.stuck(SORTED, SEED), under.area_mm2, _Zones(shape, squares, every)))
    wholes.sort(key=lambda row: row[0])
    tried = [(stuck, one) for stuck, area_mm2, one in wholes if area.holds(area_mm2)]
    for number, (_, _, whole) in enumerate(wholes[:THINNED]):
        for one in _begun(underside, whole, area, SEED + 100 * number):
            tried.append((_held(underside.of(one.shape)).stuck(SORTED, SEED), one))
    tried.sort(key=lambda row: row[0])
    halved = [(_share(_held(underside.of(one.shape)), 1.0), one) for _, one in tried[:HALVED]]
    best = [one for _, one in sorted(halved, key=lambda row: row[0])]
    moved = [_moved(underside, one, area, SEED + 1000 * number) for number, one in enumerate(best[:BEGUN])]
    found = {(id(one.whole), one.kept): one.shape for one in (*moved, *best[:FINALISTS])}
    return (plain, *found.values())


def _begun(underside: Underside, whole: _Zones, area: _Range, seed: int) -> Iterator[_Zones]:
    """Zones that the search may begin with: far apart, on flanks that face each other."""
    zones, squares = whole.whole.zones, whole.squares
    sparse = np.zeros(zones.shape, dtype=np.bool_)
    sparse[::_EVERY, ::_EVERY] = True
    asked = zones & sparse
    surface = underside.surface_mm(asked)
    if len(surface) == 0:
        return
    names, order = np.unique(squares[underside.seen(asked)], return_inverse=True)
    cells: IntArray = order.ravel().astype(np.int32)
    sizes = np.bincount(cells).astype(np.int32)
    each_mm2 = float(np.median(sizes)) * (_EVERY * underside.step_mm) ** 2
    places, normals = surface - surface.mean(axis=0), underside.normals(surface)
    for number, share in enumerate(_SHARES * _SEEDS):
        few = int(np.clip(round(share * area.high_mm2 / each_mm2), 6, len(names) - 1))
        if few < 6:
            return
        kept = set(steadiest(places, normals, cells, few, exchanges=EXCHANGES, seed=seed + number).tolist())
        small = [cell for cell in np.argsort(sizes, kind="stable").tolist() if cell in kept]
        while small:
            one = replace(whole, kept=frozenset(names[sorted(kept)].tolist()))
            area_mm2 = underside.of(one.shape).area_mm2
            if area_mm2 <= area.high_mm2:
                if area.holds(area_mm2):
                    yield one
                break
            many = max(1, int(0.5 * (area_mm2 / area.high_mm2 - 1.0) * len(small)))
            kept -= set(small[:many])
            small = small[many:]


def _moved(underside: Underside, zones: _Zones, area: _Range, seed: int) -> _Zones:
    """Zones of which squares are dropped and others taken while less sticks; a move is first tried on few starts."""
    rng = np.random.default_rng(seed)
    every = np.unique(zones.squares[zones.whole.zones])
    best, least = zones, _share(_held(underside.of(zones.shape)), 1.0)
    for _ in range(MOVES):
        kept = np.array(sorted(best.kept))
        free = np.setdiff1d(every, kept)
        most = max(1, round(MOVED * len(kept)))
        out = rng.choice(kept, int(rng.integers(0, min(most, len(kept) - 1) + 1)), replace=False)
        into = rng.choice(free, min(int(rng.integers(0 if len(out) else 1, most + 1)), len(free)), replace=False)
        one = replace(best, kept=frozenset(np.union1d(np.setdiff1d(kept, out), into).tolist()))
        under = underside.of(one.shape)
        if area.holds(under.area_mm2) and (share := _share(_held(under), least)) < least:
            best, least = one, share
    return best


def _share(held: _Held, least: float) -> float:
    """Share that sticks or is lost; of few starts only where that is far above the least so far."""
    few = held.stuck(SORTED, SEED)
    if few > least + FAR:
        return few
    return (SORTED * few + RACED * held.stuck(RACED, SEED + 1)) / (SORTED + RACED)


def _squares(zones: BoolArray, step_mm: float) -> IntArray:
    """(x, y) number of the square that each column lies in."""
    x, y = np.indices(zones.shape)
    places = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64) * step_mm
    return cells_of(places, CELL_MM).reshape(zones.shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """A body on its bone with its best push and its planned seat."""

    body: Contact
    ground: Landscape
    press: Press
    seat: Poses

    def stuck(self, count: int, seed: int) -> float:
        """Share of starts that stick or are lost."""
        return spread(self.body, self.ground, self.press, self.seat, count=count, seed=seed).bad

    def wrong(self, count: int, seed: int) -> float:
        """Share of starts that come to rest elsewhere."""
        return uniqueness(self.body, self.ground, self.press, self.seat, count=count, seed=seed).wrong


def _held(under: Under) -> _Held:
    return _on(under.body, under.ground)


def _on(body: Contact, ground: Landscape) -> _Held:
    press = press_of(body)
    return _Held(body, ground, press, reference(body, planned_seat(body, ground, press)))


def _seats(body: Contact, ground: Landscape, count: int, seed: int) -> tuple[float, float]:
    """Shares of wrong starts, and of those that stick or are lost."""
    held = _on(body, ground)
    return held.wrong(count, seed), held.stuck(count, seed + 1)


def _cost(shares: tuple[float, float]) -> float:
    """What is within a release counts no less, so that wrong seats are not bought with stuck ones."""
    return max(shares[0] / WRONG, 1.0) + max(shares[1] / BAD, 1.0)
