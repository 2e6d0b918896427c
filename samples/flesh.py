"""What lies around bones that were scanned in a box of tissue: more muscle, fat, skin, and air."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchone.pipeline.values import FloatArray
from batchone.samples.bone_ct import MARGIN_MM, BoneScan
from batchone.samples.long_bone import AIR_MM, FAT_MM, MUSCLE_MM, SKIN_MM, limb
from batchone.samples.scanner import Grid, exposed

SEAM_MM = 4.0  # mm at the box's sides over which its own tissue gives way to muscle; less than lies around its bones
_AROUND_MM = MUSCLE_MM + FAT_MM + SKIN_MM + AIR_MM


def in_flesh(scan: BoneScan, *, seed: int = 1, noise_hu: float = 25.0) -> BoneScan:
    """The same bones in a trunk or limb along z, in air; the voxels of the box stay where they are.

    Parameters
    ----------
    scan
        Untilted.
    seed, noise_hu
        Of the noise, which is new everywhere.
    """
    steps = np.linalg.norm(scan.affine[:3, :3], axis=0)
    slices, rows, columns = scan.volume.shape
    size_mm = steps[:2] * (columns, rows)
    beside = np.ceil((0.5 * (np.sqrt(2.0) - 1.0) * size_mm + _AROUND_MM) / steps[:2]).astype(int)  # the ellipse holds the box
    shape = (slices, rows + 2 * int(beside[1]), columns + 2 * int(beside[0]))
    affine = scan.affine.copy()
    affine[:2, 3] -= beside * steps[:2]
    corner = scan.affine[:3, 3] - 0.5 * steps
    volume = limb(corner, corner + steps * (columns, rows, slices), Grid(affine, shape))
    share = np.minimum.outer(_rising(rows, float(steps[1])), _rising(columns, float(steps[0]))).astype(np.float32)
    target = volume[:, beside[1] : beside[1] + rows, beside[0] : beside[0] + columns]
    target += share * (scan.volume - target)
    hu = exposed(volume, noise_hu=noise_hu, rng=np.random.default_rng(seed))
    return replace(scan, hu=hu, affine=affine, volume=volume)


def _rising(count: int, step_mm: float) -> FloatArray:
    """0 at both ends of a row of voxels, 1 from ``SEAM_MM`` on."""
    assert SEAM_MM < MARGIN_MM
    inward = np.arange(count) * step_mm
    return np.asarray(np.clip(np.minimum(inward, inward[::-1]) / SEAM_MM, 0.0, 1.0))
