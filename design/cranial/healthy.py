"""The healthy outer and inner table over a hole, direction by direction, from what is left and from the other side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.contour import Sheet, Stiffness, laid
from batchone.design.cranial.mirrored import laid_on_rim
from batchone.design.cranial.sphere import BoolArray, Sphere
from batchone.design.cranial.spline import PolarPlane
from batchone.design.cranial.vault import Skull, VaultMap, trusted_outer
from batchone.pipeline.values import FloatArray, IntArray

_RING_MM = 30.0  # how far around the hole bone is asked; prototype
_HOLE_RINGS = 1  # bone nearer to the hole is rounded: off by up to 0.35 mm there, 0.03 mm one ring on (98 % of it, six cut holes)
_LIFT_MM = 0.7  # points are looked at from this far inside the head, so that the bone they lie on does not hide itself
_LOOK_DEG = 15.0  # a point that is seen from outside the head, along the hole's axis or this far off it, lies on the wall
_LOOK_MM = 60.0  # bone farther out than this hides nothing
_INNER_COSINE = 0.5  # inner hits flatter than this are steps and vessels, not table; project default
_INNER_SCALE_MM = 1.0  # inner data off by more than this count less; ridges and vessels
_OUTER_SCALE_MM = 0.5  # the same outside; sutures, plates, saw cuts
_STEP_RINGS = 1.4  # length of a ring in mm at 80 mm; level 6
# The lengths are the smoothing that served best on holes drawn on uncut skulls (one real, four made); the tension keeps an edge
# without bone from flying off. Outer, against 2.8 mm: 9 % less mean error on the real skull, 18 % on the made ones; bending that
# continues curvature (third order) is better there, but worse on the largest cut holes. Thickness: from 4 mm and 0.1 per mm to
# 2.8 mm and 0.2 per mm the real skull gains 2 %, the made ones lose 8 %.
_OUTER = Stiffness(1.5, 0.005)
_THICKNESS = Stiffness(3.0, 0.15)
# How much of the other side's bending is believed of the outer table: nearly all of what is broader than about 8 mm, less of the
# detail. Compared on the cut holes of the truth bench (0.8 to 1, 0.4 to 0.8, one share for both): the means differ by 3 %.
# In thickness sides differ more, and not in every skull alike: there the skull itself is asked.
_BROAD_SHARE, _FINE_SHARE = 0.9, 0.7
_BROAD_ROUNDS = 80  # rounds of averaging; they leave what is broader than about 8 mm
_RIM_RINGS = 35  # 50 mm around the hole: the bone that the mirrored side is laid on; 28 to 45 differ by 1 %
_DETAIL_ROUNDS = 170  # rounds of averaging; they leave what is broader than about 12 mm, the rest is detail


@dataclass(frozen=True, slots=True, eq=False)
class Healthy:
    """(n,) outer and inner radius in mm over ``region`` (n,), NaN elsewhere; where the mirrored side covers them; how alike the
    sides are in the detail of the thickness, 0 to 1."""

    outer_mm: FloatArray
    inner_mm: FloatArray
    region: BoolArray
    outer_covered: BoolArray
    inner_covered: BoolArray
    outer_good: BoolArray
    inner_good: BoolArray
    likeness: float


def healthy_tables(skull: Skull, sphere: Sphere, vault: VaultMap, hole: BoolArray, reach: BoolArray) -> Healthy:
    """Propose both tables over ``hole`` and about 30 mm around it.

    ``skull`` stands on its plane of symmetry; bone outside of ``reach`` (n,) is face or base and is not asked.
    """
    rings = int(np.ceil(_RING_MM / _STEP_RINGS))
    steps = sphere.rings_from(hole, rings)
    region = steps <= rings
    outer_good = trusted_outer(vault) & (steps > _HOLE_RINGS) & reach
    inner_good = trusted_inner(skull, sphere, vault, hole, outer_good)
    image = sphere.nearest(sphere.directions * np.array([-1.0, 1.0, 1.0]))  # exact: the icosphere is symmetric itself
    thick_mm = vault.outer_mm - vault.inner_mm
    alike = likeness(thick_mm, inner_good, image, sphere)
    rim = outer_good & (sphere.rings_from(hole, _RIM_RINGS) <= _RIM_RINGS)
    other, covered = laid_on_rim(
        smoothed(vault.outer_mm[image], outer_good[image], sphere), outer_good[image], sphere,
        bone_mm=vault.outer_mm, rim=rim, hole=hole,
    )  # fmt: skip
    broad = smoothed(other, covered, sphere, rounds=_BROAD_ROUNDS)
    outer_sheet = Sheet(vault.outer_mm, outer_good, _BROAD_SHARE * broad + _FINE_SHARE * (other - broad), covered)
    thick_sheet = _sheet(thick_mm, inner_good, image, sphere, share=alike)
    outer = laid(outer_sheet, sphere, region, _OUTER, _OUTER_SCALE_MM)
    thick = laid(thick_sheet, sphere, region, _THICKNESS, _INNER_SCALE_MM)
    return Healthy(outer, outer - thick, region, covered, inner_good[image], outer_good, inner_good, alike)


def _sheet(values: FloatArray, good: BoolArray, image: IntArray, sphere: Sphere, *, share: float) -> Sheet:
    covered = good[image]
    return Sheet(values, good, share * smoothed(values[image], covered, sphere), covered)


def likeness(values: FloatArray, good: BoolArray, image: IntArray, sphere: Sphere) -> float:
    """How much of the detail (n,) of one side is found on the other, over all of this skull: its correlation, 0 to 1.

    It is the share of the mirrored detail that leaves the least error in the mean.
    """
    fine = smoothed(values, good, sphere)
    detail = np.where(good, fine - smoothed(fine, good, sphere, rounds=_DETAIL_ROUNDS), 0.0)
    both = good & good[image]
    one, other = detail[both], detail[image][both]
    power = float((one * one).sum())
    return float(np.clip((one * other).sum() / power, 0.0, 1.0)) if power > 0.0 else 0.0


def trusted_inner(skull: Skull, sphere: Sphere, vault: VaultMap, hole: BoolArray, outer_good: BoolArray) -> BoolArray:
    """Directions whose inner hit is inner table.

    Rays from the centre that leave through the wall of the hole report the wall. But the wall is seen from outside the head,
    through the hole, and the inner table is not.
    """
    with np.errstate(invalid="ignore"):
        head_on = vault.inner_cosine > _INNER_COSINE
    near = np.flatnonzero(sphere.grown(hole, int(_RING_MM / _STEP_RINGS)) & ~np.isnan(vault.inner_mm))
    points = sphere.directions[near] * (vault.inner_mm[near, None] - _LIFT_MM)
    seen = np.zeros(len(hole), dtype=np.bool_)
    for way in _ways_out(sphere.directions[hole].mean(axis=0)):
        hits = skull.first(points, np.broadcast_to(way, points.shape), _LOOK_MM)
        seen[near] |= hits.face < 0
    return np.asarray(outer_good & head_on & ~(hole | seen))


def _ways_out(axis: FloatArray) -> FloatArray:
    """(7, 3) unit directions: ``axis`` and six around it."""
    plane = PolarPlane.around(axis)
    turn = np.radians(60.0) * np.arange(6)
    around = np.cos(turn)[:, None] * plane.across + np.sin(turn)[:, None] * plane.along
    tilt = np.radians(_LOOK_DEG)
    return np.concatenate([plane.middle[None], np.cos(tilt) * plane.middle + np.sin(tilt) * around])


def smoothed(values: FloatArray, good: BoolArray, sphere: Sphere, rounds: int = 2) -> FloatArray:
    """Average of good neighbours, ``rounds`` times, to take the image's noise out."""
    values = np.where(good, values, 0.0)
    weight = good.astype(np.float64)
    for _ in range(rounds):
        total = (sphere.links @ weight) + weight
        mean = (sphere.links @ (values * weight) + values * weight) / np.maximum(total, 1.0)
        values = np.where(good, mean, 0.0)
    return values
