"""``job.json``: what a job folder says about itself, in numbers, so that a swapped mesh is caught by value."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from batchone.pipeline.approval import Confirmed
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.contours import LayerFigures
from batchone.pipeline.job.images import ImageFigures
from batchone.pipeline.job.measure import MeshFigures
from batchone.pipeline.job.sums import Digest, sha256
from batchone.pipeline.job.toolpath import ToolpathFigures
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Model
from batchone.pipeline.process import CONTOURS, Process, Region
from batchone.pipeline.values import Finding, Vector

SCHEMA: Literal["batchone-job/2"] = "batchone-job/2"
DISCLAIMER = "Not a cleared medical device; for research and engineering"
_LENGTH_MM, _LENGTH = 2e-3, 1e-6  # the same numbers added up on another processor: the last of three decimals, and rounding
_DECIMALS = 6  # of every number in job.json: 1e-6 mm is below what any step resolves

JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Row = tuple[float, float, float, float]


class FaceEntry(Model):
    """A face that later steps must protect; ``area_mm2`` as built."""

    label: str
    purpose: str
    tolerance_mm: float
    area_mm2: float


class PartEntry(Model):
    """One printable body, as measured on its STL file after reading it back; frame patient LPS, unit mm."""

    name: FileName
    process: str
    material: str
    frame: Literal["LPS"] = "LPS"
    unit: Literal["mm"] = "mm"
    figures: MeshFigures
    stl_sha256: Digest
    threemf_sha256: Digest
    step_sha256: Digest | None
    functional_faces: tuple[FaceEntry, ...]


class WaiverEntry(Model):
    """Who let which failed finding stand, when, why: a signed word as the approval is."""

    name: str
    time: dt.datetime
    meaning: str
    reason: str
    finding: str
    digest: str
    public_key: str
    signature: str


class ApprovalEntry(Model):
    """Who approved what, when, in which meaning; the points (id, text) of the checklist and how they were confirmed."""

    name: str
    time: dt.datetime
    meaning: str
    digest: str
    demonstration: bool
    public_key: str
    signature: str
    waivers: tuple[WaiverEntry, ...] = ()
    checklist: tuple[tuple[str, str], ...] = ()
    confirmed: Confirmed = ""


class DirectionEntry(Model):
    """A direction in which a part may be built: ``up`` in patient LPS, its cost, and what was measured, units in the names."""

    up: Vector
    cost: float
    measures: dict[str, float]


class OrientationEntry(Model):
    """Which way up a part is built: ``fixed`` by a person or chosen among ``directions``; and the next best, cheapest first."""

    fixed: bool
    directions: int
    chosen: DirectionEntry
    next_best: tuple[DirectionEntry, ...]


class PlacementEntry(Model):
    """Where a part stands: ``pose`` maps patient LPS to the machine's plate frame, mm."""

    part: str
    pose: tuple[Row, Row, Row, Row]
    criterion: str
    orientation: OrientationEntry | None = None


class ToolpathEntry(Model):
    """``build/toolpath.gcode`` as measured; the program that made it, and the SHA-256 of its shipped configuration."""

    program: str
    config_sha256: Digest
    figures: ToolpathFigures


class ImagesEntry(Model):
    """``build/layers.sl1`` as measured, and the side of a pixel; the place of the first pixel is the corner of the mask."""

    pixel_mm: float
    corner_mm: tuple[float, float]
    figures: ImageFigures


class SupportEntry(Model):
    """The supports of one part, the body ``supports-<part>`` of ``build/plate.3mf``; figures in the plate frame, mm."""

    part: str
    kind: str
    volume_mm3: float
    contact_mm2: float
    bodies: int
    figures: MeshFigures


class DrawnEntry(Model):
    """What a laser draws under one label of the layers, as measured on the file, in the order of the process.

    ``parameters`` names the machine's parameter set, ``mm_per_s`` is what the time was told with. Contours lie ``inset_mm``
    within the outlines of ``body``, and lines keep so far off them, ``hatch_mm`` apart (null of contours). Labels without an
    entry are outlines to measure by: they are not drawn.
    """

    label: str
    body: str
    region: Region
    parameters: str
    mm_per_s: float
    inset_mm: float
    hatch_mm: float | None
    contours: int
    lines: int
    length_mm: float


