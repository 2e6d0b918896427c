"""Engraved marks that follow a bone's surface: each letter on its own tangent plane, where the ground is calm and thick enough.

Places are tried in a fixed pseudo-random order and judged by rays: every letter must be seen from outside, its ground must be
nearly flat, and the wall behind it must stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.rays import Scene
from batchone.design.solid import Feature, placed, text
from batchone.pipeline.values import FloatArray, Mesh

_TRIALS = 400  # numerical: places tried per mark
_SEED = 20251  # numerical: fixed, so that the same bone gets its marks at the same places
_ADVANCE = 0.95  # distance between letters per letter height
_HALF_WIDTH = 0.4  # half of the ground tested under a letter, per letter height
_HALF_HEIGHT = 0.55
_ROUGHNESS = 0.35  # the ground may leave its plane by this share of the depth; project default, unverified
_LEAST_COSINE = 0.8  # letters tilt by at most 37 degrees against the middle of the mark; project default, unverified
_SIDE_COSINE = 0.7  # a side mark faces its side within 45 degrees
_UPRIGHT_COSINE = 0.9  # where the surface faces up or down, letters stand towards the front instead of upward
_APART_HEIGHTS = 4.0  # marks keep this many letter heights apart; project default, unverified
_ABOVE_MM = 0.5  # numerical: the tool reaches above the ground by this much more than the ground's roughness
_GROUND = np.array([[x, y] for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)])


@dataclass(frozen=True, slots=True)
class MarkRule:
    """How a mark is cut: letter height and depth, and the wall that must stay behind it, mm."""

    height_mm: float
    depth_mm: float
    wall_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """Planes under the letters of one trial: centres (k, 3), outward normals (k, 3), and how calm it is (mm)."""

    centres_mm: FloatArray
    normals: FloatArray
    roughness_mm: float
    reading: FloatArray


class MarkFinder:
    """Looks for places on one surface (in the bone's frame: x left, y back, z up)."""

    def __init__(self, mesh: Mesh) -> None:
        self._scene = Scene(mesh)
        corners = mesh.vertices_mm[mesh.faces]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        self._centres = corners.mean(axis=1)
        self._covered = np.cumsum(areas)
        self._reach_mm = 2.0 * float(np.linalg.norm(mesh.vertices_mm - mesh.vertices_mm.mean(axis=0), axis=1).max())

    def engraving(
        self, name: str, string: str, rule: MarkRule, *, facing: FloatArray | None = None, avoid: tuple[FloatArray, ...] = ()
    ) -> tuple[Feature, ...]:
        """Letters as tools, at the calmest place found; empty when there is none.

        Parameters
        ----------
        name
            Name of the features.
        string
            What to write.
        rule
            Sizes.
        facing
            (3,) unit direction that the mark must face within 45 degrees; anywhere when None.
        avoid
            Points (3,) that marks already use; the new one keeps four letter heights away.
        """
        grounds = [ground for ground in self._trials(string, rule, facing, avoid) if ground is not None]
        if not grounds:
            return ()
        best = min(grounds, key=lambda ground: ground.roughness_mm)
        return tuple(self._letters(name, string, best, rule))

    def _trials(
        self, string: str, rule: MarkRule, facing: FloatArray | None, avoid: tuple[FloatArray, ...]
    ) -> list[_Ground | None]:
        chance = np.random.default_rng(_SEED).random(_TRIALS) * self._covered[-1]
        faces = np.searchsorted(self._covered, chance).astype(np.int32)
        centres, normals = self._centres[faces], self._scene.normals(faces)
        fit = np.ones(_TRIALS, dtype=np.bool_) if facing is None else np.asarray(normals @ facing > _SIDE_COSINE)
        for point in avoid:
            fit &= np.linalg.norm(centres - point, axis=1) > (_APART_HEIGHTS + 0.5 * _ADVANCE * len(string)) * rule.height_mm
        return [
            self._ground(len(string), centre, normal, rule) for centre, normal in zip(centres[fit], normals[fit], strict=True)
        ]

    def _ground(self, letters: int, centre: FloatArray, normal: FloatArray, rule: MarkRule) -> _Ground | None:
        reading, upright = _reading_frame(normal)
        along = (np.arange(letters) - 0.5 * (letters - 1)) * _ADVANCE * rule.height_mm
        half = np.array([_HALF_WIDTH, _HALF_HEIGHT]) * rule.height_mm
        offsets = (along[:, None, None] + half[0] * _GROUND[None, :, 0, None]) * reading + half[1] * _GROUND[
            None, :, 1, None
        ] * upright
        origins = (centre + self._reach_mm * normal + offsets).reshape(-1, 3)
        hits = self._scene.first(origins, np.broadcast_to(-normal, origins.shape), 2.0 * self._reach_mm)
        if np.isnan(hits.distance_mm).any():
            return None
        points = (origins - hits.distance_mm[:, None] * normal).reshape(letters, -1, 3)
        fitted = _planes(points, normal)
        if fitted is None or fitted.roughness_mm > _ROUGHNESS * rule.depth_mm:
            return None
        steps = np.abs(np.diff(fitted.centres_mm @ normal))
        if (fitted.normals @ normal < _LEAST_COSINE).any() or (len(steps) and float(steps.max()) > _ADVANCE * rule.height_mm):
            return None
        inward = np.repeat(-fitted.normals, points.shape[1], axis=0)
        starts = points.reshape(-1, 3) + 0.1 * rule.depth_mm * inward
        behind = self._scene.first(starts, inward, self._reach_mm).distance_mm + 0.1 * rule.depth_mm
        if not float(np.nanmin(behind, initial=np.inf)) >= rule.depth_mm * (1.0 + _ROUGHNESS) + rule.wall_mm:
            return None
        return _Ground(fitted.centres_mm, fitted.normals, fitted.roughness_mm, reading)

    def _letters(self, name: str, string: str, ground: _Ground, rule: MarkRule) -> list[Feature]:
        above = _ABOVE_MM + 2.0 * ground.roughness_mm
        flat: dict[str, Feature] = {}
        letters = []
        for number, character in enumerate(string):
            if character not in flat:
                flat[character] = text(
                    name, character, height_mm=rule.height_mm, depth_mm=rule.depth_mm, above_mm=above,
                    origin=(0.0, 0.0, 0.0), x_direction=(1.0, 0.0, 0.0), normal=(0.0, 0.0, 1.0),
                )  # fmt: skip
            normal = ground.normals[number]
            reading = ground.reading - normal * float(ground.reading @ normal)
            reading /= np.linalg.norm(reading)
            pose = np.eye(4)
            pose[:3, :3] = np.column_stack([reading, np.cross(normal, reading), normal])
            pose[:3, 3] = ground.centres_mm[number]
            letters.append(placed(flat[character], f"{name} {number + 1}", pose))
        return letters


def _planes(points_mm: FloatArray, normal: FloatArray) -> _Ground | None:
    """Fit a plane to each letter's ground (k, 9, 3)."""
    centres = points_mm.mean(axis=1)
    centred = points_mm - centres[:, None]
    normals = np.linalg.svd(centred)[2][:, 2]
    facing = np.einsum("ij,j->i", normals, normal)
    if (np.abs(facing) < _LEAST_COSINE).any():
        return None
    normals = normals * np.sign(facing)[:, None]
    off = np.abs(np.einsum("ijk,ik->ij", centred, normals))
    return _Ground(centres, normals, float(off.max()), normal)


def _reading_frame(normal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Reading direction and upright direction on a surface, for someone who looks at it."""
    up = np.array([0.0, 0.0, 1.0]) if abs(float(normal[2])) < _UPRIGHT_COSINE else np.array([0.0, -1.0, 0.0])
    upright = up - normal * float(up @ normal)
    upright /= np.linalg.norm(upright)
    return np.cross(upright, normal), upright
