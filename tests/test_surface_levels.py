"""Where the wall of a cut through table and diploe lies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from batchone.pipeline.values import FloatArray
from batchone.segment.bits import packed_above
from batchone.segment.bone import cropped, filled
from batchone.segment.surface import edge_field, surface

BLUR_MM = 0.42  # standard deviation: FWHM 1 mm
WALL_X_MM = 0.13  # off the grid
THICK_MM, TABLE_MM = 8.0, 1.9


def wall_mm(spacing_mm: tuple[float, float, float], diploe_hu: float, angle_deg: float = 0.0) -> FloatArray:
    """(n, 2) depth below the outer table and distance from the true wall (positive: into the bone) of the found wall, mm.

    A flat plate, x < WALL_X_MM, with two tables of 1200 HU; it lies across z, turned by ``angle_deg`` about z.
    """
    x, y, z = (np.arange(-half, half, step) for half, step in zip((16.0, 9.0, 9.0), spacing_mm, strict=True))
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    angle = np.radians(angle_deg)
    beyond = xx * np.cos(angle) + yy * np.sin(angle) - WALL_X_MM
    depth = THICK_MM / 2 - zz

    def within(low_mm: float, high_mm: float) -> FloatArray:
        return np.asarray(ndtr((depth - low_mm) / BLUR_MM) - ndtr((depth - high_mm) / BLUR_MM))

    bone = 1160.0 * within(0.0, THICK_MM) - (1200.0 - diploe_hu) * within(TABLE_MM, THICK_MM - TABLE_MM)
    noise = np.random.default_rng(4).normal(0.0, 15.0, bone.shape)
    hu = np.round(40.0 + bone * ndtr(-beyond / BLUR_MM) + noise).astype(np.int16)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = (x[0], y[0], z[0])
    grid = cropped(hu, affine, np.array([[0, n] for n in hu.shape]))
    found = surface(edge_field(filled(packed_above(grid.hu, 200.0), grid), grid, in_tissue=True), grid.affine).vertices_mm
    found = found[(np.abs(found[:, 1]) < 5.0) & (np.abs(found[:, 0]) < 6.0)]
    away = WALL_X_MM - found[:, 0] * np.cos(angle) - found[:, 1] * np.sin(angle)
    return np.stack([THICK_MM / 2 - found[:, 2], away], axis=1)[np.abs(away) < 1.5]


@pytest.mark.parametrize("spacing_mm", [(0.45, 0.45, 1.0), (0.9, 0.9, 0.9)])
@pytest.mark.parametrize("angle_deg", [0.0, 25.0])
@pytest.mark.parametrize("diploe_hu", [350.0, 500.0, 1200.0])
def test_the_wall_of_a_cut_is_flat_from_table_to_table(
    spacing_mm: tuple[float, float, float], angle_deg: float, diploe_hu: float
) -> None:
    depth, away = wall_mm(spacing_mm, diploe_hu, angle_deg).T
    inside = (depth > 1.0) & (depth < THICK_MM - 1.0)
    assert inside.sum() > 50
    assert abs(np.median(away[inside])) <= 0.15
    middle = (depth > TABLE_MM + 1.0) & (depth < THICK_MM - TABLE_MM - 1.0)
    assert abs(np.median(away[middle])) <= 0.2  # half of the tables' step would put it 0.4 to 0.5 mm into the bone
    assert np.percentile(np.abs(away[inside]), 95) <= 0.35
