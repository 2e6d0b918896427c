"""What the drill template of docs/own-family must do; run by test_own_family.py where that package is installed."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from batchone.design.families import load_families
from batchone.design.make import check, design, plan
from batchone.design.nearest import nearest_mm
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.order import Order, PlanInput, PlanLine, PlanPoint
from batchone.pipeline.values import Anatomy, Bone, CheckedDevice, Device, FieldOfView, Vector
from batchone.samples.long_bone import bone_surface
from batchone.slicer.profiles import load_machine, load_process

PROCESS, MACHINE = load_process("pa12-sls"), load_machine("sim-01")
FAMILY = load_families()["drill-template"]
LIMITED = FAMILY.parameters.model_json_schema()["properties"]


def line(name: str, start_mm: Vector, end_mm: Vector) -> PlanLine:
    return PlanLine(name=name, start_mm=start_mm, end_mm=end_mm)


ONE, TWO = line("hole-1", (3.0, -12.0, 0.0), (3.0, 8.0, 0.0)), line("hole-2", (3.0, -10.5, 20.0), (6.0, 8.0, 20.0))


@cache
def anatomy() -> Anatomy:
    """A bone along z that faces (-y) the drawn lines, cut by its scan at z = 40 mm."""
    mesh = bone_surface(rings=120, spokes=60)
    sigma = np.full(len(mesh.vertices_mm), 0.05)
    view = np.eye(4)
    view[:3, 3] = (-40.0, -40.0, -70.0)
    bone = Bone("tibia", "left", False, 1.0, 50_000.0, mesh, np.eye(4), sigma)
    return Anatomy((bone,), (), FieldOfView(view, (111, 81, 81)))


def order(*lines: PlanLine, **parameters: object) -> Order:
    return Order(
        case="d-0001",
        device="drill-template",
        side="left",
        process="pa12-sls",
        machine="sim-01",
        due=dt.datetime(2026, 11, 30, 8, tzinfo=dt.UTC),
        plan=PlanInput(lines=lines),
        parameters=FAMILY.parameters.model_validate(parameters),
    )


def made(one: Order, bones: Anatomy | None = None) -> tuple[Device, CheckedDevice]:
    found = plan(bones or anatomy(), one)
    device = design(bones or anatomy(), found, one, PROCESS)
    return device, check(device, bones or anatomy(), found, one, PROCESS, MACHINE)


def failed(checked: CheckedDevice) -> list[str]:
    return [finding.what for finding in checked.findings if finding.verdict == "fail"]


def test_a_template_for_two_holes_is_released() -> None:
    device, checked = made(order(ONE, TWO))
    assert checked.released, failed(checked)
    assert {face.label for face in device.parts[0].functional_faces} == {
        "contact", "bore-hole-1", "stop-hole-1", "bore-hole-2", "stop-hole-2",
    }  # fmt: skip
    assert device.parts[0].step
    between = next(finding for finding in checked.findings if finding.check == "holes")
    assert between.value == pytest.approx(20.0 - 2.5, abs=0.2)  # both lie flat, 20 mm apart, drilled with 2.5 mm


def test_it_moves_with_its_bone() -> None:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [11.0, -7.0, 23.0], degrees=True).as_matrix()
    pose[:3, 3] = (31.0, -17.0, 240.0)
    ends = np.array([ONE.start_mm, ONE.end_mm]) @ pose[:3, :3].T + pose[:3, 3]
    here = made(order(ONE))[0].parts[0].mesh.moved(pose)
    there = made(order(line("hole-1", *(tuple(end) for end in ends.tolist()))), anatomy().moved(pose))[0].parts[0].mesh
    assert max(nearest_mm(here.vertices_mm, there).max(), nearest_mm(there.vertices_mm, here).max()) <= 0.02


@pytest.mark.parametrize("end", ["minimum", "maximum"])
def test_its_parameters_reach_their_limits(end: str) -> None:
    extreme = {name: float(entry[end]) for name, entry in LIMITED.items()}
    _, checked = made(order(ONE, **extreme))
    assert checked.released, failed(checked)


def test_it_comes_off_along_the_line_that_is_drawn_for_it() -> None:
    drawn = line("insertion", (0.0, 0.0, 0.0), (0.0, -20.0, 5.0))
    found = plan(anatomy(), order(ONE, drawn))
    assert [axis.name for axis in found.axes] == ["hole-1", "insertion"]
    assert found.axis("insertion").direction == pytest.approx(np.array([0.0, -20.0, 5.0]) / np.hypot(20.0, 5.0))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "the plan holds 0 lines and nothing else"),
        ((line("far", (60.0, -12.0, 0.0), (60.0, 8.0, 0.0)),), "plan line far misses tibia"),
        ((line("short", (3.0, -40.0, 0.0), (3.0, -20.0, 0.0)),), "plan line short misses tibia"),
        ((line("back", (3.0, 0.0, 0.0), (3.0, 30.0, 0.0)),), "plan line back meets tibia 10.5 mm before its start, at most 5 mm"),
        ((ONE, line("insertion", (0.0, 0.0, 0.0), (0.0, 0.0, 20.0))), "hole-1 lies 90 deg to the way the guide comes off"),
        ((line("high", (3.0, -10.0, 35.0), (3.0, 8.0, 35.0)),), "high: entry less than 14 mm from the edge of the scan"),
    ],
)
def test_lines_that_lead_nowhere_are_refused_by_name(lines: tuple[PlanLine, ...], reason: str) -> None:
    with pytest.raises(OrderError, match=reason):
        plan(anatomy(), order(*lines))


def test_drawn_points_are_refused_by_name() -> None:
    one = order(ONE)
    drawn = one.plan.model_copy(update={"points": (PlanPoint(name="target", point_mm=(0.0, 0.0, 0.0)),)})
    with pytest.raises(OrderError, match="the plan holds 1 lines and target"):
        plan(anatomy(), one.model_copy(update={"plan": drawn}))


def test_sleeves_that_collide_are_refused() -> None:
    near = line("near", (3.0, -12.0, 5.0), (3.0, 8.0, 5.0))
    with pytest.raises(DesignError, match="sleeves hole-1 and near are"):
        design(anatomy(), plan(anatomy(), order(ONE, near)), order(ONE, near), PROCESS)


def test_entries_too_far_apart_for_one_template_are_refused() -> None:
    found = plan(anatomy(), order(ONE, TWO))
    far = replace(found, axes=(found.axes[0], replace(found.axes[1], origin_mm=(3.0, -10.5, 130.0)), found.axes[-1]))
    with pytest.raises(DesignError, match="the entries lie 130 mm apart, at most 120 mm"):
        design(anatomy(), far, order(ONE, TWO), PROCESS)


def test_holes_that_meet_in_the_bone_fail() -> None:
    _, checked = made(order(ONE, line("crossing", (3.0, -12.0, 17.0), (3.0, 8.0, -3.0))))
    assert failed(checked) == ["bone between hole-1 and crossing"]
