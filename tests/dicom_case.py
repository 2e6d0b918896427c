"""A job folder made from a DICOM study whose every header, name of file and folder is seeded with an identity.

The scan is an egg-shaped shell with a round hole, tilted in the patient, on a grid whose three steps differ.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import manifold3d
import numpy as np
import numpy.typing as npt
import pydicom
from flat_step import LABEL, step_below
from pydicom.dataset import Dataset

from batchone.pipeline.intake.make import intake
from batchone.pipeline.job.folder import package
from batchone.pipeline.job.signature import approval_key, release_key, sign_approval
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order, Prescription
from batchone.pipeline.values import (
    Anatomy,
    Approval,
    Axis,
    Bone,
    CheckedDevice,
    Device,
    FieldOfView,
    Identity,
    Mesh,
    Part,
    Plan,
    Scan,
    judge,
)
from batchone.samples.dicom import write_series
from batchone.slicer.make import slice_device
from batchone.slicer.profiles import load_machine, load_process

SHAPE = (44, 56, 60)  # slices, rows, columns
STEPS_MM = (2.2, 2.5, 3.0)  # between columns, rows, slices: all different
OUTER_MM, INNER_MM, HOLE_MM, PLUG_MM = 60.0, 52.0, 20.0, 18.0
STRETCH = np.array([0.85, 1.0, 0.95])
PEG_AT_MM, PEG_MM = np.array([-20.0, 5.0, 10.0]), 9.0  # a second part: a ball inside the shell
TILT_DEG = 12.0
NAME, PATIENT_ID, BIRTH_DATE, STUDY_DATE = "TEST^ALPHA", "TEST-0001", "19010203", "19990405"
TIME = dt.datetime(2026, 3, 4, 10, 0, tzinfo=dt.UTC)
_TEXTS = """
IssuerOfPatientID PatientBirthName PatientMotherBirthName PatientAddress PatientTelephoneNumbers PatientComments EthnicGroup
Occupation AdditionalPatientHistory MedicalRecordLocator MilitaryRank BranchOfService CountryOfResidence RegionOfResidence
PatientReligiousPreference InstitutionName InstitutionAddress InstitutionalDepartmentName ReferringPhysicianAddress
ReferringPhysicianTelephoneNumbers AccessionNumber StudyID StudyDescription SeriesDescription ProtocolName StationName
DeviceSerialNumber ImageComments RequestedProcedureDescription RequestingService AdmissionID AdmittingDiagnosesDescription
PerformedProcedureStepID PerformedProcedureStepDescription CurrentPatientLocation PatientInstitutionResidence
"""
_PEOPLE = """
ReferringPhysicianName PerformingPhysicianName PhysiciansOfRecord NameOfPhysiciansReadingStudy OperatorsName RequestingPhysician
ResponsiblePerson OtherPatientNames
"""


@dataclass(frozen=True)
class Made:
    """A job folder and what it was made from."""

    case: Path
    job: Path
    study: Path
    images: tuple[Path, ...]
    seeds: tuple[str, ...]
    scan: Scan
    identity: Identity
    values: dict[str, Any]
    keys: Path


def pose() -> npt.NDArray[np.float64]:
    """Body frame -> LPS: turned about the left-right axis, beside the origin."""
    angle = np.radians(TILT_DEG)
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = [4.0, -7.0, 31.0]
    return matrix


def affine() -> npt.NDArray[np.float64]:
    """(column, row, slice) -> LPS: tilted with the body."""
    slices, rows, columns = SHAPE
    inner = np.diag([*STEPS_MM, 1.0])
    inner[:3, 3] = -(np.array([columns, rows, slices]) - 1.0) / 2.0 * STEPS_MM
    return pose() @ inner


def body_points(points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """LPS -> body frame."""
    inverse = np.linalg.inv(pose())
    return points_mm @ inverse[:3, :3].T + inverse[:3, 3]


def radius_mm(points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance from the egg's middle, in units in which the egg is a ball (body frame)."""
    return np.asarray(np.linalg.norm(points_mm / STRETCH, axis=-1))


