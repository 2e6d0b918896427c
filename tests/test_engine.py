"""Cases as durable workflows: killed at random they end as if nothing had been, and the folder is all that counts."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchone.design.families import packages
from batchone.pipeline.audit import audit_site
from batchone.pipeline.case_decisions import decide
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.config import EngineSettings, SiteSettings
from batchone.pipeline.engine import children
from batchone.pipeline.engine.children import Spare
from batchone.pipeline.engine.database import database_url, open_database
from batchone.pipeline.engine.heartbeat import BEAT_S, DEAD_S, Heartbeat, workers
from batchone.pipeline.engine.rebuild import rebuild
from batchone.pipeline.engine.reminders import BEFORE_DUE_H, next_reminder
from batchone.pipeline.engine.watch import ENGINE_VERSION, case_key, last_answer
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import append_event, chain_head
from batchone.pipeline.job.verify import verify_job
from batchone.pipeline.job.withdrawal import own_withdrawn
from batchone.pipeline.revisions import revisions
from batchone.samples.small_case import write_small_case
from batchone.samples.storm import answer, job_digest, storm, twice_done
from batchone.samples.storm_workers import Workers

CASE = "small-0001"
DUE = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with one case, received by parcel and run to its job folder by no engine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_small_case(folder / "sent", case=CASE)
    words = ("submit", folder / "sent" / "order.toml", folder / "sent" / "study", "--to", folder / "received")
    batchone(*words, keep=folder)
    shutil.copytree(folder / "received", folder / "site")
    case = folder / "site" / "cases" / CASE
    batchone(
        "run", case / "order.toml", "--study", case / "study", "--out", folder / "site", "--approve-as", "storm", keep=folder
    )
    return folder / "site"


def batchone(*words: object, keep: Path) -> None:
    environment = os.environ | {"BATCHONE_HOSPITAL": str(keep / "hospital")}
    command = [sys.executable, "-m", "batchone.pipeline", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def fresh(undisturbed: Path, site: Path) -> Path:
    """A site with the same keys that has just received the same case; returns the case's folder."""
    shutil.copytree(undisturbed.parent / "received", site)
    shutil.copytree(undisturbed / "keys", site / "keys")
    return site / "cases" / CASE


def until(happened: object, within_s: float) -> float:
    """Seconds until ``happened()`` is true."""
    begun = time.monotonic()
    while not happened():  # type: ignore[operator]
        assert time.monotonic() - begun < within_s, "it did not happen"
        time.sleep(0.1)
    return time.monotonic() - begun


@pytest.mark.slow
def test_twelve_kills_change_no_byte_and_no_stage_runs_twice(undisturbed: Path, tmp_path: Path) -> None:
    case = fresh(undisturbed, tmp_path / "site")
    approval = undisturbed / "cases" / CASE / "review"
    seen = storm(tmp_path / "site", CASE, approval, kills=13, seed=16)  # one more: the last stage may end before its moment
    assert not seen.wrong
    assert seen.kills.total() >= 12
    assert len(seen.within()) >= 5  # stages, of eight
    assert seen.kills["worker starting"] <= seen.aims["starting"]
    assert seen.looks > 50
    assert job_digest(case) == job_digest(undisturbed / "cases" / CASE)
    assert chain_head(case / "events.jsonl") is not None
    assert case_status(CASE, tmp_path / "site").status == "done"


@pytest.mark.slow
def test_lost_tables_are_made_anew_from_the_folder_and_the_review_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    case = fresh(undisturbed, site)
    crew = Workers(site, tmp_path / "log")
    crew.start()
    try:
        until(lambda: (case / "check" / "stage.json").exists(), 300.0)
        with pytest.raises(MachineError, match="1 workers live"):
            rebuild(site)
        until(
            lambda: open_workflows(site) == [f"{CASE}.{case_key(case)}.{ENGINE_VERSION}"], 60.0
        )  # its stages are over, it waits
        until(lambda: len(crew.victims()) == 2, 60.0)  # the worker, and the child that waits with it for a changed parameter
        ((_, spare),) = crew.victims()[1:]
        crew.kill(0)
        until(lambda: not Path(f"/proc/{spare}").exists(), 60.0)
        assert "removed" in rebuild(site)  # looks on until nobody can live any more
        crew.start()
        answer(case, undisturbed / "cases" / CASE / "review")
        until(lambda: (case / "job" / "stage.json").exists(), 300.0)
    finally:
        crew.stop()
    assert not twice_done(case)
    assert job_digest(case) == job_digest(undisturbed / "cases" / CASE)


