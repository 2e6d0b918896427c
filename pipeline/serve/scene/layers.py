"""Values that colour a surface, one for each vertex, and the range that their colours cover: the same in every case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchone.pipeline.values import Bone, FloatArray, Mesh


@dataclass(frozen=True, slots=True)
class Scale:
    """What the colours of a layer mean: from ``low`` to ``high`` in ``unit``."""

    what: str
    unit: str
    low: float
    high: float


GAP = Scale("distance to the nearest bone", "mm", 0.0, 2.0)  # as in the report's pictures of the gap
WALL = Scale("wall thickness", "mm", 0.0, 5.0)  # project default: what is thicker is no matter of strength of a print
UNCERTAINTY = Scale("one standard deviation of the bone surface", "mm", 0.0, 0.5)  # as in the report's pictures of it
DEVIATION = Scale("outwards from the previous revision", "mm", -2.0, 2.0)  # project default: as far as the gap's scale


def bone_gap_mm(mesh: Mesh, bones: Sequence[Mesh]) -> FloatArray:
    """Distance (n,) of each vertex to the nearest bone, mm; not a number beyond the end of the scale."""
    from batchone.design.nearest import nearest_mm  # compiled: seconds that the first picture need not wait for

    found = np.min([nearest_mm(mesh.vertices_mm, bone, within_mm=GAP.high) for bone in bones], axis=0)
    return np.asarray(np.where(np.isfinite(found), found, np.nan))


def wall_mm(mesh: Mesh) -> FloatArray:
    """Thickness (n,) of the wall behind each vertex, the least of its triangles, mm; not a number where there is none."""
    from batchone.design.checks.walls import measure_walls

    walls = measure_walls(mesh, every=True)
    least = np.full(len(mesh.vertices_mm), np.inf)
    np.minimum.at(least, mesh.faces[walls.face].ravel(), np.repeat(walls.thickness_mm, 3))
    return np.asarray(np.where(np.isfinite(least), least, np.nan))


def known_uncertainty_mm(bone: Bone) -> FloatArray:
    """The bone's own (n,) standard deviation, mm; not a number where its source told none."""
    known = len(bone.uncertainty_mm) == len(bone.mesh.vertices_mm)
    return bone.uncertainty_mm if known else np.full(len(bone.mesh.vertices_mm), np.nan)
