"""The local grid of the body: columns along the way in, over the defect and a little around it.

The local frame has its z axis along the insertion axis (out of the head), its origin at the middle of the rim, and its x axis
from the bone's own frame: a rigid motion of the anatomy moves the whole construction with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Bone, FloatArray, IntArray, Mesh, Plan, moved_points

_BESIDE_MM = 0.01  # numerical: rays in single precision may stray so far
_ROUNDING_DIGITS = 6  # numerical: local coordinates are rounded to 1e-6 mm, so that a rigid motion gives the same grid values
_OFF_LATTICE = 0.3819660112501051  # numerical: shifts columns off rounded coordinates, so that none passes through a vertex
_TOP_MARGIN_MM = 1.5  # numerical: room above the highest point of the contour
_BOTTOM_MARGIN_MM = 1.0  # numerical: room below the lowest point of the body

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class LocalPlan:
    """The plan in the local frame, mm; ``pose`` (4, 4) maps local to LPS, ``cranial`` is the bone's own upward direction."""

    pose: FloatArray
    rim_mm: FloatArray
    centre_mm: FloatArray
    outer: Mesh
    inner: Mesh
    cranial: FloatArray
    anterior: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A grid of columns along local z.

    Attributes
    ----------
    origin_mm
        (3,) local position of voxel (0, 0, 0).
    step_mm
        Distance between neighbours, the same along x, y and z.
    shape
        (x, y, z) number of voxels; z is the fastest index.
    rim_distance_mm
        (x, y) float64 signed distance to the rim seen along z, negative inside.
    used
        (x, y) bool: columns inside the rim and a margin around it.
    """

    origin_mm: FloatArray
    step_mm: float
    shape: tuple[int, int, int]
    rim_distance_mm: FloatArray
    used: BoolArray


def local_plan(bone: Bone, plan: Plan) -> LocalPlan:
    """Move a plan into the local frame of its way in."""
    frame = bone.frame
    rotation = frame[:3, :3]
    out = np.asarray(plan.axis("insertion").direction, dtype=np.float64) @ rotation
    out = out / np.linalg.norm(out)
    helper = np.eye(3)[int(np.argmin(np.round(np.abs(out), _ROUNDING_DIGITS)))]
    first = helper - out * float(helper @ out)
    first /= np.linalg.norm(first)
    rim = plan.curve("rim").points_mm
    pose = np.eye(4)
    pose[:3, :3] = rotation @ np.column_stack([first, np.cross(out, first), out])
    pose[:3, 3] = rim.mean(axis=0)
    return LocalPlan(
        pose=pose,
        rim_mm=to_local(pose, rim),
        centre_mm=to_local(pose, np.array([plan.axis("vault-centre").origin_mm]))[0],
        outer=local_mesh(pose, plan.surface("contour-outer").mesh),
        inner=local_mesh(pose, plan.surface("contour-inner").mesh),
        cranial=np.round(rotation[:, 2] @ pose[:3, :3], _ROUNDING_DIGITS),
        anterior=np.round(-rotation[:, 1] @ pose[:3, :3], _ROUNDING_DIGITS),
    )


def to_local(pose: FloatArray, points_mm: FloatArray) -> FloatArray:
    """LPS points (n, 3) in the frame of ``pose``, rounded so that a rigid motion before gives the same values."""
    local = (points_mm - pose[:3, 3]) @ pose[:3, :3]
    return np.ascontiguousarray(np.round(local, _ROUNDING_DIGITS))


def local_mesh(pose: FloatArray, mesh: Mesh) -> Mesh:
    """A mesh in LPS, in the frame of ``pose``."""
    return Mesh(to_local(pose, mesh.vertices_mm), mesh.faces)


def lps_mesh(pose: FloatArray, mesh: Mesh) -> Mesh:
    """A local mesh, in LPS."""
    return Mesh(moved_points(pose, mesh.vertices_mm), mesh.faces)


def columns_over(local: LocalPlan, *, step_mm: float, margin_mm: float, depth_mm: float) -> Columns:
    """Lay the grid over the rim.

    Parameters
    ----------
    local
        The plan in the local frame.
    step_mm
        Distance between neighbours.
    margin_mm
        Columns up to this far outside the rim are used.
    depth_mm
        How far the body reaches below the outer contour, at most; with a following inner contour its own depth counts too.

    Raises
    ------
    DesignError
        The contour does not cover the rim.
    """
    low_xy = local.rim_mm[:, :2].min(axis=0) - margin_mm - step_mm
    high_xy = local.rim_mm[:, :2].max(axis=0) + margin_mm + step_mm
    over = _over(local.outer, low_xy, high_xy)
    below = _over(local.inner, low_xy, high_xy)
    if not (over.any() and below.any()):
        raise DesignError("the contour covers 0 mm2 of the defect", hint="propose the plan again")
    outer_z, inner_z = local.outer.vertices_mm[over, 2], local.inner.vertices_mm[below, 2]
    low_z = min(float(outer_z.min()) - depth_mm, float(inner_z.min())) - _BOTTOM_MARGIN_MM
    low = np.append(low_xy, low_z)
    high = np.append(high_xy, float(outer_z.max()) + _TOP_MARGIN_MM)
    origin = (np.floor(low / step_mm) + _OFF_LATTICE) * step_mm
    counts = np.ceil((high - origin) / step_mm).astype(int) + 1
    shape = (int(counts[0]), int(counts[1]), int(counts[2]))
    distance = np.empty(shape[:2])
    polygon = np.ascontiguousarray(local.rim_mm[:, :2])
    _polygon_distance(polygon, float(origin[0]), float(origin[1]), step_mm, distance)
    used = distance < margin_mm
    used[[0, -1], :] = False
    used[:, [0, -1]] = False
    return Columns(origin, step_mm, shape, distance, used)


def cropped(mesh: Mesh, low_mm: FloatArray, high_mm: FloatArray) -> Mesh:
    """Triangles whose bounding box meets the box between two corners; an open patch of the mesh."""
    return submesh(mesh, meeting(mesh, low_mm, high_mm))


def meeting(mesh: Mesh, low_mm: FloatArray, high_mm: FloatArray, *, axes: FloatArray | None = None) -> BoolArray:
    """(m,) which triangles have their bounding box meet the box between two corners (3,), along the columns of ``axes`` (3, 3)
    where given."""
    met = np.empty(len(mesh.faces), dtype=np.bool_)
    beside = np.empty(len(mesh.vertices_mm), dtype=np.uint8)
    turned = np.ascontiguousarray(np.eye(3) if axes is None else axes.T, dtype=np.float64)
    low, high = (np.ascontiguousarray(corner, dtype=np.float64) for corner in (low_mm, high_mm))
    _meeting(np.ascontiguousarray(mesh.vertices_mm), np.ascontiguousarray(mesh.faces), turned, low, high, beside, met)
    return met


def on_the_way(mesh: Mesh, starts_mm: FloatArray, direction: FloatArray) -> Mesh:
    """The triangles, at least one, that rays from places (n, 3) along a unit direction (3,) can meet."""
    across = np.linalg.svd(direction[None])[2][1:].T
    spread = (starts_mm - starts_mm.mean(axis=0)) @ across
    frame = np.column_stack([across @ np.linalg.eigh(spread.T @ spread)[1], direction])  # places on a line need a slab only
    starts = starts_mm @ frame
    low, high = starts.min(axis=0) - _BESIDE_MM, starts.max(axis=0) + _BESIDE_MM
    met = meeting(mesh, low, np.array([high[0], high[1], np.inf]), axes=frame)
    return submesh(mesh, met) if met.any() else mesh


def submesh(mesh: Mesh, kept: BoolArray) -> Mesh:
    """The chosen triangles with the vertices that they use, in order."""
    faces = mesh.faces[kept]
    used = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    used[faces] = True
    index: IntArray = np.cumsum(used, dtype=np.int32) - 1
    return Mesh(mesh.vertices_mm[used], np.ascontiguousarray(index[faces], dtype=np.int32))


def _over(mesh: Mesh, low_xy: FloatArray, high_xy: FloatArray) -> BoolArray:
    xy = mesh.vertices_mm[:, :2]
    return np.asarray(((xy >= low_xy - 3.0) & (xy <= high_xy + 3.0)).all(axis=1))


_VERTICES = numba.types.Array(numba.float64, 2, "C", readonly=True)
_FACES = numba.types.Array(numba.int32, 2, "C", readonly=True)


@numba.njit(
    numba.void(
        _VERTICES, _FACES, numba.float64[:, ::1], numba.float64[::1], numba.float64[::1], numba.uint8[::1], numba.bool_[::1]
    ),
    cache=True,
    nogil=True,
)
def _meeting(vertices, faces, axes, low, high, beside, met):  # type: ignore[no-untyped-def]
    """Which triangles have not all corners beyond one and the same wall; ``beside``: the walls that each vertex is beyond."""
    for n in range(vertices.shape[0]):
        walls = 0
        for k in range(3):
            place = axes[k, 0] * vertices[n, 0] + axes[k, 1] * vertices[n, 1] + axes[k, 2] * vertices[n, 2]
            if place < low[k]:
                walls |= 1 << (2 * k)
            if place > high[k]:
                walls |= 2 << (2 * k)
        beside[n] = walls
    for f in range(faces.shape[0]):
        met[f] = beside[faces[f, 0]] & beside[faces[f, 1]] & beside[faces[f, 2]] == 0


@numba.njit("void(float64[:,::1], float64, float64, float64, float64[:,::1])", cache=True)
def _polygon_distance(polygon, x0, y0, step, out):  # type: ignore[no-untyped-def]
    """Signed distance of every column to a closed polygon, negative inside."""
    n = polygon.shape[0]
    for i in range(out.shape[0]):
        x = x0 + i * step
        for j in range(out.shape[1]):
            y = y0 + j * step
            best = 1e30
            inside = False
            for k in range(n):
                ax, ay = polygon[k, 0], polygon[k, 1]
                bx, by = polygon[(k + 1) % n, 0], polygon[(k + 1) % n, 1]
                ex, ey = bx - ax, by - ay
                length2 = ex * ex + ey * ey
                t = 0.0
                if length2 > 0.0:
                    t = min(1.0, max(0.0, ((x - ax) * ex + (y - ay) * ey) / length2))
                dx, dy = ax + t * ex - x, ay + t * ey - y
                best = min(best, dx * dx + dy * dy)
                if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * ex:
                    inside = not inside
            out[i, j] = -np.sqrt(best) if inside else np.sqrt(best)
