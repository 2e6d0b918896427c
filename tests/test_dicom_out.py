"""The DICOM objects of a job folder: clean, where the scan is, the very shapes and bytes of the job, and nobody's name."""

from __future__ import annotations

import datetime as dt
import io
import os
import re
import shutil
import subprocess
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dicom_case as case
import highdicom
import manifold3d
import numpy as np
import pydicom
import pytest
from PIL import Image

from batchone.pipeline.intake.pseudonym import pseudonymous_uid
from batchone.pipeline.job.contours import LayerFigures
from batchone.pipeline.job.describe import NO_IMAGES, Case, describe
from batchone.pipeline.job.dicom_check import check_object, expected_names
from batchone.pipeline.job.dicom_codes import bone_code, side_code
from batchone.pipeline.job.dicom_header import object_bytes, padded
from batchone.pipeline.job.dicom_out import frame_of, report, shapes
from batchone.pipeline.job.dicom_seg import Meaning, Segment, segmentation_object, segments_of
from batchone.pipeline.job.manifest import JobManifest, read_manifest
from batchone.pipeline.job.measure import measure_mesh
from batchone.pipeline.job.sums import read_sums
from batchone.pipeline.job.verify import verify_job
from batchone.pipeline.job.voxels import Grid, put_inside, slice_range
from batchone.pipeline.labels import edited_by
from batchone.pipeline.values import Mesh

OBJECTS = ("dicom/segmentation.dcm", "dicom/model.dcm", "dicom/model-peg.dcm", "dicom/report.dcm")
EMPTY_UID = f"2.25.{10**38}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return case.make_job(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def manifest(made: Any) -> JobManifest:
    return read_manifest((made.job / "job.json").read_bytes())


@pytest.fixture(scope="module")
def segmentation(made: Any) -> Any:
    return highdicom.seg.segread(made.job / OBJECTS[0])


def test_the_job_holds_the_objects_and_verifies(made: Any, manifest: JobManifest) -> None:
    assert expected_names(manifest) == OBJECTS
    assert sorted(f"dicom/{path.name}" for path in (made.job / "dicom").iterdir()) == sorted(OBJECTS)
    report = verify_job(made.job, signers=made.keys)
    assert report.problems == ()


@pytest.mark.parametrize("name", OBJECTS)
def test_the_validator_finds_no_error(made: Any, name: str) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        assert not os.environ.get("CI"), "dciodvfy is not installed"
        pytest.skip("dciodvfy is not installed")
    done = subprocess.run([program, made.job / name], capture_output=True, text=True)
    assert "Error" not in done.stdout + done.stderr
    assert re.search("^(Segmentation|EncapsulatedSTL|EncapsulatedPDF)$", done.stdout + done.stderr, re.MULTILINE)


def test_another_reader_finds_the_frames_where_the_scan_is(made: Any, manifest: JobManifest, segmentation: Any) -> None:
    volume = _volume(segmentation)
    assert manifest.dicom is not None
    first, slices = manifest.dicom.first_slice, manifest.dicom.slices
    assert volume.spatial_shape == (slices, *case.SHAPE[1:])
    corners = np.array([[k, j, i] for k in (0, slices - 1) for j in (0, case.SHAPE[1] - 1) for i in (0, case.SHAPE[2] - 1)])
    found = volume.map_indices_to_reference(corners)
    wanted = (corners[:, ::-1] + [0, 0, first]) @ case.affine()[:3, :3].T + case.affine()[:3, 3]
    assert np.linalg.norm(found - wanted, axis=1).max() < 0.01  # mm
    assert volume.frame_of_reference_uid == made.scan.record.images.frame_of_reference_uid


def _volume(segmentation: Any) -> Any:
    """The other reader's volume, slices in the order of the scan's."""
    volume = segmentation.get_volume(combine_segments=False)
    return volume.flip_spatial(0) if volume.affine[:3, 0] @ case.affine()[:3, 2] < 0.0 else volume


