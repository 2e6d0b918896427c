"""The border gap as it came out: distance from the implant's wall to the bone, all along the rim."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.cranial.columns import cropped
from batchone.design.nearest import nearest_mm
from batchone.pipeline.values import FloatArray, Mesh, Part, Vector

BORDER = "border"

_SAMPLE_MM2 = 0.05  # numerical: one sample for each so much wall, about every 0.2 mm
_REACH_MM = 10.0  # bone farther than this from the implant's box is not looked at; gaps above it are all too large
_PLASTIC = np.array([0.7548776662466927, 0.5698402909980532])  # numerical: the R2 low-discrepancy sequence (Roberts 2018)


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceSamples:
    """Points spread over faces: (n, 3) mm, the area (n,) mm2 that each stands for, and its triangle (n,)."""

    points_mm: FloatArray
    area_mm2: FloatArray
    face: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class BorderGap:
    """Gap (n,) mm at points (n, 3), each standing for an area (n,) of wall."""

    gap_mm: FloatArray
    points_mm: FloatArray
    area_mm2: FloatArray

    def percentile(self, percent: float) -> float:
        """Gap that ``percent`` of the wall's area stays below, mm."""
        order = np.argsort(self.gap_mm, kind="stable")
        share = np.cumsum(self.area_mm2[order]) / self.area_mm2.sum()
        return float(self.gap_mm[order][min(len(order) - 1, int(np.searchsorted(share, percent / 100.0)))])

    @property
    def least_mm(self) -> float:
        """Smallest gap."""
        return float(self.gap_mm.min())

    @property
    def tightest(self) -> Vector:
        """Where the gap is smallest."""
        return _vector(self.points_mm[int(np.argmin(self.gap_mm))])

    @property
    def widest(self) -> Vector:
        """Where the gap is largest."""
        return _vector(self.points_mm[int(np.argmax(self.gap_mm))])

    def shares(self, edges_mm: FloatArray) -> FloatArray:
        """Histogram: share (k - 1,) of the wall's area between each two of the (k,) edges."""
        area, _ = np.histogram(self.gap_mm, bins=edges_mm, weights=self.area_mm2)
        return np.asarray(area / self.area_mm2.sum())


def border_gap(part: Part, bone: Mesh, *, label: str = BORDER) -> BorderGap:
    """Measure the gap between a part's faces of one label and a bone.

    Parameters
    ----------
    part
        The implant; its wall carries ``label``.
    bone
        Surface of the bone in the same frame, mm.
    label
        Which faces are the wall.

    Raises
    ------
    ValueError
        The part has no such face.
    """
    samples = surface_samples(part, (label,))
    gap = nearest_mm(samples.points_mm, near_bone(part.mesh, bone))
    return BorderGap(gap, samples.points_mm, samples.area_mm2)


def near_bone(mesh: Mesh, bone: Mesh) -> Mesh:
    """The part of a bone's surface within 10 mm of a mesh's box."""
    return cropped(bone, mesh.vertices_mm.min(axis=0) - _REACH_MM, mesh.vertices_mm.max(axis=0) + _REACH_MM)


def surface_samples(part: Part, labels: tuple[str, ...], *, sample_mm2: float = _SAMPLE_MM2) -> SurfaceSamples:
    """Spread points over the faces of these labels, evenly by area and the same on every run.

    Raises
    ------
    ValueError
        The part has no such face.
    """
    wanted = [index for index, name in enumerate(part.labels) if name in labels]
    faces = np.nonzero(np.isin(part.face_labels, wanted))[0]
    if len(faces) == 0:
        raise ValueError(f"part {part.name} has no face labelled {' or '.join(labels)}")
    corners = part.mesh.vertices_mm[part.mesh.faces[faces]]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    counts = np.maximum(1, np.ceil(area / sample_mm2).astype(np.int64))
    owner = np.repeat(np.arange(len(faces)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    u, v = np.mod(0.5 + number[:, None] * _PLASTIC, 1.0).T
    beyond = u + v > 1.0
    u, v = np.where(beyond, 1.0 - u, u), np.where(beyond, 1.0 - v, v)
    a, b, c = corners[owner, 0], corners[owner, 1], corners[owner, 2]
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    return SurfaceSamples(np.ascontiguousarray(points), (area / counts)[owner], faces[owner].astype(np.int64))


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))
