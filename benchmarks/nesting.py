"""A plate of 24 guides of 12 patients: seconds, peak memory, utilisation beside other arrangers.

    python -m benchmarks.nesting [--job FOLDER] [--patients 12]

The guide is that of a released job: of ``batchone demo --device pedicle-guide``, or of ``--job``. Each patient gets two guides
made of it by the same slicer, in sizes of their own (88 to 112 %) and elsewhere in space; manifests are described and sealed as
usual, papers and pictures are left out: they are not read here. Then ``batchone nest`` runs as a program of its own.
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
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from batchone.pipeline.job.archive import threemf_bodies
from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.describe import Case, describe
from batchone.pipeline.job.measure import measure_triangles, stl_bytes, stl_corners
from batchone.pipeline.job.signature import RELEASE, approval_key, release_key, sign, sign_approval
from batchone.pipeline.job.sums import sha256, sums_bytes
from batchone.pipeline.kernel_cache import use_kernel_cache
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
from batchone.slicer.make import slice_device
from batchone.slicer.profiles import load_machine, load_process

RECORD = SeriesRecord("CT", "Maker", "Model", "H30", "HFS", 4, 1.0, 1.0, (1.0, 1.0), 0.0, "1.2.840.10008.1.2.1", "ab" * 32)
TIME = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
SIZES = (0.88, 1.12)  # of the guide, from the first patient to the last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--patients", type=int, default=12)
    options = parser.parse_args()
    use_kernel_cache()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        mesh = guide(options.job or demo(site / "demo"))
        jobs = [released(site / "jobs" / f"p{k:02d}", site / "keys", k, options.patients, mesh) for k in range(options.patients)]
        print(f"\n{2 * len(jobs)} guides of {len(mesh.faces)} triangles of {len(jobs)} patients, {os.cpu_count()} cores")
        print(f"load {os.getloadavg()[0]:.1f} before")
        made = nested(jobs, site)
        print(f"{made['bodies']} bodies, {made['layers']} layers, {made['height_mm']:.1f} mm high")
        print(f"{100.0 * made['utilisation']:.2f} % of the cake filled")
        rectangles(Path(made["folder"]))
        prusa(jobs, site)


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
    files["job.json"] = describe(values, figures, layers=cli_figures(build.layers_cli), digests=digests).to_bytes()
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


def rectangles(build: Path) -> None:
    """How high the same guides are in floors of rectangles, each floor as high as its highest guide."""
    if find_spec("rectpack") is None:
        print("rectpack: not installed")
        return
    import rectpack  # type: ignore[import-not-found]

    manifest = json.loads((build / "build.json").read_text())
    process, machine = load_process(manifest["process"]), load_machine(manifest["machine"])
    gap, margin = process.part_spacing_mm, machine.plate_margin_mm
    plate = [side - 2.0 * margin + gap for side in machine.envelope_mm[:2]]
    packer = rectpack.newPacker(rotation=True)
    sides = []
    for index, one in enumerate(manifest["instances"]):
        size = np.subtract(one["box_high_mm"], one["box_low_mm"])
        sides.append(size)
        packer.add_rect(*(int(np.ceil(10.0 * (side + gap))) for side in size[:2]), rid=index)
    packer.add_bin(*(int(10.0 * side) for side in plate), count=len(sides))
    started = time.perf_counter()
    packer.pack()
    floors = [max(sides[rect[5]][2] for rect in packer.rect_list() if rect[0] == floor) for floor in range(len(packer))]
    height = sum(floors) + gap * (len(floors) - 1)
    print(f"rectpack: {height:.1f} mm high in {len(floors)} floors of rectangles, {time.perf_counter() - started:.2f} s")


def prusa(jobs: Sequence[Path], site: Path) -> None:
    """PrusaSlicer's own arrangement of the same guides on one plate, where the program runs."""
    program = shutil.which("prusa-slicer")
    if program is None:
        print("prusa-slicer: not installed")
        return
    out = site / "prusa.3mf"
    parts = [str(path) for job in jobs for path in sorted((job / "parts").glob("*.stl"))]
    corners = "0x0,240x0,240x240,0x240"
    command = [
        program,
        "--export-3mf",
        "--merge",
        "--bed-shape",
        corners,
        "--max-print-height",
        "320",
        "--output",
        str(out),
        *parts,
    ]
    started = time.perf_counter()
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        print("prusa-slicer --merge: more than 300 s")
        return
    taken = time.perf_counter() - started
    if done.returncode or not out.exists():
        print(f"prusa-slicer --merge: ends with {done.returncode} after {taken:.1f} s: {done.stderr.strip()[-200:]}")
        return
    said = subprocess.run([program, "--info", str(out)], check=False, capture_output=True, text=True).stdout
    sizes = [line for line in said.splitlines() if line.startswith(("size_", "number_of_parts"))]
    print(f"prusa-slicer --merge: {taken:.1f} s, one floor: {', '.join(sizes)}; the plate has 240 x 240 mm")


if __name__ == "__main__":
    main()
