"""The worker's side of the stage children: each runs the stages of one case, and is gone when they end.

Once people look at devices one child waits with everything loaded: who changes a parameter does not wait for that.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from batchone.design.families import packages

STAGE_S = 6 * 3600.0  # project default: no stage runs longer; the program of a backend may take an hour
_END_S = 10.0


class ChildDied(Exception):  # noqa: N818 - what happened, not an error of the caller
    """A stage child ended without an answer."""


class StageChild:
    """One process that runs the stages of one case: none until :meth:`take`."""

    def __init__(self, site: Path, *, threads: int | None = None) -> None:
        command = [sys.executable, "-m", "batchone.pipeline.engine.child", str(site)]
        limits = {} if threads is None else {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **limits}, start_new_session=True
        )
        self._opened: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    def take(self, case: str) -> None:
        """Give it its case."""
        self._ask(case)

    def advance(self, stage: str) -> dict[str, Any]:
        """Run a stage of the case, and what comes before it where that is not done.

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
        self._ask(stage)
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

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: no answer will come
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

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


class Spare:
    """The children of a worker, of which one may wait with everything loaded, until a case takes it. Thread-safe.

    What it has loaded counts as long as the packages have the versions of when it began: what others then wait for is another.
    """

    def __init__(self, site: Path, threads: int | None) -> None:
        self._site, self._threads = site, threads
        self._waiting: StageChild | None = None
        self._loaded: frozenset[tuple[str, str]] = frozenset()  # packages, of the one that waits
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int | None:
        """Process id of the one that waits."""
        return None if self._waiting is None or not self._waiting.lives else self._waiting.pid

    def keep(self) -> None:
        """Let one wait, if none does: about 0.35 GB of its own."""
        with self._lock:
            self._drop_useless()
            if self._waiting is None and (there := _packages()):
                self._loaded, self._waiting = there, StageChild(self._site, threads=self._threads)

    def child(self, case: str) -> StageChild:
        """A child for a case: the one that waits, else a new one."""
        with self._lock:
            self._drop_useless()
            found, self._waiting = self._waiting, None
        found = found or StageChild(self._site, threads=self._threads)
        found.take(case)
        return found

    def _drop_useless(self) -> None:
        """End the one that waits where it died, or has loaded other versions than are installed now."""
        if self._waiting is not None and not (self._waiting.lives and self._loaded == _packages()):
            self._waiting.close()
            self._waiting = None


def _packages() -> frozenset[tuple[str, str]]:
    """See :func:`packages`; none while they are being replaced, which equals nothing that was loaded."""
    try:
        return packages()
    except PackageNotFoundError:
        return frozenset()
