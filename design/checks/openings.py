"""Holes of a part: narrower ones than the process holds are printed shut, or keep powder and resin."""

from __future__ import annotations

import numpy as np

from batchone.design.checks.mesh import pieces_of
from batchone.design.checks.slender import FACETS_MM
from batchone.design.checks.walls import Walls, measure_walls
from batchone.design.checks.wedges import OPENINGS
from batchone.design.cranial.columns import submesh
from batchone.design.triangles import area_vectors
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, Mesh, Part, Vector, judge

_NO_HOLES = ("slot",)  # flat gaps: see `gaps`
_SHARE = 0.1  # of a hole's wall: a countersink is wider; project default


def opening_findings(part: Part, process: Process) -> tuple[Finding, ...]:
    """The narrowest hole of a part, of those that its labels name: from wall to wall through its air, mm; none without holes."""
    names = [k for k, label in enumerate(part.labels) if label.startswith(OPENINGS) and not label.startswith(_NO_HOLES)]
    across = measure_walls(part.mesh, np.isin(part.face_labels, names), outside=True)
    narrowest, where, called = np.inf, None, ""
    for number in names:
        mine = np.flatnonzero(part.face_labels == number)
        piece = pieces_of(submesh(part.mesh, part.face_labels == number)) if len(mine) else mine
        for one in range(int(piece.max(initial=-1)) + 1):
            walls = across.of(np.isin(np.arange(len(part.mesh.faces)), mine[piece == one]))
            index = walls.at_share(_SHARE)
            if index is not None and walls.thickness_mm[index] < narrowest:
                narrowest, called = float(walls.thickness_mm[index]), part.labels[number]
                where = _middle(part.mesh, walls)
    if where is None:
        return ()
    limit_mm = process.min_hole_mm
    return (
        judge(
            "openings", f"{part.name}: width of its narrowest hole ({called})", narrowest, "mm",
            low=limit_mm - FACETS_MM, hint=f"a wider instrument or opening, or a process that holds holes below {limit_mm:g} mm",
            source=f"{process.sources.get('min_hole_mm', '')}, less {FACETS_MM:g} mm for facets", where_mm=where,
        ),
    )  # fmt: skip


def _middle(mesh: Mesh, walls: Walls) -> Vector:
    """Mean of the middles between a hole's wall and what lies across: on its axis, however slanted its ends are."""
    chosen = Mesh(mesh.vertices_mm, mesh.faces[walls.face])
    vectors = area_vectors(chosen)
    outward = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    middles = mesh.vertices_mm[chosen.faces].mean(axis=1) + 0.5 * walls.thickness_mm[:, None] * outward
    x, y, z = np.average(middles, axis=0, weights=walls.area_mm2).tolist()
    return (x, y, z)
