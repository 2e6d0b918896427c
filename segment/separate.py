"""Which components are the bone that is wanted: away from table, head holder and other equipment.

Equipment is told by three measurements: it runs through the scan from end to end with an unchanging section, it stands in
air, and its value differs from bone's. No single one of them decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import SegmentationError
from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import Finding, HuArray, Vector, judge
from batchone.segment.bits import Words, ball, counted, dilated, packed_above, unpacked
from batchone.segment.bone import AIR_HU, METAL_HU, ScanFigures
from batchone.segment.runs import Runs, labelled

MIN_BONE_MM3 = 2e3  # a smaller piece is no bone of its own (2 cm3); project default, unverified
MAX_PIECES = 12  # the largest pieces that are looked at
SKIN_MM = 3.0  # exposure to air is judged within this distance: less than skin and fat over bone
JOIN_MM = 4.0  # a piece of a sawn or broken bone lies this close to the rest; project default, unverified
SECTION_STEP_MM = 10.0  # sections this far apart are compared
SAME_SECTION = 0.6  # overlap (intersection over union) of such sections from which a thing counts as extruded
MIN_VALUE_RATIO = 0.7  # median HU of a piece over that of the main bone: the same bone is alike, a carbon holder is not
MAX_EXPOSURE_STEP = 0.4  # a piece that stands in air where the main bone lies in tissue is not of the body


@dataclass(frozen=True, slots=True)
class Piece:
    """One component: its number, volume (mm3), median value (HU), share of its surroundings that is air, overlap of sections
    ``SECTION_STEP_MM`` apart, whether it runs from the first to the last slice, and its half-open index box."""

    component: int
    volume_mm3: float
    median_hu: float
    exposure: float
    sameness: float
    through: bool
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    @property
    def equipment(self) -> bool:
        """A rail, table or holder: extruded through the whole scan, in air."""
        return self.through and self.sameness >= SAME_SECTION and self.exposure >= 0.5

    @property
    def metal(self) -> bool:
        """A screw, plate or joint that hangs together with no bone."""
        return self.median_hu >= METAL_HU


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The wanted bone: its components, packed (whole scan), its half-open box (3, 2), and what was found on the way."""

    words: Words
    box: npt.NDArray[np.int64]
    main: Piece
    kept: tuple[Piece, ...]
    dropped: tuple[Piece, ...]
    findings: tuple[Finding, ...]


def pieces_of(hu: HuArray, spacing_mm: Vector, runs: Runs) -> tuple[Piece, ...]:
    """Measure the largest components, largest first."""
    voxels, boxes = runs.measured()
    volume = voxels * float(np.prod(spacing_mm))
    large = np.flatnonzero(volume >= MIN_BONE_MM3)
    order = large[np.argsort(-volume[large], kind="stable")][:MAX_PIECES]
    return tuple(side_by_side([partial(_measured, int(c), float(volume[c]), boxes[c], hu, spacing_mm, runs) for c in order]))


