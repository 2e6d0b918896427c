"""The intake stage: a study as it comes -> one true volume in HU, and the patient's identity apart from it."""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from batchone.pipeline.intake.appraisal.make import appraise
from batchone.pipeline.intake.appraisal.sample import sample_volume
from batchone.pipeline.intake.appraisal.stated import read_stated
from batchone.pipeline.intake.deidentify import device_text, patient_position, read_identity, source_images
from batchone.pipeline.intake.geometry import Geometry
from batchone.pipeline.intake.package import is_volume_file, open_study, study_digest
from batchone.pipeline.intake.pixels import syntax_name
from batchone.pipeline.intake.protocol import age_findings, refuse_outside, stack_findings
from batchone.pipeline.intake.quality import check_hounsfield
from batchone.pipeline.intake.series import (
    UNREADABLE,
    Contents,
    Stack,
    listed,
    preference,
    refuse_several_patients,
    refuse_without_ct,
    sort_files,
    stack_images,
)
from batchone.pipeline.intake.straighten import corrections, straighten
from batchone.pipeline.intake.summary import SeriesSummary, inspect_study, raw_affine
from batchone.pipeline.intake.volume import Volume, read_volume
from batchone.pipeline.intake.volume_file import read_volume_file
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.pipeline.values import Finding, Identity, Scan, SeriesRecord, judge

__all__ = ["SeriesSummary", "admit", "inspect_study", "intake", "study_digest"]

_COMPARE = "compare the chosen series with the sender's list: date, number of images"
_DEFAULT = "project default"
_log = logging.getLogger(__name__)


def intake(study: Path, order: Order, protocol: Protocol) -> tuple[Scan, Identity]:
    """Choose the series, build a true volume in HU, gate it against the protocol, take the identity out.

    Parameters
    ----------
    study
        A folder, a zip, or one NIfTI, NRRD or MetaImage file (research use).
    order
        The order; the choice of the series does not depend on it.
    protocol
        What the device family asks of a scan.

    Returns
    -------
    The scan (LPS mm, no identity in it) and the identity.

    Raises
    ------
    SeriesError
        No series makes a true volume that meets the protocol; the message says why, the hint what to ask for.
    """
    if is_volume_file(study):
        scan, identity = read_volume_file(study, protocol)
        return replace(scan, findings=(*scan.findings, *appraise(sample_volume(scan.hu, scan.affine), None))), identity
    contents, stacks = _stacks(study, protocol)
    chosen, findings, notes = _choose(stacks, protocol, on=order.due.date())
    _log.info("case %s: chose %d slices out of %d CT images", order.case, len(chosen.headers), len(contents.images))
    identity = read_identity(chosen.instances)
    volume = read_volume(chosen)
    scale = check_hounsfield(volume.sample)
    geometry = _geometry(chosen)
    stated = read_stated(chosen.headers[0], on=order.due.date())
    report = appraise(sample_volume(volume.hu, raw_affine(geometry)), stated)
    findings = (*findings, *_completeness(contents), *scale, *report)
    hu = straighten(volume.hu, geometry)
    notes = (*chosen.notes, *notes, *corrections(geometry))
    record = _record(chosen, volume, ignored=_ignored(contents, stacks, chosen), notes=notes)
    hu.setflags(write=False)
    return Scan(hu, geometry.matrix, record, findings), identity


def admit(study: Path, protocol: Protocol, *, on: dt.date | None = None) -> None:
    """Judge from the headers alone whether a study meets a protocol; ``on`` is the day on which its age counts (today).

    Raises
    ------
    SeriesError
        As :func:`intake`, except for faults that only the pixels show.
    """
    if is_volume_file(study):
        read_volume_file(study, protocol)
        return
    _, stacks = _stacks(study, protocol)
    _choose(stacks, protocol, on=on or dt.datetime.now(tz=dt.UTC).date())


def _stacks(study: Path, protocol: Protocol) -> tuple[Contents, tuple[Stack, ...]]:
    package = open_study(study)
    contents = sort_files(package)
    refuse_without_ct(contents, volume=package.volume)
    refuse_several_patients(contents.images)
    return contents, stack_images(contents.images, allow_lossy=protocol.allow_lossy)


