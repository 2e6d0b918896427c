"""Is each part made for a bone that was ordered: the level and the side against the order."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from batchone.design.family import Checked
from batchone.pipeline.labels import bone_title, is_paired, split_title
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Bone, Finding, FloatArray, Part, judge

_SAMPLES = 200  # numerical: vertices of a part that tell which bone it lies on
_OF_BONE = 20_000  # numerical: and of each bone, 1 to 3 mm apart


def ordered_findings(case: Checked) -> tuple[Finding, ...]:
    """Parts that lie on a bone of another level, or of the other side, than the order names; none may."""
    parts = [part for part in case.device.parts if case.anatomy.bones and part.purpose == "device"]
    wrong = [
        f"{part.name} on {bone_title(bone.name, bone.side)}"
        for part in parts
        if not _is_ordered(bone := _bone_under(part, case.anatomy), case.order)
    ]
    what = "parts on a bone that was not ordered" + (f": {', '.join(wrong)}" if wrong else "")
    wanted = ", ".join(case.order.target.bones) or "any bone"
    return (
        judge(
            "ordered", what, len(wrong), "",
            low=0, high=0, hint="the order's bones or side and the device contradict each other: ask the prescriber",
            source=f"the order: {wanted}, {case.order.side}",
        ),
    )  # fmt: skip


def _is_ordered(bone: Bone, order: Order) -> bool:
    """A bone of the order's side goes with its name alone; where a side stands with the name, that one counts."""
    named = [split_title(text) for text in order.target.bones]
    sides = {side for name, side in named if name.casefold() == bone.name.casefold()}
    if named and not sides:
        return False
    if bone.side in sides or bone.side == "midline" or not is_paired(bone.name):
        return True
    return (not sides or None in sides) and order.side in ("midline", bone.side)


def _bone_under(part: Part, anatomy: Anatomy) -> Bone:
    """The bone to which most of a part is nearest, by some vertices of each: which of two bones it is takes no more."""
    if len(anatomy.bones) == 1:
        return anatomy.bones[0]
    points = _some(part.mesh.vertices_mm, _SAMPLES)
    return min(anatomy.bones, key=lambda bone: float(np.median(cKDTree(_some(bone.mesh.vertices_mm, _OF_BONE)).query(points)[0])))


def _some(points_mm: FloatArray, count: int) -> FloatArray:
    return points_mm[:: max(1, len(points_mm) // count)]
