"""Pins of a part: what stands out of it thinner, both ways across, than the process builds and cleaning leaves standing.

A pin ends free, is at least twice as long as it is thick, and longer than the process's tolerance: what stands out by less is
part of the surface as it is built. A bar that is held at both ends is none, nor is the corner of a plate: their walls are
measured (see `walls`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.design.checks.slender import ENGRAVED, FACETS_MM, Narrow, narrow_places, sides_mm
from batchone.design.cranial.rays import Scene, scene_of
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Vector, judge

SLENDER = 2.0  # length of a pin per thickness: what is shorter is a knob; project default, unverified
_WIDER = 1.5  # a pin ends where it is so many times as thick: the foot that it stands on; project default, unverified
_STEP = 0.25  # numerical: places along a pin, per thickness
_MOST_STEPS = 120  # numerical: so far along its tip and its foot are looked for
_LOOKED_AT = 1.2  # numerical: thicker ones than so many times the limit are not told apart


def pin_findings(part: Part, process: Process) -> tuple[Finding, ...]:
    """The thinnest pin of a part, mm."""
    limit_mm = process.min_pin_mm
    looked_at_mm = _LOOKED_AT * limit_mm
    considered = ~np.isin(part.face_labels, _engraved(part))
    thin_mm, where = thinnest_pin(part.mesh, considered, looked_at_mm, longer_than_mm=process.tolerance_mm)
    return (
        judge(
            "pins", f"{part.name}: thinnest pin (up to {looked_at_mm:g} mm are looked at)", thin_mm, "mm",
            low=limit_mm - FACETS_MM, hint=f"thicken or shorten it, or choose a process that builds pins below {limit_mm:g} mm",
            source=f"{process.sources.get('min_pin_mm', '')}, less {FACETS_MM:g} mm for facets", where_mm=where,
        ),
    )  # fmt: skip


def thinnest_pin(
    mesh: Mesh, considered: npt.NDArray[np.bool_], up_to_mm: float, *, longer_than_mm: float = 0.0
) -> tuple[float, Vector | None]:
    """Thickness of the thinnest pin behind the considered triangles (m,), mm, and a place in it; ``up_to_mm`` without any."""
    scene, found = narrow_places(mesh, considered, up_to_mm, outside=False)
    if len(found.width_mm) == 0:
        return up_to_mm, None
    ahead, tip_ahead = _along(scene, found, found.axis)
    behind, tip_behind = _along(scene, found, -found.axis)
    long = ahead + behind >= np.maximum(SLENDER * found.width_mm, longer_than_mm)
    pins = found.of(long & (tip_ahead | tip_behind))
    if len(pins.width_mm) == 0:
        return up_to_mm, None
    least = int(np.argmin(pins.width_mm))
    x, y, z = (pins.middle_mm[least] + scene_of(mesh)[1]).tolist()
    return float(pins.width_mm[least]), (x, y, z)


def _along(scene: Scene, found: Narrow, ways: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """(n,) how far a pin goes on from each place along unit vectors (n, 3), mm (infinite: on and on), and whether it ends free.

    The way follows the middles of its sections, so that it may be bent.
    """
    count = len(found.width_mm)
    far, free = np.zeros(count), np.zeros(count, dtype=np.bool_)
    place, step, most = found.middle_mm.copy(), _STEP * found.width_mm, _WIDER * found.width_mm
    going = np.arange(count)
    for _ in range(_MOST_STEPS):
        way = ways[going]
        reach = float(step[going].max())
        _, ahead = sides_mm(scene, place[going], way, reach)
        out = ahead < step[going]
        far[going[out]] += ahead[out]
        free[going[out]] = True
        going, way = going[~out], way[~out]
        if len(going) == 0:
            break
        place[going] += step[going, None] * way
        wide = np.zeros(len(going), dtype=np.bool_)
        for across in (found.across[going], np.cross(way, found.across[going])):
            before, after = sides_mm(scene, place[going], across, float(most[going].max()))
            wide |= ~(before + after <= most[going])
            aside = np.where(wide, 0.0, 0.5 * (np.where(wide, 0.0, after) - np.where(wide, 0.0, before)))
            place[going] += aside[:, None] * across
        far[going[~wide]] += step[going[~wide]]
        going = going[~wide]
        if len(going) == 0:
            break
    far[going] = np.inf
    return far, free


def _engraved(part: Part) -> list[int]:
    return [k for k, label in enumerate(part.labels) if label in ENGRAVED]
