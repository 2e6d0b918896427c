"""The record of a site: whatever is changed, cut, swapped or taken away is found, and signatures are shown with their meaning."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from batchone.pipeline import codec
from batchone.pipeline.audit import audit_case, audit_site
from batchone.pipeline.case_approval import MEANING, approve, sign_case
from batchone.pipeline.cli import app
from batchone.pipeline.errors import CheckFailed, InputError, MachineError, OrderError
from batchone.pipeline.events import EVENTS, append_event, chain_head, head_of, read_chain
from batchone.pipeline.findings import LEVEL_CONFIRMED, judge
from batchone.pipeline.job.signature import DEMONSTRATOR, approval_key, release_key
from batchone.pipeline.store import CaseFolder, begin_anew
from batchone.pipeline.values import Approval, CheckedDevice, Device

WHEN = "2026-11-24T08:00:00+00:00"
CASES = ("a-1", "b-2")
PASSPHRASE = "eight is enough"


def stage(value: Any, name: str) -> Callable[[Path], dict[str, Any]]:
    """What a stage writes: a real value, by the codec."""
    return lambda folder: {"stage": name, "taken": {}, "value_digest": codec.save(value, folder)}


def checked(*, passes: bool = True) -> CheckedDevice:
    return CheckedDevice(Device("anatomical-model", ()), (judge("walls", "thinnest", 1.0, "mm", low=0.5 if passes else 2.0),))


def live(site: Path, case_id: str, *, passes: bool = True) -> CaseFolder:
    """A case that was ordered and checked, in two sittings as two commands make them."""
    case = CaseFolder(site / "cases" / case_id)
    with case.locked():
        append_event(case.path / EVENTS, who="batchone", what="order received", when=WHEN)
    with case.locked():
        record = case.publish("check", stage(checked(passes=passes), "check"))
        append_event(case.path / EVENTS, who="batchone", what="check done", when=WHEN, digest=record["value_digest"])
    return case


def signed(site: Path, case_id: str, who: str) -> Approval:
    """What a person signs who has seen the device that the case holds now."""
    device = (CaseFolder(site / "cases" / case_id).record("check") or {}).get("value_digest", "none")
    return sign_case(site, case_id, who=who, device=device, passphrase=PASSPHRASE, ticked=None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with its key and two cases, one of them approved."""
    folder = tmp_path_factory.mktemp("site")
    release_key(folder / "keys")
    for case_id in CASES:
        live(folder, case_id)
    signed(folder, CASES[0], "Test Reviewer")
    return folder


def faults(site: Path) -> list[str]:
    return [f"{fault.file} {fault.line} {fault.text}" for trail in audit_site(site) for fault in trail.faults]


def test_the_record_of_a_site_is_whole_and_the_site_knows_the_head_of_every_case(site: Path) -> None:
    assert faults(site) == []
    said = [(event.what, event.digest) for event in read_chain(site / EVENTS).events]
    assert [what for what, _ in said][:3] == ["key made: release", "case a-1: order received", "case a-1: check done"]
    for case_id in CASES:
        last = [digest for what, digest in said if what.startswith(f"case {case_id}:")][-1]
        assert last == head_of(site / "cases" / case_id / EVENTS) == chain_head(site / "cases" / case_id / EVENTS)


def test_what_changed_nothing_tells_the_site_nothing(site: Path) -> None:
    before = (site / EVENTS).read_bytes()
    with CaseFolder(site / "cases" / CASES[0]).locked():
        pass
    assert (site / EVENTS).read_bytes() == before


LOGS = [EVENTS, *(f"cases/{case_id}/{EVENTS}" for case_id in CASES)]


def _changed(data: bytes, draw: st.DataObject) -> bytes:
    at = draw.draw(st.integers(0, len(data) - 1))
    return data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]


def _removed(data: bytes, draw: st.DataObject) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[draw.draw(st.integers(0, len(lines) - 1))]
    return b"".join(lines)


def _cut(data: bytes, draw: st.DataObject) -> bytes:
    return data[: draw.draw(st.integers(0, len(data) - 1))]


def _swapped(data: bytes, draw: st.DataObject) -> bytes:
    lines = data.splitlines(keepends=True)
    one, other = draw.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


@given(name=st.sampled_from(LOGS), how=st.sampled_from([_changed, _removed, _cut, _swapped]), draw=st.data())
@settings(max_examples=50, deadline=None)
def test_whatever_is_done_to_a_file_of_events_is_found(
    site: Path, name: str, how: Callable[[bytes, st.DataObject], bytes], draw: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(site, Path(folder) / "site"))
        (copy / name).write_bytes(how((site / name).read_bytes(), draw))
        assert faults(copy)


