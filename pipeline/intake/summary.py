"""What a study holds, for a person to read before anything is decided."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.appraisal.make import appraise
from batchone.pipeline.intake.appraisal.sample import Sample, sample_volume, sampled_slices
from batchone.pipeline.intake.appraisal.stated import Stated, read_stated
from batchone.pipeline.intake.deidentify import device_text
from batchone.pipeline.intake.geometry import Geometry
from batchone.pipeline.intake.package import is_volume_file, open_study
from batchone.pipeline.intake.pixels import syntax_name
from batchone.pipeline.intake.protocol import age_findings, protocol_findings
from batchone.pipeline.intake.quality import check_hounsfield
from batchone.pipeline.intake.series import (
    Contents,
    Stack,
    preference,
    refuse_several_patients,
    sort_files,
    stack_images,
    volume_hint,
)
from batchone.pipeline.intake.straighten import corrections
from batchone.pipeline.intake.volume import read_volume
from batchone.pipeline.intake.volume_file import measure_volume_file, read_volume_file
from batchone.pipeline.limits import Protocol
from batchone.pipeline.values import Finding, FloatArray

MAX_APPRAISED = 4  # series whose pixels are looked at, best first; bounds the time; project default
MAX_TRIED = 12  # ... and of so many at most, where pixels cannot be read
_ANY_SCAN = Protocol(
    max_slice_spacing_mm=1e9,
    warn_slice_spacing_mm=1e9,
    max_slice_thickness_mm=1e9,
    max_pixel_mm=1e9,
    max_gantry_tilt_deg=90.0,
    min_slices=3,
    source="none: everything is shown",
)


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One series of a study, or the files of another kind that lie beside it. Lengths in mm, angles in degrees.

    ``readable`` says whether a true volume can be built, ``reason`` why not, ``refused`` why intake takes no series of this
    study at all. ``shape`` is (slices, rows, columns) as they came; ``pixel_mm`` is between columns, between rows.
    ``tilt_deg`` is the tilt as it came, ``tilt_left_deg`` what the true volume keeps of it; ``corrected`` says what intake
    would do. ``looked_at`` slices were read for ``report``. Zeros stand where nothing could be measured.
    """

    kind: str
    images: int
    shape: tuple[int, int, int] = (0, 0, 0)
    pixel_mm: tuple[float, float] = (0.0, 0.0)
    slice_spacing_mm: float = 0.0
    widest_gap_mm: float = 0.0
    slice_thickness_mm: float | None = None
    tilt_deg: float = 0.0
    tilt_left_deg: float = 0.0
    kernel: str = ""
    transfer_syntax: str = ""
    lossy: bool = False
    readable: bool = False
    reason: str = ""
    hint: str = ""
    refused: str = ""
    stated: Stated | None = None
    corrected: tuple[str, ...] = ()
    looked_at: int = 0
    report: tuple[Finding, ...] = ()

    def findings(self, protocol: Protocol) -> tuple[Finding, ...]:
        """Measure a readable series against a family's protocol."""
        return (
            *protocol_findings(
                protocol,
                slices=self.shape[0],
                spacing_mm=self.widest_gap_mm,
                thickness_mm=self.slice_thickness_mm,
                pixel_mm=max(self.pixel_mm),
                tilt_deg=self.tilt_left_deg,
                lossy=self.lossy,
            ),
            *(() if self.stated is None else age_findings(protocol, self.stated)),
        )


def inspect_study(study: Path, *, on: dt.date | None = None) -> tuple[SeriesSummary, ...]:
    """The series of a study, best first, then what else lies in it.

    Parameters
    ----------
    study
        A folder, a zip, or one volume file.
    on
        The day on which the scan's age counts; today when not given.

    Raises
    ------
    SeriesError
        The study cannot be opened.
    """
    if is_volume_file(study):
        return (_volume_summary(study),)
    day = on or dt.datetime.now(tz=dt.UTC).date()
    package = open_study(study)
    contents = sort_files(package)
    stacks = stack_images(contents.images, allow_lossy=True)
    ranked = sorted(stacks, key=lambda one: (one.fault is None, preference(one)), reverse=True)
    found: list[SeriesSummary] = []
    for place, stack in enumerate(ranked):
        enough = sum(one.looked_at > 0 for one in found) >= MAX_APPRAISED or place >= MAX_TRIED
        found.append(_series_summary(stack, pixels=not enough, on=day))
    found.sort(key=lambda one: not one.readable)
    found = [replace(one, refused=_refused(contents)) for one in found]
    hint = volume_hint(package.volume) if package.volume and not contents.images else ""
    others = (SeriesSummary(kind, count, reason="set aside", hint=hint) for kind, count in contents.others.items())
    return (*found, *others)


