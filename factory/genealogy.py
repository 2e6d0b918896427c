"""Genealogy: which devices a key leads to, and what went into each, from the device records of a site."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchone.factory.record import RECORD, DeviceRecord, verify_record
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.events import CASES, REMOVED

_NONE_OF_LABELS = str.maketrans("", "", "[]()\x1d")
_SCANNER = re.compile(r"\A\][A-Za-z][0-9A-Za-z]")  # what a scanner puts before it: the symbology (ISO/IEC 15424), ]d2 of ours
_LOTS = re.compile(r"\b(lots?|batch|batches)\b")  # facts that name a lot, as processes name them (lot_keys)


@dataclass(frozen=True, slots=True)
class Source:
    """What a case says of its scan: images and the digest of their UIDs; None and "" where the case does not say it any more."""

    case: str
    job: str
    images: int | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Ancestry:
    """One device record, where it lies, and the scans of its jobs: of those that the key names, of all where it names none."""

    record: DeviceRecord
    folder: Path
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """What a key led to: as what it was found, and the records by the time of their print.

    ``unread`` are records that are not whole, which may be what is looked for.
    """

    key: str
    found_as: tuple[str, ...]
    devices: tuple[Ancestry, ...]
    unread: tuple[str, ...]


def trace(key: str, site: Path, records: Sequence[Path]) -> Trace:
    """Find the records that a key leads to.

    Parameters
    ----------
    key
        A case, a job, a plate, a record, a lot, a machine or its serial number, a cell, a person who signed, a UDI in any of its
        spellings, the UID of a scan's image, study or series, or a time window ``FROM..TO`` of dates or times.
    site
        The site's folder: its cases know the images.
    records
        Folders of device records.

    Raises
    ------
    InputError
        A time window that is none.
    """
    window = _window(key)
    cases = _cases_of_uid(site, key)
    found: dict[str, Ancestry] = {}
    found_as: set[str] = set()
    unread = []
    for folder in sorted({path.parent for place in records for path in place.glob(f"*/{RECORD}")}):
        try:
            record = verify_record(folder, allowed=None)  # whole; whose keys these are is for `batchone verify` to prove
        except (MachineError, OSError) as error:
            unread.append(f"{folder.name}: {error}")
            continue
        hits = set(_hits(record, key, window))
        hits |= {"image of a scan"} if cases & {body.case for body in record.as_built.bodies} else set()
        if hits:
            found_as |= hits
            found.setdefault(folder.name, Ancestry(record, folder, _sources(record, key, cases, site)))
    devices = sorted(found.values(), key=lambda one: (one.record.as_built.started, one.folder.name))
    return Trace(key, tuple(sorted(found_as)), tuple(devices), tuple(unread))


def _hits(record: DeviceRecord, key: str, window: tuple[dt.datetime, dt.datetime] | None) -> Iterator[str]:
    built = record.as_built
    if window is not None:
        if built.started <= window[1] and built.ended >= window[0]:
            yield "time window"
        return
    names = {
        "case": {body.case for body in built.bodies},
        "job": {body.job for body in built.bodies},
        "job or plate": {record.name},
        "record": {f"{record.name}-{record.attempt}"},
        "lot": {built.lot.lot, *(value for name, value in built.facts.items() if _LOTS.search(name))},
        "machine": {built.machine, built.serial},
        "cell": {built.cell},
        "person": {step.name for step in record.steps},
    }
    yield from (name for name, values in names.items() if key in values)
    plain = _SCANNER.sub("", key).translate(_NONE_OF_LABELS)
    if record.udi and plain == record.udi.translate(_NONE_OF_LABELS):
        yield "UDI"


def _window(key: str) -> tuple[dt.datetime, dt.datetime] | None:
    if ".." not in key:
        return None
    ends = []
    for text, last in zip(key.split("..", 1), (False, True), strict=True):
        try:
            when = dt.datetime.fromisoformat(text)
        except ValueError as error:
            raise InputError(f"{text!r} is no date or time", hint="write FROM..TO, as 2026-11-01..2026-11-30") from error
        if last and "T" not in text and ":" not in text:
            when += dt.timedelta(days=1) - dt.timedelta(microseconds=1)  # the whole of the last day
        ends.append(when if when.tzinfo is not None else when.replace(tzinfo=dt.UTC))
    return ends[0], ends[1]


def _cases_of_uid(site: Path, key: str) -> set[str]:
    """Cases whose scan holds an image, a study or a series of this UID, under the hospital's or our own names."""
    if not (key.count(".") >= 3 and all(part.isdigit() for part in key.split("."))):
        return set()
    found = set()
    for path in (site / CASES).glob("*/intake/identity.json"):
        identity = json.loads(path.read_bytes())
        if key in {*identity.get("instance_uids", ()), identity.get("study_instance_uid"), identity.get("series_instance_uid")}:
            found.add(path.parent.parent.name)
    return found


def _manifest(site: Path, case: str, job: str) -> Path:
    """The ``job.json`` of a job, also of an earlier revision and of a case whose time was over."""
    places = (f"{CASES}/{case}", f"{CASES}/{case}/revisions/*", f"{REMOVED}/{case}.*", f"{REMOVED}/{case}.*/revisions/*")
    found = (path for place in places for path in sorted(site.glob(f"{place}/job/{job}/job.json")))
    return next(found, site / CASES / case / "job" / job / "job.json")


def _sources(record: DeviceRecord, key: str, cases: set[str], site: Path) -> tuple[Source, ...]:
    jobs = tuple(dict.fromkeys((body.case, body.job) for body in record.as_built.bodies))
    asked = tuple((case, job) for case, job in jobs if case in cases or key in (case, job))
    return tuple(_source(case, job, site) for case, job in asked or jobs)


def _source(case: str, job: str, site: Path) -> Source:
    try:
        told = json.loads(_manifest(site, case, job).read_bytes())
    except (OSError, json.JSONDecodeError):
        return Source(case, job)
    dicom = told.get("dicom") or {}
    return Source(case, job, dicom.get("images"), str(told.get("scan_sources_digest", "")))
