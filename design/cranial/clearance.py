"""How near the bone comes on the way out: exact distances where they matter, then one running minimum from the outside in.

At each voxel the clearance is the least signed distance to the bone met between it and the outside along local z. A body kept
where the clearance is at least the gap has that gap everywhere and no undercut along the axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from batchone.design.cranial.columns import Columns, cropped
from batchone.design.nearest import square_distance
from batchone.pipeline.values import FloatArray, Mesh

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]

_INSIDE_MM = 0.7  # numerical: exact distances reach this far into the bone, two voxels, enough to interpolate at the gap
_FAR_MM = 1.0e4  # numerical: above any head


@dataclass(frozen=True, slots=True, eq=False)
class Occupied:
    """Where bone is, by column.

    Attributes
    ----------
    inside
        (x, y, z) bool: the voxel lies in bone.
    top_mm
        (x, y) float64: z of the highest bone of the column, also above the grid; minus infinity where there is none.
    """

    inside: BoolArray
    top_mm: FloatArray


def occupied(bone: Mesh, columns: Columns) -> Occupied:
    """Which voxels of the used columns lie inside a closed bone (same frame, mm): crossings counted from the outside in."""
    low = columns.origin_mm - columns.step_mm
    high = columns.origin_mm + np.array(columns.shape) * columns.step_mm
    tall = cropped(bone, low, np.array([high[0], high[1], _FAR_MM]))
    crossings = np.zeros(columns.shape, dtype=np.int8)
    inside = np.zeros(columns.shape, dtype=np.bool_)
    top = np.full(columns.shape[:2], -np.inf)
    _cross(tall.vertices_mm, tall.faces, columns.origin_mm, columns.step_mm, columns.used, crossings, top)
    _fill(crossings, columns.used, inside)
    return Occupied(inside, top)


def seen_top_mm(bone: Mesh, columns: Columns, *, times: int) -> FloatArray:
    """z (x, y) of the highest bone on a grid ``times`` as fine across, from the same corner; minus infinity without bone."""
    step = columns.step_mm / times
    used = np.repeat(np.repeat(columns.used, times, axis=0), times, axis=1)
    low = columns.origin_mm - columns.step_mm
    high = columns.origin_mm + np.array(columns.shape) * columns.step_mm
    tall = cropped(bone, low, np.array([high[0], high[1], _FAR_MM]))
    top = np.full(used.shape, -np.inf)
    _cross(tall.vertices_mm, tall.faces, columns.origin_mm, step, used, np.zeros((*used.shape, 1), dtype=np.int8), top)
    return top


def bone_distance(bone: Mesh, columns: Columns, taken: Occupied, *, wanted: BoolArray, band_mm: float) -> Float32Array:
    """Signed distance to a closed bone on a grid (x, y, z) float32, positive outside, cut off at ``band_mm``.

    Parameters
    ----------
    bone
        Closed surface in the frame of the grid, mm.
    columns
        The grid.
    taken
        Where the bone is.
    wanted
        (x, y) columns in which distances are exact within the band; elsewhere only the sign holds.
    band_mm
        Distances are exact up to here.
    """
    step = columns.step_mm
    distance = np.where(taken.inside, np.float32(-band_mm), np.float32(band_mm))
    i, j = np.nonzero(wanted)
    if len(i) == 0:
        return distance
    room = np.array([band_mm + step] * 3)
    first, last = np.array([i.min(), j.min(), 0]), np.array([i.max(), j.max(), columns.shape[2] - 1])
    near = cropped(bone, columns.origin_mm + first * step - room, columns.origin_mm + last * step + room)
    if len(near.faces) == 0:
        return distance
    _splat(near.vertices_mm, near.faces, columns.origin_mm, step, wanted, _INSIDE_MM, band_mm, distance)
    return distance


@numba.njit("boolean(float64[:,::1], int32, int32, float64, float64)", cache=True)
def _left(vertices, a, b, x, y):  # type: ignore[no-untyped-def]
    """Is a point left of the edge a to b? Both triangles of an edge get exactly opposite answers."""
    p, q = min(a, b), max(a, b)
    side = (vertices[q, 0] - vertices[p, 0]) * (y - vertices[p, 1]) - (vertices[q, 1] - vertices[p, 1]) * (x - vertices[p, 0])
    return (side >= 0.0) if a < b else (side < 0.0)


@numba.njit(
    "void(float64[:,::1], int32[:,::1], float64[::1], float64, boolean[:,::1], int8[:,:,::1], float64[:,::1])", cache=True
)
def _cross(vertices, faces, origin, step, used, crossings, top):  # type: ignore[no-untyped-def]
    """Mark, per column, where it passes through the surface: +1 entering from above, -1 leaving."""
    nx, ny, nz = crossings.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1]
        vx, vy = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1]
        twice = ux * vy - uy * vx
        if twice == 0.0:
            continue
        sign = 1 if twice > 0.0 else -1
        if sign < 0:
            b, c = c, b
        low_x = min(vertices[a, 0], vertices[b, 0], vertices[c, 0])
        high_x = max(vertices[a, 0], vertices[b, 0], vertices[c, 0])
        low_y = min(vertices[a, 1], vertices[b, 1], vertices[c, 1])
        high_y = max(vertices[a, 1], vertices[b, 1], vertices[c, 1])
        i0 = max(0, int(np.ceil((low_x - origin[0]) / step)))
        i1 = min(nx - 1, int(np.floor((high_x - origin[0]) / step)))
        j0 = max(0, int(np.ceil((low_y - origin[1]) / step)))
        j1 = min(ny - 1, int(np.floor((high_y - origin[1]) / step)))
        for i in range(i0, i1 + 1):
            x = origin[0] + i * step
            for j in range(j0, j1 + 1):
                if not used[i, j]:
                    continue
                y = origin[1] + j * step
                if not (_left(vertices, a, b, x, y) and _left(vertices, b, c, x, y) and _left(vertices, c, a, x, y)):
                    continue
                wb = (
                    (x - vertices[a, 0]) * (vertices[c, 1] - vertices[a, 1])
                    - (y - vertices[a, 1]) * (vertices[c, 0] - vertices[a, 0])
                ) / abs(twice)
                wc = (
                    (y - vertices[a, 1]) * (vertices[b, 0] - vertices[a, 0])
                    - (x - vertices[a, 0]) * (vertices[b, 1] - vertices[a, 1])
                ) / abs(twice)
                z = vertices[a, 2] + wb * (vertices[b, 2] - vertices[a, 2]) + wc * (vertices[c, 2] - vertices[a, 2])
                k = int(np.floor((z - origin[2]) / step))
                top[i, j] = max(top[i, j], z)
                if k >= nz:
                    crossings[i, j, nz - 1] += sign
                elif k >= 0:
                    crossings[i, j, k] += sign


@numba.njit("void(int8[:,:,::1], boolean[:,::1], boolean[:,:,::1])", cache=True)
def _fill(crossings, used, inside):  # type: ignore[no-untyped-def]
    """Turn crossings into inside and outside, from the top down."""
    nx, ny, nz = crossings.shape
    for i in range(nx):
        for j in range(ny):
            if not used[i, j]:
                continue
            winding = 0
            for k in range(nz - 1, -1, -1):
                winding += crossings[i, j, k]
                if winding > 0:
                    inside[i, j, k] = True


@numba.njit(
    "void(float64[:,::1], int32[:,::1], float64[::1], float64, boolean[:,::1], float64, float64, float32[:,:,::1])",
    cache=True,
    error_model="numpy",
)
def _splat(vertices, faces, origin, step, wanted, inside_mm, band_mm, distance):  # type: ignore[no-untyped-def]
    """Lower the size of the distance of all voxels within reach of each triangle; the sign stays."""
    nx, ny, nz = distance.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        mx = (vertices[a, 0] + vertices[b, 0] + vertices[c, 0]) / 3.0
        my = (vertices[a, 1] + vertices[b, 1] + vertices[c, 1]) / 3.0
        mz = (vertices[a, 2] + vertices[b, 2] + vertices[c, 2]) / 3.0
        around = 0.0
        for v in (a, b, c):
            dx, dy, dz = vertices[v, 0] - mx, vertices[v, 1] - my, vertices[v, 2] - mz
            around = max(around, dx * dx + dy * dy + dz * dz)
        around = np.sqrt(around)
        reach = band_mm + around
        i0 = max(0, int(np.ceil((mx - reach - origin[0]) / step)))
        i1 = min(nx - 1, int(np.floor((mx + reach - origin[0]) / step)))
        j0 = max(0, int(np.ceil((my - reach - origin[1]) / step)))
        j1 = min(ny - 1, int(np.floor((my + reach - origin[1]) / step)))
        for i in range(i0, i1 + 1):
            x = origin[0] + i * step
            for j in range(j0, j1 + 1):
                if not wanted[i, j]:
                    continue
                y = origin[1] + j * step
                left2 = reach * reach - (x - mx) * (x - mx) - (y - my) * (y - my)
                if left2 <= 0.0:
                    continue
                left = np.sqrt(left2)
                k0 = max(0, int(np.ceil((mz - left - origin[2]) / step)))
                k1 = min(nz - 1, int(np.floor((mz + left - origin[2]) / step)))
                for k in range(k0, k1 + 1):
                    z = origin[2] + k * step
                    now = abs(distance[i, j, k])
                    if distance[i, j, k] < 0.0:
                        now = min(now, inside_mm)
                    far = now + around
                    if (x - mx) * (x - mx) + (y - my) * (y - my) + (z - mz) * (z - mz) >= far * far:
                        continue
                    square = square_distance(vertices, a, b, c, x, y, z)
                    if square < now * now:
                        distance[i, j, k] = -np.sqrt(square) if distance[i, j, k] < 0.0 else np.sqrt(square)
