"""CT images and multi-frame objects of one known body, for the traps: plain data sets that a trap may then spoil."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
    generate_uid,
)

from batchone.pipeline.values import FloatArray, HuArray

INTERCEPT_HU = -1024  # HU of stored value 0
AIR_HU, BONE_HU = -1000.0, 1400.0
SHAPE = (12, 34, 44)  # slices, rows, columns: all different, so that no swap of axes can hide; JPEG 2000 needs 32
PIXEL_MM = (0.45, 0.375)  # between rows, between columns
SPACING_MM = 0.8
ORIGIN_MM = (-8.5, 31.25, 100.0)  # centre of the first pixel of the first slice, LPS
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

Verdict = Literal["accepted", "corrected", "refused"]

NATIVE_SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
LOSSLESS_SYNTAXES = {
    "rle": RLELossless,
    "jpeg-lossless": JPEGLosslessSV1,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
}

_BLOBS = (  # centre from the middle of the stack along across, down, normal (mm); radius (mm); share of bone
    ((-3.0, -2.0, -1.5), 3.2, 1.0),
    ((3.5, 1.0, 1.0), 2.6, 0.8),
    ((0.5, 3.0, 3.0), 2.4, 0.6),
)


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the slices of a series lie: directions of rows and columns, places along the normal, sideways shift of each."""

    across: FloatArray
    down: FloatArray
    along_mm: FloatArray
    sideways_mm: FloatArray
    pixel_mm: tuple[float, float] = PIXEL_MM
    shape: tuple[int, int] = SHAPE[1:]

    @property
    def normal(self) -> FloatArray:
        """Unit slice normal."""
        return np.cross(self.across, self.down)

    @property
    def pixels_before(self) -> FloatArray:
        """Whole (columns, rows) by which some slice lies before the first one."""
        before = (self.sideways_mm[0] - self.sideways_mm.min(axis=0)) / self.pixel_mm[::-1]
        return np.asarray(np.ceil(before - 1e-6))

    def corner_mm(self, number: int) -> FloatArray:
        """Centre of the first pixel of a slice, LPS mm."""
        right, below = self.sideways_mm[number]
        return np.asarray(ORIGIN_MM + self.normal * self.along_mm[number] + self.across * right + self.down * below)

    def hu(self, number: int) -> HuArray:
        """What the scanner sees in a slice."""
        rows, columns = (np.arange(count) * size for count, size in zip(self.shape, self.pixel_mm, strict=True))
        points = self.corner_mm(number) + rows[:, None, None] * self.down + columns[None, :, None] * self.across
        return np.rint(body_hu(points, self)).astype(np.int16)

    @property
    def volume_hu(self) -> HuArray:
        """All slices, in their order."""
        return np.stack([self.hu(number) for number in range(len(self.along_mm))])


@dataclass(frozen=True, slots=True)
class Made:
    """What a trap consists of: objects to be written, the transfer syntax, and the truth.

    ``hu`` is the exact true volume (None: only the body is known, as ``place`` says, or there is no volume).
    """

    objects: list[Dataset]
    place: Stack
    hu: HuArray | None = None
    syntax: str = "explicit"
    grown: tuple[int, int] = (0, 0)  # columns, rows by which the true volume is larger than the slices


@dataclass(frozen=True, slots=True)
class Trap:
    """A trap: what it must get, and words of the sentence that records or refuses it."""

    name: str
    verdict: Verdict
    words: str
    make: Callable[[], Made] = field(repr=False)


def stack(
    along_mm: Sequence[float] | npt.NDArray[np.floating] | None = None,
    *,
    directions: tuple[Sequence[float], Sequence[float]] = AXIAL,
    slope: tuple[float, float] = (0.0, 0.0),
) -> Stack:
    """A stack of slices; ``slope`` is by how much it leans (along columns, rows) per mm along the normal."""
    along = np.asarray(np.arange(SHAPE[0]) * SPACING_MM if along_mm is None else along_mm, dtype=np.float64)
    across, down = (np.asarray(direction, dtype=np.float64) for direction in directions)
    return Stack(across, down, along, np.outer(along, slope))


