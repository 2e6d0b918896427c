"""The plan of a case: every leg with what it takes, the probability to be on time, and the last safe approval time.

Legs are taken as independent, one after the other. A leg that people or machines are busy with is judged by how long it has
lasted; one that only computes is taken as not begun: it lasts seconds, and may not have started. Of an approval only what follows
it counts:

    last safe approval = due - (the time within which all legs after the approval are over with the site's probability)
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from batchone.pipeline.clock.arrival import NOTHING, Arrival, arrival, broken_off, left_of, of, printed, row
from batchone.pipeline.clock.folder import Estimate
from batchone.pipeline.clock.history import About, History
from batchone.pipeline.clock.legs import COMPUTED, LEG, LEGS, PRINT, PRINT_FAILED, QUEUE, REVIEW, Leg, Usual, medians_s, usual
from batchone.pipeline.clock.spread import Spread, stated
from batchone.pipeline.config import ClockSettings

LIKELY = 0.9  # of a leg's times lie between the low and the high that are told
LATE_S = 900.0  # a leg counts as late from here on: what people act on
_NORMAL_95 = 1.96  # standard deviations: an estimate's low and high hold 95 of 100 prints
_LEAST_FACTOR = 1.02  # an estimate that says low = high is no better than that; numerical


@dataclass(frozen=True, slots=True)
class Expected:
    """One leg of a plan, times in s: what half the cases take at most, and between which ``LIKELY`` of them lie.

    ``records`` is how many cases of the site taught it, ``basis`` where it comes from.
    """

    leg: str
    who: str
    over: bool
    ended: dt.datetime | None
    expected_s: float
    low_s: float
    high_s: float
    records: int
    basis: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the clock says of a case; times in UTC.

    ``last_safe_approval`` is None after the approval, and where no approval would be safe: then ``safe_possible`` is False.
    ``late`` names the leg that takes longer than the site's level of cases, ``late_s`` by how much.
    """

    probability: float
    last_safe_approval: dt.datetime | None
    safe_possible: bool
    late: str | None
    late_s: float


