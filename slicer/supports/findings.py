"""What is said of the supports of a build: gates on what carries and what is touched, figures for information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from batchone.pipeline.process import Process, Supports
from batchone.pipeline.values import Finding, FloatArray, Placement, Vector, judge
from batchone.slicer.layers import Layers
from batchone.slicer.places import in_patient
from batchone.slicer.supports.bodies import Supported
from batchone.slicer.supports.check import ROW_MM, carried_each, far_patches, least_patch_mm2, most_reach_mm

_TURN: Final = (
    "supports keep off functional faces and need a free way down: let another face look down, orient the part by hand, or ask "
    "for a device whose functional faces can be carried"
)


def support_findings(
    placements: Sequence[Placement], made: Sequence[Supported], layers: Layers, process: Process
) -> tuple[Finding, ...]:
    """Judge the layers and the supports of a build; nothing for a process that needs none.

    Parameters
    ----------
    placements, made
        Of each part, in the same order.
    layers
        As they were written: parts, then supports.
    process
        Its limits.
    """
    if not process.needs_supports or process.supports is None:
        return ()
    found = carried_each(layers, _groups(made), process)
    least_mm2 = process.supports.least_island_mm2
    islands = found.islands_of(least_mm2)
    source = process.supports.sources
    where = None
    if len(islands):
        layer, x, y, _ = islands[int(np.argmax(islands[:, 3]))].tolist()
        where = np.array([x, y, (layer + 0.5) * layers.layer_mm])
    patches = found.unsupported
    worst = patches[int(np.argmax(patches[:, 0]))] if len(patches) else np.zeros(5)
    cells = f"in cells of {ROW_MM:g} mm"
    reach = f", up to {worst[1]:.1f} mm from what carries it" if len(patches) else ""
    far = far_patches(found, process)
    farthest = far[int(np.argmax(far[:, 1]))] if len(far) else np.zeros(5)
    findings = [
        judge(
            "supports.islands", f"pieces of a layer of at least {least_mm2:g} mm2 that lie on nothing, {cells}", len(islands), "",
            high=0, hint=_TURN, source=source.get("least_island_mm2", ""), where_mm=_in_patient(where, placements, layers),
        ),
        judge(
            "supports.unsupported",
            f"largest area that hangs over beyond {process.max_overhang_deg:g} deg and is neither ledge, bridge nor roof of a "
            f"hole, seen from above, {cells}{reach}",
            round(float(worst[0]), 6), "mm2", high=least_patch_mm2(process), hint=_TURN,
            source=f"ledges of {process.free_ledge_mm:g} mm ({process.sources.get('free_ledge_mm', '')}), bridges of "
            f"{process.free_bridge_mm:g} mm ({process.sources.get('free_bridge_mm', '')}), holes of {process.free_hole_mm:g} mm; "
            f"{process.sources.get('least_support_mm2', '')}",
            where_mm=_in_patient(worst[2:], placements, layers) if len(patches) else None,
        ),
        judge(
            "supports.reach",
            f"farthest that of such areas more than {least_mm2:g} mm2 stands out, however small, {cells}",
            round(float(farthest[1]), 4), "mm", high=most_reach_mm(process), hint=_TURN,
            source=f"project default: a square of {process.least_support_mm2:g} mm2 beyond {process.free_ledge_mm:g} mm of ledge "
            f"({process.sources.get('free_ledge_mm', '')}), and a cell; unverified",
            where_mm=_in_patient(farthest[2:], placements, layers) if len(far) else None,
        ),
    ]  # fmt: skip
    for placement, one in zip(placements, made, strict=True):
        if one.support is None:
            continue
        findings += [
            judge(
                "supports.on_functional", f"functional area of {placement.part} that supports touch", one.functional_mm2, "mm2",
                high=0.0, hint=_TURN, source="functional faces carry no supports",
            ),
            *_pull_finding(placement.part, one, process.supports),
            judge("supports.volume", f"volume of {one.support.name}", one.support.volume_mm3, "mm3"),
            judge("supports.contact", f"area of {placement.part} that supports touch", one.support.contact_mm2, "mm2"),
        ]  # fmt: skip
    return tuple(findings)


def _pull_finding(part: str, one: Supported, made: Supports) -> list[Finding]:
    """How much of a layer hangs at its tips while a film pulls; nothing where none does."""
    if made.most_pull is None:
        return []
    return [
        judge(
            "supports.pull", f"{part}: largest layer for each mm2 of tips below it", round(one.pull, 6), "mm2/mm2",
            high=made.most_pull, gate=False, hint="watch that the part stays on its tips, or stand it another way",
            source=made.sources.get("most_pull", ""),
        )
    ]  # fmt: skip


def _groups(made: Sequence[Supported]) -> list[list[int]]:
    """The numbers of each part and of its supports among the layers: parts first."""
    groups, number = [[part] for part in range(len(made))], len(made)
    for group, one in zip(groups, made, strict=True):
        if one.support is not None:
            group.append(number)
            number += 1
    return groups


def _in_patient(where_mm: FloatArray | None, placements: Sequence[Placement], layers: Layers) -> Vector | None:
    """A place on the plate in patient LPS, by the part whose contours lie nearest to it."""
    if where_mm is None:
        return None
    own = np.flatnonzero(layers.loop_part < len(placements))
    first = layers.points_mm[layers.loop_start[own]]
    height = (layers.loop_layer[own] + 0.5) * layers.layer_mm
    away = np.hypot(*(first - where_mm[:2]).T) + np.abs(height - where_mm[2])
    pose = placements[int(layers.loop_part[own[int(np.argmin(away))]])].pose
    return in_patient(where_mm, pose)
