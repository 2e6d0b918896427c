"""Rays against a closed surface: found in single precision by embree, refined in double from the triangle's plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from scipy import sparse

from batchone.pipeline.values import FloatArray, IntArray, Mesh

_PARALLEL = 1e-6  # a ray flatter than this to a triangle keeps embree's distance; numerical


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What (n) rays met first.

    Attributes
    ----------
    distance_mm
        (n,) float64 along the unit direction; NaN where nothing was met.
    cosine
        (n,) float64 of the ray with the surface's outward normal (negative: the ray enters); NaN where nothing was met.
    face
        (n,) int32 triangle, -1 where nothing was met.
    """

    distance_mm: FloatArray
    cosine: FloatArray
    face: IntArray


class Scene:
    """A surface made ready for rays. Keep its coordinates local (within about 200 mm of the origin)."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._planes = face_areas(mesh)
        self._scene = rtcore_scene.EmbreeScene()
        self._shape = TriangleMesh(self._scene, mesh.vertices_mm.astype(np.float32), mesh.faces)

    @cached_property
    def _normals(self) -> FloatArray:
        return smooth_normals(self.mesh, self._planes)

    def meets(self, origins_mm: FloatArray, directions: FloatArray, reach_mm: float | FloatArray) -> tuple[FloatArray, IntArray]:
        """Distance (n,) along unit directions (n, 3) to the first face met, NaN where there is none; and that face, or -1."""
        reach = np.broadcast_to(np.asarray(reach_mm, dtype=np.float64), (len(directions),))
        found = self._scene.run(
            np.ascontiguousarray(np.broadcast_to(origins_mm, directions.shape), dtype=np.float32),
            np.ascontiguousarray(directions, dtype=np.float32),
            dists=np.ascontiguousarray(reach, dtype=np.float32),
            output=True,
        )
        face = np.asarray(found["primID"], dtype=np.int32)
        met = face >= 0
        distance = np.where(met, np.asarray(found["tfar"], dtype=np.float64), np.nan)
        origins = np.broadcast_to(origins_mm, directions.shape)[met]
        plane, ray = self._planes[face[met]], directions[met]
        slope = np.einsum("ij,ij->i", plane, ray)
        offset = np.einsum("ij,ij->i", plane, self.mesh.vertices_mm[self.mesh.faces[face[met], 0]] - origins)
        steep = np.abs(slope) > _PARALLEL * np.linalg.norm(plane, axis=1)
        refined = distance[met]
        refined[steep] = offset[steep] / slope[steep]
        distance[met] = refined
        return distance, face

    def first(self, origins_mm: FloatArray, directions: FloatArray, reach_mm: float | FloatArray) -> Hits:
        """Follow rays from (n, 3) ``origins_mm`` along (n, 3) unit ``directions`` for at most ``reach_mm``."""
        distance, face = self.meets(origins_mm, directions, reach_mm)
        met = face >= 0
        cosine = np.full(len(face), np.nan)
        cosine[met] = np.einsum("ij,ij->i", self._normals[face[met]], directions[met])
        return Hits(distance, cosine, face)

    def holds(self, points_mm: FloatArray, direction: FloatArray, *, reach_mm: float = 1000.0) -> npt.NDArray[np.bool_]:
        """(n,) whether points (n, 3) lie inside a closed surface: the first face along ``direction`` (3,) is seen from within."""
        _, face = self.meets(points_mm, np.broadcast_to(direction, points_mm.shape), reach_mm)
        return np.asarray((face >= 0) & (self.facing(face, direction) > 0.0))

    def facing(self, faces: IntArray, direction: FloatArray) -> FloatArray:
        """(n,) dot product of triangles' own (not smoothed) outward area vectors with ``direction`` (3,)."""
        return np.asarray(self._planes[faces] @ direction)

    def normals(self, faces: IntArray) -> FloatArray:
        """(n, 3) smoothed outward normals of triangles; of any one where ``faces`` is -1."""
        return self._normals[faces]


def smooth_normals(mesh: Mesh, areas: FloatArray | None = None) -> FloatArray:
    """(m, 3) unit normal of each triangle, averaged over its neighbours by area so that voxel steps do not show.

    ``areas`` (m, 3): those of :func:`face_areas`, when they are at hand.
    """
    areas = face_areas(mesh) if areas is None else areas
    count = len(mesh.faces)
    starts = np.arange(0, 3 * count + 1, 3)
    touches = sparse.csr_matrix((np.ones(3 * count), mesh.faces.ravel(), starts), shape=(count, len(mesh.vertices_mm)))
    normals = touches @ (touches.T @ areas)
    length = np.sqrt(np.einsum("ij,ij->i", normals, normals))
    return np.asarray(normals / np.maximum(length, np.finfo(np.float64).tiny)[:, None])


def face_areas(mesh: Mesh) -> FloatArray:
    """(m, 3) outward normal of each triangle, twice its area long, mm2."""
    corner = mesh.vertices_mm[mesh.faces[:, 0]]
    one, two = mesh.vertices_mm[mesh.faces[:, 1]] - corner, mesh.vertices_mm[mesh.faces[:, 2]] - corner
    area = np.empty_like(one)
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        area[:, k] = one[:, i] * two[:, j] - one[:, j] * two[:, i]
    return area


def above(mesh: Mesh, lowest_mm: float) -> Mesh:
    """The triangles whose first corner lies above z = ``lowest_mm``, without unused vertices."""
    faces = mesh.faces[mesh.vertices_mm[mesh.faces[:, 0], 2] > lowest_mm]
    used = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    used[faces.ravel()] = True
    place = np.cumsum(used) - 1
    return Mesh(mesh.vertices_mm[used], place[faces].astype(np.int32))
