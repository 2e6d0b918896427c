"""The spool: studies on their way in, object by object, until each is whole.

Nothing in it is named by what was sent: studies and objects carry keyed hashes, so that no path leads out and a listing tells
nobody who was examined. An object is written beside its place, flushed to the disk and renamed; only then may the sender be
told that it arrived. A study is marked while a source brings it, and the mark stays when the source is cut off: half a study
is never taken for a whole one, not even after the power failed.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from batchone.pipeline.disk import reported, write_over
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.hospital.incoming import Incoming, Mismatch, Stray
from batchone.pipeline.intake.header import Header, Unreadable, read_header
from batchone.pipeline.intake.package import MAX_FILES, FileSource

CLASSES = (  # what is taken: CT, enhanced CT, legacy converted enhanced CT image storage (PS3.4, B.5)
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
CUT = "the sender was cut off, or one of its images could not be kept"
_UID = re.compile(r"[0-9.]{1,64}")
_NAME_DIGITS = 32  # hexadecimal digits of a keyed hash: 128 bit, no two studies of a hospital share them


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a spool takes at most; project defaults.

    An object of 2 GB is the largest enhanced CT that fits the intake, 6,000 objects what it reads of one study; 64 studies
    waiting at once are more than any order book of a workshop holds.
    """

    object_bytes: int = 2_000_000_000
    study_bytes: int = 8_000_000_000
    study_objects: int = MAX_FILES
    studies: int = 64


