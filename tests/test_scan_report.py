"""The scan report: what was put into a phantom must be said, what was not must not; limits just inside and just outside."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from batchone.design.families import load_families
from batchone.pipeline.cli import app
from batchone.pipeline.errors import SeriesError
from batchone.pipeline.inspection import inspect_for, judge_study
from batchone.pipeline.intake.appraisal.coverage import (
    CHEST,
    HEAD,
    LIMB,
    TRUNK,
    Coverage,
    find_body,
    measure_coverage,
    stated_part,
)
from batchone.pipeline.intake.appraisal.make import WARN_ECHO, WARN_JUMP_MM, WARN_STREAK_RATIO, appraise
from batchone.pipeline.intake.appraisal.metal import measure_metal
from batchone.pipeline.intake.appraisal.motion import largest_jump, strongest_echo
from batchone.pipeline.intake.appraisal.noise import measure_noise
from batchone.pipeline.intake.appraisal.privacy import FACE_CM2, TEXT_PIXELS, burned_in, face_skin_cm2
from batchone.pipeline.intake.appraisal.sample import MAX_SLICES, MIN_SLICES, Sample, sample_volume, sampled_slices
from batchone.pipeline.intake.appraisal.stated import Stated, months
from batchone.pipeline.intake.make import admit, inspect_study, intake
from batchone.pipeline.intake.protocol import age_findings, protocol_findings
from batchone.pipeline.intake.scan_report import scan_report
from batchone.pipeline.job.sections import scan_sections
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.pipeline.values import Finding, FloatArray, HuArray, Scan, SeriesRecord
from batchone.samples.dicom import DATE, write_series
from batchone.samples.scanner import noise_field

SPACING_MM = (1.5, 1.5, 2.0)  # column, row, slice
SHAPE = (110, 150, 150)
FAMILIES = load_families()
ORDER = Order(
    case="demo-0001",
    device="anatomical-model",
    side="left",
    process="pa12-sls",
    machine="sim-01",
    due=dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC),
)
TAKEN = dt.date.fromisoformat(DATE)


def every_family(*, model: str, touching: str) -> dict[str, str]:
    """A verdict for models, and one for all that touches bone."""
    return {name: model if name == "anatomical-model" else touching for name in FAMILIES}


def placed(shape: tuple[int, int, int] = SHAPE, spacing_mm: tuple[float, float, float] = SPACING_MM) -> FloatArray:
    """An axial affine whose origin of LPS is the middle of the box."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.array(spacing_mm) * (np.array(shape[::-1]) - 1) / 2.0
    return affine


