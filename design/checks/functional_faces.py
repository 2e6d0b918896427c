"""Every functional face that a part declares is there, with an area."""

from __future__ import annotations

from batchone.design.booleans import face_areas
from batchone.pipeline.values import Finding, Part, judge

_LEAST_MM2 = 1e-3  # numerical: more than nothing


def face_findings(part: Part) -> tuple[Finding, ...]:
    """Area of each declared functional face, the least one judged."""
    if not part.functional_faces:
        return ()
    areas = face_areas(part)
    least = min(part.functional_faces, key=lambda face: (areas.get(face.label, 0.0), face.label))
    what = f"{part.name}: least area of its functional faces ({least.label})"
    hint = "report this order: a step of the geometry has lost the face"
    source = "every declared face is on the part: what is not labelled is not measured"
    return (judge("faces", what, areas.get(least.label, 0.0), "mm2", low=_LEAST_MM2, hint=hint, source=source),)