@dataclass(frozen=True, slots=True)
class Announced:
    """What a sender said that an object is; empty where it said nothing."""

    study: str = ""
    sop_class: str = ""
    sop_instance: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A study in a spool, as a person may see it: the start of its keyed name, its images, and why it waits."""

    study: str
    images: int
    reason: str


@dataclass(slots=True)
class _Study:
    """What is known of a study while the spool is open."""

    folder: Path
    objects: int = 0
    bytes: int = 0
    last_s: float = 0.0
    sources: set[str] = field(default_factory=set)
    judged: bool = False


class Spool:
    """The studies that wait for one site; open in one process at a time.

    Parameters
    ----------
    folder
        Made when absent, for its owner only.
    key
        Makes the names.
    bounds
        What it takes at most.
    """

    def __init__(self, folder: Path, key: bytes, bounds: Bounds = Bounds()) -> None:
        self.folder = folder
        self.bounds = bounds
        self._key = key
        self._lock = threading.Lock()
        self._studies: dict[str, _Study] = {}
        with reported("the spool"):
            for part in (folder / "incoming", folder / "studies"):
                _make(part)
            self._handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._handle)
                raise MachineError(
                    "another receiver works on this spool, at most 1 may", hint="end it, or give another --keep"
                ) from None
            self._resume()

    def close(self) -> None:
        """Let another process in."""
        os.close(self._handle)

    def name_of(self, study_uid: str) -> str:
        """The keyed name of a study."""
        return self._name("study", study_uid)

    def incoming(self, head: bytes = b"") -> Incoming:
        """A new object, to be written as it comes and then given to :meth:`store`, or discarded."""
        return Incoming(self.folder / "incoming" / f"{secrets.token_hex(16)}.part", head, limit=self.bounds.object_bytes)

    def holds(self, study_uid: str, sop_instance: str) -> bool:
        """Whether an image is there."""
        place = self.folder / "studies" / self.name_of(study_uid) / "objects" / f"{self._name('object', sop_instance)}.dcm"
        return place.is_file()

    def begin(self, study_uid: str, source: str) -> None:
        """A source goes on with a study of which something may be there; :meth:`end` follows."""
        with self._lock, reported("the spool"):
            study = self._studies.get(self.name_of(study_uid))
            if study is not None:
                _mark(study, source)

    def store(self, arrived: Incoming, source: str, announced: Announced = Announced()) -> str:
        """Keep an object that came whole; on return it is on the disk.

        Parameters
        ----------
        arrived
            Is used up, whatever happens.
        source
            Who brings it: a name that :meth:`end` is called with later.

        Returns
        -------
        str
            Its SOP instance UID.

        Raises
        ------
        InputError
            It is no CT image, or not the one that was announced.
        MachineError
            A bound of the spool is reached, or the disk is full.
        """
        try:
            arrived.finish()
            header = _header(arrived)
            study_uid, uid = header.text("StudyInstanceUID"), header.text("SOPInstanceUID")
            _refuse_other(header, announced)
            with self._lock, reported("the spool"):
                self._place(arrived, self.name_of(study_uid), self._name("object", uid), source)
            return uid
        finally:
            arrived.discard()

    def end(self, source: str, *, whole: bool) -> None:
        """A source is done; ``whole``: it said so itself, and everything that it brought was kept."""
        with self._lock:
            for study in self._studies.values():
                if source not in study.sources:
                    continue
                study.sources.discard(source)
                study.last_s = time.monotonic()
                if whole:
                    for mark in _entries(study.folder / "marks"):
                        if mark.name not in study.sources:
                            mark.unlink(missing_ok=True)

    def due(self, quiet_s: float) -> tuple[str, ...]:
        """Studies to be looked at: nobody brings them any more, nothing came for ``quiet_s``, not judged since."""
        now = time.monotonic()
        with self._lock:
            return tuple(
                name
                for name, study in sorted(self._studies.items())
                if study.objects and not study.sources and not study.judged and now - study.last_s >= quiet_s
            )

    def is_cut(self, name: str) -> bool:
        """Whether a source of the study was cut off and none has ended well since."""
        with self._lock:
            return next(_entries(self._studies[name].folder / "marks"), None) is not None

    def take(self, name: str) -> Path:
        """The study's images as a folder that nothing is added to any more; then :meth:`drop` or :meth:`give_back`."""
        with self._lock, reported("the spool"):
            study = self._studies[name]
            taken = study.folder / "taken"
            (study.folder / "objects").rename(taken)
            study.objects = study.bytes = 0
            return taken

    def drop(self, name: str) -> None:
        """The taken images arrived where they should: they are not needed any more."""
        with self._lock, reported("the spool"):
            study = self._studies[name]
            shutil.rmtree(study.folder / "taken")
            if not study.objects:
                shutil.rmtree(study.folder)
                del self._studies[name]

    def give_back(self, name: str, reason: str) -> None:
        """The taken images must wait, and why; nothing is tried again before something more arrives."""
        with self._lock, reported("the spool"):
            study = self._studies[name]
            fresh = study.objects > 0
            _merge(study.folder)
            _count(study)
            study.judged = not fresh
            _say(study.folder, reason)

    def wait(self, name: str, reason: str) -> None:
        """The study must wait for more images, and why."""
        with self._lock, reported("the spool"):
            self._studies[name].judged = True
            _say(self._studies[name].folder, reason)

    def retry(self) -> None:
        """Have all waiting studies looked at again."""
        with self._lock:
            for study in self._studies.values():
                study.judged = False

    def waiting(self) -> tuple[Waiting, ...]:
        """The studies in the spool."""
        with self._lock:
            return spooled(self.folder)

    def _resume(self) -> None:
        """Sweep half-written objects of a killed process; its studies go on where they were."""
        for part in _entries(self.folder / "incoming"):
            part.unlink(missing_ok=True)
        for folder in _entries(self.folder / "studies"):
            _merge(folder)
            study = _Study(folder, last_s=time.monotonic())
            _count(study)
            if study.objects:
                self._studies[folder.name] = study
            else:
                shutil.rmtree(folder)

    def _place(self, arrived: Incoming, name: str, object_name: str, source: str) -> None:
        study = self._studies.get(name) or self._new_study(name)
        place = study.folder / "objects" / f"{object_name}.dcm"
        before = place.stat().st_size if place.exists() else None
        objects = study.objects + (before is None)
        size = study.bytes + arrived.size - (before or 0)
        self._refuse_beyond(objects, size)
        if source not in study.sources:
            _mark(study, source)
        place.parent.mkdir(exist_ok=True, mode=0o700)
        arrived.path.rename(place)
        flush_folder(place.parent)
        study.objects, study.bytes = objects, size
        study.last_s, study.judged = time.monotonic(), False
        (study.folder / "reason").unlink(missing_ok=True)

    def _new_study(self, name: str) -> _Study:
        if len(self._studies) >= self.bounds.studies:
            raise MachineError(
                f"the spool holds {len(self._studies)} studies, at most {self.bounds.studies}",
                hint="see which wait for images, ask their senders, and delete what is not needed",
            )
        folder = self.folder / "studies" / name
        for part in (folder, folder / "objects", folder / "marks"):
            part.mkdir(exist_ok=True, mode=0o700)
        flush_folder(folder)
        flush_folder(folder.parent)
        self._studies[name] = study = _Study(folder)
        return study

    def _refuse_beyond(self, objects: int, size: int) -> None:
        if objects > self.bounds.study_objects:
            raise MachineError(
                f"a study has {objects} images, at most {self.bounds.study_objects}", hint="send one examination, or one series"
            )
        if size > self.bounds.study_bytes:
            raise MachineError(
                f"a study has {size / 1e6:.0f} MB, at most {self.bounds.study_bytes / 1e6:.0f} MB", hint="send one series"
            )

    def _name(self, kind: str, uid: str) -> str:
        return hmac.digest(self._key, f"{kind} {uid}".encode(), "sha256").hex()[:_NAME_DIGITS]


