"""A site in one file and back: while a case runs, with every digest; what is damaged is refused."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from batchone.factory.inbox import Entry, Inbox
from batchone.pipeline.audit import audit_site
from batchone.pipeline.backup import back_up, restore
from batchone.pipeline.case import run_case
from batchone.pipeline.case_order import read_case_order
from batchone.pipeline.cli import app
from batchone.pipeline.errors import InputError
from batchone.pipeline.events import EVENTS, append_event, read_chain
from batchone.pipeline.job.signature import approval_key
from batchone.pipeline.order import Order, order_text
from batchone.pipeline.store import CaseBusy, CaseFolder, begin_anew
from batchone.samples.dicom import write_series

WHEN = "2026-11-24T08:00:00+00:00"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a key, settings, a build, a table of the server, and a case of two lines."""
    site = tmp_path_factory.mktemp("small") / "site"
    approval_key(site / "keys", "a")
    (site / "site.toml").write_text("[scan]\nmax_age_days = 90\n")
    (site / "builds" / "b-1").mkdir(parents=True)
    (site / "builds" / "b-1" / "build.json").write_text("{}\n")
    (site / "prints" / ".ledger").mkdir(parents=True)
    (site / "prints" / ".ledger" / "b-1.json").write_text(json.dumps(asdict(Entry("b-1", "printed", attempt=1))))
    case = CaseFolder(site / "cases" / "c-1")
    with case.locked():
        append_event(case.path / EVENTS, who="x", what="order received", when=WHEN)
        (case.path / "order.toml").write_bytes(b"case = 'c-1'\n")
    (case.path / ".plan.part").mkdir()
    (case.path / ".plan.part" / "half.npy").write_bytes(b"half")
    (site / "engine.sqlite").write_bytes(b"made anew from the cases")
    with sqlite3.connect(site / "server.sqlite") as server:
        server.execute("CREATE TABLE account (name TEXT)")
        server.execute("INSERT INTO account VALUES ('admin')")
    return site


