"""The seating score against closed forms and bodies whose seats are known: see issue 6, line 1."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numba
import numpy as np
import pytest

from batchone.design.contact.field import lattice_over
from batchone.design.isosurface import zero_mesh
from batchone.design.nearest import indexed, nearest_mm
from batchone.design.seating.contacts import Contact, Landscape, contact, landscape
from batchone.design.seating.friction import bone_errors, spread
from batchone.design.seating.insertion import way_out
from batchone.design.seating.settle import LAST, Poses, settled
from batchone.design.seating.stability import (
    Press,
    best_press,
    docking_facets,
    jacobian,
    margins_deg,
    slip_of,
    stability,
    wrench,
)
from batchone.design.seating.uniqueness import (
    OFF,
    PLANNED,
    WRONG,
    _verified,
    docking_cone_deg,
    embedded,
    holds,
    identity,
    planned_seat,
    reference,
    starts,
    turns,
    uniqueness,
)
from batchone.design.seating.zones import cells_of, chosen, steadiest
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh

GAP_MM, TIGHT_MM = 0.2, 0.05
DOWN = Press(np.zeros(3), np.array([0.0, 0.0, -1.0]), 0.0)


def solid(height: object, half_mm: float = 34.0, step_mm: float = 0.5, bottom_mm: float = -14.0) -> Mesh:
    """A block whose top is ``height(x, y)``: closed, outward."""
    grid = np.arange(-half_mm - 1.0, half_mm + 1.0 + 1e-9, step_mm) + 0.0137
    z = np.arange(bottom_mm - 2.0, 12.0, step_mm) + 0.0071
    x, y = np.meshgrid(grid, grid, indexing="ij")
    top = height(x, y)  # type: ignore[operator]
    walls = np.maximum(np.abs(x), np.abs(y)) - half_mm
    field = np.maximum(np.maximum(z[None, None] - top[:, :, None], walls[:, :, None]), bottom_mm - z[None, None])
    return zero_mesh(field.astype(np.float32), np.array([grid[0], grid[0], z[0]]), step_mm)


def footprint(half_x: float, half_y: float, spacing_mm: float = 1.5) -> FloatArray:
    x = np.arange(-half_x, half_x + 1e-9, spacing_mm)
    y = np.arange(-half_y, half_y + 1e-9, spacing_mm)
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)


def on(height: object, bone: Mesh, places: FloatArray, gap_mm: float = GAP_MM) -> tuple[Contact, Landscape, FloatArray]:
    """A body that lies on a surface with a gap, its middle at the origin, and the bone moved with it."""
    points = np.column_stack([places, height(places[:, 0], places[:, 1])])  # type: ignore[operator]
    ground = landscape(bone, points, pad_mm=14.0)
    points = points + (gap_mm - ground.at(points))[:, None] * ground.normals(points)
    middle = points.mean(axis=0)
    moved = Mesh(bone.vertices_mm - middle, bone.faces)
    ground = landscape(moved, points - middle, pad_mm=14.0)
    return contact(points - middle, np.empty((0, 3)), ground), ground, middle


def plain(points: FloatArray, normals: FloatArray) -> Contact:
    """Contacts without a bone."""
    points = points - points.mean(axis=0)
    rho = float(np.sqrt((points**2).sum(axis=1).mean()))
    return Contact(points, len(points), normals / np.linalg.norm(normals, axis=1)[:, None], np.full(len(points), GAP_MM), rho)


class TestStability:
    def test_a_row_of_the_jacobian_is_how_fast_its_gap_opens(self) -> None:
        rng = np.random.default_rng(1)
        points, normals = rng.normal(size=(40, 3)) * 9.0, rng.normal(size=(40, 3))
        normals /= np.linalg.norm(normals, axis=1)[:, None]
        rows = jacobian(points, normals, 7.0)
        shift, turn = rng.normal(size=3), rng.normal(size=3)
        small = 1e-6
        moved = points @ turns(small * turn[None])[0].T + small * shift
        opened = ((moved - points) * normals).sum(axis=1) / small
        assert opened == pytest.approx(rows @ np.concatenate([shift, 7.0 * turn]), abs=1e-4)

    def test_six_known_contacts_slip_as_their_matrix_says(self) -> None:
        # each axis of motion is held by two contacts, so that G'G / 6 is known by hand
        points = np.array([[0.0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [1, 0, 0], [-1, 0, 0]])
        normals = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
        slip, _ = slip_of(jacobian(points, normals, 1.0))
        assert slip == pytest.approx(np.sqrt(3.0), rel=1e-12)

    def test_a_ball_in_contact_turns_freely(self) -> None:
        rng = np.random.default_rng(2)
        normals = rng.normal(size=(300, 3))
        normals[:, 2] = np.abs(normals[:, 2])
        normals /= np.linalg.norm(normals, axis=1)[:, None]
        held = stability(plain(-10.0 * normals, normals))
        assert held.slip == np.inf
        assert held.press.margin_deg < 0.6
        assert np.isinf(held.play_mm[6:]).all()  # about every axis

    def test_a_plate_on_a_plane_slides_and_turns_on_it_and_nothing_else(self) -> None:
        places = footprint(10.0, 10.0)
        body = plain(np.column_stack([places, np.zeros(len(places))]), np.tile([0.0, 0.0, 1.0], (len(places), 1)))
        held = stability(body)
        assert held.slip == np.inf
        free = np.isinf(held.play_mm)
        assert free[[0, 1, 2, 3, 10, 11]].all()
        assert not free[6:10].any()

    def test_a_cylinder_slides_along_and_turns_about_its_axis(self) -> None:
        around, along = np.meshgrid(np.radians(np.arange(-60, 61, 5)), np.arange(-12.0, 12.1, 1.5), indexing="ij")
        normals = np.column_stack([np.sin(around.ravel()), np.zeros(around.size), np.cos(around.ravel())])
        points = 9.0 * normals + np.column_stack([np.zeros(around.size), along.ravel(), np.zeros(around.size)])
        held = stability(plain(points, normals))
        assert held.slip > 1e3
        assert np.isinf(held.play_mm[[2, 3]]).all()  # along
        assert held.press.margin_deg < 0.6

    def test_a_three_point_mount_is_stable(self) -> None:
        """Three vee grooves that meet at 120 degrees: Maxwell's mount, six contacts and no freedom."""
        points, normals = [], []
        for angle in np.radians([90.0, 210.0, 330.0]):
            out = np.array([np.cos(angle), np.sin(angle), 0.0])
            side = np.array([-np.sin(angle), np.cos(angle), 0.0])
            for sign in (1.0, -1.0):
                for more in np.linspace(-0.5, 0.5, 3):  # as short lines: a hull needs more than six
                    points.append(10.0 * out + sign * 1.0 * side + more * out)
                    normals.append(-sign * side + np.array([0.0, 0.0, 1.0]))
        held = stability(plain(np.array(points), np.array(normals)))
        assert held.slip < 3.0
        assert held.straight_deg > 15.0
        assert held.press.margin_deg >= held.straight_deg - 1e-6
        assert np.isfinite(held.play_mm).all()
        assert float(held.play_mm.max()) < 1.0

    def test_the_margin_of_a_cone_of_contacts_is_its_own_angle(self) -> None:
        """All loads that a symmetric vee in 6 dimensions holds: the margin of its axis is the angle to the nearest facet."""
        rows = np.concatenate([np.eye(6), -np.eye(6)]) * np.sin(np.radians(20.0))
        rows[:, 2] = 0.0
        rows = rows[np.abs(rows).sum(axis=1) > 0.0]
        rows[:, 2] = np.cos(np.radians(20.0))
        load = np.array([[0.0, 0.0, -1.0, 0.0, 0.0, 0.0]])
        # facets of the cross polytope in 5 dimensions lie at 1 / sqrt(5) of its corners
        assert margins_deg(docking_facets(rows), load)[0] == pytest.approx(
            np.degrees(np.arctan(np.tan(np.radians(20.0)) / np.sqrt(5.0))), abs=0.05
        )

    def test_a_wrench_has_its_moment(self) -> None:
        load = wrench(np.array([[0.0, 3.0, 0.0]]), np.array([[0.0, 0.0, -1.0]]), 2.0)[0]
        assert load == pytest.approx([0.0, 0.0, -1.0, -1.5, 0.0, 0.0])

    def test_a_push_that_holds_enough_leans_no_further_from_the_way_on_than_it_needs_to(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Straight, this pyramid holds 31.5 degrees, and 32.8 with the best push."""
        body, _, _ = capped()
        rows = jacobian(body.seats_mm, body.normals, body.rho_mm)
        leans, margins = [], []
        for enough, worth in ((25.0, 1.0), (32.0, 1.0), (89.0, 1.0), (89.0, 0.95)):
            monkeypatch.setattr("batchone.design.seating.stability.ENOUGH_DEG", enough)
            monkeypatch.setattr("batchone.design.seating.stability.WORTH", worth)
            press = best_press(body, docking_facets(rows))
            leans.append(float(np.degrees(np.arccos(-press.direction[2]))))
            margins.append(press.margin_deg)
        assert leans[0] < 0.01
        assert leans[3] < 0.01  # what is left of the margin is not worth it
        assert 0.1 < leans[1] < leans[2]
        assert margins[0] < 32.0 <= margins[1] < margins[2]


class TestSettling:
    def test_a_box_on_a_box_comes_down_flat_from_any_small_tilt(self) -> None:
        body, ground, _ = on(lambda x, _: 0.0 * x, solid(lambda x, _: 0.0 * x), footprint(10.0, 10.0))
        begun = starts(3, 40, 3.0, 8.0)
        ends = settled(body, ground, begun, DOWN)
        assert ends.at_rest.all()
        tilt = np.degrees(np.arccos(np.clip(ends.poses.turn[:, 2, 2], -1.0, 1.0)))
        assert tilt.max() < 0.05
        assert ends.poses.shift_mm[:, 2] == pytest.approx(-GAP_MM, abs=0.02)  # the gap closes

    def test_a_ball_on_a_plane_rests_on_its_lowest_point_under_the_push(self) -> None:
        rng = np.random.default_rng(4)
        normals = rng.normal(size=(4000, 3))
        normals = normals[normals[:, 2] < 0.0]
        normals /= np.linalg.norm(normals, axis=1)[:, None]
        ball = 10.0 * normals + [0.0, 0.0, 10.0 + GAP_MM]
        body = Contact(np.ascontiguousarray(ball), len(ball), -normals, np.full(len(ball), GAP_MM), 8.0)
        ground = landscape(solid(lambda x, _: 0.0 * x), ball, pad_mm=8.0)
        ends = settled(body, ground, identity(), Press(np.array([0.0, 0.0, 10.0]), DOWN.direction, 0.0), lift=False)
        assert ends.carried[0] == pytest.approx(1.0, abs=0.03)
        assert ends.deepest_mm[0] < 0.06
        assert ends.poses.shift_mm[0, 2] == pytest.approx(-GAP_MM, abs=0.06)

    def test_starts_take_turns_among_the_places_of_a_body(self) -> None:
        body, ground, _ = on(lambda x, _: 0.0 * x, solid(lambda x, _: 0.0 * x), footprint(10.0, 10.0))
        lower = body.points_mm[::2] - [0.0, 0.0, 0.5]
        other = contact(body.seats_mm, np.empty((0, 3)), ground, (lower,))
        still = Poses(np.tile(np.eye(3), (6, 1, 1)), np.tile([0.0, 0.0, 3.0], (6, 1)))
        ends = settled(other, ground, still, DOWN, turns=other.turns(6))
        assert ends.poses.shift_mm[:, 2] == pytest.approx(np.tile([-GAP_MM, 0.5 - GAP_MM], 3), abs=0.02)
        proud = np.full((6, len(body.points_mm)), 0.2)
        higher = settled(other, ground, still, DOWN, turns=other.turns(6), proud_mm=proud)
        assert higher.poses.shift_mm[:, 2] - ends.poses.shift_mm[:, 2] == pytest.approx(np.full(6, 0.2), abs=0.02)
        assert settled(other, ground, still, DOWN).poses.shift_mm[:, 2] == pytest.approx(np.full(6, -GAP_MM), abs=0.02)

    def test_points_that_are_not_asked_again_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A body whose points are all asked at each step (sub-steps of no phase skip) ends where the fast one does."""
        body, ground, _ = grooved()
        begun = starts(5, 24, 4.0, 8.0)
        whole = settled(body, ground, begun, DOWN)
        one_by_one = [settled(body, ground, begun.only(np.arange(24) == k), DOWN) for k in range(24)]
        for k, single in enumerate(one_by_one):
            assert np.array_equal(single.poses.shift_mm[0], whole.poses.shift_mm[k])
            assert np.array_equal(single.poses.turn[0], whole.poses.turn[k])

    def test_the_number_of_threads_changes_no_bit(self) -> None:
        body, ground, _ = grooved()
        begun = starts(6, 60, 8.0, 15.0)
        before = numba.get_num_threads()
        found = []
        for threads in {1, before}:
            numba.set_num_threads(threads)
            found.append(settled(body, ground, begun, DOWN).poses)
        numba.set_num_threads(before)
        assert all(np.array_equal(one.shift_mm, found[0].shift_mm) for one in found)

    def test_few_starts_are_the_first_of_many(self) -> None:
        few, many = starts(7, 50, 8.0, 15.0), starts(7, 500, 8.0, 15.0)
        assert np.array_equal(few.turn, many.turn[:50])
        assert np.hypot(*many.shift_mm[:, :2].T).max() <= 8.0
        assert many.angle_deg.max() <= 15.0 + 1e-9

    def test_a_bone_that_is_inside_out_is_refused(self) -> None:
        bone = solid(lambda x, _: 0.0 * x)
        turned = Mesh(bone.vertices_mm, np.ascontiguousarray(bone.faces[:, ::-1]))
        with pytest.raises(DesignError, match="more than 0"):
            landscape(turned, np.zeros((1, 3)))

    def test_the_distance_of_poses_is_the_rms_displacement(self) -> None:
        body, _, _ = grooved()
        poses = starts(8, 2, 5.0, 12.0)
        places = np.einsum("nij,kj->nki", poses.turn, body.seats_mm) + poses.shift_mm[:, None]
        expected = np.sqrt(((places[0] - places[1]) ** 2).sum(axis=1).mean())
        spots = embedded(body, poses)
        assert np.linalg.norm(spots[0] - spots[1]) == pytest.approx(expected, rel=1e-9)


@cache
def grooved() -> tuple[Contact, Landscape, FloatArray]:
    """A guide with three ribs, in three grooves of the grooved elliptic bone."""
    return on(tooth_bone, solid(tooth_bone, bottom_mm=-30.0), tooth_places(), TIGHT_MM)


GROOVES_MM = (-6.0, 0.0, 6.0)  # those that a start within 8 mm can reach; they go on every 6 mm


def tooth_bone(x: object, y: object) -> FloatArray:
    """A bone of elliptic section along x, higher than wide so that a guide does not roll, with a groove round it every 6 mm."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    arch = 16.0 * (np.sqrt(np.maximum(1.0 - (y / 11.0) ** 2, 0.0)) - 1.0)
    return np.asarray(arch - 0.7 * (1.0 + np.cos(2.0 * np.pi * x / 6.0)))


def tooth_places() -> FloatArray:
    """A guide with three ribs, 18 mm along the bone and 20 mm across it."""
    return footprint(8.9, 10.0, 0.7)


def pyramid(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(-0.9 * np.maximum(np.abs(x), np.abs(1.6 * y)) + 0.05 * x)


@cache
def capped() -> tuple[Contact, Landscape, FloatArray]:
    """A guide on the tip of a pyramid."""
    return on(pyramid, solid(pyramid, bottom_mm=-30.0, half_mm=24.0), footprint(9.0, 6.0, 1.0))


class TestUniqueness:
    def test_a_bone_with_grooves_has_those_seats_and_no_other(self) -> None:
        body, ground, _ = grooved()
        seat = planned_seat(body, ground, DOWN)
        assert seat.at_rest[0]
        found = uniqueness(body, ground, DOWN, reference(body, seat), count=400, seed=9)
        rests = [rest for rest in found.rests if rest.count >= 3]
        along = sorted([float(rest.shift_mm[0]) for rest in rests] + [float(seat.poses.shift_mm[0, 0])])
        assert along == pytest.approx(GROOVES_MM, abs=0.3)
        assert found.reached > 0.15
        assert min(rest.away_mm for rest in rests) == pytest.approx(6.0, abs=0.3)

    def test_a_cylinder_guide_slides_and_turns_and_is_not_unique(self) -> None:
        def height(x: FloatArray, y: FloatArray) -> FloatArray:
            return np.sqrt(np.maximum(14.0**2 - np.minimum(np.abs(y), 13.9) ** 2, 0.0)) - 14.0

        body, ground, _ = on(height, solid(height), footprint(9.0, 10.0))
        assert stability(body).slip > 50.0
        seat = reference(body, planned_seat(body, ground, DOWN))
        found = uniqueness(body, ground, DOWN, seat, count=120, seed=10)
        assert found.reached == 0.0  # no start comes back: there is no seat to come back to
        assert found.wrong == 0.0  # nor another one
        assert docking_cone_deg(body, ground, DOWN, seat)[0] == 0.0

    def test_a_guide_on_a_symmetric_bone_finds_the_mirrored_seat(self) -> None:
        """Two hollows, mirror images of each other at x = -3.5 and 3.5: a guide made for one also fits the other."""

        def height(x: object, y: object) -> FloatArray:
            x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
            hollow = sum(np.exp(-((x - at) ** 2 + y**2) / (2.0 * 2.2**2)) for at in (-3.5, 3.5))
            return np.asarray(-2.5 * hollow - 0.004 * y**2)

        places = footprint(3.0, 3.0, 0.6)
        places = places[np.hypot(*places.T) <= 3.0] + [3.5, 0.0]
        body, ground, _ = on(height, solid(height), places)
        seat = reference(body, planned_seat(body, ground, DOWN))
        found = uniqueness(body, ground, DOWN, seat, count=300, seed=11)
        assert found.wrong > 0.02
        assert any(rest.shift_mm[0] == pytest.approx(-7.0, abs=0.8) for rest in found.rests)

    def test_a_guide_in_a_pyramid_has_one_seat_and_a_wide_cone(self) -> None:
        body, ground, _ = capped()
        held = stability(body)
        assert held.slip < 12.0
        seat = reference(body, planned_seat(body, ground, held.press))
        found = uniqueness(body, ground, held.press, seat, count=200, seed=12, most_mm=3.0, most_deg=5.0)
        assert found.reached > 0.9
        assert found.wrong <= 0.02
        assert docking_cone_deg(body, ground, held.press, seat)[0] >= 10.0

    def test_false_seats_that_are_true_stay_when_other_points_are_sampled(self) -> None:
        shares = []
        for spacing, aside in ((0.7, 0.0), (0.7, 0.31), (0.55, 0.17)):
            places = footprint(8.9, 10.0, spacing) + aside
            body, ground, _ = on(tooth_bone, solid(tooth_bone, bottom_mm=-30.0), places, TIGHT_MM)
            seat = reference(body, planned_seat(body, ground, DOWN))
            shares.append(uniqueness(body, ground, DOWN, seat, count=300, seed=9).wrong)
        assert min(shares) > 0.1
        assert max(shares) - min(shares) <= 0.05


def level(height: object, half_mm: float, step_mm: float) -> Landscape:
    """Distances to a surface ``height(x, y)``, along its normal as if it were flat."""
    lattice = lattice_over(np.array([-half_mm, -half_mm, -2.0]), np.array([half_mm, half_mm, 3.0]), step_mm)
    x, y, z = (np.asarray(axis, dtype=float) for axis in (lattice.x_mm, lattice.y_mm, lattice.z_mm))
    h, by_x, by_y = (height(x + dx, y + dy) for dx, dy in ((0.0, 0.0), (1e-4, 0.0), (0.0, 1e-4)))  # type: ignore[operator]
    flat = 1.0 / np.sqrt(1.0 + ((by_x - h) ** 2 + (by_y - h) ** 2) / 1e-8)
    return Landscape(lattice, ((z - h[..., None]) * flat[..., None]).astype(np.float32))


def feet(places: FloatArray, rho_mm: float) -> Contact:
    """Points that stand at z = 0."""
    points = np.column_stack([places, np.zeros(len(places))])
    return Contact(points, len(points), np.tile([0.0, 0.0, 1.0], (len(points), 1)), np.zeros(len(points)), rho_mm)


class TestWhatHolds:
    def test_a_guide_in_its_groove_holds_and_one_on_the_crest_between_two_does_not(self) -> None:
        body, ground, _ = grooved()
        seat = reference(body, planned_seat(body, ground, DOWN))
        at = Poses(np.tile(seat.turn, (3, 1, 1)), seat.shift_mm + np.array([[0.0, 0, 0], [6.0, 0, 0], [3.0, 0, 1.4]]))
        rests = settled(body, ground, at.only(np.array([True, True, False])), DOWN, lift=False).poses
        both = Poses(np.concatenate([rests.turn, at.turn[2:]]), np.concatenate([rests.shift_mm, at.shift_mm[2:]]))
        assert holds(body, ground, DOWN, both)[0].tolist() == [True, True, False]

    @pytest.mark.parametrize(("slope_deg", "stays"), [(7.0, False), (8.5, True)])
    def test_four_feet_in_pits_hold_when_these_are_steeper_than_the_push_wavers(self, slope_deg: float, stays: bool) -> None:
        """Only a push that tilts by 8 degrees tells them apart: a nudge comes back in both."""
        corners = np.array([[x, y] for x in (-6.0, 6.0) for y in (-6.0, 6.0)])

        def pits(x: FloatArray, y: FloatArray) -> FloatArray:
            return np.asarray(np.tan(np.radians(slope_deg)) * np.min([np.hypot(x - a, y - b) for a, b in corners], axis=0))

        body, ground = feet(np.tile(corners, (5, 1)), 8.5), level(pits, 14.0, 0.2)  # one point in five is asked at first
        rest = settled(body, ground, identity(), DOWN, lift=False).poses
        assert holds(body, ground, DOWN, rest)[0][0] == stays

    def test_a_rest_in_dents_narrower_than_a_nudge_does_not_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The flanks are steep enough for any push that tilts by 8 degrees, and a nudge of 0.1 mm comes back."""

        def dents(x: FloatArray, y: FloatArray) -> FloatArray:
            return np.asarray(0.05 * (2.0 - np.cos(2.0 * np.pi * x / 0.4) - np.cos(2.0 * np.pi * y / 0.4)))

        body, ground = (
            feet(0.4 * np.array([[i, j] for i in range(-5, 6, 2) for j in range(-5, 6, 2)]), 2.0),
            level(dents, 3.5, 0.05),
        )
        rest = settled(body, ground, identity(), DOWN, lift=False).poses
        stays, led = holds(body, ground, DOWN, rest)
        assert not stays[0]
        assert np.abs(led.shift_mm[0, :2]).max() == pytest.approx(0.4, abs=0.1)  # the next dent
        monkeypatch.setattr("batchone.design.seating.uniqueness._NUDGE_MM", 0.1)
        assert holds(body, ground, DOWN, rest)[0][0]

    def test_an_end_that_does_not_hold_goes_where_it_leads_and_one_that_does_stays(self) -> None:
        body, ground, _ = grooved()
        seat = reference(body, planned_seat(body, ground, DOWN))
        at = Poses(np.tile(seat.turn, (2, 1, 1)), seat.shift_mm + np.array([[6.0, 0.0, 0.0], [2.7, 0.0, 1.4]]))
        poses, kind = _verified(body, ground, DOWN, seat, at, np.array([WRONG, WRONG], dtype=np.int32))
        assert kind.tolist() == [WRONG, PLANNED]
        assert poses.shift_mm[:, 0] - seat.shift_mm[0, 0] == pytest.approx([6.0, 0.0], abs=0.1)

    def test_an_end_that_nothing_holds_is_off(self) -> None:
        def height(x: FloatArray, y: FloatArray) -> FloatArray:
            return np.sqrt(np.maximum(14.0**2 - np.minimum(np.abs(y), 13.9) ** 2, 0.0)) - 14.0

        body, ground, _ = on(height, solid(height), footprint(9.0, 10.0))
        slid = Poses(np.eye(3)[None], np.array([[5.0, 0.0, -GAP_MM]]))
        assert _verified(body, ground, DOWN, identity(), slid, np.array([WRONG], dtype=np.int32))[1].tolist() == [OFF]


class TestFriction:
    def test_friction_holds_a_guide_where_a_smooth_one_slides_home(self) -> None:
        body, ground, _ = capped()
        seat = reference(body, planned_seat(body, ground, DOWN))
        shares = [spread(body, ground, DOWN, seat, count=150, seed=13, friction=mu).bad for mu in (0.02, 0.6)]
        assert shares[1] > 1.5 * shares[0]

    def test_errors_of_the_bone_have_their_size_and_go_together_over_10_mm(self) -> None:
        line = np.column_stack([np.arange(0.0, 40.0, 1.0), np.zeros(40), np.zeros(40)])
        errors = bone_errors(line, np.full(40, 0.3), count=4000, seed=14)
        assert errors.std(axis=0) == pytest.approx(np.full(40, 0.3), rel=0.06)
        alike = np.corrcoef(errors[:, 0], errors[:, 10])[0, 1]
        assert alike == pytest.approx(np.exp(-0.5), abs=0.06)

    def test_an_unsure_bone_spreads_the_seats(self) -> None:
        body, ground, _ = grooved()
        seat = reference(body, planned_seat(body, ground, DOWN))
        sure, unsure = (
            spread(body, ground, DOWN, seat, count=150, seed=15, sigma_mm=np.full(len(body.points_mm), sigma))
            for sigma in (0.0, 0.4)
        )
        assert np.median(unsure.away_mm) > np.median(sure.away_mm) + 0.1


class TestWayOut:
    def test_a_body_that_is_free_keeps_its_gap(self) -> None:
        body, ground, middle = grooved()
        bone = solid(tooth_bone, bottom_mm=-30.0)
        assert way_out(body, ground, indexed(Mesh(bone.vertices_mm - middle, bone.faces)))[0] == pytest.approx(TIGHT_MM, abs=0.06)

    def test_a_sharp_ridge_that_the_grid_rounds_is_as_near_as_it_is(self) -> None:
        """Beside the edge of a roof the distances between the nodes of a grid are too large or too small."""
        roof = solid(lambda x, y: -1.5 * np.abs(y) + 0.0 * x, half_mm=16.0, step_mm=0.25)
        points = np.column_stack([np.linspace(-5.0, 5.0, 60), np.zeros(60), np.full(60, 0.3)])
        ground = landscape(roof, points)
        body = Contact(points, len(points), ground.normals(points), ground.at(points), 3.0)
        surface = indexed(roof)
        exact = nearest_mm(points, surface).min()
        assert abs(ground.at(points).min() - exact) > 0.02
        assert way_out(body, ground, surface)[0] == pytest.approx(exact, abs=1e-9)

    def test_a_body_below_an_overhang_meets_it(self) -> None:
        """A wrap on a cylinder that reaches 3 mm below its middle must pass its widest place."""
        radius = 10.0
        grid = np.arange(-18.0, 18.01, 0.5) + 0.013
        x, y, z = np.meshgrid(grid, grid, grid, indexing="ij")
        bone = zero_mesh(np.maximum(np.hypot(y, z) - radius, np.abs(x) - 14.0).astype(np.float32), np.full(3, grid[0]), 0.5)
        angle = np.radians(np.arange(-20.0, 201.0, 5.0))
        wrap = (radius + GAP_MM) * np.column_stack([0.0 * angle, np.cos(angle), np.sin(angle)])
        ground = landscape(bone, wrap)
        body = Contact(wrap, len(wrap), ground.normals(wrap), ground.at(wrap), 10.0)
        assert way_out(body, ground, indexed(bone))[0] < -0.3


def test_a_seat_moves_with_its_bone() -> None:
    """The same body and bone, turned together: figures agree within what single starts differ by."""
    body, ground, _ = grooved()
    assert slip_of(jacobian(body.seats_mm, body.normals, body.rho_mm))[0] == pytest.approx(
        slip_of(jacobian(body.seats_mm @ TURN.T, body.normals @ TURN.T, body.rho_mm))[0], rel=1e-9
    )
    again = settled(body, ground, reference(body, planned_seat(body, ground, DOWN)), DOWN, lift=False, phases=LAST)
    assert again.at_rest[0]
    assert isinstance(replace(again).poses, Poses)


TURN = turns(np.array([[0.3, -0.5, 0.7]]))[0]


class TestZones:
    def test_six_chosen_places_dock_worse_than_twelve_and_those_better_than_twelve_far_apart(self) -> None:
        body, _, _ = capped()
        cells = np.arange(body.carrying, dtype=np.int32)
        six, twelve = (chosen(body.seats_mm, body.normals, cells, count, exchanges=150) for count in (6, 12))
        assert twelve.margin_deg > six.margin_deg
        assert twelve.margin_deg >= twelve.before_deg
        assert len(twelve.cells) == 12

    def test_the_steadiest_cells_slide_less_than_as_many_far_apart_or_best_docked(self) -> None:
        body, _, _ = capped()
        cells = cells_of(body.seats_mm, 4.0)
        rows = jacobian(body.seats_mm, body.normals, body.rho_mm)
        steady = steadiest(body.seats_mm, body.normals, cells, 8, exchanges=150)
        docked = chosen(body.seats_mm, body.normals, cells, 8, exchanges=150).cells
        started = steadiest(body.seats_mm, body.normals, cells, 8, exchanges=0)
        slips = [slip_of(rows[np.isin(cells, some)])[0] for some in (steady, docked, started)]
        assert slips[0] < min(slips[1:])
        assert len(steady) == 8

    def test_the_same_seed_chooses_the_same_cells(self) -> None:
        body, _, _ = capped()
        cells = cells_of(body.seats_mm, 4.0)
        one, other = (chosen(body.seats_mm, body.normals, cells, 8, exchanges=40) for _ in range(2))
        assert np.array_equal(one.cells, other.cells)
