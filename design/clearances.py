"""How large an opening is modelled: nominal size, clearance and shrink, each kept apart until here."""

from __future__ import annotations

from batchone.design.tables import Clearance, Feature, SawBlade, Tables
from batchone.pipeline.errors import OrderError
from batchone.pipeline.process import Process


def clearance(feature: Feature, process: Process, tables: Tables) -> Clearance:
    """What a process with its material leaves in a class of feature.

    Raises
    ------
    OrderError
        The table has no such line; the hint is the line to add.
    """
    for line in tables.clearances:
        if line.key == (feature, process.name, process.material):
            return line
    known = [f"{line.process} ({line.material})" for line in tables.clearances if line.feature == feature]
    raise OrderError(
        f"no clearance for {feature} by {process.name} ({process.material}); known for {', '.join(known) or 'no process'}",
        hint=f"add a line that starts with {feature},{process.name},{process.material} to tables/clearances.csv in the site's "
        "folder, or order another process",
    )


def bore_mm(nominal_mm: float, clearance: Clearance) -> float:
    """Diameter to model for something round of a nominal diameter, so that it comes out with its clearance (mm)."""
    return nominal_mm + clearance.diametral_mm + clearance.shrink_mm


def slot_mm(blade: SawBlade, clearance: Clearance) -> float:
    """Width to model for the slot of a blade (mm). The kerf is not in it: where the cut lies in the slot is the plan's matter."""
    return blade.thickness_mm + clearance.diametral_mm + clearance.shrink_mm
