"""Every trap of `samples.traps` gets its verdict, and its true volume lies where it must and holds what it must.

dcm2niix is the oracle of geometry: on every series that both accept, traps and real ones, each voxel lies where it puts it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.gaps import Grid, find_grid
from batchone.pipeline.intake.make import intake
from batchone.pipeline.intake.package import open_study
from batchone.pipeline.intake.pseudonym import pseudonymous_uid
from batchone.pipeline.intake.series import preference, sort_files, stack_images
from batchone.pipeline.intake.straighten import straighten
from batchone.pipeline.intake.volume import read_volume
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.pipeline.values import FloatArray, HuArray, Scan
from batchone.samples.trap_images import body_hu, save
from batchone.samples.traps import TRAPS, Trap, Truth, trap, write_trap

ANY = Protocol(
    max_slice_spacing_mm=5.0,
    warn_slice_spacing_mm=4.0,
    max_slice_thickness_mm=6.0,
    max_pixel_mm=2.0,
    max_gantry_tilt_deg=0.5,
    min_slices=3,
    source="test",
)
ORDER = Order(
    case="demo-0001",
    device="anatomical-model",
    side="left",
    process="pa12-sls",
    machine="sim-01",
    due=dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC),
)
CORNER_MM = 0.01  # the limit
ORACLE_MM = 0.01  # the limit
SHEARED_HU = 60.0  # cubic convolution of a body with blobs of 2.4 mm radius in pixels of 0.75 mm: 2.5 % of its contrast


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """A trap with a true volume: its files, what must come out, what came out."""

    study: Path
    truth: Truth
    scan: Scan


Take = Callable[[Trap], Taken]


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    """Write and read a trap, once for all tests."""
    kept: dict[str, Taken] = {}

    def taken(one: Trap) -> Taken:
        if one.name not in kept:
            study = tmp_path_factory.mktemp(one.name) / "study"
            truth = write_trap(one, study)
            kept[one.name] = Taken(study, truth, intake(study, ORDER, ANY)[0])
        return kept[one.name]

    return taken


def corners_mm(affine: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Centres of the corner voxels, rising slice, row, column."""
    deep, low, wide = np.meshgrid(*([0, size - 1] for size in shape), indexing="ij")
    return np.asarray((np.stack([wide, low, deep, np.ones_like(wide)], axis=-1).reshape(8, 4) @ affine.T)[:, :3])


GOOD = [one for one in TRAPS if one.verdict != "refused"]
BAD = [one for one in TRAPS if one.verdict == "refused"]


@pytest.mark.parametrize("one", GOOD, ids=lambda one: one.name)
def test_a_trap_with_a_true_volume_gives_it_and_says_what_was_corrected(one: Trap, take: Take) -> None:
    scan, truth = take(one).scan, take(one).truth
    assert np.abs(corners_mm(scan.affine, scan.hu.shape) - truth.corners_mm).max() <= CORNER_MM
    said = "; ".join(scan.record.corrections)
    assert one.words in said
    assert (one.verdict == "accepted") == (not said)
    if truth.hu is not None:
        assert np.array_equal(scan.hu, truth.hu)
    else:
        assert_shows_the_body(scan, truth)


def assert_shows_the_body(scan: Scan, truth: Truth) -> None:
    """The resampled volume shows the body wherever it was scanned; exactly so on slices that were not resampled."""
    index = np.stack(np.meshgrid(*map(np.arange, scan.hu.shape), indexing="ij")[::-1], axis=-1)
    points = index @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    expected = body_hu(points, truth.place)
    place = truth.place
    for number, along in enumerate(place.along_mm - place.along_mm[0]):
        level = along / scan.spacing_mm[2]
        if abs(level - round(level)) > 1e-6:
            continue
        column, row = (place.sideways_mm[number] - place.sideways_mm[0]) / place.pixel_mm[::-1] + place.pixels_before
        rows = slice(int(np.ceil(row)) + 2, int(row) + place.shape[0] - 3)
        columns = slice(int(np.ceil(column)) + 2, int(column) + place.shape[1] - 3)
        error = np.abs(scan.hu[round(level)] - expected[round(level)])[rows, columns]
        whole = all(abs(value - round(value)) < 1e-6 for value in (row, column))
        assert error.max() <= (0.5 + 1e-6 if whole else SHEARED_HU)


