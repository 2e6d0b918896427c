"""The checks that every part of every family must pass, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from batchone.design.checks.cavities import cavity_findings
from batchone.design.checks.channels import channel_findings
from batchone.design.checks.coincident import coincident_findings
from batchone.design.checks.functional_faces import face_findings
from batchone.design.checks.gaps import gap_findings
from batchone.design.checks.handles import handle_findings
from batchone.design.checks.mesh import mesh_findings
from batchone.design.checks.openings import opening_findings
from batchone.design.checks.pins import pin_findings
from batchone.design.checks.rooms import room_findings
from batchone.design.checks.sharp import sharp_findings
from batchone.design.checks.walls import wall_findings
from batchone.design.checks.wedges import wedge_findings
from batchone.design.family import CheckSet
from batchone.pipeline.limits import Limit
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, Part

PartCheck = Callable[[Part, Process, Limit | None], tuple[Finding, ...]]

PART_CHECKS: Final[dict[str, PartCheck]] = {  # by the name that their findings bear
    "mesh": lambda part, process, wall: mesh_findings(part),
    "handles": lambda part, process, wall: handle_findings(part),
    "coincident": lambda part, process, wall: coincident_findings(part),
    "cavities": lambda part, process, wall: cavity_findings(part, process),
    "walls": wall_findings,
    "pins": lambda part, process, wall: () if as_the_bone_is(wall) else pin_findings(part, process),
    "gaps": lambda part, process, wall: () if as_the_bone_is(wall) else gap_findings(part, process),
    "openings": lambda part, process, wall: opening_findings(part, process),
    "channels": lambda part, process, wall: () if as_the_bone_is(wall) else channel_findings(part, process),
    "sharp": lambda part, process, wall: () if as_the_bone_is(wall) else sharp_findings(part),
    "wedges": lambda part, process, wall: wedge_findings(part, process),
    "rooms": lambda part, process, wall: () if as_the_bone_is(wall) else room_findings(part, process),
    "faces": lambda part, process, wall: face_findings(part),
}

# every other one runs for a release only
INTERACTIVE: Final = frozenset({"mesh", "coincident", "walls", "gaps", "faces"})


def as_the_bone_is(wall: Limit | None) -> bool:
    """Is a part a model whose walls, gaps, channels and edges are the bone's own?"""
    return wall is not None and not wall.gate


def part_findings(part: Part, process: Process, wall: Limit | None, *, only: CheckSet = "release") -> tuple[Finding, ...]:
    """Measure and judge one part; ``wall`` is the family's own limit of its walls."""
    chosen = [check for name, check in PART_CHECKS.items() if only == "release" or name in INTERACTIVE]
    return tuple(finding for check in chosen for finding in check(part, process, wall))


def is_sound(part: Part, process: Process, wall: Limit | None) -> bool:
    """Whether a part fails no check of a release."""
    return all(finding.verdict != "fail" for finding in part_findings(part, process, wall))
