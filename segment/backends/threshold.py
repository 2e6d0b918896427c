"""The backend that is always there: everything denser than soft tissue, away from table and holder."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.errors import OrderError, SegmentationError
from batchone.pipeline.labels import is_numbered, is_paired
from batchone.pipeline.values import FloatArray, Numbering, Scan, Side, moved_points
from batchone.segment.apart.make import bones_apart
from batchone.segment.backends.separated import Separated
from batchone.segment.bits import moved, unpacked
from batchone.segment.bone import ScanFigures
from batchone.segment.label_map import Label, LabelMap
from batchone.segment.ordered import SKULL, Wanted
from batchone.segment.quality import MAX_NOISE_HU, UNKNOWN_NAME, kept_share
from batchone.segment.separate import Chosen, chosen

NAME = "threshold"
NAMELESS = ("bone", SKULL)  # what is called so when nothing told more: by its size, or as the largest round a hollow
MIDLINE_MM = 20.0  # a paired bone's centre lies further from the body's middle than this; project default, unverified


def threshold(scan: Scan, figures: ScanFigures, wanted: tuple[Wanted, ...], ordered_side: Side) -> Separated:
    """Find the ordered bones: a skull as the largest bone with its pieces, others told apart from all that is beside them.

    Where nothing in the scan says which bone is which, a single ordered bone is the largest one, under the order's name.

    Raises
    ------
    SegmentationError
        No bone, or too much noise to tell several apart.
    OrderError
        The bone lies on the other side of the body than ordered.
    """
    if tuple(one.name for one in wanted) == (SKULL,):
        return whole_bone(scan, figures, wanted[0], ordered_side)
    if figures.noise_hu > MAX_NOISE_HU:
        if len(wanted) == 1:
            return whole_bone(scan, figures, wanted[0], ordered_side)
        raise SegmentationError(
            f"noise of the scan is {figures.noise_hu:.0f} HU, at most {MAX_NOISE_HU:.0f} HU to tell {len(wanted)} bones apart",
            hint="ask for a scan with less noise, or give labels with `batchone segment CASE --labels FILE`",
        )
    labels, findings = bones_apart(scan, figures)
    nameless = all(label.name in NAMELESS for label in labels.labels)
    if len(wanted) == 1 and nameless:
        return whole_bone(scan, figures, wanted[0], ordered_side)
    return Separated(labels, NAME, findings, sharp=True)


def whole_bone(scan: Scan, figures: ScanFigures, wanted: Wanted, ordered_side: Side) -> Separated:
    """The largest bone with the pieces that belong to it, under the ordered name.

    Raises
    ------
    SegmentationError
        No component is bone.
    OrderError
        It lies on the other side of the body than ordered.
    """
    found = chosen(scan.hu, scan.spacing_mm, figures)
    mask = unpacked(found.words, scan.hu.shape[2])
    sure = kept_share(found) * (1.0 if wanted.name == SKULL else UNKNOWN_NAME)
    evidence = "the largest bone in the scan; the name is the order's"
    side = _side(wanted.name, ordered_side, found, scan) if is_paired(wanted.name) else "midline"
    numbering: Numbering = "estimated" if is_numbered(wanted.name) else "none"
    label = Label(1, wanted.name, side, not _touches_edge(found, scan), sure, numbering, evidence)
    labels = LabelMap(mask.view(np.uint8), scan.affine, (label,))
    return Separated(labels, NAME, found.findings, sharp=True, exposure=((1, found.main.exposure),), named=False)


def _touches_edge(found: Chosen, scan: Scan) -> bool:
    return bool(np.any(found.box[:, 0] <= 0) or np.any(found.box[:, 1] >= np.array(scan.hu.shape)))


def _side(name: str, ordered: Side, found: Chosen, scan: Scan) -> Side:
    """The side of a paired bone, from its place in the body."""
    offset_mm = float(_centre_mm(found, scan)[0]) - body_middle_mm(scan)
    if abs(offset_mm) < MIDLINE_MM:  # one limb alone in the scan: the image does not say
        return ordered
    seen: Side = "left" if offset_mm > 0.0 else "right"
    if seen != ordered:
        raise OrderError(
            f"{name} lies {abs(offset_mm):.0f} mm to the {seen} of the body's middle, ordered side is {ordered}",
            hint="correct the side in the order; a device is never mirrored",
        )
    return seen


def _centre_mm(found: Chosen, scan: Scan) -> FloatArray:
    low, high = found.box[:, 0], found.box[:, 1]
    size = tuple(int(n) for n in high - low)
    mask = unpacked(moved(found.words, (int(low[0]), int(low[1]), int(low[2])), size), size[2])
    index = []
    for axis in (2, 1, 0):
        along = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        index.append((np.arange(low[axis], high[axis]) * along).sum() / along.sum())
    return np.asarray(moved_points(scan.affine, np.array(index)[None])[0])


def body_middle_mm(scan: Scan) -> float:
    """Patient x of the middle of everything denser than air."""
    step = 4
    slices, rows, columns = np.nonzero(scan.hu[::step, ::step, ::step] > -300)
    if len(columns) == 0:
        return 0.0
    index = np.stack([columns, rows, slices], axis=1).astype(np.float64) * step
    return float(np.median(moved_points(scan.affine, index)[:, 0]))
