"""What is measured on an osteotomy guide, bone by bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.budget import drill
from batchone.design.budget.play import tilt_deg
from batchone.design.budget.saw import Lead, Sawn, between_deg, sawn
from batchone.design.budget.sources import SEED, Seats
from batchone.design.contact.neighbours import neighbours
from batchone.design.cranial.columns import to_local
from batchone.design.cranial.rays import Scene
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.family import Checked, FamilyCheck, parameters_of
from batchone.design.guide.checks import UP, bore_findings, contact_findings, judged, neighbour_findings, way_out_findings
from batchone.design.guide.label_checks import label_findings
from batchone.design.guide.seating_checks import budget_findings, graded, landed_on, led_mm, scored_seat, seating_findings
from batchone.design.guide.slot_checks import slot_findings
from batchone.design.guide.window import mark_findings, window_findings
from batchone.design.nearest import nearest_mm
from batchone.design.osteotomy.cuts import Cut, hinge_mm, title_of
from batchone.design.osteotomy.fittings import blade, fittings
from batchone.design.osteotomy.guide import planned_cuts, slot_pin_mm
from batchone.design.osteotomy.label import label_wordings, saw_depths_mm
from batchone.design.osteotomy.layout import Layout, count_of, laid_out
from batchone.design.osteotomy.plan import ends_of, longer_end, suffix
from batchone.design.osteotomy.section import section
from batchone.design.pedicle.trajectory import Trajectory, apart_mm
from batchone.design.tables import used_findings
from batchone.pipeline.values import Axis, Bone, Finding, FloatArray, Mesh, Part, Vector, judge, moved_points

ENTRY_MM = 6.0  # of a pin at both of its ends that lies in cortex: bone beside it does not count; project default, unverified
_ABOVE_MM = 200.0  # numerical: above every bone's face
_SPACING_MM = 0.5  # numerical: places along a pin


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One bone of the plan: what the names end in, its surface in its frame, its cuts, and its guide."""

    bone: Bone
    end: str
    local: Mesh
    cuts: tuple[Cut, ...]
    layout: Layout
    part: Part


def sits_on_bone(checked: Checked) -> tuple[Finding, ...]:
    """Contact and clearance of each guide against its bone."""
    offset_mm = fittings(checked.order, checked.process, checked.tables).offset_mm
    return tuple(
        finding
        for case in _cases(checked)
        for finding in contact_findings(
            case.part, case.bone.mesh, checked.plan.axis(f"insertion{case.end}"), offset_mm=offset_mm, limits=checked.limits
        )
    )


def slides_on(checked: Checked) -> tuple[Finding, ...]:
    """Nothing of a guide lies below bone on its way out."""
    return tuple(
        finding
        for case in _cases(checked)
        for finding in way_out_findings(case.part, case.bone.mesh, checked.plan.axis(f"insertion{case.end}"), checked.limits)
    )


def keeps_off_neighbours(checked: Checked) -> tuple[Finding, ...]:
    """No guide touches another bone than its own."""
    return tuple(
        finding
        for case in _cases(checked)
        for finding in neighbour_findings(case.part, neighbours(checked.anatomy, case.bone), checked.limits)
    )


def leads_the_saw(checked: Checked) -> tuple[Finding, ...]:
    """Each slot lies on its plane, is as wide as set, and leads the blade deep enough."""
    chosen = parameters_of(checked.order, OsteotomyGuideParameters)
    findings: list[Finding] = []
    for case in _cases(checked):
        for slot in case.layout.slots:
            over_bone = (slot.across_mm[0] + chosen.beyond_mm, slot.across_mm[1] - chosen.beyond_mm)
            findings += slot_findings(
                case.part,
                slot,
                case.layout.pose,
                over_bone_mm=over_bone,
                guided_mm=chosen.guided_mm,
                limits=checked.limits,
            )
            for sleeve in case.layout.sleeves:
                what = f"{case.part.name}: wall between {slot.label} and {sleeve.bore_label}"
                hint = "a larger pin_from_cut_mm, or move the pin"
                gate, where = checked.limits.gates["slot_pin_mm"], _lps(case.layout.pose, sleeve.at_mm(0.5 * sleeve.top_mm))
                findings.append(judged(gate, "slot-pin", what, slot_pin_mm(slot, sleeve), hint, where))
    return tuple(findings)


def leads_the_pins(checked: Checked) -> tuple[Finding, ...]:
    """Each bore lies on its planned way and is as wide as set."""
    bore_mm = fittings(checked.order, checked.process, checked.tables).bore_mm
    return tuple(
        finding
        for case in _cases(checked)
        for number in range(1, len(case.layout.sleeves) + 1)
        for finding in bore_findings(
            case.part,
            f"bore-pin-{number}",
            checked.plan.axis(f"pin-{number}{case.end}"),
            set_mm=bore_mm,
            limits=checked.limits,
        )
    )


