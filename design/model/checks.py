"""What only an anatomical model must hold: it shows the bone as it is, powder flows out, the scale can be checked."""

from __future__ import annotations

import numpy as np

from batchone.design.booleans import face_areas
from batchone.design.checks.placement import extents_mm
from batchone.design.families.anatomical_model import AnatomicalModelParameters
from batchone.design.family import Checked, parameters_of
from batchone.design.model.body import BONE, CAVITY, CUBE, ESCAPE_HOLE
from batchone.design.model.region import chosen_bones
from batchone.design.nearest import nearest_mm
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Vector, judge

_SAMPLES = 20_000  # numerical: points at which the deviation is measured; the percentiles settle below 0.005 mm


def deviation_findings(checked: Checked) -> tuple[Finding, ...]:
    """How far the model's bone surface lies from the segmented bone: median and 95th percentile, mm."""
    part = checked.device.parts[0]
    points = _bone_points(part)
    distance = _nearest_mm(points, [bone.mesh for bone in chosen_bones(checked.anatomy, checked.order)])
    worst = int(np.argmax(distance)) if len(distance) else -1
    where = _vector(points[worst]) if worst >= 0 else None
    measured = (
        ("deviation_median_mm", "median distance from the segmented bone", _percentile(distance, 50.0)),
        ("deviation_p95_mm", "95th percentile of the distance from the segmented bone", _percentile(distance, 95.0)),
    )
    hint = "order a smaller simplify_mm"
    findings = []
    for key, what, value in measured:
        limit = checked.limits.gates[key]
        findings.append(
            judge("deviation", what, value, "mm", low=limit.low, high=limit.high, gate=limit.gate, hint=hint, source=limit.source)
        )
    findings.append(
        judge("deviation", "largest distance from the segmented bone", _percentile(distance, 100.0), "mm", where_mm=where)
    )
    return tuple(findings)


def completeness_findings(checked: Checked) -> tuple[Finding, ...]:
    """Which share of the bone was left out, and whether the marks found their place."""
    figures = dict(checked.device.figures)
    chosen = parameters_of(checked.order, AnatomicalModelParameters)
    limit = checked.limits.gates["dropped_share"]
    share = figures["dropped_mm3"] / figures["bone_volume_mm3"]
    findings = [
        judge(
            "completeness",
            "share of the bone left out as loose pieces",
            share,
            "",
            high=limit.high,
            gate=limit.gate,
            hint="order a smaller crumb_mm3 or a longer pin_reach_mm",
            source=limit.source,
        ),
        judge("completeness", "pins that tie loose pieces", figures["pins"], ""),
        judge("completeness", "volume removed by hollowing", figures["hollowed_mm3"], "mm3"),
    ]
    if chosen.engrave:
        hint = "no calm, thick place was found: order a smaller text_height_mm, and tie a label to the part"
        source = "a part must be traceable to its case: MDR Annex XIII practice"
        wanted = float(len(checked.order.case))
        what = "letters of the case code that are engraved"
        findings.append(
            judge("completeness", what, figures["label_characters"], "", low=wanted, gate=False, hint=hint, source=source)
        )
    return tuple(findings)


def escape_findings(checked: Checked) -> tuple[Finding, ...]:
    """Escape holes of each cavity, counted on the mesh."""
    part = checked.device.parts[0]
    areas = face_areas(part)
    cavities = dict(checked.device.figures)["cavities"]
    if areas.get(CAVITY, 0.0) <= 0.0 and cavities == 0.0:
        return ()
    chosen = parameters_of(checked.order, AnatomicalModelParameters)
    limit = checked.limits.gates["escape_holes"]
    least_mm2 = np.pi * chosen.escape_hole_mm * 0.5 * chosen.wall_mm  # a whole rim, half a wall deep
    holes = sum(area >= least_mm2 for label, area in areas.items() if label.startswith(ESCAPE_HOLE))
    return (
        judge(
            "escape",
            "open escape holes per cavity",
            holes / cavities,
            "",
            low=limit.low,
            high=limit.high,
            gate=limit.gate,
            hint="order more escape_holes, or hollow = false",
            source=limit.source,
        ),
        judge(
            "escape",
            "diameter of the escape holes",
            chosen.escape_hole_mm,
            "mm",
            low=checked.process.min_escape_hole_mm,
            hint="order a wider escape_hole_mm",
            source=checked.process.sources.get("min_escape_hole_mm", ""),
            where_mm=_hole_at(part),
        ),
    )


def _hole_at(part: Part) -> Vector | None:
    """The middle of the first escape hole; None without any."""
    for number, label in enumerate(part.labels):
        if label.startswith(ESCAPE_HOLE) and (mine := part.face_labels == number).any():
            x, y, z = part.mesh.vertices_mm[np.unique(part.mesh.faces[mine])].mean(axis=0).tolist()
            return (x, y, z)
    return None


def scale_findings(checked: Checked) -> tuple[Finding, ...]:
    """Edges of the scale cube against the ordered edge."""
    chosen = parameters_of(checked.order, AnatomicalModelParameters)
    if not chosen.scale_cube:
        return ()
    frame = chosen_bones(checked.anatomy, checked.order)[0].frame[:3, :3]
    cube = next(part for part in checked.device.parts if part.labels and CUBE in part.labels)
    limit = checked.limits.gates["scale_cube_error_mm"]
    errors = extents_mm(cube.mesh, frame) - chosen.scale_cube_mm
    worst = float(errors[int(np.argmax(np.abs(errors)))])
    what = "edge of the scale cube minus the ordered edge, worst of three"
    return (judge("scale", what, worst, "mm", low=limit.low, high=limit.high, gate=limit.gate, source=limit.source),)


CHECKS = (deviation_findings, completeness_findings, escape_findings, scale_findings)


def _bone_points(part: Part) -> FloatArray:
    """Centres of bone triangles, chosen at even steps of area: vertices alone would hide what dropping triangles did."""
    bone = part.labels.index(BONE) if BONE in part.labels else -1
    corners = part.mesh.vertices_mm[part.mesh.faces[part.face_labels == bone]]
    if len(corners) == 0:
        return np.empty((0, 3))
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    covered = np.cumsum(areas)
    chosen = np.unique(np.searchsorted(covered, (np.arange(_SAMPLES) + 0.5) / _SAMPLES * covered[-1]))
    return np.ascontiguousarray(corners[np.minimum(chosen, len(corners) - 1)].mean(axis=1))


def _nearest_mm(points: FloatArray, meshes: list[Mesh]) -> FloatArray:
    nearest = np.full(len(points), np.inf)
    for mesh in meshes:
        nearest = np.minimum(nearest, nearest_mm(points, mesh))
    return nearest


def _percentile(values: FloatArray, share: float) -> float:
    return float(np.percentile(values, share)) if len(values) else float("nan")


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))
