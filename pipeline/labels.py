"""Names of bones, and their labels in the form that travels with a result.

One grammar of names serves orders, label files and programs: a lower-case bone name, and a side where the bone is paired
("l1", "femur left", "rib-5 right").
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Side = Literal["left", "right", "midline"]
Numbering = Literal["none", "certain", "confirmed", "estimated"]

# bones of which a body has a left and a right one
PAIRED = (
    *("calcaneus", "clavicle", "femur", "fibula", "hip", "humerus", "patella", "radius"),
    *("rib", "scapula", "talus", "tibia", "ulna"),
)
SINGLE = ("coccyx", "hyoid", "mandible", "sacrum", "skull", "sternum")
VERTEBRAE = (*(f"c{n}" for n in range(1, 8)), *(f"t{n}" for n in range(1, 14)), *(f"l{n}" for n in range(1, 7)))
_EDITED_BY = "edited by "
_SPELLINGS = {"clavicula": "clavicle", "calcaneous": "calcaneus", "innominate": "hip", "cranium": "skull"}
COUNTED = "vertebra-"  # begins the name of a vertebra counted from above, since nothing in the scan says its level
_COUNTED = re.compile(rf"{COUNTED}\d+")
_LEVEL_PREFIX = re.compile(r"^vertebrae?-(?=[ctls]\d)")  # but "vertebra-3", the third from above, keeps its name
_RIB = re.compile(r"rib-?([1-9]|1[0-3])")
_SIDE = re.compile(r"(?:^|[ _-])(left|right)(?=$|[ _-])")


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
        Whether a vertebra's or rib's number stands on evidence (``certain``), on a person's word (``confirmed``), is only
        proposed or counted (``estimated``: a person must confirm it), or does not apply (``none``).
    evidence
        What the name, the number or the side rests on, for a person to read.
    vertebra
        Value of the vertebra that a rib goes with; 0: not known, or no rib.
    """

    value: int
    name: str
    side: Side
    complete: bool
    confidence: float
    numbering: Numbering = "none"
    evidence: str = ""
    vertebra: int = 0

    @property
    def title(self) -> str:
        """Name and side, as files and people call it."""
        return bone_title(self.name, self.side)


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
class VoxelLabels:
    """Labels on the scan's grid, as runs: what travels with an anatomy.

    Attributes
    ----------
    affine
        (4, 4) (column, row, slice) index -> LPS mm.
    shape
        (slices, rows, columns).
    start
        (n,) int32 ascending: place of each run's first voxel in the flat grid (columns fastest). A run stays in its row.
    length
        (n,) int16 voxels.
    value
        (n,) uint8 label of the run.
    labels
        What the values mean.
    scan
        SHA-256 of the scan's sources: which scan they belong to.
    """

    affine: npt.NDArray[np.float64]
    shape: tuple[int, int, int]
    start: npt.NDArray[np.int32]
    length: npt.NDArray[np.int16]
    value: npt.NDArray[np.uint8]
    labels: tuple[Label, ...]
    scan: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """Labels that a person gave back for a case: who, and the SHA-256 of the file; without labels, nobody did.

    ``note`` is what a reviewer must know of how the file belongs to the scan; "" where there is nothing to say.
    """

    labels: VoxelLabels | None = None
    who: str = ""
    file_sha256: str = ""
    note: str = ""


def edited_by(who: str) -> str:
    """The source of an anatomy whose labels a person gave."""
    return _EDITED_BY + who


def editor(source: str) -> str | None:
    """Who gave the labels of an anatomy with this source; None where no person did."""
    return source.removeprefix(_EDITED_BY) if source.startswith(_EDITED_BY) else None


def bone_title(name: str, side: Side) -> str:
    """Name and side in one: ``"femur left"``, ``"skull"``."""
    return name if side == "midline" else f"{name} {side}"


def bone_names(bones: Sequence[tuple[str, Side]]) -> tuple[str, ...]:
    """A word for each bone of an anatomy: ``skull``, ``femur-left``; a number where several are called the same."""
    titles = [bone_title(name, side).replace(" ", "-") for name, side in bones]
    often, seen, names = Counter(titles), Counter[str](), []
    for title in titles:
        seen[title] += 1
        names.append(title if often[title] == 1 else f"{title}-no{seen[title]}")
    return tuple(names)


def split_title(text: str) -> tuple[str, Side | None]:
    """Bone name and side of a title in any usual spelling: ``"Femur left"``, ``"hip_right"``, ``"rib_left_5"``, ``"L1"``,
    ``"vertebrae_T9"``. The side is None where none is named. The name need not be a known one."""
    plain = text.strip().lower()
    found = _SIDE.search(plain)
    side: Side | None = None
    if found is not None:
        side = "left" if found.group(1) == "left" else "right"
        plain = plain[: found.start()] + plain[found.end() :]
    name = _LEVEL_PREFIX.sub("", re.sub(r"[ _-]+", "-", plain.strip(" _-")))
    return _SPELLINGS.get(name, name), side


def is_bone(name: str) -> bool:
    """Whether a bone is called that (lower case, without side)."""
    return name in SINGLE or name in PAIRED or is_vertebra(name) or _RIB.fullmatch(name) is not None


def is_vertebra(name: str) -> bool:
    """Whether the name is a vertebra's, by its level ("t9") or counted from above ("vertebra-3")."""
    return name in VERTEBRAE or _COUNTED.fullmatch(name) is not None


def is_paired(name: str) -> bool:
    """Whether a body has a left and a right one of it."""
    return name in PAIRED or _RIB.fullmatch(name) is not None


def is_numbered(name: str) -> bool:
    """Whether the name holds the number of a vertebra, by level or counted, or of a rib."""
    return is_vertebra(name) or _RIB.fullmatch(name) is not None
