"""Jobs that count no more: the signed decisions of people in a case, and a site's signed list by which a cell knows them.

The list is one file, so that nothing of it can be left behind on the way to a cell without network, and it only grows. Runs on
the core install.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from batchone.pipeline import codec
from batchone.pipeline.disk import reported, waited_for, write_over
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.signature import (
    APPROVAL_PREFIX,
    DECISION,
    DEMONSTRATOR,
    KEYS,
    WITHDRAWN,
    Signer,
    SiteKey,
    embedded_signer,
    release_key,
    safe_name,
    sign,
    signers_at,
    verify,
    write_allowed_signers,
)
from batchone.pipeline.job.sums import Digest
from batchone.pipeline.order import Model
from batchone.pipeline.values import Decision, Declined

DECISIONS = "decisions"  # folder of a case: 0001.json, 0002.json...
ANSWERS = "answers"  # of a case, likewise: what a reviewer said that releases nothing
OUTBOX, LIST = "outbox", "withdrawn.json"  # of a site
FORMAT: Literal["batchone-withdrawn/1"] = "batchone-withdrawn/1"
Word = TypeVar("Word", Decision, Declined)
PAST = {"cancel": "cancelled", "revise": "revised", "hand-over": "handed-over"}
"""What a case or a job is called after a decision."""

_CASE_DEPTH = 4  # folders from a job up to its case: job/ID, or revisions/NNNN/job/ID
_MAX_LIST_BYTES = 64_000_000  # some hundred thousand jobs


class WithdrawnJob(Model):
    """A job that must not be printed or used any more: id, SHA-256 of its SHA256SUMS, its case, and what became of it when."""

    job: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    sums_sha256: Digest
    case: str
    what: Literal["cancelled", "revised", "handed-over"]
    when: dt.datetime


class WithdrawnList(Model):
    """A site's list; ``signature`` is an armoured SSH signature over :meth:`text`."""

    format: Literal["batchone-withdrawn/1"]
    jobs: tuple[WithdrawnJob, ...]
    signature: str

    def text(self) -> bytes:
        """The exact bytes that are signed."""
        return codec.canonical({"format": self.format, "jobs": [job.model_dump(mode="json") for job in self.jobs]})


def sign_decision(decision: Word, key: SiteKey) -> Word:
    """Return the decision, or the answer, with its signature.

    Raises
    ------
    MachineError
        The demonstrator is to sign, or a text is no line of printable characters: it could fake a line of what is signed.
    """
    if decision.name == DEMONSTRATOR:
        raise MachineError(f"{DEMONSTRATOR} decides nothing", hint="sign under your own name")
    for what, text in (("name", decision.name), ("meaning", decision.meaning), ("reason", decision.reason)):
        if not text.strip() or not text.isprintable():
            raise MachineError(f"{what} is {text!r}, must be one line of printable text", hint="write it in plain words")
    return replace(decision, signature=sign(key, decision.text(), namespace=DECISION))


def verify_decision(decision: Decision | Declined, allowed: Path | Sequence[Signer]) -> None:
    """Check a decision's signature; ``allowed`` is the site's key folder, an ``allowed_signers`` file, or its signers.

    Raises
    ------
    MachineError
        It is missing, by a key that is not that person's or not allowed, or over other words.
    """
    signers = signers_at(allowed) if isinstance(allowed, Path) else tuple(allowed)
    own = tuple(signer for signer in signers if signer.name == safe_name(APPROVAL_PREFIX + decision.name))
    verify(decision.signature, decision.text(), namespace=DECISION, allowed=own)


def read_decisions(case: Path) -> tuple[Decision, ...]:
    """What people decided on a case, the first one first. Obeyed also where a signature does not hold: ``batchone audit`` tells.

    Raises
    ------
    MachineError
        One cannot be read: nothing may go on before somebody has looked.
    """
    return tuple(_read(path, Decision) for path in sorted((case / DECISIONS).glob("[0-9][0-9][0-9][0-9].json")))


