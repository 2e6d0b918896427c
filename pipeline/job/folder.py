"""Writes the job folder: files, read back and measured again, then the list of digests and its signature."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from batchone.pipeline.approval import shown
from batchone.pipeline.disk import reported, write_bytes
from batchone.pipeline.errors import CheckFailed, DesignError, MachineError
from batchone.pipeline.findings import places_of_breaches
from batchone.pipeline.job.closeups import closeups
from batchone.pipeline.job.contours import LayerFigures
from batchone.pipeline.job.describe import Case, describe
from batchone.pipeline.job.dicom_header import Frame
from batchone.pipeline.job.dicom_out import frame_of, report, shapes
from batchone.pipeline.job.gaps import gap_pictures
from batchone.pipeline.job.layer_picture import layer_pictures
from batchone.pipeline.job.manifest import DicomEntry, JobManifest
from batchone.pipeline.job.measure import MeshFigures, stl_bytes
from batchone.pipeline.job.medical import medical_blocks
from batchone.pipeline.job.orientation_picture import orientation_pictures
from batchone.pipeline.job.pictures import Picture, make_pictures
from batchone.pipeline.job.plate_pictures import job_on_plate
from batchone.pipeline.job.provenance import PROVENANCE, envelope, statement
from batchone.pipeline.job.readback import reread_3mf, reread_layers, reread_pdf, reread_plate, reread_png, reread_stl
from batchone.pipeline.job.report import build_report, clinical_report
from batchone.pipeline.job.sbom import SBOM, sbom
from batchone.pipeline.job.seats import seat_pictures
from batchone.pipeline.job.sections import ct_sections
from batchone.pipeline.job.signature import RELEASE, SiteKey, embedded_signer, sign, verify_approval, verify_waivers
from batchone.pipeline.job.step_back import reread_step
from batchone.pipeline.job.sums import PRINTED_FROM, SUMS, SUMS_SIGNATURE, sha256, sums_bytes
from batchone.pipeline.job.support_picture import support_picture
from batchone.pipeline.job.verify import verify_job
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import Anatomy, Approval, Build, CheckedDevice, Finding, JobFolder, Plan, Scan
from batchone.slicer.cli_format import read_cli
from batchone.slicer.cli_header import with_medical
from batchone.slicer.readback import refuse_failed

_PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # it becomes a file name on every system


def package(
    *,
    scan: Scan,
    anatomy: Anatomy,
    plan: Plan,
    checked: CheckedDevice,
    approval: Approval,
    build: Build,
    order: Order,
    process: Process,
    machine: Machine,
    key: SiteKey,
    into: Path,
) -> JobFolder:
    """Write a complete, signed job folder; the same values give the same bytes.

    Parameters
    ----------
    scan, anatomy, plan, checked, approval, build, order, process, machine
        The case.
    key
        The site's release key.
    into
        An empty folder; the caller moves it to ``job/<job-id>`` when all is written.

    Returns
    -------
    JobFolder
        ``folder`` is ``job/<job-id>``, relative to the case folder.

    Raises
    ------
    CheckFailed
        A check failed: such a device is never released.
    DesignError
        A part name that cannot be a file name.
    FilesError
        A file of a shape reads back wrong: all of them are measured before that is said, and it carries all findings.
    MachineError
        The approval's signature is bad, another file reads back wrong, or the disk is full.
    """
    case = Case(scan, anatomy, plan, checked, approval, build, order, process, machine, key)
    _refuse_unready(case, into)
    files = _Files(into)
    figures, measured = _write_meshes(case, files)
    frame = frame_of(case)
    with ThreadPoolExecutor(2) as aside:  # what is beside them runs mostly not in Python
        steps = aside.submit(_reread_steps, case, files)
        shapes_written = aside.submit(_write_shapes, case, frame, files)
        drawn = aside.submit(_pictures, case)
        layers, on_build = _write_build(case, files)
        found = places_of_breaches((*measured, *steps.result(), *on_build))
        refuse_failed(found)  # what is wrong with any file is told first, and together
        pictures = drawn.result()
        for picture in pictures:
            files.write(f"pictures/{picture.name}", picture.png)
        dicom = shapes_written.result()
    assert layers is not None, "else a finding has failed"
    manifest = describe(case, figures, layers=layers, digests=files.digests, dicom=dicom, measured=found)
    files.write("job.json", manifest.to_bytes())
    printed = {name: digest for name, digest in files.digests.items() if name.endswith(PRINTED_FROM)}
    files.write("build-report.pdf", build_report(manifest, pictures, printed))
    sections = ct_sections(scan, anatomy, checked.device, plan)
    clinical = clinical_report(
        manifest, pictures, sections=sections, scan=scan, anatomy=anatomy, device=checked.device, order=order
    )
    files.write("clinical-report.pdf", clinical)
    if frame is not None:
        files.write(*report(frame, clinical))
    files.write(SBOM, sbom(tuple(manifest.versions)))
    files.write(PROVENANCE, envelope(statement(manifest, files.digests), key))
    _reread_papers(files)
    return _seal(manifest, files, key)


def _pictures(case: Case) -> tuple[Picture, ...]:
    anatomy, device, plan, build = case.anatomy, case.checked.device, case.plan, case.build
    groups: list[Callable[[], tuple[Picture, ...]]] = [
        partial(make_pictures, anatomy, device, plan),
        partial(gap_pictures, anatomy, device, plan),
        partial(seat_pictures, case.checked.seats),
        partial(support_picture, build, device),
        partial(orientation_pictures, build),
        partial(job_on_plate, build, device, case.machine),
        lambda: layer_pictures(read_cli(build.layers_cli)),
        partial(closeups, shown(case.checked.findings, case.approval.waivers), device),
    ]
    return tuple(picture for group in side_by_side(groups) for picture in group)


class _Files:
    """Files written so far below one folder, with the digests of what was meant to be written."""

    def __init__(self, into: Path) -> None:
        self.into = into
        self.digests: dict[str, str] = {}

    def write(self, name: str, data: bytes) -> None:
        write_bytes(self.into / name, data)
        self.digests[name] = sha256(data)

    def reread(self, name: str) -> bytes:
        """The bytes on the disk, which must be those that were written."""
        with reported(name):
            data = (self.into / name).read_bytes()
        if sha256(data) != self.digests[name]:
            raise MachineError(f"{name} reads back other bytes than were written", hint="check the disk")
        return data


def _refuse_unready(case: Case, into: Path) -> None:
    failed = case.checked.failed(case.approval.waivers)
    if failed:
        raise CheckFailed(f"{len(failed)} checks failed, at most 0", failed, hint="change a parameter and run again")
    verify_approval(case.approval, (embedded_signer(case.approval.signature),))
    for waiver in case.approval.waivers:
        verify_waivers(replace(case.approval, waivers=(waiver,)), (embedded_signer(waiver.signature),))
    names = [part.name for part in case.checked.device.parts]
    for name in names:
        if not _PART_NAME.fullmatch(name) or names.count(name) != 1:
            raise DesignError(f"part name {name!r} is not usable once as a file name", hint="letters, digits, - and _ only")
    made = dict(case.build.part_3mf)
    if sorted(made) != sorted(names):
        raise MachineError(f"build has 3MF files for {len(made)} parts, must be {len(names)}", hint="run slicing again")
    with reported("job folder"):
        into.mkdir(parents=True, exist_ok=True)
        if any(into.iterdir()):
            raise MachineError("job folder is not empty", hint="give an empty folder")


def _write_meshes(case: Case, files: _Files) -> tuple[dict[str, MeshFigures], tuple[Finding, ...]]:
    """Write the part files and read them back; what each STL measures that can be read, and what was found on all."""
    made = dict(case.build.part_3mf)
    figures: dict[str, MeshFigures] = {}
    found: list[Finding] = []
    for part in case.checked.device.parts:
        path = f"parts/{part.name}"
        files.write(f"{path}.stl", stl_bytes(part.mesh))
        files.write(f"{path}.3mf", made[part.name])
        found += reread_3mf(part, files.reread(f"{path}.3mf"))
        own, on_stl = reread_stl(part, files.reread(f"{path}.stl"))
        found += on_stl
        if own is not None:
            figures[part.name] = own
        if part.step:
            files.write(f"{path}.step", part.step)
    return figures, tuple(found)


def _reread_steps(case: Case, files: _Files) -> tuple[Finding, ...]:
    parts = [part for part in case.checked.device.parts if part.step]
    return tuple(one for part in parts for one in reread_step(part, files.reread(f"parts/{part.name}.step")))


def _write_build(case: Case, files: _Files) -> tuple[LayerFigures | None, tuple[Finding, ...]]:
    files.write("build/plate.3mf", case.build.plate_3mf)
    files.write("build/layers.cli", with_medical(case.build.layers_cli, medical_blocks(case)))
    if case.build.toolpath is not None:
        files.write("build/toolpath.gcode", case.build.toolpath.gcode)
    if case.build.images:
        files.write("build/layers.sl1", case.build.images)
    parts = case.checked.device.parts
    on_plate = reread_plate(case.build, parts)
    for name in sorted(name for name in list(files.digests) if name.startswith("build/")):  # others are being written
        files.reread(name)
    layers, on_layers = reread_layers(files.reread("build/layers.cli"), case.build, parts, case.process)
    return layers, (*on_plate, *on_layers)


def _write_shapes(case: Case, frame: Frame | None, files: _Files) -> DicomEntry | None:
    """Write the DICOM objects that carry shapes, where the scan came from DICOM; they are read back with the whole folder."""
    if frame is None:
        return None
    stls = [files.reread(f"parts/{part.name}.stl") for part in case.checked.device.parts]
    objects, entry = shapes(case, frame, stls)
    for name, data in objects.items():
        files.write(name, data)
    return entry


def _reread_papers(files: _Files) -> None:
    for name in sorted(files.digests):
        if name.endswith(".png"):
            reread_png(name, files.reread(name))
        elif name.endswith(".pdf"):
            reread_pdf(name, files.reread(name))


def _seal(manifest: JobManifest, files: _Files, key: SiteKey) -> JobFolder:
    """Write the list of digests, sign it, and verify the whole folder as a receiver would."""
    sums = sums_bytes(files.digests)
    write_bytes(files.into / SUMS, sums)
    write_bytes(files.into / SUMS_SIGNATURE, sign(key, sums, namespace=RELEASE).encode("ascii"))
    report = verify_job(files.into, signers=None)
    if not report.ok:
        first = report.problems[0]
        raise MachineError(f"job folder does not verify: {first.file}: {first.text}", hint="run packaging again")
    return JobFolder(manifest.job, f"job/{manifest.job}", sha256(sums))
