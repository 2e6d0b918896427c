"""Released jobs of pedicle guides for many patients: designed and engraved by the family, sliced and sealed as usual.

Papers and pictures are stand-ins: whoever nests does not read them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from batchone.design.families import load_families
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import Checked
from batchone.design.make import design, plan
from batchone.design.pedicle.checks import says_what_it_is
from batchone.design.table_files import shipped_tables
from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.describe import Case, describe
from batchone.pipeline.job.measure import measure_triangles, stl_bytes, stl_corners
from batchone.pipeline.job.medical import medical_blocks
from batchone.pipeline.job.provenance import PROVENANCE, envelope, statement
from batchone.pipeline.job.sbom import SBOM, sbom
from batchone.pipeline.job.signature import RELEASE, approval_key, release_key, sign, sign_approval
from batchone.pipeline.job.sums import sha256, sums_bytes
from batchone.pipeline.order import Order
from batchone.pipeline.values import (
    Anatomy,
    Approval,
    Bone,
    CheckedDevice,
    Device,
    FieldOfView,
    Landmark,
    Mesh,
    Part,
    Plan,
    Reference,
    Scan,
    SeriesRecord,
)
from batchone.samples.spine import spine_segment
from batchone.segment.frames.vertebra import vertebra
from batchone.slicer.cli_header import with_medical
from batchone.slicer.make import slice_device
from batchone.slicer.profiles import load_machine, load_process

RECORD = SeriesRecord("CT", "Maker", "Model", "H30", "HFS", 4, 1.0, 1.0, (1.0, 1.0), 0.0, "1.2.840.10008.1.2.1", "ab" * 32)
TIME = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
LEVELS = ("L2", "L3")  # each patient gets a guide of each
SIZES = (0.94, 1.12)  # of the spine, from the first patient to the last
SIGMA_MM = 0.05  # of the surface


def ordered(patient: int, device: str = "pedicle-guide") -> Order:
    """The order of one patient; the first is due first."""
    return Order(
        case=f"bench-{patient + 1:04d}",
        device=device,
        side="midline",
        process="pa12-sls",
        machine="sim-01",
        due=TIME + dt.timedelta(hours=patient),
        parameters=PedicleGuideParameters(bone_model=False),
    )


def anatomy(size: float) -> Anatomy:
    """Two vertebrae of the synthetic spine, so many times as large."""
    bones: list[Bone] = []
    landmarks: list[Landmark] = []
    references: list[Reference] = []
    for level, mesh in zip(LEVELS, spine_segment(3).vertebrae, strict=False):
        scaled = Mesh(mesh.vertices_mm * size, mesh.faces)
        sigma = np.full(len(scaled.vertices_mm), SIGMA_MM)
        found = vertebra(scaled, sigma, level)
        if found is None:
            raise SystemExit(f"the synthetic {level}, {size:.2f} times as large, shows no landmarks")
        bones.append(Bone(level, "midline", True, 1.0, 26000.0 * size**3, scaled, found.frame, sigma))
        landmarks += found.landmarks
        references += found.references
    return Anatomy(tuple(bones), tuple(landmarks), FieldOfView(np.eye(4), (9, 9, 9)), references=tuple(references))


def guides_of(folder: Path, keys: Path, patient: int, patients: int) -> tuple[Part, ...]:
    """Design a patient's guides, read their labels back and write the sealed job; the parts as designed."""
    share = patient / max(1, patients - 1)
    shape, order = anatomy(SIZES[0] + share * (SIZES[1] - SIZES[0])), ordered(patient)
    process, machine = load_process(order.process), load_machine(order.machine)
    proposal = plan(shape, order)
    device = design(shape, proposal, order, process)
    limits = load_families()[order.device].limits
    labels = says_what_it_is(Checked(device, shape, proposal, order, process, machine, shipped_tables(), limits))
    sealed(folder, keys, order, CheckedDevice(device, labels), shape, proposal)
    return device.parts


def released(folder: Path, keys: Path, patient: int, meshes: Sequence[Mesh]) -> Path:
    """A sealed job of these meshes for one patient, named guide-1 and on, without engraved text."""
    parts = tuple(
        Part(f"guide-{number}", mesh, np.zeros(len(mesh.faces), np.int16), ("body",)) for number, mesh in enumerate(meshes, 1)
    )
    order = ordered(patient)
    nothing = Anatomy((), (), FieldOfView(np.eye(4), (4, 4, 4)))
    return sealed(
        folder, keys, order, CheckedDevice(Device(order.device, parts), ()), nothing, Plan(order.device, True, "midline")
    )


def sealed(folder: Path, keys: Path, order: Order, checked: CheckedDevice, shape: Anatomy, proposal: Plan) -> Path:
    """Slice, describe, seal and write the job of a device."""
    process, machine, parts = load_process(order.process), load_machine(order.machine), checked.device.parts
    word = Approval("bench", TIME, "benchmark", sha256(order.case.encode()), "")
    approval = sign_approval(word, approval_key(keys, "bench"))
    build = slice_device(checked, approval, process, machine)
    scan = Scan(np.zeros((4, 4, 4), np.int16), np.eye(4), RECORD)
    values = Case(scan, shape, proposal, checked, approval, build, order, process, machine, release_key(keys))
    build = replace(build, layers_cli=with_medical(build.layers_cli, medical_blocks(values)))
    files = {"build/plate.3mf": build.plate_3mf, "build/layers.cli": build.layers_cli}
    files |= {"build-report.pdf": b"left out", "clinical-report.pdf": b"left out"}
    for part in parts:
        files |= {f"parts/{part.name}.stl": stl_bytes(part.mesh), f"parts/{part.name}.3mf": dict(build.part_3mf)[part.name]}
    figures = {part.name: measure_triangles(stl_corners(files[f"parts/{part.name}.stl"])) for part in parts}
    digests = {name: sha256(data) for name, data in files.items()}
    manifest = describe(values, figures, layers=cli_figures(build.layers_cli), digests=digests)
    files |= {"job.json": manifest.to_bytes(), SBOM: sbom(tuple(manifest.versions))}
    stated = statement(manifest, {name: sha256(data) for name, data in files.items()})
    files[PROVENANCE] = envelope(stated, release_key(keys))
    sums = sums_bytes({name: sha256(data) for name, data in files.items()})
    files |= {"SHA256SUMS": sums, "SHA256SUMS.sig": sign(release_key(keys), sums, namespace=RELEASE).encode()}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