def axis_mm(points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance from the axis of the hole (body frame); infinite on the other side."""
    direction = np.array([np.sin(np.radians(60.0)), 0.0, np.cos(np.radians(60.0))])
    along = points_mm @ direction
    away = np.linalg.norm(points_mm - along[..., None] * direction, axis=-1)
    return np.where(along > 0.0, away, np.inf)


def meshes() -> tuple[Mesh, Mesh, Mesh]:
    """Shell, plug and peg in LPS."""
    outer, inner = (manifold3d.Manifold.sphere(radius, 160).scale(STRETCH) for radius in (OUTER_MM, INNER_MM))
    rods = (manifold3d.Manifold.cylinder(90.0, radius, circular_segments=128) for radius in (HOLE_MM, PLUG_MM))
    hole, plug = (rod.rotate([0.0, 60.0, 0.0]) for rod in rods)
    peg = manifold3d.Manifold.sphere(PEG_MM, 96).translate(PEG_AT_MM)
    shell, implant, cube = (_mesh(solid).moved(pose()) for solid in (outer - inner - hole, (outer - inner) ^ plug, peg))
    return shell, implant, cube


def _mesh(solid: manifold3d.Manifold) -> Mesh:
    made = solid.to_mesh64()
    return Mesh(np.array(made.vert_properties[:, :3]), np.array(made.tri_verts, dtype=np.int32))


def grid_points() -> npt.NDArray[np.float64]:
    """Voxel centres in LPS: (slices, rows, columns, 3)."""
    k, j, i = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in SHAPE), indexing="ij")
    return np.stack([i, j, k], axis=-1) @ affine()[:3, :3].T + affine()[:3, 3]


def make_study(folder: Path) -> tuple[Path, tuple[Path, ...], tuple[str, ...]]:
    """A CT of the shell, every file seeded; the study folder, the images by position, and the seeds."""
    points = body_points(grid_points())
    radius = radius_mm(points)
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    hu[radius < OUTER_MM + 6.0] = 40
    hu[(radius < OUTER_MM) & (radius > INNER_MM) & (axis_mm(points) > HOLE_MM)] = 900
    noise = np.random.default_rng(4).normal(0.0, 8.0, SHAPE)  # HU; no scanner gives the same value twice
    study = folder / "TEST_ALPHA SEEDFOLDER"
    images = write_series(
        np.maximum(hu + noise, -1024).astype(np.int16), affine(), study, patient_name=NAME, patient_id=PATIENT_ID, mess=True
    )
    seeds = {NAME, PATIENT_ID, BIRTH_DATE, STUDY_DATE, "SEEDFOLDER"}
    for path in sorted(p for p in study.iterdir() if p.suffix != ".TXT"):
        seeds |= _seed(path)
    return study, tuple(images), tuple(sorted(seeds))


def _seed(path: Path) -> set[str]:
    """Fill one file with identifying elements; what must never be seen again."""
    item = pydicom.dcmread(path)
    seeds = set()
    for number, keyword in enumerate((_TEXTS + _PEOPLE).split()):
        seed = f"SEED{number:02d}Q"
        setattr(item, keyword, f"{seed}^ALPHA" if keyword in _PEOPLE.split() else seed)
        seeds.add(seed)
    item.PatientBirthDate, item.StudyDate = BIRTH_DATE, STUDY_DATE
    item.OtherPatientIDsSequence = [Dataset()]
    item.OtherPatientIDsSequence[0].PatientID = "SEEDNESTQ"
    request = Dataset()
    request.ScheduledProcedureStepDescription = "SEEDDEEPQ"
    item.RequestAttributesSequence = [request]
    block = item.private_block(0x0011, "SEEDMAKERQ", create=True)
    block.add_new(0x01, "LO", "SEEDPRIVQ")
    block.add_new(0x02, "UN", b"SEEDUNKNQ ")
    item.add_new(0x60000022, "LO", "SEEDOVERQ")  # overlay description
    item.add_new(0x50000022, "LO", "SEEDCURVEQ")  # curve description
    item.preamble = b"SEEDPREAMBLEQ".ljust(128, b"\0")
    item.save_as(path, enforce_file_format=True)
    uids = {str(item.StudyInstanceUID), str(item.SeriesInstanceUID), str(item.SOPInstanceUID), str(item.FrameOfReferenceUID)}
    words = {"SEEDNESTQ", "SEEDDEEPQ", "SEEDMAKERQ", "SEEDPRIVQ", "SEEDUNKNQ", "SEEDOVERQ", "SEEDCURVEQ", "SEEDPREAMBLEQ"}
    return seeds | words | uids


def make_job(folder: Path, *, case: str = "demo-0001") -> Made:
    """Everything from the study to the job folder, which lies where a site keeps it."""
    study, images, seeds = make_study(folder / "in")
    return job_of(study, images, seeds, site=folder / "site", case=case)


def case_order(case: str) -> Order:
    """The order of a case."""
    process, machine = load_process("ti64-lpbf"), load_machine("sim-01")
    return Order(
        case=case,
        device="cranial-implant",
        side="left",
        process=process.name,
        machine=machine.name,
        due=dt.datetime(2026, 11, 24, 8, 0, tzinfo=dt.UTC),
        prescription=Prescription(prescriber="code-17", characteristics="upper left defect"),
    )


def job_of(study: Path, images: tuple[Path, ...], seeds: tuple[str, ...], *, site: Path, case: str) -> Made:
    """A job from a study, as a site makes it."""
    protocol = Protocol(
        max_slice_spacing_mm=4.0,
        warn_slice_spacing_mm=4.0,
        max_slice_thickness_mm=4.0,
        max_pixel_mm=4.0,
        max_gantry_tilt_deg=0.5,
        min_slices=20,
        source="test",
    )
    order = case_order(case)
    scan, identity = intake(study, order, protocol)
    keys, into = site / "keys", site / "cases" / case / "job" / "new"
    values = case_values(scan, order, keys)
    done = package(**values, into=into)
    job = into.with_name(done.job_id)
    into.rename(job)
    return Made(job.parent.parent, job, study, images, seeds, scan, identity, values, keys)


def case_values(scan: Scan, order: Order, keys: Path) -> dict[str, Any]:
    """Everything that ``package`` takes, except the folder."""
    shell, implant, peg = meshes()
    bone = Bone("skull", "midline", True, 0.98, 3.0e5, shell, np.eye(4), np.full(len(shell.vertices_mm), 0.1))
    anatomy = Anatomy((bone,), (), FieldOfView(scan.affine, SHAPE))
    outward = pose()[:3, :3] @ np.array([np.sin(np.radians(60.0)), 0.0, np.cos(np.radians(60.0))])
    origin = outward * 56.0 + pose()[:3, 3]
    axis = Axis("insertion", tuple(float(v) for v in origin), tuple(float(-v) for v in outward))
    plan = Plan("cranial-implant", True, "left", axes=(axis,), figures=(("defect_diameter_mm", 40.0),))
    parts = tuple(
        Part(name, mesh, (np.arange(len(mesh.faces)) == 0).astype(np.int16), ("outer", LABEL), (), step_below(mesh, 0))
        for name, mesh in (("implant", implant), ("peg", peg))
    )
    finding = judge("implant.gap", "border gap, median", 0.51, "mm", low=0.4, high=0.6, source="project default, unverified")
    checked = CheckedDevice(Device("cranial-implant", parts, (("thickness_mm", 8.0),)), (finding,))
    process, machine = load_process(order.process), load_machine(order.machine)
    approval = Approval("demo", TIME, "released for manufacturing", "cd" * 32, "", demonstration=True)
    approval = sign_approval(approval, approval_key(keys, "demo"))
    return {
        "scan": scan,
        "anatomy": anatomy,
        "plan": plan,
        "checked": checked,
        "approval": approval,
        "build": slice_device(checked, approval, process, machine),
        "order": order,
        "process": process,
        "machine": machine,
        "key": release_key(keys),
    }