def test_a_child_that_loaded_other_versions_than_are_installed_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare, used = Spare(tmp_path, None), []
    there = packages()
    newer = frozenset((name, f"{version}.1") for name, version in there)
    assert dict(there)["batchone"] == metadata.version("batchone")
    try:
        for seen, again in ((there, True), (newer, False), (frozenset(), False)):  # nothing: they are being replaced
            monkeypatch.setattr(children, "_packages", lambda: there)
            spare.keep()
            begun = spare.waiting
            assert begun is not None
            monkeypatch.setattr(children, "_packages", lambda seen=seen: seen)
            used.append(spare.child(CASE))
            assert (used[-1].pid == begun) is again
            assert Path(f"/proc/{begun}").exists() is again
            assert spare.waiting is None
        spare.keep()
        assert spare.waiting is None  # none begins on half of a version
    finally:
        for child in used:
            child.close()


@pytest.mark.slow
def test_a_child_that_waits_takes_the_next_case_and_a_dead_one_is_followed_by_another(undisturbed: Path, tmp_path: Path) -> None:
    site = Path(shutil.copytree(undisturbed, tmp_path / "site"))
    spare = Spare(site, None)
    spare.keep()
    waiting = spare.child(CASE)
    try:
        loaded = Path(f"/proc/{waiting.pid}/maps").read_text()
        kept = waiting.advance("check")
        assert (kept["status"], kept["stage"]) == ("going-on", "check")
    finally:
        waiting.close()
    assert "numba" not in loaded  # asked at once, it had loaded nothing in advance
    spare.keep()
    begun = spare.waiting
    assert begun is not None
    spare.keep()
    assert spare.waiting == begun
    until(lambda: "/OCP/" in Path(f"/proc/{begun}/maps").read_text(), 120.0)  # all that a changed parameter needs
    os.kill(begun, 9)
    until(lambda: spare.waiting is None, 60.0)
    child = spare.child("another")
    try:
        assert child.pid != begun
        assert child.advance("check")["status"] == "failed"  # there is no such case
    finally:
        child.close()


@pytest.mark.slow
def test_a_revised_case_waits_for_its_review_again_and_nothing_goes_on_with_a_cancelled_one(
    undisturbed: Path, tmp_path: Path
) -> None:
    site = Path(shutil.copytree(undisturbed, tmp_path / "site"))
    case = site / "cases" / CASE
    signed = {"who": "storm", "passphrase": os.environ["BATCHONE_APPROVER_PASSPHRASE"]}
    decide(site, CASE, "revise", reason="too thick", **signed)
    (old,) = (case / "revisions" / "0001" / "job").glob("[0-9a-f]*/")
    crew = Workers(site, tmp_path / "log")
    crew.start()
    try:
        until(lambda: len(revisions(case)) == 2 and len(open_workflows(site)) == 1, 300.0)  # its stages are over, it waits
        decide(site, CASE, "cancel", reason="not needed", **signed)
        until(lambda: not open_workflows(site), 60.0)
    finally:
        crew.stop()
    assert case_status(CASE, site).status == "cancelled"
    assert [(one.number, one.withdrawn) for one in revisions(case)] == [(1, True), (2, False)]
    away = Path(shutil.copytree(old, tmp_path / "away"))
    assert verify_job(away, signers=site / "keys").ok
    for job, told in ((old, ()), (away, own_withdrawn(site))):  # in the folder of its case; elsewhere, by the list
        assert [one.kind for one in verify_job(job, signers=site / "keys", withdrawn=told).problems] == ["withdrawn"]
    assert not [fault for trail in audit_site(site) for fault in trail.faults]


def open_workflows(site: Path) -> list[str]:
    """The workflows of the case that are not over."""
    with contextlib.closing(sqlite3.connect(site / "engine.sqlite", timeout=30.0)) as tables:
        try:
            found = tables.execute("SELECT workflow_uuid FROM workflow_status WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED')")
        except sqlite3.OperationalError:  # not made yet
            return []
        return [name for (name,) in found if name.startswith(f"{CASE}.")]


@pytest.mark.slow
def test_what_a_dead_worker_held_goes_on_with_another_within_a_minute(
    undisturbed: Path, tmp_path: Path, postgres_server: Any
) -> None:
    site = tmp_path / "site"
    case = fresh(undisturbed, site)
    (site / "site.toml").write_text(f'[engine]\ndatabase = "{postgres_server.url}"\n', encoding="utf-8")
    crew = Workers(site, tmp_path / "log", count=2)
    crew.start()
    try:
        until(lambda: (case / "intake" / "stage.json").exists(), 120.0)
        busy = next(slot for slot in (0, 1) if len(crew.victims_of(slot)) > 1)  # the one with a stage child
        crew.kill(busy)
        postgres_server.stop()  # and the database, for good measure
        postgres_server.start()
        taken = until(lambda: b"are taken over by" in (tmp_path / "log").read_bytes(), 60.0)
        assert taken >= DEAD_S - 2.0 * BEAT_S
        until(lambda: (case / "check" / "stage.json").exists(), 300.0)
        answer(case, undisturbed / "cases" / CASE / "review")
        until(lambda: (case / "job" / "stage.json").exists(), 300.0)
    finally:
        crew.stop()
    assert not twice_done(case)
    assert job_digest(case) == job_digest(undisturbed / "cases" / CASE)


