"""Shells that a pedicle guide may have, and the one of them that seats best: `optimise_contact`.

Stuck guides hang on hooks, on the spinous process between the laminae, on the transverse processes or on the edge above, each
vertebra on its own (project runs on thoracic vertebrae): so a wider shell is trimmed from all sides and in its middle.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from batchone.design.contact.ground import Relief
from batchone.design.contact.seat import BoolArray, Ground
from batchone.design.contact.shell import capsule_mm, filleted, rounded
from batchone.design.guide.body import EDGE_MM
from batchone.design.guide.sleeve import Sleeve
from batchone.design.pedicle.hooks import joined_mm
from batchone.design.seating.choose import finalists
from batchone.design.seating.underside import Shape, Underside
from batchone.pipeline.values import FloatArray, Mesh

WIDER_MM = 5.0  # all round, a pad whose contact is chosen may be wider, with no more contact; project default, unverified
FOOT_MM = 2.0  # shell that stays round a sleeve, whose mouth is thin without; project default, unverified
CORNER_MM = 3.0  # radius of a trimmed shell's corners, which are thin and catch if square; project default, unverified
STEP_MM = 1.5  # numerical: by which shells are trimmed


def likely_shells(
    ground: Ground,
    relief: Relief,
    sleeves: tuple[Sleeve, ...],
    above: Mesh,
    draw: Callable[[Shape], Mesh],
    *,
    may: BoolArray,
    pad_mm: FloatArray,
    wide_mm: FloatArray,
    hooks_mm: FloatArray,
    heights_mm: tuple[float, float],
    outside_mm: float,
    offset_mm: float,
) -> tuple[Shape, ...]:
    """The plain shell of a level and what should seat best.

    Parameters
    ----------
    ground, relief, sleeves, above
        Bone and grid, the bone seen from outside, and what stands on the shell: its sleeves, and everything.
    draw
        Gives the surface of a shell.
    may
        (x, y) columns over which a shell may touch.
    pad_mm, wide_mm, hooks_mm
        (x, y) signed distances to the edges of the pad, a wider pad and the hooks.
    heights_mm, outside_mm
        Between which heights it may touch, and how far from the bone its outer face is.
    offset_mm
        Gap where it touches.
    """
    low_mm, high_mm = heights_mm
    widest = joined_mm(wide_mm, hooks_mm)
    bores = np.minimum.reduce([capsule_mm(ground.lattice, one.entry_mm, one.entry_mm, 0.5 * one.bore_mm) for one in sleeves])
    underside = Underside(
        ground,
        np.where(may, relief.height_mm, np.nan),
        draw,
        offset_mm=offset_mm,
        outside_mm=outside_mm,
        above=above,
        open_=bores < 0.0,
    )

    x_mm, y_mm = np.broadcast_arrays(ground.lattice.x_mm, ground.lattice.y_mm)
    height = np.nan_to_num(relief.height_mm, nan=-np.inf)
    entries = np.array([one.entry_mm for one in sleeves])
    low, high, around = entries.min(axis=0), entries.max(axis=0), 0.5 * max(one.outer_mm for one in sleeves)
    middle = 0.5 * (low[0] + high[0])
    feet = np.minimum.reduce(
        [capsule_mm(ground.lattice, one.entry_mm, one.entry_mm, 0.5 * one.outer_mm + FOOT_MM) for one in sleeves]
    )
    sides = (y_mm - high[1], low[0] - x_mm, x_mm - high[0], low[1] - y_mm)  # above, left, right and below of all sleeves

    def trimmed(values: tuple[float, ...]) -> Shape:
        edges = [side - value for side, value in zip(sides, values[:4], strict=True)]
        above, left, right, below = edges
        beside = np.maximum.reduce([left, right, values[4] - np.abs(x_mm - middle)])
        cut = rounded(np.maximum(above, below), beside, CORNER_MM)
        footprint = rounded(widest, filleted(cut, feet, FOOT_MM), CORNER_MM)
        return Shape(may & (footprint <= -EDGE_MM) & (height >= values[5]) & (height <= values[6]), footprint)

    reach = [np.arange(float(side[widest < 0.0].max()), around, -STEP_MM) for side in sides]
    free = np.arange(0.0, 0.5 * (high[0] - low[0]) - around, STEP_MM)
    ways = [
        *(tuple(values.tolist()) or (around,) for values in reach),
        tuple(free.tolist()) or (0.0,),
        tuple(np.arange(low_mm, 0.0, STEP_MM).tolist()),
        tuple(np.arange(high_mm, 0.0, -STEP_MM).tolist()) or (high_mm,),
    ]
    plain = joined_mm(pad_mm, hooks_mm)
    wider = np.array([*[float(pad_mm[wide_mm < 0.0].max())] * 3, 0.0])  # about the plain pad, with the hooks
    start = [min(values, key=lambda one: abs(one - values[0] + more)) for values, more in zip(ways[:4], wider, strict=True)]
    begun = (*start, *(values[0] for values in ways[4:]))
    return finalists(underside, Shape(may & (plain <= -EDGE_MM), plain), trimmed, ways, begun)
