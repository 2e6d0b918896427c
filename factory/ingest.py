"""The telemetry of a site, from its broker: MQTT 5, QoS 1, confirmed when it is on the disk, by a session that the broker keeps.

What is not confirmed comes again, after a restart of ours or of the broker's; at most ``_UNDER_WAY`` messages are under way, then
the broker keeps the others (Receive Maximum). All of it runs in one thread: what was heard on a connection is confirmed on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from batchone.factory.broker import HINT, Broker, prepare
from batchone.factory.intake import Heard, Intake
from batchone.factory.twin.messages import MOST_BYTES, ROOT
from batchone.pipeline.errors import MachineError

_LOG = logging.getLogger(__name__)
_UNDER_WAY: Final = 1000  # numerical: messages that are not confirmed; with the largest message it bounds our memory
_KEPT_S: Final = 30 * 86_400  # project default: how long the broker keeps what comes while we are away
_KEEPALIVE_S: Final = 30  # project default: well above what we are busy with between two looks
_AGAIN_S: Final = 1.0, 30.0  # project default: between tries to connect, at first and at most
_WAIT_S: Final = 1.0  # numerical: for a message, before we look after files and age
_LOOK_S: Final = 60.0  # project default: between looks for what is silent or old
_LARGEST: Final = MOST_BYTES + 1_000  # a topic and its header above the payload


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
        self._came: list[MQTTMessage] = []
        self._refused = ""
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=intake.identity, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
        )
        self._client.on_connect, self._client.on_subscribe = self._on_connect, self._on_subscribe
        self._client.on_message = lambda _c, _u, message: self._came.append(message)
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
        looked_s = 0.0
        try:
            while not stop.is_set():
                connected = self._hear()
                if self._refused:
                    raise MachineError(
                        f"broker {self.broker.url} refuses us: {self._refused}", hint="may we read batchone/# there?"
                    )
                if self._came:
                    self.intake.take([_heard(one) for one in self._came], now_s=self.now_s())
                    self._confirm()
                if time.monotonic() - looked_s > _LOOK_S:
                    self.intake.look()
                    looked_s = time.monotonic() if not self.intake.cut(now_s=self.now_s()) else looked_s
                self.intake.file(now_s=self.now_s())  # one at a time: what comes does not wait long
                if not connected:
                    self._connect_again(stop)
        finally:
            self._client.disconnect()

    def _hear(self) -> bool:
        """Read all that is there, after a while nothing; False where the connection is lost."""
        wait_s = _WAIT_S
        while len(self._came) < _UNDER_WAY:
            before = len(self._came)
            if self._client.loop(wait_s) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return False
            if len(self._came) == before:
                break
            wait_s = 0.0
        return True

    def _confirm(self) -> None:
        for one in self._came:
            if one.qos:
                self._client.ack(one.mid, one.qos)
        self._came.clear()

    def _connect_again(self, stop: threading.Event) -> None:
        _LOG.info("not connected")
        pause_s = _AGAIN_S[0]
        while not stop.wait(pause_s):
            try:
                self._client.reconnect()
            except OSError:
                pause_s = min(2.0 * pause_s, _AGAIN_S[1])
            else:
                return

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


def _heard(message: MQTTMessage) -> Heard:
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""
    return Heard(topic, bytes(message.payload), message.retain)
