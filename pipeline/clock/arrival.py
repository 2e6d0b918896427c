"""Sums of times that vary: when the rest of a case is over, computed exactly on a grid and not drawn.

Each leg is a row of probabilities on steps of four minutes; independent legs are convolved by their spectra. The rows are damped
by an exponential before and freed of it after, so that what runs over the end of the grid does not come back at its beginning
(Embrechts and Frei, Panjer recursion versus FFT for compound distributions, Math. Methods Oper. Res. 69, 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from batchone.pipeline.clock.spread import Shares, Spread

STEP_S = 240.0  # a leg's time is rounded to it, up or down; well below the 15 min that people act on
STEPS = 4096  # 11 days: what takes longer counts as never
Spectrum = NDArray[np.complex128]

_DAMPING = 20.0 / (2 * STEPS)  # what wraps around comes back e^-20 as large; the noise of freeing it stays below 1e-11
_DAMPED = np.exp(-_DAMPING * np.arange(STEPS))
_EDGES_S: Shares = np.arange(0.5, STEPS, dtype=np.float64) * STEP_S
NOTHING: Spectrum = np.ones(STEPS + 1, dtype=complex)  # a leg that is over
_GONE = 1e-6  # a share of cases so small that the leg is taken as begun anew


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """Share of cases whose rest takes at most 0.5, 1.5, 2.5, ... steps of ``STEP_S``; shape (STEPS,)."""

    below: Shares

    def chance_after(self, leg: Shares, seconds: float) -> float:
        """Probability that a leg (its row) and then the rest take at most so long together."""
        if seconds < 0.0:
            return 0.0
        place = min(max(seconds / STEP_S - 0.5, 0.0), STEPS - 1.0)
        whole = int(place)
        low, high = (float(leg[: step + 1] @ self.below[step::-1]) for step in (whole, min(whole + 1, STEPS - 1)))
        return low + (place - whole) * (high - low)

    def within_s(self, share: float) -> float | None:
        """Least time in s within which the rest is over with this probability; None where no time of the grid is enough."""
        place = int(np.searchsorted(self.below, share))
        if place >= STEPS:
            return None
        if place == 0:
            return 0.0
        low, high = self.below[place - 1 : place + 1]
        return float((place - 0.5 + (share - low) / (high - low)) * STEP_S)


def arrival(spectrum: Spectrum) -> Arrival:
    """When the legs of a spectrum are over."""
    row = np.fft.irfft(spectrum, 2 * STEPS)[:STEPS] / _DAMPED
    return Arrival(np.minimum(np.cumsum(np.maximum(row, 0.0)), 1.0))


@lru_cache(maxsize=256)
def row(spread: Spread) -> Shares:
    """Probability that a leg takes 0, 1, 2, ... steps, each to the nearest; shape (STEPS,)."""
    found = np.diff(spread.share_within(_EDGES_S), prepend=0.0)
    found.setflags(write=False)
    return found


def left_of(leg: Shares, elapsed_s: float) -> Shares:
    """The row of what is left of a leg that has lasted for ``elapsed_s`` and is not over.

    Where hardly any case takes so long, what was known says nothing about this one: the leg is taken as begun anew.
    """
    gone = min(int(max(elapsed_s, 0.0) / STEP_S), STEPS)
    left = leg[gone:]
    share = float(left.sum())
    if gone == 0 or share < _GONE:
        return leg
    return np.concatenate([left / share, np.zeros(gone)])


def broken_off(leg: Shares) -> Shares:
    """The row of the time until a leg breaks off, which may be at any of its moments."""
    even = leg / (np.arange(STEPS) + 1.0)
    found: Shares = np.cumsum(even[::-1])[::-1]
    return found


def spectrum(leg: Shares) -> Spectrum:
    """The spectrum of a row: that of legs one after the other is the product of theirs."""
    found: Spectrum = np.fft.rfft(leg * _DAMPED, 2 * STEPS)
    return found


@lru_cache(maxsize=256)
def of(spread: Spread) -> Spectrum:
    """The spectrum of a leg that has not begun."""
    return spectrum(row(spread))


def printed(queue: Spectrum, print_: Shares, fails: float) -> Spectrum:
    """The spectrum of a print that starts now until one succeeds; a share of ``fails`` break off and queue again."""
    again = queue * spectrum(broken_off(print_))
    return (1.0 - fails) * spectrum(print_) / (1.0 - fails * again)
