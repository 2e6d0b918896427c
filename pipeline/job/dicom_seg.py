"""Bones and device as a binary DICOM segmentation on the scan's own grid, every slice of their box in every segment."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from batchone.pipeline.job.dicom_bytes import element, items, put_encoded, sequence
from batchone.pipeline.job.dicom_codes import (
    ANATOMICAL_STRUCTURE,
    GEOMETRY,
    IMAGE_PROCESSING,
    PHYSICAL_OBJECT,
    Code,
    bone_code,
    device_code,
    side_code,
)
from batchone.pipeline.job.dicom_header import (
    MAKER,
    Frame,
    coded,
    content_uid,
    new_object,
    object_bytes,
    padded,
    refer_to_series,
    reference,
)
from batchone.pipeline.job.voxels import Grid, put_inside, slice_range
from batchone.pipeline.values import Anatomy, Device, FloatArray, Mesh, SourceImages

_SEGMENT_SEQUENCE, _SEGMENT_NUMBER = 0x0062000A, 0x0062000B
_POSITION_SEQUENCE, _POSITION = 0x00209113, 0x00200032
_DERIVATION = Code("113076", "DCM", "Segmentation")
_PURPOSE = Code("121322", "DCM", "Source image for image processing operation")
_LABEL = 64  # characters of a DICOM long string
_STRAIGHT_DEG = 0.01  # of tilt: below it no slice was moved, and a frame lies pixel for pixel on its image


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One segment: label, surface, and codes for category, type and side."""

    label: str
    mesh: Mesh
    category: Code
    kind: Code
    side: Code | None
    algorithm: Code


def segments_of(anatomy: Anatomy, device: Device) -> tuple[Segment, ...]:
    """One segment per bone, then one per part of the device."""
    bones = [
        Segment(
            (bone.name if bone.side == "midline" else f"{bone.name} {bone.side}")[:_LABEL],
            bone.mesh,
            ANATOMICAL_STRUCTURE,
            bone_code(bone.name),
            side_code(bone.side),
            IMAGE_PROCESSING,
        )
        for bone in anatomy.bones
    ]
    code = device_code(device.family)
    parts = [
        Segment(f"{device.family} {part.name}"[:_LABEL], part.mesh, PHYSICAL_OBJECT, code, None, GEOMETRY)
        for part in device.parts
    ]
    return (*bones, *parts)


def segmentation_object(frame: Frame, segments: tuple[Segment, ...], grid: Grid, *, tilt_deg: float) -> tuple[bytes, Grid, int]:
    """Write the segmentation.

    Parameters
    ----------
    frame
        The job.
    segments
        What to show; they may overlap.
    grid
        The scan's grid.
    tilt_deg
        Gantry tilt that the intake took out of the scan.

    Returns
    -------
    bytes, Grid, int
        The object; its own grid: whole slices of the scan's, those that hold the segments; the number of its first slice there.
    """
    first, count = slice_range(tuple(segment.mesh for segment in segments), grid)
    own = grid.slices(first, count)
    images = _images_of_slices(frame.images, grid, first, count)
    item = new_object(frame, sop_class=SegmentationStorage, modality="SEG", series="segmentation", number=1)
    item.FrameOfReferenceUID = frame.images.frame_of_reference_uid
    item.PositionReferenceIndicator = ""
    _put_image(item, own, len(segments))
    item.ContentLabel = "BATCHONE"
    item.ContentDescription = "Bones and device"
    item.ContentCreatorName = ""
    item.SegmentationType = "BINARY"
    item.SegmentSequence = [_segment_item(segment, number, frame.version) for number, segment in enumerate(segments, start=1)]
    refer_to_series(item, frame.images)
    _put_dimensions(item, content_uid("dimensions", frame.job))
    item.SharedFunctionalGroupsSequence = [_shared_groups(own.affine)]
    frames = _frame_groups(own, len(segments), images, moved=abs(tilt_deg) > _STRAIGHT_DEG)
    put_encoded(item, "PerFrameFunctionalGroupsSequence", frames)
    put_encoded(item, "PixelData", padded(_bits(segments, own).tobytes()))
    return object_bytes(item), own, first


def _images_of_slices(images: SourceImages, grid: Grid, first: int, count: int) -> tuple[tuple[str, str], ...]:
    """SOP class and instance of the image behind each slice; empty where slices and images do not pair off one to one."""
    if len(images.instance_uids) != grid.shape[0]:
        return ()
    return tuple((images.sop_class_uid, uid) for uid in images.instance_uids[first : first + count])


