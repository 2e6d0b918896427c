"""A sealed folder to its next place, a job to an inbox or a record to a shelf: whole or not at all, and once however often."""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batchone.pipeline.disk import reported, waited_for
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import EVENTS, SHELVED, append_event
from batchone.pipeline.job.sums import SUMS, read_sums
from batchone.pipeline.store import flush_tree, sha256_file

RECORDS: Final = "records"  # folder of a cell and of a site: device records


def dispatch(job: Path, inbox: Path) -> Path:
    """Copy a job folder, a plate or a record into ``inbox`` by one rename; what lies there already stays.

    The folder of ``inbox`` must be there: of a site that cannot be reached nothing is made anew.

    Raises
    ------
    MachineError
        Another one lies there under this name, or one that is not whole; or the folder cannot be written.
    """
    with _alone(inbox):
        return _placed(job, inbox)


def shelve(record: Path, site: Path, *, cell: str) -> Path:
    """Copy a closed record to a site's shelf as :func:`dispatch` does; the site's events tell of it once, before it is there.

    Parameters
    ----------
    cell
        Whose record it is.

    Raises
    ------
    MachineError
        As :func:`dispatch`.
    """
    shelf = site / RECORDS
    with _alone(shelf):
        if not (shelf / record.name).exists():
            what, digest = f"record {record.name}: {SHELVED}", sha256_file(record / SUMS)
            with reported("the site's events"):
                if not _is_told(site / EVENTS, what, digest):
                    when = dt.datetime.now(dt.UTC).isoformat()
                    append_event(site / EVENTS, who=cell, what=what, when=when, digest=digest)
        return _placed(record, shelf)


@contextmanager
def _alone(inbox: Path) -> Iterator[None]:
    with reported(f"folder {inbox.name}"):
        inbox.mkdir(exist_ok=True)
    with waited_for(inbox, f"folder {inbox.name}"):
        yield


def _placed(job: Path, inbox: Path) -> Path:
    place = inbox / job.name
    with reported(f"folder {inbox.name}"):
        for left in inbox.glob(f".{job.name}.*part"):  # of one that died: nobody else copies while we hold the folder
            shutil.rmtree(left, ignore_errors=True)
        if not place.exists():
            part = inbox / f".{job.name}.{secrets.token_hex(4)}.part"
            _copy(job, part)
            flush_tree(part)
            part.rename(place)
        if (place / SUMS).read_bytes() != (job / SUMS).read_bytes():
            raise MachineError(f"another one lies in {inbox.name} as {job.name}", hint="take it out, then dispatch again")
        odd = [name for name in _names(job) if not (place / name).is_file()]
        listed = read_sums((place / SUMS).read_bytes())
        odd += [name for name, digest in listed.items() if name not in odd and sha256_file(place / name) != digest]
        if odd:
            raise MachineError(
                f"{job.name} in {inbox.name} is not whole: {odd[0]} is missing or was changed",
                hint="take it out, then dispatch again",
            )
    return place


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _is_told(events: Path, what: str, digest: str) -> bool:
    """Whether a site's events tell of it: who died between event and record does not tell twice."""
    if not events.is_file():
        return False
    with events.open("rb") as stream:
        return any(f'"{what}"'.encode() in line and f'"{digest}"'.encode() in line for line in stream)


def _copy(source: Path, part: Path) -> None:
    part.mkdir()
    for path in sorted(source.rglob("*")):
        place = part / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            shutil.copy2(path, place)
