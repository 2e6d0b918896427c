"""Where the hip joints are: centres round which the socket's wall stands as a bright ridge, left and right alike.

The joint space is thinner than a coarse scan's voxel; the wall of the socket with the pelvis's soft tissue behind it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter

from batchone.pipeline.values import FloatArray
from batchone.segment.apart.cut import Ground
from batchone.segment.apart.discs import value_at
from batchone.segment.apart.grid import Float32Array
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.table import (
    HEAD_LEVEL_MM,
    HEAD_SIDE_MM,
    HIP_GRID_MM,
    SOCKET_CLOSE_MM,
    SOCKET_COSINE,
    SOCKET_DEPTH_MM,
    SOCKET_LEAST_HU,
    SOCKET_MOST_HU,
    SOCKET_OPENS,
    SOCKET_RADIUS_MM,
    SOCKET_TO_HEAD_MM,
    SOCKET_WALL_MM,
)

_FIELD = nb.types.Array(nb.float32, 3, "C", readonly=True)
_ROWS = nb.types.Array(nb.float64, 2, "C", readonly=True)
_ROW = nb.types.Array(nb.float64, 1, "C", readonly=True)


@nb.njit(nb.void(_FIELD, _ROWS, _ROWS, nb.float64, _ROW, nb.float64[:, ::1]), parallel=True, cache=True, nogil=True)
def _ridges(
    smooth: Float32Array, centres: FloatArray, ways: FloatArray, step: float, figures: FloatArray, out: FloatArray
) -> None:
    """Best mean ridge over the socket's directions, and its radius, for every centre."""
    least, most, near, far, top, soft = figures[0], figures[1], int(figures[2]), int(figures[3]), figures[4], figures[5]
    first = int(least) - far
    count = int(most) + far - first + 1
    for c in nb.prange(centres.shape[0]):
        total = np.zeros(count)
        value = np.empty(count)
        for w in range(ways.shape[0]):
            for r in range(count):
                distance = first + r
                z = (centres[c, 0] + distance * ways[w, 0]) / step
                y = (centres[c, 1] + distance * ways[w, 1]) / step
                x = (centres[c, 2] + distance * ways[w, 2]) / step
                value[r] = max(value_at(smooth, z, y, x), soft - 100.0)
            for r in range(far, count - far):
                inner, outer = 1e9, 1e9
                for k in range(near, far + 1):
                    inner = min(inner, value[r - k])
                    outer = min(outer, value[r + k])
                ridge = min(value[r] - inner, value[r] - outer)
                total[r] += min(max(ridge, 0.0), top)
        best = far
        for r in range(far, count - far):
            if total[r] > total[best]:
                best = r
        out[c, 0], out[c, 1] = total[best] / ways.shape[0], first + best


@dataclass(frozen=True, slots=True, eq=False)
class FemoralHead:
    """A sphere in the hip joint: centre (3,) and radius, mm on the work grid; ``out`` is +1 on the patient's left; ``ridge_hu``
    is how bright the socket's wall stands round it."""

    centre_mm: FloatArray
    radius_mm: float
    out: float
    ridge_hu: float


def femoral_heads(mask: BoneMask, place: Ground, midline_mm: float) -> tuple[FemoralHead, ...]:
    """The heads of both femora, left first; one or none where the scan shows no more."""
    fold = max(1, round(HIP_GRID_MM / place.step_mm))
    grid_mm = fold * place.step_mm
    depth = _depth_mm(place, fold, grid_mm)
    first = np.array([edge.start for edge in place.box]) * place.step_mm
    side = first[2] + np.arange(depth.shape[2]) * grid_mm - midline_mm
    maps = []
    for out in (1.0, -1.0):
        allowed = (depth >= SOCKET_DEPTH_MM) & ((out * side > HEAD_SIDE_MM[0]) & (out * side < HEAD_SIDE_MM[1]))[None, None, :]
        ridge, radius = np.zeros(depth.shape), np.zeros(depth.shape)
        if allowed.any():
            found = _scored(mask, place.step_mm, np.argwhere(allowed) * grid_mm + first, out)
            ridge[allowed], radius[allowed] = found[:, 0], found[:, 1]
        maps.append((ridge, radius))
    heads = []
    for k, out in enumerate((1.0, -1.0)):
        ridge, radius = maps[k]
        if ridge.max() < SOCKET_LEAST_HU:
            continue
        other = _mirrored(maps[1 - k][0], side, grid_mm)
        both = np.where(ridge > 0.0, ridge + other, 0.0)
        at = np.unravel_index(int(both.argmax()), both.shape)
        heads.append(FemoralHead(np.array(at) * grid_mm + first, float(radius[at]) - SOCKET_TO_HEAD_MM, out, float(ridge[at])))
    return tuple(heads)


def _depth_mm(place: Ground, fold: int, grid_mm: float) -> FloatArray:
    """Depth in bone on a coarse grid, its marrow closed."""
    edge = int(np.ceil(SOCKET_CLOSE_MM / grid_mm)) + 1
    coarse = np.pad(place.bone[::fold, ::fold, ::fold], edge)
    grown = distance_transform_edt(~coarse) * grid_mm <= SOCKET_CLOSE_MM
    closed = distance_transform_edt(grown) * grid_mm > SOCKET_CLOSE_MM
    inner = (slice(edge, -edge),) * 3
    return np.asarray(distance_transform_edt(closed | coarse)[inner] * grid_mm)


def _scored(mask: BoneMask, step_mm: float, centres: FloatArray, out: float) -> FloatArray:
    scores = np.zeros((len(centres), 2))
    figures = np.array([*SOCKET_RADIUS_MM, *SOCKET_WALL_MM, SOCKET_MOST_HU, mask.soft_hu])
    _ridges(mask.smooth, np.ascontiguousarray(centres), _ways(out), step_mm, figures, scores)
    return scores


def _ways(out: float) -> FloatArray:
    """Unit directions in which a socket has a wall, evenly spread."""
    count = 160
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1.0 - 2.0 * k / count), np.pi * (1.0 + 5.0**0.5) * k
    ways = np.stack([np.cos(polar), np.sin(polar) * np.sin(turn), np.sin(polar) * np.cos(turn)], axis=1)
    opens = np.array([SOCKET_OPENS[0], SOCKET_OPENS[1], out * SOCKET_OPENS[2]])
    return np.ascontiguousarray(ways[ways @ (opens / np.linalg.norm(opens)) < SOCKET_COSINE])


def _mirrored(ridge: FloatArray, side: FloatArray, grid_mm: float) -> FloatArray:
    """The other side's best ridge within ``HEAD_LEVEL_MM`` of each place's mirror image."""
    size = 2 * round(HEAD_LEVEL_MM / grid_mm) + 1
    spread = maximum_filter(ridge, size=size)
    column = np.rint((-side - side[0]) / grid_mm).astype(np.int64)
    inside = (column >= 0) & (column < len(side))
    out = np.zeros_like(ridge)
    out[:, :, inside] = spread[:, :, column[inside]]
    return out
