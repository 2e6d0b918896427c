"""A manufacturing process profile (``slicer/processes/*.toml``): what the process can hold, with the source of each number."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from batchone.pipeline.order import Model

Positive = Annotated[float, Field(gt=0)]


class ScanStrategy(Model):
    """How a laser fills a layer.

    ``beam_mm`` is how far the melt reaches beyond the beam's middle, and how far inside of the contour the beam runs along it;
    ``hatch_gap_mm`` is what lines keep off that track.
    Lines lie ``hatch_mm`` apart; they run at ``first_deg`` in the first layer and are turned by ``turn_deg`` from layer to layer;
    ``stripe_mm`` cuts them into stripes of that width, None leaves them whole; those shorter than ``least_mm`` are left out.
    """

    hatch_mm: Positive
    beam_mm: Annotated[float, Field(ge=0)]
    hatch_gap_mm: Annotated[float, Field(ge=0)]
    first_deg: Annotated[float, Field(ge=0, lt=180)]
    turn_deg: Annotated[float, Field(ge=0, lt=180)]
    stripe_mm: Positive | None = None
    least_mm: Positive
    hatch_mm_per_s: Positive
    contour_mm_per_s: Positive
    jump_mm_per_s: Positive
    jump_s: Annotated[float, Field(ge=0)]
    sources: dict[str, str]

    @model_validator(mode="after")
    def _whole_pieces(self) -> ScanStrategy:
        if self.stripe_mm is not None and self.stripe_mm < self.least_mm:
            raise ValueError(f"stripe_mm is {self.stripe_mm:g}, at least least_mm = {self.least_mm:g}")
        return self


class Process(Model):
    """Limits and rates of one process with one material.

    ``sources`` maps each field name to where its number was read; a text that starts with ``unverified`` marks a default
    that nobody has confirmed. Of what overhangs beyond ``max_overhang_deg``, ``free_ledge_mm`` may stand out and
    ``free_bridge_mm`` may lie between two sides without a support, as may the roof of a hole of ``free_hole_mm``;
    a region of less than ``least_support_mm2`` that hangs on the part gets none.
    ``scan`` is None where no laser draws lines, and the time of a layer does not depend on what is in it; ``recoat_s`` is the
    time of a layer apart from that.
    """

    name: str
    title: str
    kind: Literal["lpbf", "sls", "vat"]
    material: str
    density_g_per_mm3: Positive
    layer_mm: Positive
    min_wall_mm: Positive
    min_hole_mm: Positive
    min_gap_mm: Positive
    min_escape_hole_mm: Positive
    hollow_wall_mm: Positive
    engrave_line_mm: Positive
    engrave_depth_mm: Positive
    font_height_mm: Positive
    max_overhang_deg: Annotated[float, Field(ge=0, le=90)]
    free_ledge_mm: Annotated[float, Field(ge=0)] = 0.0
    free_bridge_mm: Annotated[float, Field(ge=0)] = 0.0
    free_hole_mm: Annotated[float, Field(ge=0)] = 0.0
    least_support_mm2: Annotated[float, Field(ge=0)] = 0.0
    needs_supports: bool
    tolerance_mm: Positive
    part_spacing_mm: Positive
    recoat_s: Positive
    setup_s: Annotated[float, Field(ge=0)]
    after_printing: Annotated[tuple[str, ...], Field(strict=False)]
    sources: dict[str, str]
    scan: ScanStrategy | None = None
