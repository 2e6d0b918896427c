"""All cases of a site on one board: until when each may be approved, how likely it is on time, why, and who acts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchone.pipeline.clock.folder import CaseFiles, CaseReader
from batchone.pipeline.clock.forecast import Clock, Forecast
from batchone.pipeline.clock.history import History
from batchone.pipeline.clock.legs import DELIVERED, ENDS, LEG, PACKAGE, QUEUE, REVIEW, STERILISATION
from batchone.pipeline.clock.state import ENDED, Standing, standing
from batchone.pipeline.config import ClockSettings
from batchone.pipeline.errors import BatchoneError
from batchone.slicer.profiles import load_process

Light = Literal["green", "amber", "red", "none"]
RED_BELOW = 0.5  # more likely late than on time
_HOUR_S = 3600.0

_ACTS = {"awaiting-order": "sender", "check-failed": "engineer", "awaiting-approval": "engineer", "awaiting-level": "engineer"}
_ACTS |= {"returned": "engineer", "failed": "engineer", "received": "us", "in-progress": "us"}
_WAITS = {
    "awaiting-order": "an order",
    "received": "its first stage",
    "check-failed": "a changed parameter, or a waiver",
    "awaiting-approval": "an approval",
    "awaiting-level": "a person's word on which level is meant",
    "returned": "a changed device",
    "failed": "what failed to be mended",
    "queue": "a free machine",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A case on the board; times in UTC, ``probability`` None where there is no due time to hold it against."""

    case: str
    device: str | None
    process: str | None
    state: str
    leg: str | None
    due: dt.datetime | None
    last_safe_approval: dt.datetime | None
    probability: float | None
    light: Light
    reason: str
    who: str | None
    waits_for: str


@dataclass(frozen=True, slots=True)
class SiteCases:
    """All cases of a site, and its clock; ``left_out`` says what of their records cannot be, by case."""

    cases: tuple[tuple[CaseFiles, Standing], ...]
    clock: Clock
    left_out: tuple[tuple[str, str], ...]


def read_site(
    site: Path, settings: ClockSettings, targets_s: Mapping[str, float], now: dt.datetime, reader: CaseReader | None = None
) -> SiteCases:
    """Read every case of a site and let the clock learn from all of them; ``reader`` remembers what it read before."""
    reader = reader or CaseReader()
    folders = sorted(path for path in (site / "cases").glob("[!.]*") if path.is_dir())
    cases = tuple((files, standing(files, now, _without(files, settings))) for files in map(reader.read, folders))
    history = History(one for _, stands in cases for one in stands.walked.took)
    kinds = _kinds({files.order.about.process for files, _ in cases if files.order is not None}, site)
    left_out = tuple((files.case, text) for files, stands in cases for text in stands.walked.left_out)
    return SiteCases(cases, Clock(settings, history, kinds, targets_s), left_out)


def board(read: SiteCases, now: dt.datetime, *, closed: bool = False) -> tuple[tuple[Row, ...], int]:
    """The rows of a site, the one that must be approved first at the top, and how many closed cases are left out.

    Closed are cases that were delivered or that a person ended, and released ones whose due time has passed without a word of the
    workshop.
    """
    open_cases = [one for one in read.cases if closed or not _closed(*one, now)]
    rows = (row(files, stands, read.clock, now) for files, stands in open_cases)
    return tuple(sorted(rows, key=_place)), len(read.cases) - len(open_cases)


def row(files: CaseFiles, stands: Standing, clock: Clock, now: dt.datetime) -> Row:
    """One case on the board."""
    order, leg = files.order, stands.leg
    if stands.state in ENDED:
        reason, due = f"{stands.state}: {stands.returned}", None if order is None else order.due
        device, process = (None, None) if order is None else (order.about.device, order.about.process)
        who, waits = ("workshop", "its part to be taken out of the workshop") if _begun(stands) else (None, "nothing")
        return Row(files.case, device, process, stands.state, leg, due, None, None, "none", reason, who, waits)
    waits = _WAITS.get(stands.state) or (_WAITS.get(leg, f"the end of {leg}") if leg else "nothing")
    who = _ACTS.get(stands.state) or (LEG[leg].who if leg else None)
    if order is None or (forecast := forecast_of(files, stands, clock, now)) is None:
        reason = "no order yet" if order is None else f"process {order.about.process!r} is not known here"
        about = (None, None, None) if order is None else (order.about.device, order.about.process, order.due)
        return Row(files.case, about[0], about[1], stands.state, leg, about[2], None, None, "none", reason, who, waits)
    light, reason = _judged(forecast, order.due, now, clock.settings.level, stands)
    return Row(
        files.case,
        order.about.device,
        order.about.process,
        stands.state,
        leg,
        order.due,
        forecast.last_safe_approval,
        forecast.probability,
        light,
        reason,
        who,
        waits,
    )


def forecast_of(files: CaseFiles, stands: Standing, clock: Clock, now: dt.datetime) -> Forecast | None:
    """What the clock says of a case; None without an order, or where its process is not known."""
    order = files.order
    if order is None or not clock.knows(order.about):
        return None
    return clock.forecast(order.about, order.due, now, over=stands.over, since=stands.since, estimate=files.estimate)


def utc(when: dt.datetime | None) -> str:
    """A time as people read it, ``2026-11-30 14:05 UTC``; a dash for none."""
    return "-" if when is None else f"{when.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def _judged(forecast: Forecast, due: dt.datetime, now: dt.datetime, level: float, stands: Standing) -> tuple[Light, str]:
    last, chance = forecast.last_safe_approval, forecast.probability
    late = "" if forecast.late is None else f"; {forecast.late} took {_hours(forecast.late_s)} longer than {level:.0%} of cases"
    if stands.leg is None:
        return ("green", "delivered") if chance > 0.0 else ("red", f"delivered late{late}")
    if now > due:
        return "red", f"due {_hours((now - due).total_seconds())} ago{late}"
    if REVIEW not in stands.over:
        if not forecast.safe_possible or last is None:
            return "red", f"no approval is safe: too many cases never arrive{late}"
        if last < now:
            return "red", f"last safe approval was {_hours((now - last).total_seconds())} ago{late}"
    if chance < RED_BELOW:
        return "red", f"more likely late than on time{late}"
    if chance < level:
        return "amber", f"on time with less than {level:.0%}{late}"
    return "green", f"on time with {level:.0%} or more{late}"


def _hours(seconds: float) -> str:
    return f"{seconds / _HOUR_S:.1f} h"


def _closed(files: CaseFiles, stands: Standing, now: dt.datetime) -> bool:
    unheard_of = PACKAGE in stands.over and not stands.reported and files.order is not None and files.order.due < now
    return stands.leg is None or stands.state in ENDED or unheard_of


def _begun(stands: Standing) -> bool:
    """Whether the workshop began to make a part that it has not delivered."""
    return QUEUE in stands.walked.ended and ENDS[DELIVERED] not in stands.walked.ended


def _place(one: Row) -> tuple[bool, dt.datetime, str]:
    when = one.last_safe_approval or one.due
    return when is None, when or dt.datetime.max.replace(tzinfo=dt.UTC), one.case


def _without(files: CaseFiles, settings: ClockSettings) -> frozenset[str]:
    """Legs that a site has none of for a process."""
    hours = None if files.order is None else settings.process.get(files.order.about.process)
    return frozenset({STERILISATION}) if hours is not None and hours.sterilisation_h == 0.0 else frozenset()


def _kinds(processes: Iterable[str], site: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(processes):
        try:
            found[name] = load_process(name, site).kind
        except BatchoneError:  # its cases stand on the board and say so
            continue
    return found
