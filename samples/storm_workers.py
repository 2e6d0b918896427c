"""Worker processes of a site, for whoever kills some of them: programs here, nothing of the engine is imported."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from batchone.samples.storm_aim import children_of

_COMMAND = (sys.executable, "-m", "batchone.pipeline")


class Workers:
    """Worker processes of a site, of which some are killed and started again; ``pinned``: each with its children on one core."""

    def __init__(self, site: Path, log: Path, *, count: int = 1, pinned: bool = False) -> None:
        self._site, self._log, self._pinned = site, log, pinned
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self._begun: dict[int, tuple[float, int]] = {}  # slots that have not said yet that they work: when, and where in the log
        self.start_s: float | None = None
        """How long the last worker that said that it works took to start."""

    def start(self, *, but: int | None = None) -> None:
        """Start those that do not run; ``but`` stays dead."""
        for slot, process in enumerate(self._processes):
            if slot != but and (process is None or process.poll() is not None):
                command = (*_COMMAND, "worker", "--site", str(self._site), "--slot", str(slot + 1))
                with self._log.open("ab") as log:
                    self._begun[slot] = (time.monotonic(), log.seek(0, os.SEEK_END))
                    begun = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
                if self._pinned:
                    cores = sorted(os.sched_getaffinity(0))
                    os.sched_setaffinity(begun.pid, {cores[slot % len(cores)]})
                self._processes[slot] = begun

    def victims(self) -> list[tuple[str, int]]:
        """The processes that may die: kind and id of workers and of the stage children that they have."""
        return [victim for slot in range(len(self._processes)) for victim in self.victims_of(slot)]

    def victims_of(self, slot: int) -> list[tuple[str, int]]:
        """The same of one worker."""
        process = self._processes[slot]
        if process is None or process.poll() is not None:
            return []
        return [("worker", process.pid), *(("child", pid) for pid in children_of(process.pid))]

    def alive(self) -> dict[int, int]:
        """The slots whose workers run, and their processes."""
        found = ((slot, process) for slot, process in enumerate(self._processes) if process is not None)
        return {slot: process.pid for slot, process in found if process.poll() is None}

    def pids(self) -> list[int]:
        """The processes of the workers that run."""
        return list(self.alive().values())

    def starting(self) -> list[int]:
        """The slots whose workers live and have neither said that they work nor begun to."""
        for slot, (begun, offset) in list(self._begun.items()):
            with self._log.open("rb") as log:
                log.seek(offset)
                if f"worker-{slot + 1} works at ".encode() in log.read():
                    self.start_s = time.monotonic() - begun
                    del self._begun[slot]
        return [slot for slot in self._begun if len(self.victims_of(slot)) == 1]

    def kill(self, slot: int) -> None:
        """Kill one worker for good."""
        process = self._processes[slot]
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Ask all to end, as an operator would."""
        for process in self._processes:
            if process is not None and process.poll() is None:
                process.terminate()
        for process in self._processes:
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20.0)
                process.kill()
                process.wait()
