"""What the workshop says of a released job, step by step, and that it is to be made once more: events that the clock reads."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

from batchone.factory.inbox import PRINTS, Inbox
from batchone.pipeline.case_decisions import known_case
from batchone.pipeline.clock.folder import CaseFiles, read_case, read_tree
from batchone.pipeline.clock.legs import BY_ITS_CELL, DELIVERED, ENDS, LEG, PACKAGE, PRINT_FAILED, QUEUE, REMAKE, WORKSHOP
from batchone.pipeline.clock.state import Standing, standing
from batchone.pipeline.errors import OrderError, in_stage
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.job.signature import DEMONSTRATOR
from batchone.pipeline.store import CaseFolder

STEPS = {ends.replace(" ", "-"): ends for ends in (*(LEG[name].ends for name in WORKSHOP), PRINT_FAILED)}
"""What a cell may say, and the event that it becomes."""

_MOST_CHARACTERS = 400


def record_step(
    site: Path, case_id: str, step: str, *, who: str, job: str = "", machine: str = "", lot: str = "", reason: str = ""
) -> bool:
    """Record a step of the workshop in the events of a case, with the digest of the job that it was done to.

    Parameters
    ----------
    step
        One of :data:`STEPS`. Steps may be left out, but none comes after a later one.
    who
        Who did it, or the account of the cell.
    job
        Id of the job that is in hand; another one than the released one is refused. Empty: whichever is released.
    machine, lot
        The machine, and the lot of the material or of the sterilisation.
    reason
        Why a print failed.

    Returns
    -------
    bool
        False when it had been recorded before: said twice, it stands once.

    Raises
    ------
    InputError
        No such case or step, no released job or another one, or a step that cannot be now.
    """
    what = STEPS.get(step)
    if what is None:
        raise OrderError(f"step is {step!r}; steps are {', '.join(STEPS)}", hint="see `batchone workshop --help`")
    _refuse_strange(who=who, machine=machine, lot=lot, reason=reason)
    if what == PRINT_FAILED and not reason.strip():
        raise OrderError("a failed print needs a reason", hint="say what happened to it")
    case = known_case(site, case_id)
    with case.locked(), in_stage(case_id, "workshop"):
        files, stands = _released(case, job)
        said = list(_said(files))
        if what in said[:1] or (what in said and what != PRINT_FAILED):
            return False
        _refuse_now(what, stands)
        told = {"machine": machine, "lot": lot, "reason": reason}
        meaning = "; ".join(f"{name}: {text.strip()}" for name, text in told.items() if text.strip())
        _tell(case, who, what, meaning)
    return True


def remake(site: Path, case_id: str, *, who: str, reason: str, job: str = "", by_cell: bool = False) -> bool:
    """Say that the released job is to be made once more, as it is: it queues again.

    The job folder stays the same to the byte, and so does its approval; a changed device is a new approval.

    Parameters
    ----------
    job
        Id of the one in hand: another one than the released one is refused. Empty: whichever is released.
    by_cell
        A cell says so of its own attempt, in its ledger itself; what a person says offers the job to cells once more.

    Returns
    -------
    bool
        False when the same one said the same of it last: said twice, it stands once.

    Raises
    ------
    InputError
        No such case, no released job, no reason, or a job that waits for its print already.
    """
    _refuse_strange(who=who, reason=reason)
    if not reason.strip():
        raise OrderError("a remake needs a reason", hint="say what is wrong with the part; it stands in the events")
    case = known_case(site, case_id)
    with case.locked(), in_stage(case_id, "workshop"):
        files, stands = _released(case, job)
        said = f"{REMAKE}: {reason.strip()}"
        if files.events and (files.events[-1].who, files.events[-1].what) == (who, said):
            if not by_cell:
                _offer_again(site, stands, files.events[-1].when)
            return False
        if QUEUE not in stands.walked.ended:
            raise OrderError("the job waits for its print already: nothing was made of it since", hint="print it")
        when = _tell(case, who, said, BY_ITS_CELL if by_cell else "to be made once more from the same job folder")
        if not by_cell:
            _offer_again(site, stands, when)
    return True


def _offer_again(site: Path, stands: Standing, said: dt.datetime | None) -> None:
    """At once; after a crash before it the server does so, by the event."""
    if said is not None and stands.job is not None and (site / PRINTS).is_dir():
        Inbox(site / PRINTS).again(stands.job.name, said)


def _refuse_strange(**texts: str) -> None:
    """What is said becomes a line of the events: one line of printable text, said by somebody."""
    for name, text in texts.items():
        if len(text) > _MOST_CHARACTERS or (text and not text.isprintable()):
            raise OrderError(
                f"{name} has {len(text)} characters, at most {_MOST_CHARACTERS}, all printable",
                hint="write one line of plain words",
            )
    if not texts["who"].strip() or texts["who"] == DEMONSTRATOR:
        raise OrderError(f"who says it is {texts['who']!r}, must be a person or a cell", hint="give a name")


def _released(case: CaseFolder, job: str) -> tuple[CaseFiles, Standing]:
    """The case as it stands, with the released job that is meant."""
    files = read_case(case.path)
    stands = standing(files, dt.datetime.now(dt.UTC))
    if stands.job is None:
        raise OrderError(f"the case is {stands.state}, it has no released job", hint="see `batchone status`")
    if job not in ("", stands.job.name):
        raise OrderError(
            f"the released job is {stands.job.name}, not {job}: that one is of another device or approval",
            hint="take the part of the other job out of the workshop",
        )
    return files, stands


def _said(files: CaseFiles) -> Iterator[str]:
    """What the workshop said since the job came, or was to be made again; the last first."""
    for event in reversed(files.events):
        if ENDS.get(event.what) in WORKSHOP or event.what == PRINT_FAILED:
            yield event.what
        if event.what in (PRINT_FAILED, LEG[PACKAGE].ends) or event.what.startswith(f"{REMAKE}: "):
            return


def _refuse_now(what: str, stands: Standing) -> None:
    ended = stands.walked.ended
    if ENDS[DELIVERED] in ended:
        raise OrderError("the part was delivered", hint="a remake begins anew: batchone remake CASE --reason WHY --as NAME")
    if what == PRINT_FAILED and QUEUE not in ended:
        raise OrderError("no print is under way that could fail", hint="say print-started first")
    if what != PRINT_FAILED and ENDS[what] in ended:
        last = next(leg for leg in reversed(WORKSHOP) if leg in ended)
        raise OrderError(f"{what} cannot come after {LEG[last].ends}", hint="what was left out is over with the step after it")


def _tell(case: CaseFolder, who: str, what: str, meaning: str) -> dt.datetime:
    value = read_tree(case.path / "job" / "value.json") or {}
    when, digest = dt.datetime.now(dt.UTC), str(value.get("sums_digest", ""))
    append_event(case.path / EVENTS, who=who, what=what, when=when.isoformat(), meaning=meaning, digest=digest)
    return when
