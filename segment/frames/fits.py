"""Planes, spheres and lines through points, with what is off left out; frames; points spread evenly over a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.pipeline.landmarks import Landmark
from batchone.pipeline.values import FloatArray, Mesh, Vector

BoolArray = npt.NDArray[np.bool_]

_ROUNDS = 10  # of leaving out and fitting again; numerical
_OFF = 2.5  # robust standard deviations from which a point is off; common practice
_LEAST_MM = 0.05  # no point nearer than that is off; numerical


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Points on a surface, (n, 3) mm; unit normals outward; the vertex nearest to each; the area that each stands for, mm2."""

    points: FloatArray
    normals: FloatArray
    vertex: npt.NDArray[np.int64]
    area_mm2: FloatArray

    def where(self, some: BoolArray) -> Samples:
        """Those for which ``some`` is True."""
        return Samples(self.points[some], self.normals[some], self.vertex[some], self.area_mm2[some])


def sampled(mesh: Mesh, step_mm: float) -> Samples:
    """The middle of every triangle, of the four parts of each larger one, and so on, until all parts are below ``step_mm``."""
    corners = mesh.vertices_mm[mesh.faces]
    vertex = mesh.faces[:, 0].astype(np.int64)
    points, normals, vertices, areas = [], [], [], []
    while len(corners):
        longest = np.max([np.linalg.norm(corners[:, i] - corners[:, i - 1], axis=1) for i in range(3)], axis=0)
        fine = longest <= 2.0 * step_mm
        done = corners[fine]
        normal = np.cross(done[:, 1] - done[:, 0], done[:, 2] - done[:, 0])
        size = np.linalg.norm(normal, axis=1)
        some = size > 0.0
        points.append(done[some].mean(axis=1))
        normals.append(normal[some] / size[some, None])
        vertices.append(vertex[fine][some])
        areas.append(0.5 * size[some])
        rest, vertex = corners[~fine], np.tile(vertex[~fine], 4)
        a, b, c = rest[:, 0], rest[:, 1], rest[:, 2]
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        corners = np.concatenate([np.stack(part, axis=1) for part in parts])
    return Samples(*(np.concatenate(parts) for parts in (points, normals, vertices, areas)))


def unit(vector: FloatArray) -> FloatArray:
    """The vector at length 1."""
    return np.asarray(vector / np.linalg.norm(vector))


def as_vector(values: FloatArray) -> Vector:
    """Three numbers."""
    return (float(values[0]), float(values[1]), float(values[2]))


def frame_of(origin_mm: FloatArray, z_axis: FloatArray, towards_left: FloatArray) -> FloatArray:
    """(4, 4) pose: z as given, x across it nearest to ``towards_left``, y completes a right-handed frame."""
    z = unit(z_axis)
    x = unit(towards_left - (towards_left @ z) * z)
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1], frame[:3, 2], frame[:3, 3] = x, np.cross(z, x), z, origin_mm
    return frame


def spread_of(points: list[FloatArray], sigma_mm: float) -> float:
    """Spread of a point that was found in several ways: their standard deviation, and the surface's own uncertainty."""
    off = np.array(points) - np.mean(points, axis=0)
    return float(np.sqrt((off**2).sum(axis=1).mean() + sigma_mm**2))


def angle_deg(a: FloatArray, b: FloatArray) -> float:
    """Angle between two directions, 0 to 180 degrees."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def landmark(name: str, points: list[FloatArray], sigma_mm: float) -> Landmark:
    """A point found in several ways: the first is meant, all give its spread."""
    return Landmark(name, as_vector(points[0]), spread_of(points, sigma_mm))


def fit_plane(points: FloatArray, normal: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Plane through most of the points: a point of it, its unit normal on the side of ``normal``, RMS distance (mm)."""
    kept = points
    centre, found, rms = points.mean(axis=0), normal, 0.0
    for _ in range(_ROUNDS):
        centre = kept.mean(axis=0)
        _, axes = np.linalg.eigh((kept - centre).T @ (kept - centre))
        found = axes[:, 0] * (1.0 if axes[:, 0] @ normal >= 0.0 else -1.0)
        off = (points - centre) @ found
        rms = float(np.sqrt((((kept - centre) @ found) ** 2).mean()))
        near = np.abs(off) <= max(_OFF * 1.4826 * float(np.median(np.abs(off))), _LEAST_MM)
        if near.sum() == len(kept) or near.sum() < 10:
            break
        kept = points[near]
    return centre, np.asarray(found), rms


def fit_sphere(points: FloatArray) -> tuple[FloatArray, float]:
    """Centre and radius of the sphere nearest to the points (algebraic least squares, refined twice geometrically)."""
    middle = points.mean(axis=0)
    local = points - middle
    matrix = np.column_stack([2.0 * local, np.ones(len(local))])
    solution = np.linalg.lstsq(matrix, (local**2).sum(axis=1), rcond=None)[0]
    centre = solution[:3]
    radius = float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))
    for _ in range(3):
        off = local - centre
        length = np.maximum(np.linalg.norm(off, axis=1), 1e-9)
        step = np.linalg.lstsq(np.column_stack([-off / length[:, None], -np.ones(len(off))]), radius - length, rcond=None)[0]
        centre, radius = centre + step[:3], radius + float(step[3])
    return np.asarray(centre + middle), radius


def fit_line(points: FloatArray, direction: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Line through points: their middle, unit direction on the side of ``direction``, RMS distance (mm)."""
    centre = points.mean(axis=0)
    _, _, axes = np.linalg.svd(points - centre, full_matrices=False)
    along = axes[0] * (1.0 if axes[0] @ direction >= 0.0 else -1.0)
    off = (points - centre) - ((points - centre) @ along)[:, None] * along
    return centre, np.asarray(along), float(np.sqrt((off**2).sum(axis=1).mean()))
