"""What a machine tells of itself while it prints: some forty measured values, as often as asked.

What adds up (energy, light, strokes, fume, feed) grows evenly within a phase. Sensors have noise, by seed; what is counted has
none.

=======================  ================================================================================================
bed                      ambient + (set - ambient)(1 - exp(-t / tau)), warmer by ``bed_k_per_w`` x the laser's mean power of
                         the layer; from the end of the last layer on it cools to ambient with exp(-t / tau)
chamber                  ambient + ``chamber_warm_share`` x (bed - ambient)
oxygen                   20.9 % exp(-Q t / V) while purging, then held; in a leak it rises evenly from layer to layer, and in
                         the pause after it is purged in the same way
filter                   clean + ``filter_pa_per_g`` x load; beyond ``most_filter_pa`` the flow falls with the root of the ratio
laser's power            set x what it has of it, while it shines; ``laser_duty_percent`` is of the phase
blade                    there and back once per layer while recoating
=======================  ================================================================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from batchone.factory.twin.machine import BUILDING, STATES, Phase, Twin
from batchone.factory.twin.plant import AIR_OXYGEN_PERCENT
from batchone.pipeline.telemetry import State
from batchone.pipeline.values import FloatArray

_BLOCK: Final = 4096  # numerical: samples that are worked out together
_MAINS_V: Final = 230.0  # nominal voltage of European mains (IEC 60038)
_AIR_MBAR: Final = 1013.25  # standard atmosphere (ISO 2533)
_HELD_MBAR: Final = 20.0  # unverified, project default: above the air while inert gas is held
_WATER_C: Final = 20.0  # unverified, project default: of the laser's cooling

# standard deviation of what a sensor tells; all unverified: project defaults
_NOISE: Final[Mapping[str, float]] = {
    "bed_temperature_c": 0.3,
    "chamber_temperature_c": 0.2,
    "ambient_temperature_c": 0.1,
    "laser_water_temperature_c": 0.05,
    "chamber_pressure_mbar": 0.3,
    "mains_voltage_v": 0.8,
}
_NOISE_SHARE: Final[Mapping[str, float]] = {
    "oxygen_percent": 0.01,
    "gas_flow_m_per_s": 0.01,
    "filter_pressure_pa": 0.01,
    "laser_power_w": 0.003,
    "recoater_force_n": 0.03,
    "mains_power_kw": 0.01,
}
_SUMS: Final = (  # what adds up, of each phase
    "energy_kwh", "laser_on_s", "jump_s", "drawn_m", "strokes", "melted_g", "filter_load_g", "feed_percent", "wear_um",
    "blade_strokes", "gas_l",
)  # fmt: skip


VALUES: Final = (  # what a sample holds, in this order
    "elapsed_s", "remaining_s", "progress_percent", "layers_done", "height_mm", "layer_elapsed_s", "layer_area_mm2",
    "layer_drawn_mm", "layer_strokes", "mains_voltage_v", "mains_power_kw", "energy_kwh", "bed_set_temperature_c",
    "bed_temperature_c", "chamber_temperature_c", "ambient_temperature_c", "oxygen_limit_percent", "oxygen_percent",
    "chamber_pressure_mbar", "gas_flow_m_per_s", "gas_used_l", "fan_percent", "filter_pressure_pa", "filter_load_g",
    "filter_load_percent", "laser_set_w", "laser_power_w", "laser_duty_percent", "laser_on_s",
    "laser_water_temperature_c", "jump_s", "drawn_m", "strokes", "recoater_position_mm", "recoater_speed_mm_per_s",
    "recoater_force_n", "recoater_wear_um", "recoater_strokes", "bed_cover_percent", "feed_level_percent", "melted_g",
)  # fmt: skip
_UNITS: Final = (  # by how names end, the longer ending first
    ("_mm_per_s", "mm/s"), ("_m_per_s", "m/s"), ("_percent", "%"), ("_mbar", "mbar"), ("_kwh", "kWh"), ("_mm2", "mm2"),
    ("_pa", "Pa"), ("_kw", "kW"), ("_um", "um"), ("_mm", "mm"), ("_c", "Cel"), ("_v", "V"), ("_w", "W"), ("_n", "N"),
    ("_g", "g"), ("_l", "l"), ("_m", "m"), ("_s", "s"),
)  # fmt: skip


def unit_of(name: str) -> str:
    """The unit of a value, as UCUM writes it; ``1`` of what is counted."""
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "1")


@dataclass(frozen=True, slots=True)
class Sample:
    """What the machine told at a time: its state, the layer it was in (-1 outside of layers), the values by name.

    ``alarms``: what it noticed in the layers that ended since the sample before it, each with its layer.
    """

    time_s: float
    state: State
    layer: int
    values: Mapping[str, float]
    alarms: tuple[tuple[int, str], ...] = ()


def samples(twin: Twin, period_s: float) -> Iterator[Sample]:
    """Every ``period_s`` from the start of the build on, and once at its end.

    Raises
    ------
    ValueError
        The period is not above 0.
    """
    if not period_s > 0.0:
        raise ValueError(f"period is {period_s:g} s, must be above 0")
    phases, built = _Phases.of(twin), _columns(twin)
    count = int(np.ceil(twin.seconds / period_s - 1e-9))
    noticed = deque((layer.end_s, layer.index, alarm) for layer in twin.built for alarm in layer.alarms)
    for block, low in enumerate(range(0, count + 1, _BLOCK)):
        ticks: FloatArray = np.arange(low, min(low + _BLOCK, count + 1), dtype=np.float64)
        times = np.minimum(period_s * ticks, twin.seconds)
        at = phases.at(times)
        values = _noisy(_values(twin, phases, built, times, at), seed=(twin.seed, block))
        table = np.column_stack(list(values.values())).tolist()
        names = tuple(values)
        for time_s, where, row in zip(times.tolist(), at.tolist(), table, strict=True):
            phase = twin.phases[where]
            alarms = []
            while noticed and noticed[0][0] <= time_s:
                alarms.append(noticed.popleft()[1:])
            yield Sample(time_s, phase.state, phase.layer, dict(zip(names, row, strict=True)), tuple(alarms))


@dataclass(frozen=True, slots=True, eq=False)
class _Phases:
    """The phases as columns, and what has added up before each: ``before`` (phases + 1,) by name."""

    start_s: FloatArray
    end_s: FloatArray
    state: npt.NDArray[np.int64]
    layer: npt.NDArray[np.int64]
    before: Mapping[str, FloatArray]

    @classmethod
    def of(cls, twin: Twin) -> _Phases:
        rows = [_added(twin, phase) for phase in twin.phases]
        sums = np.concatenate([np.zeros((1, len(_SUMS))), np.cumsum(np.array(rows), axis=0)])
        return cls(
            np.array([phase.start_s for phase in twin.phases]),
            np.array([phase.end_s for phase in twin.phases]),
            np.array([STATES.index(phase.state) for phase in twin.phases]),
            np.array([phase.layer for phase in twin.phases]),
            dict(zip(_SUMS, np.ascontiguousarray(sums.T), strict=True)),
        )

    def at(self, times_s: FloatArray) -> npt.NDArray[np.int64]:
        """The phase of each time; at the end of the build its last one."""
        return np.searchsorted(self.start_s, times_s, side="right") - 1

    def sum(self, name: str, times_s: FloatArray, at: npt.NDArray[np.int64]) -> FloatArray:
        """What has added up at each time."""
        length = self.end_s[at] - self.start_s[at]
        share = np.divide(times_s - self.start_s[at], length, out=np.zeros(len(at)), where=length > 0.0)
        before = self.before[name]
        return before[at] + share * (before[at + 1] - before[at])

    def rate(self, name: str, at: npt.NDArray[np.int64]) -> FloatArray:
        """By how much it grows in a second of the phase."""
        length, before = self.end_s[at] - self.start_s[at], self.before[name]
        return np.divide(before[at + 1] - before[at], length, out=np.zeros(len(at)), where=length > 0.0)


def _added(twin: Twin, phase: Phase) -> tuple[float, ...]:
    """What a phase adds to each of ``_SUMS``."""
    seconds = phase.end_s - phase.start_s
    energy_kwh = twin.drawn_kw(phase.state) * seconds / 3600.0
    inert = twin.process.conditions.inert_gas != "none"
    flow = twin.plant.purge_l_per_min if phase.state in ("purging", "paused") else twin.plant.held_l_per_min
    gas_l = flow * seconds / 60.0 if inert and phase.state not in ("cooling", "done", "failed") else 0.0
    light, feed, wear = (0.0,) * 6, 0.0, 0.0
    if phase.state == "exposing":
        layer = twin.built[phase.layer]
        light = (
            layer.laser_on_s, layer.jump_s, 1e-3 * layer.drawn_mm, float(layer.strokes), layer.melted_g,
            twin.plant.fume_share * layer.melted_g,
        )  # fmt: skip
    elif phase.state == "recoating":
        layer, before = twin.built[phase.layer], twin.built[phase.layer - 1] if phase.layer > 0 else None
        feed = layer.feed_percent - (before.feed_percent if before else 100.0)
        wear = layer.recoater_wear_um - (before.recoater_wear_um if before else 0.0)
    return (energy_kwh, *light, feed, wear, float(phase.state == "recoating"), gas_l)


def _values(
    twin: Twin, phases: _Phases, built: Mapping[str, FloatArray], times: FloatArray, at: npt.NDArray[np.int64]
) -> dict[str, FloatArray]:
    plant, process = twin.plant, twin.process
    layer, state = phases.layer[at], phases.state[at]
    within, building = layer >= 0, np.isin(state, [STATES.index(one) for one in BUILDING])
    of = lambda name: np.where(within, built[name][np.maximum(layer, 0)], 0.0)  # noqa: E731
    total = lambda name: phases.sum(name, times, at)  # noqa: E731
    shines, fails = phases.rate("laser_on_s", at), state == STATES.index("failed")
    bed_c = _bed_c(twin, times, np.where(building, of("mean_w"), 0.0))
    load_g = total("filter_load_g")
    pressure_pa = plant.clean_filter_pa + plant.filter_pa_per_g * load_g
    flows = np.where(building | (state == STATES.index("purging")), 1.0, 0.0) * (plant.gas_m_per_s > 0.0)
    flow_share = np.minimum(1.0, np.sqrt(plant.most_filter_pa / np.maximum(pressure_pa, 1e-9)))
    limit = process.conditions.oxygen_percent
    held = state < STATES.index("cooling")
    blade = (state == STATES.index("recoating")).astype(np.float64)
    passed = np.where(blade > 0, (times - phases.start_s[at]) / np.maximum(phases.end_s[at] - phases.start_s[at], 1e-9), 0.0)
    share = np.where(within, of("laser_share"), 1.0)
    height_mm = np.where(within, of("z_mm"), np.where(times >= twin.built_s, twin.built[-1].z_mm, 0.0))
    return {
        "elapsed_s": times,
        "remaining_s": twin.seconds - times,
        "progress_percent": 100.0 * times / twin.seconds,
        "layers_done": np.searchsorted(built["end_s"][built["whole"] > 0.0], times, side="right").astype(np.float64),
        "height_mm": height_mm,
        "layer_elapsed_s": np.where(within, times - of("start_s"), 0.0),
        "layer_area_mm2": of("area_mm2"),
        "layer_drawn_mm": of("drawn_mm"),
        "layer_strokes": of("strokes"),
        "mains_voltage_v": np.where(fails, 0.0, _MAINS_V),
        "mains_power_kw": np.array([twin.drawn_kw(one) for one in STATES])[state],
        "energy_kwh": total("energy_kwh"),
        "bed_set_temperature_c": np.where(held, plant.bed_c, plant.ambient_c),
        "bed_temperature_c": bed_c,
        "chamber_temperature_c": plant.ambient_c + plant.chamber_warm_share * (bed_c - plant.ambient_c),
        "ambient_temperature_c": np.full(len(times), plant.ambient_c),
        "oxygen_limit_percent": np.full(len(times), AIR_OXYGEN_PERCENT if limit is None else limit),
        "oxygen_percent": _oxygen_percent(twin, built, times, layer),
        "chamber_pressure_mbar": _AIR_MBAR + np.where(held & (limit is not None), _HELD_MBAR, 0.0),
        "gas_flow_m_per_s": plant.gas_m_per_s * flows * flow_share,
        "gas_used_l": total("gas_l"),
        "fan_percent": 100.0 * flows * np.minimum(1.0, np.sqrt(pressure_pa / plant.most_filter_pa)),
        "filter_pressure_pa": flows * pressure_pa,
        "filter_load_g": load_g,
        "filter_load_percent": 100.0 * load_g / plant.filter_holds_g,
        "laser_set_w": np.where(shines > 0.0, plant.laser_w, 0.0),
        "laser_power_w": np.where(shines > 0.0, plant.laser_w * share, 0.0),
        "laser_duty_percent": 100.0 * shines,
        "laser_on_s": total("laser_on_s"),
        "laser_water_temperature_c": _WATER_C + 1e-3 * plant.laser_warms_k_per_kw * plant.laser_w * shines,
        "jump_s": total("jump_s"),
        "drawn_m": total("drawn_m"),
        "strokes": total("strokes"),
        "recoater_position_mm": twin.machine.envelope_mm[0] * (1.0 - np.abs(1.0 - 2.0 * passed)),
        "recoater_speed_mm_per_s": blade * 2.0 * twin.machine.envelope_mm[0] / max(twin.recoat_s, 1e-9),
        "recoater_force_n": blade * twin.stroke_n(of("raised_um"), total("wear_um")),
        "recoater_wear_um": total("wear_um"),
        "recoater_strokes": total("blade_strokes"),
        "bed_cover_percent": 100.0 * np.where(within, of("cover_share"), 1.0),
        "feed_level_percent": 100.0 + total("feed_percent"),
        "melted_g": total("melted_g"),
    }


def _columns(twin: Twin) -> dict[str, FloatArray]:
    names = (
        "z_mm", "start_s", "end_s", "area_mm2", "drawn_mm", "strokes", "laser_on_s", "laser_share", "raised_um", "cover_share",
        "oxygen_percent", "oxygen_after_percent",
    )  # fmt: skip
    built = {name: np.array([float(getattr(layer, name)) for layer in twin.built]) for name in names}
    built["mean_w"] = twin.plant.laser_w * built["laser_share"] * built["laser_on_s"] / (built["end_s"] - built["start_s"])
    built["oxygen_before_percent"] = np.concatenate([[twin.held_percent], built["oxygen_after_percent"][:-1]])
    built["whole"] = np.array([float(layer.state == "exposed") for layer in twin.built])
    built["leaks"] = np.array([float("oxygen-rise" in layer.faults) for layer in twin.built])
    return built


def _bed_c(twin: Twin, times: FloatArray, laser_w: FloatArray) -> FloatArray:
    plant, last = twin.plant, twin.built[-1]
    end_s = last.end_s + last.paused_s
    warm_c = plant.bed_c + (plant.ambient_c - plant.bed_c) * np.exp(-np.minimum(times, end_s) / plant.warm_s)
    cooled = np.exp(-np.maximum(times - end_s, 0.0) / plant.cool_s)
    bed_c: FloatArray = plant.ambient_c + (warm_c - plant.ambient_c) * cooled + plant.bed_k_per_w * laser_w
    return bed_c


def _oxygen_percent(twin: Twin, built: Mapping[str, FloatArray], times: FloatArray, layer: npt.NDArray[np.int64]) -> FloatArray:
    if twin.process.conditions.oxygen_percent is None:
        return np.full(len(times), AIR_OXYGEN_PERCENT)
    held, tau_s, k = twin.held_percent, twin.plant.mixing_s, np.maximum(layer, 0)
    start_s, end_s, before, most = (built[name][k] for name in ("start_s", "end_s", "oxygen_before_percent", "oxygen_percent"))
    share = np.clip((times - start_s) / (end_s - start_s), 0.0, 1.0)
    falling = before * np.exp(-(times - start_s) / tau_s)
    within = np.where(built["leaks"][k] > 0.0, before + share * (most - before), falling)
    within = np.where(times > end_s, most * np.exp(-(times - end_s) / tau_s), within)  # in a pause
    found = np.where(layer >= 0, within, np.where(times < twin.ready_s, AIR_OXYGEN_PERCENT * np.exp(-times / tau_s), held))
    return np.maximum(found, held)


def _noisy(values: dict[str, FloatArray], *, seed: tuple[int, int]) -> dict[str, FloatArray]:
    chance = np.random.default_rng(seed)
    for name in (*_NOISE, *_NOISE_SHARE):
        noise, clean = chance.standard_normal(len(values[name])), values[name]
        spread = np.where(clean != 0.0, _NOISE[name], 0.0) if name in _NOISE else _NOISE_SHARE[name] * np.abs(clean)
        values[name] = clean + spread * noise
    return values
