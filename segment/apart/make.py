"""The way into this folder: a scan becomes bones apart."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import Finding, Scan, judge
from batchone.segment.apart.body import body_volume
from batchone.segment.apart.draft import Draft, Entry, empty_draft
from batchone.segment.apart.grid import WorkVolume
from batchone.segment.apart.mask import BoneMask, bone_mask
from batchone.segment.apart.pelvis import add_pelvis
from batchone.segment.apart.pieces import components
from batchone.segment.apart.solid import canal_tube, filled_labels, on_scan
from batchone.segment.apart.spine import Spine, spine_of
from batchone.segment.apart.table import LABEL_MM3
from batchone.segment.label_map import Label, LabelMap


def bones_apart(scan: Scan) -> tuple[LabelMap, tuple[Finding, ...]]:
    """Separate and name the bones of a scan."""
    volume, body = body_volume(scan)
    mask = bone_mask(volume, body)
    draft = empty_draft(volume.hu.shape)
    spine = spine_of(volume, mask, body)
    if spine is not None:
        _add_vertebrae(draft, spine)
        if spine.pelvis:
            add_pelvis(draft, mask, volume, spine)
    _add_rest(draft, mask, volume)
    solid = filled_labels(draft.labels, volume, canal_tube(volume, spine.canal) if spine is not None else None)
    voxels = on_scan(solid, volume, scan, mask.bone_hu)
    labels = tuple(
        Label(k, e.name, e.side, True, e.confidence, e.numbering, e.evidence) for k, e in enumerate(draft.entries, start=1)
    )
    return LabelMap(voxels, scan.affine, labels), ()


def _add_vertebrae(draft: Draft, spine: Spine) -> None:
    count = len(spine.discs) + 1
    for k in range(count, 1 if spine.pelvis else 0, -1):
        draft.add(spine.place.box, spine.levels == k, Entry(f"vertebra-{count - k + 1}"))


def _add_rest(draft: Draft, mask: BoneMask, volume: WorkVolume) -> None:
    rest = mask.bone & (draft.labels == 0)
    numbers, voxels = components(rest)
    everything = (slice(0, rest.shape[0]), slice(0, rest.shape[1]), slice(0, rest.shape[2]))
    for number in np.argsort(-voxels, kind="stable"):
        if voxels[number] * volume.step_mm**3 < LABEL_MM3:
            break
        draft.add(everything, numbers == number, Entry("bone"))
