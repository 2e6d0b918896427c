"""How likely a screw leaves its pedicle, by class (Gertzbein and Robbins 1990) and by wall."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from batchone.design.contact.field import lattice_over, signed_distance_mm
from batchone.pipeline.values import FloatArray, Mesh

CLASSES = ("A", "B", "C", "D", "E")
CLASS_MM = (0.0, 2.0, 4.0, 6.0)  # upper ends of A to D: Gertzbein & Robbins 1990
WALLS = ("medial", "lateral", "upper", "lower", "front")
_STEP_MM = 0.6  # numerical: grid of the bone about the ways
_SPACING_MM = 0.5  # numerical: places along a way
_PAD_MM = 3.0  # numerical
_BAD = 0.95  # quantile of the screw that says where a way is worst


@dataclass(frozen=True, slots=True)
class Breach:
    """Probability of each class, and of a breach through each wall (where the screw is furthest out).

    ``along_mm``: how far along its way the screw is furthest out than which a twentieth are worse.
    """

    classes: tuple[tuple[str, float], ...]
    walls: tuple[tuple[str, float], ...]
    along_mm: float

    def at_least(self, name: str) -> float:
        """Probability of a class or a worse one."""
        return sum(share for one, share in self.classes if one >= name)


def breach(
    bone: Mesh,
    entries_mm: FloatArray,
    directions: FloatArray,
    *,
    radius_mm: float,
    from_mm: float,
    to_mm: float,
    left: bool,
    wall_errors_mm: FloatArray,
) -> Breach:
    """Measure screws (n) against the bone, all in the vertebra's own frame (x to the left, y to the back, z up).

    Places along each from ``from_mm``, behind which it lies in the cortex that it enters through, to ``to_mm``;
    ``wall_errors_mm`` (n,): how much further out the bone is than it looks.
    """
    ends = np.concatenate([entries_mm + along * directions for along in (from_mm, to_mm)])
    lattice = lattice_over(ends.min(axis=0) - _PAD_MM, ends.max(axis=0) + _PAD_MM, _STEP_MM)
    grid = signed_distance_mm(bone, lattice, level_mm=-radius_mm)
    steps = np.arange(from_mm, to_mm + 1e-9, _SPACING_MM)
    out, slope, place = np.empty(len(entries_mm)), np.empty((len(entries_mm), 3)), np.empty(len(entries_mm))
    _furthest_out(
        grid,
        lattice.origin_mm,
        lattice.step_mm,
        np.ascontiguousarray(entries_mm),
        np.ascontiguousarray(directions),
        steps,
        out,
        slope,
        place,
    )
    beyond = out + radius_mm - wall_errors_mm
    grade = np.searchsorted(CLASS_MM, beyond)
    inward = slope[:, 0] * (-1.0 if left else 1.0)
    parts = np.column_stack([inward, -inward, slope[:, 2], -slope[:, 2], np.abs(slope[:, 1])])
    wall = np.where(beyond > 0.0, np.argmax(parts, axis=1), -1)
    classes = tuple((name, float((grade == k).mean())) for k, name in enumerate(CLASSES))
    bad = int(np.argsort(beyond, kind="stable")[int(_BAD * (len(beyond) - 1))])
    walls = tuple((name, float((wall == k).mean())) for k, name in enumerate(WALLS))
    return Breach(classes, walls, float(place[bad]))


@numba.njit(
    numba.void(
        numba.types.Array(numba.float32, 3, "C"), numba.float64[::1], numba.float64, numba.float64[:, ::1], numba.float64[:, ::1],
        numba.float64[::1], numba.float64[::1], numba.float64[:, ::1], numba.float64[::1],
    ),
    cache=True, parallel=True,
)  # fmt: skip
def _furthest_out(grid, origin, step, entries, directions, along, out, slope, place):  # type: ignore[no-untyped-def]
    """Largest distance out of the bone along each way, the slope of the distances there, and how far along that is."""
    for n in numba.prange(entries.shape[0]):
        best = -np.inf
        for s in range(along.shape[0]):
            u = (entries[n, 0] + along[s] * directions[n, 0] - origin[0]) / step
            v = (entries[n, 1] + along[s] * directions[n, 1] - origin[1]) / step
            w = (entries[n, 2] + along[s] * directions[n, 2] - origin[2]) / step
            i = min(max(int(u), 0), grid.shape[0] - 2)
            j = min(max(int(v), 0), grid.shape[1] - 2)
            k = min(max(int(w), 0), grid.shape[2] - 2)
            u, v, w = u - i, v - j, w - k
            a = (grid[i, j, k] * (1 - w) + grid[i, j, k + 1] * w) * (1 - v)
            a += (grid[i, j + 1, k] * (1 - w) + grid[i, j + 1, k + 1] * w) * v
            b = (grid[i + 1, j, k] * (1 - w) + grid[i + 1, j, k + 1] * w) * (1 - v)
            b += (grid[i + 1, j + 1, k] * (1 - w) + grid[i + 1, j + 1, k + 1] * w) * v
            value = a * (1 - u) + b * u
            if value > best:
                best, place[n] = value, along[s]
                slope[n, 0] = b - a
                slope[n, 1] = grid[i, j + 1, k] - grid[i, j, k] + grid[i + 1, j + 1, k + 1] - grid[i + 1, j, k + 1]
                slope[n, 2] = grid[i, j, k + 1] - grid[i, j, k] + grid[i + 1, j + 1, k + 1] - grid[i + 1, j + 1, k]
        out[n] = best
