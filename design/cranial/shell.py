"""The healthy contour as a smooth function: radius over direction from the vault centre.

The directions are laid out on a plane (gnomonic projection about the middle of the defect), so that looking up a point takes one
division. Distances to the contour are radial differences divided by the length of the gradient there: exact on the contour,
and to second order beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from batchone.design.cranial.columns import LocalPlan
from batchone.design.cranial.rays import Scene
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh

_CELL_MM = 0.5  # numerical: spacing of the map on the contour; linear between (sag 0.0004 mm at a radius of 80 mm)
_FAR_MM = 300.0  # numerical: no skull reaches farther from its vault centre
_MARGIN_MM = 8.0  # numerical: the map reaches this far beyond the rim


@dataclass(frozen=True, slots=True, eq=False)
class RadialMap:
    """A star-shaped surface seen from a centre.

    Attributes
    ----------
    centre_mm
        (3,) the centre.
    axes
        (3, 3) rows: the two directions of the map and its middle.
    first
        (2,) map coordinate of cell (0, 0).
    cell
        Map units per cell.
    radius_mm
        (u, v) radius along the direction of the cell.
    slope
        (u, v) what a radial difference is multiplied with to become a distance (at most 1).
    """

    centre_mm: FloatArray
    axes: FloatArray
    first: FloatArray
    cell: float
    radius_mm: FloatArray
    slope: FloatArray

    def distance_mm(self, points_mm: FloatArray) -> FloatArray:
        """Signed distance (n,) of points (n, 3) to the surface, positive outside (farther from the centre)."""
        out = np.empty(len(points_mm))
        _distances(
            np.ascontiguousarray(points_mm), self.centre_mm, self.axes, self.first, self.cell, self.radius_mm, self.slope, out
        )
        return out

    def directions(self, tangent: FloatArray) -> FloatArray:
        """Unit directions (n, 3) of map coordinates (n, 2)."""
        raw = tangent[:, :1] * self.axes[0] + tangent[:, 1:] * self.axes[1] + self.axes[2]
        return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True))

    def normals(self, points_mm: FloatArray, *, step_mm: float = 0.5) -> FloatArray:
        """Unit outward normals (n, 3) of the surface's distance field near points (n, 3)."""
        gradient = np.empty_like(points_mm)
        for axis in range(3):
            offset = np.zeros(3)
            offset[axis] = step_mm
            gradient[:, axis] = self.distance_mm(points_mm + offset) - self.distance_mm(points_mm - offset)
        return np.asarray(gradient / np.linalg.norm(gradient, axis=1, keepdims=True))


def contour_maps(local: LocalPlan) -> tuple[RadialMap, RadialMap]:
    """Outer and inner contour of a plan as radial maps over the rim.

    Raises
    ------
    DesignError
        The contour does not cover the rim, or the rim does not face away from the vault centre.
    """
    middle = local.rim_mm.mean(axis=0) - local.centre_mm
    middle = middle / np.linalg.norm(middle)
    helper = np.eye(3)[int(np.argmin(np.round(np.abs(middle), 6)))]
    first = helper - middle * float(helper @ middle)
    first /= np.linalg.norm(first)
    axes = np.ascontiguousarray(np.vstack([first, np.cross(middle, first), middle]))
    rim = (local.rim_mm - local.centre_mm) @ axes.T
    if float(rim[:, 2].min()) <= 0.0:
        raise DesignError(
            f"the rim reaches {-rim[:, 2].min():.1f} mm behind the vault centre, must stay in front of it",
            hint="the defect is too large for one piece: draw a smaller rim",
        )
    tangent = rim[:, :2] / rim[:, 2:]
    nearest = float(np.linalg.norm(rim, axis=1).min())
    cell, margin = _CELL_MM / nearest, _MARGIN_MM / nearest
    low = tangent.min(axis=0) - margin
    counts = np.ceil((tangent.max(axis=0) + margin - low) / cell).astype(int) + 1
    return (
        _radial_map(local.outer, local.centre_mm, axes, low, cell, counts, tangent),
        _radial_map(local.inner, local.centre_mm, axes, low, cell, counts, tangent),
    )


