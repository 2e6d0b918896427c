"""Labels as a DICOM segmentation: out by ours and back, from other writers in any order of frames, or refused with a reason."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bone_scan as phantom
import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from batchone.pipeline.editing.export import labels_file
from batchone.pipeline.editing.take import FOREIGN, read_edit
from batchone.pipeline.errors import InputError
from batchone.pipeline.intake.pseudonym import pseudonymous_uid
from batchone.pipeline.job.dicom_codes import PHYSICAL_OBJECT, Code, bone_code, coded_bone, coded_side, side_code
from batchone.pipeline.labels import VERTEBRAE, edited_by
from batchone.pipeline.values import Anatomy, Edit, FieldOfView, Label, Scan, SourceImages
from batchone.samples.dicom import write_series
from batchone.segment.backends.edited import edited
from batchone.segment.label_map import LabelMap, compact, expanded

ORDER = phantom.order("l1", "l2")
NAMED = (("l1", "midline"), ("l2", "midline"), ("femur", "left"))
STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The hospital's images of the phantom, by position."""
    scan, _ = phantom.bones_scan()
    files = write_series(
        np.maximum(scan.hu, -1024), scan.affine, tmp_path_factory.mktemp("study"), patient_name="TEST^ALPHA", patient_id="T-1"
    )
    return [pydicom.dcmread(file) for file in files]


@pytest.fixture(scope="module")
def scan(study: list[Any]) -> Scan:
    """The same as the intake gives it: under pseudonyms."""
    uids = tuple(pseudonymous_uid(str(one.SOPInstanceUID)) for one in study)
    of = [
        pseudonymous_uid(str(study[0][name].value)) for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    ]
    plain, _ = phantom.bones_scan()
    images = SourceImages(of[0], of[1], of[2], "1.2.840.10008.5.1.4.1.1.2", uids)
    return replace(plain, record=replace(plain.record, images=images))


@pytest.fixture(scope="module")
def truth() -> Any:
    return phantom.bones_scan()[1]


def exported(scan: Scan, truth: Any, source: str = "threshold") -> bytes:
    """What ``segment --export`` writes of the true labels."""
    labels = tuple(Label(number, name, side, True, 0.9) for number, (name, side) in enumerate(NAMED, start=1))
    voxels = replace(compact(LabelMap(truth, scan.affine, labels)), scan=scan.record.sources_digest)
    anatomy = Anatomy((), (), FieldOfView(scan.affine, scan.hu.shape), labels=voxels, source=source)
    record = {"started": "2026-03-04T10:00:00+00:00", "value_digest": "ab" * 32}
    return labels_file(scan, anatomy, record, ORDER, public_key="ssh-ed25519 AAAA")


@pytest.fixture(scope="module")
def ours(scan: Scan, truth: Any) -> bytes:
    return exported(scan, truth)


def foreign(study: list[Any], masks: Any, *, kind: str = "BINARY", names: Any = None) -> Any:
    """A segmentation that another program made of the hospital's images: masks (slices, rows, columns, segments)."""
    concept = highdicom.sr.CodedConcept
    algorithm = highdicom.AlgorithmIdentificationSequence("other", concept("123109", "DCM", "Manual Processing"), "1")
    names = names or [("L1", bone_code("l1")), ("Segment_2", bone_code("l2")), ("left femur", bone_code("femur"))]
    segments = [
        highdicom.seg.SegmentDescription(n, label, concept(*STRUCTURE), concept(*code), "SEMIAUTOMATIC", algorithm)
        for n, (label, code) in enumerate(names, start=1)
    ]
    return highdicom.seg.Segmentation(
        source_images=study,
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=7,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="other",
        manufacturer_model_name="other",
        software_versions="1",
        device_serial_number="1",
    )


def masks_of(truth: Any) -> Any:
    return np.stack([truth == n for n in (1, 2, 3)], axis=-1)


@pytest.fixture(scope="module")
def theirs(study: list[Any], truth: Any) -> bytes:
    """With frames in a drawn order, empty ones left out, and a gap in the numbers of its segments."""
    item = foreign(study, masks_of(truth))
    frames = list(item.PerFrameFunctionalGroupsSequence)
    assert len(frames) == masks_of(truth).any(axis=(1, 2)).sum(), "empty frames are left out"
    bits = np.unpackbits(np.frombuffer(item.PixelData, np.uint8), bitorder="little")[: len(frames) * truth[0].size]
    order = np.random.default_rng(8).permutation(len(frames))
    for one in (*(f.SegmentIdentificationSequence[0] for f in frames), *item.SegmentSequence):
        keyword = "SegmentNumber" if "SegmentNumber" in one else "ReferencedSegmentNumber"
        setattr(one, keyword, {1: 2, 2: 5, 3: 9}[getattr(one, keyword)])
    item.PerFrameFunctionalGroupsSequence = [frames[n] for n in order]
    item.PixelData = np.packbits(bits.reshape(len(frames), -1)[order], bitorder="little").tobytes()
    return written(item)


