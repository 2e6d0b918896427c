"""The compiled part of the CLI writer: contours and hatches to the little-endian words of the file.

A point that rounds to its predecessor is merged with it; a contour that is thinner than the file can say is left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from batchone.pipeline.values import FloatArray, IntArray

# twice the area below which the sign of a float32 contour is not certain; numerical: 1e-16 x (1e3 mm)^2 x 1e4 points
_NO_AREA_MM2 = 1e-6
_MOST_LINES = 65_535  # format: lines that one command of 16 bits can count


@njit("Tuple((u2[::1], i8[::1]))(f8[:, ::1], i8[::1], i4[::1], i4[::1], i8, b1, f8)", cache=True, nogil=True)
def encode_hatches(
    vectors_mm: FloatArray,
    start: npt.NDArray[np.int64],
    layer: IntArray,
    part: IntArray,
    layers: int,
    short: bool,
    unit_mm: float,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """Commands 131 or 132 (hatches), as 16-bit words, and (layers + 1,) where those of each layer begin.

    Parameters
    ----------
    vectors_mm, start, layer, part
        As in :class:`batchone.slicer.hatch.Hatches`.
    layers
        Number of layers.
    short
        16-bit coordinates, commands of at most 65,535 lines; else float32.
    unit_mm
        mm per unit.
    """
    groups = layer.shape[0]
    size, head = (4, 3) if short else (8, 5)
    words = np.empty(vectors_mm.shape[0] * size + (groups + vectors_mm.shape[0] // _MOST_LINES + 1) * head, np.uint16)
    first = np.zeros(layers + 1, np.int64)
    point, numbers = np.empty(4, np.float32), np.empty(2, np.int32)
    point_words, number_words = point.view(np.uint16), numbers.view(np.uint16)
    per_mm = 1.0 / unit_mm
    at, reached = 0, 0
    for g in range(groups):
        while reached < layer[g]:
            reached += 1
            first[reached] = at
        v = start[g]
        while v < start[g + 1]:
            begin, count = at, 0
            at += head
            while v < start[g + 1] and count < _MOST_LINES:
                if short:
                    for k in range(4):
                        words[at + k] = int(vectors_mm[v, k] * per_mm + 0.5)
                    same = words[at] == words[at + 2] and words[at + 1] == words[at + 3]
                else:
                    for k in range(4):
                        point[k] = vectors_mm[v, k] * per_mm
                    words[at : at + 8] = point_words
                    same = point[0] == point[2] and point[1] == point[3]
                v += 1
                if not same:
                    at += size
                    count += 1
            if count == 0:
                at = begin
            elif short:
                words[begin], words[begin + 1], words[begin + 2] = 131, part[g] + 1, count
            else:
                numbers[0], numbers[1] = part[g] + 1, count
                words[begin] = 132
                words[begin + 1 : begin + 5] = number_words
    first[reached + 1 :] = at
    return words[:at].copy(), first


@njit("u2[::1](f8[:, ::1], i8[::1], i4[::1], f8[::1], i8[::1], f8[::1], f8, u2[::1], i8[::1])", cache=True, nogil=True)
def encode_short(
    points_mm: FloatArray,
    loop_start: npt.NDArray[np.int64],
    loop_part: IntArray,
    loop_area_mm2: FloatArray,
    first_loop: npt.NDArray[np.int64],
    top_mm: FloatArray,
    unit_mm: float,
    hatches: npt.NDArray[np.uint16],
    first_hatch: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint16]:
    """Commands 128 (layer) and 129 (polyline), as 16-bit words.

    Parameters
    ----------
    points_mm, loop_start, loop_part, loop_area_mm2
        As in :class:`batchone.slicer.layers.Layers`; no coordinate below minus half a unit.
    first_loop
        (layers + 1,) int64: layer k holds the loops ``first_loop[k] .. first_loop[k + 1]``.
    top_mm
        (layers,) float64 upper surfaces.
    unit_mm
        mm per unit.
    hatches, first_hatch
        As :func:`encode_hatches` gives them: those of a layer follow its contours.
    """
    loops = loop_part.shape[0]
    words = np.empty(hatches.shape[0] + 2 * (points_mm.shape[0] + loops) + 4 * loops + 2 * top_mm.shape[0], np.uint16)
    per_mm = 1.0 / unit_mm
    at = 0
    for k in range(top_mm.shape[0]):
        words[at] = 128
        words[at + 1] = int(top_mm[k] * per_mm + 0.5)
        at += 2
        for i in range(first_loop[k], first_loop[k + 1]):
            end = at + 4
            start_x = int(points_mm[loop_start[i], 0] * per_mm + 0.5)
            start_y = int(points_mm[loop_start[i], 1] * per_mm + 0.5)
            last_x, last_y = start_x, start_y
            words[end] = start_x
            words[end + 1] = start_y
            end += 2
            twice = 0
            for p in range(loop_start[i] + 1, loop_start[i + 1]):
                x = int(points_mm[p, 0] * per_mm + 0.5)
                y = int(points_mm[p, 1] * per_mm + 0.5)
                if x == last_x and y == last_y:
                    continue
                twice += last_x * y - x * last_y
                last_x, last_y = x, y
                words[end] = x
                words[end + 1] = y
                end += 2
            twice += last_x * start_y - start_x * last_y
            if twice == 0 or (twice > 0) != (loop_area_mm2[i] > 0):
                continue
            if last_x != start_x or last_y != start_y:
                words[end] = start_x
                words[end + 1] = start_y
                end += 2
            words[at] = 129
            words[at + 1] = loop_part[i] + 1
            words[at + 2] = 1 if twice > 0 else 0
            words[at + 3] = (end - at - 4) // 2
            at = end
        more = first_hatch[k + 1] - first_hatch[k]
        words[at : at + more] = hatches[first_hatch[k] : first_hatch[k + 1]]
        at += more
    return words[:at]


@njit("u2[::1](f8[:, ::1], i8[::1], i4[::1], f8[::1], i8[::1], f8[::1], f8, u2[::1], i8[::1])", cache=True, nogil=True)
def encode_long(
    points_mm: FloatArray,
    loop_start: npt.NDArray[np.int64],
    loop_part: IntArray,
    loop_area_mm2: FloatArray,
    first_loop: npt.NDArray[np.int64],
    top_mm: FloatArray,
    unit_mm: float,
    hatches: npt.NDArray[np.uint16],
    first_hatch: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint16]:
    """Commands 127 (layer) and 130 (polyline), float32 and int32, as 16-bit words; parameters as :func:`encode_short`."""
    loops = loop_part.shape[0]
    words = np.empty(hatches.shape[0] + 4 * (points_mm.shape[0] + loops) + 7 * loops + 3 * top_mm.shape[0], np.uint16)
    point = np.empty(2, np.float32)
    point_words = point.view(np.uint16)
    head = np.empty(3, np.int32)
    head_words = head.view(np.uint16)
    at = 0
    for k in range(top_mm.shape[0]):
        point[0] = top_mm[k] / unit_mm
        words[at] = 127
        words[at + 1 : at + 3] = point_words[:2]
        at += 3
        for i in range(first_loop[k], first_loop[k + 1]):
            begin = at + 7
            end = begin
            start_x = last_x = np.float64(np.float32(points_mm[loop_start[i], 0] / unit_mm))
            start_y = last_y = np.float64(np.float32(points_mm[loop_start[i], 1] / unit_mm))
            twice = 0.0
            for p in range(loop_start[i], loop_start[i + 1]):
                point[0] = points_mm[p, 0] / unit_mm
                point[1] = points_mm[p, 1] / unit_mm
                x, y = np.float64(point[0]), np.float64(point[1])
                if end > begin and x == last_x and y == last_y:
                    continue
                twice += last_x * y - x * last_y
                last_x, last_y = x, y
                words[end : end + 4] = point_words
                end += 4
            twice += last_x * start_y - start_x * last_y
            if abs(twice) <= _NO_AREA_MM2 or (twice > 0) != (loop_area_mm2[i] > 0):
                continue
            if last_x != start_x or last_y != start_y:
                words[end : end + 4] = words[begin : begin + 4]
                end += 4
            head[0] = loop_part[i] + 1
            head[1] = 1 if twice > 0 else 0
            head[2] = (end - begin) // 4
            words[at] = 130
            words[at + 1 : at + 7] = head_words
            at = end
        more = first_hatch[k + 1] - first_hatch[k]
        words[at : at + more] = hatches[first_hatch[k] : first_hatch[k + 1]]
        at += more
    return words[:at]
