"""The instruments that an order names, as values: by name from the tables, or by the one number that it gives itself."""

from __future__ import annotations

from dataclasses import dataclass

from batchone.design.tables import Drill, Pin, SawBlade, Screw, Sleeve, Tables, Wire, instrument
from batchone.pipeline.order import Order

_GIVEN = "the order"


@dataclass(frozen=True, slots=True)
class Theatre:
    """What the theatre has; None where the order does not say."""

    saw_blade: SawBlade | None
    drill: Drill | None
    wire: Wire | None
    pin: Pin | None
    sleeve: Sleeve | None
    screw: Screw | None


def theatre(order: Order, tables: Tables) -> Theatre:
    """Look up what the order names under ``[instruments]``.

    Raises
    ------
    OrderError
        A name is in no table; the message lists those that are.
    """
    asked = order.instruments
    blade = None if asked.saw_blade is None else instrument(tables.saw_blades, asked.saw_blade, "saw_blade")
    if asked.saw_blade_thickness_mm is not None:
        blade = _blade(asked.saw_blade_thickness_mm)
    drill = None if asked.drill is None else instrument(tables.drills, asked.drill, "drill")
    if asked.drill_mm is not None:
        drill = Drill(name=f"{asked.drill_mm:g} mm", diameter_mm=asked.drill_mm, source=_GIVEN, origin="order")
    wire = None if asked.wire is None else instrument(tables.k_wires, asked.wire, "wire")
    if asked.wire_mm is not None:
        wire = Wire(name=f"{asked.wire_mm:g} mm", diameter_mm=asked.wire_mm, source=_GIVEN, origin="order")
    pin = None if asked.pin is None else instrument(tables.pins, asked.pin, "pin")
    if asked.pin_mm is not None:
        pin = Pin(name=f"{asked.pin_mm:g} mm", diameter_mm=asked.pin_mm, source=_GIVEN, origin="order")
    sleeve = None if asked.sleeve is None else instrument(tables.sleeves, asked.sleeve, "sleeve")
    screw = None if asked.screw is None else instrument(tables.screws, asked.screw, "screw")
    return Theatre(blade, drill, wire, pin, sleeve, screw)


def _blade(thickness_mm: float) -> SawBlade:
    return SawBlade(
        name=f"{thickness_mm:g} mm",
        thickness_mm=thickness_mm,
        kerf_mm=thickness_mm,
        width_mm=None,
        source="the order; its kerf is taken to be as wide as the blade is thick, unverified",
        origin="order",
    )
