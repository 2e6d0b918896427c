"""Faults of the mesh itself: each takes a place (a seed) and gives a seeder for any device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchone.design.cranial.rays import Scene
from batchone.design.family import Checked
from batchone.pipeline.values import FloatArray, IntArray, Part
from batchone.samples.faulty.case import (
    Seeded,
    Seeder,
    face_at,
    middle_of,
    normals_and_areas,
    with_faces,
    with_part,
    with_shell,
)

_TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32)
_CORNERS = np.array([[1.0, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])


def flipped_triangle(place: int) -> Seeder:
    """One triangle runs the other way round."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        face = face_at(part, place)
        faces = part.mesh.faces.copy()
        faces[face] = faces[face, ::-1]
        return Seeded(with_faces(case, faces, part.face_labels), middle_of(part.mesh, face))

    return seed


def pinhole(place: int) -> Seeder:
    """One triangle is missing."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        face = face_at(part, place)
        kept = np.arange(len(part.mesh.faces)) != face
        return Seeded(with_faces(case, part.mesh.faces[kept], part.face_labels[kept]), middle_of(part.mesh, face))

    return seed


def doubled_triangle(place: int) -> Seeder:
    """One triangle is there twice."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        face = face_at(part, place)
        order = np.append(np.arange(len(part.mesh.faces)), face)
        return Seeded(with_faces(case, part.mesh.faces[order], part.face_labels[order]), middle_of(part.mesh, face))

    return seed


def pinched_vertex(place: int) -> Seeder:
    """A grain hangs on the surface by one vertex."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        face = face_at(part, place)
        normal = normals_and_areas(part.mesh)[0][face]
        vertex = int(part.mesh.faces[face, 0])
        foot = part.mesh.vertices_mm[vertex]
        first = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
        first /= np.linalg.norm(first)
        second = np.cross(normal, first)
        ring = [foot + 0.4 * normal + 0.1 * (np.cos(t) * first + np.sin(t) * second) for t in (0.0, 2.1, 4.2)]
        after = len(part.mesh.vertices_mm)
        index = np.array([vertex, after, after + 1, after + 2])
        faces = index[np.array([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]])]
        return Seeded(with_shell(case, np.array(ring), faces), foot)

    return seed


def crossing_shell(place: int) -> Seeder:
    """A grain of 0.6 mm sticks through the surface and was not joined to it."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        middle = middle_of(part.mesh, face_at(part, place))
        return Seeded(_grain(case, middle, 0.3), middle)

    return seed


def pushed_vertex(place: int) -> Seeder:
    """One vertex is pushed through the wall behind it, 0.3 mm out on the other side."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        normals, scene = normals_and_areas(part.mesh)[0], Scene(part.mesh)
        for attempt in range(200):
            face = face_at(part, place + 100 * attempt)
            vertex, normal = int(part.mesh.faces[face, 0]), normals[face]
            start = part.mesh.vertices_mm[vertex] + 1e-3 * (middle_of(part.mesh, face) - part.mesh.vertices_mm[vertex])
            deep = float(scene.meets((start - 1e-3 * normal)[None], -normal[None], 500.0)[0][0])
            if 1.0 < deep < 30.0:
                points = part.mesh.vertices_mm.copy()
                through = points[vertex] - deep * normal
                points[vertex] -= (deep + 0.3) * normal
                return Seeded(with_part(case, replace(part, mesh=replace(part.mesh, vertices_mm=points))), through)
        raise AssertionError("no wall in the part")

    return seed


def island(place: int) -> Seeder:
    """A grain of 0.5 mm lies 6 mm off the surface or more."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        normals, _ = normals_and_areas(part.mesh)
        for attempt in range(100):
            face = face_at(part, place + 100 * attempt)
            middle = middle_of(part.mesh, face) + 6.0 * normals[face]
            if not _held(part, middle) and np.linalg.norm(part.mesh.vertices_mm - middle, axis=1).min() > 3.0:
                return Seeded(_grain(case, middle, 0.25), middle)
        raise AssertionError("no free place beside the part")

    return seed


def trapped_cavity(place: int) -> Seeder:
    """A closed cavity of about 0.3 mm in the middle of a wall."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        for attempt in range(200):
            face = face_at(part, place + 100 * attempt)
            middle, deep = _behind(part, face)
            inside = middle - 0.5 * deep * normals_and_areas(part.mesh)[0][face]
            if deep > 1.8 and np.linalg.norm(part.mesh.vertices_mm - inside, axis=1).min() > 0.6:
                return Seeded(_grain(case, inside, 0.15, outward=False), inside)
        raise AssertionError("no thick place in the part")

    return seed


def touching_shell(place: int) -> Seeder:
    """A grain lies with one of its faces on a triangle of the part, and shares no vertex with it."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        face = face_at(part, place)
        corners = part.mesh.vertices_mm[part.mesh.faces[face]]
        top = corners.mean(axis=0) + 0.4 * normals_and_areas(part.mesh)[0][face]
        faces = len(part.mesh.vertices_mm) + np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32)
        return Seeded(with_shell(case, np.vstack([corners, top]), faces), middle_of(part.mesh, face))

    return seed


def double_face(place: int) -> Seeder:
    """One triangle is there twice, with vertices of its own, and faces the other way."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        face = face_at(part, place)
        corners = part.mesh.vertices_mm[part.mesh.faces[face]]
        return Seeded(with_shell(case, corners, len(part.mesh.vertices_mm) + np.array([[2, 1, 0]])), corners.mean(axis=0))

    return seed


def sliver(place: int) -> Seeder:
    """An edge has a vertex in its middle, and a triangle without height closes it."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        face = face_at(part, place)
        a, b, c = (int(vertex) for vertex in part.mesh.faces[face])
        middle = 0.5 * (part.mesh.vertices_mm[a] + part.mesh.vertices_mm[b])
        new = len(part.mesh.vertices_mm)
        added = with_shell(case, middle[None], np.array([[new, b, c], [a, b, new]]))
        faces = added.device.parts[0].mesh.faces.copy()
        faces[face] = (a, new, c)
        return Seeded(with_faces(added, faces, added.device.parts[0].face_labels), middle)

    return seed


def _grain(case: Checked, middle_mm: FloatArray, radius_mm: float, *, outward: bool = True) -> Checked:
    points = middle_mm + radius_mm / np.sqrt(3.0) * _CORNERS
    volume = np.einsum("ij,ij->i", (points - middle_mm)[_TETRAHEDRON[:, 0]], np.cross(*(
        (points - middle_mm)[_TETRAHEDRON[:, k]] for k in (1, 2)
    ))).sum()  # fmt: skip
    faces: IntArray = _TETRAHEDRON if (volume > 0.0) is outward else np.ascontiguousarray(_TETRAHEDRON[:, ::-1])
    return with_shell(case, points, faces + len(case.device.parts[0].mesh.vertices_mm))


def _behind(part: Part, face: int) -> tuple[FloatArray, float]:
    """Middle of a triangle and the wall behind it, mm."""
    normal, middle = normals_and_areas(part.mesh)[0][face], middle_of(part.mesh, face)
    found, _ = Scene(part.mesh).meets((middle - 1e-3 * normal)[None], -normal[None], 500.0)
    return middle, float(found[0])


def _held(part: Part, point_mm: FloatArray) -> bool:
    return bool(Scene(part.mesh).holds(point_mm[None], np.array([0.0, 0.0, 1.0]))[0])
