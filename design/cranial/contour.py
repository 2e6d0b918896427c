"""The healthy contour over a defect: what is left of the bone, carried across by the mirrored other side or by a thin plate.

One linear problem for each table on the map of directions: the surface passes near the trusted bone around the hole, and bends as
the mirrored side does where that is covered, and as little as it can where it is not:

    minimise  sum_bone (u - r)^2 + l^4 sum |lap(u - m)|^2 + t^2 l^2 sum |grad(u - m)|^2     (m = 0 where not covered)

so that there is no seam at the edge of cover. Lengths are counted on the sphere of 80 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from batchone.design.cranial.sphere import BoolArray, Sphere
from batchone.pipeline.values import FloatArray

_MAP_MM = 80.0  # the sphere on which lengths are counted
_ROUNDS = 3  # solutions, each with the data weighed by how far off the last one they lie
_ANCHOR = 1e-9  # keeps a direction without data and neighbours from being free; numerical, of the weight of one datum


@dataclass(frozen=True, slots=True)
class Stiffness:
    """How a sheet bends: ``length_mm``, the detail it smooths away; ``tension_per_mm``, 0 for a thin plate."""

    length_mm: float
    tension_per_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A function on some directions: data where ``trusted``, a model to follow where ``covered``; (n,) arrays."""

    data: FloatArray
    trusted: BoolArray
    model: FloatArray
    covered: BoolArray


def laid(sheet: Sheet, sphere: Sphere, region: BoolArray, stiffness: Stiffness, scale_mm: float) -> FloatArray:
    """Lay a sheet over ``region`` (n,): (n,) values there, NaN elsewhere. ``scale_mm``: data farther off count less (Cauchy)."""
    index = np.flatnonzero(region)
    weights, areas = _grid(sphere)
    near = weights[index][:, index].tocsr()
    links = sphere.links[index][:, index].tocsr().astype(np.float64)
    degree = np.asarray(links.sum(axis=1)).ravel()
    whole = degree == np.asarray(sphere.links[index].sum(axis=1)).ravel()
    share = areas[index] / areas.mean()
    laplace = sparse.diags(np.where(whole, 1.0 / areas[index], 0.0)) @ (near - sparse.diags(np.asarray(near.sum(axis=1)).ravel()))
    one, two = sparse.triu(near, format="coo").coords
    count = len(one)
    height = np.sqrt(np.asarray(near[one, two]).ravel() / areas.mean())
    slope = sparse.csr_matrix(
        (np.concatenate([height, -height]), (np.tile(np.arange(count), 2), np.concatenate([one, two]))), shape=(count, len(index))
    )
    covered = sheet.covered[index]
    model = np.where(covered, sheet.model[index], 0.0)
    all_covered = covered & ((links @ covered.astype(np.float64)) >= degree - 0.5)
    bend = np.where(all_covered, laplace @ model, 0.0)
    climb = np.where(covered[one] & covered[two], slope @ model, 0.0)
    stiff, pull = stiffness.length_mm**4, stiffness.length_mm**4 * stiffness.tension_per_mm**2
    bending = laplace.T @ sparse.diags(share)
    system = stiff * (bending @ laplace) + pull * (slope.T @ slope)
    right = stiff * (bending @ bend) + pull * (slope.T @ climb)
    trusted = sheet.trusted[index]
    data = np.where(trusted, sheet.data[index], 0.0)
    weight = trusted.astype(np.float64)
    for _ in range(_ROUNDS):
        whole_system = (system + sparse.diags(weight + _ANCHOR)).tocsc()
        factor = splu(whole_system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        solved = factor.solve(right + weight * data)
        weight = np.where(trusted, 1.0 / (1.0 + ((solved - data) / scale_mm) ** 2), 0.0)
    values = np.full(len(region), np.nan)
    values[index] = solved
    return values


@lru_cache(maxsize=3)
def _grid(sphere: Sphere) -> tuple[sparse.csr_matrix, FloatArray]:
    """Cotangent weight of each link, and each direction's area in mm2, on the sphere of 80 mm (Pinkall & Polthier 1993).

    The triangles of an icosphere are not alike: weights of one bend a sheet along the edges of the icosahedron.
    """
    points, count = sphere.directions * _MAP_MM, len(sphere.directions)
    rows, columns, values = [], [], []
    areas = np.zeros(count)
    for turn in range(3):
        corner, left, right = np.roll(sphere.faces, turn, axis=1).T
        to_left, to_right = points[left] - points[corner], points[right] - points[corner]
        twice = np.linalg.norm(np.cross(to_left, to_right), axis=1)
        areas += np.bincount(corner, twice / 6.0, count)
        rows.extend([left, right])
        columns.extend([right, left])
        values.extend([0.5 * np.einsum("ij,ij->i", to_left, to_right) / twice] * 2)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(count, count)), areas
