"""Gaps, holes, edges, points, wedges, rooms and ways through: shapes of known size, just inside and just outside each limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from manifold3d import Manifold

from batchone.design.checks.channels import channel_findings
from batchone.design.checks.gaps import gap_findings
from batchone.design.checks.handles import handle_findings, handles_of
from batchone.design.checks.openings import opening_findings
from batchone.design.checks.pins import pin_findings
from batchone.design.checks.rooms import room_findings
from batchone.design.checks.sharp import edges_of, points_of, sharp_findings
from batchone.design.checks.walls import wall_findings
from batchone.design.checks.wedges import wedge_findings
from batchone.pipeline.values import FunctionalFace, IntArray, Mesh, Part
from batchone.slicer.profiles import load_process

AWAY_MM = (31.0, -17.0, 140.0)
PROCESS = load_process("pa12-sls")  # walls 1 mm, pins 0.8 mm, gaps 0.5 mm, channels 4 mm, escape holes 3.5 mm


def part_of(body: Manifold, handles: int | None = None, *, fine_mm: float = 2.0) -> Part:
    raw = body.refine_to_length(fine_mm).to_mesh64()
    mesh = Mesh(np.array(raw.vert_properties)[:, :3] + np.array(AWAY_MM), np.array(raw.tri_verts, dtype=np.int32))
    return Part("part", mesh, np.zeros(len(mesh.faces), dtype=np.int16), ("body",), handles=handles)


def block(x: float, y: float, z: float) -> Manifold:
    return Manifold.cube((x, y, z), True)


def bored(*places: float) -> Manifold:
    body = block(30.0, 12.0, 5.0)
    for x in places:
        body -= Manifold.cylinder(20.0, 1.0, 1.0, 48, True).translate((x, 0.0, 0.0))
    return body


@pytest.mark.parametrize(("side_mm", "verdict"), [(0.3, "pass"), (1.0, "fail")])
def test_a_thin_spot_is_found_where_it_is_as_large_as_the_finest_pin(side_mm: float, verdict: str) -> None:
    body = block(120.0, 80.0, 3.0) - block(side_mm, side_mm, 3.0).translate((10.0, 5.0, 0.3))
    share, _, spot = wall_findings(part_of(body), PROCESS)
    assert (share.verdict, spot.verdict) == ("pass", verdict)  # far below 0.1 % of the area
    if verdict == "fail":
        assert spot.where_mm is not None
        assert np.linalg.norm(np.array(spot.where_mm)[:2] - [41.0, -12.0]) < 1.0
        assert spot.value == pytest.approx(0.3, abs=0.001)


@pytest.mark.parametrize(("gap_mm", "verdict"), [(0.51, "pass"), (0.49, "fail")])
def test_two_faces_may_stand_as_near_as_the_process_can_part_them(gap_mm: float, verdict: str) -> None:
    body = block(20.0, 10.0, 10.0) - block(gap_mm, 12.0, 6.0).translate((0.0, 0.0, 3.0))
    plain = part_of(body)
    _, elsewhere = gap_findings(plain, PROCESS)
    assert (elsewhere.verdict == "pass", elsewhere.value) == (verdict == "pass", pytest.approx(gap_mm, abs=0.001))
    functional, _ = gap_findings(replace(plain, functional_faces=(FunctionalFace("body", "leads", 0.1),)), PROCESS)
    assert (functional.verdict, functional.value) == (verdict, pytest.approx(gap_mm, abs=0.001))


@pytest.mark.parametrize(("angle_deg", "verdict"), [(31.0, "pass"), (29.0, "fail")])
def test_an_edge_is_sharp_below_30_degrees(angle_deg: float, verdict: str) -> None:
    half = 10.0 * np.tan(np.radians(0.5 * angle_deg))
    ends = [[x, y, 0.0] for x in (0.0, 8.0) for y in (-half, half)] + [[0.0, 0.0, 10.0], [8.0, 0.0, 10.0]]
    edge, points = sharp_findings(part_of(Manifold.hull_points(np.array(ends)), fine_mm=50.0))
    assert (edge.verdict, edge.value) == (verdict, pytest.approx(0.0 if verdict == "pass" else 8.0, abs=1e-6))
    assert points.value == 0.0


@pytest.mark.parametrize(("long_mm", "verdict"), [(0.45, "pass"), (0.55, "fail")])
def test_an_edge_that_blasting_rounds_may_be_sharp(long_mm: float, verdict: str) -> None:
    ends = [[x, y, 0.0] for x in (0.0, long_mm) for y in (-1.5, 1.5)] + [[0.0, 0.0, 10.0], [long_mm, 0.0, 10.0]]
    edge, _ = sharp_findings(part_of(Manifold.hull_points(np.array(ends)), fine_mm=50.0))
    assert (edge.verdict, edge.value) == (verdict, pytest.approx(long_mm, abs=1e-6))


def test_strokes_of_engraved_letters_cut_nothing_but_an_edge_of_the_label_with_another_face_does() -> None:
    ends = [[x, y, 0.0] for x in (0.0, 8.0) for y in (-2.0, 2.0)] + [[0.0, 0.0, 10.0], [8.0, 0.0, 10.0]]
    mesh = part_of(Manifold.hull_points(np.array(ends)), fine_mm=50.0).mesh
    middles = mesh.vertices_mm[mesh.faces].mean(axis=1) - mesh.vertices_mm.mean(axis=0)
    for labels, length in ((np.ones(len(mesh.faces)), 0.0), (middles[:, 1] > 0.0, 8.0)):
        part = Part("part", mesh, np.asarray(labels, dtype=np.int16), ("body", "label"))
        assert sharp_findings(part)[0].value == pytest.approx(length, abs=1e-6)


def test_a_triangle_that_is_folded_over_by_some_micrometres_is_no_edge() -> None:
    plain = part_of(block(8.0, 8.0, 8.0)).mesh
    top = np.flatnonzero((plain.vertices_mm[:, 2] > 143.9) & (np.abs(plain.vertices_mm[:, :2] - AWAY_MM[:2]).max(axis=1) < 3.9))
    points = plain.vertices_mm.copy()
    points[top[0], :2] = points[top[1], :2] + [0.004, 0.003]  # onto its neighbour and past it
    folded = Part("part", Mesh(points, plain.faces), np.zeros(len(plain.faces), dtype=np.int16), ("body",))
    assert sharp_edges_by_normals(folded) > 1.0
    assert sharp_findings(folded)[0].value == 0.0


def test_a_vertex_that_is_folded_under_its_neighbours_by_some_micrometres_is_no_point() -> None:
    plain = part_of(block(8.0, 8.0, 8.0)).mesh
    top = np.flatnonzero((plain.vertices_mm[:, 2] > 143.9) & (np.abs(plain.vertices_mm[:, :2] - AWAY_MM[:2]).max(axis=1) < 3.9))
    points = plain.vertices_mm.copy()
    way = points[top[1]] - points[top[0]]
    points[top[0]] += 3.0 * way / np.linalg.norm(way) - [0.0, 0.0, 0.004]  # past its neighbour
    folded = Part("part", Mesh(points, plain.faces), np.zeros(len(plain.faces), dtype=np.int16), ("body",))
    assert len(points_by_normals(folded)) == 1
    assert sharp_findings(folded)[1].value == 0.0


def points_by_normals(part: Part) -> IntArray:
    """Vertices that are points by the angles between their triangles alone."""
    ends, length, inner, _ = edges_of(part)
    return points_of(part, ends, length, inner).astype(np.int32)


def sharp_edges_by_normals(part: Part) -> float:
    """Length of the edges whose triangles' normals alone say that they are sharp, mm."""
    _, length, inner, _ = edges_of(part)
    return float(length[inner < np.radians(30.0)].sum())


