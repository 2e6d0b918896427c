"""The shell over the seat: as thick as ordered, over a footprint, between a floor and a cap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.booleans import Solid, solid_from_mesh
from batchone.design.contact.field import Float32Array, Lattice
from batchone.design.contact.seat import BoolArray, Ground, Seat
from batchone.design.isosurface import zero_mesh
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh

SHELL = "shell"
_INTO_MM = 1.0  # numerical: what fills a gap reaches so far into what it joins
_LEVEL_CLEARANCE_MM = 1e-4  # numerical: keeps the surface off the grid points


@dataclass(frozen=True, slots=True, eq=False)
class Above:
    """What stands over the shell and belongs to the same part: (x, y) signed distance to its outline, and its lower face's z."""

    outline_mm: FloatArray
    bottom_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Shell:
    """A shell before it is a solid: on a part ``box`` of a grid, (x, y, z) how far each voxel is out of it, negative inside; what
    the seat takes is still in it."""

    lattice: Lattice
    box: tuple[slice, slice, slice]
    out_mm: Float32Array

    def solid(self) -> Solid:
        """The shell as a solid."""
        return solid_from_mesh(self._surface(self.out_mm), SHELL)

    def surface(self, seat: Seat) -> Mesh:
        """The shell without the seat, its edges rounded by the grid: what a solid would be, for much less work."""
        return self._surface(np.maximum(self.out_mm, -seat.free_mm[self.box]))

    def _surface(self, field: Float32Array) -> Mesh:
        field = np.pad(field, 1, constant_values=1.0)
        field[np.abs(field) < _LEVEL_CLEARANCE_MM] = _LEVEL_CLEARANCE_MM
        first = np.array([side.start for side in self.box], dtype=np.float64)
        step_mm = self.lattice.step_mm
        return zero_mesh(np.ascontiguousarray(field), self.lattice.origin_mm + (first - 1.0) * step_mm, step_mm)


def make_shell(
    ground: Ground,
    seat: Seat,
    *,
    footprint_mm: FloatArray,
    floor_mm: FloatArray,
    cap_mm: FloatArray,
    outside_mm: float,
    wall_mm: float,
    above: tuple[Above, ...] = (),
    gap_mm: float = 0.0,
) -> Shell:
    """Everything over the footprint that is nearer to the bone than ``outside_mm``, the seat included: it is cut out later.

    Parameters
    ----------
    ground, seat
        Bone and grid, and what will be cut out.
    footprint_mm
        (x, y) signed distance of each column to the footprint's edge, negative inside.
    floor_mm, cap_mm
        (x, y) lowest and highest z over each column.
    outside_mm
        Distance of the outer face from the bone.
    wall_mm
        Thinner edges are left out; corners are rounded by half of it.
    above, gap_mm
        Where the shell comes nearer than the gap to the lower face of what stands over it, it is led up to there; within its
        outline it ends inside of it.

    Raises
    ------
    DesignError
        Nothing lies there.
    """
    lattice = ground.lattice
    for one in above:  # the shell ends within what stands over it: a letter cut into that must not meet it
        cap_mm = np.where(one.outline_mm < -0.5 * _INTO_MM, np.minimum(cap_mm, one.bottom_mm + _INTO_MM), cap_mm)
    tops = np.maximum.reduce([cap_mm, *(np.full(cap_mm.shape, one.bottom_mm + _INTO_MM) for one in above)]) if above else cap_mm
    box = _box(lattice, footprint_mm, floor_mm, tops)
    height = lattice.z_mm[box[2]]
    field = np.maximum(ground.distance_mm[box] - np.float32(outside_mm), footprint_mm[box[:2]][:, :, None].astype(np.float32))
    np.maximum(field, floor_mm[box[:2]][:, :, None] - height, out=field, casting="same_kind")
    np.maximum(field, height - cap_mm[box[:2]][:, :, None], out=field, casting="same_kind")
    field = _without_thin_edges(field, seat.free_mm[box], lattice.step_mm, 0.5 * wall_mm)
    for one in above:
        field = np.minimum(field, _led_up(field, height, one.outline_mm[box[:2]], one.bottom_mm, gap_mm, 0.5 * wall_mm))
    if not (field < 0.0).any():
        raise DesignError("the shell is empty: 0 mm3 lie over its footprint", hint="check the plan: does it lie on the bone?")
    return Shell(lattice, box, field)


