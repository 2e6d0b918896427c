"""A CT of bones whose surface is known: closed meshes become tissue on a grid finer than the voxels, then blur, voxels and noise.

Unlike :mod:`long_bone`, which takes the share of a blurred voxel from the distance to a flat edge, the blur here is a real
convolution: it shifts curved edges and lowers thin cortex as a scanner does. The truth is the zero level of the distance field
that the tissue was made of, so nothing is lost between truth and image. Cortex varies in thickness and value, marrow has
trabeculae, and muscle and fat lie outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter
from scipy.sparse import csr_array

from batchone.pipeline.values import FloatArray, HuArray, IntArray, Mesh, Vector, moved_points
from batchone.samples.long_bone import blocks, signed_distance_mm
from batchone.samples.scanner import FWHM_PER_SIGMA, Grid, Volume, exposed, scan_grid

COARSE_MM = 0.5  # mm between the nodes of the distance field; cubic splines between them
FINE_SHARE = 0.29  # of the blur's width: largest step of the fine grid; its own averaging then widens the blur by under 2 %
DEEPER_MM, OUTSIDE_MM = 1.0, 1.5  # mm, distances are kept exactly from so much below the thickest cortex to so much outside
MARGIN_MM = 6.0  # mm of tissue around the bones
BEYOND_MM = 3.0  # mm of nodes beyond the scan's box: its blur sees them
METAL_HU = 2500.0  # HU: a thing from here on is metal and lies over the bone
WAVES = 10  # numerical: plane waves that make one smooth field
_SLAB = 12  # slices made at a time: keeps the memory of the fine grid small
_NEARER_MM = 0.05  # numerical: distances are cut off at OUTSIDE_MM, the splines of them a little off it
_REACH_SIGMAS = 4.0  # a Gaussian is cut there


@dataclass(frozen=True, slots=True)
class Tissue:
    """What the bones are made of and lie in; HU are usual CT values, thickness in mm, lengths are those of smooth waves."""

    cortex_mm: tuple[float, float] = (0.5, 2.0)
    cortex_hu: float = 1200.0
    cortex_spread: float = 0.08
    cortex_length_mm: float = 14.0
    marrow_hu: float = 250.0
    marrow_spread_hu: float = 40.0
    thickness_length_mm: float = 30.0
    muscle_hu: float = 40.0
    fat_hu: float = -100.0
    fat_share: float = 0.3
    fat_length_mm: float = 18.0


@dataclass(frozen=True, slots=True)
class Scanner:
    """How the scan is made.

    ``spacing_mm`` is (slice, row, column). ``fwhm_mm`` is the width of the blur before voxels average; ``overshoot`` the share of
    a twice as wide blur that a sharp kernel takes off again, in the plane of the slices. ``drift_mm`` is how far each slice lies
    behind the one before it (a tilted gantry), rounded to the fine grid.
    """

    spacing_mm: Vector = (0.625, 0.5, 0.5)
    fwhm_mm: float = 0.9
    overshoot: float = 0.0
    noise_hu: float = 25.0
    drift_mm: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A smooth function on a grid of nodes (slices, rows, columns), by cubic splines; ``affine`` (column, row, slice) -> LPS."""

    coefficients: npt.NDArray[np.float32]
    affine: FloatArray

    def at(self, points_mm: FloatArray) -> FloatArray:
        """(n,) values at (n, 3) LPS points."""
        index = moved_points(np.linalg.inv(self.affine).astype(np.float64), points_mm)
        return np.asarray(
            map_coordinates(self.coefficients, index[:, ::-1].T, output=np.float64, order=3, mode="nearest", prefilter=False)
        )


