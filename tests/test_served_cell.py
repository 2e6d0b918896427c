"""A cell that reaches its site over the server, a process of its own: one winner, digests proved, waits and catches up."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cell_storm import released_case
from small_job import make_job

import batchone.factory.site_link as site_link
from batchone.factory.dispatch import RECORDS
from batchone.factory.inbox import MOST_ATTEMPTS, PRINTS, ClaimLost, Entry, Unreachable
from batchone.factory.record import AS_BUILT, AsBuilt, close, open_steps, sign_step, verify_record
from batchone.factory.reports import REMAKE, Report
from batchone.factory.served_inbox import ServedInbox
from batchone.factory.settings import Lot
from batchone.factory.site_link import SiteLink
from batchone.factory.zip_folder import pack, unpack
from batchone.pipeline.case_workshop import remake
from batchone.pipeline.cli import app
from batchone.pipeline.config import ServerSettings
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.events import CASES, EVENTS, read_chain
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.signature import DEMONSTRATOR, KEYS, approval_key, release_key, write_allowed_signers
from batchone.pipeline.serve.accounts import Account
from batchone.pipeline.serve.services import make_services
from batchone.pipeline.store import sha256_file

NOW = dt.datetime(2026, 11, 30, 8, 0, tzinfo=dt.UTC)
CASE, PLATED = "net-0001", "net-0002"
WAIT_S = 120.0


class Served:
    """A site and the process of its server, on one port however often it is started."""

    def __init__(self, site: Path, port: int) -> None:
        self.site, self.url = site, f"http://127.0.0.1:{port}"
        self._port, self._process = port, None
        self.tokens: dict[str, str] = {}

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = ("serve", "--site", str(self.site), "--no-worker", "--port", str(self._port))
        self._process = subprocess.Popen([sys.executable, "-m", "batchone.pipeline", *words], stderr=subprocess.DEVNULL)
        until(self._answers)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def link(self, name: str) -> SiteLink:
        """As the cell of that name."""
        return SiteLink(self.url, self.tokens[name])

    def inbox(self, name: str, folder: Path) -> ServedInbox:
        """That of a cell."""
        return ServedInbox(self.link(name), name, folder)

    def _answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self._port)) == 0


def until(so: Any, wait_s: float = WAIT_S) -> None:
    end = time.monotonic() + wait_s
    while not so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    site, keys = folder / "site", folder / "site" / KEYS
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHONE_APPROVER_PASSPHRASE", "test-passphrase-1")
        release_key(keys)
        approval_key(keys, "reviewer", passphrase="test-passphrase-1")
        write_allowed_signers(keys)
        for case in (CASE, PLATED):
            make_job(folder / case, keys, "ti64-lpbf", case=case)
            name = read_manifest((folder / case / "job.json").read_bytes()).job
            released_case(site, case, name)
            (folder / case).rename(site / CASES / case / "job" / name)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            server = Served(site, found.getsockname()[1])
        services = make_services(site, settings=ServerSettings(), clock=time.time)
        for name, role in (("cell-1", "cell"), ("cell-2", "cell"), ("cell-3", "cell"), ("code-7", "engineer")):
            services.accounts.make(Account(name, (role,)), by="tester")
            services.accounts.set_password(name, "a long password of a test")
            made = services.credentials.make_token(name, role, days=1, label="")
            assert made is not None
            server.tokens[name] = made[1]
        services.store.close()
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def job(served: Served) -> Iterator[str]:
    """The job of the first case, of which nothing was said yet; the ledger and its record are as before afterwards."""
    shutil.rmtree(served.site / RECORDS, ignore_errors=True)
    (name,) = (path.name for path in (served.site / CASES / CASE / "job").glob("*/"))
    kept = (served.site / CASES / CASE / EVENTS).read_bytes()
    yield name
    (served.site / CASES / CASE / EVENTS).write_bytes(kept)
    for path in (served.site / PRINTS / ".ledger").glob("*.json"):
        path.unlink()


def cell_folder(folder: Path, url: str, name: str, *, speed: float = 1e6) -> Path:
    """A cell with a twin, whose site is reached over the server."""
    today = dt.datetime.now(dt.UTC).date()
    folder.mkdir()
    (folder / "cell.toml").write_text(
        f'name = "{name}"\nmachine = "sim-01"\nserial = "TEST-1"\ndriver = "twin"\n[site]\nurl = "{url}"\n'
        f'[[lots]]\nmaterial = "Ti-6Al-4V ELI"\nlot = "TEST-1"\nexpires = {today}\n'
        'facts = {"powder lot" = "TEST-1", "powder supplier" = "TEST^SUPPLIER", "times sieved and used" = "2"}\n'
        f'[[calibrations]]\nname = "laser power"\ndone = {today}\ndue = {today + dt.timedelta(days=1)}\n'
        f"[twin]\nspeed = {speed}\nseed = 1\n"
    )
    return folder


def runs(served: Served, cell: Path, name: str, *words: str) -> subprocess.Popen[bytes]:
    """The process of a cell."""
    command = [sys.executable, "-m", "batchone.pipeline", "cell", "--cell", str(cell), "--signers", str(served.site / KEYS)]
    environment = os.environ | {"BATCHONE_TOKEN": served.tokens[name]}
    return subprocess.Popen([*command, *words], env=environment, stderr=subprocess.DEVNULL)


def said(served: Served, case: str = CASE) -> list[str]:
    chain = read_chain(served.site / CASES / case / EVENTS)
    assert chain.broken_line is None
    return [event.what for event in chain.events if event.what != "package done"]


def ledger(served: Served, name: str) -> dict[str, Any]:
    path = served.site / PRINTS / ".ledger" / f"{name}.json"
    return json.loads(path.read_bytes()) if path.exists() else {"state": "waiting"}


@pytest.mark.slow
def test_a_cell_waits_for_its_server_prints_without_it_and_tells_all_in_the_end(served: Served, job: str, tmp_path: Path) -> None:
    held = served.inbox("cell-2", tmp_path / "other")
    other = next(entry.name for entry in held.entries() if entry.name != job)
    assert held.claim(other, "cell-2@00000000", NOW) is not None  # so that one job is left
    served.kill()
    cell = cell_folder(tmp_path / "cell", served.url, "cell-1", speed=600.0)
    process = runs(served, cell, "cell-1")
    try:
        time.sleep(3.0)
        assert process.poll() is None  # it waits
        served.start()
        until(lambda: said(served) == ["print started"])
        served.kill()
        until(lambda: (cell / RECORDS / f"{job}-1" / "as-built.json").exists())  # it printed on
        assert ledger(served, job)["state"] == "claimed"
        served.start()
        until(lambda: ledger(served, job)["state"] == "printed")
        until(lambda: said(served) == ["print started", "print done"])
        for step in open_steps(cell / RECORDS / f"{job}-1"):
            measured = None if step.within_mm is None else 0.5 * step.within_mm
            sign_step(
                cell / RECORDS / f"{job}-1", step.number, who=DEMONSTRATOR, keys=cell / KEYS, when=NOW, measured_mm=measured
            )
        until(lambda: (served.site / RECORDS / f"{job}-1").exists() and len(said(served)) == 4)
        assert ledger(served, job)["state"] == "released"
    finally:
        process.terminate()
        process.wait()
    assert said(served) == ["print started", "print done", "post-processing done", "inspection done"]
    ours, theirs = cell / RECORDS / f"{job}-1", served.site / RECORDS / f"{job}-1"
    assert {path.name: path.read_bytes() for path in ours.glob("*.json")} == {
        p.name: p.read_bytes() for p in theirs.glob("*.json")
    }
    assert not list(served.site.glob(".record-*"))
    assert not list((cell / "reports").rglob("*.json"))
    assert job not in {entry.name for entry in held.entries()}  # what is released is offered to nobody


def test_of_cells_that_want_a_job_at_once_over_the_network_one_gets_it(served: Served, job: str, tmp_path: Path) -> None:
    inboxes = {name: served.inbox(name, tmp_path / name) for name in ("cell-1", "cell-2", "cell-3")}

    def want(number: int) -> Entry | None:
        name = f"cell-{number % 3 + 1}"
        return inboxes[name].claim(job, f"{name}@{number:08x}", NOW)

    with ThreadPoolExecutor(9) as pool:
        won = [entry for entry in pool.map(want, range(9)) if entry is not None]
    assert len(won) == 1
    mine = inboxes[won[0].cell.partition("@")[0]]
    others = next(inbox for inbox in inboxes.values() if inbox is not mine)
    assert mine.renew(won[0], NOW).attempt == 1
    for ask in (lambda: others.renew(won[0], NOW), lambda: others.settle(won[0], "printed", NOW)):
        with pytest.raises(ClaimLost):  # the account says who asks, whatever the claim says
            ask()
    assert mine.settle(won[0], "printed", NOW).state == "printed"
    with pytest.raises(MachineError, match="is not of this cell"):
        others.move(job, 1, "released")
    assert mine.move(job, 1, "released").state == "released"
    assert mine.move(job, 1, "released").state == "released"  # the answer to the first was lost


def test_a_claim_runs_out_by_the_clock_of_the_site_and_three_attempts_are_held(served: Served, job: str, tmp_path: Path) -> None:
    first, second = served.inbox("cell-1", tmp_path / "1"), served.inbox("cell-2", tmp_path / "2")
    claimed = first.claim(job, "cell-1@00000001", NOW)
    assert claimed is not None
    assert second.claim(job, "cell-2@00000002", NOW + dt.timedelta(days=1)) is None  # a cell's own clock counts for nothing
    assert first.claim(job, "cell-1@00000001", NOW) == first.entry(job)  # started again: its own
    for attempt in range(2, MOST_ATTEMPTS + 1):
        run_out(served, job)
        taken = second.claim(job, "cell-2@00000002", NOW)
        assert taken is not None
        assert taken.attempt == attempt
    with pytest.raises(ClaimLost):
        first.settle(claimed, "printed", NOW)
    run_out(served, job)
    assert first.claim(job, "cell-1@00000001", NOW) is None
    assert first.entry(job).state == "held"
    with pytest.raises(Unreachable, match="403: this is for admin or approver or engineer, not for cell"):
        first.free(job, "a person looks, not a cell")
    person = served.inbox("code-7", tmp_path / "person")
    with pytest.raises(MachineError, match="422"):
        person.free(job)  # why?
    assert person.free(job, "the blade is mended").state == "waiting"
    with pytest.raises(MachineError, match="must be held or refused"):
        person.free(job, "the blade is mended")
    events = [one for one in read_chain(served.site / EVENTS).events if one.what == f"print {job}: freed"]
    assert [(one.who, one.meaning) for one in events] == [("code-7", "the blade is mended")]


def run_out(served: Served, job: str) -> None:
    path = served.site / PRINTS / ".ledger" / f"{job}.json"
    tree = json.loads(path.read_bytes()) | {"until": "2020-01-01T00:00:00+00:00"}
    (path.parent / ".new").write_text(json.dumps(tree))
    (path.parent / ".new").rename(path)


def test_a_job_comes_whole_without_what_is_not_for_a_cell_or_not_at_all(
    served: Served, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_link, "_PAUSES_S", (0.1, 0.1))
    inbox = served.inbox("cell-1", tmp_path / "cell")
    entry = next(entry for entry in inbox.entries() if entry.name == job)
    there = served.site / CASES / CASE / "job" / job
    place = tmp_path / "work" / f"{job}-1" / job
    inbox.copy(entry, place)
    names = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    came = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert names - came == {"clinical-report.pdf"}
    assert all((place / name).read_bytes() == (there / name).read_bytes() for name in came)
    head = inbox.place(job)
    assert {path.name for path in head.iterdir()} == {"job.json", "SHA256SUMS", "SHA256SUMS.sig"}
    layers = there / "build" / "layers.cli"
    kept = layers.read_bytes()
    try:
        layers.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(MachineError, match="does not come whole"):
            inbox.copy(entry, place)
        assert not place.exists()
    finally:
        layers.write_bytes(kept)


def closed(folder: Path, name: str, attempt: int, cell: str, reason: str = "warped") -> Path:
    """A record of a failed print, closed by its cell."""
    record = folder / cell / f"{name}-{attempt}"
    record.mkdir(parents=True)
    built = AsBuilt(
        name=name, attempt=attempt, sums_sha256="0" * 64, cell=cell, machine="sim-01", serial="TEST-1", simulated=True,
        demonstration=True, bodies=(), process="ti64-lpbf", lot=Lot(material="Ti-6Al-4V ELI", lot="TEST-1", expires=NOW.date()),
        calibrations=(), started=NOW, ended=NOW, seconds=1.0, energy_kwh=0.0, layers=1, layers_built=0, alarmed=(), telemetry=(),
        telemetry_sha256=None, facts={}, facts_wanted=(), verdict="failed", reason=reason, steps=(),
    )  # fmt: skip
    (record / AS_BUILT).write_bytes(built.to_bytes())
    assert close(record, keys=folder / cell / KEYS, when=NOW, gtin=None) is not None
    return record


def brought(served: Served, record: Path, name: str) -> httpx.Response:
    """A record as a cell of that name puts it, without a look at what is there."""
    file = record.parent / f"{record.name}.zip"
    pack(record, file)
    headers = {"Authorization": f"Bearer {served.tokens[name]}"}
    return httpx.put(f"{served.url}/api/v1/records/{record.name}", content=file.read_bytes(), headers=headers, timeout=120.0)


def test_a_record_is_shelved_once_and_only_whole_and_by_the_cell_that_had_the_attempt(
    served: Served, job: str, tmp_path: Path
) -> None:
    record = tmp_path / "0123456789abcdef-1"
    record.mkdir()
    (record / "SHA256SUMS").write_text(f"{'0' * 64}  record.json\n")
    with pytest.raises(InputError, match="is not whole"):
        served.link("cell-1").shelve(record)
    mine, theirs = closed(tmp_path / "1", job, 1, "cell-1"), closed(tmp_path / "2", job, 1, "cell-2")
    assert "was that of no cell" in brought(served, mine, "cell-1").text
    inbox = served.inbox("cell-1", tmp_path / "cell-1")
    claimed = inbox.claim(job, "cell-1@00000001", NOW)
    assert claimed is not None
    inbox.settle(claimed, "waiting", NOW, "warped")
    for record, name, words in ((theirs, "cell-2", "was that of cell-1"), (mine, "cell-2", "of cell cell-1, not")):
        answer = brought(served, record, name)
        assert (answer.status_code, words in answer.text) == (409, True)
    assert not (served.site / RECORDS / mine.name).exists()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: brought(served, mine, "cell-1"), range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert verify_record(served.site / RECORDS / mine.name, allowed=None).reason == "warped"
    other = brought(served, closed(tmp_path / "3", job, 1, "cell-1", reason="torn"), "cell-1")
    assert (other.status_code, "another one lies here" in other.text) == (409, True)
    told = [event for event in read_chain(served.site / EVENTS).events if event.what == f"record {mine.name}: shelved"]
    assert [event.who for event in told if event.digest == sha256_file(mine / "SHA256SUMS")] == ["cell-1"]
    taken = served.inbox("cell-2", tmp_path / "cell-2").claim(job, "cell-2@00000002", NOW)
    assert taken is not None
    away = served.site.rename(served.site.with_name("away"))
    try:
        gone = brought(served, mine, "cell-1")
    finally:
        away.rename(served.site)
    assert (gone.status_code, gone.headers["Retry-After"]) == (503, "5")
    assert brought(served, mine, "cell-1").status_code == 200  # another attempt is under way: that one was its own
    assert not list(served.site.glob(".record-*"))


def test_a_cell_asks_for_what_it_printed_and_a_remake_that_is_told_twice_stands_once(
    served: Served, job: str, tmp_path: Path
) -> None:
    link, inbox = served.link("cell-1"), served.inbox("cell-1", tmp_path / "cell")
    claimed = inbox.claim(job, "cell-1@00000001", NOW)
    assert claimed is not None
    for step in ("print-started", "print-done", "print-done"):
        link.deliver(Report(CASE, job, step, "cell-1", machine="TEST-1", lot="TEST-1"))
    with pytest.raises(InputError, match=f"says of no attempt at {job} that cell-1 printed it"):
        link.deliver(Report(CASE, job, REMAKE, "cell-1", reason="warped"))
    inbox.settle(claimed, "printed", NOW)
    assert inbox.entry(job).printed == (1,)
    for _ in range(2):
        link.deliver(Report(CASE, job, REMAKE, "cell-1", reason="warped"))
    assert said(served) == ["print started", "print done", "remake: warped"]
    with pytest.raises(InputError, match="that cell-2 printed it"):
        served.link("cell-2").deliver(Report(CASE, job, REMAKE, "cell-2", reason="warped"))
    with pytest.raises(InputError, match=f"says of no attempt at {'0' * 16}"):
        link.deliver(Report(CASE, "0" * 16, REMAKE, "cell-1", reason="warped"))


def test_a_persons_remake_offers_the_job_again_and_a_cells_does_not(served: Served, job: str, tmp_path: Path) -> None:
    link, inbox, person = served.link("cell-1"), served.inbox("cell-1", tmp_path / "cell"), served.link("code-7")
    for attempt in (1, 2, 3):
        claimed = inbox.claim(job, "cell-1@00000001", NOW)
        assert claimed is not None
        assert claimed.attempt == attempt
        inbox.settle(claimed, "printed", NOW)
        inbox.move(job, attempt, "released")
        link.deliver(Report(CASE, job, "print-started", "cell-1"))
        link.deliver(Report(CASE, job, REMAKE, "cell-1", reason=f"told late {attempt}"))
        assert inbox.claim(job, "cell-1@00000001", NOW) is None  # a cell's word does not offer again what was released since
        link.deliver(Report(CASE, job, "print-started", "cell-1"))
        if attempt == 1:
            assert remake(served.site, CASE, who="code-9", reason="lost")  # a person's does
        else:  # also where it names the job
            person.asked("POST", f"/cases/{CASE}/remake", dict, {"reason": f"lost {attempt}", "job": job})
    assert inbox.entry(job).state == "waiting"


def test_a_cell_under_another_name_than_its_account_and_one_without_rights_take_nothing(served: Served, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"knows this cell as cell-1, cell\.toml names it cell-9"):
        ServedInbox(served.link("cell-1"), "cell-9", tmp_path).entries()
    with pytest.raises(Unreachable, match="401"):  # a token that ended is renewed: meanwhile all waits
        ServedInbox(SiteLink(served.url, "nothing"), "cell-1", tmp_path).time()
    for url in ("http://site.example", "https://site.example/path", "ftp://127.0.0.1"):
        with pytest.raises(MachineError, match="the site's address"):
            SiteLink(url, "token")


def test_status_and_free_ask_the_server(
    served: Served, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHONE_TOKEN", served.tokens["cell-1"])
    cell = cell_folder(tmp_path / "cell", served.url, "cell-1")
    with pytest.raises(SystemExit) as ended:
        app(["cell", "--cell", str(cell), "status"])
    assert ended.value.code == 0
    assert f"{job}  waiting" in capsys.readouterr().out
    with pytest.raises(InputError, match="jobs come from there"):
        app(["cell", "--cell", str(cell), "--inbox", str(tmp_path), "status"], standalone_mode=False)


def test_a_folder_travels_as_a_zip_and_no_other_zip_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "a-1"
    (folder / "steps").mkdir(parents=True)
    (folder / "steps" / "01.json").write_bytes(bytes(3000))
    pack(folder, tmp_path / "one.zip")
    unpack(tmp_path / "one.zip", tmp_path / "there" / "a-1", most_bytes=3000)
    assert (tmp_path / "there" / "a-1" / "steps" / "01.json").read_bytes() == bytes(3000)
    with pytest.raises(InputError, match="at most"):
        unpack(tmp_path / "one.zip", tmp_path / "there" / "a-1", most_bytes=2999)
    for name in ("b-1/x", "a-1", "/a-1/x", "a-1/../x", "a-1/x"):
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as made:
            made.writestr(name, b"1", zipfile.ZIP_DEFLATED if name == "a-1/x" else zipfile.ZIP_STORED)
        with pytest.raises(InputError):
            unpack(tmp_path / "other.zip", tmp_path / "other" / "a-1", most_bytes=3000)
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        unpack(tmp_path / "no.zip", tmp_path / "other" / "a-1", most_bytes=3000)
    assert not list(tmp_path.glob("x")) + list((tmp_path / "other").glob("x"))
