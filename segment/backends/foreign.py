"""Labels that came from outside, made into a label map: one value per bone, sides checked against patient space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.labels import bone_title, is_numbered
from batchone.pipeline.values import Numbering, Scan, Side, moved_points
from batchone.segment.backends.threshold import MIDLINE_MM, body_middle_mm
from batchone.segment.cuts import cuts_between
from batchone.segment.label_map import Label, LabelArray, LabelMap, centres, compact, measured

MIN_VOXELS = 8  # fewer are a slip of the pen; project default, unverified


@dataclass(frozen=True, slots=True)
class Named:
    """A value of a file and the bone that it is; several values may be one bone."""

    value: int
    name: str
    side: Side
    confidence: float
    evidence: str


def label_map_of(voxels: LabelArray, scan: Scan, given: tuple[Named, ...], *, refuse: Callable[[str], BatchoneError]) -> LabelMap:
    """A label map of ours: values 1 to n, in the order of ``given``; everything else is 0.

    Raises
    ------
    BatchoneError
        From ``refuse``: no bone is there, or a bone lies on the other side of the body than its name says.
    """
    counts = measured(compact(LabelMap(voxels, scan.affine, ())))[0]
    bones: dict[tuple[str, Side], list[Named]] = {}
    for one in given:
        bones.setdefault((one.name, one.side), []).append(one)
    table = np.zeros(256, dtype=np.uint8)
    kept = [(key, group) for key, group in bones.items() if sum(int(counts[one.value]) for one in group) >= MIN_VOXELS]
    if not kept:
        raise refuse(f"it holds no bone of at least {MIN_VOXELS} voxels")
    for number, (_, group) in enumerate(kept, start=1):
        table[[one.value for one in group]] = number
    own = table[voxels]
    runs = compact(LabelMap(own, scan.affine, ()))
    boxes, places = measured(runs)[1], moved_points(scan.affine, centres(runs))
    labels = []
    middle_mm = body_middle_mm(scan)
    for number, ((name, side), group) in enumerate(kept, start=1):
        centre_mm = places[number]
        complete = bool(np.all((boxes[number, :, 0] > 0) & (boxes[number, :, 1] < np.array(own.shape))))
        if side != "midline" and _contradicts(side, centre_mm[0] - middle_mm):
            seen = "left" if centre_mm[0] > middle_mm else "right"
            raise refuse(
                f"{bone_title(name, side)} lies {abs(centre_mm[0] - middle_mm):.0f} mm to the {seen} of the body's middle"
            )
        numbering: Numbering = "estimated" if is_numbered(name) else "none"
        sure = min(one.confidence for one in group)
        labels.append(Label(number, name, side, complete, sure, numbering, "; ".join(one.evidence for one in group)))
    return LabelMap(own, scan.affine, tuple(labels), cuts_between(own, scan))


def _contradicts(side: Side, offset_mm: float) -> bool:
    return offset_mm < -MIDLINE_MM if side == "left" else offset_mm > MIDLINE_MM
