"""What the twin reckons with beyond the profiles of process and machine (``plants.toml``), with the source of each number."""

from __future__ import annotations

import math
import tomllib
from functools import lru_cache
from importlib import resources
from typing import Annotated

from pydantic import Field

from batchone.pipeline.errors import MachineError
from batchone.pipeline.order import Model
from batchone.pipeline.process import Process

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]

AIR_OXYGEN_PERCENT = 20.9  # dry air, by volume


class Plant(Model):
    """A machine of one kind.

    The bed warms from ``ambient_c`` to ``bed_c`` with the time constant ``warm_s``, cools with ``cool_s``, and is opened at
    ``unload_c``; it is warmer by ``bed_k_per_w`` of the mean power of the laser over a layer, and the chamber's gas has
    ``chamber_warm_share`` of its warmth. Inert gas of ``purge_l_per_min`` mixes at once with the ``chamber_l``; oxygen is then
    held at ``oxygen_held_share`` of the limit of the process with ``held_l_per_min``; the worst leak raises it by
    ``leak_percent_per_min``. Of what melts, ``fume_share`` becomes fume, all of which the filter keeps: its pressure is
    ``clean_filter_pa`` and ``filter_pa_per_g`` more; beyond ``most_filter_pa`` the flow of ``gas_m_per_s`` falls with the root
    of their ratio. The laser, or the lamp, of ``laser_w`` loses ``laser_drift_per_h`` of its power by the hour that it shines.
    Where no laser draws, it shines for ``exposing_share`` of a layer's time. A stroke spreads ``dose_factor`` times the layer's
    volume out of a feed of ``feed_share`` times the volume of the machine, and wears the blade.
    """

    ambient_c: float
    bed_c: float
    unload_c: float
    warm_s: Positive
    cool_s: Positive
    bed_k_per_w: NotNegative
    chamber_warm_share: NotNegative
    chamber_l: Positive
    purge_l_per_min: Positive
    held_l_per_min: NotNegative
    oxygen_held_share: Share
    leak_percent_per_min: NotNegative
    gas_m_per_s: NotNegative
    clean_filter_pa: NotNegative
    filter_pa_per_g: NotNegative
    most_filter_pa: Positive
    filter_holds_g: Positive
    fume_share: Annotated[float, Field(ge=0, lt=1)]
    laser_w: Positive
    laser_drift_per_h: NotNegative
    laser_warms_k_per_kw: NotNegative
    exposing_share: Share
    dose_factor: Positive
    feed_share: Positive
    powder_packing: Share
    wear_um_per_stroke: NotNegative
    wear_um_per_raised_um: NotNegative
    stroke_n: Positive
    stroke_n_per_raised_um: NotNegative
    stroke_n_per_wear_um: NotNegative
    sources: dict[str, str]

    @property
    def mixing_s(self) -> float:
        """In which gas of the purge takes the chamber's place once: ``V / Q``."""
        return 60.0 * self.chamber_l / self.purge_l_per_min

    def purged_s(self, from_percent: float, to_percent: float) -> float:
        """Until oxygen has fallen so far: ``V / Q ln(from / to)``; 0 where it is there already."""
        return max(0.0, self.mixing_s * math.log(from_percent / to_percent))

    def cooled_s(self, from_c: float) -> float:
        """Until the bed may be opened: ``tau ln((T - ambient) / (unload - ambient))``; 0 where it may be at once."""
        return max(0.0, self.cool_s * math.log(max(from_c - self.ambient_c, 1e-9) / (self.unload_c - self.ambient_c)))


@lru_cache(maxsize=1)
def _plants() -> dict[str, Plant]:
    text = resources.files("batchone.factory.twin").joinpath("plants.toml").read_text(encoding="utf-8")
    return {kind: Plant.model_validate(one) for kind, one in tomllib.loads(text).items()}


def plant_of(process: Process) -> Plant:
    """The plant of a process.

    Raises
    ------
    MachineError
        The twin has none: a toolpath is none of layers.
    """
    plants = _plants()
    if process.kind not in plants:
        raise MachineError(
            f"the twin prints layers of kind {', '.join(plants)}; {process.name} is of kind {process.kind}",
            hint="print it with the driver `folder`",
        )
    return plants[process.kind]
