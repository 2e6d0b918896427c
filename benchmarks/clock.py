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
  Before slicing neither knows how long the print will be, and what the queue is at that minute counts for neither. Printed too:
  what a clock tells that was taught by all the records of that long run, so what the model itself has wrong; and within what the
  95 % quantile of as many independent cases as the site has had is known, in 95 of 100 sites: no records can do better than that;
- last safe approval, known afterwards: how far the time told lies from the last minute of approval that would have been in time
  for this case. Nobody can know that minute before: printed beside is the same for the simulation's own time, which knows all
  distributions but not what is drawn; and the largest share of cases that any time told without knowing the draws could be
  within 15 minutes of, in all and were queue and print of each known to the second.
"""

from __future__ import annotations

import argparse
import datetime as dt
import heapq
import itertools
import math
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
    waited: float = 0.0  # in the machine's queue
    printed: float = 0.0  # on it, with what failed

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

    def teach(self) -> None:
        """Make a clock of all the records so far."""
        self.clock = Clock(ClockSettings(), History(self.records), KINDS, dict.fromkeys(COMPUTED, 3.0))

    def told_s(self, about: About) -> float:
        """How long before the due time the clock's last safe approval lies, s."""
        assert self.clock is not None
        over = dict.fromkeys(BEFORE_REVIEW)
        last = self.clock.forecast(about, EPOCH, EPOCH, over=over, since=EPOCH).last_safe_approval
        return math.nan if last is None else (EPOCH - last).total_seconds()

    def _learn(self, now: float) -> None:
        self.teach()
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
        part.waited += now - since
        self._ask_and_tell(part, "print started", now, NAMES[: NAMES.index(PRINT)])
        ratio = 1.02 + 0.05 * float(np.clip(self.random.standard_t(4), -5.0, 8.0))
        whole = part.estimate * ratio
        part.took.append(Took(ATTEMPTS, PRINT, part.product.about, 1.0))
        fails = self.random.random() < FAILS
        end = now + whole * (self.random.random() if fails else 1.0)
        part.printed += end - now

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
    truth = Truth.of(given.seed)
    sites = [Site(given.days, given.seed + 1 + number, asks=True).run() for number in range(given.sites)]
    sites = [[one for one in parts if one.received >= TEACHES * given.days * DAY_S] for parts in sites]
    parts = list(itertools.chain(*sites))
    print(f"\n{given.sites} sites of {given.days} days: {len(parts)} cases after the first {TEACHES:.0%} of the days")
    _reliability(parts)
    _safe(sites, truth)
    print(f"{time.perf_counter() - started:.0f} s")


@dataclass(frozen=True)
class Truth:
    """The simulation's own: by process what became of very many cases, and what a clock tells that learned from all of them."""

    parts: dict[str, list[Part]]
    told_s: dict[str, float]

    @classmethod
    def of(cls, seed: int) -> Truth:
        """Run very many days without the clock, then teach one."""
        site = Site(TRUTH_DAYS, seed, asks=False)
        delivered = site.run()
        site.teach()
        told = {
            process: float(np.mean([site.told_s(one.about) for one in PRODUCTS if one.about.process == process]))
            for process in KINDS
        }
        return cls({process: [one for one in delivered if one.product.about.process == process] for process in KINDS}, told)


def _rests(parts: list[Part], process: str) -> np.ndarray:
    """Times in s from approval to delivery; shape (cases,)."""
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


def _safe(sites: list[list[Part]], known: Truth) -> None:
    print("\nLast safe approval")
    for process, parts in known.parts.items():
        rests = _rests(parts, process)
        truth = float(np.quantile(rests, LEVEL))
        own = [one for site in sites for one in site if one.product.about.process == process and one.told_safe is not None]
        late = [one for one in own if one.late]
        exact = np.mean([one.arrived <= one.due for one in late])
        reached = np.mean([one.arrived <= one.due + RIGHT_S for one in late])
        arrived = f"{exact:.3f} by the due time, {reached:.3f} within 15 min of it"
        print(f"  {process}: approved at that minute: {len(late)} cases, {arrived}  (>= 0.95)")
        told = _off([one.due - (one.told_safe or 0.0) for one in own], truth)
        print(f"    the simulation's own lies {truth / HOUR_S:.2f} h before the due time; the one told is off by {told}")
        model = (known.told_s[process] - truth) / 60.0
        print(f"    taught by all {len(rests)} cases of {TRUTH_DAYS} days the clock is off by {model:+.0f} min")
        count = len(own) // len(sites)
        print(f"    the quantile of {count} independent cases is known to {_known_min(rests, count):.0f} min (95 of 100)")
        after = np.array([one.arrived - one.approved for one in late])
        print(f"    off what was right, known afterwards: {_off(after, np.array([one.due - one.approved for one in late]))}")
        print(f"      the simulation's own: {_off(after, truth)}")
        rest = rests - np.array([one.waited + one.printed for one in parts])
        print(f"      right to 15 min at most for {_most(rests):.3f} of cases; were queue and print known, for {_most(rest):.3f}")


def _known_min(rests: np.ndarray, count: int) -> float:
    """Within how many minutes the quantile of so many independent cases lies in 95 of 100 samples (order statistics)."""
    spread = 1.96 * math.sqrt(LEVEL * (1.0 - LEVEL) / count)
    low, high = np.quantile(rests, (LEVEL - spread, min(LEVEL + spread, 1.0)))
    return float(high - low) / 2.0 / 60.0


def _most(seconds: np.ndarray) -> float:
    """The largest share of cases within RIGHT_S of one and the same time."""
    ordered = np.sort(seconds)
    inside = np.searchsorted(ordered, ordered + 2.0 * RIGHT_S, side="right") - np.arange(len(ordered))
    return float(inside.max()) / len(ordered)


def _off(seconds: np.ndarray | list[float], right: np.ndarray | float) -> str:
    minutes = np.abs(np.asarray(seconds) - right) / 60.0
    share, middle, most = float(np.mean(minutes <= RIGHT_S / 60.0)), np.median(minutes), np.quantile(minutes, 0.95)
    return f"{middle:.0f} min (median), {most:.0f} min (95 of 100), at most 15 min in {share:.3f} of {len(minutes)}"


if __name__ == "__main__":
    main()
