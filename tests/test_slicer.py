"""The slicer: profiles, orientation, plate, layers, the whole build, and its reading back."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path

import manifold3d
import numpy as np
import pytest

from batchone.pipeline.errors import CheckFailed, FilesError, MachineError, OrderError
from batchone.pipeline.process import Process
from batchone.pipeline.values import Approval, Build, CheckedDevice, Device, Finding, FunctionalFace, Mesh, Part, judge
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.contour_check import contour_findings, twice_findings
from batchone.slicer.cups import sealed_area, uncupped
from batchone.slicer.estimate import estimate
from batchone.slicer.exposure import expose
from batchone.slicer.layers import Layers, layer_count, refuse_dust, section_heights, sections, slice_parts
from batchone.slicer.make import slice_device
from batchone.slicer.orient import stances, stand
from batchone.slicer.plate import place, shelves
from batchone.slicer.profiles import load_machine, load_process, machine_names, process_names
from batchone.slicer.readback import read_back, volume_mm3
from batchone.slicer.supports.bodies import lift_mm
from batchone.slicer.threemf import Item, read_3mf, write_3mf

Solid = manifold3d.Manifold
APPROVAL = Approval("TEST^ALPHA", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "release", "ab" * 32, "")
MACHINE = load_machine("sim-01")
BOX_MM = (240.0, 240.0, 325.0)


def mesh_of(solid: Solid) -> Mesh:
    out = solid.to_mesh64()
    return Mesh(np.array(out.vert_properties[:, :3]), np.array(out.tri_verts).astype(np.int32))


def standing(solid: Solid) -> Mesh:
    mesh = mesh_of(solid)
    return Mesh(mesh.vertices_mm - [0.0, 0.0, mesh.vertices_mm[:, 2].min()], mesh.faces)


def part_of(solid: Solid, name: str = "part") -> Part:
    mesh = mesh_of(solid)
    return Part(name, mesh, np.zeros(len(mesh.faces), np.int16), ("all",))


def device_of(*parts: Part) -> CheckedDevice:
    return CheckedDevice(Device("anatomical-model", parts), ())


def bracket() -> Solid:
    """An angle with a boss and a hole: no symmetry."""
    boss = Solid.cylinder(9, 3, 3, 48).translate((30, 13, 0))
    return Solid.cube((40, 20, 5)) + Solid.cube((8, 20, 24)) + boss - Solid.cylinder(9, 2, 2, 48).translate((20, 6, -1))


def dimple(solid: Solid, count: int, seed: int) -> Solid:
    """Add and remove cubes and balls whose faces fall on the planes of 0.1 mm layers."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        at = tuple((rng.integers(0, 40, 3) * (1.0, 0.5, 0.25)).tolist())
        ball = Solid.sphere(float(rng.uniform(1, 4)), 24)
        tool = ball if index % 2 else Solid.cube(tuple((rng.integers(1, 120, 3) * 0.05).tolist()))
        solid = solid + tool.translate(at) if rng.random() < 0.5 else solid - tool.translate(at)
    return solid


# profiles


def test_the_shipped_profiles_load_and_every_number_has_a_source() -> None:
    assert {"ti64-lpbf", "pa12-sls", "guide-resin", "peek-fff", "pla-fff"} <= set(process_names())
    for name in process_names():
        process = load_process(name)
        assert process.name == name
        told = {"name", "title", "kind", "material", "conditions", "sources"} | {
            own for own in ("scan", "supports", "recoating") if getattr(process, own)
        }
        assert set(process.sources) == set(Process.model_fields) - told
        assert all(process.sources.values())
        if process.scan:
            tables = {"up_skin", "down_skin", "inner_contour"}
            assert set(process.scan.sources) == set(process.scan.model_dump(exclude_none=True)) - {"sources", *tables}
            assert all(process.scan.sources.values())
            for table in (process.scan.up_skin, process.scan.down_skin, process.scan.inner_contour):
                if table:
                    assert set(table.sources) == set(type(table).model_fields) - {"sources"}
                    assert all(table.sources.values())
        for own in (process.supports, process.supports and process.supports.block, process.recoating, process.conditions):
            if own:
                assert set(own.sources) == set(type(own).model_fields) - {"sources", "block"}
                assert all(own.sources.values())


def test_the_simulated_machine_accepts_every_process() -> None:
    assert "sim-01" in machine_names()
    assert set(MACHINE.processes) == set(process_names())
    assert set(MACHINE.sources) == {"envelope_mm", "processes", "plate_margin_mm", "recoater_deg"}


@pytest.mark.parametrize("name", ["ti64", "", "../machines/sim-01", "TI64-LPBF"])
def test_an_unknown_profile_is_refused_with_the_known_names(name: str) -> None:
    with pytest.raises(OrderError, match="peek-fff, pla-fff, ti64-lpbf"):
        load_process(name)
    with pytest.raises(OrderError, match="sim-01"):
        load_machine(name)


def test_a_sites_own_profiles_add_to_the_shipped_ones_or_take_their_place(tmp_path: Path) -> None:
    shipped = resources.files("batchone.slicer").joinpath("processes/pa12-sls.toml").read_text(encoding="utf-8")
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "pa12-fine.toml").write_text(
        shipped.replace('"pa12-sls"', '"pa12-fine"').replace("= 0.1\n", "= 0.06\n", 1)
    )
    (tmp_path / "processes" / "pa12-sls.toml").write_text(shipped.replace("= 0.1\n", "= 0.12\n", 1))
    assert process_names(tmp_path) == tuple(sorted([*process_names(), "pa12-fine"]))
    assert load_process("pa12-fine", tmp_path).layer_mm == 0.06
    assert load_process("pa12-sls", tmp_path).layer_mm == 0.12
    assert load_process("pa12-sls").layer_mm == 0.1
    assert load_machine("sim-01", tmp_path) == load_machine("sim-01")


