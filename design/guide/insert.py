"""A metal insert in a printed sleeve: the sleeve is then as wide as the insert, which leads the drill or the pin itself."""

from __future__ import annotations

from dataclasses import dataclass

from batchone.design.clearances import bore_mm, clearance
from batchone.design.tables import Clearance, Feature, Sleeve, Tables
from batchone.pipeline.errors import OrderError
from batchone.pipeline.process import Process

MOST_LOOSE_MM = (
    0.4  # of an instrument in its insert, across; widest of published drill guides (J Implant Dent 2018: 0.05 to 0.41)
)


@dataclass(frozen=True, slots=True)
class Lead:
    """What leads an instrument: the clearance of the printed bore, the bore's diameter (mm), and the insert if any."""

    hole: Clearance
    bore_mm: float
    insert: Sleeve | None


def lead(
    instrument_mm: float,
    feature: Feature,
    process: Process,
    tables: Tables,
    *,
    insert: Sleeve | None,
    slips: bool,
    sleeve_mm: float,
) -> Lead:
    """How wide a sleeve is drilled: for the instrument itself, or for the insert that the order names.

    Parameters
    ----------
    instrument_mm, feature
        Diameter of the drill or pin, and the class of its hole where it runs in the print.
    insert, slips
        The insert, and whether it slips out again or is pressed in.
    sleeve_mm
        Length of the printed sleeve, which must hold the insert.

    Raises
    ------
    OrderError
        The instrument does not pass the insert or is loose in it, or the insert is longer than its sleeve.
    """
    if insert is None:
        hole = clearance(feature, process, tables)
        return Lead(hole, bore_mm(instrument_mm, hole), None)
    loose = insert.inner_mm - instrument_mm
    if not 0.0 < loose <= MOST_LOOSE_MM:
        raise OrderError(
            f"sleeve {insert.name} is {insert.inner_mm:g} mm wide inside for an instrument of {instrument_mm:g} mm, must be "
            f"wider by at most {MOST_LOOSE_MM:g} mm",
            hint="name the sleeve that belongs to the instrument ([instruments] sleeve), or leave it out",
        )
    if insert.length_mm > sleeve_mm:
        raise OrderError(
            f"sleeve {insert.name} is {insert.length_mm:g} mm long, sleeve_mm is {sleeve_mm:g} mm: it would stand on the bone",
            hint=f"sleeve_mm of at least {insert.length_mm:g} mm, or a shorter sleeve",
        )
    hole = clearance("insert-slip" if slips else "insert-press", process, tables)
    return Lead(hole, bore_mm(insert.outer_mm, hole), insert)
