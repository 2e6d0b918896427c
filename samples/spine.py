"""A segment of a spine: vertebrae with body, pedicles, arch and processes, the discs between them, as surfaces and to be scanned.

Each vertebra is a smooth union of simple solids, unlike on left and right, and is turned and moved against its neighbour as in a
spine that bends. The surfaces are made of a fine grid, so what a scan is compared with is the very surface that was scanned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from batchone.pipeline.values import FloatArray, IntArray, Mesh, moved_points
from batchone.samples.bone_ct import Scene, Tissue, scene
from batchone.samples.scanner import scan_grid
from batchone.samples.solids import Ellipsoid, Rod, Solid

BODY_HALF_MM = (21.0, 15.0, 11.5)  # mm, half of width, depth, height: a lumbar vertebra
WAIST_MM = 2.0  # mm that the body's side is drawn in at half height
ENDPLATE_MM = 1.2  # mm that an endplate is hollow
BODY_ROUNDING_MM = 2.5  # mm
BODY_BEHIND_CANAL_MM = 23.0  # mm from the body's middle to the canal's
CANAL_HALF_MM = (10.5, 7.5)  # mm, half width and depth of the canal
DISC_MM = 8.0  # mm between the bodies' rims
DISC_HU = 90.0  # HU, usual CT value
BLEND_MM = 2.5  # mm over which two solids run into each other
GRID_MM = 0.6  # mm, of the grid that the surface is made on; its chords are the truth too
SCANNED = 5  # vertebrae of the scene; both ends of the scan cut the outer ones, as in most spines that are sent
SCANNED_HALF_MM = 72.0  # mm of the scene above and below its middle
BEND_DEG, TURN_DEG, LEAN_DEG = 5.0, 3.0, 2.0  # per level, about x, z, y
TISSUE = Tissue(
    cortex_mm=(0.4, 1.4), cortex_hu=1100.0, marrow_hu=190.0, marrow_spread_hu=50.0, thickness_length_mm=18.0, fat_share=0.25
)  # a vertebra's shell is thin; spongy bone inside


@dataclass(frozen=True, slots=True, eq=False)
class Spine:
    """``vertebrae`` from below, and ``discs`` between them; LPS mm."""

    vertebrae: tuple[Mesh, ...]
    discs: tuple[Mesh, ...]


def spine_segment(levels: int = 3, *, grid_mm: float = GRID_MM) -> Spine:
    """Make a segment of that many vertebrae, about the origin, of triangles about as large as ``grid_mm``."""
    pitch_mm = 2.0 * BODY_HALF_MM[2] + DISC_MM
    vertebra = _meshed(_vertebra, np.array([-42.0, -18.0, -26.0]), np.array([43.0, 66.0, 21.0]), grid_mm)
    disc = _meshed(_disc, np.array([-22.0, -16.0, -6.0]), np.array([22.0, 16.0, 6.0]), grid_mm)
    poses = [np.eye(4)]
    for _ in range(levels - 1):
        step = np.eye(4)
        step[:3, :3] = Rotation.from_euler("xyz", [BEND_DEG, LEAN_DEG, TURN_DEG], degrees=True).as_matrix()
        step[:3, 3] = [0.6, 0.0, pitch_mm]
        poses.append(poses[-1] @ step)
    middle = np.eye(4)
    middle[2, 3] = -0.5 * pitch_mm * (levels - 1)
    between = np.eye(4)
    between[2, 3] = 0.5 * pitch_mm
    half = np.eye(4)
    half[:3, :3] = Rotation.from_euler("xyz", [0.5 * BEND_DEG, 0.5 * LEAN_DEG, 0.5 * TURN_DEG], degrees=True).as_matrix()
    vertebrae = tuple(vertebra.moved(middle @ pose) for pose in poses)
    return Spine(vertebrae, tuple(disc.moved(middle @ pose @ between @ half) for pose in poses[:-1]))


def spine_scene(pose: FloatArray | None = None) -> Scene:
    """Five vertebrae with their discs, ready to be scanned: the outer two are cut by the ends of the scan.

    ``pose`` (4, 4) is a rigid motion of everything before scanning; the scan stays about the middle vertebra.
    """
    made, motion = spine_segment(SCANNED), np.eye(4) if pose is None else pose
    reach = (float(motion[2, 3]) - SCANNED_HALF_MM, float(motion[2, 3]) + SCANNED_HALF_MM)
    return scene(made.vertebrae, tissue=TISSUE, pose=motion, z_mm=reach, things=[(disc, DISC_HU) for disc in made.discs])


def _vertebra(points: FloatArray) -> FloatArray:
    """Implicit function of a vertebra, mm, negative inside; x left, y back, z up, about the body's middle."""
    behind = BODY_BEHIND_CANAL_MM
    solids: list[Solid] = []
    for side, long in ((1.0, 1.0), (-1.0, 0.92)):  # the right side is a little smaller
        solids += [
            Ellipsoid(0.0, (side * 14.0, 15.5, 4.0), (4.6 * long, 10.0, 6.2)),  # pedicle
            Rod(0.0, (side * 13.5, 23.0, 1.0), (side * 1.0, 34.0, -7.0), 4.2 * long, 3.4),  # lamina
            Rod(0.0, (side * 15.0, 22.0, 3.0), (side * 37.0 * long, 27.0, 6.0), 4.4, 3.2),  # transverse process
            Rod(0.0, (side * 15.0, 25.0, 3.0), (side * 17.0, 27.0, 14.5), 5.0, 3.8),  # upper joint process
            Rod(0.0, (side * 11.0, 29.0, -6.0), (side * 10.5, 32.0, -20.0), 4.6, 3.8),  # lower joint process
        ]
    solids.append(Rod(0.0, (0.0, 34.0, -6.0), (1.5, 58.0, -13.0), 3.2, 3.8))  # spinous process, a little to the left
    arch = _blended([solid.distance_mm(points) for solid in solids])
    canal = np.hypot(points[:, 0] / CANAL_HALF_MM[0], (points[:, 1] - behind) / CANAL_HALF_MM[1])
    canal_mm = (canal - 1.0) * min(CANAL_HALF_MM)
    return -_blended([-_blended([_body(points), arch]), canal_mm])


