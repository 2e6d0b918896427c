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
from batchone.segment.bits import Words, ball, ball_rows, unpacked
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

WORD = 64  # voxels of one word of a packed mask

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_WORDS = nb.types.Array(nb.uint64, 3, "C", readonly=True)
_INSIDE = nb.types.Array(nb.boolean, 3, "C", readonly=True)
_ROWS = nb.types.Array(nb.int64, 2, "C", readonly=True)
_MM = nb.types.UniTuple(nb.float64, 3)
Rows = npt.NDArray[np.int64]
Sums = npt.NDArray[np.int32]


@nb.njit(nb.void(_HU, nb.int64, nb.int64, nb.int64, _ROWS, nb.int16[:, ::1], nb.int16[:, ::1]), cache=True, nogil=True)
def _extremes(hu: HuArray, z: int, y: int, first: int, rows: Rows, window: HuArray, out: HuArray) -> None:
    """Brightest and darkest value of the ball round voxels of a row, from ``first`` on, into the two rows of ``out``.

    The rows of the ball come widest first. One of half width h holds those of every smaller one, so each is looked at once:
    the extremes of all rows of half width d or more stand in ``window`` when the voxels d to the left and right are due.
    """
    reach, size = rows[0, 2], window.shape[1]
    top, low, bright, dark = window[0], window[1], out[0, : size - 2 * reach], out[1, : size - 2 * reach]
    top[:], bright[:] = -32768, -32768
    low[:], dark[:] = 32767, 32767
    k = 0
    for d in range(reach, -1, -1):
        while k < rows.shape[0] and rows[k, 2] == d:
            line = hu[z + rows[k, 0], y + rows[k, 1], first - reach : first - reach + size]
            for i in range(size):
                top[i] = max(top[i], line[i])
                low[i] = min(low[i], line[i])
            k += 1
        for shift in (reach - d, reach + d):
            high, deep = top[shift:], low[shift:]
            for i in range(bright.shape[0]):
                bright[i] = max(bright[i], high[i])
                dark[i] = min(dark[i], deep[i])


@nb.njit(nb.void(_INSIDE, nb.int64, nb.int64, nb.int64, _ROWS, nb.int16[:, ::1], nb.int32[:, ::1]), cache=True, nogil=True)
def _moments(inside: npt.NDArray[np.bool_], z: int, y: int, first: int, rows: Rows, window: HuArray, out: Sums) -> None:
    """Sums of the offsets (column, row, slice) to the solid's voxels in the ball round voxels of a row, from ``first`` on.

    The rows of the ball come widest first, see :func:`_extremes`.
    """
    reach, size = rows[0, 2], window.shape[1]
    from_, to = max(first - reach, 0), min(first - reach + size, inside.shape[2])
    at = from_ - first + reach
    window[:] = 0
    out[:] = 0
    ones, ys, zs = window[0, at:], window[1, at:], window[2, at:]
    sx, sy, sz = out[0, : size - 2 * reach], out[1, : size - 2 * reach], out[2, : size - 2 * reach]
    k = 0
    for d in range(reach, -1, -1):
        while k < rows.shape[0] and rows[k, 2] == d:
            dz, dy = nb.int16(rows[k, 0]), nb.int16(rows[k, 1])
            k += 1
            if z + dz < 0 or z + dz >= inside.shape[0] or y + dy < 0 or y + dy >= inside.shape[1]:
                continue
            line = inside[z + dz, y + dy, from_:to]
            for i in range(line.shape[0]):
                here = nb.int16(line[i])
                ones[i] += here
                ys[i] += dy * here
                zs[i] += dz * here
        for side in range(-1, 2 if d else 0, 2):
            shift, step = reach + side * d, nb.int32(side * d)
            n, ty, tz = window[0, shift:], window[1, shift:], window[2, shift:]
            for i in range(sx.shape[0]):
                sx[i] += step * n[i]
                sy[i] += ty[i]
                sz[i] += tz[i]


@nb.njit(nb.int64(nb.int64), inline="always")
def _window(reach: int) -> int:
    """Columns that are worked on together: a multiple of what a processor takes at once, with the ball's reach on both sides."""
    return WORD if 4 * reach <= WORD else 2 * WORD


