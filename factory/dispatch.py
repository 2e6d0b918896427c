"""A sealed folder to its next place, a job to an inbox or a record to a shelf: whole or not at all, and once however often."""

from __future__ import annotations

import shutil
from pathlib import Path

from batchone.pipeline.disk import reported
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.store import flush_tree


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


def _copy(source: Path, part: Path) -> None:
    part.mkdir()
    for path in sorted(source.rglob("*")):
        place = part / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            shutil.copy2(path, place)