@pytest.mark.slow
def test_a_database_that_restarts_while_a_case_runs_and_while_it_waits_costs_nothing(
    undisturbed: Path, tmp_path: Path, postgres_server: Any
) -> None:
    site = tmp_path / "site"
    case = fresh(undisturbed, site)
    (site / "site.toml").write_text(f'[engine]\ndatabase = "{postgres_server.url}"\n', encoding="utf-8")
    crew = Workers(site, tmp_path / "log")
    crew.start()
    began = crew.pids()
    try:
        until(lambda: (case / "intake" / "stage.json").exists(), 120.0)
        postgres_server.stop()
        postgres_server.start()
        until(lambda: (case / "check" / "stage.json").exists(), 300.0)
        postgres_server.stop()
        answer(case, undisturbed / "cases" / CASE / "review")  # while nobody can tell the engine
        postgres_server.start()
        until(lambda: (case / "job" / "stage.json").exists(), 300.0)
        assert crew.pids() == began  # the worker never ended
    finally:
        crew.stop()
    assert not twice_done(case)
    assert job_digest(case) == job_digest(undisturbed / "cases" / CASE)
    assert chain_head(case / "events.jsonl") is not None


def test_a_slot_has_one_worker_and_a_buried_one_hears_of_it(tmp_path: Path) -> None:
    database, watch = open_database(f"sqlite:///{tmp_path / 'engine.sqlite'}"), [100.0]
    first = Heartbeat(database, tmp_path / "locks", None, watch=lambda: watch[0])
    second = Heartbeat(database, tmp_path / "locks", None)
    assert (first.slot, second.slot) == (1, 2)
    with pytest.raises(MachineError, match="another worker lives in slot 2"):
        Heartbeat(database, tmp_path / "locks", 2)
    assert first.beat()
    assert all(one.beat_s > 0.0 for one in workers(database))
    for now, dead in ((100.0, False), (100.0 + DEAD_S, False), (100.1 + DEAD_S, True)):  # just inside, just outside
        watch[0] = now
        with database.begin() as connection:  # as if the second had not beaten since
            connection.execute(sa.text("UPDATE batchone_worker SET beat_s = 7.0 WHERE slot = 2"))
        with first.dead(2) as found:
            assert found is dead
        assert second.beat() is not dead  # who was only slow and is taken over hears of it at the next beat
    second.leave()
    third = Heartbeat(database, tmp_path / "locks", 2)
    assert third.beat()
    assert not second.beat()
    with first.dead(2) as found:
        assert not found  # another holder
    for heart in (first, third):
        heart.leave()
    assert all(one.beat_s == 0.0 for one in workers(database))
    with first.dead(2) as found:
        assert found  # it ended by itself
    database.dispose()


