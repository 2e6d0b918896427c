"""What a site has to print, for cells that come over the network: its released jobs, and what was put into ``prints/`` by hand.

The ledger is that of a folder inbox (:mod:`batchone.factory.inbox`), in ``prints/.ledger``: a cell that sees the folder itself
and one that comes over the server fight by the same rules, under the same lock and clock.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from batchone.factory.inbox import PRINTS, Entry, Inbox
from batchone.pipeline.clock.folder import CaseFiles, CaseReader
from batchone.pipeline.clock.legs import QUEUE
from batchone.pipeline.clock.state import standing
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import CASES
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE
from batchone.pipeline.serve.cases import Cases
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.store import sha256_file

_PLATE = "build.json"  # what a plate of many jobs has

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Offer:
    """A job or plate: what the ledger says of it, where it lies, and the SHA-256 of its ``SHA256SUMS``."""

    entry: Entry
    folder: Path
    sums: str


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
        self._waits: dict[str, tuple[CaseFiles, bool]] = {}
        self._plates: dict[Path, tuple[_Stamp, frozenset[str]]] = {}

    def open(self) -> list[Offer]:
        """What is to be printed or under way, by name."""
        known, found = self._ledger(), {name: self.inbox.place(name) for name in self.inbox.names()}
        plated = {job for folder in found.values() for job in self._jobs_on(folder)}
        for name, folder, waits in self._released():
            if name in known or (waits and name not in plated):
                found.setdefault(name, folder)
        for name, entry in known.items():
            if entry.state == "claimed" and name not in found:  # of a case that was revised or ended meanwhile
                found[name] = self._anywhere(name)
        offers = ((known.get(name) or Entry(name), folder) for name, folder in sorted(found.items()))
        return [offer for entry, folder in offers if entry.state != "released" and (offer := self._offer(entry, folder))]

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
        return next((offer for offer in self.open() if offer.entry.name == name), None)

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
            stamp = _stamp(path)
            if stamp is None:
                continue
            known = self._entries.get(path.stem)
            if known is None or known[0] != stamp:
                known = self._entries[path.stem] = stamp, self.inbox.entry(path.stem)
            found[path.stem] = known[1]
        return found

    def _released(self) -> list[tuple[str, Path, bool]]:
        """The released jobs of all cases, and of which the workshop has not said that their print began."""
        found = []
        for case in self._cases.ids():
            try:
                view = self._cases.view(case)
            except Refusal:
                continue  # it was removed meanwhile
            if view.job is not None and (view.job / SUMS_SIGNATURE).is_file():
                found.append((view.job.name, view.job, self._waits_for_print(case)))
        return found

    def _waits_for_print(self, case: str) -> bool:
        files = self._reader.read(self._cases.folder(case))
        known = self._waits.get(case)
        if known is None or known[0] is not files:
            ended = standing(files, dt.datetime.now(dt.UTC)).walked.ended
            known = self._waits[case] = files, QUEUE not in ended
        return known[1]

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
    keys = ("name", "state", "cell", "until", "attempt", "reason", "most")
    return {key: getattr(entry, key) for key in keys} | {"sums": offer.sums}


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
