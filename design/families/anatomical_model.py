"""An anatomical model: the bone as it is, to look at, to plan on and to explain with.

The bone's surface is kept within ``simplify_mm``. It may be cut to a region along its own axis, hollowed where it is thick
enough, and its loose pieces are tied together with pins. The case code and the marks L and R are engraved; a cube of known
size is printed beside it, so that anyone can check the scale with a caliper.

Anatomy: any bone. References: RSNA 3D printing SIG 2018 (1 mm tolerance, quality control); generic SLS design guides (hollow
walls, escape holes).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from batchone.design.family import Checked, Family
from batchone.design.tables import Tables
from batchone.pipeline.order import Order, Parameters
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Device, Finding, Plan


class AnatomicalModelParameters(Parameters):
    """What may be chosen about an anatomical model; the defaults make a valid device."""

    cut_bottom_mm: Annotated[
        float,
        Field(
            ge=0.0, le=300.0, description="cut off this much at the lower end of the bone's own axis; project default, unverified"
        ),
    ] = 0.0
    cut_top_mm: Annotated[
        float,
        Field(
            ge=0.0, le=300.0, description="cut off this much at the upper end of the bone's own axis; project default, unverified"
        ),
    ] = 0.0
    hollow: Annotated[bool, Field(description="remove the inside where the bone is thick enough, with escape holes")] = False
    wall_mm: Annotated[
        float,
        Field(
            ge=1.0, le=8.0, description="wall left when hollow; 2 to 3 mm, generic SLS design guides (the process sets the least)"
        ),
    ] = 2.5
    escape_hole_mm: Annotated[
        float,
        Field(
            ge=2.0,
            le=12.0,
            description="diameter of an escape hole; 3 to 3.5 mm or more, generic SLS design guides (the process sets the least)",
        ),
    ] = 4.0
    escape_holes: Annotated[
        int, Field(ge=2, le=6, description="escape holes of each cavity; at least 2, generic SLS design guides")
    ] = 2
    pin_mm: Annotated[
        float, Field(ge=3.0, le=5.0, description="diameter of a pin that ties a loose piece; 3 to 5 mm, common design practice")
    ] = 4.0
    pin_reach_mm: Annotated[
        float,
        Field(ge=5.0, le=60.0, description="longest free length of a pin; loose pieces further off are left out; unverified"),
    ] = 25.0
    crumb_mm3: Annotated[
        float, Field(ge=0.0, le=5000.0, description="loose pieces up to this volume are left out; project default, unverified")
    ] = 50.0
    engrave: Annotated[bool, Field(description="engrave the case code and the side marks L and R")] = True
    text_height_mm: Annotated[
        float,
        Field(ge=2.0, le=12.0, description="height of an engraved capital; at least 2 mm, generic SLS design guides"),
    ] = 5.0
    scale_cube: Annotated[bool, Field(description="print a cube of known size beside the model")] = True
    scale_cube_mm: Annotated[
        float, Field(ge=5.0, le=30.0, description="edge of the scale cube; 10 mm, common practice (range: unverified)")
    ] = 10.0
    simplify_mm: Annotated[
        float,
        Field(
            ge=0.0, le=0.2, description="largest distance by which triangles may move when their number is reduced; unverified"
        ),
    ] = 0.05

    @model_validator(mode="after")
    def _wall_is_thinner_than_hole_is_wide(self) -> AnatomicalModelParameters:
        if self.hollow and self.escape_hole_mm < self.wall_mm:
            raise ValueError(
                f"escape_hole_mm is {self.escape_hole_mm:g} mm, at least the wall_mm of {self.wall_mm:g} mm it goes through, "
                "so that powder flows out"
            )
        return self


def propose(anatomy: Anatomy, order: Order, tables: Tables) -> Plan:
    """Lay the planes of the region along the axis of the first bone.

    Raises
    ------
    OrderError
        A bone of the order is not in the anatomy, or the cuts leave nothing.
    """
    from batchone.design.model.region import propose_region

    return propose_region(anatomy, order)


def build(anatomy: Anatomy, plan: Plan, order: Order, process: Process, tables: Tables) -> Device:
    """Make the model and its scale cube.

    Raises
    ------
    OrderError
        A parameter is below what the process can hold.
    DesignError
        No closed body exists.
    """
    from batchone.design.model.body import build_model

    return build_model(anatomy, plan, order, process)


def _measured(checked: Checked) -> tuple[Finding, ...]:
    from batchone.design.model.checks import CHECKS

    return tuple(finding for check in CHECKS for finding in check(checked))


ANATOMICAL_MODEL = Family(
    name="anatomical-model",
    title="Anatomical model",
    parameters=AnatomicalModelParameters,
    needs=(),
    propose=propose,
    build=build,
    checks=(_measured,),
)
