"""What stands where on an osteotomy guide, in its own frame: slots, sleeves, plate, arm. z is the way out, y towards the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.contact.field import Lattice
from batchone.design.contact.shell import capsule_mm
from batchone.design.cranial.columns import to_local
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.guide.sleeve import Sleeve
from batchone.design.guide.slot import Slot
from batchone.design.osteotomy.approach import FLAT
from batchone.design.osteotomy.cuts import unit
from batchone.design.osteotomy.fittings import Fittings
from batchone.design.osteotomy.section import section
from batchone.design.triangles import area_vectors
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Axis, Bone, FloatArray, Mesh, Plan, Plane

WRAP_MM = 3.0  # the blocks reach so far below where the bone is highest; project default, unverified
WIDER_MM = 12.0  # on each side, a plate whose contact is chosen is wider, with no more contact; project default, unverified
ARM_MM = 12.0  # width of the arm, and the length over which its end touches; project default, unverified
_ROUND_MM = 5.0  # corners of the plate; project default
_UNDER_PIN_MM = 2.0  # there is plate so far round a sleeve, whether the bone carries there or not; project default
_OVER_PIN_MM = 3.0  # the plate reaches so far beyond a sleeve; project default


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where a guide's pieces stand.

    Attributes
    ----------
    pose
        (4, 4) from the guide's frame to LPS.
    bone
        The bone's surface in the guide's frame.
    slots
        From ``cut-1`` on; a slot's normal is its plane's.
    sleeves
        From ``pin-1`` on, stop faces not yet in place.
    low_mm, high_mm
        (2,) corners (x, y) of the plate, ``WIDER_MM`` wider on each side where its contact is chosen.
    arm_mm
        (2, 2) where the arm starts and ends (x, y), or None.
    """

    pose: FloatArray
    bone: Mesh
    slots: tuple[Slot, ...]
    sleeves: tuple[Sleeve, ...]
    low_mm: FloatArray
    high_mm: FloatArray
    arm_mm: FloatArray | None

    def plate(self, lattice: Lattice) -> FloatArray:
        """(x, y) signed distance of each column to the plate's edge."""
        half = 0.5 * (self.high_mm - self.low_mm)
        middle = 0.5 * (self.high_mm + self.low_mm)
        x = np.abs(lattice.x_mm - middle[0]) - half[0] + _ROUND_MM
        y = np.abs(lattice.y_mm - middle[1]) - half[1] + _ROUND_MM
        outside = np.hypot(np.maximum(x, 0.0), np.maximum(y, 0.0))
        return np.asarray(outside + np.minimum(np.maximum(x, y), 0.0) - _ROUND_MM)

    def arm(self, lattice: Lattice) -> FloatArray:
        """(x, y) signed distance of each column to the arm's edge; infinite where there is none."""
        if self.arm_mm is None:
            return np.full(lattice.shape[:2], np.inf)
        return capsule_mm(lattice, self.arm_mm[0], self.arm_mm[1], 0.5 * ARM_MM)

    def seats(self, lattice: Lattice) -> FloatArray:
        """(x, y) signed distance of each column to what every sleeve stands on."""
        found = np.full(lattice.shape[:2], np.inf)
        for sleeve in self.sleeves:
            found = np.minimum(
                found, capsule_mm(lattice, sleeve.entry_mm, sleeve.entry_mm, 0.5 * sleeve.outer_mm + _UNDER_PIN_MM)
            )
        return found

    def foot(self, lattice: Lattice) -> FloatArray:
        """(x, y) signed distance of each column to the end of the arm, which touches."""
        if self.arm_mm is None:
            return np.full(lattice.shape[:2], np.inf)
        way = unit(self.arm_mm[1] - self.arm_mm[0])
        return capsule_mm(lattice, self.arm_mm[1] - 0.5 * ARM_MM * way, self.arm_mm[1], 0.5 * ARM_MM)


def guide_pose(way: Axis, bone: Bone) -> FloatArray:
    """(4, 4) from the guide's frame to LPS: z along the way out, y towards the head, origin on the bone."""
    z = np.array(way.direction)
    y = bone.frame[:3, 2] - z * float(bone.frame[:3, 2] @ z)
    if np.linalg.norm(y) < 0.1:  # the guide goes on along the bone
        y = bone.frame[:3, 1] - z * float(bone.frame[:3, 1] @ z)
    y /= np.linalg.norm(y)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([np.cross(y, z), y, z])
    pose[:3, 3] = way.origin_mm
    return pose


