"""Bone apart from air, soft tissue and metal: the scan's own figures, the threshold, and the filling of enclosed cavities.

One set of constants serves a plastic skull in air and a patient: the threshold follows the soft tissue and the noise of the
scan and only has to say *where there is bone*; where its surface runs is decided later from the grey values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, HuArray, Vector
from batchone.segment.bits import Words, ball, closed, counted, dilated, inverted, moved, packed_above, put, unpacked
from batchone.segment.runs import labelled

SOFT_RANGE_HU = (-20, 120)  # muscle, brain, blood, water; textbook CT numbers
SOFT_DEFAULT_HU = 40.0  # muscle; used when the scan holds no soft tissue
MIN_SOFT_SHARE = 0.005  # of the voxels: less is the partial volume of an edge, not tissue
CONTRAST_HU = 150.0  # bone is at least this far above soft tissue; project default, unverified
NOISE_FACTOR = 4.0  # 1 in 30 000 soft voxels is that far above its mean, if the noise is Gaussian
THRESHOLD_RANGE_HU = (180.0, 300.0)  # low: thin bone survives; high: common 226 to 300 HU presets; project default, unverified
METAL_HU = 2500  # enamel ends at about 2500 HU; implants and clips start there
OUTSIDE_HU = -1024  # where the scan says nothing: air
AIR_HU = -400  # half between air and fat-free tissue
SEAL_RADII_MM = (0.0, 1.0, 2.0)  # leaks of the cortex up to twice this wide are sealed before a cavity is looked for
MAX_CAVITY_MM3 = 100e3  # marrow of a long bone's end is below it, a cranial cavity (1.2 to 1.7 l) far above; project default
MAX_SEALED_AIR_MM3 = 1e3  # larger air behind a leak is a sinus with its opening, not a pore; project default, unverified
MIN_ISLAND_MM3 = 100.0  # the surface keeps pieces from this size on: the chosen pieces are 20 times larger
MAX_SAMPLES = 8_000_000  # voxels looked at for the figures of the scan
_MIN_PAIRS = 10_000  # neighbours needed for a noise estimate
_EDGE_HU = 300  # neighbours that differ by so much lie at an edge: not noise
_NOISE_FLOOR_HU = 3.0  # quantisation and interpolation hide less

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)


@dataclass(frozen=True, slots=True)
class ScanFigures:
    """Figures measured in the scan, HU: typical soft tissue, its noise (one standard deviation), and the bone threshold."""

    soft_hu: float
    noise_hu: float
    threshold_hu: float


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A box of the scan with a margin of air.

    Attributes
    ----------
    hu
        (slices, rows, columns) int16, -1024 outside the scan.
    affine
        (4, 4) (column, row, slice) index of this box -> LPS mm.
    spacing_mm
        Along (column, row, slice).
    first
        Scan index (slice, row, column) of this box's first voxel; negative in the margin.
    inside
        (3, 2) half-open index box of the scan within this box, along (slice, row, column).
    """

    hu: HuArray
    affine: FloatArray
    spacing_mm: Vector
    first: tuple[int, int, int]
    inside: npt.NDArray[np.int64]

    @property
    def columns(self) -> int:
        """Voxels along the last axis."""
        return int(self.hu.shape[2])

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm))


@nb.njit(nb.void(_HU, nb.int64, nb.int64, nb.int64[::1]), cache=True, nogil=True)
def _count_values(hu: HuArray, first: int, stride: int, counts: npt.NDArray[np.int64]) -> None:
    """Number of voxels of each value, from -32768 on, in every ``stride``-th slice."""
    for z in range(first, hu.shape[0], stride):
        for y in range(hu.shape[1]):
            for x in range(hu.shape[2]):
                counts[nb.int64(hu[z, y, x]) + 32768] += 1


