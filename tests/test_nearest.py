"""Closest points are those of the library, near and far, with one triangle or many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from point_cloud_utils import closest_points_on_mesh
from trimesh.creation import box, icosphere

from batchone.design.contact.field import REACH_MM
from batchone.design.cranial.columns import meeting
from batchone.design.guide.checks import _nearest_of
from batchone.design.nearest import indexed, nearest_mm, nearest_points
from batchone.pipeline.values import Mesh

ROUNDING_MM = 1e-9


def mesh_of(shape) -> Mesh:  # type: ignore[no-untyped-def]
    return Mesh(np.array(shape.vertices, dtype=np.float64), np.array(shape.faces, dtype=np.int32))


BALL = mesh_of(icosphere(subdivisions=4, radius=20.0))


@pytest.mark.parametrize("spread_mm", [0.1, 2.0, 30.0, 500.0])
def test_distances_are_the_librarys_at_any_reach(spread_mm: float) -> None:
    rng = np.random.default_rng(1)
    points = BALL.vertices_mm[rng.integers(0, len(BALL.vertices_mm), 500)] + rng.normal(0.0, spread_mm, (500, 3))
    distance, face, closest = nearest_points(points, BALL)
    wanted = closest_points_on_mesh(points, BALL.vertices_mm, BALL.faces)[0]
    assert np.abs(distance - wanted).max() < ROUNDING_MM * (1.0 + spread_mm)
    assert np.abs(np.linalg.norm(closest - points, axis=1) - wanted).max() < ROUNDING_MM * (1.0 + spread_mm)
    assert face.min() >= 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_any_heap_of_triangles_gives_the_librarys_distances(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.normal(0.0, 5.0, (count, 1, 3)) + rng.normal(0.0, rng.uniform(0.01, 5.0), (count, 3, 3))
    heap = Mesh(corners.reshape(-1, 3), np.arange(3 * count, dtype=np.int32).reshape(-1, 3))
    points = rng.normal(0.0, 10.0, (50, 3))
    wanted = closest_points_on_mesh(points, heap.vertices_mm, heap.faces)[0]
    assert np.abs(nearest_mm(points, heap) - wanted).max() < 1e-6  # the library's own rounding on needles


def test_a_single_far_point_has_its_distance() -> None:
    assert nearest_mm(np.array([[500.0, 0.0, 0.0]]), BALL)[0] == pytest.approx(480.0, abs=0.1)


def test_beyond_the_asked_reach_nothing_is_given_and_within_it_everything() -> None:
    cube = mesh_of(box(extents=(10.0, 10.0, 10.0)))
    points = np.array([[5.0 + d, 0.0, 0.0] for d in (0.999, 1.001, 400.0)])
    distance, face, closest = nearest_points(points, cube, within_mm=1.0)
    assert distance[0] == pytest.approx(0.999)
    assert np.isinf(distance[1:]).all()
    assert (face[1:] == -1).all()
    assert np.isnan(closest[1:]).all()


def test_of_equally_near_triangles_the_first_is_named() -> None:
    flat = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]), np.array([[0, 1, 2], [1, 3, 2]], dtype=np.int32))
    assert nearest_points(np.array([[0.5, 0.5, 1.0]]), flat)[1][0] == 0


def test_a_triangle_without_area_hides_nothing() -> None:
    line = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 1, 3]], dtype=np.int32))
    assert nearest_mm(np.array([[0.2, 0.2, 3.0]]), line)[0] == pytest.approx(3.0)


def test_no_points_and_no_surface() -> None:
    assert len(nearest_mm(np.empty((0, 3)), BALL)) == 0
    assert np.isinf(nearest_mm(np.zeros((2, 3)), Mesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int32)))).all()


@pytest.mark.parametrize("within_mm", [0.05, 1.0, 8.0, 30.0])
def test_a_bounded_search_gives_the_same_within_its_bound_and_nothing_beyond(within_mm: float) -> None:
    points = np.random.default_rng(3).normal(0.0, 20.0, (2000, 3))
    distance, face, _ = nearest_points(points, BALL)
    bounded, same, _ = nearest_points(points, BALL, within_mm=within_mm)
    near = distance <= within_mm
    assert 0 < near.sum() < len(near)
    assert np.array_equal(bounded, np.where(near, distance, np.inf))
    assert np.array_equal(same, np.where(near, face, -1))


@pytest.mark.parametrize("shift_mm", [-6.0, -0.5, 0.5, 5.0, 40.0])
def test_the_place_of_a_part_nearest_to_bone_is_found_deep_in_it_close_to_it_and_far_off(shift_mm: float) -> None:
    part = mesh_of(icosphere(subdivisions=2, radius=3.0))
    part.vertices_mm[:, 2] += 23.0 + shift_mm
    inside = np.linalg.norm(part.vertices_mm, axis=1) < 20.0 - 0.1
    which, found = _nearest_of(part, indexed(BALL), inside)
    outside = np.linalg.norm(part.vertices_mm, axis=1) - 20.0
    assert found == pytest.approx(min(float(outside.min()), REACH_MM), abs=0.1)
    assert outside[which] == pytest.approx(outside.min(), abs=0.1) or found == REACH_MM


def test_the_triangles_that_meet_a_box_are_all_but_those_wholly_beyond_one_of_its_walls() -> None:
    low, high, axes = np.array([-5.0, 2.0, -np.inf]), np.array([30.0, 9.0, 12.0]), np.linalg.qr(BALL.vertices_mm[:3])[0]
    for turned in (None, axes):
        corners = (BALL.vertices_mm if turned is None else BALL.vertices_mm @ turned)[BALL.faces]
        wanted = ((corners.max(axis=1) >= low) & (corners.min(axis=1) <= high)).all(axis=1)
        assert 0 < wanted.sum() < len(wanted)
        assert np.array_equal(meeting(BALL, low, high, axes=turned), wanted)
