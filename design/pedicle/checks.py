"""What is measured on a pedicle guide, level by level."""

from __future__ import annotations

from collections.abc import Callable

from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import Checked, parameters_of
from batchone.design.guide.checks import bore_findings, contact_findings, way_out_findings
from batchone.design.pedicle.plan import insertion_name, sides_of, way_name
from batchone.pipeline.values import Bone, Finding, Part


def sits_on_bone(checked: Checked) -> tuple[Finding, ...]:
    """Contact and clearance of each guide against its bone."""
    offset_mm = parameters_of(checked.order, PedicleGuideParameters).contact_offset_mm
    return tuple(
        finding
        for part, bone in _guides(checked)
        for finding in contact_findings(part, bone.mesh, offset_mm=offset_mm, limits=checked.limits)
    )


def slides_on(checked: Checked) -> tuple[Finding, ...]:
    """Nothing of a guide lies below bone on its way out."""
    return tuple(
        finding
        for part, bone in _guides(checked)
        for finding in way_out_findings(part, bone.mesh, checked.plan.axis(insertion_name(bone)), checked.limits)
    )


def leads_the_drill(checked: Checked) -> tuple[Finding, ...]:
    """Each bore lies on its planned way and is as wide as set."""
    chosen = parameters_of(checked.order, PedicleGuideParameters)
    bore_mm = (checked.order.instruments.drill_mm or chosen.drill_mm) + chosen.drill_clearance_mm
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


def follows_the_plan(checked: Checked) -> tuple[Finding, ...]:
    """What was found out about the plan itself."""
    return checked.plan.findings


def _guides(checked: Checked) -> list[tuple[Part, Bone]]:
    parts = {part.name: part for part in checked.device.parts}
    return [(parts[f"guide-{bone.name}"], bone) for bone in checked.anatomy.bones]


CHECKS: tuple[Callable[[Checked], tuple[Finding, ...]], ...] = (sits_on_bone, slides_on, leads_the_drill, follows_the_plan)
