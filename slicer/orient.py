"""Which way up a part is built.

Directions are scored with a dimensionless cost, the lowest wins, ties go to the first:

* ``lpbf``, ``vat``: (10 x functional area + other area that overhangs beyond the limit) / whole area
  + 0.25 x height / largest extent.
  Supports touch what overhangs: functional faces must stay free of them, the rest costs finishing, height costs time.
* ``sls``: height / largest extent + (functional area + other area within 15 deg of the layers) / whole area.
  Powder carries the part; height costs time, and flat faces parallel to the layers curl and show stair-steps.

An overhang angle is measured from the vertical: 0 deg is a wall, 90 deg a ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import manifold3d
import numpy as np

from batchone.pipeline.errors import MachineError
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray, Part
from batchone.slicer.overhang import overhang_needing_support as overhang_needing_support
from batchone.slicer.overhang import protected as protected

_DIRECTIONS: Final = 300  # on the whole sphere: neighbours are about 11 deg apart
_NORMAL_CELLS: Final = 24  # normals are pooled in cells of 1/24, about 2 deg; exact normals give the reported areas
_FLAT_FACES: Final = 12  # the largest planes of the part that are tried as directions
_FLAT_SHARE: Final = 0.01  # of the whole area, from which a plane counts as one of the part's own
_FUNCTIONAL_WEIGHT: Final = 10.0  # project default: a functional face is worth ten others
_HEIGHT_WEIGHT: Final = 0.25  # project default, lpbf and vat
_FLAT_DEG: Final = 15.0  # project default, unverified: faces this close to the layer plane curl and show steps (sls)
_COST_DIGITS: Final = 6  # numerical: costs that agree this far are ties


@dataclass(frozen=True, slots=True, eq=False)
class Stance:
    """How a part stands.

    Attributes
    ----------
    rotation
        (3, 3) float64, determinant +1: patient LPS to plate axes, z up.
    size_mm
        Bounding box of the rotated part (x, y, z).
    overhang_mm2
        Area beyond the overhang limit that is not functional.
    functional_overhang_mm2
        Functional area beyond the overhang limit.
    criterion
        In words: what was minimised and what came out.
    """

    rotation: FloatArray
    size_mm: tuple[float, float, float]
    overhang_mm2: float
    functional_overhang_mm2: float
    criterion: str


@dataclass(frozen=True, slots=True, eq=False)
class _Facets:
    """Area per direction: unit normals (k, 3), area of functional faces (k,) and of the others (k,), mm2."""

    normals: FloatArray
    functional_mm2: FloatArray
    other_mm2: FloatArray

    @property
    def whole_mm2(self) -> float:
        return float(self.functional_mm2.sum() + self.other_mm2.sum())


def stand(part: Part, process: Process, *, box_mm: tuple[float, float, float]) -> Stance:
    """Choose how a part stands: the first of :func:`stances`, which raises when there is none."""
    return next(stances(part, process, box_mm=box_mm))


def stances(part: Part, process: Process, *, box_mm: tuple[float, float, float]) -> Iterator[Stance]:
    """How a part may stand, the cheapest direction first: where it fits, turned to the smallest rectangle on the plate.

    Parameters
    ----------
    part
        In patient LPS mm.
    process
        Kind and overhang limit.
    box_mm
        Usable width, depth and height.

    Raises
    ------
    MachineError
        The part fits in none of the directions tried.
    """
    vertices = part.mesh.vertices_mm
    exact = _facets(part)
    pooled = _pooled(exact)
    directions = _directions(part, pooled)
    extents, rim = _reach(vertices, directions)
    costs = np.round(_costs(pooled, directions, extents, process), _COST_DIGITS)
    smallest: tuple[float, float, float] | None = None
    fits = False
    for index in np.argsort(costs, kind="stable"):
        up = directions[index]
        for turned, size in _turned(vertices, rim, up, box_mm):
            if all(side <= limit for side, limit in zip(size, box_mm, strict=True)):
                fits = True
                yield _stance(turned, size, exact, process, float(costs[index]))
                break
            if smallest is None or math.prod(size) < math.prod(smallest):
                smallest = size
    if fits:
        return
    assert smallest is not None
    raise MachineError(
        f"part {part.name!r} is {_sizes(smallest)} mm at its most compact, the machine's usable box is {_sizes(box_mm)} mm",
        hint="choose a larger machine, or order the part in pieces",
    )


def overhanging(normals: FloatArray, up: FloatArray, max_overhang_deg: float) -> FloatArray:
    """1.0 where a face overhangs beyond the limit, else 0.0.

    Parameters
    ----------
    normals
        (n, 3) unit normals.
    up
        (3,) or (3, k): one or more build directions, as columns.
    max_overhang_deg
        From the vertical.
    """
    # numerical: a face exactly at the limit is allowed, whatever the rounding
    limit = math.sin(math.radians(max_overhang_deg)) + 1e-9
    return np.asarray((-(normals @ up) > limit).astype(np.float64))


def _facets(part: Part) -> _Facets:
    corners = part.mesh.vertices_mm[part.mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.sqrt((cross**2).sum(axis=1))
    normals = cross / np.where(twice > 0, twice, 1.0)[:, None]
    names = {face.label for face in part.functional_faces}
    wanted = np.array([label in names for label in part.labels] or [False])
    functional = wanted[part.face_labels] if len(part.labels) else np.zeros(len(cross), dtype=bool)
    return _Facets(normals, 0.5 * twice * functional, 0.5 * twice * ~functional)


def _pooled(exact: _Facets) -> _Facets:
    """Faces of about the same direction taken together."""
    cell = np.rint(exact.normals * _NORMAL_CELLS).astype(np.int64) + _NORMAL_CELLS
    side = 2 * _NORMAL_CELLS + 1
    _, inverse = np.unique((cell[:, 0] * side + cell[:, 1]) * side + cell[:, 2], return_inverse=True)
    count = int(inverse.max()) + 1
    area = exact.functional_mm2 + exact.other_mm2
    mean = np.stack([np.bincount(inverse, exact.normals[:, axis] * area, count) for axis in range(3)], axis=1)
    length = np.linalg.norm(mean, axis=1)
    normals = mean / np.where(length > 0, length, 1.0)[:, None]
    functional, other = (np.bincount(inverse, weights, count) for weights in (exact.functional_mm2, exact.other_mm2))
    return _Facets(normals, functional.astype(np.float64), other.astype(np.float64))


def _directions(part: Part, pooled: _Facets) -> FloatArray:
    """Build directions to try, (k, 3): the principal axes, the part's own planes, and a sphere turned with the axes."""
    axes = _principal_axes(part)
    area = pooled.functional_mm2 + pooled.other_mm2
    largest = np.argsort(-area, kind="stable")[:_FLAT_FACES]
    planes = pooled.normals[largest[area[largest] >= _FLAT_SHARE * pooled.whole_mm2]]
    step = np.arange(_DIRECTIONS) + 0.5  # Fibonacci sphere
    height = 1.0 - 2.0 * step / _DIRECTIONS
    turn = step * math.pi * (3.0 - math.sqrt(5.0))
    ring = np.sqrt(1.0 - height**2)
    sphere = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
    return np.concatenate([axes.T, -axes.T, -planes, planes, sphere @ axes.T])


