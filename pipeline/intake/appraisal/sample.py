"""The slices that are looked at, and the scan in coarse cells: small enough to be judged as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, HuArray, Vector

MAX_SLICES = 64  # slices read for `inspect`: 32 pairs of neighbours; bounds time and memory; project default
MIN_SLICES = 8  # slices read at least
MAX_VOXELS = MAX_SLICES * 1024 * 1024  # voxels read (134 MB), so that huge slices do not fill the memory; project default
FINE_MM = 2.0  # distance of the voxels taken for the coarse cells; project default
CELL_MM = 4.0  # side of a coarse cell in the slice; thinner than a scalp with its hair never is; project default
MAX_CELL_SLICES = 48  # slices in the coarse volume; project default
FLOOR_HU = -1024  # "nothing was measured", as in Scan

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Whole slices of a series.

    Attributes
    ----------
    hu
        (n, rows, columns) int16 HU, never below -1024.
    index
        Their rising numbers in the series, n of them.
    affine
        (4, 4) (column, row, slice number) -> LPS mm.
    slices
        How many the series has.
    """

    hu: HuArray
    index: tuple[int, ...]
    affine: FloatArray
    slices: int

    @property
    def spacing_mm(self) -> Vector:
        """Distance between neighbours along (column, row, slice), mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))

    def point_mm(self, column: float, row: float, place: float) -> Vector:
        """LPS mm of a voxel; ``place`` counts in the sample."""
        number = float(np.interp(place, np.arange(len(self.index)), self.index))
        point = self.affine[:3, :3] @ np.array([column, row, number]) + self.affine[:3, 3]
        return (float(point[0]), float(point[1]), float(point[2]))

    def spread(self, count: int) -> tuple[int, ...]:
        """At most ``count`` places in the sample, evenly spread, first and last among them."""
        total = len(self.index)
        return tuple(dict.fromkeys(round(float(one)) for one in np.linspace(0, total - 1, min(count, total))))

    @property
    def neighbours(self) -> tuple[int, ...]:
        """Places whose next in the sample is the next slice of the series."""
        return tuple(place for place in range(len(self.index) - 1) if self.index[place + 1] == self.index[place] + 1)


def sample_volume(hu: HuArray, affine: FloatArray) -> Sample:
    """The slices to look at of a volume in memory: the same as would be read of its files."""
    index = sampled_slices(len(hu), hu.shape[1] * hu.shape[2])
    return Sample(hu if len(index) == len(hu) else hu[list(index)], index, affine, len(hu))


def sampled_slices(total: int, pixels: int) -> tuple[int, ...]:
    """The numbers of the slices to read of a series: all, or pairs of neighbours evenly spread.

    ``pixels`` is the size of one slice: of large ones fewer are read.
    """
    most = max(MIN_SLICES, min(MAX_SLICES, MAX_VOXELS // max(1, pixels)))
    if total <= most:
        return tuple(range(total))
    starts = np.rint(np.linspace(0, total - 2, most // 2)).astype(int)
    return tuple(sorted({int(number) for start in starts for number in (start, start + 1)}))


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The scan in coarse cells.

    Attributes
    ----------
    mean_hu, top_hu
        (n, rows, columns) float32 and int16: mean and largest of the voxels looked at in each cell.
    place
        The places of its slices in the sample.
    step_mm
        Side of a cell along (column, row).
    stride
        Voxels of the scan per cell along (column, row).
    """

    mean_hu: npt.NDArray[np.float32]
    top_hu: HuArray
    place: tuple[int, ...]
    step_mm: tuple[float, float]
    stride: tuple[int, int]


def coarse_cells(sample: Sample) -> Cells:
    """Take every voxel about 2 mm apart, two by two."""
    column_mm, row_mm, _ = sample.spacing_mm
    lengths = sample.hu.shape[2], sample.hu.shape[1]
    across, down = (min(max(1, round(FINE_MM / side)), n) for side, n in zip((column_mm, row_mm), lengths, strict=True))
    groups = tuple(
        min(max(1, round(CELL_MM / (step * side))), max(1, n // step))
        for step, side, n in zip((across, down), (column_mm, row_mm), lengths, strict=True)
    )
    place = sample.spread(MAX_CELL_SLICES)
    rows, columns = (
        length // (step * group) for length, step, group in zip(sample.hu.shape[1:], (down, across), groups[::-1], strict=True)
    )
    total = np.zeros((len(place), rows, columns), dtype=np.float32)
    top = np.full(total.shape, FLOOR_HU, dtype=np.int16)
    for one, at in enumerate(place):
        fine = np.ascontiguousarray(sample.hu[at, ::down, ::across][: rows * groups[1], : columns * groups[0]])
        for row in range(groups[1]):
            for column in range(groups[0]):
                part = fine[row :: groups[1], column :: groups[0]]
                total[one] += part
                np.maximum(top[one], part, out=top[one])
    stride = (across * groups[0], down * groups[1])
    return Cells(
        mean_hu=np.asarray(total / (groups[0] * groups[1]), dtype=np.float32),
        top_hu=top,
        place=place,
        step_mm=(stride[0] * column_mm, stride[1] * row_mm),
        stride=stride,
    )


def flooded(seed: BoolArray, allowed: BoolArray, axes: tuple[int, ...]) -> BoolArray:
    """What can be reached from the seed through allowed cells, from cell to cell along the given axes."""
    reached = seed & allowed
    before = -1
    while (now := int(np.count_nonzero(reached))) != before:
        before = now
        for axis in axes:
            cells, open_to = np.moveaxis(reached, axis, 0), np.moveaxis(allowed, axis, 0)
            for one in range(1, len(cells)):
                cells[one] |= cells[one - 1] & open_to[one]
            for one in range(len(cells) - 2, -1, -1):
                cells[one] |= cells[one + 1] & open_to[one]
    return reached


def largest_piece(mask: BoolArray) -> BoolArray:
    """The largest connected piece of a (slices, rows, columns) mask; all False where there is none.

    Pieces are tried from the fullest slice on until no larger one can be left.
    """
    left, best = mask.copy(), np.zeros_like(mask)
    while int(np.count_nonzero(left)) > int(np.count_nonzero(best)):
        seed = np.zeros_like(left)
        fullest = int(np.argmax(left.sum(axis=(1, 2))))
        row, column = np.unravel_index(int(np.argmax(_crowded(left[fullest]))), left.shape[1:])
        seed[fullest, row, column] = True
        piece = flooded(seed, left, (0, 1, 2))
        if int(np.count_nonzero(piece)) > int(np.count_nonzero(best)):
            best = piece
        left &= ~piece
    return best


def _crowded(mask: BoolArray) -> npt.NDArray[np.float64]:
    """How many cells of the same row and column are set, where the mask is set."""
    return np.asarray(mask * (1.0 + mask.sum(axis=0)[None, :] + mask.sum(axis=1)[:, None]))


def border_seed(shape: tuple[int, ...]) -> BoolArray:
    """The cells along the four sides of each slice."""
    seed = np.zeros(shape, dtype=np.bool_)
    seed[:, 0, :] = seed[:, -1, :] = seed[:, :, 0] = seed[:, :, -1] = True
    return seed
