"""Reads the DICOM objects of a job folder again and compares them with ``job.json``, the part files and the report.

Runs on the core install: pydicom and numpy only. Nothing but what the writer writes may be in an object, at any depth, so that
no identity can ride along.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from batchone.pipeline.job.manifest import DicomEntry, JobManifest, PartEntry
from batchone.pipeline.values import FloatArray

SEGMENTATION, REPORT = "dicom/segmentation.dcm", "dicom/report.dcm"
CLINICAL_REPORT = "clinical-report.pdf"
CORNER_MM = 0.01  # of a frame's corners; DICOM's decimal strings are good to far less
_PREFIX = b"\0" * 128 + b"DICM"
_EXPLICIT_LITTLE = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
_META_BYTES = 512  # the writer's file meta information ends before
_UNREADABLE = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error)
_SEG_CLASS, _STL_CLASS, _PDF_CLASS = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.104.3",
    "1.2.840.10008.5.1.4.1.1.104.1",
)
_EMPTY = ("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName", "PatientBirthDate", "PatientSex")
_KNOWN_WORDS = """
SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID StudyDate StudyTime AccessionNumber StudyID
ReferringPhysicianName PatientName PatientID PatientBirthDate PatientSex PatientIdentityRemoved DeidentificationMethod Modality
SeriesInstanceUID SeriesNumber SeriesDescription InstanceNumber Manufacturer ManufacturerModelName DeviceSerialNumber
SoftwareVersions SeriesDate ContentDate InstanceCreationDate SeriesTime ContentTime InstanceCreationTime TimezoneOffsetFromUTC
CodeValue CodingSchemeDesignator CodeMeaning ReferencedSOPClassUID ReferencedSOPInstanceUID ReferencedSeriesSequence
ReferencedInstanceSequence FrameOfReferenceUID PositionReferenceIndicator AcquisitionDateTime BurnedInAnnotation
RecognizableVisualFeatures DocumentTitle MIMETypeOfEncapsulatedDocument SourceInstanceSequence EncapsulatedDocument
EncapsulatedDocumentLength ConceptNameCodeSequence ConversionType MeasurementUnitsCodeSequence ModelModification ModelMirroring
ModelUsageCodeSequence ModelGroupUID ContentDescription AlgorithmFamilyCodeSequence AlgorithmName AlgorithmVersion
DerivationAlgorithmSequence ImageType SamplesPerPixel PhotometricInterpretation NumberOfFrames Rows Columns BitsAllocated
BitsStored HighBit PixelRepresentation LossyImageCompression ContentLabel ContentCreatorName SegmentationType SegmentSequence
SegmentNumber SegmentLabel SegmentAlgorithmType SegmentAlgorithmName SegmentedPropertyCategoryCodeSequence
SegmentedPropertyTypeModifierCodeSequence SegmentedPropertyTypeCodeSequence SegmentationAlgorithmIdentificationSequence
DimensionOrganizationUID DimensionOrganizationSequence DimensionIndexPointer FunctionalGroupPointer DimensionDescriptionLabel
DimensionIndexSequence PixelSpacing SliceThickness SpacingBetweenSlices ImageOrientationPatient PixelMeasuresSequence
PlaneOrientationSequence DimensionIndexValues ImagePositionPatient ReferencedSegmentNumber DerivationImageSequence
FrameContentSequence PlanePositionSequence SegmentIdentificationSequence PurposeOfReferenceCodeSequence
SpatialLocationsPreserved SourceImageSequence DerivationCodeSequence SharedFunctionalGroupsSequence
PerFrameFunctionalGroupsSequence PixelData SegmentsOverlap PresentationLUTShape DimensionOrganizationType
ContributingEquipmentSequence ContributionDescription
"""


def images_digest(uids: Sequence[str]) -> str:
    """SHA-256 over the UIDs of a scan's instances, in their order."""
    return hashlib.sha256("\n".join(uids).encode()).hexdigest()


def expected_names(manifest: JobManifest) -> tuple[str, ...]:
    """The DICOM objects that a job must hold."""
    return () if manifest.dicom is None else (SEGMENTATION, *manifest.dicom.models, REPORT)


def check_object(name: str, data: bytes, *, manifest: JobManifest, listed: Mapping[str, str]) -> list[str]:
    """Everything that is off in one object; empty when all is as it must be.

    Parameters
    ----------
    name
        Relative path, one of :func:`expected_names`.
    data
        The file.
    manifest
        ``job.json``.
    listed
        SHA-256 of every file of the folder.
    """
    from pydicom.errors import BytesLengthException

    if manifest.dicom is None:
        return ["job.json names no DICOM objects"]
    try:
        item = read_object(data)
        faults = _common_faults(item, data, manifest, manifest.dicom)
        if name == SEGMENTATION:
            return faults + _segmentation_faults(item, manifest, manifest.dicom)
        if name == REPORT:
            return faults + _document_faults(
                item, _PDF_CLASS, "application/pdf", listed.get(CLINICAL_REPORT, ""), CLINICAL_REPORT
            )
        part = manifest.parts[manifest.dicom.models.index(name)]
        return faults + _model_faults(item, part, manifest.dicom)
    except (*_UNREADABLE, BytesLengthException) as error:
        return [f"cannot be read as the object it must be: {type(error).__name__}"]


