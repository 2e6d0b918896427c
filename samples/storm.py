"""Workers and their stage children killed at random moments of every stage, while a case runs: what a site must survive.

Nothing of the engine is imported: workers are programs here, and what counts is what lies in the site's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchone.pipeline.events import EVENTS, append_event, read_chain
from batchone.samples.storm_aim import (
    ENGINE,
    GATE,
    STAGES,
    STARTING,
    Sight,
    Target,
    aimed_anew,
    draw_targets,
    gone,
    processor_s,
    usual_seconds,
)
from batchone.samples.storm_workers import Workers

_LOOK_S, _TICK_S = 0.02, 0.002
_APPROVED = "approved"  # what the events say of a signed answer
_REST = 0.25  # share of dead workers that stay away until the next kill, where there are others
_ANSWERED_S = 3.0  # a person answers within so long after a case began to wait, or after the last kill meant for its wait
_GONE_S = 10.0  # a killed process is gone by then, or the machine stands still
_LEAST = 1.0 / 3.0  # of the even share of each stage: some stages end before their moment, and others die


@dataclass
class Seen:
    """What a storm did and what was seen meanwhile; ``wrong`` must be empty.

    Attributes
    ----------
    kills
        By victim and the moment that it really died at: ``child in plan`` (its half-made result was there), ``worker before
        slice``, ``worker starting``, ``worker beside job`` (another's child was at it).
    aims
        The same by what was aimed at.
    seconds, processor_s
        By the clock, and of a processor: of the workers, their children and the storm itself.
    """

    kills: Counter[str] = field(default_factory=Counter)
    aims: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    processor_s: float = 0.0

    def within(self) -> Counter[str]:
        """Kills by stage of those who had it."""
        found = Counter[str]()
        for what, count in self.kills.items():
            _, here, stage = what.partition(" in ")
            if here:
                found[stage] += count
        return found

    def spared(self) -> list[str]:
        """What so many kills must hit, and did not; and what they should not have hit so often."""
        within, kills = self.within(), self.kills.total()
        least = _LEAST * (1.0 - ENGINE) * kills / len(STAGES)
        wrong = [f"{within[stage]} kills in {stage}, at least {least:.1f}" for stage in STAGES if within[stage] < least]
        if within.total() == kills:
            wrong.append("no kill in the engine")
        if (met := self.kills[f"worker {STARTING}"]) > (meant := self.aims[STARTING]):
            wrong.append(f"{met} kills met a worker that started, {meant} were meant to")
        return wrong


def storm(
    site: Path,
    case: str,
    approval: Path,
    *,
    kills: int,
    seed: int,
    workers: int = 1,
    within_s: float = 1200.0,
    usual: dict[str, float] | None = None,
    hits: Mapping[str, int] | None = None,
) -> Seen:
    """Kill processes at random moments of drawn stages, then let the case end.

    Parameters
    ----------
    site, case
        Where the case lies, received.
    approval
        The ``review`` folder of an undisturbed run of the same case at a site with the same keys; it is put in place, as a
        person's answer, once the case waits for it and no kill is meant for its wait.
    kills, seed
        How many, and the seed of moments and victims. Who ends before that moment is followed by another victim at once, and a
        target that the case has passed is drawn anew among what is left of it: only a case that is nearly over has fewer.
        Up to seventeen children may die before the engine gives a case up.
    workers
        How many work at once; more than one needs PostgreSQL in the site's settings.
    within_s
        When the case must have ended, s; nobody is killed in the second half of it.
    usual
        How long moments last (s), by aim; what is seen is noted here. None begins with the undisturbed run.
    hits
        Kills by stage so far, of other cases: what was spared comes first.
    """
    seen, chance = Seen(), random.Random(seed)  # noqa: S311 - no secret
    usual = usual_seconds(approval.parent) if usual is None else usual
    targets = list(draw_targets(kills, chance, hits or {}))
    crew, sight = Workers(site, site / "workers.log", count=workers), Sight(site / "cases" / case)
    begun_s, spent_s = time.monotonic(), _spent_s()
    fire = _Fire(crew, sight, approval, seen, chance, usual, alone=workers == 1)
    with _watched(sight.folder, seen):
        try:
            while targets:
                target = targets.pop(0)
                if fire.late(target):
                    fire.aims_anew(target, targets)
                    continue
                if not fire.meets(target, until_s=begun_s + within_s / 2.0):
                    break
                fire.strikes(target, again=[one.stage for one in targets[:1]] == [""])
            if not fire.ends(until_s=begun_s + within_s):
                seen.wrong.append(f"the case did not end within {within_s:.0f} s")
        finally:
            seen.processor_s += sum(processor_s(pid) for kind, pid in crew.victims() if kind == "child")
            crew.stop()
    seen.wrong += twice_done(sight.folder)
    seen.seconds = time.monotonic() - begun_s
    seen.processor_s += _spent_s() - spent_s
    return seen


class _Fire:
    """Waits for the moments of targets, and kills."""

    def __init__(
        self,
        crew: Workers,
        sight: Sight,
        approval: Path,
        seen: Seen,
        chance: random.Random,
        usual: dict[str, float],
        *,
        alone: bool,
    ) -> None:
        self._crew, self._sight, self._approval, self._seen = crew, sight, approval, seen
        self._chance, self._usual, self._alone = chance, usual, alone
        self._resting: int | None = None
        self._stage = STAGES[0]
        self._answer_s, self._waits_since = chance.uniform(0.0, _ANSWERED_S), 0.0

    def late(self, target: Target) -> bool:
        """Whether the case has passed a target."""
        stage = self._sight.stage()
        return bool(stage and target.stage) and STAGES.index(stage) > STAGES.index(target.stage)

    def aims_anew(self, target: Target, targets: list[Target]) -> None:
        """Draw a target that the case has passed anew, and put it among the others in their order."""
        here = self._seen.within() + Counter(one.stage for one in targets if one.inside)
        if (stage := self._sight.stage()) and (found := aimed_anew(target, stage, here, self._chance)):
            later = (
                number for number, one in enumerate(targets) if one.stage and STAGES.index(one.stage) > STAGES.index(found.stage)
            )
            targets.insert(next(later, len(targets)), found)

    def meets(self, target: Target, *, until_s: float) -> bool:
        """Wait for a target and then for its moment; False when that cannot come any more."""
        moment_s, late = math.inf, False
        while (now := time.monotonic()) < until_s and (stage := self._tick(target)):
            over = self._over(target, stage) and (not target.stage or self._busy(stage))
            if (over and not late) or (moment_s == math.inf and self._shows(target, stage)):
                moment_s, late = now + target.part * self._usual[target.aim], over
            if now >= moment_s:
                return True
        return False

    def strikes(self, target: Target, *, again: bool) -> None:
        """Kill a worker or a child; ``again``: the next target is the worker that follows."""
        had = self._having()
        starting = self._crew.starting()
        slot, pid = self._victim(target, had, starting)
        orphans = [child for kind, child in self._crew.victims_of(slot) if kind == "child"]
        if pid is None:
            self._seen.processor_s += sum(map(processor_s, orphans))  # nobody will tell of them
            self._crew.kill(slot)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _await_gone(pid)
        concerned = slot in had and pid in (None, had[slot])
        kind = "child" if pid else "worker"
        told = self._told(kind, concerned=concerned, starting=pid is None and slot in starting)
        self._seen.kills[told] += 1
        self._seen.aims[target.aim] += 1
        if concerned:
            self._sight.since_s = time.time()
        rests = pid is None and not (again or self._alone) and self._chance.random() < _REST
        self._resting = slot if rests else None

    def ends(self, *, until_s: float) -> bool:
        """Let the case end; False when it does not."""
        while time.monotonic() < until_s:
            if not self._tick(None):
                return True
        return False

    def _tick(self, target: Target | None) -> str:
        """Keep the workers alive, learn from what has ended, answer for the reviewer; the first stage without a result."""
        time.sleep(_TICK_S)
        self._crew.start(but=self._resting)
        self._crew.starting()
        self._usual[STARTING] = self._crew.start_s or self._usual[STARTING]
        stage, before = self._sight.stage(), self._stage
        if stage != before:
            self._stage = stage
            with contextlib.suppress(KeyError):
                record = json.loads((self._sight.folder / before / "stage.json").read_bytes())
                self._usual[f"in {before}"] = record["seconds"]
        waits = stage == GATE and (target is None or (bool(target.stage) and STAGES.index(target.stage) > STAGES.index(GATE)))
        if not waits:
            self._waits_since = time.monotonic()
        elif time.monotonic() > self._waits_since + self._answer_s:
            answer(self._sight.folder, self._approval)
        return stage

    def _shows(self, target: Target, stage: str) -> bool:
        if not target.stage:
            return bool(self._crew.starting())
        if stage != target.stage:
            return False
        if target.inside and stage != GATE:
            return self._sight.running(stage)
        return not self._sight.running(stage) and (stage != GATE or not self._having()) and self._works()

    def _over(self, target: Target, stage: str) -> bool:
        """Whether a target cannot come any more, or only when somebody dies."""
        if not target.stage:
            return not self._crew.starting()
        return self.late(target) or (stage == target.stage and not target.inside and self._sight.running(stage))

    def _busy(self, stage: str) -> bool:
        """Whether somebody has the case, or waits with it: while all start, what is overdue waits too."""
        return bool(self._having()) or (stage == GATE and self._works())

    def _works(self) -> bool:
        return len(self._crew.starting()) < len(self._crew.pids())

    def _having(self) -> dict[int, int]:
        """Who has the case: slots, and their children."""
        found = ((slot, pid) for slot in self._crew.alive() for kind, pid in self._crew.victims_of(slot) if kind == "child")
        return {slot: pid for slot, pid in found if self._sight.holds(pid)}

    def _victim(self, target: Target, had: Mapping[int, int], starting: list[int]) -> tuple[int, int | None]:
        """The slot, and its child where it is that who dies; what was aimed at where that is there."""
        lives = {slot: [pid for kind, pid in self._crew.victims_of(slot) if kind == "child"] for slot in self._crew.alive()}
        if not target.stage and starting:
            return self._chance.choice(starting), None
        busy = [slot for slot in lives if slot in had] or [slot for slot, children in lives.items() if children]
        if not busy:
            return self._chance.choice([slot for slot in lives if slot not in starting] or list(lives)), None
        slot = self._chance.choice(busy)
        return slot, (had.get(slot) or self._chance.choice(lives[slot])) if target.kind == "child" and lives[slot] else None

    def _told(self, kind: str, *, concerned: bool, starting: bool) -> str:
        """What a victim was at when it died: looked at afterwards, when it cannot go on."""
        if starting:
            return f"{kind} {STARTING}"
        stage = self._sight.stage()
        if stage == GATE and not self._having() and not concerned:
            return f"{kind} in {GATE}"
        if stage and self._sight.running(stage):
            return f"{kind} {'in' if concerned else 'beside'} {stage}"
        return f"{kind} before {stage or 'the end'}"


def _await_gone(pid: int) -> None:
    until = time.monotonic() + _GONE_S
    while not gone(pid) and time.monotonic() < until:
        time.sleep(_TICK_S)


def _spent_s() -> float:
    """Seconds of a processor of this process, and of those that it saw end, with theirs."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


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
    whole: dict[Path, tuple[int, ...]] = {}

    def look() -> None:
        while not ended.wait(_LOOK_S):
            for stage in STAGES:
                record = _read(folder / stage, seen, whole)
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


def _read(stage: Path, seen: Seen, whole: dict[Path, tuple[int, ...]]) -> dict[str, Any] | None:
    """A stage's record, where it has one; what it names must be there, whole. What was whole, and is the same file, still is."""
    try:
        record: dict[str, Any] = json.loads((stage / "stage.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        seen.wrong.append(f"{stage.name}/stage.json was readable half-written")
        return None
    for name, sha in record.get("outputs", {}).items():
        path = stage / name
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if whole.get(path) == stamp:
                continue
            if hashlib.sha256(path.read_bytes()).hexdigest() == sha:
                whole[path] = stamp
                continue
        seen.wrong.append(f"{stage.name}/{name} was readable half-written")
    return record
