"""What is measured on a pedicle guide, level by level."""

from __future__ import annotations

import numpy as np

from batchone.design.budget.breach import breach
from batchone.design.budget.drill import Lead, drilled
from batchone.design.budget.play import tilt_deg
from batchone.design.budget.sources import SEED, Seats
from batchone.design.contact.neighbours import neighbours
from batchone.design.cranial.columns import to_local
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import Checked, FamilyCheck, FamilyLimits, parameters_of
from batchone.design.guide.body import guide_pose
from batchone.design.guide.checks import bore_findings, contact_findings, judged, neighbour_findings, way_out_findings
from batchone.design.guide.label_checks import label_findings
from batchone.design.guide.seating_checks import (
    breach_findings,
    budget_findings,
    graded,
    landed_on,
    led_mm,
    scored_seat,
    seating_findings,
)
from batchone.design.guide.window import window_findings
from batchone.design.nearest import indexed_once
from batchone.design.pedicle.bar import label_wordings
from batchone.design.pedicle.fittings import fittings, screw
from batchone.design.pedicle.plan import insertion_name, sides_of, way_name
from batchone.design.pedicle.trajectory import ENTRY_MM, Trajectory, Walls, Ways, apart_mm, in_front_mm, walls
from batchone.design.tables import used_findings
from batchone.pipeline.values import Axis, Bone, Finding, Mesh, Part, moved_points


def sits_on_bone(checked: Checked) -> tuple[Finding, ...]:
    """Contact and clearance of each guide against its bone."""
    offset_mm = fittings(checked.order, checked.process, checked.tables).offset_mm
    return tuple(
        finding
        for part, bone in _guides(checked)
        for finding in contact_findings(
            part, bone.mesh, checked.plan.axis(insertion_name(bone)), offset_mm=offset_mm, limits=checked.limits
        )
    )


def slides_on(checked: Checked) -> tuple[Finding, ...]:
    """Nothing of a guide lies below bone on its way out."""
    return tuple(
        finding
        for part, bone in _guides(checked)
        for finding in way_out_findings(part, bone.mesh, checked.plan.axis(insertion_name(bone)), checked.limits)
    )


def keeps_off_neighbours(checked: Checked) -> tuple[Finding, ...]:
    """No guide touches another bone than its own."""
    return tuple(
        finding
        for part, bone in _guides(checked)
        for finding in neighbour_findings(part, neighbours(checked.anatomy, bone), checked.limits)
    )


def leads_the_drill(checked: Checked) -> tuple[Finding, ...]:
    """Each bore lies on its planned way and is as wide as set."""
    bore_mm = fittings(checked.order, checked.process, checked.tables).bore_mm
    return tuple(
        finding
        for part, bone in _guides(checked)
        for side in sides_of(checked.order)
        for finding in bore_findings(
            part,
            f"bore-{bone.name}-{side}",
            checked.plan.axis(way_name(bone, side)),
            set_mm=bore_mm,
            limits=checked.limits,
        )
    )


def screws_fit(checked: Checked) -> tuple[Finding, ...]:
    """The planned screws against the bone: walls along each, bone in front of its tip, and both against each other."""
    screw_mm = screw(checked.order, checked.tables).diameter_mm
    findings: list[Finding] = []
    for bone in checked.anatomy.bones:
        mesh = Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces)
        local = Ways(indexed_once(bone.mesh).asked_as(mesh, bone.frame))
        axes = [checked.plan.axis(way_name(bone, side)) for side in sides_of(checked.order)]
        found = [_way(bone, axis) for axis in axes]
        for axis, way in zip(axes, found, strict=True):
            measured = walls(local, way, length_mm=way.depth_mm, skip_mm=ENTRY_MM)
            left_mm = in_front_mm(local, way, way.depth_mm)
            findings += _screw_findings(axis, way.depth_mm, measured, left_mm, screw_mm, checked.limits)
        if len(found) > 1:
            axes_mm, middle = apart_mm(found[0], found[0].depth_mm, found[1], found[1].depth_mm)
            what, hint = f"{bone.name}: between the left and the right screw", "move a way ([plan] markups), or thinner screws"
            x, y, z = moved_points(bone.frame, middle[None])[0].tolist()
            gate = checked.limits.gates["ways_apart_mm"]
            findings.append(judged(gate, "ways-apart", what, axes_mm - screw_mm, hint, (x, y, z)))
    return tuple(findings)


def _way(bone: Bone, axis: Axis) -> Trajectory:
    """A planned axis in the bone's frame; its depth is the screw's length."""
    entry = to_local(bone.frame, np.array([axis.origin_mm]))[0]
    return Trajectory(entry, np.array(axis.direction) @ bone.frame[:3, :3], axis.length_mm or 0.0)


