"""The frame of any bone, from its principal axes."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import FloatArray, Mesh


def principal_frame(mesh: Mesh) -> FloatArray:
    """Frame of any bone: z along its longest principal axis, towards the head; x of the other two nearest to the patient's
    left, towards it; y completes a right-handed frame; origin in the centre of area.

    Returns
    -------
    (4, 4) pose in LPS.
    """
    a, b, c = (mesh.vertices_mm[mesh.faces[:, i]] for i in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    middle = (a + b + c) / 3.0
    centre = (area[:, None] * middle).sum(axis=0) / area.sum()
    spread = middle - centre
    _, axes = np.linalg.eigh((spread * area[:, None]).T @ spread)
    long = axes[:, 2]
    z_axis = long * _sign(long, 2)
    side = axes[:, 0] if abs(axes[0, 0]) >= abs(axes[0, 1]) else axes[:, 1]
    x_axis = side * _sign(side, 0)
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1], frame[:3, 2], frame[:3, 3] = x_axis, np.cross(z_axis, x_axis), z_axis, centre
    return frame


def _sign(axis: FloatArray, towards: int) -> float:
    """+1 or -1, so that the axis points towards a patient axis; across it, its largest component decides."""
    component = axis[towards] if abs(axis[towards]) > 1e-6 else axis[int(np.argmax(np.abs(axis)))]
    return 1.0 if component >= 0.0 else -1.0