SLS_FILE, TI_FILE, RESIN_FILE, MJF_FILE, PEEK_FILE = (
    f"processes/{name}" for name in ("pa12-sls", "ti64-lpbf", "guide-resin", "pa12-mjf", "peek-fff")
)
SIM_FILE = "machines/sim-01"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (SLS_FILE, "layer_mm = 0.1", "layer_mm = -0.1", "layer_mm is -0.1"),
        (SLS_FILE, "layer_mm = 0.1", "layer_mm = nan", "layer_mm is nan"),
        (SLS_FILE, "layer_mm = 0.1", 'layer_mm = "thin"', "layer_mm is 'thin'"),
        (SLS_FILE, "layer_mm = 0.1", "layer_mm = 1e-9", "layer_mm is 1e-09: Input should be greater than or equal to 0.005"),
        (SLS_FILE, "layer_mm = 0.1", "layer_mm = 0.0049", "layer_mm is 0.0049"),
        (SLS_FILE, "layer_mm = 0.1", "layer_mm = 500", "layer_mm is 500: Input should be less than or equal to 1"),
        (PEEK_FILE, "layer_mm = 0.2", "layer_mm = 1.01", "layer_mm is 1.01"),
        (MJF_FILE, "min_wall_mm = 0.7", "min_wall_mm = 0.07", "layer_mm is 0.08, at most min_wall_mm = 0.07"),
        (SLS_FILE, "max_overhang_deg = 90.0", "max_overhang_deg = 90.5", "max_overhang_deg is 90.5"),
        (TI_FILE, "_mm3 = 0.00443", "_mm3 = 4.43", "density_g_per_mm3 is 4.43: Input should be less than or equal to 0.0226"),
        (TI_FILE, "_mm3 = 0.00443", "_mm3 = 0.0227", "density_g_per_mm3 is 0.0227"),
        (TI_FILE, "_mm3 = 0.00443", "_mm3 = 4.43e-6", "density_g_per_mm3 is 4.43e-06"),
        (SLS_FILE, "turn_deg = 90.0", "turn_deg = 180.0", "scan.turn_deg is 180.0"),
        (SLS_FILE, "jump_mm_per_s2 = 20000000.0", "jump_mm_per_s2 = 0.0", "scan.jump_mm_per_s2 is 0.0"),
        (SLS_FILE, "hatch_mm = 0.25", "hatch_mm = 1e-7", "scan.hatch_mm is 1e-07: Input should be greater than or equal to 0.01"),
        (SLS_FILE, "hatch_mm = 0.25", "hatch_mm = 0.0099", "scan.hatch_mm is 0.0099"),
        (SLS_FILE, "beam_mm = 0.2", "beam_mm = 50.0", "scan.beam_mm is 50.0: Input should be less than or equal to 1"),
        (SLS_FILE, "beam_mm = 0.2", "beam_mm = 0.51", "scan.beam_mm is 0.51, at most half of min_wall_mm = 1"),
        (TI_FILE, "stripe_mm = 5.0", "stripe_mm = 0.1", "scan: stripe_mm is 0.1, at least least_mm = 0.2"),
        (TI_FILE, "grid_mm = 1.5", "grid_mm = 0.01", "supports.block: grid_mm is 0.01, more than wall_mm = 0.5"),
        (TI_FILE, "grid_mm = 1.5", "grid_mm = 0.5", "grid_mm is 0.5, more than wall_mm = 0.5"),
        (TI_FILE, "grid_mm = 1.5", "grid_mm = 0.009", "supports.block.grid_mm is 0.009"),
        (TI_FILE, "tooth_tip_mm = 0.1", "tooth_tip_mm = 1.6", "tooth_tip_mm is 1.6, at most tooth_base_mm = 1.5"),
        (RESIN_FILE, "spread_mm = 2.0", "spread_mm = 0.09", "supports.spread_mm is 0.09"),
        (SLS_FILE, "layer_mm = 0.1", "layer_mm = 0.1\nlayers_mm = 0.1", "layers_mm is 0.1"),
        (SLS_FILE, "layer_mm = 0.1", "layer_mm 0.1", "cannot be read as TOML"),
        (SLS_FILE, 'name = "pa12-sls"', 'name = "other"', "names itself 'other'"),
        (SLS_FILE, "needs_supports = false", "needs_supports = true", "has a table [supports]"),
        (SLS_FILE, "setup_s = \"", "setup = \"", "1 numbers have no source, at most 0 may: setup_s = 7200.0"),
        (TI_FILE, "tip_mm = \"", "other_mm = \"", "no source, at most 0 may: supports.tip_mm = 0.4"),
        (SIM_FILE, "plate_margin_mm = 5.0", "plate_margin_mm = 200.0", "plate_margin_mm is 200, less than half of"),
        (SIM_FILE, "plate_margin_mm = 5.0", "plate_margin_mm = 125.0", "plate_margin_mm is 125, less than half of"),
        (SIM_FILE, "[250.0, 250.0,", "[8.0, 250.0,", "shorter side of envelope_mm, 8 x 250"),
        (SIM_FILE, "[250.0, 250.0,", "[5001.0, 250.0,", "envelope_mm.0 is 5001.0"),
        (SIM_FILE, "pixel_mm = 0.1", "pixel_mm = 1e-6", "mask.pixel_mm is 1e-06: Input should be greater than or equal to 0.001"),
        (SIM_FILE, "heat_kw = 4.0", "heat_kw = 4000.0", "power.heat_kw is 4000.0"),
        (SIM_FILE, "envelope_mm = \"", "envelope = \"", "no source, at most 0 may: envelope_mm = [250.0, 250.0, 325.0]"),
    ],
)  # fmt: skip
def test_a_profile_with_an_impossible_number_is_refused_by_file_key_and_value(
    tmp_path: Path, file: str, old: str, new: str, told: str
) -> None:
    kind, name = file.split("/")
    with pytest.raises(MachineError, match=re.escape(told)) as caught:
        changed_profile(tmp_path, file, old, new)
    assert f"{file}.toml" in str(caught.value)
    assert f"{kind}/{name}.toml" in caught.value.hint or "sources" in caught.value.hint


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (SLS_FILE, "layer_mm = 0.1", "layer_mm = 0.005"),
        (PEEK_FILE, "layer_mm = 0.2", "layer_mm = 1.0"),
        (SLS_FILE, "hatch_mm = 0.25", "hatch_mm = 0.01"),
        (SLS_FILE, "beam_mm = 0.2", "beam_mm = 0.5"),
        (TI_FILE, "_mm3 = 0.00443", "_mm3 = 0.0226"),
        (TI_FILE, "_mm3 = 0.00443", "_mm3 = 0.0005"),
        (TI_FILE, "grid_mm = 1.5", "grid_mm = 0.51"),
        (TI_FILE, "tooth_tip_mm = 0.1", "tooth_tip_mm = 1.5"),
        (RESIN_FILE, "spread_mm = 2.0", "spread_mm = 0.1"),
        (SIM_FILE, "plate_margin_mm = 5.0", "plate_margin_mm = 124.9"),
        (SIM_FILE, "[250.0, 250.0,", "[10.1, 250.0,"),
        (SIM_FILE, "pixel_mm = 0.1", "pixel_mm = 0.001"),
    ],
)
def test_a_profile_with_a_number_just_inside_is_taken(tmp_path: Path, file: str, old: str, new: str) -> None:
    changed_profile(tmp_path, file, old, new)


def changed_profile(site: Path, file: str, old: str, new: str) -> None:
    """Load a site's own profile: a shipped one with one change."""
    shipped = resources.files("batchone.slicer").joinpath(f"{file}.toml").read_text(encoding="utf-8")
    assert f"\n{old}" in shipped or old in shipped
    own = site / f"{file}.toml"
    own.parent.mkdir()
    own.write_text(shipped.replace(f"\n{old}", f"\n{new}", 1) if f"\n{old}" in shipped else shipped.replace(old, new, 1))
    if file.startswith("processes/"):
        load_process(own.stem, site)
    else:
        load_machine(own.stem, site)