def body_hu(points_mm: FloatArray, place: Stack) -> FloatArray:
    """The known body, anywhere: HU (..., ) at LPS points (..., 3) mm. Smooth, and unlike its mirror image."""
    middle_along, middle_side = np.mean([place.along_mm[0], place.along_mm[-1]]), place.sideways_mm.mean(axis=0)
    half = 0.5 * (np.array(place.shape[::-1]) - 1) * place.pixel_mm[::-1]
    axes = np.stack([place.across, place.down, place.normal])
    local = (points_mm - ORIGIN_MM) @ axes.T - [*(half + middle_side), middle_along]
    shares = [share * np.exp(-np.sum((local - centre) ** 2, axis=-1) / (2 * radius**2)) for centre, radius, share in _BLOBS]
    return np.asarray(AIR_HU + (BONE_HU - AIR_HU) * np.clip(np.sum(shares, axis=0) - 0.02, 0.0, 1.0))


def images(place: Stack, *, name: str = "one") -> list[Dataset]:
    """One classic CT image per slice, lowest first."""
    common = _common(name)
    common.SliceThickness = _ds(max(1.0, float(np.diff(place.along_mm).max())))
    common.PixelSpacing = [_ds(value) for value in place.pixel_mm]
    common.ImageOrientationPatient = [_ds(value) for value in np.concatenate([place.across, place.down])]
    return [_image(place, number, name, common) for number in range(len(place.along_mm))]


def enhanced(place: Stack, *, shared: bool = True, legacy: bool = False, seed: int = 1) -> Dataset:
    """The same slices as one multi-frame object, frames in no order; what all frames share stands once or in every frame."""
    item = _common("enhanced")
    item.SOPClassUID = LegacyConvertedEnhancedCTImageStorage if legacy else EnhancedCTImageStorage
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
    _name(item, "enhanced", 0)
    for keyword in (
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
    ):
        if keyword in item:
            del item[keyword]
    common = _of_all_frames(place, legacy=legacy)
    order = np.random.default_rng(seed).permutation(len(place.along_mm))
    groups = []
    for rank, number in enumerate(order):
        group = Dataset()
        if not shared:
            group.update(common)
        group.PlanePositionSequence = _one(ImagePositionPatient=[_ds(value) for value in place.corner_mm(number)])
        group.FrameContentSequence = _one(FrameAcquisitionNumber=1, DimensionIndexValues=[int(number) + 1], StackID="1")
        group.FrameContentSequence[0].InStackPositionNumber = rank + 1
        groups.append(group)
    item.SharedFunctionalGroupsSequence = Items([common if shared else Dataset()])
    item.PerFrameFunctionalGroupsSequence = Items(groups)
    item.NumberOfFrames = len(groups)
    put_pixels(item, np.stack([place.hu(number) for number in order]))
    return item


