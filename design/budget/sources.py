"""Where errors come from, and what their sum is: samples of each source alone and of all together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.seating.friction import Spread
from batchone.design.seating.make import Score
from batchone.design.seating.settle import Poses
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray

SAMPLES = 10_000
SEED = 20260106  # any number will do
PROCESS_SHARE = 0.25  # a tolerance is taken as four standard deviations; pa12-sls then has the 0.075 mm of METHODS C.6 (0.07)
HOLE_SIGMA_MM = 0.05  # how much printed openings differ among each other: facts, METHODS C.6
PLAN_SIGMA_MM = 0.2  # of a plan that was drawn in another program, about half a pixel of CT; proposed plans 0; project default
SOURCES = ("clearance", "process", "bone", "seating", "plan")


@dataclass(frozen=True, slots=True, eq=False)
class Seats:
    """How guides seat, drawn from those that landed: on bone as it looks, and as unsure as it is. In the seat frame."""

    sure: Poses
    unsure: Poses
    pose: FloatArray

    def to_seat(self, point_mm: FloatArray) -> FloatArray:
        """A place (3,) in LPS, in the seat frame."""
        return np.asarray((point_mm - self.pose[:3, 3]) @ self.pose[:3, :3])


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Errors at one target, samples (n,): sideways in mm and turned in degrees; and the share of each source in mm squared."""

    mm: FloatArray
    deg: FloatArray
    shares: tuple[tuple[str, float], ...]

    @property
    def largest(self) -> tuple[str, float]:
        """The source with the largest share, and that share."""
        return max(self.shares, key=lambda one: one[1])

    def percentile(self, share: float) -> tuple[float, float]:
        """Millimetres and degrees that so many percent of the samples stay below."""
        return float(np.percentile(self.mm, share)), float(np.percentile(self.deg, share))


def seats(score: Score, count: int = SAMPLES, seed: int = SEED) -> Seats | None:
    """Draw seats; None where no guide landed."""
    unsure = score.on_unsure_bone()
    if len(score.friction.poses) == 0 or len(unsure.poses) == 0:
        return None
    rng = np.random.default_rng(seed)
    return Seats(_drawn(rng, score.friction, count), _drawn(rng, unsure, count), score.seated.pose)


def _drawn(rng: np.random.Generator, spread: Spread, count: int) -> Poses:
    chosen = rng.integers(0, len(spread.poses), count)
    return Poses(spread.poses.turn[chosen], spread.poses.shift_mm[chosen])


def process_sigma_mm(process: Process) -> float:
    """Standard deviation of where a printed feature lies."""
    return PROCESS_SHARE * process.tolerance_mm


def shares(squares: dict[str, float], with_bone: float) -> tuple[tuple[str, float], ...]:
    """Share of each source in the sum of squares; ``with_bone``: of seating on bone as unsure as it is, seating itself in it."""
    squares = {**squares, "bone": max(with_bone - squares["seating"], 0.0)}
    total = sum(squares.values())
    return tuple((name, squares[name] / total if total > 0.0 else 0.0) for name in SOURCES)


def mean_square(off_mm: FloatArray) -> float:
    """Mean square length of errors (n, k)."""
    return float((off_mm**2).sum(axis=1).mean())


def turned_deg(directions: FloatArray, planned: FloatArray) -> FloatArray:
    """(n,) angle of unit vectors to a planned one."""
    sine = np.linalg.norm(np.cross(directions, planned), axis=1)
    return np.asarray(np.degrees(np.arctan2(sine, directions @ planned)))


def square_to(direction: FloatArray) -> FloatArray:
    """(2, 3) unit vectors across a unit vector and each other."""
    first = np.cross(direction, np.eye(3)[int(np.argmin(np.abs(direction)))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(direction, first)])
