"""A reviewer's answers that release nothing: a device is returned with a reason, or the case ends rejected.

One answer stands at a time. An approval is taken back by a decision alone, for a job may follow from it at any moment; a
rejected device is not approved; a returned one waits on for its reviewer, who may approve, return again or reject it.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final, Literal

from batchone.pipeline.case_decisions import approval_counts, refuse_ended
from batchone.pipeline.clock.legs import REVISED
from batchone.pipeline.errors import OrderError, in_stage
from batchone.pipeline.events import EVENTS, Event, append_event, event_of
from batchone.pipeline.preview import refuse_preview
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Approval

Kind = Literal["return", "reject"]
SAID: Final[dict[Kind, str]] = {"return": "returned", "reject": "rejected"}
"""What an event begins with that tells of one."""

_VOID = ("check done", "approved")  # after it nothing counts that was said before: of another device, or in place of a return


def return_case(case: CaseFolder, *, who: str, why: str, device: str | None = None) -> None:
    """Record that a reviewer sent the device back; as :func:`reject_case`."""
    _answer(case, "return", who=who, why=why, device=device)


def reject_case(case: CaseFolder, *, who: str, why: str, device: str | None = None) -> None:
    """Record that a reviewer ended the case: no device is made of it.

    Parameters
    ----------
    device
        Digest of the CheckedDevice that was seen; None: that of the case.

    Raises
    ------
    OrderError
        The case was ended or rejected, its device approved, another one than was seen, or shown with a preview alone.
    MachineError
        Another process works on the case; the disk refuses.
    """
    _answer(case, "reject", who=who, why=why, device=device)


def _answer(case: CaseFolder, kind: Kind, *, who: str, why: str, device: str | None) -> None:
    with case.locked(), in_stage(case.path.name, "review"):
        refuse_ended(case)
        refuse_rejected(case)
        found = str((case.record("check") or {}).get("value_digest", ""))
        if device is not None and device != found:
            raise OrderError(
                f"the device that was seen is {device[:12]}, that of the case is {found[:12] or 'none'}", hint="look at it again"
            )
        _refuse_approved(case, found)
        refuse_preview(case)
        meaning = "not released" if kind == "return" else "not released, ended"
        now = dt.datetime.now(dt.UTC).isoformat()
        append_event(case.path / EVENTS, who=who, what=f"{SAID[kind]}: {why}", when=now, meaning=meaning)


def last_word(case: Path) -> Event | None:
    """The event of the return or the rejection that stands: the last one, where no approval and no other device came after."""
    try:
        lines = (case / EVENTS).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        event = event_of(line)
        if event is None:
            continue  # a torn line: cut by the next writer
        if event.what in _VOID or event.what.startswith(f"{REVISED}: "):
            return None
        if kind_of(event) is not None:
            return event
    return None


def kind_of(event: Event) -> Kind | None:
    """Which of these answers an event tells of; None: of something else."""
    return next((kind for kind, said in SAID.items() if event.what.startswith(f"{said}: ")), None)


def refuse_rejected(case: CaseFolder) -> None:
    """Let no answer follow a rejection; the caller holds the case's lock.

    Raises
    ------
    OrderError
        The case was rejected.
    """
    event = last_word(case.path)
    if event is not None and kind_of(event) == "reject":
        raise OrderError(
            f"case {case.path.name} was rejected by {event.who}: {event.what.partition(': ')[2]}",
            hint="a new order makes a new case; or change this one with `batchone design CASE --set`, and review what it gives",
        )


def _refuse_approved(case: CaseFolder, device: str) -> None:
    """Let an approval of the device stand until a decision takes it back: its job may be on the way, or in the workshop."""
    record = case.record("review")
    if record is None or record.get("taken") != {"CheckedDevice": device} or not approval_counts(case, record["value_digest"]):
        return
    if last_word(case.path) is not None:
        return  # of an earlier version, which let it be returned: it counts no more
    approval: Approval = case.load("review")
    raise OrderError(
        f"the device was approved by {approval.name} on {approval.time:%Y-%m-%d %H:%M} UTC",
        hint="take that back: `batchone revise CASE --reason WHY --as NAME` opens the case for changes, `batchone cancel CASE "
        "--reason WHY --as NAME` ends it; no job is made of it then, and one that was made is withdrawn",
    )
