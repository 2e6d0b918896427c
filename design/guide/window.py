"""Holes through the shell to the bone: an inspection window, through which is seen whether the guide lies down, and marks.

Through a mark, pen or cautery puts a point on the bone. One stands on each side of the saw cuts, both on a line along the bone:
when the guide is off and the bone is cut, the points show whether one end was turned against the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design import solid
from batchone.design.booleans import Solid
from batchone.design.contact.field import Lattice
from batchone.design.contact.seat import BoolArray
from batchone.design.contact.shell import capsule_mm
from batchone.design.cranial.rays import Scene
from batchone.design.family import FamilyLimits
from batchone.design.guide.checks import judged
from batchone.design.guide.crosslink import Crosslink
from batchone.design.guide.sleeve import Sleeve
from batchone.design.guide.slot import Slot
from batchone.design.process_limits import refuse_below_process
from batchone.pipeline.errors import DesignError
from batchone.pipeline.process import Process
from batchone.pipeline.values import Axis, Bone, Finding, FloatArray, FunctionalFace, Mesh, Part, Vector

WINDOW = "window"
MARKS = ("mark-1", "mark-2")  # towards the head of the bone, and away from it
_WALL_MM = 1.5  # of shell round a window, and from it to what stands above; preferred wall of generic SLS design guides
_LONG_MM = 120.0  # numerical: the hole is cut so far both ways
_INSIDE = 0.95  # numerical: of the radius, within which lines of sight must be free; facets lie inside of the circle
_RINGS, _SPOKES, _FAR_MM = 5, 24, 300.0  # numerical: lines of sight


@dataclass(frozen=True, slots=True)
class Opening:
    """A hole along z: its label, what it is for, where it stands (x, y) in the guide's frame, and its diameter, mm."""

    label: str
    purpose: str
    x_mm: float
    y_mm: float
    diameter_mm: float

    def hole(self) -> solid.Feature:
        """What is cut out."""
        return solid.cylinder(
            self.label,
            start_mm=(self.x_mm, self.y_mm, -_LONG_MM),
            axis=(0.0, 0.0, 1.0),
            diameter_mm=self.diameter_mm,
            length_mm=2.0 * _LONG_MM,
        )

    def face(self, process: Process) -> FunctionalFace:
        """Its functional face."""
        return FunctionalFace(self.label, self.purpose, process.tolerance_mm)


def refuse_narrow(diameters_mm: dict[str, float], process: Process) -> None:
    """Openings of a guide, by the parameter that orders each (0: none), that the process would print shut are refused by name."""
    refuse_below_process({name: (wide, "min_hole_mm") for name, wide in diameters_mm.items() if wide > 0.0}, process)


def taken_mm(
    lattice: Lattice, sleeves: tuple[Sleeve, ...], bars: tuple[Crosslink, ...] = (), blocks: tuple[Solid, ...] = ()
) -> FloatArray:
    """(x, y) signed distance of each column to what stands above the shell, negative under it."""
    found = np.full(lattice.shape[:2], np.inf)
    for sleeve in sleeves:
        found = np.minimum(found, capsule_mm(lattice, sleeve.entry_mm, sleeve.at_mm(sleeve.top_mm), 0.5 * sleeve.outer_mm))
    for bar in bars:
        for start, end in zip(bar.corners_mm, bar.corners_mm[1:], strict=False):
            found = np.minimum(found, capsule_mm(lattice, start, end, np.sqrt(0.5) * bar.width_mm))
    for block in blocks:
        bounds = np.array(block.manifold.bounding_box()).reshape(2, 3)
        x = np.maximum(bounds[0, 0] - lattice.x_mm, lattice.x_mm - bounds[1, 0])
        y = np.maximum(bounds[0, 1] - lattice.y_mm, lattice.y_mm - bounds[1, 1])
        outside = np.hypot(np.maximum(x, 0.0), np.maximum(y, 0.0))
        found = np.minimum(found, outside + np.minimum(np.maximum(x, y), 0.0))
    return found


def window_in(
    name: str, lattice: Lattice, zones: BoolArray, shell_mm: FloatArray, above_mm: FloatArray, *, diameter_mm: float
) -> Opening:
    """Place a window where there is most room for it over bone that the guide touches.

    Parameters
    ----------
    name
        Of the guide, for messages.
    zones
        (x, y) columns over which the guide touches.
    shell_mm, above_mm
        (x, y) signed distance to the shell's edge (negative inside), and to what stands above.

    Raises
    ------
    DesignError
        Nowhere is room enough.
    """
    room = np.where(zones, np.minimum(-shell_mm, above_mm), -np.inf)
    best = np.unravel_index(int(np.argmax(room)), room.shape)
    found, need = float(room[best]), 0.5 * diameter_mm + _WALL_MM
    if found < need:
        raise DesignError(
            f"{name}: a window of {diameter_mm:g} mm needs {need:.1f} mm round its middle, there are {max(found, 0.0):.1f} mm",
            hint="a smaller window_mm, a larger pad_mm or plate_mm, or window_mm = 0",
        )
    x, y = float(lattice.x_mm[best[0], 0]), float(lattice.y_mm[0, best[1]])
    return Opening(WINDOW, "shows the bone: the guide lies down", x, y, diameter_mm)