def test_reading_a_profile_loads_no_heavy_library() -> None:
    code = (
        "import sys; from batchone.slicer.profiles import load_process; load_process('ti64-lpbf');"
        "print([m for m in ('numba', 'lib3mf', 'scipy', 'manifold3d', 'trimesh') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# layers


@pytest.mark.parametrize(
    ("height_mm", "count"), [(10.0, 100), (10.0 + 1e-9, 100), (10.001, 101), (33.00006, 330), (9.999, 100), (0.01, 1)]
)
def test_the_number_of_layers_is_height_over_thickness_rounded_up(height_mm: float, count: int) -> None:
    assert layer_count(height_mm, 0.1) == count
    assert len(section_heights(height_mm, 0.1)) == count


def test_a_cube_is_one_counter_clockwise_square_in_every_layer() -> None:
    layers = slice_parts([standing(Solid.cube((10, 20, 7)))], 0.1)
    assert layers.count == 70
    np.testing.assert_array_equal(layers.loop_layer, np.arange(70))
    np.testing.assert_allclose(layers.loop_area_mm2, 200.0, rtol=1e-12)


def test_the_last_layer_is_never_blank_however_little_of_it_is_filled() -> None:
    layers = slice_parts([standing(Solid.cube((10, 20, 7.01)))], 0.1)
    assert layers.count == 71
    np.testing.assert_allclose(layers.area_mm2(), 200.0, rtol=1e-12)


def test_a_cone_has_the_area_of_its_closed_form() -> None:
    corners = 96
    layers = slice_parts([standing(Solid.cylinder(20, 8, 0, corners))], 0.1)
    heights = section_heights(20.0, 0.1)
    polygon = 0.5 * corners * math.sin(2 * math.pi / corners)
    np.testing.assert_allclose(layers.area_mm2(), polygon * (8 * (1 - heights / 20)) ** 2, rtol=1e-9)


def test_a_torus_standing_up_has_a_hole_then_two_islands_and_a_lying_one_a_ring() -> None:
    torus = Solid.revolve(manifold3d.CrossSection.circle(3, 48).translate((10, 0)), 96)
    ring = slice_parts([standing(torus)], 0.1)
    assert np.bincount(ring.loop_layer).tolist() == [2] * ring.count
    assert np.all(ring.loop_area_mm2[0::2] * ring.loop_area_mm2[1::2] < 0)
    assert ring.area_mm2().sum() * 0.1 == pytest.approx(torus.volume(), rel=1e-3)
    upright = slice_parts([standing(torus.rotate((90, 0, 0)))], 0.1)
    middle = upright.loop_layer == upright.count // 2
    assert middle.sum() == 2
    assert np.all(upright.loop_area_mm2[middle] > 0)


def test_a_ball_with_a_cavity_has_the_area_of_its_closed_form() -> None:
    ball = Solid.sphere(10, 256) - Solid.sphere(6, 256)
    layers = slice_parts([standing(ball)], 0.1)
    z = section_heights(20.0, 0.1) - 10.0
    wanted = math.pi * (100 - z**2) - math.pi * np.clip(36 - z**2, 0, None)
    np.testing.assert_allclose(layers.area_mm2(), wanted, atol=0.25)  # faceting of 256 segments: 1e-3 of 300 mm2


@pytest.mark.parametrize("seed", range(12))
def test_loops_close_and_agree_with_manifold_even_where_faces_lie_in_the_planes(seed: int) -> None:
    solid = dimple(Solid.cube((40, 20, 10)), 6, seed)
    if seed % 2:
        solid = solid.rotate((17.0 * seed, 31.0, 5.0 * seed))
    mesh = standing(solid)
    layers = slice_parts([mesh], 0.1)
    reference = Solid(manifold3d.Mesh64(mesh.vertices_mm, mesh.faces.astype(np.uint64)))
    heights = section_heights(float(mesh.vertices_mm[:, 2].max()), 0.1)
    # a face in the plane may fall on either side of it by rounding: 1e-7 mm below or above
    below, above = ([reference.slice(float(h) + side).area() for h in heights] for side in (-1e-7, 1e-7))
    off = np.minimum(np.abs(layers.area_mm2() - below), np.abs(layers.area_mm2() - above))
    assert off.max() <= 1e-4
    repeated = layers.points_mm == np.roll(layers.points_mm, 1, axis=0)
    assert not repeated.all(axis=1).any()


def test_sections_agree_with_trimesh() -> None:
    import trimesh

    mesh = standing(dimple(Solid.cube((40, 20, 10)), 6, 3).rotate((20, 30, 40)))
    heights = section_heights(float(mesh.vertices_mm[:, 2].max()), 0.5)
    found = slice_parts([mesh], 0.5).area_mm2()
    body = trimesh.Trimesh(mesh.vertices_mm, mesh.faces)
    for index in range(3, len(heights), 7):
        section = body.section([0, 0, 1], [0, 0, float(heights[index])])
        assert section is not None
        assert section.to_2D()[0].area == pytest.approx(found[index], rel=1e-6)


def test_planes_through_vertices_edges_and_faces_leave_no_open_or_empty_loop() -> None:
    corners = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]], dtype=np.int32)
    points, start, height, area = sections(Mesh(corners, faces), np.array([-1.0, 0.0, 1.0]))
    assert height.tolist() == [1]  # at the lower tip everything is above, at the upper tip the plane touches one corner
    assert area.tolist() == [2.0]
    assert start.tolist() == [0, 4]
    assert sorted(map(tuple, points.tolist())) == [(-1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (1.0, 0.0)]


def test_an_open_or_misoriented_mesh_is_refused() -> None:
    mesh = standing(Solid.cube((10, 20, 7)))
    with pytest.raises(MachineError, match="3 open"):
        slice_parts([Mesh(mesh.vertices_mm, mesh.faces[1:])], 0.1)
    turned = mesh.faces.copy()
    turned[0] = turned[0, ::-1]
    with pytest.raises(MachineError, match="open"):
        slice_parts([Mesh(mesh.vertices_mm, turned)], 0.1)


def test_layers_of_several_parts_are_sorted_by_layer_then_part() -> None:
    tall, low = standing(Solid.cube((10, 10, 5))), standing(Solid.cube((4, 4, 2)).translate((20, 0, 0)))
    layers = slice_parts([tall, low], 1.0)
    assert layers.loop_layer.tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert layers.loop_part.tolist() == [0, 1, 0, 1, 0, 0, 0]
    np.testing.assert_allclose(layers.area_mm2(1), [16, 16, 0, 0, 0])
    assert all(loop[:, 0].min() >= 20 for layer in (0, 1) for loop in layers.loops(layer, 1))


# orientation and plate


@pytest.mark.parametrize("process", ["ti64-lpbf", "pa12-sls"])
@pytest.mark.parametrize("seed", range(4))
def test_a_part_is_rotated_and_never_mirrored(process: str, seed: int) -> None:
    part = part_of(dimple(bracket(), 4, seed).rotate((40.0 * seed, 25.0, 10.0)))
    rotation = stand(part, load_process(process), box_mm=BOX_MM).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0, abs=1e-12)


