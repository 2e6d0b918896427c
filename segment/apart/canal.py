"""The spinal canal: soft tissue with bone all round it, followed from section to section; the spine's own frame along it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np
from scipy.interpolate import UnivariateSpline
from scipy.ndimage import gaussian_filter1d

from batchone.pipeline.values import FloatArray
from batchone.segment.apart.grid import BoolArray, Float32Array, WorkVolume
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.table import (
    CANAL_AIR_HU,
    CANAL_BACK_PENALTY,
    CANAL_CELL_MM,
    CANAL_END_MM,
    CANAL_FAR_MM,
    CANAL_LEAST_SCORE,
    CANAL_MEAN_MM,
    CANAL_MEAN_WIDTH_MM,
    CANAL_NEAR_MM,
    CANAL_RAYS,
    CANAL_REACH_CELLS,
    CANAL_SHORTEST_MM,
    CANAL_SIDE_FREE_MM,
    CANAL_SIDE_PENALTY,
    CANAL_SIDE_SIGMA_MM,
    CANAL_SOFT_RANGE_HU,
    CANAL_SPREAD_MM,
    CANAL_SURE_SCORE,
    CANAL_TURN_MM,
)
from batchone.segment.runs import Int64Array

_FIELD = nb.types.Array(nb.float32, 3, "C", readonly=True)
_BODY = nb.types.Array(nb.boolean, 3, "C", readonly=True)
_LIMITS = nb.types.Array(nb.float64, 1, "C", readonly=True)


@nb.njit(nb.types.UniTuple(nb.int64[:, ::1], 2)(nb.int64, nb.float64, nb.int64, nb.float64), cache=True, nogil=True)
def _places(rays: int, near: float, steps: int, step: float) -> tuple[Int64Array, Int64Array]:
    """Rows and columns, in voxels, to the places of each ray: every millimetre from ``near`` on."""
    down, across = np.empty((rays, steps), dtype=np.int64), np.empty((rays, steps), dtype=np.int64)
    for ray in range(rays):
        for n in range(steps):
            down[ray, n] = math.floor(math.sin(2.0 * math.pi * ray / rays) * (near + n) / step + 0.5 + 1e-9)
            across[ray, n] = math.floor(math.cos(2.0 * math.pi * ray / rays) * (near + n) / step + 0.5 + 1e-9)
    return down, across


@nb.njit(nb.void(_FIELD, _BODY, nb.float64, nb.float64, _LIMITS, nb.float32[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _ring_scores(smooth: Float32Array, body: BoolArray, step: float, cell: float, limits: FloatArray, out: Float32Array) -> None:
    """Score of every cell: how much of a ring of bone stands round it, how evenly, and at what distance."""
    soft_low, soft_high, bone, air, near, far = limits[0], limits[1], limits[2], limits[3], limits[4], limits[5]
    mean_mm, width_mm, spread_mm, rays = limits[6], limits[7], limits[8], int(limits[9])
    ny, nx = smooth.shape[1], smooth.shape[2]
    steps = int(far - near) + 1
    down, across = _places(rays, near, steps, step)
    for p in nb.prange(out.shape[0]):
        z = min(nb.int64(p * cell / step), smooth.shape[0] - 1)
        for q in range(out.shape[1]):
            y = min(int(q * cell / step), ny - 1)
            for r in range(out.shape[2]):
                x = min(int(r * cell / step), nx - 1)
                if not body[z, y, x] or smooth[z, y, x] < soft_low or smooth[z, y, x] > soft_high:
                    continue
                hits, total, squares, missed = 0, 0.0, 0.0, 0
                for ray in range(rays):
                    for n in range(steps):
                        j, i = y + down[ray, n], x + across[ray, n]
                        if j < 0 or i < 0 or j >= ny or i >= nx or smooth[z, j, i] < air:
                            break
                        if smooth[z, j, i] > bone:
                            hits += 1
                            total += near + n
                            squares += (near + n) ** 2
                            break
                    missed = ray + 1 - hits
                    if missed > rays // 2:
                        break
                if missed > rays // 2:
                    continue
                mean = total / hits
                spread = math.sqrt(max(squares / hits - mean * mean, 0.0))
                share = hits / rays
                off = (mean - mean_mm) / width_mm
                out[p, q, r] = share * share * math.exp(-0.5 * off * off) * math.exp(-spread / spread_mm)


@nb.njit(nb.void(_FIELD, nb.int64, nb.float64, nb.float64, nb.int64[:, ::1]), cache=True, nogil=True)
def _best_path(gain: Float32Array, reach: int, back: float, side: float, path: Int64Array) -> None:
    """The chain of cells, one per section, with the largest sum of gains less what its jumps cost."""
    count, ny, nx = gain.shape
    come = np.zeros((count, ny, nx), dtype=np.int16)
    best = gain[0].copy()
    width = 2 * reach + 1
    along, jump = np.empty(best.shape), np.empty(best.shape, dtype=np.int16)  # the costs add up: sideways first, then back
    for p in range(1, count):
        for y in range(ny):
            for x in range(nx):
                top, from_ = -1e30, 0
                for dx in range(max(-reach, -x), min(reach, nx - 1 - x) + 1):
                    value = best[y, x + dx] - side * dx * dx
                    if value > top:
                        top, from_ = value, dx
                along[y, x], jump[y, x] = top, from_ + reach
        for y in range(ny):
            for x in range(nx):
                top, from_ = -1e30, 0
                for dy in range(max(-reach, -y), min(reach, ny - 1 - y) + 1):
                    value = along[y + dy, x] - back * dy * dy
                    if value > top:
                        top, from_ = value, dy
                best[y, x] = top + gain[p, y, x]
                come[p, y, x] = (from_ + reach) * width + jump[y + from_, x]
    last = int(np.argmax(best))
    path[count - 1, 0], path[count - 1, 1] = last // nx, last % nx
    for p in range(count - 1, 0, -1):
        step = come[p, path[p, 0], path[p, 1]]
        path[p - 1, 0] = path[p, 0] + step // width - reach
        path[p - 1, 1] = path[p, 1] + step % width - reach


@dataclass(frozen=True, slots=True, eq=False)
class Canal:
    """The middle of the spinal canal from below upwards, every millimetre of its length.

    Attributes
    ----------
    points_mm
        (n, 3) places on the work grid.
    up, front, left
        (n, 3) unit vectors along the canal towards the head, across it to the front, and to the patient's left.
    score
        (n,) 0 to 1, how much of a bony ring stands round it.
    """

    points_mm: FloatArray
    up: FloatArray
    front: FloatArray
    left: FloatArray
    score: FloatArray


def canal_of(volume: WorkVolume, mask: BoneMask, body: BoolArray) -> Canal | None:
    """Follow the spinal canal; None when the scan shows none."""
    scores = _scores(volume, mask, body)
    if len(scores) * CANAL_CELL_MM < CANAL_SHORTEST_MM:
        return None
    path = np.zeros((len(scores), 2), dtype=np.int64)
    gain = scores * _side_prior(scores)
    _best_path(gain, CANAL_REACH_CELLS, CANAL_BACK_PENALTY, CANAL_SIDE_PENALTY, path)
    along = scores[np.arange(len(scores)), path[:, 0], path[:, 1]].astype(np.float64)
    first, last = _stretch(along)
    if (last - first) * CANAL_CELL_MM < CANAL_SHORTEST_MM or along[first:last].mean() < CANAL_SURE_SCORE:
        return None
    return _framed(first, (path[first:last] * CANAL_CELL_MM).astype(np.float64), along[first:last])


def _scores(volume: WorkVolume, mask: BoneMask, body: BoolArray) -> Float32Array:
    shape = [int((n - 1) * volume.step_mm / CANAL_CELL_MM) + 1 for n in volume.hu.shape]
    out = np.zeros(shape, dtype=np.float32)
    limits = np.array(
        [
            mask.soft_hu + CANAL_SOFT_RANGE_HU[0],
            mask.soft_hu + CANAL_SOFT_RANGE_HU[1],
            mask.bone_hu,
            CANAL_AIR_HU,
            CANAL_NEAR_MM,
            CANAL_FAR_MM,
            CANAL_MEAN_MM,
            CANAL_MEAN_WIDTH_MM,
            CANAL_SPREAD_MM,
            float(CANAL_RAYS),
        ]
    )
    _ring_scores(mask.smooth, body, volume.step_mm, CANAL_CELL_MM, limits, out)
    return out


def _side_prior(scores: Float32Array) -> Float32Array:
    """(columns,) 1 near the median of each section's best place, fading sideways."""
    best = scores.reshape(len(scores), -1)
    column = best.argmax(axis=1) % scores.shape[2]
    sure = best.max(axis=1) >= CANAL_SURE_SCORE
    middle = np.median(column[sure]) if sure.any() else scores.shape[2] / 2
    off = np.maximum(np.abs(np.arange(scores.shape[2]) - middle) * CANAL_CELL_MM - CANAL_SIDE_FREE_MM, 0.0)
    return np.exp(-0.5 * (off / CANAL_SIDE_SIGMA_MM) ** 2).astype(np.float32)


