"""The server under load: 500 clients that ask for the state of cases while a large parcel is uploaded.

Every client has a connection of its own and asks for one of the cases each ``--every`` seconds, at a moment of its own, and names
the state that it knows already (``If-None-Match``), as a client would; the time counts from the first byte sent to the last byte
read. The parcel is random bytes: the intake refuses it at the end, in a process of its own that is not counted. Memory is that of
the server's process (VmRSS before, VmHWM after). Computing is that of the server's process for the answers alone, before the
upload: it says what a busy machine's times do not.

    python -m benchmarks.serve [--clients 500] [--cases 200] [--every 2] [--seconds 30] [--megabytes 500]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from batchone.pipeline.config import ServerSettings
from batchone.pipeline.events import append_event
from batchone.pipeline.serve.accounts import Account
from batchone.pipeline.serve.services import make_services
from batchone.pipeline.stages import STAGES

BLOCK_BYTES = 1 << 20
PASSWORD = "a password of the benchmark"


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer: when it was asked for (s, of time.perf_counter), how long it took (s), its HTTP status and its bytes."""

    began: float
    seconds: float
    status: int
    bytes: int


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--clients", type=int, default=500)
    given.add_argument("--cases", type=int, default=200)
    given.add_argument("--every", type=float, default=2.0)
    given.add_argument("--seconds", type=float, default=30.0)
    given.add_argument("--megabytes", type=int, default=500)
    options = given.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        cases = standing_cases(site, options.cases)
        (token,) = tokens(site, hospital="ward")
        with serving(site) as (pid, port):
            _figures(pid, port, token, cases, options)


def _figures(pid: int, port: int, token: str, cases: list[str], options: argparse.Namespace) -> None:
    asyncio.run(ask(port, token, cases, len(cases), every_s=1.0, until=after(2.0)))  # every case was read once
    computed_s = processor_s(pid)
    alone = asyncio.run(ask(port, token, cases, options.clients, options.every, after(options.seconds / 3)))
    computed_s = processor_s(pid) - computed_s
    print(f"computing: {computed_s / len(alone) * 1e3:.2f} ms for an answer, {len(alone)} answers")
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before_mb = memory_mb(pid, "VmRSS:")
    with ProcessPoolExecutor(1) as sender:  # the sender's own computing is not the clients'
        upload = sender.submit(upload_large, port, token, options.megabytes)
        answers = asyncio.run(ask(port, token, cases, options.clients, options.every, after(options.seconds)))
        uploaded_s = upload.result()
    print(f"status: {options.clients} clients, each every {options.every:g} s, {len(answers) / options.seconds:.0f} answers/s")
    print(f"  {times(answers)}")
    print(f"upload: {options.megabytes} MB in {uploaded_s:.1f} s, {options.megabytes / uploaded_s:.0f} MB/s, beside the clients")
    peak_mb = memory_mb(pid, "VmHWM:")
    print(f"memory: {before_mb:.0f} MB before, {peak_mb:.0f} MB at most, {peak_mb - before_mb:.0f} MB more  (<= 200 MB)")


def times(answers: list[Asked]) -> str:
    """How long answers took, in words."""
    if not answers:
        return "no answer"
    seconds = sorted(one.seconds for one in answers)
    p50, p95, p99 = (seconds[int(len(seconds) * share)] * 1e3 for share in (0.5, 0.95, 0.99))
    return f"p50 {p50:.1f} ms  p95 {p95:.1f} ms  p99 {p99:.1f} ms  slowest {seconds[-1] * 1e3:.0f} ms"


def standing_cases(site: Path, count: int) -> list[str]:
    """Make case folders with the records that a finished run leaves; returns the ids of the cases."""
    for number in range(count):
        folder = site / "cases" / f"case-{number:04d}"
        for stage in STAGES:
            place = folder / ("job" if stage.gives == "JobFolder" else stage.name)
            place.mkdir(parents=True)
            findings = [{"$type": "Finding", "check": f"check-{k}", "verdict": "pass"} for k in range(40)]
            record = {
                "seconds": 1.0,
                "taken": {"CheckedDevice": "d", "Approval": "d"},
                "value_digest": "d",
                "findings": {"$tuple": findings},
            }
            (place / "stage.json").write_text(json.dumps(record))
            append_event(folder / "events.jsonl", who="batchone", what=f"{stage.name} done", when="2026-01-01T00:00:00+00:00")
        (folder / "job" / "value.json").write_text(json.dumps({"folder": "job/0123456789abcdef"}))
        (folder / "order.toml").write_text(f'case = "case-{number:04d}"\n')
        (folder / "parcel.json").write_text(json.dumps({"digest": "0" * 64, "sender": "H-1", "images": 400, "warnings": []}))
    return [f"case-{number:04d}" for number in range(count)]


