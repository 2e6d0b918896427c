"""An MQTT broker of a test's own, on a free port of loopback, and somebody who listens to it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

WAIT_S = 30.0


class Mosquitto:
    """A broker that keeps what is under way over a restart; ``url`` is where it is."""

    def __init__(self, folder: Path, *lines: str) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._conf, self._process = folder / "mosquitto.conf", None
        kept = (f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", "user root")
        limits = ("max_queued_messages 0", "max_inflight_messages 100")
        self._conf.write_text("\n".join([*kept, *limits, *(lines or ("allow_anonymous true",))]) + "\n")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen([program, "-c", str(self._conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers)

    @property
    def stopped(self) -> bool:
        """Whether it does not run."""
        return self._process is None

    def stop(self) -> None:
        """Stop it in order: it writes down what it holds."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WAIT_S)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0


class Listener:
    """A stock client that keeps all it hears below ``batchone/``: (topic, document, retained)."""

    def __init__(self, broker: Mosquitto, name: str = "listener") -> None:
        self.heard: list[tuple[str, dict[str, Any], bool]] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe("batchone/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._hear
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(WAIT_S)

    def of(self, what: str) -> list[dict[str, Any]]:
        """The documents of one kind, in the order in which they came."""
        return [document for topic, document, _ in self.heard if topic.endswith(f"/{what}")]

    def close(self) -> None:
        """Stop listening."""
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.heard.append((message.topic, json.loads(message.payload), message.retain))


@contextmanager
def mosquitto(folder: Path, *lines: str) -> Iterator[Mosquitto]:
    """Start a broker, with lines of its configuration in place of ``allow_anonymous``, and end it afterwards."""
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.fail("needs the Debian package mosquitto")
    broker = Mosquitto(folder, *lines)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def until(so: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    """Wait for something, but not for ever."""
    end = time.monotonic() + wait_s
    while not so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
