"""Faults of shape: walls, size, place and faces of any device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchone.design.booleans import box_solid, difference, solid_from_labelled_mesh, to_mesh, union
from batchone.design.cranial.rays import Scene
from batchone.design.family import Checked
from batchone.pipeline.values import FloatArray, Mesh, Part
from batchone.samples.faulty.case import Seeded, Seeder, face_at, grid_of, middle_of, normals_and_areas, with_part, with_points

_TRIES = 1000
_ANY_MM = 100.0  # a wall may be as thick as this: it need not be even


def scaled(factor: float) -> Seeder:
    """The first part in another unit."""

    def seed(case: Checked) -> Seeded:
        return Seeded(with_points(case, case.device.parts[0].mesh.vertices_mm * factor), None)

    return seed


def moved(direction: FloatArray, distance_mm: float) -> Seeder:
    """The first part a distance away from its place."""
    step = distance_mm * np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)

    def seed(case: Checked) -> Seeded:
        return Seeded(with_points(case, case.device.parts[0].mesh.vertices_mm + step), None)

    return seed


def mirrored() -> Seeder:
    """The first part mirrored left to right in its own box."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        points = part.mesh.vertices_mm.copy()
        points[:, 0] = points[:, 0].min() + points[:, 0].max() - points[:, 0]
        mesh = Mesh(points, np.ascontiguousarray(part.mesh.faces[:, ::-1]))
        return Seeded(with_part(case, replace(part, mesh=mesh)), None)

    return seed


def inside_out() -> Seeder:
    """All triangles run the other way round."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        mesh = Mesh(part.mesh.vertices_mm, np.ascontiguousarray(part.mesh.faces[:, ::-1]))
        return Seeded(with_part(case, replace(part, mesh=mesh)), None)

    return seed


def lost_label(label: str) -> Seeder:
    """The triangles of a functional face carry another label."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        other = next(k for k, name in enumerate(part.labels) if name != label)
        labels = np.where(part.face_labels == part.labels.index(label), other, part.face_labels).astype(np.int16)
        return Seeded(with_part(case, replace(part, face_labels=labels)), None)

    return seed


def fin(thickness_mm: float, place: int, *, side_mm: float = 7.0, height_mm: float = 5.0) -> Seeder:
    """A plate stands on the surface."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        pose, _ = on_surface(part, place)
        half = np.array([0.5 * side_mm, 0.5 * thickness_mm, 0.0])
        plate = box_solid(-half - [0.0, 0.0, 1.0], half + np.array([0.0, 0.0, height_mm]), "fin", pose=pose)
        body = solid_from_labelled_mesh(part.mesh, part.labels, part.face_labels)
        middle = pose[:3, 3] + 0.5 * height_mm * pose[:3, 2]
        where = grid_of(half + np.array([0.0, 0.0, 0.5 * height_mm]), middle, pose[:3, :3])
        return Seeded(with_part(case, _made_of(part, union(body, plate, what="fin"))), where)

    return seed


def dented(wall_mm: float, place: int, *, side_mm: float = 6.0) -> Seeder:
    """A pocket is cut into a wall; ``wall_mm`` are left of it, counted along the normal of one triangle."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        half = np.array([0.5 * side_mm, 0.5 * side_mm, 0.0])
        pose, wall = on_surface(
            part, place, deep_mm=(1.5, 6.0), about_mm=min(half[0], 2.0), pit_mm=(half[0], wall_mm), by_area=True
        )
        tool = box_solid(-half - [0.0, 0.0, wall - wall_mm], half + np.array([0.0, 0.0, 1.0]), "pocket", pose=pose)
        body = solid_from_labelled_mesh(part.mesh, part.labels, part.face_labels)
        floor = pose[:3, 3] - (wall - wall_mm) * pose[:3, 2]
        where = grid_of(half + np.array([0.0, 0.0, wall_mm]), floor, pose[:3, :3])
        return Seeded(with_part(case, _made_of(part, difference(body, tool, what="pocket"))), where)

    return seed


