"""Thin walls and the blade of a recoater: what is thin, what is flat, and how parts are turned."""

from __future__ import annotations

import numpy as np
import pytest
from manifold3d import Manifold

from batchone.pipeline.job.manifest import ConditionsEntry
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Conditions
from batchone.pipeline.values import Mesh, Part
from batchone.slicer.orient import Stance
from batchone.slicer.profiles import load_machine, load_process
from batchone.slicer.recoater import blade_finding, off_blade, thin_walls_mm

METAL, MACHINE = load_process("ti64-lpbf"), load_machine("sim-01")  # the blade travels along x, so it lies along y
BOX = np.array([240.0, 240.0, 320.0])


def part_of(solid: Manifold) -> Part:
    mesh = solid.to_mesh64()
    faces = np.asarray(mesh.tri_verts, dtype=np.int32)
    vertices = np.array(mesh.vert_properties[:, :3], dtype=np.float64)
    return Part("part", Mesh(vertices, faces), np.zeros(len(faces), dtype=np.int16), ("body",))


def wall(thick_mm: float, turn_deg: float) -> Part:
    """40 mm long, 12 mm high, its long side so far from the x axis."""
    return part_of(Manifold.cube((40.0, thick_mm, 12.0), True).rotate((0.0, 0.0, turn_deg)))


def as_it_is(part: Part) -> Stance:
    x, y, z = np.ptp(part.mesh.vertices_mm, axis=0).tolist()
    return Stance(np.eye(3), (x, y, z), 0.0, 0.0, "as it is")


def turned_deg(part: Part, machine: Machine = MACHINE, box_mm: np.ndarray = BOX) -> float:
    (stance,) = off_blade(part, [as_it_is(part)], METAL, machine, box_mm)
    assert np.linalg.det(stance.rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(stance.rotation[2], [0.0, 0.0, 1.0])  # about the vertical alone
    np.testing.assert_allclose(stance.size_mm, np.ptp(part.mesh.vertices_mm @ stance.rotation.T, axis=0))
    return float(np.degrees(np.arctan2(stance.rotation[1, 0], stance.rotation[0, 0])))


@pytest.mark.parametrize(("thick_mm", "counted"), [(1.49, True), (1.51, False)])
def test_a_wall_just_thin_enough_counts_on_both_sides_and_by_its_direction(thick_mm: float, counted: bool) -> None:
    length = thin_walls_mm(wall(thick_mm, 30.5).mesh, 1.5)
    if counted:
        assert length[30] == pytest.approx(24 * 80.0)  # both sides in 24 sections
        assert length.sum() == pytest.approx(length[30])  # its ends are 40 mm from each other
    else:
        assert length.sum() == 0.0


@pytest.mark.parametrize(("lies_deg", "turn_deg"), [(90.0, 5.0), (86.0, -5.0), (83.0, 0.0), (0.0, 0.0), (45.0, 0.0)])
def test_a_wall_along_the_blade_is_turned_by_the_least_that_helps(lies_deg: float, turn_deg: float) -> None:
    assert abs(turned_deg(wall(1.0, lies_deg))) == pytest.approx(abs(turn_deg))


def test_a_thick_wall_another_blade_or_no_blade_turn_nothing() -> None:
    assert turned_deg(wall(3.0, 90.0)) == 0.0
    assert turned_deg(wall(1.0, 90.0), MACHINE.model_copy(update={"recoater_deg": 90.0})) == 0.0
    assert turned_deg(wall(1.0, 90.0), MACHINE.model_copy(update={"recoater_deg": None})) == 0.0
    along = wall(1.0, 0.0)
    assert abs(turned_deg(along, MACHINE.model_copy(update={"recoater_deg": 90.0}))) == pytest.approx(5.0)


def test_both_walls_of_a_tube_are_kept_off_the_blade_and_the_finding_says_so() -> None:
    tube = part_of(Manifold.cube((30.0, 30.0, 20.0)) - Manifold.cube((28.0, 28.0, 30.0)).translate((1.0, 1.0, -5.0)))
    (before,) = blade_finding(tube, as_it_is(tube), METAL, MACHINE)
    assert before.verdict == "warn"
    assert before.value == pytest.approx(50.0, abs=2.0)
    (stance,) = off_blade(tube, [as_it_is(tube)], METAL, MACHINE, BOX)
    (after,) = blade_finding(tube, stance, METAL, MACHINE)
    assert (after.verdict, after.value) == ("pass", 0.0)
    assert "turned by" in stance.criterion
    assert blade_finding(tube, stance, load_process("pa12-sls"), MACHINE) == []


def test_no_turn_is_taken_that_does_not_fit_the_plate() -> None:
    high = wall(1.0, 90.0)
    assert turned_deg(high, box_mm=np.array([2.0, 41.0, 20.0])) == 0.0
    assert abs(turned_deg(high, box_mm=np.array([6.0, 41.0, 20.0]))) == pytest.approx(5.0)


def test_the_conditions_of_a_build_hold_what_the_profiles_say() -> None:
    held = ConditionsEntry.of(METAL, MACHINE, 3600.0 + 7200.0)
    assert (held.inert_gas, held.oxygen_percent, held.scale) == ("argon", 0.1, None)
    assert held.energy_kwh == pytest.approx(1.0 * 4.0 + 2.0 * 3.0)
    assert held.power_kw == {"idle": 0.5, "heat": 4.0, "build": 3.0, "cool": 0.5}
    assert "powder lot" in held.lot_keys
    unmetered = ConditionsEntry.of(METAL, MACHINE.model_copy(update={"power": None}), 3600.0)
    assert (unmetered.power_kw, unmetered.energy_kwh) == (None, None)
    assert ConditionsEntry.of(load_process("pa12-sls"), MACHINE, 1.0).refresh_share == 0.5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"inert_gas": "none"}, "go together"),
        ({"oxygen_percent": None}, "go together"),
        ({"scale": [1.0, 1.0, 1.11]}, "scale"),
        ({"scale": [1.0, 1.0, 0.89]}, "scale"),
        ({"refresh_share": 1.01}, "refresh_share"),
        ({"lot_keys": []}, "lot_keys"),
    ],
)
def test_conditions_that_cannot_be_are_refused(changes: dict[str, object], told: str) -> None:
    sound = METAL.conditions.model_dump()
    assert Conditions.model_validate({**sound, "scale": [1.032, 1.032, 1.1]}).scale == (1.032, 1.032, 1.1)
    with pytest.raises(ValueError, match=told):
        Conditions.model_validate({**sound, **changes})
