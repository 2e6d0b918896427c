"""What a site no longer keeps: ``[retention]`` of site.toml, in days since a case was released or cancelled.

Each removal is an event with the digest of what was removed; then it goes. Of a whole case there remain, under ``removed/``,
its events, the decisions on it, and of each job ``job.json``, ``SHA256SUMS`` and the signature, so that a job folder elsewhere
can still be proved to be the released one, and the chain of its events is whole. Device records (``records/``) stay: how long a
device must be traced is not for a case's days to say.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchone.pipeline.audit import removed_place
from batchone.pipeline.backup import sweep
from batchone.pipeline.clock.folder import ENDINGS
from batchone.pipeline.config import Retention
from batchone.pipeline.disk import disk, flush_folder, waited_for
from batchone.pipeline.events import CASES, EVENTS, REMOVED, TAKEN_AWAY, append_event, tell_site
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE
from batchone.pipeline.job.withdrawal import DECISIONS, read_decisions
from batchone.pipeline.store import CaseBusy, CaseFolder, flush_tree, sha256_file, write_atomic

IDENTITY = "identity.json"
KEPT_OF_A_JOB = ("job.json", SUMS, SUMS_SIGNATURE)
_KEPT_OF_A_SCAN = (IDENTITY, "scan.json", "stage.json")  # of intake/: the rest is the scan itself
WHO = "batchone"


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed of a case: how many files and bytes; ``digest``: SHA-256 over lines as in SHA256SUMS, one a file."""

    case: str
    what: Literal["identity", "scan", "case"]
    files: int
    size_bytes: int
    digest: str


def apply_retention(site: Path, days: Retention, *, now: dt.datetime) -> tuple[Removal, ...]:
    """Remove what has been kept long enough.

    A case that was neither released nor ended, or was changed since, keeps everything. One that a process works on is left for
    the next time.

    Raises
    ------
    MachineError
        The disk refuses.
    """
    done: list[Removal] = []
    with waited_for(site, "the site"), disk():
        sweep(site)
        for leftover in (site / REMOVED).glob(".*.old"):
            shutil.rmtree(leftover)
        for path in sorted((site / CASES).glob("*")):
            if path.is_dir() and not path.name.startswith("."):
                with contextlib.suppress(CaseBusy):
                    done += _of_case(site, CaseFolder(path), days, now)
    return tuple(done)


def _of_case(site: Path, case: CaseFolder, days: Retention, now: dt.datetime) -> Iterator[Removal]:
    released = _released(case)
    if released is None:
        return
    age_days = (now - released) / dt.timedelta(days=1)
    due = [age_days >= limit if limit is not None else False for limit in (days.identity_days, days.scan_days, days.case_days)]
    if not any(due):
        return
    with case.locked():
        if due[2]:
            yield _remove_case(site, case, age_days, now)
            return
        if due[0] and (files := _identity(case)):
            yield _remove(case, "identity", files, age_days, now)
        if due[1] and (files := _scan(case)):
            yield _remove(case, "scan", files, age_days, now)


def _released(case: CaseFolder) -> dt.datetime | None:
    """When the job of the device that the case holds now was packed, or a person ended the case."""
    ended = [one.time for one in read_decisions(case.path) if one.what in ENDINGS]
    if ended:
        return ended[0]
    job, check = case.record("job"), case.record("check")
    if job is None or check is None or job.get("taken", {}).get("CheckedDevice") != check.get("value_digest"):
        return None
    return dt.datetime.fromisoformat(str(job["started"]))


def _identity(case: CaseFolder) -> list[Path]:
    path = case.path / "intake" / IDENTITY
    return [path] if path.is_file() else []


def _scan(case: CaseFolder) -> list[Path]:
    intake, study = case.path / "intake", case.path / "study"
    found = [path for path in sorted(intake.glob("*")) if path.is_file() and path.name not in _KEPT_OF_A_SCAN]
    return found + [path for path in sorted(study.rglob("*")) if path.is_file()]


def _remove(case: CaseFolder, what: Literal["identity", "scan"], files: list[Path], age_days: float, now: dt.datetime) -> Removal:
    removal = _told(case, what, files, age_days, now)
    record = case.record("intake")
    if what == "identity" and record is not None:  # the rest of the intake stays a whole result
        gone = {str(path.relative_to(case.path / "intake")) for path in files}
        record["outputs"] = {name: digest for name, digest in record["outputs"].items() if name not in gone}
        _write_record(case, record)
    for path in files:
        path.unlink()
    for folder in {path.parent for path in files}:
        flush_folder(folder)
    return removal


def _write_record(case: CaseFolder, record: dict[str, Any]) -> None:
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(case.path / "intake" / "stage.json", text.encode())


def _remove_case(site: Path, case: CaseFolder, age_days: float, now: dt.datetime) -> Removal:
    jobs = [case.path / "job", *case.path.glob("revisions/*/job")]
    kept = {case.path / EVENTS, *(case.path / DECISIONS).glob("*.json")}
    kept |= {path for folder in jobs for name in KEPT_OF_A_JOB for path in folder.glob(f"*/{name}")}
    files = [path for path in sorted(case.path.rglob("*")) if path.is_file() and path not in kept and path.parent != case.path]
    files += [path for path in sorted(case.path.glob("*")) if path.is_file() and path not in kept and path.name[0] != "."]
    removal = _told(case, "case", files, age_days, now)
    tell_site(case.path)
    head = case.events_head
    place = removed_place(site, case.path.name, head)
    staging = place.with_name(f".{place.name}.old")
    for path in sorted(kept):
        (staging / path.relative_to(case.path)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, staging / path.relative_to(case.path))
    flush_tree(staging)
    staging.rename(place)
    flush_folder(place.parent)
    what, when = f"case {case.path.name}: {TAKEN_AWAY}", now.isoformat()
    append_event(site / EVENTS, who=WHO, what=what, when=when, digest=head)
    case.path.rename(staging)  # from here on the case is gone
    flush_folder(case.path.parent)
    shutil.rmtree(staging)
    return removal


def _told(
    case: CaseFolder, what: Literal["identity", "scan", "case"], files: list[Path], age_days: float, now: dt.datetime
) -> Removal:
    """Say in the case's events what goes, before it goes."""
    sums = "".join(f"{sha256_file(path)}  {path.relative_to(case.path).as_posix()}\n" for path in files)
    digest = hashlib.sha256(sums.encode()).hexdigest()
    size_bytes = sum(path.stat().st_size for path in files)
    text = f"{what} removed by retention: {len(files)} files, {size_bytes} bytes, {age_days:.0f} days after the release"
    append_event(case.path / EVENTS, who=WHO, what=text, when=now.isoformat(), digest=digest)
    return Removal(case.path.name, what, len(files), size_bytes, digest)
