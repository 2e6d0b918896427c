"""How good the cuts are: the grey values on each, against those beside it."""

from __future__ import annotations

from batchone.pipeline.values import Finding, HuArray, judge
from batchone.segment.apart.draft import Draft
from batchone.segment.apart.grid import LabelArray, WorkVolume
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.table import DENSE_OVER_SOFT_HU, METAL_MOST_MM3
from batchone.segment.cuts import cuts_between
from batchone.segment.label_map import Cut


def cuts_of(draft: Draft, mask: BoneMask, volume: WorkVolume) -> tuple[Cut, ...]:
    """Every contact between two labels, measured."""
    dense_hu = mask.soft_hu + DENSE_OVER_SOFT_HU
    return cuts_between(draft.labels, mask.capped, (volume.step_mm,) * 3, dense_hu=dense_hu)


def metal_finding(mask: BoneMask, volume: WorkVolume) -> Finding:
    """Metal in the body, with its blooming; it stays with the bone it lies in."""
    return judge(
        "metal_in_bone",
        "metal with its blooming; held at compact bone's value for every cut",
        float(mask.metal.sum()) * volume.step_mm**3 / 1e3,
        "cm3",
        high=METAL_MOST_MM3 / 1e3,
        gate=False,
        hint="look at cuts and surface near metal; no contact zone there",
        source="project default, unverified",
    )


def contact(halves: LabelArray, hu: HuArray, step_mm: float) -> float:
    """Value on the contact of labels 1 and 2 over the brightest within 3 mm to both sides; 0 when they do not touch."""
    found = cuts_between(halves, hu, (step_mm,) * 3)
    return found[0].valley_ratio if found else 0.0
