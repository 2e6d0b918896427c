"""Which table of the page a finding stands in, how much of its limit it uses, and which of a check bears the picture."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from batchone.pipeline.findings import Finding, judge, worst_first
from batchone.pipeline.serve.pages.finding_table import finding_tables, share_of_limit

WALL = judge("walls", "guide: thinnest", 0.8, "mm", low=1.0, where_mm=(1.0, 2.0, 3.0))
FOUND = (
    judge("mesh", "guide: open edges", 0.0, "", high=0.0),
    replace(WALL, what="guide: anywhere", where_mm=None),
    WALL,
    replace(WALL, what="guide: elsewhere"),
    judge("seating-slip", "guide: slide", 3.0, "mm/mm", high=8.0),
    judge("seating-unique", "plate: wrong starts", 2.0, "%", high=1.0),
    judge("budget", "right: off", 1.5, "mm", high=2.0),
    judge("budget-breach", "left: breach", 0.0, "%", high=1.0),
    judge("budget", "left: off", 0.5, "mm", high=2.0),
)


def test_every_finding_stands_in_its_table() -> None:
    tables = finding_tables(worst_first(FOUND), seats=("guide", "other"))
    assert [row.finding.what for row in tables.open] == [
        "guide: anywhere",
        "guide: thinnest",
        "guide: elsewhere",
        "plate: wrong starts",
    ]
    assert {row.finding.what for row in tables.seating} == {"guide: slide", "plate: wrong starts"}
    assert tables.seats == {"guide": "seat-guide"}
    assert {way: [row.finding.value for row in rows] for way, rows in tables.ways.items()} == {"left": [0.0, 0.5], "right": [1.5]}
    assert [row.finding.check for row in tables.passed] == ["mesh"]
    shown = {*tables.open, *tables.seating, *tables.passed, *(row for rows in tables.ways.values() for row in rows)}
    assert len(shown) == len(FOUND)  # none is lost


def test_the_worst_of_a_check_that_has_a_place_bears_its_picture() -> None:
    pictured = {row.finding.what: row.picture for row in finding_tables(worst_first(FOUND)).open if row.picture}
    assert pictured == {"guide: thinnest": "finding-walls"}
    assert not [row for row in finding_tables((replace(WALL, verdict="pass"),)).passed if row.picture]
    assert [row.picture for row in finding_tables((replace(WALL, verdict="waived"),)).open] == ["finding-walls"]


@pytest.mark.parametrize(
    ("finding", "used"),
    [
        (judge("a", "", 1.5, "mm", high=2.0), 0.75),
        (judge("a", "", 2.0, "mm", high=2.0), 1.0),
        (judge("a", "", 2.0, "mm", low=1.0), 0.5),
        (judge("a", "", 0.8, "mm", low=1.0), 1.25),
        (judge("a", "", 0.0, "mm", low=1.0), None),
        (judge("a", "", -0.03, "mm", low=-0.05), None),
        (judge("a", "", 0.0, "", low=0.0, high=0.0), None),
        (judge("a", "", math.nan, "mm", high=2.0), None),
        (judge("a", "", 3.0, "mm"), None),
    ],
)
def test_how_much_of_a_limit_is_used(finding: Finding, used: float | None) -> None:
    assert share_of_limit(finding) == used
