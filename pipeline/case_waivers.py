"""Waivers of a case: a person's signed word that a failed finding may stand, kept beside the stages in ``waivers/``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from batchone.design.family import FamilyLimits
from batchone.pipeline import codec
from batchone.pipeline.approval import finding_words
from batchone.pipeline.errors import CheckFailed, MachineError, OrderError
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.job.signature import approval_key, sign_waiver, verify_waiver, write_allowed_signers
from batchone.pipeline.preview import refuse_preview
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import CheckedDevice, Finding, Waiver

MEANING = "I have seen this finding and let the device stand with it, for the reason that I give"
FOLDER = "waivers"


def waivers_of(case: CaseFolder, digest: str, keys: Path) -> tuple[Waiver, ...]:
    """The waivers of a case that count for the CheckedDevice of a digest: for it, and signed by whom they name."""
    record = case.record(FOLDER)
    if record is None or not case.intact(FOLDER, record):
        return ()
    found = []
    for waiver in case.load(FOLDER):
        if waiver.digest == digest:
            try:
                verify_waiver(waiver, keys)
            except MachineError:
                continue  # a signature that does not hold waives nothing
            found.append(waiver)
    return tuple(found)


def waive(
    case: CaseFolder,
    check: str,
    *,
    who: str,
    reason: str,
    keys: Path,
    limits: FamilyLimits,
    people: Mapping[str, tuple[str, ...]],
    passphrase: str | None = None,
    device: str | None = None,
) -> None:
    """Sign away what failed in one check of the case's device, and tell its events; the caller holds the case's lock.

    ``people``: roles by name; where the site names any, it takes one of the roles that the family's limit names.
    ``passphrase``: of that person's key; None: of the environment, or asked for. ``device``: digest of the CheckedDevice that
    the person has seen; None: that of the case.

    Raises
    ------
    CheckFailed
        The family does not let anybody waive that check.
    OrderError
        The case has no checked device, another one than was seen, or a newer one with its interactive checks alone; nothing in
        that check failed, no reason was given, or it is not for this person.
    """
    refuse_preview(case)
    record = case.record("check")
    if record is None:
        raise OrderError("the case has no checked device yet", hint="run it first")
    if not reason.strip():
        raise OrderError("a waiver needs a reason", hint="add --reason TEXT; it stands in the report")
    checked: CheckedDevice = case.load("check")
    digest = record["value_digest"]
    if device not in (None, digest):
        seen = (device or "")[:12] or "not told"
        raise OrderError(f"the device that was seen is {seen}, that of the case is {digest[:12]}", hint="look at it again")
    before = waivers_of(case, digest, keys)
    failed = [finding for finding in checked.failed(before) if finding.check == check]
    if not failed:
        others = ", ".join(sorted({f.check for f in checked.failed(before)})) or "none"
        raise OrderError(f"no finding of the check {check!r} failed; failed and not waived: {others}", hint="name one of them")
    fixed = [finding for finding in failed if not finding.waivable]
    if fixed:
        raise CheckFailed(
            f"{check} may not be waived: {finding_words(fixed[0])}",
            checked.findings,
            hint=fixed[0].hint or "change a parameter with `batchone design CASE --set`, or the order",
        )
    for finding in failed if people else ():
        roles = _waivable_by(finding, limits)
        if not set(roles) & set(people.get(who, ())):
            raise OrderError(
                f"{who} may not waive {check}: it takes {' or '.join(roles) or 'a role that no limit names'}, {who} is "
                f"{', '.join(people.get(who, ())) or 'not among the people of the site'}",
                hint="ask one who is, or correct [people] of site.toml",
            )
    key = approval_key(keys, who, passphrase=passphrase)
    write_allowed_signers(keys)
    time = dt.datetime.now(dt.UTC).replace(microsecond=0)
    signed = tuple(
        sign_waiver(Waiver(who, time, MEANING, reason.strip(), finding_words(finding), digest, ""), key) for finding in failed
    )
    for waiver in signed:  # first: after a crash there is an event too many, never a waiver that no event tells of
        what, when = f"waived: {waiver.finding}; reason: {waiver.reason}", waiver.time.isoformat()
        append_event(case.path / EVENTS, who=who, what=what, when=when, meaning=waiver.meaning, digest=waiver.digest)
    _publish(case, (*before, *signed), digest)


def _waivable_by(finding: Finding, limits: FamilyLimits) -> tuple[str, ...]:
    """The roles that the limit of a finding names."""
    judged_by = (finding.low, finding.high, finding.unit, finding.source)
    found = [
        limit.waivable_by
        for limit in (*limits.envelope.values(), *limits.gates.values())
        if limit.waivable and (limit.low, limit.high, limit.unit, limit.source) == judged_by
    ]
    return tuple(role for role in found[0] if all(role in roles for roles in found)) if found else ()


def _publish(case: CaseFolder, waivers: tuple[Waiver, ...], digest: str) -> None:
    def write(folder: Path) -> dict[str, object]:
        value_digest = codec.save(waivers, folder)
        return {"stage": FOLDER, "version": 1, "taken": {"CheckedDevice": digest}, "value_digest": value_digest}

    case.publish(FOLDER, write)
