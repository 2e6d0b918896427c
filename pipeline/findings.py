"""A finding: one thing that was measured, its limit, and the verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

from batchone.pipeline.seat_map import SeatMap

Verdict = Literal["pass", "warn", "fail", "waived"]
Vector = tuple[float, float, float]

_WHOLE = 1e15  # numerical: beyond it not every whole number is a float
_WORST_FIRST = ("fail", "waived", "warn", "pass")
_SAID = {"fail": "failed", "waived": "waived", "warn": "warned", "pass": "passed"}
INFORMATION = "for information"  # the limit of a figure that is not judged
LEVEL_CONFIRMED = "level_confirmed"  # the check that asks for a person's word on a level
LABEL = "label"  # the check that reads a part's engraving
_LABEL_SAYS, _LABEL_ENDS = ': characters of the label "', '" that do not read so'


def label_words(part: str, label: str) -> str:
    """What the finding on a part's engraving begins with: it carries the engraved text."""
    return f"{part}{_LABEL_SAYS}{label}{_LABEL_ENDS}"


def label_said(part: str, what: str) -> str | None:
    """The engraved text that a finding of :func:`label_words` carries; None for other words or another part's."""
    text, ends, _ = what.removeprefix(f"{part}{_LABEL_SAYS}").partition(_LABEL_ENDS)
    return text if ends and what.startswith(f"{part}{_LABEL_SAYS}") else None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was measured, and how it was judged.

    ``low`` and ``high`` are the inclusive limits in ``unit`` (None: open). ``verdict`` is ``fail`` outside them
    when the limit is a gate, ``warn`` when it is advice. ``source`` says where the limit comes from. A person may waive a failed
    ``waivable`` one with a signature; where that counts it is shown as ``waived``, and stays ``fail`` in the CheckedDevice.
    """

    check: str
    what: str
    value: float
    unit: str
    low: float | None
    high: float | None
    verdict: Verdict
    hint: str = ""
    source: str = ""
    where_mm: Vector | None = None
    waivable: bool = False

    @property
    def limit(self) -> str:
        """The limit in words, with unit."""
        unit = f" {self.unit}" if self.unit else ""
        if self.low is not None and self.high is not None:
            if self.low == self.high:
                return f"{number_words(self.low)}{unit}"
            return f"{number_words(self.low)} to {number_words(self.high)}{unit}"
        if self.low is not None:
            return f"at least {number_words(self.low)}{unit}"
        if self.high is not None:
            return f"at most {number_words(self.high)}{unit}"
        return INFORMATION


@dataclass(frozen=True, slots=True)
class Preview:
    """What the interactive checks measured on a device: to look at until the release checks are there, never to release on."""

    findings: tuple[Finding, ...]
    seats: tuple[SeatMap, ...] = field(default=(), metadata={"later": True})


class Judged(Protocol):
    """What has a verdict: a finding, or its entry in a file."""

    @property
    def verdict(self) -> str: ...  # noqa: D102


JudgedT = TypeVar("JudgedT", bound=Judged)


def number_words(value: float, digits: int = 6) -> str:
    """A number to so many digits; a whole one, as a count, in full."""
    whole = math.isfinite(value) and abs(value) < _WHOLE and float(value).is_integer()
    return f"{value:.0f}" if whole else f"{value:.{digits}g}"


def place_words(place_mm: Vector) -> str:
    """A place in LPS, mm, in words."""
    x, y, z = place_mm
    return f"({x:.1f}, {y:.1f}, {z:.1f}) mm, patient LPS"


def places_of_breaches(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings without the place of any that passes: where next to nothing is off, it is that of rounding."""
    return tuple(replace(one, where_mm=None) if one.verdict == "pass" else one for one in findings)


def worst_first(findings: Iterable[JudgedT]) -> tuple[JudgedT, ...]:
    """What failed before what warns before what passes; otherwise in the order in which it was found."""
    return tuple(sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.verdict)))


def counted(findings: Iterable[Judged]) -> str:
    """How many there are of each verdict, in words: ``1 failed, 3 passed``; ``none`` of none."""
    count: Counter[str] = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{count[verdict]} {_SAID[verdict]}" for verdict in _WORST_FIRST if count[verdict]) or "none"


def judge(
    check: str,
    what: str,
    value: float,
    unit: str,
    *,
    low: float | None = None,
    high: float | None = None,
    gate: bool = True,
    hint: str = "",
    source: str = "",
    where_mm: Vector | None = None,
    waivable: bool = False,
) -> Finding:
    """Judge a measured value against inclusive limits; NaN never passes.

    ``gate=False`` makes a breach a warning instead of a failure.
    """
    inside = bool((low is None or value >= low) and (high is None or value <= high)) and not math.isnan(value)
    verdict: Verdict = "pass" if inside else ("fail" if gate else "warn")
    return Finding(check, what, float(value), unit, low, high, verdict, hint, source, where_mm, waivable)


def recorded_findings(record: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The findings that a stage's record holds.

    Raises
    ------
    AttributeError, KeyError, TypeError, ValueError
        What stands there are none.
    """
    trees = ({k: v for k, v in item.items() if k != "$type"} for item in record["findings"]["$tuple"])
    found = tuple(Finding(**{**tree, "where_mm": _recorded_place(tree["where_mm"])}) for tree in trees)
    for one in found:
        numbers = [one.value, *(limit for limit in (one.low, one.high) if limit is not None), *(one.where_mm or ())]
        if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            raise TypeError("a value, limit or place is no number")
        if not all(isinstance(text, str) for text in (one.check, one.what, one.unit, one.hint, one.source)):
            raise TypeError("a text is none")
        if one.verdict not in _WORST_FIRST:
            raise ValueError("no verdict")
    return found


def _recorded_place(tree: Any) -> Vector | None:
    if tree is None:
        return None
    x, y, z = tree["$tuple"]
    return (x, y, z)
