"""Devices with one seeded fault each: found by the right check, at the right place; good ones give no failing finding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from batchone.design.family import Checked
from batchone.pipeline.values import Finding
from batchone.samples.faulty.case import Fault
from batchone.samples.faulty.corpus import faults
from batchone.samples.faulty.good import DEVICES, good
from batchone.samples.faulty.judging import all_findings, away_mm, findings_for, says
from batchone.samples.faulty.table import as_table

# these judge the plan, the order or the scan, not the part: what they refuse is tested with the families
OF_THE_PLAN = {
    "cut", "extension", "hinge", "medial-wall", "neighbours", "pedicle-wall", "perforations", "pin", "scan-end", "screw-tip",
    "size", "slot-pin", "label", "ways-apart", "distance to bone", "completeness", "escape", "flush", "scale",
}  # fmt: skip


def of_seating(check: str) -> bool:
    """Seating and error budget have their own tests; the seat on a round synthetic shaft is a poor one, and they say so."""
    return check.startswith(("seating", "budget"))


@dataclass(frozen=True)
class Judged:
    """A fault and what its check said, the worst verdict first."""

    fault: Fault
    said: tuple[Finding, ...]
    away_mm: float

    @property
    def found(self) -> bool:
        return bool(self.said) and self.said[0].verdict == "fail" and self.away_mm <= 1.0


@pytest.fixture(scope="module")
def devices() -> dict[str, Checked]:
    return {name: good(name) for name in DEVICES}


@pytest.fixture(scope="module")
def judged(devices: dict[str, Checked]) -> list[Judged]:
    found = []
    for fault in faults():
        seeded = fault.seed(devices[fault.device])
        said = says(fault, findings_for(fault, seeded.case))
        found.append(Judged(fault, said, away_mm(seeded, said[0])))
    return found


def test_each_seeded_fault_is_found_by_its_check_within_1_mm(judged: list[Judged]) -> None:
    missed = [
        f"{one.fault.kind}, {one.fault.device} {one.fault.place}: {one.said[0].value:g}, {one.away_mm:.2f} mm away"
        for one in judged
        if not one.fault.sound and not one.found
    ]
    assert not missed


def test_a_fault_just_inside_its_limit_gives_no_failing_finding(judged: list[Judged]) -> None:
    assert [one.fault.kind for one in judged if one.fault.sound and one.said[0].verdict == "fail"] == []


def test_the_corpus_holds_at_least_120_faults_of_20_kinds_and_8_kinds_inside_their_limits(judged: list[Judged]) -> None:
    faulty = [one.fault for one in judged if not one.fault.sound]
    assert len(faulty) >= 120
    assert len({fault.kind for fault in faulty}) >= 20
    assert len({one.fault.kind for one in judged if one.fault.sound}) >= 8


def test_without_any_one_check_some_fault_goes_unfound(judged: list[Judged], devices: dict[str, Checked]) -> None:
    """Every check that can refuse a part has a fault that it alone must find: dropped from the findings, that fault is missed."""
    gates = {finding.check for case in devices.values() for finding in all_findings(case) if finding.limit != "for information"}
    unneeded = set()
    for gate in {gate for gate in gates - OF_THE_PLAN if not of_seating(gate)}:
        kept = [(one, [finding for finding in one.said if finding.check != gate]) for one in judged if not one.fault.sound]
        if all(any(finding.verdict == "fail" for finding in said) for _, said in kept):
            unneeded.add(gate)
    assert unneeded == set()


@pytest.mark.parametrize("device", DEVICES)
def test_a_good_device_gives_no_failing_finding(devices: dict[str, Checked], device: str) -> None:
    found = [finding for finding in all_findings(devices[device]) if not of_seating(finding.check)]
    assert [finding.what for finding in found if finding.verdict == "fail"] == []


def test_the_table_in_the_docs_is_current(judged: list[Judged]) -> None:
    page = Path(__file__).parents[1] / "docs" / "faults.md"
    assert page.read_text(encoding="utf-8") == as_table([(one.fault, one.said[0]) for one in judged])
