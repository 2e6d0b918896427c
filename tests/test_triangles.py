"""Passes over triangles against the libraries: edges, pieces, fans, heights, areas, moments, the curve, shared places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from batchone.design.across import across, cells_of
from batchone.design.checks.coincident import coincident_triangles
from batchone.design.checks.mesh import is_closed, measure_mesh
from batchone.design.checks.walls import SPOT_MM2, measure_walls
from batchone.design.contact.field import within
from batchone.design.crossings import along_curve
from batchone.design.nearest import indexed, nearest_mm, nearest_points
from batchone.design.triangles import area_vectors, areas_mm2, by_edge, fans, heights_mm, joined_vertices, moments
from batchone.pipeline.values import Mesh

heaps = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(3, 40))


def heap(seed: int, triangles: int, vertices: int) -> Mesh:
    """Any triangles over some vertices: open, branching, flipped, pinched, with corners that fall together."""
    rng = np.random.default_rng(seed)
    faces = rng.integers(0, vertices, (triangles, 3)).astype(np.int32)
    return Mesh(rng.normal(0.0, 5.0, (vertices, 3)), faces)


def ball(subdivisions: int = 3) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=subdivisions, radius=10.0)
    return Mesh(np.array(made.vertices, dtype=np.float64), np.array(made.faces, dtype=np.int32))


@settings(max_examples=60, deadline=None)
@given(heaps)
def test_half_edges_lie_by_their_edge_in_rising_order(made: tuple[int, int, int]) -> None:
    mesh = heap(*made)
    order, starts = by_edge(mesh)
    directed = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    key = np.sort(directed, axis=1) @ np.array([len(mesh.vertices_mm), 1])
    wanted = np.argsort(key, kind="stable")
    np.testing.assert_array_equal(order, wanted)
    np.testing.assert_array_equal(starts[:-1], np.flatnonzero(np.r_[True, np.diff(key[wanted]) != 0]))
    assert starts[-1] == len(key)


def test_a_vertex_with_many_edges_is_sorted_too() -> None:
    count = 500
    turn = np.random.default_rng(3).permutation(count)
    around = np.column_stack([np.zeros(count), turn + 1, (turn + 1) % count + 1]).astype(np.int32)
    order, starts = by_edge(Mesh(np.zeros((count + 1, 3)), around))
    assert len(starts) - 1 == 2 * count
    assert (np.diff(starts[: count + 1]) == 2).all()  # spokes
    ends = around[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).max(axis=1)
    assert (np.diff(ends[order[: 2 * count]]) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(heaps)
def test_what_hangs_together_is_what_the_library_says(made: tuple[int, int, int]) -> None:
    mesh = heap(*made)
    count = len(mesh.vertices_mm)
    rows, columns = mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel()
    wanted = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count)), directed=False)[1]
    least = np.array([np.flatnonzero(wanted == label)[0] for label in wanted])
    np.testing.assert_array_equal(joined_vertices(mesh), least)


@settings(max_examples=60, deadline=None)
@given(heaps)
def test_fans_are_corners_joined_across_edges_of_two_triangles(made: tuple[int, int, int]) -> None:
    rng, (seed, triangles, vertices) = np.random.default_rng(made[0]), made
    some = np.vstack([heap(seed, triangles, vertices).faces, ball(1).faces % vertices])[: rng.integers(1, 60)]
    real = (some != np.roll(some, 1, axis=1)).all(axis=1)  # a real triangle has three corners
    mesh = Mesh(np.zeros((vertices, 3)), np.ascontiguousarray(some[real]))
    order, starts = by_edge(mesh)
    links = []
    for at in np.flatnonzero(np.diff(starts) == 2):
        one, other = order[starts[at]], order[starts[at] + 1]
        for corner in (one, 3 * (one // 3) + (one + 1) % 3):
            same = [c for c in (other, 3 * (other // 3) + (other + 1) % 3) if mesh.faces.flat[c] == mesh.faces.flat[corner]]
            links += [(corner, c) for c in same]
    corners = 3 * len(mesh.faces)
    rows, columns = np.array(links, dtype=int).reshape(-1, 2).T
    fan = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(corners, corners)), directed=False)[1]
    wanted = [len(set(fan[mesh.faces.ravel() == vertex])) for vertex in range(vertices)]
    np.testing.assert_array_equal(fans(mesh, order, starts), wanted)


@settings(max_examples=60, deadline=None)
@given(heaps)
def test_heights_and_areas_are_those_of_the_sides(made: tuple[int, int, int]) -> None:
    mesh = heap(*made)
    corners = mesh.vertices_mm[mesh.faces]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    vectors = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(area_vectors(mesh), vectors, atol=1e-12)
    np.testing.assert_allclose(areas_mm2(mesh), 0.5 * twice, atol=1e-12)
    np.testing.assert_allclose(heights_mm(mesh), twice / np.maximum(sides.max(axis=1), 1e-30), atol=1e-9)


def test_moments_are_the_librarys_and_turn_with_the_body() -> None:
    made = trimesh.creation.annulus(3.0, 9.0, 7.0)
    made.apply_transform(trimesh.transformations.rotation_matrix(1.1, [1.0, 2.0, -0.5], [4.0, 0.0, 30.0]))
    made.apply_translation([120.0, -300.0, 900.0])
    mesh = Mesh(np.array(made.vertices, dtype=np.float64), np.array(made.faces, dtype=np.int32))
    volume, middle = moments(mesh)
    assert volume == pytest.approx(made.volume, rel=1e-9)
    np.testing.assert_allclose(middle, made.center_mass, atol=1e-6)
    inside_out, same = moments(Mesh(mesh.vertices_mm, np.ascontiguousarray(mesh.faces[:, ::-1])))
    assert inside_out == pytest.approx(-volume, rel=1e-12)
    np.testing.assert_allclose(same, middle, atol=1e-9)
    assert moments(Mesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int32)))[0] == 0.0


def test_the_curve_holds_each_triangle_once_and_keeps_neighbours_near() -> None:
    mesh = ball(4)
    shuffled = Mesh(mesh.vertices_mm, mesh.faces[np.random.default_rng(1).permutation(len(mesh.faces))])
    order = along_curve(shuffled)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(order)))
    middles = shuffled.vertices_mm[shuffled.faces].mean(axis=1)
    steps = [np.median(np.linalg.norm(np.diff(one, axis=0), axis=1)) for one in (middles, middles[order])]
    assert steps[1] < 0.1 * steps[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_triangles_on_one_another_are_found_among_any_others(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    alone = rng.normal(0.0, 20.0, (count, 3, 3))
    doubled = rng.choice(count, rng.integers(0, count), replace=False)
    again = np.array([alone[k][rng.permutation(3)] for k in doubled]).reshape(-1, 3, 3)  # either way round
    corners = np.concatenate([alone, again])
    mesh = Mesh(corners.reshape(-1, 3), np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3))
    wanted = sorted([*doubled.tolist(), *range(count, len(corners))])
    assert coincident_triangles(mesh).tolist() == wanted


@pytest.mark.parametrize("reach_mm", [0.2, 3.0, 12.0])
def test_what_is_within_reach_is_told_as_by_measuring(reach_mm: float) -> None:
    surface, rng = ball(3), np.random.default_rng(5)
    points = np.concatenate([rng.uniform(-30.0, 30.0, (4000, 3)), (10.0 + reach_mm) * np.eye(3) * (1.0 + 1e-6)])
    np.testing.assert_array_equal(within(points, indexed(surface), reach_mm), nearest_mm(points, surface) < reach_mm)


@pytest.mark.parametrize("cut_mm", [0.0, -8.0])
def test_places_before_a_flat_end_of_few_large_triangles_are_within_reach(cut_mm: float) -> None:
    """A dome of fine triangles on a flat end of long ones: the end's middle has no vertex near."""
    turns, rings = 256, 60
    polar = np.linspace(0.02, np.arccos(cut_mm / 20.0), rings)
    around = 2.0 * np.pi * np.arange(turns) / turns
    x, y, z = (
        np.outer(np.sin(polar), np.cos(around)),
        np.outer(np.sin(polar), np.sin(around)),
        np.outer(np.cos(polar), turns * [1]),
    )
    dome = 20.0 * np.stack([x, y, z], axis=-1).reshape(-1, 3)
    k, after = np.arange(turns), (np.arange(turns) + 1) % turns
    faces = [np.column_stack([r * turns + k, (r + 1) * turns + k, r * turns + after]) for r in range(rings - 1)]
    last = (rings - 1) * turns
    faces += [np.column_stack([np.full(turns - 2, last), last + k[2:], last + k[1:-1]])]  # a fan over the whole end
    surface = Mesh(dome, np.concatenate(faces).astype(np.int32))
    points = np.column_stack([*np.random.default_rng(8).uniform(-8.0, 8.0, (2, 500)), np.full(500, cut_mm - 2.0)])
    assert (nearest_mm(points, surface) < 5.0).all()
    assert within(points, indexed(surface), 5.0).all()


