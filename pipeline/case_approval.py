"""A person releases the device of a case: signed with their key, told in the events, kept in ``review/`` for the gate."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchone.design.families import load_families
from batchone.pipeline import codec
from batchone.pipeline.approval import Confirmed, finding_words
from batchone.pipeline.case_answers import last_word, refuse_rejected
from batchone.pipeline.case_decisions import approval_counts, refuse_ended, settle
from batchone.pipeline.case_waivers import waivers_of
from batchone.pipeline.errors import CheckFailed, MachineError, OrderError, in_stage
from batchone.pipeline.events import CASES, EVENTS, append_event
from batchone.pipeline.findings import LEVEL_CONFIRMED
from batchone.pipeline.job.signature import (
    DEMONSTRATOR,
    KEYS,
    approval_key,
    sign_approval,
    verify_approval,
    verify_waivers,
    write_allowed_signers,
)
from batchone.pipeline.job.withdrawal import read_decisions
from batchone.pipeline.preview import refuse_unseen
from batchone.pipeline.stages import STAGES
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Approval, CheckedDevice, Waiver

MEANING = "I have reviewed this device against its findings and release it for manufacture"
GATE = next(stage for stage in STAGES if stage.kind == "gate")


def confirmed_points(family: str, ticked: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """The points (id, text) of a family's checklist, all of which a person confirmed.

    Parameters
    ----------
    ticked
        Ids of the points that were ticked one by one; None: all at once.

    Raises
    ------
    OrderError
        A point is not ticked, or there is no such point.
    """
    points = load_families()[family].limits.checklist
    if ticked is not None and (unknown := sorted(set(ticked) - set(points))):
        raise OrderError(f"the checklist of {family} has no point {', '.join(unknown)}", hint=f"it has {', '.join(points)}")
    if ticked is not None and (missing := [name for name in points if name not in ticked]):
        raise OrderError(
            f"{len(missing)} of the {len(points)} points of the checklist are not confirmed, must be 0: {', '.join(missing)}",
            hint="look at each, then confirm it: " + "; ".join(f"{name}: {points[name].text}" for name in missing),
        )
    return tuple((name, point.text) for name, point in points.items())


def approve(
    case: CaseFolder,
    digest: str,
    *,
    family: str,
    who: str,
    keys: Path,
    waivers: tuple[Waiver, ...] = (),
    demonstration: bool = False,
    passphrase: str | None = None,
    ticked: Sequence[str] | None = None,
) -> Approval:
    """Sign for the CheckedDevice of a digest and keep the approval; the caller holds the case's lock and has judged the findings.

    The event comes first: after a crash between the two there is an event too many, never an approval that no event tells of.

    Parameters
    ----------
    family
        Whose checklist is confirmed.
    who
        Name of the approver. What the demonstrator signs is a demonstration, whatever ``demonstration`` says.
    passphrase
        Of the approver's key, the second component of the signature (21 CFR 11.200); None: of the environment, or asked for.
    ticked
        The points of the checklist that were ticked one by one; None: all of them at once.

    Raises
    ------
    OrderError
        See :func:`confirmed_points`.
    MachineError
        See :func:`batchone.pipeline.job.signature.approval_key`.
    """
    checklist = confirmed_points(family, ticked)
    confirmed: Confirmed = "" if not checklist else "all at once" if ticked is None else "one by one"
    key = approval_key(keys, who, passphrase=passphrase)
    write_allowed_signers(keys)
    when = _moment(case)
    marked = demonstration or who == DEMONSTRATOR
    words = Approval(who, when, MEANING, digest, key.public_key, "", marked, waivers, checklist, confirmed)
    approval = sign_approval(words, key)
    append_event(case.path / EVENTS, who=who, what="approved", when=when.isoformat(), meaning=MEANING, digest=digest)

    def write(folder: Path) -> dict[str, Any]:
        value_digest = codec.save(approval, folder)
        return {"stage": GATE.name, "version": GATE.version, "taken": {"CheckedDevice": digest}, "value_digest": value_digest}

    case.publish(GATE.name, write)
    return approval


def _moment(case: CaseFolder) -> dt.datetime:
    """Now, in whole seconds; after the second of the last decision, so that no approval is the withdrawn one again."""
    last = max((one.time for one in read_decisions(case.path)), default=None)
    while (now := dt.datetime.now(dt.UTC).replace(microsecond=0)) == last:
        time.sleep(0.05)
    return now


def standing_approval(case: CaseFolder, digest: str, keys: Path, *, but_real: bool = False) -> Approval | None:
    """The approval that a case holds for the CheckedDevice of a digest; None when it holds none, or one that was withdrawn.

    What was returned or rejected after its approval, as earlier versions let it be, is not approved.

    ``but_real``: a demonstration's does not count, since a person is about to sign in earnest.

    Raises
    ------
    MachineError
        It does not verify, or its words are about another device than its record says.
    """
    record = case.record(GATE.name)
    if record is None or record["taken"] != {"CheckedDevice": digest} or not case.intact(GATE.name, record):
        return None
    if not approval_counts(case, record["value_digest"]) or last_word(case.path) is not None:
        return None
    approval: Approval = case.load(GATE.name)
    verify_approval(approval, keys)
    verify_waivers(approval, keys)
    if approval.digest != digest:
        raise MachineError("the approval is for another device", hint="remove the case's review folder and approve again")
    return None if but_real and approval.demonstration else approval


def sign_case(site: Path, case_id: str, *, who: str, device: str, passphrase: str, ticked: Sequence[str] | None) -> Approval:
    """Sign for the CheckedDevice of a digest, as the person has seen it, and go no further: whoever runs the case next does.

    ``ticked`` are the points of the family's checklist that the person ticked; None: all of them at once.

    Returns
    -------
    Approval
        The one that counts: an earlier one of the same device where there is one.

    Raises
    ------
    OrderError
        The demonstrator is to sign; the case was ended or rejected, or has no checked device, another one than was seen, or one
        that was made for another order; a person must still say which level is meant; or the checklist is not confirmed.
    CheckFailed
        A check failed and is not waived.
    MachineError
        See :func:`approve`.
    """
    if who == DEMONSTRATOR:
        raise OrderError(f"the approver is {DEMONSTRATOR}, who signs demonstrations alone", hint="approve under your own name")
    case, keys = CaseFolder(site / CASES / case_id), site / KEYS
    with case.locked(), in_stage(case_id, GATE.name):
        refuse_ended(case)
        refuse_rejected(case)
        settle(case)
        found = (case.record("check") or {}).get("value_digest", "none")
        if found != device:
            raise OrderError(
                f"the device that was seen is {device[:12]}, that of the case is {found[:12]}", hint="look at it again"
            )
        refuse_unseen(case)
        if _level_is_open(case):
            raise OrderError("a person must still say which level is meant", hint="batchone segment CASE --level VERTEBRA=LEVEL")
        if (earlier := standing_approval(case, device, keys, but_real=True)) is not None:
            return earlier
        checked: CheckedDevice = case.load("check")
        waivers = waivers_of(case, device, keys)
        if failed := checked.failed(waivers):
            raise CheckFailed(
                f"{len(failed)} checks failed, must be 0; first: {finding_words(failed[0])}",
                checked.findings,
                hint="return it with a reason, change a parameter, or waive what may be waived",
            )
        family = checked.device.family
        return approve(case, device, family=family, who=who, keys=keys, waivers=waivers, passphrase=passphrase, ticked=ticked)


def _level_is_open(case: CaseFolder) -> bool:
    findings = (case.record("segment") or {}).get("findings", {}).get("$tuple", ())
    return any(finding["check"] == LEVEL_CONFIRMED and finding["verdict"] == "fail" for finding in findings)
