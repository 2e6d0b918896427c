"""A changed parameter to a new guide, on a bone of half a million triangles: seconds, and the share of each step.

    python -m benchmarks.guide [--rounds 3] [--triangles 500000]

The vertebra is the synthetic spine's, meshed finer. The clock runs from the changed order to the new device with one picture of
it on the bone; then through the interactive checks, and those of a release. What people use today, from the facts:
SlicerBoneReconstructionPlanner redesigns in 3 to 6 s without any check; designing a commercial guide takes 8 to 13 min.
"""

from __future__ import annotations

import argparse
import cProfile
import datetime as dt
import os
import pstats
import time

import numba as nb
import numpy as np

from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.make import check, check_quickly, design, plan
from batchone.pipeline.job.pictures import make_pictures
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Bone, FieldOfView
from batchone.samples.spine import GRID_MM, spine_segment
from batchone.segment.frames.vertebra import vertebra
from batchone.slicer.profiles import load_machine, load_process

FIRST_PICTURE = "fit-oblique"  # what a changed parameter shows first: the guide on the bone around it, at an angle

SETS = {"interactive": check_quickly, "release": check}
STEPS = {  # functions whose time makes a step; each is called by the design stage once per guide
    "distances to the bone": ("field.py", "signed_distance_mm"),
    "the bone seen from outside": ("ground.py", "_look_at"),
    "seat": ("seat.py", "make_seat"),
    "shell": ("shell.py", "make_shell"),
    "room for the crosslink": ("ground.py", "room_about"),
    "bores and label": ("guide.py", "features"),
    "booleans": ("identities.py", "first_sound"),
    "fewer triangles": ("finish.py", "finished"),
}


def anatomy(triangles: int) -> Anatomy:
    """The middle vertebra of a synthetic spine with about so many triangles."""
    coarse = spine_segment(3).vertebrae[1]
    mesh = spine_segment(3, grid_mm=GRID_MM * float(np.sqrt(len(coarse.faces) / triangles))).vertebrae[1]
    found = vertebra(coarse, np.full(len(coarse.vertices_mm), 0.05), "L3")
    if found is None:
        raise SystemExit("the synthetic vertebra shows no landmarks")
    bone = Bone("L3", "midline", True, 1.0, 26000.0, mesh, found.frame, np.full(len(mesh.vertices_mm), 0.05))
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--triangles", type=int, default=500_000)
    options = parser.parse_args()
    shape = anatomy(options.triangles)
    process, machine = load_process("pa12-sls"), load_machine("sim-01")
    first = Order(
        case="bench", device="pedicle-guide", side="midline", process="pa12-sls", machine="sim-01",
        due=dt.datetime(2030, 1, 1, tzinfo=dt.UTC), parameters=PedicleGuideParameters(bone_model=False),
    )  # fmt: skip
    proposal = plan(shape, first)
    design(shape, proposal, first, process)  # kernels and libraries are loaded
    changed = replace_parameters(first, shell_mm=3.5)
    seconds: dict[str, list[float]] = {"device": [], "picture": [], "pictures": [], "interactive": [], "release": []}
    for _ in range(options.rounds):
        started = time.perf_counter()
        device = design(shape, proposal, changed, process)
        seconds["device"].append(time.perf_counter() - started)
        started = time.perf_counter()
        make_pictures(shape, device, proposal, only=FIRST_PICTURE)
        seconds["picture"].append(time.perf_counter() - started)
        started = time.perf_counter()
        make_pictures(shape, device, proposal)
        seconds["pictures"].append(time.perf_counter() - started)
        for only in ("interactive", "release"):
            started = time.perf_counter()
            SETS[only](device, shape, proposal, changed, process, machine)
            seconds[only].append(time.perf_counter() - started)
    bone = shape.bones[0]
    print(f"\na changed parameter to a new pedicle guide, bone of {len(bone.mesh.faces):,} triangles", end=" ")
    print(f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    best = {name: min(values) for name, values in seconds.items()}
    to_device = best["device"] + best["picture"]
    print(f"  device {best['device']:.2f} s, its picture on the bone {best['picture']:.2f} s: {to_device:.2f} s (needed 2)")
    print(f"  with the interactive checks {to_device + best['interactive']:.2f} s (needed 4)")
    print(f"  all pictures of a job {best['pictures']:.2f} s")
    print(f"  interactive checks {best['interactive']:.2f} s (needed 2), release checks {best['release']:.2f} s (needed 10)")
    print("  peers: SlicerBoneReconstructionPlanner 3 to 6 s without a check; commercial design 8 to 13 min")
    shares(lambda: design(shape, proposal, changed, process))


def replace_parameters(order: Order, **changes: float) -> Order:
    """The order with other parameters."""
    return order.model_copy(update={"parameters": order.parameters.model_copy(update=changes)})


def shares(work: object) -> None:
    """Print the share of each step of the design stage, in processor seconds on one core: nothing runs beside it there."""
    profile = cProfile.Profile(time.thread_time)
    cores = nb.get_num_threads()
    nb.set_num_threads(1)
    profile.enable()
    assert callable(work)
    work()
    profile.disable()
    nb.set_num_threads(cores)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = max(row[3] for row in stats.values())
    for step, (file, function) in STEPS.items():
        spent = sum(row[3] for (path, _, name), row in stats.items() if path.endswith("/" + file) and name == function)
        print(f"  {step:26} {spent:6.2f} s {100 * spent / total:5.0f} %")


if __name__ == "__main__":
    main()
