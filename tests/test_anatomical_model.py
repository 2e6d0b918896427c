"""Anatomical models on phantoms of known shape: what is shown, tied, cut, hollowed and engraved."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from stl.mesh import Mesh as StlMesh

from batchone.design.booleans import (
    Solid,
    difference,
    face_areas,
    gathered,
    pieces,
    solid_from_mesh,
    to_mesh,
    trimmed,
    union,
    volume_mm3,
)
from batchone.design.checks.mesh import is_closed, measure_mesh, mesh_volume_mm3
from batchone.design.checks.walls import measure_walls
from batchone.design.crossings import crossing_pairs
from batchone.design.families import load_families
from batchone.design.make import check, design, plan
from batchone.design.model.collapse import collapsed
from batchone.design.model.reduction import reduced
from batchone.design.nearest import nearest_mm
from batchone.pipeline.errors import OrderError
from batchone.pipeline.order import Order, Target
from batchone.pipeline.values import Anatomy, Bone, CheckedDevice, Device, FieldOfView, Finding, FloatArray, Mesh, Part
from batchone.slicer.orient import stand
from batchone.slicer.plate import usable_box_mm
from batchone.slicer.profiles import load_machine, load_process

FAMILY = load_families()["anatomical-model"]
RADIUS_MM = 30.0


def globe(radius_mm: float, centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0), *, rings: int = 40) -> Mesh:
    """A closed globe with two poles, counter-clockwise seen from outside."""
    columns = 2 * rings
    polar, around = np.pi * np.arange(1, rings) / rings, 2.0 * np.pi * np.arange(columns) / columns
    axes = [
        np.outer(np.sin(polar), np.cos(around)),
        np.outer(np.sin(polar), np.sin(around)),
        np.outer(np.cos(polar), np.ones(columns)),
    ]
    points = np.vstack([[0.0, 0.0, 1.0], np.stack(axes, -1).reshape(-1, 3), [0.0, 0.0, -1.0]]) * radius_mm + centre_mm
    index = 1 + np.arange((rings - 1) * columns).reshape(rings - 1, columns)
    right = np.roll(index, -1, axis=1)
    faces = [
        np.column_stack([np.zeros(columns, dtype=int), index[0], right[0]]),
        np.column_stack([index[:-1].ravel(), index[1:].ravel(), right[:-1].ravel()]),
        np.column_stack([right[:-1].ravel(), index[1:].ravel(), right[1:].ravel()]),
        np.column_stack([index[-1], np.full(columns, len(points) - 1), right[-1]]),
    ]
    return Mesh(points, np.vstack(faces).astype(np.int32))


def ball(radius_mm: float, centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0), *, rings: int = 40) -> Solid:
    return solid_from_mesh(globe(radius_mm, centre_mm, rings=rings), "bone")


def bone_of(mesh: Mesh, name: str = "skull", side: str = "midline") -> Bone:
    return Bone(name, side, True, 1.0, mesh_volume_mm3(mesh), mesh, np.eye(4), np.zeros(len(mesh.vertices_mm)))  # type: ignore[arg-type]


def anatomy_of(*bones: Bone) -> Anatomy:
    return Anatomy(bones, (), FieldOfView(np.eye(4), (100, 100, 100)))


def order(side: str = "midline", bones: tuple[str, ...] = (), process: str = "pa12-sls", **parameters: object) -> Order:
    return Order(
        case="test-01", device="anatomical-model", side=side, process=process, machine="sim-01",
        due=dt.datetime(2026, 11, 24, tzinfo=dt.UTC), target=Target(bones=bones), parameters=FAMILY.parameters(**parameters),
    )  # fmt: skip


PLAIN = {"engrave": False, "scale_cube": False, "simplify_mm": 0.0}


def built(anatomy: Anatomy, wanted: Order) -> Device:
    return design(anatomy, plan(anatomy, wanted), wanted, load_process(wanted.process))


def checked(anatomy: Anatomy, wanted: Order) -> CheckedDevice:
    device, process = built(anatomy, wanted), load_process(wanted.process)
    return check(device, anatomy, plan(anatomy, wanted), wanted, process, load_machine(wanted.machine))


def figures(device: Device) -> dict[str, float]:
    return dict(device.figures)


@cache
def phantom() -> Anatomy:
    """A ball with a nose to the front, a bump on the left, a loose ball 8 mm away from it and a crumb."""
    body = gathered((ball(RADIUS_MM), ball(6.0, (44.0, 0.0, 0.0), rings=16), ball(1.0, (0.0, 40.0, 0.0), rings=8)))
    nose = ball(8.0, (0.0, -28.0, 0.0), rings=16)
    return anatomy_of(bone_of(to_mesh(union(body, nose, what="nose"))[0]))


@cache
def default_model() -> CheckedDevice:
    return checked(phantom(), order())


def test_the_defaults_make_a_model_that_passes_its_checks() -> None:
    result = default_model()
    assert result.released, [finding for finding in result.findings if finding.verdict == "fail"]
    assert [part.name for part in result.device.parts] == ["model", "scale-cube"]


@pytest.mark.parametrize("edge_mm", [5.0, 30.0])
def test_a_scale_cube_of_any_ordered_edge_is_a_gauge_and_no_device_of_its_own(edge_mm: float) -> None:
    result = checked(phantom(), order(scale_cube_mm=edge_mm))
    assert [part.purpose for part in result.device.parts] == ["device", "gauge"]
    assert result.released, [finding for finding in result.findings if finding.verdict == "fail"]


def test_a_loose_piece_is_tied_with_a_pin_and_a_crumb_is_left_out_and_counted() -> None:
    found = figures(default_model().device)
    assert (found["pins"], found["dropped_pieces"]) == (1.0, 1.0)
    assert found["dropped_mm3"] == pytest.approx(4.0 / 3.0 * np.pi, rel=0.1)  # a globe of 8 rings
    model = default_model().device.parts[0]
    assert measure_mesh(model.mesh).pieces == 1
    free_mm = 44.0 - 6.0 - RADIUS_MM
    assert face_areas(model)["pin"] == pytest.approx(np.pi * 4.0 * free_mm, rel=0.1)  # sunk into two round surfaces


def test_a_piece_beyond_the_reach_of_a_pin_is_left_out() -> None:
    device = built(phantom(), order(pin_reach_mm=7.0, **PLAIN))
    assert (figures(device)["pins"], figures(device)["dropped_pieces"]) == (0.0, 2.0)
    assert device.parts[0].mesh.vertices_mm[:, 0].max() == pytest.approx(RADIUS_MM, abs=0.1)


def test_the_unchanged_bone_comes_out_as_it_went_in() -> None:
    mesh = globe(RADIUS_MM)
    part = built(anatomy_of(bone_of(mesh)), order(**PLAIN)).parts[0]
    assert len(part.mesh.faces) == len(mesh.faces)
    assert mesh_volume_mm3(part.mesh) == pytest.approx(mesh_volume_mm3(mesh), rel=1e-7)
    assert part.step == b""


def test_a_void_is_filled() -> None:
    hollow = to_mesh(difference(ball(RADIUS_MM), ball(10.0), what="void"))[0]
    device = built(anatomy_of(bone_of(hollow)), order(**PLAIN))
    assert figures(device)["filled_voids"] == 1.0
    assert mesh_volume_mm3(device.parts[0].mesh) == pytest.approx(mesh_volume_mm3(globe(RADIUS_MM)), rel=1e-6)


def test_the_region_is_cut_along_the_bones_own_axis() -> None:
    device = built(anatomy_of(bone_of(globe(RADIUS_MM))), order(cut_bottom_mm=20.0, cut_top_mm=5.0, **PLAIN))
    points = device.parts[0].mesh.vertices_mm
    assert (points[:, 2].min(), points[:, 2].max()) == pytest.approx((-10.0, 25.0), abs=1e-6)
    cut = np.pi * (30.0**2 - 10.0**2) + np.pi * (30.0**2 - 25.0**2)
    assert face_areas(device.parts[0])["cut"] == pytest.approx(cut, rel=0.01)


def test_cuts_that_leave_nothing_are_refused_with_the_height_that_is_left() -> None:
    with pytest.raises(OrderError, match=r"leave 4\.\d mm of 60\.0 mm, at least 5 mm"):
        plan(phantom_ball(), order(cut_bottom_mm=40.0, cut_top_mm=15.5))
    assert plan(phantom_ball(), order(cut_bottom_mm=40.0, cut_top_mm=14.5)).plane("cut-top").normal == (0.0, 0.0, -1.0)


def phantom_ball() -> Anatomy:
    return anatomy_of(bone_of(globe(RADIUS_MM, rings=12)))


@cache
def hollow_model() -> CheckedDevice:
    return checked(anatomy_of(bone_of(globe(RADIUS_MM))), order(hollow=True, wall_mm=2.5, engrave=False, scale_cube=False))


def test_a_hollow_model_keeps_its_wall_everywhere() -> None:
    walls = measure_walls(hollow_model().device.parts[0].mesh)
    middle = walls.thickness_mm[walls.at_share(0.5) or 0]
    assert middle == pytest.approx(2.5, abs=0.02)
    thin = walls.area_mm2[walls.thickness_mm < 2.4].sum() / walls.area_mm2.sum()
    assert thin < 0.01  # the rims of the escape holes


def test_a_hollow_model_has_open_escape_holes_into_its_only_cavity() -> None:
    result = hollow_model()
    found = figures(result.device)
    assert (found["cavities"], found["escape_holes"]) == (1.0, 2.0)
    cavity = 4.0 / 3.0 * np.pi * 27.5**3
    assert found["hollowed_mm3"] == pytest.approx(cavity, rel=0.01)
    measures = measure_mesh(result.device.parts[0].mesh)
    assert (measures.pieces, len(measures.crossings)) == (1, 0)  # one surface: the cavity is open to the outside
    assert {finding.verdict for finding in result.findings if finding.check == "escape"} == {"pass"}
    areas = face_areas(result.device.parts[0])
    assert areas["escape-hole-1"] == pytest.approx(np.pi * 4.0 * 2.5, rel=0.1)


def test_an_escape_hole_that_is_closed_again_fails_the_check() -> None:
    result = hollow_model()
    part = result.device.parts[0]
    keep = part.face_labels != part.labels.index("escape-hole-2")
    closed = Part(part.name, Mesh(part.mesh.vertices_mm, part.mesh.faces[keep]), part.face_labels[keep], part.labels)
    wanted = order(hollow=True, wall_mm=2.5, engrave=False, scale_cube=False)
    anatomy = anatomy_of(bone_of(globe(RADIUS_MM)))
    device = Device(result.device.family, (closed,), result.device.figures)
    again = check(device, anatomy, plan(anatomy, wanted), wanted, load_process("pa12-sls"), load_machine("sim-01"))
    assert [f.verdict for f in again.findings if f.what == "open escape holes per cavity"] == ["fail"]


def test_a_thin_skull_stays_solid_and_the_figures_say_so() -> None:
    shell = difference(ball(RADIUS_MM), ball(RADIUS_MM - 6.0), what="shell")
    cut = [piece for piece in pieces(shell) if volume_mm3(piece) > 0.0]
    assert len(cut) == 1
    bowl = trimmed(shell, origin_mm=np.zeros(3), normal=np.array([0.0, 0.0, -1.0]), label="bone", what="open")
    device = built(anatomy_of(bone_of(to_mesh(bowl)[0])), order(hollow=True, **PLAIN))
    assert (figures(device)["cavities"], figures(device)["hollowed_mm3"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("wall_mm", {"hollow": True, "wall_mm": 1.9}),
        ("escape_hole_mm", {"hollow": True, "escape_hole_mm": 3.4}),
        ("text_height_mm", {"text_height_mm": 2.4, "process": "ti64-lpbf"}),
    ],
)
def test_what_the_process_cannot_hold_is_refused_by_name(name: str, parameters: dict[str, object]) -> None:
    with pytest.raises(OrderError, match=rf"parameters\.{name} is .* mm, at least .* mm for"):
        built(phantom_ball(), order(**parameters))  # type: ignore[arg-type]


def test_the_case_code_is_engraved_to_the_depth_of_the_process_and_no_deeper() -> None:
    process = load_process("pa12-sls")
    device = built(anatomy_of(bone_of(globe(RADIUS_MM))), order(scale_cube=False, simplify_mm=0.0))
    part = device.parts[0]
    assert figures(device)["label_characters"] == 7.0
    engraved = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index("label")])]
    depth_mm = RADIUS_MM - np.linalg.norm(engraved, axis=1)
    sunk_mm = 0.15  # a letter is flat: its middle lies this much nearer to the ball's surface than its corners
    assert depth_mm.max() == pytest.approx(process.engrave_depth_mm + sunk_mm, abs=sunk_mm)
    assert depth_mm.min() > -0.01


def test_left_is_marked_on_the_left_and_right_on_the_right() -> None:
    part = default_model().device.parts[0]
    marks = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index("side-mark")])]
    left, right = marks[marks[:, 0] > 0.0], marks[marks[:, 0] < 0.0]
    assert b"side-mark L 1" in part.step
    assert b"side-mark R 1" in part.step
    upper = left[left[:, 2] > left[:, 2].mean() + 1.0]  # from the left, front is on the left: an L has its stem in front
    assert upper[:, 1].mean() < left[:, 1].mean() - 0.5
    assert len(right) > 0


def test_a_one_sided_bone_carries_its_own_letter_only() -> None:
    tibia = bone_of(globe(RADIUS_MM), "tibia", "right")
    device = built(anatomy_of(tibia), order("right", scale_cube=False))
    assert figures(device)["side_marks"] == 1.0
    assert b"side-mark R 1" in device.parts[0].step


def test_the_other_side_and_an_unknown_bone_are_refused() -> None:
    anatomy = anatomy_of(bone_of(globe(RADIUS_MM, rings=12), "tibia", "right"))
    with pytest.raises(OrderError, match=r"side is left; bones found: tibia \(right\)"):
        plan(anatomy, order("left", bones=("tibia",)))
    with pytest.raises(OrderError, match=r"asks for femur; found: tibia \(right\)"):
        plan(anatomy, order("right", bones=("femur",)))
    assert plan(anatomy, order("right", bones=("Tibia",))).figures


def test_the_scale_cube_has_its_edge_and_stands_clear_of_the_model() -> None:
    model, cube = default_model().device.parts
    size = np.ptp(cube.mesh.vertices_mm, axis=0)
    assert size == pytest.approx([10.0, 10.0, 10.0], abs=1e-6)
    assert cube.mesh.vertices_mm[:, 0].min() > model.mesh.vertices_mm[:, 0].max() + 5.0
    assert [f.verdict for f in default_model().findings if f.check == "scale"] == ["pass"]


@pytest.mark.parametrize(("process", "free_mm2"), [("pa12-sls", 0.0), ("guide-resin", 100.0), ("ti64-lpbf", 100.0)])
def test_the_scale_cube_has_a_face_for_supports_where_a_process_needs_them(process: str, free_mm2: float) -> None:
    """All of its faces are measured else, and then no way up is left for it."""
    wanted = order().model_copy(update={"process": process})
    (cube,) = (
        p for p in design(phantom(), plan(phantom(), wanted), wanted, load_process(process)).parts if p.name == "scale-cube"
    )
    assert [face.label for face in cube.functional_faces] == ["cube"]
    assert ("not the height" in cube.functional_faces[0].purpose) == (free_mm2 > 0.0)
    areas = face_areas(cube)
    assert areas.get("cube-foot", 0.0) == pytest.approx(free_mm2)
    assert areas["cube"] > 400.0
    box_mm = usable_box_mm(load_machine("sim-01"))
    assert stand(cube, load_process(process), box_mm=box_mm).functional_overhang_mm2 == 0.0


def test_a_cube_of_another_size_fails_the_check() -> None:
    model, cube = default_model().device.parts
    for factor, verdict in ((1.0049, "pass"), (1.0051, "fail")):
        middle = cube.mesh.vertices_mm.mean(axis=0)
        other = Part(
            cube.name, Mesh(middle + factor * (cube.mesh.vertices_mm - middle), cube.mesh.faces), cube.face_labels, cube.labels
        )
        assert found(Device("anatomical-model", (model, other), default_model().device.figures), "scale")[0].verdict == verdict


def test_a_model_that_left_the_bone_fails_the_check() -> None:
    model, cube = default_model().device.parts
    for shift_mm, verdict in ((0.9, "pass"), (1.2, "fail")):
        swollen = Mesh(model.mesh.vertices_mm * (1.0 + shift_mm / RADIUS_MM), model.mesh.faces)
        other = Part(model.name, swollen, model.face_labels, model.labels)
        findings = found(Device("anatomical-model", (other, cube), default_model().device.figures), "deviation")
        assert findings[0].value == pytest.approx(shift_mm, abs=0.1)
        assert findings[1].verdict == verdict


def found(device: Device, name: str) -> list[Finding]:
    wanted = order()
    result = check(device, phantom(), plan(phantom(), wanted), wanted, load_process("pa12-sls"), load_machine("sim-01"))
    return [finding for finding in result.findings if finding.check == name]


@pytest.mark.data
def test_a_real_tibia_is_hollowed_within_its_wall(test_data: Path) -> None:
    stl = StlMesh.from_file(str(test_data / "bones" / "VHF_Left_Bone_Tibia_smooth.stl"))
    points, index = np.unique(stl.vectors.reshape(-1, 3).astype(np.float64), axis=0, return_inverse=True)
    bone = bone_of(Mesh(points, index.reshape(-1, 3).astype(np.int32)), "tibia", "left")
    frame = np.eye(4)
    frame[:3, 3] = points.mean(axis=0)
    wanted = order("left", ("tibia",), hollow=True, scale_cube=False, cut_bottom_mm=20.0)  # fits the machine
    result = checked(anatomy_of(replace(bone, frame=frame)), wanted)
    assert result.released, [finding for finding in result.findings if finding.verdict == "fail"]
    found = figures(result.device)
    assert found["hollowed_mm3"] > 0.5 * found["solid_volume_mm3"]
    assert found["label_characters"] == 7.0
    walls = measure_walls(result.device.parts[0].mesh)
    assert walls.thickness_mm[walls.at_share(0.02) or 0] > 2.4


def pose() -> FloatArray:
    first = np.array([0.36, 0.48, -0.8])
    second = np.array([-0.8, 0.6, 0.0])
    out = np.eye(4)
    out[:3, :3] = np.column_stack([first, second, np.cross(first, second)])
    out[:3, 3] = [41.0, -230.0, 917.0]
    return out


def test_the_model_moves_with_the_bone() -> None:
    here, there = default_model().device, built(phantom().moved(pose()), order())
    for part, other in zip(here.parts, there.parts, strict=True):
        assert len(part.mesh.faces) == len(other.mesh.faces)
        off = np.linalg.norm(part.mesh.moved(pose()).vertices_mm - other.mesh.vertices_mm, axis=1)
        assert off.max() < 0.001
        assert mesh_volume_mm3(other.mesh) > 0.0


def test_the_same_order_gives_the_same_bytes() -> None:
    again = built(phantom(), order())
    for part, other in zip(default_model().device.parts, again.parts, strict=True):
        assert part.mesh.vertices_mm.tobytes() == other.mesh.vertices_mm.tobytes()
        assert part.mesh.faces.tobytes() == other.mesh.faces.tobytes()
        assert part.face_labels.tobytes() == other.face_labels.tobytes()
        assert part.step == other.step


def test_triangles_are_dropped_within_the_ordered_distance() -> None:
    mesh = globe(RADIUS_MM)
    device = built(anatomy_of(bone_of(mesh)), order(engrave=False, scale_cube=False, simplify_mm=0.1))
    fewer = device.parts[0].mesh
    assert len(fewer.faces) < 0.8 * len(mesh.faces)
    sunk = RADIUS_MM * (1.0 - np.cos(np.pi / 80.0))  # the chords of the phantom itself
    assert np.linalg.norm(fewer.vertices_mm[fewer.faces].mean(axis=1), axis=1).min() > RADIUS_MM - sunk - 0.1


def test_thin_sheets_do_not_pass_through_each_other_when_triangles_are_dropped() -> None:
    void = ball(8.0, (0.0, 21.98, 0.0), rings=60)
    mesh = to_mesh(difference(ball(RADIUS_MM, rings=80), void, what="void under a skin of 0.02 mm"))[0]
    waves = 1.0 + 5e-4 * np.sin(mesh.vertices_mm @ np.array([3.1, 1.7, 2.3]))
    rough = Mesh(mesh.vertices_mm * waves[:, None], mesh.faces)
    assert len(crossing_pairs(rough, tolerance_mm=1e-6)) == 0
    anywhere = np.zeros(len(rough.vertices_mm), dtype=np.bool_)
    assert len(crossing_pairs(collapsed(rough, 0.1, anywhere), tolerance_mm=1e-6)) > 0
    fewer, used_mm = reduced(rough, 0.1)
    assert used_mm == 0.1
    assert len(crossing_pairs(fewer, tolerance_mm=1e-6)) == 0
    assert len(fewer.faces) < 0.8 * len(rough.faces)


def test_collapsed_edges_leave_a_closed_surface_within_the_tolerance() -> None:
    mesh = to_mesh(difference(ball(RADIUS_MM, rings=80), ball(8.0, (0.0, 20.0, 0.0), rings=60), what="a bowl"))[0]
    fewer = collapsed(mesh, 0.05, np.zeros(len(mesh.vertices_mm), dtype=np.bool_))
    assert len(fewer.faces) < 0.7 * len(mesh.faces)
    assert is_closed(fewer)
    assert nearest_mm(mesh.vertices_mm, fewer).max() < 0.05
    assert nearest_mm(fewer.vertices_mm, mesh).max() < 0.05
    assert abs(mesh_volume_mm3(fewer) - mesh_volume_mm3(mesh)) < 0.002 * mesh_volume_mm3(mesh)


def test_frozen_vertices_keep_their_triangles() -> None:
    mesh = globe(RADIUS_MM)
    frozen = np.asarray(mesh.vertices_mm[:, 2] > 0.0)
    fewer = collapsed(mesh, 0.1, frozen)
    above = mesh.vertices_mm[mesh.faces][frozen[mesh.faces].all(axis=1)]
    kept = fewer.vertices_mm[fewer.faces]
    assert len(fewer.faces) < 0.9 * len(mesh.faces)
    assert set(map(bytes, np.sort(above, axis=1))) <= set(map(bytes, np.sort(kept, axis=1)))
