"""The surface of a bone where a device touches: each vertex is placed by a model of the cortex fitted to the grey values.

Along its normal a vertex sees what lies outside, a layer of cortex, and marrow, all blurred by the scanner. Where cortex is
thinner than the blur, its peak is lowered, and every rule that looks at levels alone puts the surface too far out (by 0.1 to
0.4 mm). So the layers themselves are fitted: place, thickness, the three values, and the blur's width, each held near what the
scan as a whole says by a Gaussian prior. Nothing is told: noise, blur and cortex are measured in the scan first.

The values come from the voxels of a tube around the normal, sorted by their depth below the curved surface; so there is no
interpolation, thick slices count for what they are, and the fit's own covariance says how sure the place is. A blurred edge
that is curved lies towards the centre of its curve; that is put back. At last each vertex moves towards the paraboloid that
fits its neighbours, as far as the difference can be noise: this follows curves, so nothing shrinks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh, judge, moved_points
from batchone.segment.bone import Grid, ScanFigures
from batchone.segment.cortex_figures import FWHM_PER_SIGMA, MOST_UNSURE, CortexFigures, cortex_figures
from batchone.segment.cortex_fit import BLUR, PLACE
from batchone.segment.cortex_layers import PATCH_MM, Layers, fitted_layers, shapes
from batchone.segment.patches import Patches, patches, vertex_normals
from batchone.segment.uncertainty import MAX_SIGMA_MM, surface_sigma_mm

Mask = npt.NDArray[np.bool_]

MOST_MOVED_MM = 1.2  # mm from the start: further off, the fit has found another edge; the start is within 0.5 mm
EDGE_OF_SCAN_MM = 1.0  # mm: nearer to the scan's end there is no outside to see
FADE_MM = 2.0  # mm: from the edge of the region on, over which the surface passes from one rule to the other
NOISE_SHARE = 0.8  # of the fit's standard deviation; calibrated
FLOOR_MM = 0.014  # mm, what no model sees: cortex is no perfect layer, the blur no Gaussian; calibrated
SHIFT_SHARE = 0.8  # of the shift of a curved edge: no bone is a paraboloid where it is that curved; calibrated
CREASED = 1.0  # times the residual of the narrow paraboloid on a crease; calibrated
SMOOTHED = 0.5  # of the variance from noise that is left after moving to the paraboloid all the way; measured
MISFIT = 1.0  # misfit from which the variance grows with it: five times the usual one, for voxels are counted as correlated
RESIDUAL_NOISE = 0.3  # of a vertex's variance seen in the residual of its neighbours: their tubes overlap; measured
SPIKE_MM = 0.25  # mm: a vertex that moves so much further than its neighbours is a spike: they are 0.3 mm away
ROUNDS = 6  # numerical: of taking spikes back and unfolding; three have been enough
HALF_LEVEL_MM = 0.15  # mm, one standard deviation where only the start is left: half the values' step, 0.1 mm off in thin cortex
LEAST_FITTED = 0.7  # share of vertices with a fit, below which a person should look; project default
_DEFAULT = "project default, unverified"


def cortex_surface(
    mesh: Mesh, grid: Grid, figures: ScanFigures, region: Mask, *, told: CortexFigures | None = None
) -> tuple[Mesh, FloatArray, tuple[Finding, ...]]:
    """Place the vertices of a region by the fitted cortex.

    Parameters
    ----------
    mesh
        The surface by the half level, LPS mm.
    grid
        The values it was taken from.
    figures
        Of the scan.
    region
        (n,) which vertices are to be fitted.
    told
        Blur, noise and cortex, where they are known better than the scan shows them; measured when absent.

    Returns
    -------
    tuple
        The surface with the same triangles; (n,) one standard deviation along the normal, mm, outside of the region by the
        slope of the values; findings.
    """
    sigma_mm = surface_sigma_mm(mesh, grid, figures.noise_hu)
    normals = vertex_normals(mesh.vertices_mm, mesh.faces)
    vertices = np.flatnonzero(region & seen(mesh, grid)).astype(np.int64)
    if len(vertices) == 0:
        return mesh, sigma_mm, (judge("cortex_fitted", "vertices of the region that the cortex model has placed", 0.0, "%"),)
    shape = shapes(mesh, vertices, normals)
    measured = told or cortex_figures(mesh, vertices, shape, grid, figures)
    layers = fitted_layers(mesh, vertices, shape, grid, measured.priors)
    offset_mm = _offset_mm(layers, shape)
    fitted = np.isfinite(layers.variance_mm2) & (np.abs(offset_mm) <= MOST_MOVED_MM)
    offset_mm = np.where(fitted, offset_mm, 0.0)
    points = mesh.vertices_mm.copy()
    points[vertices] += shape.normal * offset_mm[:, None]
    normals[vertices] = shape.normal
    after_mm, left_mm2 = _smoothed(Mesh(points, mesh.faces), vertices, normals, layers, fitted)
    fade = _fade(mesh, vertices)
    moved_mm = fade * (offset_mm + after_mm)
    own_mm = np.where(fitted, _sigma_mm(left_mm2, layers, shape), np.hypot(sigma_mm[vertices], HALF_LEVEL_MM))
    own_mm = np.hypot(own_mm, (1.0 - fade) * np.abs(offset_mm + after_mm))
    moves = np.zeros_like(mesh.vertices_mm)
    moves[vertices] = shape.normal * moved_mm[:, None]
    odd = _together(moves, mesh, vertices)
    points = mesh.vertices_mm + moves
    odd |= _unfolded(points, mesh, region)
    sigma_mm[vertices] = np.minimum(own_mm, MAX_SIGMA_MM)
    sigma_mm[odd] = np.hypot(sigma_mm[odd], HALF_LEVEL_MM)
    return Mesh(points, mesh.faces), sigma_mm, _findings(measured, fitted, moved_mm, sigma_mm[vertices])


def seen(mesh: Mesh, grid: Grid) -> Mask:
    """(n,) vertices that lie far enough within the scan: where it ends it cuts a bone, and no cortex is there."""
    index = moved_points(np.linalg.inv(grid.affine).astype(np.float64), mesh.vertices_mm)
    margin = EDGE_OF_SCAN_MM / np.array(grid.spacing_mm)
    inside = grid.inside[::-1].astype(np.float64)  # column, row, slice
    return np.asarray(np.all((index >= inside[:, 0] + margin) & (index <= inside[:, 1] - 1.0 - margin), axis=1))


def _offset_mm(layers: Layers, shape: Patches) -> FloatArray:
    """Place along the normal, with the shift of a blurred edge on a curved surface put back."""
    return np.asarray(layers.unknowns[:, PLACE] + _shift_mm(layers, shape))


def _shift_mm(layers: Layers, shape: Patches) -> FloatArray:
    """How far a blurred edge lies inside of a convex surface: variance of the blur times mean curvature."""
    blur_mm2 = (layers.sigma_mm * np.exp(layers.unknowns[:, BLUR])) ** 2
    return np.asarray(blur_mm2 * -0.5 * (shape.bend[:, 0] + shape.bend[:, 2]))


def _sigma_mm(left_mm2: FloatArray, layers: Layers, shape: Patches) -> FloatArray:
    """Standard deviation of a fitted place: what the fit leaves, what the curve leaves, and the floor."""
    curved_mm2 = (SHIFT_SHARE * _shift_mm(layers, shape)) ** 2
    creased_mm2 = np.where(shape.radius_mm < PATCH_MM, (CREASED * np.nan_to_num(shape.residual_mm)) ** 2, 0.0)
    return np.asarray(np.sqrt(NOISE_SHARE**2 * left_mm2 + curved_mm2 + creased_mm2 + FLOOR_MM**2))


def _smoothed(
    placed: Mesh, vertices: npt.NDArray[np.int64], normals: FloatArray, layers: Layers, fitted: Mask
) -> tuple[FloatArray, FloatArray]:
    """How far each vertex moves on to its neighbours' paraboloid, mm, and the variance that the fit leaves then, mm2."""
    variance = np.where(fitted, layers.variance_mm2, 1.0) * np.maximum(np.nan_to_num(layers.misfit) / MISFIT, 1.0)
    weight = np.zeros(len(placed.vertices_mm))
    weight[vertices[fitted]] = 1.0 / (variance[fitted] + FLOOR_MM**2)
    near = patches(placed, vertices, radius_mm=PATCH_MM, normals=normals, weight=weight)
    known = np.isfinite(near.residual_mm)
    misfit = np.maximum(np.nan_to_num(near.residual_mm) ** 2 - RESIDUAL_NOISE * variance, 0.0)  # what noise does not explain
    share = np.where(known, variance / (variance + misfit), 0.0)
    share = np.where(known & ~fitted, 1.0, share)
    noise = np.maximum(variance - np.nan_to_num(layers.held_mm2), 0.0)
    return share * np.nan_to_num(near.height_mm), variance - noise * share * (1.0 - SMOOTHED)


