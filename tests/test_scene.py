"""What a screen is told of a case: places and frames, what is reduced and what is not, and answers that hold."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import manifold3d
import nibabel
import numpy as np
import pytest
import viewer_case as truth
import viewer_site
from PIL import Image

from batchone.pipeline import codec
from batchone.pipeline.errors import InputError
from batchone.pipeline.labels import Side, bone_names
from batchone.pipeline.revisions import keep_revision
from batchone.pipeline.serve.pages.scene_routes import ROUTES, scene_router
from batchone.pipeline.serve.scene.content import Box, Content
from batchone.pipeline.serve.scene.describe import scene_description, scene_digest
from batchone.pipeline.serve.scene.deviation import deviation_mm
from batchone.pipeline.serve.scene.kept import Kept
from batchone.pipeline.serve.scene.layers import wall_mm
from batchone.pipeline.serve.scene.pictures import picture_bytes, seat_parts
from batchone.pipeline.serve.scene.reduce import CELL_MM, MOST_FACES, NEAR_MM, reduced
from batchone.pipeline.serve.scene.sections import section_bytes
from batchone.pipeline.serve.scene.surfaces import surface_bytes
from batchone.pipeline.serve.scene.volume import MARGIN_MM, MOST_VOXELS, sampled, shown_grid, volume_bytes
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import CheckedDevice, Device, FloatArray, Mesh, Scan, moved_points

RAS = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CaseFolder:
    return truth.write_case(tmp_path_factory.mktemp("site"))


def read_mz3(data: bytes) -> tuple[FloatArray, np.ndarray, FloatArray | None]:
    """(n, 3) LPS places, (m, 3) faces, (n,) values: by the format's own description, apart from our writer."""
    magic, attributes = np.frombuffer(data, "<u2", 2)
    faces, vertices, skip = (int(n) for n in np.frombuffer(data, "<u4", 3, 4))
    assert (bytes(data[:2]), skip) == (b"MZ", 0)
    assert attributes in (3, 11)
    triangles = np.frombuffer(data, "<i4", 3 * faces, 16).reshape(-1, 3)
    places = np.frombuffer(data, "<f4", 3 * vertices, 16 + 12 * faces).reshape(-1, 3)
    start = 16 + 12 * (faces + vertices)
    values = np.frombuffer(data, "<f4", vertices, start) if attributes & 8 else None
    assert len(data) == start + (0 if values is None else 4 * vertices)
    assert magic == 0x5A4D
    return places * RAS, triangles, values


