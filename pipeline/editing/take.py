"""Labels that a person gives back for a case: read, compared with the scan, and put beside the order as an input of the case."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from batchone.pipeline import codec
from batchone.pipeline.disk import disk
from batchone.pipeline.editing.seg_dicom import MARK, MARK_AT, DicomSegment, read_dicom_seg
from batchone.pipeline.editing.seg_nrrd import read_seg_nrrd
from batchone.pipeline.errors import InputError
from batchone.pipeline.intake.pseudonym import pseudonymous_uid
from batchone.pipeline.job.dicom_codes import bone_code
from batchone.pipeline.labels import bone_title, is_bone, is_paired, split_title
from batchone.pipeline.order import Order
from batchone.pipeline.store import CaseFolder, sha256_file
from batchone.pipeline.values import Edit, Label, Scan, Side
from batchone.segment.backends.edited import CONFIDENCE, edited, refuse
from batchone.segment.confirmed import open_levels
from batchone.segment.grids import GridError, laid_on, placed, refuse_gaps
from batchone.segment.label_map import MAX_LABEL, LabelArray, LabelMap, compact
from batchone.segment.nifti import LabelFileError, read_labels
from batchone.segment.ordered import ordered_labels, wanted_bones

FOLDER = "labels"
ABOUT = "batchone labels of scan "  # in NIfTI and DICOM, before the scan's digest
FOREIGN = "the DICOM object names neither the scan's frame of reference nor its series: only its grid ties it to this scan"
SCAN_DIGITS = 16  # of the digest, in files: enough to tell scans apart

NEVER = Edit()


def scan_mark(scan: Scan) -> str:
    """What a label file carries to say which scan it belongs to."""
    return scan.record.sources_digest[:SCAN_DIGITS]


def read_edit(file: Path, scan: Scan, known: tuple[Label, ...], order: Order, *, who: str) -> Edit:
    """Read a label file (``.seg.nrrd``, a DICOM segmentation, or NIfTI with the values of ``known``) against a scan and an order.

    Raises
    ------
    InputError
        Not readable, of another scan, on another grid, with names that are no bones or of the other side, or without a bone
        that is ordered.
    """
    if not file.is_file():
        raise refuse(f"there is no file {file.name}")
    note = ""
    try:
        if is_dicom(file):
            voxels, labels, note = _from_dicom(file, scan, known)
        elif file.name.lower().endswith((".nii", ".nii.gz")):
            voxels, labels = _from_nifti(file, scan, known)
        else:
            voxels, labels = _from_seg_nrrd(file, scan, known)
    except LabelFileError as error:
        raise refuse(f"{file.name} {error}") from error
    except GridError as error:
        raise refuse(f"{file.name} lies on another grid: {error}") from error
    if not labels:
        raise refuse(f"{file.name} has no labelled voxels")
    given = replace(compact(LabelMap(voxels, scan.affine, labels)), scan=scan.record.sources_digest)
    edit = Edit(given, who, sha256_file(file), note)
    taken = edited(scan, edit).map.labels
    wanted = wanted_bones(order)
    later = open_levels(taken, wanted, proposed=False)  # a person says next which of the counted vertebrae these are
    ordered_labels(taken, tuple(one for one in wanted if one not in later))
    return edit


def _from_nifti(file: Path, scan: Scan, known: tuple[Label, ...]) -> tuple[LabelArray, tuple[Label, ...]]:
    values, affine, about = read_labels(file, most=scan.hu.size)
    if about.startswith(ABOUT):
        _same_scan(about.removeprefix(ABOUT).strip(), scan)
    values = laid_on(values, affine, scan.affine, scan.hu.shape, part=False)
    named = {label.value: label for label in known}
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > MAX_LABEL:
        raise refuse(f"{file.name} has values from {low} to {high}, must be 0 to {MAX_LABEL}")
    voxels = np.ascontiguousarray(values.astype(np.uint8))
    present = [int(value) for value in np.unique(compact(LabelMap(voxels, scan.affine, ())).value)]
    unknown = [str(value) for value in present if value not in named]
    if unknown:
        raise refuse(f"{file.name} has values without a name: {', '.join(unknown[:10])}; a .seg.nrrd carries names")
    return voxels, tuple(named[value] for value in present)


def _from_seg_nrrd(file: Path, scan: Scan, known: tuple[Label, ...]) -> tuple[LabelArray, tuple[Label, ...]]:
    layers, affine, segments = read_seg_nrrd(file, most=scan.hu.size)
    for segment in segments:
        if segment.scan:
            _same_scan(segment.scan, scan)
    out = np.zeros(scan.hu.shape, dtype=np.uint8)
    labels: dict[tuple[str, Side], Label] = {}
    overlap = 0
    placed = [laid_on(layer, affine, scan.affine, scan.hu.shape, part=True) for layer in layers]
    wrong = [segment.name for segment in segments if not 0 <= segment.layer < len(placed)]
    if wrong:
        raise refuse(f"{file.name} has no layer for {', '.join(wrong)}")
    for segment in segments:
        mask = placed[segment.layer] == segment.value
        if not mask.any():
            continue
        key = _bone(segment.name, known)
        if key not in labels and len(labels) == MAX_LABEL:
            raise refuse(f"{file.name} has more than {MAX_LABEL} bones")
        label = labels.setdefault(key, Label(len(labels) + 1, *key, True, CONFIDENCE))
        overlap += int(np.count_nonzero(out[mask]))
        out[mask] = label.value
    if overlap:
        raise _overlap(overlap)
    return out, tuple(labels.values())


def is_dicom(file: Path) -> bool:
    """Whether a file is, or is called, DICOM."""
    with file.open("rb") as stream:
        return file.suffix.lower() == ".dcm" or stream.read(MARK_AT + len(MARK))[MARK_AT:] == MARK


def _from_dicom(file: Path, scan: Scan, known: tuple[Label, ...]) -> tuple[LabelArray, tuple[Label, ...], str]:
    given = read_dicom_seg(file, most=scan.hu.size)
    marked = given.about.startswith(ABOUT)
    if marked:
        _same_scan(given.about.removeprefix(ABOUT).strip(), scan)
    if given.frames:
        normal = given.frames[0].affine[:3, 2]
        positions_mm = np.array([frame.affine[:3, 3] for frame in given.frames])
        refuse_gaps(positions_mm, normal / np.linalg.norm(normal), scan.affine)
    out = np.zeros(scan.hu.shape, dtype=np.uint8)
    counts = np.zeros(MAX_LABEL + 1, dtype=np.int64)
    overlap = 0
    devices = any(one.device for one in given.segments)
    kept = np.array([0, *(0 if one.device else n for n, one in enumerate(given.segments, start=1))], dtype=np.uint8)
    for frame, ordinals in given.ordinals():
        ordinals = kept[ordinals] if devices else ordinals
        if not ordinals.any():
            continue
        place, inside = placed(ordinals[None], frame.affine, scan.affine, scan.hu.shape)
        mask = inside != 0
        values = inside[mask]
        overlap += int(np.count_nonzero(out[place][mask]))
        out[place][mask] = values
        counts += np.bincount(values, minlength=MAX_LABEL + 1)
    if overlap:
        raise _overlap(overlap)
    labels: dict[tuple[str, Side], Label] = {}
    table = np.zeros(MAX_LABEL + 1, dtype=np.uint8)
    for ordinal, segment in enumerate(given.segments, start=1):
        if counts[ordinal]:
            key = _coded_bone(segment, known)
            table[ordinal] = labels.setdefault(key, Label(len(labels) + 1, *key, True, CONFIDENCE)).value
    return table[out], tuple(labels.values()), "" if marked or _refers_to(given.uids, scan) else FOREIGN


def _refers_to(uids: frozenset[str], scan: Scan) -> bool:
    """Whether a series or frame of reference is the scan's, under its pseudonym or the hospital's own name."""
    images = scan.record.images
    names = uids | {pseudonymous_uid(uid) for uid in uids}
    return images is not None and bool(names & ({images.frame_of_reference_uid, images.series_uid} - {""}))


def _coded_bone(segment: DicomSegment, known: tuple[Label, ...]) -> tuple[str, Side]:
    """The bone that a segment's label names, or else its code; what both say must agree."""
    name, side = split_title(segment.label)
    if not (is_bone(name) or any(label.name == name for label in known)):
        name = segment.bone or name
    elif segment.bone and bone_code(name) != bone_code(segment.bone):
        raise refuse(f"segment {segment.label!r} has the code of {segment.bone}; its label and its code must agree")
    if side is not None and segment.side is not None and side != segment.side:
        raise refuse(f"segment {segment.label!r} has the code of the {segment.side} side; its label and its code must agree")
    side = side or (segment.side if is_paired(name) else None)
    if not is_bone(name) and not any(label.name == name for label in known):
        return _bone(segment.label, known)
    return _bone(bone_title(name, side or "midline"), known)


