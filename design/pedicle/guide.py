"""The body of a pedicle guide, level by level: seat, shell, sleeves, crosslink, label; and a model of the bone with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from batchone.design.booleans import Solid, difference, face_areas, handles_of, solid_from_mesh, to_mesh, to_part, union
from batchone.design.checks.part import is_sound
from batchone.design.contact.field import Float32Array, Lattice
from batchone.design.contact.ground import Relief, ground_of, room_about, seen
from batchone.design.contact.neighbours import Neighbours, neighbours
from batchone.design.contact.seat import CONTACT, BoolArray, Ground
from batchone.design.contact.shell import capsule_mm
from batchone.design.cranial.columns import to_local
from batchone.design.families.pedicle_guide import PEDICLE_GUIDE, PedicleGuideParameters
from batchone.design.family import parameters_of
from batchone.design.guide.body import (
    APART_MM,
    BELOW_MM,
    LEAST_FACING,
    MOST_SIGMA_MM,
    OVER_EDGE_MM,
    Footing,
    carrying,
    footing,
    guide_body,
    guide_faces,
    guide_pose,
    refuse_little,
    shell_top_mm,
)
from batchone.design.guide.crosslink import raised
from batchone.design.guide.finish import finished
from batchone.design.guide.label import LABEL
from batchone.design.guide.mouth import Mouth, mouth_of
from batchone.design.guide.sleeve import Sleeve, refuse_colliding
from batchone.design.guide.window import refuse_narrow, taken_mm, window_in
from batchone.design.model.reduction import reduced
from batchone.design.pedicle.bar import RAISE_MM, bar, label_wordings, marks_on
from batchone.design.pedicle.contact import WIDER_MM, likely_shells
from batchone.design.pedicle.fittings import Fittings, fittings
from batchone.design.pedicle.hooks import deep_mm, hook_ends, hooks_mm, joined_mm
from batchone.design.pedicle.plan import insertion_name, sides_of, way_name
from batchone.design.seating.choose import best_made
from batchone.design.seating.underside import Shape
from batchone.design.solid import Feature, step_of
from batchone.design.tables import Tables
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.side_by_side import beside
from batchone.pipeline.values import Anatomy, Bone, Device, FloatArray, FunctionalFace, Mesh, Part, Plan

_LINK_MM = 24.0  # room looked at for the crosslink, above and below the guide; numerical
_EVEN = 3.0  # numerical: columns over which the lower edge of hooks goes over into that of the pad
_MARGIN_MM = 1.5  # numerical: from the guide to the walls of the grid
_BONE_MM = 0.05  # the bone model may be this much simpler than the bone


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One level: its bone, the guide's pose (z the way out, y towards the head) and what stands there."""

    bone: Bone
    pose: FloatArray
    ground: Ground
    relief: Relief
    room: Lattice
    free_mm: Float32Array
    sleeves: tuple[Sleeve, ...]
    mouths: tuple[Mouth, ...]
    hook_ends_mm: FloatArray


def build_guides(anatomy: Anatomy, plan: Plan, order: Order, process: Process, tables: Tables) -> Device:
    """Make a guide for each level, and the bone models.

    Raises
    ------
    DesignError
        No contact or too little, no room for the crosslink or the label, or a boolean failed.
    """
    chosen, fit = parameters_of(order, PedicleGuideParameters), fittings(order, process, tables)
    refuse_narrow({"window_mm": chosen.window_mm}, process)
    parts: list[Part] = []
    figures: list[tuple[str, float]] = []
    for bone in anatomy.bones:
        others = neighbours(anatomy, bone)
        site = _site(bone, others, plan, order, chosen, fit, process)
        part, more = _guide(site, chosen, process, fit.offset_mm, label_wordings(anatomy, bone, order))
        parts.append(part)
        figures += more
    if chosen.bone_model:
        parts += [_bone_model(bone) for bone in anatomy.bones]
    return Device("pedicle-guide", tuple(parts), tuple(figures))