def test_every_segment_has_every_slice_of_the_box_and_points_to_its_image(made: Any, segmentation: Any) -> None:
    """The image that a frame names is the one that lies where the frame lies."""
    originals = {pseudonymous_uid(str(one.SOPInstanceUID)): one for one in map(pydicom.dcmread, made.images)}
    frames = segmentation.PerFrameFunctionalGroupsSequence
    positions = [tuple(frame.PlanePositionSequence[0].ImagePositionPatient) for frame in frames]
    assert segmentation.number_of_segments == 3
    assert len(set(positions)) * 3 == len(frames) == int(segmentation.NumberOfFrames)
    for frame, position in zip(frames, positions, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        original = originals[source.ReferencedSOPInstanceUID]
        assert np.linalg.norm(np.array(position) - np.array(original.ImagePositionPatient, dtype=float)) < 0.01  # mm
        assert source.SpatialLocationsPreserved == "YES"


def test_voxels_are_those_inside_the_shapes(segmentation: Any, manifest: JobManifest) -> None:
    """Against the closed form of shell, plug and ball; facets and the rim of the hole are left out within half a mm."""
    frames = _volume(segmentation).array
    assert manifest.dicom is not None
    first = manifest.dicom.first_slice
    points = case.body_points(case.grid_points())[first : first + manifest.dicom.slices]
    radius, axis = case.radius_mm(points), case.axis_mm(points)
    ball = np.linalg.norm(points - case.PEG_AT_MM, axis=-1)
    room = 0.6  # mm: facets of 160 corners on 60 mm, stretched coordinates
    signed = (
        np.maximum.reduce([radius - case.OUTER_MM, case.INNER_MM - radius, case.HOLE_MM - axis]),
        np.maximum.reduce([radius - case.OUTER_MM, case.INNER_MM - radius, axis - case.PLUG_MM]),
        ball - case.PEG_MM,
    )
    for number, distance in enumerate(signed):
        inside = frames[..., number] == 1
        assert inside[distance < -room].all()
        assert not inside[distance > room].any()
        assert inside.sum() > 100


def test_segments_carry_codes_of_their_own(segmentation: Any) -> None:
    kinds = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in segmentation.SegmentSequence]
    assert kinds == ["89546000", "40388003", "40388003"]  # SNOMED CT: skull, implant
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == [
        "skull",
        "cranial-implant implant",
        "cranial-implant peg",
    ]
    assert bone_code("T9").value == "82687006"
    assert bone_code("vertebra-L5").value == "49668003"
    assert bone_code("femur-left").meaning == "Femur"
    assert bone_code("T13").meaning == bone_code("unheard of").meaning == "Bone"


def test_bones_that_a_person_drew_are_not_called_automatic(made: Any, segmentation: Any) -> None:
    assert {item.SegmentAlgorithmType for item in segmentation.SegmentSequence} == {"AUTOMATIC"}
    values = Case(**made.values)
    frame = frame_of(values)
    assert frame is not None
    segments = segments_of(replace(values.anatomy, source=edited_by("code-9")), values.checked.device)
    data, _, _ = segmentation_object(frame, segments, Grid(case.affine(), case.SHAPE), tilt_deg=0.0)
    told = [(item.SegmentAlgorithmType, item.SegmentAlgorithmName) for item in pydicom.dcmread(io.BytesIO(data)).SegmentSequence]
    assert told == [("SEMIAUTOMATIC", "batchone, labels edited by code-9"), *[("AUTOMATIC", "batchone")] * 2]


def test_models_and_report_carry_the_very_bytes(made: Any) -> None:
    for name, file in zip(OBJECTS[1:], ("parts/implant.stl", "parts/peg.stl", "clinical-report.pdf"), strict=True):
        item = pydicom.dcmread(made.job / name)
        data = (made.job / file).read_bytes()
        assert item.EncapsulatedDocumentLength == len(data)
        assert item.EncapsulatedDocument[: len(data)] == data
        assert len(item.EncapsulatedDocument) == len(data) + len(data) % 2
    assert padded(b"abc") == b"abc\0"
    assert padded(b"abcd") == b"abcd"


def test_models_state_unit_frame_and_group(made: Any) -> None:
    models = [pydicom.dcmread(made.job / name) for name in OBJECTS[1:3]]
    for item in models:
        unit = item.MeasurementUnitsCodeSequence[0]
        assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("mm", "UCUM")
        assert item.ModelMirroring == "NO"
        assert item.FrameOfReferenceUID == made.scan.record.images.frame_of_reference_uid
        (series,) = item.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == made.scan.record.images.series_uid
        assert len(series.ReferencedInstanceSequence) == len(made.images)
    assert models[0].ModelGroupUID == models[1].ModelGroupUID
    assert models[0].SeriesInstanceUID == models[1].SeriesInstanceUID
    assert models[0].SOPInstanceUID != models[1].SOPInstanceUID


