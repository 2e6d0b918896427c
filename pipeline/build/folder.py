"""Writes the build folder: jobs verified, nested, sliced, read back, then the list of digests and its signature."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import shapely

from batchone.pipeline.build.machine_files import MachineFiles, Placed, machine_files, no_images
from batchone.pipeline.build.manifest import (
    SUPPORTS,
    BuildManifest,
    ClearancesEntry,
    GapEntry,
    Instance,
    LeftOut,
    PlateEntry,
    body_figures,
    label_of,
    mesh_sha256,
    read_build_manifest,
)
from batchone.pipeline.build.map_picture import colour_of, map_png
from batchone.pipeline.build.released import CARRIED, Released, engraved, in_order, read_released, refuse_strangers
from batchone.pipeline.build.verify import BUILD_MANIFEST, IMAGES, LAYERS, MAP, PLATE, verify_build
from batchone.pipeline.disk import reported, write_bytes
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.archive import Body
from batchone.pipeline.job.contours import LayerFigures, cli_figures
from batchone.pipeline.job.images import image_figures
from batchone.pipeline.job.manifest import FindingEntry, ImagesEntry, Row, drawn_entries, profiles_digest
from batchone.pipeline.job.plate_pictures import plate_pictures
from batchone.pipeline.job.signature import RELEASE, SiteKey, release_key, sign, write_allowed_signers
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE, sha256, sums_bytes
from batchone.pipeline.job.withdrawal import own_withdrawn
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.pipeline.store import flush_tree, replace_folder
from batchone.pipeline.values import Estimate, Finding, FloatArray, Mesh, Vector
from batchone.slicer.clearances import Gap, check_clearances, shadow, solid_of
from batchone.slicer.nest import Nest, Unit, nest
from batchone.slicer.profiles import load_machine, load_process
from batchone.slicer.threemf import POSE_DIGITS

BUILDS = "builds"
_READERS = 2  # job folders verified at a time
_RULES = "4"  # counts up when the same jobs are nested otherwise than before


@dataclass(frozen=True, slots=True)
class BuildFolder:
    """A build that was written: its manifest and its place."""

    manifest: BuildManifest
    folder: Path


def nest_jobs(
    folders: Sequence[Path], *, machine: str, site: Path, leave_out: bool = False, signers: Path | None = None
) -> BuildFolder:
    """Nest released jobs into ``<site>/builds/<build-id>/``; the same jobs give the same bytes.

    Parameters
    ----------
    folders
        Job folders.
    machine
        Name of the machine's profile.
    site
        Its release key signs; the folder appears whole or not at all.
    leave_out
        Leave out jobs for which there is no room, those that are due last first, rather than refuse.
    signers
        Who may have released the jobs: an ``allowed_signers`` file or a key folder; None: the site's own keys.

    Raises
    ------
    MachineError
        A job does not verify, jobs do not go together, there is no room, or a file reads back wrong.
    """
    profile = load_machine(machine, site)
    key = release_key(site / "keys")
    allowed = site / "keys" if signers is None else signers
    allowed = write_allowed_signers(allowed) if allowed.is_dir() else allowed
    with ThreadPoolExecutor(_READERS) as pool:
        jobs = in_order(list(pool.map(partial(read_released, signers=allowed, withdrawn=own_withdrawn(site)), folders)))
    if not jobs:
        raise MachineError("0 jobs to nest, at least 1", hint="name the job folders")
    process = load_process(jobs[0].manifest.process, site)
    refuse_strangers(jobs, process, profile)
    build = _build_id(jobs, process, profile, leave_out=leave_out)
    place = site / BUILDS / build
    staging = place.with_name(f".{build}.part")
    with reported("build folder"):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        manifest = _write(build, jobs, process, profile, staging, leave_out=leave_out, key=key)
        with reported("build folder"):
            flush_tree(staging)
            replace_folder(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return BuildFolder(manifest, place)


def _build_id(jobs: Sequence[Released], process: Process, machine: Machine, *, leave_out: bool) -> str:
    words = [_RULES, version("batchone"), process.model_dump_json(), machine.model_dump_json(), str(leave_out)]
    words += [f"{one.manifest.job} {one.sums_sha256}" for one in jobs]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _write(
    build: str,
    jobs: Sequence[Released],
    process: Process,
    machine: Machine,
    into: Path,
    *,
    leave_out: bool,
    key: SiteKey,
) -> BuildManifest:
    units, members = _units(jobs)
    nested = nest(units, process=process, machine=machine, leave_out=leave_out)
    placed = _placed(members, nested)
    meshes = [one.mesh for one in placed]
    solids = [solid_of(mesh) for mesh in meshes]
    by_unit = {
        unit: [m for m, one in zip(solids, placed, strict=True) if one.unit == unit] for unit in {p.unit: 0 for p in placed}
    }
    names = {unit: units[unit].name for unit in by_unit}
    gaps = check_clearances(list(by_unit.values()), list(names.values()), process=process, machine=machine)
    labels = [label_of(number, one.job.manifest.case, one.kind, one.part) for number, one in enumerate(placed, start=1)]
    made_of = machine_files(build, placed, meshes, labels, process=process, machine=machine)
    shadows = [shadow([solid]) for solid in solids]
    measured = cli_figures(made_of.layers_cli)
    instances = _instances(placed, meshes, labels, measured)
    made = BuildManifest(
        build=build,
        machine=machine.name,
        process=process.name,
        material=process.material,
        profiles_sha256=profiles_digest(process, machine),
        plate=_plate_entry(made_of.estimate, process, machine, shadows),
        clearances=_clearances(gaps, nested, placed, list(by_unit), process),
        instances=instances,
        left_out=tuple(
            LeftOut(job=one.manifest.job, case=one.manifest.case, due=one.manifest.due)
            for one in jobs
            if one.manifest.job in nested.left_out
        ),
        demonstration=all(one.manifest.approval.demonstration for one in jobs),
        drawn=drawn_entries(measured, process),
        images=_images_entry(made_of, machine),
        findings=tuple(FindingEntry.of("nest", one) for one in nested.findings),
        notes=_notes(instances, nested.findings, process, machine),
        after_printing=process.after_printing,
        versions={"batchone": version("batchone")},
    )
    manifest = read_build_manifest(made.to_bytes())  # the map is drawn from what the file says
    on_plate = plate_pictures(meshes, list(map(colour_of, range(len(meshes)))), machine)
    files = {
        BUILD_MANIFEST: made.to_bytes(),
        PLATE: made_of.plate_3mf,
        LAYERS: made_of.layers_cli,
        **({IMAGES: made_of.images} if made_of.images else {}),
        MAP: map_png(manifest, shadows, machine),
        **{f"pictures/{one.name}": one.png for one in (*on_plate, *made_of.pictures)},
    }
    for one in jobs:
        if one.manifest.job not in nested.left_out:
            files |= {f"jobs/{one.manifest.job}/{name}": data for name, data in zip(CARRIED, one.carried, strict=True)}
    for name, data in files.items():
        write_bytes(into / name, data)
    sums = sums_bytes({name: sha256(data) for name, data in files.items()})
    write_bytes(into / SUMS, sums)
    write_bytes(into / SUMS_SIGNATURE, sign(key, sums, namespace=RELEASE).encode("ascii"))
    report = verify_build(into, signers=None)
    if not report.ok:
        first = report.problems[0]
        raise MachineError(f"build folder does not verify: {first.file}: {first.text}", hint="nest again")
    return manifest


def _units(jobs: Sequence[Released]) -> tuple[list[Unit], list[tuple[Released, tuple[Body, ...]]]]:
    """A unit for each part with its supports, as they stand in their job, and the bodies that it is made of."""
    units, members = [], []
    for job in jobs:
        for body in job.bodies:
            if body.name.startswith(SUPPORTS):
                continue
            own = (body, *(other for other in job.bodies if other.name == SUPPORTS + body.name))
            standing = tuple(Mesh(b.vertices_mm, b.triangles.astype(np.int32)).moved(b.pose) for b in own)
            units.append(Unit(f"{body.name} of {job.manifest.case}", job.manifest.job, standing))
            members.append((job, own))
    return units, members


def _placed(members: Sequence[tuple[Released, tuple[Body, ...]]], nested: Nest) -> list[Placed]:
    """Every body that has its place: parts, then supports, as on a job's own plate."""
    placed = [
        Placed(job, body, unit, _as_written(move @ body.pose))
        for unit, ((job, bodies), move) in enumerate(zip(members, nested.moves, strict=True))
        if move is not None
        for body in bodies
    ]
    return sorted(placed, key=lambda one: one.kind == "supports")


