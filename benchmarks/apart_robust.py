"""Bones apart on scans that were not tuned: the thorax mirrored, turned, cropped, noisier and coarser (facts of the trials, B.5).

The constants were chosen on the thorax as it is; these versions of it only judge. Turning is exact: the frame is turned and no
voxel is resampled twice. A mirrored patient exists here alone.

Columns: vertebrae and how many are whole; ``order``: heights fall with the number; rib pieces; heads: pieces that come within
20 mm of the canal; stray: vertebra more than 40 mm beside the canal, where only ribs are; cuts between vertebra and rib, and
how many of them are poor (no gap in the grey values: bone was cut).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from batchone.pipeline.values import FloatArray, Scan
from batchone.segment.apart.body import body_volume
from batchone.segment.apart.canal import canal_of
from batchone.segment.apart.make import bones_apart
from batchone.segment.apart.mask import bone_mask
from batchone.segment.bone import scan_figures
from batchone.segment.cuts import LEAST_CUT_MM2, POOR_VALLEY_RATIO
from batchone.segment.label_map import LabelMap

HEAD_MM = 20.0  # from the canal: a rib's head was reached; facts of the trials, B.1
STRAY_MM = 40.0  # beside the canal no transverse process ends; anatomy
NOISE_HU = 25.0  # standard deviation added to every voxel, about doubling that of the scan
CROP = 0.2  # of the slices at either end
TURN_DEG = 10.0


def turned(scan: Scan, axis: int, degrees: float) -> Scan:
    """The scan of a patient who lies turned about an axis (0 left, 1 back, 2 head) through the scan's middle."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [other for other in range(3) if other != axis]
    turn = np.eye(4)
    turn[[first, second], [first, second]] = cosine
    turn[first, second], turn[second, first] = -sine, sine
    middle = scan.affine @ np.append((np.array(scan.hu.shape[::-1]) - 1.0) / 2.0, 1.0)
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = middle[:3], -middle[:3]
    return Scan(scan.hu, there @ turn @ back @ scan.affine, scan.record)


def _slices(scan: Scan, first: int, last: int, step: int = 1) -> Scan:
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first
    affine[:3, 2] *= step
    return Scan(np.ascontiguousarray(scan.hu[first:last:step]), affine, scan.record)


def versions(scan: Scan) -> Iterator[tuple[str, Scan]]:
    """The scan as it is, and its versions by name."""
    count = len(scan.hu)
    part = round(CROP * count)
    yield "as it is", scan
    yield "mirrored", Scan(np.ascontiguousarray(scan.hu[:, :, ::-1]), scan.affine, scan.record)
    for axis, name in ((0, "nodding"), (1, "leaning"), (2, "rolled")):
        for degrees in (TURN_DEG, -TURN_DEG):
            yield f"{name} {degrees:+.0f} deg", turned(scan, axis, degrees)
    yield "first 20 % off", _slices(scan, part, count)
    yield "last 20 % off", _slices(scan, 0, count - part)
    noise = np.random.default_rng(100).normal(0.0, NOISE_HU, scan.hu.shape)
    noisy = np.clip(scan.hu + noise, -1024, 3071).astype(np.int16)
    yield f"noise +{NOISE_HU:.0f} HU", Scan(noisy, scan.affine, scan.record)
    yield "every 2nd slice", _slices(scan, 0, count, 2)


def _beside_canal(scan: Scan, found: LabelMap) -> dict[int, tuple[FloatArray, float]]:
    """For each label the distances of its voxels to the side of the canal, mm, and its mean height."""
    volume, body = body_volume(scan, scan_figures(scan.hu))
    canal = canal_of(volume, bone_mask(volume, body), body)
    if canal is None:
        return {}
    line = canal.points_mm[np.argsort(canal.points_mm[:, 0])]
    to_work = (np.linalg.inv(volume.affine) @ scan.affine)[:3] * volume.step_mm
    out = {}
    for label in found.labels:
        index = np.argwhere(found.voxels == label.value)[:, ::-1]
        left, _, height = to_work[:, :3] @ index.T + to_work[:, 3:]
        out[label.value] = (np.abs(left - np.interp(height, line[:, 0], line[:, 2])), float(height.mean()))
    return out


def robust(scan: Scan) -> None:
    """Print one line a version."""
    print(f"\n  {'version':16} vertebrae whole order ribs heads stray cm3  cuts poor")
    for name, version in versions(scan):
        found, _ = bones_apart(version)
        beside = _beside_canal(version, found)
        vertebrae = [label for label in found.labels if label.name.startswith("vertebra") or label.name[:1] in ("c", "t", "l")]
        vertebrae = [label for label in vertebrae if label.name[-1:].isdigit()]
        ribs = [label.value for label in found.labels if label.name.startswith("rib")]
        heights = [beside[label.value][1] for label in vertebrae]
        heads = sum(float(beside[value][0].min()) <= HEAD_MM for value in ribs)
        stray = (
            sum(int((beside[label.value][0] > STRAY_MM).sum()) for label in vertebrae) * float(np.prod(version.spacing_mm)) / 1e3
        )
        values = {label.value for label in vertebrae}
        cuts = [c for c in found.cuts if c.first in values and c.second in ribs and c.area_mm2 >= LEAST_CUT_MM2]
        poor = sum(cut.valley_ratio > POOR_VALLEY_RATIO for cut in cuts)
        order = "yes" if heights == sorted(heights, reverse=True) else "NO"
        whole = sum(label.complete for label in vertebrae)
        counts = f"{len(vertebrae):9d} {whole:5d} {order:>5} {len(ribs):4d} {heads:5d}"
        print(f"  {name:16} {counts} {stray:9.2f} {len(cuts):5d} {poor:4d}")
