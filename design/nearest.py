"""Closest points on a triangle surface, exact in double precision.

Triangles are sorted into cells about as large as they are; a point looks into the cells around it, ring by ring, until no further
ring can hold anything nearer. Points too far off for that (a search of empty cells) are left to the library's tree.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numba
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from batchone.pipeline.values import FloatArray, IntArray, Mesh, moved_points

with warnings.catch_warnings():
    warnings.filterwarnings(
        "ignore", message="invalid escape sequence"
    )  # a comment in the library, seen where it is not compiled yet
    from point_cloud_utils import closest_points_on_mesh

_PER_CELL = 64.0  # numerical: triangles wanted in a cell that the surface runs through; 32 is slower by a fifth, 8 by a half
_MOST_CELLS = 1 << 25  # numerical: bounds memory (128 MB of starts)
_BLOCK = 256  # numerical: points looked for one after the other; neighbours in the list are mostly neighbours in space
_ROUNDED_UP = 1.0 + 1e-12  # numerical: rounding never hides a triangle that is as near as the nearest
_ROUNDED_DOWN = 1.0 - 1e-9  # numerical: a triangle that touches the wall of a cell from outside is held by its neighbour
THIN_MM = 0.5  # numerical: vertices are thinned to one in a cell of this size where only far distances are asked
_FLAT = 1e-3  # numerical: a flatter triangle is measured by its ball alone
_SLACK = 1e-4  # numerical: rounding of a height above a plane, in radii, is many times less; it never hides an equal triangle
_RINGS = 12  # numerical: a point further than this many cells from the surface takes the tree

_POINTS = numba.types.Array(numba.float64, 2, "C", readonly=True)
_FACES = numba.types.Array(numba.int32, 2, "C", readonly=True)


@dataclass(frozen=True, eq=False)
class Index:
    """A surface whose triangles are sorted into cells, to be asked more than once.

    ``held`` lists the triangles of each cell, from ``starts``; ``balls`` (k, 4) around their corners stand in the same order;
    ``normals`` (m, 3) are those of all triangles' planes, zero without area. Where ``pose`` (4, 4) is given, points are asked
    elsewhere, and it leads from there to the cells; ``placed`` is the surface as it is asked.
    """

    mesh: Mesh
    low_mm: FloatArray
    cell_mm: float
    shape: npt.NDArray[np.int64]
    starts: IntArray
    held: IntArray
    balls: FloatArray
    normals: FloatArray
    placed: Mesh
    pose: FloatArray | None = None

    @cached_property
    def tree(self) -> cKDTree:
        """See :func:`thinned_tree`."""
        return thinned_tree(self.placed)

    def asked_as(self, placed: Mesh, pose: FloatArray) -> Index:
        """The same surface elsewhere: ``placed`` as it lies there, ``pose`` (4, 4) from there back to where it was sorted."""
        return replace(self, placed=placed, pose=np.asarray(pose, dtype=np.float64))


def thinned_tree(mesh: Mesh) -> cKDTree:
    """The vertices of a surface, one of those that share a cell of ``THIN_MM``: from afar the others are as far."""
    used = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    used[mesh.faces] = True
    vertices = mesh.vertices_mm[used]
    cells = np.floor(vertices / THIN_MM).astype(np.int64) - np.floor(vertices.min(axis=0) / THIN_MM).astype(np.int64)
    size = cells.max(axis=0) + 1
    first = np.unique((cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2], return_index=True)[1]
    return cKDTree(vertices[first])


def indexed(mesh: Mesh) -> Index:
    """Sort the triangles of a surface, at least one, into cells about as large as they are."""
    vertices, faces = np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces, dtype=np.int32)
    cell_mm, low, shape = _grid(vertices, faces)
    starts = np.zeros(int(shape.prod()) + 1, dtype=np.int32)
    _count(vertices, faces, low, cell_mm, shape, starts)
    held = np.empty(int(starts[-1]), dtype=np.int32)
    _sort(vertices, faces, low, cell_mm, shape, starts, held)
    balls, normals = _discs(vertices, faces)
    own = Mesh(vertices, faces)
    return Index(own, low, cell_mm, shape, starts, held, balls[held], normals, own)


@lru_cache(maxsize=4)
def indexed_once(mesh: Mesh) -> Index:
    """The same, kept: what one check has sorted of a few bones serves the next."""
    return indexed(mesh)


def nearest_points(
    points_mm: FloatArray, surface: Mesh | Index, *, within_mm: float | FloatArray = np.inf
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Find the closest point of a surface to each point.

    Parameters
    ----------
    points_mm
        (n, 3) points in the frame of the mesh.
    surface
        At least one triangle.
    within_mm
        Points farther off than this, or each than its own of these (n,), need no answer.

    Returns
    -------
    tuple
        (n,) unsigned distance in mm, infinite beyond ``within_mm``; (n,) triangle, of equals the first, -1 beyond; (n, 3) the
        closest point, NaN beyond.
    """
    asked_mm = np.ascontiguousarray(points_mm, dtype=np.float64)
    distance, face = np.full(len(asked_mm), np.inf), np.full(len(asked_mm), -1, dtype=np.int32)
    closest = np.full(asked_mm.shape, np.nan)
    if len(asked_mm) == 0:
        return distance, face, closest
    index = surface if isinstance(surface, Index) else indexed(surface)
    points = asked_mm if index.pose is None else moved_points(index.pose, asked_mm)
    vertices, faces, cell_mm = index.mesh.vertices_mm, index.mesh.faces, index.cell_mm
    within = np.full(len(points), within_mm, dtype=np.float64)
    rings = int(min(_RINGS, np.ceil(min(float(within.max()), 1e9) / cell_mm) + 1))
    _search(
        points, vertices, faces, index.balls, index.normals, index.low_mm, cell_mm, index.shape, index.starts,
        index.held, rings, within,
        distance, face,
    )  # fmt: skip
    certain = rings * cell_mm
    far = np.flatnonzero((distance > certain) & (within > certain))
    if len(far):
        asked = np.concatenate([points[far], points[far[:1]]])  # the library misreads a single point
        found, triangle, _ = closest_points_on_mesh(asked, vertices, faces)
        distance[far], face[far] = found[:-1], triangle[:-1]
    beyond = distance > within
    distance[beyond], face[beyond] = np.inf, -1
    _place(asked_mm, np.ascontiguousarray(index.placed.vertices_mm), faces, face, closest)
    return distance, face, closest


