"""The plan of an osteotomy guide: saw planes, the blades' ways, pins, and the way the guide goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from batchone.design.cranial.columns import to_local
from batchone.design.cranial.rays import Scene
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.family import parameters_of
from batchone.design.osteotomy.approach import WayOut, way_out
from batchone.design.osteotomy.correction import correction, moved
from batchone.design.osteotomy.cuts import Cut, approach_of, cut, facing, hinge_mm, proposed_cuts, sawn, title_of, unit
from batchone.design.osteotomy.fittings import blade
from batchone.design.osteotomy.pins import PinWay, Row, pin_pair
from batchone.design.tables import Tables
from batchone.pipeline.errors import OrderError
from batchone.pipeline.order import Order, PlanLine
from batchone.pipeline.values import Anatomy, Axis, Bone, FloatArray, Mesh, Plan, Plane, Vector, moved_points

MOST_LEAN_DEG = 38.0  # of a blade along the bone; pins beside it slip on bone 41 deg steep (pins.py); project default
LABEL_ROOM_MM = 7.0  # pins on the label's side stand so much further from the cut; two lines of text, project default
PINS_OF_AN_END = 2
_SAME_MM = 0.1  # between a line that comes back and what is computed anew; numerical: markups hold a thousandth of a mm
_FAR_MM = 150.0  # numerical: rays start so far outside
_LEAST_ALONG = 0.5  # cosine between a cut's normal and the bone: beside cuts along the bone pins stand across it; project default
_AS_LONG_MM = 5.0  # ends that differ by less are as long; project default
_LEAST_ASIDE = 0.1  # numerical: cosine below which a direction does not say which way is the front


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """One end of the bone: the cut next to it, and the unit normal (3,) from the cut into it, in the bone's frame."""

    cut: Cut
    away: FloatArray


def propose_plan(anatomy: Anatomy, order: Order, tables: Tables) -> Plan:
    """Lay the planes from the landmarks, or as drawn, and everything that hangs on them.

    Returns
    -------
    Plan
        In LPS mm, for each bone: planes ``cut-1``... whose normals point into the bone that keeps its face on the plane; axes
        ``blade-1``... from where the blade enters to where it stops, ``pin-1``... from the entry as deep as the pin, and
        ``insertion``, which points outward; with a wedge ``pin-3-after`` and ``pin-4-after``, where the pins of the lower bone
        stand when it is opened or closed. With several bones each name ends in the bone's: ``cut-1-tibia-left``.

    Raises
    ------
    OrderError
        The bone is of the other side, shows no landmarks, a plane misses it, or the plan holds something else.
    DesignError
        No place for pins, or no face for the guide.
    """
    chosen = parameters_of(order, OsteotomyGuideParameters)
    _refuse_other_side(anatomy, order)
    names: list[str] = []
    planes: list[Plane] = []
    axes: list[Axis] = []
    figures: list[tuple[str, float]] = []
    for bone in anatomy.bones:
        end = suffix(anatomy, bone)
        mesh = Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces)
        cuts = _cuts(anatomy, bone, mesh, order, chosen, end)
        _refuse_oblique(cuts, end)
        way = _way_out(mesh, bone, cuts, order, chosen, end)
        pins = _pins(mesh, bone, cuts, way, order, chosen, end)
        for number, one in enumerate(cuts, 1):
            planes.append(
                Plane(f"cut-{number}{end}", _point(bone.frame, one.origin_mm), _vector(bone.frame[:3, :3] @ one.normal))
            )
            axes.append(_axis(f"blade-{number}{end}", bone.frame, one.origin_mm, one.advance, one.depth_mm))
            figures += [
                (f"cut-{number}{end}_depth_mm", one.depth_mm),
                (f"cut-{number}{end}_hinge_mm", one.through_mm - one.depth_mm),
            ]
        axes += [_axis(f"pin-{n}{end}", bone.frame, pin.entry_mm, pin.direction, pin.depth_mm) for n, pin in enumerate(pins, 1)]
        axes.append(_axis(f"insertion{end}", bone.frame, way.middle_mm, way.direction, None))
        after = _pins_after(bone, cuts, pins, chosen, end)
        _refuse_moved(order, after)
        axes += after
        if chosen.wedge != "none":
            height = 2.0 * cuts[0].depth_mm * np.sin(np.radians(0.5 * chosen.wedge_deg))
            figures.append((f"wedge{end}_height_mm", float(height)))
        names += [
            *(f"{kind}-{n}{end}" for kind in ("cut", "blade") for n in range(1, len(cuts) + 1)),
            *(f"pin-{n}{end}" for n in range(1, len(pins) + 1)),
            *(axis.name for axis in after),
            f"insertion{end}",
        ]
    figures.append(("kerf_mm", blade(order, tables).kerf_mm))
    _refuse_strange(order, names)
    drawn = bool(order.plan.planes or order.plan.lines)
    return Plan("osteotomy-guide", not drawn, order.side, axes=tuple(axes), planes=tuple(planes), figures=tuple(figures))


