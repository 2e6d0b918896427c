"""Edge collapses on a closed triangle surface, bounded by plane distances.

Each vertex carries the planes of all triangles it stands for, as a sum of squared distances (Garland & Heckbert 1997, not
weighted by area): a vertex is moved only while that sum stays below three squares of the tolerance, since the planes around it
are counted once for each corner of their triangles. Measured on a skull with 0.05 mm: half of the old vertices lie within
0.005 mm of the new surface, 99.9 % within 0.03 mm, all within 0.044 mm.

An edge collapses only where the surface stays a closed two-manifold (link condition) and no triangle turns over. Collapses of
one pass do not touch each other, so that all of them can be judged before the first is made.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, IntArray, Mesh

_PASSES = 40  # numerical: passes end by themselves, far earlier
_COUNTED = 3.0  # how often a plane is counted inside of what a vertex stands for: once for each corner of its triangle
_LEAST_SHARE = 0.02  # numerical: a pass that drops fewer of the triangles is the last one
_PULL = 1e-3  # numerical: weight of the edge's middle against the planes, where these leave the place open
_LENGTH_WEIGHT = 1e-5  # numerical: of squared length against squared distance: between equals, the shorter edge collapses
_TURN_COSINE = 0.5  # a triangle turns by at most 60 degrees in one collapse
_SHAPE = 0.03  # height per longest side below which a new triangle must not be worse than the old one
_MOST_NEIGHBOURS = 24  # numerical: keeps rings short

_NEXT = (1, 2, 0, 1)  # the corner after each, in turn
_POINTS = nb.float64[:, ::1]
_FACES = nb.int32[:, ::1]
_LONGS = nb.int64[::1]
_FLAGS = nb.boolean[::1]


def collapsed(mesh: Mesh, tolerance_mm: float, frozen: npt.NDArray[np.bool_]) -> Mesh:
    """Drop triangles of a closed surface.

    Parameters
    ----------
    mesh
        Closed, oriented two-manifold, mm, near the origin.
    tolerance_mm
        Each vertex stays within this of the planes of the triangles that it replaces.
    frozen
        (n,) vertices that keep their place and all of their triangles.
    """
    points, faces = mesh.vertices_mm.copy(), mesh.faces.copy()
    quadrics = _plane_sums(points, faces)
    target = np.empty(len(points), dtype=np.int32)
    cost = np.full(len(points), np.inf)
    place = np.empty_like(points)
    touched = np.ones(len(points), dtype=np.bool_)
    allowed = _COUNTED * tolerance_mm * tolerance_mm
    for _ in range(_PASSES):
        starts, ring = _rings(faces, len(points))
        _choose(points, quadrics, faces, starts, ring, frozen, touched, allowed, target, cost, place)
        order = np.flatnonzero(np.isfinite(cost))
        order = order[np.argsort(cost[order], kind="stable")]
        before = len(faces)
        touched[:] = False
        _collapse(order, target, place, points, quadrics, faces, starts, ring, touched)
        faces = np.ascontiguousarray(faces[faces[:, 0] >= 0])
        if before - len(faces) < _LEAST_SHARE * before:
            break
    used, index = np.unique(faces, return_inverse=True)
    return Mesh(np.ascontiguousarray(points[used]), np.ascontiguousarray(index.reshape(-1, 3), dtype=np.int32))


@nb.njit(_POINTS(_POINTS, _FACES), cache=True)
def _plane_sums(points: FloatArray, faces: IntArray) -> FloatArray:
    """For each vertex, the sum of squared distances to the planes around it: xx xy xz yy yz zz, x y z, 1."""
    sums = np.zeros((points.shape[0], 10))
    for f in range(faces.shape[0]):
        a, b, c = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        size = np.sqrt(x * x + y * y + z * z)
        if size == 0.0:
            continue
        x, y, z = x / size, y / size, z / size
        d = -(x * a[0] + y * a[1] + z * a[2])
        for k in range(3):
            s = sums[faces[f, k]]
            s[0] += x * x
            s[1] += x * y
            s[2] += x * z
            s[3] += y * y
            s[4] += y * z
            s[5] += z * z
            s[6] += x * d
            s[7] += y * d
            s[8] += z * d
            s[9] += d * d
    return sums


@nb.njit(nb.types.UniTuple(_LONGS, 2)(_FACES, nb.int64), cache=True)
def _rings(faces: IntArray, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Corners (4 * triangle + number) around each vertex: where each begins, and all of them."""
    starts = np.zeros(count + 1, dtype=np.int64)
    for f in range(faces.shape[0]):
        for k in range(3):
            starts[faces[f, k] + 1] += 1
    for v in range(count):
        starts[v + 1] += starts[v]
    at = starts[:-1].copy()
    ring = np.empty(3 * faces.shape[0], dtype=np.int64)
    for f in range(faces.shape[0]):
        for k in range(3):
            v = faces[f, k]
            ring[at[v]] = 4 * f + k
            at[v] += 1
    return starts, ring


