"""A changed parameter to a new guide, on a bone of half a million triangles: seconds, the share of each step, and peers.

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
from collections.abc import Callable

import numba as nb
import numpy as np

from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.family import CheckSet
from batchone.design.make import check, design, plan
from batchone.pipeline.job.pictures import make_pictures
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Bone, FieldOfView
from batchone.samples.spine import GRID_MM, spine_segment
from batchone.segment.frames.vertebra import vertebra
from batchone.slicer.profiles import load_machine, load_process

FIRST_PICTURE = "fit-oblique"  # what a changed parameter shows first: the guide on the bone around it, at an angle

SETS: tuple[CheckSet, ...] = ("interactive", "release")
PLANNER_S = (3.0, 6.0)  # PERFORMANCE.md: from a changed parameter, without any check
COMMERCIAL_S = (480.0, 780.0)  # PERFORMANCE.md: designing a commercial guide
STEPS = {  # functions whose time makes a step; none calls another of its list
    "design": {
        "distances to the bone": ("field.py", "signed_distance_mm"),
        "the bone seen from outside": ("ground.py", "_look_at"),
        "seat": ("seat.py", "make_seat"),
        "shell": ("shell.py", "make_shell"),
        "bores and label": ("guide.py", "features"),
        "booleans": ("identities.py", "first_sound"),
        "fewer triangles": ("finish.py", "finished"),
    },
    "interactive checks": {
        "seating": ("checks.py", "seats"),
        "contact": ("checks.py", "sits_on_bone"),
        "way out": ("checks.py", "slides_on"),
        "screws": ("checks.py", "screws_fit"),
        "bores": ("checks.py", "leads_the_drill"),
        "mesh, walls, gaps": ("part.py", "part_findings"),
        "placement, order": ("device.py", "device_findings"),
    },
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
    changed = replace_parameters(first, shell_mm=5.0)
    seconds: dict[str, list[float]] = {"plan": [], "device": [], "picture": [], "pictures": [], "interactive": [], "release": []}
    for _ in range(options.rounds):
        started = time.perf_counter()
        plan(shape, changed)
        seconds["plan"].append(time.perf_counter() - started)
        started = time.perf_counter()
        device = design(shape, proposal, changed, process)
        seconds["device"].append(time.perf_counter() - started)
        started = time.perf_counter()
        make_pictures(shape, device, proposal, only=FIRST_PICTURE)
        seconds["picture"].append(time.perf_counter() - started)
        started = time.perf_counter()
        make_pictures(shape, device, proposal)
        seconds["pictures"].append(time.perf_counter() - started)
        for only in SETS:
            started = time.perf_counter()
            check(device, shape, proposal, changed, process, machine, only=only)
            seconds[only].append(time.perf_counter() - started)
    bone = shape.bones[0]
    print(f"\na changed parameter to a new pedicle guide, bone of {len(bone.mesh.faces):,} triangles", end=" ")
    print(f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    best = {name: min(values) for name, values in seconds.items()}
    to_device = best["device"] + best["picture"]
    checked = to_device + best["interactive"]
    print(f"  {'':26} {'s':>6} {'needed':>7}  against peers")
    for name, value, needed, peers in (
        ("plan proposed", best["plan"], None, ""),
        ("device", best["device"], None, ""),
        ("its picture on the bone", best["picture"], None, ""),
        ("device with picture", to_device, 2.0, times(to_device, PLANNER_S, "SlicerBoneReconstructionPlanner, without a check")),
        ("interactive checks", best["interactive"], 2.0, "no peer checks"),
        ("with interactive checks", checked, 4.0, times(checked, COMMERCIAL_S, "commercial design")),
        ("release checks", best["release"], 10.0, "no peer checks"),
        ("all pictures of a job", best["pictures"], None, ""),
    ):
        print(f"  {name:26} {value:6.2f} {'' if needed is None else format(needed, 'g'):>7}  {peers}")
    for title, work in (
        ("design", lambda: design(shape, proposal, changed, process)),
        ("interactive checks", lambda: check(device, shape, proposal, changed, process, machine, only="interactive")),
    ):
        shares(title, work, STEPS[title])


def replace_parameters(order: Order, **changes: float) -> Order:
    """The order with other parameters."""
    return order.model_copy(update={"parameters": order.parameters.model_copy(update=changes)})


def times(value: float, peer: tuple[float, float], name: str) -> str:
    """How many times as long a peer takes, from its least to its most."""
    low, high = (one / value for one in peer)
    return f"x{low:.1f} to x{high:.1f} {name}"


def shares(title: str, work: Callable[[], object], steps: dict[str, tuple[str, str]]) -> None:
    """Print the share of each step, in processor seconds on one core: nothing runs beside it there."""
    profile = cProfile.Profile(time.thread_time)
    cores = nb.get_num_threads()
    nb.set_num_threads(1)
    profile.enable()
    work()
    profile.disable()
    nb.set_num_threads(cores)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = max(row[3] for row in stats.values())
    print(f"  {title}, processor seconds on one core: {total:.2f}")
    left = total
    for step, (file, function) in steps.items():
        spent = sum(row[3] for (path, _, name), row in stats.items() if path.endswith("/" + file) and name == function)
        left -= spent
        print(f"    {step:26} {spent:6.2f} s {100 * spent / total:5.0f} %")
    print(f"    {'the rest':26} {left:6.2f} s {100 * left / total:5.0f} %")


if __name__ == "__main__":
    main()
