"""A plate of 24 guides of 12 patients: seconds, peak memory, utilisation beside other arrangers.

    python -m benchmarks.nesting [--job FOLDER] [--patients 12] [--keep FOLDER]

The guide is that of a released job: of ``batchone demo --device pedicle-guide``, or of ``--job``. Each patient gets two guides
made of it by the same slicer, in sizes of their own (88 to 112 %) and elsewhere in space; manifests are described and sealed as
usual, papers and pictures are left out: they are not read here. The guides carry no engraved text: that labels on a plate are
those of the map is tested (``tests/test_nest.py``), not measured here. With ``--keep`` the jobs stay in that folder for the next
time.
Then ``batchone nest`` runs as a program of its own.

Arrangers side by side: how high the cake is in floors of rectangles (rectpack, in an environment of its own), and how many of the
guides stand on one plate without any above another, with the distance that PrusaSlicer keeps.
"""

from __future__ import annotations

import argparse
import datetime as dt
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

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.archive import threemf_bodies
from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.describe import Case, describe
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.measure import measure_triangles, stl_bytes, stl_corners
from batchone.pipeline.job.provenance import PROVENANCE, envelope, statement
from batchone.pipeline.job.sbom import SBOM, sbom
from batchone.pipeline.job.signature import RELEASE, approval_key, release_key, sign, sign_approval
from batchone.pipeline.job.sums import sha256, sums_bytes
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
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
)
from batchone.slicer.clearances import shadow, solid_of
from batchone.slicer.make import slice_device
from batchone.slicer.nest import Unit, nest
from batchone.slicer.plate import usable_box_mm
from batchone.slicer.profiles import load_machine, load_process
from benchmarks.speed import _peer

RECORD = SeriesRecord("CT", "Maker", "Model", "H30", "HFS", 4, 1.0, 1.0, (1.0, 1.0), 0.0, "1.2.840.10008.1.2.1", "ab" * 32)
TIME = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
SIZES = (0.88, 1.12)  # of the guide, from the first patient to the last
ON_A_PLATE = 64  # guides, more than fit: those of the patients, again and again
PRUSA_GAP_MM = 6.0  # what PrusaSlicer 2.5 keeps between objects that are not printed one by one
ROUNDED_MM = 1e-4  # of coordinates in the file that PrusaSlicer exports
PER_MM = 10  # rectangles have whole sides: tenths of a millimetre


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    use_kernel_cache()
    with tempfile.TemporaryDirectory() as folder:
        site = options.keep.resolve() if options.keep else Path(folder)
        jobs = [site / "jobs" / f"p{k:02d}" for k in range(options.patients)]
        if not all((job / "SHA256SUMS.sig").is_file() for job in jobs):
            mesh = guide(options.job or demo(site / "demo"))
            jobs = [released(job, site / "keys", k, options.patients, mesh) for k, job in enumerate(jobs)]
        triangles = read_manifest((jobs[0] / "job.json").read_bytes()).parts[0].figures.triangles
        print(f"\n{2 * len(jobs)} guides of {triangles} triangles of {len(jobs)} patients, {os.cpu_count()} cores")
        print(f"load {os.getloadavg()[0]:.1f} before")
        made = nested(jobs, site)
        print(f"{made['bodies']} bodies, {made['layers']} layers, {made['height_mm']:.1f} mm high")
        print(f"{100.0 * made['utilisation']:.2f} % of the cake filled")
        floors(Path(made["folder"]), site)
        plate(jobs, site)


def demo(site: Path) -> Path:
    """The job of the demonstration guide."""
    command = [sys.executable, "-m", "batchone.pipeline", "demo", "--device", "pedicle-guide", "--out", str(site)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(site.glob("cases/*/job/*/job.json")).parent


def guide(job: Path) -> Mesh:
    """The first guide of a job, patient LPS."""
    (body,) = threemf_bodies(next(p for p in sorted(job.glob("parts/*.3mf")) if "guide" in p.name).read_bytes())
    return Mesh(body.vertices_mm, body.triangles.astype(np.int32))


def released(folder: Path, keys: Path, patient: int, patients: int, mesh: Mesh) -> Path:
    """A sealed job of two guides for one patient."""
    parts = []
    for number in range(2):
        share = (2 * patient + number) / max(1, 2 * patients - 1)
        scale = SIZES[0] + share * (SIZES[1] - SIZES[0])
        points = mesh.vertices_mm * scale + np.array([3.0 * patient, -5.0 * number, 10.0 * patient])
        parts.append(Part(f"guide-{number + 1}", Mesh(points, mesh.faces), np.zeros(len(mesh.faces), np.int16), ("body",)))
    process, machine = load_process("pa12-sls"), load_machine("sim-01")
    checked = CheckedDevice(Device("pedicle-guide", tuple(parts)), ())
    word = Approval("bench", TIME, "benchmark", sha256(str(patient).encode()), "")
    approval = sign_approval(word, approval_key(keys, "bench"))
    build = slice_device(checked, approval, process, machine)
    due = TIME + dt.timedelta(hours=patient)
    order = Order(
        case=f"bench-{patient + 1:04d}",
        device="pedicle-guide",
        side="midline",
        process=process.name,
        machine=machine.name,
        due=due,
    )
    scan = Scan(np.zeros((4, 4, 4), np.int16), np.eye(4), RECORD)
    anatomy = Anatomy((), (), FieldOfView(np.eye(4), (4, 4, 4)))
    plan = Plan("pedicle-guide", True, "midline")
    values = Case(scan, anatomy, plan, checked, approval, build, order, process, machine, release_key(keys))
    files = {"build/plate.3mf": build.plate_3mf, "build/layers.cli": build.layers_cli}
    files |= {"build-report.pdf": b"left out", "clinical-report.pdf": b"left out"}
    for part in parts:
        files |= {f"parts/{part.name}.stl": stl_bytes(part.mesh), f"parts/{part.name}.3mf": dict(build.part_3mf)[part.name]}
    figures = {part.name: measure_triangles(stl_corners(files[f"parts/{part.name}.stl"])) for part in parts}
    digests = {name: sha256(data) for name, data in files.items()}
    manifest = describe(values, figures, layers=cli_figures(build.layers_cli), digests=digests)
    files |= {"job.json": manifest.to_bytes(), SBOM: sbom(tuple(manifest.versions))}
    stated = statement(manifest, {name: sha256(data) for name, data in files.items()})
    files[PROVENANCE] = envelope(stated, release_key(keys))
    sums = sums_bytes({name: sha256(data) for name, data in files.items()})
    files |= {"SHA256SUMS": sums, "SHA256SUMS.sig": sign(release_key(keys), sums, namespace=RELEASE).encode()}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


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
        f"batchone nest: {taken:.1f} s, {cores_s:.1f} s of cores, peak {after.ru_maxrss / 1024.0:.0f} MB (of all children so far)"
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
