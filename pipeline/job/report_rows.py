"""What the reports say in words, from ``job.json`` alone: light, so that a page can say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batchone.pipeline.findings import number_words, place_words, worst_first
from batchone.pipeline.job.manifest import ConditionsEntry, FindingEntry, JobManifest, PartEntry

DEMONSTRATION_TEXT = "Approved for demonstration only"
INTAKE = "intake"  # the stage whose findings stand on the page about the scan


def build_rows(manifest: JobManifest, files: Mapping[str, str]) -> dict[str, Any]:
    """What the report for the cell says in words, by its chapters; ``files``: SHA-256 of what is printed from, by path."""
    return {
        **head_rows(manifest, "Build report"),
        "parts": [_part_row(part) for part in manifest.parts],
        "faces": [
            [part.name, face.label, face.purpose, f"{face.tolerance_mm:g} mm", f"{face.area_mm2:.1f} mm²"]
            for part in manifest.parts
            for face in part.functional_faces
        ],
        "figures": figure_rows(manifest),
        "estimate": _estimate_rows(manifest),
        "placements": [[p.part, _pose_words(p.pose), p.criterion] for p in manifest.build.placements],
        "after-printing": list(manifest.after_printing),
        "findings": [finding_row(finding) for finding in worst_first(manifest.findings) if not _scan_report(finding)],
        "files": [[name, files[name]] for name in sorted(files)],
    }


def head_rows(manifest: JobManifest, title: str) -> dict[str, Any]:
    """What stands at the top of a report: its job, the order, the approval."""
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
    centre = point_words(part.figures.centre_of_mass_mm, 2)
    return [part.name, part.material, size, f"{part.figures.volume_mm3:.1f}", centre, str(part.figures.triangles)]


def figure_rows(manifest: JobManifest) -> list[list[str]]:
    """Figures of plan and device, in words with their units."""
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


def _scan_report(finding: FindingEntry) -> bool:
    """Whether a finding says something of the scan that the cell need not know: all but what is wrong with it."""
    return finding.stage == INTAKE and finding.verdict == "pass"


def finding_row(finding: FindingEntry) -> dict[str, str]:
    """A finding, in words."""
    value = "not measurable" if finding.value is None else f"{number_words(finding.value, 4)} {finding.unit}".strip()
    return {
        "check": finding.check,
        "what": finding.what,
        "value": value,
        "limit": finding.limit,
        "verdict": finding.verdict,
        "hint": "" if finding.verdict == "pass" else finding.hint,
        "place": "" if finding.verdict == "pass" or finding.where_mm is None else f"at {place_words(finding.where_mm)}",
        "source": finding.source,
    }


def _pose_words(pose: Sequence[Sequence[float]]) -> str:
    return " / ".join(" ".join(f"{value:.4f}" for value in row) for row in pose[:3])


def point_words(point: Sequence[float], decimals: int) -> str:
    """The coordinates of a point."""
    return ", ".join(f"{value:.{decimals}f}" for value in point)