def drawn_entries(figures: LayerFigures, process: Process) -> tuple[DrawnEntry, ...]:
    """What a laser draws, by label; nothing where none does. A body of which nothing has a label is drawn along its outlines."""
    scan = process.scan
    if scan is None:
        return ()
    regions = [(label, one) for label, one in figures.labels if one.region]
    filled = {label.removesuffix(f" {one.region}") for label, one in regions}
    entries = []
    for label, one in [*((label, one) for label, one in figures.bodies if label not in filled), *regions]:
        region: Region = next((region for region in scan.order if region == one.region), "contour")
        is_line = region not in CONTOURS
        entries.append(
            DrawnEntry(
                label=label,
                body=label.removesuffix(f" {one.region}") if one.region else label,
                region=region,
                parameters=scan.parameters[region],
                mm_per_s=scan.mm_per_s(region),
                inset_mm=scan.inset_mm if is_line else scan.contour_inset_mm(region) if one.region else 0.0,
                hatch_mm=scan.spacing_mm(region) if is_line else None,
                contours=one.contours,
                lines=one.hatches,
                length_mm=one.hatches_mm if is_line else one.contours_mm,
            )
        )
    return tuple(entries)


def drawn_faults(wanted: tuple[DrawnEntry, ...], figures: LayerFigures) -> tuple[str, ...]:
    """Where what a layer file draws is not what is said of it."""
    named, said = dict(figures.labels), {one.label for one in wanted}
    faults = [f"{label} is drawn, and not said to be" for label, one in figures.labels if one.region and label not in said]
    for one in wanted:
        found = named.get(one.label)
        if found is None:
            faults.append(f"{one.label} is not there")
            continue
        length_mm = found.contours_mm if one.hatch_mm is None else found.hatches_mm
        if (found.contours, found.hatches) != (one.contours, one.lines):
            faults.append(
                f"{one.label} has {found.contours} contours and {found.hatches} lines, must be {one.contours} and {one.lines}"
            )
        if not abs(length_mm - one.length_mm) <= _LENGTH_MM + _LENGTH * one.length_mm:
            faults.append(f"{one.label} has {length_mm:.3f} mm to draw, must be {one.length_mm:.3f} mm")
    return tuple(faults)


class ConditionsEntry(Model):
    """What the cell holds while it builds and fills in afterwards, from the profiles of process and machine.

    ``scale`` (x, y, z) is for the machine to apply: layers are in the size of the part; null leaves it to the machine's own
    calibration. ``power_kw`` is by state; ``energy_kwh`` is of warming up and building, by the estimated time, without cooling.
    """

    lot_keys: tuple[str, ...]
    inert_gas: str
    oxygen_percent: float | None
    refresh_share: float | None
    scale: Vector | None
    power_kw: dict[Literal["idle", "heat", "build", "cool"], float] | None
    energy_kwh: float | None

    @classmethod
    def of(cls, process: Process, machine: Machine, seconds: float) -> ConditionsEntry:
        """For a build that takes so long, set-up included."""
        power, held = machine.power, process.conditions
        heat_s = min(process.setup_s, seconds)
        return cls(
            **held.model_dump(exclude={"sources"}),
            power_kw=None
            if power is None
            else {"idle": power.idle_kw, "heat": power.heat_kw, "build": power.build_kw, "cool": power.cool_kw},
            energy_kwh=None if power is None else (heat_s * power.heat_kw + (seconds - heat_s) * power.build_kw) / 3600.0,
        )


class BuildEntry(Model):
    """The build of this job alone; volume of the layers, contours and hatches as measured on ``build/layers.cli``.

    ``drawn`` is what a laser draws by label, and ``contours``, ``hatches`` are those of all labels.

    ``toolpath`` is there where a nozzle prints, ``images`` where a mask does. ``profiles_sha256`` is that of process and machine.
    """

    layers: int
    layer_mm: float
    height_mm: float
    seconds: float
    seconds_low: float = 0.0
    seconds_high: float = 0.0
    material_g: float
    part_volume_mm3: float
    layers_volume_mm3: float
    contours: int
    hatches: int = 0
    hatches_mm: float = 0.0
    drawn: tuple[DrawnEntry, ...] = ()
    basis: str
    placements: tuple[PlacementEntry, ...]
    toolpath: ToolpathEntry | None = None
    images: ImagesEntry | None = None
    supports: tuple[SupportEntry, ...] = ()
    conditions: ConditionsEntry | None = None
    profiles_sha256: str = ""