@dataclass(frozen=True, slots=True, eq=False)
class BoneScan:
    """A scan and the truth: ``hu`` (slices, rows, columns) int16, ``affine`` (column, row, slice) -> LPS mm.

    ``surfaces`` holds the bones' distance fields (mm, negative inside, exact near the surface), ``meshes`` what they were made
    of, ``volume`` the HU before noise.
    """

    hu: HuArray
    affine: FloatArray
    surfaces: tuple[Field, ...]
    meshes: tuple[Mesh, ...]
    volume: Volume

    def distance_mm(self, points_mm: FloatArray) -> FloatArray:
        """(n,) signed distance of LPS points to the nearest bone's true surface, negative inside, where it is near."""
        return np.asarray(np.min([surface.at(points_mm) for surface in self.surfaces], axis=0))

    def exposed_again(self, noise_hu: float, seed: int) -> BoneScan:
        """The same bones, scanned with other noise."""
        hu = exposed(self.volume, noise_hu=noise_hu, rng=np.random.default_rng(seed))
        return replace(self, hu=hu)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Bones and other things in patient space, ready to be scanned.

    ``nodes`` are those of all fields, ``pose`` the rigid motion that everything was given, ``things`` closed bodies with their
    HU that lie under the bones or, metal, over them.
    """

    tissue: Tissue
    meshes: tuple[Mesh, ...]
    surfaces: tuple[Field, ...]
    things: tuple[tuple[Field, float], ...]
    nodes: Grid
    pose: FloatArray

    def scanned(self, *, seed: int = 1, scanner: Scanner | None = None, shift_mm: Vector = (0.0, 0.0, 0.0)) -> BoneScan:
        """Scan the scene.

        Parameters
        ----------
        seed
            Of thickness, values, trabeculae and noise: the same seed gives the same bits.
        shift_mm
            Of the voxels against the bones.
        """
        made, shot = self.tissue, scanner or Scanner()
        rng = np.random.default_rng(seed)
        back = np.asarray(np.linalg.inv(self.pose), dtype=np.float64)
        lengths = (made.thickness_length_mm, made.cortex_length_mm, made.fat_length_mm)
        smooth = [_waves(self.nodes, back, length, rng) for length in lengths]
        trabeculae = _unit_field(gaussian_filter(rng.standard_normal(self.nodes.shape, dtype=np.float32), 0.9), self.nodes)
        parts = _Parts(self, smooth, trabeculae)
        grid = _scan_grid(self.nodes, shot.spacing_mm, shift_mm)
        volume = np.empty(grid.shape, dtype=np.float32)
        lens = _Lens.of(grid, shot)
        for first in range(0, grid.shape[0], _SLAB):
            stop = min(first + _SLAB, grid.shape[0])
            volume[first:stop] = lens.seen(parts, first, stop)
        affine = grid.affine.copy()
        affine[1, 2] += lens.drift * lens.fine_mm[1]
        affine[1, 3] -= lens.drift * lens.fine_mm[1] * (grid.shape[0] // 2)
        hu = exposed(volume, noise_hu=shot.noise_hu, rng=rng)
        return BoneScan(hu, affine, self.surfaces, self.meshes, volume)


def scene(
    meshes: Sequence[Mesh],
    *,
    tissue: Tissue | None = None,
    pose: FloatArray | None = None,
    z_mm: tuple[float, float] = (-np.inf, np.inf),
    things: Sequence[tuple[Mesh, float]] = (),
) -> Scene:
    """Place bones for scanning.

    Parameters
    ----------
    meshes
        Closed surfaces that do not overlap, mm.
    pose
        (4, 4) rigid motion of everything before scanning.
    z_mm
        Lowest and highest LPS z that is scanned; the bones' own where they end before.
    things
        Other closed bodies with their HU, such as discs or a metal pin.
    """
    motion = np.eye(4) if pose is None else pose
    moved = tuple(mesh.moved(motion) for mesh in meshes)
    nodes = _nodes(moved, z_mm)
    made = tissue or Tissue()
    near_mm = (-max(made.cortex_mm) - DEEPER_MM, OUTSIDE_MM)
    others = tuple((distance_field(mesh.moved(motion), nodes, near_mm), hu) for mesh, hu in things)
    surfaces = tuple(distance_field(mesh, nodes, near_mm) for mesh in moved)
    return Scene(made, moved, surfaces, others, nodes, motion)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """All that the tissue on the fine grid is made of."""

    scene: Scene
    smooth: list[Field]
    trabeculae: Field

    def painted(self, fine: Grid) -> Volume:
        """HU on the fine grid."""
        made = self.scene.tissue
        step_mm = np.float32(np.mean(fine.spacing_mm))
        fat = upsampled(self.smooth[2], fine)
        hu = np.where(fat < _quantile(made.fat_share), np.float32(made.fat_hu), np.float32(made.muscle_hu))
        del fat
        for surface, thing_hu in self.scene.things:
            if thing_hu < METAL_HU:
                _paint_thing(hu, surface, fine, np.float32(thing_hu))
        low, high = made.cortex_mm
        for surface in self.scene.surfaces:
            box = _reach(surface, fine)
            if box is None:
                continue
            part, target = fine.part(box), hu[box]
            thickness = np.clip(upsampled(self.smooth[0], part), -1.0, 1.0)
            thickness = np.float32(0.5 * (low + high)) + np.float32(0.5 * (high - low)) * thickness
            cortex = np.float32(made.cortex_hu) * (1.0 + np.float32(made.cortex_spread) * upsampled(self.smooth[1], part))
            marrow = np.float32(made.marrow_hu) + np.float32(made.marrow_spread_hu) * upsampled(self.trabeculae, part)
            distance = upsampled(surface, part)
            target += _inside(distance, step_mm) * (cortex - target)
            distance += thickness
            target += _inside(distance, step_mm) * (marrow - target)
        for surface, thing_hu in self.scene.things:
            if thing_hu >= METAL_HU:
                _paint_thing(hu, surface, fine, np.float32(thing_hu))
        return hu


def _paint_thing(hu: Volume, surface: Field, fine: Grid, thing_hu: np.float32) -> None:
    box = _reach(surface, fine)
    if box is not None:
        step_mm = np.float32(np.mean(fine.spacing_mm))
        hu[box] += _inside(upsampled(surface, fine.part(box)), step_mm) * (thing_hu - hu[box])


def _reach(surface: Field, fine: Grid) -> tuple[slice, slice, slice] | None:
    """The box of the fine grid beyond which a surface is nowhere near; None where that is all of it."""
    index = moved_points(np.linalg.inv(surface.affine).astype(np.float64), fine.affine[:3, 3][None])[0][::-1]
    steps = (fine.spacing_mm / np.diag(surface.affine)[:3])[::-1]
    near = surface.coefficients < OUTSIDE_MM - _NEARER_MM
    slices = slice(max(0, int(index[0]) - 2), max(0, int(index[0] + steps[0] * fine.shape[0]) + 3))
    within = np.any(near[slices], axis=0)
    box = []
    for axis, seen in enumerate((np.any(near, axis=(1, 2)), np.any(within, axis=1), np.any(within, axis=0))):
        where = np.flatnonzero(seen)
        if not len(where):
            return None
        first, stop = ((place - index[axis]) / steps[axis] for place in (where[0] - 2, where[-1] + 2))
        box.append(slice(max(0, int(first)), min(fine.shape[axis], max(0, int(stop) + 2))))
    k, j, i = box
    return None if any(one.start >= one.stop for one in box) else (k, j, i)


def _quantile(fraction: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(fraction)) if fraction > 0.0 else -np.inf


def _inside(distance_mm: Volume, step_mm: np.float32) -> Volume:
    """Share of a fine voxel inside a surface."""
    return np.asarray(np.clip(np.float32(0.5) - distance_mm / step_mm, 0.0, 1.0), dtype=np.float32)


def _nodes(meshes: Sequence[Mesh], z_mm: tuple[float, float]) -> Grid:
    """The nodes of the fields: the bones' box, with tissue around it."""
    corners = np.array([[m.vertices_mm.min(axis=0), m.vertices_mm.max(axis=0)] for m in meshes])
    low, high = corners[:, 0].min(axis=0) - MARGIN_MM, corners[:, 1].max(axis=0) + MARGIN_MM
    low[2], high[2] = max(low[2], z_mm[0]), min(high[2], z_mm[1])
    count = np.ceil((high - low + 2.0 * BEYOND_MM)[::-1] / COARSE_MM).astype(int)
    middle = 0.5 * (low + high)
    return scan_grid((int(count[0]), int(count[1]), int(count[2])), (COARSE_MM,) * 3, (middle[0], middle[1], middle[2]))


