"""A screw's way through a pedicle: found as far from every wall as the pedicle allows, measured wall by wall.

Everything is in the vertebra's own frame: x to the patient's left, y to the back, z up, origin in the middle of the body. A
direction leads from the back to the front: ``convergence_deg`` towards the middle, ``caudal_deg`` downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from batchone.design.cranial.rays import Scene
from batchone.design.nearest import Index, indexed, nearest_points
from batchone.pipeline.values import FloatArray, Mesh

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
_STEPS = ((10.0, 1.5), (5.0, 0.75), (2.5, 0.4), (1.0, 0.2))  # degrees and mm of each round of the search; numerical
_MOST_MOVES = 8  # numerical: of one size
_DEG_PER_MM = 2.0  # a way that leaves the isthmus' middle by one mm counts as turned by so much; numerical, as below
_PER_DEG_MM = 0.02  # a way that leaves its wish by one degree must gain so much; numerical: decides between equals
_SAMPLES = 41  # numerical: places along a screw, at most 1 mm apart
UP = np.array([0.0, 0.0, 1.0])
_MEDIAL = 0.5  # cosine to the middle of the spine from which a wall is the medial one


@dataclass(frozen=True, slots=True)
class Ways:
    """The bone of a vertebra, ready to be asked."""

    surface: Index
    scene: Scene


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """A way in: where it enters the bone, its unit direction, and where it would leave the bone at the front (mm, vertebra's
    frame)."""

    entry_mm: FloatArray
    direction: FloatArray
    depth_mm: float


@dataclass(frozen=True, slots=True)
class Walls:
    """Least distance of an axis to the cortex along its way, mm: anywhere, and to the medial wall; and at the isthmus."""

    all_mm: float
    medial_mm: float


def ways(mesh: Mesh) -> Ways:
    """Make a vertebra's surface, in its own frame, ready."""
    return Ways(indexed(mesh), Scene(mesh))


def direction(convergence_deg: float, caudal_deg: float, *, left: bool) -> FloatArray:
    """Unit vector to the front; converging means to the right on the left side."""
    c, s = np.radians(convergence_deg), np.radians(caudal_deg)
    inward = -1.0 if left else 1.0
    return np.array([inward * np.sin(c) * np.cos(s), -np.cos(c) * np.cos(s), -np.sin(s)])


def proposed(bone: Ways, isthmus_mm: FloatArray, *, left: bool, enough_mm: float = FAR_MM) -> Trajectory | None:
    """The way through an isthmus that stays furthest from all walls; None where it does not pass through bone.

    Further than ``enough_mm`` from the walls counts no more: then the way is the usual one.
    """
    wish = float(np.clip(np.degrees(np.arctan2(abs(isthmus_mm[0]), 2.0 * max(float(isthmus_mm[1]), 1.0))), *CONVERGENCE_DEG))
    best: tuple[float, ...] = (wish, 0.0, 0.0, 0.0)
    tried: dict[tuple[float, ...], float] = {}
    for degrees, aside in _STEPS:
        for _ in range(_MOST_MOVES):
            spans = [(-1, 0, 1)] * 4
            moves = [
                tuple(at + step * size for at, step, size in zip(best, steps, (degrees, degrees, aside, aside), strict=True))
                for steps in product(*spans)
            ]
            fresh = [move for move in moves if move not in tried and _allowed(move)]
            for move, score in zip(fresh, _scores(bone, isthmus_mm, fresh, wish, left=left, enough_mm=enough_mm), strict=True):
                tried[move] = score
            before, best = best, max((move for move in moves if move in tried), key=lambda move: tried[move])
            if best == before:
                break
    heading = direction(best[0], best[1], left=left)
    through = isthmus_mm + np.array([best[2], 0.0, best[3]])
    return between(bone, through, heading)


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


def apart_mm(first: Trajectory, first_mm: float, second: Trajectory, second_mm: float) -> float:
    """Least distance between the axes of two screws of some lengths."""
    share = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
    one = first.entry_mm + share * first_mm * first.direction
    other = second.entry_mm + share * second_mm * second.direction
    return float(np.linalg.norm(one[:, None] - other[None], axis=2).min())


def walls(bone: Ways, way: Trajectory, *, length_mm: float, skip_mm: float) -> Walls:
    """Measure the walls along a screw; its first ``skip_mm`` lie in the cortex that it enters through, and do not count.

    Negative where the axis itself is outside of the bone.
    """
    steps = np.arange(skip_mm, length_mm + 1e-9, SPACING_MM)
    points = way.entry_mm + steps[:, None] * way.direction
    signed, medial = _measured(bone, points, left=bool(way.entry_mm[0] > 0.0))
    inward = np.tile(np.array([-np.sign(way.entry_mm[0]), 0.0, 0.0]), (len(points), 1))
    beside = np.nan_to_num(bone.scene.meets(points, inward, FAR_MM)[0], nan=FAR_MM)  # where another wall is nearer all along
    return Walls(float(signed.min()), float(signed[medial].min() if medial.any() else beside.min()))


def _allowed(move: tuple[float, ...]) -> bool:
    convergence, caudal, across, up = move
    return (
        CONVERGENCE_DEG[0] <= convergence <= CONVERGENCE_DEG[1]
        and CAUDAL_DEG[0] <= caudal <= CAUDAL_DEG[1]
        and max(abs(across), abs(up)) <= ASIDE_MM
    )


def _scores(
    bone: Ways, isthmus_mm: FloatArray, moves: list[tuple[float, ...]], wish: float, *, left: bool, enough_mm: float
) -> list[float]:
    """How far each way stays from the walls between its entry's cortex and where a screw would end, less what it leaves its wish.

    The medial wall counts as nearer than it is: behind it lies the cord.
    """
    if not moves:
        return []
    headings = np.array([direction(move[0], move[1], left=left) for move in moves])
    through = isthmus_mm + np.array([[move[2], 0.0, move[3]] for move in moves])
    back, _ = bone.scene.meets(through, -headings, FAR_MM)
    front, _ = bone.scene.meets(through, headings, FAR_MM)
    first, last = ENTRY_MM - back, np.minimum(SCREW_SHARE * (back + front), LONG_MM) - back
    share = np.linspace(0.0, 1.0, _SAMPLES)
    along = first[:, None] + share * np.maximum(last - first, 0.0)[:, None]
    points = (through[:, None] + np.nan_to_num(along)[:, :, None] * headings[:, None]).reshape(-1, 3)
    signed, medial = _measured(bone, points, left=left)
    nearest = np.where(medial, signed - MEDIAL_MM, signed).reshape(len(moves), -1).min(axis=1)
    off = np.array([abs(move[0] - wish) + abs(move[1]) + _DEG_PER_MM * (abs(move[2]) + abs(move[3])) for move in moves])
    nearest = np.where((back >= BEHIND_MM) & np.isfinite(front), np.minimum(nearest, enough_mm), -FAR_MM)
    return [float(score) for score in nearest - _PER_DEG_MM * off]


def _measured(bone: Ways, points_mm: FloatArray, *, left: bool) -> tuple[FloatArray, np.ndarray]:
    """Distance (n,) of places to the cortex, negative outside, and whether the nearest wall is the medial one."""
    inside = bone.scene.holds(points_mm, UP)
    distance, _, foot = nearest_points(points_mm, bone.surface)
    aside = (foot[:, 0] - points_mm[:, 0]) * (-1.0 if left else 1.0) / np.maximum(distance, 1e-9)
    return np.where(inside, distance, -distance), aside * np.where(inside, 1.0, -1.0) > _MEDIAL
