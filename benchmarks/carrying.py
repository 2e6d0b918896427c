"""Every kind of device by every process: which way up, what carries it, and that functional faces carry nothing.

    python -m benchmarks.carrying [--kinds NAME ...] [--processes NAME ...] [--pictures FOLDER]

Each device is designed for the process on the first of its bones, guides with a model of their bone too, and sliced as in a case.
What cannot be made so is refused with its reason: those refusals that are right are in ``REFUSED``, any other fails, and so does
a device of that table that was made. ``made`` is how often supports were made: once for each part whose first way up is right.
``apart`` is how near supports come to functional faces, measured by points all over the bodies on the plate, apart from what the
slicer says: it must be the gap of the process, to within the distance of the points. (Supports of FFF are lines of another
program: what touches is what the G-code says.) With ``--pictures`` the pictures of orientation, supports, plate and layers are
kept. The exit status is 1 where anything is not as it should be.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import sys
import time
from pathlib import Path

import numpy as np

from batchone.design.make import design, plan
from batchone.design.nearest import nearest_points
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.job.layer_picture import layer_pictures
from batchone.pipeline.job.orientation_picture import orientation_pictures
from batchone.pipeline.job.plate_pictures import job_on_plate
from batchone.pipeline.job.support_picture import support_picture
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.process import Process
from batchone.pipeline.values import Approval, Build, CheckedDevice, Device, Mesh, Part
from batchone.samples.faulty.good import bones, order
from batchone.slicer.cli_format import read_cli
from batchone.slicer.make import slice_device
from batchone.slicer.overhang import middles_of
from batchone.slicer.profiles import load_machine, load_process, process_names
from batchone.slicer.supports import bodies

KINDS = ("pedicle-guide", "osteotomy-guide", "tibial-guide", "cranial-implant", "anatomical-model", "hollow-model")
GUIDES = ("pedicle-guide", "tibial-guide")  # that have a model of their bone with them
APPROVAL = Approval("TEST^ALPHA", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "release", "ab" * 32, "")
MACHINE = load_machine("sim-01")
TOUCHING = ("orient.functional", "supports.on_functional", "toolpath.functional_supports")
GATES = (*TOUCHING, "supports.islands", "supports.unsupported", "supports.reach")
POINTS_MM = 0.25  # numerical: points all over supports
NO_ROOM = "no room for a drill above it"  # the thicker walls of a nozzle's saw block cover a pin of the default plan
REFUSED: dict[tuple[str, str], str] = {  # device, process -> what the reason says
    ("pedicle-guide", "cocr-lpbf"): "area of functional faces that needs a support (label)",
    ("pedicle-guide", "ti64-lpbf"): "area of functional faces that needs a support (label)",
    ("osteotomy-guide", "cocr-lpbf"): "the part cannot be carried as it stands",
    ("osteotomy-guide", "ti64-lpbf"): "the part cannot be carried as it stands",
    ("osteotomy-guide", "peek-fff"): NO_ROOM,
    ("osteotomy-guide", "pla-fff"): NO_ROOM,
    ("tibial-guide", "peek-fff"): NO_ROOM,
    ("tibial-guide", "pla-fff"): NO_ROOM,
    ("hollow-model", "guide-resin"): "a vat seals cups",
    ("hollow-model", "pa12-mjf"): "escape_hole_mm is 4 mm, at least 5 mm",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--processes", nargs="*", default=list(process_names()))
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    use_kernel_cache()
    print("| device | process | made | supports, mm3 | touch, mm2 | apart, mm | on functional, mm2 | hangs, mm2 | CPU, s |")
    print("|---|---|---|---|---|---|---|---|---|")
    wrong = 0
    for kind in options.kinds:
        for name in options.processes:
            row, failed = line(kind, name, options.pictures)
            wrong += failed
            print(row, flush=True)
    print(f"{wrong} devices refused or made that should not be, with supports at functional faces, or of which something hangs")
    sys.exit(1 if wrong else 0)


def line(kind: str, name: str, pictures: Path | None = None) -> tuple[str, bool]:
    """The row of a device and a process, and whether anything of it is not as it should be."""
    title, began, device = f"| {kind} | {name} |", time.process_time(), None
    try:
        device = made(kind, name)
        build, ways = sliced(device, name)
    except (BatchoneError, ValueError) as error:
        wrong = wrongly_refused(kind, name, str(error))
        done = "refused" if device else "not designed"
        said = f"{done}{', UNEXPECTED,' if wrong else ''} after {time.process_time() - began:.0f} s"
        return f"{title} {said}: {str(error).splitlines()[0]} |", wrong
    seconds = time.process_time() - began
    if pictures is not None:
        keep(pictures / f"{kind}-{name}", build, device)
    worst = {gate: max((f.value for f in build.findings if f.check == gate), default=0.0) for gate in GATES}
    touched = sum(worst[gate] for gate in TOUCHING)
    volume, contact = (sum(getattr(one, figure) for one in build.supports) for figure in ("volume_mm3", "contact_mm2"))
    apart_mm = apart(build, device)
    row = f"{title} {ways} | {volume:.0f} | {contact:.1f} | {apart_mm:.2f} | {touched:g} |"
    row += f" {worst['supports.unsupported']:.2f} | {seconds:.1f} |"
    near = too_near(apart_mm, load_process(name))
    return row, near or (kind, name) in REFUSED or any(f.verdict == "fail" for f in build.findings if f.check in GATES)


def wrongly_refused(kind: str, process: str, reason: str) -> bool:
    """Whether a refusal is none of those that are expected, or for another reason."""
    return (kind, process) not in REFUSED or REFUSED[kind, process] not in reason


def apart(build: Build, device: Device) -> float:
    """Least distance from points all over supports to the functional faces of the part they carry, mm; infinite without any."""
    least = math.inf
    carried = {support.part: support.mesh for support in build.supports}
    for part, placement in zip(device.parts, build.placements, strict=True):
        names = {face.label for face in part.functional_faces}
        functional = np.isin(part.face_labels, [k for k, label in enumerate(part.labels) if label in names])
        if part.name in carried and functional.any():
            mesh = carried[part.name]
            points = np.concatenate([mesh.vertices_mm, middles_of(mesh.vertices_mm[mesh.faces], POINTS_MM)[0]])
            faces = Mesh(part.mesh.moved(placement.pose).vertices_mm, np.ascontiguousarray(part.mesh.faces[functional]))
            least = min(least, float(nearest_points(points, faces)[0].min()))
    return least


def too_near(apart_mm: float, process: Process) -> bool:
    """Whether supports come nearer to functional faces than the process says, to within the distance of the points."""
    return process.supports is not None and apart_mm < process.supports.gap_mm - POINTS_MM


def made(kind: str, process: str) -> Device:
    """A device on the first of its bones, for a process; guides with a model of the bone."""
    anatomy, proposal = bones(kind)[0]
    more = {"bone_model": True} if kind in GUIDES else {}
    wanted = order(kind, **more).model_copy(update={"process": process})
    return design(anatomy, proposal or plan(anatomy, wanted), wanted, load_process(process))


def sliced(device: Device, process: str) -> tuple[Build, int]:
    """Its build, and for how many ways supports were made."""
    ways, supported = 0, bodies.supported

    def counted(part: Part, placed: Mesh, process: Process) -> bodies.Supported:
        nonlocal ways
        ways += 1
        return supported(part, placed, process)

    bodies.supported = counted
    try:
        return slice_device(CheckedDevice(device, ()), APPROVAL, load_process(process), MACHINE), ways
    finally:
        bodies.supported = supported


def keep(folder: Path, build: Build, device: Device) -> None:
    """Write the pictures of a build."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = (
        *orientation_pictures(build),
        *support_picture(build, device),
        *job_on_plate(build, device, MACHINE),
        *layer_pictures(read_cli(build.layers_cli)),
    )
    for picture in shown:
        (folder / picture.name).write_bytes(picture.png)


if __name__ == "__main__":
    main()
