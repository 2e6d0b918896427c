"""What a cell tells its site, in its order: kept on the disk until the site has heard it, and told again after a break."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from batchone.factory.as_built import jobs_of
from batchone.factory.proof import Work
from batchone.factory.record import AsBuilt, DeviceRecord
from batchone.factory.settings import CellSettings
from batchone.pipeline.disk import disk
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.store import write_atomic

_LOG = logging.getLogger(__name__)
REMAKE: Final = "remake"
_WITH_REASON: Final = (REMAKE, "print-failed")
_MOST_CHARACTERS: Final = 400  # as ``batchone workshop`` takes


@dataclass(frozen=True, slots=True)
class Report:
    """One step of a job: as ``batchone workshop CASE STEP`` takes it, or ``remake``."""

    case: str
    job: str
    step: str
    who: str
    machine: str = ""
    lot: str = ""
    reason: str = ""


Deliver = Callable[[Report], None]
"""Tells the site one report. An InputError refuses it for good; after a MachineError or OSError it is told again later."""


class Reports:
    """A queue of reports.

    Parameters
    ----------
    folder
        Where they wait, one file each; made when absent.
    deliver
        How the site hears of one; None: nobody is told, and nothing waits.
    """

    def __init__(self, folder: Path, deliver: Deliver | None) -> None:
        self.folder, self._deliver = folder, deliver
        with disk():
            folder.mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what a crash left half written: a report has a name of its own, so that nothing is ever written over it."""
        for part in self.folder.rglob(".*.part"):
            part.unlink()

    def put(self, report: Report) -> None:
        """Queue a report; the same as the last one that waits is not queued twice."""
        if self._deliver is None:
            return
        waiting = self._waiting()
        data = json.dumps(asdict(_clean(report)), sort_keys=True).encode()
        if waiting and waiting[-1].read_bytes() == data:
            return
        number = max([time.time_ns(), *(int(path.stem) + 1 for path in waiting[-1:])])  # rises, whatever the clock does
        write_atomic(self.folder / f"{number:020d}.json", data)

    def tell(self, made: Work | AsBuilt, own: CellSettings, step: str, lot: str = "", reason: str = "") -> None:
        """Queue a step of every job of a print, and send what waits."""
        for case, job in jobs_of(made):
            self.put(Report(case, job, step, own.name, machine=own.serial, lot=lot, reason=reason))
        self.send()

    def put_end(self, whole: DeviceRecord, own: CellSettings, withdrawn: Collection[str]) -> None:
        """Queue how a record ended. Of a plate with a withdrawn job the other jobs are made once more."""
        steps = ("post-processing-done", "inspection-done") if whole.verdict == "released" else (REMAKE,)
        for case, job in jobs_of(whole.as_built):
            for step in steps if job not in withdrawn else ():
                self.put(Report(case=case, job=job, step=step, who=own.name, reason=whole.reason))

    def send(self) -> int:
        """Tell the site what waits, the first first; how many still wait.

        A report that the site refuses for good is put aside into ``refused/`` with its reason; one that cannot be delivered now
        waits, and what comes after it too.
        """
        if self._deliver is None:
            return 0
        for path in self._waiting():
            try:
                report = Report(**json.loads(path.read_bytes()))
            except (ValueError, TypeError) as error:
                self._aside(path, None, str(error))
                continue
            try:
                self._deliver(report)
            except (MachineError, OSError) as error:
                _LOG.warning("report of %s waits: %s", report.case, error)
                return len(self._waiting())
            except InputError as error:
                self._aside(path, report, str(error))
            else:
                path.unlink()
        return 0

    def _aside(self, path: Path, report: Report | None, reason: str) -> None:
        _LOG.warning("report %s is refused: %s", path.name, reason)
        tree: dict[str, Any] = {**(asdict(report) if report is not None else {}), "refused": reason}
        with disk():
            (self.folder / "refused").mkdir(exist_ok=True)
            write_atomic(self.folder / "refused" / path.name, json.dumps(tree, sort_keys=True).encode())
            path.unlink()

    def _waiting(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.json"))


def _clean(report: Report) -> Report:
    """A reason is one line of printable words; one is told wherever one is wanted."""
    text = "".join(c if c.isprintable() else " " for c in report.reason)[:_MOST_CHARACTERS].strip()
    return replace(report, reason=text or ("the machine gave no reason" if report.step in _WITH_REASON else ""))
