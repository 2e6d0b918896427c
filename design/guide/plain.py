"""A plain guide: a shell on the bone about the entries of some ways, with a sleeve for each, and what is measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from batchone.design.booleans import difference, handles_of, to_part, union
from batchone.design.contact.ground import Relief, ground_of, seen
from batchone.design.contact.neighbours import Neighbours
from batchone.design.contact.seat import Ground
from batchone.design.contact.shell import capsule_mm
from batchone.design.cranial.columns import to_local
from batchone.design.family import FamilyLimits
from batchone.design.guide.body import (
    APART_MM,
    BELOW_MM,
    LEAST_FACING,
    MOST_SIGMA_MM,
    OVER_EDGE_MM,
    carrying,
    footing,
    guide_body,
    guide_faces,
    guide_pose,
    surface_points,
)
from batchone.design.guide.checks import bore_findings, contact_findings, way_out_findings
from batchone.design.guide.finish import finished
from batchone.design.guide.sleeve import Sleeve, refuse_colliding, rim_height_mm
from batchone.design.solid import step_of
from batchone.pipeline.errors import DesignError
from batchone.pipeline.process import Process
from batchone.pipeline.values import Axis, Bone, Finding, FloatArray, Part

MOST_SPAN_MM = (
    120.0  # between the entries of one guide: what lies further apart sits better under two; project default, unverified
)
_MARGIN_MM = 6.0  # numerical: from the guide to the walls of the grid


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a plain guide measures, mm.

    Attributes
    ----------
    offset_mm, relief_mm
        Gap to the bone where it touches, and elsewhere.
    shell_mm, pad_mm
        Thickness of the shell, and its reach about the entries and the lines between them.
    sleeve_mm, bore_mm, outer_mm
        Length over which the drill is led above the bone, and both diameters.
    """

    offset_mm: float
    relief_mm: float
    shell_mm: float
    pad_mm: float
    sleeve_mm: float
    bore_mm: float
    outer_mm: float


def plain_guide(
    name: str, bone: Bone, others: Neighbours, *, way: Axis, holes: tuple[Axis, ...], sizes: Sizes, process: Process
) -> Part:
    """Make the guide.

    Parameters
    ----------
    name
        Of the part.
    bone, others
        The bone that carries it, and those that it must keep away from.
    way
        The way it comes off, from between the entries; LPS.
    holes
        The ways in, LPS; the bore of each is the face ``bore-<its name>``.
    sizes, process
        Sizes, and the walls and tolerances that can be made.

    Raises
    ------
    DesignError
        Entries too far apart, no contact, sleeves that collide, or a boolean failed.
    """
    pose = guide_pose(way, bone)
    entries = to_local(pose, np.array([hole.origin_mm for hole in holes]))
    span_mm = float(np.ptp(entries, axis=0).max())
    if span_mm > MOST_SPAN_MM:
        raise DesignError(
            f"{name}: the entries lie {span_mm:.0f} mm apart, at most {MOST_SPAN_MM:g} mm",
            hint="order a guide for each group of them",
        )
    outward = np.round(-np.array([hole.direction for hole in holes]) @ pose[:3, :3], 9)
    tops = entries + outward * (sizes.sleeve_mm + sizes.pad_mm)
    wide = np.array([sizes.pad_mm, sizes.pad_mm, BELOW_MM]) + _MARGIN_MM
    low = np.minimum(entries - wide, tops - wide).min(axis=0)
    high = np.maximum(entries + wide, tops + wide).max(axis=0)
    high[2] = max(high[2], float(entries[:, 2].max()) + sizes.pad_mm + sizes.shell_mm + _MARGIN_MM)
    ground = ground_of(bone, others, pose, low, high, offset_mm=sizes.offset_mm)
    relief = seen(ground, bone, most_sigma_mm=MOST_SIGMA_MM, apart_mm=APART_MM, least_facing=LEAST_FACING)
    sleeves = _sleeves(ground, relief, holes, entries, outward, sizes)
    refuse_colliding(sleeves)
    pads = [capsule_mm(ground.lattice, one, other, sizes.pad_mm) for one, other in combinations_with_replacement(entries, 2)]
    footprint = np.minimum.reduce(pads)
    cap = float(entries[:, 2].max()) + sizes.pad_mm
    base = footing(
        ground,
        relief,
        carrying(ground, relief, footprint, low_mm=float(entries[:, 2].min()) - BELOW_MM, high_mm=cap),
        name=name,
        footprint_mm=footprint,
        deep_mm=OVER_EDGE_MM,
        cap_mm=cap,
        offset_mm=sizes.offset_mm,
        relief_mm=sizes.relief_mm,
        shell_mm=sizes.shell_mm,
        process=process,
        sleeves=sleeves,
    )
    above = union(*(sleeve.tube() for sleeve in sleeves), what=f"{name}: sleeves")
    body = guide_body(base, above, sleeves, name=name)
    handles = handles_of(body) + len(sleeves)
    body = finished(difference(body, *(sleeve.cut() for sleeve in sleeves), what=f"{name}: bores"))
    step = step_of(tuple(sleeve.bore() for sleeve in sleeves), pose=pose)
    return to_part(body, name, functional_faces=guide_faces(sleeves, process), step=step, pose=pose, handles=handles)


def plain_findings(
    part: Part, bone: Bone, *, way: Axis, holes: tuple[Axis, ...], sizes: Sizes, limits: FamilyLimits
) -> tuple[Finding, ...]:
    """Contact, clearance and way out of a plain guide, and each bore against its plan; ``limits`` needs their gates."""
    findings = contact_findings(part, bone.mesh, way, offset_mm=sizes.offset_mm, limits=limits)
    findings += way_out_findings(part, bone.mesh, way, limits)
    for hole in holes:
        findings += bore_findings(part, f"bore-{hole.name}", hole, set_mm=sizes.bore_mm, limits=limits)
    return findings


def _sleeves(
    ground: Ground, relief: Relief, holes: tuple[Axis, ...], entries: FloatArray, outward: FloatArray, sizes: Sizes
) -> tuple[Sleeve, ...]:
    surface = surface_points(ground, relief)
    made = []
    for hole, entry, out in zip(holes, entries, outward, strict=True):
        rim = max(rim_height_mm(entry, out, 0.5 * sizes.bore_mm, surface) + sizes.offset_mm, 0.0)
        made.append(Sleeve(hole.name, entry, out, sizes.bore_mm, sizes.outer_mm, rim + sizes.sleeve_mm))
    return tuple(made)
