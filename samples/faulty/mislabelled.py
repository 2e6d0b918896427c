"""Faults of the label: what is engraved is mirrored, upside down, missing, or of another case."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from batchone.design.booleans import Solid, box_solid, difference, solid_from_labelled_mesh, solid_from_mesh, to_mesh, union
from batchone.design.family import Checked
from batchone.design.guide.label import LABEL, letters_mm
from batchone.design.lettering.picture import pictured
from batchone.pipeline.values import FloatArray, Mesh
from batchone.samples.faulty.case import Seeded, Seeder, grid_of, with_part
from batchone.samples.faulty.good import good

_AROUND_MM = 0.2  # the block that fills a label is so much wider and deeper than its letters


def label_changed(how: Literal["mirrored", "upside down", "filled"]) -> Seeder:
    """The letters are filled, and cut again in another way; or not."""

    def seed(case: Checked) -> Seeded:
        part = case.device.parts[0]
        low, high, pose = _room_of(case)
        body = solid_from_labelled_mesh(part.mesh, part.labels, part.face_labels)
        block = box_solid(low, high, "block", pose=pose)
        made = union(body, block, what="filled label")
        if how != "filled":
            letters = _turned(difference(block, body, what="letters"), pose, how)
            made = difference(made, letters, what="letters again")
        mesh, labels, names = to_mesh(made)
        changed = with_part(case, replace(part, mesh=mesh, face_labels=labels, labels=names))
        return Seeded(changed, None if how == "filled" else _grid(low, high, pose))

    return seed


def of_another_case() -> Seeder:
    """The label is that of another order."""

    def seed(case: Checked) -> Seeded:
        return Seeded(replace(case, order=case.order.model_copy(update={"case": "F-0007"})), _grid(*_room_of(case)))

    return seed


def left_out(device: str) -> Seeder:
    """The device of a kind without the label that was ordered."""

    def seed(case: Checked) -> Seeded:
        return Seeded(replace(case, device=good(device, engrave=False).device), None)

    return seed


def _room_of(case: Checked) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Low and high corner (3,) of the label's letters and a little more, in their own frame, and that frame (4, 4)."""
    part = case.device.parts[0]
    engraving = pictured(part, LABEL, height_mm=letters_mm(case.process))
    if engraving is None:
        raise AssertionError("the part has no label")
    points = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(LABEL)])]
    axes = engraving.axes if np.linalg.det(engraving.axes) > 0.0 else engraving.axes * np.array([-1.0, 1.0, 1.0])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, points.mean(axis=0)
    flat = (points - pose[:3, 3]) @ axes
    low, high = flat.min(axis=0) - _AROUND_MM, flat.max(axis=0) + _AROUND_MM
    high[2] = flat[:, 2].max()
    return low, high, pose


def _grid(low: FloatArray, high: FloatArray, pose: FloatArray) -> FloatArray:
    middle = pose[:3, :3] @ (0.5 * (low + high)) + pose[:3, 3]
    return grid_of(0.5 * (high - low), middle, pose[:3, :3])


def _turned(letters: Solid, pose: FloatArray, how: str) -> Solid:
    """Letters mirrored left to right, or turned by half a turn, in their own frame about their middle."""
    axes, middle = pose[:3, :3], pose[:3, 3]
    mesh, _, _ = to_mesh(letters)
    local = (mesh.vertices_mm - middle) @ axes
    centre = 0.5 * (local.min(axis=0) + local.max(axis=0))
    signs = np.array([-1.0, 1.0, 1.0]) if how == "mirrored" else np.array([-1.0, -1.0, 1.0])
    local = (local - centre) * signs + centre
    lifted = local + np.where(local[:, 2:] >= local[:, 2].max() - 1e-6, np.array([[0.0, 0.0, 0.1]]), 0.0)  # through the face
    faces = mesh.faces[:, ::-1] if how == "mirrored" else mesh.faces
    return solid_from_mesh(Mesh(lifted @ axes.T + middle, np.ascontiguousarray(faces)), LABEL)
