"""Faulty parts, each made from a good one with a single seeded fault, and where that fault lies.

Tests and benchmarks hold every check against them: a fault must be found by the check named here, within 1 mm of its place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from batchone.pipeline.values import FloatArray, IntArray, Mesh, Part, Vector

_LENGTH_MM = 0.6  # size of the seeded shards: all of one lies within 1 mm of its middle
_INSIDE_MM = 1.0  # how deep below the surface a seeded cavity begins
_TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32)  # outward, with corner 3 above 0, 1, 2


@dataclass(frozen=True, slots=True)
class Fault:
    """A part with one fault.

    Attributes
    ----------
    kind
        What was done, in words.
    check
        The check that must find it.
    part
        The faulty part.
    region_mm
        (k, 3) corners of the triangles that were changed; None where the whole part is wrong.
    """

    kind: str
    check: str
    part: Part
    region_mm: FloatArray | None

    def distance_mm(self, where_mm: Vector) -> float:
        """Distance of a finding's place from the box around the fault; 0 where the whole part is wrong."""
        if self.region_mm is None:
            return 0.0
        point = np.array(where_mm)
        outside = np.maximum(0.0, np.maximum(self.region_mm.min(axis=0) - point, point - self.region_mm.max(axis=0)))
        return float(np.linalg.norm(outside))


def faults(part: Part, *, places: int, seed: int) -> tuple[Fault, ...]:
    """Seed every kind of fault in a good part.

    Kinds with a place are seeded at ``places`` triangles, drawn from ``seed`` in the larger half; the others once.
    """
    triangles = _places(part.mesh, places, np.random.default_rng(seed))
    here = tuple(make(part, int(triangle)) for make in KINDS for triangle in triangles)
    return (*here, *(make(part) for make in WHOLE_KINDS))


def table() -> str:
    """All kinds of fault, and the check that is there for each, as a table in Markdown."""
    corners = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    mesh = Mesh(corners, _TETRAHEDRON)
    part = Part("part", mesh, np.zeros(4, dtype=np.int16), ("body",))
    seeded = [*((make.__doc__, make(part, 0)) for make in KINDS), *((make.__doc__, make(part)) for make in WHOLE_KINDS)]
    rows = [f"| {fault.kind} | {text} | {fault.check} |" for text, fault in seeded]
    return "\n".join(["| Fault | What is wrong | Found by |", "|---|---|---|", *rows]) + "\n"


def flipped_triangle(part: Part, triangle: int) -> Fault:
    """One triangle faces inward."""
    faces = part.mesh.faces.copy()
    faces[triangle] = faces[triangle, ::-1]
    return Fault("flipped triangle", "mesh", _with(part, part.mesh.vertices_mm, faces), _corners(part, triangle))


def pinhole(part: Part, triangle: int) -> Fault:
    """One triangle is missing."""
    kept = np.arange(len(part.mesh.faces)) != triangle
    mesh = Mesh(part.mesh.vertices_mm, part.mesh.faces[kept])
    return Fault("pinhole", "mesh", replace(part, mesh=mesh, face_labels=part.face_labels[kept]), _corners(part, triangle))


def doubled_triangle(part: Part, triangle: int) -> Fault:
    """One triangle stands twice, with the same vertices."""
    faces = np.vstack([part.mesh.faces, part.mesh.faces[triangle : triangle + 1]])
    return Fault("doubled triangle", "mesh", _with(part, part.mesh.vertices_mm, faces), _corners(part, triangle))


def double_face(part: Part, triangle: int) -> Fault:
    """One triangle stands twice, with vertices of its own, facing the other way."""
    corners = _corners(part, triangle)
    return Fault("double face", "coincident", _added(part, corners, np.array([[2, 1, 0]], dtype=np.int32)), corners)


def touching_shell(part: Part, triangle: int) -> Fault:
    """A body of its own rests on one triangle, face to face."""
    corners = _corners(part, triangle)
    body = np.vstack([corners, corners.mean(axis=0) + _LENGTH_MM * _normal(part, triangle)])
    return Fault("touching shells", "coincident", _added(part, body, _TETRAHEDRON), body)


def floating_shard(part: Part, triangle: int) -> Fault:
    """A small body hangs outside of the part, clear of everything."""
    middle = part.mesh.vertices_mm.max(axis=0) + 1.0
    body = _shard(middle + 0.5 * (_corners(part, triangle).mean(axis=0) - middle) * np.array([0.0, 0.0, 1.0]))
    return Fault("floating shard", "mesh", _added(part, body, _TETRAHEDRON), body)


