"""The skull vault as a map: how far the outer and the inner table are from the vault's centre, direction by direction.

Everything here lives in the skull's own frame (axes aligned with the patient: x left, y back, z up), origin at the vault centre.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from batchone.design.cranial.rays import Hits, Scene, above
from batchone.design.cranial.sphere import BoolArray, Sphere
from batchone.pipeline.values import Bone, FieldOfView, FloatArray, Mesh, moved_points

VAULT_DEPTH_MM = 72.0  # centre below the highest bone: inside the brain of any adult head; prototype on a real head
VAULT_BOX_MM = 75.0  # the box of this much below the top gives the centre's place in the horizontal plane; same prototype
FAR_MM = 150.0  # rays start here: outside of any head (greatest adult half-length about 110 mm)
NEAR_MM = 35.0  # no vault is nearer to its centre; excludes what lies inside the head; same prototype
_THICKEST_MM = 22.0  # the inner table is sought this far below the outer; thicker than any vault but the sinuses; same prototype
HEAD_ON = 0.75  # least cosine of ray and normal for a hit to be trusted as outer table; same prototype
EDGE_MM = 1.5  # bone this near to the end of the scan may be cut off by it; same prototype
_SNAP_MM = 2.0**-16  # local coordinates are rounded to this, so that a rigid motion gives the same bits; numerical
_LOWEST_MM = -60.0  # triangles below are left out: no ray of the vault's domain goes there; numerical
_FRONT = 0.3  # directions with more than this to the front look at the forehead; same prototype
_SIDE_FLOOR = -0.22  # how far below the centre plane the vault reaches at the sides and the back; same prototype
_REACH_FRONT_FLOOR = -0.10  # a hole may reach this low in front, above the orbits; read off the map of one skull
_REACH_SIDE_FLOOR = -0.50  # and this low at the sides, above mastoid and joint; same
_BACK = 0.5  # directions with more than this to the back look at the occiput; same
_REACH_BACK_FLOOR = -0.65  # which is bone down to here, above the foramen magnum; same


@dataclass(frozen=True, slots=True, eq=False)
class VaultMap:
    """Distances from a centre along (n,) directions, mm; NaN: no bone.

    ``outer_cosine`` and ``inner_cosine`` compare ray and surface normal (1: met head on); ``exit_mm`` is where the ray leaves the
    scanned box.
    """

    outer_mm: FloatArray
    outer_cosine: FloatArray
    inner_mm: FloatArray
    inner_cosine: FloatArray
    exit_mm: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Skull:
    """The skull with rays ready.

    Attributes
    ----------
    scene
        Its vault, in coordinates of its own that move with the bone.
    pose
        (4, 4): the scene's coordinates -> LPS.
    view
        The scanned box, in the scene's coordinates.
    stand
        (4, 4): the working frame -> the scene's coordinates. Origin: the vault's centre; x left, y back, z up.
    """

    scene: Scene
    pose: FloatArray
    view: FieldOfView
    stand: FloatArray

    @property
    def to_lps(self) -> FloatArray:
        """(4, 4): the working frame -> LPS."""
        return np.asarray(self.pose @ self.stand)

    def restood(self, step: FloatArray) -> Skull:
        """Move the working frame by the rigid ``step`` (4, 4), given in the present working frame."""
        return replace(self, stand=self.stand @ step)

    def first(self, origins_mm: FloatArray, directions: FloatArray, reach_mm: float | FloatArray) -> Hits:
        """:meth:`Scene.first`, with rays in the working frame."""
        turn = self.stand[:3, :3].T
        return self.scene.first(moved_points(self.stand, np.atleast_2d(origins_mm)), directions @ turn, reach_mm)


def inverse_of(pose: FloatArray) -> FloatArray:
    """(4, 4) inverse of a rigid motion."""
    inverse = np.eye(4)
    inverse[:3, :3] = pose[:3, :3].T
    inverse[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return inverse


def skull_of(bone: Bone, view: FieldOfView) -> Skull:
    """Make a skull ready; the working frame starts along the bone's own axes at the vault's centre."""
    points = moved_points(inverse_of(bone.frame), bone.mesh.vertices_mm)
    top = points[:, 2].max()
    box = points[points[:, 2] > top - VAULT_BOX_MM]
    middle = (box.min(axis=0) + box.max(axis=0)) / 2.0
    shift = np.eye(4)
    shift[:3, 3] = np.round(np.array([middle[0], middle[1], top - VAULT_DEPTH_MM]) / _SNAP_MM) * _SNAP_MM
    local = np.round((points - shift[:3, 3]) / _SNAP_MM) * _SNAP_MM
    pose = bone.frame @ shift
    near = FieldOfView(inverse_of(pose) @ view.affine, view.shape)
    return Skull(Scene(above(Mesh(local, bone.mesh.faces), _LOWEST_MM)), pose, near, np.eye(4))


def cast(skull: Skull, directions: FloatArray, origin_mm: FloatArray | None = None) -> VaultMap:
    """Measure the vault along (n, 3) unit ``directions`` from ``origin_mm`` (3,), by default the working frame's origin."""
    origin = np.zeros(3) if origin_mm is None else origin_mm
    outer = skull.first(origin + directions * FAR_MM, -directions, FAR_MM - NEAR_MM)
    outer_mm = FAR_MM - outer.distance_mm
    start = np.where(np.isnan(outer_mm), NEAR_MM, np.maximum(outer_mm - _THICKEST_MM, NEAR_MM))
    inner = skull.first(origin + directions * start[:, None], directions, _THICKEST_MM)
    reached_mm = start + inner.distance_mm
    entering = (inner.cosine < 0.0) & (reached_mm < outer_mm)
    inner_mm = np.where(entering, reached_mm, np.nan)
    inner_cosine = np.where(entering, -inner.cosine, np.nan)
    return VaultMap(outer_mm, -outer.cosine, inner_mm, inner_cosine, exit_distance(skull, directions, origin))


