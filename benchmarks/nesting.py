"""A plate of 24 guides of 12 patients: seconds, peak memory, labels, what verify finds, utilisation beside other arrangers.

    python -m benchmarks.nesting [--patients 12] [--keep FOLDER] [--no-peers]

Each patient is the synthetic spine in a size of its own (94 to 112 %) and gets guides of two levels, which the family designs,
engraves and reads back; slicer, manifest and seal are as usual, papers and pictures are left out: they are not read here. With
``--keep`` the jobs stay in that folder for the next time. Then ``batchone nest`` runs as a program of its own.

The label is read from each body of the plate and must be that of map, build.json and job.json; ``batchone verify`` must find a
part that was removed and two that were swapped, in one file and in all that name them. Anything else ends the program with 1;
seconds and memory are printed beside their limits.

Arrangers side by side: how high the cake is in floors of rectangles (rectpack, in an environment of its own), and how many of the
guides stand on one plate without any above another, with the distance that PrusaSlicer keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batchone.design.guide.label import LABEL
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.measure import stl_bytes, stl_corners
from batchone.pipeline.job.signature import write_allowed_signers
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.machine import Machine
from batchone.pipeline.values import Mesh
from batchone.slicer.clearances import shadow, solid_of
from batchone.slicer.nest import Unit, nest
from batchone.slicer.plate import usable_box_mm
from batchone.slicer.profiles import load_machine, load_process
from benchmarks.plate_guides import guides_of, ordered
from benchmarks.plate_labels import agreeing, missed
from benchmarks.speed import _peer

MOST_S, MOST_MB = 60.0, 3000.0  # what a plate of 24 guides may take
ON_A_PLATE = 64  # guides, more than fit: those of the patients, again and again
PRUSA_GAP_MM = 6.0  # what PrusaSlicer 2.5 keeps between objects that are not printed one by one
ROUNDED_MM = 1e-4  # of coordinates in the file that PrusaSlicer exports
PER_MM = 10  # rectangles have whole sides: tenths of a millimetre


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("BATCHONE_APPROVER_PASSPHRASE", "benchmark-passphrase")
    use_kernel_cache()
    with tempfile.TemporaryDirectory() as folder:
        site = options.keep.resolve() if options.keep else Path(folder)
        jobs = [site / "jobs" / f"p{k:02d}" for k in range(options.patients)]
        letters = [one for k, job in enumerate(jobs) for one in made(job, site, k, options.patients)]
        write_allowed_signers(site / "keys")
        shutil.rmtree(site / "builds", ignore_errors=True)
        parts = [part for job in jobs for part in read_manifest((job / "job.json").read_bytes()).parts]
        triangles = sum(part.figures.triangles for part in parts)
        print(f"\n{len(parts)} guides of {triangles // len(parts)} triangles of {len(jobs)} patients, {os.cpu_count()} cores")
        print(f"load {os.getloadavg()[0]:.1f} before")
        tree = nested(jobs, site)
        print(f"{tree['bodies']} bodies, {tree['layers']} layers, {tree['height_mm']:.1f} mm high")
        print(f"{100.0 * tree['utilisation']:.2f} % of the cake filled")
        build = Path(tree["folder"])
        same = agreeing(build, jobs, dict(letters))
        print(f"map, build.json, job.json and the label read from the body agree: {same} of {len(parts)} parts", flush=True)
        wrong = missed(build, site / "keys", site / "changed")
        if not options.no_peers:
            floors(build, site)
            plate(jobs, site)
        sys.exit(int(same != len(parts) or wrong > 0))


def made(job: Path, site: Path, patient: int, patients: int) -> list[tuple[tuple[str, str], np.ndarray]]:
    """Which triangles are letters, by case and part; designs, engraves and seals a job that is not kept."""
    kept, case = site / "letters" / f"{job.name}.npz", ordered(patient).case
    if not (kept.is_file() and (job / "SHA256SUMS.sig").is_file()):
        parts = guides_of(job, site / "keys", patient, patients)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **{part.name: part.face_labels == part.labels.index(LABEL) for part in parts})
    with np.load(kept) as found:
        return [((case, name), found[name]) for name in found.files]


def nested(jobs: Sequence[Path], site: Path) -> dict[str, Any]:
    """Run the command; prints its seconds and its peak memory."""
    command = [sys.executable, "-m", "batchone.pipeline", "nest", *map(str, jobs), "--machine", "sim-01", "--out", str(site)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
    taken = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    tree: dict[str, Any] = json.loads(done.stdout)
    print(
        f"batchone nest: {taken:.1f} s (at most {MOST_S:g}), {cores_s:.1f} s of cores,"
        f" peak {after.ru_maxrss / 1024.0:.0f} MB (at most {MOST_MB:g}; of all children so far)"
    )
    return tree


def floors(build: Path, site: Path) -> None:
    """How high the same guides are in floors of rectangles, each floor as high as its highest guide."""
    manifest = json.loads((build / "build.json").read_text())
    process, machine = load_process(manifest["process"]), load_machine(manifest["machine"])
    sizes = [np.subtract(one["box_high_mm"], one["box_low_mm"]) for one in manifest["instances"]]
    found = rectangles([size[:2] for size in sizes], process.part_spacing_mm, machine, len(sizes), site)
    if "placed" not in found:
        return
    lying = {floor: [sizes[index][2] for at, index in found["placed"] if at == floor] for floor, _ in found["placed"]}
    height = sum(max(heights) for heights in lying.values()) + process.part_spacing_mm * (len(lying) - 1)
    print(f"rectpack: {height:.1f} mm high in {len(lying)} floors of rectangles, {found['seconds']:.2f} s")


def rectangles(sides_mm: Sequence[Any], gap_mm: float, machine: Machine, bins: int, site: Path) -> dict[str, Any]:
    """What rectpack places; says so where it cannot be installed."""
    room = [int(PER_MM * (side + gap_mm)) for side in usable_box_mm(machine)[:2]]
    sides = [[int(np.ceil(PER_MM * (side + gap_mm))) for side in pair] for pair in sides_mm]
    asked = site / "rectangles.json"
    asked.write_text(json.dumps({"sides": sides, "bin": room, "bins": bins}))
    found = _peer("rectangles", "rectpack", asked, package="rectpack")
    if "placed" not in found:
        print(f"rectpack: {found['versions']}")
    return found


def plate(jobs: Sequence[Path], site: Path) -> None:
    """How many guides, the first of a list, all stand on one plate: ours, rectangles, PrusaSlicer's own arrangement."""
    machine = load_machine("sim-01")
    process = load_process("guide-resin").model_copy(update={"part_spacing_mm": PRUSA_GAP_MM})
    files = [path for job in jobs for path in sorted((job / "parts").glob("guide-*.stl"))]
    files = [files[index % len(files)] for index in range(ON_A_PLATE)]
    meshes = [_standing(path) for path in files]
    areas = [float(shadow([solid_of(mesh)]).area) for mesh in meshes]
    room_mm2 = float(np.prod(usable_box_mm(machine)[:2]))
    units = [Unit(path.parts[-3], str(index), (mesh,)) for index, (path, mesh) in enumerate(zip(files, meshes, strict=True))]

    def ours(count: int) -> float | None:
        started = time.perf_counter()
        try:
            nest(units[:count], process=process, machine=machine)
        except MachineError:
            return None
        return time.perf_counter() - started

    def rectpack(count: int) -> float | None:
        found = rectangles([np.ptp(mesh.vertices_mm[:, :2], axis=0) for mesh in meshes[:count]], PRUSA_GAP_MM, machine, 1, site)
        return found["seconds"] if len(found.get("placed", ())) == count else None

    print(f"one plate, nothing above another, {PRUSA_GAP_MM:g} mm between: how many of the guides all fit")
    for name, arrange in (("ours", ours), ("rectpack", rectpack), ("PrusaSlicer", lambda n: prusa(meshes[:n], machine, site))):
        if name == "PrusaSlicer" and shutil.which("prusa-slicer") is None:
            print("  PrusaSlicer: not installed")
            continue
        count, seconds = _most(arrange, len(meshes))
        print(
            f"  {name:12} {count:3} guides, {100.0 * sum(areas[:count]) / room_mm2:5.1f} % of the plate covered, {seconds:6.2f} s"
        )