def nearest_mm(points_mm: FloatArray, surface: Mesh | Index, *, within_mm: float | FloatArray = np.inf) -> FloatArray:
    """Unsigned distance (n,) from points (n, 3) to a surface, mm; infinite beyond ``within_mm`` and without a surface."""
    if isinstance(surface, Mesh) and len(surface.faces) == 0:
        return np.full(len(points_mm), np.inf)
    return nearest_points(points_mm, surface, within_mm=within_mm)[0]


def _grid(vertices: FloatArray, faces: IntArray) -> tuple[float, FloatArray, npt.NDArray[np.int64]]:
    """Size of the cells, mm, their first corner, and how many there are along each axis."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    sample = faces[:: max(1, len(faces) // 10_000)]
    corners = vertices[sample]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2.0
    wanted = float(np.sqrt(_PER_CELL * max(float(area.mean()), 1e-12)))
    extent = np.maximum(high - low, wanted)
    cell_mm = max(wanted, float((extent.prod() / _MOST_CELLS) ** (1.0 / 3.0)))
    while (np.floor(extent / cell_mm) + 1.0).prod() > _MOST_CELLS:
        cell_mm *= 1.1
    return cell_mm, low, (np.floor(extent / cell_mm) + 1.0).astype(np.int64)


@numba.njit(numba.types.UniTuple(numba.float64[:, ::1], 2)(_POINTS, _FACES), cache=True, nogil=True)
def _discs(vertices, faces):  # type: ignore[no-untyped-def]
    """Middle of each triangle's corners with how far the furthest of them is, and the unit normal of its plane."""
    balls, normals = np.empty((faces.shape[0], 4)), np.zeros((faces.shape[0], 3))
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        for k in range(3):
            balls[f, k] = (vertices[a, k] + vertices[b, k] + vertices[c, k]) / 3.0
        square = 0.0
        for corner in (a, b, c):
            x, y, z = vertices[corner, 0] - balls[f, 0], vertices[corner, 1] - balls[f, 1], vertices[corner, 2] - balls[f, 2]
            square = max(square, x * x + y * y + z * z)
        balls[f, 3] = np.sqrt(square) * _ROUNDED_UP
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        twice = np.sqrt(nx * nx + ny * ny + nz * nz)
        if twice > _FLAT * square:  # the plane of a needle is rounding
            normals[f, 0], normals[f, 1], normals[f, 2] = nx / twice, ny / twice, nz / twice
    return balls, normals


