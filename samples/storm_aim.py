"""Where a storm strikes: targets that are drawn in advance, and what the folder and the processes of a case show of the moment.

A stage runs while its half-made result lies hidden beside its place; who holds the case has its lock open.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STAGES: Final = ("intake", "segment", "plan", "design", "check", "review", "slice", "job")
GATE: Final = "review"
STARTING: Final = "starting"
ENGINE: Final = 1.0 / 6.0  # share of the kills that are meant for the engine: between stages, or while a worker starts
_WORKERS: Final = {True: 2.0 / 3.0, False: 1.0 / 3.0}  # share of workers among the victims at the gate, and elsewhere
_CHILD: Final = b"batchone.pipeline.engine.child"  # in the command of a stage child
_OFTEN: Final = 2  # in a stage of one case: a third child that dies there makes the engine wait a while

_WAIT_S: Final = 3.0  # project default: how long a case is let wait for its review, or for its first stage, before a kill


@dataclass(frozen=True, slots=True)
class Target:
    """One kill to come.

    Attributes
    ----------
    stage
        In which stage; or before which, where not ``inside``; empty: a worker that starts.
    kind
        ``worker`` or ``child``: who dies.
    part
        When, as a share (0 to 1) of the time that such a moment lasts.
    """

    stage: str
    inside: bool
    kind: str
    part: float

    @property
    def aim(self) -> str:
        """What is meant to be hit, in a word or two."""
        return f"{'in' if self.inside else 'before'} {self.stage}" if self.stage else STARTING


def draw_targets(count: int, chance: random.Random, hits: Mapping[str, int]) -> tuple[Target, ...]:
    """Draw the targets of one case, in the order in which it comes to them.

    Parameters
    ----------
    count
        How many.
    hits
        Kills in each stage so far: those that were hit least come first.
    """
    engine = sum(chance.random() < ENGINE for _ in range(count))
    starting = sum(chance.random() < 1.0 / 2.0 for _ in range(engine))
    total, here, targets = Counter(hits), Counter[str](), list[Target]()
    for _ in range(count - engine):
        free = [stage for stage in STAGES if here[stage] < _OFTEN] or list(STAGES)
        stage = chance.choice([one for one in free if total[one] == min(total[other] for other in free)])
        total[stage] += 1
        here[stage] += 1
        kind = "worker" if chance.random() < _WORKERS[stage == GATE] else "child"
        targets.append(Target(stage, True, kind, chance.random()))
    for _ in range(engine - starting):
        stage = chance.choice([one for one in STAGES if one != GATE])  # before that a case waits already
        targets.append(Target(stage, False, chance.choice(("worker", "child")), chance.random()))
    chance.shuffle(targets)
    targets.sort(key=lambda target: (STAGES.index(target.stage), target.inside))
    for _ in range(starting):  # at first, or when another has just died
        places = [0, *(place for place, target in enumerate(targets, start=1) if target.kind == "worker")]
        targets.insert(chance.choice(places), Target("", False, "worker", chance.random()))
    return tuple(targets)


def aimed_anew(target: Target, stage: str, here: Mapping[str, int], chance: random.Random) -> Target | None:
    """A target whose stage is over is drawn anew, among the stage at hand and later ones.

    Parameters
    ----------
    stage
        The first one without a result.
    here
        Kills in each stage of this case, and those that are still meant for it: where they are many already, none is added.

    Returns
    -------
    Target or None
        None: what is left of the case has enough.
    """
    free = [one for one in STAGES[STAGES.index(stage) :] if here.get(one, 0) <= _OFTEN]
    return dataclasses.replace(target, stage=chance.choice(free), inside=True) if free else None


def usual_seconds(truth: Path) -> dict[str, float]:
    """How long the moments of a case last (s), by :attr:`Target.aim`, from the records of an undisturbed run."""
    found = {f"in {GATE}": _WAIT_S, f"before {STAGES[0]}": _WAIT_S, STARTING: _WAIT_S}
    ended: float | None = None
    for stage in STAGES:
        record = truth / stage / "stage.json"
        tree = json.loads(record.read_bytes())
        if ended is not None and stage != GATE:
            found[f"before {stage}"] = max(record.stat().st_mtime - ended - tree["seconds"], 0.0)
        if stage != GATE:
            found[f"in {stage}"] = tree["seconds"]
        ended = record.stat().st_mtime
    return found


class Sight:
    """What a case's folder shows to whoever looks; nothing of the engine is asked.

    Parameters
    ----------
    folder
        The case's folder.

    Attributes
    ----------
    since_s
        The time of the last kill: what was half-made before is nobody's work any more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, str((folder / ".lock").resolve())
        self._done = 0  # stages from the first on that have a result: none goes away
        self.since_s = 0.0

    @property
    def folder(self) -> Path:
        """The case's folder."""
        return self._folder

    def stage(self) -> str:
        """The first stage without a result; empty at the end."""
        while self._done < len(STAGES) and (self._folder / STAGES[self._done] / "stage.json").exists():
            self._done += 1
        return STAGES[self._done] if self._done < len(STAGES) else ""

    def running(self, stage: str) -> bool:
        """Whether somebody makes the result of this stage, or died at it since the last kill."""
        try:
            return (self._folder / f".{stage}.part").stat().st_ctime > self.since_s
        except OSError:
            return False

    def holds(self, pid: int) -> bool:
        """Whether this process has the case."""
        with contextlib.suppress(OSError):
            for one in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(one.readlink()) == self._lock:
                        return True
        return False


def children_of(pid: int) -> list[int]:
    """The stage children that a worker has started, and that are not gone; it asks other programs too, for a moment."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return [one for one in found if _CHILD in _command(one)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def processor_s(pid: int) -> float:
    """Seconds of a processor that a process has taken so far, with those children that it has seen end."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def gone(pid: int) -> bool:
    """Whether a process has ended; its parent may not have heard of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