def read_answers(case: Path) -> tuple[Declined, ...]:
    """The returns and the rejection of a case, the first one first; raises as :func:`read_decisions`."""
    return tuple(_read(path, Declined) for path in sorted((case / ANSWERS).glob("[0-9][0-9][0-9][0-9].json")))


def _read(path: Path, kind: type[Word]) -> Word:
    name = f"{path.parent.name.removesuffix('s')} {path.stem}"
    try:
        found = codec.restore(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineError(f"{name} cannot be read: {error}", hint="compare the case with its last backup") from error
    if not isinstance(found, kind):
        raise MachineError(f"{name} is none", hint="compare the case with its last backup")
    return found


def withdrawn_by(decisions: Iterable[Decision]) -> tuple[WithdrawnJob, ...]:
    """The jobs that decisions withdraw."""
    return tuple(
        WithdrawnJob(job=job, sums_sha256=sums, case=one.case, what=PAST[one.what], when=one.time)  # type: ignore[arg-type]
        for one in decisions
        for job, sums in one.jobs
    )


def own_withdrawn(site: Path) -> tuple[WithdrawnJob, ...]:
    """The jobs of a site's own list; raises as :func:`read_withdrawn`."""
    path = site / OUTBOX / LIST
    return read_withdrawn(path, signers_at(site / KEYS)) if path.exists() else ()


def publish_withdrawn(site: Path, jobs: tuple[WithdrawnJob, ...]) -> None:
    """Add jobs to the site's list, unless they stand there; the list appears whole, signed by the release key.

    Raises
    ------
    MachineError
        The list that is there is not the site's own, or the disk refuses.
    """
    path = site / OUTBOX / LIST
    with reported(LIST):
        path.parent.mkdir(exist_ok=True)
    with waited_for(path.parent, "the site's outbox"):
        known = {job.job: job for job in own_withdrawn(site)}
        new = {job.job: job for job in jobs if job.job not in known}
        if path.exists() and not new:
            return
        listed = tuple(sorted({**known, **new}.values(), key=lambda job: (job.when, job.job)))
        key = release_key(site / KEYS)
        write_allowed_signers(site / KEYS)
        draft = WithdrawnList(format=FORMAT, jobs=listed, signature="")
        signed = draft.model_copy(update={"signature": sign(key, draft.text(), namespace=WITHDRAWN)})
        with reported(LIST):
            for leftover in path.parent.glob(f".{LIST}.*"):  # of a process that died
                leftover.unlink()
            write_over(path, signed.model_dump_json(indent=1).encode() + b"\n", mode=0o644)


def read_withdrawn(path: Path, allowed: Sequence[Signer] | None) -> tuple[WithdrawnJob, ...]:
    """The jobs of a list: of that file, or of that site's folder, where none means that nothing was withdrawn.

    ``allowed``: who may have signed it; None: anybody, as the signature says.

    Raises
    ------
    MachineError
        It is not there, is no such list, or its signature does not hold.
    """
    if path.is_dir():
        path = path / OUTBOX / LIST
        if not path.exists():
            return ()
    with reported("the list of withdrawn jobs"), path.open("rb") as stream:
        data = stream.read(_MAX_LIST_BYTES)
    try:
        found = WithdrawnList.model_validate_json(data)
    except ValidationError as error:
        raise MachineError(
            f"the list of withdrawn jobs cannot be read: {error.errors()[0]['msg']}", hint="fetch it again from the site"
        ) from error
    signers = (embedded_signer(found.signature),) if allowed is None else tuple(allowed)
    verify(found.signature, found.text(), namespace=WITHDRAWN, allowed=signers)
    return found.jobs


def withdrawal_of(folder: Path, job: str, sums_sha256: str, listed: Sequence[WithdrawnJob]) -> WithdrawnJob | None:
    """Whether a job counts no more: by a list, or by the decisions of the case in whose folder it lies; None while it counts."""
    parents = folder.resolve().parents[:_CASE_DEPTH]
    own = (one for case in parents if (case / DECISIONS).is_dir() for one in withdrawn_by(read_decisions(case)))
    return next((one for one in (*listed, *own) if one.job == job or one.sums_sha256 == sums_sha256), None)
