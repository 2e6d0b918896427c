"""The interactive checks of a changed device: there before the release checks, shown until those are, and never signed for."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest
import site_server
from typer.testing import CliRunner

from batchone.pipeline.case import run_case
from batchone.pipeline.case_approval import sign_case
from batchone.pipeline.case_order import ORDER, order_digest, read_case_order, replace_order
from batchone.pipeline.cli import app
from batchone.pipeline.errors import CheckFailed, OrderError, ProcessingError
from batchone.pipeline.events import EVENTS, read_chain
from batchone.pipeline.findings import recorded_findings
from batchone.pipeline.order import Order, changed_order
from batchone.pipeline.preview import FOLLOW, PREVIEW, preview_of, refuse_preview, release_checks
from batchone.pipeline.serve.cases import Cases
from batchone.pipeline.serve.scene.content import Content
from batchone.pipeline.stages import STAGES
from batchone.pipeline.store import CaseFolder
from batchone.samples.small_case import write_small_case

CASE, WHO, WORDS = "small-0001", "reviewer", "a passphrase of tests"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site whose one case waits for its review."""
    folder = tmp_path_factory.mktemp("preview")
    order, study = write_small_case(folder, case=CASE)
    steps: list[str] = []
    run_case(read_case_order(order), study, site=folder / "site", progress=lambda stage, outcome: steps.append(stage))
    assert PREVIEW.name not in steps  # nobody waits for a case's first device
    return folder / "site"


def _case(site: Path) -> CaseFolder:
    return CaseFolder(site / "cases" / CASE)


def _change(site: Path, setting: str) -> Order:
    case = _case(site)
    with case.locked():
        replace_order(case, changed_order(read_case_order(case.path / ORDER), [setting]), "tester")
    return read_case_order(case.path / ORDER)


def _sign(site: Path, device: str) -> None:
    sign_case(site, CASE, who=WHO, device=device, passphrase=WORDS, ticked=None)


def test_no_stage_takes_it_and_its_version_is_that_of_the_check() -> None:
    check = next(stage for stage in STAGES if stage.gives == "CheckedDevice")
    assert PREVIEW not in STAGES
    assert (PREVIEW.version, PREVIEW.takes) == (check.version, check.takes)
    assert not [stage.name for stage in STAGES if PREVIEW.gives in stage.takes]


def test_a_quick_look_makes_the_device_with_its_interactive_checks_and_stops_there(site: Path) -> None:
    case = _case(site)
    old = case.record("check")
    assert old is not None
    assert preview_of(case) is None
    order = _change(site, "cut_top_mm=20")
    seen = run_case(order, None, site=site, checks="interactive", approve_as=WHO, passphrase=WORDS)
    assert (seen.status, seen.job) == ("awaiting-checks", None)
    assert list(seen.stages)[-2:] == ["design", PREVIEW.name]
    assert seen.stages[PREVIEW.name] > 0.0
    assert not [name for name in ("review", "slice", "job") if (case.path / name).exists()]
    record = preview_of(case)
    assert record is not None
    assert recorded_findings(record)
    assert case.record("check") == old
    view = Cases(site).view(CASE)
    assert (view.preview, view.device) == (record["taken"]["Device"], old["value_digest"])
    content = Content(case)
    assert content.of_check == recorded_findings(record)
    design = case.load("design")
    assert content.parts[0].mesh.vertices_mm.tolist() == design.parts[0].mesh.vertices_mm.tolist()
    assert content.previous is not None
    assert content.previous.device == old["value_digest"]


def test_nobody_signs_for_a_device_of_which_the_release_checks_are_still_to_come(site: Path) -> None:
    """The test before left its preview. The last guard stands alone: the order is told to be that of the checked device."""
    case = _case(site)
    record, checked = preview_of(case), case.record("check")
    assert record is not None
    assert checked is not None
    standing = case.path / "revisions" / "standing.json"
    told = standing.read_text()
    for device in (record["value_digest"], record["taken"]["Device"]):
        with pytest.raises(OrderError, match="the device that was seen is"):
            _sign(site, device)
    with pytest.raises(OrderError, match="the order was changed"):
        _sign(site, checked["value_digest"])
    standing.write_text(json.dumps({"order": order_digest(read_case_order(case.path / ORDER)), "revision": 1}))
    with pytest.raises(OrderError, match="its release checks follow"):
        _sign(site, checked["value_digest"])
    with site_server.serving(site) as server:
        seen = server.ask("GET", f"/review/{CASE}", "approver").text
        assert "release checks follow" in server.ask("GET", f"/review/{CASE}/state", "approver").text
        assert "Interactive checks of the new device" in seen
        assert not re.search(rf'hx-post="/review/{CASE}/(comment|answer|waive)"', seen)
        device = checked["value_digest"]
        signed = {"seen": "yes", "device": device, "password": site_server.PASSWORD, "reason": "not so"}
        refused = [("answer", {"answer": one, **signed}) for one in ("approve", "return", "reject")]
        refused += [("comment", {"device": device, "text": "too thick"}), ("waive", {"check": "walls", **signed})]
        for form, given in refused:
            answer = server.ask("POST", f"/review/{CASE}/{form}", "approver", data=given)
            assert (answer.status_code, "its release checks follow" in answer.text) == (409, True), answer.text
        assert server.ask("GET", f"/api/v1/cases/{CASE}", "approver").json()["device"] == checked["value_digest"]
    assert not (case.path / "review").exists()
    standing.write_text(told)


