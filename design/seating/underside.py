"""The underside of a shell on bone, before the shell is a solid: cheap enough to try many.

It is the surface of the fields of shell and seat, which a part has too but for its booleans; what stands on the shell (sleeves,
bars, blocks) is the same for all shells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from batchone.design.contact.field import Lattice
from batchone.design.contact.seat import BoolArray, Ground
from batchone.design.seating.contacts import (
    NEAR_MM,
    OTHERS_MM,
    Contact,
    Landscape,
    contact,
    landscape,
    samplings,
    spacing_mm,
    turned_down,
)
from batchone.design.triangles import areas_mm2
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh

_TOUCHES_MM = 0.06  # numerical: vertices that a solid has on the offset lie so near to it before they are moved there
_EVERY = 7  # numerical: one column in so many places the grid of the bone


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A shell that may be made: columns (x, y) over which it touches, and signed distance (x, y) to its edge, negative inside."""

    zones: BoolArray
    footprint_mm: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Under:
    """An underside on its bone, the middle of its contact (3,) at the origin, and the area (mm2) that touches."""

    body: Contact
    ground: Landscape
    middle_mm: FloatArray
    area_mm2: float


class Underside:
    """What all shells over one piece of bone share.

    Parameters
    ----------
    ground
        The bone on its grid, z the way out.
    height_mm
        (x, y) the bone's first face over the columns that any shell may touch, else NaN.
    draw
        Gives the surface of a shell, its seat cut out.
    offset_mm
        Gap where it touches.
    outside_mm, above
        How far from the bone a shell's outer face is, and what stands on every shell, of which only what is further off is asked.
    open_
        (x, y) columns that are cut out of every shell, as by a bore.
    """

    def __init__(
        self, ground: Ground, height_mm: FloatArray, draw: Callable[[Shape], Mesh], *,
        offset_mm: float, outside_mm: float, above: Mesh, open_: BoolArray,
    ) -> None:  # fmt: skip
        self._ground, self._height_mm, self._draw, self._offset_mm, self._open = ground, height_mm, draw, offset_mm, open_
        self._x_mm, self._y_mm = np.broadcast_arrays(ground.lattice.x_mm, ground.lattice.y_mm)
        self._bone = landscape(ground.bone, self.surface_mm(np.isfinite(height_mm))[::_EVERY])
        beyond = samplings(above, turned_down(above), OTHERS_MM)
        apart = [self._bone.at(one) for one in beyond]
        self._above = [one[(outside_mm < gap) & (gap < NEAR_MM)] for one, gap in zip(beyond, apart, strict=True)]

    def of(self, shape: Shape) -> Under | None:
        """The underside of one shell, with places as far apart as on a part that is scored; None where nothing touches."""
        try:
            mesh = self._draw(shape)
        except DesignError:
            return None
        lattice = self._ground.lattice
        column = np.clip(np.rint((mesh.vertices_mm - lattice.origin_mm) / lattice.step_mm).astype(int), 0, None)
        x, y = (np.minimum(column[:, axis], lattice.shape[axis] - 1) for axis in (0, 1))
        on = np.abs(lattice.at(self._ground.distance_mm, mesh.vertices_mm) - self._offset_mm) < _TOUCHES_MM
        down = turned_down(mesh) & ~self._open[x, y][mesh.faces].any(axis=1)
        touches = down & (on & shape.zones[x, y])[mesh.faces].all(axis=1)
        area_mm2 = float(areas_mm2(Mesh(mesh.vertices_mm, mesh.faces[touches])).sum())
        carrying = samplings(mesh, touches, spacing_mm(area_mm2))
        if len(carrying[0]) == 0:
            return None
        others = [one[self._bone.at(one) < NEAR_MM] for one in samplings(mesh, down & ~touches, OTHERS_MM)]
        middle = carrying[0].mean(axis=0)
        first, *again = (np.concatenate(one) - middle for one in zip(carrying, others, self._above, strict=True))
        grid = self._bone.lattice
        ground = replace(self._bone, lattice=Lattice(grid.origin_mm - middle, grid.step_mm, grid.shape))
        count = len(carrying[0])
        return Under(contact(first[:count], first[count:], ground, tuple(again)), ground, middle, area_mm2)

    @property
    def step_mm(self) -> float:
        """Between neighbouring columns."""
        return self._ground.lattice.step_mm

    def normals(self, places_mm: FloatArray) -> FloatArray:
        """(n, 3) unit vectors out of the bone."""
        return self._bone.normals(places_mm)

    def surface_mm(self, columns: BoolArray) -> FloatArray:
        """(n, 3) the bone's surface over some columns (x, y)."""
        return np.column_stack([self._x_mm[columns], self._y_mm[columns], self._height_mm[columns]])
