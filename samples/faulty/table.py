"""The corpus as a table: kind, device, check and limit, with how many places were tried."""

from __future__ import annotations

from collections import Counter

from batchone.pipeline.values import Finding
from batchone.samples.faulty.case import Fault

_HEAD = """# Seeded faults

Each row is a fault that is seeded in a good device, and the finding that must say so, within 1 mm where the fault has a
place. Rows marked *none* lie just inside the limit and must give no finding. The devices, the faults and how they are judged:
`samples/faulty/`. This page is written by `python -m benchmarks.faults --table`.
"""


def as_table(judged: list[tuple[Fault, Finding]]) -> str:
    """Markdown with one row for each kind and device."""
    rows: Counter[tuple[str, str, str, str, str]] = Counter()
    for fault, finding in judged:
        check = f"{fault.check}: {fault.what.removeprefix(': ')}"
        rows[(fault.kind, fault.device, check, finding.limit, "none" if fault.sound else "fails")] += 1
    faults = sum(not fault.sound for fault, _ in judged)
    kinds, sound = ({fault.kind for fault, _ in judged if fault.sound is inside} for inside in (False, True))
    lines = [_HEAD, f"{faults} faults of {len(kinds)} kinds; {len(sound)} kinds just inside their limits.\n"]
    lines += ["| kind | device | check | limit | finding | places |", "|---|---|---|---|---|---|"]
    lines += [f"| {kind} | {device} | {check} | {limit} | {end} | {n} |" for (kind, device, check, limit, end), n in rows.items()]
    return "\n".join(lines) + "\n"
