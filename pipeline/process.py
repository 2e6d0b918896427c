"""A manufacturing process profile (``slicer/processes/*.toml``): what the process can hold, with the source of each number."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, get_args

from pydantic import Field, model_validator

from batchone.pipeline.order import Model

# What no process of these kinds goes beyond: wide of every shipped number, to catch a wrong unit or a slip of the point before
# it is built or fills the memory. Project defaults; where a number has a reason of its own it is told.
Layer = Annotated[float, Field(ge=0.005, le=1.0)]  # a unit of the layer file; SLA is the finest with 0.025, coarse FFF has 0.4
Density = Annotated[float, Field(ge=5e-4, le=0.0226)]  # half of the lightest printed polymer (PP); osmium, the densest element
Spacing = Annotated[float, Field(ge=0.01, le=5.0)]  # of lines: two units of the layer file; a laser of these melts 0.05 to 0.5
Beam = Annotated[float, Field(ge=0, le=1.0)]  # half of the melt: that of powder beds is 0.05 to 0.3
Speed = Annotated[float, Field(ge=1.0, le=100_000.0)]  # mm/s: galvanometers draw at up to some 10 m/s and jump a little faster
Speeding = Annotated[float, Field(ge=1e3, le=1e9)]  # mm/s2: galvanometers reach their speed within 0.1 to 1 ms
Delay = Annotated[float, Field(ge=0, le=1.0)]  # s: those of lasers and mirrors are below 0.01
Length = Annotated[float, Field(ge=0.01, le=100.0)]  # of a feature: two units of the layer file; a third of a plate
Free = Annotated[float, Field(ge=0, le=100.0)]
Area = Annotated[float, Field(ge=0, le=10_000.0)]  # mm2: a square of the largest length
Scale = Annotated[float, Field(ge=0.9, le=1.1)]  # no material of these processes shrinks by a tenth


Region = Literal["contour", "inner-contour", "core", "up-skin", "down-skin"]
REGIONS: Final[tuple[Region, ...]] = get_args(Region)  # what of a layer a laser draws with parameters of its own
CONTOURS: Final[tuple[Region, ...]] = ("contour", "inner-contour")


class Skin(Model):
    """The region of a layer that one of the next ``layers`` above (up-skin) or below (down-skin) does not cover.

    Its lines lie ``hatch_mm`` apart, go on by ``overlap_mm`` beyond it, and are drawn at ``hatch_mm_per_s``.
    """

    layers: Annotated[int, Field(ge=1, le=50)]
    overlap_mm: Annotated[float, Field(ge=0, le=5.0)]
    hatch_mm: Spacing
    hatch_mm_per_s: Speed
    sources: dict[str, str]


class InnerContour(Model):
    """A second contour, ``gap_mm`` within the first, at ``contour_mm_per_s``."""

    gap_mm: Spacing
    contour_mm_per_s: Speed
    sources: dict[str, str]


_FLAT_DEG: Final = 80.0  # project default, unverified: from here on a roof is a flat bridge and no arch


class ScanStrategy(Model):
    """How a laser fills a layer.

    ``beam_mm`` is how far the melt reaches beyond the beam's middle, so the contour that the beam runs along lies so far inside
    of the part's outline; ``inner_contour`` is a second one; ``hatch_gap_mm`` is what lines keep off the innermost.
    Lines of the core lie ``hatch_mm`` apart; all lines run at ``first_deg`` in the first layer and are turned by ``turn_deg``
    from layer to layer; ``stripe_mm`` cuts them into stripes of that width, None leaves them whole; those shorter than
    ``least_mm`` are left out. What belongs to both skins is down-skin, and stretches of a skin shorter than ``least_mm`` are
    core. ``order`` names what is drawn of each layer, first to last, contours before lines; ``parameters`` the machine's
    parameter set of each. The laser takes ``line_s`` to go on and off, and up to ``corner_s`` (where it turns back) at a corner
    of a contour; a jump speeds up by ``jump_mm_per_s2`` to ``jump_mm_per_s`` and takes ``jump_s`` to settle.
    """

    hatch_mm: Spacing
    beam_mm: Beam
    hatch_gap_mm: Beam
    first_deg: Annotated[float, Field(ge=0, lt=180)]
    turn_deg: Annotated[float, Field(ge=0, lt=180)]
    stripe_mm: Length | None = None
    least_mm: Annotated[float, Field(gt=0, le=5.0)]  # however small, it costs nothing: it only leaves out
    hatch_mm_per_s: Speed
    contour_mm_per_s: Speed
    line_s: Delay
    corner_s: Delay
    jump_mm_per_s: Speed
    jump_mm_per_s2: Speeding
    jump_s: Delay
    order: Annotated[tuple[Region, ...], Field(strict=False)]
    parameters: dict[Region, str]
    sources: dict[str, str]
    inner_contour: InnerContour | None = None
    up_skin: Skin | None = None
    down_skin: Skin | None = None

    @model_validator(mode="after")
    def _whole_pieces(self) -> ScanStrategy:
        if self.stripe_mm is not None and self.stripe_mm < self.least_mm:
            raise ValueError(f"stripe_mm is {self.stripe_mm:g}, at least least_mm = {self.least_mm:g}")
        return self

    @model_validator(mode="after")
    def _every_region_once(self) -> ScanStrategy:
        there = {"inner-contour": self.inner_contour, "up-skin": self.up_skin, "down-skin": self.down_skin}
        wanted = [region for region in REGIONS if there.get(region, True) is not None]
        if sorted(self.order) != sorted(wanted):
            raise ValueError(f"order is {', '.join(self.order)}; must name each of {', '.join(wanted)} once")
        if sorted(self.order, key=lambda region: region not in CONTOURS) != list(self.order):
            raise ValueError(f"order is {', '.join(self.order)}; contours come before lines, as in the file of layers")
        if sorted(self.parameters) != sorted(wanted):
            raise ValueError(f"parameters are for {', '.join(self.parameters)}; must be for {', '.join(wanted)}")
        return self

    @property
    def inset_mm(self) -> float:
        """How far lines keep off the outline."""
        return self.contour_inset_mm("inner-contour") + self.hatch_gap_mm

    def contour_inset_mm(self, region: Region) -> float:
        """How far inside of the outline a contour lies."""
        inner = self.inner_contour
        return self.beam_mm + (inner.gap_mm if inner is not None and region == "inner-contour" else 0.0)

    def spacing_mm(self, region: Region) -> float:
        """Between the lines of a region."""
        skin = self._skin(region)
        return skin.hatch_mm if skin is not None else self.hatch_mm

    def overlap_mm(self, region: Region) -> float:
        """By how much the lines of a region go on beyond it."""
        skin = self._skin(region)
        return skin.overlap_mm if skin is not None else 0.0

    def mm_per_s(self, region: Region) -> float:
        """At which a region is drawn."""
        skin, inner = self._skin(region), self.inner_contour
        if region in CONTOURS:
            return inner.contour_mm_per_s if inner is not None and region == "inner-contour" else self.contour_mm_per_s
        return skin.hatch_mm_per_s if skin is not None else self.hatch_mm_per_s

    def _skin(self, region: Region) -> Skin | None:
        return {"up-skin": self.up_skin, "down-skin": self.down_skin}.get(region)


class Conditions(Model):
    """What the cell holds while it builds, and what it writes down.

    ``lot_keys`` are what it fills in about the material that it loads; ``refresh_share`` is the least share of new material in
    it, None where it is not mixed. The chamber has ``inert_gas`` with at most ``oxygen_percent``. ``scale`` are the factors
    (x, y, z) by which the machine is to enlarge the layers against shrinkage: layers are always written in the size of the part;
    None leaves it to the machine's own calibration.
    """

    lot_keys: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    inert_gas: Literal["argon", "nitrogen", "none"]
    oxygen_percent: Annotated[float, Field(gt=0, le=21)] | None = None
    refresh_share: Annotated[float, Field(ge=0, le=1)] | None = None
    scale: Annotated[tuple[Scale, Scale, Scale], Field(strict=False)] | None = None
    sources: dict[str, str]

    @model_validator(mode="after")
    def _gas_where_oxygen_is_kept_out(self) -> Conditions:
        if (self.oxygen_percent is None) != (self.inert_gas == "none"):
            raise ValueError(f"inert_gas is {self.inert_gas}, oxygen_percent is {self.oxygen_percent}; they go together")
        return self


class Recoating(Model):
    """What the blade of a recoater does to walls.

    Walls of up to ``thin_wall_mm`` are thin; they should meet the blade at ``flat_deg`` or more, so parts are turned about the
    vertical by up to ``most_turn_deg``.
    """

    thin_wall_mm: Length
    flat_deg: Annotated[float, Field(gt=0, le=45)]
    most_turn_deg: Annotated[float, Field(ge=0, le=45)]
    sources: dict[str, str]


class BlockSupports(Model):
    """Walls on a grid under wide overhangs.

    They stand ``grid_mm`` apart and are ``wall_mm`` thick; their teeth, ``tooth_base_mm`` wide with ``tooth_gap_mm`` between
    them, end ``tooth_tip_mm`` wide and reach ``penetration_mm`` into the part. Squares on their corners, ``hole_mm`` from
    corner to corner with struts of ``truss_mm`` between them, let the powder out. Overhangs below ``least_mm2`` get trees.
    """

    least_mm2: Annotated[float, Field(gt=0, le=10_000.0)]
    grid_mm: Length
    wall_mm: Length
    tooth_height_mm: Length
    tooth_base_mm: Length
    tooth_tip_mm: Length
    tooth_gap_mm: Length
    penetration_mm: Free
    hole_mm: Free
    truss_mm: Length
    sources: dict[str, str]

    @model_validator(mode="after")
    def _walls_apart(self) -> BlockSupports:
        if self.grid_mm <= self.wall_mm:  # or else the block is solid
            raise ValueError(f"grid_mm is {self.grid_mm:g}, more than wall_mm = {self.wall_mm:g}")
        if self.tooth_tip_mm > self.tooth_base_mm:
            raise ValueError(f"tooth_tip_mm is {self.tooth_tip_mm:g}, at most tooth_base_mm = {self.tooth_base_mm:g}")
        return self


class Supports(Model):
    """What carries a part while it is made.

    Parts stand ``lift_mm`` above the plate. Where an underside needs supports, by what the process carries freely, they stand
    under all of it beyond ``from_deg`` from the vertical, so that nothing lies farther than ``spread_mm`` from one; pieces of a
    layer below ``least_island_mm2`` need nothing below them. Supports keep ``gap_mm`` off functional faces and ``side_gap_mm``
    off what else they pass. A trunk of ``trunk_mm`` ends in a tip of ``tip_mm``, ``tip_height_mm`` long, that reaches
    ``penetration_mm`` into the part; where something is in the way it stands up to ``aside_mm`` aside and leans by
    ``lean_deg``. Trunks up to ``brace_mm`` apart are braced, and stand on a raft of ``raft_mm``; 0 for none. Where a film pulls
    at each layer, which each vat does, a mm2 of tips holds up to ``most_pull`` mm2 of a layer above: with fewer, steeper
    undersides get tips too.
    ``hatched``: a laser fills them with lines, not with contours alone.
    """

    lift_mm: Free
    from_deg: Annotated[float, Field(gt=0, le=90)]
    spread_mm: Annotated[float, Field(ge=0.1, le=100.0)]  # tips closer than they are wide are a block
    least_island_mm2: Area
    gap_mm: Length
    side_gap_mm: Length
    tip_mm: Length
    tip_height_mm: Length
    trunk_mm: Length
    penetration_mm: Free
    lean_deg: Annotated[float, Field(gt=0, lt=90)]
    aside_mm: Free
    brace_mm: Free
    raft_mm: Free
    hatched: bool
    sources: dict[str, str]
    most_pull: Annotated[float, Field(gt=0, le=1e6)] | None = None
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
    none are made here, ``recoating`` where no blade can bend a wall.

    What the process carries freely has one set of limits for the way up, the supports and the check of the layers: of what
    overhangs beyond ``max_overhang_deg``, ``free_ledge_mm`` may stand out from where the part goes on downwards, and
    ``free_bridge_mm`` may lie between two such sides, as may the roof of a hole of ``free_hole_mm``; what is left of a region
    that hangs on the part, where it is less than ``least_support_mm2`` in all seen from above and reaches no farther than
    ``small_reach_mm``, needs no support.
    """

    name: str
    title: str
    kind: Literal["lpbf", "sls", "vat", "fff"]
    material: str
    density_g_per_mm3: Density
    layer_mm: Layer
    min_wall_mm: Length
    min_pin_mm: Length
    min_hole_mm: Length
    min_gap_mm: Length
    min_channel_mm: Length
    min_escape_hole_mm: Length
    hollow_wall_mm: Length
    engrave_line_mm: Length
    engrave_depth_mm: Length
    font_height_mm: Length
    max_overhang_deg: Annotated[float, Field(ge=0, le=90)]
    free_ledge_mm: Free = 0.0
    free_bridge_mm: Free = 0.0
    free_hole_mm: Free = 0.0
    least_support_mm2: Area = 0.0
    needs_supports: bool
    tolerance_mm: Length
    part_spacing_mm: Length
    recoat_s: Annotated[float, Field(ge=0, le=3600.0)]  # no layer takes an hour beside what is drawn
    setup_s: Annotated[float, Field(ge=0, le=604_800.0)]  # a week
    time_within: Annotated[float, Field(gt=0, lt=1)]
    after_printing: Annotated[tuple[str, ...], Field(strict=False)]
    conditions: Conditions
    sources: dict[str, str]
    scan: ScanStrategy | None = None
    supports: Supports | None = None
    recoating: Recoating | None = None

    @model_validator(mode="after")
    def _room_for_layers_and_beam(self) -> Process:
        if self.layer_mm > self.min_wall_mm:
            raise ValueError(f"layer_mm is {self.layer_mm:g}, at most min_wall_mm = {self.min_wall_mm:g}")
        if self.scan is not None and 2.0 * self.scan.beam_mm > self.min_wall_mm:
            raise ValueError(f"scan.beam_mm is {self.scan.beam_mm:g}, at most half of min_wall_mm = {self.min_wall_mm:g}")
        return self

    @model_validator(mode="after")
    def _supports_where_they_are_needed(self) -> Process:
        if self.needs_supports and self.kind != "fff" and self.supports is None:
            raise ValueError(f"a process of kind {self.kind} that needs supports has a table [supports]")
        return self

    @model_validator(mode="after")
    def _pull_of_the_film(self) -> Process:
        if self.kind == "vat" and self.supports is not None and self.supports.most_pull is None:
            raise ValueError(
                "a process of kind vat says most_pull in [supports]: the mm2 of a layer that a mm2 of tips holds in the pull"
            )
        return self

    @property
    def small_reach_mm(self) -> float:
        """How far what is smaller than ``least_support_mm2`` may stand out: a square of it, beyond the free ledge.

        Project default, unverified.
        """
        return self.free_ledge_mm + math.sqrt(self.least_support_mm2)

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
