"""Fewer triangles within an error bound, without letting thin sheets pass through each other.

Dropping triangles moves surfaces by less than the tolerance, but two sheets (or the two sides of a narrow crease) that lie
nearer than that may cross. Where they do, the original triangles are kept and the reduction is made again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.design.booleans import LabelArray, Solid, simplify, solid_from_labelled_mesh, to_mesh
from batchone.design.crossings import crossing_pairs
from batchone.pipeline.values import IntArray, Mesh

_CROSSING_MM = 1e-6  # numerical: as in the mesh check
_ROUNDS = 3  # kept places only grow; more rounds have not been needed
_MOST_PLACES = 300  # more crossings than this are not places but a way of being: the tolerance is too large for this bone
_KEEP_AROUND_MM = 0.5  # original triangles stay this far around a crossing
_NUMBERS = 4000  # numerical: kept triangles get face numbers of their own in turn, so that neighbours differ


def reduced(solid: Solid, tolerance_mm: float) -> tuple[Solid, float]:
    """Drop triangles while no surface moves by more than ``tolerance_mm``.

    Returns
    -------
    tuple[Solid, float]
        The result, free of self-intersections, and the tolerance that was used: 0 when the solid came back unchanged.
    """
    if tolerance_mm <= 0.0:
        return solid, 0.0
    mesh, face_labels, labels = to_mesh(solid)
    kept = np.zeros(len(mesh.faces), dtype=np.bool_)
    fewer = simplify(solid, tolerance_mm)
    for _ in range(_ROUNDS):
        candidate = to_mesh(fewer)[0]
        pairs = crossing_pairs(candidate, tolerance_mm=_CROSSING_MM)
        if len(pairs) == 0:
            return fewer, tolerance_mm
        if len(pairs) > _MOST_PLACES:
            break
        kept |= _around(mesh, candidate, pairs)
        fewer = simplify(_protected(mesh, face_labels, labels, kept), tolerance_mm)
    return solid, 0.0


def _around(mesh: Mesh, candidate: Mesh, pairs: IntArray) -> npt.NDArray[np.bool_]:
    """Triangles of ``mesh`` near the crossing triangles of ``candidate``."""
    centres = mesh.vertices_mm[mesh.faces].mean(axis=1)
    near = np.zeros(len(centres), dtype=np.bool_)
    for pair in pairs:
        corners = candidate.vertices_mm[candidate.faces[pair]].reshape(-1, 3)
        low, high = corners.min(axis=0) - _KEEP_AROUND_MM, corners.max(axis=0) + _KEEP_AROUND_MM
        near |= np.asarray(((centres >= low) & (centres <= high)).all(axis=1))
    return near


def _protected(mesh: Mesh, face_labels: LabelArray, labels: tuple[str, ...], kept: npt.NDArray[np.bool_]) -> Solid:
    """The same solid, each kept triangle a face of its own: the edges between faces stay when triangles are dropped."""
    numbers = min(_NUMBERS, (np.iinfo(np.int16).max - len(labels)) // len(labels))
    wide = face_labels.astype(np.int64)
    turn = np.arange(np.count_nonzero(kept)) % numbers
    wide[kept] = len(labels) + wide[kept] * numbers + turn
    names = labels + tuple(label for label in labels for _ in range(numbers))
    return solid_from_labelled_mesh(mesh, names, wide.astype(np.int16))
