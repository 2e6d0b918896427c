"""The way on and off: how near a body comes to bone while it moves along z."""

from __future__ import annotations

import numpy as np

from batchone.design.cranial.columns import on_the_way
from batchone.design.cranial.rays import Scene
from batchone.design.nearest import Index, nearest_points
from batchone.design.seating.contacts import Contact, Landscape
from batchone.pipeline.values import FloatArray

_OUT = np.array([0.0, 0.0, 1.0])
_ROUNDED_MM = 0.5  # numerical: by no more the grid rounds sharp bone, whose nodes are 0.6 mm apart
LIFT_MM = 40.0  # looked at above the seat: facts, METHODS C.6


def way_out(body: Contact, ground: Landscape, bone: Index, *, lift_mm: float = LIFT_MM) -> tuple[float, FloatArray]:
    """Least distance to the bone on the way, mm, negative where bone is met, and the place (3,) of the body where.

    The grid names the places that may be nearest; the bone itself is asked how near they are.
    """
    top = float(ground.lattice.z_mm[-1])
    lifts = np.arange(0.0, min(lift_mm, top - float(body.points_mm[:, 2].min())) + 1e-9, 0.5 * ground.lattice.step_mm)
    apart = np.empty((len(lifts), len(body.points_mm)))
    for row, lift in zip(apart, lifts, strict=True):
        moved = body.points_mm + lift * _OUT
        row[:] = np.where(moved[:, 2] < top, ground.at(moved), np.inf)
    step, point = np.nonzero(apart < apart.min() + _ROUNDED_MM)
    places = body.points_mm[point] + lifts[step, None] * _OUT
    exact, face, foot = nearest_points(places, bone)
    a, b, c = (bone.placed.vertices_mm[bone.placed.faces[face, k]] for k in range(3))
    behind = np.flatnonzero(np.einsum("ij,ij->i", places - foot, np.cross(b - a, c - a)) < 0.0)
    if len(behind):  # of its nearest triangle, which a place beside an edge may be too
        exact[behind[Scene(on_the_way(bone.placed, places[behind], _OUT)).holds(places[behind], _OUT)]] *= -1.0
    least = int(np.argmin(exact))
    return float(exact[least]), body.points_mm[point[least]]


def draft_deg(body: Contact) -> float:
    """Least angle between the carrying faces and the way out; negative: undercut."""
    return float(np.degrees(np.arcsin(np.clip(body.normals[:, 2].min(), -1.0, 1.0))))
