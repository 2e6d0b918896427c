"""The plane of symmetry of a vault: the mirrored outer table is laid on the outer table, robustly, point to plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.sphere import BoolArray, Sphere
from batchone.design.cranial.vault import FAR_MM, HEAD_ON, NEAR_MM, Skull, cast, trusted_outer
from batchone.pipeline.values import FloatArray

_SCALE_MM = 0.7  # beyond this a residual counts less and less (Cauchy): real asymmetry, the defect's edge; prototype
_SAMPLES = 4000  # points of the outer table that take part; same prototype
_STARTS_DEG = (-16.0, -8.0, 0.0, 8.0, 16.0)  # yaw from which the search starts; heads lie turned by up to about 20 degrees
_STEPS = 12  # Gauss-Newton steps from each start; converges in about 6
_FINAL_STEPS = 10  # and again once the centre lies on the plane
_REACH_MM = 12.0  # mirrored points that miss the bone by more than this take no part while the plane is far off
_LEAST_PARTNERS = 50  # fewer points with a partner say nothing about a plane; numerical
_NUDGE = 1e-5  # rad or mm: step for the slope of a mirrored point; numerical, mirroring is smooth and exact to 1e-13
_SETTLED_MM = 1e-4  # a step that moves no point of the vault by more than this ends the search; numerical
_LEVER_MM = 80.0  # turns the plane's angles into mm on the vault


@dataclass(frozen=True, slots=True)
class Symmetry:
    """How well a skull mirrors: median absolute residual in mm, and the share of points that found a partner."""

    residual_mm: float
    share: float


def stand_on_plane(skull: Skull, sphere: Sphere, trusted: BoolArray) -> tuple[Skull, Symmetry]:
    """Turn and shift the working frame so that its plane x = 0 is the skull's plane of symmetry, x to the patient's left.

    Parameters
    ----------
    skull
        In its present working frame.
    sphere
        Directions, of which ``trusted`` (n,) look at the vault.
    """
    best: tuple[float, FloatArray] | None = None
    points = _samples(skull, sphere, trusted)
    for yaw_deg in _STARTS_DEG:
        plane, cost, _, _ = _fitted(skull, points, np.array([np.radians(yaw_deg), 0.0, 0.0]), _STEPS)
        if best is None or cost < best[0]:
            best = (cost, plane)
    assert best is not None
    skull = skull.restood(_step(best[1]))
    points = _samples(skull, sphere, trusted)
    plane, _, residual_mm, share = _fitted(skull, points, np.zeros(3), _FINAL_STEPS)
    return skull.restood(_step(plane)), Symmetry(residual_mm, share)


def _samples(skull: Skull, sphere: Sphere, trusted: BoolArray) -> FloatArray:
    index = np.flatnonzero(trusted)
    directions = sphere.directions[index[:: max(1, len(index) // _SAMPLES)]]
    vault = cast(skull, directions)
    good = trusted_outer(vault)
    return np.asarray(directions[good] * vault.outer_mm[good, None])


def _normal(plane: FloatArray) -> FloatArray:
    yaw, roll, _ = plane
    return np.array([np.cos(yaw) * np.cos(roll), np.sin(yaw) * np.cos(roll), np.sin(roll)])


def _mirrored(plane: FloatArray, points: FloatArray) -> FloatArray:
    normal = _normal(plane)
    return np.asarray(points - 2.0 * ((points @ normal) - plane[2])[:, None] * normal)


def _fitted(skull: Skull, points: FloatArray, plane: FloatArray, steps: int) -> tuple[FloatArray, float, float, float]:
    """Gauss-Newton on (yaw rad, roll rad, offset mm); returns plane, mean cost, median absolute residual, share."""
    cost, residual_mm, share = np.inf, np.inf, 0.0
    for _ in range(steps):
        image = _mirrored(plane, points)
        residual, normal, met = _residuals(skull, image)
        share = float(met.mean())
        if met.sum() < _LEAST_PARTNERS:
            return plane, np.inf, np.inf, share
        weight = 1.0 / (1.0 + (residual / _SCALE_MM) ** 2)
        cost = float(np.where(met, np.log1p((residual / _SCALE_MM) ** 2), np.log1p((_REACH_MM / _SCALE_MM) ** 2)).mean())
        residual_mm = float(np.median(np.abs(residual[met])))
        slopes = np.empty((len(points), 3))
        for k in range(3):
            nudge = np.zeros(3)
            nudge[k] = _NUDGE
            slopes[:, k] = np.einsum("ij,ij->i", normal, (_mirrored(plane + nudge, points) - image) / _NUDGE)
        use = slopes[met] * weight[met, None]
        step = np.linalg.solve(use.T @ slopes[met], use.T @ residual[met])
        plane = plane - step
        if np.abs(step * np.array([_LEVER_MM, _LEVER_MM, 1.0])).max() < _SETTLED_MM:
            break
    return plane, cost, residual_mm, share


def _residuals(skull: Skull, points: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Distance of points to the outer table along its normal, the normals (working frame), and which met it near enough."""
    radius = np.linalg.norm(points, axis=1)
    directions = points / radius[:, None]
    hits = skull.first(directions * FAR_MM, -directions, FAR_MM - NEAR_MM)
    gap = radius - (FAR_MM - hits.distance_mm)
    met = (hits.face >= 0) & (-hits.cosine > HEAD_ON)
    met[met] = np.abs(gap[met]) < _REACH_MM
    normal = np.where(met[:, None], skull.scene.normals(hits.face) @ skull.stand[:3, :3], 0.0)
    return np.where(met, gap * -np.where(met, hits.cosine, 0.0), 0.0), normal, met


def _step(plane: FloatArray) -> FloatArray:
    """(4, 4) working-frame motion that puts the origin on the plane and x along its normal; z stays as near up as it can."""
    normal = _normal(plane)
    up = np.array([0.0, 0.0, 1.0])
    z = up - (up @ normal) * normal
    z /= np.linalg.norm(z)
    step = np.eye(4)
    step[:3, :3] = np.stack([normal, np.cross(z, normal), z], axis=1)
    step[:3, 3] = plane[2] * normal
    return step
