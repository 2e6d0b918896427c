"""A screw's way through a pedicle: found as far from every wall as the pedicle allows, measured wall by wall.

Everything is in the vertebra's own frame: x to the patient's left, y to the back, z up, origin in the middle of the body. A
direction leads from the back to the front: ``convergence_deg`` towards the middle, ``caudal_deg`` downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import least_squares

from batchone.design.cranial.columns import on_the_way
from batchone.design.cranial.rays import Scene
from batchone.design.nearest import Index, indexed, nearest_points
from batchone.pipeline.values import FloatArray, IntArray, Mesh

CONVERGENCE_DEG = (0.0, 30.0)  # thoracic 5 to 15, lumbar 5 to 25; textbook anatomy with room
CAUDAL_DEG = (-10.0, 25.0)  # along the endplates (0) or steeper; textbook anatomy with room
ASIDE_MM = 3.0  # the way may pass this far beside the middle of the isthmus; numerical: a pedicle is wider
ENTRY_MM = 5.0  # of a way that lies in the cortex it enters through: walls beside it do not count; project default, unverified
SCREW_SHARE = 0.8  # of the bone's depth along a way that a screw may take; common practice
LONG_MM = 40.0  # further in, the walls are those of the body, wide apart; numerical
MEDIAL_MM = 0.5  # by which the medial wall counts as nearer; project default, unverified
FAR_MM = 200.0  # numerical: beyond every vertebra
BEHIND_MM = 10.0  # a way enters at least so far behind the isthmus: a shorter one comes in beside the pedicle; project default
SPACING_MM = 0.5  # numerical: between places at which a way is measured
_STARTS_DEG = (
    (0.0, 0.0),
    (10.0, 0.0),
    (0.0, 8.0),
    (0.0, -8.0),
)  # off the usual way, where searches begin; numerical
AIM_MM = 80.0  # a usual way aims at the middle of the spine so far in front of the isthmus: 7 to 10 degrees; textbook anatomy
_POWER = 3.0  # of lacking room, whose squares are summed: the nearest walls count most, yet none alone; default
RING_MM = 0.75  # of the places about the axis from which room is measured; numerical, less than any screw
_PLACES = 25  # along a way at which room is measured, about 1 mm apart; numerical
OUTSIDE_MM = (6.0, 18.0)  # behind the entry: there a sleeve stands, free of the bone that it is entered through; project default
SLEEVE_MM = 4.0  # of room about the axis that a sleeve with its gap takes there: bone beside it would thin it; project default
_OUTSIDE = 7  # places there; numerical
_ROUND = 8  # places on that ring; numerical
_WISHES = np.array([0.004, 0.004, 0.02, 0.02])  # what a degree or mm off the usual way counts; project default, unverified
_SCALES = np.array([1.0, 1.0, 0.2, 0.2])  # degrees and mm that matter alike; numerical
_DIFFERENCE = 1e-3  # of those scales, for slopes; numerical
_AT_MM = 1e-9  # numerical: nearer to the cortex than this a place has no direction to it
_NUDGE = 1e-6  # numerical: least squares begin inside of the limits
_SAMPLES = 41  # numerical: places along a screw, at most 1 mm apart
UP = np.array([0.0, 0.0, 1.0])
_MEDIAL = 0.5  # cosine to the middle of the spine from which a wall is the medial one


@dataclass(frozen=True)
class Ways:
    """The bone of a vertebra, ready to be asked."""

    surface: Index

    @cached_property
    def scene(self) -> Scene:
        """For rays from anywhere: made at the first."""
        return Scene(self.surface.placed)

    def meets(self, origins_mm: FloatArray, heading: FloatArray) -> tuple[FloatArray, IntArray, Scene]:
        """The same for rays from a few places (n, 3) along one direction (3,): distances (n,), triangles (n,) and their scene."""
        scene = Scene(on_the_way(self.surface.placed, origins_mm, heading))
        return *scene.meets(origins_mm, np.broadcast_to(heading, origins_mm.shape), FAR_MM), scene


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """A way in: where it enters the bone, its unit direction, and where it would leave the bone at the front (mm, vertebra's
    frame)."""

    entry_mm: FloatArray
    direction: FloatArray
    depth_mm: float


@dataclass(frozen=True, slots=True)
class Walls:
    """Least distance of an axis to the cortex along its way, mm: anywhere, and to the medial wall; and how far along, mm."""

    all_mm: float
    medial_mm: float
    all_along_mm: float
    medial_along_mm: float


def ways(mesh: Mesh) -> Ways:
    """Make a vertebra's surface, in its own frame, ready."""
    return Ways(indexed(mesh))


