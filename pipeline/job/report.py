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
from batchone.pipeline.job.manifest import ConditionsEntry, FindingEntry, JobManifest, PartEntry, canonical_json
from batchone.pipeline.job.pictures import Picture
from batchone.pipeline.job.sections import scan_sections
from batchone.pipeline.job.sureness import sureness_pictures
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Bone, Device, FloatArray, Scan

DEMONSTRATION_TEXT = "Approved for demonstration only"
_TEMPLATES = ("sheet.typ", "build.typ", "clinical.typ")
_NEAR_MM = 10.0  # bone this close to the device's box counts as near it: the fit depends on it
_RULE = "; "
_INTAKE = "intake"  # the stage whose findings stand on the page about the scan


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
    shown = [p for p in pictures if p.name.startswith(("fit-", "device-", "supports", "finding-"))]
    lead, rest = _split(shown, ("fit-outside.png", "device-oblique.png", "device-front.png", "device-left.png"))
    data = {**build_rows(manifest, files), "lead-pictures": _listed(lead), "pictures": _listed(rest)}
    return _compiled("build", data, {p.name: p.png for p in shown})


def build_rows(manifest: JobManifest, files: Mapping[str, str]) -> dict[str, Any]:
    """What the report for the cell says in words, by its chapters; see :func:`build_report`."""
    return {
        **_head(manifest, "Build report"),
        "parts": [_part_row(part) for part in manifest.parts],
        "faces": [
            [part.name, face.label, face.purpose, f"{face.tolerance_mm:g} mm", f"{face.area_mm2:.1f} mm²"]
            for part in manifest.parts
            for face in part.functional_faces
        ],
        "figures": _figure_rows(manifest),
        "estimate": _estimate_rows(manifest),
        "placements": [[p.part, _pose_words(p.pose), p.criterion] for p in manifest.build.placements],
        "after-printing": list(manifest.after_printing),
        "findings": [_finding_row(finding) for finding in worst_first(manifest.findings) if not _scan_report(finding)],
        "files": [[name, files[name]] for name in sorted(files)],
    }


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
        **_head(manifest, "Clinical report"),
        "lead-pictures": _listed(lead),
        "pictures": _listed(rest),
        "sections": _listed(sections),
        "prescription": _prescription_rows(order),
        "figures": _figure_rows(manifest),
        "findings": [_finding_row(finding) for finding in worst_first(manifest.findings) if finding.stage != _INTAKE],
        "scan": _scan_rows(scan),
        **_scan_findings([finding for finding in manifest.findings if finding.stage == _INTAKE]),
        "scan-sections": _listed(views),
        "corrections": [*scan.record.corrections, *([manifest.dicom_note] if manifest.dicom_note else [])],
        "ignored": list(scan.record.ignored),
        "bones": [_bone_row(bone, device) for bone in anatomy.bones],
        "sureness": _listed(sure),
        "landmarks": [[m.name, _point(m.point_mm, 1), f"{m.spread_mm:.2f}"] for m in anatomy.landmarks],
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


def _head(manifest: JobManifest, title: str) -> dict[str, Any]:
    approval, time = manifest.approval, manifest.approval.time
    return {
        "title": title,
        "job": manifest.job,
        "case": manifest.case,
        "disclaimer": manifest.disclaimer,
        "demonstration": approval.demonstration,
        "demonstration-text": DEMONSTRATION_TEXT,
        "date": {
            "year": time.year,
            "month": time.month,
            "day": time.day,
            "hour": time.hour,
            "minute": time.minute,
            "second": time.second,
        },
        "order": [
            ["case", manifest.case],
            ["device", manifest.device],
            ["side", manifest.side],
            ["process", manifest.process],
            ["machine", manifest.machine],
            ["due", f"{manifest.due:%Y-%m-%d %H:%M %Z}"],
            ["plan", "proposed from the anatomy" if manifest.plan_proposed else "drawn by a person"],
        ],
        "approval": [
            ["approved by", approval.name],
            ["time", f"{time:%Y-%m-%d %H:%M:%S %Z}"],
            ["meaning", approval.meaning],
            ["device digest", approval.digest[:16] + "…"],
            *([f"waived by {w.name}", f"{w.finding}. Reason: {w.reason} ({w.time:%Y-%m-%d %H:%M %Z})"] for w in approval.waivers),
            *([f"checked, {approval.confirmed}", text] for _, text in approval.checklist),
            ["key", approval.public_key.split(" ")[1][-16:] if " " in approval.public_key else ""],
        ],
    }


