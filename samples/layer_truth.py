"""What layers of a closed mesh measure against sections by manifold3d: held by tests, printed by a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import manifold3d
import numpy as np

from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.layers import section_heights, slice_parts
from batchone.slicer.readback import volume_mm3

MOST_AREA, MOST_VOLUME = 0.005, 0.001  # shares by which a layer's area, and the volume of all, may be off: issue of the slicer
SECTIONS = 200  # layers that are compared, at random
_FIRST_MM = 5.0  # numerical: a body stands in the first octant, as on a plate
_LEAST_MM2 = 1e-4  # numerical: areas below it are compared with it
_IN_A_PLANE_MM = 1e-7  # a face in the plane of a section may fall on either side of it by rounding
_SEED = 7


@dataclass(frozen=True, slots=True)
class LayerTruth:
    """What the layers of one mesh measure.

    Attributes
    ----------
    layers, blank, broken
        How many there are; how many have no area; contours of fewer than three points.
    area, volume
        Relative error: of the worst of the layers that were compared, and of all layers together.
    steps
        Share of the volume by which layers in which level faces end may err: half a layer over their area.
    """

    layers: int
    blank: int
    broken: int
    area: float
    volume: float
    steps: float

    @property
    def holds(self) -> bool:
        """Whether contours are closed and areas and volume within what they may be off."""
        return self.broken == 0 and self.area <= MOST_AREA and self.volume <= MOST_VOLUME + self.steps


def on_the_plate(points_mm: FloatArray, faces: np.ndarray[tuple[int, int], np.dtype[np.int32]]) -> Mesh:
    """A mesh moved onto a plate."""
    return Mesh(points_mm - points_mm.min(axis=0) + np.array([_FIRST_MM, _FIRST_MM, 0.0]), np.asarray(faces, dtype=np.int32))


def layer_truth(mesh: Mesh, layer_mm: float) -> LayerTruth:
    """Slice a closed mesh that stands on the plate and measure its layers.

    Raises
    ------
    ValueError
        manifold3d does not take the mesh.
    """
    solid = manifold3d.Manifold(manifold3d.Mesh64(mesh.vertices_mm, mesh.faces.astype(np.uint64)))
    if solid.status() != manifold3d.Error.NoError:
        raise ValueError(f"no solid: {solid.status()}")
    layers = slice_parts([mesh], layer_mm)
    top_mm, area = float(mesh.vertices_mm[:, 2].max()), layers.area_mm2()
    heights = section_heights(top_mm, layer_mm)
    worst = 0.0
    for k in np.random.default_rng(_SEED).choice(len(heights), min(SECTIONS, len(heights)), replace=False).tolist():
        wanted = [solid.slice(float(heights[k]) + side).area() for side in (-_IN_A_PLANE_MM, _IN_A_PLANE_MM)]
        worst = max(worst, min(abs(float(area[k]) - one) / max(one, _LEAST_MM2) for one in wanted))
    thick_mm = np.full(len(heights), layer_mm)
    thick_mm[-1] = top_mm - (len(heights) - 1) * layer_mm
    whole = volume_mm3(mesh)
    return LayerTruth(
        layers=len(heights),
        blank=int(np.count_nonzero(area <= 0.0)),
        broken=int(np.count_nonzero(np.diff(layers.loop_start) < 3)),
        area=worst,
        volume=abs(float(area @ thick_mm) - whole) / whole,
        steps=_steps(mesh, layer_mm, whole),
    )


def _steps(mesh: Mesh, layer_mm: float, whole_mm3: float) -> float:
    corners = mesh.vertices_mm[mesh.faces]
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    level = np.ptp(corners[:, :, 2], axis=1) == 0.0
    inner = level & (corners[:, 0, 2] > 0.0) & (corners[:, 0, 2] < mesh.vertices_mm[:, 2].max())
    return float(0.25 * layer_mm * np.abs(twice[inner, 2]).sum()) / whole_mm3