@pytest.fixture(scope="module")
def archive(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("archive") / "site.tar"
    back_up(small, file)
    return file


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of every file and folder that is not hidden; a folder has no bytes."""
    found = sorted(path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return {str(p.relative_to(folder)): (p.stat().st_mode, p.read_bytes() if p.is_file() else b"") for p in found}


def test_a_restored_site_is_the_one_that_was_backed_up(small: Path, archive: Path, tmp_path: Path) -> None:
    _, faults = restore(archive, tmp_path / "site")
    assert faults == ()
    assert Inbox(tmp_path / "site" / "prints").entry("b-1").state == "printed"  # and is not printed once more
    before, after = files_of(small), files_of(tmp_path / "site")
    for name in (EVENTS, "server.sqlite"):
        before.pop(name)
        after.pop(name)
    del before["engine.sqlite"]
    assert after == before
    with sqlite3.connect(tmp_path / "site" / "server.sqlite") as server:
        assert server.execute("SELECT name FROM account").fetchall() == [("admin",)]
    assert (tmp_path / "site" / "keys").stat().st_mode & 0o777 == 0o700
    said = [event.what for event in read_chain(tmp_path / "site" / EVENTS).events]
    assert said[-1] == "restored from a backup"
    assert read_chain(small / EVENTS).events[-1].what == "backup written"
    assert not list(tmp_path.glob(".*"))
    assert not list(small.glob(".backup*"))


def test_the_stock_tools_read_a_backup_and_nobody_else_may(archive: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path, check=True)
    assert archive.stat().st_mode & 0o777 == 0o600


@given(place=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_a_changed_bit_of_an_archive_is_refused_or_changes_nothing(
    small: Path, archive: Path, place: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bit")
    data = bytearray(archive.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    (folder / "bad.tar").write_bytes(data)
    try:
        restore(folder / "bad.tar", folder / "site")
    except InputError:
        assert not (folder / "site").exists()
    else:
        good = files_of(small)
        found = {name: data for name, (_, data) in files_of(folder / "site").items() if name != EVENTS}
        assert found.items() <= {name: data for name, (_, data) in good.items()}.items() | {
            ("server.sqlite", found["server.sqlite"])
        }
    shutil.rmtree(folder)


def test_a_cut_archive_and_one_with_another_file_are_refused(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: len(data) // 2])
    shutil.copy(archive, tmp_path / "more.tar")
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "more.tar", "a") as tar:
        tar.add(tmp_path / "x", "keys/approval-x")
    with tarfile.open(tmp_path / "out.tar", "w") as tar:
        tar.add(tmp_path / "x", "../x")
    for name, told in (
        ("cut.tar", "at its end|cannot be read"),
        ("more.tar", "differs.*keys/approval-x"),
        ("out.tar", "no backup"),
    ):
        with pytest.raises(InputError, match=told):
            restore(tmp_path / name, tmp_path / "site")
        assert not (tmp_path / "site").exists()


def test_nothing_is_overwritten_and_a_backup_does_not_lie_in_its_site(small: Path, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there already"):
        back_up(small, archive)
    with pytest.raises(InputError, match="in the site itself"):
        back_up(small, small / "site.tar")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        restore(archive, tmp_path)
    with pytest.raises(InputError, match="no site"):
        back_up(tmp_path / "nowhere", tmp_path / "b.tar")


def test_a_full_disk_and_a_killed_backup_leave_nothing_that_looks_like_one(small: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from batchone.pipeline.backup import back_up\n"
        "from batchone.pipeline.errors import MachineError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))\n"
        "try:\n    back_up(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except MachineError as error:\n    print(error)\n"
    )
    copy = Path(shutil.copytree(small, tmp_path / "small"))
    (copy / "server.sqlite").unlink()  # small enough that the archive is the first file that does not fit
    done = subprocess.run([sys.executable, "-c", code, copy, tmp_path / "b.tar"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("disk full: the backup could not be written")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    (tmp_path / ".b.tar.part").write_bytes(b"of a backup that was killed")
    (copy / ".backup-0123.part" / "cases").mkdir(parents=True)
    assert back_up(copy, tmp_path / "b.tar").backup.cases == ("c-1",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "small"]
    assert not list(copy.glob(".backup-*"))


def test_a_record_that_was_broken_is_restored_and_told(small: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small, tmp_path / "small"))
    log = copy / "cases" / "c-1" / EVENTS
    log.write_bytes(log.read_bytes().replace(b"order received", b"order Received"))
    back_up(copy, tmp_path / "b.tar")
    done = CliRunner().invoke(app, ["restore", str(tmp_path / "b.tar"), "--site", str(tmp_path / "site")])
    assert getattr(done.exception, "exit_code", 0) == 5
    assert (tmp_path / "site" / "cases" / "c-1" / "order.toml").is_file()


def test_a_case_that_is_held_all_the_time_is_named_and_no_file_is_left(small: Path, tmp_path: Path) -> None:
    with CaseFolder(small / "cases" / "c-1").locked(), pytest.raises(CaseBusy):
        back_up(small, tmp_path / "b.tar", wait_s=0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_site_is_backed_up_while_a_case_runs_and_the_restored_case_goes_on_with_its_stages(tmp_path: Path) -> None:
    hu = np.full((70, 48, 48), -1000, dtype=np.int16)
    hu[8:62, 10:38, 10:38] = 40
    hu[8:62, 14:24, 14:24] = 1200
    hu += np.random.default_rng(5).integers(-8, 9, hu.shape, dtype=np.int16)
    study, site = tmp_path / "study", tmp_path / "site"
    write_series(np.maximum(hu, -1024), np.diag([0.45, 0.45, 0.6, 1.0]), study)
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    made = Order(case="c-1", device="anatomical-model", side="midline", process="pa12-sls", machine="sim-01", due=due)
    (tmp_path / "order.toml").write_text(order_text(made))
    order = read_case_order(tmp_path / "order.toml")
    begun = threading.Event()

    def run() -> None:
        run_case(order, study, site=site, until="intake", progress=lambda stage, outcome: begun.set())

    runner = threading.Thread(target=run)
    runner.start()
    assert begun.wait(60)
    assert back_up(site, tmp_path / "site.tar").backup.cases == ("c-1",)  # the case is in its first stage now, and waited for
    runner.join()
    _, faults = restore(tmp_path / "site.tar", tmp_path / "restored")
    assert faults == ()
    again = run_case(order, study, site=tmp_path / "restored", until="intake")
    assert again.kept == ("intake",)
    assert not [fault for trail in audit_site(tmp_path / "restored") for fault in trail.faults]
    begin_anew(tmp_path / "restored" / "cases" / "c-1")
    assert run_case(order, study, site=tmp_path / "restored", until="intake").kept == ()
