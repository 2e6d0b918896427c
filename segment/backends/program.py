"""Run a program of the site with limits on time and memory, and end everything that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from batchone.pipeline.errors import MachineError

_LOOK_S = 0.1  # how often time and memory are looked at
_TAIL = 300  # last characters of what the program said
_PAGE = os.sysconf("SC_PAGE_SIZE")


def run_program(command: Sequence[str], folder: Path, *, timeout_s: float, memory_mb: float) -> None:
    """Run a command to its end; no shell.

    Raises
    ------
    MachineError
        It is missing, ends with another code than 0, or runs beyond its time or memory.
    """
    name = Path(command[0]).name
    log = folder / "program.log"
    with log.open("wb") as stream:
        try:
            child = subprocess.Popen(  # noqa: S603 - the site's own program, no shell
                list(command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(
                f"the segmentation program {name} cannot be started: {error.strerror}",
                hint="install it, or correct [segmentation.external] program in site.toml",
            ) from error
        try:
            code = _watched(child, name, timeout_s=timeout_s, memory_mb=memory_mb)
        finally:
            _end(child)
    if code != 0:
        raise MachineError(
            f"the segmentation program {name} ended with {code}, must end with 0; it said: {_said(log)}",
            hint='run it by hand on a scan; `[segmentation] backend = "threshold"` does without it',
        )


def _watched(child: subprocess.Popen[bytes], name: str, *, timeout_s: float, memory_mb: float) -> int:
    deadline_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=_LOOK_S)
        used_mb = _session_mb(child.pid)
        if used_mb > memory_mb:
            raise MachineError(
                f"the segmentation program {name} uses {used_mb:.0f} MB, at most {memory_mb:.0f} MB",
                hint="raise memory_mb in [segmentation.external] of site.toml, or run it on a smaller scan",
            )
        if time.monotonic() > deadline_s:
            raise MachineError(
                f"the segmentation program {name} runs for more than {timeout_s:g} s, at most {timeout_s:g} s",
                hint="raise timeout_s in [segmentation.external] of site.toml, or look why it hangs",
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
