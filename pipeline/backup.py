"""A site in one file, and back: an uncompressed tar whose last entry, ``SHA256SUMS``, names every other one.

What is read is a snapshot: under the lock of each case its files are linked beside (they are never changed in place), and events
are copied as far as they are whole; so a case is there as it stood between two stages, and is held for a moment only. Left out is
what is being written (hidden names), and the engine's tables, which are made anew from the cases.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from batchone.factory.inbox import LEDGER, PRINTS
from batchone.pipeline.audit import Fault, audit_site
from batchone.pipeline.disk import flush_folder, reported, waited_for, write_over
from batchone.pipeline.errors import InputError
from batchone.pipeline.events import CASES, EVENTS, append_event, read_chain
from batchone.pipeline.intake.inbox import Inbox
from batchone.pipeline.store import CaseFolder, flush_tree

FORMAT = "batchone-backup/1"
MANIFEST, SUMS = "backup.json", "SHA256SUMS"
ENGINE_TABLES = "engine.sqlite"
CASE_WAIT_S = 600.0  # project default: beyond the longest step of a case, which holds it
_BLOCK_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 28  # of SHA256SUMS: two million files
_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class Backup:
    """What an archive says of itself: format, when it was made (ISO 8601, UTC), the cases, the head of the site's events."""

    format: str
    made: str
    cases: tuple[str, ...]
    events_head: str


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive that was written or read: what it says, how many files and bytes, and the SHA-256 of its ``SHA256SUMS``."""

    backup: Backup
    files: int
    size_bytes: int
    sums_sha256: str


def back_up(site: Path, to: Path, *, wait_s: float = CASE_WAIT_S) -> Archived:
    """Write a whole site into one file, which appears only after it was read back and every digest agreed.

    Cases may run meanwhile; ``wait_s`` is how long one that a process holds is waited for. The site's events tell of it then.

    Raises
    ------
    InputError
        There is no site, ``to`` is there already, or lies in the site.
    MachineError
        A case was held all the time, or the disk is full or refuses.
    """
    if not site.is_dir():
        raise InputError(f"there is no site at {site}", hint="give --site")
    if to.exists():
        raise InputError(f"{to.name} is there already", hint="give each backup a name of its own, with its date")
    if site.resolve() in to.resolve().parents:
        raise InputError("the backup would lie in the site itself", hint="write it to another disk")
    part = to.with_name(f".{to.name}.part")
    with waited_for(site, "the site"), reported("the backup"):  # retention and other backups wait
        sweep(site)
        snapshot = site / f".backup-{secrets.token_hex(8)}.part"
        try:
            made = _snapshot(site, snapshot, wait_s)
            part.unlink(missing_ok=True)  # of one that was killed
            try:
                _write(snapshot, part)
                archived = _read(part, None)
                part.replace(to)
                flush_folder(to.parent)
            finally:
                part.unlink(missing_ok=True)
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)
        append_event(site / EVENTS, who="batchone", what="backup written", when=made, digest=archived.sums_sha256)
    return archived


def restore(archive: Path, site: Path) -> tuple[Archived, tuple[Fault, ...]]:
    """Make a site of an archive; it appears whole, with every digest checked. What is wrong in its record is returned.

    Raises
    ------
    InputError
        The archive is no backup, is damaged, or the site is there already.
    MachineError
        The disk is full or refuses.
    """
    if site.exists() and (not site.is_dir() or any(site.iterdir())):
        raise InputError(f"{site} is not empty", hint="restore into a new folder, look at it, then put it in place")
    if not archive.is_file():
        raise InputError(f"there is no backup at {archive}", hint="give the file that `batchone backup` wrote")
    staging = site.with_name(f".{site.name}.restore.part")
    with reported("the restored site"):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            archived = _read(archive, staging)
            faults = tuple(fault for trail in audit_site(staging) for fault in trail.faults)
            when = dt.datetime.now(dt.UTC).isoformat()
            append_event(staging / EVENTS, who="batchone", what="restored from a backup", when=when, digest=archived.sums_sha256)
            flush_tree(staging)
            if site.exists():
                site.rmdir()
            staging.rename(site)
            flush_folder(site.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return archived, faults


def sweep(site: Path) -> None:
    """Remove the snapshot of a backup that was killed; it holds what retention may have removed. The caller holds the site."""
    for leftover in site.glob(".backup-*.part"):
        shutil.rmtree(leftover)


def _snapshot(site: Path, into: Path, wait_s: float) -> str:
    """Link a site's files into a folder; the site's events come first, so that no case is older than what they say of it."""
    into.mkdir(mode=0o700)
    made = dt.datetime.now(dt.UTC).isoformat()
    if (site / EVENTS).exists():
        _copy_events(site / EVENTS, into / EVENTS)
    inbox = Inbox(site)
    with inbox.locked() if inbox.folder.is_dir() else contextlib.nullcontext():
        for path in _visible(site):
            if path.name not in (CASES, EVENTS, ENGINE_TABLES):
                _link(path, into / path.name)
    if (into / PRINTS).is_dir() and (site / PRINTS / LEDGER).is_dir():  # without it all would be printed once more
        _link(site / PRINTS / LEDGER, into / PRINTS / LEDGER)
    cases = [path for path in _visible(site / CASES) if path.is_dir()]
    for case in cases:
        (into / CASES).mkdir(exist_ok=True)
        with CaseFolder(case).locked(wait_s=wait_s):
            _link(case, into / CASES / case.name)
    head = read_chain(into / EVENTS).head
    backup = Backup(FORMAT, made, tuple(case.name for case in cases), head)
    write_over(into / MANIFEST, (json.dumps(asdict(backup), indent=1) + "\n").encode(), mode=0o600)
    return made


def _visible(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if not path.name.startswith(".") and not path.is_symlink())


def _link(source: Path, place: Path) -> None:
    if source.is_dir():
        place.mkdir(mode=source.stat().st_mode & 0o777)
        for path in _visible(source):
            _link(path, place / path.name)
    elif source.name == EVENTS:
        _copy_events(source, place)
    elif source.suffix == ".sqlite":
        with contextlib.closing(sqlite3.connect(source)) as one, contextlib.closing(sqlite3.connect(place)) as other:
            one.backup(other)
        place.chmod(source.stat().st_mode & 0o777)
    elif source.is_file() and not source.name.endswith((".sqlite-wal", ".sqlite-shm", ".sqlite-journal")):
        try:
            os.link(source, place)
        except FileNotFoundError:
            pass  # an upload or the like that is gone by now
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copy2(source, place)


def _copy_events(source: Path, place: Path) -> None:
    data = source.read_bytes()
    place.write_bytes(data[: data.rfind(b"\n") + 1])  # what is being appended comes with the next backup
    place.chmod(source.stat().st_mode & 0o777)


def _write(snapshot: Path, archive: Path) -> None:
    sums = []
    with _new_file(archive) as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(snapshot.rglob("*")):
                name = path.relative_to(snapshot).as_posix()
                entry = tarfile.TarInfo(name)
                entry.mode, entry.mtime = path.stat().st_mode & 0o777, int(path.stat().st_mtime)
                if path.is_dir():
                    entry.type = tarfile.DIRTYPE
                    tar.addfile(entry)
                    continue
                with path.open("rb") as file:
                    entry.size = path.stat().st_size
                    hashing = _Hashing(file)
                    tar.addfile(entry, cast("IO[bytes]", hashing))
                sums.append(f"{hashing.digest.hexdigest()}  {name}\n")
            text = "".join(sums).encode()
            entry = tarfile.TarInfo(SUMS)
            entry.size, entry.mode = len(text), 0o600
            tar.addfile(entry, io.BytesIO(text))
        stream.flush()
        os.fsync(stream.fileno())


def _new_file(path: Path) -> IO[bytes]:
    """A new file that nobody else may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