class FindingEntry(Model):
    """One finding; ``value`` is null where nothing could be measured."""

    stage: str
    check: str
    what: str
    value: float | None
    unit: str
    low: float | None
    high: float | None
    limit: str
    verdict: Literal["pass", "warn", "fail", "waived"]
    hint: str
    source: str
    where_mm: Vector | None
    waivable: bool = False

    def finding(self) -> Finding:
        """The finding that it was copied from, numbers rounded as in the file."""
        value = math.nan if self.value is None else self.value
        fields = self.model_dump(exclude={"stage", "limit", "value"})
        return Finding(**{**fields, "value": value})

    @classmethod
    def of(cls, stage: str, finding: Finding) -> FindingEntry:
        """Copy a finding of a stage."""
        return cls(
            stage=stage,
            check=finding.check,
            what=finding.what,
            value=finding.value if math.isfinite(finding.value) else None,
            unit=finding.unit,
            low=finding.low,
            high=finding.high,
            limit=finding.limit,
            verdict=finding.verdict,
            hint=finding.hint,
            source=finding.source,
            where_mm=finding.where_mm,
            waivable=finding.waivable,
        )


class DicomEntry(Model):
    """The DICOM objects for the way back, and the scan they belong to; every UID of the hospital is a pseudonym.

    ``images`` counts the scan's instances and ``images_digest`` is that of their UIDs. ``affine`` maps (column, row, slice) of
    the segmentation's own grid to patient LPS, mm; ``first_slice`` is the number of its first slice in the scan. ``segments``
    are labels in the order of their numbers: bones, then one for each of ``parts``; ``models`` are in the order of ``parts``.
    """

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    sop_class_uid: str
    images: int
    images_digest: Digest
    affine: tuple[Row, Row, Row, Row]
    slices: int
    rows: int
    columns: int
    first_slice: int
    segments: tuple[str, ...]
    models: tuple[str, ...]


class Manifest(Model):
    """A file of JSON in one canonical spelling: sorted keys, two spaces, LF, numbers rounded to 1e-6."""

    model_config = ConfigDict(populate_by_name=True)

    def to_bytes(self, *, lacking: bool = False) -> bytes:
        """Write as canonical JSON; ``lacking``: without the fields that were not in what was read."""
        return canonical_json(self.model_dump(mode="json", by_alias=True, exclude_unset=lacking))


class JobManifest(Manifest):
    """The whole of ``job.json``; the patient is named by case code only. ``dicom_note`` says why ``dicom`` is null."""

    schema_name: Annotated[Literal["batchone-job/2"], Field(alias="schema")] = SCHEMA
    job: JobId
    case: str
    device: str
    side: Literal["left", "right", "midline"]
    process: str
    machine: str
    due: dt.datetime
    parameters: dict[str, Any]
    plan_proposed: bool
    plan_figures: dict[str, float]
    device_figures: dict[str, float]
    approval: ApprovalEntry
    parts: Annotated[tuple[PartEntry, ...], Field(min_length=1)]
    build: BuildEntry
    findings: tuple[FindingEntry, ...]
    after_printing: tuple[str, ...]
    scan_sources_digest: str
    dicom: DicomEntry | None = None
    dicom_note: str = ""
    versions: dict[str, str]
    disclaimer: str = DISCLAIMER


_Read = TypeVar("_Read", bound=Manifest)


def read_manifest(data: bytes) -> JobManifest:
    """Read ``job.json``; see :func:`read_canonical`."""
    return read_canonical(JobManifest, data, "job")


def read_canonical(model: type[_Read], data: bytes, kind: Literal["job", "build"], *, earlier: bool = False) -> _Read:
    """Read ``job.json`` or ``build.json``; only the one canonical spelling is taken.

    ``earlier``: that of an earlier version too, which lacks fields that have a default.

    Raises
    ------
    MachineError
        Not valid, of another version, or not canonical.
    """
    try:
        manifest = model.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise MachineError(
            f"{kind}.json is not valid: {where}: {fault['msg']}", hint="read it with the version that wrote it"
        ) from error
    lacking = earlier and "schema_name" in manifest.model_fields_set
    if data not in (manifest.to_bytes(), *([manifest.to_bytes(lacking=True)] if lacking else [])):
        raise MachineError(f"{kind}.json is not in its canonical spelling", hint=f"fetch the {kind} folder again")
    return manifest


def profiles_digest(process: Process, machine: Machine) -> str:
    """SHA-256 of both profiles: whatever was changed in one of them, their name may have stayed."""
    return sha256(f"{process.model_dump_json()}\n{machine.model_dump_json()}".encode())


def canonical_json(value: Any) -> bytes:
    """Encode a value of plain JSON types so that equal values give equal bytes."""
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False)
    return (text + "\n").encode("utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DECIMALS) + 0.0
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
