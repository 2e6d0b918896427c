"""What machines tell, taken into a site's store: each sample once, on the disk before it is confirmed, and filed by build.

A message is refused, and counted by machine and reason, where it is not by its schema, of a machine that is not to be heard,
or of a build that was not born. A sample that does not come is counted as missing.
"""

from __future__ import annotations

import fcntl
import json
import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from pydantic import ValidationError

from batchone.factory.telemetry import write_part
from batchone.factory.twin.messages import MOST_BYTES, ROOT, Birth, Data, Death
from batchone.pipeline.config import TelemetrySettings
from batchone.pipeline.disk import disk
from batchone.pipeline.errors import MachineError
from batchone.pipeline.order import Model
from batchone.pipeline.telemetry import FILE, FOLDER, MOMENTS, Row, Session, Telemetry

PART: Final = 3600  # project default: samples in a file, an hour at one each second
MOST_MACHINES: Final = 1000  # project default: beyond it names are made up
_DAY_S: Final = 86_400.0
_SILENT_S: Final = _DAY_S  # project default: a build of which nothing comes for so long is filed as it is
_OVER: Final = ("ended", "stopped")
_NAME: Final = "([A-Za-z0-9_-]{1,64})"
_PLACE: Final = re.compile(rf"{ROOT}/machines/{_NAME}/(birth|data|death|picture)(?:/{_NAME}/([0-9]{{1,9}})/([a-z]+))?")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
Why = Literal[
    "topic", "too large", "schema", "not listed", "too many machines", "another machine", "filed before", "no birth", "values",
    "picture",
]  # fmt: skip
REASONS: Final[tuple[Why, ...]] = get_args(Why)

Message = TypeVar("Message", bound=Model)


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it came: its topic, its bytes, and whether the broker had kept it for whoever comes late."""

    topic: str
    payload: bytes
    retained: bool = False


class Refused(Exception):  # noqa: N818 - what happens to a message, and no failure of ours
    """A message is not taken: why, and of which machine where it is known."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


@contextmanager
def _stored() -> Iterator[None]:
    """Turn what the store says into the workshop's words."""
    try:
        yield
    except sqlite3.Error as error:
        raise MachineError(f"{FILE} does not take it: {error}", hint="is the site's disk full or faulty?") from error