def _fade(mesh: Mesh, vertices: npt.NDArray[np.int64]) -> FloatArray:
    """0 at the edge of the region to 1 well within it; 1 everywhere where the region has no edge."""
    inside = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    inside[vertices] = True
    held = inside[mesh.faces]
    border = np.unique(mesh.faces[held.any(axis=1) & ~held.all(axis=1)])
    border = border[~inside[border]]
    if len(border) == 0:
        return np.ones(len(vertices))
    distance_mm, _ = cKDTree(mesh.vertices_mm[border]).query(mesh.vertices_mm[vertices], distance_upper_bound=FADE_MM)
    return np.asarray(np.minimum(distance_mm / FADE_MM, 1.0))


def _together(moves: FloatArray, mesh: Mesh, vertices: npt.NDArray[np.int64]) -> Mask:
    """Let vertices that leave their neighbours behind, spikes, move as these do (in place); returns which."""
    inside = np.zeros(len(moves), dtype=np.bool_)
    inside[vertices] = True
    faces = mesh.faces[inside[mesh.faces].any(axis=1)]
    here, there = (faces[:, order].ravel() for order in ([0, 1, 2], [1, 2, 0]))  # closed: each edge once in each direction
    spikes = np.zeros(len(moves), dtype=np.bool_)
    for _ in range(ROUNDS):
        sound = ~spikes[there]
        count = np.bincount(here[sound], minlength=len(moves))
        total = np.stack([np.bincount(here[sound], moves[there[sound], n], minlength=len(moves)) for n in range(3)], axis=1)
        mean = total / np.maximum(count, 1)[:, None]
        apart = np.linalg.norm(moves - mean, axis=1) > SPIKE_MM
        wrong = inside & (count > 0) & (apart | spikes)
        moves[wrong] = mean[wrong]
        if not np.any(wrong & ~spikes):
            break
        spikes |= wrong
    return spikes


