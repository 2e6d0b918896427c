"""Fills the manifest from the values of the case and from what was measured on the files."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from batchone.design.families import package_of
from batchone.pipeline.approval import shown
from batchone.pipeline.job.contours import LayerFigures
from batchone.pipeline.job.images import image_figures
from batchone.pipeline.job.manifest import (
    ApprovalEntry,
    BuildEntry,
    ConditionsEntry,
    DicomEntry,
    DirectionEntry,
    FaceEntry,
    FindingEntry,
    ImagesEntry,
    JobManifest,
    OrientationEntry,
    PartEntry,
    PlacementEntry,
    Row,
    SupportEntry,
    ToolpathEntry,
    WaiverEntry,
    canonical_json,
    drawn_entries,
    profiles_digest,
)
from batchone.pipeline.job.measure import MeshFigures, measure_mesh
from batchone.pipeline.job.signature import SiteKey
from batchone.pipeline.job.sums import sha256
from batchone.pipeline.job.toolpath import toolpath_figures
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import (
    Anatomy,
    Approval,
    Build,
    CheckedDevice,
    Finding,
    FloatArray,
    Mesh,
    Orientation,
    Part,
    Plan,
    Scan,
)

_LIBRARIES = (
    "batchone",
    "cadquery",
    "cryptography",
    "lib3mf",
    "manifold3d",
    "numba",
    "numpy",
    "pillow",
    "pydantic",
    "pydicom",
    "scikit-image",
    "scipy",
    "SimpleITK",
    "trimesh",
    "typst",
    "vtk",
)
_JOB_ID_CHARACTERS = 16
NO_IMAGES = "no DICOM objects: the scan came as a volume file, without the series and frame of reference that they must name"


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Everything that goes into a job folder."""

    scan: Scan
    anatomy: Anatomy
    plan: Plan
    checked: CheckedDevice
    approval: Approval
    build: Build
    order: Order
    process: Process
    machine: Machine
    key: SiteKey


def job_id_of(case: Case) -> str:
    """The first 16 hexadecimal digits of the digest of the inputs and the Approval."""
    parts = (
        case.scan.record.sources_digest.encode(),
        canonical_json(case.order.model_dump(mode="json")),
        canonical_json(case.process.model_dump(mode="json")),
        canonical_json(case.machine.model_dump(mode="json")),
        case.approval.digest.encode(),
        case.approval.text(),
        str(case.approval.demonstration).encode(),
        case.approval.public_key.encode(),
        case.key.public_key.encode(),
    )
    return sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts))[:_JOB_ID_CHARACTERS]


def describe(
    case: Case,
    figures: Mapping[str, MeshFigures],
    *,
    layers: LayerFigures,
    digests: Mapping[str, str],
    dicom: DicomEntry | None = None,
    measured: Sequence[Finding] = (),
) -> JobManifest:
    """Fill ``job.json``.

    Parameters
    ----------
    case
        The case.
    figures
        Part name -> what its STL file measures after reading it back.
    layers
        What ``build/layers.cli`` measures.
    digests
        Relative path -> SHA-256 of each file written so far.
    dicom
        The DICOM objects; None when the scan came from no DICOM series.
    measured
        What was found on the files after reading them back.
    """
    order, plan, device = case.order, case.plan, case.checked.device
    return JobManifest(
        job=job_id_of(case),
        case=order.case,
        device=order.device,
        side=order.side,
        process=case.process.name,
        machine=case.machine.name,
        due=order.due,
        parameters=order.parameters.model_dump(mode="json"),
        plan_proposed=plan.proposed,
        plan_figures=dict(plan.figures),
        device_figures=dict(device.figures),
        approval=_approval_entry(case.approval),
        parts=tuple(_part_entry(part, case.process, figures[part.name], digests) for part in device.parts),
        build=_build_entry(case, layers),
        findings=_finding_entries(case, measured),
        after_printing=case.process.after_printing,
        scan_sources_digest=case.scan.record.sources_digest,
        dicom=dicom,
        dicom_note="" if dicom is not None else NO_IMAGES,
        versions=_versions(order.device),
    )


def _approval_entry(approval: Approval) -> ApprovalEntry:
    return ApprovalEntry(
        name=approval.name,
        time=approval.time,
        meaning=approval.meaning,
        digest=approval.digest,
        demonstration=approval.demonstration,
        public_key=approval.public_key,
        signature=approval.signature,
        waivers=tuple(WaiverEntry(**dataclasses.asdict(waiver)) for waiver in approval.waivers),
        checklist=approval.checklist,
        confirmed=approval.confirmed,
    )


