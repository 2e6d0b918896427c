"""Plates that an osteotomy guide may have, and which of them should seat best: `optimise_contact`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from batchone.design.contact.ground import Relief
from batchone.design.contact.seat import BoolArray, Ground
from batchone.design.contact.shell import capsule_mm, from_nearest
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.guide.body import EDGE_MM
from batchone.design.osteotomy.fittings import Fittings
from batchone.design.osteotomy.label import BRIDGE_MM
from batchone.design.osteotomy.layout import WIDER_MM, Layout
from batchone.design.seating.choose import finalists
from batchone.design.seating.underside import Shape, Underside
from batchone.pipeline.values import FloatArray, Mesh

NOTCH_MM = 2.0  # on each side of a slot that no block leads, a wider plate is cut out; project default, unverified
_ROUNDING = 2.0  # numerical: columns over which the edge of a notch is rounded
STEP_MM = 3.0  # numerical: by which plates are trimmed or relieved


def likely_plates(
    widest: Shape,
    draw: Callable[[Shape], Mesh],
    layout: Layout,
    ground: Ground,
    relief: Relief,
    above: Mesh,
    chosen: OsteotomyGuideParameters,
    fit: Fittings,
) -> tuple[Shape, ...]:
    """The plain plate, and of those wider to one side, both or none, relieved towards their ends or in their middle or not, what
    should seat best.

    ``draw`` gives the surface of a plate, ``above`` is what stands on all of them.
    """
    underside = Underside(
        ground,
        np.where(widest.zones, relief.height_mm, np.nan),
        draw,
        offset_mm=fit.offset_mm,
        outside_mm=fit.offset_mm + chosen.shell_mm,
        above=above,
        open_=_cut_out(layout, ground, relief),
    )
    lattice = ground.lattice
    apart = np.minimum(layout.arm(lattice), layout.seats(lattice))  # the arm and what holds the pins stay

    x_mm, y_mm = np.broadcast_arrays(lattice.x_mm, lattice.y_mm)
    bare = _bare_mm(layout, ground, relief, fit.offset_mm + chosen.shell_mm)

    def within(values: tuple[float, ...], bare_mm: FloatArray = bare) -> Shape:
        left_mm, right_mm, above_mm, below_mm, middle_mm = values
        low, high = layout.low_mm[0] + WIDER_MM - left_mm, layout.high_mm[0] - WIDER_MM + right_mm
        edge = np.maximum(low - lattice.x_mm, lattice.x_mm - high)
        inside = np.minimum(edge, apart)
        zones = widest.zones & ((edge <= -EDGE_MM) | (layout.foot(lattice) <= -EDGE_MM))
        beyond = (y_mm > layout.high_mm[1] - above_mm) | (y_mm < layout.low_mm[1] + below_mm)
        zones &= (np.abs(x_mm - 0.5 * (low + high)) >= middle_mm) & ~(beyond & (apart > 0.0)) & (bare_mm >= EDGE_MM)
        return Shape(zones, np.maximum(widest.footprint_mm, np.maximum(inside, np.minimum(-bare_mm, apart))))

    wider = tuple(np.arange(WIDER_MM, -0.5 * STEP_MM, -STEP_MM).tolist())
    relieved = tuple(np.arange(0.0, 0.4 * (layout.high_mm[1] - layout.low_mm[1]), STEP_MM).tolist())
    middles = tuple(np.arange(0.0, 0.4 * (layout.high_mm[0] - layout.low_mm[0]) - WIDER_MM, 0.5 * STEP_MM).tolist()) or (0.0,)
    plain = within((0.0, 0.0, 0.0, 0.0, 0.0), np.full(bare.shape, np.inf))
    return finalists(underside, plain, within, (wider, wider, relieved, relieved, middles))


def _bare_mm(layout: Layout, ground: Ground, relief: Relief, shell_mm: float) -> FloatArray:
    """(x, y) signed distance to the columns where a slot would run through a plate that no block stands on; negative there.

    A plate that is wider than its block would be slit and its halves joined by a tip only: it is notched there.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    lattice = ground.lattice
    seen = np.isfinite(relief.height_mm)
    x_mm, y_mm = np.broadcast_arrays(lattice.x_mm, lattice.y_mm)
    places = np.stack([x_mm, y_mm, from_nearest(np.nan_to_num(relief.height_mm), seen)], axis=-1)
    bare = np.zeros(seen.shape, dtype=np.bool_)
    for slot in layout.slots:
        along = places - slot.middle_mm
        across = along @ slot.across
        beyond = (across < slot.across_mm[0] - BRIDGE_MM) | (across > slot.across_mm[1] + BRIDGE_MM)
        beyond |= along @ slot.advance > slot.along_mm[1] + 0.5 * shell_mm
        bare |= beyond & (np.abs(along @ slot.normal) < 0.5 * slot.width_mm + NOTCH_MM)
    if not bare.any():
        return np.full(bare.shape, np.inf)
    outside = np.where(bare, -distance_transform_edt(bare), distance_transform_edt(~bare))
    return np.asarray(gaussian_filter(outside, _ROUNDING) * lattice.step_mm)


def _cut_out(layout: Layout, ground: Ground, relief: Relief) -> BoolArray:
    """(x, y) columns that bores and slots take from the underside."""
    lattice = ground.lattice
    bores = [capsule_mm(lattice, one.entry_mm, one.entry_mm, 0.5 * one.bore_mm) for one in layout.sleeves]
    found = np.asarray(np.minimum.reduce(bores) < 0.0)
    x_mm, y_mm = np.broadcast_arrays(lattice.x_mm, lattice.y_mm)
    places = np.stack([x_mm, y_mm, relief.height_mm], axis=-1)
    for slot in layout.slots:
        along = places - slot.middle_mm
        across = along @ slot.across
        inside = (slot.across_mm[0] < across) & (across < slot.across_mm[1])
        found |= inside & (np.abs(along @ slot.normal) < 0.5 * slot.width_mm)
    return found
