"""Supports at points: a tip, a trunk to the plate, aside where something is in the way; braces between tall trunks; a raft."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import manifold3d
import numpy as np

from batchone.pipeline.process import Supports
from batchone.pipeline.values import FloatArray
from batchone.slicer.supports.columns import STEP_MM, Flags, Obstacles

_SIDES: Final = 12  # numerical: of a round trunk
_WAYS: Final = 16  # directions in which a way around is looked for
_PIECES: Final = 32  # numerical: of a branch that is tested
_TIP_SHARE: Final = 0.5  # of the height of a low support, for its tip
_BRACE_PITCH_MM: Final = 10.0  # from brace to brace up a trunk; project default


@dataclass(frozen=True, slots=True)
class Trunk:
    """One support: where it touches, where its trunk stands, and what it stands on (0: the plate); mm."""

    tip_mm: tuple[float, float, float]
    foot_mm: tuple[float, float, float]
    knee_mm: float

    @property
    def on_plate(self) -> bool:
        """Whether it stands on the plate or the raft, not on the part."""
        return self.foot_mm[2] == 0.0


def tips_free(places_mm: FloatArray, top_mm: FloatArray, foot_mm: FloatArray, around: Obstacles, supports: Supports) -> Flags:
    """(n,) where a tip may touch the underside: clear of protected faces, and of the part below what it touches."""
    height = np.minimum(supports.tip_height_mm, _TIP_SHARE * (top_mm - foot_mm))
    return _tip_free(around, supports, places_mm, top_mm, height, up=True)


def trunk_to(tip_mm: tuple[float, float, float], below_mm: float, around: Obstacles, supports: Supports) -> Trunk | None:
    """The way from a place of the underside down: straight to the plate, aside and then to it, or to the part below it.

    Parameters
    ----------
    tip_mm
        The place, (x, y, z), where a tip may touch.
    below_mm
        What lies straight below it: the part, or the plate at 0.
    around
        What must not be touched.
    supports
        Sizes and gaps.

    Returns
    -------
    Trunk or None
        None where no way is free.
    """
    x, y, z = tip_mm
    height = _tip_height(z - below_mm, supports)
    radius = 0.5 * supports.trunk_mm
    start = np.array([[x, y]])
    if below_mm <= 0.0 and _free(around, supports, start, np.zeros(1), np.array([z - height]), radius)[0]:
        return Trunk(tip_mm, (x, y, 0.0), z - height)
    aside = _aside(tip_mm, z - height, around, supports)
    if aside is not None:
        return aside
    if below_mm > 0.0 and _free(around, supports, start, np.array([below_mm + height]), np.array([z - height]), radius)[0]:
        foot = np.array([below_mm])
        if _tip_free(around, supports, start, foot, np.array([height]), up=False)[0]:
            return Trunk(tip_mm, (x, y, below_mm), z - height)
    return None


def _aside(tip_mm: tuple[float, float, float], knee_mm: float, around: Obstacles, supports: Supports) -> Trunk | None:
    """The nearest place aside from which a trunk reaches the plate, by a branch that leans no more than it may."""
    x, y, _ = tip_mm
    radius = 0.5 * supports.trunk_mm
    drop = 1.0 / math.tan(math.radians(supports.lean_deg))
    angle = 2.0 * math.pi * np.arange(_WAYS) / _WAYS
    way = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    far = np.repeat(np.arange(radius, supports.aside_mm + radius, radius), _WAYS)
    way = np.tile(way, (len(far) // _WAYS, 1))
    low = knee_mm - far * drop
    stand = np.array([x, y]) + far[:, None] * way
    free = np.flatnonzero((low > supports.raft_mm) & _free(around, supports, stand, np.zeros(len(low)), low, radius))
    share = np.linspace(0.0, 1.0, _PIECES)
    places = np.array([x, y]) + (share[None, :, None] * (far[free, None] * way[free])[:, None, :]).reshape(-1, 2)
    z = (knee_mm - share[None, :] * (far[free, None] * drop)).ravel()
    half = radius + 0.5 * np.repeat(far[free] * drop, _PIECES) / _PIECES
    clear = _free(around, supports, places, z - half, np.minimum(z + half, knee_mm), radius).reshape(-1, _PIECES).all(axis=1)
    if not clear.any():
        return None
    k = int(free[np.argmax(clear)])
    return Trunk(tip_mm, (float(stand[k, 0]), float(stand[k, 1]), 0.0), float(low[k]))


def bodies_of(trunks: list[Trunk], around: Obstacles, supports: Supports) -> list[manifold3d.Manifold]:
    """The trunks, their braces, and the raft below those that stand on the plate, as closed bodies that overlap."""
    radius, tip = 0.5 * supports.trunk_mm, 0.5 * supports.tip_mm
    made = []
    for trunk in trunks:
        (x, y, z), (u, v, foot) = trunk.tip_mm, trunk.foot_mm
        height = _tip_height(z - foot, supports)
        made.append(_frustum((x, y, z - height), radius, (x, y, z + supports.penetration_mm), tip))
        if (x, y) != (u, v):
            made.append(_frustum((u, v, trunk.knee_mm), radius, (x, y, z - height), radius))
        if trunk.on_plate:
            made.append(_frustum((u, v, 0.0), radius, (u, v, trunk.knee_mm), radius))
        else:
            made.append(_frustum((u, v, foot + height), radius, (u, v, trunk.knee_mm), radius))
            made.append(_frustum((u, v, foot - supports.penetration_mm), tip, (u, v, foot + height), radius))
    made += _braces([trunk for trunk in trunks if trunk.on_plate], around, supports)
    standing = [trunk.foot_mm for trunk in trunks if trunk.on_plate]
    if supports.raft_mm > 0.0 and standing:
        rings = [_ring(x, y, z, 1.5 * radius) for x, y, _ in standing for z in (0.0, supports.raft_mm)]
        made.append(manifold3d.Manifold.hull_points(np.concatenate(rings)))
    return [body for body in made if body.volume() > 0.0]


def _braces(trunks: list[Trunk], around: Obstacles, supports: Supports) -> list[manifold3d.Manifold]:
    """Struts at 45 deg from each tall trunk to its nearest neighbour."""
    made: list[manifold3d.Manifold] = []
    if supports.brace_mm <= 0.0 or len(trunks) < 2:
        return made
    places = np.array([trunk.foot_mm[:2] for trunk in trunks])
    radius = 0.25 * supports.trunk_mm
    done: set[tuple[int, int]] = set()
    for n, trunk in enumerate(trunks):
        away = np.hypot(*(places - places[n]).T)
        away[away <= supports.trunk_mm] = math.inf
        near = int(np.argmin(away))
        pair = (min(n, near), max(n, near))
        if away[near] > supports.brace_mm or pair in done:
            continue
        done.add(pair)
        low = supports.raft_mm + supports.trunk_mm
        while low + away[near] <= min(trunk.knee_mm, trunks[near].knee_mm):
            share = np.linspace(0.0, 1.0, max(2, math.ceil(float(away[near]) / STEP_MM)))
            line = places[n] + share[:, None] * (places[near] - places[n])
            z = low + share * away[near]
            if _free(around, supports, line, z - radius, z + radius, radius).all():
                (x, y), (u, v) = places[n].tolist(), places[near].tolist()
                made.append(_frustum((x, y, low), radius, (u, v, low + float(away[near])), radius))
            low += _BRACE_PITCH_MM
    return made


def _tip_height(height_mm: float, supports: Supports) -> float:
    return min(supports.tip_height_mm, _TIP_SHARE * height_mm)


def _free(around: Obstacles, supports: Supports, places: FloatArray, low: FloatArray, high: FloatArray, radius: float) -> Flags:
    """Whether upright pieces of a trunk are clear."""
    part_mm = radius + supports.side_gap_mm
    return around.free(places, low, high, part_mm=part_mm, radii_mm=(radius, radius), gap_mm=supports.gap_mm)


def _tip_free(
    around: Obstacles, supports: Supports, places: FloatArray, end: FloatArray, height: FloatArray, *, up: bool
) -> Flags:
    """Whether tips below or above their ends are clear as they widen, with what of them is in the part; they may touch that."""
    tip, trunk, into = 0.5 * supports.tip_mm, 0.5 * supports.trunk_mm, supports.penetration_mm
    low, high, radii = (end - height, end + into, (trunk, tip)) if up else (end - into, end + height, (tip, trunk))
    slack = supports.side_gap_mm + into
    return around.free(places, low, high, part_mm=0.0, radii_mm=radii, gap_mm=supports.gap_mm, slack_mm=slack)


def _frustum(
    low: tuple[float, float, float], low_radius: float, high: tuple[float, float, float], high_radius: float
) -> manifold3d.Manifold:
    return manifold3d.Manifold.hull_points(np.concatenate([_ring(*low, low_radius), _ring(*high, high_radius)]))


def _ring(x: float, y: float, z: float, radius: float) -> FloatArray:
    turn = 2.0 * math.pi * np.arange(_SIDES) / _SIDES
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn), np.full(_SIDES, z)], axis=1)
