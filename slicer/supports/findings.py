"""What is said of the supports of a build: gates on what carries and what is touched, figures for information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Placement, Vector, judge
from batchone.slicer.layers import Layers
from batchone.slicer.supports.bodies import Supported
from batchone.slicer.supports.check import ROW_MM, carried

_REACH: Final = "unverified: the limit of the process, and one cell for what the grid may be off"
_TURN: Final = "let another face look down: orient the part by hand, or ask for a device whose functional faces can be carried"


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
    found = carried(layers, process)
    least_mm2 = process.supports.least_island_mm2
    islands = found.islands_of(least_mm2)
    source = process.supports.sources
    where = None
    if len(islands):
        layer, x, y, _ = islands[int(np.argmax(islands[:, 3]))].tolist()
        where = np.array([x, y, (layer + 0.5) * layers.layer_mm])
    limit = process.supports.free_overhang_mm
    rows = f"seen in rows {ROW_MM:g} mm apart"
    findings = [
        judge(
            "supports.islands", f"pieces of a layer of at least {least_mm2:g} mm2 that lie on nothing, {rows}", len(islands), "",
            high=0, hint=_TURN, source=source.get("least_island_mm2", ""), where_mm=_in_patient(where, placements, layers),
        ),
        judge(
            "supports.unsupported",
            f"reach of undersides beyond {process.max_overhang_deg:g} deg from what carries them, in cells of {ROW_MM:g} mm",
            found.reach_mm, "mm", high=limit + ROW_MM, gate=False, hint=_TURN,
            source=f"{source.get('free_overhang_mm', '')}; {_REACH}",
            where_mm=_in_patient(found.where_mm, placements, layers) if found.reach_mm > 0.0 else None,
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
            judge("supports.volume", f"volume of {one.support.name}", one.support.volume_mm3, "mm3"),
            judge("supports.contact", f"area of {placement.part} that supports touch", one.support.contact_mm2, "mm2"),
        ]  # fmt: skip
    return tuple(findings)


def _in_patient(where_mm: FloatArray | None, placements: Sequence[Placement], layers: Layers) -> Vector | None:
    """A place on the plate in patient LPS, by the part whose contours lie nearest to it."""
    if where_mm is None:
        return None
    own = np.flatnonzero(layers.loop_part < len(placements))
    first = layers.points_mm[layers.loop_start[own]]
    height = (layers.loop_layer[own] + 0.5) * layers.layer_mm
    away = np.hypot(*(first - where_mm[:2]).T) + np.abs(height - where_mm[2])
    pose = placements[int(layers.loop_part[own[int(np.argmin(away))]])].pose
    x, y, z = ((where_mm - pose[:3, 3]) @ pose[:3, :3]).tolist()
    return (x, y, z)
