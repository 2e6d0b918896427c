"""The shell over the seat: as thick as ordered, over a footprint, between a floor and a cap."""

from __future__ import annotations

import numpy as np

from batchone.design.booleans import Solid, solid_from_mesh
from batchone.design.contact.field import Float32Array, Lattice
from batchone.design.contact.seat import BoolArray, Ground, Seat
from batchone.design.isosurface import zero_mesh
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray

SHELL = "shell"
_EVERY = 2  # numerical: the outside needs no finer grid than twice the contact's
_LEVEL_CLEARANCE_MM = 1e-4  # numerical: keeps the surface off the grid points


def make_shell(
    ground: Ground,
    seat: Seat,
    *,
    footprint_mm: FloatArray,
    floor_mm: FloatArray,
    cap_mm: FloatArray,
    outside_mm: float,
    wall_mm: float,
) -> Solid:
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

    Raises
    ------
    DesignError
        Nothing lies there.
    """
    part = (slice(None, None, _EVERY),) * 2
    height = ground.lattice.z_mm[::_EVERY]
    distance = ground.distance_mm[::_EVERY, ::_EVERY, ::_EVERY]
    field = np.maximum(distance - np.float32(outside_mm), footprint_mm[part][:, :, None].astype(np.float32))
    np.maximum(field, floor_mm[part][:, :, None] - height, out=field, casting="same_kind")
    np.maximum(field, height - cap_mm[part][:, :, None], out=field, casting="same_kind")
    field = _without_thin_edges(field, seat.free_mm[::_EVERY, ::_EVERY, ::_EVERY], ground.lattice.step_mm * _EVERY, 0.5 * wall_mm)
    field = np.pad(field, 1, constant_values=1.0)
    field[np.abs(field) < _LEVEL_CLEARANCE_MM] = _LEVEL_CLEARANCE_MM
    step = ground.lattice.step_mm * _EVERY
    mesh = zero_mesh(np.ascontiguousarray(field), ground.lattice.origin_mm - step, step)
    if len(mesh.faces) == 0:
        raise DesignError("the shell is empty: 0 mm3 lie over its footprint", hint="check the plan: does it lie on the bone?")
    return solid_from_mesh(mesh, SHELL)


def _without_thin_edges(field: Float32Array, free_mm: Float32Array, step_mm: float, radius_mm: float) -> Float32Array:
    """The field of the shell without what a ball of some radius cannot reach between seat and outer face."""
    core = np.minimum(-field, free_mm) >= radius_mm  # the least of the depths below all faces is the depth
    if not core.any():
        return field
    missed = depth_mm(~core, step_mm) - np.float32(radius_mm + step_mm)  # a ball about the core does not reach here
    return np.where(free_mm > 0.0, np.maximum(field, missed), field).astype(np.float32)


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


def from_nearest(values: FloatArray, known: BoolArray) -> FloatArray:
    """(x, y) values, where unknown those of the nearest column that is known."""
    from scipy.ndimage import distance_transform_edt

    index = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(values[tuple(index)])
