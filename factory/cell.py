"""The cell agent: takes the most urgent job that it may print, proves it, has it printed, and keeps its record.

One cell has one machine. Everything that it did is on the disk before the ledger says so, and a cell that is started again goes
on from there: a job that was claimed and not begun is begun; a print that was under way is a failed attempt, because nobody
watched it; a print that ended is told. The site hears of each step in its order, now or when it can be reached again.
"""

from __future__ import annotations

import datetime as dt
import logging
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from batchone.factory.dispatch import dispatch
from batchone.factory.drivers.driver import Driver, LayerSeen, Progress
from batchone.factory.inbox import ClaimLost, Entry, Inbox, State
from batchone.factory.proof import MEASURED, Work, read_work, refusals
from batchone.factory.record import (
    AS_BUILT,
    RECORD,
    RECORDS,
    Alarmed,
    AsBuilt,
    DeviceRecord,
    ValueSummary,
    bodies_of,
    close,
    read_as_built,
    record_name,
    steps_of,
)
from batchone.factory.reports import Deliver, Report, Reports
from batchone.factory.settings import CellSettings
from batchone.factory.telemetry import TELEMETRY, Summary, TelemetryFile, summaries
from batchone.pipeline.disk import disk
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.job.signature import KEYS
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.job.withdrawal import WithdrawnJob
from batchone.pipeline.store import flush_tree, replace_folder, sha256_file, write_atomic

_LOG = logging.getLogger(__name__)
_RENEW_S: Final = 10.0  # a sixth of the time that a claim holds

SPOILING: Final = ("mains", "powder", "laser-power", "recoater-force")
"""What the machine itself notices and what makes a part worthless, so that nothing more is spent on it: project default,
unverified. Of what is not among them, as oxygen that rose and was waited for, a person judges after the print."""

