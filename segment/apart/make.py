"""The way into this folder: a scan becomes bones apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import find_objects

from batchone.pipeline.side_by_side import beside
from batchone.pipeline.values import Finding, Scan
from batchone.segment.apart.body import body_volume
from batchone.segment.apart.chest import name_chest
from batchone.segment.apart.cut import Box
from batchone.segment.apart.draft import Draft, Entry, empty_draft
from batchone.segment.apart.grid import BoolArray, LabelArray, WorkVolume
from batchone.segment.apart.joints import apart_at_joints
from batchone.segment.apart.mask import BoneMask, bone_mask
from batchone.segment.apart.necks import all_parted
from batchone.segment.apart.numbering import number
from batchone.segment.apart.pelvis import add_pelvis
from batchone.segment.apart.pieces import components
from batchone.segment.apart.quality import cuts_of, metal_finding
from batchone.segment.apart.shapes import name_by_shape
from batchone.segment.apart.solid import canal_tube, filled_labels, on_scan
from batchone.segment.apart.spine import Spine, spine_of
from batchone.segment.apart.table import JOINT_LEAST_MM3, LABEL_MM3, LUMBAR_LEAST
from batchone.segment.bone import ScanFigures, scan_figures
from batchone.segment.label_map import Label, LabelMap


def bones_apart(scan: Scan, figures: ScanFigures | None = None) -> tuple[LabelMap, tuple[Finding, ...]]:
    """Separate and name the bones of a scan; ``figures`` are the scan's own, measured here when absent."""
    volume, body = body_volume(scan, figures or scan_figures(scan.hu))
    mask = bone_mask(volume, body)
    draft = empty_draft(volume.hu.shape)
    spine = spine_of(volume, mask, body)
    findings: tuple[Finding, ...] = (metal_finding(mask, volume),)
    naming = _add_limbs_of(draft, mask, volume) if spine is None else _add_bones_of(spine, draft, mask, volume)
    hollow = frozenset(draft.values("sacrum"))

    def on_its_voxels() -> LabelArray:
        free = np.zeros(volume.hu.shape, dtype=np.bool_) if spine is None else canal_tube(volume, spine.canal)
        return on_scan(filled_labels(draft.labels, volume, free, hollow), volume, scan, mask.bone_hu)

    voxels, (numbering, cuts) = beside(on_its_voxels, lambda: (naming(), cuts_of(draft, mask, volume)))
    at_end = _at_end(voxels)
    labels = tuple(_label(k, entry, at_end) for k, entry in enumerate(draft.entries, start=1))
    return LabelMap(voxels, scan.affine, labels, cuts), findings + numbering


Naming = Callable[[], tuple[Finding, ...]]  # changes entries, never labels


def _add_bones_of(spine: Spine, draft: Draft, mask: BoneMask, volume: WorkVolume) -> Naming:
    """Label the bones of a scan with a spine; returns what names them."""
    vertebrae = _add_vertebrae(draft, spine)
    heads = add_pelvis(draft, mask, volume, spine) if spine.pelvis else ()
    rest = _add_rest(draft, mask, volume)

    def named() -> tuple[Finding, ...]:
        ribs = name_chest(draft, spine, volume, rest, vertebrae[LUMBAR_LEAST:] if spine.pelvis else vertebrae)
        return number(draft, spine, ribs, vertebrae, len(heads))

    return named


def _add_limbs_of(draft: Draft, mask: BoneMask, volume: WorkVolume) -> Naming:
    """Label the bones of a scan without a spine; returns what names them."""
    limbs = _add_limbs(draft, mask, volume)

    def named() -> tuple[Finding, ...]:
        name_by_shape(draft, volume, limbs)
        return ()

    return named


def _label(value: int, entry: Entry, at_end: frozenset[int]) -> Label:
    evidence = f"{entry.evidence}; cut at the edge of the scan".lstrip("; ") if value in at_end else entry.evidence
    return Label(value, entry.name, entry.side, value not in at_end, entry.confidence, entry.numbering, evidence, entry.vertebra)


def _at_end(voxels: LabelArray) -> frozenset[int]:
    """Labels with a voxel on one of the scan's six faces."""
    faces = [voxels[0], voxels[-1], voxels[:, 0], voxels[:, -1], voxels[:, :, 0], voxels[:, :, -1]]
    return frozenset(int(value) for face in faces for value in np.flatnonzero(np.bincount(face.ravel())) if value)


def _add_vertebrae(draft: Draft, spine: Spine) -> list[int]:
    """Label the vertebrae, counted from above; returns their values from below upwards."""
    count = len(spine.discs) + 1
    named = [draft.add(spine.place.box, spine.levels == k, Entry("vertebra")) for k in range(count, 1 if spine.pelvis else 0, -1)]
    values = [value for value in named if value]
    for k, value in enumerate(values, start=1):
        draft.entries[value - 1].name = f"vertebra-{k}"
    return values[::-1]


def _add_rest(draft: Draft, mask: BoneMask, volume: WorkVolume) -> list[int]:
    """Label what is left, the largest piece first; returns the values."""
    rest = mask.bone & (draft.labels == 0)
    values = [draft.add(box, part, Entry("bone")) for box, part in all_parted(rest, volume.step_mm, LABEL_MM3)]
    return [value for value in values if value]


def _add_limbs(draft: Draft, mask: BoneMask, volume: WorkVolume) -> list[int]:
    """Label the bones of a scan without a spine, the largest first; returns the values."""
    numbers, voxels = components(mask.bone)
    boxes = find_objects(numbers)
    found: list[tuple[Box, BoolArray]] = []
    for piece in np.argsort(-voxels, kind="stable"):
        if piece == 0 or voxels[piece] * volume.step_mm**3 < LABEL_MM3:
            break
        box = boxes[piece - 1]
        if voxels[piece] * volume.step_mm**3 < JOINT_LEAST_MM3:
            found.append((box, numbers[box] == piece))
            continue
        low, high = (tuple(float(getattr(edge, end)) * volume.step_mm for edge in box) for end in ("start", "stop"))
        everything = (slice(0, numbers.shape[0]), slice(0, numbers.shape[1]), slice(0, numbers.shape[2]))
        found += [(everything, part) for part in apart_at_joints(mask, volume.step_mm, low, high, numbers == piece)]
    found.sort(key=lambda pair: -int(pair[1].sum()))
    values = [draft.add(box, part, Entry("bone")) for box, part in found]
    return [value for value in values if value]
