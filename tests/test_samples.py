"""The phantoms are what they claim to be: every truth is measured back from the scan."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.ndimage import map_coordinates
from skimage.measure import marching_cubes

from batchone.design.families import load_families
from batchone.pipeline.errors import InputError, OrderError
from batchone.pipeline.order import Parameters, read_order
from batchone.pipeline.values import FloatArray, HuArray, moved_points
from batchone.samples.bone_ct import Scanner, scene
from batchone.samples.craniectomy import Craniectomy, craniectomy, point_on_skull
from batchone.samples.dicom import write_demo, write_series
from batchone.samples.dress import dress
from batchone.samples.head import Defect, Phantom, head_phantom
from batchone.samples.long_bone import bone_surface, long_bone
from batchone.samples.scanner import Grid, scan_grid, share
from batchone.samples.skull_view import direction
from batchone.samples.spine import spine_segment
from batchone.samples.vault import vault_shape

SMALL = {"shape": (60, 96, 96), "spacing_mm": (2.7, 2.4, 2.4)}
MEDIUM = {"shape": (104, 150, 150), "spacing_mm": (1.5, 1.5, 1.5)}


def turned(angle_deg: float, shift_mm: tuple[float, float, float]) -> FloatArray:
    """A rigid motion about a skew axis."""
    axis = np.array([0.3, -0.4, 0.866])
    axis /= np.linalg.norm(axis)
    cross = np.cross(np.eye(3), axis) * -1.0
    angle = np.radians(angle_deg)
    pose = np.eye(4)
    pose[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    pose[:3, 3] = shift_mm
    return pose


def window(
    azimuth_deg: float, elevation_deg: float, *, pose: FloatArray | None = None, side: float = 1.0, noise_hu: float = 0.0
) -> Phantom:
    """A small, fine scan of a patch of the head; ``side`` -1 looks at the other half."""
    u = direction(azimuth_deg, elevation_deg) * np.array([side, 1.0, 1.0])
    middle = moved_points(np.eye(4) if pose is None else pose, 72.0 * u[None])[0]
    centre = (float(middle[0]), float(middle[1]), float(middle[2]))
    return head_phantom(shape=(44, 44, 44), spacing_mm=(0.8, 0.8, 0.8), centre_mm=centre, pose=pose, noise_hu=noise_hu)


def isosurface_mm(hu: HuArray, affine: FloatArray, level_hu: float) -> FloatArray:
    """(n, 3) LPS vertices of the surface at a grey value."""
    vertices = marching_cubes(hu.astype(np.float32), level_hu)[0]
    return np.asarray(vertices[:, ::-1].astype(np.float64) @ affine[:3, :3].T + affine[:3, 3])


def sampled(hu: HuArray, affine: FloatArray, points_mm: FloatArray) -> FloatArray:
    index = moved_points(np.linalg.inv(affine), points_mm)
    return np.asarray(map_coordinates(hu, index.T[::-1], output=np.float64, order=1))


def sphere(count: int) -> FloatArray:
    n = np.arange(count) + 0.5
    z, turn = 1.0 - 2.0 * n / count, n * np.pi * (3.0 - np.sqrt(5.0))
    return np.column_stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z])


@pytest.fixture(scope="module")
def small() -> Phantom:
    return head_phantom(**SMALL)


@pytest.fixture(scope="module")
def medium() -> Phantom:
    return head_phantom(**MEDIUM)


@pytest.fixture(scope="module")
def operated(medium: Phantom) -> Craniectomy:
    centre = point_on_skull(medium.hu, medium.affine, azimuth_deg=80.0, elevation_deg=32.0)
    return craniectomy(medium.hu, medium.affine, centre_mm=centre, diameter_mm=80.0, edge_angle_deg=10.0, seed=5)


@pytest.fixture(scope="module")
def bare() -> tuple[HuArray, Grid, FloatArray]:
    """A hollow plastic skull in air with a head holder behind it, its grid, and the outer distance of every voxel."""
    vault = vault_shape(np.random.default_rng(4))
    grid = scan_grid((74, 106, 106), (2.0, 2.0, 2.0), (0.0, 0.0, 8.0))
    points = grid.points_mm((slice(0, 74), slice(0, 106), slice(0, 106)))
    egg = vault.egg(points)
    near = (egg > 0.7) & (egg < 1.25)
    outer_mm, inner_mm = (np.where(egg < 1.0, -50.0, 50.0) for _ in range(2))
    at = vault.layers(points[near])
    outer_mm[near], inner_mm[near] = at.outer_mm, at.inner_mm
    sigma_mm = grid.sigma_mm(0.9)
    hu = -1000.0 + 1735.0 * (share(outer_mm, sigma_mm) - share(inner_mm, sigma_mm))
    hu += 1400.0 * share(np.abs(points[:, 1] - 102.0) - 2.0, sigma_mm)
    return np.rint(hu).astype(np.int16).reshape(grid.shape), grid, outer_mm.reshape(grid.shape)


@pytest.mark.parametrize("place", [(80.0, 30.0), (0.0, 40.0), (-75.0, 20.0), (178.0, 15.0)])
def test_the_surface_at_the_half_value_lies_on_the_analytic_vault(place: tuple[float, float]) -> None:
    phantom = window(*place)
    at = phantom.layers(isosurface_mm(phantom.hu, phantom.affine, 670.0))
    outer = at.outer_mm[np.abs(at.outer_mm) < 0.8]
    inner = at.inner_mm[np.abs(at.inner_mm) < 0.6]
    assert outer.size > 1500
    assert inner.size > 1500
    assert np.percentile(np.abs(outer), 95) < 0.08  # mm, linear interpolation between 0.8 mm voxels and 5 % of table HU
    assert np.percentile(np.abs(inner), 95) < 0.08
    assert abs(float(np.mean(outer))) < 0.03


def test_a_rigid_motion_before_scanning_moves_the_head_and_its_truth() -> None:
    pose = turned(17.0, (6.0, -4.0, 5.0))
    phantom, still = window(80.0, 30.0, pose=pose), window(80.0, 30.0)
    outer = phantom.layers(isosurface_mm(phantom.hu, phantom.affine, 670.0)).outer_mm
    assert np.percentile(np.abs(outer[np.abs(outer) < 0.8]), 95) < 0.08
    unmoved = still.layers(isosurface_mm(phantom.hu, phantom.affine, 670.0)).outer_mm
    assert np.median(np.abs(unmoved)) > 1.0
    for name, point in still.landmarks_mm.items():
        assert moved_points(pose, np.array([point]))[0] == pytest.approx(phantom.landmarks_mm[name], abs=1e-9)


def test_the_landmarks_turn_right_handed(small: Phantom) -> None:
    marks = {name: np.array(point) - small.landmarks_mm["centre"] for name, point in small.landmarks_mm.items()}
    # nasion forward (-y), left ear (+x), vertex (+z): (-y) x (+x) . (+z) > 0 in LPS
    assert np.linalg.det(np.stack([marks["nasion"], marks["left_ear"], marks["vertex"]])) / 6.0 > 1e4
    assert marks["left_ear"][0] > 50.0
    assert marks["right_ear"][0] < -50.0


def test_the_letter_is_engraved_on_the_right_side_only() -> None:
    right, left = window(-127.0, -20.0), window(-127.0, -20.0, side=-1.0)
    strokes = right.letter_mm
    u = strokes / np.linalg.norm(strokes, axis=1)[:, None]
    depth_mm = 0.7
    engraved = u * (right.vault.outer_radius_mm(u) - depth_mm)[:, None]
    mirrored_u = u * np.array([-1.0, 1.0, 1.0])
    mirrored = mirrored_u * (left.vault.outer_radius_mm(mirrored_u) - depth_mm)[:, None]
    assert np.median(sampled(right.hu, right.affine, engraved)) < 400.0
    assert np.median(sampled(left.hu, left.affine, mirrored)) > 900.0


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_every_seed_gives_a_head_of_adult_size_with_walls_of_4_to_9_mm(seed: int) -> None:
    vault = vault_shape(np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[0]))
    u = sphere(4000)
    surface = u * vault.outer_radius_mm(u)[:, None]
    length_mm, breadth_mm = np.ptp(surface[:, 1]), np.ptp(surface[:, 0])
    assert 168.0 < length_mm < 192.0
    assert 134.0 < breadth_mm < 158.0
    roof = u[:, 2] > 0.1
    walls = vault.layers(surface[roof]).thickness_mm
    assert walls.min() >= 4.0
    assert walls.max() < 9.6
    assert np.ptp(walls) > 2.0
    mirrored = np.array([-1.0, 1.0, 1.0]) * u[roof]
    asymmetry_mm = np.abs(vault.outer_radius_mm(mirrored) - vault.outer_radius_mm(u[roof]))
    assert 0.2 < np.median(asymmetry_mm) < 2.0


def test_the_scan_has_the_tissues_of_a_head_and_air_above_it(medium: Phantom) -> None:
    centre = medium.hu[52 - 4 : 52 + 4, 70:80, 70:80].astype(float)
    assert np.mean(centre) == pytest.approx(35.0, abs=4.0)
    assert medium.hu[-1, :110].max() < -800  # in front of the table
    tables = sampled(medium.hu, medium.affine, np.array([medium.landmarks_mm["vertex"]]) - [0.0, 0.0, 1.0])
    assert tables[0] > 700.0
    scalp = np.array([medium.landmarks_mm["vertex"]]) - [0.0, 0.0, -2.0]
    assert -100.0 < sampled(medium.hu, medium.affine, scalp)[0] < 200.0


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_head(small: Phantom) -> None:
    assert head_phantom(**SMALL).hu.tobytes() == small.hu.tobytes()
    other = head_phantom(seed=2, **SMALL)
    assert np.mean(np.abs(other.hu.astype(int) - small.hu) > 300) > 0.003


@pytest.mark.parametrize(
    ("azimuth_deg", "elevation_deg"), [(0.0, 30.0), (90.0, 20.0), (-90.0, 20.0), (180.0, 10.0), (60.0, 60.0)]
)
def test_a_place_on_the_skull_is_found_by_direction(medium: Phantom, azimuth_deg: float, elevation_deg: float) -> None:
    point = np.array(point_on_skull(medium.hu, medium.affine, azimuth_deg=azimuth_deg, elevation_deg=elevation_deg))
    assert abs(medium.layers(point[None]).outer_mm[0]) < 1.1  # mm, 300 HU lies outside the half value of a 1.5 mm voxel
    assert point @ direction(azimuth_deg, elevation_deg) > 0.97 * np.linalg.norm(point)


def test_the_removed_piece_has_the_volume_of_vault_within_the_cone(medium: Phantom, operated: Craniectomy) -> None:
    grid = scan_grid((120, 120, 120), (1.0, 1.0, 1.0), operated.centre_mm)
    points = grid.points_mm((slice(0, 120), slice(0, 120), slice(0, 120)))
    points = points[operated.cutter.wall_distance_mm(points) < 0.0]
    points = points[np.abs(operated.cutter.depth_mm(points) - 6.0) < 12.0]
    at = medium.layers(points)
    truth_mm3 = np.count_nonzero((at.outer_mm < 0.0) & (at.inner_mm > 0.0)) * 1.0
    assert operated.volume_mm3 == pytest.approx(truth_mm3, rel=0.04)  # tables thinner than the voxel lower the half value
    voxel_mm3 = 1.5**3
    assert np.count_nonzero(operated.removed) * voxel_mm3 == pytest.approx(truth_mm3, rel=0.06)  # whole voxels


def test_the_cut_edge_has_partial_volumes_and_lies_on_the_cone(medium: Phantom, operated: Craniectomy) -> None:
    points = np.argwhere(medium.hu > 800)[:, ::-1] @ medium.affine[:3, :3].T + medium.affine[:3, 3]
    wall_mm, depth_mm = operated.cutter.wall_distance_mm(points), operated.cutter.depth_mm(points)
    points = points[(np.abs(wall_mm) < 2.5) & (depth_mm > -2.0) & (depth_mm < 14.0)]
    wall_mm = operated.cutter.wall_distance_mm(points)
    before, after = (sampled(hu, medium.affine, points) for hu in (medium.hu, operated.hu))
    left = (after - 32.0) / (before - 32.0)
    edges = [float(np.median(left[np.abs(wall_mm - at) < 0.15])) for at in (-1.5, -0.4, 0.0, 0.4, 1.5)]
    assert edges == pytest.approx([0.01, 0.27, 0.5, 0.73, 0.99], abs=0.06)  # a blurred edge of sigma 0.65 mm on the cone
    distance_mm = np.linalg.norm(np.cross(points - np.array(operated.centre_mm), np.array(operated.axis)), axis=1)
    rim = (np.abs(wall_mm) < 0.3) & (np.abs(medium.layers(points).outer_mm + 1.0) < 0.7)
    assert float(np.median(distance_mm[rim])) == pytest.approx(40.0, abs=0.6)


def test_a_taper_narrows_the_hole_inwards(operated: Craniectomy) -> None:
    cutter, axis, centre = operated.cutter, np.array(operated.axis), np.array(operated.centre_mm)
    across = cutter.across[0]
    at_rim = centre + cutter.rim_mm * axis + 40.0 * across
    deeper = at_rim - 10.0 * axis
    assert cutter.wall_distance_mm(at_rim[None])[0] == pytest.approx(0.0, abs=1e-9)
    assert cutter.wall_distance_mm(deeper[None])[0] == pytest.approx(10.0 * np.sin(np.radians(10.0)), abs=1e-9)


def test_only_bone_near_the_hole_changes_and_the_other_side_stays(medium: Phantom, operated: Craniectomy) -> None:
    changed = np.argwhere(operated.hu != medium.hu)[:, ::-1] @ medium.affine[:3, :3].T + medium.affine[:3, 3]
    assert operated.cutter.wall_distance_mm(changed).max() < 4.0 * operated.blur_mm + 1.5
    at = medium.layers(changed)
    assert at.outer_mm.max() < 4.5  # mm
    assert at.inner_mm.min() > -4.5
    assert changed[:, 0].min() > 0.0
    assert operated.filled_outside == operated.filled_inside == "soft tissue"
    inside = operated.hu[operated.removed & (operated.hu < 400)]
    assert float(np.median(inside)) == pytest.approx(32.0, abs=15.0)
    assert 5.0 < float(np.std(inside[np.abs(inside - 30.0) < 80])) < 40.0


def test_what_is_left_and_what_was_taken_make_the_whole(medium: Phantom, operated: Craniectomy) -> None:
    origin = np.rint(moved_points(np.linalg.inv(medium.affine), operated.removed_affine[:3, 3][None])[0]).astype(int)[::-1]
    box = tuple(slice(a, a + n) for a, n in zip(origin, operated.removed_hu.shape, strict=True))
    sum_hu = operated.hu[box].astype(float) + operated.removed_hu - operated.background_hu
    difference = sum_hu - medium.hu[box]
    assert np.percentile(np.abs(difference), 99.9) < 120.0  # HU: filling's noise and scalp against brain, against 1300 of bone
    assert abs(float(difference.mean())) < 3.0


def test_the_same_cut_gives_the_same_bits(medium: Phantom, operated: Craniectomy) -> None:
    again = craniectomy(medium.hu, medium.affine, centre_mm=operated.centre_mm, diameter_mm=80.0, edge_angle_deg=10.0, seed=5)
    assert again.centre_mm == pytest.approx(operated.centre_mm, abs=1e-6)
    assert np.mean(again.hu != operated.hu) < 1e-6


@pytest.mark.parametrize(
    ("diameter_mm", "edge_angle_deg", "word"), [(4.9, 0.0, "4.9 mm"), (140.5, 0.0, "140.5 mm"), (40.0, 45.5, "45.5 deg")]
)
def test_a_cut_outside_its_limits_is_refused(small: Phantom, diameter_mm: float, edge_angle_deg: float, word: str) -> None:
    with pytest.raises(InputError, match=word):
        craniectomy(
            small.hu, small.affine, centre_mm=(60.0, 0.0, 40.0), diameter_mm=diameter_mm, edge_angle_deg=edge_angle_deg, seed=1
        )


def test_a_scan_without_a_skull_is_refused() -> None:
    empty = np.full((20, 20, 20), -1000, dtype=np.int16)
    with pytest.raises(InputError, match="0 mm3"):
        point_on_skull(empty, np.eye(4), azimuth_deg=0.0, elevation_deg=30.0)


def test_a_phantom_with_a_defect_carries_its_truth() -> None:
    phantom = head_phantom(defect=Defect(80.0, 32.0, 60.0), **SMALL)
    assert phantom.craniectomy is not None
    assert phantom.craniectomy.hu is phantom.hu
    assert phantom.craniectomy.centre_mm[0] > 40.0
    assert np.count_nonzero(phantom.craniectomy.removed) > 300


def test_a_hole_in_a_bare_skull_is_filled_with_air(bare: tuple[HuArray, Grid, FloatArray]) -> None:
    hu, grid, _ = bare
    centre = point_on_skull(hu, grid.affine, azimuth_deg=-80.0, elevation_deg=30.0)
    cut = craniectomy(hu, grid.affine, centre_mm=centre, diameter_mm=60.0, edge_angle_deg=0.0, seed=2)
    assert (cut.filled_outside, cut.filled_inside) == ("air", "air")
    assert cut.background_hu < -900.0
    assert cut.centre_mm[0] < -40.0


def test_dressing_keeps_the_edge_of_the_skull_and_adds_a_patient(bare: tuple[HuArray, Grid, FloatArray]) -> None:
    hu, grid, outer_mm = bare
    dressed = dress(hu, grid.affine, seed=3)
    before = isosurface_mm(hu, grid.affine, -132.5)
    edge_mm = map_coordinates(outer_mm, moved_points(np.linalg.inv(grid.affine), before).T[::-1], order=1)
    on_vault = before[(np.abs(edge_mm) < 0.8) & (before[:, 2] > 10.0)]
    # the half value between 40 HU of scalp and the table in this place lies where that between air and plastic lay
    assert np.median(sampled(dressed, grid.affine, on_vault)) == pytest.approx(610.0, abs=90.0)
    inner = dressed[30:44, 44:62, 44:62].astype(float)
    assert np.mean(inner) == pytest.approx(35.0, abs=3.0)
    assert np.std(inner) == pytest.approx(12.0, abs=4.0)
    scalp = dressed[(outer_mm > 1.6) & (outer_mm < 2.4) & (np.arange(74)[:, None, None] > 46)].astype(float)
    assert np.median(scalp) == pytest.approx(40.0, abs=60.0)  # HU: 2 mm voxels mix in a little bone and air
    wall = dressed[(hu > 600) & (outer_mm < -1.0) & (outer_mm > -8.0)]
    assert np.percentile(wall, 2) < 500.0
    assert np.percentile(wall, 98) > 1150.0
    holder = (hu > 0) & (outer_mm > 8.0)
    assert np.array_equal(dressed[holder], hu[holder])
    assert dress(hu, grid.affine, seed=3).tobytes() == dressed.tobytes()


def test_a_voxelised_bone_has_its_surface_where_the_mesh_is() -> None:
    mesh = bone_surface(50.0, rings=60, spokes=48)
    phantom = long_bone(mesh, spacing_mm=(0.9, 0.9, 0.9), noise_hu=0.0)
    normals = np.zeros_like(mesh.vertices_mm)
    corners = mesh.vertices_mm[mesh.faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6.0 > 1e4  # outward
    for n in range(3):
        np.add.at(normals, mesh.faces[:, n], flat)
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    shaft = np.abs(mesh.vertices_mm[:, 2]) < 15.0
    points, out = mesh.vertices_mm[shaft], normals[shaft]
    # 55 HU of muscle outside, 1200 of cortex: half is 627; the slope there is about 1000 HU per mm
    assert np.median(sampled(phantom.hu, phantom.affine, points)) == pytest.approx(627.0, abs=40.0)
    assert np.median(sampled(phantom.hu, phantom.affine, points - 1.5 * out)) == pytest.approx(1200.0, abs=20.0)
    assert np.median(sampled(phantom.hu, phantom.affine, points - 5.5 * out)) == pytest.approx(250.0, abs=60.0)
    assert np.median(sampled(phantom.hu, phantom.affine, points + 3.0 * out)) == pytest.approx(55.0, abs=10.0)


def skew_affine() -> FloatArray:
    affine = turned(25.0, (11.25, -40.5, 7.125))
    affine[:3, :3] *= np.array([0.7, 0.8, 1.25])
    return affine


def test_a_written_series_reads_back_with_the_same_hu_and_geometry(tmp_path: Path) -> None:
    hu = np.random.default_rng(1).integers(-1024, 3000, (6, 10, 12)).astype(np.int16)
    affine = skew_affine()
    write_series(hu, affine, tmp_path)
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    items = sorted((pydicom.dcmread(p) for p in tmp_path.iterdir()), key=lambda d: np.dot(d.ImagePositionPatient, normal))
    assert len({d.SOPInstanceUID for d in items}) == len({d.InstanceNumber for d in items}) == 6
    assert {d.SOPClassUID.name for d in items} == {"CT Image Storage"}
    assert len({(d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID) for d in items}) == 1
    for k, item in enumerate(items):
        assert np.array_equal(item.pixel_array * float(item.RescaleSlope) + float(item.RescaleIntercept), hu[k])
        assert np.array(item.ImagePositionPatient, dtype=float) == pytest.approx(affine[:3, 3] + k * affine[:3, 2], abs=1e-9)
        across = np.array(item.ImageOrientationPatient, dtype=float)
        assert across[:3] * float(item.PixelSpacing[1]) == pytest.approx(affine[:3, 0], abs=1e-9)
        assert across[3:] * float(item.PixelSpacing[0]) == pytest.approx(affine[:3, 1], abs=1e-9)
    assert [int(d.InstanceNumber) for d in items] != sorted(int(d.InstanceNumber) for d in items)


def test_writing_twice_gives_the_same_bytes_and_names_hide_the_order(tmp_path: Path) -> None:
    hu = np.random.default_rng(2).integers(-1024, 1000, (12, 8, 8)).astype(np.int16)
    for folder in ("a", "b"):
        write_series(hu, skew_affine(), tmp_path / folder, mess=True)
    first, second = (
        {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / folder).iterdir()} for folder in ("a", "b")
    )
    assert first == second
    assert len(first) == 12 + 3
    names = [p.name for p in write_series(hu, skew_affine(), tmp_path / "c")]
    assert names != sorted(names)
    kinds = {pydicom.dcmread(p).ImageType[2] for p in (tmp_path / "a").glob("IM*")}
    assert kinds == {"AXIAL", "LOCALIZER", "SCREEN SAVE"}


def test_a_value_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    lowest = np.full((1, 4, 4), -1024, dtype=np.int16)
    assert len(write_series(lowest, np.eye(4), tmp_path)) == 1
    with pytest.raises(ValueError, match="HU -1025"):
        write_series(lowest - np.int16(1), np.eye(4), tmp_path)


@pytest.mark.parametrize(("device", "side"), [("cranial-implant", "left"), ("anatomical-model", "midline")])
def test_the_demo_writes_a_valid_order_and_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, side: str
) -> None:
    monkeypatch.setattr("batchone.samples.demo.head_phantom", partial(head_phantom, **SMALL))
    path, study = write_demo(tmp_path, device=device)
    order = read_order(path, {device: Parameters})
    assert (order.device, order.side, order.case) == (device, side, "demo-0001")
    assert len(list(study.glob("IM*"))) == 60 + 2


@pytest.mark.parametrize(("device", "side"), [("pedicle-guide", "midline"), ("osteotomy-guide", "left")])
def test_the_demo_of_a_guide_writes_a_valid_order_and_a_scan_in_air(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, side: str
) -> None:
    one = scene(spine_segment(1, grid_mm=2.5).vertebrae)  # the demo's five at their own fineness take half a minute
    monkeypatch.setattr("batchone.samples.demo.spine_scene", lambda: one)
    monkeypatch.setattr("batchone.samples.demo.SPINE_SCANNER", Scanner((2.0, 1.5, 1.5), fwhm_mm=4.0))
    monkeypatch.setattr("batchone.samples.demo.BONE_SPACING_MM", (3.0, 2.0, 2.0))
    path, study = write_demo(tmp_path, device=device)
    order = read_order(path, {device: load_families()[device].parameters})
    assert (order.device, order.side, order.case) == (device, side, "demo-0001")
    item = pydicom.dcmread(min(study.glob("IM*")))
    assert item.BodyPartExamined in {"LSPINE", "LEG"}
    assert (item.pixel_array.astype(int) + int(item.RescaleIntercept) < -900).mean() > 0.05


def test_a_demo_for_an_unknown_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OrderError, match="anatomical-model, cranial-implant"):
        write_demo(tmp_path, device="hip-stem")
