"""Nesting: places on plates and in cakes, their clearances, the build folder, and what its verification finds."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import manifold3d
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation
from small_job import seal

from batchone import slicer
from batchone.design.booleans import box_solid, difference, solid_from_mesh, to_part
from batchone.design.guide.label import engraved, letters_mm
from batchone.design.lettering.picture import pictured
from batchone.design.lettering.reading import read as read_label
from batchone.factory.cell import Cell
from batchone.factory.dispatch import dispatch
from batchone.factory.drivers.twin import TwinDriver
from batchone.factory.inbox import Inbox
from batchone.factory.record import read_as_built
from batchone.factory.settings import Calibration, CellSettings, Lot
from batchone.pipeline.build.folder import BuildFolder, nest_jobs
from batchone.pipeline.build.manifest import BuildManifest, read_build_manifest
from batchone.pipeline.build.map_picture import map_png
from batchone.pipeline.build.released import Released, refuse_strangers
from batchone.pipeline.build.verify import verify_build
from batchone.pipeline.errors import MachineError
from batchone.pipeline.findings import LABEL, label_said, label_words
from batchone.pipeline.inspection import layer_at
from batchone.pipeline.job.archive import threemf_bodies
from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.describe import Case, describe
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.measure import measure_triangles, stl_bytes, stl_corners
from batchone.pipeline.job.medical import medical_blocks
from batchone.pipeline.job.signature import approval_key, release_key, sign_approval, write_allowed_signers
from batchone.pipeline.job.sums import sha256
from batchone.pipeline.job.withdrawal import WithdrawnJob, publish_withdrawn
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import (
    Anatomy,
    Approval,
    CheckedDevice,
    Device,
    FieldOfView,
    Mesh,
    Part,
    Plan,
    Scan,
    SeriesRecord,
    judge,
)
from batchone.slicer.clearances import check_clearances, shadow, solid_of
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.cli_header import read_header, region_of, with_medical
from batchone.slicer.images import image_findings
from batchone.slicer.layers import slice_parts
from batchone.slicer.make import slice_device
from batchone.slicer.nest import Nest, Unit, nest
from batchone.slicer.orient import Stance
from batchone.slicer.profiles import load_machine, load_process
from batchone.slicer.recoater import blade_finding
from batchone.slicer.room import cells_of, swollen
from batchone.slicer.threemf import Item, read_3mf, write_3mf

Solid = manifold3d.Manifold
MACHINE = load_machine("sim-01")
SLS, LPBF = load_process("pa12-sls"), load_process("ti64-lpbf")
SCHEMAS = Path(sys.modules["batchone.pipeline.findings"].__file__ or "").parent / "schemas"
RECORD = SeriesRecord("CT", "Maker", "Model", "H30", "HFS", 4, 1.0, 1.0, (1.0, 1.0), 0.0, "1.2.840.10008.1.2.1", "ab" * 32)
DUE = dt.datetime(2026, 11, 24, 8, 0, tzinfo=dt.UTC)


def _mesh(solid: Solid) -> Mesh:
    made = solid.to_mesh64()
    return Mesh(np.array(made.vert_properties[:, :3]), np.array(made.tri_verts, dtype=np.int32))


def _hook(length_mm: float = 40.0, height_mm: float = 10.0) -> Mesh:
    """An L with a hole: its rectangle is mostly empty."""
    foot = Solid.cube((length_mm, 12.0, height_mm)) + Solid.cube((12.0, length_mm, height_mm))
    return _mesh(foot - Solid.cylinder(3.0 * height_mm, 2.0, circular_segments=24).translate((30.0, 6.0, -height_mm)))


def _units(meshes: Sequence[Mesh], groups: Sequence[str] | None = None) -> list[Unit]:
    named = groups or [f"job-{k}" for k in range(len(meshes))]
    return [Unit(f"part-{k}", group, (mesh,)) for k, (mesh, group) in enumerate(zip(meshes, named, strict=True))]


def _placed(units: Sequence[Unit], found: Nest) -> list[list[Mesh]]:
    return [[b.moved(move) for b in unit.bodies] for unit, move in zip(units, found.moves, strict=True) if move is not None]


# places


@pytest.mark.parametrize("process", [SLS, LPBF], ids=["cake", "plate"])
@settings(max_examples=5, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.floats(3.0, 60.0), st.floats(3.0, 60.0), st.floats(1.0, 50.0)), min_size=2, max_size=5),
    deg=st.floats(0.0, 360.0),
)
def test_whatever_is_nested_keeps_its_clearance_and_stays_inside(
    process: object, sizes: list[tuple[float, float, float]], deg: float
) -> None:
    used = SLS if process is SLS else LPBF
    units = _units([_mesh(Solid.cube(size).rotate((0.0, 0.0, deg))) for size in sizes])
    placed = _placed(units, nest(units, process=used, machine=MACHINE))
    assert len(placed) == len(sizes)
    solids = [[solid_of(body) for body in bodies] for bodies in placed]
    check_clearances(solids, [unit.name for unit in units], process=used, machine=MACHINE)
    for one in range(len(placed)):  # by another library than the check's own choice of pairs
        for other in range(one):
            gap = solids[one][0].min_gap(solids[other][0], 100.0)
            assert gap >= used.part_spacing_mm - 1e-6


@pytest.mark.parametrize("process", [SLS, LPBF], ids=["cake", "plate"])
def test_moves_turn_about_the_vertical_only_and_never_mirror(process: object) -> None:
    used = SLS if process is SLS else LPBF
    units = _units([_hook()] * 6)
    for move in nest(units, process=used, machine=MACHINE).moves:
        assert move is not None
        np.testing.assert_allclose(move[:3, :3] @ move[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(move[:3, :3]) == pytest.approx(1.0)
        np.testing.assert_allclose(move[2, :3], [0.0, 0.0, 1.0], atol=1e-12)


def test_on_a_plate_nothing_lies_above_another_and_all_stand() -> None:
    units = _units([_hook()] * 8)
    placed = _placed(units, nest(units, process=LPBF, machine=MACHINE))
    assert all(bodies[0].vertices_mm[:, 2].min() == pytest.approx(0.0, abs=1e-9) for bodies in placed)
    shadows = [shadow([solid_of(body) for body in bodies]) for bodies in placed]
    assert all(shadows[a].distance(shadows[b]) >= LPBF.part_spacing_mm for a in range(8) for b in range(a))


def test_irregular_parts_lie_closer_than_their_rectangles_could() -> None:
    """Rectangles of 83 mm leave room for four on the plate of 240 mm with 3 mm between; the hooks nest into one another."""
    units = _units([_hook(80.0)] * 7)
    found = nest(units, process=LPBF, machine=MACHINE)
    assert len(_placed(units, found)) == 7
    rectangles = [Unit(unit.name, unit.group, (_mesh(Solid.cube((80.0, 80.0, 10.0))),)) for unit in units]
    with pytest.raises(MachineError, match="have no room"):
        nest(rectangles, process=LPBF, machine=MACHINE)


def test_a_plate_with_room_keeps_parts_farther_apart_than_it_must() -> None:
    few, many = _units([_hook()] * 3), _units([_hook(80.0)] * 13)
    assert nest(few, process=LPBF, machine=MACHINE).spacing_mm == 3.0 * LPBF.part_spacing_mm
    assert nest(many, process=LPBF, machine=MACHINE).spacing_mm < 3.0 * LPBF.part_spacing_mm


def test_a_cake_is_filled_in_three_dimensions() -> None:
    units = _units([_mesh(Solid.cube((110.0, 110.0, 20.0)))] * 6)
    tops = sorted(float(b[0].vertices_mm[:, 2].max()) for b in _placed(units, nest(units, process=SLS, machine=MACHINE)))
    assert tops[:4] == pytest.approx([20.0] * 4)
    assert all(45.0 <= top <= 48.0 for top in tops[4:])  # 20 + 5 + 20 mm, and at most three cells of 1 mm


def test_the_same_units_get_the_same_places() -> None:
    units = _units([_hook(), _mesh(Solid.sphere(12.0, 32)), _hook(60.0)])
    first, second = (nest(units, process=SLS, machine=MACHINE) for _ in range(2))
    for a, b in zip(first.moves, second.moves, strict=True):
        assert a is not None
        np.testing.assert_array_equal(a, b)


def test_one_core_finds_the_same_places_as_all() -> None:
    units = _units([_mesh(Solid.cube((60.0, 35.0, 20.0)).rotate((0.0, 0.0, 17.0)))] * 12)
    cores = numba.get_num_threads()
    everywhere = nest(units, process=SLS, machine=MACHINE).moves
    try:
        numba.set_num_threads(1)
        alone = nest(units, process=SLS, machine=MACHINE).moves
    finally:
        numba.set_num_threads(cores)
    assert all(np.array_equal(a, b) for a, b in zip(everywhere, alone, strict=True))


def test_a_part_just_inside_the_box_fits_and_one_just_outside_is_refused_with_both_sizes() -> None:
    fits = _units([_mesh(Solid.cube((240.0, 240.0, 325.0)))])
    assert nest(fits, process=SLS, machine=MACHINE).moves[0] is not None
    for size in ((240.1, 240.0, 20.0), (50.0, 50.0, 325.1)):
        with pytest.raises(MachineError, match=r"at most 240.0 x 240.0 x 325.0 mm fit sim-01"):
            nest(_units([_mesh(Solid.cube(size))]), process=SLS, machine=MACHINE)


def test_the_most_urgent_jobs_are_in_whole_and_what_has_no_room_is_named() -> None:
    slab = _mesh(Solid.cube((115.0, 115.0, 10.0)))
    units = _units([slab] * 6, ["urgent", "urgent", "next", "next", "late", "late"])
    with pytest.raises(MachineError, match=r"1 of 3 jobs have no room on sim-01 with 3 mm between parts: late"):
        nest(units, process=LPBF, machine=MACHINE)
    found = nest(units, process=LPBF, machine=MACHINE, leave_out=True)
    assert found.left_out == ("late",)
    assert [move is not None for move in found.moves] == [True] * 4 + [False] * 2


def _finned() -> Mesh:
    """A block of 60 x 24 mm with thin fins across it, which stand along the blade; its job turned it by -10 degrees."""
    fins = [Solid.cube((1.0, 24.0, 8.0)).translate((3.0 + 7.5 * k, 0.0, 4.0)) for k in range(8)]
    return _mesh(Solid.batch_boolean([Solid.cube((60.0, 24.0, 4.0)), *fins], manifold3d.OpType.Add).rotate((0.0, 0.0, -10.0)))


def _flat_percent(mesh: Mesh, process: Process, machine: Machine) -> float:
    x, y, z = np.ptp(mesh.vertices_mm, axis=0).tolist()
    part = Part("finned", mesh, np.zeros(len(mesh.faces), np.int16), ("body",))
    (found,) = blade_finding(part, Stance(np.eye(3), (x, y, z), 0.0, 0.0, "as it is"), process, machine)
    return found.value


@pytest.mark.parametrize("count", [1, 6])
def test_thin_walls_stay_off_the_blade_as_in_their_job(count: int) -> None:
    mesh = _finned()
    units = _units([mesh] * count)
    assert _flat_percent(mesh, LPBF, MACHINE) == 0.0
    found = nest(units, process=LPBF, machine=MACHINE)
    assert [_flat_percent(one, LPBF, MACHINE) for (one,) in _placed(units, found)] == pytest.approx([0.0] * count, abs=1e-9)
    assert [(one.check, one.verdict, one.value) for one in found.findings] == [("orient.recoater", "pass", 0.0)] * count
    bladeless = MACHINE.model_copy(update={"recoater_deg": None})
    free = nest(units, process=LPBF, machine=bladeless)
    assert free.findings == ()
    assert min(_flat_percent(one, LPBF, MACHINE) for (one,) in _placed(units, free)) > 90.0  # what the rule keeps from them


def test_walls_that_are_flat_in_their_job_may_stay_so_and_are_told() -> None:
    mesh = _finned().moved(_about_z(10.0))
    units = _units([mesh])
    (found,) = nest(units, process=LPBF, machine=MACHINE).findings
    assert (found.verdict, "part-0" in found.what) == ("warn", True)
    assert found.value == pytest.approx(
        _flat_percent(_placed(units, nest(units, process=LPBF, machine=MACHINE))[0][0], LPBF, MACHINE)
    )


def _about_z(deg: float) -> np.ndarray:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", deg, degrees=True).as_matrix()
    return turn


def test_supports_move_with_their_part() -> None:
    part, support = _hook(), _mesh(Solid.cube((5.0, 5.0, 4.0)).translate((20.0, 4.0, 0.0)))
    part = Mesh(part.vertices_mm + np.array([0.0, 0.0, 4.0]), part.faces)
    unit = Unit("part", "job", (part, support))
    (move,) = nest([unit], process=LPBF, machine=MACHINE).moves
    assert move is not None
    assert part.moved(move).vertices_mm[:, 2].min() == pytest.approx(4.0)
    assert support.moved(move).vertices_mm[:, 2].min() == pytest.approx(0.0)


def test_columns_hold_the_surface_and_their_swelling_the_clearance() -> None:
    """Known truth: points of two balls whose columns just do not meet are at least the clearance apart."""
    ball = _mesh(Solid.sphere(7.3, 40))
    mesh = Mesh(ball.vertices_mm - ball.vertices_mm.min(axis=0), ball.faces)
    low, high = cells_of(mesh.vertices_mm, mesh.faces, step_mm=1.0, flat=False)
    cells = np.floor(mesh.vertices_mm).astype(int)
    assert (low[cells[:, 0], cells[:, 1]] <= cells[:, 2]).all()
    assert (high[cells[:, 0], cells[:, 1]] >= cells[:, 2]).all()
    wide_low, wide_high, border = swollen(low, high, clearance_mm=3.0, step_mm=1.0)
    assert border == 3
    middle = low.shape[0] // 2
    assert wide_low[middle + border, middle + border] == low[middle, middle] - 3
    assert wide_high[middle + border, middle + border] == high[middle, middle] + 3


# clearances


@pytest.mark.parametrize(("process", "apart_mm"), [(SLS, 5.0), (LPBF, 3.0)], ids=["cake", "plate"])
def test_a_pair_just_at_the_clearance_passes_and_one_just_nearer_is_named(process: object, apart_mm: float) -> None:
    used = SLS if process is SLS else LPBF
    cube = Solid.cube((20.0, 20.0, 20.0)).translate((50.0, 50.0, 0.0))
    for off_mm, fine in ((0.001, True), (-0.001, False)):
        pair = [[cube], [cube.translate((20.0 + apart_mm + off_mm, 3.0, 0.0))]]
        if fine:
            (gap,) = check_clearances(pair, ["a", "b"], process=used, machine=MACHINE)
            assert gap.gap_mm == pytest.approx(apart_mm + off_mm, abs=1e-6)
        else:
            with pytest.raises(MachineError, match=rf"a and b are {apart_mm - 0.001:.3f} mm apart, at least {apart_mm:g} mm"):
                check_clearances(pair, ["a", "b"], process=used, machine=MACHINE)


def test_a_part_that_reaches_out_of_the_box_is_named() -> None:
    for low, fine in ((5.0, True), (4.999, False)):
        body = [[Solid.cube((20.0, 20.0, 20.0)).translate((low, 50.0, 0.0))]]
        if fine:
            assert check_clearances(body, ["a"], process=SLS, machine=MACHINE) == ()
        else:
            with pytest.raises(MachineError, match=r"a reaches 0.001 mm out"):
                check_clearances(body, ["a"], process=SLS, machine=MACHINE)


def test_above_one_another_is_apart_in_a_cake_and_not_on_a_plate() -> None:
    cube = Solid.cube((20.0, 20.0, 20.0)).translate((50.0, 50.0, 0.0))
    pair = [[cube], [cube.translate((0.0, 0.0, 26.0))]]
    assert len(check_clearances(pair, ["a", "b"], process=SLS, machine=MACHINE)) == 1
    with pytest.raises(MachineError, match=r"0\.000 mm apart"):
        check_clearances(pair, ["a", "b"], process=LPBF, machine=MACHINE)


# build folders


def _job(
    folder: Path,
    keys: Path,
    case: str,
    meshes: dict[str, Mesh],
    *,
    process: str = "pa12-sls",
    hours: int = 0,
    demonstration: bool = False,
    bare: tuple[str, ...] = (),
    machine: Machine = MACHINE,
    revision: str = "",
    told: bool = True,
) -> Path:
    """A released job with real meshes, layers and manifest; its papers are stand-ins. Parts that are not bare are engraved.

    ``told``: the layer file has its user data.
    """
    parts = tuple(Part(name, mesh, np.zeros(len(mesh.faces), np.int16), ("body",)) for name, mesh in meshes.items())
    said = [
        judge(LABEL, label_words(name, f"{case} / {name}"), 0.0, "", high=0.0, source="test")
        for name in meshes
        if name not in bare
    ]
    checked = CheckedDevice(Device("cranial-implant", parts), tuple(said))
    time = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
    word = Approval("reviewer", time, "released", sha256((case + revision).encode()), "", demonstration=demonstration)
    approval = sign_approval(word, approval_key(keys, "reviewer"))
    used = load_process(process)
    build = slice_device(checked, approval, used, machine)
    due = DUE + dt.timedelta(hours=hours)
    order = Order(case=case, device="cranial-implant", side="left", process=process, machine="sim-01", due=due)
    scan = Scan(np.zeros((4, 4, 4), np.int16), np.eye(4), RECORD)
    plan = Plan("cranial-implant", True, "left")
    anatomy = Anatomy((), (), FieldOfView(np.eye(4), (4, 4, 4)))
    values = Case(scan, anatomy, plan, checked, approval, build, order, used, machine, release_key(keys))
    layers_cli = with_medical(build.layers_cli, medical_blocks(values) if told else [])
    files = {"build/plate.3mf": build.plate_3mf, "build/layers.cli": layers_cli}
    files |= {"build-report.pdf": b"report", "clinical-report.pdf": b"report"}
    if build.images:
        files["build/layers.sl1"] = build.images
    if build.toolpath is not None:
        files["build/toolpath.gcode"] = build.toolpath.gcode
    for part in parts:
        files[f"parts/{part.name}.stl"] = stl_bytes(part.mesh)
        files[f"parts/{part.name}.3mf"] = dict(build.part_3mf)[part.name]
    figures = {name: measure_triangles(stl_corners(files[f"parts/{name}.stl"])) for name in meshes}
    digests = {name: sha256(data) for name, data in files.items()}
    files["job.json"] = describe(values, figures, layers=cli_figures(build.layers_cli), digests=digests).to_bytes()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    seal(folder, release_key(keys))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    release_key(folder / "keys")
    approval_key(folder / "keys", "reviewer")
    write_allowed_signers(folder / "keys")
    return folder


@pytest.fixture(scope="module")
def jobs(site: Path) -> list[Path]:
    """Three patients; the first has two parts. All lie far from the origin, as in a scan."""
    away = np.array([30.0, -120.0, 450.0])
    hook, long_hook = (Mesh(mesh.vertices_mm + away, mesh.faces) for mesh in (_hook(), _hook(55.0, 14.0)))
    ball = _mesh(Solid.sphere(9.0, 32).translate((0.0, 10.0, 20.0)) + Solid.cube((4.0, 30.0, 8.0)))
    keys = site / "keys"
    return [
        _job(site / "jobs" / "a", keys, "case-a", {"guide": hook, "model": ball}, hours=5),
        _job(site / "jobs" / "b", keys, "case-b", {"guide": long_hook}, hours=1),
        _job(site / "jobs" / "c", keys, "case-c", {"guide": hook}, hours=9),
    ]


@pytest.fixture(scope="module")
def built(site: Path, jobs: list[Path]) -> BuildFolder:
    return nest_jobs(jobs, machine="sim-01", site=site, signers=site / "keys")


def _table() -> Mesh:
    """Two plates on a column: whichever way up it is made, something carries it."""
    plate = Solid.cube((14.0, 16.0, 2.0)).translate((-5.0, -6.0, 0.0))
    return _mesh(Solid.cube((4.0, 4.0, 6.0)) + plate.translate((0.0, 0.0, -2.0)) + plate.translate((0.0, 0.0, 6.0)))


@pytest.fixture(scope="module")
def metal_jobs(site: Path) -> list[Path]:
    """Two patients' parts of titanium, which stand on supports; the first has two parts."""
    keys, ball, table = site / "keys", _mesh(Solid.sphere(4.0, 24)), _table()
    turn = Rotation.from_euler("xyz", (25.0, -40.0, 70.0), degrees=True)
    away = turn.apply(table.vertices_mm) + np.array([90.0, -220.0, 650.0])
    return [
        _job(
            site / "jobs" / "m",
            keys,
            "case-m",
            {"guide": Mesh(away, table.faces), "model": ball},
            process="ti64-lpbf",
            told=False,
        ),
        _job(site / "jobs" / "n", keys, "case-n", {"guide": ball}, process="ti64-lpbf", told=False, hours=2),
    ]


