"""What only a cranial implant has: gap, overlap, way in, thickness, holes, size, label, and how flush it lies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from batchone.design.booleans import intersection, solid_from_mesh, volume_mm3
from batchone.design.cranial.features import PERFORATION
from batchone.design.cranial.flush import rim_steps
from batchone.design.cranial.layout import NEAR_VERTEX
from batchone.design.cranial.rim_budget import rim_findings
from batchone.design.cranial.rim_gap import BORDER, border_gap, near_bone, surface_samples
from batchone.design.cranial.thickness import thickness
from batchone.design.cranial.way_out import least_distance_on_the_way, obstruction
from batchone.design.families.cranial_implant import CranialImplantParameters
from batchone.design.family import Checked, parameters_of
from batchone.design.guide.label_checks import label_findings
from batchone.design.nearest import nearest_mm
from batchone.pipeline.errors import DesignError
from batchone.pipeline.limits import Limit
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Vector, judge

SKIRT = "skirt"  # wall below the bone of the rim

_HISTOGRAM_MM = (-1.0, -0.15, -0.05, 0.05, 0.15, 0.3, 0.5, np.inf)  # edges about the ordered gap; the gates lie on edges
_CLEAR_MM = 0.1  # numerical: bodies whose samples 0.5 mm apart keep this distance share no volume that could be counted
_LOOK_MM = 3.0  # numerical: bone farther away than this cannot be the nearest to a body that fits
_AT_VERTEX = 1.5 * NEAR_VERTEX  # an implant whose way in lies so near to the top of the head may have its arrow to the front
_EDGE_MARGIN_MM = 1.0  # thickness counts this far off the rounded edges; project default, unverified


def border_gap_found(checked: Checked) -> tuple[Finding, ...]:
    """Gap along the rim against the ordered one: median, 95th percentile, least, and a histogram."""
    gap = border_gap(_implant(checked), _skull(checked))
    ordered = _parameters(checked).border_gap_mm
    gates = checked.limits.gates
    hint = "look at the worst place; another insertion axis, or a rim that follows the bone more closely"
    edges = ordered + np.array(_HISTOGRAM_MM)
    edges[0] = 0.0
    shares = gap.shares(edges)
    median, wide = gap.percentile(50.0) - ordered, gap.percentile(95.0) - ordered
    return (
        _judged(gates["border_gap_median_error_mm"], "border gap", "median minus ordered gap", median, hint),
        _judged(gates["border_gap_p95_excess_mm"], "border gap", "95th percentile minus ordered gap", wide, hint, gap.widest),
        _judged(
            gates["border_gap_min_excess_mm"], "border gap", "least minus ordered gap", gap.least_mm - ordered, hint, gap.tightest
        ),
        *(
            judge("border gap", f"share of the wall with a gap {_range(low, high)}", 100.0 * share, "%")
            for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True)
        ),
    )  # fmt: skip


def bone_kept_clear(checked: Checked) -> tuple[Finding, ...]:
    """Common volume with the bone, and least distance of the faces other than the wall."""
    part, skull = _implant(checked), _skull(checked)
    others = tuple(name for name in part.labels if name != BORDER)
    samples = surface_samples(part, others, sample_mm2=0.25).points_mm
    distance = nearest_mm(samples, near_bone(part.mesh, skull), within_mm=_LOOK_MM)
    least = int(np.argmin(distance))
    gates, ordered = checked.limits.gates, _parameters(checked).border_gap_mm
    overlap, where = _overlap_mm3(checked, float(distance[least]))
    return (
        _judged(gates["bone_overlap_mm3"], "overlap", "volume shared with the bone", overlap, "build the implant again", where),
        _judged(
            gates["border_gap_min_excess_mm"], "distance to bone", "least distance of the other faces minus ordered gap",
            float(distance[least]) - ordered, "build the implant again", _vector(samples[least]),
        ),
    )  # fmt: skip


def slides_in(checked: Checked) -> tuple[Finding, ...]:
    """Undercut along the insertion axis, and the least distance to bone on the way."""
    part, skull = _implant(checked), _skull(checked)
    axis = np.asarray(checked.plan.axis("insertion").direction, dtype=np.float64)
    blocked = obstruction(part.mesh, skull, axis)
    wall = surface_samples(part, (BORDER, SKIRT), sample_mm2=0.5).points_mm
    least, lift, where = least_distance_on_the_way(wall, skull, axis)
    gates, ordered = checked.limits.gates, _parameters(checked).border_gap_mm
    hint = "build the implant again, or choose another insertion axis"
    return (
        _judged(
            gates["undercut_mm3"], "insertion", "volume below bone along the axis", blocked.undercut_mm3, hint, blocked.where_mm
        ),
        _judged(
            gates["border_gap_min_excess_mm"], "insertion", f"least distance on the way minus ordered gap, lifted {lift:g} mm",
            least - ordered, hint, where,
        ),
    )  # fmt: skip


def thick_enough(checked: Checked) -> tuple[Finding, ...]:
    """Thinnest and median thickness away from the edges, also below the label."""
    part = _implant(checked)
    margin = {"onto": ("inner", "edge"), "off": ("edge", BORDER, SKIRT), "off_mm": _EDGE_MARGIN_MM}
    face = thickness(part, ("outer",), **margin)  # type: ignore[arg-type]
    gate, envelope = checked.limits.gates["wall_mm"], checked.limits.envelope["thickness_mm"]
    least_wall = max(gate.low or 0.0, checked.process.min_wall_mm)
    thinnest, where = float(face.thickness_mm.min(initial=np.inf)), face.thinnest if len(face.thickness_mm) else None
    if "label" in part.labels:
        floor = thickness(part, ("label",), onto=("inner",), off=(), off_mm=0.0)
        if len(floor.thickness_mm) and float(floor.thickness_mm.min()) < thinnest:
            thinnest, where = float(floor.thickness_mm.min()), floor.thinnest
    median = float(np.median(face.thickness_mm)) if len(face.thickness_mm) else float("nan")
    return (
        judge(
            "thickness", "thinnest wall away from the edges, below the label too", thinnest, "mm",
            low=least_wall, high=gate.high, gate=gate.gate, hint="a thicker implant, or a shallower label",
            source=f"{gate.source}; process {checked.process.name}: {checked.process.min_wall_mm:g} mm", where_mm=where,
        ),
        _judged(envelope, "thickness", "median", median, "change thickness_mm"),
    )  # fmt: skip


def holes_off_the_border(checked: Checked) -> tuple[Finding, ...]:
    """Solid border between drainage holes and wall."""
    part = _implant(checked)
    if PERFORATION not in part.labels:
        return ()
    holes = surface_samples(part, (PERFORATION,), sample_mm2=0.5).points_mm
    wall = surface_samples(part, (BORDER, SKIRT), sample_mm2=0.1).points_mm
    distance, _ = cKDTree(wall).query(holes)
    least = int(np.argmin(distance))
    gate = checked.limits.gates["perforation_border_mm"]
    return (
        _judged(
            gate, "perforations", "least distance to the border", float(distance[least]), "a larger perforation_border_mm",
            _vector(holes[least]),
        ),
    )  # fmt: skip


def in_plane_size(checked: Checked) -> tuple[Finding, ...]:
    """Length and width across the insertion axis, by the smallest box around it."""
    axis = np.asarray(checked.plan.axis("insertion").direction, dtype=np.float64)
    length, width = _extents_mm(_implant(checked).mesh, axis)
    limit = checked.limits.envelope["in_plane_mm"]
    hint = "outside what such implants are made for: ask for another way to close the defect"
    return (_judged(limit, "size", "length", length, hint), _judged(limit, "size", "width", width, hint))


def lies_flush(checked: Checked) -> tuple[Finding, ...]:
    """Step between the outer face and the skull along the rim, both carried on to the rim."""
    axis = np.asarray(checked.plan.axis("insertion").direction, dtype=np.float64)
    steps, places = rim_steps(_implant(checked).mesh, _skull(checked), checked.plan.curve("rim").points_mm, outward=axis)
    seen = np.isfinite(steps)
    if not seen.any():
        hint = "no skull is met beside the rim"
        return (judge("flush", "median step at the rim", float("nan"), "mm", low=0.0, gate=False, hint=hint),)
    size = np.where(seen, np.abs(steps), -1.0)
    worst = int(np.argmax(size))
    where = _vector(places[worst])
    return (
        judge("flush", "median step of the outer face above the skull at the rim", float(np.median(steps[seen])), "mm"),
        judge("flush", "95th percentile of the step's size", float(np.percentile(size[seen], 95.0)), "mm"),
        judge("flush", "largest step of the outer face above the skull", float(steps[worst]), "mm", where_mm=where),
    )


def fits_at_the_rim(checked: Checked) -> tuple[Finding, ...]:
    """Gap and step at the rim by all errors together; see :mod:`batchone.design.budget.rim`."""
    skull = checked.anatomy.bone("skull")
    return () if skull is None else rim_findings(checked, _implant(checked), skull)


def says_what_it_is(checked: Checked) -> tuple[Finding, ...]:
    """The label, read back: the case code, and an arrow to the top of the head, or to the front on an implant that is the top."""
    skull = checked.anatomy.bone("skull")
    if skull is None or not _parameters(checked).engrave:
        return ()
    front, top = -skull.frame[:3, 1], skull.frame[:3, 2]
    way = np.asarray(checked.plan.axis("insertion").direction, dtype=np.float64)
    heads = (top, front) if float(np.linalg.norm(np.cross(top, way))) < _AT_VERTEX else (top,)
    return label_findings(_implant(checked), heads, ((checked.order.case,),), checked.process, checked.limits)


CHECKS: tuple[Callable[[Checked], tuple[Finding, ...]], ...] = (
    border_gap_found,
    bone_kept_clear,
    slides_in,
    thick_enough,
    holes_off_the_border,
    in_plane_size,
    lies_flush,
)
RELEASE_CHECKS: tuple[Callable[[Checked], tuple[Finding, ...]], ...] = (fits_at_the_rim, says_what_it_is)


def _overlap_mm3(checked: Checked, least_mm: float) -> tuple[float, Vector | None]:
    """Counted in columns; measured by a boolean when the two come near enough to touch."""
    part, skull = _implant(checked), _skull(checked)
    axis = np.asarray(checked.plan.axis("insertion").direction, dtype=np.float64)
    counted = obstruction(part.mesh, skull, axis)
    wall_mm = float(border_gap(part, skull).least_mm)
    if counted.overlap_mm3 == 0.0 and min(least_mm, wall_mm) > _CLEAR_MM:
        return 0.0, None
    middle = part.mesh.vertices_mm.mean(axis=0)
    implant, bone = (Mesh(mesh.vertices_mm - middle, mesh.faces) for mesh in (part.mesh, skull))
    try:
        shared = intersection(solid_from_mesh(implant, "implant"), solid_from_mesh(bone, "bone"), what="implant and bone")
    except DesignError:
        return counted.overlap_mm3, counted.where_mm
    return volume_mm3(shared), counted.where_mm


def _extents_mm(mesh: Mesh, axis: FloatArray) -> tuple[float, float]:
    """Length and width of the smallest rectangle around a mesh seen along an axis."""
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    flat = mesh.vertices_mm @ np.column_stack([first, np.cross(axis, first)])
    turns = np.radians(np.arange(0.0, 90.0, 1.0))
    across = np.column_stack([np.cos(turns), np.sin(turns)]), np.column_stack([-np.sin(turns), np.cos(turns)])
    sizes = np.stack([np.ptp(flat @ directions.T, axis=0) for directions in across])
    best = int(np.argmin(sizes.prod(axis=0)))
    return float(sizes[:, best].max()), float(sizes[:, best].min())


def _range(low_mm: float, high_mm: float) -> str:
    return f"of {low_mm:.2f} mm or more" if np.isinf(high_mm) else f"of {low_mm:.2f} to {high_mm:.2f} mm"


def _judged(limit: Limit, check: str, what: str, value: float, hint: str, where_mm: Vector | None = None) -> Finding:
    return judge(
        check, what, value, limit.unit,
        low=limit.low, high=limit.high, gate=limit.gate, hint=hint, source=limit.source, where_mm=where_mm,
        waivable=limit.waivable,
    )  # fmt: skip


def _parameters(checked: Checked) -> CranialImplantParameters:
    return parameters_of(checked.order, CranialImplantParameters)


def _implant(checked: Checked) -> Part:
    return checked.device.parts[0]


def _skull(checked: Checked) -> Mesh:
    skull = checked.anatomy.bone("skull")
    if skull is None:
        raise DesignError("the anatomy holds 0 bones named skull, must hold 1", hint="segment the scan again")
    return skull.mesh


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))