def _unfolded(points: FloatArray, mesh: Mesh, region: Mask) -> Mask:
    """Put vertices of triangles that were turned over back to where they were (in place); returns which."""
    faces = mesh.faces[region[mesh.faces].any(axis=1)]
    before = _face_normals(mesh.vertices_mm, faces)
    put_back = np.zeros(len(points), dtype=np.bool_)
    for _ in range(ROUNDS):
        over = np.einsum("ij,ij->i", before, _face_normals(points, faces)) < 0.0
        if not over.any():
            break
        put_back[faces[over]] = True
        points[put_back] = mesh.vertices_mm[put_back]
    return put_back


def _face_normals(points: FloatArray, faces: IntArray) -> FloatArray:
    corners = points[faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _findings(measured: CortexFigures, fitted: Mask, moved_mm: FloatArray, sigma_mm: FloatArray) -> tuple[Finding, ...]:
    """What the scan said of itself, and what became of the surface."""
    priors = measured.priors
    across, along = (FWHM_PER_SIGMA * blur for blur in priors.blur_mm)
    share, unsure = 100.0 * float(fitted.mean()), [100.0 * value for value in measured.unsure]
    look, scan = "look at the surface where the device touches", "the scan shows too little thick cortex: expect a wider bound"
    what, value = "vertices that the cortex model has placed", "cortex, estimated from the scan"
    return (
        judge("cortex_fitted", what, share, "%", low=100.0 * LEAST_FITTED, gate=False, hint=look, source=_DEFAULT),
        judge("cortex_value", value, priors.cortex_hu, "HU"),
        judge("cortex_value_sigma", "uncertainty of that value", unsure[0], "%", high=100.0 * MOST_UNSURE, gate=False, hint=scan,
              source=_DEFAULT),
        judge("blur_across", "full width of the scan's blur across the slices' normal", across, "mm"),
        judge("blur_along", "full width of the scan's blur along the slices' normal", along, "mm"),
        judge("blur_sigma", "uncertainty of these widths", unsure[1], "%", high=100.0 * MOST_UNSURE, gate=False, hint=scan,
              source=_DEFAULT),
        judge("noise_correlation", "voxels that count as one", measured.correlation, ""),
        judge("cortex_moved", "the model moved the surface, median", float(np.median(moved_mm)), "mm"),
        judge("cortex_sigma_p95", "uncertainty where it was fitted, 95 of 100 points", float(np.percentile(sigma_mm, 95)), "mm"),
    )  # fmt: skip
