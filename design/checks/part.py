"""The checks that every part of every family must pass, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from batchone.design.checks.cavities import cavity_findings
from batchone.design.checks.coincident import coincident_findings
from batchone.design.checks.mesh import mesh_findings
from batchone.design.checks.walls import wall_findings
from batchone.design.family import CheckSet
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

INTERACTIVE: Final = frozenset({"mesh", "coincident", "walls"})  # of the above; every other one runs for a release only


def part_findings(part: Part, process: Process, wall: Limit | None, *, only: CheckSet = "release") -> tuple[Finding, ...]:
    """Measure and judge one part; ``wall`` is the family's own limit of its walls."""
    chosen = [check for name, check in PART_CHECKS.items() if only == "release" or name in INTERACTIVE]
    return tuple(finding for check in chosen for finding in check(part, process, wall))
