"""Labels that come from outside, onto the scan's own grid: turned and laid into place, never resampled."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, moved_points

MAX_OFF_MM = 0.05  # a tenth of a pixel; single-precision headers are within 0.001 mm; project default, unverified


class GridError(ValueError):
    """The labels do not lie on the scan's grid; the text has the numbers."""


def laid_on(
    voxels: npt.NDArray[Any], affine: FloatArray, scan_affine: FloatArray, scan_shape: tuple[int, ...], *, part: bool
) -> npt.NDArray[Any]:
    """Labels on the scan's grid.

    Parameters
    ----------
    voxels, affine
        (slices, rows, columns), and (column, row, slice) index -> LPS mm.
    scan_affine, scan_shape
        The grid to come to.
    part
        The labels may cover a box of the grid only (3 D Slicer crops what it saves); 0 around it.

    Raises
    ------
    GridError
        Another shape, or voxel centres further than ``MAX_OFF_MM`` from the scan's.
    """
    place, inside = placed(voxels, affine, scan_affine, scan_shape, part=part)
    out = np.zeros(scan_shape, dtype=voxels.dtype)
    out[place] = inside
    return out


def placed(
    voxels: npt.NDArray[Any], affine: FloatArray, scan_affine: FloatArray, scan_shape: tuple[int, ...], *, part: bool = True
) -> tuple[tuple[slice, ...], npt.NDArray[Any]]:
    """Where labels lie on the scan's grid, and those of them, turned as the scan is; parameters as of :func:`laid_on`.

    Raises
    ------
    GridError
        As :func:`laid_on`.
    """
    voxels, affine = _turned(voxels, affine, scan_affine)
    first = np.rint(moved_points(np.linalg.inv(scan_affine).astype(np.float64), affine[None, :3, 3])[0]).astype(np.int64)
    if not part:
        first[:] = 0
        if voxels.shape != tuple(scan_shape):
            raise GridError(f"{_size(voxels.shape)} voxels, must be the scan's {_size(scan_shape)}")
    off_mm = _worst_mm(affine, scan_affine, first, voxels.shape)
    if not off_mm <= MAX_OFF_MM:
        raise GridError(
            f"voxels lie up to {off_mm:.3f} mm beside the scan's, at most {MAX_OFF_MM:g} mm"
            f" (spacing {_spacing(affine)} mm, the scan's {_spacing(scan_affine)} mm)"
        )
    low = first[::-1]
    to = [slice(max(a, 0), max(0, min(a + n, size))) for a, n, size in zip(low, voxels.shape, scan_shape, strict=True)]
    from_ = [slice(s.start - a, s.start - a + max(0, s.stop - s.start)) for s, a in zip(to, low, strict=True)]
    inside = voxels[tuple(from_)]
    lost = int(np.count_nonzero(voxels)) - int(np.count_nonzero(inside))
    if lost:
        raise GridError(f"{lost} labelled voxels lie outside the scan, at most 0")
    return tuple(to), inside


def refuse_gaps(positions_mm: FloatArray, normal: FloatArray, scan_affine: FloatArray) -> None:
    """Refuse frames of which none lies beside another: labels of every second slice are no labels of the scan.

    Parameters
    ----------
    positions_mm, normal
        (n, 3) of the frames, LPS mm; (3,) unit, across the frames.
    scan_affine
        (column, row, slice) index -> LPS mm.

    Raises
    ------
    GridError
        Neighbouring frames are further apart than the scan's slices.
    """
    steps_mm = np.linalg.norm(scan_affine[:3, :3], axis=0)
    step_mm = float(steps_mm[np.argmax(np.abs(normal @ (scan_affine[:3, :3] / steps_mm)))])
    gaps_mm = np.diff(np.sort(positions_mm @ normal))
    gaps_mm = gaps_mm[gaps_mm > MAX_OFF_MM]  # frames of several segments lie at one place
    if len(gaps_mm) and float(gaps_mm.min()) > step_mm + 2.0 * MAX_OFF_MM:
        raise GridError(f"frames lie at least {float(gaps_mm.min()):.4g} mm apart, must be the scan's {step_mm:.4g} mm")


def _turned(voxels: npt.NDArray[Any], affine: FloatArray, wanted: FloatArray) -> tuple[npt.NDArray[Any], FloatArray]:
    """The same voxels with their axes in the order and direction nearest to ``wanted``."""
    axes = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-12)
    target = wanted[:3, :3] / np.linalg.norm(wanted[:3, :3], axis=0)
    cosine = target.T @ axes  # [wanted axis, axis of the file]
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosine[k, p[k]]) for k in range(3)))
    voxels = voxels.transpose([2 - order[2 - k] for k in range(3)])
    out = affine.copy()
    out[:3, :3] = affine[:3, list(order)]
    for k in range(3):
        if cosine[k, order[k]] < 0.0:
            out[:3, 3] += out[:3, k] * (voxels.shape[2 - k] - 1)
            out[:3, k] *= -1.0
            voxels = np.flip(voxels, axis=2 - k)
    return voxels, out


def _worst_mm(affine: FloatArray, scan_affine: FloatArray, first: npt.NDArray[np.int64], shape: tuple[int, ...]) -> float:
    """Largest distance of a corner voxel from the scan's voxel that it should be."""
    last = np.array(shape[::-1], dtype=np.float64) - 1.0
    corners = np.array([[i, j, k] for i in (0.0, last[0]) for j in (0.0, last[1]) for k in (0.0, last[2])])
    off = moved_points(affine, corners) - moved_points(scan_affine, corners + first)
    return float(np.linalg.norm(off, axis=1).max())


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape[::-1])


def _spacing(affine: FloatArray) -> str:
    return " x ".join(f"{step:.4g}" for step in np.linalg.norm(affine[:3, :3], axis=0))
