"""Each parameter of the guide families at both ends of its limits: a guide that passes every check, or a refusal with its reason.

    python -m benchmarks.guide_limits [START ...] [--parameters NAME ...]

Prints one line for each start as it is and for each end that differs; the exit status is 1 where a guide was made that fails a
check. Minutes for each start. Guides on shafts are made on real tibiae, as on a round synthetic one they turn; without
BATCHONE_TEST_DATA they are left out, and said so.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batchone.design.families import load_families
from batchone.design.make import check, design, plan
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.order import Order, Parameters
from batchone.pipeline.values import Anatomy, Bone, FieldOfView, Mesh, Side
from batchone.samples.long_bone import bone_surface
from batchone.samples.spine import spine_segment
from batchone.segment.frames.long_bone import LongBone, tibia
from batchone.segment.frames.vertebra import Vertebra, vertebra
from batchone.slicer.profiles import load_machine, load_process
from benchmarks.seating import real_bone, tibia_anatomy

SIGMA_MM = 0.05
_SHAFT = {"site": "shaft", "wedge": "none", "contact_offset_mm": 0.3}
_SHAFT_CLOSING = {**_SHAFT, "wedge": "closing", "wedge_deg": 18.0}


@dataclass(frozen=True, slots=True)
class Start:
    """A device, the side it is ordered for, the parameters that one is changed of, and whether the bone is a real one."""

    device: str
    side: Side
    parameters: dict[str, object]
    real: bool = False


STARTS = {
    "high-tibial-opening": Start("osteotomy-guide", "left", {}),
    "high-tibial-closing": Start("osteotomy-guide", "left", {"wedge": "closing"}),
    "left-shaft": Start("osteotomy-guide", "left", _SHAFT, real=True),
    "left-shaft-closing": Start("osteotomy-guide", "left", _SHAFT_CLOSING, real=True),
    "right-shaft": Start("osteotomy-guide", "right", _SHAFT, real=True),
    "right-shaft-closing": Start("osteotomy-guide", "right", _SHAFT_CLOSING, real=True),
    "pedicle": Start("pedicle-guide", "midline", {}),
    "one-pedicle": Start("pedicle-guide", "left", {}),
}


def ends(model: type[Parameters]) -> Iterator[tuple[str, object]]:
    """Each end of each numeric limit, each choice, and both values of each switch."""
    for name, prop in model.model_json_schema()["properties"].items():
        for key in ("minimum", "maximum"):
            if key in prop:
                yield name, int(prop[key]) if prop["type"] == "integer" else float(prop[key])
        for choice in prop.get("enum", (False, True) if prop.get("type") == "boolean" else ()):
            yield name, choice


def anatomy_for(start: Start) -> Anatomy:
    """A synthetic tibia or vertebra, or a real tibia."""
    mesh: Mesh
    found: LongBone | Vertebra | None
    if start.real:
        return tibia_anatomy(real_bone(f"{start.side} tibia"), start.side)
    if start.device == "osteotomy-guide":
        mesh = bone_surface(330.0, rings=200, spokes=72)
        sigma = np.full(len(mesh.vertices_mm), SIGMA_MM)
        found, bone_name, side = tibia(mesh, sigma, "tibia-left", "left", complete=True), "tibia", "left"
    else:
        mesh = spine_segment(3).vertebrae[1]
        sigma = np.full(len(mesh.vertices_mm), SIGMA_MM)
        found, bone_name, side = vertebra(mesh, sigma, "L3"), "L3", "midline"
    if found is None:
        raise SystemExit(f"the synthetic bone for {start.device} shows no landmarks")
    bone = Bone(bone_name, "left" if side == "left" else "midline", True, 1.0, 1.0, mesh, found.frame, sigma)
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


def outcome(anatomy: Anatomy, start: Start, change: dict[str, object]) -> tuple[str, bool]:
    """What comes of one order, and whether a guide was made that fails."""
    family, process = load_families()[start.device], load_process("pa12-sls")
    try:
        chosen = family.parameters.model_validate({"bone_model": False, **start.parameters, **change})
    except ValueError as error:
        return f"refused: {error}".replace("\n", " "), False
    due = dt.datetime(2027, 1, 31, 8, tzinfo=dt.UTC)
    one = Order.model_validate(
        {"case": "e-0001", "device": start.device, "side": start.side, "process": "pa12-sls", "machine": "sim-01", "due": due}
    ).model_copy(update={"parameters": chosen})
    try:
        proposal = plan(anatomy, one)
        found = check(design(anatomy, proposal, one, process), anatomy, proposal, one, process, load_machine("sim-01"))
    except BatchoneError as error:
        return f"refused: {error}", False
    failed = [f"{f.what}: {f.value:g} ({f.limit})" for f in found.findings if f.verdict == "fail"]
    return ("FAILS " + "; ".join(failed), True) if failed else ("passes", False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("starts", nargs="*", default=list(STARTS), metavar="START", help=", ".join(STARTS))
    parser.add_argument("--parameters", nargs="*", default=[], metavar="NAME", help="these alone")
    options = parser.parse_args()
    use_kernel_cache()
    rows = bad = 0
    for title in options.starts:
        start = STARTS[title]
        if start.real and "BATCHONE_TEST_DATA" not in os.environ:
            print(f"{title:20} left out: set BATCHONE_TEST_DATA to the test data with bones/")
            continue
        anatomy = anatomy_for(start)
        model = load_families()[start.device].parameters
        plain = model.model_validate({"bone_model": False, **start.parameters})
        changes = [(name, value) for name, value in ends(model) if getattr(plain, name) != value]
        for change in [{}, *({name: value} for name, value in changes if name in options.parameters or not options.parameters)]:
            if change.get("site") == "shaft" and not start.real:
                continue
            said, fails = outcome(anatomy, start, change)
            rows, bad = rows + 1, bad + fails
            what = ", ".join(f"{name} = {value}" for name, value in change.items()) or "as it is"
            print(f"{title:20} {what}: {said}", flush=True)
    print(f"{rows} ends, {bad} with a guide that fails a check")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
