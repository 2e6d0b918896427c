"""Cups of a part that is drawn out of a vat: hollows which the film closes from below while nothing vents them from elsewhere.

Seen from the platform, layer upon layer: what is empty in the layers so far and has no way to the open but through the layer that
is being made is sealed by the film, and sucks at it. The area of the film that is sealed tells how hard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Vector, judge
from batchone.slicer.layers import sections
from batchone.slicer.orient import Stance

_STEP_MM: Final = 0.5  # numerical: grid across and along; narrower vents than about one step are not seen
_MOST_CELLS: Final = 12_000_000  # numerical: larger parts are looked at more coarsely
_TRIES: Final = 24  # ways up that are looked at, the cheapest first; project default


def uncupped(part: Part, stances: Iterable[Stance], process: Process) -> Iterator[tuple[Stance, Finding]]:
    """Of several ways up (at least one) those in which nothing is sealed, or else the one that seals least; and what is.

    Ways in which a functional face needs a support are left out once there is another.
    """
    sealing: list[tuple[float, Stance, Finding]] = []
    none, unblocked = True, False
    for stance in islice(stances, _TRIES):
        if unblocked and stance.functional_overhang_mm2 > 0.0:
            break
        unblocked |= stance.functional_overhang_mm2 == 0.0
        finding = cup_finding(part, stance, process)
        if finding.verdict == "pass":
            none = False
            yield stance, finding
        else:
            sealing.append((finding.value, stance, finding))
    if none:
        _, stance, finding = min(sealing, key=lambda one: one[0])
        yield stance, finding


def cup_finding(part: Part, stance: Stance, process: Process) -> Finding:
    """Judge the largest area that a part seals, standing so; a cup smaller than the hole that would vent it passes."""
    turned = part.mesh.vertices_mm @ stance.rotation.T
    low = turned.min(axis=0)
    area_mm2, where = sealed_area(Mesh(turned - low, part.mesh.faces), on_supports=process.needs_supports)
    hole_mm = process.min_escape_hole_mm
    place: Vector | None = None
    if where is not None:
        x, y, z = ((where + low) @ stance.rotation).tolist()
        place = (x, y, z)
    return judge(
        "cups", f"{part.name}: largest area of the film that a cup seals", area_mm2, "mm2",
        high=round(0.25 * math.pi * hole_mm**2, 6), hint=f"a vent of {hole_mm:g} mm into the cup, or a flatter hollow",
        source=f"area of an escape hole of {hole_mm:g} mm ({process.sources.get('min_escape_hole_mm', '')}); unverified",
        where_mm=place,
    )  # fmt: skip


def sealed_area(mesh: Mesh, *, on_supports: bool) -> tuple[float, FloatArray | None]:
    """Largest area, mm2, that is sealed in any layer of a closed mesh which stands at z = 0, and a place (3,) in it.

    ``on_supports``: there is room between the platform and the part.
    """
    solid, step = _voxels(mesh)
    open_to: list[bool] = [True]  # by number of a hollow; those that meet share their root
    root: list[int] = [0]

    def rooted(number: int) -> int:
        while root[number] != number:
            root[number] = root[root[number]]
            number = root[number]
        return number

    below = np.full(solid.shape[1:], 0 if on_supports else -1, dtype=np.int64)
    largest, where = 0.0, None
    for layer, filled in enumerate(solid):
        label, count = ndimage.label(~filled)
        first = len(root)
        root.extend(range(first, first + count))
        open_to.extend([False] * count)
        here = np.where(label > 0, label + first - 1, -1).astype(np.int64)
        open_to[here[0, 0]] = True
        meets = (here >= 0) & (below >= 0)
        pair = here[meets] * len(root) + below[meets]
        pair = np.unique(pair[np.diff(pair, prepend=-1) != 0])  # most places meet as their neighbours do: few are left to sort
        for number in pair.tolist():
            a, b = rooted(number // len(root)), rooted(number % len(root))
            root[max(a, b)] = min(a, b)
            open_to[min(a, b)] = open_to[a] or open_to[b]
        roots = np.array([rooted(number) for number in range(first, len(root))], dtype=np.int64)
        cells = np.bincount(roots, np.bincount(label.ravel(), minlength=count + 1)[1:], minlength=1)
        cells[[number for number in np.unique(roots).tolist() if open_to[number]]] = 0
        worst = int(np.argmax(cells))
        if cells[worst] * step**2 > largest:
            largest = float(cells[worst] * step**2)
            cell = np.argwhere(np.isin(label, 1 + np.flatnonzero(roots == worst)))
            middle = cell[int(np.argmin(((cell - cell.mean(axis=0)) ** 2).sum(axis=1)))]
            low = mesh.vertices_mm.min(axis=0)
            where = np.array([low[0] + (middle[1] - 1) * step, low[1] + (middle[0] - 1) * step, (layer + 0.5) * step])
        below = here
    return largest, where


def _voxels(mesh: Mesh) -> tuple[npt.NDArray[np.bool_], float]:
    """(layers, rows, columns) what is filled, with one empty row and column around; and the step, mm."""
    low, size = mesh.vertices_mm.min(axis=0), np.ptp(mesh.vertices_mm, axis=0)
    step = max(_STEP_MM, float((size.prod() / _MOST_CELLS) ** (1.0 / 3.0)))
    columns, rows = (math.ceil(side / step) + 3 for side in size[:2].tolist())
    heights = (np.arange(max(1, math.ceil(size[2] / step))) + 0.5) * step
    heights = heights[heights < size[2]] if size[2] > 0.5 * step else np.array([0.5 * size[2]])
    points, start, height, _ = sections(mesh, heights)
    place = (points - low[:2]) / step + 1.0
    loop = np.repeat(np.arange(len(start) - 1), np.diff(start))
    after = np.arange(1, len(points) + 1)
    after[start[1:] - 1] = start[:-1]
    one, other = place, place[after]
    first = np.ceil(np.minimum(one[:, 1], other[:, 1])).astype(np.int64)
    crossed = np.ceil(np.maximum(one[:, 1], other[:, 1])).astype(np.int64) - first
    edge = np.repeat(np.arange(len(points)), crossed)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    share = (row - one[edge, 1]) / (other[edge, 1] - one[edge, 1])
    column = np.ceil(one[edge, 0] + share * (other[edge, 0] - one[edge, 0])).astype(np.int64)
    cell = (height[loop[edge]].astype(np.int64) * rows + row) * columns + column
    turns = (np.bincount(cell, minlength=len(heights) * rows * columns) % 2).astype(np.uint8)
    return np.bitwise_xor.accumulate(turns.reshape(len(heights), rows, columns), axis=2).astype(np.bool_), step