@pytest.fixture(scope="module")
def metal(site: Path, metal_jobs: list[Path]) -> BuildFolder:
    return nest_jobs(metal_jobs, machine="sim-01", site=site, signers=site / "keys")


@pytest.fixture
def copy(built: BuildFolder, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.folder, tmp_path / "build"))


def test_a_build_verifies_and_holds_every_part_once(built: BuildFolder, site: Path) -> None:
    report = verify_build(built.folder, signers=site / "keys")
    assert report.problems == ()
    assert (report.job_id, report.signer) == (built.folder.name, "release")
    assert [(one.case, one.part) for one in built.manifest.instances] == [
        ("case-b", "guide"),
        ("case-a", "guide"),
        ("case-a", "model"),
        ("case-c", "guide"),
    ]  # by due time
    on_plate = {"plate-above.png", "plate-oblique.png"}
    layers = {f"layer-{where}.png" for where in ("low", "middle", "high")}
    assert {p.name for p in (built.folder / "pictures").iterdir()} == on_plate | layers
    assert {p.name for p in built.folder.iterdir()} == {
        *("build.json", "plate.3mf", "layers.cli", "map.png", "pictures", "jobs", "SHA256SUMS", "SHA256SUMS.sig")
    }
    schema = json.loads((SCHEMAS / "build.schema.json").read_text())
    jsonschema.validate(json.loads((built.folder / "build.json").read_bytes()), schema)


