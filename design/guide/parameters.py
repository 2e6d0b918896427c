"""What every guide's parameters share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from batchone.pipeline.order import Parameters

LEAST_OFFSET_MM = 0.1  # a smaller gap cannot be told from none by any process; facts of contact offsets: 0.1 to 0.5 mm
LEAST_WINDOW_MM = 3.0  # through a smaller window in a shell of 4 mm little is seen; project default, unverified


class GuideParameters(Parameters):
    """What may be chosen about any guide that sits on bone."""

    contact_offset_mm: Annotated[
        float,
        Field(
            ge=0.0,
            le=0.5,
            description="gap to the bone where the guide touches, 0: what the process needs; 0.1 to 0.3 mm, common practice; "
            "0.3 to 0.5 mm, guides of long bones",
        ),
    ] = 0.0
    relief_mm: Annotated[
        float,
        Field(
            ge=0.6,
            le=2.5,
            description="gap elsewhere: soft tissue, uncertain bone; more thins walls between slots; project default, unverified",
        ),
    ] = 1.2
    optimise_contact: Annotated[
        bool,
        Field(
            description="a shell that may be wider or leave parts out, with no more contact, touching where it seats best; takes "
            "one to three minutes; project default"
        ),
    ] = False
    insert: Annotated[
        Literal["press", "slip"],
        Field(description="how a metal insert ([instruments] sleeve) sits: pressed in, or to slip out again; project default"),
    ] = "press"
    window_mm: Annotated[
        float,
        Field(
            ge=0.0,
            le=8.0,
            description="inspection window through which seating is seen, 0: none; project default, unverified",
        ),
    ] = 0.0

    @model_validator(mode="after")
    def _no_gap_or_window_too_small(self) -> GuideParameters:
        if 0.0 < self.contact_offset_mm < LEAST_OFFSET_MM:
            raise ValueError(f"contact_offset_mm is {self.contact_offset_mm:g}, must be 0 or at least {LEAST_OFFSET_MM:g} mm")
        if 0.0 < self.window_mm < LEAST_WINDOW_MM:
            raise ValueError(f"window_mm is {self.window_mm:g}, must be 0 or at least {LEAST_WINDOW_MM:g} mm")
        return self
