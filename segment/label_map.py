"""Bones apart, as labels on the scan's grid: what every backend gives, a person may edit, and surfaces are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, Side

Numbering = Literal["none", "certain", "estimated"]


@dataclass(frozen=True, slots=True)
class Label:
    """One bone of a label map.

    Attributes
    ----------
    value
        Its voxels' value, 1 to 255.
    name
        Lower case, as in an order's ``target.bones`` ("skull", "mandible", "t9", "l1", "rib", "sacrum", "hip", "femur", ...).
    side
        Of the patient, from patient space.
    complete
        False: the bone is cut at the edge of the scan.
    confidence
        0 to 1.
    numbering
        Whether a vertebra's or rib's number stands on evidence (``certain``), is only proposed (``estimated``: a person must
        confirm it), or does not apply (``none``).
    evidence
        What the name, the number or the side rests on, for a person to read.
    """

    value: int
    name: str
    side: Side
    complete: bool
    confidence: float
    numbering: Numbering = "none"
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """How good a cut between two bones is, from the grey values on it.

    Attributes
    ----------
    first, second
        Values of the two labels.
    area_mm2
        Of the cut.
    valley_ratio
        Mean value on the cut over the mean of the brightest within 3 mm to both sides: well below 1 there is a gap between two
        plates of bone, near 1 there is none to see.
    dense_share
        Share of the cut that runs through dense bone (above 400 HU).
    """

    first: int
    second: int
    area_mm2: float
    valley_ratio: float
    dense_share: float


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Labels on the scan's grid.

    Attributes
    ----------
    voxels
        (slices, rows, columns) uint8, 0 where there is no bone.
    affine
        (4, 4) (column, row, slice) index -> LPS mm, the scan's own.
    labels
        In the order of their values.
    cuts
        Between labels that touch.
    """

    voxels: npt.NDArray[np.uint8]
    affine: FloatArray
    labels: tuple[Label, ...]
    cuts: tuple[Cut, ...] = ()
