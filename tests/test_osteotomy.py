"""Osteotomy guides on a synthetic long bone and on real tibiae: planes, pins, guide on bone, motion, mirroring, limits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from batchone.design.checks.part import is_sound
from batchone.design.contact.seat import CONTACT
from batchone.design.families import load_families
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.family import Checked
from batchone.design.guide.body import guide_pose
from batchone.design.guide.label import LABEL
from batchone.design.guide.sleeve import Sleeve
from batchone.design.guide.slot import Slot, cut_tool, filled
from batchone.design.guide.slot_checks import slot_findings
from batchone.design.guide.window import MARKS
from batchone.design.make import check, design, plan
from batchone.design.osteotomy import contact as choice
from batchone.design.osteotomy.approach import way_out
from batchone.design.osteotomy.checks import cuts_fit, pins_hold
from batchone.design.osteotomy.cuts import unit
from batchone.design.osteotomy.guide import SLOT_PIN_MM, slot_pin_mm, slots_apart_mm
from batchone.design.osteotomy.section import section
from batchone.design.seating.make import SEED, seated
from batchone.design.seating.stability import stability
from batchone.design.seating.underside import Shape, Underside
from batchone.design.seating.uniqueness import planned_seat, reference, uniqueness
from batchone.design.table_files import shipped_tables
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.order import Instruments, Order, PlanInput, PlanLine, PlanPlane
from batchone.pipeline.values import (
    Anatomy,
    Bone,
    CheckedDevice,
    Device,
    FieldOfView,
    FloatArray,
    Mesh,
    Part,
    Plan,
    Side,
    Vector,
    moved_points,
)
from batchone.samples.long_bone import bone_surface
from batchone.segment.frames.long_bone import tibia
from batchone.slicer.profiles import load_machine, load_process

SIGMA_MM = 0.05
Ways = Sequence[Sequence[float]]
PROCESS, MACHINE = load_process("pa12-sls"), load_machine("sim-01")
LIMITS = load_families()["osteotomy-guide"].limits
SHAFT = {"site": "shaft", "wedge": "none", "bone_model": False, "contact_offset_mm": 0.3, "extension_mm": 15.0}
FACES = {CONTACT, LABEL, "slot-1", *(f"{kind}-pin-{n}" for kind in ("bore", "stop") for n in (1, 2, 3, 4))}


LOOSE = {"seating-play", "seating-slip", "seating-cone"}


def anatomy_of(mesh: Mesh, side: Side) -> Anatomy:
    sigma = np.full(len(mesh.vertices_mm), SIGMA_MM)
    found = tibia(mesh, sigma, f"tibia-{side}", side, complete=True)
    assert found is not None
    bone = Bone("tibia", side, True, 1.0, 1.0, mesh, found.frame, sigma)
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


def mirrored(anatomy: Anatomy) -> Anatomy:
    """The same bone on the other side, exactly: patient x turned round."""
    flip = np.diag([-1.0, 1.0, 1.0])

    def turned(vector: Vector) -> Vector:
        return (-vector[0], vector[1], vector[2])

    (bone,) = anatomy.bones
    mesh = Mesh(bone.mesh.vertices_mm @ flip, np.ascontiguousarray(bone.mesh.faces[:, ::-1]))
    frame = bone.frame.copy()
    frame[:3, :3] = flip @ frame[:3, :3] @ flip
    frame[:3, 3] = flip @ frame[:3, 3]
    other = replace(bone, side="right", mesh=mesh, frame=frame)
    marks = tuple(replace(m, name=m.name.replace("left", "right"), point_mm=turned(m.point_mm)) for m in anatomy.landmarks)
    references = tuple(
        replace(r, name=r.name.replace("left", "right"), origin_mm=turned(r.origin_mm), direction=turned(r.direction))
        for r in anatomy.references
    )
    return replace(anatomy, bones=(other,), landmarks=marks, references=references)


@cache
def synthetic() -> Anatomy:
    return anatomy_of(bone_surface(330.0, rings=200, spokes=72, smooth=True), "left")


@cache
def real(folder: Path, side: Side) -> Anatomy:
    """A tibia of a person, made simpler within 0.1 mm."""
    import trimesh

    from batchone.design.model.reduction import reduced

    stl = trimesh.load(folder / "bones" / f"VHF_{side.title()}_Bone_Tibia_smooth.stl")
    # the files have x to the right and y to the front
    mesh = Mesh(stl.vertices * np.array([-1.0, -1.0, 1.0]), np.asarray(stl.faces, dtype=np.int32))  # type: ignore[union-attr]
    return anatomy_of(reduced(mesh, 0.1)[0], side)


def order(side: Side = "left", drawn: PlanInput | None = None, blade: str | None = None, **parameters: object) -> Order:
    return Order(
        case="o-0001",
        device="osteotomy-guide",
        side=side,
        process="pa12-sls",
        machine="sim-01",
        due=dt.datetime(2026, 11, 30, 8, tzinfo=dt.UTC),
        plan=drawn or PlanInput(),
        instruments=Instruments(saw_blade=blade),
        parameters=OsteotomyGuideParameters.model_validate({"bone_model": False, **parameters}),
    )


@cache
def made() -> tuple[Plan, Device]:
    proposal = plan(synthetic(), order(**SHAFT))
    return proposal, design(synthetic(), proposal, order(**SHAFT), PROCESS)


def judged(device: Device, proposal: Plan, one: Order, anatomy: Anatomy) -> CheckedDevice:
    return check(device, anatomy, proposal, one, PROCESS, MACHINE)


def failed(checked: CheckedDevice, *, featureless: bool = True) -> list[str]:
    """What failed; on the synthetic bone (``featureless``) not for its seat, which nothing on a smooth shaft holds."""
    loose = LOOSE if featureless else set()
    return [f"{f.what}: {f.value:g} ({f.limit})" for f in checked.findings if f.verdict == "fail" and f.check not in loose]


def points_of(part: Part) -> FloatArray:
    """Vertices and middles of all triangles."""
    return np.vstack([part.mesh.vertices_mm, part.mesh.vertices_mm[part.mesh.faces].mean(axis=1)])


def contact_of(part: Part) -> FloatArray:
    """(n, 3) vertices of the faces that touch."""
    return part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(CONTACT)])]


def apart(one: Part, other: Part) -> float:
    """Hausdorff distance of two parts, both ways, from vertices and middles to the surface."""
    from batchone.design.nearest import nearest_mm

    return max(float(nearest_mm(points_of(a), b.mesh).max()) for a, b in ((one, other), (other, one)))


def motion() -> FloatArray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [12.0, -20.0, 31.0], degrees=True).as_matrix()
    pose[:3, 3] = (40.0, -25.0, 130.0)
    return pose


def tube(radius_mm: float, length_mm: float, sides: int = 256) -> Mesh:
    """A closed round bar along z, about the origin."""
    import trimesh

    bar = trimesh.creation.cylinder(radius_mm, length_mm, sections=sides)
    return Mesh(np.asarray(bar.vertices), np.asarray(bar.faces, dtype=np.int32))


# --- sections and ways -------------------------------------------------------------------------------------------------------


def test_a_section_has_the_area_and_the_extent_of_what_is_cut() -> None:
    normal = np.array([0.0, np.sin(0.5), np.cos(0.5)])
    found = section(tube(10.0, 200.0), np.array([0.0, 0.0, 3.0]), normal)
    assert found is not None
    assert found.area_mm2 == pytest.approx(np.pi * 100.0 / np.cos(0.5), rel=2e-3)  # an ellipse; 256 sides
    assert found.along(np.array([1.0, 0.0, 0.0])) == pytest.approx((-10.0, 10.0), abs=0.01)
    assert found.along(np.array([0.0, np.cos(0.5), -np.sin(0.5)]))[1] == pytest.approx(
        10.0 / np.cos(0.5) - 3 * np.sin(0.5), abs=0.01
    )
    assert section(tube(10.0, 200.0), np.array([0.0, 0.0, 101.0]), np.array([0.0, 0.0, 1.0])) is None


def test_of_two_sections_the_nearer_one_counts() -> None:
    one, other = tube(5.0, 50.0), tube(8.0, 50.0)
    both = Mesh(
        np.vstack([one.vertices_mm, other.vertices_mm + np.array([40.0, 0.0, 0.0])]),
        np.vstack([one.faces, other.faces + len(one.vertices_mm)]),
    )
    for x, radius in ((3.0, 5.0), (33.0, 8.0)):
        found = section(both, np.array([x, 0.0, 0.5]), np.array([0.0, 0.0, 1.0]))
        assert found is not None
        assert found.area_mm2 == pytest.approx(np.pi * radius**2, rel=2e-3)


def test_the_way_out_looks_from_the_flat_face_not_from_the_edge() -> None:
    import trimesh

    bar = trimesh.creation.box((20.0, 20.0, 200.0)).subdivide_to_size(4.0)
    turned = Rotation.from_euler("z", 20.0, degrees=True).as_matrix()
    mesh = Mesh(np.asarray(bar.vertices) @ turned.T, np.asarray(bar.faces, dtype=np.int32))
    found = way_out(mesh, np.zeros(3), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]), width_mm=24.0)
    assert found.direction == pytest.approx(turned[:, 0], abs=1e-6)
    assert found.middle_mm == pytest.approx(10.0 * turned[:, 0], abs=0.5)


# --- slots -------------------------------------------------------------------------------------------------------------------


def a_slot(*, tilt_deg: float = 0.0, off_mm: float = 0.0, width_mm: float = 1.4, from_mm: float = -16.0, name: str = "1") -> Slot:
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    normal, advance = np.array([0.0, c, s]), np.array([0.0, s, -c])
    return Slot(name, np.array([0.0, off_mm, 0.0]), normal, advance, width_mm, (-20.0, 20.0), (from_mm, 3.0))


@cache
def slotted() -> Part:
    from batchone.design.booleans import difference, to_part

    slot = a_slot()
    block = slot.block(ends_mm=5.0, below_mm=3.5, above_mm=3.5)
    return to_part(difference(block, cut_tool(slot.feature(before_mm=8.0, beyond_mm=8.0)), what="slot"), "guide-x")


def verdicts(planned: Slot, *, guided_mm: float = 15.0) -> dict[str, str]:
    found = slot_findings(slotted(), planned, np.eye(4), over_bone_mm=(-15.0, 15.0), guided_mm=guided_mm, limits=LIMITS)
    return {f.what.split(", ", 1)[1]: f.verdict for f in found}


@pytest.mark.parametrize(
    ("planned", "what", "verdict"),
    [
        (a_slot(off_mm=0.045), "middle off the plan", "pass"),
        (a_slot(off_mm=0.055), "middle off the plan", "fail"),
        (a_slot(tilt_deg=0.09), "against the plan", "pass"),
        (a_slot(tilt_deg=0.11), "against the plan", "fail"),
        (a_slot(width_mm=1.419), "width minus set", "pass"),
        (a_slot(width_mm=1.421), "width minus set", "fail"),
        (a_slot(width_mm=1.381), "width minus set", "pass"),
        (a_slot(width_mm=1.379), "width minus set", "fail"),
        (a_slot(from_mm=-15.955), "outer end off the set", "pass"),
        (a_slot(from_mm=-15.945), "outer end off the set", "fail"),
        (a_slot(from_mm=-16.045), "outer end off the set", "pass"),
        (a_slot(from_mm=-16.055), "outer end off the set", "fail"),
    ],
)
def test_a_slot_is_judged_just_inside_and_just_outside_its_limits(planned: Slot, what: str, verdict: str) -> None:
    assert verdicts(planned)[what] == verdict


def test_the_depth_that_leads_the_saw_is_measured() -> None:
    what = "least depth that leads the saw minus set"
    assert verdicts(a_slot(), guided_mm=19.0)[what] == "pass"  # the block is 19 mm deep
    assert verdicts(a_slot(), guided_mm=19.6)[what] == "fail"


def test_an_open_slot_reaches_out_of_its_block_at_one_end() -> None:
    feature = a_slot().feature(before_mm=8.0, beyond_mm=8.0, open_end=1.0, open_mm=10.0)
    across = a_slot().across
    ends = (feature.mesh.vertices_mm @ across).min(), (feature.mesh.vertices_mm @ across).max()
    assert ends == pytest.approx((-20.0, 30.0), abs=1e-6)


def test_the_wall_between_slots_and_to_a_bore_is_that_of_geometry() -> None:
    sleeve = Sleeve("pin-1", np.array([0.0, 6.0, 0.0]), np.array([0.0, 0.0, 1.0]), 2.8, 6.8, 12.0)
    assert slot_pin_mm(a_slot(), sleeve) == pytest.approx(6.0 - 0.7 - 1.4)
    leaning = replace(sleeve, outward=np.array([0.0, -0.6, 0.8]))
    assert slot_pin_mm(a_slot(), leaning) == 0.0  # it leans across the slot
    assert slots_apart_mm(a_slot(), a_slot(off_mm=4.0, name="2")) == pytest.approx(4.0 - 1.4)
    assert slots_apart_mm(a_slot(), a_slot(off_mm=1.0, tilt_deg=20.0, name="2")) == 0.0


def test_what_lies_between_two_near_blocks_is_filled() -> None:
    from batchone.design.booleans import volume_mm3

    one, other = a_slot(), a_slot(off_mm=12.0, name="2")
    blocks = [slot.block(ends_mm=5.0, below_mm=3.5, above_mm=3.5) for slot in (one, other)]
    assert volume_mm3(filled(*blocks)) == pytest.approx(50.0 * 19.0 * (12.0 + 1.4 + 7.0))


# --- the plan ----------------------------------------------------------------------------------------------------------------


def test_a_shaft_is_cut_across_at_its_height_with_crossed_pins_on_both_sides() -> None:
    proposal, _ = made()
    shaft = next(r for r in synthetic().references if r.name == "tibia-left-shaft")
    cut = proposal.plane("cut-1")
    assert proposal.proposed
    assert np.cross(cut.normal, shaft.direction) == pytest.approx(np.zeros(3), abs=1e-6)
    along = synthetic().bones[0].mesh.vertices_mm @ np.array(cut.normal)
    assert (np.array(cut.origin_mm) @ cut.normal - along.min()) / np.ptp(along) == pytest.approx(0.5, abs=1e-3)
    heights = [
        float((np.array(proposal.axis(f"pin-{n}").origin_mm) - cut.origin_mm) @ np.array(cut.normal)) for n in (1, 2, 3, 4)
    ]
    assert heights == pytest.approx([10.0, 15.0, -17.0, -22.0], abs=1e-3)  # label and arm need room below
    for one, other in ((1, 2), (3, 4)):
        cosine = np.dot(proposal.axis(f"pin-{one}").direction, proposal.axis(f"pin-{other}").direction)
        assert np.degrees(np.arccos(cosine)) == pytest.approx(20.0, abs=1e-3)


def test_a_closing_wedge_has_two_planes_that_meet_where_the_blades_stop() -> None:
    proposal = plan(synthetic(), order(site="shaft", wedge="closing", wedge_deg=14.0))
    one, other = proposal.plane("cut-1"), proposal.plane("cut-2")
    assert np.degrees(np.arccos(-np.dot(one.normal, other.normal))) == pytest.approx(14.0, abs=1e-6)
    ends = []
    for name in ("blade-1", "blade-2"):
        blade = proposal.axis(name)
        assert blade.length_mm is not None
        ends.append(np.array(blade.origin_mm) + blade.length_mm * np.array(blade.direction))
    for plane in (one, other):
        for end in ends:
            assert abs(float((end - plane.origin_mm) @ np.array(plane.normal))) <= 1e-6
    assert dict(proposal.figures)["kerf_mm"] == 1.1


def end_of(proposal: Plan, name: str) -> FloatArray:
    axis = proposal.axis(name)
    return np.array(axis.origin_mm) + (axis.length_mm or 0.0) * np.array(axis.direction)


@pytest.mark.parametrize("wedge", ["opening", "closing"])
def test_pins_of_the_lower_bone_turn_about_the_hinge_by_the_wedge(wedge: str) -> None:
    proposal = plan(synthetic(), order(**{**SHAFT, "wedge": wedge, "wedge_deg": 14.0}))
    hinge, up = end_of(proposal, "blade-1"), np.array(proposal.plane("cut-1").normal)
    for name in ("pin-3", "pin-4"):
        before, after = proposal.axis(name), proposal.axis(f"{name}-after")
        reach = [float(np.linalg.norm(np.array(axis.origin_mm) - hinge)) for axis in (before, after)]
        assert reach[0] == pytest.approx(reach[1], abs=1e-6)
        lifted = float((np.array(after.origin_mm) - before.origin_mm) @ up)
        assert lifted < -4.0 if wedge == "opening" else lifted > 4.0
        assert after.length_mm == before.length_mm
    across = np.cross(proposal.axis("blade-1").direction, up)
    flat = [np.array(proposal.axis(name).origin_mm) - hinge for name in ("pin-3", "pin-3-after")]
    flat = [unit(v - across * float(v @ across)) for v in flat]
    assert np.degrees(np.arccos(flat[0] @ flat[1])) == pytest.approx(14.0, abs=1e-6)
    assert "pin-3-after" not in {axis.name for axis in made()[0].axes}  # cut through: nothing says where it goes


def test_a_line_that_moves_a_pin_after_the_correction_is_refused() -> None:
    wedge = {**SHAFT, "wedge": "closing", "wedge_deg": 14.0}
    axis = plan(synthetic(), order(**wedge)).axis("pin-3-after")
    for off_mm, refused in ((0.05, False), (0.15, True)):
        shift = np.array([off_mm, 0.0, 0.0])
        start, end = np.array(axis.origin_mm) + shift, end_of(plan(synthetic(), order(**wedge)), "pin-3-after") + shift
        line = PlanLine(name="pin-3-after", start_mm=tuple(start.tolist()), end_mm=tuple(end.tolist()))
        one = order(drawn=PlanInput(lines=(line,)), **wedge)
        if refused:
            with pytest.raises(OrderError, match=r"plan line pin-3-after lies 0\.[12] mm off"):
                plan(synthetic(), one)
        else:
            assert plan(synthetic(), one).axis("pin-3-after") == axis


def test_a_left_order_never_gets_a_right_guide() -> None:
    with pytest.raises(OrderError, match="the order's side is left, the bone is tibia right"):
        plan(mirrored(synthetic()), order(**SHAFT))
    with pytest.raises(OrderError, match="the order's side is right, the bone is tibia left"):
        plan(synthetic(), order("right", **SHAFT))


def drawn_plane(up_mm: float, *, normal: Vector = (0.0, 0.0, 1.0), name: str = "cut-1", aside_mm: float = 0.0) -> PlanPlane:
    (bone,) = synthetic().bones
    place = moved_points(bone.frame, np.array([[aside_mm, 0.0, up_mm]]))[0]
    x, y, z = (bone.frame[:3, :3] @ np.array(normal)).tolist()
    return PlanPlane(name=name, origin_mm=tuple(place.tolist()), normal=(x, y, z))


def test_drawn_planes_and_pins_take_the_place_of_the_proposed_ones() -> None:
    proposal, _ = made()
    pin = proposal.axis("pin-3")
    end = np.array(pin.origin_mm) + 15.0 * np.array(pin.direction)
    line = PlanLine(name="pin-3", start_mm=pin.origin_mm, end_mm=tuple(end.tolist()))
    drawn = PlanInput(planes=(drawn_plane(-160.0), drawn_plane(-190.0, normal=(0.0, 0.0, -1.0), name="cut-2")), lines=(line,))
    found = plan(synthetic(), order(drawn=drawn, **SHAFT))
    assert not found.proposed
    for plane in drawn.planes:
        made_of = found.plane(plane.name)
        assert made_of.normal == pytest.approx(plane.normal, abs=1e-6)
        assert abs(float((np.array(made_of.origin_mm) - plane.origin_mm) @ np.array(plane.normal))) <= 1e-5
    assert found.axis("pin-3").direction == pytest.approx(pin.direction, abs=1e-6)
    assert found.axis("pin-3").length_mm == pytest.approx(15.0, abs=1e-3)


def test_a_plan_that_comes_back_as_it_went_out_is_the_same_plan() -> None:
    wedge = {**SHAFT, "wedge": "closing", "wedge_deg": 14.0}
    went = plan(synthetic(), order(**wedge))
    planes = tuple(PlanPlane(name=p.name, origin_mm=p.origin_mm, normal=p.normal) for p in went.planes)
    lines = []
    for axis in went.axes:
        end = np.array(axis.origin_mm) + (axis.length_mm or 30.0) * np.array(axis.direction)
        lines.append(PlanLine(name=axis.name, start_mm=axis.origin_mm, end_mm=tuple(end.tolist())))
    came = plan(synthetic(), order(drawn=PlanInput(planes=planes, lines=tuple(lines)), **wedge))
    for axis in went.axes:
        assert came.axis(axis.name).direction == pytest.approx(axis.direction, abs=1e-6)
        assert came.axis(axis.name).origin_mm == pytest.approx(axis.origin_mm, abs=1e-3)
        if axis.length_mm is not None:
            assert came.axis(axis.name).length_mm == pytest.approx(axis.length_mm, abs=1e-3)


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (PlanInput(planes=(drawn_plane(40.0),)), "plane cut-1 misses the bone: it passes 3"),
        (PlanInput(planes=(drawn_plane(-160.0, aside_mm=80.0),)), "plane cut-1 lies [56].* mm beside the bone that it cuts"),
        (PlanInput(planes=(drawn_plane(-160.0, name="resection"),)), "the plan holds resection"),
        (
            PlanInput(planes=(drawn_plane(-160.0),), lines=(PlanLine(name="blade-1", start_mm=(0, 0, 0), end_mm=(0, 0, 9)),)),
            "plane cut-1 lies across the way of the blade",
        ),
        (PlanInput(lines=(PlanLine(name="pin-2", start_mm=(300, 0, 0), end_mm=(300, 9, 0)),)), "plan line pin-2 misses the bone"),
    ],
)
def test_what_cannot_be_sawn_or_held_as_drawn_is_refused_by_name(drawn: PlanInput, message: str) -> None:
    with pytest.raises(OrderError, match=message):
        plan(synthetic(), order(drawn=drawn, **SHAFT))


@pytest.mark.parametrize(("deg", "refused"), [(36.0, False), (45.0, True)])
def test_a_plane_whose_blade_leans_too_far_along_the_bone_is_refused_by_name(deg: float, refused: bool) -> None:
    c, s = float(np.cos(np.radians(deg))), float(np.sin(np.radians(deg)))
    (bone,) = synthetic().bones
    out = bone.frame[:3, :3].T @ np.array(made()[0].axis("insertion").direction)
    normal = unit(np.array([0.0, 0.0, c]) + s * unit(out * [1.0, 1.0, 0.0]))
    one = order(drawn=PlanInput(planes=(drawn_plane(-160.0, normal=tuple(normal.tolist())),)), **SHAFT)
    if refused:
        with pytest.raises(OrderError, match=r"plane cut-1: its blade leans 4\d deg along the bone, at most 38 deg"):
            plan(synthetic(), one)
    else:
        assert plan(synthetic(), one).plane("cut-1")


def test_a_bone_without_landmarks_needs_a_drawn_plane() -> None:
    bare = replace(synthetic(), landmarks=(), references=())
    with pytest.raises(OrderError, match="tibia-left has no tibia-left-shaft"):
        plan(bare, order(**SHAFT))
    with pytest.raises(OrderError, match="tibia-left has no tibia-left-plateau-medial"):
        plan(bare, order())
    assert plan(bare, order(drawn=PlanInput(planes=(drawn_plane(-160.0),)), **SHAFT)).plane("cut-1")


def test_slots_that_leave_a_thin_wedge_and_pins_too_near_are_refused() -> None:
    narrow = order(**{**SHAFT, "wedge": "closing", "wedge_deg": 5.0})
    with pytest.raises(DesignError, match=r"slot-1 and slot-2 leave a wedge of .* mm between them, at least 1\.5 mm"):
        design(synthetic(), plan(synthetic(), narrow), narrow, PROCESS)
    proposal, _ = made()
    pin = proposal.axis("pin-1")
    cut = proposal.plane("cut-1")
    nearer = replace(pin, origin_mm=tuple((np.array(pin.origin_mm) - 7.0 * np.array(cut.normal)).tolist()))
    beside = replace(proposal, axes=tuple(nearer if axis.name == "pin-1" else axis for axis in proposal.axes))
    with pytest.raises(DesignError, match=rf"slot-1 and bore-pin-1 leave a wall of .* mm, at least {SLOT_PIN_MM:g} mm"):
        design(synthetic(), beside, order(**SHAFT), PROCESS)


# --- what is checked on the plan ---------------------------------------------------------------------------------------------


def case(proposal: Plan, anatomy: Anatomy | None = None, one: Order | None = None) -> Checked:
    return Checked(made()[1], anatomy or synthetic(), proposal, one or order(**SHAFT), PROCESS, MACHINE, shipped_tables(), LIMITS)


@pytest.mark.parametrize(("left_mm", "verdict"), [(4.9, "fail"), (5.1, "pass"), (9.9, "pass"), (10.1, "fail")])
def test_the_hinge_of_a_wedge_is_judged_at_both_limits(left_mm: float, verdict: str) -> None:
    proposal, _ = made()
    blade = proposal.axis("blade-1")
    assert blade.length_mm is not None
    shorter = replace(blade, length_mm=blade.length_mm - left_mm)
    changed = replace(proposal, axes=tuple(shorter if axis.name == "blade-1" else axis for axis in proposal.axes))
    found = cuts_fit(case(changed, one=order(**{**SHAFT, "site": "proximal", "wedge": "opening"})))
    assert {f.what: f.verdict for f in found}["cut-1: bone left at the far cortex"] == verdict
    (kerf,) = [f for f in found if f.check == "kerf"]
    assert kerf.value == 1.1
    assert kerf.what == "cut-1: kerf, taken off the lower bone; the cut face of the upper one lies on the plane"


@pytest.mark.parametrize(("beyond_mm", "verdict"), [(7.0, "fail"), (11.5, "pass")])
def test_a_bone_that_the_scan_cuts_off_beside_the_guide_is_found(beyond_mm: float, verdict: str) -> None:
    proposal, device = made()
    (bone,) = synthetic().bones
    lowest = float(device.parts[0].mesh.vertices_mm[:, 2].min()) - beyond_mm
    low = np.append(bone.mesh.vertices_mm[:, :2].min(axis=0) - 5.0, lowest)
    affine = np.eye(4)
    affine[:3, 3] = low
    shape = np.ceil(bone.mesh.vertices_mm.max(axis=0) + 5.0 - low).astype(int)[::-1]
    view = FieldOfView(affine, (int(shape[0]), int(shape[1]), int(shape[2])))
    cut_off = replace(synthetic(), bones=(replace(bone, complete=False),), field_of_view=view)
    found = [f for f in cuts_fit(case(proposal, cut_off)) if f.check == "scan-end"]
    assert [f.verdict for f in found] == [verdict]


def test_pins_that_run_parallel_are_found() -> None:
    proposal, _ = made()
    parallel = replace(proposal.axis("pin-2"), direction=proposal.axis("pin-1").direction)
    changed = replace(proposal, axes=tuple(parallel if axis.name == "pin-2" else axis for axis in proposal.axes))
    verdict = {f.what: f.verdict for f in pins_hold(case(changed))}
    assert verdict["pin-1 and pin-2: crossed by"] == "fail"
    assert verdict["pin-3 and pin-4: crossed by"] == "pass"
    least = order(**{**SHAFT, "pin_cross_deg": 10.0})
    found = {f.what: f.verdict for f in pins_hold(case(plan(synthetic(), least), one=least))}
    assert found["pin-1 and pin-2: crossed by"] == "pass"


# --- the guide ---------------------------------------------------------------------------------------------------------------


def test_a_shaft_guide_passes_every_check_and_keeps_its_faces() -> None:
    proposal, device = made()
    assert failed(judged(device, proposal, order(**SHAFT), synthetic())) == []
    (guide,) = device.parts
    assert guide.name == "guide-tibia-left"
    assert {face.label for face in guide.functional_faces} == FACES
    assert set(guide.labels) >= FACES
    assert guide.step.startswith(b"ISO-10303-21")


def test_the_label_states_how_deep_the_saw_goes_from_where_its_slot_begins_and_never_deeper() -> None:
    one = order(**{**SHAFT, "beyond_mm": 10.0})  # room for the depth
    proposal = plan(synthetic(), one)
    device = design(synthetic(), proposal, one, PROCESS)
    (deep,) = (value for name, value in device.figures if name == "slot-1_outer_face_to_stop_mm")
    cut, blade, part = proposal.plane("cut-1"), proposal.axis("blade-1"), device.parts[0]
    corners = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index("slot-1")])]
    begins = float(((corners - cut.origin_mm) @ blade.direction).min())
    assert deep == pytest.approx(float(blade.length_mm or 0.0) - begins, abs=0.01)
    (said,) = (f for f in judged(device, proposal, one, synthetic()).findings if "characters of the label" in f.what)
    assert (said.verdict, f'SAW {int(deep)}"' in said.what) == ("pass", True)


def test_a_guide_on_a_smooth_shaft_is_stopped_for_its_seat_and_a_person_may_waive_what_no_print_has_proved() -> None:
    proposal, device = made()
    stopped = [f for f in judged(device, proposal, order(**SHAFT), synthetic()).findings if f.verdict == "fail"]
    assert {f.check: f.waivable for f in stopped} == {"seating-play": False, "seating-slip": True, "seating-cone": True}
    assert all(f.where_mm is not None for f in stopped)


SMALL = {
    "relief_mm": 0.6, "shell_mm": 4.0, "plate_mm": 16.0, "guided_mm": 10.0, "slot_wall_mm": 2.5, "pin_from_cut_mm": 8.0,
    "pin_apart_mm": 6.0, "pin_cross_deg": 10.0, "pin_depth_mm": 15.0, "sleeve_mm": 8.0, "sleeve_wall_mm": 1.2,
    "extension_mm": 0.0, "window_mm": 3.0, "mark_mm": 2.0,
}  # fmt: skip
LARGE = {
    "relief_mm": 2.5, "shell_mm": 6.0, "plate_mm": 40.0, "guided_mm": 30.0, "slot_wall_mm": 6.0, "pin_from_cut_mm": 30.0,
    "pin_apart_mm": 30.0, "pin_cross_deg": 40.0, "pin_depth_mm": 80.0, "sleeve_mm": 30.0, "sleeve_wall_mm": 4.0,
    "extension_mm": 40.0, "beyond_mm": 10.0, "slot": "open", "window_mm": 8.0, "mark_mm": 4.0,
}  # fmt: skip


@pytest.mark.parametrize("parameters", [SMALL, LARGE], ids=["small", "large"])
def test_small_and_large_parameters_make_a_valid_guide(parameters: dict[str, object]) -> None:
    one = order(**{**SHAFT, **parameters})
    proposal = plan(synthetic(), one)
    assert failed(judged(design(synthetic(), proposal, one, PROCESS), proposal, one, synthetic())) == []


def test_marks_stand_on_both_sides_of_a_cut_on_a_line_along_the_bone_and_show_it() -> None:
    one = order(**{**SHAFT, "mark_mm": 2.5})
    proposal = plan(synthetic(), one)
    device = design(synthetic(), proposal, one, PROCESS)
    part, cut = device.parts[0], proposal.plane("cut-1")
    middles = [part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(name)])] for name in MARKS]
    sides = [float((points.mean(axis=0) - cut.origin_mm) @ cut.normal) for points in middles]
    assert sides[0] * sides[1] < 0.0
    found = [finding for finding in judged(device, proposal, one, synthetic()).findings if finding.check == "mark"]
    assert [finding.verdict for finding in found] == ["pass", "pass"]
    assert found[1].value < 0.01  # deg: both were placed at one x of the guide, which leads along the bone


HTO = {"site": "proximal", "bone_model": False}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cut_mm": 20.0}, r"pin-1 and pin-2: no place for two pins 10 to 15 mm from the cut"),
        ({"cut_mm": 60.0, "wedge": "closing"}, r"plane cut-1: its blade leans \d\d deg along the bone, at most 38 deg"),
        ({"pin_from_cut_mm": 30.0}, r"pin-1 and pin-2: no place for two pins 30 to 35 mm from the cut"),
        ({"wedge_deg": 25.0, "wedge": "closing"}, r"plane cut-2: its blade leans \d\d deg along the bone"),
        ({"hinge_mm": 10.0, "wedge": "closing"}, r"plane cut-2 leaves a hinge of 10\.4 mm .*, must be 5 to 10 mm"),
        ({"wedge_deg": 2.0, "wedge": "closing"}, r"slot-1 and slot-2 leave a wedge of 0\.0 mm between them, at least 1\.5 mm"),
    ],
)
def test_ends_of_limits_that_make_no_high_tibial_guide_are_refused_with_the_reason(
    parameters: dict[str, object], message: str
) -> None:
    one = order(**{**HTO, **parameters})
    with pytest.raises((DesignError, OrderError), match=message):
        design(synthetic(), plan(synthetic(), one), one, PROCESS)


def test_an_order_for_two_bones_gets_a_guide_for_each_named_after_it() -> None:
    (bone,) = synthetic().bones
    shift = np.eye(4)
    shift[0, 3] = 90.0
    other = synthetic().moved(shift)
    second = replace(other.bones[0], name="femur")
    references = tuple(replace(r, name=r.name.replace("tibia", "femur")) for r in other.references)
    both = replace(synthetic(), bones=(bone, second), references=(*synthetic().references, *references))
    proposal = plan(both, order(**SHAFT))
    assert [plane.name for plane in proposal.planes] == ["cut-1-tibia-left", "cut-1-femur-left"]
    device = design(both, proposal, order(**SHAFT), PROCESS)
    assert [part.name for part in device.parts] == ["guide-tibia-left", "guide-femur-left"]
    middles = [float(part.mesh.vertices_mm[:, 0].mean()) for part in device.parts]
    assert middles[0] < 45.0 < middles[1]


def test_a_moved_bone_gets_the_same_guide_moved() -> None:
    anatomy, (proposal, device) = synthetic().moved(motion()), made()
    again = plan(anatomy, order(**SHAFT))
    for axis in proposal.axes:
        expected = moved_points(motion(), np.array([axis.origin_mm]))[0]
        assert np.linalg.norm(np.array(again.axis(axis.name).origin_mm) - expected) <= 1e-4
        turned = motion()[:3, :3] @ np.array(axis.direction)
        assert np.linalg.norm(np.array(again.axis(axis.name).direction) - turned) <= 1e-6
    other = design(anatomy, again, order(**SHAFT), PROCESS)
    back = np.linalg.inv(motion())
    assert apart(device.parts[0], replace(other.parts[0], mesh=other.parts[0].mesh.moved(back))) <= 0.02


def test_a_mirrored_bone_gets_the_mirrored_guide() -> None:
    anatomy, (proposal, _) = mirrored(synthetic()), made()
    plain, one = {**SHAFT, "engrave": False}, order("right", **{**SHAFT, "engrave": False})
    again = plan(anatomy, order("right", **SHAFT))
    for axis in proposal.axes:
        for mine, other in ((again.axis(axis.name).origin_mm, axis.origin_mm), (again.axis(axis.name).direction, axis.direction)):
            assert np.array(mine) == pytest.approx(np.array(other) * [-1.0, 1.0, 1.0], abs=1e-4)
    other_side = design(anatomy, plan(anatomy, one), one, PROCESS)
    assert failed(judged(other_side, plan(anatomy, one), one, anatomy)) == []  # slots and bores lie on the mirrored plan
    (right,) = other_side.parts
    left = design(synthetic(), plan(synthetic(), order(**plain)), order(**plain), PROCESS).parts[0]
    image = replace(right, mesh=Mesh(right.mesh.vertices_mm * [-1.0, 1.0, 1.0], right.mesh.faces[:, ::-1]))
    assert apart(left, image) <= 0.5  # the plate's edges follow columns of 0.3 mm; letters cannot be mirrored
    assert right.name == "guide-tibia-right"


@pytest.mark.data
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_high_tibial_guide_on_a_real_bone_passes_every_check(test_data: Path, side: Side) -> None:
    anatomy, one = real(test_data, side), order(side, bone_model=side == "left")
    proposal = plan(anatomy, one)
    frame = anatomy.bones[0].frame
    normal = frame[:3, :3].T @ np.array(proposal.plane("cut-1").normal)
    plateau = next(r for r in anatomy.references if r.name == f"tibia-{side}-plateau")
    slope = frame[:3, :3].T @ np.array(plateau.direction)
    assert normal[1] / normal[2] == pytest.approx(slope[1] / slope[2], abs=0.05)  # the slope from front to back is kept
    assert abs(normal[0]) > 0.2  # it rises to the far cortex
    device = design(anatomy, proposal, one, PROCESS)
    assert failed(judged(device, proposal, one, anatomy), featureless=False) == []
    assert [part.purpose for part in device.parts] == (["device", "bone-model"] if side == "left" else ["device"])
    medial = -1.0 if side == "left" else 1.0
    local = moved_points(np.linalg.inv(frame), device.parts[0].mesh.vertices_mm)
    assert medial * float(local[:, 0].mean()) > 10.0


@pytest.mark.slow
@pytest.mark.data
def test_a_plate_wider_than_its_block_is_notched_in_line_with_the_slot(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was slit, and its halves hung together by a tip: a way through that nobody had declared."""

    def widest(
        underside: Underside, plain: Shape, trimmed: Callable[[tuple[float, ...]], Shape], ways: Ways
    ) -> tuple[Shape, ...]:
        left, right, above, below, middles = ways
        return plain, trimmed((left[0], right[0], above[1], below[1], middles[-1]))  # as wide as may be, with no more contact

    monkeypatch.setattr(choice, "finalists", widest)
    one = order("right", optimise_contact=True)
    proposal = plan(real(test_data, "right"), one)
    (part,) = design(real(test_data, "right"), proposal, one, PROCESS).parts
    (plain,) = design(real(test_data, "right"), proposal, order("right"), PROCESS).parts
    back = np.linalg.inv(guide_pose(proposal.axis("insertion"), real(test_data, "right").bones[0]))
    wide, narrow = (np.ptp(moved_points(back, contact_of(each))[:, 0]) for each in (part, plain))
    assert wide > narrow + 5.0  # the wide one was chosen, so no check of its part fails
    assert is_sound(part, PROCESS, LIMITS.gates.get("wall_mm"))


