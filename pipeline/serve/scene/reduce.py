"""Surfaces for the screen: unchanged about the device, elsewhere what faces alike in one cell is joined. Never for a print."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, Mesh

NEAR_MM = 8.0  # about the device nothing is joined: planes and contours there show the surface that was designed on
CELL_MM = 2.0  # edge of a cell elsewhere: 95 % of the vertices stay within 0.06 mm of a skull; none moves by more than 3.5 mm
MOST_FACES = 60_000  # a surface of fewer triangles is sent as it is


def reduced(mesh: Mesh, about_mm: FloatArray, values: FloatArray | None = None) -> tuple[Mesh, FloatArray | None]:
    """A surface with fewer triangles, and the values (n,) of its vertices where there are some.

    Parameters
    ----------
    mesh, values
        The surface, and one number for each of its vertices.
    about_mm
        (m, 3) LPS points of the device; within ``NEAR_MM`` of them every vertex stays.
    """
    if len(mesh.faces) <= MOST_FACES:
        return mesh, values
    cell = np.floor(mesh.vertices_mm / CELL_MM).astype(np.int64)
    low = cell.min(axis=0)
    shape = cell.max(axis=0) - low + 1
    key = 8 * np.ravel_multi_index(tuple((cell - low).T), tuple(shape)) + _octant(mesh)
    kept = _near(mesh.vertices_mm, about_mm)
    key[kept] = 8 * int(shape.prod()) + np.flatnonzero(kept)
    _, joined, count = np.unique(key, return_inverse=True, return_counts=True)
    mean = np.stack([_mean(mesh.vertices_mm[:, axis], joined, count) for axis in range(3)], axis=1)
    faces = joined[mesh.faces].astype(np.int32)
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return Mesh(mean, np.ascontiguousarray(faces[whole])), None if values is None else _mean(values, joined, count)


def _octant(mesh: Mesh) -> npt.NDArray[np.int64]:
    """Which way one triangle at each vertex faces, in eighths: the two sides of a thin wall are not joined."""
    triangle = np.full(len(mesh.vertices_mm), -1, dtype=np.int32)  # the last one at each vertex
    for corner in range(3):
        triangle[mesh.faces[:, corner]] = np.arange(len(mesh.faces), dtype=np.int32)
    points, faces = mesh.vertices_mm.astype(np.float32), mesh.faces[triangle]
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    area = np.cross(b - a, c - a)
    way = sum(np.where(area[:, axis] >= 0.0, 1 << axis, 0) for axis in range(3))
    return np.asarray(np.where(triangle < 0, 0, way), dtype=np.int64)


def _mean(values: FloatArray, joined: npt.NDArray[np.int64], count: npt.NDArray[np.int64]) -> FloatArray:
    """Mean of the known values of each group; not a number where none is known."""
    known = ~np.isnan(values)
    if not known.all():
        count = np.bincount(joined[known], minlength=len(count))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(joined[known], values[known], len(count)) / count)


def _near(points_mm: FloatArray, about_mm: FloatArray) -> npt.NDArray[np.bool_]:
    """Which points lie within about ``NEAR_MM`` of others: in a cell of that size that holds one, or beside it."""
    if len(about_mm) == 0:
        return np.zeros(len(points_mm), dtype=bool)
    low = about_mm.min(axis=0) - NEAR_MM
    shape = np.floor((about_mm.max(axis=0) - low) / NEAR_MM).astype(np.int64) + 3
    full = np.zeros(shape, dtype=bool)
    at = np.floor((about_mm - low) / NEAR_MM).astype(np.int64)
    full[tuple(at.T)] = True
    wide = full.copy()
    for axis in range(3):
        wide |= np.roll(wide, 1, axis) | np.roll(wide, -1, axis)
    index = np.floor((points_mm - low) / NEAR_MM).astype(np.int64)
    inside = ((index >= 0) & (index < shape)).all(axis=1)
    near = np.zeros(len(points_mm), dtype=bool)
    near[inside] = wide[tuple(index[inside].T)]
    return near
