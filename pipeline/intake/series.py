"""What is in a study: every file sorted by kind, CT images stacked into series, and the best series chosen."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.geometry import SAME_ORIENTATION, Geometry, measure_stack, orientation
from batchone.pipeline.intake.header import Header, Unreadable, read_header
from batchone.pipeline.intake.package import Package, Source, content_digest
from batchone.pipeline.intake.pixels import MAX_SERIES_BYTES, PixelFormat, pixel_format

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MULTI_FRAME_CT = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
DIRECTORY = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

USABLE = "CT images"
BROKEN, CLOSED = "unreadable DICOM files", "files that cannot be read"
UNREADABLE = (BROKEN, CLOSED)
_LOCALIZER = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW"})
_CAPTURE = frozenset({"PATIENT_INFO", "DOSE_INFO", "DOSE", "RESULTS", "SCREEN SAVE", "PROTOCOL"})
_RENDERING = frozenset({"MIP", "MINIP", "MIN_IP", "PROJECTION IMAGE", "VRT", "VOLUME RENDERING", "AVERAGE", "CPR", "CURVED"})
MAX_THICKNESS_MM = 1000.0  # more is not a thickness
_AXIAL_COSINE = 0.7  # the slice normal lies within 45 degrees of the patient's long axis


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a study by kind: CT images to be stacked, and how many of each other kind."""

    images: tuple[Header, ...]
    others: dict[str, int]


@dataclass(frozen=True, slots=True)
class Stack:
    """CT images that belong together, and what was measured of them; ``fault`` says why they make no volume."""

    headers: tuple[Header, ...]
    geometry: Geometry | None = None
    formats: tuple[PixelFormat, ...] = ()
    fault: SeriesError | None = None

    @property
    def thickness_mm(self) -> float | None:
        """The thickest slice; None when no image says."""
        stated = [value for header in self.headers if (value := header.number("SliceThickness")) and 0 < value < MAX_THICKNESS_MM]
        return max(stated) if stated else None

    @property
    def scattered(self) -> bool:
        """Whether the images carry different frames of reference."""
        return len({header.text("FrameOfReferenceUID") for header in self.headers}) > 1

    @property
    def derived(self) -> bool:
        """Whether the images were made from other images."""
        return self.headers[0].texts("ImageType")[0].upper() == "DERIVED"

    @property
    def axial(self) -> bool:
        """Whether the slices lie across the patient's long axis."""
        return self.geometry is not None and abs(float(self.geometry.normal[2])) >= _AXIAL_COSINE


def sort_files(package: Package) -> Contents:
    """Read the header of every file once and sort the files by kind."""
    counts: Counter[str] = Counter()
    images: list[Header] = []
    if package.links:
        counts["symbolic links"] = package.links
    for source in package.sources:
        kind, header = _kind_of(source)
        if kind == USABLE and header is not None:
            images.append(header)
        else:
            counts[kind] += 1
    images, copies = _without_copies(images)
    if copies:
        counts["identical copies of CT images"] = copies
    return Contents(tuple(images), dict(sorted(counts.items())))


def stack_images(images: Sequence[Header], *, allow_lossy: bool = False) -> tuple[Stack, ...]:
    """Put CT images together and measure each stack; in an order that does not depend on file names."""
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    scattered = _scattered_series(images)
    for header in sorted(images, key=lambda one: (one.text("SOPInstanceUID"), one.text("ImagePositionPatient"))):
        groups[_group_key(header, scattered)].append(header)
    return tuple(_measured(Stack(tuple(group)), allow_lossy) for _, group in sorted(groups.items()))


def preference(stack: Stack) -> tuple[float, ...]:
    """How good a readable stack is, larger is better: original, axial, most slices, finest spacing, finest pixel."""
    if stack.geometry is None:
        return (0.0, 0.0, 0.0, 0.0, 0.0)
    return (
        float(not stack.derived),
        float(stack.axial),
        float(len(stack.headers)),
        -round(stack.geometry.spacing_mm, 3),
        -round(max(stack.geometry.pixel_mm), 3),
    )


def refuse_without_ct(contents: Contents) -> None:
    """Say what the study holds instead of CT.

    Raises
    ------
    SeriesError
        There is no CT image to be stacked.
    """
    if contents.images:
        return
    held = listed(contents.others)
    if set(contents.others) <= {"files that are not DICOM", "symbolic links"}:
        raise SeriesError(
            f"the study holds no DICOM file (it holds {held}), at least one CT series is needed", hint="give the DICOM folder"
        )
    if "multi-frame CT objects" in contents.others:
        raise SeriesError(
            f"the study holds its CT only as multi-frame objects (it holds {held}), single-frame images are needed",
            hint="ask the sender to export as classic single-frame CT images",
        )
    raise SeriesError(
        f"the study holds no CT image that could be stacked (it holds {held}), at least one CT series is needed",
        hint="ask the sender for the axial CT series as DICOM files",
    )


