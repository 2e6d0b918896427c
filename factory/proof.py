"""Whether a job may be printed here: what was approved, for this machine, what is loaded, in date, layers cut anew."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import manifold3d
import numpy as np

from batchone.factory.inbox import NOT_FOR_A_CELL
from batchone.factory.settings import CellSettings
from batchone.pipeline.build import verify as of_build
from batchone.pipeline.build.manifest import BuildManifest, read_build_manifest
from batchone.pipeline.build.verify import is_build, verify_build
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.archive import Body, threemf_bodies
from batchone.pipeline.job.manifest import ConditionsEntry, JobManifest, read_manifest
from batchone.pipeline.job.sums import SUMS, read_sums
from batchone.pipeline.job.verify import LAYERS, MANIFEST, PLATE, Problem, verify_job
from batchone.pipeline.job.withdrawal import WithdrawnJob
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_format import read_cli
from batchone.slicer.cli_header import region_of
from batchone.slicer.layers import section_heights

SAMPLED_LAYERS: Final = 25  # of each body: the share of its layers that a changed layer file may hope to slip past is small
MEASURED: Final = {"oxygen in the chamber, percent": "oxygen_percent"}
"""What the process wants filled in and a machine measures itself: by the value of its telemetry."""
AREA_WITHIN: Final = 0.005  # the slicer's own promise of each layer's area (docs/estimates.md)
_AREA_MM2: Final = 0.05  # numerical: of tiny sections, coordinates of 0.005 mm on an outline of some mm


class Measures(Protocol):
    """A machine, by what it measures of what a process wants filled in: keys of :data:`MEASURED`."""

    measures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """A job or a plate of many that may be printed.

    ``steps`` come after the print, ``due`` is the earliest of its jobs.
    """

    name: str
    folder: Path
    process: str
    material: str
    layers: int
    layer_mm: float
    due: dt.datetime
    jobs: tuple[JobManifest, ...]
    conditions: ConditionsEntry | None
    steps: tuple[str, ...]


def read_work(folder: Path) -> Work:
    """What lies in a job folder or a plate of many, before anything of it is believed but its form.

    Raises
    ------
    MachineError
        Its ``job.json`` or ``build.json`` is not valid, or of another name.
    """
    if not is_build(folder):
        job = read_manifest((folder / MANIFEST).read_bytes())
        _must_be_named(folder, job.job)
        return _work(folder, job.build.layers, job.build.layer_mm, (job,), job.build.conditions)
    build: BuildManifest = read_build_manifest((folder / of_build.BUILD_MANIFEST).read_bytes())
    _must_be_named(folder, build.build)
    jobs = tuple(
        read_manifest((folder / "jobs" / name / MANIFEST).read_bytes()) for name in sorted({one.job for one in build.instances})
    )
    return _work(folder, build.plate.layers, build.plate.layer_mm, jobs, jobs[0].build.conditions)


def _due(job: JobManifest) -> dt.datetime:
    return job.due if job.due.tzinfo is not None else job.due.replace(tzinfo=dt.UTC)


def _must_be_named(folder: Path, name: str) -> None:
    if folder.name != name:
        raise MachineError(f"folder {folder.name} holds {name}", hint="dispatch it again under its own name")


def _work(folder: Path, layers: int, layer_mm: float, jobs: tuple[JobManifest, ...], held: ConditionsEntry | None) -> Work:
    first = jobs[0]
    return Work(
        folder.name, folder, first.process, first.parts[0].material, layers, layer_mm, min(map(_due, jobs)), jobs, held,
        first.after_printing,
    )  # fmt: skip


def refusals(
    work: Work, *, signers: Path | None, withdrawn: tuple[WithdrawnJob, ...] = (), simulated: bool = True
) -> tuple[str, ...]:
    """Why a job may not be printed anywhere; nothing when it may. All reasons, not the first alone.

    Parameters
    ----------
    signers
        Who may sign: an ``allowed_signers`` file or a key folder.
    withdrawn
        Jobs that their site has withdrawn: of cancelled cases and earlier revisions.
    simulated
        No material is melted: only then may a job be printed that is approved for demonstration.
    """
    check = verify_build if is_build(work.folder) else verify_job
    report = check(work.folder, signers=signers, withdrawn=withdrawn)
    faults = [f"{problem.kind}: {problem.file}: {problem.text}" for problem in report.problems if not _left_out(work, problem)]
    if not simulated:
        faults += [f"job {job.job} is approved for demonstration only" for job in work.jobs if job.approval.demonstration]
    if not faults:  # only layers of a folder that is whole are worth the cutting
        faults += _layer_faults(work)
    return tuple(faults)


def _left_out(work: Work, problem: Problem) -> bool:
    """Whether all that is wrong is that a cell was not given what is for reviewer and hospital only, by the list of the job."""
    if problem.kind != "missing" or problem.file not in NOT_FOR_A_CELL:
        return False
    return problem.file in read_sums((work.folder / SUMS).read_bytes())  # a list that is none would be another problem


def unsuited(work: Work, cell: CellSettings, driver: Measures, *, today: dt.date) -> tuple[str, ...]:
    """Why a job may not be printed on this machine, with what is loaded, today: it may be on another one, or later."""
    faults = []
    for job in work.jobs:
        if job.machine != cell.machine:
            faults.append(f"job {job.job} is for machine {job.machine}, this cell has {cell.machine}")
        if (job.process, {part.material for part in job.parts}) != (work.process, {work.material}):
            faults.append(f"job {job.job} is of process {job.process}, the plate is of {work.process}")
    lot = cell.lot_of(work.material)
    if lot is None:
        loaded = ", ".join(sorted({one.material for one in cell.lots}))
        faults.append(f"no lot of {work.material} is loaded; loaded: {loaded}")
    elif lot.expires < today:
        faults.append(f"lot {lot.lot} of {lot.material} may be used until {lot.expires}, today is {today}")
    elif work.conditions is not None:
        untold = [key for key in work.conditions.lot_keys if key not in lot.facts and key not in driver.measures]
        faults += [f"lot {lot.lot} of {lot.material} says nothing of {key}" for key in untold]
    faults += [
        f"calibration {one.name} counted until {one.due}, today is {today}" for one in cell.calibrations if one.due < today
    ]
    faults += [
        f"calibration {one.name} is said to be of {one.done}, today is {today}" for one in cell.calibrations if one.done > today
    ]
    return tuple(faults)


def _layer_faults(work: Work) -> list[str]:
    """Sampled layers of each body against sections of the plate's bodies, cut anew by another library than wrote them."""
    layers, plate = (of_build.LAYERS, of_build.PLATE) if is_build(work.folder) else (LAYERS, PLATE)
    cli = read_cli((work.folder / layers).read_bytes())
    bodies = {body.name: body for body in threemf_bodies((work.folder / plate).read_bytes())}
    faults = []
    for number, label in enumerate(label for label in cli.labels if region_of(label) is None):
        if label not in bodies:
            faults.append(f"{label}: {plate} holds no such body")
            continue
        areas = cli.outlines.area_mm2(number)
        faults += _body_faults(label, areas, bodies[label], work.layer_mm)
    return faults


