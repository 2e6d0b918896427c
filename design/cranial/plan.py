"""The plan of a cranial implant: symmetry, defect, rim, healthy contour, way in."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from batchone.design.cranial.defect import MIN_AREA_CM2, Hole, find_holes, map_area_cm2
from batchone.design.cranial.healthy import Healthy, healthy_tables
from batchone.design.cranial.insertion import insertion_axis
from batchone.design.cranial.patch import drawn_rim, fine_map, inner_rim, inside_loop, outer_rim, patches
from batchone.design.cranial.sphere import BoolArray, Sphere, icosphere
from batchone.design.cranial.symmetry import Symmetry, stand_on_plane
from batchone.design.cranial.vault import Skull, VaultMap, cast, domain, inverse_of, reach, skull_of
from batchone.pipeline.errors import OrderError
from batchone.pipeline.order import Order, PlanCurve
from batchone.pipeline.values import (
    Anatomy,
    Axis,
    Curve,
    Finding,
    FloatArray,
    Mesh,
    Plan,
    Plane,
    Side,
    Surface,
    Vector,
    judge,
    moved_points,
)

_COARSE, _FINE = 6, 7  # levels of the icosphere: 1.4 and 0.7 mm at 80 mm
_SIDE_TOLERANCE_MM = 5.0  # a defect this near to the plane of symmetry is accepted on either side; project default, unverified
_OFF_BONE_MM = 5.0  # a drawn rim may lie this far off the outer table; project default, unverified
_POOR_SYMMETRY_MM = 1.5  # a median residual above this is no mirror; real heads have 0.3 to 0.6 mm


def propose_plan(anatomy: Anatomy, order: Order) -> Plan:
    """Propose everything that a cranial implant needs to know.

    Parameters
    ----------
    anatomy
        Holds the bone ``skull``.
    order
        Its ``side`` must agree with the images; its curve ``rim``, when given, is used instead of the detected one: the hole is
        what lies inside.

    Returns
    -------
    Plan
        In LPS mm: curves ``rim`` and ``rim-inner``, plane ``symmetry`` (normal to the left), axes ``vault-centre`` and
        ``insertion``, surfaces ``contour-outer`` and ``contour-inner``.

    Raises
    ------
    OrderError
        No skull, no defect of at least 2 cm2, a drawn rim off the bone, or the wrong side.
    """
    bone = anatomy.bone("skull")
    if bone is None:
        names = ", ".join(b.name for b in anatomy.bones) or "none"
        raise OrderError(f"bones found: {names}; a cranial implant needs the skull", hint="is this a scan of the head?")
    sphere = icosphere(_COARSE)
    skull, symmetry = stand_on_plane(skull_of(bone, anatomy.field_of_view), sphere, domain(sphere))
    vault = cast(skull, sphere.directions)
    drawn = order.plan.curve("rim")
    if drawn is None:
        _require_nothing_drawn(order)
        hole, others = _chosen(find_holes(vault, sphere, domain(sphere), reach(sphere)), vault, sphere, order)
        rim = None
    else:
        rim = _drawn_rim(skull, drawn)
        hole, others = _hole_of(inside_loop(sphere.directions, rim), sphere), ()
        _require_side(hole, rim[:, 0], order)
    return _assembled(skull, sphere, vault, hole, others, rim, symmetry, order)


def _require_nothing_drawn(order: Order) -> None:
    """Refuse curves that would be left aside in silence."""
    if order.plan.curves:
        names = ", ".join(repr(curve.name) for curve in order.plan.curves)
        raise OrderError(f"the plan's curves are {names}, a cranial implant takes 'rim'", hint='name it: markups = ["rim=FILE"]')


def _chosen(holes: tuple[Hole, ...], vault: VaultMap, sphere: Sphere, order: Order) -> tuple[Hole, tuple[Hole, ...]]:
    """The largest hole on the ordered side, and the others."""
    if not holes:
        raise OrderError(
            f"no defect of at least {MIN_AREA_CM2:g} cm2 found in the vault of the skull; a cranial implant needs one",
            hint="check case and study, or draw the defect: [[plan.curves]] with name 'rim'",
        )
    for hole in holes:
        if _side_fits(_across_mm(hole, vault, sphere), order.side):
            return hole, tuple(other for other in holes if other is not hole)
    _require_side(holes[0], _across_mm(holes[0], vault, sphere), order)
    raise AssertionError("unreachable: the side was just found not to fit")


def _across_mm(hole: Hole, vault: VaultMap, sphere: Sphere) -> FloatArray:
    """(k,) mm to the left of the plane of symmetry of a hole's directions, at the distance of the bone around it."""
    mask = np.zeros(len(vault.outer_mm), dtype=np.bool_)
    mask[hole.index] = True
    radius = np.nanmedian(vault.outer_mm[sphere.grown(mask, 3) & ~mask])
    return np.asarray(sphere.directions[hole.index, 0] * radius)