def test_workers_that_start_at_once_at_an_empty_database_all_work(tmp_path: Path, postgres_server: Any) -> None:
    databases = [open_database(postgres_server.url) for _ in range(6)]
    together, hearts = threading.Barrier(len(databases)), []

    def start(slot: int) -> None:
        together.wait()
        hearts.append(Heartbeat(databases[slot], tmp_path / "locks", slot + 1))

    threads = [threading.Thread(target=start, args=(slot,)) for slot in range(len(databases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heart.slot for heart in hearts) == [1, 2, 3, 4, 5, 6]
    for heart in hearts:
        heart.leave()
    for database in databases:
        database.dispose()


def test_an_outage_of_the_database_is_nobodys_silence(tmp_path: Path) -> None:
    database, watch = open_database(f"sqlite:///{tmp_path / 'engine.sqlite'}"), [100.0]
    first = Heartbeat(database, tmp_path / "locks", None, watch=lambda: watch[0])
    second = Heartbeat(database, tmp_path / "locks", None)

    def silent() -> bool:
        return first.silent(first.look()[1])

    assert not silent()
    watch[0] += DEAD_S - 1.0
    first.forget()  # it could not look
    watch[0] += 2.0
    assert not silent()
    watch[0] += DEAD_S + 0.1  # nor did it look at all
    assert not silent()
    for _ in range(2):  # two looks without a beat between them
        watch[0] += 0.6 * DEAD_S
        found = silent()
    assert found
    for heart in (first, second):
        heart.leave()
    database.dispose()


@pytest.mark.parametrize("step_s", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_clock_that_steps_an_hour_buries_nobody_and_keeps_nobody_alive(step_s: float, tmp_path: Path) -> None:
    database, watch = open_database(f"sqlite:///{tmp_path / 'engine.sqlite'}"), [100.0]
    first = Heartbeat(database, tmp_path / "locks", None, watch=lambda: watch[0])
    second = Heartbeat(database, tmp_path / "locks", None)

    def dead() -> bool:
        with first.dead(2) as found:
            return found

    assert not dead()
    watch[0] += BEAT_S
    with database.begin() as connection:  # the clock went on by so much: what was written lies that far back
        connection.execute(sa.text(f"UPDATE batchone_worker SET beat_s = beat_s - {step_s}"))
    assert not dead()
    assert [one.beat_s != 0.0 for one in workers(database)] == [True, True]  # nobody counts as ended
    watch[0] += BEAT_S
    assert second.beat()  # it lives, by the new clock
    assert not dead()
    watch[0] += DEAD_S + 0.1  # and then no more
    assert dead()
    for heart in (first, second):
        heart.leave()
    database.dispose()


def test_the_database_of_a_site_is_its_own_file_or_the_one_that_its_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database_url(tmp_path, SiteSettings()) == f"sqlite:///{tmp_path / 'engine.sqlite'}"
    monkeypatch.setenv("BATCHONE_DATABASE_PASSWORD", "secret")
    fleet = SiteSettings(engine=EngineSettings(database="postgresql://batchone@127.0.0.1:1/site"))
    assert "batchone:secret@127.0.0.1" in database_url(tmp_path, fleet)
    with pytest.raises(MachineError, match=r"does not answer") as refused:
        open_database(database_url(tmp_path, fleet))
    assert "secret" not in str(refused.value)


def test_reminders_come_before_the_due_time_at_it_and_daily_after(tmp_path: Path) -> None:
    for hours in BEFORE_DUE_H:
        at = DUE - dt.timedelta(hours=hours)
        assert next_reminder(DUE, None, now=at - dt.timedelta(seconds=5)) == pytest.approx(5.0)
    late, hour = DUE + dt.timedelta(hours=1), dt.timedelta(hours=1)
    for last in (None, DUE - 12 * hour, DUE - 2 * hour, DUE - dt.timedelta(seconds=61)):  # the one at the due time went by unseen
        assert next_reminder(DUE, last, now=late) == 1.0
    assert next_reminder(DUE, late, now=late) == 86_400.0  # told late, then daily
    assert next_reminder(DUE, DUE - dt.timedelta(seconds=59), now=DUE) == 86_341.0  # the timer was early
    assert next_reminder(DUE, DUE, now=late) == 82_800.0
    assert next_reminder(DUE, DUE, now=DUE + 30 * hour) == 1.0


def test_another_order_or_other_labels_make_another_workflow(tmp_path: Path) -> None:
    (tmp_path / "order.toml").write_text("a")
    keys = [case_key(tmp_path)]
    (tmp_path / "order.toml").write_text("b")
    keys.append(case_key(tmp_path))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "edit.json").write_text("{}")
    keys.append(case_key(tmp_path))
    (tmp_path / "events.jsonl").write_text("{}\n")
    assert len(set(keys)) == 3
    assert case_key(tmp_path) == keys[-1]


def test_the_last_answer_counts_for_the_device_that_is_there(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"

    def happened(what: str) -> None:
        append_event(events, who="code-9", what=what, when=DUE.isoformat())

    assert last_answer(tmp_path) is None
    (tmp_path / "check").mkdir()
    (tmp_path / "check" / "stage.json").write_text(json.dumps({"value_digest": "d1"}))
    happened("check done")
    assert last_answer(tmp_path) is None
    happened("returned: too thick")
    returned = last_answer(tmp_path)
    assert returned is not None
    assert returned["kind"] == "returned"
    happened("check done")
    assert last_answer(tmp_path) is None
    (tmp_path / "review").mkdir()
    record = {"taken": {"CheckedDevice": "d0"}, "value_digest": "a"}
    (tmp_path / "review" / "stage.json").write_text(json.dumps(record))
    assert last_answer(tmp_path) is None  # of an earlier device
    record["taken"] = {"CheckedDevice": "d1"}
    (tmp_path / "review" / "stage.json").write_text(json.dumps(record))
    assert last_answer(tmp_path) == {"kind": "approved", "digest": "a"}
