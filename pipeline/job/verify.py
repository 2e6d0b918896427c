"""Proves that a job folder is the one that was released: every file re-read, every mesh re-measured.

Runs on the core install, so that a cell or a hospital needs nothing more than that. Every file is read once, within limits,
and the same bytes are hashed and measured.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.archive import ThreeMF, bodies_of, corners_of, read_threemf
from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.dicom_check import check_object, expected_names
from batchone.pipeline.job.images import ImageFigures, image_figures
from batchone.pipeline.job.manifest import JobManifest, PartEntry, drawn_faults, read_manifest
from batchone.pipeline.job.measure import MeshFigures, measure_triangles, stl_corners
from batchone.pipeline.job.provenance import PROVENANCE, provenance_faults, statement
from batchone.pipeline.job.sbom import SBOM, sbom_faults
from batchone.pipeline.job.signature import (
    APPROVAL,
    DEMONSTRATION,
    RELEASE,
    WAIVER,
    Signer,
    embedded_signer,
    read_allowed_signers,
    verify,
    verify_approval,
    verify_waivers,
    write_allowed_signers,
)
from batchone.pipeline.job.sums import MAX_FILES, SUMS, SUMS_SIGNATURE, UNLISTED, read_sums, sha256
from batchone.pipeline.job.toolpath import ToolpathFigures, toolpath_figures
from batchone.pipeline.job.withdrawal import WithdrawnJob, withdrawal_of
from batchone.pipeline.values import Approval, Waiver

Kind = Literal["missing", "extra", "changed", "off", "signature", "unsafe", "withdrawn"]

MANIFEST = "job.json"
LAYERS = "build/layers.cli"
PLATE = "build/plate.3mf"
TOOLPATH = "build/toolpath.gcode"
IMAGES = "build/layers.sl1"
REQUIRED = (MANIFEST, "build-report.pdf", PLATE, LAYERS, PROVENANCE, SBOM)
_MAX_FILE_BYTES = 2_000_000_000  # no file of a job comes near it
MAX_TEXT_BYTES = 16_000_000  # job.json, SHA256SUMS and its signature
_STL_LENGTH_MM, _STL_RELATIVE = 1e-4, 1e-6  # the same bytes measured on another processor: rounding only
_POSE = 1e-4  # nine digits of a transform: rounding only, in mm and in the entries of a rotation
_AT_A_TIME = 2  # files: much of the work lets other threads run
THREEMF_LENGTH_MM, THREEMF_RELATIVE = 0.01, 1e-4  # decimal text of a 3MF against the STL: one hundredth of a layer


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its kind, the file, and what was found in words."""

    kind: Kind
    file: str
    text: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verification found; ``signer`` is empty when the signature does not hold, ``notes`` say what was not checked."""

    ok: bool
    problems: tuple[Problem, ...]
    job_id: str
    signer: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Found:
    """Problems so far, and what the 3MF files hold that could be read, by their names."""

    problems: list[Problem] = field(default_factory=list)
    models: dict[str, ThreeMF] = field(default_factory=dict)

    def add(self, kind: Kind, file: str, text: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, file, text))

    def report(self, name: str, signer: str, allowed: tuple[Signer, ...] | None) -> VerifyReport:
        """All problems, each once, sorted."""
        problems = tuple(sorted(set(self.problems), key=lambda p: (p.file, p.kind, p.text)))
        notes = () if allowed is not None else ("signer not checked: no allowed_signers given",)
        return VerifyReport(not problems, problems, name, signer, notes)


def verify_job(folder: Path, *, signers: Path | None, withdrawn: tuple[WithdrawnJob, ...] = ()) -> VerifyReport:
    """Verify a job folder.

    Parameters
    ----------
    folder
        The job folder; it is only read.
    signers
        An ``allowed_signers`` file, or a site's key folder. None: wholeness is proved with the key inside the
        signature, origin is not, and the report says so.
    withdrawn
        What counts no more, by :func:`batchone.pipeline.job.withdrawal.read_withdrawn`. A job in the folder of its case is held
        against the decisions there too.

    Raises
    ------
    MachineError
        ``folder`` is no folder, or ``signers`` cannot be read.
    """
    return verified_job(folder, signers=signers, withdrawn=withdrawn)[0]


def verified_job(
    folder: Path, *, signers: Path | None, withdrawn: tuple[WithdrawnJob, ...] = ()
) -> tuple[VerifyReport, dict[str, ThreeMF]]:
    """As :func:`verify_job`, with what the 3MF files hold of whose bytes the report speaks, by name."""
    if not folder.is_dir() or folder.is_symlink():
        raise MachineError("job folder is not a folder", hint="give the path of job/<job-id>")
    allowed = allowed_of(signers)
    found = Found()
    present, listed, signer = check_seal(folder, allowed=allowed, required=REQUIRED, found=found)
    job_id = _check_contents(folder, present, listed, allowed=allowed, found=found)
    sums = sha256(read_plain(folder, SUMS, found, limit=MAX_TEXT_BYTES)) if SUMS in present else ""
    check_withdrawn(folder, job_id or folder.name, sums, withdrawn, file=MANIFEST, found=found)
    return found.report(job_id, signer, allowed), found.models


def check_seal(
    folder: Path, *, allowed: tuple[Signer, ...] | None, required: tuple[str, ...], found: Found
) -> tuple[set[str], dict[str, str], str]:
    """Check the list of files and its signature, and that these files are there and no others.

    Returns
    -------
    tuple
        Names of the plain files, the digests that the list gives, and the signer, "" when the signature does not hold.
    """
    present = _walk(folder, found)
    sums_data = read_plain(folder, SUMS, found, limit=MAX_TEXT_BYTES) if SUMS in present else b""
    signer = _check_signature(folder, present, sums_data, allowed=allowed, found=found)
    listed = _listed(sums_data, found)
    _compare_names(present, listed, required, found)
    return present, listed, signer


def allowed_of(signers: Path | None) -> tuple[Signer, ...] | None:
    """Who may sign, by an ``allowed_signers`` file or a key folder; None: anybody."""
    if signers is None:
        return None
    return read_allowed_signers(write_allowed_signers(signers) if signers.is_dir() else signers)


def check_withdrawn(
    folder: Path, job_id: str, sums_sha256: str, listed: tuple[WithdrawnJob, ...], *, file: str, found: Found
) -> None:
    """A job that was approved once and counts no more is off, however whole it is."""
    one = withdrawal_of(folder, job_id, sums_sha256, listed)
    if one is not None:
        found.add(
            "withdrawn", file, f"job {one.job} of case {one.case} was {one.what} on {one.when:%Y-%m-%d %H:%M} UTC: do not use it"
        )


def _walk(folder: Path, found: Found) -> set[str]:
    """Names of the regular files below a folder; links and devices are unsafe and are not read."""
    names: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=False):
        for name in sorted([*folders, *files]):
            path = Path(where) / name
            relative = path.relative_to(folder).as_posix()
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                found.add("unsafe", relative, "a link or a special file, must be a plain file")
            elif status.st_size > _MAX_FILE_BYTES:
                found.add("unsafe", relative, f"file has {status.st_size} bytes, at most {_MAX_FILE_BYTES} bytes")
            else:
                names.add(relative)
        if len(names) > MAX_FILES:
            raise MachineError(f"job folder has more than {MAX_FILES} files", hint="is this a job folder?")
    return names


def read_plain(folder: Path, name: str, found: Found, *, limit: int = _MAX_FILE_BYTES) -> bytes:
    """Read a plain file that does not grow past its limit; b"" and a problem when it cannot be."""
    try:
        handle = os.open(folder / PurePosixPath(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        found.add("unsafe", name, f"cannot be read: {error.strerror}")
        return b""
    if len(data) > limit:
        found.add("unsafe", name, f"file has more than {limit} bytes")
        return b""
    return data


def _check_signature(
    folder: Path, present: set[str], sums_data: bytes, *, allowed: tuple[Signer, ...] | None, found: Found
) -> str:
    if SUMS_SIGNATURE not in present:
        found.add("missing", SUMS_SIGNATURE, "the signature is not there")
        return ""
    text = read_plain(folder, SUMS_SIGNATURE, found, limit=MAX_TEXT_BYTES).decode("ascii", errors="replace")
    try:
        signers = (embedded_signer(text),) if allowed is None else allowed
        return verify(text, sums_data, namespace=RELEASE, allowed=signers)
    except MachineError as error:
        found.add("signature", SUMS_SIGNATURE, str(error))
        return ""


def _listed(sums_data: bytes, found: Found) -> dict[str, str]:
    if not sums_data:
        found.add("missing", SUMS, "the list of files is not there or is empty")
        return {}
    try:
        return read_sums(sums_data)
    except MachineError as error:
        found.add("changed", SUMS, str(error))
        return {}


def _compare_names(present: set[str], listed: dict[str, str], required: tuple[str, ...], found: Found) -> None:
    unsafe = {problem.file for problem in found.problems if problem.kind == "unsafe"}
    for name in sorted({*listed, *required} - present - unsafe):
        found.add("missing", name, "the file is not there")
    for name in sorted(present - listed.keys() - UNLISTED):
        found.add("extra", name, f"the file is not in {SUMS}")


def _check_contents(
    folder: Path, present: set[str], listed: dict[str, str], *, allowed: tuple[Signer, ...] | None, found: Found
) -> str:
    manifest: JobManifest | None = None
    if MANIFEST in present:
        try:
            manifest = read_manifest(read_plain(folder, MANIFEST, found, limit=MAX_TEXT_BYTES))
        except MachineError as error:
            found.add("off", MANIFEST, str(error))
    meshes = _expected_meshes(manifest)
    objects = expected_names(manifest) if manifest is not None else ()
    for name in sorted({*meshes, *objects, *_machine_files(manifest)} - listed.keys()):
        found.add("missing", name, f"job.json names the file, {SUMS} does not")

    def check(name: str) -> None:
        data = read_plain(folder, name, found)
        if name in listed and sha256(data) != listed[name]:
            found.add("changed", name, f"SHA-256 is {sha256(data)[:12]}..., must be {listed[name][:12]}...")
        if name in meshes:
            _check_mesh(name, data, meshes[name], found)
        elif name in (PLATE, LAYERS, TOOLPATH, IMAGES) and manifest is not None:
            _check_machine_file(name, data, manifest, found)
        elif name in objects and manifest is not None:
            for text in check_object(name, data, manifest=manifest, listed=listed):
                found.add("off", name, text)
        elif name.endswith((".stl", ".dcm")) and manifest is not None:
            found.add("off", name, "job.json names no such file")

    with ThreadPoolExecutor(_AT_A_TIME) as pool:  # the report sorts what they find
        list(pool.map(check, sorted(present - UNLISTED)))
    if manifest is None:
        return ""
    check_word(manifest, allowed, found, file=MANIFEST)
    _check_provenance(folder, manifest, listed, allowed, found)
    return manifest.job


def _check_provenance(
    folder: Path, manifest: JobManifest, listed: dict[str, str], allowed: tuple[Signer, ...] | None, found: Found
) -> None:
    if (folder / SBOM).is_file():
        for text in sbom_faults(read_plain(folder, SBOM, found, limit=MAX_TEXT_BYTES), manifest.versions):
            found.add("off", SBOM, text)
    if not (folder / PROVENANCE).exists():
        return  # told before
    if allowed is None:
        text = read_plain(folder, SUMS_SIGNATURE, found, limit=MAX_TEXT_BYTES).decode("ascii", errors="replace")
        try:
            allowed = (embedded_signer(text),)
        except MachineError:
            return  # told before
    data = read_plain(folder, PROVENANCE, found, limit=MAX_TEXT_BYTES)
    for fault in provenance_faults(data, statement(manifest, listed), allowed):
        found.add("off", PROVENANCE, fault)


def _expected_meshes(manifest: JobManifest | None) -> dict[str, PartEntry]:
    parts = manifest.parts if manifest is not None else ()
    return {f"parts/{part.name}{suffix}": part for part in parts for suffix in (".stl", ".3mf")}


def _check_mesh(name: str, data: bytes, part: PartEntry, found: Found) -> None:
    is_stl = name.endswith(".stl")
    wanted = part.stl_sha256 if is_stl else part.threemf_sha256
    if sha256(data) != wanted:
        found.add("off", name, f"SHA-256 is {sha256(data)[:12]}..., job.json says {wanted[:12]}...")
    try:
        figures = measure_triangles(stl_corners(data) if is_stl else corners_of(_model(name, data, found)))
    except MachineError as error:
        found.add("off", name, str(error))
        return
    for text in differences(part.figures, figures, is_stl=is_stl):
        found.add("off", name, text)


def _model(name: str, data: bytes, found: Found) -> ThreeMF:
    found.models[name] = read_threemf(data)
    return found.models[name]


def _check_plate(data: bytes, manifest: JobManifest, found: Found) -> None:
    """The bodies of the plate by name: parts, then supports, each as it was measured and where it was placed."""
    try:
        bodies = bodies_of(_model(PLATE, data, found))
    except MachineError as error:
        found.add("off", PLATE, str(error))
        return
    supports = {f"supports-{entry.part}": entry.figures for entry in manifest.build.supports}
    wanted = [*(placement.part for placement in manifest.build.placements), *supports]
    names = [body.name for body in bodies]
    if names != wanted:
        found.add("off", PLATE, f"bodies are {', '.join(names)}; must be {', '.join(wanted)}")
        return
    figures = {part.name: part.figures for part in manifest.parts}
    poses = {placement.part: np.array(placement.pose) for placement in manifest.build.placements}
    for body in bodies:
        if body.name in figures:
            for text in differences(figures[body.name], measure_triangles(body.vertices_mm[body.triangles]), is_stl=False):
                found.add("off", PLATE, f"{body.name}: {text}")
            off = float(np.abs(body.pose - poses[body.name]).max())
            if off > _POSE:
                found.add("off", PLATE, f"{body.name}: its place is off by {off:.6f} (mm, or in its rotation), at most {_POSE:g}")
        if body.name in supports:
            placed = body.vertices_mm @ body.pose[:3, :3].T + body.pose[:3, 3]
            for text in differences(supports[body.name], measure_triangles(placed[body.triangles]), is_stl=False):
                found.add("off", PLATE, f"{body.name}: {text}")


def differences(wanted: MeshFigures, figures: MeshFigures, *, is_stl: bool) -> tuple[str, ...]:
    """Where a re-read mesh file is off the figures in ``job.json``."""
    length_mm, relative = (_STL_LENGTH_MM, _STL_RELATIVE) if is_stl else (THREEMF_LENGTH_MM, THREEMF_RELATIVE)
    return wanted.differences(figures, length_mm=length_mm, relative=relative)


def approval_of(manifest: JobManifest) -> Approval:
    """The Approval that a manifest carries."""
    entry = manifest.approval
    return Approval(
        entry.name,
        entry.time,
        entry.meaning,
        entry.digest,
        entry.public_key,
        entry.signature,
        entry.demonstration,
        tuple(Waiver(**dict(waiver)) for waiver in entry.waivers),
        entry.checklist,
        entry.confirmed,
    )


def _check_layers(data: bytes, manifest: JobManifest, found: Found) -> None:
    try:
        figures = cli_figures(data)
    except MachineError as error:
        found.add("off", LAYERS, str(error))
        return
    build = manifest.build
    measured, wanted = (
        f"{one.layers} layers, {one.contours} contours, {one.hatches} hatches of {one.hatches_mm:.0f} mm"
        for one in (figures, build)
    )
    if measured != wanted:
        found.add("off", LAYERS, f"{measured}; must be {wanted}")
    for text in drawn_faults(build.drawn, figures):
        found.add("off", LAYERS, text)
    if not abs(figures.volume_mm3 - build.layers_volume_mm3) <= _STL_RELATIVE * build.layers_volume_mm3:
        found.add("off", LAYERS, f"volume is {figures.volume_mm3:.3f} mm3, must be {build.layers_volume_mm3:.3f} mm3")


def _machine_files(manifest: JobManifest | None) -> dict[str, ToolpathFigures | ImageFigures]:
    """What a machine reads apart from layers, with the figures that it must have."""
    build = manifest.build if manifest is not None else None
    files: dict[str, ToolpathFigures | ImageFigures] = {}
    if build is not None and build.toolpath is not None:
        files[TOOLPATH] = build.toolpath.figures
    if build is not None and build.images is not None:
        files[IMAGES] = build.images.figures
    return files


def _check_machine_file(name: str, data: bytes, manifest: JobManifest, found: Found) -> None:
    if name in (PLATE, LAYERS):
        (_check_plate if name == PLATE else _check_layers)(data, manifest, found)
        return
    wanted = _machine_files(manifest).get(name)
    if wanted is None:
        found.add("off", name, "job.json names no such file")
        return
    try:
        figures = toolpath_figures(data) if name == TOOLPATH else image_figures(data)
    except MachineError as error:
        found.add("off", name, str(error))
        return
    if figures != wanted:
        found.add("off", name, f"measures {figures}; must be {wanted}")


def check_word(manifest: JobManifest, allowed: tuple[Signer, ...] | None, found: Found, *, file: str) -> None:
    """Who approved a job and let findings stand may do so, and nothing in it has failed; ``file`` is its ``job.json``."""
    approval = approval_of(manifest)
    _check_approval(approval, allowed, found, file)
    _check_verdicts(manifest, approval, found, file)


def _check_verdicts(manifest: JobManifest, approval: Approval, found: Found, file: str) -> None:
    """Nothing in a released job has failed, and what is marked as waived has its waiver."""
    for entry in manifest.findings:
        if entry.verdict == "fail" or (
            entry.verdict == "waived" and not any(w.covers(entry.finding()) for w in approval.waivers)
        ):
            found.add("off", file, f"{entry.check}: {entry.what} failed, and no waiver is for it")


def _check_approval(approval: Approval, allowed: tuple[Signer, ...] | None, found: Found, file: str) -> None:
    """Check the approval by the approvers' keys when the signers name any, else by the key that it carries."""
    approvers = tuple(s for s in allowed or () if {APPROVAL, DEMONSTRATION} & set(s.namespaces))
    try:
        verify_approval(approval, approvers or (embedded_signer(approval.signature),))
    except MachineError as error:
        found.add("signature", file, f"approval: {error}")
    waivable = tuple(s for s in allowed or () if WAIVER in s.namespaces)
    for waiver in approval.waivers:
        try:
            verify_waivers(replace(approval, waivers=(waiver,)), waivable or (embedded_signer(waiver.signature),))
        except MachineError as error:
            found.add("signature", file, f"waiver: {error}")