_AFTER: Final[Mapping[str, State]] = {"released": "released", "rejected": "waiting", "withdrawn": "refused"}
Told = Literal["claimed", "refused", "printing", "layers", "printed", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class News:
    """What a cell has to say: to whoever watches it."""

    kind: Told
    name: str
    attempt: int
    text: str = ""
    seconds: float = 0.0
    layer: int = -1
    layers: int = 0


class Cell:
    """One cell.

    Parameters
    ----------
    folder
        Its own folder: ``cell.toml``, ``keys/``, ``records/``, ``reports/``, ``work/``, ``events.jsonl``.
    settings
        Of ``cell.toml``.
    inbox
        May be shared with other cells.
    driver
        Its machine.
    signers
        Who may release and approve jobs: an ``allowed_signers`` file or a site's key folder.
    withdrawn
        The jobs that count no more by now: they are neither printed nor released.
    deliver
        How its site hears of a step; None: there is nobody to tell.
    shelf
        Where closed records are copied to, for the site's genealogy.
    now
        The clock, in UTC.
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
        withdrawn: Callable[[], tuple[WithdrawnJob, ...]] = tuple,
        deliver: Deliver | None = None,
        shelf: Path | None = None,
        now: Callable[[], dt.datetime],
        tell: Callable[[News], None] = lambda news: None,
    ) -> None:
        self.folder, self.settings, self.inbox, self.driver = folder, settings, inbox, driver
        self.withdrawn = withdrawn
        self.signers, self.shelf, self.now, self.tell = signers, shelf, now, tell
        self.records = folder / RECORDS
        self.reports = Reports(folder / "reports", deliver)
        with disk():
            self.records.mkdir(parents=True, exist_ok=True)

    def resume(self) -> None:
        """End what was under way when the cell stopped: its prints are failed attempts, its ended prints are told."""
        for entry in self.inbox.entries():
            if entry.state == "claimed" and entry.cell == self.settings.name:
                self._resume(entry)
        for part in sorted(self.records.glob(".*.part")):  # of a claim that another cell has by now
            if (part / AS_BUILT).is_file() or (part / EVENTS).is_file():
                self._keep_lost(part)
            else:
                shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        self.reports.send()

    def step(self) -> bool:
        """Take the most urgent job and bring it to the end of its print; False when there is none to take."""
        self.reports.send()
        taken = self._take()
        if taken is None:
            return False
        entry, work = taken
        self._say("claimed", entry)
        if work is None:
            return True
        faults = refusals(work, self.settings, signers=self.signers, today=self.now().date(), withdrawn=self.withdrawn())
        if faults:
            self._refuse(entry, faults)
        else:
            self._print(entry, work)
        shutil.rmtree(work.folder, ignore_errors=True)
        return True

    def close_records(self) -> tuple[DeviceRecord, ...]:
        """Close the records that can be, tell the site, and let what was rejected be made once more."""
        closed = []
        for record in sorted(path for path in self.records.iterdir() if (path / AS_BUILT).is_file()):
            built = read_as_built(record)
            entry = self.inbox.entry(built.name)
            waits = (entry.state, entry.attempt) == ("printed", built.attempt)
            if record.name.startswith(".") or ((record / RECORD).exists() and not waits):
                continue
            jobs = {body.job for body in built.bodies}
            reason = next((f"job {one.job} was {one.what}" for one in self.withdrawn() if one.job in jobs), "")
            whole = close(record, keys=self.folder / KEYS, when=self.now(), gtin=self.settings.gtin, withdrawn=reason)
            if whole is None:
                continue
            if waits:  # told first: a report that is told twice stands once
                if whole.verdict != "withdrawn":
                    self._report_end(whole)
                self.inbox.move(whole.name, whole.attempt, _AFTER[whole.verdict], whole.reason)
            closed.append(whole)
        self._shelve()
        self.reports.send()
        return tuple(closed)

    def _shelve(self) -> None:
        """Copy the closed records that are not on the shelf yet."""
        if self.shelf is None:
            return
        try:
            there = {path.name for path in self.shelf.iterdir()} if self.shelf.is_dir() else set()
            for record in sorted(self.records.iterdir()):
                if record.name not in there and (record / RECORD).is_file():
                    dispatch(record, self.shelf)
        except (MachineError, OSError) as error:
            _LOG.warning("records wait for the shelf: %s", error)

    def _take(self) -> tuple[Entry, Work | None] | None:
        """Claim the job that is due first among those whose material is loaded, then among the others; copy it and read it."""
        now = self.now()
        waiting = [entry.name for entry in self.inbox.entries() if entry.is_free(self.settings.name, now)]
        for _, name in sorted((self._urgency(name), name) for name in waiting):
            entry = self.inbox.claim(name, self.settings.name, now)
            if entry is not None:
                return entry, self._copy(entry)
        return None

    def _urgency(self, name: str) -> tuple[bool, dt.datetime]:
        try:
            work = read_work(self.inbox.place(name))
        except (MachineError, OSError):
            return True, dt.datetime.max.replace(tzinfo=dt.UTC)  # is refused in its turn
        return self.settings.lot_of(work.material) is None, work.due

    def _copy(self, entry: Entry) -> Work | None:
        """What is proved is what is printed: a copy of our own, which nobody else writes to."""
        mine = self.folder / "work" / record_name(entry.name, entry.attempt) / entry.name
        shutil.rmtree(mine.parent, ignore_errors=True)
        with disk():
            mine.parent.mkdir(parents=True)
            shutil.copytree(self.inbox.place(entry.name), mine, symlinks=True)
        try:
            return read_work(mine)
        except (MachineError, OSError) as error:
            self._refuse(entry, (str(error),))
            shutil.rmtree(mine.parent, ignore_errors=True)
            return None

    def _refuse(self, entry: Entry, faults: tuple[str, ...]) -> None:
        reason = "; ".join(faults)
        append_event(
            self.folder / EVENTS,
            who=self.settings.name,
            what=f"refused {entry.name}",
            when=self.now().isoformat(),
            meaning=reason[:4000],
        )
        self.inbox.settle(entry, "refused", self.now(), reason[:2000])
        self._say("refused", entry, reason)

    def _print(self, entry: Entry, work: Work) -> None:
        part = self.records / f".{record_name(entry.name, entry.attempt)}.part"
        shutil.rmtree(part, ignore_errors=True)
        with disk():
            part.mkdir()
        started = self.now()
        self._event(part, "print started", started)
        self._report(work, "print-started")
        self._say("printing", entry, layers=work.layers)
        layers: list[LayerSeen] = []
        last = Progress("failed", 0.0, reason="the machine said nothing")
        try:
            with TelemetryFile(part / TELEMETRY) as telemetry, closing(self._followed(entry, work)) as following:
                for last in following:
                    telemetry.add(last.readings)
                    layers += last.layers
                    if last.layers:
                        self._say("layers", entry, seconds=last.seconds, layer=layers[-1].index, layers=work.layers)
                    spoilt = _spoilt(last.layers)
                    if spoilt:
                        last = Progress("failed", last.seconds, energy_kwh=last.energy_kwh, reason=spoilt)
                        break
        except ClaimLost as lost:
            self._keep_lost(part, str(lost))
            self._say("lost", entry, str(lost))
            return
        built = self._as_built(entry, work, part, started, layers, last)
        self._publish(part, built)
        self._tell_built(entry, work, built)

    def _followed(self, entry: Entry, work: Work) -> Generator[Progress, None, None]:
        """The machine's progress, with the claim renewed meanwhile."""
        renewed = self.now()
        build = self.driver.build(work, entry.attempt)
        try:
            for progress in build:
                if (self.now() - renewed).total_seconds() >= _RENEW_S or progress.state != "running":
                    entry, renewed = self.inbox.renew(entry, self.now()), self.now()
                yield progress
                if progress.state != "running":
                    return
        finally:
            build.close()

    def _as_built(
        self, entry: Entry, work: Work, part: Path, started: dt.datetime, layers: list[LayerSeen], last: Progress
    ) -> AsBuilt:
        lot = self.settings.lot_of(work.material)
        if lot is None:
            raise AssertionError("a job whose material is not loaded was refused")
        alarmed = tuple(Alarmed(layer=one.index, alarms=one.alarms) for one in layers if one.alarms)
        there = (part / TELEMETRY).is_file()
        told = summaries(part / TELEMETRY)
        wanted = work.conditions.lot_keys if work.conditions is not None else ()
        facts = lot.facts | _measured_facts(told)
        return AsBuilt(
            name=entry.name,
            attempt=entry.attempt,
            sums_sha256=sha256_file(work.folder / SUMS),
            cell=self.settings.name,
            machine=self.settings.machine,
            serial=self.settings.serial,
            simulated=self.driver.simulated,
            bodies=bodies_of(work),
            process=work.process,
            lot=lot,
            calibrations=self.settings.calibrations,
            started=started,
            ended=self.now(),
            seconds=last.seconds,
            energy_kwh=last.energy_kwh,
            layers=work.layers,
            layers_built=len(layers),
            alarmed=alarmed,
            telemetry=tuple(
                ValueSummary(name=one.name, readings=one.readings, least=one.least, mean=one.mean, greatest=one.greatest)
                for one in told
            ),
            telemetry_sha256=sha256_file(part / TELEMETRY) if there else None,
            facts={key: facts[key] for key in wanted if key in facts},
            facts_wanted=wanted,
            verdict="printed" if last.state == "done" else "failed",
            reason=last.reason,
            steps=steps_of(work, alarmed) if last.state == "done" else (),
        )

    def _publish(self, part: Path, built: AsBuilt) -> None:
        self._event(part, "print done" if built.verdict == "printed" else "print failed", built.ended, built.reason)
        write_atomic(part / AS_BUILT, built.to_bytes())
        with disk():
            flush_tree(part)
            replace_folder(part, self.records / record_name(built.name, built.attempt))

    def _tell_built(self, entry: Entry, work: Work, built: AsBuilt) -> None:
        done = built.verdict == "printed"
        self._report(work, "print-done" if done else "print-failed", built.reason)
        self.inbox.settle(entry, "printed" if done else "waiting", self.now(), built.reason)
        self._say("printed" if done else "failed", entry, built.reason, seconds=built.seconds)

    def _resume(self, entry: Entry) -> None:
        """A claim of ours that still holds: tell a print that ended, or end the attempt."""
        name = record_name(entry.name, entry.attempt)
        part = self.records / f".{name}.part"
        if not (self.records / name).is_dir() and not part.is_dir():
            self.inbox.settle(entry, "waiting", self.now(), "the cell stopped before the print")
            return
        work = read_work(self.inbox.place(entry.name))
        if part.is_dir():
            last = Progress("failed", 0.0, reason="the cell stopped while it was printed")
            self._publish(part, self._as_built(entry, work, part, self.now(), [], last))
        self._tell_built(entry, work, read_as_built(self.records / name))

    def _keep_lost(self, part: Path, reason: str = "another cell has the job by now") -> None:
        """Keep what was made under a claim that was lost: a trace of it, and no record of a device."""
        self._event(part, "claim lost", self.now(), reason)
        with disk():
            replace_folder(part, self.folder / "lost" / part.name[1 : -len(".part")])

    def _report_end(self, whole: DeviceRecord) -> None:
        steps = ("post-processing-done", "inspection-done") if whole.verdict == "released" else ("remake",)
        for step in steps:
            for body in _jobs(whole.as_built):
                self.reports.put(Report(case=body[0], job=body[1], step=step, who=self.settings.name, reason=whole.reason))

    def _report(self, work: Work, step: str, reason: str = "") -> None:
        lot = self.settings.lot_of(work.material)
        for job in work.jobs:
            self.reports.put(
                Report(
                    case=job.case,
                    job=job.job,
                    step=step,
                    who=self.settings.name,
                    machine=self.settings.serial,
                    lot=lot.lot if lot is not None else "",
                    reason=reason,
                )
            )
        self.reports.send()

    def _event(self, folder: Path, what: str, when: dt.datetime, meaning: str = "") -> None:
        append_event(folder / EVENTS, who=self.settings.name, what=what, when=when.isoformat(), meaning=meaning)

    def _say(self, kind: Told, entry: Entry, text: str = "", *, seconds: float = 0.0, layer: int = -1, layers: int = 0) -> None:
        _LOG.info("%s %s attempt %d %s", kind, entry.name, entry.attempt, text)
        self.tell(News(kind, entry.name, entry.attempt, text, seconds, layer, layers))


def _jobs(built: AsBuilt) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({(body.case, body.job) for body in built.bodies}))


def _spoilt(layers: tuple[LayerSeen, ...]) -> str:
    for layer in layers:
        found = [alarm for alarm in layer.alarms if alarm in SPOILING]
        if found:
            return f"layer {layer.index}: the machine told of {', '.join(found)}"
    return ""


def _measured_facts(told: tuple[Summary, ...]) -> dict[str, str]:
    """What the process wants filled in and the machine itself measures."""
    most = {summary.name: summary.greatest for summary in told}
    return {name: f"{most[value]:.3f} at most" for name, value in MEASURED.items() if value in most}
