"""The runner: one function, :func:`run_stage`, under everything that runs a case.

A result is kept while the digests of what the stage took, the parts of the order that it read, and its version are what
they were; so a changed parameter runs again only what depends on it, and a run that died goes on where it stopped.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from threadpoolctl import threadpool_limits

from batchone.design.families import SHIPPED, package_of
from batchone.pipeline import codec
from batchone.pipeline.disk import disk
from batchone.pipeline.errors import in_stage
from batchone.pipeline.findings import recorded_findings
from batchone.pipeline.memory import give_freed_memory_back, peak_mb, reset_peak
from batchone.pipeline.order import Order
from batchone.pipeline.stages import ARGUMENTS, Stage
from batchone.pipeline.store import CaseFolder, flush_tree, replace_folder, sha256_file, write_atomic
from batchone.pipeline.values import Finding

PACKAGE_FOLDER = "job"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one stage. ``kept`` is True when an earlier result was still valid."""

    stage: str
    kept: bool
    seconds: float
    peak_mb: float
    findings: tuple[Finding, ...]


class Inputs:
    """What stages may take: each has a digest; the value is loaded when a stage that really runs asks for it."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._loaders: dict[str, Callable[[], Any]] = {}
        self.digests: dict[str, str] = {}

    def give(self, name: str, value: Any, digest: str) -> None:
        """Add a value that is already in memory."""
        self._values[name] = value
        self.digests[name] = digest

    def give_lazily(self, name: str, load: Callable[[], Any], digest: str) -> None:
        """Add a value that lies on disk."""
        self._values.pop(name, None)
        self._loaders[name] = load
        self.digests[name] = digest

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = self._loaders[name]()
        return self._values[name]


class ReadRecorder:
    """Stands for an order and notes which of its fields a stage read (as dotted paths)."""

    def __init__(self, model: BaseModel, reads: set[str], prefix: str = "") -> None:
        self._model = model
        self._reads = reads
        self._prefix = prefix

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # isinstance() sees the model itself
        return type(self._model)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        if name not in type(self._model).model_fields:
            self._reads.add(self._prefix.removesuffix("."))  # a method may read anything below
            return value
        if isinstance(value, BaseModel):
            return ReadRecorder(value, self._reads, f"{self._prefix}{name}.")
        self._reads.add(self._prefix + name)
        return value


def run_stage(stage: Stage, case: CaseFolder, inputs: Inputs) -> Outcome:
    """Run one pure stage, or keep its earlier result, and put what it gives into ``inputs``.

    Raises
    ------
    BatchoneError
        Stamped with case and stage.
    """
    folder = PACKAGE_FOLDER if stage.gives == "JobFolder" else stage.name
    record = case.record(folder)
    if record is not None and _valid(stage, record, inputs) and case.intact(folder, record):
        inputs.give_lazily(stage.gives, lambda: case.load(folder), record["value_digest"])
        return Outcome(stage.name, True, record["seconds"], record["peak_mb"], recorded_findings(record))
    with in_stage(case.path.name, stage.name), threadpool_limits(limits=1), disk():
        return _run(stage, folder, case, inputs)


def _run(stage: Stage, folder: str, case: CaseFolder, inputs: Inputs) -> Outcome:
    reads: set[str] = set()
    arguments = {ARGUMENTS[name]: _argument(name, inputs, reads) for name in stage.takes}
    function = stage.load()
    give_freed_memory_back()
    reset_peak()
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    value: Any = None
    findings: tuple[Finding, ...] = ()

    def write(staging: Path) -> dict[str, Any]:
        nonlocal value, findings
        if stage.gives == "JobFolder":
            value = function(**arguments, into=staging)
            digest = codec.digest(value)
            findings = _findings_on_files(stage, staging)
        else:
            value = stage.keep(function(**arguments), staging, arguments)
            digest = codec.save(value, staging)
            findings = tuple(getattr(value, "findings", ()))
        return {
            "stage": stage.name,
            "version": stage.version,
            "made_by": _made_by(stage, inputs),
            "taken": _taken(stage, inputs),
            "reads": {path: _at(_tree(inputs), path) for path in sorted(reads)},
            "started": started.isoformat(),
            "seconds": round(time.perf_counter() - clock, 3),
            "peak_mb": round(peak_mb(), 1),
            "findings": codec.flatten(findings)[0],
            "value_digest": digest,
        }

    record = _publish_job(case, write, lambda: value) if stage.gives == "JobFolder" else case.publish(folder, write)
    inputs.give(stage.gives, value, record["value_digest"])
    return Outcome(stage.name, False, record["seconds"], record["peak_mb"], findings)


def _publish_job(case: CaseFolder, write: Callable[[Path], dict[str, Any]], value: Callable[[], Any]) -> dict[str, Any]:
    """Put a job folder in place under its own id, then say so in ``job/stage.json``."""
    staging = case.staging(PACKAGE_FOLDER)
    record = write(staging)
    record["events_head"] = case.events_head
    job = value()
    flush_tree(staging)
    place = case.path / PACKAGE_FOLDER / job.job_id
    replace_folder(staging, place)
    files = sorted(path for path in place.rglob("*") if path.is_file())
    record["outputs"] = {str(path.relative_to(place.parent)): sha256_file(path) for path in files}
    tree, _ = codec.flatten(job)
    write_atomic(place.parent / "value.json", json.dumps(tree, indent=1, sort_keys=True).encode())
    write_atomic(place.parent / "stage.json", json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode())
    return record


def _valid(stage: Stage, record: dict[str, Any], inputs: Inputs) -> bool:
    if record.get("version") != stage.version or record.get("made_by") != _made_by(stage, inputs):
        return False
    if record.get("taken") != _taken(stage, inputs):
        return False
    if "Order" not in stage.takes:
        return True
    tree = _tree(inputs)
    return all(_at(tree, path) == value for path, value in record.get("reads", {}).items())


def _made_by(stage: Stage, inputs: Inputs) -> dict[str, str]:
    """Versions of the packages whose code a stage runs: ours, and in design that of the device's family."""
    family = [package_of(inputs["Order"].device)] if stage.function.startswith("batchone.design.") else []
    return dict([(SHIPPED, version(SHIPPED)), *family])


def _taken(stage: Stage, inputs: Inputs) -> dict[str, str]:
    return {name: inputs.digests[name] for name in stage.takes if name != "Order"}


def _argument(name: str, inputs: Inputs, reads: set[str]) -> Any:
    return ReadRecorder(inputs["Order"], reads) if name == "Order" else inputs[name]


def _tree(inputs: Inputs) -> Any:
    order: Order = inputs["Order"]
    return json.loads(order.model_dump_json())


def _at(tree: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _findings_on_files(stage: Stage, job: Path) -> tuple[Finding, ...]:
    """What the stage that wrote a job folder has found on its files."""
    from batchone.pipeline.job.manifest import read_manifest

    manifest = read_manifest((job / "job.json").read_bytes())
    return tuple(entry.finding() for entry in manifest.findings if entry.stage == stage.name)
