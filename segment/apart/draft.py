"""A label map in the making: bones on the work grid, each with what is known about it so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from batchone.pipeline.values import Side
from batchone.segment.apart.cut import Box
from batchone.segment.apart.grid import BoolArray, LabelArray
from batchone.segment.apart.table import MOST_LABELS
from batchone.segment.label_map import Numbering


@dataclass(slots=True)
class Entry:
    """Name, side, confidence, numbering and evidence of one label, still open to change; of a rib, its vertebra's value."""

    name: str
    side: Side = "midline"
    confidence: float = 0.5
    numbering: Numbering = "none"
    evidence: str = ""
    vertebra: int = 0


@dataclass(slots=True)
class Draft:
    """Labels on the work grid (slices, rows, columns) uint8 and their entries; the first entry has value 1."""

    labels: LabelArray
    entries: list[Entry] = field(default_factory=list)

    def add(self, box: Box, where: BoolArray, entry: Entry) -> int:
        """Give unlabelled voxels of a box a new label; returns its value, 0 when there is none left or nothing to label."""
        free = where & (self.labels[box] == 0)
        if len(self.entries) >= MOST_LABELS or not free.any():
            return 0
        self.entries.append(entry)
        self.labels[box][free] = len(self.entries)
        return len(self.entries)

    def values(self, name: str) -> list[int]:
        """Values of the entries with this name."""
        return [k for k, entry in enumerate(self.entries, start=1) if entry.name == name]


def empty_draft(shape: tuple[int, ...]) -> Draft:
    """A draft without bones."""
    return Draft(np.zeros(shape, dtype=np.uint8))