@pytest.mark.parametrize("one", BAD, ids=lambda one: one.name)
def test_a_trap_without_a_true_volume_is_refused_with_its_reason(one: Trap, tmp_path: Path) -> None:
    write_trap(one, tmp_path)
    with pytest.raises(SeriesError) as caught:
        intake(tmp_path, ORDER, ANY)
    assert one.words in str(caught.value)
    assert caught.value.hint


# --- limits of the grid ----------------------------------------------------------------------------------------------


def grid(along_mm: Sequence[float], *, rounding_mm: float = 0.0, numbers: Sequence[int | None] | None = None) -> Grid:
    counted = [None] * len(along_mm) if numbers is None else numbers
    return find_grid(np.array(along_mm, dtype=np.float64), rounding_mm=rounding_mm, numbers=counted)


@pytest.mark.parametrize(("off_mm", "even"), [(0.0095, True), (0.0125, False)])
def test_a_slice_off_its_place_is_resampled_beyond_a_hundredth_of_a_millimetre(off_mm: float, even: bool) -> None:
    places = np.arange(12.0)
    places[5] += off_mm
    found = grid(places)
    assert found.even == even
    assert (found.count, found.step_mm) == (12, pytest.approx(1.0, abs=1e-3))
    assert found.largest_gap_mm == pytest.approx(1.0 if even else 1.0 + off_mm, abs=1e-3)


def test_an_isolated_double_gap_is_a_lost_slice_and_a_run_of_three_is_a_zone() -> None:
    with pytest.raises(SeriesError, match="2 slices missing") as caught:
        grid([0, 1, 2, 3, 5, 7, 8, 9, 10])
    assert "5.00 and 7.00 mm" in caught.value.hint
    assert "has 4 of 9 images, from 0.00 to 3.00 mm" in str(caught.value)
    zone = grid([0, 1, 2, 3, 5, 7, 9, 10, 11])
    assert (zone.even, zone.step_mm, zone.count, zone.largest_gap_mm) == (False, pytest.approx(1.0), 12, 2.0)
    assert zone == grid([0, 1, 2, 3, 5, 7, 9, 10, 11], numbers=range(9))
    with pytest.raises(SeriesError, match="3 slices missing"):
        grid([0, 1, 2, 3, 5, 7, 9, 10, 11], numbers=[0, 1, 2, 3, 5, 7, 9, 10, 11])


def test_places_rounded_too_coarsely_for_their_spacing_earn_no_allowance() -> None:
    fine = [round(0.625 * k, 1) for k in range(20)]
    assert grid(fine, rounding_mm=0.05).even
    assert not grid(fine).even
    assert not grid([round(0.3 * k, 1) + (0.06 if k == 7 else 0.0) for k in range(20)], rounding_mm=0.05).even


@pytest.mark.parametrize(("limit_mm", "taken"), [(2.51, True), (2.49, False)])
def test_an_uneven_series_is_judged_by_its_largest_gap(limit_mm: float, taken: bool, take: Take) -> None:
    strict = ANY.model_copy(update={"max_slice_spacing_mm": limit_mm, "warn_slice_spacing_mm": 1.0})
    study = take(trap("two-zones")).study
    if taken:
        assert intake(study, ORDER, strict)[0].spacing_mm[2] == pytest.approx(0.625, abs=1e-6)
    else:
        with pytest.raises(SeriesError, match=r"slice spacing is 2\.5 mm, at most 2\.49 mm"):
            intake(study, ORDER, strict)


