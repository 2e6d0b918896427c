"""What a guide touches of the bone that it covers: its zones, what each of them holds, and where one more would hold most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from batchone.design.cranial.columns import submesh
from batchone.design.guide.body import LEAST_FACING
from batchone.design.seating.contacts import NEAR_MM, BoolArray, Landscape, farthest
from batchone.design.seating.stability import PRESS_CONE_DEG, cone, docking_facets, jacobian, margins_deg, wrench
from batchone.design.seating.zones import cells_of
from batchone.design.triangles import areas_mm2, joined_vertices
from batchone.pipeline.values import FloatArray, IntArray, Mesh

LEAST_ZONE_MM2 = 7.0  # of a zone: a disc of 3 mm, since guides relieve narrower contact; project default, unverified
ZONE_MM = 5.0  # a zone to add is a square of this size, as chosen contact is made of; project default, unverified
_CELL_MM = 1.0  # numerical: triangles in a cell of this size count as one place
_PUSHES = 40  # numerical: places that are tried for the push
_SHARE = 0.3  # numerical: of a square that must be there to be touched; less is an edge
_LEAST_DEG = 0.6  # numerical: within what the hull's joggle moves (facts, METHODS C.3)
_NOTHING = 1e-9  # numerical: smaller eigenvalues hold nothing


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """A separate piece of the contact: mm2, its middle (3,), and the share of the hold that is lost without it (0 to 1).

    The hold is that against the weakest motion: the least eigenvalue of G'G, each row of G weighted by its area.
    """

    area_mm2: float
    middle_mm: FloatArray
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Covered:
    """Contact and what else could touch, in the frame of its mesh.

    Attributes
    ----------
    zones
        The largest first; pieces below ``LEAST_ZONE_MM2`` are none.
    efficiency
        Docking margin of what touches over that of all the bone that is covered and no steeper than a guide's contact may be: 1
        where all of it is touched; None where not even all of it would dock. To about a tenth, for pushes are tried in some ways
        and at some places. Named after a measure of Mattheijer et al., of whom the abstract alone was read: the definition is the
        project's own (facts, METHODS C.7, DEVICES 6).
    add_mm
        (3,) the middle of the square of covered bone whose contact would hold most, half a square or more away from what touches;
        None where there is none.
    """

    zones: tuple[Zone, ...]
    efficiency: float | None
    add_mm: FloatArray | None

    @property
    def weakest(self) -> Zone | None:
        """The zone that holds least, of several."""
        return min(self.zones, key=lambda zone: (zone.share, zone.area_mm2)) if len(self.zones) > 1 else None


def covered(mesh: Mesh, touching: BoolArray, relieved: BoolArray, ground: Landscape) -> Covered:
    """Measure a part in its seat frame.

    Parameters
    ----------
    mesh
        The part.
    touching, relieved
        (m,) triangles that carry, and those that keep off bone which they could touch.
    ground
        The bone about it.
    """
    places, area, piece = _gathered(mesh, touching)
    spare, spare_area, _ = _gathered(mesh, relieved)
    near = ground.at(spare) < NEAR_MM
    spare, spare_area = spare[near], spare_area[near]
    normals, spare_normals = ground.normals(places), ground.normals(spare)
    could = spare_normals[:, 2] > LEAST_FACING
    spare, spare_normals, spare_area = spare[could], spare_normals[could], spare_area[could]
    every, every_normals = np.concatenate([places, spare]), np.concatenate([normals, spare_normals])
    rho = float(np.sqrt((every**2).sum(axis=1).mean()))
    rows = jacobian(places, normals, rho)
    holds = [_hold(rows[piece == n], area[piece == n]) for n in range(int(piece.max(initial=-1)) + 1)]
    hold = np.sum(holds, axis=0) if holds else np.zeros((6, 6))
    zones = [_zone(places[piece == n], area[piece == n], own, hold) for n, own in enumerate(holds)]
    most_deg = _margin_deg(every, every_normals, every, rho)
    share = _margin_deg(places, normals, every, rho) / most_deg if most_deg > _LEAST_DEG else None
    free = cKDTree(places).query(spare)[0] > 0.5 * ZONE_MM if len(places) and len(spare) else np.ones(len(spare), dtype=np.bool_)
    return Covered(
        tuple(sorted((zone for zone in zones if zone.area_mm2 >= LEAST_ZONE_MM2), key=lambda zone: -zone.area_mm2)),
        None if share is None else min(share, 1.0),
        _best_square(hold, spare[free], jacobian(spare[free], spare_normals[free], rho), spare_area[free]),
    )


def _zone(places: FloatArray, area_mm2: FloatArray, own: FloatArray, hold: FloatArray) -> Zone:
    whole, size = _least(hold), float(area_mm2.sum())
    share = 1.0 - _least(hold - own) / whole if whole > _NOTHING else 0.0
    return Zone(size, np.average(places, axis=0, weights=area_mm2), float(np.clip(share, 0.0, 1.0)))


def _gathered(mesh: Mesh, chosen: BoolArray) -> tuple[FloatArray, FloatArray, IntArray]:
    """Some triangles, gathered in cells: the middles (n, 3) of what is in each, its area, and the separate piece it is of."""
    if not chosen.any():
        return np.empty((0, 3)), np.empty(0), np.empty(0, dtype=np.int32)
    own = submesh(mesh, chosen)
    middles, area = own.vertices_mm[own.faces].mean(axis=1), areas_mm2(own)
    least = joined_vertices(own)[own.faces[:, 0]]
    used = np.zeros(len(own.vertices_mm), dtype=np.bool_)
    used[least] = True
    piece = (np.cumsum(used) - 1)[least]
    cell = np.column_stack([piece, np.floor(middles / _CELL_MM).astype(np.int64)])
    cell -= cell.min(axis=0)
    _, first, group = np.unique(
        np.ravel_multi_index(tuple(cell.T), tuple(cell.max(axis=0) + 1)), return_index=True, return_inverse=True
    )
    group = group.ravel()
    size = np.maximum(np.bincount(group, area), _NOTHING)
    places = np.column_stack([np.bincount(group, area * middles[:, k]) / size for k in range(3)])
    return places, size, piece[first].astype(np.int32)


def _hold(rows: FloatArray, area_mm2: FloatArray) -> FloatArray:
    return np.asarray((rows * area_mm2[:, None]).T @ rows)


def _least(hold: FloatArray) -> float:
    return float(max(np.linalg.eigvalsh(hold)[0], 0.0))


def _margin_deg(places: FloatArray, normals: FloatArray, every: FloatArray, rho_mm: float) -> float:
    """Largest docking margin of any push within the cone, at places spread over ``every``; 0 where nothing docks."""
    directions = cone(np.array([0.0, 0.0, -1.0]), PRESS_CONE_DEG, 2)
    pushes = np.concatenate([np.zeros((1, 3)), every[farthest(every, _PUSHES)]])
    loads = wrench(np.repeat(pushes, len(directions), axis=0), np.tile(directions, (len(pushes), 1)), rho_mm)
    return max(float(margins_deg(docking_facets(jacobian(places, normals, rho_mm)), loads).max()), 0.0)


def _best_square(hold: FloatArray, places: FloatArray, rows: FloatArray, area_mm2: FloatArray) -> FloatArray | None:
    """Where contact in a square would raise the least eigenvalue most (3,)."""
    best, where = -np.inf, None
    if len(places) == 0:
        return None
    square = cells_of(places, ZONE_MM)
    for n in range(int(square.max()) + 1):
        own = square == n
        if float(area_mm2[own].sum()) < _SHARE * ZONE_MM**2:
            continue
        now = _least(hold + _hold(rows[own], area_mm2[own]))
        if now > best:
            middle = np.average(places[own], axis=0, weights=area_mm2[own])
            best, where = now, places[own][int(np.argmin(np.linalg.norm(places[own] - middle, axis=1)))]
    return where