def _screw_findings(
    axis: Axis, depth_mm: float, found: Walls, left_mm: float, screw_mm: float, limits: FamilyLimits
) -> list[Finding]:
    gates, radius, title = limits.gates, 0.5 * screw_mm, axis.name.removeprefix("trajectory-")
    hint = "another screw ([instruments] screw, screw_length_mm) or way ([plan] markups), or no guide for this pedicle"
    values = (
        (
            "pedicle_wall_mm",
            "pedicle-wall",
            "cortex to the screw, least along its way",
            found.all_mm - radius,
            found.all_along_mm,
        ),
        ("medial_wall_mm", "medial-wall", "medial wall to the screw", found.medial_mm - radius, found.medial_along_mm),
        ("screw_tip_mm", "screw-tip", "bone in front of the screw's tip", left_mm, depth_mm),
    )
    return [
        judged(gates[key], check, f"{title}: {what}", value, hint, axis.at_mm(along)) for key, check, what, value, along in values
    ]


def seats(checked: Checked) -> tuple[Finding, ...]:
    """How each guide seats, and how far its drills may tilt; for a release also where they and the screws go by all errors.

    See :mod:`batchone.design.seating` and :mod:`batchone.design.budget`.
    """
    fit = fittings(checked.order, checked.process, checked.tables)
    findings: list[Finding] = []
    for part, bone in _guides(checked):
        found = scored_seat(checked, part, bone, guide_pose(checked.plan.axis(insertion_name(bone)), bone))
        findings += seating_findings(found, part, checked.limits.gates, offset_mm=fit.offset_mm)
        landed, missing = landed_on(found, part.name, checked.only)
        findings += missing
        for side in sides_of(checked.order):
            lead = _lead(checked, part, bone, side)
            what = f"{bone.name}-{side}: tilt that the clearance of {lead.clearance_mm:g} mm allows over {lead.led_mm:.1f} mm"
            worst, hint = tilt_deg(lead.clearance_mm, lead.led_mm), "a longer sleeve_mm, or a smaller clearance"
            findings.append(
                graded(checked.limits.gates, "budget_tilt_deg", "budget-clearance", what, worst, hint, lead.way.at_mm(0.0))
            )
            if landed is not None:
                findings += _budget(checked, bone, side, lead, landed)
    return tuple(findings)


def _lead(checked: Checked, part: Part, bone: Bone, side: str) -> Lead:
    way = checked.plan.axis(way_name(bone, side))
    low, high = led_mm(part, f"bore-{bone.name}-{side}", way)
    clearance_mm = fittings(checked.order, checked.process, checked.tables).hole.diametral_mm
    return Lead(way, clearance_mm, high - low, low, drawn=not checked.plan.proposed)


def _budget(checked: Checked, bone: Bone, side: str, lead: Lead, landed: Seats) -> list[Finding]:
    planned, way = screw(checked.order, checked.tables), lead.way
    title, gates = f"{bone.name}-{side}", checked.limits.gates
    found = drilled(lead, landed, checked.process)
    length = way.length_mm or 0.0
    to_bone = bone.frame[:3, :3].T @ landed.pose[:3, :3]
    entries = to_local(bone.frame, found.entries_mm @ landed.pose[:3, :3].T + landed.pose[:3, 3])
    sigma = float(np.median(bone.uncertainty_mm))
    through = breach(
        Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces),
        entries,
        found.directions @ to_bone.T,
        radius_mm=0.5 * planned.diameter_mm,
        from_mm=ENTRY_MM,
        to_mm=length,
        left=side == "left",
        wall_errors_mm=sigma * np.random.default_rng(SEED).standard_normal(len(entries)),
    )
    return [
        *budget_findings(found.errors, title, gates, way.at_mm(length)),
        *breach_findings(through, title, gates, way.at_mm(through.along_mm)),
    ]


def says_what_it_is(checked: Checked) -> tuple[Finding, ...]:
    """The label of each guide, read back."""
    if not parameters_of(checked.order, PedicleGuideParameters).engrave:
        return ()
    return tuple(
        finding
        for part, bone in _guides(checked)
        for finding in label_findings(
            part,
            (bone.frame[:3, 2],),
            label_wordings(checked.anatomy, bone, checked.order),
            checked.process,
            checked.limits,
        )
    )


def shows_the_bone(checked: Checked) -> tuple[Finding, ...]:
    """The inspection window of each guide, where one was ordered."""
    if parameters_of(checked.order, PedicleGuideParameters).window_mm == 0.0:
        return ()
    return tuple(
        finding
        for part, bone in _guides(checked)
        for finding in window_findings(part, bone.mesh, checked.plan.axis(insertion_name(bone)), checked.limits)
    )


def made_for(checked: Checked) -> tuple[Finding, ...]:
    """Instruments and clearances that were used, with where their numbers come from."""
    fit = fittings(checked.order, checked.process, checked.tables)
    return used_findings(
        fit.drill, *((fit.insert,) if fit.insert else ()), fit.hole, fit.contact, screw(checked.order, checked.tables)
    )


def _guides(checked: Checked) -> list[tuple[Part, Bone]]:
    parts = {part.name: part for part in checked.device.parts}
    return [(parts[f"guide-{bone.name}"], bone) for bone in checked.anatomy.bones]


CHECKS: tuple[FamilyCheck, ...] = (  # the longest first: they run side by side
    seats,
    screws_fit,
    sits_on_bone,
    slides_on,
    keeps_off_neighbours,
    leads_the_drill,
    shows_the_bone,
    made_for,
)
RELEASE_CHECKS: tuple[FamilyCheck, ...] = (says_what_it_is,)
