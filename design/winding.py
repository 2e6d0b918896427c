"""Inside or outside a closed surface, voxel by voxel: how often the surface winds around each, column by column."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, Mesh


def winding(mesh: Mesh, origin_mm: FloatArray, step_mm: float, shape: tuple[int, int, int]) -> npt.NDArray[np.int8]:
    """Winding number (0: outside) of each voxel of a grid along the mesh's axes.

    Parameters
    ----------
    mesh
        Closed over the grid's columns; what lies beside them may be missing. No column may pass through a vertex: keep the
        origin off rounded coordinates.
    origin_mm, step_mm, shape
        The grid: middle of the first voxel (3,), distance of neighbours, voxels along x, y, z.
    """
    inside = np.zeros(shape, dtype=np.int8)
    _wind(np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces), origin_mm, step_mm, inside)
    return inside


@numba.njit("boolean(float64[:,::1], int32, int32, float64, float64)", cache=True, nogil=True)
def _left(vertices, a, b, x, y):  # type: ignore[no-untyped-def]
    """Is a point left of the edge a to b? Both triangles of an edge get exactly opposite answers."""
    p, q = min(a, b), max(a, b)
    side = (vertices[q, 0] - vertices[p, 0]) * (y - vertices[p, 1]) - (vertices[q, 1] - vertices[p, 1]) * (x - vertices[p, 0])
    return (side >= 0.0) if a < b else (side < 0.0)


@numba.njit("void(float64[:,::1], int32[:,::1], float64[::1], float64, int8[:,:,::1])", cache=True, nogil=True)
def _wind(vertices, faces, origin, step, inside):  # type: ignore[no-untyped-def]
    """Count, for each voxel, how often the closed surface winds around it (0: outside), column by column along z."""
    nx, ny, nz = inside.shape
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
            ux, uy, vx, vy = vx, vy, ux, uy
        i0 = max(0, int(np.ceil((min(vertices[a, 0], vertices[b, 0], vertices[c, 0]) - origin[0]) / step)))
        i1 = min(nx - 1, int(np.floor((max(vertices[a, 0], vertices[b, 0], vertices[c, 0]) - origin[0]) / step)))
        j0 = max(0, int(np.ceil((min(vertices[a, 1], vertices[b, 1], vertices[c, 1]) - origin[1]) / step)))
        j1 = min(ny - 1, int(np.floor((max(vertices[a, 1], vertices[b, 1], vertices[c, 1]) - origin[1]) / step)))
        for i in range(i0, i1 + 1):
            x = origin[0] + i * step
            for j in range(j0, j1 + 1):
                y = origin[1] + j * step
                if not (_left(vertices, a, b, x, y) and _left(vertices, b, c, x, y) and _left(vertices, c, a, x, y)):
                    continue
                wx, wy = x - vertices[a, 0], y - vertices[a, 1]
                s = (wx * vy - wy * vx) / abs(twice)
                t = (ux * wy - uy * wx) / abs(twice)
                z = vertices[a, 2] + s * (vertices[b, 2] - vertices[a, 2]) + t * (vertices[c, 2] - vertices[a, 2])
                k = min(nz - 1, int(np.floor((z - origin[2]) / step)))
                if k >= 0:
                    inside[i, j, k] += sign
    for i in range(nx):
        for j in range(ny):
            winding = 0
            for k in range(nz - 1, -1, -1):
                winding += inside[i, j, k]
                inside[i, j, k] = winding
