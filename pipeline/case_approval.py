"""A person releases the device of a case: signed with their key, told in the events, kept in ``review/`` for the gate."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from batchone.pipeline import codec
from batchone.pipeline.approval import finding_words
from batchone.pipeline.case_waivers import waivers_of
from batchone.pipeline.errors import CheckFailed, OrderError, in_stage
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.findings import LEVEL_CONFIRMED
from batchone.pipeline.job.signature import DEMONSTRATOR, KEYS, approval_key, sign_approval, write_allowed_signers
from batchone.pipeline.stages import STAGES
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Approval, CheckedDevice, Waiver

MEANING = "I have reviewed this device against its findings and release it for manufacture"
GATE = next(stage for stage in STAGES if stage.kind == "gate")


def approve(
    case: CaseFolder,
    digest: str,
    *,
    who: str,
    keys: Path,
    waivers: tuple[Waiver, ...] = (),
    demonstration: bool = False,
    passphrase: str | None = None,
) -> Approval:
    """Sign for the CheckedDevice of a digest and keep the approval; the caller holds the case's lock and has judged the findings.

    The event comes first: after a crash between the two there is an event too many, never an approval that no event tells of.

    Parameters
    ----------
    who
        Name of the approver. What the demonstrator signs is a demonstration, whatever ``demonstration`` says.
    passphrase
        Of the approver's key, the second component of the signature (21 CFR 11.200); None: of the environment, or asked for.

    Raises
    ------
    MachineError
        See :func:`batchone.pipeline.job.signature.approval_key`.
    """
    key = approval_key(keys, who, passphrase=passphrase)
    write_allowed_signers(keys)
    time = dt.datetime.now(dt.UTC).replace(microsecond=0)
    marked = demonstration or who == DEMONSTRATOR
    approval = sign_approval(Approval(who, time, MEANING, digest, key.public_key, demonstration=marked, waivers=waivers), key)
    append_event(case.path / EVENTS, who=who, what="approved", when=time.isoformat(), meaning=MEANING, digest=digest)

    def write(folder: Path) -> dict[str, Any]:
        value_digest = codec.save(approval, folder)
        return {"stage": GATE.name, "version": GATE.version, "taken": {"CheckedDevice": digest}, "value_digest": value_digest}

    case.publish(GATE.name, write)
    return approval


def approve_case(site: Path, case_id: str, *, who: str, passphrase: str) -> Approval:
    """Sign for the device that a case holds now, without slicing: whoever runs the case next goes on from there.

    Raises
    ------
    OrderError
        The case has no checked device, or a person must still say which level is meant.
    CheckFailed
        A check failed and is not waived.
    MachineError
        See :func:`approve`.
    """
    case = CaseFolder(site / "cases" / case_id)
    with case.locked(), in_stage(case_id, GATE.name):
        record = case.record("check")
        if record is None:
            raise OrderError("the case has no checked device yet", hint="run it first")
        if _level_is_open(case):
            raise OrderError("a person must still say which level is meant", hint="batchone segment CASE --level VERTEBRA=LEVEL")
        checked: CheckedDevice = case.load("check")
        digest = str(record["value_digest"])
        waivers = waivers_of(case, digest, site / KEYS)
        if failed := checked.failed(waivers):
            raise CheckFailed(
                f"{len(failed)} checks failed, must be 0; first: {finding_words(failed[0])}",
                checked.findings,
                hint="return it with a reason, change a parameter, or waive what may be waived",
            )
        return approve(case, digest, who=who, keys=site / KEYS, waivers=waivers, passphrase=passphrase)


def _level_is_open(case: CaseFolder) -> bool:
    findings = (case.record("segment") or {}).get("findings", {}).get("$tuple", ())
    return any(finding["check"] == LEVEL_CONFIRMED and finding["verdict"] == "fail" for finding in findings)
