"""How well a finished guide sits on the bone that was scanned: its file, read back, against the bone's true surface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchone.design.contact.seat import CONTACT
from batchone.design.nearest import nearest_points
from batchone.pipeline.errors import InputError
from batchone.pipeline.values import Bone, Part, Plan, Vector, moved_points
from batchone.samples.bone_ct import BoneScan

BOUND_SIGMAS = 1.96  # standard deviations that hold 95 % of the errors
_SPLIT = np.array([[6, 0, 0], [0, 6, 0], [0, 0, 6], [3, 3, 0], [0, 3, 3], [3, 0, 3], [2, 2, 2]]) / 6.0  # places in a triangle
_SAME_MM = 1e-3  # numerical: a file in single precision, far from the origin, holds a vertex that well


@dataclass(frozen=True, slots=True)
class Fit:
    """|gap - set| over the contact, weighted by area: median, 95th percentile and mean with its sign (mm); the share inside the
    95 % bound that the surface's uncertainty predicts; that bound's median (mm); the contact's area (mm2)."""

    median_mm: float
    p95_mm: float
    mean_mm: float
    inside: float
    bound_mm: float
    area_mm2: float


@dataclass(frozen=True, slots=True)
class Moved:
    """By how much a functional axis or plane misses its place after moving back: across it (mm), and in direction (deg)."""

    name: str
    off_mm: float
    turned_deg: float


def fit_on_truth(stl: Path, part: Part, bone: Bone, truth: BoneScan, *, offset_mm: float) -> Fit:
    """Measure a guide's contact.

    Parameters
    ----------
    stl
        The part as it was written.
    part
        Says which triangles of the file are the contact.
    bone
        As segmented: its uncertainty makes the bound.
    truth
        The scan that it all began with.
    offset_mm
        The gap that was set.

    Raises
    ------
    InputError
        The file does not hold the part.
    """
    from stl.mesh import Mesh as Stl

    corners = Stl.from_file(str(stl)).vectors.astype(np.float64)
    meant = part.mesh.vertices_mm[part.mesh.faces]
    if corners.shape != meant.shape or np.abs(corners - meant).max() > _SAME_MM:
        raise InputError(
            f"{stl.name} holds {len(corners)} triangles, not those of {part.name} ({len(meant)})", hint="give the part's own file"
        )
    touching = corners[part.face_labels == part.labels.index(CONTACT)]
    points = np.einsum("sk,mkd->msd", _SPLIT, touching).reshape(-1, 3)
    sides = touching[:, 1] - touching[:, 0], touching[:, 2] - touching[:, 0]
    weight = np.repeat(0.5 * np.linalg.norm(np.cross(*sides), axis=1) / len(_SPLIT), len(_SPLIT))
    _, face, _ = nearest_points(points, bone.mesh)
    bound = BOUND_SIGMAS * bone.uncertainty_mm[bone.mesh.faces[face]].mean(axis=1)
    signed = truth.distance_mm(points) - offset_mm
    error = np.abs(signed)
    order = np.argsort(error)
    share = np.cumsum(weight[order]) / weight.sum()
    median, p95 = (float(error[order][np.searchsorted(share, part_of)]) for part_of in (0.5, 0.95))
    mean, inside = float(np.average(signed, weights=weight)), float(np.average(error <= bound, weights=weight))
    return Fit(median, p95, mean, inside, float(np.median(bound)), float(weight.sum()))


def moved_back(plan: Plan, again: Plan, pose: np.ndarray) -> tuple[Moved, ...]:
    """Axes and planes of a plan against those of the same bone, scanned again after a rigid motion ``pose`` (4, 4).

    Of an axis only the direction and the place across it count: how deep along it a bone begins is no part of it.
    """
    back = np.asarray(np.linalg.inv(pose), dtype=np.float64)
    found = []
    for axis in plan.axes:
        other = again.axis(axis.name)
        found.append(_missed(axis.name, axis.origin_mm, axis.direction, other.origin_mm, other.direction, back, plane=False))
    for plane in plan.planes:
        there = again.plane(plane.name)
        found.append(_missed(plane.name, plane.origin_mm, plane.normal, there.origin_mm, there.normal, back, plane=True))
    return tuple(found)


def _missed(
    name: str, place: Vector, along: Vector, other: Vector, other_along: Vector, back: np.ndarray, *, plane: bool
) -> Moved:
    direction, turned = np.array(along), back[:3, :3] @ np.array(other_along)
    off = moved_points(back, np.array([other]))[0] - np.array(place)
    inward = float(off @ direction)
    off_mm = abs(inward) if plane else float(np.linalg.norm(off - inward * direction))
    sine, cosine = float(np.linalg.norm(np.cross(direction, turned))), float(direction @ turned)
    return Moved(name, off_mm, float(np.degrees(np.arctan2(sine, cosine))))
