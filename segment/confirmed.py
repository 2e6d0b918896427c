"""Levels that a person confirms: one vertebra of the numbered picture is named, the others are counted on from it.

A wrong level is the wrong operation. So a person's word is held against all that the scan shows: the order of the spine, ribs,
sacrum, anchors, and gaps in which a vertebra may be missing; what contradicts it is refused, never mended.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from batchone.pipeline.errors import OrderError
from batchone.pipeline.findings import LEVEL_CONFIRMED
from batchone.pipeline.labels import COUNTED, VERTEBRAE, is_bone, is_vertebra
from batchone.pipeline.order import Target
from batchone.pipeline.values import Finding, Label, VoxelLabels, judge, moved_points
from batchone.segment.label_map import centres, measured
from batchone.segment.ordered import Wanted

PICTURE = "levels.png"  # the numbered picture, in the case's segment folder
RARE = ("t13", "l6")  # some spines have one: only where a person says so
RARE_BEARERS = ("c7", "l1")  # of ribs: rare, and more often a level that is one off
RIB_BEARERS = (*(name for name in VERTEBRAE if name[0] == "t"), *RARE_BEARERS)
ABOVE_SACRUM = ("l4", "l5", "l6")  # the last vertebra above a sacrum that took one more, none, or one less
SACRUM_NEAR_MM = 10.0  # between the lowest vertebra and a sacrum right below it: less than a vertebra's height
GAP_RATIO = 1.6  # a step between neighbours so much larger than those beside it may hide one; a missing one makes 2; unverified
CONFIDENCE = 0.9  # in a name that a person has confirmed: as much as in one with two anchors
_BEFORE = "; the scan itself: "  # in an evidence, between a person's word and what the name rested on before
_SOURCE = "transitional vertebrae are common, common practice: a person confirms the level"
_HINT = (
    f"look at the numbered picture (segment/{PICTURE} of the case) and name the vertebrae again; an order without levels stops"
    " with that picture"
)


def from_above(labels: VoxelLabels) -> tuple[Label, ...]:
    """The vertebrae of a label map, the uppermost first: their place in it is the count in the numbered picture."""
    found = [label for label in labels.labels if is_vertebra(label.name)]
    middles_mm = moved_points(labels.affine, centres(labels)[[label.value for label in found]]) if found else np.empty((0, 3))
    return tuple(found[k] for k in np.argsort(-middles_mm[:, 2], kind="stable"))


def with_levels(labels: VoxelLabels, target: Target) -> VoxelLabels:
    """Labels with the names that a person's word gives them; without one only counted anew, as a person may have drawn some.

    Raises
    ------
    OrderError
        The word contradicts itself or what the scan shows.
    """
    spine = from_above(labels)
    if not target.levels:
        return _as_proposed(_counted_anew(labels, spine), target.level_confirmed_by)
    names = _names(target, len(spine))
    _refuse_contradictions(labels, spine, names)
    said = ", ".join(f"{counted} is {level.upper()}" for counted, level in target.levels.items())
    word = f"{said}: confirmed by {target.level_confirmed_by}, the others counted on"
    level = {label.value: name for label, name in zip(spine, names, strict=True)}
    shift = _rib_shift(spine, names)
    return replace(labels, labels=tuple(_renamed(label, level, shift, word) for label in labels.labels))


def open_levels(labels: tuple[Label, ...], wanted: tuple[Wanted, ...], *, proposed: bool) -> tuple[Wanted, ...]:
    """Levels of an order that no vertebra is called, while vertebrae are there whose level nobody knows.

    With ``proposed``, numbers that are only estimated count as unknown too: the proposal may be one off.
    """
    unknown = any(
        label.name.startswith(COUNTED) or (proposed and is_vertebra(label.name) and label.numbering == "estimated")
        for label in labels
    )
    names = {label.name for label in labels}
    return tuple(one for one in wanted if unknown and one.name in VERTEBRAE and one.name not in names)


def level_findings(
    labels: VoxelLabels, chosen: tuple[Label, ...], missing: tuple[Wanted, ...], *, needed: bool
) -> tuple[Finding, ...]:
    """Whether a person must still say that the vertebrae are the ones that their names claim.

    Parameters
    ----------
    labels
        All that were told apart.
    chosen, missing
        Labels of the ordered bones; ordered levels that no vertebra is called.
    needed
        The device must not be made on a level that nobody has confirmed. Without it, an estimated one is a warning.
    """
    spine = from_above(labels)
    numbered = [label for label in chosen if label.numbering != "none"]
    if not numbered and not missing:
        return ()
    open_ = [label.title for label in numbered if label.numbering == "estimated"] + [one.title for one in missing]
    what = "levels that no person has confirmed"
    confirmed = next((label for label in numbered if label.numbering == "confirmed"), None)
    if open_:
        what += f": {', '.join(name if name.startswith(COUNTED) else name.upper() for name in open_)}"
        what += f"; {len(spine)} vertebrae are counted in segment/{PICTURE}"
    else:
        what += f"; {word_on(tuple(numbered))}"
    gate = needed or bool(missing)
    hint = _what_to_write(spine, tuple(numbered), missing)
    found = judge(LEVEL_CONFIRMED, what, float(len(open_)), "", high=0.0, gate=gate, hint=hint, source=_SOURCE)
    odd = [one.name.upper() for one in spine if one.name in RARE_BEARERS and _bears_ribs(one, labels.labels)]
    if confirmed is None or not odd:
        return (found,)
    ribs = f"ribs on both sides of {', '.join(odd)}: rare, is the level one off? Vertebrae"
    return found, judge("level_ribs", ribs, float(len(odd)), "", high=0.0, gate=False, source=_SOURCE)


def word_on(spine: tuple[Label, ...]) -> str:
    """What the levels of vertebrae rest on, in a line."""
    if any(label.numbering == "estimated" for label in spine):
        return "no level is sure: compare with the patient's records, then name one vertebra that you know"
    confirmed = next((label for label in spine if label.numbering == "confirmed"), None)
    return "all levels are certain" if confirmed is None else confirmed.evidence.partition(_BEFORE)[0]


def meant(wanted: tuple[Wanted, ...], spine: tuple[Label, ...]) -> tuple[Wanted, ...]:
    """The bones of an order, a vertebra that is ordered by its count from above under the name that it has."""

    def one(bone: Wanted) -> Wanted:
        place = int(bone.name.removeprefix(COUNTED)) if bone.name.startswith(COUNTED) else 0
        return replace(bone, name=spine[place - 1].name) if 0 < place <= len(spine) else bone

    return tuple(one(bone) for bone in wanted)


def _counted_anew(labels: VoxelLabels, spine: tuple[Label, ...]) -> VoxelLabels:
    place = {label.value: k for k, label in enumerate(spine, start=1) if label.name.startswith(COUNTED)}
    named = (replace(one, name=f"{COUNTED}{place[one.value]}") if one.value in place else one for one in labels.labels)
    return replace(labels, labels=tuple(named))


def _as_proposed(labels: VoxelLabels, by: str | None) -> VoxelLabels:
    """Numbers that the scan itself proposes are confirmed; a count from above is none."""

    def one(label: Label) -> Label:
        if label.numbering != "estimated" or label.name.startswith(COUNTED) or label.name == "rib":
            return label
        evidence = f"the proposed level is confirmed by {by}{_BEFORE}{label.evidence}"
        return replace(label, numbering="confirmed", confidence=max(label.confidence, CONFIDENCE), evidence=evidence)

    return labels if by is None else replace(labels, labels=tuple(one(label) for label in labels.labels))


def _names(target: Target, found: int) -> tuple[str, ...]:
    """The name of each vertebra from above, by counting on from those that ``target.levels`` names."""
    if target.counted not in (None, found):
        raise OrderError(f"[target] counted is {target.counted}, the scan shows {found} vertebrae", hint=_HINT)
    given = {int(counted.lower().removeprefix(COUNTED)): level.lower() for counted, level in target.levels.items()}
    beyond = [f"{COUNTED}{place}" for place in given if place > found]
    if beyond:
        raise OrderError(f"[target] levels names {', '.join(beyond)}, the scan shows {found} vertebrae", hint=_HINT)
    order = [name for name in VERTEBRAE if name not in RARE or name in given.values()]
    first = {place: order.index(level) - (place - 1) for place, level in given.items()}
    for (one, start), (other, start_other) in pairwise(sorted(first.items())):
        if start != start_other:
            place = start + other - 1
            counted_on = order[place].upper() if 0 <= place < len(order) else "beyond the spine"
            raise OrderError(
                f"[target] levels contradict each other: {COUNTED}{one} = {given[one].upper()} makes {COUNTED}{other}"
                f" {counted_on}, not {given[other].upper()}",
                hint="name one vertebra that is sure; a thirteenth thoracic or sixth lumbar one counts where it is named itself",
            )
    place, start = next(iter(sorted(first.items())))
    said = f"[target] levels: {COUNTED}{place} = {given[place].upper()}"
    if start < 0:
        raise OrderError(f"{said} leaves room for {place - 1 + start} vertebrae above, the scan shows {place - 1}", hint=_HINT)
    if start + found > len(order):
        raise OrderError(
            f"{said} leaves room for {len(order) - start - place} vertebrae below, the scan shows {found - place}", hint=_HINT
        )
    return tuple(order[start : start + found])


def _refuse_contradictions(labels: VoxelLabels, spine: tuple[Label, ...], names: tuple[str, ...]) -> None:
    """Refuse a numbering that anchors, ribs, sacrum or a gap in the spine speak against."""
    for place, (label, name) in enumerate(zip(spine, names, strict=True), start=1):
        would = f"[target] levels would make {COUNTED}{place} {name.upper()}"
        if label.numbering == "certain" and label.name != name:
            raise OrderError(
                f"{would}, the scan shows that it is {label.name.upper()}: {label.evidence}",
                hint="if the anchors mislead, name the vertebrae in the labels: `batchone segment CASE --labels FILE --as NAME`",
            )
        if _bears_ribs(label, labels.labels) and name not in RIB_BEARERS:
            raise OrderError(f"{would}, but it bears ribs on both sides", hint=_HINT)
    _refuse_sacrum(labels, spine, names)
    _refuse_gap(labels, spine)


def _bears_ribs(vertebra: Label, labels: tuple[Label, ...]) -> bool:
    return {rib.side for rib in labels if rib.vertebra == vertebra.value} >= {"left", "right"}


def _refuse_sacrum(labels: VoxelLabels, spine: tuple[Label, ...], names: tuple[str, ...]) -> None:
    sacrum = next((label for label in labels.labels if label.name == "sacrum"), None)
    if sacrum is None or names[-1] in ABOVE_SACRUM:
        return
    boxes = measured(labels)[1]
    step_mm = float(np.linalg.norm(labels.affine[:3, 2]))
    gap_mm = float(boxes[spine[-1].value, 0, 0] - boxes[sacrum.value, 0, 1]) * step_mm
    if gap_mm <= SACRUM_NEAR_MM:
        raise OrderError(
            f"[target] levels would make {COUNTED}{len(spine)} {names[-1].upper()}, but the sacrum lies right below it",
            hint=_HINT,
        )


def _refuse_gap(labels: VoxelLabels, spine: tuple[Label, ...]) -> None:
    """Refuse to count across a place where a vertebra seems to be missing."""
    middles_mm = moved_points(labels.affine, centres(labels)[[label.value for label in spine]])
    steps_mm = np.linalg.norm(np.diff(middles_mm, axis=0), axis=1)
    for place, step_mm in enumerate(steps_mm):
        beside = [float(steps_mm[other]) for other in (place - 1, place + 1) if 0 <= other < len(steps_mm)]
        if beside and step_mm > GAP_RATIO * max(beside):
            raise OrderError(
                f"[target] levels cannot be counted on: {COUNTED}{place + 1} and {COUNTED}{place + 2} lie {step_mm:.0f} mm apart,"
                f" their neighbours {max(beside):.0f} mm; at most {GAP_RATIO:g} times as far",
                hint="a vertebra seems to be missing: give labels that have it, `batchone segment CASE --labels FILE --as NAME`",
            )


def _rib_shift(spine: tuple[Label, ...], names: tuple[str, ...]) -> int | None:
    """By how much the numbers of thoracic vertebrae change, where they all change alike; None where nothing says."""
    pairs = [(label.name, name) for label, name in zip(spine, names, strict=True) if label.name[0] == name[0] == "t"]
    shifts = {int(name[1:]) - int(before[1:]) for before, name in pairs}
    return shifts.pop() if len(shifts) == 1 else None


def _renamed(label: Label, level: dict[int, str], shift: int | None, word: str) -> Label:
    """A vertebra by its level, a rib by its vertebra's; other bones as they are."""
    if label.value in level:
        name = level[label.value]
    elif label.vertebra in level:
        beside = level[label.vertebra]
        name = f"rib-{beside[1:]}" if beside[0] == "t" else "rib"
        word = f"touches {beside}; {word}"
    elif label.name.startswith("rib-") and label.numbering != "none" and shift is not None:
        name = f"rib-{int(label.name[4:]) + shift}"
        name = name if is_bone(name) else "rib"
    else:
        return label
    was = label.evidence.rpartition(_BEFORE)[2]
    sure = max(label.confidence, CONFIDENCE) if label.value in level else label.confidence
    return replace(label, name=name, numbering="confirmed", confidence=sure, evidence=f"{word}{_BEFORE}{was}")


def _what_to_write(spine: tuple[Label, ...], numbered: tuple[Label, ...], missing: tuple[Wanted, ...]) -> str:
    """The command, and the same in the order, with the count and the level where they are known."""
    guessed = next((label for label in numbered if label.numbering == "estimated"), None)
    place, level, word = "K", "LEVEL", ""
    if missing:
        level, word = missing[0].name.upper(), " with its count K from above"
    elif guessed is not None:
        place = str(1 + [label.value for label in spine].index(guessed.value)) if guessed in spine else place
        if guessed.name in VERTEBRAE:
            level, word = guessed.name.upper(), ", if it is as the scan proposes"
    return (
        f"compare segment/{PICTURE} with the patient's records; then `batchone segment CASE --level {COUNTED}{place}={level} --as"
        f' NAME`{word}; or in the order: [target] levels = {{{COUNTED}{place} = "{level}"}}, counted = {len(spine)},'
        ' level_confirmed_by = "NAME"; any one vertebra will do, the others are counted on from it'
    )