def _side_fits(across_mm: FloatArray, side: Side) -> bool:
    middle = float(across_mm.mean())
    if side == "midline":
        return bool(across_mm.min() < 0.0 < across_mm.max())
    return middle > -_SIDE_TOLERANCE_MM if side == "left" else middle < _SIDE_TOLERANCE_MM


def _require_side(hole: Hole, across_mm: FloatArray, order: Order) -> None:
    if _side_fits(across_mm, order.side):
        return
    middle = float(across_mm.mean())
    found = "left" if middle > 0.0 else "right"
    limit = "must cross the plane" if order.side == "midline" else f"at most {_SIDE_TOLERANCE_MM:g} mm beyond it"
    raise OrderError(
        f"side is {order.side!r} in the order, but the middle of the defect ({hole.area_cm2:.0f} cm2) lies {abs(middle):.1f} mm "
        f"to the patient's {found} of the plane of symmetry, {limit}",
        hint=f"is this the right study? If it is, order side = {found!r}",
    )


def _drawn_rim(skull: Skull, curve: PlanCurve) -> FloatArray:
    """A person's rim in the working frame, (n, 3)."""
    points = moved_points(inverse_of(skull.to_lps), np.array(curve.points_mm, dtype=np.float64))
    if not curve.closed:
        raise OrderError("plan curve 'rim' is open, must be closed: it goes once round the defect", hint="draw a closed curve")
    bone = moved_points(inverse_of(skull.stand), skull.scene.mesh.vertices_mm)
    off_mm = float(np.median(cKDTree(bone).query(points)[0]))
    if off_mm > _OFF_BONE_MM:
        raise OrderError(
            f"plan curve 'rim' lies {off_mm:.1f} mm off the skull (median), at most {_OFF_BONE_MM:g} mm",
            hint="is it drawn in this study, in patient LPS mm?",
        )
    return points


def _hole_of(inside: BoolArray, sphere: Sphere) -> Hole:
    return Hole(np.flatnonzero(inside).astype(np.int32), map_area_cm2(sphere, inside), False, 0.0)


def _assembled(
    skull: Skull,
    sphere: Sphere,
    vault: VaultMap,
    hole: Hole,
    others: tuple[Hole, ...],
    drawn: FloatArray | None,
    symmetry: Symmetry,
    order: Order,
) -> Plan:
    mask = np.zeros(len(vault.outer_mm), dtype=np.bool_)
    mask[hole.index] = True
    healthy = healthy_tables(skull, sphere, vault, mask, reach(sphere))
    fine = fine_map(skull, sphere, icosphere(_FINE), healthy, mask)
    rim = outer_rim(skull, fine) if drawn is None else drawn_rim(fine, drawn)
    rim_inner = inner_rim(skull, fine) if drawn is None else None
    outer, inner = patches(fine, rim)
    way = insertion_axis(skull.scene.mesh.moved(inverse_of(skull.stand)), rim, outer=outer, inner=inner)
    pose = skull.to_lps
    curves = [Curve("rim", moved_points(pose, rim), True)]
    if rim_inner is not None:
        curves.append(Curve("rim-inner", moved_points(pose, rim_inner), True))
    return Plan(
        family="cranial-implant",
        proposed=drawn is None,
        side=order.side,
        curves=tuple(curves),
        axes=(
            Axis("vault-centre", _vector(pose[:3, 3]), _vector(pose[:3, 2])),
            Axis("insertion", _vector(moved_points(pose, rim.mean(axis=0)[None])[0]), _vector(pose[:3, :3] @ way)),
        ),
        planes=(Plane("symmetry", _vector(pose[:3, 3]), _vector(pose[:3, 0])),),
        surfaces=(Surface("contour-outer", outer.moved(pose)), Surface("contour-inner", inner.moved(pose))),
        figures=_figures(rim, outer, inner, mask, healthy, symmetry),
        findings=_findings(skull, sphere, vault, hole, others, symmetry),
    )


