"""A machine profile (``slicer/machines/*.toml``): its envelope and the processes it accepts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batchone.pipeline.order import Model

Positive = Annotated[float, Field(gt=0)]


class Machine(Model):
    """One machine. ``envelope_mm`` is the usable box (x, y, z); the plate frame has its origin at the box's corner, z up."""

    name: str
    title: str
    envelope_mm: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]
    processes: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    plate_margin_mm: Positive
    sources: dict[str, str]
