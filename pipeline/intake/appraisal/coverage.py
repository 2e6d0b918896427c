"""What part of the body the scan shows, and how far it reaches the walls of the scanned box.

The evidence is simple on purpose, and said: bone all round under the skin (a skull), much enclosed air (lungs), size. It names
no vertebra and no bone; segmentation does that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from batchone.pipeline.intake.appraisal.sample import BoolArray, Cells, Sample, border_seed, coarse_cells, flooded, largest_piece

TISSUE_HU = -300.0  # mean of a cell: above it body, table or holder; below it air, foam and lung; project default
BONE_HU = 250.0  # largest voxel of a cell: above it bone, contrast or metal; project default
RING_SHARE = 0.7  # of the directions in which bone lies under the surface: a skull, even with a large defect; project default
SHELL = 0.55  # bone further out than this share of the body's radius lies under the surface; project default
SECTORS = 36  # directions looked along in each slice
LUNG_SHARE = 0.15  # of a slice of the body that is enclosed air: a chest; project default
MAX_HEAD_MM = 260.0  # diameter of a disc of the slice's area; larger is no head; project default
TRUNK_MM = 200.0  # diameter of a disc of the slice's area; smaller is a limb or a neck; project default
MIN_BODY_CM2 = 3.0  # a slice with less body shows none
MIN_PART_SHARE = 0.1  # of the slices with body; a part in fewer is not named
CUT_SHARE = 0.1  # an end slice with this share of the largest slice of body: the body goes on outside; project default
EDGE_CELLS = 1  # a cell so near to a wall of the box touches it

HEAD, CHEST, TRUNK, LIMB = "head", "chest", "abdomen or pelvis", "limb or neck"
DIRECTIONS = (("left", "right"), ("back", "front"), ("head", "feet"))  # LPS: plus, minus
STATED = {
    HEAD: ("HEAD", "SKULL", "BRAIN", "FACE", "ORBIT", "SINUS", "JAW", "MAXILLA", "MANDIBLE", "EAR", "IAC", "TMJ"),
    CHEST: ("CHEST", "THORAX", "LUNG", "HEART", "TSPINE", "RIB", "STERNUM"),
    TRUNK: ("ABDOMEN", "PELVIS", "LSPINE", "SSPINE", "HIP", "SACRUM", "LIVER", "KIDNEY", "COLON", "BLADDER"),
    LIMB: ("LEG", "KNEE", "FOOT", "ANKLE", "ARM", "ELBOW", "HAND", "WRIST", "EXTREMITY", "FEMUR", "TIBIA", "NECK", "CSPINE"),
}
"""Words in BodyPartExamined (defined terms of PS3.16 and their parts) for what this module tells apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The body in coarse cells: ``mask`` tissue of the largest piece, ``filled`` with enclosed air, ``bone`` within it."""

    cells: Cells
    mask: BoolArray
    filled: BoolArray
    bone: BoolArray

    @property
    def cell_cm2(self) -> float:
        """Area of a cell in its slice."""
        return self.cells.step_mm[0] * self.cells.step_mm[1] / 100.0


@dataclass(frozen=True, slots=True)
class Wall:
    """One wall of the box: the direction it faces, how far the bone stays from it, and how much of the body it cuts.

    ``bone_mm`` is None where there is no bone; ``end`` is True for the first and last slice.
    """

    faces: str
    bone_mm: float | None
    cut_cm2: float
    cut: bool
    end: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """``parts``: name and share of the slices with body, most first; ``box_mm`` and ``body_mm`` along left, back, head."""

    parts: tuple[tuple[str, float], ...]
    walls: tuple[Wall, ...]
    largest_cm2: float

    @property
    def main(self) -> str | None:
        """The part that most slices show."""
        return self.parts[0][0] if self.parts else None

    def holds(self, part: str) -> bool:
        """Whether a part is among those seen."""
        return any(name == part for name, _ in self.parts)

    def wall(self, faces: str) -> Wall:
        """The wall that faces a direction."""
        return next(wall for wall in self.walls if wall.faces == faces)


def find_body(sample: Sample) -> Body:
    """The largest piece of tissue in the scan: table, holder and cushions are mostly left out."""
    cells = coarse_cells(sample)
    mask = largest_piece(cells.mean_hu > TISSUE_HU)
    border = border_seed(mask.shape)
    filled = ~flooded(border, ~mask, (1, 2))
    return Body(cells, mask, filled, (cells.top_hu > BONE_HU) & mask)


def measure_coverage(sample: Sample, body: Body) -> Coverage:
    """Name the parts of the body and measure the walls of the box."""
    areas = body.mask.sum(axis=(1, 2)) * body.cell_cm2
    largest = float(areas.max()) if len(areas) else 0.0
    return Coverage(_parts(body), tuple(_walls(sample, body, areas, largest)), largest)


def stated_part(text: str) -> str | None:
    """What BodyPartExamined means here; None when it is empty or none of the words."""
    word = text.upper().replace(" ", "").replace("_", "")
    return next((part for part, words in STATED.items() if any(one in word for one in words)), None)


def _parts(body: Body) -> tuple[tuple[str, float], ...]:
    filled_cm2 = body.filled.sum(axis=(1, 2)) * body.cell_cm2
    air_cm2 = (body.filled & ~body.mask).sum(axis=(1, 2)) * body.cell_cm2
    named: Counter[str] = Counter()
    for one, (area, air) in enumerate(zip(filled_cm2, air_cm2, strict=True)):
        if area >= MIN_BODY_CM2:
            named[_part(float(area), float(air), _closed_share(body, one))] += 1
    total = sum(named.values())
    shares = sorted(((count / total, part) for part, count in named.items()), reverse=True)
    return tuple((part, share) for share, part in shares if share >= MIN_PART_SHARE)


def _part(filled_cm2: float, air_cm2: float, closed_share: float) -> str:
    disc_mm = 2.0 * float(np.sqrt(filled_cm2 * 100.0 / np.pi))
    if closed_share >= RING_SHARE and disc_mm <= MAX_HEAD_MM:
        return HEAD
    if disc_mm < TRUNK_MM:
        return LIMB
    return CHEST if air_cm2 >= LUNG_SHARE * filled_cm2 else TRUNK


def _closed_share(body: Body, one: int) -> float:
    """The share of directions from the middle of a slice of the body in which bone lies near its surface."""
    rows, columns = (index.astype(np.float64) for index in np.nonzero(body.filled[one]))
    middle = ((rows.min() + rows.max()) / 2.0, (columns.min() + columns.max()) / 2.0)
    sector, radius = _polar(body, rows, columns, middle)
    surface = np.zeros(SECTORS)
    np.maximum.at(surface, sector, radius)
    bone_rows, bone_columns = (index.astype(np.float64) for index in np.nonzero(body.bone[one]))
    sector, radius = _polar(body, bone_rows, bone_columns, middle)
    return len(np.unique(sector[radius >= SHELL * surface[sector]])) / SECTORS


def _polar(
    body: Body, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64], middle: tuple[float, float]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    down, across = (rows - middle[0]) * body.cells.step_mm[1], (columns - middle[1]) * body.cells.step_mm[0]
    turn = (np.arctan2(down, across) / (2.0 * np.pi) + 0.5) * SECTORS
    return turn.astype(np.int64) % SECTORS, np.hypot(down, across)


def _walls(sample: Sample, body: Body, areas: npt.NDArray[np.float64], largest: float) -> list[Wall]:
    """Walls in the order of the array's axes: first and last slice, row, column."""
    found = []
    spacing = sample.spacing_mm
    steps = (0.0, body.cells.step_mm[1], body.cells.step_mm[0])
    numbers = np.array([sample.index[place] for place in body.cells.place], dtype=np.float64) * spacing[2]
    facing = _facing(sample)
    for axis, column in ((0, 2), (1, 1), (2, 0)):
        direction, main = sample.affine[:3, column], facing[column]
        for last in (False, True):
            faces = DIRECTIONS[main][0 if (direction[main] > 0) == last else 1]
            if axis == 0:
                cut_cm2 = float(areas[-1 if last else 0])
                cut = largest > 0 and cut_cm2 >= CUT_SHARE * largest
            else:
                cut_cm2, cut = _side(sample, body, axis, last=last)
            found.append(Wall(faces, _bone_mm(body, axis, numbers, steps[axis], last=last), cut_cm2, cut, axis == 0))
    return found


