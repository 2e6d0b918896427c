"""Intake: from a messy study to one true volume, or a refusal that says what to ask the sender for."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import math
import pickle
import random
import stat
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.inspection import inspect_for
from batchone.pipeline.intake import header as dicom_header
from batchone.pipeline.intake.header import TAGS, Unreadable, read_header
from batchone.pipeline.intake.make import admit, inspect_study, intake, study_digest
from batchone.pipeline.intake.package import MAX_FILES, FileSource, MemorySource
from batchone.pipeline.intake.quality import check_hounsfield
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.pipeline.values import Identity, Scan

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
AIR, TISSUE, MARK = -1000, 40, 1500
SHAPE = (12, 20, 26)  # slices, rows, columns: all different, so that no swap of axes can hide
PIXEL_MM = (0.5, 0.4)  # between rows, between columns
SPACING_MM = 0.8

LOOSE = Protocol(
    max_slice_spacing_mm=5.0,
    warn_slice_spacing_mm=4.0,
    max_slice_thickness_mm=6.0,
    max_pixel_mm=2.0,
    max_gantry_tilt_deg=0.5,
    min_slices=3,
    source="test",
)
ORDER = Order(
    case="demo-0001",
    device="anatomical-model",
    side="left",
    process="pa12-sls",
    machine="sim-01",
    due=dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC),
)


def uid(*words: object) -> str:
    return str(generate_uid(entropy_srcs=[str(word) for word in words]))


def phantom_hu() -> np.ndarray:
    """Air with a block of tissue in it and one bright voxel off every symmetry."""
    hu = np.full(SHAPE, AIR, dtype=np.int16)
    hu[2:-2, 4:-4, 5:-5] = TISSUE
    hu[3, 6, 17] = MARK
    return hu


def direction(angle_deg: float, *, about: str) -> tuple[float, ...]:
    """The axial orientation turned about an axis."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    turn = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    matrix = np.array(turn[about])
    return tuple(float(value) for value in np.concatenate([matrix[:, 0], matrix[:, 1]]))


def ds(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.9f}"[:16]


def make_series(
    hu: np.ndarray | None = None,
    *,
    name: str = "one",
    orientation: Sequence[float] = AXIAL,
    places_mm: Sequence[float] | None = None,
    offset_mm: tuple[float, float] = (0.0, 0.0),
    spacing_mm: float = SPACING_MM,
) -> list[Dataset]:
    """A CT series in memory, lowest slice first; ``offset_mm`` shears the stack along (row, column) from slice to slice."""
    hu = phantom_hu() if hu is None else hu
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(across, down)
    places = [index * spacing_mm for index in range(len(hu))] if places_mm is None else places_mm
    images = []
    for number, (values, place) in enumerate(zip(hu, places, strict=True)):
        corner = np.array([-31.25, 12.5, 100.0]) + normal * place + number * (across * offset_mm[0] + down * offset_mm[1])
        images.append(make_image(values, name=name, number=number, orientation=orientation, corner=corner))
    return images


def make_image(values: np.ndarray, *, name: str, number: int, orientation: Sequence[float], corner: np.ndarray) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid(name, number)
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid(name, number)
    image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "TEST^ALPHA", "ALPHA-0001", "19700101", "O"
    image.AccessionNumber, image.StudyDate, image.StudyDescription = "ACC-ALPHA", "20260102", "HEAD OF ALPHA"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = uid("study"), uid("series", name), uid("frame")
    image.Manufacturer, image.ManufacturerModelName, image.ConvolutionKernel = "ACME", "CT-1", "B60"
    image.PatientPosition, image.InstanceNumber = "HFS", 1000 - number
    image.ImageOrientationPatient = [ds(value) for value in orientation]
    image.ImagePositionPatient = [ds(value) for value in corner]
    image.PixelSpacing, image.SliceThickness = list(PIXEL_MM), "1.0"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = values.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = "1", "-1024", "HU"
    image.PixelData = (values.astype(np.int32) + 1024).astype("<i2").tobytes()
    return image


def store(image: Dataset, values: np.ndarray) -> None:
    """Give an image other stored values."""
    image.PixelData = values.astype("<i2" if image.PixelRepresentation else "<u2").tobytes()


def write(folder: Path, images: Sequence[Dataset], *, seed: int = 0, stem: str = "IM") -> Path:
    """Write a series under shuffled names, in nested folders."""
    numbers = list(range(len(images)))
    random.Random(seed).shuffle(numbers)
    for number, image in zip(numbers, images, strict=True):
        place = folder / f"S{number % 2}" / "deep"
        place.mkdir(parents=True, exist_ok=True)
        pydicom.dcmwrite(place / f"{stem}{number:04d}", image, enforce_file_format=True)
    return folder


def take(study: Path, protocol: Protocol = LOOSE) -> tuple[Scan, Identity]:
    return intake(study, ORDER, protocol)


def refusal(study: Path, protocol: Protocol = LOOSE) -> str:
    with pytest.raises(SeriesError) as caught:
        take(study, protocol)
    assert caught.value.hint, "a refusal says what to do next"
    assert caught.value.exit_code == 2
    return str(caught.value)


def world(scan: Scan, *, slice_: int, row: int, column: int) -> np.ndarray:
    return np.asarray((scan.affine @ [column, row, slice_, 1.0])[:3])


def brightest(scan: Scan) -> np.ndarray:
    slice_, row, column = np.unravel_index(int(np.argmax(scan.hu)), scan.hu.shape)
    return world(scan, slice_=int(slice_), row=int(row), column=int(column))


# --- the volume ------------------------------------------------------------------------------------------------------

