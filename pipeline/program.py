"""Run a foreign program with limits on time and memory, and end everything that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchone.pipeline.errors import MachineError

SLICING_PROGRAM: Final = "prusa-slicer"  # PrusaSlicer, as Debian names its package and its program
_LOOK_S = 0.1  # how often time and memory are looked at
_TAIL = 300  # last characters of what the program said
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Program:
    """What is said of a program: what it is for, and what to do when it is missing, fails, or goes beyond its limits."""

    role: str
    missing: str
    failed: str
    too_slow: str
    too_large: str


def run_program(
    command: Sequence[str],
    folder: Path,
    *,
    program: Program,
    timeout_s: float,
    memory_mb: float,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command to its end, in a folder that takes its ``program.log``; no shell.

    Parameters
    ----------
    command, folder
        What is run, and where.
    program
        Words for what goes wrong.
    timeout_s, memory_mb
        Limits on time and on the resident memory of the program and all that it starts.
    environment
        Its variables; None: ours.

    Raises
    ------
    MachineError
        It is missing, ends with another code than 0, or runs beyond its time or memory.
    """
    what = f"the {program.role} {Path(command[0]).name}"
    log = folder / "program.log"
    with log.open("wb") as stream:
        try:
            child = subprocess.Popen(  # noqa: S603 - no shell; the site's own program, or one that the code names
                list(command),
                cwd=folder,
                env=None if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(f"{what} cannot be started: {error.strerror}", hint=program.missing) from error
        try:
            code = _watched(child, what, program, timeout_s=timeout_s, memory_mb=memory_mb)
        finally:
            _end(child)
    if code != 0:
        raise MachineError(f"{what} ended with {code}, must end with 0; it said: {_said(log)}", hint=program.failed)


def _watched(child: subprocess.Popen[bytes], what: str, program: Program, *, timeout_s: float, memory_mb: float) -> int:
    deadline_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=_LOOK_S)
        used_mb = _session_mb(child.pid)
        if used_mb > memory_mb:
            raise MachineError(f"{what} uses {used_mb:.0f} MB, at most {memory_mb:.0f} MB", hint=program.too_large)
        if time.monotonic() > deadline_s:
            raise MachineError(
                f"{what} runs for more than {timeout_s:g} s, at most {timeout_s:g} s",
                hint=program.too_slow,
            )


def _session_mb(session: int) -> float:
    """Resident memory of all processes of a session, MB; shared pages count once for each."""
    pages = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                pages += int(fields[21])
    return pages * _PAGE / 1e6


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the program with all that it started, when anything of it is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _said(log: Path) -> str:
    text = log.read_bytes()[-4 * _TAIL :].decode("utf-8", "replace").strip()
    return text[-_TAIL:].replace("\n", " | ") or "nothing"
