"""How a plain guide seats, and how far off its drills may be at their targets, for families of any package."""

from __future__ import annotations

from batchone.design.budget.drill import Lead, drilled
from batchone.design.budget.play import tilt_deg
from batchone.design.family import Checked
from batchone.design.guide.body import guide_pose
from batchone.design.guide.seating_checks import budget_findings, graded, landed_on, led_mm, scored_seat, seating_findings
from batchone.pipeline.values import Axis, Bone, Finding, Part


def plain_seating_findings(
    checked: Checked, part: Part, bone: Bone, *, way: Axis, holes: tuple[Axis, ...], offset_mm: float, clearance_mm: float
) -> tuple[Finding, ...]:
    """Score the seat of a guide with a face ``contact``, and for a release the error of each drill at the end of its way.

    Parameters
    ----------
    checked
        Its limits need the gates ``seating_*`` and ``budget_tilt_deg``, ``budget_mm``, ``budget_deg``.
    part, bone
        The guide, and the bone that carries it.
    way, holes
        The way it comes off, and the ways in, LPS; the bore of each is the face ``bore-<its name>``.
    offset_mm, clearance_mm
        Gap to the bone in the contact, and of the drill in its bore, diametral.
    """
    gates = checked.limits.gates
    found = scored_seat(checked, part, bone, guide_pose(way, bone))
    findings = [*seating_findings(found, part, gates, offset_mm=offset_mm)]
    landed, missing = landed_on(found, part.name, checked.only)
    findings += missing
    for hole in holes:
        low, high = led_mm(part, f"bore-{hole.name}", hole)
        what = f"{hole.name}: tilt that the clearance of {clearance_mm:g} mm allows over {high - low:.1f} mm"
        hint = "a longer sleeve_mm, or a smaller clearance"
        findings.append(graded(gates, "budget_tilt_deg", "budget-clearance", what, tilt_deg(clearance_mm, high - low), hint))
        if landed is not None:
            lead = Lead(hole, clearance_mm, high - low, low, drawn=not checked.plan.proposed)
            errors = drilled(lead, landed, checked.process).errors
            findings += budget_findings(errors, hole.name, gates, hole.at_mm(hole.length_mm or 0.0))
    return tuple(findings)
