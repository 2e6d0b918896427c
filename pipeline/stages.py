"""The stages of a case, as data. The runner loops over the table; nothing here decides what runs."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from batchone.pipeline.editing.stl import write_stl
from batchone.pipeline.inspection import family_protocols
from batchone.pipeline.intake.scan_report import scan_report
from batchone.pipeline.values import Anatomy, CheckedDevice, Device, Identity, Plan, Scan

CASE_INPUTS = ("Study", "Order", "Protocol", "Process", "Machine", "SiteKey", "Segmentation", "Edit", "Tables")

ARGUMENTS = {
    "Study": "study",
    "Order": "order",
    "Protocol": "protocol",
    "Process": "process",
    "Machine": "machine",
    "SiteKey": "key",
    "Segmentation": "settings",
    "Edit": "edit",
    "Tables": "tables",
    "Scan": "scan",
    "Anatomy": "anatomy",
    "Plan": "plan",
    "Device": "device",
    "CheckedDevice": "checked",
    "Approval": "approval",
    "Build": "build",
}
"""Value -> name of the parameter that receives it, the same in every stage."""

Taken = Mapping[str, Any]  # what a stage took, by the names of ARGUMENTS


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the table.

    ``function`` is ``module:name``; it is imported when the stage runs, so that reading the table costs nothing.
    ``takes`` names earlier ``gives`` and the case's inputs; the function receives each under its name in :data:`ARGUMENTS`.
    ``keep`` writes what people and other programs read beside the value, from it and from what the stage took, and returns the
    value itself.
    ``version`` is raised when the function may give another result for the same input. ``target_s`` is the time a
    512x512x400 scan may take on two cores.
    """

    name: str
    kind: Literal["pure", "gate"]
    function: str
    takes: tuple[str, ...]
    gives: str
    version: int
    target_s: float
    keep: Callable[[Any, Path, Taken], Any] = lambda value, folder, taken: value

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        module, _, name = self.function.partition(":")
        return cast("Callable[..., Any]", getattr(importlib.import_module(module), name))


def _keep_scan(result: tuple[Scan, Identity], folder: Path, taken: Taken) -> Scan:
    scan, identity = result
    _write_json(folder / "identity.json", dataclasses.asdict(identity))
    _write_json(folder / "scan.json", scan_report(scan, family_protocols()))
    return scan


def _keep_anatomy(anatomy: Anatomy, folder: Path, taken: Taken) -> Anatomy:
    from batchone.pipeline.editing.anatomy_files import write_anatomy  # needs the whole installation; the table does not
    from batchone.pipeline.job.levels import levels_picture
    from batchone.segment.confirmed import PICTURE

    write_anatomy(anatomy, folder)
    if anatomy.labels is not None and (numbered := levels_picture(taken["scan"], anatomy.labels)) is not None:
        (folder / PICTURE).write_bytes(numbered)
    return anatomy


def _keep_plan(proposal: Plan, folder: Path, taken: Taken) -> Plan:
    from batchone.pipeline.markups.write import write_markups  # numpy, which the table does without

    _write_json(folder / "figures.json", dict(proposal.figures))
    if proposal.axes or proposal.planes or proposal.curves:
        (folder / "plan.mrk.json").write_bytes(write_markups(proposal))
    return proposal


def _keep_device(device: Device, folder: Path, taken: Taken) -> Device:
    for part in device.parts:
        write_stl(folder / f"{part.name}.stl", part.mesh, part.name)
        if part.step:
            (folder / f"{part.name}.step").write_bytes(part.step)
    return device


def _keep_checked(checked: CheckedDevice, folder: Path, taken: Taken) -> CheckedDevice:
    _write_json(folder / "findings.json", [dataclasses.asdict(f) for f in checked.findings])
    if any(finding.verdict == "fail" for finding in checked.findings):  # no job folder will show it
        from batchone.pipeline.job.closeups import closeups
        from batchone.pipeline.job.seats import seat_pictures

        for picture in (*closeups(checked.findings, checked.device), *seat_pictures(checked.seats)):
            (folder / picture.name).write_bytes(picture.png)
    return checked


def _write_json(path: Path, tree: Any) -> None:
    path.write_text(json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=True) + "\n", encoding="utf-8")


STAGES = (
    Stage("intake", "pure", "batchone.pipeline.intake.make:intake", ("Study", "Order", "Protocol"), "Scan", 3, 1.0, _keep_scan),
    Stage(
        "segment",
        "pure",
        "batchone.segment.make:segment",
        ("Scan", "Order", "Segmentation", "Edit", "Protocol"),
        "Anatomy",
        8,
        2.5,
        _keep_anatomy,
    ),
    Stage("plan", "pure", "batchone.design.make:plan", ("Anatomy", "Order", "Tables"), "Plan", 7, 2.0, _keep_plan),
    Stage(
        "design",
        "pure",
        "batchone.design.make:design",
        ("Anatomy", "Plan", "Order", "Process", "Tables"),
        "Device",
        19,
        2.0,
        _keep_device,
    ),
    Stage(
        "check",
        "pure",
        "batchone.design.make:check",
        ("Device", "Anatomy", "Plan", "Order", "Process", "Machine", "Tables"),
        "CheckedDevice",
        19,
        4.0,
        _keep_checked,
    ),
    Stage("review", "gate", "", ("CheckedDevice",), "Approval", 2, 0.0),
    Stage(
        "slice",
        "pure",
        "batchone.slicer.make:slice_device",
        ("CheckedDevice", "Approval", "Process", "Machine", "Order"),
        "Build",
        14,
        5.0,
    ),
    Stage(
        "package",
        "pure",
        "batchone.pipeline.job.folder:package",
        ("Scan", "Anatomy", "Plan", "CheckedDevice", "Approval", "Build", "Order", "Process", "Machine", "SiteKey"),
        "JobFolder",
        16,
        3.0,
    ),
)
