"""Loose pieces of a model: voids are filled, crumbs left out, the rest is tied to the largest piece with pins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.booleans import Solid, intersects, pieces, solid_from_mesh, to_mesh, union, volume_mm3
from batchone.design.cranial.rays import Scene
from batchone.design.nearest import nearest_points
from batchone.design.solid import Feature, cylinder
from batchone.pipeline.values import FloatArray, Mesh, Vector

_SAMPLES = 4000  # numerical: points of a loose piece from which its distance is measured
_ANCHOR_DIAMETERS = 1.5  # a pin goes this many diameters into either side where there is bone enough; project default, unverified
_ANCHOR_SHARE = 0.9  # ... and never through it
_LEAST_ANCHOR_MM = 0.5  # numerical: a pin must overlap to join


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """One body, and what became of the loose pieces.

    ``filled`` voids were closed inner surfaces; ``dropped`` pieces were crumbs or too far off, ``dropped_mm3`` in all.
    """

    body: Solid
    pins: tuple[Feature, ...]
    filled: int
    dropped: int
    dropped_mm3: float


def joined_pieces(solid: Solid, *, crumb_mm3: float, pin_mm: float, pin_reach_mm: float) -> Joined:
    """Make one body of a solid that may be in pieces.

    Parameters
    ----------
    solid
        In the frame of the bone, mm.
    crumb_mm3
        Loose pieces up to this volume are left out.
    pin_mm
        Diameter of the pins.
    pin_reach_mm
        Longest free length of a pin.

    Raises
    ------
    DesignError
        A pin could not be joined.
    """
    shells = pieces(solid)
    body = shells[0]
    outer = [shell for shell in shells[1:] if volume_mm3(shell) > 0.0]
    filled = len(shells) - 1 - len(outer)
    loose = [shell for shell in outer if volume_mm3(shell) > crumb_mm3]
    dropped = [volume_mm3(shell) for shell in outer[len(loose) :]]
    loose = [shell for shell in loose if not intersects(body, shell)]  # an island in a filled void is part of the body
    kept, pins = [body], list[Feature]()
    reached = to_mesh(body)[0]
    waiting = [(shell, to_mesh(shell)[0]) for shell in loose]
    while waiting:
        bridges = [_bridge(mesh, reached) for _, mesh in waiting]
        nearest = int(np.argmin([length for length, _, _ in bridges]))
        length, start, end = bridges[nearest]
        if length > pin_reach_mm:
            dropped += [volume_mm3(shell) for shell, _ in waiting]
            break
        shell, mesh = waiting.pop(nearest)
        pins.append(_pin(f"pin {len(pins) + 1}", start, end, mesh, reached, pin_mm))
        kept.append(shell)
        reached = Mesh(
            np.vstack([reached.vertices_mm, mesh.vertices_mm]), np.vstack([reached.faces, mesh.faces + len(reached.vertices_mm)])
        )
    if pins:
        bars = [solid_from_mesh(pin.mesh, "pin") for pin in pins]
        body = union(kept[0], *kept[1:], *bars, what=f"tying {len(pins)} loose pieces with pins")
    return Joined(body, tuple(pins), filled, len(dropped), float(sum(dropped)))


def _bridge(mesh: Mesh, reached: Mesh) -> tuple[float, FloatArray, FloatArray]:
    """Shortest way from a loose piece (its point first) to what is reached already."""
    points = np.ascontiguousarray(mesh.vertices_mm[:: -(-len(mesh.vertices_mm) // _SAMPLES)])
    distance, _, closest = nearest_points(points, reached)
    nearest = int(np.argmin(distance))
    return float(distance[nearest]), points[nearest], closest[nearest]


def _pin(name: str, start: FloatArray, end: FloatArray, mesh: Mesh, reached: Mesh, pin_mm: float) -> Feature:
    """Bar from inside the loose piece to inside the body."""
    way = end - start
    length = float(np.linalg.norm(way))
    along = way / length if length > 0.0 else np.array([0.0, 0.0, 1.0])
    back, ahead = _anchor(start, -along, mesh, pin_mm), _anchor(end, along, reached, pin_mm)
    first = start - back * along
    return cylinder(name, start_mm=_vector(first), axis=_vector(along), diameter_mm=pin_mm, length_mm=length + back + ahead)


def _anchor(point: FloatArray, inward: FloatArray, mesh: Mesh, pin_mm: float) -> float:
    wanted = _ANCHOR_DIAMETERS * pin_mm
    origin = point + _LEAST_ANCHOR_MM * inward
    hit = Scene(mesh).first(origin[None, :], inward[None, :], wanted)
    depth = wanted if np.isnan(hit.distance_mm[0]) else _ANCHOR_SHARE * float(hit.distance_mm[0])
    return max(_LEAST_ANCHOR_MM, depth)


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
