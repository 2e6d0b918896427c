"""Layers: closed contours of the placed parts at the middle of each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from batchone.pipeline.errors import MachineError
from batchone.pipeline.values import FloatArray, IntArray, Mesh
from batchone.slicer.sweep import half_edge_twins, sweep

# share of a layer by which a height may exceed a whole number of layers before it starts another one: what ends less than 0.5 um
# above the last layer of 0.1 mm may have no area that a file could hold, and no machine resolves it
_LAYER_SLACK = 5e-3
_MOST_SHELLS = (
    1_000  # project default: a model of many bones has dozens; more is dust, and what carries it would take hours to find
)
_MOST_CONTOURS = 2_000_000  # numerical: a plate of 24 guides has a tenth of it; more is dust or a lattice, and minutes of work


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Closed contours, sorted by layer, then by part.

    Attributes
    ----------
    layer_mm
        Layer thickness.
    count
        Number of layers; layer k lies between ``k * layer_mm`` and ``(k + 1) * layer_mm`` above the plate.
    points_mm
        (p, 2) float64, plate frame; outer contours counter-clockwise, holes clockwise, the first point not repeated.
    loop_start
        (l + 1,) int64 offsets into ``points_mm``.
    loop_layer
        (l,) int32, ascending.
    loop_part
        (l,) int32 index of the part.
    loop_area_mm2
        (l,) float64, signed: outer contours positive, holes negative.
    """

    layer_mm: float
    count: int
    points_mm: FloatArray
    loop_start: npt.NDArray[np.int64]
    loop_layer: IntArray
    loop_part: IntArray
    loop_area_mm2: FloatArray

    def area_mm2(self, part: int | None = None) -> FloatArray:
        """Solid area of each layer, (count,) float64; of one part only when ``part`` is given."""
        chosen = slice(None) if part is None else self.loop_part == part
        area = np.bincount(self.loop_layer[chosen], weights=self.loop_area_mm2[chosen], minlength=self.count)
        return np.array(area, dtype=np.float64)

    def bounds_mm(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest x and y of all contours, (2,) each."""
        x, y = self.points_mm[:, 0], self.points_mm[:, 1]  # column by column: many times faster than along the short axis
        return np.array([x.min(), y.min()]), np.array([x.max(), y.max()])

    def loops(self, layer: int, part: int) -> list[FloatArray]:
        """The contours of one part in one layer, each (n, 2) mm."""
        low, high = np.searchsorted(self.loop_layer, (layer, layer + 1))
        chosen = [i for i in range(int(low), int(high)) if self.loop_part[i] == part]
        return [self.points_mm[self.loop_start[i] : self.loop_start[i + 1]] for i in chosen]

    def runs(self, points: int) -> list[int]:
        """Layers at which runs of layers begin, and the number of layers: each run has about so many points, or one layer."""
        first = self.loop_start[np.searchsorted(self.loop_layer, np.arange(self.count + 1))]
        begins = np.searchsorted(first, np.arange(points, self.loop_start[-1], points))
        return sorted({0, *begins.tolist(), self.count})

    def between(self, low: int, high: int) -> Layers:
        """The contours from layer ``low`` to ``high - 1`` alone; the number of layers stays."""
        a, b = np.searchsorted(self.loop_layer, (low, high)).tolist()
        start = self.loop_start[a : b + 1]
        points = self.points_mm[start[0] : start[-1]]
        layer, part, area = self.loop_layer[a:b], self.loop_part[a:b], self.loop_area_mm2[a:b]
        return Layers(self.layer_mm, self.count, points, start - start[0], layer, part, area)

    def of_first(self, parts: int) -> Layers:
        """The contours of the first parts alone; the number of layers stays."""
        return self.of(range(parts))

    def of(self, parts: Sequence[int]) -> Layers:
        """The contours of some parts alone; the number of layers stays."""
        keep = np.isin(self.loop_part, parts)
        if keep.all():
            return self
        sizes = np.diff(self.loop_start)
        start = np.concatenate([[0], np.cumsum(sizes[keep])]).astype(np.int64)
        points = np.take(self.points_mm, _runs(self.loop_start[:-1][keep], sizes[keep]), axis=0)  # faster than a mask
        return Layers(
            self.layer_mm, self.count, points, start, self.loop_layer[keep], self.loop_part[keep], self.loop_area_mm2[keep]
        )


def layer_count(height_mm: float, layer_mm: float) -> int:
    """Number of layers that a height needs: the last one may be only partly filled."""
    return max(1, math.ceil(height_mm / layer_mm - _LAYER_SLACK))


def section_heights(height_mm: float, layer_mm: float) -> FloatArray:
    """Where a part that stands on the plate is cut: the middle of each layer, (n,) float64 mm.

    The last layer is cut in the middle of what is left of the part, so that it is never blank.
    """
    count = layer_count(height_mm, layer_mm)
    heights: FloatArray = (np.arange(count, dtype=np.float64) + 0.5) * layer_mm
    heights[-1] = 0.5 * ((count - 1) * layer_mm + height_mm)
    return heights


def sections(mesh: Mesh, heights_mm: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64], IntArray, FloatArray]:
    """Cut a closed mesh at strictly ascending heights (z up, mm).

    Returns
    -------
    tuple
        Points, loop offsets, height index and signed area of each loop, as in :func:`batchone.slicer.sweep.sweep`.

    Raises
    ------
    MachineError
        The mesh is open.
    """
    vertices = np.ascontiguousarray(mesh.vertices_mm, dtype=np.float64)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32)
    twins, open_edges, _ = half_edge_twins(faces, len(vertices))
    if open_edges:
        raise MachineError(
            f"mesh has {open_edges} open or misoriented edges, at most 0 can be sliced",
            hint="run the design and its checks again",
        )
    level = np.searchsorted(heights_mm, vertices[:, 2], side="right").astype(np.int32)
    points, start, height, area = sweep(vertices, faces, twins, level, np.ascontiguousarray(heights_mm))
    return points, start, height, area


def slice_parts(placed: Sequence[Mesh], layer_mm: float) -> Layers:
    """Cut parts that stand on the plate (lowest point at z = 0) into layers.

    Parameters
    ----------
    placed
        Closed meshes in the plate frame, mm, z up.
    layer_mm
        Layer thickness.

    Raises
    ------
    MachineError
        A mesh is open or inside out, or has more contours than any device.
    """
    cuts = []
    for index, mesh in enumerate(placed):
        heights = section_heights(float(mesh.vertices_mm[:, 2].max()), layer_mm)
        points, start, layer, area = sections(mesh, heights)
        _refuse_unsound(start, area)
        cuts.append(Layers(layer_mm, len(heights), points, start, layer, np.full(len(layer), index, dtype=np.int32), area))
    return together(cuts)


def together(several: Sequence[Layers]) -> Layers:
    """Contours of several, by layer; in a layer those of the first come first."""
    if len(several) == 1:
        return several[0]
    sizes = np.concatenate([np.diff(one.loop_start) for one in several])
    layer, part, area = (
        np.concatenate([getattr(one, name) for one in several]) for name in ("loop_layer", "loop_part", "loop_area_mm2")
    )
    points = np.concatenate([one.points_mm for one in several])
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    order = np.argsort(layer, kind="stable")
    points = np.take(points, _runs(start[:-1][order], sizes[order]), axis=0)  # a quarter of the time of an index
    start = np.concatenate([[0], np.cumsum(sizes[order])]).astype(np.int64)
    count = max(one.count for one in several)
    return Layers(several[0].layer_mm, count, points, start, layer[order], part[order], area[order])


def refuse_dust(mesh: Mesh, name: str) -> None:
    """Refuse a mesh of more separate shells than any device has, before anything is searched for each of them.

    Raises
    ------
    MachineError
        There are too many.
    """
    corners, count = mesh.faces.astype(np.int32), len(mesh.vertices_mm)
    along, across = corners[:, [0, 1]].ravel(), corners[:, [1, 2]].ravel()
    links = coo_array((np.ones(len(along), dtype=np.bool_), (along, across)), shape=(count, count))
    piece = connected_components(links, directed=False)[1]
    shells = len(np.unique(piece[corners[:, 0]]))
    if shells > _MOST_SHELLS:
        raise MachineError(
            f"{name} has {shells} separate shells, at most {_MOST_SHELLS} are sliced",
            hint="take the loose shells out of the part",
        )


def _refuse_unsound(start: npt.NDArray[np.int64], area_mm2: FloatArray) -> None:
    contours, whole_mm2 = len(start) - 1, float(area_mm2.sum())
    if contours > _MOST_CONTOURS:
        raise MachineError(
            f"mesh has {contours} contours in its layers, at most {_MOST_CONTOURS} can be filled and read back",
            hint="take the loose shells or the lattice out of the part",
        )
    if whole_mm2 <= 0.0:
        raise MachineError(
            f"mesh has {whole_mm2:.3f} mm2 in all its layers, more than 0 can be sliced: it is empty or inside out",
            hint="run the design and its checks again",
        )


def _runs(start: npt.NDArray[np.int64], size: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The indices ``start[i] .. start[i] + size[i]``, one run after the other."""
    before = np.concatenate([[0], np.cumsum(size)])
    return np.repeat(start - before[:-1], size) + np.arange(before[-1])
