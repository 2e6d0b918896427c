"""Distances to structures that the order declares as not to be touched: of the device, and of what its bores and slots lead.

A drill sweeps the outline of its bore to the end of its planned way, without end where that has none; a saw that of its slot. A
screw wider than its drill is not known here; ``keep_mm`` of the order must allow for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import ConvexHull

from batchone.design.cranial.rays import Scene
from batchone.design.family import Checked
from batchone.design.nearest import nearest_mm
from batchone.pipeline.order import PlanNoGo
from batchone.pipeline.values import Axis, Finding, FloatArray, Mesh, Part, Vector, judge

_STEP_MM = 0.05  # numerical: places along a structure; no distance is wrong by more than half of it
_COARSE = 20  # numerical: every so manieth place is looked at first
_REACH_MM = 20.0  # numerical: farther away nothing is measured
_ROUND = 0.1  # numerical: share of its radius by which the wall of a bore may lie unevenly about its own axis
_SLOT_MM = 4.0  # numerical: no saw blade is thicker
_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What an instrument passes through: a convex outline (k, 2) in the plane across an axis, from one depth to another, mm."""

    name: str
    frame: FloatArray
    origin_mm: FloatArray
    outline_mm: FloatArray
    from_mm: float
    to_mm: float

    def distance_mm(self, points_mm: FloatArray) -> FloatArray:
        """(n,) distance of LPS points (n, 3), 0 inside."""
        local = (points_mm - self.origin_mm) @ self.frame
        start, edge = self.outline_mm, np.roll(self.outline_mm, -1, axis=0) - self.outline_mm
        away = local[:, None, :2] - start
        share = np.clip((away * edge).sum(axis=2) / (edge**2).sum(axis=1), 0.0, 1.0)
        beside = np.linalg.norm(away - share[..., None] * edge, axis=2).min(axis=1)
        inside = (edge[:, 0] * away[..., 1] - edge[:, 1] * away[..., 0] >= 0.0).all(axis=1)
        beyond = np.maximum(np.maximum(self.from_mm - local[:, 2], local[:, 2] - self.to_mm), 0.0)
        return np.asarray(np.hypot(np.where(inside, 0.0, beside), beyond))


def no_go_findings(case: Checked) -> tuple[Finding, ...]:
    """Judge each part, and the nearest drill or saw that it leads, against each declared structure."""
    structures = case.order.plan.no_go
    parts = [part for part in case.device.parts if part.purpose == "device"] if structures else []
    swept = [sweep for part in parts for sweep in sweeps(part, case.plan.axes)]
    findings: list[Finding] = []
    for structure in structures:
        for part in parts:
            findings.append(_judged(structure, part.name, *_nearest(structure, part.mesh)))
        ways = [(sweep.name, *_nearest(structure, sweep)) for sweep in swept]
        if ways:
            name, value, where = min(ways, key=lambda way: way[1])
            findings.append(_judged(structure, f"{name}, drilled or sawn", value, where))
    return tuple(findings)


def _judged(structure: PlanNoGo, what: str, value: float, where_mm: Vector | None) -> Finding:
    return judge(
        "no-go", f"{what}: nearest to {structure.name} (at most {_REACH_MM:g} mm are looked at)", value, "mm",
        low=structure.keep_mm, hint="move the way or the plane ([plan] markups), or a smaller guide: pad_mm, hook_mm",
        source=f"the order: {structure.keep_mm:g} mm from {structure.name}, {structure.radius_mm:g} mm about what was drawn",
        where_mm=where_mm,
    )  # fmt: skip


def _nearest(structure: PlanNoGo, other: Mesh | Sweep) -> tuple[float, Vector | None]:
    """Least distance from a structure's own surface, negative inside, and the place on what was drawn."""
    places = _places(structure)
    # between two coarse places the distance cannot fall by more than half of what lies between them
    first = places[::_COARSE]
    distance = _distance_mm(other, first, structure.radius_mm)
    if distance.min() >= _REACH_MM:
        return _REACH_MM, None
    slack = 0.5 * _COARSE * _STEP_MM
    near = np.flatnonzero(distance <= distance.min() + slack)
    about = np.unique(np.clip(_COARSE * near[:, None] + np.arange(-_COARSE, _COARSE + 1), 0, len(places) - 1))
    fine = places[about]
    distance = _distance_mm(other, fine, structure.radius_mm)
    least = int(np.argmin(distance))
    x, y, z = fine[least].tolist()
    return float(distance[least]), (x, y, z)


def _distance_mm(other: Mesh | Sweep, points_mm: FloatArray, radius_mm: float) -> FloatArray:
    if isinstance(other, Sweep):
        return np.asarray(np.minimum(other.distance_mm(points_mm) - radius_mm, _REACH_MM))
    middle = other.vertices_mm.mean(axis=0)
    near = Mesh(other.vertices_mm - middle, other.faces)
    distance = nearest_mm(points_mm - middle, near, within_mm=_REACH_MM + radius_mm)
    inside = Scene(near).holds(points_mm - middle, _UP)
    return np.asarray(np.minimum(np.where(inside, -distance, distance) - radius_mm, _REACH_MM))


def _places(structure: PlanNoGo) -> FloatArray:
    """(n, 3) places along what was drawn, both of its ends among them."""
    points = np.array(structure.points_mm, dtype=np.float64)
    found = [points[:1]]
    for start, end in pairwise(points):
        count = max(1, int(np.ceil(np.linalg.norm(end - start) / _STEP_MM)))
        found.append(start + (np.arange(1, count + 1) / count)[:, None] * (end - start))
    return np.concatenate(found)


def sweeps(part: Part, axes: tuple[Axis, ...]) -> Iterator[Sweep]:
    """What the bores and slots of a part lead along the planned axes: to the end of the way, or on and on where it has none."""
    for face in part.functional_faces:
        kind = face.label.split("-")[0]
        if kind not in ("bore", "slot") or face.label not in part.labels:
            continue
        points = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(face.label)])]
        for axis in axes if len(points) > 3 else ():
            if axis.name.split("-")[0] == "insertion":  # how the part goes on: nothing is drilled along it
                continue
            direction, origin = np.array(axis.direction), np.array(axis.origin_mm)
            frame = np.column_stack([*np.linalg.svd(direction[None])[2][1:], direction])
            frame[:, 0] *= np.sign(np.linalg.det(frame))
            local = (points - origin) @ frame
            if _leads(kind, local[:, :2]):
                outline = local[ConvexHull(local[:, :2]).vertices, :2]
                yield Sweep(
                    axis.name,
                    frame,
                    origin,
                    outline,
                    float(local[:, 2].min()),
                    np.inf if axis.length_mm is None else axis.length_mm,
                )


def _leads(kind: str, flat_mm: FloatArray) -> bool:
    """Do the walls of a bore lie about the axis, or those of a slot on both of its sides? (n, 2) across the axis."""
    if kind == "bore":
        radius = np.linalg.norm(flat_mm, axis=1)
        return bool(np.ptp(radius) <= 2.0 * _ROUND * radius.mean())
    across = np.linalg.svd(flat_mm - flat_mm.mean(axis=0), full_matrices=False)[2]
    turned = flat_mm @ across.T
    return bool((turned.min(axis=0) <= 0.0).all() and (turned.max(axis=0) >= 0.0).all() and np.ptp(turned[:, 1]) <= _SLOT_MM)
