"""An osteotomy guide: leads the saw through a long bone along planned planes, and the pins that hold it on both sides of the cut.

The planes are proposed from the landmarks of the bone (below the plateau of a tibia, or across a shaft; opening and closing
wedges with a hinge), or drawn by the surgeon. The guide sits on one face of the bone, holds a slot for each plane and two crossed
pins on each end, and may reach along the shaft. A model of the bone goes with it.

Anatomy: tibia (proximal); any long bone with a shaft (shaft, or drawn planes).
References: slots, offset, shell and walls: SlicerBoneReconstructionPlanner; Vlachopoulos et al. 2018 (single cuts 3.5 deg off the
plan, opening wedges of the radius 8.3 deg); Caiti et al. 2018 (extension along the shaft); hinge 5 to 10 mm before the far
cortex: common practice in high tibial osteotomy.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from batchone.design.family import Checked, Family, measured
from batchone.design.guide.parameters import GuideParameters
from batchone.design.tables import Tables
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Device, Finding, Plan

LEAST_MARK_MM = 2.0  # a pen's or a cautery's tip; project default, unverified


class OsteotomyGuideParameters(GuideParameters):
    """What may be chosen about an osteotomy guide; the defaults make a valid device for the upper end of a tibia."""

    site: Annotated[
        Literal["proximal", "shaft"],
        Field(description="where planes are proposed: below the plateau of a tibia, or across the shaft; project default"),
    ] = "proximal"
    cut_mm: Annotated[
        float,
        Field(ge=20.0, le=60.0, description="proximal: below the plateau where the saw goes in; 30 to 40 mm, common practice"),
    ] = 35.0
    aim_mm: Annotated[
        float,
        Field(
            ge=8.0,
            le=40.0,
            description="proximal: below the plateau at the far cortex, above the fibular head; 15 mm, common practice",
        ),
    ] = 15.0
    shaft_percent: Annotated[
        int, Field(ge=20, le=80, description="shaft: height of the cut in percent of the length, from below; project default")
    ] = 50
    wedge: Annotated[
        Literal["none", "opening", "closing"],
        Field(
            description="none: one cut through; opening: one cut to a hinge; closing: two that meet there; shafts are cut through"
        ),
    ] = "opening"
    wedge_deg: Annotated[
        float, Field(ge=2.0, le=25.0, description="angle of the wedge; 5 to 15 degrees, common practice (range: unverified)")
    ] = 8.0
    hinge_mm: Annotated[
        float, Field(ge=5.0, le=10.0, description="proximal: bone left at the far cortex of a wedge; 5 to 10 mm, common practice")
    ] = 8.0
    approach: Annotated[
        Literal["site", "medial", "anteromedial", "anterior", "anterolateral", "lateral", "posterior"],
        Field(description="face that the saw comes from; site: medial (proximal), anteromedial (shaft, drawn planes)"),
    ] = "site"
    shell_mm: Annotated[
        float, Field(ge=4.0, le=6.0, description="thickness of the plate; 4 mm, SlicerBoneReconstructionPlanner guides")
    ] = 4.0
    plate_mm: Annotated[
        float, Field(ge=16.0, le=40.0, description="width of the plate on the bone; project default, unverified")
    ] = 24.0
    guided_mm: Annotated[
        float, Field(ge=10.0, le=30.0, description="depth over which the saw is led; at least 15 mm, common practice")
    ] = 15.0
    slot: Annotated[
        Literal["captured", "open"], Field(description="closed at both ends, or open at the front: blades go in from the side")
    ] = "captured"
    beyond_mm: Annotated[
        float, Field(ge=5.0, le=10.0, description="how far a slot runs past the bone on each side; 5 to 10 mm, common practice")
    ] = 5.0
    slot_wall_mm: Annotated[
        float, Field(ge=2.5, le=6.0, description="wall beside a slot; 3.0 mm, SlicerBoneReconstructionPlanner guides")
    ] = 3.5
    pin_from_cut_mm: Annotated[
        float, Field(ge=8.0, le=30.0, description="from a cut to the first pin beside it; project default, unverified")
    ] = 10.0
    pin_apart_mm: Annotated[
        float,
        Field(ge=6.0, le=30.0, description="between the two pins of a side, where the bone is wide; project default, unverified"),
    ] = 14.0
    pin_cross_deg: Annotated[
        float,
        Field(
            ge=10.0, le=40.0, description="between the two pins of a side: never parallel, common practice (value: unverified)"
        ),
    ] = 20.0
    pin_depth_mm: Annotated[
        float, Field(ge=15.0, le=80.0, description="depth of a pin, less where the bone ends; project default, unverified")
    ] = 40.0
    sleeve_mm: Annotated[
        float, Field(ge=8.0, le=30.0, description="length over which a pin is led; 10 to 15 mm, common practice")
    ] = 12.0
    sleeve_wall_mm: Annotated[
        float, Field(ge=1.2, le=4.0, description="wall of a sleeve; 3 mm between sleeves in dental guides (range: unverified)")
    ] = 2.0
    extension_mm: Annotated[
        float,
        Field(
            ge=0.0,
            le=80.0,
            description="arm along the shaft, 0: none; better placed with one: Caiti et al. 2018 (length: unverified)",
        ),
    ] = 20.0
    mark_mm: Annotated[
        float,
        Field(
            ge=0.0,
            le=4.0,
            description="hole on each side of the cuts to mark the bone through, against rotation, 0: none; default, unverified",
        ),
    ] = 0.0
    engrave: Annotated[bool, Field(description="engrave case code, bone, side and an arrow to the head; project default")] = True
    bone_model: Annotated[bool, Field(description="a model of the bone about the cuts with the guide; project default")] = True

    @model_validator(mode="after")
    def _nothing_that_cannot_be_made(self) -> OsteotomyGuideParameters:
        if 0.0 < self.mark_mm < LEAST_MARK_MM:
            raise ValueError(f"mark_mm is {self.mark_mm:g}, must be 0 or at least {LEAST_MARK_MM:g} mm")
        return self


def propose(anatomy: Anatomy, order: Order, tables: Tables) -> Plan:
    """Lay the planes, the pins and the way out; see :func:`batchone.design.osteotomy.plan.propose_plan`."""
    from batchone.design.osteotomy.plan import propose_plan

    return propose_plan(anatomy, order, tables)


def build(anatomy: Anatomy, plan: Plan, order: Order, process: Process, tables: Tables) -> Device:
    """Make one guide for each bone; see :func:`batchone.design.osteotomy.guide.build_guides`."""
    from batchone.design.osteotomy.guide import build_guides

    return build_guides(anatomy, plan, order, process, tables)


def _measured(checked: Checked) -> tuple[Finding, ...]:
    from batchone.design.osteotomy.checks import CHECKS

    return measured(CHECKS, checked)


def _measured_for_release(checked: Checked) -> tuple[Finding, ...]:
    from batchone.design.osteotomy.checks import RELEASE_CHECKS

    return measured(RELEASE_CHECKS, checked)


OSTEOTOMY_GUIDE = Family(
    name="osteotomy-guide",
    title="Osteotomy guide",
    parameters=OsteotomyGuideParameters,
    needs=(),
    propose=propose,
    build=build,
    checks=(_measured,),
    release_checks=(_measured_for_release,),
)
