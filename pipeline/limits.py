"""Limits of a device family that are data: its imaging protocol, its design envelope, its release gates.

They live in ``design/families/<name>.toml``; each limit carries its source.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batchone.pipeline.order import Model


class Protocol(Model):
    """What a scan must be, so that the family may be designed on it. Lengths in mm, angles in degrees.

    ``source`` says where the numbers come from; ``unverified`` ones are project defaults.
    """

    max_slice_spacing_mm: Annotated[float, Field(gt=0)]
    warn_slice_spacing_mm: Annotated[float, Field(gt=0)]
    max_slice_thickness_mm: Annotated[float, Field(gt=0)]
    max_pixel_mm: Annotated[float, Field(gt=0)]
    max_gantry_tilt_deg: Annotated[float, Field(ge=0)]
    min_slices: Annotated[int, Field(ge=3)]
    allow_lossy: bool = False
    source: str


class Limit(Model):
    """One gate or envelope entry: inclusive limits, unit, source."""

    low: float | None = None
    high: float | None = None
    unit: str
    gate: bool = True
    source: str
