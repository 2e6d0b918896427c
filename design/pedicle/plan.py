"""The plan of a pedicle guide: one way in on each side of each level, and the way the guide goes on."""

from __future__ import annotations

import numpy as np

from batchone.design.cranial.columns import to_local
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import parameters_of
from batchone.design.pedicle.fittings import screw
from batchone.design.pedicle.trajectory import MEDIAL_MM, SCREW_SHARE, Trajectory, Ways, drawn, proposed, ways
from batchone.design.tables import Screw, Tables
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Axis, Bone, FloatArray, Mesh, Plan, Vector, moved_points

SIDES = ("left", "right")
ROOM_MM = (
    1.0  # around a screw, more is not looked for; the surface's own uncertainty is a third of it; project default, unverified
)
MOST_APART_DEG = 45.0  # between a sleeve and the way its guide comes off: steeper sleeves do not stand on it; project default


def propose_plan(anatomy: Anatomy, order: Order, tables: Tables) -> Plan:
    """Propose the ways in from the landmarks of each vertebra.

    Returns
    -------
    Plan
        In LPS mm: for each bone and side an axis ``trajectory-T9-left`` from the entry into the bone, as long as the screw; and
        for each bone an axis ``insertion-T9`` that points outward, from between the entries.

    Raises
    ------
    OrderError
        A level is not a vertebra with two pedicles that the scan shows whole.
    DesignError
        No way through a pedicle was found.
    """
    planned = screw(order, tables)
    _refuse_strange(anatomy, order)
    axes: list[Axis] = []
    figures: list[tuple[str, float]] = []
    for bone in anatomy.bones:
        _refuse_cut(bone)
        local = ways(Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces))
        found = {side: _way(anatomy, bone, local, side, order, planned) for side in sides_of(order)}
        lengths = {side: _length_mm(bone, way, side, order, planned) for side, way in found.items()}
        for side, way in found.items():
            title, length_mm = f"{bone.name}-{side}", lengths[side]
            axes.append(_axis(way_name(bone, side), bone.frame, way.entry_mm, way.direction, length_mm))
            figures += [(f"{title}_bone_depth_mm", way.depth_mm), (f"{title}_screw_length_mm", length_mm)]
        axes.append(_insertion(bone, tuple(found.values()), order))
    proposed_all = not order.plan.lines
    return Plan("pedicle-guide", proposed_all, order.side, axes=tuple(axes), figures=tuple(figures))


def way_name(bone: Bone, side: str) -> str:
    """Name of the axis of a screw, in plans that come in and go out."""
    return f"trajectory-{bone.name}-{side}"


def insertion_name(bone: Bone) -> str:
    """Name of the axis along which a guide comes off its bone."""
    return f"insertion-{bone.name}"


def sides_of(order: Order) -> tuple[str, ...]:
    """The sides that an order asks for: both where it says ``midline``."""
    return SIDES if order.side == "midline" else (order.side,)


def longest_screw_mm(planned: Screw, depth_mm: float) -> float:
    """The longest length of a screw within 80 % of the bone's depth; its shortest where none is."""
    return max((length for length in planned.lengths_mm if length <= SCREW_SHARE * depth_mm), default=planned.lengths_mm[0])


def _refuse_cut(bone: Bone) -> None:
    if not bone.complete:
        raise OrderError(
            f"{bone.name} is cut at the edge of the scan, a guide needs it whole",
            hint="ask for a scan that shows the level whole",
        )


def _refuse_strange(anatomy: Anatomy, order: Order) -> None:
    """Refuse drawn things that this family would leave aside: a person meant something by them."""
    known = [way_name(bone, side) for bone in anatomy.bones for side in sides_of(order)]
    known += [insertion_name(bone) for bone in anatomy.bones]
    strange = [line.name for line in order.plan.lines if line.name not in known]
    strange += [plane.name for plane in order.plan.planes] + [curve.name for curve in order.plan.curves]
    strange += [point.name for point in order.plan.points]
    if strange:
        raise OrderError(
            f"the plan holds {', '.join(strange)}; lines of a pedicle guide for this order are {', '.join(known)}",
            hint="name the lines so, or order the level and side that they are meant for",
        )