def _body(points: FloatArray) -> FloatArray:
    """A short elliptic pillar with a waist, hollow endplates, and a back that is flat."""
    x, y, z = points.T
    width, depth, height = BODY_HALF_MM
    drawn = WAIST_MM * np.maximum(1.0 - (z / height) ** 2, 0.0)
    radius = np.hypot(x / width, y / depth)
    side = (radius - 1.0) * depth + drawn
    side = -_blended([-side, -(y - 0.8 * depth)])
    end = np.abs(z) - height + ENDPLATE_MM * np.maximum(1.0 - radius**2, 0.0)
    q = np.stack([side + BODY_ROUNDING_MM, end + BODY_ROUNDING_MM])
    return np.asarray(np.hypot(*np.maximum(q, 0.0)) + np.minimum(q.max(axis=0), 0.0) - BODY_ROUNDING_MM)


def _disc(points: FloatArray) -> FloatArray:
    x, y, z = points.T
    width, depth, _ = BODY_HALF_MM
    q = np.stack([(np.hypot(x / width, y / depth) - 0.93) * depth, np.abs(z) - 0.5 * DISC_MM])
    return np.asarray(np.hypot(*np.maximum(q, 0.0)) + np.minimum(q.max(axis=0), 0.0))


def _blended(distances: Sequence[FloatArray]) -> FloatArray:
    """Union that is smooth over ``BLEND_MM``."""
    total = distances[0]
    for other in distances[1:]:
        near = np.maximum(BLEND_MM - np.abs(total - other), 0.0) / BLEND_MM
        total = np.minimum(total, other) - 0.25 * BLEND_MM * near**2
    return total


def _meshed(function: object, low: FloatArray, high: FloatArray, grid_mm: float) -> Mesh:
    """The zero surface of an implicit function in a box, closed and oriented outward."""
    from skimage.measure import marching_cubes

    assert callable(function)
    count = np.ceil((high - low)[::-1] / grid_mm).astype(int)
    middle = 0.5 * (low + high)
    shape = (int(count[0]), int(count[1]), int(count[2]))
    grid = scan_grid(shape, (grid_mm,) * 3, (float(middle[0]), float(middle[1]), float(middle[2])))
    values = np.asarray(function(grid.points_mm((slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])))))
    vertices, faces, _, _ = marching_cubes(values.reshape(shape), 0.0, allow_degenerate=False)
    points = moved_points(grid.affine, vertices[:, ::-1].astype(np.float64))
    mesh = Mesh(points, faces.astype(np.int32))
    corners = mesh.vertices_mm[mesh.faces]
    volume = float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])))
    return mesh if volume > 0.0 else Mesh(points, _turned(mesh.faces))


def _turned(faces: IntArray) -> IntArray:
    return np.ascontiguousarray(faces[:, ::-1])
