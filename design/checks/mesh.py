"""Is the mesh a solid: closed, two-manifold, oriented, one piece, positive volume, without self-intersection.

Euler's number is not asked for: a body with holes has handles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.crossings import crossing_pairs
from batchone.design.triangles import by_edge, fans, heights_mm, joined_vertices, moments
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
    faces = mesh.faces
    order, starts = by_edge(mesh)
    uses, first = np.diff(starts), order[starts[:-1]]
    pairs = np.flatnonzero(uses == 2)
    one, other = first[pairs], order[starts[pairs] + 1]
    from_corner, to_corner = faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)
    flipped = np.zeros(len(uses), dtype=np.bool_)
    flipped[pairs] = (from_corner[one] != to_corner[other]) | (from_corner[one] == to_corner[one])
    edges = {"open_edges": uses == 1, "branching_edges": uses > 2, "flipped_edges": flipped}
    pinched = np.flatnonzero(fans(mesh, order, starts) > 1)
    slivers = np.flatnonzero(heights_mm(mesh) <= _SLIVER_MM)
    piece = pieces_of(mesh)
    sizes = np.bincount(piece)
    crossings = crossing_pairs(mesh, tolerance_mm=_CROSSING_MM)
    places = {}
    for name, bad in edges.items():
        if bad.any():
            half = first[np.argmax(bad)]
            places[name] = _middle(mesh, np.array([from_corner[half], to_corner[half]]))
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
    return moments(mesh)[0]


def is_closed(mesh: Mesh) -> bool:
    """Has each edge exactly two triangles, one each way?"""
    if len(mesh.faces) == 0:
        return False
    order, starts = by_edge(mesh)
    if not (np.diff(starts) == 2).all():
        return False
    from_corner, to_corner = mesh.faces.reshape(-1), mesh.faces[:, [1, 2, 0]].reshape(-1)
    there, back = order[0::2], order[1::2]
    return bool(((from_corner[there] == to_corner[back]) & (from_corner[there] != to_corner[there])).all())


def pieces_of(mesh: Mesh) -> IndexArray:
    """(m,) number of the separate piece that each triangle belongs to, from 0, by the least vertex of each."""
    mine = joined_vertices(mesh)[mesh.faces[:, 0]]
    used = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    used[mine] = True
    return (np.cumsum(used) - 1)[mine]


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