def _completeness(contents: Contents) -> tuple[Finding, ...]:
    """Warnings that only a person can settle: files that were lost, or more than one examination to choose from.

    A lost first or last slice does not show in the spacing.
    """
    lost = sum(contents.others.get(kind, 0) for kind in UNREADABLE)
    examinations = len({header.text("StudyInstanceUID") for header in contents.images})
    found = (
        judge("unreadable-files", "files that cannot be read", lost, "", high=0, gate=False, hint=_COMPARE, source=_DEFAULT),
        judge("examinations", "examinations with CT", examinations, "", high=1, gate=False, hint=_COMPARE, source=_DEFAULT),
    )
    return tuple(finding for finding in found if finding.verdict != "pass")


def _choose(stacks: tuple[Stack, ...], protocol: Protocol, *, on: dt.date) -> tuple[Stack, tuple[Finding, ...], tuple[str, ...]]:
    """The best stack, its protocol findings, and what must be said about the choice."""
    sound = [stack for stack in stacks if stack.fault is None]
    if not sound:
        faults = sorted(((len(stack.headers), stack.fault) for stack in stacks if stack.fault), key=lambda one: one[0])
        raise faults[-1][1]
    gated = [(stack, (*stack_findings(protocol, stack), *_age(stack, protocol, on))) for stack in sound]
    best, findings = max(gated, key=lambda one: (_passes(one[1]), preference(one[0])))
    refuse_outside(findings)
    equals = [one for one, gate in gated if _passes(gate) and preference(one) == preference(best)]
    notes: tuple[str, ...] = ()
    if len(equals) > 1:
        kernels = ", ".join(device_text(one.headers[0], "ConvolutionKernel") or "unnamed" for one in equals)
        notes = (
            f"{len(equals)} series are equally good (kernels {kernels}); the first in the order of their identifiers was taken",
        )
    return best, findings, notes


def _age(stack: Stack, protocol: Protocol, on: dt.date) -> tuple[Finding, ...]:
    return age_findings(protocol, read_stated(stack.headers[0], on=on))


def _passes(findings: tuple[Finding, ...]) -> bool:
    return all(finding.verdict != "fail" for finding in findings)


def _geometry(stack: Stack) -> Geometry:
    if stack.geometry is None:
        raise AssertionError("an unmeasured stack was chosen")
    return stack.geometry


def _ignored(contents: Contents, stacks: tuple[Stack, ...], chosen: Stack) -> tuple[str, ...]:
    counts: Counter[str] = Counter(contents.others)
    for stack in stacks:
        if stack is not chosen:
            counts["images of other CT series" if stack.fault is None else "images of unusable CT series"] += len(stack.headers)
    return tuple(listed({kind: count}) for kind, count in sorted(counts.items()))


def _record(chosen: Stack, volume: Volume, *, ignored: tuple[str, ...], notes: tuple[str, ...]) -> SeriesRecord:
    head, geometry, thickness_mm = chosen.headers[0], _geometry(chosen), chosen.thickness_mm
    said = [*notes, *volume.corrections]
    if thickness_mm is None:
        said.append("slice thickness is not stated: taken as the slice spacing")
    if chosen.scattered:
        said.append("every image carries a frame of reference of its own (replaced one by one): taken as one frame")
    if chosen.derived:
        said.append("the images are marked as derived from others")
    return SeriesRecord(
        modality="CT",
        manufacturer=device_text(head, "Manufacturer"),
        model=device_text(head, "ManufacturerModelName"),
        kernel=device_text(head, "ConvolutionKernel"),
        patient_position=patient_position(head),
        slices=len(chosen.headers),
        slice_spacing_mm=geometry.spacing_mm,
        slice_thickness_mm=geometry.spacing_mm if thickness_mm is None else thickness_mm,
        pixel_mm=geometry.pixel_mm,
        gantry_tilt_deg=geometry.tilt_deg,
        transfer_syntax=syntax_name(head.syntax),
        sources_digest=volume.digest,
        ignored=ignored,
        corrections=tuple(said),
        images=source_images(chosen.instances),
    )
