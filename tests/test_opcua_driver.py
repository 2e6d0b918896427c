"""A cell whose machine is behind an OPC UA server, against the twin's server in a process of its own."""

from __future__ import annotations

import datetime as dt
import math
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from small_job import make_job
from typer.testing import CliRunner

from batchone.factory.drivers.driver import Progress
from batchone.factory.drivers.folder import drop
from batchone.factory.drivers.opcua import ASKED, OpcuaDriver, OrderClient
from batchone.factory.inbox import Inbox
from batchone.factory.proof import Work, read_work
from batchone.factory.record import read_as_built
from batchone.factory.settings import SETTINGS, OpcuaSettings, read_cell_settings
from batchone.factory.telemetry import summaries
from batchone.factory.twin import opcua as twin_server
from batchone.factory.twin.machine import Twin
from batchone.factory.twin.opcua import Endpoint, served
from batchone.pipeline.cli import app
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.signature import approval_key, release_key, write_allowed_signers
from batchone.slicer.profiles import load_machine, load_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SPEED = 1500.0  # the small job takes some 8 s
WAIT_S = 120.0
WORDS = "oxygen in the chamber, percent"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "keys"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHONE_APPROVER_PASSPHRASE", "test-passphrase-1")
        release_key(folder)
        approval_key(folder, "reviewer", passphrase="test-passphrase-1")
        write_allowed_signers(folder)
        make_job(folder.parent / "made", folder, "ti64-lpbf")
    return folder


@pytest.fixture(scope="module")
def work(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    made = keys.parent / "made"
    place = tmp_path_factory.mktemp("job") / read_manifest((made / "job.json").read_bytes()).job
    return read_work(made.rename(place))


class Machine:
    """The server's process, which can be killed and started again at the same address."""

    def __init__(self, share: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.url = f"opc.tcp://127.0.0.1:{found.getsockname()[1]}/twin"
        self.share, self.process = share, None
        self.settings = OpcuaSettings(endpoint=self.url, share=share, measures=(WORDS,))
        self.start()

    process: subprocess.Popen[bytes] | None

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("opcua_machine.py")), self.url, str(self.share), str(SPEED)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("share"))
    yield made
    made.kill()


@pytest.fixture
def client(machine: Machine) -> Iterator[OrderClient]:
    made = OrderClient(machine.settings)
    yield made
    made.close()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def told_of(build: Generator[Progress, None, None], is_so: Callable[[Progress], bool]) -> Progress:
    """The first word of progress that is so."""
    end = time.monotonic() + WAIT_S
    for progress in build:
        assert time.monotonic() < end
        if is_so(progress):
            return progress
    raise AssertionError("it ended before")


def test_a_build_is_ordered_and_followed_to_its_end_and_again_after_a_restart_of_the_cell(
    machine: Machine, client: OrderClient, work: Work
) -> None:
    driver = OpcuaDriver(machine.settings)
    words = list(driver.build(work, 1))
    assert words[-1].state == "done"
    layers = [layer for word in words for layer in word.layers]
    assert [layer.index for layer in layers] == list(range(work.layers))
    assert [layer.end_s for layer in layers] == sorted(layer.end_s for layer in layers)
    assert 0.0 < sum(layer.energy_j for layer in layers) <= 3.6e6 * words[-1].energy_kwh * (1.0 + 1e-9)  # without heating
    readings = [reading for word in words for reading in word.readings]
    assert len(readings) > 2
    assert {reading.layer for reading in readings} - {-1}
    assert all(reading.values["oxygen_percent"] >= 0.0 for reading in readings)
    assert client.states() == {f"{work.name}-1": "Ended"}
    again = list(OpcuaDriver(machine.settings).build(work, 1))  # it died before it had the record
    assert (again[-1].state, sum(len(word.layers) for word in again)) == ("done", work.layers)
    assert client.states() == {f"{work.name}-1": "Ended"}


def test_a_client_lets_the_machine_stand_still_and_go_on(machine: Machine, client: OrderClient, work: Work) -> None:
    build = OpcuaDriver(machine.settings).build(work, 2)
    told_of(build, lambda word: word.seconds > 0.0)
    name = f"{work.name}-2"
    with pytest.raises(MachineError, match="refuses Resume: ReturnStatus 8"):
        client.tell(name, "Resume")
    client.tell(name, "Pause")
    with pytest.raises(MachineError, match="refuses Pause: ReturnStatus 8"):
        client.tell(name, "Pause")
    first = client.seen(name)
    assert first is not None
    assert first.state == "Interrupted"
    time.sleep(1.0)
    later = client.seen(name)
    assert later is not None
    assert later.said["elapsed_s"] <= first.said["elapsed_s"] + 200.0  # one sample at most was under way
    client.tell(name, "Resume")
    told_of(build, lambda word: word.seconds > later.said["elapsed_s"] + 100.0)
    for method, known in (("Pause", False), ("Stop", False), ("Clear", True)):
        with pytest.raises(MachineError, match=f"refuses {method}: ReturnStatus {8 if known else 2}"):
            client.tell(name if known else "unknown", method)
    assert told_of(build, lambda word: word.state != "running").state == "done"