def labelled(solid: Solid, normal: tuple[float, float, float]) -> Part:
    """A part whose faces with this normal are functional."""
    part = part_of(solid)
    corners = part.mesh.vertices_mm[part.mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = (cross / np.linalg.norm(cross, axis=1)[:, None]) @ np.array(normal) > 0.999
    return replace(
        part,
        face_labels=facing.astype(np.int16),
        labels=("rest", "contact"),
        functional_faces=(FunctionalFace("contact", "fit", 0.1),),
    )


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)])
def test_a_functional_face_never_hangs_over_when_it_can_be_avoided(normal: tuple[float, float, float]) -> None:
    stance = stand(labelled(Solid.cube((30, 20, 6)), normal), load_process("ti64-lpbf"), box_mm=BOX_MM)
    assert stance.functional_overhang_mm2 == 0.0
    up = stance.rotation @ np.array(normal)
    assert up[2] >= -math.sin(math.radians(45.0)) - 1e-9


def test_without_functional_faces_the_least_area_hangs_over() -> None:
    stance = stand(part_of(Solid.cube((40, 30, 4))), load_process("ti64-lpbf"), box_mm=BOX_MM)
    assert stance.overhang_mm2 <= 4.0 * 30.0 + 1e-6  # it stands on its smallest side at worst


def test_laser_sintering_prefers_a_low_part_that_does_not_lie_flat() -> None:
    stance = stand(part_of(Solid.cube((100, 80, 3))), load_process("pa12-sls"), box_mm=BOX_MM)
    assert stance.size_mm[2] < 60.0
    assert abs((stance.rotation @ np.array([0.0, 0.0, 1.0]))[2]) < math.cos(math.radians(15.0))


def test_a_part_fits_just_inside_the_box_and_not_just_outside() -> None:
    process = load_process("pa12-sls")
    cube = part_of(Solid.cube((50, 50, 50)))
    assert max(stand(cube, process, box_mm=(50.001, 50.001, 50.001)).size_mm) <= 50.001
    with pytest.raises(MachineError, match=r"x 50\.0 mm at its most compact.*49\.9 x 49\.9 x 49\.9 mm"):
        stand(cube, process, box_mm=(49.9, 49.9, 49.9))


def test_the_orientation_follows_the_part_and_not_the_patient() -> None:
    part = part_of(bracket())
    cos, sin = math.cos(1.1), math.sin(1.1)
    pose = np.array([[cos, -sin, 0.0, 30.0], [0.0, 0.0, -1.0, -200.0], [sin, cos, 0.0, 500.0], [0.0, 0.0, 0.0, 1.0]])
    moved = replace(part, mesh=part.mesh.moved(pose))
    process = load_process("ti64-lpbf")
    first, second = (stand(p, process, box_mm=BOX_MM) for p in (part, moved))
    np.testing.assert_allclose(second.size_mm, first.size_mm, atol=1e-6)
    np.testing.assert_allclose(second.rotation[2] @ pose[:3, :3], first.rotation[2], atol=1e-6)


def test_parts_stand_side_by_side_with_their_spacing() -> None:
    sizes = [(60.0, 10.0), (30.0, 40.0), (50.0, 20.0), (30.0, 30.0)]
    corners = shelves(sizes, (100.0, 100.0), spacing_mm=3.0)
    for i, (a, p) in enumerate(zip(sizes, corners, strict=True)):
        assert 0 <= p[0] <= 100 - a[0]
        assert 0 <= p[1] <= 100 - a[1]
        for b, q in list(zip(sizes, corners, strict=True))[i + 1 :]:
            gap = max(q[0] - p[0] - a[0], p[0] - q[0] - b[0], q[1] - p[1] - a[1], p[1] - q[1] - b[1])
            assert gap >= 3.0 - 1e-9


def test_parts_that_do_not_fit_side_by_side_are_refused_with_sizes() -> None:
    assert len(shelves([(48.5, 100.0)] * 2, (100.0, 100.0), spacing_mm=3.0)) == 2
    with pytest.raises(MachineError, match=r"need 48\.6 x 203\.0 mm.*100\.0 x 100\.0 mm"):
        shelves([(48.6, 100.0)] * 2, (100.0, 100.0), spacing_mm=3.0)


# the whole build


@pytest.fixture(scope="module", params=["ti64-lpbf", "pa12-sls", "guide-resin"])
def build(request: pytest.FixtureRequest) -> tuple[CheckedDevice, Build]:
    shell = (Solid.sphere(40, 96) - Solid.sphere(36, 96)).trim_by_plane((0.2, 0.3, 1), 25).translate((90, -150, -700))
    checked = device_of(part_of(bracket().rotate((10, 20, 30)), "bracket"), part_of(shell, "plate"))
    return checked, slice_device(checked, APPROVAL, load_process(request.param), MACHINE)


def test_a_build_holds_what_was_asked_for(build: tuple[CheckedDevice, Build]) -> None:
    checked, made = build
    process = load_process(made.process)
    assert [p.part for p in made.placements] == [name for name, _ in made.part_3mf] == ["bracket", "plate"]
    assert not [f for f in made.findings if f.verdict == "fail"]
    cli = read_cli(made.layers_cli)
    bodies = ("bracket", "plate", *(support.name for support in made.supports))
    regions = process.scan.order if process.scan else ()
    assert cli.labels == (*bodies, *(f"{name} {region}" for name in bodies[:2] for region in regions))
    volume = [volume_mm3(part.mesh) for part in checked.device.parts]
    for index, placement in enumerate(made.placements):
        top = checked.device.parts[index].mesh.moved(placement.pose).vertices_mm[:, 2].max()
        area = cli.layers.area_mm2(index)
        below = round(lift_mm(process) / process.layer_mm)
        assert np.count_nonzero(area) == layer_count(float(top), process.layer_mm) - below
        assert area.sum() * process.layer_mm == pytest.approx(volume[index], rel=0.005)
    assert made.estimate.layers == cli.layers.count
    assert made.estimate.part_volume_mm3 == pytest.approx(sum(volume))


def test_parts_stand_on_the_plate_inside_the_machine_and_apart(build: tuple[CheckedDevice, Build]) -> None:
    checked, made = build
    process = load_process(made.process)
    margin = MACHINE.plate_margin_mm
    boxes = []
    for part, placement in zip(checked.device.parts, made.placements, strict=True):
        placed = part.mesh.moved(placement.pose).vertices_mm
        low, high = placed.min(axis=0), placed.max(axis=0)
        assert low[2] == pytest.approx(lift_mm(process), abs=1e-9)
        assert np.all(low[:2] >= margin - 1e-9)
        assert np.all(high <= np.array(MACHINE.envelope_mm) - (margin - 1e-9, margin - 1e-9, 0))
        boxes.append((low, high))
    gap = max((boxes[1][0] - boxes[0][1])[:2].max(), (boxes[0][0] - boxes[1][1])[:2].max())
    assert gap >= process.part_spacing_mm - 1e-9


def test_part_files_are_in_the_patient_frame_and_the_plate_in_the_machine_frame(build: tuple[CheckedDevice, Build]) -> None:
    checked, made = build
    plate = read_3mf(made.plate_3mf)[: len(made.placements)]
    for part, (_, data), item, placement in zip(checked.device.parts, made.part_3mf, plate, made.placements, strict=True):
        (single,) = read_3mf(data)
        np.testing.assert_array_equal(single.pose, np.eye(4))
        np.testing.assert_allclose(single.mesh.vertices_mm, part.mesh.vertices_mm, atol=1e-4)
        np.testing.assert_allclose(item.mesh.moved(item.pose).vertices_mm, part.mesh.moved(placement.pose).vertices_mm, atol=1e-3)