@pytest.mark.data
def test_other_points_sampled_on_one_guide_change_its_false_seats_by_no_more_than_1_percent(test_data: Path) -> None:
    """This plate has a second rest while the push is off by some 10 degrees: told, and no seat, for it does not hold."""
    anatomy, one = real(test_data, "right"), order("right")
    proposal = plan(anatomy, one)
    (bone,), part = anatomy.bones, design(anatomy, proposal, one, PROCESS).parts[0]
    shares, passing, pushes = [], [], []
    for number, shift in enumerate([(0.0, 0.0, 0.0), (0.37, 0.61, 0.23), (0.82, 0.13, 0.55)]):
        triangles = np.random.default_rng(number).permutation(len(part.mesh.faces))
        mesh = Mesh(part.mesh.vertices_mm, part.mesh.faces[triangles])
        pose = guide_pose(proposal.axis("insertion"), bone)
        pose[:3, 3] += pose[:3, :3] @ shift
        seat = seated(replace(part, mesh=mesh, face_labels=part.face_labels[triangles]), bone, pose)
        body, ground, press = seat.body, seat.ground, stability(seat.body).press
        planned = reference(body, planned_seat(body, ground, press))
        found = uniqueness(body, ground, press, planned, count=500, seed=SEED)
        shares.append(found.wrong)
        passing.append(found.passing)
        pushes.append(press.direction)
    assert max(shares) <= 0.01
    assert min(passing) > 0.02  # told, not gated: eight samplings of this guide gave 0.05 to 0.11, sd 0.018
    assert max(passing) < 0.2
    assert np.degrees(np.arccos(min(pushes[0] @ push for push in pushes))) < 5.0  # half of what a hand may be off