def thinned(wall_mm: float, place: int, *, radius_mm: float = 3.0) -> Seeder:
    """The inner face of an implant bulges outward: so much of its wall is left, 6 mm or more from other faces."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        inner = part.labels.index("inner")
        corners = np.unique(part.mesh.faces[part.face_labels == inner])
        edges = np.unique(part.mesh.faces[~np.isin(part.face_labels, [inner, part.labels.index("outer")])])
        points, (normals, _), scene = part.mesh.vertices_mm.copy(), normals_and_areas(part.mesh), Scene(part.mesh)
        for attempt in range(300):
            face = face_at(part, place + 100 * attempt, only="inner")
            where, normal = middle_of(part.mesh, face), normals[face]
            if np.linalg.norm(points[edges] - where, axis=1).min() < 2.0 * radius_mm:
                continue
            wall = float(scene.meets((where - 1e-3 * normal)[None], -normal[None], 50.0)[0][0])
            near = corners[np.linalg.norm(points[corners] - where, axis=1) < radius_mm]
            share = np.cos(0.5 * np.pi * np.linalg.norm(points[near] - where, axis=1) / radius_mm)[:, None]
            points[near] -= (wall - wall_mm) * np.minimum(1.2 * share, 1.0) * normal
            line = where - np.linspace(0.0, wall, 20)[:, None] * normal
            return Seeded(with_points(case, points), line)
        raise AssertionError("no free place on the inner face")

    return seed


def bar(length_mm: float, place: int) -> Seeder:
    """A bar of 6 mm x 6 mm makes the part longer than its family allows."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        pose, _ = on_surface(part, place)
        tool = box_solid(np.array([-3.0, -3.0, -1.0]), np.array([3.0, 3.0, length_mm]), "bar", pose=pose)
        body = solid_from_labelled_mesh(part.mesh, part.labels, part.face_labels)
        return Seeded(with_part(case, _made_of(part, union(body, tool, what="bar"))), None)

    return seed


def on_surface(
    part: Part,
    place: int,
    *,
    deep_mm: tuple[float, float] = (1.2, 1e3),
    free_mm: float = 8.0,
    about_mm: float = 2.0,
    pit_mm: tuple[float, float] | None = None,
    by_area: bool = False,
) -> tuple[FloatArray, float]:
    """A pose on a triangle, z out of the surface, where the wall is so deep and so much above is free.

    Looked at are its middle and a ring of ``about_mm``. Returns that wall too, mm. Beside a pit of half a side and with
    a floor of ``pit_mm`` the material goes on for 1.25 mm. ``by_area``: wide faces, which have few triangles, come first; where
    no other face will do they are tried too.
    """
    scene, (normals, _) = Scene(part.mesh), normals_and_areas(part.mesh)
    for attempt in range(2 * _TRIES):
        wide = by_area or attempt >= _TRIES
        face = face_at(part, place + 100 * attempt, off=("label", "contact"), most_mm2=50.0, by_area=wide)
        normal, middle = normals[face], middle_of(part.mesh, face)
        first = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
        first /= np.linalg.norm(first)
        second = np.cross(normal, first)
        ring = np.array([middle + about_mm * (np.cos(t) * first + np.sin(t) * second) for t in np.arange(8) * np.pi / 4])
        walls, other = scene.meets(np.vstack([middle, ring]) - 1e-3 * normal, np.tile(-normal, (9, 1)), 100.0)
        above, _ = scene.meets(np.vstack([middle, ring]) + 0.5 * normal, np.tile(normal, (9, 1)), free_mm)
        held = bool((walls > deep_mm[0]).all() and (walls < deep_mm[1]).all())
        even = deep_mm[1] > _ANY_MM or (float(normals[other[0]] @ normal) < -0.9 and float(np.ptp(walls)) < 0.5)
        if held and even and pit_mm is not None:
            turns = np.arange(16) * np.pi / 8
            beside = np.array([np.cos(t) * first + np.sin(t) * second for t in turns])
            depths = np.linspace(0.5, float(walls[0]) - pit_mm[1], 8)
            start = middle - np.repeat(depths, len(turns))[:, None] * normal
            ways, _ = scene.meets(start, np.tile(beside, (len(depths), 1)), 100.0)
            held = bool((ways > np.sqrt(2.0) * pit_mm[0] + 1.25).all())
        if held and even and not np.isfinite(above).any():
            pose = np.eye(4)
            pose[:3, :3] = np.column_stack([first, second, normal])
            pose[:3, 3] = middle
            return pose, float(walls[0])
    raise AssertionError("no free, flat place on the part")


def _made_of(part: Part, solid: object) -> Part:
    mesh, labels, names = to_mesh(solid)  # type: ignore[arg-type]
    return replace(part, mesh=mesh, face_labels=labels, labels=names)