def read_object(data: bytes) -> Any:
    """The dataset of a file that this writer's kind of file meta information stands before.

    Raises
    ------
    ValueError
        Another preamble or transfer syntax.
    """
    from pydicom import dcmread

    if not data.startswith(_PREFIX) or _EXPLICIT_LITTLE not in data[:_META_BYTES]:
        raise ValueError("not a DICOM file in explicit VR little endian with an empty preamble")
    return dcmread(io.BytesIO(data))


def _common_faults(item: Any, data: bytes, manifest: JobManifest, entry: DicomEntry) -> list[str]:
    from batchone.pipeline.job.dicom_header import holds_own_uid

    faults = []
    for keyword in ("PatientName", "PatientID"):
        if str(item.get(keyword)) != manifest.case:
            faults.append(f"{keyword} is not the case code")
    faults += [f"{keyword} is not empty" for keyword in _EMPTY if item.get(keyword, "")]
    if item.get("PatientIdentityRemoved") != "YES":
        faults.append("PatientIdentityRemoved is not YES")
    if item.StudyInstanceUID != entry.study_uid:
        faults.append("StudyInstanceUID is not that of the scan in job.json")
    if item.file_meta.MediaStorageSOPInstanceUID != item.SOPInstanceUID:
        faults.append("file meta information names another instance")
    elif not holds_own_uid(data, str(item.SOPInstanceUID)):
        faults.append("SOPInstanceUID is not the digest of the object")
    faults += sorted({f"{where} does not belong there" for where in _foreign(item)})
    return faults


def _foreign(item: Any) -> Iterator[str]:
    """Elements that the writer does not write, at any depth."""
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    known = {tag_for_keyword(word) for word in _KNOWN_WORDS.split()}
    waiting = [item]
    while waiting:
        one = waiting.pop()
        for tag, element in list(one.items()):
            if int(tag) not in known:
                yield keyword_for_tag(tag) or f"element ({tag.group:04x},{tag.element:04x})"
            if element.VR == "SQ":
                waiting.extend(one[tag].value)  # and kept: it is read once


def _references(item: Any, entry: DicomEntry) -> list[str]:
    (series,) = item.ReferencedSeriesSequence
    uids = [str(one.ReferencedSOPInstanceUID) for one in series.ReferencedInstanceSequence]
    faults = []
    if series.SeriesInstanceUID != entry.series_uid or (len(uids), images_digest(uids)) != (entry.images, entry.images_digest):
        faults.append("does not refer to the images of the scan in job.json")
    if item.FrameOfReferenceUID != entry.frame_of_reference_uid:
        faults.append("FrameOfReferenceUID is not that of the scan in job.json")
    return faults


def _document_faults(item: Any, sop_class: str, kind: str, digest: str, file: str) -> list[str]:
    document, length = item.EncapsulatedDocument, int(item.EncapsulatedDocumentLength)
    faults = []
    if item.SOPClassUID != sop_class or item.MIMETypeOfEncapsulatedDocument != kind:
        faults.append(f"is no {kind}")
    if length + length % 2 != len(document) or any(document[length:]):
        faults.append(f"EncapsulatedDocumentLength is {length} bytes, the document has {len(document)} bytes")
    if hashlib.sha256(document[:length]).hexdigest() != digest:
        faults.append(f"does not carry the bytes of {file}")
    return faults


def _model_faults(item: Any, part: PartEntry, entry: DicomEntry) -> list[str]:
    faults = _document_faults(item, _STL_CLASS, "model/stl", part.stl_sha256, f"parts/{part.name}.stl")
    (unit,) = item.MeasurementUnitsCodeSequence
    if (unit.CodeValue, unit.CodingSchemeDesignator) != ("mm", "UCUM"):
        faults.append("unit is not mm")
    if item.ModelMirroring != "NO":
        faults.append("model is marked as mirrored")
    return faults + _references(item, entry)