@pytest.mark.parametrize(("across_mm", "verdict"), [(1.52, "pass"), (1.45, "fail")])
def test_a_hole_is_as_wide_as_the_process_holds(across_mm: float, verdict: str) -> None:
    part = part_of(block(20.0, 12.0, 5.0) - Manifold.cylinder(20.0, 0.5 * across_mm, 0.5 * across_mm, 48, True))
    middles = part.mesh.vertices_mm[part.mesh.faces].mean(axis=1) - AWAY_MM
    wall = (np.hypot(middles[:, 0], middles[:, 1]) < 1.0) & (np.abs(middles[:, 2]) < 2.49)
    (found,) = opening_findings(Part("part", part.mesh, wall.astype(np.int16), ("body", "window")), PROCESS)
    assert (found.verdict, found.value) == (verdict, pytest.approx(across_mm, abs=0.01))
    assert found.where_mm == pytest.approx(AWAY_MM, abs=0.1)
    assert opening_findings(part, PROCESS) == ()


@pytest.mark.parametrize(("angle_deg", "verdict"), [(33.0, "pass"), (27.0, "fail")])
def test_a_cone_is_pointed_below_30_degrees(angle_deg: float, verdict: str) -> None:
    radius = 10.0 * np.tan(np.radians(0.5 * angle_deg))
    cone = part_of(Manifold.cylinder(10.0, radius, 0.0, 64), fine_mm=50.0)
    edge, points = sharp_findings(cone)
    assert (points.verdict, edge.verdict) == (verdict, "pass")
    if verdict == "fail":
        assert points.where_mm == pytest.approx((31.0, -17.0, 150.0))


