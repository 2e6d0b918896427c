"""A small job folder: a box with a hole, really sliced and signed."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
from dataclasses import replace
from pathlib import Path

import manifold3d
import numpy as np

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.describe import Case, describe
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.measure import measure_triangles, stl_bytes, stl_corners
from batchone.pipeline.job.provenance import PROVENANCE, envelope, statement
from batchone.pipeline.job.sbom import SBOM, sbom
from batchone.pipeline.job.signature import RELEASE, SiteKey, approval_key, release_key, sign, sign_approval
from batchone.pipeline.job.sums import sha256, sums_bytes
from batchone.pipeline.order import Order
from batchone.pipeline.values import (
    Anatomy,
    Approval,
    Build,
    CheckedDevice,
    Device,
    FieldOfView,
    FunctionalFace,
    Mesh,
    Part,
    Plan,
    Scan,
    SeriesRecord,
)
from batchone.slicer.make import slice_device
from batchone.slicer.profiles import load_machine, load_process

RECORD = SeriesRecord("CT", "Maker", "Model", "H30", "HFS", 4, 1.0, 1.0, (1.0, 1.0), 0.0, "1.2.840.10008.1.2.1", "ab" * 32)


def mesh_of(solid: manifold3d.Manifold) -> Mesh:
    made = solid.to_mesh64()
    return Mesh(np.array(made.vert_properties[:, :3]), np.array(made.tri_verts, dtype=np.int32))


def box_with_a_hole(width_mm: float = 12.0) -> Mesh:
    box = manifold3d.Manifold.cube([width_mm, 9.0, 6.0])
    hole = manifold3d.Manifold.cylinder(20.0, 1.5, circular_segments=24).translate([4.0, 4.0, -5.0])
    return mesh_of((box - hole).translate([30.0, -20.0, 50.0]))


def write_files(folder: Path, files: dict[str, bytes], key: SiteKey) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    seal(folder, key)


def seal(folder: Path, key: SiteKey) -> None:
    """Write provenance, list and signature anew, as one who holds ``key`` can; the bill of software where there is none."""
    with contextlib.suppress(MachineError, FileNotFoundError):  # a job.json that nobody can read; a plate has none
        manifest = read_manifest((folder / "job.json").read_bytes())
        if not (folder / SBOM).exists():
            (folder / SBOM).write_bytes(sbom(tuple(manifest.versions)))
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    digests = {n: sha256((folder / n).read_bytes()) for n in names if not n.startswith("SHA256SUMS")}
    with contextlib.suppress(MachineError, FileNotFoundError):  # a job.json that nobody can read; a plate has none
        data = envelope(statement(read_manifest((folder / "job.json").read_bytes()), digests), key)
        (folder / PROVENANCE).write_bytes(data)
        digests[PROVENANCE] = sha256(data)
    sums = sums_bytes(digests)
    (folder / "SHA256SUMS").write_bytes(sums)
    (folder / "SHA256SUMS.sig").write_text(sign(key, sums, namespace=RELEASE))


@functools.cache
def sliced(keys: Path, process_name: str) -> tuple[Mesh, CheckedDevice, Approval, Build]:
    """The box, its approval by a key of ``keys``, and what the slicer makes of it: made once, for jobs of many cases."""
    mesh = box_with_a_hole()
    corners = mesh.vertices_mm[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    right = normals[:, 0] > 0.9 * np.linalg.norm(normals, axis=1)  # of the box and, a strip, of the hole
    part = Part("implant", mesh, right.astype(np.int16), ("body", "seat"), (FunctionalFace("seat", "lies on the bone", 0.2),))
    checked = CheckedDevice(Device("cranial-implant", (part,)), ())
    time = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
    approval = sign_approval(Approval("reviewer", time, "released", "cd" * 32, ""), approval_key(keys, "reviewer"))
    return mesh, checked, approval, slice_device(checked, approval, load_process(process_name), load_machine("sim-01"))


def make_job(folder: Path, keys: Path, process_name: str, layers_cli: bytes | None = None, *, case: str = "demo-0001") -> None:
    """A job folder with real meshes, layers and manifest, its papers stand-ins; ``layers_cli``: other layers, signed too."""
    mesh, checked, approval, build = sliced(keys, process_name)
    process, machine = load_process(process_name), load_machine("sim-01")
    if layers_cli is not None:
        build = replace(build, layers_cli=layers_cli)
    scan = Scan(np.zeros((4, 4, 4), np.int16), np.eye(4), RECORD)
    anatomy = Anatomy((), (), FieldOfView(np.eye(4), (4, 4, 4)))
    due = dt.datetime(2026, 11, 24, 8, 0, tzinfo=dt.UTC)
    order = Order(case=case, device="cranial-implant", side="left", process=process.name, machine=machine.name, due=due)
    values = Case(
        scan,
        anatomy,
        Plan("cranial-implant", True, "left"),
        checked,
        approval,
        build,
        order,
        process,
        machine,
        release_key(keys),
    )
    files = {
        "parts/implant.stl": stl_bytes(mesh),
        "parts/implant.3mf": dict(build.part_3mf)["implant"],
        "build/plate.3mf": build.plate_3mf,
        "build/layers.cli": build.layers_cli,
        "pictures/bone-front.png": b"picture",
        "build-report.pdf": b"report",
        "clinical-report.pdf": b"report",
    }
    figures = {"implant": measure_triangles(stl_corners(files["parts/implant.stl"]))}
    digests = {name: sha256(data) for name, data in files.items()}
    manifest = describe(values, figures, layers=cli_figures(build.layers_cli), digests=digests)
    files["job.json"] = manifest.to_bytes()
    write_files(folder, files, release_key(keys))
