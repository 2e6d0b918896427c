"""``<site>/telemetry.sqlite``: what the machines of a site told lately. The intake of telemetry writes it, the page reads it.

A session is one build on one machine. Its samples count from 0; each is there once. ``filed``: samples below it lie in files of
their own too (``<site>/telemetry/<machine>/<session>/``) but those that came late (``late``: the hours that are written again);
``cut``: those below it are in these files alone, but the last of all.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from batchone.pipeline.errors import MachineError

FILE: Final = "telemetry.sqlite"
FOLDER: Final = "telemetry"
State = Literal["idle", "purging", "heating", "recoating", "exposing", "paused", "cooling", "done", "failed"]
Moment = Literal["powder", "exposure"]
MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)
_BUSY_S: Final = 10.0  # project default: how long another process may hold the file
_LOG_PAGES: Final = 16_384  # numerical: of 4 kB; a page that is written each second goes to its place once for many of them
_TABLES: Final = (  # what each version added
    """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, machine TEXT NOT NULL, session TEXT NOT NULL, profile TEXT NOT NULL, process TEXT NOT NULL,
    layers INTEGER NOT NULL, period_s REAL NOT NULL, born_s REAL NOT NULL,
    heard_s REAL NOT NULL, received INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT -1, ended TEXT NOT NULL DEFAULT '',
    told INTEGER, filed INTEGER NOT NULL DEFAULT 0, cut INTEGER NOT NULL DEFAULT 0, UNIQUE (machine, session)) STRICT;
CREATE TABLE measured (of INTEGER PRIMARY KEY, names TEXT NOT NULL, units TEXT NOT NULL) STRICT;
CREATE TABLE samples (
    session INTEGER NOT NULL, number INTEGER NOT NULL, heard_s REAL NOT NULL, time_s REAL NOT NULL, state TEXT NOT NULL,
    layer INTEGER NOT NULL, numbers BLOB NOT NULL, PRIMARY KEY (session, number)) STRICT, WITHOUT ROWID;
CREATE TABLE alarms (
    session INTEGER NOT NULL, layer INTEGER NOT NULL, name TEXT NOT NULL, time_s REAL NOT NULL, heard_s REAL NOT NULL,
    PRIMARY KEY (session, layer, name)) STRICT, WITHOUT ROWID;
CREATE TABLE pictures (
    session INTEGER NOT NULL, moment TEXT NOT NULL, layer INTEGER NOT NULL, heard_s REAL NOT NULL, png BLOB NOT NULL,
    PRIMARY KEY (session, moment)) STRICT;
CREATE TABLE refused (
    machine TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, heard_s REAL NOT NULL,
    PRIMARY KEY (machine, reason)) STRICT, WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
