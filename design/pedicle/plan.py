"""The plan of a pedicle guide: one way in on each side of each level, and the way the guide goes on."""

from __future__ import annotations

import numpy as np

from batchone.design.cranial.columns import to_local
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import parameters_of
from batchone.design.pedicle.trajectory import Trajectory, Walls, Ways, proposed, walls, ways
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Axis, Bone, Finding, FloatArray, Mesh, Plan, Vector, judge, moved_points

SIDES = ("left", "right")
SCREW_SHARE = 0.8  # of the depth of the bone along a way; common practice
LENGTH_STEP_MM = 5.0  # screws come in steps of 5 mm; common sets
ENTRY_MM = 5.0  # of the way that lies in the cortex of the entry: walls beside it do not count; project default, unverified


def propose_plan(anatomy: Anatomy, order: Order) -> Plan:
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
    chosen = parameters_of(order, PedicleGuideParameters)
    axes: list[Axis] = []
    figures: list[tuple[str, float]] = []
    findings: list[Finding] = []
    for bone in anatomy.bones:
        _refuse_cut(bone)
        local = ways(Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces))
        found = {side: _way(anatomy, bone, local, side, order) for side in sides_of(order)}
        for side, way in found.items():
            title = f"{bone.name}-{side}"
            length_mm = chosen.screw_length_mm or longest_screw_mm(way.depth_mm)
            measured = walls(local, way, length_mm=length_mm, skip_mm=ENTRY_MM)
            axes.append(_axis(f"trajectory-{title}", bone.frame, way.entry_mm, way.direction, length_mm))
            figures += [(f"{title}_bone_depth_mm", way.depth_mm), (f"{title}_screw_length_mm", length_mm)]
            findings.append(_length_finding(title, length_mm, way.depth_mm))
            findings += _wall_findings(title, measured, chosen.screw_mm)
        axes.append(_insertion(bone, tuple(found.values())))
    return Plan("pedicle-guide", True, order.side, axes=tuple(axes), figures=tuple(figures), findings=tuple(findings))


def sides_of(order: Order) -> tuple[str, ...]:
    """The sides that an order asks for: both where it says ``midline``."""
    return SIDES if order.side == "midline" else (order.side,)


def longest_screw_mm(depth_mm: float) -> float:
    """The longest screw within 80 % of the bone's depth, in steps of 5 mm."""
    return float(np.floor(depth_mm * SCREW_SHARE / LENGTH_STEP_MM) * LENGTH_STEP_MM)


def _refuse_cut(bone: Bone) -> None:
    if not bone.complete:
        raise OrderError(
            f"{bone.name} is cut at the edge of the scan, a guide needs it whole",
            hint="ask for a scan that shows the level whole",
        )


def _way(anatomy: Anatomy, bone: Bone, local: Ways, side: str, order: Order) -> Trajectory:
    name = f"{bone.name}-pedicle-{side}"
    mark = next((m for m in anatomy.landmarks if m.name == name), None)
    if mark is None:
        raise OrderError(
            f"{bone.name} shows no {side} pedicle: 0 landmarks {name}, 1 needed",
            hint="is it a vertebra, whole and apart? look at the segmentation, or draw the ways: [plan] markups",
        )
    way = proposed(local, to_local(bone.frame, np.array([mark.point_mm]))[0], left=side == "left")
    if way is None:
        raise DesignError(
            f"{bone.name} {side}: no way through the pedicle stays inside the bone", hint="draw it: [plan] markups with a line"
        )
    del order
    return way


def _length_finding(title: str, length_mm: float, depth_mm: float) -> Finding:
    what = f"{title}: bone in front of the screw's tip"
    hint = "a shorter screw (screw_length_mm), or another way ([plan] markups)"
    return judge("screw-length", what, depth_mm - length_mm, "mm", low=0.0, hint=hint, source="the screw stays in the bone")


def _wall_findings(title: str, found: Walls, screw_mm: float) -> tuple[Finding, ...]:
    radius = 0.5 * screw_mm
    source = "Gertzbein & Robbins 1990: grade A is 0 mm outside; grade B below 2 mm"
    hint = "a thinner screw (screw_mm), another way ([plan] markups), or no guide for this pedicle"
    return (
        judge(
            "pedicle-wall",
            f"{title}: cortex to the screw, least along its way",
            found.all_mm - radius,
            "mm",
            low=0.0,
            gate=False,
            hint=hint,
            source=source,
        ),
        judge(
            "medial-wall", f"{title}: medial wall to the screw", found.medial_mm - radius, "mm", low=0.0, hint=hint, source=source
        ),
    )


def _insertion(bone: Bone, found: tuple[Trajectory, ...]) -> Axis:
    """Outward, in the vertebra's own sagittal plane, against the middle of the ways; from between the entries."""
    outward = -np.mean([way.direction for way in found], axis=0)
    outward[0] = 0.0
    middle = np.mean([way.entry_mm for way in found], axis=0)
    return _axis(f"insertion-{bone.name}", bone.frame, middle, outward / np.linalg.norm(outward), None)


def _axis(name: str, frame: FloatArray, origin_mm: FloatArray, direction: FloatArray, length_mm: float | None) -> Axis:
    return Axis(name, _vector(moved_points(frame, origin_mm[None])[0]), _vector(frame[:3, :3] @ direction), length_mm)


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
