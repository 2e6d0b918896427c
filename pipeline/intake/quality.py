"""Are the numbers Hounsfield units? Air tells: it is everywhere around a patient, and it is -1000."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.values import Finding, HuArray, judge

AIR_HU = -1000.0  # by definition of the Hounsfield scale
MAX_AIR_OFF_HU = 60.0  # air may be this far from -1000; scanners keep +-20; project default
AIR_WINDOW_HU = (-1300, -700)  # where air is looked for: above the fill values of scanners, below fat and most of the lung
MAX_BELOW_SHARE = 0.01  # of the voxels below the window, beside up to two fill values; project default
MIN_AIR_SHARE = 0.002  # of the voxels; less is no air outside the patient, only some gas
PEAK_HALF_WIDTH_HU = 30  # air is one narrow peak, lung a broad one
MIN_PEAK_SHARE = 0.5  # of the window's voxels inside the peak, so that it is air and not lung
SAMPLE_STEPS = (2, 4, 4)  # every second slice, every fourth row and column are enough

_LOWEST = -32768
_BLOCK = 1 << 19  # values counted at once: numpy counts in a copy of eight bytes each
_SMOOTH_HU = 9  # the peak is found in a running sum, so that noise does not pick it; its place is the mean around it
_SOURCE = "definition of the Hounsfield scale; width: project default"


def check_hounsfield(sample: HuArray) -> tuple[Finding, ...]:
    """Judge whether a volume is in Hounsfield units.

    Parameters
    ----------
    sample
        int16 of any shape: a fair part of the voxels, before anything was raised to -1024.

    Raises
    ------
    SeriesError
        All values positive, or air more than 60 HU off.
    """
    counts = histogram(sample)
    hint = "ask the sender for the original CT images with their rescale values"
    lowest = int(np.flatnonzero(counts)[0]) + _LOWEST
    if lowest >= 0:
        raise SeriesError(f"the lowest value is {lowest} HU, must be below 0 HU (air or fat): not in Hounsfield units", hint=hint)
    below = below_air_share(counts)
    if below > MAX_BELOW_SHARE:
        raise SeriesError(
            f"{100 * below:.1f} % of the voxels are below {AIR_WINDOW_HU[0]} HU, at most {100 * MAX_BELOW_SHARE:g} %: "
            "the scale is off",
            hint=hint,
        )
    share, air_hu = air_peak(counts)
    if air_hu is None:
        what = "share of the voxels that are air (the scale is unchecked without air)"
        return (judge("air-share", what, share, "", low=MIN_AIR_SHARE, gate=False, hint=hint, source=_SOURCE),)
    low, high = AIR_HU - MAX_AIR_OFF_HU, AIR_HU + MAX_AIR_OFF_HU
    found = judge("air-level", "air", air_hu, "HU", low=low, high=high, hint=hint, source=_SOURCE)
    if found.verdict == "fail":
        raise SeriesError(f"air is at {air_hu:.0f} HU, {found.limit}: the scale is off", hint=hint)
    return (found,)


def histogram(hu: HuArray) -> npt.NDArray[np.int64]:
    """How often each of the 65,536 values from -32768 stands in an int16 array of any shape."""
    counts = np.zeros(65536, dtype=np.int64)
    flat = np.ravel(hu).view(np.uint16)
    for first in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[first : first + _BLOCK], minlength=65536)
    return np.roll(counts, 32768)


def below_air_share(counts: np.ndarray) -> float:
    """The share of voxels below anything that a scan can show, leaving out the two commonest values (fill values)."""
    below = np.sort(counts[: AIR_WINDOW_HU[0] - _LOWEST])[:-2]
    return float(below.sum() / counts.sum())


def air_peak(counts: np.ndarray) -> tuple[float, float | None]:
    """The share of voxels in a narrow peak of air, and its HU (None when there is none).

    ``counts`` is the histogram of all 65,536 values from -32768.
    """
    first, last = (edge - _LOWEST for edge in AIR_WINDOW_HU)
    window = counts[first : last + 1].astype(np.float64)
    peak = int(np.argmax(np.convolve(window, np.ones(_SMOOTH_HU), mode="same")))
    start = max(peak - PEAK_HALF_WIDTH_HU, 0)
    around = window[start : peak + PEAK_HALF_WIDTH_HU + 1]
    narrow = around.sum() >= MIN_PEAK_SHARE * window.sum()
    share = float(around.sum() / counts.sum()) if narrow else 0.0
    if share < MIN_AIR_SHARE:
        return share, None
    return share, float(np.average(np.arange(len(around)), weights=around)) + start + AIR_WINDOW_HU[0]
