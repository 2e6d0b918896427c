"""Frame, landmarks and references of a bone, by what it is."""

from __future__ import annotations

from dataclasses import dataclass

from batchone.pipeline.labels import is_vertebra
from batchone.pipeline.landmarks import Landmark, Reference
from batchone.pipeline.values import Finding, FloatArray, Label, judge
from batchone.segment.frames.head import planes
from batchone.segment.frames.long_bone import LongBone, femur, tibia
from batchone.segment.frames.principal import principal_frame
from batchone.segment.frames.skull import skull_frame, skull_landmarks
from batchone.segment.frames.vertebra import Vertebra, vertebra
from batchone.segment.ordered import SKULL
from batchone.segment.shapes import Shape

_FRANKFURT_POINTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A bone's frame (4, 4), its landmarks and references, and what was found out about them."""

    frame: FloatArray
    landmarks: tuple[Landmark, ...] = ()
    references: tuple[Reference, ...] = ()
    findings: tuple[Finding, ...] = ()


def described(label: Label, shape: Shape) -> Described:
    """Measure a bone as its name asks for; a bone that is not like its name, or has no rule, gets its principal axes."""
    if label.name == SKULL:
        return _skull(shape)
    title = label.title.replace(" ", "-")
    found: Vertebra | LongBone | None
    if is_vertebra(label.name):
        found = vertebra(shape.mesh, shape.sigma_mm, title)
    elif label.name == "tibia":
        found = tibia(shape.mesh, shape.sigma_mm, title, label.side, complete=label.complete)
    elif label.name == "femur":
        found = femur(shape.mesh, shape.sigma_mm, title, label.side, complete=label.complete)
    else:
        return Described(principal_frame(shape.mesh))
    count = 0 if found is None else len(found.landmarks)
    what = f"{label.title}: landmarks found; with none, the frame is that of the principal axes"
    hint = "look whether the bone is what its name says, and whole"
    finding = judge("landmarks", what, float(count), "", low=1.0, gate=False, hint=hint, source="project default, unverified")
    if found is None:
        return Described(principal_frame(shape.mesh), findings=(finding,))
    return Described(found.frame, found.landmarks, found.references, (finding,))


def _skull(shape: Shape) -> Described:
    frame = skull_frame(shape.mesh)
    found = planes(shape.mesh, shape.sigma_mm, frame)
    missing = f"; not found: {', '.join(found.missing)}" if found.missing else ""
    points = float(_FRANKFURT_POINTS - len(found.missing))
    finding = judge("frankfurt_points", f"points of the Frankfurt plane, of {_FRANKFURT_POINTS}{missing}", points, "")
    return Described(frame, (*skull_landmarks(shape.mesh, shape.sigma_mm), *found.landmarks), found.references, (finding,))
