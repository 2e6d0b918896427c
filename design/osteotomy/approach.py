"""How a guide goes on: the way along which the most of a bone's face carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.triangles import area_vectors
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh

AROUND_DEG, TILTED_DEG = 40.0, 15.0  # ways out that are tried, about the bone's axis and along it; project default
REACH_MM = 25.0  # bone so far above and below counts; project default, unverified
FACING = 0.35  # cosine between the bone's normal and the way out: steeper flanks carry nothing; project default, unverified
FLAT = 0.8  # cosine: bone that faces the way out so well is the flat of a face; a crest between two faces is not; project default
_FACE = 0.5  # cosine: half way to the next face of a shaft with three; normals so near belong to a face, for its mean; default
_STEP_DEG = 5.0  # numerical: the search by steps finds which face is meant, its own mean normal is found from there
_MOST_ROUNDS, _STILL = 400, 1e-7  # numerical: of that


@dataclass(frozen=True, slots=True, eq=False)
class WayOut:
    """Unit direction out of the bone, the middle (3,) of the face that it looks from (mm), and that face's area seen along it
    (mm2)."""

    direction: FloatArray
    middle_mm: FloatArray
    area_mm2: float


def way_out(mesh: Mesh, place_mm: FloatArray, axis: FloatArray, outward: FloatArray, *, width_mm: float) -> WayOut:
    """Search about ``outward`` for the way that the flattest face of the bone looks: most bone that faces it, seen along it.

    Parameters
    ----------
    mesh
        The bone.
    place_mm, axis
        (3,) middle of the stretch of bone that counts, and unit direction along it.
    outward
        (3,) first guess.
    width_mm
        Of the plate that will stand there.

    Raises
    ------
    DesignError
        No bone faces that way.
    """
    areas = 0.5 * area_vectors(mesh)
    middles = mesh.vertices_mm[mesh.faces].mean(axis=1)
    near = np.abs((middles - place_mm) @ axis) <= REACH_MM
    areas, middles = areas[near], middles[near]
    size = np.maximum(np.linalg.norm(areas, axis=1), 1e-12)
    flat = outward - axis * float(outward @ axis)
    flat = flat / np.linalg.norm(flat)
    across = np.cross(axis, flat)
    best: WayOut | None = None
    for turned in np.radians(np.arange(-AROUND_DEG, AROUND_DEG + 1.0, _STEP_DEG)):
        for tilted in np.radians(np.arange(-TILTED_DEG, TILTED_DEG + 1.0, _STEP_DEG)):
            z = np.cos(tilted) * (np.cos(turned) * flat + np.sin(turned) * across) + np.sin(tilted) * axis
            found = _carried(areas, size, middles, z, np.cross(axis, z), width_mm)
            if found is not None and (best is None or found.area_mm2 > best.area_mm2):
                best = found
    if best is None:
        raise DesignError("no bone faces the approach (0 mm2)", hint="another approach")
    z = _mean_normal(areas, size, best.direction, np.column_stack([flat, across, axis]))
    weight = _facing(areas, size, z, FLAT)
    x = np.cross(axis, z) / np.linalg.norm(np.cross(axis, z))
    middle = (weight[:, None] * middles).sum(axis=0) / weight.sum()
    under = (np.abs((middles - middle) @ x) <= 0.5 * width_mm) & (weight > 0.0)
    return WayOut(z, middle, float((areas[under] @ z).sum()))


def _mean_normal(areas: FloatArray, size: FloatArray, start: FloatArray, axes: FloatArray) -> FloatArray:
    """The normal of the face about a direction: that about which the face's own normals lie evenly, within what may be tried.

    All normals near it count, less the more they turn away: noise on the surface hardly moves it, where the best of some steps
    is a matter of chance on a bone that is nearly round.
    """
    z = start
    for _ in range(_MOST_ROUNDS):
        weight = _facing(areas, size, z, _FACE)
        total = ((weight / size)[:, None] * areas).sum(axis=0) @ axes
        turned = float(np.clip(np.arctan2(total[1], total[0]), *np.radians((-AROUND_DEG, AROUND_DEG))))
        tilted = float(np.clip(np.arctan2(total[2], np.hypot(total[0], total[1])), *np.radians((-TILTED_DEG, TILTED_DEG))))
        before = z
        z = axes @ np.array([np.cos(tilted) * np.cos(turned), np.cos(tilted) * np.sin(turned), np.sin(tilted)])
        if float(np.linalg.norm(z - before)) < _STILL:
            break
    return z


def _facing(areas: FloatArray, size: FloatArray, z: FloatArray, least: float) -> FloatArray:
    """(n,) area of each triangle, times how far it faces z beyond a least cosine."""
    return np.asarray(np.maximum(areas @ z - least * size, 0.0))


def _carried(
    areas: FloatArray, size: FloatArray, middles: FloatArray, z: FloatArray, x: FloatArray, width_mm: float
) -> WayOut | None:
    seen = areas @ z
    flat = seen > FLAT * size
    if not flat.any():
        return None
    middle = (seen[flat, None] * middles[flat]).sum(axis=0) / seen[flat].sum()
    x = x / np.linalg.norm(x)
    under = (np.abs((middles - middle) @ x) <= 0.5 * width_mm) & flat
    return WayOut(z, middle, float(seen[under].sum()))