def marks_beside(
    name: str,
    lattice: Lattice,
    height_mm: FloatArray,
    slots: tuple[Slot, ...],
    shell_mm: FloatArray,
    above_mm: FloatArray,
    *,
    diameter_mm: float,
) -> tuple[Opening, Opening]:
    """Place a mark on each side of all slots, both at one x, where there is most room for the pair.

    Parameters
    ----------
    name
        Of the guide, for messages.
    height_mm
        (x, y) of the bone, not a number where a column meets none.
    slots
        The saw cuts.
    shell_mm, above_mm
        (x, y) signed distance to the shell's edge (negative inside), and to what stands above.

    Raises
    ------
    DesignError
        Nowhere is room enough.
    """
    x, y = np.broadcast_arrays(lattice.x_mm, lattice.y_mm)
    places = np.stack([x, y, np.nan_to_num(height_mm)], axis=-1)
    heights = [(places - slot.middle_mm) @ (slot.normal * (1.0 if slot.normal[1] > 0.0 else -1.0)) for slot in slots]
    sides = np.min(heights, axis=0), -np.max(heights, axis=0)
    room = np.where(np.isfinite(height_mm), np.minimum(-shell_mm, above_mm), -np.inf)
    found = np.stack([np.minimum(room, side - 0.5 * slots[0].width_mm) for side in sides])
    line = int(np.argmax(found.max(axis=2).min(axis=0)))
    least, need = float(found[:, line].max(axis=1).min()), 0.5 * diameter_mm + _WALL_MM
    if least < need:
        raise DesignError(
            f"{name}: marks of {diameter_mm:g} mm on both sides of the cut need {need:.1f} mm round their middles, there are"
            f" {max(least, 0.0):.1f} mm",
            hint="a smaller mark_mm, a larger plate_mm or pin_from_cut_mm, or mark_mm = 0",
        )
    at_x = float(lattice.x_mm[line, 0])
    first, second = (float(lattice.y_mm[0, int(np.argmax(one[line]))]) for one in found)
    purpose = "marks the bone beside the cut"
    return Opening(MARKS[0], purpose, at_x, first, diameter_mm), Opening(MARKS[1], purpose, at_x, second, diameter_mm)


def window_findings(part: Part, bone: Mesh, way: Axis, limits: FamilyLimits) -> tuple[Finding, ...]:
    """How much of a window shows bone: lines of sight along the way out that meet nothing of the guide before."""
    what = f"{part.name}: window, share of it through which bone is seen"
    hint = "report this order: something stands before the window"
    free, where = _free(part, WINDOW, bone, way)
    return (judged(limits.gates["window_free_percent"], "window", what, 100.0 * free, hint, where),)


def mark_findings(part: Part, bone: Bone, way: Axis, limits: FamilyLimits) -> tuple[Finding, ...]:
    """How much of the marks shows bone, and how far their line is off the bone's long axis, seen along the way out."""
    hint = "report this order: something stands before a mark, or the marks do not follow the bone"
    free, where = min((_free(part, label, bone.mesh, way) for label in MARKS), key=lambda one: one[0])
    seen = f"{part.name}: marks, least share of one through which bone is seen"
    axes = _seen_along(np.array(way.direction))
    first, second = (_outline(part, label, axes)[0] for label in MARKS)
    along, line = bone.frame[:3, 2] @ axes, first - second
    off = np.degrees(np.arctan2(abs(line[0] * along[1] - line[1] * along[0]), line @ along))
    turned = f"{part.name}: line of the marks off the bone's long axis"
    return (
        judged(limits.gates["window_free_percent"], "mark", seen, 100.0 * free, hint, where),
        judged(limits.gates["mark_line_deg"], "mark", turned, float(off), hint),
    )


def _seen_along(z: FloatArray) -> FloatArray:
    """(3, 3) columns across, up and towards the viewer of a view along ``z``."""
    x = np.cross(np.eye(3)[int(np.argmin(np.abs(z)))], z)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])


def _outline(part: Part, label: str, axes: FloatArray) -> tuple[FloatArray, float]:
    """(3,) middle along the columns of ``axes``, and inner radius of a hole, seen along the last of them, mm."""
    points = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(label)])] @ axes
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    return middle, float(np.linalg.norm(points[:, :2] - middle[:2], axis=1).min())


def _free(part: Part, label: str, bone: Mesh, way: Axis) -> tuple[float, Vector]:
    """Share of a hole through which bone is seen along the way out; and what stands before it, or else its middle."""
    z = np.array(way.direction)
    axes = _seen_along(z)
    middle, inner_mm = _outline(part, label, axes)
    turn = np.linspace(0.0, 2.0 * np.pi, _SPOKES, endpoint=False)
    rings = _INSIDE * inner_mm * np.linspace(0.0, 1.0, _RINGS)[:, None, None] * np.column_stack([np.cos(turn), np.sin(turn)])
    places = np.column_stack([rings.reshape(-1, 2), np.zeros(_RINGS * _SPOKES)])
    shift = axes @ middle
    eyes = places @ axes.T + _FAR_MM * z
    looking = np.broadcast_to(-z, eyes.shape)
    near, far = (
        Scene(Mesh(mesh.vertices_mm - shift, mesh.faces)).meets(eyes, looking, 2.0 * _FAR_MM)[0] for mesh in (part.mesh, bone)
    )
    before = near < far
    first = int(np.argmin(np.where(before, near, np.inf)))
    at: FloatArray = shift + (eyes[first] - near[first] * z if before.any() else 0.0 * z)
    x_mm, y_mm, z_mm = at.tolist()
    return float((np.isfinite(far) & ~before).mean()), (x_mm, y_mm, z_mm)
