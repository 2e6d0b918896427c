"""Packed masks, run-length components, closing and filling: the same as the plain libraries, voxel by voxel."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label

from batchone.segment.bits import ball, closed, dilated, eroded, inverted, moved, packed, packed_above, unpacked
from batchone.segment.bone import CONTRAST_HU, THRESHOLD_RANGE_HU, Grid, cropped, filled, scan_figures
from batchone.segment.runs import Runs, labelled

BoolArray = npt.NDArray[np.bool_]
SPACING_MM = (0.5, 0.6, 1.1)  # column, row, slice


def noise(seed: int, shape: tuple[int, int, int], share: float) -> BoolArray:
    return np.asarray(np.random.default_rng(seed).random(shape) < share)


masks = st.builds(
    noise,
    st.integers(0, 10_000),
    st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 140)),
    st.sampled_from([0.02, 0.3, 0.6, 0.97]),
)


def footprint(half: npt.NDArray[np.int64]) -> BoolArray:
    reach = int(half.max())
    return np.abs(np.arange(-reach, reach + 1))[None, None, :] <= half[:, :, None]


def labels_of(runs: Runs) -> npt.NDArray[np.int64]:
    out = np.zeros((runs.shape[0] * runs.shape[1], runs.shape[2]), dtype=np.int64)
    for row in range(len(out)):
        for run in range(runs.offsets[row], runs.offsets[row + 1]):
            out[row, runs.begin[run] : runs.end[run]] = runs.label[run] + 1
    return out.reshape(runs.shape)


@settings(max_examples=25, deadline=None)
@given(masks)
def test_packing_and_unpacking_give_the_mask_back(mask: BoolArray) -> None:
    columns = mask.shape[2]
    assert np.array_equal(unpacked(packed(mask), columns), mask)
    assert np.array_equal(unpacked(inverted(packed(mask), columns), columns), ~mask)


@settings(max_examples=25, deadline=None)
@given(masks, st.tuples(st.integers(-3, 5), st.integers(-3, 8), st.integers(-70, 130)))
def test_a_box_of_a_packed_mask_is_that_box_with_nothing_around_it(mask: BoolArray, first: tuple[int, int, int]) -> None:
    wide = np.pad(mask, ((10, 20), (10, 20), (80, 240)))
    shape = (5, 7, 100)
    expected = wide[tuple(slice(p + f, p + f + n) for p, f, n in zip((10, 10, 80), first, shape, strict=True))]
    assert np.array_equal(unpacked(moved(packed(mask), first, shape), 100), expected)


def test_a_threshold_is_exclusive_and_reads_arrays_that_may_not_be_written() -> None:
    hu = np.array([[[-1024, 199, 200, 201, 3071]]], dtype=np.int16)
    hu.setflags(write=False)
    assert unpacked(packed_above(hu, 200.0), 5).tolist() == [[[False, False, False, True, True]]]


@settings(max_examples=25, deadline=None)
@given(masks)
def test_components_are_those_of_scikit_image_in_the_same_order(mask: BoolArray) -> None:
    runs = labelled(packed(mask), mask.shape[2])
    expected = label(mask, connectivity=1)
    assert np.array_equal(labels_of(runs), expected)
    keep = np.arange(runs.count) % 2 == 0
    assert np.array_equal(unpacked(runs.painted(keep), mask.shape[2]), expected % 2 == 1)
    voxels, boxes = runs.measured()
    assert runs.count == expected.max()
    assert np.array_equal(voxels, np.bincount(expected.ravel(), minlength=runs.count + 1)[1:])
    for box, found in zip(boxes, ndimage.find_objects(expected), strict=True):
        assert [[s.start, s.stop] for s in found] == box.tolist()


@settings(max_examples=25, deadline=None)
@given(masks, st.sampled_from([0.0, 0.7, 1.3, 2.5]))
def test_dilation_erosion_and_closing_by_a_ball_are_those_of_scipy(mask: BoolArray, radius_mm: float) -> None:
    half = ball(radius_mm, SPACING_MM)
    structure = footprint(half)
    pad = [(n // 2 + 1,) * 2 for n in structure.shape]
    wide = np.pad(mask, pad)
    columns = wide.shape[2]
    words = packed(wide)
    assert np.array_equal(unpacked(dilated(words, columns, half), columns), ndimage.binary_dilation(wide, structure))
    assert np.array_equal(
        unpacked(eroded(words, columns, half), columns), ndimage.binary_erosion(wide, structure, border_value=1)
    )
    expected = ndimage.binary_erosion(ndimage.binary_dilation(wide, structure), structure, border_value=1)
    assert np.array_equal(unpacked(closed(words, columns, half), columns), expected)


def test_a_ball_holds_the_voxels_whose_centres_lie_in_it() -> None:
    structure = footprint(ball(2.2, SPACING_MM))
    reach = [n // 2 for n in structure.shape]
    z, y, x = np.mgrid[tuple(slice(-n, n + 1) for n in reach)]
    assert np.array_equal(structure, (x * 0.5) ** 2 + (y * 0.6) ** 2 + (z * 1.1) ** 2 <= 2.2**2 + 1e-6)
    assert reach == [2, 3, 4]


def test_one_thread_and_all_threads_give_the_same_bits() -> None:
    mask = noise(3, (40, 50, 130), 0.4)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in (1, threads):
            numba.set_num_threads(count)
            runs = labelled(packed(mask), 130)
            results.append((closed(packed(mask), 130, ball(1.5, SPACING_MM)).tobytes(), runs.label.tobytes()))
    finally:
        numba.set_num_threads(threads)
    assert results[0] == results[1]


# --- filling -----------------------------------------------------------------------------------------------------------------


def block_grid(mask: BoolArray, hu: int = 40) -> Grid:
    values = np.where(mask, 1000, hu).astype(np.int16)
    box = np.array([[0, n] for n in mask.shape])
    return cropped(values, np.diag([0.5, 0.5, 0.5, 1.0]), box)


def fill(mask: BoolArray, hu: int = 40) -> BoolArray:
    """Fill a mask of 0.5 mm voxels that is a whole scan."""
    grid = block_grid(mask, hu)
    bone = np.zeros(grid.hu.shape, dtype=np.bool_)
    place = tuple(slice(*pair) for pair in grid.inside)
    bone[place] = mask
    return unpacked(filled(packed(bone), grid), grid.columns)[place]


def hollow(size: int = 30, wall: int = 4) -> BoolArray:
    """A closed box, 4 voxels off the scan's sides."""
    mask = np.zeros((size + 8,) * 3, dtype=np.bool_)
    mask[4:-4, 4:-4, 4:-4] = True
    mask[4 + wall : -4 - wall, 4 + wall : -4 - wall, 4 + wall : -4 - wall] = False
    return mask


