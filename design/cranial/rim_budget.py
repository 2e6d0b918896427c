"""What may become of an implant's gap and step at the rim, against the gates of its family."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from batchone.design.budget.rim import HALVES, Rim, at_rim
from batchone.design.cranial.flush import rim_steps
from batchone.design.cranial.rays import Scene
from batchone.design.cranial.rim_gap import border_gap, near_bone
from batchone.design.family import Checked
from batchone.design.guide.checks import judged
from batchone.pipeline.values import Bone, Finding, FloatArray, Mesh, Part, Vector, judge

_BESIDE_MM = 3.0  # outside of the rim, clear of its rounded edge: there the slope of the skull is asked
_HIGH_MM = 8.0  # numerical: rays start so far above
_NEAR_MM = 2.0  # numerical: samples of the wall that tell the gap at a place of the rim


def rim_findings(checked: Checked, part: Part, skull: Bone) -> tuple[Finding, ...]:
    """Widest gap, largest step, and whether the implant goes in untrimmed; a failure where no skull is met beside the rim."""
    rim, places = _rim(checked, part, skull.mesh)
    if rim is None:
        return (_no_rim(_vector(places.mean(axis=0))),)
    near = cKDTree(skull.mesh.vertices_mm).query(places)[1]
    sigma = float(np.median(skull.uncertainty_mm[near]))
    found = at_rim(rim, checked.process, bone_mm=sigma, drawn=not checked.plan.proposed)
    gates, findings = checked.limits.gates, []
    for key, what, values, shares, at in (
        ("budget_gap_mm", "widest gap", found.gap_mm, found.gap_shares, int(np.argmax(rim.gap_mm))),
        ("budget_step_mm", "largest step", found.step_mm, found.step_shares, int(np.argmax(np.abs(rim.step_mm)))),
    ):
        name, share = max(shares, key=lambda one: one[1])
        parts = ", ".join(f"{source} {100.0 * value:.0f} %" for source, value in shares)
        p50, p95 = (float(np.percentile(values, percent)) for percent in (50.0, 95.0))
        text = f"rim: {what} along it, 95 % (50 %: {p50:.2f} mm; {parts})"
        hint = f"{100.0 * share:.0f} % of it is {name}: {HALVES[name]}"
        findings.append(judged(gates[key], "budget", text, round(p95, 6), hint, _vector(places[at])))
    narrow = _vector(places[int(np.argmin(rim.gap_mm))])
    text = "rim: implants that do not go in untrimmed, all errors together"
    tight = 100.0 * float(found.tight.mean())
    findings.append(judged(gates["budget_tight_percent"], "budget", text, tight, "a larger border_gap_mm", narrow))
    return tuple(findings)


def _no_rim(where_mm: Vector) -> Finding:
    what = "rim: places of it beside which skull is met; without one no gap can be told"
    hint = "a rim that lies on bone ([plan] markups), or a scan that shows the bone about the defect"
    return judge(
        "budget",
        what,
        0.0,
        "",
        low=1.0,
        hint=hint,
        source="a device is released on measured errors: project rule",
        where_mm=where_mm,
    )


def _rim(checked: Checked, part: Part, skull: Mesh) -> tuple[Rim | None, FloatArray]:
    """The rim where both faces are met, and its places (k, 3)."""
    axis = np.asarray(checked.plan.axis("insertion").direction, dtype=np.float64)
    curve = checked.plan.curve("rim").points_mm
    steps, places = rim_steps(part.mesh, skull, curve, outward=axis)
    if not np.isfinite(steps).any():
        return None, places  # no skull near
    middle = places.mean(axis=0)
    frame = np.linalg.svd(axis[None])[2][1:]
    flat = (places - middle) @ frame.T
    along = np.roll(flat, -3, axis=0) - np.roll(flat, 3, axis=0)
    outward = np.stack([along[:, 1], -along[:, 0]], axis=1)
    outward *= np.where(np.einsum("ij,ij->i", outward, flat) >= 0.0, 1.0, -1.0)[:, None]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    gap = border_gap(part, skull)
    apart, nearest = cKDTree(gap.points_mm).query(places, k=8)
    near = near_bone(part.mesh, skull)
    scene = Scene(Mesh(near.vertices_mm - middle, near.faces))
    starts = places - middle + _BESIDE_MM * outward @ frame + _HIGH_MM * axis
    met = scene.first(starts, np.tile(-axis, (len(starts), 1)), 2.0 * _HIGH_MM).face
    normal = scene.normals(met)
    seen = np.isfinite(steps) & (met >= 0) & (apart[:, 0] < _NEAR_MM + _HIGH_MM) & (normal @ axis > 0.0)
    if not seen.any():
        return None, places
    slope = -np.einsum("ij,ij->i", normal @ frame.T, outward) / np.where(seen, normal @ axis, 1.0)
    gaps = gap.gap_mm[nearest].mean(axis=1)
    return Rim(gaps[seen], steps[seen], slope[seen], flat[seen], outward[seen]), places[seen]


def _vector(point: FloatArray) -> Vector:
    x, y, z = point.tolist()
    return (x, y, z)
