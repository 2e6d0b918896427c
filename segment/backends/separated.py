"""What every backend gives."""

from __future__ import annotations

from dataclasses import dataclass

from batchone.pipeline.values import Finding
from batchone.segment.label_map import LabelMap


@dataclass(frozen=True, slots=True, eq=False)
class Separated:
    """Bones apart, and where that comes from.

    Attributes
    ----------
    map
        The labels.
    source
        Who told them apart, with version: "threshold", "NAME VERSION" of a program, or a person.
    findings
        Measured on the way.
    sharp
        The labels end where the grey values pass the bone threshold; otherwise their edge is only near the bone's and is
        looked for in the grey values about it.
    exposure
        (label value, share of its surroundings that is air) where the backend has measured it.
    named
        The image or a person says what the bone is; otherwise its name rests on the order alone.
    """

    map: LabelMap
    source: str
    findings: tuple[Finding, ...] = ()
    sharp: bool = False
    exposure: tuple[tuple[int, float], ...] = ()
    named: bool = True