""",
    "CREATE TABLE late (session INTEGER NOT NULL, part INTEGER NOT NULL, PRIMARY KEY (session, part)) STRICT, WITHOUT ROWID;",
)
_VERSION: Final = len(_TABLES)
_SESSION: Final = (
    "SELECT id, machine, session, profile, process, layers, period_s, names, units, born_s, heard_s, received, last, ended, "
    "told, filed, cut FROM sessions JOIN measured ON of = id"
)


@dataclass(frozen=True, slots=True)
class Session:
    """One build on one machine, as far as it was heard of.

    Attributes
    ----------
    names, units
        Of its values, in the order of the numbers of its samples.
    born_s, heard_s
        By the intake's clock, seconds since 1970: the first word of it, and the last.
    received, last
        How many different samples came, and the highest number among them, -1 without any.
    ended
        ``ended``, ``stopped``, ``lost`` (for now, perhaps), or "" while it goes on.
    told
        How many samples the machine says that there are; None before its end.
    filed, cut
        See the module.
    """

    id: int
    machine: str
    session: str
    profile: str
    process: str
    layers: int
    period_s: float
    names: tuple[str, ...]
    units: tuple[str, ...]
    born_s: float
    heard_s: float
    received: int = 0
    last: int = -1
    ended: str = ""
    told: int | None = None
    filed: int = 0
    cut: int = 0

    @property
    def missing(self) -> int:
        """How many samples did not come, of those that are known to be."""
        return (self.last + 1 if self.told is None else self.told) - self.received


@dataclass(frozen=True, slots=True)
class Row:
    """One sample: number, when it was heard (seconds since 1970), the machine's time, state, layer (-1: none), its numbers."""

    number: int
    heard_s: float
    time_s: float
    state: str
    layer: int
    numbers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a machine noticed, in which layer, when by its own time, and when it was heard."""

    layer: int
    name: str
    time_s: float
    heard_s: float


@dataclass(frozen=True, slots=True)
class MachineNow:
    """A machine by its last session: the last samples, alarms (the last first), of which layer there is a picture."""

    session: Session
    rows: tuple[Row, ...]
    alarms: tuple[Alarm, ...]
    pictures: dict[str, int] = field(default_factory=dict)


class Telemetry:
    """The file, opened; one thread at a time.

    Parameters
    ----------
    site
        The site's folder.
    reads
        Only read: the file must be there.

    Raises
    ------
    MachineError
        The file cannot be used, or a newer version wrote it.
    """

    def __init__(self, site: Path, *, reads: bool = False) -> None:
        try:
            if reads:
                address = f"{(site / FILE).resolve().as_uri()}?mode=ro"
                self.opened = sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            else:
                site.mkdir(parents=True, exist_ok=True)
                (site / FILE).touch(mode=0o600)
                self.opened = sqlite3.connect(site / FILE, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
                self.opened.execute("PRAGMA journal_mode = WAL")
                self.opened.execute("PRAGMA synchronous = FULL")  # what is confirmed is on the disk
                self.opened.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
                self._make()
        except (sqlite3.Error, OSError) as error:
            raise MachineError(f"{FILE} cannot be used: {error}", hint="check the site's folder and its rights") from error

    def _make(self) -> None:
        with self.transaction():
            (version,) = self.opened.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise MachineError(
                    f"{FILE} has version {version}, this batchone knows {_VERSION}", hint="install the newer batchone"
                )
            if version < _VERSION:
                for statement in filter(str.strip, "".join(_TABLES[version:]).split(";")):
                    self.opened.execute(statement)
                self.opened.execute(f"PRAGMA user_version = {_VERSION}")

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what happens inside, or nothing."""
        self.opened.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self.opened.in_transaction:  # a full disk ends it by itself
                self.opened.execute("ROLLBACK")
            raise
        self.opened.execute("COMMIT")

    def sessions(self, where: str = "", *given: object) -> list[Session]:
        """Those of which ``where`` is so, by the order in which they were born here."""
        rows = self.opened.execute(f"{_SESSION} {where} ORDER BY id", given).fetchall()
        return [_session(row) for row in rows]

    def session(self, machine: str, name: str) -> Session | None:
        """One by its names."""
        return next(iter(self.sessions("WHERE machine = ? AND session = ?", machine, name)), None)

    def add(self, session: int, row: Row) -> bool:
        """Keep a sample; False where it is there already."""
        values = (
            session,
            row.number,
            row.heard_s,
            row.time_s,
            row.state,
            row.layer,
            struct.pack(f"<{len(row.numbers)}d", *row.numbers),
        )
        return self.opened.execute("INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?)", values).rowcount == 1

    def rows(self, session: int, low: int, high: int) -> list[Row]:
        """Its samples from ``low`` to below ``high``, in their order."""
        found = self.opened.execute(
            "SELECT number, heard_s, time_s, state, layer, numbers FROM samples WHERE session = ? AND number >= ? AND number < ? "
            "ORDER BY number",
            (session, low, high),
        )
        return [Row(row[0], row[1], row[2], row[3], row[4], struct.unpack(f"<{len(row[5]) // 8}d", row[5])) for row in found]

    def refused(self) -> list[tuple[str, str, int, float]]:
        """Of which machine, why, how many messages were refused, and when the last."""
        return self.opened.execute("SELECT machine, reason, count, heard_s FROM refused ORDER BY machine, reason").fetchall()


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of the machines of a site: those that were asked for, by name, how many there are, and what was refused."""

    machines: tuple[MachineNow, ...] = ()
    count: int = 0
    refused: tuple[tuple[str, str, int, float], ...] = ()


def read_machines(site: Path, *, rows: int, alarms: int, find: str = "", most: int = 1_000_000) -> Heard:
    """The machines of a site; none where nothing was heard.

    Parameters
    ----------
    rows, alarms
        How many of the last ones of each machine.
    find
        What its name holds, in small or capital letters.
    most
        How many machines.

    Raises
    ------
    MachineError
        The file cannot be read.
    """
    if not (site / FILE).is_file():
        return Heard()
    try:
        with Telemetry(site, reads=True) as found:
            last = found.sessions("WHERE id IN (SELECT max(id) FROM sessions GROUP BY machine)")
            named = sorted((one for one in last if find.lower() in one.machine.lower()), key=lambda one: one.machine)
            shown = tuple(_now(found, one, rows, alarms) for one in named[:most])
            return Heard(shown, len(last), tuple(found.refused()))
    except sqlite3.Error as error:
        raise MachineError(f"{FILE} cannot be read: {error}", hint="check the site's folder and its rights") from error


def read_picture(site: Path, machine: str, moment: str) -> bytes | None:
    """The last picture (PNG) of a machine's last session; None where there is none.

    Raises
    ------
    MachineError
        The file cannot be read.
    """
    if not (site / FILE).is_file():
        return None
    query = "SELECT png FROM pictures WHERE moment = ? AND session = (SELECT max(id) FROM sessions WHERE machine = ?)"
    try:
        with closing(Telemetry(site, reads=True).opened) as opened:
            found = opened.execute(query, (moment, machine)).fetchone()
    except sqlite3.Error as error:
        raise MachineError(f"{FILE} cannot be read: {error}", hint="check the site's folder and its rights") from error
    return None if found is None else bytes(found[0])


def _now(found: Telemetry, session: Session, rows: int, alarms: int) -> MachineNow:
    told = found.opened.execute(
        "SELECT layer, name, time_s, heard_s FROM alarms WHERE session = ? ORDER BY layer DESC, name LIMIT ?",
        (session.id, alarms),
    )
    pictures = found.opened.execute("SELECT moment, layer FROM pictures WHERE session = ?", (session.id,))
    last = tuple(found.rows(session.id, session.last + 1 - rows, session.last + 1))
    return MachineNow(session, last, tuple(Alarm(*row) for row in told), dict(pictures.fetchall()))


def _session(row: Sequence[object]) -> Session:
    values = list(row)
    values[7:9] = (tuple(json.loads(str(text))) for text in row[7:9])
    return Session(*values)  # type: ignore[arg-type]
