"""What a person sees while a case runs and after it: stages as they go, the result as a tree."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.status import Status

from batchone.pipeline.case import Result
from batchone.pipeline.commands.gates import finding_tree
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.findings import LEVEL_CONFIRMED, counted
from batchone.pipeline.preview import PREVIEW
from batchone.pipeline.run import Outcome


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
            said = f"  {stage:8} {outcome.seconds:6.2f} s  interactive checks: {counted(outcome.findings)}"
            self._console.print(said, highlight=False)
            return
        self.outcomes.append(outcome)
        text = "kept" if outcome.kept else f"{outcome.seconds:6.2f} s  {outcome.peak_mb:6.0f} MB"
        self._console.print(f"  {stage:8} {text}", highlight=False)

    def failure(self, case: str, error: BatchoneError) -> dict[str, Any]:
        """The tree of a case that stopped with an error."""
        before = (o.findings for o in self.outcomes if not error.findings or o.stage != error.stage)  # the error has its stage's
        findings = (*(f for found in before for f in found), *error.findings)
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
        "findings": [finding_tree(f) for f in result.findings],
        "peak_mb": result.peak_mb,
    }


def level_hint(result: Result) -> str:
    """What to do for a case that waits for a level."""
    return next((f.hint for f in result.findings if f.check == LEVEL_CONFIRMED and f.verdict == "fail"), "")