def test_the_same_case_gives_the_same_bytes_and_no_time_of_the_clock(made: Any) -> None:
    values = Case(**made.values)
    frame = frame_of(values)
    assert frame is not None
    stls = [(made.job / f"parts/{part.name}.stl").read_bytes() for part in values.checked.device.parts]
    files, _ = shapes(values, frame, stls)
    name, data = report(frame, (made.job / "clinical-report.pdf").read_bytes())
    for path, again in {**files, name: data}.items():
        assert (made.job / path).read_bytes() == again, path
        item = pydicom.dcmread(io.BytesIO(again))
        assert item.ContentDate == item.SeriesDate == item.InstanceCreationDate == "20260304", "the day of the approval"
        today = dt.datetime.now(dt.UTC).strftime("%Y%m%d")
        assert f"{today}".encode() not in again[:4000]


def test_a_scan_without_images_makes_no_objects_and_says_so(made: Any) -> None:
    scan = replace(made.scan, record=replace(made.scan.record, images=None))
    values = Case(**{**made.values, "scan": scan})
    assert frame_of(values) is None
    figures = {part.name: measure_mesh(part.mesh) for part in values.checked.device.parts}
    digests = {f"parts/{part.name}.{end}": "00" * 32 for part in values.checked.device.parts for end in ("stl", "3mf")}
    made_of = describe(values, figures, layers=LayerFigures(1, 0.03, 1.0, contours=1, hatches=0, hatches_mm=0.0), digests=digests)
    assert made_of.dicom is None
    assert made_of.dicom_note == NO_IMAGES


def test_a_scan_without_a_frame_of_reference_gets_one_for_its_objects(made: Any) -> None:
    images = replace(made.scan.record.images, frame_of_reference_uid="")
    scan = replace(made.scan, record=replace(made.scan.record, images=images))
    frame = frame_of(Case(**{**made.values, "scan": scan}))
    assert frame is not None
    assert frame.images.frame_of_reference_uid.startswith("2.25.")


@pytest.mark.parametrize(
    ("images", "sop_class", "tilt_deg", "named"),
    [
        (30, "1.2.840.10008.5.1.4.1.1.2", 0.0, ["YES"]),
        (30, "1.2.840.10008.5.1.4.1.1.2", 12.0, ["NO"]),
        (29, "1.2.840.10008.5.1.4.1.1.2", 0.0, []),
        (1, "1.2.840.10008.5.1.4.1.1.2.1", 0.0, []),
    ],
    ids=["image by image", "slices were moved", "slices were resampled", "one multi-frame object"],
)
def test_a_frame_names_its_image_where_there_is_one_and_says_whether_it_lies_on_it(
    made: Any, tmp_path: Path, images: int, sop_class: str, tilt_deg: float, named: list[str]
) -> None:
    """Whatever the scan came from: all its images are referred to, in order, and the validator finds no error."""
    frame = frame_of(Case(**made.values))
    assert frame is not None
    uids = tuple(pseudonymous_uid(f"1.2.3.{number}") for number in range(images))
    frame = replace(frame, images=replace(frame.images, instance_uids=uids, sop_class_uid=sop_class))
    grid = Grid(np.diag([0.5, 0.75, 1.0, 1.0]), (30, 20, 40))
    data, own, first = segmentation_object(frame, _balls(), grid, tilt_deg=tilt_deg)
    item = pydicom.dcmread(io.BytesIO(data))
    (series,) = item.ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == list(uids)
    assert {one.ReferencedSOPClassUID for one in series.ReferencedInstanceSequence} == {sop_class}
    for group in item.PerFrameFunctionalGroupsSequence:
        sources = [one for source in group.DerivationImageSequence for one in source.SourceImageSequence]
        assert [one.SpatialLocationsPreserved for one in sources] == named
        at_slice = round(float(group.PlanePositionSequence[0].ImagePositionPatient[2]))
        assert not sources or sources[0].ReferencedSOPInstanceUID == uids[at_slice]
    assert (first, own.shape) == (4, (23, 20, 40))
    program = shutil.which("dciodvfy")
    if program is not None:
        (tmp_path / "seg.dcm").write_bytes(data)
        done = subprocess.run([program, tmp_path / "seg.dcm"], capture_output=True, text=True)
        assert "Error" not in done.stdout + done.stderr


