"""A cell's inbox: job folders that several cells may see, and the ledger of who has which.

The ledger holds one small file for each job or plate, ``.ledger/<name>.json``; it is changed under one lock and replaced whole,
so that of two cells that want a job one gets it. A claim holds for a while and is renewed; when its cell dies, another cell
takes the job over with the next attempt, and whoever comes back finds that the claim is not theirs any more.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from batchone.pipeline.disk import disk
from batchone.pipeline.errors import BatchoneError, MachineError
from batchone.pipeline.job.sums import SUMS_SIGNATURE
from batchone.pipeline.store import write_atomic

_LOG = logging.getLogger(__name__)
State = Literal["waiting", "claimed", "printed", "released", "refused", "held"]

CLAIM_S: Final = 60.0  # a dead cell's job is free after it: as long as a dead worker's case (docs/operations.md)
RENEW_S: Final = 10.0  # a sixth of the time that a claim holds
MOST_ATTEMPTS: Final = 3  # project default, unverified: then a person looks at the machine before more powder is spent
ELSEWHERE_S: Final = 30.0  # project default: so long a failed job waits for another cell before the same one tries again
LEDGER = ".ledger"
PRINTS: Final = "prints"  # folder of a site: the inbox that its server offers to cells
NOT_FOR_A_CELL: Final = ("clinical-report.pdf", "dicom/report.dcm")
"""Files of a job with pictures of the patient, for reviewer and hospital only: a server leaves them out."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of a job: its state, who has it until when, at which attempt (from 1; 0: none yet), and why it waits or ended.

    A failed job waits until ``until`` for another cell than ``cell``, where it failed. After attempt ``most`` it is held until a
    person has looked. ``cells``: who had each attempt, the first first; ``printed``: the attempts whose print was done;
    ``ended``: when the last one ended.
    """

    name: str
    state: State = "waiting"
    cell: str = ""
    until: str = ""
    attempt: int = 0
    reason: str = ""
    most: int = MOST_ATTEMPTS
    cells: tuple[str, ...] = ()
    printed: tuple[int, ...] = ()
    ended: str = ""

    def account(self, attempt: int) -> str:
        """The name of the cell that had an attempt, without its token; empty where nobody had it."""
        return self.cells[attempt - 1].rpartition("@")[0] if 0 < attempt <= len(self.cells) else ""

    def was_printed_by(self, account: str) -> bool:
        """Whether a cell of that name printed an attempt."""
        return any(self.account(attempt) == account for attempt in self.printed)

    def is_over(self, said: dt.datetime | None) -> bool:
        """Whether it was printed, and ended before it was ``said`` that it is to be made once more."""
        done = self.state in ("printed", "released") and self.ended
        return bool(done) and said is not None and dt.datetime.fromisoformat(self.ended) < said

    def is_free(self, cell: str, now: dt.datetime) -> bool:
        """Nobody has it, or who had it has not been heard of; and where it failed it is not tried again at once."""
        over = not self.until or dt.datetime.fromisoformat(self.until) <= now
        return over if self.state == "claimed" else self.state == "waiting" and (over or self.cell != cell)


class ClaimLost(MachineError):  # noqa: N818 - a state, not a fault
    """Another cell has the job by now: whatever is under way here does not count."""


class Unreachable(MachineError):  # noqa: N818 - a state, not a fault
    """The site does not answer now: nothing was decided, and what is to be told waits."""

    @classmethod
    def of(cls, error: Exception) -> Unreachable:
        """By what a connection ended with."""
        return cls(f"the site cannot be reached: {error or type(error).__name__}", hint="it is asked again")


class BrokenOff(Unreachable):
    """The site answers, and one job does not come whole from it now: that job waits, the others go on."""


class Inbox:
    """An inbox on a file system that its cells share and that knows locks.

    Parameters
    ----------
    folder
        Holds job folders and plates, each put there by one rename; made when absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / LEDGER
        with disk():
            self.ledger.mkdir(parents=True, exist_ok=True)

    def time(self) -> dt.datetime:
        """The time of the file system, which all cells of the inbox share, in UTC: that of a file written now."""
        path = self.ledger / ".clock"
        path.write_bytes(b"\n")
        return dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)

    def names(self) -> tuple[str, ...]:
        """Job folders and plates that lie here, by name."""
        return tuple(
            sorted(
                path.name
                for path in self.folder.iterdir()
                if not path.name.startswith(".") and path.is_dir() and (path / SUMS_SIGNATURE).is_file()
            )
        )

    def place(self, name: str) -> Path:
        """Where a job folder lies."""
        return self.folder / name

    def copy(self, entry: Entry, place: Path) -> None:
        """A copy of a job as ``place``, whose folder is made anew."""
        shutil.rmtree(place.parent, ignore_errors=True)
        with disk():
            place.parent.mkdir(parents=True)
            shutil.copytree(self.place(entry.name), place, symlinks=True)

    def entry(self, name: str) -> Entry:
        """What the ledger says of a job; waiting where it says nothing."""
        try:
            return self.read(name)
        except OSError as error:
            return _unreadable(name, error)

    def read(self, name: str) -> Entry:
        """As :meth:`entry`; what cannot be read now is an OSError, and is not taken for another state."""
        try:
            data = (self.ledger / f"{name}.json").read_bytes()
        except FileNotFoundError:
            self.ledger.stat()  # it is there, and says nothing of this job
            return Entry(name)
        try:
            tree = json.loads(data)
            entry = Entry(**tree | {name: tuple(tree.get(name, ())) for name in ("cells", "printed")})
            _ = entry.is_free("", dt.datetime.now(dt.UTC)), entry.is_over(dt.datetime.now(dt.UTC))
        except (ValueError, TypeError) as error:  # one damaged file stops one job
            return _unreadable(name, error)
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """What the ledger says of every job that lies here."""
        return tuple(self.entry(name) for name in self.names())

    def claim(self, name: str, cell: str, now: dt.datetime) -> Entry | None:
        """Take a job; None when another has it, or nobody may have it any more.

        A claim of one's own goes on: a cell that was started again finds what it had. One that ran out, whosever it was, is the
        end of that attempt.
        """
        with self._locked():
            entry = self.entry(name)
            if entry.state == "claimed" and entry.cell == cell and not entry.is_free(cell, now):
                return self._write(replace(entry, until=_in(CLAIM_S, now)))
            if not entry.is_free(cell, now):
                return None
            if entry.attempt >= entry.most:
                self._write(replace(entry, state="held", cell="", until="", reason=entry.reason or "its claim ran out"))
                return None
            cells = (*entry.cells, *[""] * (entry.attempt - len(entry.cells)), cell)
            begun = replace(entry, state="claimed", cell=cell, until=_in(CLAIM_S, now), attempt=entry.attempt + 1, reason="")
            return self._write(replace(begun, cells=cells))

    def renew(self, entry: Entry, now: dt.datetime) -> Entry:
        """Go on having a job.

        Raises
        ------
        ClaimLost
            Another cell has it, or another attempt is under way.
        MachineError, OSError
            The inbox cannot be reached.
        """
        with self._locked():
            return self._write(replace(self._there(entry), until=_in(CLAIM_S, now)))

    @contextlib.contextmanager
    def kept(self, entry: Entry, now: Callable[[], dt.datetime]) -> Iterator[Callable[[], None]]:
        """Renew a claim while something takes long. What it gives raises ClaimLost once the claim was lost; it asks nobody.

        An inbox that cannot be reached stops nothing: it is asked again.
        """
        over, lost = threading.Event(), list[ClaimLost]()

        def keep() -> None:
            while not (lost or over.wait(RENEW_S)):
                try:
                    self.renew(entry, now())
                except ClaimLost as error:
                    lost.append(error)
                except (BatchoneError, OSError) as error:
                    _LOG.warning("the claim of %s is not renewed: %s", entry.name, error)

        def must_hold() -> None:
            if lost:
                raise lost[0]

        thread = threading.Thread(target=keep, name=f"claim {entry.name}", daemon=True)
        thread.start()
        try:
            yield must_hold
        finally:
            over.set()
            thread.join()

    def settle(self, entry: Entry, state: State, now: dt.datetime, reason: str = "") -> Entry:
        """Say what became of a claimed job: printed, refused, or waiting for another attempt.

        Raises
        ------
        ClaimLost
            As :meth:`renew`.
        """
        with self._locked():
            there = self._there(entry)
            held = state == "waiting" and there.attempt >= there.most
            until = _in(ELSEWHERE_S, now) if state == "waiting" else ""
            printed = (*there.printed, there.attempt) if state == "printed" else there.printed
            settled = replace(there, state="held" if held else state, until=until, reason=reason)
            return self._write(replace(settled, printed=printed, ended=now.isoformat()))

    def move(self, name: str, attempt: int, to: State, reason: str = "") -> Entry:
        """Say what became of a printed job: released, or waiting to be made once more.

        Raises
        ------
        MachineError
            The ledger does not say that this attempt was printed.
        OSError
            The ledger cannot be read.
        """
        with self._locked():
            entry = self.read(name)
            if (entry.state, entry.attempt) == (to, attempt) or (to == "waiting" and entry.state == "held"):
                return entry
            if (entry.state, entry.attempt) != ("printed", attempt):
                raise MachineError(
                    f"attempt {attempt} of {name} is {entry.state} at attempt {entry.attempt}, must be printed",
                    hint="see `batchone cell status`",
                )
            held = to == "waiting" and attempt >= entry.most
            return self._write(replace(entry, state="held" if held else to, reason=reason))

    def free(self, name: str, reason: str = "", *, tell: Callable[[], object] = lambda: None) -> Entry:
        """Let a held or refused job be tried again after a person has looked; attempts count on.

        Parameters
        ----------
        reason
            Why; the ledger keeps it until the next attempt.
        tell
            Called before the ledger says so, and only where it will.
        """
        with self._locked():
            entry = self.read(name)
            if entry.state not in ("held", "refused"):
                raise MachineError(f"{name} is {entry.state}, must be held or refused", hint="see `batchone cell status`")
            tell()
            return self._wait_again(entry, reason)

    def again(self, name: str, said: dt.datetime) -> Entry:
        """Let a job be printed once more that was printed before a person said so; attempts count on. Others go on as they do."""
        with self._locked():
            entry = self.read(name)
            return self._wait_again(entry) if entry.is_over(said) else entry

    def _wait_again(self, entry: Entry, reason: str = "") -> Entry:
        most = entry.attempt + MOST_ATTEMPTS
        return self._write(replace(entry, state="waiting", cell="", until="", reason=reason, most=most))

    def _there(self, entry: Entry) -> Entry:
        """What the ledger says of a claim that still holds."""
        there = self.read(entry.name)
        if (there.state, there.cell, there.attempt) != ("claimed", entry.cell, entry.attempt):
            raise ClaimLost(
                f"{entry.name} is {there.state} at attempt {there.attempt} of cell {there.cell or 'none'}, "
                f"not at attempt {entry.attempt} of cell {entry.cell}",
                hint="put what was made here aside: it is not the part of the record",
            )
        return there

    def _write(self, entry: Entry) -> Entry:
        tree: dict[str, Any] = asdict(entry)
        write_atomic(self.ledger / f"{entry.name}.json", (json.dumps(tree, sort_keys=True) + "\n").encode())
        return entry

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with disk():
            stream = (self.ledger / ".lock").open("a")
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _unreadable(name: str, error: Exception) -> Entry:
    return Entry(name, "held", reason=f"its file in the ledger cannot be read: {error}")


def _in(seconds: float, now: dt.datetime) -> str:
    return (now + dt.timedelta(seconds=seconds)).isoformat()