def _site(
    bone: Bone, others: Neighbours, plan: Plan, order: Order, chosen: PedicleGuideParameters, fit: Fittings, process: Process
) -> Site:
    pose = guide_pose(plan.axis(insertion_name(bone)), bone)
    bore, offset_mm = fit.bore_mm, fit.offset_mm
    outer = bore + 2.0 * chosen.sleeve_wall_mm
    ways = [(side, plan.axis(way_name(bone, side))) for side in sides_of(order)]
    entries = to_local(pose, np.array([way.origin_mm for _, way in ways]))
    outward = np.round(-np.array([way.direction for _, way in ways]) @ pose[:3, :3], 9)
    tops = entries + outward * (chosen.sleeve_mm + RAISE_MM)
    about = np.concatenate([entries, tops]) + np.array([[0.5 * outer], [-0.5 * outer]])[:, None, :]
    about = about.reshape(-1, 3)
    low = np.minimum(about.min(axis=0), entries.min(axis=0) - [_reach_mm(chosen), deep_mm(chosen), BELOW_MM + chosen.hook_mm])
    high = np.maximum(about.max(axis=0), entries.max(axis=0) + _reach_mm(chosen))
    ends = hook_ends(bone, pose, entries, chosen)

    def over(lattice: Lattice) -> BoolArray:
        shadows = [capsule_mm(lattice, entry, top, 0.5 * outer) for entry, top in zip(entries, tops, strict=True)]
        edges = [_pad_mm(lattice, entries, _reach_mm(chosen)), hooks_mm(lattice, entries, ends, chosen), *shadows]
        return np.asarray(np.minimum.reduce(edges) < _MARGIN_MM)

    ground = ground_of(bone, others, pose, low - _MARGIN_MM, high + _MARGIN_MM, offset_mm=offset_mm, over=over)
    wide = np.array([_LINK_MM if len(ways) == 1 else _MARGIN_MM, _LINK_MM, _MARGIN_MM])  # a single sleeve's bar leads aside
    floor = np.array([low[0], low[1], entries[:, 2].min() + _MARGIN_MM])  # bars lie above all entries
    room, free = room_about(ground.bone, others, pose, floor - wide, high + wide)
    relief = seen(ground, bone, most_sigma_mm=MOST_SIGMA_MM, apart_mm=APART_MM, least_facing=LEAST_FACING)
    sleeves, mouths = [], []
    for (side, _), entry, out in zip(ways, entries, outward, strict=True):
        sleeve = Sleeve(f"{bone.name}-{side}", entry, out, bore, outer, chosen.sleeve_mm)
        mouth = mouth_of(sleeve, ground, offset_mm=offset_mm, apart_mm=APART_MM, wall_mm=process.min_wall_mm)
        sleeves.append(replace(sleeve, top_mm=max(mouth.led_from_mm, 0.0) + chosen.sleeve_mm))
        mouths.append(mouth)
    top = max(float(sleeve.at_mm(sleeve.top_mm)[2]) for sleeve in sleeves)  # all stops at one height, so that one bar joins them
    sleeves = [replace(sleeve, top_mm=(top - float(sleeve.entry_mm[2])) / float(sleeve.outward[2])) for sleeve in sleeves]
    refuse_colliding(sleeves)
    return Site(bone, pose, ground, relief, room, free, tuple(sleeves), tuple(mouths), ends)


def _reach_mm(chosen: PedicleGuideParameters) -> float:
    """How far a pad may reach about the line of the entries."""
    return chosen.pad_mm + (WIDER_MM if chosen.optimise_contact else 0.0)


def _pad_mm(lattice: Lattice, entries_mm: FloatArray, reach_mm: float) -> FloatArray:
    """(x, y) signed distance to the edge of the pad about the line of the entries (n, 3)."""
    return capsule_mm(lattice, entries_mm[0], entries_mm[-1], reach_mm)


