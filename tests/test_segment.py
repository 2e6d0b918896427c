"""From a scan to a bone: known shapes, known values, known places."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import cKDTree
from scipy.special import erf

from batchone.pipeline.errors import OrderError, SegmentationError
from batchone.pipeline.order import Order, Target
from batchone.pipeline.values import Anatomy, FloatArray, HuArray, Mesh, Scan, SeriesRecord, Side, moved_points
from batchone.segment.bits import packed_above
from batchone.segment.bone import cropped, filled, scan_figures
from batchone.segment.frames.principal import principal_frame
from batchone.segment.frames.skull import skull_frame, vault_cover
from batchone.segment.make import segment
from batchone.segment.separate import chosen
from batchone.segment.surface import count_open_edges, edge_field, signed_volume_mm3, surface
from batchone.segment.uncertainty import surface_sigma_mm

BLUR_MM = 0.4  # standard deviation: FWHM 0.94 mm
RECORD = SeriesRecord("CT", "", "", "", "HFS", 1, 1.0, 1.0, (1.0, 1.0), 0.0, "", "")


def order(*bones: str, side: Side = "left") -> Order:
    due = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    target = Target(bones=bones)
    return Order(case="t-1", device="cranial-implant", side=side, process="p", machine="m", due=due, target=target)


def scanned(hu: HuArray, affine: FloatArray) -> Scan:
    hu.setflags(write=False)
    return Scan(hu, affine, RECORD)


def turned(x_deg: float, y_deg: float, z_deg: float) -> FloatArray:
    pose = np.eye(4)
    for axis, angle in enumerate(np.radians([x_deg, y_deg, z_deg])):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one = np.eye(4)
        one[i, i] = one[j, j] = np.cos(angle)
        one[j, i], one[i, j] = np.sin(angle), -np.sin(angle)
        pose = one @ pose
    return pose


# --- surface -----------------------------------------------------------------------------------------------------------------

CENTRE_MM = np.array([3.3, -7.1, 211.7])
RADIUS_MM = 20.0


def ball_scan(
    spacing_mm: tuple[float, float, float],
    pose: FloatArray,
    *,
    outside: float = 40.0,
    inside: float = 1000.0,
    noise_hu: float = 0.0,
) -> tuple[HuArray, FloatArray]:
    """A ball about CENTRE_MM after a Gaussian blur (closed form), on a turned grid that is not centred on it."""
    counts = [int(2 * (RADIUS_MM + 4) / step) + 1 for step in spacing_mm]
    affine = np.eye(4)
    affine[:3, :3] = pose[:3, :3] * np.array(spacing_mm)
    affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ ((np.array(counts) - 1) / 2 + np.array([0.13, 0.31, -0.22]))
    k, j, i = np.indices(counts[::-1]).reshape(3, -1)
    r = np.linalg.norm(moved_points(affine, np.stack([i, j, k], axis=1).astype(np.float64)) - CENTRE_MM, axis=1)
    near, far, root = (RADIUS_MM - r) / BLUR_MM, (RADIUS_MM + r) / BLUR_MM, np.sqrt(2.0)
    tail = (np.exp(-(near**2) / 2) - np.exp(-(far**2) / 2)) * BLUR_MM / (r * np.sqrt(2 * np.pi))
    share = 0.5 * (erf(near / root) + erf(far / root)) - tail
    values = outside + (inside - outside) * share + np.random.default_rng(5).normal(0.0, noise_hu, share.shape)
    return np.round(values).astype(np.int16).reshape(counts[::-1]), affine


def ball_surface(hu: HuArray, affine: FloatArray, *, in_tissue: bool = True) -> tuple[Mesh, FloatArray]:
    grid = cropped(hu, affine, np.array([[0, n] for n in hu.shape]))
    figures = scan_figures(hu)
    solid = filled(packed_above(grid.hu, figures.threshold_hu), grid)
    mesh = surface(edge_field(solid, grid, in_tissue=in_tissue), grid.affine)
    return mesh, surface_sigma_mm(mesh, grid, figures.noise_hu)


@pytest.mark.parametrize("pose", [np.eye(4), turned(17.0, -29.0, 40.0)], ids=["straight", "oblique"])
@pytest.mark.parametrize(
    ("outside", "inside"), [(40.0, 1000.0), (40.0, 450.0), (-1000.0, 735.0)], ids=["cortex", "weak", "plastic"]
)
def test_a_ball_has_its_surface_within_a_hundredth_of_a_millimetre(pose: FloatArray, outside: float, inside: float) -> None:
    hu, affine = ball_scan((0.5, 0.5, 0.5), pose, outside=outside, inside=inside)
    mesh, _ = ball_surface(hu, affine, in_tissue=outside > 0)
    error_mm = np.linalg.norm(mesh.vertices_mm - CENTRE_MM, axis=1) - RADIUS_MM
    assert np.sqrt(np.mean(error_mm**2)) <= 0.011  # of which 0.008 mm is the blur's own shift at this curvature
    assert np.abs(error_mm).max() <= 0.04
    assert signed_volume_mm3(mesh) == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=2e-3)
    assert count_open_edges(mesh.faces) == 0
    assert mesh.vertices_mm.dtype == np.float64
    assert mesh.faces.dtype == np.int32


def test_thick_slices_move_the_surface_by_less_than_a_tenth_of_their_distance() -> None:
    hu, affine = ball_scan((0.45, 0.45, 1.0), np.eye(4))
    mesh, _ = ball_surface(hu, affine)
    error_mm = np.linalg.norm(mesh.vertices_mm - CENTRE_MM, axis=1) - RADIUS_MM
    assert abs(error_mm.mean()) <= 0.01
    assert np.abs(error_mm).max() <= 0.1


@pytest.mark.parametrize("noise_hu", [15.0, 50.0])
def test_the_stated_uncertainty_is_about_the_error_found(noise_hu: float) -> None:
    hu, affine = ball_scan((0.7, 0.7, 0.8), np.eye(4), noise_hu=noise_hu)
    mesh, sigma_mm = ball_surface(hu, affine)
    error_mm = np.linalg.norm(mesh.vertices_mm - CENTRE_MM, axis=1) - RADIUS_MM
    inside = np.mean(np.abs(error_mm) <= 1.96 * sigma_mm)
    assert inside >= 0.90
    assert np.sqrt(np.mean(error_mm**2)) >= 0.15 * np.median(sigma_mm)
    assert np.median(sigma_mm) <= 0.15


def test_uncertainty_grows_with_noise() -> None:
    quiet, loud = (ball_surface(*ball_scan((0.7, 0.7, 0.8), np.eye(4), noise_hu=n))[1] for n in (10.0, 60.0))
    assert np.median(loud) > 1.2 * np.median(quiet)


def test_a_bone_cut_by_the_end_of_the_scan_is_closed_there() -> None:
    hu, affine = ball_scan((0.5, 0.5, 0.5), np.eye(4))
    half = np.ascontiguousarray(hu[: hu.shape[0] // 2])
    mesh, _ = ball_surface(half, affine)
    assert count_open_edges(mesh.faces) == 0
    assert signed_volume_mm3(mesh) == pytest.approx(2 / 3 * np.pi * RADIUS_MM**3, rel=0.03)


def test_a_field_without_bone_has_no_surface() -> None:
    with pytest.raises(SegmentationError, match="0 triangles"):
        surface(np.full((5, 5, 5), -400, dtype=np.int16), np.eye(4))


def test_open_doubled_and_flipped_faces_are_counted() -> None:
    closed = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32)
    assert count_open_edges(closed) == 0
    assert count_open_edges(closed[:3].copy()) == 3
    assert count_open_edges(np.concatenate([closed, closed])) == 24
    closed[0] = closed[0, ::-1]
    assert count_open_edges(closed) == 6


# --- frames ------------------------------------------------------------------------------------------------------------------


def long_bone_mesh() -> Mesh:
    hu, affine = ball_scan((1.0, 1.0, 1.0), np.eye(4))
    mesh, _ = ball_surface(hu, affine)
    return Mesh((mesh.vertices_mm - CENTRE_MM) * np.array([1.0, 1.3, 4.0]), mesh.faces)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (20.0, -15.0, 10.0), (5.0, 25.0, -12.0)])
def test_a_bones_own_frame_moves_with_it(angles: tuple[float, float, float]) -> None:
    mesh, pose = long_bone_mesh(), turned(*angles)
    pose[:3, 3] = (10.0, -20.0, 30.0)
    frame = principal_frame(mesh.moved(pose))
    assert np.linalg.det(frame[:3, :3]) == pytest.approx(1.0)
    assert np.allclose(frame, pose @ principal_frame(mesh), atol=1e-6)
    assert frame[2, 2] > 0.0  # towards the head
    assert frame[0, 0] > 0.0  # towards the left


# --- whole scans -------------------------------------------------------------------------------------------------------------

HALF_AXES_MM = np.array([70.0, 88.0, 80.0])
WALL_MM = 7.0
TABLE_MM = 2.5


def depth_mm(points: FloatArray) -> FloatArray:
    """First-order depth of (..., 3) points below the vault's outer surface."""
    rho = np.linalg.norm(points / HALF_AXES_MM, axis=-1)
    return np.asarray((1.0 - rho) * rho / np.maximum(np.linalg.norm(points / HALF_AXES_MM**2, axis=-1), 1e-6))


