"""A phantom head with known truth: vault in closed form, base, face, soft tissue, on a scanner table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import map_coordinates
from threadpoolctl import threadpool_limits

from batchone.pipeline.values import FloatArray, HuArray, Vector, moved_points
from batchone.samples.craniectomy import Craniectomy, craniectomy
from batchone.samples.head_parts import BASE, CAVITIES, FACE, LETTER_DIRECTION, OPENINGS, SOFT_BODY, letter_strokes
from batchone.samples.scanner import (
    AIR_HU,
    BLUR_FWHM_MM,
    NOISE_HU,
    Grid,
    Volume,
    exposed,
    paint_table,
    scan_grid,
    share,
)
from batchone.samples.skull_view import direction
from batchone.samples.solids import paint
from batchone.samples.vault import Layers, Vault, vault_shape

SHAPE = (160, 256, 256)  # slices, rows, columns
SPACING_MM = (1.0, 0.8, 0.8)  # mm, (slice, row, column): 205 mm field of view, thin slices of a head protocol
CENTRE_MM = (0.0, 1.0, 6.0)  # mm, LPS middle of the field of view: air above the vertex, ends below the skull base
TABLE_TOP_MM = 99.0  # mm, LPS y of the table: about 2 mm behind the head

SCALP_MM = 4.0  # mm, thickness of skin and scalp
SCALP_HU, FLUID_HU, BRAIN_HU = 40.0, 12.0, 35.0  # HU, usual CT values
FLUID_MM = 1.5  # mm, fluid between brain and bone
BRAIN_SPREAD_HU = 8.0  # HU, one standard deviation of grey and white matter; with noise about 12 over a region
TABLE_HU, DIPLOE_HU = 1300.0, 500.0  # HU, cortical tables and diploe
TABLE_SPREAD_HU, DIPLOE_SPREAD_HU = 60.0, 100.0  # HU, one standard deviation
OUTER_TABLE_MM, OUTER_TABLE_SHARE = 1.0, 0.15  # mm and share of the wall's thickness
INNER_TABLE_MM, INNER_TABLE_SHARE = 0.7, 0.12
TEXTURE_CELLS, TEXTURE_MM = 48, 4.0  # a periodic lattice of that many nodes, mm apart

_NEAR_MM = 8.0  # mm, beyond the surfaces: scalp and its blur
_CHUNK = 200_000  # points evaluated at a time: keeps the memory of a slab small


@dataclass(frozen=True, slots=True)
class Defect:
    """A craniectomy to be cut: where (0 = front, +90 = left; degrees up), how wide, how tapered."""

    azimuth_deg: float
    elevation_deg: float
    diameter_mm: float
    edge_angle_deg: float = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A scan of a head and the truth about it.

    Attributes
    ----------
    hu
        (slices, rows, columns) int16 HU.
    affine
        (4, 4) (column, row, slice) -> LPS mm.
    pose
        (4, 4) rigid motion, head frame -> LPS.
    vault
        The shape in the head frame.
    landmarks_mm
        Names of points on the outer surface -> LPS mm; nasion, left ear and vertex turn right-handed about ``centre``.
    letter_mm
        (n, 3) LPS points in the strokes of the engraved "R", on the patient's right.
    craniectomy
        What was cut out, when a defect was asked for.
    """

    hu: HuArray
    affine: FloatArray
    pose: FloatArray
    vault: Vault
    landmarks_mm: dict[str, Vector]
    letter_mm: FloatArray
    craniectomy: Craniectomy | None = None

    def layers(self, points_mm: FloatArray) -> Layers:
        """Signed distances of (n, 3) LPS points to the outer and inner surface of the vault (before letter and defect)."""
        found = self.vault.layers(moved_points(np.asarray(np.linalg.inv(self.pose), dtype=np.float64), points_mm))
        return replace(found, normals=found.normals @ self.pose[:3, :3].T)


def head_phantom(
    *,
    seed: int = 1,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: Vector = SPACING_MM,
    centre_mm: Vector = CENTRE_MM,
    pose: FloatArray | None = None,
    defect: Defect | None = None,
    noise_hu: float = NOISE_HU,
    table: bool = True,
) -> Phantom:
    """Scan a phantom head.

    Parameters
    ----------
    seed
        Of the head's shape, its tissue and the noise: the same seed gives the same bits.
    shape, spacing_mm
        Voxels and their distances along (slice, row, column).
    centre_mm
        LPS middle of the field of view.
    pose
        (4, 4) rigid motion of the head before scanning; the table stays.
    defect
        A craniectomy, None for an intact head.
    """
    shape_rng, tissue_rng, noise_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    motion = np.eye(4) if pose is None else np.asarray(pose, dtype=np.float64)
    vault = vault_shape(shape_rng)
    grid = scan_grid(shape, spacing_mm, centre_mm)
    letter = letter_strokes(vault, np.array(LETTER_DIRECTION))
    volume: Volume = np.full(shape, AIR_HU, dtype=np.float32)
    with threadpool_limits(1):  # the same rounding on any number of cores
        paint(volume, grid, SOFT_BODY, pose=motion, fwhm_mm=BLUR_FWHM_MM)
        _paint_vault(volume, grid, vault, motion, tissue_rng)
        for solids in (BASE, FACE, OPENINGS, CAVITIES, letter):
            paint(volume, grid, solids, pose=motion, fwhm_mm=BLUR_FWHM_MM)
        if table:
            paint_table(volume, grid, top_mm=TABLE_TOP_MM, fwhm_mm=BLUR_FWHM_MM)
    hu = exposed(volume, noise_hu=noise_hu, rng=noise_rng)
    strokes = moved_points(motion, np.array([stroke.start_mm for stroke in letter]))
    phantom = Phantom(hu, grid.affine, motion, vault, _landmarks(vault, motion), strokes)
    return phantom if defect is None else _operated(phantom, defect, seed)