def _scan_grid(nodes: Grid, spacing_mm: Vector, shift_mm: Vector) -> Grid:
    """The voxels of a scan within the nodes' box."""
    size = COARSE_MM * np.array(nodes.shape) - 2.0 * BEYOND_MM
    count = np.floor(size / np.array(spacing_mm)).astype(np.int64)
    middle = nodes.affine[:3, 3] + COARSE_MM * 0.5 * (np.array(nodes.shape[::-1]) - 1.0) + np.array(shift_mm)
    return scan_grid((int(count[0]), int(count[1]), int(count[2])), spacing_mm, (middle[0], middle[1], middle[2]))


def _unit_field(values: npt.NDArray[np.float32], nodes: Grid) -> Field:
    spread = float(values.std(dtype=np.float64))
    return Field(spline_filter(values / np.float32(spread), 3, output=np.float32, mode="nearest"), nodes.affine)


def distance_field(mesh: Mesh, nodes: Grid, near_mm: tuple[float, float]) -> Field:
    """Signed distance to a closed mesh at the nodes, cut off beyond ``near_mm``."""
    boxes, middle_mm = blocks(nodes)
    half_mm = 0.5 * float(np.linalg.norm(nodes.spacing_mm * 8.0))
    rough_mm = signed_distance_mm(mesh, middle_mm)
    near = (rough_mm > near_mm[0] - half_mm) & (rough_mm < near_mm[1] + half_mm)
    values = np.empty(nodes.shape, dtype=np.float32)
    for box, rough in zip(boxes, rough_mm, strict=True):
        values[box] = near_mm[0] if rough < 0.0 else near_mm[1]
    chosen = np.flatnonzero(near)
    points = [nodes.points_mm(boxes[n]) for n in chosen]
    exact_mm = signed_distance_mm(mesh, np.vstack(points)) if points else np.empty(0)
    start = 0
    for block, some in zip(chosen, points, strict=True):
        values[boxes[block]] = np.clip(exact_mm[start : start + len(some)], *near_mm).reshape(values[boxes[block]].shape)
        start += len(some)
    return Field(spline_filter(values, 3, output=np.float32, mode="nearest"), nodes.affine)