# --- multi-frame objects ---------------------------------------------------------------------------------------------


def test_a_multi_frame_object_is_one_instance_and_its_file_is_digested_once(take: Take) -> None:
    taken = take(trap("enhanced"))
    record = taken.scan.record
    assert record.images is not None
    assert len(record.images.instance_uids) == 1
    assert record.slices == taken.scan.hu.shape[0]
    assert record.kernel == "BONE"
    (path,) = taken.study.iterdir()
    assert record.sources_digest == hashlib.sha256(hashlib.sha256(path.read_bytes()).digest()).hexdigest()


def test_the_instances_of_a_tilted_series_rise_with_their_place(take: Take) -> None:
    taken = take(trap("tilt-15-deg"))
    images = [pydicom.dcmread(path, stop_before_pixels=True) for path in taken.study.iterdir()]
    rising = sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))
    assert taken.scan.record.images is not None
    assert taken.scan.record.images.instance_uids == tuple(pseudonymous_uid(image.SOPInstanceUID) for image in rising)


@pytest.mark.parametrize("change", ["states one more", "describes one less", "pixels cut off"])
def test_a_multi_frame_object_that_lacks_frames_is_refused(change: str, tmp_path: Path) -> None:
    made = trap("enhanced").make()
    (item,) = made.objects
    if change == "states one more":
        item.NumberOfFrames += 1
    elif change == "describes one less":
        item.PerFrameFunctionalGroupsSequence.pop()
    else:
        item.PixelData = item.PixelData[:-2]
    save(item, tmp_path / "one")
    words = "pixel data of an image are cut off" if change == "pixels cut off" else "do not describe their frames: 1"
    with pytest.raises(SeriesError, match=words):
        intake(tmp_path, ORDER, ANY)


# --- the oracle ------------------------------------------------------------------------------------------------------

# what the oracle (1.0.20220720) cannot do, by trap
CANNOT_READ = {"deflated", "jpeg-ls", "enhanced-deflated", "enhanced-rle", "enhanced-jpeg-ls", "enhanced-jpeg-2000"}
SEES_OTHERWISE = {
    "two-zones": "its even grid is as coarse as the coarse zone wants",
    "wandering-spacing": "its even grid has another step",
    "positions-rounded": "it takes the first gap, which is rounded, for all: 1.5 mm off after 37 mm",
    "scanned-again": "it stacks both scans",
    "acquisitions-between": "it stacks both acquisitions",
    "rescale-changes": "it makes one file of each slice",
    "enhanced-per-frame": "with the orientation in every frame it no longer reads the frames' positions: see the test of it",
    "tilt-about-two-axes": "it shifts rows alone",
    "enhanced-tilted": "it leaves the step along the table as the step between slices",
}
OTHER_VALUES = {
    "two-acquisitions": "it takes the last of two images at one place",
    "two-phases": "it takes the last of two images at one place",
    "two-times": "it takes the last of two images at one place",
    "two-passes": "it takes the last of two images at one place",
    "enhanced-two-phases": "it takes the last of two images at one place",
    "signed-12": "it leaves the bits above twelve as they are, without the sign",
}