def _facing(sample: Sample) -> tuple[int, ...]:
    """For (column, row, slice) the axis of the patient that it follows most, each taken once."""
    unit = np.abs(sample.affine[:3, :3]) / np.array(sample.spacing_mm)
    return max(permutations(range(3)), key=lambda order: float(sum(unit[axis, column] for column, axis in enumerate(order))))


def _bone_mm(body: Body, axis: int, numbers: npt.NDArray[np.float64], step_mm: float, *, last: bool) -> float | None:
    """From the bone that is nearest to a wall to the wall."""
    other = tuple(one for one in range(3) if one != axis)
    held = np.flatnonzero(body.bone.any(axis=other))
    if not len(held):
        return None
    if axis == 0:
        return float(numbers[-1] - numbers[held[-1]]) if last else float(numbers[held[0]] - numbers[0])
    length = body.bone.shape[axis]
    return float((length - 1 - held[-1]) * step_mm) if last else float(held[0] * step_mm)


def _side(sample: Sample, body: Body, axis: int, *, last: bool) -> tuple[float, bool]:
    """Area of the body at a side wall, cm2, and whether the body goes on outside."""
    edge = np.take(body.mask, range(-EDGE_CELLS, 0) if last else range(EDGE_CELLS), axis=axis).any(axis=axis)
    along_mm = body.cells.step_mm[0 if axis == 1 else 1]
    per_slice_mm = edge.sum(axis=1) * along_mm
    slices_mm = sample.slices * sample.spacing_mm[2] / max(1, len(body.cells.place))
    area_cm2 = float(per_slice_mm.sum()) * slices_mm / 100.0
    return area_cm2, area_cm2 >= MIN_BODY_CM2
