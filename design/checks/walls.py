"""Wall thickness by rays: from each triangle straight inward to the opposite face.

Only opposite faces count as a wall: where the ray meets a face at a grazing angle it has found a corner, not a wall. Two figures
are judged: what nearly all of the area keeps, and the thinnest spot of a stated size, however small its share of the area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.across import across, cells_of
from batchone.design.triangles import areas_mm2
from batchone.pipeline.limits import Limit
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh, Part, Vector, judge

THIN_SHARE = 0.001  # share of the wall area that may be below the limit: slivers beside edges; project default, unverified
# a spot as large as the finest pin that processes print (design guides: 0.5 to 0.8 mm): less is no wall that could break, but the
# sliver beside an edge
SPOT_MM = 0.5
SPOT_MM2 = np.pi * (0.5 * SPOT_MM) ** 2
# faces turned by more than 37 degrees against each other form a corner, not a wall: the rim of an implant for a large defect has
# corners of about 45 degrees, since it slides in along one axis; project default, unverified
_OPPOSITE_COSINE = 0.8
_SPOT_COSINE = np.cos(
    np.radians(30.0)
)  # a spot is judged between faces turned by less: from there on it is an edge (see `sharp`)
_ENGRAVED = "label"  # the ridges between engraved strokes are no walls: stroke and depth have limits of their own
_LOOKED_AT = 1.2  # numerical: spots thicker than so many times the limit are not told apart
_FEW_RAYS = 100_000  # numerical: so many triangles are all looked from; of more, those that are small take turns
_MOST_RAYS = 400_000  # numerical: more rays than about so many move the percentile by less than 0.01 mm
_RAY_MM2 = SPOT_MM2 / 8.0  # numerical: where triangles take turns, a spot has eight rays up to 9,800 mm2 of surface, fewer beyond


@dataclass(frozen=True, slots=True, eq=False)
class Walls:
    """Walls that rays found.

    Attributes
    ----------
    thickness_mm
        (n,) float64.
    area_mm2
        (n,) float64 area that the ray stands for: that of its triangle, and of small ones beside it that have none.
    face
        (n,) int32 index of that triangle.
    cosine
        (n,) float64 of the angle by which the two faces are turned against each other.
    """

    thickness_mm: FloatArray
    area_mm2: FloatArray
    face: IntArray
    cosine: FloatArray

    def of(self, chosen: npt.NDArray[np.bool_]) -> Walls:
        """The walls behind some of the triangles, (m,) bool."""
        kept = chosen[self.face]
        return Walls(self.thickness_mm[kept], self.area_mm2[kept], self.face[kept], self.cosine[kept])

    def at_share(self, share: float) -> int | None:
        """Index of the wall below which lies ``share`` of the wall area; None without walls."""
        if len(self.thickness_mm) == 0:
            return None
        order = np.argsort(self.thickness_mm, kind="stable")
        covered = np.cumsum(self.area_mm2[order])
        return int(order[np.searchsorted(covered, share * covered[-1])])

    def thinnest_spot(self, mesh: Mesh, below_mm: float) -> tuple[float, int | None]:
        """The thinnest spot of ``SPOT_MM2``: its greatest thickness, mm, and the index of its middle.

        A spot is the walls whose triangles' middles lie within ``SPOT_MM`` of one of them. Only spots thinner than ``below_mm``
        are looked for; where there is none, ``below_mm`` and None.
        """
        thin = np.flatnonzero((self.thickness_mm < below_mm) & (self.cosine >= _SPOT_COSINE))
        if len(thin) == 0 or float(self.area_mm2[thin].sum()) < SPOT_MM2:
            return below_mm, None
        from scipy.spatial import cKDTree

        middles = mesh.vertices_mm[mesh.faces[self.face[thin]]].mean(axis=1)
        best, where = below_mm, None
        for index, near in enumerate(cKDTree(middles).query_ball_point(middles, SPOT_MM)):
            around = thin[np.array(near)]
            order = around[np.argsort(self.thickness_mm[around], kind="stable")]
            covered = np.cumsum(self.area_mm2[order])
            if covered[-1] < SPOT_MM2:
                continue
            reached = float(self.thickness_mm[order[np.searchsorted(covered, SPOT_MM2)]])
            if reached < best:
                best, where = reached, int(thin[index])
        return best, where


def measure_walls(
    mesh: Mesh,
    considered: npt.NDArray[np.bool_] | None = None,
    *,
    outside: bool = False,
    up_to_mm: float = np.inf,
    every: bool = False,
) -> Walls:
    """Measure the wall behind each triangle, or behind the ``considered`` ones ((m,) bool).

    Of very many triangles those that are small take turns: of neighbours that together are as large as an eighth of a spot, or
    as their share of the rays, one is looked from, and stands for them all; with ``every`` each is looked from. ``outside``: the
    room before each triangle instead, a wall of what lies about the part. Walls thicker than ``up_to_mm`` are left out.
    """
    cells = cells_of(mesh)
    area = areas_mm2(mesh)
    if considered is not None:
        area[~considered] = 0.0
    area = area[cells.order]
    if not every and np.count_nonzero(area) > _FEW_RAYS:
        area = _gathered(area, max(_RAY_MM2, float(area.sum()) / _MOST_RAYS))
    rays = np.flatnonzero(area).astype(np.int32)
    distance, met, cosine = across(cells, rays, outside=outside, reach_mm=up_to_mm)
    opposite = np.flatnonzero((met >= 0) & (cosine >= _OPPOSITE_COSINE))
    of_face = np.full(len(mesh.faces), -1, dtype=np.int32)
    of_face[cells.order[rays[opposite]]] = opposite
    face = np.flatnonzero(of_face >= 0).astype(np.int32)
    kept = of_face[face]
    return Walls(distance[kept], area[rays[kept]], face, cosine[kept])


def _gathered(area_mm2: FloatArray, enough_mm2: float) -> FloatArray:
    """Areas (m,), gathered from those before where there is less than enough; their sum stays the same, but for the last ones."""
    upto = np.cumsum(area_mm2)
    turn = np.flatnonzero(np.diff(np.floor(upto / enough_mm2), prepend=0.0) > 0.0)
    gathered = np.zeros(len(area_mm2))
    gathered[turn] = np.diff(upto[turn], prepend=0.0)
    return gathered


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
    engraved = np.array([label == _ENGRAVED for label in part.labels])
    walls = measure_walls(part.mesh, ~engraved[part.face_labels])
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
    findings = (
        judge("walls", what, held_mm, "mm", low=low_mm, gate=gate, hint=hint, source=source, where_mm=where),
        judge("walls", f"{part.name}: thinnest place, edges included", least_mm, "mm", where_mm=least_where),
    )
    if not gate:  # a bone is as thin as it is: there is no spot to thicken
        return findings
    spot_mm, middle = walls.thinnest_spot(part.mesh, _LOOKED_AT * low_mm)
    _, spot_where = _place(part.mesh, walls, middle)
    what = f"{part.name}: thinnest spot of {SPOT_MM:g} mm (up to {_LOOKED_AT * low_mm:g} mm are looked at)"
    spot = judge("walls", what, spot_mm, "mm", low=low_mm, gate=gate, hint=hint, source=source, where_mm=spot_where)
    return (*findings, spot)


def _place(mesh: Mesh, walls: Walls, index: int | None) -> tuple[float, Vector | None]:
    if index is None:
        return float("nan"), None
    point = mesh.vertices_mm[mesh.faces[walls.face[index]]].mean(axis=0)
    return float(walls.thickness_mm[index]), (float(point[0]), float(point[1]), float(point[2]))