def _put_image(item: Dataset, grid: Grid, segments: int) -> None:
    item.ImageType = ["DERIVED", "PRIMARY"]
    item.SamplesPerPixel = 1
    item.PhotometricInterpretation = "MONOCHROME2"
    item.NumberOfFrames = grid.shape[0] * segments
    item.Rows, item.Columns = grid.shape[1:]
    item.BitsAllocated = item.BitsStored = 1
    item.HighBit = item.PixelRepresentation = 0
    item.LossyImageCompression = "00"


def _segment_item(segment: Segment, number: int, version: str) -> Dataset:
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = segment.label
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = MAKER
    item.SegmentedPropertyCategoryCodeSequence = [coded(segment.category)]
    kind = coded(segment.kind)
    if segment.side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(segment.side)]
    item.SegmentedPropertyTypeCodeSequence = [kind]
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [coded(segment.algorithm)]
    algorithm.AlgorithmName, algorithm.AlgorithmVersion = MAKER, version
    item.SegmentationAlgorithmIdentificationSequence = [algorithm]
    return item


def _put_dimensions(item: Dataset, uid: str) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    item.DimensionOrganizationSequence = [organization]
    indices = []
    for label, pointer, group in (
        ("Segment Number", _SEGMENT_NUMBER, _SEGMENT_SEQUENCE),
        ("Image Position Patient", _POSITION, _POSITION_SEQUENCE),
    ):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        index.DimensionDescriptionLabel = label
        indices.append(index)
    item.DimensionIndexSequence = indices


def _shared_groups(affine: FloatArray) -> Dataset:
    columns_mm, rows_mm, slices_mm = (float(value) for value in np.linalg.norm(affine[:3, :3], axis=0))
    measures = Dataset()
    measures.PixelSpacing = [_ds(rows_mm), _ds(columns_mm)]
    measures.SliceThickness = measures.SpacingBetweenSlices = _ds(slices_mm)
    orientation = Dataset()
    orientation.ImageOrientationPatient = [_ds(v) for v in (*affine[:3, 0] / columns_mm, *affine[:3, 1] / rows_mm)]
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    groups.PlaneOrientationSequence = [orientation]
    return groups


def _frame_groups(grid: Grid, segments: int, images: tuple[tuple[str, str], ...], *, moved: bool) -> bytes:
    """One item per frame: segments one after the other, slices upwards in each."""
    positions = [grid.affine[:3, 3] + k * grid.affine[:3, 2] for k in range(grid.shape[0])]
    places = [sequence("PlanePositionSequence", element("ImagePositionPatient", _ds_list(place))) for place in positions]
    origins = [sequence("DerivationImageSequence", _derivation(image, moved=moved)) for image in images]
    if not origins:
        origins = [sequence("DerivationImageSequence")] * grid.shape[0]
    frames = []
    for number in range(1, segments + 1):
        segment = sequence("SegmentIdentificationSequence", element("ReferencedSegmentNumber", struct.pack("<H", number)))
        for k, (origin, place) in enumerate(zip(origins, places, strict=True), start=1):
            content = sequence("FrameContentSequence", element("DimensionIndexValues", struct.pack("<II", number, k)))
            frames.append(origin + content + place + segment)
    return items(frames)


def _derivation(image: tuple[str, str], *, moved: bool) -> bytes:
    purpose = sequence("PurposeOfReferenceCodeSequence", _coded(_PURPOSE))
    source = reference(*image) + element("SpatialLocationsPreserved", b"NO" if moved else b"YES") + purpose
    return sequence("SourceImageSequence", source) + sequence("DerivationCodeSequence", _coded(_DERIVATION))


def _coded(code: Code) -> bytes:
    keywords = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    return b"".join(element(keyword, word.encode()) for keyword, word in zip(keywords, code, strict=True))


def _bits(segments: tuple[Segment, ...], grid: Grid) -> npt.NDArray[np.uint8]:
    """All frames as DICOM packs them: without a gap, least significant bit first."""
    size = int(np.prod(grid.shape))
    bits = np.zeros(-(-size * len(segments) // 8), dtype=np.uint8)
    for number, segment in enumerate(segments):
        put_inside(segment.mesh, grid, bits=bits, offset=number * size)
    return bits


def _ds_list(values: FloatArray) -> bytes:
    return "\\".join(_ds(value) for value in values).encode()


def _ds(value: float) -> str:
    return format_number_as_ds(round(float(value), 8) + 0.0)  # 1e-8 mm: no digits of rounding
