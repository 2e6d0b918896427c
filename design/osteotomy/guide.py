"""The body of an osteotomy guide, bone by bone: seat, plate, saw blocks, sleeves, label; and a model of the bone with it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
from scipy import ndimage

from batchone.design.booleans import (
    Solid,
    difference,
    face_areas,
    handles_of,
    intersects,
    pieces,
    solid_from_mesh,
    to_mesh,
    to_part,
    trimmed,
    union,
)
from batchone.design.checks.part import is_sound
from batchone.design.contact.field import Float32Array, Lattice
from batchone.design.contact.ground import Relief, ground_of, seen
from batchone.design.contact.neighbours import Neighbours, neighbours
from batchone.design.contact.seat import CONTACT, BoolArray, Ground, Seat, make_seat
from batchone.design.contact.shell import Shell, from_nearest, make_shell
from batchone.design.cranial.columns import to_local
from batchone.design.families.osteotomy_guide import OSTEOTOMY_GUIDE, OsteotomyGuideParameters
from batchone.design.family import parameters_of
from batchone.design.guide.body import APART_MM, EDGE_MM, MOST_SIGMA_MM, refuse_little, surface_points
from batchone.design.guide.finish import finished
from batchone.design.guide.label import LABEL, height_mm
from batchone.design.guide.sleeve import Sleeve, rim_height_mm
from batchone.design.guide.slot import BLOCK, Slot, cut_tool, filled
from batchone.design.guide.window import Opening, marks_beside, refuse_narrow, taken_mm, window_in
from batchone.design.model.reduction import reduced
from batchone.design.osteotomy.approach import FACING
from batchone.design.osteotomy.contact import likely_plates
from batchone.design.osteotomy.cuts import Cut, title_of
from batchone.design.osteotomy.fittings import Fittings, fittings
from batchone.design.osteotomy.label import BRIDGE_MM, LABEL_WALL_MM, label_wordings, marks_beside_slot, saw_depths_mm
from batchone.design.osteotomy.layout import ARM_MM, Layout, count_of, laid_out
from batchone.design.osteotomy.plan import ends_of, longer_end, suffix
from batchone.design.seating.choose import best_made
from batchone.design.seating.underside import Shape
from batchone.design.solid import Feature, step_of
from batchone.design.tables import Tables
from batchone.pipeline.errors import DesignError
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Bone, Device, FloatArray, FunctionalFace, Mesh, Part, Plan

SLOT_PIN_MM = 2.0  # wall between a slot and a bore: thinner ones break out; project default, unverified
SLOTS_APART_MM = 1.5  # wall between two slots where they are nearest in the guide; preferred wall of generic SLS design guides
_OPEN_BRIDGE_MM = 9.0  # where only one end joins them; project default, unverified
_LEAST_ZONE_MM = 3.0  # narrower contact is relieved; project default, unverified
_BELOW_MM = 9.0  # bone so far below the highest in the plate is not reached; project default, unverified
_OVER_EDGE_MM = 1.0  # the plate reaches so far below the contact; project default, unverified
_GAP_MM = 5.0  # bone that does not carry, narrower than twice this, lies below the plate all the same; project default
_DRILL_FROM_MM, _DRILL_MM = 4.5, 40.0  # a drill's collar needs room from the stop face so far; project default
_CLOSE_MM = 6.0  # blocks with less than this between their outer faces become one; project default
_THROUGH_MM = 20.0  # numerical: slots are cut so far below their blocks, through whatever is there
_BEFORE_MM = 8.0  # numerical: and so far outside
_SMOOTH = 4.0  # numerical: columns over which the floor is levelled, so that its lower edge is even
_MARGIN_MM = 6.0  # numerical: from the guide to the walls of the grid
_MODEL_MM = 45.0  # the bone model reaches so far beyond the cuts; project default
_BONE_MM = 0.05  # the bone model may be this much simpler than the bone


def build_guides(anatomy: Anatomy, plan: Plan, order: Order, process: Process, tables: Tables) -> Device:
    """Make a guide for each bone, and the bone models.

    Raises
    ------
    DesignError
        No contact or too little, slots or pins that leave too little between them, no room for the label, or a boolean failed.
    """
    chosen, fit = parameters_of(order, OsteotomyGuideParameters), fittings(order, process, tables)
    refuse_narrow({"window_mm": chosen.window_mm, "mark_mm": chosen.mark_mm}, process)
    parts: list[Part] = []
    models: list[Part] = []
    figures: list[tuple[str, float]] = []
    for bone in anatomy.bones:
        end = suffix(anatomy, bone)
        cuts = planned_cuts(plan, bone, end)
        local = Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces)
        downward = longer_end(local, ends_of(cuts)) == 1
        layout = laid_out(bone, plan, end, chosen, fit, downward=downward)
        others = neighbours(anatomy, bone)
        words = label_wordings(anatomy, bone, order, saw_depths_mm(layout, cuts))
        part, more = _guide(bone, others, layout, words, chosen, process, fit, downward=downward)
        parts.append(part)
        figures += [(f"{name}{end}", value) for name, value in more]
        for number, depth_mm in enumerate(saw_depths_mm(layout, cuts), 1):
            figures.append((f"slot-{number}{end}_outer_face_to_stop_mm", depth_mm))
        if chosen.bone_model:
            models.append(_bone_model(bone, local, cuts))
    return Device("osteotomy-guide", (*parts, *models), tuple(figures))


def planned_cuts(plan: Plan, bone: Bone, end: str) -> tuple[Cut, ...]:
    """The plan's cuts of a bone, in its frame."""
    found = []
    for number in range(1, count_of(plan, "cut", end) + 1):
        plane, way = plan.plane(f"cut-{number}{end}"), plan.axis(f"blade-{number}{end}")
        origin = to_local(bone.frame, np.array([plane.origin_mm]))[0]
        normal, advance = (np.array(v) @ bone.frame[:3, :3] for v in (plane.normal, way.direction))
        depth = way.length_mm or 0.0
        found.append(Cut(origin, normal, advance, depth, depth))
    return tuple(found)


