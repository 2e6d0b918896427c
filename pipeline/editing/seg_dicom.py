"""DICOM segmentation objects that come back: what their segments are, and their frames one by one, wherever each lies.

Frames may come in any order, and empty ones may be missing: each states its own place. Only the header is held in memory.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.dicom_codes import PHYSICAL_OBJECT, coded_bone, coded_side
from batchone.pipeline.values import FloatArray, Side
from batchone.segment.label_map import MAX_LABEL, LabelArray
from batchone.segment.nifti import LabelFileError, too_large

MARK = b"DICM"
MARK_AT = 128  # bytes before it
_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4": "BINARY", "1.2.840.10008.5.1.4.1.1.66.7": "LABELMAP"}
_SYNTAXES = {
    "1.2.840.10008.1.2": "<HHI",
    "1.2.840.10008.1.2.1": "<HH2sHI",
}  # implicit, explicit little endian: head of an element
_PIXEL_DATA = (0x7FE0, 0x0010)
_BYTES_PER_VOXEL = 8  # of the scan: 64 segments of one bit each without any frame left out; project default
_HEAD_BYTES = 1 << 26  # a frame's header takes about 1 kB; project default
_FAR_MM = 1e5  # no scanner is that large
_UNREADABLE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RuntimeError),
    *(TypeError, ValueError, struct.error),
)


@dataclass(frozen=True, slots=True)
class DicomSegment:
    """One segment: its number and label; the bone and the side that its codes mean ("" and None where they mean none)."""

    number: int
    label: str
    bone: str
    side: Side | None
    device: bool


@dataclass(frozen=True, slots=True)
class DicomFrame:
    """Where a frame lies, (column, row, across) index -> LPS mm, and the segment whose voxels it has (None: any, by value)."""

    affine: FloatArray
    segment: int | None


@dataclass(frozen=True, slots=True, eq=False)
class DicomLabels:
    """A segmentation object.

    Attributes
    ----------
    segments
        In the file's order.
    frames
        In the file's order.
    about
        Content description.
    uids
        Of the frame of reference and the series that it refers to.
    """

    segments: tuple[DicomSegment, ...]
    frames: tuple[DicomFrame, ...]
    about: str
    uids: frozenset[str]
    _pixels: npt.NDArray[Any]
    _shape: tuple[int, int]

    def ordinals(self) -> Iterator[tuple[DicomFrame, LabelArray]]:
        """Each frame and its (rows, columns) voxels: n for the n-th of ``segments``, from 1, else 0. Empty ones may be left out.

        Raises
        ------
        LabelFileError
            A frame has a segment that the file does not describe.
        """
        table = np.zeros(1 << 16, dtype=np.uint8)
        table[[one.number for one in self.segments]] = np.arange(1, len(self.segments) + 1)
        size = self._shape[0] * self._shape[1]
        for number, frame in enumerate(self.frames):
            start = number * size
            if frame.segment is None:
                values = self._pixels[start : start + size]
                own = table[values]
                unknown = values[(own == 0) & (values != 0)]
                if len(unknown):
                    raise LabelFileError(f"has value {int(unknown[0])} in frame {number + 1}, and no segment of that number")
            else:
                packed = self._pixels[start >> 3 : (start + size + 7) >> 3]
                if not packed.any():
                    continue
                own = np.unpackbits(packed, bitorder="little")[start & 7 : (start & 7) + size] * table[frame.segment]
            yield frame, own.reshape(self._shape)


def read_dicom_seg(path: Path, *, most: int) -> DicomLabels:
    """Read a segmentation object (BINARY or LABELMAP, uncompressed) for a scan of so many voxels; its pixels stay in the file.

    Raises
    ------
    LabelFileError
        Not readable, no segmentation object, too large, fractional, compressed or cut off.
    """
    limit = most * _BYTES_PER_VOXEL + _HEAD_BYTES
    size = path.stat().st_size
    if size > limit:
        raise LabelFileError(f"has {size / 1e6:.0f} MB, at most {limit / 1e6:.0f} MB for this scan")
    try:
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError as error:
        raise MachineError("reading DICOM needs pydicom", hint="pip install 'batchone[site]'") from error
    try:
        with warnings.catch_warnings():  # pydicom warns of values that break a rule; what counts is looked at here
            warnings.simplefilter("ignore")
            return _read(path, size, most)
    except LabelFileError:
        raise
    except (*_UNREADABLE, InvalidDicomError, BytesLengthException) as error:
        raise LabelFileError("cannot be read: damaged, or no DICOM segmentation object") from error


def _read(path: Path, size: int, most: int) -> DicomLabels:
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import UID

    syntax = str(read_file_meta_info(path).TransferSyntaxUID)
    if syntax not in _SYNTAXES:
        raise LabelFileError(f"is written as {UID(syntax).name[:60]}, must be uncompressed and little endian")
    with path.open("rb") as stream:
        item = dcmread(stream, stop_before_pixels=True)
        kind = _CLASSES.get(str(item.SOPClassUID))
        if kind is None:
            raise LabelFileError(f"is no segmentation object but {UID(item.SOPClassUID).name[:60]!r}")
        if item.SegmentationType != kind:
            raise LabelFileError(f"is a segmentation of type {str(item.SegmentationType)[:16]}, must be BINARY or LABELMAP")
        shape = int(item.Rows), int(item.Columns)
        too_large(shape[::-1], most)
        if min(shape) < 1:
            raise LabelFileError(f"has frames of {shape[1]} x {shape[0]} voxels")
        frames = _frames(item, labelled=kind == "BINARY")
        segments = _segments(item)
        known = {one.number for one in segments}
        stray = next((one.segment for one in frames if one.segment not in known | {None}), None)
        if stray is not None:
            raise LabelFileError(f"has a frame of segment {stray}, which it does not describe")
        pixels = _pixels(stream, _SYNTAXES[syntax], int(item.BitsAllocated), kind, (len(frames), *shape), path, size)
    return DicomLabels(segments, frames, str(item.get("ContentDescription", "")), _uids(item), pixels, shape)


def _segments(item: Any) -> tuple[DicomSegment, ...]:
    made = []
    for one in item.SegmentSequence:
        (category,), (kind,) = one.SegmentedPropertyCategoryCodeSequence, one.SegmentedPropertyTypeCodeSequence
        modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence") or ()
        sides = [coded_side(*_code(code)) for code in modifiers]
        made.append(
            DicomSegment(
                int(one.SegmentNumber),
                str(one.get("SegmentLabel") or "").strip(),
                coded_bone(*_code(kind)),
                next((side for side in sides if side is not None), None),
                _code(category) == PHYSICAL_OBJECT[:2],
            )
        )
    made = [one for one in made if one.number != 0]  # the background of a label map may be described as well
    numbers = [one.number for one in made]
    if len(made) > MAX_LABEL:
        raise LabelFileError(f"has {len(made)} segments, at most {MAX_LABEL}")
    if len(set(numbers)) < len(numbers) or not all(0 < number < 1 << 16 for number in numbers):
        raise LabelFileError("numbers its segments twice, or beyond 65535")
    return tuple(made)


def _code(item: Any) -> tuple[str, str]:
    return str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", ""))


def _frames(item: Any, *, labelled: bool) -> tuple[DicomFrame, ...]:
    (shared,) = item.SharedFunctionalGroupsSequence
    own = item.PerFrameFunctionalGroupsSequence
    if int(item.NumberOfFrames) != len(own):
        raise LabelFileError(f"has {int(item.NumberOfFrames)} frames and describes {len(own)}")
    return tuple(_frame(one, shared, number, labelled=labelled) for number, one in enumerate(own, start=1))


def _frame(own: Any, shared: Any, number: int, *, labelled: bool) -> DicomFrame:
    def group(name: str) -> Any:
        found = own.get(name) or shared.get(name)
        if not found:
            raise LabelFileError(f"has no {name} for frame {number}")
        return found[0]

    measures = group("PixelMeasuresSequence")
    row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
    across_mm = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0)
    directions = np.array([float(v) for v in group("PlaneOrientationSequence").ImageOrientationPatient]).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = directions[0] * column_mm, directions[1] * row_mm
    affine[:3, 2] = np.cross(directions[0], directions[1]) * across_mm
    affine[:3, 3] = [float(v) for v in group("PlanePositionSequence").ImagePositionPatient]
    if not bool(np.abs(affine).max() < _FAR_MM) or not bool((np.linalg.norm(affine[:3, :3], axis=0) > 0.0).all()):
        raise LabelFileError(f"has frame {number} at a place that cannot be")
    segment = int(group("SegmentIdentificationSequence").ReferencedSegmentNumber) if labelled else None
    return DicomFrame(affine, segment)


def _uids(item: Any) -> frozenset[str]:
    series = [str(one.get("SeriesInstanceUID", "")) for one in item.get("ReferencedSeriesSequence") or ()]
    return frozenset({str(item.get("FrameOfReferenceUID", "")), *series} - {""})


def _pixels(
    stream: BinaryIO, head: str, bits: int, kind: str, shape: tuple[int, int, int], path: Path, size: int
) -> npt.NDArray[Any]:
    """The pixels in the file: packed bits, or one value for each voxel."""
    if bits not in ((1,) if kind == "BINARY" else (8, 16)):
        raise LabelFileError(f"is {kind} with {bits} bits for each voxel")
    group, element, *_, length = struct.unpack(head, stream.read(struct.calcsize(head)))
    wanted = -(-shape[0] * shape[1] * shape[2] * bits // 8)
    there = min(length, size - stream.tell())
    if (group, element) != _PIXEL_DATA or there < wanted or length == 0xFFFFFFFF:
        raise LabelFileError(f"is cut off: {max(there, 0)} bytes of pixels for {shape[0]} frames, must be {wanted}")
    return np.memmap(
        path, dtype="<u2" if bits == 16 else np.uint8, mode="r", offset=stream.tell(), shape=(wanted * 8 // max(bits, 8),)
    )
