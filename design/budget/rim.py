"""Gap and step of an implant at the rim of its defect, when everything that is unsure comes together.

The implant lies anywhere in its gap, held by plates as level as hands hold it; turning about the way in is left out, which the
rim's shape bounds. Per sample: the widest gap and the largest step anywhere along the rim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.budget.sources import PLAN_SIGMA_MM, SAMPLES, SEED, process_sigma_mm
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray

PLATES_SIGMA_MM = 0.25  # how level plates hold an implant, and its far edge against its near one; no source found for plates
#                         bent by hand: project default, unverified
_BLOCK = 500  # numerical: samples looked at together
HALVES = {
    "process": "a process that holds half the tolerance halves it",
    "bone": "a scan of half the slice spacing halves it",
    "shift": "half the border_gap_mm, or spacers in the gap while plates are set, halves it",
    "plates": "plates bent on a model of skull and implant, which hold it twice as level, halve it",
    "plan": "a rim drawn in a finer scan, or found by the segmentation, halves it",
}


@dataclass(frozen=True, slots=True, eq=False)
class Rim:
    """The rim as it was made: k stations with gap and step (k,) mm, how the skull rises outward there (k,) mm per mm, and places
    (k, 2) and unit directions outward (k, 2) across the way in, about the middle of the rim."""

    gap_mm: FloatArray
    step_mm: FloatArray
    slope: FloatArray
    places_mm: FloatArray
    outward: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class RimErrors:
    """Widest gap and largest step of each sample (n,) mm, which samples have no room left somewhere (n,), and the share of each
    source in the mean square by which gap and step are off."""

    gap_mm: FloatArray
    step_mm: FloatArray
    tight: npt.NDArray[np.bool_]
    gap_shares: tuple[tuple[str, float], ...]
    step_shares: tuple[tuple[str, float], ...]


def at_rim(rim: Rim, process: Process, *, bone_mm: float, drawn: bool, count: int = SAMPLES, seed: int = SEED) -> RimErrors:
    """Sample gap and step.

    Parameters
    ----------
    rim
        As made, on the skull as it looks.
    process
        Its tolerance, by which the wall and the outer face lie elsewhere.
    bone_mm
        One standard deviation of the skull's surface and of its edge.
    drawn
        A person drew the rim.
    count, seed
        Of the samples.
    """
    rng = np.random.default_rng(seed)
    sigma = process_sigma_mm(process)
    shift = _within(rim, rng, count)
    level = PLATES_SIGMA_MM * rng.standard_normal((count, 3))
    wall, face = sigma * rng.standard_normal((2, count, 1))
    edge, skull = bone_mm * rng.standard_normal((2, count, 1))
    plan = PLAN_SIGMA_MM * float(drawn) * rng.standard_normal((count, 2))
    reach = rim.places_mm / np.linalg.norm(rim.places_mm, axis=1).max()
    widest, largest = np.empty(count), np.empty(count)
    tight = np.zeros(count, dtype=np.bool_)
    gaps: dict[str, float] = {}
    steps: dict[str, float] = {}
    for first in range(0, count, _BLOCK):
        block = slice(first, first + _BLOCK)
        aside = shift[block] @ rim.outward.T
        held = level[block, :1] + level[block, 1:] @ reach.T
        gap = {"process": -wall[block], "bone": edge[block], "shift": -aside, "plan": plan[block] @ rim.outward.T}
        step = {"process": face[block], "bone": -skull[block], "shift": -aside * rim.slope, "plates": held}
        whole = rim.gap_mm + sum(gap.values())
        widest[block] = whole.max(axis=1)
        tight[block] = (whole + aside).min(axis=1) < 0.0
        largest[block] = np.abs(rim.step_mm + sum(step.values())).max(axis=1)
        for squares, off in ((gaps, gap), (steps, step)):
            for name, values in off.items():
                squares[name] = squares.get(name, 0.0) + float(np.square(values).mean(axis=1).sum())
    return RimErrors(widest, largest, tight, _shares(gaps), _shares(steps))


def _within(rim: Rim, rng: np.random.Generator, count: int) -> FloatArray:
    """(n, 2) shifts, even over all that the gap allows: until the wall first meets the bone."""
    turn = 2.0 * np.pi * rng.random(count)
    share = np.sqrt(rng.random(count))
    heading = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    far = np.empty(count)
    for first in range(0, count, _BLOCK):
        block = slice(first, first + _BLOCK)
        towards = heading[block] @ rim.outward.T
        room = np.where(towards > 1e-9, np.maximum(rim.gap_mm, 0.0) / np.maximum(towards, 1e-9), np.inf)
        far[block] = room.min(axis=1)
    return np.asarray((share * far)[:, None] * heading)


def _shares(squares: dict[str, float]) -> tuple[tuple[str, float], ...]:
    total = sum(squares.values())
    return tuple((name, value / total if total > 0.0 else 0.0) for name, value in squares.items())
