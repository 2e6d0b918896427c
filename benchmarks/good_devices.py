"""Good devices: every family at both ends of each parameter, over three bones; none may give a finding.

    python -m benchmarks.good_devices [--kinds NAME ...] [--all]

Each end is tried on one of three bones in turn; with ``--all`` on all three. An end that the family refuses by name makes no
device, and two ends make none that is good: those must fail, by one check and no other. Prints a line for each device, and
tables of what was made and of what warned; the exit status is 1 where a good device failed.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter

from batchone.design.families import load_families
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.values import Finding
from batchone.samples.faulty.good import KINDS, bones, good
from batchone.samples.faulty.judging import all_findings
from benchmarks.guide_limits import ends
from benchmarks.own_family import drill_template_installed

GOOD = ("pedicle-guide", "tibial-guide", "cranial-implant", "anatomical-model", "hollow-model", "drill-template")
NOT_GOOD = {  # kind, parameter, end -> the check that must say so
    ("anatomical-model", "cut_bottom_mm", 0.0): "placement",  # a whole tibia of 330 mm is longer than the machine's room
    ("hollow-model", "cut_bottom_mm", 0.0): "placement",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", default=list(GOOD))
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    use_kernel_cache()
    began, made, failed = time.process_time(), Counter[str](), 0
    warned, refused, silent = Counter[tuple[str, str, str]](), Counter[str](), Counter[str]()
    with drill_template_installed():
        for kind in options.kinds:
            changes: list[dict[str, object]] = [
                {name: value} for name, value in ends(load_families()[KINDS[kind].family].parameters)
            ]
            tried = [(change, number) for number in range(3) for change in changes] if options.all else [
                (change, number % 3) for number, change in enumerate(changes)
            ]  # fmt: skip
            for change, number in [*(({}, number) for number in range(3)), *tried]:
                what = f"{kind}, bone {number + 1}, " + (", ".join(f"{k} = {v}" for k, v in change.items()) or "defaults")
                anatomy, proposal = bones(kind)[number]
                try:
                    found = all_findings(good(kind, anatomy, proposal, **change))
                except (BatchoneError, ValueError) as error:
                    refused[kind] += 1
                    print(f"refused {what}: {str(error).splitlines()[0][:120]}", flush=True)
                    continue
                made[kind] += 1
                worst = [f"{f.what}: {f.value:.4g} ({f.limit})" for f in found if f.verdict == "fail"]
                wrong = {check for (one, name, end), check in NOT_GOOD.items() if one == kind and (name, end) in change.items()}
                if wrong:
                    right = {f.check for f in found if f.verdict == "fail"} == wrong
                    failed, made[kind] = failed + (not right), made[kind] - 1
                    print(f"{'stops' if right else 'FAILS'} {what}; {'; '.join(worst)}", flush=True)
                    continue
                failed += bool(worst)
                notices = [f for f in found if f.verdict == "warn"]
                warned.update({(kind, f.check, _said(f)) for f in notices})
                silent[kind] += not worst and not notices
                title = "FAILS" if worst else "warns" if notices else "ok   "
                print("; ".join([f"{title} {what}", *worst, *(f"({_said(f)}: {f.value:.4g})" for f in notices)]), flush=True)
    print("| kind | devices | without failure or warning | ends refused by name |")
    print("|---|---|---|---|")
    for kind in options.kinds:
        print(f"| {kind} | {made[kind]} | {silent[kind]} | {refused[kind]} |")
    print("| kind | warns | of what | devices |")
    print("|---|---|---|---|")
    for (kind, check, said), count in sorted(warned.items()):
        print(f"| {kind} | {check} | {said} | {count} of {made[kind]} |")
    used_s = time.process_time() - began
    print(f"{made.total()} good devices, {silent.total()} without a finding, {failed} failed, {used_s:.0f} s of CPU time")
    sys.exit(1 if failed else 0)


def _said(finding: Finding) -> str:
    """What a finding measured, without the part's name and what is told beside it, and its limit."""
    return f"{re.split(r' [(]|, |; |: ', finding.what.split(': ', 1)[-1])[0]} ({finding.limit})"


if __name__ == "__main__":
    main()
