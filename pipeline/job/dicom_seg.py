"""Bones and device as a binary DICOM segmentation on the scan's own grid, every slice of their box in every segment; labels too.

Written by highdicom, which takes the source images as data sets. The job knows their pseudonyms and the grid, no more: stand-ins
are made of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from batchone.pipeline.job.dicom_codes import (
    ANATOMICAL_STRUCTURE,
    GEOMETRY,
    IMAGE_PROCESSING,
    MANUAL_PROCESSING,
    PHYSICAL_OBJECT,
    Code,
    bone_code,
    device_code,
    side_code,
)
from batchone.pipeline.job.dicom_header import MAKER, Frame, coded, content_uid, new_object, object_bytes
from batchone.pipeline.job.voxels import Grid, put_inside, slice_range
from batchone.pipeline.labels import bone_title, editor
from batchone.pipeline.values import Anatomy, Device, FloatArray, Mesh, Side, VoxelLabels
from batchone.segment.label_map import expanded, measured

_TEXT = 64  # characters of a DICOM long string
_STRAIGHT_DEG = 0.01  # of tilt: below it no slice was moved, and a frame lies pixel for pixel on its image


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a segment is: label, codes for category, type, side and algorithm, and the person whose labels it comes from."""

    label: str
    category: Code
    kind: Code
    side: Code | None
    algorithm: Code
    person: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One segment: what it is, and its surface."""

    meaning: Meaning
    mesh: Mesh


def bone_meaning(name: str, side: Side, source: str) -> Meaning:
    """What a bone is, in an anatomy of that source."""
    person = editor(source)
    algorithm = IMAGE_PROCESSING if person is None else MANUAL_PROCESSING
    return Meaning(bone_title(name, side)[:_TEXT], ANATOMICAL_STRUCTURE, bone_code(name), side_code(side), algorithm, person)


def segments_of(anatomy: Anatomy, device: Device) -> tuple[Segment, ...]:
    """One segment per bone, then one per part of the device."""
    bones = [Segment(bone_meaning(bone.name, bone.side, anatomy.source), bone.mesh) for bone in anatomy.bones]
    code = device_code(device.family)
    parts = [
        Segment(Meaning(f"{device.family} {part.name}"[:_TEXT], PHYSICAL_OBJECT, code, None, GEOMETRY), part.mesh)
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
    images = _stand_ins(frame, grid, moved=abs(tilt_deg) > _STRAIGHT_DEG)
    meanings = tuple(segment.meaning for segment in segments)
    data = _written(frame, meanings, _PackedFrames.of(segments, own), own, images, about="Bones and device", omit_empty=False)
    return data, own, first


def labels_object(frame: Frame, labels: VoxelLabels, *, source: str, about: str, tilt_deg: float) -> bytes:
    """Write labels as a segmentation: one segment for each, numbered in their order, without empty frames.

    Parameters
    ----------
    frame
        What the object states; its job is any word that is the same for the same labels.
    labels
        On the scan's grid.
    source
        Who told the bones apart, as :class:`Anatomy` has it.
    about
        Content description, up to 64 characters.
    tilt_deg
        Gantry tilt that the intake took out of the scan.
    """
    boxes = measured(labels)[1][[label.value for label in labels.labels]]
    first, end = int(boxes[:, 0, 0].min()), int(boxes[:, 0, 1].max())
    numbers = np.zeros(256, dtype=np.uint8)
    numbers[[label.value for label in labels.labels]] = np.arange(1, len(labels.labels) + 1)
    grid = Grid(labels.affine, labels.shape)
    images = _stand_ins(frame, grid, moved=abs(tilt_deg) > _STRAIGHT_DEG)
    meanings = tuple(bone_meaning(label.name, label.side, source) for label in labels.labels)
    voxels = numbers[expanded(labels).voxels[first:end]]
    return _written(frame, meanings, voxels, grid.slices(first, end - first), images, about=about, omit_empty=True)


def _written(
    frame: Frame, meanings: tuple[Meaning, ...], voxels: Any, own: Grid, images: list[Dataset], *, about: str, omit_empty: bool
) -> bytes:
    import highdicom

    common = new_object(frame, sop_class=SegmentationStorage, modality="SEG", series="segmentation", number=1)
    item = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=voxels,
        segmentation_type="BINARY",
        segment_descriptions=[_description(one, number, frame.version) for number, one in enumerate(meanings, start=1)],
        series_instance_uid=common.SeriesInstanceUID,
        series_number=common.SeriesNumber,
        sop_instance_uid=common.SOPInstanceUID,
        instance_number=common.InstanceNumber,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=frame.version,
        device_serial_number=frame.site,
        content_label="BATCHONE",
        content_description=about,
        pixel_measures=highdicom.PixelMeasuresSequence(**_measures(own)),
        plane_orientation=highdicom.PlaneOrientationSequence("PATIENT", _directions(own)),
        plane_positions=[highdicom.PlanePositionSequence("PATIENT", _position(own, k)) for k in range(own.shape[0])],
        omit_empty_frames=omit_empty,
    )
    for one in common:  # the times of the approval for those of the clock, and what highdicom has no parameter for
        item[one.tag] = one
    item.ContentCreatorName = ""
    item["PixelData"].VR = "OB"
    for equipment in item.ContributingEquipmentSequence:
        del equipment.ContributionDateTime
    uid = content_uid("dimensions", frame.job)
    for organized in (*item.DimensionOrganizationSequence, *item.DimensionIndexSequence):
        organized.DimensionOrganizationUID = uid
    return object_bytes(item)


@dataclass(frozen=True, slots=True, eq=False)
class _PackedFrames:
    """The voxels of all segments, one bit each, as what highdicom asks of an array (slices, rows, columns, segments) of bool.

    A whole array of bytes and its sums, by which highdicom looks for overlap, take 1.2 GB for two segments of 512x512x400.
    """

    bits: npt.NDArray[np.uint8]  # segments one after the other, slices upwards in each, least significant bit first
    shape: tuple[int, int, int, int]
    ndim: int = 4
    dtype: type[np.bool_] = np.bool_

    @classmethod
    def of(cls, segments: tuple[Segment, ...], grid: Grid) -> _PackedFrames:
        size = int(np.prod(grid.shape))
        bits = np.zeros(-(-size * len(segments) // 8), dtype=np.uint8)
        for number, segment in enumerate(segments):
            put_inside(segment.mesh, grid, bits=bits, offset=number * size)
        return cls(bits, (*grid.shape, len(segments)))

    def __getitem__(self, number: int) -> npt.NDArray[np.bool_]:
        """One slice: (rows, columns, segments)."""
        slices, rows, columns, segments = self.shape
        size = rows * columns
        frames = np.empty((segments, size), dtype=np.uint8)
        for segment in range(segments):
            start = (segment * slices + number) * size
            packed = self.bits[start >> 3 : (start + size + 7) >> 3]
            frames[segment] = np.unpackbits(packed, bitorder="little")[start & 7 : (start & 7) + size]
        return np.moveaxis(frames.view(np.bool_).reshape(segments, rows, columns), 0, -1)

    def max(self) -> bool:
        return bool(self.bits.any())

    def sum(self, axis: int) -> npt.NDArray[np.uint8]:
        """The largest sum in each slice along the segments."""
        if axis != -1:
            raise ValueError(f"the sum is along axis {axis}, must be -1")
        return np.array([self[number].sum(axis=-1, dtype=np.uint8).max() for number in range(self.shape[0])], dtype=np.uint8)


def _stand_ins(frame: Frame, grid: Grid, *, moved: bool) -> list[Dataset]:
    """The scan's images, as far as the job knows them.

    An image lies on its slice where the two pair off one to one, else beside all slices, so that no frame names it. Where slices
    were moved in their plane it has another size than a frame, so that no frame claims to lie on it pixel for pixel.
    """
    images = frame.images
    paired = len(images.instance_uids) == grid.shape[0]
    made = []
    for number, uid in enumerate(images.instance_uids):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = images.sop_class_uid, uid
        image.StudyInstanceUID, image.SeriesInstanceUID = images.study_uid, images.series_uid
        image.FrameOfReferenceUID = images.frame_of_reference_uid
        image.PatientName = image.PatientID = image.PatientBirthDate = image.PatientSex = ""
        image.AccessionNumber = image.StudyID = image.StudyDate = image.StudyTime = image.ReferringPhysicianName = ""
        image.Rows, image.Columns = grid.shape[1] + moved, grid.shape[2]
        _put_place(image, grid, number if paired else -0.5 - number)
        made.append(image)
    return made


def _put_place(image: Dataset, grid: Grid, number: float) -> None:
    measures, orientation, position = Dataset(), Dataset(), Dataset()
    for name, value in zip(("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"), _measures(grid).values(), strict=True):
        setattr(measures, name, value)
    orientation.ImageOrientationPatient = _directions(grid)
    position.ImagePositionPatient = _position(grid, number)
    if image.SOPClassUID == CTImageStorage:
        for one in (measures, orientation, position):
            image.update(one)
        return
    shared, own = Dataset(), Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    own.PlanePositionSequence = [position]
    image.NumberOfFrames = 1
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], [own]


def _description(meaning: Meaning, number: int, version: str) -> Any:
    import highdicom

    concept = highdicom.sr.CodedConcept
    by_person = meaning.person is not None
    name = f"{MAKER}, labels edited by {meaning.person}".replace("\\", "/")[:_TEXT] if by_person else MAKER
    made = highdicom.seg.SegmentDescription(
        number,
        meaning.label,
        concept(*meaning.category),
        concept(*meaning.kind),
        "SEMIAUTOMATIC" if by_person else "AUTOMATIC",  # a person's labels, whose edge is looked for in the grey values
        highdicom.AlgorithmIdentificationSequence(name, concept(*meaning.algorithm), version),
    )
    if meaning.side is not None:
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [coded(meaning.side)]
    return made


def _measures(grid: Grid) -> dict[str, Any]:
    columns_mm, rows_mm, slices_mm = (_rounded(value) for value in np.linalg.norm(grid.affine[:3, :3], axis=0))
    return {"pixel_spacing": [rows_mm, columns_mm], "slice_thickness": slices_mm, "spacing_between_slices": slices_mm}


def _directions(grid: Grid) -> list[Any]:
    steps_mm = np.linalg.norm(grid.affine[:3, :3], axis=0)
    return [_rounded(value) for axis in (0, 1) for value in grid.affine[:3, axis] / steps_mm[axis]]


def _position(grid: Grid, number: float) -> list[Any]:
    place: FloatArray = grid.affine[:3, 3] + number * grid.affine[:3, 2]
    return [_rounded(value) for value in place]


def _rounded(value: float) -> float:
    return float(format_number_as_ds(round(float(value), 8) + 0.0))  # 1e-8 mm: no digits of rounding
