"""The machine twin: how far it is from the estimate of time, and how long it takes itself.

Usage: ``python -m benchmarks.twin [JOB ...]``: job folders or build folders; without any, that of the demo. Targets: time within
1 % of the estimate, 2,000 layers in 10 s, 100 pictures in 20 s. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from batchone.factory.twin.camera import Camera
from batchone.factory.twin.faults import random_faults
from batchone.factory.twin.machine import Twin
from batchone.factory.twin.sensors import samples
from batchone.slicer.profiles import load_machine, load_process

PICTURES, LAYERS = 100, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", type=Path)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs or [_demo(Path(folder))]:
            _measure(job)


def _demo(folder: Path) -> Path:
    command = [sys.executable, "-m", "batchone.pipeline", "demo", "--device", "cranial-implant", "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return next(path.parent for path in folder.rglob("job.json"))


def _measure(job: Path) -> None:
    said = json.loads((job / ("job.json" if (job / "job.json").exists() else "build.json")).read_text(encoding="utf-8"))
    process, machine = load_process(said["process"]), load_machine(said["machine"])
    estimated_s = (said.get("plate") or said["build"])["seconds"]
    started = time.process_time()
    twin = Twin(job, process, machine, seed=1)
    layers = len(twin.built)
    ran_s = time.process_time() - started
    drawn_s, around_s = float(twin.strokes.seconds.sum()), estimated_s - process.setup_s - layers * process.recoat_s
    print(f"{job.name}: {process.name}, {layers} layers, {int(twin.strokes.count.sum())} strokes")
    print(f"  time     {twin.built_s:12.1f} s   estimate {estimated_s:12.1f} s   {100 * (twin.built_s / estimated_s - 1):+.4f} %")
    if process.scan is not None:
        print(f"  laser    {drawn_s:12.1f} s   estimate {around_s:12.1f} s   {100 * (drawn_s / around_s - 1):+.4f} %")
    by_hand_g = float(twin.outlines.area_mm2().sum()) * process.layer_mm * process.density_g_per_mm3
    load_g = twin.built[-1].filter_load_g
    print(f"  molten   {by_hand_g:12.3f} g   filter {load_g:.4f} g, {twin.plant.fume_share:g} of it")
    power = twin.power
    cooled_s = twin.seconds - twin.built_s
    energy_kwh = (twin.ready_s * power.heat_kw + (twin.built_s - twin.ready_s) * power.build_kw + cooled_s * power.cool_kw) / 3600
    print(f"  energy   {twin.energy_kwh:12.4f} kWh  by hand {energy_kwh:12.4f} kWh")
    print(f"  runs in  {ran_s:12.2f} s   {ran_s * LAYERS / layers:.2f} s for {LAYERS} layers")
    started = time.process_time()
    count = sum(1 for _ in samples(twin, 1.0))
    print(f"  samples  {count:12d}     {time.process_time() - started:.2f} s")
    _pictures(
        Twin(
            job,
            process,
            machine,
            seed=1,
            faults=random_faults(layers, process, seed=1, rates={"spatter": 0.02, "short-feed": 0.02}),
        )
    )


def _pictures(twin: Twin) -> None:
    camera = Camera(twin)
    chosen = np.linspace(0, len(twin.built) - 1, PICTURES // 2).astype(int)
    started = time.process_time()
    taken = [len(picture.png()) for layer in chosen.tolist() for picture in camera.pictures(layer)]

    if taken:
        print(
            f"  pictures {len(taken):12d}     {time.process_time() - started:.2f} s, {sum(taken) / len(taken) / 1e3:.0f} kB each"
        )


if __name__ == "__main__":
    main()
