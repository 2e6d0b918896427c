"""A saw slot as it is written, against its plan: place and direction of its faces, width, and the depth over which it leads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.rays import Scene
from batchone.design.family import FamilyLimits
from batchone.design.guide.checks import judged
from batchone.design.guide.slot import Slot
from batchone.design.triangles import area_vectors
from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh, Part, Vector, moved_points

STEP_MM = (0.5, 0.1)  # numerical: places across the blade and along its way at which the depth is measured
_FACING = 0.99  # numerical: faces turned further from the plane are the slot's ends
_AWAY_MM = 0.01  # numerical: looking for a face so far beyond where it should be


@dataclass(frozen=True, slots=True)
class Measured:
    """A slot on a mesh: its middle off the plan (mm), its faces against it (deg, the worse), its width (mm), and where it is.

    ``outer_mm`` is where it begins along the blade's way.
    """

    off_mm: float
    turned_deg: float
    width_mm: float
    outer_mm: float
    place_mm: Vector


def measured(part: Part, slot: Slot, pose: FloatArray) -> Measured:
    """Fit a plane to each of the two faces, on the mesh in single precision, as a file holds it.

    ``pose`` (4, 4) leads from the slot's frame to LPS.
    """
    points, faces, areas = _local(part, pose)
    mine = part.face_labels == part.labels.index(slot.label)
    cosine = (areas @ slot.normal) / np.maximum(np.linalg.norm(areas, axis=1), 1e-30)
    planes = []
    for sign in (1.0, -1.0):
        corners = points[np.unique(faces[mine & (sign * cosine > _FACING)])]
        middle = corners.mean(axis=0)
        normal = np.linalg.svd(corners - middle, full_matrices=False)[2][2]
        planes.append((middle, normal * np.sign(float(normal @ slot.normal))))
    heights = [float((middle - slot.middle_mm) @ slot.normal) for middle, _ in planes]
    turned = [float(np.degrees(np.linalg.norm(np.cross(normal, slot.normal)))) for _, normal in planes]
    corners = points[np.unique(faces[mine])]
    outer_mm = float(((corners - slot.middle_mm) @ slot.advance).min())
    place = _lps(pose, corners.mean(axis=0))
    return Measured(abs(0.5 * sum(heights)), max(turned), abs(heights[0] - heights[1]), outer_mm, place)


def led_mm(part: Part, slot: Slot, pose: FloatArray, across_mm: tuple[float, float]) -> tuple[float, Vector]:
    """Least depth over which both faces lead the blade, between two places across it (mm from the slot's middle); and where."""
    points, faces, _ = _local(part, pose)
    scene = Scene(Mesh(points, faces))
    across = np.arange(across_mm[0], across_mm[1] + 1e-9, STEP_MM[0])
    along = np.arange(slot.along_mm[0] - 1.0, slot.along_mm[1] + 5.0, STEP_MM[1])
    places = (slot.middle_mm + across[:, None, None] * slot.across + along[None, :, None] * slot.advance).reshape(-1, 3)
    led = np.ones(len(places), dtype=np.bool_)
    for sign in (1.0, -1.0):
        hits = scene.first(places, np.broadcast_to(sign * slot.normal, places.shape), 0.5 * slot.width_mm + _AWAY_MM)
        led &= hits.face >= 0
    depth = led.reshape(len(across), len(along)).sum(axis=1)
    middle_mm = 0.5 * (slot.along_mm[0] + slot.along_mm[1])
    least = int(np.argmin(depth))
    place = slot.middle_mm + across[least] * slot.across + middle_mm * slot.advance
    return float(depth[least]) * STEP_MM[1], _lps(pose, place)


def slot_findings(
    part: Part, slot: Slot, pose: FloatArray, *, over_bone_mm: tuple[float, float], guided_mm: float, limits: FamilyLimits
) -> tuple[Finding, ...]:
    """Judge a slot.

    Parameters
    ----------
    part, slot, pose
        As written, as planned, and the pose of the plan's frame.
    over_bone_mm
        Where the bone lies across the blade's way, from the slot's middle.
    guided_mm
        Depth over which the blade must be led.
    """
    found, gates, what = measured(part, slot, pose), limits.gates, f"{part.name}: {slot.label}"
    led, led_at = led_mm(part, slot, pose, over_bone_mm)
    middle = found.place_mm
    hint = "report this order: the slot was not made as planned"
    return (
        judged(gates["slot_plane_mm"], "slot", f"{what}, middle off the plan", found.off_mm, hint, middle),
        judged(gates["slot_plane_deg"], "slot", f"{what}, against the plan", found.turned_deg, hint, middle),
        judged(gates["slot_width_mm"], "slot", f"{what}, width minus set", found.width_mm - slot.width_mm, hint, middle),
        judged(gates["slot_outer_mm"], "slot", f"{what}, outer end off the set", found.outer_mm - slot.along_mm[0], hint, middle),
        judged(
            gates["guided_mm"], "slot", f"{what}, least depth that leads the saw minus set", led - guided_mm,
            "a larger plate_mm", led_at,
        ),
    )  # fmt: skip


def _local(part: Part, pose: FloatArray) -> tuple[FloatArray, IntArray, FloatArray]:
    """Vertices in the slot's frame, rounded as in a file about its origin; triangles; their area vectors."""
    points = (part.mesh.vertices_mm - pose[:3, 3]).astype(np.float32).astype(np.float64) @ pose[:3, :3]
    return points, part.mesh.faces, area_vectors(Mesh(points, part.mesh.faces))


def _lps(pose: FloatArray, point_mm: FloatArray) -> Vector:
    x, y, z = moved_points(pose, point_mm[None])[0].tolist()
    return (x, y, z)
