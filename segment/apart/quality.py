"""How good the cuts are: the grey values on each, against those beside it."""

from __future__ import annotations

import numba as nb
import numpy as np

from batchone.pipeline.values import Finding, FloatArray, HuArray, judge
from batchone.segment.apart.draft import Draft
from batchone.segment.apart.grid import LabelArray, WorkVolume
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.table import (
    BESIDE_MM,
    DENSE_OVER_SOFT_HU,
    FACE_AREA_SHARE,
    LEAST_CUT_MM2,
    METAL_MOST_MM3,
    POOR_DENSE_SHARE,
    POOR_VALLEY_RATIO,
)
from batchone.segment.label_map import Cut, Label

_LABELS = nb.types.Array(nb.uint8, 3, "C", readonly=True)
_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)


@nb.njit(nb.void(_LABELS, _HU, nb.int64, nb.int64, nb.float64[:, :, ::1]), cache=True)
def _faces(labels: LabelArray, hu: HuArray, reach: int, dense_hu: int, sums: FloatArray) -> None:
    """Per pair of labels: faces, value on them, value beside them, places beside them, dense faces."""
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                one = labels[z, y, x]
                if one == 0:
                    continue
                for axis in range(3):
                    dz, dy, dx = int(axis == 0), int(axis == 1), int(axis == 2)
                    k, j, i = z + dz, y + dy, x + dx
                    if k >= nz or j >= ny or i >= nx:
                        continue
                    two = labels[k, j, i]
                    if two == 0 or two == one:
                        continue
                    a, b = min(one, two), max(one, two)
                    value = 0.5 * (hu[z, y, x] + hu[k, j, i])
                    sums[a, b, 0] += 1.0
                    sums[a, b, 1] += value
                    sums[a, b, 4] += value > dense_hu
                    k, j, i = z - reach * dz, y - reach * dy, x - reach * dx
                    if k >= 0 and j >= 0 and i >= 0 and labels[k, j, i] == one:
                        sums[a, b, 2] += hu[k, j, i]
                        sums[a, b, 3] += 1.0
                    k, j, i = z + (reach + 1) * dz, y + (reach + 1) * dy, x + (reach + 1) * dx
                    if k < nz and j < ny and i < nx and labels[k, j, i] == two:
                        sums[a, b, 2] += hu[k, j, i]
                        sums[a, b, 3] += 1.0


def cuts_of(draft: Draft, mask: BoneMask, volume: WorkVolume) -> tuple[Cut, ...]:
    """Every contact between two labels, measured."""
    count = len(draft.entries) + 1
    sums = np.zeros((count, count, 5))
    reach = max(1, round(BESIDE_MM / volume.step_mm))
    _faces(draft.labels, mask.capped, reach, int(mask.soft_hu + DENSE_OVER_SOFT_HU), sums)
    cuts = []
    for a, b in np.argwhere(sums[:, :, 0] > 0):
        faces, on, beside, places, dense = sums[a, b]
        ratio = (on / faces) / (beside / places) if places and beside > 0.0 else 1.0
        area = float(faces) * volume.step_mm**2 * FACE_AREA_SHARE
        cuts.append(Cut(int(a), int(b), round(area, 1), round(float(ratio), 3), round(float(dense / faces), 3)))
    return tuple(cuts)


def cut_findings(cuts: tuple[Cut, ...], labels: tuple[Label, ...]) -> tuple[Finding, ...]:
    """A warning for every poor cut of some size, and the number of cuts judged."""
    judged = [cut for cut in cuts if cut.area_mm2 >= LEAST_CUT_MM2]
    found = [judge("bone_cuts", "cuts between bones, judged by the grey values on them", float(len(judged)), "cuts")]
    for cut in judged:
        pair = f"{_called(labels[cut.first - 1])} / {_called(labels[cut.second - 1])}"
        for check, what, value, limit in (
            ("cut_valley", "value on the cut over the value 3 mm beside it", cut.valley_ratio, POOR_VALLEY_RATIO),
            ("cut_dense", "share of the cut through dense bone", cut.dense_share, POOR_DENSE_SHARE),
        ):
            finding = judge(
                check,
                f"{pair}: {what}",
                value,
                "",
                high=limit,
                gate=False,
                hint="look at this cut; correct the labels by hand where it is wrong",
                source="project default, unverified",
            )
            if finding.verdict != "pass":
                found.append(finding)
    return tuple(found)


def metal_finding(mask: BoneMask, volume: WorkVolume) -> Finding:
    """Metal in the body, with its blooming; it stays with the bone it lies in."""
    return judge(
        "metal_in_bone",
        "metal with its blooming; held at compact bone's value for every cut",
        float(mask.metal.sum()) * volume.step_mm**3 / 1e3,
        "cm3",
        high=METAL_MOST_MM3 / 1e3,
        gate=False,
        hint="look at cuts and surface near metal; no contact zone there",
        source="project default, unverified",
    )


def _called(label: Label) -> str:
    return label.name if label.side == "midline" else f"{label.side} {label.name}"


def contact(halves: LabelArray, hu: HuArray, step_mm: float) -> float:
    """Value on the contact of labels 1 and 2 over the value beside it; 0 when they do not touch."""
    sums = np.zeros((3, 3, 5))
    _faces(np.ascontiguousarray(halves), np.ascontiguousarray(hu), max(1, round(BESIDE_MM / step_mm)), 0, sums)
    faces, on, beside, places, _ = sums[1, 2]
    if not faces:
        return 0.0
    return float((on / faces) / (beside / places)) if places and beside > 0.0 else 1.0
