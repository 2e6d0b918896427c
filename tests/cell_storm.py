"""Two cells that share an inbox, killed again and again, while jobs go through them: what a factory must survive.

Each cell is kept by a process of its own, which runs ``batchone cell`` anew whenever it died. It dies by the clock, or just
before or after one of its own steps on the disk (:data:`STEPS`). Meanwhile the site's disk cannot be reached at times, a
technician signs what was printed, and sometimes measures what is beyond its tolerance. One cell reaches its site over the server,
which is killed and started again; its twin tells a broker of itself, which is stopped and started again, and so is the intake
that hears it. The other cell sees the site's folders, and gives its builds to a machine's software, which goes on while its cell
is dead. Claims and waits are shorter here: :data:`SHORT_S`.

    python cell_storm.py CELL --inbox DIR --signers FILE --journal FILE --kills N --seed N      # keeps one cell
    python cell_storm.py serve --port N                                                         # serves the site
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
from mosquitto import Mosquitto

import batchone.factory.inbox as of_inbox
import batchone.pipeline.case_workshop  # noqa: F401 - once, not in each life of a cell
import batchone.pipeline.commands.cell as command
from batchone.factory.dispatch import RECORDS
from batchone.factory.drivers.folder import LOG, STOP
from batchone.factory.drivers.twin import TwinDriver
from batchone.factory.inbox import PRINTS, Entry, Inbox
from batchone.factory.proof import Work, read_work
from batchone.factory.record import (
    AS_BUILT,
    RECORD,
    DeviceRecord,
    open_steps,
    read_as_built,
    record_signers,
    sign_step,
    verify_record,
)
from batchone.factory.settings import SETTINGS
from batchone.factory.telemetry import TELEMETRY
from batchone.factory.twin.machine import Twin
from batchone.factory.twin.messages import _DIGITS
from batchone.pipeline.cli import app
from batchone.pipeline.config import ServerSettings
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.events import CASES, EVENTS, append_event, read_chain
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.signature import DEMONSTRATOR, KEYS
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.serve.accounts import Account
from batchone.pipeline.serve.services import make_services
from batchone.pipeline.store import CaseFolder, write_atomic
from batchone.pipeline.telemetry import FOLDER, Telemetry
from batchone.slicer.profiles import load_machine, load_process

STEPS = ("replace", "rename", "link", "unlink", "mkdir", "fsync")  # of the disk, at which a cell dies
SHORT_S = {
    "CLAIM_S": 20.0,
    "ELSEWHERE_S": 1.0,
    "RENEW_S": 2.0,
}  # instead of 60, 30, 10: a dead cell's job is free within the storm, and a machine under load keeps its claims
MACHINE, PROCESS, MATERIAL = "sim-01", "ti64-lpbf", "Ti-6Al-4V ELI"
FACTS = {
    "powder lot": "TEST-1", "powder supplier": "TEST^SUPPLIER", "times sieved and used": "2",
    "oxygen in the chamber, percent": "0.05",
}  # fmt: skip
_PATIENCE_S = 15.0  # of a life that is to end at a step on the disk
_LAST_STEP, _LOOK_S, _POLL_S, _TICK_S = 90, 0.05, 0.1, 0.25  # a job takes some 90 steps on the disk
_DOWN_S = {"server": 25.0, "broker": 20.0, "intake": 20.0}  # mean times until each is taken down
_SAMPLES = 100_000  # more than a build has
_REJECTED = 0.04  # share of the measures that are beyond their tolerance
_SEEDS = {"cell-1": 1, "cell-2": 2}


@dataclass
class Seen:
    """What a storm did, and what came of it; ``wrong`` must be empty."""

    kills: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    restarts: Counter[str] = field(default_factory=Counter)
    readings: int = 0
    samples: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def storm(folder: Path, jobs: list[Path], keys: Path, *, kills: int, seed: int, speed: float, within_s: float) -> Seen:
    """Let two cells make all jobs while they are killed ``kills`` times, and look at what is there in the end.

    Parameters
    ----------
    keys
        Those that signed the jobs; they become the site's.
    folder
        Gets ``inbox/``, ``site/``, ``cell-1/`` (a twin, over the server), ``cell-2/`` (a machine's own software), ``heard/``
        (what the twin told) and ``broker/``.
    speed
        Seconds of a machine in a second of the clock.
    within_s
        When all must be released.
    """
    chance, seen = random.Random(seed), Seen()
    (folder / "broker").mkdir()
    broker = Mosquitto(folder / "broker")
    token, port = _lay_out(folder, jobs, keys, speed, broker), _free_port()
    began = time.monotonic()
    programs = Programs(folder, broker, port, chance, seen)
    machine = Software(folder / "cell-2" / "machine", speed)
    machine.start()
    (folder / "cell-1" / SETTINGS).write_text((folder / "cell-1" / SETTINGS).read_text().replace("PORT", str(port)))
    programs.start()
    keepers: list[subprocess.Popen[bytes]] = []
    try:
        while not _over(folder, jobs, kills, programs):
            if len(keepers) < len(_SEEDS) and (not keepers or _printed(folder, "cell-1")):  # the other would leave it nothing
                keepers.append(_keeper(folder, list(_SEEDS)[len(keepers)], kills // 2, seed * 10 + len(keepers), token))
            if time.monotonic() - began > within_s:
                seen.wrong.append(f"not all was released, or not all kills done, within {within_s:.0f} s")
                break
            _work(folder, chance, seen, programs)
            time.sleep(_TICK_S)
    finally:
        for keeper in keepers:
            keeper.terminate()
        for keeper in keepers:
            keeper.wait()
        machine.over.set()
        machine.join()
        programs.stop()
    _reach(folder)
    seen.seconds = time.monotonic() - began
    _judge(folder, jobs, machine, seen)
    return seen


# the stage


def _lay_out(folder: Path, jobs: list[Path], keys: Path, speed: float, broker: Mosquitto) -> str:
    """Returns the token of the cell that comes over the server."""
    shutil.copytree(keys, folder / "site" / KEYS)
    (folder / "inbox").mkdir()
    (folder / "heard").mkdir()
    (folder / "site" / PRINTS).symlink_to("../inbox")  # a share that both cells reach, each in its own way
    for job in jobs:
        shutil.copytree(job, folder / "inbox" / job.name)
        released_case(folder / "site", read_manifest((job / "job.json").read_bytes()).case, job.name)
    today = dt.datetime.now(dt.UTC).date()
    facts = ", ".join(f'"{key}" = "{value}"' for key, value in FACTS.items())
    served = '[site]\nurl = "http://127.0.0.1:PORT"\n'
    told = f'[twin.broker]\nurl = "{broker.url}"\n'
    ways = (("twin", "", served + told), ("folder", 'report = "../site"\n', ""))
    for name, (driver, report, tables) in zip(_SEEDS, ways, strict=True):
        (folder / name / KEYS).mkdir(parents=True)
        (folder / name / SETTINGS).write_text(
            f'name = "{name}"\nmachine = "{MACHINE}"\nserial = "TEST-{name}"\ndriver = "{driver}"\n{report}'
            f'[[lots]]\nmaterial = "{MATERIAL}"\nlot = "TEST-1"\nexpires = {today}\nfacts = {{{facts}}}\n'
            f'[[calibrations]]\nname = "laser power"\ndone = {today}\ndue = {today + dt.timedelta(days=1)}\n'
            f"[twin]\nspeed = {speed}\nseed = {_SEEDS[name]}\n{tables}"
        )
    services = make_services(folder / "site", settings=ServerSettings(), clock=time.time)
    services.accounts.make(Account("cell-1", ("cell",)), by="storm")
    services.accounts.set_password("cell-1", "a long password of a storm")
    made = services.credentials.make_token("cell-1", "cell", days=1, label="")
    services.store.close()
    assert made is not None
    return made[1]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def released_case(site: Path, case: str, job: str) -> None:
    """A case of the site whose job was released."""
    made = CaseFolder(site / CASES / case)
    order = f'case = "{case}"\ndevice = "cranial-implant"\nprocess = "{PROCESS}"\nmachine = "{MACHINE}"\n'
    (made.path / "order.toml").write_text(f"{order}due = 2026-12-01T08:00:00Z\n")
    record = {"seconds": 1.0, "value_digest": "d", "taken": {"CheckedDevice": "d", "Approval": "d"}, "findings": {"$tuple": []}}
    for stage in ("intake", "segment", "plan", "design", "check", "review", "slice", "job"):
        (made.path / stage).mkdir()
        (made.path / stage / "stage.json").write_text(json.dumps(record))
    (made.path / "job" / "value.json").write_text(json.dumps({"folder": f"job/{job}", "sums_digest": "5" * 64}))
    with made.locked():
        now = dt.datetime.now(dt.UTC).isoformat()
        append_event(made.path / EVENTS, who="batchone", what="package done", when=now, digest="d")


class Software(threading.Thread):
    """The software of a machine that prints what is dropped into its folder, whatever becomes of the cell beside it."""

    def __init__(self, folder: Path, speed: float) -> None:
        super().__init__(name="machine")
        self.folder, self.speed, self.over = folder, speed, threading.Event()
        self.ended: list[tuple[str, str]] = []  # build, and how it ended

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(_LOOK_S):
            for place in sorted(self.folder.glob("[!.]*")) if self.folder.is_dir() else ():
                if not (place / LOG).is_file() and not self.over.is_set():
                    self._print(place)

    def _print(self, place: Path) -> None:
        twin = Twin(place, load_process(PROCESS), load_machine(MACHINE), seed=3)
        layers = [{"index": one.index, "end_s": one.end_s, "energy_j": one.energy_j} for one in twin.built]
        words = 5
        for word in range(1, words + 1):
            time.sleep(twin.seconds / self.speed / words)
            state = "failed" if (place / STOP).exists() else "done" if word == words else "running"
            told = layers[: len(layers) * word // words]
            tree = {
                "state": state,
                "seconds": twin.seconds * word / words,
                "layers": told,
                "reason": "stopped" * (state == "failed"),
            }
            write_atomic(place / LOG, json.dumps(tree).encode())
            if state != "running":
                self.ended.append((place.name, state))
                return


class Programs:
    """The server, the broker and the intake of what machines tell: taken down and started again, each by its own clock."""

    def __init__(self, folder: Path, broker: Mosquitto, port: int, chance: random.Random, seen: Seen) -> None:
        self._folder, self._broker, self._port, self._chance, self._seen = folder, broker, port, chance, seen
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._next = {name: time.monotonic() + chance.expovariate(1.0 / mean_s) for name, mean_s in _DOWN_S.items()}

    def start(self) -> None:
        """Start those that do not run."""
        if self._broker.stopped:
            self._broker.start()
        server = [str(Path(__file__).resolve()), "serve", "--port", str(self._port)]
        intake = ["-m", "batchone.pipeline", "telemetry", "--broker", self._broker.url, "--site", "heard"]
        for name, words in (("server", server), ("intake", intake)):
            if name not in self._running or self._running[name].poll() is not None:
                with (self._folder / f"{name}.log").open("ab") as log:
                    self._running[name] = subprocess.Popen([sys.executable, *words], cwd=self._folder, stdout=log, stderr=log)

    @property
    def starting(self) -> bool:
        """Whether the server does not answer yet: it would make a site where there is none."""
        running = "server" in self._running and self._running["server"].poll() is None
        with socket.socket() as tried:
            return running and tried.connect_ex(("127.0.0.1", self._port)) != 0

    @property
    def all_down_once(self) -> bool:
        """Whether the storm has met each of them."""
        return set(self._seen.restarts) == set(_DOWN_S)

    def suffer(self) -> None:
        """Take down whose time it is, and start again what is down, after a while."""
        down = self._broker.stopped or any(one.poll() is not None for one in self._running.values())
        if down and self._chance.random() < 0.3:
            self.start()
        for name, when in self._next.items():
            if name == "server" and self.starting:  # its time counts from when it answers
                self._next[name] = time.monotonic() + self._chance.expovariate(1.0 / _DOWN_S[name])
            elif time.monotonic() >= when:
                self._take_down(name)

    def _take_down(self, name: str) -> None:
        self._next[name] = time.monotonic() + self._chance.expovariate(1.0 / _DOWN_S[name])
        if name == "broker":
            self._broker.stop()  # in order: what it has not written down it forgets otherwise
        else:
            self._running[name].kill()
            self._running[name].wait()
        self._seen.restarts[name] += 1

    def stop(self) -> None:
        """End all."""
        for one in self._running.values():
            one.kill()
            one.wait()
        self._broker.stop()


def serve() -> None:
    """Serve the site, with claims as short as those of the cells."""
    for name, value in SHORT_S.items():
        setattr(of_inbox, name, value)
    app(["serve", "--site", "site", "--no-worker", "--port", sys.argv[-1]])


def _keeper(folder: Path, name: str, kills: int, seed: int, token: str) -> subprocess.Popen[bytes]:
    where = [] if name == "cell-1" else ["--inbox", "inbox"]
    asked = [
        name,
        *where,
        "--signers",
        f"site/{KEYS}/allowed_signers",
        "--journal",
        f"{name}.journal",
        "--kills",
        str(kills),
    ]
    with (folder / f"{name}.log").open("ab") as log:
        program = [sys.executable, str(Path(__file__).resolve()), *asked, "--seed", str(seed)]
        return subprocess.Popen(program, cwd=folder, stdout=log, stderr=log, env=os.environ | {"BATCHONE_TOKEN": token})


# what goes on meanwhile


def _work(folder: Path, chance: random.Random, seen: Seen, programs: Programs) -> None:
    """The site goes and comes, and people do what is theirs."""
    if (folder / ".site").exists():
        if chance.random() < 0.3:
            _reach(folder)
    else:
        programs.suffer()
    if not (folder / ".site").exists() and not programs.starting and chance.random() < 0.03:
        (folder / "site").rename(folder / ".site")
        seen.cuts += 1
    for name in _SEEDS:
        for record in sorted((folder / name / RECORDS).glob("[!.]*")):
            if not (record / RECORD).exists():
                with contextlib.suppress(BatchoneError, OSError):  # it was closed or put aside meanwhile
                    _sign(folder / name, record, chance)
    for entry in Inbox(folder / "inbox").entries():
        if entry.state == "held":
            Inbox(folder / "inbox").free(entry.name)


def _sign(cell: Path, record: Path, chance: random.Random) -> None:
    for step in open_steps(record):
        beyond = 1.5 if chance.random() < _REJECTED else 0.5
        measured = None if step.within_mm is None else beyond * step.within_mm
        now = dt.datetime.now(dt.UTC)
        sign_step(record, step.number, who=DEMONSTRATOR, keys=cell / KEYS, when=now, measured_mm=measured)


def _reach(folder: Path) -> None:
    if (folder / ".site").exists():
        (folder / ".site").rename(folder / "site")


def _over(folder: Path, jobs: list[Path], kills: int, programs: Programs) -> bool:
    inbox = Inbox(folder / "inbox")
    if any(inbox.entry(job.name).state != "released" for job in jobs):
        return False
    if sum(line.startswith("killed ") for path in folder.glob("*.journal") for line in path.read_text().splitlines()) < kills:
        return False
    if not programs.all_down_once:
        return False
    _reach(folder)
    programs.start()
    if programs.starting:  # it sweeps first what came half
        return False
    told = not list(folder.glob("cell-*/reports/[0-9]*.json"))
    shelved = len(list(folder.glob("site/records/[!.]*"))) == len(list(folder.glob(f"cell-*/{RECORDS}/[!.]*")))
    return told and shelved and all(_heard(folder, record) for record in (folder / "cell-1" / RECORDS).glob("[!.]*"))


def _printed(folder: Path, cell: str) -> bool:
    """Whether the ledger knows of a print of a cell."""
    entries = Inbox(folder / "inbox").entries()
    return any(entry.state in ("printed", "released") and entry.cell.startswith(f"{cell}@") for entry in entries)


def _heard(folder: Path, record: Path) -> bool:
    """Whether all samples of a print that a twin ended are in the files of the site."""
    if read_as_built(record).verdict != "printed":
        return True
    store = Telemetry(folder / "heard")
    try:
        session = store.session("TEST-cell-1", record.name)
        return session is not None and session.told is not None and session.filed >= session.told
    finally:
        store.opened.close()


# what must be so in the end


def _judge(folder: Path, jobs: list[Path], machine: Software, seen: Seen) -> None:
    wrong = seen.wrong
    printed: Counter[tuple[str, str]] = Counter(machine.ended)
    for name in _SEEDS:
        for line in (folder / f"{name}.journal").read_text().splitlines() if (folder / f"{name}.journal").exists() else ():
            kind, _, text = line.partition(" ")
            if kind == "killed":
                seen.kills[text] += 1
            elif kind == "printed":
                build, state = text.split()
                printed[build, state] += 1
            else:
                wrong.append(f"{name} {line}")
    wrong += [f"{build} ended {count} times, {state}" for (build, state), count in printed.items() if count > 1]
    done = {build for build, state in printed if state == "done"}
    found: dict[str, list[tuple[str, DeviceRecord]]] = {}
    for name in _SEEDS:
        allowed = record_signers(folder / name / KEYS)
        for record in sorted((folder / name / RECORDS).iterdir()):
            try:
                whole = verify_record(record, allowed=allowed)
                wrong += _record_faults(folder, record, whole, seen)
            except (BatchoneError, OSError) as error:
                wrong.append(f"{name}: record {record.name}: {error}")
                continue
            found.setdefault(whole.name, []).append((name, whole))
            seen.attempts[whole.verdict] += 1
    if not seen.readings:
        wrong.append("the twin over the server printed nothing")
    lost = {path.name for path in folder.glob("cell-*/lost/*")}
    seen.attempts["lost"] = len(lost)
    recorded = {f"{one.name}-{one.attempt}" for listed in found.values() for _, one in listed}
    wrong += [f"{build} was printed and nothing tells of it" for build in sorted(done - recorded - lost)]
    for job in jobs:
        wrong += _job_faults(folder, job, [one for _, one in found.get(job.name, [])], lost)
    wrong += [f"{path.relative_to(folder)} was left" for path in _leftovers(folder)]
    for path in [*folder.glob("cell-*/reports/refused/*")]:
        tree = json.loads(path.read_bytes())
        wrong.append(f"the site refused {tree.get('step')} of {tree.get('case')}: {tree['refused']}")


def _record_faults(folder: Path, record: Path, whole: DeviceRecord, seen: Seen) -> Iterator[str]:
    name, built = record.name, whole.as_built
    chain = read_chain(record / EVENTS)
    if chain.broken_line is not None or chain.torn_bytes:
        yield f"{name}: its events are broken"
    shelf = folder / "site" / RECORDS / name
    if not shelf.is_dir() or (shelf / SUMS).read_bytes() != (record / SUMS).read_bytes():
        yield f"{name}: its site has it not"
    if built.cell != "cell-1" or built.verdict != "printed":
        return
    told = pq.read_table(record / TELEMETRY).to_pylist()
    driver = TwinDriver(MACHINE, seed=_SEEDS[built.cell], speed=1e9)
    wanted = [
        {"time_s": one.time_s, "state": one.state, "layer": one.layer, **one.values}
        for word in driver.build(read_work(folder / "inbox" / whole.name), whole.attempt)
        for one in word.readings
    ]
    seen.readings += len(told)
    if told != wanted:
        yield f"{name}: {len(told)} readings are not the {len(wanted)} that the machine gave"
    files = sorted((folder / "heard" / FOLDER / "TEST-cell-1" / name).glob("*.parquet"))
    heard = [row for path in files for row in pq.read_table(path).to_pylist()]
    seen.samples += len(heard)
    numbers = [row.pop("number") for row in heard]
    if numbers != list(range(len(wanted))):
        yield f"{name}: the site heard samples {len(numbers)} times, {len(set(numbers))} different ones of {len(wanted)}"
    elif any({key: row[key] for key in one} != _sent(one) for row, one in zip(heard, wanted, strict=True)):
        yield f"{name}: a sample that the site heard is not the one that the machine gave"


def _sent(reading: dict[str, Any]) -> dict[str, Any]:
    """As a machine tells of it."""
    return {key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in reading.items()}


def _job_faults(folder: Path, job: Path, records: list[DeviceRecord], lost: set[str]) -> Iterator[str]:
    entry: Entry = Inbox(folder / "inbox").entry(job.name)
    released = [one.attempt for one in records if one.verdict == "released"]
    if released != [entry.attempt] or entry.state != "released":
        yield f"{job.name} is {entry.state} at attempt {entry.attempt}; released were attempts {released}"
    attempts = Counter(one.attempt for one in records)
    if max(attempts.values(), default=0) > 1 or max(attempts, default=0) > entry.attempt:
        yield f"{job.name} has records of attempts {sorted(attempts.elements())}"
    case = read_manifest((job / "job.json").read_bytes()).case
    chain = read_chain(folder / "site" / CASES / case / EVENTS)
    said = [event.what for event in chain.events]
    if chain.broken_line is not None or said[-2:] != ["post-processing done", "inspection done"] or "print done" not in said:
        yield f"case {case}: the site heard {said}"


def _leftovers(folder: Path) -> list[Path]:
    """Files and folders that are half there, and what nobody needs any more."""
    known = {".lock", ".token", ".ledger", ".clock", ".withdrawn.now", ".incoming"}
    halves = [path for path in folder.rglob(".*") if path.name not in known and CASES not in path.parts]
    return sorted([*halves, *folder.glob("cell-*/work/*")])


# one cell, kept


def keep() -> None:
    """Run a cell again and again, as an init system would; a part of its lives is ended by us."""
    parser = argparse.ArgumentParser()
    for name in ("cell", "--inbox", "--signers", "--journal"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    use_kernel_cache()
    chance, over, child = random.Random(options.seed), threading.Event(), 0

    def stop(*_: object) -> None:
        over.set()
        if child:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    left = options.kills
    while not over.is_set():
        by_clock = left > 0 and chance.random() < 0.3
        at = 0 if by_clock or not left else chance.randint(1, _LAST_STEP)
        after_s, before = chance.expovariate(1.0), chance.random() < 0.5
        child = os.fork()
        if child == 0:
            _live(options, at, before=before)
        if by_clock and not over.wait(after_s):
            os.kill(child, signal.SIGKILL)
            _note(options.journal, f"killed by the clock {_doing(options.cell)}")
        until = time.monotonic() + (_PATIENCE_S if at else 1e9)
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > until:  # that step never comes: nothing is left to do
                os.kill(child, signal.SIGKILL)
                _note(options.journal, f"killed by the clock {_doing(options.cell)}")
                until += 1e9
            time.sleep(0.02)
        child, status = 0, ended[1]
        if os.WIFSIGNALED(status):
            left -= 1
            over.wait(SHORT_S["CLAIM_S"] * 1.5 if chance.random() < 0.15 else 0.2 * chance.random())
        elif not over.is_set():
            _note(options.journal, f"ended by itself with {os.waitstatus_to_exitcode(status)}")
            over.wait(1.0)


def _live(options: argparse.Namespace, at: int, *, before: bool) -> NoReturn:
    """One life of a cell, that ends at its ``at``-th step on the disk (0: at none)."""
    for name, value in SHORT_S.items():
        setattr(of_inbox, name, value)
    command._POLL_S = _POLL_S
    real = TwinDriver.build

    def build(self: TwinDriver, work: Work, attempt: int) -> Iterator[Any]:
        for progress in real(self, work, attempt):
            if progress.state != "running":
                _note(options.journal, f"printed {work.name}-{attempt} {progress.state}")
            yield progress

    TwinDriver.build = build  # type: ignore[method-assign]
    counter = itertools.count(1)
    for step in STEPS if at else ():
        _mortal(step, at, counter, options.journal, before=before)
    where = [] if options.inbox is None else ["--inbox", str(options.inbox)]
    asked = ["cell", "--cell", str(options.cell), *where, "--signers", str(options.signers)]
    code = 70
    try:
        app(asked, standalone_mode=False)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        if code == 70:
            traceback.print_exc()
        os._exit(code)


def _mortal(step: str, at: int, counter: Iterator[int], journal: Path, *, before: bool) -> None:
    real = getattr(os, step)

    def done(*given: Any, **more: Any) -> Any:
        dies = next(counter) == at
        if dies and before:
            _die(journal, "before", step, given)
        try:
            return real(*given, **more)
        finally:
            if dies:
                _die(journal, "after", step, given)

    setattr(os, step, done)


def _die(journal: Path, when: str, step: str, given: tuple[Any, ...]) -> None:
    last = given[-1] if step in ("replace", "rename", "link") else given[0]
    path = Path(f"/proc/self/fd/{last}").readlink() if isinstance(last, int) else Path(last)
    kind = re.sub(r"[0-9a-f]{16}|\d{20}|bench-\d+", "NAME", "/".join(path.parts[-2:]))
    _note(journal, f"killed {when} {step} {re.sub(r'-[0-9]+', '', kind)}")
    os.kill(os.getpid(), signal.SIGKILL)


def _doing(cell: Path) -> str:
    parts = list((cell / RECORDS).glob(".*.part"))
    if not parts:
        return "between prints"
    return "with a record to put in place" if (parts[0] / AS_BUILT).exists() else "in a print"


def _note(journal: Path, text: str) -> None:
    handle = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else keep()