def _part_row(part: PartEntry) -> list[str]:
    low, high = part.figures.box_low_mm, part.figures.box_high_mm
    size = " × ".join(f"{b - a:.2f}" for a, b in zip(low, high, strict=True))
    centre = _point(part.figures.centre_of_mass_mm, 2)
    return [part.name, part.material, size, f"{part.figures.volume_mm3:.1f}", centre, str(part.figures.triangles)]


def _figure_rows(manifest: JobManifest) -> list[list[str]]:
    named = {**manifest.plan_figures, **manifest.device_figures}
    return [list(_figure_words(name, named[name])) for name in sorted(named)]


def _figure_words(name: str, value: float) -> tuple[str, str]:
    """Split ``defect_diameter_mm`` into words and a value with its unit."""
    units = {"_mm3": "mm³", "_mm2": "mm²", "_mm": "mm", "_deg": "°", "_g": "g", "_s": "s", "_hu": "HU"}
    for ending, unit in units.items():
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " "), f"{value:.4g} {unit}"
    return name.replace("_", " "), f"{value:.4g}"


def _estimate_rows(manifest: JobManifest) -> list[list[str]]:
    build = manifest.build
    return [
        ["layers", f"{build.layers} of {build.layer_mm:g} mm, {build.height_mm:.2f} mm high"],
        *([["lines", f"{build.hatches:,} lines of the laser, {build.hatches_mm / 1e6:.2f} km"]] if build.hatches else []),
        ["time", f"{_hours(build.seconds)}, between {_hours(build.seconds_low)} and {_hours(build.seconds_high)}"],
        ["material", f"{build.material_g:.1f} g, part volume {build.part_volume_mm3:.1f} mm³"],
        ["basis", build.basis],
        *(
            [
                f"supports of {one.part}",
                f"{one.kind}; {one.volume_mm3:.0f} mm³ in {one.bodies} bodies, contact {one.contact_mm2:.1f} mm²",
            ]
            for one in build.supports
        ),
        *_conditions_rows(build.conditions),
    ]


def _conditions_rows(held: ConditionsEntry | None) -> list[list[str]]:
    if held is None:
        return []
    gas = f"{held.inert_gas}, oxygen at most {held.oxygen_percent:g} %" if held.oxygen_percent is not None else "air"
    scale = " x ".join(f"{factor:g}" for factor in held.scale) if held.scale else "by the machine's own calibration"
    rows = [["chamber", gas], ["scale against shrinkage", f"{scale}; layers are in the size of the part"]]
    if held.refresh_share is not None:
        rows.append(["new powder", f"at least {100.0 * held.refresh_share:g} %"])
    if held.energy_kwh is not None:
        rows.append(["energy", f"{held.energy_kwh:.1f} kWh to warm up and build"])
    return [*rows, ["to be filled in", "; ".join(f"{key}: ____" for key in held.lot_keys)]]


def _hours(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60.0), 60)
    return f"{hours} h {minutes:02d} min"


def _scan_findings(findings: Sequence[FindingEntry]) -> dict[str, Any]:
    """The figures of the scan, each with the number of its source, and the sources."""
    sources = list(dict.fromkeys(finding.source for finding in findings if finding.source))
    rows = [{**_finding_row(one), "source": str(sources.index(one.source) + 1) if one.source else ""} for one in findings]
    return {"scan-findings": rows, "scan-sources": sources}


def _scan_report(finding: FindingEntry) -> bool:
    """Whether a finding says something of the scan that the cell need not know: all but what is wrong with it."""
    return finding.stage == _INTAKE and finding.verdict == "pass"


def _finding_row(finding: FindingEntry) -> dict[str, str]:
    value = "not measurable" if finding.value is None else f"{finding.value:.4g} {finding.unit}".strip()
    return {
        "check": finding.check,
        "what": finding.what,
        "value": value,
        "limit": finding.limit,
        "verdict": finding.verdict,
        "hint": "" if finding.verdict == "pass" else finding.hint,
        "source": finding.source,
    }


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


def _pose_words(pose: Sequence[Sequence[float]]) -> str:
    return " / ".join(" ".join(f"{value:.4f}" for value in row) for row in pose[:3])


def _point(point: Sequence[float], decimals: int) -> str:
    return ", ".join(f"{value:.{decimals}f}" for value in point)
