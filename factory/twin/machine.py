"""A machine that prints the layers of a folder in simulated time, layer by layer; the same input gives the same build.

Time 0 is the start of the build: purging, heating, then each layer (recoating, exposing), cooling, done.

======================  =====================================================================================================
purging                 V / Q ln(20.9 % / held), of inert gas (:mod:`batchone.factory.twin.plant`)
heating                 what is left of ``setup_s`` of the process
recoating               ``recoat_s``; where no laser draws, what ``exposing_share`` leaves of it
exposing                the laser's strokes and jumps (:mod:`batchone.factory.twin.vectors`), or that share of ``recoat_s``
paused                  after a layer in which oxygen rose beyond the limit: V / Q ln(reached / held)
cooling                 tau ln((T - ambient) / (unload - ambient))
energy                  sum of time in each state x what ``[power]`` of the machine says: heat_kw while purging and heating,
                        build_kw while recoating, exposing and paused, cool_kw while cooling
molten                  area of the outlines x thickness x density
filter load             ``fume_share`` of what melts
laser's power           set x (1 - drift x hours that it shone) x (1 - sag)
wear of the blade       for each stroke ``wear_um_per_stroke`` + ``wear_um_per_raised_um`` x how far edges stand up
feed                    for each stroke ``dose_factor`` x area of the bed x thickness x (1 - bare share), packed powder;
                        of resin what is cured
======================  =====================================================================================================

Not modelled: what heat does to the part, the way of the gas, more than one laser, and the machine's own pauses; where a lamp or
a mask exposes, the time of a layer does not depend on what is in it, as its profile says. Toolpaths are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

import numpy as np

from batchone.factory.twin.faults import Effects, Fault, FaultKind, effects, refuse_impossible
from batchone.factory.twin.plant import AIR_OXYGEN_PERCENT, Plant, plant_of
from batchone.factory.twin.vectors import Strokes, execute, layer_file
from batchone.pipeline.errors import MachineError
from batchone.pipeline.machine import Machine, Power
from batchone.pipeline.process import Process
from batchone.pipeline.telemetry import State
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_format import CliFile
from batchone.slicer.layers import Layers

STATES: Final[tuple[State, ...]] = get_args(State)
BUILDING: Final[tuple[State, ...]] = ("recoating", "exposing", "paused")

Alarm = Literal["powder", "oxygen", "laser-power", "recoater-force", "mains"]

Numbers = TypeVar("Numbers", float, FloatArray)

_CUT_AT: Final = 0.5  # project default: power goes in the middle of the light
_LEAST_COVER: Final = 0.95  # unverified, project default: of the bed, below which the powder's own sensor tells
_LEAST_LASER_SHARE: Final = 0.9  # unverified, project default: of the power, below which the laser tells
_MOST_STROKE: Final = 2.0  # unverified, project default: times the force of a new blade, beyond which the drive tells


@dataclass(frozen=True, slots=True)
class Phase:
    """One state in a row, from ``start_s`` to ``end_s``; ``layer`` from 0, -1 outside of layers."""

    state: State
    layer: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as it was built.

    Attributes
    ----------
    index
        From 0.
    z_mm
        Its upper surface above the plate.
    state
        ``exposed``, or ``failed`` where power was cut in it.
    start_s, end_s
        From the first move of the blade to the last of the laser.
    recoat_s, laser_on_s, delay_s, jump_s
        What it took: spreading, light, waiting within and between strokes, jumps with settling. Where no laser draws, the
        lamp shines for ``laser_on_s``.
    paused_s
        Held after it, until oxygen was low again.
    energy_j
        From the mains, the pause included.
    strokes, drawn_mm
        Contours and lines, and their length.
    area_mm2, melted_g
        Of the outlines; of what melted or was cured.
    filter_load_g, recoater_wear_um, feed_percent
        After it, since the start of the build; level of the feed.
    oxygen_percent, oxygen_after_percent
        The most in it; after it and its pause.
    laser_share
        Of its set power that the laser had.
    cover_share
        Of the bed that got powder.
    streak_mm, raised_um, spatters
        Width of furrows, height of edges above the powder, particles: what is seen in the picture, and by no sensor.
    alarms
        What the machine itself noticed.
    faults
        The truth: what was wrong.
    """

    index: int
    z_mm: float
    state: Literal["exposed", "failed"]
    start_s: float
    end_s: float
    recoat_s: float
    laser_on_s: float
    delay_s: float
    jump_s: float
    paused_s: float
    energy_j: float
    strokes: int
    drawn_mm: float
    area_mm2: float
    melted_g: float
    filter_load_g: float
    recoater_wear_um: float
    feed_percent: float
    oxygen_percent: float
    oxygen_after_percent: float
    laser_share: float
    cover_share: float
    streak_mm: float
    raised_um: float
    spatters: int
    alarms: tuple[Alarm, ...]
    faults: tuple[FaultKind, ...]


