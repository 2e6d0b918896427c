"""A pedicle guide: leads the drill through the pedicles of one or two vertebrae.

The ways in are proposed from the anatomy, each as far from the pedicle's walls as it allows, or drawn by the surgeon; the guide
sits on laminae and spinous process, hooks over the lower edge, and holds one sleeve for each way. A model of the bone goes with
it.

Anatomy: thoracic and lumbar vertebrae, from behind.
References: bilateral guides with hooks and crosslink 0.66 mm and 2.72 deg, minimal ones 1.20 mm and 5.61 deg (cadaver study,
University of Groningen); offset, screws and kit: facts per parameter; Gertzbein & Robbins 1990 (walls); K143222, K220132
(exclusions).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batchone.design.family import Checked, Family, measured
from batchone.design.guide.parameters import GuideParameters
from batchone.design.tables import Tables
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Device, Finding, Plan


class PedicleGuideParameters(GuideParameters):
    """What may be chosen about a pedicle guide; the defaults make a valid device."""

    shell_mm: Annotated[
        float,
        Field(
            ge=4.0,  # 3 to 6 mm are common practice; thinner ones kept thin spots at the ends of bars on scaled bones
            le=6.0,
            description="thickness of the shell, more where relief_mm leaves less than can be made; 4 mm in"
            " SlicerBoneReconstructionPlanner, up to 6 common practice",
        ),
    ] = 4.0
    pad_mm: Annotated[
        float,
        Field(ge=5.0, le=11.0, description="reach of the shell around the line of the entries; project default, unverified"),
    ] = 8.0
    hook_mm: Annotated[
        float, Field(ge=0.0, le=6.0, description="reach of the hooks over the lower edge, 0: none; project default, unverified")
    ] = 3.0
    rise_mm: Annotated[
        float,
        Field(ge=0.0, le=15.0, description="how far the shell climbs on the spinous process; project default, unverified"),
    ] = 6.0
    sleeve_mm: Annotated[
        float, Field(ge=10.0, le=30.0, description="length over which the drill is led; at least 10 to 15 mm, common practice")
    ] = 15.0
    sleeve_wall_mm: Annotated[
        float,
        Field(
            ge=1.2,
            le=4.0,
            description="wall of a sleeve, from the gate's 1 mm with room for its facets; outer diameter 6 mm in published guides"
            " (range: unverified)",
        ),
    ] = 2.0
    screw_length_mm: Annotated[
        float,
        Field(
            ge=0.0, le=80.0, description="planned screw's length, 0: the longest within 80 % of the bone's depth, common practice"
        ),
    ] = 0.0
    engrave: Annotated[bool, Field(description="engrave case code, level and an arrow to the head; project default")] = True
    bone_model: Annotated[bool, Field(description="a model of the bone with the guide; project default")] = True


def propose(anatomy: Anatomy, order: Order, tables: Tables) -> Plan:
    """Propose a way in for each pedicle; see :func:`batchone.design.pedicle.plan.propose_plan`."""
    from batchone.design.pedicle.plan import propose_plan

    return propose_plan(anatomy, order, tables)


def build(anatomy: Anatomy, plan: Plan, order: Order, process: Process, tables: Tables) -> Device:
    """Make one guide for each level; see :func:`batchone.design.pedicle.guide.build_guides`."""
    from batchone.design.pedicle.guide import build_guides

    return build_guides(anatomy, plan, order, process, tables)


def _measured(checked: Checked) -> tuple[Finding, ...]:
    from batchone.design.pedicle.checks import CHECKS

    return measured(CHECKS, checked)


def _measured_for_release(checked: Checked) -> tuple[Finding, ...]:
    from batchone.design.pedicle.checks import RELEASE_CHECKS

    return measured(RELEASE_CHECKS, checked)


PEDICLE_GUIDE = Family(
    name="pedicle-guide",
    title="Pedicle guide",
    parameters=PedicleGuideParameters,
    needs=(),
    propose=propose,
    build=build,
    checks=(_measured,),
    release_checks=(_measured_for_release,),
)