def _as_written(pose: FloatArray) -> FloatArray:
    """A pose with the digits that ``plate.3mf`` holds: what is drawn and measured is what the file says."""
    return np.array([[float(f"{value:.{POSE_DIGITS}g}") for value in row] for row in pose.tolist()])


def _instances(
    placed: Sequence[Placed], meshes: Sequence[Mesh], labels: Sequence[str], measured: LayerFigures
) -> tuple[Instance, ...]:
    instances = []
    for number, (one, mesh, label, (_, layers)) in enumerate(zip(placed, meshes, labels, measured.bodies, strict=True), start=1):
        manifest = one.job.manifest
        instances.append(
            Instance(
                number=number,
                label=label,
                kind=one.kind,
                job=manifest.job,
                sums_sha256=one.job.sums_sha256,
                case=manifest.case,
                device=manifest.device,
                part=one.part,
                engraved=engraved(manifest, one.part) if one.kind == "part" else "",
                due=manifest.due,
                transform=_rows(one.pose),
                box_low_mm=_point(mesh.vertices_mm.min(axis=0)),
                box_high_mm=_point(mesh.vertices_mm.max(axis=0)),
                figures=body_figures(one.body),
                mesh_sha256=mesh_sha256(one.body),
                layers=layers,
                user_data=one.user_data(label),
            )
        )
    return tuple(instances)


