"""A study to a volume: seconds and memory beside the usual readers, on a 512 x 512 x 400 series, uncompressed and JPEG-LS.

    python -m benchmarks.intake [--size 512x512x400] [--rounds 5] [--keep DIR]

Each reading is a process of its own; libraries are loaded before its clock starts. Ours is the whole intake stage: every file's
header, the geometry checks, the true volume in HU, the digests, the scan's appraisal. The readers take turns and the best of all
rounds counts, for a shared machine only ever makes a run slower; the processor seconds of the whole process tree (start and
libraries included) tell what a run cost. Memory is the largest sum of the proportional set sizes (PSS) over the process tree,
sampled twenty times a second, with interpreter and libraries; beside it, how much of it is not the volume.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

PEERS = Path(__file__).parent / "peers"
SAMPLE_S = 0.05
MAX_EXTRA_MB = 200.0
OURS = "batchone"
# syntax -> readers and how many times slower than ours they must be
NEEDED = {
    "uncompressed": {"pydicom-typical": 5.0, "pydicom-best": 1.2, "simpleitk": 1.5},
    "JPEG-LS": {"pydicom-typical": 1.0, "simpleitk": 1.0},
}


@dataclass
class Figures:
    """Of one reader: seconds of each round, the largest memory of its tree, versions."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: float = float("inf")
    peak_mb: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="512x512x400", help="columns x rows x slices")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, default=None, help="keep the series here, and use them again")
    parser.add_argument("--ours", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours is not None:
        print(json.dumps(read_ours(options.ours)))
        return
    columns, rows, slices = (int(part) for part in options.size.split("x"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for syntax, series in make_series(folder, (slices, rows, columns)).items():
            report(syntax, compare(syntax, series, options.rounds), volume_mb=slices * rows * columns * 2 / 1e6)


def make_series(folder: Path, shape: tuple[int, int, int]) -> dict[str, Path]:
    """A head with noise, stored both ways."""
    plain, packed = folder / "uncompressed", folder / "jpeg-ls"
    if not packed.exists():
        from batchone.samples.dicom import write_series
        from batchone.samples.head import head_phantom

        slices, rows, columns = (-(-side // 4) for side in shape)
        phantom = head_phantom(shape=(slices, rows, columns), spacing_mm=(1.8, 1.8, 1.6))  # one in four, repeated: quick
        hu = phantom.hu
        for axis, side in enumerate(shape):
            hu = np.repeat(hu, 4, axis=axis).take(np.arange(side), axis=axis)
        hu = np.clip(hu + np.random.default_rng(7).normal(0.0, 12.0, shape).astype(np.int16), -1024, 3071).astype(np.int16)
        write_series(hu, phantom.affine @ np.diag([0.25, 0.25, 0.25, 1.0]), plain)
        _pack(plain, packed)
    return {"uncompressed": plain, "JPEG-LS": packed}


def _pack(plain: Path, packed: Path) -> None:
    import pydicom
    from pydicom.uid import JPEGLSLossless

    packed.mkdir(parents=True)
    for path in sorted(plain.iterdir()):
        image = pydicom.dcmread(path)
        image.compress(JPEGLSLossless, generate_instance_uid=False)
        image.save_as(packed / path.name, enforce_file_format=True)


def read_ours(series: Path) -> dict[str, Any]:
    """Read a series with the intake stage, in this process."""
    import datetime as dt
    from importlib.metadata import version

    from batchone.design.families import load_families
    from batchone.pipeline.intake.make import intake
    from batchone.pipeline.order import Order

    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    order = Order(case="bench", device="anatomical-model", side="left", process="pa12-sls", machine="sim-01", due=due)
    protocol = load_families()[order.device].limits.protocol
    started = time.perf_counter()
    scan, _ = intake(series, order, protocol)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "shape": scan.hu.shape, "versions": {"batchone": version("batchone"), "numpy": np.__version__}}


def compare(syntax: str, series: Path, rounds: int) -> dict[str, Figures]:
    """Let the readers take turns."""
    found: dict[str, Figures] = {name: Figures() for name in (OURS, *NEEDED[syntax])}
    for _ in range(rounds):
        for name, figures in found.items():
            answer, peak_mb, cpu_s = _measured(_command(name, series))
            figures.cpu_s = min(figures.cpu_s, cpu_s)
            figures.seconds.append(answer["seconds"])
            figures.peak_mb = max(figures.peak_mb, peak_mb)
            figures.versions = answer["versions"]
    return found


def _command(name: str, series: Path) -> list[str]:
    if name == OURS:
        return [sys.executable, "-m", "benchmarks.intake", "--ours", str(series)]
    return [sys.executable, str(PEERS / "read_series.py"), name, str(series)]


def _measured(command: list[str]) -> tuple[dict[str, Any], float, float]:
    before = os.times()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        peaks = [0.0]
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, ended, peaks))
        watch.start()
        text, _ = process.communicate()
        ended.set()
        watch.join()
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return dict(json.loads(text.strip().splitlines()[-1])), max(peaks), cpu_s


def _watch(root: int, ended: threading.Event, peaks: list[float]) -> None:
    while not ended.wait(SAMPLE_S):
        peaks.append(sum(_pss_mb(process) for process in tree(root)))


def tree(root: int) -> list[int]:
    """A process and all below it."""
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                waiting += [int(text) for text in children.read_text().split()]
            except OSError:  # it has ended
                continue
    return found


def _pss_mb(process: int) -> float:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(text.split("\nPss:")[1].split()[0]) * 1024 / 1e6 if "\nPss:" in text else 0.0


def report(syntax: str, found: dict[str, Figures], *, volume_mb: float) -> None:
    ours_s = min(found[OURS].seconds)
    print(f"\nread a series, {syntax}, volume {volume_mb:.0f} MB (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    print(f"  {'reader':18} {'best s':>7} {'median':>7} {'x ours':>7} {'needed':>7} {'cpu s':>6} {'peak MB':>8} {'- volume':>9}")
    for name, figures in found.items():
        best_s, median_s = min(figures.seconds), float(np.median(figures.seconds))
        needed = NEEDED[syntax].get(name)
        ratio = best_s / ours_s
        verdict = "" if needed is None else ("" if ratio >= needed else "  MISSED")
        if name == OURS and figures.peak_mb - volume_mb > MAX_EXTRA_MB:
            verdict = f"  MISSED: at most {MAX_EXTRA_MB:.0f} MB above the volume"
        versions = ", ".join(f"{key} {value}" for key, value in figures.versions.items())
        print(
            f"  {name:18} {best_s:7.2f} {median_s:7.2f} {ratio:7.2f} {needed or '':>7} {figures.cpu_s:6.1f} "
            f"{figures.peak_mb:8.0f} {figures.peak_mb - volume_mb:9.0f}{verdict}  ({versions})"
        )


if __name__ == "__main__":
    main()
