"""One row of the stage's tables: ``python -m benchmarks.segmentation_once CASE COLUMNS ROWS SLICES [--data DIR]`` prints JSON.

A device's region of interest is the bones that it is made from: what the order names in ``[target] bones``. All of the scan is
looked at to tell the bones apart, but only these get a surface, its uncertainty, a frame and landmarks.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchone.design.families import load_families
from batchone.pipeline.memory import give_freed_memory_back, peak_mb, reset_peak
from batchone.pipeline.order import Order, parse_order
from batchone.pipeline.values import FloatArray, HuArray, Scan, SeriesRecord
from batchone.samples.head import head_phantom
from batchone.samples.long_bone import bone_surface, long_bone

AIR_HU, AIR_NOISE_HU = -1000, 20.0
BONE_MM = 230.0  # of the sample's long bone: most of 400 slices


@dataclass(frozen=True)
class Case:
    """What a device needs of a scan: in words, the scan, and the order's bones (all by name with "every")."""

    what: str
    scan: Callable[[tuple[int, int, int], Path], Scan]
    bones: tuple[str, ...] = ()
    side: str = "midline"


def head(size: tuple[int, int, int], _: Path) -> Scan:
    """The head phantom in the field of view of a head."""
    columns, rows, slices = size
    phantom = head_phantom(shape=(slices, rows, columns), spacing_mm=(160.0 / slices, 230.4 / rows, 230.4 / columns))
    return _scan(phantom.hu, phantom.affine)


def limb(size: tuple[int, int, int], _: Path) -> Scan:
    """The sample's long bone in its limb, in a larger field of view."""
    made = long_bone(bone_surface(BONE_MM))
    columns, rows, slices = size
    shape = (slices, rows, columns)
    noise = np.random.default_rng(1).normal(AIR_HU, AIR_NOISE_HU, shape).astype(np.int16)
    first = [(n - m) // 2 for n, m in zip(shape, made.hu.shape, strict=True)]
    to = tuple(slice(max(0, f), max(0, f) + min(m, n)) for f, m, n in zip(first, made.hu.shape, shape, strict=True))
    from_ = tuple(slice(max(0, -f), max(0, -f) + min(m, n)) for f, m, n in zip(first, made.hu.shape, shape, strict=True))
    noise[to] = made.hu[from_]
    affine = made.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array(first[::-1], dtype=np.float64)
    return _scan(noise, affine)


def thorax(_: tuple[int, int, int], data: Path) -> Scan:
    """The real scan as it is."""
    from benchmarks.apart import read

    return read(data / "thorax.zip")


def fine_thorax(size: tuple[int, int, int], data: Path) -> Scan:
    """The real scan with slices laid between its own, as many as asked for."""
    scan = thorax(size, data)
    own, slices = len(scan.hu), size[2]
    hu = np.empty((slices, *scan.hu.shape[1:]), dtype=np.int16)
    for n, place in enumerate(np.linspace(0.0, own - 1.0, slices)):
        k = min(int(place), own - 2)
        hu[n] = np.round(scan.hu[k] * (1.0 - (place - k)) + scan.hu[k + 1] * (place - k))
    affine = scan.affine.copy()
    affine[:3, 2] *= (own - 1.0) / (slices - 1.0)
    return Scan(hu, affine, scan.record)


VERTEBRAE = ("vertebra-5", "vertebra-6")
CASES = {
    "skull": Case("the skull, whole, with vault, orbits and ear canals (model, cranial implant)", head),
    "long-bone": Case("one long bone, whole", limb, ("tibia",), "left"),
    "thorax": Case("two vertebrae of a real thorax (pedicle guide), its own 150 slices", thorax, VERTEBRAE),
    "fine-thorax": Case("the same thorax, slices interpolated", fine_thorax, VERTEBRAE),
    "every-bone": Case("every bone of that thorax", fine_thorax, ("every",)),
}


def _scan(hu: HuArray, affine: FloatArray) -> Scan:
    record = SeriesRecord("CT", "", "", "", "HFS", len(hu), 1.0, 1.0, (0.8, 0.8), 0.0, "", "0" * 64)
    return Scan(hu, affine, record)


def order(bones: tuple[str, ...], side: str) -> Order:
    """An anatomical model of bones."""
    data = {"case": "speed", "device": "anatomical-model", "side": side, "process": "pa12-sls", "machine": "sim-01"}
    target = {"target": {"bones": list(bones)}} if bones else {}
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    return parse_order({**data, **target, "due": due}, {name: family.parameters for name, family in load_families().items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=tuple(CASES))
    parser.add_argument("size", type=int, nargs=3)
    parser.add_argument("--data", type=Path, default=os.environ.get("BATCHONE_TEST_DATA"))
    arguments = parser.parse_args()
    case, size = CASES[arguments.case], tuple(arguments.size)
    scan = case.scan((size[0], size[1], size[2]), Path(arguments.data or ""))
    bones = case.bones
    if bones == ("every",):
        from batchone.segment.apart.make import bones_apart

        bones = tuple(dict.fromkeys(label.name for label in bones_apart(scan)[0].labels))
    asked = order(bones, case.side)
    give_freed_memory_back()
    reset_peak()
    times = []
    for _ in range(3):
        wall, spent = time.perf_counter(), time.process_time()
        from batchone.segment.make import segment  # the first call pays for the imports, too

        found = segment(scan, asked)
        times.append((time.perf_counter() - wall, time.process_time() - spent))
    first, second = times[0], min(times[1:])
    triangles = sum(len(bone.mesh.faces) for bone in found.bones)
    row = {"first_s": first[0], "second_s": second[0], "cpu_s": second[1], "peak_mb": peak_mb(), "size": scan.hu.shape[::-1]}
    print(json.dumps({**row, "bones": len(found.bones), "triangles": triangles}))


if __name__ == "__main__":
    main()
