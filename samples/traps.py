"""One small CT series for each trap that readers fall into, with its known truth and the verdict that it must get.

Each trap is the same body, seen by a scanner that stores it in an awkward way. A trap that has a true volume says where its
corners lie and which HU it holds; every other one says with which words it must be refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.uid import SecondaryCaptureImageStorage

from batchone.pipeline.values import FloatArray, HuArray
from batchone.samples.trap_images import (
    LOSSLESS_SYNTAXES,
    NATIVE_SYNTAXES,
    PIXEL_MM,
    SHAPE,
    SPACING_MM,
    Made,
    Stack,
    Trap,
    enhanced,
    images,
    save,
    stack,
)
from batchone.samples.trap_places import PLACES, SLICES, plain, tilted

_AIR = -1024  # HU: what the true volume holds where nothing was measured


@dataclass(frozen=True, slots=True)
class Truth:
    """Where the true volume lies: (8, 3) LPS mm centres of its corner voxels; its HU when they are exact; and the body."""

    corners_mm: FloatArray
    hu: HuArray | None
    place: Stack


def write_trap(trap: Trap, folder: Path) -> Truth:
    """Write the files of a trap, under names that say nothing; returns the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    made = trap.make()
    order = np.random.default_rng(len(trap.name)).permutation(len(made.objects))
    for number, item in zip(order, made.objects, strict=True):
        save(item, folder / f"IM{number:04d}", syntax=made.syntax)
    return Truth(_corners(made), made.hu, made.place)


def _corners(made: Made) -> FloatArray:
    """The corners of the smallest upright box of the first slice's pixels that holds every slice; rising slice, row, column."""
    place = made.place
    first = place.corner_mm(0) - place.pixels_before * place.pixel_mm[::-1] @ np.stack([place.across, place.down])
    rows, columns = (count + more - 1 for count, more in zip(place.shape, made.grown[::-1], strict=True))
    deep, low, wide = np.meshgrid(
        [0.0, place.along_mm[-1] - place.along_mm[0]],
        [0.0, rows * place.pixel_mm[0]],
        [0.0, columns * place.pixel_mm[1]],
        indexing="ij",
    )
    steps = np.stack([wide, low, deep], axis=-1).reshape(8, 3)
    return np.asarray(first + steps @ np.stack([place.across, place.down, place.normal]))


# --- values ----------------------------------------------------------------------------------------------------------


def _rescaled() -> Made:
    """The rescale changes in the middle of the series."""
    made = plain()
    for number, item in enumerate(made.objects[6:], start=6):
        item.RescaleSlope, item.RescaleIntercept = "0.5", "-1100"
        stored = 2 * (made.place.hu(number).astype(np.int32) + 1100)
        item.PixelData, item.BitsStored, item.HighBit = stored.astype("<u2").tobytes(), 16, 15
    return made


def _padded(*, limit: bool) -> Made:
    """A round field of view in a square image: what lies outside holds a value that means nothing was measured."""
    made = plain()
    volume = made.place.volume_hu
    row, column = np.meshgrid(
        np.arange(SHAPE[1]) - 0.5 * (SHAPE[1] - 1), np.arange(SHAPE[2]) - 0.5 * (SHAPE[2] - 1), indexing="ij"
    )
    outside = (row / (0.5 * SHAPE[1])) ** 2 + (column / (0.5 * SHAPE[2])) ** 2 > 1
    for number, item in enumerate(made.objects):
        stored = volume[number].astype(np.int32)
        stored[outside] = -2000
        if limit:
            stored[outside & (row < 0)] = -1990
            item.PixelPaddingRangeLimit = -1980
        item.PixelRepresentation, item.BitsStored, item.HighBit = 1, 16, 15
        item.RescaleIntercept = "0"
        item.PixelData = stored.astype("<i2").tobytes()
        item.PixelPaddingValue = -2000
    volume[:, outside] = _AIR
    return Made(made.objects, made.place, volume)


def _garbage() -> Made:
    """Twelve stored bits of sixteen, with an old overlay in the other four."""
    made = plain()
    rng = np.random.default_rng(5)
    for item in made.objects:
        stored = np.frombuffer(item.PixelData, "<u2")
        item.PixelData = (stored | (rng.integers(0, 16, stored.shape, dtype=np.uint16) << np.uint16(12))).astype("<u2").tobytes()
    return made


def _signed(bits: int) -> Made:
    made = plain()
    for number, item in enumerate(made.objects):
        item.PixelRepresentation, item.BitsStored, item.HighBit, item.RescaleIntercept = 1, bits, bits - 1, "0"
        item.PixelData = made.place.hu(number).astype("<i2").tobytes()
    return made


