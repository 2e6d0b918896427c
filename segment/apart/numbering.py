"""Which vertebra is which: anchors in the scan, and how far they agree.

An anchor is a place where the count is known: the sacrum, the last or the first vertebra with ribs beside one without. Two
that agree make a number certain. With one, a number is only proposed: the name carries it, its numbering says ``estimated``,
and a person confirms the level. Without any, a number in the name would be a guess that a reader takes for a level: vertebrae
are then counted from above (``vertebra-1``), and the evidence says what they may be.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchone.pipeline.values import Finding, judge
from batchone.segment.apart.chest import Rib
from batchone.segment.apart.draft import Draft
from batchone.segment.apart.spine import Spine
from batchone.segment.apart.table import (
    CERTAIN_ANCHORS,
    HEAD_BELOW_DISC_MM,
    HEADS_LEAST,
    LUMBAR_LEAST,
    RIB_HANGS_MM,
)

NAMES = tuple([f"c{k}" for k in range(1, 8)] + [f"t{k}" for k in range(1, 13)] + [f"l{k}" for k in range(1, 6)])
_T1, _T12, _L5 = NAMES.index("t1"), NAMES.index("t12"), NAMES.index("l5")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place where the count is known: what it is, and the number (in :data:`NAMES`) it gives to the lowest vertebra."""

    what: str
    lowest: int


def number(draft: Draft, spine: Spine, ribs: tuple[Rib, ...], vertebrae: list[int], heads: int) -> tuple[Finding, ...]:
    """Name vertebrae and their ribs in place; ``vertebrae`` are their labels from below upwards.

    ``heads`` is the number of femoral heads seen: a sacrum between two hip joints is one.
    """
    if not vertebrae:
        return ()
    found = _anchors(spine, ribs, vertebrae, heads)
    votes = {a.lowest: sum(b.lowest == a.lowest for b in found) for a in found}
    told = "; ".join(anchor.what for anchor in found)
    lowest: int | None = max(votes, key=lambda k: votes[k]) if votes else None
    certain = len(votes) == 1 and len(found) >= CERTAIN_ANCHORS
    if certain:
        evidence = f"anchors that agree: {told}"
    elif len(votes) > 1:
        evidence = f"anchors that do not agree ({told}): the number is ambiguous, a person must confirm the level"
    elif found:
        evidence = f"one anchor, count not verified: {told}; the number is ambiguous, a person must confirm the level"
    else:
        evidence = _told_by_heads(spine, ribs, vertebrae)
    for k, value in enumerate(vertebrae):
        entry = draft.entries[value - 1]
        entry.numbering, entry.evidence = "certain" if certain else "estimated", evidence
        entry.confidence = 0.9 if certain else 0.5
        if lowest is not None and 0 <= lowest - k < len(NAMES):
            entry.name = NAMES[lowest - k]
    _number_ribs(draft, ribs)
    return (
        judge(
            "vertebra_numbering",
            f"anchors for the numbers of {len(vertebrae)} vertebrae: {evidence}",
            float(max(votes.values(), default=0) if len(votes) == 1 else 0),
            "anchors",
            low=float(CERTAIN_ANCHORS),
            gate=False,
            hint="a person confirms the level on the numbered picture: `batchone segment CASE --level`",
            source="project default, unverified",
        ),
    )


def _anchors(spine: Spine, ribs: tuple[Rib, ...], vertebrae: list[int], heads: int) -> list[Anchor]:
    found = []
    if spine.pelvis and heads > 0:
        found.append(Anchor("sacrum between the hip bones below the lowest vertebra", _L5))
    with_ribs = [any(rib.vertebra == value for rib in ribs) for value in vertebrae]
    both = [{rib.side for rib in ribs if rib.vertebra == value} >= {"left", "right"} for value in vertebrae]
    if any(with_ribs):
        last = with_ribs.index(True)
        if both[last] and _seen_below(spine, len(vertebrae), last):
            found.append(Anchor("lowest vertebra with ribs above vertebrae without", _T12 + last))
        first = len(with_ribs) - 1 - with_ribs[::-1].index(True)
        if first < len(with_ribs) - 2 and both[first]:  # and one more above it, so that its own level is whole
            found.append(Anchor("uppermost vertebra with ribs below vertebrae without", _T1 + first))
    return found


def _seen_below(spine: Spine, count: int, last: int) -> bool:
    """Whether the vertebra below the last one with ribs is seen so far down that its own ribs, which hang, would be seen."""
    if spine.pelvis and last >= LUMBAR_LEAST:
        return True
    disc = last - 1 + len(spine.discs) + 1 - count  # above the vertebra without ribs
    return last >= 1 and disc >= 1 and spine.discs[disc].middle_mm[0] >= RIB_HANGS_MM


def _told_by_heads(spine: Spine, ribs: tuple[Rib, ...], vertebrae: list[int]) -> str:
    """What the ribs say without an anchor. Where their heads lie against the discs never names a vertebra: the heads of one
    patient are high or low together, so that many of them are hardly more than one."""
    seen: list[tuple[int, float]] = []
    below_lowest = len(spine.discs) + 1 - len(vertebrae)  # levels under the lowest label that have none
    for rib in ribs:
        if rib.head_mm is None:
            continue
        k = vertebrae.index(rib.vertebra)
        disc = k + below_lowest
        if disc < len(spine.discs):
            above = spine.discs[disc]
            seen.append((k, float(-(rib.head_mm - above.middle_mm) @ above.normal)))
    nothing = "no anchor in the scan (no sacrum, no first or last rib): only the order is known"
    ends = "the number is ambiguous, a person must name the level"
    if len(seen) < HEADS_LEAST:
        return f"{nothing}; vertebrae are counted from above; {ends}"
    highest_rib = max(vertebrae.index(rib.vertebra) for rib in ribs if rib.vertebra)
    lowest_rib = min(vertebrae.index(rib.vertebra) for rib in ribs if rib.vertebra)
    fits = []
    for lowest in range(_T1 + highest_rib, _T12 + lowest_rib + 1):
        expected = [HEAD_BELOW_DISC_MM[lowest - k - _T1] for k, _ in seen]
        fits.append((sum((mm - e) ** 2 for (_, mm), e in zip(seen, expected, strict=True)), lowest))
    if not fits:
        return f"{nothing}; more vertebrae bear ribs than a spine has, a person must name the level"
    low, high = NAMES[_T1 + highest_rib], NAMES[min(_T12 + lowest_rib, len(NAMES) - 1)]
    return (
        f"{nothing}; vertebrae are counted from above; from the ribs alone the lowest may be {low} to {high},"
        f" as {NAMES[min(fits)[1]]} the heads of {len(seen)} ribs would lie most as usual; {ends}"
    )


def _number_ribs(draft: Draft, ribs: tuple[Rib, ...]) -> None:
    for rib in ribs:
        if not rib.vertebra:
            continue
        entry, vertebra = draft.entries[rib.value - 1], draft.entries[rib.vertebra - 1]
        if vertebra.name in NAMES[_T1 : _T12 + 1]:
            entry.name = f"rib-{vertebra.name[1:]}"
        entry.numbering, entry.vertebra = vertebra.numbering, rib.vertebra
        entry.evidence = f"touches {vertebra.name}; {vertebra.evidence}"