def test_both_slots_of_a_proximal_closing_wedge_begin_where_their_saw_depths_are_counted_from() -> None:
    one = order(wedge="closing")  # what fills the room between the blocks once stood 1.3 mm over one of them
    proposal = plan(synthetic(), one)
    found = judged(design(synthetic(), proposal, one, PROCESS), proposal, one, synthetic())
    ends = [finding for finding in found.findings if "outer end off the set" in finding.what]
    assert [finding.verdict for finding in ends] == ["pass", "pass"]


@pytest.mark.data
@pytest.mark.parametrize(("shaft_percent", "wedge_deg"), [(50, 18.0), (20, 15.0)])  # low down the room between blocks hid letters
def test_a_closing_wedge_of_a_real_shaft_passes_every_check_of_its_making(
    shaft_percent: int, wedge_deg: float, test_data: Path
) -> None:
    wedge = {"site": "shaft", "wedge": "closing", "shaft_percent": shaft_percent, "wedge_deg": wedge_deg}
    anatomy, one = real(test_data, "right"), order("right", **wedge)
    proposal = plan(anatomy, one)
    device = design(anatomy, proposal, one, PROCESS)
    loose = {"seating-slip"} if shaft_percent == 50 else set()  # half way up little holds it
    assert {f.check for f in judged(device, proposal, one, anatomy).findings if f.verdict == "fail"} == loose
    assert {"slot-1", "slot-2"} <= {face.label for face in device.parts[0].functional_faces}
