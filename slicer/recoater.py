"""Thin walls and the recoater: its blade bends a wall whose long side it meets at once, so parts are turned about the vertical.

Walls are seen in sections at some heights: what of a contour has another side nearer than the process's thin wall.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit, types

from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process, Recoating
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, judge
from batchone.slicer.exposure import straightened
from batchone.slicer.layers import sections
from batchone.slicer.orient import Stance

_HEIGHTS: Final = 24  # numerical: sections of a part
_PIECE_MM: Final = 0.5  # numerical: of a contour, at the middle of which the wall is measured
_OFF_MM: Final = 0.01  # numerical: corners of contours that are straighter are no corners
_STEP_DEG: Final = 5  # numerical: turns that are tried
_FINE: Final = 1800  # numerical: directions of walls that are turned by any angle
_NUDGE_DEG: Final = 0.01  # numerical: a direction on the border of two is the same one after rounding
_SURE_DEG: Final = 2.0 * (90.0 / _FINE + _NUDGE_DEG)  # what two directions, before a turn and after it, are off at most
_ALIKE: Final = 0.01  # of the thin walls: a smaller turn is taken that leaves only so much more of them flat
_FLAT_PERCENT: Final = 20.0  # project default, unverified


@dataclass(frozen=True, slots=True, eq=False)
class ThinWalls:
    """Thin walls of a part as it stands in its job, for any turn about the vertical on a plate of many.

    ``length_mm`` is (1800,), by direction in tenths of degrees from the x axis; ``recoating`` is the process's, ``travel_deg``
    the way of the blade.
    """

    length_mm: FloatArray
    recoating: Recoating
    travel_deg: float

    def allow(self, turn_deg: float) -> bool:
        """Whether no more of them meets the blade flat after a turn than before."""
        if turn_deg % 180.0 == 0.0:
            return True
        after_mm = _flat_mm(self.length_mm, turn_deg, self.recoating.flat_deg + _SURE_DEG, self.travel_deg)
        return after_mm <= _flat_mm(self.length_mm, 0.0, self.recoating.flat_deg, self.travel_deg)

    def finding(self, name: str, turn_deg: float) -> Finding:
        """Judge what of them meets the blade flat after a turn."""
        flat_mm = _flat_mm(self.length_mm, turn_deg, self.recoating.flat_deg, self.travel_deg)
        return _judged(name, self.length_mm, flat_mm, self.recoating)


def thin_walls(standing: Mesh, process: Process, machine: Machine) -> ThinWalls | None:
    """Thin walls of a part as it stands in its job; None where no hard blade is known."""
    if process.recoating is None or machine.recoater_deg is None:
        return None
    length_mm = thin_walls_mm(standing, process.recoating.thin_wall_mm, directions=_FINE, nudge_deg=_NUDGE_DEG)
    return ThinWalls(length_mm, process.recoating, machine.recoater_deg)


def off_blade(part: Part, ways: Iterable[Stance], process: Process, machine: Machine, box_mm: FloatArray) -> Iterator[Stance]:
    """The same ways up, each turned about the vertical by the least that keeps thin walls from meeting the blade flat.

    Parameters
    ----------
    part
        In patient LPS mm.
    ways
        As they would stand.
    process
        ``recoating``: what is thin, and what is flat; without it nothing is turned.
    machine
        ``recoater_deg``: which way its blade travels; without one nothing is turned.
    box_mm
        Usable width, depth and height: no turn is taken that does not fit.
    """
    for stance in ways:
        if process.recoating is None or machine.recoater_deg is None:
            yield stance
            continue
        length = thin_walls_mm(_standing(part, stance), process.recoating.thin_wall_mm)
        best, least = stance, np.inf
        most = int(process.recoating.most_turn_deg) // _STEP_DEG * _STEP_DEG
        for turn_deg in sorted(range(-most, most + 1, _STEP_DEG), key=lambda deg: (abs(deg), deg)):
            flat_mm = _flat_mm(length, turn_deg, process.recoating.flat_deg, machine.recoater_deg)
            if flat_mm < least - _ALIKE * length.sum():
                turned = _turned(part, stance, turn_deg)
                if turn_deg == 0 or (np.array(turned.size_mm) <= box_mm).all():
                    best, least = turned, flat_mm
        yield best


def blade_finding(part: Part, stance: Stance, process: Process, machine: Machine) -> list[Finding]:
    """Judge what of a part's thin walls meets the blade flat as it stands; nothing where no blade is known."""
    if process.recoating is None or machine.recoater_deg is None:
        return []
    length = thin_walls_mm(_standing(part, stance), process.recoating.thin_wall_mm)
    flat_mm = _flat_mm(length, 0, process.recoating.flat_deg, machine.recoater_deg)
    return [_judged(part.name, length, flat_mm, process.recoating)]