def cuts_fit(checked: Checked) -> tuple[Finding, ...]:
    """The planned cuts against the bone: where the blade stops, the hinge, and what the scan shows about them."""
    chosen, gates = parameters_of(checked.order, OsteotomyGuideParameters), checked.limits.gates
    kerf_mm = blade(checked.order, checked.tables).kerf_mm
    findings: list[Finding] = []
    for case in _cases(checked):
        for number, one in enumerate(case.cuts, 1):
            name, ends = f"cut-{number}{case.end}", _lps(case.bone.frame, one.end_mm)
            found = section(case.local, one.origin_mm + 0.5 * one.depth_mm * one.advance, one.normal)
            far = found.along(one.advance)[1] if found is not None else -np.inf
            left = far - float(one.end_mm @ one.advance)
            kept, given = ("upper", "lower") if float(one.normal[2]) > 0.0 else ("lower", "upper")
            what = f"{name}: kerf, taken off the {given} bone; the cut face of the {kept} one lies on the plane"
            findings.append(judge("kerf", what, kerf_mm, "mm"))
            if hinge_mm(chosen) == 0.0:
                what = f"{name}: from where the blade stops to the far cortex"
                value, hint = round(left, 4) + 0.0, "shorten the blade's way"
                findings.append(judged(gates["cut_end_mm"], "cut", what, value, hint, ends))
            else:
                hint = "another hinge_mm, or move the plane"
                what = f"{name}: bone left at the far cortex"
                findings.append(judged(gates["hinge_mm"], "hinge", what, round(left, 4), hint, ends))
        if chosen.wedge == "opening" and case.bone.name == "radius":
            what = f"{title_of(case.bone)}: opening wedge of a radius"
            findings.append(judged(gates["single_cut"], "cut", what, 1.0, "consider a single cut"))
        if chosen.site == "shaft":
            what = f"{title_of(case.bone)}: arm along the shaft"
            hint, tip = "a larger extension_mm", _arm_tip(case)
            findings.append(judged(gates["extension_mm"], "extension", what, chosen.extension_mm, hint, tip))
        findings.append(_scanned(checked, case))
    return tuple(findings)


def _arm_tip(case: Case) -> Vector | None:
    """Where the arm of a guide ends, on the bone's face; None where it has none."""
    if case.layout.arm_mm is None:
        return None
    x, y = case.layout.arm_mm[1].tolist()
    down = np.array([0.0, 0.0, -1.0])
    met, _ = Scene(case.layout.bone).meets(np.array([[x, y, _ABOVE_MM]]), down[None], 2.0 * _ABOVE_MM)
    return _lps(case.layout.pose, np.array([x, y, _ABOVE_MM - float(np.nan_to_num(met[0], nan=_ABOVE_MM))]))


def _scanned(checked: Checked, case: Case) -> Finding:
    """Bone beyond the guide, along the bone, before the scan ends."""
    points = case.part.mesh.vertices_mm @ case.bone.frame[:3, 2]
    along = case.bone.mesh.vertices_mm @ case.bone.frame[:3, 2]
    shown = checked.anatomy.field_of_view.inside(case.bone.mesh.vertices_mm, 0.5)
    hidden = along[~shown] if not case.bone.complete else along[:0]
    low, high = float(points.min()), float(points.max())
    away = np.maximum(np.maximum(low - hidden, hidden - high), 0.0)
    where = _vector(case.bone.mesh.vertices_mm[~shown][int(np.argmin(away))]) if len(away) else None
    left = float(away.min()) if len(away) else max(high - low, checked.limits.gates["scan_end_mm"].low or 0.0)
    what = f"{case.part.name}: bone that the scan shows beyond the guide"
    hint = "ask for a scan that shows more of the bone, or move the cut"
    return judged(checked.limits.gates["scan_end_mm"], "scan-end", what, left, hint, where)


