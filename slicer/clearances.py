"""What lies between placed parts, measured on their solids: the search for their places has no part in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import manifold3d
import numpy as np
import shapely

from batchone.pipeline.errors import MachineError
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray, Mesh

_REACH: Final = 1.25  # clearances within which a neighbour is measured
_SLACK_MM: Final = 1e-4  # numerical: files hold transforms to 1e-6 of lengths of 100 mm


@dataclass(frozen=True, slots=True)
class Gap:
    """The least distance of two units, by their numbers, mm: of their shadows on a plate, of their surfaces in a cake."""

    first: int
    second: int
    gap_mm: float


def shadow(bodies: Sequence[manifold3d.Manifold]) -> shapely.Geometry:
    """What bodies cover of the plate, seen from above."""
    rings = [ring for body in bodies for ring in body.project().to_polygons()]
    whole = manifold3d.CrossSection(rings, manifold3d.FillRule.Positive)
    pieces = []
    for piece in whole.decompose():
        outer, *holes = sorted(piece.to_polygons(), key=lambda ring: -shapely.Polygon(ring).area)
        pieces.append(shapely.Polygon(outer, holes))
    return shapely.MultiPolygon(pieces)


def solid_of(mesh: Mesh, name: str = "a body") -> manifold3d.Manifold:
    """A closed mesh as a solid; its name is for the message.

    Raises
    ------
    MachineError
        It is none.
    """
    solid = manifold3d.Manifold(manifold3d.Mesh64(mesh.vertices_mm, mesh.faces.astype(np.uint64)))
    if solid.status() != manifold3d.Error.NoError:
        raise MachineError(f"{name} is not a manifold solid", hint="run the design checks on it")
    return solid


def check_clearances(
    units: Sequence[Sequence[manifold3d.Manifold]], names: Sequence[str], *, process: Process, machine: Machine
) -> tuple[Gap, ...]:
    """Measure every pair of near units, and every unit against the walls of the machine's usable box.

    Parameters
    ----------
    units
        The bodies of each, placed, mm.
    names
        For messages.

    Returns
    -------
    tuple of Gap
        Pairs that are nearer than 1.25 times the process's clearance.

    Raises
    ------
    MachineError
        A pair is nearer than the clearance, or a unit reaches out of the box; all of those are in the message.
    """
    boxes = np.array([_box(bodies) for bodies in units])
    faults = [text for box, name in zip(boxes, names, strict=True) for text in _outside(box, name, machine)]
    flat = process.kind != "sls"
    reach_mm = _REACH * process.part_spacing_mm
    shadows = [shadow(bodies) for bodies in units] if flat else []
    gaps = []
    for first, second in _near(boxes[:, :, :2] if flat else boxes, reach_mm):
        if flat:
            gap_mm = float(shapely.distance(shadows[first], shadows[second]))
        else:
            gap_mm = min(one.min_gap(other, reach_mm) for one in units[first] for other in units[second])
        if gap_mm < reach_mm:
            gaps.append(Gap(first, second, gap_mm))
        if gap_mm < process.part_spacing_mm - _SLACK_MM:
            faults.append(
                f"{names[first]} and {names[second]} are {gap_mm:.3f} mm apart, at least {process.part_spacing_mm:g} mm"
            )
    if faults:
        raise MachineError("; ".join(faults), hint="do not print; nest again")
    return tuple(gaps)


def _box(bodies: Sequence[manifold3d.Manifold]) -> FloatArray:
    """(2, 3) lower and upper corner."""
    boxes = np.array([body.bounding_box() for body in bodies])
    return np.stack([boxes[:, :3].min(axis=0), boxes[:, 3:].max(axis=0)])


def _outside(box: FloatArray, name: str, machine: Machine) -> list[str]:
    margin_mm = machine.plate_margin_mm
    least = np.array([margin_mm, margin_mm, 0.0])
    most = np.array(machine.envelope_mm) - least
    beyond_mm = float(max((least - box[0]).max(), (box[1] - most).max()))
    return [f"{name} reaches {beyond_mm:.3f} mm out of the usable box of {machine.name}"] if beyond_mm > _SLACK_MM else []


def _near(boxes: FloatArray, reach_mm: float) -> list[tuple[int, int]]:
    """Pairs whose boxes (n, 2, 2 or 3) are nearer than that."""
    pairs = []
    for first in range(len(boxes)):
        apart = np.maximum(boxes[first, 0] - boxes[first + 1 :, 1], boxes[first + 1 :, 0] - boxes[first, 1])
        distance = np.linalg.norm(np.maximum(apart, 0.0), axis=1)
        pairs += [(first, first + 1 + int(k)) for k in np.flatnonzero(distance < reach_mm)]
    return pairs
