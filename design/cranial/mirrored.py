"""The mirrored other side as a map of radii, laid as a rigid shell on the bone around the hole.

A real head is not symmetric: over a wide hole the plane of symmetry alone leaves the mirrored side off by a millimetre and more,
mostly turned and shifted. Six numbers, fitted to the bone around the hole, take that back and bend nothing.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from batchone.design.cranial.sphere import BoolArray, Sphere
from batchone.pipeline.values import FloatArray

_SCALE_MM = 0.5  # beyond this a residual counts less and less (Cauchy): where the sides truly differ; prototype
_STEPS = 6  # Gauss-Newton steps; numerical
_LEAST_COVER = 0.3  # of the hole; a side that covers less touches one edge only and would be tilted by it; unverified
_NEIGHBOURS = 12  # points of the shell that give a normal
_CORNERS = 4  # points of the shell that give a radius, by inverse distance
_REACH_RAD = 0.03  # ... from this near, 2.4 mm on the vault


def laid_on_rim(
    mirrored_mm: FloatArray, covered: BoolArray, sphere: Sphere, *, bone_mm: FloatArray, rim: BoolArray, hole: BoolArray
) -> tuple[FloatArray, BoolArray]:
    """Move the mirrored side onto the bone around the hole.

    Parameters
    ----------
    mirrored_mm, covered
        (n,) radii of the mirrored side, and where they are known.
    bone_mm, rim
        (n,) radii of the bone, and the trusted directions around the hole that it is laid on.
    hole
        (n,) the directions without bone.

    Returns
    -------
    Radii (n,) of the moved side, and where they are known; unchanged where less than 30 % of the hole is covered.
    """
    if float(covered[hole].mean()) < _LEAST_COVER:
        return mirrored_mm, covered
    shell = mirrored_mm[covered, None] * sphere.directions[covered]
    middle = shell.mean(axis=0)
    moved = shell
    turn, shift = Rotation.identity(), np.zeros(3)
    for _ in range(_STEPS):
        radius, known = _radii(moved, sphere)
        step = _step(moved, middle, radius, np.flatnonzero(rim & known), sphere, bone_mm)
        small = Rotation.from_rotvec(step[:3])
        turn, shift = small * turn, small.apply(shift) + step[3:]
        moved = turn.apply(shell - middle) + middle + shift
    return _radii(moved, sphere)


def _radii(shell: FloatArray, sphere: Sphere) -> tuple[FloatArray, BoolArray]:
    """Radii (n,) of a shell (k, 3) along the directions, and where there is one."""
    radius = np.linalg.norm(shell, axis=1)
    away, near = cKDTree(shell / radius[:, None]).query(sphere.directions, k=_CORNERS, distance_upper_bound=_REACH_RAD)
    found = np.isfinite(away)
    weight = np.where(found, 1.0 / (np.where(found, away, 1.0) ** 2 + 1e-6), 0.0)
    total = np.maximum(weight.sum(axis=1), np.finfo(np.float64).tiny)
    known = found.sum(axis=1) >= _CORNERS - 1
    values = (weight * radius[np.where(found, near, 0)]).sum(axis=1) / total
    return np.where(known, values, 0.0), known


def _step(
    shell: FloatArray, middle: FloatArray, radius: FloatArray, index: np.ndarray, sphere: Sphere, bone_mm: FloatArray
) -> FloatArray:
    """One Gauss-Newton step, point to plane: rotation vector about ``middle`` and shift, (6,)."""
    directions = sphere.directions[index]
    points = radius[index, None] * directions
    near = shell[cKDTree(shell).query(points, k=_NEIGHBOURS)[1]]
    flat = near - near.mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("nij,nik->njk", flat, flat))[1][:, :, 0]
    along = np.einsum("ij,ij->i", normals, directions)
    normals = normals * np.where(along < 0.0, -1.0, 1.0)[:, None]
    residual = (bone_mm[index] - radius[index]) * np.abs(along)
    slopes = np.column_stack([np.cross(points - middle, normals), normals])
    weighted = slopes / (1.0 + (residual / _SCALE_MM) ** 2)[:, None]
    return np.asarray(np.linalg.solve(weighted.T @ slopes, weighted.T @ residual))
