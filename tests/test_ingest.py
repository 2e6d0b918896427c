"""The intake of telemetry at a real broker: both are ended in the middle, the intake by force, and each sample is there once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine_talk as talk
import pytest
from mosquitto import Mosquitto, mosquitto, until

from batchone.factory.broker import Broker
from batchone.factory.twin.messages import Birth, Value
from batchone.factory.twin.mqtt import connected
from batchone.factory.twin.sensors import Sample
from batchone.pipeline.telemetry import FILE, Session, Telemetry

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
