"""One skull, scanned straight and with a tilted gantry: does the same bone come out?

Usage: ``python -m benchmarks.tilt`` (needs ``BATCHONE_TEST_DATA``). The floor is what the tilted scan's coarser slices cost by
themselves: the straight scan, seen through slices of the tilted scan's place, distance and thickness, segmented and compared.
Nothing was tuned on these two scans together.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from batchone.design.families import load_families
from batchone.pipeline.intake.make import intake
from batchone.pipeline.order import Order, parse_order
from batchone.pipeline.values import Mesh, Scan
from batchone.samples.two_scans import Compared, compared, registered, seen_as
from batchone.segment.make import segment


def main() -> None:
    data = os.environ.get("BATCHONE_TEST_DATA")
    if data is None:
        print("tilt: BATCHONE_TEST_DATA is not set")
        return
    found, floor = both(Path(data))
    print("\nHead phantom, tilted by -18.5 deg, against the same head scanned straight (after rigid registration)")
    print(f"  {'':28} {'median':>8} {'P95':>8} mm   {'shear':>8} mm per 100 mm")
    for name, one in (("tilted", found), ("straight, coarse (floor)", floor)):
        print(f"  {name:28} {one.median_mm:8.3f} {one.p95_mm:8.3f}      {one.slope_mm:8.3f}")


def both(data: Path) -> tuple[Compared, Compared]:
    """The tilted scan against the straight one, and the floor."""
    straight, tilted = read(data / "head-phantom.zip"), read(data / "head-phantom-tilted.zip")
    truth, other = skull(straight), skull(tilted)
    motion = registered(other.vertices_mm, truth)
    coarse = skull(seen_as(straight, tilted, motion))
    scans = (straight, tilted)
    return compared(other.moved(motion), truth, scans, motion), compared(coarse, truth, scans, motion)


def read(study: Path) -> Scan:
    return intake(study, order(), load_families()["anatomical-model"].limits.protocol)[0]


def order() -> Order:
    data = {"case": "tilt", "device": "anatomical-model", "side": "midline", "process": "pa12-sls", "machine": "sim-01"}
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    return parse_order({**data, "due": due}, {name: family.parameters for name, family in load_families().items()})


def skull(scan: Scan) -> Mesh:
    return segment(scan, order()).bones[0].mesh


if __name__ == "__main__":
    main()
