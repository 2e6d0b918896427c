"""Bones made solid: marrow and pores filled within each label, never the canal; and the way back to the scan's own voxels."""

from __future__ import annotations

import numba as nb
import numpy as np
from scipy.ndimage import binary_fill_holes, find_objects

from batchone.pipeline.values import HuArray, Scan
from batchone.segment.apart.canal import Canal
from batchone.segment.apart.grid import BoolArray, LabelArray, WorkVolume, labels_on_scan
from batchone.segment.apart.table import CANAL_FREE_MM, CLOSE_MM, CLOSE_SHARE, HOLLOW_CLOSE_SHARE
from batchone.segment.bits import ball, closed, inverted, packed, unpacked
from batchone.segment.runs import labelled

_LABELS = nb.types.Array(nb.uint8, 3, "C", readonly=True)
_MASK = nb.types.Array(nb.boolean, 3, "C", readonly=True)
_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)


@nb.njit(nb.void(_LABELS, nb.uint8[:, :, ::1], nb.uint8[:, :, ::1]), parallel=True, cache=True)
def _rim_and_core(labels: LabelArray, grown: LabelArray, core: LabelArray) -> None:
    """Labels with a rim of one voxel more, and without their outer voxels."""
    nz, ny, nx = labels.shape
    for p in nb.prange(nz):
        z = nb.int64(p)
        for y in range(ny):
            for x in range(nx):
                own = labels[z, y, x]
                around, inner = own, True
                for d in range(6):
                    k, j, i = z, y, x
                    shift = 1 if d & 1 else -1
                    if d < 2:
                        i += shift
                    elif d < 4:
                        j += shift
                    else:
                        k += shift
                    if i < 0 or j < 0 or k < 0 or i >= nx or j >= ny or k >= nz:
                        continue
                    near = labels[k, j, i]
                    if near == 0:
                        inner = False
                    elif around == 0:
                        around = near
                grown[z, y, x] = around
                core[z, y, x] = own if inner else nb.uint8(0)


@nb.njit(nb.void(_HU, nb.int64, _LABELS, nb.uint8[:, :, ::1]), parallel=True, cache=True)
def _decide(hu: HuArray, level: int, core: LabelArray, labels: LabelArray) -> None:
    for z in nb.prange(hu.shape[0]):
        for y in range(hu.shape[1]):
            for x in range(hu.shape[2]):
                if labels[z, y, x] != 0 and hu[z, y, x] <= level:
                    labels[z, y, x] = core[z, y, x]


@nb.njit(nb.void(_MASK, nb.boolean[:, :, ::1]), parallel=True, cache=True)
def _fill_layers(mask: BoolArray, out: BoolArray) -> None:  # noqa: C901 - compiled
    """Holes of every layer filled: what its border does not reach through empty voxels."""
    rows, columns = mask.shape[1], mask.shape[2]
    for z in nb.prange(mask.shape[0]):
        stack = np.empty(rows * columns, dtype=np.int32)
        count = 0
        for y in range(rows):
            for x in range(columns):
                out[z, y, x] = True
        for y in range(rows):
            for x in range(columns):
                if (y == 0 or x == 0 or y == rows - 1 or x == columns - 1) and not mask[z, y, x]:
                    out[z, y, x] = False
                    stack[count] = y * columns + x
                    count += 1
        while count > 0:
            count -= 1
            y, x = stack[count] // columns, stack[count] % columns
            for d in range(4):
                j, i = y, x
                if d == 0:
                    j -= 1
                elif d == 1:
                    j += 1
                elif d == 2:
                    i -= 1
                else:
                    i += 1
                if 0 <= j < rows and 0 <= i < columns and out[z, j, i] and not mask[z, j, i]:
                    out[z, j, i] = False
                    stack[count] = j * columns + i
                    count += 1


