"""A released job into a cell's inbox: whole or not at all, and once however often it is sent."""

from __future__ import annotations

import shutil
from pathlib import Path

from batchone.pipeline.disk import reported
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.store import flush_tree


def dispatch(job: Path, inbox: Path) -> Path:
    """Copy a job folder or a plate into an inbox by one rename; what lies there already stays.

    Raises
    ------
    MachineError
        Another job lies there under this name, or the inbox cannot be written.
    """
    place = inbox / job.name
    with reported(f"inbox {inbox.name}"):
        if not place.exists():
            part = inbox / f".{job.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            inbox.mkdir(parents=True, exist_ok=True)
            shutil.copytree(job, part)
            flush_tree(part)
            part.rename(place)
        if (place / SUMS).read_bytes() != (job / SUMS).read_bytes():
            raise MachineError(f"another job lies in the inbox as {job.name}", hint="take it out, then dispatch again")
    return place
