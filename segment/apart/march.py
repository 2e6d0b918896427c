"""Discs beyond the ends of the chain: the next one is looked for in space, as the last spacing and normal foretell it.

The canal turns away from the spine in the sacrum, so L5/S1 is not found along it; and at the end of a scan only the inner
endplate of a disc is seen.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from batchone.pipeline.values import FloatArray
from batchone.segment.apart.discs import Disc, value_at
from batchone.segment.apart.grid import Float32Array, WorkVolume
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.table import (
    BODY_WALL_OVER_SOFT_HU,
    DISC_CONTRAST_SHARE,
    DISC_CORE_MM,
    DISC_REACH_MM,
    FAT_UNDER_SOFT_HU,
    MARCH_EDGE_LEAST,
    MARCH_EDGE_TILT_HU_PER_RAD,
    MARCH_LEAST,
    MARCH_PITCH_DEG,
    MARCH_SPACING,
    MARCH_SPREAD_SHARE,
    MARCH_TURN_DEG,
    ROLL_DEG,
    TILT_STEP_DEG,
)

_FIELD = nb.types.Array(nb.float32, 3, "C", readonly=True)
_ROWS = nb.types.Array(nb.float64, 2, "C", readonly=True)
_ROW = nb.types.Array(nb.float64, 1, "C", readonly=True)


@nb.njit(
    nb.void(_FIELD, _ROWS, _ROWS, _ROWS, _ROWS, nb.float64, nb.float64, _ROW, nb.float64[:, ::1]),
    parallel=True,
    cache=True,
    nogil=True,
)
def _scores(
    smooth: Float32Array,
    middles: FloatArray,
    normals: FloatArray,
    fronts: FloatArray,
    lefts: FloatArray,
    depth: float,
    step: float,
    figures: FloatArray,
    out: FloatArray,
) -> None:
    """For every candidate plane its score and how many endplates were seen (2, 1, 0)."""
    reach, core, share, spread_share, least, fat = (
        int(figures[0]),
        int(figures[1]),
        figures[2],
        figures[3],
        figures[4],
        figures[5],
    )
    count = 2 * reach + 1
    for c in nb.prange(middles.shape[0]):
        totals, squared, seen = np.zeros(count), np.zeros(count), np.zeros(count, dtype=np.int64)
        up, front, left = normals[c] / step, fronts[c] / step, lefts[c] / step
        for i in range(6):
            d = (-0.35 + 0.14 * i) * depth
            for j in range(5):
                u = (-0.32 + 0.16 * j) * depth
                z = middles[c, 0] / step + d * front[0] + u * left[0] - reach * up[0]
                y = middles[c, 1] / step + d * front[1] + u * left[1] - reach * up[1]
                x = middles[c, 2] / step + d * front[2] + u * left[2] - reach * up[2]
                for o in range(count):
                    value = value_at(smooth, z + o * up[0], y + o * up[1], x + o * up[2])
                    if value > -1000.0:
                        value = max(value, fat)  # lung beside a body is no darker disc
                        totals[o] += value
                        squared[o] += value * value
                        seen[o] += 1
        below, above, middle, squares, inner = -1e9, -1e9, 0.0, 0.0, 0
        for o in range(count):
            if seen[o] < 24:
                continue
            mean = totals[o] / seen[o]
            if o < reach - core:
                below = max(below, mean)
            elif o > reach + core:
                above = max(above, mean)
            else:
                middle += mean
                squares += max(squared[o] / seen[o] - mean * mean, 0.0)
                inner += 1
        if inner < 2 * core + 1 or max(below, above) < -1e8:
            out[c, 0], out[c, 1] = -1e9, 0.0
            continue
        middle /= inner
        ends = 2.0 if min(below, above) > -1e8 else 1.0
        bright = min(below, above) if ends > 1.5 else max(below, above)
        if bright < least:  # soft tissue beside fat is no endplate beside a disc
            out[c, 0], out[c, 1] = -1e9, 0.0
            continue
        mean_bright = 0.5 * (below + above) if ends > 1.5 else bright
        out[c, 0] = bright - middle + share * (mean_bright - middle) - spread_share * math.sqrt(squares / inner)
        out[c, 1] = ends


def plane_score(volume: WorkVolume, mask: BoneMask, disc: Disc) -> float:
    """The score of a disc already found, HU, on the march's scale."""
    out = _scored(volume, mask, disc.middle_mm[None], disc.normal[None], disc.front[None], disc.left[None], disc.depth_mm)
    return float(out[0, 0])


def marched(volume: WorkVolume, mask: BoneMask, discs: tuple[Disc, ...]) -> tuple[Disc, ...]:
    """The discs (from below upwards, at least two) with those that follow beyond both ends."""
    if len(discs) < 2:
        return discs
    usual = float(np.median([plane_score(volume, mask, disc) for disc in discs]))
    found = list(discs)
    for downwards in (True, False):
        while True:
            last, before = (found[0], found[1]) if downwards else (found[-1], found[-2])
            following = _next(volume, mask, last, before, usual)
            if following is None:
                break
            found.insert(0 if downwards else len(found), following)
            if not _two_endplates(volume, mask, following):
                break
    return tuple(found)