@pytest.mark.skipif(shutil.which("prusa-slicer") is None, reason="needs the Debian package prusa-slicer")
def test_another_program_reads_the_plate_with_every_body_in_its_place(build: tuple[CheckedDevice, Build], tmp_path: Path) -> None:
    checked, made = build
    (tmp_path / "plate.3mf").write_bytes(made.plate_3mf)
    command = ["prusa-slicer", "--info", "plate.3mf", "--datadir", str(tmp_path / "data")]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120).stdout
    bodies = [dict(re.findall(r"(\w+) = +(\S+)", block)) for block in said.split("[plate.3mf]")[1:]]
    assert len(bodies) == len(made.placements) + len(made.supports)
    for part, placement in zip(checked.device.parts, made.placements, strict=True):
        placed = part.mesh.moved(placement.pose).vertices_mm
        (read,) = [body for body in bodies if int(body["number_of_facets"]) == len(part.mesh.faces)]
        low, high = ([float(read[f"{end}_{axis}"]) for axis in "xyz"] for end in ("min", "max"))
        np.testing.assert_allclose([low, high], [placed.min(axis=0), placed.max(axis=0)], atol=2e-3)
        assert float(read["volume"]) == pytest.approx(volume_mm3(part.mesh), rel=1e-4)
        assert read["manifold"] == "yes"


def four_balls() -> tuple[Solid, np.ndarray]:
    """Four balls of different size; their centres, smallest ball first, span a positive volume."""
    centres = np.array([[0.0, 0.0, 0.0], [26.0, 3.0, 0.0], [4.0, 25.0, 2.0], [6.0, 7.0, 24.0]])
    solid = Solid()
    for radius, centre in zip((3.0, 4.0, 5.0, 6.0), centres, strict=True):
        solid = solid + Solid.sphere(radius, 48).translate(tuple(centre.tolist()))
    return solid, centres


def handedness(layers: Layers) -> float:
    """Signed volume that the four bodies span, smallest first, found from the contours alone."""
    bodies: list[list[tuple[float, np.ndarray]]] = []
    for index, layer in enumerate(layers.loop_layer):
        loop = layers.points_mm[layers.loop_start[index] : layers.loop_start[index + 1]]
        here = np.array([*loop.mean(axis=0), (layer + 0.5) * layers.layer_mm])
        near = [b for b in bodies if np.linalg.norm(b[-1][1] - here) < 3.0]
        (near[0] if near else bodies.append([]) or bodies[-1]).append((float(layers.loop_area_mm2[index]), here))
    assert len(bodies) == 4
    bodies.sort(key=lambda body: sum(area for area, _ in body))
    centre = [np.average([at for _, at in body], axis=0, weights=[area for area, _ in body]) for body in bodies]
    return float(np.linalg.det(np.array(centre[1:]) - centre[0]))


@pytest.mark.parametrize("name", ["ti64-lpbf", "pa12-sls"])
def test_landmarks_keep_their_handedness_in_the_layers(name: str) -> None:
    solid, centres = four_balls()
    wanted = float(np.linalg.det(centres[1:] - centres[0]))
    assert wanted > 0
    part, process = part_of(solid), load_process(name)
    stance = stand(part, process, box_mm=BOX_MM)
    turned = part.mesh.vertices_mm @ stance.rotation.T
    body = Mesh(turned - turned.min(axis=0), part.mesh.faces)
    (placement,) = place([part], [stance], [[body]], process=process, machine=MACHINE)
    data = write_cli(slice_parts([part.mesh.moved(placement.pose)], process.layer_mm), ["part"])
    assert handedness(read_cli(data).layers) == pytest.approx(wanted, rel=0.01)


def test_a_part_with_nothing_between_two_heights_is_refused() -> None:
    corner = Solid.cube((5, 5, 5))
    gap = part_of(Solid.compose([corner] + [corner.translate(at) for at in ((60, 0, 0), (0, 60, 0), (0, 0, 60))]))
    with pytest.raises(MachineError, match="blank layers"):
        slice_device(device_of(gap), APPROVAL, load_process("pa12-sls"), MACHINE)


def test_an_unreleased_device_is_not_sliced() -> None:
    failed = judge("wall", "thinnest wall", 0.3, "mm", low=0.8)
    checked = CheckedDevice(Device("anatomical-model", (part_of(bracket()),)), (failed,))
    with pytest.raises(CheckFailed, match="1 findings failed, at most 0 may be sliced: wall") as caught:
        slice_device(checked, APPROVAL, load_process("pa12-sls"), MACHINE)
    assert caught.value.findings == (failed,)
    warned = CheckedDevice(checked.device, (replace(failed, verdict="warn"),))
    assert slice_device(warned, APPROVAL, load_process("pa12-sls"), MACHINE).estimate.layers > 0


def test_a_machine_that_does_not_run_the_process_is_refused() -> None:
    machine = MACHINE.model_copy(update={"processes": ("pa12-sls",)})
    with pytest.raises(MachineError, match="does not run ti64-lpbf"):
        slice_device(device_of(part_of(bracket())), APPROVAL, load_process("ti64-lpbf"), machine)


def test_the_estimate_is_its_formula() -> None:
    process = load_process("ti64-lpbf").model_copy(
        update={"setup_s": 100.0, "recoat_s": 2.0, "density_g_per_mm3": 0.01, "layer_mm": 0.05, "time_within": 0.1}
    )
    found = estimate(process, layers=10, volume_mm3=80.0, scanned_s=20.0)
    assert (found.seconds, found.material_g, found.height_mm, found.layers) == (140.0, 0.8, 0.5, 10)
    assert (found.seconds_low, found.seconds_high) == pytest.approx((126.0, 154.0))
    assert estimate(process, layers=10, volume_mm3=80.0, scanned_s=None).seconds == 120.0


def test_a_mask_has_its_images_and_is_told_where_they_cannot_be_made() -> None:
    checked, resin = device_of(part_of(bracket())), load_process("guide-resin")
    made = slice_device(checked, APPROVAL, resin, MACHINE)
    assert {f.verdict for f in made.findings if f.check.startswith("layers.images")} == {"pass"}
    assert made.images
    without = slice_device(checked, APPROVAL, resin, MACHINE.model_copy(update={"mask": None}))
    assert [f.verdict for f in without.findings if f.check == "layers.images"] == ["warn"]
    assert not without.images
    powder = slice_device(checked, APPROVAL, load_process("pa12-sls"), MACHINE)
    assert not powder.images
    assert powder.toolpath is None
    assert not [f for f in powder.findings if f.check.startswith("layers.images")]


