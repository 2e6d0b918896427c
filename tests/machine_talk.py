"""Machines of a test's own that tell of a build: by the messages of the contract, with numbers that say which sample they are."""

from __future__ import annotations

import random

from batchone.factory.intake import Heard
from batchone.factory.twin.messages import Alarm, Birth, Data, Death, Model, Value, payload, topic

NAMES = ("bed_temperature_c", "oxygen_percent", "laser_power_w")


def birth(machine: str = "m-1", session: str = "s-1", *, values: int = len(NAMES)) -> Heard:
    """The first message of a session; with more values than have names, made-up ones."""
    names = (*NAMES, *(f"value_{number}" for number in range(values)))[:values]
    told = tuple(Value(name=name, unit="1") for name in names)
    return heard(
        Birth(session=session, machine=machine, profile="lpbf", process="ti64", layers=100, period_s=1.0, values=told), machine
    )


def data(number: int, machine: str = "m-1", session: str = "s-1", *, alarms: tuple[Alarm, ...] = ()) -> Heard:
    """A sample."""
    values = dict(zip(NAMES, numbers(number), strict=True))
    said = Data(
        session=session, number=number, time_s=float(number), state="exposing", layer=number // 10, values=values, alarms=alarms
    )
    return heard(said, machine)


def numbers(number: int) -> tuple[float, ...]:
    """The values of a sample: any doubles, the same for the same number."""
    chance = random.Random(number)
    return tuple(round(chance.uniform(-1e6, 1e6), 6) for _ in NAMES)


def death(samples: int, machine: str = "m-1", session: str = "s-1") -> Heard:
    """The last message."""
    return heard(Death(session=session, machine=machine, reason="ended", samples=samples), machine)


def heard(message: Model, machine: str) -> Heard:
    """A message as it comes from the broker."""
    assert isinstance(message, Birth | Data | Death)
    what = "birth" if isinstance(message, Birth) else "data" if isinstance(message, Data) else "death"
    return Heard(topic(machine, what), payload(message))
