"""What a cell says, and why it takes no job at the moment."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from batchone.factory.inbox import Unreachable
from batchone.factory.settings import CellSettings
from batchone.pipeline.errors import BatchoneError, MachineError

_LOG = logging.getLogger(__name__)
FAULTS: Final = (BatchoneError, OSError, ValueError, TypeError, KeyError)
"""Of one job's or record's files."""

MOST_AHEAD_S: Final = 60.0
"""Project default: between a cell's clock and that of the inbox's file system. Claims are reckoned by the latter alone; beyond
this, what the records and the days of lots and calibrations say is not to be believed either."""

Told = Literal["claimed", "refused", "printing", "layers", "printed", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class News:
    """What a cell has to say: to whoever watches it."""

    kind: Told
    name: str
    attempt: int
    text: str = ""
    seconds: float = 0.0
    layer: int = -1
    layers: int = 0


def reread(known: CellSettings, read: Callable[[], CellSettings]) -> CellSettings:
    """The settings as they are now: lots, calibrations and GTIN may have changed since.

    Raises
    ------
    MachineError
        They cannot be read, or something else was changed.
    """
    now = read()
    kept = {name: getattr(known, name) for name in ("lots", "calibrations", "gtin")}
    if now.model_copy(update=kept) != known:
        fields = [name for name in type(known).model_fields if name not in kept and getattr(now, name) != getattr(known, name)]
        raise MachineError(f"cell.toml was changed in {', '.join(fields)}", hint="start the cell again")
    return now


def hindrance(signers: Path | None, own: dt.datetime, shared: Callable[[], dt.datetime]) -> str:
    """Why nothing may be taken or closed now; "" when nothing is in the way.

    Parameters
    ----------
    signers
        Must be there: who may sign is asked of it.
    own, shared
        The cell's own time, and that of the inbox's file system.
    """
    try:
        if signers is not None and not signers.exists():
            return f"{signers} cannot be reached"
    except OSError as error:
        return f"{signers} cannot be reached: {error.strerror}"
    try:
        ahead_s = (own - shared()).total_seconds()
    except (BatchoneError, OSError) as error:
        return f"the inbox cannot be reached: {error}"
    if abs(ahead_s) > MOST_AHEAD_S:
        how = "ahead of" if ahead_s > 0 else "behind"
        return f"the clock is {abs(ahead_s):.0f} s {how} that of the inbox, at most {MOST_AHEAD_S:.0f} s: set both clocks"
    return ""


@contextlib.contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Hold a cell's folder for this process.

    Raises
    ------
    MachineError
        Another process runs this cell.
    """
    with (folder / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MachineError(f"cell {name} runs already", hint="one process runs a cell") from error
        yield


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """One record that cannot be read does not stop the others; an inbox that cannot be reached stops all."""
    try:
        yield
    except Unreachable:
        raise
    except FAULTS:
        _LOG.exception("%s is left as it is", what)
