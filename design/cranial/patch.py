"""From the map of healthy radii to what a plan holds: two fine patches and the rims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy import sparse
from scipy.spatial import cKDTree

from batchone.design.cranial.healthy import Healthy
from batchone.design.cranial.rim import DIP_MM, SPACING_MM, boundary, resampled
from batchone.design.cranial.sphere import BoolArray, Sphere
from batchone.design.cranial.spline import PolarPlane
from batchone.design.cranial.vault import Skull, cast
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, IntArray, Mesh

MARGIN_MM = 17.0  # the patches reach this far beyond the rim; the body needs 15 mm for its wedge between the tables
_BLEND_RINGS = 3  # over bone, the patch goes over from the fitted to the measured table within about this many steps
_OUTER_ZONE_RINGS = 6  # the outer edge of the wall lies this near to the hole seen from the centre (20 degrees of flare)
_INNER_ZONE_RINGS = 14  # the inner one this near; a thick vault seen at 60 degrees
_INNER_LEAD_MM = 8.0  # rays that look for the inner edge start this far below the healthy inner table, in the brain
_SLIT_RINGS = 3  # steps of 0.7 mm: a slit up to 4 mm wide that runs into the hole is no part of it; a saw cut is 1 to 2 mm wide
_THINNEST_MM = 1.0  # the inner patch stays this far below the outer one


@dataclass(frozen=True, slots=True, eq=False)
class Fine:
    """A fine piece of the map: (n, 3) directions, their triangles, and both healthy radii in mm."""

    directions: FloatArray
    faces: IntArray
    outer_mm: FloatArray
    inner_mm: FloatArray
    near_outer: BoolArray
    near_inner: BoolArray


def fine_map(skull: Skull, coarse: Sphere, fine: Sphere, healthy: Healthy, hole: BoolArray) -> Fine:
    """Divide the healthy region once more and let it follow the measured tables where these are trusted."""
    keep = _passed_on(healthy.region.astype(np.float64), fine) == 1.0
    faces = fine.faces[keep[fine.faces].all(axis=1)]
    used = np.zeros(len(keep), dtype=np.bool_)
    used[faces.ravel()] = True
    place = np.cumsum(used) - 1
    directions = fine.directions[used]
    measured = cast(skull, directions)
    radii = []
    for values, good, real in (
        (healthy.outer_mm, healthy.outer_good, measured.outer_mm),
        (healthy.inner_mm, healthy.inner_good, measured.inner_mm),
    ):
        fitted = _passed_on(np.where(healthy.region, values, 0.0), fine)[used]
        share = _passed_on(_faded(good, coarse), fine)[used]
        share = np.where(np.isnan(real) | (np.abs(real - fitted) > 2.0), 0.0, share)
        radii.append(np.where(share > 0.0, share * np.nan_to_num(real) + (1.0 - share) * fitted, fitted))
    outer, inner = radii
    near = [
        _passed_on(coarse.grown(hole, rings).astype(np.float64), fine)[used] > 0.0
        for rings in (_OUTER_ZONE_RINGS, _INNER_ZONE_RINGS)
    ]
    return Fine(directions, place[faces].astype(np.int32), outer, np.minimum(inner, outer - _THINNEST_MM), near[0], near[1])


def outer_rim(skull: Skull, fine: Fine) -> FloatArray:
    """(n, 3) closed rim on the outer table, 1 mm apart, working frame."""

    def is_table(directions: FloatArray, expected_mm: FloatArray) -> BoolArray:
        radius = cast(skull, directions).outer_mm
        return np.asarray(np.nan_to_num(radius) >= expected_mm - DIP_MM)

    table = is_table(fine.directions, fine.outer_mm)
    opened = _one_hole(fine, table, fine.near_outer)
    lines = boundary(fine.directions, fine.faces, fine.outer_mm, table=~opened, fixed=~opened & ~table, is_table=is_table)
    if not lines:
        raise DesignError("no closed rim was found round the defect", hint="draw it: [[plan.curves]] with name 'rim'")
    directions = lines[0][0]
    radius = cast(skull, directions).outer_mm
    expected = _at(fine, directions, fine.outer_mm)
    radius = np.where(np.abs(np.nan_to_num(radius) - expected) <= 2.0 * DIP_MM, radius, expected)
    return resampled(directions * radius[:, None], SPACING_MM)


def drawn_rim(fine: Fine, points: FloatArray) -> FloatArray:
    """(n, 3) a person's closed line (k, 3), 1 mm apart, on the healthy outer table, counter-clockwise seen from outside."""
    line = resampled(points, SPACING_MM)
    unit = line / np.linalg.norm(line, axis=1, keepdims=True)
    flat = PolarPlane.around(unit.mean(axis=0)).flat(unit)
    ahead = np.roll(flat, -1, axis=0)
    if (flat[:, 0] * ahead[:, 1] - flat[:, 1] * ahead[:, 0]).sum() < 0.0:
        unit = unit[::-1]
    return np.asarray(unit * _at(fine, unit, fine.outer_mm)[:, None])


