"""Which way up a part is built.

Some 1,000 directions are scored by what is measured in each (:mod:`batchone.slicer.directions`); the cost is the sum of weighted
shares of those measures, the lowest wins, ties go to the first. In the cheapest, what overhangs is then looked at face by face
(:mod:`batchone.slicer.overhang`): directions in which a functional face needs a support come last, and the caller refuses them;
before them come those in which supports, which keep off functional faces, would not reach all that needs one.

An overhang angle is measured from the vertical: 0 deg is a wall, 90 deg a ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import manifold3d
import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import MachineError
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Orientation, Part, Vector, judge
from batchone.slicer.directions import MEASURES, scores
from batchone.slicer.overhang import Surface, overhang, surface, unreachable_mm2
from batchone.slicer.supports.forecast import out_of_reach_mm2

_DIRECTIONS: Final = 1000  # on the whole sphere: neighbours are about 6 deg apart
_NORMAL_CELLS: Final = 24  # normals are pooled in cells of 1/24, about 2 deg, to find the planes of a part
_FLAT_FACES: Final = 12  # the largest planes of the part that are tried as directions
_FLAT_SHARE: Final = 0.01  # of the whole area, from which a plane counts as one of the part's own
_STRAIGHT: Final = 0.02  # of a functional face's area, squared normals along its axis: a bore has less
_ROUND: Final = 0.2  # the same across it: a bore has more, about half
_COST_DIGITS: Final = 6  # numerical: costs that agree this far are ties
_LOOKED_AT: Final = 24  # cheapest directions whose overhangs are looked at face by face; project default
_MORE: Final = 48  # others that are looked at then: those in which supports keep off the least of what overhangs; project default
_ALIKE_DEG: Final = 10.0  # of directions closer than this the cheapest is looked at first; project default
_APART_DEG: Final = 20.0  # directions closer than this are one to a reader; project default
# project defaults, unverified: they order ways up alone, what hangs is judged by the layers as written
_UNSEEN_MM2: Final = 3.0  # of less a forecast in cells of 0.4 mm knows nothing
_ROUGH_MM2: Final = 2.0  # and it is off by so much, mostly upwards
_SHOWN: Final = 5  # next best directions that are shown; project default

# weight of each measure, as a share of: the part's whole area (mm2), that area x its largest extent (mm3), that extent (height),
# the height of a layer (stair); project defaults, unverified: a functional face is worth ten others, a carried one four of height
# (powder of lpbf must leave a part while it stands on its plate, that of sls leaves it when it is out of the cake)
_WEIGHTS: Final = {
    "lpbf": {
        "overhang_mm2": 1.0, "functional_mm2": 10.0, "support_mm3": 1.0, "contact_mm2": 0.5, "powder_mm3": 0.25,
        "height_mm": 0.25, "stair_mm": 0.02, "jump_mm2": 0.1, "shrink_mm2": 0.1,
    },
    "vat": {
        "overhang_mm2": 1.0, "functional_mm2": 10.0, "support_mm3": 1.0, "contact_mm2": 0.5, "height_mm": 0.25,
        "stair_mm": 0.02, "jump_mm2": 0.1, "section_mm2": 0.1,
    },
    "fff": {
        "overhang_mm2": 1.0, "functional_mm2": 10.0, "support_mm3": 1.0, "contact_mm2": 0.5, "height_mm": 0.25, "stair_mm": 0.02,
    },
    "sls": {"height_mm": 1.0, "flat_mm2": 1.0, "stair_mm": 0.02, "shrink_mm2": 0.1},
}  # fmt: skip
_AGAINST: Final = {  # what a lower value of is worth a higher one of another: the front that is shown
    "lpbf": ("height_mm", "support_mm3", "functional_mm2"),
    "vat": ("height_mm", "support_mm3", "functional_mm2"),
    "fff": ("height_mm", "support_mm3", "functional_mm2"),
    "sls": ("height_mm", "flat_mm2", "stair_mm"),
}


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
    functional_mm2
        (m,) area of each functional triangle that needs a support.
    out_of_reach_mm2
        Largest area that would hang, as supports keep off functional faces and need a way to what they carry; a forecast.
    criterion
        In words: what was minimised and what came out.
    orientation
        All directions and their measures, this one marked.
    """

    rotation: FloatArray
    size_mm: tuple[float, float, float]
    overhang_mm2: float
    functional_mm2: FloatArray
    criterion: str
    out_of_reach_mm2: float = 0.0
    orientation: Orientation | None = None

    @property
    def functional_overhang_mm2(self) -> float:
        """Functional area that needs a support."""
        return float(self.functional_mm2.sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """A part's surface, the directions (k, 3) with measures (k, n) and costs (k,), and those that none beats, cheapest first."""

    of: Surface
    directions: FloatArray
    measures: FloatArray
    costs: FloatArray
    unbeaten: tuple[int, ...]
    process: Process
    fixed: bool


_Fit = tuple[int, FloatArray, tuple[float, float, float]]  # number of a direction, rotation, size


def stand(part: Part, process: Process, *, box_mm: tuple[float, float, float], up: Vector | None = None) -> Stance:
    """Choose how a part stands: the first of :func:`stances`, which raises when there is none."""
    return next(stances(part, process, box_mm=box_mm, up=up))


def stances(part: Part, process: Process, *, box_mm: tuple[float, float, float], up: Vector | None = None) -> Iterator[Stance]:
    """How a part may stand, the best first: where it fits, turned to the smallest rectangle on the plate.

    Those in which no functional face needs a support and supports reach all else come first, by cost, the neighbours of cheaper
    ones later; the others after all of them.

    Parameters
    ----------
    part
        In patient LPS mm.
    process
        Kind, overhang limit, and what may hang freely.
    box_mm
        Usable width, depth and height.
    up
        A person's choice, patient LPS: the only direction then.

    Raises
    ------
    MachineError
        The part fits in none of the directions tried.
    """
    scored = _scored(part, process, up)
    order = _apart_first(scored)
    standing = _fitting(scored, order, box_mm, part.name)
    if not process.needs_supports:
        for index, rotation, size in standing:
            yield _stance(scored, index, rotation, size)
        return
    reached_mm2 = max(process.least_support_mm2, _UNSEEN_MM2)
    looked_at: set[int] = set()
    later: list[Stance] = []
    for ways in (islice(standing, _LOOKED_AT), _more(scored, order, looked_at, box_mm)):
        nearly = []
        for one in ways:
            looked_at.add(one[0])
            stance = _stance(scored, *one)
            left_mm2 = stance.out_of_reach_mm2 - reached_mm2
            if stance.functional_overhang_mm2 > 0.0 or left_mm2 > _ROUGH_MM2:
                later.append(stance)
            elif left_mm2 > 0.0:
                nearly.append(stance)
            else:
                yield stance
        yield from sorted(nearly, key=lambda stance: stance.out_of_reach_mm2)
    yield from sorted(later, key=lambda stance: (stance.functional_overhang_mm2, stance.out_of_reach_mm2))


def _more(scored: _Scored, order: list[int], looked_at: set[int], box_mm: tuple[float, float, float]) -> Iterator[_Fit]:
    """Of directions that were not looked at those in which supports keep off the least, in the order given."""
    others = [index for index in order if index not in looked_at]
    least = np.argsort(unreachable_mm2(scored.of, scored.directions[others], scored.process), kind="stable")
    fits = (_fit(scored, others[k], box_mm)[0] for k in least.tolist())
    found = list(islice((fit for fit in fits if fit is not None), _MORE))
    yield from sorted(found, key=lambda fit: others.index(fit[0]))


def functional_finding(part: Part, stance: Stance, process: Process) -> Finding:
    """Judge how much of a part's functional faces needs a support as it stands: none may, for none can be there."""
    area = stance.functional_mm2
    label = [float(area[part.face_labels == k].sum()) for k in range(len(part.labels))]
    worst = [part.labels[k] for k in sorted(range(len(label)), key=lambda k: -label[k]) if label[k] > 0.0]
    where = part.mesh.vertices_mm[part.mesh.faces[int(np.argmax(area))]].mean(axis=0) if worst else None
    named = f" ({', '.join(worst[:3])})" if worst else ""
    return judge(
        "orient.functional", f"{part.name}: area of functional faces that needs a support{named}", float(area.sum()), "mm2",
        high=0.0, hint="turn these faces to the side or up, make their overhang narrower, or choose a process without supports",
        source=f"beyond {process.max_overhang_deg:g} deg ({process.sources.get('max_overhang_deg', '')}); free are ledges of "
        f"{process.free_ledge_mm:g} mm, bridges of {process.free_bridge_mm:g} mm, holes of {process.free_hole_mm:g} mm",
        where_mm=None if where is None else (float(where[0]), float(where[1]), float(where[2])),
    )  # fmt: skip


def _scored(part: Part, process: Process, up: Vector | None) -> _Scored:
    of = surface(part)
    directions = _directions(of) if up is None else np.array([up]) / np.linalg.norm(up)
    measures = scores(of, directions, process)
    extent = max(float(measures[:, MEASURES.index("height_mm")].max()), float(np.ptp(of.hull_mm, axis=0).max()))
    costs = np.round(_costs(measures, float(of.areas_mm2.sum()), extent, process), _COST_DIGITS)
    return _Scored(of, directions, measures, costs, _unbeaten(measures, costs, process), process, up is not None)


def _costs(measures: FloatArray, area_mm2: float, extent_mm: float, process: Process) -> FloatArray:
    shares = {"mm": extent_mm, "mm2": area_mm2, "mm3": area_mm2 * extent_mm}
    cost = np.zeros(len(measures))
    for name, weight in _WEIGHTS[process.kind].items():
        share = process.layer_mm if name == "stair_mm" else shares[name.rpartition("_")[2]]
        cost += weight * measures[:, MEASURES.index(name)] / share
    return cost


def _apart_first(scored: _Scored) -> list[int]:
    """The directions by cost, but those close to a cheaper one last: what blocks one blocks its neighbours."""
    order = np.argsort(scored.costs, kind="stable")
    taken = np.zeros(len(order), dtype=np.bool_)
    near = np.zeros(len(order), dtype=np.bool_)
    for index in order.tolist():
        if not near[index]:
            taken[index] = True
            near |= scored.directions @ scored.directions[index] > math.cos(math.radians(_ALIKE_DEG))
    return [*order[taken[order]].tolist(), *order[~taken[order]].tolist()]


def _fitting(scored: _Scored, order: list[int], box_mm: tuple[float, float, float], name: str) -> Iterator[_Fit]:
    """Directions in which the part fits, in that order; raises where there is none."""
    smallest: tuple[float, float, float] | None = None
    fits = False
    for index in order:
        fit, sizes = _fit(scored, index, box_mm)
        if fit is not None:
            fits = True
            yield fit
        smallest = min([*sizes, *([smallest] if smallest else [])], key=math.prod)
    if fits:
        return
    assert smallest is not None
    raise MachineError(
        f"part {name!r} is {_sizes(smallest)} mm at its most compact, the machine's usable box is {_sizes(box_mm)} mm",
        hint="choose a larger machine, or order the part in pieces",
    )


def _fit(scored: _Scored, index: int, box_mm: tuple[float, float, float]) -> tuple[_Fit | None, list[tuple[float, float, float]]]:
    """How the part fits in a direction, and the sizes that were tried."""
    sizes = []
    for turned, size in _turned(scored.of.hull_mm, scored.directions[index]):
        sizes.append(size)
        if all(side <= limit for side, limit in zip(size, box_mm, strict=True)):
            return (index, turned, size), sizes
    return None, sizes


def _directions(of: Surface) -> FloatArray:
    """Build directions to try, (k, 3): principal axes, the part's planes and bores, and a sphere turned with the axes."""
    axes = _principal_axes(of.part)
    step = np.arange(_DIRECTIONS) + 0.5  # Fibonacci sphere
    height = 1.0 - 2.0 * step / _DIRECTIONS
    turn = step * math.pi * (3.0 - math.sqrt(5.0))
    ring = np.sqrt(1.0 - height**2)
    sphere = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
    own = np.concatenate([axes.T, _planes(of), _bores(of)])
    return np.concatenate([own, -own, sphere @ axes.T])


def _planes(of: Surface) -> FloatArray:
    """(k, 3) normals of the largest planes of a part."""
    cell = np.rint(of.normals * _NORMAL_CELLS).astype(np.int64) + _NORMAL_CELLS
    side = 2 * _NORMAL_CELLS + 1
    _, which = np.unique((cell[:, 0] * side + cell[:, 1]) * side + cell[:, 2], return_inverse=True)
    area = np.bincount(which, of.areas_mm2)
    mean = np.stack([np.bincount(which, of.normals[:, axis] * of.areas_mm2) for axis in range(3)], axis=1)
    largest = np.argsort(-area, kind="stable")[:_FLAT_FACES]
    largest = largest[area[largest] >= _FLAT_SHARE * area.sum()]
    return np.asarray(mean[largest] / np.linalg.norm(mean[largest], axis=1)[:, None])


def _bores(of: Surface) -> FloatArray:
    """(k, 3) axes of the functional faces that are round about one."""
    part = of.part
    names = {face.label for face in part.functional_faces}
    found = []
    for index in [k for k, label in enumerate(part.labels) if label in names]:
        mine = part.face_labels == index
        spread = np.einsum("n,ni,nj->ij", of.areas_mm2[mine], of.normals[mine], of.normals[mine])
        if np.trace(spread) > 0.0:
            values, axes = np.linalg.eigh(spread / np.trace(spread))
            if values[0] < _STRAIGHT and values[1] > _ROUND:
                found.append(axes[:, 0] * (1.0 if axes[np.argmax(np.abs(axes[:, 0])), 0] > 0.0 else -1.0))
    return np.array(found).reshape(-1, 3)


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


def _turned(points: FloatArray, up: FloatArray) -> Iterator[tuple[FloatArray, tuple[float, float, float]]]:
    """The rotation that stands ``up`` and lays the smallest rectangle along x, then along y, with the size that results."""
    axis = np.eye(3)[int(np.argmin(np.abs(up)))]
    x = np.cross(axis, up)
    x /= np.linalg.norm(x)
    upright = np.stack([x, np.cross(up, x), up])
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
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


def _stance(scored: _Scored, index: int, rotation: FloatArray, size: tuple[float, float, float]) -> Stance:
    process, of = scored.process, scored.of
    found = overhang(of, rotation[2], process)
    other = float(of.areas_mm2[found.beyond & ~of.protected].sum())
    functional = found.needing_mm2 * found.functional
    rule = " + ".join(f"{weight:g} {name.rpartition('_')[0]}" for name, weight in _WEIGHTS[process.kind].items())
    how = "as ordered" if scored.fixed else f"least of {len(scored.directions)} directions"
    measured = dict(zip(MEASURES, scored.measures[index].tolist(), strict=True))
    criterion = (
        f"{how} by shares of {rule}: cost {scored.costs[index]:.4f}, height {size[2]:.2f} mm, overhang {other:.1f} mm2, "
        f"supports about {measured['support_mm3']:.0f} mm3, functional faces that need one {functional.sum():.1f} mm2"
    )
    orientation = Orientation(
        scored.fixed, MEASURES, scored.directions, scored.measures, scored.costs, index, _next_best(scored, index)
    )
    beside = out_of_reach_mm2(of, rotation, process) if not functional.any() else math.inf
    return Stance(rotation, size, other, functional, criterion, beside, orientation)


def _unbeaten(measures: FloatArray, costs: FloatArray, process: Process) -> tuple[int, ...]:
    """The directions than which none other is better in all that is weighed up, cheapest first."""
    no_worse: npt.NDArray[np.bool_] = np.ones((len(costs), len(costs)), dtype=np.bool_)
    better = np.zeros_like(no_worse)
    for name in _AGAINST[process.kind]:
        values = measures[:, MEASURES.index(name)]
        no_worse &= values[:, None] <= values
        better |= values[:, None] < values
    beaten = np.any(no_worse & better, axis=0)
    return tuple(index for index in np.argsort(costs, kind="stable").tolist() if not beaten[index])


def _next_best(scored: _Scored, chosen: int) -> tuple[int, ...]:
    """The next best directions: none other is better in all that is weighed up, and they lie apart; cheapest first."""
    shown = [chosen]
    for index in scored.unbeaten:
        if not (scored.directions[shown] @ scored.directions[index] > math.cos(math.radians(_APART_DEG))).any():
            shown.append(index)
        if len(shown) > _SHOWN:
            break
    return tuple(shown[1:])


def _sizes(box: tuple[float, float, float]) -> str:
    return " x ".join(f"{side:.1f}" for side in box)
