"""What would show who the patient is: a face that can be recognised, and text burned into the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.pipeline.intake.appraisal.coverage import HEAD, Body, Coverage
from batchone.pipeline.intake.appraisal.sample import Sample

FACE_BELOW_TOP_MM = 80.0  # the brow lies lower than this below the top of the head (adult head height about 220 mm, brow at
# the middle of it or lower): project default
SKIN_HU = (-200.0, 250.0)  # mean of the cell at the surface: skin and what lies under it, no bare bone; project default
FACE_CM2 = 20.0  # skin of the face that may be seen from the front; eyes and nose alone are more; project default
FACE_HALF_WIDTH_MM = 50.0  # of the middle of the head is looked at from the front
CORNER_SHARE = 0.15  # of rows and columns: where scanners and archives write text; project default
BRIGHT_HU = 300  # text is written bright; air and the table are not
TEXT_PIXELS = 30  # so many of one bright value in one corner are drawn, not measured: one word of small letters


@dataclass(frozen=True, slots=True)
class BurnedIn:
    """The most pixels of one bright value in one corner of one slice, and the slice number."""

    pixels: int
    slice: int


def face_skin_cm2(sample: Sample, body: Body, coverage: Coverage) -> float:
    """Area of skin seen from the front, below the brow of a head."""
    if not coverage.holds(HEAD) or abs(float(sample.affine[2, 2])) < 0.7 * sample.spacing_mm[2]:
        return 0.0
    mask, mean = body.mask, body.cells.mean_hu
    if sample.affine[1, 1] < 0:  # rows run to the front
        mask, mean = mask[:, ::-1], mean[:, ::-1]
    heights = np.array([sample.index[place] for place in body.cells.place]) * float(sample.affine[2, 2])
    held = mask.any(axis=(1, 2))
    if not held.any():
        return 0.0
    below = held & (heights <= heights[held].max() + _missing_top_mm(coverage) - FACE_BELOW_TOP_MM)
    front = np.argmax(mask, axis=1)  # (slices, columns) first row of the body, 0 where there is none or it is cut
    columns = np.flatnonzero(mask.any(axis=(0, 1)))
    middle = (columns[0] + columns[-1]) / 2.0
    near = np.abs(np.arange(mask.shape[2]) - middle) * body.cells.step_mm[0] <= FACE_HALF_WIDTH_MM
    seen = (front > 0) & below[:, None] & near[None, :]
    surface = np.take_along_axis(mean, front[:, None, :], axis=1)[:, 0, :]
    under = np.take_along_axis(mean, np.minimum(front + 1, mask.shape[1] - 1)[:, None, :], axis=1)[:, 0, :]
    skin = seen & (surface <= SKIN_HU[1]) & (under >= SKIN_HU[0]) & (under <= SKIN_HU[1])
    slice_mm = sample.slices * sample.spacing_mm[2] / len(heights)
    return float(np.count_nonzero(skin)) * body.cells.step_mm[0] * slice_mm / 100.0


def _missing_top_mm(coverage: Coverage) -> float:
    """How much of the top of a head is cut off, as if its upper half were half a ball of its largest slice."""
    top = coverage.wall("head")
    if not top.cut:
        return 0.0
    radius_mm = float(np.sqrt(coverage.largest_cm2 * 100.0 / np.pi))
    return radius_mm * (1.0 - float(np.sqrt(max(0.0, 1.0 - top.cut_cm2 / coverage.largest_cm2))))


def burned_in(sample: Sample) -> BurnedIn:
    """Count the pixels of one and the same bright value in each corner: text is drawn in one value, tissue never is."""
    rows, columns = (max(1, int(CORNER_SHARE * length)) for length in sample.hu.shape[1:])
    best = BurnedIn(0, sample.index[0])
    for place, number in enumerate(sample.index):
        image = sample.hu[place]
        for down in (slice(0, rows), slice(-rows, None)):
            for across in (slice(0, columns), slice(-columns, None)):
                bright = image[down, across]
                bright = bright[bright > BRIGHT_HU]
                if len(bright) > best.pixels:
                    most = int(np.unique(bright, return_counts=True)[1].max())
                    if most > best.pixels:
                        best = BurnedIn(most, number)
    return best
