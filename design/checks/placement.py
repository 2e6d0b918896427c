"""Where the device lies and how large it is: box, volume, centre of mass, side, design envelope, machine."""

from __future__ import annotations

import numpy as np

from batchone.design.family import FamilyLimits
from batchone.design.triangles import box_mm, moments
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Device, Finding, FloatArray, Mesh, Part, Plan, Vector, judge

_SIDE_SIGN = {"left": 1.0, "right": -1.0}


def placement_findings(
    device: Device, anatomy: Anatomy, plan: Plan, order: Order, *, limits: FamilyLimits, machine: Machine
) -> tuple[Finding, ...]:
    """Measure and judge every part, every device against its family's envelope, and the first one against the ordered side."""
    frames = [bone.frame[:3, :3] for bone in anatomy.bones]
    findings: list[Finding] = []
    side: Finding | None = None
    for position, part in enumerate(device.parts):
        sizes, (volume_mm3, centre_mm) = _turned_sizes(part.mesh, frames), moments(part.mesh)
        findings += _sizes(part, volume_mm3, centre_mm)
        findings.append(_fits(part, sizes, machine))
        if part.purpose == "device":
            findings += _envelope(part, sizes, volume_mm3, limits)
        if position == 0:
            side = _side(part, centre_mm, anatomy, plan, order)
    return (*findings, side) if side is not None else tuple(findings)


def extents_mm(mesh: Mesh, rotation: FloatArray) -> FloatArray:
    """(3,) size along the columns of a (3, 3) rotation."""
    along = mesh.vertices_mm @ rotation
    return np.asarray(along.max(axis=0) - along.min(axis=0))


def _sizes(part: Part, volume_mm3: float, centre_mm: FloatArray) -> list[Finding]:
    low, high = box_mm(part.mesh.vertices_mm)
    where = _vector(centre_mm)
    named = zip(("x (left to right)", "y (front to back)", "z (foot to head)"), high - low, strict=True)
    findings = [judge("placement", f"{part.name}: size along {axis}", float(size), "mm") for axis, size in named]
    volume = judge("placement", f"{part.name}: volume, at its centre of mass", volume_mm3, "mm3", where_mm=where)
    return [*findings, volume]


def _fits(part: Part, sizes: FloatArray, machine: Machine) -> Finding:
    margin = machine.plate_margin_mm
    width, depth, height = machine.envelope_mm
    room = np.sort([width - 2.0 * margin, depth - 2.0 * margin, height])
    excess_mm = float((sizes - room).max(axis=1).min())
    return judge(
        "placement",
        f"{part.name}: largest side beyond the room of {machine.name}",
        excess_mm,
        "mm",
        high=0.0,
        hint=f"choose a machine with more room than {width:g} x {depth:g} x {height:g} mm, or a smaller region",
        source=machine.sources.get("envelope_mm", ""),
    )


def _envelope(part: Part, sizes: FloatArray, volume_mm3: float, limits: FamilyLimits) -> list[Finding]:
    measured = {"volume_mm3": volume_mm3, "longest_mm": float(sizes[:, 2].min())}
    findings = []
    for key, limit in limits.envelope.items():
        if key in measured:
            what = f"{part.name}: {key.rsplit('_', 1)[0].replace('_', ' ')} inside the design envelope"
            hint = "outside what this family was made for: a person must decide"
            findings.append(
                judge(
                    "envelope",
                    what,
                    measured[key],
                    limit.unit,
                    low=limit.low,
                    high=limit.high,
                    gate=limit.gate,
                    hint=hint,
                    source=limit.source,
                    waivable=limit.waivable,
                )
            )
    return findings


def _side(part: Part, centre: FloatArray, anatomy: Anatomy, plan: Plan, order: Order) -> Finding | None:
    """How far the centre of mass lies to the ordered side of the plane of symmetry; None where the plan has none."""
    plane = next((p for p in plan.planes if p.name == "symmetry"), None)
    if plane is None or not anatomy.bones:
        return None
    normal = np.array(plane.normal)
    to_left = anatomy.bones[0].frame[:3, 0]  # the bone's own x axis points to the patient's left
    normal = normal if float(normal @ to_left) >= 0.0 else -normal
    left_mm = float((centre - np.array(plane.origin_mm)) @ normal) / float(np.linalg.norm(normal))
    sign = _SIDE_SIGN.get(order.side)
    what = f"{part.name}: centre of mass to the {order.side if sign else 'left'} of the plane of symmetry"
    return judge(
        "placement",
        what,
        left_mm * (sign or 1.0),
        "mm",
        low=0.0 if sign else None,
        hint="the order's side and the images contradict each other: ask the prescriber",
        source="a device lies on the side that was ordered",
        where_mm=_vector(centre),
    )


def _turned_sizes(mesh: Mesh, frames: list[FloatArray]) -> FloatArray:
    """(k, 3) sorted sizes along the patient's axes, the bones' own axes, and the principal axes of the part's vertices."""
    centred = mesh.vertices_mm - mesh.vertices_mm.mean(axis=0)
    principal = np.asarray(np.linalg.eigh(centred.T @ centred)[1])
    along = centred @ np.hstack([np.eye(3), *frames, principal])
    return np.sort((along.max(axis=0) - along.min(axis=0)).reshape(-1, 3), axis=1)


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))