def points(shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, z in mm of the voxels of an axial box."""
    affine = placed(shape)
    i, j, k = (np.arange(n) * affine[a, a] + affine[a, 3] for a, n in enumerate(shape[::-1]))
    return i[None, None, :], j[None, :, None], k[:, None, None]


def head(*, skin_mm: float = 6.0, top_mm: float = 95.0) -> np.ndarray:
    """A skull of 6 mm round a brain, under skin, with a nose and a jaw below; float HU without noise."""
    x, y, z = points()
    hu = np.full(SHAPE, -1000.0)

    def egg(grow_mm: float) -> np.ndarray:
        return (x / (72 + grow_mm)) ** 2 + (y / (88 + grow_mm)) ** 2 + ((z - top_mm + 88) / (88 + grow_mm)) ** 2

    jaw = ((x / 60) ** 2 + ((y + 30) / 55) ** 2 < 1) & (z < 0) & (z > -105)
    nose = (np.abs(x) < 14) & (y < -80) & (y > -102) & (z > -65) & (z < -30)
    if skin_mm:
        hu[(egg(skin_mm) < 1) | jaw | nose] = 40.0
    hu[egg(0) < 1] = 1100.0
    hu[egg(-6) < 1] = 40.0
    hu[((x / 52) ** 2 + ((y + 30) / 46) ** 2 < 1) & (z < 0) & (z > -105) & (((x / 46) ** 2 + ((y + 30) / 40) ** 2) > 1)] = 1100.0
    return hu


LARGE_MM = (108.0, 98.0)  # half axes of a trunk that just fits the box


def trunk(*, lungs: bool, half_mm: tuple[float, float] = (105.0, 85.0)) -> np.ndarray:
    x, y, z = points()
    hu = np.full(SHAPE, -1000.0)
    hu[np.broadcast_to((x / half_mm[0]) ** 2 + (y / half_mm[1]) ** 2 < 1, SHAPE)] = 30.0
    if lungs:
        for side in (-1, 1):
            hu[np.broadcast_to(((x - side * 50) / 35) ** 2 + (y / 55) ** 2 < 1, SHAPE)] = -850.0
    hu[np.broadcast_to(x**2 + (y - 50) ** 2 < 18**2, SHAPE)] = 700.0
    return hu + 0.0 * z


def noisy(hu: np.ndarray, noise_hu: float = 15.0, seed: int = 1) -> HuArray:
    """A scan with noise, cut off at -1024 as scanners do."""
    with_noise = hu + noise_hu * noise_field(hu.shape, np.random.default_rng(seed))
    return np.maximum(np.rint(with_noise), -1024).astype(np.int16)


def scanned(hu: np.ndarray, noise_hu: float = 15.0, seed: int = 1) -> Sample:
    """The slices of it that are looked at."""
    return sample_volume(noisy(hu, noise_hu, seed), placed(hu.shape))


def covered(sample: Sample) -> Coverage:
    return measure_coverage(sample, find_body(sample))


def face_cm2(sample: Sample) -> float:
    body = find_body(sample)
    return face_skin_cm2(sample, body, measure_coverage(sample, body))


def checks(findings: tuple[Finding, ...]) -> Mapping[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.fixture(scope="module")
def whole_head() -> Sample:
    return scanned(head())


# --- noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise_hu", [8.0, 20.0, 45.0])
def test_noise_that_was_put_in_comes_back_within_15_percent(noise_hu: float) -> None:
    found = measure_noise(scanned(head(), noise_hu))
    assert found.soft_hu == pytest.approx(noise_hu, rel=0.15)
    assert found.air_hu == pytest.approx(noise_hu, rel=0.15)


def test_white_noise_comes_back_too_and_structure_does_not_add_to_it() -> None:
    rng = np.random.default_rng(2)
    stripes = 40.0 * (np.arange(SHAPE[2]) // 40 % 2)  # edges of 40 HU through the brain
    hu = head() + stripes + rng.normal(0, 12.0, SHAPE)
    found = measure_noise(sample_volume(np.maximum(np.rint(hu), -1024).astype(np.int16), placed()))
    assert found.soft_hu == pytest.approx(12.0, rel=0.15)


def test_noise_is_not_said_where_nothing_is_homogeneous() -> None:
    bone = np.random.default_rng(3).normal(800, 200, (8, 64, 64)).astype(np.int16)
    found = measure_noise(sample_volume(bone, placed((8, 64, 64))))
    assert found.soft_hu is None
    assert found.air_hu is None


# --- metal ---------------------------------------------------------------------------------------------------------


def ball(hu: np.ndarray, middle_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    x, y, z = points(hu.shape)
    at = middle_mm
    return np.where((x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2 < radius_mm**2, 3071.0, hu)


def test_a_metal_ball_is_found_with_its_volume_and_place(whole_head: Sample) -> None:
    assert measure_metal(whole_head).volume_mm3 == 0.0
    at, radius_mm = (20.0, -10.0, 30.0), 9.0
    found = measure_metal(scanned(ball(head(), at, radius_mm), noise_hu=5.0))
    assert found.volume_mm3 == pytest.approx(4.0 / 3.0 * np.pi * radius_mm**3, rel=0.25)  # slices are read in pairs
    assert found.middle_mm == pytest.approx(at, abs=2.0)
    assert found.streak_ratio == pytest.approx(1.0, abs=0.3)


def test_streaks_beside_metal_are_told_from_none() -> None:
    hu, (x, y, z) = ball(head(), (0.0, 0.0, 30.0), 9.0), points()
    rays = 120.0 * np.sin(9.0 * np.arctan2(y, x)) * (np.hypot(x, y) > 9) * (np.abs(z - 30.0) < 9)
    streaked = measure_metal(scanned(np.where(hu > -500, hu + rays, hu), noise_hu=10.0)).streak_ratio
    assert streaked is not None
    assert streaked > WARN_STREAK_RATIO
    findings = checks(appraise(scanned(np.where(hu > -500, hu + rays, hu), noise_hu=10.0), None))
    assert findings["metal"].verdict == "warn"
    assert findings["metal-streaks"].verdict == "warn"


def test_enamel_is_dense_and_not_metal() -> None:
    hu = ball(head(), (0.0, 0.0, 30.0), 9.0)
    found = measure_metal(scanned(np.where(hu > 3000, 2700.0, hu), noise_hu=5.0))
    assert found.volume_mm3 == 0.0
    assert found.dense_share > 0.0


# --- motion --------------------------------------------------------------------------------------------------------


def test_a_still_scan_has_neither_jump_nor_second_contour(whole_head: Sample) -> None:
    jump, echo = largest_jump(whole_head), strongest_echo(whole_head)
    assert jump is not None
    assert jump.jump_mm < WARN_JUMP_MM
    assert echo is not None
    assert echo.strength < WARN_ECHO


@pytest.mark.parametrize("pixels", [2, 4])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_jump_between_two_slices_is_measured(pixels: int, axis: int) -> None:
    hu, start = head(), 56
    hu[start:] = np.roll(hu[start:], pixels, axis=axis)
    found = largest_jump(sample_volume(np.maximum(hu, -1024).astype(np.int16)[20:80], placed((60, *SHAPE[1:]))))
    assert found is not None
    assert found.jump_mm == pytest.approx(pixels * SPACING_MM[0], abs=0.5)
    assert found.slice == start - 20 - 1


def test_a_slow_drift_is_no_jump() -> None:
    hu = head()[20:80]
    drifting = np.stack([np.roll(image, k // 4, axis=1) for k, image in enumerate(hu)])  # 1.5 mm every fourth slice
    smooth = 0.5 * (drifting + np.stack([np.roll(image, (k + 2) // 4, axis=1) for k, image in enumerate(hu)]))
    found = largest_jump(sample_volume(smooth.astype(np.int16), placed(hu.shape)))
    assert found is not None
    assert found.jump_mm <= WARN_JUMP_MM


@pytest.mark.parametrize("shift", [(0, 4), (4, 0), (3, 3), (3, -3)])
def test_a_double_contour_is_measured_with_its_distance(shift: tuple[int, int]) -> None:
    hu = head()
    found = strongest_echo(scanned(0.5 * (hu + np.roll(hu, shift, axis=(1, 2)))))
    assert found is not None
    assert found.strength > WARN_ECHO
    assert found.distance_mm == pytest.approx(float(np.hypot(*shift)) * SPACING_MM[0], abs=2.2)


# --- coverage ------------------------------------------------------------------------------------------------------


def test_a_whole_head_is_a_head_and_its_top_is_there(whole_head: Sample) -> None:
    found = covered(whole_head)
    assert found.main == HEAD
    assert not found.wall("head").cut
    assert found.wall("head").bone_mm == pytest.approx(14.0, abs=6.0)  # the box ends 109 mm up, the bone 95 mm
    assert found.wall("left").bone_mm == pytest.approx(112.0 - 72.0, abs=6.0)
    assert found.wall("front").bone_mm == pytest.approx(112.0 - 88.0, abs=6.0)
    assert not any(wall.cut for wall in found.walls if not wall.end)


def test_a_cropped_vertex_is_said(whole_head: Sample) -> None:
    assert checks(appraise(whole_head, None))["top-of-head"].verdict == "pass"
    cut = scanned(head()[:90])
    assert covered(cut).wall("head").cut
    assert checks(appraise(cut, None))["top-of-head"].verdict == "warn"


def test_the_top_is_where_the_affine_says_and_not_the_last_slice(whole_head: Sample) -> None:
    affine = whole_head.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (SHAPE[0] - 1)
    affine[:3, 2] *= -1
    turned = covered(sample_volume(np.ascontiguousarray(scanned(head()).hu[::-1]), affine))
    assert {wall.faces for wall in turned.walls} == {"left", "right", "front", "back", "head", "feet"}
    assert not turned.wall("head").cut
    assert turned.wall("feet").cut == covered(whole_head).wall("feet").cut


@pytest.mark.parametrize(
    ("hu", "part"),
    [
        (trunk(lungs=True, half_mm=LARGE_MM), CHEST),
        (trunk(lungs=False, half_mm=LARGE_MM), TRUNK),
        (trunk(lungs=False, half_mm=(60.0, 55.0)), LIMB),
    ],
    ids=["chest", "trunk", "limb"],
)
def test_parts_of_the_body_are_told_apart(hu: np.ndarray, part: str) -> None:
    assert covered(scanned(hu)).main == part


def test_a_stated_body_part_that_is_not_seen_is_said(whole_head: Sample) -> None:
    assert stated_part("C SPINE") == LIMB
    assert stated_part("WHOLEBODY") is None
    assert checks(appraise(whole_head, Stated(body_part="HEAD")))["anatomy-stated"].verdict == "pass"
    assert checks(appraise(whole_head, Stated(body_part="CHEST")))["anatomy-stated"].verdict == "warn"


def test_a_body_cut_at_a_side_is_said() -> None:
    findings = checks(appraise(scanned(trunk(lungs=False, half_mm=(140.0, 60.0))), None))
    assert findings["body-cut"].verdict == "warn"
    assert checks(appraise(scanned(trunk(lungs=False)), None))["body-cut"].verdict == "pass"


def test_a_scan_of_air_names_no_anatomy() -> None:
    found = checks(appraise(scanned(np.full((20, 64, 64), -1000.0)), None))
    assert found["anatomy"].verdict == "warn"


# --- who the patient is --------------------------------------------------------------------------------------------


def test_a_face_is_flagged_and_a_skull_without_skin_is_not(whole_head: Sample) -> None:
    assert face_cm2(whole_head) > FACE_CM2
    assert face_cm2(scanned(head(skin_mm=0.0))) <= FACE_CM2


def test_the_cap_of_a_head_shows_no_face() -> None:
    assert face_cm2(scanned(head()[75:])) <= FACE_CM2  # from 41 mm above the middle: 54 mm of the top


def test_burned_in_text_is_counted_and_noise_and_tissue_are_not(whole_head: Sample) -> None:
    assert burned_in(whole_head).pixels <= TEXT_PIXELS
    assert burned_in(scanned(trunk(lungs=False, half_mm=(140.0, 140.0)) + 400.0)).pixels <= TEXT_PIXELS * 3
    hu = whole_head.hu.copy()
    letters = np.zeros((7, 18), dtype=bool)
    letters[:, ::5] = letters[3, :] = True
    hu[4, 3:10, 3:21][letters] = 2047
    found = burned_in(replace(whole_head, hu=hu))
    assert found.pixels == np.count_nonzero(letters)
    assert found.slice == whole_head.index[4]
    assert checks(appraise(replace(whole_head, hu=hu), None))["burned-in-text"].verdict == "warn"
    assert checks(appraise(whole_head, Stated(burned_in="YES")))["burned-in-stated"].verdict == "warn"


# --- scale ---------------------------------------------------------------------------------------------------------


def test_the_body_and_its_brightest_bone_are_measured(whole_head: Sample) -> None:
    found = checks(appraise(whole_head, None))
    assert found["body-level"].value == pytest.approx(40.0, abs=6.0)
    assert found["brightest"].value == pytest.approx(1100.0, abs=70.0)
    off = checks(appraise(replace(whole_head, hu=(whole_head.hu + 200).astype(np.int16)), None))
    assert off["body-level"].verdict == "warn"


@pytest.mark.parametrize("pixel_mm", [0.01, 0.4, 20.0])
def test_whatever_is_in_the_pixels_the_report_is_made(pixel_mm: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        shape = tuple(int(side) for side in rng.integers(2, [9, 24, 24]))
        low, high = sorted(rng.choice([-1024, -1000, -200, 0, 40, 300, 1200, 3071, 32767], 2))
        hu = rng.integers(low, high + 1, shape).astype(np.int16)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = turn * np.array([pixel_mm, pixel_mm * 1.7, 0.5])
        findings = appraise(sample_volume(hu, affine), None)
        assert all(np.isfinite(one.value) for one in findings)
        assert not [one for one in findings if one.verdict == "fail"]


# --- the protocol --------------------------------------------------------------------------------------------------

GOOD: Mapping[str, Any] = {"slices": 200, "spacing_mm": 0.6, "thickness_mm": 0.6, "pixel_mm": 0.4, "tilt_deg": 0.0}


def limits() -> list[tuple[str, str, str, float, float, str]]:
    found = []
    for name, family in FAMILIES.items():
        protocol = family.limits.protocol
        for check, key, most in (
            ("slice-spacing", "spacing_mm", protocol.max_slice_spacing_mm),
            ("slice-thickness", "thickness_mm", protocol.max_slice_thickness_mm),
            ("pixel-size", "pixel_mm", protocol.max_pixel_mm),
            ("gantry-tilt", "tilt_deg", protocol.max_gantry_tilt_deg),
        ):
            found.append((name, check, key, most, most + 0.001, "fail"))
        found.append((name, "slice-count", "slices", protocol.min_slices, protocol.min_slices - 1, "fail"))
        found.append(
            (
                name,
                "slice-spacing-advice",
                "spacing_mm",
                protocol.warn_slice_spacing_mm,
                protocol.warn_slice_spacing_mm + 0.001,
                "warn",
            )
        )
        if protocol.warn_pixel_mm is not None:
            found.append((name, "pixel-size-advice", "pixel_mm", protocol.warn_pixel_mm, protocol.warn_pixel_mm + 0.001, "warn"))
    return found


@pytest.mark.parametrize(("family", "check", "key", "inside", "outside", "verdict"), limits())
def test_each_limit_of_each_family_holds_just_inside_and_breaks_just_outside(
    family: str, check: str, key: str, inside: float, outside: float, verdict: str
) -> None:
    protocol = FAMILIES[family].limits.protocol

    def judged(value: float) -> Mapping[str, Finding]:
        given = {**GOOD, key: value}
        if key == "spacing_mm":
            given["thickness_mm"] = max(value, GOOD["thickness_mm"])
        return checks(protocol_findings(protocol, **given))

    found = judged(inside)
    assert check not in found or found[check].verdict == "pass"
    assert judged(outside)[check].verdict == verdict


def test_the_implants_protocol_is_the_one_that_was_promised() -> None:
    protocol = FAMILIES["cranial-implant"].limits.protocol
    assert (protocol.max_slice_spacing_mm, protocol.warn_slice_spacing_mm) == (1.25, 0.75)
    assert (protocol.max_slice_thickness_mm, protocol.max_gantry_tilt_deg, protocol.warn_pixel_mm) == (1.25, 0.5, 0.5)
    assert protocol.max_scan_age_days is None


def test_lossy_images_are_refused_or_said_as_the_protocol_wants() -> None:
    protocol = FAMILIES["anatomical-model"].limits.protocol
    for allowed, verdict in ((False, "fail"), (True, "warn")):
        own = protocol.model_copy(update={"allow_lossy": allowed})
        assert checks(protocol_findings(own, **GOOD, lossy=True))["lossy-images"].verdict == verdict
    assert "lossy-images" not in checks(protocol_findings(protocol, **GOOD))


def protocol_with(**changes: Any) -> Protocol:
    return FAMILIES["anatomical-model"].limits.protocol.model_copy(update=changes)


@pytest.mark.parametrize(("age_days", "verdict"), [(0, "pass"), (182, "pass"), (183, "warn"), (900, "warn")])
def test_an_old_scan_is_warned_of_from_the_day_after_the_limit(age_days: int, verdict: str) -> None:
    (found,) = age_findings(protocol_with(warn_scan_age_days=182), Stated(age_days=age_days))
    assert found.verdict == verdict
    assert found.high is not None
    assert (found.value <= found.high) == (verdict == "pass")


@pytest.mark.parametrize(("age_days", "verdict"), [(182, "pass"), (365, "warn"), (366, "fail")])
def test_an_old_scan_is_refused_only_where_a_limit_is_set(age_days: int, verdict: str) -> None:
    (found,) = age_findings(protocol_with(warn_scan_age_days=182, max_scan_age_days=365), Stated(age_days=age_days))
    assert found.verdict == verdict


def test_a_scan_without_a_date_or_after_its_order_is_warned_of_and_a_moved_date_is_not_judged() -> None:
    protocol = protocol_with(warn_scan_age_days=182)
    assert [f.verdict for f in age_findings(protocol, Stated())] == ["warn"]
    assert [f.verdict for f in age_findings(protocol, Stated(age_days=-3))] == ["warn"]
    assert [f.verdict for f in age_findings(protocol, Stated(dates_moved=True))] == ["pass"]


def test_an_age_is_told_in_whole_months_so_that_it_does_not_give_the_day_away() -> None:
    ages = {age_findings(protocol_with(), Stated(age_days=days))[0].value for days in range(100, 122)}
    assert len(ages) == 1
    assert months(0) == 0
    assert months(1) == 1


# --- studies -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of 75 slices, 2 mm apart: good for a model, too thick for an implant."""
    folder = tmp_path_factory.mktemp("study")
    hu = noisy(head()[20:95])
    write_series(hu, placed(hu.shape), folder, mess=True)
    return folder


def command(*words: str | Path) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["inspect", "--json", *map(str, words)])
    return done.exit_code, json.loads(done.stdout)


