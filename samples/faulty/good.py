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
from batchone.pipeline.values import Anatomy, Bone, FieldOfView, Mesh, Plan, Side
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
    """A good device: its family, the side it is ordered for, the parameters that differ from their defaults, and its process."""

    family: str
    side: Side
    parameters: Mapping[str, object]
    process: str = "pa12-sls"


KINDS: Mapping[str, Kind] = {
    "pedicle-guide": Kind("pedicle-guide", "midline", {"bone_model": False, "contact_offset_mm": 0.2}),
    "windowed-guide": Kind(
        "pedicle-guide", "left", {"bone_model": False, "contact_offset_mm": 0.2, "pad_mm": 11.0, "window_mm": 3.0}
    ),
    "osteotomy-guide": Kind(
        "osteotomy-guide", "left",
        {"site": "shaft", "wedge": "none", "bone_model": False, "contact_offset_mm": 0.3, "extension_mm": 15.0},
    ),
    "tibial-guide": Kind("osteotomy-guide", "left", {"bone_model": False, "contact_offset_mm": 0.3}),
    "windowed-tibial-guide": Kind("osteotomy-guide", "left", {"bone_model": False, "contact_offset_mm": 0.3, "window_mm": 4.0}),
    "resin-guide": Kind("osteotomy-guide", "left", {"bone_model": False, "contact_offset_mm": 0.3}, "guide-resin"),
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
def vertebra_l3(scale: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Anatomy:
    """The middle of three synthetic vertebrae, within 0.05 mm, or one that is stretched along the patient's axes."""
    whole, _ = reduced(spine_segment(3).vertebrae[1], 0.05)
    mesh = Mesh(whole.vertices_mm * scale, whole.faces)
    found = vertebra(mesh, np.full(len(mesh.vertices_mm), SIGMA_MM), "L3")
    if found is None:
        raise AssertionError("the synthetic vertebra shows no landmarks")
    bone = Bone("L3", "midline", True, 1.0, 26000.0, mesh, found.frame, np.full(len(mesh.vertices_mm), SIGMA_MM))
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


@cache
def left_tibia(scale: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Anatomy:
    """The sample's long bone, 330 mm long, or one that is stretched along the patient's axes."""
    whole = bone_surface(330.0, rings=200, spokes=72)
    mesh = Mesh(whole.vertices_mm * scale, whole.faces)
    sigma = np.full(len(mesh.vertices_mm), SIGMA_MM)
    found = tibia(mesh, sigma, "tibia-left", "left", complete=True)
    if found is None:
        raise AssertionError("the synthetic tibia shows no landmarks")
    bone = Bone("tibia", "left", True, 1.0, 1.0, mesh, found.frame, sigma)
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


def bones(device: str) -> tuple[tuple[Anatomy, Plan | None], ...]:
    """Three bones for a kind of device, of different size and shape; the plan where it is not the family's own proposal."""
    family = KINDS[device].family
    if family == "cranial-implant":
        return tuple((skull(angle_deg), plan_for(angle_deg)) for angle_deg in (0.0, 5.0, 10.0))
    if family == TEMPLATE:  # its lines are drawn for these
        return tuple((left_tibia((1.0, 1.0, long)), None) for long in (1.0, 0.9, 1.1))
    if family == "pedicle-guide":
        return tuple((vertebra_l3(scale), None) for scale in ((1.0, 1.0, 1.0), (1.06, 1.0, 0.95), (1.12, 1.1, 1.1)))
    return tuple((left_tibia(scale), None) for scale in ((1.0, 1.0, 1.0), (1.12, 1.0, 1.08), (0.95, 1.05, 0.92)))


def order(device: str, **parameters: object) -> Order:
    """An order for a device, with other parameters than those of its kind where given."""
    kind = KINDS[device]
    model = load_families()[kind.family].parameters
    lines = (
        PlanLine(name="hole-1", start_mm=(3.0, -12.0, 0.0), end_mm=(3.0, 8.0, 0.0)),
        PlanLine(name="hole-2", start_mm=(3.0, -12.0, 20.0), end_mm=(6.0, 8.0, 20.0)),
    )
    return Order(
        case="F-0001", device=kind.family, side=kind.side, process=kind.process, machine="sim-01",
        due=dt.datetime(2026, 11, 30, 8, tzinfo=dt.UTC), plan=PlanInput(lines=lines if device == TEMPLATE else ()),
        parameters=model.model_validate({**kind.parameters, **parameters}),
    )  # fmt: skip


def good(device: str, anatomy: Anatomy | None = None, proposal: Plan | None = None, **parameters: object) -> Checked:
    """Design a device on the first of its bones, or on another; by a plan, or its family's own proposal."""
    if anatomy is None:
        anatomy, proposal = bones(device)[0]
    wanted, process = order(device, **parameters), load_process(KINDS[device].process)
    proposal = proposal or plan(anatomy, wanted)
    made = design(anatomy, proposal, wanted, process)
    limits = load_families()[wanted.device].limits
    return Checked(made, anatomy, proposal, wanted, process, load_machine("sim-01"), shipped_tables(), limits)
