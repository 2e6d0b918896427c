"""The events of a case, walked through once: what ended when, what is under way in the workshop, and what each leg took."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass

from batchone.pipeline.clock.folder import CaseFiles, Event
from batchone.pipeline.clock.history import ATTEMPTS, ESTIMATE, FAILURES, LEG_TIME, RATIO, About, Took
from batchone.pipeline.clock.legs import COMPUTED, ENDS, PACKAGE, PRINT, PRINT_FAILED, REMAKE, REVIEW, REVISED, SLICE, WORKSHOP

SKEW_S = 60.0  # clocks of two machines may differ by so much before an order of times cannot be; project default
LEAST_REVIEW_S = (
    10.0  # approved sooner, by the command that made the device: says nothing of how long people take; project default
)


@dataclass(frozen=True, slots=True)
class Walked:
    """What the events say.

    ``ended``: by leg, when it last ended (None: at a time that cannot be). ``since``: when the workshop's present leg began.
    ``took``: what each leg took. ``left_out``: what cannot be and did not count.
    """

    received: dt.datetime | None
    last: Event | None
    ended: dict[str, dt.datetime | None]
    since: dt.datetime | None
    took: tuple[Took, ...]
    left_out: tuple[str, ...]


def walk(files: CaseFiles, now: dt.datetime, without: frozenset[str] = frozenset()) -> Walked:
    """Walk through the events of a case. Times of the future and durations below zero are left out and told.

    ``without``: legs that there are none of, so that the next one begins where the one before them ended.
    """
    about = None if files.order is None else files.order.about
    steps = _Steps(about, files.estimate.seconds if files.estimate else None, without)
    received: dt.datetime | None = None
    for event in files.events:
        when = event.when
        if when is None:
            steps.left_out.append(f"event {event.what!r} has no time")
        elif (when - now).total_seconds() > SKEW_S:
            steps.left_out.append(f"event {event.what!r} is of the future: {when:%Y-%m-%d %H:%M} UTC")
            when = None
        received = received or when
        steps.take(event.what, when)
    steps.computed(files)
    last = files.events[-1] if files.events else None
    return Walked(received, last, steps.ended, steps.since, tuple(steps.took), tuple(steps.left_out))


class _Steps:
    def __init__(self, about: About | None, estimate_s: float | None, without: frozenset[str]) -> None:
        self._workshop_legs = tuple(leg for leg in WORKSHOP if leg not in without)
        self.ended: dict[str, dt.datetime | None] = {}
        self.since: dt.datetime | None = None
        self.took: list[Took] = []
        self.left_out: list[str] = []
        self._about, self._estimate_s = about, estimate_s
        self._of_this_build: list[Took] = []  # ratios to an estimate count for the build that is there now

    def take(self, what: str, when: dt.datetime | None) -> None:
        leg = ENDS.get(what)
        if what == PRINT_FAILED:
            self._fail(when)
        elif what.startswith(f"{REMAKE}: "):
            self._forget(WORKSHOP)
            self.since = when
        elif what.startswith(f"{REVISED}: "):
            self._forget((REVIEW, SLICE, PACKAGE, *WORKSHOP))
            self.ended["check"] = when  # its review begins anew
        elif leg in self._workshop_legs:
            self._workshop(leg, when)
        elif leg is not None:
            if leg == REVIEW:
                self._record(LEG_TIME, REVIEW, self._between(REVIEW, self.ended.get("check"), when), least=LEAST_REVIEW_S)
            self.ended[leg] = when
            if leg == PACKAGE:
                self._forget(WORKSHOP)
                self.since = when
                self._of_this_build = []

    def computed(self, files: CaseFiles) -> None:
        """What the stages say themselves, and the ratios of the present build."""
        for stage in COMPUTED:
            seconds = files.records.get(stage, {}).get("seconds")
            if isinstance(seconds, int | float):
                if not math.isfinite(seconds) or seconds < 0.0:
                    self.left_out.append(f"stage {stage} took {seconds:g} s")
                else:
                    self._record(LEG_TIME, stage, float(seconds))
        if SLICE in files.records and self._estimate_s is not None:
            self._record(ESTIMATE, PRINT, self._estimate_s)
        self.took += self._of_this_build

    def _workshop(self, leg: str, when: dt.datetime | None) -> None:
        place = self._workshop_legs.index(leg)
        if all(earlier in self.ended for earlier in self._workshop_legs[:place]) and leg not in self.ended:
            seconds = self._between(leg, self.since, when)
            self._record(LEG_TIME, leg, seconds)
            if leg == PRINT and seconds is not None and self._estimate_s:
                self._of_this_build += self._made(RATIO, PRINT, seconds / self._estimate_s)
        if leg == PRINT:
            self._record(ATTEMPTS, PRINT, 1.0)
        for one in self._workshop_legs[: place + 1]:
            self.ended.setdefault(one, when)
        self.since = when

    def _fail(self, when: dt.datetime | None) -> None:
        if PRINT not in self.ended:
            self._record(ATTEMPTS, PRINT, 1.0)
        self._record(FAILURES, PRINT, 1.0)
        self._forget(WORKSHOP)
        self.since = when

    def _forget(self, legs: Iterable[str]) -> None:
        for leg in legs:
            self.ended.pop(leg, None)

    def _between(self, leg: str, start: dt.datetime | None, end: dt.datetime | None) -> float | None:
        if start is None or end is None:
            return None
        seconds = (end - start).total_seconds()
        if seconds < -SKEW_S:
            self.left_out.append(f"{leg} ended {-seconds:.0f} s before it began")
            return None
        return max(seconds, 0.0)

    def _record(self, what: str, leg: str, value: float | None, *, least: float = 0.0) -> None:
        if value is not None and value >= least:
            self.took += self._made(what, leg, value)

    def _made(self, what: str, leg: str, value: float) -> list[Took]:
        return [] if self._about is None else [Took(what, leg, self._about, value)]
