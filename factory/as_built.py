"""A print as it went, from what was watched of it: the first part of a device record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from batchone.factory.drivers.driver import LayerSeen, Progress
from batchone.factory.proof import MEASURED, Work
from batchone.factory.record import Alarmed, AsBuilt, Body, Step, ValueSummary, read_as_built
from batchone.factory.settings import CellSettings
from batchone.factory.telemetry import Summary, reached, summaries
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import EVENTS, read_chain
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.store import sha256_file, write_atomic

SETTINGS_KEPT: Final = "settings.json"
PRINT_STARTED: Final = "print started"
UNMEASURED: Final = "not measured throughout"
SPOILING: Final = ("mains", "powder", "laser-power", "recoater-force")
"""What the machine itself notices and what makes a part worthless, so that nothing more is spent on it: project default,
unverified. Of what is not among them, as oxygen that rose and was waited for, a person judges after the print."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What was watched of a print: its begin and end by the clock, its layers, the machine's last word, and whether it is all.

    ``layers_done``: how many were done, of a print of whose layers nothing else is known.
    """

    started: dt.datetime
    ended: dt.datetime
    layers: tuple[LayerSeen, ...]
    last: Progress
    whole: bool = True
    layers_done: int = 0


@dataclass(frozen=True, slots=True)
class Begun:
    """A print that was begun: when, and of which SHA256SUMS (their digest)."""

    when: dt.datetime
    sums_sha256: str


def begun(part: Path) -> Begun | None:
    """How a print was begun, by the events beside its record; None where nothing was given to the machine.

    Raises
    ------
    ValueError
        The event is not as the cell writes it.
    """
    for event in read_chain(part / EVENTS).events if (part / EVENTS).is_file() else ():
        if event.what == PRINT_STARTED:
            return Begun(dt.datetime.fromisoformat(event.when), event.digest)
    return None


def cut_off(telemetry: Path, started: dt.datetime, ended: dt.datetime, reason: str) -> Watched:
    """A print that ended with who watched it, as far as its readings tell: the layer of the last one was not done."""
    last = reached(telemetry)
    word = Progress("failed", last.seconds, energy_kwh=last.energy_kwh, reason=reason)
    return Watched(started, ended, (), word, whole=False, layers_done=last.layers)


def is_built(record: Path) -> bool:
    """Whether a print ended and stands in its record."""
    try:
        read_as_built(record)
    except MachineError:
        return False
    return True


def jobs_of(made: Work | AsBuilt) -> tuple[tuple[str, str], ...]:
    """Case and job of whatever is made at once, each once."""
    return tuple(sorted({(one.case, one.job) for one in (made.jobs if isinstance(made, Work) else made.bodies)}))


def settings_at_start(part: Path, now: CellSettings) -> CellSettings:
    """The settings with which a print was begun, kept beside its record: what is loaded when it ends is of the next one.

    Raises
    ------
    MachineError
        What was kept cannot be read.
    """
    path = part / SETTINGS_KEPT
    if not path.is_file():
        write_atomic(path, now.model_dump_json(exclude={"report"}).encode())
        return now
    try:
        return CellSettings.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MachineError(f"{path.name} is not valid: {error.errors()[0]['msg']}", hint="this is a fault of ours") from error


def spoilt(layers: tuple[LayerSeen, ...]) -> str:
    """Why a part is worthless after these layers; "" while it is not."""
    for layer in layers:
        found = [alarm for alarm in layer.alarms if alarm in SPOILING]
        if found:
            return f"layer {layer.index}: the machine told of {', '.join(found)}"
    return ""


def steps_of(work: Work, alarmed: Sequence[Alarmed] = (), unmeasured: Sequence[str] = ()) -> tuple[Step, ...]:
    """What comes after a print: judging the machine's alarms and what was not measured, the process's own steps, measuring."""
    faces = [
        (f"measure {face.label} of {part.name} ({job.case}): {face.purpose}", face.tolerance_mm)
        for job in work.jobs
        for part in job.parts
        for face in part.functional_faces
    ]
    untold = [f"judge {key}: not measured throughout, see the machine's own log: may the part be used" for key in unmeasured]
    listed: list[tuple[str, float | None]] = [*((text, None) for text in (*_judged(alarmed), *untold, *work.steps)), *faces]
    return tuple(Step(number=n, what=text, within_mm=within) for n, (text, within) in enumerate(listed, start=1))


def _judged(alarmed: Sequence[Alarmed]) -> list[str]:
    """One step for each run of layers with the same alarms."""
    runs: list[list[Alarmed]] = []
    for one in alarmed:
        if runs and (runs[-1][-1].layer, runs[-1][-1].alarms) == (one.layer - 1, one.alarms):
            runs[-1].append(one)
        else:
            runs.append([one])
    words = "judge layers {} to {}, where the machine told of {}: may the part be used"
    return [words.format(run[0].layer, run[-1].layer, ", ".join(run[0].alarms)) for run in runs]


def bodies_of(work: Work) -> tuple[Body, ...]:
    """Every part that is made, by case."""
    return tuple(
        Body(case=job.case, job=job.job, part=part.name, stl_sha256=part.stl_sha256) for job in work.jobs for part in job.parts
    )


def as_built(work: Work, attempt: int, watched: Watched, telemetry: Path, *, cell: CellSettings, simulated: bool) -> AsBuilt:
    """The record of a print, with the steps that are to be signed after it.

    Parameters
    ----------
    telemetry
        The file of readings; may be absent.
    simulated
        No material was melted.

    Raises
    ------
    MachineError
        The lot of the material is not among the cell's any more.
    """
    lot = cell.lot_of(work.material)
    if lot is None:
        raise MachineError(f"no lot of {work.material} is loaded any more", hint="a lot stays in cell.toml while it prints")
    last, done = watched.last, watched.last.state == "done"
    alarmed = _alarmed(watched.layers)
    told = summaries(telemetry)
    wanted = work.conditions.lot_keys if work.conditions is not None else ()
    facts = lot.facts | (_measured(told) if watched.whole else {})
    unmeasured = tuple(key for key in wanted if key in MEASURED and key not in facts)
    facts |= dict.fromkeys(unmeasured, UNMEASURED)
    return AsBuilt(
        name=work.name,
        attempt=attempt,
        sums_sha256=sha256_file(work.folder / SUMS),
        cell=cell.name,
        machine=cell.machine,
        serial=cell.serial,
        simulated=simulated,
        demonstration=any(job.approval.demonstration for job in work.jobs),
        bodies=bodies_of(work),
        process=work.process,
        lot=lot,
        calibrations=cell.calibrations,
        started=watched.started,
        ended=watched.ended,
        seconds=last.seconds,
        energy_kwh=last.energy_kwh,
        layers=work.layers,
        layers_built=len({one.index for one in watched.layers}) or watched.layers_done,
        alarmed=alarmed,
        telemetry=tuple(
            ValueSummary(name=one.name, readings=one.readings, least=one.least, mean=one.mean, greatest=one.greatest)
            for one in told
        ),
        telemetry_sha256=sha256_file(telemetry) if telemetry.is_file() else None,
        facts={key: facts[key] for key in wanted if key in facts},
        facts_wanted=wanted,
        verdict="printed" if done else "failed",
        reason=last.reason,
        steps=steps_of(work, alarmed, unmeasured) if done else (),
    )


def _alarmed(layers: tuple[LayerSeen, ...]) -> tuple[Alarmed, ...]:
    """What was noticed in each layer, whenever it was told."""
    found: dict[int, dict[str, None]] = {}
    for one in layers:
        if one.alarms:
            found.setdefault(one.index, {}).update(dict.fromkeys(one.alarms))
    return tuple(Alarmed(layer=layer, alarms=tuple(alarms)) for layer, alarms in sorted(found.items()))


def _measured(told: tuple[Summary, ...]) -> dict[str, str]:
    """What the process wants filled in and the machine itself measured, in every reading of a layer."""
    most = {summary.name: summary.greatest for summary in told if not summary.lacking}
    return {name: f"{most[value]:.3f} at most" for name, value in MEASURED.items() if value in most}
