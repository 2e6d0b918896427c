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
    """Per pair of labels: faces, value on them, brightest within ``reach`` beside them, dense faces."""
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
                    first, second = hu[z, y, x], hu[k, j, i]
                    value = 0.5 * (first + second)
                    for step in range(1, reach + 1):
                        k, j, i = z - step * dz, y - step * dy, x - step * dx
                        if k >= 0 and j >= 0 and i >= 0 and labels[k, j, i] == one:
                            first = max(first, hu[k, j, i])
                        k, j, i = z + (step + 1) * dz, y + (step + 1) * dy, x + (step + 1) * dx
                        if k < nz and j < ny and i < nx and labels[k, j, i] == two:
                            second = max(second, hu[k, j, i])
                    sums[a, b, 0] += 1.0
                    sums[a, b, 1] += value
                    sums[a, b, 2] += 0.5 * (first + second)
                    sums[a, b, 3] += value > dense_hu


def cuts_of(draft: Draft, mask: BoneMask, volume: WorkVolume) -> tuple[Cut, ...]:
    """Every contact between two labels, measured."""
    count = len(draft.entries) + 1
    sums = np.zeros((count, count, 4))
    reach = max(1, round(BESIDE_MM / volume.step_mm))
    _faces(draft.labels, mask.capped, reach, int(mask.soft_hu + DENSE_OVER_SOFT_HU), sums)
    cuts = []
    for a, b in np.argwhere(sums[:, :, 0] > 0):
        faces, _, _, dense = sums[a, b]
        area = float(faces) * volume.step_mm**2 * FACE_AREA_SHARE
        cuts.append(Cut(int(a), int(b), round(area, 1), round(_ratio(sums[a, b]), 3), round(float(dense / faces), 3)))
    return tuple(cuts)


def cut_findings(cuts: tuple[Cut, ...], labels: tuple[Label, ...]) -> tuple[Finding, ...]:
    """A warning for every poor cut of some size, and the number of cuts judged."""
    judged = [cut for cut in cuts if cut.area_mm2 >= LEAST_CUT_MM2]
    found = [judge("bone_cuts", "cuts between bones, judged by the grey values on them", float(len(judged)), "cuts")]
    for cut in judged:
        pair = f"{_called(labels[cut.first - 1])} / {_called(labels[cut.second - 1])}"
        for check, what, value, limit in (
            ("cut_valley", "value on the cut over the brightest beside it", cut.valley_ratio, POOR_VALLEY_RATIO),
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
    """Value on the contact of labels 1 and 2 over the brightest within 3 mm to both sides; 0 when they do not touch.

    A joint space lies between two plates of dense bone with marrow behind them, so what is 3 mm away may be darker again.
    """
    sums = np.zeros((3, 3, 4))
    reach = max(1, round(BESIDE_MM / step_mm))
    _faces(np.ascontiguousarray(halves), np.ascontiguousarray(hu), reach, 0, sums)
    return _ratio(sums[1, 2]) if sums[1, 2, 0] else 0.0


def _ratio(sums: FloatArray) -> float:
    """Value on a contact over the peaks beside it; 1 where nothing can be said."""
    return float(sums[1] / sums[2]) if sums[2] > 0.0 else 1.0
