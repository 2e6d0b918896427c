"""What is measured on every guide, on the mesh as it is written: contact, room, way out, bores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from batchone.design.contact.field import REACH_MM
from batchone.design.contact.neighbours import Neighbours
from batchone.design.contact.seat import CONTACT
from batchone.design.cranial.columns import on_the_way
from batchone.design.cranial.rays import Scene
from batchone.design.family import FamilyLimits
from batchone.design.nearest import Index, indexed_once, nearest_mm
from batchone.design.triangles import areas_mm2, box_mm
from batchone.pipeline.limits import Limit
from batchone.pipeline.values import Axis, Finding, FloatArray, Mesh, Part, Vector, judge, moved_points

_SPLIT = np.array([[6, 0, 0], [0, 6, 0], [0, 0, 6], [3, 3, 0], [0, 3, 3], [3, 0, 3], [2, 2, 2]]) / 6.0  # places in a triangle
_FINE_MM = 0.3  # numerical, the step of the contact's grid: in a triangle no longer than this the gap is that of its middle
_MOST_PLACES = 20_000  # numerical: of more an even share is asked; over 10 cm2 that is still one in 0.22 mm
UP = np.array([0.0, 0.0, 1.0])
_SOME = 2000  # numerical: vertices that are asked first: none further off than the nearest of them can be the nearest
_FAR_MM = 500.0  # numerical: longer than any bone
_FREE = 0.9  # share of a bore's radius in which nothing may stand; the fit of its wall judges the rest; project default
_LEAVES_MM2 = 1e-6  # numerical: smaller faces under bone are rounding


@dataclass(frozen=True, slots=True, eq=False)
class Cylinder:
    """A cylinder fitted to points: a place on its axis, unit direction, diameter, largest deviation of the points (mm)."""

    place_mm: FloatArray
    direction: FloatArray
    diameter_mm: float
    off_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A part and its bone near the origin, moved by ``pose`` (4, 4), and what lies on the way out of each vertex of the part:
    (n,) any bone, and (n,) bone seen from within."""

    pose: FloatArray
    mesh: Mesh
    bone: Mesh
    below: npt.NDArray[np.bool_]
    inside: npt.NDArray[np.bool_]


@lru_cache(maxsize=4)
def _seen(part: Mesh, bone: Mesh, way: Vector) -> _Seen:
    """Follow a ray from each vertex along a unit direction: what one check has seen of some guides serves the next."""
    pose, out = _near(part), np.array(way)
    mesh, local = _single(part.moved(pose)), bone.moved(pose)
    scene = Scene(on_the_way(local, mesh.vertices_mm, out))
    face = scene.meets(mesh.vertices_mm, np.broadcast_to(out, mesh.vertices_mm.shape), _FAR_MM)[1]
    return _Seen(pose, mesh, local, face >= 0, (face >= 0) & (scene.facing(face, out) > 0.0))