def inner_rim(skull: Skull, fine: Fine) -> FloatArray | None:
    """(n, 3) closed rim on the inner table, 1 mm apart, working frame; None when rays from the centre cannot tell."""

    def radius_of(directions: FloatArray, expected_mm: FloatArray) -> FloatArray:
        start = expected_mm - _INNER_LEAD_MM
        hits = skull.first(directions * start[:, None], directions, 3.0 * _INNER_LEAD_MM)
        return np.asarray(np.where(hits.cosine < 0.0, start + hits.distance_mm, np.nan))

    def is_table(directions: FloatArray, expected_mm: FloatArray) -> BoolArray:
        return np.asarray(np.nan_to_num(radius_of(directions, expected_mm), nan=np.inf) <= expected_mm + DIP_MM)

    table = is_table(fine.directions, fine.inner_mm)
    opened = _one_hole(fine, table, fine.near_inner)
    lines = boundary(fine.directions, fine.faces, fine.inner_mm, table=~opened, fixed=~opened & ~table, is_table=is_table)
    if not lines:
        return None
    directions = lines[0][0]
    expected = _at(fine, directions, fine.inner_mm)
    radius = radius_of(directions, expected)
    radius = np.where(np.abs(np.nan_to_num(radius) - expected) <= 2.0 * DIP_MM, radius, expected)
    return resampled(directions * radius[:, None], SPACING_MM)


def _one_hole(fine: Fine, table: BoolArray, near: BoolArray) -> BoolArray:
    """The hole without the slits that run into it (saw cuts, sutures): directions without table, opened, largest part."""
    count = len(table)
    ends = np.concatenate([fine.faces[:, [0, 1]], fine.faces[:, [1, 2]], fine.faces[:, [2, 0]]])
    links = sparse.csr_matrix((np.ones(len(ends), dtype=np.float32), (ends[:, 0], ends[:, 1])), shape=(count, count))
    links = links + links.T
    empty = ~table & near

    def grown(mask: BoolArray) -> BoolArray:
        return np.asarray(mask | (links @ mask.astype(np.float32) > 0.0))

    core = empty
    for _ in range(_SLIT_RINGS):
        core = ~grown(~core)
    label = sparse.csgraph.connected_components(links[core][:, core], directed=False)[1]
    part = np.zeros(count, dtype=np.bool_)
    if len(label):
        part[np.flatnonzero(core)[label == np.argmax(np.bincount(label))]] = True
    for _ in range(_SLIT_RINGS):
        part = grown(part) & empty
    return part


def patches(fine: Fine, rim: FloatArray) -> tuple[Mesh, Mesh]:
    """The outer and the inner healthy surface over the hole and 17 mm around it, same connectivity, outward, working frame."""
    near, _ = cKDTree(rim).query(fine.directions * fine.outer_mm[:, None], distance_upper_bound=MARGIN_MM)
    keep = np.isfinite(near) | inside_loop(fine.directions, rim)
    faces = fine.faces[keep[fine.faces].all(axis=1)]
    used = np.zeros(len(keep), dtype=np.bool_)
    used[faces.ravel()] = True
    small = (np.cumsum(used) - 1)[faces].astype(np.int32)
    directions = fine.directions[used]
    return (
        Mesh(directions * fine.outer_mm[used, None], small),
        Mesh(directions * fine.inner_mm[used, None], small),
    )


def inside_loop(directions: FloatArray, loop: FloatArray) -> BoolArray:
    """Which (n, 3) unit directions a closed line (k, 3) around its own mean direction goes round."""
    unit = loop / np.linalg.norm(loop, axis=1, keepdims=True)
    plane = PolarPlane.around(unit.mean(axis=0))
    shape = shapely.Polygon(plane.flat(unit))
    shapely.prepare(shape)
    at = plane.flat(directions)
    return np.asarray(shapely.contains_xy(shape, at[:, 0], at[:, 1]))


def _faded(good: BoolArray, sphere: Sphere) -> FloatArray:
    """0 outside ``good``, rising to 1 within a few steps."""
    share = np.zeros(len(good))
    for ring in range(1, _BLEND_RINGS + 1):
        share[sphere.eroded(good, ring)] = ring / _BLEND_RINGS
    return share


def _passed_on(values: FloatArray, fine: Sphere) -> FloatArray:
    """Values of the coarse directions on the fine ones: kept, and halfway between the two parents of a new one."""
    return np.concatenate([values, values[fine.parents].mean(axis=1)])


def _at(fine: Fine, directions: FloatArray, values: FloatArray) -> FloatArray:
    """Values at other directions, from the three nearest."""
    distance, index = cKDTree(fine.directions).query(directions, k=3)
    weight = 1.0 / np.maximum(distance, 1e-9)
    return np.asarray((values[index] * weight).sum(axis=1) / weight.sum(axis=1))
