"""Sections through what leads an instrument: where they lie, and their pictures of scan, bone and device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batchone.pipeline.errors import InputError
from batchone.pipeline.serve.scene.content import Content
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Axis, FloatArray, Part, Vector

_LEADING = ("bore", "slot")  # what the label of a face begins with that leads a drill or a saw
_STEEP = 0.9  # a way this close to the patient's left-right axis is looked at along the front-back one
_ROUND = 0.2  # share of its radius by which the wall of a bore may lie unevenly about the way that it leads


@dataclass(frozen=True, slots=True)
class Section:
    """A sleeve or slot: its way, a direction across that the first section holds, and how wide it is (mm, of a bore)."""

    name: str
    part: str
    way: Axis
    across: Vector
    diameter_mm: float | None


def shown_sections(content: Content) -> Iterator[Section]:
    """The bores and slots of the device that follow a planned way."""
    axes = [] if content.plan is None else [axis for axis in content.plan.axes if axis.length_mm is not None]
    for part in content.parts:
        for face in part.functional_faces:
            kind = face.label.split("-")[0]
            if axes and kind in _LEADING and face.label in part.labels:
                way = min(axes, key=lambda axis: _apart(face.label, part, axis))
                across = _across(part, face.label, way, kind)
                yield Section(face.label, part.name, way, across, _diameter_mm(part, face.label, way) if kind == "bore" else None)


def section_bytes(case: CaseFolder, name: str, across: bool = False) -> bytes:
    """A picture (PNG) of the section that holds a sleeve's or slot's way, or of the one across it.

    Raises
    ------
    InputError
        The case has no such section.
    """
    from batchone.pipeline.job.sections import way_sections

    content = Content(case)
    found = next((one for one in shown_sections(content) if one.name == name), None)
    if found is None or content.anatomy is None or content.device is None:
        raise InputError(f"the case has no section {name[:80]!r}", hint="the case's scene lists its sections")
    pictures = way_sections(content.scan, content.anatomy, content.device, found.way, towards=found.across)
    return pictures[1 if across else 0].png


def _apart(label: str, part: Part, axis: Axis) -> tuple[bool, float]:
    """How little a way belongs to a face: by its name, then by the distance of the face's middle from its line."""
    points = _points(part, label)
    off = points.mean(axis=0) - np.array(axis.origin_mm)
    direction = np.array(axis.direction)
    aside = float(np.linalg.norm(off - direction * float(off @ direction)))
    return label.partition("-")[2] not in axis.name, aside


def _points(part: Part, label: str) -> FloatArray:
    faces = part.mesh.faces[part.face_labels == part.labels.index(label)]
    return part.mesh.vertices_mm[np.unique(faces)]


def _across(part: Part, label: str, way: Axis, kind: str) -> Vector:
    """Unit vector across the way: of a slot straight through its walls, of a bore across the patient."""
    down = np.array(way.direction)
    if kind == "slot":
        corners = part.mesh.vertices_mm[part.mesh.faces[part.face_labels == part.labels.index(label)]]
        areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.maximum(np.linalg.norm(areas, axis=1), np.finfo(np.float64).tiny)
        across = np.linalg.eigh((areas / length[:, None]).T @ areas)[1][:, 2]
    else:
        across = np.eye(3)[0 if abs(down[0]) < _STEEP else 1]
    across = across - down * float(across @ down)
    x, y, z = (across / np.linalg.norm(across)).tolist()
    return (x, y, z)


def _diameter_mm(part: Part, label: str, way: Axis) -> float | None:
    """Twice the mean distance of a bore's wall from its way; None where it does not lie about it."""
    off = _points(part, label) - np.array(way.origin_mm)
    direction = np.array(way.direction)
    radius = np.linalg.norm(off - np.outer(off @ direction, direction), axis=1)
    mean = float(radius.mean())
    return 2.0 * mean if np.ptp(radius) <= 2.0 * _ROUND * mean else None