def _led_up(
    field: Float32Array, height_mm: FloatArray, outline_mm: FloatArray, bottom_mm: float, gap_mm: float, radius_mm: float
) -> Float32Array:
    """The field of what fills a narrow gap between the shell and a lower face over it, and the shell about it to a radius.

    Without that, a gap that is narrow over a strip only would be filled by a shred.
    """
    below = height_mm < bottom_mm
    inside = (field < 0.0) & below
    index = np.where(inside.any(axis=2), inside.shape[2] - 1 - np.argmax(inside[:, :, ::-1], axis=2), -1)
    top = np.where(index >= 0, height_mm[index], -np.inf)
    step = float(height_mm[1] - height_mm[0])
    levels = (np.clip(index + more, 0, field.shape[2] - 1)[:, :, None] for more in (0, 1))
    here, over = (np.take_along_axis(field, level, axis=2)[:, :, 0] for level in levels)
    top = top + step * np.clip(-here / np.maximum(over - here, 1e-6), 0.0, 1.0)  # between two voxels, where the field is 0
    narrow = (outline_mm < 0.0) & (top > bottom_mm - gap_mm)
    if not narrow.any():
        return np.ones_like(field)
    columns = np.maximum(_away_mm(narrow, step) - radius_mm, _away_mm(index >= 0, step) - 0.5 * step)
    slab = np.maximum(height_mm - (bottom_mm + _INTO_MM), bottom_mm - gap_mm - _INTO_MM - height_mm)
    return np.maximum(columns[:, :, None], slab).astype(np.float32)


def _away_mm(columns: BoolArray, step_mm: float) -> FloatArray:
    """(x, y) distance to the nearest of some columns."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~columns)) * step_mm


def _box(lattice: Lattice, footprint_mm: FloatArray, floor_mm: FloatArray, cap_mm: FloatArray) -> tuple[slice, slice, slice]:
    """The part of the grid that the shell may lie in."""
    over = footprint_mm < 0.0
    if not over.any():
        return (slice(0, 1), slice(0, 1), slice(0, 1))
    heights = (float(floor_mm[over].min()) - lattice.origin_mm[2], float(cap_mm[over].max()) - lattice.origin_mm[2])
    low, high = (round(height / lattice.step_mm) + more for height, more in zip(heights, (-2, 3), strict=True))
    sides = [np.flatnonzero(over.any(axis=1 - axis)) for axis in (0, 1)]
    across = [
        slice(max(0, int(side[0]) - 2), min(n, int(side[-1]) + 3)) for side, n in zip(sides, lattice.shape[:2], strict=True)
    ]
    return (across[0], across[1], slice(max(0, low), max(1, min(lattice.shape[2], high))))


def _without_thin_edges(field: Float32Array, free_mm: Float32Array, step_mm: float, radius_mm: float) -> Float32Array:
    """The field of the shell without what a ball of some radius cannot reach between seat and outer face."""
    core = np.minimum(-field, free_mm) >= radius_mm  # the least of the depths below all faces is the depth
    if not core.any():
        return field
    missed = depth_mm(~core, step_mm) - np.float32(radius_mm + step_mm)  # positive where no ball about the core reaches
    return np.maximum(field, missed + np.minimum(free_mm, 0.0)).astype(np.float32)  # below the seat's faces: ever less


def depth_mm(mask: BoolArray, step_mm: float) -> Float32Array:
    """How far each voxel of a mask is from what is not of it; 0 outside."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    distance = SimpleITK.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False, useImageSpacing=False)
    return np.asarray(np.maximum(SimpleITK.GetArrayFromImage(distance), 0.0) * step_mm, dtype=np.float32)


def capsule_mm(lattice: Lattice, start_mm: FloatArray, end_mm: FloatArray, radius_mm: float) -> FloatArray:
    """(x, y) signed distance of each column to everything within ``radius_mm`` of the line between two places (x, y)."""
    x, y = lattice.x_mm - start_mm[0], lattice.y_mm - start_mm[1]
    along = np.asarray(end_mm[:2], dtype=np.float64) - start_mm[:2]
    share = np.clip((x * along[0] + y * along[1]) / max(float(along @ along), 1e-12), 0.0, 1.0)
    return np.asarray(np.hypot(x - share * along[0], y - share * along[1]) - radius_mm)


def filleted(one_mm: FloatArray, other_mm: FloatArray, radius_mm: float) -> FloatArray:
    """(x, y) signed distance to the edge of two outlines together, the notches between them filled to a radius."""
    inward = np.hypot(np.maximum(radius_mm - one_mm, 0.0), np.maximum(radius_mm - other_mm, 0.0))
    return np.asarray(np.maximum(radius_mm, np.minimum(one_mm, other_mm)) - inward)


def rounded(one_mm: FloatArray, other_mm: FloatArray, radius_mm: float) -> FloatArray:
    """(x, y) signed distance to the edge of what two outlines share, the corners between them rounded to a radius."""
    return -filleted(-one_mm, -other_mm, radius_mm)


def from_nearest(values: FloatArray, known: BoolArray) -> FloatArray:
    """(x, y) values, where unknown those of the nearest column that is known."""
    from scipy.ndimage import distance_transform_edt

    index = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(values[tuple(index)])
