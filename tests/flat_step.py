"""A STEP file that is true of any mesh: a plate below one of its triangles."""

from __future__ import annotations

import numpy as np

from batchone.design.solid import box, step_of
from batchone.pipeline.values import FloatArray, Mesh, Vector

LABEL = "flat"


def step_below(mesh: Mesh, face: int) -> bytes:
    """STEP file of a plate whose upper side holds a triangle; the face of that triangle alone is to be labelled ``flat``."""
    a, b, c = mesh.vertices_mm[mesh.faces[face]]
    along, normal = b - a, np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal)
    wide = 4.0 * float(max(np.linalg.norm(along), np.linalg.norm(c - a)))
    middle = (a + b + c) / 3.0 - 0.5 * normal
    plate = box(
        LABEL, size_mm=(wide, wide, 1.0), centre_mm=_vector(middle), x_direction=_vector(along), normal=_vector(normal)
    )  # fmt: skip
    return step_of((plate,))


def _vector(values: FloatArray) -> Vector:
    x, y, z = values.tolist()
    return (x, y, z)
