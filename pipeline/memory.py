"""Memory of this process: what arrays give back is kept for the next ones while a stage runs; its peak per stage.

The C library hands every large array back to the system at once, and the next one is paid for again page by page: a tenth to a
third of the time in which a CT is segmented. Kept, and in one heap that all threads share, the same memory serves the next
array, and the peak is no higher.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

_MB = 1024.0  # kB per MB
_KEEP = ((-4, 0), (-1, 2**31 - 1), (-8, 1))  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX of glibc's malloc.h


def keep_freed_memory() -> None:
    """Keep freed memory until :func:`give_freed_memory_back`, where the C library is glibc; call it before threads start."""
    glibc = _glibc()
    if glibc is not None:
        for option, value in _KEEP:
            glibc.mallopt(option, value)


def give_freed_memory_back() -> None:
    """Hand what no array uses back to the system, where the C library is glibc."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "gnu_get_libc_version") else None


def reset_peak() -> None:
    """Start counting anew where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Peak resident memory since the last reset, MB; since the start of the process where it cannot be reset."""
    found = _of_status("VmHWM:")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB if found is None else found


def resident_mb() -> float:
    """Resident memory now, MB; its peak where the system does not tell."""
    found = _of_status("VmRSS:")
    return peak_mb() if found is None else found


def _of_status(name: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return float(line.split()[1]) / _MB
    return None