@numba.njit(
    numba.types.UniTuple(numba.int64, 2)(
        _POINTS, _FACES, numba.int64, numba.int64, numba.float64[::1], numba.float64, numba.int64[::1]
    ),
    cache=True,
    nogil=True,
)
def _reach(vertices, faces, f, k, low, cell, shape):  # type: ignore[no-untyped-def]
    """First and last cell of a triangle along axis ``k``."""
    a, b, c = vertices[faces[f, 0], k], vertices[faces[f, 1], k], vertices[faces[f, 2], k]
    first = int((min(a, b, c) - low[k]) / cell)
    last = int((max(a, b, c) - low[k]) / cell)
    return max(first, 0), min(last, shape[k] - 1)


@numba.njit(
    numba.void(_POINTS, _FACES, numba.float64[::1], numba.float64, numba.int64[::1], numba.int32[::1]), cache=True, nogil=True
)
def _count(vertices, faces, low, cell, shape, starts):  # type: ignore[no-untyped-def]
    """Where the triangles of each cell begin."""
    for f in range(faces.shape[0]):
        i0, i1 = _reach(vertices, faces, f, 0, low, cell, shape)
        j0, j1 = _reach(vertices, faces, f, 1, low, cell, shape)
        k0, k1 = _reach(vertices, faces, f, 2, low, cell, shape)
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                for k in range(k0, k1 + 1):
                    starts[(i * shape[1] + j) * shape[2] + k + 1] += 1
    for at in range(starts.shape[0] - 1):
        starts[at + 1] += starts[at]


@numba.njit(
    numba.void(_POINTS, _FACES, numba.float64[::1], numba.float64, numba.int64[::1], numba.int32[::1], numba.int32[::1]),
    cache=True,
    nogil=True,
)
def _sort(vertices, faces, low, cell, shape, starts, held):  # type: ignore[no-untyped-def]
    """Write the triangles of each cell, in their order; ``starts`` is as before afterwards."""
    for f in range(faces.shape[0]):
        i0, i1 = _reach(vertices, faces, f, 0, low, cell, shape)
        j0, j1 = _reach(vertices, faces, f, 1, low, cell, shape)
        k0, k1 = _reach(vertices, faces, f, 2, low, cell, shape)
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                for k in range(k0, k1 + 1):
                    at = (i * shape[1] + j) * shape[2] + k
                    held[starts[at]] = f
                    starts[at] += 1
    for at in range(starts.shape[0] - 1, 0, -1):
        starts[at] = starts[at - 1]
    starts[0] = 0


