"""Which faces of a part a parametric feature must have made: bores, slots, letters, boxes, by how their triangles turn."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import FloatArray, IntArray, Mesh

_FLAT = 0.99  # numerical: longer is the mean normal of a single flat face, such as the stop of a sleeve
_STRAIGHT = 0.9  # numerical: share of the area; 0.97 and more on bores, slots, letters; 0.2 on what follows a bone
_WALLS = 0.3  # numerical: share of the area that is wall or end, so that a mere cone is none
_MOST = 0.5  # numerical: share of a face's area in such pieces
_TURNED = 0.9  # numerical: cosine below which two triangles face different ways


def is_straight(face: Mesh) -> bool:
    """Whether a face is cut straight: its triangles lie along an axis or across it, save those of one cone about it.

    A bore, blind, through or countersunk, a slot, a letter and a box are; what follows a bone is not, nor is a single flat.
    Several pieces, such as bores along many axes, are straight where pieces of most of the area are.
    """
    if _straight(face):
        return True
    areas = [(_area_mm2(piece), _straight(piece)) for piece in _pieces(face)]
    return sum(area for area, straight in areas if straight) > _MOST * sum(area for area, _ in areas)


def _straight(face: Mesh) -> bool:
    normals, areas = _normals(face)
    if not len(areas) or float(np.linalg.norm(areas @ normals)) > _FLAT * float(areas.sum()):
        return False
    degrees = np.degrees(np.arccos(np.clip(normals @ _axes(normals, areas).T, -1.0, 1.0)))
    return any(_along_or_across(one, areas) for one in degrees.T)


def _along_or_across(degrees: FloatArray, areas: FloatArray) -> bool:
    shares = np.histogram(degrees, bins=181, range=(-0.5, 180.5), weights=areas)[0] / areas.sum()
    right = float(shares[[0, 90, 180]].sum())
    shares[[0, 90, 180]] = 0.0
    cone = float((shares[:-1] + shares[1:]).max())  # two neighbours: its angle may lie where they meet
    return right > _WALLS and right + cone > _STRAIGHT


def _axes(normals: FloatArray, areas: FloatArray) -> FloatArray:
    """(n, 3) where the axis may lie: along what the normals gather about, or along or across the largest triangles."""
    about = np.linalg.eigh(np.einsum("ij,ik,i->jk", normals, normals, areas))[1].T
    largest = normals[areas.argmax()]
    other = np.abs(normals @ largest) < _TURNED
    if not other.any():
        return np.vstack([about, largest])
    across = np.cross(largest, normals[(areas * other).argmax()])
    return np.vstack([about, largest, across / np.linalg.norm(across)])


def _normals(face: Mesh) -> tuple[FloatArray, FloatArray]:
    """(n, 3) unit normals and (n,) areas, mm2, of the triangles that have one."""
    corners = face.vertices_mm[face.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    wide = lengths > 0.0
    return normals[wide] / lengths[wide, None], 0.5 * lengths[wide]


def _area_mm2(face: Mesh) -> float:
    return float(_normals(face)[1].sum())


def _pieces(face: Mesh) -> list[Mesh]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    used, local = np.unique(face.faces, return_inverse=True)
    a, b, c = local.reshape(-1, 3).T
    links = coo_array((np.ones(2 * len(a), dtype=np.int8), (np.r_[a, b], np.r_[b, c])), shape=(len(used),) * 2)
    piece: IntArray = connected_components(links, directed=False)[1][a]
    order = np.argsort(piece, kind="stable")
    ends = np.flatnonzero(np.diff(piece[order])) + 1
    return [Mesh(face.vertices_mm, face.faces[one]) for one in np.split(order, ends) if len(one)]