def _guide(
    bone: Bone, others: Neighbours, layout: Layout, words: tuple[tuple[str, ...], ...],
    chosen: OsteotomyGuideParameters, process: Process, fit: Fittings, *, downward: bool,
) -> tuple[Part, list[tuple[str, float]]]:  # fmt: skip
    name = title_of(bone)
    blocks, label_slot = _blocks(layout, words[-1], chosen, process, downward=downward)
    ground = _ground(bone, others, layout, blocks, chosen, fit)
    relief = seen(ground, bone, most_sigma_mm=MOST_SIGMA_MM, apart_mm=APART_MM, least_facing=FACING)
    sleeves = _stopped(layout, ground, relief, chosen, fit)
    _refuse_thin(layout.slots, sleeves)
    _refuse_blocked(blocks, sleeves)
    plate, arm = layout.plate(ground.lattice), layout.arm(ground.lattice)
    carries = _carries(relief, ground, plate, arm, name)
    zones = carries & (np.minimum(plate, layout.foot(ground.lattice)) <= -EDGE_MM)
    lowest = ndimage.gaussian_filter(from_nearest(np.where(carries, relief.height_mm, 0.0), carries), _SMOOTH)
    footprint = np.maximum(np.minimum(plate, arm), _beyond_mm(carries, ground) - _OVER_EDGE_MM - EDGE_MM)
    footprint = np.minimum(footprint, layout.seats(ground.lattice))
    above = union(*blocks, *(sleeve.tube() for sleeve in sleeves), what=f"{name}: blocks, sleeves")

    def lay(shape: Shape) -> tuple[Seat, Shell]:
        seat = make_seat(ground, zones=shape.zones, offset_mm=fit.offset_mm, relief_mm=chosen.relief_mm, apart_mm=APART_MM)
        shell = make_shell(
            ground,
            _with_slots(seat, ground, layout.slots),
            footprint_mm=shape.footprint_mm,
            floor_mm=lowest - _OVER_EDGE_MM,
            cap_mm=np.full(shape.zones.shape, float(ground.lattice.z_mm[-3])),
            outside_mm=fit.offset_mm + chosen.shell_mm,
            wall_mm=max(chosen.shell_mm - chosen.relief_mm, process.min_wall_mm),
        )
        return seat, shell

    def draw(shape: Shape) -> Mesh:
        seat, shell = lay(shape)
        return shell.surface(seat)

    def make(shape: Shape) -> tuple[Part, list[tuple[str, float]]]:
        seat, shell = lay(shape)
        body = difference(union(above, shell.solid(), what=f"{name}: plate"), seat.solid(), what=f"{name}: seat")
        handles = handles_of(body) + len(sleeves) + (len(layout.slots) if chosen.slot == "captured" else 0)
        cuts = tuple(_slot_feature(slot, bone, layout, chosen) for slot in layout.slots)
        bores = tuple(sleeve.bore() for sleeve in sleeves)
        taken = taken_mm(ground.lattice, sleeves, blocks=blocks)
        openings = _openings(name, layout, ground, relief, shape.zones, shape.footprint_mm, taken, chosen)
        holes = tuple(opening.hole() for opening in openings)
        tools = (*(cut_tool(one) for one in (*cuts, *holes)), *(sleeve.cut() for sleeve in sleeves))
        body = difference(body, *tools, what=f"{name}: slots, bores, openings")
        handles += len(openings)
        marks: tuple[Feature, ...] = ()
        if chosen.engrave:
            marks = marks_beside_slot(label_slot, words, chosen, process, upward=not downward)
            body = difference(body, *(solid_from_mesh(mark.mesh, LABEL) for mark in marks), what=f"{name}: label")
        whole = finished(_whole(body, name, sleeves))
        part = to_part(
            whole,
            f"guide-{name}",
            functional_faces=(
                *_faces(layout.slots, sleeves, process, engraved_too=bool(marks)),
                *(opening.face(process) for opening in openings),
            ),
            step=step_of((*cuts, *bores, *holes, *marks), pose=layout.pose),
            pose=layout.pose,
            handles=handles,
        )
        refuse_little(part, OSTEOTOMY_GUIDE.limits, hint="a larger plate_mm, or another approach")
        return part, [("zones_mm2", face_areas(part)[CONTACT])]

    if not chosen.optimise_contact:
        return make(Shape(zones, footprint))
    plates = likely_plates(Shape(zones, footprint), draw, layout, ground, relief, to_mesh(above)[0], chosen, fit)

    def sound(part: Part) -> bool:
        return is_sound(part, process, OSTEOTOMY_GUIDE.limits.gates.get("wall_mm"))

    found = best_made(plates, make, sound, bone, layout.pose)
    return found.part, found.figures


