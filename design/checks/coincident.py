"""Triangles that lie on one another: two shells that touch over a face, or a face that was written twice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.design.triangles import box_mm, heights_mm
from batchone.pipeline.values import Finding, IntArray, Mesh, Part, judge

_SAME_MM = 1e-4  # numerical: single-precision files leave steps of 3e-5 mm at 0.5 m


def coincident_triangles(mesh: Mesh) -> IntArray:
    """(k,) indices of the triangles whose three corners another one has too, whichever way either faces; rising.

    Corners within 1e-4 mm of each other count as the same, except where they fall on either side of a rounding step.
    """
    if len(mesh.faces) == 0:
        return np.empty(0, dtype=np.int32)
    steps = np.rint((mesh.vertices_mm - box_mm(mesh.vertices_mm)[0]) / _SAME_MM).astype(np.int64)
    alike = _shared(_mixed(steps)[mesh.faces].sum(axis=1))
    # triangles lower than the rounding, or whose own corners fall together, have no face to lie on another with
    whole = alike[heights_mm(Mesh(mesh.vertices_mm, mesh.faces[alike])) > _SAME_MM]
    place = np.unique(steps[mesh.faces[whole]].reshape(-1, 3), axis=0, return_inverse=True)[1].reshape(-1, 3)
    corners = np.sort(place, axis=1)
    apart = (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2])
    group, count = np.unique(corners[apart], axis=0, return_inverse=True, return_counts=True)[1:]
    return whole[apart][count[group.reshape(-1)] > 1].astype(np.int32)


def _mixed(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """(n,) a number for each place (n, 3) in steps, the same for the same place, and hardly ever for another."""
    mixed = np.zeros(len(steps), dtype=np.uint64)
    for axis in range(3):  # the mixing step of splitmix64 (Steele, Lea and Flood 2014)
        mixed += steps[:, axis].astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _shared(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Indices of the numbers (n,) that occur more than once, rising."""
    rising = np.sort(numbers)
    twice = rising[1:][rising[1:] == rising[:-1]]
    return np.flatnonzero(np.isin(numbers, twice)) if len(twice) else np.empty(0, dtype=np.intp)


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
