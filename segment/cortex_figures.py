"""What a scan says of itself before its cortex is fitted: noise and its correlation, the width of the blur, the cortex's value.

Noise comes from neighbours in homogeneous tissue. Blur and cortex come from fits with loose priors at some of the vertices: each
says how much it knows of both (a thick layer knows both well, a thin one hardly), and the figures are what all of them together
find most likely. To take the thick ones only would not do: of two layers alike, noise makes one look thick and weak.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, HuArray, Mesh
from batchone.segment.bone import METAL_HU, Grid, ScanFigures
from batchone.segment.cortex_fit import BLUR, CORTEX, OUTER
from batchone.segment.cortex_layers import Layers, Priors, fitted_layers, slice_normal
from batchone.segment.patches import Patches

FWHM_PER_SIGMA = 2.354820045  # full width at half maximum of a Gaussian over its standard deviation
SAMPLE = 3000  # vertices looked at: the figures are then sure to 1 %
BLUR_GUESS_MM, CORTEX_GUESS_HU = 0.42, 1200.0  # FWHM 1 mm, and usual cortex: where the search begins
GUESS_SPREAD = (0.15, 0.4)  # share, one deviation of both guesses: osteoporotic to dense cortex, smooth to sharp kernels
LOOSE = ((0.25, 0.5), (0.25, 0.25), (0.15, 0.15), (0.1, 0.1))  # spread of cortex and blur about the figures, by rounds, shares:
#                  first all kernels for bone and osteoporotic to dense cortex, then what the last round left open; numerical
STEP_HU = 300.0  # HU: a weaker edge says little of the blur
CLEAR_MISFIT = 4.0  # times the median misfit: a place that the model does not describe; numerical
OVERLAP = 10.0  # vertices that see the same voxels: an area of 1.5 mm2 each, 7 vertices per mm2
TRUSTED = 0.3  # share of its own in the cortex's value up to which a place is not asked for it: a layer thinner than the blur
FEW = 0.15  # mean trust under which the trusted places are the odd ones of a thin bone (noise makes some look thick and weak)
THIN_UNSURE = 0.1  # share, one deviation of the cortex's value where no place knows it: 15 % off in the thinnest bone tried
MOST_STEP = 0.15  # share that a round may move it by: a first round from far away overshoots; numerical
MOST_UNSURE = 0.08  # share, one deviation of the cortex's value over the whole scan up to which it counts as measured
CORTEX_SPREAD = 0.08  # share, least spread of the cortex's value from place to place: cortex varies by about 8 %
BLUR_SPREAD = 0.3  # share, spread of the blur's width: no kernel is a Gaussian, and where the scan's figure is wrong by 30 % the
#                     places' own fits still find it; at 0.06 they do not (coverage 0.60 to 0.92); it costs 3 % of RMS
CORTEX_RANGE_HU, BLUR_RANGE_MM = (500.0, 2200.0), (0.12, 1.5)  # HU: plastic to enamel; mm: beyond any CT. Never reached by bone
SURE, LEAST_SURE = 0.7, 100  # a place's own share in its value from which it shows how values vary, and how many show it
ALIKE = 0.02  # share of the places' weight that holds the blur along the slices' normal to that across; numerical
LAGS = 3  # voxels: noise of a CT is not correlated further
CALM_SPREADS = 4.0  # deviations of the noise about soft tissue that are homogeneous tissue
_LEAST_PAIRS, _MOST_PAIRS = 3000, 100_000  # numerical: the deviation is then sure to 2 and to 0.3 %


@dataclass(frozen=True, slots=True)
class CortexFigures:
    """Noise (HU, one standard deviation of a voxel), how many voxels make one independent one, how unsure the cortex's value and
    the blur's width of the whole scan are (share, one standard deviation), and the priors of each place that follow."""

    noise_hu: float
    correlation: float
    unsure: tuple[float, float]
    priors: Priors


