"""A twin on an MQTT broker: its birth, its samples, its death, in this order and each at least once (QoS 1).

The will is left with the broker when the machine connects: if it goes without a word, the broker tells its death (``lost``). A
machine that is connected again is born again, before what it had not been able to say. The order of samples is that of their
numbers; one that the broker had but could not confirm comes twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from batchone.factory.broker import HINT, Broker, prepare
from batchone.factory.twin.machine import Twin
from batchone.factory.twin.messages import Birth, Death, Value, data_of, payload, picture_topic, topic
from batchone.factory.twin.sensors import Sample, samples, unit_of
from batchone.pipeline.errors import MachineError
from batchone.pipeline.telemetry import Moment

_LOG = logging.getLogger(__name__)
_AT_LEAST_ONCE: Final = 1
_UNCONFIRMED: Final = (
    20_000  # project default: kept for the broker, in memory: hours at one each second; fewer than MQTT can number
)
_INFLIGHT: Final = 100  # numerical: of them, on the wire
_KEEPALIVE_S: Final = 10  # project default: after one and a half of it the broker takes a silent machine for lost
_AGAIN_S: Final = 1, 30  # project default: between tries to connect, at first and at most
_PATIENCE_S: Final = 60.0  # project default: without a word from the broker while something is to be confirmed


def birth_of(twin: Twin, *, machine: str, session: str, period_s: float) -> Birth:
    """What a twin says first."""
    first = next(samples(twin, period_s))
    return Birth(
        session=session,
        machine=machine,
        profile=twin.machine.name,
        process=twin.process.name,
        layers=twin.file.layers.count,
        period_s=period_s,
        values=tuple(Value(name=name, unit=unit_of(name)) for name in first.values),
    )


class Publisher:
    """A machine at a broker (:func:`connected`); one that does not wait for it (:func:`told_later`) drops what is too much."""

    def __init__(self, broker: Broker, birth: Birth, *, waits: bool = True) -> None:
        self.broker, self.birth, self.waits = broker, birth, waits
        self.told, self.dropped = 0, 0  # samples, those that were dropped too; messages
        self._waiting, self._confirmed_at = 0, 0.0  # messages that the broker has not confirmed; when it last did
        self._changed = threading.Condition()
        self._refused: str | None = None
        self._connected = False
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"batchone-{birth.machine}", clean_session=False)
        self._client.on_connect, self._client.on_publish = self._on_connect, self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._client.max_inflight_messages_set(_INFLIGHT)
        self._client.reconnect_delay_set(*_AGAIN_S)
        prepare(self._client, broker)
        self._client.will_set(topic(birth.machine, "death"), payload(self._death("lost", None)), qos=_AT_LEAST_ONCE, retain=True)

    def connect_later(self) -> None:
        """Be born as soon as the broker is there; what is told until then is kept."""
        self._client.connect_async(self.broker.host, self.broker.port, keepalive=_KEEPALIVE_S)
        self._client.loop_start()

    def connect(self) -> None:
        """Connect, and be born.

        Raises
        ------
        MachineError
            There is no broker, or it does not want this machine.
        """
        try:
            self._client.connect(self.broker.host, self.broker.port, keepalive=_KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise MachineError(f"broker {self.broker.url} does not answer: {error}", hint=HINT) from error
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._refused is not None, _PATIENCE_S)
            connected = self._connected
        if not connected:  # not while we hold what the client's thread may be waiting for
            self._client.disconnect()
            self._client.loop_stop()
            raise MachineError(f"broker {self.broker.url} refuses {self.birth.machine}: {self._refused}", hint=HINT)

    def tell(self, sample: Sample) -> None:
        """Say what was measured; waits while too much is under way, or drops it: its number is missing then.

        Raises
        ------
        MachineError
            The broker that it waits for has confirmed nothing for too long.
        """
        if self._has_room():
            self._send("data", payload(data_of(sample, session=self.birth.session, number=self.told)), retain=False)
        self.told += 1

    def show(self, layer: int, moment: Moment, png: bytes) -> None:
        """Show a layer; waits or drops it as :meth:`tell`.

        Raises
        ------
        MachineError
            As :meth:`tell`.
        """
        if self._has_room():
            place = picture_topic(self.birth.machine, session=self.birth.session, layer=layer, moment=moment)
            self._publish(place, png, retain=False)

    def die(self, reason: Literal["ended", "stopped"]) -> None:
        """Say the last word, and go when the broker has all of it."""
        try:
            self._send("death", payload(self._death(reason, self.told)), retain=True)
            self._wait(1)
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _death(self, reason: Literal["ended", "stopped", "lost"], told: int | None) -> Death:
        return Death(session=self.birth.session, machine=self.birth.machine, reason=reason, samples=told)

    def _send(self, what: Literal["birth", "data", "death"], message: bytes, *, retain: bool) -> None:
        self._publish(topic(self.birth.machine, what), message, retain=retain)

    def _publish(self, place: str, message: bytes, *, retain: bool) -> None:
        with self._changed:
            self._waiting += 1
        self._client.publish(place, message, qos=_AT_LEAST_ONCE, retain=retain)

    def _has_room(self) -> bool:
        """Whether one more message is kept for the broker."""
        if self.waits:
            self._wait(_UNCONFIRMED)
        with self._changed:
            room = self._waiting < _UNCONFIRMED
        if not room and self.dropped == 0:
            _LOG.error("%d messages of %s wait for broker %s: more is dropped", _UNCONFIRMED, self.birth.machine, self.broker.url)
        self.dropped += not room
        return room

    def _wait(self, fewer_than: int) -> None:
        """Until fewer messages are unconfirmed."""
        with self._changed:
            while self._waiting >= fewer_than:
                before = self._waiting
                if not self._changed.wait_for(lambda: self._waiting < before, _PATIENCE_S):  # noqa: B023
                    raise MachineError(
                        f"broker {self.broker.url} has confirmed nothing for {_PATIENCE_S:g} s, {before} messages wait",
                        hint=HINT,
                    )

    def _on_connect(self, _c: Client, _u: Any, _f: ConnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        if not reason.is_failure:
            self._send("birth", payload(self.birth), retain=True)  # before paho sends again what was unconfirmed
        with self._changed:
            self._connected, self._refused = not reason.is_failure, str(reason) if reason.is_failure else None
            self._changed.notify_all()

    def _on_publish(self, _c: Client, _u: Any, _m: int, _r: ReasonCode, _p: Properties | None) -> None:
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()

    def _on_disconnect(self, _c: Client, _u: Any, _f: DisconnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        with self._changed:
            self._refused = str(reason) if not self._connected else None
            self._changed.notify_all()


@contextmanager
def told_later(broker: Broker, birth: Birth) -> Iterator[Publisher]:
    """As :func:`connected` for a machine that prints on without its broker: what that one did not get is logged as lost."""
    publisher = Publisher(broker, birth, waits=False)
    publisher.connect_later()
    reason: Literal["ended", "stopped"] = "stopped"
    try:
        yield publisher
        reason = "ended"
    finally:
        try:
            publisher.die(reason)
        except MachineError as error:
            _LOG.error("telemetry of %s %s is lost: %s", birth.machine, birth.session, error)
        if publisher.dropped:
            _LOG.error("telemetry of %s %s: %d messages were dropped", birth.machine, birth.session, publisher.dropped)


@contextmanager
def connected(broker: Broker, birth: Birth) -> Iterator[Publisher]:
    """Be born at a broker, and die there: ``ended``, or ``stopped`` where an error comes through.

    Raises
    ------
    MachineError
        As :meth:`Publisher.connect` and :meth:`Publisher.tell`.
    """
    publisher = Publisher(broker, birth)
    publisher.connect()
    try:
        yield publisher
    except BaseException:
        publisher.die("stopped")
        raise
    publisher.die("ended")


def publish(twin: Twin, broker: Broker, *, machine: str, session: str, period_s: float, speed: float | None = None) -> int:
    """Publish a whole build, and return how many samples it had.

    Parameters
    ----------
    twin, broker
        What is printed, and where it is told.
    machine, session
        Names of the machine and of this build on it.
    period_s
        Simulated seconds from sample to sample.
    speed
        Simulated seconds in a second; None: as fast as the broker takes them.

    Raises
    ------
    MachineError
        As :func:`connected`.
    """
    started = time.monotonic()
    with connected(broker, birth_of(twin, machine=machine, session=session, period_s=period_s)) as publisher:
        for sample in samples(twin, period_s):
            if speed is not None:
                time.sleep(max(0.0, sample.time_s / speed - (time.monotonic() - started)))
            publisher.tell(sample)
        return publisher.told
