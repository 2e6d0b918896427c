"""Which bones a model shows, and where it is cut off."""

from __future__ import annotations

import numpy as np

from batchone.design.families.anatomical_model import AnatomicalModelParameters
from batchone.design.family import parameters_of
from batchone.pipeline.errors import OrderError
from batchone.pipeline.labels import split_title
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Bone, FloatArray, Plan, Plane, Vector

CUT_BOTTOM = "cut-bottom"
CUT_TOP = "cut-top"
_LEAST_HEIGHT_MM = 5.0  # a lower slab shows nothing; project default, unverified


def chosen_bones(anatomy: Anatomy, order: Order) -> tuple[Bone, ...]:
    """Bones of the order (all where it names none) on the ordered side, largest first.

    Raises
    ------
    OrderError
        A named bone was not found, or only on the other side.
    """
    wanted = tuple(dict.fromkeys(split_title(text)[0] for text in order.target.bones))
    known = ", ".join(f"{bone.name} ({bone.side})" for bone in anatomy.bones) or "none"
    missing = [name for name in wanted if anatomy.bone(name) is None]
    if missing:
        raise OrderError(
            f"[target] bones asks for {', '.join(missing)}; found: {known}", hint="correct [target] bones, or send another series"
        )
    sided = {split_title(text) for text in order.target.bones}
    named = [bone for bone in anatomy.bones if not wanted or bone.name in wanted]
    fitting = [
        bone
        for bone in named
        if bone.side == "midline" or order.side in ("midline", bone.side) or (bone.name, bone.side) in sided
    ]
    other_side = [name for name in wanted if not any(bone.name == name for bone in fitting)]
    if not fitting or other_side:
        raise OrderError(
            f"the order's side is {order.side}; bones found: {known}",
            hint="the order's side and the images contradict each other: ask the prescriber",
        )
    return tuple(sorted(fitting, key=lambda bone: (-bone.volume_mm3, bone.name, bone.side)))


def heights_mm(bones: tuple[Bone, ...]) -> tuple[float, float]:
    """Lowest and highest point along the axis of the first bone, mm from its frame's origin."""
    frame = bones[0].frame
    along = [(bone.mesh.vertices_mm - frame[:3, 3]) @ frame[:3, 2] for bone in bones]
    return min(float(h.min()) for h in along), max(float(h.max()) for h in along)


def propose_region(anatomy: Anatomy, order: Order) -> Plan:
    """Lay a plane at each cut end; the normals point into the region that is kept.

    Raises
    ------
    OrderError
        A bone is missing, or the cuts leave less than 5 mm.
    """
    chosen = parameters_of(order, AnatomicalModelParameters)
    bones = chosen_bones(anatomy, order)
    low_mm, high_mm = heights_mm(bones)
    left_mm = high_mm - low_mm - chosen.cut_bottom_mm - chosen.cut_top_mm
    if left_mm < _LEAST_HEIGHT_MM:
        raise OrderError(
            f"parameters.cut_bottom_mm and cut_top_mm leave {left_mm:.1f} mm of {high_mm - low_mm:.1f} mm, "
            f"at least {_LEAST_HEIGHT_MM:g} mm",
            hint="cut off less",
        )
    frame = bones[0].frame
    planes = []
    if chosen.cut_bottom_mm > 0.0:
        planes.append(_plane(CUT_BOTTOM, frame, low_mm + chosen.cut_bottom_mm, 1.0))
    if chosen.cut_top_mm > 0.0:
        planes.append(_plane(CUT_TOP, frame, high_mm - chosen.cut_top_mm, -1.0))
    figures = (("region_height_mm", left_mm), ("bones", float(len(bones))))
    return Plan("anatomical-model", True, order.side, planes=tuple(planes), figures=figures)


def _plane(name: str, frame: FloatArray, height_mm: float, sign: float) -> Plane:
    return Plane(name, _vector(frame[:3, 3] + height_mm * frame[:3, 2]), _vector(sign * frame[:3, 2]))


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