@nb.njit(nb.void(_HU, nb.int64, nb.int64, nb.float64, nb.float64, nb.int64[::1]), cache=True, nogil=True)
def _count_steps(hu: HuArray, first: int, stride: int, low_hu: float, high_hu: float, counts: npt.NDArray[np.int64]) -> None:
    """Number of voxels two columns apart, both between two values, by how much they differ; larger differences do not count."""
    for z in range(first, hu.shape[0], stride):
        for y in range(hu.shape[1]):
            for x in range(hu.shape[2] - 2):
                near, far = nb.int64(hu[z, y, x]), nb.int64(hu[z, y, x + 2])
                if near > low_hu and near < high_hu and far > low_hu and far < high_hu and abs(far - near) < counts.shape[0]:
                    counts[abs(far - near)] += 1


def scan_figures(hu: HuArray) -> ScanFigures:
    """Measure soft tissue, noise and the bone threshold.

    The noise is the robust spread of differences between voxels two columns apart, both in soft tissue (or, in a scan
    without any, both in the same solid), so that edges do not count.
    """
    hu = np.ascontiguousarray(hu)
    stride = max(1, -(-hu.size // MAX_SAMPLES))
    counts = np.zeros(65536, dtype=np.int64)
    _count_values(hu, stride // 2, stride, counts)
    least, most = (edge + 32768 for edge in SOFT_RANGE_HU)
    soft = counts[least + 1 : most]
    has_soft = int(soft.sum()) >= MIN_SOFT_SHARE * int(counts.sum())
    soft_hu = _median(soft) + SOFT_RANGE_HU[0] + 1 if has_soft and soft.any() else SOFT_DEFAULT_HU
    noise_hu = _noise_hu(hu, stride, soft_hu - 150.0, soft_hu + 150.0) if has_soft else 0.0
    noise_hu = noise_hu or _noise_hu(hu, stride, 200.0, float(METAL_HU)) or _NOISE_FLOOR_HU
    level = soft_hu + max(CONTRAST_HU, NOISE_FACTOR * noise_hu)
    return ScanFigures(soft_hu, noise_hu, float(np.clip(level, *THRESHOLD_RANGE_HU)))


def _noise_hu(hu: HuArray, stride: int, low_hu: float, high_hu: float) -> float:
    counts = np.zeros(_EDGE_HU, dtype=np.int64)
    _count_steps(hu, stride // 2, stride, low_hu, high_hu, counts)
    if int(counts.sum()) < _MIN_PAIRS:
        return 0.0
    return max(1.4826 * _median(counts) / float(np.sqrt(2.0)), _NOISE_FLOOR_HU)


def _median(counts: npt.NDArray[np.int64]) -> float:
    """Median of whole numbers from 0 on, given how often each occurs."""
    ends = np.cumsum(counts)
    lower, upper = np.searchsorted(ends, [(int(ends[-1]) - 1) // 2, int(ends[-1]) // 2], side="right")
    return 0.5 * float(lower + upper)


def cropped(hu: HuArray, affine: FloatArray, box: npt.NDArray[np.int64], margin_mm: float = 3.0) -> Grid:
    """Cut a half-open index box (3, 2) along (slice, row, column) out of a scan, with a margin on all sides."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    margin = np.ceil(margin_mm / spacing[::-1]).astype(np.int64) + 2
    low, high = box[:, 0] - margin, box[:, 1] + margin
    shape = np.array(hu.shape)
    from_, to = np.maximum(low, 0), np.minimum(high, shape)
    out = np.empty(tuple(high - low), dtype=np.int16)
    inside = np.stack([from_ - low, to - low], axis=1)
    out[tuple(slice(*pair) for pair in inside)] = hu[tuple(slice(a, b) for a, b in zip(from_, to, strict=True))]
    for axis, (first, last) in enumerate(inside):
        margins = np.moveaxis(out, axis, 0)
        margins[:first], margins[last:] = OUTSIDE_HU, OUTSIDE_HU
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ low[::-1].astype(np.float64)
    steps = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    return Grid(out, moved, steps, (int(low[0]), int(low[1]), int(low[2])), inside)


def packed_box(words: Words, grid: Grid) -> Words:
    """The part of a packed whole-scan mask that lies on ``grid``, packed anew."""
    return moved(words, grid.first, grid.hu.shape)


def filled(bone: Words, grid: Grid) -> Words:
    """Fill marrow, diploe and pores: cavities that no path leads out of once leaks of the cortex are sealed.

    Spaces that open to the outside stay open (orbits, foramina, a defect, a saw cut), and so does the cranial cavity, which
    is larger than ``MAX_CAVITY_MM3``. A cavity that the end of the scan cuts open is closed there by a lid.
    """
    solid = bone.copy()
    shell = bone | _lids(bone, grid)
    for radius_mm in SEAL_RADII_MM:
        sealed = closed(shell, grid.columns, ball(radius_mm, grid.spacing_mm)) if radius_mm else shell
        cavity = _cavities(sealed, grid, leaky=radius_mm > 0.0)
        cavity = _grown(cavity, sealed & ~shell, grid, radius_mm)
        solid |= cavity
        shell |= cavity
    return solid


def _cavities(sealed: Words, grid: Grid, *, leaky: bool) -> Words:
    """The components of the complement that do not reach the box's side and are small enough."""
    runs = labelled(inverted(sealed, grid.columns), grid.columns)
    voxels, boxes = runs.measured()
    volume = voxels * grid.voxel_mm3
    keep = volume <= MAX_CAVITY_MM3
    keep &= np.all((boxes[:, :, 0] > 0) & (boxes[:, :, 1] < np.array(grid.hu.shape)), axis=1)
    if leaky:
        for component in np.flatnonzero(keep & (volume > MAX_SEALED_AIR_MM3)):
            box = boxes[component]
            size = tuple(int(n) for n in box[:, 1] - box[:, 0])
            whole = runs.painted(np.arange(runs.count) == component)
            alone = unpacked(moved(whole, (int(box[0, 0]), int(box[1, 0]), int(box[2, 0])), size), size[2])
            keep[component] = float(np.median(grid.hu[tuple(slice(a, b) for a, b in box)][alone])) > AIR_HU
    return runs.painted(keep)


def _grown(cavity: Words, free: Words, grid: Grid, radius_mm: float) -> Words:
    """Give a cavity back the rim that sealing took: grow through free voxels for the sealing radius."""
    step = ball(max(grid.spacing_mm), grid.spacing_mm)
    for _ in range(int(np.ceil(radius_mm / max(grid.spacing_mm)))):
        cavity = cavity | (dilated(cavity, grid.columns, step) & free)
    return cavity


def _lids(bone: Words, grid: Grid) -> Words:
    """Holes of the first and last slice of the scan, painted one slice further out, so that a cut cavity counts as closed."""
    lids = np.zeros_like(bone)
    first, last = int(grid.inside[0, 0]), int(grid.inside[0, 1]) - 1
    for face, lid in ((first, first - 1), (last, last + 1)):
        if not 0 <= lid < len(bone):  # the scan goes on behind this face
            continue
        runs = labelled(inverted(bone[face : face + 1], grid.columns), grid.columns)
        boxes = runs.measured()[1][:, 1:]
        holes = np.all((boxes[:, :, 0] > 0) & (boxes[:, :, 1] < np.array(grid.hu.shape[1:])), axis=1)
        lids[lid] = (runs.painted(holes) | bone[face : face + 1])[0]
    return lids


def without_islands(field: HuArray, grid: Grid, far: int) -> HuArray:
    """Remove specks that float beside the bone, and fill closed bubbles, in a field that is positive inside (in place)."""
    positive = packed_above(field, 0.0)
    runs = labelled(positive, grid.columns)
    bone = runs.painted(runs.measured()[0] * grid.voxel_mm3 >= MIN_ISLAND_MM3)
    put(field, positive & ~bone, -far)
    put(field, _cavities(bone, grid, leaky=False), far)
    return field


def metal_mm3(hu: HuArray, voxel_mm3: float) -> float:
    """Volume of metal, mm3."""
    return counted(packed_above(hu, METAL_HU)) * voxel_mm3