def test_a_closed_marrow_cavity_is_filled_and_nothing_else() -> None:
    mask = hollow()
    solid = np.zeros_like(mask)
    solid[4:-4, 4:-4, 4:-4] = True
    assert np.array_equal(fill(mask), solid)


@pytest.mark.parametrize(("leak_voxels", "is_filled"), [(3, True), (12, False)])  # 1.5 mm is a leak, 6 mm is an opening
def test_a_cavity_behind_a_leak_is_filled_and_one_behind_an_opening_stays(leak_voxels: int, is_filled: bool) -> None:
    mask = hollow()
    middle = slice(19 - leak_voxels // 2, 19 - leak_voxels // 2 + leak_voxels)
    mask[middle, middle, :8] = False
    assert bool(fill(mask)[19, 19, 19]) is is_filled


@pytest.mark.parametrize(("hu", "is_filled"), [(40, True), (-900, False)])
def test_air_behind_a_leak_is_a_sinus_and_stays_while_marrow_is_filled(hu: int, is_filled: bool) -> None:
    mask = hollow()
    mask[18:21, 18:21, :8] = False
    assert bool(fill(mask, hu)[19, 19, 19]) is is_filled


@pytest.mark.parametrize(("size", "is_filled"), [(95, True), (105, False)])  # inner edge 43.5 mm: 82 ml; 48.5 mm: 114 ml
def test_a_cranial_cavity_is_not_filled_even_when_closed(size: int, is_filled: bool) -> None:
    mask = hollow(size)
    middle = mask.shape[0] // 2
    assert bool(fill(mask)[middle, middle, middle]) is is_filled


def test_marrow_that_the_end_of_the_scan_cuts_open_is_filled() -> None:
    mask = hollow()[19:]
    assert not mask[0, 19, 19]
    assert fill(mask)[0, 19, 19]


def test_a_gap_between_two_bones_stays_open() -> None:
    mask = np.zeros((38, 38, 38), dtype=np.bool_)
    mask[4:-4, 4:-4, 4:18] = True
    mask[4:-4, 4:-4, 20:34] = True  # 1 mm apart
    assert np.array_equal(fill(mask), mask)


# --- figures of the scan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise_hu", [5.0, 20.0, 50.0])
def test_noise_and_soft_tissue_are_measured_within_a_tenth(noise_hu: float) -> None:
    rng = np.random.default_rng(1)
    hu = np.full((30, 60, 60), -1000.0)
    hu[:, 5:55, 5:55] = 45.0
    hu[:, 20:30, 20:30] = 900.0
    figures = scan_figures(np.round(hu + rng.normal(0.0, noise_hu, hu.shape)).astype(np.int16))
    assert figures.noise_hu == pytest.approx(noise_hu, rel=0.1)
    assert figures.soft_hu == pytest.approx(45.0, abs=3.0)
    low, high = THRESHOLD_RANGE_HU
    assert figures.threshold_hu == pytest.approx(np.clip(figures.soft_hu + max(CONTRAST_HU, 4 * figures.noise_hu), low, high))


def test_a_bare_skull_in_air_has_the_lowest_usual_threshold() -> None:
    hu = np.full((30, 60, 60), -1000, dtype=np.int16)
    hu[:, 20:40, 20:40] = 735
    figures = scan_figures(hu)
    assert THRESHOLD_RANGE_HU[0] <= figures.threshold_hu <= 200.0
