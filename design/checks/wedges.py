"""Thin wedges between features: what is left between two bores, slots or windows snaps off, whatever their angle.

Walls are measured between opposite faces; a wedge has none.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from batchone.design.cranial.columns import submesh
from batchone.design.cranial.rays import Scene, scene_of
from batchone.design.nearest import nearest_points
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Vector, judge

OPENINGS = ("bore", "slot", "window", "mark-", "perforation", "fixation", "escape-hole")  # labels of what is cut through a part
_UP = np.array([0.0, 0.0, 1.0])


def wedge_findings(part: Part, process: Process) -> tuple[Finding, ...]:
    """Least material between two openings of a part, of each two that differ by name; none where there are fewer than two."""
    there = set(np.unique(part.face_labels).tolist())
    openings = [label for k, label in enumerate(part.labels) if label.startswith(OPENINGS) and k in there]
    if len(openings) < 2:
        return ()
    scene, shift = scene_of(part.mesh)
    faces = {label: submesh(scene.mesh, part.face_labels == part.labels.index(label)) for label in openings}
    least, where, between = np.inf, None, f"{openings[0]} and {openings[1]}"
    for one, other in combinations(openings, 2):
        for first, second in ((one, other), (other, one)):
            found_mm, place = _between(faces[first], faces[second], scene)
            if found_mm < least:
                least, where, between = found_mm, _vector(place + shift), f"{one} and {other}"
    limit_mm = process.min_wall_mm
    what = f"{part.name}: material between {between}, the least of all openings"
    return (
        judge(
            "wedges", what, float(least), "mm",
            low=limit_mm, hint="move one of the two: what is left between them snaps off",
            source=f"two openings leave a wall: {process.sources.get('min_wall_mm', '')}", where_mm=where,
        ),
    )  # fmt: skip


def _between(one: Mesh, other: Mesh, scene: Scene) -> tuple[float, FloatArray]:
    """Least distance from the faces of an opening to those of another through material, mm, and its middle."""
    points = np.vstack([one.vertices_mm, one.vertices_mm[one.faces].mean(axis=1)])
    distance, _, nearest = nearest_points(points, other)
    middle: FloatArray = 0.5 * (points + nearest)
    through = (distance == 0.0) | scene.holds(middle, _UP)  # the shortest way may also lead through the air
    index = int(np.argmin(np.where(through, distance, np.inf)))
    return (float(distance[index]) if through.any() else np.inf), middle[index]


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))
