"""The layers as they were written, parts and supports together: whether each carries the next, however supports are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import manifold3d
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray
from batchone.slicer.layers import Layers
from batchone.slicer.supports.hanging import hanging_of
from batchone.slicer.supports.runs import islands_of, runs_of

ROW_MM: Final = 0.2  # numerical: rows and cells in which layers are looked at
_SLOPE: Final = 1.1  # numerical: distances between cells are up to 8 % too long
_ROUND_MM2: Final = 1e-6  # numerical: areas are sums of cells
_ROUND_MM: Final = 1e-4  # numerical: distances are sums of steps from cell to cell
NOTHING: Final = np.zeros((0, 0, 0), dtype=np.bool_)  # no cell is held


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """What nothing carries.

    Attributes
    ----------
    islands
        (n, 4) float64: layer, x, y (mm, plate frame), area (mm2) of pieces of a layer that lie on nothing of the layer below.
    afloat
        (n,) bool: the layer below holds nothing at all.
    unsupported
        (n, 5) float64 patches of the underside that are neither ledge nor bridge nor the roof of a hole: area seen from above
        (mm2), reach from what carries them (mm), and x, y, z of the place that reaches farthest (mm, plate frame).
    """

    islands: FloatArray
    afloat: npt.NDArray[np.bool_]
    unsupported: FloatArray

    def islands_of(self, least_mm2: float) -> FloatArray:
        """(n, 4) the islands of at least so much area, and any with nothing at all below."""
        return self.islands[(self.islands[:, 3] >= least_mm2) | self.afloat]


def carried(layers: Layers, process: Process) -> Carried:
    """Look at all layers from below: pieces that begin in the air, and undersides beyond what the process carries freely.

    The cells begin where the contours do, so that the same bodies give the same answer wherever they stand on the plate.
    """
    low, high = layers.bounds_mm()
    x, y = (float(value) for value in low + 0.5 * ROW_MM)
    rows, columns = math.ceil((high[1] - y) / ROW_MM) + 1, math.ceil((high[0] - x) / ROW_MM) + 2
    start, runs = runs_of(layers.points_mm, layers.loop_start, layers.loop_layer, layers.count, y, ROW_MM, rows)
    islands = _measured(islands_of(start, runs, layers.count, rows, y, ROW_MM), layers)
    afloat = layers.area_mm2()[islands[:, 0].astype(np.int64) - 1] <= 0.0
    slopes_mm, spans_mm = limits_of(process, layers.layer_mm)
    pitch = max(1, round(ROW_MM / layers.layer_mm))
    steps = np.array([*range(0, layers.count - 1, pitch), layers.count - 1], dtype=np.int64)
    ledge_mm = process.free_ledge_mm + ROW_MM
    found = hanging_of(start, runs, steps, rows, columns, x, ROW_MM, slopes_mm, spans_mm, ledge_mm, NOTHING, False)
    return Carried(islands, afloat, patches(found, steps, layers, x, y))


def limits_of(process: Process, layer_mm: float) -> tuple[FloatArray, FloatArray]:
    """(k,) how far a slope at each limit goes aside in a layer, mm, and (k,) what may then lie between two sides, mm."""
    slopes = np.array([math.tan(math.radians(from_deg)) for from_deg, _ in process.free_spans]) * _SLOPE * layer_mm
    return slopes, np.array([span_mm for _, span_mm in process.free_spans])


def carried_each(layers: Layers, groups: Sequence[Sequence[int]], process: Process) -> Carried:
    """The same for some of the bodies at a time, which carry nothing of the others: of a part and its supports."""
    found = [carried(_alone(layers, group), process) for group in groups]
    islands, afloat, unsupported = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("islands", "afloat", "unsupported")
    )
    return Carried(islands, afloat, unsupported)


def _alone(layers: Layers, bodies: Sequence[int]) -> Layers:
    """The layers of some bodies up to their own last one, as if nothing else stood on the plate."""
    some = layers.of(bodies)
    return replace(some, count=int(some.loop_layer.max(initial=0)) + 1)


def patches(
    cells: FloatArray, steps: npt.NDArray[np.int64], layers: Layers, x_mm: float, y_mm: float, *, cell_mm: float = ROW_MM
) -> FloatArray:
    """Cells that hang, (m, 4), as (n, 5) patches of those that lie side by side, also from one step to the next."""
    if len(cells) == 0:
        return np.empty((0, 5))
    pairs = cKDTree(cells[:, :3]).query_pairs(1.0, p=np.inf, output_type="ndarray")
    ones = np.ones(len(pairs), dtype=np.int8)
    count, patch = connected_components(coo_array((ones, pairs.T), shape=(len(cells), len(cells))), directed=False)
    order = np.lexsort((-cells[:, 3], patch))
    worst = cells[order[np.searchsorted(patch[order], np.arange(count))]]
    z = (steps[worst[:, 0].astype(np.int64)] + 0.5) * layers.layer_mm
    places = np.stack([x_mm + (worst[:, 2] + 0.5) * cell_mm, y_mm + worst[:, 1] * cell_mm, z], axis=1)
    return np.column_stack([np.bincount(patch) * cell_mm**2, worst[:, 3], places])


def least_patch_mm2(process: Process) -> float:
    """From which area on a patch that nothing carries is one: what the process lets hang, and no less than what it lets float."""
    return max(process.least_support_mm2, least_island_mm2(process))


def least_island_mm2(process: Process) -> float:
    """What the process lets float, and any patch of which may reach as far as it likes."""
    return process.supports.least_island_mm2 if process.supports else 0.0


def far_patches(found: Carried, process: Process) -> FloatArray:
    """(n, 5) those patches that are more than what may float."""
    return found.unsupported[found.unsupported[:, 0] > least_island_mm2(process) + _ROUND_MM2]


def most_reach_mm(process: Process) -> float:
    """How far those may stand out, to within a cell."""
    return process.small_reach_mm + ROW_MM


def hanging(found: Carried, process: Process) -> FloatArray:
    """(n, 5) the patches that the process does not carry freely, for their area or for their reach."""
    patches = far_patches(found, process)
    too_large = patches[:, 0] > least_patch_mm2(process) + _ROUND_MM2
    return patches[too_large | (patches[:, 1] > most_reach_mm(process) + _ROUND_MM)]


def carries_all(found: Carried, process: Process) -> bool:
    """Whether no piece of a layer lies on nothing, and no patch hangs, that the process does not carry freely."""
    return not len(found.islands_of(least_island_mm2(process))) and not len(hanging(found, process))


def _measured(islands: FloatArray, layers: Layers) -> FloatArray:
    """Those islands that are whole pieces of their layer, with their area: a neck narrower than a row joins others to what is
    carried. A piece is what a contour holds less its holes: a ring about a post that is carried is not carried by it."""
    found = []
    for layer in np.unique(islands[:, 0]).astype(np.int64).tolist():
        here, below = _material(layers, layer), _material(layers, layer - 1)
        pieces = [(piece, [_Ring(ring) for ring in piece.to_polygons()]) for piece in here.decompose()]
        seen: dict[int, list[list[float]]] = {}
        for island in islands[islands[:, 0] == layer].tolist():
            for number, (_, rings) in enumerate(pieces):
                if sum(ring.holds(island[1], island[2]) for ring in rings) % 2:
                    seen.setdefault(number, []).append(island)
        for number, those in seen.items():
            piece = pieces[number][0]
            if sum(one[3] for one in those) >= 0.5 * piece.area() and (piece ^ below).area() <= 0.0:
                found.append([*those[0][:3], piece.area()])
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def _material(layers: Layers, layer: int) -> manifold3d.CrossSection:
    """All that a layer fills, parts and supports."""
    first, last = np.searchsorted(layers.loop_layer, (layer, layer + 1)).tolist()
    loops = [layers.points_mm[layers.loop_start[i] : layers.loop_start[i + 1]] for i in range(first, last)]
    return manifold3d.CrossSection(loops, manifold3d.FillRule.Positive)


class _Ring:
    """A contour (n, 2) mm of which is asked what lies within."""

    def __init__(self, loop: FloatArray) -> None:
        self._loop, self._after = loop, np.concatenate([loop[1:], loop[:1]])
        self._low, self._high = loop.min(axis=0).tolist(), loop.max(axis=0).tolist()

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies within: how often a ray to the right crosses the contour."""
        if not (self._low[0] <= x <= self._high[0] and self._low[1] <= y <= self._high[1]):
            return False
        crosses = (self._loop[:, 1] > y) != (self._after[:, 1] > y)
        one, other = self._loop[crosses], self._after[crosses]
        right = one[:, 0] + (y - one[:, 1]) / (other[:, 1] - one[:, 1]) * (other[:, 0] - one[:, 0]) > x
        return bool(np.count_nonzero(right) % 2)
