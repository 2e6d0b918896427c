"""Writes a scan as a real DICOM CT series, as messy as hospitals send them; the bytes depend on the input alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from batchone.pipeline.values import FloatArray, HuArray
from batchone.samples.demo import demo_scan

INTERCEPT_HU = -1024  # HU of stored value 0, as most scanners write it
DATE, TIME = "20261105", "101500.000000"  # fixed: nothing in a sample depends on the clock
WINDOW_CENTRE_HU, WINDOW_WIDTH_HU = 500.0, 2500.0  # HU, a bone window
_UINT12 = 4095


def write_series(
    hu: HuArray,
    affine: FloatArray,
    folder: Path,
    *,
    modality: str = "CT",
    patient_name: str = "TEST^ALPHA",
    patient_id: str = "TEST-0001",
    seed: int = 1,
    window_hu: tuple[float, float] = (WINDOW_CENTRE_HU, WINDOW_WIDTH_HU),
    slice_order_shuffled: bool = True,
    mess: bool = False,
    body_part: str = "HEAD",
) -> list[Path]:
    """Write one file per slice.

    Parameters
    ----------
    hu
        (slices, rows, columns) int16 HU, -1024 to 64511.
    affine
        (4, 4) (column, row, slice) -> LPS mm.
    folder
        Is made where absent.
    seed
        With the content, source of all UIDs and file names.
    window_hu
        Centre and width that viewers start with.
    slice_order_shuffled
        Neither file names nor instance numbers follow the position.
    mess
        Add a localizer, a dose report as a secondary capture, and a text file.
    body_part
        What the scanner says that was examined, a defined term of DICOM.

    Returns
    -------
    list of Path
        The slices' files, by ascending slice index of ``hu``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = _digest(hu, affine, patient_name, patient_id, modality, str(seed))
    order = np.random.default_rng(seed).permutation(len(hu)) if slice_order_shuffled else np.arange(len(hu))
    common = _common(digest, modality, patient_name, patient_id, window_hu)
    common.BodyPartExamined = body_part
    series = _geometry(common, affine)
    written = []
    for k, image in enumerate(hu):
        item = Dataset()
        item.update(series)
        item.InstanceNumber = str(int(order[k]) + 1)
        item.ImagePositionPatient = [_ds(v) for v in affine[:3, 3] + k * affine[:3, 2]]
        item.SliceLocation = _ds(float(affine[:3, 3] @ _normal(affine)) + k * float(np.linalg.norm(affine[:3, 2])))
        item.SOPInstanceUID = _uid(digest, "slice", str(k))
        _put_pixels(item, image)
        name = hashlib.sha256(f"{digest} file {k}".encode()).hexdigest()[:8].upper()
        written.append(folder / (f"IM{name}" if slice_order_shuffled else f"IM{k:05d}.dcm"))
        _save(item, written[-1])
    if mess:
        _write_mess(hu, affine, folder, common, digest)
    return written


def write_demo(folder: Path, *, device: str, seed: int = 1) -> tuple[Path, Path]:
    """Write ``order.toml`` and ``study/`` (a messy CT study of a phantom) into ``folder``.

    Returns
    -------
    tuple of Path
        The order and the study folder. The same seed gives the same bytes.

    Raises
    ------
    OrderError
        There is no sample for that device.
    """
    sample = demo_scan(device, seed=seed)
    study, order = folder / "study", folder / "order.toml"
    write_series(sample.scan.hu, sample.scan.affine, study, seed=seed, mess=True, body_part=sample.body_part)
    order.write_text(sample.order, encoding="utf-8")
    return order, study


def _common(digest: str, modality: str, patient_name: str, patient_id: str, window_hu: tuple[float, float]) -> Dataset:
    """What all objects of the study share."""
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.SOPClassUID = CTImageStorage
    item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    item.StudyDate = item.SeriesDate = item.AcquisitionDate = item.ContentDate = DATE
    item.StudyTime = item.SeriesTime = item.AcquisitionTime = item.ContentTime = TIME
    item.AccessionNumber = "TEST-A-0001"
    item.Modality = modality
    item.Manufacturer = "batchone samples"
    item.ManufacturerModelName = "Phantom scanner"
    item.InstitutionName = "Test site"
    item.ReferringPhysicianName = "TEST^REFERRER"
    item.StudyDescription = "Phantom"
    item.SeriesDescription = "Thin bone"
    item.PatientName = patient_name
    item.PatientID = patient_id
    item.PatientBirthDate = "19700101"
    item.PatientSex = "O"
    item.PatientPosition = "HFS"
    item.StudyInstanceUID = _uid(digest, "study")
    item.SeriesInstanceUID = _uid(digest, "series")
    item.FrameOfReferenceUID = _uid(digest, "frame")
    item.StudyID = "1"
    item.SeriesNumber = "2"
    item.AcquisitionNumber = "1"
    item.PositionReferenceIndicator = ""
    if modality == "CT":
        item.KVP = "120"
        item.XRayTubeCurrent = "200"
        item.ConvolutionKernel = "BONE"
        item.GantryDetectorTilt = "0"
        item.RescaleIntercept = str(INTERCEPT_HU)
        item.RescaleSlope = "1"
        item.RescaleType = "HU"
    item.WindowCenter, item.WindowWidth = _ds(window_hu[0]), _ds(window_hu[1])
    return item


