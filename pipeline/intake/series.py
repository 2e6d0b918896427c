"""What is in a study: every file sorted by kind, CT images stacked into series, and the best series chosen."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.duplicates import tell_apart
from batchone.pipeline.intake.frames import split_frames
from batchone.pipeline.intake.geometry import (
    SAME_ORIENTATION,
    Geometry,
    measure_stack,
    orientation,
    places_along,
)
from batchone.pipeline.intake.header import MULTI_FRAME_CT, Header, Unreadable, read_header
from batchone.pipeline.intake.package import Package, Source, content_digest
from batchone.pipeline.intake.pixels import BYTES_PER_PIXEL, MAX_SERIES_BYTES, PixelFormat, pixel_format

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DIRECTORY = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

USABLE = "CT images"
BROKEN, CLOSED = "unreadable DICOM files", "files that cannot be read"
UNREADABLE = (BROKEN, CLOSED)
_LOCALIZER = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW"})
_CAPTURE = frozenset({"PATIENT_INFO", "DOSE_INFO", "DOSE", "RESULTS", "SCREEN SAVE", "PROTOCOL"})
_RENDERING = frozenset({"MIP", "MINIP", "MIN_IP", "PROJECTION IMAGE", "VRT", "VOLUME RENDERING", "AVERAGE", "CPR", "CURVED"})
_MAPS = frozenset({"RCBF", "RCBV", "MTT", "TTP", "SUBTRACTION", "DIVISION", "STD_DEVIATION"})  # PS3.3 C.8.16.2.1.4
MAX_THICKNESS_MM = 1000.0  # more is not a thickness
MAX_ORIENTATIONS = 16  # of one series; with more the slices fan out and make no stack; project default
_AXIAL_COSINE = 0.7  # the slice normal lies within 45 degrees of the patient's long axis


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a study by kind: CT images to be stacked, and how many of each other kind."""

    images: tuple[Header, ...]
    others: dict[str, int]


@dataclass(frozen=True, slots=True)
class Stack:
    """CT images that belong together, and what was measured of them; ``fault`` says why they make no volume.

    ``notes`` say what of their series was left out to get them. Frames of a multi-frame object count as images.
    """

    headers: tuple[Header, ...]
    geometry: Geometry | None = None
    formats: tuple[PixelFormat, ...] = ()
    fault: SeriesError | None = None
    notes: tuple[str, ...] = ()

    @property
    def instances(self) -> tuple[Header, ...]:
        """One header of each file that the images come from, in the order of the images."""
        first: dict[int, Header] = {}
        for header in self.headers:
            first.setdefault(id(header.origin), header)
        return tuple(first.values())

    @property
    def lossy(self) -> bool:
        """Whether any image was compressed with loss."""
        return any(one.lossy for one in self.formats)

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
    frames: list[Header] = []
    for image in images:
        if image.sop_class not in MULTI_FRAME_CT:
            frames.append(image)
            continue
        for kind, frame in _frames_of(image):
            if kind == USABLE:
                frames.append(frame)
            else:
                counts[kind] += 1
    return Contents(tuple(frames), dict(sorted(counts.items())))


def stack_images(images: Sequence[Header], *, allow_lossy: bool = False) -> tuple[Stack, ...]:
    """Put CT images together and measure each stack; in an order that does not depend on file names."""
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    scattered = _scattered_series(images)
    for header in sorted(images, key=lambda one: (one.text("SOPInstanceUID"), one.frame or 0, one.text("ImagePositionPatient"))):
        groups[_group_key(header, scattered)].append(header)
    stacks = [stack for _, group in sorted(groups.items()) for stack in _one_place_each(tuple(group))]
    return tuple(stack if stack.fault else _measured(stack, allow_lossy) for stack in stacks)


def preference(stack: Stack) -> tuple[float, ...]:
    """How good a readable stack is, larger is better: original, axial, most slices, finest spacing, finest pixel."""
    if stack.geometry is None:
        return (0.0, 0.0, 0.0, 0.0, 0.0)
    return (
        float(not stack.derived),
        float(stack.axial),
        float(len(stack.headers)),
        -round(stack.geometry.largest_gap_mm, 3),
        -round(max(stack.geometry.pixel_mm), 3),
    )


def volume_hint(volume: str) -> str:
    """What to do with a folder that holds a volume file in the place of DICOM; ``volume`` as :class:`Package` tells it."""
    return f"the folder holds one volume file: give that file itself, --study FOLDER/{volume}"