def crossing_shard(part: Part, triangle: int) -> Fault:
    """A small body sticks through the surface."""
    body = _shard(_corners(part, triangle).mean(axis=0))
    return Fault("crossing shells", "mesh", _added(part, body, _TETRAHEDRON), np.vstack([body, _corners(part, triangle)]))


def trapped_cavity(part: Part, triangle: int) -> Fault:
    """A closed cavity just below the surface."""
    hollow = _shard(_corners(part, triangle).mean(axis=0) - _INSIDE_MM * _normal(part, triangle))
    return Fault("trapped cavity", "cavities", _added(part, hollow, _TETRAHEDRON[:, ::-1]), hollow)


def sliver(part: Part, triangle: int) -> Fault:
    """An edge has a vertex in its middle, and a triangle without height to close it."""
    a, b, c = (int(vertex) for vertex in part.mesh.faces[triangle])
    middle = len(part.mesh.vertices_mm)
    vertices = np.vstack([part.mesh.vertices_mm, part.mesh.vertices_mm[[a, b]].mean(axis=0)])
    faces = np.vstack([part.mesh.faces, [[middle, b, c], [a, b, middle]]]).astype(np.int32)
    faces[triangle] = (a, middle, c)
    return Fault("triangle without height", "mesh", _with(part, vertices, faces), _corners(part, triangle))


def pinched_vertex(part: Part, triangle: int) -> Fault:
    """A small body hangs on one vertex of the part."""
    vertex = int(part.mesh.faces[triangle, 0])
    body = part.mesh.vertices_mm[vertex] + _LENGTH_MM * np.array(
        [[0.0, 0.0, 0.0], [1.0, 0.2, 0.0], [0.2, 1.0, 0.0], [0.3, 0.3, 1.0]]
    )
    faces = _TETRAHEDRON + len(part.mesh.vertices_mm) - 1
    faces[_TETRAHEDRON == 0] = vertex
    mesh = np.vstack([part.mesh.vertices_mm, body[1:]])
    return Fault("pinched vertex", "mesh", _with(part, mesh, np.vstack([part.mesh.faces, faces])), body)


def inside_out(part: Part) -> Fault:
    """Every triangle faces inward."""
    return Fault("inside out", "mesh", _with(part, part.mesh.vertices_mm, part.mesh.faces[:, ::-1]), None)


def wrong_units(part: Part) -> Fault:
    """Inches were taken for millimetres."""
    return Fault("wrong units", "walls", _with(part, part.mesh.vertices_mm / 25.4, part.mesh.faces), None)


KINDS: tuple[Callable[[Part, int], Fault], ...] = (
    flipped_triangle,
    pinhole,
    doubled_triangle,
    double_face,
    touching_shell,
    floating_shard,
    crossing_shard,
    trapped_cavity,
    sliver,
    pinched_vertex,
)
WHOLE_KINDS: tuple[Callable[[Part], Fault], ...] = (inside_out, wrong_units)


def _places(mesh: Mesh, count: int, random: np.random.Generator) -> IntArray:
    corners = mesh.vertices_mm[mesh.faces]
    twice_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return random.choice(np.flatnonzero(twice_area >= np.median(twice_area)), count, replace=False).astype(np.int32)


def _with(part: Part, vertices_mm: FloatArray, faces: IntArray) -> Part:
    """The part with another mesh; triangles that were added bear the first label."""
    labels = np.zeros(len(faces), dtype=part.face_labels.dtype)
    labels[: len(part.face_labels)] = part.face_labels
    return replace(part, mesh=Mesh(vertices_mm, np.ascontiguousarray(faces, dtype=np.int32)), face_labels=labels)


def _added(part: Part, vertices_mm: FloatArray, faces: IntArray) -> Part:
    vertices = np.vstack([part.mesh.vertices_mm, vertices_mm])
    return _with(part, vertices, np.vstack([part.mesh.faces, faces + len(part.mesh.vertices_mm)]))


def _corners(part: Part, triangle: int) -> FloatArray:
    return np.asarray(part.mesh.vertices_mm[part.mesh.faces[triangle]])


def _normal(part: Part, triangle: int) -> FloatArray:
    a, b, c = _corners(part, triangle)
    cross = np.cross(b - a, c - a)
    return np.asarray(cross / np.linalg.norm(cross))


def _shard(middle_mm: FloatArray) -> FloatArray:
    """(4, 3) corners of a small tetrahedron about a point, for the faces of ``_TETRAHEDRON``."""
    unit = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.1], [0.1, 1.0, 0.0], [0.2, 0.3, 1.0]])
    return np.asarray(middle_mm + _LENGTH_MM * (unit - unit.mean(axis=0)))


if __name__ == "__main__":
    sys.stdout.write(table())
