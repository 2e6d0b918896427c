"""The machine twin as a cell's machine: simulated, at any speed."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Final

from batchone.factory.drivers.driver import LayerSeen, Progress, Reading
from batchone.factory.proof import MEASURED, Work
from batchone.factory.twin.faults import Fault, random_faults
from batchone.factory.twin.machine import Layer, Twin
from batchone.factory.twin.sensors import samples
from batchone.slicer.profiles import load_machine, load_process

_WORD_S: Final = 0.25  # of the clock, between two words of progress


class TwinDriver:
    """Prints on the machine twin.

    Parameters
    ----------
    machine
        Name of the machine's profile.
    seed
        Of its noise and of its random faults; every attempt at a build has faults of its own.
    speed
        Seconds of the machine in a second of the clock.
    period_s
        Of the machine's time, between two readings.
    faults
        What goes wrong at the first attempt at each build.
    chance
        Whether faults happen by chance too, at the rates of the twin.
    """

    simulated, goes_on, measures = True, False, tuple(MEASURED)

    def __init__(
        self, machine: str, *, seed: int, speed: float, period_s: float = 10.0, faults: Sequence[Fault] = (), chance: bool = True
    ) -> None:
        self.machine = load_machine(machine)
        self.seed, self.speed, self.period_s, self.faults, self.chance = seed, speed, period_s, tuple(faults), chance

    def build(self, work: Work, attempt: int) -> Generator[Progress, None, None]:
        """See :class:`batchone.factory.drivers.driver.Driver`."""
        seed = int(work.name[:8], 16) ^ (self.seed << 8) ^ attempt
        process = load_process(work.process)
        faults = random_faults(work.layers, process, seed=seed) if self.chance else ()
        if attempt == 1:
            faults = (*self.faults, *faults)
        twin = Twin(work.folder, process, self.machine, seed=seed, faults=faults)
        layers, readings = iter(twin.built), iter(samples(twin, self.period_s))
        began, at_s = time.monotonic(), 0.0
        layer, reading = next(layers, None), next(readings, None)
        while at_s < twin.seconds:
            time.sleep(min(_WORD_S, max(0.0, (twin.seconds - at_s) / self.speed)))
            at_s = min((time.monotonic() - began) * self.speed, twin.seconds)
            seen: list[LayerSeen] = []
            while layer is not None and layer.end_s <= at_s:
                seen.append(_seen(layer))
                layer = next(layers, None)
            told: list[Reading] = []
            while reading is not None and reading.time_s <= at_s:
                told.append(Reading(reading.time_s, reading.state, reading.layer, reading.values))
                reading = next(readings, None)
            yield Progress("running", at_s, tuple(seen), tuple(told), twin.energy_kwh * at_s / twin.seconds)
        failed = twin.built[-1].state == "failed"
        reason = f"layer {twin.built[-1].index}: {', '.join(twin.built[-1].alarms)}" if failed else ""
        yield Progress("failed" if failed else "done", twin.seconds, energy_kwh=twin.energy_kwh, reason=reason)


def _seen(layer: Layer) -> LayerSeen:
    return LayerSeen(layer.index, layer.end_s, layer.energy_j, layer.alarms)
