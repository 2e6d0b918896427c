"""Faults of what a guide is for: its bores, its slots, and its contact with the bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from batchone.design.booleans import box_solid, difference, solid_from_labelled_mesh, to_mesh, union
from batchone.design.cranial.rays import Scene
from batchone.design.family import Checked
from batchone.design.nearest import nearest_points
from batchone.pipeline.values import Axis, FloatArray, Part
from batchone.samples.faulty.case import Seeded, Seeder, face_at, grid_of, middle_of, normals_and_areas, with_part, with_points


def bore_moved(label: str, axis: str, off_mm: float) -> Seeder:
    """The wall of a bore lies beside its planned axis."""

    def seed(case: Checked) -> Seeded:
        planned = case.plan.axis(axis)
        across = _frame(planned)[:, 0]
        points, chosen = _points_of(case, label)
        points[chosen] += off_mm * across
        return Seeded(with_points(case, points), np.array(planned.origin_mm))

    return seed


def bore_tilted(label: str, axis: str, tilt_deg: float) -> Seeder:
    """A bore leans about its entry."""

    def seed(case: Checked) -> Seeded:
        planned = case.plan.axis(axis)
        origin = np.array(planned.origin_mm)
        turn = Rotation.from_rotvec(np.radians(tilt_deg) * _frame(planned)[:, 1]).as_matrix()
        points, chosen = _points_of(case, label)
        points[chosen] = origin + (points[chosen] - origin) @ turn.T
        return Seeded(with_points(case, points), origin)

    return seed


def bore_resized(label: str, axis: str, diameter_mm: float) -> Seeder:
    """A bore is wider, or narrower, by so much in diameter."""

    def seed(case: Checked) -> Seeded:
        planned = case.plan.axis(axis)
        direction, origin = np.array(planned.direction), np.array(planned.origin_mm)
        points, chosen = _points_of(case, label)
        away = points[chosen] - origin
        away -= (away @ direction)[:, None] * direction
        points[chosen] += 0.5 * diameter_mm * away / np.linalg.norm(away, axis=1, keepdims=True)
        return Seeded(with_points(case, points), origin)

    return seed


def bore_plugged(label: str, axis: str, thickness_mm: float) -> Seeder:
    """A disc (a square one, let into the wall) closes the bore half way."""

    def seed(case: Checked) -> Seeded:
        planned = case.plan.axis(axis)
        points, chosen = _points_of(case, label)
        direction, origin = np.array(planned.direction), np.array(planned.origin_mm)
        along = (points[chosen] - origin) @ direction
        radius = float(np.median(np.linalg.norm(points[chosen] - origin - along[:, None] * direction, axis=1)))
        middle = origin + 0.5 * (along.min() + along.max()) * direction
        half = np.array([radius + 0.3, radius + 0.3, 0.5 * thickness_mm])
        return Seeded(_with_block(case, half, middle, _frame(planned)), grid_of(half, middle, _frame(planned)))

    return seed


def rod_in_bore(label: str, axis: str, gap_mm: float) -> Seeder:
    """A square rod stands in a bore, its faces so far from the wall, and hangs on a bar across the bore's outer end."""

    def seed(case: Checked) -> Seeded:
        planned = case.plan.axis(axis)
        points, chosen = _points_of(case, label)
        direction, origin, axes = np.array(planned.direction), np.array(planned.origin_mm), _frame(planned)
        along = (points[chosen] - origin) @ direction
        radius = float(np.median(np.linalg.norm(points[chosen] - origin - along[:, None] * direction, axis=1)))
        half, low, high = radius - gap_mm, float(along.min()), float(along.max())
        bar = _with_block(case, np.array([radius + 1.0, half, 0.75]), origin + low * direction, axes)
        middle = origin + 0.5 * (low + high) * direction
        rod = _with_block(bar, np.array([half, half, 0.5 * (high - low)]), middle, axes)
        return Seeded(rod, grid_of(np.array([radius, radius, 0.5 * (high - low) + 1.0]), middle, axes))

    return seed


def slot_moved(label: str, plane: str, off_mm: float) -> Seeder:
    """Both faces of a slot lie beside the planned plane."""

    def seed(case: Checked) -> Seeded:
        points, chosen = _points_of(case, label)
        where = points[chosen].mean(axis=0)
        points[chosen] += off_mm * np.array(case.plan.plane(plane).normal)
        return Seeded(with_points(case, points), where)

    return seed


