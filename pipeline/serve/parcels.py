"""Uploads of parcels: announced by digest and size, brought in pieces, named in the site's inbox when whole.

Everything lies in the inbox itself: who announced it (``inbox/senders/<digest>.json``), what came so far
(``inbox/.incoming/<digest>.part``, as of ``batchone submit --to SITE``), and what became of it. A restart loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from batchone.pipeline.config import ServerSettings
from batchone.pipeline.disk import write_once
from batchone.pipeline.intake.inbox import Inbox
from batchone.pipeline.intake.parcel_file import BLOCK_BYTES, MAX_PARCEL_BYTES, file_digest
from batchone.pipeline.serve.accounts import Clock
from batchone.pipeline.serve.refusal import Refusal, unknown

State = Literal["open", "waiting", "taken", "refused"]
ABANDONED_S = 7 * 86_400.0  # an upload to which nothing came for a week is dropped; project default
SPARE_BYTES = 1_000_000_000  # what an upload must leave free on the site's disk; project default
_SYNC_BYTES = 1 << 26  # what a power cut may cost of an upload: 64 MB
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Upload:
    """Where a parcel is: open (``offset`` bytes of it came), waiting for the intake, taken (``case``) or refused (why)."""

    digest: str
    bytes: int
    offset: int
    state: State
    case: str | None = None
    reason: str = ""
    hint: str = ""


class Parcels:
    """The parcels that hospitals upload to a site."""

    def __init__(self, site: Path, settings: ServerSettings, clock: Clock) -> None:
        self._inbox = Inbox(site)
        self._inbox.make()
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self.received_bytes = 0  # since the server began

    def announce(self, hospital: str, digest: str, size: int) -> Upload:
        """Begin an upload, or say where it is.

        Raises
        ------
        Refusal
            409: the parcel is another hospital's; 413: it is too large; 429: over a quota of the hospital; 507: the disk is full.
        """
        if size > MAX_PARCEL_BYTES:
            raise Refusal(
                413,
                f"the parcel is {size / 1e6:.0f} MB, at most {MAX_PARCEL_BYTES / 1e6:.0f} MB",
                hint="send the part of the body that is needed",
            )
        with self._lock:
            self._drop_abandoned()
            found = self.find(hospital, digest)
            if found is not None and found.state != "refused":
                if found.state == "open" and found.bytes != size:
                    raise Refusal(
                        409, f"the parcel was announced with {found.bytes} bytes, now {size}", hint="give its true size"
                    )
                return found
            self._require_quota(hospital, size)
            self._require_room(size)
            with _full_disk_told():
                write_once(self._inbox.announced(digest), _announcement(hospital, size), mode=0o600)
            found = self.find(hospital, digest)
        if found is None:
            raise Refusal(409, "the parcel cannot be taken from this hospital", hint="send the study with `batchone submit`")
        return found

    def find(self, hospital: str, digest: str) -> Upload | None:
        """Where a parcel of this hospital is; None when it has none of this digest."""
        inbox = self._inbox
        announced = _announced(inbox.announced(digest))
        if announced is not None:
            sender, size = announced
            if sender != hospital:
                return None
            if inbox.place(digest).exists():
                return Upload(digest, size, size, "waiting")
            if inbox.taken(digest) is None:
                return Upload(digest, size, _size(self._part(digest)), "open")
        case = inbox.taken(digest)
        if case is not None:
            mark = json.loads(inbox.mark(digest).read_text(encoding="utf-8"))
            return Upload(digest, 0, 0, "taken", case.name) if mark.get("sender") == hospital else None
        refusal = inbox.refusal(digest)
        if refusal is not None and refusal.sender == hospital:
            return Upload(digest, 0, 0, "refused", refusal.case, refusal.reason, refusal.hint)
        return None

    def drop(self, hospital: str, digest: str) -> None:
        """Give up an open upload.

        Raises
        ------
        Refusal
            404: the hospital has no such open upload; 409: it is being written.
        """
        found = self.find(hospital, digest)
        if found is None or found.state != "open":
            raise unknown("open upload")
        with _held(self._part(digest)):
            self._forget(digest)

    async def append(self, hospital: str, digest: str, offset: int, blocks: AsyncIterator[bytes]) -> Upload:
        """Add bytes at the end of an open upload; when it is whole and its digest right, it stands in the inbox.

        What came before a connection broke is kept. Memory: one block of 1 MB.

        Raises
        ------
        Refusal
            404: no such upload; 409: not open, being written by another, or the offset is not where it ends; 413: more bytes than
            announced; 422: whole, but of another digest; 507: the disk is full.
        """
        found = self.find(hospital, digest)
        if found is None:
            raise unknown("upload")
        if found.state != "open":
            raise Refusal(409, f"the upload is {found.state}, not open", hint="ask for its state; nothing more is to be sent")
        part = self._part(digest)
        with _held(part) as handle:
            await self._write(handle, found, offset, blocks)
            if os.fstat(handle).st_size == found.bytes:
                await _beside(partial(self._finish, digest, part))
        return self.find(hospital, digest) or found

    async def _write(self, handle: int, found: Upload, offset: int, blocks: AsyncIterator[bytes]) -> None:
        at = os.lseek(handle, 0, os.SEEK_END)
        if offset != at:
            raise Refusal(409, f"the upload goes on at byte {at}, not at {offset}", hint=f"send from byte {at} on")
        waiting, synced, whole = bytearray(), at, False
        try:
            async for block in blocks:
                if at + len(waiting) + len(block) > found.bytes:
                    raise Refusal(
                        413, f"more bytes came than the {found.bytes} that were announced", hint="send the parcel again"
                    )
                waiting += block
                if len(waiting) >= BLOCK_BYTES:
                    sync = at + len(waiting) - synced >= _SYNC_BYTES
                    await _beside(partial(_put, handle, bytes(waiting), sync=sync))
                    at += len(waiting)
                    self.received_bytes += len(waiting)
                    synced = at if sync else synced
                    waiting.clear()
            whole = True
        finally:
            self.received_bytes += len(waiting)
            if whole:
                await _beside(partial(_put, handle, bytes(waiting), sync=True))
            else:  # refused, or the server ends: what came is kept
                _put(handle, bytes(waiting), sync=True)

    def _finish(self, digest: str, part: Path) -> None:
        if file_digest(part) != digest:
            self._forget(digest)
            raise Refusal(
                422, "the parcel arrived with another digest than was announced", hint="send it again from the beginning"
            )
        part.replace(self._inbox.place(digest))
        _sync_folder(self._inbox.folder)

    def _part(self, digest: str) -> Path:
        return self._inbox.incoming / f"{digest}.part"

    def _forget(self, digest: str) -> None:
        self._part(digest).unlink(missing_ok=True)
        self._inbox.announced(digest).unlink(missing_ok=True)

    def open_uploads(self) -> tuple[tuple[str, str, int], ...]:
        """Hospital, digest and announced bytes of every parcel that is not yet taken in or refused."""
        found = []
        for path in sorted(self._inbox.senders.glob("*.json")):
            announced = _announced(path)
            if announced is not None and self._inbox.taken(path.stem) is None:
                found.append((announced[0], path.stem, announced[1]))
        return tuple(found)

    def _require_quota(self, hospital: str, size: int) -> None:
        sizes = [announced for sender, _, announced in self.open_uploads() if sender == hospital]
        most, most_bytes = self._settings.open_uploads_per_hospital, self._settings.open_bytes_per_hospital
        hint = "let the open uploads end, or give them up"
        if len(sizes) >= most:
            raise Refusal(429, f"the hospital has {len(sizes)} open uploads, at most {most}", hint=hint)
        if sum(sizes) + size > most_bytes:
            raise Refusal(
                429,
                f"the hospital's open uploads would be {(sum(sizes) + size) / 1e6:.0f} MB, at most {most_bytes / 1e6:.0f} MB",
                hint=hint,
            )

    def _require_room(self, size: int) -> None:
        found = os.statvfs(self._inbox.folder)
        free = found.f_bavail * found.f_frsize
        if size + SPARE_BYTES > free:
            raise Refusal(
                507,
                f"disk full: the parcel needs {size / 1e6:.1f} MB beside {SPARE_BYTES / 1e6:.0f} MB to spare, "
                f"{free / 1e6:.1f} MB are free",
                hint="the site must free space; submit again later",
            )

    def _drop_abandoned(self) -> None:
        for _, digest, _ in self.open_uploads():
            last = max(_changed(self._part(digest)), _changed(self._inbox.announced(digest)))
            if not self._inbox.place(digest).exists() and self._clock() - last > ABANDONED_S:
                with contextlib.suppress(Refusal), _held(self._part(digest)):
                    self._forget(digest)


@contextlib.contextmanager
def _held(part: Path) -> Iterator[int]:
    """The growing file, for one writer at a time; a second one is told so."""
    with _full_disk_told():
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(handle), part.stat())
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise Refusal(409, "the parcel is being uploaded by another connection", hint="ask for its state in a moment")
        with _full_disk_told():
            yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Refusal(
            507, "disk full: the parcel could not be written", hint="the site must free space; what came is kept"
        ) from error


async def _beside(work: Callable[[], None]) -> None:
    """Do it in a thread while others are served; when we are told to end it is done first, for it works on an open file."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _put(handle: int, data: bytes, *, sync: bool) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    if sync:
        os.fsync(handle)


def _announcement(hospital: str, size: int) -> bytes:
    return json.dumps({"sender": hospital, "bytes": size}).encode() + b"\n"


def _announced(path: Path) -> tuple[str, int] | None:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return str(tree["sender"]), int(tree["bytes"])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
