"""A reviewer's answers that release nothing: a device is returned with a reason, or the case ends rejected.

One answer stands at a time. An approval is taken back by a decision alone, for a job may follow from it at any moment; a
rejected device is not approved; a returned one waits on for its reviewer, who may approve, return again or reject it.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final, Literal

from batchone.pipeline.case_decisions import approval_counts, keep_word, refuse_ended
from batchone.pipeline.clock.legs import REVISED
from batchone.pipeline.errors import OrderError, in_stage
from batchone.pipeline.events import EVENTS, Event, append_event, event_of
from batchone.pipeline.job.signature import KEYS, approval_key, write_allowed_signers
from batchone.pipeline.job.withdrawal import ANSWERS, read_answers, sign_decision
from batchone.pipeline.preview import refuse_preview
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Approval, Declined

Kind = Literal["return", "reject"]
SAID: Final[dict[Kind, str]] = {"return": "returned", "reject": "rejected"}
"""What an event begins with that tells of one."""

MEANINGS: Final[dict[Kind, str]] = {
    "return": "I have reviewed this device and send it back: it is not released",
    "reject": "I have reviewed this case and end it: no device is made of it",
}
"""What is signed; an event of an earlier version, which signed neither, has another meaning."""

_MOST_CHARACTERS = 400
_VOID = ("check done", "approved")  # after it nothing counts that was said before: of another device, or in place of a return


def return_case(case: CaseFolder, *, who: str, why: str, device: str | None = None, passphrase: str | None = None) -> None:
    """Record that a reviewer sent the device back; as :func:`reject_case`."""
    _answer(case, "return", who=who, why=why, device=device, passphrase=passphrase)


def reject_case(case: CaseFolder, *, who: str, why: str, device: str | None = None, passphrase: str | None = None) -> None:
    """Record that a reviewer ended the case: no device is made of it. The event comes first, then the signed answer.

    The same again after a crash completes it.

    Parameters
    ----------
    why
        The reason; 1 to 400 printable characters, line breaks become spaces.
    device
        Digest of the CheckedDevice that was seen; None: that of the case.
    passphrase
        Of the reviewer's key, the second component of the signature; None: of the environment, or asked for.

    Raises
    ------
    OrderError
        No reason; the case was ended or rejected, its device approved, another one than was seen, or shown with a preview alone.
    MachineError
        See :func:`batchone.pipeline.job.signature.approval_key`; another process works on the case; the disk refuses.
    """
    _answer(case, "reject", who=who, why=why, device=device, passphrase=passphrase)


def _answer(case: CaseFolder, kind: Kind, *, who: str, why: str, device: str | None, passphrase: str | None) -> None:
    reason, keys = " ".join(why.split()), case.path.parent.parent / KEYS
    with case.locked(), in_stage(case.path.name, "review"):
        if not 0 < len(reason) <= _MOST_CHARACTERS or not reason.isprintable():
            raise OrderError(
                f"the reason has {len(reason)} characters, must be 1 to {_MOST_CHARACTERS}, all printable",
                hint="say in plain words what is wrong with the device",
            )
        refuse_ended(case)
        found = str((case.record("check") or {}).get("value_digest", ""))
        answers, event = read_answers(case.path), last_word(case.path)
        half = _half_said(event, answers, who, f"{SAID[kind]}: {reason}", MEANINGS[kind], found)
        if half is None:
            refuse_rejected(case)
        if device is not None and device != found:
            raise OrderError(
                f"the device that was seen is {device[:12]}, that of the case is {found[:12] or 'none'}", hint="look at it again"
            )
        _refuse_approved(case, found)
        refuse_preview(case)
        key = approval_key(keys, who, passphrase=passphrase)
        write_allowed_signers(keys)
        when = half or dt.datetime.now(dt.UTC)
        signed = sign_decision(Declined(kind, case.path.name, who, when, MEANINGS[kind], reason, found), key)
        if half is None:
            said, told = f"{SAID[kind]}: {reason}", when.isoformat()
            append_event(case.path / EVENTS, who=who, what=said, when=told, meaning=signed.meaning, digest=found)
        keep_word(case, ANSWERS, len(answers) + 1, signed)


def _half_said(
    event: Event | None, answers: tuple[Declined, ...], who: str, what: str, meaning: str, device: str
) -> dt.datetime | None:
    """When the same was told by a process that died before it kept the signed answer; None where none did."""
    if event is None or (event.who, event.what, event.meaning, event.digest) != (who, what, meaning, device):
        return None
    if any((one.name, one.time.isoformat()) == (event.who, event.when) for one in answers):
        return None
    return dt.datetime.fromisoformat(event.when)


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
