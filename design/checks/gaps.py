"""Gaps between two faces of one part: narrower ones than the process holds are printed shut, or keep powder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.design.checks.walls import SPOT_MM, measure_walls
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, IntArray, Mesh, Part, Vector, judge

_ENGRAVED = ("label", "side-mark")  # stroke and depth of letters have limits of their own
_LOOKED_AT = 1.2  # numerical: gaps wider than so many times the limit are not told apart


def gap_findings(part: Part, process: Process) -> tuple[Finding, ...]:
    """The narrowest spot between two faces of a part that face each other: at a functional face, and elsewhere.

    A gap is a wall of the room about the part, so it is measured as walls are. A functional face
    that is printed shut has lost its purpose; between other faces a closed gap only keeps powder, which warns.
    """
    functional = {face.label for face in part.functional_faces} - set(_ENGRAVED)
    others = set(part.labels) - functional - set(_ENGRAVED)
    limit_mm = process.min_gap_mm
    looked_at_mm = _LOOKED_AT * limit_mm
    measured = measure_walls(part.mesh, _faces(part, functional | others), outside=True, up_to_mm=looked_at_mm)
    findings = []
    for where, labels, gate in (("at a functional face", functional, True), ("elsewhere", others, False)):
        gaps = measured.of(_faces(part, labels))
        narrow_mm, middle = gaps.thinnest_spot(part.mesh, looked_at_mm)
        what = f"{part.name}: narrowest gap of {SPOT_MM:g} mm {where} (up to {looked_at_mm:g} mm are looked at)"
        findings.append(
            judge(
                "gaps", what, narrow_mm, "mm",
                low=limit_mm, gate=gate, hint="move the two faces apart, or join them: change the parameter set last",
                source=process.sources.get("min_gap_mm", ""), where_mm=_place(part.mesh, gaps.face, middle),
            )
        )  # fmt: skip
    return tuple(findings)


def _faces(part: Part, labels: set[str]) -> npt.NDArray[np.bool_]:
    return np.array([label in labels for label in part.labels])[part.face_labels]


def _place(mesh: Mesh, faces: IntArray, index: int | None) -> Vector | None:
    if index is None:
        return None
    x, y, z = mesh.vertices_mm[mesh.faces[faces[index]]].mean(axis=0).tolist()
    return (x, y, z)
