"""The inbox of a cell whose site is reached over its server: the ledger is there, and so are its lock and its clock."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from batchone.factory.inbox import Entry, Inbox, State
from batchone.factory.site_link import SiteLink, time_of
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.store import sha256_file

HEADS: Final = "jobs"  # of a cell's folder: of each job that waits, what says what it is
_FRESH_S = 1.0  # so long a list of the jobs counts
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FIELDS = ("name", "state", "cell", "until", "attempt", "reason", "most")


@dataclass(frozen=True, slots=True)
class _List:
    """What is to be printed or under way, each with the SHA-256 of its list of digests."""

    jobs: tuple[Entry, ...] = ()
    sums: Mapping[str, str] = field(default_factory=dict)


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
        self._list = _List()

    def time(self) -> dt.datetime:
        """The time of the ledger's file system at the site."""
        self._must_be_its_account()
        return self._link.asked("GET", "/prints?jobs=false", lambda tree: time_of(tree["time"]))

    def names(self) -> tuple[str, ...]:
        """What is to be printed or under way."""
        return tuple(entry.name for entry in self.entries())

    def entries(self) -> tuple[Entry, ...]:
        """What the ledger says of them."""
        found = self._listed()
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.name not in found.sums:
                shutil.rmtree(path, ignore_errors=True)
        return found.jobs

    def place(self, name: str) -> Path:
        """A folder with what says what a job is; the job itself comes by :meth:`copy`."""
        head, sums = self.folder / name, self._list.sums.get(name, "")
        if not (head / SUMS).is_file() or sha256_file(head / SUMS) != sums:
            shutil.rmtree(head, ignore_errors=True)
            self._link.fetch(f"/prints/{name}/head", head, sums=sums)
        return head

    def copy(self, entry: Entry, place: Path) -> None:
        """A job as ``place``, whose folder is made anew; every file that came has the digest of the job's own list."""
        shutil.rmtree(place.parent, ignore_errors=True)
        self._link.fetch(f"/prints/{entry.name}/files", place, sums=self._list.sums.get(entry.name, ""))

    def entry(self, name: str) -> Entry:
        """What the ledger says of a job."""
        return self._link.asked("GET", f"/prints/{name}", _entry)

    def claim(self, name: str, cell: str, now: dt.datetime) -> Entry | None:
        """As of a folder; ``now`` is the site's own."""
        self._asked_s = float("-inf")
        told = {"token": _token(cell)}
        return self._link.asked("POST", f"/prints/{name}/claim", lambda tree: None if tree is None else _entry(tree), told)

    def renew(self, entry: Entry, now: dt.datetime) -> Entry:
        """As of a folder; ``now`` is the site's own."""
        return self._changed(entry.name, "renew", token=_token(entry.cell), attempt=entry.attempt)

    def settle(self, entry: Entry, state: State, now: dt.datetime, reason: str = "") -> Entry:
        """As of a folder; ``now`` is the site's own."""
        told = {"token": _token(entry.cell), "attempt": entry.attempt, "state": state, "reason": reason}
        return self._changed(entry.name, "settle", **told)

    def move(self, name: str, attempt: int, to: State, reason: str = "") -> Entry:
        """As of a folder."""
        return self._changed(name, "move", attempt=attempt, state=to, reason=reason)

    def free(self, name: str, reason: str = "", *, tell: Callable[[], object] = lambda: None) -> Entry:
        """As of a folder, with the token of a person, who gives a reason; the site tells its events itself."""
        return self._changed(name, "free", reason=reason)

    def _changed(self, name: str, what: str, **tree: Any) -> Entry:
        self._asked_s = float("-inf")
        return self._link.asked("POST", f"/prints/{name}/{what}", _entry, tree or None)

    def _must_be_its_account(self) -> None:
        if not self._same:
            account = self._link.account()
            if account != self._cell:
                raise MachineError(
                    f"the site knows this cell as {account}, cell.toml names it {self._cell}",
                    hint="give the account and the cell one name",
                )
            self._same = True

    def _listed(self) -> _List:
        self._must_be_its_account()
        if time.monotonic() - self._asked_s > _FRESH_S:
            self._list = self._link.asked("GET", "/prints", _list)
            self._asked_s = time.monotonic()
        return self._list


def _token(cell: str) -> str:
    return cell.rpartition("@")[2]


def _entry(tree: dict[str, Any]) -> Entry:
    if not _NAME.fullmatch(tree["name"]):
        raise MachineError("the site names a job that can be no folder", hint="is [site] url the address of a batchone server?")
    entry = Entry(**{key: tree[key] for key in _FIELDS}, printed=tuple(map(int, tree.get("printed", ()))))
    _ = entry.is_free("", dt.datetime.now(dt.UTC))  # its time is one
    return entry


def _list(tree: dict[str, Any]) -> _List:
    jobs = tuple(_entry(one) for one in tree["jobs"])
    return _List(jobs, {one["name"]: str(one["sums"]) for one in tree["jobs"]})
