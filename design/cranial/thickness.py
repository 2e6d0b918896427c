"""How thick the implant is, measured with rays through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from batchone.design.cranial.rays import Scene
from batchone.design.cranial.rim_gap import surface_samples
from batchone.pipeline.values import FloatArray, Mesh, Part, Vector

_SAMPLE_MM2 = 0.25  # numerical: a ray for each so much face, every 0.5 mm
_START_MM = 1e-3  # numerical: rays start this far inside the face
_REACH_MM = 40.0  # numerical: thicker than any implant
_OPPOSITE_COSINE = 0.5  # a face met flatter than 60 degrees off the ray is the side of a hole, not the other face


@dataclass(frozen=True, slots=True, eq=False)
class Thickness:
    """Thickness (n,) mm along the face's normal, at points (n, 3) on the part."""

    thickness_mm: FloatArray
    points_mm: FloatArray

    @property
    def thinnest(self) -> Vector:
        """Where it is thinnest."""
        point = self.points_mm[int(np.argmin(self.thickness_mm))]
        return (float(point[0]), float(point[1]), float(point[2]))


def thickness(part: Part, labels: tuple[str, ...], *, onto: tuple[str, ...], off: tuple[str, ...], off_mm: float) -> Thickness:
    """Measure from faces of ``labels``, inwards, to the first face met.

    Parameters
    ----------
    part
        The part.
    labels
        Faces that the rays start from.
    onto
        Only rays that end on these faces count.
    off, off_mm
        Rays that start nearer than ``off_mm`` to faces labelled ``off`` are left out (rounded edges).
    """
    middle = part.mesh.vertices_mm.mean(axis=0)
    local = Mesh(part.mesh.vertices_mm - middle, part.mesh.faces)
    centred = Part(part.name, local, part.face_labels, part.labels)
    samples = surface_samples(centred, labels, sample_mm2=_SAMPLE_MM2)
    corners = local.vertices_mm[local.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1), np.finfo(np.float64).tiny)[:, None]
    points, inward = samples.points_mm, -normals[samples.face]
    if off_mm > 0.0:
        edge = surface_samples(centred, off, sample_mm2=_SAMPLE_MM2).points_mm
        away = cKDTree(edge).query(points, distance_upper_bound=off_mm)[0] > off_mm
        points, inward = points[away], inward[away]
    hits = Scene(local).first(points + _START_MM * inward, inward, _REACH_MM)
    met = hits.face >= 0
    ends = np.array([name in onto for name in part.labels])[part.face_labels[hits.face]]
    opposite = np.einsum("ij,ij->i", normals[hits.face], inward) > _OPPOSITE_COSINE
    kept = met & ends & opposite
    return Thickness(hits.distance_mm[kept] + _START_MM, points[kept] + middle)
