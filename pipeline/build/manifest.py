"""``build.json``: what stands on a plate of many jobs, in numbers, so that a swapped or moved part is caught by value."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from batchone.pipeline.job.archive import Body
from batchone.pipeline.job.contours import LayersEntry
from batchone.pipeline.job.manifest import (
    DISCLAIMER,
    DrawnEntry,
    FileName,
    FindingEntry,
    ImagesEntry,
    JobId,
    Manifest,
    Row,
    read_canonical,
)
from batchone.pipeline.job.measure import MeshFigures, measure_triangles
from batchone.pipeline.job.sums import Digest
from batchone.pipeline.order import Model
from batchone.pipeline.values import Vector
from batchone.slicer.cli_header import label_text

SCHEMA: Literal["batchone-build/1"] = "batchone-build/1"
SUPPORTS = "supports-"  # a body of this name and a part's belongs to that part
DEMONSTRATION = "Approved for demonstration only"
_PER_MM = 1e6  # 3MF files hold coordinates to 1e-6 mm

Kind = Literal["part", "supports"]


class Instance(Model):
    """One body on the plate.

    ``label`` names it in ``plate.3mf`` and ``layers.cli``; ``engraved`` is the text on the part itself, "" where there is none.
    ``transform`` maps its own frame to the machine's plate frame, mm: of a part patient LPS, of supports the plate frame of their
    job. ``figures`` are in its own frame, ``box`` is on the plate. ``mesh_sha256`` is over its vertices, in 1e-6 mm, and its
    triangles. ``user_data`` is what ``layers.cli`` says of the scan of a part, {} where its job does not say.
    """

    number: int
    label: str
    kind: Kind
    job: JobId
    sums_sha256: Digest
    case: str
    device: str
    part: FileName
    engraved: str
    due: dt.datetime
    transform: tuple[Row, Row, Row, Row]
    box_low_mm: Vector
    box_high_mm: Vector
    figures: MeshFigures
    mesh_sha256: Digest
    layers: LayersEntry
    user_data: dict[str, str] = Field(default_factory=dict)


class GapEntry(Model):
    """The least distance of two parts, by the numbers of their instances."""

    first: int
    second: int
    gap_mm: float


class ClearancesEntry(Model):
    """What was required, what was nested for, and every pair that is nearer than 1.25 times what is required."""

    required_mm: float
    nested_mm: float
    measured: Literal["shadows", "surfaces"]
    near: tuple[GapEntry, ...]


class PlateEntry(Model):
    """The plate as a whole; ``utilisation`` is the share of the usable plate that is covered, or of the cake that is filled.

    The time lies between ``seconds_low`` and ``seconds_high``; both are 0 where a build of an earlier version does not say.
    """

    layers: int
    layer_mm: float
    height_mm: float
    seconds: float
    seconds_low: float = 0.0
    seconds_high: float = 0.0
    material_g: float
    part_volume_mm3: float
    basis: str
    utilisation: float


class LeftOut(Model):
    """A job that had no room."""

    job: JobId
    case: str
    due: dt.datetime


class BuildManifest(Manifest):
    """The whole of ``build.json``; patients are named by case code only. ``profiles_sha256`` is that of process and machine.

    ``demonstration``: all its jobs are approved for demonstration only. ``drawn`` is what a laser draws by label; ``images`` is
    there where a mask shows layers; ``findings`` are those of the nesting, ``notes`` what people must know.
    """

    schema_name: Annotated[Literal["batchone-build/1"], Field(alias="schema")] = SCHEMA
    build: JobId
    machine: str
    process: str
    material: str
    profiles_sha256: Digest
    plate: PlateEntry
    clearances: ClearancesEntry
    instances: Annotated[tuple[Instance, ...], Field(min_length=1)]
    left_out: tuple[LeftOut, ...] = ()
    demonstration: bool = False
    drawn: tuple[DrawnEntry, ...] = ()
    images: ImagesEntry | None = None
    findings: tuple[FindingEntry, ...] = ()
    notes: tuple[str, ...] = ()
    after_printing: tuple[str, ...]
    versions: dict[str, str]
    disclaimer: str = DISCLAIMER


def read_build_manifest(data: bytes) -> BuildManifest:
    """Read ``build.json``, of an earlier version too; see :func:`batchone.pipeline.job.manifest.read_canonical`."""
    return read_canonical(BuildManifest, data, "build", earlier=True)


def label_of(number: int, case: str, kind: Kind, part: str) -> str:
    """The name of a body in ``plate.3mf`` and ``layers.cli``."""
    return label_text(f"{number:02d}-{case}-{SUPPORTS if kind == 'supports' else ''}{part}")


def mesh_sha256(body: Body) -> str:
    """The digest of a body's own mesh, wherever it is placed."""
    digest = hashlib.sha256(f"{len(body.vertices_mm)} {len(body.triangles)}\n".encode())
    digest.update(np.round(body.vertices_mm * _PER_MM).astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(body.triangles, dtype="<i8").tobytes())
    return digest.hexdigest()


def body_figures(body: Body) -> MeshFigures:
    """What a body measures in its own frame."""
    return measure_triangles(body.vertices_mm[body.triangles])