def _openings(
    name: str, layout: Layout, ground: Ground, relief: Relief, zones: BoolArray, shell_mm: FloatArray, above_mm: FloatArray,
    chosen: OsteotomyGuideParameters,
) -> tuple[Opening, ...]:  # fmt: skip
    """The marks beside the cuts and the inspection window, as ordered; the window keeps away from the marks."""
    lattice = ground.lattice
    found: tuple[Opening, ...] = ()
    if chosen.mark_mm > 0.0:
        found = marks_beside(name, lattice, relief.height_mm, layout.slots, shell_mm, above_mm, diameter_mm=chosen.mark_mm)
    if chosen.window_mm > 0.0:
        for mark in found:
            above_mm = np.minimum(above_mm, np.hypot(lattice.x_mm - mark.x_mm, lattice.y_mm - mark.y_mm) - 0.5 * mark.diameter_mm)
        found += (window_in(name, lattice, zones, shell_mm, above_mm, diameter_mm=chosen.window_mm),)
    return found


def _ground(
    bone: Bone,
    others: Neighbours,
    layout: Layout,
    blocks: tuple[Solid, ...],
    chosen: OsteotomyGuideParameters,
    fit: Fittings,
) -> Ground:
    """The bone under everything that may come near it."""
    boxes = np.array([block.manifold.bounding_box() for block in blocks]).reshape(-1, 2, 3)
    corners = [boxes[:, 0, :2].min(axis=0), boxes[:, 1, :2].max(axis=0), layout.low_mm, layout.high_mm]
    if layout.arm_mm is not None:
        corners += [layout.arm_mm.min(axis=0) - 6.0, layout.arm_mm.max(axis=0) + 6.0]
    low, high = np.min(corners, axis=0) - 2.0, np.max(corners, axis=0) + 2.0
    points = layout.bone.vertices_mm
    over = ((points[:, :2] >= low) & (points[:, :2] <= high)).all(axis=1)
    plate = ((points[:, :2] >= layout.low_mm) & (points[:, :2] <= layout.high_mm)).all(axis=1)
    top = float(points[over, 2].max(initial=0.0))
    bottom = min(float(boxes[:, 0, 2].min()), float(points[plate, 2].max(initial=0.0)) - _BELOW_MM)
    if layout.arm_mm is not None:
        tip = np.linalg.norm(points[:, :2] - layout.arm_mm[1], axis=1) <= ARM_MM
        bottom = min(bottom, float(points[tip, 2].max(initial=-np.inf)) - _BELOW_MM) if tip.any() else bottom
    bottom -= _MARGIN_MM
    return ground_of(
        bone,
        others,
        layout.pose,
        np.array([low[0], low[1], bottom]),
        np.array([high[0], high[1], top + chosen.shell_mm + _MARGIN_MM]),
        offset_mm=fit.offset_mm,
    )


