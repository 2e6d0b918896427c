"""Where a case stands: its state, its job folder, which legs are over, and since when the present one runs."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchone.pipeline.clock.folder import ENDINGS, CaseFiles, read_tree
from batchone.pipeline.clock.legs import BEFORE_RELEASE, LEGS, PACKAGE, REVIEW, SLICE, WORKSHOP
from batchone.pipeline.clock.walk import Walked, walk
from batchone.pipeline.events import COMMENTED
from batchone.pipeline.findings import LEVEL_CONFIRMED

_TO_THE_ARCHIVE = "batchone return"  # who in the events of a job that was sent to the archive: the case is as it was
ENDED = frozenset({"rejected", *ENDINGS.values()})
"""States of cases that a person ended."""

_ANSWERS = ("returned", "rejected")
_FAILED = re.compile(r"[a-z]+ failed: (.*)", re.DOTALL)
_ANEW = {  # what is ahead again of a device that is not to be as it is, or whose level may be another
    "returned": "design",
    "rejected": "design",
    "check-failed": "design",
    "awaiting-level": "plan",
    "awaiting-approval": REVIEW,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a case stands.

    ``state`` is awaiting-order, received, in-progress, failed, check-failed, awaiting-approval, awaiting-level, returned,
    rejected, cancelled, handed-over or done. ``returned``: why the reviewer sent the device back, why a person ended the case, or
    why a stage failed.
    ``over`` maps each leg that is over to when it ended (None: not known); ``since`` is when the present one began; ``without``
    are legs that there are none of.
    """

    state: str
    job: Path | None
    returned: str | None
    over: Mapping[str, dt.datetime | None]
    since: dt.datetime | None
    walked: Walked
    without: frozenset[str] = frozenset()

    @property
    def leg(self) -> str | None:
        """The present leg; None after the last."""
        return next((leg.name for leg in LEGS if leg.name not in self.over and leg.name not in self.without), None)

    @property
    def reported(self) -> bool:
        """Whether the workshop has said anything of the job that is there now."""
        return any(leg in self.walked.ended for leg in WORKSHOP) or self.since != self.walked.ended.get(PACKAGE)


def standing(files: CaseFiles, now: dt.datetime, without: frozenset[str] = frozenset()) -> Standing:
    """Where a case stands at a time (UTC); ``without``: the legs that there are none of for it."""
    state, job, returned = _state(files)
    walked = walk(files, now, without)
    over: dict[str, dt.datetime | None] = {}
    for leg in BEFORE_RELEASE:
        if job is None and (leg == _ANEW.get(state) or not _current(leg, files.records)):
            break
        over[leg] = walked.ended.get(leg)
    if PACKAGE in over:
        over |= {leg: walked.ended[leg] for leg in WORKSHOP if leg in walked.ended}
        since = walked.since
    else:
        since = over[next(reversed(over))] if over else walked.received
    return Standing(state, job, returned, over, since, walked, without)


def _state(files: CaseFiles) -> tuple[str, Path | None, str | None]:
    """State, job folder, and the reason of a person's answer or of a failure."""
    records, job, last = files.records, _job(files), _last(files)
    answer, _, why = last.partition(": ")
    failed = _FAILED.fullmatch(last)
    if files.ended is not None:
        return files.ended[0], None, files.ended[1]
    if _fails(records.get("segment", {}), LEVEL_CONFIRMED):
        return "awaiting-level", None, None  # a job that is there was made before
    if job is not None:
        return "done", job, None
    if answer in _ANSWERS:
        return answer, None, why
    if "check" in records and _fails(records["check"]):
        return "check-failed", None, None
    if failed is not None:
        return "failed", None, failed[1]
    if not records:
        return "received" if (files.folder / "order.toml").is_file() else "awaiting-order", None, None
    if "check" not in records or _approved(records):
        return "in-progress", None, None
    return "awaiting-approval", None, None


def _approved(records: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the approval is for the device that is there now."""
    taken = records.get(REVIEW, {}).get("taken", {})
    return bool(taken) and taken.get("CheckedDevice") == records["check"].get("value_digest")


def _current(leg: str, records: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a stage's result is there; of the build, that of the device that is there now."""
    if leg != SLICE:
        return leg in records and leg != PACKAGE
    return records.get(SLICE, {}).get("taken", {}).get("CheckedDevice") == records["check"].get("value_digest")


def _job(files: CaseFiles) -> Path | None:
    """The job folder that was made of the device and the approval that are there now."""
    records = files.records
    if PACKAGE not in records or "check" not in records or not _approved(records):
        return None
    taken = records[PACKAGE].get("taken", {})
    there = {"CheckedDevice": records["check"].get("value_digest"), "Approval": records[REVIEW].get("value_digest")}
    value = read_tree(files.folder / "job" / "value.json")
    if value is None or any(taken.get(name) != digest for name, digest in there.items()):
        return None
    return files.folder / str(value["folder"])


def _fails(record: Mapping[str, Any], check: str | None = None) -> bool:
    """Whether a finding of a stage, or of one check in it, has failed."""
    findings = record.get("findings", {})
    items = findings.get("$tuple", []) if isinstance(findings, dict) else []
    known = (item for item in items if isinstance(item, dict))
    return any(item.get("verdict") == "fail" and check in (None, item.get("check")) for item in known)


def _last(files: CaseFiles) -> str:
    """The last thing that happened to the case itself."""
    happened = (one for one in reversed(files.events) if not one.what.startswith(f"{COMMENTED}: "))
    return next((one.what for one in happened if one.who != _TO_THE_ARCHIVE), "")
