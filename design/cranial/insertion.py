"""The way in: the direction along which an implant leaves the hole with the least undercut.

A wall whose outward normal (out of the bone, into the hole) makes an obtuse angle with the direction overhangs the implant. The
direction sought leaves the steepest wall as little obtuse as possible: zero draft all round for a straight cut, the middle of
all free directions for one that opens outward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from batchone.design.cranial.columns import submesh
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh

_SEARCH = ((24.0, 4.0), (4.0, 1.0), (1.0, 0.25), (0.25, 0.05))  # degrees: half angle and step of each round, coarse to fine
_REFINED = ((4.0, 1.0), (1.0, 0.25))  # degrees: the same for the search by shade; the mean normals err by 2 degrees or so
_TURN_MM = 0.003  # shade that one square degree away from the first direction must save: open walls hardly shade at all
_SHADED_MM = 0.1  # a wall that shades itself less is open enough: facets and the bend of a stretch make that much
_SHADE_MOST_MM = 1.5  # shade deeper than this counts no more: it is a cleft, not wall
_WALL_REACH_MM = 12.0  # bone looked at lies this near to the rim: thicker than a vault (at most about 10 mm)
_FACE_MARGIN_MM = 0.6  # wall lies this far below the outer and above the inner contour, clear of their rounded edges
_WALL_COSINE = 0.8  # a wall is at least 37 degrees off the contour's normal; flatter bone is skull, not wall
_SECTOR_MM = 4.0  # the wall's normal is averaged over so much rim: longer than the steps between slices, shorter than a bend
_STRAY_COSINE = 0.7  # normals more than 45 degrees off their sector's mean are clefts and steps, not wall
_BEND_COSINE = 0.85  # a stretch that turns more than 32 degrees from those beside it is the mouth of a cleft, not wall
_APART_MM = 1e4  # numerical: keeps the running maxima of stretches apart; larger than any head
_MIN_SECTORS = 12  # numerical: fewer say nothing about a direction
_SOFTNESS = 0.03  # numerical: how sharply the worst sector counts (sine of the draft), 2 degrees


def insertion_axis(bone: Mesh, rim_mm: FloatArray, *, outer: Mesh, inner: Mesh) -> FloatArray:
    """Direction (3,), out of the head, along which an implant is taken out; it goes in along the opposite one.

    Parameters
    ----------
    bone
        Closed surface of the skull with the hole.
    rim_mm
        (n, 3) closed rim of the hole on the outer table.
    outer, inner
        Healthy contours over the hole, same connectivity, outward orientation.

    All in one frame, mm.

    Raises
    ------
    DesignError
        Wall was found along less than 12 stretches of 4 mm, so that no direction can be judged.
    """
    best = _mean_direction(rim_mm, outer)
    wall = _stretches(bone, rim_mm, outer, inner)
    normals, weights = wall.normal, wall.size
    if len(weights) < _MIN_SECTORS:
        raise DesignError(
            f"the wall of the hole was found along {len(weights)} stretches of {_SECTOR_MM:g} mm of the rim, "
            f"at least {_MIN_SECTORS} are needed to choose the way in",
            hint="does the rim follow the edge of the bone?",
        )
    first = rim_mm[0] - rim_mm.mean(axis=0)
    for half_angle_deg, step_deg in _SEARCH:
        candidates = _cone(best, first, half_angle_deg=half_angle_deg, step_deg=step_deg)
        best = candidates[int(np.argmin(_overhang(candidates, normals, weights)))]
    free = best
    if _shade_mm(free, wall) < _SHADED_MM:
        return free
    for half_angle_deg, step_deg in _REFINED:
        candidates = _cone(best, first, half_angle_deg=half_angle_deg, step_deg=step_deg)
        turned_deg = np.degrees(np.arccos(np.minimum(candidates @ free, 1.0)))
        shade_mm = np.array([_shade_mm(axis, wall) for axis in candidates])
        best = candidates[int(np.argmin(shade_mm + _TURN_MM * turned_deg**2))]
    return best


def draft_deg(axis: FloatArray, bone: Mesh, rim_mm: FloatArray, *, outer: Mesh, inner: Mesh) -> tuple[float, float]:
    """Least and median draft along ``axis`` of the wall, averaged over 4 mm of rim, degrees; negative: overhanging."""
    normals = _stretches(bone, rim_mm, outer, inner).normal
    if len(normals) == 0:
        return float("nan"), float("nan")
    angle = np.degrees(np.arcsin(np.clip(normals @ axis, -1.0, 1.0)))
    return float(angle.min()), float(np.median(angle))


def _mean_direction(rim_mm: FloatArray, outer: Mesh) -> FloatArray:
    """Mean normal of the contour over the hole: the vector area of the rim, which no dent of the contour changes."""
    middle = rim_mm.mean(axis=0)
    area = np.cross(rim_mm - middle, np.roll(rim_mm, -1, axis=0) - middle).sum(axis=0)
    corners = outer.vertices_mm[outer.faces]
    out = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).sum(axis=0)
    area = area if float(area @ out) > 0.0 else -area
    return np.asarray(area / np.linalg.norm(area))


def _wall(bone: Mesh, rim_mm: FloatArray, outer: Mesh, inner: Mesh) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Middles (m, 3), unit normals (m, 3) and areas (m,) of the bone between the two contours that faces into the hole."""
    low, high = rim_mm.min(axis=0) - _WALL_REACH_MM, rim_mm.max(axis=0) + _WALL_REACH_MM
    first = bone.vertices_mm[bone.faces[:, 0]]
    patch = submesh(bone, np.asarray(((first > low) & (first < high)).all(axis=1)))
    corners = patch.vertices_mm[patch.faces]
    centre = corners.mean(axis=1)
    doubled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    near, _ = cKDTree(rim_mm).query(centre, distance_upper_bound=_WALL_REACH_MM)
    kept = np.isfinite(near) & (((rim_mm.mean(axis=0) - centre) * doubled).sum(axis=1) > 0.0)
    centre, doubled = centre[kept], doubled[kept]
    length = np.linalg.norm(doubled, axis=1)
    normal = doubled / np.maximum(length, np.finfo(np.float64).tiny)[:, None]
    above, face_normal = _height(centre, outer)
    below, _ = _height(centre, inner)
    wall = (above < -_FACE_MARGIN_MM) & (below > _FACE_MARGIN_MM) & (np.abs((normal * face_normal).sum(axis=1)) < _WALL_COSINE)
    return centre[wall], normal[wall], 0.5 * length[wall]


