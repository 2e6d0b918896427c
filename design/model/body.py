"""The body of an anatomical model, step by step, in the frame of its first bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchone.design.booleans import (
    Solid,
    difference,
    handles_of,
    solid_from_labelled_mesh,
    solid_from_mesh,
    to_mesh,
    to_part,
    trimmed,
    union,
    volume_mm3,
)
from batchone.design.cranial.columns import to_local
from batchone.design.families.anatomical_model import AnatomicalModelParameters
from batchone.design.family import parameters_of
from batchone.design.model.hollow import Hollow, hollow_out
from batchone.design.model.joining import joined_pieces
from batchone.design.model.marks import MarkFinder, MarkRule
from batchone.design.model.reduction import reduced
from batchone.design.model.region import chosen_bones
from batchone.design.process_limits import refuse_below_process
from batchone.design.solid import Feature, box, step_of, text
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Bone, Device, FloatArray, FunctionalFace, Mesh, Part, Plan, Side, Vector

BONE, PIN, CUT, CAVITY, ESCAPE_HOLE, LABEL, SIDE_MARK, CUBE = (
    "bone",
    "pin",
    "cut",
    "cavity",
    "escape-hole",
    "label",
    "side-mark",
    "cube",
)

CUBE_FOOT = "cube-foot"
_MEASURED = "measured with a caliper to check the scale"
_MEASURED_BESIDE_FOOT = (
    "measured with a caliper to check the scale: the two edges beside the foot, across the four sides; "
    "not the height, for supports stand on the foot opposite the figure"
)
_CUBE_DISTANCE_MM = 10.0  # from the model's box to the cube; project default
_CUBE_TEXT_SHARE = 0.4  # height of the figure on the cube per edge
_SIDE_DIRECTION = {"L": np.array([1.0, 0.0, 0.0]), "R": np.array([-1.0, 0.0, 0.0])}


def build_model(anatomy: Anatomy, plan: Plan, order: Order, process: Process) -> Device:
    """Make the model and its scale cube.

    Raises
    ------
    OrderError
        A parameter is below what the process can hold.
    DesignError
        No closed body exists.
    """
    chosen = parameters_of(order, AnatomicalModelParameters)
    _refuse_what_the_process_cannot_hold(chosen, process)
    bones = chosen_bones(anatomy, order)
    pose = bones[0].frame
    whole, simplified_mm = _whole(bones, pose, chosen.simplify_mm)
    cut = _cut_to_region(whole, plan, pose)
    joined = joined_pieces(cut, crumb_mm3=chosen.crumb_mm3, pin_mm=chosen.pin_mm, pin_reach_mm=chosen.pin_reach_mm)
    body = joined.body
    solid_mm3 = volume_mm3(body)
    hollow = Hollow((), (), 0.0)
    if chosen.hollow:
        hollow = hollow_out(body, wall_mm=chosen.wall_mm, hole_mm=chosen.escape_hole_mm, holes=chosen.escape_holes)
        body = _hollowed(body, hollow)
    handles = handles_of(joined.body) + sum(handles_of(cavity) - 1 for cavity in hollow.cavities) + len(hollow.holes)
    body, marks = _engraved(body, bones, order, chosen, process)
    features = (*joined.pins, *hollow.holes, *marks)
    model = to_part(
        body, "model", functional_faces=_faces(marks, process), step=step_of(features, pose=pose), pose=pose, handles=handles
    )
    parts = (model, _scale_cube(model, pose, chosen.scale_cube_mm, process)) if chosen.scale_cube else (model,)
    cut_off_mm3 = volume_mm3(whole) - volume_mm3(cut)
    figures = (
        ("bone_volume_mm3", volume_mm3(whole)),
        ("cut_off_mm3", cut_off_mm3),
        ("solid_volume_mm3", solid_mm3),
        ("model_volume_mm3", volume_mm3(body)),
        ("filled_voids", float(joined.filled)),
        ("dropped_pieces", float(joined.dropped)),
        ("dropped_mm3", joined.dropped_mm3),
        ("pins", float(len(joined.pins))),
        ("simplified_within_mm", simplified_mm),
        ("cavities", float(len(hollow.cavities))),
        ("escape_holes", float(len(hollow.holes))),
        ("hollowed_mm3", hollow.removed_mm3),
        ("label_characters", float(sum(mark.name.startswith(LABEL) for mark in marks))),
        ("side_marks", float(sum(mark.name.startswith(SIDE_MARK) for mark in marks))),
    )
    return Device("anatomical-model", parts, figures)


def _refuse_what_the_process_cannot_hold(chosen: AnatomicalModelParameters, process: Process) -> None:
    sizes = {"text_height_mm": (chosen.text_height_mm, "font_height_mm")} if chosen.engrave else {}
    if chosen.hollow:
        sizes["wall_mm"] = (chosen.wall_mm, "hollow_wall_mm")
        sizes["escape_hole_mm"] = (chosen.escape_hole_mm, "min_escape_hole_mm")
    refuse_below_process(sizes, process)


def _whole(bones: tuple[Bone, ...], pose: FloatArray, simplify_mm: float) -> tuple[Solid, float]:
    """All bones as one solid of fewer triangles, in the frame of the first; and the least tolerance that was used."""
    fewer = [reduced(Mesh(to_local(pose, bone.mesh.vertices_mm), bone.mesh.faces), simplify_mm) for bone in bones]
    solids = [solid_from_mesh(mesh, BONE) for mesh, _ in fewer]
    whole = solids[0] if len(solids) == 1 else union(*solids, what=f"joining {len(solids)} bones")
    return whole, min(used_mm for _, used_mm in fewer)


def _cut_to_region(whole: Solid, plan: Plan, pose: FloatArray) -> Solid:
    for plane in plan.planes:
        origin = to_local(pose, np.array([plane.origin_mm]))[0]
        normal = np.array(plane.normal) @ pose[:3, :3]
        whole = trimmed(whole, origin_mm=origin, normal=normal, label=CUT, what=f"cutting at {plane.name}")
    return whole


def _hollowed(body: Solid, hollow: Hollow) -> Solid:
    if not hollow.cavities:
        return body
    holes = [
        solid_from_mesh(hole.mesh, ESCAPE_HOLE + hole.name.removeprefix("escape hole").replace(" ", "-")) for hole in hollow.holes
    ]
    return difference(body, *hollow.cavities, *holes, what=f"hollowing {len(hollow.cavities)} cavities")


def _engraved(
    body: Solid, bones: tuple[Bone, ...], order: Order, chosen: AnatomicalModelParameters, process: Process
) -> tuple[Solid, tuple[Feature, ...]]:
    """Cut side marks, then the case code; marks that find no place are left out and counted."""
    if not chosen.engrave:
        return body, ()
    rule = MarkRule(chosen.text_height_mm, process.engrave_depth_mm, process.min_wall_mm)
    finder = MarkFinder(to_mesh(body)[0])
    marks: list[Feature] = []
    used: list[FloatArray] = []
    sides = sorted({bone.side for bone in bones})
    for letter in _side_letters(sides):
        facing = _SIDE_DIRECTION[letter] if sides == ["midline"] else None
        letters = finder.engraving(f"{SIDE_MARK} {letter}", letter, rule, facing=facing, avoid=tuple(used))
        marks += letters
        used += [mark.mesh.vertices_mm.mean(axis=0) for mark in letters]
    marks += finder.engraving(LABEL, order.case, rule, avoid=tuple(used))
    if not marks:
        return body, ()
    tools = [solid_from_mesh(mark.mesh, SIDE_MARK if mark.name.startswith(SIDE_MARK) else LABEL) for mark in marks]
    return difference(body, *tools, what=f"engraving {len(marks)} letters"), tuple(marks)


def _side_letters(sides: list[Side]) -> tuple[str, ...]:
    """L and R on a bone of the midline; the letter of its side on a one-sided bone; none on a mixture."""
    if sides == ["midline"]:
        return ("L", "R")
    return {"left": ("L",), "right": ("R",)}.get(sides[0], ()) if len(sides) == 1 else ()


def _faces(marks: tuple[Feature, ...], process: Process) -> tuple[FunctionalFace, ...]:
    purposes = {LABEL: "case code, must stay readable", SIDE_MARK: "side of the patient, must stay readable"}
    cut = [label for label in purposes if any(mark.name.startswith(label) for mark in marks)]
    return tuple(FunctionalFace(label, purposes[label], process.tolerance_mm) for label in cut)


def _cube_solid(mesh: Mesh, process: Process) -> Solid:
    """The cube with its measured faces; the lower one carries it where a process needs supports, and is measured by nobody.

    Then its edges are measured across the two pairs of faces beside that foot, not from the foot to the figure above.
    """
    if not process.needs_supports:
        return solid_from_mesh(mesh, CUBE)
    corners = mesh.vertices_mm[mesh.faces]
    lower = corners[:, :, 2].max(axis=1) < mesh.vertices_mm[:, 2].mean()
    return solid_from_labelled_mesh(mesh, (CUBE, CUBE_FOOT), lower.astype(np.int16))


def _scale_cube(model: Part, pose: FloatArray, edge_mm: float, process: Process) -> Part:
    """A cube of known edge below and beside the model, its edge length engraved on top."""
    local = to_local(pose, model.mesh.vertices_mm)
    low, high = local.min(axis=0), local.max(axis=0)
    half = 0.5 * edge_mm
    centre: Vector = (float(high[0]) + _CUBE_DISTANCE_MM + half, float(0.5 * (low[1] + high[1])), float(low[2]) + half)
    cube = box("scale cube", size_mm=(edge_mm, edge_mm, edge_mm), centre_mm=centre)
    body, features = _cube_solid(cube.mesh, process), [cube]
    height_mm = max(process.font_height_mm, _CUBE_TEXT_SHARE * edge_mm)
    figure = text(
        f"{LABEL} scale cube edge in mm",
        f"{edge_mm:g}",
        height_mm=height_mm,
        depth_mm=process.engrave_depth_mm,
        above_mm=process.engrave_depth_mm,
        origin=(centre[0], centre[1], centre[2] + half),
        x_direction=(1.0, 0.0, 0.0),
        normal=(0.0, 0.0, 1.0),
    )
    width_mm = float(np.ptp(figure.mesh.vertices_mm[:, 0]))
    if width_mm < edge_mm and height_mm < edge_mm:
        body = difference(body, solid_from_mesh(figure.mesh, LABEL), what="engraving the scale cube")
        features.append(figure)
    face = FunctionalFace(CUBE, _MEASURED_BESIDE_FOOT if process.needs_supports else _MEASURED, process.tolerance_mm)
    step = step_of(tuple(features), pose=pose)
    part = to_part(body, "scale-cube", functional_faces=(face,), step=step, pose=pose, handles=0)
    return replace(part, purpose="gauge")
