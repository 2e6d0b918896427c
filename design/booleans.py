"""Labelled solids and their booleans: the only module that makes either.

A face is (solid, label), registered once when the solid is made; labels live in the original id and the face id of
manifold3d, which survive booleans, decompose, rotation and simplify. No operation here wipes them.

Every boolean is measured: |A or B| = |A| + |B| - |A and B|, |A minus B| + |A and B| = |A|, within the numerical error of a
surface moved by the solver's own tolerance. A result that is empty, breaks its identity or carries an error status is
tried another way, then refused with the volumes; it is never passed on.

Work near the origin (in the bone's own frame): the solver's tolerance grows with the distance from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from manifold3d import Manifold, Mesh64, OpType

from batchone.design.identities import (
    cut_at_once,
    cut_one_by_one,
    fault_of,
    first_sound,
    joined_at_once,
    joined_pairwise,
    shared,
    slack_mm3,
    volume_of,
)
from batchone.design.slivers import without_slivers
from batchone.design.triangles import areas_mm2
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, FunctionalFace, Mesh, Part, moved_points

LabelArray = npt.NDArray[np.int16]

_RIGID_EPSILON = 1e-9  # numerical: largest deviation of a rotation matrix from orthonormal
_HALF_SPACE_FACTOR = 4.0  # a box this many times the solid's diagonal stands for a half space
_BOX_FACES = np.array(
    [
        [0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4],
        [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6], [1, 3, 5], [3, 7, 5],
    ],
    dtype=np.int32,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """A closed solid whose faces carry labels.

    Attributes
    ----------
    manifold
        The body, mm.
    registry
        Original id -> labels, indexed by face id.
    """

    manifold: Manifold
    registry: Mapping[int, tuple[str, ...]]


def solid_from_mesh(mesh: Mesh, label: str) -> Solid:
    """Make a solid with one label on all of its faces.

    Raises
    ------
    DesignError
        The mesh is not a closed, oriented two-manifold of positive volume.
    """
    return solid_from_labelled_mesh(mesh, (label,), np.zeros(len(mesh.faces), dtype=np.int16))


def solid_from_labelled_mesh(mesh: Mesh, labels: tuple[str, ...], face_labels: LabelArray) -> Solid:
    """Make a solid from a closed mesh.

    Parameters
    ----------
    mesh
        Closed, oriented outward, mm; vertices shared between neighbours.
    labels
        Names of the faces.
    face_labels
        (m,) index into ``labels``, one per triangle.

    Raises
    ------
    DesignError
        The mesh is not a closed, oriented two-manifold of positive volume.
    """
    if len(face_labels) != len(mesh.faces):
        raise ValueError(f"{len(face_labels)} face labels for {len(mesh.faces)} faces")
    if len(face_labels) and not 0 <= int(face_labels.min()) <= int(face_labels.max()) < len(labels):
        raise ValueError(f"face labels reach {int(face_labels.max())}, labels are {len(labels)}")
    original = Manifold.reserve_ids(1)
    body = Manifold(
        Mesh64(
            np.ascontiguousarray(mesh.vertices_mm, dtype=np.float64),
            np.ascontiguousarray(mesh.faces, dtype=np.uint64),
            run_index=np.array([0, 3 * len(mesh.faces)], dtype=np.uint64),
            run_original_id=np.array([original], dtype=np.uint32),
            face_id=np.ascontiguousarray(face_labels, dtype=np.uint64),
        )
    )
    fault = fault_of(body)
    if fault:
        raise DesignError(
            f"solid '{', '.join(labels)}' of {len(mesh.faces)} triangles: {fault}",
            hint="the surface must be closed, two-manifold and oriented outward",
        )
    return Solid(body, MappingProxyType({original: labels}))


def box_solid(low_mm: FloatArray, high_mm: FloatArray, label: str, *, pose: FloatArray | None = None) -> Solid:
    """Make an axis-aligned box between two corners, then move it by ``pose`` (4, 4)."""
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], dtype=np.float64)
    box = solid_from_mesh(Mesh(low_mm + corners * (np.asarray(high_mm) - low_mm), _BOX_FACES), label)
    return box if pose is None else moved(box, pose)


def moved(solid: Solid, pose: FloatArray) -> Solid:
    """Return the solid under a rigid motion (4, 4); labels stay.

    Raises
    ------
    ValueError
        The matrix is not rigid, or it mirrors.
    """
    rotation = pose[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > _RIGID_EPSILON or np.linalg.det(rotation) < 0:
        raise ValueError("pose is not a rigid motion without mirroring")
    return Solid(solid.manifold.transform(np.ascontiguousarray(pose[:3])), solid.registry)


def volume_mm3(solid: Solid) -> float:
    """Volume, mm3."""
    return float(solid.manifold.volume())


def union(a: Solid, *others: Solid, what: str) -> Solid:
    """Join solids; ``what`` names the step in an error.

    Raises
    ------
    DesignError
        No way gave a result whose volumes agree.
    """
    bodies = [a.manifold, *(other.manifold for other in others)]
    ways = (lambda: joined_pairwise(bodies), lambda: joined_at_once(bodies))
    return Solid(first_sound(ways, what), _merged(a, *others))


def difference(a: Solid, *tools: Solid, what: str) -> Solid:
    """Cut tools out of a solid; ``what`` names the step in an error.

    Raises
    ------
    DesignError
        The tools remove nothing or everything, or no way gave a result whose volumes agree.
    """
    if not tools:
        raise ValueError("no tool given")
    body, bodies = a.manifold, [tool.manifold for tool in tools]
    ways = (lambda: cut_at_once(body, bodies), lambda: cut_one_by_one(body, bodies))
    return Solid(first_sound(ways, what), _merged(a, *tools))


def intersection(a: Solid, b: Solid, *, what: str) -> Solid:
    """Keep what two solids share; ``what`` names the step in an error.

    Raises
    ------
    DesignError
        They share nothing, or no way gave a result whose volumes agree.
    """
    ways = (lambda: shared(a.manifold, b.manifold), lambda: shared(b.manifold, a.manifold))
    return Solid(first_sound(ways, what), _merged(a, b))


def trimmed(solid: Solid, *, origin_mm: FloatArray, normal: FloatArray, label: str, what: str) -> Solid:
    """Keep the side of a plane that its normal points to; the cut face carries ``label``.

    Returns the solid itself where the plane passes outside it on the kept side.

    Raises
    ------
    DesignError
        Nothing is left, or the cut failed.
    """
    unit = np.asarray(normal, dtype=np.float64) / np.linalg.norm(normal)
    bounds = np.array(solid.manifold.bounding_box(), dtype=np.float64).reshape(2, 3)
    corners = np.array([[bounds[i, 0], bounds[j, 1], bounds[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    heights_mm = (corners - origin_mm) @ unit
    if heights_mm.min() >= 0.0:
        return solid
    if heights_mm.max() <= 0.0:
        raise DesignError(
            f"{what}: the plane leaves nothing, the solid ends {-heights_mm.max():.2f} mm below it", hint="move the plane"
        )
    reach_mm = _HALF_SPACE_FACTOR * float(np.linalg.norm(bounds[1] - bounds[0]))
    helper = np.eye(3)[int(np.argmin(np.abs(unit)))]
    first = np.cross(helper, unit)
    first /= np.linalg.norm(first)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([first, np.cross(unit, first), unit])
    centre = corners.mean(axis=0)
    pose[:3, 3] = centre - unit * float((centre - origin_mm) @ unit)
    tool = box_solid(np.array([-reach_mm, -reach_mm, -reach_mm]), np.array([reach_mm, reach_mm, 0.0]), label, pose=pose)
    if volume_of(solid.manifold ^ tool.manifold) <= slack_mm3(solid.manifold):
        return solid
    return difference(solid, tool, what=what)


def handles_of(solid: Solid) -> int:
    """How many ways lead through a solid (its genus): through its largest piece, where it is in several."""
    return int(pieces(solid)[0].manifold.genus())


def intersects(a: Solid, b: Solid) -> bool:
    """Do two solids share more volume than rounding explains?"""
    return volume_of(a.manifold ^ b.manifold) > slack_mm3(a.manifold, b.manifold)


def pieces(solid: Solid) -> tuple[Solid, ...]:
    """Separate the closed surfaces that do not touch, largest volume first; labels stay.

    A void inside a piece comes as a piece of its own with negative volume, at the end.
    """
    parts = sorted(solid.manifold.decompose(), key=lambda part: (-part.volume(), part.bounding_box()))
    return tuple(Solid(part, solid.registry) for part in parts)


def gathered(solids: tuple[Solid, ...]) -> Solid:
    """Put solids that do not touch into one value (the opposite of :func:`pieces`)."""
    joined = Manifold.batch_boolean([solid.manifold for solid in solids], OpType.Add)
    return Solid(joined, _merged(*solids))


def simplify(solid: Solid, tolerance_mm: float) -> Solid:
    """Drop triangles while no surface moves by more than ``tolerance_mm``; borders between labels stay.

    Raises
    ------
    DesignError
        The volume changed by more than the moved surface explains.
    """
    before = solid.manifold
    after = before.simplify(tolerance_mm)
    limit_mm3 = tolerance_mm * before.surface_area() + slack_mm3(before)
    fault = fault_of(after)
    if fault or abs(after.volume() - before.volume()) > limit_mm3:
        raise DesignError(
            f"simplify: volume went from {before.volume():.3f} to {after.volume():.3f} mm3, at most {limit_mm3:.3f} mm3 apart"
            + (f"; {fault}" if fault else ""),
            hint=f"simplify with less than {tolerance_mm:g} mm",
        )
    return Solid(after, solid.registry)


def to_mesh(solid: Solid) -> tuple[Mesh, LabelArray, tuple[str, ...]]:
    """Return the triangles, one label index per triangle, and the names of the labels that are left.

    Labels stand in the order in which their solids were joined.
    """
    raw = solid.manifold.to_mesh64()
    vertices = np.array(np.asarray(raw.vert_properties)[:, :3], dtype=np.float64, order="C")  # a writable copy
    faces = np.ascontiguousarray(raw.tri_verts, dtype=np.int32)
    names = tuple(dict.fromkeys(name for labels in solid.registry.values() for name in labels))
    index = {name: position for position, name in enumerate(names)}
    face_ids = np.asarray(raw.face_id, dtype=np.int64)
    out = np.empty(len(faces), dtype=np.int64)
    bounds = [int(edge) // 3 for edge in raw.run_index]
    for original, start, stop in zip(raw.run_original_id, bounds[:-1], bounds[1:], strict=True):
        table = np.array([index[name] for name in solid.registry[int(original)]], dtype=np.int64)
        out[start:stop] = table[face_ids[start:stop]]
    used = np.unique(out)
    compact = np.zeros(len(names), dtype=np.int16)
    compact[used] = np.arange(len(used), dtype=np.int16)
    return Mesh(vertices, faces), compact[out], tuple(names[i] for i in used)


def to_part(
    solid: Solid,
    name: str,
    *,
    functional_faces: tuple[FunctionalFace, ...] = (),
    step: bytes = b"",
    pose: FloatArray | None = None,
    handles: int | None = None,
) -> Part:
    """Make a printable part.

    Parameters
    ----------
    solid
        The finished body.
    name
        Name of the part.
    functional_faces
        Labels that later steps must protect; each must be present with an area.
    step
        STEP file of the parametric features, in LPS.
    pose
        (4, 4) from the frame the solid was built in to LPS; None when it is LPS already.
    handles
        How many ways lead through it, where the family knows.

    Raises
    ------
    DesignError
        A functional face has been lost on the way.
    """
    mesh, face_labels, labels = to_mesh(solid)
    mesh, face_labels = without_slivers(mesh, face_labels)
    if pose is not None:
        mesh = Mesh(moved_points(pose, mesh.vertices_mm), mesh.faces)
    part = Part(name, mesh, face_labels, labels, functional_faces, step, handles=handles)
    areas = face_areas(part)
    lost = [face.label for face in functional_faces if areas.get(face.label, 0.0) <= 0.0]
    if lost:
        raise DesignError(
            f"part {name}: functional faces {', '.join(lost)} have an area of 0 mm2, must be more than 0 mm2",
            hint="a later cut removed them: change the parameters that place them",
        )
    return part


def face_areas(part: Part) -> dict[str, float]:
    """Area per label, mm2."""
    sums = np.bincount(part.face_labels, weights=areas_mm2(part.mesh), minlength=len(part.labels))
    return {label: float(area) for label, area in zip(part.labels, sums, strict=True)}


def _merged(*solids: Solid) -> Mapping[int, tuple[str, ...]]:
    registry: dict[int, tuple[str, ...]] = {}
    for solid in solids:
        registry.update(solid.registry)
    return MappingProxyType(registry)