@numba.njit(
    numba.types.UniTuple(numba.float64, 2)(
        _POINTS, numba.int32, numba.int32, numba.int32, numba.float64, numba.float64, numba.float64
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def foot_on_triangle(vertices, a, b, c, x, y, z):  # type: ignore[no-untyped-def]
    """Where a triangle is nearest to a point, as shares of its sides a-b and a-c (Ericson 2005, section 5.1.5).

    NaN for a triangle without area: its neighbours count.
    """
    ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
    vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
    px, py, pz = x - vertices[a, 0], y - vertices[a, 1], z - vertices[a, 2]
    d1, d2 = ux * px + uy * py + uz * pz, vx * px + vy * py + vz * pz
    if d1 <= 0.0 and d2 <= 0.0:
        return 0.0, 0.0
    uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
    d3, d4, d5, d6 = d1 - uu, d2 - uv, d1 - uv, d2 - vv
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d3 >= 0.0 and d4 <= d3:
        return 1.0, 0.0
    if d6 >= 0.0 and d5 <= d6:
        return 0.0, 1.0
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        return d1 / (d1 - d3), 0.0
    if vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        return 0.0, d2 / (d2 - d6)
    if va <= 0.0 and d4 - d3 >= 0.0 and d5 - d6 >= 0.0:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 1.0 - t, t
    return vb / (va + vb + vc), vc / (va + vb + vc)


@numba.njit(
    numba.float64(_POINTS, numba.int32, numba.int32, numba.int32, numba.float64, numba.float64, numba.float64),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def square_distance(vertices, a, b, c, x, y, z):  # type: ignore[no-untyped-def]
    """Squared distance of a point to a triangle; NaN for one without area."""
    s, t = foot_on_triangle(vertices, a, b, c, x, y, z)
    dx = x - vertices[a, 0] - s * (vertices[b, 0] - vertices[a, 0]) - t * (vertices[c, 0] - vertices[a, 0])
    dy = y - vertices[a, 1] - s * (vertices[b, 1] - vertices[a, 1]) - t * (vertices[c, 1] - vertices[a, 1])
    dz = z - vertices[a, 2] - s * (vertices[b, 2] - vertices[a, 2]) - t * (vertices[c, 2] - vertices[a, 2])
    return dx * dx + dy * dy + dz * dz


@numba.njit(numba.float64(numba.float64, numba.int64, numba.float64), cache=True, nogil=True)
def _gap(place, index, cell):  # type: ignore[no-untyped-def]
    """How far a place along an axis is outside of a cell, a little less for rounding; 0 inside."""
    return max(index * cell - place, place - (index + 1) * cell, 0.0) * _ROUNDED_DOWN


@numba.njit(
    numba.types.Tuple((numba.float64, numba.int32))(
        _POINTS, _FACES, numba.float64[:, ::1], numba.float64[:, ::1], numba.int32[::1], numba.int32, numba.int32,
        numba.float64, numba.int32, numba.float64, numba.float64, numba.float64,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def _in_cell(vertices, faces, balls, normals, held, start, stop, best, nearest, x, y, z):  # type: ignore[no-untyped-def]
    """The nearest of what was known and the triangles of one cell, as square of the distance and triangle.

    A triangle whose ball around its corners, or disc around them in its plane, is further off than what is known is not measured.
    """
    root = np.sqrt(best) * _ROUNDED_UP
    for h in range(start, stop):
        bx, by, bz = x - balls[h, 0], y - balls[h, 1], z - balls[h, 2]
        square = bx * bx + by * by + bz * bz
        if square > (root + balls[h, 3]) ** 2:
            continue
        f = held[h]
        height = bx * normals[f, 0] + by * normals[f, 1] + bz * normals[f, 2]
        slack = _SLACK * balls[h, 3]
        low, high = max(abs(height) - slack, 0.0), abs(height) + slack
        left = root * root - low * low
        if left < 0.0 or square - high * high > (balls[h, 3] + np.sqrt(left)) ** 2:
            continue
        square = square_distance(vertices, faces[f, 0], faces[f, 1], faces[f, 2], x, y, z)
        if square < best or (square == best and f < nearest):
            best, nearest = square, f
            root = np.sqrt(best) * _ROUNDED_UP
    return best, nearest


@numba.njit(
    numba.types.Tuple((numba.float64, numba.int32))(
        _POINTS, _FACES, numba.float64[:, ::1], numba.float64[:, ::1], numba.float64[::1], numba.float64, numba.int64[::1],
        numba.int32[::1], numba.int32[::1], numba.int64, numba.int64, numba.int64, numba.int64, numba.float64, numba.int32,
        numba.float64, numba.float64, numba.float64,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def _in_ring(vertices, faces, balls, normals, low, cell, shape, starts, held, ring, ci, cj, ck, best, nearest, x, y, z):  # type: ignore[no-untyped-def]
    """The same over the cells that are ``ring`` away from the point's own; cells further off than what is known are left out."""
    for i in range(max(ci - ring, 0), min(ci + ring, shape[0] - 1) + 1):
        aside = _gap(x - low[0], i, cell) ** 2
        for j in range(max(cj - ring, 0), min(cj + ring, shape[1] - 1) + 1):
            flat = aside + _gap(y - low[1], j, cell) ** 2
            if flat > best:
                continue
            inner = abs(i - ci) < ring and abs(j - cj) < ring
            for k in range(max(ck - ring, 0), min(ck + ring, shape[2] - 1) + 1):
                if (inner and abs(k - ck) < ring) or flat + _gap(z - low[2], k, cell) ** 2 > best:
                    continue
                at = (i * shape[1] + j) * shape[2] + k
                best, nearest = _in_cell(
                    vertices, faces, balls, normals, held, starts[at], starts[at + 1], best, nearest, x, y, z
                )
    return best, nearest


@numba.njit(
    numba.void(
        _POINTS, _POINTS, _FACES, numba.float64[:, ::1], numba.float64[:, ::1], numba.float64[::1], numba.float64,
        numba.int64[::1], numba.int32[::1],
        numba.int32[::1], numba.int64, numba.float64[::1], numba.float64[::1], numba.int32[::1],
    ),
    cache=True,
    parallel=True,
)  # fmt: skip
def _search(points, vertices, faces, balls, normals, low, cell, shape, starts, held, rings, within, distance, face):  # type: ignore[no-untyped-def]
    """For each point the nearest triangle, certain up to ``rings`` cells, or none nearer than its ``within``.

    ``balls`` stand as in ``held``.

    The triangle nearest to the point before is tried first: it hides most others, and cannot change the answer.
    """
    for block in numba.prange((points.shape[0] + _BLOCK - 1) // _BLOCK):
        hint = np.int32(-1)
        for n in range(block * _BLOCK, min((block + 1) * _BLOCK, points.shape[0])):
            x, y, z = points[n, 0], points[n, 1], points[n, 2]
            ci = min(max(int(np.floor((x - low[0]) / cell)), 0), shape[0] - 1)
            cj = min(max(int(np.floor((y - low[1]) / cell)), 0), shape[1] - 1)
            ck = min(max(int(np.floor((z - low[2]) / cell)), 0), shape[2] - 1)
            best, nearest = (within[n] * _ROUNDED_UP) ** 2, np.int32(-1)
            if hint >= 0:
                square = square_distance(vertices, faces[hint, 0], faces[hint, 1], faces[hint, 2], x, y, z)
                if square < best:  # not a number for a triangle without area
                    best, nearest = square, hint
            for ring in range(rings + 1):
                if ring > 0 and best <= ((ring - 1) * cell) ** 2:
                    break
                best, nearest = _in_ring(
                    vertices, faces, balls, normals, low, cell, shape, starts, held, ring, ci, cj, ck, best, nearest, x, y, z
                )
            distance[n] = np.sqrt(best) if nearest >= 0 else np.inf
            face[n] = hint = nearest


@numba.njit(numba.void(_POINTS, _POINTS, _FACES, numba.int32[::1], numba.float64[:, ::1]), cache=True, nogil=True)
def _place(points, vertices, faces, face, closest):  # type: ignore[no-untyped-def]
    """The closest point on each point's triangle."""
    for n in range(points.shape[0]):
        if face[n] < 0:
            continue
        a, b, c = faces[face[n], 0], faces[face[n], 1], faces[face[n], 2]
        s, t = foot_on_triangle(vertices, a, b, c, points[n, 0], points[n, 1], points[n, 2])
        for k in range(3):
            closest[n, k] = vertices[a, k] + s * (vertices[b, k] - vertices[a, k]) + t * (vertices[c, k] - vertices[a, k])
