"""The ground of a device: bone and neighbours brought into its frame, distances measured, and where the bone may be touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from batchone.design.contact.field import Float32Array, Lattice, about, lattice_over, nearest_on_the_way, signed_distance_mm
from batchone.design.contact.neighbours import Neighbours
from batchone.design.contact.seat import LEAST_FACING, BoolArray, Ground, Look
from batchone.design.cranial.columns import meeting, submesh, to_local
from batchone.design.cranial.rays import Scene
from batchone.design.nearest import Index, indexed
from batchone.pipeline.side_by_side import beside
from batchone.pipeline.values import Bone, FloatArray, Mesh

_DOWN = np.array([0.0, 0.0, -1.0])
ROOM_STEP_MM = 1.2  # grid for what only must keep away from bone, by millimetres
STEP_MM = 0.3  # grid of the contact: its surface lies within 0.01 mm of the offset where the bone is as round as 3 mm; vertices
#                of the contact are exact in any case


def everywhere(lattice: Lattice) -> BoolArray:
    """All columns (x, y) of a grid."""
    return np.ones(lattice.shape[:2], dtype=np.bool_)


def ground_of(
    bone: Bone,
    others: Neighbours,
    pose: FloatArray,
    low_mm: FloatArray,
    high_mm: FloatArray,
    *,
    offset_mm: float,
    over: Callable[[Lattice], BoolArray] = everywhere,
) -> Ground:
    """Measure the distances in a box of the device's frame, and look at the bone from outside at the same time.

    Parameters
    ----------
    bone
        Is touched.
    others
        Must not be touched.
    pose
        (4, 4) from the device's frame (z the way out) to LPS.
    low_mm, high_mm
        (3,) corners of the box in that frame; the device must end at least 1 mm inside.
    offset_mm
        Distance from the bone at which the device will touch.
    over
        Names the columns (x, y) of the grid over which the device may lie: only there is the contact measured exactly.
    """
    lattice = lattice_over(low_mm, high_mm, STEP_MM)
    mesh = Mesh(to_local(pose, bone.mesh.vertices_mm), bone.mesh.faces)

    def measured() -> tuple[Float32Array, Float32Array | None, Index | None]:
        near = about(mesh, lattice)
        surface = indexed(near) if len(near.faces) else None
        distance = signed_distance_mm(near, lattice, level_mm=offset_mm, over=over(lattice), surface=surface)
        return distance, others.distance_mm(lattice, pose), surface

    (distance, beside_mm, surface), look = beside(measured, lambda: _look_at(mesh, lattice))
    return Ground(mesh, lattice, distance, beside_mm, look, surface)


def room_about(
    bone: Mesh, others: Neighbours, pose: FloatArray, low_mm: FloatArray, high_mm: FloatArray
) -> tuple[Lattice, Float32Array]:
    """A coarse look at a larger box: the grid, and how near anything comes to any bone on its way out along z.

    ``bone`` stands in the frame of ``pose``. Below 2 mm (``NEAR_MM``) distances are only roughly right.
    """
    lattice = lattice_over(low_mm, high_mm, ROOM_STEP_MM)
    nearest = signed_distance_mm(bone, lattice, every=1, far_only=True)
    around = others.distance_mm(lattice, pose, every=1)
    return lattice, nearest_on_the_way(nearest if around is None else np.minimum(nearest, around))


@dataclass(frozen=True, slots=True, eq=False)
class Relief:
    """The bone seen from outside, over each column (x, y): height of its first face (NaN where there is none), and whether it
    may carry."""

    height_mm: FloatArray
    carries: BoolArray


def _look_at(bone: Mesh, lattice: Lattice) -> Look:
    x, y = np.broadcast_arrays(lattice.x_mm, lattice.y_mm)
    top = float(lattice.z_mm[-1])
    origins = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, top)])
    down = np.broadcast_to(_DOWN, origins.shape)
    high = lattice.origin_mm + (np.array(lattice.shape) - 1) * lattice.step_mm
    near = meeting(bone, lattice.origin_mm, high)
    hits = Scene(submesh(bone, near)).first(origins, down, top - float(lattice.z_mm[0]))
    own = np.flatnonzero(near).astype(np.int32)
    face = np.where(hits.face >= 0, own[hits.face], np.int32(-1)) if len(own) else hits.face
    return Look(hits.distance_mm, hits.cosine, face)


def seen(ground: Ground, bone: Bone, *, most_sigma_mm: float, apart_mm: float, least_facing: float = LEAST_FACING) -> Relief:
    """Judge the bone as it is seen: it may carry where it faces the way out, is sure, and is away from its neighbours.

    ``most_sigma_mm`` is the largest uncertainty (one standard deviation along the normal) of bone that may carry.
    """
    lattice, look = ground.lattice, ground.look
    met = look.face >= 0
    good = met & (-np.nan_to_num(look.cosine) >= least_facing)
    sigma = np.full(len(met), np.inf)
    sigma[met] = bone.uncertainty_mm[bone.mesh.faces[look.face[met]]].max(axis=1)
    good &= sigma <= most_sigma_mm
    height = float(lattice.z_mm[-1]) - look.distance_mm
    if ground.others_mm is not None:
        x, y = np.broadcast_arrays(lattice.x_mm, lattice.y_mm)
        places = np.column_stack([x.ravel(), y.ravel(), np.where(met, height, float(lattice.z_mm[-1]))])
        good &= lattice.at(ground.others_mm, places) >= apart_mm
    shape = lattice.shape[:2]
    return Relief(height.reshape(shape), good.reshape(shape))
