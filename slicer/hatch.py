"""Hatches: the lines by which a laser fills a layer, kept off the contours by the beam's own reach, region by region.

Lines of one layer are parallel, on a grid that is fixed to the plate, and turned from layer to layer. Each ends where a disc
about its point first touches a contour: a morphological erosion, exact along the line, with no polygon made in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from batchone.pipeline.process import CONTOURS, Region, ScanStrategy, Skin
from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import FloatArray, IntArray
from batchone.slicer.layers import Layers
from batchone.slicer.scan_lines import CORE, DOWN, UP, scan_lines

_KINDS: Final[dict[Region, int]] = {"core": CORE, "up-skin": UP, "down-skin": DOWN}
_RUN = 32_000  # numerical: points of contours that one thread fills at a time; its memory while it fills them is small


@dataclass(frozen=True, slots=True, eq=False)
class Hatches:
    """Lines in the order in which they are scanned, by layer, then by part.

    Attributes
    ----------
    vectors_mm
        (v, 4) float64, plate frame: from x, y to x, y.
    start
        (g + 1,) int64 offsets into ``vectors_mm``: one group for each layer, part and region.
    layer, part
        (g,) int32 of each group, layers ascending; ``part`` counts labels where regions have labels of their own.
    """

    vectors_mm: FloatArray
    start: npt.NDArray[np.int64]
    layer: IntArray
    part: IntArray

    @property
    def length_mm(self) -> float:
        """Of all lines together."""
        return float(lengths_mm(self.vectors_mm).sum())

    def of(self, layer: int, part: int | None = None) -> FloatArray:
        """(n, 4) the lines of one layer, of one part only when ``part`` is given."""
        low, high = np.searchsorted(self.layer, (layer, layer + 1))
        groups = [g for g in range(int(low), int(high)) if part is None or self.part[g] == part]
        found = [self.vectors_mm[self.start[g] : self.start[g + 1]] for g in groups]
        return np.concatenate(found) if found else np.empty((0, 4))


def no_hatches() -> Hatches:
    """Of a process that scans no lines."""
    none = np.empty(0, dtype=np.int32)
    return Hatches(np.empty((0, 4)), np.zeros(1, dtype=np.int64), none, none)


def hatch(layers: Layers, scan: ScanStrategy, labels: IntArray | None = None) -> Hatches:
    """Fill the contours of all layers.

    Parameters
    ----------
    layers
        Closed contours, sorted by layer, then by part.
    scan
        How lines lie.
    labels
        (parts, regions) int32: what becomes ``part`` of the lines, for each region of :func:`hatched_regions`; None: the part.
    """
    fill = filler(layers, scan, labels)
    runs = side_by_side([partial(fill, low, high) for low, high in pairwise(layers.runs(_RUN))])
    start = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(run.start) for run in runs]))]).astype(np.int64)
    vectors, layer, part = (np.concatenate([getattr(run, name) for run in runs]) for name in ("vectors_mm", "layer", "part"))
    return Hatches(vectors, start, layer, part)


def filler(layers: Layers, scan: ScanStrategy, labels: IntArray | None = None) -> Callable[[int, int], Hatches]:
    """What fills the layers from one to before another, on one core; parameters as of :func:`hatch`."""
    first = np.flatnonzero(
        np.r_[True, (np.diff(layers.loop_layer) != 0) | (np.diff(layers.loop_part) != 0)][: len(layers.loop_part)]
    ).astype(np.int64)
    if len(first) == 0:
        return lambda low, high: no_hatches()
    layer, part = layers.loop_layer[first], layers.loop_part[first]
    regions = hatched_regions(scan)
    loops = np.append(first, len(layers.loop_part))
    turn = np.radians((scan.first_deg + scan.turn_deg * layer) % 180.0)
    above, below = _next(layer, part, scan.up_skin, 1), _next(layer, part, scan.down_skin, -1)
    kinds = np.array([_KINDS[region] for region in regions], dtype=np.int64)
    spacing, overlap = (np.array([of(region) for region in regions]) for of in (scan.spacing_mm, scan.overlap_mm))
    stripe_mm = scan.stripe_mm if scan.stripe_mm is not None else math.inf
    named = np.repeat(part[:, None], len(regions), axis=1) if labels is None else labels[part]

    def fill(low: int, high: int) -> Hatches:
        a, b = np.searchsorted(layer, (low, high)).tolist()
        vectors, counts = scan_lines(
            layers.points_mm, layers.loop_start, loops, a, b, turn, above, below, kinds, spacing, overlap,
            scan.inset_mm, scan.least_mm, stripe_mm,
        )  # fmt: skip
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Hatches(vectors, start, np.repeat(layer[a:b], len(regions)), named[a:b].ravel())

    return fill


def hatched_regions(scan: ScanStrategy) -> tuple[Region, ...]:
    """The regions that are filled with lines, as they are drawn."""
    return tuple(region for region in scan.order if region not in CONTOURS)


def _next(layer: IntArray, part: IntArray, skin: Skin | None, step: int) -> npt.NDArray[np.int64]:
    """(g, n) the groups of the same part in the next layers up or down, -1 where it has none."""
    group = np.full((int(part.max()) + 1, int(layer.max()) + 1), -1, dtype=np.int64)
    group[part, layer] = np.arange(len(layer))
    found = np.full((len(layer), skin.layers if skin is not None else 0), -1, dtype=np.int64)
    for n in range(found.shape[1]):
        there = layer + step * (n + 1)
        on = (there >= 0) & (there < group.shape[1])
        found[on, n] = group[part[on], there[on]]
    return found


def lengths_mm(vectors_mm: FloatArray) -> FloatArray:
    """(n,) length of each line (n, 4)."""
    return np.asarray(np.hypot(vectors_mm[:, 2] - vectors_mm[:, 0], vectors_mm[:, 3] - vectors_mm[:, 1]))
