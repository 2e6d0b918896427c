"""Released jobs on their way to a plate: verified, re-measured, and refused when they do not go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchone.pipeline.build.manifest import SUPPORTS, body_figures, mesh_sha256
from batchone.pipeline.build.user_data import UserData, user_data_by_part
from batchone.pipeline.disk import reported
from batchone.pipeline.errors import MachineError
from batchone.pipeline.findings import LABEL, label_said
from batchone.pipeline.job.archive import Body, bodies_of
from batchone.pipeline.job.manifest import JobManifest, profiles_digest, read_manifest
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE, sha256
from batchone.pipeline.job.verify import LAYERS, MANIFEST, PLATE, differences, verified_job
from batchone.pipeline.job.withdrawal import WithdrawnJob
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.slicer.cli_header import MAX_HEADER_BYTES

CARRIED = (MANIFEST, SUMS, SUMS_SIGNATURE)  # what a build keeps of each job: its word, and the proof of it


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """A verified job: its manifest, the files that a build carries on, and its bodies as they stand in ``build/plate.3mf``.

    ``user_data`` is what its layer file says of the scan, by part.
    """

    manifest: JobManifest
    carried: tuple[bytes, ...]
    bodies: tuple[Body, ...]
    user_data: Mapping[str, UserData] = field(default_factory=dict)

    @property
    def sums_sha256(self) -> str:
        """The digest of its SHA256SUMS: of everything in it."""
        return sha256(self.carried[CARRIED.index(SUMS)])


def read_released(folder: Path, *, signers: Path | None, withdrawn: tuple[WithdrawnJob, ...] = ()) -> Released:
    """Verify a job folder and read what is to be built of it; ``signers`` and ``withdrawn`` as in :func:`verify_job`.

    Raises
    ------
    MachineError
        It does not verify, or its plate holds other bodies than its parts.
    """
    report, models = verified_job(folder, signers=signers, withdrawn=withdrawn)
    if not report.ok:
        first = report.problems[0]
        raise MachineError(
            f"job {report.job_id or folder.name} does not verify: {len(report.problems)} problems, at most 0; "
            f"{first.kind}: {first.file}: {first.text}",
            hint="name who released it with --signers, if it is another site"
            if any(problem.kind == "signature" for problem in report.problems)
            else "fetch the job folder that counts, and see `batchone verify`",
        )
    with reported(f"job {report.job_id}"):
        carried = tuple((folder / name).read_bytes() for name in CARRIED)
        manifest = read_manifest(carried[0])
        with (folder / LAYERS).open("rb") as file:
            header = file.read(MAX_HEADER_BYTES)
    bodies = bodies_of(models[PLATE])
    singles = {part.name: bodies_of(models[f"parts/{part.name}.3mf"]) for part in manifest.parts}
    _check_bodies(manifest, bodies, singles)
    return Released(manifest, carried, bodies, user_data_by_part(header))


def _check_bodies(manifest: JobManifest, bodies: Sequence[Body], singles: Mapping[str, Sequence[Body]]) -> None:
    """The plate holds each part once, triangle by triangle that of its own file, and the supports that its job names."""
    names = [body.name for body in bodies]
    supports = {SUPPORTS + entry.part: entry for entry in manifest.build.supports}
    wanted = [*(part.name for part in manifest.parts), *supports]
    if sorted(names) != sorted(wanted):
        raise MachineError(
            f"plate of job {manifest.job} holds {', '.join(names)}; must hold {', '.join(wanted)}",
            hint="fetch the job folder again",
        )
    for name, entry in supports.items():
        off = list(differences(entry.figures, body_figures(bodies[names.index(name)]), is_stl=False))
        if off:
            raise MachineError(f"{name} on the plate of job {manifest.job}: {'; '.join(off)}", hint="fetch the job folder again")
    for part in manifest.parts:
        body = bodies[names.index(part.name)]
        (single,) = singles[part.name]
        off = list(differences(part.figures, body_figures(body), is_stl=False))
        if mesh_sha256(single) != mesh_sha256(body):
            off.append("its triangles are not those of its own file")
        if off:
            raise MachineError(
                f"part {part.name} on the plate of job {manifest.job}: {'; '.join(off)}", hint="fetch the job folder again"
            )


def engraved(manifest: JobManifest, part: str) -> str:
    """The text that is engraved on a part, as read back when it was checked; "" where there is none."""
    said = (label_said(part, entry.what) for entry in manifest.findings if entry.check == LABEL)
    return next((text for text in said if text is not None), "")


def in_order(jobs: Sequence[Released]) -> list[Released]:
    """The most urgent first."""
    return sorted(jobs, key=lambda one: (one.manifest.due, one.manifest.job))


def refuse_strangers(jobs: Sequence[Released], process: Process, machine: Machine) -> None:
    """Jobs go together: each once, one process and material, which the machine runs, by the profiles of today.

    Raises
    ------
    MachineError
        They do not; the message names the job.
    """
    ids = [one.manifest.job for one in jobs]
    for one in jobs:
        if ids.count(one.manifest.job) > 1:
            raise MachineError(
                f"{_said(one)} was given {ids.count(one.manifest.job)} times, at most once", hint="give each job once"
            )
        _refuse_process(one, process)
    if process.name not in machine.processes:
        raise MachineError(
            f"machine {machine.name} does not run {process.name}; it runs {', '.join(machine.processes)}",
            hint="name another machine",
        )
    for one in jobs:
        _refuse_profiles(one, process, machine)
    _refuse_mixed(jobs)
    _refuse_twice(jobs)


def _said(one: Released) -> str:
    return f"job {one.manifest.job} of case {one.manifest.case}"


def _refuse_process(one: Released, process: Process) -> None:
    manifest = one.manifest
    if manifest.process != process.name:
        raise MachineError(
            f"{_said(one)} is made by {manifest.process}, the others by {process.name}", hint="nest them on another plate"
        )
    if process.kind == "fff":
        raise MachineError(
            f"{_said(one)} is made by {process.name}: its toolpath is its own and cannot be nested",
            hint="print each job alone, by its build/toolpath.gcode",
        )
    materials = sorted({part.material for part in manifest.parts})
    if materials != [process.material] or manifest.build.layer_mm != process.layer_mm:
        raise MachineError(
            f"{_said(one)} is of {', '.join(materials)} in layers of {manifest.build.layer_mm:g} mm; {process.name} now makes "
            f"{process.material} in layers of {process.layer_mm:g} mm",
            hint="run the case again with the profile of today",
        )


def _refuse_profiles(one: Released, process: Process, machine: Machine) -> None:
    manifest, now = one.manifest, profiles_digest(process, machine)
    if manifest.machine != machine.name:
        raise MachineError(
            f"{_said(one)} was made for machine {manifest.machine}, the plate is for {machine.name}",
            hint=f"nest for {manifest.machine}, or run the case again with {machine.name} in its order",
        )
    if manifest.build.profiles_sha256 != now:
        then = manifest.build.profiles_sha256
        raise MachineError(
            f"{_said(one)} was made by {f'profiles {then[:12]}...' if then else 'profiles that it does not name'}; "
            f"{process.name} and {machine.name} are now {now[:12]}...",
            hint="run the case again with the profiles of today",
        )


def _refuse_mixed(jobs: Sequence[Released]) -> None:
    """Jobs that were approved for demonstration only stay among themselves."""
    shown = [one for one in jobs if one.manifest.approval.demonstration]
    if shown and len(shown) < len(jobs):
        raise MachineError(
            f"{_said(shown[0])} is approved for demonstration only; of {len(jobs)} jobs {len(jobs) - len(shown)} are not",
            hint="nest demonstrations on a plate of their own",
        )


def _refuse_twice(jobs: Sequence[Released]) -> None:
    """A part of a patient's device stands on a plate once: two jobs that make it are two revisions."""
    seen: dict[tuple[str, str, str], Released] = {}
    for one in jobs:
        for part in one.manifest.parts:
            key = (one.manifest.case, one.manifest.device, part.name)
            if key in seen:
                raise MachineError(
                    f"{_said(one)} makes {part.name} of {one.manifest.device}, and so does job {seen[key].manifest.job}",
                    hint="nest the one of them that is to be used",
                )
            seen[key] = one
