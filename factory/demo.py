"""A small factory on one PC: a released job to a device record, on two machine twins, of which the first fails once."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from batchone.factory.cell import Cell
from batchone.factory.dispatch import RECORDS, dispatch, shelve
from batchone.factory.drivers.twin import TwinDriver
from batchone.factory.inbox import Inbox
from batchone.factory.intake import Intake
from batchone.factory.proof import read_work
from batchone.factory.readiness import News
from batchone.factory.record import DeviceRecord, open_steps, record_name, record_signers, sign_step, verify_record
from batchone.factory.reports import Deliver
from batchone.factory.settings import SETTINGS, read_cell_settings
from batchone.factory.twin.faults import Fault
from batchone.factory.voice import Beside
from batchone.pipeline.config import TelemetrySettings
from batchone.pipeline.errors import ProcessingError
from batchone.pipeline.job.manifest import JobManifest
from batchone.pipeline.job.signature import DEMONSTRATOR, KEYS
from batchone.pipeline.job.verify import allowed_of
from batchone.pipeline.job.withdrawal import read_withdrawn
from batchone.pipeline.store import write_atomic

MACHINES: Final = ("cell-1", "cell-2")
_FAILS_AT: Final = 0.4  # of the layers: where the first machine loses its power
_POLL_S: Final = 0.2
_PICTURED: Final = 8  # layers of a build
_GTIN: Final = "09506000134352"  # of GS1's own examples (GS1 General Specifications): no company's
_SPREAD: Final = 0.25  # of the tolerance: what the technician of the demonstration measures; 4 sigma below it

_CELL = """# A cell of the demonstration: docs/contract.md lists the keys
name = "{name}"
machine = "{machine}"
serial = "TWIN-{name}"
driver = "twin"
report = "../site"
gtin = "{gtin}"

[[lots]]
material = "{material}"
lot = "TEST-LOT-1"
expires = {expires}
[lots.facts]
{facts}

[[calibrations]]
name = "laser power"
done = {today}
due = {expires}

[twin]
speed = {speed}
seed = {seed}
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of the demonstration: which cell, what happened."""

    cell: str
    news: News


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it: the record of the part, those of the attempts that failed, and their folders."""

    record: DeviceRecord
    folder: Path
    failed: tuple[Path, ...]


def make_part(
    job: Path,
    out: Path,
    *,
    speed: float,
    deliver: Deliver,
    tell: Callable[[Shown], None] = lambda shown: None,
    timeout_s: float = 3600.0,
) -> Made:
    """Print a released job of ``out/site`` on one of two twins, the first of which loses its power in the first attempt.

    Parameters
    ----------
    job
        The job folder.
    out
        Gets ``inbox/``, ``cell-1/`` and ``cell-2/``, which `batchone cell` can go on with; ``site`` hears what the machines tell.
    speed
        Seconds of a machine in a second of the clock.
    deliver
        How the site hears of a step.

    Raises
    ------
    ProcessingError
        No part was released within ``timeout_s``.
    """
    work = read_work(dispatch(job, out / "inbox"))
    manifest = work.jobs[0]
    fault = Fault("power-cut", int(_FAILS_AT * work.layers))
    cells: list[Cell] = []
    told = Beside(Intake(out / "site", TelemetrySettings()))
    for number, name in enumerate(MACHINES):
        _write_settings(out / name, name, manifest, seed=number, speed=speed)
        settings = read_cell_settings(out / name)
        driver = TwinDriver(
            settings.machine, seed=number, speed=speed, faults=(fault,), chance=False, serial=settings.serial, born=told.born,
            pictures=max(1, work.layers // _PICTURED),
        )  # fmt: skip
        cells.append(
            Cell(
                out / name, settings, Inbox(out / "inbox"), driver, signers=out / "site" / KEYS, deliver=deliver,
                withdrawn=partial(read_withdrawn, out / "site", allowed_of(out / "site" / KEYS)),
                shelve=partial(shelve, site=out / "site", cell=name), now=_now, tell=partial(_pass_on, tell, name),
            )
        )  # fmt: skip
    stop = threading.Event()
    threads = [threading.Thread(target=_run, args=(cell, stop), name=cell.settings.name) for cell in cells]
    for number, thread in enumerate(threads):  # the first begins: its machine is the one that fails
        thread.start()
        if number == 0:
            _wait(lambda: Inbox(out / "inbox").entry(job.name).state != "waiting", timeout_s)
    try:
        _wait(lambda: _signed(cells, job.name), timeout_s)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return _made(cells, job.name)


def _pass_on(tell: Callable[[Shown], None], cell: str, news: News) -> None:
    tell(Shown(cell, news))


def _run(cell: Cell, stop: threading.Event) -> None:
    cell.resume()
    while not stop.is_set():
        cell.step()
        cell.close_records()
        stop.wait(_POLL_S)


def _signed(cells: list[Cell], name: str) -> bool:
    """Let the technician of the demonstration sign what is printed; True when the part is released."""
    entry = cells[0].inbox.entry(name)
    for cell in cells:
        record = cell.records / record_name(name, entry.attempt)
        if entry.state != "printed" or not record.is_dir():
            continue
        chance = np.random.default_rng(int(name[:8], 16))
        for step in open_steps(record):
            measured = None if step.within_mm is None else round(abs(float(chance.normal(0.0, _SPREAD))) * step.within_mm, 3)
            sign_step(record, step.number, who=DEMONSTRATOR, keys=cell.folder / KEYS, when=_now(), measured_mm=measured)
    if entry.state == "held":
        raise ProcessingError(f"job {name} is held: {entry.reason}", hint="see `batchone cell status`")
    return entry.state == "released"


def _made(cells: list[Cell], name: str) -> Made:
    attempt = cells[0].inbox.entry(name).attempt
    failed = tuple(
        cell.folder / RECORDS / record_name(name, number)
        for number in range(1, attempt)
        for cell in cells
        if (cell.folder / RECORDS / record_name(name, number)).is_dir()
    )
    for cell in cells:
        folder = cell.folder / RECORDS / record_name(name, attempt)
        if folder.is_dir():
            return Made(verify_record(folder, allowed=record_signers(cell.folder / KEYS)), folder, failed)
    raise ProcessingError(f"the record of {name} is not there", hint="this is a fault of ours: report it")


def _write_settings(folder: Path, name: str, job: JobManifest, *, seed: int, speed: float) -> None:
    today = _now().date()
    wanted = job.build.conditions.lot_keys if job.build.conditions is not None else ()
    facts = "\n".join(f'"{key}" = "TEST^VALUE"' for key in wanted if "oxygen" not in key)
    folder.mkdir(parents=True, exist_ok=True)
    text = _CELL.format(
        name=name, machine=job.machine, gtin=_GTIN, material=job.parts[0].material, facts=facts, today=today,
        expires=today + dt.timedelta(days=365), speed=float(speed), seed=seed,
    )  # fmt: skip
    write_atomic(folder / SETTINGS, text.encode())


def _wait(until: Callable[[], bool], timeout_s: float) -> None:
    end = _now() + dt.timedelta(seconds=timeout_s)
    pause = threading.Event()
    while not until():
        if _now() > end:
            raise ProcessingError(f"the factory made no part in {timeout_s:g} s", hint="see `batchone cell status`")
        pause.wait(_POLL_S)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