def schema(name: str) -> dict[str, Any]:
    text = resources.files("batchone.pipeline").joinpath("schemas", f"{name}.schema.json").read_text(encoding="utf-8")
    tree: dict[str, Any] = json.loads(text)
    return tree


@pytest.mark.parametrize(("device", "code"), [(None, 0), ("anatomical-model", 0), ("cranial-implant", 2)])
def test_the_exit_code_and_the_document_agree(study: Path, device: str | None, code: int) -> None:
    found, tree = command(study, *(() if device is None else ("--device", device)))
    assert found == code
    jsonschema.validate(tree, schema("inspect"))
    assert tree["usable"] == (code == 0)
    assert tree["families"]["anatomical-model"]["verdict"] == "warn"
    assert tree["families"]["cranial-implant"]["verdict"] == "fail"
    assert "slice spacing is 2 mm, at most 1.25 mm" in tree["families"]["cranial-implant"]["refusal"]
    if device is not None:
        assert (tree["refusal"] is None) == (code == 0)
        assert tree["refusal"] == tree["families"][device]["refusal"]


def test_a_folder_without_a_series_is_exit_2(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    code, tree = command(tmp_path)
    assert code == 2
    assert not tree["usable"]
    assert {one["verdict"] for one in tree["families"].values()} == {"fail"}


def test_the_report_for_a_person_names_verdict_number_and_limit(study: Path) -> None:
    lines = "\n".join(inspect_for(study, None).lines)
    for words in ("refused", "good enough", "kernel BONE", "noise in soft tissue", "at most 60 HU", "localizers: 1"):
        assert words in lines


def test_inspect_and_intake_measure_the_same(study: Path) -> None:
    protocol = FAMILIES["anatomical-model"].limits.protocol
    scan, _ = intake(study, ORDER, protocol)
    (series,) = [one for one in inspect_study(study, on=ORDER.due.date()) if one.readable]
    assert set(series.findings(protocol)) <= set(scan.findings)
    assert {one for one in series.report if not one.check.startswith("air-")} <= set(scan.findings)


def test_inspect_refuses_what_intake_refuses_for_each_family(study: Path) -> None:
    series = inspect_study(study)
    for family in FAMILIES.values():
        refused = judge_study(series, family.limits.protocol).refusal
        if refused is None:
            admit(study, family.limits.protocol)
        else:
            with pytest.raises(SeriesError) as told:
                admit(study, family.limits.protocol)
            assert str(told.value) == refused


def test_an_old_scan_is_refused_by_intake_where_the_protocol_says_so(study: Path) -> None:
    age_days = (ORDER.due.date() - TAKEN).days
    intake(study, ORDER, protocol_with(max_scan_age_days=age_days))
    with pytest.raises(SeriesError, match="age of the scan"):
        intake(study, ORDER, protocol_with(max_scan_age_days=age_days - 1))


def test_a_study_of_two_patients_is_good_for_no_device(study: Path, tmp_path: Path) -> None:
    hu = noisy(head()[50:62])
    write_series(hu, placed(hu.shape), tmp_path / "a", patient_id="TEST-0001")
    write_series(hu, placed(hu.shape), tmp_path / "b", patient_id="TEST-0002", seed=2)
    judged = judge_study(inspect_study(tmp_path), protocol_with(min_slices=3))
    assert judged.refusal is not None
    assert "2 patients" in judged.refusal


def test_what_headers_state_is_read(study: Path, tmp_path: Path) -> None:
    hu = noisy(head()[50:56])
    files = write_series(hu, placed(hu.shape), tmp_path)
    for file in files:
        image = pydicom.dcmread(file)
        image.BurnedInAnnotation = "YES"
        image.LongitudinalTemporalInformationModified = "MODIFIED"
        image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        image.save_as(file)
    (series,) = inspect_study(tmp_path)
    assert series.stated is not None
    assert (series.stated.kv, series.stated.kernel, series.stated.body_part) == (120.0, "BONE", "HEAD")
    assert series.stated.age_days is None
    warned = {one.check for one in series.report if one.verdict == "warn"}
    assert {"burned-in-stated", "derived-images"} <= warned
    (plain,) = [one for one in inspect_study(study, on=TAKEN + dt.timedelta(days=40)) if one.readable]
    assert plain.stated is not None
    assert plain.stated.age_days == 40


def test_scan_json_meets_its_schema_and_names_nobody(study: Path) -> None:
    protocols = {name: family.limits.protocol for name, family in FAMILIES.items()}
    scan, identity = intake(study, ORDER, protocols["anatomical-model"])
    text = json.dumps(scan_report(scan, protocols))
    tree = json.loads(text)
    jsonschema.validate(tree, schema("scan"))
    assert "images" not in tree["series"]
    assert tree["families"]["anatomical-model"]["verdict"] == "warn"
    assert tree["families"]["cranial-implant"]["verdict"] == "fail"
    text = json.dumps(tree)
    for secret in (
        identity.patient_name,
        identity.patient_id,
        identity.study_date,
        identity.study_instance_uid,
        TAKEN.isoformat(),
    ):
        assert secret
        assert secret not in text


def test_a_long_series_is_sampled_in_pairs_from_end_to_end() -> None:
    assert sampled_slices(MAX_SLICES, 512 * 512) == tuple(range(MAX_SLICES))
    assert len(sampled_slices(400, 4096 * 4096)) == MIN_SLICES
    for total in (MAX_SLICES + 1, 400, 2000):
        index = sampled_slices(total, 512 * 512)
        assert len(index) <= MAX_SLICES
        assert index[0] == 0
        assert index[-1] == total - 1
        assert list(index) == sorted(set(index))
        sample = Sample(np.zeros((len(index), 2, 2), dtype=np.int16), index, np.eye(4), total)
        assert len(sample.neighbours) >= MAX_SLICES // 2


def test_a_series_whose_pixels_are_cut_off_is_not_readable(tmp_path: Path) -> None:
    hu = noisy(head()[50:56])
    files = write_series(hu, placed(hu.shape), tmp_path)
    content = files[3].read_bytes()
    files[3].write_bytes(content[: len(content) // 2])
    found = inspect_study(tmp_path)
    assert not found[0].readable
    assert found[0].reason


def test_the_sections_of_the_page_show_bone_and_not_who_it_is() -> None:
    record = SeriesRecord("CT", "", "", "", "HFS", SHAPE[0], 2.0, 2.0, (1.5, 1.5), 0.0, "", "")

    def pictures(hu: np.ndarray) -> list[bytes]:
        return [one.png for one in scan_sections(Scan(np.rint(hu).astype(np.int16), placed(), record))]

    whole = head()
    soft_alone, air = pictures(np.minimum(whole, 40.0)), pictures(np.full(SHAPE, -1000.0))
    assert soft_alone == air  # skin, brain and jaw of soft tissue leave no trace
    assert all(one != other for one, other in zip(pictures(whole), air, strict=True))


# --- real scans ----------------------------------------------------------------------------------------------------


def verdicts(path: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]], dict[str, Any]]:
    """Family -> verdict, check -> figure of the best series, and the whole document."""
    tree = inspect_for(path, None).tree
    figures = {one["check"]: one for one in tree["series"][0]["report"]}
    return {name: one["verdict"] for name, one in tree["families"].items()}, figures, tree


@pytest.mark.data
def test_the_real_thorax_passes_with_the_pixel_warning(test_data: Path) -> None:
    judged, found, tree = verdicts(test_data / "thorax.zip")
    assert judged == every_family(model="pass", touching="warn")
    assert any("pixel size is 0.78125 mm, at most 0.5 mm" in one for one in tree["families"]["cranial-implant"]["warnings"])
    assert "chest" in found["anatomy"]["what"]
    assert found["anatomy-stated"]["verdict"] == "pass"
    assert not [name for name, one in found.items() if one["verdict"] == "warn"]


@pytest.mark.data
def test_the_real_lumbar_spine_is_too_coarse_for_an_implant_and_its_metal_is_found(test_data: Path) -> None:
    judged, found, tree = verdicts(test_data / "lumbar-labelled" / "example_ct.nii.gz")
    assert judged == every_family(model="warn", touching="fail")
    assert "slice spacing is 3 mm, at most 1.25 mm" in tree["families"]["cranial-implant"]["refusal"]
    assert found["metal"]["verdict"] == "warn"
    assert found["motion-jump"]["verdict"] == "pass"


@pytest.mark.data
def test_the_tilted_head_is_refused_for_an_implant_by_its_spacing_and_accepted_for_a_model(test_data: Path) -> None:
    judged, found, tree = verdicts(test_data / "head-phantom-tilted.zip")
    assert judged == every_family(model="warn", touching="fail")
    assert "slice spacing is 2.37" in tree["families"]["cranial-implant"]["refusal"]
    assert "tilt" not in tree["families"]["cranial-implant"]["refusal"]
    assert "head" in found["anatomy"]["what"]
    assert found["face"]["verdict"] == "pass"  # plastic without skin


@pytest.mark.data
def test_the_head_phantom_is_whole_and_still(test_data: Path) -> None:
    judged, found, _ = verdicts(test_data / "head-phantom.zip")
    assert judged == every_family(model="warn", touching="warn")  # the scan is years old
    for check in ("top-of-head", "motion-jump", "motion-double-contour", "metal", "face", "burned-in-text", "body-cut"):
        assert found[check]["verdict"] == "pass", check


@pytest.mark.data
def test_the_vault_that_ends_early_is_said_to_be_cut_off(test_data: Path) -> None:
    file = next((test_data / "awkward" / "dicom2stl").rglob("*.nii*"))
    judged, found, _ = verdicts(file)
    assert judged == every_family(model="fail", touching="fail")
    assert found["top-of-head"]["verdict"] == "warn"