def _waves(nodes: Grid, back: FloatArray, length_mm: float, rng: np.random.Generator) -> Field:
    """A smooth field of unit spread with waves of about ``length_mm``, fixed to the bones."""
    directions = rng.normal(size=(WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    ways = directions * (2.0 * np.pi / (length_mm * rng.uniform(0.8, 1.6, WAVES)))[:, None]
    phases = rng.uniform(0.0, 2.0 * np.pi, WAVES)
    affine = back @ nodes.affine
    total = np.zeros(nodes.shape, dtype=np.complex128)
    k, j, i = (np.arange(n, dtype=np.float64) for n in nodes.shape)
    for way, phase in zip(ways, phases, strict=True):  # a plane wave is a product along the three axes
        steps = way @ affine[:3, :3]
        total += (
            np.exp(1j * (steps[2] * k + phase + way @ affine[:3, 3]))[:, None, None]
            * np.exp(1j * steps[1] * j)[None, :, None]
            * np.exp(1j * steps[0] * i)[None, None]
        )
    values = (total.real * np.sqrt(2.0 / WAVES)).astype(np.float32)
    return Field(spline_filter(values, 3, output=np.float32, mode="nearest"), nodes.affine)


@dataclass(frozen=True, slots=True, eq=False)
class _Lens:
    """How the scanner sees: the fine grid within the voxels, and the blur on it. All triples are (slice, row, column)."""

    grid: Grid
    shot: Scanner
    factor: IntArray
    fine_mm: FloatArray
    sigma: FloatArray
    pad: IntArray
    drift: int

    @classmethod
    def of(cls, grid: Grid, shot: Scanner) -> _Lens:
        """Choose the fine grid for a scan."""
        spacing_mm = grid.spacing_mm[::-1]
        factor = np.ceil(spacing_mm / (FINE_SHARE * shot.fwhm_mm)).astype(np.int32)
        fine_mm = spacing_mm / factor
        sigma = shot.fwhm_mm / FWHM_PER_SIGMA / fine_mm
        drift = round(shot.drift_mm / float(fine_mm[1]))
        wide = np.array([1.0, 1.0, 1.0]) + (np.array([0.0, 1.0, 1.0]) if shot.overshoot else 0.0)
        pad = (np.ceil(_REACH_SIGMAS * wide * sigma / factor) + 1).astype(np.int32)
        return cls(grid, shot, factor, fine_mm, sigma, pad, drift)

    def seen(self, parts: _Parts, first: int, stop: int) -> Volume:
        """The noise-free slices from ``first`` to before ``stop``."""
        hu = parts.painted(self._fine(first, stop))
        deep = int(self.pad[0] * self.factor[0])
        hu = gaussian_filter(hu, (self.sigma[0], 0.0, 0.0), truncate=_REACH_SIGMAS)[deep:-deep]
        blurred = gaussian_filter(hu, (0.0, *self.sigma[1:]), truncate=_REACH_SIGMAS)
        if self.shot.overshoot:
            wide = gaussian_filter(hu, (0.0, *(2.0 * self.sigma[1:])), truncate=_REACH_SIGMAS)
            blurred = np.float32(1.0 + self.shot.overshoot) * blurred - np.float32(self.shot.overshoot) * wide
        slices = np.empty((stop - first, *self.grid.shape[1:]), dtype=np.float32)
        rows, columns = (int(n) * int(f) for n, f in zip(self.grid.shape[1:], self.factor[1:], strict=True))
        left = int(self.pad[2] * self.factor[2])
        for n in range(stop - first):
            top = int(self.pad[1] * self.factor[1]) + (n * self.drift if self.drift > 0 else (n - stop + first + 1) * self.drift)
            layer = blurred[n * self.factor[0] : (n + 1) * self.factor[0], top : top + rows, left : left + columns]
            shape = (self.factor[0], self.grid.shape[1], self.factor[1], self.grid.shape[2], self.factor[2])
            slices[n] = layer.reshape(shape).mean(axis=(0, 2, 4), dtype=np.float32)
        return slices

    def _fine(self, first: int, stop: int) -> Grid:
        """The fine grid that fills the voxels of some slices, as far as the blur and the drift between them reach."""
        count = np.array([stop - first, *self.grid.shape[1:]])
        shape = (count + 2 * self.pad) * self.factor
        shape[1] += (stop - first - 1) * abs(self.drift)
        per = self.factor[::-1].astype(np.float64)
        affine = self.grid.affine.copy()
        affine[:3, :3] /= per
        corner = np.array([-self.pad[2], -self.pad[1], first - self.pad[0]]) + 0.5 / per - 0.5
        affine[:3, 3] += self.grid.affine[:3, :3] @ corner
        least = first if self.drift > 0 else stop - 1
        affine[1, 3] += (least - self.grid.shape[0] // 2) * self.drift * self.fine_mm[1]
        return Grid(affine, (int(shape[0]), int(shape[1]), int(shape[2])))


def upsampled(smooth: Field, fine: Grid) -> Volume:
    """A field on a fine grid with the same axes: cubic B-splines, one axis after the other."""
    scale = np.diag(fine.affine)[:3] / np.diag(smooth.affine)[:3]
    shift = (fine.affine[:3, 3] - smooth.affine[:3, 3]) / np.diag(smooth.affine)[:3]
    values = smooth.coefficients
    for axis in range(3):  # slices, rows, columns
        way = 2 - axis
        weights = _spline_rows(shift[way] + scale[way] * np.arange(fine.shape[axis]), values.shape[axis])
        flat = np.moveaxis(values, axis, 0)
        values = np.moveaxis((weights @ flat.reshape(flat.shape[0], -1)).reshape(-1, *flat.shape[1:]), 0, axis)
    return np.ascontiguousarray(values, dtype=np.float32)


def _spline_rows(places: FloatArray, count: int) -> csr_array:
    """Sparse (n, count) weights of the nodes at fractional places."""
    base = np.floor(places).astype(np.int64)
    t = places - base
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6.0
    columns = np.clip(base[:, None] + np.arange(-1, 3), 0, count - 1)
    rows = np.repeat(np.arange(len(places)), 4)
    return csr_array((weights.ravel().astype(np.float32), (rows, columns.ravel())), shape=(len(places), count))
