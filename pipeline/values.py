"""The values that travel between stages.

All are frozen; arrays are documented with shape, dtype, unit and frame and must not be written to.
One frame: patient LPS (x to the patient's left, y to the back, z to the head), millimetres, right-handed.
A pose is a (4, 4) float64 rigid matrix that maps homogeneous column points of the named frame to LPS.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from batchone.pipeline.approval import Approval as Approval
from batchone.pipeline.approval import Decision as Decision
from batchone.pipeline.approval import Declined as Declined
from batchone.pipeline.approval import Waiver as Waiver
from batchone.pipeline.findings import Finding as Finding
from batchone.pipeline.findings import Preview as Preview
from batchone.pipeline.findings import Vector as Vector
from batchone.pipeline.findings import Verdict as Verdict
from batchone.pipeline.findings import judge as judge
from batchone.pipeline.labels import Cut as Cut
from batchone.pipeline.labels import Edit as Edit
from batchone.pipeline.labels import Label as Label
from batchone.pipeline.labels import Numbering as Numbering
from batchone.pipeline.labels import Side as Side
from batchone.pipeline.labels import VoxelLabels as VoxelLabels
from batchone.pipeline.landmarks import Landmark as Landmark
from batchone.pipeline.landmarks import Reference as Reference
from batchone.pipeline.orientation import Orientation as Orientation
from batchone.pipeline.seat_map import SeatMap as SeatMap
from batchone.pipeline.source_images import Identity as Identity
from batchone.pipeline.source_images import SourceImages as SourceImages
from batchone.pipeline.toolpath import Toolpath as Toolpath

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
HuArray = npt.NDArray[np.int16]

_RUN = 8192  # points moved at a time, so that they stay in the processor's cache: half the time for a million


def moved_points(pose: FloatArray, points_mm: FloatArray) -> FloatArray:
    """Apply a (4, 4) rigid matrix to (n, 3) points."""
    moved = np.empty((len(points_mm), 3), dtype=np.float64)
    for first in range(0, len(points_mm), _RUN):
        run = moved[first : first + _RUN]
        np.matmul(points_mm[first : first + _RUN], pose[:3, :3].T, out=run)
        run += pose[:3, 3]
    return moved


def _moved(pose: FloatArray, vector: Vector, weight: float) -> Vector:
    """A point (weight 1) or direction (0) under a rigid motion."""
    x, y, z, _ = (pose @ np.array([*vector, weight])).tolist()
    return (x, y, z)


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A triangle surface.

    Attributes
    ----------
    vertices_mm
        (n, 3) float64, mm, LPS unless the holder says otherwise.
    faces
        (m, 3) int32 vertex indices, counter-clockwise seen from outside.
    """

    vertices_mm: FloatArray
    faces: IntArray

    def moved(self, pose: FloatArray) -> Mesh:
        """Return the same surface under a rigid motion."""
        return Mesh(moved_points(pose, self.vertices_mm), self.faces)


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """What is worth keeping of a series' headers; no identity in it.

    Lengths in mm; ``pixel_mm`` is (between columns, between rows). ``corrections`` say what was changed on the way in.
    ``sources_digest`` is the SHA-256 over the sorted SHA-256 of the files used. ``images`` is None for a volume file.
    """

    modality: str
    manufacturer: str
    model: str
    kernel: str
    patient_position: str
    slices: int
    slice_spacing_mm: float
    slice_thickness_mm: float
    pixel_mm: tuple[float, float]
    gantry_tilt_deg: float
    transfer_syntax: str
    sources_digest: str
    ignored: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    images: SourceImages | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A true volume.

    Attributes
    ----------
    hu
        (slices, rows, columns) int16 Hounsfield units, -1024 where nothing was measured.
    affine
        (4, 4) float64: homogeneous (column, row, slice) index -> LPS mm, orthogonal axes, positive determinant.
    record
        Where it came from.
    findings
        The protocol gate.
    """

    hu: HuArray
    affine: FloatArray
    record: SeriesRecord
    findings: tuple[Finding, ...] = ()

    @property
    def spacing_mm(self) -> Vector:
        """Distance between neighbours along (column, row, slice), mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))


