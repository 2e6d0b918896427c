"""The underside of a shell on bone as heights over columns, before the shell is made: cheap enough to try many.

Nothing is nearer to the bone on its way out than its level, so the underside is one height over each column (x, y). Sides of the
shell stand at the edge of its footprint; what stands on the shell (sleeves, bars, blocks) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from batchone.design.contact.field import Float32Array, nearest_on_the_way
from batchone.design.contact.seat import BoolArray, Ground, level_map_mm
from batchone.design.seating.contacts import NEAR_MM, SAMPLINGS, Contact, Landscape, contact, landscape, spacing_mm, thinned
from batchone.pipeline.values import FloatArray

OTHERS_MM = 1.0  # numerical: between places that do not carry
_TOUCHES_MM = 0.08  # numerical: a height between voxels of 0.3 mm errs by less
_RIM_MM = (1.0, 2.0, 3.0, 4.0)  # numerical: heights of places on the sides of a shell
_LEAST_FACING = 0.2  # numerical: steeper contact counts as no larger than this says
_EVERY = 7  # numerical: one column in so many places the grid of the bone


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A shell that may be made: columns (x, y) over which it touches, and signed distance (x, y) to its edge, negative inside."""

    zones: BoolArray
    footprint_mm: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Under:
    """An underside on its bone, its middle at the origin, and the area (mm2) that touches."""

    body: Contact
    ground: Landscape
    area_mm2: float


class Underside:
    """What all shells over one piece of bone share.

    Parameters
    ----------
    ground
        The bone on its grid, z the way out.
    lowest_mm, highest_mm
        (x, y) and one height between which a shell lies.
    over
        (x, y) columns over which any shell may lie.
    offset_mm, relief_mm, apart_mm
        Gap where it touches, elsewhere, and to neighbours.
    close
        (x, y) columns without relief, as under a sleeve.
    open_
        (x, y) columns that are cut out of every shell, as by a bore.
    """

    def __init__(
        self, ground: Ground, lowest_mm: FloatArray, highest_mm: float, over: BoolArray, *,
        offset_mm: float, relief_mm: float, apart_mm: float, close: BoolArray | None = None, open_: BoolArray | None = None,
    ) -> None:  # fmt: skip
        lattice = ground.lattice
        self._lattice, self._lowest, self._highest = lattice, lowest_mm, highest_mm
        self._offset_mm, self._relief_mm = offset_mm, relief_mm
        self._reached = nearest_on_the_way(ground.distance_mm)
        self._beside = np.full(over.shape, -np.inf)
        if ground.others_mm is not None:
            self._beside = self._height_mm(nearest_on_the_way(ground.others_mm), np.full(over.shape, np.float32(apart_mm)))
        self._close = None
        if close is not None and close.any():
            self._close = level_map_mm(close, lattice.step_mm, offset_mm=offset_mm, relief_mm=relief_mm)
        self._over = over if open_ is None else over & ~open_
        self._touching_mm = self._height_mm(self._reached, np.full(over.shape, np.float32(offset_mm)))
        self._x_mm, self._y_mm = np.broadcast_arrays(lattice.x_mm, lattice.y_mm)
        self._bone = landscape(ground.bone, self.surface_mm(over)[::_EVERY])

    def of(self, shape: Shape) -> Under:
        """The underside of one shell, with places as far apart as on a part that is scored."""
        lattice = self._lattice
        zones = level_map_mm(shape.zones, lattice.step_mm, offset_mm=self._offset_mm, relief_mm=self._relief_mm)
        level = zones if self._close is None else np.minimum(zones, self._close)
        first = self._height_mm(self._reached, level)
        stop = np.maximum(self._lowest, self._beside)
        height = np.maximum(first, stop)
        here = self._over & (shape.footprint_mm < 0.0) & (height < self._highest)
        places = self._places(here, height)
        flat = ((zones <= self._offset_mm + 1e-4) & (first >= stop))[here]
        touches = flat & (np.abs(self._bone.at(places) - self._offset_mm) < _TOUCHES_MM)
        rim = self._places(here & ~ndimage.binary_erosion(here), height)
        others = [places[~touches], *(rim + np.array([0.0, 0.0, up]) for up in _RIM_MM)]
        others = [one[self._bone.at(one) < NEAR_MM] for one in others]
        facing = np.maximum(self._bone.normals(places[touches])[:, 2], _LEAST_FACING)
        area_mm2 = float((lattice.step_mm**2 / facing).sum())
        sets = [
            (thinned(places[touches], spacing_mm(area_mm2), turn), *(thinned(one, OTHERS_MM, turn) for one in others))
            for turn in range(SAMPLINGS)
        ]
        carrying = sets[0][0]
        middle = carrying.mean(axis=0) if len(carrying) else np.zeros(3)
        first, *again = (np.concatenate(one) - middle for one in sets)
        grid = self._bone.lattice
        ground = Landscape(type(grid)(grid.origin_mm - middle, grid.step_mm, grid.shape), self._bone.distance_mm)
        return Under(contact(first[: len(carrying)], first[len(carrying) :], ground, tuple(again)), ground, area_mm2)

    @property
    def step_mm(self) -> float:
        """Between neighbouring columns."""
        return self._lattice.step_mm

    def seen(self, columns: BoolArray) -> BoolArray:
        """Those of some columns (x, y) over which :meth:`surface_mm` has a place."""
        return np.asarray(columns & np.isfinite(self._touching_mm))

    def normals(self, places_mm: FloatArray) -> FloatArray:
        """(n, 3) unit vectors out of the bone."""
        return self._bone.normals(places_mm)

    def surface_mm(self, columns: BoolArray) -> FloatArray:
        """(n, 3) where a guide would touch over some columns (x, y)."""
        return self._places(self.seen(columns), self._touching_mm)

    def _places(self, columns: BoolArray, height_mm: FloatArray) -> FloatArray:
        return np.column_stack([self._x_mm[columns], self._y_mm[columns], height_mm[columns]])

    def _height_mm(self, reached: Float32Array, level_mm: Float32Array) -> FloatArray:
        """(x, y) lowest height at which nothing at or above is nearer than the level; infinite where none is or all are."""
        below = (reached < level_mm[:, :, None]).sum(axis=2)
        count = reached.shape[2]
        upper = np.clip(below, 1, count - 1)
        low, high = (np.take_along_axis(reached, (upper - k)[:, :, None], 2)[:, :, 0] for k in (1, 0))
        share = np.clip((level_mm - low) / np.maximum(high - low, 1e-6), 0.0, 1.0)
        height = self._lattice.z_mm[upper - 1] + self._lattice.step_mm * share
        return np.where(below == 0, -np.inf, np.where(below == count, np.inf, height))
