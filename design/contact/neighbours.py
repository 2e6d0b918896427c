"""What lies about a bone and must not be touched: other ordered bones by their surfaces, all others by their labels' voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from batchone.design.contact.field import (
    COARSE,
    REACH_MM,
    Float32Array,
    Lattice,
    between_nodes,
    lattice_over,
    signed_distance_mm,
)
from batchone.design.cranial.columns import to_local
from batchone.design.nearest import nearest_mm
from batchone.pipeline.labels import bone_title
from batchone.pipeline.values import Anatomy, Bone, FloatArray, Mesh, Vector, VoxelLabels, moved_points

_SPARSE_MM = 1.0  # of neighbours, voxels about so far apart are asked: they only keep a distance of millimetres


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The other ordered bones, and the labels of all bones with the values of those that were not ordered."""

    bones: tuple[Bone, ...] = ()
    labels: VoxelLabels | None = None
    values: tuple[int, ...] = ()

    def distance_mm(self, lattice: Lattice, pose: FloatArray, *, every: int = COARSE) -> Float32Array | None:
        """(x, y, z) signed distance to all of them on a grid in the frame of ``pose`` (4, 4), cut off at ``REACH_MM``; None where
        there are none. About half a voxel too small for bones that are only voxels."""
        found = None
        for bone in self.bones:
            mesh = Mesh(to_local(pose, bone.mesh.vertices_mm), bone.mesh.faces)
            one = signed_distance_mm(mesh, lattice, every=every)
            found = one if found is None else np.minimum(found, one)
        points, half_mm = self._voxels(lattice, pose)
        if len(points) == 0:
            return found
        nodes = tuple(-(-n // every) for n in lattice.shape)
        places = lattice.origin_mm + np.indices(nodes).reshape(3, -1).T * (every * lattice.step_mm)
        apart, _ = cKDTree(points).query(places, distance_upper_bound=REACH_MM + half_mm, workers=-1)
        coarse = (np.minimum(apart, REACH_MM + half_mm) - half_mm).astype(np.float32).reshape(nodes)
        beside = between_nodes(coarse, every, lattice.shape)
        return beside if found is None else np.minimum(found, beside)

    def nearest(self, part: Mesh) -> tuple[float, Vector | None]:
        """Least distance of a part's vertices (LPS) to any of them, at most ``REACH_MM``, half a voxel uncertain; and of which
        vertex, None where all are farther away."""
        low, high = part.vertices_mm.min(axis=0), part.vertices_mm.max(axis=0)
        points, half_mm = self._voxels(lattice_over(low, high, _SPARSE_MM), np.eye(4))
        least = np.full(len(part.vertices_mm), REACH_MM)
        if len(points):
            apart, _ = cKDTree(points).query(part.vertices_mm, distance_upper_bound=REACH_MM, workers=-1)
            least = np.minimum(least, np.maximum(apart - half_mm, 0.0))
        for bone in self.bones:
            least = np.minimum(least, nearest_mm(part.vertices_mm, bone.mesh, within_mm=REACH_MM))
        vertex = int(np.argmin(least))
        x, y, z = part.vertices_mm[vertex].tolist()
        return float(least[vertex]), (x, y, z) if least[vertex] < REACH_MM else None

    def _voxels(self, lattice: Lattice, pose: FloatArray) -> tuple[FloatArray, float]:
        """Middles (n, 3) of voxels about the grid, in its frame; and how far a voxel reaches from its middle, mm."""
        if self.labels is None or not self.values:
            return np.empty((0, 3)), 0.0
        labels = self.labels
        step_mm = np.linalg.norm(labels.affine[:3, :3], axis=0)
        every = max(1, round(_SPARSE_MM / float(step_mm[0])))
        wanted = np.isin(labels.value, np.array(self.values, dtype=labels.value.dtype))
        start, length = labels.start[wanted].astype(np.int64), labels.length[wanted].astype(np.int64)
        columns, rows = labels.shape[2], labels.shape[1]
        first = np.column_stack([start % columns, start // columns % rows, start // (columns * rows)]).astype(np.float64)
        to_grid = np.linalg.inv(pose) @ labels.affine
        low = lattice.origin_mm - REACH_MM
        high = lattice.origin_mm + (np.array(lattice.shape) - 1) * lattice.step_mm + REACH_MM
        ends = first + np.column_stack([length - 1, np.zeros((len(length), 2))])
        one, other = moved_points(np.asarray(to_grid), first), moved_points(np.asarray(to_grid), ends)
        near = ((np.maximum(one, other) >= low) & (np.minimum(one, other) <= high)).all(axis=1)
        index = _spread(first[near], length[near], every)
        points = moved_points(np.asarray(to_grid), index)
        inside = ((points >= low) & (points <= high)).all(axis=1)
        return points[inside], 0.5 * float(np.linalg.norm(step_mm * [every, 1.0, 1.0]))


def neighbours(anatomy: Anatomy, bone: Bone) -> Neighbours:
    """All bones of the anatomy but one. Bones that were told apart without being ordered count too, where the labels name those
    that were."""
    others = tuple(other for other in anatomy.bones if other is not bone)
    if anatomy.labels is None:
        return Neighbours(others)
    ordered = {bone_title(one.name, one.side) for one in anatomy.bones}
    if not ordered <= {label.title for label in anatomy.labels.labels}:
        return Neighbours(others)
    values = tuple(label.value for label in anatomy.labels.labels if label.title not in ordered)
    return Neighbours(others, anatomy.labels, values)


def _spread(first: FloatArray, length: npt.NDArray[np.int64], every: int) -> FloatArray:
    """(n, 3) (column, row, slice) of every so many voxels of each run, the first among them."""
    counts = -(-length // every)
    run = np.repeat(np.arange(len(length)), counts)
    along = np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
    index = first[run]
    index[:, 0] += along * every
    return np.asarray(index)
