"""Pictures of what was found: the place of a check's worst finding, and where a guide rests when it is set down wrongly."""

from __future__ import annotations

import json

from batchone.pipeline.errors import InputError
from batchone.pipeline.findings import Finding, worst_first
from batchone.pipeline.serve.scene.content import Content
from batchone.pipeline.store import CaseFolder

_FINDING, _SEAT = "finding-", "seat-"


def closeup_name(finding: Finding) -> str:
    """What the picture of a finding's place is called; "" where there is nothing to look at, or no place."""
    return "" if finding.where_mm is None or finding.verdict == "pass" else f"{_FINDING}{finding.check.replace(' ', '-')}"


def seat_name(part: str) -> str:
    """What the map of wrong poses of a part is called that was checked for them."""
    return f"{_SEAT}{part}"


def seat_parts(case: CaseFolder, stage: str) -> frozenset[str]:
    """The parts of which the result of a stage has a map of wrong poses; none of a result of an earlier version."""
    try:
        tree = json.loads((case.path / stage / "value.json").read_bytes())
        return frozenset(str(one["part"]) for one in tree.get("seats", {}).get("$tuple", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # nothing is shown of a damaged one
        return frozenset()


def picture_bytes(case: CaseFolder, name: str) -> bytes:
    """A picture (PNG), drawn anew in about 0.3 s.

    Raises
    ------
    InputError
        The case has no such picture.
    """
    content = Content(case)
    made = _closeup(content, name) or _seat(content, name)
    if made is None:
        raise InputError(f"the case has no picture {name[:80]!r}", hint="the page of the case shows its pictures")
    return made


def _closeup(content: Content, name: str) -> bytes | None:
    from batchone.pipeline.job.closeups import closeups

    found = next((one for one in worst_first(content.of_check) if closeup_name(one) == name), None)
    if found is None or content.device is None:
        return None
    return next((one.png for one in closeups((found,), content.device)), None)


def _seat(content: Content, name: str) -> bytes | None:
    from batchone.pipeline.job.seats import seat_pictures

    return next((one.png for one in seat_pictures([one for one in content.seats if seat_name(one.part) == name])), None)
