"""What a laser draws of each layer, by label: contours that the beam runs along, and the lines of each region.

The labels of the bodies come first and keep the true outlines, by which everything is measured. What is drawn of a part has
labels of its own after them, ``<part> <region>``. A body that is not filled with lines, as supports are, is drawn along its
outline: its walls are about as thin as the beam.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import manifold3d
import numpy as np
import numpy.typing as npt
from numba import njit, types

from batchone.pipeline.process import CONTOURS, Process
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_header import region_label
from batchone.slicer.hatch import Hatches, filler, no_hatches
from batchone.slicer.layers import Layers, together

_OFF_MM = 0.001  # numerical: a fifth of the unit of the layer file; what lies straighter has no corners in the beam's path
_ROUND = 16  # numerical: sides of a whole circle, 1.5 um off a circle of 0.08 mm


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """Labels, and what has them.

    Attributes
    ----------
    labels
        Of the bodies, then of what is drawn of them.
    layers
        Outlines of the bodies and contours of the beam; ``loop_part`` counts labels.
    hatches
        Lines; ``part`` counts labels.
    mm_per_s
        (labels,) float64: at which what has the label is drawn; 0 for outlines that are not drawn.
    """

    labels: tuple[str, ...]
    layers: Layers
    hatches: Hatches
    mm_per_s: FloatArray


def expose(layers: Layers, names: Sequence[str], process: Process, *, parts: int) -> Exposure:
    """What a laser draws of bodies in all layers; parameters as of :func:`exposer`."""
    return exposer(layers, names, process, parts=parts)(0, layers.count)


def exposer(layers: Layers, names: Sequence[str], process: Process, *, parts: int) -> Callable[[int, int], Exposure]:
    """What tells what a laser draws of bodies in the layers from one to before another.

    Parameters
    ----------
    layers, names
        Outlines and names of all bodies, the ``parts`` first.
    process
        How it scans; without ``scan`` nothing is drawn.
    """
    scan, labels = process.scan, labels_of(names, process, parts=parts)
    if scan is None:
        return lambda low, high: Exposure(labels, layers.between(low, high), no_hatches(), np.zeros(len(names)))
    filled = filled_bodies(names, process, parts=parts)
    label = len(names) + np.arange(filled * len(scan.order), dtype=np.int32).reshape(filled, len(scan.order))
    bodies = layers.of_first(filled)
    contours = [region for region in scan.order if region in CONTOURS]
    insets_mm = [scan.contour_inset_mm(region) for region in contours]
    fill = filler(bodies, scan, np.ascontiguousarray(label[:, len(contours) :]))
    outlines = np.repeat([0.0, scan.contour_mm_per_s], [filled, len(names) - filled])
    speeds = np.concatenate([outlines, np.tile([scan.mm_per_s(region) for region in scan.order], filled)])

    def drawn(low: int, high: int) -> Exposure:
        some = bodies.between(low, high)
        paths = [beam_path(some, inset_mm, label[:, k]) for k, inset_mm in enumerate(insets_mm)]
        return Exposure(labels, together([layers.between(low, high), *paths]), fill(low, high), speeds)

    return drawn


def filled_bodies(names: Sequence[str], process: Process, *, parts: int) -> int:
    """How many of the bodies, the first ones, are filled with lines."""
    return len(names) if process.supports is None or process.supports.hatched else parts


def labels_of(names: Sequence[str], process: Process, *, parts: int) -> tuple[str, ...]:
    """The labels of a file of layers: of bodies, the ``parts`` first, and of what is drawn of them."""
    order = process.scan.order if process.scan is not None else ()
    filled = names[: filled_bodies(names, process, parts=parts)]
    return (*names, *(region_label(name, region) for name in filled for region in order))


def beam_path(layers: Layers, inset_mm: float, labels: npt.NDArray[np.int32]) -> Layers:
    """Contours within which the beam's middle has a place: the outlines, eroded by a disc.

    Parameters
    ----------
    layers
        Outlines.
    inset_mm
        Radius of the disc.
    labels
        (parts,) what becomes ``loop_part``.
    """
    points, start = straightened(layers.points_mm, layers.loop_start, _OFF_MM if inset_mm > 0.0 else 0.0)
    first = np.flatnonzero(np.r_[True, (np.diff(layers.loop_layer) != 0) | (np.diff(layers.loop_part) != 0)])
    rings: list[FloatArray] = []
    count = []
    for low, high in pairwise([*first.tolist(), len(layers.loop_part)]):
        solid = manifold3d.CrossSection([points[start[i] : start[i + 1]] for i in range(low, high)], manifold3d.FillRule.Positive)
        eroded = solid.offset(-inset_mm, manifold3d.JoinType.Round, circular_segments=_ROUND)
        found = eroded.to_polygons()
        rings += found
        count.append(len(found))
    of = np.repeat(first, count)
    x, y = np.concatenate([*rings, np.zeros((0, 2))]).T
    sizes = np.array([len(ring) for ring in rings], dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    next_one = np.arange(1, len(x) + 1)
    next_one[begins[1:] - 1] = begins[:-1]
    twice = np.add.reduceat(x * y[next_one] - x[next_one] * y, begins[:-1]) if len(x) else np.zeros(0)
    return Layers(
        layers.layer_mm, layers.count, np.column_stack([x, y]), begins,
        layers.loop_layer[of], labels[layers.loop_part[of]].astype(np.int32), 0.5 * twice,
    )  # fmt: skip


@njit(
    types.Tuple((types.float64[:, ::1], types.int64[::1]))(
        types.Array(types.float64, 2, "C", readonly=True), types.Array(types.int64, 1, "C", readonly=True), types.float64
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def straightened(points_mm: FloatArray, start: npt.NDArray[np.int64], off_mm: float) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Contours without the corners that lie within ``off_mm`` of a straight line between those that stay."""
    kept, used = np.empty_like(points_mm), 0
    starts = np.zeros_like(start)
    for loop in range(start.shape[0] - 1):
        anchor = start[loop]
        kept[used] = points_mm[anchor]
        used += 1
        low, high = -np.inf, np.inf  # directions, from that of the first edge, in which a line passes by all corners so far
        base = 0.0
        for p in range(anchor + 1, start[loop + 1]):
            dx, dy = points_mm[p, 0] - points_mm[anchor, 0], points_mm[p, 1] - points_mm[anchor, 1]
            away = np.sqrt(dx * dx + dy * dy)
            if p == anchor + 1:
                base = np.arctan2(dy, dx)
            turn = (np.arctan2(dy, dx) - base + np.pi) % (2.0 * np.pi) - np.pi
            if p > anchor + 1 and not low <= turn <= high:
                anchor = p - 1
                kept[used] = points_mm[anchor]
                used += 1
                dx, dy = points_mm[p, 0] - points_mm[anchor, 0], points_mm[p, 1] - points_mm[anchor, 1]
                away = np.sqrt(dx * dx + dy * dy)
                base, turn, low, high = np.arctan2(dy, dx), 0.0, -np.inf, np.inf
            if away > off_mm:
                wide = np.arcsin(off_mm / away)
                low, high = max(low, turn - wide), min(high, turn + wide)
        if start[loop + 1] - 1 > anchor:
            kept[used] = points_mm[start[loop + 1] - 1]
            used += 1
        starts[loop + 1] = used
    return kept[:used].copy(), starts
