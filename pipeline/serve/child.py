"""What reads foreign files or loads much runs in a process of its own: it cannot take the server with it, nor fill its memory."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec, TypeVar

from batchone.pipeline.errors import ProcessingError

Given = ParamSpec("Given")
Gives = TypeVar("Gives")


async def in_child(function: Callable[Given, Gives], *given: Given.args, **named: Given.kwargs) -> Gives:
    """Call a function of a module in a new process; what it raises is raised here.

    Raises
    ------
    ProcessingError
        The process died.
    """
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    try:
        return await asyncio.wrap_future(pool.submit(function, *given, **named))
    except BrokenProcessPool as error:
        raise ProcessingError(
            f"the process of {function.__name__} died", hint="try again; report it when it happens again"
        ) from error
    finally:
        pool.shutdown(wait=False)


def take_in(site: Path, digest: str) -> str:
    """Make a case of a parcel that waits in the inbox; see :func:`batchone.pipeline.intake.inbox.accept`. Returns its id."""
    from batchone.pipeline.intake.inbox import Inbox, accept

    return accept(site, Inbox(site).place(digest)).case


def approve(site: Path, case: str, *, who: str, device: str) -> str:
    """Sign an approval; see :func:`batchone.pipeline.case.sign_case`. Returns who signed the one that counts."""
    from batchone.pipeline.case import sign_case

    return sign_case(site, case, who=who, device=device).name


def send_back(site: Path, case: str, *, who: str, why: str) -> None:
    """Return a case; see :func:`batchone.pipeline.case.return_case`."""
    from batchone.pipeline.case import case_folder, return_case
    from batchone.pipeline.store import CaseFolder

    return_case(CaseFolder(case_folder(site, case)), who=who, why=why)


def reject(site: Path, case: str, *, who: str, why: str) -> None:
    """Reject a case; see :func:`batchone.pipeline.case.reject_case`."""
    from batchone.pipeline.case import case_folder, reject_case
    from batchone.pipeline.store import CaseFolder

    reject_case(CaseFolder(case_folder(site, case)), who=who, why=why)
