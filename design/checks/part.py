"""The checks that every part of every family must pass, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from batchone.design.checks.cavities import cavity_findings
from batchone.design.checks.coincident import coincident_findings
from batchone.design.checks.mesh import mesh_findings
from batchone.design.checks.walls import wall_findings
from batchone.pipeline.limits import Limit
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, Part

PartCheck = Callable[[Part, Process, Limit | None], tuple[Finding, ...]]

PART_CHECKS: Final[dict[str, PartCheck]] = {  # by the name that their findings bear
    "mesh": lambda part, process, wall: mesh_findings(part),
    "coincident": lambda part, process, wall: coincident_findings(part),
    "cavities": lambda part, process, wall: cavity_findings(part, process),
    "walls": wall_findings,
}


def part_findings(part: Part, process: Process, wall: Limit | None) -> tuple[Finding, ...]:
    """Measure and judge one part; ``wall`` is the family's own limit of its walls."""
    return tuple(finding for check in PART_CHECKS.values() for finding in check(part, process, wall))
