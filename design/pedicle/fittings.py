"""What a pedicle guide is made for: drill, screw, and what the process leaves between them and the guide."""

from __future__ import annotations

from dataclasses import dataclass

from batchone.design.clearances import clearance
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import parameters_of
from batchone.design.guide.insert import lead
from batchone.design.tables import Clearance, Drill, Screw, Sleeve, Tables, instrument
from batchone.design.theatre import theatre
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process

DRILL, SCREW = "drill-2.5", "pedicle-4.5"  # where the order names none


@dataclass(frozen=True, slots=True)
class Fittings:
    """Drill, its metal insert if any, what the bore leaves around drill or insert, and the gap to the bone; mm."""

    drill: Drill
    insert: Sleeve | None
    hole: Clearance
    contact: Clearance
    bore_mm: float
    offset_mm: float


def fittings(order: Order, process: Process, tables: Tables) -> Fittings:
    """Look up what the order names, and the process's clearances.

    Raises
    ------
    OrderError
        A name that is in no table, no clearance for the process, or an insert that does not fit.
    """
    chosen, asked = parameters_of(order, PedicleGuideParameters), theatre(order, tables)
    drill = asked.drill or instrument(tables.drills, DRILL, "drill")
    led = lead(drill.diameter_mm, "drill-hole", process, tables, insert=asked.sleeve, slips=chosen.insert == "slip",
               sleeve_mm=chosen.sleeve_mm)  # fmt: skip
    contact = clearance("bone-contact", process, tables)
    offset_mm = chosen.contact_offset_mm or contact.per_side_mm
    return Fittings(drill, led.insert, led.hole, contact, led.bore_mm, offset_mm)


def screw(order: Order, tables: Tables) -> Screw:
    """The planned screw."""
    return theatre(order, tables).screw or instrument(tables.screws, SCREW, "screw")
