"""What a cell wants of a machine: take a build, say how it goes, say how it ended."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from batchone.factory.proof import Work


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine at one moment: seconds since the start of the build, state, layer (-1: none), values, units in their names."""

    time_s: float
    state: str
    layer: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LayerSeen:
    """One layer as the machine tells of it: when it ended, its energy, and what it noticed by itself."""

    index: int
    end_s: float
    energy_j: float
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """What happened since the last word: ``state`` is ``done`` or ``failed`` in the last one, with the reason.

    A layer of which an alarm is told later is told again with it. ``gap``: for a while before, the machine was not watched.
    """

    state: Literal["running", "done", "failed"]
    seconds: float
    layers: tuple[LayerSeen, ...] = ()
    readings: tuple[Reading, ...] = ()
    energy_kwh: float = 0.0
    reason: str = ""
    gap: bool = False


class Driver(Protocol):
    """One machine.

    ``simulated``: it melts nothing. ``goes_on``: a build that was begun goes on without us, and asked for the same build again it
    is followed, from its first layer on. ``measures``: what it measures of what processes want filled in, see
    :data:`batchone.factory.proof.MEASURED`.
    """

    simulated: bool
    goes_on: bool
    measures: tuple[str, ...]

    def build(self, work: Work, attempt: int) -> Generator[Progress, None, None]:
        """Hand over a build that was proved, and follow it to its end; closing the generator stops the machine.

        Raises
        ------
        MachineError
            The machine does not take it.
        """
        ...
