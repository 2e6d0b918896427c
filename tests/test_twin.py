"""The machine twin: its times, energy and filter load against the estimate and against what is worked out by hand; faults."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import test_hatch as plates

from batchone.factory.twin.faults import KINDS, Fault, FaultKind, kinds_of, random_faults
from batchone.factory.twin.machine import Layer, Twin
from batchone.factory.twin.plant import plant_of
from batchone.factory.twin.sensors import Sample, samples
from batchone.factory.twin.vectors import execute, layer_file, speeds_mm_per_s
from batchone.pipeline.errors import MachineError
from batchone.pipeline.process import Process
from batchone.pipeline.values import Mesh
from batchone.slicer.cli_format import write_cli
from batchone.slicer.exposure import expose
from batchone.slicer.layers import slice_parts
from batchone.slicer.profiles import load_machine, load_process
from batchone.slicer.scan_time import drawn_s

MACHINE = load_machine("sim-01")
TITANIUM = load_process("ti64-lpbf")
CUBE = plates.box((5, 5, 0), (15, 15, 10))
HAND = plates.SCAN.model_copy(
    update={
        "hatch_mm": 1.0, "beam_mm": 0.2, "hatch_gap_mm": 0.2, "turn_deg": 0.0, "least_mm": 0.2,
        "line_s": 1e-4, "corner_s": 1e-4, "jump_mm_per_s2": 2e7, "jump_s": 2e-4,
    }
)  # fmt: skip
PLATES = {"cube": [CUBE], "two cubes": [CUBE, plates.box((115, 5, 0), (125, 15, 10))], "wedge": [plates.wedge()]}


def folder(at: Path, bodies: list[Mesh], process: Process) -> Path:
    """A build folder of bodies that stand on the plate."""
    layers, names = slice_parts(bodies, process.layer_mm), [f"body-{k}" for k in range(len(bodies))]
    drawn = expose(layers, names, process, parts=len(bodies))
    at.mkdir(exist_ok=True)
    (at / "layers.cli").write_bytes(write_cli(drawn.layers, drawn.labels, drawn.hatches))
    return at


@pytest.fixture(scope="module")
def by_hand() -> Process:
    return TITANIUM.model_copy(update={"scan": HAND, "layer_mm": 1.0})


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory, by_hand: Process) -> Path:
    return folder(tmp_path_factory.mktemp("cube"), [CUBE], by_hand)


def printed(build: Path, process: Process, *faults: Fault, seed: int = 1) -> Twin:
    return Twin(build, process, MACHINE, seed=seed, faults=faults)


def test_the_twin_shares_no_code_with_the_estimate_of_time() -> None:
    code = (
        "import sys\n"
        "import batchone.factory.twin.machine, batchone.factory.twin.sensors\n"
        "shared = {f'batchone.slicer.{name}' for name in ('estimate', 'scan_time', 'motion', 'moves')} & set(sys.modules)\n"
        "assert not shared, shared\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    twin = Path(sys.modules["batchone.factory.twin.machine"].__file__ or "").parent
    for path in twin.rglob("*.py"):
        named = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert not [name for name in named if re.search(r"slicer\.(estimate|scan_time|motion|moves)$", name or "")], path


@pytest.mark.parametrize("name", PLATES)
def test_the_time_of_a_plate_is_what_is_worked_out_by_hand(name: str, by_hand: Process, tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "estimates.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {name} \| ([0-9.]+) s \|$", page, re.MULTILINE)
    assert found is not None
    twin = printed(folder(tmp_path, PLATES[name], by_hand), by_hand)
    assert sum(layer.end_s - layer.start_s - layer.recoat_s for layer in twin.built) == pytest.approx(float(found[1]), rel=1e-3)


def test_a_layer_of_the_cube_is_light_delays_and_jumps_of_the_hand_calculation(cube: Path, by_hand: Process) -> None:
    layer = printed(cube, by_hand).built[3]
    assert layer.laser_on_s == pytest.approx(38.4 / 500.0 + 10 * 9.2 / 1000.0, rel=1e-6)
    assert layer.delay_s == pytest.approx(11 * 1e-4 + 3 * 0.5e-4, rel=1e-6)
    to_first_line = math.hypot(0.2, 0.3)
    jumps = 2 * math.sqrt(to_first_line / 2e7) + 9 * 2 * math.sqrt(1.0 / 2e7) + 10 * 2e-4
    assert layer.jump_s == pytest.approx(jumps, rel=1e-6)
    assert layer.strokes == 11
    assert layer.drawn_mm == pytest.approx(38.4 + 92.0, rel=1e-9)


def test_a_long_jump_cruises_at_the_speed_of_jumps(by_hand: Process, tmp_path: Path) -> None:
    twin = printed(folder(tmp_path, PLATES["two cubes"], by_hand), by_hand)
    assert twin.built[0].jump_s == pytest.approx(0.02245 + 0.02249 + 0.02252 + 0.01165, rel=1e-3)  # docs/estimates.md


def test_energy_and_filter_load_are_what_is_worked_out_by_hand(cube: Path, by_hand: Process) -> None:
    twin = printed(cube, by_hand)
    building_s = 10 * (9.0 + 0.17634)  # docs/estimates.md
    warmed_c = 22.0 + 58.0 * (1.0 - math.exp(-(3600.0 + building_s) / 900.0))
    cooling_s = 3600.0 * math.log((warmed_c - 22.0) / 18.0)
    energy_kwh = (3600.0 * 4.0 + building_s * 3.0 + cooling_s * 0.5) / 3600.0
    assert twin.built_s == pytest.approx(3600.0 + building_s, rel=1e-3)
    assert twin.seconds == pytest.approx(3600.0 + building_s + cooling_s, rel=1e-3)
    assert twin.energy_kwh == pytest.approx(energy_kwh, rel=1e-3)
    assert sum(layer.energy_j for layer in twin.built) == pytest.approx(building_s * 3000.0, rel=1e-3)
    assert twin.built[-1].melted_g == pytest.approx(100.0 * 0.00443, rel=1e-3)
    assert twin.built[-1].filter_load_g == pytest.approx(1000.0 * 0.00443 * 0.003, rel=1e-3)


@pytest.mark.parametrize("name", ["ti64-lpbf", "cocr-lpbf", "pa12-sls", "pa12-mjf", "guide-resin"])
def test_the_twin_and_the_estimate_agree(name: str, tmp_path: Path) -> None:
    process = load_process(name)
    bodies = [plates.box((20, 20, 0), (60, 45, 1.5)), plates.box((120, 90, 0), (128, 95, 1.0))]
    twin = printed(folder(tmp_path, bodies, process), process)
    drawn = expose(slice_parts(bodies, process.layer_mm), ["a", "b"], process, parts=2)
    scanned_s = float(drawn_s(drawn, process.scan).sum()) if process.scan else 0.0
    estimated_s = process.setup_s + twin.file.layers.count * process.recoat_s + scanned_s
    assert twin.built_s == pytest.approx(estimated_s, rel=1e-4)
    if process.scan:  # the laser's part of it alone, or the set-up would hide it
        assert twin.strokes.seconds.sum() == pytest.approx(scanned_s, rel=0.01)


def test_outlines_of_what_is_filled_are_not_drawn_and_supports_are() -> None:
    scan = TITANIUM.scan
    assert scan is not None
    labels = ("guide", "supports-guide", "guide contour", "guide core", "guide up-skin")
    assert speeds_mm_per_s(labels, scan).tolist() == [0.0, 600.0, 600.0, 1200.0, 900.0]


def test_a_layer_without_strokes_takes_the_time_of_the_blade(by_hand: Process, tmp_path: Path) -> None:
    two = [CUBE, plates.box((30, 5, 0), (40, 15, 3))]
    twin = printed(folder(tmp_path, two, by_hand), by_hand)
    assert len(twin.built) == 10
    assert twin.built[2].strokes == 2 * twin.built[3].strokes
    scan = HAND.model_copy(update={"beam_mm": 6.0, "hatch_gap_mm": 6.0})  # no place for the beam in the cube
    thin = by_hand.model_copy(update={"scan": scan})
    empty = printed(folder(tmp_path, two, thin), thin)
    assert [layer.end_s - layer.start_s for layer in empty.built] == pytest.approx([9.0] * 10)
    assert empty.built[0].strokes == 0


def test_states_follow_each_other_without_a_gap(cube: Path, by_hand: Process) -> None:
    twin = printed(cube, by_hand)
    for one, other in pairwise(twin.phases):
        assert one.end_s == other.start_s
        assert one.end_s > one.start_s
    assert [phase.state for phase in twin.phases] == ["purging", "heating", *["recoating", "exposing"] * 10, "cooling", "done"]
    assert twin.purge_s == pytest.approx(250.0 / 400.0 * 60.0 * math.log(20.9 / 0.05))


def test_a_plant_has_a_source_for_every_number() -> None:
    for name in ("ti64-lpbf", "pa12-sls", "guide-resin"):
        plant = plant_of(load_process(name))
        assert set(plant.sources) == set(type(plant).model_fields) - {"sources"}
        assert all(plant.sources.values())


def test_the_same_input_gives_the_same_samples_and_another_seed_others(cube: Path, by_hand: Process) -> None:
    faults = (Fault("oxygen-rise", 4, 2, 1.0), Fault("spatter", 6))
    once, again = (list(samples(printed(cube, by_hand, *faults), 7.0)) for _ in range(2))
    assert once == again
    other = list(samples(printed(cube, by_hand, *faults, seed=2), 7.0))
    assert [sample.state for sample in other] == [sample.state for sample in once]
    assert other != once
    assert len(once[0].values) >= 40


def test_samples_add_up_to_the_layers(cube: Path, by_hand: Process) -> None:
    twin = printed(cube, by_hand)
    told = list(samples(twin, 0.5))
    last = told[-1]
    assert last.state == "done"
    assert last.time_s == twin.seconds
    assert last.values["energy_kwh"] == pytest.approx(twin.energy_kwh, rel=1e-12)
    assert last.values["filter_load_g"] == pytest.approx(twin.built[-1].filter_load_g, rel=1e-12)
    assert last.values["layers_done"] == 10
    assert last.values["strokes"] == 110
    assert last.values["feed_level_percent"] == pytest.approx(twin.built[-1].feed_percent)
    power = np.array([sample.values["mains_power_kw"] for sample in told[:-1]])
    assert power.sum() * 0.5 / 3600.0 == pytest.approx(twin.energy_kwh, rel=0.01)  # noise of 1 % a sample, and steps of 0.5 s
    assert [one.time_s for one in told[:3]] == [0.0, 0.5, 1.0]
    assert {sample.layer for sample in told} == {-1, *range(10)}


def test_samples_measure_what_the_machine_holds(cube: Path, by_hand: Process) -> None:
    told = list(samples(printed(cube, by_hand), 1.0))
    of = lambda state, name: np.array([one.values[name] for one in told if one.state == state])  # noqa: E731
    assert of("exposing", "oxygen_percent") == pytest.approx(0.05, rel=0.06)
    assert of("purging", "oxygen_percent")[0] == pytest.approx(20.9, rel=0.06)
    assert of("exposing", "laser_power_w") == pytest.approx(280.0, rel=0.02)
    assert of("recoating", "laser_power_w").max() == 0.0
    assert of("recoating", "bed_temperature_c").mean() == pytest.approx(80.0, abs=1.5)
    assert 0.0 <= of("recoating", "recoater_position_mm").min() < of("recoating", "recoater_position_mm").max() <= 250.0
    assert of("cooling", "bed_temperature_c")[-1] == pytest.approx(40.0, abs=1.5)


def faulty(cube: Path, process: Process, kind: FaultKind, severity: float = 1.0, layers: int = 1) -> tuple[Twin, Layer]:
    twin = printed(cube, process, Fault(kind, 4, layers, severity))
    return twin, twin.built[4]


def test_a_short_feed_leaves_part_of_the_bed_bare(cube: Path, by_hand: Process) -> None:
    twin, layer = faulty(cube, by_hand, "short-feed", 0.5)
    assert layer.cover_share == pytest.approx(0.7)
    assert layer.alarms == ("powder",)
    dose = 1.5 * 250 * 250 * 1.0 / (2.0 * 250 * 250 * 325.0)
    assert twin.built[3].feed_percent - layer.feed_percent == pytest.approx(100 * 0.7 * dose)
    assert twin.built[4].faults == ("short-feed",)
    assert twin.built[5].faults == ()
    assert twin.built[5].alarms == ()


def test_raised_edges_push_and_wear_the_blade(cube: Path, by_hand: Process) -> None:
    twin, layer = faulty(cube, by_hand, "super-elevation")
    assert layer.raised_um == 200.0
    assert layer.alarms == ("recoater-force",)  # 4 N + 200 x 0.05 N
    assert layer.recoater_wear_um - twin.built[3].recoater_wear_um == pytest.approx(0.002 + 0.01 * 200.0)
    assert faulty(cube, by_hand, "super-elevation", 0.35)[1].alarms == ()  # 7.5 N, below twice 4 N


def test_furrows_and_spatter_are_seen_by_no_sensor(cube: Path, by_hand: Process) -> None:
    assert faulty(cube, by_hand, "recoater-streak")[1].streak_mm == 3.0
    assert faulty(cube, by_hand, "spatter")[1].spatters == 400
    for kind in ("recoater-streak", "spatter"):
        assert faulty(cube, by_hand, kind)[1].alarms == ()  # type: ignore[arg-type]


def test_a_sag_of_power_is_told_below_nine_tenths(cube: Path, by_hand: Process) -> None:
    assert faulty(cube, by_hand, "power-sag", 0.19)[1].alarms == ()
    layer = faulty(cube, by_hand, "power-sag", 0.21)[1]
    assert layer.alarms == ("laser-power",)
    assert layer.laser_share == pytest.approx(1.0 - 0.105, rel=1e-5)


def test_oxygen_rises_evenly_and_the_machine_waits_until_it_is_low_again(cube: Path, by_hand: Process) -> None:
    twin, layer = faulty(cube, by_hand, "oxygen-rise")
    rise = 1.0 * (layer.end_s - layer.start_s) / 60.0
    assert layer.oxygen_percent == pytest.approx(0.05 + rise)
    assert layer.alarms == ("oxygen",)
    assert layer.paused_s == pytest.approx(37.5 * math.log((0.05 + rise) / 0.05))
    assert twin.built[5].start_s == pytest.approx(layer.end_s + layer.paused_s)
    assert layer.energy_j == pytest.approx(3000.0 * (layer.end_s - layer.start_s + layer.paused_s))
    told = [one for one in samples(twin, 0.1) if one.layer == 4]
    assert {one.state for one in told} == {"recoating", "exposing", "paused"}
    most = max(one.values["oxygen_percent"] for one in told)
    assert most == pytest.approx(layer.oxygen_percent, rel=0.05)


def test_a_small_leak_makes_no_pause_and_is_purged_in_the_next_layer(cube: Path, by_hand: Process) -> None:
    twin, layer = faulty(cube, by_hand, "oxygen-rise", 0.3)
    assert layer.oxygen_percent == pytest.approx(0.05 + 0.3 * 9.176 / 60.0, rel=1e-3)  # 0.096 %, limit 0.1 %
    assert layer.paused_s == 0.0
    assert layer.alarms == ()
    assert twin.built[5].oxygen_after_percent < layer.oxygen_after_percent
    assert faulty(cube, by_hand, "oxygen-rise", 0.34)[1].alarms == ("oxygen",)


def test_a_cut_of_power_ends_the_build_in_the_middle_of_the_light(cube: Path, by_hand: Process) -> None:
    twin, layer = faulty(cube, by_hand, "power-cut")
    assert len(twin.built) == 5
    assert layer.state == "failed"
    assert layer.alarms == ("mains",)
    assert layer.laser_on_s == pytest.approx(0.5 * twin.built[3].laser_on_s)
    last = list(samples(twin, 1.0))[-1]
    assert last.state == "failed"
    assert last.values["mains_voltage_v"] == 0.0
    assert last.values["mains_power_kw"] == 0.0
    assert twin.seconds == layer.end_s


def test_what_cannot_go_wrong_in_a_process_is_refused(tmp_path: Path) -> None:
    resin = load_process("guide-resin")
    build = folder(tmp_path, [plates.box((20, 20, 0), (60, 45, 1.0))], resin)
    layer = printed(build, resin, Fault("power-sag", 4, 1, 1.0)).built[4]
    assert (layer.oxygen_percent, layer.laser_share) == (20.9, pytest.approx(0.5, rel=1e-3))
    for kind in ("oxygen-rise", "short-feed", "recoater-streak", "super-elevation", "spatter"):
        with pytest.raises(MachineError, match=f"{kind} does not happen in guide-resin"):
            printed(build, resin, Fault(kind, 4))  # type: ignore[arg-type]
    assert kinds_of(load_process("pa12-mjf")) == tuple(kind for kind in KINDS if kind != "oxygen-rise")
    assert kinds_of(TITANIUM) == KINDS


def test_faults_by_chance_are_those_of_their_seed_and_rates() -> None:
    assert random_faults(2000, TITANIUM, seed=7) == random_faults(2000, TITANIUM, seed=7)
    assert random_faults(2000, TITANIUM, seed=7) != random_faults(2000, TITANIUM, seed=8)
    many = random_faults(200_000, TITANIUM, seed=1, rates={"spatter": 5e-3})
    assert {fault.kind for fault in many} == {"spatter"}
    assert len(many) == pytest.approx(1000, abs=4 * math.sqrt(1000))  # four standard deviations
    assert {fault.kind for fault in random_faults(200_000, TITANIUM, seed=1)} == set(KINDS)
    assert {fault.kind for fault in random_faults(200_000, load_process("guide-resin"), seed=1)} == {"power-sag", "power-cut"}
    assert random_faults(2000, TITANIUM, seed=7, rates={}) == ()


@pytest.mark.parametrize(
    "wrong", [{"kind": "rain"}, {"layer": -1}, {"layers": 0}, {"severity": 0.0}, {"severity": 1.01}, {"severity": math.nan}]
)
def test_what_is_no_fault_is_refused(wrong: dict[str, object]) -> None:
    Fault("spatter", 0, 1, 1.0)
    with pytest.raises(ValueError, match="is no fault"):
        Fault(**{"kind": "spatter", "layer": 0, **wrong})  # type: ignore[arg-type]


def test_what_cannot_be_printed_is_refused(cube: Path, by_hand: Process, tmp_path: Path) -> None:
    printed(cube, by_hand, Fault("spatter", 9))
    with pytest.raises(MachineError, match="spatter in layer 10, the last one is 9"):
        printed(cube, by_hand, Fault("spatter", 10))
    with pytest.raises(MachineError, match=r"holds neither build/layers\.cli nor layers\.cli"):
        printed(tmp_path, by_hand)
    with pytest.raises(MachineError, match="pla-fff is of kind fff"):
        printed(cube, load_process("pla-fff"))
    with pytest.raises(MachineError, match=r"has no \[power\]"):
        Twin(cube, by_hand, MACHINE.model_copy(update={"power": None}), seed=1)
    with pytest.raises(ValueError, match="must be above 0"):
        next(samples(printed(cube, by_hand), 0.0))
    (tmp_path / "layers.cli").write_bytes((cube / "layers.cli").read_bytes()[:-3])
    with pytest.raises(MachineError, match="refused"):
        printed(tmp_path, by_hand)


def test_strokes_are_in_the_order_of_the_file(cube: Path) -> None:
    file = layer_file(cube)
    whole = execute(file, HAND)
    assert whole.count.tolist() == [11] * 10
    assert whole.jumped_mm == pytest.approx([math.hypot(0.2, 0.3) + 9.0] * 10, rel=1e-6)


def test_a_sample_is_a_frozen_value(cube: Path, by_hand: Process) -> None:
    sample = next(samples(printed(cube, by_hand), 1.0))
    assert isinstance(sample, Sample)
    with pytest.raises(AttributeError):
        sample.time_s = 1.0  # type: ignore[misc]
