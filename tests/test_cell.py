"""The cell: of two one gets a job, what may not be printed is refused, every attempt is recorded, records prove themselves."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import manifold3d
import numpy as np
import pytest
import zxingcpp
from PIL import Image
from small_job import make_job, mesh_of, seal
from typer.testing import CliRunner

import batchone.factory.dispatch as of_dispatch
import batchone.pipeline.case_workshop as case_workshop
import batchone.pipeline.findings as findings
from batchone.factory.as_built import PRINT_STARTED
from batchone.factory.cell import UNASKED, Cell
from batchone.factory.dispatch import dispatch
from batchone.factory.dispatch import shelve as on_the_shelf
from batchone.factory.drivers.driver import Progress
from batchone.factory.drivers.folder import LOG, STOP, FolderDriver
from batchone.factory.drivers.twin import TwinDriver
from batchone.factory.genealogy import trace
from batchone.factory.inbox import CLAIM_S, ELSEWHERE_S, MOST_ATTEMPTS, ClaimLost, Inbox
from batchone.factory.label import check_digit, datamatrix_png, element_string
from batchone.factory.proof import read_work, refusals, unsuited
from batchone.factory.readiness import MOST_AHEAD_S, News
from batchone.factory.record import (
    AS_BUILT,
    RECORD,
    STEP_SPACE,
    STEPS,
    close,
    open_steps,
    read_as_built,
    record_signers,
    sign_step,
    verify_record,
)
from batchone.factory.reports import Deliver, Report, Reports
from batchone.factory.settings import SETTINGS, Calibration, CellSettings, Lot, read_cell_settings
from batchone.factory.shelf import Shelve
from batchone.factory.twin.faults import Fault
from batchone.pipeline.audit import audit_site
from batchone.pipeline.cli import app
from batchone.pipeline.commands.cell import _agent, told_to, withdrawn_jobs
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.events import EVENTS, read_chain
from batchone.pipeline.job.manifest import JobManifest, read_manifest
from batchone.pipeline.job.signature import approval_key, release_key, sign, write_allowed_signers
from batchone.pipeline.job.withdrawal import WithdrawnJob, publish_withdrawn
from batchone.pipeline.store import write_atomic
from batchone.pipeline.values import Mesh
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.layers import slice_parts
from batchone.slicer.profiles import load_process

NOW = dt.datetime(2026, 11, 30, 8, 0, tzinfo=dt.UTC)
TODAY = NOW.date()
DAY = dt.timedelta(days=1)
FACTS = {"powder lot": "TEST-1", "powder supplier": "TEST^SUPPLIER", "times sieved and used": "2"}
FAST = 1e6  # seconds of the twin in one of the clock


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "keys"
    release_key(folder)
    approval_key(folder, "reviewer", passphrase="test-passphrase-1")
    write_allowed_signers(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def passphrase() -> object:
    """The one of everybody who signs here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHONE_APPROVER_PASSPHRASE", "test-passphrase-1")
        yield