def test_another_process_on_one_thread_writes_the_same_bytes() -> None:
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('shapes', sys.argv[1]); m = u.module_from_spec(s);"
        "sys.modules['shapes'] = m; s.loader.exec_module(m); print(m.digest_of_a_build())"
    )
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "TBB_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(variables, "1"), "PYTHONHASHSEED": "77"}
    other = subprocess.run([sys.executable, "-c", code, __file__], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest_of_a_build()


def digest_of_a_build() -> str:
    parts = part_of(bracket().rotate((10, 20, 30)), "bracket"), part_of(dimple(bracket(), 4, 1), "other")
    made = slice_device(device_of(*parts), APPROVAL, load_process("pa12-sls"), MACHINE)
    whole = hashlib.sha256(made.layers_cli + made.plate_3mf + b"".join(data for _, data in made.part_3mf))
    whole.update(repr((made.estimate, made.findings, [(p.part, p.pose.tolist(), p.criterion) for p in made.placements])).encode())
    return whole.hexdigest()


# reading back


class Job:
    """A small build whose files can be exchanged one by one before they are read back."""

    def __init__(self) -> None:
        self.part = part_of(bracket())
        self.process = load_process("pa12-sls")
        made = slice_device(device_of(self.part), APPROVAL, self.process, MACHINE)
        self.placement = made.placements[0]
        self.cli, self.plate, self.single = made.layers_cli, made.plate_3mf, made.part_3mf
        self.layers = read_cli(made.layers_cli).outlines

    def read(self, **exchanged: object) -> tuple[Finding, ...]:
        files = {"layers_cli": self.cli, "plate_3mf": self.plate, "part_3mf": self.single, **exchanged}
        written = read_cli(files.pop("layers_cli"))  # type: ignore[arg-type]
        return read_back((self.part,), (self.placement,), written=written, process=self.process, machine=MACHINE, **files)  # type: ignore[arg-type]

    def moved_layers(self, move: object) -> bytes:
        points = move(self.layers.points_mm.copy())  # type: ignore[operator]
        return self.written(replace(self.layers, points_mm=np.ascontiguousarray(points)))

    def written(self, layers: Layers, name: str = "part") -> bytes:
        """The file of other outlines."""
        drawn = expose(layers, [name], self.process, parts=1)
        return write_cli(drawn.layers, drawn.labels, drawn.hatches)


@pytest.fixture(scope="module")
def job() -> Job:
    return Job()


def test_an_untouched_build_reads_back(job: Job) -> None:
    found = job.read()
    assert {one.verdict for one in found} == {"pass"}
    assert {one.where_mm for one in found} == {None}, "a place is that of rounding where nothing is off"
    volumes = [one for one in found if one.check in ("plate.volume", "part.volume")]
    assert [one.unit for one in volumes] == ["ppm", "ppm"]
    assert all(one.high is not None and 1.0 <= one.high < 10.0 for one in volumes)


@pytest.mark.parametrize("layer", [0, 1])
def test_contours_that_are_off_tell_the_height_at_which_that_layer_was_cut(layer: int) -> None:
    """The last layer is cut in the middle of what is left of the part: at 0.105 mm of 0.11 mm in layers of 0.1 mm."""
    mesh = part_of(manifold3d.Manifold.cube((10.0, 10.0, 0.11))).mesh
    layers = slice_parts([mesh], 0.1)
    points_mm = layers.points_mm.copy()
    points_mm[np.repeat(layers.loop_layer, np.diff(layers.loop_start)) == layer, 0] += 0.5
    written = read_cli(write_cli(replace(layers, points_mm=points_mm), ["part"]))
    (finding,) = contour_findings(written, [mesh], ["part"], [np.eye(4)])
    assert finding.verdict == "fail"
    assert finding.where_mm is not None
    assert finding.where_mm[2] == pytest.approx((0.05, 0.105)[layer], abs=1e-6)


def test_contours_that_are_shifted_are_seen(job: Job) -> None:
    job.read(layers_cli=job.moved_layers(lambda p: p + np.array([0.005, 0.0])))  # the file's unit
    with pytest.raises(MachineError, match="mean distance of contours"):
        job.read(layers_cli=job.moved_layers(lambda p: p + np.array([0.03, 0.0])))


def test_layers_that_are_mirrored_are_seen(job: Job) -> None:
    middle = 0.5 * (job.layers.points_mm.min(axis=0) + job.layers.points_mm.max(axis=0))
    size = np.diff(job.layers.loop_start)
    number = np.repeat(np.arange(len(size)), size)
    order = np.lexsort((-np.arange(len(number)), number))  # each loop backwards: mirroring turns it round

    def mirrored(points: np.ndarray) -> np.ndarray:
        points[:, 0] = 2 * middle[0] - points[:, 0]
        return points[order]

    with pytest.raises(MachineError, match="mean distance of contours"):
        job.read(layers_cli=job.moved_layers(mirrored))


def test_layers_that_are_scaled_are_seen_by_volume(job: Job) -> None:
    with pytest.raises(MachineError, match="volume of the layers"):
        job.read(layers_cli=job.moved_layers(lambda p: (p - 125.0) * 1.003 + 125.0))


def without(layers: Layers, drop: np.ndarray) -> Layers:
    keep = ~drop
    size = np.diff(layers.loop_start)
    return replace(
        layers,
        points_mm=layers.points_mm[np.repeat(keep, size)],
        loop_start=np.concatenate([[0], np.cumsum(size[keep])]).astype(np.int64),
        loop_layer=layers.loop_layer[keep],
        loop_part=layers.loop_part[keep],
        loop_area_mm2=layers.loop_area_mm2[keep],
    )


def test_a_corner_that_stands_out_is_seen_and_its_place_told_in_the_patient(job: Job) -> None:
    size = np.diff(job.layers.loop_start)
    layer = np.repeat(job.layers.loop_layer, size)
    moved = [int(own[job.layers.points_mm[own, 0].argmax()]) for own in map(np.flatnonzero, layer == np.unique(layer)[:, None])]

    def drawn_out(points: np.ndarray) -> np.ndarray:
        points[moved, 0] += 1.5
        return points

    with pytest.raises(MachineError, match="mean distance of contours") as caught:
        job.read(layers_cli=job.moved_layers(drawn_out))
    assert isinstance(caught.value, FilesError)
    assert {one.check for one in caught.value.findings} >= {"layers.count", "layers.contours", "plate.position", "plate.volume"}
    assert all(one.where_mm is None for one in caught.value.findings if one.verdict == "pass")
    told = re.search(r"mean distance[^;]* at \(([-\d.]+), ([-\d.]+), ([-\d.]+)\) mm, patient LPS", str(caught.value))
    assert told is not None
    corners = np.column_stack([drawn_out(job.layers.points_mm.copy()), (layer + 0.5) * job.layers.layer_mm])[moved]
    pose = job.placement.pose
    off_mm = np.linalg.norm((corners - pose[:3, 3]) @ pose[:3, :3] - np.array([float(word) for word in told.groups()]), axis=1)
    assert off_mm.min() < 0.1  # mm: told to 0.1 mm


def test_a_blank_layer_is_seen(job: Job) -> None:
    with pytest.raises(MachineError, match="blank layers where there is a part is 1, limit at most 0"):
        job.read(layers_cli=job.written(without(job.layers, job.layers.loop_layer == 17)))


def test_a_missing_layer_is_seen(job: Job) -> None:
    last = job.layers.loop_layer == job.layers.count - 1
    with pytest.raises(MachineError, match="number of layers"):
        job.read(layers_cli=job.written(replace(without(job.layers, last), count=job.layers.count - 1)))


def test_other_labels_are_seen(job: Job) -> None:
    with pytest.raises(
        MachineError, match="labels of the layers are other, other contour, other core; must be part, part contour"
    ):
        job.read(layers_cli=job.written(job.layers, "other"))
    with pytest.raises(MachineError, match="labels of the layers are part; must be part, part contour, part core"):
        job.read(layers_cli=write_cli(job.layers, ["part"]))


def test_layers_outside_the_machine_are_seen(job: Job) -> None:
    with pytest.raises(MachineError, match="walls of the machine"):
        job.read(layers_cli=job.moved_layers(lambda p: p + np.array([110.0, 0.0])))


def test_a_changed_body_is_seen_in_the_plate_and_in_the_part_file(job: Job) -> None:
    dented = job.part.mesh.vertices_mm.copy()
    dented[0] += 0.01
    other = Mesh(dented, job.part.mesh.faces)
    with pytest.raises(MachineError, match="vertex of part on the plate"):
        job.read(plate_3mf=write_3mf([Item("part", other, job.placement.pose)], title="t", notes={}))
    with pytest.raises(MachineError, match="vertex of part in its file"):
        job.read(part_3mf=(("part", write_3mf([Item("part", other, np.eye(4))], title="t", notes={})),))


def test_a_mirrored_body_is_seen(job: Job) -> None:
    flipped = Mesh(job.part.mesh.vertices_mm * (-1.0, 1.0, 1.0), np.ascontiguousarray(job.part.mesh.faces[:, ::-1]))
    with pytest.raises(MachineError, match="vertex of part on the plate"):
        job.read(plate_3mf=write_3mf([Item("part", flipped, job.placement.pose)], title="t", notes={}))


def test_a_swapped_or_missing_body_is_seen(job: Job) -> None:
    with pytest.raises(MachineError, match="in order"):
        job.read(plate_3mf=write_3mf([Item("other", job.part.mesh, job.placement.pose)], title="t", notes={}))
    with pytest.raises(MachineError, match="part files"):
        job.read(part_3mf=())


# cups


def blind(diameter_mm: float = 10.0) -> Solid:
    """A block with a blind hole from above, 12 mm deep."""
    hole = Solid.cylinder(15, 0.5 * diameter_mm, 0.5 * diameter_mm, 64)
    return Solid.cube((30, 30, 20)) - hole.translate((15, 15, 8))


def across(radius_mm: float, height_mm: float) -> Solid:
    """A round bar along x, through the blind hole and out of the block on both sides."""
    return Solid.cylinder(34, radius_mm, radius_mm, 48).rotate((0.0, 90.0, 0.0)).translate((-2, 15, height_mm))


@pytest.mark.parametrize(
    ("solid", "sealed_mm2"),
    [
        (blind(), math.pi * 25.0),
        (blind().rotate((180.0, 0.0, 0.0)), 0.0),
        (blind() - across(2.0, 9.0), 0.0),  # vented at its floor
        (blind() - across(1.0, 18.0), math.pi * 25.0),  # vented too late
        (blind() - Solid.cylinder(9, 2, 2, 48).translate((15, 15, -0.5)), 0.0),  # vented through its floor
        (Solid.sphere(15, 64) - Solid.sphere(12, 64), math.pi * 144.0),
    ],
)
def test_what_a_vat_seals_is_what_is_empty_so_far_and_has_no_way_to_the_open(solid: Solid, sealed_mm2: float) -> None:
    area, where = sealed_area(standing(solid), on_supports=True)
    assert area == pytest.approx(sealed_mm2, rel=0.04)
    assert (where is None) is (sealed_mm2 == 0.0)


def test_a_hole_that_stands_on_the_platform_is_closed_by_it_and_one_on_supports_is_open() -> None:
    tube = standing(Solid.cylinder(10, 8, 8, 64) - Solid.cylinder(10, 5, 5, 64))
    assert sealed_area(tube, on_supports=True)[0] == 0.0
    assert sealed_area(tube, on_supports=False)[0] == pytest.approx(math.pi * 25.0, rel=0.04)


def test_a_part_stands_so_that_a_vat_seals_no_cup_and_the_place_of_one_is_in_patient_space() -> None:
    resin = load_process("guide-resin")
    part = part_of(blind().rotate((25.0, 40.0, 10.0)).translate((100.0, -50.0, 30.0)))
    stance, finding = next(uncupped(part, stances(part, resin, box_mm=BOX_MM), resin))
    assert (finding.verdict, finding.value) == ("pass", 0.0)
    upside_down = replace(stance, rotation=np.diag([1.0, -1.0, -1.0]) @ stance.rotation)
    _, other = next(uncupped(part, [upside_down], resin))
    assert other.verdict == "fail"
    place = mesh_of(Solid.cube((1, 1, 1)).translate((14.5, 14.5, 8.5)).rotate((25.0, 40.0, 10.0)).translate((100.0, -50.0, 30.0)))
    assert np.linalg.norm(np.array(other.where_mm) - place.vertices_mm.mean(axis=0)) < 7.0
    checked = CheckedDevice(Device("anatomical-model", (part,)), ())
    made = slice_device(checked, APPROVAL, resin, MACHINE)
    assert [found.verdict for found in made.findings if found.check == "cups"] == ["pass"]


def test_cups_on_both_ends_are_not_sliced_for_a_vat_and_are_for_powder() -> None:
    both = Solid.sphere(9, 64).translate((0, 0, 10)) + Solid.sphere(9, 64).translate((0, 0, -10))
    for way in (1.0, -1.0):
        room = Solid.sphere(6, 64) + Solid.cylinder(20, 2, 2, 48).rotate((0.0, 0.0 if way > 0 else 180.0, 0.0))
        both = both - room.translate((0, 0, 10.0 * way))
    checked = device_of(part_of(both))
    with pytest.raises(CheckFailed, match="a vat seals cups of part") as caught:
        slice_device(checked, APPROVAL, load_process("guide-resin"), MACHINE)
    assert {found.check for found in caught.value.findings if found.verdict == "fail"} == {"cups"}
    assert slice_device(checked, APPROVAL, load_process("pa12-sls"), MACHINE).estimate.layers > 0


def tetrahedra(count: int) -> Mesh:
    side = math.ceil(count ** (1.0 / 3.0))
    at = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:count] * 0.5
    one = np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.2]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    shells = (faces[None] + 4 * np.arange(count)[:, None, None]).reshape(-1, 3)
    return Mesh((at[:, None] + one).reshape(-1, 3), shells.astype(np.int32))


