"""The seat: the room that a device must leave to bone, at rest and on its way out, as a solid whose faces know what they are.

A device made of anything minus the seat touches the bone where the seat's faces are called ``contact``: there they stand off the
bone by the set offset, exactly. Everywhere else (``relief``) it stays further away. Nothing on its way out along z comes nearer
to the bone than the offset, so no undercut is left (the least distance at or above each place counts, not the distance there).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.booleans import Solid, solid_from_labelled_mesh
from batchone.design.contact.field import Float32Array, Lattice, nearest_on_the_way
from batchone.design.isosurface import zero_mesh
from batchone.design.nearest import Index, nearest_points
from batchone.pipeline.values import FloatArray, IntArray, Mesh

CONTACT, RELIEF = "contact", "relief"

_LEVEL_CLEARANCE_MM = 1e-4  # numerical: keeps the surface off the grid points, so that no triangle collapses
_ROUNDING = 2.0  # numerical: columns over which the edge of a zone is rounded
_FREE_MM = 0.02  # numerical: a place counts as free on its way out when nothing above it is nearer by more than this
_NO_NORMAL_MM = 1e-3  # numerical: nearer to the bone than this a place has no direction away from it
_ON_LEVEL_MM = 0.12  # numerical: further off its level than this a vertex is not moved onto it (grid of 0.3 mm, corners)
LEAST_FACING = 0.2  # cosine between the bone's normal and the way out: steeper flanks do not carry; methods tried: 0.02 to 0.2

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the columns (x * y) of a grid meet first of a bone along the way in: how far below the grid's top (NaN: nothing), the
    cosine of that way with the outward normal, and the bone's triangle (-1)."""

    distance_mm: FloatArray
    cosine: FloatArray
    face: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What the device stands on.

    Attributes
    ----------
    bone
        The bone that is touched, closed, in the device's frame.
    lattice
        The grid that everything is measured on.
    distance_mm
        (x, y, z) signed distance to the bone, exact near the contact.
    others_mm
        The same to all that must not be touched (neighbouring bones, metal), or None.
    look
        The bone seen from outside.
    surface
        The triangles about the grid, ready to be asked; None where there are none.
    """

    bone: Mesh
    lattice: Lattice
    distance_mm: Float32Array
    others_mm: Float32Array | None
    look: Look
    surface: Index | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """The seat before it is a solid.

    Attributes
    ----------
    ground
        Bone and grid.
    offset_mm, level_mm
        Gap where it touches, and (x, y) over each column, where something is only relieved.
    reached_mm
        (x, y, z) how near to the bone what is there comes on its way out.
    free_mm
        (x, y, z) how far each voxel is out of the seat, negative inside.
    """

    ground: Ground
    offset_mm: float
    level_mm: Float32Array
    reached_mm: Float32Array
    free_mm: Float32Array

    def solid(self) -> Solid:
        """The seat as a solid.

        Raises
        ------
        DesignError
            It is not a closed surface.
        """
        lattice = self.ground.lattice
        mesh = zero_mesh(self.free_mm, lattice.origin_mm, lattice.step_mm)
        touching, points = _on_the_offset(mesh, self)
        faces = touching[mesh.faces].all(axis=1)
        return solid_from_labelled_mesh(Mesh(points, mesh.faces), (CONTACT, RELIEF), np.where(faces, 0, 1).astype(np.int16))


def make_seat(
    ground: Ground, *, zones: BoolArray, offset_mm: float, relief_mm: float, apart_mm: float, close: BoolArray | None = None
) -> Seat:
    """Measure the seat.

    Parameters
    ----------
    ground
        Bone and grid.
    zones
        (x, y) columns over which the device touches.
    offset_mm
        Distance from the bone in the zones.
    relief_mm
        Distance elsewhere; between the two the level rises by 45 degrees, outside of the zones.
    apart_mm
        Distance from what must not be touched.
    close
        (x, y) columns that need no relief, though they do not touch either: under a sleeve, whose wall it would take.
    """
    lattice = ground.lattice
    of_zones = level_map_mm(zones, lattice.step_mm, offset_mm=offset_mm, relief_mm=relief_mm)
    level = of_zones
    if close is not None and close.any():
        level = np.minimum(level, level_map_mm(close, lattice.step_mm, offset_mm=offset_mm, relief_mm=relief_mm))
    reached = nearest_on_the_way(ground.distance_mm)
    field = reached - level[:, :, None]
    if ground.others_mm is not None:
        field = np.minimum(field, nearest_on_the_way(ground.others_mm) - np.float32(apart_mm))
    small = np.abs(field) < _LEVEL_CLEARANCE_MM
    field[small] = np.where(field[small] < 0.0, -_LEVEL_CLEARANCE_MM, _LEVEL_CLEARANCE_MM)
    return Seat(ground, offset_mm, of_zones, reached, _walled(field))


def level_map_mm(zones: BoolArray, step_mm: float, *, offset_mm: float, relief_mm: float) -> Float32Array:
    """(x, y) distance to keep over each column: the offset in the zones, rising by 45 degrees to the relief outside.

    The edge of the zones is rounded, so that the steps of the grid do not show.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    if not zones.any():
        return np.full(zones.shape, relief_mm, dtype=np.float32)
    outside = np.where(zones, 0.5 - distance_transform_edt(zones), distance_transform_edt(~zones) - 0.5)
    rise_mm = np.maximum(gaussian_filter(outside, _ROUNDING) * step_mm, 0.0)
    return np.minimum(offset_mm + rise_mm, max(relief_mm, offset_mm)).astype(np.float32)


def _walled(field: Float32Array) -> Float32Array:
    """The field with positive walls, so that its surface is closed."""
    for axis in range(3):
        for end in (0, -1):
            wall = np.moveaxis(field, axis, 0)[end]
            np.maximum(wall, np.float32(_LEVEL_CLEARANCE_MM), out=wall)
    return field


def _on_the_offset(mesh: Mesh, seat: Seat) -> tuple[BoolArray, FloatArray]:
    """Which vertices carry, and the vertices with those moved onto the offset, and none left nearer than it."""
    ground, offset_mm, reached = seat.ground, seat.offset_mm, seat.reached_mm
    lattice, points = ground.lattice, mesh.vertices_mm.copy()
    about = lattice.at(ground.distance_mm, points)
    index = np.flatnonzero(np.abs(about - offset_mm) < _ON_LEVEL_MM + lattice.step_mm)
    distance, _, foot = nearest_points(points[index], ground.surface or ground.bone)
    normal = (points[index] - foot) / np.maximum(distance, 1e-12)[:, None]
    near = (np.abs(distance - offset_mm) < _ON_LEVEL_MM) & (distance > _NO_NORMAL_MM) & (about[index] > 0.0)
    free = about[index] - lattice.at(reached, points[index]) < _FREE_MM
    if ground.others_mm is not None:
        own = lattice.at(reached, points[index]) - offset_mm
        free &= lattice.at(seat.free_mm, points[index]) > own - _FREE_MM
    flat = lattice.at(seat.level_mm, points[index]) <= offset_mm + _LEVEL_CLEARANCE_MM
    touching = near & free & flat & (normal[:, 2] > LEAST_FACING)
    moved = touching | (near & (distance < offset_mm))
    points[index[moved]] = foot[moved] + offset_mm * normal[moved]
    carries = np.zeros(len(points), dtype=np.bool_)
    carries[index[touching]] = True
    return carries, points
