"""A sealed folder to its next place, a job to an inbox or a record to a shelf: whole or not at all, and once however often."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Final

from batchone.pipeline.disk import reported
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import EVENTS, SHELVED, append_event
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.store import flush_tree, sha256_file

RECORDS: Final = "records"  # folder of a cell and of a site: device records


def dispatch(job: Path, inbox: Path) -> Path:
    """Copy a job folder, a plate or a record into ``inbox`` by one rename; what lies there already stays.

    The folder of ``inbox`` must be there: of a site that cannot be reached nothing is made anew.

    Raises
    ------
    MachineError
        Another one lies there under this name, or the folder cannot be written.
    """
    place = inbox / job.name
    with reported(f"folder {inbox.name}"):
        if not place.exists():
            part = inbox / f".{job.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            inbox.mkdir(exist_ok=True)
            _copy(job, part)
            flush_tree(part)
            part.rename(place)
        if (place / SUMS).read_bytes() != (job / SUMS).read_bytes():
            raise MachineError(f"another one lies in {inbox.name} as {job.name}", hint="take it out, then dispatch again")
    return place


def shelve(record: Path, site: Path, *, cell: str) -> Path:
    """Copy a closed record to a site's shelf as :func:`dispatch` does; the site's events tell of it before it is there.

    Parameters
    ----------
    cell
        Whose record it is.

    Raises
    ------
    MachineError
        As :func:`dispatch`.
    """
    if not (site / RECORDS / record.name).exists():
        when, digest = dt.datetime.now(dt.UTC).isoformat(), sha256_file(record / SUMS)
        with reported("the site's events"):
            append_event(site / EVENTS, who=cell, what=f"record {record.name}: {SHELVED}", when=when, digest=digest)
    return dispatch(record, site / RECORDS)


def _copy(source: Path, part: Path) -> None:
    part.mkdir()
    for path in sorted(source.rglob("*")):
        place = part / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            shutil.copy2(path, place)