def _radial_map(
    surface: Mesh, centre: FloatArray, axes: FloatArray, low: FloatArray, cell: float, counts: FloatArray, rim: FloatArray
) -> RadialMap:
    from scipy import ndimage

    u, v = (low[i] + np.arange(counts[i]) * cell for i in range(2))
    raw = u[:, None, None] * axes[0] + v[None, :, None] * axes[1] + axes[2]
    rays = np.ascontiguousarray((raw / np.linalg.norm(raw, axis=2, keepdims=True)).reshape(-1, 3))
    hits = Scene(Mesh(surface.vertices_mm - centre, surface.faces)).first(np.zeros(3), rays, _FAR_MM)
    met = hits.face >= 0
    radius = np.where(met, hits.distance_mm, 0.0)
    grid, seen = radius.reshape(counts), met.reshape(counts)
    at_rim = np.clip(np.round((rim - low) / cell).astype(int), 0, np.array(counts) - 1)
    share = float(seen[at_rim[:, 0], at_rim[:, 1]].mean())
    if share < 1.0:
        raise DesignError(
            f"the contour covers {100.0 * share:.1f} % of the rim, must cover 100 %",
            hint="propose the plan again, or correct the rim",
        )
    if not seen.all():
        nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
        grid = grid[tuple(nearest)]
    return RadialMap(centre, axes, low, cell, np.ascontiguousarray(grid), _slope(grid, u, v, cell))


def _slope(radius: FloatArray, u: FloatArray, v: FloatArray, cell: float) -> FloatArray:
    """1 / |gradient| of |p| - radius(u, v), on the surface."""
    by_u, by_v = np.gradient(radius, cell)
    uu, vv = u[:, None], v[None, :]
    depth = radius / np.sqrt(1.0 + uu * uu + vv * vv)
    gradient = np.stack([-by_u / depth, -by_v / depth, (uu * by_u + vv * by_v) / depth], axis=-1)
    return np.ascontiguousarray(1.0 / np.sqrt(1.0 + (gradient**2).sum(axis=-1)))


@numba.njit(
    "float64(float64, float64, float64, float64[::1], float64[:,::1], float64[::1], float64, float64[:,::1], float64[:,::1])",
    cache=True,
)
def map_distance(x, y, z, centre, axes, first, cell, radius, slope):  # type: ignore[no-untyped-def]
    """Signed distance of one point to a radial map; see :class:`RadialMap`."""
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    depth = max(1e-9, axes[2, 0] * dx + axes[2, 1] * dy + axes[2, 2] * dz)
    u = ((axes[0, 0] * dx + axes[0, 1] * dy + axes[0, 2] * dz) / depth - first[0]) / cell
    v = ((axes[1, 0] * dx + axes[1, 1] * dy + axes[1, 2] * dz) / depth - first[1]) / cell
    u = min(max(u, 0.0), radius.shape[0] - 1.000001)
    v = min(max(v, 0.0), radius.shape[1] - 1.000001)
    i, j = int(u), int(v)
    fu, fv = u - i, v - j
    w00, w01, w10, w11 = (1 - fu) * (1 - fv), (1 - fu) * fv, fu * (1 - fv), fu * fv
    r = w00 * radius[i, j] + w01 * radius[i, j + 1] + w10 * radius[i + 1, j] + w11 * radius[i + 1, j + 1]
    s = w00 * slope[i, j] + w01 * slope[i, j + 1] + w10 * slope[i + 1, j] + w11 * slope[i + 1, j + 1]
    return (np.sqrt(dx * dx + dy * dy + dz * dz) - r) * s


@numba.njit(
    "void(float64[:,::1], float64[::1], float64[:,::1], float64[::1], float64, float64[:,::1], float64[:,::1], float64[::1])",
    cache=True,
)
def _distances(points, centre, axes, first, cell, radius, slope, out):  # type: ignore[no-untyped-def]
    for n in range(points.shape[0]):
        out[n] = map_distance(points[n, 0], points[n, 1], points[n, 2], centre, axes, first, cell, radius, slope)