@pytest.fixture(scope="module")
def job(keys: Path, passphrase: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return named(tmp_path_factory.mktemp("job"), keys)


def named(folder: Path, keys: Path, layers_cli: bytes | None = None) -> Path:
    """A small job in titanium, under its own name."""
    make_job(folder / "made", keys, "ti64-lpbf", layers_cli)
    place = folder / read_manifest((folder / "made" / "job.json").read_bytes()).job
    (folder / "made").rename(place)
    return place


TWIN = TwinDriver("sim-01", seed=1, speed=FAST, chance=False)


def settings(name: str = "cell-1", **changes: object) -> CellSettings:
    lot = Lot(material="Ti-6Al-4V ELI", lot="TEST-1", expires=TODAY, facts=FACTS)
    calibration = Calibration(name="laser power", done=TODAY - 30 * DAY, due=TODAY)
    known = {"name": name, "machine": "sim-01", "serial": f"TWIN-{name}", "driver": "twin", "gtin": "09506000134352"}
    return CellSettings.model_validate({**known, "lots": (lot,), "calibrations": (calibration,), **changes})


def make_cell(
    folder: Path,
    job: Path,
    keys: Path,
    name: str = "cell-1",
    *,
    faults: tuple[Fault, ...] = (),
    told: list[News] | None = None,
    deliver: Deliver | None = None,
    shelf: Path | None = None,
    shelve: Shelve | None = None,
) -> Cell:
    """A cell with a twin and a job in the inbox beside it."""
    folder.mkdir(exist_ok=True)
    if not (folder / "inbox" / job.name).exists():  # a test may have changed what lies there
        dispatch(job, folder / "inbox")
    driver = TwinDriver("sim-01", seed=1, speed=FAST, faults=faults, chance=False)
    tell = (lambda news: None) if told is None else told.append
    return Cell(
        folder / name, settings(name), Inbox(folder / "inbox"), driver, signers=keys, deliver=deliver,
        shelve=shelve if shelf is None else partial(on_the_shelf, site=shelf.parent, cell=name),
        now=lambda: NOW, tell=tell,
    )  # fmt: skip


def sign_all(cell: Cell, record: Path, *, measured_mm: float = 0.0) -> None:
    for step in open_steps(record):
        value = None if step.within_mm is None else measured_mm
        sign_step(record, step.number, who="tester", keys=cell.folder / "keys", when=NOW, measured_mm=value)


class TestInbox:
    def test_of_twenty_that_want_a_job_at_once_one_gets_it(self, job: Path, tmp_path: Path) -> None:
        dispatch(job, tmp_path)
        with ThreadPoolExecutor(20) as pool:
            got = list(pool.map(lambda n: Inbox(tmp_path).claim(job.name, f"cell-{n}", NOW), range(20)))
        assert sum(entry is not None for entry in got) == 1
        assert Inbox(tmp_path).entry(job.name).attempt == 1

    def test_a_claim_holds_its_time_and_no_longer(self, job: Path, tmp_path: Path) -> None:
        inbox = Inbox(tmp_path)
        dispatch(job, tmp_path)
        first = inbox.claim(job.name, "cell-1", NOW)
        assert first is not None
        just_before, just_after = (NOW + dt.timedelta(seconds=CLAIM_S + s) for s in (-0.001, 0.0))
        assert inbox.claim(job.name, "cell-2", just_before) is None
        second = inbox.claim(job.name, "cell-2", just_after)
        assert second is not None
        assert second.attempt == 2
        for late in (lambda: inbox.renew(first, just_after), lambda: inbox.settle(first, "printed", just_after)):
            with pytest.raises(ClaimLost, match="attempt 2 of cell cell-2"):
                late()

    def test_a_renewed_claim_goes_on(self, job: Path, tmp_path: Path) -> None:
        inbox = Inbox(tmp_path)
        dispatch(job, tmp_path)
        entry = inbox.claim(job.name, "cell-1", NOW)
        assert entry is not None
        inbox.renew(entry, NOW + dt.timedelta(seconds=CLAIM_S - 1))
        assert inbox.claim(job.name, "cell-2", NOW + dt.timedelta(seconds=CLAIM_S + 1)) is None

    def test_what_failed_is_tried_elsewhere_first_and_held_after_some_attempts(self, job: Path, tmp_path: Path) -> None:
        inbox, now = Inbox(tmp_path), NOW
        dispatch(job, tmp_path)
        for attempt in range(1, MOST_ATTEMPTS + 1):
            entry = inbox.claim(job.name, "cell-1", now)
            assert entry is not None
            assert entry.attempt == attempt
            ended = inbox.settle(entry, "waiting", now, "warped")
            assert inbox.claim(job.name, "cell-1", now) is None
            now += dt.timedelta(seconds=ELSEWHERE_S)
        assert ended.state == "held"
        assert inbox.claim(job.name, "cell-2", now) is None
        assert inbox.free(job.name).state == "waiting"
        again = inbox.claim(job.name, "cell-2", now)
        assert again is not None
        assert again.attempt == MOST_ATTEMPTS + 1

    def test_a_job_is_dispatched_whole_and_once(self, job: Path, tmp_path: Path) -> None:
        (tmp_path / f".{job.name}.part").mkdir()  # of a dispatch that died
        assert Inbox(tmp_path).names() == ()
        place = dispatch(job, tmp_path)
        assert dispatch(job, tmp_path) == place
        assert Inbox(tmp_path).names() == (job.name,)
        (place / "job.json").rename(place / "job.away")
        with pytest.raises(MachineError, match=r"not whole: job\.json is missing or was changed"):
            dispatch(job, tmp_path)
        (place / "job.json").write_bytes(b"{}")
        with pytest.raises(MachineError, match=r"not whole: job\.json is missing or was changed"):
            dispatch(job, tmp_path)
        (place / "SHA256SUMS").write_bytes(b"other")
        with pytest.raises(MachineError, match="another one"):
            dispatch(job, tmp_path)


class TestDispatch:
    """A shelf takes any sealed folder: a job is one."""

    def test_of_many_who_bring_a_record_at_once_one_does_and_the_site_is_told_once(self, job: Path, tmp_path: Path) -> None:
        with ThreadPoolExecutor(8) as pool:
            places = list(pool.map(lambda _: on_the_shelf(job, tmp_path, cell="cell-1"), range(8)))
        assert set(places) == {tmp_path / "records" / job.name}
        assert {path.name for path in job.rglob("*")} == {path.name for path in places[0].rglob("*")}
        assert not list((tmp_path / "records").glob(".*part"))
        assert [event.what for event in read_chain(tmp_path / EVENTS).events] == [f"record {job.name}: shelved"]

    def test_who_dies_between_the_event_and_the_record_brings_it_later_and_tells_once(
        self, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(_: Path) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(of_dispatch, "flush_tree", dies)
            with pytest.raises(KeyboardInterrupt):
                on_the_shelf(job, tmp_path, cell="cell-1")
        assert not (tmp_path / "records" / job.name).exists()
        assert on_the_shelf(job, tmp_path, cell="cell-1").is_dir()
        assert {path.name for path in (tmp_path / "records").iterdir()} == {".lock", job.name}
        assert [event.what for event in read_chain(tmp_path / EVENTS).events] == [f"record {job.name}: shelved"]

    @pytest.mark.parametrize("placed", [False, True])
    def test_what_one_that_died_left_of_a_copy_is_swept_away(self, placed: bool, job: Path, tmp_path: Path) -> None:
        inbox = tmp_path / "inbox"
        if placed:
            dispatch(job, inbox)
        other = inbox / f".{'0' * 16}.aaaaaaaa.part"
        for left in (inbox / f".{job.name}.0123abcd.part", other):
            left.mkdir(parents=True)
            (left / "half.stl").write_bytes(b"half")
        dispatch(job, inbox)
        assert sorted(path.name for path in inbox.glob(".*.part")) == [other.name]


class TestProof:
    def faults(self, job: Path, keys: Path | None, **changes: object) -> tuple[str, ...]:
        work = read_work(job)
        return (*unsuited(work, settings(**changes), TWIN, today=TODAY), *refusals(work, signers=keys))

    def test_what_is_whole_in_date_and_for_this_machine_is_printed(self, job: Path, keys: Path) -> None:
        assert self.faults(job, keys) == ()
        assert self.faults(job, keys, calibrations=({"name": "focus", "done": TODAY, "due": TODAY},)) == ()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"machine": "sim-02"}, "is for machine sim-01, this cell has sim-02"),
            ({"lots": ({"material": "PA12", "lot": "P", "expires": TODAY},)}, "no lot of Ti-6Al-4V ELI is loaded; loaded: PA12"),
            (
                {"lots": ({"material": "Ti-6Al-4V ELI", "lot": "L", "expires": TODAY - DAY, "facts": FACTS},)},
                "may be used until 2026-11-29, today is 2026-11-30",
            ),
            ({"lots": ({"material": "Ti-6Al-4V ELI", "lot": "L", "expires": TODAY},)}, "says nothing of powder lot"),
            (
                {"calibrations": ({"name": "focus", "done": TODAY - 9 * DAY, "due": TODAY - DAY},)},
                "calibration focus counted until 2026-11-29",
            ),
            (
                {"calibrations": ({"name": "focus", "done": TODAY + DAY, "due": TODAY + 9 * DAY},)},
                "calibration focus is said to be of 2026-12-01, today is 2026-11-30",
            ),
        ],
    )
    def test_what_is_not_is_refused_with_the_reason(self, job: Path, keys: Path, changes: dict[str, object], words: str) -> None:
        assert any(words in fault for fault in self.faults(job, keys, **changes))

    def test_a_stranger_who_signs_anew_is_refused(self, job: Path, keys: Path, tmp_path: Path) -> None:
        mine = Path(shutil.copytree(job, tmp_path / job.name))
        seal(mine, release_key(tmp_path / "keys"))
        assert any(fault.startswith("signature") for fault in self.faults(mine, keys))

    def test_layers_of_another_part_are_found_though_everything_else_agrees(self, keys: Path, tmp_path: Path) -> None:
        process = load_process("ti64-lpbf")
        wrong = mesh_of(manifold3d.Manifold.cube([12.0, 9.0, 6.0]).translate([30.0, -20.0, 50.0]))  # the hole is missing
        own = read_work(named(tmp_path / "own", keys))
        made = (own.folder / "build" / "layers.cli").read_bytes()
        assert self.faults(named(tmp_path / "same", keys, made), keys) == ()
        cli = read_cli(made)
        placed = own.jobs[0].build.placements[0].pose
        pose = np.array(placed)
        moved = Mesh(wrong.vertices_mm @ pose[:3, :3].T + pose[:3, 3], wrong.faces)
        swapped = write_cli(slice_parts([moved], process.layer_mm), cli.labels[:1])
        place = named(tmp_path / "other", keys, swapped)
        assert any("cut anew" in fault for fault in self.faults(place, keys))

    def test_a_job_under_another_name_is_refused(self, job: Path, tmp_path: Path) -> None:
        with pytest.raises(MachineError, match="holds"):
            read_work(Path(shutil.copytree(job, tmp_path / "0123456789abcdef")))


