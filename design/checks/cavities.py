"""Cavities that no way leads out of: powder or resin stays inside, and cannot be washed, sterilised or inspected."""

from __future__ import annotations

import numpy as np

from batchone.design.checks.mesh import mesh_volume_mm3, pieces_of
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, Mesh, Part, Vector, judge


def cavity_findings(part: Part, process: Process) -> tuple[Finding, ...]:
    """Count the closed shells of a part that face inward; none may exist.

    The finding lies at the middle of the first one's vertices.
    """
    piece = pieces_of(part.mesh)
    cavities: list[Vector] = []
    for number in range(int(piece.max(initial=-1)) + 1):
        faces = part.mesh.faces[piece == number]
        vertices, faces_of_piece = np.unique(faces, return_inverse=True)
        shell = Mesh(part.mesh.vertices_mm[vertices], faces_of_piece.reshape(-1, 3).astype(np.int32))
        if mesh_volume_mm3(shell) < 0.0:
            x, y, z = shell.vertices_mm.mean(axis=0).tolist()
            cavities.append((x, y, z))
    return (
        judge(
            "cavities",
            f"{part.name}: closed cavities",
            len(cavities),
            "",
            low=0,
            high=0,
            hint=f"fill the cavity, or open it with a hole of at least {process.min_escape_hole_mm:g} mm",
            source="a closed cavity traps powder or resin: no process empties it",
            where_mm=cavities[0] if cavities else None,
        ),
    )