@pytest.mark.parametrize(("wall_mm", "verdict"), [(1.02, "pass"), (0.98, "fail")])
def test_two_openings_leave_the_process_s_wall_between_them_whatever_their_angle(wall_mm: float, verdict: str) -> None:
    body = bored(0.0)
    second = Manifold.cylinder(60.0, 1.0, 1.0, 96, True).rotate((60.0, 0.0, 0.0)).translate((2.0 + wall_mm, 0.0, 0.0))
    part = part_of(body - second, fine_mm=0.5)
    middles = part.mesh.vertices_mm[part.mesh.faces].mean(axis=1) - [31.0, -17.0, 140.0]
    inside = np.abs(middles[:, 2]) < 2.49
    first = inside & (np.hypot(middles[:, 0], middles[:, 1]) < 1.01)
    other = inside & ~first & (np.abs(middles[:, 0] - 2.0 - wall_mm) < 1.01) & (np.abs(middles[:, 1]) < 5.99)
    labels = np.where(first, 1, np.where(other, 2, 0)).astype(np.int16)
    (found,) = wedge_findings(Part("part", part.mesh, labels, ("body", "bore-1", "bore-2")), PROCESS)
    assert (found.verdict, found.value) == (verdict, pytest.approx(wall_mm, abs=0.01))  # 48 and 96 corners in place of circles


@pytest.mark.parametrize("holes", [0, 1, 3])
def test_ways_through_are_counted(holes: int) -> None:
    assert handles_of(part_of(bored(*np.linspace(-10.0, 10.0, holes))).mesh) == holes


def test_a_way_that_was_not_declared_is_found_at_its_place_in_a_part_of_many_triangles() -> None:
    part = part_of(bored(6.0), handles=0, fine_mm=0.18)
    assert len(part.mesh.faces) > 46_341  # whose square is the first that 31 bits do not hold
    (found,) = handle_findings(part)
    assert found.where_mm is not None
    assert np.linalg.norm(np.array(found.where_mm)[:2] - [37.0, -17.0]) < 1.0


def test_a_way_that_was_not_declared_is_found_at_its_place_and_one_that_is_lost_is_missed_nowhere() -> None:
    (found,) = handle_findings(part_of(bored(6.0), handles=0))
    assert found.verdict == "fail"
    assert found.where_mm is not None
    assert np.linalg.norm(np.array(found.where_mm)[:2] - [37.0, -17.0]) < 1.0
    assert handle_findings(part_of(bored(6.0), handles=1))[0].verdict == "pass"
    assert handle_findings(part_of(bored(6.0), handles=2))[0].verdict == "fail"
    assert handle_findings(part_of(bored(6.0))) == ()


@pytest.mark.parametrize(("neck_mm", "verdict"), [(3.5, "pass"), (2.0, "fail")])
def test_a_room_with_a_narrow_neck_keeps_its_powder(neck_mm: float, verdict: str) -> None:
    room = Manifold.sphere(4.0, 64) + Manifold.cylinder(30.0, 0.5 * neck_mm, 0.5 * neck_mm, 64)
    (found,) = room_findings(part_of(block(16.0, 16.0, 16.0) - room), PROCESS)
    assert found.verdict == verdict
    if verdict == "fail":
        assert found.where_mm is not None
        assert np.linalg.norm(np.array(found.where_mm) - [31.0, -17.0, 140.0]) < 1.0


