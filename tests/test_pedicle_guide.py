"""Pedicle guides on a synthetic spine: ways, plan from outside, guide on bone, motion, mirroring, limits."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from batchone.design.budget.sources import SOURCES
from batchone.design.checks.no_go import sweeps
from batchone.design.contact.seat import CONTACT
from batchone.design.cranial.columns import on_the_way, to_local
from batchone.design.families import load_families
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import CheckSet
from batchone.design.guide.body import guide_pose
from batchone.design.guide.checks import bore_findings, contact_findings, fitted_cylinder, way_out_findings
from batchone.design.guide.label import LABEL
from batchone.design.make import check, design, plan
from batchone.design.nearest import nearest_mm
from batchone.design.pedicle.guide import RAISE_MM
from batchone.design.pedicle.hooks import hook_ends
from batchone.design.pedicle.trajectory import Search, Site, apart_mm, between, drawn, proposed, walls, ways
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.order import Instruments, Order, PlanInput, PlanLine, PlanPlane
from batchone.pipeline.values import Anatomy, Bone, CheckedDevice, Device, FieldOfView, FloatArray, Mesh, Part, Plan, moved_points
from batchone.samples.spine import spine_segment
from batchone.segment.frames.vertebra import vertebra
from batchone.slicer.profiles import load_machine, load_process

SIGMA_MM = 0.05
PROCESS, MACHINE = load_process("pa12-sls"), load_machine("sim-01")
LIMITS = load_families()["pedicle-guide"].limits


@cache
def spine(*, mirrored: bool = False) -> Anatomy:
    """The middle of three vertebrae, L3, made simpler: 4 thousand triangles within 0.05 mm."""
    from batchone.design.model.reduction import reduced

    mesh, _ = reduced(spine_segment(3).vertebrae[1], 0.05)
    if mirrored:
        mesh = Mesh(mesh.vertices_mm * [-1.0, 1.0, 1.0], np.ascontiguousarray(mesh.faces[:, ::-1]))
    found = vertebra(mesh, np.full(len(mesh.vertices_mm), SIGMA_MM), "L3")
    assert found is not None
    bone = Bone("L3", "midline", True, 1.0, 26000.0, mesh, found.frame, np.full(len(mesh.vertices_mm), SIGMA_MM))
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


def order(side: str = "midline", lines: tuple[PlanLine, ...] = (), **parameters: object) -> Order:
    chosen = PedicleGuideParameters.model_validate({"bone_model": False, "contact_offset_mm": 0.2, **parameters})
    return Order(
        case="p-0001",
        device="pedicle-guide",
        side=side,  # type: ignore[arg-type]
        process="pa12-sls",
        machine="sim-01",
        due=dt.datetime(2026, 11, 30, 8, tzinfo=dt.UTC),
        plan=PlanInput(lines=lines),
        parameters=chosen,
    )


@cache
def made() -> tuple[Plan, Device]:
    proposal = plan(spine(), order())
    return proposal, design(spine(), proposal, order(), PROCESS)


def judged(
    device: Device, proposal: Plan, one: Order, anatomy: Anatomy | None = None, *, only: CheckSet = "release"
) -> CheckedDevice:
    return check(device, anatomy or spine(), proposal, one, PROCESS, MACHINE, only=only)


def points_of(part: Part) -> FloatArray:
    """Vertices and middles of all triangles."""
    return np.vstack([part.mesh.vertices_mm, part.mesh.vertices_mm[part.mesh.faces].mean(axis=1)])


def apart(one: Part, other: Part) -> float:
    """Hausdorff distance of two parts, both ways, from vertices and middles to the surface."""
    from batchone.design.nearest import nearest_mm

    return max(float(nearest_mm(points_of(a), b.mesh).max()) for a, b in ((one, other), (other, one)))


class TestWays:
    def test_a_way_stays_in_the_pedicle_and_ends_at_the_front(self) -> None:
        proposal, _ = made()
        for side, sign in (("left", 1.0), ("right", -1.0)):
            way = proposal.axis(f"trajectory-L3-{side}")
            assert sign * way.origin_mm[0] > 10.0  # patient's left is +x
            assert way.direction[1] < -0.9  # to the front
            assert sign * way.direction[0] < 0.0  # converging
            assert way.length_mm == pytest.approx(30.0)

    def test_the_widest_way_through_a_straight_canal_is_its_middle(self) -> None:
        mesh = box_mesh((-20.0, -30.0, -6.0), (20.0, 25.0, 2.0))  # a slab 8 mm high: its middle is at -2
        found = proposed(ways(mesh), np.array([8.0, 10.0, 0.0]), left=True)
        assert found is not None
        assert walls(ways(mesh), found, length_mm=35.0, skip_mm=6.5).all_mm > 3.8
        content = proposed(ways(mesh), np.array([8.0, 10.0, 0.0]), left=True, enough_mm=1.5)
        assert content is not None
        assert abs(content.entry_mm[2]) < abs(found.entry_mm[2])  # with room enough the way stays as it was

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_the_slopes_of_what_a_way_lacks_are_those_of_small_steps(self, side: str) -> None:
        bone = spine().bones[0]
        mark = next(m for m in spine().landmarks if m.name == f"L3-pedicle-{side}")
        isthmus, start = to_local(bone.frame, np.array([mark.point_mm]))[0], np.array([7.0, 3.0, 0.8, -0.6])
        local = ways(Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces))
        search = Search(Site(local, isthmus, np.zeros(4), side == "left", 6.0))
        slopes, steps = search.slopes(start), np.diag([1e-3, 1e-3, 1e-4, 1e-4])
        small = [(search.lacks(start + step) - search.lacks(start - step)) / (2.0 * step.max()) for step in steps]
        off = np.abs(slopes - np.array(small).T)
        assert np.abs(slopes).max() > 1.0
        assert np.quantile(off, 0.99) < 1e-3 * np.abs(slopes).max()  # a few places lie where two walls are as near

    def test_few_rays_along_a_line_see_a_slab_of_the_bone_only(self) -> None:
        bone = spine().bones[0].mesh
        line = bone.vertices_mm.mean(axis=0) + np.linspace(-15.0, 15.0, 31)[:, None] * np.array([0.3, -0.9, 0.1])
        some = on_the_way(bone, line, np.array([0.0, 0.0, 1.0]))
        assert 0 < len(some.faces) < 0.05 * len(bone.faces)

    def test_bone_that_stands_beside_a_sleeve_is_given_room(self) -> None:
        slab, post = box_mesh((-20.0, -30.0, -15.0), (30.0, 25.0, 15.0)), box_mesh((10.5, 31.0, -15.0), (16.0, 50.0, 15.0))
        both = Mesh(
            np.concatenate([slab.vertices_mm, post.vertices_mm]), np.concatenate([slab.faces, post.faces + len(slab.vertices_mm)])
        )

        def beside_mm(mesh: Mesh) -> float:
            found = proposed(ways(mesh), np.array([8.0, 10.0, 0.0]), left=True, enough_mm=3.0)
            assert found is not None
            behind = found.entry_mm - np.linspace(8.0, 18.0, 11)[:, None] * found.direction
            return float(nearest_mm(behind, post).min())

        assert beside_mm(slab) < 1.5
        assert beside_mm(both) > 3.0

    def test_walls_of_a_known_slab_are_measured(self) -> None:
        mesh = box_mesh((-20.0, -30.0, -6.0), (9.0, 25.0, 6.0))
        way = between(ways(mesh), np.array([4.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0]))
        assert way is not None
        assert way.entry_mm == pytest.approx([4.0, 25.0, 1.0])
        assert way.depth_mm == pytest.approx(55.0)
        found = walls(ways(mesh), way, length_mm=40.0, skip_mm=10.0)
        assert found.all_mm == pytest.approx(5.0)

    def test_a_way_outside_of_the_bone_is_negative(self) -> None:
        mesh = box_mesh((-20.0, -30.0, -6.0), (9.0, 25.0, 6.0))
        straight = between(ways(mesh), np.array([4.0, 0.0, 5.0]), np.array([0.0, -1.0, 0.0]))
        assert straight is not None
        leaning = replace(straight, direction=np.array([0.0, -0.9, 0.43588989]))
        assert walls(ways(mesh), leaning, length_mm=20.0, skip_mm=0.0).all_mm < -5.0

    def test_a_drawn_line_that_misses_is_none(self) -> None:
        mesh = box_mesh((-20.0, -30.0, -6.0), (9.0, 25.0, 6.0))
        assert drawn(ways(mesh), np.array([0.0, 40.0, 20.0]), np.array([0.0, -40.0, 20.0]), None) is None

    def test_crossing_screws_are_found(self) -> None:
        mesh = box_mesh((-20.0, -30.0, -6.0), (20.0, 25.0, 6.0))
        one = between(ways(mesh), np.array([0.0, 0.0, 0.0]), np.array([-0.6, -0.8, 0.0]))
        other = between(ways(mesh), np.array([0.0, 0.0, 1.0]), np.array([0.6, -0.8, 0.0]))
        assert one is not None
        assert other is not None
        assert apart_mm(one, 50.0, other, 50.0)[0] == pytest.approx(1.0, abs=0.3)
        assert apart_mm(one, 10.0, other, 10.0)[0] > 10.0


class TestPlan:
    def test_a_drawn_line_is_taken_with_its_length(self) -> None:
        way = made()[0].axis("trajectory-L3-left")
        start = np.array(way.origin_mm) - 10.0 * np.array(way.direction) + [0.5, 0.0, 0.0]
        end = start + 35.0 * np.array(way.direction)
        one = order(lines=(PlanLine(name="trajectory-L3-left", start_mm=tuple(start), end_mm=tuple(end)),))
        found = plan(spine(), one)
        assert not found.proposed
        axis = found.axis("trajectory-L3-left")
        assert np.allclose(axis.direction, way.direction, atol=1e-9)
        assert axis.length_mm == pytest.approx(25.0, abs=1.0)
        assert np.linalg.norm(np.cross(np.array(axis.origin_mm) - start, axis.direction)) < 1e-6

    def test_lines_with_exchanged_names_are_refused(self) -> None:
        way = made()[0].axis("trajectory-L3-left")
        end = np.array(way.origin_mm) + 30.0 * np.array(way.direction)
        line = PlanLine(name="trajectory-L3-right", start_mm=way.origin_mm, end_mm=tuple(end))
        with pytest.raises(OrderError, match="to the left of the bone's middle, must enter on the right"):
            plan(spine(), order(lines=(line,)))

    def test_a_line_that_misses_the_bone_is_refused(self) -> None:
        line = PlanLine(name="trajectory-L3-left", start_mm=(200.0, 60.0, 0.0), end_mm=(200.0, 0.0, 0.0))
        with pytest.raises(OrderError, match="misses L3"):
            plan(spine(), order(lines=(line,)))

    def test_a_line_drawn_from_the_target_is_refused(self) -> None:
        way = made()[0].axis("trajectory-L3-left")
        end = np.array(way.origin_mm) + 30.0 * np.array(way.direction)
        line = PlanLine(name="trajectory-L3-left", start_mm=tuple(end), end_mm=way.origin_mm)
        with pytest.raises(OrderError, match="from the front to the back"):
            plan(spine(), order(lines=(line,)))

    def test_things_that_this_family_does_not_know_are_refused_by_name(self) -> None:
        one = order().model_copy(
            update={"plan": PlanInput(planes=(PlanPlane(name="cut-1", origin_mm=(0.0, 0.0, 0.0), normal=(0.0, 0.0, 1.0)),))}
        )
        with pytest.raises(OrderError, match=r"cut-1.*trajectory-L3-left"):
            plan(spine(), one)

    def test_a_way_through_the_canal_fails_the_medial_wall(self) -> None:
        way = made()[0].axis("trajectory-L3-left")
        start = np.array(way.origin_mm)
        end = start + 40.0 * np.array([-0.62, -0.78, 0.0])
        one = order(lines=(PlanLine(name="trajectory-L3-left", start_mm=tuple(start), end_mm=tuple(end)),))
        proposal = plan(spine(), one)
        device = made()[1]
        failed = {f.check for f in judged(device, proposal, one).findings if f.verdict == "fail"}
        assert "medial-wall" in failed

    def test_a_bone_cut_by_the_scan_is_refused(self) -> None:
        cut = replace(spine(), bones=(replace(spine().bones[0], complete=False),))
        with pytest.raises(OrderError, match="cut at the edge of the scan"):
            plan(cut, order())

    def test_a_vertebra_without_a_pedicle_is_refused(self) -> None:
        blind = replace(spine(), landmarks=tuple(m for m in spine().landmarks if "pedicle-left" not in m.name))
        with pytest.raises(OrderError, match="shows no left pedicle"):
            plan(blind, order())
        assert [a.name for a in plan(blind, order(side="right")).axes] == ["trajectory-L3-right", "insertion-L3"]


class TestGuide:
    def test_a_guide_passes_all_its_checks(self) -> None:
        proposal, device = made()
        found = judged(device, proposal, order())
        assert found.released, [f.what for f in found.findings if f.verdict == "fail"]
        part = device.parts[0]
        assert {CONTACT, LABEL, "bore-L3-left", "bore-L3-right", "stop-L3-left", "stop-L3-right"} <= set(part.labels)
        assert {face.label for face in part.functional_faces} >= {CONTACT, "bore-L3-left", "stop-L3-right", LABEL}

    def test_a_guide_for_one_side_has_one_sleeve_on_that_side(self) -> None:
        one = order(side="left")
        proposal = plan(spine(), one)
        device = design(spine(), proposal, one, PROCESS)
        part = device.parts[0]
        assert "bore-L3-right" not in part.labels
        assert part.mesh.vertices_mm[:, 0].mean() > 5.0  # patient's left is +x

    def test_the_same_bone_elsewhere_gives_the_same_guide_there(self) -> None:
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("xyz", [11.0, -7.0, 23.0], degrees=True).as_matrix()
        pose[:3, 3] = (31.0, -17.0, 240.0)
        moved = spine().moved(pose)
        device = design(moved, plan(moved, order()), order(), PROCESS)
        one = made()[1].parts[0]
        there = Part(one.name, one.mesh.moved(pose), one.face_labels, one.labels)
        assert apart(there, device.parts[0]) <= 0.02

    def test_the_mirrored_bone_gives_the_guide_of_the_mirrored_plan(self) -> None:
        proposal = plan(spine(mirrored=True), order())
        for side, other in (("left", "right"), ("right", "left")):
            one, mirror = made()[0].axis(f"trajectory-L3-{side}"), proposal.axis(f"trajectory-L3-{other}")
            assert np.linalg.norm(np.array(one.origin_mm) * [-1, 1, 1] - mirror.origin_mm) < 1.0
        device = design(spine(mirrored=True), proposal, order(), PROCESS)
        text = device.parts[0]
        normal, up = np.array(proposal.axis("insertion-L3").direction), np.array([0.0, 0.0, 1.0])
        right = np.cross(up, normal)  # for a reader behind the patient
        letters = text.mesh.vertices_mm[np.unique(text.mesh.faces[text.face_labels == text.labels.index(LABEL)])] @ right
        arrow = made()[1].parts[0]
        same = arrow.mesh.vertices_mm[np.unique(arrow.mesh.faces[arrow.face_labels == arrow.labels.index(LABEL)])] @ right
        assert abs(letters.mean() - same.mean()) < 4.0  # the label is not mirrored: its arrow stays left of its letters
        assert judged(device, proposal, order(), spine(mirrored=True)).released

    @pytest.mark.parametrize("inward_mm", [0.0, 7.0])
    def test_hooks_lean_inward_as_far_as_the_lamina_lies_inward_of_the_entry(self, inward_mm: float) -> None:
        (bone,) = spine().bones
        pose = guide_pose(made()[0].axis("insertion-L3"), bone)
        ways = [made()[0].axis(f"trajectory-L3-{side}") for side in ("left", "right")]
        back = np.linalg.inv(pose)
        entries = moved_points(back, np.array([way.origin_mm for way in ways]))
        entries[:, 0] -= inward_mm * np.sign(entries[:, 0])
        ends = hook_ends(bone, pose, entries, PedicleGuideParameters())
        leans = np.abs(entries[:, 0]) - np.abs(ends[:, 0])
        if inward_mm > 0.0:  # straight over the lamina
            assert leans == pytest.approx([0.0, 0.0], abs=0.01)
        else:
            assert leans == pytest.approx([4.5, 4.5], abs=1.1)
        beside = moved_points(back, bone.mesh.vertices_mm)
        for end in ends:  # bone lies under the middle of each hook
            under = np.hypot(*(beside[:, :2] - end[:2]).T) < 1.0
            assert (beside[under, 2] > -6.0).any()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("contact_offset_mm", 0.1), ("contact_offset_mm", 0.5), ("relief_mm", 0.6), ("relief_mm", 2.5), ("shell_mm", 4.0),
            ("shell_mm", 6.0), ("pad_mm", 11.0), ("hook_mm", 0.0), ("hook_mm", 6.0), ("rise_mm", 0.0), ("sleeve_mm", 10.0),
            ("sleeve_mm", 30.0), ("sleeve_wall_mm", 1.2), ("sleeve_wall_mm", 4.0), ("window_mm", 3.0), ("window_mm", 8.0),
        ],
    )  # fmt: skip
    def test_each_end_of_a_limit_makes_a_sound_guide_or_is_refused_with_a_reason(self, name: str, value: float) -> None:
        one = order(**{name: value})
        try:
            device = design(spine(), made()[0], one, PROCESS)
        except (DesignError, OrderError):  # refused by name: the message is the family's own
            return
        found = judged(device, made()[0], one)
        assert [finding.what for finding in found.findings if finding.verdict == "fail"] == []

    @pytest.mark.slow
    def test_a_guide_whose_contact_is_chosen_passes_every_check_and_tells_what_it_gained(self) -> None:
        one = order(optimise_contact=True)
        device = design(spine(), made()[0], one, PROCESS)
        found = judged(device, made()[0], one)
        assert [finding.what for finding in found.findings if finding.verdict == "fail"] == []
        figures = dict(device.figures)
        after, before = (figures[f"L3_contact_stuck_or_lost_percent_{when}"] for when in ("after", "before"))
        assert max(after, 5.0) <= max(before, 5.0)

    def test_a_thin_guide_of_one_side_has_whole_walls(self) -> None:
        one = order("left", shell_mm=4.0)
        proposal = plan(spine(), one)
        found = judged(design(spine(), proposal, one, PROCESS), proposal, one)
        assert [finding.what for finding in found.findings if finding.verdict == "fail"] == []

    @pytest.mark.parametrize(("name", "value"), [("pad_mm", 5.0), ("rise_mm", 0.0)])
    def test_a_guide_of_one_side_that_would_touch_too_little_is_refused(self, name: str, value: float) -> None:
        one = order("left", **{name: value})
        with pytest.raises(DesignError, match=r"guide-L3 would touch \d+ mm2 of bone, at least 120 mm2"):
            design(spine(), plan(spine(), one), one, PROCESS)

    def test_sleeves_that_collide_are_refused(self) -> None:
        frame = spine().bones[0].frame
        lines = tuple(
            PlanLine(
                name=f"trajectory-L3-{side}",
                start_mm=tuple(moved_points(frame, np.array([[sign * 3.0, 60.0, 4.0]]))[0]),
                end_mm=tuple(moved_points(frame, np.array([[sign * 3.5, -5.0, 4.0]]))[0]),
            )
            for side, sign in (("left", 1.0), ("right", -1.0))
        )
        one = order(lines=lines)
        with pytest.raises(DesignError, match="apart, at least 3 mm"):
            design(spine(), plan(spine(), one), one, PROCESS)

    def test_the_theatres_own_drill_counts(self) -> None:
        one = order().model_copy(update={"instruments": Instruments(drill_mm=3.2)})
        device = design(spine(), made()[0], one, PROCESS)
        part = device.parts[0]
        way = made()[0].axis("trajectory-L3-left")
        points = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index("bore-L3-left")])]
        found = fitted_cylinder(points, np.array(way.origin_mm), np.array(way.direction), 1.7)
        assert found.diameter_mm == pytest.approx(3.5, abs=0.02)  # 0.2 clearance and 0.1 shrink of PA12

    def test_a_case_code_too_long_for_the_crosslink_stands_beside_a_sleeve(self) -> None:
        one = order().model_copy(update={"case": "demonstration-0123456789-abcdef"})
        device = design(spine(), made()[0], one, PROCESS)
        found = judged(device, made()[0], one)
        assert [f.verdict for f in found.findings if f.check == "label"] == ["pass", "pass"]

    def test_a_metal_insert_widens_the_sleeves_and_the_guide_stays_sound(self) -> None:
        one = order().model_copy(update={"instruments": Instruments(sleeve="sleeve-2.5")})
        device = design(spine(), made()[0], one, PROCESS)
        found = judged(device, made()[0], one)
        assert [f.what for f in found.findings if f.verdict == "fail"] == []
        part = device.parts[0]
        way = made()[0].axis("trajectory-L3-left")
        points = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index("bore-L3-left")])]
        wide = fitted_cylinder(points, np.array(way.origin_mm), np.array(way.direction), 2.6).diameter_mm
        assert wide == pytest.approx(5.2, abs=0.02)  # insert 5.0 mm, 0.05 mm a side, 0.1 mm shrink of PA12


class TestChecks:
    def test_a_guide_that_lies_too_near_is_found(self) -> None:
        proposal, device = made()
        part, way = device.parts[0], proposal.axis("insertion-L3")
        pushed = replace(part, mesh=Mesh(part.mesh.vertices_mm - 0.2 * np.array(way.direction), part.mesh.faces))
        found = contact_findings(pushed, spine().bones[0].mesh, way, offset_mm=0.2, limits=LIMITS)
        assert {f.what.split(": ")[1] for f in found if f.verdict == "fail"} >= {
            "|gap - set|, 95 % of the contact",
            "nearest to the bone, minus set",
        }

    def test_a_guide_under_bone_is_found(self) -> None:
        proposal, device = made()
        way = proposal.axis("insertion-L3")
        part = device.parts[0]
        sunk = replace(part, mesh=Mesh(part.mesh.vertices_mm - 25.0 * np.array(way.direction), part.mesh.faces))
        assert way_out_findings(part, spine().bones[0].mesh, way, LIMITS)[0].verdict == "pass"
        assert way_out_findings(sunk, spine().bones[0].mesh, way, LIMITS)[0].verdict == "fail"

    def test_a_bore_off_its_plan_is_found(self) -> None:
        proposal, device = made()
        way = proposal.axis("trajectory-L3-left")
        off = replace(way, origin_mm=(way.origin_mm[0] + 0.08, way.origin_mm[1], way.origin_mm[2]))
        good = bore_findings(device.parts[0], "bore-L3-left", way, set_mm=2.8, limits=LIMITS)
        assert [f.verdict for f in good] == ["pass"] * 4
        assert bore_findings(device.parts[0], "bore-L3-left", off, set_mm=2.8, limits=LIMITS)[0].verdict == "fail"
        assert bore_findings(device.parts[0], "bore-L3-left", way, set_mm=2.83, limits=LIMITS)[2].verdict == "fail"


def box_mesh(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    import trimesh

    made_box = trimesh.creation.box(bounds=[low, high])
    return Mesh(np.asarray(made_box.vertices, dtype=np.float64), np.asarray(made_box.faces, dtype=np.int32))


class TestSeat:
    def test_a_guide_with_hooks_has_one_seat_and_its_errors_are_within_the_gates(self) -> None:
        proposal, device = made()
        found = {}
        for finding in judged(device, proposal, order()).findings:
            found.setdefault(finding.check, []).append(finding)
        for check_name in (
            "seating-slip",
            "seating-cone",
            "seating-play",
            "seating-unique",
            "seating-friction",
            "budget",
            "budget-breach",
        ):
            assert all(finding.verdict == "pass" for finding in found[check_name]), check_name
        assert len(found["budget"]) == 4  # millimetres and degrees on both sides
        shares = {
            name: int(percent) for name, percent in re.findall(r"(\w+) (\d+) %", found["budget"][0].what) if name in SOURCES
        }
        assert found["budget"][0].hint.startswith(f"{max(shares.values())} % of it is {max(shares, key=shares.__getitem__)}")

    def test_a_changed_parameter_gets_the_interactive_checks_and_a_release_all(self) -> None:
        proposal, device = made()
        quick = judged(device, proposal, order(), only="interactive").findings
        checks = {finding.check for finding in quick}
        release = {finding.check for finding in judged(device, proposal, order()).findings}
        assert {"mesh", "walls", "coincident", "contact", "clearance", "budget-clearance", "seating-unique"} <= checks
        assert not {"budget", "budget-breach", "label", "cavities"} & checks
        assert release - checks >= {"budget", "budget-breach", "label", "cavities"}
        assert checks < release
        assert any("of 50 " in f.what or f.what.endswith("of 50") for f in quick if f.check == "seating-unique")

    def test_a_guide_that_never_lands_is_not_released(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from batchone.design.guide import seating_checks

        def nowhere(*given: Any, **options: Any) -> Any:
            found = score(*given, **options)
            return replace(
                found,
                friction=replace(found.friction, poses=found.friction.poses.only(np.zeros(len(found.friction.poses), bool))),
            )

        score = seating_checks.score
        monkeypatch.setattr(seating_checks, "score", nowhere)
        proposal, device = made()
        told = [finding for finding in judged(device, proposal, order()).findings if finding.check == "budget"]
        assert [(finding.verdict, finding.value) for finding in told] == [("fail", 0.0)]

    def test_what_is_drilled_without_an_end_is_followed_without_an_end(self) -> None:
        proposal, device = made()
        endless = tuple(replace(axis, length_mm=None) for axis in proposal.axes)
        ends = {sweep.name: sweep.to_mm for sweep in sweeps(device.parts[0], endless)}
        assert ends == dict.fromkeys([axis.name for axis in proposal.axes if axis.name.startswith("trajectory")], np.inf)
        way = proposal.axis("trajectory-L3-left")
        far = np.array([way.at_mm(200.0)])
        assert next(sweep for sweep in sweeps(device.parts[0], endless) if sweep.name == way.name).distance_mm(far)[0] == 0.0

    def test_the_place_to_push_lies_on_the_outside_of_the_guide(self) -> None:
        from batchone.design.nearest import nearest_mm

        proposal, device = made()
        push = next(f for f in judged(device, proposal, order()).findings if f.check == "seating-press")
        assert push.where_mm is not None
        assert float(nearest_mm(np.array([push.where_mm]), device.parts[0].mesh)[0]) < 0.01

    def test_the_map_of_wrong_poses_shows_what_the_findings_say_and_is_the_same_every_time(self) -> None:
        from batchone.pipeline import codec
        from batchone.pipeline.job.seats import seat_pictures
        from batchone.pipeline.seat_map import OFF, PLANNED, WRONG

        proposal, device = made()
        one, other = (judged(device, proposal, order()) for _ in range(2))
        (found,) = one.seats
        assert codec.digest(one) == codec.digest(other)
        says = {finding.what.partition(": ")[2].partition(",")[0]: finding.value for finding in one.findings}
        assert says["wrong starts that reach the planned seat"] == pytest.approx(100.0 * found.share(PLANNED))
        assert says["wrong starts that come to rest elsewhere"] == pytest.approx(100.0 * found.share(WRONG))
        assert found.share(PLANNED) + found.share(WRONG) + found.share(OFF) == pytest.approx(1.0)
        first, again = (seat_pictures(checked.seats) for checked in (one, other))
        assert [picture.name for picture in first] == ["seat-guide-L3.png"]
        assert first[0].png == again[0].png

    def test_a_bore_leads_from_its_rim_to_its_stop(self) -> None:
        from batchone.design.guide.seating_checks import led_mm

        proposal, device = made()
        low, high = led_mm(device.parts[0], "bore-L3-left", proposal.axis("trajectory-L3-left"))
        assert 15.0 - 0.05 <= high - low <= 15.0 + RAISE_MM
        assert low >= 0.0


def test_the_one_picture_that_shows_a_change_first_is_that_of_the_full_set() -> None:
    from batchone.pipeline.job.pictures import make_pictures

    proposal, device = made()
    every = {picture.name: picture for picture in make_pictures(spine(), device, proposal)}
    (one,) = make_pictures(spine(), device, proposal, only="fit-oblique")
    assert len(every) > 4
    assert one == every["fit-oblique.png"]


def test_rays_from_a_guide_meet_among_the_bone_along_them_what_they_meet_of_all_bone() -> None:
    from batchone.design.cranial.rays import Scene

    bone, mesh = spine().bones[0].mesh, made()[1].parts[0].mesh
    for direction in Rotation.random(4, random_state=1).apply([0.0, 0.0, 1.0]):
        some = on_the_way(bone, mesh.vertices_mm, direction)
        assert 0 < len(some.faces) < len(bone.faces)
        rays = np.tile(direction, (len(mesh.vertices_mm), 1))
        whole = Scene(bone).meets(mesh.vertices_mm, rays, 500.0)[1] >= 0
        assert (whole == (Scene(some).meets(mesh.vertices_mm, rays, 500.0)[1] >= 0)).all()
        assert 0 < whole.sum() < len(whole)
        assert (Scene(bone).holds(mesh.vertices_mm, direction) == Scene(some).holds(mesh.vertices_mm, direction)).all()


def test_one_core_makes_the_same_guide_and_the_same_findings() -> None:
    import numba as nb

    proposal, device = made()
    findings = judged(device, proposal, order(), only="interactive").findings
    cores = nb.get_num_threads()
    nb.set_num_threads(1)
    try:
        alone = design(spine(), proposal, order(), PROCESS)
        again = judged(alone, proposal, order(), only="interactive").findings
    finally:
        nb.set_num_threads(cores)
    one, other = device.parts[0], alone.parts[0]
    assert one.mesh.vertices_mm.tobytes() == other.mesh.vertices_mm.tobytes()
    assert one.mesh.faces.tobytes() == other.mesh.faces.tobytes()
    assert (one.labels, one.step) == (other.labels, other.step)
    assert one.face_labels.tobytes() == other.face_labels.tobytes()
    assert repr(findings) == repr(again)
