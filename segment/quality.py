"""What the segmentation is worth: figures of the scan and of the bone, judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchone.pipeline.labels import bone_title
from batchone.pipeline.values import Bone, Finding, Scan, judge
from batchone.segment.backends.separated import Separated
from batchone.segment.bone import ScanFigures, metal_mm3
from batchone.segment.cuts import LEAST_CUT_MM2, POOR_DENSE_SHARE, POOR_VALLEY_RATIO
from batchone.segment.separate import Chosen

MAX_NOISE_HU = 80.0  # beyond, four standard deviations reach into bone, and discs are not told from noise; default, unverified
MAX_METAL_MM3 = 1e3  # a few fillings and clips; project default, unverified
VOLUME_RATIO = (0.75, 1.25)  # thin bone gains or loses at the half level, but a wrong surface does so by far more
MAX_SIGMA_MM = 0.3  # half a pixel of a head scan; project default, unverified
MIN_CONFIDENCE = 0.5  # project default, unverified
MIN_VAULT_COVER = 0.5  # a skull with a defect of 110 mm has 0.7; project default, unverified
UNKNOWN_NAME = 0.5  # confidence in a name that only the order gives
_CUT_HINT = "look at the cut; `batchone segment CASE --labels FILE` takes corrected labels"
_DEFAULT = "project default, unverified"


def kept_share(found: Chosen) -> float:
    """The share of all bone found that was taken, 0 to 1."""
    kept = sum(p.volume_mm3 for p in found.kept)
    return kept / (kept + sum(p.volume_mm3 for p in found.dropped if not p.equipment))


def scan_findings(figures: ScanFigures, scan: Scan) -> tuple[Finding, ...]:
    """Soft tissue, noise, threshold and metal of a scan."""
    metal = metal_mm3(scan.hu, float(np.prod(scan.spacing_mm)))
    hint = "ask for a smoother kernel or more dose"
    return (
        judge("soft_tissue_value", "typical soft tissue", figures.soft_hu, "HU"),
        judge(
            "image_noise",
            "one standard deviation of a voxel",
            figures.noise_hu,
            "HU",
            high=MAX_NOISE_HU,
            gate=False,
            hint=hint,
            source=_DEFAULT,
        ),
        judge("bone_threshold", "bone is looked for above this value", figures.threshold_hu, "HU"),
        judge(
            "metal",
            "metal in the scan; its streaks move the surface",
            metal / 1e3,
            "cm3",
            high=MAX_METAL_MM3 / 1e3,
            gate=False,
            hint="look at the surface near metal",
            source=_DEFAULT,
        ),
    )


def label_findings(separated: Separated) -> tuple[Finding, ...]:
    """How many bones were told apart, and how good the cuts between them are, worst first; the poor ones by name."""
    labels, cuts = separated.map.labels, separated.map.cuts
    found = [judge("bones_apart", f"bones told apart by: {separated.source}", float(len(labels)), "")]
    names = {label.value: label.title for label in labels}
    judged = sorted(
        (cut for cut in cuts if cut.area_mm2 >= LEAST_CUT_MM2), key=lambda cut: (-cut.valley_ratio, cut.first, cut.second)
    )
    for place, cut in enumerate(judged):
        pair = f"{names[cut.first]} to {names[cut.second]}"
        figures = (
            ("cut_between_bones", "value on the cut over the brightest within 3 mm", cut.valley_ratio, POOR_VALLEY_RATIO),
            ("cut_through_dense_bone", "share of the cut through dense bone", cut.dense_share, POOR_DENSE_SHARE),
        )
        for check, what, value, high in figures:
            if value > high or (place == 0 and check == "cut_between_bones"):
                found.append(judge(check, f"{pair}: {what}", value, "", high=high, gate=False, hint=_CUT_HINT, source=_DEFAULT))
    return tuple(found)


def bone_findings(bone: Bone, mask_mm3: float, cover: float | None, *, several: bool = False) -> tuple[Finding, ...]:
    """Volume, uncertainty, completeness and confidence of a bone.

    ``mask_mm3`` is the volume of its voxels; with ``several`` bones, each finding says whose it is.
    """
    findings = _bone_findings(bone, mask_mm3, cover)
    if not several:
        return findings
    title = bone_title(bone.name, bone.side)
    return tuple(replace(f, what=f"{title}: {f.what}") for f in findings)


def _bone_findings(bone: Bone, mask_mm3: float, cover: float | None) -> tuple[Finding, ...]:
    sigma = bone.uncertainty_mm
    low, high = VOLUME_RATIO
    findings = (
        judge("bone_volume", f"{bone.name}, filled", bone.volume_mm3 / 1e3, "cm3"),
        judge(
            "surface_to_mask",
            "volume in the surface over that of the voxels",
            bone.volume_mm3 / mask_mm3,
            "",
            low=low,
            high=high,
            hint="look at the surface",
            source=_DEFAULT,
        ),
        judge(
            "surface_sigma_median",
            "uncertainty of the surface, median",
            float(np.median(sigma)),
            "mm",
            high=MAX_SIGMA_MM,
            gate=False,
            hint="expect the fit to be that uncertain",
            source=_DEFAULT,
        ),
        judge("surface_sigma_p95", "uncertainty of the surface, 95 of 100 points", float(np.percentile(sigma, 95)), "mm"),
        judge("bone_complete", "1: the whole bone is in the scan, 0: cut at its edge", float(bone.complete), ""),
        judge(
            "confidence",
            "in name and separation",
            bone.confidence,
            "",
            low=MIN_CONFIDENCE,
            gate=False,
            hint="look whether this is the bone that was ordered",
            source=_DEFAULT,
        ),
    )
    if cover is None:
        return findings
    return (
        *findings,
        judge("vault_cover", "directions in which the vault has bone", cover, "", low=MIN_VAULT_COVER, source=_DEFAULT),
    )
