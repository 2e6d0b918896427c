"""How far every place of a small grid is from the bone, and how near anything comes to the bone on its way out.

The grid stands in the device's own frame: z is the way out, so that a device slides on along -z. Distances are signed, negative
inside the bone: exact beside the bone, where the contact lies, and between the nodes of a coarse grid elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from batchone.design.cranial.columns import submesh
from batchone.design.nearest import nearest_mm
from batchone.design.winding import winding
from batchone.pipeline.values import FloatArray, Mesh

Float32Array = npt.NDArray[np.float32]

COARSE = 4  # numerical: nodes of the coarse grid per axis; distances to a bone are smooth away from it
REACH_MM = 8.0  # numerical: distances beyond are cut off there; more than any shell is thick
_OFF_LATTICE = 0.3819660112501051  # numerical: shifts columns off rounded coordinates, so that none passes through a vertex


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """A grid: middle of its first voxel (3,) mm, distance of neighbours mm, voxels along (x, y, z)."""

    origin_mm: FloatArray
    step_mm: float
    shape: tuple[int, int, int]

    @property
    def x_mm(self) -> FloatArray:
        """(nx, 1) place of the columns along x."""
        return np.asarray(self.origin_mm[0] + np.arange(self.shape[0])[:, None] * self.step_mm)

    @property
    def y_mm(self) -> FloatArray:
        """(1, ny) place of the columns along y."""
        return np.asarray(self.origin_mm[1] + np.arange(self.shape[1])[None] * self.step_mm)

    @property
    def z_mm(self) -> FloatArray:
        """(nz,) heights."""
        return np.asarray(self.origin_mm[2] + np.arange(self.shape[2]) * self.step_mm)

    def at(self, field: npt.NDArray[np.floating], points_mm: FloatArray) -> FloatArray:
        """(n,) values of a field (3D, or 2D over the columns) at points (n, 3), between its nodes linearly."""
        from scipy.ndimage import map_coordinates

        index = ((points_mm - self.origin_mm) / self.step_mm).T[: field.ndim]
        return np.asarray(map_coordinates(field, index, output=np.float64, order=1, mode="nearest"))


def lattice_over(low_mm: FloatArray, high_mm: FloatArray, step_mm: float) -> Lattice:
    """A grid that holds the box between two corners; a multiple of the coarse grid along each axis, and one node more."""
    origin = (np.floor(np.asarray(low_mm) / step_mm) - 1.0 + _OFF_LATTICE) * step_mm
    counts = np.ceil((np.asarray(high_mm) - origin) / (step_mm * COARSE)).astype(int) * COARSE + 1
    return Lattice(origin, step_mm, (int(counts[0]), int(counts[1]), int(counts[2])))


def signed_distance_mm(mesh: Mesh, lattice: Lattice, *, exact_mm: float) -> Float32Array:
    """Signed distance of every voxel to a closed surface, negative inside, cut off at ``REACH_MM``.

    Parameters
    ----------
    mesh
        Closed and oriented outward, in the frame of the lattice.
    lattice
        Where.
    exact_mm
        Nearer to the surface than this the distance is exact (single precision); elsewhere it is linear between coarse nodes.
    """
    near = _over(mesh, lattice)
    if len(near.faces) == 0:
        return np.full(lattice.shape, REACH_MM, dtype=np.float32)
    inside = winding(near, lattice.origin_mm, lattice.step_mm, lattice.shape) != 0
    nodes = inside[::COARSE, ::COARSE, ::COARSE]
    places = _places(np.indices(nodes.shape).reshape(3, -1).T * COARSE, lattice)
    far = np.minimum(nearest_mm(places, near, within_mm=REACH_MM), REACH_MM).reshape(nodes.shape)
    coarse = np.where(nodes, -far, far).astype(np.float32)
    distance = np.empty(lattice.shape, dtype=np.float32)
    _between(np.ascontiguousarray(coarse), COARSE, distance)
    slack = np.float32(exact_mm + _worst_mm(lattice))
    index = np.argwhere(np.abs(distance) < slack)
    found = nearest_mm(_places(index, lattice), near, within_mm=REACH_MM)
    place = (index[:, 0], index[:, 1], index[:, 2])
    distance[place] = np.where(inside[place], -found, found)
    return distance


def nearest_on_the_way(distance_mm: Float32Array) -> Float32Array:
    """How near to the bone what is at each voxel comes while it moves out along z: the least distance at or above it."""
    return np.ascontiguousarray(np.minimum.accumulate(distance_mm[:, :, ::-1], axis=2)[:, :, ::-1])


def _worst_mm(lattice: Lattice) -> float:
    """By how much a distance between coarse nodes can err at most: they never change faster than the place does."""
    return 0.5 * np.sqrt(3.0) * lattice.step_mm * COARSE


def _over(mesh: Mesh, lattice: Lattice) -> Mesh:
    """The triangles over the columns of the grid and around them: all that decide about inside and outside."""
    low = lattice.origin_mm[:2] - REACH_MM
    high = lattice.origin_mm[:2] + (np.array(lattice.shape[:2]) - 1) * lattice.step_mm + REACH_MM
    corners = mesh.vertices_mm[mesh.faces][:, :, :2]
    return submesh(mesh, ((corners.max(axis=1) >= low) & (corners.min(axis=1) <= high)).all(axis=1))


def _places(index: npt.NDArray[np.int64], lattice: Lattice) -> FloatArray:
    return np.asarray(lattice.origin_mm + index * lattice.step_mm)


@numba.njit("void(float32[:,:,::1], int64, float32[:,:,::1])", cache=True, parallel=True)
def _between(coarse, every, fine):  # type: ignore[no-untyped-def]
    """Values between the nodes of a grid, linear along each axis."""
    for i in numba.prange(fine.shape[0]):
        a = min(i // every, coarse.shape[0] - 2)
        u = np.float32(i - a * every) / np.float32(every)
        for j in range(fine.shape[1]):
            b = min(j // every, coarse.shape[1] - 2)
            v = np.float32(j - b * every) / np.float32(every)
            for k in range(fine.shape[2]):
                c = min(k // every, coarse.shape[2] - 2)
                w = np.float32(k - c * every) / np.float32(every)
                low = (coarse[a, b, c] * (1 - u) + coarse[a + 1, b, c] * u) * (1 - v) + (
                    coarse[a, b + 1, c] * (1 - u) + coarse[a + 1, b + 1, c] * u
                ) * v
                high = (coarse[a, b, c + 1] * (1 - u) + coarse[a + 1, b, c + 1] * u) * (1 - v) + (
                    coarse[a, b + 1, c + 1] * (1 - u) + coarse[a + 1, b + 1, c + 1] * u
                ) * v
                fine[i, j, k] = low * (1 - w) + high * w