def written(item: Any) -> bytes:
    stream = io.BytesIO()
    item.save_as(stream)
    return stream.getvalue()


def taken(data: bytes, scan: Scan, folder: Path) -> Edit:
    (folder / "edited.dcm").write_bytes(data)
    return read_edit(folder / "edited.dcm", scan, (), ORDER, who="code-9")


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    item = pydicom.dcmread(io.BytesIO(data))
    change(item)
    return written(item)


def same(edit: Edit, truth: Any) -> bool:
    assert edit.labels is not None
    assert [(one.name, one.side) for one in edit.labels.labels] == list(NAMED)
    return bool(np.array_equal(expanded(edit.labels).voxels, truth))


def test_what_goes_out_comes_back_voxel_for_voxel(ours: bytes, scan: Scan, truth: Any, tmp_path: Path) -> None:
    edit = taken(ours, scan, tmp_path)
    assert same(edit, truth)
    assert edit.note == ""
    (tmp_path / "no_ending").write_bytes(ours)
    assert same(read_edit(tmp_path / "no_ending", scan, (), ORDER, who="code-9"), truth)
    assert exported(scan, truth) == ours, "the same labels give the same bytes"


@pytest.mark.parametrize("who", [None, "code-9\\x" + "y" * 80])
def test_it_says_who_drew_the_labels_and_the_validator_finds_no_error(
    who: str | None, scan: Scan, truth: Any, tmp_path: Path
) -> None:
    data = exported(scan, truth, "threshold" if who is None else edited_by(who))
    for segment in pydicom.dcmread(io.BytesIO(data)).SegmentSequence:
        kind, name = segment.SegmentAlgorithmType, segment.SegmentAlgorithmName
        if who is None:
            assert (kind, name) == ("AUTOMATIC", "batchone")
        else:
            assert kind == "SEMIAUTOMATIC"
            assert name.startswith("batchone, labels edited by code-9")
            assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0].CodeValue == "123109"
    program = shutil.which("dciodvfy")
    if program is not None:
        (tmp_path / "seg.dcm").write_bytes(data)
        done = subprocess.run([program, tmp_path / "seg.dcm"], capture_output=True, text=True)
        assert "Error" not in done.stdout + done.stderr


def test_frames_in_any_order_without_empty_ones_are_taken_whoever_wrote_them(
    theirs: bytes, scan: Scan, truth: Any, tmp_path: Path
) -> None:
    """The second segment is named by its code alone; the hospital's own UIDs are known by their pseudonyms."""
    edit = taken(theirs, scan, tmp_path)
    assert same(edit, truth)
    assert edit.note == ""


def test_a_label_map_is_taken(study: list[Any], scan: Scan, truth: Any, tmp_path: Path) -> None:
    item = foreign(study, truth, kind="LABELMAP")
    assert same(taken(written(item), scan, tmp_path), truth)
    item.PixelData = bytes(truth[0].size) + b"\x09" * (len(item.PixelData) - truth[0].size)
    with pytest.raises(InputError, match=r"has value 9 in frame 2, and no segment of that number"):
        taken(written(item), scan, tmp_path)


def test_a_foreign_frame_of_reference_on_the_same_grid_is_taken_and_told(
    theirs: bytes, scan: Scan, truth: Any, tmp_path: Path
) -> None:
    def other(item: Any) -> None:
        item.FrameOfReferenceUID = "1.2.3"
        item.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.4"

    edit = taken(changed(theirs, other), scan, tmp_path)
    assert same(edit, truth)
    assert edit.note == FOREIGN
    (finding,) = edited(scan, edit).findings
    assert FOREIGN in finding.what


def test_overlap_is_refused_with_its_voxels_and_what_to_do(study: list[Any], scan: Scan, truth: Any, tmp_path: Path) -> None:
    masks = masks_of(truth)
    masks[..., 1] |= (truth == 1) & (np.cumsum(truth == 1).reshape(truth.shape) <= 37)
    with pytest.raises(InputError, match=r"segments overlap in 37 voxels, at most 0") as told:
        taken(written(foreign(study, masks)), scan, tmp_path)
    assert "give every voxel to one bone" in told.value.hint


def test_segments_of_a_device_do_not_count(study: list[Any], scan: Scan, truth: Any, tmp_path: Path) -> None:
    """A job's own segmentation comes back as it is: its device lies in the bones, or beside them."""
    item = foreign(study, np.stack([truth == 1, truth == 2, truth > 0], axis=-1))
    item.SegmentSequence[2].SegmentLabel = "pedicle-guide guide"
    item.SegmentSequence[2].SegmentedPropertyCategoryCodeSequence[0].CodeValue = PHYSICAL_OBJECT.value
    edit = taken(written(item), scan, tmp_path)
    assert edit.labels is not None
    assert [one.name for one in edit.labels.labels] == ["l1", "l2"]
    assert np.array_equal(expanded(edit.labels).voxels, np.where(truth == 3, 0, truth))


