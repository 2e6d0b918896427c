"""The mirrored side laid on the bone around a hole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from batchone.design.cranial.mirrored import laid_on_rim
from batchone.design.cranial.sphere import Sphere, icosphere
from batchone.pipeline.values import FloatArray


@pytest.fixture(scope="module")
def sphere() -> Sphere:
    return icosphere(6)


def radius_mm(directions: FloatArray) -> FloatArray:
    """A vault of no symmetry at all."""
    x, y, z = directions.T
    return np.asarray(80.0 + 6.0 * y - 4.0 * z * x + 3.0 * np.sin(5.0 * x + 2.0 * y) + 2.0 * np.cos(6.0 * z - 1.0))


def moved_radius_mm(sphere: Sphere, turn_deg: FloatArray, shift_mm: FloatArray) -> FloatArray:
    """The same vault after a rigid motion: each direction's radius by fixed-point search on the moved surface."""
    turn = Rotation.from_rotvec(np.radians(turn_deg))
    found = radius_mm(sphere.directions)
    for _ in range(40):
        back = turn.inv().apply(found[:, None] * sphere.directions - shift_mm)
        found = found + 0.7 * (radius_mm(back / np.linalg.norm(back, axis=1, keepdims=True)) - np.linalg.norm(back, axis=1))
    return found


def test_a_side_that_is_turned_and_shifted_comes_to_lie_on_the_bone(sphere: Sphere) -> None:
    middle = np.array([0.8, 0.1, 0.6]) / np.linalg.norm([0.8, 0.1, 0.6])
    angle = np.arccos(np.clip(sphere.directions @ middle, -1.0, 1.0))
    hole, rim = angle < 0.6, (angle >= 0.6) & (angle < 1.2)
    covered = angle < 1.6
    bone = radius_mm(sphere.directions)
    other = moved_radius_mm(sphere, np.array([1.5, -2.0, 1.0]), np.array([1.0, -1.5, 0.5]))
    assert np.abs(other - bone)[hole].max() > 1.0
    laid, known = laid_on_rim(
        np.where(covered, other, 0.0), covered, sphere, bone_mm=np.where(hole, np.nan, bone), rim=rim, hole=hole
    )
    assert known[hole].all()
    assert np.abs(laid - bone)[hole].max() < 0.1  # the shell is read between directions 1.4 mm apart


def test_a_true_difference_of_the_sides_on_part_of_the_rim_does_not_pull_it_along(sphere: Sphere) -> None:
    middle = np.array([0.8, 0.1, 0.6]) / np.linalg.norm([0.8, 0.1, 0.6])
    angle = np.arccos(np.clip(sphere.directions @ middle, -1.0, 1.0))
    hole, rim = angle < 0.6, (angle >= 0.6) & (angle < 1.2)
    bone = radius_mm(sphere.directions)
    plate = rim & (sphere.directions[:, 1] > 0.7)
    assert plate.sum() > 0.05 * rim.sum()
    laid, _ = laid_on_rim(bone, angle < 1.6, sphere, bone_mm=bone + 4.0 * plate, rim=rim, hole=hole)
    assert np.abs(laid - bone)[hole].max() < 0.15


@pytest.mark.parametrize(("share", "moves"), [(0.25, False), (0.4, True)])
def test_a_side_that_covers_little_of_the_hole_stays_where_it_is(sphere: Sphere, share: float, moves: bool) -> None:
    middle = np.array([1.0, 0.0, 0.0])
    angle = np.arccos(np.clip(sphere.directions @ middle, -1.0, 1.0))
    hole, rim = angle < 0.6, (angle >= 0.6) & (angle < 1.2)
    low = np.quantile(sphere.directions[hole][:, 1], 1.0 - share)
    covered = (angle < 1.6) & (sphere.directions[:, 1] > low)
    bone = radius_mm(sphere.directions)
    laid, known = laid_on_rim(np.where(covered, bone + 1.0, 0.0), covered, sphere, bone_mm=bone, rim=rim, hole=hole)
    assert bool(np.abs(laid - bone - 1.0)[known & covered & hole].max() > 0.3) is moves
