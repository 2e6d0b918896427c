"""A manufacturing process profile (``slicer/processes/*.toml``): what the process can hold, with the source of each number."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from batchone.pipeline.order import Model

Positive = Annotated[float, Field(gt=0)]


class Process(Model):
    """Limits and rates of one process with one material.

    ``sources`` maps each field name to where its number was read; a text that starts with ``unverified`` marks a default
    that nobody has confirmed. ``volume_rate_mm3_per_s`` is None where the time of a layer does not depend on what is in it;
    ``recoat_s`` is the time of a layer apart from that.
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
    needs_supports: bool
    tolerance_mm: Positive
    part_spacing_mm: Positive
    volume_rate_mm3_per_s: Positive | None = None
    recoat_s: Positive
    setup_s: Annotated[float, Field(ge=0)]
    after_printing: Annotated[tuple[str, ...], Field(strict=False)]
    sources: dict[str, str]