def test_the_order_of_the_points_never_changes_which_of_equal_triangles_is_named() -> None:
    surface, rng = ball(4), np.random.default_rng(9)
    wanted = nearest_points(surface.vertices_mm, surface)[1]
    for _ in range(10):
        order = rng.permutation(len(surface.vertices_mm))
        np.testing.assert_array_equal(nearest_points(surface.vertices_mm[order], surface)[1], wanted[order])
    first = np.full(len(surface.vertices_mm), len(surface.faces))
    np.minimum.at(first, surface.faces.ravel(), np.repeat(np.arange(len(surface.faces)), 3))
    np.testing.assert_array_equal(wanted, first)


def test_an_edge_from_a_vertex_to_itself_closes_nothing() -> None:
    folded = Mesh(np.eye(3), np.array([[0, 0, 1], [0, 0, 2]], dtype=np.int32))
    assert not is_closed(folded)
    assert measure_mesh(folded).flipped_edges > 0


@pytest.mark.parametrize("vertex", [-1, 3])
@pytest.mark.parametrize("measured", [by_edge, joined_vertices, heights_mm, area_vectors, moments])
def test_a_triangle_of_a_vertex_that_is_not_there_is_refused(measured: Callable[[Mesh], object], vertex: int) -> None:
    with pytest.raises(IndexError, match="vertices"):
        measured(Mesh(np.eye(3), np.array([[0, 1, vertex]], dtype=np.int32)))


