"""The corpus: every fault with the device it is seeded in and the check that must find it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from batchone.samples.faulty import broken_mesh, misbuilt, misguided, mislabelled, misplanned, misshapen
from batchone.samples.faulty.case import Fault, Seeder
from batchone.samples.faulty.good import TEMPLATE
from batchone.samples.vault_hole import hole_axes

PEDICLE, WINDOWED, SHAFT, TIBIAL, RESIN, IMPLANT, MODEL, HOLLOW = (
    "pedicle-guide", "windowed-guide", "osteotomy-guide", "tibial-guide", "resin-guide", "cranial-implant", "anatomical-model",
    "hollow-model",
)  # fmt: skip
DEVICES = (PEDICLE, SHAFT, IMPLANT, MODEL, TEMPLATE)  # every kind of mesh fault is seeded in these
GUIDES = (PEDICLE, SHAFT, TEMPLATE)
MADE = (PEDICLE, SHAFT, IMPLANT, TEMPLATE)  # not as the bone is
BORES = {
    PEDICLE: (("bore-L3-left", "trajectory-L3-left"), ("bore-L3-right", "trajectory-L3-right")),
    SHAFT: (("bore-pin-1", "pin-1"), ("bore-pin-4", "pin-4")),
    TEMPLATE: (("bore-hole-1", "hole-1"), ("bore-hole-2", "hole-2")),
}
BORE_BY = {PEDICLE: "leads_the_drill", SHAFT: "leads_the_pins", TEMPLATE: "sits_and_leads"}
SITS_BY = {PEDICLE: "sits_on_bone", SHAFT: "sits_on_bone", TEMPLATE: "sits_and_leads"}
SLIDES_BY = {PEDICLE: "slides_on", SHAFT: "slides_on", TEMPLATE: "sits_and_leads"}
WAYS_OUT = {PEDICLE: "insertion-L3", SHAFT: "insertion", TEMPLATE: "insertion"}
_SIDEWAYS = np.array([0.6, 0.0, 0.8])

_MESH: tuple[tuple[str, str, str, Callable[[int], Seeder]], ...] = (
    ("flipped triangle", "mesh", "face opposite ways", broken_mesh.flipped_triangle),
    ("pinhole", "mesh", "open edges", broken_mesh.pinhole),
    ("triangle there twice", "mesh", "more than two triangles", broken_mesh.doubled_triangle),
    ("pinched vertex", "mesh", "join sheets in one point", broken_mesh.pinched_vertex),
    ("self-intersection", "mesh", "pass through others", broken_mesh.crossing_shell),
    ("vertex through the opposite wall", "mesh", "pass through others", broken_mesh.pushed_vertex),
    ("detached island", "mesh", "separate pieces", broken_mesh.island),
    ("trapped cavity", "cavities", "closed cavities", broken_mesh.trapped_cavity),
    ("touching shells", "coincident", "lie on another one", broken_mesh.touching_shell),
    ("double face", "coincident", "lie on another one", broken_mesh.double_face),
)


def faults() -> tuple[Fault, ...]:
    """All faults, those just inside their limits too; those of the drill template for where its package is installed."""
    return (
        *_of_meshes(), *_of_shape(), *_of_walls(), *_of_form(), *_of_bores(), *_of_slots(), *_of_contact(), *_of_labels(),
        *_of_plans(), *_of_structures(), *_of_models(), *_of_seats(),
    )  # fmt: skip


def _of_meshes() -> list[Fault]:
    found = [
        Fault(kind, device, check, what, make(place), place)
        for kind, check, what, make in _MESH
        for device in DEVICES
        for place in range(2)
        if not (kind == "trapped cavity" and device == IMPLANT and place > 0)
    ]
    what = "triangles without height"
    return [
        *found,
        *(Fault("triangle without height", MODEL, "mesh", what, broken_mesh.sliver(k), k, verdict="warn") for k in (0, 1)),
    ]


def _of_shape() -> list[Fault]:
    found = []
    for device in DEVICES:
        found += [
            Fault("unit: inch read as mm", device, "placement", "largest side beyond the room", misbuilt.scaled(25.4)),
            Fault("inside out", device, "mesh", ": volume", misbuilt.inside_out()),
        ]
    for device in (PEDICLE, SHAFT, MODEL, TEMPLATE):
        found.append(Fault("unit: cm read as mm", device, "envelope", "inside the design envelope", misbuilt.scaled(0.1)))
    for device in GUIDES:
        labels = ("contact", BORES[device][0][0]) if device == TEMPLATE else ("contact", "label", BORES[device][0][0])
        found += [
            Fault("bar out of the envelope", device, "envelope", "longest", misbuilt.bar(230.0, 0)),
            Fault("mirrored part", device, "bore", "axis", misbuilt.mirrored(), by=BORE_BY[device]),
            Fault(
                "part moved by 0.5 mm",
                device,
                "contact",
                "95 % of the contact",
                misbuilt.moved(_SIDEWAYS, 0.5),
                by=SITS_BY[device],
            ),
            *(Fault("lost face label", device, "faces", "least area", misbuilt.lost_label(label)) for label in labels),
        ]
    across, along, out = hole_axes().T
    inward = 0.15 * across - out
    fits, clear, gap = "slides_in", "bone_kept_clear", "border_gap_found"
    return [
        *found,
        Fault("unit: mm read as cm", IMPLANT, "size", "length", misbuilt.scaled(10.0), by="in_plane_size"),
        Fault("part sunk by 3 mm", IMPLANT, "insertion", "least distance on the way", misbuilt.moved(inward, 3.0), by=fits),
        Fault("part moved by 0.8 mm", IMPLANT, "overlap", "volume shared", misbuilt.moved(across, 0.8), by=clear),
        Fault("part moved by 0.8 mm", IMPLANT, "distance to bone", "other faces", misbuilt.moved(across, 0.8), by=clear),
        Fault("part moved by 0.3 mm", IMPLANT, "border gap", "least minus", misbuilt.moved(along, 0.3), by=gap),
        Fault("mirrored part", IMPLANT, "border gap", "95th", misbuilt.mirrored(), by=gap),
        Fault("part moved by 0.05 mm", IMPLANT, "border gap", "least minus", misbuilt.moved(across, 0.05), sound=True, by=gap),
    ]


def _of_walls() -> list[Fault]:
    found, spot = [], "thinnest spot"
    for device in MADE:
        found += [Fault("thin fin, 0.3 mm", device, "walls", "99.9 %", misbuilt.fin(0.3, place), place) for place in range(3)]
        found += [
            Fault("pin of 0.7 mm", device, "walls", spot, misshapen.pin(0.7, 0)),
            Fault("pin of 0.75 mm", device, "pins", "thinnest pin", misshapen.pin(0.75, 0)),
        ]
        if device == TEMPLATE:  # it turns by as much as it may: another shape draws other seats, and may warn
            continue
        found += [
            Fault("fin of 1.05 mm", device, "walls", "99.9 %", misbuilt.fin(1.05, 0), sound=True),
            Fault("fin of 1.05 mm", device, "walls", spot, misbuilt.fin(1.05, 0), sound=True),
            Fault("pin of 1.1 mm", device, "walls", spot, misshapen.pin(1.1, 0), sound=True),
        ]
    by_fff = {wide_mm: misplanned.made_by("peek-fff", misshapen.pin(wide_mm, 0, tall_mm=10.0)) for wide_mm in (2.9, 3.1)}
    found += [
        Fault("pin of 2.9 mm, by FFF", IMPLANT, "pins", "thinnest pin", by_fff[2.9]),
        Fault("pin of 3.1 mm, by FFF", IMPLANT, "pins", "thinnest pin", by_fff[3.1], sound=True),
    ]
    for device in (PEDICLE, IMPLANT, TEMPLATE):
        found += [
            *(
                Fault("wall of 0.3 mm over 1 mm", device, "walls", spot, misbuilt.dented(0.3, place, side_mm=1.0), place)
                for place in (0, 1)
            ),
            Fault("wall of 1.4 mm over 1 mm", device, "walls", spot, misbuilt.dented(1.4, 1, side_mm=1.0), sound=True),
        ]
    thick = "thick_enough"
    return [
        *found,
        *(
            Fault("wall of 0.3 mm", IMPLANT, "walls", "99.9 %", misbuilt.dented(0.3, place, side_mm=4.0), place)
            for place in range(4)
        ),
        *(
            Fault("wall of 0.8 mm", IMPLANT, "thickness", "thinnest", misbuilt.thinned(0.8, place), place, by=thick)
            for place in (0, 1)
        ),
        Fault("wall of 1.1 mm", IMPLANT, "thickness", "thinnest", misbuilt.thinned(1.1, 0), sound=True, by=thick),
    ]


def _of_form() -> list[Fault]:
    found = []
    for device in MADE:
        fins = 1 if device in (TEMPLATE, PEDICLE) else 3  # places with room about them
        found += [
            *(Fault("way nobody ordered", device, "handles", "ways through", misshapen.pierced(1.2, k), k) for k in range(2)),
            Fault("edge of 20 deg", device, "sharp", "longest edge", misshapen.blade(20.0, 0)),
            Fault("edge of 20 deg, 0.6 mm long", device, "sharp", "longest edge", misshapen.blade(20.0, 0, long_mm=0.6)),
            Fault("pointed spike", device, "sharp", "points", misshapen.spike(4.0, 0.5, 0)),
            Fault("blunt spike", device, "sharp", "points", misshapen.spike(1.5, 1.5, 0), sound=True),
            Fault("room with a neck of 1.6 mm", device, "rooms", "rooms", misshapen.bottle(1.6, 0)),
            Fault("channel of 3.9 mm", device, "channels", "narrowest channel", misshapen.channel(3.9, 0), verdict="warn"),
        ]
        edge = "longest edge"
        if device != TEMPLATE:  # it turns by as much as it may: another shape draws other seats, and may warn
            short = misshapen.blade(20.0, 0, long_mm=0.4, tall_mm=0.2)
            found.append(Fault("edge of 20 deg, 0.4 mm long", device, "sharp", edge, short, sound=True))
        if device not in (PEDICLE, TEMPLATE):  # they are too thin for it
            dull = misshapen.blade(35.0, 0, long_mm=1.2, tall_mm=1.0)
            found.append(Fault("edge of 35 deg", device, "sharp", edge, dull, sound=True))
        found += [
            Fault("gap of 0.3 mm", device, "gaps", "elsewhere", misshapen.twin_fins(0.3, fins), verdict="warn"),
            Fault("gap of 0.55 mm", device, "gaps", "elsewhere", misshapen.twin_fins(0.55, fins), sound=True),
        ]
    for device in GUIDES:
        label, axis = BORES[device][0]
        found += [
            Fault("rod 0.3 mm from its bore", device, "gaps", "functional", misguided.rod_in_bore(label, axis, 0.3)),
            Fault("gap that leads, of 0.45 mm", device, "gaps", "functional", misshapen.twin_fins(0.45, 0, "leads a wire")),
        ]
        if device != TEMPLATE:
            wide = misshapen.twin_fins(0.55, 0, "leads a wire")
            found.append(Fault("gap that leads, of 0.55 mm", device, "gaps", "functional", wide, sound=True))
    for device, label in ((PEDICLE, "mark-new"), (SHAFT, "mark-new"), (IMPLANT, "perforation")):
        what, hole = "narrowest hole", misshapen.pierced
        found += [
            Fault("hole of 1.4 mm", device, "openings", what, hole(1.4, 0, label)),
            Fault("hole of 1.55 mm", device, "openings", what, hole(1.55, 0, label), sound=True),
        ]
    for device in (TIBIAL, IMPLANT):  # others have no place with so much room that nothing else is wrong
        found.append(Fault("room with a neck of 3.6 mm", device, "rooms", "rooms", misshapen.bottle(3.6, 0), sound=True))
    wide = misshapen.channel(4.1, 0)
    found.append(Fault("channel of 4.1 mm", TIBIAL, "channels", "narrowest channel", wide, sound=True))
    area, air = "a cup seals", "needs a support"
    found += [
        Fault("knobs that carry", RESIN, "orient.functional", air, misshapen.knobs("contact")),
        Fault("knobs that carry nothing", RESIN, "orient.functional", air, misshapen.knobs("knob"), sound=True),
    ]
    found += [
        Fault("cups both ways, 8 mm wide", RESIN, "cups", area, misshapen.cups_both_ways(4.0)),
        Fault("cups both ways, 6 mm wide", RESIN, "cups", area, misshapen.cups_both_ways(3.0)),
        Fault("cups both ways, 3 mm wide", RESIN, "cups", area, misshapen.cups_both_ways(1.5), sound=True),
    ]
    beside = {PEDICLE: ("bore-L3-left", "bore-new"), TEMPLATE: ("bore-hole-1", "bore-new"), IMPLANT: ("fixation", "perforation")}
    for device, (label, new) in beside.items():
        found += [
            Fault("thin wedge, 0.4 mm", device, "wedges", "material", misshapen.hole_beside(label, new, 0.4)),
            Fault("wedge of 1.1 mm", device, "wedges", "material", misshapen.hole_beside(label, new, 1.1), sound=True),
        ]
    return found


def _of_bores() -> list[Fault]:
    found = []
    for device in GUIDES:
        by = BORE_BY[device]
        for place, (label, axis) in enumerate(BORES[device]):
            for kind, what, seed, sound in (
                ("sleeve off by 0.5 mm", "axis off", misguided.bore_moved(label, axis, 0.5), False),
                ("sleeve off by 0.04 mm", "axis off", misguided.bore_moved(label, axis, 0.04), True),
                ("sleeve tilted by 0.5 deg", "axis against", misguided.bore_tilted(label, axis, 0.5), False),
                ("sleeve tilted by 0.09 deg", "axis against", misguided.bore_tilted(label, axis, 0.09), True),
                ("bore shrunk by 0.1 mm", "diameter", misguided.bore_resized(label, axis, -0.1), False),
                ("bore widened by 0.1 mm", "diameter", misguided.bore_resized(label, axis, 0.1), False),
                ("bore widened by 0.015 mm", "diameter", misguided.bore_resized(label, axis, 0.015), True),
                ("bore filled", "open", misguided.bore_plugged(label, axis, 1.0), False),
            ):
                if sound and (device == TEMPLATE or ("widened" in kind and place > 0)):
                    continue  # so near other limits is the template, and so narrow are facets there, that more is said of either
                found.append(Fault(kind, device, "bore", f"{label}, {what}", seed, place, sound, by))
    return found


def _of_slots() -> list[Fault]:
    one, label, plane, by = SHAFT, "slot-1", "cut-1", "leads_the_saw"
    return [
        Fault(kind, one, "slot", what, seed, by=by)
        for kind, what, seed in (
            ("slot off by 0.1 mm", "middle off", misguided.slot_moved(label, plane, 0.1)),
            ("slot turned by 0.3 deg", "against the plan", misguided.slot_turned(label, plane, 0.3)),
            ("slot narrowed by 0.1 mm", "width minus", misguided.slot_resized(label, plane, -0.1)),
            ("slot widened by 0.1 mm", "width minus", misguided.slot_resized(label, plane, 0.1)),
            ("slot filled over 3 mm", "least depth", misguided.slot_filled(label, plane, 3.0)),
        )
    ]


def _of_contact() -> list[Fault]:
    found = []
    for device in GUIDES:
        by = SITS_BY[device]
        for place in range(4):
            lifted, dug = misguided.contact_dented(0.3, place), misguided.contact_dented(-0.3, place)
            found += [
                Fault("contact lifted by 0.3 mm", device, "contact", "largest in it", lifted, place, by=by),
                Fault("contact dug in by 0.3 mm", device, "clearance", "nearest", dug, place, by=by),
            ]
        below, out = misguided.undercut(WAYS_OUT[device], 0), SLIDES_BY[device]
        found += [
            Fault(
                "contact lifted by 0.08 mm",
                device,
                "contact",
                "largest in it",
                misguided.contact_dented(0.08, 0),
                sound=True,
                by=by,
            ),
            Fault("undercut", device, "way-out", "area below bone", below, by=out),
        ]
    return found


def _of_labels() -> list[Fault]:
    by, said, arrow = "says_what_it_is", "characters of the label", "arrow of the label"
    found = [
        fault
        for device in (PEDICLE, SHAFT)
        for fault in (
            Fault("mirrored label", device, "label", said, mislabelled.label_changed("mirrored"), by=by),
            Fault("filled label", device, "label", said, mislabelled.label_changed("filled"), by=by),
            Fault("label upside down", device, "label", arrow, mislabelled.label_changed("upside down"), by=by),
            Fault("label of another case", device, "label", said, mislabelled.of_another_case(), by=by),
        )
    ]
    return [
        *found,
        Fault("label of another case", IMPLANT, "label", said, mislabelled.of_another_case(), by=by),
        Fault("label left out", IMPLANT, "label", said, mislabelled.left_out(IMPLANT), by=by),
    ]


def _of_plans() -> list[Fault]:
    left, right = "trajectory-L3-left", "trajectory-L3-right"
    fit, hold, cuts, near = "screws_fit", "pins_hold", "cuts_fit", "keeps_off_neighbours"
    seeds, cover = misplanned, misguided.window_covered
    return [
        Fault("order of another level", PEDICLE, "ordered", "not ordered", seeds.ordered_for(bones=("L2",))),
        Fault("order of this level", PEDICLE, "ordered", "not ordered", seeds.ordered_for(bones=("L3",)), sound=True),
        Fault("order of the other side", SHAFT, "ordered", "not ordered", seeds.ordered_for("right")),
        Fault("order of the other side", MODEL, "ordered", "not ordered", seeds.ordered_for("right")),
        Fault("way 5 mm towards the canal", PEDICLE, "medial-wall", "left", seeds.axis_moved(left, (-5.0, 0.0, 0.0)), by=fit),
        Fault(
            "way 5 mm towards the canal",
            PEDICLE,
            "pedicle-wall",
            "left",
            seeds.axis_moved(left, (-5.0, 0.0, 0.0)),
            by=fit,
            verdict="warn",
        ),
        Fault("screw 20 mm too long", PEDICLE, "screw-tip", "left", seeds.axis_longer(left, 20.0), by=fit),
        Fault("screws that meet", PEDICLE, "ways-apart", "between", seeds.axis_beside(right, left, 2.0), by=fit),
        *(
            Fault("bone 0.2 mm away", one, "neighbours", "nearest", seeds.bone_comes_near(0.2), by=near)
            for one in (PEDICLE, SHAFT)
        ),
        *(
            Fault("bone 1.5 mm away", one, "neighbours", "nearest", seeds.bone_comes_near(1.5), sound=True, by=near)
            for one in (PEDICLE, SHAFT)
        ),
        Fault("blade 10 mm too deep", SHAFT, "cut", "far cortex", seeds.axis_longer("blade-1", 10.0), by=cuts),
        Fault("blade 6 mm too deep", TIBIAL, "hinge", "far cortex", seeds.axis_longer("blade-1", 6.0), by=cuts),
        Fault("scan ends at the guide", SHAFT, "scan-end", "beyond the guide", seeds.scan_ends(-5.0), by=cuts),
        Fault("scan shows enough", SHAFT, "scan-end", "beyond the guide", seeds.scan_ends(-12.0), sound=True, by=cuts),
        Fault(
            "short arm",
            SHAFT,
            "extension",
            "arm",
            seeds.parameter("extension_mm", 10.0, seeds.arm_of(10.0)),
            by=cuts,
            verdict="warn",
        ),
        Fault(
            "pin beside the bone",
            SHAFT,
            "pin",
            "pin-1: bone beside",
            seeds.axis_moved("pin-1", (15.0, 0, 0)),
            by=hold,
            verdict="warn",
        ),
        Fault("pins that meet", SHAFT, "pin", "between them", seeds.axis_beside("pin-2", "pin-1", 2.0), by=hold),
        Fault("pins side by side", SHAFT, "pin", "crossed by", seeds.axis_beside("pin-2", "pin-1", 8.0), by=hold),
        Fault(
            "pin at the slot", SHAFT, "slot-pin", "bore-pin-1", misguided.pin_at_the_slot("pin-1", "cut-1"), by="leads_the_saw"
        ),
        Fault(
            "holes that meet", TEMPLATE, "holes", "between", seeds.axis_beside("hole-2", "hole-1", 2.0), by="holes_do_not_meet"
        ),
        Fault(
            "window covered", WINDOWED, "window", "share of it", misguided.window_covered(WAYS_OUT[PEDICLE]), by="shows_the_bone"
        ),
        Fault("window covered", "windowed-tibial-guide", "window", "share of it", cover(WAYS_OUT[SHAFT]), by="shows_the_bone"),
    ]


def _of_structures() -> list[Fault]:
    found, near = [], misplanned.nerve_over_the_part
    for device in MADE:
        found += [
            Fault("nerve 1.9 mm from the part", device, "no-go", "nearest to nerve", near(1.9)),
            Fault("nerve 2.1 mm from the part", device, "no-go", "nearest to nerve", near(2.1), sound=True),
        ]
    led = {PEDICLE: ("trajectory-L3-left", "trajectory-L3-right"), SHAFT: ("pin-1", "blade-1"), TEMPLATE: ("hole-1",)}
    for device, names in led.items():
        for place, name in enumerate(names):
            what, before = f"{name}, drilled or sawn: nearest to vessel", misplanned.vessel_before_the_end
            found += [
                Fault("vessel 1.9 mm beyond a way", device, "no-go", what, before(name, 1.9), place),
                Fault("vessel 2.1 mm beyond a way", device, "no-go", what, before(name, 2.1), place, sound=True),
            ]
    return found


def _of_models() -> list[Fault]:
    moved = misbuilt.moved(np.array([1.0, 1.0, 0.0]), 2.0)
    return [
        Fault("part moved by 2 mm", MODEL, "deviation", "95th", moved, by="deviation_findings"),
        Fault(
            "a fifth of the bone left out",
            MODEL,
            "completeness",
            "left out",
            misplanned.figure_changed("dropped_mm3", 1e5),
            by="completeness_findings",
            verdict="warn",
        ),
        Fault("cube 3 % too large", MODEL, "scale", "edge", misplanned.last_part_scaled(1.03), by="scale_findings"),
        Fault(
            "hole of 2.5 mm",
            HOLLOW,
            "escape",
            "diameter",
            misplanned.parameter("escape_hole_mm", 2.5, misplanned.of_face("escape-hole")),
            by="escape_findings",
        ),
        Fault(
            "perforation at the border",
            IMPLANT,
            "perforations",
            "border",
            misguided.hole_at_the_border(2.0),
            by="holes_off_the_border",
        ),
    ]


def _of_seats() -> list[Fault]:
    kind, here, there = "contact within {:g} mm alone", misguided.contact_left_at, misplanned.axis_moved
    one, left, by = here(4.0), "trajectory-L3-left", "seats"
    unsure, rim = misplanned.bone_unsure, "fits_at_the_rim"
    towards, shaken = "way {:g} mm towards the canal", "bone unsure by {:g} mm"
    return [
        Fault(kind.format(4), PEDICLE, "seating-slip", "slide", one, by=by),
        Fault(kind.format(4), TIBIAL, "seating-slip", "slide", one, by=by),
        Fault(kind.format(4), PEDICLE, "seating-cone", "tilt of the push", one, by=by),
        Fault(kind.format(4), TIBIAL, "seating-cone", "tilt of the push", one, by=by),
        Fault(kind.format(4), PEDICLE, "seating-play", "play", one, by=by, verdict="warn"),
        Fault(kind.format(4), TIBIAL, "seating-play", "play", one, by=by, verdict="warn"),
        Fault("mirrored part", SHAFT, "seating-play", "play", misbuilt.mirrored(), by=by),  # away from all bone
        Fault(kind.format(10), PEDICLE, "seating-unique", "rest elsewhere", here(10.0), by=by),
        Fault(kind.format(4), PEDICLE, "seating-friction", "stick", one, by=by, verdict="warn"),
        Fault("undercut", TEMPLATE, "seating-way-out", "on the way off", misguided.undercut("insertion", 0), by="seats_and_hits"),
        Fault(towards.format(5), PEDICLE, "budget-breach", "left: breach of class C", there(left, (-5.0, 0, 0)), by=by,
              verdict="warn"),
        Fault(towards.format(2), PEDICLE, "budget-breach", "left: breach of the medial", there(left, (-2.0, 0, 0)), by=by,
              verdict="warn"),
        *(
            Fault(shaken.format(sigma), TIBIAL, check, what, unsure(sigma), sound=sigma < 0.2, by=by, verdict="warn")
            for check, what in (("budget-correction", "turned about"), ("budget", "cut-1: off"), ("budget", "pin-1: off"))
            for sigma in (0.4, 0.1)
        ),
        *(
            Fault(shaken.format(sigma), IMPLANT, "budget", what, unsure(sigma), sound=sigma < 0.2, by=rim, verdict="warn")
            for what in ("widest gap", "untrimmed")
            for sigma in (0.6, 0.1)
        ),
    ]  # fmt: skip