def _guide(
    site: Site, chosen: PedicleGuideParameters, process: Process, offset_mm: float, words: tuple[tuple[str, ...], ...]
) -> tuple[Part, list[tuple[str, float]]]:
    name = site.bone.name
    entries = np.array([sleeve.entry_mm for sleeve in site.sleeves])
    lattice = site.ground.lattice
    pad, hooks = _pad_mm(lattice, entries, chosen.pad_mm), hooks_mm(lattice, entries, site.hook_ends_mm, chosen)
    wide = _pad_mm(lattice, entries, _reach_mm(chosen))
    footprint = joined_mm(wide, hooks)
    cap = max(float(sleeve.entry_mm[2]) for sleeve in site.sleeves) + chosen.rise_mm
    carries = carrying(site.ground, site.relief, footprint, low_mm=-BELOW_MM, high_mm=cap)
    hangs = (hooks < 0.0) & (pad >= -process.min_wall_mm)  # from within the pad on: what hangs down is nowhere thinner
    deep = ndimage.gaussian_filter(np.where(hangs, max(chosen.hook_mm, OVER_EDGE_MM), OVER_EDGE_MM), _EVEN)
    outer_mm = shell_top_mm(offset_mm, chosen.relief_mm, chosen.shell_mm, process)
    shadows = site.sleeves
    bars, lines = bar(
        name, site.sleeves, site.room, site.free_mm, words if chosen.engrave else (), process,
        relief_mm=chosen.relief_mm, shell_top_mm=outer_mm,
    )  # fmt: skip
    for link in bars:
        site = replace(site, sleeves=tuple(raised(sleeve, link) for sleeve in site.sleeves))
    above = union(
        *(sleeve.tube() for sleeve in site.sleeves), *(solid for link in bars for solid in link.solids()),
        what=f"{name}: sleeves, crosslink",
    )  # fmt: skip

    def lay(shape: Shape) -> Footing:
        return footing(
            site.ground,
            site.relief,
            shape.zones,
            name=name,
            footprint_mm=shape.footprint_mm,
            deep_mm=deep,
            cap_mm=cap,
            offset_mm=offset_mm,
            relief_mm=chosen.relief_mm,
            shell_mm=chosen.shell_mm,
            process=process,
            sleeves=shadows,
            carries=carries,
            bars=bars,
        )

    def draw(shape: Shape) -> Mesh:
        base = lay(shape)
        return base.shell.surface(base.seat)

    shapes: tuple[Shape, ...] = (Shape(carries, footprint),)
    if chosen.optimise_contact and carries.any():
        shapes = likely_shells(
            site.ground,
            site.relief,
            shadows,
            to_mesh(above)[0],
            draw,
            may=carries,
            pad_mm=pad,
            wide_mm=wide,
            hooks_mm=hooks,
            heights_mm=(-BELOW_MM, cap),
            outside_mm=outer_mm,
            offset_mm=offset_mm,
        )

    def make(shape: Shape) -> tuple[Part, list[tuple[str, float]]]:
        window = None
        if chosen.window_mm > 0.0:
            taken = taken_mm(lattice, site.sleeves, bars)
            window = window_in(name, lattice, shape.zones, shape.footprint_mm, taken, diameter_mm=chosen.window_mm)

        def uncut() -> Solid:
            return guide_body(lay(shape), above, site.sleeves, name=name)

        def features() -> tuple[tuple[Feature, ...], tuple[Feature, ...], bytes]:
            holes = (*(sleeve.bore() for sleeve in site.sleeves), *((window.hole(),) if window else ()))
            marks = marks_on(bars[-1], site.sleeves, lines, process) if lines else ()
            return holes, marks, step_of((*holes, *marks), pose=site.pose)

        body, (holes, marks, step) = beside(uncut, features)  # solids on one thread alone: their numbers order the triangles
        tools = (
            *(solid_from_mesh(hole.mesh, hole.name) for hole in holes),
            *(solid_from_mesh(mark.mesh, LABEL) for mark in marks),
            *(mouth.tool() for mouth in site.mouths if mouth.cuts),
        )
        handles = handles_of(body) + len(holes)
        body = finished(difference(body, *tools, what=f"{name}: bores, window, label"))
        part = to_part(
            body,
            f"guide-{name}",
            functional_faces=(*_faces(site, bool(marks), process), *((window.face(process),) if window else ())),
            step=step,
            pose=site.pose,
            handles=handles,
        )
        refuse_little(part, PEDICLE_GUIDE.limits, hint="a larger pad_mm or rise_mm, hooks (hook_mm), or a guide for both sides")
        return part, [("zones_mm2", face_areas(part)[CONTACT])]

    tops = [(f"{sleeve.name}_sleeve_top_mm", sleeve.top_mm) for sleeve in site.sleeves]
    if len(shapes) > 1:

        def sound(part: Part) -> bool:
            return is_sound(part, process, PEDICLE_GUIDE.limits.gates.get("wall_mm"))

        found = best_made(shapes, make, sound, site.bone, site.pose)
        part, figures = found.part, found.figures
    else:
        part, figures = make(shapes[0])
    return part, [*((f"{name}_{title}", value) for title, value in figures), *tops]


def _faces(site: Site, engraved_too: bool, process: Process) -> tuple[FunctionalFace, ...]:
    faces = guide_faces(site.sleeves, process)
    return (*faces, FunctionalFace(LABEL, "names case and level", process.tolerance_mm)) if engraved_too else faces


def _bone_model(bone: Bone) -> Part:
    local = Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces)
    fewer, _ = reduced(local, _BONE_MM)
    model = to_part(solid_from_mesh(fewer, "bone"), f"bone-{bone.name}", pose=bone.frame)
    return replace(model, purpose="bone-model")