def _carries(relief: Relief, ground: Ground, plate: FloatArray, arm: FloatArray, name: str) -> BoolArray:
    """Where the guide may touch: carrying bone inside the edges, none far below the highest in the plate, in no thin strips."""
    height = np.nan_to_num(relief.height_mm, nan=-np.inf)
    good = relief.carries & (plate <= -EDGE_MM)
    if good.any():
        good &= height >= float(height[good].max()) - _BELOW_MM
    good |= relief.carries & (arm <= -EDGE_MM) & (plate > 0.0)
    cells = max(1, round(0.5 * _LEAST_ZONE_MM / ground.lattice.step_mm))
    y, x = np.mgrid[-cells : cells + 1, -cells : cells + 1]
    good = np.asarray(ndimage.binary_opening(good, structure=np.hypot(x, y) <= cells))
    if not good.any():
        raise DesignError(
            f"{name}: no bone that may carry lies under the guide (0 mm2)", hint="another approach, or look at the bone"
        )
    return good


def _beyond_mm(carries: BoolArray, ground: Ground) -> FloatArray:
    """(x, y) how far each column is from where the bone carries, small gaps in it closed, its outline rounded."""
    step = ground.lattice.step_mm
    cells = round(_GAP_MM / step)
    whole = ndimage.distance_transform_edt(ndimage.distance_transform_edt(~carries) <= cells) > cells
    outside = np.where(whole, -ndimage.distance_transform_edt(whole), ndimage.distance_transform_edt(~whole))
    return np.asarray(ndimage.gaussian_filter(outside * step, _SMOOTH))


def _blocks(
    layout: Layout, lines: tuple[str, ...], chosen: OsteotomyGuideParameters, process: Process, *, downward: bool
) -> tuple[tuple[Solid, ...], Slot]:
    """A block round each slot, those that stand close joined; and the slot beside which the label stands."""
    ordered = sorted(layout.slots, key=lambda slot: float(slot.middle_mm[1]))
    label_slot = ordered[0] if downward else ordered[-1]
    room = height_mm(lines, process) + LABEL_WALL_MM if chosen.engrave else 0.0
    ends = _OPEN_BRIDGE_MM if chosen.slot == "open" else BRIDGE_MM
    blocks = []
    for slot in ordered:
        wide = max(chosen.slot_wall_mm, room) if slot is label_slot else chosen.slot_wall_mm
        towards_label = (float(slot.normal[1]) < 0.0) == downward
        above, below = (wide, chosen.slot_wall_mm) if towards_label else (chosen.slot_wall_mm, wide)
        blocks.append(slot.block(ends_mm=ends, above_mm=above, below_mm=below))
    between = [
        _below_outer_faces(filled(blocks[k], blocks[k + 1]), (one, other))
        for k, (one, other) in enumerate(pairwise(ordered))
        if _outer_gap_mm(one, other) - 2.0 * chosen.slot_wall_mm < _CLOSE_MM
    ]
    return (*blocks, *between), label_slot