@pytest.mark.parametrize("fine_mm", [0.3, 2.0, 50.0])
@pytest.mark.parametrize(("process", "wide_mm", "verdict"), [
    ("pa12-sls", 0.82, "pass"), ("pa12-sls", 0.76, "fail"), ("peek-fff", 3.05, "pass"), ("peek-fff", 2.95, "fail"),
])  # fmt: skip
def test_a_pin_may_be_as_thin_as_the_process_builds_one(process: str, wide_mm: float, verdict: str, fine_mm: float) -> None:
    pin = Manifold.cylinder(5.0 * wide_mm, 0.5 * wide_mm, 0.5 * wide_mm, 48).rotate((0.0, 20.0, 0.0)).translate((3.0, 1.0, 2.0))
    (found,) = pin_findings(part_of(block(40.0, 20.0, 6.0) + pin, fine_mm=fine_mm), load_process(process))
    assert (found.verdict, found.value) == (verdict, pytest.approx(wide_mm, abs=0.02))
    assert found.where_mm is not None
    away = np.array(found.where_mm) - AWAY_MM - [3.0, 1.0, 2.0]
    along = np.array([np.sin(np.radians(20.0)), 0.0, np.cos(np.radians(20.0))])
    assert np.linalg.norm(away - (away @ along) * along) < 0.2  # on its axis
    assert 0.0 < away @ along < 5.0 * wide_mm


@pytest.mark.parametrize("body", [
    block(20.0, 10.0, 5.0) + Manifold.cylinder(3.5, 0.35, 0.35, 48).translate((3.0, 1.0, 0.0)),  # 1 mm of it stands out
    block(20.0, 20.0, 2.0),  # corners of a plate
    Manifold.hull_points(np.array([[x, y, z] for x, y in ((0, 0), (20, 8), (20, -8)) for z in (0, 1.5)])),  # pointed plate
    block(20.0, 10.0, 10.0) - block(12.0, 20.0, 20.0) + block(14.0, 2.0, 2.0),
], ids=["knob", "plate", "pointed plate", "bar held at both ends"])  # fmt: skip
def test_what_is_short_flat_or_held_at_both_ends_is_no_pin(body: Manifold) -> None:
    for process in (PROCESS, load_process("peek-fff")):
        (found,) = pin_findings(part_of(body), process)
        assert (found.verdict, found.where_mm) == ("pass", None)


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "pass"), (1.1, "fail"), (100.0, "fail")])
def test_what_stands_out_by_less_than_the_tolerance_belongs_to_the_surface(share: float, verdict: str) -> None:
    out_mm = share * PROCESS.tolerance_mm
    spike = Manifold.cylinder(out_mm + 0.5, 0.02, 0.02, 24).translate((3.0, 1.0, 2.0))
    (found,) = pin_findings(part_of(block(20.0, 10.0, 5.0) + spike), PROCESS)
    assert found.verdict == verdict


def drilled(wide_mm: float, *ways: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Part:
    """A block with round holes between places."""
    body = block(40.0, 30.0, 30.0)
    for start, end in ways:
        along = np.array(end) - start
        long = float(np.linalg.norm(along))
        turn = (0.0, float(np.degrees(np.arccos(along[2] / long))), float(np.degrees(np.arctan2(along[1], along[0]))))
        body -= Manifold.cylinder(long, 0.5 * wide_mm, 0.5 * wide_mm, 48).rotate(turn).translate(start)
    return part_of(body)


IN, UP, OUT = ((-8.0, 0.0, 25.0), (-8.0, 0.0, 0.0)), ((8.0, 0.0, 0.0), (8.0, 0.0, 25.0)), ((-8.0, 0.0, 0.0), (8.0, 0.0, 0.0))


@pytest.mark.parametrize(("wide_mm", "verdict"), [(4.05, "pass"), (3.9, "warn")])
def test_a_channel_out_of_sight_is_as_wide_as_the_process_empties(wide_mm: float, verdict: str) -> None:
    (found,) = channel_findings(drilled(wide_mm, IN, UP, OUT), PROCESS)
    assert (found.verdict, found.value) == (verdict, pytest.approx(wide_mm, abs=0.02))
    assert found.where_mm is not None
    assert np.abs(np.array(found.where_mm) - AWAY_MM)[[1, 2]].max() < 0.5


@pytest.mark.parametrize("ways", [(IN,), (IN, (OUT[0], (25.0, 0.0, 0.0))), (((-25.0, 0.0, 0.0), (25.0, 0.0, 0.0)),)])
def test_what_can_be_looked_into_from_outside_is_a_hole_and_no_channel(
    ways: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...],
) -> None:
    (found,) = channel_findings(drilled(2.0, *ways), PROCESS)
    assert (found.verdict, found.where_mm) == ("pass", None)


def test_a_straight_hole_of_more_than_thirty_widths_is_a_channel() -> None:
    (found,) = channel_findings(drilled(1.2, ((-25.0, 0.0, 0.0), (25.0, 0.0, 0.0))), PROCESS)
    assert (found.verdict, found.value) == ("warn", pytest.approx(1.2, abs=0.02))
