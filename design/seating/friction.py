"""Seating by a hand that misses a little, with friction: what sticks away from the seat; and on bone as unsure as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.seating.contacts import BoolArray, Contact, Landscape
from batchone.design.seating.settle import ROUGH, Poses, settled
from batchone.design.seating.stability import Press
from batchone.design.seating.uniqueness import PRESS_DEG, embedded, starts, tilted
from batchone.pipeline.values import FloatArray

MU = 0.15  # coefficient, not calibrated on prints: facts, METHODS C.5
START_MM, START_DEG = 3.0, 6.0  # how far a hand misses that sees what it does: facts, METHODS C.5
PRESS_MM = 5.0  # and how far beside the marked place it pushes: facts, METHODS C.5
STUCK_MM = 1.0
_MOST_SHAPES, _LEFT_OUT = 200, 1e-3  # numerical: smooth fields need few shapes; variance that may be left out
BONE_LENGTH_MM = 10.0  # over which errors of the bone's surface go together: facts, METHODS C.5


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Where guides land: share that sticks more than 1 mm away, share that does not land, and the poses of those that land.

    Poses are against the drawn one, and ``away_mm`` (n,) against the planned seat; ``landed`` (starts,) says whose they are.
    """

    stuck: float
    lost: float
    poses: Poses
    away_mm: FloatArray
    landed: BoolArray

    @property
    def bad(self) -> float:
        """Share of all starts that does not end within 1 mm."""
        return self.stuck + self.lost


def spread(
    body: Contact,
    ground: Landscape,
    press: Press,
    seat: Poses,
    *,
    count: int,
    seed: int,
    friction: float = MU,
    sigma_mm: FloatArray | None = None,
) -> Spread:
    """Seat a body many times by a hand that misses a little; ``sigma_mm`` (points,): on bone that is so unsure."""
    begun = starts(seed, count, START_MM, START_DEG, still=seat)
    values = np.random.default_rng(seed + 1).random((count, 4))
    pushes = tilted(press.direction, np.radians(PRESS_DEG) * np.sqrt(values[:, 0]), 2.0 * np.pi * values[:, 1])
    radius, around = PRESS_MM * np.sqrt(values[:, 2]), 2.0 * np.pi * values[:, 3]
    places = press.place_mm + np.column_stack([radius * np.cos(around), radius * np.sin(around), np.zeros(count)])
    proud = None if sigma_mm is None else bone_errors(body.points_mm, sigma_mm, count=count, seed=seed + 2)
    ends = settled(
        body, ground, begun, (places, pushes), friction=friction, proud_mm=proud, phases=ROUGH, turns=body.turns(count)
    )
    landed = ends.held
    away = np.linalg.norm(embedded(body, ends.poses) - embedded(body, seat), axis=1)
    stuck = float((landed & (away > STUCK_MM)).mean())
    return Spread(stuck, float(1.0 - landed.mean()), ends.poses.only(landed), away[landed], landed)


def bone_errors(points_mm: FloatArray, sigma_mm: FloatArray, *, count: int, seed: int) -> FloatArray:
    """(count, n) errors of a surface at points, Gaussian, of given standard deviations (n,), alike over ``BONE_LENGTH_MM``."""
    shapes = _shapes(points_mm)
    return np.asarray((np.random.default_rng(seed).standard_normal((count, shapes.shape[1])) @ shapes.T) * sigma_mm)


def _shapes(points_mm: FloatArray) -> FloatArray:
    """(n, m) shapes whose sum, each times a standard normal number, is alike over a length (pivoted Cholesky)."""
    left = np.ones(len(points_mm))
    shapes = np.zeros((len(points_mm), min(_MOST_SHAPES, len(points_mm))))
    for m in range(shapes.shape[1]):
        at = int(np.argmax(left))
        if left[at] < _LEFT_OUT:
            return shapes[:, :m]
        alike = np.exp(-0.5 * ((points_mm - points_mm[at]) ** 2).sum(axis=1) / BONE_LENGTH_MM**2)
        shapes[:, m] = (alike - shapes[:, :m] @ shapes[at, :m]) / np.sqrt(left[at])
        left = np.maximum(left - shapes[:, m] ** 2, 0.0)
    return shapes
