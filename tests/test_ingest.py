"""The intake of telemetry at a real broker: both are ended in the middle, the intake by force, and each sample is there once."""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import machine_talk as talk
import pytest
import test_hatch as plates
from mosquitto import Mosquitto, mosquitto, until
from PIL import Image
from test_twin import TITANIUM, folder

from batchone.factory.broker import Broker
from batchone.factory.drivers.twin import TwinDriver
from batchone.factory.proof import Work
from batchone.factory.twin.faults import Fault
from batchone.factory.twin.messages import Birth, Value
from batchone.factory.twin.mqtt import connected, told_later
from batchone.factory.twin.sensors import Sample
from batchone.pipeline.telemetry import FILE, Session, Telemetry, read_machines, read_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MACHINES, SAMPLES, WAIT_S = ("lpbf-1", "lpbf-2", "lpbf-3"), 1200, 100.0


@contextmanager
def ingest(site: Path, broker: Mosquitto) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "batchone.pipeline", "telemetry", "--broker", broker.url, "--site", str(site)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("hears what machines tell" in line for line in process.stderr)
        heard = threading.Thread(target=process.stderr.read)  # so that it never waits for us
        heard.start()
        try:
            yield process
        finally:
            process.terminate()
            heard.join()


def sessions(site: Path) -> list[Session]:
    if not (site / FILE).is_file():
        return []
    with Telemetry(site, reads=True) as found:
        return found.sessions()


def received(site: Path) -> int:
    return sum(one.received for one in sessions(site))


def prints(broker: Mosquitto, machine: str, samples: int, pause_s: float) -> None:
    """A machine that tells of a build, as fast as the broker takes it with pauses."""
    values = tuple(Value(name=name, unit="1") for name in talk.NAMES)
    birth = Birth(session="s-1", machine=machine, profile="p", process="p", layers=100, period_s=1.0, values=values)
    with connected(Broker(broker.url), birth) as publisher:
        for number in range(samples):
            publisher.tell(
                Sample(float(number), "exposing", number // 50, dict(zip(talk.NAMES, talk.numbers(number), strict=True)))
            )
            time.sleep(pause_s)


def test_no_sample_is_lost_or_doubled_while_the_broker_restarts_and_the_intake_is_killed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    with mosquitto(tmp_path) as broker:
        with ingest(site, broker) as first:
            machines = [threading.Thread(target=prints, args=(broker, name, SAMPLES, 0.002)) for name in MACHINES]
            for machine in machines:
                machine.start()
            until(lambda: received(site) > 300, WAIT_S)
            first.send_signal(signal.SIGKILL)
            first.wait()
        before = received(site)
        time.sleep(0.5)  # the broker keeps what comes meanwhile
        with ingest(site, broker) as second:
            until(lambda: received(site) > before + 300, WAIT_S)
            broker.stop()
            broker.start()
            until(lambda: received(site) > before + 1000, WAIT_S)
            second.send_signal(signal.SIGKILL)
            second.wait()
            assert received(site) < SAMPLES * len(MACHINES), "everything had come before the end: the test shows nothing"
        with ingest(site, broker):
            for machine in machines:
                machine.join(WAIT_S)
                assert not machine.is_alive()
            until(lambda: all(one.filed == SAMPLES for one in sessions(site)), WAIT_S)
    assert sorted(one.machine for one in sessions(site)) == list(MACHINES)
    with Telemetry(site, reads=True) as found:
        for one in found.sessions():
            assert (one.ended, one.told, one.received, one.missing) == ("ended", SAMPLES, SAMPLES, 0)
            rows = found.rows(one.id, 0, SAMPLES)
            assert [(row.number, row.numbers) for row in rows] == [(n, talk.numbers(n)) for n in range(SAMPLES)]


def test_a_twin_in_a_cell_prints_on_without_its_broker_and_tells_it_later(tmp_path: Path) -> None:
    """Its readings are those that the store has, with alarms and pictures."""
    site = tmp_path / "site"
    build = folder(tmp_path / "bar", [plates.box((10, 15, 0), (50, 35, 0.3))], TITANIUM)
    work = Work("0123456789abcdef", build, "ti64-lpbf", "m", 5, 0.06, dt.datetime.now(dt.UTC), (), None, ())
    with mosquitto(tmp_path) as broker:
        with ingest(site, broker):
            pass
        broker.stop()
        driver = TwinDriver(
            "sim-01", seed=1, speed=20_000.0, period_s=50.0, faults=(Fault("power-cut", 3),), chance=False, serial="SN 1/a",
            born=partial(told_later, Broker(broker.url)), pictures=2,
        )  # fmt: skip
        readings = []
        for progress in driver.build(work, 1):
            readings += progress.readings
            if len(readings) > 20 and broker.stopped:
                broker.start()
        assert not broker.stopped
        with ingest(site, broker):
            until(lambda: any(one.filed for one in sessions(site)), WAIT_S)
    (one,) = sessions(site)
    assert (one.machine, one.session, one.ended, one.received) == ("SN-1-a", "0123456789abcdef-1", "ended", len(readings))
    with Telemetry(site, reads=True) as found:
        rows = found.rows(one.id, 0, len(readings))
    assert [(row.time_s, row.state, row.layer) for row in rows] == [
        (pytest.approx(one.time_s), one.state, one.layer) for one in readings
    ]
    assert [dict(zip(one.names, row.numbers, strict=True)) for row in rows] == [
        pytest.approx(dict(reading.values), abs=1e-6) for reading in readings
    ]
    (machine,) = read_machines(site, rows=1, alarms=9).machines
    assert [(alarm.layer, alarm.name) for alarm in machine.alarms] == [(3, "mains")]
    assert machine.pictures == {"powder": 3, "exposure": 3}
    with Image.open(BytesIO(read_picture(site, "SN-1-a", "exposure") or b"")) as picture:
        assert (picture.size, picture.mode) == ((512, 512), "L")


def test_more_than_is_under_way_at_once_comes_in_its_order(tmp_path: Path) -> None:
    """What waits at the broker while the intake is away is more than it may send at once."""
    site = tmp_path / "site"
    with mosquitto(tmp_path) as broker:
        with ingest(site, broker):
            pass
        prints(broker, "lpbf-1", 1500, 0.0)
        with ingest(site, broker):
            until(lambda: received(site) == 1500, WAIT_S)
    (one,) = sessions(site)
    assert (one.ended, one.missing) == ("ended", 0)
