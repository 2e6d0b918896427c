"""``events.jsonl``: who did what, when, and with what meaning; append-only, each line names the digest of the line before.

One writer at a time (flock), and nobody reads what may yet be taken back; each line is flushed to the disk; a last line torn by
a crash is cut, and the cut is recorded. A case has one such file and the site another: the site's notes the head of a case's
chain after every change (:func:`tell_site`), so that a case whose last events were cut off, or that is gone, is found by
``batchone audit``. Time-stamped, never overwritten: 21 CFR 11.10(e).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from batchone.pipeline.disk import disk, flush_folder

EVENTS = "events.jsonl"
CASES = "cases"  # folder of a site
REMOVED = "removed"  # folder of a site: what remains of cases whose time was over
SHELVED = "shelved"  # what the site's events say of a device record that came
BEGUN_ANEW, TAKEN_AWAY = "begun anew", "removed"  # what the site's events say of a case whose chain ends
COMMENTED = "commented"  # what an event begins with that changes nothing: somebody's words on the device
START = "0" * 64  # what the first line names as the one before it

_KEYS = ("who", "what", "when", "meaning", "digest")
_BLOCK_BYTES = 8192  # numerical: how much of the end is read at once; a line has some hundred bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One line: actor, action, time (ISO 8601, UTC), meaning of a signature, digest of what it is about.

    ``head`` is the digest of the line itself.
    """

    who: str
    what: str
    when: str
    meaning: str
    digest: str
    head: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A file of events as read: those before the first broken line, its number (from 1) and what is wrong there.

    ``torn_bytes``: length of a last line that a crash cut off; the next event removes it and says so.
    """

    events: tuple[Event, ...]
    broken_line: int | None = None
    fault: str = ""
    torn_bytes: int = 0

    @property
    def head(self) -> str:
        """Digest of the last whole line; :data:`START` when there is none."""
        return self.events[-1].head if self.events else START


def append_event(path: Path, *, who: str, what: str, when: str, meaning: str = "", digest: str = "") -> str:
    """Append one event and return the new head of the chain (SHA-256, hex). Of a long file only the end is read.

    Parameters
    ----------
    path
        An ``events.jsonl``; made when absent.
    who, what, when, meaning, digest
        As in :class:`Event`.

    Raises
    ------
    MachineError
        The disk is full or broken: the file is as it was.
    """
    with disk(), path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        last, torn_bytes = _end(stream)
        if not last:
            flush_folder(path.parent)  # the file may be new
        if torn_bytes:
            stream.truncate(stream.seek(0, os.SEEK_END) - torn_bytes)
            note = f"{torn_bytes} bytes of a torn line were cut"
            last = _append(stream, last, {"who": "batchone", "what": note, "when": when, "meaning": "", "digest": ""})
        line = _append(stream, last, {"who": who, "what": what, "when": when, "meaning": meaning, "digest": digest})
    return _sha256(line)


def last_event(path: Path) -> Event | None:
    """The last whole line, read from the end alone and not verified; None when there is none that can be read."""
    try:
        with _read_only(path) as stream:
            line, _ = _end(stream)
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = _read(line) if line else None
    return found[0] if found else None


def head_of(path: Path) -> str:
    """Digest of the last whole line, :data:`START` when there is none; read from the end alone and not verified."""
    try:
        with _read_only(path) as stream:
            line, _ = _end(stream)
    except (FileNotFoundError, NotADirectoryError):
        return START
    return _sha256(line) if line else START


def read_chain(path: Path) -> Chain:
    """Read a file of events and verify that every line names the one before it."""
    data = b""
    if path.is_file():
        with _read_only(path) as stream:
            data = stream.read()
    whole = data[: data.rfind(b"\n") + 1]
    events: list[Event] = []
    head = START
    for number, line in enumerate(whole.splitlines(keepends=True), start=1):
        found = _read(line)
        if found is None:
            return Chain(tuple(events), number, "is no event")
        event, previous = found
        if previous != head:
            return Chain(tuple(events), number, f"names {previous[:12]} as the line before it, which is {head[:12]}")
        events.append(event)
        head = event.head
    return Chain(tuple(events), torn_bytes=len(data) - len(whole))


def chain_head(path: Path) -> str | None:
    """Head of the chain when every line is whole and names the one before it; None when the chain is broken."""
    chain = read_chain(path)
    return None if chain.broken_line is not None or chain.torn_bytes else chain.head


def tell_site(case: Path, known: str = "") -> str:
    """Note the head of a case's chain in the events of its site, unless it is known there.

    ``known`` and what is returned: the head of the case that the site was told last, and of the site's event that says so.
    The site's event says who did what to which case in a word, without what a person wrote. A folder in no site tells nobody.
    """
    event = last_event(case / EVENTS)
    if event is None or known.startswith(event.head) or case.parent.name != CASES:
        return known
    site = case.parent.parent
    what = f"case {case.name}: {event.what.partition(':')[0]}"
    return f"{event.head} {append_event(site / EVENTS, who=event.who, what=what, when=event.when, digest=event.head)}"


@contextmanager
def _read_only(path: Path) -> Iterator[BinaryIO]:
    """A file of events while nobody writes: a line whose flush fails is taken away again, and must not have been seen."""
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield stream


def _end(stream: BinaryIO) -> tuple[bytes, int]:
    """The last whole line (empty when there is none) and how many bytes of a torn one come after it."""
    at, data = stream.seek(0, os.SEEK_END), b""
    while at > 0 and data.count(b"\n") < 2:
        step = min(_BLOCK_BYTES, at)
        at -= step
        stream.seek(at)
        data = stream.read(step) + data
    whole = data[: data.rfind(b"\n") + 1]
    return whole[whole[:-1].rfind(b"\n") + 1 :], len(data) - len(whole)


def _append(stream: BinaryIO, last: bytes, event: dict[str, str]) -> bytes:
    event = {**event, "previous": _sha256(last) if last else START}
    line = json.dumps(event, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    size = stream.seek(0, os.SEEK_END)
    try:
        if os.write(stream.fileno(), line) < len(line):  # the disk took a part of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(stream.fileno())
    except OSError:
        os.ftruncate(stream.fileno(), size)  # what may not be on the disk was not told
        raise
    return line


def _read(line: bytes) -> tuple[Event, str] | None:
    try:
        tree = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(tree, dict) or set(tree) != {*_KEYS, "previous"} or not all(isinstance(v, str) for v in tree.values()):
        return None
    return Event(**{key: tree[key] for key in _KEYS}, head=_sha256(line)), tree["previous"]


def event_of(line: bytes) -> Event | None:
    """A line with its line break, as it stands and not verified; None for one that is no event."""
    found = _read(line)
    return None if found is None else found[0]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
