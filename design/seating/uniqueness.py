"""Is there one seat only: where a body comes to rest from many wrong starts, and how far the push may tilt before it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from batchone.design.seating.contacts import BoolArray, Contact, Landscape
from batchone.design.seating.settle import LAST, NUDGED, Poses, Settled, settled
from batchone.design.seating.stability import Press
from batchone.pipeline.seat_map import OFF, PLANNED, WRONG
from batchone.pipeline.values import FloatArray, IntArray

START_MM, START_DEG = 8.0, 15.0  # how far a hand misses before it looks: issue, and facts, METHODS C.4
SAME_MM, SAME_DEG = 1.0, 2.0  # a rest further from the planned seat is another one
PRESS_DEG = 10.0  # how far a hand's push is off: facts, METHODS C.5
HELD_DEG = 8.0  # a rest that leaves while the push tilts by less looks like no seat: facts, METHODS C.8, would stop a planned one
_WAVERS = 6  # numerical: ways to which it tilts
_NUDGE_MM, _NUDGE_DEG = 0.25, 1.5  # numerical: a rest is nudged by so much, turned by no more than that
_STAYS_MM = 0.3  # numerical: and a nudge leads no further than that from a true one
_ROUNDS = 3  # numerical: a rest that does not hold leads to another, which must hold too
_LINK_MM = 0.7  # numerical: rests nearer to each other are one seat
_CONE_STEP_DEG, _CONE_STEPS, _CONE_WAYS = 2.0, 15, 12  # facts, METHODS C.3, to 30 degrees
_LEAVES_MM = 0.5  # a guide that moves so far under a tilted push leaves its seat: facts, METHODS C.3


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """A place where the body comes to rest: how many starts end there, its middle pose, how far from the planned seat."""

    count: int
    turn: FloatArray
    shift_mm: FloatArray
    away_mm: float
    away_deg: float


@dataclass(frozen=True, slots=True, eq=False)
class Uniqueness:
    """Where the starts ended.

    Attributes
    ----------
    starts
        How many there were.
    reached, wrong, off
        Shares of all starts: at the planned seat, at rest elsewhere (looks seated), fell off or found no rest.
    passing
        Share of all starts that lay elsewhere while the push was off, and did not hold there.
    rests
        Seats other than the planned one, the most frequent first.
    ends
        Where each start ended, and ``kind`` (n,): ``PLANNED``, ``WRONG`` or ``OFF``.
    """

    starts: int
    reached: float
    wrong: float
    off: float
    passing: float
    rests: tuple[Rest, ...]
    ends: Poses
    kind: IntArray

    @property
    def reached_of_rests(self) -> float:
        """Share of the rests that is the planned seat."""
        return self.reached / max(self.reached + self.wrong, 1e-12)


def identity(count: int = 1) -> Poses:
    """The pose as drawn, so many times."""
    return Poses(np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)))


def starts(seed: int, count: int, most_mm: float, most_deg: float, *, still: Poses | None = None) -> Poses:
    """Poses about a seat: moved evenly in a disc across the way on, turned about any axis; the first of many are those of few."""
    values = np.random.default_rng(seed).random((count, 5))
    radius, around = most_mm * np.sqrt(values[:, 0]), 2.0 * np.pi * values[:, 1]
    shift = np.column_stack([radius * np.cos(around), radius * np.sin(around), np.zeros(count)])
    high, turn = 2.0 * values[:, 2] - 1.0, 2.0 * np.pi * values[:, 3]
    flat = np.sqrt(np.maximum(1.0 - high**2, 0.0))
    axis = np.column_stack([flat * np.cos(turn), flat * np.sin(turn), high])
    matrix = turns(axis * np.radians(most_deg * values[:, 4])[:, None])
    if still is not None:
        matrix, shift = matrix @ still.turn[0], shift + still.shift_mm[0]
    return Poses(matrix, shift)


def turns(vectors: FloatArray) -> FloatArray:
    """(n, 3, 3) rotations by vectors (n, 3) along the axis, as long as the angle in radians."""
    angle = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors / np.maximum(angle, 1e-300)[:, None]).T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    return np.asarray(np.eye(3) + np.sin(angle)[:, None, None] * skew + (1.0 - np.cos(angle))[:, None, None] * (skew @ skew))


def tilted(axis: FloatArray, tilt: FloatArray, around: FloatArray) -> FloatArray:
    """(n, 3) unit vectors that lean from an axis (3,) by angles (n,), to the sides at angles (n,); radians."""
    side = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    side /= np.linalg.norm(side)
    aside = np.cos(around)[:, None] * side + np.sin(around)[:, None] * np.cross(axis, side)
    return np.asarray(np.cos(tilt)[:, None] * axis + np.sin(tilt)[:, None] * aside)


def embedded(body: Contact, poses: Poses) -> FloatArray:
    """(n, 12) places whose distances are the rms displacement of the carrying points between two poses."""
    values, vectors = np.linalg.eigh(body.seats_mm.T @ body.seats_mm / body.carrying)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.concatenate([poses.shift_mm, (poses.turn @ root).reshape(-1, 9)], axis=1)


def planned_seat(body: Contact, ground: Landscape, press: Press) -> Settled:
    """Where the body comes to rest from the drawn pose."""
    return settled(body, ground, identity(), press, lift=False)


def reference(body: Contact, seat: Settled) -> Poses:
    """The planned seat: the rest from the drawn pose while it is near it, else the drawn pose itself."""
    away = embedded(body, seat.poses) - embedded(body, identity())
    near = bool(seat.at_rest[0]) and float(np.linalg.norm(away)) < SAME_MM and float(seat.poses.angle_deg[0]) < SAME_DEG
    return seat.poses if near else identity()


def uniqueness(
    body: Contact,
    ground: Landscape,
    press: Press,
    seat: Poses,
    *,
    count: int,
    seed: int,
    most_mm: float = START_MM,
    most_deg: float = START_DEG,
) -> Uniqueness:
    """Settle from many starts about the planned seat, without friction, and sort the rests.

    Each start is pushed by a hand of its own, tilted within 10 degrees of the marked push; then the marked push takes over. One
    push for all makes the share of false seats flip between 0 and 12 percent with the points that the contact happens to be
    sampled at.
    """
    begun = starts(seed, count, most_mm, most_deg, still=seat)
    values = np.random.default_rng(seed + 1).random((count, 2))
    pushes = tilted(press.direction, np.radians(PRESS_DEG) * np.sqrt(values[:, 0]), 2.0 * np.pi * values[:, 1])
    ends = settled(body, ground, begun, (np.tile(press.place_mm, (count, 1)), pushes), turns=body.turns(count))
    kind, poses = _kind(body, ends, seat), ends.poses
    first = kind == WRONG
    poses, kind = _verified(body, ground, press, seat, poses, kind)
    reached, wrong, off = (float((kind == one).mean()) for one in (PLANNED, WRONG, OFF))
    passing = float((first & (kind != WRONG)).mean())
    return Uniqueness(count, reached, wrong, off, passing, _rests(body, poses.only(kind == WRONG), seat), poses, kind)


def _kind(body: Contact, ends: Settled, seat: Poses) -> IntArray:
    """(n,) at the planned seat, lying elsewhere, or off."""
    away = np.linalg.norm(embedded(body, ends.poses) - embedded(body, seat), axis=1)
    other = (away > SAME_MM) | (ends.poses.relative_to(seat).angle_deg > SAME_DEG)
    return np.where(other & ends.near, WRONG, np.where(~other & ends.at_rest, PLANNED, OFF)).astype(np.int32)


def _verified(
    body: Contact, ground: Landscape, press: Press, seat: Poses, poses: Poses, kind: IntArray
) -> tuple[Poses, IntArray]:
    """Ends of which each that lies elsewhere holds there; one that does not goes where the push and a nudge lead it.

    What no round proves is no seat: it is counted as off.
    """
    turn, shift, kind = poses.turn.copy(), poses.shift_mm.copy(), kind.copy()
    asked = np.flatnonzero(kind == WRONG)
    for _ in range(_ROUNDS):
        places = body.turns(len(kind))[asked]
        ends = settled(body, ground, Poses(turn[asked], shift[asked]), press, lift=False, phases=NUDGED, turns=places)
        turn[asked], shift[asked] = ends.poses.turn, ends.poses.shift_mm
        kind[asked] = _kind(body, ends, seat)
        asked = asked[kind[asked] == WRONG]
        if len(asked) == 0:
            break
        stays, led = holds(body, ground, press, Poses(turn[asked], shift[asked]), body.turns(len(kind))[asked])
        turn[asked[~stays]], shift[asked[~stays]] = led.turn[~stays], led.shift_mm[~stays]
        asked = asked[~stays]
    kind[asked] = OFF
    return Poses(turn, shift), kind


def holds(
    body: Contact, ground: Landscape, press: Press, rests: Poses, places: IntArray | None = None
) -> tuple[BoolArray, Poses]:
    """Whether each rest is one that a hand would take for a seat, and where it went furthest; ``places``: as ``settled`` has it.

    It must hold against a nudge to each side (two ways across, turned about three axes, both signs; a body balanced on a crest,
    or hung on single points, does not), and while the push tilts to each of six sides.
    """
    vectors = np.concatenate([np.eye(6)[[0, 1, 3, 4, 5]], -np.eye(6)[[0, 1, 3, 4, 5]]]) * _NUDGE_MM
    small = min(1.0, np.radians(_NUDGE_DEG) * body.rho_mm / _NUDGE_MM) / body.rho_mm
    around = 2.0 * np.pi * np.arange(_WAVERS) / _WAVERS
    wavers = tilted(press.direction, np.full(_WAVERS, np.radians(HELD_DEG)), around)
    turn = np.concatenate([turns(vectors[:, 3:] * small), np.tile(np.eye(3), (_WAVERS, 1, 1))])[:, None] @ rests.turn[None]
    shift = rests.shift_mm[None] + np.concatenate([vectors[:, :3], np.zeros((_WAVERS, 3))])[:, None]
    pushes = np.concatenate([np.tile(press.direction, (len(vectors), 1)), wavers])
    ways, count = len(pushes), len(rests)
    begun = Poses(turn.reshape(-1, 3, 3), shift.reshape(-1, 3))
    push = (np.tile(press.place_mm, (ways * count, 1)), np.repeat(pushes, count, axis=0))
    tiled = None if places is None else np.tile(places, ways)
    ends = settled(body, ground, begun, push, lift=False, phases=NUDGED, turns=tiled)
    away = np.linalg.norm(embedded(body, ends.poses) - np.tile(embedded(body, rests), (ways, 1)), axis=1).reshape(ways, count)
    most = np.repeat([_STAYS_MM, _LEAVES_MM], [len(vectors), _WAVERS])[:, None]
    stays = ((away <= most) & ends.near.reshape(ways, count)).all(axis=0)
    chosen = np.argmax(away, axis=0) * count + np.arange(count)
    return stays, Poses(ends.poses.turn[chosen], ends.poses.shift_mm[chosen])


def _groups(places: FloatArray) -> list[IntArray]:
    """Rests (n, 12) that are one seat: linked by steps of less than 0.7 mm."""
    if len(places) == 0:
        return []
    group = connected_components(cKDTree(places).sparse_distance_matrix(cKDTree(places), _LINK_MM))[1]
    return [np.flatnonzero(group == number).astype(np.int32) for number in range(int(group.max()) + 1)]


def _middle(places: FloatArray) -> int:
    return int(np.argmin(np.linalg.norm(places - places.mean(axis=0), axis=1)))


def _rests(body: Contact, poses: Poses, seat: Poses) -> tuple[Rest, ...]:
    places = embedded(body, poses)
    found = []
    for inside in _groups(places):
        middle = inside[_middle(places[inside])]
        one = Poses(poses.turn[[middle]], poses.shift_mm[[middle]])
        away = float(np.linalg.norm(embedded(body, one) - embedded(body, seat)))
        found.append(Rest(len(inside), one.turn[0], one.shift_mm[0], away, float(one.relative_to(seat).angle_deg[0])))
    return tuple(sorted(found, key=lambda rest: (-rest.count, rest.away_mm)))


def docking_cone_deg(body: Contact, ground: Landscape, press: Press, seat: Poses) -> tuple[float, float, FloatArray]:
    """By how much the push may tilt before the body leaves its seat: least and median of 12 ways, and the weakest way (3,).

    The last step that holds counts: 0 where the first does not, and no more than 30 degrees are tried.
    """
    side = np.cross(press.direction, np.eye(3)[int(np.argmin(np.abs(press.direction)))])
    side /= np.linalg.norm(side)
    other = np.cross(press.direction, side)
    around = 2.0 * np.pi * np.arange(_CONE_WAYS) / _CONE_WAYS
    ways = np.cos(around)[:, None] * side + np.sin(around)[:, None] * other
    tilt = np.radians(_CONE_STEP_DEG * (1 + np.arange(_CONE_STEPS)))
    pushes = np.cos(tilt)[None, :, None] * press.direction + np.sin(tilt)[None, :, None] * ways[:, None]
    pushes = pushes.reshape(-1, 3)
    still = Poses(np.repeat(seat.turn, len(pushes), axis=0), np.repeat(seat.shift_mm, len(pushes), axis=0))
    ends = settled(body, ground, still, (np.tile(press.place_mm, (len(pushes), 1)), pushes), lift=False, phases=LAST)
    away = np.linalg.norm(embedded(body, ends.poses) - embedded(body, seat), axis=1)
    stays = ((away <= _LEAVES_MM) & ends.near).reshape(_CONE_WAYS, _CONE_STEPS)
    held = _CONE_STEP_DEG * np.where(stays.all(axis=1), _CONE_STEPS, np.argmin(stays, axis=1))
    return float(held.min()), float(np.median(held)), ways[int(np.argmin(held))]