def _most(arrange: Callable[[int], float | None], count: int) -> tuple[int, float]:
    """The largest number that can be arranged, by halving, and the seconds that it takes."""
    low, high, taken = 0, count + 1, float("nan")
    while high - low > 1:
        middle = (low + high) // 2
        seconds = arrange(middle)
        if seconds is None:
            high = middle
        else:
            low, taken = middle, seconds
    return low, taken


def _standing(path: Path) -> Mesh:
    """A guide of its file, as its job holds it, moved onto the plate."""
    corners = stl_corners(path.read_bytes())
    points, faces = np.unique(np.asarray(corners, dtype=np.float64).reshape(-1, 3), axis=0, return_inverse=True)
    return Mesh(points - points.min(axis=0), faces.reshape(-1, 3).astype(np.int32))


def prusa(meshes: Sequence[Mesh], machine: Machine, site: Path) -> float | None:
    """Seconds of PrusaSlicer's own arrangement; None without one, or where a part reaches beyond the plate.

    The file that it exports has the middle of the bed at the origin, wherever ``--bed-shape`` lies (seen with 2.5).
    """
    import trimesh

    parts = [site / f"part-{index}.stl" for index in range(len(meshes))]
    for path, mesh in zip(parts, meshes, strict=True):
        path.write_bytes(stl_bytes(mesh))
    width, depth, height = usable_box_mm(machine)
    corners = f"0x0,{width:g}x0,{width:g}x{depth:g},0x{depth:g}"
    command = ["prusa-slicer", "--export-3mf", "--merge", "--bed-shape", corners, "--max-print-height", f"{height:g}"]
    command += ["--output", str(site / "prusa.3mf"), *map(str, parts)]
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, timeout=300)
    taken = time.perf_counter() - started
    if done.returncode:
        return None
    low, high = trimesh.load_scene(site / "prusa.3mf").bounds
    off_mm = np.maximum(-low, high)[:2] - [0.5 * width, 0.5 * depth]
    return taken if (off_mm <= ROUNDED_MM).all() and high[2] - low[2] <= height + ROUNDED_MM else None


if __name__ == "__main__":
    main()
