"""Gaps between two faces of one part: narrower ones than the process holds are printed shut, or keep powder."""

from __future__ import annotations

import numpy as np

from batchone.design.checks.walls import SPOT_MM, measure_walls
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, Mesh, Part, Vector, judge

_ENGRAVED = ("label", "side-mark")  # stroke and depth of letters have limits of their own
_LOOKED_AT = 1.2  # numerical: gaps wider than so many times the limit are not told apart


def gap_findings(part: Part, process: Process) -> tuple[Finding, ...]:
    """The narrowest spot between two faces of a part that face each other; bores and slots too.

    A gap is a wall of the room about the part, so it is measured as walls are, on the mesh turned inside out.
    """
    letters = [index for index, label in enumerate(part.labels) if label in _ENGRAVED]
    turned = Mesh(part.mesh.vertices_mm, np.ascontiguousarray(part.mesh.faces[:, ::-1]))
    gaps = measure_walls(turned, ~np.isin(part.face_labels, letters))
    limit_mm = process.min_gap_mm
    narrow_mm, middle = gaps.thinnest_spot(turned, _LOOKED_AT * limit_mm)
    where: Vector | None = None
    if middle is not None:
        x, y, z = part.mesh.vertices_mm[part.mesh.faces[gaps.face[middle]]].mean(axis=0).tolist()
        where = (x, y, z)
    return (
        judge(
            "gaps",
            f"{part.name}: narrowest gap of {SPOT_MM:g} mm (up to {_LOOKED_AT * limit_mm:g} mm are looked at)",
            narrow_mm,
            "mm",
            low=limit_mm,
            hint="move the two faces apart, or join them: change the parameter set last",
            source=process.sources.get("min_gap_mm", ""),
            where_mm=where,
        ),
    )