class Twin:
    """One build on one machine.

    Parameters
    ----------
    build
        A job folder or a build folder: its layers are printed as they were written.
    process, machine
        The profiles by which they were made.
    seed
        Of the noise of sensors and of where faults lie.
    faults
        What goes wrong (:func:`batchone.factory.twin.faults.random_faults`).

    Raises
    ------
    MachineError
        No layers or damaged ones, a toolpath, a machine without ``[power]``, a fault that cannot be.
    """

    def __init__(self, build: Path, process: Process, machine: Machine, *, seed: int, faults: tuple[Fault, ...] = ()) -> None:
        self.plant: Plant = plant_of(process)
        if machine.power is None:
            raise MachineError(f"machine {machine.name} has no [power]", hint="state what it draws from the mains in each state")
        self.power: Power = machine.power
        self.process, self.machine, self.seed, self.faults = process, machine, seed, faults
        self.file: CliFile = layer_file(build)
        refuse_impossible(faults, process, self.file.layers.count)

    @cached_property
    def strokes(self) -> Strokes:
        """What the laser does in each layer; nothing where none draws."""
        if self.process.scan is not None:
            return execute(self.file, self.process.scan)
        none = np.zeros(self.file.layers.count)
        lamp_s = none + self.plant.exposing_share * self.process.recoat_s
        return Strokes(lamp_s, none, none, none, none, np.zeros(self.file.layers.count, np.int64))

    @cached_property
    def outlines(self) -> Layers:
        """What is solid: the contours of parts and supports, without those that a beam runs along."""
        return self.file.outlines

    @property
    def recoat_s(self) -> float:
        """Of each layer."""
        return self.process.recoat_s * (1.0 if self.process.scan is not None else 1.0 - self.plant.exposing_share)

    @property
    def held_percent(self) -> float:
        """Oxygen while it builds."""
        limit = self.process.conditions.oxygen_percent
        return AIR_OXYGEN_PERCENT if limit is None else limit * self.plant.oxygen_held_share

    @property
    def purge_s(self) -> float:
        """Until oxygen is there."""
        return self.plant.purged_s(AIR_OXYGEN_PERCENT, self.held_percent)

    @property
    def ready_s(self) -> float:
        """When the first layer begins."""
        return max(self.process.setup_s, self.purge_s)

    @property
    def built_s(self) -> float:
        """When the last layer ends, or power is cut."""
        return self.built[-1].end_s

    @property
    def seconds(self) -> float:
        """When the build may be opened, or power is cut."""
        return self.phases[-1].end_s

    @property
    def energy_kwh(self) -> float:
        """From the mains, until it may be opened."""
        return sum(self.drawn_kw(phase.state) * (phase.end_s - phase.start_s) for phase in self.phases) / 3600.0

    @cached_property
    def built(self) -> tuple[Layer, ...]:
        """All layers, the last one ``failed`` where power was cut."""
        return tuple(self.layers())

    def drawn_kw(self, state: State) -> float:
        """From the mains in a state."""
        power = self.power
        by = {"purging": power.heat_kw, "heating": power.heat_kw, "cooling": power.cool_kw, "failed": 0.0}
        return power.build_kw if state in BUILDING else by.get(state, power.idle_kw)

    def bed_c(self, time_s: float) -> float:
        """Of the bed without the laser's warmth, before it cools."""
        plant = self.plant
        return plant.bed_c + (plant.ambient_c - plant.bed_c) * math.exp(-time_s / plant.warm_s)

    def layers(self) -> Iterator[Layer]:
        """Print, layer by layer."""
        plant, strokes, area_mm2 = self.plant, self.strokes, self.outlines.area_mm2()
        width_mm, depth_mm, height_mm = self.machine.envelope_mm
        bed_mm2, feed_mm3 = width_mm * depth_mm, plant.feed_share * width_mm * depth_mm * height_mm
        time_s, oxygen, shone_s, fume_g, wear_um, used_mm3 = self.ready_s, self.held_percent, 0.0, 0.0, 0.0, 0.0
        for k, thick_mm in enumerate(np.diff(self.file.top_mm, prepend=0.0).tolist()):
            wrong = effects(self.faults, k)
            done = _CUT_AT if wrong.cut else 1.0
            laser_on_s, delay_s, jump_s, drawn_mm = (
                done * float(of[k]) for of in (strokes.laser_on_s, strokes.delay_s, strokes.jump_s, strokes.drawn_mm)
            )
            end_s = time_s + self.recoat_s + laser_on_s + delay_s + jump_s
            most, oxygen, paused_s = self._oxygen(oxygen, wrong, end_s - time_s)
            laser_share = (1.0 - plant.laser_drift_per_h * shone_s / 3600.0) * wrong.laser_share
            melted_mm3 = done * float(area_mm2[k]) * thick_mm
            melted_g = melted_mm3 * self.process.density_g_per_mm3
            cover = 1.0 - wrong.bare_share
            shone_s += laser_on_s
            fume_g += plant.fume_share * melted_g
            wear_um += plant.wear_um_per_stroke + plant.wear_um_per_raised_um * wrong.raised_um
            used_mm3 += melted_mm3 if self.process.kind == "vat" else plant.dose_factor * bed_mm2 * thick_mm * cover
            yield Layer(
                index=k, z_mm=float(self.file.top_mm[k]), state="failed" if wrong.cut else "exposed",
                start_s=time_s, end_s=end_s, recoat_s=self.recoat_s, laser_on_s=laser_on_s, delay_s=delay_s, jump_s=jump_s,
                paused_s=paused_s, energy_j=1000.0 * self.power.build_kw * (end_s + paused_s - time_s),
                strokes=int(done * strokes.count[k]), drawn_mm=drawn_mm, area_mm2=float(area_mm2[k]), melted_g=melted_g,
                filter_load_g=fume_g, recoater_wear_um=wear_um, feed_percent=100.0 * (1.0 - used_mm3 / feed_mm3),
                oxygen_percent=most, oxygen_after_percent=oxygen, laser_share=laser_share, cover_share=cover,
                streak_mm=wrong.streak_mm, raised_um=wrong.raised_um, spatters=wrong.spatters,
                alarms=self._alarms(wrong, laser_share, self.stroke_n(wrong.raised_um, wear_um), over=paused_s > 0.0),
                faults=wrong.kinds,
            )  # fmt: skip
            if wrong.cut:
                return
            time_s = end_s + paused_s

    def _oxygen(self, before: float, wrong: Effects, seconds: float) -> tuple[float, float, float]:
        """The most in a layer, after it and its pause, and the seconds of that."""
        limit = self.process.conditions.oxygen_percent
        if limit is None:
            return before, before, 0.0
        if wrong.leak == 0.0:  # what a leak left behind is purged meanwhile
            return before, max(self.held_percent, before * math.exp(-seconds / self.plant.mixing_s)), 0.0
        most = min(before + wrong.leak * self.plant.leak_percent_per_min * seconds / 60.0, AIR_OXYGEN_PERCENT)
        if most <= limit or wrong.cut:
            return most, most, 0.0
        return most, self.held_percent, self.plant.purged_s(most, self.held_percent)

    def stroke_n(self, raised_um: Numbers, wear_um: Numbers) -> Numbers:
        """Force on the blade; of numbers or arrays."""
        plant = self.plant
        return plant.stroke_n + plant.stroke_n_per_raised_um * raised_um + plant.stroke_n_per_wear_um * wear_um

    def _alarms(self, wrong: Effects, laser_share: float, force_n: float, *, over: bool) -> tuple[Alarm, ...]:
        told: dict[Alarm, bool] = {
            "powder": 1.0 - wrong.bare_share < _LEAST_COVER,
            "oxygen": over,
            "laser-power": laser_share < _LEAST_LASER_SHARE,
            "recoater-force": force_n > _MOST_STROKE * self.plant.stroke_n,
            "mains": wrong.cut,
        }
        return tuple(alarm for alarm, is_so in told.items() if is_so)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """All states in their order, each from where the one before ends; the last one, done or failed, takes no time."""
        found = [Phase("purging", -1, 0.0, self.purge_s), Phase("heating", -1, self.purge_s, self.ready_s)]
        for layer in self.built:
            recoated_s = layer.start_s + layer.recoat_s
            found += [
                Phase("recoating", layer.index, layer.start_s, recoated_s),
                Phase("exposing", layer.index, recoated_s, layer.end_s),
                Phase("paused", layer.index, layer.end_s, layer.end_s + layer.paused_s),
            ]
        last, end_s = self.built[-1], found[-1].end_s
        if last.state == "failed":
            found.append(Phase("failed", last.index, end_s, end_s))
        else:
            opened_s = end_s + self.plant.cooled_s(self.bed_c(end_s))
            found += [Phase("cooling", -1, end_s, opened_s), Phase("done", -1, opened_s, opened_s)]
        keep = [phase for phase in found[:-1] if phase.end_s > phase.start_s]
        return (*keep, found[-1])