def test_a_build_that_is_given_up_is_stopped_and_only_then_comes_the_next(
    machine: Machine, client: OrderClient, work: Work
) -> None:
    driver = OpcuaDriver(machine.settings)
    build = driver.build(work, 3)
    told_of(build, lambda word: word.seconds > 0.0)
    client.tell(f"{work.name}-3", "Pause")  # so that it does not end meanwhile, however slow all is
    with pytest.raises(MachineError, match=f"has not ended {work.name}-3"):
        told_of(driver.build(work, 4), lambda word: False)
    build.close()
    until(lambda: client.states()[f"{work.name}-3"] == "Ended")
    seen = client.seen(f"{work.name}-3")
    assert seen is not None
    assert seen.said["JobResult"] == 2
    again = told_of(driver.build(work, 3), lambda word: word.state != "running")
    assert (again.state, "JobResult 2" in again.reason) == ("failed", True)  # what was stopped is not begun again
    following = driver.build(work, 4)
    told_of(following, lambda word: word.seconds > 0.0)
    assert set(client.states()) == {f"{work.name}-4"}  # what had ended was cleared
    client.tell(f"{work.name}-4", "Pause")
    client.tell(f"{work.name}-4", "Abort")
    last = told_of(following, lambda word: word.state != "running")
    assert (last.state, "Aborted" in last.reason) == ("failed", True)


def test_a_server_that_goes_away_is_waited_for_and_what_it_forgot_is_not_printed_twice(machine: Machine, work: Work) -> None:
    build = OpcuaDriver(machine.settings).build(work, 5)
    told_of(build, lambda word: word.seconds > 0.0)
    machine.kill()
    assert [next(build).state for _ in range(2)] == ["running", "running"]
    machine.start()
    last = told_of(build, lambda word: word.state != "running")
    assert (last.state, last.reason) == ("failed", "the machine does not know the order any more")
    again = told_of(OpcuaDriver(machine.settings).build(work, 5), lambda word: word.state != "running")
    assert again.state == "failed"


def test_an_order_that_was_not_answered_is_waited_for_and_followed(machine: Machine, client: OrderClient, work: Work) -> None:
    name = f"{work.name}-7"
    drop(work.folder, machine.share / name)
    (machine.share / name / ASKED).write_bytes(b"")  # its cell asked, and heard nothing
    build = OpcuaDriver(machine.settings).build(work, 7)
    assert [next(build).state for _ in range(3)] == ["running"] * 3
    client.start(name, f"{machine.share}/{name}")
    assert told_of(build, lambda word: word.state != "running").state == "done"


def test_an_order_that_was_not_answered_is_stopped_when_it_comes_after_all(
    machine: Machine, client: OrderClient, work: Work
) -> None:
    name = f"{work.name}-8"
    drop(work.folder, machine.share / name)
    (machine.share / name / ASKED).write_bytes(b"")
    build = OpcuaDriver(machine.settings).build(work, 8)
    next(build)
    late = threading.Timer(2.0, lambda: client.start(name, f"{machine.share}/{name}"))
    late.start()
    build.close()
    late.join()
    until(lambda: client.states().get(name) in (None, "Ended"))
    seen = client.seen(name)
    assert seen is None or seen.said["JobResult"] == 2


def test_an_order_of_somebody_else_is_not_cleared_and_the_build_of_one_s_own_is(
    machine: Machine, client: OrderClient, work: Work
) -> None:
    other = machine.share / "others-1"
    drop(work.folder, other)
    client.start(other.name, str(other))
    until(lambda: client.states()[other.name] == "Running")
    client.tell(other.name, "Stop")
    for attempt in (9, 10):
        build = OpcuaDriver(machine.settings).build(work, attempt)
        told_of(build, lambda word: word.seconds > 0.0)
        build.close()
        until(lambda attempt=attempt: client.states()[f"{work.name}-{attempt}"] == "Ended")  # type: ignore[misc]
    assert set(client.states()) == {other.name, f"{work.name}-10"}
    assert [path.name for path in (machine.share / f"{work.name}-9").iterdir()] == [ASKED]
    assert (machine.share / f"{work.name}-10" / "plate.3mf").is_file()


