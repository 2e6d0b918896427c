"""Does the implant slide out along its axis? Counted in columns, and measured as the least distance on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.clearance import occupied
from batchone.design.cranial.columns import Columns, local_mesh
from batchone.design.cranial.rim_gap import near_bone
from batchone.design.nearest import nearest_mm
from batchone.pipeline.values import FloatArray, Mesh, Vector

_STEP_MM = 0.3  # numerical: columns and voxels of the count; no undercut that could catch is narrower
_OFF_LATTICE = 0.3819660112501051  # numerical: keeps columns off rounded coordinates
_LIFTS_MM = np.concatenate([np.arange(0.0, 4.0, 0.25), np.arange(4.0, 12.0, 1.0), np.arange(12.0, 40.1, 4.0)])
_LOOK_MM = 3.0  # numerical: bone farther away than this does not matter
_MAX_POINTS = 1500  # numerical: points of the wall that are followed on the way out


@dataclass(frozen=True, slots=True)
class Obstruction:
    """Volumes in mm3: of the implant below bone along the axis, and of the implant inside bone."""

    undercut_mm3: float
    overlap_mm3: float
    where_mm: Vector | None


def obstruction(implant: Mesh, bone: Mesh, axis: FloatArray) -> Obstruction:
    """Count the implant's volume that bone blocks on the way out along ``axis``, in columns 0.3 mm apart.

    Parameters
    ----------
    implant, bone
        Closed surfaces in one frame, mm.
    axis
        (3,) unit direction out of the head.
    """
    pose = np.eye(4)
    pose[:3, :3] = _basis(axis)
    pose[:3, 3] = implant.vertices_mm.mean(axis=0)
    body, skull = local_mesh(pose, implant), local_mesh(pose, bone)
    low, high = body.vertices_mm.min(axis=0) - 2.0 * _STEP_MM, body.vertices_mm.max(axis=0) + 2.0 * _STEP_MM
    counts = np.ceil((high - low) / _STEP_MM).astype(int) + 1
    shape = (int(counts[0]), int(counts[1]), int(counts[2]))
    every = np.ones(shape[:2], dtype=np.bool_)
    columns = Columns(low + _OFF_LATTICE * _STEP_MM, _STEP_MM, shape, np.zeros(shape[:2]), every)
    mine, other = occupied(body, columns), occupied(skull, columns)
    heights = columns.origin_mm[2] + np.arange(shape[2]) * _STEP_MM
    below = mine.inside & (heights[None, None, :] < other.top_mm[:, :, None])
    both = mine.inside & other.inside
    bad = below | both
    where: Vector | None = None
    if bad.any():
        first = np.argwhere(bad)[0] * _STEP_MM + columns.origin_mm
        point = pose[:3, :3] @ first + pose[:3, 3]
        where = (float(point[0]), float(point[1]), float(point[2]))
    voxel = _STEP_MM**3
    return Obstruction(float(below.sum()) * voxel, float(both.sum()) * voxel, where)


def least_distance_on_the_way(points_mm: FloatArray, bone: Mesh, axis: FloatArray) -> tuple[float, float, Vector]:
    """Least distance (mm) of points (n, 3) to the bone while they move 40 mm along ``axis``, at which lift (mm), and where."""
    chosen = points_mm[:: max(1, len(points_mm) // _MAX_POINTS)]
    moved = (chosen[None, :, :] + _LIFTS_MM[:, None, None] * axis).reshape(-1, 3)
    near = near_bone(Mesh(moved, np.empty((0, 3), dtype=np.int32)), bone)
    distance = nearest_mm(moved, near, within_mm=_LOOK_MM)
    least = int(np.argmin(distance))
    return float(distance[least]), float(_LIFTS_MM[least // len(chosen)]), _vector(moved[least])


def _basis(axis: FloatArray) -> FloatArray:
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    first = helper - axis * float(helper @ axis)
    first /= np.linalg.norm(first)
    return np.column_stack([first, np.cross(axis, first), axis])


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))