def pins_hold(checked: Checked) -> tuple[Finding, ...]:
    """The planned pins against bone and each other."""
    gates = checked.limits.gates
    diameter = fittings(checked.order, checked.process, checked.tables).pin.diameter_mm
    findings: list[Finding] = []
    for case in _cases(checked):
        scene = Scene(case.local)
        pins = [checked.plan.axis(f"pin-{n}{case.end}") for n in range(1, count_of(checked.plan, "pin", case.end) + 1)]
        ways = [_way(case.bone, pin) for pin in pins]
        for pin, way in zip(pins, ways, strict=True):
            hint = "another approach, a smaller pin_from_cut_mm, or move the pin"
            held, wall = gates["pin_held_mm"], gates["pin_wall_mm"]
            findings.append(judged(held, "pin", f"{pin.name}: bone along it", way.depth_mm, hint, pin.at_mm(way.depth_mm)))
            beside, along = _beside_mm(scene, way)
            what = f"{pin.name}: bone beside it"
            findings.append(judged(wall, "pin", what, beside - 0.5 * diameter, hint, pin.at_mm(along)))
        for first, second in ((k, k + 1) for k in range(0, len(pins) - 1, 2)):
            one, other = ways[first], ways[second]
            both = f"{pins[first].name} and {pins[second].name}"
            sine = float(np.linalg.norm(np.cross(one.direction, other.direction)))
            turned = round(float(np.degrees(np.arctan2(sine, abs(float(one.direction @ other.direction))))), 6)
            axes_mm, middle = apart_mm(one, one.depth_mm, other, other.depth_mm)
            place = _lps(case.bone.frame, middle)
            crossed, apart, hint = gates["pin_cross_deg"], gates["pins_apart_mm"], "a smaller pin_cross_deg"
            findings.append(judged(crossed, "pin", f"{both}: crossed by", turned, "a larger pin_cross_deg", place))
            findings.append(judged(apart, "pin", f"{both}: between them", axes_mm - diameter, hint, place))
    return tuple(findings)


def _vector(place_mm: FloatArray) -> Vector:
    x, y, z = place_mm.tolist()
    return (x, y, z)


def _lps(pose: FloatArray, place_mm: FloatArray) -> Vector:
    """A place (3,) of a frame in LPS."""
    x, y, z = moved_points(pose, place_mm[None])[0].tolist()
    return (x, y, z)


def _way(bone: Bone, pin: Axis) -> Trajectory:
    entry = to_local(bone.frame, np.array([pin.origin_mm]))[0]
    return Trajectory(entry, np.array(pin.direction) @ bone.frame[:3, :3], pin.length_mm or 0.0)


def _beside_mm(scene: Scene, way: Trajectory) -> tuple[float, float]:
    """Least distance of a pin's axis to the surface, away from its ends, and how far along; negative outside of the bone."""
    through = scene.first((way.entry_mm + _SPACING_MM * way.direction)[None], way.direction[None], 500.0)
    last = min(way.depth_mm, _SPACING_MM + float(np.nan_to_num(through.distance_mm[0])) - ENTRY_MM)
    steps = np.arange(ENTRY_MM, max(last, ENTRY_MM) + 1e-9, _SPACING_MM)
    points: FloatArray = way.entry_mm + steps[:, None] * way.direction
    distance = nearest_mm(points, scene.mesh)
    signed = np.where(scene.holds(points, UP), distance, -distance)
    least = int(np.argmin(signed))
    return float(signed[least]), float(steps[least])


def seats(checked: Checked) -> tuple[Finding, ...]:
    """How each guide seats, and how far the saw may tilt; for a release also which planes it cuts by all errors.

    See :mod:`batchone.design.seating` and :mod:`batchone.design.budget`.
    """
    fit, gates = fittings(checked.order, checked.process, checked.tables), checked.limits.gates
    findings: list[Finding] = []
    for case in _cases(checked):
        found = scored_seat(checked, case.part, case.bone, case.layout.pose)
        findings += seating_findings(found, case.part, gates, offset_mm=fit.offset_mm)
        landed, missing = landed_on(found, case.part.name, checked.only)
        findings += missing
        cuts = []
        for number in range(1, len(case.cuts) + 1):
            lead = _lead(checked, case, number)
            title, target = f"cut-{number}{case.end}", checked.plan.axis(f"blade-{number}{case.end}")
            what = f"{title}: tilt that the slot's clearance of {lead.clearance_mm:g} mm allows over {lead.led_mm:g} mm"
            worst, hint = tilt_deg(lead.clearance_mm, lead.led_mm), "a larger guided_mm, or a metal insert"
            findings.append(graded(gates, "budget_tilt_deg", "budget-clearance", what, worst, hint, target.at_mm(0.0)))
            if landed is None:
                continue
            cuts.append(sawn(lead, landed, checked.process, seed=SEED + number))
            findings += budget_findings(cuts[-1].errors, title, gates, target.at_mm(lead.depth_mm))
        if cuts:
            findings.append(_correction(case, cuts, checked))
        if landed is not None:
            findings += _pins(checked, case, landed)
    return tuple(findings)


