"""``<site>/server.sqlite``: accounts, sessions, tokens and failed sign-ins; secrets lie there as digests only."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchone.pipeline.errors import MachineError

FILE = "server.sqlite"
_BUSY_S = 10.0  # how long another process may hold the file
_VERSION = 1
_TABLES = """
CREATE TABLE accounts (
    name TEXT PRIMARY KEY, password TEXT NOT NULL, roles TEXT NOT NULL, hospital TEXT NOT NULL,
    must_change INTEGER NOT NULL, disabled INTEGER NOT NULL, made_s REAL NOT NULL) STRICT;
CREATE TABLE sessions (
    digest TEXT PRIMARY KEY, account TEXT NOT NULL, csrf TEXT NOT NULL, begun_s REAL NOT NULL, seen_s REAL NOT NULL) STRICT;
CREATE TABLE tokens (
    id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, account TEXT NOT NULL, role TEXT NOT NULL, label TEXT NOT NULL,
    made_s REAL NOT NULL, expires_s REAL NOT NULL) STRICT;
CREATE TABLE failures (key TEXT PRIMARY KEY, count INTEGER NOT NULL, last_s REAL NOT NULL) STRICT;
"""


class Store:
    """The database of one server; safe from several threads.

    Parameters
    ----------
    site
        The site's folder; made when absent.

    Raises
    ------
    MachineError
        The file cannot be used, or a newer version wrote it.
    """

    def __init__(self, site: Path) -> None:
        self._lock = threading.RLock()
        try:
            site.mkdir(parents=True, exist_ok=True)
            (site / FILE).touch(mode=0o600)
            self._opened = sqlite3.connect(site / FILE, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._opened.row_factory = sqlite3.Row
            self._opened.execute("PRAGMA journal_mode = WAL")
            self._opened.execute("PRAGMA synchronous = FULL")
            self._make()
        except (sqlite3.Error, OSError) as error:
            raise MachineError(f"{FILE} cannot be used: {error}", hint="check the site's folder and its rights") from error

    def _make(self) -> None:
        with self.transaction() as opened:
            (version,) = opened.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise MachineError(
                    f"{FILE} has version {version}, this batchone knows {_VERSION}", hint="install the newer batchone again"
                )
            if version == 0:
                for statement in filter(str.strip, _TABLES.split(";")):
                    opened.execute(statement)
                opened.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what happens inside, or nothing; one at a time."""
        with self._lock:
            self._opened.execute("BEGIN IMMEDIATE")
            try:
                yield self._opened
            except BaseException:
                self._opened.execute("ROLLBACK")
                raise
            self._opened.execute("COMMIT")

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """What a query finds."""
        with self._lock:
            return self._opened.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> sqlite3.Row | None:
        """The first of what a query finds."""
        return next(iter(self.rows(query, *values)), None)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._opened.close()
