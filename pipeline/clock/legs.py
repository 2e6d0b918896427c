"""The legs of a case in their order: who acts in each, what ends it, and what it takes until a site knows better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from batchone.pipeline.config import ClockSettings, WorkshopHours

Who = Literal["sender", "engineer", "workshop", "us"]
Feature = Literal["device", "process", "machine"]

REVIEW, SLICE, PACKAGE, QUEUE, PRINT, STERILISATION = "review", "slice", "package", "queue", "print", "sterilisation"
PRINT_FAILED = "print failed"  # an event after which the part queues again
REMAKE = "remake"  # and why: an event after which a part is made once more from the same job
BY_ITS_CELL = "told by the cell that printed it"  # what a remake means that no person said
REVISED = "revised"  # and why: an event after which the device waits for its review again, or for changes
DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg: its name, who acts, the event that ends it, and by what its records are told apart.

    First all that share ``wide`` teach it, then those that share ``narrow``.

    ``factor``: 84 of 100 cases are expected to take at most so many times the median. Unverified: project defaults.
    """

    name: str
    who: Who
    ends: str
    factor: float
    wide: tuple[Feature, ...]
    narrow: tuple[Feature, ...] = ("device", "process")


def _computed(name: str) -> Leg:
    return Leg(name, "us", f"{name} done", 2.0, ("device",))


LEGS = (
    *(_computed(name) for name in ("intake", "segment", "plan", "design", "check")),
    Leg(REVIEW, "engineer", "approved", 3.0, ()),
    *(_computed(name) for name in (SLICE, PACKAGE)),
    Leg(QUEUE, "workshop", "print started", 2.5, ("machine",), ("machine", "process")),
    Leg(PRINT, "workshop", "print done", 1.5, ("process",)),
    Leg("post-processing", "workshop", "post-processing done", 1.5, ("process",)),
    Leg("inspection", "workshop", "inspection done", 1.8, ("process",)),
    Leg(STERILISATION, "workshop", "sterilisation done", 1.5, ("process",)),
    Leg("transport", "workshop", DELIVERED, 1.5, ()),
)
LEG = {leg.name: leg for leg in LEGS}
ENDS = {leg.ends: leg.name for leg in LEGS}
BEFORE_RELEASE = tuple(leg.name for leg in LEGS[: [leg.name for leg in LEGS].index(QUEUE)])
WORKSHOP = tuple(leg.name for leg in LEGS if leg.name not in BEFORE_RELEASE)
COMPUTED = tuple(leg.name for leg in LEGS if leg.who == "us")


@dataclass(frozen=True, slots=True)
class Usual:
    """What a process usually takes, in hours, and where the numbers come from."""

    print_h: float
    post_processing_h: float
    inspection_h: float
    sterilisation_h: float
    source: str


_UNVERIFIED = "unverified: project default"
_STEAM_H = (
    4.0  # the cycle itself is 15 min at 121 C (study of guide resin in the autoclave); washing, packing, drying: unverified
)

USUAL = {
    "lpbf": Usual(9.0, 12.0, 1.0, _STEAM_H, f"{_UNVERIFIED}; stress relief, cutting off, supports, blasting"),
    "sls": Usual(12.0, 10.0, 0.5, _STEAM_H, f"{_UNVERIFIED}; the cake cools about as long as it was built"),
    "vat": Usual(3.0, 1.5, 0.5, _STEAM_H, "CustoMED help centre 2026: wash 10 min, dry 30 min, cure 20 min; the rest unverified"),
    "fff": Usual(6.0, 4.0, 0.5, _STEAM_H, f"{_UNVERIFIED}; slow cooling, annealing, supports"),
}
"""By the kind of a process; a site's ``[clock.process.NAME]`` goes before it."""


def usual(process: str, kind: str, settings: ClockSettings) -> Usual:
    """What a process takes at a site until its records say otherwise."""
    ours, theirs = USUAL[kind], settings.process.get(process, WorkshopHours())
    given = {name: value for name, value in theirs.model_dump().items() if value is not None}
    hours = {name: float(given.get(name, getattr(ours, name))) for name in WorkshopHours.model_fields}
    source = ours.source if not given else f"site.toml for {', '.join(sorted(given))}; else {ours.source}"
    return Usual(**hours, source=source)


def medians_s(settings: ClockSettings, hours: Usual, targets_s: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Median in s of each leg and where it comes from; a leg of 0 s is none.

    ``targets_s``: the time that each computed stage may take (``pipeline/stages.py``).
    """
    site = "[clock] of the site, by default unverified"
    found = {name: (targets_s[name], "target of the stage") for name in COMPUTED}
    found |= {REVIEW: (settings.review_h * 3600.0, site), QUEUE: (settings.queue_h * 3600.0, site)}
    found |= {"transport": (settings.transport_h * 3600.0, site), PRINT: (hours.print_h * 3600.0, hours.source)}
    found["post-processing"] = (hours.post_processing_h * 3600.0, hours.source)
    found["inspection"] = (hours.inspection_h * 3600.0, hours.source)
    found[STERILISATION] = (hours.sterilisation_h * 3600.0, hours.source)
    return found
