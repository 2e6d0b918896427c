"""Faults that only their own checks see: gaps, pins, points, wedges, narrow holes, channels, rooms with a neck, stray ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from manifold3d import Manifold

from batchone.design.booleans import (
    Solid,
    box_solid,
    difference,
    moved,
    solid_from_labelled_mesh,
    solid_from_mesh,
    to_mesh,
    union,
)
from batchone.design.cranial.rays import Scene
from batchone.design.family import Checked
from batchone.pipeline.values import FloatArray, FunctionalFace, Mesh, Part
from batchone.samples.faulty.case import Seeded, Seeder, grid_of, with_part
from batchone.samples.faulty.misbuilt import on_surface

_ROUND = 48  # segments of round tools


def pierced(diameter_mm: float, place: int, label: str = "way") -> Seeder:
    """A hole leads through a wall: one that nobody ordered, or by its label an opening."""

    def seed(case: Checked) -> Seeded:
        try:
            pose, wall = on_surface(case, place, deep_mm=(1.2, 12.0), about_mm=diameter_mm, by_area=True)
        except AssertionError:  # no even wall: any
            pose, wall = on_surface(case, place, deep_mm=(1.2, 150.0), about_mm=diameter_mm)
        tool = _cylinder(0.5 * diameter_mm, -wall - 1.0, 2.0, label, pose)
        line = pose[:3, 3] - np.arange(0.0, wall, 0.2)[:, None] * pose[:3, 2]  # a long hole has its place all along
        return Seeded(_declared(_cut(case, tool), through=label != "way"), line)

    return seed


def twin_fins(gap_mm: float, place: int, purpose: str = "") -> Seeder:
    """Two sound plates stand side by side with a gap between them, which may have a purpose."""

    def seed(case: Checked) -> Seeded:
        pose, _ = on_surface(case, place, about_mm=3.0)
        half = 0.5 * gap_mm
        plates = [
            box_solid(np.array([-3.0, *low]), np.array([3.0, *high]), "fin", pose=pose)
            for low, high in (((half, -1.0), (half + 2.0, 4.0)), ((-half - 2.0, -1.0), (-half, 4.0)))
        ]
        middle = pose[:3, 3] + 2.0 * pose[:3, 2]
        made = _joined(case, *plates)
        if purpose:
            part = made.device.parts[0]
            made = with_part(made, replace(part, functional_faces=(*part.functional_faces, FunctionalFace("fin", purpose, 0.3))))
        return Seeded(made, grid_of(np.array([3.0, half, 2.0]), middle, pose[:3, :3]))

    return seed


def pin(diameter_mm: float, place: int, tall_mm: float = 4.0) -> Seeder:
    """A round pin stands out of the part."""

    def seed(case: Checked) -> Seeded:
        pose, _ = on_surface(case, place, free_mm=tall_mm + 4.0)
        line = pose[:3, 3] + np.arange(0.0, tall_mm + 0.1, 0.5)[:, None] * pose[:3, 2]
        return Seeded(_joined(case, _cylinder(0.5 * diameter_mm, -1.0, tall_mm, "pin", pose)), line)

    return seed


def blade(angle_deg: float, place: int, long_mm: float = 4.0, tall_mm: float = 4.0) -> Seeder:
    """A ridge of triangular section with an edge of so many degrees, so long and so far out of the surface."""

    def seed(case: Checked) -> Seeded:
        pose, _ = on_surface(case, place, about_mm=3.0)
        half = (tall_mm + 1.0) * np.tan(np.radians(0.5 * angle_deg))
        ends = (-0.5 * long_mm, 0.5 * long_mm)
        corners = np.array([[x, y, -1.0] for x in ends for y in (-half, half)] + [[x, 0.0, tall_mm] for x in ends])
        ridge = pose[:3, 3] + np.linspace(*ends, 9)[:, None] * pose[:3, 0] + tall_mm * pose[:3, 2]
        return Seeded(_joined(case, _hull(corners, "ridge", pose)), ridge)

    return seed


def spike(height_mm: float, half_mm: float, place: int) -> Seeder:
    """A pyramid on a square of twice ``half_mm``."""

    def seed(case: Checked) -> Seeded:
        pose, _ = on_surface(case, place)
        corners = np.array([[x, y, -1.0] for x in (-half_mm, half_mm) for y in (-half_mm, half_mm)] + [[0.0, 0.0, height_mm]])
        return Seeded(_joined(case, _hull(corners, "spike", pose)), pose[:3, 3] + height_mm * pose[:3, 2])

    return seed


def bottle(neck_mm: float, place: int) -> Seeder:
    """A hollow ball of 5 mm room on the part, which opens by a neck outward."""

    def seed(case: Checked) -> Seeded:
        pose, _ = on_surface(case, place, free_mm=12.0, about_mm=4.5)
        ball = Manifold.sphere(4.0, _ROUND).translate((0.0, 0.0, 3.2))
        room = Manifold.sphere(2.5, _ROUND) + Manifold.cylinder(6.0, 0.5 * neck_mm, 0.5 * neck_mm, _ROUND)
        made = _joined(case, _solid(ball, "bottle", pose))
        where = pose[:3, 3] + 3.2 * pose[:3, 2]
        inside = grid_of(np.array([1.0, 1.0, 1.0]), where, pose[:3, :3])
        return Seeded(_cut(made, _solid(room.translate((0.0, 0.0, 3.2)), "room", pose)), inside)

    return seed


def channel(diameter_mm: float, place: int) -> Seeder:
    """A block with a channel that leads in, turns upward and ends there: its end is seen from nowhere."""

    def seed(case: Checked) -> Seeded:
        pose, _ = on_surface(case, place, free_mm=18.0, about_mm=5.0)
        radius, side = 0.5 * diameter_mm, 0.5 * diameter_mm + 1.5
        block = box_solid(np.array([-side, -side, -1.0]), np.array([side + 2.0, side, 17.0]), "block", pose=pose)
        way_in = Manifold.cylinder(side + 3.0, radius, radius, _ROUND).rotate((0.0, 90.0, 0.0)).translate((0.0, 0.0, side))
        upward = Manifold.cylinder(15.0 - side, radius, radius, _ROUND).translate((0.0, 0.0, side))
        line = pose[:3, 3] + np.arange(side, 15.1, 0.5)[:, None] * pose[:3, 2]
        return Seeded(_cut(_joined(case, block), _solid(way_in + upward, "channel", pose)), line)

    return seed


def knobs(label: str, place: int = 0) -> Seeder:
    """Two balls on arms that stand at right angles: whichever way is up, one of them begins in the air."""

    def seed(case: Checked) -> Seeded:
        pose, _ = on_surface(case, place, free_mm=14.0, about_mm=4.0)
        post = _cylinder(1.0, -1.0, 9.0, "post", pose)
        aside = pose.copy()
        aside[:3, :3] = np.column_stack([pose[:3, 1], pose[:3, 2], pose[:3, 0]])
        aside[:3, 3] += 5.0 * pose[:3, 2]
        arm = _cylinder(1.0, 0.0, 6.0, "post", aside)
        middles = pose[:3, 3] + 10.0 * pose[:3, 2], aside[:3, 3] + 7.0 * aside[:3, 2]
        balls = []
        for middle in middles:
            there = pose.copy()
            there[:3, 3] = middle
            balls.append(_solid(Manifold.sphere(2.0, _ROUND), label, there))
        where = np.vstack([grid_of(np.full(3, 2.0), middle, pose[:3, :3]) for middle in middles])
        return Seeded(_joined(case, post, arm, *balls), where)

    return seed


def cups_both_ways(radius_mm: float, place: int = 0) -> Seeder:
    """A block with two round rooms that open by necks at its opposite ends: whichever way is up, one is no way out."""

    def seed(case: Checked) -> Seeded:
        height = 2.0 * radius_mm + 4.0
        pose, _ = on_surface(case, place, free_mm=height + 4.0, about_mm=0.5 * height)
        half = 0.5 * height
        middle = 0.5 * height - 1.0
        block = box_solid(np.array([-height, -half, -1.0]), np.array([height, half, height - 1.0]), "block", pose=pose)
        rooms, inside = [], []
        for way in (-1.0, 1.0):
            neck = Manifold.cylinder(height, 0.6 * radius_mm, 0.6 * radius_mm, _ROUND).rotate((0.0, 90.0 * way, 0.0))
            spot = np.array([way * (0.5 * height + 0.5), 0.0, middle])
            room = (Manifold.sphere(radius_mm, _ROUND) + neck).translate(tuple(spot.tolist()))
            rooms.append(_solid(room, "room", pose))
            inside.append(grid_of(np.full(3, radius_mm), pose[:3, 3] + pose[:3, :3] @ spot, pose[:3, :3]))
        return Seeded(_cut(_joined(case, block), *rooms), np.vstack(inside))

    return seed


def hole_beside(label: str, new: str, wall_mm: float) -> Seeder:
    """A second hole beside one that is there, askew to it: so much is left between them where they are nearest."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        points = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(label)])]
        first = points[np.linalg.norm(points - points[0], axis=1) < 6.0] if label == "fixation" else points
        middle = first.mean(axis=0)
        axis = np.linalg.svd(_normals_of(part, label, first))[2][2]
        radius = float(np.median(np.linalg.norm(np.cross(first - middle, axis), axis=1)))
        side = _into_material(part, middle, axis, radius)
        half = 0.8  # of the new hole
        turned = np.column_stack([np.cross(side, _lean(axis, side)), side, _lean(axis, side)])
        pose = np.eye(4)
        pose[:3, :3] = turned
        pose[:3, 3] = middle + (radius + wall_mm + half) * side
        made = _cut(case, _cylinder(half, -30.0, 30.0, new, pose))
        return Seeded(_declared(made, through=True), middle + (radius + 0.5 * wall_mm) * side)

    return seed


