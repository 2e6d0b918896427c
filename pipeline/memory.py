"""Peak resident memory of this process, per stage (Linux: the high-water mark can be reset)."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

_MB = 1024.0  # kB per MB


def reset_peak() -> None:
    """Start counting anew where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Peak resident memory since the last reset, MB; since the start of the process where it cannot be reset."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / _MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB
