"""The error of a drill that a sleeve leads, at its target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.budget.play import Wobble, in_sleeve
from batchone.design.budget.sources import (
    HOLE_SIGMA_MM,
    PLAN_SIGMA_MM,
    SEED,
    Errors,
    Seats,
    mean_square,
    process_sigma_mm,
    shares,
    square_to,
    turned_deg,
)
from batchone.pipeline.process import Process
from batchone.pipeline.values import Axis, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Lead:
    """A sleeve: the planned way (LPS, to its target), diametral clearance, length that leads, its lower end above the entry."""

    way: Axis
    clearance_mm: float
    led_mm: float
    above_mm: float
    drawn: bool = False

    @property
    def below_mm(self) -> float:
        """From the lower end of the sleeve to the target."""
        return self.above_mm + (self.way.length_mm or 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Drilled:
    """Errors at the target, and where the drills went: entries (n, 3) and unit directions (n, 3) in the seat frame."""

    errors: Errors
    entries_mm: FloatArray
    directions: FloatArray


def drilled(lead: Lead, seated: Seats, process: Process, *, seed: int = SEED) -> Drilled:
    """Sample where a drill goes."""
    rng = np.random.default_rng(seed + 1)
    count = len(seated.sure)
    entry = seated.to_seat(np.array(lead.way.origin_mm))
    direction = np.array(lead.way.direction) @ seated.pose[:3, :3]
    target, low = entry + (lead.way.length_mm or 0.0) * direction, entry - lead.above_mm * direction
    across = square_to(direction)
    sigma = process_sigma_mm(process)
    play = in_sleeve(rng, lead.clearance_mm + HOLE_SIGMA_MM * rng.standard_normal(count), lead.led_mm)
    ends = sigma * rng.standard_normal((2, count, 2))
    made = Wobble(ends[0], (ends[0] - ends[1]) / lead.led_mm)
    plan = PLAN_SIGMA_MM * float(lead.drawn) * rng.standard_normal((2, count, 3))

    def off(turn: FloatArray, shift: FloatArray, wobbles: tuple[Wobble, ...]) -> tuple[FloatArray, FloatArray]:
        low_at = low + sum(wobble.low_mm for wobble in wobbles) @ across if wobbles else np.tile(low, (count, 1))
        heading = direction + sum(wobble.slope for wobble in wobbles) @ across if wobbles else np.tile(direction, (count, 1))
        heading = heading / np.linalg.norm(heading, axis=1)[:, None]
        return np.einsum("nij,nj->ni", turn, low_at) + shift, np.einsum("nij,nj->ni", turn, heading)

    def aside(places: FloatArray, headings: FloatArray, at: FloatArray) -> FloatArray:
        """(n, 2) where a way passes the plane across the planned one at a place, against it."""
        along = ((at - places) @ direction) / (headings @ direction)
        return np.asarray((places + along[:, None] * headings - at) @ across.T)

    still, none = np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3))
    squares = {
        "clearance": mean_square(aside(*off(still, none, (play,)), target)),
        "process": mean_square(aside(*off(still, none, (made,)), target)),
        "seating": mean_square(aside(*off(seated.sure.turn, seated.sure.shift_mm, ()), target)),
        "plan": mean_square(plan[1] @ across.T),
    }
    with_bone = mean_square(aside(*off(seated.unsure.turn, seated.unsure.shift_mm, ()), target))
    places, headings = off(seated.unsure.turn, seated.unsure.shift_mm, (play, made))
    begins = aside(places, headings, entry) @ across + plan[0]
    ends_at = aside(places, headings, target) @ across + plan[1]
    headings = ends_at - begins + (target - entry)
    headings = headings / np.linalg.norm(headings, axis=1)[:, None]
    mm = np.linalg.norm(ends_at @ across.T, axis=1)
    errors = Errors(mm, turned_deg(headings, direction), shares(squares, with_bone))
    return Drilled(errors, entry + begins, headings)
