"""Seconds of each check of a device of half a million triangles, and of the interactive and the release set together.

    python -m benchmarks.checks [--triangles 500000] [--rounds 2]

The part is the pedicle guide of the synthetic spine, its triangles split until there are as many as asked for, on a vertebra of
as many triangles. Seconds of the processor and of the clock, the least of the rounds.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from batchone.design.checks.part import INTERACTIVE, PART_CHECKS
from batchone.design.checks.placement import placement_findings
from batchone.design.families import load_families
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import Checked, CheckSet
from batchone.design.make import check, design, plan
from batchone.design.pedicle import checks as pedicle
from batchone.design.table_files import shipped_tables
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.order import Order
from batchone.pipeline.values import Device, Mesh, Part
from batchone.slicer.profiles import load_machine, load_process
from benchmarks.guide import anatomy

NEEDED_S: dict[CheckSet, float] = {"interactive": 2.0, "release": 10.0}  # DESIGN section 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triangles", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    use_kernel_cache()
    shape, process, machine = anatomy(options.triangles), load_process("pa12-sls"), load_machine("sim-01")
    order = Order(
        case="bench", device="pedicle-guide", side="midline", process="pa12-sls", machine="sim-01",
        due=dt.datetime(2030, 1, 1, tzinfo=dt.UTC), parameters=PedicleGuideParameters(bone_model=False),
    )  # fmt: skip
    proposal = plan(shape, order)
    small = design(shape, proposal, order, process)
    check(small, shape, proposal, order, process, machine)  # kernels and libraries are loaded
    device = Device(small.family, (finer(small.parts[0], options.triangles), *small.parts[1:]), small.figures)
    part, family = device.parts[0], load_families()["pedicle-guide"]
    limits = family.limits
    wall = limits.gates["wall_mm"]
    print(f"\nchecks of a pedicle guide of {len(part.mesh.faces):,} triangles", end=", ")
    print(f"bone of {len(shape.bones[0].mesh.faces):,}", end=" ")
    print(f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores); processor s, clock s")
    for name, one in PART_CHECKS.items():
        row(name, name in INTERACTIVE, lambda one=one: one(part, process, wall), options.rounds)  # type: ignore[misc]
    placed = lambda: placement_findings(device, shape, proposal, order, limits=limits, machine=machine)  # noqa: E731
    row("placement", True, placed, options.rounds)
    for only in ("interactive", "release"):
        case = Checked(device, shape, proposal, order, process, machine, shipped_tables(), limits, only)
        for measure in pedicle.CHECKS if only == "interactive" else (pedicle.seats, *pedicle.RELEASE_CHECKS):
            title = f"{measure.__name__} ({only})" if measure is pedicle.seats else measure.__name__
            row(title, only == "interactive", lambda measure=measure, case=case: measure(case), options.rounds)  # type: ignore[misc]
    for only, needed in NEEDED_S.items():

        def judged(only: CheckSet = only) -> object:
            return check(anew(device), shape, proposal, order, process, machine, only=only)

        used, waited = seconds(judged, options.rounds)
        print(f"  {only + ' set':32} {used:6.2f} {waited:6.2f}  (needed {needed:g})")


def anew(device: Device) -> Device:
    """The same device of which nothing is kept from the round before."""
    parts = (replace(one, mesh=Mesh(one.mesh.vertices_mm, one.mesh.faces)) for one in device.parts)
    return Device(device.family, tuple(parts), device.figures)


def finer(part: Part, triangles: int) -> Part:
    """The same closed surface in so many triangles, or one more: all split in four, then the largest in three."""
    import trimesh

    mesh, labels = part.mesh, part.face_labels
    while 4 * len(mesh.faces) <= triangles:
        places, faces, origin = trimesh.remesh.subdivide(mesh.vertices_mm, mesh.faces, return_index=True)
        labels = labels[_origins(origin, len(faces))]
        mesh = Mesh(np.ascontiguousarray(places, dtype=np.float64), np.ascontiguousarray(faces, dtype=np.int32))
    corners = mesh.vertices_mm[mesh.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    split = np.argsort(-areas, kind="stable")[: max(triangles - len(mesh.faces) + 1, 0) // 2]
    middle = len(mesh.vertices_mm) + np.arange(len(split), dtype=np.int32)
    old = mesh.faces[split]
    pieces = [np.column_stack([old[:, k], old[:, (k + 1) % 3], middle]) for k in range(3)]
    faces = np.concatenate([np.delete(mesh.faces, split, axis=0), *pieces]).astype(np.int32)
    labels = np.concatenate([np.delete(labels, split), *(labels[split],) * 3])
    return replace(part, mesh=Mesh(np.concatenate([mesh.vertices_mm, corners[split].mean(axis=1)]), faces), face_labels=labels)


def _origins(index: dict[int, np.ndarray], count: int) -> np.ndarray:
    """(count,) which triangle each piece comes from."""
    origin = np.empty(count, dtype=np.intp)
    for old, pieces in index.items():
        origin[pieces] = old
    return origin


def seconds(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The least seconds of the processor, and of the clock."""
    found = []
    for _ in range(rounds):
        used, waited = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - used, time.perf_counter() - waited))
    return min(one[0] for one in found), min(one[1] for one in found)


def row(name: str, quick: bool, work: Callable[[], object], rounds: int) -> None:
    """Print the seconds of one check, and in which sets it is."""
    used, waited = seconds(work, rounds)
    print(f"  {name:32} {used:6.2f} {waited:6.2f}  {'interactive' if quick else 'release only'}", flush=True)


if __name__ == "__main__":
    main()
