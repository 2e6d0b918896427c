"""How good the cuts between touching bones are: is there a gap to see in the grey values, or was solid bone cut?

A joint space lies between two plates of dense bone with marrow behind them: the value on the cut is held against the brightest
within ``BESIDE_MM`` to both sides, in each bone.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, HuArray, Vector
from batchone.segment.label_map import Cut, LabelArray

BESIDE_MM = 3.0  # beside a cut the plates of a joint are looked for this far; facts of the first trials, as the rest of these
DENSE_HU = 400.0  # of a value on the cut from which bone was cut; between marrow and cortex
POOR_VALLEY_RATIO = 0.75  # facets 0.45 to 0.65, a neck 0.8, one bone 0.95; seen on a thorax and a skull, unverified elsewhere
POOR_DENSE_SHARE = 0.6  # more of the cut through compact bone is a guess; project default, unverified
LEAST_CUT_MM2 = 30.0  # a smaller contact is not judged; project default, unverified

_LABELS = nb.types.Array(nb.uint8, 3, "C", readonly=True)
_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)


@nb.njit(nb.void(_LABELS, _HU, nb.int64[::1], nb.int64, nb.float64[:, :, :, ::1]), cache=True, nogil=True)
def _faces(labels: LabelArray, hu: HuArray, reach: npt.NDArray[np.int64], dense_hu: int, sums: FloatArray) -> None:
    """Per pair of labels and axis: faces, value on them, brightest within ``reach`` beside them, dense faces."""
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                one = labels[z, y, x]
                if one == 0:
                    continue
                for axis in range(3):
                    dz, dy, dx = int(axis == 0), int(axis == 1), int(axis == 2)
                    k, j, i = z + dz, y + dy, x + dx
                    if k >= nz or j >= ny or i >= nx:
                        continue
                    two = labels[k, j, i]
                    if two == 0 or two == one:
                        continue
                    a, b = min(one, two), max(one, two)
                    first, second = hu[z, y, x], hu[k, j, i]
                    value = 0.5 * (first + second)
                    for step in range(1, reach[axis] + 1):
                        k, j, i = z - step * dz, y - step * dy, x - step * dx
                        if k >= 0 and j >= 0 and i >= 0 and labels[k, j, i] == one:
                            first = max(first, hu[k, j, i])
                        k, j, i = z + (step + 1) * dz, y + (step + 1) * dy, x + (step + 1) * dx
                        if k < nz and j < ny and i < nx and labels[k, j, i] == two:
                            second = max(second, hu[k, j, i])
                    sums[a, b, axis, 0] += 1.0
                    sums[a, b, axis, 1] += value
                    sums[a, b, axis, 2] += 0.5 * (first + second)
                    sums[a, b, axis, 3] += value > dense_hu


def cuts_between(voxels: LabelArray, hu: HuArray, spacing_mm: Vector, *, dense_hu: float = DENSE_HU) -> tuple[Cut, ...]:
    """Figures of every cut between two labels that share faces of voxels, in the order of their values.

    Parameters
    ----------
    voxels, hu
        (slices, rows, columns) on one grid.
    spacing_mm
        Along (slice, row, column).
    dense_hu
        A value above this on the cut is dense bone.
    """
    count = int(voxels.max(initial=0)) + 1
    sums = np.zeros((count, count, 3, 4))
    spacing = np.array(spacing_mm)
    reach = np.maximum(np.rint(BESIDE_MM / spacing), 1).astype(np.int64)
    _faces(np.ascontiguousarray(voxels), np.ascontiguousarray(hu), reach, int(dense_hu), sums)
    face_mm2 = spacing.prod() / spacing
    pairs = np.argwhere(sums[:, :, :, 0].sum(axis=2) > 0)
    return tuple(_cut(int(a), int(b), sums[a, b] * face_mm2[:, None]) for a, b in pairs)


def _cut(first: int, second: int, sums: FloatArray) -> Cut:
    """``sums`` (3, 4) per axis: area of its faces, and value on them, brightest beside and dense, times area."""
    area, on, beside, dense = sums.sum(axis=0)
    flat_mm2 = float(np.linalg.norm(sums[:, 0]))  # exact for a plane, however it lies to the voxels
    ratio = float(on / beside) if beside > 0.0 else 1.0
    return Cut(first, second, round(flat_mm2, 1), round(ratio, 3), round(float(dense / area), 3))
