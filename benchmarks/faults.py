"""Every seeded fault judged by all checks, as `batchone run` would: found by the right one, how far away, and in which time.

    python -m benchmarks.faults [--table] [--kind WORDS]

``--table`` writes docs/faults.md instead, from the checks that can see each fault.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.samples.faulty.corpus import faults
from batchone.samples.faulty.good import good
from batchone.samples.faulty.judging import all_findings, away_mm, findings_for, says
from batchone.samples.faulty.table import as_table

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--kind", default="")
    options = parser.parse_args()
    use_kernel_cache()
    chosen = [fault for fault in faults() if options.kind in fault.kind]
    devices = {name: good(name) for name in sorted({fault.device for fault in chosen})}
    rows, missed, began = [], 0, time.process_time()
    for fault in chosen:
        seeded = fault.seed(devices[fault.device])
        found = findings_for(fault, seeded.case) if options.table else all_findings(seeded.case)
        worst = says(fault, found)[0]
        away = away_mm(seeded, worst)
        right = worst.verdict != "fail" if fault.sound else worst.verdict == "fail" and away <= 1.0
        missed += not right
        rows.append((fault, worst))
        if not options.table:
            others = sorted({f.check for f in found if f.verdict == "fail"} - {fault.check})
            print(
                f"{'ok  ' if right else 'MISS'} {fault.kind}, {fault.device} {fault.place}: {worst.check} {worst.value:.4g} "
                f"({worst.limit}), {away:.2f} mm away; also {', '.join(others) or 'none'}"
            )
    if options.table:
        PAGE.write_text(as_table(rows), encoding="utf-8")
    print(f"{len(chosen)} judged, {missed} missed, {time.process_time() - began:.0f} s of CPU time")


if __name__ == "__main__":
    main()