def _balls() -> tuple[Segment, Segment]:
    """Two segments that overlap."""
    middles = ([10.0, 7.0, 15.0], [12.0, 7.0, 16.0])
    solids = (manifold3d.Manifold.sphere(radius, 64).translate(at) for radius, at in zip((10.5, 6.0), middles, strict=True))
    code = bone_code("skull")
    return tuple(  # type: ignore[return-value]
        Segment(Meaning(f"ball {number}", code, code, side_code("left"), code), _mesh_of(solid))
        for number, solid in enumerate(solids)
    )


def _mesh_of(solid: manifold3d.Manifold) -> Mesh:
    made = solid.to_mesh64()
    return Mesh(np.array(made.vert_properties[:, :3]), np.array(made.tri_verts, dtype=np.int32))


def test_the_segmentation_takes_less_memory_than_a_byte_for_each_voxel(made: Any) -> None:
    """And it says that its segments overlap, which highdicom finds by sums over a whole array where it is given one."""
    frame = frame_of(Case(**made.values))
    assert frame is not None
    grid = Grid(np.diag([0.1, 0.1, 0.25, 1.0]), (120, 200, 320))
    segmentation_object(frame, _balls(), grid, tilt_deg=0.0)  # what is loaded once
    tracemalloc.start()
    try:
        data, own, _ = segmentation_object(frame, _balls(), grid, tilt_deg=0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * np.prod(own.shape)
    assert pydicom.dcmread(io.BytesIO(data)).SegmentsOverlap == "YES"


def _moved(item: Any) -> None:
    place = item.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    place.ImagePositionPatient = [place.ImagePositionPatient[0] + 0.011, *place.ImagePositionPatient[1:]]  # mm: just outside


def _nudged(item: Any) -> None:
    place = item.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    place.ImagePositionPatient = [place.ImagePositionPatient[0] + 0.009, *place.ImagePositionPatient[1:]]  # mm: just inside


def _emptied(item: Any) -> None:
    item.PixelData = bytes(len(item.PixelData))


def _shifted(item: Any) -> None:
    bits = np.unpackbits(np.frombuffer(item.PixelData, np.uint8), bitorder="little")
    item.PixelData = np.packbits(np.roll(bits, 3), bitorder="little").tobytes()  # voxels: 6.6 mm along the columns


def _nested(item: Any) -> None:
    item.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].PatientComments = "TEST^ALPHA"


def _private(item: Any) -> None:
    item.private_block(0x0011, "MAKER", create=True).add_new(1, "LO", "TEST^ALPHA")


def _set(**values: Any) -> Callable[[Any], None]:
    def change(item: Any) -> None:
        for keyword, value in values.items():
            setattr(item, keyword, value)

    return change


def _other_mesh(item: Any) -> None:
    data = bytearray(item.EncapsulatedDocument)
    data[100] ^= 1
    item.EncapsulatedDocument = bytes(data)


def _inches(item: Any) -> None:
    item.MeasurementUnitsCodeSequence[0].CodeValue = "[in_i]"


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (OBJECTS[0], _moved, "corners"),
        (OBJECTS[0], _emptied, "empty"),
        (OBJECTS[0], _shifted, "beside its part"),
        (OBJECTS[0], _nested, "PatientComments"),
        (OBJECTS[0], _private, "0011"),
        (OBJECTS[0], _set(FrameOfReferenceUID="2.25.7"), "FrameOfReferenceUID"),
        (OBJECTS[0], _set(Rows=57), "frames, rows, columns"),
        (OBJECTS[1], _other_mesh, "does not carry the bytes"),
        (OBJECTS[1], _set(PatientName="TEST^ALPHA"), "PatientName"),
        (OBJECTS[1], _set(PatientBirthDate="19010203"), "PatientBirthDate"),
        (OBJECTS[1], _set(ModelMirroring="YES"), "mirrored"),
        (OBJECTS[1], _set(EncapsulatedDocumentLength=8), "EncapsulatedDocumentLength"),
        (OBJECTS[1], _inches, "unit"),
        (OBJECTS[3], _set(StudyInstanceUID="2.25.8"), "StudyInstanceUID"),
        (OBJECTS[3], _set(PatientIdentityRemoved="NO"), "PatientIdentityRemoved"),
        (OBJECTS[3], _other_mesh, "does not carry the bytes"),
    ],
)
def test_an_object_that_is_off_is_told(
    made: Any, manifest: JobManifest, name: str, change: Callable[[Any], None], told: str
) -> None:
    faults = _faults(made, manifest, name, change)
    assert any(told in fault for fault in faults), faults


