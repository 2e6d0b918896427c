"""One size of the growth table: ``python -m benchmarks.segmentation_once COLUMNS ROWS SLICES`` prints one JSON line."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time

from batchone.design.families import load_families
from batchone.pipeline.memory import peak_mb, reset_peak
from batchone.pipeline.order import parse_order
from batchone.pipeline.values import Scan, SeriesRecord
from batchone.samples.head import head_phantom


def main() -> None:
    columns, rows, slices = (int(n) for n in sys.argv[1:4])
    spacing_mm = (160.0 / slices, 230.4 / rows, 230.4 / columns)
    phantom = head_phantom(shape=(slices, rows, columns), spacing_mm=spacing_mm)
    record = SeriesRecord("CT", "", "", "", "HFS", slices, 1.0, 1.0, (0.8, 0.8), 0.0, "", "0" * 64)
    scan = Scan(phantom.hu, phantom.affine, record)
    data = {"case": "speed", "device": "anatomical-model", "side": "midline", "process": "pa12-sls", "machine": "sim-01"}
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    order = parse_order({**data, "due": due}, {name: family.parameters for name, family in load_families().items()})
    reset_peak()
    times = []
    for _ in range(2):
        started = time.perf_counter()
        from batchone.segment.make import segment  # the first call pays for the imports, too

        segment(scan, order)
        times.append(time.perf_counter() - started)
    print(json.dumps({"first_s": times[0], "second_s": times[1], "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
