"""How good the cuts between touching bones are: is there a gap to see in the grey values, or was solid bone cut?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import HuArray, Scan
from batchone.segment.label_map import Cut, LabelArray

BESIDE_MM = 3.0  # the cut is compared with the values this far to both sides of it
DENSE_HU = 400.0  # of a value on the cut from which bone was cut; between marrow and cortex

Index = npt.NDArray[np.int64]


def cuts_between(voxels: LabelArray, scan: Scan) -> tuple[Cut, ...]:
    """Figures of every cut between two labels that share faces of voxels, in the order of their values."""
    low, high = _box(voxels)
    part = voxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    hu = scan.hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    spacing = scan.spacing_mm[::-1]  # slices, rows, columns
    found: dict[tuple[int, int], list[npt.NDArray[np.float64]]] = {}
    for axis in range(3):
        ahead = np.moveaxis(part, axis, 0)
        one, other = ahead[:-1], ahead[1:]
        faces = np.argwhere((one != other) & (one > 0) & (other > 0))
        if not len(faces):
            continue
        area = float(np.prod(spacing)) / spacing[axis]
        rows = _values(np.moveaxis(hu, axis, 0), faces, max(1, round(BESIDE_MM / spacing[axis])))
        first, second = one[tuple(faces.T)], other[tuple(faces.T)]
        pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
        for a, b in sorted({(int(a), int(b)) for a, b in pairs}):
            mine = (pairs[:, 0] == a) & (pairs[:, 1] == b)
            found.setdefault((a, b), []).append(np.column_stack([np.full(mine.sum(), area), rows[mine]]))
    return tuple(_cut(a, b, np.concatenate(parts)) for (a, b), parts in sorted(found.items()))


def _cut(first: int, second: int, faces: npt.NDArray[np.float64]) -> Cut:
    area, on, beside = faces.T
    ratio = float(np.average(on, weights=area) / max(np.average(beside, weights=area), 1.0))
    return Cut(first, second, float(area.sum()), ratio, float(area[on > DENSE_HU].sum() / area.sum()))


def _values(hu: HuArray, faces: Index, far: int) -> npt.NDArray[np.float64]:
    """Mean value of the two voxels at each face, and of the two that lie ``far`` voxels to both sides of it."""
    k, rest = faces[:, 0], tuple(faces[:, 1:].T)

    def at(index: Index) -> npt.NDArray[np.float64]:
        return hu[(np.clip(index, 0, len(hu) - 1), *rest)].astype(np.float64)

    return np.column_stack([0.5 * (at(k) + at(k + 1)), 0.5 * (at(k - far) + at(k + 1 + far))])


def _box(voxels: LabelArray) -> tuple[Index, Index]:
    """Half-open index box of everything labelled."""
    slices = np.flatnonzero(voxels.reshape(len(voxels), -1).any(axis=1))
    flat = np.any(voxels[slices[0] : slices[-1] + 1], axis=0)
    rows, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return np.array([slices[0], rows[0], columns[0]]), np.array([slices[-1], rows[-1], columns[-1]]) + 1
