"""Limits of a device family that are data: its imaging protocol, its design envelope, its release gates.

They live in ``design/families/<name>.toml``; each limit carries its source.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from batchone.pipeline.order import Model


class Protocol(Model):
    """What a scan must be, so that the family may be designed on it. Lengths in mm, angles in degrees, ages in days.

    Beyond a ``max`` the scan is refused, beyond a ``warn`` it is accepted with a warning. The tilt is what is left of it in
    the true volume. An age refuses only where ``max_scan_age_days`` is set. ``fits_cortex``: the device touches the bone's outer
    face, so the surface is placed by a fitted cortex; not for cut walls, which have none. ``confirms_level``: the device is
    for one level of the spine, so a level that is only counted or estimated stops the case before approval until a person has
    confirmed it. ``source`` says where the numbers come from; ``unverified`` ones are project defaults.
    """

    max_slice_spacing_mm: Annotated[float, Field(gt=0)]
    warn_slice_spacing_mm: Annotated[float, Field(gt=0)]
    max_slice_thickness_mm: Annotated[float, Field(gt=0)]
    max_pixel_mm: Annotated[float, Field(gt=0)]
    warn_pixel_mm: Annotated[float, Field(gt=0)] | None = None
    max_gantry_tilt_deg: Annotated[float, Field(ge=0)]
    min_slices: Annotated[int, Field(ge=3)]
    allow_lossy: bool = False
    fits_cortex: bool = False
    confirms_level: bool = False
    warn_scan_age_days: Annotated[int, Field(gt=0)] | None = None
    max_scan_age_days: Annotated[int, Field(gt=0)] | None = None
    source: str


class Limit(Model):
    """One gate or envelope entry: inclusive limits, unit, source.

    ``waivable``: a person may let a device pass that breaks it, with a signed reason; ``waivable_because`` says why that is
    for a person to decide, and ``waivable_by`` whose role it takes, where a site says who has which (``[people]`` of site.toml).
    """

    low: float | None = None
    high: float | None = None
    unit: str
    gate: bool = True
    waivable: bool = False
    waivable_because: str = ""
    waivable_by: Annotated[tuple[str, ...], Field(strict=False)] = ()
    source: str

    @model_validator(mode="after")
    def _a_reason_to_waive(self) -> Limit:
        if not self.waivable == bool(self.waivable_because.strip()) == bool(self.waivable_by):
            raise ValueError("waivable, waivable_because and waivable_by go together")
        return self
