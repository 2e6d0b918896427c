"""The engine's database: SQLite in the site's folder, or PostgreSQL where the site's settings name it."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from batchone.pipeline.config import SiteSettings
from batchone.pipeline.errors import MachineError

FILE = "engine.sqlite"
PASSWORD_VARIABLE = "BATCHONE_DATABASE_PASSWORD"  # noqa: S105 - the name of a variable
_OLDEST = (3, 42)  # the engine uses unixepoch('subsec') from Python 3.12 on; SQLite knows it since 3.42


def database_url(site: Path, settings: SiteSettings) -> str:
    """The URL that the engine takes; the password of PostgreSQL comes from the environment, never from the settings."""
    stated = settings.engine.database
    if stated is None:
        return f"sqlite:///{(site / FILE).resolve()}"
    url = sa.make_url(stated)
    password = os.environ.get(PASSWORD_VARIABLE)
    if password:
        url = url.set(password=password)
    return url.render_as_string(hide_password=False)


def open_database(url: str) -> sa.Engine:
    """Connect to the database at ``url``.

    Raises
    ------
    MachineError
        It does not answer.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        module: Any = sqlite3
        if sys.version_info >= (3, 12) and sqlite3.sqlite_version_info[:2] < _OLDEST:
            import pysqlite3 as module
        database = sa.create_engine(parsed, module=module, connect_args={"timeout": 30.0})
        sa.event.listen(database, "connect", _durable)
    else:
        arguments = {"connect_timeout": 10, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3}
        database = sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"), connect_args=arguments, pool_pre_ping=True, pool_size=20
        )
    try:
        with database.connect():
            pass
    except sa.exc.SQLAlchemyError as error:
        said = str(getattr(error, "orig", error)).splitlines()[0]
        raise MachineError(
            f"the database {parsed.render_as_string()} does not answer: {said}",
            hint=f"start it, or correct [engine] database in site.toml; the password comes from ${PASSWORD_VARIABLE}",
        ) from error
    return database


def _durable(connection: Any, record: Any) -> None:
    """A committed transaction survives a power cut; readers do not wait for the writer."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