def _segmentation_faults(item: Any, manifest: JobManifest, entry: DicomEntry) -> list[str]:
    faults = _references(item, entry)
    frames = len(entry.segments) * entry.slices
    found = (int(item.NumberOfFrames), int(item.Rows), int(item.Columns), int(item.BitsAllocated))
    wanted = (frames, entry.rows, entry.columns, 1)
    if item.SOPClassUID != _SEG_CLASS or item.SegmentationType != "BINARY" or found != wanted:
        return [*faults, f"frames, rows, columns, bits are {found}, must be {wanted}"]
    if [str(one.SegmentLabel) for one in item.SegmentSequence] != list(entry.segments):
        faults.append("segments are not those in job.json")
    numbers = [int(one.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for one in item.PerFrameFunctionalGroupsSequence]
    if numbers != [number for number in range(1, len(entry.segments) + 1) for _ in range(entry.slices)]:
        return [*faults, "frames do not run through the segments one by one"]
    off_mm = _corners_off_mm(item, entry)
    if not off_mm <= CORNER_MM:
        faults.append(f"corners of the frames are up to {off_mm:.3f} mm beside the scan's grid, at most {CORNER_MM} mm")
    bits = np.frombuffer(item.PixelData, dtype=np.uint8)
    if len(bits) < -(-frames * entry.rows * entry.columns // 8):
        return [*faults, f"pixels have {len(bits)} bytes, too few for {frames} frames"]
    return faults + _voxel_faults(bits, manifest.parts, entry)


def _corners_off_mm(item: Any, entry: DicomEntry) -> float:
    """Largest distance of a frame's corner from where ``job.json`` says it is, mm; the slices run downwards in each segment."""
    affine = np.array(entry.affine)
    (shared,) = item.SharedFunctionalGroupsSequence
    directions = np.array([float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]).reshape(2, 3)
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    across, down = directions[0] * column_mm, directions[1] * row_mm
    positions = np.array(
        [[float(v) for v in one.PlanePositionSequence[0].ImagePositionPatient] for one in item.PerFrameFunctionalGroupsSequence]
    )
    slices = np.tile(np.arange(entry.slices)[::-1], len(entry.segments))[:, None]
    off = positions - (affine[:3, 3] + slices * affine[:3, 2])
    corners = [
        off + i * (entry.columns - 1) * (across - affine[:3, 0]) + j * (entry.rows - 1) * (down - affine[:3, 1])
        for i in (0, 1)
        for j in (0, 1)
    ]
    return float(np.linalg.norm(np.array(corners), axis=2).max())


def _voxel_faults(bits: npt.NDArray[np.uint8], parts: tuple[PartEntry, ...], entry: DicomEntry) -> list[str]:
    """Compare volume and centre of mass of each part's segment with its mesh, and see that no segment is empty."""
    affine = np.array(entry.affine)
    steps_mm = np.linalg.norm(affine[:3, :3], axis=0)
    bones = len(entry.segments) - len(parts)
    faults = []
    for number, label in enumerate(entry.segments):
        voxels, centre = _voxels(bits, number, entry)
        part = parts[number - bones] if number >= bones else None
        if part is None or not _inside(part, affine, entry):
            if voxels == 0 and part is None:
                faults.append(f"segment {label} is empty")
            continue
        volume_mm3 = voxels * float(np.prod(steps_mm))
        room_mm3 = part.figures.area_mm2 * float(steps_mm.max()) / 2.0  # half a voxel all over the surface
        if not abs(volume_mm3 - part.figures.volume_mm3) <= room_mm3:
            faults.append(
                f"segment {label} has {volume_mm3:.1f} mm3, must be {part.figures.volume_mm3:.1f} mm3 within {room_mm3:.1f} mm3"
            )
        centre_mm = affine[:3, :3] @ centre + affine[:3, 3]
        off_mm = float(np.linalg.norm(centre_mm - part.figures.centre_of_mass_mm))
        if voxels and not off_mm <= float(steps_mm.max()):
            faults.append(f"segment {label} is {off_mm:.2f} mm beside its part, at most {float(steps_mm.max()):.2f} mm")
    return faults


def _inside(part: PartEntry, affine: FloatArray, entry: DicomEntry) -> bool:
    """Does the whole box of a part lie in the segmentation's grid?"""
    low, high = np.array(part.figures.box_low_mm), np.array(part.figures.box_high_mm)
    corners = np.array([[(low, high)[i >> axis & 1][axis] for axis in range(3)] for i in range(8)])
    index = (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return bool((index > -0.5).all() and (index < np.array([entry.columns, entry.rows, entry.slices]) - 0.5).all())


def _voxels(bits: npt.NDArray[np.uint8], segment: int, entry: DicomEntry) -> tuple[int, FloatArray]:
    """Number of voxels of a segment and their mean (column, row, slice); its frames run from the last slice to the first."""
    size = entry.rows * entry.columns
    counts = np.zeros(entry.slices, dtype=np.int64)
    stacked = np.zeros(size, dtype=np.int32)
    for k in range(entry.slices):
        start = (segment * entry.slices + entry.slices - 1 - k) * size
        packed = bits[start >> 3 : (start + size + 7) >> 3]
        frame = np.unpackbits(packed, bitorder="little")[start & 7 : (start & 7) + size]
        counts[k] = np.count_nonzero(frame)
        if counts[k]:
            stacked += frame
    total = int(counts.sum())
    plane = stacked.reshape(entry.rows, entry.columns)
    sums = (plane.sum(axis=0), plane.sum(axis=1), counts)
    means = [float(np.arange(len(one)) @ one) / max(total, 1) for one in sums]
    return total, np.array(means)
