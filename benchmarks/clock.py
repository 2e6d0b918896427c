"""The clock beside days of its own: is it on time as often as it says, and is the last safe approval time right?

    python -m benchmarks.clock [--sites 4] [--days 365] [--seed 1]

Simulated sites, event by event. Nothing in them is log-normal, and little is independent:

- machines serve their jobs one after the other and stand still for hours now and then (Pareto), so that waits come in clusters;
- prints take what Student's t says about their estimate, fail at any moment, and queue again;
- reviews wait until the next morning in one case of seven, and one day of reviews is slower than another;
- a sterilisation waits for the next load; a courier misses its flight now and then, and the part comes the next day.

The clock learns as it would: once a week, from what has been delivered. Part of the cases is approved as soon as people come to
it; the others (late approvals) at the very minute that the clock calls the last safe one. The first quarter of the days only
teaches.

What is printed:

- probability: told when the device is checked, when it is sliced, and when its print starts, against what came of it: the Brier
  score, beside that of always telling the share that is on time; and of those told 0.9 to 0.95, and so on, how many were on time;
- last safe approval, in use: of the cases approved at that very minute, how many arrived by the due time, and how many at most 15
  minutes after it: there the time told was right to 15 minutes for the case. The site wants 95 %;
- last safe approval, as a number: how far the time told lies from the one that the simulation itself has. That is the due time
  less the 95 % quantile of (delivered - approved) of all cases of that process, from a run of many more days without the clock.
  Before slicing neither knows how long the print will be, and what the queue is at that minute counts for neither. Beside it
  stands what the 95 % quantile of that many whole cases alone would give: no site can know its rare long cases better than it has
  seen them, and where one case in twenty fails or waits for the night, the quantile lies among these.
"""

from __future__ import annotations

import argparse
import datetime as dt
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from batchone.pipeline.clock.folder import Estimate
from batchone.pipeline.clock.forecast import Clock, Forecast
from batchone.pipeline.clock.history import ATTEMPTS, ESTIMATE, FAILURES, LEG_TIME, RATIO, About, History, Took
from batchone.pipeline.clock.legs import COMPUTED, LEGS, PRINT, QUEUE, REVIEW
from batchone.pipeline.config import ClockSettings

HOUR_S, DAY_S = 3600.0, 86_400.0
RIGHT_S = 900.0
LEVEL = ClockSettings().level
LATE_APPROVALS = 0.3
TEACHES = 0.25  # of the days
TRUTH_DAYS = 12_000
EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0 + 1e-9)
NAMES = [leg.name for leg in LEGS]
BEFORE_REVIEW = NAMES[: NAMES.index(REVIEW)]


@dataclass(frozen=True)
class Product:
    """What one machine makes: cases a day, the print in hours, the due time in hours after receipt (even between)."""

    about: About
    a_day: float
    print_h: float
    due_h: tuple[float, float]
    post_h: float


PRODUCTS = (
    Product(About("pedicle-guide", "guide-resin", "resin-1"), 3.5, 3.0, (14.0, 48.0), 1.6),
    Product(About("cranial-implant", "ti64-lpbf", "laser-1"), 1.1, 9.0, (30.0, 90.0), 11.0),
    Product(About("cranial-implant", "ti64-lpbf", "laser-2"), 1.1, 9.0, (30.0, 90.0), 11.0),
)
KINDS = {"guide-resin": "vat", "ti64-lpbf": "lpbf"}
FAILS = 0.04


@dataclass
class Part:
    """A case on its way; times in s since the start, durations in s."""

    product: Product
    received: float
    due: float
    estimate: float
    checked: float = 0.0
    approved: float = 0.0
    late: bool = False
    told_safe: float | None = None
    arrived: float = 0.0
    took: list[Took] = field(default_factory=list)
    told: list[tuple[str, float]] = field(default_factory=list)

    def note(self, leg: str, seconds: float) -> None:
        self.took.append(Took(LEG_TIME, leg, self.product.about, seconds))


class Machine:
    """One part after the other; stands still now and then."""

    def __init__(self) -> None:
        self.queue: list[tuple[Part, float]] = []
        self.free = True