class _Hashing:
    """A file that is digested while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _read(archive: Path, into: Path | None) -> Archived:
    """Read an archive to its end and compare every digest; with ``into`` also unpack it there."""
    found: dict[str, str] = {}
    size_bytes, modes, manifest, sums = 0, [], b"", b""
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for entry in tar:
                _refuse_strange(entry)
                place = None if into is None or entry.name in (SUMS, MANIFEST) else into / entry.name
                if entry.isdir():
                    if place is not None:
                        place.mkdir()
                        modes.append((place, entry.mode & 0o777))
                    continue
                file = tar.extractfile(entry)
                assert file is not None, "a regular file"
                if entry.name in (SUMS, MANIFEST):
                    text = file.read(_MAX_TEXT_BYTES)
                    manifest, sums = (manifest, text) if entry.name == SUMS else (text, sums)
                    found[entry.name] = hashlib.sha256(text).hexdigest()
                else:
                    found[entry.name] = _unpacked(file, place, entry.mode & 0o777)
                size_bytes += entry.size
    except (tarfile.TarError, EOFError) as error:
        raise _damaged(archive, f"cannot be read ({error})") from error
    for place, mode in reversed(modes):
        place.chmod(mode)
    own = found.pop(SUMS, None)
    if own is None:
        raise _damaged(archive, f"has no {SUMS} at its end")
    stated = {name: digest for digest, _, name in (line.partition("  ") for line in sums.decode(errors="replace").splitlines())}
    wrong = sorted(name for name in {*stated, *found} if stated.get(name) != found.get(name))
    if wrong:
        raise _damaged(archive, f"differs from its {SUMS} in {len(wrong)} files, must be 0; first: {wrong[0]}")
    tree = json.loads(manifest or b"{}")
    if tree.get("format") != FORMAT:
        raise _damaged(archive, f"has the format {tree.get('format')!r}, must be {FORMAT!r}")
    return Archived(Backup(**{**tree, "cases": tuple(tree["cases"])}), len(found), size_bytes, own)


def _unpacked(file: IO[bytes], place: Path | None, mode: int) -> str:
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        out = None
        if place is not None:
            out = stack.enter_context(_new_file(place))
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            if out is not None:
                out.write(block)
    if place is not None:
        place.chmod(mode)
    return digest.hexdigest()


def _refuse_strange(entry: tarfile.TarInfo) -> None:
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts or not (entry.isreg() or entry.isdir()):
        raise InputError(f"the archive holds {entry.name!r}, which no backup has", hint="take another copy of the backup")


def _damaged(archive: Path, what: str) -> InputError:
    return InputError(f"{archive.name} {what}", hint="take another copy of the backup, or an older one")
