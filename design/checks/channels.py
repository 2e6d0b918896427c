"""Channels: narrow stretches of air inside a part that no straight line reaches from the open, so that powder or resin stays.

A hole that can be looked into is emptied by a jet or a rod, and has a limit of its own (see `openings`); a room that opens by a
neck is told by `rooms`, a flat one by `gaps`. It warns: nooks between features are not told from channels with certainty, and on
coarse meshes a channel may be overlooked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.design.checks.slender import ENGRAVED, FACETS_MM, Narrow, narrow_places
from batchone.design.cranial.rays import Scene, scene_of
from batchone.design.nearest import nearest_mm
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Vector, judge

REACH = 15.0  # how many widths deep a jet or a rod empties a straight hole; project default, unverified
_LOOKED_AT = 1.2  # numerical: wider ones than so many times the limit are not told apart
_OPEN = 0.98  # numerical: of half the limit: as far from all walls a place lies in the open
_TURNS_DEG = np.arange(0.0, 360.0, 2.5)  # numerical: lines across the first way; straight ones reach 23 widths deep
_AROUND = 96  # numerical: and evenly all around
_FAR_MM = 1000.0  # numerical: longer than any part
_LONGEST = 12  # numerical: of these lines the longest are followed
_STEP = 0.25  # numerical: places along a line, per limit


def channel_findings(part: Part, process: Process) -> tuple[Finding, ...]:
    """The narrowest channel of a part, mm."""
    limit_mm = process.min_channel_mm
    looked_at_mm = _LOOKED_AT * limit_mm
    considered = ~np.isin(part.face_labels, [k for k, label in enumerate(part.labels) if label in ENGRAVED])
    narrow_mm, where = narrowest_channel(part.mesh, considered, limit_mm, looked_at_mm)
    return (
        judge(
            "channels", f"{part.name}: narrowest channel out of sight (up to {looked_at_mm:g} mm are looked at)", narrow_mm, "mm",
            low=limit_mm - FACETS_MM, hint=f"widen it to {limit_mm:g} mm, straighten it so that it is seen through, or fill it",
            source=f"{process.sources.get('min_channel_mm', '')}, less {FACETS_MM:g} mm for facets", where_mm=where,
            gate=False,
        ),
    )  # fmt: skip


def narrowest_channel(
    mesh: Mesh, considered: npt.NDArray[np.bool_], open_mm: float, up_to_mm: float
) -> tuple[float, Vector | None]:
    """Width of the narrowest channel before the considered triangles (m,), mm, and a place in it; ``up_to_mm`` without any.

    Room of ``open_mm`` is open.
    """
    scene, found = narrow_places(mesh, considered, up_to_mm, outside=True)
    hidden = found.of(~in_sight(scene, found, open_mm))
    if len(hidden.width_mm) == 0:
        return up_to_mm, None
    least = int(np.argmin(hidden.width_mm))
    x, y, z = (hidden.middle_mm[least] + scene_of(mesh)[1]).tolist()
    return float(hidden.width_mm[least]), (x, y, z)


def in_sight(scene: Scene, found: Narrow, open_mm: float) -> npt.NDArray[np.bool_]:
    """(n,) whether a straight line, no longer than so many widths, leads from each place into the open.

    That is room as wide as ``open_mm``; of a line that leaves the part for good, room twice as wide as the place.
    """
    count = len(found.width_mm)
    if count == 0:
        return np.zeros(0, dtype=np.bool_)
    lines = _lines(found)
    each = lines.shape[1]
    reach = REACH * found.width_mm
    origins = np.repeat(found.middle_mm, each, axis=0)
    free, _ = scene.meets(origins, lines.reshape(-1, 3), _FAR_MM)
    free = np.where(np.isnan(free), np.inf, free).reshape(count, each)
    longest = np.argsort(-free, axis=1, kind="stable")[:, :_LONGEST]
    rows = np.arange(count)[:, None]
    free, lines = free[rows, longest], lines[rows, longest]
    wide = np.full(free.shape, 0.5 * _OPEN * open_mm)
    wide = np.where(np.isinf(free), np.minimum(wide, found.width_mm[:, None]), wide)
    free = np.minimum(free, reach[:, None])
    seen = np.zeros(count, dtype=np.bool_)
    step = _STEP * open_mm
    for k in range(1, int(np.ceil(float(free.max()) / step)) + 1):
        at = np.minimum(k * step, free)
        alive = ~seen[:, None] & ((k - 1) * step < free)
        if not alive.any():
            break
        which, line = np.nonzero(alive)
        points: FloatArray = found.middle_mm[which] + at[which, line, None] * lines[which, line]
        apart = nearest_mm(points, scene.mesh, within_mm=0.5 * open_mm)
        seen[which[apart >= wide[which, line]]] = True
    return seen


def _lines(found: Narrow) -> FloatArray:
    """(n, k, 3) unit vectors: in the plane across the first way, where the axis lies, and evenly all around."""
    turns = np.radians(_TURNS_DEG)[None, :, None]
    aside = np.cross(found.across, found.axis)
    plane = np.cos(turns) * found.axis[:, None] + np.sin(turns) * aside[:, None]
    index = np.arange(_AROUND) + 0.5
    polar, azimuth = np.arccos(1.0 - 2.0 * index / _AROUND), np.pi * (1.0 + np.sqrt(5.0)) * index
    even = np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1)
    around = np.broadcast_to(even, (len(found.axis), _AROUND, 3))
    return np.concatenate([plane, around], axis=1)