def _refused(contents: Contents) -> str:
    try:
        refuse_several_patients(contents.images)
    except SeriesError as fault:
        return str(fault)
    return ""


def raw_affine(geometry: Geometry) -> FloatArray:
    """(column, row, slice as it came) -> LPS mm: what a volume before its correction is placed by, slices evenly spread."""
    affine = geometry.matrix.copy()
    affine[:3, 2] = geometry.normal * (geometry.along_mm[-1] - geometry.along_mm[0]) / max(1, len(geometry.along_mm) - 1)
    column, row = np.mean(geometry.offsets, axis=0)
    affine[:3, 3] += affine[:3, 0] * column + affine[:3, 1] * row
    return affine


def _series_summary(stack: Stack, *, pixels: bool, on: dt.date) -> SeriesSummary:
    head, geometry = stack.headers[0], stack.geometry
    summary = SeriesSummary(
        kind="CT series",
        images=len(stack.headers),
        shape=(len(stack.headers), head.integer("Rows") or 0, head.integer("Columns") or 0),
        slice_thickness_mm=stack.thickness_mm,
        kernel=device_text(head, "ConvolutionKernel"),
        transfer_syntax=syntax_name(head.syntax),
        lossy=stack.lossy,
        stated=read_stated(head, on=on),
        readable=stack.fault is None,
        reason=str(stack.fault) if stack.fault else "",
        hint=stack.fault.hint if stack.fault else "",
    )
    if geometry is None:
        return summary
    summary = replace(
        summary,
        pixel_mm=geometry.pixel_mm,
        slice_spacing_mm=geometry.spacing_mm,
        widest_gap_mm=geometry.largest_gap_mm,
        tilt_deg=geometry.tilt_deg,
        tilt_left_deg=geometry.residual_tilt_deg,
        corrected=(*stack.notes, *corrections(geometry)),
    )
    return _appraised(summary, stack, geometry) if pixels and stack.fault is None else summary


def _appraised(summary: SeriesSummary, stack: Stack, geometry: Geometry) -> SeriesSummary:
    """Look at the pixels of some slices; a series whose pixels fail is not readable."""
    index = sampled_slices(len(stack.headers), stack.formats[0].rows * stack.formats[0].columns)
    headers, formats = tuple(stack.headers[k] for k in index), tuple(stack.formats[k] for k in index)
    try:
        volume = read_volume(replace(stack, headers=headers, formats=formats))
        scale = check_hounsfield(volume.sample)
    except SeriesError as fault:
        return replace(summary, readable=False, reason=str(fault), hint=fault.hint)
    sample = Sample(volume.hu, index, raw_affine(geometry), len(stack.headers))
    return replace(summary, looked_at=len(index), report=(*scale, *appraise(sample, summary.stated)))


def _volume_summary(study: Path) -> SeriesSummary:
    shape, spacing_mm, form = measure_volume_file(study)
    summary = SeriesSummary(
        kind="volume file without series metadata",
        images=1,
        shape=shape,
        pixel_mm=spacing_mm[:2],
        slice_spacing_mm=spacing_mm[2],
        widest_gap_mm=spacing_mm[2],
        transfer_syntax=form,
        readable=True,
    )
    try:
        scan, _ = read_volume_file(study, _ANY_SCAN)
    except SeriesError as fault:
        return replace(summary, readable=False, reason=str(fault), hint=fault.hint)
    scale = tuple(finding for finding in scan.findings if finding.check.startswith("air-"))
    sample = sample_volume(scan.hu, scan.affine)
    return replace(summary, looked_at=len(sample.index), report=(*scale, *appraise(sample, None)))
