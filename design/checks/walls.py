"""Wall thickness by rays: from each triangle straight inward to the opposite face.

Only opposite faces count as a wall: where the ray meets a face at a grazing angle it has found a corner, not a wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.cranial.rays import Scene
from batchone.pipeline.limits import Limit
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh, Part, Vector, judge

THIN_SHARE = 0.001  # share of the wall area that may be below the limit: slivers beside edges; project default, unverified
# faces turned by more than 37 degrees against each other form a corner, not a wall: the rim of an implant for a large defect has
# corners of about 45 degrees, since it slides in along one axis; project default, unverified
_OPPOSITE_COSINE = 0.8
_ENGRAVED = "label"  # the ridges between engraved strokes are no walls: stroke and depth have limits of their own
_START_MM = 1e-4  # numerical: a ray starts this far inside its own triangle (single-precision rays, parts within 1 m)
_MOST_RAYS = 400_000  # numerical: more triangles are sampled at even steps, which moves the percentile by less than 0.01 mm


@dataclass(frozen=True, slots=True, eq=False)
class Walls:
    """Walls that rays found.

    Attributes
    ----------
    thickness_mm
        (n,) float64.
    area_mm2
        (n,) float64 area of the triangle the ray started from.
    face
        (n,) int32 index of that triangle.
    """

    thickness_mm: FloatArray
    area_mm2: FloatArray
    face: IntArray

    def at_share(self, share: float) -> int | None:
        """Index of the wall below which lies ``share`` of the wall area; None without walls."""
        if len(self.thickness_mm) == 0:
            return None
        order = np.argsort(self.thickness_mm, kind="stable")
        covered = np.cumsum(self.area_mm2[order])
        return int(order[np.searchsorted(covered, share * covered[-1])])


def measure_walls(mesh: Mesh, considered: npt.NDArray[np.bool_] | None = None) -> Walls:
    """Measure the wall behind each triangle, or behind the ``considered`` ones ((m,) bool), or an even sample of them."""
    middle = 0.5 * (mesh.vertices_mm.min(axis=0) + mesh.vertices_mm.max(axis=0))
    local = Mesh(mesh.vertices_mm - middle, mesh.faces)
    face = np.arange(len(mesh.faces), dtype=np.int32) if considered is None else np.flatnonzero(considered).astype(np.int32)
    face = face[:: max(1, -(-len(face) // _MOST_RAYS))]
    corners = local.vertices_mm[local.faces[face]]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice_area = np.linalg.norm(cross, axis=1)
    sound = twice_area > 0.0
    face, cross, twice_area, corners = face[sound], cross[sound], twice_area[sound], corners[sound]
    inward = -cross / twice_area[:, None]
    reach_mm = 2.0 * float(np.linalg.norm(local.vertices_mm, axis=1).max())
    hits = Scene(local).first(corners.mean(axis=1) + _START_MM * inward, inward, reach_mm)
    cosine = np.einsum("ij,ij->i", _normals(local)[hits.face], inward)
    wall = (hits.face >= 0) & (cosine >= _OPPOSITE_COSINE)
    return Walls(hits.distance_mm[wall] + _START_MM, 0.5 * twice_area[wall], face[wall])


def wall_findings(part: Part, process: Process, limit: Limit | None = None) -> tuple[Finding, ...]:
    """Judge one part's walls.

    Parameters
    ----------
    part
        The part.
    process
        Its ``min_wall_mm`` is the limit.
    limit
        The family's own gate: raises the limit, and says whether a breach refuses the device (it does without one).
    """
    engraved = [index for index, label in enumerate(part.labels) if label == _ENGRAVED]
    walls = measure_walls(part.mesh, ~np.isin(part.face_labels, engraved))
    own_mm = limit.low if limit is not None and limit.low is not None else 0.0
    low_mm = max(process.min_wall_mm, own_mm)
    gate = limit is None or limit.gate
    source = process.sources.get("min_wall_mm", "") if low_mm == process.min_wall_mm or limit is None else limit.source
    hint = f"thicken the part, or choose a process that holds walls below {low_mm:g} mm"
    held = walls.at_share(THIN_SHARE)
    worst = walls.at_share(0.0)
    what = f"{part.name}: wall that 99.9 % of the area keeps"
    held_mm, where = _place(part.mesh, walls, held)
    least_mm, least_where = _place(part.mesh, walls, worst)
    return (
        judge("walls", what, held_mm, "mm", low=low_mm, gate=gate, hint=hint, source=source, where_mm=where),
        judge("walls", f"{part.name}: thinnest place, edges included", least_mm, "mm", where_mm=least_where),
    )


def _place(mesh: Mesh, walls: Walls, index: int | None) -> tuple[float, Vector | None]:
    if index is None:
        return float("nan"), None
    point = mesh.vertices_mm[mesh.faces[walls.face[index]]].mean(axis=0)
    return float(walls.thickness_mm[index]), (float(point[0]), float(point[1]), float(point[2]))


def _normals(mesh: Mesh) -> FloatArray:
    corners = mesh.vertices_mm[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    return np.asarray(cross / np.maximum(length, np.finfo(np.float64).tiny))
