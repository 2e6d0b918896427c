"""Is the mesh a solid: closed, two-manifold, oriented, one piece, positive volume, without self-intersection.

Euler's number is not asked for: a body with holes has handles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.crossings import crossing_pairs
from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh, Part, Vector, judge

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
    ``pinched_vertices`` join sheets in a single point; ``slivers`` are triangles without height. ``places_mm`` has one place
    for each of these, by its name, where there is one: the middle of an edge or triangle, a vertex.
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
    places_mm: dict[str, Vector]


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
    edges = {"open_edges": uses == 1, "branching_edges": uses > 2, "flipped_edges": (uses == 2) & (ways != 1)}
    pinched = _pinched_vertices(order, starts[uses == 2], directed)
    slivers = _slivers(mesh)
    piece = pieces_of(mesh)
    sizes = np.bincount(piece)
    crossings = crossing_pairs(mesh, tolerance_mm=_CROSSING_MM)
    places = {name: _middle(mesh, directed[order[starts[bad][0]]]) for name, bad in edges.items() if bad.any()}
    if len(pinched):
        places["pinched_vertices"] = _middle(mesh, pinched[:1])
    if len(slivers):
        places["slivers"] = _middle(mesh, faces[slivers[0]])
    if len(sizes) > 1:
        places["pieces"] = _middle(mesh, faces[np.flatnonzero(piece == sizes.argmin())[0]])
    if len(crossings):
        places["crossings"] = _crossing_place(mesh, crossings[0])
    return MeshMeasures(
        triangles=len(faces),
        open_edges=int(np.count_nonzero(edges["open_edges"])),
        branching_edges=int(np.count_nonzero(edges["branching_edges"])),
        flipped_edges=int(np.count_nonzero(edges["flipped_edges"])),
        pinched_vertices=len(pinched),
        slivers=len(slivers),
        pieces=len(sizes),
        volume_mm3=mesh_volume_mm3(mesh),
        crossings=crossings,
        places_mm=places,
    )


def mesh_findings(part: Part, *, pieces: int = 1) -> tuple[Finding, ...]:
    """Judge one part's mesh; ``pieces`` is the declared number of separate bodies."""
    measures = measure_mesh(part.mesh)
    name = part.name
    places = measures.places_mm
    counts = (
        ("open edges", measures.open_edges, "open_edges"),
        ("edges with more than two triangles", measures.branching_edges, "branching_edges"),
        ("edges whose triangles face opposite ways", measures.flipped_edges, "flipped_edges"),
        ("vertices that join sheets in one point", measures.pinched_vertices, "pinched_vertices"),
        ("triangles that pass through others", len(measures.crossings), "crossings"),
    )
    findings = [
        judge("mesh", f"{name}: {what}", value, "", low=0, high=0, hint=_HINT, source=_SOURCE, where_mm=places.get(key))
        for what, value, key in counts
    ]
    findings.append(
        judge(
            "mesh",
            f"{name}: separate pieces",
            measures.pieces,
            "",
            low=pieces,
            high=pieces,
            hint=_HINT,
            source=_SOURCE,
            where_mm=places.get("pieces") if measures.pieces > pieces else None,
        )
    )
    findings.append(
        judge("mesh", f"{name}: volume", measures.volume_mm3, "mm3", low=_LEAST_VOLUME_MM3, hint=_HINT, source=_SOURCE)
    )
    findings.append(
        judge(
            "mesh",
            f"{name}: triangles without height",
            measures.slivers,
            "",
            low=0,
            high=0,
            gate=False,
            source="numerical",
            where_mm=places.get("slivers"),
        )
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


def _pinched_vertices(order: IndexArray, pair_starts: IndexArray, directed: IndexArray) -> IndexArray:
    """(k,) vertices with more than one fan of triangles: corners of a triangle are joined across its two edges at that vertex."""
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
    vertex = np.zeros(fans, dtype=np.int64)
    vertex[fan] = directed[:, 0]  # all corners of a fan lie at one vertex
    return np.flatnonzero(np.bincount(vertex) > 1)


def pieces_of(mesh: Mesh) -> IndexArray:
    """(m,) number of the separate piece that each triangle belongs to, from 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(mesh.vertices_mm)
    rows, columns = mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel()
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    group = connected_components(links, directed=False)[1]
    return np.unique(group[mesh.faces[:, 0]], return_inverse=True)[1].reshape(-1)


def _slivers(mesh: Mesh) -> IndexArray:
    corners = mesh.vertices_mm[mesh.faces]
    sides = corners[:, [1, 2, 0]] - corners
    longest = np.sqrt(np.einsum("ijk,ijk->ij", sides, sides)).max(axis=1, initial=0.0)
    twice_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    return np.flatnonzero(twice_area <= _SLIVER_MM * np.maximum(longest, _SLIVER_MM))


def _crossing_place(mesh: Mesh, pair: IntArray) -> Vector:
    """Middle of where the edges of two triangles pass through each other; of the smaller one where rounding hides that."""
    corners = mesh.vertices_mm[mesh.faces[pair]]
    met: list[FloatArray] = []
    for edges, other in ((corners[0], corners[1]), (corners[1], corners[0])):
        normal = np.cross(other[1] - other[0], other[2] - other[0])
        height = (edges - other[0]) @ normal
        for one, two in ((0, 1), (1, 2), (2, 0)):
            if height[one] * height[two] < 0.0:
                point = edges[one] + height[one] / (height[one] - height[two]) * (edges[two] - edges[one])
                turns = [float(np.cross(other[(k + 1) % 3] - other[k], point - other[k]) @ normal) for k in range(3)]
                if min(turns) >= 0.0:
                    met.append(point)
    place = np.mean(met, axis=0) if met else corners[int(np.argmin(np.ptp(corners, axis=1).max(axis=1)))].mean(axis=0)
    return (float(place[0]), float(place[1]), float(place[2]))


def _middle(mesh: Mesh, vertices: IndexArray) -> Vector:
    x, y, z = mesh.vertices_mm[vertices].mean(axis=0).tolist()
    return (x, y, z)
