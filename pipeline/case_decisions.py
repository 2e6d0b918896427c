"""A person ends a case, or opens an approved one for changes: signed with their key, told in the events, kept in ``decisions/``.

A decision counts from the moment at which its file appears; what follows from it is done by whoever holds the case next. So the
same command again after a crash completes the first one.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

from batchone.pipeline import codec
from batchone.pipeline.clock.folder import ENDINGS
from batchone.pipeline.disk import disk, flush_folder
from batchone.pipeline.errors import OrderError, UnknownCaseError, in_stage
from batchone.pipeline.events import CASES, EVENTS, append_event, read_chain
from batchone.pipeline.job.signature import KEYS, SiteKey, approval_key, write_allowed_signers
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.job.withdrawal import DECISIONS, PAST, publish_withdrawn, read_decisions, sign_decision, withdrawn_by
from batchone.pipeline.revisions import put_away
from batchone.pipeline.store import CaseFolder, sha256_file, write_atomic
from batchone.pipeline.values import Approval, Decision, Declined

What = Literal["cancel", "revise", "hand-over"]
MEANINGS: dict[What, str] = {
    "cancel": "I end this case: nothing is made for it any more, and what was released counts no more",
    "hand-over": "I hand this case over to another site: nothing is made for it here, and what was released counts no more",
    "revise": "I withdraw the approval of this device and what was released by it: the case is open for changes",
}
_MOST_CHARACTERS = 400
_WAIT_S = 30.0  # project default: a decision waits for the stages at hand, which take about 20 s at most


def decide(
    site: Path, case_id: str, what: What, *, who: str, reason: str, to: str = "", passphrase: str | None = None
) -> tuple[Decision, bool]:
    """Sign a decision on a case, and do what follows from it: jobs are withdrawn, a revised case waits for its review again.

    The event comes first, then the decision, then its consequences, then the site's list of withdrawn jobs.

    Parameters
    ----------
    who
        Who decides.
    to
        Of a hand-over: the fingerprint of the other site's release key.
    passphrase
        Of that person's key, the second component of the signature; None: of the environment, or asked for.

    Returns
    -------
    tuple of Decision and bool
        The decision that counts, and whether it is new: said twice, also by another person, it stands once.

    Raises
    ------
    InputError
        No such case, no reason, an ended case, or nothing to be revised.
    MachineError
        See :func:`batchone.pipeline.job.signature.approval_key`; another process works on the case; the disk refuses.
    """
    if len(reason) > _MOST_CHARACTERS or not reason.strip() or not reason.isprintable():
        raise OrderError(
            f"the reason has {len(reason)} characters, must be 1 to {_MOST_CHARACTERS}, all printable",
            hint="write one line of plain words; it stands in the events",
        )
    case = known_case(site, case_id)
    with case.locked(wait_s=_WAIT_S), in_stage(case_id, what):
        settle(case)
        decisions = read_decisions(case.path)
        found = _standing(case, decisions, what, to)
        if found is None:
            refuse_ended(case)
            draft = _draft(case, decisions, what, who=who, reason=reason.strip(), to=to)
            found = _signed(case, draft, len(decisions) + 1, approval_key(site / KEYS, who, passphrase=passphrase), site / KEYS)
            new = True
        else:
            new = False
        settle(case)
        publish_withdrawn(site, withdrawn_by(read_decisions(case.path)))
    return found, new


def known_case(site: Path, case_id: str) -> CaseFolder:
    """The case of an id.

    Raises
    ------
    UnknownCaseError
        The site does not know it.
    """
    folder = site / CASES / case_id
    if case_id in ("", ".", "..") or Path(case_id).name != case_id or not folder.is_dir():
        raise UnknownCaseError(f"case {case_id} is not known at this site", hint="check the id and --site")
    return CaseFolder(folder)


def refuse_ended(case: CaseFolder) -> None:
    """Let nothing more be done to a case that a person ended.

    Raises
    ------
    OrderError
        It was ended.
    """
    for one in read_decisions(case.path):
        if one.what in ENDINGS:
            raise OrderError(
                f"case {case.path.name} was {PAST[one.what]} by {one.name}: {one.reason}", hint="a new order makes a new case"
            )


def approval_counts(case: CaseFolder, approval: str) -> bool:
    """Whether no decision withdrew the Approval of a digest."""
    return approval not in {one.approval for one in read_decisions(case.path)}


def order_approval(case: CaseFolder) -> Approval | None:
    """The approval by which the order of a case stands; None where no decision has left one that is no demonstration."""
    record = case.record("review")
    if record is None or not approval_counts(case, record["value_digest"]):
        return None
    approval: Approval = case.load("review")
    return None if approval.demonstration else approval


def refuse_approved(case: CaseFolder) -> None:
    """Let the order of a case stay what a person approved: a job of it may be in the workshop.

    Raises
    ------
    OrderError
        An approval stands that is no demonstration.
    """
    approval = order_approval(case)
    if approval is not None:
        raise OrderError(
            f"case {case.path.name} was approved by {approval.name} on {approval.time:%Y-%m-%d %H:%M} UTC, its order stands",
            hint="batchone revise CASE --reason WHY --as NAME withdraws approval and job, and opens it for changes",
        )


def publish_decided(site: Path) -> None:
    """See that the list of withdrawn jobs names all that decisions withdrew: one may have died in between."""
    jobs = tuple(
        job for folder in sorted((site / CASES).glob(f"*/{DECISIONS}")) for job in withdrawn_by(read_decisions(folder.parent))
    )
    if jobs:
        publish_withdrawn(site, jobs)


def settle(case: CaseFolder) -> None:
    """Do what follows from the decisions of a case, where a crash left it undone; the caller holds the case's lock.

    Of a revised device approval, waivers and job go into its folder under ``revisions/``, the approval last.
    """
    record = case.record("review")
    if record is not None and any(
        one.what == "revise" and one.approval == record["value_digest"] for one in read_decisions(case.path)
    ):
        put_away(case, str(record["taken"]["CheckedDevice"]), ("waivers", "job", "review"))


def _standing(case: CaseFolder, decisions: tuple[Decision, ...], what: What, to: str) -> Decision | None:
    """The decision that was made already: the last one, where nobody has approved since."""
    last = decisions[-1] if decisions else None
    if last is None or (last.what, last.to) != (what, to) or (what == "revise" and case.record("review") is not None):
        return None
    return last


def _draft(case: CaseFolder, decisions: tuple[Decision, ...], what: What, *, who: str, reason: str, to: str) -> Decision:
    """The decision before it is signed; of the time at which its event was told by a process that died, where one did."""
    review, check = case.record("review"), case.record("check")
    if what == "revise" and review is None:
        raise OrderError(
            "no device of the case is approved: it is open for changes", hint="batchone design CASE --set NAME=VALUE"
        )
    known = {job for one in decisions for job, _ in one.jobs}
    jobs = tuple((job, sums) for job, sums in _jobs(case) if job not in known)
    device = "" if check is None else str(check["value_digest"])
    approval = "" if review is None else str(review["value_digest"])
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    draft = Decision(what, case.path.name, who, now, MEANINGS[what], reason, device, approval, jobs, to)
    signed = {(one.name, one.time.isoformat()) for one in decisions}
    for event in read_chain(case.path / EVENTS).events:
        if (event.who, event.what, event.digest) == (who, _said(draft), device) and (event.who, event.when) not in signed:
            return replace(draft, time=dt.datetime.fromisoformat(event.when))
    return draft


def _said(decision: Decision) -> str:
    """What the events say of a decision."""
    return f"{PAST[decision.what]}: {decision.reason}"


def _signed(case: CaseFolder, draft: Decision, number: int, key: SiteKey, keys: Path) -> Decision:
    write_allowed_signers(keys)
    decision = sign_decision(draft, key)
    when, said = decision.time.isoformat(), _said(decision)
    told = any((one.who, one.what, one.when) == (decision.name, said, when) for one in read_chain(case.path / EVENTS).events)
    if not told:
        append_event(
            case.path / EVENTS, who=decision.name, what=said, when=when, meaning=decision.meaning, digest=decision.digest
        )
    keep_word(case, DECISIONS, number, decision)
    return decision


def _jobs(case: CaseFolder) -> list[tuple[str, str]]:
    """The job folders of a case, those of replaced approvals too: id, and SHA-256 of the SHA256SUMS."""
    return [(path.parent.name, sha256_file(path)) for path in sorted((case.path / "job").glob(f"[!.]*/{SUMS}"))]


def keep_word(case: CaseFolder, folder: str, number: int, word: Decision | Declined) -> None:
    """Let the file of a person's signed word appear whole: renamed from the case's own folder, so that readers see a change."""
    data = json.dumps(codec.flatten(word)[0], indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    part, place = case.path / f".{folder}.part", case.path / folder / f"{number:04d}.json"
    with disk():
        place.parent.mkdir(exist_ok=True)
        write_atomic(part, data)
        part.rename(place)
        flush_folder(place.parent)
        flush_folder(case.path)
