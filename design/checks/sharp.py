"""Edges and points that could cut tissue or glove.

A tip no longer than a fine print's own roughness is blunted by printing and blasting, so short edges do not count. Where
triangles form a sharp edge or point it is asked how much of a small ball about it is material: a triangle that is folded over by
some micrometres looks like an edge of 0 degrees and cuts nothing. Edges between two faces of an engraved label lie below.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.design.cranial.columns import on_the_way
from batchone.design.cranial.rays import Scene
from batchone.design.triangles import area_vectors, by_edge
from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh, Part, Vector, judge

SHARP_DEG = 30.0  # material between two faces: a chisel is ground to about this; project default, unverified
EDGE_MM = 0.5  # shorter edges are blunted by printing and blasting; project default, unverified
BALL_MM = 0.15  # radius within which an edge must be sharp: as blasting rounds it, or layers do; project default, unverified
_MOST_SHARE = 1.5 * SHARP_DEG / 360.0  # numerical: a ball with more material than half again such an edge's lies about none
_APART_MM = 0.5  # numerical: places along an edge that are asked
_ACROSS = 8  # numerical: points across the ball, an even number: none lies on the edge
POINT_SR = 2.0 * np.pi * (1.0 - np.cos(np.radians(0.5 * SHARP_DEG)))  # solid angle of a cone as pointed as such an edge
POINT_MM = 0.3  # a point counts where all of its edges are so long; project default, unverified
_UP = np.array([0.0, 0.0, 1.0])
_LABEL = "label"  # engraved letters: a W has 27 degrees between its strokes
_SOURCE = f"no edge or point of less than {SHARP_DEG:g} deg: project default, unverified"
_HINT = "round or thicken it: change the parameter set last and design again"


def sharp_findings(part: Part) -> tuple[Finding, ...]:
    """The longest sharp edge, mm, and the number of sharp points; open edges have no angle and are the mesh's matter."""
    ends, length, inner, faces = edges_of(part)
    turned = (inner < np.radians(SHARP_DEG)) & ~_engraved(part, faces)
    cutting = _cutting_mm(part.mesh, ends[turned], length[turned])
    edge_mm, edge_at = _longest(part, ends[turned][cutting > 0.0], cutting[cutting > 0.0])
    points = points_of(part, ends, length, inner)
    points = points[_share(part.mesh, part.mesh.vertices_mm[points]) < _MOST_SHARE]
    point_at = _vector(part.mesh.vertices_mm[points[0]]) if len(points) else None
    return (
        judge(
            "sharp", f"{part.name}: longest edge sharper than {SHARP_DEG:g} deg", edge_mm, "mm",
            high=EDGE_MM, hint=_HINT, source=_SOURCE, where_mm=edge_at,
        ),
        judge(
            "sharp", f"{part.name}: points sharper than {SHARP_DEG:g} deg", len(points), "",
            low=0, high=0, hint=_HINT, source=_SOURCE, where_mm=point_at,
        ),
    )  # fmt: skip


def _engraved(part: Part, faces: IntArray) -> npt.NDArray[np.bool_]:
    """(e,) whether both triangles (e, 2) of an edge are of the label."""
    if _LABEL not in part.labels:
        return np.zeros(len(faces), dtype=np.bool_)
    return np.asarray((part.face_labels[faces] == part.labels.index(_LABEL)).all(axis=1))


