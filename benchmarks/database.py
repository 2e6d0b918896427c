"""A PostgreSQL server for a benchmark, and what a site's engine does to it."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from batchone.pipeline.engine.database import open_database


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of a server of one's own: the one that the tests start too."""
    spec = importlib.util.spec_from_file_location("postgres", Path(__file__).parents[1] / "tests" / "postgres.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.postgres() as server:
        yield server.url


def emptied(url: str) -> None:
    """Drop the engine's tables: a site that begins anew may have cases of the same names."""
    database = open_database(url)
    with database.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA IF EXISTS dbos CASCADE"))
        connection.execute(sa.text("DROP TABLE IF EXISTS batchone_worker"))
    database.dispose()


@dataclass(frozen=True, slots=True)
class Written:
    """What a database has done since it began: transactions, rows written, bytes of its log, bytes that the tables take now."""

    transactions: float
    rows: float
    log_bytes: float
    table_bytes: float

    def since(self, before: Written) -> Written:
        """What came since ``before``."""
        return Written(
            self.transactions - before.transactions,
            self.rows - before.rows,
            self.log_bytes - before.log_bytes,
            self.table_bytes - before.table_bytes,
        )

    def without(self, idle: Written, seconds: float) -> Written:
        """The same without so many seconds of idleness; what the tables take stays, for idleness only fills them."""
        return Written(
            self.transactions - seconds * idle.transactions,
            self.rows - seconds * idle.rows,
            self.log_bytes - seconds * idle.log_bytes,
            self.table_bytes,
        )

    def each(self, count: float) -> Written:
        """The same for one of ``count``."""
        return Written(self.transactions / count, self.rows / count, self.log_bytes / count, self.table_bytes / count)


def written(url: str) -> Written:
    """What the database has done until now; counts of others may lag by a second."""
    database = open_database(url)
    with database.connect() as connection:
        text = (
            "SELECT xact_commit, tup_inserted + tup_updated + tup_deleted, pg_current_wal_lsn() - '0/0'::pg_lsn,"
            " pg_database_size(datname) FROM pg_stat_database WHERE datname = current_database()"
        )
        row = connection.execute(sa.text(text)).one()
    database.dispose()
    return Written(*(float(one) for one in row))
