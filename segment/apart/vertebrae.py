"""Each vertebra with its body and its arch: one cut per disc, from seeds that the discs place."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import FloatArray
from batchone.segment.apart.cut import Ground, cut_in_two
from batchone.segment.apart.discs import Disc
from batchone.segment.apart.grid import BoolArray, Float32Array
from batchone.segment.apart.table import (
    CUT_SLAB_MM,
    PEDICLE_BACK_MM,
    PEDICLE_HEIGHT,
    PEDICLE_SIDE_MM,
    SEED_OFF_DISC_MM,
    SEED_RADIUS,
    WEAK_ABOVE_MM,
    WEAK_BELOW_MM,
)

Places = tuple[Float32Array, Float32Array, Float32Array]


def in_disc(disc: Disc, places: Places) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Height over the disc's plane, distance to the front and to the left of its middle, mm."""
    axes = []
    for axis in (disc.normal, disc.front, disc.left):
        offset = float(axis @ disc.middle_mm)
        axes.append(
            (places[0] * np.float32(axis[0]) + places[1] * np.float32(axis[1]) + places[2] * np.float32(axis[2]) - np.float32(offset))
        )
    return axes[0], axes[1], axes[2]


def spacings_mm(discs: tuple[Disc, ...]) -> list[float]:
    """Height of each vertebra, below the first disc to above the last: that of its neighbour where one disc is missing."""
    if len(discs) == 1:
        return [0.9 * discs[0].depth_mm] * 2
    between = [float(np.linalg.norm(b.middle_mm - a.middle_mm)) for a, b in zip(discs, discs[1:], strict=False)]
    return [between[0], *between, between[-1]]


def body_seeds(discs: tuple[Disc, ...], places: Places) -> Float32Array:
    """For each place 0, or 1 + the number of the vertebra whose body or pedicle it surely lies in (from below)."""
    heights = spacings_mm(discs)
    seeds = np.zeros(len(places[0]), dtype=np.int16)
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


def cut_vertebrae(place: Ground, bone: BoolArray, discs: tuple[Disc, ...], seeds: BoolArray) -> FloatArray:
    """Number of the vertebra of each bone voxel, from 1 below; 0 off the bone.

    ``seeds`` (slices, rows, columns): 0, or the number of the vertebra a voxel surely belongs to.
    """
    above = np.zeros(bone.shape, dtype=np.uint8)
    places = place.places_mm(bone)
    for k, disc in enumerate(discs):
        up = np.full(bone.shape, np.nan, dtype=np.float32)
        up[bone] = in_disc(disc, places)[0]
        slab = bone & (np.abs(up) <= CUT_SLAB_MM)
        edges = tuple(slice(int(w.min()), int(w.max()) + 1) for w in np.nonzero(slab))
        part = Ground(place.box, place.step_mm, place.bone[edges], place.valley[edges], np.ascontiguousarray(place.cost[edges]))
        height, seed, within = up[edges], seeds[edges], slab[edges]
        side = cut_in_two(
            part,
            within,
            within & (seed > k + 1),
            within & (seed > 0) & (seed <= k + 1),
            within & (height > WEAK_ABOVE_MM),
            within & (height < -WEAK_BELOW_MM),
        )
        above[edges] += side
        above += bone & (up > CUT_SLAB_MM)
    return np.where(bone, above + 1, 0).astype(np.uint8)