class Clock:
    """The clock of a site.

    Parameters
    ----------
    settings
        ``[clock]`` of the site.
    history
        What its own cases took.
    kinds
        Kind of process (lpbf, sls, vat, fff) by name.
    targets_s
        Time in s that each computed stage may take.
    """

    def __init__(
        self, settings: ClockSettings, history: History, kinds: Mapping[str, str], targets_s: Mapping[str, float]
    ) -> None:
        self.settings = settings
        self._history, self._kinds, self._targets_s = history, kinds, targets_s
        self._spreads: dict[About, dict[str, Spread]] = {}
        self._ratios: dict[tuple[About, float], Spread] = {}
        self._arrivals: dict[tuple[About, Spread | None, str], Arrival] = {}

    def knows(self, about: About) -> bool:
        """Whether the process of such a case is one that the site has."""
        return about.process in self._kinds

    def spreads(self, about: About, estimate: Estimate | None = None) -> Mapping[str, Spread]:
        """What each leg of such a case takes; a leg that there is none of is left out."""
        if about not in self._spreads:
            hours = usual(about.process, self._kinds[about.process], self.settings)
            self._spreads[about] = self._learned(about, hours)
        if estimate is None:
            return self._spreads[about]
        within = _within(estimate)
        if (about, within) not in self._ratios:
            prior = stated(1.0, within, "the job's own estimate")
            self._ratios[about, within] = self._history.print_by_estimate(about, prior)
        return self._spreads[about] | {PRINT: self._ratios[about, within].times(estimate.seconds)}

    def forecast(
        self,
        about: About,
        due: dt.datetime,
        now: dt.datetime,
        *,
        over: Mapping[str, dt.datetime | None],
        since: dt.datetime | None,
        estimate: Estimate | None = None,
    ) -> Forecast:
        """Say how a case stands.

        Parameters
        ----------
        about
            Its device, process and machine.
        due, now
            When it must be there, and what time it is.
        over
            The legs that are over, in their order, and when each ended.
        since
            When the present leg began; None where that is not known.
        estimate
            That of its print, once it is sliced.
        """
        spreads = self.spreads(about, estimate)
        present = next((leg.name for leg in LEGS if leg.name not in over and leg.name in spreads), None)
        elapsed_s = max((now - since).total_seconds(), 0.0) if since is not None else 0.0
        last, possible = None, True
        if REVIEW not in over:
            within_s = self._after(about, spreads, REVIEW).within_s(self.settings.level)
            possible = within_s is not None
            last = None if within_s is None else due - dt.timedelta(seconds=within_s)
        if present is None:
            probability = _delivered(over, due)
        else:
            left_s = (due - now).total_seconds()
            probability = self._chance(about, spreads, present, 0.0 if present in COMPUTED else elapsed_s, left_s)
        late, late_s = self._late(spreads, over, present, elapsed_s)
        return Forecast(probability, last, possible, late, late_s)

    def plan(
        self, about: About, over: Mapping[str, dt.datetime | None], estimate: Estimate | None = None
    ) -> tuple[Expected, ...]:
        """Every leg of a case; ``over`` as in :meth:`forecast`."""
        spreads = self.spreads(about, estimate)
        return tuple(_expected(leg, spreads[leg.name], over) for leg in LEGS if leg.name in spreads)

    def _chance(self, about: About, spreads: Mapping[str, Spread], present: str, elapsed_s: float, left_s: float) -> float:
        """Probability that the present leg and all that follows take at most ``left_s``."""
        now = left_of(row(spreads[present]), elapsed_s)
        after = self._after(about, spreads, present)
        if present != PRINT:
            return after.chance_after(now, left_s)
        fails = self._history.print_fails(about, self.settings.print_fails)
        again = self._after(about, spreads, PRINT_FAILED)
        return (1.0 - fails) * after.chance_after(now, left_s) + fails * again.chance_after(broken_off(now), left_s)

    def _after(self, about: About, spreads: Mapping[str, Spread], leg: str) -> Arrival:
        """When all that follows a leg is over; that a print fails is no leg, but queue and print follow it again."""
        names = [one.name for one in LEGS if one.name in spreads]
        follow = names[names.index(QUEUE) :] if leg == PRINT_FAILED else names[names.index(leg) + 1 :]
        key = about, spreads[PRINT] if PRINT in follow else None, leg
        if key not in self._arrivals:
            found = math.prod((of(spreads[name]) for name in follow if name != PRINT), start=NOTHING)
            if PRINT in follow:
                fails = self._history.print_fails(about, self.settings.print_fails)
                found = found * printed(of(spreads[QUEUE]), row(spreads[PRINT]), fails)
            self._arrivals[key] = arrival(found)
        return self._arrivals[key]

    def _learned(self, about: About, hours: Usual) -> dict[str, Spread]:
        medians = medians_s(self.settings, hours, self._targets_s)
        priors = {name: stated(median, LEG[name].factor, basis) for name, (median, basis) in medians.items() if median > 0.0}
        found = {name: self._history.leg(LEG[name], about, prior) for name, prior in priors.items()}
        return found | {PRINT: self._history.print_before_slicing(about, priors[PRINT])}

    def _late(
        self, spreads: Mapping[str, Spread], over: Mapping[str, dt.datetime | None], present: str | None, elapsed_s: float
    ) -> tuple[str | None, float]:
        """The leg that has overrun most: the present one, or one of people or machines that is over."""
        lasted = {} if present is None else {present: elapsed_s}
        ended = list(over.items())
        for (_, start), (name, end) in pairwise(ended):
            if start is not None and end is not None and name in spreads and name not in COMPUTED:
                lasted[name] = (end - start).total_seconds()
        beyond = {name: seconds - spreads[name].quantile_s(self.settings.level) for name, seconds in lasted.items()}
        worst = max(beyond, key=lambda name: beyond[name], default=None)
        return (worst, beyond[worst]) if worst is not None and beyond[worst] > LATE_S else (None, 0.0)


def _within(estimate: Estimate) -> float:
    """By which factor 84 of 100 prints stay below the estimate, by the bounds that it gives itself."""
    ratio = estimate.high_s / estimate.low_s if estimate.low_s > 0.0 else 1.0
    return round(max(math.exp(math.log(max(ratio, 1.0)) / (2.0 * _NORMAL_95)), _LEAST_FACTOR), 6)


def _delivered(over: Mapping[str, dt.datetime | None], due: dt.datetime) -> float:
    ended = list(over.values())[-1] if over else None
    return 1.0 if ended is not None and ended <= due else 0.0


def _expected(leg: Leg, spread: Spread, over: Mapping[str, dt.datetime | None]) -> Expected:
    low, high = ((1.0 - LIKELY) / 2.0, (1.0 + LIKELY) / 2.0)
    return Expected(
        leg.name,
        leg.who,
        leg.name in over,
        over.get(leg.name),
        spread.quantile_s(0.5),
        spread.quantile_s(low),
        spread.quantile_s(high),
        spread.records,
        spread.basis,
    )
