"""How a machine tells of itself: over MQTT (:mod:`batchone.factory.twin.mqtt`) or, without a broker, into the store beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Literal, Protocol

from batchone.factory.intake import Heard, Intake
from batchone.factory.twin.messages import Birth, Death, data_of, payload, picture_topic, topic
from batchone.factory.twin.sensors import Sample
from batchone.pipeline.telemetry import Moment

_TOGETHER_S: Final = 0.5  # project default: what is told within it is written together


class Voice(Protocol):
    """A machine that was born, and is not dead yet."""

    def tell(self, sample: Sample) -> None:
        """Say what was measured."""
        ...

    def show(self, layer: int, moment: Moment, png: bytes) -> None:
        """Show a layer."""
        ...


Born = Callable[[Birth], AbstractContextManager[Voice]]
"""A machine's first word; it says its last one when the context ends: ``stopped`` where an error comes through."""


class Mute:
    """Nobody hears it."""

    def tell(self, sample: Sample) -> None:
        """Say it to nobody."""

    def show(self, layer: int, moment: Moment, png: bytes) -> None:
        """Show it to nobody."""


class Beside:
    """Machines of this process, beside the store of their site: what they tell is what they would tell a broker.

    Parameters
    ----------
    intake
        The way into the store; one machine at a time uses it.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake, self._lock = intake, threading.Lock()

    @contextmanager
    def born(self, birth: Birth) -> Iterator[Voice]:
        """As :data:`Born`.

        Raises
        ------
        MachineError
            The disk is full.
        """
        one = _Spoken(birth, self._take)
        one.say(Heard(topic(birth.machine, "birth"), payload(birth)))
        try:
            yield one
        except BaseException:
            one.die("stopped")
            raise
        one.die("ended")

    def _take(self, heard: list[Heard]) -> None:
        with self._lock:
            now_s = time.time()
            self._intake.take(heard, now_s=now_s)
            self._intake.file(now_s=now_s)


class _Spoken:
    """One machine beside the store."""

    def __init__(self, birth: Birth, take: Callable[[list[Heard]], None]) -> None:
        self._birth, self._take, self._told = birth, take, 0
        self._waiting: list[Heard] = []
        self._taken_s = 0.0

    def say(self, heard: Heard) -> None:
        self._waiting.append(heard)
        if time.monotonic() - self._taken_s > _TOGETHER_S:
            self._flush()

    def _flush(self) -> None:
        self._take(self._waiting)
        self._waiting, self._taken_s = [], time.monotonic()

    def tell(self, sample: Sample) -> None:
        data = data_of(sample, session=self._birth.session, number=self._told)
        self._told += 1
        self.say(Heard(topic(self._birth.machine, "data"), payload(data)))

    def show(self, layer: int, moment: Moment, png: bytes) -> None:
        place = picture_topic(self._birth.machine, session=self._birth.session, layer=layer, moment=moment)
        self.say(Heard(place, png))

    def die(self, reason: Literal["ended", "stopped"]) -> None:
        last = Death(session=self._birth.session, machine=self._birth.machine, reason=reason, samples=self._told)
        self._waiting.append(Heard(topic(self._birth.machine, "death"), payload(last)))
        self._flush()
