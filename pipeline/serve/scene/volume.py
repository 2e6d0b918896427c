"""The scan for the screen: the region of the device, in fewer voxels; or whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from batchone.pipeline.serve.scene.content import Box, Content
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import FloatArray, HuArray, Scan, Vector, moved_points
from batchone.segment.nifti import nifti_bytes

MARGIN_MM = 30.0  # of scan shown about what is made; project default
MOST_VOXELS = 4_000_000  # of the reduced volume: 8 MB, which a tablet's memory and a hospital's network carry; project default


@dataclass(frozen=True, slots=True)
class Crop:
    """Which part of a scan is shown: first voxel and number of steps along (column, row, slice); voxels joined in one step."""

    first: tuple[int, int, int]
    count: tuple[int, int, int]
    step: tuple[int, int, int]

    def spacing_mm(self, scan: Scan) -> Vector:
        """Distance of the steps, mm."""
        x, y, z = (mm * step for mm, step in zip(scan.spacing_mm, self.step, strict=True))
        return (x, y, z)


def shown_crop(scan: Scan, region: Box | None) -> Crop:
    """What is shown about a region: with a margin, in at most ``MOST_VOXELS`` voxels, as even as whole steps allow."""
    size = np.array(scan.hu.shape[::-1])
    low, high = np.zeros(3, dtype=np.int64), size
    if region is not None:
        box = region.grown(MARGIN_MM)
        sides = np.stack((box.low_mm, box.high_mm))
        corners = np.array([[sides[i, 0], sides[j, 1], sides[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        index = moved_points(np.linalg.inv(scan.affine).astype(np.float64), corners)
        low = np.clip(np.floor(index.min(axis=0)).astype(np.int64), 0, size - 1)
        high = np.clip(np.ceil(index.max(axis=0)).astype(np.int64) + 1, low + 1, size)
    step = np.ones(3, dtype=np.int64)
    spacing = np.array(scan.spacing_mm)
    while int(((high - low) // step).clip(1).prod()) > MOST_VOXELS:
        step[int(np.argmin(spacing * step))] += 1  # the finest direction first
    count = ((high - low) // step).clip(1)
    return Crop(_whole(low), _whole(count), _whole(step))


def cropped(scan: Scan, crop: Crop) -> tuple[HuArray, FloatArray]:
    """The (slices, rows, columns) int16 voxels of a crop, each the mean of those it joins, and their affine (index -> LPS mm)."""
    (x, y, z), (nx, ny, nz), (sx, sy, sz) = crop.first, crop.count, crop.step
    block = scan.hu[z : z + nz * sz, y : y + ny * sy, x : x + nx * sx]
    if (sx, sy, sz) != (1, 1, 1):
        total = np.zeros((nz, ny, nx), dtype=np.int32)
        for k in range(sz):
            for j in range(sy):
                for i in range(sx):
                    total += block[k::sz, j::sy, i::sx]
        block = np.rint(total / np.float32(sx * sy * sz)).astype(np.int16)
    move = np.eye(4)
    move[:3, :3] = np.diag(crop.step)
    move[:3, 3] = np.array(crop.first) + (np.array(crop.step) - 1) / 2.0
    return np.ascontiguousarray(block), scan.affine @ move


def volume_bytes(case: CaseFolder, full: bool = False) -> bytes:
    """The scan as a gzipped NIfTI (RAS, int16 HU): the region of the device reduced for the screen, or all of it.

    Raises
    ------
    InputError
        The case has no scan yet.
    """
    content = Content(case)
    scan = content.scan
    crop = shown_crop(scan, content.region)
    if full:
        crop = replace(crop, first=(0, 0, 0), count=_whole(np.array(scan.hu.shape[::-1])), step=(1, 1, 1))
    voxels, affine = cropped(scan, crop)
    return nifti_bytes(voxels, affine, about="batchone scan for the screen")


def _whole(values: npt.NDArray[Any]) -> tuple[int, int, int]:
    x, y, z = (int(one) for one in values)
    return (x, y, z)
