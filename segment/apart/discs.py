"""The discs: dark planes between bright endplates in front of the canal, chained by their spacing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from batchone.pipeline.values import FloatArray
from batchone.segment.apart.canal import Canal
from batchone.segment.apart.grid import BoolArray, Float32Array, WorkVolume
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.table import (
    BODY_DEPTH_MM,
    BODY_WALL_GAP_MM,
    BODY_WALL_OVER_SOFT_HU,
    DISC_CONTRAST_SHARE,
    DISC_CORE_MM,
    DISC_EDGE_MM,
    DISC_NODE_COST,
    DISC_REACH_MM,
    DISC_TILT_HU_PER_RAD,
    DISC_TOP_PERCENTILE,
    PITCH_DEG,
    PROFILE_HALF_MM,
    PROFILE_LONG_MM,
    PROFILE_MEDIAN_MM,
    PROFILE_SMOOTH_MM,
    ROLL_DEG,
    SIZE_DEPTH_MM,
    SIZE_RATIO,
    SIZE_RATIO_SPREAD,
    SIZE_WEIGHT,
    SPACING_CHANGE_MM,
    SPACING_CHANGE_WEIGHT,
    SPACING_MM,
    TILT_STEP_DEG,
)
from batchone.segment.runs import Int64Array

_FIELD = nb.types.Array(nb.float32, 3, "C", readonly=True)
_TABLE = nb.types.Array(nb.float64, 2, "C", readonly=True)
_ROW = nb.types.Array(nb.float64, 1, "C", readonly=True)


@nb.njit(nb.float64(_FIELD, nb.float64, nb.float64, nb.float64), cache=True, nogil=True)
def value_at(field: Float32Array, z: float, y: float, x: float) -> float:
    """Trilinear value at a fractional index; -1024 outside."""
    nz, ny, nx = field.shape
    if z < 0.0 or y < 0.0 or x < 0.0 or z > nz - 1.0 or y > ny - 1.0 or x > nx - 1.0:
        return -1024.0
    i, j, k = min(int(z), nz - 2), min(int(y), ny - 2), min(int(x), nx - 2)
    fz, fy, fx = z - i, y - j, x - k
    low = (field[i, j, k] * (1 - fx) + field[i, j, k + 1] * fx) * (1 - fy)
    low += (field[i, j + 1, k] * (1 - fx) + field[i, j + 1, k + 1] * fx) * fy
    high = (field[i + 1, j, k] * (1 - fx) + field[i + 1, j, k + 1] * fx) * (1 - fy)
    high += (field[i + 1, j + 1, k] * (1 - fx) + field[i + 1, j + 1, k + 1] * fx) * fy
    return low * (1 - fz) + high * fz


@nb.njit(
    nb.void(_FIELD, _TABLE, _TABLE, _TABLE, nb.float64, nb.float64, nb.float64[:, ::1]), parallel=True, cache=True, nogil=True
)
def _profiles(
    smooth: Float32Array, points: FloatArray, front: FloatArray, left: FloatArray, step: float, half: float, out: FloatArray
) -> None:
    """Mean value over the middle strip at every mm in front of every canal point."""
    count = int(half)
    for s in nb.prange(out.shape[0]):
        for d in range(out.shape[1]):
            total = 0.0
            for u in range(-count, count + 1, 2):
                z = (points[s, 0] + d * front[s, 0] + u * left[s, 0]) / step
                y = (points[s, 1] + d * front[s, 1] + u * left[s, 1]) / step
                x = (points[s, 2] + d * front[s, 2] + u * left[s, 2]) / step
                total += value_at(smooth, z, y, x)
            out[s, d] = total / (count + 1)


@nb.njit(
    nb.void(_FIELD, _TABLE, _TABLE, _TABLE, _TABLE, _TABLE, _TABLE, nb.float64, _ROW, nb.float64[::1], nb.int64[::1]),
    parallel=True,
    cache=True,
    nogil=True,
)
def _plane_scores(
    smooth: Float32Array,
    points: FloatArray,
    up: FloatArray,
    front: FloatArray,
    left: FloatArray,
    walls: FloatArray,
    tilts: FloatArray,
    step: float,
    figures: FloatArray,
    best: FloatArray,
    which: Int64Array,
) -> None:
    """For every canal point the best tilt and its score: two bright planes with a dark one between them."""
    reach, core, share, tilt_cost = int(figures[0]), int(figures[1]), figures[2], figures[3]
    for s in nb.prange(points.shape[0]):
        depth = walls[s, 1] - walls[s, 0]
        best[s], which[s] = -1e9, 0
        up_z, up_y, up_x = up[s, 0] / step, up[s, 1] / step, up[s, 2] / step
        for t in range(tilts.shape[0]):
            pitch, roll = tilts[t, 0], tilts[t, 1]
            values = np.zeros(2 * reach + 1)
            lost = False
            steep, slant = math.tan(pitch), math.tan(roll)
            for i in range(6):
                if lost:
                    break
                d = walls[s, 0] + (0.15 + 0.14 * i) * depth
                for j in range(5):
                    u = (-0.32 + 0.16 * j) * depth
                    rise = -reach - steep * (d - walls[s, 0] - 0.5 * depth) + slant * u
                    z = (points[s, 0] + d * front[s, 0] + u * left[s, 0] + rise * up[s, 0]) / step
                    y = (points[s, 1] + d * front[s, 1] + u * left[s, 1] + rise * up[s, 1]) / step
                    x = (points[s, 2] + d * front[s, 2] + u * left[s, 2] + rise * up[s, 2]) / step
                    for o in range(2 * reach + 1):
                        value = value_at(smooth, z + o * up_z, y + o * up_y, x + o * up_x)
                        lost |= value <= -1000.0
                        values[o] += value
            if lost:
                continue
            values /= 30.0
            above, below, middle = -1e9, -1e9, 0.0
            for o in range(-reach, reach + 1):
                if o < -core:
                    below = max(below, values[o + reach])
                elif o > core:
                    above = max(above, values[o + reach])
                else:
                    middle += values[o + reach]
            middle /= 2 * core + 1
            score = min(above, below) - middle + share * (0.5 * (above + below) - middle)
            score -= tilt_cost * math.sqrt(pitch * pitch + roll * roll)
            if score > best[s]:
                best[s], which[s] = score, t


@dataclass(frozen=True, slots=True, eq=False)
class Disc:
    """One disc: its middle (3,) mm, the unit normal towards the head, the axes in its plane to front and left, the depth and
    half width of the bodies beside it (mm), its place along the canal (mm), and its score in units of a good disc."""

    middle_mm: FloatArray
    normal: FloatArray
    front: FloatArray
    left: FloatArray
    depth_mm: float
    along_mm: float
    canal_mm: FloatArray
    score: float


def body_walls_mm(volume: WorkVolume, mask: BoneMask, canal: Canal) -> FloatArray:
    """(n, 2) where the vertebral bodies begin and end in front of each canal point."""
    out = np.empty((len(canal.points_mm), int(PROFILE_LONG_MM)))
    _profiles(mask.smooth, canal.points_mm, canal.front, canal.left, volume.step_mm, PROFILE_HALF_MM, out)
    out = gaussian_filter1d(out, PROFILE_SMOOTH_MM, axis=0, mode="nearest")
    walls = np.array([_bright_stretch(row > mask.soft_hu + BODY_WALL_OVER_SOFT_HU) for row in out])
    size = min(PROFILE_MEDIAN_MM, len(walls))
    return np.stack([median_filter(walls[:, k], size=size, mode="nearest") for k in (0, 1)], axis=1)


def _bright_stretch(bright: BoolArray) -> tuple[float, float]:
    """The first stretch of the profile that is long enough for a body, small gaps closed."""
    places = np.flatnonzero(bright)
    if not len(places):
        return 8.0, 8.0 + BODY_DEPTH_MM[0]
    ends = np.flatnonzero(np.diff(places) > BODY_WALL_GAP_MM)
    starts, stops = np.concatenate([[0], ends + 1]), np.concatenate([ends, [len(places) - 1]])
    for a, b in zip(starts, stops, strict=True):
        if places[b] - places[a] >= BODY_DEPTH_MM[0]:
            return float(places[a]), float(min(places[b], places[a] + BODY_DEPTH_MM[1]))
    return float(places[0]), float(places[0]) + BODY_DEPTH_MM[0]


def discs_of(volume: WorkVolume, mask: BoneMask, canal: Canal) -> tuple[Disc, ...]:
    """The discs from below upwards."""
    walls = body_walls_mm(volume, mask, canal)
    tilts = _tilts()
    count = len(canal.points_mm)
    best, which = np.empty(count), np.empty(count, dtype=np.int64)
    figures = np.array([DISC_REACH_MM, DISC_CORE_MM, DISC_CONTRAST_SHARE, DISC_TILT_HU_PER_RAD])
    _plane_scores(
        mask.smooth, canal.points_mm, canal.up, canal.front, canal.left, walls, tilts, volume.step_mm, figures, best, which
    )
    seen = best > 0.0
    if not seen.any():
        return ()
    score = np.maximum(best, 0.0) / max(np.percentile(best[seen], DISC_TOP_PERCENTILE), 1.0)
    chain = _chain(score, walls[:, 1] - walls[:, 0])
    found = [_disc(canal, walls, tilts[which[s]], s, float(score[s])) for s in chain]
    return tuple(disc for disc in found if _away_from_edge(disc, volume))


def _tilts() -> FloatArray:
    pitch = np.radians(np.arange(PITCH_DEG[0], PITCH_DEG[1] + 0.5, TILT_STEP_DEG))
    roll = np.radians(np.arange(-ROLL_DEG, ROLL_DEG + 0.5, TILT_STEP_DEG))
    return np.ascontiguousarray(np.stack(np.meshgrid(pitch, roll, indexing="ij"), axis=-1).reshape(-1, 2))


@nb.njit(nb.void(_ROW, _ROW, nb.int64, _TABLE, nb.float64[:, ::1], nb.int64[:, ::1]), cache=True, nogil=True)
def _chained(gain: FloatArray, depth_mm: FloatArray, low: int, change: FloatArray, total: FloatArray, back: Int64Array) -> None:
    """The best sum of a chain that ends at a place, ``low`` or more above the one before, and the spacing before that."""
    for s in range(low, total.shape[0]):
        depths = 0.0
        for below in range(s - 1, s - low, -1):
            depths += depth_mm[below]
        for k in range(min(total.shape[1], s - low + 1)):
            d = low + k
            below = s - d
            depths += depth_mm[below]
            wanted = SIZE_RATIO * min(max(depths / d, SIZE_DEPTH_MM[0]), SIZE_DEPTH_MM[1])
            size = ((d / wanted - 1.0) / SIZE_RATIO_SPREAD) ** 2 * SIZE_WEIGHT
            j = 0
            for n in range(1, total.shape[1]):
                if total[below, n] - change[k, n] > total[below, j] - change[k, j]:
                    j = n
            further, start = total[below, j] - change[k, j], gain[below]
            if further > start:
                total[s, k], back[s, k] = gain[s] + further - size, j
            else:
                total[s, k] = gain[s] + start - size


def _chain(score: FloatArray, depth_mm: FloatArray) -> list[int]:
    """Dynamic programming over (place, spacing to the one below): gains of discs less what odd spacings cost.

    A place that does not earn its own cost is no disc: else the middle of a body would stand between two discs whose spacing
    is odd, and be paid for by their even spacings.
    """
    low, high = int(SPACING_MM[0]), int(SPACING_MM[1])
    spacings = np.arange(low, high + 1)
    gain = np.where(score > DISC_NODE_COST, score - DISC_NODE_COST, -np.inf)
    change = ((spacings[:, None] - spacings[None, :]) / SPACING_CHANGE_MM) ** 2 * SPACING_CHANGE_WEIGHT
    total = np.full((len(score), len(spacings)), -np.inf)
    back = np.full((len(score), len(spacings)), -1, dtype=np.int64)  # index of the spacing before, -1: the one below begins it
    _chained(gain, np.ascontiguousarray(depth_mm), low, change, total, back)
    if not np.isfinite(total).any() or total.max() <= gain.max():
        return [int(score.argmax())] if gain.max() > 0.0 else []
    s, k = (int(v) for v in np.unravel_index(int(total.argmax()), total.shape))
    chain = [s]
    while True:
        before = int(back[s, k])
        s -= int(spacings[k])
        chain.append(s)
        if before < 0:
            return chain[::-1]
        k = before


def _disc(canal: Canal, walls: FloatArray, tilt: FloatArray, s: int, score: float) -> Disc:
    depth = float(walls[s, 1] - walls[s, 0])
    up, front, left = canal.up[s], canal.front[s], canal.left[s]
    forward = front - math.tan(tilt[0]) * up
    sideways = left + math.tan(tilt[1]) * up
    forward /= np.linalg.norm(forward)
    normal = np.cross(forward, sideways)
    normal *= np.sign(normal @ up) / np.linalg.norm(normal)
    sideways = np.cross(normal, forward)
    sideways *= np.sign(sideways @ left)
    middle = canal.points_mm[s] + (walls[s, 0] + 0.5 * depth) * front
    return Disc(middle, normal, forward, sideways, depth, float(s), canal.points_mm[s], score)


def _away_from_edge(disc: Disc, volume: WorkVolume) -> bool:
    """Both endplates of the disc lie well inside the scan."""
    height_mm = (volume.hu.shape[0] - 1) * volume.step_mm
    return DISC_EDGE_MM <= disc.middle_mm[0] <= height_mm - DISC_EDGE_MM