def head_hu(
    step_mm: float = 1.2, *, dressed: bool = True, holder: bool = True, saw: bool = False, hole_mm: float = 0.0
) -> tuple[HuArray, FloatArray]:
    """A vault cut near its equator by the scan's end: wall of 7 mm with 2 mm of diploe; scalp and brain when dressed;
    a U-shaped holder through all slices; a saw cut of 2 mm; a hole in the left side. LPS about the vault's centre."""
    z, y, x = np.meshgrid(
        *(np.arange(a, b, step_mm) for a, b in ((-8.0, 100.0), (-112.0, 112.0), (-100.0, 100.0))), indexing="ij"
    )
    depth = depth_mm(np.stack([x, y, z], axis=-1))

    def within(low_mm: float, high_mm: float) -> FloatArray:
        return 0.5 * (erf((depth - low_mm) / (0.7 * step_mm)) - erf((depth - high_mm) / (0.7 * step_mm)))  # half a voxel of blur

    around = 40.0 if dressed else -1000.0
    bone = within(0.0, WALL_MM)
    bone[(np.abs(z - 30.0) < 1.0) & saw] = 0.0
    bone[(y**2 + (z - 35.0) ** 2 < (hole_mm / 2) ** 2) & (x > 0.0)] = 0.0
    hu = -1000.0 + (around + 1000.0) * within(-5.0, 999.0)
    hu += (900.0 - around) * bone - 500.0 * np.minimum(within(TABLE_MM, WALL_MM - TABLE_MM), bone)
    if holder:
        hu[(np.abs(x) > 88.0) & (np.abs(x) < 94.0) & (y > -40.0)] = 390.0
        hu[(np.abs(x) < 94.0) & (y > 100.0) & (y < 106.0)] = 390.0
    hu += np.random.default_rng(2).normal(0.0, 12.0, hu.shape)
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = (-100.0, -112.0, -8.0)
    return np.clip(np.round(hu), -1024, 3071).astype(np.int16), affine


