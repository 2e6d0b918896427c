"""What a clearance allows: a drill in a sleeve, a blade in a slot; worst cases in closed form, and even samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.pipeline.values import FloatArray


def tilt_deg(clearance_mm: float, led_mm: float) -> float:
    """Largest tilt of a tool that is led over a length with a clearance, across its diameter or thickness."""
    return float(np.degrees(np.arctan2(clearance_mm, led_mm)))


def aside_mm(clearance_mm: float, led_mm: float, below_mm: float) -> float:
    """Largest error of a tool's place so far below the end of what leads it: c / 2 + d c / L (facts, DEVICES 4)."""
    return 0.5 * clearance_mm + below_mm * clearance_mm / led_mm


@dataclass(frozen=True, slots=True, eq=False)
class Wobble:
    """A tool's axis against that of its lead, samples (n, 2) across it: at the lead's lower end (mm), and per mm below it."""

    low_mm: FloatArray
    slope: FloatArray

    def at(self, below_mm: float) -> FloatArray:
        """(n, 2) off the lead's axis so far below its lower end."""
        return np.asarray(self.low_mm + below_mm * self.slope)


def in_sleeve(rng: np.random.Generator, clearance_mm: FloatArray, led_mm: float) -> Wobble:
    """A drill in a round bore of some diametral clearances (n,): anywhere in the play at both ends."""
    ends = []
    for _ in range(2):
        radius = 0.5 * np.maximum(clearance_mm, 0.0) * np.sqrt(rng.random(len(clearance_mm)))
        around = 2.0 * np.pi * rng.random(len(clearance_mm))
        ends.append(radius[:, None] * np.column_stack([np.cos(around), np.sin(around)]))
    return Wobble(ends[0], (ends[0] - ends[1]) / led_mm)


def in_slot(rng: np.random.Generator, clearance_mm: FloatArray, led_mm: float) -> tuple[FloatArray, FloatArray]:
    """A blade in a slot of some clearances (n,): its offset at the lower end (n,), and its slope (n,)."""
    low, top = ((rng.random(len(clearance_mm)) - 0.5) * np.maximum(clearance_mm, 0.0) for _ in range(2))
    return low, (low - top) / led_mm
