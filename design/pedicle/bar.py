"""The bar of a pedicle guide: it joins the sleeves of a level and carries the label; a single sleeve has one for its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.contact.field import Float32Array, Lattice
from batchone.design.guide.body import APART_MM
from batchone.design.guide.crosslink import THICK_MM, Crosslink, crosslink
from batchone.design.guide.flag import flag
from batchone.design.guide.label import engraved, height_mm
from batchone.design.guide.label_text import label_mm, wordings
from batchone.design.guide.sleeve import Sleeve
from batchone.design.solid import Feature
from batchone.pipeline.errors import DesignError
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Bone

RAISE_MM = 14.0  # sleeves are made longer by at most so much, for a bar that passes over a spinous process; project default
_OVER_SHELL_MM = 1.0  # the label's face lies so much above the shell; numerical: the room is looked at on a grid of 1.2 mm
_PLAIN_MM = 6.0  # width of a bar without a label; project default, unverified
_SPARE_MM = 0.2  # numerical: by which a bar is longer than its label

Lines = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a bar may run (see :func:`bar`), and how far it stays away from bone, mm."""

    name: str
    sleeves: tuple[Sleeve, ...]
    lattice: Lattice
    free_mm: Float32Array
    apart_mm: float


def label_wordings(anatomy: Anatomy, bone: Bone, order: Order) -> tuple[Lines, ...]:
    """What the label of a level's guide may say, the fullest first."""
    side = {"left": " L", "right": " R", "midline": ""}[order.side]
    number = 1 + [other.name for other in anatomy.bones].index(bone.name)
    return wordings(order, f"{bone.name.upper()}{side}", number=number, of=len(anatomy.bones))


def bar(
    name: str,
    sleeves: tuple[Sleeve, ...],
    lattice: Lattice,
    free_mm: Float32Array,
    words: tuple[Lines, ...],
    process: Process,
    *,
    relief_mm: float,
    shell_top_mm: float,
) -> tuple[tuple[Crosslink, ...], Lines]:
    """Find the bars, the one with the label last, and the fullest wording that has room on it.

    Between two sleeves there is always a bar; where it has no room for the label, or there is one sleeve, another one stands
    beside a sleeve.

    Parameters
    ----------
    name
        Of the level, for messages.
    lattice, free_mm
        As for :func:`batchone.design.guide.crosslink.crosslink`.
    words
        What the label may say, the fullest first; empty without a label.
    relief_mm
        Gap to the bone where nothing touches; nothing is cut from a bar that keeps it.
    shell_top_mm
        Distance of the shell's upper face from bone: it must not stand over the label.

    Raises
    ------
    DesignError
        No room for the bar, or on it for the shortest wording.
    """
    place = _Place(name, sleeves, lattice, free_mm, max(APART_MM, relief_mm, shell_top_mm + _OVER_SHELL_MM - THICK_MM))
    if len(sleeves) > 1:
        joining = _joining(place, words, process)
        if joining[1] or not words:
            return joining
        beside, lines = _flagged(place, words, process)
        return (*joining[0], *beside), lines
    return _flagged(place, words, process) if words else ((), ())


def marks_on(link: Crosslink, sleeves: tuple[Sleeve, ...], lines: Lines, process: Process) -> tuple[Feature, ...]:
    """The letters and the arrow on a bar."""
    start, end = link.room_mm(sleeves)
    length = float(np.linalg.norm(end - start))
    right = (end - start) / length
    return engraved(
        lines,
        process,
        middle_mm=0.5 * (start + end),
        right=right,
        up=np.cross(link.up, right),
        length_mm=length,
        thick_mm=THICK_MM,
    )


def _flagged(place: _Place, words: tuple[Lines, ...], process: Process) -> tuple[tuple[Crosslink, ...], Lines]:
    """A bar beside a sleeve for the label alone."""
    for lines in words:
        length_mm, wide = label_mm(lines, process) + _SPARE_MM, height_mm(lines, process)
        for sleeve in place.sleeves:
            found = flag(
                sleeve, place.lattice, place.free_mm, length_mm=length_mm, width_mm=wide, apart_mm=place.apart_mm,
                raise_mm=RAISE_MM,
            )  # fmt: skip
            if found is not None and not _blocked(found, place.sleeves, sleeve):
                return (found,), lines
    size = f"{label_mm(words[-1], process):.1f} x {height_mm(words[-1], process):.1f} mm"
    raise DesignError(
        f"{place.name}: no room for a label of {size} between the sleeves or beside one",
        hint="longer sleeves (sleeve_mm), a shorter case code, or engrave = false",
    )


def _blocked(found: Crosslink, sleeves: tuple[Sleeve, ...], own: Sleeve) -> bool:
    """Whether a bar beside one sleeve runs into another."""
    start, end = found.corners_mm[0], found.corners_mm[-1]
    for sleeve in sleeves:
        place = sleeve.at_height_mm(float(start[2]))
        share = float(np.clip((place - start) @ (end - start) / ((end - start) @ (end - start)), 0.0, 1.0))
        away = float(np.linalg.norm(place - start - share * (end - start)))
        if sleeve is not own and away < np.sqrt(0.5) * found.width_mm + 0.5 * sleeve.outer_mm:
            return True
    return False


def _joining(place: _Place, words: tuple[Lines, ...], process: Process) -> tuple[tuple[Crosslink, ...], Lines]:
    """A bar from sleeve to sleeve; wider, for a case code on two lines, where one line is too long; without words as last."""
    first, second = sorted(place.sleeves, key=lambda sleeve: float(sleeve.entry_mm[0]))
    for choices in _by_rows(words):
        wide = height_mm(choices[0], process) if choices[0] else _PLAIN_MM
        link = crosslink(first, second, place.lattice, place.free_mm, width_mm=wide, apart_mm=place.apart_mm, raise_mm=RAISE_MM)
        if link is None:
            continue
        start, end = link.room_mm(place.sleeves)
        length_mm = float(np.linalg.norm(end - start))
        for lines in choices:
            if not lines or label_mm(lines, process) + _SPARE_MM <= length_mm:
                return (link,), lines
    raise DesignError(
        f"{place.name}: no room for a crosslink of {_PLAIN_MM:.1f} x {THICK_MM:.1f} mm between the sleeves",
        hint="longer sleeves (sleeve_mm), or one side per guide",
    )


def _by_rows(words: tuple[Lines, ...]) -> tuple[tuple[Lines, ...], ...]:
    """The wordings as they are, then with the first line broken in two, then none."""
    return (*((words, tuple(broken(lines) for lines in words)) if words else ()), ((),))


def broken(lines: Lines) -> Lines:
    """The same on one line more: the first line, which is the case code, in two halves."""
    half = -(-len(lines[0]) // 2)
    return (lines[0][:half], lines[0][half:], *lines[1:]) if len(lines[0]) > 1 else lines