def contact_findings(part: Part, bone: Mesh, way: Axis, *, offset_mm: float, limits: FamilyLimits) -> tuple[Finding, ...]:
    """Gap over the contact faces against the set offset, area that carries, and the nearest place of all.

    Of more than 20,000 places of the contact an even share is measured. A part further from the bone than ``REACH_MM`` everywhere
    counts as so far off. ``way`` is the way out.
    """
    seen = _seen(part.mesh, bone, way.direction)
    pose, mesh, local = seen.pose, seen.mesh, seen.bone
    back = np.asarray(np.linalg.inv(pose))
    touching = part.face_labels == part.labels.index(CONTACT)
    corners = mesh.vertices_mm[mesh.faces[touching]]
    areas = areas_mm2(Mesh(mesh.vertices_mm, mesh.faces[touching]))
    large = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1) > _FINE_MM
    spread = np.einsum("sk,mkd->msd", _SPLIT, corners[large]).reshape(-1, 3)
    points = np.concatenate([spread, corners[~large].mean(axis=1)])
    weights = np.concatenate([np.repeat(areas[large] / len(_SPLIT), len(_SPLIT)), areas[~large]])
    step = max(1, -(-len(points) // _MOST_PLACES))
    step += step % len(_SPLIT) == 0  # not the same place of every triangle
    points, weights = points[::step], weights[::step]
    surface = indexed_once(bone).asked_as(local, back)
    error = np.abs(nearest_mm(points, surface) - offset_mm)
    order = np.argsort(error)
    share = np.cumsum(weights[order])
    p95 = float(error[order][np.searchsorted(share, 0.95 * share[-1])])
    worst = int(np.argmax(error))
    least, least_mm = _nearest_of(mesh, surface, seen.inside)
    nearest = least_mm - offset_mm
    gates, name = limits.gates, part.name
    hint = "report this order: the contact was not made as set"
    worst_at, least_at = _place(back, points[worst]), _place(back, mesh.vertices_mm[least])
    largest = float(error[worst])
    return (
        judged(gates["contact_gap_p95_error_mm"], "contact", f"{name}: |gap - set|, 95 % of the contact", p95, hint),
        judged(gates["contact_gap_max_error_mm"], "contact", f"{name}: |gap - set|, largest in it", largest, hint, worst_at),
        judged(gates["contact_area_mm2"], "contact", f"{name}: area that carries", float(areas.sum()), "a larger pad_mm"),
        judged(gates["clearance_mm"], "clearance", f"{name}: nearest to the bone, minus set", nearest, hint, least_at),
    )


def way_out_findings(part: Part, bone: Mesh, way: Axis, limits: FamilyLimits) -> tuple[Finding, ...]:
    """Area of faces that have bone above them on the way out: those would catch."""
    seen = _seen(part.mesh, bone, way.direction)
    mesh, caught = seen.mesh, seen.below
    below = mesh.faces[caught[mesh.faces].any(axis=1)]
    area = float(areas_mm2(Mesh(mesh.vertices_mm, below)).sum())
    where = _place(np.linalg.inv(seen.pose), mesh.vertices_mm[int(np.argmax(caught))]) if caught.any() else None
    what = f"{part.name}: area below bone along the way out"
    return (
        judged(
            limits.gates["undercut_mm2"], "way-out", what, 0.0 if area < _LEAVES_MM2 else area, "another insertion axis", where
        ),
    )


def neighbour_findings(part: Part, others: Neighbours, limits: FamilyLimits) -> tuple[Finding, ...]:
    """Distance to the bones that must not be touched."""
    what = f"{part.name}: nearest to another bone (at most {REACH_MM:g} mm are looked at)"
    hint = "another insertion axis, or smaller: pad_mm, hook_mm"
    least_mm, where = others.nearest(part.mesh)
    return (judged(limits.gates["neighbour_mm"], "neighbours", what, least_mm, hint, where),)


def bore_findings(part: Part, label: str, planned: Axis, *, set_mm: float, limits: FamilyLimits) -> tuple[Finding, ...]:
    """A bore against its plan: place and direction of its axis, and its diameter against what was set."""
    pose = _near(part.mesh)
    faces = part.mesh.faces[part.face_labels == part.labels.index(label)]
    points = _single(part.mesh.moved(pose)).vertices_mm[np.unique(faces)]
    origin = moved_points(pose, np.array([planned.origin_mm]))[0]
    found = fitted_cylinder(points, origin, np.array(planned.direction), 0.5 * set_mm)
    cosine = float(np.clip(abs(found.direction @ np.array(planned.direction)), 0.0, 1.0))
    sine = float(np.linalg.norm(np.cross(found.direction, np.array(planned.direction))))
    away = found.place_mm - origin
    off_mm = float(np.linalg.norm(away - found.direction * float(away @ found.direction)))
    gates, what = limits.gates, f"{part.name}: {label}"
    turned_deg = float(np.degrees(np.arctan2(sine, cosine)))
    hint = "report this order: the bore was not made as planned"
    entry, inside = planned.origin_mm, "nothing stands in a bore: common design practice"
    open_mm, blocked_at = _open_mm(part, label, planned, found)
    return (
        judged(gates["bore_axis_mm"], "bore", f"{what}, axis off the plan at the entry", off_mm, hint, entry),
        judged(gates["bore_axis_deg"], "bore", f"{what}, axis against the plan", turned_deg, hint, entry),
        judged(gates["bore_diameter_mm"], "bore", f"{what}, diameter minus set", found.diameter_mm - set_mm, hint, entry),
        judge(
            "bore", f"{what}, open along it minus its length", open_mm, "mm",
            low=0.0, hint=hint, source=inside, where_mm=blocked_at,
        ),
    )  # fmt: skip


def _open_mm(part: Part, label: str, planned: Axis, found: Cylinder) -> tuple[float, Vector | None]:
    """Follow rays through a bore from its outer end: 0 where all come through, else less by what the first leaves shut."""
    direction, entry = np.array(planned.direction), np.array(planned.origin_mm)
    points = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(label)])]
    along = (points - entry) @ direction
    low, high = float(along.min()), float(along.max())
    x = np.cross(direction, np.eye(3)[int(np.argmin(np.abs(direction)))])
    x /= np.linalg.norm(x)
    turns = np.arange(8) * np.pi / 4.0
    ring = 0.5 * _FREE * found.diameter_mm * (np.cos(turns)[:, None] * x + np.sin(turns)[:, None] * np.cross(direction, x))
    starts = entry + low * direction + np.vstack([np.zeros(3), ring])
    met = on_the_way(part.mesh, starts, direction)
    distance, _ = Scene(met).meets(starts, np.tile(direction, (len(starts), 1)), high - low)
    if not np.isfinite(distance).any():
        return 0.0, None
    first = int(np.nanargmin(distance))
    x_mm, y_mm, z_mm = (starts[first] + distance[first] * direction).tolist()
    return float(distance[first]) - (high - low), (x_mm, y_mm, z_mm)


