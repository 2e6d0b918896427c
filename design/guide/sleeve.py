"""A drill sleeve: a tube along a planned axis, with a stop face at its top and a bore that is a functional face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design import solid
from batchone.design.booleans import Solid, solid_from_labelled_mesh, solid_from_mesh
from batchone.pipeline.values import FloatArray, Vector

OUTSIDE = "sleeve-outside"
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


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