@nb.njit(nb.int64(nb.int64, nb.int64), inline="always")
def _evens_first(n: int, count: int) -> int:
    """The ``n``-th of 0, 2, 4 ... 1, 3, 5 ...: cores that take runs of ``n`` have alike parts of a bone each."""
    return 2 * n if 2 * n < count else 2 * (n - (count + 1) // 2) + 1


@nb.njit(nb.void(_WORDS, nb.int64, nb.int64, nb.boolean, nb.uint64[::1]), cache=True, nogil=True)
def _due(shell: Words, z: int, y: int, every_row: bool, out: Words) -> None:
    """The voxels of a row of the shell that need a level of their own: all in every second row, else those beside none such.

    Levels hardly change from voxel to voxel and are averaged over neighbours, so rows between rows follow from these.
    """
    rows, words = shell.shape[1], shell.shape[2]
    out[:] = shell[z, y]
    if every_row or (z + y) & 1 == 0:
        return
    before = nb.uint64(0)
    beyond = nb.uint64(0)
    for w in range(words + 1):  # one word behind, since a voxel's neighbours may lie in the word after its own
        after = nb.uint64(0)
        if w < words:
            after |= shell[z - 1, y, w] if z > 0 else nb.uint64(0)
            after |= shell[z + 1, y, w] if z + 1 < shell.shape[0] else nb.uint64(0)
            after |= shell[z, y - 1, w] if y > 0 else nb.uint64(0)
            after |= shell[z, y + 1, w] if y + 1 < rows else nb.uint64(0)
        if w > 0:
            one = nb.uint64(1)
            last = nb.uint64(63)
            out[w - 1] &= ~(before | before << one | before >> one | beyond >> last | after << last)
        beyond, before = before, after


@nb.njit(nb.int64(_INSIDE, nb.int64, nb.int64, nb.int64), inline="always")
def _set(inside: npt.NDArray[np.bool_], z: int, y: int, x: int) -> int:
    if z < 0 or y < 0 or x < 0 or z >= inside.shape[0] or y >= inside.shape[1] or x >= inside.shape[2]:
        return 0
    return nb.int64(inside[z, y, x])


@nb.njit(nb.float64(_HU, _INSIDE, nb.int64, nb.int64, nb.int64, _MM, _MM, nb.float64), cache=True, nogil=True)
def _straight_in(
    hu: HuArray, inside: npt.NDArray[np.bool_], z: int, y: int, x: int, way: Vector, spacing_mm: Vector, enough: float
) -> float:
    """The brightest value from a voxel along ``way`` to ``INWARD_MM`` deep in the solid, or the first of at least ``enough``."""
    dx, dy, dz = way[0] / spacing_mm[0], way[1] / spacing_mm[1], way[2] / spacing_mm[2]
    bright, deep, along = float(hu[z, y, x]), 0.0, STEP_MM
    while deep < INWARD_MM and along <= INWARD_MM + BEFORE_MM and bright < enough:
        i, j, k = x + along * dx, y + along * dy, z + along * dz
        bright = max(bright, value_at(hu, i, j, k))
        deep += STEP_MM * _set(inside, int(k + 0.5), int(j + 0.5), int(i + 0.5))
        along += STEP_MM
    return bright


@nb.njit(
    nb.void(_HU, _INSIDE, _WORDS, _ROWS, _ROWS, _MM, nb.int64, nb.boolean, nb.int16[:, :, ::1]),
    parallel=True,
    cache=True,
    nogil=True,
    error_model="numpy",
)
def _levels(
    hu: HuArray,
    inside: npt.NDArray[np.bool_],
    shell: Words,
    rows: Rows,
    shape_rows: Rows,
    spacing_mm: Vector,
    floor_hu: int,
    every_row: bool,
    level: HuArray,
) -> None:
    reach, shape_reach, columns = rows[0, 2], shape_rows[0, 2], hu.shape[2]
    size, shape_size = min(_window(reach), columns), _window(shape_reach)
    count = min(size - 2 * reach, shape_size - 2 * shape_reach)
    for turn in nb.prange(hu.shape[0]):
        z = _evens_first(turn, hu.shape[0])
        window, extremes = np.empty((2, size), dtype=np.int16), np.empty((2, size), dtype=np.int16)
        shape_window, sums = np.empty((3, shape_size), dtype=np.int16), np.empty((3, shape_size), dtype=np.int32)
        due = np.empty(shell.shape[2], dtype=np.uint64)
        for y in range(hu.shape[1]):
            level[z, y] = NO_LEVEL
            _due(shell, z, y, every_row, due)
            x, begin, first, measured = 0, -count, 0, False
            while x < columns:
                word = due[x >> 6] >> nb.uint64(x & 63)
                if word == 0:
                    x = (x | 63) + 1
                    continue
                if word & nb.uint64(1) == 0:
                    x += 1
                    continue
                if x >= begin + count:  # the voxels from here on; the ball stays in the row
                    begin, first, measured = x, min(x, columns - size + reach), False
                    _extremes(hu, z, y, first, rows, window, extremes)
                bright, dark = nb.int64(extremes[0, x - first]), nb.int64(extremes[1, x - first])
                low, high = float(max(dark, floor_hu)), float(min(bright, BRIGHT_HU))
                enough = low + max((high - low) / SAME_LAYER, 1.0)  # from here on, the ball's brightest counts
                own = float(hu[z, y, x])
                if own < enough:
                    if not measured:
                        _moments(inside, z, y, begin, shape_rows, shape_window, sums)
                        measured = True
                    n = x - begin
                    ux, uy, uz = sums[0, n] * spacing_mm[0], sums[1, n] * spacing_mm[1], sums[2, n] * spacing_mm[2]
                    scale = 1.0 / max(np.sqrt(ux * ux + uy * uy + uz * uz), 1e-9)
                    way = (ux * scale, uy * scale, uz * scale)
                    own = _straight_in(hu, inside, z, y, x, way, spacing_mm, enough)
                own = min(own, high)
                share = (OTHER_LAYER - (high - low) / max(own - low, 1.0)) / (OTHER_LAYER - SAME_LAYER)
                own += (high - own) * min(max(share, 0.0), 1.0)
                level[z, y, x] = nb.int16(np.round(own + low))
                x += 1


def half_levels(solid: Words, shell: Words, grid: Grid, *, in_tissue: bool, every_row: bool = False) -> HuArray:
    """Twice the half level, HU: the sum of the values on both sides of the edge.

    Parameters
    ----------
    solid
        The filled mask of the bone on ``grid``, packed.
    shell
        Where a level is wanted, packed: the voxels near the edge, at least ``LEVEL_RADIUS_MM`` off the grid's sides.
    in_tissue
        The bone lies in soft tissue (a patient), not in air (a dry skull, a phantom).
    every_row
        Where a fit begins at the surface; else every second row has levels, and those between follow from their neighbours.

    Returns
    -------
    (slices, rows, columns) int16
        ``NO_LEVEL`` outside the shell, and in rows of it between rows that have one.
    """
    level = np.empty(grid.hu.shape, dtype=np.int16)
    radius_mm = LEVEL_RADIUS_MM if min(grid.spacing_mm) < LEVEL_RADIUS_MM else max(grid.spacing_mm)  # never a voxel alone
    rows, shape_rows = (ball_rows(ball(reach_mm, grid.spacing_mm)) for reach_mm in (radius_mm, SHAPE_RADIUS_MM))
    shape_rows[:, 2] = np.minimum(shape_rows[:, 2], 31)  # numerical, down to 0.1 mm columns
    apart = [max(1, int(ROWS_MM / grid.spacing_mm[axis] + 1e-9)) for axis in (2, 1)]
    shape_rows = np.ascontiguousarray(shape_rows[np.all(shape_rows[:, :2] % apart == 0, axis=1)])
    inside = unpacked(solid, grid.columns)
    _levels(grid.hu, inside, shell, rows, shape_rows, grid.spacing_mm, FAT_HU if in_tissue else AIR_HU, every_row, level)
    return level
