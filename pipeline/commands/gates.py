"""The gates of a device as a table for people, in a hundred columns: in the terminal, and in a log."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from batchone.pipeline.clock.legs import REVIEW, SLICE
from batchone.pipeline.findings import INFORMATION, Finding, counted, number_words, place_words, recorded_findings, worst_first

WIDTH = 100  # columns of the table where no terminal says how wide it is
_SHARES = {"what": 1}  # of the width: that column takes what the others leave
_CHECK = "check"
_MADE_OF = {"CheckedDevice": _CHECK, "Approval": REVIEW, "Build": SLICE}  # what build and job are made of, by stage
_COLOURS = {"pass": "green", "warn": "yellow", "waived": "magenta", "fail": "bold red"}


def print_findings(findings: Iterable[Finding]) -> None:
    """Print the gates on stdout: what failed, what was waived, what warns, then for each check how many of its figures pass.

    Whatever does not pass says below it where its limit comes from, where in the patient it lies, and what to change.
    """
    every = tuple(findings)
    gates = worst_first(f for f in every if f.limit != INFORMATION)
    if not every:
        return
    passed = Counter(f.check for f in gates if f.verdict == "pass")
    table = Table(title=f"Gates: {counted(gates)}", title_justify="left")
    for column in ("check", "what", "value", "limit", "verdict"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold", ratio=_SHARES.get(column))
    for f in gates:
        if f.verdict == "pass":
            continue
        told = "\n".join([escape(f.what), *(f"[dim]{escape(line)}[/]" for line in about(f))])
        value = f"{number_words(f.value, 4)} {f.unit}".strip()
        table.add_row(f.check, told, escape(value), escape(f.limit), f"[{_COLOURS[f.verdict]}]{f.verdict}[/]", end_section=True)
    for check, number in passed.items():
        table.add_row(check, "", "", "", f"[{_COLOURS['pass']}]{number} pass[/]")
    console = Console() if Console().is_terminal else Console(width=WIDTH)
    console.print(table)
    if len(every) > len(gates):
        console.print(f"{len(every) - len(gates)} more figures, for information, stand in the reports")


def about(finding: Finding) -> list[str]:
    """Lines on a finding that does not pass: source of its limit, place in patient coordinates, what to change."""
    lines = [f"limit from: {finding.source}"] if finding.source else []
    if finding.where_mm is not None:
        lines.append("at: " + place_words(finding.where_mm))
    return lines + ([f"to do: {finding.hint}"] if finding.hint else [])


def finding_tree(finding: Finding) -> dict[str, Any]:
    """A finding in a JSON document: its limit in words too, and null for a number that is none."""
    numbers = {name: _finite(getattr(finding, name)) for name in ("value", "low", "high")}
    place = finding.where_mm
    known = place is not None and all(map(math.isfinite, place))
    return {**dataclasses.asdict(finding), **numbers, "where_mm": place if known else None, "limit": finding.limit}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def kept_findings(case: Path) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """What the stages of a case have found, as far as it has come, its waivers in their verdicts; and the stages whose findings
    cannot be read, as those of another version.

    What was found on build and job counts while they are of the device and the approval that are there.
    """
    from batchone.pipeline.approval import shown
    from batchone.pipeline.case_waivers import waivers_of
    from batchone.pipeline.clock.folder import read_case
    from batchone.pipeline.store import CaseFolder

    records = read_case(case).records
    found: list[Finding] = []
    odd: list[str] = []
    for stage, record in records.items():
        if not _counts(record, records) or "findings" not in record:
            continue
        try:
            own = recorded_findings(record)
        except (AttributeError, KeyError, TypeError, ValueError):
            odd.append(stage)
            continue
        found += own
    keys, device = case.parent.parent / "keys", records.get(_CHECK, {}).get("value_digest")
    waivers = waivers_of(CaseFolder(case), device, keys) if isinstance(device, str) and keys.is_dir() else ()
    return shown(tuple(found), waivers), tuple(odd)


def _counts(record: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]]) -> bool:
    taken = record.get("taken", {})
    return all(taken[name] == records.get(stage, {}).get("value_digest") for name, stage in _MADE_OF.items() if name in taken)