def _overlap(voxels: int) -> InputError:
    return refuse(
        f"segments overlap in {voxels} voxels, at most 0",
        hint="give every voxel to one bone (3D Slicer: Masking, Modify other segments, Overwrite all), and give them again",
    )


def _bone(title: str, known: tuple[Label, ...]) -> tuple[str, Side]:
    name, side = split_title(title)
    for label in known:
        if (label.name, label.side) == (name, side or "midline"):
            return label.name, label.side
    if not is_bone(name):
        raise refuse(f"segment {title!r} is the name of no bone; names are those of an order: 'L1', 'femur left', 'skull'")
    if is_paired(name) and side is None:
        raise refuse(f"segment {title!r} names no side; write '{bone_title(name, 'left')}' or '{bone_title(name, 'right')}'")
    return name, side or "midline"


def _same_scan(mark: str, scan: Scan) -> None:
    if mark != scan_mark(scan):
        raise refuse(f"they were drawn on scan {mark[:SCAN_DIGITS]}, this case has scan {scan_mark(scan)}")


def put_edit(case: CaseFolder, edit: Edit) -> None:
    """Make an edit an input of the case: everything that depends on labels runs again."""

    def write(folder: Path) -> dict[str, Any]:
        return {"input": FOLDER, "who": edit.who, "file_sha256": edit.file_sha256, "value_digest": codec.save(edit, folder)}

    case.publish(FOLDER, write)


def remove_edit(case: CaseFolder) -> None:
    """Take the edit away."""
    with disk():
        shutil.rmtree(case.path / FOLDER)


def edit_digest(case: CaseFolder) -> str | None:
    """Digest of the edit that the case has; None when nobody edited."""
    record = case.record(FOLDER)
    return None if record is None else str(record["value_digest"])


def load_edit(case: CaseFolder) -> Edit:
    """The case's edit, checked against its record."""
    record = case.record(FOLDER)
    if record is None:
        return NEVER
    if not case.intact(FOLDER, record):
        raise refuse("the case's labels folder was changed by hand")
    edit: Edit = case.load(FOLDER)
    return edit
