"""Fitting the layers outside, cortex and marrow at vertices: what goes into the compiled fit, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, Mesh, moved_points
from batchone.segment import cortex_fit
from batchone.segment.bone import METAL_HU, Grid
from batchone.segment.patches import Patches, patches

INSIDE_MM = 4.0  # of the normal, past a cortex of 3 mm
OUTSIDE_BLURS, OUTSIDE_MM = 3.0, (1.2, 2.4)  # deviations of the blur, and mm: the whole edge, but not the next tissue (tried)
TUBE_SHARE = 0.4  # radius of the tube over the paraboloid's: 1 mm, about 12 voxels a layer of 0.5 mm; its bend is known there
SLICES_IN_TUBE = 0.8  # a tube is at least that many of the widest voxel distances in radius, so that no layer stays empty
PATCH_MM = 2.5  # radius of the paraboloid that gives normal and bend (tried: facts on the sub-voxel surface)
NARROW_MM = 1.5  # mm, the same on a crease: the rim of an end, a process
CREASE_MM, CREASES = 0.05, 2.0  # mm and times the usual residual from which the surface is creased; more is not noise
OUTSIDE_SPREAD_HU, MARROW_HU, MARROW_SPREAD_HU = 150.0, 250.0, 250.0  # HU, priors: fat to muscle, marrow from fat to dense
THICKNESS_MM, THICKNESS_SPREAD_MM = 1.5, 3.0  # mm, prior: hardly one; it only keeps a layer without marrow behind it finite
PLACE_SPREAD_MM = 1.0  # mm, prior: the start lies within 0.5 mm of the surface
DEEP_MM, DEEP_WEIGHT = 1.5, 0.5  # deeper than this, trabeculae are no noise: half weight (tried)
RISE_HU = 200.0  # HU: so much above the darkest outside is another bone, so much above the marrow the far wall


@dataclass(frozen=True, slots=True)
class Priors:
    """What the scan as a whole says, with one standard deviation of a single place's deviation from it.

    ``blur_mm`` is the standard deviation of the scanner's blur (across, along the slices' normal), without voxel averaging.
    """

    noise_hu: float
    cortex_hu: float
    cortex_spread_hu: float
    blur_mm: tuple[float, float]
    blur_spread: float


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Fitted layers, one row per vertex.

    Attributes
    ----------
    unknowns
        (n, 6): place along the normal (mm, outside positive), thickness (mm), outside, marrow, cortex (HU), logarithm of the
        blur over the prior's.
    variance_mm2
        (n,) of the place from the fit's covariance; not a number where there was no fit.
    held_mm2
        (n,) the part of that variance that comes from the priors: it is alike for neighbours, and smoothing leaves it.
    covariance
        (n, 2, 2) of cortex and blur.
    misfit
        (n,) weighted mean square residual near the edge, 1 when model and noise are right.
    sigma_mm
        (n,) blur and voxels along the normal, by the prior.
    """

    unknowns: FloatArray
    variance_mm2: FloatArray
    held_mm2: FloatArray
    covariance: FloatArray
    misfit: FloatArray
    sigma_mm: FloatArray


def slice_normal(grid: Grid) -> FloatArray:
    """Unit normal of the slices, LPS."""
    return np.asarray(grid.affine[:3, 2] / np.linalg.norm(grid.affine[:3, 2]), dtype=np.float64)


def voxel_variance_mm2(grid: Grid, normals: FloatArray) -> FloatArray:
    """(n,) variance that the averaging over a voxel adds along (n, 3) directions."""
    steps_mm = np.array(grid.spacing_mm)
    return np.asarray((normals @ (grid.affine[:3, :3] / steps_mm)) ** 2 @ (steps_mm**2 / 12.0))


def fitted_layers(mesh: Mesh, vertices: npt.NDArray[np.int64], shape: Patches, grid: Grid, priors: Priors) -> Layers:
    """Fit the layers at some vertices, whose ``shape`` holds a row for each."""
    along = (shape.normal @ slice_normal(grid)) ** 2
    blur = priors.blur_mm[0] ** 2 * (1.0 - along) + priors.blur_mm[1] ** 2 * along
    sigma_mm = np.sqrt(blur + voxel_variance_mm2(grid, shape.normal))
    centres = moved_points(np.linalg.inv(grid.affine).astype(np.float64), mesh.vertices_mm[vertices])
    expected = np.array([0.0, THICKNESS_MM, 0.0, MARROW_HU, priors.cortex_hu, 0.0])
    spread = [PLACE_SPREAD_MM, THICKNESS_SPREAD_MM, OUTSIDE_SPREAD_HU, MARROW_SPREAD_HU]
    precision = np.array([*spread, priors.cortex_spread_hu, priors.blur_spread]) ** -2.0
    radii_mm = np.maximum(TUBE_SHARE * shape.radius_mm, SLICES_IN_TUBE * max(grid.spacing_mm))
    outside_mm = float(np.clip(OUTSIDE_BLURS * max(priors.blur_mm), *OUTSIDE_MM))
    reach = np.array([INSIDE_MM, outside_mm, 0.0, float(METAL_HU)])
    figures = np.array([priors.noise_hu**2, RISE_HU, DEEP_MM, DEEP_WEIGHT])
    frames = np.ascontiguousarray(np.stack([shape.normal, shape.across, shape.beside, shape.bend], axis=1))
    to_mm, box = np.ascontiguousarray(grid.affine[:3, :3]), np.ascontiguousarray(grid.inside[::-1])
    out = np.empty((len(vertices), cortex_fit.RESULTS))
    cortex_fit.fit(
        grid.hu,
        to_mm,
        box,
        centres,
        frames,
        radii_mm,
        sigma_mm,
        expected,
        precision,
        reach,
        figures,
        cortex_fit.normal_table(),
        out,
    )
    covariance = out[:, [7, 9, 9, 8]].reshape(-1, 2, 2)
    return Layers(out[:, :6].copy(), out[:, 6].copy(), out[:, 11].copy(), covariance, out[:, 10].copy(), sigma_mm)


def shapes(mesh: Mesh, vertices: npt.NDArray[np.int64], normals: FloatArray) -> Patches:
    """The paraboloids that the fit needs: narrow ones where the surface is creased."""
    wide = patches(mesh, vertices, radius_mm=PATCH_MM, normals=normals)
    usual_mm = float(np.nanmedian(wide.residual_mm)) if np.isfinite(wide.residual_mm).any() else np.inf
    creased = np.flatnonzero(wide.residual_mm > max(CREASE_MM, CREASES * usual_mm))
    if len(creased):
        wide.put(creased, patches(mesh, vertices[creased], radius_mm=NARROW_MM, normals=normals))
    return wide
