"""The compiled part of the cortex fit: the model of the layers laid on the values of a tube, by Levenberg and Marquardt."""

from __future__ import annotations

import numba as nb
import numpy as np

from batchone.pipeline.values import FloatArray, HuArray
from batchone.segment.cholesky import factored, solve, substituted
from batchone.segment.tube import BINS, IndexArray, gathered, own_layers

UNKNOWNS = 6  # place, thickness, outside, marrow, cortex, logarithm of the blur over the scan's
PLACE, THICK, OUTER, MARROW, CORTEX, BLUR = range(UNKNOWNS)
TABLE_PER_SIGMA = 256  # numerical: the normal distribution is looked up; linear between entries is right to 2e-6
TABLE_SIGMAS = 6
RESULTS = UNKNOWNS + 6
ROUNDS_APART = 5  # numerical: of both starts, then it shows which one is better
ROUNDS = 14  # numerical: of that one; most vertices stop after 6 in all
LEAST_BINS = 4  # numerical: thick slices give few depths; the priors know the rest, and the covariance says how well
THIN_MM, THICK_MM = 0.8, 3.0  # the two starts: a layer thinner than the blur, and one with a plateau (tried)
NEAR_EDGE_MM = 1.0  # the misfit is judged this close to the edge: trabeculae and other tissue do not count
BEYOND_EDGE_MM = 0.3  # outside of the start, where the darkest value is that of the outside
STOP = 1e-3  # numerical: a round that lowers the cost by less than this share is the last

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_POINTS = nb.types.Array(nb.float64, 2, "C", readonly=True)
_VALUES = nb.types.Array(nb.float64, 1, "C", readonly=True)
_BOX = nb.types.Array(nb.int64, 2, "C", readonly=True)


def normal_table() -> FloatArray:
    """(entries, 2) distribution and density of the unit normal, every ``1 / TABLE_PER_SIGMA`` from ``-TABLE_SIGMAS``."""
    from scipy.special import ndtr

    z = np.arange(2 * TABLE_SIGMAS * TABLE_PER_SIGMA + 2) / TABLE_PER_SIGMA - TABLE_SIGMAS
    return np.ascontiguousarray(np.stack([ndtr(z), np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)], axis=1))


@nb.njit(nb.types.UniTuple(nb.float64, 2)(_POINTS, nb.float64), cache=True, nogil=True, inline="always")
def _normal(table: FloatArray, z: float) -> tuple[float, float]:
    place = (min(max(z, -5.999), 5.999) + TABLE_SIGMAS) * TABLE_PER_SIGMA
    i = int(place)
    t = place - i
    return table[i, 0] + t * (table[i + 1, 0] - table[i, 0]), table[i, 1] + t * (table[i + 1, 1] - table[i, 1])