def _images_entry(files: MachineFiles, machine: Machine) -> ImagesEntry | None:
    if not files.images or machine.mask is None:
        return None
    mask = machine.mask
    return ImagesEntry(pixel_mm=mask.pixel_mm, corner_mm=mask.corner_mm, figures=image_figures(files.images))


def _notes(instances: Sequence[Instance], findings: Sequence[Finding], process: Process, machine: Machine) -> tuple[str, ...]:
    """What people must know who print and sort the parts."""
    bare = [one.label for one in instances if one.kind == "part" and not one.engraved]
    engraving = f"without engraved text, to be told apart by the map: {', '.join(bare)}" if bare else ""
    blade = [f"{one.what}: {one.value:.1f} {one.unit}, {one.limit}; {one.hint}" for one in findings if one.verdict != "pass"]
    return tuple(note for note in (no_images(process, machine), engraving, *blade) if note)


def _plate_entry(guess: Estimate, process: Process, machine: Machine, shadows: Sequence[shapely.Geometry]) -> PlateEntry:
    width, depth = (side - 2.0 * machine.plate_margin_mm for side in machine.envelope_mm[:2])
    if process.kind == "sls":
        share = guess.part_volume_mm3 / (width * depth * guess.height_mm)
    else:
        share = float(shapely.union_all(list(shadows)).area) / (width * depth)
    return PlateEntry(
        layers=guess.layers,
        layer_mm=process.layer_mm,
        height_mm=guess.height_mm,
        seconds=guess.seconds,
        seconds_low=guess.seconds_low,
        seconds_high=guess.seconds_high,
        material_g=guess.material_g,
        part_volume_mm3=guess.part_volume_mm3,
        basis=guess.basis,
        utilisation=share,
    )


def _clearances(
    gaps: Sequence[Gap], nested: Nest, placed: Sequence[Placed], units: Sequence[int], process: Process
) -> ClearancesEntry:
    first_of = {unit: 1 + [one.unit for one in placed].index(unit) for unit in units}
    near = tuple(
        GapEntry(first=first_of[units[gap.first]], second=first_of[units[gap.second]], gap_mm=gap.gap_mm) for gap in gaps
    )
    return ClearancesEntry(
        required_mm=process.part_spacing_mm,
        nested_mm=nested.spacing_mm,
        measured="surfaces" if process.kind == "sls" else "shadows",
        near=near,
    )


def _rows(pose: FloatArray) -> tuple[Row, Row, Row, Row]:
    (a, b, c, d), (e, f, g, h), (i, j, k, m), (n, o, p, q) = pose.tolist()
    return ((a, b, c, d), (e, f, g, h), (i, j, k, m), (n, o, p, q))


def _point(point: FloatArray) -> Vector:
    x, y, z = point.tolist()
    return (x, y, z)
