"""Where a plane cuts a bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.pipeline.values import FloatArray, Mesh


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """The outline in which a plane cuts a surface: points (n, 3) mm on the edges that it crosses, and the area in it."""

    points_mm: FloatArray
    area_mm2: float

    def along(self, direction: FloatArray) -> tuple[float, float]:
        """Least and largest place along a direction (3,), mm from the frame's origin."""
        places = self.points_mm @ direction
        return float(places.min()), float(places.max())


def section(mesh: Mesh, origin_mm: FloatArray, normal: FloatArray) -> Section | None:
    """Cut a closed surface by a plane; None where it misses.

    Of several outlines it is the one nearest to ``origin_mm``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    height = (mesh.vertices_mm - origin_mm) @ normal
    above = height >= 0.0
    crossed = mesh.faces[above[mesh.faces].any(axis=1) & ~above[mesh.faces].all(axis=1)]
    if len(crossed) == 0:
        return None
    high = above[crossed]
    odd = np.where(high.sum(axis=1) == 1, high.argmax(axis=1), (~high).argmax(axis=1))
    rows = np.arange(len(crossed))
    apex, one, two = (crossed[rows, (odd + k) % 3].astype(np.int64) for k in range(3))
    count = len(mesh.vertices_mm)
    keys = np.concatenate([np.minimum(apex, v) * count + np.maximum(apex, v) for v in (one, two)])
    edges, place = np.unique(keys, return_inverse=True)
    a, b = edges // count, edges % count
    share = (height[a] / (height[a] - height[b]))[:, None]
    points = mesh.vertices_mm[a] + share * (mesh.vertices_mm[b] - mesh.vertices_mm[a])
    start, end = place[: len(crossed)], place[len(crossed) :]
    links = coo_array((np.ones(len(crossed), dtype=np.int8), (start, end)), shape=(len(edges),) * 2)
    piece = connected_components(links, directed=False)[1]
    chosen = piece[int(np.argmin(np.linalg.norm(points - origin_mm, axis=1)))]
    own = piece[start] == chosen
    turned = np.where(high[rows, odd], 1.0, -1.0)[own]
    first, second = points[start[own]] - origin_mm, points[end[own]] - origin_mm
    area = 0.5 * abs(float((turned * (np.cross(first, second) @ normal)).sum()))
    return Section(points[piece == chosen], area)
