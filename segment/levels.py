"""The half level of an edge: half-way between the bone just inside of it and what lies outside.

Outside, the darkest value of a ball counts. Inside, the brightest value of the ball would do where one layer of bone meets the
outside. Where a saw has cut through table and diploe, however, the ball round a point of the diploe's wall sees the brighter
tables beside it, and half of *their* step would put the wall 0.5 mm too deep. So the brightest value on the way straight in is
looked for too; where the ball is much brighter than that, it has seen another layer and does not count. The way in points to
the centroid of the solid about the point: it follows the bone's shape and not the grey values, which layers and noise tilt.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import HuArray, Vector
from batchone.segment.bits import Words, ball
from batchone.segment.bone import Grid
from batchone.segment.uncertainty import value_at

LEVEL_RADIUS_MM = 2.0  # reaches over the blur of a CT (FWHM 0.6 to 1.5 mm) to both sides, yet not through 4 mm of skin
SHAPE_RADIUS_MM = 3.0  # the way in is that of the solid this far about: over the pits of a rough wall, within a vault's thickness
INWARD_MM = 1.25  # the plateau is reached this deep in the solid: 95 % of it behind a blur of FWHM 1.5 mm, all of it at 1 mm
BEFORE_MM = 1.0  # the way in may begin this far outside of the solid
ROWS_MM = 0.8  # rows of voxels at most this far apart give the way in: a centroid needs no more; numerical
STEP_MM = 0.25  # numerical: half of a usual voxel
SAME_LAYER, OTHER_LAYER = 1.2, 1.4  # step to the ball's brightest over that on the way in. Cortex varies by about a tenth and its
#                                     peaks are found less surely on a line; a table against diploe has 2 to 3
FAT_HU = -110  # the darkest tissue; around bone in tissue, air of a sinus behind mucosa must not lower the level
AIR_HU = -1024
BRIGHT_HU = 1600  # densest cortex; metal beside bone must not raise the bone's level
NO_LEVEL = -32768

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_WORDS = nb.types.Array(nb.uint64, 3, "C", readonly=True)
_ROWS = nb.types.Array(nb.int64, 2, "C", readonly=True)
_MM = nb.types.UniTuple(nb.float64, 3)


@nb.njit(nb.int64(_WORDS, nb.int64, nb.int64, nb.int64), cache=True)
def _set(words: Words, z: int, y: int, x: int) -> int:
    if z < 0 or y < 0 or x < 0 or z >= words.shape[0] or y >= words.shape[1] or x >= 64 * words.shape[2]:
        return 0
    return nb.int64((words[z, y, x >> 6] >> nb.uint64(x & 63)) & nb.uint64(1))


@nb.njit(nb.uint64(_WORDS, nb.int64, nb.int64, nb.int64), inline="always")
def _window(words: Words, z: int, y: int, first: int) -> int:
    """The 64 voxels of a row from column ``first`` on, which may lie before it; zero outside of the grid."""
    found = nb.uint64(0)
    if z < 0 or y < 0 or z >= words.shape[0] or y >= words.shape[1]:
        return found
    word, shift = first >> 6, nb.uint64(first & 63)
    if 0 <= word < words.shape[2]:
        found = words[z, y, word] >> shift
    if shift > 0 and -1 <= word < words.shape[2] - 1:
        found |= words[z, y, word + 1] << (nb.uint64(64) - shift)
    return found


@nb.njit(_MM(_WORDS, nb.int64, nb.int64, nb.int64, _ROWS, _MM), cache=True)
def _inward(solid: Words, z: int, y: int, x: int, rows: npt.NDArray[np.int64], spacing_mm: Vector) -> Vector:
    """Unit direction (column, row, slice) to the centroid of the solid within the ball; zero where it has none."""
    sx, sy, sz = 0, 0, 0
    for k in range(rows.shape[0]):
        half = rows[k, 2]
        bits = _window(solid, z + rows[k, 0], y + rows[k, 1], x - half)
        if bits == 0:
            continue
        count, moment = 0, 0
        for i in range(2 * half + 1):
            here = nb.int64((bits >> nb.uint64(i)) & nb.uint64(1))
            count += here
            moment += here * i
        sx, sy, sz = sx + moment - count * half, sy + count * rows[k, 1], sz + count * rows[k, 0]
    ux, uy, uz = sx * spacing_mm[0], sy * spacing_mm[1], sz * spacing_mm[2]
    scale = 1.0 / max(np.sqrt(ux * ux + uy * uy + uz * uz), 1e-9)
    return ux * scale, uy * scale, uz * scale


@nb.njit(nb.float64(_HU, _WORDS, nb.int64, nb.int64, nb.int64, _MM, _MM), cache=True)
def _straight_in(hu: HuArray, solid: Words, z: int, y: int, x: int, way: Vector, spacing_mm: Vector) -> float:
    """The brightest value from a voxel along ``way`` to ``INWARD_MM`` deep in the solid."""
    dx, dy, dz = way[0] / spacing_mm[0], way[1] / spacing_mm[1], way[2] / spacing_mm[2]
    bright, deep, along = float(hu[z, y, x]), 0.0, STEP_MM
    while deep < INWARD_MM and along <= INWARD_MM + BEFORE_MM:
        i, j, k = x + along * dx, y + along * dy, z + along * dz
        bright = max(bright, value_at(hu, i, j, k))
        deep += STEP_MM * _set(solid, int(k + 0.5), int(j + 0.5), int(i + 0.5))
        along += STEP_MM
    return bright


@nb.njit(nb.void(_HU, _WORDS, _WORDS, _ROWS, _ROWS, _MM, nb.int64, nb.int16[:, :, ::1]), parallel=True, cache=True)
def _levels(
    hu: HuArray,
    solid: Words,
    shell: Words,
    rows: npt.NDArray[np.int64],
    shape_rows: npt.NDArray[np.int64],
    spacing_mm: Vector,
    floor_hu: int,
    level: HuArray,
) -> None:
    for z in nb.prange(hu.shape[0]):
        for y in range(hu.shape[1]):
            for x in range(hu.shape[2]):
                if _set(shell, z, y, x) == 0:
                    continue
                bright, dark = nb.int16(-32768), nb.int16(32767)
                for k in range(rows.shape[0]):
                    line = hu[z + rows[k, 0], y + rows[k, 1], x - rows[k, 2] : x + rows[k, 2] + 1]
                    for i in range(line.shape[0]):
                        bright = max(bright, line[i])
                        dark = min(dark, line[i])
                low, high = float(max(nb.int64(dark), floor_hu)), float(min(nb.int64(bright), BRIGHT_HU))
                way = _inward(solid, z, y, x, shape_rows, spacing_mm)
                own = min(_straight_in(hu, solid, z, y, x, way, spacing_mm), high)
                share = (OTHER_LAYER - (high - low) / max(own - low, 1.0)) / (OTHER_LAYER - SAME_LAYER)
                own += (high - own) * min(max(share, 0.0), 1.0)
                level[z, y, x] = nb.int16(np.round(own + low))


def _rows(radius_mm: float, grid: Grid) -> npt.NDArray[np.int64]:
    """A ball as (n, 3) rows: slice offset, row offset, half width in columns."""
    half = ball(radius_mm, grid.spacing_mm)
    dz, dy = np.nonzero(half >= 0)
    return np.stack([dz - half.shape[0] // 2, dy - half.shape[1] // 2, half[dz, dy]], axis=1).astype(np.int64)


def half_levels(solid: Words, shell: Words, grid: Grid, *, in_tissue: bool) -> HuArray:
    """Twice the half level, HU: the sum of the values on both sides of the edge.

    Parameters
    ----------
    solid
        The filled mask of the bone on ``grid``, packed.
    shell
        Where a level is wanted, packed: the voxels near the edge, at least ``LEVEL_RADIUS_MM`` off the grid's sides.
    in_tissue
        The bone lies in soft tissue (a patient), not in air (a dry skull, a phantom).

    Returns
    -------
    (slices, rows, columns) int16
        ``NO_LEVEL`` outside the shell.
    """
    level = np.full(grid.hu.shape, NO_LEVEL, dtype=np.int16)
    radius_mm = LEVEL_RADIUS_MM if min(grid.spacing_mm) < LEVEL_RADIUS_MM else max(grid.spacing_mm)  # never a voxel alone
    rows, shape_rows = _rows(radius_mm, grid), _rows(SHAPE_RADIUS_MM, grid)
    shape_rows[:, 2] = np.minimum(shape_rows[:, 2], 31)  # one word holds a row of it; numerical, down to 0.1 mm columns
    apart = [max(1, int(ROWS_MM / grid.spacing_mm[axis] + 1e-9)) for axis in (2, 1)]
    shape_rows = np.ascontiguousarray(shape_rows[np.all(shape_rows[:, :2] % apart == 0, axis=1)])
    _levels(grid.hu, solid, shell, rows, shape_rows, grid.spacing_mm, FAT_HU if in_tissue else AIR_HU, level)
    return level
