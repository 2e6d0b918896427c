"""The kernels that work on whole words of voxels, held against the plain rule of one voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from batchone.pipeline.values import Scan, SeriesRecord
from batchone.segment.apart.grid import WorkVolume, labels_on_scan
from batchone.segment.apart.solid import layers_filled
from batchone.segment.bits import ball, counted, dilated, eroded, packed, unpacked
from batchone.segment.bone import AIR_HU, SOFT_RANGE_HU, Grid, cropped, scan_figures
from batchone.segment.levels import (
    BEFORE_MM,
    BRIGHT_HU,
    FAT_HU,
    INWARD_MM,
    LEVEL_RADIUS_MM,
    NO_LEVEL,
    OTHER_LAYER,
    ROWS_MM,
    SAME_LAYER,
    SHAPE_RADIUS_MM,
    STEP_MM,
    half_levels,
)
from batchone.segment.runs import labelled
from batchone.segment.uncertainty import value_at


def offsets(radius_mm: float, grid: Grid, rows_mm: float = 0.0) -> np.ndarray:
    """(n, 3) voxels (slice, row, column) of a ball, with rows at least ``rows_mm`` apart where that skips none in between."""
    reach = [int(radius_mm / step) for step in grid.spacing_mm[::-1]]
    every = np.argwhere(np.ones([2 * n + 1 for n in reach])) - reach
    inside = ((every * grid.spacing_mm[::-1]) ** 2).sum(axis=1) <= radius_mm**2 * (1.0 + 1e-9)
    apart = [max(1, int(rows_mm / step + 1e-9)) for step in grid.spacing_mm[:0:-1]]
    return np.asarray(every[inside & np.all(every[:, :2] % apart == 0, axis=1)])


def plain_level(grid: Grid, solid: np.ndarray, voxel: np.ndarray) -> float:
    """Twice the half level of one voxel, as the docstring of the module says."""
    around = grid.hu[tuple((voxel + offsets(LEVEL_RADIUS_MM, grid)).T)]
    low, high = float(max(around.min(), FAT_HU)), float(min(around.max(), BRIGHT_HU))
    shape = offsets(SHAPE_RADIUS_MM, grid, ROWS_MM)
    places = voxel + shape
    valid = np.all((places >= 0) & (places < solid.shape), axis=1)
    shape = shape[valid][solid[tuple(places[valid].T)]]
    way = shape.sum(axis=0)[::-1] * grid.spacing_mm
    way = way / max(np.linalg.norm(way), 1e-9) / grid.spacing_mm
    bright, deep, along = float(grid.hu[tuple(voxel)]), 0.0, STEP_MM
    while deep < INWARD_MM and along <= INWARD_MM + BEFORE_MM:
        x, y, z = voxel[::-1] + along * way
        bright = max(bright, value_at(grid.hu, x, y, z))
        deep += STEP_MM * bool(solid[int(z + 0.5), int(y + 0.5), int(x + 0.5)])
        along += STEP_MM
    own = min(bright, high)
    share = (OTHER_LAYER - (high - low) / max(own - low, 1.0)) / (OTHER_LAYER - SAME_LAYER)
    return float(np.round(own + (high - own) * np.clip(share, 0.0, 1.0) + low))


@pytest.mark.parametrize("columns", [40, 70, 150])
@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5, 0.625), (0.45, 0.7, 1.0), (0.3, 0.3, 0.4)])
def test_half_levels_are_those_of_the_plain_rule(columns: int, spacing_mm: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(columns)
    smooth = ndimage.gaussian_filter(rng.normal(0.0, 1.0, (14, 20, columns)), 1.5)
    hu = np.round(smooth / smooth.std() * 500.0 + 300.0).astype(np.int16)
    grid = cropped(hu, np.diag([*spacing_mm, 1.0]), np.array([[0, n] for n in hu.shape]))
    solid = grid.hu > 250
    edge = ndimage.binary_dilation(solid) & ~ndimage.binary_erosion(solid)
    edge[:14] &= rng.random(edge[:14].shape) < 0.1  # voxels without neighbours
    level = half_levels(packed(solid), packed(edge), grid, in_tissue=True)
    beside = np.repeat(ndimage.generate_binary_structure(2, 1)[:, :, None], 3, axis=2)
    beside[1, 1] = False  # the rows next to a voxel's own
    even = np.indices(edge.shape)[:2].sum(axis=0) % 2 == 0
    due = edge & (even | ~ndimage.binary_dilation(edge, beside))
    assert due.sum() < 0.75 * edge.sum()
    assert np.any(due & ~even)
    assert np.array_equal(level != NO_LEVEL, due)
    voxels = np.argwhere(due)
    for voxel in voxels[rng.choice(len(voxels), 150, replace=False)]:
        assert abs(level[tuple(voxel)] - plain_level(grid, solid, voxel)) <= 1.0  # HU: rounding of the last step


@pytest.mark.parametrize("columns", [63, 64, 130])
@pytest.mark.parametrize("radius_mm", [1.0, 2.3])
def test_dilation_and_erosion_are_scipys(columns: int, radius_mm: float) -> None:
    spacing_mm = (0.5, 0.7, 1.1)
    mask = ndimage.gaussian_filter(np.random.default_rng(5).normal(0.0, 1.0, (9, 15, columns)), 1.0) > 0.1
    half = ball(radius_mm, spacing_mm)
    reach = np.array([*(n // 2 for n in half.shape), int(half.max())])
    structure = np.zeros(2 * reach + 1, dtype=np.bool_)
    for k, j in np.argwhere(half >= 0):
        structure[k, j, reach[2] - half[k, j] : reach[2] + half[k, j] + 1] = True
    assert np.array_equal(unpacked(dilated(packed(mask), columns, half), columns), ndimage.binary_dilation(mask, structure))
    solid = ndimage.binary_erosion(mask, structure, border_value=1)
    assert np.array_equal(unpacked(eroded(packed(mask), columns, half), columns), solid)


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 128, 200])
def test_runs_begin_and_end_where_the_mask_changes(columns: int) -> None:
    mask = np.random.default_rng(columns).random((3, 40, columns)) > np.linspace(0.0, 1.0, 40)[None, :, None]
    runs = labelled(packed(mask), columns)
    padded = np.pad(mask.reshape(-1, columns), ((0, 0), (1, 1))).astype(np.int8)
    assert np.array_equal(runs.begin, np.nonzero(np.diff(padded, axis=1) > 0)[1])
    assert np.array_equal(runs.end, np.nonzero(np.diff(padded, axis=1) < 0)[1])
    assert counted(packed(mask)) == mask.sum()


def test_a_crop_beyond_the_scan_is_air_there() -> None:
    hu = np.full((6, 7, 8), 100, dtype=np.int16)
    grid = cropped(hu, np.eye(4), np.array([[0, 3], [2, 7], [0, 8]]), margin_mm=1.0)
    assert (grid.hu > AIR_HU).sum() == np.prod(grid.inside[:, 1] - grid.inside[:, 0])
    assert np.all(grid.hu[tuple(slice(a, b) for a, b in grid.inside)] == 100)


@pytest.mark.parametrize("columns", [5, 64, 90, 130])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_holes_of_layers_are_filled_as_scipy_fills_them(columns: int, axis: int) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(columns).normal(0.0, 1.0, (12, 25, columns)), 0.8)
    mask = smooth > 0.1 * smooth.std()
    wanted = np.stack([ndimage.binary_fill_holes(layer) for layer in np.moveaxis(mask, axis, 0)], axis=axis)
    assert np.array_equal(unpacked(layers_filled(packed(mask), columns, axis), columns), wanted)


def test_the_scans_figures_are_medians_of_its_voxels() -> None:
    rng = np.random.default_rng(3)
    hu = np.round(rng.normal(47.0, 12.0, (20, 60, 60))).astype(np.int16)
    hu[:, :30] = -1000
    figures = scan_figures(hu)
    soft = hu[(hu > SOFT_RANGE_HU[0]) & (hu < SOFT_RANGE_HU[1])]
    assert figures.soft_hu == np.median(soft)
    step = np.abs(hu[:, 30:, 2:].astype(np.float64) - hu[:, 30:, :-2])
    assert figures.noise_hu == pytest.approx(1.4826 * np.median(step) / np.sqrt(2.0), rel=1e-12)


@pytest.mark.parametrize("turn_deg", [0.0, 20.0])
def test_labels_come_to_a_scan_from_the_nearest_voxel_and_its_value_decides_at_the_rim(turn_deg: float) -> None:
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 3, (12, 14, 16)).astype(np.uint8)
    labels[:, 4:7] = 0
    core = np.where(rng.random(labels.shape) < 0.5, labels, 0).astype(np.uint8)
    volume = WorkVolume(np.zeros(labels.shape, np.int16), 1.0, np.eye(4), 1.0, np.ones(labels.shape, np.bool_))
    turn = np.radians(turn_deg)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]) * 0.7
    affine[:3, 3] = (-1.03, 0.51, -0.77)
    scan = Scan(rng.integers(0, 400, (20, 22, 24)).astype(np.int16), affine, SeriesRecord("CT", *[""] * 3, "HFS", 20, 1.0, 1.0,
                (0.7, 0.7), 0.0, "", "0" * 64))  # fmt: skip
    index = np.stack(np.indices(scan.hu.shape)[::-1], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    x, y, z = np.floor(index + 0.5).astype(np.int64).transpose(3, 0, 1, 2)
    inside = (z >= 0) & (y >= 0) & (x >= 0) & (z < 12) & (y < 14) & (x < 16)
    places = tuple(np.where(inside, axis, 0) for axis in (z, y, x))
    wanted = np.where(inside, np.where(scan.hu > 200, labels[places], core[places]), 0)
    assert np.array_equal(labels_on_scan(labels, core, volume, scan, 200.0), wanted)
