"""``scan.json``: what the intake stage says of the scan it chose, for people and for other programs; no identity in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from batchone.pipeline.intake.protocol import protocol_findings
from batchone.pipeline.limits import Protocol
from batchone.pipeline.values import Finding, Scan, Verdict


def scan_report(scan: Scan, protocols: Mapping[str, Protocol]) -> dict[str, Any]:
    """The scan report as JSON.

    Parameters
    ----------
    scan
        What intake gave; its findings carry the gate of the device that was ordered and everything that was measured.
    protocols
        Device family -> protocol: each is judged by the same figures (age apart, which counts for the order alone).
    """
    record = dataclasses.asdict(scan.record)
    del record["images"]
    judged = {name: gate(scan, protocol) for name, protocol in sorted(protocols.items())}
    return {
        "frame": "LPS",
        "unit": "mm",
        "shape": list(scan.hu.shape),
        "spacing_mm": list(scan.spacing_mm),
        "affine": [[float(value) for value in row] for row in scan.affine],
        "series": record,
        "findings": [finding_tree(finding) for finding in scan.findings],
        "families": {
            name: {"verdict": worst_verdict(findings), "findings": [finding_tree(one) for one in findings]}
            for name, findings in judged.items()
        },
    }


def gate(scan: Scan, protocol: Protocol) -> tuple[Finding, ...]:
    """Judge a scan that was taken for one family by the protocol of another."""
    measured = {finding.check: finding.value for finding in scan.findings}
    record = scan.record
    return protocol_findings(
        protocol,
        slices=round(measured.get("slice-count", record.slices)),
        spacing_mm=measured.get("slice-spacing", record.slice_spacing_mm),
        thickness_mm=measured.get("slice-thickness"),
        pixel_mm=max(record.pixel_mm),
        tilt_deg=measured.get("gantry-tilt", record.gantry_tilt_deg),
        lossy=measured.get("lossy-images", 0.0) > 0,
    )


def finding_tree(finding: Finding) -> dict[str, Any]:
    """A finding as JSON: its limit in words too, and null for what could not be measured."""
    value = finding.value if math.isfinite(finding.value) else None
    tree = {**dataclasses.asdict(finding), "value": value, "limit": finding.limit}
    del tree["waivable"]  # a person waives what is wrong with a device, never with a scan
    return tree


def worst_verdict(findings: Sequence[Finding]) -> Verdict:
    """``fail`` before ``warn`` before ``pass``."""
    verdicts = {finding.verdict for finding in findings}
    return "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "pass"
