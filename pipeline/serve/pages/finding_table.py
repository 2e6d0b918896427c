"""The findings of a case as its page shows them: what needs a look, how a guide seats, the error budget of each way, the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from batchone.pipeline.findings import Finding
from batchone.pipeline.serve.scene.pictures import closeup_name, seat_name

_SEATING, _BUDGET = "seating", "budget"  # checks: the name itself, or it and a dash


@dataclass(frozen=True, slots=True)
class Row:
    """One finding: how much of its limit is used (1: just kept; None: no such share), and its picture's name, or ""."""

    finding: Finding
    used: float | None
    picture: str


@dataclass(frozen=True, slots=True)
class FindingTables:
    """``open`` has everything that did not pass; ``seats`` the names of the maps of wrong poses by their parts; ``ways`` the
    error budget by the name of each trajectory or plane.
    """

    open: tuple[Row, ...]
    seating: tuple[Row, ...]
    seats: dict[str, str]
    ways: dict[str, tuple[Row, ...]]
    passed: tuple[Row, ...]


def finding_tables(found: Sequence[Finding], *, seats: Collection[str] = ()) -> FindingTables:
    """Sort findings, the worst first, into the tables; each keeps their order.

    ``seats`` are parts that have a map of wrong poses. The picture of a check stands with its worst finding that has a place.
    """
    pictured: set[str] = set()
    rows = []
    for one in found:
        name = closeup_name(one)
        rows.append(Row(one, share_of_limit(one), "" if name in pictured else name))
        pictured.add(name)
    seating, budget, rest = (tuple(row for row in rows if _group(row.finding) == group) for group in (_SEATING, _BUDGET, ""))
    about = {row: row.finding.what.partition(":")[0] for row in (*seating, *budget)}
    return FindingTables(
        open=tuple(row for row in rows if row.finding.verdict != "pass"),
        seating=seating,
        seats={about[row]: seat_name(about[row]) for row in seating if about[row] in seats},
        ways={way: tuple(row for row in budget if about[row] == way) for way in sorted({about[row] for row in budget})},
        passed=tuple(row for row in rest if row.finding.verdict == "pass"),
    )


def share_of_limit(one: Finding) -> float | None:
    """Value over its upper limit, or its lower limit over the value; None where neither tells how near the limit is."""
    if one.high is not None and one.low is None and one.high > 0.0 and one.value >= 0.0:
        return one.value / one.high
    if one.low is not None and one.high is None and one.low > 0.0 and one.value > 0.0:
        return one.low / one.value
    return None


def _group(one: Finding) -> str:
    return next((group for group in (_SEATING, _BUDGET) if one.check.split("-")[0] == group), "")
