"""From a label to a bone's surface."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import Finding, FloatArray, Mesh, Scan, moved_points
from batchone.segment.backends.separated import Separated
from batchone.segment.bits import Words, ball, counted, dilated, packed_above
from batchone.segment.bone import AIR_HU, Grid, ScanFigures, cropped, filled, without_islands
from batchone.segment.cortex import cortex_surface
from batchone.segment.label_map import Label, packed_labels
from batchone.segment.neighbours import barred, territories
from batchone.segment.refine import BAND_MM, refined
from batchone.segment.separate import SKIN_MM
from batchone.segment.surface import FAR_HU, SHELL_MM, STEPS, edge_field, surface
from batchone.segment.uncertainty import MAX_SIGMA_MM, surface_sigma_mm

BESIDE_MM = 1.0  # mm to another bone's voxels, within which a vertex is not fitted; project default, unverified
CUT_MM = 0.5  # mm, one standard deviation there: a cut is not where values have an edge; project default, unverified
MARGIN_MM = 3.0  # round a label: more than the surface's shell and the ball of its level
COARSE_MM = 2.0  # from voxels of this size on, values tell no bone from its neighbours: the label says what is inside; default
IN_TISSUE = 0.5  # less of the bone's surroundings than this is air: a patient, not a dry skull

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The surface of a bone, its uncertainty per vertex (mm), the volume of the voxels it was made from, and what was found."""

    mesh: Mesh
    sigma_mm: FloatArray
    mask_mm3: float
    findings: tuple[Finding, ...] = ()


def shape_of(
    label: Label, box: npt.NDArray[np.int64], separated: Separated, scan: Scan, figures: ScanFigures, *, touched: bool = False
) -> Shape:
    """The surface of one label where the grey values have the bone's edge, kept apart from the other labels.

    Parameters
    ----------
    label
        Which.
    box
        (3, 2) half-open index box of its voxels along (slice, row, column).
    separated, scan, figures
        The labels, the grey values, and the figures of these.
    touched
        A device touches the bone's face: its vertices are placed by the fitted cortex, but for those at another bone.

    Raises
    ------
    SegmentationError
        There is no closed surface.
    """
    # a label that is not sharp may be shifted by the band, and grow by it again voxel by voxel: still away from the grid's sides
    margin_mm = MARGIN_MM if separated.sharp else MARGIN_MM + 2.0 * max(BAND_MM, *scan.spacing_mm)
    grid = cropped(scan.hu, scan.affine, box, margin_mm)
    voxels = separated.map.voxels
    own = packed_labels(voxels, (label.value,), grid.first, grid.hu.shape)
    rest = tuple(other.value for other in separated.map.labels if other.value != label.value)
    others = packed_labels(voxels, rest, grid.first, grid.hu.shape)
    bar, theirs = territories(own, others, grid, max(SHELL_MM, BAND_MM, *grid.spacing_mm)) if np.any(others) else (others, others)
    if not separated.sharp:
        own = refined(own, bar, grid)
    solid = filled(own, grid) & ~bar
    exposure = dict(separated.exposure).get(label.value)
    if exposure is None:
        exposure = _exposure(solid, others, grid)
    reach_mm = max(SHELL_MM, *grid.spacing_mm) if separated.sharp or max(grid.spacing_mm) < COARSE_MM else 0.0
    field = edge_field(solid, grid, in_tissue=exposure < IN_TISSUE, reach_mm=reach_mm, every_row=touched)
    if np.any(others):
        far = FAR_HU * STEPS
        field = without_islands(barred(field, bar, theirs, grid, far), grid, far)
    mesh = surface(field, grid.affine)
    mask_mm3 = counted(solid) * grid.voxel_mm3
    if not touched:
        return Shape(mesh, surface_sigma_mm(mesh, grid, figures.noise_hu), mask_mm3)
    clock = time.perf_counter()
    beside = _beside(others, mesh, grid)
    mesh, sigma_mm, findings = cortex_surface(mesh, grid, figures, ~beside)
    sigma_mm[beside] = np.minimum(np.hypot(sigma_mm[beside], CUT_MM), MAX_SIGMA_MM)
    _log.info("%s: cortex fitted at %d vertices in %.2f s", label.title, np.sum(~beside), time.perf_counter() - clock)
    return Shape(mesh, sigma_mm, mask_mm3, findings)


def _beside(others: Words, mesh: Mesh, grid: Grid) -> npt.NDArray[np.bool_]:
    """Which vertices lie at another bone: where two were parted, there may be no cortex."""
    near = dilated(others, grid.columns, ball(BESIDE_MM, grid.spacing_mm))
    index = np.rint(moved_points(np.linalg.inv(grid.affine).astype(np.float64), mesh.vertices_mm)).astype(np.int64)
    x, y, z = np.clip(index, 0, np.array(grid.hu.shape[::-1]) - 1).T
    return np.asarray((near[z, y, x >> 6] >> (x & 63).astype(np.uint64)) & np.uint64(1) != 0)


def _exposure(solid: Words, others: Words, grid: Grid) -> float:
    """Share of the surroundings that is air."""
    around = dilated(solid, grid.columns, ball(SKIN_MM, grid.spacing_mm)) & ~solid & ~others
    count = counted(around)
    tissue = counted(around & packed_above(grid.hu, AIR_HU))
    return (count - tissue) / max(1, count)