def edges_of(part: Part) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """Ends (e, 2), length (e,) mm, angle of the material (e,) rad, 0 to 2 pi, and triangles (e, 2) of each edge between two."""
    mesh = part.mesh
    order, starts = by_edge(mesh)
    pairs = starts[:-1][np.diff(starts) == 2]
    first, second = order[pairs], order[pairs + 1]
    areas = area_vectors(mesh)
    normals = areas / np.maximum(np.linalg.norm(areas, axis=1, keepdims=True), 1e-30)
    ends = np.column_stack([mesh.faces.reshape(-1)[first], mesh.faces[:, [1, 2, 0]].reshape(-1)[first]])
    along = mesh.vertices_mm[ends[:, 1]] - mesh.vertices_mm[ends[:, 0]]
    length = np.linalg.norm(along, axis=1)
    one, other = normals[first // 3], normals[second // 3]
    sine = np.einsum("ij,ij->i", np.cross(one, other), along) / np.maximum(length, 1e-30)
    turned = np.arctan2(sine, np.einsum("ij,ij->i", one, other))  # above 0: the faces fall away from each other
    return ends, length, np.asarray(np.pi - turned), np.column_stack([first // 3, second // 3])


def _cutting_mm(mesh: Mesh, ends: IntArray, length: FloatArray) -> FloatArray:
    """(e,) how much of each edge has so little material about it, mm."""
    if len(ends) == 0:
        return length
    count = np.maximum(np.ceil(length / _APART_MM), 1.0).astype(np.int64)
    edge = np.repeat(np.arange(len(ends)), count)
    share = (np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + 0.5) / count[edge]
    start, end = mesh.vertices_mm[ends[edge, 0]], mesh.vertices_mm[ends[edge, 1]]
    thin = _share(mesh, start + share[:, None] * (end - start)) < _MOST_SHARE
    return length * np.bincount(edge, weights=thin, minlength=len(ends)) / count


def _share(mesh: Mesh, places_mm: FloatArray) -> FloatArray:
    """(n,) how much of a small ball about each place (n, 3) is material."""
    if len(places_mm) == 0:
        return np.empty(0)
    shift = np.round(mesh.vertices_mm.mean(axis=0))  # rays are fine near the origin
    local = Mesh(mesh.vertices_mm - shift, mesh.faces)
    ball = _ball()
    points = ((places_mm - shift)[:, None] + ball).reshape(-1, 3)
    return np.asarray(Scene(on_the_way(local, points, _UP)).holds(points, _UP).reshape(-1, len(ball)).mean(axis=1))


def _ball() -> FloatArray:
    """(n, 3) points evenly in the ball about the origin."""
    steps = (np.arange(_ACROSS) - 0.5 * (_ACROSS - 1)) / (0.5 * _ACROSS)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    return BALL_MM * cube[np.linalg.norm(cube, axis=1) <= 1.0]


def _longest(part: Part, ends: IntArray, length: FloatArray) -> tuple[float, Vector | None]:
    """Length of the longest chain of edges that share vertices, and the middle of its longest edge."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(ends) == 0:
        return 0.0, None
    count = len(part.mesh.vertices_mm)
    links = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    chain = connected_components(links, directed=False)[1][ends[:, 0]]
    total = np.bincount(chain, weights=length)
    worst = int(np.argmax(total))
    mine = np.flatnonzero(chain == worst)
    edge = ends[mine[int(np.argmax(length[mine]))]]
    return float(total[worst]), _vector(part.mesh.vertices_mm[edge].mean(axis=0))


def points_of(part: Part, ends: IntArray, length: FloatArray, inner: FloatArray) -> npt.NDArray[np.signedinteger]:
    """Vertices at which the solid angle of the material is small, and all edges are long: Girard's theorem on the fan."""
    count = len(part.mesh.vertices_mm)
    both = np.concatenate([ends[:, 0], ends[:, 1]])
    fan = np.bincount(both, minlength=count)
    triangles = np.bincount(part.mesh.faces.ravel(), minlength=count)
    angle = np.bincount(both, weights=np.tile(inner, 2), minlength=count) - (fan - 2.0) * np.pi
    shortest = np.full(count, np.inf)
    np.minimum.at(shortest, both, np.tile(length, 2))
    whole = (fan >= 3) & (fan == triangles)  # an open fan has no solid angle
    return np.flatnonzero(whole & (angle > 0.0) & (angle < POINT_SR) & (shortest >= POINT_MM))


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))
