"""A drill template: leads the drill along the lines that the surgeon drew.

It sits on the first bone of the order, about the entries, and keeps away from the order's other bones. Each line of the plan is
a hole, from its entry to its target; a line named ``insertion`` is the way the template comes off.

Anatomy: any bone. References: contact, sleeves and walls as for the pedicle guide of batchone.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from batchone.design.clearances import bore_mm, clearance
from batchone.design.family import Checked, Family, parameters_of
from batchone.design.tables import Clearance, Drill, Tables, instrument, used_findings
from batchone.design.theatre import theatre
from batchone.pipeline.errors import OrderError
from batchone.pipeline.order import Order, Parameters
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Axis, Device, Finding, Plan

if TYPE_CHECKING:
    from batchone.design.guide.plain import Sizes

NAME, INSERTION = "drill-template", "insertion"
DRILL = "drill-2.5"  # where the order names none
EDGE_MM = 5.0  # of a scan that cuts the bone: entries stay this far off, and pad_mm more; project default, unverified


class DrillTemplateParameters(Parameters):
    """What may be chosen about a drill template; the defaults make a valid device."""

    pad_mm: Annotated[
        float, Field(ge=6.0, le=15.0, description="reach of the shell around the entries; project default, unverified")
    ] = 9.0
    shell_mm: Annotated[float, Field(ge=2.0, le=6.0, description="thickness of the shell; 3 to 6 mm, common design practice")] = (
        3.0
    )
    relief_mm: Annotated[
        float, Field(ge=0.6, le=3.0, description="gap to the bone where it does not touch; project default, unverified")
    ] = 1.2
    sleeve_mm: Annotated[
        float, Field(ge=10.0, le=30.0, description="length over which the drill is led; at least 10 to 15 mm, common practice")
    ] = 15.0
    sleeve_wall_mm: Annotated[
        float, Field(ge=1.2, le=4.0, description="wall of a sleeve; outer diameter 6 mm in published guides (range: unverified)")
    ] = 2.0


def propose(anatomy: Anatomy, order: Order, tables: Tables) -> Plan:
    """Bring the drawn lines onto the bone.

    Returns
    -------
    Plan
        LPS mm: an axis for each line, into the bone, and the axis ``insertion``, outward.

    Raises
    ------
    OrderError
        No line is drawn, one does not lead into the bone, or something else is drawn.
    """
    from batchone.design.guide.way import drawn_ways, way_out

    lines = [line for line in order.plan.lines if line.name != INSERTION]
    strange = [plane.name for plane in order.plan.planes] + [curve.name for curve in order.plan.curves]
    strange += [point.name for point in order.plan.points]
    if strange or not lines:
        raise OrderError(
            f"the plan holds {len(lines)} lines and {', '.join(strange) or 'nothing else'}; a drill template needs lines, "
            "at least 1, and nothing else",
            hint="draw a line from entry to target for each hole: [plan] markups",
        )
    bone = anatomy.bones[0]
    holes = drawn_ways(lines, bone)
    _refuse_cut_bone(anatomy, holes, EDGE_MM + parameters_of(order, DrillTemplateParameters).pad_mm)
    way = way_out(holes, order.plan.line(INSERTION), name=INSERTION)
    return Plan(NAME, False, order.side, axes=(*holes, way))


def build(anatomy: Anatomy, plan: Plan, order: Order, process: Process, tables: Tables) -> Device:
    """Make the template.

    Raises
    ------
    OrderError
        No clearance is known for the process.
    DesignError
        No bone that may carry lies under it, sleeves collide, or no closed body exists.
    """
    from batchone.design.contact.neighbours import neighbours
    from batchone.design.guide.plain import plain_guide

    bone = anatomy.bones[0]
    sizes = _sizes(order, process, tables)
    part = plain_guide(
        NAME, bone, neighbours(anatomy, bone), way=plan.axis(INSERTION), holes=_holes(plan), sizes=sizes, process=process
    )
    return Device(NAME, (part,))


def sits_and_leads(checked: Checked) -> tuple[Finding, ...]:
    """What every guide must do, and the instrument and clearances that it was made with."""
    from batchone.design.guide.plain import plain_findings

    plan, sizes = checked.plan, _sizes(checked.order, checked.process, checked.tables)
    found = plain_findings(
        checked.device.parts[0],
        checked.anatomy.bones[0],
        way=plan.axis(INSERTION),
        holes=_holes(plan),
        sizes=sizes,
        limits=checked.limits,
    )
    return (*found, *used_findings(*_fittings(checked.order, checked.process, checked.tables)))


def holes_do_not_meet(checked: Checked) -> tuple[Finding, ...]:
    """Bone between each two holes."""
    from batchone.design.guide.checks import judged
    from batchone.design.guide.way import ways_apart

    drill_mm = _fittings(checked.order, checked.process, checked.tables)[0].diameter_mm
    gate, hint = checked.limits.gates["between_holes_mm"], "move a line ([plan] markups), or a thinner drill"
    found = []
    for one, other in combinations(_holes(checked.plan), 2):
        apart_mm, where = ways_apart(one, other)
        found.append(judged(gate, "holes", f"bone between {one.name} and {other.name}", apart_mm - drill_mm, hint, where))
    return tuple(found)


def seats_and_hits(checked: Checked) -> tuple[Finding, ...]:
    """How the template seats, and where its drills end by all errors together."""
    from batchone.design.guide.plain_budget import plain_seating_findings

    _, hole, contact = _fittings(checked.order, checked.process, checked.tables)
    return plain_seating_findings(
        checked,
        checked.device.parts[0],
        checked.anatomy.bones[0],
        way=checked.plan.axis(INSERTION),
        holes=_holes(checked.plan),
        offset_mm=contact.per_side_mm,
        clearance_mm=hole.diametral_mm,
    )


def _holes(plan: Plan) -> tuple[Axis, ...]:
    return tuple(axis for axis in plan.axes if axis.name != INSERTION)


def _fittings(order: Order, process: Process, tables: Tables) -> tuple[Drill, Clearance, Clearance]:
    drill = theatre(order, tables).drill or instrument(tables.drills, DRILL, "drill")
    return drill, clearance("drill-hole", process, tables), clearance("bone-contact", process, tables)


def _sizes(order: Order, process: Process, tables: Tables) -> Sizes:
    from batchone.design.guide.plain import Sizes

    chosen = parameters_of(order, DrillTemplateParameters)
    drill, hole, contact = _fittings(order, process, tables)
    bore = bore_mm(drill.diameter_mm, hole)
    return Sizes(
        offset_mm=contact.per_side_mm,
        relief_mm=chosen.relief_mm,
        shell_mm=chosen.shell_mm,
        pad_mm=chosen.pad_mm,
        sleeve_mm=chosen.sleeve_mm,
        bore_mm=bore,
        outer_mm=bore + 2.0 * chosen.sleeve_wall_mm,
    )


def _refuse_cut_bone(anatomy: Anatomy, holes: tuple[Axis, ...], margin_mm: float) -> None:
    """A bone that the scan cuts has a face there that is none."""
    bone = anatomy.bones[0]
    inside = anatomy.field_of_view.inside(np.array([hole.origin_mm for hole in holes]), margin_mm)
    names = [hole.name for hole, well in zip(holes, inside, strict=True) if not well]
    if names and not bone.complete:
        raise OrderError(
            f"{', '.join(names)}: entry less than {margin_mm:g} mm from the edge of the scan, which cuts {bone.name}",
            hint="ask for a scan that shows more of the bone, or a smaller pad_mm",
        )


DRILL_TEMPLATE = Family(
    name=NAME,
    title="Drill template",
    parameters=DrillTemplateParameters,
    needs=(),
    propose=propose,
    build=build,
    checks=(sits_and_leads, holes_do_not_meet),
    release_checks=(seats_and_hits,),
    package=__name__,
)