def direction(convergence_deg: float, caudal_deg: float, *, left: bool) -> FloatArray:
    """Unit vector to the front; converging means to the right on the left side."""
    c, s = np.radians(convergence_deg), np.radians(caudal_deg)
    inward = -1.0 if left else 1.0
    return np.array([inward * np.sin(c) * np.cos(s), -np.cos(c) * np.cos(s), -np.sin(s)])


def proposed(bone: Ways, isthmus_mm: FloatArray, *, left: bool, enough_mm: float = FAR_MM) -> Trajectory | None:
    """The way through an isthmus that stays furthest from all walls; None where it does not pass through bone.

    Further than ``enough_mm`` from the walls counts no more: then the way is the usual one. What is made small depends smoothly
    on way and bone, so that the same bone, scanned again, gets the same way: a coarse search, then least squares.
    """
    wish = float(np.clip(np.degrees(np.arctan2(abs(isthmus_mm[0]), AIM_MM)), *CONVERGENCE_DEG))
    usual = np.array([wish, 0.0, 0.0, 0.0])
    low, high = np.array([CONVERGENCE_DEG, CAUDAL_DEG, (-ASIDE_MM, ASIDE_MM), (-ASIDE_MM, ASIDE_MM)]).T
    search = Search(Site(bone, isthmus_mm, usual, left, enough_mm))
    ends = [
        least_squares(
            search.lacks,
            np.clip(usual + np.array([*turned, 0.0, 0.0]), low + _NUDGE, high - _NUDGE),
            jac=search.slopes,
            bounds=(low, high),
            x_scale=_SCALES,
            xtol=1e-6,
            ftol=1e-9,
        )
        for turned in _STARTS_DEG
    ]
    found = min(ends, key=lambda end: float(end.cost)).x
    return between(bone, isthmus_mm + np.array([found[2], 0.0, found[3]]), direction(found[0], found[1], left=left))


def between(bone: Ways, through_mm: FloatArray, heading: FloatArray) -> Trajectory | None:
    """The way along a line through a place inside the bone, from where it enters at the back to where it leaves in front."""
    ends = np.stack([-heading, heading])
    distance, face = bone.scene.meets(np.stack([through_mm, through_mm]), ends, FAR_MM)
    if (face < 0).any() or any(float(bone.scene.facing(face[[k]], ends[k])[0]) <= 0.0 for k in (0, 1)):
        return None
    back, front = (float(one) for one in distance)
    return Trajectory(through_mm - back * heading, heading, back + front)


def drawn(bone: Ways, start_mm: FloatArray, end_mm: FloatArray, isthmus_mm: FloatArray | None) -> Trajectory | None:
    """The way along a drawn line; None where no place of it lies in the bone.

    The place nearest to the isthmus, or to the line's middle where none is known, tells which of several crossings is meant.
    """
    length = float(np.linalg.norm(end_mm - start_mm))
    points = start_mm + np.linspace(0.0, 1.0, max(2, round(length / SPACING_MM)))[:, None] * (end_mm - start_mm)
    points = points[bone.scene.holds(points, UP)]
    if len(points) == 0:
        return None
    wanted = 0.5 * (start_mm + end_mm) if isthmus_mm is None else isthmus_mm
    return between(bone, points[int(np.argmin(np.linalg.norm(points - wanted, axis=1)))], (end_mm - start_mm) / length)


