"""Fewer triangles within an error bound, without letting thin sheets pass through each other.

Dropping triangles moves surfaces by less than the tolerance, but two sheets (or the two sides of a narrow crease) that lie
nearer than that may cross. Where they do, the original triangles are kept and the reduction is made again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.design.crossings import crossing_pairs
from batchone.design.model.collapse import collapsed
from batchone.pipeline.values import FloatArray, IntArray, Mesh

_CROSSING_MM = 1e-6  # numerical: stricter than the mesh check, which measures after rounding
_EASINGS = 12  # rounds of easing; a fold of two triangles has needed one to three
_ROUNDS = 4  # kept places only grow; more rounds have not been needed
_MOST_PLACES = 300  # more crossings than this are not places but a way of being: the tolerance is too large for this bone
_KEEP_AROUND_MM = 0.5  # original triangles stay this far around a crossing


def reduced(mesh: Mesh, tolerance_mm: float) -> tuple[Mesh, float]:
    """Drop triangles of a closed surface while it moves by no more than ``tolerance_mm``.

    Returns
    -------
    tuple[Mesh, float]
        The result, free of self-intersections, and the tolerance that was used: 0 when the mesh came back unchanged.
    """
    mesh = untangled(mesh)
    if tolerance_mm <= 0.0:
        return mesh, 0.0
    frozen = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    for _ in range(_ROUNDS):
        fewer = collapsed(mesh, tolerance_mm, frozen)
        pairs = crossing_pairs(fewer, tolerance_mm=_CROSSING_MM)
        if len(pairs) == 0:
            return fewer, tolerance_mm
        if len(pairs) > _MOST_PLACES:
            break
        frozen |= _around(mesh.vertices_mm, fewer, pairs)
    return mesh, 0.0


def untangled(mesh: Mesh) -> Mesh:
    """A surface of which no triangle passes through another: where one does, its corners are drawn to their neighbours' middle.

    A bone's surface is measured vertex by vertex, and two of some ten thousand may cross in a cleft. Itself where none does, or
    where this does not help.
    """
    points = mesh.vertices_mm
    for _ in range(_EASINGS):
        pairs = crossing_pairs(Mesh(points, mesh.faces), tolerance_mm=_CROSSING_MM)
        if len(pairs) == 0:
            return mesh if points is mesh.vertices_mm else Mesh(points, mesh.faces)
        if len(pairs) > _MOST_PLACES:
            return mesh
        points = _eased(points, mesh.faces, np.unique(mesh.faces[np.unique(pairs)]))
    return mesh


def _eased(points_mm: FloatArray, faces: IntArray, chosen: npt.NDArray[np.int32]) -> FloatArray:
    """The points with the chosen ones half way to the middle of their neighbours."""
    moved = points_mm.copy()
    around = faces[np.isin(faces, chosen).any(axis=1)]
    for vertex in chosen:
        ring = np.unique(around[(around == vertex).any(axis=1)])
        moved[vertex] = 0.5 * (points_mm[vertex] + points_mm[ring[ring != vertex]].mean(axis=0))
    return moved


def _around(points_mm: FloatArray, candidate: Mesh, pairs: IntArray) -> npt.NDArray[np.bool_]:
    """Which of the points lie near the crossing triangles of ``candidate``."""
    near = np.zeros(len(points_mm), dtype=np.bool_)
    for pair in pairs:
        corners = candidate.vertices_mm[candidate.faces[pair]].reshape(-1, 3)
        low, high = corners.min(axis=0) - _KEEP_AROUND_MM, corners.max(axis=0) + _KEEP_AROUND_MM
        near |= np.asarray(((points_mm >= low) & (points_mm <= high)).all(axis=1))
    return near