def _operated(phantom: Phantom, defect: Defect, seed: int) -> Phantom:
    """Cut the defect at its true place: the direction is taken in the head frame."""
    u = direction(defect.azimuth_deg, defect.elevation_deg)
    point = moved_points(phantom.pose, u * phantom.vault.outer_radius_mm(u[None])[0][None, None])[0]
    cut = craniectomy(
        phantom.hu,
        phantom.affine,
        centre_mm=(float(point[0]), float(point[1]), float(point[2])),
        diameter_mm=defect.diameter_mm,
        edge_angle_deg=defect.edge_angle_deg,
        seed=seed,
    )
    return replace(phantom, hu=cut.hu, craniectomy=cut)


def _paint_vault(volume: Volume, grid: Grid, vault: Vault, pose: FloatArray, rng: np.random.Generator) -> None:
    """Scalp, tables, diploe, fluid and brain over what is there."""
    lattices = [rng.standard_normal((TEXTURE_CELLS,) * 3).astype(np.float32) for _ in range(2)]
    low, high = _egg_range(vault)
    own = grid.seen_from(pose)
    reach_mm = np.full(3, (vault.half_axes_mm.max() + _NEAR_MM) * high)
    rows = grid.box(-reach_mm, reach_mm, pose)
    for k in range(rows[0].start, rows[0].stop):
        box = (slice(k, k + 1), rows[1], rows[2])
        flat = volume[box].reshape(-1)
        points = own.points_mm(box)
        egg = vault.egg(points)
        deep = egg < low
        flat[deep] = BRAIN_HU + BRAIN_SPREAD_HU * _texture(lattices[0], points[deep])
        near = np.flatnonzero((egg >= low) & (egg < high))
        for some in np.array_split(near, max(1, near.size // _CHUNK)):
            at = vault.layers(points[some])
            sigma_mm = grid.directed_sigma_mm(BLUR_FWHM_MM, at.normals @ pose[:3, :3].T)
            flat[some] = _wall(flat[some], points[some], at, sigma_mm, lattices)
        volume[box] = flat.reshape(volume[box].shape)


def _wall(base_hu: Volume, points: FloatArray, at: Layers, sigma_mm: FloatArray, lattices: list[Volume]) -> FloatArray:
    """HU at points of the head frame near the wall: the sum of the steps at its nested surfaces, each blurred."""
    cortical = TABLE_HU + TABLE_SPREAD_HU * _texture(lattices[1], 0.25 * points)
    diploe = DIPLOE_HU + DIPLOE_SPREAD_HU * _texture(lattices[1], points)
    brain = BRAIN_HU + BRAIN_SPREAD_HU * _texture(lattices[0], points)
    outer_table_mm = OUTER_TABLE_MM + OUTER_TABLE_SHARE * at.thickness_mm
    inner_table_mm = INNER_TABLE_MM + INNER_TABLE_SHARE * at.thickness_mm
    hu = base_hu + (SCALP_HU - base_hu) * share(at.outer_mm - SCALP_MM, sigma_mm)
    for step_hu, distance_mm in (
        (cortical - SCALP_HU, at.outer_mm),
        (diploe - cortical, at.outer_mm + outer_table_mm),
        (cortical - diploe, at.inner_mm - inner_table_mm),
        (FLUID_HU - cortical, at.inner_mm),
        (brain - FLUID_HU, at.inner_mm + FLUID_MM),
    ):
        hu = hu + step_hu * share(distance_mm, sigma_mm)
    return hu


def _egg_range(vault: Vault) -> tuple[float, float]:
    """Between which relative radii the wall and the scalp lie, with a margin."""
    golden = np.arange(4000) + 0.5
    z = 1.0 - golden / 2000.0
    turn = golden * np.pi * (3.0 - np.sqrt(5.0))
    u = np.column_stack([np.sqrt(1.0 - z**2) * np.cos(turn), np.sqrt(1.0 - z**2) * np.sin(turn), z])
    bare_mm = 1.0 / vault.egg(u)
    low = (vault.inner_radius_mm(u) - _NEAR_MM) / bare_mm
    high = (vault.outer_radius_mm(u) + _NEAR_MM) / bare_mm
    return float(low.min()), float(high.max())


def _texture(lattice: Volume, points: FloatArray) -> FloatArray:
    """Smooth unit-variance variation (before smoothing) at points of the head frame."""
    index = (points / TEXTURE_MM).T
    return np.asarray(map_coordinates(lattice, index, order=1, mode="grid-wrap"), dtype=np.float64)


def _landmarks(vault: Vault, pose: FloatArray) -> dict[str, Vector]:
    places = {"nasion": (0.0, -12.0), "left_ear": (95.0, -25.0), "right_ear": (-95.0, -25.0), "vertex": (0.0, 90.0)}
    found = {"centre": np.zeros(3)}
    for name, (azimuth_deg, elevation_deg) in places.items():
        u = direction(azimuth_deg, elevation_deg)
        found[name] = u * vault.outer_radius_mm(u[None])[0]
    moved = {name: moved_points(pose, point[None])[0] for name, point in found.items()}
    return {name: (float(p[0]), float(p[1]), float(p[2])) for name, p in moved.items()}