def slot_turned(label: str, plane: str, turn_deg: float) -> Seeder:
    """A slot is turned against its plane, about its own middle."""

    def seed(case: Checked) -> Seeded:
        normal = np.array(case.plan.plane(plane).normal)
        points, chosen = _points_of(case, label)
        middle = points[chosen].mean(axis=0)
        axis = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
        turn = Rotation.from_rotvec(np.radians(turn_deg) * axis / np.linalg.norm(axis)).as_matrix()
        points[chosen] = middle + (points[chosen] - middle) @ turn.T
        return Seeded(with_points(case, points), middle)

    return seed


def slot_resized(label: str, plane: str, width_mm: float) -> Seeder:
    """A slot is wider, or narrower, by so much."""

    def seed(case: Checked) -> Seeded:
        normal = np.array(case.plan.plane(plane).normal)
        points, chosen = _points_of(case, label)
        middle = points[chosen].mean(axis=0)
        height = (points[chosen] - middle) @ normal
        points[chosen] += 0.5 * width_mm * np.sign(height)[:, None] * normal
        return Seeded(with_points(case, points), middle)

    return seed


def slot_filled(label: str, plane: str, across_mm: float) -> Seeder:
    """A block fills the slot over a part of its length, about its middle."""

    def seed(case: Checked) -> Seeded:
        normal = np.array(case.plan.plane(plane).normal)
        advance = np.array(case.plan.axis(plane.replace("cut", "blade")).direction)
        points, chosen = _points_of(case, label)
        middle = points[chosen].mean(axis=0)
        width = float(np.ptp((points[chosen] - middle) @ normal))
        depth = float(np.ptp((points[chosen] - middle) @ advance))
        axes = np.column_stack([np.cross(advance, normal), advance, normal])
        half = np.array([0.5 * across_mm, 0.5 * depth - 1.0, 0.5 * width + 0.3])
        return Seeded(_with_block(case, half, middle, axes), grid_of(half, middle, axes))

    return seed


