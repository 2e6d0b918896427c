"""The rim of a hole: where the bone's table ends, found by rays between neighbouring directions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from batchone.design.cranial.sphere import BoolArray
from batchone.pipeline.values import FloatArray, IntArray

DIP_MM = 0.5  # bone this far below the healthy table is wall, not table; well above the surface's noise of about 0.1 mm
SPACING_MM = 1.0  # distance of neighbouring points along the rim
_HALVINGS = 8  # 0.7 mm between directions becomes 0.003 mm

IsTable = Callable[[FloatArray, FloatArray], BoolArray]


def boundary(
    directions: FloatArray, faces: IntArray, expected_mm: FloatArray, *, table: BoolArray, fixed: BoolArray, is_table: IsTable
) -> list[tuple[FloatArray, FloatArray]]:
    """Closed lines between table and hole.

    Parameters
    ----------
    directions, faces
        (n, 3) unit directions and (m, 3) their triangles.
    expected_mm
        (n,) radius of the healthy table.
    table
        (n,) whether there is table in each direction.
    fixed
        (n,) directions whose ``table`` was decided by rule: steps that touch one are cut in the middle.
    is_table
        The same as ``table`` for any (k, 3) unit directions and (k,) expected radii; asked to halve the steps across the edge.

    Returns
    -------
    list of ((k, 3), (k, 3))
        For each closed line, longest first: unit directions just outside of the edge (on the table), in order,
        counter-clockwise around the hole seen from outside the head, and just inside.
    """
    corner = table[faces]
    mixed = faces[corner.any(axis=1) & ~corner.all(axis=1)]
    starts, ends = _crossings(mixed, table)
    both, place = np.unique(np.concatenate([starts, ends]), axis=0, return_inverse=True)
    place = place.ravel()
    free = ~(fixed[both[:, 0]] | fixed[both[:, 1]])
    outside, inside = np.zeros(len(both)), np.ones(len(both))
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2.0
        expected = (1.0 - middle) * expected_mm[both[:, 0]] + middle * expected_mm[both[:, 1]]
        on_table = is_table(_between(directions, both, middle), expected)
        outside = np.where(on_table & free, middle, outside)
        inside = np.where(~on_table & free, middle, inside)
    outside, inside = np.where(free, outside, 0.5), np.where(free, inside, 0.5)
    count = len(starts)
    following = dict(zip(place[:count].tolist(), place[count:].tolist(), strict=True))
    loops = _loops(following)
    out, into = _between(directions, both, outside), _between(directions, both, inside)
    lines = [(out[loop], into[loop]) for loop in loops]
    return sorted(lines, key=lambda line: -_length(line[0]))


def _between(directions: FloatArray, ends: IntArray, share: FloatArray) -> FloatArray:
    middle = (1.0 - share)[:, None] * directions[ends[:, 0]] + share[:, None] * directions[ends[:, 1]]
    return np.asarray(middle / np.linalg.norm(middle, axis=1, keepdims=True))


def _crossings(faces: IntArray, table: BoolArray) -> tuple[IntArray, IntArray]:
    """For each mixed triangle the two edges (table end, hole end) that the boundary enters and leaves by, hole on the left."""
    on = table[faces]
    odd = np.where(on.sum(axis=1) == 1, on.argmax(axis=1), (~on).argmax(axis=1))
    rows = np.arange(len(faces))
    a, b, c = faces[rows, odd], faces[rows, (odd + 1) % 3], faces[rows, (odd + 2) % 3]
    lone = on[rows, odd]
    ab = np.where(lone[:, None], np.stack([a, b], 1), np.stack([b, a], 1))
    ac = np.where(lone[:, None], np.stack([a, c], 1), np.stack([c, a], 1))
    starts = np.where(lone[:, None], ac, ab)
    ends = np.where(lone[:, None], ab, ac)
    return starts, ends


def _loops(following: dict[int, int]) -> list[list[int]]:
    left = dict(sorted(following.items()))
    loops: list[list[int]] = []
    while left:
        first, at = left.popitem()
        loop = [first]
        while at in left:
            loop.append(at)
            at = left.pop(at)
        if at == first:
            loops.append(loop)
    return loops


def _length(points: FloatArray) -> float:
    return float(np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1).sum())


def resampled(points: FloatArray, spacing_mm: float) -> FloatArray:
    """A closed line (n, 3) with points ``spacing_mm`` apart, within rounding to a whole number."""
    steps = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(8, round(along[-1] / spacing_mm))
    at = np.arange(count) * along[-1] / count
    closed = np.concatenate([points, points[:1]])
    return np.stack([np.interp(at, along, closed[:, k]) for k in range(3)], axis=1)