def _lean(axis: FloatArray, side: FloatArray) -> FloatArray:
    """An axis turned by 20 degrees about the way from one hole to the other: the two are nearest at one place."""
    turn = np.radians(20.0)
    return np.asarray(np.cos(turn) * axis + np.sin(turn) * np.cross(side, axis))


def _normals_of(part: Part, label: str, near: FloatArray) -> FloatArray:
    corners = part.mesh.vertices_mm[part.mesh.faces[part.face_labels == part.labels.index(label)]]
    held = (
        np.linalg.norm(corners.mean(axis=1) - near.mean(axis=0), axis=1) < np.linalg.norm(near - near.mean(axis=0), axis=1).max()
    )
    return np.asarray(np.cross(corners[held, 1] - corners[held, 0], corners[held, 2] - corners[held, 0]))


def _into_material(part: Part, middle: FloatArray, axis: FloatArray, radius: float) -> FloatArray:
    """A direction across an axis behind which the wall is thickest."""
    x = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    x /= np.linalg.norm(x)
    y = np.cross(axis, x)
    turns = np.arange(0.0, 2.0 * np.pi, 0.1)
    ways = np.cos(turns)[:, None] * x + np.sin(turns)[:, None] * y
    deep, _ = Scene(part.mesh).meets(middle + (radius + 0.05) * ways, ways, 60.0)
    return np.asarray(ways[int(np.nanargmax(deep))])


