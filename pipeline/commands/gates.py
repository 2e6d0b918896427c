"""The gates of a device as a table for people, in a hundred columns: in the terminal, and in a log."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from batchone.pipeline.findings import INFORMATION, Finding, counted, place_words, worst_first

WIDTH = 100  # columns of the table where no terminal says how wide it is
_SHARES = {"what": 1}  # of the width: that column takes what the others leave
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
        value = f"{f.value:.4g} {f.unit}".strip()
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
    """A finding in a JSON document: its limit in words too, and null for what could not be measured."""
    tree = dataclasses.asdict(finding)
    value = tree["value"]
    return {**tree, "value": value if math.isfinite(value) else None, "limit": finding.limit}


def kept_findings(case: Path) -> tuple[Finding, ...]:
    """What the checks of a case have found, its waivers in their verdicts; none before they have run."""
    from batchone.pipeline.approval import shown
    from batchone.pipeline.case_waivers import waivers_of
    from batchone.pipeline.store import CaseFolder

    folder = CaseFolder(case)
    record = folder.record("check")
    try:
        trees: list[dict[str, Any]] = json.loads((case / "check" / "findings.json").read_text(encoding="utf-8"))
        found = tuple(Finding(**{**tree, "where_mm": _place(tree["where_mm"])}) for tree in trees)
    except (OSError, ValueError, TypeError, KeyError):  # none, or written by another version
        return ()
    keys = case.parent.parent / "keys"
    return shown(found, waivers_of(folder, record["value_digest"], keys)) if record and keys.is_dir() else found


def _place(tree: list[float] | None) -> tuple[float, float, float] | None:
    return None if tree is None else (tree[0], tree[1], tree[2])