@dataclass(frozen=True, slots=True, eq=False)
class _Stretches:
    """The wall by stretches of the rim: middles (m, 3), areas (m,) and stretch (m,) of its triangles, without strays;
    mean unit normal (k, 3) and area (k,) of the stretches."""

    centre: FloatArray
    area: FloatArray
    stretch: npt.NDArray[np.int64]
    normal: FloatArray
    size: FloatArray


def _stretches(bone: Mesh, rim_mm: FloatArray, outer: Mesh, inner: Mesh) -> _Stretches:
    centre, normal, area = _wall(bone, rim_mm, outer, inner)
    step = np.linalg.norm(np.roll(rim_mm, -1, axis=0) - rim_mm, axis=1)
    start = np.cumsum(step) - step
    count = max(_MIN_SECTORS, round(float(step.sum()) / _SECTOR_MM))
    if len(area) == 0:
        return _Stretches(centre, area, np.empty(0, dtype=np.int64), np.empty((0, 3)), np.empty(0))
    sector = (start[cKDTree(rim_mm).query(centre)[1]] * (count / float(step.sum()))).astype(np.int64)
    kept = np.ones(len(area), dtype=np.bool_)
    for _ in range(2):
        total = np.column_stack([np.bincount(sector[kept], (normal[:, k] * area)[kept], minlength=count) for k in range(3)])
        size = np.linalg.norm(total, axis=1)
        mean = total / np.maximum(size, np.finfo(np.float64).tiny)[:, None]
        kept = (normal * mean[sector]).sum(axis=1) > _STRAY_COSINE
    around = np.sum([np.roll(total, shift, axis=0) for shift in range(-2, 3)], axis=0)
    around = around / np.maximum(np.linalg.norm(around, axis=1), np.finfo(np.float64).tiny)[:, None]
    found = (size > 0.0) & ((mean * around).sum(axis=1) > _BEND_COSINE)
    kept &= found[sector]
    renamed = np.cumsum(found) - 1
    return _Stretches(centre[kept], area[kept], renamed[sector[kept]], mean[found], size[found])


def _shade_mm(axis: FloatArray, wall: _Stretches) -> float:
    """Mean width of the gap that stays along ``axis`` because wall farther out juts farther into the hole, mm."""
    across = wall.normal - (wall.normal @ axis)[:, None] * axis
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    order = np.lexsort((-(wall.centre @ axis), wall.stretch))
    juts = (wall.centre * across[wall.stretch]).sum(axis=1)[order]
    apart = wall.stretch[order] * _APART_MM
    met = np.maximum.accumulate(juts + apart) - apart
    shade = np.minimum(met - juts, _SHADE_MOST_MM)
    return float((shade * wall.area[order]).sum() / wall.area.sum())


def _height(points_mm: FloatArray, surface: Mesh) -> tuple[FloatArray, FloatArray]:
    """Height (n,) of points above the nearest vertex' tangent plane, and its unit normal (n, 3)."""
    corners = surface.vertices_mm[surface.faces]
    doubled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(surface.vertices_mm)
    for k in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(surface.faces[:, k], weights=doubled[:, axis], minlength=len(normals))
    normals /= np.maximum(np.linalg.norm(normals, axis=1), np.finfo(np.float64).tiny)[:, None]
    _, nearest = cKDTree(surface.vertices_mm).query(points_mm)
    return ((points_mm - surface.vertices_mm[nearest]) * normals[nearest]).sum(axis=1), normals[nearest]


def _overhang(candidates: FloatArray, normals: FloatArray, weights: FloatArray) -> FloatArray:
    """Soft maximum (k,) over the wall of the sine by which it overhangs each direction."""
    sine = -(candidates @ normals.T) / _SOFTNESS
    return np.asarray(np.exp(sine) @ weights / weights.sum())


def _cone(axis: FloatArray, first: FloatArray, *, half_angle_deg: float, step_deg: float) -> FloatArray:
    """Unit directions (k, 3) within a cone about ``axis``, itself the first, on a square grid."""
    u = first - axis * float(first @ axis)
    u = u / np.linalg.norm(u)
    v = np.cross(axis, u)
    steps = np.arange(-np.floor(half_angle_deg / step_deg), np.floor(half_angle_deg / step_deg) + 1.0) * np.radians(step_deg)
    x, y = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    angle = np.hypot(x, y)
    kept = (angle <= np.radians(half_angle_deg) + 1e-12) & (angle > 0.0)
    x, y, angle = x[kept], y[kept], angle[kept]
    tilted = np.cos(angle)[:, None] * axis + (np.sin(angle) / angle)[:, None] * (x[:, None] * u + y[:, None] * v)
    return np.asarray(np.vstack([axis, tilted]))
