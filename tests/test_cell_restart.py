"""A cell that died while its machine went on, and one whose inbox cannot be reached for a while."""

from __future__ import annotations

import datetime as dt
import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_job import make_job
from test_cell import FACTS, NOW, TODAY, make_cell, settings, sign_all

import batchone.factory.inbox as inbox_module
import batchone.factory.telemetry as of_telemetry
from batchone.factory.as_built import UNMEASURED
from batchone.factory.cell import Cell
from batchone.factory.drivers.driver import Progress, Reading
from batchone.factory.drivers.folder import LOG, STOP, FolderDriver, drop
from batchone.factory.genealogy import trace
from batchone.factory.inbox import BrokenOff, ClaimLost, Entry, Inbox, Unreachable
from batchone.factory.proof import MEASURED, read_work
from batchone.factory.readiness import News, hindrance
from batchone.factory.record import read_as_built
from batchone.factory.reports import Report
from batchone.factory.telemetry import TELEMETRY, TelemetryFile, summaries
from batchone.pipeline.disk import disk
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.signature import approval_key, release_key, write_allowed_signers
from batchone.pipeline.store import write_atomic

HOUR = dt.timedelta(hours=1)
(OXYGEN,) = MEASURED


@pytest.fixture(scope="module", autouse=True)
def passphrase() -> object:
    """The one of everybody who signs here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHONE_APPROVER_PASSPHRASE", "test-passphrase-1")
        yield


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "keys"
    release_key(folder)
    approval_key(folder, "reviewer", passphrase="test-passphrase-1")
    write_allowed_signers(folder)
    return folder


@pytest.fixture(scope="module")
def job(keys: Path, passphrase: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("job") / "made"
    make_job(made, keys, "ti64-lpbf")
    return made.rename(made.with_name(read_manifest((made / "job.json").read_bytes()).job))


def of_a_folder(folder: Path, job: Path, keys: Path, heard: list[Report]) -> Cell:
    """A cell whose machine goes on without it, and measures oxygen."""
    cell = make_cell(folder, job, keys, deliver=heard.append)
    cell.driver = FolderDriver(folder / "machine")
    cell.driver.measures = (OXYGEN,)
    return cell


def dies(news: News) -> None:
    if news.kind == "printing":
        raise KeyboardInterrupt


def begun(folder: Path, job: Path, keys: Path) -> Path:
    """Where the machine has the build of a cell that died."""
    cell = of_a_folder(folder, job, keys, [])
    cell.tell = dies
    with pytest.raises(KeyboardInterrupt):
        cell.step()
    place = folder / "machine" / f"{job.name}-1"
    drop(job, place)
    return place


def test_a_print_that_is_followed_again_keeps_its_begin_and_its_lot_and_a_person_judges_what_was_not_watched(
    job: Path, keys: Path, tmp_path: Path
) -> None:
    place = begun(tmp_path, job, keys)
    layers = [{"index": n, "end_s": 10.0 * n} for n in range(read_work(job).layers)]
    (place / LOG).write_text(json.dumps({"state": "done", "seconds": 9000.0, "layers": layers}))
    heard: list[Report] = []
    again = of_a_folder(tmp_path, job, keys, heard)
    again.settings = settings(lots=({"material": "Ti-6Al-4V ELI", "lot": "NEXT", "expires": TODAY, "facts": FACTS},))
    again.now, again.shared_now = (lambda: NOW + HOUR), (lambda: NOW)
    again.resume()
    record = again.records / f"{job.name}-1"
    built = read_as_built(record)
    assert (built.verdict, built.started, built.ended, built.lot.lot) == ("printed", NOW, NOW + HOUR, "TEST-1")
    assert {(one.step, one.lot) for one in heard} == {("print-started", "TEST-1"), ("print-done", "TEST-1")}
    assert built.facts[OXYGEN] == UNMEASURED
    assert [step.number for step in built.steps if OXYGEN in step.what] == [1]
    again.now = lambda: NOW
    sign_all(again, record)
    assert [one.verdict for one in again.close_records()] == ["released"]


def test_what_is_not_what_was_begun_is_stopped_and_refused(job: Path, keys: Path, tmp_path: Path) -> None:
    place = begun(tmp_path, job, keys)
    (tmp_path / "inbox" / job.name / "parts" / "implant.stl").write_bytes(b"other")
    again = of_a_folder(tmp_path, job, keys, [])
    again.resume()
    assert (place / STOP).is_file()
    assert again.inbox.entry(job.name).state == "refused"
    assert (again.folder / "lost" / f"{job.name}-1").is_dir()
    assert not (again.records / f"{job.name}-1").exists()


def test_another_job_of_the_same_name_that_is_whole_is_not_what_was_begun(job: Path, keys: Path, tmp_path: Path) -> None:
    begun(tmp_path, job, keys)
    events = tmp_path / "cell-1" / "records" / f".{job.name}-1.part" / "events.jsonl"
    tree = json.loads(events.read_text())
    events.write_text(json.dumps({**tree, "digest": "0" * 64}) + "\n")
    again = of_a_folder(tmp_path, job, keys, [])
    again.resume()
    assert "not what was begun" in again.inbox.entry(job.name).reason


def test_what_the_machine_was_not_given_before_the_cell_died_is_proved_anew(job: Path, keys: Path, tmp_path: Path) -> None:
    cell = of_a_folder(tmp_path, job, keys, [])
    assert cell.inbox.claim(job.name, cell.identity, NOW) is not None
    (cell.records / f".{job.name}-1.part").mkdir()
    (tmp_path / "inbox" / job.name / "parts" / "implant.stl").write_bytes(b"other")
    again = of_a_folder(tmp_path, job, keys, [])
    again.resume()
    assert again.inbox.entry(job.name).state == "refused"
    assert not (tmp_path / "machine" / f"{job.name}-1").exists()


def reading(number: int, **values: float) -> Reading:
    return Reading(float(number), "exposing", number, values)


def test_readings_of_a_cell_that_died_are_in_the_file_with_those_of_the_next(tmp_path: Path) -> None:
    path = tmp_path / TELEMETRY
    first = TelemetryFile(path).__enter__()
    first.add([reading(n, oxygen_percent=0.01) for n in range(2_000)])  # it dies here
    with TelemetryFile(path) as second:
        second.add([reading(2_000, oxygen_percent=0.5)])
    with TelemetryFile(path) as third:  # it died before the file was in its record
        third.add([reading(2_001, oxygen_percent=0.02)])
    assert pq.read_table(path)["time_s"].to_pylist() == [float(n) for n in range(2_002)]
    (oxygen,) = summaries(path)
    assert (oxygen.readings, oxygen.least, oxygen.greatest, oxygen.lacking) == (2_002, 0.01, 0.5, 0)
    assert [one.name for one in tmp_path.iterdir()] == [TELEMETRY]


@pytest.mark.parametrize(("after_s", "kept"), [(59.0, 0), (60.0, 2)])
def test_readings_that_come_slowly_are_written_each_minute(after_s: float, kept: int, tmp_path: Path) -> None:
    path, now_s = tmp_path / TELEMETRY, [100.0]
    first = TelemetryFile(path, clock_s=lambda: now_s[0]).__enter__()
    first.add([reading(0, oxygen_percent=0.01)])
    now_s[0] += after_s
    first.add([reading(1, oxygen_percent=0.02)])  # it dies here
    with TelemetryFile(path):
        pass
    assert (pq.read_table(path).num_rows if path.is_file() else 0) == kept


def test_a_print_that_was_killed_is_recorded_as_far_as_its_readings_tell(job: Path, keys: Path, tmp_path: Path) -> None:
    cell = make_cell(tmp_path, job, keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_telemetry, "_ROWS", 1)
        patch.setattr(TelemetryFile, "__exit__", lambda *_: None)  # killed, it does not come to this

        def dies_at_40(news: News) -> None:
            if news.kind == "layers" and news.layer >= 40:
                raise KeyboardInterrupt

        cell.tell = dies_at_40
        with pytest.raises(KeyboardInterrupt):
            cell.step()
    again = make_cell(tmp_path, job, keys)
    again.resume()
    record = again.records / f"{job.name}-1"
    built, table = read_as_built(record), pq.read_table(record / TELEMETRY)
    assert built.verdict == "failed"
    assert built.layers_built == max(table["layer"].to_pylist()) >= 40
    assert built.seconds == pytest.approx(table["time_s"].to_pylist()[-1], abs=1e-6)
    assert built.seconds > 0.0
    assert built.energy_kwh == pytest.approx(table["energy_kwh"].to_pylist()[-1], abs=1e-6)
    assert built.energy_kwh > 0.0


def test_a_file_without_its_end_does_not_stop_the_next(tmp_path: Path) -> None:
    path = tmp_path / TELEMETRY
    writer = pq.ParquetWriter(path, pa.schema([("time_s", pa.float64())]))
    writer.write_table(pa.table({"time_s": [0.0]}))
    with TelemetryFile(path) as again:
        again.add([reading(0, oxygen_percent=0.01)])
    writer.close()
    assert summaries(path)[0].readings == 1


def test_a_value_that_readings_lack_is_told_as_such(tmp_path: Path) -> None:
    with TelemetryFile(tmp_path / TELEMETRY) as file:
        file.add([reading(0), reading(1, oxygen_percent=0.01, bed_temperature_c=200.0), reading(2, oxygen_percent=0.02)])
    told = {one.name: (one.readings, one.lacking) for one in summaries(tmp_path / TELEMETRY)}
    assert told == {"oxygen_percent": (2, 1), "bed_temperature_c": (1, 2)}


def unreadable(inbox: Inbox, name: str) -> Callable[[], None]:
    """Let a file of the ledger be none that can be read; what lets it be one again."""
    path = inbox.folder / ".ledger" / f"{name}.json"
    data = path.read_bytes()
    path.unlink()
    path.mkdir()

    def mended() -> None:
        path.rmdir()
        path.write_bytes(data)

    return mended


def test_a_ledger_that_cannot_be_read_loses_no_print(job: Path, keys: Path, tmp_path: Path) -> None:
    cell = make_cell(tmp_path, job, keys)
    mended: list[Callable[[], None]] = []
    cell.tell = lambda news: mended.append(unreadable(cell.inbox, job.name)) if news.kind == "printing" else None
    with pytest.raises(OSError, match=job.name):
        cell.step()
    mended[0]()
    again = make_cell(tmp_path, job, keys)
    again.resume()
    assert read_as_built(again.records / f"{job.name}-1").verdict == "printed"
    assert (again.inbox.entry(job.name).state, again.inbox.entry(job.name).attempt) == ("printed", 1)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOSPC])
def test_a_share_that_returns_errors_for_a_while_loses_no_print(
    code: int, job: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = make_cell(tmp_path, job, keys)

    def faulty(_path: Path, _data: bytes) -> None:
        with disk():
            raise OSError(code, "fault")

    def away(news: News) -> None:
        if news.kind == "printing":
            monkeypatch.setattr(inbox_module, "write_atomic", faulty)

    cell.tell = away
    with pytest.raises(MachineError, match="disk f"):
        cell.step()
    monkeypatch.setattr(inbox_module, "write_atomic", write_atomic)
    again = make_cell(tmp_path, job, keys)
    again.resume()
    assert again.inbox.entry(job.name).state == "printed"
    assert not (again.folder / "lost").exists()


@pytest.mark.parametrize("fault", [KeyError("name"), ValueError("no JSON"), TypeError("null")])
def test_whatever_comes_of_telling_it_a_print_that_ended_is_not_made_again(
    fault: Exception, job: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = make_cell(tmp_path, job, keys)

    def settle(*_: object) -> None:
        raise fault

    monkeypatch.setattr(cell.inbox, "settle", settle)
    with pytest.raises(type(fault)):
        cell.step()
    again = make_cell(tmp_path, job, keys)
    again.resume()
    assert (again.inbox.entry(job.name).state, again.inbox.entry(job.name).attempt) == ("printed", 1)


def test_a_site_that_hangs_does_not_hold_up_who_watches_the_machine(
    job: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "RENEW_S", 0.01)
    cell = make_cell(tmp_path, job, keys)
    asked, answered = threading.Event(), threading.Event()
    renew, main = cell.inbox.renew, threading.current_thread()

    def hangs(entry: Entry, now: dt.datetime) -> Entry:
        if threading.current_thread() is not main:
            asked.set()
            assert answered.wait(60.0)
        return renew(entry, now)

    def tell(news: News) -> None:
        if news.kind == "printing":
            assert asked.wait(60.0)
        elif news.kind == "printed":
            answered.set()

    monkeypatch.setattr(cell.inbox, "renew", hangs)
    cell.tell = tell
    assert cell.step()
    assert answered.is_set()
    assert cell.inbox.entry(job.name).state == "printed"


def test_a_claim_that_was_lost_stops_the_machine_when_its_renewal_says_so(
    job: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "RENEW_S", 0.01)
    cell, seen, told = make_cell(tmp_path, job, keys), [], list[News]()
    build, renew, lost, main = cell.driver.build, cell.inbox.renew, threading.Event(), threading.current_thread()

    def renewed(entry: Entry, now: dt.datetime) -> Entry:
        if threading.current_thread() is main:
            return renew(entry, now)
        lost.set()
        raise ClaimLost("cell-2 has it")

    def built(*given: object) -> Iterator[Progress]:
        for progress in build(*given):
            assert lost.wait(60.0)
            time.sleep(0.1)  # the renewal returns
            seen.append(progress)
            yield progress

    monkeypatch.setattr(cell.inbox, "renew", renewed)
    monkeypatch.setattr(cell.driver, "build", built, raising=False)
    cell.tell = told.append
    cell.step()
    assert len(seen) == 1
    assert told[-1].kind == "lost"
    assert (cell.folder / "lost" / f"{job.name}-1").is_dir()


def test_a_download_that_breaks_off_costs_no_attempt_and_holds_up_no_other_job(
    job: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, told = make_cell(tmp_path, job, keys), list[News]()
    cell.tell = told.append
    copy, faults = cell.inbox.copy, [BrokenOff("half of it"), Unreachable("gone"), BrokenOff("half of it")]

    def broken(entry: Entry, place: Path) -> None:
        if faults:
            raise faults.pop(0)
        copy(entry, place)

    monkeypatch.setattr(cell.inbox, "copy", broken)
    assert cell.step()
    with pytest.raises(Unreachable):
        cell.step()
    cell.resume()
    assert cell.step()
    assert cell.inbox.entry(job.name).state == "claimed"
    assert cell._due(job.name) == dt.datetime.max.replace(tzinfo=dt.UTC)  # others first
    assert cell.step()
    assert (cell.inbox.entry(job.name).state, cell.inbox.entry(job.name).attempt) == ("printed", 1)
    assert [news.kind for news in told if news.kind != "layers"] == [*["claimed"] * 4, "printing", "printed"]


def test_a_remake_is_heard_before_another_cell_may_make_the_job_again(job: Path, keys: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    reached, shelved = True, []

    def deliver(report: Report) -> None:
        if not reached:
            raise MachineError("the network is cut")
        heard.append(report.step)

    cell = make_cell(tmp_path, job, keys, deliver=deliver, shelve=lambda record: shelved.append((record.name, heard[-1])))
    cell.step()
    sign_all(cell, cell.records / f"{job.name}-1", measured_mm=9.0)
    reached = False
    for _ in range(3):
        assert cell.close_records() == ()
    assert (cell.inbox.entry(job.name).state, shelved) == ("printed", [])
    reached = True
    assert [one.verdict for one in cell.close_records()] == ["rejected"]
    assert heard == ["print-started", "print-done", "remake"]
    assert cell.inbox.entry(job.name).state == "waiting"
    assert shelved == [(f"{job.name}-1", "remake")]
    again = make_cell(tmp_path, job, keys, deliver=deliver, shelve=lambda record: shelved.append((record.name, "again")))
    again.resume()
    again.close_records()
    assert len(shelved) == 1


def test_a_closed_record_stays_though_a_person_lets_its_job_be_tried_again(job: Path, keys: Path, tmp_path: Path) -> None:
    cell = make_cell(tmp_path, job, keys)
    cell.step()
    sign_all(cell, cell.records / f"{job.name}-1", measured_mm=9.0)
    cell.inbox._write(replace(cell.inbox.entry(job.name), most=1))
    assert [one.verdict for one in cell.close_records()] == ["rejected"]
    assert cell.inbox.free(job.name).cell == ""
    make_cell(tmp_path, job, keys).resume()
    assert (cell.records / f"{job.name}-1").is_dir()
    assert not (cell.folder / "lost").exists()


@pytest.mark.parametrize("when", ["while the cell runs", "while it is stopped", "when the next attempt is under way"])
def test_a_part_that_a_person_has_made_again_before_its_steps_are_signed_ends_on_the_shelf(
    when: str, job: Path, keys: Path, tmp_path: Path
) -> None:
    heard: list[Report] = []
    site = tmp_path / "site"
    site.mkdir()
    cell = make_cell(tmp_path, job, keys, deliver=heard.append, shelf=site / "records")
    cell.step()
    assert cell.close_records() == ()
    assert cell.inbox.again(job.name, NOW + HOUR).state == "waiting"
    if when == "while it is stopped":
        cell = make_cell(tmp_path, job, keys, deliver=heard.append, shelf=site / "records")
        cell.resume()
    elif when == "when the next attempt is under way":
        assert cell.inbox.claim(job.name, "cell-2@00000002", NOW) is not None
    before = cell.inbox.entry(job.name)
    (whole,) = cell.close_records()
    assert (whole.verdict, whole.udi, cell.inbox.entry(job.name)) == ("remade", "", before)
    assert [one.step for one in heard] == ["print-started", "print-done"]  # who said so has the site know it
    assert cell.close_records() == ()
    (found,) = trace("TEST-1", site, [site / "records"]).devices  # the material is spent
    assert found.record == whole
    assert not (cell.folder / "lost").exists()


def test_what_is_measured_beyond_its_tolerance_is_rejected_also_when_it_is_to_be_made_again(
    job: Path, keys: Path, tmp_path: Path
) -> None:
    cell = make_cell(tmp_path, job, keys)
    cell.step()
    sign_all(cell, cell.records / f"{job.name}-1", measured_mm=9.0)
    cell.inbox.again(job.name, NOW + HOUR)
    assert [one.verdict for one in cell.close_records()] == ["rejected"]


def test_a_printed_job_whose_ledger_cannot_be_read_is_not_moved(job: Path, keys: Path, tmp_path: Path) -> None:
    cell = make_cell(tmp_path, job, keys)
    cell.step()
    mended = unreadable(cell.inbox, job.name)
    with pytest.raises(OSError, match=job.name):
        cell.inbox.move(job.name, 1, "waiting", "measured beyond its tolerance")
    mended()
    assert cell.inbox.move(job.name, 1, "waiting").state == "waiting"


def test_signers_on_a_share_that_returns_errors_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(_self: Path) -> bool:
        raise OSError(errno.ESTALE, "stale")

    monkeypatch.setattr(Path, "exists", faulty)
    assert "cannot be reached: stale" in hindrance(tmp_path, NOW, lambda: NOW)
