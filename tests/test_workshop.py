"""The workshop's word on a released job: who, when, machine and lot; in an order that can be, once each, for the released job."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from batchone.pipeline.case_workshop import STEPS, record_step, remake
from batchone.pipeline.cli import app
from batchone.pipeline.clock.folder import CaseFiles, read_case
from batchone.pipeline.clock.history import ATTEMPTS, FAILURES
from batchone.pipeline.clock.legs import PRINT, QUEUE, WORKSHOP
from batchone.pipeline.clock.state import standing
from batchone.pipeline.errors import InputError, OrderError
from batchone.pipeline.events import EVENTS, append_event, read_chain
from batchone.pipeline.store import CaseFolder

JOB, SUMS = "0123456789abcdef", "5" * 64
ORDER = 'case = "c-1"\ndevice = "pedicle-guide"\nprocess = "guide-resin"\nmachine = "sim-01"\ndue = 2026-12-01T08:00:00Z\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with a case that was released."""
    case = CaseFolder(tmp_path / "cases" / "c-1")
    (case.path / "order.toml").write_text(ORDER)
    for stage in ("intake", "segment", "plan", "design", "check", "review", "slice", "job"):
        (case.path / stage).mkdir()
        record = {"seconds": 1.0, "value_digest": "d", "taken": {"CheckedDevice": "d", "Approval": "d"}}
        record["findings"] = {"$tuple": []}
        (case.path / stage / "stage.json").write_text(json.dumps(record))
    value = {"folder": f"job/{JOB}", "sums_digest": SUMS}
    (case.path / "job" / "value.json").write_text(json.dumps(value))
    with case.locked():
        now = dt.datetime.now(dt.UTC).isoformat()
        append_event(case.path / EVENTS, who="batchone", what="package done", when=now, digest="d")
    return tmp_path


def read(site: Path) -> CaseFiles:
    return read_case(site / "cases" / "c-1")


def leg(site: Path) -> str | None:
    return standing(read(site), dt.datetime.now(dt.UTC)).leg


def said(site: Path) -> list[str]:
    return [event.what for event in read_chain(site / "cases" / "c-1" / EVENTS).events]


def test_each_step_ends_its_leg_and_says_who_with_which_machine_and_lot(site: Path) -> None:
    assert leg(site) == QUEUE
    legs = iter((*WORKSHOP[1:], None))
    for step in STEPS:
        if step != "print-failed":
            assert record_step(site, "c-1", step, who="cell-2", job=JOB, machine="sim-01", lot="A 12")
            assert leg(site) == next(legs)
            assert not record_step(site, "c-1", step, who="cell-2", job=JOB)  # said twice, it stands once
    events = read_chain(site / "cases" / "c-1" / EVENTS).events
    assert [event.what for event in events[1:]] == [what for step, what in STEPS.items() if step != "print-failed"]
    assert {(event.who, event.meaning, event.digest) for event in events[1:]} == {("cell-2", "machine: sim-01; lot: A 12", SUMS)}


def test_a_failed_print_queues_again_and_is_counted_once(site: Path) -> None:
    with pytest.raises(OrderError, match="no print is under way"):
        record_step(site, "c-1", "print-failed", who="cell-2", reason="warped")
    record_step(site, "c-1", "print-started", who="cell-2")
    with pytest.raises(OrderError, match="needs a reason"):
        record_step(site, "c-1", "print-failed", who="cell-2")
    assert record_step(site, "c-1", "print-failed", who="cell-2", reason="warped")
    assert not record_step(site, "c-1", "print-failed", who="cell-2", reason="warped")
    assert leg(site) == QUEUE
    with pytest.raises(OrderError, match="waits for its print already"):
        remake(site, "c-1", who="code-9", reason="warped")
    assert record_step(site, "c-1", "print-started", who="cell-2")
    assert record_step(site, "c-1", "print-failed", who="cell-2", reason="again")
    took = [one.what for one in standing(read(site), dt.datetime.now(dt.UTC)).walked.took if one.leg == PRINT]
    assert (took.count(ATTEMPTS), took.count(FAILURES)) == (2, 2)


def test_a_remake_queues_again_also_after_delivery_and_is_no_failed_print(site: Path) -> None:
    with pytest.raises(OrderError, match="waits for its print already"):
        remake(site, "c-1", who="code-9", reason="lost")
    record_step(site, "c-1", "delivered", who="cell-2")
    with pytest.raises(OrderError, match="was delivered"):
        record_step(site, "c-1", "print-started", who="cell-2")
    remake(site, "c-1", who="code-9", reason="dropped in the theatre")
    assert leg(site) == QUEUE
    assert said(site)[-1] == "remake: dropped in the theatre"
    assert not [one for one in standing(read(site), dt.datetime.now(dt.UTC)).walked.took if one.what == FAILURES]
    assert record_step(site, "c-1", "print-started", who="cell-2")
    assert leg(site) == PRINT


def test_what_cannot_be_is_refused_and_leaves_no_event(site: Path) -> None:
    record_step(site, "c-1", "print-done", who="cell-2")
    before = said(site)
    for step, given, told in (
        ("print-started", {}, "cannot come after print done"),
        ("print-done", {"job": "f" * 16}, "the released job is 0123456789abcdef"),
        ("painted", {}, "steps are print-started"),
        ("inspection-done", {"who": " "}, "must be a person or a cell"),
        ("inspection-done", {"who": "demo"}, "must be a person or a cell"),
        ("inspection-done", {"lot": "a\nb"}, "all printable"),
        ("inspection-done", {"machine": "m" * 401}, "has 401 characters, at most 400"),
    ):
        with pytest.raises(OrderError, match=told):
            record_step(site, "c-1", step, **({"who": "cell-2"} | given))
    for case in ("../c-1", "c-2", ""):
        with pytest.raises(InputError, match="not known"):
            record_step(site, case, "print-done", who="cell-2")
    review = site / "cases" / "c-1" / "review" / "stage.json"
    review.write_text(json.dumps({"taken": {"CheckedDevice": "another"}}))
    with pytest.raises(OrderError, match="it has no released job"):
        record_step(site, "c-1", "inspection-done", who="cell-2")
    assert said(site) == before


def test_the_commands_say_the_same(site: Path) -> None:
    for words, code in (
        (["workshop", "c-1", "print-started", "--as", "cell-2", "--machine", "sim-01", "--lot", "A12", "--job", JOB], None),
        (["workshop", "c-1", "print-failed", "--as", "cell-2", "--reason", "warped"], None),
        (["remake", "c-1", "--as", "code-9", "--reason", "warped"], 2),
    ):
        done = CliRunner().invoke(app, [*words, "--site", str(site)])
        assert getattr(done.exception, "exit_code", None) == code, done.output
    assert said(site)[1:] == ["print started", "print failed"]
