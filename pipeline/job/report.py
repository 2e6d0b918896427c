"""The two reports: one for the manufacturing cell, one for reviewer and hospital. Typst; the same job gives the same bytes.

Words from outside (order, names, findings) reach the templates as strings in a JSON file, never as markup.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from batchone.pipeline.disk import write_bytes
from batchone.pipeline.errors import MachineError
from batchone.pipeline.findings import worst_first
from batchone.pipeline.job.manifest import FindingEntry, JobManifest, canonical_json
from batchone.pipeline.job.pictures import Picture
from batchone.pipeline.job.report_rows import INTAKE, build_rows, figure_rows, finding_row, head_rows, point_words
from batchone.pipeline.job.sections import scan_sections
from batchone.pipeline.job.sureness import sureness_pictures
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Bone, Device, FloatArray, Scan

_TEMPLATES = ("sheet.typ", "build.typ", "clinical.typ")
_NEAR_MM = 10.0  # bone this close to the device's box counts as near it: the fit depends on it
_RULE = "; "
_TO_THE_CELL = ("fit-", "device-", "supports", "orientation-", "plate-", "layer-", "finding-")  # names of pictures begin so


def build_report(manifest: JobManifest, pictures: Sequence[Picture], files: Mapping[str, str]) -> bytes:
    """Make the report for the cell: device and cropped bone only; PDF bytes.

    Parameters
    ----------
    manifest
        What ``job.json`` says.
    pictures
        Those of the job; the ones of the whole bone are left out.
    files
        Relative path -> SHA-256 of the files to print from.
    """
    shown = [p for p in pictures if p.name.startswith(_TO_THE_CELL)]
    lead, rest = _split(shown, ("fit-outside.png", "device-oblique.png", "device-front.png", "device-left.png"))
    data = {**build_rows(manifest, files), "lead-pictures": _listed(lead), "pictures": _listed(rest)}
    return _compiled("build", data, {p.name: p.png for p in shown})


def clinical_report(
    manifest: JobManifest,
    pictures: Sequence[Picture],
    *,
    sections: Sequence[Picture],
    scan: Scan,
    anatomy: Anatomy,
    device: Device,
    order: Order,
) -> bytes:
    """Make the report for reviewer and hospital: sections over the scan, scan record, uncertainty; PDF bytes."""
    views, sure = scan_sections(scan), sureness_pictures(anatomy, device)
    lead, rest = _split(list(pictures), ("together-axis.png", "together-front.png", "together-left.png"))
    data = {
        **head_rows(manifest, "Clinical report"),
        "lead-pictures": _listed(lead),
        "pictures": _listed(rest),
        "sections": _listed(sections),
        "prescription": _prescription_rows(order),
        "figures": figure_rows(manifest),
        "findings": [finding_row(finding) for finding in worst_first(manifest.findings) if finding.stage != INTAKE],
        "scan": _scan_rows(scan),
        **_scan_findings([finding for finding in manifest.findings if finding.stage == INTAKE]),
        "scan-sections": _listed(views),
        "corrections": [*scan.record.corrections, *([manifest.dicom_note] if manifest.dicom_note else [])],
        "ignored": list(scan.record.ignored),
        "bones": [_bone_row(bone, device) for bone in anatomy.bones],
        "sureness": _listed(sure),
        "landmarks": [[m.name, point_words(m.point_mm, 1), f"{m.spread_mm:.2f}"] for m in anatomy.landmarks],
    }
    return _compiled("clinical", data, {p.name: p.png for p in [*pictures, *sections, *views, *sure]})


def _compiled(name: str, data: Mapping[str, Any], images: Mapping[str, bytes]) -> bytes:
    import typst  # 84 MB of compiler: only where a report is made

    with tempfile.TemporaryDirectory(prefix="batchone-report-") as folder:
        root = Path(folder)
        for template in _TEMPLATES:
            source = resources.files("batchone.pipeline.job").joinpath("templates", template).read_bytes()
            write_bytes(root / template, source)
        for file, content in images.items():
            write_bytes(root / file, content)
        write_bytes(root / f"{name}.json", canonical_json(data))
        try:
            compiled = typst.compile(root / f"{name}.typ", root=root, ignore_system_fonts=True, timestamp=0)
        except typst.TypstError as error:
            raise MachineError(f"{name} report could not be typeset: {error}", hint="check the installed typst") from error
    if not isinstance(compiled, bytes):
        raise TypeError(f"typst returned {type(compiled).__name__}, must be bytes")
    return compiled


def _scan_findings(findings: Sequence[FindingEntry]) -> dict[str, Any]:
    """The figures of the scan, each with the number of its source, and the sources."""
    sources = list(dict.fromkeys(finding.source for finding in findings if finding.source))
    rows = [{**finding_row(one), "source": str(sources.index(one.source) + 1) if one.source else ""} for one in findings]
    return {"scan-findings": rows, "scan-sources": sources}


def _prescription_rows(order: Order) -> list[list[str]]:
    if order.prescription is None:
        return [["prescription", "none given with the order"]]
    return [
        ["prescriber", order.prescription.prescriber],
        ["characteristics", order.prescription.characteristics or "none given"],
    ]


def _scan_rows(scan: Scan) -> list[list[str]]:
    record = scan.record
    x, y, z = scan.spacing_mm
    slices, rows, columns = scan.hu.shape
    return [
        ["device", _RULE.join(word for word in (record.modality, record.manufacturer, record.model) if word)],
        ["kernel", record.kernel or "not stated"],
        ["patient position", record.patient_position or "not stated"],
        ["slices", f"{record.slices}, spacing {record.slice_spacing_mm:.3f} mm, thickness {record.slice_thickness_mm:.3f} mm"],
        ["pixels", f"{record.pixel_mm[0]:.3f} × {record.pixel_mm[1]:.3f} mm"],
        ["gantry tilt", f"{record.gantry_tilt_deg:.2f}°"],
        ["volume used", f"{columns} × {rows} × {slices} voxels of {x:.3f} × {y:.3f} × {z:.3f} mm"],
        ["transfer syntax", record.transfer_syntax],
        ["sources, SHA-256", record.sources_digest[:16] + "…"],
    ]


def _bone_row(bone: Bone, device: Device) -> list[str]:
    spread = bone.uncertainty_mm
    median, most = (f"{np.percentile(spread, q):.3f} mm" if len(spread) else "unknown" for q in (50, 95))
    near = spread[_near(bone.mesh.vertices_mm, device)] if len(spread) == len(bone.mesh.vertices_mm) else spread[:0]
    at_device = f"{np.percentile(near, 95):.3f} mm" if len(near) else "none near"
    complete = "yes" if bone.complete else "cut by the scan"
    return [
        bone.name,
        bone.side,
        complete,
        f"{bone.confidence:.2f}",
        f"{bone.volume_mm3 / 1000.0:.1f}",
        median,
        most,
        at_device,
    ]


def _near(points_mm: FloatArray, device: Device) -> np.ndarray[Any, np.dtype[np.bool_]]:
    near = np.zeros(len(points_mm), dtype=np.bool_)
    for part in device.parts:
        low, high = part.mesh.vertices_mm.min(axis=0) - _NEAR_MM, part.mesh.vertices_mm.max(axis=0) + _NEAR_MM
        near |= np.all((points_mm >= low) & (points_mm <= high), axis=1)
    return near


def _split(pictures: list[Picture], wanted: Sequence[str]) -> tuple[list[Picture], list[Picture]]:
    """The first two of the wanted names, in that order, and all others."""
    lead = [p for name in wanted for p in pictures if p.name == name][:2]
    names = {p.name for p in lead}
    return lead, [p for p in pictures if p.name not in names]


def _listed(pictures: Sequence[Picture]) -> list[dict[str, str]]:
    return [{"file": p.name, "caption": p.caption} for p in pictures]
