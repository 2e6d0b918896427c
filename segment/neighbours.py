"""Bones that touch must not overlap: what lies nearer to another bone's label is not this bone's."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import HuArray
from batchone.segment.bits import Words, dilated, inverted, put, unpacked
from batchone.segment.bone import Grid

SHARE = 0.8  # field inside over that outside at a contact: each surface stays 0.44 of a voxel from its own side; numerical

_CROSS = np.array([[-1, 0, -1], [0, 1, 0], [-1, 0, -1]], dtype=np.int64)  # the six neighbours
_CUBE = np.ones((3, 3), dtype=np.int64)  # all 26


def territories(own: Words, others: Words, grid: Grid, reach_mm: float) -> tuple[Words, Words]:
    """Grow two masks step by step at the same pace until they meet, for ``reach_mm`` and a voxel more.

    Returns
    -------
    Words, Words
        What is the others' or undecided (barred to ``own``), and the others' own part of that.
    """
    columns = grid.columns
    mine, theirs = own & ~others, others.copy()
    undecided = np.zeros_like(own)
    for _ in range(int(np.ceil(reach_mm / min(grid.spacing_mm))) + 1):
        free = inverted(mine | theirs | undecided, columns)
        to_me, to_them = dilated(mine, columns, _CROSS) & free, dilated(theirs, columns, _CROSS) & free
        undecided |= to_me & to_them
        mine |= to_me & ~to_them
        theirs |= to_them & ~to_me
    return theirs | undecided, theirs


def barred(field: HuArray, bar: Words, theirs: Words, grid: Grid, far: int) -> HuArray:
    """Keep a field that is positive inside out of ``bar``, and its surface on the own side of each contact (in place)."""
    put(field, bar, -far)
    contact = unpacked(dilated(theirs, grid.columns, _CUBE) & ~bar, grid.columns)
    most = int(SHARE * far)
    field[contact & (field > most)] = most
    return field
