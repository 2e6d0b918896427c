"""Grey values with every enclosed dark place raised to the level at which it would spill: marrow goes, joint spaces stay.

A joint space opens to the soft tissue round the bones, marrow does not. So after it the valleys that are left lie between
bones, a cut through a shaft costs what its cortex costs, and a threshold fills what is enclosed by bone above it.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from scipy.ndimage import binary_fill_holes

from batchone.pipeline.values import HuArray
from batchone.segment.apart.grid import BoolArray

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_MASK = nb.types.Array(nb.boolean, 3, "C", readonly=True)


@nb.njit(nb.void(_HU, _MASK, nb.int64, nb.int64, nb.int16[:, :, ::1]), cache=True, nogil=True)
def _flood(hu: HuArray, seeds: BoolArray, low: int, high: int, out: HuArray) -> None:  # noqa: C901 - compiled
    """Flood from the seeds in the order of levels ``low`` to ``high``; each voxel gets the level at which it is reached."""
    nz, ny, nx = hu.shape
    total = nz * ny * nx
    following = np.full(total, -1, dtype=np.int32)
    done = np.zeros(total, dtype=np.uint8)
    heads = np.full(high - low + 1, -1, dtype=np.int32)
    flat, level_of = hu.reshape(-1), out.reshape(-1)
    seed = seeds.reshape(-1)
    for i in range(total):
        if seed[i]:
            level = min(max(nb.int64(flat[i]), low), high)
            following[i] = heads[level - low]
            heads[level - low] = i
            done[i] = 1
            level_of[i] = level
    plane = ny * nx
    for level in range(low, high + 1):
        while heads[level - low] >= 0:
            i = nb.int64(heads[level - low])
            heads[level - low] = following[i]
            z, rest = i // plane, i % plane
            y, x = rest // nx, rest % nx
            for d in range(6):
                if d == 0:
                    if x == 0:
                        continue
                    j = i - 1
                elif d == 1:
                    if x == nx - 1:
                        continue
                    j = i + 1
                elif d == 2:
                    if y == 0:
                        continue
                    j = i - nx
                elif d == 3:
                    if y == ny - 1:
                        continue
                    j = i + nx
                elif d == 4:
                    if z == 0:
                        continue
                    j = i - plane
                else:
                    if z == nz - 1:
                        continue
                    j = i + plane
                if done[j]:
                    continue
                done[j] = 1
                reached = min(max(nb.int64(flat[j]), level), high)
                level_of[j] = reached
                following[j] = heads[reached - low]
                heads[reached - low] = j


def grey_filled(hu: HuArray, bone_hu: float, range_hu: tuple[float, float]) -> HuArray:
    """Raise enclosed dark places, held to a range of values.

    The flood comes in through the box's faces, but not through marrow that a face cuts open: what bone surrounds on the
    face is no way in.
    """
    seeds = np.zeros(hu.shape, dtype=np.bool_)
    for axis in range(3):
        for end in (0, -1):
            where: list[slice | int] = [slice(None)] * 3
            where[axis] = end
            face = tuple(where)
            seeds[face] |= ~np.asarray(binary_fill_holes(hu[face] > bone_hu))
    out = np.empty(hu.shape, dtype=np.int16)
    out[:] = int(range_hu[1])
    _flood(np.ascontiguousarray(hu), seeds, int(range_hu[0]), int(range_hu[1]), out)
    return out
