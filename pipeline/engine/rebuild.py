"""Forget all that the engine knows; the workers make it anew from the case folders."""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa

from batchone.pipeline.config import read_site_settings
from batchone.pipeline.engine.database import FILE, database_url, open_database
from batchone.pipeline.engine.heartbeat import DEAD_S, workers
from batchone.pipeline.errors import MachineError

_LOOK_S = 0.5
_SCHEMA = "dbos"  # where the engine keeps its tables in PostgreSQL


def rebuild(site: Path) -> str:
    """Remove the engine's tables of a site; no worker may run.

    Returns
    -------
    str
        What was removed.

    Raises
    ------
    MachineError
        A worker lives, or the database does not answer.
    """
    settings = read_site_settings(site)
    if settings.engine.database is None and not (site / FILE).exists():
        return "the engine has no tables yet"
    database = open_database(database_url(site, settings))
    try:
        if sa.inspect(database).has_table("batchone_worker"):
            alive = _living(database)
            if alive:
                raise MachineError(
                    f"{len(alive)} workers live at this site, must be 0: slot {', '.join(map(str, alive))}",
                    hint="stop them, and run this again",
                )
        if settings.engine.database is not None:
            with database.begin() as connection:
                connection.execute(sa.text(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE"))
                connection.execute(sa.text("DROP TABLE IF EXISTS batchone_worker"))
            return f"schema {_SCHEMA} was dropped; workers make it anew from the case folders"
    finally:
        database.dispose()
    for end in ("", "-wal", "-shm"):
        (site / f"{FILE}{end}").unlink(missing_ok=True)
    return f"{FILE} was removed; the worker makes it anew from the case folders"


def _living(database: sa.Engine) -> list[int]:
    """Slots that beat while one looks on, for as long as a worker may be silent; no clock of the day counts."""
    first = {one.slot: one for one in workers(database) if one.beat_s}
    until = time.monotonic() + DEAD_S
    while first and time.monotonic() < until:
        time.sleep(_LOOK_S)
        if alive := [one.slot for one in workers(database) if one.beat_s and one != first.get(one.slot)]:
            return alive
    return []
