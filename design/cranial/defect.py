"""Where the vault is missing: directions without bone, cleaned of saw cuts, sutures and what was never scanned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.sphere import BoolArray, Sphere
from batchone.design.cranial.spline import PolarPlane, spline
from batchone.design.cranial.vault import EDGE_MM, VaultMap, trusted_outer
from batchone.pipeline.values import FloatArray, IntArray

MIN_AREA_CM2 = 2.0  # a smaller gap is a burr hole or a foramen, not a defect to cover; prototype, at 80 mm from the centre
_MAP_MM = 80.0  # distance at which areas on the map of directions are counted; same prototype
_OPENING_RINGS = 1  # removes saw cuts, sutures and foramina narrower than about 3 mm; same prototype
_GUESS_RINGS = (4, 12)  # bone this many steps from a hole says where the outer table would be; same prototype
_UNSCANNED = 0.5  # a hole with more than this share beyond the scanned box was not scanned, it is no defect; same prototype


@dataclass(frozen=True, slots=True, eq=False)
class Hole:
    """One gap of the vault.

    ``index``: its directions; ``area_cm2`` on the sphere of 80 mm; ``open``: it reaches the edge of the vault's domain;
    ``unscanned``: share of it that lies beyond the scanned box.
    """

    index: IntArray
    area_cm2: float
    open: bool
    unscanned: float

    def centre(self, sphere: Sphere) -> FloatArray:
        """(3,) unit direction of its middle."""
        middle = sphere.directions[self.index].mean(axis=0)
        return np.asarray(middle / np.linalg.norm(middle))


def map_area_cm2(sphere: Sphere, mask: BoolArray) -> float:
    """Area of the directions in ``mask`` (n,), counted on the sphere of 80 mm."""
    return float(sphere.solid_angles[mask].sum() * _MAP_MM**2 / 100.0)


def find_holes(vault: VaultMap, sphere: Sphere, inside: BoolArray, reach: BoolArray) -> tuple[Hole, ...]:
    """The gaps of at least 2 cm2 in the vault, largest first; none on an intact skull.

    A gap counts with what lies ``inside`` (n,) the vault, and then goes on as far as ``reach`` (n,) allows.
    """
    empty = np.isnan(vault.outer_mm) & reach
    core = sphere.eroded(empty | ~reach, _OPENING_RINGS) & empty
    beyond = sphere.grown(~reach, 1)
    holes = []
    for part in sphere.components(core):
        mask = np.zeros(len(empty), dtype=np.bool_)
        mask[part] = True
        mask = sphere.grown(mask, _OPENING_RINGS) & empty
        if map_area_cm2(sphere, mask & inside) < MIN_AREA_CM2:
            continue
        area_cm2 = map_area_cm2(sphere, mask)
        share = _unscanned_share(vault, sphere, mask)
        if share <= _UNSCANNED:
            holes.append(Hole(np.flatnonzero(mask).astype(np.int32), area_cm2, bool((mask & beyond).any()), share))
    return tuple(sorted(holes, key=lambda hole: -hole.area_cm2))


def _unscanned_share(vault: VaultMap, sphere: Sphere, mask: BoolArray) -> float:
    """Which share of a hole would lie beyond the scanned box, judged by the bone around it."""
    steps = sphere.rings_from(mask, _GUESS_RINGS[1])
    ring = (steps >= _GUESS_RINGS[0]) & (steps <= _GUESS_RINGS[1]) & trusted_outer(vault)
    if ring.sum() < 12:
        return 1.0
    plane = PolarPlane.around(sphere.directions[mask].mean(axis=0))
    guess = spline(plane.flat(sphere.directions[ring]), vault.outer_mm[ring], smooth=1.0)
    radius = guess(plane.flat(sphere.directions[mask]))
    return float((radius > vault.exit_mm[mask] - EDGE_MM).mean())
