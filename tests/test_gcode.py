"""FFF by the real PrusaSlicer: what it makes, what is found wrong with it, and what happens when it is not there or fails."""

from __future__ import annotations

import datetime as dt
import io
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import manifold3d
import numpy as np
import pytest

from batchone.pipeline.diagnosis import diagnose
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.toolpath import toolpath_figures
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.pipeline.values import Approval, Build, CheckedDevice, Device, FunctionalFace, Mesh, Part, Placement
from batchone.slicer import gcode, make
from batchone.slicer.gcode import config_text, make_toolpath, painted_3mf, setting, without_clock
from batchone.slicer.layers import Layers, slice_parts
from batchone.slicer.make import slice_device
from batchone.slicer.motion import simulate
from batchone.slicer.moves import SUPPORT, read_moves
from batchone.slicer.orient import Stance
from batchone.slicer.profiles import load_machine, load_process, process_names
from batchone.slicer.threemf import read_3mf
from batchone.slicer.toolpath import toolpath_findings

Solid = manifold3d.Manifold
MACHINE = load_machine("sim-01")
FFF = [name for name in process_names() if load_process(name).kind == "fff"]
APPROVAL = Approval("TEST^ALPHA", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "release", "ab" * 32, "")
needs_program = pytest.mark.skipif(shutil.which("prusa-slicer") is None, reason="needs the Debian package prusa-slicer")


def part_of(solid: Solid, name: str = "part") -> Part:
    out = solid.to_mesh64()
    mesh = Mesh(np.array(out.vert_properties[:, :3]), np.array(out.tri_verts).astype(np.int32))
    return Part(name, mesh, np.zeros(len(mesh.faces), np.int16), ("all",))


def bracket() -> Solid:
    """An angle with a boss and a hole: no symmetry."""
    boss = Solid.cylinder(6, 3, 3, 32).translate((20, 8, 0))
    return Solid.cube((28, 14, 4)) + Solid.cube((6, 14, 12)) + boss - Solid.cylinder(9, 2, 2, 32).translate((13, 4, -1))


def table() -> Part:
    """A plate on one leg; its underside is functional where asked for."""
    part = part_of(Solid.cube((4, 12, 8)) + Solid.cube((16, 12, 3)).translate((0, 0, 8)), "table")
    corners = part.mesh.vertices_mm[part.mesh.faces]
    under = (corners[:, :, 2] == 8.0).all(axis=1)
    face = FunctionalFace("under", "lies on the bone", 0.3)
    return replace(part, face_labels=under.astype(np.int16), labels=("rest", "under"), functional_faces=(face,))


def standing(part: Part, at: tuple[float, float] = (100.0, 110.0)) -> Placement:
    low = part.mesh.vertices_mm.min(axis=0)
    pose = np.eye(4)
    pose[:3, 3] = np.array([*at, 0.0]) - low
    return Placement(part.name, pose, "as it is")


class Made:
    """Parts with their toolpath; ``judged`` measures another file in its place."""

    def __init__(self, name: str, *parts: Part) -> None:
        self.process = load_process(name)
        self.parts = parts
        self.placements = tuple(standing(part, (60.0 + 50.0 * k, 110.0)) for k, part in enumerate(parts))
        self.toolpath = make_toolpath(parts, self.placements, process=self.process, machine=MACHINE)
        placed = [part.mesh.moved(placement.pose) for part, placement in zip(parts, self.placements, strict=True)]
        self.layers: Layers = slice_parts(placed, self.process.layer_mm)

    def judged(self, data: bytes | None = None) -> dict[str, tuple[str, float]]:
        data = self.toolpath.gcode if data is None else data
        moves = read_moves(data)
        findings = toolpath_findings(
            data, moves, simulate(moves), parts=self.parts, placements=self.placements, layers=self.layers,
            config=config_text(self.process), process=self.process, machine=MACHINE,
        )  # fmt: skip
        order = {"fail": 2, "warn": 1, "pass": 0}
        found: dict[str, tuple[str, float]] = {}
        for one in sorted(findings, key=lambda finding: order[finding.verdict]):
            found[one.check] = (one.verdict, one.value)
        return found

    def wrong(self, data: bytes) -> set[str]:
        return {check for check, (verdict, _) in self.judged(data).items() if verdict == "fail"}