def _stretch(along: FloatArray) -> tuple[int, int]:
    """The half-open stretch of sections with the largest sum of scores, ended by a long enough gap."""
    gap = int(CANAL_END_MM / CANAL_CELL_MM)
    good = np.flatnonzero(along >= CANAL_LEAST_SCORE)
    if not len(good):
        return 0, 0
    ends = np.flatnonzero(np.diff(good) > gap)
    starts, stops = np.concatenate([[0], ends + 1]), np.concatenate([ends, [len(good) - 1]])
    sums = [along[good[a] : good[b] + 1].sum() for a, b in zip(starts, stops, strict=True)]
    best = int(np.argmax(sums))
    return int(good[starts[best]]), int(good[stops[best]]) + 1


def _framed(first: int, cells_mm: FloatArray, along: FloatArray) -> Canal:
    height = (first + np.arange(len(cells_mm))) * CANAL_CELL_MM
    weights = np.sqrt(np.maximum(along, CANAL_LEAST_SCORE))
    fine = np.arange(height[0], height[-1], 0.25)
    curves = [UnivariateSpline(height, cells_mm[:, axis], w=weights, s=float(len(height)) * 0.5)(fine) for axis in (0, 1)]
    places = np.stack([fine, *curves], axis=1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])
    steps = np.arange(0.0, length[-1], 1.0)
    points = np.stack([np.interp(steps, length, places[:, axis]) for axis in range(3)], axis=1)
    up = gaussian_filter1d(np.gradient(points, axis=0), CANAL_TURN_MM, axis=0, mode="nearest")
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    front = np.array([0.0, -1.0, 0.0]) + up * up[:, 1:2]
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    left = np.cross(up, front) * _turn(up[0], front[0])
    score = np.interp(points[:, 0], height, along)
    return Canal(points, up, front, left, score)


def _turn(up: FloatArray, front: FloatArray) -> float:
    """+1 or -1, so that ``left`` has a positive component along the last axis of the work grid."""
    return 1.0 if np.cross(up, front)[2] > 0.0 else -1.0