class Site:
    """A site, event by event; ``clock`` is asked and followed where there is one."""

    def __init__(self, days: int, seed: int, *, asks: bool) -> None:
        self.random = np.random.default_rng(seed)
        self.until, self.asks = days * DAY_S, asks
        self.clock: Clock | None = None
        self.records: list[Took] = []
        self.delivered: list[Part] = []
        self.slow_day: dict[int, float] = {}
        self.machines = {product.about.machine: Machine() for product in PRODUCTS}
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = itertools.count()

    def run(self) -> list[Part]:
        for product in PRODUCTS:
            self._next(product, 0.0)
            self._outage(self.machines[product.about.machine], 0.0)
        if self.asks:
            self._learn(0.0)
        while self._heap:
            now, _, happen = heapq.heappop(self._heap)
            happen(now)
        return self.delivered

    def at(self, when: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._number), happen))

    def _learn(self, now: float) -> None:
        self.clock = Clock(ClockSettings(), History(self.records), KINDS, dict.fromkeys(COMPUTED, 3.0))
        if now < self.until:
            self.at(now + 7 * DAY_S, self._learn)

    def _next(self, product: Product, now: float) -> None:
        when = now + float(self.random.exponential(DAY_S / product.a_day))
        if when < self.until:
            self.at(when, lambda time_s: self._received(product, time_s))

    def _outage(self, machine: Machine, now: float) -> None:
        when = now + float(self.random.exponential(12 * DAY_S))
        if when < self.until:
            self.at(when, lambda time_s: self._stand_still(machine, time_s))

    def _stand_still(self, machine: Machine, now: float) -> None:
        self._outage(machine, now)
        if machine.free:  # one that prints is not disturbed
            machine.free = False
            still = min(2.0 * (1.0 + self.random.pareto(1.6)), 72.0) * HOUR_S
            self.at(now + still, lambda time_s: self._freed(machine, time_s))

    def _received(self, product: Product, now: float) -> None:
        self._next(product, now)
        hours = self.random.uniform(*product.due_h)
        estimate = float(self.random.gamma(9.0, product.print_h / 9.0)) * HOUR_S
        part = Part(product, now, now + hours * HOUR_S, estimate)
        for leg in BEFORE_REVIEW:
            seconds = float(self.random.weibull(1.2) * 4.0)
            part.note(leg, seconds)
            now += seconds
        self.at(now, lambda time_s: self._checked(part, time_s))

    def _checked(self, part: Part, now: float) -> None:
        part.checked = now
        day = int(now // DAY_S)
        slow = self.slow_day.setdefault(day, float(self.random.gamma(6.0, 1.0 / 6.0)))
        review = float(self.random.weibull(0.9)) * 1.8 * slow
        if self.random.random() < 1.0 / 7.0:
            review += float(self.random.uniform(8.0, 14.0))
        approved = now + max(review, 0.02) * HOUR_S
        if self.clock is not None:
            found = self._ask(part, now, BEFORE_REVIEW)
            safe = found.last_safe_approval
            part.told_safe = None if safe is None else (safe - EPOCH).total_seconds()
            part.late = part.told_safe is not None and part.told_safe > now and self.random.random() < LATE_APPROVALS
            if part.late and part.told_safe is not None:
                approved = part.told_safe
            else:
                part.told.append(("checked", found.probability))
        self.at(approved, lambda time_s: self._approved(part, time_s))

    def _approved(self, part: Part, now: float) -> None:
        part.approved = now
        if not part.late:
            part.note(REVIEW, now - part.checked)
        for leg in ("slice", "package"):
            seconds = float(self.random.weibull(1.2) * 4.0)
            part.note(leg, seconds)
            now += seconds
        part.took.append(Took(ESTIMATE, PRINT, part.product.about, part.estimate))
        self._ask_and_tell(part, "sliced", now, NAMES[: NAMES.index(QUEUE)])
        self._queue(part, now)

    def _queue(self, part: Part, now: float) -> None:
        machine = self.machines[part.product.about.machine]
        machine.queue.append((part, now))
        self._start(machine, now)

    def _freed(self, machine: Machine, now: float) -> None:
        machine.free = True
        self._start(machine, now)

    def _start(self, machine: Machine, now: float) -> None:
        if not machine.free or not machine.queue:
            return
        machine.free = False
        part, since = machine.queue.pop(0)
        part.note(QUEUE, now - since)
        self._ask_and_tell(part, "print started", now, NAMES[: NAMES.index(PRINT)])
        ratio = 1.02 + 0.05 * float(np.clip(self.random.standard_t(4), -5.0, 8.0))
        whole = part.estimate * ratio
        part.took.append(Took(ATTEMPTS, PRINT, part.product.about, 1.0))
        fails = self.random.random() < FAILS
        end = now + whole * (self.random.random() if fails else 1.0)

        def over(time_s: float) -> None:
            if fails:
                part.took.append(Took(FAILURES, PRINT, part.product.about, 1.0))
                self._queue(part, time_s)
            else:
                part.note(PRINT, whole)
                part.took.append(Took(RATIO, PRINT, part.product.about, ratio))
                self._finish(part, time_s)
            self._freed(machine, time_s)

        self.at(end, over)

    def _finish(self, part: Part, now: float) -> None:
        random = self.random
        inspection = random.weibull(1.5) * 0.6 + (random.uniform(1.0, 3.0) if random.random() < 0.05 else 0.0)
        transport = random.gamma(12.0, 2.5 / 12.0) + (random.uniform(10.0, 16.0) if random.random() < 0.015 else 0.0)
        legs = {
            "post-processing": random.gamma(8.0, part.product.post_h / 8.0),
            "inspection": inspection,
            "sterilisation": random.uniform(0.0, 3.0) + 2.5,
            "transport": transport,
        }
        for leg, hours in legs.items():
            part.note(leg, float(hours) * HOUR_S)
            now += float(hours) * HOUR_S
        self.at(now, lambda time_s: self._arrived(part, time_s))

    def _arrived(self, part: Part, now: float) -> None:
        part.arrived = now
        self.records += part.took
        self.delivered.append(part)

    def _ask(self, part: Part, now: float, over: list[str], *, sliced: bool = False) -> Forecast:
        assert self.clock is not None
        return self.clock.forecast(
            part.product.about,
            EPOCH + dt.timedelta(seconds=part.due),
            EPOCH + dt.timedelta(seconds=now),
            over=dict.fromkeys(over),
            since=EPOCH + dt.timedelta(seconds=now),
            estimate=Estimate(part.estimate, 0.8 * part.estimate, 1.2 * part.estimate) if sliced else None,
        )

    def _ask_and_tell(self, part: Part, moment: str, now: float, over: list[str]) -> None:
        if self.clock is not None:
            part.told.append((moment, self._ask(part, now, over, sliced=True).probability))


def main() -> None:
    parser = argparse.ArgumentParser(description="The clock beside simulated days.")
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    started = time.perf_counter()
    truth_s = _truth(given.seed)
    sites = [Site(given.days, given.seed + 1 + number, asks=True).run() for number in range(given.sites)]
    sites = [[one for one in parts if one.received >= TEACHES * given.days * DAY_S] for parts in sites]
    parts = list(itertools.chain(*sites))
    print(f"\n{given.sites} sites of {given.days} days: {len(parts)} cases after the first {TEACHES:.0%} of the days")
    _reliability(parts)
    _safe(sites, truth_s)
    print(f"{time.perf_counter() - started:.0f} s")


def _truth(seed: int) -> dict[str, np.ndarray]:
    """Times in s from approval to delivery of very many cases, by process; shape (cases,)."""
    parts = Site(TRUTH_DAYS, seed, asks=False).run()
    return {process: _rests(parts, process) for process in KINDS}


def _rests(parts: list[Part], process: str) -> np.ndarray:
    return np.array([one.arrived - one.approved for one in parts if one.product.about.process == process])


def _reliability(parts: list[Part]) -> None:
    for moment in ("checked", "sliced", "print started"):
        pairs = [(told, one.arrived <= one.due) for one in parts for when, told in one.told if when == moment]
        told, came = np.array([one for one, _ in pairs]), np.array([float(two) for _, two in pairs])
        brier, base = float(((told - came) ** 2).mean()), float(came.mean() * (1.0 - came.mean()))
        print(f"\nTold when {moment}: Brier score {brier:.4f}; always telling {came.mean():.3f} gives {base:.4f}")
        print(f"  {'told':>12} {'cases':>7} {'mean told':>10} {'on time':>8}")
        for low, high in itertools.pairwise(EDGES):
            within = (told >= low) & (told < high)
            if within.any():
                share, on_time = told[within].mean(), came[within].mean()
                print(f"  {low:5.2f} - {min(high, 1.0):4.2f} {within.sum():7} {share:10.3f} {on_time:8.3f}")


def _safe(sites: list[list[Part]], truth_s: dict[str, np.ndarray]) -> None:
    print("\nLast safe approval")
    for process, rests in truth_s.items():
        truth = float(np.quantile(rests, LEVEL))
        own = [one for parts in sites for one in parts if one.product.about.process == process and one.told_safe is not None]
        late = [one for one in own if one.late]
        exact = np.mean([one.arrived <= one.due for one in late])
        reached = np.mean([one.arrived <= one.due + RIGHT_S for one in late])
        off = _off([(one.due - truth) - (one.told_safe or 0.0) for one in own])
        seen = _off([float(np.quantile(_rests(parts, process), LEVEL)) - truth for parts in sites])
        arrived = f"{exact:.3f} by the due time, {reached:.3f} within 15 min of it"
        print(f"  {process}: approved at that minute: {len(late)} cases, {arrived}")
        print(f"    the simulation's own lies {truth / HOUR_S:.2f} h before the due time; the one told is off by {off}")
        print(f"    the 95 % quantile of the whole cases of a site alone is off by {seen}")


def _off(seconds: list[float]) -> str:
    minutes = np.abs(seconds) / 60.0
    share = float(np.mean(minutes <= RIGHT_S / 60.0))
    return f"{np.median(minutes):.0f} min (median), at most 15 min in {share:.3f} of {len(minutes)}"


if __name__ == "__main__":
    main()
