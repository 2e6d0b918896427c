"""A site under load: cases through a server and its workers, status clients, a large upload; then two workers beside one.

    python -m benchmarks.load [--cases 200] [--clients 500] [--workers 2] [--paired 8] [--megabytes 500] [--every 2]
    python -m benchmarks.load --cases 4 --paired 4      a few minutes on two cores

In use: so many small cases are submitted to ``batchone serve``, one after the other, and run by workers on PostgreSQL, on one
thread each; a reviewer approves each over the server as soon as it waits. Meanwhile every client asks for the state of one case
each ``--every`` seconds, and names the state that it knows already; cases of which records alone are there make them 200. With
the first case under way, a parcel of ``--megabytes`` of random bytes is uploaded (the intake refuses it at its end). Printed: how
long the answers took, alone, beside cases, and beside the upload; the server's memory over time; what one case costs: processor
time, writes of the database, files, network. What the database does where nothing happens is measured at the end, and taken off.

Two beside one: cases that were received before, with the same answers of the reviewer, are run by one worker and then by all,
each pinned to one core with its stage children. Time runs from when the workers are ready to the last job. Printed: cases per
hour, and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from batchone.design.families.anatomical_model import ANATOMICAL_MODEL
from batchone.pipeline.hospital.deliver import deliver
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.hospital.parcel import Parcel, pack
from batchone.pipeline.hospital.receive import take_in
from batchone.pipeline.hospital.upload import Server, upload
from batchone.pipeline.serve.rights import API
from batchone.samples.small_case import ORDER, write_small_case
from batchone.samples.storm import answer
from batchone.samples.storm_workers import Workers
from benchmarks.database import Written, emptied, postgres, written
from benchmarks.serve import (
    PASSWORD,
    Asked,
    after,
    ask,
    memory_mb,
    processor_s,
    serving,
    standing_cases,
    times,
    tokens,
    upload_large,
)

BOARD = 200  # cases that clients ask for, at least
IDLE_S = 10.0
LAG_S = 2.0  # how long counts of the database may lag
CASE_S = 1800.0  # of one worker for one case: later something has gone wrong
SETTINGS = '[engine]\ndatabase = "{url}"\nthreads = 1\n'
Stopped = Callable[[], bool]


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--cases", type=int, default=200)
    given.add_argument("--clients", type=int, default=500)
    given.add_argument("--workers", type=int, default=2)
    given.add_argument("--paired", type=int, default=8, help="cases of the comparison, of those in use; 0: none")
    given.add_argument("--megabytes", type=int, default=500)
    given.add_argument("--every", type=float, default=2.0)
    options = given.parse_args()
    with tempfile.TemporaryDirectory() as name, postgres() as url:
        folder = Path(name)
        parcels = _parcels(folder, options.cases)
        _in_use(folder / "site", url, parcels, options)
        if options.paired:
            _beside(folder, url, parcels[: options.paired], options.workers)


def _parcels(folder: Path, count: int) -> list[Parcel]:
    """One study under many orders, as a hospital would pack them."""
    _, study = write_small_case(folder / "sent")
    keep, found = Keep.open(folder / "keep"), []
    for number in range(count):
        order = folder / "sent" / f"order-{number}.toml"
        order.write_text(ORDER.format(case=f"small-{number:04d}"), encoding="utf-8")
        found.append(pack(study, keep, order=order))
    return found


@dataclass
class Overseer:
    """Looks each half second at jobs and at the server's memory; ``ended`` once all jobs are there, or something failed."""

    jobs: list[Path]
    pid: int
    before_mb: float
    hands: list[Future[Any]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    memory_mb: list[float] = field(default_factory=list)

    def look(self, most_s: float) -> None:
        """Look until the end."""
        stop = after(most_s)
        try:
            while not all(job.exists() for job in self.jobs):
                self.memory_mb.append(memory_mb(self.pid, "VmRSS:"))
                broken = [hand for hand in self.hands if hand.done() and hand.exception() is not None]
                if broken or stop():
                    raise SystemExit(f"not all cases ended: {broken[0].exception() if broken else 'too slow'}")
                time.sleep(0.5)
        finally:
            self.ended.set()

    def told(self) -> str:
        """The memory, in words."""
        over_time = " ".join(f"{one:.0f}" for one in self.memory_mb[:: max(len(self.memory_mb) // 10, 1)])
        peak = memory_mb(self.pid, "VmHWM:")
        return f"{self.before_mb:.0f} MB before, {peak:.0f} at most, {peak - self.before_mb:.0f} more (<= 200); seen {over_time}"


def _in_use(site: Path, url: str, parcels: list[Parcel], options: argparse.Namespace) -> None:
    site.mkdir()
    (site / "site.toml").write_text(SETTINGS.format(url=url), encoding="utf-8")
    ids = [parcel.case for parcel in parcels]
    board = standing_cases(site, max(BOARD - len(ids), 0)) + ids
    ward, surgeon = tokens(site, hospital="ward", approver="surgeon")
    crew = Workers(site, site.parent / "workers.log", count=options.workers)
    with serving(site, "--no-worker") as (pid, port):
        crew.start()
        try:
            _until(lambda: _ready(site.parent / "workers.log", options.workers), 120.0)
            asyncio.run(ask(port, ward, board, len(board), 1.0, after(LAG_S)))  # every case was read once
            computed_s = processor_s(pid)
            alone = asyncio.run(ask(port, ward, board, options.clients, options.every, after(IDLE_S)))
            computed_s = processor_s(pid) - computed_s
            print(f"status alone: {options.clients} clients, each every {options.every:g} s, of {len(board)} cases")
            print(f"  {times(alone)}; {computed_s / max(len(alone), 1) * 1e3:.2f} ms computed for an answer")
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            overseer = Overseer([site / "cases" / case / "job" / "stage.json" for case in ids], pid, memory_mb(pid, "VmRSS:"))
            before, began = written(url), time.perf_counter()
            used = [processor_s(one, children=True) for one in (*crew.pids(), pid)]
            with ThreadPoolExecutor(4) as hands, ProcessPoolExecutor(1) as sender:
                large = hands.submit(_large, sender, site, ids, port, ward, options.megabytes)
                overseer.hands += [
                    hands.submit(_submit, port, ward, parcels),
                    hands.submit(_review, port, surgeon, site, ids, overseer.ended.is_set),
                    large,
                ]
                watching = hands.submit(overseer.look, CASE_S * len(ids))
                answers = asyncio.run(ask(port, ward, board, options.clients, options.every, overseer.ended.is_set))
                watching.result()
            seconds = time.perf_counter() - began
            time.sleep(LAG_S)
            used = [processor_s(one, children=True) - was for one, was in zip((*crew.pids(), pid), used, strict=True)]
            cost, idle = written(url).since(before), _at_rest(url)
            _told_in_use(answers, large.result(), overseer, seconds, options)
            _told_cost(site, parcels, used, cost.without(idle, seconds), idle, answers, _job_bytes(port, surgeon, ids[0]))
        finally:
            crew.stop()


def _at_rest(url: str) -> Written:
    """What the database writes in a second where no case runs."""
    before, began = written(url), time.perf_counter()
    time.sleep(IDLE_S)
    return written(url).since(before).each(time.perf_counter() - began)


def _submit(port: int, token: str, parcels: list[Parcel]) -> None:
    for parcel in parcels:
        upload(parcel, Server(f"http://127.0.0.1:{port}", token))


def _review(port: int, token: str, site: Path, ids: list[str], stopped: Stopped) -> None:
    """Approve each case over the server as soon as it waits for it."""
    waiting = set(ids)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}{API}", headers=headers, timeout=600.0) as client:
        while waiting and not stopped():
            for case in sorted(case for case in waiting if (site / "cases" / case / "check" / "stage.json").exists()):
                device = client.get(f"/cases/{case}").raise_for_status().json()["device"]
                told = {
                    "answer": "approve",
                    "device": device,
                    "password": PASSWORD,
                    "checked": list(ANATOMICAL_MODEL.limits.checklist),
                }
                said = client.post(f"/cases/{case}/review", json=told)
                if said.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                    continue  # its stages hold it still
                if said.is_error:
                    raise RuntimeError(f"{case} is not approved: HTTP {said.status_code}: {said.text}")
                waiting.remove(case)
            time.sleep(0.5)


def _large(sender: ProcessPoolExecutor, site: Path, ids: list[str], port: int, token: str, megabytes: int) -> tuple[float, float]:
    """Upload a large parcel while the first case runs; returns when it began and when it was over."""
    _until(lambda: any((site / "cases" / case / "intake" / "stage.json").exists() for case in ids), CASE_S)
    began = time.perf_counter()
    sender.submit(upload_large, port, token, megabytes).result()
    return began, time.perf_counter()


def _told_in_use(
    answers: list[Asked], large: tuple[float, float], overseer: Overseer, seconds: float, options: argparse.Namespace
) -> None:
    began, ended = large
    beside = [one for one in answers if began <= one.began <= ended]
    known = sum(one.status == 304 for one in answers) / max(len(answers), 1)
    print(f"\nin use: {options.cases} cases, {options.workers} workers, {seconds:.0f} s, {len(answers) / seconds:.0f} answers/s")
    print(f"  status: {times(answers)} (p95 <= 100 ms); {known:.0%} were known")
    print(f"  status beside the upload: {times(beside)}")
    rate = options.megabytes / (ended - began)
    print(f"  upload: {options.megabytes} MB in {ended - began:.1f} s, {rate:.0f} MB/s with the sender's digest")
    print(f"  memory of the server: {overseer.told()}")


def _told_cost(
    site: Path, parcels: list[Parcel], used: list[float], cost: Written, idle: Written, answers: list[Asked], job_bytes: int
) -> None:
    count = len(parcels)
    each, kept = cost.each(count), [_kept(site / "cases" / parcel.case) for parcel in parcels]
    print(f"\none case, of {count}")
    print(
        f"  processor: {sum(used[:-1]) / count:.1f} s of workers, {used[-1] / count:.1f} s of the server with status and intake"
    )
    print(f"  database: {each.rows:.0f} rows written, {each.log_bytes / 1e3:.0f} kB of log, {each.table_bytes / 1e3:.0f} kB kept")
    rest = f"{idle.transactions:.1f} transactions, {idle.rows:.2f} rows written, {idle.log_bytes / 1e3:.2f} kB of log"
    print(f"  database at rest, each second: {rest}")
    print(f"  site: {sum(one for one, _ in kept) / count / 1e6:.1f} MB in {sum(two for _, two in kept) / count:.0f} files")
    status = sum(one.bytes for one in answers) / max(len(answers), 1)
    moved = f"{parcels[0].bytes / 1e6:.2f} MB of parcel in, {job_bytes / 1e6:.2f} MB of job out"
    print(f"  network: {moved}, {status:.0f} bytes a status")


def _kept(case: Path) -> tuple[int, int]:
    """Bytes and files of a case; a file with two names counts once."""
    found = {(status.st_ino): status.st_size for path in case.rglob("*") if path.is_file() for status in (path.stat(),)}
    return sum(found.values()), len(found)


def _job_bytes(port: int, token: str, case: str) -> int:
    answered = httpx.get(
        f"http://127.0.0.1:{port}{API}/cases/{case}/job", headers={"Authorization": f"Bearer {token}"}, timeout=600.0
    )
    return len(answered.raise_for_status().content)


def _beside(folder: Path, url: str, parcels: list[Parcel], workers: int) -> None:
    """The same cases by one worker and by all of them; the reviews of the first site count here too, for keys are the same."""
    for parcel in parcels:
        deliver(parcel, folder / "received")
    take_in(folder / "received")
    rates = {}
    for count in (1, workers):
        emptied(url)
        site, log = folder / f"paired-{count}", folder / f"paired-{count}.log"
        shutil.copytree(folder / "received", site)
        shutil.copytree(folder / "site" / "keys", site / "keys")
        (site / "site.toml").write_text(SETTINGS.format(url=url), encoding="utf-8")
        (site / "cases").rename(site / "ready")
        crew = Workers(site, log, count=count, pinned=True)
        crew.start()
        try:
            _until(lambda log=log, count=count: _ready(log, count), 120.0)  # type: ignore[misc]
            used, began = sum(processor_s(one, children=True) for one in crew.pids()), time.perf_counter()
            (site / "ready").rename(site / "cases")
            cases = [site / "cases" / parcel.case for parcel in parcels]
            _until(lambda cases=cases: _answered(cases, folder / "site"), CASE_S * len(cases))  # type: ignore[misc]
            seconds = time.perf_counter() - began
            time.sleep(LAG_S)  # its last child is waited for
            used = sum(processor_s(one, children=True) for one in crew.pids()) - used
        finally:
            crew.stop()
        rates[count] = len(parcels) / seconds * 3600.0
        print(
            f"\n{count} pinned to one core each: {len(parcels)} cases in {seconds:.0f} s, {rates[count]:.0f} an hour; "
            f"{used / len(parcels):.1f} s of processor a case, cores busy {used / seconds / count:.0%}"
        )
    print(f"{workers} workers beside 1: {rates[workers] / rates[1]:.2f} times as many cases an hour (>= 1.8 of 2)")


def _answered(cases: list[Path], first: Path) -> bool:
    """Put the reviewer's answers in place; whether all jobs are there."""
    for case in cases:
        answer(case, first / "cases" / case.name / "review")
    return all((case / "job" / "stage.json").exists() for case in cases)


def _ready(log: Path, count: int) -> bool:
    """Whether so many workers have said that they work."""
    return log.exists() and sum(line.startswith(b"worker-") for line in log.read_bytes().splitlines()) >= count


def _until(happened: Callable[[], bool], within_s: float) -> None:
    late = after(within_s)
    while not happened():
        if late():
            raise SystemExit(f"it did not happen within {within_s:.0f} s")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
