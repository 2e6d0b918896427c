"""The machine twin as a cell's machine: simulated, at any speed."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from batchone.factory.drivers.driver import LayerSeen, Progress, Reading
from batchone.factory.proof import MEASURED, Work
from batchone.factory.twin.camera import Camera
from batchone.factory.twin.faults import Fault, random_faults
from batchone.factory.twin.machine import Layer, Twin
from batchone.factory.twin.mqtt import birth_of
from batchone.factory.twin.sensors import samples
from batchone.factory.voice import Born, Mute, Voice
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
    serial
        By which it tells of itself; what a topic does not take is a dash there.
    born
        Whom it tells; None: nobody.
    pictures
        Of every so many layers, and of one in which it stopped; 0: none.
    """

    simulated, goes_on, measures = True, False, tuple(MEASURED)

    def __init__(
        self,
        machine: str,
        *,
        seed: int,
        speed: float,
        period_s: float = 10.0,
        faults: Sequence[Fault] = (),
        chance: bool = True,
        serial: str = "twin",
        born: Born | None = None,
        pictures: int = 0,
    ) -> None:
        self.machine, self.name = load_machine(machine), re.sub(r"[^A-Za-z0-9_-]", "-", serial)[:64]
        self.seed, self.speed, self.period_s, self.faults, self.chance = seed, speed, period_s, tuple(faults), chance
        self.born, self.pictures = born, pictures

    def build(self, work: Work, attempt: int) -> Generator[Progress, None, None]:
        """See :class:`batchone.factory.drivers.driver.Driver`."""
        seed = int(work.name[:8], 16) ^ (self.seed << 8) ^ attempt
        process = load_process(work.process)
        faults = random_faults(work.layers, process, seed=seed) if self.chance else ()
        if attempt == 1:
            faults = (*self.faults, *faults)
        twin = Twin(work.folder, process, self.machine, seed=seed, faults=faults)
        with self._voice(twin, f"{work.name}-{attempt}") as voice:
            yield from self._run(twin, voice)
        failed = twin.built[-1].state == "failed"
        reason = f"layer {twin.built[-1].index}: {', '.join(twin.built[-1].alarms)}" if failed else ""
        yield Progress("failed" if failed else "done", twin.seconds, energy_kwh=twin.energy_kwh, reason=reason)

    @contextmanager
    def _voice(self, twin: Twin, session: str) -> Iterator[Voice]:
        if self.born is None:
            yield Mute()
            return
        with self.born(birth_of(twin, machine=self.name, session=session, period_s=self.period_s)) as voice:
            yield voice

    def _run(self, twin: Twin, voice: Voice) -> Generator[Progress, None, None]:
        layers, readings = iter(twin.built), iter(samples(twin, self.period_s))
        began, at_s, camera = time.monotonic(), 0.0, Camera(twin)
        layer, reading = next(layers, None), next(readings, None)
        while at_s < twin.seconds:
            time.sleep(min(_WORD_S, max(0.0, (twin.seconds - at_s) / self.speed)))
            at_s = min((time.monotonic() - began) * self.speed, twin.seconds)
            seen: list[LayerSeen] = []
            told: list[Reading] = []
            while reading is not None and reading.time_s <= at_s:
                told.append(Reading(reading.time_s, reading.state, reading.layer, reading.values))
                voice.tell(reading)
                reading = next(readings, None)
            while layer is not None and layer.end_s <= at_s:
                seen.append(_seen(layer))
                if self.pictures and self.born and (layer.index % self.pictures == 0 or layer.state == "failed"):
                    for picture in camera.pictures(layer.index):
                        voice.show(layer.index, picture.moment, picture.small_png())
                layer = next(layers, None)
            try:
                yield Progress("running", at_s, tuple(seen), tuple(told), twin.energy_kwh * at_s / twin.seconds)
            except GeneratorExit:  # where it was stopped, it says what it noticed last
                if reading is not None:
                    voice.tell(reading)
                raise


def _seen(layer: Layer) -> LayerSeen:
    return LayerSeen(layer.index, layer.end_s, layer.energy_j, layer.alarms)
