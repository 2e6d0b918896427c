"""The case folder on disk: stage results published by rename, the order, the events, the lock.

A stage writes into a hidden folder beside its place, everything is flushed to the disk, and the folder is renamed:
a reader sees the whole result or none. All writing goes through :mod:`batchone.pipeline.disk`, so that a full disk becomes one
kind of error.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from batchone.pipeline import codec
from batchone.pipeline.disk import disk, flush_folder
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import BEGUN_ANEW, EVENTS, append_event, head_of, tell_site

LOCK = ".lock"
LOCK_WAIT_S = 1.0  # a case that is read for a backup is held for a fraction of it
_POLL_S = 0.02


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, flushed to the disk."""
    temporary = path.with_name(f".{path.name}.part")
    with disk():
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        flush_folder(path.parent)


class CaseBusy(MachineError):  # noqa: N818 - a state, not a fault
    """Another process works on a case: the same again later."""


class CaseFolder:
    """One case on disk.

    Parameters
    ----------
    path
        ``<site>/cases/<case>``; made when absent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk():
            path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
        """Hold the case for one writer, and tell the site at the end what became of its events.

        The lock's file holds the head of the case's chain that the site knows, and that of the site's own then.

        Raises
        ------
        CaseBusy
            Another process still works on this case after ``wait_s`` seconds.
        """
        with disk():
            stream = (self.path / LOCK).open("a+", encoding="ascii")
        with stream:
            _hold(stream, wait_s)
            with disk():
                self._sweep()
            try:
                yield
            except BaseException:
                with contextlib.suppress(MachineError, OSError):  # what stopped the work is the one to be told
                    self._tell_site(stream)
                raise
            self._tell_site(stream)

    def _tell_site(self, lock: TextIO) -> None:
        lock.seek(0)
        known = lock.read()
        with disk():
            told = tell_site(self.path, known)
            if told != known:
                os.ftruncate(lock.fileno(), 0)
                os.write(lock.fileno(), told.encode())  # not buffered: a full disk is told here, not when the file is closed

    @property
    def events_head(self) -> str:
        """Head of the chain of the case's events."""
        return head_of(self.path / EVENTS)

    def record(self, stage: str) -> dict[str, Any] | None:
        """The stage's ``stage.json``, or None when the stage has no whole result."""
        path = self.path / stage / "stage.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
            return None
        return found if isinstance(found, dict) else None

    def intact(self, stage: str, record: dict[str, Any]) -> bool:
        """Every file of a stage is there with the digest that its record states."""
        outputs = record.get("outputs", {})
        folder = self.path / stage
        try:
            return all(sha256_file(folder / name) == sha for name, sha in outputs.items())
        except OSError:
            return False

    def load(self, stage: str) -> Any:
        """The value that a stage gave."""
        return codec.load(self.path / stage)

    def publish(self, stage: str, write: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Let ``write`` fill a new folder, add ``stage.json`` from what it returns, and put the folder in place.

        Returns
        -------
        dict
            The record, with ``outputs``: SHA-256 by relative file name, and ``events_head``: that of the case's events so far.
        """
        staging = self.staging(stage)
        with removed_on_failure(staging), disk():
            record = write(staging)
            record["events_head"] = self.events_head
            record["outputs"] = {
                str(path.relative_to(staging)): sha256_file(path) for path in sorted(staging.rglob("*")) if path.is_file()
            }
            (staging / "stage.json").write_text(
                json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False), encoding="utf-8"
            )
            flush_tree(staging)
            replace_folder(staging, self.path / stage)
        return record

    def staging(self, stage: str) -> Path:
        """A new empty folder beside the stage's place."""
        staging = self.path / f".{stage}.part"
        with disk():
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
        return staging

    def _sweep(self) -> None:
        """Remove what a dead process left half-written; what it had only moved out of the way goes back."""
        aside = sorted([*self.path.glob(".*.old"), *self.path.glob("job/.*.old")])
        for old in aside:
            if not (place := old.with_name(old.name.removeprefix(".").removesuffix(".old"))).exists():
                old.rename(place)
        for leftover in [*sorted(self.path.glob(".*.part")), *aside]:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _hold(stream: TextIO, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < until:
                time.sleep(_POLL_S)
                continue
            raise CaseBusy(
                "another process is working on this case", hint="wait for it to end, then run the same command again"
            ) from error
        return


def begin_anew(case: Path) -> None:
    """Remove a case's folder, so that its next events begin a new chain; the site's events say so."""
    if case.is_dir():
        when, what = dt.datetime.now(dt.UTC).isoformat(), f"case {case.name}: {BEGUN_ANEW}"
        append_event(case.parent.parent / EVENTS, who="batchone", what=what, when=when, digest=head_of(case / EVENTS))
        shutil.rmtree(case, ignore_errors=True)


@contextlib.contextmanager
def removed_on_failure(staging: Path) -> Iterator[None]:
    """Leave nothing half-written behind what fails; what dies is swept by whoever holds the case next."""
    try:
        yield
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def replace_folder(new: Path, place: Path) -> None:
    """Rename ``new`` to ``place``; what stood there before goes, or stays where that fails."""
    place.parent.mkdir(parents=True, exist_ok=True)
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    try:
        new.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
    flush_folder(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        elif path.is_dir():
            flush_folder(path)
    flush_folder(folder)
