"""The protocol gate: is this scan good enough for this family of devices?"""

from __future__ import annotations

from collections.abc import Sequence

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.appraisal.stated import Stated, months
from batchone.pipeline.intake.series import Stack
from batchone.pipeline.limits import Protocol
from batchone.pipeline.values import Finding, Verdict, judge

GAP_SHARE = 1.01  # slice spacing / slice thickness beyond which tissue between slices was never measured; 1 % for rounding
_DECIMALS = 6  # of a millimetre or degree: what is beyond them is rounding of the arithmetic
_FINER = "ask the sender for a thinner reconstruction"
_SMALLER = "ask for a smaller field of view"
_ASK_STATED = "ask the sender how thick the slices are"


def protocol_findings(
    protocol: Protocol,
    *,
    slices: int,
    spacing_mm: float,
    thickness_mm: float | None,
    pixel_mm: float,
    tilt_deg: float,
    lossy: bool = False,
) -> tuple[Finding, ...]:
    """Measure a series against a family's imaging protocol; everything is measured before anything is judged.

    Parameters
    ----------
    protocol
        The family's limits.
    spacing_mm
        The widest gap between neighbouring slices.
    thickness_mm
        The thickest slice; None when the sender does not say.
    pixel_mm
        The larger of the two pixel sides.
    tilt_deg
        What is left of the gantry tilt in the true volume.
    lossy
        Whether any image was compressed with loss.
    """
    source, whole = protocol.source, "ask the sender for the whole series"
    straight = "ask the sender for a reconstruction without tilt"
    spacing = ("slice spacing", spacing_mm, protocol.max_slice_spacing_mm, protocol.warn_slice_spacing_mm)
    pixel = ("pixel size", pixel_mm, protocol.max_pixel_mm, protocol.warn_pixel_mm)
    return (
        judge("slice-count", "number of slices", slices, "", low=protocol.min_slices, hint=whole, source=source),
        *_length("slice-spacing", *spacing, hint=_FINER, source=source),
        *_length("pixel-size", *pixel, hint=_SMALLER, source=source),
        judge(
            "gantry-tilt",
            "gantry tilt",
            round(tilt_deg, _DECIMALS),
            "deg",
            high=protocol.max_gantry_tilt_deg,
            hint=straight,
            source=source,
        ),
        *_thickness(protocol, spacing_mm, thickness_mm),
        *(_lossy(protocol) if lossy else ()),
    )


def stack_findings(protocol: Protocol, stack: Stack) -> tuple[Finding, ...]:
    """Measure a stack whose geometry is known against a protocol.

    Raises
    ------
    ValueError
        The stack was not measured.
    """
    geometry = stack.geometry
    if geometry is None:
        raise ValueError("the stack has no geometry")
    return protocol_findings(
        protocol,
        slices=len(stack.headers),
        spacing_mm=geometry.largest_gap_mm,
        thickness_mm=stack.thickness_mm,
        pixel_mm=max(geometry.pixel_mm),
        tilt_deg=geometry.residual_tilt_deg,
        lossy=stack.lossy,
    )


def age_findings(protocol: Protocol, stated: Stated) -> tuple[Finding, ...]:
    """Judge how old a scan is: bone heals, defects close. In whole months begun, for the day would lead back to the patient."""
    if protocol.warn_scan_age_days is None and protocol.max_scan_age_days is None:
        return ()
    source, hint = protocol.source, "ask the prescriber whether the anatomy is still as scanned, or for a new scan"
    if stated.dates_moved:
        return (judge("scan-age", "age of the scan is not known here: its dates were moved by de-identification", 0.0, "months"),)
    if stated.age_days is None:
        ask = "ask the sender when the scan was made"
        return (judge("scan-date-stated", "images that state a date", 0.0, "", low=1.0, gate=False, hint=ask, source=source),)
    if stated.age_days < 0:
        ask = "ask the sender when the scan was made: it is dated after the day it is for"
        return (judge("scan-age", "age of the scan", -1.0, "months", low=0.0, gate=False, hint=ask, source=source),)
    most, advised = protocol.max_scan_age_days, protocol.warn_scan_age_days
    refused = most is not None and stated.age_days > most
    limit = most if refused or advised is None else advised
    # the day decides, the month is told: a verdict must not turn on the rounding
    verdict: Verdict = "fail" if refused else ("pass" if limit is None or stated.age_days <= limit else "warn")
    high = None if limit is None else float(months(limit))
    value = max(float(months(stated.age_days)), 0.0 if verdict == "pass" or high is None else high + 1.0)
    what = "age of the scan"
    return (Finding("scan-age", what, value, "months", None, high, verdict, "" if verdict == "pass" else hint, source),)


def refuse_outside(findings: Sequence[Finding]) -> None:
    """Refuse a scan that fails the protocol; all failures are listed.

    Raises
    ------
    SeriesError
        At least one finding is ``fail``.
    """
    failed = [finding for finding in findings if finding.verdict == "fail"]
    if failed:
        raise SeriesError("; ".join(map(failure, failed)), hint="; ".join(dict.fromkeys(one.hint for one in failed)))


def failure(finding: Finding) -> str:
    """A finding in words: what, measured, limit."""
    return f"{finding.what} is {finding.value:.6g}{' ' + finding.unit if finding.unit else ''}, {finding.limit}"


def _length(
    check: str, what: str, value_mm: float, most_mm: float, advised_mm: float | None, *, hint: str, source: str
) -> tuple[Finding, ...]:
    """A gate, and the advice below it where the gate is passed and the advice is not."""
    value_mm = round(value_mm, _DECIMALS)
    gate = judge(check, what, value_mm, "mm", high=most_mm, hint=hint, source=source)
    if gate.verdict == "fail" or advised_mm is None or value_mm <= advised_mm:
        return (gate,)
    return (gate, judge(f"{check}-advice", what, value_mm, "mm", high=advised_mm, gate=False, hint=hint, source=source))


def _thickness(protocol: Protocol, spacing_mm: float, thickness_mm: float | None) -> tuple[Finding, ...]:
    limit, said = protocol.max_slice_thickness_mm, "images that state a slice thickness"
    if thickness_mm is None:
        return (judge("slice-thickness-stated", said, 0.0, "", low=1.0, gate=False, hint=_ASK_STATED),)
    high = round(thickness_mm * GAP_SHARE, 6)
    hint, source = "ask the sender for slices that touch or overlap", "no tissue may lie between slices; project default"
    return (
        judge("slice-thickness", "slice thickness", thickness_mm, "mm", high=limit, hint=_FINER, source=protocol.source),
        judge("slice-gap", "slice spacing against thickness", spacing_mm, "mm", high=high, hint=hint, source=source),
    )


def _lossy(protocol: Protocol) -> tuple[Finding, ...]:
    hint = "ask the sender for the original images, uncompressed or compressed without loss"
    what, source = "series compressed with loss", protocol.source
    return (judge("lossy-images", what, 1.0, "", high=0.0, gate=not protocol.allow_lossy, hint=hint, source=source),)