def _pins(checked: Checked, case: Case, landed: Seats) -> list[Finding]:
    """How far off each pin ends, by all errors."""
    findings: list[Finding] = []
    clearance_mm = fittings(checked.order, checked.process, checked.tables).hole.diametral_mm
    for number in range(1, len(case.layout.sleeves) + 1):
        title = f"pin-{number}{case.end}"
        way = checked.plan.axis(title)
        low, high = led_mm(case.part, f"bore-pin-{number}", way)
        lead = drill.Lead(way, clearance_mm, high - low, low, drawn=not checked.plan.proposed)
        errors = drill.drilled(lead, landed, checked.process, seed=SEED + 10 * number).errors
        findings += budget_findings(errors, title, checked.limits.gates, way.at_mm(way.length_mm or 0.0))
    return findings


def _lead(checked: Checked, case: Case, number: int) -> Lead:
    chosen, fit = parameters_of(checked.order, OsteotomyGuideParameters), fittings(checked.order, checked.process, checked.tables)
    plane, way = checked.plan.plane(f"cut-{number}{case.end}"), checked.plan.axis(f"blade-{number}{case.end}")
    normal, advance = np.array(plane.normal), np.array(way.direction)
    return Lead(
        plane.origin_mm,
        normal,
        advance,
        way.length_mm or 0.0,
        fit.slot.diametral_mm,
        chosen.guided_mm,
        chosen.relief_mm,
        fit.blade.width_mm or chosen.guided_mm,
        drawn=not checked.plan.proposed,
    )


def _correction(case: Case, cuts: list[Sawn], checked: Checked) -> Finding:
    """The angle of a wedge: between two planes of one guide; of one plane its turn about the hinge's line."""
    if len(cuts) == 2:
        what, off = f"{case.part.name}: angle between the two cuts, off by, 95 %", between_deg(cuts[0], cuts[1])
    else:
        what, off = f"{case.part.name}: cut turned about the line of its hinge, 95 %", np.abs(cuts[0].wedge_deg)
    hint = "a larger guided_mm, or a metal insert in the slot"
    blade = checked.plan.axis(f"blade-1{case.end}")
    at, value = blade.at_mm(blade.length_mm or 0.0), float(np.percentile(off, 95.0))
    return graded(checked.limits.gates, "budget_correction_deg", "budget-correction", what, value, hint, at)


def says_what_it_is(checked: Checked) -> tuple[Finding, ...]:
    """The label of each guide, read back."""
    if not parameters_of(checked.order, OsteotomyGuideParameters).engrave:
        return ()
    return tuple(
        finding
        for case in _cases(checked)
        for finding in label_findings(
            case.part,
            (case.bone.frame[:3, 2],),
            label_wordings(checked.anatomy, case.bone, checked.order, saw_depths_mm(case.layout, case.cuts)),
            checked.process,
            checked.limits,
        )
    )


def shows_the_bone(checked: Checked) -> tuple[Finding, ...]:
    """The inspection window and the marks of each guide, where they were ordered."""
    chosen = parameters_of(checked.order, OsteotomyGuideParameters)
    findings: list[Finding] = []
    for case in _cases(checked) if chosen.window_mm > 0.0 or chosen.mark_mm > 0.0 else ():
        way = checked.plan.axis(f"insertion{case.end}")
        if chosen.window_mm > 0.0:
            findings += window_findings(case.part, case.bone.mesh, way, checked.limits)
        if chosen.mark_mm > 0.0:
            findings += mark_findings(case.part, case.bone, way, checked.limits)
    return tuple(findings)


def made_for(checked: Checked) -> tuple[Finding, ...]:
    """Instruments and clearances that were used, with where their numbers come from."""
    fit = fittings(checked.order, checked.process, checked.tables)
    return used_findings(fit.blade, fit.pin, *((fit.insert,) if fit.insert else ()), fit.slot, fit.hole, fit.contact)


def _cases(checked: Checked) -> list[Case]:
    chosen = parameters_of(checked.order, OsteotomyGuideParameters)
    fit = fittings(checked.order, checked.process, checked.tables)
    parts = {part.name: part for part in checked.device.parts}
    found = []
    for bone in checked.anatomy.bones:
        end = suffix(checked.anatomy, bone)
        local = Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces)
        cuts = planned_cuts(checked.plan, bone, end)
        downward = longer_end(local, ends_of(cuts)) == 1
        layout = laid_out(bone, checked.plan, end, chosen, fit, downward=downward)
        found.append(Case(bone, end, local, cuts, layout, parts[f"guide-{title_of(bone)}"]))
    return found


CHECKS: tuple[FamilyCheck, ...] = (  # the longest first: they run side by side
    seats, sits_on_bone, slides_on, keeps_off_neighbours, leads_the_saw, leads_the_pins, cuts_fit, pins_hold,
    shows_the_bone, made_for,
)  # fmt: skip
RELEASE_CHECKS: tuple[FamilyCheck, ...] = (says_what_it_is,)
