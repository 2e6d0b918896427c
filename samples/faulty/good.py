"""Good devices on bones of known shape, each with all that its checks look at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from batchone.design.families import load_families
from batchone.design.family import Checked
from batchone.design.make import design, plan
from batchone.design.model.reduction import reduced
from batchone.design.table_files import shipped_tables
from batchone.pipeline.order import Order, PlanInput, PlanLine
from batchone.pipeline.values import Anatomy, Bone, FieldOfView, Plan, Side
from batchone.samples.long_bone import bone_surface
from batchone.samples.spine import spine_segment
from batchone.samples.vault_hole import plan_for, skull
from batchone.segment.frames.long_bone import tibia
from batchone.segment.frames.vertebra import vertebra
from batchone.slicer.profiles import load_machine, load_process

SIGMA_MM = 0.05  # of the bones' surfaces; they are exact
TEMPLATE = "drill-template"  # of docs/own-family, where that package is installed


@dataclass(frozen=True, slots=True)
class Kind:
    """A good device: its family, the side it is ordered for, and the parameters that differ from their defaults."""

    family: str
    side: Side
    parameters: Mapping[str, object]


KINDS: Mapping[str, Kind] = {
    "pedicle-guide": Kind("pedicle-guide", "midline", {"bone_model": False, "contact_offset_mm": 0.2, "window_mm": 4.0}),
    "osteotomy-guide": Kind(
        "osteotomy-guide", "left",
        {"site": "shaft", "wedge": "none", "bone_model": False, "contact_offset_mm": 0.3, "extension_mm": 15.0},
    ),
    "tibial-guide": Kind("osteotomy-guide", "left", {"bone_model": False, "contact_offset_mm": 0.3}),
    "cranial-implant": Kind("cranial-implant", "left", {}),
    "anatomical-model": Kind("anatomical-model", "left", {"cut_bottom_mm": 200.0, "scale_cube": True}),
    "hollow-model": Kind(
        "anatomical-model", "left",
        {"cut_bottom_mm": 200.0, "hollow": True, "wall_mm": 2.5, "engrave": False, "scale_cube": False},
    ),
    TEMPLATE: Kind(TEMPLATE, "left", {}),
}  # fmt: skip


def there() -> tuple[str, ...]:
    """The kinds whose families are installed."""
    return tuple(name for name, kind in KINDS.items() if kind.family in load_families())


@cache
def vertebra_l3() -> Anatomy:
    """The middle of three synthetic vertebrae, within 0.05 mm."""
    mesh, _ = reduced(spine_segment(3).vertebrae[1], 0.05)
    found = vertebra(mesh, np.full(len(mesh.vertices_mm), SIGMA_MM), "L3")
    if found is None:
        raise AssertionError("the synthetic vertebra shows no landmarks")
    bone = Bone("L3", "midline", True, 1.0, 26000.0, mesh, found.frame, np.full(len(mesh.vertices_mm), SIGMA_MM))
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


@cache
def left_tibia() -> Anatomy:
    """The sample's long bone, 330 mm long."""
    mesh = bone_surface(330.0, rings=200, spokes=72)
    sigma = np.full(len(mesh.vertices_mm), SIGMA_MM)
    found = tibia(mesh, sigma, "tibia-left", "left", complete=True)
    if found is None:
        raise AssertionError("the synthetic tibia shows no landmarks")
    bone = Bone("tibia", "left", True, 1.0, 1.0, mesh, found.frame, sigma)
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


def order(device: str, **parameters: object) -> Order:
    """An order for a device, with other parameters than those of its kind where given."""
    kind = KINDS[device]
    model = load_families()[kind.family].parameters
    lines = (
        PlanLine(name="hole-1", start_mm=(3.0, -12.0, 0.0), end_mm=(3.0, 8.0, 0.0)),
        PlanLine(name="hole-2", start_mm=(3.0, -12.0, 20.0), end_mm=(6.0, 8.0, 20.0)),
    )
    return Order(
        case="F-0001", device=kind.family, side=kind.side, process="pa12-sls", machine="sim-01",
        due=dt.datetime(2026, 11, 30, 8, tzinfo=dt.UTC), plan=PlanInput(lines=lines if device == TEMPLATE else ()),
        parameters=model.model_validate({**kind.parameters, **parameters}),
    )  # fmt: skip


def good(device: str, anatomy: Anatomy | None = None, **parameters: object) -> Checked:
    """Design a device on its bone, or on another; the implant by the true plan of its hole, the others by their own proposal."""
    bones = anatomy or {"pedicle-guide": vertebra_l3, "cranial-implant": skull}.get(device, left_tibia)()
    wanted, process = order(device, **parameters), load_process("pa12-sls")
    proposal: Plan = plan_for() if device == "cranial-implant" else plan(bones, wanted)
    made = design(bones, proposal, wanted, process)
    limits = load_families()[wanted.device].limits
    return Checked(made, bones, proposal, wanted, process, load_machine("sim-01"), shipped_tables(), limits)
