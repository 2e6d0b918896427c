"""Layers, hatches and the layer file: seconds, growth with layers and triangles, and ratios to peers measured in the same run.

    python -m benchmarks.slicing [--triangles 300000] [--layers 2000]

The body is the synthetic vertebra, meshed finer and stretched to so many layers of 0.03 mm. Peers get the same body and the same
contours, and fill them with lines of one kind, as we do beside them; slow ones are timed on every 20th layer and scaled. PySLM
and pyclipr run in environments of their own; where one cannot be installed the table says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.process import Process, ScanStrategy
from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.exposure import Exposure, expose
from batchone.slicer.hatch import hatch
from batchone.slicer.layers import Layers, slice_parts
from batchone.slicer.profiles import load_process
from batchone.slicer.scan_time import drawn_s
from benchmarks.guide import anatomy
from benchmarks.speed import LAYER_MM, _best, _peer, _table

FIRST_MM = 5.0  # numerical: the body stands in the first octant, as on a plate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triangles", type=int, default=300_000)
    parser.add_argument("--layers", type=int, default=2_000)
    options = parser.parse_args()
    use_kernel_cache()
    process = load_process("ti64-lpbf")
    if process.scan is None:
        sys.exit("ti64-lpbf has no [scan]")
    scan = core_of(process.scan)
    hatch(slice_parts([body(20_000, 50)], LAYER_MM), scan)  # kernels are loaded
    mesh = body(options.triangles, options.layers)
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians")
    layers, drawn = _steps(mesh, process, scan)
    with tempfile.TemporaryDirectory() as folder:
        _peers(mesh, layers, scan, Path(folder))
    timed_s, took_s = _best(lambda: drawn_s(drawn, scan))
    print(f"\n{drawn.hatches.length_mm / 1e6:.2f} km of lines, {took_s.sum() / 3600.0:.2f} h of laser, told in {timed_s:.2f} s")
    _growth(options.triangles, options.layers, scan)


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
    drawn_in_s, drawn = _best(lambda: expose(layers, ["body"], process, parts=1))
    written_s, data = _best(lambda: write_cli(drawn.layers, drawn.labels, drawn.hatches))
    read_s, _ = _best(lambda: read_cli(data))
    counts = f"{len(layers.points_mm):,} points, {len(lines.vectors_mm):,} lines"
    print(f"{len(mesh.faces):,} triangles, {layers.count:,} layers: {counts}")
    for name, seconds, needed in (
        ("layers", sliced_s, "0.5"),
        ("hatches of one kind", hatched_s, "0.8"),
        ("skins, core and contours", drawn_in_s, ""),
        (f"written, {len(data) / 1e6:.0f} MB", written_s, "0.2 for 47 MB"),
        ("read back", read_s, ""),
    ):
        print(f"  {name:24} {seconds:6.2f} s  {'target ' + needed if needed else ''}")
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


def _growth(triangles: int, layers: int, scan: ScanStrategy) -> None:
    print("\ngrowth: seconds for layers and hatches together, and the exponent from the step before")
    for what, sizes in (
        ("layers", [(triangles, layers // 4), (triangles, layers // 2), (triangles, layers)]),
        ("triangles", [(triangles // 4, layers // 2), (triangles // 2, layers // 2), (triangles, layers // 2)]),
    ):
        before = 0.0
        for faces, count in sizes:
            mesh = body(faces, count) if what == "triangles" else _squeezed(body(faces, layers), count, layers)
            started = time.perf_counter()
            hatch(slice_parts([mesh], LAYER_MM), scan)
            seconds = time.perf_counter() - started
            exponent = f"{np.log2(seconds / before):5.2f}" if before else ""
            print(f"  {what:10} {len(mesh.faces):9,} triangles {count:6,} layers {seconds:7.2f} s {exponent}")
            before = seconds


def _squeezed(mesh: Mesh, count: int, layers: int) -> Mesh:
    """The same sections in fewer layers."""
    return Mesh(mesh.vertices_mm * np.array([1.0, 1.0, count / layers]), mesh.faces)


if __name__ == "__main__":
    main()