class Intake:
    """The way into ``telemetry.sqlite`` and ``telemetry/`` of a site.

    Parameters
    ----------
    site
        The site's folder.
    settings
        Who is heard, and how long what is recent is kept.

    Raises
    ------
    MachineError
        The store cannot be used.
    """

    def __init__(self, site: Path, settings: TelemetrySettings) -> None:
        self.site, self.settings = site, settings
        self.store = Telemetry(site)
        self._known: dict[tuple[str, str], Session] = {}
        self._changed: dict[int, Session] = {}
        self._due: dict[int, None] = {}  # builds that may have something to file, in turn
        self.look()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the site's telemetry for this process.

        Raises
        ------
        MachineError
            Another process takes it in.
        """
        (self.site / FOLDER).mkdir(exist_ok=True)
        with (self.site / FOLDER / ".lock").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise MachineError("another process takes in the telemetry of this site", hint="one process does") from error
            yield

    @property
    @_stored()
    def identity(self) -> str:
        """The name by which brokers know this site: made once.

        Raises
        ------
        MachineError
            The store does not take it.
        """
        with self.store.transaction():
            self.store.opened.execute("INSERT OR IGNORE INTO facts VALUES ('identity', ?)", (secrets.token_hex(8),))
        (found,) = self.store.opened.execute("SELECT value FROM facts WHERE name = 'identity'").fetchone()
        return f"batchone-telemetry-{found}"

    @_stored()
    def take(self, messages: Sequence[Heard], *, now_s: float) -> None:
        """Take messages in, in their order: when this returns they are on the disk.

        Parameters
        ----------
        now_s
            The clock, seconds since 1970.

        Raises
        ------
        MachineError
            The disk does not take them; none of them is taken then.
        """
        try:
            with self.store.transaction():
                for message in messages:
                    self._take(message, now_s)
                for one in self._changed.values():
                    self.store.opened.execute(
                        "UPDATE sessions SET heard_s = ?, received = ?, last = ?, ended = ?, told = ? WHERE id = ?",
                        (one.heard_s, one.received, one.last, one.ended, one.told, one.id),
                    )
        except BaseException:
            self._known.clear()  # what is on the disk counts
            raise
        finally:
            self._due |= {key: None for key, one in self._changed.items() if _may_be_due(one)}
            self._changed.clear()

    def _take(self, message: Heard, now_s: float) -> None:
        found = _PLACE.fullmatch(message.topic)
        machine = found[1] if found else ""
        try:
            if len(message.payload) > MOST_BYTES:
                raise Refused("too large")
            if found is None:
                raise Refused("topic")
            if self.settings.machines is not None and machine not in self.settings.machines:
                machine = ""
                raise Refused("not listed")
            if found[2] == "picture":
                self._picture(machine, found[3], found[4], found[5], message.payload, now_s)
            elif found[3] is not None:
                raise Refused("topic")
            elif found[2] == "birth":
                self._birth(machine, _read(message.payload, Birth), now_s)
            elif found[2] == "data":
                self._data(machine, _read(message.payload, Data), now_s)
            else:
                self._death(machine, _read(message.payload, Death), now_s, retained=message.retained)
        except Refused as refused:
            listed = machine in (self.settings.machines or ()) and refused.why not in ("no birth", "too many machines")
            if not (listed or self._is_known(machine)):
                machine = ""  # names that anybody makes up are not kept
            self._refuse(machine, refused.why, now_s)

    def _birth(self, machine: str, birth: Birth, now_s: float) -> None:
        if birth.machine != machine:
            raise Refused("another machine")
        names = tuple(value.name for value in birth.values)
        if len(set(names)) != len(names):
            raise Refused("values")
        known = self._session(machine, birth.session)
        if known is not None:
            if known.names != names:
                raise Refused("values")
            self._put(replace(known, heard_s=now_s, ended="" if known.ended == "lost" else known.ended))
            return
        with disk():
            if (self.site / FOLDER / machine / birth.session).exists():  # it was let go of; its numbers would replace its files
                raise Refused("filed before")
        (machines,) = self.store.opened.execute("SELECT count(DISTINCT machine) FROM sessions").fetchone()
        if machines >= MOST_MACHINES and not self._is_known(machine):
            raise Refused("too many machines")
        for left in self.store.sessions("WHERE machine = ? AND ended = ''", machine):  # it prints something else by now
            current = self._session(machine, left.session) or left
            self._put(replace(current, ended=current.ended or "lost"))
        made = self.store.opened.execute(
            "INSERT INTO sessions (machine, session, profile, process, layers, period_s, born_s, heard_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (machine, birth.session, birth.profile, birth.process, birth.layers, birth.period_s, now_s, now_s),
        )
        measured = (made.lastrowid, json.dumps(names), json.dumps([value.unit for value in birth.values]))
        self.store.opened.execute("INSERT INTO measured VALUES (?, ?, ?)", measured)

    def _data(self, machine: str, data: Data, now_s: float) -> None:
        known = self._born(machine, data.session)
        if data.values.keys() != set(known.names):
            raise Refused("values")
        if data.number < known.cut:
            return
        layer = -1 if data.layer is None else data.layer
        numbers = tuple(data.values[name] for name in known.names)
        if not self.store.add(known.id, Row(data.number, now_s, data.time_s, data.state, layer, numbers)):
            return
        for alarm in data.alarms:
            values = (known.id, alarm.layer, alarm.name, data.time_s, now_s)
            self.store.opened.execute("INSERT OR IGNORE INTO alarms VALUES (?, ?, ?, ?, ?)", values)
        if data.number < known.filed:  # late: its file is written again
            self.store.opened.execute("INSERT OR IGNORE INTO late VALUES (?, ?)", (known.id, data.number // PART))
        self._put(replace(known, heard_s=now_s, received=known.received + 1, last=max(known.last, data.number)))

    def _death(self, machine: str, death: Death, now_s: float, *, retained: bool) -> None:
        if death.machine != machine:
            raise Refused("another machine")
        known = self._session(machine, death.session)
        if known is None and retained:  # of a build before our time
            return
        known = known or self._born(machine, death.session)
        if death.reason != "lost":
            self._put(replace(known, heard_s=now_s, ended=death.reason, told=death.samples))
        elif known.ended == "" and not retained:
            self._put(replace(known, ended="lost"))

    def _picture(
        self, machine: str, session: str | None, layer: str | None, moment: str | None, png: bytes, now_s: float
    ) -> None:
        if session is None or layer is None or moment not in MOMENTS:
            raise Refused("topic")
        known = self._born(machine, session)
        if not png.startswith(_PNG):
            raise Refused("picture")
        self.store.opened.execute(
            "INSERT INTO pictures VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET layer = excluded.layer, "
            "heard_s = excluded.heard_s, png = excluded.png WHERE excluded.layer >= layer",
            (known.id, moment, int(layer), now_s, png),
        )

    def _session(self, machine: str, name: str) -> Session | None:
        found = self._known.get((machine, name)) or self.store.session(machine, name)
        if found is not None:
            self._known[machine, name] = found
        return found

    def _born(self, machine: str, name: str) -> Session:
        found = self._session(machine, name)
        if found is None:
            raise Refused("no birth")
        return found

    def _is_known(self, machine: str) -> bool:
        return self.store.opened.execute("SELECT 1 FROM sessions WHERE machine = ? LIMIT 1", (machine,)).fetchone() is not None

    def _put(self, session: Session) -> None:
        self._known[session.machine, session.session] = self._changed[session.id] = session

    def _refuse(self, machine: str, why: Why, now_s: float) -> None:
        self.store.opened.execute(
            "INSERT INTO refused VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE SET count = count + 1, heard_s = excluded.heard_s",
            (machine, why, now_s),
        )

    @_stored()
    def look(self) -> None:
        """Look for builds of which nothing came lately, and whose samples are not filed: :meth:`file` does it.

        Raises
        ------
        MachineError
            The store cannot be read.
        """
        left = self.store.sessions("WHERE filed <= last OR id IN (SELECT session FROM late)")
        self._due |= {one.id: None for one in left}

    @_stored()
    def file(self, *, now_s: float) -> bool:
        """Write one file that is due, of each build in turn; False when there is none.

        Raises
        ------
        MachineError
            The disk is full, or returns errors.
        """
        while self._due:
            key = next(iter(self._due))
            del self._due[key]
            for session in self.store.sessions("WHERE id = ?", key):
                span = self._span(session, now_s)
                if span is not None:
                    self._due[key] = None  # behind the others
                    self._file(session, *span)
                    return True
        return False

    def _span(self, session: Session, now_s: float) -> tuple[int, int] | None:
        """The numbers of the next file, from the first to below the last: of an hour with late samples, of a whole hour, or of a
        build of which nothing more comes.
        """
        found = self.store.opened.execute("SELECT min(part) FROM late WHERE session = ?", (session.id,)).fetchone()
        if found[0] is not None:
            return found[0] * PART, min(found[0] * PART + PART, session.filed)
        first = self._first(session, session.filed)
        if first is None:
            return None
        low = first // PART * PART
        whole = low + PART
        if session.last >= whole - 1:
            (count,) = self.store.opened.execute(
                "SELECT count(*) FROM samples WHERE session = ? AND number >= ? AND number < ?", (session.id, low, whole)
            ).fetchone()
            if count == PART or session.last >= whole - 1 + PART:  # what is missing by then does not come any more
                return low, whole
        over = session.ended in _OVER or self._is_followed(session) or now_s - session.heard_s > _SILENT_S
        return (low, min(whole, session.last + 1)) if over else None

    def _first(self, session: Session, low: int) -> int | None:
        """The first of its samples from ``low`` on; None where there is none."""
        query = "SELECT min(number) FROM samples WHERE session = ? AND number >= ?"
        found: int | None = self.store.opened.execute(query, (session.id, low)).fetchone()[0]
        return found

    def _is_followed(self, session: Session) -> bool:
        """Whether its machine prints something else by now."""
        query = "SELECT 1 FROM sessions WHERE machine = ? AND id > ? LIMIT 1"
        return self.store.opened.execute(query, (session.machine, session.id)).fetchone() is not None

    def _file(self, session: Session, low: int, high: int) -> None:
        begin = max(low, session.cut)
        rows = self.store.rows(session.id, begin, high)
        write_part(self.site / FOLDER / session.machine / session.session / f"{begin:010d}.parquet", session.names, rows)
        with self.store.transaction():
            self.store.opened.execute("DELETE FROM late WHERE session = ? AND part = ?", (session.id, low // PART))
            self.store.opened.execute("UPDATE sessions SET filed = max(filed, ?) WHERE id = ?", (high, session.id))
        self._known.pop((session.machine, session.session), None)

    @_stored()
    def cut(self, *, now_s: float) -> bool:
        """Let go of some of what is recent, the oldest first; False when nothing more is to go.

        What goes is filed and either older than the settings say, or more than they say. A file's samples go together: what comes
        again of them is known by its number. A build's last sample stays with it.
        At last goes a build that is not its machine's last.

        Raises
        ------
        MachineError
            The store does not take it.
        """
        before_s = now_s - self.settings.recent_days * _DAY_S
        return self._cut(before_s) or (self._bytes() > self.settings.recent_mb * 1e6 and self._cut(now_s))

    def _bytes(self) -> int:
        pragma = self.store.opened.execute
        count, free, size = (
            int(pragma(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
        )
        return (count - free) * size

    def _cut(self, before_s: float) -> bool:
        for session in self.store.sessions("WHERE heard_s < ? AND cut > last", before_s):
            if self._is_followed(session):
                self._forget(session)
                return True
        for session in self.store.sessions("WHERE cut < filed AND born_s < ?", before_s):
            first = self._first(session, session.cut)
            low = session.filed if first is None else first // PART * PART
            high = min(low + PART, session.filed)
            late = self.store.opened.execute("SELECT 1 FROM late WHERE session = ? AND part = ?", (session.id, low // PART))
            if late.fetchone() is not None:
                continue
            (newest_s,) = self.store.opened.execute(
                "SELECT max(heard_s) FROM samples WHERE session = ? AND number >= ? AND number < ?",
                (session.id, session.cut, high),
            ).fetchone()
            if newest_s is None or newest_s < before_s:
                self._let_go(session, high)
                return True
        return False

    def _let_go(self, session: Session, high: int) -> None:
        with self.store.transaction():
            self.store.opened.execute(
                "DELETE FROM samples WHERE session = ? AND number < ?", (session.id, min(high, session.last))
            )  # the last one says how it is
            self.store.opened.execute("UPDATE sessions SET cut = ? WHERE id = ?", (high, session.id))
        self._known.pop((session.machine, session.session), None)

    def _forget(self, session: Session) -> None:
        with self.store.transaction():
            for table, column in (
                ("samples", "session"),
                ("late", "session"),
                ("alarms", "session"),
                ("pictures", "session"),
                ("measured", "of"),
                ("sessions", "id"),
            ):
                self.store.opened.execute(f"DELETE FROM {table} WHERE {column} = ?", (session.id,))  # noqa: S608 - names of ours
        self._known.pop((session.machine, session.session), None)


def _may_be_due(session: Session) -> bool:
    return session.ended in _OVER or session.last + 1 - session.filed >= PART


def _read(payload: bytes, model: type[Message]) -> Message:
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        raise Refused("schema") from error
