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


def _around(points_mm: FloatArray, candidate: Mesh, pairs: IntArray) -> npt.NDArray[np.bool_]:
    """Which of the points lie near the crossing triangles of ``candidate``."""
    near = np.zeros(len(points_mm), dtype=np.bool_)
    for pair in pairs:
        corners = candidate.vertices_mm[candidate.faces[pair]].reshape(-1, 3)
        low, high = corners.min(axis=0) - _KEEP_AROUND_MM, corners.max(axis=0) + _KEEP_AROUND_MM
        near |= np.asarray(((points_mm >= low) & (points_mm <= high)).all(axis=1))
    return near