def _of_all_frames(place: Stack, *, legacy: bool) -> Dataset:
    group = Dataset()
    group.PixelMeasuresSequence = _one(PixelSpacing=[_ds(value) for value in place.pixel_mm], SliceThickness="1.0")
    directions = [_ds(value) for value in np.concatenate([place.across, place.down])]
    group.PlaneOrientationSequence = _one(ImageOrientationPatient=directions)
    group.PixelValueTransformationSequence = _one(RescaleSlope="1", RescaleIntercept=str(INTERCEPT_HU), RescaleType="HU")
    group.CTImageFrameTypeSequence = _one(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    if legacy:
        group.UnassignedSharedConvertedAttributesSequence = _one(ConvolutionKernel="BONE", KVP="120")
    else:
        group.CTReconstructionSequence = _one(ConvolutionKernel="BONE")
        group.CTXRayDetailsSequence = _one(KVP=120.0)
    return group


def put_pixels(item: Dataset, hu: npt.NDArray[np.integer], *, bits: int = 12) -> None:
    """Store HU as unsigned values; one image, or (frames, rows, columns)."""
    item.Rows, item.Columns = hu.shape[-2:]
    item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, bits, bits - 1, 0
    item.PixelData = (hu.astype(np.int32) - INTERCEPT_HU).astype("<u2").tobytes()
    item["PixelData"].VR = "OW"


def rename(item: Dataset, name: str, number: int) -> None:
    """Give an image another identifier."""
    _name(item, name, number)


def save(item: Dataset, path: Path, *, syntax: str = "explicit") -> None:
    """Write a data set in a transfer syntax; its pixels are stored, or compressed without loss."""
    wanted = (NATIVE_SYNTAXES | LOSSLESS_SYNTAXES)[syntax]
    if wanted == ExplicitVRBigEndian:
        item.PixelData = np.frombuffer(item.PixelData, "<u2").astype(">u2").tobytes()
    if wanted == JPEGLosslessSV1:
        item.save_as(path, enforce_file_format=True)
        _to_jpeg_lossless(path)
    elif syntax in LOSSLESS_SYNTAXES:
        item.compress(wanted, generate_instance_uid=False)
        item.save_as(path, enforce_file_format=True)
    else:
        item.file_meta.TransferSyntaxUID = wanted
        item.save_as(path, enforce_file_format=True)


def _to_jpeg_lossless(path: Path) -> None:
    """Rewrite a file with JPEG lossless (process 14, first-order prediction); only GDCM can encode it."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    if not reader.Read():
        raise RuntimeError("GDCM cannot read the image")
    change.SetInput(reader.GetImage())
    writer = gdcm.ImageWriter()
    if not change.Change():
        raise RuntimeError("GDCM cannot encode the image")
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    if not writer.Write():
        raise RuntimeError("GDCM cannot write the image")


def _image(place: Stack, number: int, name: str, common: Dataset) -> Dataset:
    item = Dataset()
    for element in common:
        item.add(copy.copy(element))
    item.file_meta = copy.deepcopy(common.file_meta)
    _name(item, name, number)
    item.InstanceNumber = str(number + 1)
    item.ImagePositionPatient = [_ds(value) for value in place.corner_mm(number)]
    put_pixels(item, place.hu(number))
    return item


def _common(name: str) -> Dataset:
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID = CTImageStorage
    item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    item.StudyDate, item.StudyTime, item.AccessionNumber = "20260105", "101500", "TEST-A-0001"
    item.AcquisitionDate, item.AcquisitionTime, item.ContentTime = "20260105", "101510", "101600"
    item.Modality, item.Manufacturer, item.ManufacturerModelName = "CT", "batchone samples", "Phantom scanner"
    item.PatientName, item.PatientID, item.PatientBirthDate, item.PatientSex = "TEST^ALPHA", "TEST-0001", "19700101", "O"
    item.BodyPartExamined, item.PatientPosition = "HEAD", "HFS"
    item.StudyInstanceUID, item.FrameOfReferenceUID = _uid("study"), _uid("frame")
    item.SeriesInstanceUID, item.SeriesNumber = _uid("series", name), "2"
    item.AcquisitionNumber = "1"
    item.KVP, item.ConvolutionKernel, item.SliceThickness = "120", "BONE", "1.0"
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = "1", str(INTERCEPT_HU), "HU"
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    return item


def _name(item: Dataset, name: str, number: int) -> None:
    item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = _uid("image", name, str(number))


def _one(**values: object) -> Items:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Items([item])


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{float(value) + 0.0:.9f}"[:16]


def _uid(*parts: str) -> str:
    return str(generate_uid(entropy_srcs=["batchone traps", hashlib.sha256("\0".join(parts).encode()).hexdigest()]))
