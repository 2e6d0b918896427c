"""A cranial implant: closes a defect of the skull vault.

The defect, the healthy contour over it and the way in are proposed from the anatomy (:mod:`batchone.design.cranial.plan`), or
start from a rim that a person drew; the body follows the contour, stands off the bone by ``border_gap_mm`` all along the rim,
and slides in along one axis without catching.

Anatomy: the vault of a skull from frontal to occipital bone, above orbits, zygoma and skull base.
References: Nout & Mommaerts 2018 (contour, temporal border, drainage); K231834, K250334, K121102, K121153 (size, thickness,
perforations).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from batchone.design.family import Checked, Family
from batchone.design.tables import Tables
from batchone.pipeline.order import Order, Parameters
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Device, Finding, Plan

_MIN_BRIDGE_MM = 2.0  # material left between neighbouring perforations; project default, unverified


class CranialImplantParameters(Parameters):
    """What may be chosen about a cranial implant; the defaults make a valid device."""

    border_gap_mm: Annotated[
        float, Field(ge=0.3, le=1.0, description="gap to the bone all along the rim; 0.3 to 1.0 mm, common design practice")
    ] = 0.5
    thickness_mode: Annotated[
        Literal["constant", "bone"],
        Field(description="constant: thickness_mm everywhere; bone: as thick as the missing bone; project default, unverified"),
    ] = "constant"
    thickness_mm: Annotated[
        float, Field(ge=2.0, le=10.0, description="thickness when constant; 2 to 10 mm, K250334; nominal 3 mm, K231834")
    ] = 3.0
    under_contour_mm: Annotated[
        float,
        Field(
            ge=0.0,
            le=3.0,
            description="how far the outer face stays below the healthy contour away from the rim, which helps closure; "
            "Nout & Mommaerts 2018 (upper limit: project default, unverified)",
        ),
    ] = 0.0
    perforation_mm: Annotated[
        float, Field(ge=1.0, le=4.0, description="diameter of the drainage holes; 2 mm in K121102 (range: unverified)")
    ] = 2.0
    perforation_pitch_mm: Annotated[
        float,
        Field(ge=0.0, le=30.0, description="distance between drainage holes, 0: none; 10 mm in K121102 (range: unverified)"),
    ] = 10.0
    perforation_border_mm: Annotated[
        float, Field(ge=5.0, le=20.0, description="solid border without drainage holes; at least 5 mm, common design practice")
    ] = 5.0
    fixation_holes: Annotated[
        int, Field(ge=0, le=16, description="screw holes along the border for microplates, 0: none; project default, unverified")
    ] = 4
    fixation_hole_mm: Annotated[
        float,
        Field(ge=1.6, le=3.0, description="diameter of a screw hole; clears screws of 1.5 to 2.0 mm, common design practice"),
    ] = 2.2
    fixation_border_mm: Annotated[
        float, Field(ge=5.0, le=15.0, description="centre of a screw hole to the border; at least 5 mm, common design practice")
    ] = 5.0
    edge_radius_mm: Annotated[
        float, Field(ge=0.0, le=1.5, description="rounding of the edges of the border, 0: sharp; project default, unverified")
    ] = 0.5
    engrave: Annotated[
        bool,
        Field(
            description="engrave the case code and an arrow to the head's top (at the vertex: to the front) into the outer face"
        ),
    ] = True

    @model_validator(mode="after")
    def _bridges_remain(self) -> CranialImplantParameters:
        bridge_mm = self.perforation_pitch_mm - self.perforation_mm
        if self.perforation_pitch_mm > 0.0 and bridge_mm < _MIN_BRIDGE_MM:
            raise ValueError(
                f"perforation_pitch_mm leaves bridges of {bridge_mm:.1f} mm between holes, at least {_MIN_BRIDGE_MM:.1f} mm"
            )
        return self


def propose(anatomy: Anatomy, order: Order, tables: Tables) -> Plan:
    """Find the defect (or take the order's ``rim``) and propose contour, symmetry plane and insertion axis.

    Returns
    -------
    Plan
        See :func:`batchone.design.cranial.plan.propose_plan`.

    Raises
    ------
    OrderError
        No skull, no defect, a rim that is off the bone, or the defect is on the other side than ordered.
    DesignError
        No healthy contour could be found.
    """
    from batchone.design.cranial.plan import propose_plan

    return propose_plan(anatomy, order)


def build(anatomy: Anatomy, plan: Plan, order: Order, process: Process, tables: Tables) -> Device:
    """Make the implant's body with its features.

    Raises
    ------
    DesignError
        No closed body of the ordered parameters exists.
    """
    from batchone.design.cranial.body import build_implant

    return build_implant(anatomy, plan, order, process)


def _measured(checked: Checked) -> tuple[Finding, ...]:
    from batchone.design.cranial.checks import CHECKS

    return tuple(finding for check in CHECKS for finding in check(checked))


def _measured_for_release(checked: Checked) -> tuple[Finding, ...]:
    from batchone.design.cranial.checks import RELEASE_CHECKS

    return tuple(finding for check in RELEASE_CHECKS for finding in check(checked))


CRANIAL_IMPLANT = Family(
    name="cranial-implant",
    title="Cranial implant",
    parameters=CranialImplantParameters,
    needs=("skull",),
    propose=propose,
    build=build,
    checks=(_measured,),
    release_checks=(_measured_for_release,),
)
