"""Named points, planes and axes of a bone, each with its spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from batchone.pipeline.findings import Vector


@dataclass(frozen=True, slots=True)
class Landmark:
    """A named point in LPS mm with its spread (one standard deviation, mm)."""

    name: str
    point_mm: Vector
    spread_mm: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A named plane or axis: a point of it in LPS mm, its unit normal or direction, and the spread of both (one standard
    deviation; mm, degrees)."""

    name: str
    kind: Literal["plane", "axis"]
    origin_mm: Vector
    direction: Vector
    spread_mm: float
    spread_deg: float
