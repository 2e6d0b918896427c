"""Which points of a regular grid lie inside a closed surface."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, IntArray, Mesh

_NUDGE = 1.37e-5  # of a step: no ray runs exactly along an edge

_POINTS = nb.types.Array(nb.float64, 2, "C", readonly=True)
_FACES = nb.types.Array(nb.int32, 2, "C", readonly=True)


@nb.njit(nb.void(_POINTS, _FACES, nb.boolean[:, :, ::1]), cache=True, nogil=True)
def _cross(points: FloatArray, faces: IntArray, flips: npt.NDArray[np.bool_]) -> None:
    """Turn over the first voxel above each crossing of a surface with the rays along z; grid (x, y, z)."""
    for f in range(faces.shape[0]):
        a, b, c = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0.0:
            continue
        x0, x1 = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        y0, y1 = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        for i in range(max(0, int(np.ceil(x0))), min(flips.shape[0] - 1, int(np.floor(x1))) + 1):
            for j in range(max(0, int(np.ceil(y0))), min(flips.shape[1] - 1, int(np.floor(y1))) + 1):
                u = ((b[0] - i) * (c[1] - j) - (b[1] - j) * (c[0] - i)) / area
                v = ((c[0] - i) * (a[1] - j) - (c[1] - j) * (a[0] - i)) / area
                w = 1.0 - u - v
                if u >= 0.0 and v >= 0.0 and w >= 0.0:
                    k = max(0, int(np.ceil(u * a[2] + v * b[2] + w * c[2])))
                    if k < flips.shape[2]:
                        flips[i, j, k] = not flips[i, j, k]


def occupancy(
    mesh: Mesh, pose: FloatArray, low_mm: FloatArray, shape: tuple[int, int, int], step_mm: float
) -> npt.NDArray[np.bool_]:
    """Whether the points ``low_mm + step_mm * (i, j, k)`` of a frame lie inside a closed surface.

    Parameters
    ----------
    mesh
        LPS mm.
    pose
        (4, 4) frame -> LPS.
    low_mm, shape, step_mm
        First point (3,) in the frame, number of points along x, y, z, and their distance.
    """
    local = (mesh.vertices_mm - pose[:3, 3]) @ pose[:3, :3]
    points = np.ascontiguousarray((local - low_mm) / step_mm + _NUDGE * np.array([1.0, 0.618, 0.414]))
    flips = np.zeros(shape, dtype=np.bool_)
    _cross(points, np.ascontiguousarray(mesh.faces), flips)
    return np.asarray(np.bitwise_xor.accumulate(flips, axis=2))