def _principal_axes(part: Part) -> FloatArray:
    """Principal axes of the surface as columns, right-handed; each points to where the part reaches farther."""
    corners = part.mesh.vertices_mm[part.mesh.faces]
    weight = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    middle = corners.mean(axis=1)
    away = middle - (middle * weight[:, None]).sum(axis=0) / weight.sum()
    # einsum and not a matrix product: its order of summation does not depend on the number of threads
    _, axes = np.linalg.eigh(np.einsum("n,ni,nj->ij", weight, away, away))
    skew = (weight[:, None] * (away @ axes) ** 3).sum(axis=0)
    axes = axes * np.where(skew < 0, -1.0, 1.0)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1.0
    return np.asarray(axes)


def _reach(points: FloatArray, directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Extent of the points along each direction, (k,) mm, and the points that are outermost in some direction, (n, 3)."""
    extents = np.empty(len(directions))
    outermost: set[int] = set()
    for begin in range(0, len(directions), 16):  # in blocks: memory stays at 16 numbers a vertex
        along = directions[begin : begin + 16] @ points.T
        low, high = along.argmin(axis=1), along.argmax(axis=1)
        row = np.arange(len(along))
        extents[begin : begin + 16] = along[row, high] - along[row, low]
        outermost.update(low.tolist(), high.tolist())
    return extents, points[sorted(outermost)]


def _costs(facets: _Facets, directions: FloatArray, extents: FloatArray, process: Process) -> FloatArray:
    height = extents / extents.max()
    along = facets.normals @ directions.T
    if process.kind == "sls":
        bad = (np.abs(along) > math.cos(math.radians(_FLAT_DEG))).astype(np.float64)
        area = (facets.functional_mm2 + facets.other_mm2)[:, None]
        return np.asarray(height + (bad * area).sum(axis=0) / facets.whole_mm2)
    bad = overhanging(facets.normals, directions.T, process.max_overhang_deg)
    weighted = (_FUNCTIONAL_WEIGHT * facets.functional_mm2 + facets.other_mm2)[:, None]
    return np.asarray((bad * weighted).sum(axis=0) / facets.whole_mm2 + _HEIGHT_WEIGHT * height)


def _turned(
    vertices: FloatArray, rim: FloatArray, up: FloatArray, box_mm: tuple[float, float, float]
) -> Iterator[tuple[FloatArray, tuple[float, float, float]]]:
    """The rotation that stands ``up`` and lays the smallest rectangle along x, then along y, with the size that results.

    When the few ``rim`` points alone do not fit, neither does the part: then the rim's size is given.
    """
    axis = np.eye(3)[int(np.argmin(np.abs(up)))]
    x = np.cross(axis, up)
    x /= np.linalg.norm(x)
    upright = np.stack([x, np.cross(up, x), up])
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    points = rim
    rough = _smallest_rectangle(rim @ upright.T) @ upright
    if _fits(rim, rough, box_mm) or _fits(rim, quarter @ rough, box_mm):
        points = vertices
    rotation = _smallest_rectangle(points @ upright.T) @ upright
    for turned in (rotation, quarter @ rotation):
        yield turned, _size(points, turned)


def _smallest_rectangle(points: FloatArray) -> FloatArray:
    """(3, 3) rotation about z after which the bounding rectangle of (n, 3) points is smallest, the long side along x."""
    hull = np.asarray(manifold3d.CrossSection.hull_points(np.ascontiguousarray(points[:, :2])).to_polygons()[0], dtype=np.float64)
    edge = np.roll(hull, -1, axis=0) - hull
    angle = np.arctan2(edge[:, 1], edge[:, 0])
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    along = cos * hull[:, 0] + sin * hull[:, 1]
    across = -sin * hull[:, 0] + cos * hull[:, 1]
    width, depth = np.ptp(along, axis=1), np.ptp(across, axis=1)
    best = int(np.argmin(np.round(width * depth, _COST_DIGITS)))
    turn = angle[best] + (0.0 if width[best] >= depth[best] else math.pi / 2)
    return np.array([[math.cos(turn), math.sin(turn), 0.0], [-math.sin(turn), math.cos(turn), 0.0], [0.0, 0.0, 1.0]])


def _size(points: FloatArray, rotation: FloatArray) -> tuple[float, float, float]:
    size = np.ptp(points @ rotation.T, axis=0)
    return (float(size[0]), float(size[1]), float(size[2]))


def _fits(points: FloatArray, rotation: FloatArray, box_mm: tuple[float, float, float]) -> bool:
    return all(side <= limit for side, limit in zip(_size(points, rotation), box_mm, strict=True))


def _stance(rotation: FloatArray, size: tuple[float, float, float], exact: _Facets, process: Process, cost: float) -> Stance:
    bad = overhanging(exact.normals, rotation[2], process.max_overhang_deg)
    functional = float((bad * exact.functional_mm2).sum())
    other = float((bad * exact.other_mm2).sum())
    if process.kind == "sls":
        rule = f"least (height / largest extent + share of area within {_FLAT_DEG:g} deg of the layers)"
    else:
        rule = (
            f"least (share of area that overhangs beyond {process.max_overhang_deg:g} deg, functional faces "
            f"{_FUNCTIONAL_WEIGHT:g} times, + {_HEIGHT_WEIGHT:g} x height / largest extent)"
        )
    criterion = (
        f"{rule}: cost {cost:.4f}, height {size[2]:.2f} mm, overhang {other:.1f} mm2, on functional faces {functional:.1f} mm2"
    )
    return Stance(rotation, size, other, functional, criterion)


def _sizes(box: tuple[float, float, float]) -> str:
    return " x ".join(f"{side:.1f}" for side in box)