@pytest.fixture(scope="module")
def head() -> Anatomy:
    return segment(scanned(*head_hu(hole_mm=50.0)), order())


def test_a_head_gives_the_skull_without_its_holder(head: Anatomy) -> None:
    (skull,) = head.bones
    assert (skull.name, skull.side, skull.complete) == ("skull", "midline", False)
    assert np.abs(skull.mesh.vertices_mm[:, 0]).max() <= 71.0
    assert skull.mesh.vertices_mm[:, 1].max() <= 89.0
    assert {f.check: f.value for f in head.findings}["equipment_dropped"] > 50.0
    assert all(f.verdict == "pass" for f in head.findings)
    assert skull.confidence > 0.8


def test_the_surface_of_a_skull_lies_on_its_tables_and_diploe_is_filled(head: Anatomy) -> None:
    points = head.bones[0].mesh.vertices_mm
    points = points[(points[:, 2] > 0.0) & ~((points[:, 0] > 0.0) & (np.hypot(points[:, 1], points[:, 2] - 35.0) < 30.0))]
    outer_mm = depth_mm(points)
    inner_mm = outer_mm - WALL_MM
    error_mm = np.minimum(np.abs(outer_mm), np.abs(inner_mm))
    assert np.percentile(error_mm, 95) <= 0.3  # a quarter of the voxel, which is 1.2 mm
    assert error_mm.max() <= 1.0  # no surface inside the diploe, which would be 2.5 mm away
    assert abs(np.median(outer_mm[np.abs(outer_mm) < 1.5])) <= 0.15


def test_a_defect_stays_a_defect_on_its_side(head: Anatomy) -> None:
    points = head.bones[0].mesh.vertices_mm
    in_hole = np.hypot(points[:, 1], points[:, 2] - 35.0) < 22.0
    assert not np.any(in_hole & (points[:, 0] > 0.0))
    assert np.any(in_hole & (points[:, 0] < 0.0))


def test_the_frame_of_a_skull_is_the_patients_about_the_vaults_centre(head: Anatomy) -> None:
    frame = head.bones[0].frame
    assert np.array_equal(frame[:3, :3], np.eye(3))
    assert frame[:3, 3] == pytest.approx([0.0, 0.0, 80.0 - 72.0], abs=0.7)