def suffix(anatomy: Anatomy, bone: Bone) -> str:
    """What the names of a bone's planes and axes end in: nothing where it is the only one."""
    return "" if len(anatomy.bones) == 1 else f"-{title_of(bone)}"


def ends_of(cuts: tuple[Cut, ...]) -> tuple[End, End]:
    """The upper and the lower end of a bone (z of its frame is up): what lies between cuts is taken out, and holds nothing."""
    up = np.array([0.0, 0.0, 1.0])
    heights = [float((one.origin_mm + 0.5 * one.through_mm * one.advance) @ up) for one in cuts]
    top, bottom = cuts[int(np.argmax(heights))], cuts[int(np.argmin(heights))]
    upward, downward = (one.normal * (1.0 if float(one.normal @ up) >= 0.0 else -1.0) for one in (top, bottom))
    return End(top, upward), End(bottom, -downward)


def longer_end(mesh: Mesh, ends: tuple[End, End]) -> int:
    """Which of two ends is longer along the bone: it has the room for label and arm; the lower one where both are about equal."""
    upper, lower = (float(((mesh.vertices_mm - end.cut.origin_mm) @ end.away).max()) for end in ends)
    return 0 if upper > lower + _AS_LONG_MM else 1


def _refuse_other_side(anatomy: Anatomy, order: Order) -> None:
    for bone in anatomy.bones:
        if bone.side != order.side:
            raise OrderError(
                f"the order's side is {order.side}, the bone is {bone.name} {bone.side}: a guide is made for the side that was "
                "ordered",
                hint="correct side and [target] bones of the order, or ask the prescriber; a device is never mirrored",
            )


def _refuse_strange(order: Order, names: list[str]) -> None:
    """Refuse drawn things that this family would leave aside: a person meant something by them."""
    known = set(names)
    strange = [plane.name for plane in order.plan.planes if plane.name not in known or not plane.name.startswith("cut-")]
    strange += [line.name for line in order.plan.lines if line.name not in known or line.name.startswith("cut-")]
    strange += [curve.name for curve in order.plan.curves] + [point.name for point in order.plan.points]
    if strange:
        raise OrderError(
            f"the plan holds {', '.join(strange)}; planes and lines of this guide are {', '.join(names)}",
            hint="planes are numbered cut-1, cut-2...; name lines blade-1, pin-1... or insertion",
        )


def _cuts(anatomy: Anatomy, bone: Bone, mesh: Mesh, order: Order, chosen: OsteotomyGuideParameters, end: str) -> tuple[Cut, ...]:
    """Drawn planes, each in the place of what has its name; the others as proposed."""
    count = 0
    while order.plan.plane(f"cut-{count + 1}{end}") is not None:
        count += 1
    drawn = {n: order.plan.plane(f"cut-{n}{end}") for n in range(1, max(count, 2) + 1)}
    needed = (1, 2) if chosen.wedge == "closing" else (1,)
    found = {}
    if any(drawn[n] is None for n in needed):
        found = dict(enumerate(proposed_cuts(anatomy, bone, mesh, chosen), 1))
    for n, plane in drawn.items():
        if plane is not None:
            origin = to_local(bone.frame, np.array([plane.origin_mm]))[0]
            normal = unit(np.round(np.array(plane.normal) @ bone.frame[:3, :3], 9))
            crossed = sawn(mesh, origin, normal, f"cut-{n}{end}")
            toward = _toward(mesh, bone, order.plan.line(f"blade-{n}{end}"), origin, normal, chosen)
            found[n] = cut(crossed, normal, toward, hinge_mm=hinge_mm(chosen), name=f"cut-{n}{end}")
    for n, one in found.items():
        line = order.plan.line(f"blade-{n}{end}")
        if line is not None:
            found[n] = _sawn_along(mesh, bone, one, line)
    return tuple(found[n] for n in sorted(found))