@pytest.fixture(scope="session")
def dcm2niix() -> str:
    program = shutil.which("dcm2niix", path="/usr/bin") or shutil.which("dcm2niix")
    if program is None and os.environ.get("CI"):
        pytest.fail("dcm2niix is not installed")
    if program is None:
        pytest.skip("dcm2niix is not installed (Debian package dcm2niix)")
    return program


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A volume: (column, row, slice) -> LPS mm, and its HU."""

    affine: FloatArray
    hu: HuArray


def convert(program: str, study: Path, folder: Path) -> dict[str, Placed]:
    """What dcm2niix makes of a study, by the names of its files."""
    folder.mkdir(parents=True)
    command = [program, "-b", "n", "-z", "n", "-f", "%s", "-o", str(folder), str(study)]
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    return {path.stem: volume for path in sorted(folder.glob("*.nii")) if (volume := read_nifti(path)) is not None}


def read_nifti(path: Path) -> Placed | None:
    """A volume of signed 16-bit values with whole rescale values; None for anything else (captures in colour)."""
    raw = path.read_bytes()
    columns, rows, slices = struct.unpack_from("<3h", raw, 42)
    offset, slope, intercept = struct.unpack_from("<3f", raw, 108)
    if struct.unpack_from("<h", raw, 70)[0] != 4 or slope != 1.0 or not intercept.is_integer():
        return None
    stored = np.frombuffer(raw, "<i2", count=slices * rows * columns, offset=int(offset)).reshape(slices, rows, columns)
    affine = np.eye(4)
    affine[:3] = np.array(struct.unpack_from("<12f", raw, 280)).reshape(3, 4)
    return Placed(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, stored + np.int16(intercept))  # NIfTI is RAS


def assert_same_place(scan: Placed, other: Placed) -> None:
    ours, theirs = corners_mm(scan.affine, scan.hu.shape), corners_mm(other.affine, other.hu.shape)
    apart = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
    assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) <= ORACLE_MM


def assert_same_values(scan: Placed, other: Placed) -> None:
    """The same HU in every voxel, under the map from one to the other (which turns rows round, and may turn slices)."""
    between = np.linalg.inv(other.affine) @ scan.affine
    assert np.abs(np.abs(between[:3, :3]) - np.eye(3)).max() < 1e-3  # along the same axes, possibly backwards
    backwards = tuple(slice(None, None, -1 if between[axis, axis] < 0 else 1) for axis in (2, 1, 0))
    assert all(np.array_equal(np.maximum(theirs, -1024), ours) for theirs, ours in zip(other.hu[backwards], scan.hu, strict=True))


def assert_same_straightened(scan: Placed, other: Placed) -> None:
    """A tilted stack made straight by both: one grid, and what they show there agrees but for their ways to interpolate (linear
    there, cubic here).
    """
    assert scan.hu.shape == other.hu.shape
    assert_same_place(scan, other)
    between = np.linalg.inv(other.affine) @ scan.affine
    assert between[:3, :3] == pytest.approx(np.diag([1.0, -1.0, 1.0]), abs=1e-4)
    ours, theirs = scan.hu[::9].astype(np.float64), np.maximum(other.hu[::9, ::-1], -1024)
    error = (ours - theirs)[np.abs(ours + 1024) > 1]
    contrast = float(np.percentile(ours, 99) - np.percentile(ours, 1))
    assert abs(float(error.mean())) <= 0.005 * contrast
    assert float(np.percentile(np.abs(error), 95)) <= 0.1 * contrast


def rows_beside(volume: Placed, truth: Truth, number: int) -> float:
    """By how many of its rows a volume shows slice ``number`` of the body towards rising rows of the slices, against its own
    matrix: a least-squares fit to the known body.
    """
    hu = volume.hu[number]
    index = np.stack([*np.meshgrid(np.arange(hu.shape[1]), np.arange(hu.shape[0])), np.full(hu.shape, number)], axis=-1)
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    step = 0.05 * truth.place.down
    rise = (body_hu(points + step, truth.place) - body_hu(points - step, truth.place)) / 0.1
    seen = hu > volume.hu.min()
    difference = (body_hu(points, truth.place) - hu)[seen]
    return float(difference @ rise[seen] / (rise[seen] @ rise[seen])) / truth.place.pixel_mm[0]


# where the stack leans towards rising rows, the oracle moves its matrix by whole rows and the pixels by the drift itself, and
# takes the drift as a hair longer than whole rows where it is whole: by trap, rows that its grid is longer
LEANING_TO_RISING_ROWS = {"tilt-slight": 0, "tilt-unstated": 0, "tilt-whole-rows": 1}


@pytest.mark.parametrize("name", LEANING_TO_RISING_ROWS)
def test_a_stack_leaning_to_rising_rows_has_dcm2niix_s_grid_and_its_pixels_are_beside_their_place_there_only(
    name: str, take: Take, tmp_path: Path, dcm2niix: str
) -> None:
    """The grids agree within 0.01 mm at the corners (but for one more row, beyond our last, in the trap of whole rows). The
    pixels cannot: the known body shows that dcm2niix lays them beside its own matrix by the rounding of the drift to whole
    rows, and that ours lie in their place.
    """
    taken = take(trap(name))
    (theirs,) = (volume for stem, volume in convert(dcm2niix, taken.study, tmp_path / "out").items() if stem.endswith("_Tilt_1"))
    ours, more = Placed(taken.scan.affine, taken.scan.hu), LEANING_TO_RISING_ROWS[name]
    assert theirs.hu.shape == (ours.hu.shape[0], ours.hu.shape[1] + more, ours.hu.shape[2])
    beyond = np.eye(4)
    beyond[1, 3] = more
    assert_same_place(ours, Placed(theirs.affine @ beyond, theirs.hu[:, more:]))
    drift_rows = float(taken.truth.place.sideways_mm[-1, 1]) / taken.truth.place.pixel_mm[0]
    rounding = ours.hu.shape[1] + more - taken.truth.place.shape[0] - drift_rows
    for number in (3, 8):
        assert rows_beside(ours, taken.truth, number) == pytest.approx(0.0, abs=0.05)
        assert rows_beside(theirs, taken.truth, number) == pytest.approx(rounding, abs=0.05)


COMPARED = [one for one in GOOD if one.name not in SEES_OTHERWISE.keys() | LEANING_TO_RISING_ROWS.keys()]


@pytest.mark.parametrize("one", COMPARED, ids=lambda one: one.name)
def test_a_trap_lies_where_dcm2niix_puts_it(one: Trap, take: Take, tmp_path: Path, dcm2niix: str) -> None:
    taken = take(one)
    found = convert(dcm2niix, taken.study, tmp_path / "out")
    assert (not found) == (one.name in CANNOT_READ)
    if not found:
        return
    ours = Placed(taken.scan.affine, taken.scan.hu)
    straight = [volume for name, volume in found.items() if name.endswith("_Tilt_1")]
    if straight:
        assert_same_straightened(ours, straight[0])
    else:
        largest = max(found.values(), key=lambda volume: volume.hu.size)
        assert_same_place(ours, largest)
        if one.name not in OTHER_VALUES:
            assert_same_values(ours, largest)


def frames_of(study: Path) -> tuple[pydicom.Dataset, FloatArray, HuArray]:
    """A multi-frame object of a trap as pydicom reads it: the object, (n, 3) LPS mm of its frames as stored, their HU."""
    (path,) = study.iterdir()
    item = pydicom.dcmread(path)
    groups = item.PerFrameFunctionalGroupsSequence
    places = np.array([group.PlanePositionSequence[0].ImagePositionPatient for group in groups], dtype=np.float64)
    return item, places, item.pixel_array.astype(np.int16) + np.int16(-1024)


def test_with_the_orientation_in_every_frame_dcm2niix_stacks_frames_as_stored_and_ours_lie_where_the_file_says(
    take: Take, tmp_path: Path, dcm2niix: str
) -> None:
    """The trap `enhanced-per-frame` stores frames in no order, 0.8 mm apart and 1 mm thick.

    Every frame states its own place (PlanePositionSequence), and there lies our slice. dcm2niix reads those places only while
    PlaneOrientationSequence stands in the shared group; where each frame repeats it, it lays the frames in the order of the
    file from the place of the first one stored, one SliceThickness apart, which no attribute says.
    """
    taken = take(trap("enhanced-per-frame"))
    item, places, stored = frames_of(taken.study)
    order = np.argsort(places[:, 2])
    assert not np.array_equal(order, np.arange(len(order)))
    assert np.array_equal(taken.scan.hu, stored[order])
    slices = np.arange(len(order))[:, None] * taken.scan.affine[:3, 2] + taken.scan.affine[:3, 3]
    assert np.abs(slices - places[order]).max() <= CORNER_MM
    (theirs,) = convert(dcm2niix, taken.study, tmp_path / "out").values()
    thickness_mm = float(item.PerFrameFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness)
    assert np.array_equal(theirs.hu[::-1, ::-1], stored)  # the last slice is the first frame of the file
    assert theirs.affine[2] == pytest.approx([0.0, 0.0, thickness_mm, places[0, 2] - 11 * thickness_mm], abs=1e-4)


def test_frames_that_each_state_their_orientation_lie_where_dcm2niix_puts_them_if_stored_in_order_as_thick_as_apart(
    tmp_path: Path, dcm2niix: str
) -> None:
    """What dcm2niix takes for granted there holds, so that both agree."""
    (item,) = trap("enhanced-per-frame").make().objects
    groups = sorted(
        enumerate(item.PerFrameFunctionalGroupsSequence), key=lambda one: one[1].PlanePositionSequence[0].ImagePositionPatient[2]
    )
    frames = np.frombuffer(item.PixelData, "<u2").reshape(len(groups), -1)
    item.PixelData = frames[[number for number, _ in groups]].tobytes()
    item.PerFrameFunctionalGroupsSequence = pydicom.Sequence([group for _, group in groups])
    for _, group in groups:
        group.PixelMeasuresSequence[0].SliceThickness = "0.8"
    study = tmp_path / "study"
    study.mkdir()
    save(item, study / "one")
    scan = intake(study, ORDER, ANY)[0]
    (theirs,) = convert(dcm2niix, study, tmp_path / "out").values()
    assert_same_place(Placed(scan.affine, scan.hu), theirs)
    assert_same_values(Placed(scan.affine, scan.hu), theirs)


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["head-phantom.zip", "thorax.zip", "awkward/jpeg2000-slab", "awkward/dcmqi/data/segmentations/ct-3slice"]
)
def test_a_real_series_lies_where_dcm2niix_puts_it(test_data: Path, tmp_path: Path, dcm2niix: str, name: str) -> None:
    ours = true_volume(test_data / name)
    found = convert(dcm2niix, unpacked(test_data / name, tmp_path / "study"), tmp_path / "out")
    largest = max(found.values(), key=lambda volume: volume.hu.size)
    assert_same_place(ours, largest)
    assert_same_values(ours, largest)


@pytest.mark.data
@pytest.mark.parametrize("name", ["head-phantom-tilted.zip", "awkward/dicom2nifti/failing/gantrytilting/001"])
def test_a_real_tilted_series_is_made_straight_as_dcm2niix_does(
    test_data: Path, tmp_path: Path, dcm2niix: str, name: str
) -> None:
    ours = true_volume(test_data / name)
    found = convert(dcm2niix, unpacked(test_data / name, tmp_path / "study"), tmp_path / "out")
    (straight,) = (volume for stem, volume in found.items() if stem.endswith("_Tilt_1"))
    assert_same_straightened(ours, straight)


def true_volume(study: Path) -> Placed:
    """The volume of the best series, as intake takes it, without judging it."""
    stacks = stack_images(sort_files(open_study(study)).images)
    best = max((stack for stack in stacks if stack.fault is None), key=preference)
    assert best.geometry is not None
    return Placed(best.geometry.matrix, straighten(read_volume(best).hu, best.geometry))


def unpacked(study: Path, folder: Path) -> Path:
    if study.is_dir():
        return study
    with zipfile.ZipFile(study) as archive:
        archive.extractall(folder)
    return folder
