"""Frames and landmarks of bones of known shape: where they are, that they move with the bone, and that nothing is mirrored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from batchone.pipeline.landmarks import Landmark, Reference
from batchone.pipeline.values import FloatArray, Mesh, Side, moved_points
from batchone.segment.frames.fits import fit_line, fit_plane, fit_sphere, sampled
from batchone.segment.frames.head import mid_sagittal, planes
from batchone.segment.frames.long_bone import femur, tibia
from batchone.segment.frames.occupancy import occupancy
from batchone.segment.frames.skull import skull_frame
from batchone.segment.frames.vertebra import Vertebra, vertebra
from batchone.segment.surface import signed_volume_mm3, surface

SIGMA_MM = 0.05


def motion(x_deg: float, y_deg: float, z_deg: float) -> FloatArray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [x_deg, y_deg, z_deg], degrees=True).as_matrix()
    pose[:3, 3] = (31.0, -17.0, 240.0)
    return pose


def mesh_of(depth_mm: FloatArray, low_mm: FloatArray, step_mm: float) -> Mesh:
    """The surface of a body from its depth (mm, positive inside) at the points of a grid, (slices, rows, columns)."""
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = low_mm
    field = np.pad(np.rint(np.clip(depth_mm, -20.0, 20.0) * 400.0), 1, constant_values=-8000.0)  # closed at the grid's end
    affine[:3, 3] -= step_mm
    return surface(np.where(field == 0, 1, field).astype(np.int16), affine)


def grid(
    low: tuple[float, float, float], high: tuple[float, float, float], step: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    z, y, x = np.meshgrid(*(np.arange(a, b, step) for a, b in zip(low[::-1], high[::-1], strict=True)), indexing="ij")
    return x, y, z


def sigma(mesh: Mesh) -> npt.NDArray[np.float64]:
    return np.full(len(mesh.vertices_mm), SIGMA_MM)


def points(landmarks: tuple[Landmark, ...]) -> dict[str, FloatArray]:
    return {m.name: np.array(m.point_mm) for m in landmarks}


def angle_deg(a: FloatArray, b: FloatArray) -> float:
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), np.dot(a, b))))


def reference(found: tuple[Reference, ...], name: str) -> Reference:
    return next(one for one in found if one.name == name)


# --- fits --------------------------------------------------------------------------------------------------------------------


def test_plane_sphere_and_line_are_found_among_points_that_are_off() -> None:
    random = np.random.default_rng(0)
    flat = np.column_stack([random.uniform(-20, 20, (400, 2)), random.normal(0.0, 0.02, 400)])
    flat[:60, 2] += 3.0
    centre, normal, _ = fit_plane(flat, np.array([0.0, 0.0, 1.0]))
    assert angle_deg(normal, np.array([0.0, 0.0, 1.0])) <= 0.1
    assert abs(centre[2]) <= 0.02
    way = random.normal(size=(500, 3))
    way[:, 2] = np.abs(way[:, 2])  # half a sphere
    ball = np.array([3.0, -4.0, 5.0]) + 23.0 * way / np.linalg.norm(way, axis=1)[:, None] + random.normal(0.0, 0.05, (500, 3))
    middle, radius = fit_sphere(ball)
    assert np.linalg.norm(middle - [3.0, -4.0, 5.0]) <= 0.05
    assert radius == pytest.approx(23.0, abs=0.05)
    line = np.outer(np.linspace(0, 100, 30), [0.0, 0.6, 0.8]) + random.normal(0.0, 0.05, (30, 3))
    assert angle_deg(fit_line(line, np.array([0.0, 0.0, 1.0]))[1], np.array([0.0, 0.6, 0.8])) <= 0.1


def test_points_lie_evenly_on_a_surface_and_its_inside_is_known() -> None:
    x, y, z = grid((-12, -12, -12), (12, 12, 12), 0.8)
    ball = mesh_of(9.0 - np.sqrt(x**2 + y**2 + z**2), np.array([-12.0, -12.0, -12.0]), 0.8)
    found = sampled(ball, 0.3)
    assert np.abs(np.linalg.norm(found.points, axis=1) - 9.0).max() <= 0.1
    assert np.min((found.points * found.normals).sum(axis=1)) > 8.8
    inside = occupancy(
        ball, motion(20, 30, 40), moved_points(np.linalg.inv(motion(20, 30, 40)), np.zeros((1, 3)))[0] - 10, (41, 41, 41), 0.5
    )
    assert inside.sum() * 0.125 == pytest.approx(signed_volume_mm3(ball), rel=0.005)


# --- a vertebra --------------------------------------------------------------------------------------------------------------

BODY_Y, TOP_MM, BOTTOM_MM, CANAL_MM = -24.0, 14.0, -12.0, (9.5, 8.0)
PEDICLE = np.array([13.5, -3.5, 4.0])  # of the left isthmus
HOLE_MM = np.array([0.0, -1.2])  # middle of the hole: the body is round, so it reaches a little further to the front
TILT = 0.08  # slope of the upper endplate, front to back


def vertebra_mesh(step: float = 0.8) -> Mesh:
    """About the canal: an elliptic body with a tilted upper endplate, waisted pedicles, an arch with processes."""
    low = (-48.0, -46.0, -24.0)
    x, y, z = grid(low, (44.0, 44.0, 24.0), step)
    side = np.abs(x)

    def box(depths: list[FloatArray]) -> FloatArray:
        return np.minimum.reduce(depths)

    body = box([(1.0 - np.hypot(x / 22.0, (y - BODY_Y) / 15.5)) * 15.5, TOP_MM + TILT * (y - BODY_Y) - z, z - BOTTOM_MM])
    waist = 3.6 + 0.03 * (y - PEDICLE[1]) ** 2
    pedicle = box([(1.0 - np.hypot((side - PEDICLE[0]) / waist, (z - PEDICLE[2]) / (1.8 * waist))) * 3.6, y + 13.0, 6.0 - y])
    arch = box([15.0 - np.hypot(x, y - 1.0), np.hypot(x / CANAL_MM[0], y / CANAL_MM[1]) * 8.0 - 8.0, y + 1.0, 9.0 - np.abs(z)])
    spinous = box([3.5 - side, 38.0 - y, y - 10.0, 3.0 - z, z + 13.0])
    reach = np.where(x > 0, 36.0, 40.0)  # the right process is longer: nothing may depend on symmetry, nor hide a mirror
    process = box([5.0 - np.hypot(y - 5.0, z - 3.0), side - 11.0, reach - side])
    return mesh_of(np.maximum.reduce([body, pedicle, arch, spinous, process]), np.array(low), step)


def found_vertebra(mesh: Mesh) -> Vertebra:
    found = vertebra(mesh, sigma(mesh), "l2")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def bone() -> Mesh:
    return vertebra_mesh()


POSES = [(0.0, 0.0, 0.0), (20.0, -8.0, 10.0), (-25.0, 12.0, -8.0)]


@pytest.mark.parametrize("angles", POSES)
def test_canal_endplates_and_pedicles_are_where_they_were_made(bone: Mesh, angles: tuple[float, float, float]) -> None:
    pose = motion(*angles)
    found = found_vertebra(bone.moved(pose))
    back = np.linalg.inv(pose)
    at = {name: moved_points(back, point[None])[0] for name, point in points(found.landmarks).items()}
    assert np.linalg.norm(at["l2-canal-centre"][:2] - HOLE_MM) <= 0.5  # half a cell of the view
    assert at["l2-endplate-lower"][2] == pytest.approx(BOTTOM_MM, abs=0.2)
    upper = at["l2-endplate-upper"]
    assert upper[2] == pytest.approx(TOP_MM + TILT * (upper[1] - BODY_Y), abs=0.2)
    assert np.linalg.norm(at["l2-body-centre"][:2] - [0.0, BODY_Y]) <= 1.5
    for side, sign in (("left", 1.0), ("right", -1.0)):
        assert np.linalg.norm(at[f"l2-pedicle-{side}"] - PEDICLE * [sign, 1.0, 1.0]) <= 1.6  # two sections
    plate = reference(found.references, "l2-endplate-upper")
    normal = np.array([0.0, -TILT, 1.0])
    assert angle_deg(pose[:3, :3].T @ np.array(plate.direction), normal) <= 0.5
    canal = reference(found.references, "l2-canal")
    assert angle_deg(pose[:3, :3].T @ np.array(canal.direction), np.array([0.0, 0.0, 1.0])) <= 4.0
    assert all(0.0 < m.spread_mm < 2.0 for m in found.landmarks)


@pytest.mark.parametrize("angles", POSES)
def test_the_frame_of_a_vertebra_is_that_of_the_society_of_biomechanics(bone: Mesh, angles: tuple[float, float, float]) -> None:
    found = found_vertebra(bone.moved(motion(*angles)))
    at = points(found.landmarks)
    frame = found.frame
    assert np.linalg.det(frame[:3, :3]) == pytest.approx(1.0)
    up = at["l2-endplate-upper"] - at["l2-endplate-lower"]
    assert angle_deg(frame[:3, 2], up) <= 1e-3
    across = at["l2-pedicle-left"] - at["l2-pedicle-right"]
    assert angle_deg(frame[:3, 0], across) <= 1.0  # x: from half to half, as the line between the pedicles
    assert np.allclose(frame[:3, 3], at["l2-body-centre"])
    assert angle_deg(motion(*angles)[:3, :3].T @ frame[:3, 0], np.array([1.0, 0.0, 0.0])) <= 0.2
    assert angle_deg(motion(*angles)[:3, :3].T @ frame[:3, 1], np.array([0.0, 1.0, 0.0])) <= 4.0  # to the patient's back


@pytest.mark.parametrize("angles", POSES[1:])
def test_the_frame_of_a_vertebra_moves_with_it_to_a_twentieth_of_a_millimetre(
    bone: Mesh, angles: tuple[float, float, float]
) -> None:
    pose = motion(*angles)
    still, moved = found_vertebra(bone).frame, np.linalg.inv(pose) @ found_vertebra(bone.moved(pose)).frame
    assert np.linalg.norm(still[:3, 3] - moved[:3, 3]) <= 0.05
    assert all(angle_deg(still[:3, k], moved[:3, k]) <= 0.05 for k in range(3))


def test_half_a_vertebra_has_no_landmarks(bone: Mesh) -> None:
    low = (-48.0, -46.0, -24.0)
    x, y, z = grid(low, (44.0, 44.0, 24.0), 0.8)
    body = np.minimum.reduce([(1.0 - np.hypot(x / 22.0, (y - BODY_Y) / 15.5)) * 15.5, TOP_MM - z, z - BOTTOM_MM])
    alone = mesh_of(body, np.array(low), 0.8)
    assert vertebra(alone, sigma(alone), "l2") is None


# --- long bones --------------------------------------------------------------------------------------------------------------

HEAD, HEAD_R, KNEE_HALF = np.array([-38.0, 4.0, 150.0]), 23.0, 40.0


def femur_mesh(*, whole: bool = True) -> Mesh:
    """A left femur: shaft on the z axis, a ball on a neck towards the midline, two condyles; 2 mm voxels."""
    step = 2.0
    low = (-70.0, -40.0, -190.0 if whole else 60.0)
    x, y, z = grid(low, (60.0, 46.0, 184.0), step)

    def rod(a: FloatArray, b: FloatArray, radius: float) -> FloatArray:
        way = b - a
        share = np.clip(((x - a[0]) * way[0] + (y - a[1]) * way[1] + (z - a[2]) * way[2]) / (way @ way), 0.0, 1.0)
        return radius - np.sqrt(
            (x - a[0] - share * way[0]) ** 2 + (y - a[1] - share * way[1]) ** 2 + (z - a[2] - share * way[2]) ** 2
        )

    head = HEAD_R - np.sqrt((x - HEAD[0]) ** 2 + (y - HEAD[1]) ** 2 + (z - HEAD[2]) ** 2)
    parts = [
        head,
        rod(np.array([0.0, 0.0, 118.0]), HEAD, 12.0),
        rod(np.array([0.0, 0.0, -150.0]), np.array([0.0, 0.0, 130.0]), 14.0),
    ]
    parts.append(rod(np.array([0.0, 0.0, 110.0]), np.array([12.0, 0.0, 142.0]), 13.0))  # greater trochanter
    parts += [rod(np.array([s * 22.0, -4.0, -158.0]), np.array([s * 22.0, 14.0, -158.0]), 18.0) for s in (-1.0, 1.0)]
    return mesh_of(np.maximum.reduce(parts), np.array(low), step)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (15.0, -10.0, 30.0)])
def test_the_head_of_a_femur_is_found_whole_or_not(angles: tuple[float, float, float]) -> None:
    pose = motion(*angles)
    for whole in (True, False):
        mesh = femur_mesh(whole=whole).moved(pose)
        found = femur(mesh, sigma(mesh), "femur-left", "left", complete=whole)
        assert found is not None
        at = points(found.landmarks)
        truth = moved_points(pose, HEAD[None])[0]
        assert np.linalg.norm(at["femur-left-head-centre"] - truth) <= 0.3  # a seventh of a voxel
        assert found.partial == ("" if whole else "lower end")
        assert found.frame[0, 0] > 0.0
        assert ("femur-left-knee-centre" in at) == whole
    knee = moved_points(pose, np.array([[0.0, 5.0, -158.0]]))[0]
    mesh = femur_mesh().moved(pose)
    found = femur(mesh, sigma(mesh), "femur-left", "left", complete=True)
    assert found is not None
    at = points(found.landmarks)
    assert (
        np.linalg.norm(at["femur-left-knee-centre"] - knee) <= 6.0
    )  # the condyles are round: the outermost point wanders on them
    assert angle_deg(found.frame[:3, 2], at["femur-left-head-centre"] - at["femur-left-knee-centre"]) <= 1e-3
    shaft = reference(found.references, "femur-left-shaft")
    assert angle_deg(np.array(shaft.direction), pose[:3, 2]) <= 0.3
    assert at["femur-left-epicondyle-lateral"][0] > at["femur-left-epicondyle-medial"][0]


@pytest.fixture(scope="module")
def tibiae(test_data: Path) -> dict[Side, Mesh]:
    import trimesh

    found: dict[Side, Mesh] = {}
    for side, word in (("left", "Left"), ("right", "Right")):
        stl = trimesh.load(test_data / "bones" / f"VHF_{word}_Bone_Tibia_smooth.stl")
        # the files have x to the right and y to the front
        found[side] = Mesh(stl.vertices * np.array([-1.0, -1.0, 1.0]), np.asarray(stl.faces, dtype=np.int32))  # type: ignore[index]
    return found


@pytest.mark.data
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_real_tibias_landmarks_lie_on_it_and_move_with_it(tibiae: dict[Side, Mesh], side: Side) -> None:
    mesh = tibiae[side]
    title = f"tibia-{side}"
    still = tibia(mesh, sigma(mesh), title, side, complete=True)
    assert still is not None
    at = points(still.landmarks)
    lateral = 1.0 if side == "left" else -1.0
    assert lateral * (at[f"{title}-plateau-lateral"] - at[f"{title}-plateau-medial"])[0] > 35.0
    assert lateral * (at[f"{title}-malleolus-medial"] - at[f"{title}-ankle-centre"])[0] < -8.0
    assert 310.0 <= np.linalg.norm(at[f"{title}-knee-centre"] - at[f"{title}-ankle-centre"]) <= 330.0
    slope = reference(still.references, f"{title}-plateau")
    backwards = np.degrees(np.arcsin(np.array(slope.direction) @ still.frame[:3, 1]))
    assert 2.0 <= backwards <= 14.0  # the plateau of an adult slopes to the back by 4 to 10 degrees
    pose = motion(12.0, -9.0, 25.0)
    moved = mesh.moved(pose)
    other = tibia(moved, sigma(mesh), title, side, complete=True)
    assert other is not None
    for name, point in points(other.landmarks).items():
        assert np.linalg.norm(point - moved_points(pose, at[name][None])[0]) <= 1.0, name
    assert angle_deg(other.frame[:3, 2], pose[:3, :3] @ still.frame[:3, 2]) <= 0.2
    assert angle_deg(other.frame[:3, 0], pose[:3, :3] @ still.frame[:3, 0]) <= 2.0


@pytest.mark.data
def test_left_and_right_tibia_are_each_others_mirror_image_in_their_landmarks(tibiae: dict[Side, Mesh]) -> None:
    lengths = {}
    for side, mesh in tibiae.items():
        found = tibia(mesh, sigma(mesh), "t", side, complete=True)
        assert found is not None
        local = moved_points(np.linalg.inv(found.frame), np.array([m.point_mm for m in found.landmarks]))
        lengths[side] = local * ([1.0, 1.0, 1.0] if side == "left" else [-1.0, 1.0, 1.0])
    assert np.abs(lengths["left"] - lengths["right"]).max() <= 9.0  # two bones of one person, not one bone


# --- a skull -----------------------------------------------------------------------------------------------------------------


ORBIT_LOW_MM = -45.5  # where the lower edge of an orbit meets the face


@pytest.fixture(scope="module")
def head() -> Mesh:
    """A closed half egg with two orbits and two ear canals; the left side lacks a piece. LPS about the middle of the vault."""
    step = 1.25
    low = (-80.0, -105.0, -72.0)
    x, y, z = grid(low, (80.0, 100.0, 80.0), step)
    side = np.abs(x)
    rho = np.sqrt((x / 70.0) ** 2 + (y / 92.0) ** 2 + (z / 74.0) ** 2)
    outer = (1.0 - rho) * 70.0
    depth = np.minimum(outer, np.maximum(7.0 - outer, -z - 30.0 + 0.0 * x))  # solid below z = -30 mm
    orbit = 17.0 - np.sqrt((side - 30.0) ** 2 + ((y + 75.0) / 1.6) ** 2 + (z + 33.0) ** 2)
    ear = 4.0 - np.hypot(y - 5.0, z + 38.0) - np.where(side < 40.0, 20.0, 0.0)
    hole = np.where((x > 0) & (z > 10.0), 30.0 - np.hypot(y - 5.0, z - 35.0), -50.0)
    return mesh_of(np.minimum.reduce([depth, -orbit, -ear, -hole]), np.array(low), step)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (6.0, -5.0, 8.0)])
def test_the_planes_of_a_skull_are_found_in_spite_of_a_defect(head: Mesh, angles: tuple[float, float, float]) -> None:
    pose = motion(*angles)
    mesh = head.moved(pose)
    found = planes(mesh, sigma(mesh), skull_frame(mesh))
    assert found.missing == ()
    sagittal = reference(found.references, "mid-sagittal")
    assert angle_deg(np.array(sagittal.direction), pose[:3, 0]) <= max(0.5, 3.0 * sagittal.spread_deg)
    assert abs((np.array(sagittal.origin_mm) - pose[:3, 3]) @ pose[:3, 0]) <= 0.5
    back = np.linalg.inv(pose)
    at = {name: moved_points(back, point[None])[0] for name, point in points(found.landmarks).items()}
    for sign, name in ((1.0, "left"), (-1.0, "right")):
        assert sign * at[f"porion-{name}"][0] > 40.0
        assert np.hypot(at[f"porion-{name}"][1] - 5.0, at[f"porion-{name}"][2] + 34.0) <= 3.0  # two cells and a voxel
        assert sign * at[f"orbitale-{name}"][0] == pytest.approx(30.0, abs=8.0)
        assert at[f"orbitale-{name}"][2] == pytest.approx(ORBIT_LOW_MM, abs=3.0)
    assert len(found.references) == 2


def test_a_skull_without_orbits_has_no_frankfurt_plane(head: Mesh) -> None:
    x, y, z = grid((-80.0, -105.0, -8.0), (80.0, 100.0, 80.0), 2.0)
    rho = np.sqrt((x / 70.0) ** 2 + (y / 92.0) ** 2 + (z / 74.0) ** 2)
    outer = (1.0 - rho) * 70.0
    vault = mesh_of(np.minimum(outer, 7.0 - outer), np.array([-80.0, -105.0, -8.0]), 2.0)
    found = planes(vault, sigma(vault), skull_frame(vault))
    assert found.landmarks == ()
    assert [one.name for one in found.references] == ["mid-sagittal"]
    assert len(found.missing) == 4
    point, normal, off_mm, off_deg = mid_sagittal(vault, skull_frame(vault))
    assert abs(point @ normal) <= 0.2
    assert off_mm < 1.0
    assert off_deg < 1.0