def _sawn_along(mesh: Mesh, bone: Bone, one: Cut, line: PlanLine) -> Cut:
    """The cut with the blade's way as drawn: it stops where the line ends."""
    direction = _drawn(bone, line)[1]
    turned = cut(sawn(mesh, one.origin_mm, one.normal, line.name), one.normal, direction, hinge_mm=0.0, name=line.name)
    end = to_local(bone.frame, np.array([line.end_mm]))[0]
    depth_mm = float((end - turned.origin_mm) @ turned.advance)
    if depth_mm <= 0.0:
        raise OrderError(
            f"plan line {line.name} ends {-depth_mm:.1f} mm before the bone, must end in it",
            hint="draw it from where the blade enters to where it stops",
        )
    return replace(turned, depth_mm=depth_mm)


def _toward(
    mesh: Mesh, bone: Bone, line: PlanLine | None, origin: FloatArray, normal: FloatArray, chosen: OsteotomyGuideParameters
) -> FloatArray:
    """The way of a blade: as drawn, or against the face that the approach names."""
    if line is not None:
        return _drawn(bone, line)[1]
    outward = facing(bone, approach_of(chosen))
    return -way_out(mesh, origin, normal, outward, width_mm=chosen.plate_mm).direction


def _way_out(mesh: Mesh, bone: Bone, cuts: tuple[Cut, ...], order: Order, chosen: OsteotomyGuideParameters, end: str) -> WayOut:
    """Outward: as drawn, or where the most bone carries, near the way against the blades; from the bone's surface."""
    place = np.mean([one.origin_mm for one in cuts], axis=0)
    against = -unit(np.sum([one.advance for one in cuts], axis=0))
    axis = ends_of(cuts)[0].away
    found = way_out(mesh, place, axis, against, width_mm=chosen.plate_mm)
    line = order.plan.line(f"insertion{end}")
    if line is not None:
        found = replace(found, direction=_drawn(bone, line)[1])
    hit = Scene(mesh).first((found.middle_mm + _FAR_MM * found.direction)[None], -found.direction[None], 2.0 * _FAR_MM)
    if hit.face[0] < 0:
        raise OrderError(f"insertion{end} does not point at the bone", hint="draw it outward from the bone's face")
    return replace(found, middle_mm=found.middle_mm + (_FAR_MM - float(hit.distance_mm[0])) * found.direction)


def _refuse_oblique(cuts: tuple[Cut, ...], end: str) -> None:
    """A blade that leans along the bone: pins beside it would meet the bone at a slant and slip, and the plate is cut in two."""
    for number, one in enumerate(cuts, 1):
        lean_deg = float(np.degrees(np.arcsin(min(abs(float(one.advance[2])), 1.0))))
        if lean_deg > MOST_LEAN_DEG:
            raise OrderError(
                f"plane cut-{number}{end}: its blade leans {lean_deg:.0f} deg along the bone, at most {MOST_LEAN_DEG:g} deg: "
                "pins beside it would meet the bone at a slant",
                hint=f"draw blade-{number}{end} across the bone, or saw from another face (approach)",
            )


