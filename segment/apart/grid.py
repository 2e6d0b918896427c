"""The work volume: the body on an isotropic grid along the patient's axes, and the way back to the scan's own grid.

Everything in this folder is measured on it. Its axes are (slice, row, column) = (towards the head, towards the back, towards
the patient's left), whatever the order in which the scan was stored. Points are (n, 3) mm along these axes from the centre
of the first voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, HuArray, Scan, moved_points
from batchone.segment.apart.table import FINER_SHARE, WORK_MM, WORK_SHARE

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_LABELS = nb.types.Array(nb.uint8, 3, "C", readonly=True)
_TABLE = nb.types.Array(nb.float64, 2, "C", readonly=True)
_SOME = nb.types.Array(nb.boolean, 2, "C", readonly=True)
OUTSIDE_HU = -1024


@nb.njit(nb.float64(_HU, nb.float64, nb.float64, nb.float64, nb.float64), cache=True, nogil=True)
def value_between(hu: HuArray, z: float, y: float, x: float, outside: float) -> float:
    """Trilinear value at a fractional index; ``outside`` beyond the volume (half a voxel of grace)."""
    nz, ny, nx = hu.shape
    if z < -0.5 or y < -0.5 or x < -0.5 or z > nz - 0.5 or y > ny - 0.5 or x > nx - 0.5:
        return outside
    z, y, x = min(max(z, 0.0), nz - 1.0), min(max(y, 0.0), ny - 1.0), min(max(x, 0.0), nx - 1.0)
    i, j, k = int(z), int(y), int(x)
    a, b, c = min(i + 1, nz - 1), min(j + 1, ny - 1), min(k + 1, nx - 1)
    fz, fy, fx = z - i, y - j, x - k
    low = (hu[i, j, k] * (1 - fx) + hu[i, j, c] * fx) * (1 - fy) + (hu[i, b, k] * (1 - fx) + hu[i, b, c] * fx) * fy
    high = (hu[a, j, k] * (1 - fx) + hu[a, j, c] * fx) * (1 - fy) + (hu[a, b, k] * (1 - fx) + hu[a, b, c] * fx) * fy
    return low * (1 - fz) + high * fz


@nb.njit(nb.float64(_TABLE, nb.int64, nb.float64, nb.float64, nb.float64), inline="always")
def _place(to_index: FloatArray, axis: int, i: float, j: float, k: float) -> float:
    """Index along an axis of the place (i, j, k) of another grid."""
    return to_index[axis, 0] * i + to_index[axis, 1] * j + to_index[axis, 2] * k + to_index[axis, 3]


@nb.njit(nb.boolean(_TABLE), inline="always")
def _straight(to_index: FloatArray) -> bool:
    """Whether rows of the one grid run along rows of the other, and begin at the same column."""
    return to_index[0, 2] == 0.0 and to_index[1, 2] == 0.0 and to_index[2, 0] == 0.0 and to_index[2, 1] == 0.0


@nb.njit(nb.void(_HU, _TABLE, nb.int64, nb.int64, nb.int64, nb.float64[::1]), cache=True, nogil=True)
def _add_row(hu: HuArray, to_index: FloatArray, i: int, j: int, fold: int, total: FloatArray) -> None:
    """Add to ``total``, one a column, the values at ``fold`` cubed places of each voxel of a row."""
    for a in range(fold):
        for b in range(fold):
            p, q = i + (a + 0.5) / fold - 0.5, j + (b + 0.5) / fold - 0.5
            for k in range(total.shape[0]):
                for c in range(fold):
                    r = k + (c + 0.5) / fold - 0.5
                    z, y, x = _place(to_index, 0, p, q, r), _place(to_index, 1, p, q, r), _place(to_index, 2, p, q, r)
                    total[k] += value_between(hu, z, y, x, OUTSIDE_HU)


@nb.njit(nb.void(_TABLE, nb.int64, nb.int64, nb.int64[:, ::1], nb.float64[:, ::1]), cache=True, nogil=True)
def _column_shares(to_index: FloatArray, fold: int, size: int, columns: Int64Array, shares: FloatArray) -> None:
    """The scan's columns between which the ``fold`` places of each voxel of a row lie, and the share of each in their mean.

    The last share is that of the places beyond the scan."""
    for k in range(columns.shape[0]):
        for c in range(fold):
            x = _place(to_index, 2, 0.0, 0.0, k + (c + 0.5) / fold - 0.5)
            if x < -0.5 or x > size - 0.5:
                shares[k, 2 * fold] += 1.0 / fold
                continue
            x = min(max(x, 0.0), size - 1.0)
            columns[k, 2 * c], columns[k, 2 * c + 1] = int(x), min(int(x) + 1, size - 1)
            shares[k, 2 * c], shares[k, 2 * c + 1] = (1.0 - (x - int(x))) / fold, (x - int(x)) / fold


@nb.njit(
    nb.float64(_HU, _TABLE, nb.int64, nb.int64, nb.int64, nb.int64, nb.int64, nb.float64[:, ::1], nb.float64[::1]),
    cache=True,
    nogil=True,
)
def _mean_row(
    hu: HuArray, to_index: FloatArray, i: int, j: int, fold: int, first: int, last: int, rows: FloatArray, out: FloatArray
) -> float:
    """Fill ``out`` from column ``first`` to before ``last`` with the mean over the ``fold`` squared lines of a row, which runs
    along one of the scan; returns the share of lines that are within the scan. ``rows`` (4 * fold ** 2, 3) is room to work."""
    nz, ny = hu.shape[0], hu.shape[1]
    count, within = 0, 0.0
    for a in range(fold):
        for b in range(fold):
            p, q = i + (a + 0.5) / fold - 0.5, j + (b + 0.5) / fold - 0.5
            z, y = _place(to_index, 0, p, q, 0.0), _place(to_index, 1, p, q, 0.0)
            if z < -0.5 or y < -0.5 or z > nz - 0.5 or y > ny - 0.5:
                continue
            within += 1.0 / fold**2
            z, y = min(max(z, 0.0), nz - 1.0), min(max(y, 0.0), ny - 1.0)
            for corner in range(4):
                u, v = min(int(z) + (corner >> 1), nz - 1), min(int(y) + (corner & 1), ny - 1)
                share = z - int(z) if corner >> 1 else 1.0 - (z - int(z))
                share *= (y - int(y) if corner & 1 else 1.0 - (y - int(y))) / fold**2
                n = 0
                while n < count and (rows[n, 0] != u or rows[n, 1] != v):
                    n += 1
                if n == count:
                    rows[n, 0], rows[n, 1], rows[n, 2] = u, v, 0.0
                    count += 1
                rows[n, 2] += share
    part = out[first:last]
    part[:] = OUTSIDE_HU * (1.0 - within)
    for n in range(count):
        line, share = hu[int(rows[n, 0]), int(rows[n, 1]), first:last], rows[n, 2]
        for x in range(part.shape[0]):
            part[x] += share * line[x]
    return within


@nb.njit(nb.void(_HU, _TABLE, nb.int64, nb.int16[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _resample(hu: HuArray, to_index: FloatArray, fold: int, out: HuArray) -> None:
    """Fill ``out`` from ``hu``; ``to_index`` (3, 4) takes (slice, row, column) of ``out`` to those of ``hu``.

    Each voxel is the mean of ``fold`` cubed places in it, so that a finer scan is averaged and not merely picked from.
    """
    straight = _straight(to_index)
    columns, shares = np.zeros((out.shape[2], 2 * fold), dtype=np.int64), np.zeros((out.shape[2], 2 * fold + 1))
    if straight:
        _column_shares(to_index, fold, hu.shape[2], columns, shares)
    first, last = columns.min(), columns.max() + 1
    for i in nb.prange(out.shape[0]):
        total, mean, rows = np.empty(out.shape[2]), np.empty(hu.shape[2]), np.empty((4 * fold**2, 3))
        for j in range(out.shape[1]):
            if straight:
                if _mean_row(hu, to_index, i, j, fold, first, last, rows, mean) == 0.0:
                    out[i, j] = OUTSIDE_HU
                    continue
                for k in range(out.shape[2]):
                    total[k] = shares[k, 2 * fold] * OUTSIDE_HU
                    for c in range(2 * fold):
                        total[k] += shares[k, c] * mean[columns[k, c]]
            else:
                total[:] = 0.0
                _add_row(hu, to_index, i, j, fold, total)
                total /= fold**3
            for k in range(out.shape[2]):
                out[i, j, k] = int(np.floor(total[k] + 0.5))


@nb.njit(nb.int64(_TABLE, nb.int64, nb.int64, nb.int64, nb.int64, nb.int64), inline="always")
def _nearest(to_index: FloatArray, axis: int, i: int, j: int, k: int, size: int) -> int:
    """Index of the nearest voxel along an axis, -1 outside of its ``size`` voxels."""
    index = int(np.floor(_place(to_index, axis, i, j, k) + 0.5))
    return index if 0 <= index < size else -1


@nb.njit(nb.void(nb.types.UniTuple(nb.int64, 3), _TABLE, nb.boolean[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _within(shape: tuple[int, int, int], to_index: FloatArray, out: BoolArray) -> None:
    """Which voxels of ``out`` have their nearest one within another grid's shape."""
    for i in nb.prange(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                inside = True
                for axis in range(3):
                    inside &= _nearest(to_index, axis, i, j, k, shape[axis]) >= 0
                out[i, j, k] = inside


@nb.njit(nb.void(_LABELS, _TABLE, nb.uint8[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _pick(labels: LabelArray, to_index: FloatArray, out: LabelArray) -> None:
    """Fill ``out`` with the label of the nearest voxel, 0 outside."""
    for i in nb.prange(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                z = _nearest(to_index, 0, i, j, k, labels.shape[0])
                y = _nearest(to_index, 1, i, j, k, labels.shape[1])
                x = _nearest(to_index, 2, i, j, k, labels.shape[2])
                out[i, j, k] = labels[z, y, x] if z >= 0 and y >= 0 and x >= 0 else 0


@nb.njit(nb.void(_LABELS, _LABELS, _SOME, _TABLE, _HU, nb.int64, nb.uint8[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _decide(
    labels: LabelArray, core: LabelArray, some: BoolArray, to_index: FloatArray, hu: HuArray, level_hu: int, out: LabelArray
) -> None:
    """Fill ``out`` with the nearest voxel's label, up to ``level_hu`` with that in ``core``, which has none elsewhere.
    ``some``: rows with a label."""
    straight = _straight(to_index)
    columns = np.empty(out.shape[2] if straight else 0, dtype=np.int64)
    first, last = len(columns), 0  # the columns that have one
    for k in range(len(columns)):
        columns[k] = _nearest(to_index, 2, 0, 0, k, labels.shape[2])
        if columns[k] >= 0:
            first, last = min(first, k), k + 1
    for i in nb.prange(out.shape[0]):
        own, deep = np.zeros(len(columns), dtype=np.uint8), np.zeros(len(columns), dtype=np.uint8)
        for j in range(out.shape[1]):
            if straight:
                z, y = _nearest(to_index, 0, i, j, 0, labels.shape[0]), _nearest(to_index, 1, i, j, 0, labels.shape[1])
                if z < 0 or y < 0 or not some[z, y]:
                    out[i, j] = 0
                    continue
                for k in range(first, last):
                    own[k], deep[k] = labels[z, y, columns[k]], core[z, y, columns[k]]
                for k in range(out.shape[2]):
                    out[i, j, k] = own[k] if hu[i, j, k] > level_hu else deep[k]
                continue
            for k in range(out.shape[2]):
                z = _nearest(to_index, 0, i, j, k, labels.shape[0])
                y = _nearest(to_index, 1, i, j, k, labels.shape[1])
                x = _nearest(to_index, 2, i, j, k, labels.shape[2])
                value = labels[z, y, x] if z >= 0 and y >= 0 and x >= 0 else nb.uint8(0)
                if value != 0 and hu[i, j, k] <= level_hu:
                    value = core[z, y, x]
                out[i, j, k] = value


@dataclass(frozen=True, slots=True, eq=False)
class WorkVolume:
    """The body on the work grid.

    Attributes
    ----------
    hu
        (slices, rows, columns) int16 along (head, back, left), -1024 outside the scan.
    step_mm
        Distance of neighbours along every axis.
    affine
        (4, 4) (column, row, slice) index -> LPS mm.
    coarse_mm
        The scan's largest spacing: how far partial volume reaches.
    inside
        (slices, rows, columns) bool: within the scan's field of view.
    """

    hu: HuArray
    step_mm: float
    affine: FloatArray
    coarse_mm: float
    inside: BoolArray

    def lps(self, points_mm: FloatArray) -> FloatArray:
        """(n, 3) points of the work grid, mm, as LPS mm."""
        return moved_points(self.affine, np.asarray(points_mm, dtype=np.float64)[:, ::-1] / self.step_mm)


def work_step_mm(scan: Scan) -> float:
    """How fine the work grid is: 1 mm, or half the spacing of a coarser scan, so that a cut can run between its voxels."""
    return max(WORK_MM, WORK_SHARE * max(scan.spacing_mm))


def work_volume(scan: Scan, box_mm: FloatArray, step_mm: float) -> WorkVolume:
    """Resample a box of a scan.

    Parameters
    ----------
    scan
        A true volume.
    box_mm
        (2, 3) LPS mm, lowest and highest corner.
    step_mm
        Distance of neighbours.
    """
    step = step_mm
    shape = np.maximum(np.ceil((box_mm[1] - box_mm[0]) / step).astype(np.int64) + 1, 1)[::-1]
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = box_mm[0]
    to_index = _index_map(affine, scan.affine)
    fold = 2 if min(scan.spacing_mm) < FINER_SHARE * step <= FINER_SHARE * WORK_MM else 1
    out = np.empty((int(shape[0]), int(shape[1]), int(shape[2])), dtype=np.int16)
    _resample(np.ascontiguousarray(scan.hu), to_index, fold, out)
    inside = np.empty(out.shape, dtype=np.bool_)
    _within((scan.hu.shape[0], scan.hu.shape[1], scan.hu.shape[2]), to_index, inside)
    return WorkVolume(out, step, affine, max(scan.spacing_mm), inside)


def labels_on_scan(labels: LabelArray, core: LabelArray, volume: WorkVolume, scan: Scan, level_hu: float) -> LabelArray:
    """Labels of the work grid on the scan's grid: each voxel takes the label of the nearest work voxel.

    A voxel whose value is not above ``level_hu`` takes the one that the work voxel has in ``core``.
    """
    out = np.empty(scan.hu.shape, dtype=np.uint8)
    to_index = _index_map(scan.affine, volume.affine)
    _decide(labels, core, labels.any(axis=2), to_index, np.ascontiguousarray(scan.hu), int(level_hu), out)
    return out


def on_work(labels: LabelArray, scan: Scan, volume: WorkVolume) -> LabelArray:
    """Labels of the scan's grid on the work grid, nearest voxel."""
    out = np.empty(volume.hu.shape, dtype=np.uint8)
    _pick(np.ascontiguousarray(labels), _index_map(volume.affine, scan.affine), out)
    return out


def _index_map(source: FloatArray, target: FloatArray) -> FloatArray:
    """(3, 4): (slice, row, column) of ``source``'s grid to those of ``target``'s."""
    both = np.linalg.inv(target) @ source
    turned = np.empty((3, 4))
    turned[:, :3] = both[2::-1, 2::-1]
    turned[:, 3] = both[2::-1, 3]
    return np.ascontiguousarray(turned)