ORIENTATIONS = {
    "head first supine": AXIAL,
    "head first prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "feet first, table turned": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "decubitus right": (0.0, 1.0, 0.0, -1.0, 0.0, 0.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "oblique": direction(17.0, about="y"),
    "gantry along a tilted body": direction(-20.0, about="x"),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def test_a_marker_voxel_lands_at_its_exact_place_in_the_patient(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    images = make_series(orientation=orientation)
    marked = images[3]
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    expected = np.array(marked.ImagePositionPatient, dtype=float) + 17 * PIXEL_MM[1] * across + 6 * PIXEL_MM[0] * down
    scan, _ = take(write(tmp_path, images))
    assert brightest(scan) == pytest.approx(expected, abs=1e-6)  # mm; positions are written with nine decimals
    assert np.linalg.det(scan.affine[:3, :3]) > 0
    axes = scan.affine[:3, :3] / np.array(scan.spacing_mm)
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-9)
    assert scan.spacing_mm == pytest.approx((PIXEL_MM[1], PIXEL_MM[0], SPACING_MM), abs=1e-7)
    assert scan.record.pixel_mm == (PIXEL_MM[1], PIXEL_MM[0])


def test_every_slice_lies_where_its_header_says(tmp_path: Path) -> None:
    hu = phantom_hu()
    hu[:, 0, 0] = np.arange(len(hu)) * 7 - 1000
    images = make_series(hu, orientation=direction(30.0, about="x"))
    scan, _ = take(write(tmp_path, images))
    by_value = {
        int(value): np.array(image.ImagePositionPatient, dtype=float) for value, image in zip(hu[:, 0, 0], images, strict=True)
    }
    for slice_, value in enumerate(scan.hu[:, 0, 0]):
        assert world(scan, slice_=slice_, row=0, column=0) == pytest.approx(by_value[int(value)], abs=1e-6)


def test_names_and_instance_numbers_do_not_matter(tmp_path: Path) -> None:
    first, _ = take(write(tmp_path / "a", make_series(), seed=1))
    images = make_series()
    second, _ = take(write(tmp_path / "b", images, seed=2, stem="ZZ"))
    assert np.array_equal(first.hu, phantom_hu())
    assert np.array_equal(first.hu, second.hu)
    assert np.array_equal(first.affine, second.affine)
    assert first.record == second.record
    for number, image in enumerate(images):
        image.InstanceNumber = number
    third, _ = take(write(tmp_path / "c", images))
    assert np.array_equal(first.hu, third.hu)


def test_hounsfield_units_are_exact_with_a_rescale_that_changes_from_slice_to_slice(tmp_path: Path) -> None:
    images = make_series()
    for number, image in enumerate(images):
        image.RescaleSlope, image.RescaleIntercept = "2" if number % 2 else "1", str(-1024 - 10 * number)
        slope = 2 if number % 2 else 1
        store(image, (phantom_hu()[number].astype(int) + 1024 + 10 * number) // slope)
    scan, _ = take(write(tmp_path, images))
    error = scan.hu.astype(int) - phantom_hu()
    assert np.all(error[0::2] == 0)
    assert np.all((error[1::2] == 0) | (error[1::2] == -1))  # halved when stored
    assert any("slice by slice" in sentence for sentence in scan.record.corrections)


def test_a_fractional_rescale_rounds_to_the_nearest(tmp_path: Path) -> None:
    images = make_series()
    for image in images:
        image.RescaleSlope, image.RescaleIntercept = "0.4", "-1000.3"
        stored = np.tile(np.arange(SHAPE[2]), (SHAPE[1], 1)) * 101
        store(image, stored)
    scan, _ = take(write(tmp_path, images))
    assert np.array_equal(scan.hu[0, 0], np.rint(np.arange(SHAPE[2]) * 101 * 0.4 - 1000.3))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
def test_signed_and_unsigned_of_any_stored_bits_give_the_same_volume(tmp_path: Path, signed: bool, bits: int) -> None:
    images = make_series()
    for number, image in enumerate(images):
        image.PixelRepresentation, image.BitsStored, image.HighBit = int(signed), bits, bits - 1
        image.RescaleIntercept = "0" if signed else "-1024"
        store(image, phantom_hu()[number].astype(int) + (0 if signed else 1024))
    scan, _ = take(write(tmp_path, images))
    assert np.array_equal(scan.hu, phantom_hu())


def test_bits_above_the_stored_bits_are_cleared_and_said_so(tmp_path: Path) -> None:
    images = make_series()
    for number, image in enumerate(images):
        image.PixelRepresentation, image.BitsStored, image.HighBit = 0, 12, 11
        stored = phantom_hu()[number].astype(int) + 1024
        stored[0, 0] |= 0x8000
        store(image, stored)
    scan, _ = take(write(tmp_path, images))
    assert np.array_equal(scan.hu, phantom_hu())
    assert any(f"{SHAPE[0]} voxels had bits set" in sentence for sentence in scan.record.corrections)


@pytest.mark.parametrize("limit", [None, -1995])
def test_padding_becomes_minus_1024_and_tissue_of_the_same_hu_stays(tmp_path: Path, limit: int | None) -> None:
    images = make_series()
    for number, image in enumerate(images):
        image.add_new(0x00280120, "SS", -2000)
        image.RescaleIntercept = "0"
        if limit is not None:
            image.add_new(0x00280121, "SS", limit)
        stored = phantom_hu()[number].astype(int)
        stored[0, :5] = -2000 if limit is None else (-2000, -1999, -1998, -1996, -1995)
        store(image, stored)
    scan, _ = take(write(tmp_path, images))
    assert np.all(scan.hu[:, 0, :5] == -1024)
    assert np.array_equal(scan.hu[:, 1:], phantom_hu()[:, 1:])
    assert any(f"{5 * SHAPE[0]} voxels of padding" in sentence for sentence in scan.record.corrections)


def test_unsigned_padding_is_compared_before_the_rescale(tmp_path: Path) -> None:
    images = make_series()
    for number, image in enumerate(images):
        image.PixelRepresentation = 0
        image.add_new(0x00280120, "US", 63536)
        stored = phantom_hu()[number].astype(int) + 1024
        stored[0, 0] = 63536
        store(image, stored)
    scan, _ = take(write(tmp_path, images))
    assert scan.hu[0, 0, 0] == -1024
    assert scan.hu.max() == MARK


def test_values_beyond_int16_are_clipped_and_fill_below_air_is_raised(tmp_path: Path) -> None:
    images = make_series()
    for number, image in enumerate(images):
        image.PixelRepresentation = 0
        stored = phantom_hu()[number].astype(int) + 3024
        image.RescaleIntercept = "-3024"
        stored[0, 0], stored[0, 1] = 65535, 0
        store(image, stored)
    scan, _ = take(write(tmp_path, images))
    assert scan.hu[0, 0, 0] == 32767
    assert scan.hu[0, 0, 1] == -1024
    assert len([s for s in scan.record.corrections if "clipped" in s or "below -1024" in s]) == 2


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_uncompressed_syntax_gives_the_same_volume(tmp_path: Path, syntax: str) -> None:
    images = make_series()
    for image in images:
        image.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            image["PixelData"].VR = "OW"
            image.PixelData = np.frombuffer(image.PixelData, "<i2").astype(">i2").tobytes()
    scan, _ = take(write(tmp_path, images))
    assert np.array_equal(scan.hu, phantom_hu())


def test_compressed_slices_decode_to_the_same_volume_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    hu = np.pad(phantom_hu()[:6], ((0, 0), (0, 44), (0, 38)), constant_values=AIR)  # 64 x 64: the encoder wants so much
    images = make_series(hu)
    for number, image in enumerate(images):
        image.compress((RLELossless, JPEGLSLossless, JPEG2000Lossless)[number % 3], generate_instance_uid=False)
    scan, _ = take(write(tmp_path / "good", images))
    assert np.array_equal(scan.hu, hu)
    broken = bytearray(images[2].PixelData)
    broken[40:-8] = b"\xff" * (len(broken) - 48)
    images[2].PixelData = bytes(broken)
    assert "compressed image" in refusal(write(tmp_path / "bad", images))


@pytest.mark.parametrize("tilt_deg", [0.2, 0.45])
def test_a_slight_tilt_is_straightened_to_a_tenth_of_a_pixel(tmp_path: Path, tilt_deg: float) -> None:
    """A smooth body sampled on tilted slices must come out as the same body sampled on the straight grid."""
    slices, spacing_mm = 60, 2.0
    shift_mm = spacing_mm * math.tan(math.radians(tilt_deg))

    def body(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return -1000 + 1500 * np.exp(-(((x - 5.2) / 2.0) ** 2) - ((y - 5.0) / 2.2) ** 2)

    row, column = np.meshgrid(np.arange(20) * PIXEL_MM[0], np.arange(26) * PIXEL_MM[1], indexing="ij")
    tilted = np.stack([body(column, row + k * shift_mm) for k in range(slices)])
    images = make_series(tilted, offset_mm=(0.0, shift_mm), spacing_mm=spacing_mm)
    put(SliceThickness="2.0")(images)
    scan, _ = take(write(tmp_path, images))
    straight = body(column, row)
    inside = np.s_[:, 5:17, :]  # rows that every slice shows
    steepest = 1500 / 2.0 * math.sqrt(2 / math.e)  # HU per mm
    assert np.abs(scan.hu[:, :20] - straight)[inside].max() <= 0.1 * PIXEL_MM[1] * steepest
    assert world(scan, slice_=0, row=0, column=0) == pytest.approx([-31.25, 12.5, 100.0], abs=1e-6)
    assert scan.hu.shape == (slices, 20 + math.ceil(shift_mm * (slices - 1) / PIXEL_MM[0]), 26)
    assert any("gantry tilt" in sentence for sentence in scan.record.corrections)


# --- refusals: just inside and just outside --------------------------------------------------------------------------


def tilted_by(angle_deg: float) -> list[Dataset]:
    return make_series(offset_mm=(0.0, SPACING_MM * math.tan(math.radians(angle_deg))))


def one_slice_moved(by_mm: float) -> list[Dataset]:
    places = [index * 1.0 for index in range(SHAPE[0])]
    places[5] += by_mm
    return make_series(places_mm=places)


def sideways(by_mm: float) -> list[Dataset]:
    images = make_series()
    images[5].ImagePositionPatient = [ds(float(images[5].ImagePositionPatient[0]) + by_mm), *images[5].ImagePositionPatient[1:]]
    return images


def skewed_axes(by: float) -> list[Dataset]:
    return make_series(orientation=(1.0, 0.0, 0.0, by, 1.0, 0.0))


def one_turned_slice(by: float) -> list[Dataset]:
    images = make_series()
    images[4].ImageOrientationPatient = [1, 0, 0, ds(by), 1, 0]
    return images


def air_at(level: float) -> list[Dataset]:
    return make_series(np.where(phantom_hu() == AIR, level, phantom_hu()))


LIMITS: dict[str, tuple[Callable[[float], list[Dataset]], float, float, str]] = {
    "leaning": (tilted_by, 44.9, 45.1, "lean by 45.10 deg"),
    "beside the line": (sideways, 0.09, 0.12, "0.12 mm beside"),
    "perpendicular axes": (skewed_axes, 0.0009, 0.0012, "off perpendicular unit vectors"),
    "one orientation": (one_turned_slice, 0.00009, 0.0002, "1 slice missing"),  # the turned one is a stack of its own
    "air": (air_at, -941, -938, "air is at -938 HU, -1060 to -940 HU"),
    "air below": (air_at, -1059, -1062, "air is at -1062 HU"),
}


@pytest.mark.parametrize(("build", "inside", "outside", "words"), LIMITS.values(), ids=LIMITS.keys())
def test_each_limit_holds_just_inside_and_refuses_just_outside(
    tmp_path: Path, build: Callable[[float], list[Dataset]], inside: float, outside: float, words: str
) -> None:
    take(write(tmp_path / "inside", build(inside)))
    assert words in refusal(write(tmp_path / "outside", build(outside)))


PROTOCOL_LIMITS = {
    "max_slice_spacing_mm": (SPACING_MM, 0.79, "slice spacing is 0.8 mm, at most 0.79 mm"),
    "max_slice_thickness_mm": (1.0, 0.99, "slice thickness is 1 mm, at most 0.99 mm"),
    "max_pixel_mm": (0.5, 0.49, "pixel size is 0.5 mm, at most 0.49 mm"),
    "min_slices": (12, 13, "number of slices is 12, at least 13"),
}


@pytest.mark.parametrize(
    ("key", "inside", "outside", "words"), [(k, *v) for k, v in PROTOCOL_LIMITS.items()], ids=PROTOCOL_LIMITS.keys()
)
def test_the_protocol_is_gated_at_its_own_limits(tmp_path: Path, key: str, inside: float, outside: float, words: str) -> None:
    study = write(tmp_path, tilted_by(0.3))
    limits = {**LOOSE.model_dump(), "warn_slice_spacing_mm": 0.5}
    scan, _ = take(study, Protocol(**{**limits, key: inside + (0 if key == "min_slices" else 1e-6)}))
    assert {finding.verdict for finding in scan.findings} == {"pass", "warn"}
    strict = Protocol(**{**limits, key: outside})
    assert words in refusal(study, strict)
    with pytest.raises(SeriesError, match="at"):
        admit(study, strict)


def test_a_refusal_by_protocol_lists_every_fault(tmp_path: Path) -> None:
    strict = Protocol(**{**LOOSE.model_dump(), "max_pixel_mm": 0.1, "max_slice_spacing_mm": 0.2, "min_slices": 99})
    said = refusal(write(tmp_path, make_series()), strict)
    assert "pixel size" in said
    assert "slice spacing" in said
    assert "number of slices" in said


def test_slices_that_do_not_touch_are_refused(tmp_path: Path) -> None:
    images = make_series()
    for image in images:
        image.SliceThickness = "0.8"
    take(write(tmp_path / "touching", images))
    for image in images:
        image.SliceThickness = "0.78"
    assert "slice spacing against thickness is 0.8 mm" in refusal(write(tmp_path / "apart", images))


@pytest.mark.parametrize(("lost", "words"), [((4,), "1 slice missing"), ((4, 5, 8), "3 slices missing")])
def test_missing_slices_are_counted_and_refused(tmp_path: Path, lost: tuple[int, ...], words: str) -> None:
    kept = [image for number, image in enumerate(make_series()) if number not in lost]
    assert words in refusal(write(tmp_path, kept))


def test_two_images_at_one_position_are_refused_and_identical_copies_are_not(tmp_path: Path) -> None:
    images = make_series()
    copied = write(tmp_path / "copied", images)
    write(copied / "again", images, seed=3)
    scan, _ = take(copied)
    assert scan.hu.shape == SHAPE
    assert scan.record.ignored == (f"identical copies of CT images: {SHAPE[0]}",)
    other = make_series()[5]
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = uid("other")
    other.PixelData = bytes(2) + other.PixelData[2:]
    assert "two images lie at one position" in refusal(write(tmp_path / "double", [*images, other]))


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_no_false_alarm(tmp_path: Path) -> None:
    places = [round(index * 0.625, 1) for index in range(SHAPE[0])]
    images = make_series(places_mm=places)
    for image, place in zip(images, places, strict=True):
        image.ImagePositionPatient = ["-31.2", "12.5", f"{100 + place:.1f}"]
    scan, _ = take(write(tmp_path, images))
    assert scan.spacing_mm[2] == pytest.approx(0.625, abs=0.1 / (SHAPE[0] - 1))


def drop(keyword: str) -> Callable[[list[Dataset]], None]:
    def change(images: list[Dataset]) -> None:
        for image in images:
            delattr(image, keyword)

    return change


def put(**values: Any) -> Callable[[list[Dataset]], None]:
    def change(images: list[Dataset]) -> None:
        for image in images:
            for keyword, value in values.items():
                setattr(image, keyword, value)

    return change


def cut_off(images: list[Dataset]) -> None:
    images[7].PixelData = images[7].PixelData[:-2]


BROKEN: dict[str, tuple[Callable[[list[Dataset]], None], str]] = {
    "no rescale": (drop("RescaleSlope"), "no rescale slope and intercept"),
    "zero slope": (put(RescaleSlope="0"), "rescale slope is 0"),
    "rescale to something else": (put(RescaleType="OD"), "not Hounsfield units"),
    "no position": (drop("ImagePositionPatient"), "no valid position"),
    "no orientation": (drop("ImageOrientationPatient"), "orientation is missing"),
    "no pixel spacing": (drop("PixelSpacing"), "pixel spacing is missing"),
    "huge pixel spacing": (put(PixelSpacing=[25, 25]), "pixel spacing is 25 mm"),
    "no pixels": (drop("PixelData"), "no integer pixel data"),
    "cut off": (cut_off, "cut off: 1038 bytes, at least 1040 bytes"),
    "size beyond the data": (put(Rows=2000, Columns=2000), "cut off"),
    "absurd size": (put(Rows=60000), "60000 rows"),
    "colour": (put(SamplesPerPixel=3), "3 samples per pixel"),
    "shifted bits": (put(BitsStored=12), "high bit 15"),
    "lossy": (put(LossyImageCompression="01"), "compressed with loss"),
    "multi-frame": (put(NumberOfFrames=2), "multi-frame objects of a single-frame class: 12"),
    "MR instead": (put(Modality="MR"), "MR objects: 12"),
    "quadruped": (put(AnatomicalOrientationType="QUADRUPED"), "images of quadrupeds: 12"),
    "localizers only": (put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizers: 12"),
    "all positive": (put(RescaleIntercept="0"), "the lowest value is 24 HU"),
    "far too low": (put(RescaleIntercept="-2024"), "air is at"),
}


@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_series_are_refused_by_name(tmp_path: Path, change: Callable[[list[Dataset]], None], words: str) -> None:
    images = make_series()
    if words == "air is at":  # noise, as every scanner has it: a fill value has none
        noise = np.random.default_rng(7).integers(-20, 21, SHAPE)
        images = make_series(phantom_hu() + noise)
        words = "of the voxels are below -1300 HU"
    change(images)
    assert words in refusal(write(tmp_path, images))


def test_lossy_images_are_taken_when_the_protocol_allows_them(tmp_path: Path) -> None:
    images = make_series()
    put(LossyImageCompression="01")(images)
    take(write(tmp_path, images), LOOSE.model_copy(update={"allow_lossy": True}))


def test_a_scan_without_air_is_taken_with_a_warning() -> None:
    body = np.random.default_rng(1).normal(40, 60, (20, 64, 64)).astype(np.int16)
    assert [finding.verdict for finding in check_hounsfield(body)] == ["warn"]
    lung = np.random.default_rng(1).normal(-850, 70, (20, 64, 64)).astype(np.int16)
    assert [finding.verdict for finding in check_hounsfield(np.concatenate([body, lung]))] == ["warn"]


# --- what is in a study ----------------------------------------------------------------------------------------------


def test_the_right_series_is_found_in_a_mess(tmp_path: Path) -> None:
    write(tmp_path / "a", make_series())
    thick = make_series(name="thick", spacing_mm=1.0)[:6]
    write(tmp_path / "b", thick)
    scout = make_series(name="one")[:2]  # in the same series as the slices
    for number, image in enumerate(scout):
        image.SOPInstanceUID = uid("scout", number)
        image.ImageType, image.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], [0, 1, 0, 0, 0, -1]
    write(tmp_path / "a", scout, stem="SC")
    dose = make_series(name="dose")[:1]
    dose[0].ImageType = ["DERIVED", "SECONDARY", "DOSE_INFO"]
    write(tmp_path / "c", dose)
    derived = make_series(np.concatenate([phantom_hu(), phantom_hu()]), name="mpr")
    put(ImageType=["DERIVED", "SECONDARY", "MPR"])(derived)
    write(tmp_path / "d", derived)
    (tmp_path / "README.txt").write_text("not an image")
    (tmp_path / "fake.dcm").write_text("nor this")
    scan, identity = take(tmp_path)
    assert np.array_equal(scan.hu, phantom_hu())
    assert identity.series_instance_uid == uid("series", "one")
    assert scan.record.ignored == (
        "captures (dose, text or screen): 1",
        "files that are not DICOM: 2",
        "images of other CT series: 30",
        "localizers: 2",
    )
    summaries = inspect_study(tmp_path)
    assert [one.images for one in summaries if one.readable] == [12, 6, 24]
    assert summaries[0].shape == SHAPE
    assert all(finding.verdict == "pass" for finding in summaries[0].findings(LOOSE))


def test_two_equally_good_series_are_said_to_be_so(tmp_path: Path) -> None:
    soft = make_series(name="two")
    put(ConvolutionKernel="B30")(soft)
    write(tmp_path / "a", make_series())
    write(tmp_path / "b", soft)
    first, _ = take(tmp_path)
    assert any("2 series are equally good (kernels" in sentence for sentence in first.record.corrections)
    (tmp_path / "a").rename(tmp_path / "z")
    again, _ = take(tmp_path)
    assert again.record == first.record


def test_a_series_that_meets_the_protocol_is_preferred_to_one_with_more_slices(tmp_path: Path) -> None:
    write(tmp_path / "a", make_series())
    more = make_series(np.concatenate([phantom_hu(), phantom_hu()]), name="more")
    put(SliceThickness="3")(more)
    write(tmp_path / "b", more)
    scan, _ = take(tmp_path, LOOSE.model_copy(update={"max_slice_thickness_mm": 2.0}))
    assert scan.hu.shape == SHAPE


def test_two_patients_in_one_study_are_refused_and_two_examinations_are_pointed_out(tmp_path: Path) -> None:
    write(tmp_path / "a", make_series())
    prior = make_series(name="prior")[:6]
    put(StudyInstanceUID=uid("prior"))(prior)
    write(tmp_path / "b", prior)
    scan, _ = take(tmp_path)
    warned = [finding for finding in scan.findings if finding.check == "examinations"]
    assert [(finding.value, finding.verdict) for finding in warned] == [(2.0, "warn")]
    put(PatientID="BETA-0002")(prior)
    write(tmp_path / "b", prior)
    assert "CT images of 2 patients, must be 1" in refusal(tmp_path)


def test_a_lost_last_slice_is_pointed_out(tmp_path: Path) -> None:
    images = make_series()
    study = write(tmp_path, images)
    last = next(path for path in study.rglob("IM*") if pydicom.dcmread(path).SOPInstanceUID == images[-1].SOPInstanceUID)
    last.write_bytes(last.read_bytes()[:300])
    scan, _ = take(study)
    assert scan.hu.shape[0] == SHAPE[0] - 1
    assert [finding.value for finding in scan.findings if finding.check == "unreadable-files"] == [1.0]


def test_a_frame_of_reference_replaced_image_by_image_is_taken_as_one(tmp_path: Path) -> None:
    images = make_series()
    for number, image in enumerate(images):
        image.FrameOfReferenceUID = uid("frame", number)
    scan, _ = take(write(tmp_path, images))
    assert scan.hu.shape == SHAPE
    assert any("frame of reference" in sentence for sentence in scan.record.corrections)


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", make_series())
    study = tmp_path / "study"
    study.mkdir()
    (study / "link").symlink_to(outside)
    (study / "file").symlink_to(next(path for path in outside.rglob("*") if path.is_file()))
    assert "0 files" in refusal(study)
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPInstanceUID = uid("directory")
    directory.FileSetID = "ALPHA"
    item = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom: such a name is not allowed
        item.ReferencedFileID = ["..", "outside", "IM0000"]
        directory.DirectoryRecordSequence = ItemSequence([item])
        pydicom.dcmwrite(study / "DICOMDIR", directory, enforce_file_format=True)
    assert "DICOM directories: 1, symbolic links: 2" in refusal(study)


def test_empty_missing_and_foreign_studies_are_refused(tmp_path: Path) -> None:
    assert "0 files" in refusal(tmp_path)
    assert "not there" in refusal(tmp_path / "nowhere")
    (tmp_path / "letter.dcm").write_text("Dear colleague")
    assert "no DICOM file (it holds files that are not DICOM: 1)" in refusal(tmp_path)
    (tmp_path / "stump.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00")
    assert "unreadable DICOM files: 1" in refusal(tmp_path)


def test_a_folder_with_one_volume_file_says_to_give_the_file_and_not_its_name(tmp_path: Path) -> None:
    def told() -> tuple[str, str]:
        with pytest.raises(SeriesError) as caught:
            take(tmp_path)
        tree = inspect_for(tmp_path, "cranial-implant").tree
        assert not tree["usable"]
        return caught.value.hint, "; ".join(tree["families"]["cranial-implant"]["ask"])

    (tmp_path / "TEST ALPHA.NII.GZ").write_bytes(b"\0" * 400)
    (tmp_path / "notes.txt").write_text("Dear colleague")
    for text in told():
        assert "give that file itself, --study FOLDER/*.nii.gz" in text
        assert "ALPHA" not in text
    (tmp_path / "other.mha").write_bytes(b"\0" * 400)  # two: which one is meant, nobody says
    assert told() == ("give the DICOM folder", "")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_FILES == 6000
    study = write(tmp_path, make_series())
    monkeypatch.setattr("batchone.pipeline.intake.package.MAX_FILES", SHAPE[0])
    take(study)
    monkeypatch.setattr("batchone.pipeline.intake.package.MAX_FILES", SHAPE[0] - 1)
    assert "more than 11 files" in refusal(study)


def test_a_series_beyond_the_memory_limit_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write(tmp_path, make_series())
    monkeypatch.setattr("batchone.pipeline.intake.series.MAX_SERIES_BYTES", math.prod(SHAPE) * 2 - 1)
    assert "unpacks to" in refusal(study)


# --- zips ------------------------------------------------------------------------------------------------------------


def packed(study: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(study.rglob("*")):
            archive.write(path, path.relative_to(study))
    return target


def noisy() -> np.ndarray:
    return np.asarray(phantom_hu() + np.random.default_rng(3).integers(-15, 16, SHAPE), dtype=np.int16)


def test_a_zip_and_its_folder_give_the_same_scan_and_digest(tmp_path: Path) -> None:
    folder = write(tmp_path / "study", make_series(noisy()))
    archive = packed(folder, tmp_path / "study.zip")
    first, who = take(folder)
    second, also = take(archive)
    assert np.array_equal(first.hu, second.hu)
    assert first.record == second.record
    assert who == also
    contents = sorted(hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file())
    assert study_digest(folder) == study_digest(archive) == hashlib.sha256(b"".join(contents)).hexdigest()
    assert first.record.sources_digest == study_digest(folder)  # here every file of the study belongs to the series
    one = next(path for path in folder.rglob("*") if path.is_file())
    before = study_digest(folder)
    one.rename(one.with_name("renamed"))
    assert study_digest(folder) == before
    one.with_name("renamed").write_bytes(b"x")
    assert study_digest(folder) != before


@pytest.mark.parametrize("name", ["../up.dcm", "/etc/up.dcm", "a/../../up.dcm", "..\\up.dcm", "C:\\up.dcm"])
def test_a_zip_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, b"x")
    assert "zip entry 1 of 1 points outside" in refusal(tmp_path / "bad.zip")


def test_a_zip_with_links_doubles_or_a_bomb_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    assert "symbolic link" in refusal(tmp_path / "link.zip")
    with zipfile.ZipFile(tmp_path / "double.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    assert "two entries of one name" in refusal(tmp_path / "double.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10_000_000))
    assert "times its size, at most 100 times" in refusal(tmp_path / "bomb.zip")
    whole = (tmp_path / "bomb.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 3])
    refusal(tmp_path / "cut.zip")


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    archive = packed(write(tmp_path / "study", make_series(noisy())), tmp_path / "study.zip")
    content = bytearray(archive.read_bytes())
    content[3000:3200] = bytes(200)
    archive.write_bytes(content)
    assert "damaged" in refusal(archive)


# --- identity --------------------------------------------------------------------------------------------------------

SECRETS = ("ALPHA", "TEST^", "ALPHA-0001", "19700101", "ACC-ALPHA", "20260102")


def test_the_identity_is_read_and_stays_in_the_identity(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scan, identity = take(write(tmp_path / "ALPHA_TEST", make_series(), stem="ALPHA"))
    assert identity.patient_name == "TEST^ALPHA"
    assert identity.patient_id == "ALPHA-0001"
    assert (identity.birth_date, identity.sex, identity.study_date) == ("19700101", "O", "20260102")
    assert identity.accession_number == "ACC-ALPHA"
    assert identity.study_instance_uid == uid("study")
    assert identity.frame_of_reference_uid == uid("frame")
    text = repr(scan.record) + repr(scan.findings) + caplog.text
    held = pickle.dumps(scan)
    for secret in (*SECRETS, uid("study"), uid("frame"), uid("series", "one"), uid("one", 0)):
        assert secret not in text
        assert secret.encode() not in held


@pytest.mark.parametrize("change", [case[0] for case in BROKEN.values()], ids=BROKEN.keys())
def test_no_refusal_names_the_patient_or_a_file(tmp_path: Path, change: Callable[[list[Dataset]], None]) -> None:
    images = make_series()
    change(images)
    study = write(tmp_path / "ALPHA_TEST", images, stem="ALPHA")
    try:
        take(study)
    except SeriesError as error:
        said = str(error) + error.hint + repr(error)
        assert not any(secret in said for secret in (*SECRETS, str(tmp_path)))
    for summary in inspect_study(study):
        assert not any(secret in repr(summary) for secret in SECRETS)


@pytest.mark.parametrize(
    ("charset", "name"), [("ISO_IR 192", "TEST^ÅLPHA"), ("ISO_IR 100", "TEST^ÄLPHA"), ("ISO 2022 IR 87", "TEST^ALPHA=試験^甲")]
)
def test_a_name_keeps_its_letters(tmp_path: Path, charset: str, name: str) -> None:
    images = make_series()
    for image in images:
        image.SpecificCharacterSet = ["", charset] if charset.startswith("ISO 2022") else charset
        image.PatientName = name
    _, identity = take(write(tmp_path, images))
    assert identity.patient_name == name


# --- headers ---------------------------------------------------------------------------------------------------------

INTEGERS = {"Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"}


def as_pydicom(image: Dataset, keyword: str) -> Any:
    value = image.get(keyword)
    if keyword in INTEGERS:
        return value
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str(value)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_a_header_reads_as_pydicom_reads_it_through_nested_sequences(tmp_path: Path, syntax: str) -> None:
    image = make_series()[0]
    inner, outer = Dataset(), Dataset()
    inner.Rows, inner.Modality = 7, "MR"
    outer.ReferencedImageSequence = ItemSequence([inner, inner])
    image.ReferencedStudySequence = ItemSequence([outer])
    image["ReferencedStudySequence"].is_undefined_length = True
    outer["ReferencedImageSequence"].is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    image.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(tmp_path / "image", image, enforce_file_format=True)
    found = read_header(FileSource(tmp_path / "image", (tmp_path / "image").stat().st_size))
    assert found is not None
    again = pydicom.dcmread(tmp_path / "image")
    for keyword in set(TAGS) - {"PixelPaddingValue", "PixelPaddingRangeLimit"}:
        mine = found.integer(keyword) if keyword in INTEGERS else found.text(keyword)
        assert mine == as_pydicom(again, keyword), keyword
    assert found.pixels_at is not None
    assert found.open().read(found.pixels_at, found.pixels_bytes) == again.PixelData


def test_a_header_longer_than_the_first_read_is_read(tmp_path: Path) -> None:
    image = make_series()[0]
    image.add_new(0x00091010, "OB", bytes(300_000))
    pydicom.dcmwrite(tmp_path / "image", image, enforce_file_format=True)
    found = read_header(FileSource(tmp_path / "image", (tmp_path / "image").stat().st_size))
    assert found is not None
    assert found.integer("Rows") == SHAPE[1]


@pytest.mark.parametrize(
    ("depth", "readable"),
    [(dicom_header.MAX_SEQUENCE_DEPTH, True), (dicom_header.MAX_SEQUENCE_DEPTH + 1, False), (50_000, False)],
)
def test_sequences_nest_to_a_limit(depth: int, readable: bool) -> None:
    open_ = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    close = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    meta = b"\x02\x00\x10\x00UI\x14\x00" + b"1.2.840.10008.1.2.1\0"
    source = MemorySource(bytes(128) + b"DICM" + meta + open_ * depth + close * depth)
    if readable:
        assert read_header(source) is not None
    else:
        with pytest.raises(Unreadable):
            read_header(source)


def test_a_thousand_damaged_headers_never_crash() -> None:
    import io

    image = make_series()[0]
    image.ReferencedStudySequence = ItemSequence([Dataset()])
    image["ReferencedStudySequence"].is_undefined_length = True
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, image, enforce_file_format=True)
    whole = buffer.getvalue()
    rng = random.Random(11)
    outcomes: set[bool | str] = set()
    for _ in range(1000):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(128, len(whole) - 1040)] = rng.randrange(256)
        try:
            outcomes.add(read_header(MemorySource(bytes(content[: rng.randint(200, len(content))]))) is None)
        except Unreadable:
            outcomes.add("unreadable")
    assert outcomes >= {False, "unreadable"}


def test_a_series_with_damaged_files_loads_or_is_refused(tmp_path: Path) -> None:
    rng = random.Random(5)
    study = write(tmp_path, make_series())
    files = sorted(path for path in study.rglob("*") if path.is_file())
    whole = [path.read_bytes() for path in files]
    for _ in range(60):
        chosen = rng.randrange(len(files))
        content = bytearray(whole[chosen])
        for _ in range(3):
            content[rng.randrange(132, len(content) - 1040)] = rng.randrange(256)
        files[chosen].write_bytes(content)
        with contextlib.suppress(SeriesError):
            scan, _ = take(study)
            assert scan.hu.shape == SHAPE or scan.record.ignored
        files[chosen].write_bytes(whole[chosen])


# --- volume files ----------------------------------------------------------------------------------------------------


def write_volume(path: Path, hu: np.ndarray, *, directions: np.ndarray, pixel_type: type = np.int16) -> Path:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(hu.astype(pixel_type))
    image.SetSpacing((0.4, 0.5, 0.8))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection([float(value) for value in directions.ravel()])
    SimpleITK.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii", "scan.nrrd", "scan.mha"])
@pytest.mark.parametrize("handed", [1.0, -1.0])
def test_a_volume_file_keeps_its_place_in_the_patient(tmp_path: Path, name: str, handed: float) -> None:
    directions = np.array((*direction(25.0, about="z"), 0.0, 0.0, 1.0)).reshape(3, 3).T
    directions[:, 1] *= handed
    study = write_volume(tmp_path / name, phantom_hu(), directions=directions, pixel_type=np.float32)
    scan, identity = take(study)
    expected = np.array([-10.0, 20.0, 30.0]) + directions @ (np.array([17, 6, 3]) * [0.4, 0.5, 0.8])
    assert brightest(scan) == pytest.approx(expected, abs=1e-4)  # mm; NIfTI holds single precision
    assert np.linalg.det(scan.affine[:3, :3]) > 0
    assert identity == Identity("", "", "", "", "", "", "", "", "")
    assert "no series metadata" in scan.record.corrections[0]
    assert inspect_study(study)[0].shape == SHAPE


def test_a_volume_file_that_points_elsewhere_is_skewed_or_damaged_is_refused(tmp_path: Path) -> None:
    good = write_volume(tmp_path / "good.mha", phantom_hu(), directions=np.eye(3))
    content = good.read_bytes()
    (tmp_path / "away.mha").write_bytes(content.replace(b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/hostname"))
    assert "points to another file" in refusal(tmp_path / "away.mha")
    (tmp_path / "cut.mha").write_bytes(content[:2000])
    assert "cannot be read" in refusal(tmp_path / "cut.mha")
    (tmp_path / "fake.nii.gz").write_text("not a volume")
    assert "cannot be read" in refusal(tmp_path / "fake.nii.gz")
    (tmp_path / "split.nhdr").write_text("NRRD0004\n")
    assert "split" in refusal(tmp_path / "split.nhdr")
    positive = write_volume(tmp_path / "labels.nrrd", np.abs(phantom_hu()), directions=np.eye(3))
    assert "not in Hounsfield units" in refusal(positive)


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_the_head_phantom_is_found_in_its_whole_messy_study(test_data: Path) -> None:
    family = LOOSE.model_copy(
        update={"max_slice_spacing_mm": 1.25, "max_slice_thickness_mm": 1.25, "max_pixel_mm": 0.5, "min_slices": 20}
    )
    scan, identity = take(test_data / "head-phantom.zip", family)
    assert scan.hu.shape == (140, 512, 512)
    assert scan.spacing_mm == pytest.approx((0.451171875, 0.451171875, 1.0), abs=1e-9)
    assert identity.patient_name not in repr(scan.record)
    assert scan.record.ignored == (
        "DICOM directories: 4",
        "captures (dose, text or screen): 3",
        "files that are not DICOM: 1",
        "localizers: 4",
    )
    assert scan.record.corrections == ()


@pytest.mark.data
def test_real_compressed_slices_equal_the_reference(test_data: Path) -> None:
    """The NEMA images in each lossless syntax hold the pixels of the uncompressed reference."""
    from batchone.pipeline.intake.pixels import pixel_format
    from batchone.pipeline.intake.series import Stack
    from batchone.pipeline.intake.volume import read_volume

    folder = test_data / "awkward/nema_wg04/medical.nema.org"
    parts = {
        "RLE": "compsamples_rle_20040210",
        "JPLL": "compsamples_jpeg",
        "JLSL": "compsamples_jpegls",
        "J2KR": "compsamples_j2k",
    }

    def headers(where: Path) -> list[dicom_header.Header]:
        found = [read_header(FileSource(path, path.stat().st_size)) for path in sorted(where.iterdir())]
        return [header for header in found if header is not None]

    def volume(where: Sequence[dicom_header.Header]) -> np.ndarray:
        return read_volume(Stack(tuple(where), formats=tuple(pixel_format(header) for header in where))).hu

    reference = volume(headers(folder / "compsamples_refanddir/IMAGES/REF"))
    together = [header for name, part in parts.items() for header in headers(folder / part / "IMAGES" / name)]
    assert len(together) == 8
    for pixels in volume(together).reshape(4, 2, 512, 512):
        assert any(np.array_equal(pixels, order) for order in (reference, reference[::-1]))


@pytest.mark.data
def test_hostile_files_load_or_are_refused_at_once(test_data: Path) -> None:
    files = sorted((test_data / "hostile/dicom").rglob("*.dcm"))
    assert len(files) >= 160
    for path in files[::4]:
        for summary in inspect_study(path):
            assert summary.readable or summary.reason
        refusal(path)


@pytest.mark.data
def test_real_headers_read_as_pydicom_reads_them(test_data: Path) -> None:
    compared = 0
    for path in sorted((test_data / "awkward").rglob("*")):
        if not path.is_file() or path.suffix in {".gz", ".nrrd", ".png", ".jpg"}:
            continue
        found = read_header(FileSource(path, path.stat().st_size))
        if found is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = pydicom.dcmread(path, stop_before_pixels=True)
        for keyword in INTEGERS:
            assert found.integer(keyword) == image.get(keyword), keyword
        for keyword in ("ImagePositionPatient", "PixelSpacing", "RescaleIntercept", "SliceThickness"):
            numbers = image.get(keyword)
            expected = None if numbers is None else tuple(np.atleast_1d(np.array(numbers, dtype=float)).tolist())
            assert found.numbers(keyword) == expected, keyword
        compared += 1
    assert compared >= 200
