"""How far a surface has moved from an earlier one, with its sign, one value for each vertex."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.serve.scene.layers import DEVIATION
from batchone.pipeline.values import FloatArray, IntArray, Mesh

_AT_A_CORNER = 1e-6  # numerical: share of a triangle within which its closest point lies on an edge or a corner


def deviation_mm(mesh: Mesh, before: Mesh) -> FloatArray:
    """How far (n,) each vertex lies outside of an earlier closed surface, mm: negative inside; not a number beyond the scale.

    The sign is that of the angle-weighted normal at the closest point (Bærentzen and Aanæs, IEEE TVCG 11(3), 2005), which is
    right on edges and corners too, where the normal of one triangle may not be.
    """
    from batchone.design.nearest import nearest_points

    distance, face, closest = nearest_points(mesh.vertices_mm, before, within_mm=DEVIATION.high)
    near = face >= 0
    off = mesh.vertices_mm[near] - closest[near]
    side = np.einsum("ij,ij->i", off, _normals_at(before, face[near], closest[near]))
    found = np.full(len(distance), np.nan)
    found[near] = np.where(side < 0.0, -distance[near], distance[near])
    return found


def _normals_at(mesh: Mesh, face: IntArray, point_mm: FloatArray) -> FloatArray:
    """Normal (n, 3), of any length, at a point (n, 3) of each triangle ``face``: of the triangle, its edge or its corner."""
    corners = mesh.vertices_mm[mesh.faces]
    ahead, behind = np.roll(corners, -1, axis=1) - corners, np.roll(corners, 1, axis=1) - corners
    double_mm2 = np.cross(ahead[:, 0], behind[:, 0])
    size_mm2 = np.maximum(np.linalg.norm(double_mm2, axis=1), np.finfo(np.float64).tiny)
    normal = double_mm2 / size_mm2[:, None]
    angle = np.arctan2(np.linalg.norm(np.cross(ahead, behind), axis=2), np.einsum("fki,fki->fk", ahead, behind))
    at_corner = np.zeros_like(mesh.vertices_mm)
    np.add.at(at_corner, mesh.faces, angle[:, :, None] * normal[:, None])
    ends = np.stack([np.roll(mesh.faces, -1, axis=1), np.roll(mesh.faces, -2, axis=1)], axis=2)  # of the edge that faces a corner
    edge = np.unique(np.sort(ends, axis=2).reshape(-1, 2), axis=0, return_inverse=True)[1].reshape(-1, 3)
    at_edge = np.zeros((edge.max() + 1, 3))
    np.add.at(at_edge, edge, np.broadcast_to(normal[:, None], corners.shape))

    away = corners[face] - point_mm[:, None]
    facing = np.cross(np.roll(away, -1, axis=1), np.roll(away, -2, axis=1))  # twice the area between the point and each edge
    share = np.einsum("nki,ni->nk", facing, normal[face]) / size_mm2[face, None]
    least, most = share.argmin(axis=1), share.argmax(axis=1)
    found = normal[face]
    on_edge, on_corner = share.min(axis=1) < _AT_A_CORNER, share.max(axis=1) > 1.0 - _AT_A_CORNER
    found[on_edge] = at_edge[edge[face, least][on_edge]]
    found[on_corner] = at_corner[mesh.faces[face, most][on_corner]]
    return np.asarray(found)
