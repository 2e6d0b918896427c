"""The contact engine on bodies of known shape: distances, way out, contact at the offset, relief, edges."""

from __future__ import annotations

import numpy as np
import pytest

from batchone.design.booleans import difference, to_mesh
from batchone.design.contact.field import EXACT_MM, NEAR_MM, REACH_MM, lattice_over, nearest_on_the_way, signed_distance_mm
from batchone.design.contact.ground import Relief, ground_of, seen
from batchone.design.contact.neighbours import Neighbours
from batchone.design.contact.seat import CONTACT, RELIEF, Ground, level_map_mm, make_seat
from batchone.design.contact.shell import capsule_mm, from_nearest, make_shell, rounded
from batchone.design.nearest import nearest_mm
from batchone.pipeline.values import Bone, FloatArray, Mesh

OFFSET_MM = 0.2


def ball(radius_mm: float = 12.0, middle: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    """A ball of triangles of about 0.7 mm, whose vertices lie on it."""
    import trimesh

    made = trimesh.creation.icosphere(subdivisions=5, radius=radius_mm)
    return Mesh(np.asarray(made.vertices, dtype=np.float64) + middle, np.asarray(made.faces, dtype=np.int32))


def bone(mesh: Mesh, sigma_mm: float = 0.05) -> Bone:
    return Bone("ball", "midline", True, 1.0, 7000.0, mesh, np.eye(4), np.full(len(mesh.vertices_mm), sigma_mm))


def ground(mesh: Mesh | None = None, others: tuple[Mesh, ...] = (), offset_mm: float = OFFSET_MM) -> Ground:
    low, high = np.array([-14.0, -14.0, -2.0]), np.array([14.0, 14.0, 20.0])
    return ground_of(bone(mesh or ball()), Neighbours(tuple(bone(o) for o in others)), np.eye(4), low, high, offset_mm=offset_mm)


def disc(one: Ground, radius_mm: float) -> FloatArray:
    middle = np.zeros(2)
    return capsule_mm(one.lattice, middle, middle, radius_mm)


def test_distances_are_exact_beside_the_level_and_right_in_sign() -> None:
    lattice = lattice_over(np.array([-15.0, -15.0, -3.0]), np.array([15.0, 15.0, 16.0]), 0.3)
    found = signed_distance_mm(ball(), lattice, level_mm=OFFSET_MM)
    index = np.indices(lattice.shape).reshape(3, -1).T
    true = np.linalg.norm(lattice.origin_mm + index * lattice.step_mm, axis=1).reshape(lattice.shape) - 12.0
    near = np.abs(true - OFFSET_MM) < 0.3
    assert np.abs(found - true)[near].max() < 0.012  # what chords of 0.7 mm take off a ball of 12 mm
    assert np.abs(found - np.clip(true, -REACH_MM, REACH_MM)).max() < 0.35
    assert ((found < 0.0) == (true < 0.0))[np.abs(true) > 0.02].all()


def test_a_look_from_afar_is_right_beyond_two_millimetres_and_in_sign() -> None:
    lattice = lattice_over(np.array([-20.0, -20.0, -6.0]), np.array([20.0, 20.0, 20.0]), 1.2)
    found = signed_distance_mm(ball(), lattice, every=1, far_only=True)
    index = np.indices(lattice.shape).reshape(3, -1).T
    places = lattice.origin_mm + index * lattice.step_mm
    exact = np.minimum(nearest_mm(places, ball()), REACH_MM).reshape(lattice.shape)
    far = exact > NEAR_MM
    assert np.abs(np.abs(found) - exact)[far].max() < 0.1  # triangles of 0.7 mm and vertices thinned to one in 0.5 mm
    assert (np.abs(found) >= exact - 1e-4).all()  # never nearer than it is: single precision
    assert ((found < 0.0) == (np.linalg.norm(places, axis=1) < 12.0).reshape(lattice.shape)).all()


def test_distances_seen_from_above_over_some_columns_are_those_of_all_where_something_is_made() -> None:
    lattice = lattice_over(np.array([-15.0, -15.0, -14.0]), np.array([15.0, 15.0, 16.0]), 0.3)
    over = capsule_mm(lattice, np.array([-5.0, 2.0]), np.array([3.0, 2.0]), 4.0) < 0.0
    everywhere = signed_distance_mm(ball(), lattice, level_mm=OFFSET_MM)
    found = signed_distance_mm(ball(), lattice, level_mm=OFFSET_MM, over=over)
    reached = nearest_on_the_way(everywhere)
    seen_there = (np.abs(everywhere - OFFSET_MM) < EXACT_MM) & (reached > OFFSET_MM - EXACT_MM) & over[:, :, None]
    assert seen_there.sum() > 1000
    assert (found[seen_there] == everywhere[seen_there]).all()
    assert np.abs(nearest_on_the_way(found) - reached)[over][np.abs(reached[over] - OFFSET_MM) < EXACT_MM].max() < 1e-6
    assert np.abs(found - everywhere).max() < 0.35  # elsewhere as without a level
    below = (lattice.z_mm < -2.0)[None, None] & (np.abs(everywhere - OFFSET_MM) < EXACT_MM)
    assert (found[below] != everywhere[below]).any()  # not measured: nothing is made below the ball


def test_nothing_comes_nearer_on_its_way_out_than_was_found() -> None:
    one = ground()
    reached = nearest_on_the_way(one.distance_mm)
    assert (reached <= one.distance_mm).all()
    assert (np.diff(reached, axis=2) >= 0.0).all()
    assert (reached[:, :, -1] == one.distance_mm[:, :, -1]).all()


def test_contact_lies_at_the_offset_and_only_in_the_zones() -> None:
    one = ground()
    zones = disc(one, 5.0) < 0.0
    seat = make_seat(one, zones=zones, offset_mm=OFFSET_MM, relief_mm=1.0, apart_mm=1.0)
    mesh, faces, labels = to_mesh(seat.solid())
    points = mesh.vertices_mm[np.unique(mesh.faces[faces == labels.index(CONTACT)])]
    assert np.abs(np.linalg.norm(points, axis=1) - 12.0 - OFFSET_MM).max() < 0.012
    assert np.hypot(points[:, 0], points[:, 1]).max() < 5.0 + 0.5
    assert np.hypot(points[:, 0], points[:, 1]).max() > 4.0
    far = mesh.vertices_mm[(np.hypot(mesh.vertices_mm[:, 0], mesh.vertices_mm[:, 1]) > 7.0) & (mesh.vertices_mm[:, 2] > 0.0)]
    assert (np.linalg.norm(far, axis=1) > 12.0 + 1.0 - 0.05).all()


@pytest.mark.parametrize("offset_mm", [0.1, 0.5])
def test_every_offset_within_the_limits_is_met(offset_mm: float) -> None:
    one = ground(offset_mm=offset_mm)
    seat = make_seat(one, zones=disc(one, 6.0) < 0.0, offset_mm=offset_mm, relief_mm=1.0, apart_mm=1.0)
    mesh, faces, labels = to_mesh(seat.solid())
    points = mesh.vertices_mm[np.unique(mesh.faces[faces == labels.index(CONTACT)])]
    assert np.abs(np.linalg.norm(points, axis=1) - 12.0 - offset_mm).max() < 0.012


def test_below_the_widest_place_of_a_ball_nothing_is_left_to_catch() -> None:
    one = ground()
    seat = make_seat(one, zones=disc(one, 13.5) < 0.0, offset_mm=OFFSET_MM, relief_mm=OFFSET_MM, apart_mm=1.0)
    mesh, faces, labels = to_mesh(seat.solid())
    side = mesh.vertices_mm[(mesh.vertices_mm[:, 2] < -0.5) & (mesh.vertices_mm[:, 2] > -1.5)]
    across = np.hypot(side[:, 0], side[:, 1])
    wall = across[(across > 11.0) & (across < 13.0)]
    assert np.abs(wall - 12.0 - OFFSET_MM).max() < 0.03  # a straight wall below the equator, not the ball's own side
    contact = mesh.vertices_mm[np.unique(mesh.faces[faces == labels.index(CONTACT)])]
    assert (contact[:, 2] > 2.0).all()  # flanks do not carry


def test_what_must_not_be_touched_keeps_its_distance() -> None:
    other = ball(6.0, (0.0, 0.0, 19.0))
    one = ground(others=(other,))
    seat = make_seat(one, zones=disc(one, 4.0) < 0.0, offset_mm=OFFSET_MM, relief_mm=1.0, apart_mm=1.5)
    mesh, faces, labels = to_mesh(seat.solid())
    assert CONTACT not in {labels[k] for k in set(faces.tolist())}  # the neighbour hangs over the whole zone
    beside = mesh.vertices_mm[(mesh.vertices_mm[:, 2] > 14.0) & (mesh.vertices_mm[:, 2] < 18.0)]
    gap = np.linalg.norm(beside - [0.0, 0.0, 19.0], axis=1) - 6.0
    assert gap.min() > 1.5 - 0.1


def test_a_shell_keeps_its_thickness_over_the_contact_and_has_no_thin_edges() -> None:
    from batchone.design.checks.walls import measure_walls

    one = ground()
    zones = disc(one, 6.0) < 0.0
    seat = make_seat(one, zones=zones, offset_mm=OFFSET_MM, relief_mm=1.0, apart_mm=1.0)
    flat = np.full(zones.shape, 0.0)
    shell = make_shell(
        one, seat, footprint_mm=disc(one, 8.0), floor_mm=flat + 4.0, cap_mm=flat + 18.0, outside_mm=3.2, wall_mm=1.5
    )
    body = difference(shell.solid(), seat.solid(), what="seat")
    mesh, faces, labels = to_mesh(body)
    walls = measure_walls(mesh, faces == labels.index(CONTACT))
    assert abs(float(np.median(walls.thickness_mm)) - 3.0) < 0.03
    everywhere = measure_walls(mesh)
    thin = everywhere.area_mm2[everywhere.thickness_mm < 1.0].sum() / everywhere.area_mm2.sum()
    assert thin < 0.001
    assert RELIEF in labels


def test_a_level_map_rises_outside_of_the_zones_and_nowhere_else() -> None:
    zones = np.zeros((80, 80), dtype=np.bool_)
    zones[20:60, 20:60] = True
    level = level_map_mm(zones, 0.3, offset_mm=0.2, relief_mm=1.2)
    assert np.abs(level[24:56, 24:56] - 0.2).max() < 1e-6
    assert level[0, 0] == pytest.approx(1.2)
    assert level.min() == pytest.approx(0.2)
    assert np.abs(np.diff(level, axis=0)).max() <= 0.3 * 1.01  # 45 degrees
    assert level_map_mm(np.zeros_like(zones), 0.3, offset_mm=0.2, relief_mm=1.2).min() == pytest.approx(1.2)


def test_unsure_and_steep_bone_carries_nothing() -> None:
    one = ground()
    mesh = ball()
    sigma = np.where(mesh.vertices_mm[:, 0] > 0.0, 0.5, 0.05)
    unsure = Bone("ball", "midline", True, 1.0, 7000.0, mesh, np.eye(4), sigma)
    found = seen(one, unsure, most_sigma_mm=0.3, apart_mm=1.0, least_facing=0.5)
    assert isinstance(found, Relief)
    x, y = np.broadcast_arrays(one.lattice.x_mm, one.lattice.y_mm)
    assert not found.carries[x > 0.5].any()
    radius = np.hypot(x, y)
    assert found.carries[(x < -1.0) & (radius < 9.5)].all()  # facing 0.5 is a place 60 degrees off the top, at 10.4 mm
    assert not found.carries[(radius > 10.8)].any()
    assert np.isnan(found.height_mm[radius > 12.5]).all()
    assert np.abs(found.height_mm[radius < 6.0] - np.sqrt(144.0 - radius[radius < 6.0] ** 2)).max() < 0.02


def test_columns_without_a_value_take_that_of_the_nearest() -> None:
    values = np.array([[1.0, 0.0, 0.0, 5.0]])
    known = np.array([[True, False, False, True]])
    assert from_nearest(values, known).tolist() == [[1.0, 1.0, 5.0, 5.0]]


def test_bones_that_were_told_apart_and_not_ordered_are_kept_clear_too() -> None:
    from batchone.design.contact.neighbours import neighbours
    from batchone.pipeline.values import Anatomy, FieldOfView, Label, VoxelLabels

    touched = bone(ball())
    affine = np.diag([0.8, 0.8, 1.0, 1.0])
    affine[:3, 3] = (-20.0, -20.0, 10.0)
    start = np.arange(20, 30, dtype=np.int32)[:, None] * 50 + 20 + 2500 * np.arange(6, 10, dtype=np.int32)[None]
    runs = np.sort(start.ravel())
    labels = VoxelLabels(
        affine, (20, 50, 50), runs, np.full(len(runs), 10, dtype=np.int16), np.full(len(runs), 2, dtype=np.uint8),
        (Label(1, "ball", "midline", True, 1.0), Label(2, "rib", "left", True, 0.5)),
    )  # fmt: skip
    anatomy = Anatomy((touched,), (), FieldOfView(affine, (20, 50, 50)), labels=labels)
    found = neighbours(anatomy, touched)
    assert found.values == (2,)
    lattice = lattice_over(np.array([-10.0, -10.0, 8.0]), np.array([10.0, 10.0, 22.0]), 1.0)
    distance = found.distance_mm(lattice, np.eye(4), every=1)
    assert distance is not None
    block_low, block_high = np.array([-4.0, -4.0, 16.0]), np.array([3.2, 3.2, 19.0])  # middles of its voxels
    places = lattice.origin_mm + np.indices(lattice.shape).reshape(3, -1).T * lattice.step_mm
    true = np.linalg.norm(np.maximum(np.maximum(block_low - places, places - block_high), 0.0), axis=1).reshape(lattice.shape)
    assert np.abs(distance - np.clip(true - 0.75, -1.0, REACH_MM))[true > 0.0].max() < 0.6
    assert neighbours(Anatomy((), (), anatomy.field_of_view, labels=labels), touched).values == (1, 2)
    alone = Bone("tibia", "left", True, 1.0, 1.0, ball(), np.eye(4), np.full(3, 0.1))
    assert neighbours(Anatomy((alone,), (), anatomy.field_of_view, labels=labels), alone).values == ()  # its own label is unknown


def test_corners_that_two_outlines_share_are_round() -> None:
    x, y = np.meshgrid(np.arange(-10.0, 0.01, 0.05), np.arange(-10.0, 0.01, 0.05), indexing="ij")
    both = rounded(x, y, 3.0)
    assert both[-1, -1] == pytest.approx(3.0 * (np.sqrt(2.0) - 1.0))  # the square corner lies outside
    assert np.abs(np.hypot(x + 3.0, y + 3.0)[(np.abs(both) < 0.02) & (x > -3.0) & (y > -3.0)] - 3.0).max() < 0.021
    assert np.array_equal(both[x < -3.5], np.maximum(x, y)[x < -3.5])
