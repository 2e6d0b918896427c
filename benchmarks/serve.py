"""The server under load: 500 clients that ask for the state of cases while a large parcel is uploaded.

Every client has a connection of its own and asks for one of the cases each ``--every`` seconds, at a moment of its own; the time
counts from the first byte sent to the last byte read. The parcel is random bytes: the intake refuses it at the end, in a process
of its own that is not counted. Memory is that of the server's process (VmRSS before, VmHWM after). Computing is that of the
server's process for the answers alone, before the upload: it says what a busy machine's times do not.

    python -m benchmarks.serve [--clients 500] [--cases 200] [--every 2] [--seconds 30] [--megabytes 500]
"""

from __future__ import annotations

import argparse
import asyncio
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
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO

from batchone.pipeline.config import ServerSettings
from batchone.pipeline.events import append_event
from batchone.pipeline.serve.accounts import Account
from batchone.pipeline.serve.services import make_services
from batchone.pipeline.stages import STAGES

BLOCK_BYTES = 1 << 20


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
        token = _fill(site, options.cases)
        command = [sys.executable, "-m", "batchone.pipeline", "serve", "--site", str(site), "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                port = _port(server)
                _figures(server.pid, port, token, options)
            finally:
                server.terminate()
                server.wait()


def _figures(pid: int, port: int, token: str, options: argparse.Namespace) -> None:
    asyncio.run(_clients(port, token, options.cases, options.cases, every_s=1.0, seconds=2.0))  # every case was read once
    computed_s = _computed_s(pid)
    alone = asyncio.run(_clients(port, token, options.cases, options.clients, options.every, options.seconds / 3))
    computed_s = _computed_s(pid) - computed_s
    print(f"computing: {computed_s / len(alone) * 1e3:.2f} ms for an answer, {len(alone)} answers")
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before_mb = _memory_mb(pid, "VmRSS:")
    with ProcessPoolExecutor(1) as sender:  # the sender's own computing is not the clients'
        upload = sender.submit(_upload, port, token, options.megabytes)
        seconds = sorted(asyncio.run(_clients(port, token, options.cases, options.clients, options.every, options.seconds)))
        uploaded_s = upload.result()
    p50, p95, p99 = (seconds[int(len(seconds) * share)] for share in (0.5, 0.95, 0.99))
    print(f"status: {options.clients} clients, each every {options.every:g} s, {len(seconds) / options.seconds:.0f} answers/s")
    print(f"  p50 {p50 * 1e3:.1f} ms  p95 {p95 * 1e3:.1f} ms  p99 {p99 * 1e3:.1f} ms  slowest {seconds[-1] * 1e3:.0f} ms")
    print(f"upload: {options.megabytes} MB in {uploaded_s:.1f} s, {options.megabytes / uploaded_s:.0f} MB/s, beside the clients")
    peak_mb = _memory_mb(pid, "VmHWM:")
    print(f"memory: {before_mb:.0f} MB before, {peak_mb:.0f} MB at most, {peak_mb - before_mb:.0f} MB more  (<= 200 MB)")


def _fill(site: Path, cases: int) -> str:
    """Case folders with the records that a finished run leaves; returns the token of a hospital that sent them."""
    for number in range(cases):
        folder = site / "cases" / f"case-{number:04d}"
        for stage in STAGES:
            place = folder / ("job" if stage.gives == "JobFolder" else stage.name)
            place.mkdir(parents=True)
            findings = [{"$type": "Finding", "check": f"check-{k}", "verdict": "pass"} for k in range(40)]
            record = {"seconds": 1.0, "taken": {"CheckedDevice": "d"}, "value_digest": "d", "findings": {"$tuple": findings}}
            (place / "stage.json").write_text(json.dumps(record))
            append_event(folder / "events.jsonl", who="batchone", what=f"{stage.name} done", when="2026-01-01T00:00:00+00:00")
        (folder / "job" / "value.json").write_text(json.dumps({"folder": "job/0123456789abcdef"}))
        (folder / "order.toml").write_text(f'case = "case-{number:04d}"\n')
        (folder / "parcel.json").write_text(json.dumps({"digest": "0" * 64, "sender": "H-1", "images": 400, "warnings": []}))
    services = make_services(site, settings=ServerSettings(), clock=time.time)
    services.accounts.make(Account("ward", ("hospital",), "H-1"), by="benchmark")
    services.accounts.set_password("ward", "a password of the benchmark")
    made = services.credentials.make_token("ward", "hospital", days=1, label="")
    services.store.close()
    assert made is not None
    return made[1]


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


async def _clients(port: int, token: str, cases: int, clients: int, every_s: float, seconds: float) -> list[float]:
    found: list[float] = []
    await asyncio.gather(*(_client(port, token, number % cases, every_s, seconds, found) for number in range(clients)))
    return found


async def _client(port: int, token: str, case: int, every_s: float, seconds: float, found: list[float]) -> None:
    await asyncio.sleep(random.uniform(0.0, every_s))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ask = f"GET /api/v1/cases/case-{case:04d} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        writer.write(ask)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
        took = time.perf_counter() - began
        found.append(took)
        await asyncio.sleep(max(0.0, every_s - took))
    writer.close()


def _upload(port: int, token: str, megabytes: int) -> float:
    """Seconds from the first byte to the answer."""
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


def _computed_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return float(line.split()[1]) / 1024
    raise SystemExit(f"no {name}")


if __name__ == "__main__":
    main()
