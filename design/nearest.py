"""Closest points on a triangle surface, exact in double precision.

A tree of boxes over the triangles: a point looks into the nearer box first, and into none that is further off than what it knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numba
import numpy as np
from scipy.spatial import cKDTree

from batchone.design.boxes import DEPTH, LEAF, tree_of
from batchone.pipeline.values import FloatArray, IntArray, Mesh, moved_points

_BLOCK = 256  # numerical: points looked for one after the other; neighbours in the list are mostly neighbours in space
_ROUNDED_UP = 1.0 + 1e-12  # numerical: rounding never hides a triangle that is as near as the nearest
_ROUNDED_DOWN = 1.0 - 1e-9  # numerical: nor one that touches the wall of its box
THIN_MM = 0.5  # numerical: vertices are thinned to one in a cell of this size where only far distances are asked
_FLAT = 1e-3  # numerical: a flatter triangle is measured by its ball alone
_SLACK = 1e-4  # numerical: rounding of a height above a plane, in radii, is many times less; it never hides an equal triangle

_POINTS = numba.types.Array(numba.float64, 2, "C", readonly=True)
_FACES = numba.types.Array(numba.int32, 2, "C", readonly=True)
_ORDER = numba.types.Array(numba.int32, 1, "C", readonly=True)


@dataclass(frozen=True, eq=False)
class Index:
    """A surface in a tree of boxes, to be asked more than once.

    ``order`` (m,) are its triangles as they stand in the ``boxes`` (see :func:`batchone.design.boxes.tree_of`), in the same order
    ``sorted_faces`` (m, 3), ``balls`` (m, 4) around their corners and ``normals`` (m, 3) of their planes, zero without area.
    Where ``pose`` (4, 4) is given, points are asked elsewhere, and it leads from there to the boxes; ``placed`` is the surface as
    it is asked.
    """

    mesh: Mesh
    order: IntArray
    sorted_faces: IntArray
    boxes: FloatArray
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
    """Sort the triangles of a surface, at least one, into a tree of boxes."""
    own = Mesh(np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces, dtype=np.int32))
    order, boxes = tree_of(own)
    faces = own.faces[order]
    balls, normals = _discs(own.vertices_mm, faces)
    return Index(own, order, faces, boxes, balls, normals, own)


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
    within = np.full(len(points), within_mm, dtype=np.float64)
    _search(
        points, index.mesh.vertices_mm, index.order, index.sorted_faces, index.boxes, index.balls, index.normals, within,
        distance, face,
    )  # fmt: skip
    beyond = distance > within
    distance[beyond], face[beyond] = np.inf, -1
    _place(asked_mm, np.ascontiguousarray(index.placed.vertices_mm), index.mesh.faces, face, closest)
    return distance, face, closest


def nearest_mm(points_mm: FloatArray, surface: Mesh | Index, *, within_mm: float | FloatArray = np.inf) -> FloatArray:
    """Unsigned distance (n,) from points (n, 3) to a surface, mm; infinite beyond ``within_mm`` and without a surface."""
    if isinstance(surface, Mesh) and len(surface.faces) == 0:
        return np.full(len(points_mm), np.inf)
    return nearest_points(points_mm, surface, within_mm=within_mm)[0]


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
    inline="always",
    error_model="numpy",
)
def square_distance(vertices, a, b, c, x, y, z):  # type: ignore[no-untyped-def]
    """Squared distance of a point to a triangle; NaN for one without area."""
    s, t = foot_on_triangle(vertices, a, b, c, x, y, z)
    dx = x - vertices[a, 0] - s * (vertices[b, 0] - vertices[a, 0]) - t * (vertices[c, 0] - vertices[a, 0])
    dy = y - vertices[a, 1] - s * (vertices[b, 1] - vertices[a, 1]) - t * (vertices[c, 1] - vertices[a, 1])
    dz = z - vertices[a, 2] - s * (vertices[b, 2] - vertices[a, 2]) - t * (vertices[c, 2] - vertices[a, 2])
    return dx * dx + dy * dy + dz * dz


@numba.njit(
    numba.types.Tuple((numba.float64, numba.int32))(
        _POINTS, _ORDER, _FACES, numba.float64[:, ::1], numba.float64[:, ::1], numba.int64, numba.int64, numba.float64,
        numba.int32, numba.float64, numba.float64, numba.float64,
    ),
    cache=True, nogil=True, inline="always",
)  # fmt: skip
def _in_leaf(vertices, order, faces, balls, normals, start, stop, best, nearest, x, y, z):  # type: ignore[no-untyped-def]
    """The nearest of what was known and the triangles of one leaf, as square of the distance and place in the order.

    A triangle whose ball around its corners, or disc around them in its plane, is further off than what is known is not measured.
    """
    root = np.sqrt(best) * _ROUNDED_UP
    for n in range(start, stop):
        bx, by, bz = x - balls[n, 0], y - balls[n, 1], z - balls[n, 2]
        square = bx * bx + by * by + bz * bz
        if square > (root + balls[n, 3]) ** 2:
            continue
        height = bx * normals[n, 0] + by * normals[n, 1] + bz * normals[n, 2]
        slack = _SLACK * balls[n, 3]
        low, high = max(abs(height) - slack, 0.0), abs(height) + slack
        left = root * root - low * low
        if left < 0.0 or square - high * high > (balls[n, 3] + np.sqrt(left)) ** 2:
            continue
        square = square_distance(vertices, faces[n, 0], faces[n, 1], faces[n, 2], x, y, z)
        if square < best or (square == best and (nearest < 0 or order[n] < order[nearest])):
            best, nearest = square, np.int32(n)
            root = np.sqrt(best) * _ROUNDED_UP
    return best, nearest


@numba.njit(
    numba.float64(numba.float64[:, ::1], numba.int64, numba.float64, numba.float64, numba.float64),
    cache=True,
    nogil=True,
    inline="always",
)
def _to_box(boxes, node, x, y, z):  # type: ignore[no-untyped-def]
    """Square of the distance of a place to a box, a little less for rounding; 0 inside."""
    dx = max(boxes[node, 0] - x, x - boxes[node, 3], 0.0)
    dy = max(boxes[node, 1] - y, y - boxes[node, 4], 0.0)
    dz = max(boxes[node, 2] - z, z - boxes[node, 5], 0.0)
    return (dx * dx + dy * dy + dz * dz) * _ROUNDED_DOWN


@numba.njit(
    numba.void(
        _POINTS, _POINTS, _ORDER, _FACES, numba.float64[:, ::1], numba.float64[:, ::1], numba.float64[:, ::1], numba.float64[::1],
        numba.float64[::1], numba.int32[::1],
    ),
    cache=True, parallel=True,
)  # fmt: skip
def _search(points, vertices, order, faces, boxes, balls, normals, within, distance, face):  # type: ignore[no-untyped-def]
    """For each point the nearest triangle, or none nearer than its ``within``.

    The triangle nearest to the point before is tried first: it hides most others, and cannot change the answer.
    """
    leaves, count = boxes.shape[0] // 2, order.shape[0]
    for block in numba.prange((points.shape[0] + _BLOCK - 1) // _BLOCK):
        stack, away = np.empty(DEPTH, dtype=np.int64), np.empty(DEPTH)
        hint = np.int32(-1)
        for p in range(block * _BLOCK, min((block + 1) * _BLOCK, points.shape[0])):
            x, y, z = points[p, 0], points[p, 1], points[p, 2]
            best, nearest = (within[p] * _ROUNDED_UP) ** 2, np.int32(-1)
            if hint >= 0:
                square = square_distance(vertices, faces[hint, 0], faces[hint, 1], faces[hint, 2], x, y, z)
                if square < best:  # not a number for a triangle without area
                    best, nearest = square, hint
            stack[0], away[0], top = 1, _to_box(boxes, 1, x, y, z), 1
            while top > 0:
                top -= 1
                node, far = stack[top], away[top]
                if far > best:
                    continue
                while node < leaves:
                    near, other = 2 * node, 2 * node + 1
                    to_near, to_other = _to_box(boxes, near, x, y, z), _to_box(boxes, other, x, y, z)
                    if to_other < to_near:
                        near, other, to_near, to_other = other, near, to_other, to_near
                    if to_other <= best:
                        stack[top], away[top] = other, to_other
                        top += 1
                    node, far = near, to_near
                    if far > best:
                        break
                if far <= best:
                    start = (node - leaves) * LEAF
                    stop = min(start + LEAF, count)
                    best, nearest = _in_leaf(vertices, order, faces, balls, normals, start, stop, best, nearest, x, y, z)
            distance[p], hint = (np.sqrt(best) if nearest >= 0 else np.inf), nearest
            face[p] = order[nearest] if nearest >= 0 else -1


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
