"""The compiled part of the CLI reader: from the little-endian words of the file to its layers, contours and hatches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from batchone.pipeline.values import FloatArray

Words = npt.NDArray[np.uint16]
Numbers = npt.NDArray[np.int64]

LAYER_SHORT, POLYLINE_SHORT, HATCHES_SHORT = 128, 129, 131  # CLI 2.0, 16-bit
LAYER_LONG, POLYLINE_LONG, HATCHES_LONG = 127, 130, 132  # CLI 2.0, 32-bit
UNKNOWN, CUT_SHORT, NO_POLYLINE, POLYLINE_CUT, NO_HATCHES, HATCHES_CUT = 1, 2, 3, 4, 5, 6  # what may be wrong with a command


@njit("i8(u2[::1], i8, b1)", cache=True, nogil=True)
def _integer(words: Words, at: int, short: bool) -> int:
    """An unsigned number of 16 bits, or a signed one of 32."""
    if short:
        return int(words[at])
    return int(np.int32(np.uint32(words[at]) | np.uint32(words[at + 1]) << np.uint32(16)))


@njit("i8(u2[::1], i8, b1, i8, i8[::1])", cache=True, nogil=True)
def _command(words: Words, at: int, short: bool, parts: int, found: Numbers) -> int:
    """Look at the command at a word: what is wrong with it, 0 for nothing.

    ``found`` receives the command, its part, direction and count, and the words where what it announces begins and ends.
    """
    width = 1 if short else 2
    command = np.int64(words[at])
    polyline = command == (POLYLINE_SHORT if short else POLYLINE_LONG)
    hatches = command == (HATCHES_SHORT if short else HATCHES_LONG)
    found[:] = 0
    found[0] = command
    found[4] = found[5] = at + 1 + width * (3 if polyline else 2 if hatches else 1)
    if not polyline and not hatches and command != (LAYER_SHORT if short else LAYER_LONG):
        return UNKNOWN
    if found[4] > words.shape[0]:
        return CUT_SHORT
    if not polyline and not hatches:
        return 0
    found[1], found[3] = _integer(words, at + 1, short), _integer(words, found[4] - width, short)
    if polyline:
        found[2] = _integer(words, at + 1 + width, short)
    if found[1] < 1 or found[1] > parts or found[2] < 0 or found[2] > 1 or found[3] < (4 if polyline else 1):
        return NO_POLYLINE if polyline else NO_HATCHES
    found[5] += width * found[3] * (2 if polyline else 4)
    if found[5] > words.shape[0]:
        return POLYLINE_CUT if polyline else HATCHES_CUT
    return 0


@njit("Tuple((f8[::1], i8[:, ::1], i8[::1]))(u2[::1], b1, i8)", cache=True, nogil=True)
def walked(words: Words, short: bool, parts: int) -> tuple[FloatArray, Numbers, Numbers]:
    """Go from command to command, up to the first that cannot be.

    Parameters
    ----------
    words
        The geometry as 16-bit words.
    short
        16-bit coordinates; else float32.
    parts
        Number of labels in the header.

    Returns
    -------
    top
        (layers,) float64: upper surfaces, in units of the file.
    found
        (n, 6) of each polyline and group of hatches: its command, layer, part, direction, count, and the word where its points
        begin.
    fault
        (6,): what is wrong, 0 for nothing; the word of that command; the command, its part, direction and count.
    """
    top, kept = np.empty(0, np.float64), np.empty((0, 6), np.int64)
    fault, found = np.zeros(6, np.int64), np.zeros(6, np.int64)
    height = np.empty(1, np.float32)
    height_words = height.view(np.uint16)
    for turn in range(2):  # first commands are counted, then kept
        at = layers = count = 0
        while at < words.shape[0]:
            what = _command(words, at, short, parts, found)
            layer = found[4] == found[5]
            if what == 0 and not layer and layers == 0:  # nothing can lie in no layer
                what = NO_POLYLINE if found[0] == (POLYLINE_SHORT if short else POLYLINE_LONG) else NO_HATCHES
            if what != 0:
                fault[0], fault[1] = what, at
                fault[2:] = found[:4]
                return top, kept, fault
            if layer:
                if turn == 1 and short:
                    top[layers] = words[at + 1]
                elif turn == 1:
                    height_words[:] = words[at + 1 : at + 3]
                    top[layers] = height[0]
                layers += 1
            else:
                if turn == 1:
                    kept[count, 0], kept[count, 1], kept[count, 2] = found[0], layers - 1, found[1] - 1
                    kept[count, 3:] = found[2:5]
                count += 1
            at = found[5]
        if turn == 0:
            top, kept = np.empty(layers, np.float64), np.empty((count, 6), np.int64)
    return top, kept, fault


@njit("Tuple((f8[:, ::1], i8))(u2[::1], i8[::1], i8[::1], b1, f8)", cache=True, nogil=True)
def opened_lines(words: Words, offset: Numbers, start: Numbers, short: bool, unit_mm: float) -> tuple[FloatArray, int]:
    """Take hatches out of the file's words.

    Parameters
    ----------
    words, short, unit_mm
        As in :func:`opened`.
    offset
        (h,) int64: the word where the lines of each command begin.
    start
        (h + 1,) int64: offsets of the commands, counted in lines.

    Returns
    -------
    lines_mm
        (n, 4) float64; NaN or infinite where the file is.
    without_length
        Number of lines that end where they start.
    """
    lines_mm = np.empty((start[-1], 4), np.float64)
    ends = np.empty(4, np.float32)
    end_words = ends.view(np.uint16)
    without_length = 0
    for i in range(offset.shape[0]):
        for n in range(start[i], start[i + 1]):
            if short:
                at = offset[i] + 4 * (n - start[i])
                for k in range(4):
                    lines_mm[n, k] = words[at + k] * unit_mm
            else:
                at = offset[i] + 8 * (n - start[i])
                end_words[:] = words[at : at + 8]
                for k in range(4):
                    lines_mm[n, k] = ends[k] * unit_mm
            if lines_mm[n, 0] == lines_mm[n, 2] and lines_mm[n, 1] == lines_mm[n, 3]:
                without_length += 1
    return lines_mm, without_length


@njit("Tuple((f8[:, ::1], f8[::1], i8))(u2[::1], i8[::1], i8[::1], b1, f8)", cache=True, nogil=True)
def opened(
    words: Words,
    offset: Numbers,
    start: Numbers,
    short: bool,
    unit_mm: float,
) -> tuple[FloatArray, FloatArray, int]:
    """Take closed contours out of the file's words, without their repeated last point.

    Parameters
    ----------
    words
        The geometry as 16-bit words.
    offset
        (l,) int64: the word where each contour's points begin.
    start
        (l + 1,) int64: offsets of the contours, counted in points, the repeated ones included.
    short
        16-bit coordinates; else float32.
    unit_mm
        mm per unit.

    Returns
    -------
    points_mm
        (p - l, 2) float64; NaN or infinite where the file is.
    area_mm2
        (l,) float64, signed.
    not_closed
        Number of contours that do not end where they start.
    """
    loops = start.shape[0] - 1
    points_mm = np.empty((start[loops] - loops, 2), np.float64)
    area_mm2 = np.empty(loops, np.float64)
    pair = np.empty(2, np.float32)
    pair_words = pair.view(np.uint16)
    not_closed = 0
    for i in range(loops):
        twice = 0.0
        first_x = first_y = last_x = last_y = 0.0
        for p in range(start[i], start[i + 1]):
            k = p - start[i]
            if short:
                x, y = float(words[offset[i] + 2 * k]), float(words[offset[i] + 2 * k + 1])
            else:
                pair_words[:] = words[offset[i] + 4 * k : offset[i] + 4 * k + 4]
                x, y = float(pair[0]), float(pair[1])
            if k == 0:
                first_x, first_y = x, y
            else:
                twice += last_x * y - x * last_y
            if p < start[i + 1] - 1:
                points_mm[p - i, 0] = x * unit_mm
                points_mm[p - i, 1] = y * unit_mm
            last_x, last_y = x, y
        area_mm2[i] = 0.5 * twice * unit_mm * unit_mm
        if first_x != last_x or first_y != last_y:
            not_closed += 1
    return points_mm, area_mm2, not_closed