def apart_mm(first: Trajectory, first_mm: float, second: Trajectory, second_mm: float) -> tuple[float, FloatArray]:
    """Least distance between the axes of two screws of some lengths, and the place (3,) half way between."""
    share = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
    one = first.entry_mm + share * first_mm * first.direction
    other = second.entry_mm + share * second_mm * second.direction
    between = np.linalg.norm(one[:, None] - other[None], axis=2)
    i, j = np.unravel_index(int(np.argmin(between)), between.shape)
    return float(between[i, j]), 0.5 * (one[i] + other[j])


def walls(bone: Ways, way: Trajectory, *, length_mm: float, skip_mm: float) -> Walls:
    """Measure the walls along a screw; its first ``skip_mm`` lie in the cortex that it enters through, and do not count.

    Negative where the axis itself is outside of the bone.
    """
    steps = np.arange(skip_mm, length_mm + 1e-9, SPACING_MM)
    points = way.entry_mm + steps[:, None] * way.direction
    signed, medial = _measured(bone, points, left=bool(way.entry_mm[0] > 0.0))
    sideways, _, _ = bone.meets(points, np.array([-np.sign(way.entry_mm[0]), 0.0, 0.0]))
    beside = np.nan_to_num(sideways, nan=FAR_MM)  # where another wall is nearer all along
    inner = np.where(medial, signed, np.inf) if medial.any() else beside
    least, least_inner = int(np.argmin(signed)), int(np.argmin(inner))
    return Walls(float(signed[least]), float(inner[least_inner]), float(steps[least]), float(steps[least_inner]))


def in_front_mm(bone: Ways, way: Trajectory, length_mm: float) -> float:
    """Bone in front of the tip of a screw of a length; NaN where the way meets no wall."""
    met, _, _ = bone.meets(way.entry_mm[None] + ENTRY_MM * way.direction, way.direction)
    return float(met[0]) + ENTRY_MM - length_mm


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Where a way is looked for: (convergence, caudal, aside, up) is wished for, and so much room about it is enough."""

    bone: Ways
    isthmus_mm: FloatArray
    wish: FloatArray
    left: bool
    enough_mm: float


class Search:
    """What is lacking of ways about a site, as residuals whose squares are summed, and how they change with the way.

    Room is measured from places on a ring about the axis, between the cortex that a screw enters through and where it would end;
    half of the ring lies further to the middle of the spine: behind the medial wall lies the cord. Behind the entry there must be
    room for a sleeve. Distances are measured once for a way: they change with their places along the line to the nearest bone.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._asked = np.full(4, np.nan)
        self._last = (np.empty(0), np.empty((0, 4)))

    def lacks(self, move: FloatArray) -> FloatArray:
        """(k,) residuals of a way (4,)."""
        return self._measured(move)[0]

    def slopes(self, move: FloatArray) -> FloatArray:
        """(k, 4) their slopes."""
        return self._measured(move)[1]

    def _measured(self, move: FloatArray) -> tuple[FloatArray, FloatArray]:
        if not np.array_equal(move, self._asked):
            self._asked, self._last = move.copy(), _lacks(self._site, move)
        return self._last


