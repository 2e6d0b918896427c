"""Rays against a closed surface: found in single precision by embree, refined in double from the triangle's plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import numpy.typing as npt
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from scipy import sparse

from batchone.design.triangles import area_vectors
from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import FloatArray, IntArray, Mesh

_RUN = 50_000  # numerical: rays that one thread follows at a time
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
    """A surface made ready for rays. Keep its coordinates local (within about 200 mm of the origin).

    ``areas`` (m, 3) is the outward normal of each triangle, twice its area long, mm2.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.areas = area_vectors(mesh)
        self._scene = rtcore_scene.EmbreeScene()
        self._shape = TriangleMesh(self._scene, mesh.vertices_mm.astype(np.float32), mesh.faces)

    @cached_property
    def _normals(self) -> FloatArray:
        return smooth_normals(self.mesh, self.areas)

    def meets(self, origins_mm: FloatArray, directions: FloatArray, reach_mm: float | FloatArray) -> tuple[FloatArray, IntArray]:
        """Distance (n,) along unit directions (n, 3) to the first face met, NaN where there is none; and that face, or -1."""
        origins = np.broadcast_to(origins_mm, directions.shape)
        reach = np.broadcast_to(np.asarray(reach_mm, dtype=np.float64), (len(directions),))
        runs = [slice(first, first + _RUN) for first in range(0, max(len(directions), 1), _RUN)]
        found = side_by_side([partial(self._met, origins[run], directions[run], reach[run]) for run in runs])
        face, far = (np.concatenate(one) for one in zip(*found, strict=True))
        met = face >= 0
        distance = np.where(met, far, np.nan)
        origins = origins[met]
        plane, ray = self.areas[face[met]], directions[met]
        slope = np.einsum("ij,ij->i", plane, ray)
        offset = np.einsum("ij,ij->i", plane, self.mesh.vertices_mm[self.mesh.faces[face[met], 0]] - origins)
        steep = np.abs(slope) > _PARALLEL * np.linalg.norm(plane, axis=1)
        refined = distance[met]
        refined[steep] = offset[steep] / slope[steep]
        distance[met] = refined
        return distance, face

    def _met(self, origins: FloatArray, directions: FloatArray, reach: FloatArray) -> tuple[IntArray, FloatArray]:
        """Triangle and distance of what each ray meets first, in single precision; the library lets other threads run."""
        one, other, far = (np.ascontiguousarray(array, dtype=np.float32) for array in (origins, directions, reach))
        found = self._scene.run(one, other, dists=far, output=True)
        return np.asarray(found["primID"], dtype=np.int32), np.asarray(found["tfar"], dtype=np.float64)

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
        """(n,) dot product of triangles' own (not smoothed) outward area vectors with ``direction`` (3,) or (n, 3)."""
        return np.asarray(np.einsum("ij,ij->i", self.areas[faces], np.broadcast_to(direction, (len(faces), 3))))

    def normals(self, faces: IntArray) -> FloatArray:
        """(n, 3) smoothed outward normals of triangles; of any one where ``faces`` is -1."""
        return self._normals[faces]


@lru_cache(maxsize=1)
def scene_of(mesh: Mesh) -> tuple[Scene, FloatArray]:
    """A surface about the middle (3,) of its box, ready for rays, and that middle: what one check has made serves the next."""
    middle = 0.5 * (mesh.vertices_mm.min(axis=0) + mesh.vertices_mm.max(axis=0))
    return Scene(Mesh(mesh.vertices_mm - middle, mesh.faces)), middle


def smooth_normals(mesh: Mesh, areas: FloatArray | None = None) -> FloatArray:
    """(m, 3) unit normal of each triangle, averaged over its neighbours by area so that voxel steps do not show.

    ``areas`` (m, 3): those of :func:`batchone.design.triangles.area_vectors`, when they are at hand.
    """
    areas = area_vectors(mesh) if areas is None else areas
    count = len(mesh.faces)
    starts = np.arange(0, 3 * count + 1, 3)
    touches = sparse.csr_matrix((np.ones(3 * count), mesh.faces.ravel(), starts), shape=(count, len(mesh.vertices_mm)))
    normals = touches @ (touches.T @ areas)
    length = np.sqrt(np.einsum("ij,ij->i", normals, normals))
    return np.asarray(normals / np.maximum(length, np.finfo(np.float64).tiny)[:, None])


def above(mesh: Mesh, lowest_mm: float) -> Mesh:
    """The triangles whose first corner lies above z = ``lowest_mm``, without unused vertices."""
    faces = mesh.faces[mesh.vertices_mm[mesh.faces[:, 0], 2] > lowest_mm]
    used = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    used[faces.ravel()] = True
    place = np.cumsum(used) - 1
    return Mesh(mesh.vertices_mm[used], place[faces].astype(np.int32))
