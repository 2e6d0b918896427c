"""What a person sees while a case runs and after it: stages as they go, findings as a table, the result as a tree."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table

from batchone.pipeline.case import Result
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.findings import INFORMATION, LEVEL_CONFIRMED, worst_first
from batchone.pipeline.preview import PREVIEW
from batchone.pipeline.run import Outcome
from batchone.pipeline.values import Finding

_FILE_WIDTH = 140  # columns of the table where no terminal says how wide it is
_WORDS = {"fail": "failed", "waived": "waived", "warn": "warned", "pass": "passed"}
_COLOURS = {"pass": "green", "warn": "yellow", "waived": "magenta", "fail": "bold red"}


class Progress:
    """Shows the running stage on stderr and remembers the outcomes."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status: Status | None = None
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def step(self, stage: str, outcome: Outcome | None) -> None:
        """Take note that a stage starts (None) or has ended."""
        self._stop()
        if outcome is None:
            self._status = self._console.status(stage)
            self._status.start()
            return
        if stage == PREVIEW.name:  # the release checks measure the same again
            count: Counter[str] = Counter(finding.verdict for finding in outcome.findings)
            said = ", ".join(f"{count[verdict]} {word}" for verdict, word in _WORDS.items() if count[verdict])
            self._console.print(f"  {stage:8} {outcome.seconds:6.2f} s  interactive checks: {said or 'none'}", highlight=False)
            return
        self.outcomes.append(outcome)
        text = "kept" if outcome.kept else f"{outcome.seconds:6.2f} s  {outcome.peak_mb:6.0f} MB"
        self._console.print(f"  {stage:8} {text}", highlight=False)

    def failure(self, case: str, error: BatchoneError) -> dict[str, Any]:
        """The tree of a case that stopped with an error."""
        findings = tuple(getattr(error, "findings", ())) or tuple(f for o in self.outcomes for f in o.findings)
        seconds = {o.stage: (0.0 if o.kept else o.seconds) for o in self.outcomes}
        peak = max((o.peak_mb for o in self.outcomes), default=0.0)
        tree = result_tree(Result(case, "failed", None, seconds, findings, peak))
        told = {"stage": error.stage, "message": str(error), "hint": error.hint, "exit_code": error.exit_code}
        return {**tree, "error": told}

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def result_tree(result: Result) -> dict[str, Any]:
    """The JSON document of ``batchone run --json``."""
    return {
        "case": result.case,
        "status": result.status,
        "job": None if result.job is None else str(result.job),
        "stages": result.stages,
        "findings": [_finding_tree(f) for f in result.findings],
        "peak_mb": result.peak_mb,
    }


def level_hint(result: Result) -> str:
    """What to do for a case that waits for a level."""
    return next((f.hint for f in result.findings if f.check == LEVEL_CONFIRMED and f.verdict == "fail"), "")


def print_findings(findings: Iterable[Finding]) -> None:
    """Print the gates as a table on stdout: what failed, then what warns, then for each check how many of its figures pass."""
    every = tuple(findings)
    gates = worst_first(f for f in every if f.limit != INFORMATION)
    if not every:
        return
    passed = Counter(f.check for f in gates if f.verdict == "pass")
    count: Counter[str] = Counter(f.verdict for f in gates)
    said = ", ".join(f"{count[verdict]} {word}" for verdict, word in _WORDS.items() if count[verdict]) or "none"
    table = Table(title=f"Gates: {said}", title_justify="left")
    for column in ("check", "what", "value", "limit", "verdict"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for f in gates:
        if f.verdict == "pass":
            continue
        verdict = f"[{_COLOURS[f.verdict]}]{f.verdict}[/]"
        table.add_row(f.check, f.what, f"{f.value:.4g} {f.unit}".strip(), f.limit, verdict)
    for check, number in passed.items():
        table.add_row(check, "", "", "", f"[{_COLOURS['pass']}]{number} pass[/]")
    console = Console() if Console().is_terminal else Console(width=_FILE_WIDTH)
    console.print(table)
    if len(every) > len(gates):
        console.print(f"{len(every) - len(gates)} more figures, for information, stand in the reports")


def _finding_tree(finding: Finding) -> dict[str, Any]:
    tree = dataclasses.asdict(finding)
    value = tree["value"]
    return {**tree, "value": value if math.isfinite(value) else None, "limit": finding.limit}
