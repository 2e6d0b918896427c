"""What a cell tells its site, in its order: kept on the disk until the site has heard it, and told again after a break."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from batchone.pipeline.disk import disk
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.store import write_atomic

_LOG = logging.getLogger(__name__)
REMAKE = "remake"


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

    def put(self, report: Report) -> None:
        """Queue a report; the same as the last one that waits is not queued twice."""
        if self._deliver is None:
            return
        waiting = self._waiting()
        data = json.dumps(asdict(report), sort_keys=True).encode()
        if waiting and waiting[-1].read_bytes() == data:
            return
        number = int(waiting[-1].stem) + 1 if waiting else 1
        write_atomic(self.folder / f"{number:08d}.json", data)

    def send(self) -> int:
        """Tell the site what waits, the first first; how many still wait.

        A report that the site refuses for good is put aside into ``refused/`` with its reason; one that cannot be delivered now
        waits, and what comes after it too.
        """
        if self._deliver is None:
            return 0
        for path in self._waiting():
            report = Report(**json.loads(path.read_bytes()))
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

    def _aside(self, path: Path, report: Report, reason: str) -> None:
        _LOG.warning("report of %s is refused: %s", report.case, reason)
        tree: dict[str, Any] = {**asdict(report), "refused": reason}
        with disk():
            (self.folder / "refused").mkdir(exist_ok=True)
            write_atomic(self.folder / "refused" / path.name, json.dumps(tree, sort_keys=True).encode())
            path.unlink()

    def _waiting(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))