def _spacing(item: Any) -> None:
    item.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.0, 1.02]


def _nudged(millimetres: float) -> Callable[[Any], None]:
    def change(item: Any) -> None:
        place = item.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0]
        place.ImagePositionPatient = [*place.ImagePositionPatient[:2], float(place.ImagePositionPatient[2]) + millimetres]

    return change


def _apart(item: Any) -> None:
    for group in item.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = [*place.ImagePositionPatient[:2], 2.0 * float(place.ImagePositionPatient[2]) - 45.5]


def _other_scan(item: Any) -> None:
    item.ContentDescription = "batchone labels of scan 0123456789abcdef"


def _label(number: int, label: str) -> Callable[[Any], None]:
    def change(item: Any) -> None:
        item.SegmentSequence[number].SegmentLabel = label

    return change


def _set(**values: Any) -> Callable[[Any], None]:
    def change(item: Any) -> None:
        for keyword, value in values.items():
            setattr(item, keyword, value)

    return change


def _no_place(item: Any) -> None:
    del item.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence


def _nowhere(item: Any) -> None:
    item.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 1e30]


def _stray(item: Any) -> None:
    item.PerFrameFunctionalGroupsSequence[1].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 8


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_spacing, r"another grid: .* mm beside the scan's, at most 0.05 mm"),
        (_nudged(0.06), r"another grid: voxels lie up to 0.060 mm beside the scan's"),
        (_nudged(100.0), r"another grid: \d+ labelled voxels lie outside the scan, at most 0"),
        (_apart, r"another grid: frames lie at least 2 mm apart, must be the scan's 1 mm"),
        (_other_scan, r"drawn on scan 0123456789abcdef, this case has scan 5555555555555555"),
        (_label(0, "L2"), r"segment 'L2' has the code of l1; its label and its code must agree"),
        (_label(2, "femur right"), r"segment 'femur right' has the code of the left side"),
        (_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), r"is no segmentation object but 'CT Image Storage'"),
        (_set(SegmentationType="FRACTIONAL"), r"type FRACTIONAL, must be BINARY or LABELMAP"),
        (_set(Rows=60000, Columns=60000), r"has 60000 x 60000 voxels, 3600000000 in all; the scan has 972000"),
        (_set(Rows=900), r"is cut off: \d+ bytes of pixels for 121 frames, must be \d+"),
        (_set(NumberOfFrames=7), r"has 7 frames and describes 121"),
        (_set(BitsAllocated=32), r"is BINARY with 32 bits"),
        (_set(SegmentSequence=[]), r"has a frame of segment \d, which it does not describe"),
        (_set(PixelData=b""), r"is cut off: 0 bytes"),
        (_no_place, r"has no PlanePositionSequence for frame 2"),
        (_nowhere, r"has frame 2 at a place that cannot be"),
        (_stray, r"has a frame of segment 8, which it does not describe"),
    ],
)
def test_what_does_not_belong_or_is_broken_is_refused_with_a_reason(
    change: Callable[[Any], None], told: str, ours: bytes, scan: Scan, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        taken(changed(ours, change), scan, tmp_path)


def test_a_place_just_inside_the_tolerance_is_taken(ours: bytes, scan: Scan, truth: Any, tmp_path: Path) -> None:
    assert same(taken(changed(ours, _nudged(0.04)), scan, tmp_path), truth)


def test_bytes_that_are_no_segmentation_are_refused(ours: bytes, scan: Scan, tmp_path: Path) -> None:
    garbled = np.frombuffer(ours, np.uint8).copy()
    draw = np.random.default_rng(5)
    garbled[draw.integers(400, 20_000, 400)] = draw.integers(0, 256, 400)
    deflated = ours.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1)
    for data in (b"", b"no picture", ours[:100], ours[:140], ours[:3000], ours[:-9000], garbled.tobytes(), deflated):
        with pytest.raises(InputError, match=r"edited\.dcm (cannot be read|is cut off|is written as RLE|has )"):
            taken(data, scan, tmp_path)
    with (tmp_path / "huge.dcm").open("wb") as stream:
        stream.write(ours)
        stream.truncate(1 << 33)  # a file with a hole: it takes no room
    with pytest.raises(InputError, match=r"has 8590 MB, at most 75 MB for this scan"):
        read_edit(tmp_path / "huge.dcm", scan, (), ORDER, who="code-9")


def test_codes_lead_back_to_the_bones_they_were_made_for() -> None:
    for name in ("skull", "femur", "sacrum", "rib", *(level for level in VERTEBRAE if level not in ("t13", "l6"))):
        assert coded_bone(*bone_code(name)[:2]) == name
    assert coded_bone("272673000", "SCT") == coded_bone("89546000", "SRT") == ""
    for side in ("left", "right"):
        code = side_code(side)
        assert code is not None
        assert coded_side(*code[:2]) == side