def tokens(site: Path, **names: str) -> list[str]:
    """Make an account for each role, ``role=name``, with PASSWORD; returns a token of each."""
    services = make_services(site, settings=ServerSettings(), clock=time.time)
    found = []
    for role, name in names.items():
        services.accounts.make(Account(name, (role,), "H-1" if role == "hospital" else ""), by="benchmark")
        services.accounts.set_password(name, PASSWORD)
        made = services.credentials.make_token(name, role, days=1, label="")
        assert made is not None
        found.append(made[1])
    services.store.close()
    return found


@contextlib.contextmanager
def serving(site: Path, *words: str) -> Iterator[tuple[int, int]]:
    """A server of a site, as a process of its own: its id and its port."""
    command = [sys.executable, "-m", "batchone.pipeline", "serve", "--site", str(site), "--port", "0", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield server.pid, _port(server)
        finally:
            server.terminate()
            server.wait()


def _port(server: subprocess.Popen[str]) -> int:
    assert server.stderr is not None
    for line in server.stderr:
        if '"listening"' in line:
            threading.Thread(target=_drain, args=(server.stderr,), daemon=True).start()
            return int(json.loads(line)["address"].rsplit(":", 1)[1])
    raise SystemExit("the server did not start")


def _drain(lines: IO[str]) -> None:
    """Read the log until the server ends, so that it never waits for us."""
    for _ in lines:
        pass


def after(seconds: float) -> Callable[[], bool]:
    """A question that is answered with yes from so many seconds on."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= end


async def ask(port: int, token: str, cases: list[str], clients: int, every_s: float, until: Callable[[], bool]) -> list[Asked]:
    """Ask for the state of cases, each client for one of them, until told to stop."""
    found: list[Asked] = []
    await asyncio.gather(*(_client(port, token, cases[one % len(cases)], every_s, until, found) for one in range(clients)))
    return found


async def _client(port: int, token: str, case: str, every_s: float, until: Callable[[], bool], found: list[Asked]) -> None:
    await asyncio.sleep(random.uniform(0.0, every_s))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    known = b""
    while not until():
        began = time.perf_counter()
        line = f"GET /api/v1/cases/{case} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n".encode()
        writer.write(line + (b"If-None-Match: " + known + b"\r\n" if known else b"") + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        told = {name.lower(): text.strip() for name, _, text in (one.partition(b":") for one in head.split(b"\r\n")[1:])}
        status, size = int(head.split(b" ", 2)[1]), int(told.get(b"content-length", b"0"))
        assert status in (200, 304, 404), head  # 404: it has not come yet
        await reader.readexactly(size)
        known = told.get(b"etag", b"")
        found.append(Asked(began, time.perf_counter() - began, status, len(head) + size))
        await asyncio.sleep(max(0.0, began + every_s - time.perf_counter()))
    writer.close()


def upload_large(port: int, token: str, megabytes: int) -> float:
    """Upload random bytes; returns the seconds from the first byte to the answer."""
    seed = os.urandom(BLOCK_BYTES - 8)
    digest = hashlib.sha256()
    for block in _blocks(seed, megabytes):
        digest.update(block)
    opened = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    size = megabytes * BLOCK_BYTES
    opened.request("POST", "/api/v1/uploads", json.dumps({"digest": digest.hexdigest(), "bytes": size}), headers)
    opened.getresponse().read()
    began = time.perf_counter()
    headers |= {"Upload-Offset": "0", "Content-Length": str(size), "Content-Type": "application/octet-stream"}
    opened.request("PATCH", f"/api/v1/uploads/{digest.hexdigest()}", _blocks(seed, megabytes), headers)
    answer = opened.getresponse()
    assert answer.status == 200, answer.read()
    return time.perf_counter() - began


def _blocks(seed: bytes, count: int) -> Iterator[bytes]:
    return (number.to_bytes(8) + seed for number in range(count))


def processor_s(pid: int, *, children: bool = False) -> float:
    """Processor time of a process, s; ``children``: of those that it has waited for, too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(one) for one in fields[11 : 15 if children else 13]) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, name: str) -> float:
    """A line of a process's status, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return float(line.split()[1]) / 1024
    raise SystemExit(f"no {name}")


if __name__ == "__main__":
    main()
