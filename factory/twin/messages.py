"""What a machine says over MQTT: that it is there, what it measures, that it is gone."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from batchone.factory.twin.machine import State
from batchone.factory.twin.sensors import Sample
from batchone.pipeline.order import Model

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]  # also a level of a topic

ROOT: Final = "batchone"
_DIGITS: Final = 6  # numerical: of a value; beyond what any of its sensors resolves


class Value(Model):
    """One of the values that a machine measures: its name, and its unit as UCUM writes it."""

    name: Name
    unit: str


class Birth(Model):
    """The first message of a session, and again after each time that the connection was lost; retained.

    ``session`` names one build on one machine: births, data and death of it say the same.
    """

    schema_name: Annotated[Literal["batchone-machine-birth/1"], Field(alias="schema")] = "batchone-machine-birth/1"
    session: Name
    machine: Name
    profile: str
    process: str
    layers: Annotated[int, Field(ge=1)]
    period_s: Annotated[float, Field(gt=0)]
    values: tuple[Value, ...]


class Data(Model):
    """One sample. ``number`` counts from 0 without a gap within a session: after a lost connection one may come twice."""

    schema_name: Annotated[Literal["batchone-machine-data/1"], Field(alias="schema")] = "batchone-machine-data/1"
    session: Name
    number: Annotated[int, Field(ge=0)]
    time_s: Annotated[float, Field(ge=0)]
    state: State
    layer: Annotated[int, Field(ge=0)] | None
    values: dict[Name, float]


class Death(Model):
    """The last message of a session; retained.

    ``ended`` after ``samples`` samples; ``stopped`` after so many because of an error of its own; ``lost`` where the broker
    says it in the machine's place (its last will), which knows of no number. A lost machine that comes back is born again.
    """

    schema_name: Annotated[Literal["batchone-machine-death/1"], Field(alias="schema")] = "batchone-machine-death/1"
    session: Name
    machine: Name
    reason: Literal["ended", "stopped", "lost"]
    samples: Annotated[int, Field(ge=0)] | None


def topic(machine: str, what: Literal["birth", "data", "death"]) -> str:
    """Where a machine says it."""
    return f"{ROOT}/machines/{machine}/{what}"


def data_of(sample: Sample, *, session: str, number: int) -> Data:
    """A sample as a message."""
    return Data(
        session=session,
        number=number,
        time_s=round(sample.time_s, _DIGITS),
        state=sample.state,
        layer=sample.layer if sample.layer >= 0 else None,
        values={name: round(value, _DIGITS) for name, value in sample.values.items()},
    )


def payload(message: Birth | Data | Death) -> bytes:
    """As it is sent: JSON."""
    return message.model_dump_json(by_alias=True).encode("utf-8")