def _below_outer_faces(between: Solid, slots: tuple[Slot, ...]) -> Solid:
    """What fills the room between two blocks, without what stands over the outer faces: there the saw's depth begins, and one
    carries the label."""
    for slot in slots:
        face = slot.at_mm(0.0, slot.along_mm[0])
        between = trimmed(between, origin_mm=face, normal=slot.advance, label=BLOCK, what="between blocks")
    return between


def _with_slots(seat: Seat, ground: Ground, slots: tuple[Slot, ...]) -> Seat:
    """The seat, with the slots as room that is taken too: no thin strip of plate is left between a slot and the plate's edge."""
    lattice = ground.lattice
    free = seat.free_mm
    for slot in slots:
        low, high = slot.across_mm
        above = np.abs(_along(lattice, slot.middle_mm, slot.normal)) - np.float32(0.5 * slot.width_mm)
        beside = np.abs(_along(lattice, slot.at_mm(0.5 * (low + high), 0.0), slot.across)) - np.float32(0.5 * (high - low))
        free = np.minimum(free, np.maximum(above, beside))
    return replace(seat, free_mm=free)


def _along(lattice: Lattice, place_mm: FloatArray, direction: FloatArray) -> Float32Array:
    """(x, y, z) how far each voxel lies along a direction from a place."""
    level = (lattice.x_mm - place_mm[0]) * direction[0] + (lattice.y_mm - place_mm[1]) * direction[1]
    up = ((lattice.z_mm - place_mm[2]) * direction[2]).astype(np.float32)
    return np.asarray(level.astype(np.float32)[:, :, None] + up)


def _outer_gap_mm(one: Slot, other: Slot) -> float:
    """Between two slots at their outer ends."""
    return abs(float((other.at_mm(0.0, other.along_mm[0]) - one.at_mm(0.0, one.along_mm[0])) @ one.normal))


def _stopped(
    layout: Layout, ground: Ground, relief: Relief, chosen: OsteotomyGuideParameters, fit: Fittings
) -> tuple[Sleeve, ...]:
    """The sleeves with their stop faces as far from the bone as set."""
    surface = surface_points(ground, relief)
    found = []
    for sleeve in layout.sleeves:
        rim = rim_height_mm(sleeve.entry_mm, sleeve.outward, 0.5 * sleeve.bore_mm, surface) + fit.offset_mm
        found.append(replace(sleeve, top_mm=max(rim, 0.0) + chosen.sleeve_mm))
    return tuple(found)


def _refuse_thin(slots: tuple[Slot, ...], sleeves: tuple[Sleeve, ...]) -> None:
    """Slots and bores that leave too little between them are refused by name."""
    for slot in slots:
        for sleeve in sleeves:
            left = slot_pin_mm(slot, sleeve)
            if left < SLOT_PIN_MM:
                raise DesignError(
                    f"{slot.label} and {sleeve.bore_label} leave a wall of {left:.1f} mm, at least {SLOT_PIN_MM:g} mm",
                    hint="a larger pin_from_cut_mm, or move the pin",
                )
    for one, other in combinations(slots, 2):
        left = slots_apart_mm(one, other)
        if left < SLOTS_APART_MM:
            raise DesignError(
                f"{one.label} and {other.label} leave a wedge of {left:.1f} mm between them, at least {SLOTS_APART_MM:g} mm",
                hint="a larger wedge_deg, a thinner blade, planes further apart, or one guide for each cut",
            )


def _refuse_blocked(blocks: tuple[Solid, ...], sleeves: tuple[Sleeve, ...]) -> None:
    """A drill must reach each sleeve past the saw blocks."""
    for sleeve in sleeves:
        drill = replace(sleeve, entry_mm=sleeve.at_mm(sleeve.top_mm + _DRILL_FROM_MM))
        room = solid_from_mesh(drill.bar(sleeve.outer_mm, _DRILL_MM).mesh, "drill")
        if any(intersects(block, room) for block in blocks):
            raise DesignError(
                f"{sleeve.bore_label} comes out inside of a saw block: no room for a drill above it",
                hint="a larger pin_from_cut_mm, a longer sleeve_mm, or move the pin",
            )


