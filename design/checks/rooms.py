"""Rooms that powder or resin comes out of only by a neck: wide inside, with an opening narrower than the process empties.

A ball of the escape hole's diameter that has room somewhere, but even a smaller one no way out to the open: what is in there
stays. The smaller ball allows for the grid on which the way is looked for.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from batchone.design.cranial.rays import scene_of
from batchone.design.nearest import nearest_mm
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Vector, judge

_STEP_SHARE = 0.2  # numerical: step of the grid per diameter of the ball
_MOST_CELLS = 1_500_000  # numerical: larger parts are looked at more coarsely, with a still smaller ball
_SLACK = 0.87  # numerical: half a diagonal of a cell, by which a ball's middle may miss the way through a hole just wide enough
_UP = np.array([0.0, 0.0, 1.0])


def room_findings(part: Part, process: Process) -> tuple[Finding, ...]:
    """Count the rooms of a part in which such a ball is caught; none may exist."""
    ball_mm = process.min_escape_hole_mm
    caught, neck_mm, where = caught_rooms(part.mesh, ball_mm)
    return (
        judge(
            "rooms", f"{part.name}: rooms of {ball_mm:g} mm or more that open by less than {neck_mm:.2g} mm", caught, "",
            low=0, high=0, hint=f"widen the opening to {ball_mm:g} mm or more, or fill the room",
            source=process.sources.get("min_escape_hole_mm", ""), where_mm=where,
        ),
    )  # fmt: skip


def caught_rooms(mesh: Mesh, ball_mm: float) -> tuple[int, float, Vector | None]:
    """How many rooms catch a ball of a diameter, the opening that the grid can tell, mm, and the middle of the largest room."""
    low, high = mesh.vertices_mm.min(axis=0) - 1.5 * ball_mm, mesh.vertices_mm.max(axis=0) + 1.5 * ball_mm
    step = max(_STEP_SHARE * ball_mm, float(np.prod(high - low) / _MOST_CELLS) ** (1.0 / 3.0))
    shape = tuple(np.ceil((high - low) / step).astype(int).tolist())
    radius = max(0.5 * ball_mm - _SLACK * step, 0.0)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points: FloatArray = low + step * grid
    distance = nearest_mm(points, mesh, within_mm=0.5 * ball_mm + step)
    clear = distance >= radius
    scene, middle = scene_of(mesh)
    clear[clear] = ~scene.holds(points[clear] - middle, _UP)
    room, count = ndimage.label(clear.reshape(shape), np.ones((3, 3, 3)))
    wide = np.zeros(count + 1, dtype=np.bool_)
    wide[room.ravel()[distance >= 0.5 * ball_mm]] = True
    wide[[0, room[0, 0, 0]]] = False
    if not wide.any():
        return 0, 2.0 * radius, None
    largest = int(np.argmax(np.bincount(room.ravel(), minlength=count + 1) * wide))
    x, y, z = points[room.ravel() == largest].mean(axis=0).tolist()
    return int(np.count_nonzero(wide)), 2.0 * radius, (x, y, z)
