"""What the label of an osteotomy guide says, and where it stands."""

from __future__ import annotations

import numpy as np

from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.guide.label import engraved, height_mm
from batchone.design.guide.label_text import fitting, wordings
from batchone.design.guide.slot import Slot
from batchone.design.osteotomy.cuts import Cut, title_of
from batchone.design.osteotomy.layout import Layout
from batchone.design.solid import Feature
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Bone

BRIDGE_MM = 5.0  # what joins the halves at the ends of a slot; project default, unverified
LABEL_WALL_MM = 1.5  # between the slot and the label; project default


def saw_depths_mm(layout: Layout, cuts: tuple[Cut, ...]) -> tuple[float, ...]:
    """From the outer face of each slot's block to where its blade must stop, along the blade's way."""
    return tuple(one.depth_mm - slot.along_mm[0] for slot, one in zip(layout.slots, cuts, strict=True))


def label_wordings(anatomy: Anatomy, bone: Bone, order: Order, depths_mm: tuple[float, ...]) -> tuple[tuple[str, ...], ...]:
    """What the label of a bone's guide may say, the fullest first; saw depths in whole mm, none deeper than it is."""
    number = 1 + [title_of(other) for other in anatomy.bones].index(title_of(bone))
    what, deep = f"{bone.name} {'L' if bone.side == 'left' else 'R'}", "/".join(f"{int(depth)}" for depth in depths_mm)
    return wordings(order, what, number=number, of=len(anatomy.bones), depths=f"SAW {deep}")


def marks_beside_slot(
    slot: Slot, words: tuple[tuple[str, ...], ...], chosen: OsteotomyGuideParameters, process: Process, *, upward: bool
) -> tuple[Feature, ...]:
    """The label on the block's outer face, beside the slot; the arrow points to the head."""
    length = slot.across_mm[1] - slot.across_mm[0] + 2.0 * BRIDGE_MM
    lines = fitting(words, process, length_mm=length)
    head = slot.normal if float(slot.normal[1]) > 0.0 else -slot.normal
    aside = 0.5 * slot.width_mm + LABEL_WALL_MM + 0.5 * height_mm(lines, process)
    middle = slot.at_mm(0.5 * sum(slot.across_mm), slot.along_mm[0]) + (aside if upward else -aside) * head
    right = np.cross(head, -slot.advance)
    return engraved(
        lines,
        process,
        middle_mm=middle,
        right=right,
        up=head,
        length_mm=length,
        thick_mm=chosen.guided_mm,
    )