def spooled(folder: Path) -> tuple[Waiting, ...]:
    """The studies in a spool folder, whoever has it open."""
    return tuple(
        Waiting(study.name[:12], images, reason)
        for study in _entries(folder / "studies")
        if (images := sum(1 for part in ("objects", "taken") for _ in _entries(study / part)))
        for reason in [_reason(study)]
    )


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make(folder: Path) -> None:
    """Make a folder and those above it, each for its owner only."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)


def _header(arrived: Incoming) -> Header:
    hint = "ask the sender to export it again"
    try:
        header = read_header(FileSource(arrived.path, arrived.size))
    except Unreadable as error:
        raise InputError(f"an object is no readable DICOM image: {error}", hint=hint) from None
    if header is None:
        raise InputError("an object is no DICOM file", hint=hint)
    return header


def _refuse_other(header: Header, announced: Announced) -> None:
    again = "ask the sender to export it again"
    uids = header.text("StudyInstanceUID"), header.text("SOPInstanceUID")
    if not all(_UID.fullmatch(uid) for uid in uids):
        raise Stray("an object has no valid study or instance identifier", hint=again)
    if header.sop_class not in CLASSES:
        raise Mismatch("an object is no CT image", hint="send the CT images of the study alone")
    pairs = ((announced.study, uids[0]), (announced.sop_instance, uids[1]), (announced.sop_class, header.sop_class))
    if any(said not in ("", found) for said, found in pairs):
        raise Mismatch("an object is not the one that was announced", hint=again)


def _mark(study: _Study, source: str) -> None:
    """Note on the disk that a source brings a study."""
    mark = study.folder / "marks" / source
    mark.touch(mode=0o600)
    flush_folder(mark.parent)
    study.sources.add(source)


def _entries(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir()) if folder.is_dir() else ())


def _merge(folder: Path) -> None:
    """Put taken images back beside those that came since; of two of one name the later one stays."""
    objects = folder / "objects"
    objects.mkdir(exist_ok=True, mode=0o700)
    for one in _entries(folder / "taken"):
        place = objects / one.name
        if place.exists():
            one.unlink()
        else:
            one.rename(place)
    shutil.rmtree(folder / "taken", ignore_errors=True)
    flush_folder(objects)


def _count(study: _Study) -> None:
    sizes = [one.stat().st_size for one in _entries(study.folder / "objects")]
    study.objects, study.bytes = len(sizes), sum(sizes)


def _say(folder: Path, reason: str) -> None:
    write_over(folder / "reason", reason.encode(), mode=0o600)


def _reason(folder: Path) -> str:
    try:
        return (folder / "reason").read_text(encoding="utf-8")
    except OSError:
        return "images are still coming" if next(_entries(folder / "marks"), None) else "waits for its quiet time"
