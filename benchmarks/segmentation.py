"""Speed of the segment room beside its peers: mask, surface, reduction, the stage for a device's region of interest, growth,
kernels cold and warm.

Usage: ``python -m benchmarks.segmentation [--size 512x512x400] [--data DIR]``. The mask's peers run the same chain on the same
threshold, and their voxels are compared with ours.
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

from benchmarks.segmentation_once import CASES, fine_thorax, thorax
from benchmarks.speed import _best, _peer, _table

SIZES = ((256, 256, 200), (512, 512, 400), (512, 512, 800))
THRESHOLD_HU = 250
CLOSING_VOXELS = 2.0
TOLERANCE_MM = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="512x512x400", help="columns x rows x slices of the synthetic scan")
    parser.add_argument("--data", type=Path, default=os.environ.get("BATCHONE_TEST_DATA"))
    arguments = parser.parse_args()
    size = tuple(int(n) for n in arguments.size.split("x"))
    data = Path(arguments.data) if arguments.data else None
    with tempfile.TemporaryDirectory() as folder:
        hu, affine = _scan(size)
        volume = Path(folder) / "volume.npy"
        np.save(volume, hu)
        _mask(hu, volume, Path(folder))
        _surface(hu, affine, Path(folder))
    _regions(size, data)
    _growth()
    _kernels()


def _scan(size: tuple[int, ...]) -> tuple[Any, Any]:
    from batchone.samples.head import head_phantom

    columns, rows, slices = size
    spacing_mm = (160.0 / slices, 230.4 / rows, 230.4 / columns)
    phantom = head_phantom(shape=(slices, rows, columns), spacing_mm=spacing_mm)
    return phantom.hu, phantom.affine


def _mask(hu: Any, volume: Path, folder: Path) -> None:
    from batchone.segment.bits import ball, closed, inverted, packed_above, unpacked
    from batchone.segment.runs import labelled

    columns = hu.shape[2]

    def chain() -> Any:
        runs = labelled(packed_above(hu, THRESHOLD_HU), columns)
        largest = runs.painted(np.arange(runs.count) == int(np.argmax(runs.measured()[0])))
        solid = closed(largest, columns, ball(CLOSING_VOXELS, (1.0, 1.0, 1.0)))
        outside = labelled(inverted(solid, columns), columns)
        boxes = outside.measured()[1]
        enclosed = np.all((boxes[:, :, 0] > 0) & (boxes[:, :, 1] < np.array(hu.shape)), axis=1)
        return solid | outside.painted(enclosed)

    ours_s, words = _best(chain)
    np.save(folder / "ours.npy", unpacked(words, columns))
    peers = [
        _peer("bone_mask", v, volume, THRESHOLD_HU, folder / "ours.npy") for v in ("skimage-typical", "skimage-best", "simpleitk")
    ]
    _table(f"bone mask {hu.shape}: threshold, largest component, closing, filling", ours_s, peers)
    for peer in peers:
        print(f"  {peer['variant']:34} voxels that differ from ours: {peer.get('different', 'unknown')}")


def _surface(hu: Any, affine: Any, folder: Path) -> None:
    from batchone.design.model.collapse import collapsed
    from batchone.pipeline.values import Mesh
    from batchone.segment.bone import cropped, filled, packed_box, scan_figures
    from batchone.segment.separate import chosen
    from batchone.segment.surface import _flying_edges, count_open_edges, edge_field, surface

    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    found = chosen(hu, spacing, scan_figures(hu))
    grid = cropped(hu, affine, found.box)
    field = edge_field(filled(packed_box(found.words, grid), grid), grid, in_tissue=True)
    np.save(folder / "field.npy", field)
    bare_s, _ = _best(lambda: _flying_edges(field))
    ours_s, mesh = _best(lambda: surface(field, grid.affine))
    peers = [_peer("surface", v, folder / "field.npy", 0) for v in ("skimage", "vtk-marching-cubes", "vtk-flying-edges")]
    _table(f"surface of the same field, {len(mesh.faces)} triangles", bare_s, peers)
    print(f"  {'ours, in patient space and checked':34} {ours_s:8.2f} s")
    middle = mesh.vertices_mm.mean(axis=0)
    local = Mesh(mesh.vertices_mm - middle, mesh.faces)
    np.savez(folder / "mesh.npz", vertices=local.vertices_mm, faces=local.faces)
    nothing = np.zeros(len(local.vertices_mm), dtype=np.bool_)
    ours_s, fewer = _best(lambda: collapsed(local, TOLERANCE_MM, nothing))
    peers = [_peer("reduce", v, folder / "mesh.npz", len(fewer.faces)) for v in ("vtk-quadric",)]
    _table(f"reduction {len(local.faces)} to {len(fewer.faces)} triangles within {TOLERANCE_MM} mm", ours_s, peers)
    print(
        f"  open edges: ours {count_open_edges(fewer.faces)}, "
        + ", ".join(f"{p['variant']} {p.get('open_edges')}" for p in peers)
    )


def _once(case: str, size: tuple[int, ...], data: Path | None) -> dict[str, Any] | None:
    """The stage in a fresh process: first call, then the better of two more."""
    where = [] if data is None else ["--data", str(data)]
    command = [sys.executable, "-m", "benchmarks.segmentation_once", case, *map(str, size), *where]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"  {case} {size}: {done.stderr.strip()[-100:]}")
        return None
    return dict(json.loads(done.stdout))


def _regions(size: tuple[int, ...], data: Path | None) -> None:
    """The whole stage for a device's region of interest."""
    print(
        "\nsegment stage for a device's region of interest: the bones that the order names; seconds (first call, next), CPU, MB"
    )
    for name, case in CASES.items():
        if case.scan in (thorax, fine_thorax) and data is None:
            print(f"  {name}: no data, set BATCHONE_TEST_DATA or give --data")
            continue
        row = _once(name, size, data)
        if row is None:
            continue
        figures = f"{row['first_s']:7.2f} {row['second_s']:7.2f} {row['cpu_s']:7.2f} {row['peak_mb']:7.0f}"
        scan = "x".join(map(str, row["size"]))
        print(f"  {scan:14}{figures}  {case.what}: {row['bones']} bones, {row['triangles']} triangles")


def _growth() -> None:
    """The whole stage for the skull over three sizes."""
    print("\nsegment stage, skull: seconds (first call, next), peak MB")
    rows = []
    for size in SIZES:
        row = _once("skull", size, None)
        if row is not None:
            rows.append((np.prod(size), row["second_s"], row["peak_mb"]))
            print(f"  {'x'.join(map(str, size)):14} {row['first_s']:7.2f} {row['second_s']:7.2f} {row['peak_mb']:7.0f}")
    if len(rows) > 1:
        voxels, seconds, peak = np.log(np.array(rows, dtype=np.float64)).T
        print(f"  exponent in voxels: time {np.polyfit(voxels, seconds, 1)[0]:.2f}, memory {np.polyfit(voxels, peak, 1)[0]:.2f}")


def _kernels() -> None:
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold (compiled)", "warm (from the cache)"):
            environment = {**os.environ, "XDG_CACHE_HOME": cache}
            environment.pop("NUMBA_CACHE_DIR", None)
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "batchone.pipeline", "doctor", "--warm"], env=environment, capture_output=True
            )
            state = f"{time.perf_counter() - started:.1f} s" if done.returncode == 0 else "failed"
            print(f"  all kernels, {name}: {state}")


if __name__ == "__main__":
    main()
