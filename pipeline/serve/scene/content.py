"""The values of a case that a screen shows, as far as its stages have come."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from batchone.pipeline import codec
from batchone.pipeline.errors import InputError
from batchone.pipeline.order import PlanInput, read_order_table
from batchone.pipeline.preview import PREVIEW, preview_of
from batchone.pipeline.revisions import Revision, revisions
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Anatomy, CheckedDevice, Device, Finding, FloatArray, Part, Plan, Preview, Scan, SeatMap

SHOWN_STAGES = ("intake", "segment", "plan", "design", "check")
VERSION = 5  # of the scene: another one makes every screen ask again
_BROKEN = (ValueError, KeyError, TypeError, EOFError, RecursionError)  # what reading a damaged value raises


class Content:
    """A case's values, each read when it is first asked for; of a stage that has no result there is None."""

    def __init__(self, case: CaseFolder) -> None:
        self.case = case
        self.records = {stage: case.record(stage) for stage in SHOWN_STAGES}
        self._preview = preview_of(case)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) that differs whenever what a screen shows may differ."""
        order = self.case.path / "order.toml"
        text = hashlib.sha256(order.read_bytes()).hexdigest() if order.is_file() else ""
        preview = None if self._preview is None else self._preview["value_digest"]
        told = {
            "version": VERSION,
            "shapes": self.shapes_digest,
            "order": text,
            "check": self._given("check"),
            "preview": preview,
        }
        return codec.tree_digest(told)

    @property
    def shapes_digest(self) -> str:
        """SHA-256 (hex) that differs whenever voxels, triangles or sections may differ; checks that follow leave it as it is."""
        made, checked = self._given("design"), self.records["check"]
        if self._preview is None and checked is not None:  # its device is what is shown
            made = checked.get("taken", {}).get("Device", checked.get("value_digest"))
        before = None if self.previous is None else self.previous.device
        values = [self._given(stage) for stage in ("intake", "segment", "plan")]
        try:
            drawn = self.drawn.model_dump_json()
        except (InputError, ValueError):  # nothing is drawn of it
            drawn = ""
        told = {"version": VERSION, "stages": values, "device": made, "drawn": drawn}
        return codec.tree_digest({**told, "previous": before, "scan": self._scan_is_whole})

    @property
    def device_digest(self) -> str:
        """The digest by which pages tell devices apart: of the checked device, or of one with its interactive checks; else ""."""
        return str(self._given("check") or "") if self._preview is None else str(self._preview["taken"]["Device"])

    def _given(self, stage: str) -> Any:
        return (self.records[stage] or {}).get("value_digest")

    @property
    def _scan_is_whole(self) -> bool:
        """Whether every file of the scan is there: retention removes them and leaves the record."""
        outputs = (self.records["intake"] or {}).get("outputs", {})
        return all((self.case.path / "intake" / name).is_file() for name in outputs)

    @cached_property
    def scan(self) -> Scan:
        """The scan.

        Raises
        ------
        InputError
            There is none yet.
        """
        found = self._load("intake")
        if found is None:
            raise InputError("the case has no scan yet", hint="wait until intake has ended")
        assert isinstance(found, Scan)
        return found

    @cached_property
    def anatomy(self) -> Anatomy | None:
        """What the scan shows."""
        found: Anatomy | None = self._load("segment")
        return found

    @cached_property
    def plan(self) -> Plan | None:
        """What is to be made where."""
        found: Plan | None = self._load("plan")
        return found

    @cached_property
    def _checked(self) -> CheckedDevice | None:
        found: CheckedDevice | None = None if self._preview is not None else self._load("check")
        return found

    @cached_property
    def device(self) -> Device | None:
        """The device, checked or not."""
        if self._checked is not None:
            return self._checked.device
        found: Device | None = self._load("design")
        return found

    @cached_property
    def drawn(self) -> PlanInput:
        """The plan that a person drew in the order; empty where there is none.

        Raises
        ------
        OrderError
            The order cannot be read.
        """
        path = self.case.path / "order.toml"
        return PlanInput.model_validate(read_order_table(path).get("plan", {}) if path.is_file() else {})

    @cached_property
    def previous(self) -> Revision | None:
        """The device that the case had last before this one; None where this is the first."""
        now = None if self._preview is not None else (self.records["check"] or {}).get("value_digest")
        kept = [one for one in revisions(self.case.path) if one.device != now]
        return kept[-1] if kept else None

    @cached_property
    def previous_names(self) -> frozenset[str]:
        """The names of the parts of that device; none where it cannot be read."""
        if self.previous is None:
            return frozenset()
        try:
            tree = json.loads((self.previous.folder / "value.json").read_bytes())
            return frozenset(str(part["name"]) for part in tree["device"]["parts"]["$tuple"])
        except (OSError, *_BROKEN):
            return frozenset()

    def previous_part(self, name: str) -> Part:
        """The part of that name of that device.

        Raises
        ------
        InputError
            It cannot be read.
        """
        assert self.previous is not None
        try:
            checked = codec.load(self.previous.folder)
            return next(part for part in checked.device.parts if part.name == name)
        except (OSError, AttributeError, StopIteration, *_BROKEN) as error:
            raise InputError(
                f"revision {self.previous.number} of the case cannot be read", hint="compare the case with its last backup"
            ) from error

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the device, models of bones too."""
        return () if self.device is None else self.device.parts

    @property
    def findings(self) -> tuple[tuple[str, Finding], ...]:
        """All findings with their ids, ``<stage>-<number>`` in the order in which the stage told them."""
        found: list[tuple[str, Finding]] = []
        for stage, value in (("segment", self.anatomy), ("plan", self.plan)):
            found += [(f"{stage}-{n}", one) for n, one in enumerate(() if value is None else value.findings)]
        found += [(f"check-{n}", one) for n, one in enumerate(self.of_check)]
        return tuple(found)

    @property
    def of_check(self) -> tuple[Finding, ...]:
        """The findings of the device: of the release checks, or of the interactive ones where those are still to come."""
        return () if self._seen is None else self._seen.findings

    @property
    def seats(self) -> tuple[SeatMap, ...]:
        """Where its guides come to rest, by the same checks."""
        return () if self._seen is None else self._seen.seats

    @cached_property
    def _seen(self) -> Preview | CheckedDevice | None:
        if self._preview is None:
            return self._checked
        found: Preview = self.case.load(PREVIEW.name)
        return found

    @cached_property
    def region(self) -> Box | None:
        """The box of what is made; of the bones where nothing is made yet; None without both."""
        made = [part.mesh for part in self.parts if part.purpose == "device"] or [part.mesh for part in self.parts]
        meshes = made or [bone.mesh for bone in (() if self.anatomy is None else self.anatomy.bones)]
        full = [mesh.vertices_mm for mesh in meshes if len(mesh.vertices_mm)]
        if not full:
            return None
        return Box(np.min([one.min(axis=0) for one in full], axis=0), np.max([one.max(axis=0) for one in full], axis=0))

    def _load(self, stage: str) -> Any:
        return None if self.records[stage] is None else self.case.load(stage)


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A box along the axes of the patient: two corners, LPS mm."""

    low_mm: FloatArray
    high_mm: FloatArray

    def grown(self, margin_mm: float) -> Box:
        """The box with a margin on all sides."""
        return Box(self.low_mm - margin_mm, self.high_mm + margin_mm)
