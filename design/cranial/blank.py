"""The implant before its features: the body between contours, wall and edges, with labelled faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.clearance import bone_distance, occupied
from batchone.design.cranial.columns import BoolArray, Columns, LocalPlan, columns_over, local_mesh
from batchone.design.cranial.field import (
    FACES,
    LabelArray,
    Shape,
    body_field,
    face_distances,
    face_labels,
    hole_limit,
    reach_mm,
    zero_surface,
)
from batchone.design.cranial.shell import contour_maps
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Bone, FloatArray, Mesh

_STEP_MM = 0.35  # numerical: grid spacing; distances between grid points are linear, the wall comes out within 0.05 mm
_MARGIN_MM = 4.0  # numerical: columns reach this far outside the rim, 1 mm more than the true edge is looked for
_ROUNDING_SHARE = 0.4  # of the thickness at most is rounded at either edge, so that some straight wall is left
_NEWTON_STEPS = 8  # numerical: an error of 1 mm falls below 1e-6 mm


@dataclass(frozen=True, slots=True, eq=False)
class Sizes:
    """Lengths that shape the blank, mm; see the parameters of the family."""

    gap_mm: float
    thickness_mm: float
    follows_bone: bool
    under_mm: float
    edge_radius_mm: float
    min_wall_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Blank:
    """The body in its local frame.

    Attributes
    ----------
    mesh
        Closed, oriented outward.
    labels
        (m,) index into :data:`batchone.design.cranial.field.FACES`.
    local
        The plan in the same frame.
    shape, columns
        What it was made from.
    footprint
        (x, y) bool: columns that hold material.
    dropped_mm3
        Volume of loose pieces that were left out.
    """

    mesh: Mesh
    labels: LabelArray
    local: LocalPlan
    shape: Shape
    columns: Columns
    footprint: BoolArray
    dropped_mm3: float

    def face_vertices(self, *names: str) -> FloatArray:
        """The vertices (n, 3) on faces of these names."""
        chosen = np.isin(self.labels, [FACES.index(name) for name in names])
        return np.ascontiguousarray(self.mesh.vertices_mm[np.unique(self.mesh.faces[chosen])])

    def holds(self, points_mm: FloatArray) -> BoolArray:
        """Which of the points (n, 3) lie over or under material."""
        index = np.round((points_mm[:, :2] - self.columns.origin_mm[:2]) / self.columns.step_mm).astype(int)
        within = ((index >= 0) & (index < np.array(self.footprint.shape))).all(axis=1)
        index = np.clip(index, 0, np.array(self.footprint.shape) - 1)
        return np.asarray(within & self.footprint[index[:, 0], index[:, 1]])

    def on_outer_face(self, points_mm: FloatArray, directions: FloatArray, *, depth_mm: float = 0.0) -> FloatArray:
        """Slide points (n, 3) along unit directions (n, 3) onto the surface ``depth_mm`` below the outer face."""
        moved = points_mm.copy()
        for _ in range(_NEWTON_STEPS):
            above, _ = face_distances(moved, self.shape, self.columns)
            moved = moved - directions * (above + depth_mm)[:, None]
        return moved

    def thickness_mm(self, points_mm: FloatArray) -> FloatArray:
        """Thickness (n,) below points (n, 3) of the outer face."""
        _, below = face_distances(points_mm, self.shape, self.columns)
        return np.asarray(-below)


def make_blank(bone: Bone, local: LocalPlan, sizes: Sizes) -> Blank:
    """Build the body.

    Raises
    ------
    DesignError
        Nothing is left between contours, wall and rim.
    """
    surface = local_mesh(local.pose, bone.mesh)
    outer, inner = contour_maps(local)
    shape = Shape(
        outer=outer,
        inner=inner,
        follows_bone=sizes.follows_bone,
        thickness_mm=sizes.thickness_mm,
        under_mm=sizes.under_mm,
        gap_mm=sizes.gap_mm,
        radius_mm=min(sizes.edge_radius_mm, _ROUNDING_SHARE * sizes.thickness_mm),
    )
    columns = columns_over(local, step_mm=_STEP_MM, margin_mm=_MARGIN_MM, depth_mm=sizes.thickness_mm + sizes.under_mm)
    taken = occupied(surface, columns)
    limit = hole_limit(shape, columns, surface, least_depth_mm=sizes.gap_mm + max(sizes.min_wall_mm, shape.radius_mm))
    reach = reach_mm(shape, columns)
    distance = bone_distance(surface, columns, taken, wanted=limit < 2.0 * columns.step_mm, band_mm=reach)
    field = body_field(shape, columns, taken, distance_mm=distance, limit=limit)
    mesh, dropped = zero_surface(field, columns)
    labels = face_labels(mesh, shape, columns)
    missing = [name for name in ("outer", "inner", "border") if not np.any(labels == FACES.index(name))]
    if missing:
        raise DesignError(
            f"the body has 0 mm2 of {', '.join(missing)} face, must be more than 0 mm2",
            hint="thicker, a smaller edge_radius_mm or a larger rim",
        )
    footprint = np.asarray((field < 0.0).any(axis=2))
    return Blank(mesh, labels, local, shape, columns, footprint, dropped)
