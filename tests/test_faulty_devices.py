"""Devices with one seeded fault each: found by the right check, at the right place; without that check, missed.

Here each kind of fault is judged once; all of them, by all checks, in ``benchmarks.faults``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batchone.design.cranial import checks as cranial
from batchone.design.family import Checked
from batchone.pipeline.findings import judge
from batchone.pipeline.values import Finding
from batchone.samples.faulty import misbuilt
from batchone.samples.faulty.case import Fault, Seeded
from batchone.samples.faulty.corpus import faults
from batchone.samples.faulty.good import KINDS, TEMPLATE, good, there
from batchone.samples.faulty.judging import (
    all_findings,
    findings_for,
    good_as,
    is_right,
    measure_of,
    measures,
    new_findings,
    without,
)

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
# these give figures and are no gates: nothing can be wrong by them
OF_FIGURES = {"pedicle-guide: made_for", "osteotomy-guide: made_for", "cranial-implant: lies_flush"}


def chosen() -> tuple[Fault, ...]:
    """Each kind of fault once, and more where a check has none else; not the drill template's (drill_template_cases.py)."""
    first: dict[tuple[str, str, str], Fault] = {}
    for fault in faults():
        if fault.device != TEMPLATE:
            first.setdefault((fault.kind, fault.check, fault.by), fault)
    for fault in faults():  # and one for each check of each family
        if fault.device != TEMPLATE and fault.by and not fault.sound:
            family = KINDS[fault.device].family
            if not any(one.by == fault.by and KINDS[one.device].family == family and not one.sound for one in first.values()):
                first[(family, fault.check, fault.by)] = fault
    return tuple(first.values())


@pytest.fixture(scope="module")
def devices() -> dict[str, Checked]:
    return {name: good(name) for name in there()}


@pytest.fixture(scope="module")
def judged(devices: dict[str, Checked]) -> list[tuple[Fault, Seeded, tuple[Finding, ...]]]:
    found = []
    for fault in chosen():
        seeded = fault.seed(devices[fault.device])
        found.append((fault, seeded, findings_for(fault, seeded.case)))
    return found


def test_each_kind_of_fault_is_found_by_its_check_within_1_mm_and_none_just_inside_its_limit(
    devices: dict[str, Checked],
    judged: list[tuple[Fault, Seeded, tuple[Finding, ...]]],
) -> None:
    assert len(judged) >= 80
    wrong = []
    for fault, seeded, said in judged:
        of_good = findings_for(fault, good_as(devices[fault.device], seeded)) if fault.sound else ()
        if not is_right(fault, seeded, said, of_good):
            wrong.append(f"{fault.kind} in {fault.device}")
    assert wrong == []


# one of each sort of seeder, where all checks together are quick; `benchmarks.faults --sound` asks it of every one
SOUND_BY_ALL = (
    ("pin of 3.1 mm, by FFF", "cranial-implant"),
    ("fin of 1.05 mm", "cranial-implant"),
    ("hole of 1.55 mm", "cranial-implant"),
    ("edge of 20 deg, 0.4 mm long", "pedicle-guide"),
    ("nerve 2.1 mm from the part", "pedicle-guide"),
)


@pytest.mark.parametrize(("kind", "device"), SOUND_BY_ALL)
def test_what_is_just_inside_a_limit_makes_no_check_say_more_than_of_the_good_device(
    devices: dict[str, Checked], kind: str, device: str
) -> None:
    fault = next(one for one in faults() if (one.kind, one.device, one.sound) == (kind, device, True))
    seeded = fault.seed(devices[device])
    of_good = all_findings(good_as(devices[device], seeded))
    assert [f"{one.what}: {one.value:g}" for one in new_findings(of_good, all_findings(seeded.case))] == []


def test_a_finding_that_the_good_device_has_too_is_not_new_and_a_graver_one_is() -> None:
    warned = judge("walls", "guide: wall of 1.5 mm", 0.9, "mm", low=1.0, gate=False)
    failed = judge("walls", "guide: wall of 1.2 mm", 0.8, "mm", low=1.0)
    assert new_findings((warned,), (replace(warned, what="guide: wall of 1.4 mm"),)) == ()
    assert new_findings((warned,), (failed,)) == (failed,)
    assert new_findings((), (warned, replace(failed, verdict="pass"))) == (warned,)


def test_the_corpus_holds_at_least_120_faults_of_40_kinds_and_8_kinds_inside_their_limits() -> None:
    assert sum(not fault.sound for fault in faults() if fault.device != TEMPLATE) >= 120
    assert len({fault.kind for fault in faults() if not fault.sound}) >= 40
    assert len({fault.kind for fault in faults() if fault.sound}) >= 8


def test_each_check_of_each_family_has_a_fault_of_its_own(devices: dict[str, Checked]) -> None:
    own = {measure_of(fault, devices[fault.device]) for fault in chosen() if not fault.sound}
    assert {name for case in devices.values() for name in measures(case)} - own - OF_FIGURES == set()


def test_without_any_one_check_its_fault_goes_unfound(
    devices: dict[str, Checked], judged: list[tuple[Fault, Seeded, tuple[Finding, ...]]]
) -> None:
    """With the check taken away, no other that gives findings of that name says it; ``benchmarks.faults --without`` asks all."""
    said_by = {
        device: {name: {one.check for one in measure(case)} for name, measure in measures(case).items()}
        for device, case in devices.items()
    }
    seen: set[str] = set()
    for fault, seeded, _ in judged:
        name = measure_of(fault, devices[fault.device])
        if fault.sound or name in seen:
            continue
        seen.add(name)
        with without(name, seeded.case.order.device):
            left = measures(seeded.case)
            assert name not in left
            asked = [measure for one, measure in left.items() if fault.check in said_by[fault.device][one]]
            found = tuple(finding for measure in asked for finding in measure(seeded.case))
        assert not is_right(fault, seeded, found), f"{fault.kind} is found without {name}"
    assert len(seen) >= 35


def test_an_implant_with_no_skull_near_has_a_border_gap_and_a_budget_that_fail(devices: dict[str, Checked]) -> None:
    away = misbuilt.scaled(10.0)(devices["cranial-implant"]).case
    assert [(finding.check, finding.verdict, finding.value) for finding in cranial.fits_at_the_rim(away)] == [
        ("budget", "fail", 0.0)
    ]
    assert "fail" in {finding.verdict for finding in cranial.border_gap_found(away)}


def test_the_table_in_the_docs_names_every_fault() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for fault in faults():
        assert f"| {fault.kind} | {fault.device} | {fault.check}: {fault.what.removeprefix(': ')} |" in page


def test_every_family_that_is_shipped_is_in_the_corpus() -> None:
    from batchone.design.families import ALL

    assert {family.name for family in ALL} <= {kind.family for kind in KINDS.values()}
