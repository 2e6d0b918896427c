"""What a site's own cases teach the clock: how long each leg took, by device, process and machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from batchone.pipeline.clock.legs import LEG, PRINT, Feature, Leg
from batchone.pipeline.clock.spread import PRIOR_WEIGHT, Spread

ESTIMATE, RATIO = "estimate of the print", "print by its estimate"
LEG_TIME, ATTEMPTS, FAILURES = "leg", "prints", "failed prints"


@dataclass(frozen=True, slots=True)
class About:
    """What tells cases apart."""

    device: str
    process: str
    machine: str

    def shared(self, features: tuple[Feature, ...]) -> tuple[str, ...]:
        """Their values, in this order."""
        return tuple(getattr(self, feature) for feature in features)


@dataclass(frozen=True, slots=True)
class Took:
    """One record. ``what`` is ``LEG_TIME`` or ``ESTIMATE`` (``value`` in s), ``RATIO``, ``ATTEMPTS`` or ``FAILURES``."""

    what: str
    leg: str
    about: About
    value: float


class History:
    """The records of a site, ready to be asked."""

    def __init__(self, records: Iterable[Took] = ()) -> None:
        self._values: dict[tuple[str, str, tuple[Feature, ...], tuple[str, ...]], list[float]] = {}
        for one in records:
            leg = LEG[one.leg]
            for features in dict.fromkeys((leg.wide, leg.narrow)):
                self._values.setdefault((one.what, leg.name, features, one.about.shared(features)), []).append(one.value)

    def leg(self, leg: Leg, about: About, prior: Spread) -> Spread:
        """What a leg takes: the prior, taught by the cases that share ``leg.wide``, then by those that share ``leg.narrow``."""
        return self._taught(LEG_TIME, leg, about, prior)

    def print_before_slicing(self, about: About, prior: Spread) -> Spread:
        """What a print takes whose estimate is not there yet: as the estimates of such jobs, then as the prints themselves."""
        return self._taught(LEG_TIME, LEG[PRINT], about, self._taught(ESTIMATE, LEG[PRINT], about, prior))

    def print_by_estimate(self, about: About, prior: Spread) -> Spread:
        """What a print takes over its estimate, as a spread of seconds for each second of it."""
        return self._taught(RATIO, LEG[PRINT], about, prior)

    def print_fails(self, about: About, prior: float) -> float:
        """Share of prints that fail."""
        leg = LEG[PRINT]
        failed = sum(self._found(FAILURES, leg, leg.wide, about))
        attempts = sum(self._found(ATTEMPTS, leg, leg.wide, about))
        return (PRIOR_WEIGHT * prior + failed) / (PRIOR_WEIGHT + attempts)

    def _taught(self, what: str, leg: Leg, about: About, prior: Spread) -> Spread:
        for features in dict.fromkeys((leg.wide, leg.narrow)):
            values = self._found(what, leg, features, about)
            basis = f"of this site, same {' and '.join(features)}" if features else "of this site"
            prior = prior.taught(values, basis)
        return prior

    def _found(self, what: str, leg: Leg, features: tuple[Feature, ...], about: About) -> list[float]:
        return self._values.get((what, leg.name, features, about.shared(features)), [])
