"""The scan report: everything that pixels and headers say, each figure beside its limit.

It advises and never refuses: that is the protocol's part.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from batchone.pipeline.intake.appraisal.coverage import (
    CUT_SHARE,
    HEAD,
    MIN_BODY_CM2,
    Coverage,
    find_body,
    measure_coverage,
    stated_part,
)
from batchone.pipeline.intake.appraisal.metal import DENSE_HU, METAL_HU, Metal, measure_metal
from batchone.pipeline.intake.appraisal.motion import Echo, Jump, largest_jump, strongest_echo
from batchone.pipeline.intake.appraisal.noise import Noise, measure_noise
from batchone.pipeline.intake.appraisal.privacy import FACE_CM2, TEXT_PIXELS, BurnedIn, burned_in, face_skin_cm2
from batchone.pipeline.intake.appraisal.sample import Sample
from batchone.pipeline.intake.appraisal.stated import Stated
from batchone.pipeline.intake.quality import histogram
from batchone.pipeline.values import Finding, judge

WARN_NOISE_HU = 60.0  # in soft tissue; up to here half-maximum surfaces of a synthetic tibia stayed within 0.08 mm RMS
WARN_METAL_MM3 = 50.0  # less is a small clip or the edge of a filling; project default, unverified
WARN_STREAK_RATIO = 2.0  # spread of HU beside the metal over that elsewhere; project default, unverified
WARN_JUMP_MM = 1.5  # below it anatomy does as much; project default, unverified
WARN_JUMP_VOXELS = 1.5  # as above, of the longest side of a voxel; the larger of the two counts
WARN_ECHO = 0.25  # half of what two equal contours give; still scans gave up to 0.21; project default, unverified
BODY_MODE_HU = (-150.0, 100.0)  # fat to muscle and brain: the commonest value of a body; project default
BODY_WINDOW_HU = (-300, 300)  # where that value is looked for
MIN_BODY_SHARE = 0.005  # of the voxels in that window; less is no body
MIN_BRIGHTEST_HU = 1000.0  # cortical bone and teeth reach it; less: no bone, or the scale is off; project default
BRIGHTEST_SHARE = 1e-5  # of the voxels are brighter than what is called the brightest, so that single ones do not count
_MODE_WIDTH_HU = 11  # the commonest value is found in a running sum, so that noise does not pick it
_DEFAULT = "project default, unverified"
_LOOK = "look at the images; ask the sender whether the patient moved"
_SCALE = "ask the sender for the original CT images with their rescale values"

_advice = partial(judge, gate=False, source=_DEFAULT)


def appraise(sample: Sample, stated: Stated | None) -> tuple[Finding, ...]:
    """Measure a series and judge each figure; warnings only, and figures for information.

    Parameters
    ----------
    sample
        The slices that were read.
    stated
        What the headers say; None for a volume file.
    """
    body = find_body(sample)
    coverage = measure_coverage(sample, body)
    return (
        *_exposure(stated),
        *_anatomy(coverage, stated),
        *_walls(coverage),
        *_scale(sample),
        *_noise(measure_noise(sample)),
        *_metal(measure_metal(sample)),
        *_motion(sample, largest_jump(sample), strongest_echo(sample)),
        *_privacy(face_skin_cm2(sample, body, coverage), burned_in(sample), stated),
    )


def _exposure(stated: Stated | None) -> list[Finding]:
    if stated is None:
        return []
    found = [] if stated.kv is None else [judge("tube-voltage", "tube voltage, as stated", stated.kv, "kV")]
    if stated.lossy_ratio is not None:
        found.append(judge("lossy-ratio", "ratio of the lossy compression, as stated", stated.lossy_ratio, ""))
    if stated.derived:
        hint, source = "ask the sender for the original images", "PS3.3 C.7.6.1.1.2, value 1 of ImageType"
        found.append(_advice("derived-images", "series derived from others", 1.0, "", high=0.0, hint=hint, source=source))
    return found


def _anatomy(coverage: Coverage, stated: Stated | None) -> list[Finding]:
    if coverage.main is None:
        return [_advice("anatomy", "parts of the body that are recognised", 0.0, "", low=1.0, hint="look at the images")]
    names = ", ".join(f"{part} {100 * share:.0f} %" for part, share in coverage.parts)
    found = [judge("anatomy", f"anatomy seen: {names}", coverage.parts[0][1], "")]
    said = stated_part(stated.body_part) if stated is not None else None
    if said is not None:
        agree = any(part == said for part, _ in coverage.parts)
        what = f"stated body part ({said}) is seen"
        found.append(_advice("anatomy-stated", what, float(agree), "", low=1.0, hint="check that the right series was sent"))
    return found


def _walls(coverage: Coverage) -> list[Finding]:
    found = []
    if coverage.holds(HEAD):
        limit, hint = round(CUT_SHARE * coverage.largest_cm2, 3), "the top of the head is cut off: ask for the whole head"
        cut_cm2 = coverage.wall("head").cut_cm2
        found.append(_advice("top-of-head", "head cut off at the top", cut_cm2, "cm2", high=limit, hint=hint))
    worst = max((wall for wall in coverage.walls if not wall.end), key=lambda wall: wall.cut_cm2)
    hint = "the body goes on outside the field of view: ask for a larger one"
    what = "body cut off at the sides" + (f", most to the {worst.faces}" if worst.cut_cm2 else "")
    found.append(_advice("body-cut", what, worst.cut_cm2, "cm2", high=MIN_BODY_CM2, hint=hint))
    reach = [(wall.bone_mm, wall.faces) for wall in coverage.walls if wall.bone_mm is not None]
    if reach:
        words = ", ".join(f"{faces} {bone_mm:.0f}" for bone_mm, faces in reach)
        what = f"bone to the walls of the scan, least of: {words}"
        found.append(judge("bone-to-wall", what, min(reach)[0], "mm"))
    return found


def _scale(sample: Sample) -> list[Finding]:
    """The commonest value of the body, and the brightest; air is judged where the scale is checked."""
    counts = histogram(sample.hu[list(sample.spread(32)), ::2, ::2])
    total = int(counts.sum())
    above = np.cumsum(counts[::-1])[::-1]
    brightest = int(np.flatnonzero(above >= max(1.0, BRIGHTEST_SHARE * total))[-1]) - 32768
    found = [_advice("brightest", "brightest voxels", float(brightest), "HU", low=MIN_BRIGHTEST_HU, hint=_SCALE)]
    low, high = BODY_WINDOW_HU
    window = counts[low + 32768 : high + 32769]
    if window.sum() >= MIN_BODY_SHARE * total:
        mode = int(np.argmax(np.convolve(window, np.ones(_MODE_WIDTH_HU), mode="same"))) + low
        first, last = BODY_MODE_HU
        found.append(_advice("body-level", "commonest value of the body", float(mode), "HU", low=first, high=last, hint=_SCALE))
    return found


def _noise(noise: Noise) -> list[Finding]:
    found = []
    source = "Christianson et al. 2015, AJR 205:W93 (method); limit: project default, unverified"
    if noise.soft_hu is not None:
        hint = "ask for a smoother kernel or a thicker reconstruction within the protocol"
        what = "noise in soft tissue (SD)"
        found.append(_advice("noise-soft-tissue", what, noise.soft_hu, "HU", high=WARN_NOISE_HU, hint=hint, source=source))
    if noise.air_hu is not None:
        found.append(judge("noise-air", "noise in air (SD)", noise.air_hu, "HU", source=source))
    return found


def _metal(metal: Metal) -> list[Finding]:
    where = "" if metal.slices is None else f", slices {metal.slices[0] + 1} to {metal.slices[1] + 1}"
    hint = "bone beside metal is uncertain: look at the images, or ask for a reconstruction with metal artefact reduction"
    what = f"metal (above {METAL_HU} HU){where}"
    dense = f"share above {DENSE_HU} HU (above {METAL_HU} HU: {metal.share:.2g})"
    found = [
        _advice("metal", what, metal.volume_mm3, "mm3", high=WARN_METAL_MM3, hint=hint, where_mm=metal.middle_mm),
        judge("dense-share", dense, metal.dense_share, ""),
    ]
    if metal.streak_ratio is not None:
        what = "streaks: spread beside the metal over that elsewhere"
        found.append(_advice("metal-streaks", what, metal.streak_ratio, "", high=WARN_STREAK_RATIO, hint=hint))
    return found


def _motion(sample: Sample, jump: Jump | None, echo: Echo | None) -> list[Finding]:
    found = []
    if jump is not None:
        limit_mm = round(max(WARN_JUMP_MM, WARN_JUMP_VOXELS * max(sample.spacing_mm)), 3)
        what = f"largest jump between slices, {jump.pairs} pairs"
        what += f", after slice {jump.slice + 1}" if jump.jump_mm else ""
        found.append(_advice("motion-jump", what, jump.jump_mm, "mm", high=limit_mm, hint=_LOOK))
    if echo is not None:
        what = f"strongest double contour, {echo.slices} slices"
        what += f": {echo.distance_mm:.1f} mm apart in slice {echo.slice + 1}" if echo.strength > WARN_ECHO else ""
        found.append(_advice("motion-double-contour", what, echo.strength, "", high=WARN_ECHO, hint=_LOOK))
    return found


def _privacy(face_cm2: float, text: BurnedIn, stated: Stated | None) -> list[Finding]:
    hint = "the skin shows who this is: treat the images as identifying"
    found = [_advice("face", "skin of the face", face_cm2, "cm2", high=FACE_CM2, hint=hint)]
    hint = "text in the pixels may name the patient: look at the corners of the images before they leave the hospital"
    where = f", slice {text.slice + 1}" if text.pixels > TEXT_PIXELS else ""
    found.append(
        _advice(
            "burned-in-text", f"text in a corner: pixels of one bright value{where}", text.pixels, "", high=TEXT_PIXELS, hint=hint
        )
    )
    if stated is not None and stated.burned_in == "YES":
        source = "PS3.3 C.7.6.1, BurnedInAnnotation"
        found.append(
            _advice("burned-in-stated", "series said to carry burned-in text", 1.0, "", high=0.0, hint=hint, source=source)
        )
    return found