def _cylinder(radius_mm: float, low_mm: float, high_mm: float, label: str, pose: FloatArray) -> Solid:
    body = Manifold.cylinder(high_mm - low_mm, radius_mm, radius_mm, _ROUND).translate((0.0, 0.0, low_mm))
    return _solid(body, label, pose)


def _hull(corners: FloatArray, label: str, pose: FloatArray) -> Solid:
    return _solid(Manifold.hull_points(corners), label, pose)


def _solid(body: Manifold, label: str, pose: FloatArray) -> Solid:
    raw = body.to_mesh64()
    mesh = Mesh(np.array(raw.vert_properties)[:, :3].copy(), np.array(raw.tri_verts, dtype=np.int32))
    return moved(solid_from_mesh(mesh, label), pose)


def _body(part: Part) -> Solid:
    return solid_from_labelled_mesh(part.mesh, part.labels, part.face_labels)


def _joined(case: Checked, *tools: Solid) -> Checked:
    part = case.device.parts[0]
    return _of(case, union(_body(part), *tools, what="fault"))


def _cut(case: Checked, *tools: Solid) -> Checked:
    part = case.device.parts[0]
    return _of(case, difference(_body(part), *tools, what="fault"))


def _declared(case: Checked, *, through: bool) -> Checked:
    """The case whose first part declares one more way through it."""
    part = case.device.parts[0]
    return case if not through or part.handles is None else with_part(case, replace(part, handles=part.handles + 1))


def _of(case: Checked, made: Solid) -> Checked:
    part = case.device.parts[0]
    mesh, labels, names = to_mesh(made)
    return with_part(case, replace(part, mesh=mesh, face_labels=labels, labels=names))
