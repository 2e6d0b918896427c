"""A closed surface on a scan's grid: which voxel centres lie inside, one bit each."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, Mesh, moved_points

_NUDGE = 1e-7  # of a voxel: a ray of voxel centres never runs exactly along an edge or through a vertex of a designed part


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Voxel centres: ``affine`` (4, 4) maps (column, row, slice) to LPS mm, ``shape`` is (slices, rows, columns)."""

    affine: FloatArray
    shape: tuple[int, int, int]

    def indices(self, mesh: Mesh) -> FloatArray:
        """The (n, 3) vertices in (column, row, slice) of this grid."""
        inverse = np.linalg.inv(self.affine).astype(np.float64)
        return moved_points(inverse, mesh.vertices_mm)

    def slices(self, first: int, count: int) -> Grid:
        """The same grid cut down to ``count`` slices from ``first`` on."""
        affine = self.affine.copy()
        affine[:3, 3] += first * affine[:3, 2]
        return Grid(affine, (count, self.shape[1], self.shape[2]))


def slice_range(meshes: tuple[Mesh, ...], grid: Grid) -> tuple[int, int]:
    """First slice and number of slices that hold all the surfaces, at least one; the part outside the grid does not count."""
    heights = np.concatenate([grid.indices(mesh)[:, 2] for mesh in meshes])
    last = grid.shape[0] - 1
    first = int(np.clip(np.floor(heights.min()), 0, last))
    end = int(np.clip(np.ceil(heights.max()), first, last))
    return first, end - first + 1


def put_inside(mesh: Mesh, grid: Grid, *, bits: npt.NDArray[np.uint8], offset: int) -> None:
    """Set the bit of each voxel whose centre lies inside a closed surface.

    Parameters
    ----------
    mesh
        Closed surface, LPS mm.
    grid
        The voxel centres.
    bits
        Packed bits, least significant first, zero where nothing was put: bit ``offset`` is the first voxel of the first slice,
        columns run fastest, then rows, then slices.
    """
    points = grid.indices(mesh)
    slices, rows, columns = grid.shape
    size = np.array([columns, rows, slices], dtype=np.int64)
    low = np.clip(np.floor(points.min(axis=0)).astype(np.int64), 0, size)
    high = np.clip(np.ceil(points.max(axis=0)).astype(np.int64) + 1, low, size)
    crossings = np.zeros(tuple((high - low)[::-1]), dtype=np.uint8)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32)
    _mark_crossings(np.ascontiguousarray(points - low + _NUDGE), faces, crossings)
    _set_inside(crossings, low[::-1].copy(), np.array([rows, columns], dtype=np.int64), offset, bits)


@numba.njit("void(float64[:,::1], int32[:,::1], uint8[:,:,::1])", cache=True, error_model="numpy")
def _mark_crossings(points, faces, crossings):  # type: ignore[no-untyped-def]
    """Count (modulo 2) the surface's crossings of each ray along the columns, at the first voxel after the crossing."""
    slices, rows, columns = crossings.shape
    for index in range(faces.shape[0]):
        a, b, c = faces[index, 0], faces[index, 1], faces[index, 2]
        low_z = min(points[a, 2], points[b, 2], points[c, 2])
        high_z = max(points[a, 2], points[b, 2], points[c, 2])
        for k in range(max(0, int(np.ceil(low_z))), min(slices, int(np.ceil(high_z)))):
            # the triangle's section with this slice runs from one side to another: two points (x, y)
            found = 0
            x0 = y0 = x1 = y1 = 0.0
            for side in range(3):
                p, q = faces[index, side], faces[index, (side + 1) % 3]
                if (points[p, 2] < k) == (points[q, 2] < k):
                    continue
                if points[q, 2] < points[p, 2]:  # always upwards: both neighbours compute the very same point
                    p, q = q, p
                share = (k - points[p, 2]) / (points[q, 2] - points[p, 2])
                x = points[p, 0] + share * (points[q, 0] - points[p, 0])
                y = points[p, 1] + share * (points[q, 1] - points[p, 1])
                if found == 0:
                    x0, y0 = x, y
                else:
                    x1, y1 = x, y
                found += 1
            if found != 2 or y0 == y1:
                continue
            if y1 < y0:
                x0, y0, x1, y1 = x1, y1, x0, y0
            for j in range(max(0, int(np.ceil(y0))), min(rows, int(np.ceil(y1)))):
                x = x0 + (j - y0) / (y1 - y0) * (x1 - x0)
                i = max(0, int(np.ceil(x)))
                if i < columns:
                    crossings[k, j, i] ^= 1


@numba.njit("void(uint8[:,:,::1], int64[::1], int64[::1], int64, uint8[::1])", cache=True)
def _set_inside(crossings, low, size, offset, bits):  # type: ignore[no-untyped-def]
    """Set the bits of the voxels that an odd number of crossings lies before."""
    slices, rows, columns = crossings.shape
    for k in range(slices):
        for j in range(rows):
            inside = 0
            start = offset + ((low[0] + k) * size[0] + low[1] + j) * size[1] + low[2]
            for i in range(columns):
                inside ^= crossings[k, j, i]
                if inside:
                    bits[(start + i) >> 3] |= np.uint8(1 << ((start + i) & 7))
