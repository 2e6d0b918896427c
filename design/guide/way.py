"""Lines that a surgeon drew, brought onto the bone: where a drill enters, and which way its guide comes off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchone.design.cranial.columns import to_local
from batchone.design.cranial.rays import Scene
from batchone.pipeline.errors import OrderError
from batchone.pipeline.order import PlanLine
from batchone.pipeline.values import Axis, Bone, FloatArray, Mesh, Vector, moved_points

MOST_APART_DEG = 45.0  # between a sleeve and the way its guide comes off: steeper sleeves do not stand on it; project default
BEFORE_MM = 5.0  # the bone may be met this far before the drawn entry, which a hand places in the cortex; project default
_SAMPLES = 201  # numerical: places along a way, at most 0.5 mm apart on 100 mm
_FAR_MM = 200.0  # numerical: looked at before the drawn entry


def drawn_ways(lines: Sequence[PlanLine], bone: Bone) -> tuple[Axis, ...]:
    """The way of a drill along each line: from where it first meets the bone from outside, to the line's end.

    Returns
    -------
    tuple
        Axes in LPS mm, named as the lines, pointing into the bone.

    Raises
    ------
    OrderError
        A line does not meet the bone, or the bone stands in its way before its entry.
    """
    scene = Scene(Mesh(to_local(bone.frame, bone.mesh.vertices_mm), bone.mesh.faces))
    return tuple(_drawn_way(line, bone, scene) for line in lines)


def way_out(ways: Sequence[Axis], drawn: PlanLine | None, *, name: str) -> Axis:
    """The way a guide comes off its bone: along a line drawn outward, or against the mean of the ways; from between the entries.

    Raises
    ------
    OrderError
        A way in lies too steep to it.
    """
    outward = -np.sum([way.direction for way in ways], axis=0) if drawn is None else np.subtract(drawn.end_mm, drawn.start_mm)
    outward = outward / max(float(np.linalg.norm(outward)), 1e-9)  # no length: opposite ways, refused below
    for way in ways:
        off_deg = float(np.degrees(np.arccos(np.clip(-(outward @ np.array(way.direction)), -1.0, 1.0))))
        if off_deg > MOST_APART_DEG:
            raise OrderError(
                f"plan line {way.name} lies {off_deg:.0f} deg to the way the guide comes off, at most {MOST_APART_DEG:g} deg",
                hint=f"draw a line {name} that points outward nearer to all ways, or order a guide for fewer of them",
            )
    return Axis(name, _vector(np.mean([way.origin_mm for way in ways], axis=0)), _vector(outward))


def ways_apart(one: Axis, other: Axis) -> tuple[float, Vector]:
    """Least distance between two ways from their entries to their ends, mm, and the place between them; both need a length."""
    share = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
    first, second = (np.array(way.origin_mm) + share * (way.length_mm or 0.0) * np.array(way.direction) for way in (one, other))
    apart = np.linalg.norm(first[:, None] - second[None], axis=2)
    k, n = np.unravel_index(int(np.argmin(apart)), apart.shape)
    return float(apart[k, n]), _vector(0.5 * (first[k] + second[n]))


def _drawn_way(line: PlanLine, bone: Bone, scene: Scene) -> Axis:
    start, end = to_local(bone.frame, np.array([line.start_mm, line.end_mm]))
    length = float(np.linalg.norm(end - start))
    heading = (end - start) / length
    found = scene.first((start - _FAR_MM * heading)[None], heading[None], _FAR_MM + length)
    at_mm = float(found.distance_mm[0]) - _FAR_MM
    hint = "was it drawn in this study, in patient space, from the entry to the target?"
    if np.isnan(at_mm):
        raise OrderError(f"plan line {line.name} misses {bone.name}: 0 mm of it lie in the bone", hint=hint)
    if at_mm < -BEFORE_MM:
        raise OrderError(
            f"plan line {line.name} meets {bone.name} {-at_mm:.1f} mm before its start, at most {BEFORE_MM:g} mm", hint=hint
        )
    entry = moved_points(bone.frame, (start + at_mm * heading)[None])[0]
    return Axis(line.name, _vector(entry), _vector(bone.frame[:3, :3] @ heading), length - at_mm)


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
