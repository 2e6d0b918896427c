"""The plane between the halves of a bone that are each other's mirror image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from batchone.pipeline.values import FloatArray
from batchone.segment.frames.fits import Samples

UNLIKE_MM = 1.0  # where the halves differ by so much, a point counts a quarter: no spine is quite even; default
FADES_MM = 5.0  # over which points further off count less; numerical
_ASKED = 8000  # points mirrored; numerical
_LEAST_COSINE = 0.5  # between the normals of a mirrored point and of the surface there; numerical


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """The surface about a place, ready to be asked."""

    samples: Samples
    asked: Samples
    weight: FloatArray
    tree: cKDTree

    def thinned(self, step: int) -> Halves:
        """The same with one in ``step`` of the points that are mirrored."""
        some = np.arange(len(self.weight)) % step == 0
        return Halves(self.samples, self.asked.where(some), self.weight[some], self.tree)


def halves(samples: Samples, about_mm: FloatArray, reach_mm: float) -> Halves:
    """The surface within ``reach_mm`` of a place (3,), LPS: far processes are bent, and no part of the plane."""
    off = np.linalg.norm(samples.points - about_mm, axis=1)
    near = np.flatnonzero(off < reach_mm + 0.5 * FADES_MM)
    asked = np.zeros(len(off), dtype=np.bool_)
    asked[near[:: max(1, len(near) // _ASKED)]] = True
    weight = samples.area_mm2[asked] * np.clip((reach_mm - off[asked]) / FADES_MM + 0.5, 0.0, 1.0)
    return Halves(samples, samples.where(asked), weight, cKDTree(samples.points))


def step_to_mirror(found: Halves, frame: FloatArray) -> tuple[float, float]:
    """How far to move a frame (4, 4) along its x (mm), and to turn it about its z (radians), so that its x changes the halves.

    One step of least squares between each mirrored point and the plane of the surface that is nearest to it.
    """
    turn = frame[:3, :3]
    mirror = np.array([-1.0, 1.0, 1.0])
    points = ((found.asked.points - frame[:3, 3]) @ turn) * mirror
    normals = (found.asked.normals @ turn) * mirror
    index: npt.NDArray[np.int64] = found.tree.query(points @ turn.T + frame[:3, 3])[1]
    there = (found.samples.points[index] - frame[:3, 3]) @ turn
    facing = found.samples.normals[index] @ turn
    off = ((points - there) * facing).sum(axis=1)
    alike = np.clip((normals * facing).sum(axis=1) - _LEAST_COSINE, 0.0, 1.0)
    weight = found.weight * alike / (1.0 + (off / UNLIKE_MM) ** 2) ** 2
    slopes = 2.0 * np.stack([facing[:, 0], facing[:, 1] * points[:, 0] - facing[:, 0] * points[:, 1]], axis=1)
    shift, angle = np.linalg.solve((slopes * weight[:, None]).T @ slopes, -(slopes * weight[:, None]).T @ off)
    return float(shift), float(angle)
