"""Hooks of a pedicle guide: they reach from the entries down over the lower edge of the laminae, and lie on them."""

from __future__ import annotations

import numpy as np

from batchone.design.contact.field import Lattice
from batchone.design.contact.shell import capsule_mm, filleted
from batchone.design.cranial.columns import meeting, submesh, to_local
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.guide.body import BELOW_MM, LEAST_FACING
from batchone.design.seating.contacts import spread
from batchone.pipeline.values import Bone, FloatArray, Mesh

_RADIUS = 0.375  # half a hook's width, of the pad's reach; project default, unverified
_BEYOND_MM = 9.0  # beyond the pad: laminae end 14 to 22 mm below the entries of four vertebrae; project default, unverified
_ENOUGH = 0.85  # a hook leans inward until it lies on this share of the most bone that it can; project default, unverified
_FILLET_MM = 2.0  # between pad and hooks: fins stood in sharper notches; project default, unverified
_LEAN_MM, _CELL_MM, _SPACING_MM = 0.5, 1.0, 0.7  # numerical: steps inward; bone is counted by squares; places on it


def deep_mm(chosen: PedicleGuideParameters) -> float:
    """How far hooks reach below the line of the entries."""
    return chosen.pad_mm + _BEYOND_MM + 0.5 * chosen.hook_mm


def hook_ends(bone: Bone, pose: FloatArray, entries_mm: FloatArray, chosen: PedicleGuideParameters) -> FloatArray:
    """(n, 3) where the middle line of each hook ends, in the guide's frame; no row without hooks.

    A hook hangs straight down where the lamina lies under it, as on thoracic vertebrae, and leans inward where that lies nearer
    to the middle than the entry, as on lumbar ones.

    Parameters
    ----------
    bone, pose
        The bone, and (4, 4) from the guide's frame (z the way out, y towards the head) to LPS.
    entries_mm
        (n, 3) entries in the guide's frame.
    chosen
        The order's parameters.
    """
    if chosen.hook_mm <= 0.0:
        return np.empty((0, 3))
    radius_mm, deep = _RADIUS * chosen.pad_mm, deep_mm(chosen)
    lamina = _lamina_mm(bone, pose, entries_mm, chosen)
    middle_x = float(to_local(pose, bone.frame[:3, 3][None])[0, 0])
    ends = []
    for entry in entries_mm:
        inward = middle_x - float(entry[0])
        leans = np.sign(inward) * np.arange(0.0, max(abs(inward) - radius_mm, _LEAN_MM), _LEAN_MM)
        below = lamina[(lamina[:, 1] < entry[1] - chosen.pad_mm) & (lamina[:, 1] > entry[1] - deep)]
        beside = below[:, :1] - entry[0] - leans
        areas = np.array([_squares(below[one]) for one in (np.abs(beside) < radius_mm).T])
        lean = leans[int(np.argmax(areas >= _ENOUGH * areas.max()))]
        ends.append(entry + np.array([lean, radius_mm - deep, 0.0]))
    return np.array(ends)


def hooks_mm(lattice: Lattice, entries_mm: FloatArray, ends_mm: FloatArray, chosen: PedicleGuideParameters) -> FloatArray:
    """(x, y) signed distance to the edge of hooks from entries (n, 3) to their ends (n, 3); infinite without hooks."""
    shape = np.full(lattice.shape[:2], np.inf)
    for entry, end in zip(entries_mm, ends_mm, strict=False):
        shape = np.minimum(shape, capsule_mm(lattice, entry, end, _RADIUS * chosen.pad_mm))
    return shape


def joined_mm(pad_mm: FloatArray, hooks_mm: FloatArray) -> FloatArray:
    """(x, y) signed distance to the edge of pad and hooks together, the notches between them filleted."""
    return filleted(pad_mm, hooks_mm, _FILLET_MM)


def _lamina_mm(bone: Bone, pose: FloatArray, entries_mm: FloatArray, chosen: PedicleGuideParameters) -> FloatArray:
    """(n, 3) places evenly over the bone below the pad that a guide can lie on, in the guide's frame."""
    low, high = entries_mm.min(axis=0), entries_mm.max(axis=0)
    low = np.array([-np.inf, low[1] - deep_mm(chosen), low[2] - BELOW_MM])
    high = np.array([np.inf, high[1] - chosen.pad_mm, high[2] + chosen.rise_mm])
    whole = Mesh(to_local(pose, bone.mesh.vertices_mm), bone.mesh.faces)
    mesh = submesh(whole, meeting(whole, low, high))
    corners = mesh.vertices_mm[mesh.faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    places = spread(mesh, areas[:, 2] >= LEAST_FACING * np.linalg.norm(areas, axis=1), _SPACING_MM)
    return places[((places >= low) & (places <= high)).all(axis=1)]


def _squares(places_mm: FloatArray) -> int:
    """How many squares of 1 mm, seen along the way on, hold a place."""
    return len(np.unique(np.floor(places_mm[:, :2] / _CELL_MM), axis=0))
