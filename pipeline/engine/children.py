"""The worker's side of the stage children: started when a case's stages begin, gone when they end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

STAGE_S = 6 * 3600.0  # project default: no stage runs longer; the program of a backend may take an hour
_END_S = 10.0


class ChildDied(Exception):  # noqa: N818 - what happened, not an error of the caller
    """A stage child ended without an answer."""


class StageChild:
    """One process that runs the stages of one case."""

    def __init__(self, site: Path, case: str, *, threads: int | None = None) -> None:
        command = [sys.executable, "-m", "batchone.pipeline.engine.child", str(site), case]
        limits = {} if threads is None else {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **limits}, start_new_session=True
        )
        self._opened: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def advance(self, stage: str) -> dict[str, Any]:
        """Run a stage, and what comes before it where that is not done.

        Returns
        -------
        dict
            ``status`` (``going-on``, what the case waits for, or ``failed``), ``stage``, and ``digest`` or ``exit_code``.

        Raises
        ------
        ChildDied
            The process ended, or said nothing for hours.
        """
        if self._opened is None:
            self._opened = self._answer()
        if self._opened["status"] != "open":
            return self._opened
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{stage}\n".encode())
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it, and wait until it is gone."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watch = threading.Timer(STAGE_S, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line.endswith(b"\n"):
            raise ChildDied(f"the process of the stages ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