def canal_tube(volume: WorkVolume, canal: Canal) -> BoolArray:
    """The inside of the spinal canal, a tube round its middle."""
    out = np.zeros(volume.hu.shape, dtype=np.bool_)
    reach = int(np.ceil(CANAL_FREE_MM / volume.step_mm))
    offsets = np.argwhere(np.ones((2 * reach + 1,) * 3)) - reach
    offsets = offsets[np.linalg.norm(offsets, axis=1) * volume.step_mm <= CANAL_FREE_MM]
    index = np.rint(canal.points_mm[:, None] / volume.step_mm).astype(np.int64) + offsets[None]
    flat = index.reshape(-1, 3)
    inside = np.all((flat >= 0) & (flat < np.array(out.shape)), axis=1)
    out[tuple(flat[inside].T)] = True
    return out


def filled_labels(labels: LabelArray, volume: WorkVolume, free: BoolArray | None, hollow: frozenset[int]) -> LabelArray:
    """Each label closed over ``CLOSE_MM`` and its holes filled, where no other label and no ``free`` space is.

    ``hollow`` labels have thinner shells and are closed wider where the scan is coarse. Per bone, so that what two bones
    enclose together (foramina between vertebrae, a joint) stays open.
    """
    out = labels.copy()
    for value, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        radius_mm = max(CLOSE_MM, (HOLLOW_CLOSE_SHARE if value in hollow else CLOSE_SHARE) * volume.coarse_mm)
        margin = int(np.ceil(radius_mm / volume.step_mm)) + 2
        half_widths = ball(radius_mm, (volume.step_mm,) * 3)
        wide = tuple(slice(max(0, e.start - margin), min(n, e.stop + margin)) for e, n in zip(box, labels.shape, strict=True))
        own = np.pad(labels[wide] == value, margin, mode="edge")
        solid = unpacked(closed(packed(own), own.shape[2], half_widths), own.shape[2]) | own
        at_end = [(e.start == 0, e.stop == n) for e, n in zip(wide, labels.shape, strict=True)]
        solid = _without_holes(_with_lids(solid, margin, at_end))[(slice(margin, -margin),) * 3]
        fill = solid & (out[wide] == 0)
        if free is not None:
            fill &= ~free[wide]
        out[wide][fill] = value
    return out


def _with_lids(solid: BoolArray, margin: int, at_end: list[tuple[bool, bool]]) -> BoolArray:
    """The margin of a padded bone: nothing, but a lid where the scan cuts the bone, so that its marrow counts as enclosed."""
    out = solid
    for axis, ends in enumerate(at_end):
        for side, cut in enumerate(ends):
            where: list[slice | int] = [slice(None)] * 3
            where[axis] = margin if side == 0 else solid.shape[axis] - margin - 1
            face = np.asarray(binary_fill_holes(out[tuple(where)]))
            where[axis] = slice(0, margin) if side == 0 else slice(solid.shape[axis] - margin, None)
            out[tuple(where)] = np.expand_dims(face, axis) if cut else False
    return out


def _without_holes(solid: BoolArray) -> BoolArray:
    """Cavities filled: those closed in space, and those closed in the slices along two of three axes."""
    runs = labelled(inverted(packed(solid), solid.shape[2]), solid.shape[2])
    boxes = runs.measured()[1]
    closed_ones = np.all((boxes[:, :, 0] > 0) & (boxes[:, :, 1] < np.array(solid.shape)), axis=1)
    whole = solid | unpacked(runs.painted(closed_ones), solid.shape[2])
    votes = np.zeros(solid.shape, dtype=np.uint8)
    for axis in range(3):
        layers = np.ascontiguousarray(np.moveaxis(whole, axis, 0))
        full = np.empty_like(layers)
        _fill_layers(layers, full)
        votes += np.moveaxis(full, 0, axis)
    return np.asarray(whole | (votes >= 2))


def on_scan(labels: LabelArray, volume: WorkVolume, scan: Scan, bone_hu: float) -> LabelArray:
    """Labels on the scan's own voxels: near their surface the scan's own value decides."""
    grown, core = np.empty_like(labels), np.empty_like(labels)
    _rim_and_core(labels, grown, core)
    out = labels_on_scan(grown, volume, scan)
    _decide(np.ascontiguousarray(scan.hu), int(bone_hu), labels_on_scan(core, volume, scan), out)
    return out