def slot_pin_mm(slot: Slot, sleeve: Sleeve) -> float:
    """Wall between a slot's faces and a bore, over the length of the sleeve."""
    ends = np.array([sleeve.at_mm(0.0), sleeve.at_mm(sleeve.top_mm)])
    heights = (ends - slot.middle_mm) @ slot.normal
    if heights[0] * heights[1] <= 0.0:
        return 0.0
    slope = float(np.sqrt(max(1.0 - float(slot.normal @ sleeve.outward) ** 2, 0.0)))
    return max(float(np.abs(heights).min()) - 0.5 * (slot.width_mm + sleeve.bore_mm * slope), 0.0)


def slots_apart_mm(one: Slot, other: Slot) -> float:
    """Material between two slots within their blocks, where they are nearest; 0 where they cross."""
    apart = []
    for first, second in ((one, other), (other, one)):
        corners = np.array([first.at_mm(across, along) for across in first.across_mm for along in first.along_mm])
        heights = (corners - second.middle_mm) @ second.normal
        if heights.min() * heights.max() <= 0.0:
            return 0.0
        apart.append(float(np.abs(heights).min()))
    return max(min(apart) - 0.5 * (one.width_mm + other.width_mm), 0.0)


def _slot_feature(slot: Slot, bone: Bone, layout: Layout, chosen: OsteotomyGuideParameters) -> Feature:
    """The slot as it is cut; an open one is open at the end in front."""
    end = 0.0
    if chosen.slot == "open":
        front = -bone.frame[:3, 1] @ layout.pose[:3, :3]
        end = 1.0 if float(slot.across @ front) > 0.0 else -1.0
    return slot.feature(before_mm=_BEFORE_MM, beyond_mm=_THROUGH_MM, open_end=end, open_mm=_OPEN_BRIDGE_MM + 1.0)


def _whole(body: Solid, name: str, sleeves: tuple[Sleeve, ...]) -> Solid:
    """The largest piece, which must hold every sleeve."""
    parts = pieces(body)
    labels = to_mesh(parts[0])[2]
    lost = [sleeve.name for sleeve in sleeves if sleeve.stop_label not in labels]
    if lost:
        raise DesignError(
            f"{name}: the guide falls into {len(parts)} pieces, {', '.join(lost)} not on the largest; must be 1 piece",
            hint="another approach, a shorter extension_mm, a larger plate_mm or shell_mm, or other pins",
        )
    return parts[0]


def _faces(
    slots: tuple[Slot, ...], sleeves: tuple[Sleeve, ...], process: Process, *, engraved_too: bool
) -> tuple[FunctionalFace, ...]:
    tolerance = process.tolerance_mm
    faces = [FunctionalFace(CONTACT, "sits on the bone", tolerance)]
    faces += [FunctionalFace(slot.label, "leads the saw", tolerance) for slot in slots]
    for sleeve in sleeves:
        faces.append(FunctionalFace(sleeve.bore_label, "leads the pin", tolerance))
        faces.append(FunctionalFace(sleeve.stop_label, "stops the drill", tolerance))
    if engraved_too:
        faces.append(FunctionalFace(LABEL, "names case, bone and side", tolerance))
    return tuple(faces)


def _bone_model(bone: Bone, local: Mesh, cuts: tuple[Cut, ...]) -> Part:
    """The stretch of bone about the cuts."""
    fewer, _ = reduced(local, _BONE_MM)
    heights = np.array([(one.origin_mm[2], one.end_mm[2]) for one in cuts])
    model = solid_from_mesh(fewer, "bone")
    for height, up in ((float(heights.min()) - _MODEL_MM, 1.0), (float(heights.max()) + _MODEL_MM, -1.0)):
        model = trimmed(
            model,
            origin_mm=np.array([0.0, 0.0, height]),
            normal=np.array([0.0, 0.0, up]),
            label="end",
            what=f"{title_of(bone)}: model",
        )
    return replace(to_part(model, f"bone-{title_of(bone)}", pose=bone.frame), purpose="bone-model")
