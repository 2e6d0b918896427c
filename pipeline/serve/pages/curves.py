"""Curves of measured values as SVG, drawn here: the page's policy allows no script of others and no inline style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

WIDE, HIGH, RIM = 260.0, 56.0, 4.0  # of a drawing, in its own units; left free at its rim
DIGITS: Final = 2  # of a place in it: well below a pixel


@dataclass(frozen=True, slots=True)
class Curve:
    """One value over the time of its machine.

    Attributes
    ----------
    name, unit
        Of the value.
    least, greatest, last
        What it was; ``greatest`` is drawn at the upper rim, ``least`` at the lower.
    runs
        ``points`` of polylines: one more after each sample that did not come.
    dots
        Places of samples that have no neighbour.
    """

    name: str
    unit: str
    least: float
    greatest: float
    last: float
    runs: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


def curve(name: str, unit: str, numbers: Sequence[int], times_s: Sequence[float], values: Sequence[float]) -> Curve:
    """Draw a value.

    Parameters
    ----------
    numbers
        Of the samples, rising; where one is not there, the line is interrupted.
    times_s, values
        Of each sample, at least one.
    """
    least, greatest = min(values), max(values)
    long_s, span = times_s[-1] - times_s[0], greatest - least
    places = []
    for time_s, value in zip(times_s, values, strict=True):
        across = (time_s - times_s[0]) / long_s if long_s > 0.0 else 1.0
        up = (value - least) / span if span > 0.0 else 0.5
        x = round(RIM + across * (WIDE - 2 * RIM), DIGITS)
        places.append((x, round(HIGH - RIM - up * (HIGH - 2 * RIM), DIGITS)))
    breaks = [0, *(k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1] + 1), len(numbers)]
    runs = [places[low:high] for low, high in pairwise(breaks)]
    lines = tuple(" ".join(f"{x:g},{y:g}" for x, y in run) for run in runs if len(run) > 1)
    return Curve(name, unit, least, greatest, values[-1], lines, tuple(run[0] for run in runs if len(run) == 1))