def trusted_outer(vault: VaultMap) -> BoolArray:
    """Directions whose outer hit is outer table seen head on, and not the edge of the scan."""
    with np.errstate(invalid="ignore"):
        return np.asarray((vault.outer_cosine > HEAD_ON) & (vault.exit_mm - vault.outer_mm > EDGE_MM))


def exit_distance(skull: Skull, directions: FloatArray, origin_mm: FloatArray) -> FloatArray:
    """(n,) mm from ``origin_mm`` along unit ``directions`` to where the scanned box ends; 0 when it starts outside it."""
    inverse = np.asarray(np.linalg.inv(skull.view.affine) @ skull.stand, dtype=np.float64)
    origin = moved_points(inverse, origin_mm[None])[0]
    speed = directions @ inverse[:3, :3].T
    last = np.array(skull.view.shape[::-1], dtype=np.float64) - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = np.where(speed > 0.0, (last - origin) / speed, np.where(speed < 0.0, -origin / speed, np.inf))
    return np.asarray(np.maximum(walls.min(axis=1), 0.0))


def domain(sphere: Sphere) -> BoolArray:
    """Directions that look at the vault: above the brow in front, lower at the sides and the back; no face, no skull base."""
    _, y, z = sphere.directions.T
    return np.asarray(z > np.where(-y > _FRONT, 0.0, _SIDE_FLOOR))


def reach(sphere: Sphere) -> BoolArray:
    """Directions a defect of the vault may reach down to, and whose bone is asked: half way to the skull base."""
    _, y, z = sphere.directions.T
    floor = np.where(-y > _FRONT, _REACH_FRONT_FLOOR, np.where(y > _BACK, _REACH_BACK_FLOOR, _REACH_SIDE_FLOOR))
    return np.asarray(z > floor)
