"""Toolpaths of real device parts by PrusaSlicer: our time of the moves against the program's own, and what each step takes.

Usage: ``python -m benchmarks.fff [JOB ...]`` with job folders, whose parts are printed in every FFF process; without any a device
of every family on a bone of known shape, a cube, and sixteen pins, which are mostly travel. Needs the program ``prusa-slicer``.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import manifold3d
import numpy as np
from stl import Mode
from stl.mesh import Mesh as StlMesh

from batchone.pipeline.errors import MachineError
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.process import Process
from batchone.pipeline.values import Mesh, Part, Placement
from batchone.samples.faulty.good import bones, good
from batchone.slicer.gcode import config_text, make_toolpath
from batchone.slicer.images import image_findings, write_sl1
from batchone.slicer.layers import slice_parts
from batchone.slicer.motion import simulate
from batchone.slicer.moves import read_moves
from batchone.slicer.orient import stand
from batchone.slicer.plate import place, usable_box_mm
from batchone.slicer.profiles import load_machine, load_process, process_names
from batchone.slicer.toolpath import toolpath_findings

MACHINE = load_machine("sim-01")


def main() -> None:
    use_kernel_cache()
    shapes = [*jobs(sys.argv[1:])] or [*families(), ("cube, pins", [cube(), pins()])]
    head = "parts", "process", "moves", "program s", "read s", "plan s", "ours s", "off %", "volume %", "outline mm"
    print("\nFFF: time of the moves by our simulator against PrusaSlicer's footer")
    print("  {:16} {:9} {:>8} {:>9} {:>7} {:>7} {:>8} {:>6} {:>9} {:>10}".format(*head))
    for name, parts in shapes:
        for process in process_names():
            if load_process(process).kind == "fff":
                print(one(name, parts, process))
    for name, parts in shapes:
        print(mask(name, parts))


def one(name: str, parts: list[Part], process_name: str) -> str:
    """A line of the table."""
    process = load_process(process_name)
    placements = laid(parts, process)
    clock = [time.perf_counter()]
    try:
        toolpath = make_toolpath(parts, placements, process=process, machine=MACHINE)
    except MachineError as error:
        return f"  {name:16} {process_name:9} {error}"
    clock.append(time.perf_counter())
    moves = read_moves(toolpath.gcode)
    clock.append(time.perf_counter())
    motion = simulate(moves)
    clock.append(time.perf_counter())
    layers = slice_parts(
        [part.mesh.moved(placement.pose) for part, placement in zip(parts, placements, strict=True)], process.layer_mm
    )
    findings = toolpath_findings(
        toolpath.gcode, moves, motion, parts=parts, placements=placements, layers=layers,
        config=config_text(process), process=process, machine=MACHINE,
    )  # fmt: skip
    volume, outline = ([f.value for f in findings if f.check == check] for check in ("toolpath.volume", "toolpath.outline"))
    off = next(f.value for f in findings if f.check == "toolpath.time")
    failed = ", ".join(f.check for f in findings if f.verdict == "fail")
    program_s, read_s, plan_s = np.diff(clock)
    return (
        f"  {name:16} {process_name:9} {len(moves.table):8} {program_s:9.1f} {read_s:7.2f} {plan_s:7.3f} {motion.seconds:8.0f}"
        f" {off:6.2f} {min(volume):9.1f} {max(outline):10.3f} {failed}"
    )


def families() -> Iterator[tuple[str, list[Part]]]:
    """A good device of each family, in the file's own triangles."""
    for kind in ("cranial-implant", "pedicle-guide", "tibial-guide", "anatomical-model"):
        anatomy, proposal = bones(kind)[0]
        yield kind, list(good(kind, anatomy, proposal).device.parts)


def laid(parts: list[Part], process: Process) -> tuple[Placement, ...]:
    """Where parts lie on the plate, without supports."""
    stances = [stand(part, process, box_mm=usable_box_mm(MACHINE)) for part in parts]
    turned = [part.mesh.vertices_mm @ stance.rotation.T for part, stance in zip(parts, stances, strict=True)]
    bodies = [[Mesh(points - points.min(axis=0), part.mesh.faces)] for part, points in zip(parts, turned, strict=True)]
    return place(parts, stances, bodies, process=process, machine=MACHINE)


def mask(name: str, parts: list[Part]) -> str:
    """How long the images of the resin process take."""
    process, pixels = load_process("guide-resin"), MACHINE.mask
    assert pixels is not None
    placements = laid(parts, process)
    layers = slice_parts(
        [part.mesh.moved(placement.pose) for part, placement in zip(parts, placements, strict=True)], process.layer_mm
    )
    start = time.perf_counter()
    archive = write_sl1(layers, pixels, name="job", seconds=0.0)
    written = time.perf_counter()
    image_findings(archive, layers, pixels)
    read = time.perf_counter()
    return (
        f"  {name}: {layers.count} images of {pixels.columns} x {pixels.rows} pixels, {len(archive) / 1e6:.1f} MB: "
        f"written in {written - start:.1f} s, read back in {read - written:.1f} s"
    )


def jobs(folders: list[str]) -> Iterator[tuple[str, list[Part]]]:
    """The parts of job folders."""
    for folder in folders:
        parts = []
        for file in sorted(Path(folder).glob("parts/*.stl")):
            corners = StlMesh.from_file(
                file.name, fh=io.BytesIO(file.read_bytes()), mode=Mode.BINARY, calculate_normals=False
            ).vectors
            points, faces = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
            parts.append(plain(file.stem, Mesh(points.astype(np.float64), faces.reshape(-1, 3).astype(np.int32))))
        yield "+".join(part.name for part in parts)[:16], parts


def plain(name: str, mesh: Mesh) -> Part:
    """A part without functional faces."""
    return Part(name, mesh, np.zeros(len(mesh.faces), np.int16), ("all",))


def cube() -> Part:
    """20 x 20 x 10 mm."""
    return solid("cube", manifold3d.Manifold.cube((20, 20, 10)))


def pins() -> Part:
    """Sixteen pins on a plate."""
    plate = manifold3d.Manifold.cube((30, 30, 1))
    for k in range(16):
        plate = plate + manifold3d.Manifold.cylinder(7, 2, 2, 32).translate((4.0 + 7.0 * (k % 4), 4.0 + 7.0 * (k // 4), 0.0))
    return solid("pins", plate)


def solid(name: str, shape: manifold3d.Manifold) -> Part:
    """A part of a solid."""
    out = shape.to_mesh64()
    return plain(name, Mesh(np.array(out.vert_properties[:, :3]), np.array(out.tri_verts).astype(np.int32)))


if __name__ == "__main__":
    main()
