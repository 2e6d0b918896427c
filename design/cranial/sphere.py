"""Directions from the vault's centre: an icosphere, its neighbours, and steps on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial import cKDTree

from batchone.pipeline.values import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sphere:
    """Unit directions, almost evenly spread.

    Attributes
    ----------
    directions
        (n, 3) float64 unit vectors.
    faces
        (m, 3) int32, counter-clockwise seen from outside.
    links
        (n, n) symmetric CSR matrix of ones: direct neighbours.
    tree
        For the nearest direction.
    solid_angles
        (n,) steradian that each direction stands for.
    parents
        (k, 2) int32: the last k directions stand between two of the level below.
    """

    directions: FloatArray
    faces: IntArray
    links: sparse.csr_matrix
    tree: cKDTree
    solid_angles: FloatArray
    parents: IntArray

    def grown(self, mask: BoolArray, rings: int) -> BoolArray:
        """``mask`` (n,) and all directions at most ``rings`` steps away."""
        for _ in range(rings):
            mask = mask | (self.links @ mask.astype(np.float32) > 0.0)
        return mask

    def eroded(self, mask: BoolArray, rings: int) -> BoolArray:
        """``mask`` (n,) without all directions at most ``rings`` steps from its outside."""
        return ~self.grown(~mask, rings)

    def rings_from(self, mask: BoolArray, most: int) -> IntArray:
        """(n,) steps from ``mask``: 0 inside, ``most + 1`` beyond ``most``."""
        steps = np.where(mask, 0, most + 1).astype(np.int32)
        reached = mask
        for ring in range(1, most + 1):
            wider = self.grown(reached, 1)
            steps[wider & ~reached] = ring
            reached = wider
        return steps

    def components(self, mask: BoolArray) -> list[IntArray]:
        """Index arrays of the connected parts of ``mask``, largest first."""
        index = np.flatnonzero(mask)
        part = self.links[index][:, index]
        count, label = sparse.csgraph.connected_components(part, directed=False)
        groups = [index[label == k].astype(np.int32) for k in range(count)]
        return sorted(groups, key=lambda group: (-len(group), int(group[0])))

    def nearest(self, vectors: FloatArray) -> IntArray:
        """Index of the direction nearest to each of the (k, 3) vectors (any length)."""
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(self.tree.query(unit)[1], dtype=np.int32)


@lru_cache(maxsize=3)
def icosphere(level: int) -> Sphere:
    """The icosahedron divided ``level`` times; level 6 has 40 962 directions, 1.4 mm apart at 80 mm.

    The directions of a level come first in the next one.
    """
    points, faces = _icosahedron()
    parents = np.zeros((0, 2), dtype=np.int32)
    for _ in range(level):
        points, faces, parents = _divided(points, faces)
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([ends, ends[:, ::-1]])
    links = sparse.csr_matrix((np.ones(len(both), dtype=np.float32), (both[:, 0], both[:, 1])), shape=(len(points),) * 2)
    links.data[:] = 1.0
    return Sphere(points, faces.astype(np.int32), links, cKDTree(points), _solid_angles(points, faces), parents)


def _solid_angles(points: FloatArray, faces: IntArray) -> FloatArray:
    a, b, c = (points[faces[:, k]] for k in range(3))
    triple = np.einsum("ij,ij->i", a, np.cross(b, c))
    ab, bc, ca = (np.einsum("ij,ij->i", p, q) for p, q in ((a, b), (b, c), (c, a)))
    angle = 2.0 * np.arctan2(triple, 1.0 + ab + bc + ca)  # Van Oosterom & Strackee 1983
    return np.asarray(np.bincount(faces.ravel(), np.repeat(angle / 3.0, 3), len(points)))


def _icosahedron() -> tuple[FloatArray, IntArray]:
    golden = (1.0 + np.sqrt(5.0)) / 2.0
    points = np.array([
        (-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0), (0, -1, golden), (0, 1, golden),
        (0, -1, -golden), (0, 1, -golden), (golden, 0, -1), (golden, 0, 1), (-golden, 0, -1), (-golden, 0, 1),
    ])  # fmt: skip
    faces = np.array([
        (0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6), (7, 1, 8),
        (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1),
    ], dtype=np.int32)  # fmt: skip
    return points / np.linalg.norm(points, axis=1, keepdims=True), faces


def _divided(points: FloatArray, faces: IntArray) -> tuple[FloatArray, IntArray, IntArray]:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    keys, place = np.unique(edges[:, 0].astype(np.int64) * len(points) + edges[:, 1], return_inverse=True)
    unique = np.stack(np.divmod(keys, len(points)), axis=1).astype(np.int32)
    middle = points[unique].sum(axis=1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    ab, bc, ca = (place.reshape(3, -1) + len(points)).astype(np.int32)
    a, b, c = faces.T
    small = [np.stack(t, axis=1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate([points, middle]), np.concatenate(small), unique.astype(np.int32)
