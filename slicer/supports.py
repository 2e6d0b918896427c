"""What of a part needs supports as it stands, and whether they would touch functional faces: advice to the workshop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, IntArray, Part, Vector, judge
from batchone.slicer.orient import Stance

_HINT = "add supports in the machine's own preparation, not on the functional faces"
_UNSUPPORTED = "look at these faces after printing: nothing held them up"


def support_findings(parts: tuple[Part, ...], stances: list[Stance], process: Process) -> list[Finding]:
    """What still needs supports, which the files do not hold; nothing for a process that needs none."""
    return [
        finding
        for part, stance in zip(parts, stances, strict=True)
        for finding in (_findings(part, stance, process) if process.needs_supports else ())
    ]


def islands(part: Part, stance: Stance, *, layer_mm: float) -> IntArray:
    """(k,) vertices in the midst of functional faces where a layer begins in the air: all about them lies higher.

    What lies within a layer of the lowest place stands on the platform or on the supports below the part.
    """
    height = part.mesh.vertices_mm @ stance.rotation[2]
    faces = part.mesh.faces
    count = len(height)
    functional = _functional(part)
    around = np.full(count, np.inf)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        np.minimum.at(around, faces[:, one], height[faces[:, other]])
        np.minimum.at(around, faces[:, other], height[faces[:, one]])
    midst = np.bincount(faces.ravel(), np.repeat(~functional, 3), count) == 0.0
    corners = part.mesh.vertices_mm[faces]
    rise = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) @ stance.rotation[2]
    down = np.bincount(faces.ravel(), np.repeat(rise, 3), count) < 0.0
    return np.flatnonzero(midst & down & (height < around) & (height > height.min() + layer_mm)).astype(np.int32)


def _findings(part: Part, stance: Stance, process: Process) -> tuple[Finding, ...]:
    where = "in the toolpath, off functional faces" if process.kind == "fff" else "not in the files"
    limit = f"beyond {process.max_overhang_deg:g} deg: supports are {where}"
    alone = islands(part, stance, layer_mm=process.layer_mm)
    functional_mm2 = stance.functional_overhang_mm2
    first = _vector(part.mesh.vertices_mm[alone[0]]) if len(alone) else None
    measured: tuple[tuple[str, str, float, str, Vector | None], ...] = (
        ("orient.overhang", f"area of {part.name} {limit}", stance.overhang_mm2, "mm2", None),
        ("orient.functional_overhang", f"functional area of {part.name} {limit}", functional_mm2, "mm2", _lowest(part, stance)),
        ("orient.islands", f"places of functional faces of {part.name} that begin in the air", len(alone), "", first),
    )
    source = process.sources.get("max_overhang_deg", "project default")
    if process.kind == "fff":  # the rest has its supports
        measured = measured[1:]
    hint = _UNSUPPORTED if process.kind == "fff" else _HINT
    return tuple(
        judge(check, what, value, unit, high=0.0, gate=False, hint=hint, source=source, where_mm=place)
        for check, what, value, unit, place in measured
    )


def _lowest(part: Part, stance: Stance) -> Vector | None:
    """The middle of the functional triangle that faces down most; None where there is none."""
    corners = part.mesh.vertices_mm[part.mesh.faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    down = -(areas @ stance.rotation[2]) / np.maximum(np.linalg.norm(areas, axis=1), np.finfo(np.float64).tiny)
    down[~_functional(part)] = -1.0
    return _vector(corners[int(np.argmax(down))].mean(axis=0)) if down.max() > 0.0 else None


def _functional(part: Part) -> npt.NDArray[np.bool_]:
    """(m,) triangles of functional faces."""
    names = {face.label for face in part.functional_faces}
    return np.isin(part.face_labels, [k for k, label in enumerate(part.labels) if label in names])


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))
