"""Where the parts stand on the plate: rectangles about part and supports on shelves, the whole in the middle of the plate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchone.pipeline.errors import MachineError
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray, Mesh, Part, Placement
from batchone.slicer.orient import Stance


def usable_box_mm(machine: Machine) -> tuple[float, float, float]:
    """Width, depth and height that parts may fill: the envelope without the margin around the plate."""
    width, depth, height = machine.envelope_mm
    return (width - 2.0 * machine.plate_margin_mm, depth - 2.0 * machine.plate_margin_mm, height)


def place(
    parts: Sequence[Part], stances: Sequence[Stance], bodies: Sequence[Sequence[Mesh]], *, process: Process, machine: Machine
) -> tuple[Placement, ...]:
    """Give each part its place on the plate, with what carries it.

    Parameters
    ----------
    parts, stances
        Which, and how each stands.
    bodies
        Each part and its supports as they stand above the plate, mm, the lower corner of the part's box on the z axis: nothing of
        them is nearer to those of another than the spacing of the process, in boxes.

    Returns
    -------
    tuple of Placement
        Poses from patient LPS to the plate frame (mm, origin at the corner of the machine's box, z up); each part is as high
        above the plate as in ``bodies``.

    Raises
    ------
    MachineError
        The parts do not fit side by side.
    """
    box = usable_box_mm(machine)
    points = [np.concatenate([body.vertices_mm for body in those]) for those in bodies]
    sizes = [tuple(np.ptp(some[:, :2], axis=0).tolist()) for some in points]
    corners = shelves([(width, depth) for width, depth in sizes], (box[0], box[1]), spacing_mm=process.part_spacing_mm)
    placements = []
    for part, stance, those, some, corner in zip(parts, stances, bodies, points, corners, strict=True):
        low = (part.mesh.vertices_mm @ stance.rotation.T).min(axis=0)
        at = np.array([*corner, those[0].vertices_mm[:, 2].min()])
        at[:2] += machine.plate_margin_mm - some[:, :2].min(axis=0)
        pose: FloatArray = np.eye(4)
        pose[:3, :3] = stance.rotation
        pose[:3, 3] = at - low
        placements.append(Placement(part.name, pose, stance.criterion, stance.orientation))
    return tuple(placements)


def shelves(
    sizes_mm: Sequence[tuple[float, float]], plate_mm: tuple[float, float], *, spacing_mm: float
) -> list[tuple[float, float]]:
    """Lower corners of rectangles side by side on shelves, deepest first; the whole is centred.

    Raises
    ------
    MachineError
        They do not fit.
    """
    order = sorted(range(len(sizes_mm)), key=lambda i: (-sizes_mm[i][1], -sizes_mm[i][0], i))
    corners = [(0.0, 0.0)] * len(sizes_mm)
    x = y = shelf_mm = used_x = 0.0
    for i in order:
        width, depth = sizes_mm[i]
        if x > 0.0 and x + width > plate_mm[0]:
            x, y, shelf_mm = 0.0, y + shelf_mm + spacing_mm, 0.0
        corners[i] = (x, y)
        shelf_mm = max(shelf_mm, depth)
        used_x = max(used_x, x + width)
        x += width + spacing_mm
    used_y = y + shelf_mm
    if used_x > plate_mm[0] or used_y > plate_mm[1]:
        raise MachineError(
            f"{len(sizes_mm)} parts side by side need {used_x:.1f} x {used_y:.1f} mm with {spacing_mm:g} mm between them, "
            f"the plate has {plate_mm[0]:.1f} x {plate_mm[1]:.1f} mm",
            hint="print the parts in several builds, or choose a larger machine",
        )
    shift = 0.5 * (plate_mm[0] - used_x), 0.5 * (plate_mm[1] - used_y)
    return [(corner[0] + shift[0], corner[1] + shift[1]) for corner in corners]
