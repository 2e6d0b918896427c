"""A full or broken disk at any operation: told in words, nothing half can be read, and the same again completes it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import site_server

from batchone.pipeline import codec
from batchone.pipeline.audit import audit_case
from batchone.pipeline.case_approval import sign_case, standing_approval
from batchone.pipeline.case_decisions import decide
from batchone.pipeline.case_order import order_digest, read_case_order
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import append_event, chain_head, read_chain
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.hospital.parcel import Parcel, pack
from batchone.pipeline.intake.inbox import Inbox, accept
from batchone.pipeline.job.withdrawal import read_decisions
from batchone.pipeline.revisions import keep_revision
from batchone.pipeline.store import CaseFolder
from batchone.samples.dicom import write_series

ORDER = (
    'case = "case-0001"\ndevice = "anatomical-model"\nside = "left"\nprocess = "pa12-sls"\nmachine = "sim-01"\n'
    "due = 2026-02-01T08:00:00Z\n"
)
WHO = {"who": "eva", "passphrase": "a word of a full disk"}
SEAM = ("fsync", "rename", "replace", "link", "mkdir", "write", "unlink")
Step = Callable[[Path], object]


@pytest.fixture(scope="module")
def parcel(tmp_path_factory: pytest.TempPathFactory) -> Parcel:
    folder = tmp_path_factory.mktemp("parcel")
    hu = np.full((4, 32, 32), -1000, dtype=np.int16)
    hu[:, 8:24, 8:20] = 900
    write_series(hu, np.diag([0.5, 0.5, 1.0, 1.0]), folder / "study")
    (folder / "order.toml").write_text(ORDER)
    return pack(folder / "study", Keep.open(folder / "keep"), order=folder / "order.toml")


def test_a_site_on_a_disk_with_ever_less_room_loses_nothing(parcel: Parcel, tmp_path: Path) -> None:
    mounts = [["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]]
    tried = ["mount", "-t", "tmpfs", "none", str(tmp_path)]
    able = [one for one in mounts if subprocess.run([*one, *tried], capture_output=True, check=False).returncode == 0]
    if not able:
        pytest.skip("needs the right to mount a tmpfs, in a namespace of its own")
    (tmp_path / "small").mkdir()
    program = Path(__file__).with_name("disk_full_site.py")
    copy = shutil.copyfile(parcel.path, tmp_path / f"{parcel.digest}.batchone")
    command = [*able[0], sys.executable, str(program), str(tmp_path / "small"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert not told["wrong"]
    assert all(count > 0 for count in told["full"].values()), told  # the disk was full at least once in each step


class Fault:
    """The operating system as a step sees it, with one operation that fails: the ``at``-th of SEAM."""

    def __init__(self, code: int, at: int) -> None:
        self._code, self._left = code, at
        self.happened = False

    @contextmanager
    def there(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patched:
            for name in SEAM:
                patched.setattr(os, name, self._failing(getattr(os, name)))
            yield

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*given: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self.happened = True
                raise OSError(self._code, os.strerror(self._code))
            return real(*given, **named)

        return operation


def _prepared(site: Path) -> None:
    """A case with a checked device, signed once, with a key and a decision taken back."""
    case = CaseFolder(site_server.make_case(site, "case-0001"))
    (case.path / "order.toml").write_text(ORDER)
    keep_revision(case, order_digest(read_case_order(case.path / "order.toml")))
    device = CaseFolder(site / "cases" / "case-0001").record("check")["value_digest"]  # type: ignore[index]
    sign_case(site, "case-0001", device=device, ticked=None, **WHO)


def _revised(site: Path) -> None:
    _prepared(site)
    decide(site, "case-0001", "revise", reason="too thick", **WHO)


def _sign(site: Path) -> object:
    device = CaseFolder(site / "cases" / "case-0001").record("check")["value_digest"]  # type: ignore[index]
    return sign_case(site, "case-0001", device=device, ticked=None, **WHO)


def _publish_again(site: Path) -> object:
    case = CaseFolder(site / "cases" / "case-0001")
    checked = case.load("check")

    def write(into: Path) -> dict[str, Any]:
        codec.save(checked, into)
        return {
            "seconds": 2.0,
            "started": "2026-01-01T00:00:00+00:00",
            "taken": {},
            "value_digest": codec.digest(checked),
            "findings": {"$tuple": []},
        }

    with case.locked():
        return case.publish("check", write)


def _event(site: Path) -> object:
    return append_event(site / "cases" / "case-0001" / "events.jsonl", who="eva", what="seen", when="2026-01-01T00:00:00+00:00")


STEPS: dict[str, tuple[Callable[[Path], None], Step]] = {
    "an event": (_prepared, _event),
    "a stage's result over an earlier one": (_prepared, _publish_again),
    "a decision": (_prepared, lambda site: decide(site, "case-0001", "revise", reason="too thick", **WHO)),
    "an approval": (_revised, _sign),
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
@pytest.mark.parametrize("name", STEPS)
def test_whichever_operation_fails_nothing_is_half_or_lost_and_the_same_again_completes_it(
    name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, step = STEPS[name]
    prepare(tmp_path / "ready")
    kept = CaseFolder(tmp_path / "ready" / "cases" / "case-0001").record("check")
    at = 0
    while True:
        at += 1
        site = Path(shutil.copytree(tmp_path / "ready", tmp_path / f"site-{at}"))
        case, fault = site / "cases" / "case-0001", Fault(code, at)
        with fault.there(monkeypatch):
            told = _error_of(lambda site=site: step(site))  # type: ignore[misc]
        assert told is None or told.hint
        if not fault.happened:
            break
        assert read_chain(case / "events.jsonl").broken_line is None
        _whole(case)
        step(site)  # the same again
        _whole(case)
        assert chain_head(case / "events.jsonl") is not None
        assert CaseFolder(case).record("check")["value_digest"] == kept["value_digest"]  # type: ignore[index]
        assert not audit_case(site, case.name).faults
        if name == "an event":
            assert sum(one.what == "seen" for one in read_chain(case / "events.jsonl").events) == 1
        if name == "a decision":
            assert [one.what for one in read_decisions(case)] == ["revise"]
        if name == "an approval":
            record = CaseFolder(case).record("check")
            assert standing_approval(CaseFolder(case), record["value_digest"], site / "keys") is not None  # type: ignore[index]
    assert at > 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_first_event_stands_once_whichever_operation_fails(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, happened = 0, True
    while happened:
        at += 1
        (tmp_path / f"cases-{at}").mkdir()
        events, fault = tmp_path / f"cases-{at}" / "events.jsonl", Fault(code, at)

        def say(events: Path = events) -> object:
            return append_event(events, who="eva", what="seen", when="2026-01-01T00:00:00+00:00")

        with fault.there(monkeypatch):
            told = _error_of(say)
        happened = fault.happened
        assert (told is not None) == happened
        assert len(read_chain(events).events) == (0 if happened else 1)
        if happened:
            say()
            assert [one.what for one in read_chain(events).events] == ["seen"]
    assert at > 2


def _error_of(step: Callable[[], object]) -> MachineError | None:
    """The error of the workshop that a step ends with; every other one passes."""
    try:
        step()
    except MachineError as error:
        return error
    return None


def _whole(case: Path) -> None:
    """Every result that can be read is whole."""
    found = CaseFolder(case)
    for stage in ("check", "review"):
        if (case / stage).exists():
            record = found.record(stage)
            assert record is not None, stage
            assert found.intact(stage, record), stage


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_parcel_stays_until_its_case_is_whole_whichever_operation_fails(
    code: int, parcel: Parcel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, step = 0, 1
    while True:
        at += step
        site = tmp_path / f"site-{at}"
        Inbox(site).make()
        waiting = Path(shutil.copyfile(parcel.path, Inbox(site).place(parcel.digest)))
        fault, folder = Fault(code, at), site / "cases" / "case-0001"
        with fault.there(monkeypatch):
            told = _error_of(lambda site=site, waiting=waiting: accept(site, waiting))  # type: ignore[misc]
        assert told is None or told.hint
        if not fault.happened:
            break
        assert waiting.exists() or folder.exists()
        assert not folder.exists() or len(list((folder / "study").iterdir())) == 4
        assert accept(site, waiting).case == "case-0001"
        assert not waiting.exists()
        assert [one.what for one in read_chain(folder / "events.jsonl").events] == ["order received", "study received"]
    assert at > 10
