"""How long a laser draws the contours and lines of each layer, from the vectors themselves.

In the order of the file, contours of a layer before its lines. Drawn at constant speed; in between the mirrors jump from rest to
rest, with constant acceleration up to the speed of a jump. Nothing is jumped from layer to layer: that is done while the machine
recoats.

=====================  =====================================================================================
a line                 length / the speed of its region, + ``line_s`` for the laser to go on and off
a contour              length / its speed, + ``line_s``, + ``corner_s`` x (1 - cos turn) / 2 at each inner corner
a jump of length d     d / v + v / a, or 2 sqrt(d / a) when too short to reach v; + ``jump_s`` to settle
=====================  =====================================================================================
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from batchone.pipeline.process import ScanStrategy
from batchone.pipeline.values import FloatArray
from batchone.slicer.exposure import Exposure


def drawn_s(drawn: Exposure, scan: ScanStrategy) -> FloatArray:
    """(layers,) seconds of drawing and jumping, float64; outlines that are not drawn take none."""
    layers, hatches, every = drawn.layers, drawn.hatches, np.arange(drawn.layers.count + 1)
    group = np.searchsorted(hatches.layer, every).astype(np.int64)
    times = np.array([scan.line_s, scan.corner_s, scan.jump_mm_per_s, scan.jump_mm_per_s2, scan.jump_s])
    return _drawn(
        np.ascontiguousarray(layers.points_mm), layers.loop_start, np.searchsorted(layers.loop_layer, every).astype(np.int64),
        drawn.mm_per_s[layers.loop_part], np.ascontiguousarray(hatches.vectors_mm), hatches.start, group,
        drawn.mm_per_s[hatches.part], times,
    )  # fmt: skip


_POINTS = numba.types.Array(numba.float64, 2, "C", readonly=True)
_OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)


@numba.njit(numba.float64(numba.float64, numba.float64[::1]), cache=True)
def _jump_s(length: float, times: FloatArray) -> float:
    speed, acceleration, settling = times[2], times[3], times[4]
    if length * acceleration < speed * speed:
        return 2.0 * math.sqrt(length / acceleration) + settling
    return length / speed + speed / acceleration + settling


@numba.njit(
    numba.float64[::1](
        _POINTS, _OFFSETS, _OFFSETS, numba.float64[::1], _POINTS, _OFFSETS, _OFFSETS, numba.float64[::1], numba.float64[::1]
    ),
    cache=True,
    nogil=True,
)
def _drawn(
    points: FloatArray,
    loop_start: npt.NDArray[np.int64],
    loops: npt.NDArray[np.int64],
    loop_speed: FloatArray,
    lines: FloatArray,
    group_start: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    group_speed: FloatArray,
    times: FloatArray,
) -> FloatArray:
    """``loops`` and ``groups`` (layers + 1,): the first contour and the first group of lines of each layer; speeds of each."""
    switch, corner = times[0], times[1]
    found = np.zeros(len(loops) - 1)
    for layer in range(len(found)):
        x, y, seconds, resting = 0.0, 0.0, 0.0, True
        for loop in range(loops[layer], loops[layer + 1]):
            if loop_speed[loop] <= 0.0:
                continue
            begin, end = loop_start[loop], loop_start[loop + 1]
            if not resting:
                seconds += _jump_s(math.hypot(points[begin, 0] - x, points[begin, 1] - y), times)
            x, y, resting = points[begin, 0], points[begin, 1], False
            before_x, before_y, before = 0.0, 0.0, 0.0
            seconds += switch
            for k in range(begin + 1, end + 1):
                at = k if k < end else begin  # closed
                dx, dy = points[at, 0] - x, points[at, 1] - y
                length = math.hypot(dx, dy)
                seconds += length / loop_speed[loop]
                if before > 0.0 and length > 0.0:
                    seconds += corner * 0.5 * (1.0 - (dx * before_x + dy * before_y) / (length * before))
                if length > 0.0:
                    before_x, before_y, before = dx, dy, length
                x, y = points[at, 0], points[at, 1]
        for group in range(groups[layer], groups[layer + 1]):
            for k in range(group_start[group], group_start[group + 1]):
                if not resting:
                    seconds += _jump_s(math.hypot(lines[k, 0] - x, lines[k, 1] - y), times)
                resting = False
                x, y = lines[k, 2], lines[k, 3]
                seconds += math.hypot(x - lines[k, 0], y - lines[k, 1]) / group_speed[group] + switch
        found[layer] = seconds
    return found
