"""Seconds and peak memory per stage, and ratios to the peers measured in the same run.

Usage: ``python -m benchmarks.speed [--size 512x512x400]``. The real head phantom is added when ``BATCHONE_TEST_DATA`` names
the folder that holds it.
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

from benchmarks.peers.environment import interpreter

PEERS = Path(__file__).parent / "peers"
ROUNDS = 3
LAYER_MM = 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="512x512x400", help="columns x rows x slices of the synthetic scan")
    size = tuple(int(n) for n in parser.parse_args().size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        for name, study, order in _studies(Path(folder), size):
            _whole_case(name, study, order, Path(folder) / f"site-{name}")
            _steps(name, study, order, Path(folder))


def _studies(folder: Path, size: tuple[int, ...]) -> list[tuple[str, Path, Path]]:
    from batchone.samples.dicom import write_demo, write_series
    from batchone.samples.head import head_phantom

    order, _ = write_demo(folder / "order", device="anatomical-model")
    studies = []
    data = os.environ.get("BATCHONE_TEST_DATA")
    if data is not None:
        studies.append(("S2030", Path(data) / "head-phantom.zip", order))
    columns, rows, slices = size
    spacing_mm = (160.0 / slices, 230.4 / rows, 230.4 / columns)
    phantom = head_phantom(shape=(slices, rows, columns), spacing_mm=spacing_mm)
    study = folder / "synthetic"
    write_series(phantom.hu, phantom.affine, study)
    studies.append((f"synthetic {columns}x{rows}x{slices}", study, order))
    return studies


def _whole_case(name: str, study: Path, order: Path, site: Path) -> None:
    command = [sys.executable, "-m", "batchone.pipeline", "run", str(order), "--study", str(study), "--out", str(site)]
    started = time.perf_counter()
    done = subprocess.run([*command, "--approve-as", "bench", "--json"], capture_output=True, text=True)
    wall_s = time.perf_counter() - started
    tree = json.loads(done.stdout)
    print(f"\n{name}: anatomical model, whole case {wall_s:.1f} s wall, status {tree['status']}")
    print(f"  {'stage':10} {'s':>7} {'peak MB':>8}")
    if "error" in tree:
        print(f"  {tree['error']['message']}")
    case = site / "cases" / tree["case"]
    for stage, seconds in tree["stages"].items():
        record = json.loads((case / ("job" if stage == "package" else stage) / "stage.json").read_text())
        print(f"  {stage:10} {seconds:7.2f} {record['peak_mb']:8.0f}")


def _steps(name: str, study: Path, order: Path, folder: Path) -> None:
    """One table per step: ours, and each peer as a ratio to ours (above 1: the peer is slower)."""
    from batchone.design.families import load_families
    from batchone.pipeline.case_order import read_case_order
    from batchone.pipeline.intake.make import intake

    parsed = read_case_order(order)
    protocol = load_families()[parsed.device].limits.protocol
    series = study if study.is_dir() else _unzipped(study, folder)
    ours_s, (scan, _) = _best(lambda: intake(series, parsed, protocol))
    _table(
        f"{name}: read series",
        ours_s,
        [_peer("read_series", v, series) for v in ("pydicom-typical", "pydicom-best", "simpleitk")],
    )
    volume = folder / "volume.npy"
    np.save(volume, scan.hu)
    _bone_steps(name, scan, parsed, volume, folder)


def _bone_steps(name: str, scan: Any, order: Any, volume: Path, folder: Path) -> None:
    from batchone.segment.bone import scan_figures
    from batchone.segment.make import segment
    from batchone.slicer.layers import sections

    mask_s, _ = _best(lambda: _bone_mask(scan))
    threshold = int(scan_figures(scan.hu).threshold_hu)
    variants = ("skimage-typical", "skimage-best", "simpleitk")
    _table(f"{name}: bone mask, filled", mask_s, [_peer("bone_mask", v, volume, threshold) for v in variants])
    segment_s, anatomy = _best(lambda: segment(scan, order))
    variants = ("skimage", "vtk-marching-cubes", "vtk-flying-edges")
    peers = [_peer("surface", v, volume, threshold) for v in variants]
    _table(f"{name}: segment, the whole stage (peers: the surface of everything alone)", segment_s, peers)
    mesh = anatomy.bones[0].mesh
    vertices = mesh.vertices_mm - mesh.vertices_mm.min(axis=0)
    packed = folder / "mesh.npz"
    np.savez(packed, vertices=vertices, faces=mesh.faces)
    heights = np.arange(LAYER_MM / 2, vertices[:, 2].max(), LAYER_MM * 2)
    layers_s, _ = _best(lambda: sections(type(mesh)(vertices, mesh.faces), heights))
    _table(
        f"{name}: layers, {len(mesh.faces)} triangles, {len(heights)} layers",
        layers_s,
        [_peer("layers", v, packed, LAYER_MM * 2) for v in ("manifold3d", "trimesh")],
    )


def _bone_mask(scan: Any) -> Any:
    """What the stage does up to the filled mask."""
    from batchone.segment.bone import cropped, filled, packed_box, scan_figures
    from batchone.segment.separate import chosen

    found = chosen(scan.hu, scan.spacing_mm, scan_figures(scan.hu))
    grid = cropped(scan.hu, scan.affine, found.box)
    return filled(packed_box(found.words, grid), grid)


def _best(work: Any) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(ROUNDS):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2], result


def _peer(script: str, variant: str, *arguments: Any, package: str = "") -> dict[str, Any]:
    """Run a peer; with ``package`` in an environment of its own."""
    python, why = interpreter(package) if package else (Path(sys.executable), "")
    if python is None:
        return {"name": script, "variant": variant, "seconds": float("nan"), "versions": {package: why}}
    command = [str(python), str(PEERS / f"{script}.py"), variant, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return {"name": script, "variant": variant, "seconds": float("nan"), "versions": {"failed": done.stderr.strip()[-80:]}}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _table(title: str, ours_s: float, peers: list[dict[str, Any]]) -> None:
    print(f"\n{title}\n  {'ours':34} {ours_s:8.2f} s")
    for peer in peers:
        versions = ", ".join(f"{k} {v}" for k, v in peer["versions"].items())
        title, ratio = f"{peer['name']} {peer['variant']}", peer["seconds"] / ours_s
        print(f"  {title:34} {peer['seconds']:8.2f} s  x{ratio:6.1f}  ({versions})")


def _unzipped(archive: Path, folder: Path) -> Path:
    """The largest series of a zip, flat: the peers read one clean folder."""
    import zipfile

    target = folder / archive.stem
    with zipfile.ZipFile(archive) as packed:
        names = [n for n in packed.namelist() if not n.endswith("/")]
        parents = [str(Path(n).parent) for n in names]
        largest = max(sorted(set(parents)), key=parents.count)
        for n in names:
            if str(Path(n).parent) == largest:
                packed.extract(n, target)
    return target / largest


if __name__ == "__main__":
    main()
