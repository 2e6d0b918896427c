"""The worker of a site on one PC: a process of the server's, started again when it dies, gone when the server is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_GRACE_S = 10.0
_log = logging.getLogger(__name__)


async def keep_worker(site: Path) -> None:
    """Run a worker for the site until cancelled."""
    pause_s = _FIRST_PAUSE_S
    while True:
        command = (sys.executable, "-m", "batchone.pipeline", "worker", "--site", str(site), "--until-eof")
        begun = asyncio.get_running_loop().time()
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _ended(process)
            raise
        if asyncio.get_running_loop().time() - begun > _LONGEST_PAUSE_S:
            pause_s = _FIRST_PAUSE_S
        _log.error("worker ended", extra={"fields": {"code": code, "again_in_s": pause_s}})
        await asyncio.sleep(pause_s)
        pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)


async def _ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _GRACE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