def _pins(
    mesh: Mesh, bone: Bone, cuts: tuple[Cut, ...], way: WayOut, order: Order, chosen: OsteotomyGuideParameters, suffixed: str
) -> list[PinWay]:
    """Two on the upper end, two on the lower one."""
    scene, ends = Scene(mesh), ends_of(cuts)
    longer = longer_end(mesh, ends)
    found: list[PinWay] = []
    for number, end in enumerate(ends):
        names = [f"pin-{2 * number + k}{suffixed}" for k in (1, 2)]
        lines = [order.plan.line(name) for name in names]
        proposed: tuple[PinWay, ...] = ()
        if any(line is None for line in lines):
            room = LABEL_ROOM_MM if chosen.engrave and number == longer else 0.0
            into = unit(-way.direction + end.away * float(way.direction @ end.away))
            along = np.array([0.0, 0.0, 1.0 if number == 0 else -1.0])
            along = along if float(along @ end.away) > _LEAST_ALONG else end.away
            row = Row(
                end.cut.origin_mm, end.away, along, into, way.middle_mm, front_of(end.away, into), chosen.pin_from_cut_mm + room
            )
            proposed = pin_pair(
                scene,
                row,
                apart_mm=chosen.pin_apart_mm,
                cross_deg=chosen.pin_cross_deg,
                depth_mm=chosen.pin_depth_mm,
                name=" and ".join(names),
            )
        for k, line in enumerate(lines):
            found.append(proposed[k] if line is None else _drawn_pin(scene, bone, line))
    return found


def _pins_after(bone: Bone, cuts: tuple[Cut, ...], pins: list[PinWay], chosen: OsteotomyGuideParameters, end: str) -> list[Axis]:
    """The pins of the lower bone as they stand after the correction, for a plate or a reduction guide."""
    pose = correction(cuts, chosen)
    if pose is None:
        return []
    turned = [(n, moved(pin, pose)) for n, pin in enumerate(pins, 1) if n > PINS_OF_AN_END]
    return [_axis(f"pin-{n}-after{end}", bone.frame, pin.entry_mm, pin.direction, pin.depth_mm) for n, pin in turned]


def _refuse_moved(order: Order, after: list[Axis]) -> None:
    """Where pins stand after the correction follows from pins, hinge and angle: a line that says otherwise is refused."""
    for axis in after:
        line = order.plan.line(axis.name)
        off_mm = 0.0 if line is None else float(np.linalg.norm(np.subtract(line.start_mm, axis.origin_mm)))
        if off_mm > _SAME_MM:
            raise OrderError(
                f"plan line {axis.name} lies {off_mm:.1f} mm off where the correction brings the pin, at most {_SAME_MM:g} mm",
                hint=f"move {axis.name.replace('-after', '')} or change wedge_deg; leave {axis.name} out",
            )


def front_of(away: FloatArray, into: FloatArray) -> FloatArray:
    """(3,) unit, across a cut and its blade: to the front of the bone's frame, or up where neither end is in front."""
    across = unit(np.cross(away, into))
    for axis in (1, 2, 0):
        if abs(float(across[axis])) > _LEAST_ASIDE:
            return across if (float(across[axis]) < 0.0) == (axis == 1) else -across
    raise AssertionError("a unit vector has a component")


def _drawn(bone: Bone, line: PlanLine) -> tuple[FloatArray, FloatArray]:
    """Start (3,) and unit direction (3,) of a line, in the bone's frame."""
    start, end = to_local(bone.frame, np.array([line.start_mm, line.end_mm]))
    return np.asarray(start), unit(end - start)


def _drawn_pin(scene: Scene, bone: Bone, line: PlanLine) -> PinWay:
    """From where the line enters the bone, to its end."""
    start, direction = _drawn(bone, line)
    hit = scene.first((start - 0.5 * _FAR_MM * direction)[None], direction[None], _FAR_MM)
    if hit.face[0] < 0:
        raise OrderError(
            f"plan line {line.name} misses the bone: 0 mm of it lie in {title_of(bone)}",
            hint="was it drawn in this study, from the entry to the target?",
        )
    entry = start + (float(hit.distance_mm[0]) - 0.5 * _FAR_MM) * direction
    end = to_local(bone.frame, np.array([line.end_mm]))[0]
    return PinWay(entry, direction, max(float((end - entry) @ direction), 0.0))


def _axis(name: str, frame: FloatArray, origin_mm: FloatArray, direction: FloatArray, length_mm: float | None) -> Axis:
    return Axis(name, _point(frame, origin_mm), _vector(frame[:3, :3] @ direction), length_mm)


def _point(frame: FloatArray, place_mm: FloatArray) -> Vector:
    return _vector(moved_points(frame, place_mm[None])[0])


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
