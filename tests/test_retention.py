"""What a site no longer keeps goes with an event and its digest; what was released stays verifiable."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from batchone.pipeline import codec, retention
from batchone.pipeline.audit import audit_case, audit_site
from batchone.pipeline.cli import app
from batchone.pipeline.config import Retention
from batchone.pipeline.errors import InputError
from batchone.pipeline.events import EVENTS, append_event, read_chain
from batchone.pipeline.findings import judge
from batchone.pipeline.job.signature import RELEASE, release_key, sign, write_allowed_signers
from batchone.pipeline.retention import Removal, apply_retention
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import CheckedDevice, Device

RELEASED = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
CASE = "c-1"
DAYS = Retention(identity_days=10, scan_days=20, case_days=30)


def stage(files: dict[str, str], **record: Any) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        device = CheckedDevice(Device("anatomical-model", ()), (judge("walls", "thinnest", 1.0, "mm", low=0.5),))
        digest = codec.save(device, folder)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return {"started": RELEASED.isoformat(), "value_digest": digest, "taken": {}, **record}

    return write


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with a case that came in by parcel and was released, its sums signed as those of a job are."""
    site = tmp_path / "site"
    key = release_key(site / "keys")
    write_allowed_signers(site / "keys")
    case = CaseFolder(site / "cases" / CASE)
    with case.locked():
        append_event(case.path / EVENTS, who="batchone", what="order received", when=RELEASED.isoformat())
        (case.path / "study").mkdir()
        (case.path / "study" / "1.dcm").write_bytes(b"image")
        case.publish("intake", stage({"identity.json": "Doe", "scan.json": "{}"}))
        check = case.publish("check", stage({}))
        sums = f"{hashlib.sha256(b'{}').hexdigest()}  job.json\n"
        job = {"j/job.json": "{}", "j/parts/a.stl": "solid", "j/SHA256SUMS": sums}
        job["j/SHA256SUMS.sig"] = sign(key, sums.encode(), namespace=RELEASE)
        case.publish("job", stage(job, taken={"CheckedDevice": check["value_digest"]}))
        append_event(case.path / EVENTS, who="batchone", what="package done", when=RELEASED.isoformat())
    return site


def after(site: Path, days: float, limits: Retention = DAYS) -> list[tuple[str, int]]:
    removed = apply_retention(site, limits, now=RELEASED + dt.timedelta(days=days))
    return [(one.what, one.files) for one in removed]


def whole(site: Path) -> bool:
    return not [fault for trail in audit_site(site) for fault in trail.faults]


@pytest.mark.parametrize(
    ("days", "gone"),
    [
        (9.99, []),
        (10.0, [("identity", 1)]),
        (19.99, [("identity", 1)]),
        (20.0, [("identity", 1), ("scan", 2)]),
        (30.0, [("case", 10)]),
    ],
)
def test_each_thing_goes_when_its_days_are_over_and_the_record_stays_whole(
    site: Path, days: float, gone: list[tuple[str, int]]
) -> None:
    assert after(site, days) == gone
    assert whole(site)
    assert after(site, days) == []


def test_a_site_that_sets_nothing_keeps_everything(site: Path) -> None:
    before = sorted(site.rglob("*"))
    assert after(site, 36_000, Retention()) == []
    assert [path for path in sorted(site.rglob("*")) if path.name != ".lock"] == [p for p in before if p.name != ".lock"]


def test_without_identity_the_intake_stays_a_whole_result_and_without_the_scan_it_does_not(site: Path) -> None:
    case = CaseFolder(site / "cases" / CASE)
    after(site, 10)
    assert not (case.path / "intake" / "identity.json").exists()
    record = case.record("intake")
    assert record is not None
    assert case.intact("intake", record)
    after(site, 20)
    assert not case.intact("intake", record)  # so it is read again before anything is made of it
    assert (case.path / "intake" / "scan.json").is_file()
    assert list((case.path / "study").iterdir()) == []


def test_an_event_says_what_went_with_the_digest_of_it(site: Path) -> None:
    (removal,) = apply_retention(site, Retention(identity_days=10), now=RELEASED + dt.timedelta(days=10))
    line = f"{hashlib.sha256(b'Doe').hexdigest()}  intake/identity.json\n"
    assert removal == Removal(CASE, "identity", 1, 3, hashlib.sha256(line.encode()).hexdigest())
    event = read_chain(site / "cases" / CASE / EVENTS).events[-1]
    assert event.what == "identity removed by retention: 1 files, 3 bytes, 10 days after the release"
    assert event.digest == removal.digest


