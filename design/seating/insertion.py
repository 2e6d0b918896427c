"""The way on and off: how near a body comes to bone while it moves along z."""

from __future__ import annotations

import numpy as np

from batchone.design.seating.contacts import Contact, Landscape
from batchone.pipeline.values import FloatArray

LIFT_MM = 40.0  # looked at above the seat: facts, METHODS C.6


def way_out(body: Contact, ground: Landscape, *, lift_mm: float = LIFT_MM) -> tuple[float, FloatArray]:
    """Least distance to the bone on the way, mm, negative where bone is met, and the place (3,) of the body where."""
    lattice = ground.lattice
    top = float(lattice.z_mm[-1])
    steps = np.arange(0.0, min(lift_mm, top - float(body.points_mm[:, 2].min())) + 1e-9, 0.5 * lattice.step_mm)
    least, worst = np.inf, body.points_mm[0]
    for step in steps:
        moved = body.points_mm + np.array([0.0, 0.0, step])
        distance = np.where(moved[:, 2] < top, ground.at(moved), np.inf)
        low = int(np.argmin(distance))
        if distance[low] < least:
            least, worst = float(distance[low]), body.points_mm[low]
    return least, worst


def draft_deg(body: Contact) -> float:
    """Least angle between the carrying faces and the way out; negative: undercut."""
    return float(np.degrees(np.arcsin(np.clip(body.normals[:, 2].min(), -1.0, 1.0))))
