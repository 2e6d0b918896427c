"""The inbox of a cell whose site is reached over its server: the ledger is there, and so are its lock and its clock."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from batchone.factory.inbox import Entry, Inbox, State
from batchone.factory.site_link import SiteLink, time_of
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.store import sha256_file

HEADS: Final = "jobs"  # of a cell's folder: of each job that waits, what says what it is
_FRESH_S = 1.0  # so long a list of jobs is asked once
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FIELDS = ("name", "state", "cell", "until", "attempt", "reason", "most")


class ServedInbox(Inbox):
    """As :class:`Inbox`; every method may raise Unreachable.

    Parameters
    ----------
    link
        The site's server.
    cell
        The name in ``cell.toml``, which must be that of the account.
    folder
        The cell's own; ``jobs/`` in it is ours.
    """

    def __init__(self, link: SiteLink, cell: str, folder: Path) -> None:
        self._link, self._cell = link, cell
        self.folder = folder / HEADS
        self._same, self._asked_s = False, float("-inf")
        self._list: dict[str, Any] = {}
        self._sums: dict[str, str] = {}

    def time(self) -> dt.datetime:
        """The time of the ledger's file system at the site."""
        self._must_be_its_account()
        return time_of(self._link.asked("GET", "/prints?jobs=false")["time"])

    def names(self) -> tuple[str, ...]:
        """What is to be printed or under way."""
        return tuple(entry.name for entry in self.entries())

    def entries(self) -> tuple[Entry, ...]:
        """What the ledger says of them."""
        found = tuple(_entry(one) for one in self._listed()["jobs"])
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.name not in self._sums:
                shutil.rmtree(path, ignore_errors=True)
        return found

    def place(self, name: str) -> Path:
        """A folder with what says what a job is; the job itself comes by :meth:`copy`."""
        head = self.folder / name
        if not (head / SUMS).is_file() or sha256_file(head / SUMS) != self._sums.get(name):
            shutil.rmtree(head, ignore_errors=True)
            self._link.fetch(f"/prints/{name}/head", head, sums=self._sums.get(name, ""))
        return head

    def copy(self, entry: Entry, place: Path) -> None:
        """A job as ``place``, whose folder is made anew; every file that came has the digest of the job's own list."""
        shutil.rmtree(place.parent, ignore_errors=True)
        self._link.fetch(f"/prints/{entry.name}/files", place, sums=self._sums.get(entry.name, ""))

    def entry(self, name: str) -> Entry:
        """What the ledger says of a job."""
        return _entry(self._link.asked("GET", f"/prints/{name}"))

    def claim(self, name: str, cell: str, now: dt.datetime) -> Entry | None:
        """As of a folder; ``now`` is the site's own."""
        found = self._changed(name, "claim", token=_token(cell))
        return None if found is None else _entry(found)

    def renew(self, entry: Entry, now: dt.datetime) -> Entry:
        """As of a folder; ``now`` is the site's own."""
        return _entry(self._changed(entry.name, "renew", token=_token(entry.cell), attempt=entry.attempt))

    def settle(self, entry: Entry, state: State, now: dt.datetime, reason: str = "") -> Entry:
        """As of a folder; ``now`` is the site's own."""
        told = {"token": _token(entry.cell), "attempt": entry.attempt, "state": state, "reason": reason}
        return _entry(self._changed(entry.name, "settle", **told))

    def move(self, name: str, attempt: int, to: State, reason: str = "") -> Entry:
        """As of a folder."""
        return _entry(self._changed(name, "move", attempt=attempt, state=to, reason=reason))

    def free(self, name: str, reason: str = "", *, tell: Callable[[], object] = lambda: None) -> Entry:
        """As of a folder, with the token of a person, who gives a reason; the site tells its events itself."""
        return _entry(self._changed(name, "free", reason=reason))

    def _changed(self, name: str, what: str, **tree: Any) -> Any:
        self._asked_s = float("-inf")
        return self._link.asked("POST", f"/prints/{name}/{what}", tree or None)

    def _must_be_its_account(self) -> None:
        if not self._same:
            account = self._link.account()
            if account != self._cell:
                raise MachineError(
                    f"the site knows this cell as {account}, cell.toml names it {self._cell}",
                    hint="give the account and the cell one name",
                )
            self._same = True

    def _listed(self) -> dict[str, Any]:
        self._must_be_its_account()
        if time.monotonic() - self._asked_s > _FRESH_S:
            self._list = self._link.asked("GET", "/prints")
            self._sums = {_entry(one).name: one["sums"] for one in self._list["jobs"]}
            self._asked_s = time.monotonic()
        return self._list


def _token(cell: str) -> str:
    return cell.rpartition("@")[2]


def _entry(tree: dict[str, Any]) -> Entry:
    if not _NAME.fullmatch(tree["name"]):
        raise MachineError("the site names a job that can be no folder", hint="is [site] url the address of a batchone server?")
    return Entry(**{key: tree[key] for key in _FIELDS})