@nb.njit(nb.types.UniTuple(nb.float64, 4)(_POINTS, _POINTS, nb.int64, nb.int64), cache=True, error_model="numpy")
def _best_place(points: FloatArray, sums: FloatArray, u: int, v: int) -> tuple[float, float, float, float]:
    """Where the planes of both vertices are nearest to one point: the sum of squared distances there, and x, y, z."""
    a, b = sums[u], sums[v]
    xx, xy, xz, yy, yz, zz = a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5]
    x, y, z, one = a[6] + b[6], a[7] + b[7], a[8] + b[8], a[9] + b[9]
    mx = 0.5 * (points[u, 0] + points[v, 0])
    my = 0.5 * (points[u, 1] + points[v, 1])
    mz = 0.5 * (points[u, 2] + points[v, 2])
    pull = _PULL * (xx + yy + zz)
    if pull <= 0.0:
        pull = 1.0
    p, q, r = xx + pull, yy + pull, zz + pull
    # the middle as origin: the gradient there, then one symmetric 3 x 3 solution by cofactors
    gx = -(xx * mx + xy * my + xz * mz + x)
    gy = -(xy * mx + yy * my + yz * mz + y)
    gz = -(xz * mx + yz * my + zz * mz + z)
    c00, c01, c02 = q * r - yz * yz, xz * yz - xy * r, xy * yz - xz * q
    c11, c12, c22 = p * r - xz * xz, xy * xz - p * yz, p * q - xy * xy
    whole = p * c00 + xy * c01 + xz * c02
    i = mx + (c00 * gx + c01 * gy + c02 * gz) / whole
    j = my + (c01 * gx + c11 * gy + c12 * gz) / whole
    k = mz + (c02 * gx + c12 * gy + c22 * gz) / whole
    squares = xx * i * i + yy * j * j + zz * k * k + 2.0 * (xy * i * j + xz * i * k + yz * j * k)
    return max(0.0, squares + 2.0 * (x * i + y * j + z * k) + one), i, j, k


@nb.njit(nb.boolean(_FACES, _LONGS, _LONGS, nb.int64, nb.int64), cache=True)
def _links(faces: IntArray, starts: npt.NDArray[np.int64], ring: npt.NDArray[np.int64], u: int, v: int) -> bool:
    """Does the surface stay a closed two-manifold when an edge collapses? Its ends must share two neighbours exactly."""
    first, second = starts[u + 1] - starts[u], starts[v + 1] - starts[v]
    if first + second > _MOST_NEIGHBOURS or (first <= 3 and second <= 3):
        return False
    shared = 0
    for i in range(starts[u], starts[u + 1]):
        w = faces[ring[i] >> 2, _NEXT[ring[i] & 3]]
        for j in range(starts[v], starts[v + 1]):
            shared += faces[ring[j] >> 2, _NEXT[ring[j] & 3]] == w
    return shared == 2