class TestCell:
    def test_a_job_is_printed_signed_step_by_step_and_released(self, job: Path, keys: Path, tmp_path: Path) -> None:
        told: list[News] = []
        cell = make_cell(tmp_path, job, keys, told=told)
        cell.resume()
        assert cell.step()
        assert not cell.step()
        assert [news.kind for news in told if news.kind != "layers"] == ["claimed", "printing", "printed"]
        record = cell.records / f"{job.name}-1"
        built = read_as_built(record)
        manifest: JobManifest = read_manifest((job / "job.json").read_bytes())
        assert (built.verdict, built.layers_built, built.lot.lot) == ("printed", manifest.build.layers, "TEST-1")
        assert [step.what for step in built.steps][: len(manifest.after_printing)] == list(manifest.after_printing)
        assert set(built.facts) == set(built.facts_wanted)
        assert built.simulated
        assert float(built.facts["oxygen in the chamber, percent"].split()[0]) < 0.1  # while it builds, not before
        assert cell.close_records() == ()  # nothing is signed yet
        sign_all(cell, record)
        (whole,) = cell.close_records()
        assert whole.verdict == "released"
        assert whole.udi.endswith(f"[21]{job.name}-1")
        assert verify_record(record, allowed=record_signers(cell.folder / "keys")) == whole
        assert cell.inbox.entry(job.name).state == "released"
        assert cell.close_records() == ()
        assert not (cell.folder / "work").exists() or not list((cell.folder / "work").rglob("job.json"))

    def test_a_failed_print_is_recorded_and_made_on_the_other_machine(self, job: Path, keys: Path, tmp_path: Path) -> None:
        told: list[News] = []
        first = make_cell(tmp_path, job, keys, faults=(Fault("power-cut", 20),), told=told)
        assert first.step()
        assert not first.step()
        assert told[-1].kind == "failed"
        assert "layer 20" in told[-1].text
        (failed,) = first.close_records()
        assert failed.verdict == "failed"
        assert failed.as_built.layers_built == 21
        assert failed.udi == ""
        second = make_cell(tmp_path, job, keys, "cell-2")
        assert second.step()
        assert read_as_built(second.records / f"{job.name}-2").verdict == "printed"

    @pytest.mark.parametrize("kind", ["short-feed", "power-sag", "super-elevation"])
    def test_what_spoils_a_part_ends_its_print(self, kind: str, job: Path, keys: Path, tmp_path: Path) -> None:
        cell = make_cell(tmp_path, job, keys, faults=(Fault(kind, 30, severity=1.0),))  # type: ignore[arg-type]
        cell.step()
        built = read_as_built(cell.records / f"{job.name}-1")
        assert built.verdict == "failed"
        assert built.reason.startswith("layer 30")

    def test_oxygen_that_rises_is_waited_for(self, job: Path, keys: Path, tmp_path: Path) -> None:
        cell = make_cell(tmp_path, job, keys, faults=(Fault("oxygen-rise", 30, severity=1.0),))
        cell.step()
        built = read_as_built(cell.records / f"{job.name}-1")
        assert built.verdict == "printed"
        assert [one.layer for one in built.alarmed] == [30]
        assert built.steps[0].what.startswith("judge layers 30 to 30, where the machine told of oxygen")
        assert float(built.facts["oxygen in the chamber, percent"].split()[0]) > 0.1  # titanium's limit

    @pytest.mark.parametrize(("beyond_mm", "verdict", "state"), [(0.0, "released", "released"), (1e-6, "rejected", "waiting")])
    def test_what_is_measured_beyond_its_tolerance_is_made_anew(
        self, beyond_mm: float, verdict: str, state: str, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        cell = make_cell(tmp_path, job, keys)
        cell.step()
        record = cell.records / f"{job.name}-1"
        within = [step.within_mm for step in open_steps(record) if step.within_mm is not None]
        assert within == [0.2]
        sign_all(cell, record, measured_mm=within[0] + beyond_mm)
        (whole,) = cell.close_records()
        assert whole.verdict == verdict
        assert cell.inbox.entry(job.name).state == state

    @pytest.mark.parametrize("at", ["judged", "measured"])
    def test_a_person_who_says_no_has_the_part_made_anew(self, at: str, job: Path, keys: Path, tmp_path: Path) -> None:
        heard: list[Report] = []
        cell = make_cell(tmp_path, job, keys, deliver=heard.append)
        cell.step()
        record, own = cell.records / f"{job.name}-1", cell.folder / "keys"
        while at == "measured" and open_steps(record)[0].within_mm is None:
            sign_step(record, open_steps(record)[0].number, who="tester", keys=own, when=NOW)
        step = open_steps(record)[0]
        asked = ["cell", "--cell", str(cell.folder), "sign", record.name, str(step.number), "--as", "tester", "--reject"]
        assert isinstance(CliRunner().invoke(app, [*asked, " "]).exception, InputError)
        assert open_steps(record)[0] == step
        done = CliRunner().invoke(app, [*asked, "streaks across the seat"])
        assert (done.exit_code, "rejected" in done.stderr) == (0, True)
        status = CliRunner().invoke(app, ["cell", "--cell", str(cell.folder), "--inbox", str(tmp_path / "inbox"), "status"])
        assert f"{record.name}  is rejected" in status.stdout
        left = open_steps(record)
        if left:
            with pytest.raises(InputError, match="streaks"):
                sign_step(record, left[0].number, who="tester", keys=own, when=NOW)
        (whole,) = cell.close_records()
        assert (whole.verdict, whole.udi) == ("rejected", "")
        assert whole.reason == f"{step.what}: rejected by tester: streaks across the seat"
        assert (heard[-1].step, cell.inbox.entry(job.name).state) == ("remake", "waiting")
        assert verify_record(record, allowed=record_signers(own)) == whole

    def test_a_refused_job_says_why_and_waits_for_a_person(self, job: Path, keys: Path, tmp_path: Path) -> None:
        cell = make_cell(tmp_path, job, keys)
        (tmp_path / "inbox" / job.name / "parts" / "implant.stl").write_bytes(b"other")
        assert cell.step()
        assert not cell.step()
        entry = cell.inbox.entry(job.name)
        assert entry.state == "refused"
        assert "parts/implant.stl" in entry.reason

    def test_a_job_that_was_withdrawn_is_not_printed_and_what_was_printed_of_it_is_not_released(
        self, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        one = WithdrawnJob(job=job.name, sums_sha256="0" * 64, case="demo-0001", what="cancelled", when=NOW)
        before = make_cell(tmp_path / "before", job, keys)
        before.withdrawn = lambda: (one,)
        assert before.step()
        entry = before.inbox.entry(job.name)
        assert entry.state == "refused"
        assert "withdrawn" in entry.reason
        after = make_cell(tmp_path / "after", job, keys)
        after.step()
        sign_all(after, after.records / f"{job.name}-1")
        after.withdrawn = lambda: (one,)
        (whole,) = after.close_records()
        assert (whole.verdict, whole.udi) == ("withdrawn", "")
        assert after.inbox.entry(job.name).state == "refused"
        assert verify_record(after.records / f"{job.name}-1", allowed=record_signers(after.folder / "keys")) == whole

    def test_what_another_cell_can_make_is_left_to_it(self, job: Path, keys: Path, tmp_path: Path) -> None:
        other = make_cell(tmp_path, job, keys, "cell-2")
        other.settings = settings("cell-2", machine="sim-02")
        assert not other.step()
        other.settings = settings("cell-2", lots=({"material": "PA12", "lot": "P", "expires": TODAY},))
        assert not other.step()
        assert make_cell(tmp_path, job, keys).step()

    def test_status_says_why_a_job_waits_that_is_not_for_this_cell(self, job: Path, keys: Path, tmp_path: Path) -> None:
        folder = tmp_path / "cell-1"
        folder.mkdir()
        dispatch(job, tmp_path / "inbox")
        asked = ["cell", "--cell", str(folder), "--inbox", str(tmp_path / "inbox"), "status"]
        write_settings(folder, speed=FAST)
        assert "not for this cell" not in CliRunner().invoke(app, asked).stdout
        text = (folder / SETTINGS).read_text()
        (folder / SETTINGS).write_text(text.replace('lot = "TEST-1"\nexpires = 2', 'lot = "TEST-1"\nexpires = 1'))
        assert f"{job.name}  is not for this cell now: lot TEST-1 of Ti-6Al-4V ELI may be used until 1" in (
            CliRunner().invoke(app, asked).stdout
        )

    def test_one_name_in_two_folders_is_two_cells_and_one_folder_runs_once(self, job: Path, keys: Path, tmp_path: Path) -> None:
        one, other = (make_cell(tmp_path / place, job, keys) for place in ("a", "b"))
        assert one.identity != other.identity
        with one.held(), pytest.raises(MachineError, match="runs already"), make_cell(tmp_path / "a", job, keys).held():
            pass

    def test_of_an_attempt_that_another_cell_has_by_now_nothing_is_released(self, job: Path, keys: Path, tmp_path: Path) -> None:
        first, second = make_cell(tmp_path, job, keys), make_cell(tmp_path, job, keys, "cell-2")
        entry = first.inbox.claim(job.name, first.identity, NOW)
        assert entry is not None
        work = first._copy(entry)
        assert work is not None
        first._tell_built = lambda *_: None  # type: ignore[method-assign,assignment] # it dies before it can tell
        first._print(entry, work, lambda: None)
        second.now = lambda: NOW + dt.timedelta(seconds=CLAIM_S)
        assert second.step()
        again = make_cell(tmp_path, job, keys)
        again.now = second.now
        again.resume()
        assert not (again.records / f"{job.name}-1").exists()
        assert (again.folder / "lost" / f"{job.name}-1").is_dir()
        assert again.close_records() == ()

    def test_a_print_that_ended_is_told_though_the_cell_died_before_its_record_was_in_place(
        self, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        cell = make_cell(tmp_path, job, keys)
        entry = cell.inbox.claim(job.name, cell.identity, NOW)
        assert entry is not None
        work = cell._copy(entry)
        assert work is not None
        cell._put_in_place = lambda part: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            cell._print(entry, work, lambda: None)
        again = make_cell(tmp_path, job, keys)
        again.resume()
        assert read_as_built(again.records / f"{job.name}-1").verdict == "printed"
        assert again.inbox.entry(job.name).state == "printed"

    def test_a_cell_that_died_before_it_said_that_it_prints_says_so_before_it_says_that_it_failed(
        self, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        heard: list[Report] = []
        cell = make_cell(tmp_path, job, keys, deliver=heard.append)
        assert cell.inbox.claim(job.name, cell.identity, NOW) is not None
        (cell.records / f".{job.name}-1.part").mkdir()
        make_cell(tmp_path, job, keys, deliver=heard.append).resume()
        assert [one.step for one in heard] == ["print-started", "print-failed"]
        assert read_as_built(cell.records / f"{job.name}-1").verdict == "failed"

    def test_one_damaged_job_ledger_record_or_report_stops_that_one_alone(self, job: Path, keys: Path, tmp_path: Path) -> None:
        heard: list[Report] = []
        cell = make_cell(tmp_path, job, keys, deliver=heard.append)
        bad = tmp_path / "inbox" / "0000000000000000"
        shutil.copytree(job, bad)
        shutil.copytree(job, tmp_path / "inbox" / "1111111111111111")
        (tmp_path / "inbox" / ".ledger" / "1111111111111111.json").write_text("{")
        (cell.records / "2222222222222222-1").mkdir()
        (cell.records / "2222222222222222-1" / AS_BUILT).write_text("{}")
        (cell.folder / "reports" / "00000000000000000001.json").write_text("[]")
        cell.resume()
        while cell.step():
            pass
        cell.close_records()
        assert [cell.inbox.entry(name).state for name in cell.inbox.names()] == [
            {"0000000000000000": "refused", "1111111111111111": "held"}.get(name, "printed") for name in cell.inbox.names()
        ]
        assert [one.step for one in heard] == ["print-started", "print-done"]
        assert len(list((cell.folder / "reports" / "refused").iterdir())) == 1

    def test_a_clock_that_is_ahead_wins_no_claim_and_one_too_far_ahead_takes_nothing(
        self, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        late = make_cell(tmp_path, job, keys, "cell-2")
        assert late.inbox.claim(job.name, "cell-1@first", NOW) is not None
        late.now = lambda: NOW + dt.timedelta(seconds=CLAIM_S + MOST_AHEAD_S)
        late.shared_now = lambda: NOW + dt.timedelta(seconds=CLAIM_S - 0.001)
        assert not late.step()
        assert late.inbox.entry(job.name).cell == "cell-1@first"
        late.shared_now = lambda: NOW + dt.timedelta(seconds=CLAIM_S)
        for ahead_s in (-MOST_AHEAD_S - 0.001, MOST_AHEAD_S + 0.001):
            late.now = lambda ahead_s=ahead_s: late.shared_now() + dt.timedelta(seconds=ahead_s)  # type: ignore[misc]
            assert not late.step()
            assert late.close_records() == ()
        late.now = lambda: late.shared_now() + dt.timedelta(seconds=MOST_AHEAD_S)
        assert late.step()

    def test_the_time_of_an_inbox_is_that_of_its_file_system(self, tmp_path: Path) -> None:
        inbox = Inbox(tmp_path / "inbox")
        before = dt.datetime.now(dt.UTC)
        seconds = (inbox.time() - before).total_seconds()
        assert -0.05 < seconds < 30.0  # a file system's clock ticks coarsely; the machine may be busy
        assert inbox.names() == ()

    def test_what_is_loaded_counts_from_the_next_job_on_and_stands_in_the_record_of_this_one(
        self, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        cell = make_cell(tmp_path, job, keys)
        cell.read = lambda: settings(lots=({"material": "Ti-6Al-4V ELI", "lot": "OLD", "expires": TODAY - DAY, "facts": FACTS},))
        assert not cell.step()  # it waits for a lot that is in date
        cell.read = settings

        def change(news: News) -> None:
            if news.kind == "printing":
                cell.settings = settings(lots=({"material": "Ti-6Al-4V ELI", "lot": "NEXT", "expires": TODAY, "facts": FACTS},))

        cell.tell = change
        assert cell.step()
        assert read_as_built(cell.records / f"{job.name}-1").lot.lot == "TEST-1"

    def test_settings_that_are_wrong_or_of_another_machine_take_nothing_until_they_are_mended(
        self, job: Path, keys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        cell = make_cell(tmp_path, job, keys)
        cell.read = lambda: settings(serial="OTHER")
        assert not cell.step()
        assert "changed in serial" in caplog.text
        cell.read = lambda: read_cell_settings(tmp_path / "nowhere")
        assert not cell.step()
        cell.read = settings
        assert cell.step()

    def test_an_inbox_that_goes_away_stops_no_print(self, job: Path, keys: Path, tmp_path: Path) -> None:
        cell = make_cell(tmp_path, job, keys)
        gone = tmp_path / "gone"

        def away(news: News) -> None:
            if news.kind == "printing":
                (tmp_path / "inbox").rename(gone)

        cell.tell = away
        with pytest.raises(OSError, match=r"\.ledger"):
            cell.step()
        gone.rename(tmp_path / "inbox")
        assert read_as_built(cell.records / f"{job.name}-1").verdict == "printed"
        again = make_cell(tmp_path, job, keys)
        again.resume()
        assert again.inbox.entry(job.name).state == "printed"

    def test_a_demonstration_is_not_made_of_material(self, job: Path, keys: Path) -> None:
        work = read_work(job)
        entry = work.jobs[0].approval.model_copy(update={"demonstration": True})
        shown = replace(work, jobs=(work.jobs[0].model_copy(update={"approval": entry}),))
        assert "demonstration only" in " ".join(refusals(shown, signers=keys, simulated=False))
        assert refusals(shown, signers=keys, simulated=True) == ()

    def test_a_claim_that_was_lost_makes_no_record(self, job: Path, keys: Path, tmp_path: Path) -> None:
        cell = make_cell(tmp_path, job, keys)
        later = NOW + dt.timedelta(seconds=CLAIM_S)

        def steal(news: News) -> None:
            if news.kind == "printing":
                assert cell.inbox.claim(job.name, "cell-2@other", later) is not None

        cell.tell = steal
        cell.step()
        assert not (cell.records / f"{job.name}-1").exists()
        assert (cell.folder / "lost" / f"{job.name}-1" / "events.jsonl").is_file()
        assert cell.inbox.entry(job.name).cell == "cell-2@other"

    def test_killed_in_a_print_the_attempt_is_failed_and_the_next_one_is_made(
        self, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "cell-1"
        folder.mkdir()
        write_settings(folder, speed=20.0)
        dispatch(job, tmp_path / "inbox")
        command = [sys.executable, "-m", "batchone.pipeline", "cell", "--cell", folder, "--inbox", tmp_path / "inbox"]
        run = subprocess.Popen([*map(str, command), "--signers", str(keys), "--once"], stderr=subprocess.DEVNULL)
        part = folder / "records" / f".{job.name}-1.part" / "events.jsonl"
        wait_for(part.is_file, run)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert Inbox(tmp_path / "inbox").entry(job.name).state == "claimed"
        write_settings(folder, speed=FAST)
        cell = Cell(
            folder, read_cell_settings(folder), Inbox(tmp_path / "inbox"),
            TwinDriver("sim-01", seed=1, speed=FAST, chance=False), signers=keys, now=lambda: dt.datetime.now(dt.UTC),
        )  # fmt: skip
        cell.resume()
        built = read_as_built(cell.records / f"{job.name}-1")
        assert built.verdict == "failed"
        assert "stopped while" in built.reason
        entry = cell.inbox.entry(job.name)
        assert (entry.state, entry.attempt) == ("waiting", 1)
        cell.now = lambda: dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ELSEWHERE_S)
        assert cell.step()
        assert read_as_built(cell.records / f"{job.name}-2").verdict == "printed"


class TestRecord:
    @pytest.fixture
    def made(self, job: Path, keys: Path, tmp_path: Path) -> tuple[Cell, Path]:
        cell = make_cell(tmp_path, job, keys)
        cell.step()
        return cell, cell.records / f"{job.name}-1"

    def test_steps_are_signed_in_their_order_once_with_a_measure_where_one_is_taken(self, made: tuple[Cell, Path]) -> None:
        cell, record = made
        own = cell.folder / "keys"
        first = open_steps(record)[0]
        with pytest.raises(InputError, match="not the next one"):
            sign_step(record, first.number + 1, who="tester", keys=own, when=NOW)
        with pytest.raises(InputError, match="none is measured"):
            sign_step(record, first.number, who="tester", keys=own, when=NOW, measured_mm=0.1)
        sign_step(record, first.number, who="tester", keys=own, when=NOW)
        with pytest.raises(InputError, match="not the next one"):
            sign_step(record, first.number, who="tester", keys=own, when=NOW)

    @pytest.mark.parametrize("change", ["as-built", "step", "telemetry", "record", "extra", "stranger"])
    def test_a_record_that_was_changed_does_not_verify(self, change: str, made: tuple[Cell, Path], tmp_path: Path) -> None:
        cell, record = made
        sign_all(cell, record)
        cell.close_records()
        allowed = record_signers(cell.folder / "keys")
        verify_record(record, allowed=allowed)
        if change == "extra":
            (record / "more.txt").write_text("x")
        elif change == "stranger":
            for name in (RECORD, "label.png", "SHA256SUMS", "SHA256SUMS.sig"):
                (record / name).unlink()
            shutil.rmtree(record / STEPS)
            for step in open_steps(record):
                value = None if step.within_mm is None else 0.0
                sign_step(record, step.number, who="tester", keys=tmp_path / "other", when=NOW, measured_mm=value)
            close(record, keys=tmp_path / "other", when=NOW, gtin=None)
        else:
            names = {"as-built": AS_BUILT, "step": f"{STEPS}/01.json", "telemetry": "telemetry.parquet", "record": RECORD}
            data = bytearray((record / names[change]).read_bytes())
            data[len(data) // 2] ^= 1
            (record / names[change]).write_bytes(data)
        with pytest.raises(MachineError):
            verify_record(record, allowed=allowed)

    def test_a_step_that_speaks_against_nothing_is_spelt_as_before_there_was_a_no(self, made: tuple[Cell, Path]) -> None:
        cell, record = made
        sign_all(cell, record)
        before = {"as_built_sha256", "measured_mm", "name", "note", "number", "public_key", "schema", "signature", "time", "what"}
        for path in (record / STEPS).iterdir():
            assert set(json.loads(path.read_bytes())) == before
        (whole,) = cell.close_records()
        assert all(set(step) == before for step in json.loads((record / RECORD).read_bytes())["steps"])
        no = whole.steps[0].model_copy(update={"rejected": "no"})
        assert json.loads(no.words())["rejected"] == "no"  # is signed

    @pytest.mark.parametrize("forged", ["a stranger's key", "another's name", "one step twice", "no measure"])
    def test_steps_that_are_not_what_they_say_release_nothing(self, forged: str, made: tuple[Cell, Path], tmp_path: Path) -> None:
        cell, record = made
        own = cell.folder / "keys"
        sign_all(cell, record)
        last = sorted((record / STEPS).iterdir())[-1]
        number = int(last.stem)
        if forged == "one step twice":
            shutil.copy(sorted((record / STEPS).iterdir())[0], last)
        else:
            last.unlink()
            keys = tmp_path / "other" if forged == "a stranger's key" else own
            said = sign_step(record, number, who="tester", keys=keys, when=NOW, measured_mm=0.0)
            change = {"another's name": {"name": "somebody"}, "no measure": {"measured_mm": None}}.get(forged, {})
            if change:
                said = said.model_copy(update=change)
                key = approval_key(own, "tester")
                said = said.model_copy(update={"signature": sign(key, said.words(), namespace=STEP_SPACE)})
                last.write_bytes(said.to_bytes())
        assert cell.close_records() == ()
        assert not (record / RECORD).exists()
        assert cell.inbox.entry(cell.inbox.names()[0]).state == "printed"

    def test_the_command_verifies_a_record(self, made: tuple[Cell, Path]) -> None:
        cell, record = made
        sign_all(cell, record)
        cell.close_records()
        asked = ["verify", str(record), "--signers", str(cell.folder / "keys"), "--json"]
        found = CliRunner().invoke(app, asked)
        tree = json.loads(found.stdout)
        assert (found.exit_code, tree) == (0, {"ok": True, "record": record.name, "problems": []})
        (record / "label.png").write_bytes(b"other")
        found = CliRunner().invoke(app, asked)
        tree = json.loads(found.stdout)
        assert found.exit_code == 5
        assert "label.png" in tree["problems"][0]["text"]
        schema = json.loads((Path(findings.__file__).parent / "schemas" / "verify.schema.json").read_bytes())
        jsonschema.validate(tree, schema)

    def test_what_a_crash_left_of_a_signature_does_not_spoil_the_record(self, made: tuple[Cell, Path]) -> None:
        cell, record = made
        sign_all(cell, record)
        (record / STEPS / ".03.json.ab12").write_bytes(b"{")
        cell.close_records()
        assert verify_record(record, allowed=record_signers(cell.folder / "keys")).verdict == "released"

    def test_a_closed_record_takes_no_more_steps(self, made: tuple[Cell, Path]) -> None:
        cell, record = made
        sign_all(cell, record)
        cell.close_records()
        with pytest.raises(MachineError, match="is closed"):
            sign_step(record, 1, who="tester", keys=cell.folder / "keys", when=NOW)


class TestFolderDriver:
    def drive(self, job: Path, tmp_path: Path) -> tuple[FolderDriver, Generator[Progress, None, None], Path]:
        driver = FolderDriver(tmp_path / "machine")
        return driver, driver.build(read_work(job), 1), tmp_path / "machine" / f"{job.name}-1"

    def test_files_are_dropped_and_the_log_is_followed_to_its_end(self, job: Path, tmp_path: Path) -> None:
        _, following, place = self.drive(job, tmp_path)
        assert next(following).state == "running"
        assert {path.name for path in place.iterdir()} == {path.name for path in (job / "build").iterdir()}
        layers = [{"index": 0, "end_s": 10.0}, {"index": 1, "end_s": 20.0, "alarms": ["oxygen"]}]
        write_atomic(place / LOG, json.dumps({"state": "running", "seconds": 20.0, "layers": layers}).encode())
        seen = next(following)
        assert [(one.index, one.alarms) for one in seen.layers] == [(0, ()), (1, ("oxygen",))]
        write_atomic(place / LOG, json.dumps({"state": "done", "seconds": 30.0, "layers": layers}).encode())
        last = next(following)
        assert (last.state, last.seconds, last.layers) == ("done", 30.0, ())
        assert list(following) == []
        assert not (place / STOP).exists()

    def test_a_machine_is_told_to_stop_and_gets_nothing_else_until_it_says_that_it_did(self, job: Path, tmp_path: Path) -> None:
        driver, following, place = self.drive(job, tmp_path)
        next(following)
        following.close()
        assert (place / STOP).is_file()
        with pytest.raises(MachineError, match="has not ended"):
            next(driver.build(read_work(job), 2))
        write_atomic(place / LOG, b'{"state": "failed"}')
        assert next(driver.build(read_work(job), 2)).state == "running"

    def test_a_log_that_is_none_is_refused(self, job: Path, tmp_path: Path) -> None:
        _, following, place = self.drive(job, tmp_path)
        next(following)
        write_atomic(place / LOG, b'{"state": "melting"}')
        with pytest.raises(MachineError, match="state"):
            next(following)


class TestWithdrawn:
    def test_the_last_list_counts_while_the_site_cannot_be_reached(self, job: Path, keys: Path, tmp_path: Path) -> None:
        site, cell = keys.parent, tmp_path / "cell"
        cell.mkdir()
        assert withdrawn_jobs(cell, tmp_path / "nowhere", keys) == ()
        one = WithdrawnJob(job=job.name, sums_sha256="0" * 64, case="demo-0001", what="cancelled", when=NOW)
        publish_withdrawn(site, (one,))
        try:
            assert withdrawn_jobs(cell, site, keys) == (one,)
            assert withdrawn_jobs(cell, tmp_path / "nowhere", keys) == (one,)
            (tmp_path / "damaged.json").write_text("{}")
            assert withdrawn_jobs(cell, tmp_path / "damaged.json", keys) == (one,)
            assert withdrawn_jobs(cell, None, keys) == (one,)
        finally:
            shutil.rmtree(site / "outbox")

    @pytest.mark.parametrize("named", [False, True])
    def test_a_cell_to_which_nobody_says_what_was_withdrawn_says_so_at_its_start_and_in_its_record(
        self, named: bool, job: Path, keys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "cell-1"
        folder.mkdir()
        write_settings(folder, speed=FAST)
        dispatch(job, tmp_path / "inbox")
        cell = _agent(folder, tmp_path / "inbox", keys, keys.parent / "outbox" / "withdrawn.json" if named else None)
        assert (UNASKED in caplog.text) == (not named)
        cell.step()
        (started,) = [one for one in read_chain(cell.records / f"{job.name}-1" / EVENTS).events if one.what == PRINT_STARTED]
        assert started.meaning == ("" if named else UNASKED)


class TestReports:
    def test_a_site_that_cannot_be_reached_hears_everything_later_in_its_order(
        self, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        heard: list[Report] = []
        reached = False

        def deliver(report: Report) -> None:
            if not reached:
                raise MachineError("the network is cut")
            heard.append(report)

        cell = make_cell(tmp_path, job, keys, deliver=deliver)
        cell.step()
        assert heard == []
        reached = True
        sign_all(cell, cell.records / f"{job.name}-1")
        cell.close_records()
        wanted = ["print-started", "print-done", "post-processing-done", "inspection-done"]
        assert [(one.case, one.job, one.step) for one in heard] == [("demo-0001", job.name, step) for step in wanted]
        assert cell.reports.send() == 0
        assert len(heard) == len(wanted)

    def test_a_site_that_goes_away_while_it_is_told_has_refused_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site = tmp_path / "site"
        (site / "cases").mkdir(parents=True)

        def gone(*_: object, **__: object) -> bool:
            (site / "cases").rmdir()
            raise InputError("case c-1 is not known at this site")

        monkeypatch.setattr(case_workshop, "record_step", gone)
        reports = Reports(tmp_path / "reports", told_to(site))
        reports.put(Report("c-1", "0123456789abcdef", "print-done", "cell-1"))
        assert reports.send() == 1
        assert reports.send() == 1
        assert not (tmp_path / "reports" / "refused").exists()
        monkeypatch.undo()
        (site / "cases").mkdir()  # it is there, and does not know the case
        assert Reports(tmp_path / "reports", told_to(site)).send() == 0
        assert len(list((tmp_path / "reports" / "refused").iterdir())) == 1

    def test_of_a_site_that_cannot_be_reached_nothing_is_made_anew(self, job: Path, keys: Path, tmp_path: Path) -> None:
        cell = make_cell(tmp_path, job, keys, shelf=tmp_path / "site" / "records")
        cell.step()
        sign_all(cell, cell.records / f"{job.name}-1")
        (whole,) = cell.close_records()
        assert not (tmp_path / "site").exists()
        (tmp_path / "site").mkdir()
        cell.close_records()
        assert verify_record(tmp_path / "site" / "records" / f"{job.name}-1", allowed=None) == whole

    def test_while_it_cannot_be_read_who_signs_nothing_is_taken_and_nothing_closed(
        self, job: Path, keys: Path, tmp_path: Path
    ) -> None:
        cell = make_cell(tmp_path, job, keys)
        cell.signers = tmp_path / "gone"
        assert not cell.step()
        assert cell.inbox.entry(job.name).state == "waiting"
        cell.signers = keys
        assert cell.step()
        sign_all(cell, cell.records / f"{job.name}-1")
        cell.signers = tmp_path / "gone"
        assert cell.close_records() == ()
        cell.signers = keys
        assert [one.verdict for one in cell.close_records()] == ["released"]

    def test_a_report_that_a_crash_cut_off_is_swept_away(self, job: Path, keys: Path, tmp_path: Path) -> None:
        cell = make_cell(tmp_path, job, keys, deliver=lambda report: None)
        (cell.folder / "reports" / ".00000000000000000001.json.part").write_bytes(b"{")
        cell.resume()
        assert list((cell.folder / "reports").iterdir()) == []

    def test_what_the_site_refuses_for_good_is_put_aside_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        heard: list[Report] = []

        def deliver(report: Report) -> None:
            if report.step == "print-started":
                raise InputError("the released job is another one")
            heard.append(report)

        reports = Reports(tmp_path, deliver)
        for step in ("print-started", "print-started", "print-done"):
            reports.put(Report("c-1", "0123456789abcdef", step, "cell-1"))
        assert [one.step for one in heard] == []
        assert reports.send() == 0
        assert [one.step for one in heard] == ["print-done"]
        (aside,) = (tmp_path / "refused").iterdir()
        assert "another one" in json.loads(aside.read_bytes())["refused"]


class TestShelf:
    def test_a_record_that_is_gone_changed_or_half_is_found_by_the_audit(self, job: Path, keys: Path, tmp_path: Path) -> None:
        site = tmp_path / "site"
        site.mkdir()
        cell = make_cell(tmp_path, job, keys, shelf=site / "records")
        cell.step()
        sign_all(cell, cell.records / f"{job.name}-1")
        for _ in range(2):
            cell.close_records()
        record = site / "records" / f"{job.name}-1"
        assert [event.what for event in read_chain(site / EVENTS).events] == [f"record {record.name}: shelved"]
        assert [fault for trail in audit_site(site) for fault in trail.faults] == []
        kept = (record / RECORD).read_bytes()
        (record / RECORD).write_bytes(kept + b" ")
        assert [fault.file for trail in audit_site(site) for fault in trail.faults] == [f"records/{record.name}"]
        (record / RECORD).write_bytes(kept)
        with (record / "SHA256SUMS").open("ab") as sums:
            sums.write(b"0" * 64 + b"  x\n")
        faults = [fault.text for trail in audit_site(site) for fault in trail.faults]
        assert faults[0] == f"record {record.name} is another one than was shelved"
        shutil.rmtree(record)
        (fault,) = [fault for trail in audit_site(site) for fault in trail.faults]
        assert (fault.file, fault.line) == (EVENTS, 1)
        assert "is not there" in fault.text
        cell.close_records()  # its cell brings it again
        assert [fault for trail in audit_site(site) for fault in trail.faults] == []


class TestTrace:
    def test_what_went_into_a_device_is_told_after_its_case_is_gone(self, job: Path, keys: Path, tmp_path: Path) -> None:
        site = tmp_path / "site"
        site.mkdir()
        cell = make_cell(tmp_path, job, keys, shelf=site / "records")
        cell.step()
        sign_all(cell, cell.records / f"{job.name}-1")
        (whole,) = cell.close_records()
        case = whole.as_built.bodies[0].case
        places = (f"cases/{case}", f"cases/{case}/revisions/0001", f"removed/{case}.0123456789ab")
        for place in places:
            (site / place / "job" / job.name).mkdir(parents=True)
            shutil.copy2(job / "job.json", site / place / "job" / job.name)
            (found,) = trace(case, site, [site / "records"]).devices
            assert [one.digest for one in found.sources] == [json.loads((job / "job.json").read_bytes())["scan_sources_digest"]]
            shutil.rmtree(site / place.split("/")[0])
        (found,) = trace(case, site, [site / "records"]).devices
        assert [one.digest for one in found.sources] == [""]

    def test_of_a_plate_each_case_is_told_with_its_own_scan(self, job: Path, keys: Path, tmp_path: Path) -> None:
        site = tmp_path / "site"
        site.mkdir()
        cell = make_cell(tmp_path, job, keys, shelf=site / "records")
        cell.step()
        record = cell.records / f"{job.name}-1"
        built = read_as_built(record)
        cases = ("case-m", "case-n")
        bodies = [
            built.bodies[0].model_copy(update={"case": case, "job": letter * 16})
            for case, letter in zip(cases, "ab", strict=True)
        ]
        (record / AS_BUILT).write_bytes(built.model_copy(update={"bodies": tuple(bodies)}).to_bytes())
        sign_all(cell, record)
        cell.close_records()
        for number, body in enumerate(bodies, start=1):
            folder = site / "cases" / body.case
            (folder / "job" / body.job).mkdir(parents=True)
            told = {"dicom": {"images": number}, "scan_sources_digest": str(number) * 64}
            (folder / "job" / body.job / "job.json").write_text(json.dumps(told))
            (folder / "intake").mkdir()
            names = {"instance_uids": [f"1.2.3.4.{number}"], "study_instance_uid": f"1.2.3.5.{number}"}
            (folder / "intake" / "identity.json").write_text(json.dumps(names))

        def of(key: str) -> list[tuple[str, int | None]]:
            (found,) = trace(key, site, [site / "records"]).devices
            return [(one.case, one.images) for one in found.sources]

        for number, body in enumerate(bodies, start=1):
            for key in (body.case, body.job, f"1.2.3.4.{number}", f"1.2.3.5.{number}"):
                assert of(key) == [(body.case, number)], key
        assert of("TEST-1") == [("case-m", 1), ("case-n", 2)]
        assert trace("1.2.3.4.2", site, [site / "records"]).found_as == ("image of a scan",)
        assert trace("1.2.3.4.3", site, [site / "records"]).devices == ()
        shown = CliRunner().invoke(app, ["trace", "case-n", "--site", str(site)]).stdout
        assert ("from      2 images" in shown, "from      1 images" in shown) == (True, False)
        schema = json.loads((Path(findings.__file__).parent / "schemas" / "trace.schema.json").read_bytes())
        for key, images in (("case-n", 2), ("TEST-1", None)):
            tree = json.loads(CliRunner().invoke(app, ["trace", key, "--site", str(site), "--json"]).stdout)
            jsonschema.validate(tree, schema)
            assert tree["devices"][0]["images"] == images

    def test_a_record_is_found_by_whatever_went_into_it(self, job: Path, keys: Path, tmp_path: Path) -> None:
        (tmp_path / "site").mkdir()
        cell = make_cell(tmp_path, job, keys, shelf=tmp_path / "site" / "records")
        cell.step()
        sign_all(cell, cell.records / f"{job.name}-1")
        (whole,) = cell.close_records()
        plain = whole.udi.replace("[21]", "\x1d21").replace("[", "").replace("]", "")
        day = f"{TODAY}..{TODAY}"
        for key in ("demo-0001", job.name, f"{job.name}-1", "TEST-1", "TWIN-cell-1", "tester", whole.udi, plain, day):
            found = trace(key, tmp_path / "site", [tmp_path / "site" / "records"])
            assert [one.record for one in found.devices] == [whole], key
        for prefix in ("]d2", "]C1"):
            assert trace(prefix + plain, tmp_path / "site", [tmp_path / "site" / "records"]).found_as == ("UDI",)
        assert trace("TEST-1", tmp_path / "site", [tmp_path / "site" / "records"]).found_as == ("lot",)
        for key in (
            "2",
            "]d2",
            "]d2" + plain[1:],
            "demo-000",
            "TEST-2",
            f"{TODAY + DAY}..{TODAY + 9 * DAY}",
            f"{TODAY - 9 * DAY}..{TODAY - DAY}",
            "1.2.3.4",
        ):
            assert trace(key, tmp_path / "site", [tmp_path / "site" / "records"]).devices == ()
        with pytest.raises(InputError, match="no date"):
            trace("yesterday..today", tmp_path / "site", [])

    def test_a_record_that_cannot_be_read_is_told(self, job: Path, keys: Path, tmp_path: Path) -> None:
        (tmp_path / "records" / "x-1").mkdir(parents=True)
        (tmp_path / "records" / "x-1" / RECORD).write_text("{}")
        assert trace("TEST-1", tmp_path, [tmp_path / "records"]).unread[0].startswith("x-1: ")


class TestLabel:
    def test_check_digits_are_those_of_gs1(self) -> None:
        assert [check_digit(one) for one in ("0950600013435", "629104150021")] == [2, 3]

    def test_a_label_reads_back_and_a_wrong_check_digit_is_refused(self) -> None:
        produced = dt.date(2026, 11, 30)
        elements = element_string(gtin="09506000134352", produced=produced, lot="A-1", serial="0123456789abcdef-1")
        assert elements == "[01]09506000134352[11]261130[10]A-1[21]0123456789abcdef-1"
        with Image.open(io.BytesIO(datamatrix_png(elements))) as picture:
            found = zxingcpp.read_barcodes(np.asarray(picture))
        assert [(one.content_type, one.symbology_identifier) for one in found] == [(zxingcpp.ContentType.GS1, "]d2")]
        assert found[0].bytes == b"01095060001343521126113010A-1\x1d210123456789abcdef-1"
        with pytest.raises(ValueError, match="check digit 3, must be 2"):
            element_string(gtin="09506000134353", produced=produced, lot="A-1", serial="1")
        for lot in ("", "x" * 21, "a b", "a[1]"):
            with pytest.raises(ValueError, match="set 82"):
                element_string(gtin=None, produced=produced, lot=lot, serial="1")

    @pytest.mark.parametrize("broken", ["nothing", "two", "another lot", "no GS1"])
    def test_a_label_that_does_not_read_as_it_should_is_not_used(self, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
        elements = element_string(gtin=None, produced=TODAY, lot="A-1", serial="1")
        real = zxingcpp.read_barcodes

        def reader(pixels: np.ndarray) -> list[object]:
            (found,) = real(pixels)
            told = {"text": found.text, "content_type": found.content_type, "bytes": found.bytes}
            if broken == "another lot":
                told["bytes"] = found.bytes.replace(b"A-1", b"A-2")
            elif broken == "no GS1":
                told["content_type"] = zxingcpp.ContentType.Text
            return [SimpleNamespace(**told)] * {"nothing": 0, "two": 2}.get(broken, 1)

        monkeypatch.setattr(zxingcpp, "read_barcodes", reader)
        with pytest.raises(MachineError, match="the label reads"):
            datamatrix_png(elements)


class TestSettings:
    def test_a_wrong_key_is_refused_by_name(self, tmp_path: Path) -> None:
        write_settings(tmp_path, speed=1.0)
        assert read_cell_settings(tmp_path).lots[0].lot == "TEST-1"
        text = (tmp_path / SETTINGS).read_text()
        (tmp_path / SETTINGS).write_text(text.replace("serial", "serial_number"))
        with pytest.raises(MachineError, match="serial_number"):
            read_cell_settings(tmp_path)
        (tmp_path / SETTINGS).unlink()
        with pytest.raises(MachineError, match="cannot be read"):
            read_cell_settings(tmp_path)


def write_settings(folder: Path, *, speed: float) -> None:
    today = dt.datetime.now(dt.UTC).date()
    facts = ", ".join(f'"{key}" = "{value}"' for key, value in FACTS.items())
    (folder / SETTINGS).write_text(
        f'name = "cell-1"\nmachine = "sim-01"\nserial = "TWIN-1"\ndriver = "twin"\n'
        f'[[lots]]\nmaterial = "Ti-6Al-4V ELI"\nlot = "TEST-1"\nexpires = {today}\nfacts = {{{facts}}}\n'
        f'[[calibrations]]\nname = "laser power"\ndone = {today}\ndue = {today}\n[twin]\nspeed = {json.dumps(speed)}\n'
    )


def wait_for(there: object, run: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120.0
    while not there():  # type: ignore[operator]
        assert run.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