def noise_correlation(hu: HuArray, low_hu: float, high_hu: float) -> tuple[float, float]:
    """Noise (HU, one deviation of a voxel) and how many voxels count as one, from differences within homogeneous tissue.

    Both voxels of a pair, and those around it, lie in the range; zero noise when there are too few.
    """
    tissue = (hu > low_hu) & (hu < high_hu)
    calm = tissue.copy()
    for axis in range(3):
        calm[_cut(axis, 1, None)] &= tissue[_cut(axis, None, -1)]
        calm[_cut(axis, None, -1)] &= tissue[_cut(axis, 1, None)]
    spread = np.array([[_pair_spread(hu, calm, axis, lag) for lag in range(1, LAGS + 2)] for axis in range(3)])
    if not np.any(spread[:, LAGS] > 0.0):
        return 0.0, 1.0
    variance = float(np.nanmedian(np.where(spread[:, LAGS] > 0.0, spread[:, LAGS], np.nan)) / 2.0)
    related = np.clip(1.0 - spread[:, :LAGS] / (2.0 * variance), 0.0, 1.0)
    related[spread[:, :LAGS] <= 0.0] = 0.0
    return float(np.sqrt(variance)), float(np.prod(1.0 + 2.0 * related.sum(axis=1)))


def _cut(axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    return tuple(slice(start, stop) if n == axis else slice(None) for n in range(3))


def _pair_spread(hu: HuArray, calm: npt.NDArray[np.bool_], axis: int, lag: int) -> float:
    """Robust variance of the difference of voxels ``lag`` apart, HU^2."""
    if hu.shape[axis] <= lag:
        return 0.0
    low, high = _cut(axis, None, -lag), _cut(axis, lag, None)
    both = calm[low] & calm[high]
    if int(both.sum()) < _LEAST_PAIRS:
        return 0.0
    difference = (hu[high][both].astype(np.float64) - hu[low][both])[:: max(1, int(both.sum()) // _MOST_PAIRS)]
    return float((1.4826 * np.median(np.abs(difference))) ** 2)


def cortex_figures(
    mesh: Mesh, vertices: npt.NDArray[np.int64], shape: Patches, grid: Grid, figures: ScanFigures
) -> CortexFigures:
    """Measure noise, blur and cortex around some vertices, whose ``shape`` holds a row for each."""
    reach = CALM_SPREADS * figures.noise_hu
    noise_hu, correlation = noise_correlation(grid.hu, figures.soft_hu - reach, figures.soft_hu + reach)
    if noise_hu == 0.0:  # a dry bone
        noise_hu, correlation = noise_correlation(grid.hu, figures.threshold_hu, float(METAL_HU))
    noise_hu = noise_hu or figures.noise_hu
    step = max(1, len(vertices) // SAMPLE)
    some, rows = np.ascontiguousarray(vertices[::step]), shape.at(slice(None, None, step))
    priors = Priors(noise_hu * float(np.sqrt(correlation)), CORTEX_GUESS_HU, 0.0, (BLUR_GUESS_MM, BLUR_GUESS_MM), 0.0)
    spread, unsure = 0.0, GUESS_SPREAD
    for cortex_loose, blur_loose in LOOSE:
        priors = replace(priors, cortex_spread_hu=cortex_loose * priors.cortex_hu, blur_spread=blur_loose)
        layers = fitted_layers(mesh, some, rows, grid, priors)
        priors, seen, unsure = _together(layers, rows, grid, priors)
        spread = max(seen, spread) if blur_loose < LOOSE[0][1] else 0.0  # not the first round's: its blur was a guess
    spread_hu = float(np.hypot(max(spread, CORTEX_SPREAD), unsure[0])) * priors.cortex_hu
    blur_spread = float(np.hypot(BLUR_SPREAD, unsure[1]))
    return CortexFigures(noise_hu, correlation, unsure, replace(priors, cortex_spread_hu=spread_hu, blur_spread=blur_spread))


def _together(layers: Layers, shape: Patches, grid: Grid, priors: Priors) -> tuple[Priors, float, tuple[float, float]]:
    """The cortex's value and the blur that make the places most likely: one step to the maximum of their marginal likelihood.

    Returns the priors with both, the cortex's spread from place to place, and how unsure both are (shares).
    """
    x = layers.unknowns
    clear = np.isfinite(layers.variance_mm2) & (x[:, CORTEX] - x[:, OUTER] > STEP_HU)
    clear &= layers.misfit < CLEAR_MISFIT * np.median(layers.misfit[clear]) if clear.any() else clear
    precision = np.array([priors.cortex_spread_hu, priors.blur_spread]) ** -2.0
    known = np.eye(2) - layers.covariance[clear] * precision  # a place's own share in what its fit says
    off = np.stack([x[clear, CORTEX] - priors.cortex_hu, x[clear, BLUR]], axis=1)
    along = (shape.normal[clear] @ slice_normal(grid)) ** 2
    trust = _trust(known[:, 0, 0], priors.cortex_spread_hu / priors.cortex_hu)
    root = np.sqrt(trust)
    parts = np.zeros((len(off), 2, 3))  # of a place's cortex and blur: cortex, blur across, blur along
    parts[:, 0, 0], parts[:, 1, 1], parts[:, 1, 2] = root, 1.0 - along, along
    weighted = precision[:, None] * parts / OVERLAP
    matrix = np.einsum("nai,nab,nbj->ij", weighted, known, parts)
    right = np.einsum("nai,na->i", weighted, off * np.stack([root, np.ones(len(root))], axis=1))
    alike = ALIKE * (matrix[1, 1] + matrix[2, 2]) * np.array([[0.0, 0.0, 0.0], [0.0, 1.0, -1.0], [0.0, -1.0, 1.0]])
    guess = np.array([GUESS_SPREAD[0] * CORTEX_GUESS_HU, GUESS_SPREAD[1], GUESS_SPREAD[1]]) ** -2.0
    held = [CORTEX_GUESS_HU - priors.cortex_hu, *(np.log(BLUR_GUESS_MM / old) for old in priors.blur_mm)]
    inverse = np.linalg.inv(matrix + alike + np.diag(guess))
    move = inverse @ (right + guess * np.array(held))
    step_hu = float(np.clip(move[0], -MOST_STEP * priors.cortex_hu, MOST_STEP * priors.cortex_hu))
    cortex_hu = float(np.clip(priors.cortex_hu + step_hu, *CORTEX_RANGE_HU))
    voxel = float(np.mean(np.array(grid.spacing_mm) ** 2)) / 12.0
    across, upward = (
        float(np.clip(np.sqrt(max((old**2 + voxel) * np.exp(2.0 * step) - voxel, 0.0)), *BLUR_RANGE_MM))
        for old, step in zip(priors.blur_mm, move[1:], strict=True)
    )
    spread = _spread(off[:, 0] - move[0], known[:, 0, 0], layers.covariance[clear, 0, 0]) / cortex_hu
    thin = THIN_UNSURE * (1.0 - float(trust.mean() if len(trust) else 0.0))
    unsure = (max(float(np.sqrt(inverse[0, 0])) / cortex_hu, thin), float(np.sqrt(inverse[1, 1])))
    return replace(priors, cortex_hu=cortex_hu, blur_mm=(across, upward)), spread, unsure


def _trust(known: FloatArray, spread: float) -> FloatArray:
    """How far places are asked for the cortex's value, 0 to 1, from their own share in it under a prior of that spread.

    A thin layer knows little of it, and that little suffers most from what the model lacks: many of them agree on a wrong value.
    Where nearly all are thin, the rest is not asked either.
    """
    own = np.clip(known, 1e-6, 1.0 - 1e-6)
    share = 1.0 / (1.0 + (1.0 - own) / own * (spread / LOOSE[0][0]) ** 2)  # as if under the widest prior
    trust = np.clip((share - TRUSTED) / (1.0 - TRUSTED), 0.0, 1.0)
    return np.asarray(trust * min(float(trust.mean()) / FEW if len(trust) else 0.0, 1.0) ** 2)


def _spread(off: FloatArray, known: FloatArray, variance: FloatArray) -> float:
    """Standard deviation of a value from place to place, without the fits' own uncertainty, from the places that know it."""
    sure = known > SURE
    if sure.sum() < LEAST_SURE:
        return 0.0
    own = (off[sure] / known[sure]) ** 2 - variance[sure] / known[sure]
    return float(np.sqrt(max(float(np.mean(own)), 0.0)))