@pytest.mark.parametrize("case_id", CASES)
def test_a_case_that_is_gone_is_found(site: Path, tmp_path: Path, case_id: str) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    shutil.rmtree(copy / "cases" / case_id)
    assert any(f"case {case_id} is gone" in fault for fault in faults(copy))


def test_a_tail_that_the_site_was_not_told_of_is_found_by_a_stage_that_was_made_after_it(tmp_path: Path) -> None:
    case = CaseFolder(tmp_path / "a-1")  # in no site
    append_event(case.path / EVENTS, who="batchone", what="order received", when=WHEN)
    head = append_event(case.path / EVENTS, who="x", what="labels edited", when=WHEN)
    assert case.publish("segment", stage(checked(), "segment"))["events_head"] == head
    site = tmp_path / "site"
    shutil.copytree(case.path, site / "cases" / "a-1")
    assert faults(site) == []
    log = site / "cases" / "a-1" / EVENTS
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    assert any(head[:12] in fault for fault in faults(site))


def test_the_head_of_the_events_is_in_no_digest_of_what_a_stage_gave(tmp_path: Path) -> None:
    case, made = CaseFolder(tmp_path / "a-1"), []
    for what in ("one", "two"):
        append_event(case.path / EVENTS, who="x", what=what, when=WHEN)
        made.append(case.publish("check", stage(checked(), "check")))
    assert made[0].pop("events_head") != made[1].pop("events_head")
    assert made[0] == made[1]  # the digest of the value, and those of all files


