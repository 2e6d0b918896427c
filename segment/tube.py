"""The values about a vertex by their depth: the voxels of a tube along its normal, and which of them belong to its own edge."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, HuArray

BIN_MM = 0.2  # numerical: under half a standard deviation of the sharpest blur
BINS = 48  # numerical: room for what lies within reach, in and out
LEAST_WEIGHT = 0.05  # numerical: a bin with less, of a voxel on the axis, is empty
APART_MM, BEHIND_MM = 0.5, 1.0  # out and in of the start: nearer, a rise of the values is the edge itself

IndexArray = npt.NDArray[np.int64]

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_POINTS = nb.types.Array(nb.float64, 2, "C", readonly=True)
_BOX = nb.types.Array(nb.int64, 2, "C", readonly=True)


@nb.njit(
    nb.int64(
        _HU, _POINTS, nb.float64[::1], nb.float64[::1], nb.float64[::1], nb.float64[::1], nb.float64[::1], nb.float64[::1],
        _BOX, nb.float64[:, ::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def gathered(
    hu: HuArray,
    to_mm: FloatArray,
    centre: FloatArray,
    normal: FloatArray,
    across: FloatArray,
    beside: FloatArray,
    bend: FloatArray,
    reach: FloatArray,
    box: IndexArray,
    bins: FloatArray,
) -> int:
    """Voxels of a tube along the normal, by depth: rows of mean depth (mm, outside positive), mean HU, number of independent
    voxels. ``to_mm`` is (3, 3), index step (column, row, slice) -> mm; ``centre`` in index; ``reach``: in, out, radius, mm, and
    the value (HU) from which a voxel is metal, which leaves nothing; ``box`` the voxels (column, row, slice) that may count."""
    inside, outside, radius = reach[0], reach[1], reach[2]
    sums = np.zeros((BINS, 4))
    first, last = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    for axis in range(3):
        step = 0.0
        along = 0.0
        for i in range(3):
            step += to_mm[i, axis] ** 2
            along += to_mm[i, axis] * normal[i]
        side = radius / np.sqrt(step) * np.sqrt(max(1.0 - along * along / step, 0.0))
        a, b = centre[axis] - inside * along / step, centre[axis] + outside * along / step
        first[axis] = max(int(np.ceil(min(a, b) - side)), box[axis, 0])
        last[axis] = min(int(np.floor(max(a, b) + side)), box[axis, 1] - 1)
    for k in range(first[2], last[2] + 1):
        for j in range(first[1], last[1] + 1):
            for i in range(first[0], last[0] + 1):
                di, dj, dk = i - centre[0], j - centre[1], k - centre[2]
                dx = to_mm[0, 0] * di + to_mm[0, 1] * dj + to_mm[0, 2] * dk
                dy = to_mm[1, 0] * di + to_mm[1, 1] * dj + to_mm[1, 2] * dk
                dz = to_mm[2, 0] * di + to_mm[2, 1] * dj + to_mm[2, 2] * dk
                u = dx * across[0] + dy * across[1] + dz * across[2]
                w = dx * beside[0] + dy * beside[1] + dz * beside[2]
                r2 = (u * u + w * w) / (radius * radius)
                if r2 >= 1.0:
                    continue
                depth = dx * normal[0] + dy * normal[1] + dz * normal[2]
                depth -= 0.5 * bend[0] * u * u + bend[1] * u * w + 0.5 * bend[2] * w * w
                if depth <= -inside or depth >= outside:
                    continue
                if hu[k, j, i] >= reach[3]:
                    return 0
                b = int((depth + inside) / BIN_MM)
                weight = 1.0 - r2
                sums[b, 0] += weight
                sums[b, 1] += weight * depth
                sums[b, 2] += weight * hu[k, j, i]
                sums[b, 3] += weight * weight
    count = 0
    for b in range(BINS):
        if sums[b, 0] > LEAST_WEIGHT:
            bins[count, 0] = sums[b, 1] / sums[b, 0]
            bins[count, 1] = sums[b, 2] / sums[b, 0]
            bins[count, 2] = sums[b, 0] * sums[b, 0] / sums[b, 3]
            count += 1
    return count


@nb.njit(nb.types.UniTuple(nb.int64, 2)(nb.float64[:, ::1], nb.int64, nb.float64), cache=True, nogil=True)
def own_layers(bins: FloatArray, count: int, rise_hu: float) -> tuple[int, int]:
    """First and one past the last bin that belong to this edge: another bone outside, or the far wall inside, ends it."""
    middle = 0
    while middle < count - 1 and bins[middle, 0] < 0.0:
        middle += 1
    stop, least = count, bins[middle, 1]
    for b in range(middle, count):
        least = min(least, bins[b, 1])
        if bins[b, 0] > APART_MM and bins[b, 1] > least + rise_hu:
            stop = b
            break
    # inwards: up to the peak, down to the marrow, and up again is the other wall
    first, most, least = 0, bins[middle, 1], 1e9
    for b in range(middle, -1, -1):
        if bins[b, 1] > most and least > 1e8:
            most = bins[b, 1]
        if bins[b, 1] < most - rise_hu:
            least = min(least, bins[b, 1])
        if least < 1e8 and bins[b, 0] < -BEHIND_MM and bins[b, 1] > least + rise_hu:
            first = b + 1
            break
    return first, max(stop, middle + 1)