def _way(anatomy: Anatomy, bone: Bone, local: Ways, side: str, order: Order, planned: Screw) -> Trajectory:
    mark = next((m for m in anatomy.landmarks if m.name == f"{bone.name}-pedicle-{side}"), None)
    isthmus = None if mark is None else to_local(bone.frame, np.array([mark.point_mm]))[0]
    line = order.plan.line(way_name(bone, side))
    if line is not None:
        ends = to_local(bone.frame, np.array([line.start_mm, line.end_mm]))
        return _drawn_way(bone, local, side, ends, isthmus)
    if isthmus is None:
        raise OrderError(
            f"{bone.name} shows no {side} pedicle: 0 landmarks {bone.name}-pedicle-{side}, 1 needed",
            hint="is it a vertebra, whole and apart? look at the segmentation, or draw the ways: [plan] markups",
        )
    enough = 0.5 * planned.diameter_mm + ROOM_MM + MEDIAL_MM
    way = proposed(local, isthmus, left=side == "left", enough_mm=enough)
    if way is None:
        raise DesignError(
            f"{bone.name} {side}: no way through the pedicle stays inside the bone", hint="draw it: [plan] markups with a line"
        )
    return way


def _drawn_way(bone: Bone, local: Ways, side: str, ends: FloatArray, isthmus: FloatArray | None) -> Trajectory:
    name = way_name(bone, side)
    hint = "was it drawn in this study, in patient space, from the entry to the target?"
    way = drawn(local, ends[0], ends[1], isthmus)
    if way is None:
        raise OrderError(f"plan line {name} misses {bone.name}: 0 mm of it lie in the bone", hint=hint)
    if way.direction[1] >= 0.0:
        raise OrderError(f"plan line {name} runs from the front to the back, must run from the entry to the target", hint=hint)
    entered = float(way.entry_mm[0])
    if (entered > 0.0) != (side == "left"):
        other = "right" if side == "left" else "left"
        raise OrderError(
            f"plan line {name} enters {abs(entered):.1f} mm to the {other} of the bone's middle, must enter on the {side}",
            hint="are the names of the lines exchanged?",
        )
    return way


def _length_mm(bone: Bone, way: Trajectory, side: str, order: Order, planned: Screw) -> float:
    """As set; or to the end of the drawn line; or as long as the bone allows."""
    line = order.plan.line(way_name(bone, side))
    stated_mm = parameters_of(order, PedicleGuideParameters).screw_length_mm
    if stated_mm > way.depth_mm:
        raise OrderError(
            f"screw_length_mm is {stated_mm:g}, the bone along {way_name(bone, side)} is {way.depth_mm:.1f} mm deep",
            hint="set a shorter screw_length_mm, or 0 for the longest that the bone allows",
        )
    if stated_mm > 0.0:
        return stated_mm
    if line is None:
        return longest_screw_mm(planned, way.depth_mm)
    end = to_local(bone.frame, np.array([line.end_mm]))[0]
    return max(float((end - way.entry_mm) @ way.direction), 0.0)


def _insertion(bone: Bone, found: tuple[Trajectory, ...], order: Order) -> Axis:
    """Outward: as drawn, or in the vertebra's own sagittal plane against the middle of the ways; from between the entries."""
    line = order.plan.line(insertion_name(bone))
    middle = np.mean([way.entry_mm for way in found], axis=0)
    if line is None:
        outward = -np.mean([way.direction for way in found], axis=0)
        outward[0] = 0.0
    else:
        start, end = to_local(bone.frame, np.array([line.start_mm, line.end_mm]))
        outward = end - start
    outward = outward / np.linalg.norm(outward)
    for way in found:
        off_deg = float(np.degrees(np.arccos(np.clip(-way.direction @ outward, -1.0, 1.0))))
        if off_deg > MOST_APART_DEG:
            raise OrderError(
                f"{bone.name}: a way in lies {off_deg:.0f} deg to the way the guide comes off, at most {MOST_APART_DEG:g} deg",
                hint=f"draw {insertion_name(bone)} nearer to the ways, or one side per guide",
            )
    return _axis(insertion_name(bone), bone.frame, middle, outward, None)


def _axis(name: str, frame: FloatArray, origin_mm: FloatArray, direction: FloatArray, length_mm: float | None) -> Axis:
    return Axis(name, _vector(moved_points(frame, origin_mm[None])[0]), _vector(frame[:3, :3] @ direction), length_mm)


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
