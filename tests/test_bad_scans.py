"""Scans from which no bone can come: what each of them is told."""

from __future__ import annotations

import bone_scan as phantom
import numpy as np
import numpy.typing as npt
import pytest

from batchone.pipeline.errors import BatchoneError, InputError, OrderError, SegmentationError
from batchone.pipeline.values import Scan
from batchone.segment.bone import THRESHOLD_RANGE_HU, scan_figures
from batchone.segment.make import segment

SHAPE = (60, 80, 80)


def scan(values: npt.NDArray[np.float64], *, noise_hu: float = 12.0) -> Scan:
    noisy = values + np.random.default_rng(4).normal(0.0, noise_hu, values.shape)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-79.0, -79.0, 0.0)
    made: Scan = phantom.scan_of(np.clip(np.rint(noisy), -1024, 3071).astype(np.int16), affine)
    return made


def body(inside_hu: float, *, radius_mm: float = 60.0) -> npt.NDArray[np.float64]:
    _, y, x = np.indices(SHAPE) * 2.0 - 79.0
    return np.where(np.hypot(x, y) < radius_mm, inside_hu, -1000.0)


def rod(values: npt.NDArray[np.float64], hu: float, *, radius_mm: float = 12.0) -> npt.NDArray[np.float64]:
    z, y, x = np.indices(SHAPE)
    out = values.copy()
    out[(np.hypot(2.0 * x - 79.0, 2.0 * y - 79.0) < radius_mm) & (z > 8) & (z < 50)] = hu
    return out


@pytest.mark.parametrize("bones", [("skull",), ("tibia",)])
def test_soft_tissue_alone_has_no_bone(bones: tuple[str, ...]) -> None:
    with pytest.raises(SegmentationError, match=r"no bone: the largest piece above \d+ HU is 0\.0 cm3") as caught:
        segment(scan(body(45.0)), phantom.order(*bones))
    assert caught.value.exit_code == 3


def test_a_water_phantom_has_no_bone() -> None:
    acrylic = np.where(body(1.0) > 0.0, 120.0, -1000.0)
    water = np.where(body(1.0, radius_mm=54.0) > 0.0, 0.0, acrylic)
    with pytest.raises(SegmentationError, match=r"no bone"):
        segment(scan(water, noise_hu=6.0), phantom.order("skull"))


def test_metal_alone_is_no_bone() -> None:
    with pytest.raises(SegmentationError, match=r"1 of the pieces over 2 cm3 are table, holder or metal; at least 2 cm3 of bone"):
        segment(scan(rod(body(40.0), 3071.0)), phantom.order("tibia"))
    assert segment(scan(rod(body(40.0), 1100.0)), phantom.order("tibia")).bones[0].name == "tibia"  # just as large, of bone


def test_air_alone_has_no_bone() -> None:
    with pytest.raises(SegmentationError, match=r"no bone"):
        segment(scan(np.full(SHAPE, -1000.0)), phantom.order("skull"))


def test_a_bone_that_is_cut_on_all_sides_is_refused() -> None:
    everywhere = np.full(SHAPE, 900.0)
    everywhere[20:30, 30:40, 30:40] = 40.0
    with pytest.raises(InputError, match=r"tibia left is cut by the end of the scan on 6 sides, at most 5") as caught:
        segment(scan(everywhere), phantom.order("tibia"))
    assert caught.value.exit_code == 2
    open_above = everywhere.copy()
    open_above[50:] = 40.0  # one end can be seen
    bone = segment(scan(open_above), phantom.order("tibia")).bones[0]
    assert not bone.complete


@pytest.mark.parametrize("noise_hu", [5.0, 60.0, 250.0])
def test_the_threshold_stays_where_bone_is_and_loud_noise_is_said(noise_hu: float) -> None:
    made = scan(rod(body(40.0), 1100.0), noise_hu=noise_hu)
    assert THRESHOLD_RANGE_HU[0] <= scan_figures(made.hu).threshold_hu <= THRESHOLD_RANGE_HU[1]
    anatomy = segment(made, phantom.order("tibia"))
    assert anatomy.bones[0].volume_mm3 == pytest.approx(np.pi * 12.0**2 * 82.0, rel=0.05)
    verdicts = {f.check: f.verdict for f in anatomy.findings}
    assert verdicts["image_noise"] == ("warn" if noise_hu > 200.0 else "pass")


def test_several_bones_are_not_told_apart_in_loud_noise() -> None:
    with pytest.raises(SegmentationError, match=r"noise of the scan is \d+ HU, at most 80 HU to tell 2 bones apart"):
        segment(scan(rod(body(40.0), 1100.0), noise_hu=150.0), phantom.order("tibia", "fibula"))


@pytest.mark.parametrize("values", [np.full(SHAPE, 3000.0), np.full(SHAPE, -1024.0), body(3000.0), body(-90.0)])
def test_a_scan_of_one_value_still_has_a_threshold_that_means_bone(values: npt.NDArray[np.float64]) -> None:
    figures = scan_figures(scan(values, noise_hu=0.0).hu)
    assert THRESHOLD_RANGE_HU[0] <= figures.threshold_hu <= THRESHOLD_RANGE_HU[1]
    assert figures.noise_hu > 0.0


def test_a_bone_that_is_not_the_skull_is_not_called_one() -> None:
    with pytest.raises(OrderError, match=r"closes \d+ % of a vault, a skull at least 50 %"):
        segment(scan(rod(body(40.0), 1100.0)), phantom.order("skull"))


def test_every_refusal_says_what_to_do() -> None:
    for values, bone in ((body(45.0), "skull"), (rod(body(40.0), 3071.0), "tibia"), (np.full(SHAPE, 900.0), "tibia")):
        with pytest.raises(BatchoneError) as caught:
            segment(scan(values), phantom.order(bone))
        assert caught.value.hint