def two_crossing_cubes() -> Mesh:
    one, other = (mesh_of(Solid.cube((10, 10, 10)).translate(at)) for at in ((0, 0, 0), (5, 5, 5)))
    return Mesh(np.vstack([one.vertices_mm, other.vertices_mm]), np.vstack([one.faces, other.faces + 8]).astype(np.int32))


def cube_with_a_fin_of_no_thickness() -> Mesh:
    cube = mesh_of(Solid.cube((10, 10, 10)))
    corners = np.array([[10.0, 2.0, 2.0], [20.0, 2.0, 2.0], [20.0, 2.0, 8.0], [10.0, 2.0, 8.0]])
    fin = np.array([[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 0]]) + 8
    return Mesh(np.vstack([cube.vertices_mm, corners]), np.vstack([cube.faces, fin]).astype(np.int32))


@pytest.mark.parametrize(
    ("mesh", "told"),
    [
        (mesh_of(Solid.cube((400, 20, 20))), "usable box is 240.0 x 240.0 x 323.0 mm"),
        (Mesh(mesh_of(Solid.cube((9, 9, 9))).vertices_mm, mesh_of(Solid.cube((9, 9, 9))).faces[1:]), "open or misoriented edges"),
        (Mesh(mesh_of(Solid.cube((9, 9, 9))).vertices_mm, mesh_of(Solid.cube((9, 9, 9))).faces[:, ::-1]), "inside out"),
        (two_crossing_cubes(), "differ from the approved device"),
        (cube_with_a_fin_of_no_thickness(), "not manifold and oriented"),
    ],
    ids=["too large", "open", "inside out", "crossing itself", "fin without thickness"],
)
def test_a_mesh_that_cannot_be_printed_is_refused_whole(mesh: Mesh, told: str) -> None:
    part = Part("part", Mesh(mesh.vertices_mm, np.ascontiguousarray(mesh.faces)), np.zeros(len(mesh.faces), np.int16), ("all",))
    with pytest.raises(MachineError, match=told):
        slice_device(device_of(part), APPROVAL, load_process("ti64-lpbf"), MACHINE)