def _next(volume: WorkVolume, mask: BoneMask, last: Disc, before: Disc, usual: float) -> Disc | None:
    course = last.middle_mm - before.middle_mm
    spacing = float(np.linalg.norm(course))
    downwards = bool(course @ last.normal < 0.0)
    sign = -1.0 if downwards else 1.0
    turns = np.radians(np.arange(-MARCH_TURN_DEG, MARCH_TURN_DEG + 0.5, TILT_STEP_DEG))
    low, high = MARCH_PITCH_DEG if downwards else (-MARCH_PITCH_DEG[1], -MARCH_PITCH_DEG[0])
    pitches = np.radians(np.arange(low, high + 0.5, TILT_STEP_DEG))
    rolls = np.radians(np.arange(-ROLL_DEG, ROLL_DEG + 0.5, TILT_STEP_DEG))
    lengths = np.arange(MARCH_SPACING[0] * spacing, MARCH_SPACING[1] * spacing + 0.5, 1.0)
    length, turn, pitch, roll = (v.ravel() for v in np.meshgrid(lengths, turns, pitches, rolls, indexing="ij"))
    way = np.cos(turn)[:, None] * last.normal + np.sin(turn)[:, None] * last.front
    middles = last.middle_mm + sign * length[:, None] * way
    front = np.cos(pitch)[:, None] * last.front - np.sin(pitch)[:, None] * last.normal
    normal = np.cos(pitch)[:, None] * last.normal + np.sin(pitch)[:, None] * last.front
    left = np.cos(roll)[:, None] * last.left + np.sin(roll)[:, None] * normal
    normal = np.cos(roll)[:, None] * normal - np.sin(roll)[:, None] * last.left
    out = _scored(volume, mask, middles, normal, front, left, last.depth_mm)
    least = np.where(out[:, 1] > 1.5, MARCH_LEAST, MARCH_EDGE_LEAST) * usual
    odd = np.where(out[:, 1] > 1.5, 0.0, MARCH_EDGE_TILT_HU_PER_RAD * np.sqrt(turn**2 + pitch**2 + roll**2))
    margin = np.where(out[:, 1] > 0.5, out[:, 0] - least - odd, -1e9)
    best = _best_inside(margin.reshape(len(lengths), -1))
    if best is None:
        return None
    along = last.along_mm + sign * float(length[best])
    to_canal = last.canal_mm - last.middle_mm
    canal_mm = middles[best] + float(to_canal @ last.front) * front[best] + float(to_canal @ last.left) * left[best]
    return Disc(
        middles[best],
        normal[best],
        front[best],
        left[best],
        last.depth_mm,
        along,
        canal_mm,
        float(out[best, 0]) / max(usual, 1.0),
    )


def _best_inside(margin: FloatArray) -> int | None:
    """Flat index of the candidate that passes best; None where none does. ``margin`` (lengths, turned candidates).

    One at the shortest length counts for nothing: the best place lies nearer still, inside of the last body.
    """
    of_length = margin.max(axis=1)
    inside = np.flatnonzero(of_length >= np.maximum(np.append(-np.inf, of_length[:-1]), np.append(of_length[1:], -np.inf)))
    passed = [k for k in inside if k > 0 and of_length[k] >= 0.0]
    if not passed:
        return None
    length = max(passed, key=lambda k: float(of_length[k]))
    return int(length * margin.shape[1] + margin[length].argmax())


def _two_endplates(volume: WorkVolume, mask: BoneMask, disc: Disc) -> bool:
    out = _scored(volume, mask, disc.middle_mm[None], disc.normal[None], disc.front[None], disc.left[None], disc.depth_mm)
    return bool(out[0, 1] > 1.5)


def _scored(
    volume: WorkVolume,
    mask: BoneMask,
    middles: FloatArray,
    normals: FloatArray,
    fronts: FloatArray,
    lefts: FloatArray,
    depth_mm: float,
) -> FloatArray:
    out = np.zeros((len(middles), 2))
    figures = np.array(
        [
            DISC_REACH_MM,
            DISC_CORE_MM,
            DISC_CONTRAST_SHARE,
            MARCH_SPREAD_SHARE,
            mask.soft_hu + BODY_WALL_OVER_SOFT_HU,
            mask.soft_hu - FAT_UNDER_SOFT_HU,
        ]
    )
    arrays = (np.ascontiguousarray(values, dtype=np.float64) for values in (middles, normals, fronts, lefts))
    _scores(mask.smooth, *arrays, depth_mm, volume.step_mm, figures, out)
    return out