def fitted_cylinder(points_mm: FloatArray, origin_mm: FloatArray, direction: FloatArray, radius_mm: float) -> Cylinder:
    """Least squares from points (n, 3) on a cylinder's wall, from a first guess."""
    z = direction / np.linalg.norm(direction)
    x = np.cross(np.eye(3)[int(np.argmin(np.abs(z)))], z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    local = (points_mm - origin_mm) @ np.column_stack([x, y, z])

    def off(values: FloatArray) -> FloatArray:
        axis = np.array([values[2], values[3], 1.0])
        axis /= np.linalg.norm(axis)
        away = local - np.array([values[0], values[1], 0.0])
        return np.asarray(np.linalg.norm(away - (away @ axis)[:, None] * axis, axis=1) - values[4])

    best = least_squares(off, np.array([0.0, 0.0, 0.0, 0.0, radius_mm]), xtol=1e-12, ftol=1e-12, gtol=1e-12).x
    axis = np.array([best[2], best[3], 1.0]) @ np.column_stack([x, y, z]).T
    place = origin_mm + best[0] * x + best[1] * y
    return Cylinder(place, axis / np.linalg.norm(axis), 2.0 * float(best[4]), float(np.abs(off(best)).max()))


def _nearest_of(mesh: Mesh, surface: Index, inside: npt.NDArray[np.bool_]) -> tuple[int, float]:
    """Which vertex is nearest to a closed surface, and its signed distance: the deepest of those inside, or else at most
    ``REACH_MM``."""
    if inside.any():
        index = np.flatnonzero(inside)
        deep = nearest_mm(mesh.vertices_mm[index], surface)
        return int(index[np.argmax(deep)]), -float(deep.max())
    some = nearest_mm(mesh.vertices_mm[:: -(-len(mesh.vertices_mm) // _SOME)], surface, within_mm=REACH_MM)
    distance = nearest_mm(mesh.vertices_mm, surface, within_mm=min(float(some.min()), REACH_MM))
    return (int(np.argmin(distance)), float(distance.min())) if np.isfinite(distance).any() else (0, REACH_MM)


def _near(mesh: Mesh) -> FloatArray:
    """A shift to near the origin, where single precision is fine."""
    pose = np.eye(4)
    low, high = box_mm(mesh.vertices_mm)
    pose[:3, 3] = -np.round(0.5 * (low + high))
    return pose


def _single(mesh: Mesh) -> Mesh:
    """As an STL file holds it: single precision."""
    return Mesh(mesh.vertices_mm.astype(np.float32).astype(np.float64), mesh.faces)


def _place(back: npt.NDArray[np.floating[Any]], point_mm: FloatArray) -> Vector:
    x, y, z = moved_points(np.asarray(back, dtype=np.float64), point_mm[None])[0].tolist()
    return (x, y, z)


def judged(limit: Limit, check: str, what: str, value: float, hint: str, where_mm: Vector | None = None) -> Finding:
    """A measured value against a gate of the family."""
    return judge(
        check,
        what,
        value,
        limit.unit,
        low=limit.low,
        high=limit.high,
        gate=limit.gate,
        hint=hint,
        source=limit.source,
        where_mm=where_mm,
        waivable=limit.waivable,
    )
