"""The compiled part of layer images: how much of each pixel some contours cover."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, types

from batchone.pipeline.values import FloatArray

Grey = npt.NDArray[np.uint8]

_POINTS = types.Array(types.float64, 2, "C", readonly=True)
_STARTS = types.Array(types.int64, 1, "C", readonly=True)


@njit("void(f8[:, ::1], f8, f8, f8, f8)", cache=True, nogil=True)
def _edge(cover: FloatArray, x0: float, y0: float, x1: float, y1: float) -> None:
    """Add what an edge changes of the cover along each row: its rise within a pixel, shared with the next by the area beside it.

    The running sum along a row is then the signed area of each pixel that lies to the right of the edge.
    """
    if y0 == y1:
        return
    way = 1.0
    if y0 > y1:
        x0, y0, x1, y1, way = x1, y1, x0, y0, -1.0
    slope = (x1 - x0) / (y1 - y0)
    for row in range(int(np.floor(y0)), int(np.ceil(y1))):
        low, high = max(y0, float(row)), min(y1, row + 1.0)
        if high <= low:
            continue
        a, b = x0 + (low - y0) * slope, x0 + (high - y0) * slope
        left, right = min(a, b), max(a, b)
        first, last = int(np.floor(left)), int(np.floor(right))
        rise = way * (high - low)
        if first == last or right - left == 0.0:
            inside = first + 1.0 - 0.5 * (left + right)  # share of the first pixel that lies right of the edge
            cover[row, first] += rise * inside
            cover[row, first + 1] += rise * (1.0 - inside)
            continue
        before = 0.0  # area right of the edge, summed over the pixels passed so far
        done = 0.0
        for column in range(first, last + 1):
            enter, leave = max(left, float(column)), min(right, column + 1.0)
            part = (leave - enter) / (right - left) * rise
            area = done + part * (column + 1.0 - 0.5 * (enter + leave))
            cover[row, column] += area - before
            before = area
            done += part
        cover[row, last + 1] += rise - before


@njit(
    types.void(_POINTS, _STARTS, types.float64, types.float64, types.float64, types.Array(types.uint8, 2, "C")),
    cache=True,
    nogil=True,
)
def shade(
    points_mm: FloatArray, starts: npt.NDArray[np.int64], left_mm: float, top_mm: float, pixel_mm: float, out: Grey
) -> None:
    """Shade an image by the share of each pixel that contours cover: 0 none, 255 all of it, rounded.

    Parameters
    ----------
    points_mm, starts
        (p, 2) and (l + 1,): contours, outer ones counter-clockwise, holes clockwise.
    left_mm, top_mm
        Place of the image's upper left corner: columns run along x, rows against y.
    pixel_mm
        Side of a pixel.
    out
        (rows, 1 + columns): one byte before each row is left as it is. All contours lie inside of the image.
    """
    rows, columns = out.shape[0], out.shape[1] - 1
    cover = np.zeros((rows + 1, columns + 2))
    for loop in range(starts.shape[0] - 1):
        before = starts[loop + 1] - 1
        for p in range(starts[loop], starts[loop + 1]):
            _edge(
                cover,
                (points_mm[before, 0] - left_mm) / pixel_mm,
                (top_mm - points_mm[before, 1]) / pixel_mm,
                (points_mm[p, 0] - left_mm) / pixel_mm,
                (top_mm - points_mm[p, 1]) / pixel_mm,
            )
            before = p
    for row in range(rows):
        covered = 0.0
        for column in range(columns):
            covered += cover[row, column]
            out[row, 1 + column] = int(255.0 * min(max(covered, 0.0), 1.0) + 0.5)