def _stored_as(syntax: str) -> Made:
    made = plain()
    return Made(made.objects, made.place, made.hu, syntax)


def _lossy() -> Made:
    return plain(LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1")


# --- other objects ---------------------------------------------------------------------------------------------------


def _beside() -> Made:
    """A dose page, a text page and a projection beside the slices."""
    made = plain()
    others = images(made.place, name="others")[:3]
    for item, kind in zip(
        others, (["DERIVED", "SECONDARY", "DOSE_INFO"], ["DERIVED", "SECONDARY", "MIP"], ["X", "Y"]), strict=True
    ):
        item.ImageType = kind
    others[2].SOPClassUID = others[2].file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    return Made([*made.objects, *others], made.place, made.hu)


def _frames(*, shared: bool = True, legacy: bool = False, syntax: str = "explicit") -> Made:
    place = stack()
    return Made([enhanced(place, shared=shared, legacy=legacy)], place, place.volume_hu, syntax)


def _two_phases() -> Made:
    """Every place twice in one multi-frame object, told apart by the frames' acquisition numbers."""
    place = stack()
    item, other = enhanced(place), enhanced(place, seed=2)
    for group in other.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].FrameAcquisitionNumber = 2
        item.PerFrameFunctionalGroupsSequence.append(group)
    item.NumberOfFrames = 2 * SLICES
    item.PixelData = item.PixelData + (np.frombuffer(other.PixelData, "<u2") + np.uint16(5)).tobytes()
    return Made([item], place, place.volume_hu)


def _tilted_frames() -> Made:
    made = tilted((0.0, PIXEL_MM[0] / SPACING_MM / 3))
    return Made([enhanced(made.place)], made.place, grown=made.grown)


def _sparse() -> Made:
    """Only what a reader needs; what is there has several values where it may, and an odd one where it does not matter."""
    made = plain(ConvolutionKernel=["I30f", "3"], SpacingBetweenSlices="7.5", SliceLocation="12")
    for item in made.objects:
        for keyword in ("PatientPosition", "ManufacturerModelName", "AcquisitionNumber", "KVP", "RescaleType", "InstanceNumber"):
            delattr(item, keyword)
    return made


TRAPS: tuple[Trap, ...] = (
    *PLACES,
    Trap("rescale-changes", "corrected", "slice by slice", _rescaled),
    Trap("no-rescale", "refused", "no rescale", lambda: plain(RescaleSlope=None)),
    Trap("not-hounsfield", "refused", "not Hounsfield units", lambda: plain(RescaleType="OD")),
    Trap("padding", "corrected", "voxels of padding", lambda: _padded(limit=False)),
    Trap("padding-range", "corrected", "voxels of padding", lambda: _padded(limit=True)),
    Trap("garbage-above-12-bits", "corrected", "above the stored bits", _garbage),
    Trap("signed-12", "accepted", "", lambda: _signed(12)),
    Trap("signed-16", "accepted", "", lambda: _signed(16)),
    *(Trap(name, "accepted", "", partial(_stored_as, name)) for name in NATIVE_SYNTAXES | LOSSLESS_SYNTAXES),
    Trap("lossy", "refused", "compressed with loss", _lossy),
    Trap("derived", "corrected", "derived from others", lambda: plain(ImageType=["DERIVED", "SECONDARY", "AXIAL", "MPR"])),
    Trap("other-objects-beside", "accepted", "", _beside),
    Trap("localizers-only", "refused", "localizers: 12", lambda: plain(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    Trap("another-modality", "refused", "MR objects: 12", lambda: plain(Modality="MR")),
    Trap("sparse-header", "accepted", "", _sparse),
    Trap("enhanced", "accepted", "", _frames),
    Trap("enhanced-per-frame", "accepted", "", lambda: _frames(shared=False)),
    Trap("legacy-converted", "accepted", "", lambda: _frames(legacy=True)),
    *(
        Trap(f"enhanced-{name}", "accepted", "", partial(_frames, syntax=name))
        for name in ("implicit", "big-endian", "deflated", "rle", "jpeg-ls", "jpeg-2000")
    ),
    Trap("enhanced-two-phases", "corrected", "told apart by AcquisitionNumber", _two_phases),
    Trap("enhanced-tilted", "corrected", "gantry tilt of", _tilted_frames),
)


def trap(name: str) -> Trap:
    """The trap of that name; KeyError when there is none."""
    return {one.name: one for one in TRAPS}[name]
