"""Pack a study and its order into a parcel: de-identified, in a stable order, under our own names; the same every time."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import logging
import os
import re
import secrets
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchone.design.families import load_families
from batchone.pipeline.disk import reported
from batchone.pipeline.errors import OrderError, SeriesError
from batchone.pipeline.hospital.anonymise import Anonymised, Anonymiser
from batchone.pipeline.hospital.keep import Keep, Relink
from batchone.pipeline.hospital.sendable import Advice, Sendable, sendable
from batchone.pipeline.intake.deidentify import read_identity
from batchone.pipeline.intake.header import Header
from batchone.pipeline.intake.package import combined_digest, content_digest, in_threads
from batchone.pipeline.intake.parcel_file import (
    MANIFEST,
    MAX_PARCEL_BYTES,
    ORDER,
    STUDY,
    SUFFIX,
    Entry,
    ParcelManifest,
    file_digest,
    member,
    study_case,
)
from batchone.pipeline.markups.order_file import read_order_file
from batchone.pipeline.order import Order, order_text

Progress = Callable[[int, int], None]
_STALE_S = 60.0  # a file this old that nobody holds was left by a process that died
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A packed study: ``<digest>.batchone``. ``left_out`` counts what is not in it, by kind; ``advice`` is for the sender."""

    path: Path
    digest: str
    case: str
    bytes: int
    images: int
    left_out: tuple[tuple[str, int], ...] = ()
    advice: tuple[Advice, ...] = ()


def pack(study: Path, keep: Keep, *, order: Path | None, case: str = "", progress: Progress = lambda done, total: None) -> Parcel:
    """De-identify a study and pack it with its order into the keep's outbox; remember what leads back.

    Parameters
    ----------
    study
        A folder, a zip or one file.
    order
        The order; None sends the study alone.
    case
        The case id, that of the order where there is one; empty for a study alone: it is made from the study's pseudonym.
    progress
        Called with the images done and their number.

    Returns
    -------
    The parcel. The same study and order in the same keep give the same bytes.

    Raises
    ------
    SeriesError
        The study holds no CT, CT of several patients or examinations, or an image that cannot be de-identified.
    OrderError
        The order is not valid, is for another case, or names the patient.
    MachineError
        The keep's disk is full or refuses.
    """
    read = None if order is None else _read_order(order, case)
    chosen = _chosen(study, read)
    rules = Anonymiser(keep)
    absent = _stand_in(chosen.headers)
    study_uid = rules.uid(chosen.headers[0].text("StudyInstanceUID") or f"no StudyInstanceUID in {absent}")
    case = read.case if read else case or study_case(study_uid)
    headers = sorted(chosen.headers, key=lambda one: _rank(rules, one))
    work = _Packing(rules, case, study_uid, read, chosen, absent)
    _sweep(keep.outbox)
    part = keep.outbox / f".{secrets.token_hex(8)}.part"
    try:
        with reported("the parcel in the keep's outbox"):
            work.write(part, headers, progress)
            digest = file_digest(part)
            size = part.stat().st_size
            keep.remember(work.relink(headers))  # before the parcel can be seen: none leaves that could not be led back
            place = keep.outbox / f"{digest}{SUFFIX}"
            part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    _log.info("case %s: packed %d images, %d bytes", case, len(headers), size)
    return Parcel(place, digest, case, size, len(headers), tuple(chosen.left_out.items()), chosen.advice)


@dataclass(slots=True)
class _Packing:
    rules: Anonymiser
    case: str
    study_uid: str
    order: Order | None
    chosen: Sendable
    absent: str
    entries: dict[str, Entry] = dataclasses.field(default_factory=dict)
    uids: dict[str, str] = dataclasses.field(default_factory=dict)
    first: Anonymised | None = None

    def write(self, part: Path, headers: list[Header], progress: Progress) -> None:
        with part.open("xb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as opened:
            fcntl.flock(stream, fcntl.LOCK_EX)
            total = 0
            for number, header in enumerate(headers, start=1):
                content = header.origin.read(0, header.origin.size)
                done = self.rules.anonymise(content, self.case, absent=self.absent, zero_us=self.chosen.zero_us)
                self.first = self.first or done
                if self.order is not None and number == 1:
                    self._put(opened, ORDER, _order_bytes(self.order, done.words))
                self.uids.update(done.uids)
                self._put(opened, f"{STUDY}/{number:06d}.dcm", done.content)
                total += len(done.content)
                _refuse_too_large(total)
                progress(number, len(headers))
            manifest = ParcelManifest(
                case=self.case,
                study_uid=self.study_uid,
                images=len(headers),
                entries=self.entries,
                left_out=self.chosen.left_out,
                warnings=tuple(one.there for one in self.chosen.advice if one.certain),
            )
            opened.writestr(member(MANIFEST), manifest.text())
        with part.open("rb") as written:
            os.fsync(written.fileno())

    def _put(self, opened: zipfile.ZipFile, name: str, content: bytes) -> None:
        opened.writestr(member(name), content)
        self.entries[name] = Entry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))

    def relink(self, headers: list[Header]) -> Relink:
        assert self.first is not None
        uids = tuple(sorted(self.uids.items()))
        return Relink(self.case, read_identity(headers), uids, self.first.attributes, self.first.date_shift_days)


def _sweep(outbox: Path) -> None:
    """Remove what dead processes left half-packed; a living one holds its file."""
    for part in sorted(outbox.glob(".*.part")):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), part.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - part.stat().st_mtime > _STALE_S:
                part.unlink()


def _stand_in(headers: Sequence[Header]) -> str:
    """What a study is known by where its images carry no UID of study or series: the digest of all of them."""
    if all(header.text("StudyInstanceUID") and header.text("SeriesInstanceUID") for header in headers):
        return ""
    return combined_digest(in_threads(content_digest, [header.origin for header in headers]))


def _rank(rules: Anonymiser, header: Header) -> tuple[str, str]:
    """The order of the images in a parcel; it depends neither on their names nor on the file system."""
    uid = header.text("SOPInstanceUID")
    return rules.uid(header.text("SeriesInstanceUID")), rules.uid(uid) if uid else content_digest(header.origin).hex()


def _chosen(study: Path, order: Order | None) -> Sendable:
    if order is None:
        return sendable(study)
    protocol = load_families()[order.device].limits.protocol
    return sendable(study, due=order.due.date(), advised_days=protocol.warn_scan_age_days)


def _read_order(path: Path, case: str) -> Order:
    order = read_order_file(path, {name: family.parameters for name, family in load_families().items()})
    if case and order.case != case:
        raise OrderError(f"the order is for case {order.case}, the parcel for case {case}", hint="give the order of this case")
    return order


def _order_bytes(order: Order, words: Iterable[str]) -> bytes:
    """The order as it travels; refused when it names the patient."""
    text = order_text(order)
    plain = text.upper()
    found = sum(1 for word in words if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", plain))
    if found:
        raise OrderError(
            f"the order holds {found} names or numbers of the patient or the staff in the images, must be 0",
            hint="name patient and prescriber by code only: look at case, prescriber and characteristics",
        )
    return text.encode()


def _refuse_too_large(total: int) -> None:
    if total > MAX_PARCEL_BYTES:
        raise SeriesError(
            f"the study is more than {MAX_PARCEL_BYTES / 1e6:.0f} MB, at most {MAX_PARCEL_BYTES / 1e6:.0f} MB",
            hint="send the series that is needed",
        )
