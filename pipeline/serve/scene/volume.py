"""The scan for the screen: the region of the device, in fewer voxels; or whole. Its axes are always those of the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchone.pipeline.serve.scene.content import Box, Content
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import FloatArray, HuArray, Scan, Vector, moved_points
from batchone.segment.nifti import nifti_bytes

MARGIN_MM = 30.0  # of scan shown about what is made; project default
MOST_VOXELS = 4_000_000  # of the reduced volume: 8 MB, which a tablet's memory and a hospital's network carry; project default
_STRAIGHT = 1e-4  # numerical: sine by which an axis of the scan may be off the patient's: 0.05 mm over 500 mm
_OUTSIDE_HU = -1024

Whole = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The voxels that a screen shows.

    Attributes
    ----------
    affine
        (4, 4) float64: homogeneous (column, row, slice) index -> LPS mm.
    count
        Voxels along (column, row, slice).
    first, step
        Where they are means of so many of the scan's own along each direction: the first of those. ``step`` is None where the
        scan lies oblique to the patient and is sampled between its voxels: planes of the patient are shown, not of the scanner.
    """

    affine: FloatArray
    count: Whole
    first: Whole
    step: Whole | None

    @property
    def spacing_mm(self) -> Vector:
        """Distance between neighbours along (column, row, slice), mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return (x, y, z)


def shown_grid(scan: Scan, region: Box | None, *, full: bool = False) -> Grid:
    """The grid about a region with a margin, of at most ``MOST_VOXELS`` and as even as whole steps allow; or of the whole scan.

    Parameters
    ----------
    region
        LPS mm; None: the whole scan, reduced.
    full
        The whole scan in its own resolution.
    """
    axes = scan.affine[:3, :3] / np.array(scan.spacing_mm)
    straight = bool((np.sort(np.abs(axes), axis=0)[:2] < _STRAIGHT).all())
    whole = _corners(np.zeros(3), np.array(scan.hu.shape[::-1]) - 1.0)
    box = None if region is None or full else region.grown(MARGIN_MM)
    return _own(scan, box, full) if straight else _turned(scan, moved_points(scan.affine, whole), box, full)


def _own(scan: Scan, box: Box | None, full: bool) -> Grid:
    """Whole steps of the scan's own voxels."""
    size = np.array(scan.hu.shape[::-1])
    low, high = np.zeros(3, dtype=np.int64), size
    if box is not None:
        index = moved_points(np.linalg.inv(scan.affine).astype(np.float64), _corners(box.low_mm, box.high_mm))
        low = np.clip(np.floor(index.min(axis=0)).astype(np.int64), 0, size - 1)
        high = np.clip(np.ceil(index.max(axis=0)).astype(np.int64) + 1, low + 1, size)
    step = np.ones(3, dtype=np.int64) if full else _steps(np.array(scan.spacing_mm), high - low)
    move = np.eye(4)
    move[:3, :3] = np.diag(step)
    move[:3, 3] = low + (step - 1) / 2.0
    return Grid(scan.affine @ move, _whole(np.maximum((high - low) // step, 1)), _whole(low), _whole(step))


def _turned(scan: Scan, corners_mm: FloatArray, box: Box | None, full: bool) -> Grid:
    """A new grid along the patient's axes, as fine as the scan's finest direction allows within the bound."""
    low, high = corners_mm.min(axis=0), corners_mm.max(axis=0)
    if box is not None:
        low, high = np.maximum(low, box.low_mm), np.minimum(high, box.high_mm)
    spacing = np.full(3, min(scan.spacing_mm))
    count = np.floor((high - low) / spacing).astype(np.int64).clip(0) + 1
    step = np.ones(3, dtype=np.int64) if full else _steps(spacing, count)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing * step)
    affine[:3, 3] = low
    return Grid(affine, _whole(np.maximum(count // step, 1)), (0, 0, 0), None)


def _steps(spacing_mm: FloatArray, count: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many voxels to join along each direction: the finest direction first, until they are few enough."""
    step = np.ones(3, dtype=np.int64)
    while int(np.maximum(count // step, 1).prod()) > MOST_VOXELS:
        step[int(np.argmin(spacing_mm * step))] += 1
    return step


def sampled(scan: Scan, grid: Grid) -> HuArray:
    """The (slices, rows, columns) int16 voxels of a grid."""
    if grid.step is None:
        from scipy.ndimage import affine_transform

        to_scan = np.linalg.inv(scan.affine) @ grid.affine
        matrix, offset = to_scan[2::-1, 2::-1], to_scan[2::-1, 3]  # in the order of the array's own axes
        return np.asarray(
            affine_transform(scan.hu, matrix, offset, grid.count[::-1], order=1, mode="constant", cval=_OUTSIDE_HU),
            dtype=np.int16,
        )
    (x, y, z), (nx, ny, nz), (sx, sy, sz) = grid.first, grid.count, grid.step
    block = scan.hu[z : z + nz * sz, y : y + ny * sy, x : x + nx * sx]
    if grid.step == (1, 1, 1):
        return np.ascontiguousarray(block)
    total = np.zeros((nz, ny, nx), dtype=np.int32)
    for k in range(sz):
        for j in range(sy):
            for i in range(sx):
                total += block[k::sz, j::sy, i::sx]
    return np.rint(total / np.float32(sx * sy * sz)).astype(np.int16)


def volume_bytes(case: CaseFolder, full: bool = False) -> bytes:
    """The scan as a gzipped NIfTI (RAS, int16 HU): the region of the device reduced for the screen, or all of it.

    Raises
    ------
    InputError
        The case has no scan yet.
    """
    content = Content(case)
    grid = shown_grid(content.scan, None if full else content.region, full=full)
    return nifti_bytes(sampled(content.scan, grid), grid.affine, about="batchone scan for the screen")


def _corners(low: FloatArray, high: FloatArray) -> FloatArray:
    """The (8, 3) corners of a box."""
    sides = np.stack((low, high))
    return np.array([[sides[i, 0], sides[j, 1], sides[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)


def _whole(values: npt.NDArray[Any]) -> Whole:
    x, y, z = (int(one) for one in values)
    return (x, y, z)
