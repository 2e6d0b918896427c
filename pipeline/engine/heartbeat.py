"""Who works: each worker holds a slot by its heartbeats, and a slot whose heart stopped is taken over by the others.

A heart has stopped when nothing of its slot has changed for so long by the watch of who looks: no clock of the day counts, so
clocks of machines may differ, and step.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import sqlalchemy as sa

from batchone.pipeline.disk import disk
from batchone.pipeline.errors import MachineError

BEAT_S: Final = 3.0
DEAD_S: Final = 15.0
"""After this long without a beat a worker counts as dead: four beats missed and one underway."""

_SLOTS = 999
_METADATA = sa.MetaData()
_WORKERS = sa.Table(
    "batchone_worker",
    _METADATA,
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False),
    sa.Column("beat_s", sa.Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Worker:
    """One slot: ``beat_s`` when it beat last by the database's clock; 0 where it ended, or was taken over."""

    slot: int
    holder: str
    beat_s: float


class Heartbeat:
    """The beat of one worker.

    A slot is claimed by a lock on a file of the site's folder, which ends with the process; the database tells the others.

    Parameters
    ----------
    database
        Where all workers of a site beat.
    folder
        Where the slots' locks lie.
    slot
        Its number, from 1; None takes the first that is free.
    watch
        Seconds that no step of a clock changes.

    Raises
    ------
    MachineError
        Another worker lives in this slot.
    """

    def __init__(
        self, database: sa.Engine, folder: Path, slot: int | None, *, watch: Callable[[], float] = time.monotonic
    ) -> None:
        self._database, self._watch = database, watch
        self._changed: dict[int, tuple[str, float, float]] = {}  # of other slots: holder, beat, and when that was new to us
        self._looked = watch()
        _make_table(database)
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
        with disk():
            folder.mkdir(parents=True, exist_ok=True)
        self.slot, self._lock = _claimed(folder, slot)
        with database.begin() as connection:
            values = {"holder": self.holder, "beat_s": _now(connection)}
            if not connection.execute(sa.update(_WORKERS).where(_WORKERS.c.slot == self.slot).values(**values)).rowcount:
                connection.execute(sa.insert(_WORKERS).values(slot=self.slot, **values))

    @property
    def executor_id(self) -> str:
        """The engine's name for this slot; it outlives the process."""
        return executor_id(self.slot)

    def beat(self) -> bool:
        """Beat once; False when the slot is another's now: whoever hears that must stop at once."""
        with self._database.begin() as connection:
            mine = sa.update(_WORKERS).where(_WORKERS.c.slot == self.slot, _WORKERS.c.holder == self.holder)
            return bool(connection.execute(mine.values(beat_s=_now(connection))).rowcount)

    def leave(self) -> None:
        """Say that this worker ends; what it held is free for the others at once."""
        with self._database.begin() as connection:
            mine = sa.update(_WORKERS).where(_WORKERS.c.slot == self.slot, _WORKERS.c.holder == self.holder)
            connection.execute(mine.values(beat_s=0.0))
        self._lock.close()

    def look(self) -> tuple[Worker, ...]:
        """All slots that were ever held. What was seen too long ago, before one was away oneself, tells nothing of others."""
        found, now = workers(self._database), self._watch()
        if now - self._looked > DEAD_S:
            self.forget()
        self._looked = now
        return found

    def forget(self) -> None:
        """Begin to watch the others anew: the database was away, so that nobody could have beaten."""
        self._changed.clear()

    def silent(self, other: Worker) -> bool:
        """Whether another slot ended, or has not changed for ``DEAD_S`` since this was asked first."""
        if other.beat_s == 0.0:
            return True
        holder, beat_s, since = self._changed.get(other.slot, ("", 0.0, 0.0))
        if (holder, beat_s) != (other.holder, other.beat_s):
            since = self._watch()
            self._changed[other.slot] = other.holder, other.beat_s, since
        return self._watch() - since > DEAD_S

    @contextmanager
    def dead(self, slot: int) -> Iterator[bool]:
        """Whether a slot's heart stopped, see :meth:`silent`; it cannot be claimed again while this lasts.

        Who was only slow finds itself buried at its next beat, unless what is done meanwhile fails.
        """
        with self._database.begin() as connection:
            row = connection.execute(sa.select(_WORKERS).where(_WORKERS.c.slot == slot).with_for_update()).first()
            found = row is not None and self.silent(Worker(row.slot, row.holder, row.beat_s))
            yield found
            if found:
                connection.execute(sa.update(_WORKERS).where(_WORKERS.c.slot == slot).values(holder="", beat_s=0.0))


def _make_table(database: sa.Engine) -> None:
    try:
        _METADATA.create_all(database, checkfirst=True)
    except sa.exc.SQLAlchemyError:  # another worker, which starts at the same moment, was first
        if not sa.inspect(database).has_table(_WORKERS.name):
            raise


def _claimed(folder: Path, slot: int | None) -> tuple[int, IO[str]]:
    for number in range(1, _SLOTS + 1) if slot is None else [slot]:
        with disk():
            stream = (folder / f"worker-{number}.lock").open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            continue
        return number, stream
    raise MachineError(
        "a worker is at work here already" if slot is None else f"another worker lives in slot {slot}",
        hint="stop it first, or give another --slot",
    )


def executor_id(slot: int) -> str:
    """The engine's name for a slot."""
    return f"worker-{slot}"


def workers(database: sa.Engine) -> tuple[Worker, ...]:
    """All slots that were ever held."""
    with database.connect() as connection:
        rows = connection.execute(sa.select(_WORKERS).order_by(_WORKERS.c.slot)).all()
    return tuple(Worker(row.slot, row.holder, row.beat_s) for row in rows)


def _now(connection: sa.Connection) -> float:
    """Seconds since 1970 by the database's clock."""
    sqlite = connection.dialect.name == "sqlite"
    text = "SELECT (julianday('now') - 2440587.5) * 86400.0" if sqlite else "SELECT extract(epoch FROM clock_timestamp())"
    return float(connection.execute(sa.text(text)).scalar_one())
