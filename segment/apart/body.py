"""The patient without table and cushions: where the work volume lies, and which of its voxels may be bone."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from batchone.pipeline.errors import SegmentationError
from batchone.pipeline.values import FloatArray, Scan, moved_points
from batchone.segment.apart.grid import BoolArray, WorkVolume, on_work, work_step_mm, work_volume
from batchone.segment.apart.pieces import counted_in
from batchone.segment.apart.table import (
    BARE_PIECE_MM3,
    BODY_BONE_SHARE,
    BODY_COARSE_MM,
    BODY_HU,
    BODY_MARGIN_MM,
    BODY_OPEN_MM,
    BODY_SHARE,
    DRY_MARGIN_MM,
)
from batchone.segment.bits import ball, dilated, eroded, packed, unpacked
from batchone.segment.bone import ScanFigures
from batchone.segment.runs import Int64Array, labelled
from batchone.segment.separate import chosen


def scan_box_mm(scan: Scan) -> FloatArray:
    """(2, 3) LPS mm: lowest and highest corner of the box of voxel centres."""
    slices, rows, columns = scan.hu.shape
    corners = np.array([[c, r, s] for c in (0, columns - 1) for r in (0, rows - 1) for s in (0, slices - 1)], dtype=np.float64)
    places = moved_points(scan.affine, corners)
    return np.stack([places.min(axis=0), places.max(axis=0)])


def body_volume(scan: Scan, figures: ScanFigures) -> tuple[WorkVolume, BoolArray]:
    """The work volume round the patient, and the patient in it.

    A patient is solid: lungs and bowel are filled slice by slice before what is thin is taken away. A scan without anything
    thick (a dry bone) keeps everything.

    Returns
    -------
    volume, body
        (slices, rows, columns) bool: the patient with a margin, without table, blankets and holders.
    """
    whole_mm = scan_box_mm(scan)
    coarse = work_volume(scan, whole_mm, max(BODY_COARSE_MM, work_step_mm(scan)))
    thick = _thick(coarse)
    if _bare(coarse, thick, figures.threshold_hu):
        return _dry(scan, figures, whole_mm)
    if not thick.any():
        thick = coarse.hu > BODY_HU
    low, high = _ends(thick)
    step = coarse.step_mm
    box_mm = np.stack([whole_mm[0] + (low[::-1] - 1) * step, whole_mm[0] + (high[::-1] + 1) * step])
    box_mm = np.clip(box_mm, whole_mm[0], whole_mm[1])
    volume = work_volume(scan, box_mm, work_step_mm(scan))
    return volume, _on(volume, coarse, thick)


def _ends(mask: BoolArray) -> tuple[Int64Array, Int64Array]:
    """First and last index along every axis where a mask holds anything."""
    along = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    return np.array([index[0] for index in along]), np.array([index[-1] for index in along])


def _bare(coarse: WorkVolume, thick: BoolArray, bone_hu: float) -> bool:
    """Whether no large piece of bone lies in something thick: a table's shell does not, a patient's spine does."""
    runs = labelled(packed(coarse.hu > bone_hu), coarse.hu.shape[2])
    voxels = runs.measured()[0]
    large = voxels * coarse.step_mm**3 >= BARE_PIECE_MM3
    inside = counted_in(runs, packed(thick))
    return bool(large.any() and np.all(inside[large] < BODY_BONE_SHARE * voxels[large]))


def _dry(scan: Scan, figures: ScanFigures, whole_mm: FloatArray) -> tuple[WorkVolume, BoolArray]:
    """A bone without a body round it: the wanted bone as measured beside holders and stands, with a margin."""
    volume = work_volume(scan, whole_mm, work_step_mm(scan))
    try:
        words = chosen(scan.hu, scan.spacing_mm, figures).words
    except SegmentationError:
        return volume, np.ones(volume.hu.shape, dtype=np.bool_)
    columns = scan.hu.shape[2]
    around = unpacked(dilated(words, columns, ball(DRY_MARGIN_MM, scan.spacing_mm)), columns)
    return volume, on_work(around.astype(np.uint8), scan, volume).astype(np.bool_)


def _thick(coarse: WorkVolume) -> BoolArray:
    dense = coarse.hu > BODY_HU
    solid = np.stack([ndimage.binary_fill_holes(layer) for layer in dense])
    columns = solid.shape[2]
    spacing = (coarse.step_mm,) * 3
    core = eroded(packed(solid), columns, ball(BODY_OPEN_MM, spacing))
    runs = labelled(core, columns)
    if runs.count == 0:
        return np.zeros_like(solid)
    voxels = runs.measured()[0]
    parts = runs.painted(voxels >= BODY_SHARE * voxels.max())
    grown = unpacked(dilated(parts, columns, ball(BODY_OPEN_MM + BODY_MARGIN_MM, spacing)), columns)
    return np.asarray(grown)


def _on(volume: WorkVolume, coarse: WorkVolume, mask: BoolArray) -> BoolArray:
    """A coarse mask on the work grid, nearest voxel."""
    first = (volume.affine[:3, 3] - coarse.affine[:3, 3])[::-1]
    index = [
        np.clip(
            np.rint((first[axis] + np.arange(volume.hu.shape[axis]) * volume.step_mm) / coarse.step_mm).astype(np.int64), 0, n - 1
        )
        for axis, n in enumerate(mask.shape)
    ]
    return mask.take(index[2], axis=2).take(index[1], axis=1).take(index[0], axis=0)
