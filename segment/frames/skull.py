"""A skull's own frame about the middle of its vault, and the vault's extreme points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, Landmark, Mesh

VAULT_MM = 75.0  # the vault is what lies this far below the highest point of the skull
CENTRE_BELOW_MM = 72.0  # the vault's centre below its highest point: the middle of an adult vault; project default
RADIUS_MM = (35.0, 125.0)  # distances of adult vault bone from that centre; project default
EXTREME_MM = 0.3  # points this close to an extreme are the same place, for all the scan can say
_RINGS, _SECTORS = 24, 96  # equal-area cells of the upper half of the sphere, about 3 degrees each: 4 mm of a vault


def skull_frame(mesh: Mesh) -> FloatArray:
    """Frame of a skull: patient axes at the time of the scan, origin in the middle of the vault.

    Returns
    -------
    (4, 4) pose in LPS. The origin lies ``CENTRE_BELOW_MM`` below the highest point, mid-box of the vault to the sides.
    """
    vault = _vault(mesh)
    low, high = vault[:, 0].min(), vault[:, 0].max()
    frame = np.eye(4)
    frame[:3, 3] = (0.5 * (low + high), 0.5 * (vault[:, 1].min() + vault[:, 1].max()), vault[:, 2].max() - CENTRE_BELOW_MM)
    return frame


def skull_landmarks(mesh: Mesh, sigma_mm: npt.NDArray[np.float64]) -> tuple[Landmark, ...]:
    """The vault's extreme points: vertex, left, right, front, back.

    A point is the mean of all surface points within ``EXTREME_MM`` of the extreme; its spread is theirs, and the surface's
    own uncertainty there.
    """
    high = mesh.vertices_mm[:, 2].max()
    rows = np.flatnonzero(mesh.vertices_mm[:, 2] >= high - VAULT_MM)
    vault = mesh.vertices_mm[rows]
    found = []
    for name, axis, sign in (("vertex", 2, 1), ("left", 0, 1), ("right", 0, -1), ("front", 1, -1), ("back", 1, 1)):
        along = sign * vault[:, axis]
        near = along >= along.max() - EXTREME_MM
        points = vault[near]
        point = points.mean(axis=0)
        spread = float(np.sqrt(((points - point) ** 2).sum(axis=1).mean() + np.median(sigma_mm[rows][near]) ** 2))
        found.append(Landmark(f"vault-{name}", (float(point[0]), float(point[1]), float(point[2])), spread))
    return tuple(found)


def vault_cover(mesh: Mesh, frame: FloatArray) -> float:
    """Share of the directions of the upper half space, seen from the vault's centre, in which there is bone at a skull's
    distance (``RADIUS_MM``): about 1 for a whole vault, 0.7 with a defect of 110 mm."""
    high = mesh.vertices_mm[(mesh.vertices_mm - frame[:3, 3]) @ frame[:3, 2] > 0.0]
    from_centre = (high - frame[:3, 3]) @ frame[:3, :3]
    radius = np.linalg.norm(from_centre, axis=1)
    some = (radius >= RADIUS_MM[0]) & (radius <= RADIUS_MM[1])
    points, radius = from_centre[some], radius[some]
    ring = np.minimum((points[:, 2] / radius * _RINGS).astype(np.int64), _RINGS - 1)
    turn = np.arctan2(points[:, 1], points[:, 0]) / (2.0 * np.pi) + 0.5
    sector = np.minimum((turn * _SECTORS).astype(np.int64), _SECTORS - 1)
    return len(np.unique(ring * _SECTORS + sector)) / (_RINGS * _SECTORS)


def _vault(mesh: Mesh) -> FloatArray:
    high = mesh.vertices_mm[:, 2].max()
    return np.asarray(mesh.vertices_mm[mesh.vertices_mm[:, 2] >= high - VAULT_MM])
