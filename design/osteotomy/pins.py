"""Pins beside a cut: two on each end of the bone, crossed, so that a guide held by them comes off in no direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.rays import Scene
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray

STAGGERED_MM = 5.0  # the second pin is so much further from the cut: crossed pins pass each other; project default
_LEAST_APART_MM = 5.0  # between the pins of a narrow bone; project default
_LEAST_HELD_MM = 12.0  # of bone along a pin; project default, unverified
_FACING = 0.75  # cosine between pin and bone where it enters: on steeper bone drills slip; project default, unverified
_FAR_MM = 150.0  # numerical: rays start so far outside
_STEP_MM = 0.5  # numerical


@dataclass(frozen=True, slots=True, eq=False)
class PinWay:
    """Where a pin enters the bone (3,), its unit direction into it, and how deep it goes (mm)."""

    entry_mm: FloatArray
    direction: FloatArray
    depth_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Where the pins of one end may stand.

    Attributes
    ----------
    origin_mm, away
        (3,) a place on the plane of the cut, unit normal into the bone that is held.
    along
        (3,) unit, along the bone into that end.
    into
        (3,) unit, into the bone, along the plane.
    middle_mm
        (3,) middle of the face that carries.
    front
        (3,) unit, across the pins: fixed by the anatomy, so that a mirrored bone gets mirrored pins.
    first_mm
        From the plane to the first pin.
    """

    origin_mm: FloatArray
    away: FloatArray
    along: FloatArray
    into: FloatArray
    middle_mm: FloatArray
    front: FloatArray
    first_mm: float


def pin_pair(scene: Scene, row: Row, *, apart_mm: float, cross_deg: float, depth_mm: float, name: str) -> tuple[PinWay, PinWay]:
    """Place two pins, as far apart as ordered and the bone allows; they lean towards each other in the bone.

    Raises
    ------
    DesignError
        The bone offers no place.
    """
    for apart in np.arange(apart_mm, _LEAST_APART_MM - 1e-6, -_STEP_MM):
        found = [
            _pin(scene, row, row.first_mm + step, aside, cross_deg, depth_mm)
            for step, aside in ((0.0, 0.5 * apart), (STAGGERED_MM, -0.5 * apart))
        ]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    raise DesignError(
        f"{name}: no place for two pins {row.first_mm:.0f} to {row.first_mm + STAGGERED_MM:.0f} mm from the cut, at least "
        f"{_LEAST_APART_MM:g} mm apart",
        hint="a smaller pin_from_cut_mm, another approach, a cut further from the joint, or draw the pins",
    )


def _pin(scene: Scene, row: Row, from_cut: float, aside: float, cross_deg: float, depth_mm: float) -> PinWay | None:
    further = from_cut - float((row.middle_mm - row.origin_mm) @ row.away)
    level = row.middle_mm + further / float(row.along @ row.away) * row.along
    start = level + aside * row.front - _FAR_MM * row.into
    hit = scene.first(start[None], row.into[None], 2.0 * _FAR_MM)
    if hit.face[0] < 0 or -float(hit.cosine[0]) < _FACING:
        return None
    entry = start + float(hit.distance_mm[0]) * row.into
    lean = np.radians(0.5 * cross_deg)
    direction = np.cos(lean) * row.into - np.sign(aside) * np.sin(lean) * row.front
    through = scene.first((entry + 0.5 * direction)[None], direction[None], _FAR_MM)
    held = 0.5 + float(through.distance_mm[0]) if through.face[0] >= 0 else 0.0
    return PinWay(entry, direction, min(held, depth_mm)) if held >= _LEAST_HELD_MM else None
