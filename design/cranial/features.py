"""Holes: drainage through the middle of the implant, screw holes along its border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from batchone.design import solid
from batchone.design.cranial.blank import Blank
from batchone.design.cranial.engraving import Label
from batchone.design.cranial.layout import Layout, layout
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray

PERFORATION, FIXATION = "perforation", "fixation"

_BRIDGE_MM = 2.0  # material left between two holes, or a hole and the label; project default, unverified
_OVERSHOOT_MM = 1.0  # numerical: tools reach this far out of either face
_SLANT = 1.5  # numerical: a hole across faces that are not parallel is longer than the implant is thick, by less than this
_WALK_MM = 0.1  # numerical: steps of the walk from the rim inwards; linear between them


@dataclass(frozen=True, slots=True, eq=False)
class Holes:
    """Round holes along the face's own normal: points (n, 3) on the outer face, unit outward axes (n, 3), one diameter."""

    label: str
    points_mm: FloatArray
    axes: FloatArray
    diameter_mm: float

    def features(self, blank: Blank) -> tuple[solid.Feature, ...]:
        """One cylinder for each hole, through the implant; all of one length, so that one is made and the others are copies."""
        if len(self.points_mm) == 0:
            return ()
        below = float(np.ceil(_SLANT * blank.thickness_mm(self.points_mm).max() + _OVERSHOOT_MM))
        start, up = (0.0, 0.0, -below), (0.0, 0.0, 1.0)
        one = solid.cylinder(self.label, start_mm=start, axis=up, diameter_mm=self.diameter_mm, length_mm=below + _OVERSHOOT_MM)
        return tuple(
            solid.placed(one, self.label, _upright(point, axis)) for point, axis in zip(self.points_mm, self.axes, strict=True)
        )


def fixation_holes(blank: Blank, *, count: int, diameter_mm: float, border_mm: float) -> Holes:
    """Screw holes at equal distances along the rim, their centres ``border_mm`` off the border.

    Raises
    ------
    DesignError
        The implant is nowhere wide enough for one of them.
    """
    rim = blank.local.rim_mm
    grid = layout(blank)
    border = cKDTree(blank.face_vertices("border", "skirt"))
    rays = rim - blank.local.centre_mm
    angle = np.arccos(np.clip(rays @ grid.middle / np.linalg.norm(rays, axis=1), -1.0, 1.0))
    across = np.column_stack([rays @ grid.right, rays @ grid.up])
    on_map = across / np.linalg.norm(across, axis=1)[:, None] * (grid.radius_mm * angle)[:, None]
    places = [_off_border(blank, grid, start, border, border_mm) for start in _evenly(on_map, count)]
    points = grid.points_mm(blank, np.array(places).reshape(-1, 2))
    return Holes(FIXATION, points, blank.shape.outer.normals(points), diameter_mm)


def perforations(
    blank: Blank, *, diameter_mm: float, pitch_mm: float, border_mm: float, screws: Holes, label: Label | None
) -> Holes:
    """Drainage holes on a square pattern about the middle of the face, off the border, the screws and the label.

    The pattern leaves the middle row free, so that a label of one line costs no hole. A pitch of 0 makes none.
    """
    grid = layout(blank)
    reach = int(np.ceil(grid.reach_mm / pitch_mm)) if pitch_mm > 0.0 else 0
    steps = (np.arange(-reach, reach) + 0.5) * pitch_mm
    on_map = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    points = grid.points_mm(blank, on_map)
    points = points[blank.holds(points)]
    axes = blank.shape.outer.normals(points)
    radius = 0.5 * diameter_mm
    kept = _axis_distance(blank, points, axes, cKDTree(blank.face_vertices("border", "skirt"))) >= border_mm + radius
    if len(screws.points_mm) and len(points):
        to_screw, _ = cKDTree(screws.points_mm).query(points)
        kept &= to_screw >= radius + 0.5 * screws.diameter_mm + _BRIDGE_MM
    if label is not None and len(points):
        kept &= ~label.covers(points, margin_mm=radius)
    return Holes(PERFORATION, points[kept], axes[kept], diameter_mm)


def _upright(point_mm: FloatArray, axis: FloatArray) -> FloatArray:
    """A pose (4, 4) at a point whose z axis is ``axis``."""
    helper = np.eye(3)[int(np.argmin(np.round(np.abs(axis), 6)))]
    first = np.cross(helper, axis)
    first /= np.linalg.norm(first)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([first, np.cross(axis, first), axis])
    pose[:3, 3] = point_mm
    return pose


def _axis_distance(blank: Blank, points: FloatArray, axes: FloatArray, border: cKDTree) -> FloatArray:
    """Distance (n,) of hole axes, inside the implant, to the nearest of the border's vertices."""
    if len(points) == 0:
        return np.empty(0)
    depths = np.linspace(0.0, 1.0, 5)[:, None] * blank.thickness_mm(points)
    return np.asarray(np.min([border.query(points - depth[:, None] * axes)[0] for depth in depths], axis=0))


def _evenly(on_map: FloatArray, count: int) -> FloatArray:
    """``count`` places (count, 2) at equal distances along a closed line (n, 2), half a distance after the top."""
    along = np.linalg.norm(np.roll(on_map, -1, axis=0) - on_map, axis=1)
    reached = np.concatenate([[0.0], np.cumsum(along)])
    start = reached[int(np.argmax(on_map[:, 1]))]
    wanted = np.mod(start + (np.arange(count) + 0.5) * reached[-1] / max(count, 1), reached[-1])
    closed = np.vstack([on_map, on_map[:1]])
    return np.column_stack([np.interp(wanted, reached, closed[:, k]) for k in range(2)])


def _off_border(blank: Blank, grid: Layout, start: FloatArray, border: cKDTree, border_mm: float) -> FloatArray:
    """Walk on the map from the rim to the middle until the border is ``border_mm`` away."""
    length = float(np.linalg.norm(start))
    steps = np.arange(0.0, 1.0, _WALK_MM / length)[:, None]
    places = start * (1.0 - steps)
    points = grid.points_mm(blank, places)
    distance = np.where(blank.holds(points), border.query(points)[0], 0.0)
    far = np.nonzero(distance >= border_mm)[0]
    if len(far) == 0:
        raise DesignError(
            f"the implant is at most {distance.max():.1f} mm from its border, a screw hole needs {border_mm:.1f} mm",
            hint="a smaller fixation_border_mm, or fixation_holes = 0",
        )
    k = int(far[0])
    if k == 0:
        return np.asarray(places[0])
    share = (border_mm - distance[k - 1]) / (distance[k] - distance[k - 1])
    return np.asarray(places[k - 1] + share * (places[k] - places[k - 1]))