@dataclass(frozen=True, slots=True, eq=False)
class FieldOfView:
    """The box that was scanned: ``affine`` as in :class:`Scan`, ``shape`` (slices, rows, columns)."""

    affine: FloatArray
    shape: tuple[int, int, int]

    def inside(self, points_mm: FloatArray, margin_mm: float = 0.0) -> npt.NDArray[np.bool_]:
        """Which of the (n, 3) LPS points lie inside the box of voxel centres, ``margin_mm`` away from its walls."""
        index = moved_points(np.linalg.inv(self.affine).astype(np.float64), points_mm)
        step_mm = np.linalg.norm(self.affine[:3, :3], axis=0)
        last = np.array(self.shape[::-1], dtype=np.float64) - 1.0
        margin = margin_mm / step_mm
        return np.asarray(np.all((index >= margin) & (index <= last - margin), axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Bone:
    """One bone.

    Attributes
    ----------
    name
        Anatomical name, lower case: ``skull``, ``tibia``...
    complete
        False: cut at the edge of the scan.
    confidence
        0 to 1: how sure the name and the separation are.
    mesh
        Closed outer surface at sub-voxel position, LPS mm; marrow and diploe are filled.
    frame
        (4, 4) pose of the bone's own frame in LPS. Design works in it, so that a device moves with its bone.
    uncertainty_mm
        (n,) float64, one per vertex: one standard deviation of the surface along its normal.
    numbering, evidence
        As in :class:`Label`.
    """

    name: str
    side: Side
    complete: bool
    confidence: float
    volume_mm3: float
    mesh: Mesh
    frame: FloatArray
    uncertainty_mm: FloatArray
    numbering: Numbering = "none"
    evidence: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """What the scan shows.

    ``bones`` are those that were ordered; ``labels`` has every bone that was told apart, voxel by voxel; ``source`` says by
    whom: "threshold", a program with its version, or a person. ``references`` are named planes and axes of the bones.
    """

    bones: tuple[Bone, ...]
    landmarks: tuple[Landmark, ...]
    field_of_view: FieldOfView
    findings: tuple[Finding, ...] = ()
    labels: VoxelLabels | None = None
    source: str = ""
    references: tuple[Reference, ...] = ()

    def bone(self, name: str) -> Bone | None:
        """The bone of that name, or None."""
        return next((bone for bone in self.bones if bone.name == name), None)

    def moved(self, pose: FloatArray) -> Anatomy:
        """Return the same anatomy under a rigid motion (4, 4)."""
        bones = tuple(replace(b, mesh=b.mesh.moved(pose), frame=pose @ b.frame) for b in self.bones)
        landmarks = tuple(replace(m, point_mm=_moved(pose, m.point_mm, 1.0)) for m in self.landmarks)
        references = tuple(
            replace(r, origin_mm=_moved(pose, r.origin_mm, 1.0), direction=_moved(pose, r.direction, 0.0))
            for r in self.references
        )
        view = FieldOfView(pose @ self.field_of_view.affine, self.field_of_view.shape)
        labels = None if self.labels is None else replace(self.labels, affine=pose @ self.labels.affine)
        return replace(self, bones=bones, landmarks=landmarks, field_of_view=view, labels=labels, references=references)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A named polyline: (n, 3) float64 LPS mm."""

    name: str
    points_mm: FloatArray
    closed: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """A named half-line: origin in LPS mm, unit direction; with a length (mm) it ends there, as a drilled hole does."""

    name: str
    origin_mm: Vector
    direction: Vector
    length_mm: float | None = None

    def at_mm(self, along_mm: float) -> Vector:
        """The place so far along it, LPS mm."""
        x, y, z = (start + along_mm * step for start, step in zip(self.origin_mm, self.direction, strict=True))
        return (x, y, z)


@dataclass(frozen=True, slots=True)
class Plane:
    """A named plane: a point in LPS mm, unit normal."""

    name: str
    origin_mm: Vector
    normal: Vector


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A named surface that is part of a plan (open patches allowed)."""

    name: str
    mesh: Mesh


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is to be made where.

    ``proposed`` is True when the anatomy proposed it, False when a person drew it. ``figures`` are named numbers with the
    unit in the name (``defect_diameter_mm``).
    """

    family: str
    proposed: bool
    side: Side
    curves: tuple[Curve, ...] = ()
    axes: tuple[Axis, ...] = ()
    planes: tuple[Plane, ...] = ()
    surfaces: tuple[Surface, ...] = ()
    figures: tuple[tuple[str, float], ...] = ()
    findings: tuple[Finding, ...] = ()

    def axis(self, name: str) -> Axis:
        """The axis of that name; KeyError when absent."""
        return _named(self.axes, name)

    def plane(self, name: str) -> Plane:
        """The plane of that name; KeyError when absent."""
        return _named(self.planes, name)

    def curve(self, name: str) -> Curve:
        """The curve of that name; KeyError when absent."""
        return _named(self.curves, name)

    def surface(self, name: str) -> Surface:
        """The surface of that name; KeyError when absent."""
        return _named(self.surfaces, name)


def _named(items: tuple[Any, ...], name: str) -> Any:
    for item in items:
        if item.name == name:
            return item
    raise KeyError(name)


@dataclass(frozen=True, slots=True)
class FunctionalFace:
    """A face with a purpose: its label, what it is for, and the deviation it tolerates (mm)."""

    label: str
    purpose: str
    tolerance_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One printable body.

    Attributes
    ----------
    mesh
        Closed, oriented outward, LPS mm.
    face_labels
        (m,) int16, one per triangle: index into ``labels``.
    labels
        Names of the faces.
    functional_faces
        Those of ``labels`` that later steps must protect.
    step
        STEP file of the parametric features, empty when there are none.
    purpose
        ``bone-model``: a model of a bone that goes with a device; ``gauge``: proves the scale of the print, and is no device.
    handles
        How many ways lead through it, as its family declares: openings, and loops of its body; None: not declared.
    """

    name: str
    mesh: Mesh
    face_labels: npt.NDArray[np.int16]
    labels: tuple[str, ...]
    functional_faces: tuple[FunctionalFace, ...] = ()
    step: bytes = b""
    purpose: Literal["device", "bone-model", "gauge"] = "device"
    handles: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """What a family built: parts in LPS, and named figures (unit in the name)."""

    family: str
    parts: tuple[Part, ...]
    figures: tuple[tuple[str, float], ...] = ()

    def without_models(self) -> Device:
        """The device without the models of bones that go with it."""
        return replace(self, parts=tuple(part for part in self.parts if part.purpose != "bone-model"))


@dataclass(frozen=True, slots=True, eq=False)
class CheckedDevice:
    """A device and everything that was measured on it; ``seats`` is of its guides."""

    device: Device
    findings: tuple[Finding, ...]
    seats: tuple[SeatMap, ...] = field(default=(), metadata={"later": True})

    @property
    def released(self) -> bool:
        """No finding failed."""
        return not self.failed()

    def failed(self, waivers: tuple[Waiver, ...] = ()) -> tuple[Finding, ...]:
        """What failed and is not waived: such a device is not released."""
        return tuple(f for f in self.findings if f.verdict == "fail" and not any(waiver.covers(f) for waiver in waivers))


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where a part stands: ``pose`` (4, 4) maps patient LPS to the machine's plate frame, mm."""

    part: str
    pose: FloatArray
    criterion: str
    orientation: Orientation | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """What carries one part while it is made.

    Attributes
    ----------
    part, kinds
        Name of the part; ``block``, ``tree``: what it is made of.
    mesh
        Closed, in the machine's plate frame, mm.
    volume_mm3, contact_mm2, bodies
        Its volume, the area of the part's surface inside it, and the number of its pieces.
    """

    part: str
    kinds: tuple[str, ...]
    mesh: Mesh
    volume_mm3: float
    contact_mm2: float
    bodies: int

    @property
    def name(self) -> str:
        """Its name in the files."""
        return f"supports-{self.part}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the build will take; its time lies between ``seconds_low`` and ``seconds_high``."""

    layers: int
    height_mm: float
    seconds: float
    seconds_low: float
    seconds_high: float
    material_g: float
    part_volume_mm3: float
    basis: str


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """Everything the machine needs, as files in memory, and what was measured when they were read back.

    ``toolpath`` is there where a nozzle prints, ``images`` (a zip archive) where a mask does.
    """

    process: str
    machine: str
    placements: tuple[Placement, ...]
    plate_3mf: bytes
    layers_cli: bytes
    estimate: Estimate
    findings: tuple[Finding, ...]
    part_3mf: tuple[tuple[str, bytes], ...] = field(default=())
    toolpath: Toolpath | None = None
    images: bytes = b""
    supports: tuple[Support, ...] = ()


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The released folder: its id, its path relative to the case folder, and the SHA-256 of its SHA256SUMS."""

    job_id: str
    folder: str
    sums_digest: str
