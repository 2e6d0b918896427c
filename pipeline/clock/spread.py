"""How long something takes, as one value: which share of cases is over by then. First stated, then taught by records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]

TIMES_S: Shares = np.geomspace(0.5, 60 * 86_400.0, 640)  # 2.5 % from one to the next: below the spread of anything that people do
_LOGS: Shares = np.log(TIMES_S)
PRIOR_WEIGHT = 8.0  # records that what was known before counts for; project default


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Share of cases that take at most ``TIMES_S`` (shape (640,), rising from 0 to at most 1).

    ``records`` is how many records of the site taught it, ``basis`` where it comes from.
    """

    below: Shares
    records: int
    basis: str

    def quantile_s(self, share: float) -> float:
        """Time in s that this share of cases takes at most; inf where that is beyond the last of ``TIMES_S``."""
        place = int(np.searchsorted(self.below, share))
        if place >= len(self.below):
            return math.inf
        if place == 0:
            return float(TIMES_S[0])
        low, high = self.below[place - 1 : place + 1]
        part = (share - low) / (high - low)
        return float(math.exp(_LOGS[place - 1] + part * (_LOGS[place] - _LOGS[place - 1])))

    def share_within(self, seconds: Shares) -> Shares:
        """Share of cases that take at most so many s; same shape."""
        with np.errstate(divide="ignore"):
            logs = np.log(np.maximum(seconds, 0.0))
        found: Shares = np.interp(logs, _LOGS, self.below, left=0.0)
        return found

    def times(self, factor: float) -> Spread:
        """The same where everything takes ``factor`` times as long."""
        below = np.interp(_LOGS - math.log(factor), _LOGS, self.below, left=0.0)
        return Spread(below, self.records, self.basis)

    def taught(self, durations_s: Sequence[float], basis: str) -> Spread:
        """This, as ``PRIOR_WEIGHT`` records of what was known before, beside the records themselves.

        Few records move it a little; many replace it, whatever shape they have. None leaves it as it is.
        """
        count = len(durations_s)
        if count == 0:
            return self
        logs = np.log(np.clip(np.sort(np.asarray(durations_s, dtype=float)), TIMES_S[0], TIMES_S[-1]))
        shares = (np.arange(count) + 0.5) / count
        if count == 1:
            own = (logs[0] <= _LOGS).astype(float)
        else:
            logs = logs + np.arange(count) * 1e-12  # numerical: equal records still rise
            own = np.interp(_LOGS, logs, shares, left=0.0, right=1.0)
        below = (PRIOR_WEIGHT * self.below + count * own) / (PRIOR_WEIGHT + count)
        return Spread(below, count, basis)


def stated(median_s: float, factor: float, basis: str) -> Spread:
    """What is stated before anything is known: log-normal, 84 of 100 take at most ``factor`` times the median."""
    if median_s <= 0.0 or factor <= 1.0:
        raise ValueError(f"median is {median_s:g} s and factor {factor:g}, must be above 0 and 1")
    normal = (_LOGS - math.log(median_s)) / (math.log(factor) * math.sqrt(2.0))
    below = 0.5 * (1.0 + np.array([math.erf(one) for one in normal.tolist()]))
    return Spread(below, 0, basis)