def _figures(
    rim: FloatArray, outer: Mesh, inner: Mesh, mask: BoolArray, healthy: Healthy, symmetry: Symmetry
) -> tuple[tuple[str, float], ...]:
    inside = inside_loop(outer.vertices_mm / np.linalg.norm(outer.vertices_mm, axis=1, keepdims=True), rim)
    corners = outer.vertices_mm[outer.faces[inside[outer.faces].all(axis=1)]]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2.0
    spans = np.linalg.norm(rim[:, None] - rim[None], axis=2)
    thick = np.linalg.norm(outer.vertices_mm - inner.vertices_mm, axis=1)
    return (
        ("defect_area_cm2", float(area / 100.0)),
        ("defect_diameter_mm", float(spans.max())),
        ("rim_length_mm", float(np.linalg.norm(np.roll(rim, -1, axis=0) - rim, axis=1).sum())),
        ("mirror_cover", float(healthy.outer_covered[mask].mean())),
        ("symmetry_residual_mm", symmetry.residual_mm),
        ("contour_thickness_median_mm", float(np.median(thick[inside]))),
        ("contour_thickness_min_mm", float(thick[inside].min())),
        ("contour_thickness_max_mm", float(thick[inside].max())),
    )


def _findings(
    skull: Skull, sphere: Sphere, vault: VaultMap, hole: Hole, others: tuple[Hole, ...], symmetry: Symmetry
) -> tuple[Finding, ...]:
    del vault
    where = _vector(moved_points(skull.to_lps, hole.centre(sphere)[None] * 80.0)[0])
    found = [
        judge(
            "plan",
            "median distance of the mirrored skull to the skull",
            symmetry.residual_mm,
            "mm",
            high=_POOR_SYMMETRY_MM,
            gate=False,
            hint="the contour leans on the other side: compare both sides by eye",
            source="project default, unverified",
        ),
        judge(
            "plan",
            "defect reaches the edge of the vault",
            float(hole.open),
            "",
            high=0.0,
            gate=False,
            where_mm=where,
            hint="the part below the vault is not planned: look at the lower border",
            source="method's domain",
        ),
        judge(
            "plan",
            "further defects of the vault, not planned",
            float(len(others)),
            "",
            high=0.0,
            gate=False,
            hint="; ".join(
                f"{other.area_cm2:.0f} cm2 at {_words(moved_points(skull.to_lps, other.centre(sphere)[None] * 80.0)[0])}"
                for other in others
            ),
            source="one implant for one order",
            where_mm=_vector(moved_points(skull.to_lps, others[0].centre(sphere)[None] * 80.0)[0]) if others else None,
        ),
        judge(
            "plan",
            "share of the defect beyond the scanned box",
            hole.unscanned,
            "",
            high=0.0,
            gate=False,
            where_mm=where,
            hint="the scan ends within the defect: ask for a scan of the whole head",
            source="project default, unverified",
        ),
    ]
    return tuple(found)


def _words(point: FloatArray) -> str:
    return f"({point[0]:.0f}, {point[1]:.0f}, {point[2]:.0f}) mm"


def _vector(values: FloatArray) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))