def test_a_released_job_is_proved_after_its_case_is_gone(site: Path, tmp_path: Path) -> None:
    at_the_cell = Path(shutil.copytree(site / "cases" / CASE / "job" / "j", tmp_path / "cell"))
    after(site, 30)
    assert not (site / "cases" / CASE).exists()
    (kept,) = (site / "removed").iterdir()
    assert sorted(str(p.relative_to(kept)) for p in kept.rglob("*") if p.is_file()) == [
        EVENTS,
        "job/j/SHA256SUMS",
        "job/j/SHA256SUMS.sig",
        "job/j/job.json",
    ]
    assert (kept / "job" / "j" / "SHA256SUMS").read_bytes() == (at_the_cell / "SHA256SUMS").read_bytes()
    command = ["ssh-keygen", "-Y", "verify", "-f", site / "keys" / "allowed_signers", "-I", "release", "-n", RELEASE]
    with (at_the_cell / "SHA256SUMS").open("rb") as sums:
        subprocess.run([*command, "-s", kept / "job" / "j" / "SHA256SUMS.sig"], stdin=sums, check=True, capture_output=True)
    assert [event.what.split(":")[0] for event in audit_case(site, CASE).chain.events][-1] == "case removed by retention"


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_what_is_kept_of_a_removed_case_is_audited_too(site: Path, how: str) -> None:
    after(site, 30)
    (kept,) = (site / "removed").iterdir()
    if how == "gone":
        shutil.rmtree(kept)
    else:
        (kept / EVENTS).write_bytes(b"".join((kept / EVENTS).read_bytes().splitlines(keepends=True)[:-1]))
    assert not whole(site)


def test_a_case_that_was_changed_after_its_release_or_never_released_keeps_everything(site: Path) -> None:
    case = CaseFolder(site / "cases" / CASE)
    record = json.loads((case.path / "check" / "stage.json").read_text())
    (case.path / "check" / "stage.json").write_text(json.dumps({**record, "value_digest": "ab" * 32}))
    assert after(site, 100) == []
    shutil.rmtree(case.path / "job")
    assert after(site, 100) == []


def test_a_case_that_a_process_works_on_is_left_for_the_next_time(site: Path) -> None:
    with CaseFolder(site / "cases" / CASE).locked():
        assert after(site, 30) == []
    assert after(site, 30) == [("case", 10)]


def test_doctor_removes_only_when_it_is_told_to(site: Path) -> None:
    (site / "site.toml").write_text("[retention]\nidentity_days = 1\n")
    record = CaseFolder(site / "cases" / CASE).record("job")
    assert record is not None
    (site / "cases" / CASE / "job" / "stage.json").write_text(json.dumps({**record, "started": "2020-01-01T00:00:00+00:00"}))
    CliRunner().invoke(app, ["doctor", "--site", str(site)])
    assert (site / "cases" / CASE / "intake" / "identity.json").is_file()
    done = CliRunner().invoke(app, ["doctor", "--site", str(site), "--apply-retention"])
    assert f"identity of case {CASE} removed" in done.stdout
    assert not (site / "cases" / CASE / "intake" / "identity.json").exists()


def test_a_case_is_removed_once_and_is_not_known_afterwards(site: Path) -> None:
    after(site, 30)
    assert audit_case(site, CASE).faults == ()
    with pytest.raises(InputError, match="not known"):
        audit_case(site, "another")


@pytest.mark.parametrize("days", [20, 30])
def test_a_removal_that_dies_at_any_step_leaves_a_whole_record_and_is_done_the_next_time(
    site: Path, tmp_path: Path, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("append_event", "tell_site", "write_atomic", "flush_tree", "flush_folder")
    real = {name: getattr(retention, name) for name in steps}
    for deadly in range(12):
        copy, calls = Path(shutil.copytree(site, tmp_path / f"copy-{deadly}")), []

        def step(name: str, *arguments: Any, deadly: int = deadly, calls: list[str] = calls, **options: Any) -> Any:
            if len(calls) == deadly:
                raise KeyboardInterrupt
            calls.append(name)
            return real[name](*arguments, **options)

        for name in steps:
            monkeypatch.setattr(retention, name, partial(step, name))
        try:
            after(copy, days)
            died = False
        except KeyboardInterrupt:
            died = True
        for name, function in real.items():
            monkeypatch.setattr(retention, name, function)
        assert whole(copy), calls
        after(copy, days)
        assert whole(copy), calls
        assert not _left(copy, days), calls
        if not died:
            break
    else:
        pytest.fail("more steps than were tried")
    assert deadly > 3


def _left(site: Path, days: int) -> list[Path]:
    """What should be gone by then."""
    case = site / "cases" / CASE
    gone = [case] if days >= 30 else [case / "intake" / "identity.json", case / "intake" / "value.json", case / "study" / "1.dcm"]
    return [path for path in [*gone, *(site / "removed").glob(".*")] if path.exists()]
