"""What a site has to print, for cells that come over the network: its released jobs, and what was put into ``prints/`` by hand.

The ledger is that of a folder inbox (:mod:`batchone.factory.inbox`), in ``prints/.ledger``: a cell that sees the folder itself
and one that comes over the server fight by the same rules, under the same lock and clock.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchone.factory.inbox import PRINTS, Entry, Inbox
from batchone.pipeline.clock.folder import CaseFiles, CaseReader
from batchone.pipeline.clock.legs import BY_ITS_CELL, QUEUE, REMAKE
from batchone.pipeline.clock.state import standing
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import CASES
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE
from batchone.pipeline.serve.cases import Cases
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.store import sha256_file

FRESH_S: Final = 1.0  # project default: so old may what is told of all jobs be; cells ask every 2 s
_PLATE = "build.json"  # what a plate of many jobs has

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Offer:
    """A job or plate: what the ledger says of it, where it lies, and the SHA-256 of its ``SHA256SUMS``."""

    entry: Entry
    folder: Path
    sums: str


@dataclass(frozen=True, slots=True)
class _Told:
    """What the events of a case say of its job: does it wait for its print, when was it last said to be made once more."""

    folder: Path
    waits: bool
    by_person: dt.datetime | None
    by_anybody: dt.datetime | None


class Prints:
    """The jobs of a site by name, each in one place.

    Parameters
    ----------
    cases, reader
        What the server knows of the cases, and what of their events it has read.
    """

    def __init__(self, site: Path, cases: Cases, reader: CaseReader) -> None:
        self.inbox = Inbox(site / PRINTS)
        self._site, self._cases, self._reader = site, cases, reader
        self._entries: dict[str, tuple[_Stamp, Entry]] = {}
        self._sums: dict[Path, tuple[_Stamp, str]] = {}
        self._told: dict[str, tuple[CaseFiles, _Told]] = {}
        self._plates: dict[Path, tuple[_Stamp, frozenset[str]]] = {}
        self._lock = threading.Lock()
        self._jobs: dict[str, str] = {}  # of the released jobs, whose they are
        self._jobs_until_s = self._offers_until_s = float("-inf")
        self._offers: tuple[int, list[Offer]] = 0, []

    def open(self) -> list[Offer]:
        """What is to be printed or under way, by name; for a second the same, unless the ledger changes."""
        stamp = self.inbox.ledger.stat().st_mtime_ns
        with self._lock:
            if self._offers[0] != stamp or time.monotonic() >= self._offers_until_s:
                self._offers = stamp, self._open()
                self._offers_until_s = time.monotonic() + FRESH_S
            return self._offers[1]

    def _open(self) -> list[Offer]:
        known, here = self._ledger(), self.inbox.names()
        plates, cases = self._on_plates(here), self._released()
        claimed = (name for name, entry in known.items() if entry.state == "claimed")
        found = (self._found(name, known.get(name), cases.get(name), plates) for name in sorted({*here, *cases, *claimed}))
        return [offer for offer in found if offer is not None]

    def offer(self, name: str) -> Offer:
        """One of them.

        Raises
        ------
        Refusal
            404: there is nothing of that name to print here.
        """
        found = self.find(name)
        if found is None:
            raise unknown("job to print")
        return found

    def find(self, name: str) -> Offer | None:
        """One of them; None where there is nothing of that name to print here."""
        entry = self._known(self.inbox.ledger / f"{name}.json")
        if entry is None:
            self.inbox.ledger.stat()  # it is there, and says nothing of this job
        with self._lock:
            case = self._released().get(name)
        return self._found(name, entry, case, self._on_plates(self.inbox.names()))

    def was_printed_by(self, account: str, job: str) -> bool:
        """Whether the ledger says that the cell of an account printed a job, alone or on a plate.

        Raises
        ------
        OSError
            The ledger cannot be read.
        """
        names = (job, *(plate for plate in self.inbox.names() if job in self._jobs_on(self.inbox.place(plate))))
        return any(self.inbox.read(name).was_printed_by(account) for name in names)

    def entry(self, name: str) -> Entry:
        """What the ledger says of a job, also when all is over.

        Raises
        ------
        Refusal
            404: it says nothing, and there is nothing of that name to print here.
        OSError
            The site's disk cannot be reached.
        """
        entry = self.inbox.read(name)
        return entry if entry.attempt else self.offer(name).entry

    def _found(self, name: str, entry: Entry | None, case: str | None, plates: Mapping[str, list[str]]) -> Offer | None:
        """What there is of a name, if it is to be printed or under way: by hand, of a case, or of one that ended meanwhile."""
        told = None if case is None else self._tell(case, name)
        if (self.inbox.place(name) / SUMS_SIGNATURE).is_file():
            folder = self.inbox.place(name)
        elif told is not None and (entry is not None or (told.waits and not self._is_hidden(told, plates.get(name, [])))):
            folder = told.folder
        elif entry is not None and entry.state == "claimed":
            folder = self._anywhere(name)
        else:
            return None
        entry = entry or Entry(name)
        if told is not None and told.by_person is not None and entry.is_over(told.by_person):
            entry = self.inbox.again(name, told.by_person)  # also when who said so died before this was done
        return None if entry.state == "released" else self._offer(entry, folder)

    def _is_hidden(self, told: _Told, plates: list[str]) -> bool:
        """A job on a plate is made with it: alone only when, after the plate was printed, it is to be made once more."""
        for plate in plates:
            entry = self.inbox.read(plate)
            said = told.by_anybody if entry.state == "refused" else told.by_person
            over = entry.state in ("printed", "released", "refused") and bool(entry.ended)
            if not over or said is None or said <= dt.datetime.fromisoformat(entry.ended):
                return True
        return False

    def _offer(self, entry: Entry, folder: Path) -> Offer | None:
        path = folder / SUMS
        stamp = _stamp(path)
        if stamp is None:
            return None  # it goes at this moment
        if self._sums.get(path, (None, ""))[0] != stamp:
            self._sums[path] = stamp, sha256_file(path)
        return Offer(entry, folder, self._sums[path][1])

    def _ledger(self) -> dict[str, Entry]:
        """All that it says, each file read again only when it has changed."""
        found = {}
        self.inbox.ledger.stat()  # it is there, also where it says nothing
        for path in self.inbox.ledger.glob("[!.]*.json"):
            entry = self._known(path)
            if entry is not None:
                found[path.stem] = entry
        return found

    def _known(self, path: Path) -> Entry | None:
        stamp = _stamp(path)
        if stamp is None:
            return None
        known = self._entries.get(path.stem)
        if known is None or known[0] != stamp:
            known = self._entries[path.stem] = stamp, self.inbox.entry(path.stem)
        return known[1]

    def _released(self) -> dict[str, str]:
        """The released jobs of all cases, and whose they are; looked for once in a second."""
        if time.monotonic() >= self._jobs_until_s:
            found: dict[str, str] = {}
            for case in self._cases.ids():
                job = self._job(case)
                if job is not None:
                    found.setdefault(job.name, case)
            self._cases.must_be_there()
            self._jobs, self._jobs_until_s = found, time.monotonic() + FRESH_S
        return self._jobs

    def _job(self, case: str) -> Path | None:
        try:
            job = self._cases.view(case).job
        except Refusal:
            return None  # it was removed meanwhile
        return job if job is not None and (job / SUMS_SIGNATURE).is_file() else None

    def _tell(self, case: str, name: str) -> _Told | None:
        """What the events of a case say now of its released job; None when it is another one by now."""
        job = self._job(case)
        if job is None or job.name != name:
            return None
        files = self._reader.read(self._cases.folder(case))
        known = self._told.get(case)
        if known is None or known[0] is not files or known[1].folder != job:
            ended = standing(files, dt.datetime.now(dt.UTC)).walked.ended
            remakes = [one for one in files.events if one.what.startswith(f"{REMAKE}: ")]
            by_anybody = max((one.when for one in remakes if one.when), default=None)
            by_person = max((one.when for one in remakes if one.when and one.meaning != BY_ITS_CELL), default=None)
            known = self._told[case] = files, _Told(job, QUEUE not in ended, by_person, by_anybody)
        return known[1]

    def _on_plates(self, names: Iterable[str]) -> dict[str, list[str]]:
        """The plates that were put here, by the jobs that are on them."""
        found: dict[str, list[str]] = {}
        for name in names:
            for job in self._jobs_on(self.inbox.place(name)):
                found.setdefault(job, []).append(name)
        return found

    def _jobs_on(self, folder: Path) -> frozenset[str]:
        """The jobs of a plate that was put here: they are printed with it, not alone."""
        path = folder / _PLATE
        stamp = _stamp(path)
        if stamp is None:
            return frozenset()
        if self._plates.get(path, (None, frozenset()))[0] != stamp:
            from batchone.pipeline.build.manifest import read_build_manifest  # loads much, and few sites have plates here

            try:
                build = read_build_manifest(path.read_bytes())
            except (MachineError, OSError):
                return frozenset()  # the cell that takes it says what is wrong
            self._plates[path] = stamp, frozenset(one.job for one in build.instances)
        return self._plates[path][1]

    def _anywhere(self, name: str) -> Path:
        """Where a job lies that is not the released one of its case any more."""
        folder = self._site / CASES
        return next(iter([*folder.glob(f"*/job/{name}"), *folder.glob(f"*/revisions/*/job/{name}")]), folder / name)


def told(offer: Offer) -> dict[str, object]:
    """What a cell is told of an offer."""
    entry = offer.entry
    keys = ("name", "state", "cell", "until", "attempt", "reason", "most", "printed")
    return {key: getattr(entry, key) for key in keys} | {"sums": offer.sums}


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