def test_a_bound_of_each_point_is_kept_by_each() -> None:
    surface, rng = ball(3), np.random.default_rng(6)
    points = rng.uniform(-20.0, 20.0, (2000, 3))
    free, bounds = nearest_mm(points, surface), rng.uniform(0.0, 12.0, 2000)
    np.testing.assert_array_equal(nearest_mm(points, surface, within_mm=bounds), np.where(free <= bounds, free, np.inf))


def test_a_sample_of_walls_stands_for_all_of_their_area(monkeypatch: pytest.MonkeyPatch) -> None:
    outer, inner = ball(4), ball(4)
    hollow = Mesh(
        np.vstack([outer.vertices_mm, 0.8 * inner.vertices_mm]),
        np.vstack([outer.faces, inner.faces[:, ::-1] + len(outer.vertices_mm)]).astype(np.int32),
    )
    every = measure_walls(hollow)
    monkeypatch.setattr("batchone.design.checks.walls._FEW_RAYS", 1000)
    monkeypatch.setattr("batchone.design.checks.walls._MOST_RAYS", len(hollow.faces) // 4)
    some = measure_walls(hollow)
    assert len(some.face) < 0.3 * len(every.face)
    assert some.area_mm2.sum() == pytest.approx(every.area_mm2.sum(), rel=0.05)
    assert (some.thinnest_spot(hollow, 2.5)[1] is None) == (every.thinnest_spot(hollow, 2.5)[1] is None)
    assert measure_walls(hollow, up_to_mm=1.0).face.size == 0
    gap = measure_walls(hollow, np.arange(len(hollow.faces)) >= len(outer.faces), outside=True)  # across the hollow
    assert np.median(gap.thickness_mm) == pytest.approx(16.0, abs=0.2)


def test_a_plate_of_few_triangles_is_looked_from_by_each_beside_a_great_many_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchone.design.checks.walls._FEW_RAYS", 1000)
    fine, plate = ball(5), trimesh.creation.box((10.0, 10.0, 0.4))
    many, small_mm2 = len(fine.faces), 4.0 * np.pi * 2.0**2
    both = Mesh(
        np.vstack([0.2 * fine.vertices_mm, np.array(plate.vertices) + np.array([20.0, 0.0, 0.0])]),
        np.vstack([fine.faces, np.array(plate.faces) + len(fine.vertices_mm)]).astype(np.int32),
    )
    walls = measure_walls(both)
    of_plate = walls.face >= many
    assert set(walls.face[of_plate].tolist()) == set(range(many, many + 12))
    assert walls.area_mm2[of_plate].sum() == pytest.approx(2.0 * 100.0 + 4.0 * 4.0, abs=SPOT_MM2)
    assert 7.0 * small_mm2 / SPOT_MM2 < np.count_nonzero(~of_plate) < 9.0 * small_mm2 / SPOT_MM2
    assert walls.area_mm2[~of_plate].sum() == pytest.approx(small_mm2, abs=SPOT_MM2)
    assert walls.thinnest_spot(both, 1.0)[0] == pytest.approx(0.4, abs=1e-6)


def first_met(mesh: Mesh, triangle: int, sign: float) -> tuple[float, set[int], float]:
    """The least distance from a triangle's middle along its normal to any other, every triangle tried, the triangles that lie so
    far, and the least share of a side between where any is met or missed and an edge: near 0 rounding decides."""
    corners = mesh.vertices_mm[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    along = sign * normals[triangle] / np.linalg.norm(normals[triangle])
    start = corners[triangle].mean(axis=0) + 1e-4 * along
    sides = np.stack(
        [corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], np.broadcast_to(-along, normals.shape)], axis=2
    )
    steep = np.abs(np.linalg.det(sides)) > 1e-9
    s, t, far = np.linalg.solve(sides[steep], (start - corners[steep, 0])[:, :, None])[:, :, 0].T
    ahead, inside = far > 0.0, (far > 0.0) & (s >= 0.0) & (t >= 0.0) & (s + t <= 1.0)
    unsure = float(np.abs(np.stack([s, t, 1.0 - s - t]))[:, ahead].min(initial=np.inf))
    least = float(far[inside].min(initial=np.inf))
    return least + 1e-4, set(np.flatnonzero(steep)[inside & (far <= least + 1e-9)].tolist()), unsure


@settings(max_examples=60, deadline=None)
@given(heaps, st.sampled_from([60.0, 6.0, 0.02]))
def test_what_lies_across_is_the_first_of_all_triangles_in_small_and_large_cells(
    what: tuple[int, int, int], per_cell: float
) -> None:
    mesh = heap(*what)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("batchone.design.across._PER_CELL", per_cell)
        cells = cells_of(mesh)
    rays = np.flatnonzero(areas_mm2(mesh)[cells.order] > 1e-6).astype(np.int32)
    for outside, sign in ((False, -1.0), (True, 1.0)):
        distance, met, cosine = across(cells, rays, outside=outside, reach_mm=np.inf)
        for ray, one in enumerate(rays):
            wanted_mm, faces, unsure = first_met(mesh, int(cells.order[one]), sign)
            if unsure < 1e-6:
                continue
            assert distance[ray] == pytest.approx(wanted_mm, rel=1e-9, abs=1e-7)
            assert (met[ray] < 0 and not faces) or int(cells.order[met[ray]]) in faces
            assert -1.0 - 1e-9 <= cosine[ray] <= 1.0 + 1e-9


def test_rays_reach_no_further_than_asked_and_two_parallel_plates_face_each_other() -> None:
    square = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [4.0, 4.0, 0.0], [0.0, 4.0, 0.0]])
    up, down = np.array([[0, 1, 2], [0, 2, 3]]), np.array([[4, 6, 5], [4, 7, 6]])
    gap = Mesh(np.vstack([square, square + np.array([0.0, 0.0, 1.5])]), np.vstack([up, down]).astype(np.int32))
    cells = cells_of(gap)
    rays = np.arange(4, dtype=np.int32)
    near, far = (across(cells, rays, outside=True, reach_mm=reach) for reach in (1.4998, 1.5))
    np.testing.assert_array_equal(near[1], -1)
    np.testing.assert_allclose(far[0], 1.5, atol=1e-12)
    np.testing.assert_allclose(far[2], 1.0, atol=1e-12)
    assert (across(cells, rays, outside=False, reach_mm=np.inf)[1] < 0).all()


def test_a_bone_asked_elsewhere_has_the_distances_and_places_of_the_bone_moved_there() -> None:
    bone, rng = ball(4), np.random.default_rng(8)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.linalg.qr(rng.normal(size=(3, 3)))[0], (30.0, -200.0, 900.0)
    pose[:3, 0] *= np.sign(np.linalg.det(pose[:3, :3]))
    moved, points = bone.moved(pose), rng.uniform(-15.0, 15.0, (500, 3)) @ pose[:3, :3].T + pose[:3, 3]
    placed = indexed(bone).asked_as(moved, np.linalg.inv(pose))
    wanted, found = nearest_points(points, moved), nearest_points(points, placed)
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-9)
    np.testing.assert_allclose(found[2], wanted[2], atol=1e-6)
