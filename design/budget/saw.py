"""The error of a saw that a slot leads: the plane that it cuts, and the angle between two planes of one guide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.budget.play import in_slot
from batchone.design.budget.sources import (
    HOLE_SIGMA_MM,
    PLAN_SIGMA_MM,
    SEED,
    Errors,
    Seats,
    process_sigma_mm,
    shares,
    turned_deg,
)
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray, Vector


@dataclass(frozen=True, slots=True, eq=False)
class Lead:
    """A slot and its cut, LPS.

    Attributes
    ----------
    origin_mm, normal, advance
        Where the blade enters the bone, across the plane, and along the blade's way.
    depth_mm
        From there to where the blade stops.
    clearance_mm, led_mm, above_mm
        Across the slot, length that leads, and from its lower end to the bone.
    blade_mm
        Width of the blade.
    """

    origin_mm: Vector
    normal: FloatArray
    advance: FloatArray
    depth_mm: float
    clearance_mm: float
    led_mm: float
    above_mm: float
    blade_mm: float
    drawn: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Sawn:
    """Errors of a plane: mm along its normal where the blade stops, degrees of its normal; its turn about the line across the
    blade's way (n,) degrees: what a wedge's angle is off by; and the normals (n, 3) in the seat frame, seating left out."""

    errors: Errors
    wedge_deg: FloatArray
    own_normals: FloatArray


def sawn(lead: Lead, seated: Seats, process: Process, *, seed: int = SEED) -> Sawn:
    """Sample which plane a saw cuts."""
    rng = np.random.default_rng(seed)
    count, axes = len(seated.sure), seated.pose[:3, :3]
    origin = seated.to_seat(np.array(lead.origin_mm))
    normal, advance = lead.normal @ axes, lead.advance @ axes
    across = np.cross(normal, advance)
    far, end = lead.above_mm + lead.depth_mm, origin + lead.depth_mm * advance
    sigma = process_sigma_mm(process)
    gap = lead.clearance_mm + HOLE_SIGMA_MM * rng.standard_normal(count)
    low, slope = in_slot(rng, gap, lead.led_mm)
    roll = (rng.random(count) - rng.random(count)) * np.maximum(gap, 0.0) / max(lead.blade_mm, lead.led_mm)
    made = sigma * rng.standard_normal((2, count))
    made_slope = (made[0] - made[1]) / lead.led_mm
    plan = PLAN_SIGMA_MM * float(lead.drawn) * rng.standard_normal(count)

    def normals(tilt: FloatArray, twist: FloatArray) -> FloatArray:
        found = normal - tilt[:, None] * advance - twist[:, None] * across
        return np.asarray(found / np.linalg.norm(found, axis=1)[:, None])

    def moved(turn: FloatArray, shift: FloatArray) -> FloatArray:
        """(n,) how far the seat lifts the plane where the blade stops."""
        return np.asarray((turn @ end + shift - end) @ normal)

    squares = {
        "clearance": float(((low + far * slope) ** 2).mean()),
        "process": float(((made[0] + far * made_slope) ** 2).mean()),
        "seating": float((moved(seated.sure.turn, seated.sure.shift_mm) ** 2).mean()),
        "plan": float((plan**2).mean()),
    }
    seat = moved(seated.unsure.turn, seated.unsure.shift_mm)
    own = normals(slope + made_slope, roll)
    found = np.einsum("nij,nj->ni", seated.unsure.turn, own)
    off = low + far * slope + made[0] + far * made_slope + seat + plan
    errors = Errors(np.abs(off), turned_deg(found, normal), shares(squares, float((seat**2).mean())))
    wedge = np.degrees(np.arctan2(-(found @ advance), found @ normal))
    return Sawn(errors, np.asarray(wedge), own)


def between_deg(one: Sawn, other: Sawn) -> FloatArray:
    """(n,) error of the angle between two planes of one guide: how it seats turns both alike."""
    cosine = np.clip(np.einsum("ij,ij->i", one.own_normals, other.own_normals), -1.0, 1.0)
    angles = np.degrees(np.arccos(cosine))
    planned = np.degrees(np.arccos(np.clip(one.own_normals.mean(axis=0) @ other.own_normals.mean(axis=0), -1.0, 1.0)))
    return np.asarray(np.abs(angles - planned))