def refuse_several_patients(images: Sequence[Header]) -> None:
    """Refuse CT images of more than one patient; who they are is not said.

    Raises
    ------
    SeriesError
        The patient identifiers differ.
    """
    patients = len({header.text("PatientID") for header in images})
    if patients > 1:
        raise SeriesError(f"the study holds CT images of {patients} patients, must be 1", hint="give the study of one patient")


def listed(counts: dict[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{kind}: {count}" for kind, count in sorted(counts.items())) or "nothing"


def _kind_of(source: Source) -> tuple[str, Header | None]:
    try:
        header = read_header(source)
    except Unreadable:
        return BROKEN, None
    except SeriesError:
        return CLOSED, None
    if header is None:
        return "files that are not DICOM", None
    if header.sop_class == DIRECTORY:
        return "DICOM directories", None
    modality = header.text("Modality")
    if modality != "CT":
        known = modality if re.fullmatch(r"[A-Z]{2,12}", modality) else "unnamed"
        return f"{known} objects", None
    return _ct_kind(header), header


def _ct_kind(header: Header) -> str:
    words = {word.upper() for word in header.texts("ImageType")}
    if header.sop_class in MULTI_FRAME_CT or (header.number("NumberOfFrames") or 1) > 1:
        return "multi-frame CT objects"
    if words & _LOCALIZER:
        return "localizers"
    if words & _CAPTURE or header.sop_class.startswith(SECONDARY_CAPTURE):
        return "captures (dose, text or screen)"
    if words & _RENDERING:
        return "projections or renderings"
    if header.text("AnatomicalOrientationType") == "QUADRUPED":
        return "images of quadrupeds"
    if header.sop_class != CT_IMAGE:
        return "CT objects that are no images"
    return USABLE


def _without_copies(images: Iterable[Header]) -> tuple[list[Header], int]:
    """Leave out files that are byte for byte a copy of another (an examination exported twice)."""
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in images:
        by_uid[header.text("SOPInstanceUID")].append(header)
    kept: list[Header] = []
    copies = 0
    for group in by_uid.values():
        distinct = {content_digest(one.origin): one for one in group} if len(group) > 1 else {b"": group[0]}
        kept.extend(distinct.values())
        copies += len(group) - len(distinct)
    return kept, copies


def _scattered_series(images: Sequence[Header]) -> frozenset[str]:
    """Series whose every image carries a frame of reference of its own: their identifiers were replaced one by one."""
    frames: dict[str, list[str]] = defaultdict(list)
    for header in images:
        frames[header.text("SeriesInstanceUID")].append(header.text("FrameOfReferenceUID"))
    return frozenset(uid for uid, found in frames.items() if len(set(found)) == len(found) > 1)


def _group_key(header: Header, scattered: frozenset[str]) -> tuple[str, ...]:
    types = header.texts("ImageType")
    spacing = header.numbers("PixelSpacing") or ()
    uid = header.text("SeriesInstanceUID")
    return (
        uid,
        "" if uid in scattered else header.text("FrameOfReferenceUID"),
        str(header.integer("Rows")),
        str(header.integer("Columns")),
        "\\".join(f"{value:.5f}" for value in spacing),
        header.text("ConvolutionKernel"),
        types[2] if len(types) > 2 else "",
    )


def _measured(stack: Stack, allow_lossy: bool) -> Stack:
    try:
        _refuse_mixed(stack.headers)
        formats = tuple(pixel_format(header, allow_lossy=allow_lossy) for header in stack.headers)
        volume_bytes = sum(one.bytes for one in formats)
        if volume_bytes > MAX_SERIES_BYTES:
            raise SeriesError(
                f"the series unpacks to {volume_bytes / 1e6:.0f} MB, at most {MAX_SERIES_BYTES / 1e6:.0f} MB",
                hint="ask the sender for the part of the body that is needed",
            )
        geometry = measure_stack(stack.headers)
    except SeriesError as fault:
        return replace(stack, fault=fault)
    order = geometry.order
    return Stack(tuple(stack.headers[index] for index in order), geometry, tuple(formats[index] for index in order))


def _refuse_mixed(headers: Sequence[Header]) -> None:
    """Refuse one series of several orientations, and name its largest part."""
    directions = [orientation(header) for header in headers]
    clusters: list[tuple[np.ndarray, int]] = []
    for direction in directions:
        if direction is None:
            return
        for index, (other, count) in enumerate(clusters):
            if float(np.abs(direction - other).max()) <= SAME_ORIENTATION:
                clusters[index] = (other, count + 1)
                break
        else:
            clusters.append((direction, 1))
        if len(clusters) > 16:
            break
    if len(clusters) > 1:
        largest = max(count for _, count in clusters)
        raise SeriesError(
            f"the series holds {len(clusters)} orientations, at most 1 (its largest part has {largest} of {len(headers)} images)",
            hint="ask the sender for the axial images as a series of their own",
        )
