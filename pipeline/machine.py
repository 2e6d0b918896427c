"""A machine profile (``slicer/machines/*.toml``): its envelope and the processes it accepts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batchone.pipeline.order import Model

Positive = Annotated[float, Field(gt=0)]


class Mask(Model):
    """What lights a layer of resin: ``columns`` along x and ``rows`` against y of square pixels.

    ``corner_mm`` is where the pixels begin in the plate frame: least x and least y.
    """

    columns: Annotated[int, Field(gt=0, le=20_000)]
    rows: Annotated[int, Field(gt=0, le=20_000)]
    pixel_mm: Positive
    corner_mm: Annotated[tuple[float, float], Field(strict=False)]
    sources: dict[str, str]


class Power(Model):
    """What the machine draws from the mains in each state, kW: waiting, warming up, building, cooling."""

    idle_kw: Annotated[float, Field(ge=0)]
    heat_kw: Positive
    build_kw: Positive
    cool_kw: Annotated[float, Field(ge=0)]
    sources: dict[str, str]


class Machine(Model):
    """One machine.

    ``envelope_mm`` is the usable box (x, y, z); the plate frame has its origin at the box's corner, z up. ``recoater_deg`` is the
    way in which a blade travels, from the x axis; None where none is known. ``power`` is None where it is not known; ``mask``
    where the images of a resin printer are made by the machine's own preparation.
    """

    name: str
    title: str
    envelope_mm: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]
    processes: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    plate_margin_mm: Positive
    sources: dict[str, str]
    recoater_deg: Annotated[float, Field(ge=0, lt=360)] | None = None
    power: Power | None = None
    mask: Mask | None = None