def _measured(
    component: int, volume_mm3: float, box: npt.NDArray[np.int64], hu: HuArray, spacing_mm: Vector, runs: Runs
) -> Piece:
    reach = np.ceil(SKIN_MM / np.array(spacing_mm[::-1])).astype(np.int64) + 1
    low, high = np.maximum(box[:, 0] - reach, 0), np.minimum(box[:, 1] + reach, runs.shape)
    low[2] -= low[2] % 64  # whole words
    near = hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    columns = near.shape[2]
    whole = runs.painted(np.arange(runs.count) == component)
    first_word = low[2] // 64
    words = np.ascontiguousarray(whole[low[0] : high[0], low[1] : high[1], first_word : first_word - (-columns // 64)])
    around = dilated(words, columns, ball(SKIN_MM, spacing_mm)) & ~words
    air = counted(around & ~packed_above(near, AIR_HU)) / max(1, counted(around))
    step = max(1, round(SECTION_STEP_MM / spacing_mm[2]))
    own = words[box[0, 0] - low[0] : box[0, 1] - low[0]]
    same = counted(own[step:] & own[:-step]) / max(1, counted(own[step:] | own[:-step]))
    median = float(np.median(near[unpacked(words, columns)]))
    corners = [(int(a), int(b)) for a, b in box]
    through = corners[0] == (0, runs.shape[0])
    return Piece(component, volume_mm3, median, air, same, through, (corners[0], corners[1], corners[2]))


def chosen(hu: HuArray, spacing_mm: Vector, figures: ScanFigures) -> Chosen:
    """Find the largest bone and the pieces that belong to it.

    Raises
    ------
    SegmentationError
        No component of at least ``MIN_BONE_MM3`` is bone.
    """
    words = packed_above(hu, figures.threshold_hu)
    runs = labelled(words, hu.shape[2])
    pieces = pieces_of(hu, spacing_mm, runs)
    bones = [p for p in pieces if not p.equipment and not p.metal]
    if not bones:
        volume = runs.measured()[0] * float(np.prod(spacing_mm))
        largest = float(volume.max(initial=0.0)) / 1e3
        raise SegmentationError(
            f"no bone: the largest piece above {figures.threshold_hu:.0f} HU is {largest:.1f} cm3"
            f" and {len(pieces)} of the pieces over {MIN_BONE_MM3 / 1e3:g} cm3 are table, holder or metal; at least"
            f" {MIN_BONE_MM3 / 1e3:g} cm3 of bone",
            hint="is this a CT of the region in the order?",
        )
    main = bones[0]
    kept = _belonging(main, bones[1:], runs, spacing_mm)
    dropped = tuple(p for p in pieces if p not in kept)
    keep = np.isin(np.arange(runs.count), [p.component for p in kept])
    corners = np.array([p.box for p in kept])
    box = np.stack([corners[:, :, 0].min(axis=0), corners[:, :, 1].max(axis=0)], axis=1).astype(np.int64)
    return Chosen(runs.painted(keep), box, main, kept, dropped, _findings(kept, dropped))


def _belonging(main: Piece, others: list[Piece], runs: Runs, spacing_mm: Vector) -> tuple[Piece, ...]:
    """The main piece and those that lie close to it and are like it; repeated, as pieces may follow on pieces."""
    kept = [main]
    left = [p for p in others if _alike(p, main)]
    grown = True
    while grown and left:
        near = dilated(_painted(kept, runs), runs.shape[2], ball(JOIN_MM, spacing_mm))
        joined = [p for p in left if counted(near & _painted([p], runs))]
        kept += joined
        left = [p for p in left if p not in joined]
        grown = bool(joined)
    return tuple(kept)


def _alike(piece: Piece, main: Piece) -> bool:
    ratio = piece.median_hu / main.median_hu
    return MIN_VALUE_RATIO <= ratio <= 1.0 / MIN_VALUE_RATIO and piece.exposure <= main.exposure + MAX_EXPOSURE_STEP


def _painted(pieces: list[Piece], runs: Runs) -> Words:
    return runs.painted(np.isin(np.arange(runs.count), [p.component for p in pieces]))


def _findings(kept: tuple[Piece, ...], dropped: tuple[Piece, ...]) -> tuple[Finding, ...]:
    def volume(pieces: tuple[Piece, ...]) -> float:
        return sum(p.volume_mm3 for p in pieces) / 1e3

    equipment = tuple(p for p in dropped if p.equipment)
    return (
        judge("bone_kept", f"bone above the threshold, in {len(kept)} pieces", volume(kept), "cm3", low=MIN_BONE_MM3 / 1e3),
        judge("equipment_dropped", f"table or holder, {len(equipment)} pieces", volume(equipment), "cm3"),
        judge(
            "pieces_dropped",
            f"other pieces left out: {len(dropped) - len(equipment)}",
            volume(dropped) - volume(equipment),
            "cm3",
        ),
    )