@nb.njit(nb.float64(nb.float64[:, ::1], nb.int64, nb.int64, nb.int64), cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _product(rows: FloatArray, a: int, c: int, count: int) -> float:
    """Sum of the products of two rows; in any order, so that it is done several at a time."""
    total = 0.0
    for n in range(count):
        total += rows[a, n] * rows[c, n]
    return total


@nb.njit(
    nb.float64(nb.float64[:, ::1], nb.int64, nb.int64, nb.float64[::1], nb.float64, _VALUES, _VALUES, _POINTS,
               nb.float64[:, ::1], nb.float64[:, ::1], nb.float64[::1]),
    cache=True, nogil=True,
)  # fmt: skip
def _cost(
    bins: FloatArray,
    first: int,
    stop: int,
    x: FloatArray,
    sigma_mm: float,
    prior: FloatArray,
    precision: FloatArray,
    table: FloatArray,
    rows: FloatArray,
    matrix: FloatArray,
    right: FloatArray,
) -> float:
    """Half the weighted sum of squares and priors, and the normal equations (lower triangle).

    ``bins`` hold depth, HU, number of voxels and the root of the weight; ``rows`` (7, bins) is scratch:
    weighted derivatives by the unknowns, and at last the residuals."""
    per_sigma = 1.0 / (sigma_mm * np.exp(x[BLUR]))
    rise, fall = x[CORTEX] - x[OUTER], x[MARROW] - x[CORTEX]
    count = stop - first
    for n in range(count):
        depth, hu, weight = bins[first + n, 0], bins[first + n, 1], bins[first + n, 3]
        z1 = (x[PLACE] - depth) * per_sigma
        z2 = z1 - x[THICK] * per_sigma
        c1, d1 = _normal(table, z1)
        c2, d2 = _normal(table, z2)
        up, down = weight * rise * d1, weight * fall * d2
        rows[PLACE, n] = (up + down) * per_sigma
        rows[THICK, n] = -down * per_sigma
        rows[OUTER, n] = weight * (1.0 - c1)
        rows[MARROW, n] = weight * c2
        rows[CORTEX, n] = weight * (c1 - c2)
        rows[BLUR, n] = -up * z1 - down * z2
        rows[UNKNOWNS, n] = weight * (hu - (x[OUTER] + rise * c1 + fall * c2))
    total = _product(rows, UNKNOWNS, UNKNOWNS, count)
    for a in range(UNKNOWNS):
        for c in range(a + 1):
            matrix[a, c] = _product(rows, a, c, count)
        off = prior[a] - x[a]
        total += precision[a] * off * off
        right[a] = _product(rows, a, UNKNOWNS, count) + precision[a] * off
        matrix[a, a] += precision[a]
    return 0.5 * total


@nb.njit(
    nb.float64(nb.float64[:, ::1], nb.int64, nb.int64, nb.float64[::1], nb.float64, _VALUES, _VALUES, _POINTS,
               nb.float64[:, ::1], nb.float64[:, ::1], nb.int64),
    cache=True, nogil=True,
)  # fmt: skip
def _descended(
    bins: FloatArray,
    first: int,
    stop: int,
    x: FloatArray,
    sigma_mm: float,
    prior: FloatArray,
    precision: FloatArray,
    table: FloatArray,
    rows: FloatArray,
    matrix: FloatArray,
    rounds: int,
) -> float:
    """Levenberg-Marquardt in place; returns the cost."""
    right, trial, damped, step = np.empty(UNKNOWNS), np.empty(UNKNOWNS), np.empty((UNKNOWNS, UNKNOWNS)), np.empty(UNKNOWNS)
    damping = 1e-2
    cost = _cost(bins, first, stop, x, sigma_mm, prior, precision, table, rows, matrix, right)
    for _ in range(rounds):
        for a in range(UNKNOWNS):
            step[a] = right[a]
            for c in range(a + 1):
                damped[a, c] = matrix[a, c]
            damped[a, a] = matrix[a, a] * (1.0 + damping)
        if not solve(damped, step, UNKNOWNS):
            damping *= 10.0
            continue
        for a in range(UNKNOWNS):
            trial[a] = x[a] + step[a]
        trial[PLACE] = min(max(trial[PLACE], -2.5), 1.5)
        trial[THICK] = min(max(trial[THICK], 0.1), 6.0)
        trial[BLUR] = min(max(trial[BLUR], -1.0), 1.0)
        found = _cost(bins, first, stop, trial, sigma_mm, prior, precision, table, rows, damped, step)
        if found < cost:
            gain = cost - found
            x[:], matrix[:], right[:] = trial, damped, step
            damping *= 0.2
            cost = found
            if gain < STOP * cost:
                break
        else:
            damping *= 6.0
            if damping > 1e6:
                break
    return cost


@nb.njit(
    nb.float64(nb.float64[:, ::1], nb.int64, nb.int64, nb.float64[::1], nb.float64, _POINTS, nb.float64), cache=True, nogil=True,
)  # fmt: skip
def _misfit(bins: FloatArray, first: int, stop: int, x: FloatArray, sigma_mm: float, table: FloatArray, noise2: float) -> float:
    """Weighted mean square residual within ``NEAR_EDGE_MM`` of the place."""
    sigma = sigma_mm * np.exp(x[BLUR])
    square, counted = 0.0, 0
    for b in range(first, stop):
        if abs(bins[b, 0] - x[PLACE]) < NEAR_EDGE_MM:
            c1, _ = _normal(table, (x[PLACE] - bins[b, 0]) / sigma)
            c2, _ = _normal(table, (x[PLACE] - x[THICK] - bins[b, 0]) / sigma)
            off = bins[b, 1] - (x[OUTER] + (x[CORTEX] - x[OUTER]) * c1 + (x[MARROW] - x[CORTEX]) * c2)
            square += bins[b, 2] / noise2 * off * off
            counted += 1
    return square / max(counted, 1)


@nb.njit(
    nb.void(nb.float64[:, ::1], nb.int64, nb.int64, nb.float64, _VALUES, _VALUES, _POINTS, nb.float64, nb.float64[::1]),
    cache=True, nogil=True,
)  # fmt: skip
def _best(
    bins: FloatArray,
    first: int,
    stop: int,
    sigma_mm: float,
    expected: FloatArray,
    precision: FloatArray,
    table: FloatArray,
    noise2: float,
    out: FloatArray,
) -> None:
    """Fit from a thin and from a thick layer, and go on with the better one."""
    start, prior = np.empty(UNKNOWNS), expected.copy()
    rows, matrix = np.empty((UNKNOWNS + 1, BINS)), np.empty((UNKNOWNS, UNKNOWNS))
    low = 1e9
    for b in range(first, stop):
        if bins[b, 0] > BEYOND_EDGE_MM:
            low = min(low, bins[b, 1])
    prior[OUTER] = low if low < 1e8 else prior[OUTER]
    lowest = 1e300
    for thickness in (THIN_MM, THICK_MM):
        start[:] = prior
        start[PLACE], start[THICK], start[MARROW] = 0.0, thickness, min(bins[first, 1], prior[CORTEX])
        cost = _descended(bins, first, stop, start, sigma_mm, prior, precision, table, rows, matrix, ROUNDS_APART)
        if cost < lowest:
            lowest = cost
            out[:UNKNOWNS] = start
    start[:] = out[:UNKNOWNS]
    _descended(bins, first, stop, start, sigma_mm, prior, precision, table, rows, matrix, ROUNDS)
    out[:UNKNOWNS] = start
    out[10] = _misfit(bins, first, stop, out, sigma_mm, table, noise2)
    if not factored(matrix, UNKNOWNS):
        return
    for e, column in enumerate((PLACE, CORTEX, BLUR)):
        start[:] = 0.0
        start[column] = 1.0
        substituted(matrix, start, UNKNOWNS)
        out[6 + e] = start[column]
        if column == PLACE:
            out[11] = 0.0
            for a in range(UNKNOWNS):
                out[11] += precision[a] * start[a] * start[a]
    out[9] = start[CORTEX]


@nb.njit(
    nb.void(_HU, _POINTS, _BOX, _POINTS, nb.float64[:, :, ::1], _VALUES, _VALUES, _VALUES, _VALUES, _VALUES, _VALUES, _POINTS,
            nb.float64[:, ::1]),
    parallel=True,
    cache=True, nogil=True,
)  # fmt: skip
def fit(
    hu: HuArray,
    to_mm: FloatArray,
    box: IndexArray,
    centres: FloatArray,
    frames: FloatArray,
    radii: FloatArray,
    sigmas: FloatArray,
    expected: FloatArray,
    precision: FloatArray,
    reach: FloatArray,
    figures: FloatArray,
    table: FloatArray,
    out: FloatArray,
) -> None:
    """Per vertex: the six unknowns; variances of place, cortex and blur; covariance of the last two; misfit near the edge; the
    part of the place's variance that comes from the priors. Not a number where nothing was fitted.

    ``frames`` (n, 4, 3): normal, across, beside, bend. ``figures``: variance of independent voxels (HU^2), rise (HU) that ends
    an edge's own layers, depth (mm) from which voxels count less, and how much.
    """
    for n in nb.prange(centres.shape[0]):
        bins = np.empty((BINS, 4))
        out[n, :] = np.nan
        tube = reach.copy()
        tube[2] = radii[n]
        count = gathered(hu, to_mm, centres[n].copy(), frames[n, 0], frames[n, 1], frames[n, 2], frames[n, 3], tube, box, bins)
        if count < LEAST_BINS:
            continue
        first, stop = own_layers(bins, count, figures[1])
        if stop - first < LEAST_BINS:
            continue
        for b in range(count):
            bins[b, 3] = np.sqrt(bins[b, 2] / figures[0] * (figures[3] if bins[b, 0] < -figures[2] else 1.0))
        _best(bins, first, stop, sigmas[n], expected, precision, table, figures[0], out[n])