@nb.njit(
    nb.boolean(_POINTS, _FACES, _LONGS, _LONGS, nb.int64, nb.int64, nb.types.UniTuple(nb.float64, 3)),
    cache=True,
    error_model="numpy",
)
def _keeps_facing(points, faces, starts, ring, u, v, to):  # type: ignore[no-untyped-def]
    """Do the triangles around ``u``, without those that vanish, keep their side and shape when ``u`` moves?"""
    for i in range(starts[u], starts[u + 1]):
        f, k = ring[i] >> 2, ring[i] & 3
        b, c = faces[f, _NEXT[k]], faces[f, _NEXT[k + 1]]
        if v == b or v == c:  # noqa: SIM109 - compiled
            continue
        ux, uy, uz = points[c, 0] - points[b, 0], points[c, 1] - points[b, 1], points[c, 2] - points[b, 2]
        ox, oy, oz = points[u, 0] - points[b, 0], points[u, 1] - points[b, 1], points[u, 2] - points[b, 2]
        nx, ny, nz = to[0] - points[b, 0], to[1] - points[b, 1], to[2] - points[b, 2]
        px, py, pz = uy * oz - uz * oy, uz * ox - ux * oz, ux * oy - uy * ox
        qx, qy, qz = uy * nz - uz * ny, uz * nx - ux * nz, ux * ny - uy * nx
        base = ux * ux + uy * uy + uz * uz
        old, new = px * px + py * py + pz * pz, qx * qx + qy * qy + qz * qz
        old_side = max(base, ox * ox + oy * oy + oz * oz, (ox - ux) ** 2 + (oy - uy) ** 2 + (oz - uz) ** 2)
        new_side = max(base, nx * nx + ny * ny + nz * nz, (nx - ux) ** 2 + (ny - uy) ** 2 + (nz - uz) ** 2)
        old_shape, new_shape = old / max(old_side * old_side, 1e-300), new / max(new_side * new_side, 1e-300)
        if new_shape < _SHAPE * _SHAPE and new_shape <= old_shape:
            return False
        if px * qx + py * qy + pz * qz <= _TURN_COSINE * np.sqrt(old * new):
            return False
    return True


@nb.njit(
    nb.void(
        _POINTS, _POINTS, _FACES, _LONGS, _LONGS, _FLAGS, _FLAGS, nb.float64, nb.int32[::1], nb.float64[::1], _POINTS
    ),
    parallel=True,
    cache=True,
    error_model="numpy",
)  # fmt: skip
def _choose(points, sums, faces, starts, ring, frozen, touched, allowed, target, cost, place):  # type: ignore[no-untyped-def]
    """For each vertex, the cheapest sound collapse to a vertex of higher number; infinite cost where there is none.

    What no collapse of the last pass has touched keeps its answer.
    """
    for u in nb.prange(points.shape[0]):
        changed = touched[u]
        for i in range(starts[u], starts[u + 1]):
            changed = changed or touched[faces[ring[i] >> 2, _NEXT[ring[i] & 3]]]
        if not changed:
            continue
        cost[u] = np.inf
        if frozen[u]:
            continue
        for i in range(starts[u], starts[u + 1]):
            v = faces[ring[i] >> 2, _NEXT[ring[i] & 3]]
            if v < u or frozen[v]:
                continue
            off, x, y, z = _best_place(points, sums, u, v)
            if not off <= allowed:
                continue
            across, back, up = points[u, 0] - points[v, 0], points[u, 1] - points[v, 1], points[u, 2] - points[v, 2]
            value = off + _LENGTH_WEIGHT * (across * across + back * back + up * up)
            if (
                value < cost[u]
                and _links(faces, starts, ring, u, v)
                and _keeps_facing(points, faces, starts, ring, u, v, (x, y, z))
                and _keeps_facing(points, faces, starts, ring, v, u, (x, y, z))
            ):
                cost[u] = value
                target[u] = v
                place[u, 0], place[u, 1], place[u, 2] = x, y, z


@nb.njit(nb.void(_LONGS, nb.int32[::1], _POINTS, _POINTS, _POINTS, _FACES, _LONGS, _LONGS, _FLAGS), cache=True)
def _collapse(order, target, place, points, sums, faces, starts, ring, touched):  # type: ignore[no-untyped-def]
    """Collapse in the given order whatever no earlier collapse of this pass has touched; dropped triangles get -1 first."""
    for index in range(order.shape[0]):
        u = order[index]
        v = nb.int64(target[u])
        if touched[u] or touched[v]:
            continue
        for end in (u, v):
            for i in range(starts[end], starts[end + 1]):
                for k in range(3):
                    touched[faces[ring[i] >> 2, k]] = True
        for i in range(starts[v], starts[v + 1]):
            f = ring[i] >> 2
            if faces[f, 0] == u or faces[f, 1] == u or faces[f, 2] == u:
                faces[f, 0] = -1
            else:
                faces[f, ring[i] & 3] = u
        for k in range(3):
            points[u, k] = place[u, k]
        for k in range(10):
            sums[u, k] += sums[v, k]