class TestScene:
    def test_it_names_every_surface_with_its_kind_and_look(self, case: CaseFolder) -> None:
        scene = scene_description(case, findings=True)
        kinds = {one["name"]: one["kind"] for one in scene["surfaces"]}
        assert kinds == {
            "part-letter": "device", "part-plate": "device", "bone-tibia-left": "bone",
            "gap-letter": "contact gap", "gap-plate": "contact gap", "wall-letter": "wall thickness",
            "wall-plate": "wall thickness",
            "uncertainty-tibia-left": "uncertainty",
        }  # fmt: skip
        assert [one["name"] for one in scene["surfaces"] if one["visible"]] == ["part-letter", "part-plate", "bone-tibia-left"]
        assert {one["values"]["unit"] for one in scene["surfaces"] if one["values"]} == {"mm"}
        assert {one["base"] for one in scene["surfaces"] if one["values"]} == {"part-letter", "part-plate", "bone-tibia-left"}
        json.dumps(scene, allow_nan=False)

    def test_places_are_lps_as_the_stages_have_them(self, case: CaseFolder) -> None:
        scene = scene_description(case, findings=True)
        assert scene["frame"] == "LPS"
        assert [tuple(one["point"]) for one in scene["landmarks"]] == list(truth.MARKS)
        assert [one["points"] for one in scene["findings"]] == [[list(truth.FINDING)], []]
        assert [one["status"] for one in scene["findings"]] == ["fail", "pass"]
        (way,) = scene["trajectories"]
        assert (way["entry"], way["target"]) == ([-18.0, -10.0, -12.0], [-18.0, 10.0, -12.0])
        assert way["diameter_mm"] == pytest.approx(truth.BORE_MM, abs=1e-6)
        (section,) = scene["sections"]
        assert section["name"] == "bore-1"
        assert np.dot(section["axis"], section["across"]) == pytest.approx(0.0, abs=1e-12)
        low = np.array([-26.0, -16.0, -20.0])  # plate and letter together
        high = np.array([7.0, -10.5, 10.0])
        assert scene["box"]["centre"] == pytest.approx(((low + high) / 2).tolist())
        assert scene["box"]["size"] == pytest.approx((high - low).tolist())

    def test_a_case_that_has_come_to_its_scan_shows_the_scan(self, case: CaseFolder, tmp_path: Path) -> None:
        early = CaseFolder(tmp_path / truth.CASE)
        (early.path / "intake").symlink_to(case.path / "intake")
        scene = scene_description(early, findings=True)
        assert (scene["surfaces"], scene["findings"], scene["box"]) == ([], [], None)
        assert len(volume_bytes(early)) > 10_000
        with pytest.raises(InputError, match="no scan yet"):
            scene_description(CaseFolder(tmp_path / "empty"), findings=True)

    def test_the_digest_differs_when_a_stage_does(self, case: CaseFolder, tmp_path: Path) -> None:
        assert scene_digest(case) == scene_digest(truth.write_case(tmp_path / "same"))
        assert scene_digest(case) != scene_digest(truth.write_case(tmp_path / "other", findings=2))

    def test_structures_not_to_be_touched_are_drawn_where_the_order_has_them(self, tmp_path: Path) -> None:
        case = truth.write_case(tmp_path)
        (case.path / "order.toml").write_text(
            '[[plan.no_go]]\nname = "nerve"\npoints_mm = [[5.0, -20.0, 3.0], [5.0, 10.0, 3.0]]\nradius_mm = 1.5\n'
        )
        assert (
            next(one for one in scene_description(case, findings=True)["surfaces"] if one["kind"] == "no-go")["name"]
            == "no-go-nerve"
        )
        places, faces, _ = read_mz3(surface_bytes(case, "no-go-nerve"))
        along = np.clip(places[:, 1], -20.0, 10.0)
        away = np.linalg.norm(places - np.stack([np.full(len(along), 5.0), along, np.full(len(along), 3.0)], axis=1), axis=1)
        assert away.max() == pytest.approx(1.5, abs=1e-5)
        corners = places[faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        radial = (corners.mean(axis=1) - np.array([5.0, 0.0, 3.0])) * np.array([1.0, 0.0, 1.0])
        assert (np.einsum("ij,ij->i", across, radial) >= -1e-4).all()  # mm3: nothing is turned inside out


class TestVolume:
    def voxels(self, data: bytes) -> tuple[FloatArray, FloatArray]:
        """Voxels by (x, y, z) index, and the LPS place of each."""
        import gzip

        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
        assert image.header.get_data_dtype() == np.int16
        values = np.asarray(image.dataobj)
        index = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"), axis=3).reshape(-1, 3)
        return values.ravel().astype(np.float64), (nibabel.affines.apply_affine(image.affine, index) * RAS)

    @pytest.mark.parametrize("full", [False, True])
    def test_what_is_bright_lies_where_it_was_put(self, case: CaseFolder, full: bool) -> None:
        values, places = self.voxels(volume_bytes(case, full))
        for mark in truth.MARKS if full else truth.MARKS[:1]:  # the others lie outside the region of the device
            about = (np.linalg.norm(places - np.array(mark), axis=1) < 6.0) & (values > truth.BONE_HU + 300)
            middle = (places[about] * values[about, None]).sum(axis=0) / values[about].sum()
            assert middle == pytest.approx(mark, abs=0.35)  # mm: half a voxel
        letter = truth.LETTER_AT + np.array([1.5, 2.0, -1.5])
        assert values[np.argmin(np.linalg.norm(places - letter, axis=1))] == truth.MARK_HU

    def test_the_axes_are_those_of_the_patient_though_the_scan_is_oblique(self, case: CaseFolder) -> None:
        grid = shown_grid(truth.scan(), None)
        assert np.count_nonzero(grid.affine[:3, :3]) == 3
        assert scene_description(case, findings=True)["volume"]["resampled"] is True

    def test_a_straight_scan_is_not_touched_where_it_is_not_reduced(self) -> None:
        straight = self.straight((60, 70, 80))
        grid = shown_grid(straight, Box(np.array([0.0, 0.0, 0.0]), np.array([4.0, 4.0, 4.0])))
        x, y, z = grid.first
        nx, ny, nz = grid.count
        assert grid.step == (1, 1, 1)
        assert np.array_equal(sampled(straight, grid), straight.hu[z : z + nz, y : y + ny, x : x + nx])
        low, high = (
            moved_points(grid.affine, np.array([at], dtype=np.float64))[0] for at in ((0, 0, 0), (nx - 1, ny - 1, nz - 1))
        )
        assert (np.minimum(low, high) <= 0.5 - min(MARGIN_MM, 20.0)).all()  # the scan begins at -20 mm

    @pytest.mark.parametrize(("slices", "step"), [(MOST_VOXELS // 40_000, (1, 1, 1)), (MOST_VOXELS // 40_000 + 1, (2, 1, 1))])
    def test_just_as_many_voxels_as_allowed_are_sent_whole(self, slices: int, step: tuple[int, int, int]) -> None:
        grid = shown_grid(self.straight((slices, 200, 200)), None)
        assert grid.step == step
        assert np.prod(grid.count) <= MOST_VOXELS

    def test_a_reduced_voxel_is_the_mean_of_those_it_joins_and_lies_in_their_middle(self) -> None:
        straight = self.straight((101, 200, 200))
        grid = shown_grid(straight, None)
        found = sampled(straight, grid)
        assert found[5, 6, 7] == np.rint(straight.hu[5, 6, 14:16].mean())
        here = moved_points(grid.affine, np.array([[7.0, 6.0, 5.0]]))
        assert here[0] == pytest.approx(moved_points(straight.affine, np.array([[14.5, 6.0, 5.0]]))[0])

    def straight(self, shape: tuple[int, int, int]) -> Scan:
        made = truth.scan()
        hu = np.random.default_rng(3).integers(-1000, 1500, shape, dtype=np.int16)
        affine = np.diag([-0.5, 0.6, 0.7, 1.0]) @ np.eye(4)  # columns run to the right, as some scanners have it
        affine[:3, 2] *= -1.0
        affine[:3, 3] = [20.0, -20.0, 20.0]
        return Scan(hu, affine, made.record)


class TestSurfaces:
    def test_the_triangles_of_the_device_are_sent_as_they_are(self, case: CaseFolder) -> None:
        places, faces, values = read_mz3(surface_bytes(case, "part-letter"))
        mesh = truth.parts()[0].mesh
        assert np.array_equal(places, mesh.vertices_mm.astype(np.float32))
        assert np.array_equal(faces, mesh.faces)
        assert values is None
        corners = places[faces]
        volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0
        assert volume == pytest.approx(
            18 * 3.0 * 3.0 * truth.LETTER_DEEP_MM, rel=1e-5
        )  # positive: not mirrored, not turned inside out

    def test_the_gap_is_that_to_the_bone_and_unknown_beyond_its_scale(self, case: CaseFolder) -> None:
        places, _, values = read_mz3(surface_bytes(case, "gap-plate"))
        assert values is not None
        at_bone = np.isclose(places[:, 1], -10.0 - truth.GAP_MM)
        assert values[at_bone] == pytest.approx(truth.GAP_MM, abs=1e-5)
        assert np.isnan(values[~at_bone]).all()  # 2.5 mm away, the scale ends at 2

    def test_walls_are_as_thick_as_the_plate(self, case: CaseFolder) -> None:
        _, _, letter = read_mz3(surface_bytes(case, "wall-letter"))
        _, _, plate = read_mz3(surface_bytes(case, "wall-plate"))
        assert letter is not None
        assert plate is not None
        assert np.nanmin(letter) == pytest.approx(truth.CELL_MM, abs=0.01)  # across a stroke
        assert plate[:8] == pytest.approx(truth.PLATE_MM, abs=0.01)  # behind each of its corners

    def test_uncertainty_is_the_bones_own(self, case: CaseFolder) -> None:
        _, _, values = read_mz3(surface_bytes(case, "uncertainty-tibia-left"))
        assert values == pytest.approx(np.linspace(0.0, 0.35, 8), abs=1e-6)

    def test_of_a_part_that_touches_bone_there_is_a_map_of_wrong_poses(self, case: CaseFolder) -> None:
        drawn = np.asarray(Image.open(BytesIO(picture_bytes(case, "seat-plate"))).convert("RGB"))
        assert drawn.shape == (700, 900, 3)
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10  # contact, starts, words
        assert seat_parts(case, "check") == {"plate"}
        assert seat_parts(case, "preview") == seat_parts(case, "design") == frozenset()

    def test_every_surface_gives_the_same_bytes_again(self, case: CaseFolder) -> None:
        for one in scene_description(case, findings=True)["surfaces"]:
            assert surface_bytes(case, one["name"]) == surface_bytes(case, one["name"])
        assert volume_bytes(case) == volume_bytes(case)
        assert section_bytes(case, "bore-1", across=True) == section_bytes(case, "bore-1", across=True)
        assert picture_bytes(case, "finding-walls") == picture_bytes(case, "finding-walls")

    @pytest.mark.parametrize("name", ["", "part-", "bone-../../x", "part-letter\x00", "no-go-x", "x" * 5000])
    def test_what_there_is_not_is_refused_by_name(self, case: CaseFolder, name: str) -> None:
        with pytest.raises(InputError, match="no surface"):
            surface_bytes(case, name)
        with pytest.raises(InputError, match="no section"):
            section_bytes(case, name)


class TestReduced:
    def sphere(self, count: int, radius_mm: float) -> Mesh:
        """A grid of longitudes and latitudes, closed at the poles."""
        up, turn = np.meshgrid(
            np.linspace(-np.pi / 2, np.pi / 2, count), np.linspace(0, 2 * np.pi, 2 * count, endpoint=False), indexing="ij"
        )
        points = radius_mm * np.stack([np.cos(up) * np.cos(turn), np.cos(up) * np.sin(turn), np.sin(up)], axis=2).reshape(-1, 3)
        row, column = np.meshgrid(np.arange(count - 1) * 2 * count, np.arange(2 * count), indexing="ij")
        a, b = (row + column).ravel(), (row + (column + 1) % (2 * count)).ravel()
        quads = np.stack([a, b, b + 2 * count, a, b + 2 * count, a + 2 * count], axis=1).reshape(-1, 3)
        return Mesh(points, quads.astype(np.int32))

    def test_a_small_surface_is_sent_as_it_is(self) -> None:
        small = self.sphere(100, 60.0)
        assert len(small.faces) <= MOST_FACES
        assert reduced(small, np.empty((0, 3)))[0] is small

    def test_near_the_device_nothing_moves_and_elsewhere_no_further_than_a_cell(self) -> None:
        large = self.sphere(220, 60.0)
        device = np.array([[60.0, 0.0, 0.0]])
        less, values = reduced(large, device, large.vertices_mm[:, 2])
        assert len(less.faces) < 0.6 * len(large.faces)
        near = np.linalg.norm(large.vertices_mm - device, axis=1) < NEAR_MM
        kept = {tuple(place) for place in less.vertices_mm.tolist()}
        assert near.sum() > 100
        assert all(tuple(place) in kept for place in large.vertices_mm[near].tolist())
        off = 60.0 - np.linalg.norm(less.vertices_mm, axis=1)
        assert (off > -1e-9).all()
        assert off.max() < CELL_MM**2 / 60.0  # mm: the mean of a cell lies inside by its sagitta
        assert values == pytest.approx(less.vertices_mm[:, 2])

    def test_the_two_sides_of_a_thin_wall_are_not_joined(self) -> None:
        outer, inner = self.sphere(200, 60.0), self.sphere(200, 59.2)
        faces = np.concatenate([outer.faces, inner.faces[:, ::-1] + len(outer.vertices_mm)]).astype(np.int32)
        less, _ = reduced(Mesh(np.concatenate([outer.vertices_mm, inner.vertices_mm]), faces), np.empty((0, 3)))
        radius = np.linalg.norm(less.vertices_mm, axis=1)
        between = (radius > 59.35) & (radius < 59.85)
        assert between.mean() < 0.02

    def test_an_unknown_value_does_not_spread(self) -> None:
        large = self.sphere(220, 60.0)
        values = np.where(large.vertices_mm[:, 2] > 0.0, np.nan, 1.0)
        less, found = reduced(large, np.empty((0, 3)), values)
        assert found is not None
        assert np.isnan(found[less.vertices_mm[:, 2] > CELL_MM]).all()
        assert (found[less.vertices_mm[:, 2] < -CELL_MM] == 1.0).all()


@pytest.fixture(scope="module")
def client(case: CaseFolder) -> Iterator[httpx.Client]:
    with viewer_site.viewer_site(case.path.parent) as url, httpx.Client(base_url=url, timeout=60.0) as client:
        yield client


class TestRoutes:
    PATHS = ("scene", "volume", "surface/part-plate", "section/bore-1", "picture/finding-walls")

    @pytest.mark.parametrize("path", PATHS)
    def test_what_a_browser_has_already_is_not_sent_again(self, client: httpx.Client, path: str) -> None:
        first = client.get(f"/review/{truth.CASE}/{path}")
        assert first.status_code == 200
        again = client.get(f"/review/{truth.CASE}/{path}", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(f"/review/{truth.CASE}/{path}", headers={"If-None-Match": '"other"'}).status_code == 200

    def test_what_was_made_once_is_not_made_again_until_the_case_is_another(self, tmp_path: Path, monkeypatch: Any) -> None:
        case, made = truth.write_case(tmp_path), []

        def counted(opened: CaseFolder, name: str, full: bool = False) -> bytes:
            made.append(name)
            return surface_bytes(opened, name, full)

        monkeypatch.setattr("batchone.pipeline.serve.scene.surfaces.surface_bytes", counted)
        with viewer_site.viewer_site(tmp_path) as url, httpx.Client(base_url=url, timeout=60.0) as client:
            place = f"/review/{truth.CASE}/surface"
            first, again = (client.get(f"{place}/part-plate") for _ in range(2))
            assert (first.content, len(made)) == (again.content, 1)
            assert client.get(f"{place}/part-letter").content != first.content
            assert client.get(f"{place}/part-plate?full=1").status_code == 200
            assert made == ["part-plate", "part-letter", "part-plate"]
            truth.write_case(tmp_path, findings=2)
            assert client.get(f"{place}/part-plate").content == first.content
            assert len(made) == 4
            volume = client.get(f"/review/{truth.CASE}/volume")
            for path in (case.path / "intake").glob("*.npy"):  # as retention does; the record stays
                path.unlink()
            again = client.get(f"/review/{truth.CASE}/volume", headers={"If-None-Match": volume.headers["etag"]})
            assert (volume.status_code, again.status_code) == (200, 404)
            shutil.rmtree(case.path / "check")
            shutil.rmtree(case.path / "plan")
            assert client.get(f"{place}/part-plate").status_code == 404  # what is gone is not served from memory

    def test_a_picture_of_another_device_than_is_there_is_not_given(self, tmp_path: Path) -> None:
        case = truth.write_case(tmp_path)
        with viewer_site.viewer_site(tmp_path) as url, httpx.Client(base_url=url, timeout=60.0) as client:
            place = f"/review/{truth.CASE}"
            asked = [f"{place}/{one['urls'][1]}" for one in client.get(f"{place}/scene").json()["sections"]]
            asked.append(f"{place}/picture/finding-walls?of={Content(case).device_digest}")
            assert [client.get(one).status_code for one in asked] == [200] * len(asked)
            wrong = [re.sub("of=[0-9a-f]{64}", f"of={'0' * 64}", one) for one in asked]
            assert [client.get(one).status_code for one in wrong] == [404] * len(asked)
            truth.write_case(tmp_path, findings=2)
            assert client.get(asked[-1]).status_code == 404
            assert client.get(asked[-1].partition("?")[0]).status_code == 200

    def test_what_was_asked_for_longest_ago_makes_room(self) -> None:
        kept = Kept(most_bytes=10)
        kept.put("a", b"1234")
        kept.put("b", b"5678")
        assert kept.get("a") == b"1234"
        kept.put("c", b"9" * 5)
        assert [kept.get(key) for key in "abc"] == [b"1234", None, b"9" * 5]
        kept.put("d", b"x" * 11)
        assert [kept.get(key) for key in "abcd"] == [b"1234", None, b"9" * 5, None]  # too large itself: it takes no other's room
        kept.put("e", b"1" * 10)
        kept.put("e", b"2" * 10)
        assert kept.get("e") == b"2" * 10

    def test_whole_and_reduced_have_tags_of_their_own(self, client: httpx.Client) -> None:
        tags = {client.get(f"/review/{truth.CASE}/volume{more}").headers["etag"] for more in ("", "?full=1")}
        assert len(tags) == 2

    @pytest.mark.parametrize("path", PATHS)
    def test_who_may_not_see_the_case_gets_nothing(self, client: httpx.Client, path: str) -> None:
        assert client.get(f"/review/{truth.CASE}/{path}", headers={"X-Who": "stranger"}).status_code == 404
        assert client.get(f"/review/other/{path}").status_code == 404

    @pytest.mark.parametrize(
        "path",
        [
            "surface/other",
            "section/other",
            "picture/finding-mesh",
            "picture/seat-letter",
            "surface/..%2f..%2fcheck",
            "surface/%00",
            "section/" + "x" * 201,
        ],
    )
    def test_what_there_is_not_is_not_found(self, client: httpx.Client, path: str) -> None:
        assert client.get(f"/review/{truth.CASE}/{path}").status_code in (404, 422)

    def test_every_route_is_told(self, case: CaseFolder) -> None:
        served = {getattr(route, "path", "") for route in scene_router(lambda request, asked: case, lambda request: True).routes}
        assert served == {f"/review/{{case}}/{route}" for route in ROUTES}


def test_bones_of_one_name_are_told_apart() -> None:
    bones: list[tuple[str, Side]] = [("rib", "left"), ("rib", "right"), ("rib", "left"), ("skull", "midline")]
    assert bone_names(bones) == ("rib-left-no1", "rib-right", "rib-left-no2", "skull")


def test_the_bore_that_a_section_follows_is_the_planned_one(case: CaseFolder) -> None:
    (section,) = scene_description(case, findings=True)["sections"]
    assert section["point"] == list(truth.BORE.origin_mm)
    assert section["axis"] == list(truth.BORE.direction)
    assert section_bytes(case, "bore-1").startswith(b"\x89PNG")
    assert section_bytes(case, "bore-1") != section_bytes(case, "bore-1", across=True)


class TestDeviation:
    def ball(self, radius_mm: float) -> Mesh:
        """Triangles of one size, welded: corners, edges and faces all meet the nearest points of another ball."""
        made = manifold3d.Manifold.sphere(radius_mm, 96).to_mesh64()
        return Mesh(np.array(made.vert_properties[:, :3]), np.array(made.tri_verts, dtype=np.int32))

    def sagitta_mm(self, ball: Mesh) -> float:
        """How far the planes of its triangles lie inside of a ball about the origin at most."""
        corners = ball.vertices_mm[ball.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        inside = np.einsum("ij,ij->i", corners[:, 0], normal) / np.linalg.norm(normal, axis=1)
        return float(np.linalg.norm(ball.vertices_mm, axis=1).max() - inside.min())

    @pytest.mark.parametrize("turn_deg", [0.0, 37.0])
    def test_a_shift_of_half_a_millimetre_shows_half_a_millimetre(self, turn_deg: float) -> None:
        before, along = self.ball(10.0), np.array([np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg)), 0.0])
        after = Mesh(before.vertices_mm + 0.5 * along, before.faces)
        found = deviation_mm(after, before)
        assert found == pytest.approx(np.linalg.norm(after.vertices_mm, axis=1) - 10.0, abs=self.sagitta_mm(before))
        ahead, behind = after.vertices_mm @ along - 0.5 > 9.9, after.vertices_mm @ along - 0.5 < -9.9
        assert found[ahead] == pytest.approx(0.5, abs=0.02)
        assert found[behind] == pytest.approx(-0.5, abs=0.02)

    def test_it_is_none_where_nothing_moved_and_unknown_beyond_its_scale(self) -> None:
        ball = self.ball(10.0)
        assert np.abs(deviation_mm(ball, ball)).max() < 1e-9
        assert deviation_mm(self.ball(11.98), ball) == pytest.approx(1.98, abs=self.sagitta_mm(ball))
        assert np.isnan(deviation_mm(self.ball(12.02), ball)).all()

    def test_corners_and_sharp_edges_have_a_side_of_their_own(self) -> None:
        spike = Mesh(
            np.array([[0.0, 0.0, 0.0], [1.0, 0.2, 0.0], [1.0, -0.2, 0.0], [1.0, 0.0, 8.0]]),
            np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]], dtype=np.int32),
        )
        spike = Mesh(spike.vertices_mm, spike.faces[:, ::-1].copy()) if _volume_mm3(spike) < 0.0 else spike
        asked = np.array(
            [[1.0, 0.0, 8.5], [1.3, 0.1, 8.4], [0.2, 0.0, 4.0], [0.52, 0.0, 4.0]]
        )  # beyond its tip, beside and in an edge
        found = deviation_mm(Mesh(asked, np.zeros((0, 3), dtype=np.int32)), spike)
        assert (np.sign(found) == [1.0, 1.0, 1.0, -1.0]).all()
        assert found[0] == pytest.approx(0.5, abs=1e-9)

    def test_a_case_shows_it_once_its_device_is_another(self, tmp_path: Path) -> None:
        case = truth.write_case(tmp_path)
        (case.path / "order.toml").write_text("")
        first = scene_digest(case)
        assert not [one for one in scene_description(case, findings=True)["surfaces"] if one["kind"] == "deviation"]
        moved = tuple(
            replace(part, mesh=Mesh(part.mesh.vertices_mm + np.array([0.0, 0.5, 0.0]), part.mesh.faces)) for part in truth.parts()
        )
        before = CheckedDevice(Device("pedicle-guide", moved[1:]), ())  # its letter is new

        def write(into: Path) -> dict[str, Any]:
            told = {"seconds": 1.0, "started": "2026-01-01T00:00:00+00:00", "findings": {"$tuple": []}}
            return {**told, "value_digest": codec.save(before, into)}

        case.publish("check", write)
        keep_revision(case, "an order")
        truth.write_case(tmp_path)
        assert scene_digest(case) != first
        (layer,) = [one for one in scene_description(case, findings=True)["surfaces"] if one["kind"] == "deviation"]
        assert (layer["name"], layer["base"], layer["visible"]) == ("deviation-plate", "part-plate", False)
        assert layer["title"] == "plate: change since revision 1"
        places, _, values = read_mz3(surface_bytes(case, layer["name"]))
        assert values is not None
        outer = np.isclose(
            places[:8, 1], -10.0 - truth.GAP_MM - truth.PLATE_MM
        )  # the old one stood half a millimetre further back
        assert values[:8][outer] == pytest.approx(0.5, abs=1e-5)
        kept = case.path / "revisions" / "0001"
        for path in kept.glob("*.npy"):
            path.unlink()
        with pytest.raises(InputError, match="revision 1 of the case cannot be read"):
            surface_bytes(case, layer["name"])
        assert surface_bytes(case, "part-plate")
        for text in ("{", '{"device": []}', "[" * 100_000):  # a bad old device costs its layer, and no more
            (kept / "value.json").unlink()
            (kept / "value.json").write_text(text)
            assert "deviation" not in {one["kind"] for one in scene_description(case, findings=True)["surfaces"]}


def _volume_mm3(mesh: Mesh) -> float:
    corners = mesh.vertices_mm[mesh.faces]
    return float(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0)


def test_every_vertex_of_a_very_finely_meshed_plate_shows_its_wall() -> None:
    import trimesh

    made = trimesh.creation.box((10.0, 10.0, 0.4))
    for _ in range(7):
        made = made.subdivide()
    plate = Mesh(np.asarray(made.vertices, dtype=np.float64), np.asarray(made.faces, dtype=np.int32))
    assert len(plate.faces) > 150_000  # of so many the check looks from some alone
    shown = wall_mm(plate)
    assert np.isfinite(shown).all()
    flat = (np.abs(plate.vertices_mm[:, 2]) == 0.2) & (np.abs(plate.vertices_mm[:, :2]).max(axis=1) < 4.0)
    np.testing.assert_allclose(shown[flat], 0.4, atol=1e-9)
