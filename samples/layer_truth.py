"""What layers of a closed mesh, and the file of them, measure against manifold3d: held by tests, printed by a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import manifold3d
import numpy as np

from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.cli_header import SHORT_UNIT_MM
from batchone.slicer.layers import Layers, section_heights, slice_parts
from batchone.slicer.readback import volume_mm3

MOST_AREA, MOST_VOLUME = 0.005, 0.001  # shares by which a layer's area, and the volume of all, may be off: issue of the slicer
SECTIONS = 200  # layers that are compared, at random
_FIRST_MM = 5.0  # numerical: a body stands in the first octant, as on a plate
_LEAST_MM2 = 1e-4  # numerical: areas below it are compared with it
_SIDES_MM = (-1e-7, 1e-7)  # a face in the plane of a section may fall on either side of it by rounding
_ROUNDING_MM = 0.5 * SHORT_UNIT_MM * np.sqrt(2.0)  # how far a point of the file may lie from where it belongs
_SEED = 7


@dataclass(frozen=True, slots=True)
class LayerTruth:
    """What the layers of one mesh measure.

    Attributes
    ----------
    layers, blank, broken
        How many there are; how many have no area where the body has some, in memory or in the file; contours of fewer than three
        points.
    area, volume
        Relative error: of the worst of the layers that were compared, and of all layers together.
    file_volume
        Relative error of all layers together as they are read back from the file that was written.
    steps
        Share of the volume by which cutting at the middle may make layers err, however exact the contours are. What a level face
        bounds is taken up to the nearer surface of the layer in which the face lies: the volume errs by the area of the face
        times its distance from there, which is at most half a layer and 0 where it lies on such a surface. Of a face that rises
        by ``h``, with the area ``a`` seen from above, the volume below it errs by at most ``a * layer / 2 * min(1, layer / h)``:
        the rule of the middle, whose error is an eighth of the square of the layer times the variation of the slope, ``4 a / h``.
    rounding
        Share of the volume by which the file may differ from the layers: its points lie up to half a unit, 0.0025 mm, from
        theirs both ways. Walls that run straight up are off by as much in every layer, those of other shapes in none on average.
    """

    layers: int
    blank: int
    broken: int
    area: float
    volume: float
    file_volume: float
    steps: float
    rounding: float

    @property
    def holds(self) -> bool:
        """Whether contours are closed, no layer is blank, and areas and volumes are within what they may be off."""
        sound = self.broken == 0 and self.blank == 0 and self.area <= MOST_AREA
        most = MOST_VOLUME + self.steps
        return sound and self.volume <= most and self.file_volume <= most + self.rounding

    @property
    def holds_flat(self) -> bool:
        """The same with nothing allowed for steps and rounding: what real devices and bones hold."""
        return self.holds and max(self.volume, self.file_volume) <= MOST_VOLUME


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
        wanted = [solid.slice(float(heights[k]) + side).area() for side in _SIDES_MM]
        worst = max(worst, min(abs(float(area[k]) - one) / max(one, _LEAST_MM2) for one in wanted))
    surfaces_mm = np.append(np.arange(len(heights)) * layer_mm, top_mm)
    thick_mm, whole = np.diff(surfaces_mm), volume_mm3(mesh)
    written = read_cli(write_cli(layers, ["body"])).outlines
    file_area, rounding = written.area_mm2(), _ROUNDING_MM * _outline_mm(layers)
    empty = np.flatnonzero(area <= 0.0).tolist()
    blank = [k for k in empty if all(solid.slice(float(heights[k]) + side).area() > 0.0 for side in _SIDES_MM)]
    return LayerTruth(
        layers=len(heights),
        blank=len(blank) + int(np.count_nonzero((file_area <= 0.0) & (area > rounding))),
        broken=int(np.count_nonzero(np.diff(layers.loop_start) < 3) + np.count_nonzero(np.diff(written.loop_start) < 3)),
        area=worst,
        volume=abs(float(area @ thick_mm) - whole) / whole,
        file_volume=abs(float(file_area @ thick_mm) - whole) / whole,
        steps=_steps_mm3(mesh, surfaces_mm, layer_mm) / whole,
        rounding=float(rounding @ thick_mm) / whole,
    )


def _outline_mm(layers: Layers) -> FloatArray:
    """(count,) length of the contours of each layer."""
    last = layers.loop_start[1:] - 1
    following = np.arange(1, len(layers.points_mm) + 1)
    following[last] = layers.loop_start[:-1]
    length = np.linalg.norm(layers.points_mm[following] - layers.points_mm, axis=1)
    layer = np.repeat(layers.loop_layer, np.diff(layers.loop_start))
    return np.asarray(np.bincount(layer, weights=length, minlength=layers.count), dtype=np.float64)


def _steps_mm3(mesh: Mesh, surfaces_mm: FloatArray, layer_mm: float) -> float:
    corners = mesh.vertices_mm[mesh.faces]
    area = 0.5 * np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2])
    rise, height = np.ptp(corners[:, :, 2], axis=1), corners[:, 0, 2]
    layer = np.clip(np.searchsorted(surfaces_mm, height), 1, len(surfaces_mm) - 1)
    away = np.minimum(np.abs(height - surfaces_mm[layer - 1]), np.abs(surfaces_mm[layer] - height))
    sloped = 0.5 * layer_mm * np.minimum(1.0, layer_mm / np.maximum(rise, layer_mm))
    return float(area @ np.where(rise == 0.0, away, sloped))
