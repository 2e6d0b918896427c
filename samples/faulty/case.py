"""A seeded fault: what was done to a good device, where, and which finding must say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from batchone.design.booleans import LabelArray
from batchone.design.family import Checked
from batchone.pipeline.values import FloatArray, IntArray, Mesh, Part

Seeder = Callable[[Checked], "Seeded"]


@dataclass(frozen=True, slots=True, eq=False)
class Seeded:
    """A device with one fault.

    ``where_mm`` (3,) or (k, 3), points in LPS that lie 1 mm apart or less in what was changed; None where all of it is wrong.
    """

    case: Checked
    where_mm: FloatArray | None


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the corpus.

    ``check`` and ``what`` say which finding must have the ``verdict``: its name, and words of what it measured. ``by`` is the
    function of the family that measures it, empty for the checks of any device. ``sound`` faults lie just inside the limit:
    that finding must pass, and none may be worse than of the good device. ``place`` tells faults of a kind on a device apart.
    """

    kind: str
    device: str
    check: str
    what: str
    seed: Seeder
    place: int = 0
    sound: bool = False
    by: str = ""
    verdict: Literal["fail", "warn"] = "fail"


def with_part(case: Checked, part: Part) -> Checked:
    """The case with another first part."""
    return replace(case, device=replace(case.device, parts=(part, *case.device.parts[1:])))


def with_points(case: Checked, points_mm: FloatArray) -> Checked:
    """The case whose first part has other vertices (n, 3), mm."""
    part = case.device.parts[0]
    return with_part(case, replace(part, mesh=Mesh(np.ascontiguousarray(points_mm), part.mesh.faces)))


def with_faces(case: Checked, faces: IntArray, labels: IntArray | LabelArray) -> Checked:
    """The case whose first part has other triangles (m, 3) and face labels (m,)."""
    part = case.device.parts[0]
    mesh = Mesh(part.mesh.vertices_mm, np.ascontiguousarray(faces, dtype=np.int32))
    return with_part(case, replace(part, mesh=mesh, face_labels=labels.astype(np.int16)))


def with_shell(case: Checked, points_mm: FloatArray, faces: IntArray) -> Checked:
    """The case whose first part has further triangles; indices of ``faces`` count on from the part's vertices."""
    part = case.device.parts[0]
    label = np.full(len(faces), part.face_labels[0], dtype=np.int16)
    mesh = Mesh(np.vstack([part.mesh.vertices_mm, points_mm]), np.vstack([part.mesh.faces, faces]).astype(np.int32))
    return with_part(case, replace(part, mesh=mesh, face_labels=np.concatenate([part.face_labels, label])))


def normals_and_areas(mesh: Mesh) -> tuple[FloatArray, FloatArray]:
    """Unit normals (m, 3) and areas (m,) of the triangles."""
    corners = mesh.vertices_mm[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(twice, 1e-30)[:, None], 0.5 * twice


def face_at(
    part: Part,
    place: int,
    *,
    off: tuple[str, ...] = ("label",),
    only: str | None = None,
    most_mm2: float = 2.0,
) -> int:
    """A triangle chosen by seed and place: of fair size and shape, off some faces or on one."""
    return int(faces_at(part, place, 1, off=off, only=only, most_mm2=most_mm2)[0])


def faces_at(
    part: Part,
    place: int,
    count: int,
    *,
    off: tuple[str, ...] = ("label",),
    only: str | None = None,
    most_mm2: float = 2.0,
    by_area: bool = False,
) -> npt.NDArray[np.intp]:
    """So many triangles, or fewer, in an order by seed and place, as :func:`face_at`; or any, the larger the likelier."""
    _, areas = normals_and_areas(part.mesh)
    corners = part.mesh.vertices_mm[part.mesh.faces]
    longest = np.linalg.norm(corners[:, [1, 2, 0]] - corners, axis=2).max(axis=1)
    fair = (areas > 0.1 * longest**2) & (areas > 0.02) & (areas < most_mm2) if not by_area else areas > 0.0
    if only is not None:
        fair &= part.face_labels == part.labels.index(only)
    for label in off:
        if label in part.labels:
            fair &= part.face_labels != part.labels.index(label)
    chosen = np.flatnonzero(fair)
    weights = areas[chosen] / areas[chosen].sum() if by_area else None
    rng = np.random.default_rng(1000 + place)
    if count == 1:
        return np.array([rng.choice(chosen, p=weights)])
    return np.asarray(rng.choice(chosen, min(count, len(chosen)), replace=False, p=weights))


def middle_of(mesh: Mesh, face: int) -> FloatArray:
    """(3,) centroid of a triangle."""
    return np.asarray(mesh.vertices_mm[mesh.faces[face]].mean(axis=0))


def grid_of(half_mm: FloatArray, middle_mm: FloatArray, axes: FloatArray) -> FloatArray:
    """(k, 3) points 0.5 mm apart in a box of half sizes (3,) along the columns of ``axes``, about its middle."""
    sides = [np.linspace(-half, half, 1 + 2 * int(np.ceil(2.0 * half))) for half in half_mm]
    return np.asarray(middle_mm + np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3) @ axes.T)