@pytest.fixture(scope="module")
def peek() -> Made:
    return Made("peek-fff", part_of(bracket(), "bracket"), part_of(Solid.cylinder(6, 5, 2, 32), "cone"))


@pytest.fixture(scope="module")
def pla() -> Made:
    return Made("pla-fff", part_of(bracket(), "bracket"), part_of(Solid.sphere(7, 32), "ball"))


# profiles


def test_each_fff_process_has_its_configuration_and_it_names_every_number_that_is_read() -> None:
    assert FFF == ["peek-fff", "pla-fff"]
    for name in FFF:
        config = config_text(load_process(name))
        keys = re.findall(r"^(\w+) =", config, re.MULTILINE)
        assert len(keys) == len(set(keys))
        assert setting(config, "filament_diameter") == 1.75
        assert 0.0 < setting(config, "fill_density") <= 1.0
        assert setting(config, "external_perimeter_extrusion_width") > setting(config, "nozzle_diameter")
        assert not {"layer_height", "first_layer_height", "bed_shape", "post_process"} & set(keys)
    with pytest.raises(MachineError, match="pa12-sls has no configuration"):
        config_text(load_process("pa12-sls"))
    with pytest.raises(KeyError):
        setting("a = 1", "b")


def test_the_program_gets_the_plate_as_it_stands_with_functional_faces_painted() -> None:
    part = table()
    data = painted_3mf([part], [standing(part)])
    with zipfile.ZipFile(io.BytesIO(data)) as files:
        model = files.read("3D/3dmodel.model")
    assert model.count(b'slic3rpe:custom_supports="8"') == int(part.face_labels.sum()) > 0
    plain = painted_3mf([replace(part, functional_faces=())], [standing(part)])
    (item,) = read_3mf(plain)
    np.testing.assert_allclose(item.mesh.vertices_mm, part.mesh.moved(standing(part).pose).vertices_mm, atol=1e-4)


# what the program makes