def test_landmarks_lie_at_the_ends_of_the_vault(head: Anatomy) -> None:
    found = {m.name: m for m in head.landmarks}
    # 0.5 mm: less than half of the voxel, along the axis of the extreme
    assert found["vault-vertex"].point_mm[2] == pytest.approx(80.0, abs=0.5)
    assert found["vault-right"].point_mm[0] == pytest.approx(-70.0, abs=0.5)
    assert found["vault-left"].point_mm[0] > 60.0
    assert found["vault-front"].point_mm[1] == pytest.approx(-88.0, abs=0.5)
    assert found["vault-back"].point_mm[1] == pytest.approx(88.0, abs=0.5)
    assert all(0.0 < m.spread_mm < 15.0 for m in head.landmarks)


def test_every_vertex_has_its_uncertainty(head: Anatomy) -> None:
    skull = head.bones[0]
    assert skull.uncertainty_mm.shape == (len(skull.mesh.vertices_mm),)
    assert np.all((skull.uncertainty_mm > 0.0) & (skull.uncertainty_mm <= 2.0))
    assert count_open_edges(skull.mesh.faces) == 0
    assert skull.volume_mm3 == pytest.approx(signed_volume_mm3(skull.mesh))


def test_a_bare_plastic_skull_passes_with_the_same_constants() -> None:
    hu, affine = head_hu(step_mm=2.0, dressed=False)
    skull = segment(scanned(hu, affine), order()).bones[0]
    assert np.abs(skull.mesh.vertices_mm[:, 0]).max() <= 71.0


def test_a_sawn_vault_stays_with_the_base() -> None:
    hu, _ = head_hu(step_mm=1.5, dressed=False, saw=True)
    found = chosen(hu, (1.5, 1.5, 1.5), scan_figures(hu))
    assert len(found.kept) == 2
    assert [p.equipment for p in found.dropped] == [True]


def test_the_same_head_stored_in_another_order_of_rows_and_slices_is_not_mirrored(head: Anatomy) -> None:
    hu, affine = head_hu(hole_mm=50.0)
    turned_hu = np.ascontiguousarray(hu[::-1, ::-1])  # two axes: still right-handed
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    flip[1:3, 3] = (hu.shape[1] - 1, hu.shape[0] - 1)
    other = segment(scanned(turned_hu, affine @ flip), order()).bones[0]
    one = head.bones[0]
    assert other.volume_mm3 == pytest.approx(one.volume_mm3, rel=1e-4)  # cubes with two readings are cut the other way
    assert len(other.mesh.vertices_mm) == len(one.mesh.vertices_mm)
    assert cKDTree(one.mesh.vertices_mm).query(other.mesh.vertices_mm)[0].max() <= 1e-3


def test_the_same_scan_gives_the_same_bits(head: Anatomy) -> None:
    again = segment(scanned(*head_hu(hole_mm=50.0)), order())
    assert again.bones[0].mesh.vertices_mm.tobytes() == head.bones[0].mesh.vertices_mm.tobytes()
    assert again.bones[0].mesh.faces.tobytes() == head.bones[0].mesh.faces.tobytes()
    assert again.bones[0].uncertainty_mm.tobytes() == head.bones[0].uncertainty_mm.tobytes()
    assert (again.landmarks, again.findings) == (head.landmarks, head.findings)


# --- what is refused ---------------------------------------------------------------------------------------------------------


def rod_hu(offset_mm: float) -> tuple[HuArray, FloatArray]:
    """A body 120 mm wide about x = 0 with one long bone, ``offset_mm`` to the left."""
    _, y, x = np.meshgrid(*(np.arange(a, b, 2.0) for a, b in ((0.0, 160.0), (-50.0, 50.0), (-80.0, 80.0))), indexing="ij")
    hu = np.where((np.abs(x) < 60.0) & (np.abs(y) < 40.0), 40, -1000)
    hu[np.hypot(x - offset_mm, y) < 14.0] = 1000
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:2, 3] = (-80.0, -50.0)
    return hu.astype(np.int16), affine


def test_a_scan_without_bone_is_refused_with_what_was_found() -> None:
    hu, affine = head_hu(step_mm=3.0, holder=False)
    soft = np.minimum(hu, 60)
    with pytest.raises(SegmentationError, match=r"largest piece above \d+ HU is 0\.0 cm3.*at least 2 cm3") as caught:
        segment(scanned(soft, affine), order())
    assert (caught.value.exit_code, caught.value.hint != "") == (3, True)


