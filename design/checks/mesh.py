"""Is the mesh a solid: closed, two-manifold, oriented, one piece, positive volume, without self-intersection.

Euler's number is not asked for: a body with holes has handles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.crossings import crossing_pairs
from batchone.pipeline.values import Finding, IntArray, Mesh, Part, Vector, judge

IndexArray = npt.NDArray[np.signedinteger]

_SOURCE = "closed, two-manifold, oriented, no self-intersection, pieces as declared: Netfabb repair criteria"
_HINT = "the body was not built as a solid: change the parameter set last and design again"
# numerical: a crossing less deep than this is rounding: single precision of the files that leave steps by 3e-5 mm at 0.5 m
_CROSSING_MM = 1e-4
_LEAST_VOLUME_MM3 = 1e-3  # numerical: more than 0
_SLIVER_MM = 1e-7  # numerical: a triangle of less height has lost its normal


@dataclass(frozen=True, slots=True)
class MeshMeasures:
    """What was counted on a mesh.

    ``open_edges`` have one triangle, ``branching_edges`` more than two, ``flipped_edges`` two that run the same way;
    ``pinched_vertices`` join sheets in a single point; ``slivers`` are triangles without height.
    """

    triangles: int
    open_edges: int
    branching_edges: int
    flipped_edges: int
    pinched_vertices: int
    slivers: int
    pieces: int
    volume_mm3: float
    crossings: IntArray


def measure_mesh(mesh: Mesh) -> MeshMeasures:
    """Count everything that a solid must not have."""
    faces = mesh.faces.astype(np.int64)
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = len(mesh.vertices_mm)
    undirected = np.sort(directed, axis=1) @ np.array([count, 1])
    forward = directed[:, 0] < directed[:, 1]
    order = np.argsort(undirected, kind="stable")
    keys = undirected[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.empty(0, dtype=np.int64)
    uses = np.diff(np.r_[starts, len(keys)])
    ways = np.add.reduceat(forward[order].astype(np.int64), starts) if len(starts) else uses
    return MeshMeasures(
        triangles=len(faces),
        open_edges=int(np.count_nonzero(uses == 1)),
        branching_edges=int(np.count_nonzero(uses > 2)),
        flipped_edges=int(np.count_nonzero((uses == 2) & (ways != 1))),
        pinched_vertices=_pinched_vertices(order, starts[uses == 2], directed),
        slivers=_slivers(mesh),
        pieces=_pieces(mesh),
        volume_mm3=mesh_volume_mm3(mesh),
        crossings=crossing_pairs(mesh, tolerance_mm=_CROSSING_MM),
    )


def mesh_findings(part: Part, *, pieces: int = 1) -> tuple[Finding, ...]:
    """Judge one part's mesh; ``pieces`` is the declared number of separate bodies."""
    measures = measure_mesh(part.mesh)
    name = part.name
    counts = (
        ("open edges", measures.open_edges),
        ("edges with more than two triangles", measures.branching_edges),
        ("edges whose triangles face opposite ways", measures.flipped_edges),
        ("vertices that join sheets in one point", measures.pinched_vertices),
        ("triangles that pass through others", len(measures.crossings)),
    )
    where = _centroid(part.mesh, int(measures.crossings[0, 0])) if len(measures.crossings) else None
    findings = [
        judge("mesh", f"{name}: {what}", value, "", low=0, high=0, hint=_HINT, source=_SOURCE, where_mm=where if value else None)
        for what, value in counts
    ]
    findings.append(
        judge("mesh", f"{name}: separate pieces", measures.pieces, "", low=pieces, high=pieces, hint=_HINT, source=_SOURCE)
    )
    findings.append(
        judge("mesh", f"{name}: volume", measures.volume_mm3, "mm3", low=_LEAST_VOLUME_MM3, hint=_HINT, source=_SOURCE)
    )
    findings.append(
        judge("mesh", f"{name}: triangles without height", measures.slivers, "", low=0, high=0, gate=False, source="numerical")
    )
    return tuple(findings)


def mesh_volume_mm3(mesh: Mesh) -> float:
    """Signed volume of a closed mesh, mm3; summed about the middle of its box."""
    if len(mesh.faces) == 0:
        return 0.0
    middle = 0.5 * (mesh.vertices_mm.min(axis=0) + mesh.vertices_mm.max(axis=0))
    corners = (mesh.vertices_mm - middle)[mesh.faces]
    return float(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0)


def is_closed(mesh: Mesh) -> bool:
    """Has each edge exactly two triangles, one each way?"""
    if len(mesh.faces) == 0:
        return False
    faces = mesh.faces.astype(np.int64)
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = len(mesh.vertices_mm)
    there = np.sort(directed @ np.array([count, 1]))
    back = np.sort(directed @ np.array([1, count]))
    return bool(np.array_equal(there, back) and (there[1:] != there[:-1]).all())


def _pinched_vertices(order: IndexArray, pair_starts: IndexArray, directed: IndexArray) -> int:
    """Vertices whose triangles form more than one fan: corners of a triangle are joined across its two edges at that vertex."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = order[pair_starts], order[pair_starts + 1]
    corners = len(directed)  # half edge h of triangle t starts at corner h, and ends at the next corner of t
    following = np.arange(corners).reshape(-1, 3)[:, [1, 2, 0]].ravel()
    opposite = directed[first, 0] == directed[second, 1]
    start_of_second = np.where(opposite, following[second], second)
    end_of_second = np.where(opposite, second, following[second])
    rows = np.concatenate([first, following[first]])
    columns = np.concatenate([start_of_second, end_of_second])
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(corners, corners))
    fans, fan = connected_components(links, directed=False)
    del fan
    used = np.zeros(int(directed.max()) + 1, dtype=np.bool_)
    used[directed[:, 0]] = True
    return int(fans - np.count_nonzero(used))


def _pieces(mesh: Mesh) -> int:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(mesh.vertices_mm)
    rows, columns = mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel()
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    group = connected_components(links, directed=False)[1]
    return int(np.count_nonzero(np.bincount(group[mesh.faces[:, 0]])))


def _slivers(mesh: Mesh) -> int:
    corners = mesh.vertices_mm[mesh.faces]
    sides = corners[:, [1, 2, 0]] - corners
    longest = np.sqrt(np.einsum("ijk,ijk->ij", sides, sides)).max(axis=1, initial=0.0)
    twice_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    return int(np.count_nonzero(twice_area <= _SLIVER_MM * np.maximum(longest, _SLIVER_MM)))


def _centroid(mesh: Mesh, face: int) -> Vector:
    point = mesh.vertices_mm[mesh.faces[face]].mean(axis=0)
    return (float(point[0]), float(point[1]), float(point[2]))
