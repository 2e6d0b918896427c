"""A simple CT scanner: a voxel grid in patient space, point-spread blur, partial volume, noise and table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from batchone.pipeline.values import FloatArray, HuArray, Vector

Volume = npt.NDArray[np.float32]
"""(slices, rows, columns) float32, HU before noise and rounding."""

AIR_HU = -1000.0  # HU of air, by definition of the scale
PADDING_HU = -1024  # HU that scanners write where nothing was measured
CEILING_HU = 3071  # HU, the largest value of a 12-bit CT image
BLUR_FWHM_MM = 0.9  # mm, in-plane resolution of a sharp head kernel; project default, unverified
NOISE_HU = 20.0  # HU, one standard deviation in soft tissue at bone-kernel head dose; project default, unverified
NOISE_LENGTH = 0.6  # voxels, correlation of reconstructed noise; project default, unverified
FWHM_PER_SIGMA = 2.354820045  # full width at half maximum of a Gaussian over its standard deviation
TABLE_SHELL_HU = 300.0  # HU, composite table top: above common bone thresholds on purpose
TABLE_FOAM_HU = -870.0  # HU, rigid foam core
TABLE_SHELL_MM = 1.5  # mm
TABLE_DEPTH_MM = 30.0  # mm, outer height of the table top
TABLE_CURVE_MM = 380.0  # mm, radius of the cradle


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The voxels of a scan: ``affine`` (column, row, slice) -> LPS mm, ``shape`` (slices, rows, columns)."""

    affine: FloatArray
    shape: tuple[int, int, int]

    @property
    def spacing_mm(self) -> FloatArray:
        """(3,) distance between neighbours along (column, row, slice), mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def sigma_mm(self, fwhm_mm: float) -> float:
        """Standard deviation of blur and voxel averaging together, mm (a box of width h has variance h^2/12)."""
        return float(np.sqrt((fwhm_mm / FWHM_PER_SIGMA) ** 2 + np.mean(self.spacing_mm**2) / 12.0))

    def directed_sigma_mm(self, fwhm_mm: float, normals: FloatArray) -> FloatArray:
        """(n,) as :meth:`sigma_mm`, along each of the (n, 3) unit LPS directions."""
        spacing_mm = self.spacing_mm
        across = (normals @ (self.affine[:3, :3] / spacing_mm)) ** 2
        return np.asarray(np.sqrt((fwhm_mm / FWHM_PER_SIGMA) ** 2 + across @ (spacing_mm**2 / 12.0)))

    def seen_from(self, pose: FloatArray) -> Grid:
        """The same voxels in the frame of an object that ``pose`` (4, 4) has moved to LPS."""
        return Grid(np.asarray(np.linalg.inv(pose) @ self.affine, dtype=np.float64), self.shape)

    def part(self, box: tuple[slice, slice, slice]) -> Grid:
        """The voxels of an index box (slices, rows, columns)."""
        affine = self.affine.copy()
        affine[:3, 3] += self.affine[:3, :3] @ np.array([one.start for one in reversed(box)], dtype=np.float64)
        k, j, i = (one.stop - one.start for one in box)
        return Grid(affine, (k, j, i))

    def points_mm(self, box: tuple[slice, slice, slice]) -> FloatArray:
        """(n, 3) points of the voxel centres in an index box (slices, rows, columns), in C order."""
        k, j, i = (np.arange(s.start, s.stop, dtype=np.float64)[:, None] for s in box)
        columns, rows, slices = (index * self.affine[:3, n] for n, index in enumerate((i, j, k)))
        points = (slices + self.affine[:3, 3])[:, None, None] + (rows[:, None] + columns[None])[None]
        return np.ascontiguousarray(points.reshape(-1, 3))

    def box(self, low_mm: FloatArray, high_mm: FloatArray, pose: FloatArray) -> tuple[slice, slice, slice]:
        """The index box that covers an axis-aligned box of the object's frame, moved by ``pose``; may be empty."""
        corners = np.array(np.meshgrid(*zip(low_mm, high_mm, strict=True))).reshape(3, -1).T
        moved = corners @ pose[:3, :3].T + pose[:3, 3]
        index = (moved - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        last = np.array(self.shape[::-1])
        first = np.clip(np.floor(index.min(axis=0)), 0, last).astype(int)
        stop = np.clip(np.ceil(index.max(axis=0)) + 1, 0, last).astype(int)
        i, j, k = (slice(int(a), int(max(a, b))) for a, b in zip(first, stop, strict=True))
        return k, j, i


def scan_grid(shape: tuple[int, int, int], spacing_mm: Vector, centre_mm: Vector) -> Grid:
    """An untilted grid along LPS whose centre is ``centre_mm``.

    Parameters
    ----------
    shape
        (slices, rows, columns).
    spacing_mm
        Distances in the same order: (slice, row, column), mm.
    """
    step = np.array(spacing_mm[::-1], dtype=np.float64)
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = np.array(centre_mm) - step * (np.array(shape[::-1]) - 1) / 2.0
    return Grid(affine, shape)


def share(distance_mm: FloatArray, sigma_mm: float | FloatArray) -> FloatArray:
    """Share of a blurred voxel that lies inside a surface, from its signed distance (negative inside)."""
    return np.asarray(ndtr(-distance_mm / sigma_mm))


def paint_table(volume: Volume, grid: Grid, *, top_mm: float, fwhm_mm: float) -> None:
    """Draw a curved table top whose lowest point is at y = ``top_mm`` (LPS, back of the patient) into ``volume``."""
    sigma_mm = grid.sigma_mm(fwhm_mm)
    half_mm = 0.5 * TABLE_DEPTH_MM
    reach = grid.box(np.array([-1e4, top_mm - 40.0, -1e4]), np.array([1e4, top_mm + TABLE_DEPTH_MM + 5.0, 1e4]), np.eye(4))
    for k in range(reach[0].start, reach[0].stop):
        box = (slice(k, k + 1), reach[1], reach[2])
        points = grid.points_mm(box)
        sheet_mm = points[:, 1] - (top_mm + half_mm - points[:, 0] ** 2 / (2.0 * TABLE_CURVE_MM))
        outside_mm = np.abs(sheet_mm) - half_mm
        target = volume[box]
        shell, foam = share(outside_mm, sigma_mm), share(outside_mm + TABLE_SHELL_MM, sigma_mm)
        target += (
            (shell * (TABLE_SHELL_HU - AIR_HU) + foam * (TABLE_FOAM_HU - TABLE_SHELL_HU)).reshape(target.shape).astype(np.float32)
        )


def noise_field(shape: tuple[int, int, int], rng: np.random.Generator) -> Volume:
    """Correlated Gaussian noise of unit standard deviation, (slices, rows, columns)."""
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = gaussian_filter(white, (0.0, NOISE_LENGTH, NOISE_LENGTH), mode="wrap")
    return np.asarray(smooth / np.float32(smooth.std(dtype=np.float64)))


def exposed(volume: Volume, *, noise_hu: float, rng: np.random.Generator) -> HuArray:
    """Add noise and round to whole HU within the range a scanner writes."""
    noisy = volume + np.float32(noise_hu) * noise_field(volume.shape, rng)
    return np.clip(np.rint(noisy), PADDING_HU, CEILING_HU).astype(np.int16)
