"""What a machine says over MQTT: that it is there, what it measures, that it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints

from batchone.pipeline.order import Model
from batchone.pipeline.telemetry import Moment, State

if TYPE_CHECKING:
    from batchone.factory.twin.sensors import Sample

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]  # also a level of a topic

Text = Annotated[str, StringConstraints(max_length=100)]
ROOT: Final = "batchone"
MOST: Final = 1_000_000_000  # of samples and layers in a session: thirty years of a sample each second
MOST_VALUES, MOST_ALARMS = 256, 64  # project defaults: more is no machine
MOST_BYTES: Final = 400_000  # of a message; the largest is a picture of 512 x 512
_DIGITS: Final = 6  # numerical: of a value; beyond what any of its sensors resolves


class Value(Model):
    """One of the values that a machine measures: its name, and its unit as UCUM writes it."""

    name: Name
    unit: Text


class Birth(Model):
    """The first message of a session, and again after each time that the connection was lost; retained.

    ``session`` names one build on one machine: births, data and death of it say the same.
    """

    schema_name: Annotated[Literal["batchone-machine-birth/1"], Field(alias="schema")] = "batchone-machine-birth/1"
    session: Name
    machine: Name
    profile: Text
    process: Text
    layers: Annotated[int, Field(ge=1, le=MOST)]
    period_s: Annotated[float, Field(gt=0)]
    values: Annotated[tuple[Value, ...], Field(max_length=MOST_VALUES)]


class Alarm(Model):
    """What the machine itself noticed in a layer."""

    layer: Annotated[int, Field(ge=0, le=MOST)]
    name: Name


class Data(Model):
    """One sample. ``number`` counts from 0 without a gap within a session: after a lost connection one may come twice.

    ``alarms`` are those of the layers that ended since the sample before it.
    """

    schema_name: Annotated[Literal["batchone-machine-data/1"], Field(alias="schema")] = "batchone-machine-data/1"
    session: Name
    number: Annotated[int, Field(ge=0, le=MOST)]
    time_s: Annotated[float, Field(ge=0)]
    state: State
    layer: Annotated[int, Field(ge=0, le=MOST)] | None
    values: Annotated[dict[Name, float], Field(max_length=MOST_VALUES)]
    alarms: Annotated[tuple[Alarm, ...], Field(max_length=MOST_ALARMS)] = ()


class Death(Model):
    """The last message of a session; retained.

    ``ended`` after ``samples`` samples; ``stopped`` after so many because of an error of its own; ``lost`` where the broker
    says it in the machine's place (its last will), which knows of no number. A lost machine that comes back is born again.
    """

    schema_name: Annotated[Literal["batchone-machine-death/1"], Field(alias="schema")] = "batchone-machine-death/1"
    session: Name
    machine: Name
    reason: Literal["ended", "stopped", "lost"]
    samples: Annotated[int, Field(ge=0, le=MOST)] | None


def topic(machine: str, what: Literal["birth", "data", "death"]) -> str:
    """Where a machine says it."""
    return f"{ROOT}/machines/{machine}/{what}"


def picture_topic(machine: str, *, session: str, layer: int, moment: Moment) -> str:
    """Where a machine shows a layer: the message is a PNG."""
    return f"{ROOT}/machines/{machine}/picture/{session}/{layer}/{moment}"


def data_of(sample: Sample, *, session: str, number: int) -> Data:
    """A sample as a message."""
    return Data(
        session=session,
        number=number,
        time_s=round(sample.time_s, _DIGITS),
        state=sample.state,
        layer=sample.layer if sample.layer >= 0 else None,
        values={name: round(value, _DIGITS) for name, value in sample.values.items()},
        alarms=tuple(Alarm(layer=layer, name=name) for layer, name in sample.alarms),
    )


def payload(message: Birth | Data | Death) -> bytes:
    """As it is sent: JSON."""
    return message.model_dump_json(by_alias=True).encode("utf-8")
