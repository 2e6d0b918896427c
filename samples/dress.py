"""Dresses the scan of a bare, hollow skull (a plastic phantom in air) as a patient: brain, soft tissue, skin, living bone.

Every voxel at the skull's surface keeps its share of skull, read from its own grey value, so no edge moves and no staircase
appears. What is not skull (head holder, table, rods inside) stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_opening, distance_transform_edt, gaussian_filter
from skimage.morphology import convex_hull_image
from threadpoolctl import threadpool_limits

from batchone.pipeline.values import FloatArray, HuArray
from batchone.samples.scanner import AIR_HU, CEILING_HU, NOISE_HU, PADDING_HU, Volume, noise_field, share
from batchone.samples.skull_view import BONE_HU, SkullView, skull_view

SKIN_MM, SKIN_HU = 4.0, 40.0  # mm, HU: scalp over the skull
BRAIN_HU, BRAIN_SPREAD_HU = 35.0, 12.0  # HU, middle and one standard deviation over a region, noise included
TABLE_MM, TABLE_EDGE_MM = 1.5, 0.4  # mm, cortical table on either side and its fading into diploe
TABLE_HU, TABLE_SPREAD_HU = 1180.0, 130.0  # HU, and one standard deviation of its slow variation
DIPLOE_HU, DIPLOE_SPREAD_HU = 430.0, 110.0
BONE_RANGE_HU = (250.0, 1400.0)  # HU, living skull bone
TABLE_WAVE_MM, DIPLOE_WAVE_MM, BRAIN_WAVE_MM = 9.0, 2.5, 2.0  # mm, how slowly each varies
BRAIN_MM, BRAIN_EDGE_MM = 10.0, 1.0  # mm below the skull's hull: brain, and the deep tissue of face and neck
SOFT_SPREAD_HU = 8.0  # HU, one standard deviation of soft tissue
SOFT_EDGE_MM = 0.6  # mm, standard deviation of the skin's edge
HOLDER_GAP_MM = 1.0  # mm of air kept between the skin and what the head lies in
FOREIGN_HU = -600.0  # HU, denser than this outside the head is holder or table
EDGE_REACH_MM = 1.5  # mm from the skull that its blurred edge reaches, and half a voxel more
ROD_RANGE_HU, ROD_HU = (-250.0, 250.0), 85.0  # HU, things inside the hollow skull, and what they are when solid
ROD_SHARE = 0.15  # less than that of a rod is noise
MOST_SHARE = 1.25  # the material's own noise and variation above its typical HU
ROD_MM = 2.2  # mm, thinner things of that HU are edges of the skull


@dataclass(frozen=True, slots=True, eq=False)
class _Fields:
    """Slowly varying fields on the subsample of a :class:`SkullView`, each (slices, rows, columns) float32."""

    skin: Volume  # share of head
    skull: Volume  # 1 at the skull and its blurred edge, 0 elsewhere
    tissue_hu: Volume
    bone_hu: Volume


def dress(hu: HuArray, affine: FloatArray, *, seed: int, noise_hu: float = 0.6 * NOISE_HU) -> HuArray:
    """Turn a bare skull in air into a head.

    Parameters
    ----------
    hu
        (slices, rows, columns) int16 HU of a hollow skull of one material.
    affine
        (4, 4) (column, row, slice) -> LPS mm.
    seed
        Of tissue, bone values and noise.
    noise_hu
        Standard deviation of the noise added to what was air.

    Raises
    ------
    InputError
        No skull in the scan.
    """
    view = skull_view(hu, affine)
    texture_rng, noise_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    material_hu = _material_hu(view)
    fields = _fields(view, texture_rng)
    interpolate = [_interpolation(n, s) for n, s in zip(hu.shape, view.stride, strict=True)]
    dressed = np.empty_like(hu)
    with threadpool_limits(1):  # the same rounding on any number of cores
        for k in range(hu.shape[0]):
            at = _slice_of(fields, interpolate, k)
            plain = _mapped(hu[k].astype(np.float32), at, material_hu)
            noise = noise_field((1, *hu.shape[1:]), noise_rng)[0] * np.float32(noise_hu)
            dressed[k] = np.clip(np.rint(plain + at.skin * noise), PADDING_HU, CEILING_HU).astype(np.int16)
    return dressed


def _mapped(before: Volume, at: _Fields, material_hu: float) -> Volume:
    """One slice: soft tissue behind, skull in front, each by its share of the voxel."""
    rod_share = np.clip((before - AIR_HU) / (ROD_HU - AIR_HU), 0.0, 1.0)
    behind = np.where(rod_share > ROD_SHARE, rod_share * np.maximum(before, at.tissue_hu), 0.0)
    behind += np.where(rod_share > ROD_SHARE, 1.0 - rod_share, 1.0) * at.tissue_hu
    soft = before + at.skin * (behind - before)
    clear = AIR_HU + at.skin * (at.tissue_hu - AIR_HU)  # what lies beside the skull: no trace of the old material
    skull_share = np.clip((before - AIR_HU) / (material_hu - AIR_HU), 0.0, MOST_SHARE)
    return np.asarray(np.where(at.skull > 0.5, clear + skull_share * (at.bone_hu - clear), soft))


def _material_hu(view: SkullView) -> float:
    """Typical HU of the skull's material: the median well inside its walls."""
    coarse = _coarse(view)
    bone = (coarse >= BONE_HU) & view.part
    depth = distance_transform_edt(bone, sampling=_spacing_mm(view))
    return float(np.median(coarse[depth > 1.8]))


