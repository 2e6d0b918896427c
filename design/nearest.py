"""Closest points on a triangle surface (embree, double precision)."""

from __future__ import annotations

import warnings

import numpy as np

from batchone.pipeline.values import FloatArray, IntArray, Mesh

with warnings.catch_warnings():
    warnings.filterwarnings(
        "ignore", message="invalid escape sequence"
    )  # a comment in the library, seen where it is not compiled yet
    from point_cloud_utils import closest_points_on_mesh


def nearest_points(points_mm: FloatArray, mesh: Mesh) -> tuple[FloatArray, IntArray, FloatArray]:
    """Find the closest point of a surface to each point.

    Parameters
    ----------
    points_mm
        (n, 3) points in the frame of the mesh.
    mesh
        At least one triangle.

    Returns
    -------
    tuple
        (n,) unsigned distance in mm, (n,) triangle, (n, 3) the closest point.
    """
    points = np.ascontiguousarray(points_mm, dtype=np.float64)
    distance, face, weights = closest_points_on_mesh(points, mesh.vertices_mm, mesh.faces)
    corners = mesh.vertices_mm[mesh.faces[face]]
    return np.asarray(distance, dtype=np.float64), np.asarray(face, dtype=np.int32), np.einsum("ij,ijk->ik", weights, corners)


def distance_mm(points_mm: FloatArray, mesh: Mesh) -> FloatArray:
    """(n,) unsigned distance from (n, 3) points to a surface of at least one triangle, mm."""
    return nearest_points(points_mm, mesh)[0] if len(points_mm) else np.empty(0)
