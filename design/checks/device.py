"""The checks of a device as a whole, of every family: where it lies, how large it is, and whether it is what was ordered."""

from __future__ import annotations

from typing import Final

from batchone.design.checks.no_go import no_go_findings
from batchone.design.checks.ordered import ordered_findings
from batchone.design.checks.placement import placement_findings
from batchone.design.family import Checked, FamilyCheck
from batchone.pipeline.values import Finding


def _placed(case: Checked) -> tuple[Finding, ...]:
    return placement_findings(case.device, case.anatomy, case.plan, case.order, limits=case.limits, machine=case.machine)


DEVICE_CHECKS: Final[dict[str, FamilyCheck]] = {  # by the main name of their findings
    "placement": _placed,
    "ordered": ordered_findings,
    "no-go": no_go_findings,
}


def device_findings(case: Checked) -> tuple[Finding, ...]:
    """Measure and judge a device as a whole."""
    return tuple(finding for check in DEVICE_CHECKS.values() for finding in check(case))
