"""Proves that a build folder is the one that was nested: every body and every label re-read and re-measured.

Runs on the core install, as the verification of a job does. A removed, swapped, moved or changed part is found by its digest, and
apart from that by what ``plate.3mf`` and ``layers.cli`` measure against ``build.json``, and ``build.json`` against the
``job.json`` of each job, which the build carries with its signed list of digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from batchone.pipeline.build.manifest import (
    BuildManifest,
    Instance,
    body_figures,
    label_of,
    mesh_sha256,
    read_build_manifest,
)
from batchone.pipeline.build.released import CARRIED, engraved
from batchone.pipeline.build.user_data import header_faults, job_faults
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.archive import Body, threemf_bodies
from batchone.pipeline.job.contours import LayersEntry, cli_figures
from batchone.pipeline.job.images import image_figures
from batchone.pipeline.job.manifest import JobManifest, drawn_faults, read_manifest
from batchone.pipeline.job.signature import RELEASE, Signer, embedded_signer, verify
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE, UNLISTED, read_sums, sha256
from batchone.pipeline.job.verify import (
    MANIFEST,
    MAX_TEXT_BYTES,
    Found,
    VerifyReport,
    allowed_of,
    check_seal,
    check_withdrawn,
    check_word,
    differences,
    read_plain,
)
from batchone.pipeline.job.withdrawal import WithdrawnJob

BUILD_MANIFEST, PLATE, LAYERS, IMAGES, MAP = "build.json", "plate.3mf", "layers.cli", "layers.sl1", "map.png"
REQUIRED = (BUILD_MANIFEST, PLATE, LAYERS, MAP)
_LENGTH_MM, _RELATIVE = 1e-4, 1e-6  # the same decimals read again on another processor: rounding only
_MOVE_MM = 5e-3  # job.json holds poses to 1e-6 as well: of a lever of 1 m in a scan
_POSE_MM = 1e-3  # build.json holds transforms to 1e-6: of a lever of 600 mm
_AREA_SHARE = 5e-3  # requirement: volume of the layers against the body; project default, as for a job
_OUTLINE_MM = 0.02  # a file of layers rounds to 0.005 mm, float32 to less
_REACH_LAYERS = 5.0  # contours lie in the middles of layers: a shallow edge may reach that many layers farther than they do


def is_build(folder: Path) -> bool:
    """Whether a folder is a build rather than a job."""
    return (folder / BUILD_MANIFEST).is_file()


def verify_build(folder: Path, *, signers: Path | None, withdrawn: tuple[WithdrawnJob, ...] = ()) -> VerifyReport:
    """Verify a build folder; see :func:`batchone.pipeline.job.verify.verify_job`.

    Raises
    ------
    MachineError
        ``folder`` is no folder, or ``signers`` cannot be read.
    """
    if not folder.is_dir() or folder.is_symlink():
        raise MachineError("build folder is not a folder", hint="give the path of builds/<build-id>")
    allowed = allowed_of(signers)
    found = Found()
    present, listed, signer = check_seal(folder, allowed=allowed, required=REQUIRED, found=found)
    data: dict[str, bytes] = {}
    for name in sorted(present - UNLISTED):
        content = read_plain(folder, name, found)
        if name in listed and sha256(content) != listed[name]:
            found.add("changed", name, f"SHA-256 is {sha256(content)[:12]}..., must be {listed[name][:12]}...")
        if name in (BUILD_MANIFEST, PLATE, LAYERS, IMAGES) or (name.startswith("jobs/") and len(content) <= MAX_TEXT_BYTES):
            data[name] = content
    build = _check_contents(data, allowed, found)
    for name in sorted(name for name in data if name.endswith(f"/{SUMS}")):  # of the jobs that the build carries
        job = name.split("/")[1]
        check_withdrawn(folder, job, sha256(data[name]), withdrawn, file=f"jobs/{job}/{MANIFEST}", found=found)
    return found.report(build, signer, allowed)


def _check_contents(data: dict[str, bytes], allowed: tuple[Signer, ...] | None, found: Found) -> str:
    if BUILD_MANIFEST not in data:
        return ""
    try:
        manifest = read_build_manifest(data[BUILD_MANIFEST])
    except MachineError as error:
        found.add("off", BUILD_MANIFEST, str(error))
        return ""
    _check_plate(manifest, data.get(PLATE, b""), found)
    _check_layers(manifest, data.get(LAYERS, b""), found)
    _check_images(manifest, data.get(IMAGES), found)
    _check_names(manifest, found)
    jobs: dict[str, JobManifest] = {}
    for one in manifest.instances:
        if one.job not in jobs:
            carried = _carried(one, data, allowed, found)
            if carried is None:
                continue
            jobs[one.job] = carried
        _check_against_job(one, manifest, jobs[one.job], found)
    for job, carried in jobs.items():
        _check_whole(manifest, carried, f"jobs/{job}/{MANIFEST}", found)
    return manifest.build


def _check_plate(manifest: BuildManifest, data: bytes, found: Found) -> None:
    try:
        bodies = threemf_bodies(data)
    except MachineError as error:
        found.add("off", PLATE, str(error))
        return
    _check_labels(PLATE, [body.name for body in bodies], manifest, found)
    by_name = {body.name: body for body in bodies}
    for one in manifest.instances:
        if one.label in by_name:
            for text in _body_faults(one, by_name[one.label]):
                found.add("off", PLATE, f"{one.label}: {text}")


def _check_labels(file: str, names: Sequence[str], manifest: BuildManifest, found: Found) -> None:
    labels = [one.label for one in manifest.instances]
    for name in sorted(set(labels) - set(names)):
        found.add("off", file, f"{name} is not there")
    for name in sorted(set(names) - set(labels)):
        found.add("off", file, f"{name!r} is not in {BUILD_MANIFEST}")
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.add("off", file, f"{name} is there {names.count(name)} times, must be once")


def _body_faults(one: Instance, body: Body) -> list[str]:
    faults = list(one.figures.differences(body_figures(body), length_mm=_LENGTH_MM, relative=_RELATIVE))
    if mesh_sha256(body) != one.mesh_sha256:
        faults.append(f"its triangles are not those that {BUILD_MANIFEST} names")
    corners = body.vertices_mm @ body.pose[:3, :3].T + body.pose[:3, 3]
    wanted = np.array(one.transform)
    off_mm = float(np.abs(corners - (body.vertices_mm @ wanted[:3, :3].T + wanted[:3, 3])).max(initial=0.0))
    if not off_mm <= _POSE_MM:
        faults.append(f"a corner is {off_mm:.3f} mm from where its transform puts it, at most {_POSE_MM:g} mm")
    turn = body.pose[:3, :3]
    if not (np.abs(turn @ turn.T - np.eye(3)).max() <= _RELATIVE * 10.0 and np.linalg.det(turn) > 0.0):
        faults.append("its transform mirrors or scales")
    box_mm = np.abs(np.stack([corners.min(axis=0), corners.max(axis=0)]) - [one.box_low_mm, one.box_high_mm]).max()
    if not box_mm <= _POSE_MM:
        faults.append(f"its box is {box_mm:.3f} mm off, at most {_POSE_MM:g} mm")
    return faults


def _check_layers(manifest: BuildManifest, data: bytes, found: Found) -> None:
    try:
        figures = cli_figures(data)
    except MachineError as error:
        found.add("off", LAYERS, str(error))
        return
    if figures.layers != manifest.plate.layers:
        found.add("off", LAYERS, f"{figures.layers} layers, must be {manifest.plate.layers}")
    _check_labels(LAYERS, [label for label, _ in figures.bodies], manifest, found)
    for text in (*header_faults(data, manifest.instances), *drawn_faults(manifest.drawn, figures)):
        found.add("off", LAYERS, text)
    by_name = dict(figures.bodies)
    for one in manifest.instances:
        if one.label in by_name:
            for text in _layer_faults(one, by_name[one.label], manifest.plate.layer_mm):
                found.add("off", LAYERS, f"{one.label}: {text}")


def _layer_faults(one: Instance, measured: LayersEntry, layer_mm: float) -> list[str]:
    faults = []
    for name in LayersEntry.model_fields:
        mine, theirs = getattr(one.layers, name), getattr(measured, name)
        if mine != theirs:
            faults.append(f"{name} is {theirs}, must be {mine}")
    top = one.layers.last_layer - one.layers.first_layer + 1
    slack = _AREA_SHARE + 1.0 / max(top, 1)  # the last layer is written full, however little of it the body fills
    if not abs(measured.volume_mm3 - one.figures.volume_mm3) <= slack * one.figures.volume_mm3:
        faults.append(f"its layers have {measured.volume_mm3:.1f} mm3, its body {one.figures.volume_mm3:.1f} mm3")
    outline = np.array([measured.box_low_mm, measured.box_high_mm]) - np.array([one.box_low_mm[:2], one.box_high_mm[:2]])
    beyond_mm = float(max(-outline[0].min(), outline[1].max()))
    within_mm = float(max(outline[0].max(), -outline[1].min()))
    if not (beyond_mm <= _OUTLINE_MM and within_mm <= _OUTLINE_MM + _REACH_LAYERS * layer_mm):
        faults.append(f"its layers lie elsewhere than its body: box off by {max(beyond_mm, within_mm):.2f} mm")
    return faults


def _check_images(manifest: BuildManifest, data: bytes | None, found: Found) -> None:
    if data is None or manifest.images is None:
        if data is not None:
            found.add("off", IMAGES, f"{BUILD_MANIFEST} names no such file")
        elif manifest.images is not None:
            found.add("missing", IMAGES, f"{BUILD_MANIFEST} names the file")
        return
    try:
        figures = image_figures(data)
    except MachineError as error:
        found.add("off", IMAGES, str(error))
        return
    if figures != manifest.images.figures:
        found.add("off", IMAGES, f"measures {figures}; must be {manifest.images.figures}")


def _check_names(manifest: BuildManifest, found: Found) -> None:
    """Numbers count from 1, and each label says number, case and part."""
    numbers = [one.number for one in manifest.instances]
    if numbers != list(range(1, len(numbers) + 1)):
        found.add("off", BUILD_MANIFEST, f"numbers are {', '.join(map(str, numbers))}; must be 1 to {len(numbers)}")
    for one in manifest.instances:
        wanted = label_of(one.number, one.case, one.kind, one.part)
        if one.label != wanted:
            found.add("off", BUILD_MANIFEST, f"{one.label}: its label must be {wanted}")


def _carried(one: Instance, data: dict[str, bytes], allowed: tuple[Signer, ...] | None, found: Found) -> JobManifest | None:
    """The ``job.json`` that a build carries: by its own list of digests, which its site signed."""
    names = {name: f"jobs/{one.job}/{name}" for name in CARRIED}
    absent = [name for name in names.values() if name not in data]
    for name in absent:
        found.add("missing", name, "the file is not there")
    if absent:
        return None
    sums = data[names[SUMS]]
    if sha256(sums) != one.sums_sha256:
        found.add("off", names[SUMS], f"SHA-256 is {sha256(sums)[:12]}..., {BUILD_MANIFEST} says {one.sums_sha256[:12]}...")
    try:
        signature = data[names[SUMS_SIGNATURE]].decode("ascii", errors="replace")
        verify(signature, sums, namespace=RELEASE, allowed=allowed or (embedded_signer(signature),))
        if read_sums(sums).get(MANIFEST) != sha256(data[names[MANIFEST]]):
            found.add("off", names[MANIFEST], f"it is not the one that {names[SUMS]} lists")
        job = read_manifest(data[names[MANIFEST]])
    except MachineError as error:
        found.add("off", names[MANIFEST], str(error))
        return None
    check_word(job, allowed, found, file=names[MANIFEST])
    return job


def _check_against_job(one: Instance, manifest: BuildManifest, job: JobManifest, found: Found) -> None:
    """What ``build.json`` says of a body is what ``job.json`` says."""
    part = next((part for part in job.parts if part.name == one.part), None)
    if part is None:
        found.add("off", BUILD_MANIFEST, f"{one.label}: job {one.job} has no part {one.part}")
        return
    said = (one.job, one.case, one.device, one.due, one.engraved)
    text = engraved(job, one.part) if one.kind == "part" else ""
    if said != (job.job, job.case, job.device, job.due, text):
        found.add("off", BUILD_MANIFEST, f"{one.label}: job, case, device, due or engraved text is not that of its job.json")
    for fault in job_faults(one, job):
        found.add("off", BUILD_MANIFEST, f"{one.label}: {fault}")
    figures = part.figures
    if one.kind == "supports":
        carrying = next((entry for entry in job.build.supports if entry.part == one.part), None)
        if carrying is None:
            found.add("off", BUILD_MANIFEST, f"{one.label}: job {one.job} has no supports of {one.part}")
            return
        figures = carrying.figures
        for fault in _move_faults(one, manifest, job):
            found.add("off", BUILD_MANIFEST, f"{one.label}: {fault}")
    for fault in differences(figures, one.figures, is_stl=False):
        found.add("off", BUILD_MANIFEST, f"{one.label}: {fault}, by its job.json")


def _move_faults(one: Instance, manifest: BuildManifest, job: JobManifest) -> list[str]:
    """Supports stand in their job's plate frame: moved as they are, the part that they carry lies where it was placed."""
    pose = next((np.array(placed.pose) for placed in job.build.placements if placed.part == one.part), None)
    parts = [other for other in manifest.instances if (other.job, other.part, other.kind) == (one.job, one.part, "part")]
    if pose is None or len(parts) != 1:
        return [f"the part that it carries is there {len(parts)} times, must be once"]
    low, high = parts[0].figures.box_low_mm, parts[0].figures.box_high_mm
    corners = np.array([(x, y, z, 1.0) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    off_mm = float(np.abs(corners @ (np.array(parts[0].transform) - np.array(one.transform) @ pose).T).max())
    return [] if off_mm <= _MOVE_MM else [f"it stands {off_mm:.3f} mm from where it carries its part, at most {_MOVE_MM:g} mm"]


def _check_whole(manifest: BuildManifest, job: JobManifest, file: str, found: Found) -> None:
    """Every part of a job stands on the plate once, and so do its supports; a demonstration is called one."""
    if job.approval.demonstration != manifest.demonstration:
        found.add("off", BUILD_MANIFEST, f"demonstration is {manifest.demonstration}, job {job.job} says otherwise")
    built = sorted((one.kind, one.part) for one in manifest.instances if one.job == job.job)
    wanted = sorted([*(("part", part.name) for part in job.parts), *(("supports", entry.part) for entry in job.build.supports)])
    if built != wanted:
        found.add("off", file, f"its bodies are {_listed(wanted)}; the build holds {_listed(built)}")


def _listed(bodies: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{'supports of ' if kind == 'supports' else ''}{part}" for kind, part in bodies) or "none of them"