def _geometry(common: Dataset, affine: FloatArray) -> Dataset:
    """The shared headers and the geometry that all slices have."""
    item = Dataset()
    item.update(common)
    columns_mm, rows_mm, slices_mm = np.linalg.norm(affine[:3, :3], axis=0)
    item.PixelSpacing = [_ds(rows_mm), _ds(columns_mm)]
    item.SliceThickness = _ds(slices_mm)
    item.SpacingBetweenSlices = _ds(slices_mm)
    item.ImageOrientationPatient = [_ds(v) for v in np.concatenate([affine[:3, 0] / columns_mm, affine[:3, 1] / rows_mm])]
    return item


def _put_pixels(item: Dataset, image: HuArray) -> None:
    stored = image.astype(np.int32) - INTERCEPT_HU
    if stored.min() < 0:
        raise ValueError(f"HU {int(image.min())} is below {INTERCEPT_HU} HU and cannot be stored")
    bits = 12 if stored.max() <= _UINT12 else 16
    item.SamplesPerPixel = 1
    item.PhotometricInterpretation = "MONOCHROME2"
    item.Rows, item.Columns = image.shape
    item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, bits, bits - 1, 0
    item.PixelData = stored.astype("<u2").tobytes()
    item["PixelData"].VR = "OW"


def _write_mess(hu: HuArray, affine: FloatArray, folder: Path, common: Dataset, digest: str) -> None:
    """What arrives beside the slices: a localizer of another series, a dose page, a note."""
    localizer = Dataset()
    localizer.update(common)
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localizer.SeriesDescription, localizer.SeriesNumber, localizer.InstanceNumber = "Scout", "1", "1"
    localizer.SeriesInstanceUID, localizer.SOPInstanceUID = _uid(digest, "scout series"), _uid(digest, "scout")
    columns_mm, _, slices_mm = np.linalg.norm(affine[:3, :3], axis=0)
    localizer.PixelSpacing = [_ds(slices_mm), _ds(columns_mm)]
    localizer.SliceThickness = _ds(slices_mm)
    localizer.ImageOrientationPatient = [_ds(v) for v in np.concatenate([affine[:3, 0] / columns_mm, -affine[:3, 2] / slices_mm])]
    localizer.ImagePositionPatient = [_ds(v) for v in affine[:3, 3] + (len(hu) - 1) * affine[:3, 2]]
    _put_pixels(localizer, np.ascontiguousarray(hu.mean(axis=1)[::-1]).astype(np.int16))
    _save(localizer, folder / "IM0SCOUT1")
    dose = Dataset()
    dose.update(common)
    dose.SOPClassUID = SecondaryCaptureImageStorage
    dose.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    dose.ConversionType = "WSD"
    dose.SeriesDescription, dose.SeriesNumber, dose.InstanceNumber = "Dose report", "900", "1"
    dose.SeriesInstanceUID, dose.SOPInstanceUID = _uid(digest, "dose series"), _uid(digest, "dose")
    page = np.full((64, 96), INTERCEPT_HU, dtype=np.int16)
    page[8:56:8, 8:80] = 0
    _put_pixels(dose, page)
    _save(dose, folder / "IM0DOSE1")
    (folder / "README.TXT").write_text("Sent by the test site.\n", encoding="ascii")


def _save(item: Dataset, path: Path) -> None:
    item.file_meta = FileMetaDataset()
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.save_as(path, enforce_file_format=True)


def _normal(affine: FloatArray) -> FloatArray:
    return np.asarray(affine[:3, 2] / np.linalg.norm(affine[:3, 2]))


def _ds(value: float) -> DSfloat:
    """A decimal string of at most 16 characters, minus zero written as zero."""
    return DSfloat(float(value) + 0.0, auto_format=True)


def _digest(hu: HuArray, affine: FloatArray, *texts: str) -> str:
    total = hashlib.sha256(np.ascontiguousarray(hu, dtype="<i2").tobytes())
    total.update(np.ascontiguousarray(affine, dtype="<f8").tobytes())
    total.update("\0".join(texts).encode())
    return total.hexdigest()


def _uid(digest: str, *parts: str) -> str:
    return str(generate_uid(entropy_srcs=[digest, *parts]))
