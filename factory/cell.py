"""The cell agent: takes the most urgent job that it may print, proves it, has it printed, and keeps its record.

One cell has one machine. Everything that it did is on the disk before the ledger says so, and a cell that is started again goes
on from there: a job that was claimed and not begun is begun; a print that ended is told; a print that was under way is followed
where the machine went on without us, and is a failed attempt where it did not. The site hears of each step in its order, now or
when it can be reached again. Whatever is wrong with one job, record or report stops that one alone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from batchone.factory.as_built import PRINT_STARTED, Watched, as_built, begun, cut_off, is_built, settings_at_start, spoilt
from batchone.factory.dispatch import RECORDS
from batchone.factory.drivers.driver import Driver, LayerSeen, Progress
from batchone.factory.inbox import BrokenOff, ClaimLost, Entry, Inbox, State, Unreachable
from batchone.factory.proof import Work, read_work, refusals, unsuited
from batchone.factory.readiness import FAULTS, News, Told, alone, hindrance, logged, reread
from batchone.factory.record import AS_BUILT, RECORD, AsBuilt, DeviceRecord, close, read_as_built, record_name
from batchone.factory.reports import Deliver, Reports
from batchone.factory.settings import CellSettings, identity_of
from batchone.factory.shelf import Shelf, Shelve
from batchone.factory.telemetry import TELEMETRY, TelemetryFile
from batchone.pipeline.disk import disk
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.job.signature import KEYS
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.job.withdrawal import WithdrawnJob
from batchone.pipeline.store import flush_tree, replace_folder, sha256_file, write_atomic

_LOG = logging.getLogger(__name__)
UNASKED: Final = "no list of withdrawn jobs is named: it is not asked whether a job still counts"
_AFTER: Final[Mapping[str, State]] = {"released": "released", "rejected": "waiting", "withdrawn": "refused"}


class Cell:
    """One cell.

    Parameters
    ----------
    folder
        Its own folder: ``cell.toml``, ``keys/``, ``records/``, ``reports/``, ``shelved/``, ``work/``, ``events.jsonl``.
    settings
        Of ``cell.toml``.
    inbox
        May be shared with other cells.
    driver
        Its machine.
    signers
        Who may release and approve jobs: an ``allowed_signers`` file or a site's key folder.
    withdrawn
        The jobs that count no more by now: they are neither printed nor released. None: nobody says so, which is told at the
        start and stands in the events of each record.
    deliver
        How its site hears of a step; None: there is nobody to tell.
    shelve
        Brings a closed record to its site, for genealogy. None: it stays here.
    now
        The clock, in UTC.
    shared_now
        The clock by which claims are reckoned, one for all cells of the inbox; None: the cell's own.
    read
        Reads the settings anew: what is loaded may change between two jobs. None: they stay.
    tell
        Called with what happens.
    """

    def __init__(
        self,
        folder: Path,
        settings: CellSettings,
        inbox: Inbox,
        driver: Driver,
        *,
        signers: Path | None,
        withdrawn: Callable[[], tuple[WithdrawnJob, ...]] | None = None,
        deliver: Deliver | None = None,
        shelve: Shelve | None = None,
        now: Callable[[], dt.datetime],
        shared_now: Callable[[], dt.datetime] | None = None,
        read: Callable[[], CellSettings] | None = None,
        tell: Callable[[News], None] = lambda news: None,
    ) -> None:
        self.folder, self.settings, self.inbox, self.driver = folder, settings, inbox, driver
        self.signers, self.withdrawn, self.now, self.tell = signers, withdrawn or tuple, now, tell
        self._unasked = UNASKED if withdrawn is None else ""
        if withdrawn is None:
            _LOG.warning("%s: a job that was withdrawn is printed and released as any other", UNASKED)
        self.shared_now, self.read = shared_now or (lambda: self.now()), read
        self.records = folder / RECORDS
        self.reports, self.shelf = Reports(folder / "reports", deliver), Shelf(folder / "shelved", shelve)
        with disk():
            self.records.mkdir(parents=True, exist_ok=True)
        self.identity = identity_of(folder, settings)
        self._passed: set[str] = set()  # jobs that were told to be for others
        self._why = ""  # why nothing is taken
        self._ended = self.shelf.came()  # records of which nothing more is to come
        self._told: set[str] = set()  # records whose end is told or waits to be
        self._broken: set[str] = set()  # jobs of ours that did not come yet: they are asked for last

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Hold the cell's folder for this process; see :func:`batchone.factory.readiness.alone`."""
        return alone(self.folder, self.settings.name)

    def resume(self) -> None:
        """End what was under way when the cell stopped or its inbox could not be reached, or go on with it; see the module."""
        for entry in self.inbox.entries():
            if entry.state == "claimed" and entry.cell == self.identity:
                with self._contained(entry):
                    self._resume(entry)
        for record in sorted(self.records.iterdir()):
            with logged(f"record {record.name}"):
                self._sort_out(record)
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        self.reports.sweep()
        self.reports.send()

    def step(self) -> bool:
        """Take the most urgent job and bring it to the end of its print; False when there is none to take."""
        self.reports.send()
        entry = self._take() if self._may_work() else None
        if entry is None:
            return False
        self._say("claimed", entry)
        with self._contained(entry):
            self._make(entry)
        shutil.rmtree(self._own(entry).parent, ignore_errors=True)
        return True

    def close_records(self) -> tuple[DeviceRecord, ...]:
        """Close the records that can be, tell the site, and let what was rejected be made once more."""
        closed: list[DeviceRecord] = []
        if not self._may_work():
            return ()
        try:
            withdrawn = {one.job: one.what for one in self.withdrawn()}
        except (OSError, MachineError) as error:  # the site went away at this moment
            _LOG.warning("nothing is closed: %s", error)
            return ()
        for record in sorted(self.records.iterdir()):
            if record.name.startswith(".") or record.name in self._ended:
                continue
            with logged(f"record {record.name}"):
                whole = self._close(record, withdrawn)
                if whole is not None:
                    closed.append(whole)
        self.reports.send()
        self.shelf.bring(self.records / name for name in sorted(self._ended))
        return tuple(closed)

    def _close(self, record: Path, withdrawn: Mapping[str, str]) -> DeviceRecord | None:
        built = read_as_built(record)
        entry = self.inbox.entry(built.name)
        waits = (entry.state, entry.attempt) == ("printed", built.attempt)
        remade = "" if waits or built.attempt not in entry.printed else "it was to be made once more before it was released"
        if not waits and ((record / RECORD).exists() or (built.verdict == "printed" and not remade)):
            if (record / RECORD).exists():
                self._ended.add(record.name)
            return None  # told before, or of an attempt that the ledger does not know as ours
        reason = next((f"job {body.job} was {withdrawn[body.job]}" for body in built.bodies if body.job in withdrawn), "")
        gtin = self.settings.gtin
        whole = close(record, keys=self.folder / KEYS, when=self.now(), gtin=gtin, withdrawn=reason, remade=remade)
        if whole is not None and waits:  # heard first: nobody makes it again before; what is told twice stands once
            if record.name not in self._told:
                self._told.add(record.name)
                self.reports.put_end(whole, self.settings, withdrawn)
            if self.reports.send():
                return None
            self.inbox.move(whole.name, whole.attempt, _AFTER[whole.verdict], whole.reason)
        if whole is not None:
            self._ended.add(record.name)
        return whole

    def _may_work(self) -> bool:
        """Whether jobs may be taken and records closed, by what is loaded now; told when it changes."""
        try:
            if self.read is not None:
                self.settings = reread(self.settings, self.read)
            why = hindrance(self.signers, self.now(), self.shared_now)
        except MachineError as error:
            why = str(error)
        if why and why != self._why:
            _LOG.warning("nothing is taken: %s", why)
        self._why = why
        return not why

    def _take(self) -> Entry | None:
        """Claim the job that is due first among those that this machine can make with what is loaded; others are left alone."""
        now = self.shared_now()
        ours = ("claimed", self.identity)
        waiting = [
            entry.name
            for entry in self.inbox.entries()
            if entry.is_free(self.identity, now) or (entry.name in self._broken and (entry.state, entry.cell) == ours)
        ]
        may = [(due, name) for name in waiting if (due := self._due(name)) is not None]
        for _, name in sorted(may):
            entry = self.inbox.claim(name, self.identity, self.shared_now())
            if entry is not None:
                return entry
        return None

    def _due(self, name: str) -> dt.datetime | None:
        """When a job is due; None where it is not for this cell. What cannot be read comes last, to be refused."""
        last = dt.datetime.max.replace(tzinfo=dt.UTC)
        try:
            work = read_work(self.inbox.place(name))
        except BrokenOff as error:
            _LOG.warning("%s is left for now: %s", name, error)
            return None
        except Unreachable:
            raise
        except FAULTS:
            return last
        faults = unsuited(work, self.settings, self.driver, today=self.now().date())
        if not faults:
            return work.due if name not in self._broken else last
        if name not in self._passed:
            self._passed.add(name)
            _LOG.warning("%s is left for others: %s", name, "; ".join(faults))
        return None

    def _part(self, entry: Entry) -> Path:
        return self.records / f".{record_name(entry.name, entry.attempt)}.part"

    def _own(self, entry: Entry) -> Path:
        return self.folder / "work" / record_name(entry.name, entry.attempt) / entry.name

    def _make(self, entry: Entry) -> None:
        with self.inbox.kept(entry, self.shared_now) as must_hold:
            work = self._copy(entry)
            if work is not None:
                self._prove_and_print(entry, work, must_hold)

    def _copy(self, entry: Entry) -> Work | None:
        """What is proved is what is printed: a copy of our own, which nobody else writes to."""
        mine = self._own(entry)
        self.inbox.copy(entry, mine)
        self._broken.discard(entry.name)
        try:
            return read_work(mine)
        except FAULTS as error:
            self._refuse(entry, (str(error),))
            return None

    def _prove_and_print(self, entry: Entry, work: Work, must_hold: Callable[[], None]) -> None:
        """Also of a print that goes on: then with the settings and on the day with which it was begun."""
        part = self._part(entry)
        before = begun(part)
        cell, today = self.settings, self.now().date()
        if before is not None:
            cell, today = settings_at_start(part, self.settings), before.when.date()
        faults = (
            *unsuited(work, cell, self.driver, today=today),
            *refusals(work, signers=self.signers, withdrawn=self.withdrawn(), simulated=self.driver.simulated),
        )
        if before is not None and before.sums_sha256 not in ("", sha256_file(work.folder / SUMS)):
            faults = (*faults, f"{SUMS}: it is not what was begun")
        if not faults:
            self._print(entry, work, must_hold)
            return
        if before is not None:
            with closing(self.driver.build(work, entry.attempt)) as build:
                next(build, None)  # so that closing it stops the machine
            self._keep_lost(part, "; ".join(faults)[:4000])
        self._refuse(entry, faults)

    def _refuse(self, entry: Entry, faults: tuple[str, ...]) -> None:
        reason = "; ".join(faults)
        what = f"refused {entry.name}"
        self._event(self.folder, what, self.now(), reason[:4000])
        self.inbox.settle(entry, "refused", self.shared_now(), reason[:2000])
        self._say("refused", entry, reason)

    def _print(self, entry: Entry, work: Work, must_hold: Callable[[], None]) -> None:
        """``must_hold`` raises ClaimLost; see :meth:`Inbox.kept`."""
        part = self._part(entry)
        before = begun(part)
        with disk():
            part.mkdir(exist_ok=True)
        self.inbox.renew(entry, self.shared_now())  # nothing is begun under a claim that was lost
        now = self.now()
        what = PRINT_STARTED if before is None else "print followed again"
        self._event(part, what, now, self._unasked, sha256_file(work.folder / SUMS))
        self._tell_started(part, work)
        self._say("printing", entry, layers=work.layers)
        whole = before is None  # what was measured while nobody watched is not known
        layers: list[LayerSeen] = []
        last = Progress("failed", 0.0, reason="the machine said nothing")
        with TelemetryFile(part / TELEMETRY) as telemetry, closing(self.driver.build(work, entry.attempt)) as following:
            for last in following:
                must_hold()
                telemetry.add(last.readings)
                whole &= not last.gap
                layers += last.layers
                if last.layers:
                    self._say(
                        "layers", entry, seconds=last.seconds, layer=max(one.index for one in last.layers), layers=work.layers
                    )
                why = spoilt(last.layers)
                if why:
                    last = Progress("failed", last.seconds, energy_kwh=last.energy_kwh, reason=why)
                if last.state != "running":
                    break
        self._go_on(entry)
        built = self._as_built(entry, work, Watched(before.when if before else now, self.now(), tuple(layers), last, whole))
        self._publish(part, built)
        self._tell_built(entry, built)

    def _go_on(self, entry: Entry) -> None:
        """Renew a claim; an inbox that cannot be reached stops nothing: what became of the claim is asked when it is told."""
        try:
            self.inbox.renew(entry, self.shared_now())
        except ClaimLost:
            raise
        except (OSError, MachineError) as error:
            _LOG.warning("the claim of %s is not renewed: %s", entry.name, error)

    @contextlib.contextmanager
    def _contained(self, entry: Entry) -> Iterator[None]:
        """Whatever goes wrong with one job ends its attempt, or what we have of it when another cell has it by now.

        An inbox that cannot be reached is no fault of the job's.
        """
        part = self._part(entry)
        try:
            yield
        except ClaimLost as lost:
            self._keep_lost(part, str(lost))
            self._say("lost", entry, str(lost))
        except Unreachable as error:  # nothing was decided: it is asked again
            if begun(part) is not None:
                raise
            shutil.rmtree(part, ignore_errors=True)
            self._broken.add(entry.name)
            if not isinstance(error, BrokenOff):
                raise
            _LOG.warning("%s is left for now: %s", entry.name, error)
        except FAULTS as error:
            if is_built(self.records / record_name(entry.name, entry.attempt)):
                raise  # its print ended and stands in its record: told to the inbox when it can be reached
            _LOG.exception("attempt %d at %s ended", entry.attempt, entry.name)
            reason = f"attempt {entry.attempt} ended: {error}"
            self._keep_lost(part, reason)
            with contextlib.suppress(ClaimLost):
                self.inbox.settle(entry, "waiting", self.shared_now(), reason[:2000])
            self._say("failed", entry, reason)

    def _as_built(self, entry: Entry, work: Work, told: Watched) -> AsBuilt:
        part = self._part(entry)
        cell = settings_at_start(part, self.settings)
        return as_built(work, entry.attempt, told, part / TELEMETRY, cell=cell, simulated=self.driver.simulated)

    def _publish(self, part: Path, built: AsBuilt) -> None:
        self._event(part, "print done" if built.verdict == "printed" else "print failed", built.ended, built.reason)
        write_atomic(part / AS_BUILT, built.to_bytes())
        self._put_in_place(part)

    def _put_in_place(self, part: Path) -> None:
        with disk():
            flush_tree(part)
            replace_folder(part, self.records / part.name[1 : -len(".part")])

    def _tell_started(self, part: Path, work: Work) -> None:
        lot = settings_at_start(part, self.settings).lot_of(work.material)
        self.reports.tell(work, self.settings, "print-started", lot.lot if lot is not None else "")

    def _tell_built(self, entry: Entry, built: AsBuilt) -> None:
        done = built.verdict == "printed"
        self.reports.tell(built, self.settings, "print-done" if done else "print-failed", built.lot.lot, built.reason)
        self.inbox.settle(entry, "printed" if done else "waiting", self.shared_now(), built.reason)
        self._say("printed" if done else "failed", entry, built.reason, seconds=built.seconds)

    def _resume(self, entry: Entry) -> None:
        """A claim of ours that still holds."""
        part, place = self._part(entry), self.records / record_name(entry.name, entry.attempt)
        if (part / AS_BUILT).is_file():
            self._put_in_place(part)
        if place.is_dir():
            self._tell_built(entry, read_as_built(place))
        elif not part.is_dir():
            if entry.name not in self._broken:
                self.inbox.settle(entry, "waiting", self.shared_now(), "the cell stopped before the print")
        elif self.driver.goes_on:
            if begun(part) is None:
                shutil.rmtree(part)
            self._make(entry)
        else:
            self._fail(entry, read_work(self.inbox.place(entry.name)))

    def _fail(self, entry: Entry, work: Work) -> None:
        """A print that ended with us."""
        part, now = self._part(entry), self.now()
        with TelemetryFile(part / TELEMETRY):
            pass  # what there is of it becomes the file
        self._tell_started(part, work)  # said twice, it stands once
        before, reason = begun(part), "the cell stopped while it was printed"
        built = self._as_built(entry, work, cut_off(part / TELEMETRY, before.when if before else now, now, reason))
        self._publish(part, built)
        self._tell_built(entry, built)

    def _sort_out(self, record: Path) -> None:
        """Put aside what was made under a claim that another cell or attempt has by now."""
        if record.name.startswith("."):
            if record.name.endswith(".part"):
                self._keep_lost(record, "the claim ran out while the cell was stopped")
            return
        if record.name in self._ended or (record / RECORD).exists():
            return  # it was closed while the ledger knew it as ours
        built = read_as_built(record)
        entry = self.inbox.entry(built.name)
        ours = (entry.attempt == built.attempt and entry.cell == self.identity) or built.attempt in entry.printed
        if built.verdict == "printed" and not ours:
            self._keep_lost(record, f"attempt {built.attempt} was another's by then: {entry.cell or 'nobody'}")

    def _keep_lost(self, part: Path, reason: str) -> None:
        """Keep what was made under a claim that was lost: a trace of it, and no record of a device."""
        if not part.is_dir():
            return
        self._event(part, "claim lost", self.now(), reason)
        with disk():
            replace_folder(part, self.folder / "lost" / part.name.removeprefix(".").removesuffix(".part"))

    def _event(self, folder: Path, what: str, when: dt.datetime, meaning: str = "", digest: str = "") -> None:
        append_event(folder / EVENTS, who=self.settings.name, what=what, when=when.isoformat(), meaning=meaning, digest=digest)

    def _say(self, kind: Told, entry: Entry, text: str = "", *, seconds: float = 0.0, layer: int = -1, layers: int = 0) -> None:
        _LOG.info("%s %s attempt %d %s", kind, entry.name, entry.attempt, text)
        self.tell(News(kind, entry.name, entry.attempt, text, seconds, layer, layers))
