"""A manufacturing process profile (``slicer/processes/*.toml``): what the process can hold, with the source of each number."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from batchone.pipeline.order import Model

Positive = Annotated[float, Field(gt=0)]
_FLAT_DEG: Final = 80.0  # project default, unverified: from here on a roof is a flat bridge and no arch


class ScanStrategy(Model):
    """How a laser fills a layer.

    ``beam_mm`` is how far the melt reaches beyond the beam's middle, and how far inside of the contour the beam runs along it;
    ``hatch_gap_mm`` is what lines keep off that track.
    Lines lie ``hatch_mm`` apart; they run at ``first_deg`` in the first layer and are turned by ``turn_deg`` from layer to layer;
    ``stripe_mm`` cuts them into stripes of that width, None leaves them whole; those shorter than ``least_mm`` are left out.
    The laser takes ``line_s`` to go on and off, and up to ``corner_s`` (where it turns back) at a corner of a contour; a jump
    speeds up by ``jump_mm_per_s2`` to ``jump_mm_per_s`` and takes ``jump_s`` to settle.
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
    line_s: Annotated[float, Field(ge=0)]
    corner_s: Annotated[float, Field(ge=0)]
    jump_mm_per_s: Positive
    jump_mm_per_s2: Positive
    jump_s: Annotated[float, Field(ge=0)]
    sources: dict[str, str]

    @model_validator(mode="after")
    def _whole_pieces(self) -> ScanStrategy:
        if self.stripe_mm is not None and self.stripe_mm < self.least_mm:
            raise ValueError(f"stripe_mm is {self.stripe_mm:g}, at least least_mm = {self.least_mm:g}")
        return self


class BlockSupports(Model):
    """Walls on a grid under wide overhangs.

    They stand ``grid_mm`` apart and are ``wall_mm`` thick; their teeth, ``tooth_base_mm`` wide with ``tooth_gap_mm`` between
    them, end ``tooth_tip_mm`` wide and reach ``penetration_mm`` into the part. Squares on their corners, ``hole_mm`` from
    corner to corner with struts of ``truss_mm`` between them, let the powder out. Overhangs below ``least_mm2`` get trees.
    """

    least_mm2: Positive
    grid_mm: Positive
    wall_mm: Positive
    tooth_height_mm: Positive
    tooth_base_mm: Positive
    tooth_tip_mm: Positive
    tooth_gap_mm: Positive
    penetration_mm: Annotated[float, Field(ge=0)]
    hole_mm: Annotated[float, Field(ge=0)]
    truss_mm: Positive
    sources: dict[str, str]


class Supports(Model):
    """What carries a part while it is made.

    Parts stand ``lift_mm`` above the plate. Where an underside needs supports, by what the process carries freely, they stand
    under all of it beyond ``from_deg`` from the vertical, so that nothing lies farther than ``spread_mm`` from one; pieces of a
    layer below ``least_island_mm2`` need nothing below them. Supports keep ``gap_mm`` off functional faces and ``side_gap_mm``
    off what else they pass. A trunk of ``trunk_mm`` ends in a tip of ``tip_mm``, ``tip_height_mm`` long, that reaches
    ``penetration_mm`` into the part; where something is in the way it stands up to ``aside_mm`` aside and leans by
    ``lean_deg``. Trunks up to ``brace_mm`` apart are braced, and stand on a raft of ``raft_mm``; 0 for none.
    ``hatched``: a laser fills them with lines, not with contours alone.
    """

    lift_mm: Annotated[float, Field(ge=0)]
    from_deg: Annotated[float, Field(gt=0, le=90)]
    spread_mm: Positive
    least_island_mm2: Annotated[float, Field(ge=0)]
    gap_mm: Positive
    side_gap_mm: Positive
    tip_mm: Positive
    tip_height_mm: Positive
    trunk_mm: Positive
    penetration_mm: Annotated[float, Field(ge=0)]
    lean_deg: Annotated[float, Field(gt=0, lt=90)]
    aside_mm: Annotated[float, Field(ge=0)]
    brace_mm: Annotated[float, Field(ge=0)]
    raft_mm: Annotated[float, Field(ge=0)]
    hatched: bool
    sources: dict[str, str]
    block: BlockSupports | None = None

    @model_validator(mode="after")
    def _room_above_the_raft(self) -> Supports:
        if self.raft_mm > 0.0 and self.lift_mm < self.raft_mm + self.gap_mm:
            raise ValueError(f"lift_mm is {self.lift_mm:g}, at least raft_mm + gap_mm = {self.raft_mm + self.gap_mm:g}")
        return self


class Process(Model):
    """Limits and rates of one process with one material.

    ``sources`` maps each field name to where its number was read; a text that starts with ``unverified`` marks a default
    that nobody has confirmed. ``scan`` is None where no laser draws lines, and the time of a layer does not depend on what is
    in it; ``recoat_s`` is the time of a layer apart from that. An estimate of time lies within the share
    ``time_within`` of what the machine takes. Toolpaths of ``fff`` are made by a foreign program with the
    configuration of the process's name (``slicer/prusa/*.ini``); their time is that of the moves. ``supports`` is None where
    none are made here.

    What the process carries freely has one set of limits for the way up, the supports and the check of the layers: of what
    overhangs beyond ``max_overhang_deg``, ``free_ledge_mm`` may stand out from where the part goes on downwards, and
    ``free_bridge_mm`` may lie between two such sides, as may the roof of a hole of ``free_hole_mm``; what is left of a region
    that hangs on the part, where it is less than ``least_support_mm2`` in all seen from above, needs no support.
    """

    name: str
    title: str
    kind: Literal["lpbf", "sls", "vat", "fff"]
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
    recoat_s: Annotated[float, Field(ge=0)]
    setup_s: Annotated[float, Field(ge=0)]
    time_within: Annotated[float, Field(gt=0, lt=1)]
    after_printing: Annotated[tuple[str, ...], Field(strict=False)]
    sources: dict[str, str]
    scan: ScanStrategy | None = None
    supports: Supports | None = None

    @model_validator(mode="after")
    def _supports_where_they_are_needed(self) -> Process:
        if self.needs_supports and self.kind != "fff" and self.supports is None:
            raise ValueError(f"a process of kind {self.kind} that needs supports has a table [supports]")
        return self

    @property
    def free_spans(self) -> tuple[tuple[float, float], ...]:
        """What may lie between two sides: from an angle from the vertical on (deg), how far apart these may be (mm).

        Of the roof of a hole only what is beyond the overhang limit hangs; the flat middle of it is a bridge.
        """
        arch_mm = self.free_hole_mm * math.cos(math.radians(self.max_overhang_deg))
        spans = [(self.max_overhang_deg, max(arch_mm, self.free_bridge_mm))]
        if arch_mm > self.free_bridge_mm:
            spans.append((max(_FLAT_DEG, self.max_overhang_deg), self.free_bridge_mm))
        return tuple(spans)
