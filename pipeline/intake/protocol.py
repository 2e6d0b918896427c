"""The protocol gate: is this scan good enough for this family of devices?"""

from __future__ import annotations

from collections.abc import Sequence

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.limits import Protocol
from batchone.pipeline.values import Finding, judge

GAP_SHARE = 1.01  # slice spacing / slice thickness beyond which tissue between slices was never measured; 1 % for rounding
_ASK_STATED = "ask the sender how thick the slices are"


def protocol_findings(
    protocol: Protocol,
    *,
    slices: int,
    spacing_mm: float,
    thickness_mm: float | None,
    pixel_mm: float,
    tilt_deg: float,
) -> tuple[Finding, ...]:
    """Measure a series against a family's imaging protocol; everything is measured before anything is judged.

    ``pixel_mm`` is the larger of the two pixel sides; ``thickness_mm`` None when the sender does not say.
    """
    source = protocol.source
    finer = "ask the sender for a thinner reconstruction"
    findings = [
        judge(
            "slice-count",
            "number of slices",
            slices,
            "",
            low=protocol.min_slices,
            hint="ask the sender for the whole series",
            source=source,
        ),
        judge("slice-spacing", "slice spacing", spacing_mm, "mm", high=protocol.max_slice_spacing_mm, hint=finer, source=source),
        judge(
            "pixel-size",
            "pixel size",
            pixel_mm,
            "mm",
            high=protocol.max_pixel_mm,
            hint="ask for a smaller field of view",
            source=source,
        ),
        judge(
            "gantry-tilt",
            "gantry tilt",
            tilt_deg,
            "deg",
            high=protocol.max_gantry_tilt_deg,
            hint="ask the sender for a reconstruction without tilt",
            source=source,
        ),
    ]
    if spacing_mm <= protocol.max_slice_spacing_mm and spacing_mm > protocol.warn_slice_spacing_mm:
        advice = protocol.warn_slice_spacing_mm
        findings.append(
            judge("slice-spacing-advice", "slice spacing", spacing_mm, "mm", high=advice, gate=False, hint=finer, source=source)
        )
    return (*findings, *_thickness(protocol, spacing_mm, thickness_mm))


def refuse_outside(findings: Sequence[Finding]) -> None:
    """Refuse a scan that fails the protocol; all failures are listed.

    Raises
    ------
    SeriesError
        At least one finding is ``fail``.
    """
    failed = [finding for finding in findings if finding.verdict == "fail"]
    if failed:
        message = "; ".join(f"{one.what} is {one.value:.6g}{' ' + one.unit if one.unit else ''}, {one.limit}" for one in failed)
        raise SeriesError(message, hint="; ".join(dict.fromkeys(one.hint for one in failed)))


def _thickness(protocol: Protocol, spacing_mm: float, thickness_mm: float | None) -> tuple[Finding, ...]:
    hint = "ask the sender for a thinner reconstruction"
    limit = protocol.max_slice_thickness_mm
    if thickness_mm is None:
        return (
            judge(
                "slice-thickness-stated", "images that state a slice thickness", 0.0, "", low=1.0, gate=False, hint=_ASK_STATED
            ),
        )
    return (
        judge("slice-thickness", "slice thickness", thickness_mm, "mm", high=limit, hint=hint, source=protocol.source),
        judge(
            "slice-gap",
            "slice spacing against thickness",
            spacing_mm,
            "mm",
            high=round(thickness_mm * GAP_SHARE, 6),
            hint="ask the sender for slices that touch or overlap",
            source="no tissue may lie between slices; project default",
        ),
    )
