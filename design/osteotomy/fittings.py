"""What an osteotomy guide is made for: saw blade, pins, and what the process leaves between them and the guide."""

from __future__ import annotations

from dataclasses import dataclass

from batchone.design.clearances import clearance, slot_mm
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.family import parameters_of
from batchone.design.guide.insert import lead
from batchone.design.tables import Clearance, Pin, SawBlade, Sleeve, Tables, Wire, instrument
from batchone.design.theatre import theatre
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process

BLADE, PIN = "blade-0.9", "pin-2.5"  # where the order names none


@dataclass(frozen=True, slots=True)
class Fittings:
    """Blade, pin, its metal insert if any, what slot and bore leave around them, and the gap to the bone; mm."""

    blade: SawBlade
    pin: Pin | Wire
    insert: Sleeve | None
    slot: Clearance
    hole: Clearance
    contact: Clearance
    slot_mm: float
    bore_mm: float
    offset_mm: float


def fittings(order: Order, process: Process, tables: Tables) -> Fittings:
    """Look up what the order names, and the process's clearances.

    Raises
    ------
    OrderError
        A name that is in no table, no clearance for the process, or an insert that does not fit.
    """
    asked, saw = theatre(order, tables), blade(order, tables)
    pin = asked.pin or asked.wire or instrument(tables.pins, PIN, "pin")
    chosen = parameters_of(order, OsteotomyGuideParameters)
    slot, contact = (clearance(feature, process, tables) for feature in ("saw-slot", "bone-contact"))
    led = lead(pin.diameter_mm, "pin-hole", process, tables, insert=asked.sleeve, slips=chosen.insert == "slip",
               sleeve_mm=chosen.sleeve_mm)  # fmt: skip
    offset_mm = chosen.contact_offset_mm or contact.per_side_mm
    return Fittings(pin=pin, blade=saw, insert=led.insert, slot=slot, hole=led.hole, contact=contact, slot_mm=slot_mm(saw, slot),
                    bore_mm=led.bore_mm, offset_mm=offset_mm)  # fmt: skip


def blade(order: Order, tables: Tables) -> SawBlade:
    """The blade that saws."""
    return theatre(order, tables).saw_blade or instrument(tables.saw_blades, BLADE, "saw_blade")
