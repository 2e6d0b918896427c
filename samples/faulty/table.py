"""The corpus as a table: kind, device, check and limit, and how many places were tried."""

from __future__ import annotations

from collections import Counter

from batchone.pipeline.values import Finding
from batchone.samples.faulty.case import Fault

_HEAD = """# Seeded faults

Each row is a fault that is seeded alone in a good device, and the finding that must say so: as a failure, or as a warning where
that is all the check gives. *Place*: the finding lies within 1 mm of what was changed; *whole*: all of the part is wrong, or
what it was made for. Rows with *none* lie just inside the limit: that finding must pass, and no check may say more than it does
of the good device. The devices, the faults and how
they are judged stand in `samples/faulty/`; `python -m benchmarks.faults --table` judges them all and writes this page, with
`--without` it takes each check away in turn, and `python -m benchmarks.good_devices` holds the checks against good devices.
"""


def as_table(judged: list[tuple[Fault, Finding, bool]]) -> str:
    """Markdown with one row for each kind and device; with each fault its finding, and whether it has a place."""
    rows: Counter[tuple[str, ...]] = Counter()
    for fault, finding, placed in judged:
        check = f"{fault.check}: {fault.what.removeprefix(': ')}"
        verdict = "none" if fault.sound else {"fail": "fails", "warn": "warns"}[fault.verdict]
        where = "" if fault.sound else "place" if placed else "whole"
        rows[(fault.kind, fault.device, check, finding.limit, verdict, where)] += 1
    faults = sum(not fault.sound for fault, _, _ in judged)
    kinds, sound = ({fault.kind for fault, _, _ in judged if fault.sound is inside} for inside in (False, True))
    lines = [_HEAD, f"{faults} faults of {len(kinds)} kinds; {len(sound)} kinds just inside their limits.\n"]
    lines += ["| kind | device | check | limit | finding | where | places |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} | {count} |" for row, count in rows.items()]
    return "\n".join(lines) + "\n"