def _part_entry(part: Part, process: Process, figures: MeshFigures, digests: Mapping[str, str]) -> PartEntry:
    path = f"parts/{part.name}"
    faces = tuple(
        FaceEntry(
            label=face.label,
            purpose=face.purpose,
            tolerance_mm=face.tolerance_mm,
            area_mm2=_labelled_area(part, face.label),
        )
        for face in part.functional_faces
    )
    return PartEntry(
        name=part.name,
        process=process.name,
        material=process.material,
        figures=figures,
        stl_sha256=digests[f"{path}.stl"],
        threemf_sha256=digests[f"{path}.3mf"],
        step_sha256=digests.get(f"{path}.step"),
        functional_faces=faces,
    )


def _labelled_area(part: Part, label: str) -> float:
    """Area of the triangles that carry a label, mm2."""
    if label not in part.labels:
        return 0.0
    chosen = Mesh(part.mesh.vertices_mm, part.mesh.faces[part.face_labels == part.labels.index(label)])
    corners: FloatArray = chosen.vertices_mm[chosen.faces]
    return float(np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2.0)


def _build_entry(case: Case, layers: LayerFigures) -> BuildEntry:
    build, process = case.build, case.process
    estimate = build.estimate
    supports = tuple(
        SupportEntry(
            part=support.part,
            kind=", ".join(support.kinds),
            volume_mm3=support.volume_mm3,
            contact_mm2=support.contact_mm2,
            bodies=support.bodies,
            figures=measure_mesh(support.mesh),
        )
        for support in build.supports
    )
    placements = tuple(
        PlacementEntry(part=p.part, pose=_rows(p.pose), criterion=p.criterion, orientation=_orientation_entry(p.orientation))
        for p in build.placements
    )
    return BuildEntry(
        layers=estimate.layers,
        layer_mm=process.layer_mm,
        height_mm=estimate.height_mm,
        seconds=estimate.seconds,
        seconds_low=estimate.seconds_low,
        seconds_high=estimate.seconds_high,
        material_g=estimate.material_g,
        part_volume_mm3=estimate.part_volume_mm3,
        layers_volume_mm3=layers.volume_mm3,
        contours=layers.contours,
        hatches=layers.hatches,
        hatches_mm=layers.hatches_mm,
        drawn=drawn_entries(layers, process),
        basis=estimate.basis,
        placements=placements,
        toolpath=_toolpath_entry(build),
        images=_images_entry(build, case.machine),
        supports=supports,
        conditions=ConditionsEntry.of(process, case.machine, estimate.seconds),
        profiles_sha256=profiles_digest(process, case.machine),
    )


def _toolpath_entry(build: Build) -> ToolpathEntry | None:
    made = build.toolpath
    if made is None:
        return None
    return ToolpathEntry(program=made.program, config_sha256=made.config_sha256, figures=toolpath_figures(made.gcode))


def _images_entry(build: Build, machine: Machine) -> ImagesEntry | None:
    if not build.images or machine.mask is None:
        return None
    mask = machine.mask
    return ImagesEntry(pixel_mm=mask.pixel_mm, corner_mm=mask.corner_mm, figures=image_figures(build.images))


def _orientation_entry(orientation: Orientation | None) -> OrientationEntry | None:
    if orientation is None:
        return None
    return OrientationEntry(
        fixed=orientation.fixed,
        directions=len(orientation.directions),
        chosen=_direction_entry(orientation, orientation.chosen),
        next_best=tuple(_direction_entry(orientation, index) for index in orientation.next_best),
    )


def _direction_entry(orientation: Orientation, index: int) -> DirectionEntry:
    x, y, z = orientation.directions[index].tolist()
    measures = dict(zip(orientation.names, orientation.measures[index].tolist(), strict=True))
    return DirectionEntry(up=(x, y, z), cost=float(orientation.costs[index]), measures=measures)


def _rows(pose: FloatArray) -> tuple[Row, Row, Row, Row]:
    rows = [tuple(float(value) for value in row) for row in pose]
    (a, b, c, d), (e, f, g, h), (i, j, k, m), (n, o, p, q) = rows
    return ((a, b, c, d), (e, f, g, h), (i, j, k, m), (n, o, p, q))


def _finding_entries(case: Case, measured: Sequence[Finding]) -> tuple[FindingEntry, ...]:
    stages: tuple[tuple[str, Sequence[Finding]], ...] = (
        ("intake", case.scan.findings),
        ("segment", case.anatomy.findings),
        ("plan", case.plan.findings),
        ("check", shown(case.checked.findings, case.approval.waivers)),
        ("slice", case.build.findings),
        ("package", measured),
    )
    return tuple(FindingEntry.of(stage, finding) for stage, findings in stages for finding in findings)


def _versions(device: str) -> dict[str, str]:
    versions = dict([("python", platform.python_version()), package_of(device)])
    for name in _installed(_LIBRARIES):
        versions[name] = metadata.version(name)
    return versions


def _installed(names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found
