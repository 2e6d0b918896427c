"""The telemetry of a site, from its broker: MQTT 5, QoS 1, confirmed when it is on the disk, by a session that the broker keeps.

What is not confirmed comes again, after a restart of ours or of the broker's; at most ``_UNDER_WAY`` messages are under way, then
the broker keeps the others (Receive Maximum). A confirmation belongs to the connection on which its message came: on another one
its number is that of another message.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from batchone.factory.broker import HINT, Broker, prepare
from batchone.factory.intake import Heard, Intake
from batchone.factory.twin.messages import MOST_BYTES, ROOT
from batchone.pipeline.errors import MachineError

_LOG = logging.getLogger(__name__)
_UNDER_WAY: Final = 200  # numerical: messages that are not confirmed; with the largest message it bounds our memory
_KEPT_S: Final = 30 * 86_400  # project default: how long the broker keeps what comes while we are away
_KEEPALIVE_S: Final = 10  # project default
_AGAIN_S: Final = 1, 30  # project default: between tries to connect, at first and at most
_WAIT_S: Final = 1.0  # numerical: for a message, before we look after files and age
_LOOK_S: Final = 60.0  # project default: between looks for what is silent or old
_LARGEST: Final = MOST_BYTES + 1_000  # a topic and its header above the payload


@dataclass(frozen=True, slots=True)
class _Came:
    heard: Heard
    number: int
    qos: int
    connection: int


class Ingest:
    """Takes what the machines of a broker tell into a site's store.

    Parameters
    ----------
    broker
        Where they tell it.
    intake
        The way into the store.
    now_s
        The clock, seconds since 1970.
    """

    def __init__(self, broker: Broker, intake: Intake, *, now_s: Callable[[], float] = time.time) -> None:
        self.broker, self.intake, self.now_s = broker, intake, now_s
        self._came: queue.Queue[_Came] = queue.Queue(_UNDER_WAY)
        self._connection, self._confirming, self._refused = 0, threading.Lock(), ""
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=intake.identity, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
        )
        self._client.on_connect, self._client.on_disconnect = self._on_connect, self._on_disconnect
        self._client.on_message, self._client.on_subscribe = self._on_message, self._on_subscribe
        self._client.reconnect_delay_set(*_AGAIN_S)
        prepare(self._client, broker)

    def run(self, stop: threading.Event) -> None:
        """Take in what comes until told to stop.

        Raises
        ------
        MachineError
            There is no broker, it does not want us, or the disk is full: what was not confirmed comes again.
        """
        asked = Properties(PacketTypes.CONNECT)
        asked.SessionExpiryInterval, asked.ReceiveMaximum, asked.MaximumPacketSize = _KEPT_S, _UNDER_WAY, _LARGEST
        try:
            self._client.connect(self.broker.host, self.broker.port, keepalive=_KEEPALIVE_S, clean_start=False, properties=asked)
        except (OSError, ValueError) as error:
            raise MachineError(f"broker {self.broker.url} does not answer: {error}", hint=HINT) from error
        self._client.loop_start()
        looked_s = 0.0
        try:
            while not stop.is_set():
                if self._refused:
                    raise MachineError(
                        f"broker {self.broker.url} refuses us: {self._refused}", hint="may we read batchone/# there?"
                    )
                came = self._next()
                if came:
                    self.intake.take([one.heard for one in came], now_s=self.now_s())
                    self._confirm(came)
                if time.monotonic() - looked_s > _LOOK_S:
                    self.intake.look()
                    looked_s = time.monotonic() if not self.intake.cut(now_s=self.now_s()) else looked_s
                self.intake.file(now_s=self.now_s())  # one at a time: what comes does not wait long
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _next(self) -> list[_Came]:
        """All that is there, after a while nothing."""
        came: list[_Came] = []
        with contextlib.suppress(queue.Empty):
            came.append(self._came.get(timeout=_WAIT_S))
            while True:
                came.append(self._came.get_nowait())
        return came

    def _confirm(self, came: list[_Came]) -> None:
        with self._confirming:
            for one in came:
                if one.qos and one.connection == self._connection:
                    self._client.ack(one.number, one.qos)

    def _on_connect(self, client: Client, _u: Any, _f: ConnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            return
        _LOG.info("connected to %s", self.broker.url)
        once = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB  # what it keeps was heard where we were subscribed before
        client.subscribe(f"{ROOT}/machines/#", options=SubscribeOptions(qos=1, retainHandling=once))

    def _on_subscribe(self, _c: Client, _u: Any, _m: int, reasons: list[ReasonCode], _p: Properties | None) -> None:
        self._refused = next((str(reason) for reason in reasons if reason.is_failure), "")
        _LOG.info("hears what machines tell")

    def _on_disconnect(self, _c: Client, _u: Any, _f: DisconnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        with self._confirming:
            self._connection += 1
        _LOG.info("not connected: %s", reason)

    def _on_message(self, _c: Client, _u: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._came.put(_Came(Heard(topic, bytes(message.payload), message.retain), message.mid, message.qos, self._connection))
