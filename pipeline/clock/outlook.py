"""One case looked at closely: its place on the board, its plan leg by leg, and what happened last."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from batchone.pipeline.clock.board import Row, SiteCases, row, utc
from batchone.pipeline.clock.folder import Event
from batchone.pipeline.clock.forecast import Expected


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the clock says of one case; ``plan`` is empty where it has no order."""

    row: Row
    plan: tuple[Expected, ...]
    last_event: Event | None
    left_out: tuple[str, ...]

    def tree(self) -> dict[str, Any]:
        """The clock's keys of the JSON document of ``batchone status``."""
        last = self.last_event
        return {
            "device": self.row.device,
            "due": _iso(self.row.due),
            "probability": self.row.probability,
            "last_safe_approval": _iso(self.row.last_safe_approval),
            "light": self.row.light,
            "reason": self.row.reason,
            "who": self.row.who,
            "waits_for": self.row.waits_for,
            "last_event": None if last is None else {"who": last.who, "what": last.what, "when": _iso(last.when)},
            "plan": [_leg_tree(one) for one in self.plan],
            "left_out": list(self.left_out),
        }

    def lines(self) -> list[str]:
        """What people read."""
        one, last = self.row, self.last_event
        found = [f"Waits for: {one.waits_for}" + (f" (acts: {one.who})" if one.who else "")]
        if last is not None:
            found.append(f"Last: {last.what} ({last.who}, {utc(last.when)})")
        if one.due is not None:
            found.append(f"Due: {utc(one.due)}; {one.light}: {one.reason}")
        if one.last_safe_approval is not None:
            found.append(f"Last safe approval: {utc(one.last_safe_approval)}")
        if self.plan:
            found.append("Plan (half the cases take at most; 90 of 100 lie between):")
        found += [_leg_line(leg) for leg in self.plan]
        return found + [f"left out: {text}" for text in self.left_out]


def outlook(read: SiteCases, case: str, now: dt.datetime) -> Outlook | None:
    """One case of a site, by its id; None where the site has no such case."""
    for files, stands in read.cases:
        if files.case == case:
            about = None if files.order is None or not read.clock.knows(files.order.about) else files.order.about
            plan = () if about is None else read.clock.plan(about, stands.over, files.estimate)
            return Outlook(row(files, stands, read.clock, now), plan, stands.walked.last, stands.walked.left_out)
    return None


def _leg_tree(one: Expected) -> dict[str, Any]:
    return {
        "leg": one.leg,
        "who": one.who,
        "done": one.over,
        "ended": _iso(one.ended),
        "expected_s": round(one.expected_s, 1),
        "low_s": round(one.low_s, 1),
        "high_s": round(one.high_s, 1),
        "records": one.records,
        "basis": one.basis,
    }


def _leg_line(one: Expected) -> str:
    done = f"done {utc(one.ended)}" if one.over else ""
    basis = f"{one.records} records {one.basis}" if one.records else one.basis
    times = f"{_time(one.expected_s):>8}  {_time(one.low_s):>8} to {_time(one.high_s):8}"
    return f"  {one.leg:16} {one.who:9} {times} {done:26} {basis}"


def _time(seconds: float) -> str:
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7200.0 else f"{seconds / 3600.0:.1f} h"


def _iso(when: dt.datetime | None) -> str | None:
    return None if when is None else when.isoformat()