def test_rounding_is_not_off(made: Any, manifest: JobManifest) -> None:
    assert _faults(made, manifest, OBJECTS[0], _nudged) == []


def _faults(made: Any, manifest: JobManifest, name: str, change: Callable[[Any], None]) -> list[str]:
    """What is told of an object that was changed and given the digest of its new content as its UID."""
    item = pydicom.dcmread(made.job / name)
    change(item)
    item.SOPInstanceUID = EMPTY_UID
    listed = read_sums((made.job / "SHA256SUMS").read_bytes())
    return check_object(name, object_bytes(item), manifest=manifest, listed=listed)


@pytest.mark.parametrize("name", OBJECTS)
def test_changed_or_broken_bytes_are_told(made: Any, manifest: JobManifest, name: str) -> None:
    data = (made.job / name).read_bytes()
    listed = read_sums((made.job / "SHA256SUMS").read_bytes())
    at = data.index(b"batchone")
    wrong = (data[:at] + b"batchtwo" + data[at + 8 :], b"MZ" + data[2:], data[: len(data) // 2], data[:140], b"", b"\xff" * 4000)
    for broken in wrong:
        assert check_object(name, broken, manifest=manifest, listed=listed)
    assert check_object(name, data, manifest=manifest, listed=listed) == []


def test_no_seeded_identity_is_in_any_file_of_the_job(made: Any) -> None:
    assert len(made.seeds) > 36
    uids = [seed for seed in made.seeds if seed.count(".") > 3]
    root = "1.2.826.0.1.3680043.8.498."  # of all UIDs that the samples make
    assert all(uid.startswith(root) for uid in uids)
    words = [seed for seed in made.seeds if seed not in uids]
    marked = [word for word in words if not re.fullmatch("SEED[0-9A-Z]{3,}", word)]
    wanted = re.compile("|".join(["SEED[0-9A-Z]{3}", re.escape(root), *map(re.escape, marked)]).encode())
    assert all(wanted.search(seed.encode()) for seed in made.seeds)
    seen = set()
    for path in sorted(p for p in made.job.rglob("*") if p.is_file()):
        for piece in (path.relative_to(made.job).as_posix().encode(), path.read_bytes(), *_opened(path)):
            for text in (piece, piece.replace(b"\0", b"")):  # the second: as UTF-16 too
                seen |= {(path.name, match[0]) for match in wanted.finditer(text)}
    assert seen == set()


def test_the_search_for_identity_sees_into_every_kind_of_file(made: Any, tmp_path: Path) -> None:
    """What stands in text, compressed streams, archives and pictures is found where it is."""
    job_id = made.job.name.encode()
    for name in ("build-report.pdf", "clinical-report.pdf", "parts/implant.3mf"):
        pieces = _opened(made.job / name)
        assert len(pieces) > 2, name
    assert any(job_id in piece for piece in _opened(made.job / "clinical-report.pdf"))
    assert any(b"<vertex" in piece for piece in _opened(made.job / "parts/implant.3mf"))
    item = pydicom.dcmread(made.job / OBJECTS[0])
    item.SegmentSequence[0].SegmentDescription = "SEED00Q"
    item.save_as(tmp_path / "a.dcm")
    assert any(b"SEED00Q" in piece for piece in _opened(tmp_path / "a.dcm"))
    picture = Image.new("RGB", (4, 4))
    picture.save(tmp_path / "a.png", pnginfo=_png_text("SEED00Q"))
    assert any(b"SEED00Q" in piece for piece in _opened(tmp_path / "a.png"))


def _png_text(text: str) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", text, zip=True)
    return info


def _opened(path: Path) -> list[bytes]:
    """What a file holds once it is opened as what it is."""
    data = path.read_bytes()
    if path.suffix == ".pdf":
        text = subprocess.run(["pdftotext", path, "-"], check=True, capture_output=True).stdout
        return [text, *(_inflated(stream) for stream in re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL))]
    if path.suffix == ".3mf":
        with zipfile.ZipFile(path) as archive:
            return [piece for name in archive.namelist() for piece in (name.encode(), archive.read(name))]
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
            return [repr(picture.info).encode()]
    if path.suffix == ".dcm":
        item = pydicom.dcmread(path)
        document = bytes(item.get("EncapsulatedDocument", b""))
        for keyword in ("EncapsulatedDocument", "PixelData"):
            if keyword in item:
                delattr(item, keyword)
        inner = [_inflated(stream) for stream in re.findall(rb"stream\r?\n(.*?)endstream", document, re.DOTALL)]
        return [str(item).encode(), str(item.file_meta).encode(), data[:128], *inner]
    return []


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(stream)
    except zlib.error:
        return stream


def _mesh(solid: manifold3d.Manifold) -> Mesh:
    made = solid.to_mesh64()
    return Mesh(np.array(made.vert_properties[:, :3]), np.array(made.tri_verts, dtype=np.int32))


def _inside(mesh: Mesh, grid: Grid, *, offset: int = 0) -> Any:
    size = int(np.prod(grid.shape))
    bits = np.zeros((offset + size + 7) // 8, dtype=np.uint8)
    put_inside(mesh, grid, bits=bits, offset=offset)
    return np.unpackbits(bits, bitorder="little")[offset : offset + size].reshape(grid.shape)


def test_a_cube_on_the_grid_takes_each_voxel_once() -> None:
    """Faces run exactly through voxel centres: two cubes side by side share no voxel and leave none out."""
    grid = Grid(np.eye(4), (14, 15, 17))
    left, right = (_mesh(manifold3d.Manifold.cube([5.0, 10.0, 10.0]).translate([x, 2.0, 1.0])) for x in (2.0, 7.0))
    both = _inside(left, grid).astype(int) + _inside(right, grid)
    assert both.sum() == 1000
    assert both.max() == 1


@pytest.mark.parametrize("offset", [0, 5, 64])
def test_bits_start_where_they_are_told_and_leave_the_others_alone(offset: int) -> None:
    grid = Grid(np.eye(4), (9, 11, 13))
    ball = _mesh(manifold3d.Manifold.sphere(3.3, 48).translate([6.1, 5.2, 4.3]))
    assert np.array_equal(_inside(ball, grid, offset=offset), _inside(ball, grid))
    k, j, i = np.mgrid[:9, :11, :13]
    distance = np.sqrt((i - 6.1) ** 2 + (j - 5.2) ** 2 + (k - 4.3) ** 2)
    assert np.array_equal(_inside(ball, grid) == 1, distance < 3.3 - 0.004), "facets of 48 corners lie 0.007 mm below the ball"


def test_what_lies_outside_the_grid_is_left_out() -> None:
    grid = Grid(np.eye(4), (4, 4, 4))
    assert _inside(_mesh(manifold3d.Manifold.cube([50.0] * 3, True)), grid).all()
    for shift in ([100.0, 0.0, 0.0], [-100.0, 0.0, 0.0], [0.0, 90.0, 0.0], [0.0, 0.0, -80.0]):
        assert not _inside(_mesh(manifold3d.Manifold.cube([10.0] * 3).translate(shift)), grid).any()
    half = _inside(_mesh(manifold3d.Manifold.cube([50.0] * 3).translate([-48.5, -20.0, -20.0])), grid)
    assert half[..., :2].all()
    assert not half[..., 2:].any()


def test_the_box_of_slices_holds_all_surfaces_and_stays_in_the_scan() -> None:
    grid = Grid(np.diag([1.0, 1.0, 2.0, 1.0]), (50, 10, 10))
    low, high = (_mesh(manifold3d.Manifold.cube([1.0, 1.0, 4.0]).translate([0.0, 0.0, z])) for z in (11.0, 60.0))
    first, count = slice_range((low, high), grid)
    assert (first, first + count - 1) == (5, 32)  # 11 mm lies in slice 5.5, 64 mm in slice 32
    assert slice_range((_mesh(manifold3d.Manifold.cube([1.0] * 3).translate([0.0, 0.0, 500.0])),), grid) == (49, 1)
