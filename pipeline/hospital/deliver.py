"""Bring a parcel to a site's inbox: a killed delivery goes on where it was, and a repeated one changes nothing.

The bytes grow in ``inbox/.incoming/<digest>.part`` under a lock; only when the whole is on the disk and its digest is right
does it get its name in the inbox, by one rename.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from batchone.pipeline.disk import reported
from batchone.pipeline.errors import MachineError
from batchone.pipeline.hospital.parcel import Parcel
from batchone.pipeline.intake.inbox import Inbox
from batchone.pipeline.intake.parcel_file import BLOCK_BYTES, file_digest

Progress = Callable[[int, int], None]
_SYNC_BYTES = 1 << 26  # what a power cut may cost of a delivery: 64 MB


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a delivery.

    ``new`` is False when the site had the parcel already; ``resumed_at`` is how many bytes an earlier, broken delivery had
    brought; ``place`` is where the parcel stands, or stood until the site took it in.
    """

    case: str
    digest: str
    place: Path
    bytes: int
    resumed_at: int
    new: bool


def deliver(parcel: Parcel, to: Path, progress: Progress = lambda done, total: None) -> Receipt:
    """Deliver a parcel to a site's folder.

    Parameters
    ----------
    to
        The site's folder; its ``inbox`` is made where absent.
    progress
        Called with the bytes delivered so far and their total.

    Raises
    ------
    MachineError
        The disk is full or refuses, or the parcel is not what its name says; what was brought so far stays for the next try.
    """
    inbox = Inbox(to)
    inbox.make()
    place, part = inbox.place(parcel.digest), inbox.incoming / f"{parcel.digest}.part"
    with reported("the parcel in the site's inbox"), _held(part) as target:
        if inbox.knows(parcel.digest):
            part.unlink(missing_ok=True)
            progress(parcel.bytes, parcel.bytes)
            return Receipt(parcel.case, parcel.digest, place, parcel.bytes, 0, new=False)
        with parcel.path.open("rb") as source:
            resumed_at = _agreed(source, target)
            _require_room(to, parcel.bytes - resumed_at)
            _copy(source, target, parcel.bytes, progress)
        if file_digest(part) != parcel.digest:
            part.unlink()
            raise MachineError(
                f"the parcel of case {parcel.case} arrived with another digest than its name says",
                hint="the disk of the sender or of the site may be failing; submit again",
            )
        part.replace(place)
        _sync_folder(place.parent)
    return Receipt(parcel.case, parcel.digest, place, parcel.bytes, resumed_at, new=True)


@contextmanager
def _held(part: Path) -> Iterator[BinaryIO]:
    """The growing file, for one sender at a time; one that was finished by another in the meantime is opened anew."""
    while True:
        stream = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if part.exists() and os.path.samestat(os.fstat(stream.fileno()), part.stat()):
                yield stream
                return
        finally:
            stream.close()


def _agreed(source: BinaryIO, target: BinaryIO) -> int:
    """How many leading bytes both have in common; both stand there, and the rest of the target is cut."""
    same = 0
    while block := target.read(BLOCK_BYTES):
        if source.read(len(block)) != block:
            break
        same += len(block)
    source.seek(same)
    target.seek(same)
    target.truncate()
    return same


def _copy(source: BinaryIO, target: BinaryIO, total: int, progress: Progress) -> None:
    done = source.tell()
    synced = done
    progress(done, total)
    while block := source.read(BLOCK_BYTES):
        target.write(block)
        done += len(block)
        if done - synced >= _SYNC_BYTES:
            _sync(target)
            synced = done
        progress(done, total)
    _sync(target)


def _require_room(folder: Path, needed: int) -> None:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise MachineError(
            f"disk full: the parcel needs {needed / 1e6:.1f} MB more at the site, {free / 1e6:.1f} MB are free",
            hint="free space on the site's disk and submit again; what arrived is kept",
        )


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