@pytest.mark.parametrize(("thick_mm", "verdict"), [(0.15, "warn"), (0.17, "pass")])  # the beam reaches 0.08 mm
def test_a_wall_thinner_than_the_beam_is_told(thick_mm: float, verdict: str) -> None:
    tube = Solid.cylinder(10, 5, 5, 64) - Solid.cylinder(12, 5 - thick_mm, 5 - thick_mm, 64).translate((0, 0, -1))
    made = slice_device(device_of(part_of(tube)), APPROVAL, load_process("ti64-lpbf"), MACHINE)
    assert [finding.verdict for finding in made.findings if finding.check == "layers.thin"] == [verdict]


def test_a_million_tiny_shells_are_refused_before_anything_is_searched_for_them() -> None:
    dust = tetrahedra(1_000_000)
    part = Part("part", dust, np.zeros(len(dust.faces), np.int16), ("all",))
    started = time.process_time()
    with pytest.raises(MachineError, match="part has 1000000 separate shells, at most 1000 are sliced"):
        slice_device(device_of(part), APPROVAL, load_process("ti64-lpbf"), MACHINE)
    assert time.process_time() - started < 30.0  # s of cores: a search for what carries them would take hours


def test_as_many_shells_as_a_device_may_have_are_no_dust() -> None:
    refuse_dust(tetrahedra(1000), "part")
    with pytest.raises(MachineError, match="1001 separate shells"):
        refuse_dust(tetrahedra(1001), "part")


def test_a_part_of_more_contours_than_any_device_is_refused_before_it_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    dust = tetrahedra(1000)
    contours = len(slice_parts([dust], 0.05).loop_layer)
    monkeypatch.setattr(sys.modules[slice_parts.__module__], "_MOST_CONTOURS", contours)
    slice_parts([dust], 0.05)
    monkeypatch.setattr(sys.modules[slice_parts.__module__], "_MOST_CONTOURS", contours - 1)
    with pytest.raises(MachineError, match=f"{contours} contours in its layers, at most {contours - 1}"):
        slice_parts([dust], 0.05)


def two_shells(deep_mm: float) -> Part:
    """Two cubes as shells of one part that reach ``deep_mm`` into each other; less than 0 leaves a gap."""
    one = mesh_of(Solid.cube((4.0, 4.0, 4.0)))
    other = mesh_of(Solid.cube((4.0, 3.0, 3.0)).translate((4.0 - deep_mm, 0.5, 0.5)))
    faces = np.concatenate([one.faces, other.faces + len(one.vertices_mm)])
    mesh = Mesh(np.concatenate([one.vertices_mm, other.vertices_mm]), faces.astype(np.int32))
    return Part("part", mesh, np.zeros(len(mesh.faces), np.int16), ("all",))


@pytest.mark.parametrize("process", process_names())
@pytest.mark.parametrize("deep_mm", [1.5, 0.05])
def test_a_part_that_crosses_itself_is_refused_whatever_the_process(process: str, deep_mm: float) -> None:
    profile = load_process(process).model_copy(update={"layer_mm": 0.1})
    with pytest.raises(FilesError, match="enclose twice or inside out") as caught:
        slice_device(device_of(two_shells(deep_mm)), APPROVAL, profile, MACHINE)
    (found,) = (one for one in caught.value.findings if one.check == "layers.twice" and one.verdict == "fail")
    assert found.where_mm is not None
    x, y, z = found.where_mm
    assert 3.99 - deep_mm <= x <= 4.01
    assert min(y, z) >= 0.49
    assert max(y, z) <= 3.51


def test_outlines_that_only_slivers_lie_between_are_taken_and_a_void_that_reaches_out_is_not() -> None:
    def area_mm2(solids: list[tuple[Solid, int]]) -> float:
        cuts = [slice_parts([mesh_of(solid)], 0.1) for solid, _ in solids]
        points, start, layer, area = [], [0], [], []
        for k in range(cuts[0].count):
            for cut, (_, way) in zip(cuts, solids, strict=True):
                for loop in cut.loops(k, 0):
                    points.append(loop[::way])
                    start.append(start[-1] + len(loop))
                    layer.append(k)
                area.extend((way * cut.loop_area_mm2[cut.loop_layer == k]).tolist())
        part = np.zeros(len(layer), np.int32)
        layers = Layers(
            0.1, cuts[0].count, np.concatenate(points), np.array(start), np.array(layer, np.int32), part, np.array(area)
        )
        (found,) = twice_findings(layers, ["part"], [np.eye(4)])
        assert (found.verdict == "pass") == (found.value == 0.0) == (found.where_mm is None)
        return found.value

    cube = Solid.cube((4.0, 4.0, 1.0))
    assert area_mm2([(cube, 1), (cube.translate((3.991, 0, 0)), 1)]) == 0.0
    assert area_mm2([(cube, 1), (cube.translate((3.989, 0, 0)), 1)]) == pytest.approx(0.044, rel=1e-6)
    inner = Solid.cube((1.0, 2.0, 1.0))
    assert area_mm2([(cube, 1), (inner.translate((3.0, 1.0, 0)), -1)]) == 0.0
    assert area_mm2([(cube, 1), (inner.translate((3.5, 1.0, 0)), -1)]) == pytest.approx(1.0, rel=1e-6)