def test_a_holder_alone_is_no_bone() -> None:
    hu, affine = head_hu(step_mm=3.0)
    x_mm, y_mm = np.arange(hu.shape[2]) * 3.0 - 100.0, np.arange(hu.shape[1]) * 3.0 - 112.0
    hu[:, (np.abs(x_mm)[None, :] < 84.0) & (y_mm[:, None] < 95.0)] = -1000
    with pytest.raises(SegmentationError, match="table, holder or metal"):
        segment(scanned(hu, affine), order())


def test_a_leg_is_not_a_skull() -> None:
    with pytest.raises(OrderError, match=r"closes \d+ % of a vault, a skull at least 50 %"):
        segment(scanned(*rod_hu(40.0)), order())


def test_a_bone_on_the_other_side_is_refused_and_never_mirrored() -> None:
    scan = scanned(*rod_hu(40.0))
    bone = segment(scan, order("femur", side="left")).bones[0]
    assert bone.side == "left"
    assert bone.mesh.vertices_mm[:, 0].mean() == pytest.approx(40.0, abs=0.5)
    with pytest.raises(OrderError, match=r"40 mm to the left of the body's middle, ordered side is right"):
        segment(scan, order("femur", side="right"))


@pytest.mark.parametrize(("offset_mm", "is_refused"), [(18.0, False), (23.0, True)])  # limit 20 mm
def test_a_bone_near_the_midline_keeps_the_ordered_side(offset_mm: float, is_refused: bool) -> None:
    scan = scanned(*rod_hu(offset_mm))
    if is_refused:
        with pytest.raises(OrderError):
            segment(scan, order("femur", side="right"))
    else:
        assert segment(scan, order("femur", side="right")).bones[0].side == "right"


def test_a_name_nothing_was_compared_with_is_less_sure() -> None:
    bone = segment(scanned(*rod_hu(0.0)), order("tibia")).bones[0]
    assert bone.confidence <= 0.5
    assert not bone.complete


def test_a_vault_is_told_from_half_a_vault() -> None:
    points = np.random.default_rng(0).normal(size=(40_000, 3))
    points *= 80.0 / np.linalg.norm(points, axis=1)[:, None]
    faces = np.zeros((1, 3), dtype=np.int32)
    assert vault_cover(Mesh(points, faces), np.eye(4)) == 1.0
    assert vault_cover(Mesh(points[points[:, 0] > 0.0], faces), np.eye(4)) == pytest.approx(0.5, abs=0.01)
    assert vault_cover(Mesh(points * 2.0, faces), np.eye(4)) == 0.0
    assert skull_frame(Mesh(points, faces))[:3, 3] == pytest.approx([0.0, 0.0, 8.0], abs=0.1)


# --- a real scan -------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_the_real_phantom_gives_a_skull_without_holder_and_stand(test_data: Path) -> None:
    from batchone.pipeline.intake.make import intake
    from batchone.pipeline.limits import Protocol

    protocol = Protocol(
        max_slice_spacing_mm=1.25, warn_slice_spacing_mm=1.0, max_slice_thickness_mm=2.0, max_pixel_mm=0.7,
        max_gantry_tilt_deg=30.0, min_slices=50, source="test",
    )  # fmt: skip
    scan, _ = intake(test_data / "head-phantom.zip", order(), protocol)
    anatomy = segment(scan, order())
    skull = anatomy.bones[0]
    points = skull.mesh.vertices_mm
    found = {f.check: f.value for f in anatomy.findings}
    assert 380e3 <= skull.volume_mm3 <= 450e3  # 397 cm3 above 236 HU
    assert found["equipment_dropped"] == pytest.approx(129.3, abs=3.0)  # the holder, 128 cm3 in the notes on this scan
    assert points[:, 0].max() - points[:, 0].min() <= 160.0  # the holder is 212 mm wide
    assert points[:, 1].max() <= 200.0  # and reaches back to 229 mm
    off = points - skull.frame[:3, 3]
    assert not np.any(
        (np.hypot(off[:, 0], off[:, 1]) < 35.0) & (np.abs(off[:, 2]) < 40.0) & (off[:, 2] > -10.0)
    )  # rods and blocks
    assert not skull.complete
    assert found["vault_cover"] == 1.0
    assert found["surface_sigma_median"] <= 0.15
    assert skull.confidence > 0.9
    assert count_open_edges(skull.mesh.faces) == 0


def test_types_of_arrays(head: Anatomy) -> None:
    uncertainty: npt.NDArray[np.float64] = head.bones[0].uncertainty_mm
    assert (head.bones[0].mesh.vertices_mm.dtype, head.bones[0].mesh.faces.dtype, uncertainty.dtype) == (
        np.float64,
        np.int32,
        np.float64,
    )