@needs_program
@pytest.mark.parametrize("name", ["peek", "pla"])
def test_a_toolpath_fits_its_parts(name: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(name)
    found = made.judged()
    assert {verdict for verdict, _ in found.values()} == {"pass"}
    assert abs(found["toolpath.time"][1]) < 1.5  # percent, of the program's own simulator
    assert made.toolpath.program.startswith("PrusaSlicer 2.")
    figures = toolpath_figures(made.toolpath.gcode)
    moves = read_moves(made.toolpath.gcode)
    assert figures.layers == moves.layer.max()
    assert figures.filament_mm == pytest.approx(simulate(moves).filament_mm, abs=5.0)  # pulled back at the end


@needs_program
def test_a_filled_part_takes_its_volume_and_a_model_its_shell(peek: Made, pla: Made) -> None:
    assert peek.judged()["toolpath.volume"][1] == pytest.approx(100.0, abs=4.0)
    assert pla.judged()["toolpath.volume"][1] < 90.0


@needs_program
def test_the_same_plate_gives_the_same_bytes_without_clock_or_folder(peek: Made) -> None:
    again = make_toolpath(peek.parts, peek.placements, process=peek.process, machine=MACHINE)
    assert again == peek.toolpath
    head = again.gcode.split(b"\n", 1)[0]
    assert head == f"; generated by {again.program}".encode()
    assert b"/tmp" not in again.gcode
    assert b"batchone-toolpath" not in again.gcode


@needs_program
def test_supports_keep_off_functional_faces() -> None:
    part = table()
    free, held = (Made("pla-fff", one) for one in (part, replace(part, functional_faces=())))
    held.parts = (part,)  # measured as if the face were functional
    assert free.judged()["toolpath.functional_supports"] == ("pass", 0.0)
    verdict, length_mm = held.judged()["toolpath.functional_supports"]
    assert verdict == "fail"
    assert length_mm > 50.0
    assert (read_moves(held.toolpath.gcode).role == SUPPORT).any()


def test_the_program_runs_for_one_part_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run may take all the memory of its limit."""
    running, most = [0], [0]

    def at_once(pieces: list[Callable[[], object]]) -> list[object]:
        with ThreadPoolExecutor(len(pieces)) as pool:
            return [one.result() for one in [pool.submit(piece) for piece in pieces]]

    def way(part: Part, ways: Iterator[Stance], process: Process, machine: Machine) -> Stance:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.1)
        running[0] -= 1
        return next(iter(ways))

    monkeypatch.setattr(make, "side_by_side", at_once)
    monkeypatch.setattr(make, "_fff_way", way)
    parts = tuple(part_of(Solid.cube((10, 10, 4)), name) for name in ("one", "two", "three"))
    ways, cups = make._ways(parts, load_process("pla-fff"), MACHINE, {})
    assert (len(ways), cups, most[0]) == (3, [], 1)


@needs_program
def test_a_build_has_its_toolpath_and_the_time_of_its_moves() -> None:
    checked = CheckedDevice(Device("anatomical-model", (part_of(bracket().rotate((10, 20, 30)), "bracket"),)), ())
    made: Build = slice_device(checked, APPROVAL, load_process("pla-fff"), MACHINE)
    assert made.toolpath is not None
    motion = simulate(read_moves(made.toolpath.gcode))
    process = load_process("pla-fff")
    assert made.estimate.seconds == pytest.approx(process.setup_s + motion.seconds)
    area_mm2 = 0.25 * np.pi * 1.75**2
    assert made.estimate.material_g == pytest.approx(motion.filament_mm * area_mm2 * process.density_g_per_mm3)
    assert "moves" in made.estimate.basis
    assert not [finding for finding in made.findings if finding.verdict == "fail"]
    assert len(made.toolpath.config_sha256) == 64


# what is found wrong


def edited(data: bytes, change: Callable[[bytes, int], bytes]) -> bytes:
    """Each line with the number of its layer through a function."""
    layer, out = 0, []
    for line in data.split(b"\n"):
        layer += line == b";LAYER_CHANGE"
        out.append(change(line, layer))
    return b"\n".join(out)


def moved(line: bytes, letter: bytes, to: Callable[[float], float]) -> bytes:
    return (
        re.sub(rb"(?<= " + letter + rb")[-\d.]+", lambda found: b"%.5f" % to(float(found[0])), line) if line[:1] == b"G" else line
    )


def dry(line: bytes) -> bytes:
    return re.sub(rb" E[\d.]+", b"", line)


@needs_program
def test_a_faulty_toolpath_is_told_from_a_good_one(peek: Made) -> None:
    good = peek.toolpath.gcode
    assert peek.wrong(edited(good, lambda line, _: line)) == set()
    assert "toolpath.blank" in peek.wrong(edited(good, lambda line, layer: dry(line) if layer == 9 else line))
    assert {"toolpath.blank", "toolpath.volume"} <= peek.wrong(
        edited(good, lambda line, layer: dry(line) if layer > 20 else line)
    )
    assert "toolpath.height" in peek.wrong(edited(good, lambda line, _: moved(line, b"Z", lambda z: z + 1.0)))
    assert "toolpath.volume" in peek.wrong(edited(good, lambda line, _: moved(line, b"E", lambda e: 0.85 * e)))
    assert "toolpath.outline" in peek.wrong(edited(good, lambda line, _: moved(line, b"X", lambda x: x + 0.5)))
    assert peek.wrong(edited(good, lambda line, _: moved(line, b"X", lambda x: x + 30.0))) >= {"toolpath.stray"}
    assert "toolpath.outline" in peek.wrong(edited(good, lambda line, _: moved(line, b"Y", lambda y: 234.0 - y)))
    assert "toolpath.envelope" in peek.wrong(edited(good, lambda line, _: moved(line, b"X", lambda x: x - 100.0)))
    assert "toolpath.filament" in peek.wrong(good.replace(b"; filament used [mm] = ", b"; filament used [mm] = 1"))


@needs_program
def test_a_part_that_was_left_out_is_found(peek: Made) -> None:
    alone = Made("peek-fff", peek.parts[0])
    assert {"toolpath.volume", "toolpath.outline"} <= peek.wrong(alone.toolpath.gcode)


@needs_program
def test_output_that_is_cut_short_or_of_another_program_is_refused(peek: Made) -> None:
    whole = peek.toolpath.gcode.replace(b"\n", b" on 2026-01-02 at 03:04:05 UTC\n", 1)
    assert without_clock(whole) == (peek.toolpath.gcode, peek.toolpath.program)
    for data, what in (
        (b"", "gave no toolpath"),
        (whole[: len(whole) // 2], "cut short"),
        (whole[:-200], "cut short"),
        (b"G1 X5\n", "does not begin as one of PrusaSlicer"),
        (re.sub(rb"PrusaSlicer 2\.\d+", b"PrusaSlicer 2.4", whole, count=1), "is PrusaSlicer 2.4.*, must be 2.5 to 2.9"),
        (re.sub(rb"PrusaSlicer 2\.\d+", b"PrusaSlicer 3.0", whole, count=1), "must be 2.5 to 2.9"),
    ):
        with pytest.raises(MachineError, match=what):
            without_clock(data)


@needs_program
def test_the_core_installation_measures_a_toolpath_again(peek: Made) -> None:
    good = peek.toolpath.gcode
    whole = toolpath_figures(good)
    assert whole == toolpath_figures(good)
    box = np.array([whole.low_mm, whole.high_mm])
    assert (box >= 0.0).all()
    assert (box <= MACHINE.envelope_mm).all()
    for other in (
        edited(good, lambda line, layer: b"" if layer == 9 else line),
        edited(good, lambda line, _: moved(line, b"E", lambda e: 1.001 * e)),
        edited(good, lambda line, _: moved(line, b"Z", lambda z: z + 0.2)),
        good.replace(b"\nG1 X", b"\nG1 X1 Y1 F600\nG1 X", 1),
    ):
        assert toolpath_figures(other) != whole
    for hostile in (b"", b"M83\n", good.replace(b"M83", b"M82"), good + b"G91\n", b"M83\nG1 X\xff Y1 Z1 E1\n"):
        with pytest.raises(MachineError):
            toolpath_figures(hostile)


def test_doctor_says_whether_the_program_is_there(
    instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instead("echo PrusaSlicer-2.7.4 based on Slic3r")
    assert "prusa-slicer: ok (2.7.4)" in [check.line for check in diagnose(warm=False)]
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    checks = diagnose(warm=False)
    assert "prusa-slicer: not there; for FFF: apt-get install prusa-slicer" in [check.line for check in checks]
    assert not [check for check in checks if check.state == "broken"]  # everything else works without


# the program is not there, or fails


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Another program of the name."""

    def put(script: str) -> None:
        program = tmp_path / "prusa-slicer"
        program.write_text("#!/bin/sh\n" + script + "\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


def slice_small() -> None:
    part = part_of(Solid.cube((5, 5, 2)))
    make_toolpath([part], [standing(part)], process=load_process("pla-fff"), machine=MACHINE)


def test_without_the_program_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="slicing program prusa-slicer cannot be started") as caught:
        slice_small()
    assert caught.value.exit_code == 5
    assert "Debian package prusa-slicer" in caught.value.hint


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("echo the mesh is strange; exit 3", "ended with 3, must end with 0; it said: the mesh is strange"),
        ("kill -SEGV $$", "ended with -11"),
        ("exit 0", "gave no toolpath"),
        ("touch toolpath.gcode", "gave no toolpath"),
        ("echo '; generated by PrusaSlicer 2.6.1 on 2026-01-01' > toolpath.gcode", "cut short"),
    ],
)
def test_a_program_that_fails_is_refused_with_what_it_said(script: str, what: str, instead: Callable[[str], None]) -> None:
    instead(script)
    with pytest.raises(MachineError, match=what):
        slice_small()


def test_a_program_that_hangs_or_eats_memory_is_ended(instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    instead("sleep 60")
    monkeypatch.setattr(gcode, "_TIMEOUT_S", 0.5)
    with pytest.raises(MachineError, match=r"runs for more than 0\.5 s, at most 0\.5 s"):
        slice_small()
    monkeypatch.setattr(gcode, "_TIMEOUT_S", 30.0)
    monkeypatch.setattr(gcode, "_MEMORY_MB", 1.0)
    with pytest.raises(MachineError, match="MB, at most 1 MB"):
        slice_small()


def test_nothing_of_ours_reaches_the_program_but_where_programs_are(
    instead: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    monkeypatch.setenv("HOME", "/somewhere")
    instead(f"env | sort > {tmp_path}/seen; pwd >> {tmp_path}/seen")
    with pytest.raises(MachineError, match="gave no toolpath"):
        slice_small()
    seen = (tmp_path / "seen").read_text()
    assert "proxy" not in seen
    assert "/somewhere" not in seen
    folder = seen.splitlines()[-1]
    assert not Path(folder).exists()  # its own, and gone
