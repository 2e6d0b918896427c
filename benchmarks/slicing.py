"""Layers, hatches and the layer file: seconds, growth with layers and triangles, and ratios to peers measured in the same run.

    python -m benchmarks.slicing [--triangles 300000] [--layers 2000]

The body is the synthetic vertebra, meshed finer and stretched to so many layers of 0.03 mm. Peers get the same body and the same
contours, and fill them with lines of one kind, as we do beside them; slow ones are timed on every 20th layer and scaled. PySLM
and pyclipr run in environments of their own; where one cannot be installed the table says so. Growth is that of bodies with the
same sections and lines of one kind, each size in a process of its own: seconds of cores, so that what else the machine does
counts less, and memory at its peak above that of the loaded program and mesh.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.memory import peak_mb, reset_peak
from batchone.pipeline.process import Process, ScanStrategy
from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.draw import draw
from batchone.slicer.exposure import Exposure, expose
from batchone.slicer.hatch import hatch
from batchone.slicer.layers import Layers, slice_parts
from batchone.slicer.profiles import load_process
from batchone.slicer.scan_time import drawn_s
from benchmarks.guide import anatomy
from benchmarks.speed import LAYER_MM, _best, _peer, _table

FIRST_MM = 5.0  # numerical: the body stands in the first octant, as on a plate
SIZES = (4, 2, 1)  # growth: so many times fewer layers or triangles
PEAK_MB = 600  # issue of the slicer: 2,000 layers of 300,000 triangles, with hatches and the file
FILE_MB, FILE_S = 47.0, 0.2  # the same: what writing a file of that size may take
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triangles", type=int, default=300_000)
    parser.add_argument("--layers", type=int, default=2_000)
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)  # one size of the growth: a mesh file
    options = parser.parse_args()
    use_kernel_cache()
    process = load_process("ti64-lpbf")
    if process.scan is None:
        sys.exit("ti64-lpbf has no [scan]")
    scan = core_of(process.scan)
    if options.alone:
        print(json.dumps(_alone(options.alone, process.model_copy(update={"scan": scan}))))
        return
    hatch(slice_parts([body(20_000, 50)], LAYER_MM), scan)  # kernels are loaded
    mesh = body(options.triangles, options.layers)
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians")
    layers, drawn = _steps(mesh, process, scan)
    with tempfile.TemporaryDirectory() as folder:
        _peers(mesh, layers, scan, Path(folder))
        timed_s, took_s = _best(lambda: drawn_s(drawn, scan))
        print(
            f"\n{drawn.hatches.length_mm / 1e6:.2f} km of lines, {took_s.sum() / 3600.0:.2f} h of laser, told in {timed_s:.2f} s"
        )
        _growth(mesh, options.triangles, layers.count, Path(folder))


def core_of(scan: ScanStrategy) -> ScanStrategy:
    """The same without skins: all lines are those of the core."""
    return scan.model_copy(update={"up_skin": None, "down_skin": None, "order": ("contour", "core")})


def body(triangles: int, layers: int) -> Mesh:
    """The vertebra with about so many triangles, as high as so many layers, on a plate."""
    bone = anatomy(triangles).bones[0].mesh
    low, high = bone.vertices_mm.min(axis=0), bone.vertices_mm.max(axis=0)
    scale = layers * LAYER_MM / float(high[2] - low[2])
    points: FloatArray = (bone.vertices_mm - low) * scale + np.array([FIRST_MM, FIRST_MM, 0.0])
    return Mesh(points, bone.faces)


def _steps(mesh: Mesh, process: Process, core: ScanStrategy) -> tuple[Layers, Exposure]:
    sliced_s, layers = _best(lambda: slice_parts([mesh], LAYER_MM))
    hatched_s, lines = _best(lambda: hatch(layers, core))
    drawn_in_s, _ = _best(lambda: draw(layers, ["body"], process, parts=1))
    drawn = expose(layers, ["body"], process, parts=1)
    started = time.process_time()  # one core writes: what else the machine does must not count
    data = write_cli(drawn.layers, drawn.labels, drawn.hatches)
    written_s = time.process_time() - started
    read_s, _ = _best(lambda: read_cli(data))
    counts = f"{len(layers.points_mm):,} points, {len(lines.vectors_mm):,} lines"
    print(f"{len(mesh.faces):,} triangles, {layers.count:,} layers: {counts}")
    for name, seconds in (
        ("layers", sliced_s),
        ("hatches of one kind", hatched_s),
        ("drawn into a file", drawn_in_s),
        ("written alone", written_s),
        ("read back", read_s),
    ):
        print(f"  {name:24} {seconds:6.2f} s")
    each_s = written_s * FILE_MB / (len(data) / 1e6)
    print(f"  the file has {len(data) / 1e6:.1f} MB: {FILE_MB:g} MB take {each_s:.2f} s of one core, target {FILE_S:g} s")
    return layers, drawn


def _peers(mesh: Mesh, layers: Layers, scan: ScanStrategy, folder: Path) -> None:
    packed, contours = folder / "mesh.npz", folder / "contours.npz"
    np.savez(packed, vertices=mesh.vertices_mm, faces=mesh.faces)
    np.savez(
        contours, points=layers.points_mm, start=layers.loop_start, layer=layers.loop_layer,
        inset=scan.inset_mm, spacing=scan.hatch_mm, turn=scan.turn_deg,
    )  # fmt: skip
    sliced_s, _ = _best(lambda: slice_parts([mesh], LAYER_MM))
    pyslm = _peer("layers", "pyslm", packed, LAYER_MM, package="PythonSLM")
    _table("layers", sliced_s, [*(_peer("layers", v, packed, LAYER_MM) for v in ("manifold3d", "trimesh")), pyslm])
    hatched_s, _ = _best(lambda: hatch(layers, scan))
    _table(
        "hatches",
        hatched_s,
        [
            _peer("hatches", "shapely", contours),
            _peer("hatches", "pyclipr", contours, package="pyclipr"),
            _peer("hatches", "pyslm", contours, package="PythonSLM"),
        ],
    )


def _growth(fine: Mesh, triangles: int, layers: int, folder: Path) -> None:
    coarser = [body(triangles // part, layers) for part in SIZES[:-1]]
    for what, meshes in (
        ("layers", [_squeezed(fine, layers // part, layers) for part in SIZES]),
        ("triangles", [*coarser, fine]),
    ):
        print(f"\ngrowth with {what}: layers, contours, hatches and the file together")
        print(f"  {'triangles':>10} {'layers':>7} {'s of cores':>11} {'peak MB':>9} {'above start':>12}")
        sizes, figures = [], []
        for mesh in meshes:
            np.savez(folder / "alone.npz", vertices=mesh.vertices_mm, faces=mesh.faces)
            command = [sys.executable, "-m", "benchmarks.slicing", "--alone", str(folder / "alone.npz")]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"  {told['triangles']:10,} {told['layers']:7,} {told['cores_s']:11.2f}"
                f" {told['peak_mb']:9.0f} {told['above_mb']:12.0f}"
            )
            sizes.append(told[what])
            figures.append((told["cores_s"], told["above_mb"]))
        time_by, memory_by = np.polyfit(np.log(sizes), np.log(figures), 1)[0].tolist()
        print(f"  exponent of {what}: time {time_by:.2f}, memory {memory_by:.2f} (1 is linear)")
    print(f"  the largest takes {told['peak_mb']:.0f} MB in all, target {PEAK_MB}")


def _alone(packed: Path, process: Process) -> dict[str, Any]:
    """Layers, contours, hatches and file of one mesh in this process: seconds of cores (median) and memory of the first run."""
    read = np.load(packed)
    mesh = Mesh(read["vertices"], read["faces"])
    reset_peak()
    before_mb, times, peaks_mb = peak_mb(), [], []
    for _ in range(ROUNDS):
        started = time.process_time()
        layers = slice_parts([mesh], LAYER_MM)
        draw(layers, ["body"], process, parts=1)
        times.append(time.process_time() - started)
        peaks_mb.append(peak_mb())
    return {
        "triangles": len(mesh.faces),
        "layers": layers.count,
        "cores_s": sorted(times)[ROUNDS // 2],
        "peak_mb": peaks_mb[0],  # of one run; later ones find what the C library kept
        "above_mb": peaks_mb[0] - before_mb,
    }


def _squeezed(mesh: Mesh, count: int, layers: int) -> Mesh:
    """The same sections in fewer layers."""
    return Mesh(mesh.vertices_mm * np.array([1.0, 1.0, count / layers]), mesh.faces)


if __name__ == "__main__":
    main()
