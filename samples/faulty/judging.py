"""Judge a device by the checks that can see a fault, or by all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from batchone.design.checks.cavities import cavity_findings
from batchone.design.checks.coincident import coincident_findings
from batchone.design.checks.functional_faces import face_findings
from batchone.design.checks.mesh import mesh_findings
from batchone.design.checks.placement import placement_findings
from batchone.design.checks.walls import wall_findings
from batchone.design.cranial import checks as cranial
from batchone.design.family import Checked
from batchone.design.make import check
from batchone.design.model import checks as model
from batchone.design.osteotomy import checks as osteotomy
from batchone.design.pedicle import checks as pedicle
from batchone.pipeline.values import Finding
from batchone.samples.faulty.case import Fault, Seeded

_OWN: dict[str, tuple[Callable[[Checked], tuple[Finding, ...]], ...]] = {
    "pedicle-guide": pedicle.CHECKS,
    "osteotomy-guide": osteotomy.CHECKS,
    "cranial-implant": cranial.CHECKS,
    "anatomical-model": model.CHECKS,
}
_SEEN_BY = {
    "bore": ("leads_the_drill", "leads_the_pins"),
    "border gap": ("border_gap_found",),
    "clearance": ("sits_on_bone",),
    "contact": ("sits_on_bone",),
    "deviation": ("deviation_findings",),
    "insertion": ("slides_in",),
    "overlap": ("bone_kept_clear",),
    "scale": ("scale_findings",),
    "slot": ("leads_the_saw",),
    "thickness": ("thick_enough",),
    "way-out": ("slides_on",),
}


def findings_for(fault: Fault, case: Checked) -> tuple[Finding, ...]:
    """What the fault's own check says about the device."""
    part, limits = case.device.parts[0], case.limits
    if fault.check == "mesh":
        return mesh_findings(part)
    if fault.check == "cavities":
        return cavity_findings(part, case.process)
    if fault.check == "coincident":
        return coincident_findings(part)
    if fault.check == "faces":
        return face_findings(part)
    if fault.check == "walls":
        return wall_findings(part, case.process, limits.gates.get("wall_mm"))
    if fault.check in ("placement", "envelope"):
        return placement_findings(case.device, case.anatomy, case.plan, case.order, limits=limits, machine=case.machine)
    return tuple(
        finding for measure in _OWN[case.order.device] if measure.__name__ in _SEEN_BY[fault.check] for finding in measure(case)
    )


def all_findings(case: Checked) -> tuple[Finding, ...]:
    """What `batchone run` would say about the device."""
    return check(case.device, case.anatomy, case.plan, case.order, case.process, case.machine, case.tables).findings


def says(fault: Fault, found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings that are about the fault, the worst verdict first."""
    worst = {"fail": 0, "warn": 1, "pass": 2}
    mine = [finding for finding in found if finding.check == fault.check and fault.what in finding.what]
    return tuple(sorted(mine, key=lambda finding: worst[finding.verdict]))


def away_mm(seeded: Seeded, finding: Finding) -> float:
    """From a finding to what was changed, mm; 0 where the fault has no place, infinite where the finding has none."""
    if seeded.where_mm is None:
        return 0.0
    if finding.where_mm is None:
        return float("inf")
    return float(np.linalg.norm(np.atleast_2d(seeded.where_mm) - finding.where_mm, axis=1).min())
