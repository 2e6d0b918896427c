"""How far every place of a small grid is from the bone, and how near anything comes to the bone on its way out.

The grid stands in the device's own frame: z is the way out, so that a device slides on along -z. Distances are signed, negative
inside the bone: exact beside the bone, where the contact lies, and between the nodes of a coarse grid elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from batchone.design.cranial.columns import BoolArray, meeting, submesh
from batchone.design.nearest import THIN_MM, Index, indexed, nearest_mm, thinned_tree
from batchone.design.winding import winding
from batchone.pipeline.values import FloatArray, Mesh

Float32Array = npt.NDArray[np.float32]

COARSE = 4  # numerical, a power of two: voxels between the nodes of the coarse grid; far from bone distances are smooth
EXACT_MM = 0.35  # numerical: a step of the grid and a little more: the surface at a level lies between exact voxels
NEAR_MM = 2.0  # numerical: further off, the nearest vertex is as far as the surface, within 0.05 mm for triangles of 1 mm
_ROUNDED_UP = 1.0 + 1e-9  # numerical: the surface at a vertex is not lost by rounding
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
    """A grid that holds the box between two corners; a multiple of ``COARSE`` along each axis, and one node more."""
    origin = (np.floor(np.asarray(low_mm) / step_mm) - 1.0 + _OFF_LATTICE) * step_mm
    counts = np.ceil((np.asarray(high_mm) - origin) / (step_mm * COARSE)).astype(int) * COARSE + 1
    return Lattice(origin, step_mm, (int(counts[0]), int(counts[1]), int(counts[2])))


def signed_distance_mm(
    mesh: Mesh,
    lattice: Lattice,
    *,
    level_mm: float | None = None,
    every: int = COARSE,
    far_only: bool = False,
    over: BoolArray | None = None,
    surface: Index | None = None,
) -> Float32Array:
    """Signed distance of every voxel to a closed surface, negative inside, cut off at ``REACH_MM``.

    Parameters
    ----------
    mesh
        Closed and oriented outward, in the frame of the lattice.
    lattice
        Where.
    level_mm
        The distance at which something will be made: voxels within ``EXACT_MM`` of it are exact (single precision). All others,
        and all without a level, are linear between nodes.
    every
        Voxels between nodes at first, a power of two; from there on half as many, again and again.
    far_only
        Nearer than ``NEAR_MM`` a distance need not be exact: nearest vertices do, and only the sign is certain. Without a level.
    over
        (x, y) columns over which something will be made that comes in along z. Over all others, and below what already lies
        deeper than the level by far, distances are as without a level. None: all voxels near the level are exact.
    surface
        All triangles that :func:`about` gives, ready to be asked, where the caller has them.
    """
    near = surface.placed if surface else about(mesh, lattice)
    if len(near.faces) == 0:
        return np.full(lattice.shape, REACH_MM, dtype=np.float32)
    inside = winding(near, lattice.origin_mm, lattice.step_mm, lattice.shape) != 0
    nodes = inside[::every, ::every, ::every]
    places = _places(np.indices(nodes.shape).reshape(3, -1).T * every, lattice)
    index_of = None if far_only else surface or indexed(near)
    tree = index_of.tree if index_of else thinned_tree(near)
    apart = _apart_mm(places, near, tree, index_of).reshape(nodes.shape)
    distance = np.where(nodes, -apart, apart).astype(np.float32)
    left_mm = EXACT_MM + sum(_worst_mm(lattice, step) for step in _finer(every)) if every > 1 else 0.0
    known = False  # whether nodes near the level are exact: not at first, when they may have been far off
    while every > 1:
        finer = np.empty(tuple((n - 1) * 2 + 1 for n in distance.shape), dtype=np.float32)
        _between(np.ascontiguousarray(distance), 2, finer)
        distance = finer
        if level_mm is not None and index_of is not None:
            near_level = np.abs(distance - np.float32(level_mm)) < _bands_mm(distance.shape, lattice, every, left_mm, known)
            if over is not None:
                near_level &= maximum_filter(over, every + 1)[:: every // 2, :: every // 2, None]
                near_level &= nearest_on_the_way(distance) > np.float32(level_mm - 2.0 * left_mm)
            index = np.argwhere(near_level)
            place = (index[:, 0], index[:, 1], index[:, 2])
            asked = _places(index * (every // 2), lattice)
            found = np.minimum(nearest_mm(asked, index_of, within_mm=REACH_MM), REACH_MM)
            distance[place] = np.where(inside[:: every // 2, :: every // 2, :: every // 2][place], -found, found)
            left_mm, known = left_mm - _worst_mm(lattice, every), True
        every //= 2
    return distance


def within(places_mm: FloatArray, surface: Index, reach_mm: float) -> BoolArray:
    """(n,) whether places (n, 3) lie nearer to a surface than ``reach_mm``: few need to be measured to say so."""
    from_vertex_mm = 2.0 * float(surface.balls[:, 3].max())  # no place of a triangle is further from its corners
    to_vertex = _to_vertex_mm(places_mm, surface.tree, reach_mm + from_vertex_mm + float(np.sqrt(3.0)) * THIN_MM)
    near = np.asarray(to_vertex < reach_mm)
    unsure = np.flatnonzero(~near & np.isfinite(to_vertex))
    near[unsure] = nearest_mm(places_mm[unsure], surface, within_mm=reach_mm) < reach_mm
    return near


def _to_vertex_mm(places_mm: FloatArray, tree: cKDTree, reach_mm: float) -> FloatArray:
    """Distance (n,) of places to about the nearest vertex, infinite beyond ``reach_mm``."""
    return np.asarray(tree.query(places_mm, distance_upper_bound=reach_mm, workers=-1)[0])


def _nearest_mm(places_mm: FloatArray, surface: Index, bound_mm: FloatArray) -> FloatArray:
    """Distance (n,) of places to a surface that has a vertex as near as ``bound_mm`` (n,); as far as that where it has none."""
    return np.asarray(np.minimum(nearest_mm(places_mm, surface, within_mm=bound_mm * _ROUNDED_UP), bound_mm))


def _apart_mm(places_mm: FloatArray, mesh: Mesh, tree: cKDTree, surface: Index | None) -> FloatArray:
    """Distance (n,) of places to a surface: exact within ``NEAR_MM``, beyond it, and without an
    index everywhere, to about the nearest vertex; cut at ``REACH_MM``."""
    to_vertex = _to_vertex_mm(places_mm, tree, REACH_MM)
    apart = np.asarray(np.minimum(to_vertex, REACH_MM))
    if surface is None:
        return apart
    close = np.flatnonzero(to_vertex < NEAR_MM + max(_longest_mm(mesh), float(np.sqrt(3.0)) * THIN_MM))
    apart[close] = _nearest_mm(places_mm[close], surface, apart[close])
    return apart


def _longest_mm(mesh: Mesh) -> float:
    """Length of the longest edge of nearly all triangles, of some of them."""
    corners = mesh.vertices_mm[mesh.faces[:: max(1, len(mesh.faces) // 10_000)]]
    return float(np.percentile(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1), 99.0))


def _finer(every: int) -> list[int]:
    """Distances of nodes, in voxels, from which a finer grid is made on the way from ``every`` to 1."""
    return [every] if every <= 2 else [every, *_finer(every // 2)]


def between_nodes(coarse: Float32Array, every: int, shape: tuple[int, int, int]) -> Float32Array:
    """Values of a grid from those of its nodes, ``every`` voxels apart, linear along each axis."""
    if every == 1:
        return coarse
    fine = np.empty(shape, dtype=np.float32)
    _between(np.ascontiguousarray(coarse), every, fine)
    return fine


def nearest_on_the_way(distance_mm: Float32Array) -> Float32Array:
    """How near to the bone what is at each voxel comes while it moves out along z: the least distance at or above it."""
    least = np.ascontiguousarray(distance_mm).copy()
    _least_above(least)
    return least


def _worst_mm(lattice: Lattice, every: int) -> float:
    """By how much a distance between nodes can err at most: it never changes faster than the place does."""
    return 0.5 * float(np.sqrt(3.0)) * lattice.step_mm * every


def _bands_mm(shape: tuple[int, ...], lattice: Lattice, every: int, left_mm: float, known: bool) -> Float32Array:
    """How near to the level each place of a grid made finer, from nodes ``every`` voxels apart, must be to be measured.

    A place in the middle of an edge errs less than one in the middle of a cell; one on a node not at all, where nodes are
    ``known``. ``left_mm`` is the band of the middle of a cell: later steps are in it.
    """
    off_node = sum(np.ix_(*(np.arange(n) % 2 for n in shape)))  # axes along which a place lies between nodes
    share = 1.0 - np.sqrt(np.arange(4) / 3.0)
    bands = left_mm - share * _worst_mm(lattice, every)
    return np.asarray(np.where(known, [0.0, *bands[1:]], [left_mm, *bands[1:]]).astype(np.float32)[off_node])


def about(mesh: Mesh, lattice: Lattice) -> Mesh:
    """The triangles over the columns of the grid and around them, not far below it: all that decide about inside and distance."""
    low = lattice.origin_mm - REACH_MM
    high = lattice.origin_mm[:2] + (np.array(lattice.shape[:2]) - 1) * lattice.step_mm + REACH_MM
    return submesh(mesh, meeting(mesh, low, np.append(high, np.inf)))


def _places(index: npt.NDArray[np.int64], lattice: Lattice) -> FloatArray:
    return np.asarray(lattice.origin_mm + index * lattice.step_mm)


@numba.njit("void(float32[:,:,::1], int64, float32[:,:,::1])", cache=True, parallel=True, nogil=True)
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


@numba.njit("void(float32[:,:,::1])", cache=True, nogil=True)
def _least_above(values):  # type: ignore[no-untyped-def]
    """Replace each value by the least at or above it along z."""
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            for k in range(values.shape[2] - 2, -1, -1):
                values[i, j, k] = min(values[i, j, k], values[i, j, k + 1])