def test_a_line_torn_by_a_crash_is_told_and_is_no_fault(site: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    with (copy / "cases" / CASES[0] / EVENTS).open("ab") as stream:
        stream.write(b'{"who": "ba')
    assert audit_case(copy, CASES[0]).chain.torn_bytes == 11
    assert faults(copy) == []


def test_an_event_is_appended_to_a_long_file_without_reading_it(tmp_path: Path) -> None:
    log = tmp_path / EVENTS
    append_event(log, who="a", what="x" * 300_000, when=WHEN)
    log.write_bytes(log.read_bytes() * 20)  # 6 MB; only the end must be a chain
    append_event(log, who="a", what="one", when=WHEN)
    counted = Path("/proc/self/io")
    before = int(counted.read_text().split()[1])
    head = append_event(log, who="a", what="two", when=WHEN)
    assert int(counted.read_text().split()[1]) - before < 400_000  # the last line and a block or two
    assert head_of(log) == head


def test_a_disk_that_takes_half_a_line_leaves_the_events_as_they_were(tmp_path: Path) -> None:
    """A file system of 64 kB that is full but for some bytes, by the limit on the size of a file."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from batchone.pipeline.errors import MachineError\n"
        "from batchone.pipeline.events import append_event\n"
        "log = Path(sys.argv[1])\n"
        "append_event(log, who='a', what='one', when='t')\n"
        "size = log.stat().st_size\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, resource.RLIM_INFINITY))\n"
        "try:\n    append_event(log, who='a', what='two', when='t')\n"
        "except MachineError as error:\n    print(error.exit_code, log.stat().st_size - size)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / EVENTS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "0"]


def test_a_signature_is_shown_with_name_time_and_meaning_and_a_forged_one_does_not_hold(site: Path, tmp_path: Path) -> None:
    (signature,) = audit_case(site, CASES[0]).signatures
    assert (signature.kind, signature.name, signature.meaning) == ("approval", "Test Reviewer", MEANING)
    assert signature.holds
    assert not signature.demonstration
    assert dt.datetime.fromisoformat(signature.time).tzinfo is not None
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    case = CaseFolder(copy / "cases" / CASES[0])
    approval: Approval = case.load("review")
    case.publish("review", stage(replace(approval, meaning="seen"), "review"))
    trail = audit_case(copy, CASES[0])
    assert not trail.signatures[0].holds
    assert "signature of Test Reviewer" in trail.faults[0].text


def test_an_approval_that_no_event_tells_of_is_found(site: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    case, other = (CaseFolder(copy / "cases" / case_id) for case_id in CASES)
    other.publish("review", stage(case.load("review"), "review"))  # the same device, so its digest fits
    assert any("no event of the case tells of it" in fault for fault in faults(copy))


def test_a_device_that_failed_or_is_not_there_is_not_signed_for(tmp_path: Path) -> None:
    live(tmp_path, "c-3", passes=False)
    with pytest.raises(CheckFailed, match="1 checks failed"):
        signed(tmp_path, "c-3", "x")
    with pytest.raises(OrderError, match=r"that was seen is abab.*, that of the case is none"):
        sign_case(tmp_path, "d-4", who="x", device="ab" * 32, passphrase=PASSPHRASE, ticked=None)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(("value", "waits"), [(0.0, True), (1.0, False)])
def test_a_device_whose_level_is_open_is_not_signed_for(value: float, waits: bool, tmp_path: Path) -> None:
    case = live(tmp_path, "f-6")
    level = judge(LEVEL_CONFIRMED, "levels that a person named", value, "", low=1.0)
    findings = codec.flatten((level,))[0]
    case.publish("segment", lambda folder: {**stage(checked(), "segment")(folder), "findings": findings})
    if waits:
        with pytest.raises(OrderError, match="which level is meant"):
            signed(tmp_path, "f-6", "x")
    else:
        assert signed(tmp_path, "f-6", "x").name == "x"


def test_of_two_approvals_of_one_device_the_first_counts_but_never_a_demonstration(tmp_path: Path) -> None:
    case = live(tmp_path, "g-7")
    with case.locked():
        record = case.record("check")
        assert record is not None
        approve(case, record["value_digest"], family="anatomical-model", who=DEMONSTRATOR, keys=tmp_path / "keys")
    with ThreadPoolExecutor(2) as pool:
        names = {approval.name for approval in pool.map(lambda who: signed(tmp_path, "g-7", who), ("one", "other"))}
    assert len(names) == 1
    assert names <= {"one", "other"}
    assert [event.what for event in read_chain(case.path / EVENTS).events].count("approved") == 2  # the demonstration's, and one
    assert faults(tmp_path) == []


def test_a_site_of_the_version_before_is_whole_and_is_told_of_its_cases_from_now_on(site: Path, tmp_path: Path) -> None:
    """It had no events of its own, empty lock files, and no heads in its stages."""
    old = Path(shutil.copytree(site, tmp_path / "site"))
    (old / EVENTS).unlink()
    for path in (old / "cases").glob("*/.lock"):
        path.write_bytes(b"")
    for path in (old / "cases").glob("*/*/stage.json"):
        record = json.loads(path.read_text())
        del record["events_head"]
        path.write_text(json.dumps(record))
    assert faults(old) == []
    with CaseFolder(old / "cases" / CASES[0]).locked():
        pass
    assert [event.what for event in read_chain(old / EVENTS).events] == [f"case {CASES[0]}: approved"]
    assert faults(old) == []


def test_many_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    log = tmp_path / EVENTS
    with ThreadPoolExecutor(8) as pool:
        heads = set(pool.map(lambda number: append_event(log, who="x", what=str(number), when=WHEN), range(100)))
    chain = read_chain(log)
    assert chain.broken_line is None
    assert {event.head for event in chain.events} == heads
    assert sorted(int(event.what) for event in chain.events) == list(range(100))


def test_the_demonstrator_marks_everything_as_a_demonstration(tmp_path: Path) -> None:
    case = live(tmp_path, "e-5")
    with case.locked():
        approval = approve(case, "ab" * 32, family="anatomical-model", who=DEMONSTRATOR, keys=tmp_path / "keys")
    assert approval.demonstration
    assert audit_case(tmp_path, "e-5").signatures[0].demonstration


def test_a_case_begun_anew_is_no_fault_and_its_end_is_in_the_events(site: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    begin_anew(copy / "cases" / CASES[0])
    assert faults(copy) == []
    live(copy, CASES[0])
    assert faults(copy) == []
    assert [e.what for e in read_chain(copy / EVENTS).events].count(f"case {CASES[0]}: begun anew") == 1


def test_the_command_prints_the_record_and_ends_with_5_at_the_first_broken_line(site: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["audit", CASES[0], "--site", str(site)])
    assert shown.exit_code == 0
    assert "Test Reviewer: approved" in shown.stdout
    assert "the signature holds" in shown.stdout
    schema = json.loads(resources.files("batchone.pipeline").joinpath("schemas/audit.schema.json").read_text())
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    log = copy / "cases" / CASES[1] / EVENTS
    log.write_bytes(log.read_bytes().replace(b"order received", b"order Received"))
    for folder, whole in ((site, True), (copy, False)):
        done = CliRunner().invoke(app, ["audit", "--site", str(folder), "--json"])
        tree = json.loads(done.stdout)
        jsonschema.validate(tree, schema)
        assert tree["ok"] is whole
        assert [trail["case"] for trail in tree["trails"]] == [None, *CASES]
    assert isinstance(done.exception, MachineError)
    assert f"cases/{CASES[1]}/{EVENTS}, line 2" in str(done.exception)
    unknown = CliRunner().invoke(app, ["audit", "nobody", "--site", str(site)])
    assert isinstance(unknown.exception, InputError)
    with pytest.raises(MachineError, match="does not open"):
        approval_key(site / "keys", "Test Reviewer", passphrase="another one")