def _lacks(site: Site, move: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k,) residuals of a way (4,), and (k, 4) slopes: what is lacking of room about it, and how far it leaves its wish."""
    around, behind, short = _places(site, np.concatenate([move[None], move + np.diag(_SCALES * _DIFFERENCE)]))
    room = site.enough_mm - RING_MM
    inside_mm, inside_slopes = _signed_mm(site.bone, around, room)
    beside_mm, beside_slopes = _signed_mm(site.bone, behind, SLEEVE_MM)
    lack, tight = np.maximum(room - inside_mm, 0.0), np.maximum(SLEEVE_MM + beside_mm, 0.0)
    values = (lack**_POWER / np.sqrt(len(lack)), tight**_POWER / np.sqrt(_OUTSIDE), short[:1], (move - site.wish) * _WISHES)
    slopes = (
        (-_POWER * lack ** (_POWER - 1.0) / np.sqrt(len(lack)))[:, None] * inside_slopes,
        (_POWER * tight ** (_POWER - 1.0) / np.sqrt(_OUTSIDE))[:, None] * beside_slopes,
        (short[1:] - short[0])[None] / (_SCALES * _DIFFERENCE),
        np.diag(_WISHES),
    )
    return np.concatenate(values), np.concatenate(slopes)


def _places(site: Site, moves: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Where room is measured for ways (n, 4): (n, k, 3) about the axis, (n, m, 3) behind the entry; and (n,) by how much each
    enters too near to its isthmus."""
    headings = np.array([direction(move[0], move[1], left=site.left) for move in moves])
    through = site.isthmus_mm + np.stack([moves[:, 2], np.zeros(len(moves)), moves[:, 3]], axis=1)
    back, _ = site.bone.scene.meets(through, -headings, FAR_MM)
    front, _ = site.bone.scene.meets(through, headings, FAR_MM)
    passes = np.isfinite(back) & np.isfinite(front)
    back, front = np.where(passes, back, BEHIND_MM), np.where(passes, front, 0.0)
    first, last = ENTRY_MM - back, np.minimum(SCREW_SHARE * (back + front), LONG_MM) - back
    along = first[:, None] + np.linspace(0.0, 1.0, _PLACES) * np.maximum(last - first, 0.0)[:, None]
    across = np.cross(headings, UP)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    over = np.cross(across, headings)
    angles = 2.0 * np.pi * np.arange(_ROUND) / _ROUND
    ring = RING_MM * (np.cos(angles)[:, None] * across[:, None] + np.sin(angles)[:, None] * over[:, None])
    inward = -1.0 if site.left else 1.0
    ring[..., 0] += inward * MEDIAL_MM * (inward * ring[..., 0] > 0.0)
    around = (through[:, None] + along[:, :, None] * headings[:, None])[:, :, None] + ring[:, None]
    behind = through[:, None] - (back[:, None] + np.linspace(*OUTSIDE_MM, _OUTSIDE))[:, :, None] * headings[:, None]
    return around.reshape(len(moves), -1, 3), behind, np.where(passes, np.maximum(BEHIND_MM - back, 0.0), FAR_MM)


def _signed_mm(bone: Ways, moved_mm: FloatArray, most_mm: float) -> tuple[FloatArray, FloatArray]:
    """Distance (k,) of places (5, k, 3) to the cortex as they stand first, at most so much, negative outside; and (k, 4) its
    slopes, from where they stand after a little of each move."""
    points = np.ascontiguousarray(moved_mm[0])
    distance, _, foot = nearest_points(points, bone.surface, within_mm=most_mm)
    sign = np.where(bone.scene.holds(points, UP), 1.0, -1.0)
    away = np.nan_to_num((points - foot) / np.maximum(distance, _AT_MM)[:, None])  # further off: cut, so without slope
    turned = np.einsum("jkd,kd->kj", moved_mm[1:] - points, away) / (_SCALES * _DIFFERENCE)
    return sign * np.minimum(distance, most_mm), sign[:, None] * turned


def _measured(bone: Ways, points_mm: FloatArray, *, left: bool) -> tuple[FloatArray, np.ndarray]:
    """Distance (n,) of places to the cortex, negative outside, and whether the nearest wall is the medial one."""
    _, face, scene = bone.meets(points_mm, UP)
    inside = (face >= 0) & (scene.facing(face, UP) > 0.0)
    distance, _, foot = nearest_points(points_mm, bone.surface)
    aside = (foot[:, 0] - points_mm[:, 0]) * (-1.0 if left else 1.0) / np.maximum(distance, 1e-9)
    return np.where(inside, distance, -distance), aside * np.where(inside, 1.0, -1.0) > _MEDIAL
