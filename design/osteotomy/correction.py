"""Where the pins of the lower bone stand when the wedge is opened or closed: a plate or a reduction guide takes them up again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.osteotomy.cuts import Cut, unit
from batchone.design.osteotomy.pins import PinWay
from batchone.pipeline.values import FloatArray


def correction(cuts: tuple[Cut, ...], chosen: OsteotomyGuideParameters) -> FloatArray | None:
    """(4, 4) how the lower bone moves, the upper one at rest, in the bone's frame; None where no wedge is ordered.

    It turns about the hinge: the line across the first blade where that stops. An opening wedge opens by its angle; a closing
    one brings the second cut onto the first. The kerf is apart.
    """
    if chosen.wedge == "none":
        return None
    first = cuts[0]
    if chosen.wedge == "closing":
        axis = unit(np.cross(cuts[1].advance, first.advance))
        cosine = float(np.clip(cuts[1].advance @ first.advance, -1.0, 1.0))
        angle = float(np.arccos(cosine))
    else:
        upward = first.normal * (1.0 if float(first.normal[2]) >= 0.0 else -1.0)
        axis, angle = unit(np.cross(first.advance, upward)), float(np.radians(chosen.wedge_deg))
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    turned = np.eye(4)
    turned[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    turned[:3, 3] = first.end_mm - turned[:3, :3] @ first.end_mm
    return turned


def moved(pin: PinWay, pose: FloatArray) -> PinWay:
    """A pin that moves with its bone."""
    return replace(pin, entry_mm=pose[:3, :3] @ pin.entry_mm + pose[:3, 3], direction=pose[:3, :3] @ pin.direction)
