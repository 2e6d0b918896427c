"""Telemetry of many machines: how long a sample takes into the store, what it weighs there, and what the processor has of it.

Each machine tells of 40 values each second, at a moment of its own, to a real broker (mosquitto); ``batchone telemetry`` takes
them in, in a process of its own. A delay counts from before a sample is told to when a reader of the store sees it (asked every
20 ms). Twelve of the values are noisy, fourteen rise, the others stay, as those of the machine twin. The machines share ten
connections, so that they do not take the processor from what is measured. Processor time is that of intake and broker alone, of
one core. ``most`` is what the intake takes in of what waited for it at the broker.

    python -m benchmarks.telemetry [--machines 50 500] [--seconds 20] [--waiting 20000]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchone.factory.intake import PART, Heard, Intake
from batchone.factory.twin.messages import Birth, Data, Value, payload, topic
from batchone.pipeline.config import TelemetrySettings
from batchone.pipeline.telemetry import FILE, FOLDER, Telemetry

NAMES = tuple(f"value_{k}_c" for k in range(40))
NOISY, RISING = 12, 14
CONNECTIONS = 10
LOOK_S = 0.02


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--machines", type=int, nargs="+", default=[50, 500])
    given.add_argument("--seconds", type=float, default=20.0)
    given.add_argument("--waiting", type=int, default=20_000)
    options = given.parse_args()
    _weight()
    for machines in options.machines:
        with _running() as (site, broker, port):
            _sustained(site, broker, port, machines, options.seconds)
    with _running(away=True) as (site, _, port):
        _most(site, port, options.waiting)


def _sample(number: int, chance: random.Random, session: str) -> bytes:
    values = [round(60.0 + chance.gauss(0.0, 0.5), 6) for _ in range(NOISY)]
    values += [round(number * (k + 1) * 0.013, 6) for k in range(RISING)]
    values += [float(k) for k in range(len(NAMES) - NOISY - RISING)]
    return payload(
        Data(
            session=session, number=number, time_s=float(number), state="exposing", layer=number // 60,
            values=dict(zip(NAMES, values, strict=True)),
        )
    )  # fmt: skip


def _birth(machine: str, session: str) -> bytes:
    values = tuple(Value(name=name, unit="Cel") for name in NAMES)
    return payload(Birth(session=session, machine=machine, profile="p", process="p", layers=5000, period_s=1.0, values=values))


def _weight() -> None:
    """What an hour of one machine weighs, and how long it takes to file it."""
    with tempfile.TemporaryDirectory() as folder:
        intake, chance = Intake(Path(folder), TelemetrySettings()), random.Random(1)
        heard = [Heard(topic("m", "birth"), _birth("m", "s"))]
        heard += [Heard(topic("m", "data"), _sample(number, chance, "s")) for number in range(PART)]
        told = sum(len(one.payload) for one in heard)
        began = time.process_time()
        for low in range(0, len(heard), 50):
            intake.take(heard[low : low + 50], now_s=float(low))
        took_s = time.process_time() - began
        intake.store.opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        recent = (Path(folder) / FILE).stat().st_size
        intake.file(now_s=0.0)  # pyarrow is loaded
        (path,) = (Path(folder) / FOLDER).rglob("*.parquet")
        filed = path.stat().st_size
        intake.store.opened.execute("UPDATE sessions SET filed = 0")
        intake.look()
        began = time.process_time()
        intake.file(now_s=0.0)
        filing_s = time.process_time() - began
        count = PART * len(NAMES)
        print(f"bytes per value: {told / count:.1f} on the wire, {recent / count:.1f} recent, {filed / count:.2f} filed")
        print(f"computing: {took_s / PART * 1e3:.2f} ms for a sample, {filing_s * 1e3:.0f} ms for a file of {PART}")


@contextmanager
def _running(*, away: bool = False) -> Iterator[tuple[Path, tuple[int, int], int]]:
    """A broker and an intake: site, process ids, port; ``away``: the intake was there and went."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        site.mkdir()
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
        conf = Path(folder) / "conf"
        lines = (f"listener {port} 127.0.0.1", "allow_anonymous true", "max_inflight_messages 1000", "max_queued_messages 0")
        conf.write_text("\n".join((*lines, "persistence true", f"persistence_location {folder}/", "user root")) + "\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with subprocess.Popen([program, "-c", str(conf)], stderr=subprocess.DEVNULL) as broker:
            try:
                time.sleep(1.0)
                with _intake(site, port) as process:
                    if not away:
                        yield site, (process.pid, broker.pid), port
                if away:
                    yield site, (0, broker.pid), port
            finally:
                broker.terminate()


@contextmanager
def _intake(site: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "batchone.pipeline",
        "telemetry",
        "--broker",
        f"mqtt://127.0.0.1:{port}",
        "--site",
        str(site),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("hears" in line for line in process.stderr)
        threading.Thread(target=process.stderr.read).start()
        try:
            yield process
        finally:
            process.terminate()


class Sender:
    """A connection to the broker that tells by QoS 1 and computes as little as may be: packets of MQTT 3.1.1 as they are sent."""

    def __init__(self, port: int, name: str) -> None:
        self._socket, self._number = socket.create_connection(("127.0.0.1", port)), 0
        head = b"\x00\x04MQTT\x04\x02\x00\x00" + _text(name)
        self._socket.sendall(b"\x10" + bytes([len(head)]) + head)
        assert self._socket.recv(4) == b"\x20\x02\x00\x00"
        self._confirmed = threading.Thread(target=self._drain, daemon=True)
        self._confirmed.start()

    def publish(self, place: str, message: bytes, *, retain: bool = False) -> None:
        self._number = self._number % 65_535 + 1
        body = _text(place) + self._number.to_bytes(2, "big") + message
        length, rest = b"", len(body)
        while rest or not length:
            length += bytes([rest % 128 + (128 if rest >= 128 else 0)])
            rest //= 128
        self._socket.sendall((b"\x33" if retain else b"\x32") + length + body)

    def close(self) -> None:
        self._socket.sendall(b"\xe0\x00")
        self._confirmed.join()
        self._socket.close()

    def _drain(self) -> None:
        while self._socket.recv(65_536):
            pass


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _sustained(site: Path, pids: tuple[int, int], port: int, machines: int, seconds: float) -> None:
    names, chance = [f"m-{k:04d}" for k in range(machines)], random.Random(2)
    ready = [_sample(number, chance, "s") for number in range(int(seconds))]
    senders = [Sender(port, f"load-{k}") for k in range(CONNECTIONS)]
    sent: dict[str, list[float]] = {name: [] for name in names}
    for k, name in enumerate(names):
        senders[k % CONNECTIONS].publish(topic(name, "birth"), _birth(name, "s"), retain=True)
    time.sleep(2.0)
    over = threading.Event()
    delays: list[float] = []
    reader = threading.Thread(target=_watch, args=(site, sent, delays, over, int(seconds) * machines))
    reader.start()
    before = [_computed_s(pid) for pid in pids]
    began = time.time()
    for number, message in enumerate(ready):
        for k, name in enumerate(names):
            time.sleep(max(0.0, began + number + k / machines - time.time()))
            sent[name].append(time.time())
            senders[k % CONNECTIONS].publish(topic(name, "data"), message)
    took_s = time.time() - began
    over.set()
    reader.join()
    used = [(_computed_s(pid) - one) / took_s * 100.0 for pid, one in zip(pids, before, strict=True)]
    for sender in senders:
        sender.close()
    delays.sort()
    p50, p99 = (delays[int(share * (len(delays) - 1))] * 1e3 for share in (0.5, 0.99))
    print(f"{machines} machines: {len(delays)} of {int(seconds) * machines} samples, {len(delays) / took_s:.0f} in a second")
    print(f"  delay p50 {p50:.0f} ms  p99 {p99:.0f} ms  longest {delays[-1] * 1e3:.0f} ms  (p99 <= 1000 ms)")
    each = [share * took_s * 10.0 / max(1, len(delays)) for share in used]
    print(f"  processor: intake {used[0]:.0f} %, broker {used[1]:.0f} % of a core; {os.cpu_count()} cores")
    print(f"  computing: {each[0]:.2f} ms and {each[1]:.2f} ms for a sample")


def _watch(site: Path, sent: dict[str, list[float]], delays: list[float], over: threading.Event, count: int) -> None:
    """Note when each sample is seen in the store, until all are, or for ten seconds after the last was told."""
    seen = dict.fromkeys(sent, 0)
    late_s = None
    with Telemetry(site, reads=True) as found:
        while len(delays) < count and (late_s is None or time.time() < late_s):
            if over.is_set() and late_s is None:
                late_s = time.time() + 10.0
            rows = found.opened.execute("SELECT machine, last FROM sessions").fetchall()
            now_s = time.time()
            for machine, last in rows:
                delays += [now_s - sent[machine][number] for number in range(seen[machine], last + 1)]
                seen[machine] = last + 1
            time.sleep(LOOK_S)


def _most(site: Path, port: int, waiting: int) -> None:
    """How fast what waited at the broker comes in."""
    chance, sender = random.Random(3), Sender(port, "load")
    sender.publish(topic("m", "birth"), _birth("m", "s"), retain=True)
    for number in range(waiting):
        sender.publish(topic("m", "data"), _sample(number, chance, "s"))
    sender.close()  # when it has confirmed all of it
    with _intake(site, port) as process, Telemetry(site, reads=True) as found:
        began_s, computed_s, first = time.time(), _computed_s(process.pid), _received(found)
        while _received(found) < waiting:
            time.sleep(LOOK_S)
        took_s = time.time() - began_s
        rate = (waiting - first) / took_s
        used_s = _computed_s(process.pid) - computed_s
        share = 100 * used_s / took_s
        print(f"most: {rate:.0f} samples in a second of what waited, {share:.0f} % of a core; {rate / share * 100:.0f} by a core")


def _received(found: Telemetry) -> int:
    return int(found.opened.execute("SELECT coalesce(sum(received), 0) FROM sessions").fetchone()[0])


def _computed_s(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