def contact_dented(depth_mm: float, place: int, *, radius_mm: float = 2.0) -> Seeder:
    """The contact is lifted off the bone locally (less than 0: dug into it), with a smooth edge."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        points, chosen = _points_of(case, "contact")
        vertex = chosen[int(np.random.default_rng(2000 + place).integers(len(chosen)))]
        where = points[vertex].copy()
        bone = case.anatomy.bones[0].mesh
        near = chosen[np.linalg.norm(points[chosen] - where, axis=1) < radius_mm]
        away = points[near] - nearest_points(points[near], bone)[2]
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        share = np.cos(0.5 * np.pi * np.linalg.norm(points[near] - where, axis=1) / radius_mm)[:, None]
        points[near] += depth_mm * share * away
        return Seeded(with_part(case, replace(part, mesh=replace(part.mesh, vertices_mm=points))), points[vertex])

    return seed


def undercut(axis: str, place: int) -> Seeder:
    """A block of 2 mm on the contact reaches below the bone: it would catch on the way out."""

    def seed(case: Checked) -> Seeded:
        part, bone = case.device.parts[0], Scene(case.anatomy.bones[0].mesh)
        way = np.array(case.plan.axis(axis).direction)
        normals, _ = normals_and_areas(part.mesh)
        for attempt in range(500):
            face = face_at(part, place + 100 * attempt, off=(), only="contact")
            middle = middle_of(part.mesh, face) + 2.0 * normals[face]
            if bone.meets(middle[None], way[None], 500.0)[1][0] >= 0:
                half, axes = np.array([1.0, 1.0, 3.0]), _turned_to(normals[face])
                return Seeded(_with_block(case, half, middle, axes), grid_of(half, middle, axes))
        raise AssertionError("no place of the contact has bone above it")

    return seed


def contact_left_at(radius_mm: float) -> Seeder:
    """The contact is lifted off the bone by 1.5 mm but for one round place: nothing holds the guide against sliding."""

    def seed(case: Checked) -> Seeded:
        part, bone = case.device.parts[0], case.anatomy.bones[0].mesh
        points, chosen = _points_of(case, "contact")
        middle = points[chosen].mean(axis=0)
        centre = points[chosen[int(np.argmin(np.linalg.norm(points[chosen] - middle, axis=1)))]]
        far = chosen[np.linalg.norm(points[chosen] - centre, axis=1) > radius_mm]
        labels, lifted = part.face_labels.copy(), np.isin(part.mesh.faces, far).any(axis=1)
        labels[lifted & (labels == part.labels.index("contact"))] = part.labels.index("relief")
        away = points[far] - nearest_points(points[far], bone)[2]
        points[far] += 1.5 * away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        changed = replace(part, mesh=replace(part.mesh, vertices_mm=points), face_labels=labels)
        return Seeded(with_part(case, changed), None)

    return seed


def pin_at_the_slot(axis: str, plane: str) -> Seeder:
    """A planned pin is moved to 2 mm from the plane of the cut."""

    def seed(case: Checked) -> Seeded:
        pin, cut = case.plan.axis(axis), case.plan.plane(plane)
        normal = np.array(cut.normal)
        height = float((np.array(pin.origin_mm) - np.array(cut.origin_mm)) @ normal)
        x, y, z = (np.array(pin.origin_mm) - (height - np.sign(height) * 2.0) * normal).tolist()
        axes = tuple(replace(pin, origin_mm=(x, y, z)) if one.name == axis else one for one in case.plan.axes)
        sleeve = np.array([x, y, z]) - np.arange(0.0, 30.0, 0.5)[:, None] * np.array(pin.direction)
        return Seeded(replace(case, plan=replace(case.plan, axes=axes)), sleeve)

    return seed


def window_covered(way: str) -> Seeder:
    """A block stands before the inspection window."""

    def seed(case: Checked) -> Seeded:
        points, chosen = _points_of(case, "window")
        direction = np.array(case.plan.axis(way).direction)
        middle = points[chosen].mean(axis=0) + 1.0 * direction
        half = np.array([4.0, 1.0, 0.6])
        turned = _turned_to(direction)
        return Seeded(_with_block(case, half, middle, turned), grid_of(half, middle, turned))

    return seed


def hole_at_the_border(border_mm: float) -> Seeder:
    """A drainage hole of 2 mm whose wall is so near to the border of the implant."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        axis = np.array(case.plan.axis("insertion").direction)
        points, chosen = _points_of(case, "border")
        middle = points[chosen].mean(axis=0)
        edge = points[chosen[0]]
        inward = middle - edge
        inward -= float(inward @ axis) * axis
        centre = edge + (border_mm + 1.0) * inward / np.linalg.norm(inward)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = _turned_to(axis), centre
        tool = box_solid(np.array([-1.0, -1.0, -30.0]), np.array([1.0, 1.0, 30.0]), "perforation", pose=pose)
        body = solid_from_labelled_mesh(part.mesh, part.labels, part.face_labels)
        mesh, labels, names = to_mesh(difference(body, tool, what="hole"))
        changed = replace(part, mesh=mesh, face_labels=labels, labels=names)
        return Seeded(with_part(case, changed), grid_of(np.array([1.0, 1.0, 8.0]), centre, _turned_to(axis)))

    return seed


def _points_of(case: Checked, label: str) -> tuple[FloatArray, FloatArray]:
    part = case.device.parts[0]
    chosen = np.unique(part.mesh.faces[part.face_labels == part.labels.index(label)])
    return part.mesh.vertices_mm.copy(), chosen


def _with_block(case: Checked, half_mm: FloatArray, middle_mm: FloatArray, axes: FloatArray) -> Checked:
    part: Part = case.device.parts[0]
    pose = np.eye(4)
    pose[:3, :3] = axes if np.linalg.det(axes) > 0.0 else axes * [-1.0, 1.0, 1.0]
    pose[:3, 3] = middle_mm
    body = solid_from_labelled_mesh(part.mesh, part.labels, part.face_labels)
    made = union(body, box_solid(-half_mm, half_mm, "block", pose=pose), what="block")
    mesh, labels, names = to_mesh(made)
    return with_part(case, replace(part, mesh=mesh, face_labels=labels, labels=names))


def _frame(planned: Axis) -> FloatArray:
    return _turned_to(np.array(planned.direction))


def _turned_to(direction: FloatArray) -> FloatArray:
    """(3, 3) a frame whose z runs along a direction."""
    z = direction / np.linalg.norm(direction)
    x = np.cross(z, np.eye(3)[int(np.argmin(np.abs(z)))])
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])