def test_answers_that_are_none_are_not_taken_for_some(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside its own variables the machine has an object, a text, and numbers that are none or not sound."""
    machine, build = Odd(), twin_server._Machine.build
    monkeypatch.setattr(twin_server._Machine, "build", lambda self, *names: machine.build(build, self, *names))
    monkeypatch.setattr(twin_server._Machine, "show_jobs", lambda self: machine.show_jobs(self))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        url = f"opc.tcp://127.0.0.1:{found.getsockname()[1]}/twin"
    drop(work.folder, tmp_path / f"{work.name}-1")

    def opened(identifier: str) -> Twin:
        return Twin(tmp_path / identifier, load_process("ti64-lpbf"), load_machine("sim-01"), seed=3)

    settings = OpcuaSettings(endpoint=url, share=tmp_path)
    with served(Endpoint(url), machine="odd", profile="sim-01", open_build=opened, period_s=200.0, speed=None):
        words = list(OpcuaDriver(settings).build(work, 1))
        assert words[-1].state == "done"
        values = [reading.values for word in words for reading in word.readings]
        assert all(set(one) == machine.sound for one in values)
        machine.stateless = True
        drop(work.folder, tmp_path / f"{work.name}-1x")
        client = OrderClient(settings)
        client.start(f"{work.name}-1x", "")
        with pytest.raises(OSError, match="has no state"):
            client.seen(f"{work.name}-1x")
        client.close()
        with pytest.raises(MachineError, match="has not ended"):
            told_of(OpcuaDriver(settings).build(work, 2), lambda word: False)


class Odd:
    """What a server of somebody else may have beside what ours has."""

    def __init__(self) -> None:
        self.sound: set[str] = set()
        self.stateless = False

    async def build(self, build: Any, own: Any, *names: str) -> None:
        await build(own, *names)
        self.sound = {name for name, node in own.values.items() if name != "state"}
        process = await next(iter(own.values.values())).get_parent()
        await process.add_object(own.spaces.own, "Chamber")
        await process.add_variable(own.spaces.own, "operator", "somebody")
        await process.add_variable(own.spaces.own, "humidity", math.nan)
        node = await process.add_variable(own.spaces.own, "pressure", 1.0)
        await node.write_value(ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure)))

    async def show_jobs(self, own: Any) -> None:
        states = [[] if self.stateless else [twin_server._state(job.state)] for job in own.jobs.values()]
        listed = [
            ua.ISA95JobOrderAndStateDataType(JobOrder=job.order, State=state)
            for job, state in zip(own.jobs.values(), states, strict=True)
        ]
        await own.nodes["orders"].write_value(ua.Variant(listed, ua.VariantType.ExtensionObject, is_array=True))


def test_a_machine_that_is_not_there_or_not_protected_is_told(machine: Machine, work: Work) -> None:
    other = machine.settings.model_copy(update={"machine": "lpbf-2"})
    with pytest.raises(MachineError, match=r"machine is lpbf-2; .* has lpbf-1"):
        told_of(OpcuaDriver(other).build(work, 6), lambda word: False)
    with pytest.raises(MachineError, match="has no certificate"):
        OpcuaDriver(machine.settings.model_copy(update={"endpoint": "opc.tcp://10.0.0.1:4840"}))
    protected = {"endpoint": "opc.tcp://10.0.0.1:4840", "certificate": Path("cell.der"), "key": Path("cell.pem")}
    with pytest.raises(MachineError, match="server_certificate"):
        OpcuaDriver(machine.settings.model_copy(update=protected))
    OpcuaDriver(machine.settings.model_copy(update={**protected, "server_certificate": Path("machine.der")}))


def test_a_cell_prints_on_it(machine: Machine, work: Work, keys: Path, tmp_path: Path) -> None:
    today = dt.datetime.now(dt.UTC).date()
    (tmp_path / "cell" / "inbox").mkdir(parents=True)
    shutil.rmtree(machine.share / f"{work.name}-1", ignore_errors=True)  # of a test before, which the machine has forgotten
    work.folder.rename(tmp_path / "cell" / "inbox" / work.name)
    (tmp_path / "cell" / SETTINGS).write_text(
        f'name = "cell-1"\nmachine = "sim-01"\nserial = "M-1"\ndriver = "opcua"\n'
        f'[[lots]]\nmaterial = "Ti-6Al-4V ELI"\nlot = "TEST-1"\nexpires = {today + dt.timedelta(days=1)}\n'
        'facts = {"powder lot" = "1", "powder supplier" = "S", "times sieved and used" = "2"}\n'
        f'[[calibrations]]\nname = "power"\ndone = {today}\ndue = {today + dt.timedelta(days=1)}\n'
        f'[opcua]\nendpoint = "{machine.url}"\nshare = "{machine.share}"\nmeasures = ["{WORDS}"]\n'
    )
    done = CliRunner().invoke(app, ["cell", "--cell", str(tmp_path / "cell"), "--signers", str(keys), "--once"])
    assert done.exit_code == 0, done.output
    assert Inbox(tmp_path / "cell" / "inbox").entry(work.name).state == "printed"
    record = tmp_path / "cell" / "records" / f"{work.name}-1"
    built = read_as_built(record)
    assert (built.verdict, built.layers_built, built.simulated) == ("printed", work.layers, False)
    assert WORDS in built.facts
    assert {one.name for one in summaries(record / "telemetry.parquet")} >= {"oxygen_percent", "bed_temperature_c"}


def test_settings_of_another_driver_are_refused(tmp_path: Path) -> None:
    text = (
        'name = "c"\nmachine = "sim-01"\nserial = "1"\ndriver = "twin"\n'
        '[[lots]]\nmaterial = "m"\nlot = "l"\nexpires = 2030-01-01\n'
        '[[calibrations]]\nname = "p"\ndone = 2026-01-01\ndue = 2030-01-01\n[opcua]\nendpoint = "opc.tcp://h:1"\nshare = "/s"\n'
    )
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(MachineError, match="go together"):
        read_cell_settings(tmp_path)
