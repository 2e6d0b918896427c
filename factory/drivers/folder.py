"""A machine whose own software takes files from a folder and leaves a log there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from batchone.factory.drivers.driver import LayerSeen, Progress
from batchone.factory.proof import Work
from batchone.pipeline.disk import disk
from batchone.pipeline.errors import MachineError
from batchone.pipeline.order import Model
from batchone.pipeline.store import write_atomic

LOG: Final = "log.json"
STOP: Final = "stop.json"
_MAX_LOG_BYTES: Final = 50_000_000
_POLL_S: Final = 0.5


class LayerLog(Model):
    """One layer, as the machine's software tells of it; ``alarms`` by the names of :data:`batchone.factory.as_built.SPOILING`."""

    index: Annotated[int, Field(ge=0)]
    end_s: Annotated[float, Field(ge=0)]
    energy_j: Annotated[float, Field(ge=0)] = 0.0
    alarms: Annotated[tuple[str, ...], Field(strict=False)] = ()


class MachineLog(Model):
    """``log.json``: how the build goes. It is replaced whole while the build runs; ``layers`` only grows."""

    state: Literal["running", "done", "failed"]
    seconds: Annotated[float, Field(ge=0)] = 0.0
    energy_kwh: Annotated[float, Field(ge=0)] = 0.0
    reason: Annotated[str, Field(max_length=400)] = ""
    layers: Annotated[tuple[LayerLog, ...], Field(strict=False)] = ()


class FolderDriver:
    """Drops ``<name>-<attempt>/`` with the build's files into a folder, and follows the ``log.json`` that comes there.

    A build that is not to go on gets ``stop.json`` beside its files; nothing else is dropped until its log says that it ended.
    """

    simulated, goes_on = False, True
    measures: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, work: Work, attempt: int) -> Generator[Progress, None, None]:
        """See :class:`batchone.factory.drivers.driver.Driver`.

        Raises
        ------
        MachineError
            Another build was dropped and has not ended, or the log is none.
        """
        place = self.folder / f"{work.name}-{attempt}"
        self._refuse_while_busy(place)
        drop(work.folder, place)
        ended, told = False, 0
        try:
            while not ended:
                log = read_log(place / LOG)
                new = tuple(LayerSeen(one.index, one.end_s, one.energy_j, one.alarms) for one in log.layers[told:])
                told += len(new)
                ended = log.state != "running"
                yield Progress(log.state, log.seconds, new, energy_kwh=log.energy_kwh, reason=log.reason)
                if not ended:
                    time.sleep(_POLL_S)
        finally:
            if not ended:
                write_atomic(place / STOP, b"{}\n")

    def _refuse_while_busy(self, place: Path) -> None:
        for other in sorted(self.folder.glob("[!.]*")) if self.folder.is_dir() else ():
            if other != place and other.is_dir() and read_log(other / LOG).state == "running":
                raise MachineError(f"the machine has not ended {other.name}", hint="stop it there, and let its log say so")


def drop(build: Path, place: Path) -> None:
    """The files of a build, by one rename; once."""
    if place.exists():
        return
    part = place.with_name(f".{place.name}.part")
    source = build / "build" if (build / "build").is_dir() else build  # of a job, of a plate
    with disk():
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for file in sorted(path for path in source.iterdir() if path.is_file()):
            shutil.copy2(file, part / file.name)
        part.rename(place)


def read_log(path: Path) -> MachineLog:
    """The log; running where there is none yet.

    Raises
    ------
    MachineError
        Too large, or not as described.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return MachineLog(state="running")
    if len(data) > _MAX_LOG_BYTES:
        raise MachineError(f"{path.name} has {len(data)} bytes, at most {_MAX_LOG_BYTES}", hint="is it the machine's log?")
    try:
        return MachineLog.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise MachineError(f"{path.name}: {where}: {fault['msg']}", hint="replace it whole, by a rename") from error
