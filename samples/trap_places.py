"""The traps of place: slices that lie tilted, uneven, missing, turned, or several at one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from pydicom.dataset import Dataset

from batchone.samples.trap_images import PIXEL_MM, SHAPE, SPACING_MM, Made, Stack, Trap, images, put_pixels, rename, stack

SLICES = SHAPE[0]


# --- geometry --------------------------------------------------------------------------------------------------------


def plain(directions: tuple[Sequence[float], Sequence[float]] | None = None, **values: object) -> Made:
    """The body in an ordinary series, in other directions or with other values of attributes where asked."""
    place = stack() if directions is None else stack(directions=directions)
    objects = images(place)
    for item in objects:
        for keyword, value in values.items():
            setattr(item, keyword, value)
    return Made(objects, place, place.volume_hu)


def tilted(slope: tuple[float, float], spacing_mm: float = SPACING_MM, **values: object) -> Made:
    """A stack that leans by ``slope`` (along columns, rows) per mm."""
    place = stack(np.arange(SLICES) * spacing_mm, slope=slope)
    objects = images(place)
    for item in objects:
        for keyword, value in values.items():
            setattr(item, keyword, value)
    drift = np.abs(place.sideways_mm[-1] - place.sideways_mm[0])
    columns, rows = (math.ceil(mm / size - 1e-6) for mm, size in zip(drift, PIXEL_MM[::-1], strict=True))
    return Made(objects, place, grown=(columns, rows))


def _without(lost: Sequence[int], slope: float = 0.0) -> Made:
    place = stack(slope=(0.0, slope))
    return Made([item for number, item in enumerate(images(place)) if number not in lost], place)


def _zones() -> Made:
    """Fine slices through the base, coarse ones above, as head protocols have them."""
    place = stack([*(np.arange(9) * 0.625), *(5.0 + 2.5 * np.arange(1, 6))])
    return Made(images(place), place)


def _wandering() -> Made:
    gaps = [1.0, 1.3, 0.9, 1.1, 1.4, 1.2, 0.95, 1.25, 1.05, 1.35, 0.9, 1.15, 1.0, 1.3, 1.1]
    place = stack(np.concatenate([[0.0], np.cumsum(gaps)]))
    return Made(images(place), place)


def _rounded() -> Made:
    place = stack(np.arange(40) * 0.625)
    objects = images(place)
    for item in objects:
        item.ImagePositionPatient = [f"{round(float(value), 1):.1f}" for value in item.ImagePositionPatient]
    sharp = Stack(place.across, place.down, place.along_mm, place.sideways_mm + np.array([0.0, round(31.25, 1) - 31.25]))
    return Made(objects, sharp, place.volume_hu)


def _not_square() -> Made:
    plain = stack()
    place = Stack(plain.across, plain.down, plain.along_mm, plain.sideways_mm, pixel_mm=(1.25, 0.5))
    return Made(images(place), place, place.volume_hu)


def _turned_scout(*, labelled: bool) -> Made:
    """An image of another orientation among the slices, under their series identifier."""
    made = plain()
    scout = images(stack(directions=((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))), name="scout")[0]
    scout.SeriesInstanceUID = made.objects[0].SeriesInstanceUID
    if labelled:
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    made.objects.append(scout)
    return made


DIRECTIONS = {
    "prone": ("HFP", ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))),
    "feet-first": ("FFS", ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
    "decubitus-right": ("HFDR", ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))),
    "decubitus-left": ("HFDL", ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0))),
    "coronal": ("HFS", ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))),
    "oblique": ("HFS", ((0.96, 0.0, -0.28), (0.0, 1.0, 0.0))),
}


# --- several images at one place -------------------------------------------------------------------------------------


def _twice(change: Callable[[Dataset, int], None], *, which: Sequence[int] = range(SLICES), noise: int = 3) -> Made:
    """The slices, and some of them a second time with other noise and under other identifiers."""
    made = plain()
    second = images(made.place)
    for number in which:
        item = second[number]
        rename(item, "again", number)
        put_pixels(item, made.place.hu(number) + noise)
        change(item, number)
        made.objects.append(item)
    return made


def _set(**values: object) -> Callable[[Dataset, int], None]:
    def change(item: Dataset, _number: int) -> None:
        for keyword, value in values.items():
            setattr(item, keyword, value)

    return change


def _halves() -> Made:
    """Two acquisitions, neither of which covers the length, with a common middle: nothing to choose without guessing."""
    made = plain()
    second = _twice(_set(AcquisitionNumber="2"), which=range(5, SLICES)).objects[SLICES:]
    return Made([*made.objects[:8], *second], made.place)


def _shifted_again() -> Made:
    """A second acquisition whose slices lie between those of the first."""
    made = plain()
    second = images(stack(np.arange(SLICES) * SPACING_MM + 0.3), name="between")
    for item in second:
        item.SeriesInstanceUID, item.AcquisitionNumber = made.objects[0].SeriesInstanceUID, "2"
    return Made([*made.objects, *second], made.place, made.hu)


def _mingled() -> Made:
    """Two acquisitions side by side that lie between each other in the middle, none of which covers the length."""
    made = plain()
    second = images(stack(np.arange(SLICES) * SPACING_MM + 0.35), name="between")[5:]
    for item in second:
        item.SeriesInstanceUID, item.AcquisitionNumber = made.objects[0].SeriesInstanceUID, "2"
    return Made([*made.objects[:8], *second], made.place)


def _odd_and_even() -> Made:
    """Every other slice is of a second acquisition: together they are one even stack."""
    made = plain()
    for item in made.objects[1::2]:
        item.AcquisitionNumber = "2"
    return made


def _pairs() -> Made:
    """Every two slices an acquisition of their own, as some scanners number them: still one stack."""
    made = plain()
    for number, item in enumerate(made.objects):
        item.AcquisitionNumber = str(1 + number // 2)
    return made


def _phases() -> Made:
    made = _twice(_set(TemporalPositionIdentifier="2"))
    for item in made.objects[:SLICES]:
        item.TemporalPositionIdentifier = "1"
    return made


def _passes() -> Made:
    """Two passes over the body; every image has a time of its own."""
    made = _twice(lambda item, number: setattr(item, "AcquisitionTime", f"1017{10 + number:02d}.25"))
    for number, item in enumerate(made.objects[:SLICES]):
        item.AcquisitionTime = f"1015{10 + number:02d}.25"
    return made


_WHOLE_SHIFT = PIXEL_MM[0] / SPACING_MM  # a lean by one row a slice: nothing is interpolated
_TILT = math.tan(math.radians(15.0))

PLACES: tuple[Trap, ...] = (
    Trap("plain", "accepted", "", plain),
    *(
        Trap(name, "accepted", "", partial(plain, directions, PatientPosition=code))
        for name, (code, directions) in DIRECTIONS.items()
    ),
    Trap("tilt-whole-rows", "corrected", "gantry tilt of", lambda: tilted((0.0, _WHOLE_SHIFT))),
    Trap("tilt-15-deg", "corrected", "gantry tilt of 15.00 deg", lambda: tilted((0.0, -_TILT), 2 * math.cos(math.radians(15)))),
    Trap("tilt-slight", "corrected", "gantry tilt of 0.4", lambda: tilted((0.0, math.tan(math.radians(0.4))))),
    Trap("tilt-about-two-axes", "corrected", "gantry tilt of", lambda: tilted((-0.1, 0.2))),
    Trap("tilt-only-stated", "accepted", "", lambda: plain(GantryDetectorTilt="15")),
    Trap("tilt-unstated", "corrected", "gantry tilt of", lambda: tilted((0.0, _TILT), GantryDetectorTilt="0")),
    Trap("leaning-too-far", "refused", "lean by 50.00 deg", lambda: tilted((0.0, math.tan(math.radians(50))))),
    Trap("missing-slice", "refused", "1 slice missing", lambda: _without([5])),
    Trap("missing-slices", "refused", "3 slices missing", lambda: _without([3, 4, 8])),
    Trap("missing-slice-tilted", "refused", "1 slice missing", lambda: _without([5], 0.25)),
    Trap("every-second-missing", "refused", "3 slices missing", lambda: _without([5, 7, 9])),
    Trap("two-zones", "corrected", "slice spacing varies from 0.625 to 2.500 mm", _zones),
    Trap("wandering-spacing", "corrected", "slice spacing varies from 0.900 to 1.400 mm", _wandering),
    Trap("positions-rounded", "accepted", "", _rounded),
    Trap("wrong-stated-spacing", "accepted", "", lambda: plain(SpacingBetweenSlices="3.3")),
    Trap("scout-in-the-series", "corrected", "2 orientations", lambda: _turned_scout(labelled=False)),
    Trap("labelled-scout-in-the-series", "accepted", "", lambda: _turned_scout(labelled=True)),
    Trap("not-square", "accepted", "", _not_square),
    Trap("skewed-axes", "refused", "perpendicular", lambda: plain(ImageOrientationPatient=[1, 0, 0, 0.01, 1, 0])),
    Trap("no-position", "refused", "no valid position", lambda: plain(ImagePositionPatient=None)),
    Trap("no-orientation", "refused", "orientation is missing", lambda: plain(ImageOrientationPatient=None)),
    Trap("same-bytes-twice", "accepted", "", lambda: _twice(lambda item, number: rename(item, "one", number), noise=0)),
    Trap("same-pixels-twice", "corrected", "12 images show the same pixels", lambda: _twice(_set(), noise=0)),
    Trap("two-acquisitions", "corrected", "told apart by AcquisitionNumber", lambda: _twice(_set(AcquisitionNumber="2"))),
    Trap(
        "scanned-again",
        "corrected",
        "told apart by AcquisitionNumber",
        lambda: _twice(_set(AcquisitionNumber="2"), which=(5, 6, 7)),
    ),
    Trap("two-phases", "corrected", "told apart by TemporalPositionIdentifier", lambda: _phases()),
    Trap("two-times", "corrected", "told apart by AcquisitionTime", lambda: _twice(_set(AcquisitionTime="101720.5"))),
    Trap("two-passes", "corrected", "told apart by runs of AcquisitionTime", lambda: _passes()),
    Trap("acquisitions-between", "corrected", "told apart by AcquisitionNumber", _shifted_again),
    Trap("acquisitions-of-two-slices", "accepted", "", _pairs),
    Trap("acquisitions-of-odd-and-even-slices", "accepted", "", _odd_and_even),
    Trap("acquisitions-mingled", "refused", "2 acquisitions lie between each other", _mingled),
    Trap("two-halves", "refused", "two images lie at one position", _halves),
    Trap("no-way-to-tell", "refused", "two images lie at one position, 12 times", lambda: _twice(_set())),
)