def laid_out(bone: Bone, plan: Plan, end: str, chosen: OsteotomyGuideParameters, fit: Fittings, *, downward: bool) -> Layout:
    """Place everything that the plan asks for.

    Parameters
    ----------
    end
        What the plan's names of this bone end in.
    downward
        The arm leads to the lower end of the bone.
    """
    pose = guide_pose(plan.axis(f"insertion{end}"), bone)
    mesh = Mesh(to_local(pose, bone.mesh.vertices_mm), bone.mesh.faces)
    slots = []
    for number in range(1, count_of(plan, "cut", end) + 1):
        plane, way = plan.plane(f"cut-{number}{end}"), plan.axis(f"blade-{number}{end}")
        slots.append(_slot(str(number), mesh, pose, plane, way, chosen, fit))
    outer = fit.bore_mm + 2.0 * chosen.sleeve_wall_mm
    sleeves = []
    for number in range(1, count_of(plan, "pin", end) + 1):
        pin = plan.axis(f"pin-{number}{end}")
        entry = to_local(pose, np.array([pin.origin_mm]))[0]
        outward = np.round(-np.array(pin.direction) @ pose[:3, :3], 9)
        sleeves.append(Sleeve(f"pin-{number}", entry, outward, fit.bore_mm, outer, chosen.sleeve_mm))
    around = 0.5 * outer + _OVER_PIN_MM
    entries = np.array([sleeve.entry_mm[:2] for sleeve in sleeves])
    low, high = entries.min(axis=0) - around, entries.max(axis=0) + around
    half, wider = 0.5 * chosen.plate_mm, WIDER_MM if chosen.optimise_contact else 0.0
    low[0], high[0] = min(low[0], -half) - wider, max(high[0], half) + wider
    arm = None
    if chosen.extension_mm > 0.0:
        start, sign = (low[1], -1.0) if downward else (high[1], 1.0)
        end_y = start + sign * max(chosen.extension_mm - 0.5 * ARM_MM, 0.5)
        arm = np.array([[0.0, start - sign * ARM_MM], [_face_x_mm(mesh, end_y), end_y]])
    return Layout(pose, mesh, tuple(slots), tuple(sleeves), low, high, arm)


def _face_x_mm(mesh: Mesh, y_mm: float) -> float:
    """Where the middle of the bone's face lies at a height: faces of shafts turn along them."""
    middles, areas = mesh.vertices_mm[mesh.faces].mean(axis=1), area_vectors(mesh)
    seen = areas[:, 2]
    flat = (np.abs(middles[:, 1] - y_mm) <= 0.5 * ARM_MM) & (seen > FLAT * np.linalg.norm(areas, axis=1))
    return float((seen[flat] * middles[flat, 0]).sum() / seen[flat].sum()) if flat.any() else 0.0


def count_of(plan: Plan, kind: str, end: str) -> int:
    """How many planes ``cut-N`` or axes ``pin-N`` a plan has for a bone."""
    names = {plane.name for plane in plan.planes} | {axis.name for axis in plan.axes}
    count = 0
    while f"{kind}-{count + 1}{end}" in names:
        count += 1
    return count


def _slot(
    name: str, mesh: Mesh, pose: FloatArray, plane: Plane, way: Axis, chosen: OsteotomyGuideParameters, fit: Fittings
) -> Slot:
    """The slot of a plane: its middle lies half a kerf below the face that is kept."""
    normal = unit(np.round(np.array(plane.normal) @ pose[:3, :3], 9))
    advance = np.round(np.array(way.direction) @ pose[:3, :3], 9)
    advance = unit(advance - normal * float(advance @ normal))
    middle = to_local(pose, np.array([plane.origin_mm]))[0] - 0.5 * fit.blade.kerf_mm * normal
    across = np.cross(normal, advance)
    sides: list[float] = []
    near: list[float] = []
    for above in (-0.5, 0.0, 0.5):  # the bone may be higher under one face of the slot than under the other
        found = section(mesh, middle + above * fit.slot_mm * normal, normal)
        if found is None:
            raise DesignError(f"slot-{name}: the bone ends within the slot of plane cut-{name}", hint="move the plane")
        sides += found.along(across)
        near.append(found.along(advance)[0])
    at, nearest = float(middle @ across), min(near) - float(middle @ advance)
    return Slot(
        name,
        middle,
        normal,
        advance,
        fit.slot_mm,
        (min(sides) - at - chosen.beyond_mm, max(sides) - at + chosen.beyond_mm),
        (nearest - chosen.relief_mm - chosen.guided_mm, nearest + WRAP_MM),
    )
