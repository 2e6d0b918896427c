"""Codes for what a DICOM object shows: SNOMED CT for anatomy and devices, DICOM's own for the use of a model.

Values as in PS3.16 (context groups 7061, 7063, 7064, 7150, 7151, 7162) and SNOMED CT.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from batchone.pipeline.labels import is_bone
from batchone.pipeline.values import Side


class Code(NamedTuple):
    """A coded concept: value, scheme, meaning."""

    value: str
    scheme: str
    meaning: str


MILLIMETRE: Final = Code("mm", "UCUM", "mm")
CT_MODEL: Final = Code("85040-4", "LN", "CT 3D CAM model")
ANATOMICAL_STRUCTURE: Final = Code("91723000", "SCT", "Anatomical Structure")
PHYSICAL_OBJECT: Final = Code("260787004", "SCT", "Physical object")
IMAGE_PROCESSING: Final = Code("123105", "DCM", "Histogram Analysis")  # the family that thresholds grey values
MANUAL_PROCESSING: Final = Code("123109", "DCM", "Manual Processing")
GEOMETRY: Final = Code("123104", "DCM", "Morphological Operations")

_BONE = Code("272673000", "SCT", "Bone")  # where no closer word is known
_DEVICE = Code("49062001", "SCT", "Device")
_IMPLANT = Code("40388003", "SCT", "Implant")
_SIDES: Final[dict[Side, Code]] = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
_BONES = {
    "skull": Code("89546000", "SCT", "Skull"),
    "mandible": Code("91609006", "SCT", "Mandible"),
    "maxilla": Code("70925003", "SCT", "Maxilla"),
    "clavicle": Code("51299004", "SCT", "Clavicle"),
    "scapula": Code("79601000", "SCT", "Scapula"),
    "sternum": Code("56873002", "SCT", "Sternum"),
    "rib": Code("113197003", "SCT", "Rib"),
    "humerus": Code("85050009", "SCT", "Humerus"),
    "ulna": Code("23416004", "SCT", "Ulna"),
    "pelvis": Code("118645006", "SCT", "Pelvis"),
    "ilium": Code("22356005", "SCT", "Ilium"),
    "sacrum": Code("54735007", "SCT", "Sacrum"),
    "coccyx": Code("64688005", "SCT", "Coccyx"),
    "femur": Code("71341001", "SCT", "Femur"),
    "patella": Code("64234005", "SCT", "Patella"),
    "tibia": Code("12611008", "SCT", "Tibia"),
    "fibula": Code("87342007", "SCT", "Fibula"),
    "talus": Code("67453005", "SCT", "Talus"),
    "calcaneus": Code("80144004", "SCT", "Calcaneus"),
    "vertebra": Code("51282000", "SCT", "Vertebra"),
}
_VERTEBRAE = {
    "c": ("14806007", "39976000", "113205007", "5329002", "36978003", "36054005", "87391001"),
    "t": (
        *("64864005", "53733008", "1626008", "73071006", "56401006", "45296009"),
        *("62487009", "11068009", "82687006", "7610001", "12989004", "23215003"),
    ),
    "l": ("66794005", "14293000", "36470004", "11994002", "49668003"),
}
_NAMES = {code.value: name for name, code in _BONES.items() if is_bone(name)} | {
    value: f"{letter}{number}" for letter, ids in _VERTEBRAE.items() for number, value in enumerate(ids, start=1)
}
_USES = {  # by the last word of the device family's name
    "implant": Code("129016", "DCM", "Implant Fabrication"),
    "guide": Code("129014", "DCM", "Tool Fabrication"),
}
_PLANNING = Code("129013", "DCM", "Planning Intent")


def bone_code(name: str) -> Code:
    """The code of a bone by its anatomical name (``skull``, ``T9``); the general code of bone for others."""
    words = name.lower().replace("_", "-").split("-")
    level = words[-1]
    ids = _VERTEBRAE.get(level[:1], ())
    if level[1:].isdigit() and 1 <= int(level[1:]) <= len(ids):
        return Code(ids[int(level[1:]) - 1], "SCT", f"{level.upper()} vertebra")
    return next((_BONES[word] for word in words if word in _BONES), _BONE)


def side_code(side: Side) -> Code | None:
    """Left or right; None on the midline."""
    return _SIDES.get(side)


def coded_bone(value: str, scheme: str) -> str:
    """The name of the bone that a code means, "" where it means none of ours."""
    return _NAMES.get(value, "") if scheme == "SCT" else ""


def coded_side(value: str, scheme: str) -> Side | None:
    """The side that a code means, None for others."""
    return next((side for side, code in _SIDES.items() if (value, scheme) == code[:2]), None)


def device_code(family: str) -> Code:
    """What a part of a device family is."""
    return _IMPLANT if _last_word(family) == "implant" else _DEVICE


def use_code(family: str) -> Code:
    """What the model of a part of a device family is for."""
    return _USES.get(_last_word(family), _PLANNING)


def _last_word(family: str) -> str:
    return family.rsplit("-", 1)[-1]