def _happened(case: CaseFolder) -> list[str]:
    return [one.what for one in read_chain(case.path / EVENTS).events]


def test_the_command_line_signs_for_no_device_that_nobody_has_seen(site: Path) -> None:
    case = _case(site)
    told, before = (case.path / "events.jsonl").read_bytes(), case.record("check")
    how = ["--as", WHO, "--site", str(site)]
    for answer in (["--approve"], ["--return", "not so"], ["--reject", "not so"], ["--waive", "walls", "--reason", "so"]):
        done = CliRunner().invoke(app, ["review", CASE, *answer, *how])
        assert isinstance(done.exception, OrderError), done.output
        assert done.exception.exit_code == 2
    assert (case.path / "events.jsonl").read_bytes() == told
    assert case.record("check") == before
    assert not [name for name in ("review", "slice", "job") if (case.path / name).exists()]


def test_release_checks_follow_until_they_could_not_be_made(site: Path, monkeypatch: Any) -> None:
    from batchone.design import make

    case = _case(site)
    record = preview_of(case)
    assert record is not None
    begun = dt.datetime.fromisoformat(record["started"])
    assert release_checks(case, _happened(case), begun + dt.timedelta(minutes=9, seconds=59)) == FOLLOW
    assert release_checks(case, _happened(case), begun + dt.timedelta(minutes=10, seconds=1)) == "were not made within 10 min"

    def broken(*given: Any, **how: Any) -> Any:
        raise ProcessingError("a fault of this test")

    with monkeypatch.context() as patched:
        patched.setattr(make, "check", broken)
        with pytest.raises(ProcessingError):
            run_case(read_case_order(case.path / ORDER), None, site=site, until="check")
    assert preview_of(case) == record
    assert release_checks(case, _happened(case), begun) == "could not be made: a fault of this test"
    with pytest.raises(OrderError, match="could not be made: a fault of this test"):
        refuse_preview(case)
    with site_server.serving(site) as server:
        state = server.ask("GET", f"/review/{CASE}/state", "approver").text
        assert "release checks could not be made" in state
        assert 'data-follow="no"' in state
        assert "follow" not in re.sub(r"data-follow", "", state)
    order = (case.path / ORDER).read_bytes()
    _change(site, "cut_top_mm=19")
    assert release_checks(case, _happened(case), begun) == ""
    assert preview_of(case) is None  # it is of another order
    assert Cases(site).view(CASE).preview is None
    (case.path / ORDER).write_bytes(order)
    assert preview_of(case) == record


def test_the_release_checks_take_its_place_and_all_is_as_without_it(site: Path) -> None:
    case = _case(site)
    before, steps = preview_of(case), []
    assert before is not None
    order = read_case_order(case.path / ORDER)
    done = run_case(order, None, site=site, until="check", progress=lambda stage, outcome: steps.append((stage, outcome)))
    kept = [(stage, outcome.kept) for stage, outcome in steps if outcome is not None]
    assert kept[-3:] == [("design", True), (PREVIEW.name, True), ("check", False)]  # as after a crash between the two
    assert PREVIEW.name not in done.stages
    assert preview_of(case) is None
    assert (case.path / PREVIEW.name).is_dir()
    checked = case.record("check")
    assert checked is not None
    found = recorded_findings(checked)
    assert len(found) > len(recorded_findings(before))
    assert {(one.check, one.what) for one in recorded_findings(before)} <= {(one.check, one.what) for one in found}
    assert Content(case).of_check == found
    assert Cases(site).view(CASE).preview is None
    _sign(site, checked["value_digest"])
    assert (case.path / "review" / "stage.json").is_file()


def test_an_interactive_check_that_fails_says_so_and_keeps_the_device_for_a_look(site: Path, monkeypatch: Any) -> None:
    from dataclasses import replace

    from batchone.design import make
    from batchone.pipeline.values import judge

    case = _case(site)
    for name in ("review", PREVIEW.name):
        (case.path / name).rename(case.path / f"old-{name}")
    order = _change(site, "cut_top_mm=15")
    wrong = judge("mesh.closed", "a fault of this test", 2.0, "", high=1.0)
    true = make.check
    monkeypatch.setattr(make, "check", lambda *given, **how: replace(true(*given, **how), findings=(wrong,)))
    with pytest.raises(CheckFailed, match="1 of 1 checks failed; first: a fault of this test is 2") as told:
        run_case(order, None, site=site, checks="interactive")
    assert (told.value.stage, told.value.exit_code) == (PREVIEW.name, 4)
    record = preview_of(case)
    assert record is not None
    assert recorded_findings(record) == (wrong,)