def _fields(view: SkullView, rng: np.random.Generator) -> _Fields:
    spacing_mm = _spacing_mm(view)
    coarse = _coarse(view)
    bone = (coarse >= BONE_HU) & view.part
    head = np.stack([convex_hull_image(layer) if layer.any() else layer for layer in bone])
    edge_mm = distance_transform_edt(~bone, sampling=spacing_mm)
    head_mm = _signed_mm(head, spacing_mm)
    reach_mm = EDGE_REACH_MM + 0.5 * float(spacing_mm.max())
    foreign = (coarse > FOREIGN_HU) & (edge_mm > reach_mm) & (head_mm > 0.5 * SKIN_MM)
    gap_mm = distance_transform_edt(~foreign, sampling=spacing_mm) if foreign.any() else np.full(bone.shape, 1e3)
    skin = share(head_mm - SKIN_MM, SOFT_EDGE_MM) * share(HOLDER_GAP_MM - gap_mm, 0.3)
    deep = share(head_mm + BRAIN_MM, BRAIN_EDGE_MM)
    spread_hu = 0.6 * (SOFT_SPREAD_HU + deep * (BRAIN_SPREAD_HU - SOFT_SPREAD_HU))  # noise adds the rest
    tissue_hu = SKIN_HU + deep * (BRAIN_HU - SKIN_HU) + spread_hu * _wave(bone.shape, BRAIN_WAVE_MM, spacing_mm, rng)
    return _Fields(
        skin=skin.astype(np.float32),
        skull=((edge_mm < reach_mm) & ~_rods(coarse, spacing_mm)).astype(np.float32),
        tissue_hu=tissue_hu.astype(np.float32),
        bone_hu=_bone_hu(bone, spacing_mm, rng).astype(np.float32),
    )


def _bone_hu(bone: npt.NDArray[np.bool_], spacing_mm: FloatArray, rng: np.random.Generator) -> FloatArray:
    """HU of solid bone everywhere: cortical tables at the surface, diploe deeper."""
    depth_mm = np.maximum(distance_transform_edt(bone, sampling=spacing_mm) - 0.5 * spacing_mm.min(), 0.0)
    outer = share(gaussian_filter(depth_mm, 0.5 / spacing_mm) - TABLE_MM, TABLE_EDGE_MM)
    table_hu = np.clip(TABLE_HU + TABLE_SPREAD_HU * _wave(bone.shape, TABLE_WAVE_MM, spacing_mm, rng), *BONE_RANGE_HU)
    diploe_hu = np.clip(DIPLOE_HU + DIPLOE_SPREAD_HU * _wave(bone.shape, DIPLOE_WAVE_MM, spacing_mm, rng), *BONE_RANGE_HU)
    return diploe_hu + outer * (table_hu - diploe_hu)


def _rods(coarse: HuArray, spacing_mm: FloatArray) -> npt.NDArray[np.bool_]:
    """Solid things of soft-tissue HU that stand in the hollow skull."""
    reach = np.maximum(1, np.rint(0.5 * ROD_MM / spacing_mm)).astype(int)
    block = np.ones(2 * reach + 1, dtype=bool)
    return np.asarray(binary_opening((coarse > ROD_RANGE_HU[0]) & (coarse < ROD_RANGE_HU[1]), block))


def _signed_mm(mask: npt.NDArray[np.bool_], spacing_mm: FloatArray) -> FloatArray:
    """Smoothed signed distance to a mask's edge, negative inside."""
    outside, inside = (distance_transform_edt(m, sampling=spacing_mm) for m in (~mask, mask))
    return np.asarray(gaussian_filter(outside - inside, 1.2 / spacing_mm))


def _wave(shape: tuple[int, ...], wave_mm: float, spacing_mm: FloatArray, rng: np.random.Generator) -> Volume:
    """Smooth random variation of unit standard deviation."""
    smooth = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), wave_mm / spacing_mm, mode="wrap")
    return np.asarray(smooth / np.float32(smooth.std(dtype=np.float64)))


def _coarse(view: SkullView) -> HuArray:
    a, b, c = view.stride
    return view.hu[::a, ::b, ::c]


def _spacing_mm(view: SkullView) -> FloatArray:
    """(3,) mm between voxels of the subsample along (slice, row, column)."""
    return np.linalg.norm(view.affine[:3, :3], axis=0)[::-1].astype(np.float64) * np.array(view.stride)


def _interpolation(count: int, stride: int) -> npt.NDArray[np.float32]:
    """(count, coarse count) linear interpolation from every ``stride``-th sample, constant beyond the last."""
    coarse = (count + stride - 1) // stride
    place = np.minimum(np.arange(count) / stride, coarse - 1.0)
    low = np.minimum(np.floor(place).astype(int), max(coarse - 2, 0))
    matrix = np.zeros((count, coarse), dtype=np.float32)
    matrix[np.arange(count), low] = 1.0 - (place - low)
    if coarse > 1:
        matrix[np.arange(count), low + 1] += (place - low).astype(np.float32)
    return matrix


def _slice_of(fields: _Fields, interpolate: list[npt.NDArray[np.float32]], k: int) -> _Fields:
    """The fields on the full grid of slice ``k``, each (rows, columns)."""
    weights = interpolate[0][k]
    used = np.flatnonzero(weights)

    def full(field: Volume) -> Volume:
        coarse = np.tensordot(weights[used], field[used], axes=1)
        return np.asarray(interpolate[1] @ coarse @ interpolate[2].T)

    return _Fields(
        skin=full(fields.skin),
        skull=full(fields.skull),
        tissue_hu=full(fields.tissue_hu),
        bone_hu=full(fields.bone_hu),
    )
