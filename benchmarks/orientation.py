"""Scores of build directions: seconds for 1,000 directions, and the ratio to the same measures by plain numpy.

    python -m benchmarks.orientation [--triangles 300000] [--directions 1000]

The body is the synthetic vertebra, its upper tenth functional. The numpy way forms areas and supports down to the plate from all
triangles of each direction; it does not look for the part below an overhang, nor for sections. It is timed on every 20th one.
"""

from __future__ import annotations

import argparse
import math
import os

import numpy as np

from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray, FunctionalFace, Part
from batchone.slicer.directions import FLAT_DEG, MEASURES, scores
from batchone.slicer.overhang import Surface, overhang, surface
from batchone.slicer.profiles import load_process
from benchmarks.slicing import body
from benchmarks.speed import _best

EVERY = 20
FUNCTIONAL_SHARE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triangles", type=int, default=300_000)
    parser.add_argument("--directions", type=int, default=1_000)
    options = parser.parse_args()
    use_kernel_cache()
    process = load_process("ti64-lpbf")
    of = surface(part(options.triangles))
    directions = sphere(options.directions)
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians")
    ours_s, table = _best(lambda: scores(of, directions, process))
    numpy_s, plain = _best(lambda: plainly(of, directions[::EVERY], process))
    numpy_s *= len(directions) / len(directions[::EVERY])
    face_s, _ = _best(lambda: overhang(of, directions[0], process))
    off = np.abs(table[::EVERY, : plain.shape[1]] - plain).max(axis=0) / plain.max(axis=0)
    print(f"{len(directions)} directions of {len(of.areas_mm2)} triangles: {ours_s:.2f} s, at most 5 s")
    print(f"plain numpy, areas, height and supports to the plate alone: {numpy_s:.1f} s, {numpy_s / ours_s:.1f} times as long")
    print(f"one direction face by face: {face_s:.2f} s")
    for name, value in zip(MEASURES, off.tolist(), strict=False):
        print(f"  {name}: largest difference {100.0 * value:.4f} % of the largest value")


def part(triangles: int) -> Part:
    """The vertebra with about so many triangles, as a part of which the upper tenth is functional."""
    mesh = body(triangles, 2_000)
    height = mesh.vertices_mm[mesh.faces].mean(axis=1)[:, 2]
    upper = height > np.quantile(height, 1.0 - FUNCTIONAL_SHARE)
    return Part("bone", mesh, upper.astype(np.int16), ("rest", "contact"), (FunctionalFace("contact", "sits on the bone", 0.1),))


def sphere(count: int) -> FloatArray:
    """(count, 3) directions all over a sphere."""
    step = np.arange(count) + 0.5
    height = 1.0 - 2.0 * step / count
    turn = step * math.pi * (3.0 - math.sqrt(5.0))
    ring = np.sqrt(1.0 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)


def plainly(of: Surface, directions: FloatArray, process: Process) -> FloatArray:
    """(k, 6) the first columns of ``MEASURES``, and supports down to the plate, from all triangles by numpy."""
    vertices = of.part.mesh.vertices_mm
    middles = vertices[of.part.mesh.faces].mean(axis=1)
    limit, flat = math.sin(math.radians(process.max_overhang_deg)) + 1e-9, math.cos(math.radians(FLAT_DEG))
    functional = of.areas_mm2 * of.protected
    rows = []
    for up in directions:
        cosine = of.normals @ up
        hangs = -cosine > limit
        along = vertices @ up
        low = along.min()
        rows.append(
            [
                (of.areas_mm2 - functional)[hangs].sum(),
                functional[hangs].sum(),
                of.areas_mm2[np.abs(cosine) > flat].sum(),
                process.layer_mm * math.sqrt((functional * cosine**2).sum() / functional.sum()),
                along.max() - low,
                (of.areas_mm2 * -cosine * (middles @ up - low))[hangs].sum(),
            ]
        )
    return np.array(rows)


if __name__ == "__main__":
    main()