def _body_faults(label: str, areas_mm2: FloatArray, body: Body, layer_mm: float) -> list[str]:
    placed = body.vertices_mm @ body.pose[:3, :3].T + body.pose[:3, 3]
    mesh = manifold3d.Mesh64(np.ascontiguousarray(placed), np.ascontiguousarray(body.triangles, dtype=np.uint64))
    solid = manifold3d.Manifold(mesh)
    if solid.is_empty():
        return [f"{label}: its mesh encloses nothing"]
    heights_mm = section_heights(float(placed[:, 2].max()), layer_mm)
    there = np.flatnonzero(areas_mm2[: len(heights_mm)] > 0.0)
    if areas_mm2[len(heights_mm) :].any() or not len(there):
        return [f"{label}: its layers end at {np.flatnonzero(areas_mm2).max(initial=-1)}, its mesh at {len(heights_mm) - 1}"]
    faults = []
    for layer in there[np.unique(np.linspace(0, len(there) - 1, SAMPLED_LAYERS).astype(int))].tolist():
        wanted_mm2 = solid.slice(float(heights_mm[layer])).area()
        if abs(float(areas_mm2[layer]) - wanted_mm2) > AREA_WITHIN * wanted_mm2 + _AREA_MM2:
            faults.append(
                f"{label}: layer {layer} at {heights_mm[layer]:.3f} mm has {areas_mm2[layer]:.3f} mm2, "
                f"cut anew {wanted_mm2:.3f} mm2, within {AREA_WITHIN:.1%}"
            )
    return faults
