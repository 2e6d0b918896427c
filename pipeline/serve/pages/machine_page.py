"""The machines: state, build and layer, alarms, curves of the last samples, pictures of the last layer; from the site's store."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.pages.curves import Curve, curve
from batchone.pipeline.serve.pages.shell import shown
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.services import Services
from batchone.pipeline.telemetry import MOMENTS, MachineNow, read_machines, read_picture

SAMPLES: Final = 240  # project default: of a curve, four minutes at one each second
_ALARMS: Final = 6  # project default: the last ones
_MOST: Final = 50  # project default: machines on a page
_LATE_S: Final = 30.0  # project default: without a word, while a build goes on
MAIN: Final = (  # project default: what is shown of each machine; all of it where one is looked for by its whole name
    "bed_temperature_c", "oxygen_percent", "laser_power_w", "recoater_force_n", "filter_pressure_pa", "mains_power_kw",
)  # fmt: skip

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Typed = Annotated[str, Query(max_length=64)]


@dataclass(frozen=True, slots=True)
class Card:
    """A machine as it is shown: ``light`` is red, amber, green or none, ``span_s`` the machine's time from edge to edge."""

    now: MachineNow
    state: str
    light: str
    silent_s: float
    heard: dt.datetime
    layer: int
    span_s: float
    curves: tuple[Curve, ...]


@router.get("/machines")
def machines(who: Who, parts: Parts, find: Typed = "") -> Response:
    """The whole page."""
    return shown("machines.html", who, **_machines(parts, find))


@router.get("/machines/now")
def now(who: Who, parts: Parts, find: Typed = "") -> Response:
    """What is on it, asked for again every few seconds."""
    return shown("machine_cards.html", who, **_machines(parts, find))


@router.get("/machines/{machine}/picture/{moment}")
def picture(who: Who, parts: Parts, machine: str, moment: str) -> Response:
    """The last picture of a layer, after the blade or after the laser."""
    png = read_picture(parts.site, machine, moment) if moment in MOMENTS else None
    if png is None:
        raise Refusal(404, "there is no such picture", hint="go back to the machines")
    return Response(
        png, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"}
    )  # its address names the layer


def _machines(parts: Services, find: str) -> dict[str, Any]:
    heard = read_machines(parts.site, rows=SAMPLES, alarms=_ALARMS, find=find, most=_MOST)
    cards = [card(one, parts.clock(), every=one.session.machine == find) for one in heard.machines]
    return {"cards": cards, "count": heard.count, "refused": heard.refused, "find": find, "most": _MOST}


def card(now: MachineNow, clock_s: float, *, every: bool) -> Card:
    """A machine as it is shown.

    Parameters
    ----------
    clock_s
        The clock, seconds since 1970.
    every
        All of its values, and not the main ones alone.
    """
    one, rows = now.session, now.rows
    state = one.ended if one.ended in ("stopped", "lost") else rows[-1].state if rows else "idle"
    silent_s = 0.0 if one.ended else max(0.0, clock_s - one.heard_s)
    light = "green"
    if state in ("failed", "stopped"):
        light = "red"
    elif state in ("lost", "paused") or silent_s > max(_LATE_S, 3.0 * one.period_s) or one.missing or now.alarms:
        light = "amber"
    chosen = one.names if every or not set(MAIN) & set(one.names) else [name for name in MAIN if name in one.names]
    columns = list(zip(*(row.numbers for row in rows), strict=True))
    numbers, times_s = [row.number for row in rows], [row.time_s for row in rows]
    drawn = [(name, one.units[k], columns[k]) for name in chosen for k in (one.names.index(name),)] if rows else []
    return Card(
        now=now,
        state=state,
        light=light,
        silent_s=silent_s,
        heard=dt.datetime.fromtimestamp(one.heard_s, dt.UTC),
        layer=max((row.layer for row in rows), default=-1),
        span_s=times_s[-1] - times_s[0] if rows else 0.0,
        curves=tuple(curve(name, unit, numbers, times_s, values) for name, unit, values in drawn),
    )
