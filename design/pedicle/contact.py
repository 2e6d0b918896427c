"""Shells that a pedicle guide may have, and the one of them that seats best: `optimise_contact`.

Stuck guides hang on hooks, on the spinous process between the laminae, or on the transverse processes, each vertebra on its own
(project runs on thoracic vertebrae): so shells with and without what reaches there are tried, also wider ones.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from batchone.design.contact.ground import Relief
from batchone.design.contact.seat import BoolArray, Ground
from batchone.design.contact.shell import capsule_mm
from batchone.design.guide.body import APART_MM, EDGE_MM, carrying, lowest_mm, shadows
from batchone.design.guide.sleeve import Sleeve
from batchone.design.seating.choose import finalists
from batchone.design.seating.underside import Shape, Underside
from batchone.pipeline.values import FloatArray

WIDER_MM = 3.0  # all round, a pad whose contact is chosen may be wider, with no more contact; project default, unverified
MIDDLE_MM = 5.0  # half width that a shell may leave free over the spinous process; project default, unverified


def likely_shells(
    ground: Ground,
    relief: Relief,
    sleeves: tuple[Sleeve, ...],
    *,
    pad_mm: FloatArray,
    wide_mm: FloatArray,
    hooks_mm: FloatArray,
    deep_mm: FloatArray,
    heights_mm: tuple[float, float],
    highest_mm: float,
    offset_mm: float,
    relief_mm: float,
) -> tuple[tuple[Shape, ...], BoolArray]:
    """The plain shell of a level and what should seat best; and the columns (x, y) that may touch.

    Parameters
    ----------
    ground, relief, sleeves
        Bone and grid, the bone seen from outside, and what stands on the shell.
    pad_mm, wide_mm, hooks_mm
        (x, y) signed distances to the edges of the pad, a wider pad and the hooks.
    deep_mm
        (x, y) how far the shell reaches below the contact.
    heights_mm, highest_mm
        Between which heights it may touch, and where the shell ends.
    offset_mm, relief_mm
        Gap where it touches, and elsewhere.
    """
    low_mm, high_mm = heights_mm
    widest = np.minimum(wide_mm, hooks_mm)
    may = carrying(ground, relief, widest, low_mm=low_mm, high_mm=high_mm)
    bores = np.minimum.reduce([capsule_mm(ground.lattice, one.entry_mm, one.entry_mm, 0.5 * one.bore_mm) for one in sleeves])
    underside = Underside(
        ground,
        lowest_mm(may, relief) - deep_mm,
        highest_mm,
        widest < 0.0,
        offset_mm=offset_mm,
        relief_mm=relief_mm,
        apart_mm=APART_MM,
        close=shadows(ground, sleeves),
        open_=bores < 0.0,
    )

    def shape(footprint_mm: FloatArray) -> Shape:
        return Shape(may & (footprint_mm <= -EDGE_MM), footprint_mm)

    x_mm = np.broadcast_to(ground.lattice.x_mm, may.shape)
    entries_x = np.array([float(one.entry_mm[0]) for one in sleeves])
    both = len(sleeves) > 1
    middle = MIDDLE_MM - np.abs(x_mm - entries_x.mean())
    around = 0.5 * max(one.outer_mm for one in sleeves)
    aside = np.maximum(x_mm - entries_x.max(), entries_x.min() - x_mm) - around
    shapes = [
        shape(np.maximum.reduce([base, *([middle] if no_middle else []), *([aside] if no_side else [])]))
        for base in (np.minimum(pad_mm, hooks_mm), pad_mm, widest, wide_mm)
        for no_middle, no_side in product((False, True) if both else (False,), repeat=2)
    ]
    return finalists(underside, shapes[0], shapes[1:]), may
