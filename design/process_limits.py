"""Parameters below what a process can hold are refused by name, before anything is built."""

from __future__ import annotations

from batchone.pipeline.errors import OrderError
from batchone.pipeline.process import Process


def refuse_below_process(parameters: dict[str, tuple[float, str]], process: Process) -> None:
    """Hold ordered sizes against the process: by parameter its value, mm, and the process's limit that it must reach.

    Raises
    ------
    OrderError
        Some are smaller.
    """
    faults = [
        f"parameters.{name} is {value:g} mm, at least {getattr(process, limit):g} mm for {process.name}"
        f" ({process.sources.get(limit, '-')})"
        for name, (value, limit) in parameters.items()
        if value < getattr(process, limit)
    ]
    if faults:
        raise OrderError("; ".join(faults), hint="order larger values, or another process")
