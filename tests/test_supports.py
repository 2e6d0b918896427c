"""Supports: where they stand, what they touch, what they keep off, and the check of the layers that knows nothing of them."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import manifold3d
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from test_orient import order_with

from batchone.design.nearest import nearest_points
from batchone.pipeline.errors import CheckFailed, MachineError
from batchone.pipeline.job.support_picture import support_picture
from batchone.pipeline.process import Process
from batchone.pipeline.values import Approval, Build, CheckedDevice, Device, FloatArray, FunctionalFace, Mesh, Part, Placement
from batchone.slicer.cli_format import read_cli
from batchone.slicer.layers import slice_parts
from batchone.slicer.make import slice_device
from batchone.slicer.orient import Stance
from batchone.slicer.overhang import surface
from batchone.slicer.plate import place
from batchone.slicer.profiles import load_machine, load_process
from batchone.slicer.supports.bodies import Supported, carried_way, lift_mm, supported, upright
from batchone.slicer.supports.check import Carried, carried, carried_each, carries_all
from batchone.slicer.supports.columns import _squared
from batchone.slicer.supports.findings import support_findings
from batchone.slicer.supports.forecast import out_of_reach_mm2
from batchone.slicer.sweep import half_edge_twins
from batchone.slicer.threemf import read_3mf
from benchmarks import carrying

Solid = manifold3d.Manifold
TI, RESIN, POWDER = (load_process(name) for name in ("ti64-lpbf", "guide-resin", "pa12-sls"))
COARSE = TI.model_copy(update={"layer_mm": 0.1})  # the same supports in a third of the layers
APPROVAL = Approval("TEST^ALPHA", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "release", "ab" * 32, "")
MACHINE = load_machine("sim-01")


def part_of(solid: Solid, protected: tuple[float, float, float, float] | None = None) -> Part:
    """A part; ``protected``: x, y, z of a normal and how far along it lie the faces that are functional."""
    out = solid.to_mesh64()
    mesh = Mesh(np.array(out.vert_properties[:, :3]), np.array(out.tri_verts).astype(np.int32))
    labels = np.zeros(len(mesh.faces), dtype=np.int16)
    if protected is not None:
        corners = mesh.vertices_mm[mesh.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal = np.array(protected[:3])
        there = np.abs(corners @ normal - protected[3]).max(axis=1) < 1e-6
        labels[there & (cross @ normal > 0.99 * np.linalg.norm(cross, axis=1))] = 1
        assert labels.any()
    return Part("part", mesh, labels, ("rest", "contact"), (FunctionalFace("contact", "fit", 0.1),))


def both(part: Part, made: Supported, process: Process) -> Carried:
    bodies = [part.mesh, *([made.support.mesh] if made.support else [])]
    return carried(slice_parts(bodies, process.layer_mm), process)


def solid_of(mesh: Mesh) -> Solid:
    return Solid(manifold3d.Mesh64(mesh.vertices_mm, mesh.faces.astype(np.uint64)))


def table(height_mm: float = 12.0) -> Solid:
    return Solid.cube((6, 6, height_mm), True).translate((0, 0, 0.5 * height_mm)) + Solid.cube((30, 30, 2), True).translate(
        (0, 0, height_mm + 1.0)
    )


def hanging() -> Solid:
    """A ball at the end of an arm, lower than the arm: it begins in the air."""
    ball = Solid.sphere(3.0, 48).translate((15.0, 0.0, 9.0))
    return Solid.cube((6, 6, 20), True).translate((0, 0, 10)) + Solid.cube((15, 2, 2)).translate((0, -1, 10)) + ball


def leaning(angle_deg: float) -> Solid:
    """A slab that leans by an angle from the vertical, on a foot."""
    shift = 15.0 * math.tan(math.radians(angle_deg))
    outline = np.array([[0.0, 0.0], [4.0, 0.0], [4.0 + shift, 15.0], [shift, 15.0]])
    return Solid.extrude(manifold3d.CrossSection([outline]), 10.0).rotate((90.0, 0.0, 0.0))


SHAPES = {"table": table(), "ball": Solid.sphere(6.0, 64).translate((0, 0, 8)), "hanging": hanging(), "leaning": leaning(60.0)}


@pytest.mark.parametrize("process", [COARSE, RESIN], ids=["lpbf", "resin"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_hangs_over_is_carried_by_closed_bodies(shape: str, process: Process) -> None:
    part = part_of(SHAPES[shape].translate((0, 0, lift_mm(process))))
    made = supported(part, part.mesh, process)
    assert made.support is not None
    assert process.supports is not None
    _, open_edges, crowded = half_edge_twins(made.support.mesh.faces, len(made.support.mesh.vertices_mm))
    assert (open_edges, crowded) == (0, 0)
    assert made.support.volume_mm3 > 0.0
    assert made.support.contact_mm2 > 0.0
    assert made.support.mesh.vertices_mm[:, 2].min() == pytest.approx(0.0, abs=1e-9)
    assert not carries_all(both(part, Supported(None, 0.0), process), process)
    assert carries_all(both(part, made, process), process)


def test_a_table_is_carried_all_around_by_a_block_and_its_column_is_not() -> None:
    part = part_of(table())
    made = supported(part, part.mesh, COARSE)
    assert made.support is not None
    assert made.support.kinds[0] == "block"
    low, high = made.support.mesh.vertices_mm.min(axis=0), made.support.mesh.vertices_mm.max(axis=0)
    assert np.all(low[:2] < -13.0)
    assert np.all(high[:2] > 13.0)
    assert high[2] == pytest.approx(12.0 + 0.2, abs=1e-6)  # teeth reach 0.2 mm into the plate
    inside = (np.abs(made.support.mesh.vertices_mm[:, :2]) < 3.0 + 0.1).all(axis=1)
    assert not inside.any()


@pytest.mark.parametrize(("angle_deg", "wanted"), [(40.0, False), (55.0, True)])
def test_an_overhang_just_outside_the_limit_is_carried_and_one_inside_carries_itself(angle_deg: float, wanted: bool) -> None:
    part = part_of(leaning(angle_deg))
    made = supported(part, part.mesh, COARSE)
    assert (made.support is not None) == wanted
    assert carries_all(both(part, made, COARSE), COARSE)
    assert carries_all(both(part, Supported(None, 0.0), COARSE), COARSE) != wanted


def test_a_short_overhang_needs_nothing_and_a_longer_one_does() -> None:
    for reach, wanted in ((0.8, False), (1.4, True)):  # beyond the ledge of 0.5 mm 3 and 9 mm2 are left; 5 need a support
        solid = Solid.cube((6, 10, 10)) + Solid.cube((6 + reach, 10, 2)).translate((0, 0, 8))
        assert (supported(part_of(solid), part_of(solid).mesh, COARSE).support is not None) == wanted


def test_a_protected_bridge_carries_nothing_and_is_reported() -> None:
    arch = Solid.cube((24, 8, 12)) - Solid.cube((16, 10, 9)).translate((4, -1, 0))
    part = part_of(arch, (0.0, 0.0, -1.0, -9.0))
    made = supported(part, part.mesh, COARSE)
    assert made.support is None
    ((area, reach, *_),) = both(part, made, COARSE).unsupported.tolist()
    assert area == pytest.approx((16.0 - 2.0 * 0.5) * 8.0, rel=0.1)
    assert reach == pytest.approx(8.0, abs=0.5)  # half of the bridge
    assert supported(part_of(arch), part.mesh, COARSE).support is not None


def test_over_the_part_supports_stand_on_it_and_over_a_protected_face_they_go_around() -> None:
    solid = Solid.cube((20, 20, 3)) + Solid.cube((4, 20, 20)) + Solid.cube((12, 20, 2)).translate((0, 0, 18))
    part = part_of(solid)
    made = supported(part, part.mesh, COARSE)
    assert made.support is not None
    assert made.support.mesh.vertices_mm[:, 2].min() == pytest.approx(3.0 - 0.2, abs=1e-6)
    assert carries_all(both(part, made, COARSE), COARSE)
    kept = part_of(solid, (0.0, 0.0, 1.0, 3.0))
    other = supported(kept, kept.mesh, COARSE)
    assert other.functional_mm2 == 0.0
    if other.support is not None:
        assert distance_mm(other, kept) >= 0.5 - 1e-6


def test_a_narrow_protected_ledge_is_gone_around_by_a_trunk_from_the_plate() -> None:
    post = Solid.cube((4, 12, 24)) + Solid.cube((8, 12, 2)).translate((0, 0, 6)) + Solid.cube((8, 12, 2)).translate((0, 0, 22))
    part = part_of(post + Solid.cube((0.5, 0.5, 0.5)).translate((13, 6, 0)), (0.0, 0.0, 1.0, 8.0))
    made = supported(part, part.mesh, COARSE)
    assert made.support is not None
    assert "tree" in made.support.kinds
    assert made.functional_mm2 == 0.0
    assert made.support.mesh.vertices_mm[:, 2].max() > 22.0
    assert made.support.mesh.vertices_mm[:, 0].max() > 8.0
    assert distance_mm(made, part) >= 0.5 - 1e-6


def test_the_contact_is_that_of_the_tip_where_it_meets_the_face() -> None:
    block = TI.supports.model_copy(update={"block": None, "spread_mm": 20.0}) if TI.supports else None
    process = COARSE.model_copy(update={"supports": block, "free_ledge_mm": 20.0})
    part = part_of(Solid.cube((3, 3, 3)).translate((0, 0, 10)))
    made = supported(part, part.mesh, process)
    assert made.support is not None
    assert block is not None
    at_face = 0.5 * block.tip_mm + 0.5 * (block.trunk_mm - block.tip_mm) * block.penetration_mm / (
        block.tip_height_mm + block.penetration_mm
    )
    inside = 0.5 * block.tip_mm
    sides = 12
    polygon = 0.5 * sides * math.sin(2.0 * math.pi / sides)
    assert inside < at_face
    assert made.support.contact_mm2 == pytest.approx(polygon * at_face**2, rel=1e-6)


@pytest.mark.parametrize(("radius_mm", "more"), [(2.0, False), (14.0, True)])
def test_tips_hold_what_the_film_pulls_at_under_steeper_undersides_too(radius_mm: float, more: bool) -> None:
    assert RESIN.supports is not None
    still = RESIN.model_copy(update={"supports": RESIN.supports.model_copy(update={"most_pull": None})})
    part = part_of(Solid.sphere(radius_mm, 96).translate((0, 0, radius_mm + lift_mm(RESIN))))
    few, made = supported(part, part.mesh, still), supported(part, part.mesh, RESIN)
    assert few.support is not None
    assert made.support is not None
    assert few.pull == 0.0
    assert 0.0 < made.pull <= 100.0
    assert (made.support.contact_mm2 > 1.5 * few.support.contact_mm2) == more
    tips = made.support.contact_mm2 / (0.25 * math.pi * RESIN.supports.tip_mm**2)
    assert tips > math.pi * radius_mm**2 / 100.0 / (0.25 * math.pi * RESIN.supports.tip_mm**2) - 1.0


def test_only_tips_that_stand_on_the_plate_hold_what_the_film_pulls_at() -> None:
    """A funnel with a floor, under a wide roof: what carries the roof stands on the floor, and goes up with it."""
    assert RESIN.supports is not None
    corners = [[x * half, y * half, z] for half, z in ((2, 0), (12, 10)) for x in (-1, 1) for y in (-1, 1)]
    funnel = Solid.hull_points(np.array(corners))
    roof = Solid.cube((24, 24, 2), True).translate((0, 0, 23))
    part = part_of((funnel + Solid.cube((3, 3, 14), True).translate((0, 0, 16)) + roof).translate((0, 0, lift_mm(RESIN))))
    made = supported(part, part.mesh, RESIN)
    assert made.support is not None
    touching = (solid_of(part.mesh) ^ solid_of(made.support.mesh)).decompose()
    low = [piece.bounding_box()[2] for piece in touching]
    floor_mm = lift_mm(RESIN) + 10.0 - 2.0 * RESIN.supports.penetration_mm
    below, above = sum(z < floor_mm for z in low), sum(z >= floor_mm for z in low)
    assert above > 30  # feet on the floor, tips at the roof
    assert made.pull == pytest.approx(24.0**2 / (below * 0.25 * math.pi * RESIN.supports.tip_mm**2), rel=0.05)
    assert 50.0 < made.pull <= 100.0


@pytest.mark.parametrize(
    ("process", "pull", "verdicts"), [(RESIN, 100.0, ["pass"]), (RESIN, 100.001, ["warn"]), (COARSE, 500.0, [])]
)
def test_what_the_tips_hold_is_a_finding_where_a_film_pulls(process: Process, pull: float, verdicts: list[str]) -> None:
    part = part_of(SHAPES["ball"].translate((0, 0, lift_mm(process))))
    made = replace(supported(part, part.mesh, process), pull=pull)
    assert made.support is not None
    layers = slice_parts([part.mesh, made.support.mesh], process.layer_mm)
    found = support_findings([Placement("part", np.eye(4), "")], [made], layers, process)
    judged = [one for one in found if one.check == "supports.pull"]
    assert [one.verdict for one in judged] == verdicts
    for one in judged:
        assert one.value == pull
        assert "unverified" in one.source


def test_a_profile_of_a_vat_without_what_its_tips_hold_is_refused(tmp_path: Path) -> None:
    shipped = files("batchone.slicer").joinpath("processes", "guide-resin.toml").read_text(encoding="utf-8")
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "guide-resin.toml").write_text(shipped, encoding="utf-8")
    assert load_process("guide-resin", tmp_path) == RESIN
    assert "\nmost_pull = 100.0\n" in shipped
    (tmp_path / "processes" / "guide-resin.toml").write_text(shipped.replace("\nmost_pull = 100.0\n", "\n"), encoding="utf-8")
    with pytest.raises(MachineError, match=r"guide-resin\.toml: .*kind vat says most_pull in \[supports\]") as refused:
        load_process("guide-resin", tmp_path)
    assert len(str(refused.value)) < 300


def slit(turn_deg: float) -> Part:
    """A block with a functional slit of 1 mm through it: level, or turned towards upright about its length."""
    block, gap = Solid.cube((40, 24, 30), True), Solid.cube((30, 40, 1.0), True)
    out = (block - gap).rotate((turn_deg, 0, 0)).to_mesh64()
    mesh = Mesh(np.array(out.vert_properties[:, :3]), np.array(out.tri_verts).astype(np.int32))
    upright = mesh.vertices_mm[mesh.faces] @ np.array([0.0, -math.sin(math.radians(turn_deg)), math.cos(math.radians(turn_deg))])
    inside = np.abs(np.abs(upright) - 0.5).max(axis=1) < 1e-6
    return Part("part", mesh, inside.astype(np.int16), ("rest", "slit"), (FunctionalFace("slit", "saw", 0.1),))


@pytest.mark.parametrize(("turn_deg", "hangs"), [(0.0, True), (60.0, True), (90.0, False)])
def test_what_supports_cannot_reach_is_forecast_as_the_layers_will_show_it(turn_deg: float, hangs: bool) -> None:
    """A level slit has a roof; one that leans has a lip, a ridge that begins in the air though both its sides are steep."""
    part = slit(turn_deg)
    left_mm2 = out_of_reach_mm2(surface(part), np.eye(3), COARSE)
    up = np.array([0.0, 0.0, lift_mm(TI) - part.mesh.vertices_mm[:, 2].min()])
    standing = replace(part, mesh=Mesh(part.mesh.vertices_mm + up, part.mesh.faces))
    made = supported(standing, standing.mesh, COARSE)
    truth_mm2 = both(standing, made, COARSE).unsupported[:, 0].max(initial=0.0)
    assert made.functional_mm2 == 0.0
    assert (truth_mm2 > TI.least_support_mm2) == hangs
    assert (left_mm2 > TI.least_support_mm2 + 2.0) == hangs
    free = replace(part, functional_faces=(FunctionalFace("rest", "fit", 0.1),), face_labels=np.ones_like(part.face_labels))
    assert out_of_reach_mm2(surface(free), np.eye(3), COARSE) == 0.0  # nothing is protected


def test_a_forecast_sees_what_stands_in_the_way() -> None:
    """A ceiling far above a functional floor: supports come from aside while it reaches no farther than they lean."""
    for width_mm, hangs in ((6.0, False), (30.0, True)):
        roof = Solid.cube((width_mm + 4, 20, 2)).translate((0, 0, 28))
        part = part_of(Solid.cube((4, 20, 30)) + roof + Solid.cube((width_mm + 4, 20, 2)), (0.0, 0.0, 1.0, 2.0))
        assert (out_of_reach_mm2(surface(part), np.eye(3), TI) > TI.least_support_mm2) == hangs


def test_powder_carries_parts_by_itself() -> None:
    part = part_of(table())
    assert supported(part, part.mesh, POWDER).support is None
    assert lift_mm(POWDER) == 0.0
    made = slice_device(CheckedDevice(Device("anatomical-model", (part,)), ()), APPROVAL, POWDER, MACHINE)
    assert made.supports == ()
    assert not [finding for finding in made.findings if finding.check.startswith("supports")]
    assert support_picture(made, Device("anatomical-model", (part,))) == ()


def test_a_resin_part_is_lifted_off_a_raft_and_all_of_it_is_in_the_files() -> None:
    device = Device("anatomical-model", (part_of(SHAPES["ball"]),))
    made = slice_device(CheckedDevice(device, ()), APPROVAL, RESIN, MACHINE)
    (support,) = made.supports
    assert RESIN.supports is not None
    placed = device.parts[0].mesh.moved(made.placements[0].pose)
    assert placed.vertices_mm[:, 2].min() == pytest.approx(RESIN.supports.lift_mm)
    cli = read_cli(made.layers_cli)
    assert cli.labels == ("part", "supports-part")
    raft = cli.layers.area_mm2(1)[: round(RESIN.supports.raft_mm / RESIN.layer_mm)]
    np.testing.assert_allclose(raft, raft[0], rtol=0.01)
    feet = shapely.MultiPoint(np.concatenate(list(cli.layers.loops(len(raft) + 2, 1)))).convex_hull
    assert feet.area < raft[0] < feet.buffer(0.5 * RESIN.supports.trunk_mm).area  # it lies under all of them
    assert [item.name for item in read_3mf(made.plate_3mf)] == ["part", "supports-part"]
    assert made.estimate.material_g == pytest.approx(
        (made.estimate.part_volume_mm3 + support.volume_mm3) * RESIN.density_g_per_mm3, rel=1e-6
    )
    (picture,) = support_picture(made, device)
    assert (picture.name, picture.png[:4]) == ("supports.png", b"\x89PNG")


def test_a_functional_ball_that_begins_in_the_air_is_not_sliced() -> None:
    twins = [hanging().rotate(turn).translate((60.0 * k, 0.0, 0.0)) for k, turn in enumerate([(0, 0, 0), (180, 0, 0)])]
    solid = twins[0] + twins[1] + Solid.cube((70, 2, 2), True).translate((30, 0, 1))
    part = part_of(solid)
    middles = part.mesh.vertices_mm[part.mesh.faces].mean(axis=1)
    round_ = np.zeros(len(middles), dtype=bool)
    for centre in ([15.0, 0.0, 9.0], [75.0, 0.0, -9.0]):
        round_ |= np.abs(np.linalg.norm(middles - centre, axis=1) - 3.0) < 0.05
    part = replace(part, face_labels=round_.astype(np.int16))
    made = supported(part, part.mesh, COARSE)
    assert made.functional_mm2 == 0.0
    found = both(part, made, COARSE)
    assert len(found.islands_of(0.5)) >= 1
    everywhere = replace(part, face_labels=np.ones(len(middles), dtype=np.int16))
    with pytest.raises(CheckFailed, match="functional faces"):
        slice_device(CheckedDevice(Device("anatomical-model", (everywhere,)), ()), APPROVAL, COARSE, MACHINE)


def test_another_way_up_is_taken_where_the_cheapest_leaves_an_island() -> None:
    part = part_of(Solid.cube((10, 10, 4)), (0.0, 0.0, -1.0, 0.0))
    down = Stance(np.eye(3), (10.0, 10.0, 4.0), 0.0, np.array([100.0]), "contact down")
    up = Stance(np.diag([1.0, -1.0, -1.0]), (10.0, 10.0, 4.0), 100.0, np.zeros(1), "contact up")
    stance, made = carried_way(part, [down, up], COARSE)
    assert stance is up
    assert made.support is not None


def test_pieces_in_the_air_are_found_by_the_layers_alone() -> None:
    alone = Solid.cube((2, 2, 2)).translate((10, 0, 5))
    layers = slice_parts([part_of(Solid.cube((5, 5, 10)) + alone).mesh], 0.1)
    found = carried(layers, COARSE)
    ((layer, x, y, area),) = found.islands.tolist()
    assert layer == 50
    assert area == pytest.approx(4.0, rel=1e-6)
    assert 10.0 <= x <= 12.0
    assert 0.0 <= y <= 2.0
    assert found.islands_of(3.9).shape == (1, 4)
    assert found.islands_of(4.1).shape == (0, 4)


def test_a_piece_that_only_touches_the_one_below_by_its_side_lies_on_nothing_and_one_that_overlaps_it_does() -> None:
    for x, count in ((5.0, 1), (4.9, 0)):
        solid = Solid.batch_boolean([Solid.cube((5, 5, 5)), Solid.cube((4, 5, 5)).translate((x, 0, 5))], manifold3d.OpType.Add)
        assert len(carried(slice_parts([part_of(solid).mesh], 0.1), COARSE).islands) == count


def test_the_same_part_has_the_same_supports() -> None:
    part = part_of(SHAPES["hanging"].translate((0, 0, 2)))
    one, other = (supported(part, part.mesh, COARSE).support for _ in range(2))
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.mesh.vertices_mm, other.mesh.vertices_mm)
    np.testing.assert_array_equal(one.mesh.faces, other.mesh.faces)


def distance_mm(made: Supported, part: Part) -> float:
    """Least distance from the supports' corners and middles to the protected faces."""
    assert made.support is not None
    mesh = made.support.mesh
    corners = mesh.vertices_mm[mesh.faces]
    points = np.concatenate(
        [mesh.vertices_mm, corners.mean(axis=1), 0.5 * (corners + np.roll(corners, 1, axis=1)).reshape(-1, 3)]
    )
    protected = Mesh(part.mesh.vertices_mm, np.ascontiguousarray(part.mesh.faces[part.face_labels == 1]))
    return float(nearest_points(points, protected)[0].min())


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180)), st.sampled_from([COARSE, RESIN]))
def test_no_support_comes_near_a_protected_face_whichever_way_is_up(turn: tuple[float, float, float], process: Process) -> None:
    solid = Solid.cube((14, 10, 3)) + Solid.cube((3, 10, 12)) - Solid.cylinder(9, 2, 2, 32).translate((9, 5, -1))
    part = part_of(solid, (0.0, 0.0, -1.0, 0.0))
    x, y, z = np.radians(turn)
    about_x = np.array([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_z = np.array([[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]])
    turned = part.mesh.vertices_mm @ (about_z @ about_y @ about_x).T
    turned -= [0.0, 0.0, float(turned[:, 2].min()) - lift_mm(process)]
    part = replace(part, mesh=Mesh(turned, part.mesh.faces))
    made = supported(part, part.mesh, process)
    assert made.functional_mm2 == 0.0
    if made.support is not None:
        assert process.supports is not None
        assert distance_mm(made, part) >= process.supports.gap_mm - 1e-6


def rod(radius_mm: float, low_mm: float, high_mm: float) -> Solid:
    return Solid.cylinder(high_mm - low_mm, radius_mm, radius_mm, 96).translate((0.0, 0.0, low_mm))


@pytest.mark.parametrize("inner_mm", [9.0, 5.0])
def test_a_ring_about_a_post_that_begins_in_the_air_is_an_island(inner_mm: float) -> None:
    mushroom = rod(2, 0, 20) + rod(10, 15, 20)
    bell = mushroom + (rod(10, 8, 16) - rod(inner_mm, 7, 16))
    for solid, islands in ((mushroom, 0), (bell, 1)):
        mesh = part_of(solid).mesh
        low = mesh.vertices_mm.min(axis=0)
        layers = slice_parts([Mesh(mesh.vertices_mm - low + np.array([5.0, 5.0, 0.0]), mesh.faces)], TI.layer_mm)
        found = carried(layers, TI).islands_of(0.5)
        assert len(found) == islands
        if islands:
            assert found[0, 3] == pytest.approx(math.pi * (10.0**2 - inner_mm**2), rel=0.01)


# what is carried freely: the check by layers has the limits of the process, to within some cells of 0.2 mm

STRICT = TI.model_copy(update={"least_support_mm2": 0.0, "layer_mm": 0.05})


def holed(diameter_mm: float) -> Solid:
    return Solid.cube((10, 10, 14)) - rod(diameter_mm / 2, -20, 20).rotate((90, 0, 0)).translate((5, 0, 6))


def slotted(width_mm: float) -> Solid:
    return Solid.cube((width_mm + 8, 10, 8)) - Solid.cube((width_mm, 20, 4)).translate((4, -5, 2))


def shelf(reach_mm: float) -> Solid:
    return Solid.cube((4, 10, 8)) + Solid.cube((4 + reach_mm, 10, 2)).translate((0, 0, 6))


@pytest.mark.parametrize(
    ("body", "process", "inside_mm", "outside_mm"),
    [
        (holed, STRICT, 6.0, 8.2), (slotted, STRICT, 2.0, 2.6), (shelf, STRICT, 0.5, 1.1),
        (slotted, RESIN, 21.0, 22.0), (shelf, RESIN, 0.9, 1.3),
    ],
)  # fmt: skip
def test_the_layers_carry_holes_bridges_and_ledges_up_to_the_limit(body, process, inside_mm, outside_mm) -> None:  # type: ignore[no-untyped-def]
    assert carries_all(both(part_of(body(inside_mm)), Supported(None, 0.0), process), process)
    assert not carries_all(both(part_of(body(outside_mm)), Supported(None, 0.0), process), process)


def test_a_slope_is_no_bridge_until_it_has_reached_the_higher_side() -> None:
    """A level roof between two walls 12 mm apart, and one that rises by 10 deg: it stands out from the lower wall."""
    level = Solid.cube((12, 40, 2)).translate((4, -20, 2))
    wedge = manifold3d.CrossSection([[(4.0, 2.0), (16.0, 2.0), (16.0, 6.2), (4.0, 4.1)]])
    rising = Solid.extrude(wedge, 40.0).rotate((90.0, 0.0, 0.0)).translate((0.0, 20.0, 0.0))
    for roof, carries in ((level, True), (rising, False)):
        part = part_of(Solid.cube((20, 6, 10)) - roof)
        assert carries_all(both(part, Supported(None, 0.0), RESIN), RESIN) == carries


@pytest.mark.parametrize(("reach_mm", "carries"), [(1.0, True), (1.8, False)])
def test_what_is_left_beyond_a_ledge_counts_from_its_area_on(reach_mm: float, carries: bool) -> None:
    """10 mm wide, beyond 0.5 mm: 5 mm2 and 13 mm2."""
    assert carries_all(both(part_of(shelf(reach_mm)), Supported(None, 0.0), COARSE), COARSE) == carries


def rib(wide_mm: float, reach_mm: float) -> Solid:
    """A block out of which a rib stands, 1 mm high."""
    return Solid.cube((4, 10, 8)) + Solid.cube((4 + reach_mm, wide_mm, 1)).translate((0, 5, 5))


@pytest.mark.parametrize(
    ("process", "wide_mm", "inside_mm", "outside_mm"), [(RESIN, 0.4, 1.9, 2.7), (RESIN, 0.4, 1.9, 3.4), (COARSE, 1.0, 2.6, 3.5)]
)
def test_what_is_small_hangs_freely_as_far_as_a_square_of_it_beyond_the_ledge(
    process: Process, wide_mm: float, inside_mm: float, outside_mm: float
) -> None:
    """To within two cells; the area beyond the ledge is less than what the process lets hang both times."""
    for reach_mm, carries in ((inside_mm, True), (outside_mm, False)):
        part = part_of(rib(wide_mm, reach_mm))
        alone = both(part, Supported(None, 0.0), process)
        assert alone.unsupported[:, 0].max(initial=0.0) < process.least_support_mm2
        assert carries_all(alone, process) == carries
        assert carries_all(both(part, supported(part, part.mesh, process), process), process)


def test_a_functional_rib_that_stands_out_far_is_refused_however_narrow_it_is() -> None:
    high = part_of(rib(0.4, 3.4))
    part = replace(high, face_labels=(high.mesh.vertices_mm[high.mesh.faces][:, :, 0].max(axis=1) > 4.5).astype(np.int16))
    left_mm2 = out_of_reach_mm2(surface(part), np.eye(3), RESIN)
    assert left_mm2 > RESIN.least_support_mm2
    with pytest.raises(CheckFailed, match=r"functional faces"):
        sliced_upright(part, RESIN)
    made = supported(part, part.mesh, RESIN)
    assert made.functional_mm2 == 0.0
    assert not carries_all(both(part, made, RESIN), RESIN)


def test_the_benchmark_tells_of_refusals_that_nobody_expects_and_of_supports_at_functional_faces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(carrying, "REFUSED", {("model", "ti64-lpbf"): "too large"})
    assert not carrying.wrongly_refused("model", "ti64-lpbf", "the part is too large for the plate")
    assert carrying.wrongly_refused("model", "ti64-lpbf", "the part hangs")
    assert carrying.wrongly_refused("model", "guide-resin", "the part is too large for the plate")
    part = part_of(table(), (1.0, 0.0, 0.0, 3.0))  # the column's side is functional
    build = sliced_upright(part, COARSE)
    assert build.supports
    assert not carrying.too_near(carrying.apart(build, Device("anatomical-model", (part,))), COARSE)
    wholly = replace(part, face_labels=np.ones_like(part.face_labels))
    assert carrying.apart(build, Device("anatomical-model", (wholly,))) < 0.1  # where they carry it
    assert carrying.too_near(0.0, COARSE)


def test_the_reach_of_small_areas_is_a_finding_of_its_own() -> None:
    for reach_mm, verdict in ((2.6, "pass"), (3.5, "fail")):
        part = part_of(rib(1.0, reach_mm))
        stance = Stance(np.eye(3), (4.0 + reach_mm, 10.0, 8.0), 0.0, np.zeros(1), "")
        placements = place([part], [stance], [[part.mesh]], process=COARSE, machine=MACHINE)
        layers = slice_parts([part.mesh.moved(placements[0].pose)], COARSE.layer_mm)
        found = {one.check: one for one in support_findings(placements, [Supported(None, 0.0)], layers, COARSE)}
        assert found["supports.unsupported"].verdict == "pass"
        assert found["supports.reach"].verdict == verdict
    reach = found["supports.reach"]
    assert reach.value == pytest.approx(3.5, abs=0.4)
    assert reach.where_mm == pytest.approx((7.5, 5.5, 5.0), abs=0.6)


@pytest.mark.parametrize(("side_mm", "islands"), [(0.30, 0), (0.34, 1)])
def test_an_island_counts_from_its_area_on(side_mm: float, islands: int) -> None:
    """0.09 and 0.116 mm2 about the limit of 0.1 mm2: a peg below the arm that holds it."""
    arm = Solid.cube((4, 4, 10)) + Solid.cube((10, 4, 2)).translate((0, 0, 8))
    peg = Solid.cube((side_mm, side_mm, 2)).translate((8.0, 1.9, 6.5))
    mesh = part_of(arm + peg).mesh
    assert TI.supports is not None
    assert len(carried(slice_parts([mesh], 0.1), TI).islands_of(TI.supports.least_island_mm2)) == islands


def lip(reach_mm: float) -> Part:
    """A shelf 20 mm long whose end is functional: supports keep off that end, and off the wall that the shelf stands out from."""
    solid = Solid.cube((4, 20, 8)) + Solid.cube((4 + reach_mm, 20, 3)).translate((0, 0, 5))
    return part_of(solid, (1.0, 0.0, 0.0, 4.0 + reach_mm))


def sliced_upright(part: Part, process: Process) -> Build:
    device = CheckedDevice(Device("anatomical-model", (part,)), ())
    return slice_device(device, APPROVAL, process, MACHINE, order_with({"part": (0.0, 0.0, 1.0)}))


def test_what_hangs_where_no_support_may_stand_is_sliced_up_to_the_limit_and_refused_beyond() -> None:
    """20 mm long, beyond a ledge of 0.5 mm and a cell of 0.2 mm: nothing, and more than 5 mm2."""
    (inside,) = (one for one in sliced_upright(lip(0.65), COARSE).findings if one.check == "supports.unsupported")
    assert inside.verdict == "pass"
    with pytest.raises(CheckFailed, match=r"cannot be carried as it stands: largest area that hangs .* at most 5 mm2") as refused:
        sliced_upright(lip(1.15), COARSE)
    assert refused.value.exit_code == 4
    assert "functional faces" in refused.value.hint
    (outside,) = (one for one in refused.value.findings if one.check == "supports.unsupported")
    assert outside.verdict == "fail"
    assert outside.value == pytest.approx(20.0 * (1.15 - 0.7), abs=20.0 * 0.2)  # to within a cell
    assert outside.where_mm == pytest.approx((5.15, outside.where_mm[1], 5.0), abs=0.3)  # type: ignore[index]


def test_a_longer_shelf_leaves_room_for_supports_beside_its_functional_end() -> None:
    part = lip(6.0)
    made = supported(part, part.mesh, COARSE)
    assert made.support is not None
    assert carries_all(both(part, made, COARSE), COARSE)


def test_another_way_up_is_taken_where_something_hangs_in_each_of_the_first_three() -> None:
    part = lip(1.15)
    upright_ = Stance(np.eye(3), (5.15, 20.0, 8.0), 26.0, np.zeros(1), "shelf above")
    over = Stance(np.diag([1.0, -1.0, -1.0]), (5.15, 20.0, 8.0), 0.0, np.zeros(1), "shelf below")
    stance, made = carried_way(part, [upright_, upright_, upright_, over], COARSE)
    assert stance is over
    moved = part.mesh.moved(upright(part, stance, COARSE))
    assert carries_all(both(replace(part, mesh=moved), made, COARSE), COARSE)


def test_a_pocket_in_the_shadow_of_another_part_of_the_device_hangs_where_no_support_gets_below_it() -> None:
    """A roof 4 mm above a floor, shut all around: a tip stands on the floor, but not where that is functional."""
    box = Solid.cube((12, 12, 10)) - Solid.cube((8, 8, 4)).translate((2, 2, 3))
    open_part, shut = part_of(box), part_of(box, (0.0, 0.0, 1.0, 3.0))
    for part, carries in ((open_part, True), (shut, False)):
        assert carries_all(both(part, supported(part, part.mesh, COARSE), COARSE), COARSE) == carries


@pytest.mark.parametrize(("apart_mm", "carries"), [(1.9, True), (3.2, False)])
def test_a_sliver_between_two_supports_hangs_where_it_is_wider_than_a_bridge(apart_mm: float, carries: bool) -> None:
    """A roof 10 mm wide on two walls, which stand for supports: 2 mm are free."""
    walls = Solid.cube((2, 10, 6)) + Solid.cube((2, 10, 6)).translate((2 + apart_mm, 0, 0))
    roof = Solid.cube((4 + apart_mm, 10, 2)).translate((0, 0, 6))
    assert carries_all(both(part_of(walls + roof), Supported(None, 0.0), COARSE), COARSE) == carries


def test_the_answer_is_the_same_wherever_the_bodies_stand_on_the_plate() -> None:
    part = part_of(Solid.cube((4, 10, 8)) + Solid.cube((5.77, 10, 2)).translate((0, 0, 6)))
    areas = {
        round(float(carried(slice_parts([part.mesh.moved(shift(x, y))], 0.1), COARSE).unsupported[:, 0].max()), 6)
        for x, y in ((0.0, 0.0), (13.07, 5.11), (0.13, 40.05))
    }
    assert len(areas) == 1


def shift(x_mm: float, y_mm: float) -> FloatArray:
    pose: FloatArray = np.eye(4)
    pose[:2, 3] = x_mm, y_mm
    return pose


def test_each_part_is_judged_with_its_own_supports() -> None:
    """A shelf over the wall of another part: the wall carries it in the layers, but it is another body."""
    shelf_, wall = part_of(shelf(6.0)).mesh, part_of(Solid.cube((2, 10, 6)).translate((8.5, 0, 0))).mesh
    layers = slice_parts([shelf_, wall], 0.1)
    alone, together = (
        carried_each(layers, groups, COARSE).unsupported[:, 0].max(initial=0.0) for groups in ([[0], [1]], [[0, 1]])
    )
    assert alone > together + 5.0


@pytest.mark.parametrize("flange_mm", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("stem_mm", [6.0, 6.1])
def test_a_taller_part_on_the_plate_hides_nothing_of_a_lower_one(stem_mm: float, flange_mm: float) -> None:
    """A T whose flange is as thin as one step of the check, at the very top, beside a bar that goes on."""
    flange = Solid.cube((12, 12, flange_mm)).translate((-4, 0, stem_mm))
    tee = part_of(Solid.cube((4, 12, stem_mm)) + flange).mesh
    bar = part_of(Solid.cube((4, 4, 9)).translate((20, 0, 0))).mesh
    alone = carried_each(slice_parts([tee], 0.1), [[0]], COARSE).unsupported[:, 0].max()
    beside = carried_each(slice_parts([tee, bar], 0.1), [[0], [1]], COARSE).unsupported[:, 0].max()
    assert alone == beside > 10.0


@given(low_radius=st.floats(0.05, 1.5), high_radius=st.floats(0.05, 1.5), beside=st.floats(0.0, 4.0), z=st.floats(-3.0, 6.0))
def test_the_distance_to_a_rod_that_tapers_is_that_to_its_outline(low_radius, high_radius, beside, z) -> None:  # type: ignore[no-untyped-def]
    outline = shapely.Polygon([(-low_radius, 0.0), (low_radius, 0.0), (high_radius, 3.0), (-high_radius, 3.0)])
    away = outline.distance(shapely.Point(beside, z))
    assert math.sqrt(_squared(beside, z, 0.0, 3.0, low_radius, high_radius)) == pytest.approx(away, abs=1e-9)


# on the plate


def test_parts_stand_apart_by_the_boxes_about_them_and_their_supports() -> None:
    parts = [replace(part_of(Solid.cube((10, 8, 4))), name=name) for name in ("one", "two")]
    stance = Stance(np.eye(3), (10.0, 8.0, 4.0), 0.0, 0.0, "as it is")
    raft = part_of(Solid.cube((16, 9, 2)).translate((-3, -0.5, 0))).mesh
    standing = [Mesh(part.mesh.vertices_mm + np.array([0.0, 0.0, 5.0]), part.mesh.faces) for part in parts]
    bodies = [[standing[0], raft], [standing[1], raft]]
    placed = place(parts, [stance, stance], bodies, process=RESIN, machine=MACHINE)
    assert [placement.pose[2, 3] for placement in placed] == [5.0, 5.0]
    apart = np.abs(placed[1].pose[:2, 3] - placed[0].pose[:2, 3])
    assert max(apart - [16.0, 9.0]) == pytest.approx(RESIN.part_spacing_mm)
