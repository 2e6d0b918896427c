"""A drill sleeve: a tube along a planned axis, with a stop face at its top and a bore that is a functional face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from batchone.design import solid
from batchone.design.booleans import Solid, solid_from_labelled_mesh, solid_from_mesh
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Vector

OUTSIDE = "sleeve-outside"
_BETWEEN_MM = 3.0  # between two sleeves: an instrument's collar must pass; minimum wall between sleeves in dental guides
_SAMPLES = 60  # numerical: places along a sleeve
_THROUGH_MM = 4.0  # numerical: bars and bores reach this far below the entry; the seat and the bone are below


@dataclass(frozen=True, slots=True, eq=False)
class Sleeve:
    """A sleeve in the device's frame.

    Attributes
    ----------
    name
        Of the planned axis: ``T9-left``.
    entry_mm, outward
        (3,) where the axis meets the bone, and the unit vector out of it.
    bore_mm, outer_mm
        Diameters.
    top_mm
        From the entry to the stop face, along the axis.
    """

    name: str
    entry_mm: FloatArray
    outward: FloatArray
    bore_mm: float
    outer_mm: float
    top_mm: float

    @property
    def bore_label(self) -> str:
        """Name of the face that leads the drill."""
        return f"bore-{self.name}"

    @property
    def stop_label(self) -> str:
        """Name of the face on which the drill's collar ends."""
        return f"stop-{self.name}"

    def at_mm(self, along_mm: float) -> FloatArray:
        """(3,) place on the axis, so far out of the bone."""
        return np.asarray(self.entry_mm + along_mm * self.outward)

    def at_height_mm(self, z_mm: float) -> FloatArray:
        """(3,) place on the axis at a height; the axis must not lie flat."""
        return self.at_mm((z_mm - float(self.entry_mm[2])) / float(self.outward[2]))

    def tube(self) -> Solid:
        """The outside, from below the entry to the stop face."""
        bar = self.bar(self.outer_mm, self.top_mm)
        corners = bar.mesh.vertices_mm[bar.mesh.faces]
        along = (corners - self.entry_mm) @ self.outward
        stop = (along > self.top_mm - 1e-6).all(axis=1)
        return solid_from_labelled_mesh(bar.mesh, (OUTSIDE, self.stop_label), np.asarray(stop, dtype=np.int16))

    def bore(self) -> solid.Feature:
        """What is drilled through the tube."""
        return self.bar(self.bore_mm, self.top_mm + _THROUGH_MM)

    def cut(self) -> Solid:
        """The bore as a tool."""
        return solid_from_mesh(self.bore().mesh, self.bore_label)

    def bar(self, diameter_mm: float, top_mm: float) -> solid.Feature:
        """A round bar along the axis, from below the entry up."""
        start = self.at_mm(-_THROUGH_MM)
        return solid.cylinder(
            self.bore_label,
            start_mm=_vector(start),
            axis=_vector(self.outward),
            diameter_mm=diameter_mm,
            length_mm=top_mm + _THROUGH_MM,
        )


def rim_height_mm(sleeve_entry_mm: FloatArray, outward: FloatArray, radius_mm: float, height_at: FloatArray) -> float:
    """How far above the entry, along the axis, the highest of some points (n, 3) within ``radius_mm`` of the axis lies."""
    along = (height_at - sleeve_entry_mm) @ outward
    aside = np.linalg.norm(height_at - sleeve_entry_mm - along[:, None] * outward, axis=1)
    near = (aside <= radius_mm) & (np.abs(along) < 3.0 * radius_mm)
    return float(along[near].max()) if near.any() else 0.0


def refuse_colliding(sleeves: Sequence[Sleeve]) -> None:
    """Two sleeves of one guide must leave room between them.

    Raises
    ------
    DesignError
        Two do not.
    """
    for first, second in combinations(sleeves, 2):
        share = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
        one, other = (sleeve.entry_mm + share * sleeve.top_mm * sleeve.outward for sleeve in (first, second))
        between = float(np.linalg.norm(one[:, None] - other[None], axis=2).min()) - 0.5 * (first.outer_mm + second.outer_mm)
        if between < _BETWEEN_MM:
            raise DesignError(
                f"sleeves {first.name} and {second.name} are {between:.1f} mm apart, at least {_BETWEEN_MM:g} mm",
                hint="shorter sleeves (sleeve_mm), thinner walls (sleeve_wall_mm), or other ways",
            )


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
