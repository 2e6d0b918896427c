"""Which bones an order means, and which labels those are."""

from __future__ import annotations

from dataclasses import dataclass

from batchone.pipeline.errors import OrderError
from batchone.pipeline.labels import bone_title, is_paired, split_title
from batchone.pipeline.order import Order
from batchone.pipeline.values import Label, Side

SKULL = "skull"  # the target when the order names none: both families of this version begin with a head


@dataclass(frozen=True, slots=True)
class Wanted:
    """A bone of the order; ``side`` is None where either side will do, or the bone has none."""

    name: str
    side: Side | None

    @property
    def title(self) -> str:
        """Name and side."""
        return bone_title(self.name, self.side or "midline")


def wanted_bones(order: Order) -> tuple[Wanted, ...]:
    """The bones of ``target.bones`` ("L1", "femur", "femur left"), without doubles; the skull where none is named.

    A paired bone without a side is that of the order's side; an order on the midline means both.
    """
    found: dict[Wanted, None] = {}
    for text in order.target.bones or (SKULL,):
        name, side = split_title(text)
        if side is None and is_paired(name) and order.side != "midline":
            side = order.side
        found[Wanted(name, side)] = None
    return tuple(found)


def ordered_labels(labels: tuple[Label, ...], wanted: tuple[Wanted, ...]) -> tuple[Label, ...]:
    """The labels of the wanted bones, in the order's order.

    Raises
    ------
    OrderError
        A bone is not there, or only on the other side.
    """
    chosen: dict[int, Label] = {}
    missing: list[str] = []
    elsewhere: list[str] = []
    for one in wanted:
        named = [label for label in labels if label.name == one.name]
        fitting = [label for label in named if one.side is None or label.side in (one.side, "midline")]
        for label in fitting:
            chosen[label.value] = label
        if not fitting:
            (elsewhere if named else missing).append(one.title)
    if missing or elsewhere:
        known = ", ".join(label.title for label in labels) or "none"
        what = f"{', '.join(missing)} not found" if missing else f"{', '.join(elsewhere)} found only on the other side"
        hint = "correct the bones or the side in the order, or send a series that shows them; a device is never mirrored"
        raise OrderError(f"[target] bones: {what}; bones told apart in the scan: {known}", hint=hint)
    return tuple(chosen.values())
