"""Plates that an osteotomy guide may have, and the one of them that seats best: `optimise_contact`."""

from __future__ import annotations

from itertools import product

import numpy as np

from batchone.design.contact.seat import Ground
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.guide.body import APART_MM, EDGE_MM
from batchone.design.osteotomy.fittings import Fittings
from batchone.design.osteotomy.layout import WIDER_MM, Layout
from batchone.design.seating.choose import Chosen, best_shape
from batchone.design.seating.underside import Shape, Underside
from batchone.pipeline.values import FloatArray

MIDDLE_MM = 4.0  # half width along the bone that may be relieved: what rolls about a shaft is held by its flanks; own default


def chosen_plate(
    widest: Shape, floor_mm: FloatArray, layout: Layout, ground: Ground, chosen: OsteotomyGuideParameters, fit: Fittings
) -> Chosen:
    """Of plates wider to one side, both or none, their middle relieved or not, the one that seats best.

    None has more contact than the plain one.
    """
    lattice = ground.lattice
    underside = Underside(
        ground,
        floor_mm,
        float(lattice.z_mm[-3]),
        widest.footprint_mm < 0.0,
        offset_mm=fit.offset_mm,
        relief_mm=chosen.relief_mm,
        apart_mm=APART_MM,
    )
    apart = np.minimum(layout.arm(lattice), layout.seats(lattice))  # the arm and what holds the pins stay

    x_mm = np.broadcast_to(lattice.x_mm, widest.zones.shape)

    def within(left_mm: float, right_mm: float, middle_mm: float) -> Shape:
        half = 0.5 * chosen.plate_mm
        edge = np.maximum(-half - left_mm - lattice.x_mm, lattice.x_mm - half - right_mm)
        inside = np.minimum(edge, apart)
        zones = widest.zones & ((edge <= -EDGE_MM) | (layout.foot(lattice) <= -EDGE_MM))
        zones &= np.abs(x_mm - 0.5 * (right_mm - left_mm)) >= middle_mm
        return Shape(zones, np.maximum(widest.footprint_mm, inside))

    wider = (0.0, 0.5 * WIDER_MM, WIDER_MM)
    plain, *may = (within(left, right, middle) for middle in (0.0, MIDDLE_MM) for left, right in product(wider, repeat=2))
    return best_shape(underside, plain, may)