def _judged(name: str, length: FloatArray, flat_mm: float, recoating: Recoating) -> Finding:
    thin_mm, flat_deg = recoating.thin_wall_mm, recoating.flat_deg
    what = f"share of walls of {name} of up to {thin_mm:g} mm that meet the recoater's blade at less than {flat_deg:g} deg"
    percent = 100.0 * flat_mm / float(length.sum()) if flat_mm > 0.0 else 0.0
    return judge(
        "orient.recoater", what, percent, "%", high=_FLAT_PERCENT, gate=False,
        hint="watch the first layers of these walls, or make them thicker; a soft blade forgives them",
        source=recoating.sources.get("flat_deg", ""),
    )  # fmt: skip


def thin_walls_mm(standing: Mesh, thin_mm: float, *, directions: int = 180, nudge_deg: float = 0.0) -> FloatArray:
    """(directions,) length of contours along thin walls by their direction from the x axis, mm, of all sections.

    Direction i is from i to i + 1 times 180 degrees / ``directions``, whole degrees by default.

    Parameters
    ----------
    standing
        Closed mesh, z up, mm.
    thin_mm
        Walls up to this thickness count.
    nudge_deg
        Added to every direction before it is sorted.
    """
    low, high = float(standing.vertices_mm[:, 2].min()), float(standing.vertices_mm[:, 2].max())
    heights = low + (np.arange(_HEIGHTS) + 0.5) / _HEIGHTS * (high - low)
    points, start, height, _ = sections(standing, heights)
    points, start = straightened(points, start, _OFF_MM)
    return _thin(points, start, np.searchsorted(height, np.arange(_HEIGHTS + 1)).astype(np.int64), thin_mm, directions, nudge_deg)


def _standing(part: Part, stance: Stance) -> Mesh:
    return Mesh(np.ascontiguousarray(part.mesh.vertices_mm @ stance.rotation.T), part.mesh.faces)


def _flat_mm(length: FloatArray, turn_deg: float, flat_deg: float, travel_deg: float) -> float:
    """Of walls whose long side is nearly the blade's, which lies across its travel, after a turn."""
    from_blade = ((np.arange(len(length)) + 0.5) * (180.0 / len(length)) + turn_deg - travel_deg - 90.0) % 180.0
    return float(length[np.minimum(from_blade, 180.0 - from_blade) < flat_deg].sum())


def _turned(part: Part, stance: Stance, turn_deg: int) -> Stance:
    if turn_deg == 0:
        return stance
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ stance.rotation
    x, y, z = np.ptp(part.mesh.vertices_mm @ rotation.T, axis=0).tolist()
    text = f"{stance.criterion}; turned by {turn_deg} deg off the recoater's blade"
    return replace(stance, rotation=rotation, size_mm=(x, y, z), criterion=text)


@njit("b1(f8[:, ::1], i8[::1], i8, i8, f8, f8, f8, f8, f8)", cache=True)
def _other_side(
    points: FloatArray, start: npt.NDArray[np.int64], low: int, high: int, x: float, y: float, u: float, v: float, reach: float
) -> bool:
    """Whether contours cross the way from a point, along u and v, within a reach, and not at the point itself."""
    for loop in range(low, high):
        before = start[loop + 1] - 1
        for p in range(start[loop], start[loop + 1]):
            ax, ay = points[before, 0] - x, points[before, 1] - y
            bx, by = points[p, 0] - x, points[p, 1] - y
            before = p
            side_a, side_b = u * ay - v * ax, u * by - v * bx
            if (side_a > 0.0) == (side_b > 0.0):
                continue
            share = side_a / (side_a - side_b)
            away = u * (ax + share * (bx - ax)) + v * (ay + share * (by - ay))
            if 1e-6 < away <= reach:
                return True
    return False


@njit(
    types.float64[::1](types.float64[:, ::1], types.int64[::1], types.int64[::1], types.float64, types.int64, types.float64),
    cache=True,
)
def _thin(
    points: FloatArray,
    start: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    thin_mm: float,
    directions: int,
    nudge_deg: float,
) -> FloatArray:
    found = np.zeros(directions)
    for section in range(first.shape[0] - 1):
        for loop in range(first[section], first[section + 1]):
            before = start[loop + 1] - 1
            for p in range(start[loop], start[loop + 1]):
                ax, ay = points[before, 0], points[before, 1]
                dx, dy = points[p, 0] - ax, points[p, 1] - ay
                before = p
                length = np.sqrt(dx * dx + dy * dy)
                if length == 0.0:
                    continue
                pieces = int(np.ceil(length / _PIECE_MM))
                way = int((np.degrees(np.arctan2(dy, dx)) + nudge_deg) % 180.0 * (directions / 180.0)) % directions
                for k in range(pieces):
                    share = (k + 0.5) / pieces
                    x, y = ax + share * dx, ay + share * dy
                    if _other_side(points, start, first[section], first[section + 1], x, y, -dy / length, dx / length, thin_mm):
                        found[way] += length / pieces
    return found
