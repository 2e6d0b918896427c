"""Class names of other people's programs -> our bones. TotalSegmentator 2 (task ``total``, 117 classes) is known in full."""

from __future__ import annotations

from batchone.pipeline.labels import is_bone, is_paired, split_title
from batchone.pipeline.values import Side

# TotalSegmentator's classes that are no bone of ours: organs, vessels, muscles, cartilage
_ONE = (
    *("spleen", "gallbladder", "liver", "stomach", "pancreas", "esophagus", "trachea", "thyroid_gland", "small_bowel"),
    *("duodenum", "colon", "urinary_bladder", "prostate", "heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk"),
    *("superior_vena_cava", "inferior_vena_cava", "portal_vein_and_splenic_vein", "spinal_cord", "brain", "costal_cartilages"),
    *("atrial_appendage_left", "lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right"),
    *("lung_middle_lobe_right", "lung_lower_lobe_right"),
)
_TWO = (
    *("kidney", "adrenal_gland", "kidney_cyst", "subclavian_artery", "common_carotid_artery", "brachiocephalic_vein"),
    *("iliac_artery", "iliac_vena", "gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"),
)
NO_BONES = frozenset((*_ONE, *(f"{name}_{side}" for name in _TWO for side in ("left", "right"))))
# classes that are part of one of our bones
_PARTS = {"s1": "sacrum"}


def known_bone(name: str) -> tuple[str, Side] | None:
    """Our name and side of a class name; None for a class that is no bone.

    Raises
    ------
    KeyError
        A name that stands in no table.
    """
    if name.strip().lower() in NO_BONES:
        return None
    bone, side = split_title(name)
    bone = _PARTS.get(bone, bone)
    if not is_bone(bone) or (is_paired(bone) and side is None) or (side is not None and not is_paired(bone)):
        raise KeyError(name)
    return bone, side or "midline"