def refuse_without_ct(contents: Contents, *, volume: str = "") -> None:
    """Say what the study holds instead of CT; ``volume`` is that of its package, where a volume file may be given.

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
            f"the study holds no DICOM file (it holds {held}), at least one CT series is needed",
            hint=volume_hint(volume) if volume else "give the DICOM folder",
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


def _frames_of(image: Header) -> list[tuple[str, Header]]:
    """The frames of a multi-frame object, each with its kind; the object itself when it cannot be split."""
    try:
        return [(_ct_kind(frame), frame) for frame in split_frames(image)]
    except (Unreadable, SeriesError):
        return [("multi-frame CT objects that do not describe their frames", image)]


def _ct_kind(header: Header) -> str:
    words = {word.upper() for word in header.texts("ImageType")}
    if header.sop_class not in MULTI_FRAME_CT and (header.number("NumberOfFrames") or 1) > 1:
        return "multi-frame objects of a single-frame class"
    if words & _LOCALIZER:
        return "localizers"
    if words & _CAPTURE or header.sop_class.startswith(SECONDARY_CAPTURE):
        return "captures (dose, text or screen)"
    if words & _RENDERING:
        return "projections or renderings"
    if "DERIVED" in words and words & _MAPS:
        return "maps computed from CT"
    if header.text("AnatomicalOrientationType") == "QUADRUPED":
        return "images of quadrupeds"
    if header.sop_class != CT_IMAGE and header.sop_class not in MULTI_FRAME_CT:
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
        "\\".join(types[:3]),
    )


def _one_place_each(headers: tuple[Header, ...]) -> tuple[Stack, ...]:
    """The stacks in images of one series: one for each orientation, and for each acquisition at the same places."""
    stacks: list[Stack] = []
    groups = _by_orientation(headers)
    if len(groups) > MAX_ORIENTATIONS:
        fault = SeriesError(
            f"the series holds more than {MAX_ORIENTATIONS} orientations, at most 1 in a stack",
            hint="ask the sender for the axial images as a series of their own",
        )
        return (Stack(headers, fault=fault),)
    for group in groups:
        turned = f"the series holds {len(groups)} orientations: {len(group)} of {len(headers)} images, those of one, were taken"
        notes = (turned,) if len(groups) > 1 else ()
        measured = places_along(group)
        if measured is None:
            stacks.append(Stack(tuple(group), notes=notes))
            continue
        parts = tell_apart(group, measured[0], rounding_mm=measured[1])
        stacks.extend(Stack(part.headers, notes=(*notes, *part.notes), fault=part.fault) for part in parts)
    return tuple(stacks)


def _same(one: np.ndarray | None, two: np.ndarray | None) -> bool:
    if one is None or two is None:
        return one is two
    return float(np.abs(one - two).max()) <= SAME_ORIENTATION


def _by_orientation(headers: Sequence[Header]) -> list[list[Header]]:
    """Images of one orientation together, the largest group first; those without a valid one are a group too."""
    groups: list[tuple[np.ndarray | None, list[Header]]] = []
    for header in headers:
        direction = orientation(header)
        for other, group in groups:
            same = (
                direction is other if direction is None or other is None else np.abs(direction - other).max() <= SAME_ORIENTATION
            )
            if same:
                group.append(header)
                break
        else:
            groups.append((direction, [header]))
        if len(groups) > MAX_ORIENTATIONS:
            break
    return sorted((group for _, group in groups), key=len, reverse=True)


def _measured(stack: Stack, allow_lossy: bool) -> Stack:
    try:
        formats = tuple(pixel_format(header, allow_lossy=allow_lossy) for header in stack.headers)
        geometry = measure_stack(stack.headers)
        volume_bytes = max(sum(one.bytes for one in formats), math.prod(geometry.shape) * BYTES_PER_PIXEL)
        if volume_bytes > MAX_SERIES_BYTES:
            raise SeriesError(
                f"the series unpacks to {volume_bytes / 1e6:.0f} MB, at most {MAX_SERIES_BYTES / 1e6:.0f} MB",
                hint="ask the sender for the part of the body that is needed",
            )
    except SeriesError as fault:
        return replace(stack, fault=fault)
    order = geometry.order
    return replace(
        stack,
        headers=tuple(stack.headers[index] for index in order),
        geometry=geometry,
        formats=tuple(formats[index] for index in order),
    )
