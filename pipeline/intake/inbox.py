"""The site's inbox: a parcel is checked as if an enemy had sent it, and becomes a case by one rename."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchone.design.families import load_families
from batchone.pipeline.disk import reported, waited_for, write_bytes, write_over
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.events import append_event, tell_site
from batchone.pipeline.intake.handed_over import refuse_handed_over
from batchone.pipeline.intake.header import Unreadable, read_header
from batchone.pipeline.intake.package import FileSource
from batchone.pipeline.intake.parcel_file import (
    MANIFEST,
    ORDER,
    STUDY,
    SUFFIX,
    ParcelManifest,
    damaged,
    file_digest,
    opened_parcel,
    read_entry,
    refuse_too_large,
)
from batchone.pipeline.job.withdrawal import DECISIONS
from batchone.pipeline.order import read_order

_IDENTITY_REMOVED, _PATIENT_ID, _PATIENT_NAME, _BIRTH_DATE = 0x00120062, 0x00100020, 0x00100010, 0x00100030


@dataclass(frozen=True, slots=True)
class Accepted:
    """The case that a parcel became; ``new`` is False when all of it was there already."""

    case: str
    folder: Path
    new: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """A parcel that was refused: its digest, why, and where they are known its case and the hospital that sent it."""

    digest: str
    case: str | None
    reason: str
    hint: str
    sender: str | None = None


class Inbox:
    """Where things lie in a site's inbox."""

    def __init__(self, site: Path) -> None:
        self.cases = site / "cases"
        self.folder = site / "inbox"
        self.incoming = self.folder / ".incoming"
        self.accepted = self.folder / "accepted"
        self.refused = self.folder / "refused"
        self.senders = self.folder / "senders"

    def make(self) -> None:
        """Make the folders."""
        with reported("the site's inbox"):
            for folder in (self.incoming, self.accepted, self.refused, self.senders):
                folder.mkdir(parents=True, exist_ok=True)

    def place(self, digest: str) -> Path:
        """Where a whole parcel stands until it is taken in."""
        return self.folder / f"{digest}{SUFFIX}"

    def mark(self, digest: str) -> Path:
        """What remains of a parcel that was taken in."""
        return self.accepted / f"{digest}.json"

    def announced(self, digest: str) -> Path:
        """Who sends a parcel over the server, and how many bytes it has; there from its announcement until it is taken in."""
        return self.senders / f"{digest}.json"

    def sender(self, digest: str) -> str | None:
        """The code of the hospital that sends a parcel; None when it came to the site's folder."""
        found = _tree(self.announced(digest))
        return None if found is None else str(found["sender"])

    def knows(self, digest: str) -> bool:
        """Whether the parcel waits here, or was taken in and its case is still there."""
        return self.place(digest).exists() or self.taken(digest) is not None

    def taken(self, digest: str) -> Path | None:
        """The case folder that a parcel became."""
        found = _tree(self.mark(digest))
        folder = None if found is None else self.cases / str(found["case"])
        return folder if folder is not None and folder.is_dir() else None

    def waiting(self) -> tuple[Path, ...]:
        """The parcels that wait."""
        return tuple(sorted(self.folder.glob(f"*{SUFFIX}")))

    def refusals(self) -> tuple[Refusal, ...]:
        """The parcels that were refused, and why."""
        found = (self.refusal(path.stem) for path in sorted(self.refused.glob("*.json")))
        return tuple(one for one in found if one is not None)

    def refusal(self, digest: str) -> Refusal | None:
        """Why a parcel was refused; None when it was not."""
        tree = _tree(self.refused / f"{digest}.json")
        return None if tree is None else Refusal(digest, tree["case"], tree["reason"], tree["hint"], tree.get("sender"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the inbox for one process; others wait."""
        self.make()
        with waited_for(self.folder, "the site's inbox"):
            yield


def accept_all(site: Path) -> tuple[Accepted, ...]:
    """Take in every parcel that waits; what is refused is set aside with its reason and the rest goes on.

    Raises
    ------
    MachineError
        The site's disk is full or refuses.
    """
    taken = []
    for parcel in Inbox(site).waiting():
        try:
            taken.append(accept(site, parcel))
        except InputError:
            continue  # its reason stands in the inbox beside it
    return tuple(taken)


def accept(site: Path, parcel: Path) -> Accepted:
    """Make a case of a parcel: ``<site>/cases/<case>/`` with ``order.toml``, ``study/`` and ``parcel.json``.

    The same parcel again, also at the same time, is the same case. Afterwards the parcel is gone from the inbox.

    Raises
    ------
    InputError
        The parcel is damaged, breaks a limit, is not de-identified, or its case is there with another order or study; it
        lies in ``inbox/refused`` with the reason.
    MachineError
        The disk is full or refuses: the parcel stays, nothing half is visible.
    """
    inbox = Inbox(site)
    with inbox.locked():
        digest = parcel.name.removesuffix(SUFFIX)
        if not parcel.exists() and (folder := inbox.taken(digest)) is not None:
            return Accepted(folder.name, folder, new=False)
        case = None
        try:
            refuse_too_large(parcel)
            with reported("the parcel"):
                found = file_digest(parcel)
            if found != digest:
                raise damaged(f"has the digest {found[:12]}, its name says {digest[:12]}")
            with opened_parcel(parcel) as (opened, manifest):
                case = manifest.case
                refuse_handed_over(site, manifest)
                accepted = _take(site, opened, manifest, digest, inbox.sender(digest))
        except InputError as error:
            error.case_id = error.case_id or case
            _refuse(inbox, parcel, case, error)
            raise
        with reported("the site's inbox"):
            write_over(
                inbox.mark(digest),
                json.dumps({"case": accepted.case, "sender": inbox.sender(digest)}).encode() + b"\n",
                mode=0o600,
            )
            (inbox.refused / f"{digest}.json").unlink(missing_ok=True)
            parcel.unlink()
            inbox.announced(digest).unlink(missing_ok=True)
    return accepted


def _take(site: Path, opened: zipfile.ZipFile, manifest: ParcelManifest, digest: str, sender: str | None) -> Accepted:
    folder = site / "cases" / manifest.case
    if _waits_for_order(folder, manifest):
        _refuse_another(folder, sender)
        _add_order(folder, opened, manifest, digest, sender)
        return Accepted(manifest.case, folder, new=True)
    if _exists(folder, digest):
        return Accepted(manifest.case, folder, new=False)
    staging = site / "cases" / f".{manifest.case}.part"
    for leftover in staging.parent.glob(".*.part"):  # of a process that died; the inbox is locked, so none is being made
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with reported("the case folder"):
            (staging / STUDY).mkdir(parents=True)
        _unpack(opened, manifest, staging)
        if ORDER in manifest.entries:
            _check_order(staging / ORDER, manifest)
        _check_deidentified(staging, manifest)
        write_bytes(staging / MANIFEST, _record(manifest, digest, sender))
        when = dt.datetime.now(dt.UTC).isoformat()
        if ORDER in manifest.entries:
            append_event(staging / "events.jsonl", who="batchone", what="order received", when=when)
        append_event(staging / "events.jsonl", who="batchone", what="study received", when=when, digest=digest)
        if manifest.handed_over is not None:
            what, meaning = f"taken over: {manifest.handed_over.reason}", f"from the site {manifest.handed_over.by}"
            append_event(staging / "events.jsonl", who="batchone", what=what, when=when, meaning=meaning, digest=digest)
        with reported("the case folder"):
            staging.rename(folder)
            _sync_folder(folder.parent)
        tell_site(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Accepted(manifest.case, folder, new=True)


def _tree(path: Path) -> dict[str, Any] | None:
    """A small JSON file of ours; None when it is not there."""
    try:
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return tree


def _record(manifest: ParcelManifest, digest: str, sender: str | None) -> bytes:
    """What the case keeps of its parcel, and the hospital that sent it where that is known."""
    known = {"digest": digest} if sender is None else {"digest": digest, "sender": sender}
    return json.dumps(known | json.loads(manifest.text()), indent=1).encode() + b"\n"


def _refuse_another(folder: Path, sender: str | None) -> None:
    """An order for a study that waits comes from the hospital that sent the study, where that is known."""
    if (_tree(folder / MANIFEST) or {}).get("sender") not in (None, sender):
        raise _there_already()


def _waits_for_order(folder: Path, manifest: ParcelManifest) -> bool:
    """Whether the case is there without an order, with exactly the images of this parcel, which brings one."""
    if ORDER not in manifest.entries or (folder / ORDER).exists() or (folder / DECISIONS).exists():  # or a person ended it
        return False
    found = _tree(folder / MANIFEST)
    if found is None:
        return False
    known = found["entries"]
    images = {name: entry.sha256 for name, entry in manifest.entries.items() if name != ORDER}
    return {name: entry["sha256"] for name, entry in known.items() if name != ORDER} == images


def _add_order(folder: Path, opened: zipfile.ZipFile, manifest: ParcelManifest, digest: str, sender: str | None) -> None:
    """Give the case its order; the order comes last, so that a crash before it is made good by the next try."""
    content = b"".join(read_entry(opened, ORDER, manifest.entries[ORDER]))
    part = folder / f".{ORDER}.part"
    with _case_locked(folder):
        write_bytes(part, content)
        try:
            _check_order(part, manifest)
        except InputError:
            part.unlink()
            raise
        with reported("the case folder"):
            write_over(folder / MANIFEST, _record(manifest, digest, sender), mode=0o644)
        when = dt.datetime.now(dt.UTC).isoformat()
        append_event(folder / "events.jsonl", who="batchone", what="order received", when=when, digest=digest)
        with reported("the case folder"):
            part.rename(folder / ORDER)
            _sync_folder(folder)
        tell_site(folder)


@contextmanager
def _case_locked(folder: Path) -> Iterator[None]:
    """Hold a case as its runner does."""
    with reported("the case folder"):
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise MachineError(
            "another process is working on this case", hint="wait for it to end, then run the same command again"
        ) from None
    try:
        yield
    finally:
        os.close(handle)


def _exists(folder: Path, digest: str) -> bool:
    """Whether the case is there from this very parcel; refuses one that is there from anything else."""
    if not folder.exists():
        return False
    if (_tree(folder / MANIFEST) or {}).get("digest") == digest:
        return True
    raise _there_already()


def _there_already() -> InputError:
    return InputError(
        "the case exists at the site with another order or study",
        hint="give the order a new case id, or change one parameter at the site with `batchone design CASE --set`",
    )


def _unpack(opened: zipfile.ZipFile, manifest: ParcelManifest, staging: Path) -> None:
    for name, entry in manifest.entries.items():
        with reported("the case folder"), (staging / name).open("xb") as stream:
            for block in read_entry(opened, name, entry):
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
    with reported("the case folder"):
        _sync_folder(staging / STUDY)


def _check_order(path: Path, manifest: ParcelManifest) -> None:
    order = read_order(path, {name: family.parameters for name, family in load_families().items()})
    if order.case != manifest.case:
        raise InputError(f"the order is for case {order.case}, the parcel for case {manifest.case}", hint="submit it again")


def _check_deidentified(staging: Path, manifest: ParcelManifest) -> None:
    """A site takes no study that still says who the patient is, whoever packed it."""
    wanted = frozenset({_IDENTITY_REMOVED, _PATIENT_ID, _PATIENT_NAME, _BIRTH_DATE})
    for path in sorted((staging / STUDY).iterdir()):
        try:
            header = read_header(FileSource(path, path.stat().st_size), wanted)
        except Unreadable as error:
            raise damaged(f"holds an image whose header cannot be read: {error}") from None
        if header is None:
            raise damaged("holds an image that is no DICOM file")
        text = {tag: header.values.get(tag, b"").decode("latin-1").strip(" \0") for tag in wanted}
        if (
            text[_IDENTITY_REMOVED] != "YES"
            or text[_BIRTH_DATE]
            or {text[_PATIENT_ID], text[_PATIENT_NAME]} - {manifest.case, ""}
        ):
            raise InputError(
                "an image of the parcel is not marked as de-identified, or names a patient other than by the case id",
                hint="send the study with `batchone submit`, which de-identifies it first",
            )


def _refuse(inbox: Inbox, parcel: Path, case: str | None, error: InputError) -> None:
    digest = parcel.name.removesuffix(SUFFIX)
    with reported("the site's inbox"):
        tree = {"case": case, "reason": str(error), "hint": error.hint, "sender": inbox.sender(digest)}
        write_over(inbox.refused / f"{digest}.json", json.dumps(tree, indent=1).encode() + b"\n", mode=0o600)
        parcel.replace(inbox.refused / f"{digest}{SUFFIX}")
        inbox.announced(digest).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
