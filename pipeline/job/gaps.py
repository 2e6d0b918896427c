"""Where a device touches its bone: the device seen from the bone, coloured by its gap, and the contact alone."""

from __future__ import annotations

import numpy as np

from batchone.design.nearest import nearest_mm
from batchone.pipeline.job.bands import banded, drawn
from batchone.pipeline.job.pictures import Picture, outward_direction, side_of
from batchone.pipeline.values import Anatomy, Device, Mesh, Part, Plan, Vector

CONTACT = "contact"  # the label of the faces that touch, in every family
STEPS_MM = (0.12, 0.22, 0.32, 0.55, 1.1, 2.0)  # upper ends of the colours, off usual gaps: an even contact has one colour


def gap_pictures(anatomy: Anatomy, device: Device, plan: Plan) -> tuple[Picture, ...]:
    """Each part that touches bone, seen along its way on from the bone's side, coloured by the distance to the nearest bone.

    Returns
    -------
    tuple of Picture
        ``gap-<part>.png``; none for devices that have no contact faces, or no axis along which they go on.
    """
    parts = [part for part in device.parts if CONTACT in part.labels]
    return tuple(picture for part in parts for picture in _of(part, anatomy, device, plan))


def _of(part: Part, anatomy: Anatomy, device: Device, plan: Plan) -> list[Picture]:
    axes = [axis for axis in plan.axes if axis.name.split("-")[0] == "insertion"]
    if not axes or not anatomy.bones:
        return []
    middle = part.mesh.vertices_mm.mean(axis=0)
    axis = min(axes, key=lambda one: float(np.linalg.norm(np.array(one.origin_mm) - middle)))
    centres = part.mesh.vertices_mm[part.mesh.faces].mean(axis=1)
    gap = np.min([nearest_mm(centres, bone.mesh) for bone in anatomy.bones], axis=0)
    bodies = banded(Mesh(part.mesh.vertices_mm, part.mesh.faces), gap, STEPS_MM)
    outward: Vector = outward_direction(axis, anatomy, device)
    caption = f"{part.name}: distance to the bone, seen from the bone"
    return [drawn(f"gap-{part.name}.png", caption, bodies, STEPS_MM, forward=outward, up=side_of(outward), title=caption)]
