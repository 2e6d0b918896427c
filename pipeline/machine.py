"""A machine profile (``slicer/machines/*.toml``): its envelope and the processes it accepts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from batchone.pipeline.order import Model

Side = Annotated[float, Field(gt=0, le=5_000.0)]  # no powder bed or vat is longer than some metres; project default
Kilowatts = Annotated[float, Field(ge=0, le=1_000.0)]  # many lasers take some tens; watts are a slip; project default


class Mask(Model):
    """What lights a layer of resin: ``columns`` along x and ``rows`` against y of square pixels.

    ``corner_mm`` is where the pixels begin in the plate frame: least x and least y.
    """

    columns: Annotated[int, Field(gt=0, le=20_000)]
    rows: Annotated[int, Field(gt=0, le=20_000)]
    pixel_mm: Annotated[float, Field(ge=0.001, le=1.0)]  # 0.035 to 0.1 is usual; project default
    corner_mm: Annotated[tuple[float, float], Field(strict=False)]
    sources: dict[str, str]


class Power(Model):
    """What the machine draws from the mains in each state, kW: waiting, warming up, building, cooling."""

    idle_kw: Kilowatts
    heat_kw: Annotated[Kilowatts, Field(gt=0)]
    build_kw: Annotated[Kilowatts, Field(gt=0)]
    cool_kw: Kilowatts
    sources: dict[str, str]


class Machine(Model):
    """One machine.

    ``envelope_mm`` is the usable box (x, y, z); the plate frame has its origin at the box's corner, z up. ``recoater_deg`` is the
    way in which a blade travels, from the x axis; None where none is known. ``power`` is None where it is not known; ``mask``
    where the images of a resin printer are made by the machine's own preparation.
    """

    name: str
    title: str
    envelope_mm: Annotated[tuple[Side, Side, Side], Field(strict=False)]
    processes: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    plate_margin_mm: Annotated[float, Field(gt=0)]
    sources: dict[str, str]
    recoater_deg: Annotated[float, Field(ge=0, lt=360)] | None = None
    power: Power | None = None
    mask: Mask | None = None

    @model_validator(mode="after")
    def _room_within_the_margin(self) -> Machine:
        width, depth, _ = self.envelope_mm
        if 2.0 * self.plate_margin_mm >= min(width, depth):
            raise ValueError(
                f"plate_margin_mm is {self.plate_margin_mm:g}, less than half of the shorter side of envelope_mm, "
                f"{width:g} x {depth:g}"
            )
        return self
