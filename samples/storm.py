"""Workers and their stage children killed at random moments, while cases run: what a site must survive.

Nothing of the engine is imported: workers are programs here, and what counts is what lies in the site's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchone.pipeline.events import EVENTS, append_event, read_chain

_COMMAND = (sys.executable, "-m", "batchone.pipeline")
_LOOK_S = 0.02
_APPROVED = "approved"  # what the events say of a signed answer
_ANSWERED = 0.3  # share of the looks at which a person answers: meanwhile the case waits, and workers die
_LARGE = 1_000_000  # bytes: larger files are only looked for
STAGES = ("intake", "segment", "plan", "design", "check", "review", "slice", "job")


@dataclass
class Seen:
    """What a storm did and what was seen meanwhile; ``wrong`` must be empty."""

    kills: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Workers:
    """Worker processes of a site, of which some are killed and started again; ``pinned``: each with its children on one core."""

    def __init__(self, site: Path, log: Path, *, count: int = 1, pinned: bool = False) -> None:
        self._site, self._log, self._pinned = site, log, pinned
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count

    def start(self, *, but: int | None = None) -> None:
        """Start those that do not run; ``but`` stays dead."""
        for slot, process in enumerate(self._processes):
            if slot != but and (process is None or process.poll() is not None):
                command = (*_COMMAND, "worker", "--site", str(self._site), "--slot", str(slot + 1))
                with self._log.open("ab") as log:
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
        return [("worker", process.pid), *(("child", pid) for pid in _children(process.pid))]

    def pids(self) -> list[int]:
        """The processes of the workers that run."""
        return [process.pid for process in self._processes if process is not None and process.poll() is None]

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


def storm(
    site: Path,
    case: str,
    approval: Path,
    *,
    kills: int,
    seed: int,
    workers: int = 1,
    within_s: float = 600.0,
    pause_s: float = 3.0,
) -> Seen:
    """Kill processes at random moments until ``kills`` are done, then let the case end.

    Parameters
    ----------
    site, case
        Where the case lies, received.
    approval
        The ``review`` folder of an undisturbed run of the same case at a site with the same keys; it is put in place, as a
        person's answer, once the case waits for it.
    kills, seed, pause_s
        How many, and the seed of moments and victims; the mean time between two, s.
    workers
        How many work at once; more than one needs PostgreSQL in the site's settings.
    within_s
        When the case must have ended, s.
    """
    seen, chance = Seen(), random.Random(seed)  # noqa: S311 - no secret
    folder = site / "cases" / case
    started = time.monotonic()
    crew = Workers(site, site / "workers.log", count=workers)
    with _watched(folder, seen):
        crew.start()
        try:
            while time.monotonic() - started < within_s:
                time.sleep(chance.expovariate(1.0 / pause_s) if sum(seen.kills.values()) < kills else 0.2)
                if chance.random() < _ANSWERED:
                    answer(folder, approval)
                if _done(folder):
                    break
                if sum(seen.kills.values()) < kills and (victims := crew.victims()):
                    kind, pid = chance.choice(victims)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        seen.kills[f"{kind} in {_stage(folder)}"] += 1
                crew.start()
            else:
                seen.wrong.append(f"the case did not end within {within_s:.0f} s")
        finally:
            crew.stop()
    seen.wrong += twice_done(folder)
    seen.seconds = time.monotonic() - started
    return seen


def answer(folder: Path, approval: Path) -> None:
    """Put a person's signed answer in place once the case waits for it, told in its events first, as who signs does."""
    if (folder / "check" / "stage.json").exists() and not (folder / "review").exists():
        staging = folder / ".answer"
        shutil.copytree(approval, staging, dirs_exist_ok=True)
        record = json.loads((approval / "stage.json").read_bytes())
        for event in read_chain(approval.parent / EVENTS).events:
            if event.what == _APPROVED:
                told = {name: getattr(event, name) for name in ("who", "what", "when", "meaning", "digest")}
                record["events_head"] = append_event(folder / EVENTS, **told)
        (staging / "stage.json").write_text(json.dumps(record))
        with contextlib.suppress(OSError):
            staging.rename(folder / "review")


def twice_done(folder: Path) -> list[str]:
    """Stages that ran to their end more than once, by the case's events."""
    lines = (folder / "events.jsonl").read_bytes().splitlines()
    counts = Counter(str(json.loads(line)["what"]) for line in lines)
    return [f"{what}, {count} times" for what, count in counts.items() if what.endswith(" done") and count > 1]


def job_digest(folder: Path) -> str:
    """One digest over names and bytes of all files of a case's job folder."""
    (job,) = (path for path in (folder / "job").iterdir() if path.is_dir() and not path.name.startswith("."))
    running = hashlib.sha256()
    for path in sorted(path for path in job.rglob("*") if path.is_file()):
        running.update(f"{path.relative_to(job.parent)}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return running.hexdigest()


def other_files(folder: Path, truth: Path) -> list[str]:
    """What the stages of a case hold that those of an undisturbed run do not, or in other bytes; and what is not there."""
    found, wanted = ({path: _sha256(one / path) for path in _results(one)} for one in (folder, truth))
    return [
        f"{name} {'differs' if name in found and name in wanted else 'is too much' if name in found else 'is missing'}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]


def _results(folder: Path) -> list[str]:
    """The files of all stages; a record tells of seconds and memory, which are never the same twice."""
    paths = (path for stage in STAGES for path in (folder / stage).rglob("*") if path.is_file() and path.name != "stage.json")
    return [path.relative_to(folder).as_posix() for path in paths]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def _watched(folder: Path, seen: Seen) -> Iterator[None]:
    """Read all results again and again from another thread, as any reader might: each is whole, and no stage runs again."""
    ended = threading.Event()
    begun: dict[str, str] = {}

    def look() -> None:
        while not ended.wait(_LOOK_S):
            for stage in STAGES:
                record = _read(folder / stage, seen)
                if record is None or "started" not in record:
                    continue
                if begun.setdefault(stage, record["started"]) != record["started"]:
                    seen.wrong.append(f"{stage} was done and ran again")
                    begun[stage] = record["started"]
            seen.looks += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _read(stage: Path, seen: Seen) -> dict[str, Any] | None:
    """A stage's record, where it has one; what it names must be there, whole."""
    try:
        record: dict[str, Any] = json.loads((stage / "stage.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        seen.wrong.append(f"{stage.name}/stage.json was readable half-written")
        return None
    for name, sha in record.get("outputs", {}).items():
        path = stage / name
        try:
            whole = path.stat().st_size > _LARGE or hashlib.sha256(path.read_bytes()).hexdigest() == sha
        except FileNotFoundError:
            whole = False
        if not whole:
            seen.wrong.append(f"{stage.name}/{name} was readable half-written")
    return record


def _done(folder: Path) -> bool:
    return (folder / "job" / "stage.json").exists()


def _stage(folder: Path) -> str:
    """The first stage without a result."""
    return next((stage for stage in STAGES if not (folder / stage / "stage.json").exists()), "the end")


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for path in tasks for child in path.read_text().split()]
    return []
