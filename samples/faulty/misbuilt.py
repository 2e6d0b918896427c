"""Faults of shape: walls, size, place and faces of any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from batchone.design.booleans import box_solid, difference, solid_from_labelled_mesh, to_mesh, union
from batchone.design.cranial.rays import Scene
from batchone.design.family import Checked
from batchone.design.nearest import nearest_mm
from batchone.design.triangles import area_vectors
from batchone.pipeline.values import FloatArray, Mesh, Part
from batchone.samples.faulty.case import (
    Seeded,
    Seeder,
    face_at,
    faces_at,
    grid_of,
    middle_of,
    normals_and_areas,
    with_part,
    with_points,
)

_TRIES = 1000  # faces
_LEVEL_MM = 0.5  # from so far above what lies about a place is looked at
_UNEVEN_MM = (0.25, 0.9)  # first a place that is as good as flat, then one on which what is sunk in by 1 mm stands firm
_OFF = ("label", "contact")
_OUTWARD = 0.3  # cosine with the way out from which a face looks outward
_OFF_BONE_MM = 3.0
_BESIDE_MM = 1.0  # what stands on a place keeps so far off all others
_APART_FROM = (("label", 0.0), ("contact", 0.0), ("border", 4.0), ("edge", 4.0))  # and so much more from what fits to a rim
_ROUND = np.array([[np.cos(turn), np.sin(turn)] for turn in np.arange(12) * np.pi / 6.0])
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
        pose, _ = on_surface(case, place, about_mm=3.0)
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
            case, place, deep_mm=(1.5, 6.0), about_mm=min(half[0], 2.0), pit_mm=(half[0], wall_mm), by_area=True
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
        pose, _ = on_surface(case, place)
        tool = box_solid(np.array([-3.0, -3.0, -1.0]), np.array([3.0, 3.0, length_mm]), "bar", pose=pose)
        body = solid_from_labelled_mesh(part.mesh, part.labels, part.face_labels)
        return Seeded(with_part(case, _made_of(part, union(body, tool, what="bar"))), None)

    return seed


def on_surface(
    case: Checked,
    place: int,
    *,
    deep_mm: tuple[float, float] = (1.2, 1e3),
    free_mm: float = 8.0,
    about_mm: float = 2.0,
    pit_mm: tuple[float, float] | None = None,
    by_area: bool = False,
) -> tuple[FloatArray, float]:
    """A pose on a triangle, z out of the surface, where the wall is so deep and so much above is free.

    Looked at are its middle and a ring of ``about_mm``, which should lie level with it, off the label and the bone, and face the
    way out, so that what is put there is all that is wrong. Returns that wall too, mm. Beside a pit of half a side and with a
    floor of ``pit_mm`` the material goes on for 1.25 mm. ``by_area``: wide faces, which have few triangles, come first. Where no
    other face will do wide ones are tried too, and then any.
    """
    part = case.device.parts[0]
    scene, out = Scene(part.mesh), _way_out(case)
    for uneven_mm, wide in ((uneven_mm, wide) for uneven_mm in (*_UNEVEN_MM, None) for wide in sorted({by_area, True})):
        places = _places(part, scene, faces_at(part, place, _TRIES, off=_OFF, most_mm2=50.0, by_area=wide), about_mm)
        for pose, wall in _fair(part, scene, places, deep_mm=deep_mm, free_mm=free_mm, uneven_mm=uneven_mm):
            if uneven_mm and not _in_the_open(case, pose, out, free_mm=free_mm, about_mm=about_mm):
                continue
            if pit_mm is None or _room_for_a_pit(scene, pose, wall, pit_mm):
                return pose, wall
    raise AssertionError("no free, flat place on the part")


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Frames (n, 3, 3) on triangles, z out of the surface, and the middle of each with a ring about it (n, 9, 3), mm."""

    axes: FloatArray
    points_mm: FloatArray

    @property
    def out(self) -> FloatArray:
        """(n * 9, 3) the way out of the surface, for each point."""
        return np.repeat(self.axes[:, :, 2], self.points_mm.shape[1], axis=0)

    def shifted(self, by_mm: float) -> FloatArray:
        """(n * 9, 3) the points, moved outward."""
        return self.points_mm.reshape(-1, 3) + by_mm * self.out


def _places(part: Part, scene: Scene, faces: npt.NDArray[np.intp], about_mm: float) -> _Places:
    normal = scene.areas[faces] / np.linalg.norm(scene.areas[faces], axis=1, keepdims=True)
    middle = part.mesh.vertices_mm[part.mesh.faces[faces]].mean(axis=1)
    first = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal), axis=1)])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normal, first)
    turns = np.arange(8) * np.pi / 4
    ring = np.cos(turns)[None, :, None] * first[:, None] + np.sin(turns)[None, :, None] * second[:, None]
    points = np.concatenate([middle[:, None], middle[:, None] + about_mm * ring], axis=1)
    return _Places(np.stack([first, second, normal], axis=2), points)


