"""Triangles that lie on one another: two shells that touch over a face, or a face that was written twice."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import Finding, IntArray, Mesh, Part, judge

_SAME_MM = 1e-4  # numerical: single-precision files leave steps of 3e-5 mm at 0.5 m


def coincident_triangles(mesh: Mesh) -> IntArray:
    """(k,) indices of the triangles whose three corners another one has too, whichever way either faces; rising.

    Corners within 1e-4 mm of each other count as the same, except where they fall on either side of a rounding step.
    """
    if len(mesh.faces) == 0:
        return np.empty(0, dtype=np.int32)
    steps = np.rint((mesh.vertices_mm - mesh.vertices_mm.min(axis=0)) / _SAME_MM).astype(np.int64)
    place = np.unique(steps, axis=0, return_inverse=True)[1].reshape(-1)
    corners = np.sort(place[mesh.faces], axis=1)
    # triangles lower than the rounding, or whose own corners fall together, have no face to lie on another with
    sides = mesh.vertices_mm[mesh.faces[:, [1, 2, 0]]] - mesh.vertices_mm[mesh.faces]
    twice_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    high = twice_area > _SAME_MM * np.sqrt(np.einsum("ijk,ijk->ij", sides, sides)).max(axis=1)
    whole = np.flatnonzero(high & (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2]))
    group, count = np.unique(corners[whole], axis=0, return_inverse=True, return_counts=True)[1:]
    return whole[count[group.reshape(-1)] > 1].astype(np.int32)


def coincident_findings(part: Part) -> tuple[Finding, ...]:
    """Count the triangles of a part that lie on another one; none may."""
    found = coincident_triangles(part.mesh)
    where = None
    if len(found):
        x, y, z = part.mesh.vertices_mm[part.mesh.faces[found[0]]].mean(axis=0).tolist()
        where = (x, y, z)
    return (
        judge(
            "coincident",
            f"{part.name}: triangles that lie on another one",
            len(found),
            "",
            low=0,
            high=0,
            hint="unite the two bodies, or part them by the process's gap: change the parameter set last and design again",
            source="no double faces: Netfabb repair criteria",
            where_mm=where,
        ),
    )
