"""What a pedicle guide is made for: drill, screw, and what the process leaves between them and the guide."""

from __future__ import annotations

from dataclasses import dataclass

from batchone.design.clearances import bore_mm, clearance
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import parameters_of
from batchone.design.tables import Clearance, Drill, Screw, Tables, instrument
from batchone.design.theatre import theatre
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process

DRILL, SCREW = "drill-2.5", "pedicle-4.5"  # where the order names none


@dataclass(frozen=True, slots=True)
class Fittings:
    """Drill and what its bore leaves around it, and the gap to the bone; mm."""

    drill: Drill
    hole: Clearance
    contact: Clearance
    bore_mm: float
    offset_mm: float


def fittings(order: Order, process: Process, tables: Tables) -> Fittings:
    """Look up what the order names, and the process's clearances.

    Raises
    ------
    OrderError
        A name that is in no table, or no clearance for the process.
    """
    drill = theatre(order, tables).drill or instrument(tables.drills, DRILL, "drill")
    hole, contact = (clearance(feature, process, tables) for feature in ("drill-hole", "bone-contact"))
    set_mm = parameters_of(order, PedicleGuideParameters).contact_offset_mm
    return Fittings(drill, hole, contact, bore_mm(drill.diameter_mm, hole), set_mm or contact.per_side_mm)


def screw(order: Order, tables: Tables) -> Screw:
    """The planned screw."""
    return theatre(order, tables).screw or instrument(tables.screws, SCREW, "screw")
