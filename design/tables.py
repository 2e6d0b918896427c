"""What the instruments of a theatre measure, and what a process leaves between printed and other surfaces.

Each line of a table is a frozen value: its numbers, all in mm, and where they were read. The lines lie in CSV files
(``design/instruments/*.csv``, ``design/clearances.csv``; see :mod:`batchone.design.table_files`); a site's own lines go before
ours. A source that starts with ``unverified`` marks a number that nobody has confirmed.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from batchone.pipeline.errors import OrderError
from batchone.pipeline.findings import Finding, judge
from batchone.pipeline.order import Code, Model

Feature = Literal["bone-contact", "saw-slot", "drill-hole", "pin-hole", "screw-shaft", "insert-press", "insert-slip"]

# Upper limits: beyond them is a slip of the unit, not an instrument.
Thickness = Annotated[float, Field(gt=0.0, le=5.0)]
Diameter = Annotated[float, Field(gt=0.0, le=30.0)]
Length = Annotated[float, Field(gt=0.0, le=300.0)]
Small = Annotated[float, Field(ge=0.0, le=2.0)]


_ORIGINS = {"shipped": "shipped table", "site": "table of the site", "order": "given in the order"}


class Line(Model):
    """One line of a table. ``origin`` says whose it is; ``order`` where the order gave the number itself."""

    title: ClassVar[str]

    source: Annotated[str, Field(min_length=1, max_length=500)]
    origin: Literal["shipped", "site", "order"] = "shipped"

    @property
    def key(self) -> tuple[str, ...]:
        """What a line is found by: no two lines of a table have the same."""
        raise NotImplementedError


class Instrument(Line):
    """Something of the theatre, found by its name."""

    name: Code

    @property
    def key(self) -> tuple[str, ...]:
        """The name."""
        return (self.name,)


class SawBlade(Instrument):
    """A blade.

    ``thickness_mm`` is its thickest place that must pass a slot, teeth included; ``kerf_mm`` the width of bone that it takes
    away; ``width_mm`` its width across the cutting direction, None where the order gave the thickness only.
    """

    title = "saw blade"

    thickness_mm: Thickness
    kerf_mm: Thickness
    width_mm: Length | None

    @model_validator(mode="after")
    def _a_blade_fits_into_its_own_kerf(self) -> SawBlade:
        if self.kerf_mm < self.thickness_mm:
            raise ValueError(f"kerf_mm is {self.kerf_mm:g} mm, at least the thickness_mm of {self.thickness_mm:g} mm")
        return self


class Drill(Instrument):
    """A twist drill."""

    title = "drill"

    diameter_mm: Diameter


class Wire(Instrument):
    """A Kirschner wire."""

    title = "K-wire"

    diameter_mm: Diameter


class Pin(Instrument):
    """A pin that holds a guide to the bone."""

    title = "pin"

    diameter_mm: Diameter


class Sleeve(Instrument):
    """A metal insert that guides a drill or a wire inside a printed sleeve."""

    title = "sleeve"

    inner_mm: Diameter
    outer_mm: Diameter
    length_mm: Length

    @model_validator(mode="after")
    def _a_sleeve_has_a_wall(self) -> Sleeve:
        if self.inner_mm >= self.outer_mm:
            raise ValueError(f"inner_mm is {self.inner_mm:g} mm, less than the outer_mm of {self.outer_mm:g} mm")
        return self


def _numbers(cell: object) -> object:
    return tuple(float(word) for word in cell.split()) if isinstance(cell, str) else cell


class Screw(Instrument):
    """A bone screw: outer diameter of the thread, core under it, and the lengths that there are, rising."""

    title = "screw"

    diameter_mm: Diameter
    core_mm: Diameter
    lengths_mm: Annotated[tuple[Length, ...], Field(min_length=1, max_length=64), BeforeValidator(_numbers)]

    @model_validator(mode="after")
    def _a_thread_stands_on_its_core_and_lengths_rise(self) -> Screw:
        if self.core_mm >= self.diameter_mm:
            raise ValueError(f"core_mm is {self.core_mm:g} mm, less than the diameter_mm of {self.diameter_mm:g} mm")
        if list(self.lengths_mm) != sorted(set(self.lengths_mm)):
            raise ValueError("lengths_mm must rise, each given once")
        return self


class Clearance(Line):
    """What one process leaves in one class of feature, apart from the nominal size of what goes in.

    ``clearance_mm`` counts per side or across the diameter, as ``basis`` says. ``shrink_mm`` is by how much a printed hole or
    slot comes out smaller than it was modelled, across its diameter or width; 0 where nobody has measured it.
    """

    title = "clearance"

    feature: Feature
    process: Code
    material: Code
    clearance_mm: Small
    basis: Literal["per-side", "diametral"]
    shrink_mm: Small

    @property
    def key(self) -> tuple[str, ...]:
        """Feature, process and material."""
        return (self.feature, self.process, self.material)

    @property
    def per_side_mm(self) -> float:
        """Between the two surfaces on one side, mm."""
        return self.clearance_mm if self.basis == "per-side" else self.clearance_mm / 2.0

    @property
    def diametral_mm(self) -> float:
        """On both sides together, mm."""
        return self.clearance_mm if self.basis == "diametral" else self.clearance_mm * 2.0

    @model_validator(mode="after")
    def _only_an_opening_shrinks(self) -> Clearance:
        if self.feature == "bone-contact" and (self.basis != "per-side" or self.shrink_mm != 0.0):
            raise ValueError("bone-contact is one face: basis must be per-side, shrink_mm must be 0")
        return self


class Tables(Model):
    """Every line that counts at a site: a case's input, as one value."""

    saw_blades: tuple[SawBlade, ...]
    drills: tuple[Drill, ...]
    k_wires: tuple[Wire, ...]
    pins: tuple[Pin, ...]
    sleeves: tuple[Sleeve, ...]
    screws: tuple[Screw, ...]
    clearances: tuple[Clearance, ...]


InstrumentT = TypeVar("InstrumentT", bound=Instrument)


def instrument(lines: tuple[InstrumentT, ...], name: str, title: str) -> InstrumentT:
    """The instrument of that name, from one table: ``instrument(tables.drills, "drill-3.2", "drill")``.

    Raises
    ------
    OrderError
        There is none; it lists those that there are.
    """
    for line in lines:
        if line.name == name:
            return line
    raise OrderError(
        f"{title} is {name!r}; known: {', '.join(line.name for line in lines)}",
        hint="name one of them, or add it to tables/instruments in the site's folder",
    )


def used_findings(*lines: Line) -> tuple[Finding, ...]:
    """For the report: each number of the lines that a device was made with, for information, with source and origin."""
    findings = []
    for line in lines:
        name = " ".join((line.title, *line.key))
        for field, value in line:
            if isinstance(value, float):
                basis = f", {line.basis}" if isinstance(line, Clearance) and field == "clearance_mm" else ""
                what = f"{name}: {field.removesuffix('_mm')}{basis} ({_ORIGINS[line.origin]})"
                findings.append(judge("tables", what, value, "mm", source=line.source))
    return tuple(findings)
