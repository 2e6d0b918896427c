"""A saw slot: a flat gap that leads a blade along a planned plane, in a block; its faces are functional faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design import solid
from batchone.design.booleans import Solid, box_solid, solid_from_mesh
from batchone.pipeline.values import FloatArray, Mesh, Vector

BLOCK = "saw-block"


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A slot in the device's frame.

    Attributes
    ----------
    name
        ``1`` for the plane ``cut-1``.
    middle_mm
        (3,) a place half way between the slot's faces.
    normal, advance
        (3,) unit, across the faces and along the blade's way into the bone.
    width_mm
        Between the faces.
    across_mm
        From where to where it reaches across the blade's way, along ``normal x advance`` from ``middle_mm``.
    along_mm
        The same along the blade's way: from the block's outer face to its lower one.
    """

    name: str
    middle_mm: FloatArray
    normal: FloatArray
    advance: FloatArray
    width_mm: float
    across_mm: tuple[float, float]
    along_mm: tuple[float, float]

    @property
    def label(self) -> str:
        """Name of its faces."""
        return f"slot-{self.name}"

    @property
    def across(self) -> FloatArray:
        """(3,) unit, across the blade's way, between the faces."""
        return np.asarray(np.cross(self.normal, self.advance))

    def at_mm(self, across: float, along: float, above: float = 0.0) -> FloatArray:
        """(3,) the place so far across, along the blade's way, and above the middle."""
        return np.asarray(self.middle_mm + across * self.across + along * self.advance + above * self.normal)

    def feature(self, *, before_mm: float, beyond_mm: float, open_end: float = 0.0, open_mm: float = 0.0) -> solid.Feature:
        """What is cut out: from ``before_mm`` outside of the block to ``beyond_mm`` below it.

        ``open_end`` -1 or 1 opens the slot at the lower or the upper end of ``across_mm``, by ``open_mm``.
        """
        low, high = self.across_mm[0] - open_mm * (open_end < 0.0), self.across_mm[1] + open_mm * (open_end > 0.0)
        start, end = self.along_mm[0] - before_mm, self.along_mm[1] + beyond_mm
        return solid.box(
            self.label,
            size_mm=(end - start, high - low, self.width_mm),
            centre_mm=_vector(self.at_mm(0.5 * (low + high), 0.5 * (start + end))),
            x_direction=_vector(self.advance),
            normal=_vector(self.normal),
        )

    def block(self, *, ends_mm: float, below_mm: float, above_mm: float) -> Solid:
        """The block round it: ``ends_mm`` longer at both ends, and walls against and along its normal."""
        half = 0.5 * self.width_mm
        low = np.array([self.along_mm[0], self.across_mm[0] - ends_mm, -half - below_mm])
        high = np.array([self.along_mm[1], self.across_mm[1] + ends_mm, half + above_mm])
        pose = np.eye(4)
        pose[:3, :3] = _axes(self.advance, self.normal)
        pose[:3, 3] = self.middle_mm
        return box_solid(low, high, BLOCK, pose=pose)


def cut_tool(feature: solid.Feature) -> Solid:
    """A feature as a tool whose faces carry its name."""
    return solid_from_mesh(feature.mesh, feature.name)


def filled(first: Solid, second: Solid) -> Solid:
    """All between two blocks that stand close together."""
    from scipy.spatial import ConvexHull

    points = np.vstack([_corners(first), _corners(second)])
    hull = ConvexHull(points)
    used = np.unique(hull.simplices)
    place = np.zeros(len(points), dtype=np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    faces = hull.simplices.copy()
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), hull.equations[:, :3]) < 0.0
    faces[inward] = faces[inward][:, ::-1]
    return solid_from_mesh(Mesh(np.ascontiguousarray(points[used]), place[faces]), BLOCK)


def _corners(block: Solid) -> FloatArray:
    return np.asarray(block.manifold.to_mesh64().vert_properties, dtype=np.float64)[:, :3]


def _axes(advance: FloatArray, normal: FloatArray) -> FloatArray:
    """(3, 3) along the blade, across it, along the normal; exactly square to each other."""
    x = advance / np.linalg.norm(advance)
    z = normal - x * float(normal @ x)
    z /= np.linalg.norm(z)
    return np.column_stack([x, np.cross(z, x), z])


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
