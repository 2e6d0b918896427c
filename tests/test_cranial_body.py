"""The body of a cranial implant against holes of known shape in an ellipsoidal vault."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from batchone.design.cranial.body import build_implant
from batchone.design.cranial.checks import CHECKS, says_what_it_is
from batchone.design.cranial.columns import cropped
from batchone.design.cranial.insertion import draft_deg, insertion_axis
from batchone.design.cranial.rim_gap import border_gap
from batchone.design.cranial.way_out import obstruction
from batchone.design.families.cranial_implant import CRANIAL_IMPLANT, CranialImplantParameters
from batchone.design.family import Checked
from batchone.design.nearest import nearest_mm
from batchone.design.table_files import shipped_tables
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.process import Conditions, Process
from batchone.pipeline.values import (
    Anatomy,
    Curve,
    Device,
    FieldOfView,
    FloatArray,
    Mesh,
    Part,
    moved_points,
)
from batchone.samples.vault_hole import HOLE_MM, OUT, OUTER_MM, THICK_MM, hole_axes, plan_for, skull, to_ellipsoid_mm


def order(**parameters: object) -> Order:
    return Order(
        case="TEST-7",
        device="cranial-implant",
        side="left",
        process="test-sls",
        machine="test",
        due=dt.datetime(2026, 11, 24, tzinfo=dt.UTC),
        parameters=CranialImplantParameters.model_validate(parameters),
    )


PROCESS = Process(
    name="test-sls", title="test", kind="sls", material="PA12", density_g_per_mm3=0.00093, layer_mm=0.1, min_wall_mm=1.0,
    min_pin_mm=0.8, min_hole_mm=1.5, min_gap_mm=0.5, min_channel_mm=4.0, min_escape_hole_mm=3.5, hollow_wall_mm=2.0,
    engrave_line_mm=0.5, engrave_depth_mm=0.8, font_height_mm=2.0, max_overhang_deg=90.0, needs_supports=False,
    tolerance_mm=0.3, part_spacing_mm=5.0, recoat_s=25.0, setup_s=7200.0, time_within=0.2, after_printing=(),
    conditions=Conditions(lot_keys=("lot",), inert_gas="none", sources={}), sources={},
)  # fmt: skip

PLAIN = {"fixation_holes": 0, "engrave": False, "perforation_pitch_mm": 0.0}


@lru_cache(maxsize=16)
def implant(angle_deg: float = 0.0, parameters: tuple[tuple[str, object], ...] = ()) -> Device:
    return build_implant(skull(angle_deg), plan_for(angle_deg), order(**dict(parameters)), PROCESS)


def plain(angle_deg: float = 0.0, **parameters: object) -> Part:
    return implant(angle_deg, tuple(sorted({**PLAIN, **parameters}.items()))).parts[0]


def vertices_of(part: Part, label: str) -> FloatArray:
    return np.asarray(part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(label)])])


def middles_of(part: Part, label: str) -> FloatArray:
    return np.asarray(part.mesh.vertices_mm[part.mesh.faces[part.face_labels == part.labels.index(label)]].mean(axis=1))


def edges_used_twice(mesh: Mesh) -> bool:
    directed = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    forward = np.unique(directed, axis=0)
    return len(forward) == len(directed) and np.array_equal(forward, np.unique(directed[:, ::-1], axis=0))


def volume_mm3(mesh: Mesh) -> float:
    corners = mesh.vertices_mm[mesh.faces]
    return float(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0)


def checked(device: Device, angle_deg: float = 0.0, **parameters: object) -> Checked:
    machine = Machine.model_construct()
    return Checked(
        device,
        skull(angle_deg),
        plan_for(angle_deg),
        order(**parameters),
        PROCESS,
        machine,
        shipped_tables(),
        CRANIAL_IMPLANT.limits,
    )


def verdicts(case: Checked) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for check in CHECKS:
        for finding in check(case):
            found.setdefault(finding.check, []).append(finding.verdict)
    return found


@pytest.mark.parametrize("angle_deg", [0.0, 12.0])
def test_the_way_in_is_the_axis_of_the_cut(angle_deg: float) -> None:
    plan, mesh = plan_for(angle_deg), skull(angle_deg).bones[0].mesh
    outer, inner = (plan.surface(name).mesh for name in ("contour-outer", "contour-inner"))
    axis = insertion_axis(mesh, plan.curve("rim").points_mm, outer=outer, inner=inner)
    assert np.degrees(np.arccos(min(1.0, float(axis @ OUT)))) < 0.5  # finest search step 0.05 degrees, facets of 0.8 mm
    least, median = draft_deg(axis, mesh, plan.curve("rim").points_mm, outer=outer, inner=inner)
    assert least == pytest.approx(angle_deg, abs=1.0)
    assert median == pytest.approx(angle_deg, abs=0.5)


def test_a_rim_without_a_wall_gives_no_way_in() -> None:
    plan = plan_for()
    away = plan.curve("rim").points_mm + np.array([0.0, 0.0, 60.0])
    with pytest.raises(DesignError, match=r"wall of the hole was found along 0 stretches"):
        insertion_axis(
            skull().bones[0].mesh, away, outer=plan.surface("contour-outer").mesh, inner=plan.surface("contour-inner").mesh
        )


@pytest.mark.parametrize("gap_mm", [0.3, 0.5, 1.0])
def test_the_wall_of_a_straight_hole_stands_off_by_the_gap(gap_mm: float) -> None:
    wall = vertices_of(plain(border_gap_mm=gap_mm), "border")
    wall = wall[to_ellipsoid_mm(wall, OUTER_MM) < -1.2]  # the grid of the phantom bevels the edge of the bone above
    from_axis = np.linalg.norm(wall - (wall @ OUT)[:, None] * OUT, axis=1)
    gaps = HOLE_MM / 2.0 - from_axis  # the true wall is a cylinder
    assert np.median(gaps) == pytest.approx(gap_mm, abs=0.03)
    assert gaps.min() > gap_mm - 0.1
    assert np.percentile(gaps, 95) < gap_mm + 0.1


def test_outer_and_inner_face_follow_the_contour() -> None:
    part = plain(thickness_mm=4.0)
    outer, inner = (to_ellipsoid_mm(middles_of(part, label), OUTER_MM) for label in ("outer", "inner"))
    assert np.abs(outer).max() < 0.03  # label slack 0.02 mm, simplification 0.005 mm
    assert np.abs(inner + 4.0).max() < 0.06  # the test's own distance is first order: 0.03 mm at 4 mm


def test_bone_thickness_follows_the_inner_contour() -> None:
    inner = middles_of(plain(thickness_mode="bone"), "inner")
    assert np.abs(to_ellipsoid_mm(inner, OUTER_MM - THICK_MM)).max() < 0.03


def test_under_contour_sinks_the_middle_and_not_the_rim() -> None:
    part = plain(under_contour_mm=2.0)
    outer = middles_of(part, "outer")
    depth = -to_ellipsoid_mm(outer, OUTER_MM)
    to_rim = HOLE_MM / 2.0 - np.linalg.norm(outer - (outer @ OUT)[:, None] * OUT, axis=1)
    assert depth[to_rim > 15.5].min() == pytest.approx(2.0, abs=0.05)
    assert depth[to_rim < 1.2].max() < 0.06  # 2 mm x 3 (1.2 / 15)^2


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"thickness_mm": 2.0, "edge_radius_mm": 1.5, "perforation_pitch_mm": 6.0, "fixation_holes": 8, "fixation_hole_mm": 3.0},
        {"thickness_mm": 10.0, "edge_radius_mm": 0.0, "engrave": False, "perforation_pitch_mm": 0.0, "fixation_holes": 1},
    ],
)
def test_every_parameter_makes_a_closed_labelled_body(parameters: dict[str, object]) -> None:
    part = implant(parameters=tuple(sorted(parameters.items()))).parts[0]
    assert part.name == "implant"
    assert {"outer", "inner", "border", "fixation"} <= set(part.labels)
    assert ("label" in part.labels) == parameters.get("engrave", True)
    assert {face.label for face in part.functional_faces} == {"border", "fixation"}
    assert edges_used_twice(part.mesh)
    assert volume_mm3(part.mesh) > 0.0
    assert part.step.startswith(b"ISO-10303-21")
    assert len(part.mesh.faces) < 400_000


@pytest.mark.parametrize("parameters", [{"perforation_mm": 1.4}, {"fixation_hole_mm": 1.6}])
def test_a_hole_that_the_process_prints_shut_is_refused_by_name(parameters: dict[str, object]) -> None:
    (name,) = parameters
    coarse = PROCESS.model_copy(update={"min_hole_mm": 1.7})
    with pytest.raises(OrderError, match=rf"parameters\.{name} is 1\.[46] mm, at least 1\.7 mm for {PROCESS.name}"):
        build_implant(skull(), plan_for(), order(**parameters), coarse)


def test_the_label_of_an_implant_says_its_case_and_shows_where_the_top_of_the_head_is() -> None:
    case = checked(implant())
    assert [finding.verdict for finding in says_what_it_is(case)] == ["pass", "pass"]
    other = replace(case, order=case.order.model_copy(update={"case": "D-0002"}))
    assert [finding.verdict for finding in says_what_it_is(other)] == ["fail", "pass"]
    turned = replace(skull().bones[0], frame=np.diag([1.0, -1.0, -1.0, 1.0]))
    upside_down = replace(case, anatomy=replace(case.anatomy, bones=(turned,)))
    assert [finding.verdict for finding in says_what_it_is(upside_down)] == ["pass", "fail"]
    assert [finding.verdict for finding in says_what_it_is(replace(case, device=implant(parameters=(("engrave", False),))))] == [
        "fail",
        "fail",
    ]


def test_the_same_input_gives_the_same_bytes() -> None:
    few = {**PLAIN, "fixation_holes": 2}
    one, other = (build_implant(skull(), plan_for(), order(**few), PROCESS).parts[0] for _ in range(2))
    assert one.mesh.vertices_mm.tobytes() == other.mesh.vertices_mm.tobytes()
    assert one.mesh.faces.tobytes() == other.mesh.faces.tobytes()
    assert one.step == other.step


def test_the_implant_moves_with_the_bone() -> None:
    from scipy.spatial.transform import Rotation

    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [31.0, -47.0, 112.0], degrees=True).as_matrix()
    pose[:3, 3] = [41.0, -133.0, 917.0]
    plan = plan_for()
    turned = replace(
        plan,
        curves=tuple(replace(c, points_mm=moved_points(pose, c.points_mm)) for c in plan.curves),
        axes=tuple(
            replace(
                a, origin_mm=tuple(moved_points(pose, np.array([a.origin_mm]))[0]), direction=tuple(pose[:3, :3] @ a.direction)
            )
            for a in plan.axes
        ),
        surfaces=tuple(replace(s, mesh=s.mesh.moved(pose)) for s in plan.surfaces),
    )
    moved = build_implant(skull().moved(pose), turned, order(), PROCESS).parts[0]
    expected = implant().parts[0].mesh.moved(pose)
    assert hausdorff_mm(moved.mesh, expected) <= 0.02
    assert np.linalg.det(pose[:3, :3]) > 0.0
    assert volume_mm3(moved.mesh) == pytest.approx(volume_mm3(expected), rel=1e-5)


def hausdorff_mm(one: Mesh, other: Mesh) -> float:
    return max(float(nearest_mm(a.vertices_mm, b).max()) for a, b in ((one, other), (other, one)))


def test_a_hole_that_narrows_outward_leaves_no_undercut() -> None:
    part = plain(-12.0)
    found = obstruction(part.mesh, skull(-12.0).bones[0].mesh, OUT)
    assert (found.undercut_mm3, found.overlap_mm3) == (0.0, 0.0)
    assert border_gap(part, skull(-12.0).bones[0].mesh).least_mm > 0.35


def test_undercut_is_seen_when_the_implant_is_too_wide() -> None:
    part = plain(-12.0)
    wide = Mesh(part.mesh.vertices_mm - 3.0 * OUT, part.mesh.faces)  # 3 mm deeper, where the hole is 0.6 mm wider
    wide = Mesh(wide.vertices_mm * 1.04, wide.faces)  # and 0.9 mm wider itself
    assert obstruction(wide, skull(-12.0).bones[0].mesh, OUT).undercut_mm3 > 1.0


def test_nothing_is_built_over_intact_bone_where_the_contour_stands_proud() -> None:
    part = build_implant(skull(), plan_for(proud_mm=1.2), order(**PLAIN), PROCESS).parts[0]
    vertices = part.mesh.vertices_mm
    assert np.linalg.norm(vertices - (vertices @ OUT)[:, None] * OUT, axis=1).max() < HOLE_MM / 2.0 + 0.35  # a voxel


def test_no_fin_grows_into_a_cleft() -> None:
    part = build_implant(skull(cleft_mm=2.0), plan_for(), order(**PLAIN), PROCESS).parts[0]
    vertices = part.mesh.vertices_mm
    assert np.linalg.norm(vertices - (vertices @ OUT)[:, None] * OUT, axis=1).max() < HOLE_MM / 2.0 + 0.8


def test_drainage_holes_keep_their_pitch_and_their_border() -> None:
    from scipy.spatial import cKDTree

    device = implant()
    part, count = device.parts[0], dict(device.figures)["perforations"]
    assert count == 4.0  # on a face of 41 mm with a solid border of 5 mm: the inner four of a pattern of 10 mm
    to_border, _ = cKDTree(vertices_of(part, "border")).query(vertices_of(part, "perforation"))
    assert to_border.min() >= 5.0
    assert "perforation" not in plain().labels


def test_screw_holes_stand_at_their_distance_from_the_border() -> None:
    from scipy.spatial import cKDTree

    part = implant().parts[0]
    to_border, _ = cKDTree(vertices_of(part, "border")).query(vertices_of(part, "fixation"))
    assert to_border.min() == pytest.approx(5.0 - 1.1, abs=0.2)  # centre at 5 mm, radius 1.1 mm


def test_the_engraving_is_equally_deep_everywhere_and_reads_from_outside() -> None:
    part = implant().parts[0]
    letters = vertices_of(part, "label")
    depth = -to_ellipsoid_mm(letters, OUTER_MM)
    assert depth.max() == pytest.approx(0.8, abs=0.03)
    deep = letters[depth > 0.7]
    assert np.abs(depth[depth > 0.7] - 0.8).max() < 0.03
    up = np.array([0.0, 0.0, 1.0]) - OUT * OUT[2]
    right = np.cross(up, OUT)
    # seen from outside with the head upright the arrow stands left of the code, and its head (wide) is above its tail (narrow)
    flat = np.column_stack([deep @ right / np.linalg.norm(right), deep @ up / np.linalg.norm(up)])
    arrow = flat[flat[:, 0] < flat[:, 0].min() + 2.0]
    upper = arrow[:, 1] > 0.5 * (arrow[:, 1].min() + arrow[:, 1].max()) - 0.3
    assert np.ptp(arrow[upper, 0]) > 1.5 * np.ptp(arrow[~upper, 0])


def test_a_label_that_fits_nowhere_is_refused_with_its_size() -> None:
    with pytest.raises(DesignError, match=r"the label needs .* mm on the outer face"):
        build_implant(skull(), plan_for(), order(), replace_process(font_height_mm=14.0))


def test_an_implant_too_thin_for_its_engraving_is_refused_with_depths() -> None:
    with pytest.raises(DesignError, match=r"engraving can be 0\.1\d mm deep"):
        build_implant(skull(), plan_for(), order(thickness_mm=2.0), replace_process(min_wall_mm=1.83))


def replace_process(**fields: float) -> Process:
    return PROCESS.model_copy(update=fields)


def test_an_anatomy_without_a_skull_is_refused() -> None:
    with pytest.raises(DesignError, match="0 bones named skull"):
        build_implant(Anatomy((), (), FieldOfView(np.eye(4), (1, 1, 1))), plan_for(), order(), PROCESS)


def test_a_rim_on_intact_bone_is_refused() -> None:
    plan = plan_for()
    small = plan.curve("rim").points_mm
    shifted = small.mean(axis=0) + 0.1 * (small - small.mean(axis=0)) + (HOLE_MM / 2.0 + 8.0) * hole_axes()[:, 0]
    with pytest.raises(DesignError, match="hole is nowhere 5 mm wide"):
        build_implant(skull(), replace(plan, curves=(Curve("rim", shifted, True),)), order(), PROCESS)


def test_a_good_implant_passes_every_check() -> None:
    assert {verdict for group in verdicts(checked(implant())).values() for verdict in group} == {"pass"}


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (lambda v: v + 0.3 * hole_axes()[:, 0], "border gap"),  # least gap 0.2 of 0.5 mm
        (lambda v: v + 0.8 * hole_axes()[:, 0], "overlap"),
        (lambda v: v + 0.8 * hole_axes()[:, 0], "insertion"),
        (lambda v: v * 0.985, "border gap"),  # about 0.35 mm narrower all round, and lower
    ],
)
def test_an_implant_out_of_place_fails(change: Callable[[FloatArray], FloatArray], failing: str) -> None:
    device = implant(parameters=tuple(sorted(PLAIN.items())))
    part = device.parts[0]
    moved = replace(part, mesh=Mesh(np.ascontiguousarray(change(part.mesh.vertices_mm)), part.mesh.faces))
    assert "fail" in verdicts(checked(replace(device, parts=(moved,))))[failing]


def test_a_shift_within_the_gates_still_passes_the_gap() -> None:
    device = implant(parameters=tuple(sorted(PLAIN.items())))
    part = device.parts[0]
    near = replace(part, mesh=Mesh(part.mesh.vertices_mm + 0.08 * hole_axes()[:, 0], part.mesh.faces))
    assert set(verdicts(checked(replace(device, parts=(near,))))["border gap"]) == {"pass"}


@pytest.mark.parametrize(("squeeze_mm", "verdict"), [(0.0, "pass"), (2.2, "fail")])
def test_a_wall_below_the_limit_fails(squeeze_mm: float, verdict: str) -> None:
    device = implant(parameters=tuple(sorted(PLAIN.items())))
    part = device.parts[0]
    inner = np.unique(part.mesh.faces[np.isin(part.face_labels, [part.labels.index("inner")])])
    vertices = part.mesh.vertices_mm.copy()
    vertices[inner] += squeeze_mm * OUT
    thin = replace(part, mesh=Mesh(vertices, part.mesh.faces))
    assert verdicts(checked(replace(device, parts=(thin,)), **PLAIN))["thickness"][0] == verdict


def test_cropping_keeps_what_touches_the_box() -> None:
    mesh = skull().bones[0].mesh
    low, high = np.array([20.0, -10.0, 20.0]), np.array([60.0, 30.0, 60.0])
    part = cropped(mesh, low, high)
    corners = mesh.vertices_mm[mesh.faces]
    meets = ((corners.max(axis=1) >= low) & (corners.min(axis=1) <= high)).all(axis=1)
    assert len(part.faces) == int(meets.sum())
    assert np.isin(part.vertices_mm.view([("", np.float64)] * 3), mesh.vertices_mm.view([("", np.float64)] * 3)).all()
