"""The twin on a real broker: births, samples and deaths in their order, none lost, and all of them by the shipped schemas."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import test_hatch as plates
from mosquitto import Listener, Mosquitto, mosquitto, until
from pydantic import ValidationError
from test_twin import MACHINE, TITANIUM, folder

from batchone.factory.broker import Broker
from batchone.factory.twin import mqtt
from batchone.factory.twin.faults import Fault
from batchone.factory.twin.machine import Twin
from batchone.factory.twin.messages import Birth, Data, Death
from batchone.factory.twin.mqtt import birth_of, connected, publish, told_later
from batchone.factory.twin.sensors import samples, unit_of
from batchone.pipeline.errors import MachineError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]  # a server or broker that does not answer is told with where it hangs


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    build = folder(tmp_path_factory.mktemp("bar"), [plates.box((10, 15, 0), (50, 35, 0.3))], TITANIUM)
    return Twin(build, TITANIUM, MACHINE, seed=5)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Listener]:
    one = Listener(broker)
    yield one
    one.close()


def schema(what: str) -> dict[str, object]:
    shipped = resources.files("batchone.factory").joinpath(f"schemas/machine-{what}.schema.json").read_text(encoding="utf-8")
    return json.loads(shipped)  # type: ignore[no-any-return]


def test_a_build_is_born_measures_and_dies_in_this_order(twin: Twin, broker: Mosquitto, listener: Listener) -> None:
    told = publish(twin, Broker(broker.url), machine="lpbf-1", session="b1", period_s=50.0)
    until(lambda: len(listener.of("death")) == 1)
    assert [topic.removeprefix("batchone/machines/lpbf-1/") for topic, _, _ in listener.heard] == [
        "birth", *["data"] * told, "death"
    ]  # fmt: skip
    for topic, document, retained in listener.heard:
        jsonschema.validate(document, schema(topic.rsplit("/", 1)[1]))
        assert document["session"] == "b1"
        assert not retained  # heard as it was said
    expected = list(samples(twin, 50.0))
    data = listener.of("data")
    assert [one["number"] for one in data] == list(range(len(expected)))
    assert [one["state"] for one in data] == [one.state for one in expected]
    assert data[-1]["values"] == pytest.approx(dict(expected[-1].values), abs=1e-6)
    birth = listener.of("birth")[0]
    assert {value["name"]: value["unit"] for value in birth["values"]} == {name: unit_of(name) for name in expected[0].values}
    assert listener.of("death")[0] == {
        "schema": "batchone-machine-death/1", "session": "b1", "machine": "lpbf-1", "reason": "ended", "samples": told
    }  # fmt: skip


def test_who_comes_late_is_told_of_birth_and_death(twin: Twin, broker: Mosquitto) -> None:
    publish(twin, Broker(broker.url), machine="lpbf-1", session="b1", period_s=2000.0)
    late = Listener(broker, "late")
    until(lambda: len(late.heard) == 2)
    late.close()
    assert [(document["session"], retained) for _, document, retained in late.heard] == [("b1", True)] * 2
    assert late.of("data") == []


def test_the_broker_tells_the_death_of_a_machine_that_was_killed(twin: Twin, broker: Mosquitto, listener: Listener) -> None:
    birth = birth_of(twin, machine="lpbf-1", session="b2", period_s=1.0).model_dump_json(by_alias=True)
    code = (
        "import sys, time\n"
        "from batchone.factory.twin.messages import Birth\n"
        "from batchone.factory.broker import Broker\nfrom batchone.factory.twin.mqtt import connected\n"
        "with connected(Broker(sys.argv[1]), Birth.model_validate_json(sys.argv[2])):\n    time.sleep(60)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, broker.url, birth])
    until(lambda: len(listener.of("birth")) == 1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    until(lambda: len(listener.of("death")) == 1)
    assert listener.of("death")[0]["reason"] == "lost"
    assert listener.of("death")[0]["samples"] is None
    assert listener.of("death")[0]["session"] == "b2"
    jsonschema.validate(listener.of("death")[0], schema("death"))


def test_no_sample_is_lost_while_the_broker_restarts(twin: Twin, broker: Mosquitto, listener: Listener) -> None:
    working = threading.Thread(
        target=publish,
        args=(twin, Broker(broker.url)),
        kwargs={"machine": "m", "session": "b3", "period_s": 3.0, "speed": 1500.0},
    )
    working.start()
    until(lambda: len(listener.of("data")) > 100)
    broker.stop()
    broker.start()
    working.join(60.0)
    assert not working.is_alive()
    until(lambda: bool(listener.of("death")) and listener.of("death")[-1]["reason"] == "ended")
    numbers = [one["number"] for one in listener.of("data")]
    assert sorted(set(numbers)) == list(range(listener.of("death")[-1]["samples"]))
    assert len(listener.of("birth")) >= 2  # born again
    assert len(numbers) - len(set(numbers)) <= 500  # what may come twice is what was under way


def test_who_prints_on_without_its_broker_drops_what_is_too_much_and_says_so(
    twin: Twin, broker: Mosquitto, listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt, "_UNCONFIRMED", 5)
    monkeypatch.setattr(mqtt, "_PATIENCE_S", 20.0)  # who waits for the broker ends by it
    broker.stop()
    measured = samples(twin, 1.0)
    with told_later(Broker(broker.url), birth_of(twin, machine="lpbf-1", session="b9", period_s=1.0)) as publisher:
        for _ in range(8):
            publisher.tell(next(measured))
        broker.start()
        until(lambda: len(listener.of("data")) == 5 and publisher._waiting == 0)
        publisher.tell(next(measured))
    until(lambda: len(listener.of("death")) == 1)
    assert [one["number"] for one in listener.of("data")] == [0, 1, 2, 3, 4, 8]
    assert (listener.of("death")[0]["reason"], listener.of("death")[0]["samples"]) == ("ended", 9)
    assert "3 messages were dropped" in caplog.text


def test_an_error_while_it_prints_is_a_death_too(twin: Twin, broker: Mosquitto, listener: Listener) -> None:
    birth = birth_of(twin, machine="lpbf-1", session="b4", period_s=1.0)

    def breaks() -> None:
        with connected(Broker(broker.url), birth) as publisher:
            publisher.tell(next(samples(twin, 1.0)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks()
    until(lambda: len(listener.of("death")) == 1)
    assert (listener.of("death")[0]["reason"], listener.of("death")[0]["samples"]) == ("stopped", 1)


def test_a_build_that_fails_says_so_in_its_last_sample(twin: Twin, broker: Mosquitto, listener: Listener, tmp_path: Path) -> None:
    build = folder(tmp_path / "bar", [plates.box((10, 15, 0), (50, 35, 0.3))], TITANIUM)
    failing = Twin(build, TITANIUM, MACHINE, seed=5, faults=(Fault("power-cut", 3),))
    publish(failing, Broker(broker.url), machine="lpbf-1", session="b5", period_s=500.0)
    until(lambda: len(listener.of("death")) == 1)
    assert (listener.of("data")[-1]["state"], listener.of("data")[-1]["layer"]) == ("failed", 3)


def test_speed_is_simulated_seconds_in_a_second(twin: Twin, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(mqtt.time, "sleep", slept.append)
    monkeypatch.setattr(mqtt.time, "monotonic", lambda: 100.0)
    publish(twin, Broker(broker.url), machine="lpbf-1", session="b6", period_s=1000.0, speed=50.0)
    assert slept[:3] == [0.0, 20.0, 40.0]


def test_a_broker_that_is_not_there_or_does_not_want_it_is_told(twin: Twin, tmp_path: Path) -> None:
    birth = birth_of(twin, machine="lpbf-1", session="b7", period_s=1.0)
    with pytest.raises(MachineError, match="does not answer"), connected(Broker("mqtt://127.0.0.1:1"), birth):
        pass
    with (
        mosquitto(tmp_path, "allow_anonymous false") as strict,
        pytest.raises(MachineError, match="refuses lpbf-1"),
        connected(Broker(strict.url), birth),
    ):
        pass


def test_the_way_to_a_broker_elsewhere_is_encrypted() -> None:
    assert (Broker("mqtts://broker.hospital").port, Broker("mqtt://localhost").port) == (8883, 1883)
    assert Broker("mqtt://[::1]:99").port == 99
    with pytest.raises(MachineError, match="not encrypted"):
        Broker("mqtt://10.0.0.1")
    for url in (
        "http://localhost",
        "mqtt://",
        "localhost:1883",
        "mqtt://localhost/x",
        "mqtt://localhost:x",
        "mqtt://localhost:65536",
        "mqtt://me:secret@localhost",
    ):
        with pytest.raises(MachineError, match="must be mqtts"):
            Broker(url)
    assert "secret" not in repr(Broker("mqtt://localhost", user="me", password="secret"))


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "a" * 65])
def test_a_name_that_is_no_level_of_a_topic_is_refused(twin: Twin, name: str) -> None:
    with pytest.raises(ValidationError):
        birth_of(twin, machine=name, session="b8", period_s=1.0)


@pytest.mark.parametrize(("what", "model"), [("birth", Birth), ("data", Data), ("death", Death)])
def test_the_shipped_schemas_are_those_of_the_messages(what: str, model: type[Birth | Data | Death]) -> None:
    shipped = schema(what)
    del shipped["$schema"]
    assert shipped == model.model_json_schema(mode="serialization")


def test_every_value_has_a_unit_or_is_counted(twin: Twin) -> None:
    values = next(samples(twin, 1.0)).values
    counted = {name for name in values if unit_of(name) == "1"}
    assert counted == {"layers_done", "layer_strokes", "strokes", "recoater_strokes"}