def test_map_engraving_and_job_agree_part_by_part(built: BuildFolder, jobs: list[Path]) -> None:
    manifest = read_build_manifest((built.folder / "build.json").read_bytes())
    of_job = {read_manifest((job / "job.json").read_bytes()).job: job for job in jobs}
    for one in manifest.instances:
        job = read_manifest((of_job[one.job] / "job.json").read_bytes())
        (part,) = (part for part in job.parts if part.name == one.part)
        assert (one.case, one.due, one.engraved) == (job.case, job.due, f"{job.case} / {one.part}")
        assert one.figures.triangles == part.figures.triangles
        assert one.figures.volume_mm3 == pytest.approx(part.figures.volume_mm3, rel=1e-5)
        assert one.sums_sha256 == sha256((of_job[one.job] / "SHA256SUMS").read_bytes())
    shadows = [
        shadow([solid_of(Mesh(b.vertices_mm, b.triangles.astype(np.int32)).moved(b.pose))])
        for b in threemf_bodies((built.folder / "plate.3mf").read_bytes())
    ]
    assert map_png(manifest, shadows, MACHINE) == (built.folder / "map.png").read_bytes()


def _engraved(case: str, name: str) -> Part:
    """A block with case and part engraved in its upper face, turned as a part lies in a patient."""
    turn, at = Rotation.from_euler("xyz", (20.0, -35.0, 50.0), degrees=True).as_matrix(), np.array([60.0, -110.0, 420.0])
    pose = np.block([[turn, at[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
    text = engraved((case, name), SLS, middle_mm=at, right=turn[:, 0], up=turn[:, 1], length_mm=70.0, thick_mm=4.0)
    block = box_solid(np.array([-35.0, -9.0, -4.0]), np.array([35.0, 9.0, 0.0]), "block", pose=pose)
    return to_part(difference(block, *(solid_from_mesh(mark.mesh, "label") for mark in text), what="label"), name)


def test_the_label_read_from_each_body_on_the_plate_is_that_of_the_map_and_of_its_job(site: Path) -> None:
    """What a person reads off the printed part: the letters' own triangles, from the file that is printed."""
    parts = {
        (case, name): _engraved(case, name) for case, name in (("case-r", "guide"), ("case-r", "model"), ("case-s", "guide"))
    }
    made = [
        _job(site / "jobs" / case, site / "keys", case, {name: part.mesh for (of, name), part in parts.items() if of == case})
        for case in ("case-r", "case-s")
    ]
    build = nest_jobs(made, machine="sim-01", site=site, signers=site / "keys")
    plate = {body.name: body for body in threemf_bodies((build.folder / "plate.3mf").read_bytes())}
    for one in build.manifest.instances:
        body, meant = plate[one.label], parts[one.case, one.part]
        lying = Mesh(body.vertices_mm, body.triangles.astype(np.int32)).moved(body.pose)
        picture = pictured(Part(one.part, lying, meant.face_labels, meant.labels), "label", height_mm=letters_mm(SLS))
        assert picture is not None
        assert " / ".join(read_label(picture).lines) == one.engraved == f"{one.case} / {one.part}"


def test_each_body_on_the_plate_is_its_jobs_moved_and_its_layers_fill_it(built: BuildFolder, jobs: list[Path]) -> None:
    items = {item.name: item for item in read_3mf((built.folder / "plate.3mf").read_bytes())}
    layers = read_cli((built.folder / "layers.cli").read_bytes())
    assert [label for label in layers.labels if region_of(label) is None] == [one.label for one in built.manifest.instances]
    for index, one in enumerate(built.manifest.instances):
        folder = next(job for job in jobs if read_manifest((job / "job.json").read_bytes()).job == one.job)
        (single,) = read_3mf((folder / f"parts/{one.part}.3mf").read_bytes())
        wanted = single.mesh.moved(np.array(one.transform)).vertices_mm
        placed = items[one.label].mesh.moved(items[one.label].pose)
        np.testing.assert_allclose(placed.vertices_mm, wanted, atol=1e-3)
        volume = float(layers.layers.area_mm2(index).sum()) * SLS.layer_mm
        assert volume == pytest.approx(solid_of(placed).volume(), rel=0.02)


def test_the_same_jobs_in_any_order_give_the_same_bytes(built: BuildFolder, site: Path, jobs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(site / "keys", tmp_path / "keys")
    again = nest_jobs(jobs[::-1], machine="sim-01", site=tmp_path)
    names = sorted(p.relative_to(built.folder) for p in built.folder.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(again.folder) for p in again.folder.rglob("*") if p.is_file())
    assert all((built.folder / name).read_bytes() == (again.folder / name).read_bytes() for name in names)
    assert again.folder.name == built.folder.name


def test_supports_come_after_the_parts_and_are_filled_as_in_their_job(metal: BuildFolder, metal_jobs: list[Path]) -> None:
    told = [(one.stage, one.check) for one in metal.manifest.findings]  # of each part, whether thin walls meet the blade flat
    assert told == [("nest", "orient.recoater")] * sum(one.kind == "part" for one in metal.manifest.instances)
    instances = metal.manifest.instances
    assert [one.kind for one in instances] == ["part"] * 3 + ["supports"] * 3
    drawn = {one.body: {entry.region for entry in metal.manifest.drawn if entry.body == one.body} for one in metal.manifest.drawn}
    assert set(drawn) == {one.label for one in instances}
    assert all((drawn[one.label] == {"contour"}) == (one.kind == "supports") for one in instances)
    assert all({"contour", "core", "down-skin"} <= drawn[one.label] for one in instances if one.kind == "part")
    jobs = [read_manifest((job / "job.json").read_bytes()) for job in metal_jobs]
    for one in instances[3:]:
        (support,) = (s for job in jobs for s in job.build.supports if (job.case, s.part) == (one.case, one.part))
        assert one.figures.volume_mm3 == pytest.approx(support.figures.volume_mm3, rel=1e-5)
    plate = metal.manifest.plate
    parts_mm3 = sum(one.figures.volume_mm3 for one in instances[:3])
    supports_mm3 = sum(s.volume_mm3 for job in jobs for s in job.build.supports)
    assert plate.part_volume_mm3 == pytest.approx(parts_mm3, rel=1e-5)
    assert plate.material_g == pytest.approx((parts_mm3 + supports_mm3) * LPBF.density_g_per_mm3, rel=1e-5)


def test_the_plate_holds_what_must_be_kept_of_it_and_a_thumbnail(metal: BuildFolder) -> None:
    with zipfile.ZipFile(metal.folder / "plate.3mf") as archive:
        kept = json.loads(archive.read("Metadata/batchone.json"))
        assert "mustpreserve" in archive.read("3D/_rels/3dmodel.model.rels").decode() + archive.read("_rels/.rels").decode()
        with Image.open(archive.open("Metadata/thumbnail.png")) as picture:
            assert picture.size == (256, 256)
    assert (kept["build"], kept["process"], kept["layer_mm"]) == (metal.manifest.build, "ti64-lpbf", LPBF.layer_mm)
    told = [(one["label"], one["job"], one["kind"], one["part"]) for one in kept["parts"]]
    assert told == [(one.label, one.job, one.kind, one.part) for one in metal.manifest.instances]


def _write_tree(folder: Path, tree: object) -> None:
    (folder / "build.json").write_bytes((json.dumps(tree, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode())


def test_a_removed_support_is_named(metal: BuildFolder, site: Path, tmp_path: Path) -> None:
    """Taken out of all three files, so that they agree with one another."""
    copy = Path(shutil.copytree(metal.folder, tmp_path / "build"))
    last = metal.manifest.instances[-1]
    tree = json.loads((copy / "build.json").read_bytes())
    drawn = [entry for entry in tree["drawn"] if entry["body"] != last.label]
    _write_tree(copy, {**tree, "instances": tree["instances"][:-1], "drawn": drawn})
    _rewrite_plate(copy, lambda items: items[:-1])
    read = read_cli((copy / "layers.cli").read_bytes())
    gone = read.labels.index(last.label)
    number = np.arange(len(read.labels), dtype=np.int32) - (np.arange(len(read.labels)) > gone)
    kept = replace(read.layers, loop_part=np.where(read.layers.loop_part == gone, len(number), read.layers.loop_part)).of_first(
        len(number)
    )
    layers = replace(kept, loop_part=number[kept.loop_part].astype(np.int32))
    hatches = replace(read.hatches, part=number[read.hatches.part].astype(np.int32))
    (copy / "layers.cli").write_bytes(write_cli(layers, [*read.labels[:gone], *read.labels[gone + 1 :]], hatches))
    seal(copy, release_key(site / "keys"))
    problems = verify_build(copy, signers=site / "keys").problems
    words = f"its bodies are {last.part}, supports of {last.part}; the build holds {last.part}"
    assert [(p.file, p.text) for p in problems] == [(f"jobs/{last.job}/job.json", words)]


def test_a_support_exchanged_for_that_of_another_part_is_named(metal: BuildFolder, site: Path, tmp_path: Path) -> None:
    """In all three files, each under the label of the other."""
    copy = Path(shutil.copytree(metal.folder, tmp_path / "build"))
    tree = json.loads((copy / "build.json").read_bytes())
    first, second = tree["instances"][3:5]
    names = ("transform", "box_low_mm", "box_high_mm", "figures", "mesh_sha256", "layers")
    exchanged = [{**first, **{n: second[n] for n in names}}, {**second, **{n: first[n] for n in names}}]
    labels = {first["label"]: second["label"], second["label"]: first["label"]}
    drawn = [{**one, **{key: labels.get(one[key], one[key]) for key in ("label", "body")}} for one in tree["drawn"]]
    _write_tree(copy, {**tree, "instances": [*tree["instances"][:3], *exchanged, *tree["instances"][5:]], "drawn": drawn})
    _rewrite_plate(copy, lambda items: [replace(item, name=labels.get(item.name, item.name)) for item in items])
    read = read_cli((copy / "layers.cli").read_bytes())
    (copy / "layers.cli").write_bytes(write_cli(read.layers, [labels.get(name, name) for name in read.labels], read.hatches))
    seal(copy, release_key(site / "keys"))
    problems = verify_build(copy, signers=site / "keys").problems
    assert {p.file for p in problems} == {"build.json"}
    for one in (first, second):
        assert any(p.text.startswith(f"{one['label']}: volume is") and "by its job.json" in p.text for p in problems), problems


def test_supports_that_no_longer_carry_their_part_are_named(metal: BuildFolder, site: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(metal.folder, tmp_path / "build"))
    tree = json.loads((copy / "build.json").read_bytes())
    for off_mm, named in ((0.003, False), (0.007, True)):
        changed = json.loads(json.dumps(tree))
        changed["instances"][3]["transform"][0][3] = round(changed["instances"][3]["transform"][0][3] + off_mm, 6)
        _write_tree(copy, changed)
        seal(copy, release_key(site / "keys"))
        problems = verify_build(copy, signers=site / "keys").problems
        assert any("from where it carries its part" in p.text for p in problems) == named, problems


def test_labels_and_numbers_are_rebuilt(copy: Path, site: Path) -> None:
    tree = json.loads((copy / "build.json").read_bytes())
    first, second = tree["instances"][:2]
    for changed, words in (
        ([{**first, "label": second["label"]}, {**second, "label": first["label"]}], f"its label must be {first['label']}"),
        ([{**first, "number": 7}, second], "numbers are 7, 2, 3, 4; must be 1 to 4"),
    ):
        _write_tree(copy, {**tree, "instances": [*changed, *tree["instances"][2:]]})
        seal(copy, release_key(site / "keys"))
        problems = verify_build(copy, signers=site / "keys").problems
        assert any(p.file == "build.json" and words in p.text for p in problems), problems


def _rewrite_plate(copy: Path, change: Callable[[list[Item]], list[Item]]) -> None:
    bodies = threemf_bodies((copy / "plate.3mf").read_bytes())  # to the last digit; lib3mf reads 32-bit numbers
    items = change([Item(one.name, Mesh(one.vertices_mm, one.triangles.astype(np.int32)), one.pose) for one in bodies])
    (copy / "plate.3mf").write_bytes(write_3mf(items, title="build", notes={}))


def _shifted(item: Item, mm: float) -> Item:
    pose = item.pose.copy()
    pose[0, 3] += mm
    return replace(item, pose=pose)


_PLATES: dict[str, tuple[Callable[[list[Item]], list[Item]], str]] = {
    "removed": (lambda items: items[:-1], "is not there"),
    "twice": (lambda items: [*items, _shifted(items[0], 0.0)], "is there 2 times"),
    "moved": (lambda items: [_shifted(items[0], 0.01), *items[1:]], "from where its transform puts it"),
    "swapped": (
        lambda items: [replace(items[1], name=items[0].name), replace(items[0], name=items[1].name), *items[2:]],
        "triangles are not those",
    ),
    "changed": (
        lambda items: [replace(items[0], mesh=Mesh(items[0].mesh.vertices_mm * 1.001, items[0].mesh.faces)), *items[1:]],
        "volume is",
    ),
    "foreign": (lambda items: [*items, replace(items[0], name="99-case-x-guide")], "is not in build.json"),
}


@pytest.mark.parametrize("what", _PLATES)
def test_a_plate_that_was_changed_and_sealed_again_is_found_by_value(what: str, copy: Path, site: Path) -> None:
    change, words = _PLATES[what]
    _rewrite_plate(copy, change)
    assert ("changed", "plate.3mf") in {(p.kind, p.file) for p in verify_build(copy, signers=None).problems}
    seal(copy, release_key(site / "keys"))
    problems = verify_build(copy, signers=site / "keys").problems
    assert any(p.file == "plate.3mf" and p.kind == "off" and words in p.text for p in problems), problems


def test_layers_without_a_part_with_swapped_labels_or_moved_contours_are_found(copy: Path, site: Path) -> None:
    read = read_cli((copy / "layers.cli").read_bytes())
    swapped = [read.labels[1], read.labels[0], *read.labels[2:]]
    moved = read.layers.points_mm.copy()
    moved[:, 0] += 0.05
    renamed = ["04-case-x-guide" if name == read.labels[2] else name for name in read.labels]
    for layers, labels, words in (
        (read.layers, swapped, "areas_sha256"),
        (replace(read.layers, points_mm=moved), read.labels, "its layers lie elsewhere"),
        (read.layers, renamed, "is not there"),
    ):
        (copy / "layers.cli").write_bytes(write_cli(layers, labels, read.hatches))
        seal(copy, release_key(site / "keys"))
        problems = verify_build(copy, signers=site / "keys").problems
        assert any(p.file == "layers.cli" and words in p.text for p in problems), (words, problems)


def test_a_build_that_says_other_than_its_jobs_is_found(copy: Path, site: Path) -> None:
    tree = json.loads((copy / "build.json").read_bytes())
    kept = (copy / "build.json").read_bytes()
    for key, value in (("engraved", "case-z / guide"), ("case", "case-z"), ("due", "2027-01-01T00:00:00Z")):
        changed = json.loads(json.dumps(tree))
        changed["instances"][0][key] = value
        (copy / "build.json").write_bytes((json.dumps(changed, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode())
        seal(copy, release_key(site / "keys"))
        problems = verify_build(copy, signers=site / "keys").problems
        assert any("is not that of its job.json" in p.text for p in problems), (key, problems)
    (copy / "build.json").write_bytes(kept)
    seal(copy, release_key(site / "keys"))
    assert verify_build(copy, signers=site / "keys").ok


def test_the_layer_file_of_a_plate_says_how_each_patient_lies(built: BuildFolder, metal: BuildFolder) -> None:
    blocks = read_header((built.folder / "layers.cli").read_bytes())[0].medical
    assert len(blocks) == len(built.manifest.instances)
    for said, one in zip(blocks, built.manifest.instances, strict=True):
        assert (said["patient-id"], said["source-id"], said["study-id"]) == (one.case, f"batchone {one.label}", "ab" * 8)
        front, head = (np.fromstring(said[key].strip("()"), sep=",") for key in ("front-vector", "head-vector"))
        turn = np.array(one.transform)[:3, :3]
        np.testing.assert_allclose(turn.T @ front, [0.0, -1.0, 0.0], atol=5e-6)
        np.testing.assert_allclose(turn.T @ head, [0.0, 0.0, 1.0], atol=5e-6)
    assert read_header((metal.folder / "layers.cli").read_bytes())[0].medical == ()  # its jobs say nothing
    assert [one.user_data for one in metal.manifest.instances if one.user_data] == []


def test_user_data_that_are_gone_exchanged_or_anothers_are_found(copy: Path, site: Path) -> None:
    data, kept = (copy / "layers.cli").read_bytes(), (copy / "build.json").read_bytes()
    blocks = read_header(data)[0].medical

    def texts() -> list[str]:
        seal(copy, release_key(site / "keys"))
        return [problem.text for problem in verify_build(copy, signers=site / "keys").problems]

    for changed, words in (
        ([*blocks[1:]], "3 blocks of user data, must be 4"),
        ([blocks[1], blocks[0], *blocks[2:]], "are not those of"),
    ):
        (copy / "layers.cli").write_bytes(with_medical(data, changed))
        assert any(words in text for text in texts())
    for key, value in (
        ("patient-id", "case-z"),
        ("study-id", "0" * 16),
        ("head-vector", "(0.000000,0.000000,9.000000)"),
        ("head-vector", "up"),
    ):
        tree = json.loads(kept)
        tree["instances"][0]["user_data"][key] = value
        _write_tree(copy, tree)
        (copy / "layers.cli").write_bytes(with_medical(data, [one["user_data"] for one in tree["instances"]]))
        assert any(f"{key} of its user data is {value}" in text for text in texts()), key


def test_a_build_of_an_earlier_version_is_still_read_and_verified(copy: Path, site: Path) -> None:
    tree = json.loads((copy / "build.json").read_bytes())
    assert tree["plate"]["seconds_low"] < tree["plate"]["seconds"] < tree["plate"]["seconds_high"]
    for key in ("seconds_low", "seconds_high"):
        del tree["plate"][key]
    del tree["findings"]
    for one in tree["instances"]:
        del one["user_data"]
    (copy / "layers.cli").write_bytes(with_medical((copy / "layers.cli").read_bytes(), []))
    _write_tree(copy, tree)
    seal(copy, release_key(site / "keys"))
    assert read_build_manifest((copy / "build.json").read_bytes()).plate.seconds_high == 0.0
    assert verify_build(copy, signers=site / "keys").problems == ()


def test_every_file_changed_by_one_bit_is_named(copy: Path) -> None:
    for name in sorted(p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        found = {p.file for p in verify_build(copy, signers=None).problems}
        assert name in found or (name.startswith("SHA256SUMS") and "SHA256SUMS.sig" in found), name
        (copy / name).write_bytes(data)
    assert verify_build(copy, signers=None).ok


@pytest.mark.parametrize("name", ["plate.3mf", "layers.cli", "build.json"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"{}", b"$$HEADERSTART"])
def test_rubbish_is_a_problem_and_no_crash(copy: Path, site: Path, name: str, data: bytes) -> None:
    (copy / name).write_bytes(data)
    seal(copy, release_key(site / "keys"))
    assert not verify_build(copy, signers=None).ok


def test_jobs_that_do_not_go_together_are_refused_by_name(site: Path, jobs: list[Path], tmp_path: Path) -> None:
    def refused(folders: list[Path], words: str, machine: str = "sim-01", signers: Path | None = None) -> None:
        with pytest.raises(MachineError, match=words) as caught:
            nest_jobs(folders, machine=machine, site=tmp_path, signers=signers)
        assert caught.value.exit_code == 5
        assert caught.value.hint
        assert not list((tmp_path / "builds").glob("*")) if (tmp_path / "builds").exists() else True

    shutil.copytree(site / "keys", tmp_path / "keys")
    refused([jobs[0], jobs[1], jobs[0]], "of case case-a was given 2 times, at most once")
    titanium = _job(tmp_path / "ti", site / "keys", "case-t", {"implant": _hook()}, process="ti64-lpbf", hours=20)
    refused([jobs[0], titanium], "of case case-t is made by ti64-lpbf, the others by pa12-sls")
    revised = _job(tmp_path / "new", site / "keys", "case-b", {"guide": _hook(50.0)}, hours=20, revision="2")
    refused([jobs[1], revised], "of case case-b makes guide of cranial-implant, and so does job")
    shown = _job(tmp_path / "shown", site / "keys", "case-d", {"guide": _hook()}, demonstration=True)
    refused([jobs[1], shown], "of case case-d is approved for demonstration only; of 2 jobs 1 are not")
    broken = Path(shutil.copytree(jobs[0], tmp_path / "broken"))
    (broken / "parts/guide.stl").unlink()
    refused([broken, jobs[1]], "does not verify.*parts/guide.stl")
    strangers = tmp_path / "other"
    release_key(strangers)
    refused(jobs, "does not verify.*SHA256SUMS.sig", signers=write_allowed_signers(strangers))


def test_a_job_released_elsewhere_needs_its_signers_named(site: Path, jobs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"does not verify.*SHA256SUMS\.sig.*not allowed") as caught:
        nest_jobs([jobs[2]], machine="sim-01", site=tmp_path)
    assert "--signers" in caught.value.hint
    assert nest_jobs([jobs[2]], machine="sim-01", site=tmp_path, signers=site / "keys").manifest.instances


def test_a_withdrawn_job_is_refused_and_a_build_that_carries_it_is_off(
    built: BuildFolder, site: Path, jobs: list[Path], tmp_path: Path
) -> None:
    job, sums = read_manifest((jobs[0] / "job.json").read_bytes()).job, sha256((jobs[0] / "SHA256SUMS").read_bytes())
    now = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
    one = WithdrawnJob(job=job, sums_sha256=sums, case="case-a", what="cancelled", when=now)
    other = one.model_copy(update={"job": "f" * 16, "sums_sha256": "f" * 64})
    assert verify_build(built.folder, signers=site / "keys", withdrawn=(other,)).ok
    for named in (one, other.model_copy(update={"sums_sha256": sums}), other.model_copy(update={"job": job})):  # by either
        problems = verify_build(built.folder, signers=site / "keys", withdrawn=(named,)).problems
        assert [(problem.kind, problem.file) for problem in problems] == [("withdrawn", f"jobs/{job}/job.json")]
    shutil.copytree(site / "keys", tmp_path / "keys")
    publish_withdrawn(tmp_path, (one,))
    with pytest.raises(MachineError, match=f"job {job} does not verify: 1 problems, at most 0; withdrawn"):
        nest_jobs(jobs, machine="sim-01", site=tmp_path)


def test_a_job_of_another_profile_or_machine_than_todays_is_refused(site: Path, jobs: list[Path], tmp_path: Path) -> None:
    """Its layers, places and hatches were approved by numbers that the plate would not be made with."""
    shutil.copytree(site / "keys", tmp_path / "keys")
    folder = Path(slicer.__file__ or "").parent
    for kind, name, old, new in (
        ("processes", "pa12-sls", "part_spacing_mm = 5.0", "part_spacing_mm = 5.5"),
        ("machines", "sim-01", "plate_margin_mm = 5.0", "plate_margin_mm = 6.0"),
    ):
        text = (folder / kind / f"{name}.toml").read_text()
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{name}.toml").write_text(text.replace(old, new))
        with pytest.raises(
            MachineError, match=r"case-c was made by profiles \w{12}\.\.\.; pa12-sls and sim-01 are now"
        ) as caught:
            nest_jobs([jobs[2]], machine="sim-01", site=tmp_path)
        assert (caught.value.exit_code, caught.value.hint) == (5, "run the case again with the profiles of today")
        shutil.rmtree(tmp_path / kind)
    text = (folder / "machines/sim-01.toml").read_text().replace('"sim-01"', '"other"')
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines/other.toml").write_text(text)
    with pytest.raises(MachineError, match="case-c was made for machine sim-01, the plate is for other"):
        nest_jobs([jobs[2]], machine="other", site=tmp_path)


def test_a_job_whose_toolpath_is_its_own_is_refused(jobs: list[Path]) -> None:
    manifest = read_manifest((jobs[2] / "job.json").read_bytes())
    printed = Released(manifest.model_copy(update={"process": "pla-fff"}), (), ())
    with pytest.raises(MachineError, match="case-c is made by pla-fff: its toolpath is its own and cannot be nested") as caught:
        refuse_strangers([printed], load_process("pla-fff"), MACHINE)
    assert "print each job alone" in caught.value.hint


def test_a_build_of_demonstrations_says_so_and_names_parts_without_engraving(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "keys", tmp_path / "keys")
    job = _job(tmp_path / "job", site / "keys", "case-d", {"guide": _hook()}, demonstration=True, bare=("guide",))
    command = [sys.executable, "-m", "batchone.pipeline", "nest", str(job), "--machine", "sim-01", "--out", str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Approved for demonstration only" in said.stdout.splitlines()
    assert "without engraved text" in said.stderr
    (folder,) = (tmp_path / "builds").iterdir()
    manifest = read_build_manifest((folder / "build.json").read_bytes())
    assert manifest.demonstration
    assert manifest.notes == ("without engraved text, to be told apart by the map: 01-case-d-guide",)
    with Image.open(folder / "map.png") as picture:
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
    assert ((red > 180) & (green < 60) & (blue < 60)).sum() > 100
    tree = json.loads((folder / "build.json").read_bytes())
    _write_tree(folder, {**tree, "demonstration": False})
    seal(folder, release_key(tmp_path / "keys"))
    assert any("demonstration is False" in problem.text for problem in verify_build(folder, signers=None).problems)


def test_a_plate_of_resin_holds_the_images_of_its_layers(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "keys", tmp_path / "keys")
    block = _mesh(Solid.cube((6.0, 5.0, 1.0)))
    job = _job(tmp_path / "job", site / "keys", "case-v", {"guide": block}, process="guide-resin")
    made = nest_jobs([job], machine="sim-01", site=tmp_path)
    bodies = threemf_bodies((made.folder / "plate.3mf").read_bytes())
    meshes = [Mesh(one.vertices_mm, one.triangles.astype(np.int32)).moved(one.pose) for one in bodies]
    layers = slice_parts(meshes, made.manifest.plate.layer_mm)
    images = (made.folder / "layers.sl1").read_bytes()
    assert MACHINE.mask is not None
    assert all(finding.verdict == "pass" for finding in image_findings(images, layers, MACHINE.mask))
    assert made.manifest.images is not None
    assert made.manifest.images.figures.images == made.manifest.plate.layers
    (made.folder / "layers.sl1").unlink()
    seal(made.folder, release_key(tmp_path / "keys"))
    assert ("missing", "layers.sl1") in {(p.kind, p.file) for p in verify_build(made.folder, signers=None).problems}


def test_a_plate_of_resin_without_a_mask_says_that_it_has_no_images(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "keys", tmp_path / "keys")
    text = (Path(slicer.__file__ or "").parent / "machines/sim-01.toml").read_text()
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines/sim-01.toml").write_text(text[: text.index("[mask]")])
    blind, block = load_machine("sim-01", tmp_path), _mesh(Solid.cube((6.0, 5.0, 1.0)))
    job = _job(tmp_path / "job", site / "keys", "case-v", {"guide": block}, process="guide-resin", machine=blind)
    made = nest_jobs([job], machine="sim-01", site=tmp_path)
    assert not (made.folder / "layers.sl1").exists()
    assert [note for note in made.manifest.notes if "no images of layers: the profile of sim-01 has no mask" in note]
    assert verify_build(made.folder, signers=tmp_path / "keys").ok


def test_the_command_writes_the_build_and_verify_knows_it(
    built: BuildFolder, site: Path, jobs: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(site / "keys", tmp_path / "keys")
    run = [sys.executable, "-m", "batchone.pipeline"]
    command = [*run, "nest", *map(str, jobs), "--machine", "sim-01", "--out", str(tmp_path), "--json"]
    made = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    jsonschema.validate(made, json.loads((SCHEMAS / "nest.schema.json").read_text()))
    assert (made["build"], made["bodies"], made["left_out"]) == (built.folder.name, 4, [])
    assert made["seconds_low"] == pytest.approx(made["seconds"] * (1.0 - SLS.time_within))
    assert made["seconds_high"] == pytest.approx(made["seconds"] * (1.0 + SLS.time_within))
    told = subprocess.run([part for part in command if part != "--json"], check=True, capture_output=True, text=True).stdout
    assert f"between {made['seconds_low'] / 3600.0:.1f} and {made['seconds_high'] / 3600.0:.1f} h" in told
    verified = subprocess.run([*run, "verify", made["folder"], "--json"], check=True, capture_output=True, text=True)
    report = json.loads(verified.stdout)
    jsonschema.validate(report, json.loads((SCHEMAS / "verify.schema.json").read_text()))
    assert report == {"ok": True, "build": made["build"], "problems": []}
    (Path(made["folder"]) / "map.png").unlink()
    refused = subprocess.run([*run, "verify", made["folder"]], check=False, capture_output=True, text=True)
    assert (refused.returncode, "missing: map.png" in refused.stdout) == (5, True)


def test_a_layer_of_a_build_is_shown_as_one_of_a_job_is(built: BuildFolder, tmp_path: Path) -> None:
    picture, slices = tmp_path / "layer.png", tmp_path / "slices.3mf"
    shown = layer_at(built.folder, 3.05, picture, slices=slices)
    jsonschema.validate(shown, json.loads((SCHEMAS / "layers.schema.json").read_text()))
    read = read_cli((built.folder / "layers.cli").read_bytes())
    assert (shown["layers"], shown["layer"]) == (built.manifest.plate.layers, int(np.searchsorted(read.top_mm, 3.05)) + 1)
    assert shown["loops"] >= len(built.manifest.instances)  # all stand on or near the floor of the cake, guides have a hole
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert zipfile.is_zipfile(slices)
    top_mm = float(read.top_mm[-1])
    with pytest.raises(MachineError, match=f"the build goes from 0 to {top_mm:g} mm"):
        layer_at(built.folder, top_mm + 0.01)
    (tmp_path / "build.json").write_bytes(b"{}")
    with pytest.raises(MachineError, match=r"build folder has no layers\.cli"):
        layer_at(tmp_path, 1.0)


def test_verifying_a_build_loads_no_heavy_library(built: BuildFolder) -> None:
    code = (
        "import sys; from pathlib import Path; from batchone.pipeline.build.verify import verify_build;"
        f"assert verify_build(Path({str(built.folder)!r}), signers=None).ok;"
        "print([m for m in ('numba', 'lib3mf', 'scipy', 'manifold3d', 'shapely', 'PIL') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_label_is_read_from_the_words_that_carry_it() -> None:
    words = label_words("guide-t10", "a-1 / T10 1of1 #03A8")
    assert label_said("guide-t10", words + "; no room for #03A8") == "a-1 / T10 1of1 #03A8"
    assert label_said("guide-t9", words) is None
    assert label_said("guide-t10", "guide-t10: arrow of the label, away from the head") is None


def test_a_rotated_job_is_nested_as_well(site: Path, tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (25.0, -40.0, 70.0), degrees=True).as_matrix()
    turn[:3, 3] = (-200.0, 90.0, -600.0)
    shutil.copytree(site / "keys", tmp_path / "keys")
    job = _job(tmp_path / "job", site / "keys", "case-r", {"guide": _hook().moved(turn)})
    built = nest_jobs([job], machine="sim-01", site=tmp_path)
    assert verify_build(built.folder, signers=tmp_path / "keys").ok


def test_the_shipped_schema_of_the_build_file_is_that_of_the_model() -> None:
    shipped = json.loads((SCHEMAS / "build.schema.json").read_text())
    assert shipped == json.loads(json.dumps(BuildManifest.model_json_schema(by_alias=True)))


def test_a_cell_prints_a_plate_and_its_record_names_every_part_of_every_patient(
    metal: BuildFolder, metal_jobs: list[Path], site: Path, tmp_path: Path
) -> None:
    today = dt.date(2026, 11, 30)
    facts = {"powder lot": "TEST-1", "powder supplier": "TEST^SUPPLIER", "times sieved and used": "2"}
    lot = Lot(material="Ti-6Al-4V ELI", lot="TEST-1", expires=today, facts=facts)
    calibration = Calibration(name="laser power", done=today, due=today)
    settings = CellSettings(
        name="cell-1", machine="sim-01", serial="TWIN-1", driver="twin", lots=(lot,), calibrations=(calibration,)
    )
    other = tmp_path / "other" / "inbox"
    for inbox in (tmp_path / "inbox", other):
        inbox.mkdir(parents=True)
    dispatch(metal.folder, tmp_path / "inbox")
    cell = Cell(
        tmp_path / "cell", settings, Inbox(tmp_path / "inbox"), TwinDriver("sim-01", seed=1, speed=1e6, chance=False),
        signers=site / "keys", now=lambda: dt.datetime(2026, 11, 30, 8, 0, tzinfo=dt.UTC),
    )  # fmt: skip
    assert cell.step()
    built = read_as_built(cell.records / f"{metal.folder.name}-1")
    assert (built.verdict, built.layers_built) == ("printed", metal.manifest.plate.layers)
    wanted = {(one.case, one.job, one.part) for one in metal.manifest.instances if one.kind == "part"}
    assert {(body.case, body.job, body.part) for body in built.bodies} == wanted
    assert {body.case for body in built.bodies} == {"case-m", "case-n"}
    dispatch(metal.folder, other)
    shutil.copytree(metal_jobs[1], other / metal.folder.name / "jobs" / "strange")
    cell.inbox = Inbox(other)
    assert cell.step()
    assert cell.inbox.entry(metal.folder.name).state == "refused"