def _fair(
    part: Part, scene: Scene, places: _Places, *, deep_mm: tuple[float, float], free_mm: float, uneven_mm: float | None
) -> Iterator[tuple[FloatArray, float]]:
    """Poses of those places that will do, and the walls behind them."""
    shape = places.points_mm.shape[:2]
    below, on = scene.meets(places.shifted(_LEVEL_MM), -places.out, 100.0)
    even = np.abs(below - _LEVEL_MM) < (uneven_mm or _UNEVEN_MM[0])
    surface = places.shifted(0.0) - np.where(even, below - _LEVEL_MM, 0.0)[:, None] * places.out
    walls, other = (one.reshape(shape) for one in scene.meets(surface - 1e-3 * places.out, -places.out, 100.0))
    above = scene.meets(places.shifted(_LEVEL_MM), places.out, free_mm)[1].reshape(shape) >= 0
    good = ((walls > deep_mm[0]) & (walls < deep_mm[1])).all(axis=1) & ~above.any(axis=1)
    if deep_mm[1] <= _ANY_MM:
        normals, _ = normals_and_areas(part.mesh)
        good &= np.einsum("ij,ij->i", normals[other[:, 0]], places.axes[:, :, 2]) < -0.9
        good &= np.ptp(walls, axis=1) < 0.5
    if uneven_mm:
        labelled = np.isin(part.face_labels[on], [k for k, label in enumerate(part.labels) if label in _OFF])
        good &= (even & ~labelled).reshape(shape).all(axis=1)
    for index in np.flatnonzero(good):
        pose = np.eye(4)
        pose[:3, :3] = places.axes[index]
        pose[:3, 3] = places.points_mm[index, 0]
        yield pose, float(walls[index, 0])


def _way_out(case: Checked) -> FloatArray:
    """Unit vector (3,) away from the bone."""
    part = case.device.parts[0]
    names = [axis.name for axis in case.plan.axes if axis.name.startswith("insertion")]
    if not names:
        return np.zeros(3)
    way = np.array(case.plan.axis(names[0]).direction)
    outer = part.face_labels == (part.labels.index("outer") if "outer" in part.labels else -1)
    return way if not outer.any() else way * np.sign(area_vectors(part.mesh)[outer].sum(axis=0) @ way)


def _in_the_open(case: Checked, pose: FloatArray, out: FloatArray, *, free_mm: float, about_mm: float) -> bool:
    """Whether what stands on a place neither looks back at the bone nor comes near to it."""
    if out.any() and float(pose[:3, 2] @ out) < _OUTWARD:
        return False
    steps = np.linspace(1.0, free_mm, 4)
    ring = np.array([[0.0, 0.0], *(about_mm * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]))])
    places = np.array([pose[:3, 3] + pose[:3, :3] @ np.array([*aside, step]) for step in steps for aside in ring])
    near = (nearest_mm(places, bone.mesh, within_mm=_OFF_BONE_MM) for bone in case.anatomy.bones)
    part = case.device.parts[0]
    reach = about_mm + _BESIDE_MM
    about = np.array([pose[:3, 3] + pose[:3, :3] @ np.array([reach * c, reach * s, z]) for c, s in _ROUND for z in steps[1:]])
    free = nearest_mm(about, part.mesh, within_mm=_BESIDE_MM) >= _BESIDE_MM
    if not free.all() or any(_from_label_mm(part, label, pose) <= reach + more for label, more in _APART_FROM):
        return False
    return all(not (away < _OFF_BONE_MM).any() for away in near)


def _from_label_mm(part: Part, label: str, pose: FloatArray) -> float:
    """From a face to the nearest vertex of another; infinite where there is none."""
    if label not in part.labels:
        return np.inf
    vertices = np.unique(part.mesh.faces[part.face_labels == part.labels.index(label)])
    return float(np.linalg.norm(part.mesh.vertices_mm[vertices] - pose[:3, 3], axis=1).min(initial=np.inf))


def _room_for_a_pit(scene: Scene, pose: FloatArray, wall: float, pit_mm: tuple[float, float]) -> bool:
    turns = np.arange(16) * np.pi / 8
    beside = np.cos(turns)[:, None] * pose[:3, 0] + np.sin(turns)[:, None] * pose[:3, 1]
    depths = np.linspace(0.5, wall - pit_mm[1], 8)
    start = pose[:3, 3] - np.repeat(depths, len(turns))[:, None] * pose[:3, 2]
    ways, _ = scene.meets(start, np.tile(beside, (len(depths), 1)), 100.0)
    return bool((ways > np.sqrt(2.0) * pit_mm[0] + 1.25).all())


def _made_of(part: Part, solid: object) -> Part:
    mesh, labels, names = to_mesh(solid)  # type: ignore[arg-type]
    return replace(part, mesh=mesh, face_labels=labels, labels=names)
