"""Labels that are off come back to the bone's edge, wherever in the voxels it lies."""

from __future__ import annotations

import numpy as np
import pytest
import test_segment as known

from batchone.pipeline.values import Label, moved_points
from batchone.segment.backends.separated import Separated
from batchone.segment.bone import scan_figures
from batchone.segment.label_map import LabelMap, compact, measured
from batchone.segment.shapes import shape_of


@pytest.mark.parametrize("inside_hu", [1000.0, 450.0])
@pytest.mark.parametrize("off_mm", [-1.5, -0.7, 0.0, 0.7, 1.5])
@pytest.mark.parametrize(
    ("spacing_mm", "rms_mm"), [((0.5, 0.5, 0.5), 0.04), ((0.7, 0.7, 1.0), 0.05), ((1.25, 1.25, 1.25), 0.1)], ids=str
)
def test_a_ball_has_the_same_surface_from_labels_that_are_too_small_and_too_large(
    spacing_mm: tuple[float, float, float], rms_mm: float, off_mm: float, inside_hu: float
) -> None:
    hu, affine = known.ball_scan(spacing_mm, np.eye(4), inside=inside_hu, noise_hu=15.0)
    scan = known.scanned(hu, affine)
    k, j, i = np.indices(hu.shape).reshape(3, -1)
    points = moved_points(affine, np.stack([i, j, k], axis=1).astype(np.float64))
    radius_mm = np.linalg.norm(points - known.CENTRE_MM, axis=1).reshape(hu.shape)
    label = Label(1, "tibia", "left", True, 1.0)
    given = LabelMap((radius_mm < known.RADIUS_MM + off_mm).astype(np.uint8), affine, (label,))
    shape = shape_of(label, measured(compact(given))[1][1], Separated(given, "test"), scan, scan_figures(hu))
    error_mm = np.linalg.norm(shape.mesh.vertices_mm - known.CENTRE_MM, axis=1) - known.RADIUS_MM
    assert abs(error_mm.mean()) <= 0.05
    assert np.sqrt(np.mean(error_mm**2)) <= rms_mm


def test_a_label_beyond_the_band_stays_what_it_is() -> None:
    """A person may leave half of a bone out: nothing grows back."""
    hu, affine = known.ball_scan((1.0, 1.0, 1.0), np.eye(4))
    scan = known.scanned(hu, affine)
    k, j, i = np.indices(hu.shape).reshape(3, -1)
    points = moved_points(affine, np.stack([i, j, k], axis=1).astype(np.float64)).reshape(*hu.shape, 3)
    radius_mm = np.linalg.norm(points - known.CENTRE_MM, axis=-1)
    half = (radius_mm < known.RADIUS_MM) & (points[..., 2] < known.CENTRE_MM[2])
    label = Label(1, "tibia", "left", True, 1.0)
    given = LabelMap(half.astype(np.uint8), affine, (label,))
    shape = shape_of(label, measured(compact(given))[1][1], Separated(given, "test"), scan, scan_figures(hu))
    top = shape.mesh.vertices_mm[:, 2].max() - known.CENTRE_MM[2]
    assert top <= 4.5  # the band of 1.5 mm, twice (the whole label's shift, then single voxels), and the surface's own millimetre
