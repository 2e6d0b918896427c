"""Seeded faults, judged: found by the right check, how far away; and whether each check is needed.

    python -m benchmarks.faults [--table | --whole | --without [CHECK ...]] [--sound] [--kind WORDS] [--device NAME]

Each fault is judged by the check that must find it; what lies just inside a limit by all, which may say no more than of the good
device. ``--table`` writes docs/faults.md from that. ``--whole`` judges by all
checks, as `batchone run` would, and says which others fail too. ``--without`` takes each check away in turn, or those named, and
shows a fault that all that are left then miss. The drill template of docs/own-family is taken in.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.values import Finding
from batchone.samples.faulty.case import Fault, Seeded
from batchone.samples.faulty.corpus import faults
from batchone.samples.faulty.good import good, there
from batchone.samples.faulty.judging import (
    all_findings,
    away_mm,
    findings_for,
    good_as,
    is_right,
    measure_of,
    measures,
    new_findings,
    says,
    without,
)
from batchone.samples.faulty.table import as_table
from benchmarks.own_family import drill_template_installed

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--table", "--whole"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--without", nargs="*", metavar="CHECK")
    parser.add_argument("--sound", action="store_true", help="those just inside their limits alone")
    parser.add_argument("--kind", default="")
    parser.add_argument("--device", default="")
    options = parser.parse_args()
    use_kernel_cache()
    began = time.process_time()
    with drill_template_installed():
        chosen = [fault for fault in faults() if options.kind in fault.kind and options.device in fault.device]
        chosen = [fault for fault in chosen if fault.sound or not options.sound]
        if options.without is not None:
            missed = _needed(chosen, options.without)
            print(f"{missed} checks could be removed unseen, {time.process_time() - began:.0f} s of CPU time")
        else:
            missed = _judged(chosen, whole=options.whole, table=options.table)
            print(f"{len(chosen)} judged, {missed} missed, {time.process_time() - began:.0f} s of CPU time")
    sys.exit(1 if missed else 0)


def _judged(chosen: list[Fault], *, whole: bool, table: bool) -> int:
    devices = {name: good(name) for name in there() if any(fault.device == name for fault in chosen)}
    rows, missed, kept = [], 0, dict[tuple[str, str], tuple[Finding, ...]]()

    def of_good(fault: Fault, seeded: Seeded) -> tuple[Finding, ...]:
        key = fault.device, seeded.case.process.name
        if key not in kept:
            kept[key] = all_findings(good_as(devices[fault.device], seeded))
        return kept[key]

    for fault in chosen:
        try:
            seeded = fault.seed(devices[fault.device])
        except AssertionError as error:
            missed += 1
            print(f"MISS {fault.kind}, {fault.device} {fault.place}: not seeded, {error}", flush=True)
            continue
        found = all_findings(seeded.case) if whole or fault.sound else findings_for(fault, seeded.case)
        beside = new_findings(of_good(fault, seeded), found) if fault.sound else ()
        right = is_right(fault, seeded, found, of_good(fault, seeded) if fault.sound else ())
        said = says(fault, found)
        missed += not right
        if said:
            rows.append((fault, said[0], seeded.where_mm is not None))
        value = f"{said[0].value:.4g} ({said[0].limit}), {away_mm(seeded, said[0]):.2f} mm away" if said else "nothing said"
        others = sorted({f.check for f in found if f.verdict == "fail"} - {fault.check}) if whole else []
        print(
            f"{'ok  ' if right else 'MISS'} {fault.kind}, {fault.device} {fault.place}: {fault.check} {value}"
            + (f"; also {', '.join(others)}" if others else "")
            + "".join(f"; {one.verdict}: {one.what} is {one.value:.4g} ({one.limit})" for one in beside), flush=True,
        )  # fmt: skip
    if table and not missed:
        PAGE.write_text(as_table(rows), encoding="utf-8")
    return missed


def _needed(chosen: list[Fault], wanted: list[str]) -> int:
    """Take each check of each kind of device away in turn, or those that are wanted: how many leave every fault found."""
    unneeded = 0
    devices = {name: good(name) for name in there() if any(fault.device == name for fault in chosen)}
    names = {name: case.order.device for case in devices.values() for name in measures(case)}
    for name, family in names.items():
        if wanted and name not in wanted:
            continue
        mine = [f for f in chosen if not f.sound and measure_of(f, devices[f.device]) == name]
        mine.sort(key=lambda fault: fault.kind.startswith("unit"))  # all checks of a device 25 times as large take many minutes
        seen = False
        for fault in mine[:1]:
            seeded = fault.seed(devices[fault.device])
            if not is_right(fault, seeded, findings_for(fault, seeded.case)):
                continue
            with without(name, family):
                seen = not is_right(fault, seeded, all_findings(seeded.case))
            print(f"{'ok  ' if seen else 'MISS'} without {name}: {fault.kind} in {fault.device}", flush=True)
        if mine:
            unneeded += not seen
        else:
            print(f"---- without {name}: it gives figures that are not judged, and has no fault")
    return unneeded


if __name__ == "__main__":
    main()
