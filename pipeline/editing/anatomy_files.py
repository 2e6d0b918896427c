"""What people and other programs read of an anatomy: surfaces, labels, and the list of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchone.pipeline.editing.seg_nrrd import seg_nrrd_bytes
from batchone.pipeline.editing.stl import write_stl
from batchone.pipeline.editing.take import ABOUT, SCAN_DIGITS
from batchone.pipeline.labels import bone_names
from batchone.pipeline.values import Anatomy, Reference, VoxelLabels
from batchone.segment.label_map import expanded
from batchone.segment.nifti import nifti_bytes

SEG_NRRD, NIFTI = "labels.seg.nrrd", "labels.nii.gz"


def write_anatomy(anatomy: Anatomy, folder: Path) -> None:
    """Write an STL for each bone, the labels, and ``anatomy.json``."""
    files = bone_files(anatomy)
    bones = []
    for bone, file in zip(anatomy.bones, files, strict=True):
        write_stl(folder / file, bone.mesh, bone.name)
        bones.append(
            {
                "name": bone.name,
                "side": bone.side,
                "complete": bone.complete,
                "confidence": bone.confidence,
                "numbering": bone.numbering,
                "evidence": bone.evidence,
                "volume_mm3": bone.volume_mm3,
                "mesh": file,
                "pose": bone.frame.tolist(),
            }
        )
    landmarks = [{"name": m.name, "point": list(m.point_mm), "spread_mm": m.spread_mm} for m in anatomy.landmarks]
    tree: dict[str, Any] = {"frame": "LPS", "unit": "mm", "source": anatomy.source, "bones": bones, "landmarks": landmarks}
    tree["references"] = [_reference(one) for one in anatomy.references]
    if anatomy.labels is not None:
        _write_labels(anatomy.labels, folder)
        tree["labels"] = {"seg_nrrd": SEG_NRRD, "nifti": NIFTI, "values": _values(anatomy.labels)}
    text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "anatomy.json").write_text(text + "\n", encoding="utf-8")


def bone_files(anatomy: Anatomy) -> tuple[str, ...]:
    """Name of each bone's surface file: ``skull.stl``, ``femur-left.stl``; a number where several are called the same."""
    return tuple(f"{name}.stl" for name in bone_names([(bone.name, bone.side) for bone in anatomy.bones]))


def _reference(one: Reference) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "origin": list(one.origin_mm),
        "direction": list(one.direction),
        "spread_mm": one.spread_mm,
        "spread_deg": one.spread_deg,
    }


def _values(labels: VoxelLabels) -> list[dict[str, Any]]:
    return [
        {
            "value": one.value,
            "name": one.name,
            "side": one.side,
            "complete": one.complete,
            "confidence": round(one.confidence, 4),
            "numbering": one.numbering,
            "evidence": one.evidence,
        }
        for one in labels.labels
    ]


def _write_labels(labels: VoxelLabels, folder: Path) -> None:
    mark = labels.scan[:SCAN_DIGITS]
    (folder / SEG_NRRD).write_bytes(seg_nrrd_bytes(labels, scan=mark))
    (folder / NIFTI).write_bytes(nifti_bytes(expanded(labels).voxels, labels.affine, about=ABOUT + mark))
