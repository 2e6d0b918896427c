"""Each vertebra with its body and its arch: one cut per disc, from seeds that the discs place."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import FloatArray
from batchone.segment.apart.cut import Ground, cut_in_two
from batchone.segment.apart.discs import Disc
from batchone.segment.apart.grid import BoolArray, Float32Array, LabelArray
from batchone.segment.apart.table import (
    CUT_SLAB_MM,
    MODEL_LEVELS,
    PEDICLE_BACK_MM,
    PEDICLE_HEIGHT,
    PEDICLE_SIDE_MM,
    PIECE_MM3,
    SEED_OFF_DISC_MM,
    SEED_RADIUS,
    WEAK_ABOVE_MM,
    WEAK_BELOW_MM,
)

Places = tuple[Float32Array, Float32Array, Float32Array]


def height_over(disc: Disc, places: Places) -> Float32Array:
    """Height over the disc's plane, mm."""
    return _along(disc.normal, disc, places)


def in_disc(disc: Disc, places: Places) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Height over the disc's plane, distance to the front and to the left of its middle, mm."""
    return _along(disc.normal, disc, places), _along(disc.front, disc, places), _along(disc.left, disc, places)


def _along(axis: FloatArray, disc: Disc, places: Places) -> Float32Array:
    return (
        places[0] * np.float32(axis[0])
        + places[1] * np.float32(axis[1])
        + places[2] * np.float32(axis[2])
        - np.float32(float(axis @ disc.middle_mm))
    )


def spacings_mm(discs: tuple[Disc, ...]) -> list[float]:
    """Height of each vertebra, below the first disc to above the last: that of its neighbour where one disc is missing."""
    if len(discs) == 1:
        return [0.9 * discs[0].depth_mm] * 2
    between = [float(np.linalg.norm(b.middle_mm - a.middle_mm)) for a, b in pairwise(discs)]
    return [between[0], *between, between[-1]]


def body_seeds(discs: tuple[Disc, ...], places: Places) -> npt.NDArray[np.uint8]:
    """For each place 0, or 1 + the number of the vertebra whose body or pedicle it surely lies in (from below)."""
    heights = spacings_mm(discs)
    seeds = np.zeros(len(places[0]), dtype=np.uint8)
    frames = [in_disc(disc, places) for disc in discs]
    for k, height in enumerate(heights):
        under = frames[k - 1] if k > 0 else None
        over = frames[k] if k < len(discs) else None
        inside = np.ones(len(seeds), dtype=np.bool_)
        pedicle = np.zeros(len(seeds), dtype=np.bool_)
        for frame, disc, sign in ((under, discs[k - 1], 1.0), (over, discs[min(k, len(discs) - 1)], -1.0)):
            if frame is None:
                continue
            up, front, left = frame
            radius = SEED_RADIUS * disc.depth_mm
            inside &= (sign * up > SEED_OFF_DISC_MM) & (sign * up < height) & (front * front + left * left < radius * radius)
            if sign < 0.0 or over is None:
                low, high = (PEDICLE_HEIGHT[0] * height, PEDICLE_HEIGHT[1] * height)
                if sign > 0.0:
                    low, high = height - high, height - low
                side = np.abs(left)
                behind = -front - 0.5 * disc.depth_mm
                pedicle |= (
                    (sign * up > low)
                    & (sign * up < high)
                    & (side > PEDICLE_SIDE_MM[0])
                    & (side < PEDICLE_SIDE_MM[1])
                    & (behind > 0.0)
                    & (behind < PEDICLE_BACK_MM)
                )
        seeds[inside | pedicle] = k + 1
    return seeds


def cut_vertebrae(place: Ground, bone: BoolArray, discs: tuple[Disc, ...], seeds: LabelArray) -> LabelArray:
    """Number of the vertebra of each bone voxel, from 1 below; 0 off the bone.

    ``seeds`` (slices, rows, columns): 0, or the number of the vertebra a voxel surely belongs to.
    """
    index = np.nonzero(bone)
    places = place.at_mm(index)

    def parted(k: int, disc: Disc) -> tuple[npt.NDArray[np.bool_], tuple[slice, ...], BoolArray]:
        """Which bone voxels lie above the slab round a disc; the slab's box, and what lies above the cut in it."""
        height_mm = height_over(disc, places)
        near = np.abs(height_mm) <= CUT_SLAB_MM
        edges = tuple(slice(int(w.min()), int(w.max()) + 1) for w in (axis[near] for axis in index))
        part = Ground(place.box, place.step_mm, place.bone[edges], place.valley[edges], np.ascontiguousarray(place.cost[edges]))
        seed, within, height = seeds[edges], bone[edges].copy(), np.full(part.bone.shape, np.nan, dtype=np.float32)
        inside = np.ones(len(near), dtype=np.bool_)
        for axis, edge in zip(index, edges, strict=True):
            inside &= (axis >= edge.start) & (axis < edge.stop)
        height[within] = height_mm[inside]
        within[within] = near[inside]
        side = cut_in_two(
            part,
            within,
            within & (seed > k + 1),
            within & (seed > 0) & (seed <= k + 1),
            within & (height > WEAK_ABOVE_MM),
            within & (height < -WEAK_BELOW_MM),
        )
        return height_mm > CUT_SLAB_MM, edges, side

    levels = bone.astype(np.uint8)
    over = np.zeros(len(places[0]), dtype=np.uint8)
    for higher, edges, side in side_by_side([partial(parted, k, disc) for k, disc in enumerate(discs)]):
        over += higher
        levels[edges] += side
    levels[bone] += over
    return levels


def part_above(place: Ground, levels: LabelArray, discs: tuple[Disc, ...], seeds: LabelArray) -> LabelArray:
    """Levels with the arch of the vertebra above the scan taken off the uppermost one.

    Of that vertebra only its hanging arch may be seen, with no body to seed it. The vertebra two levels lower, moved up by one
    and by two levels, foretells where both arches lie.
    """
    top = len(discs) + 1
    if top < MODEL_LEVELS or (seeds == top).any():
        return levels
    lower, middle, upper = (discs[-k].middle_mm for k in (3, 2, 1))
    model = levels == top - 2
    once, twice = _moved(model, (middle - lower) / place.step_mm), _moved(model, (upper - lower) / place.step_mm)
    both = levels >= top - 1
    behind = np.zeros_like(both)
    behind[both] = _along(discs[-1].front, discs[-1], place.places_mm(both)) < -0.5 * discs[-1].depth_mm - PEDICLE_BACK_MM
    own = both & ((seeds == top - 1) | (once & ~twice))
    hanging = both & behind & twice & ~once
    if hanging.sum() * place.step_mm**3 < PIECE_MM3:
        return levels
    out = levels.copy()
    out[both] = top - 1
    out[cut_in_two(place, both, hanging, own & ~hanging)] = top
    return out


def _moved(mask: BoolArray, shift: FloatArray) -> BoolArray:
    """A mask moved by whole voxels, nothing coming in from outside."""
    out = np.zeros_like(mask)
    steps = np.rint(shift).astype(np.int64)
    from_, to = [], []
    for step, n in zip(steps, mask.shape, strict=True):
        from_.append(slice(max(0, -step), min(n, n - step)))
        to.append(slice(max(0, step), min(n, n + step)))
    out[tuple(to)] = mask[tuple(from_)]
    return out
