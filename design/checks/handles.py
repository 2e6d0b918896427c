"""Is the part as often pierced as its family declares: a way through that nobody ordered, or one that has been lost.

Euler's number alone is not asked for: a body with holes has handles (genus), and the family knows how many.
"""

from __future__ import annotations

import numpy as np

from batchone.design.checks.wedges import OPENINGS
from batchone.design.triangles import by_edge
from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh, Part, Vector, judge

_WALKED, _TRIED = 6, 8  # numerical: loops that are walked along, and vertices tried on each


def handle_findings(part: Part) -> tuple[Finding, ...]:
    """Handles of a part against what its family declares; none where it does not."""
    if part.handles is None:
        return ()
    found = handles_of(part.mesh)
    where = stray_handle(part) if found > part.handles else None
    return (
        judge(
            "handles", f"{part.name}: ways through it (handles)", found, "",
            low=part.handles, high=part.handles,
            hint="a hole that was not ordered, or one that is shut: change the parameter set last",
            source="as its family declares: its openings, and the loops of its body", where_mm=where,
        ),
    )  # fmt: skip


def handles_of(mesh: Mesh) -> int:
    """Genus of a closed surface, its pieces together: half of 2 pieces - Euler's number."""
    from batchone.design.checks.mesh import pieces_of

    if len(mesh.faces) == 0:
        return 0
    used = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    used[mesh.faces] = True
    euler = int(np.count_nonzero(used)) - (len(by_edge(mesh)[1]) - 1) + len(mesh.faces)
    return int(pieces_of(mesh).max()) + 1 - euler // 2


def stray_handle(part: Part) -> Vector | None:
    """Middle of the shortest loop found that cannot be drawn together and touches no declared opening; None where there is none.

    A tree of shortest ways from a vertex and a tree of the triangles beside the rest leave two edges for each handle, each of
    which closes a loop through that vertex (tree and cotree). Loops through a hole's wall are short, so each first loop is walked
    along, and its vertices are tried.
    """
    mesh = part.mesh
    opening = np.array([label.startswith(OPENINGS) for label in part.labels])
    taken = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    taken[mesh.faces[opening[part.face_labels]]] = True
    surface = _surface(mesh)
    if surface is None:
        return None

    def free(root: int) -> list[IntArray]:
        return sorted((one for one in _loops(mesh, surface, root) if not taken[one].any()), key=lambda one: _length(mesh, one))

    first = free(int(mesh.faces[np.argmin(taken[mesh.faces].sum(axis=1)), 0]))
    roots = [int(v) for one in first[:_WALKED] for v in one[:: max(1, len(one) // _TRIED)]]
    found = first + [one for root in roots for one in free(root)[:1]]
    if not found:
        return None
    best = min(found, key=lambda one: _length(mesh, one))
    x, y, z = mesh.vertices_mm[best].mean(axis=0).tolist()
    return (x, y, z)


def _length(mesh: Mesh, loop: IntArray) -> float:
    points = mesh.vertices_mm[loop]
    return float(np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum())


def _surface(mesh: Mesh) -> tuple[IntArray, IntArray, FloatArray] | None:
    """Ends (e, 2), triangles (e, 2) and length (e,) of the edges; None where the mesh is open or branches."""
    order, starts = by_edge(mesh)
    if (np.diff(starts) != 2).any():
        return None
    one, other = order[0::2], order[1::2]
    ends = np.column_stack([mesh.faces.reshape(-1)[one], mesh.faces[:, [1, 2, 0]].reshape(-1)[one]])
    length = np.linalg.norm(mesh.vertices_mm[ends[:, 0]] - mesh.vertices_mm[ends[:, 1]], axis=1) + 1e-9
    beside = np.column_stack([one // 3, other // 3])
    return ends.astype(np.int32), beside.astype(np.int32), np.asarray(length)


def _loops(mesh: Mesh, surface: tuple[IntArray, IntArray, FloatArray], root: int) -> list[IntArray]:
    """Loops of vertices, two for each handle, through a vertex or from where they leave the ways from it."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

    ends, beside, length = surface
    count = len(mesh.vertices_mm)
    graph = coo_array((length, (ends[:, 0], ends[:, 1])), shape=(count, count)).tocsr()
    away, before = dijkstra(graph, directed=False, indices=root, return_predecessors=True)
    rest = np.flatnonzero((before[ends[:, 0]] != ends[:, 1]) & (before[ends[:, 1]] != ends[:, 0]))
    weight = 1.0 / (1.0 + away[ends[rest]].sum(axis=1) + length[rest])  # short loops are left over
    few, many = beside[rest].min(axis=1), beside[rest].max(axis=1)
    spanned = minimum_spanning_tree(coo_array((weight, (few, many)), shape=(len(mesh.faces),) * 2)).tocoo()
    row, column = spanned.row.astype(np.int64), spanned.col.astype(np.int64)  # products of 46,341 triangles and more are long
    held = np.minimum(row, column) * len(mesh.faces) + np.maximum(row, column)
    left = rest[~np.isin(few.astype(np.int64) * len(mesh.faces) + many, held)]
    return [_closed(before, int(ends[e, 0]), int(ends[e, 1])) for e in left]


def _closed(before: IntArray, one: int, other: int) -> IntArray:
    """The way from one vertex to another through the tree, from where their ways to its root part."""
    ways = []
    for vertex in (one, other):
        way = [vertex]
        while before[way[-1]] >= 0:
            way.append(int(before[way[-1]]))
        ways.append(way[::-1])
    shared = 0
    while shared < min(len(ways[0]), len(ways[1])) and ways[0][shared] == ways[1][shared]:
        shared += 1
    return np.array([*ways[0][shared - 1 :], *ways[1][shared:][::-1]], dtype=np.int32)
