"""A skull in a scan seen from inside its vault: which voxels belong to it, and how far out its surface lies in a direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, label, map_coordinates

from batchone.pipeline.errors import InputError
from batchone.pipeline.values import FloatArray, HuArray, Vector

BONE_HU = 300.0  # HU, above soft tissue and contrast-free blood, below any bone wall thicker than the blur
CENTRE_BELOW_VERTEX_MM = 72.0  # mm, middle of an adult vault; project default
TOP_MM = 75.0  # mm below the vertex in which the vault's middle is measured; project default
NEAREST_MM, FARTHEST_MM, STEP_MM = 35.0, 125.0, 0.4  # mm, where along a ray the wall is looked for
_LABEL_MM = 0.9  # mm, the skull is told from other parts on a subsample about this fine
_LEAST_BONE_MM3 = 20_000.0  # mm3: less is no skull


@dataclass(frozen=True, slots=True, eq=False)
class SkullView:
    """The largest bony part of a scan and its vault centre (LPS mm).

    ``part`` (slices, rows, columns) marks that part, grown by one voxel, on every ``stride``-th voxel (slice, row, column).
    """

    hu: HuArray
    affine: FloatArray
    centre_mm: FloatArray
    part: npt.NDArray[np.bool_]
    stride: tuple[int, int, int]

    def sample(self, points_mm: FloatArray) -> FloatArray:
        """HU at (n, 3) LPS points, trilinear; air outside the scan."""
        index = self._index(points_mm)
        return np.asarray(map_coordinates(self.hu, index, output=np.float64, order=1, mode="constant", cval=-1000.0))

    def belongs(self, points_mm: FloatArray) -> npt.NDArray[np.bool_]:
        """Which of the (n, 3) LPS points lie in the skull or within about a voxel of it."""
        coarse = np.rint(self._index(points_mm) / np.array(self.stride)[:, None]).astype(np.intp)
        size = np.array(self.part.shape)[:, None]
        inside = np.all((coarse >= 0) & (coarse < size), axis=0)
        k, j, i = np.clip(coarse, 0, size - 1)
        return np.asarray(inside & self.part[k, j, i])

    def outer_radius_mm(self, directions: FloatArray) -> FloatArray:
        """(n,) distance from the vault centre to the outermost bone along (n, 3) unit directions; NaN where there is none."""
        radii = np.arange(NEAREST_MM, FARTHEST_MM + STEP_MM, STEP_MM)
        points = self.centre_mm + radii[None, :, None] * directions[:, None, :]
        flat = points.reshape(-1, 3)
        values = np.full(flat.shape[0], -1000.0)
        mine = self.belongs(flat)
        values[mine] = self.sample(flat[mine])
        profile = values.reshape(directions.shape[0], radii.size)
        bone = profile[:, :-1] >= BONE_HU
        last = bone.shape[1] - 1 - np.argmax(bone[:, ::-1], axis=1)
        rows = np.arange(bone.shape[0])
        high, low = profile[rows, last], profile[rows, last + 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            crossing = radii[last] + STEP_MM * (high - BONE_HU) / (high - low)
        return np.where(bone.any(axis=1), crossing, np.nan)

    def _index(self, points_mm: FloatArray) -> FloatArray:
        """(3, n) fractional (slice, row, column) index."""
        inverse = np.linalg.inv(self.affine)
        return np.ascontiguousarray((points_mm @ inverse[:3, :3].T + inverse[:3, 3]).T[::-1])


def skull_view(hu: HuArray, affine: FloatArray) -> SkullView:
    """Find the skull in a head scan.

    Raises
    ------
    InputError
        No bony part large enough to be a skull.
    """
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    stride = tuple(int(s) for s in np.maximum(1, np.rint(_LABEL_MM / spacing_mm)))
    coarse = hu[:: stride[0], :: stride[1], :: stride[2]] >= BONE_HU
    labels, count = label(coarse)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = int(np.argmax(sizes))
    volume_mm3 = float(sizes[largest] * np.prod(spacing_mm * np.array(stride)))
    if volume_mm3 < _LEAST_BONE_MM3:
        raise InputError(
            f"largest bony part is {volume_mm3:.0f} mm3, at least {_LEAST_BONE_MM3:.0f} mm3 for a skull",
            hint="is this a head scan in HU?",
        )
    part = labels == largest
    index = np.argwhere(part) * np.array(stride)
    points = index[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    vertex_mm = points[:, 2].max()
    top = points[points[:, 2] > vertex_mm - TOP_MM]
    middle = 0.5 * (top[:, :2].min(axis=0) + top[:, :2].max(axis=0))
    centre_mm = np.array([middle[0], middle[1], vertex_mm - CENTRE_BELOW_VERTEX_MM])
    return SkullView(hu, affine, centre_mm, binary_dilation(part), (stride[0], stride[1], stride[2]))


def direction(azimuth_deg: float, elevation_deg: float) -> FloatArray:
    """(3,) unit vector: azimuth 0 = front (-y), +90 = patient's left (+x), elevation towards the head (+z)."""
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    return np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])


def point_on_skull(hu: HuArray, affine: FloatArray, *, azimuth_deg: float, elevation_deg: float) -> Vector:
    """The point of the outer skull in a direction from the vault centre, LPS mm.

    Parameters
    ----------
    azimuth_deg
        0 = front, +90 = patient's left, 180 = back.
    elevation_deg
        0 = level with the vault centre, 90 = vertex.

    Raises
    ------
    InputError
        No skull, or no bone in that direction.
    """
    view = skull_view(hu, affine)
    u = direction(azimuth_deg, elevation_deg)
    radius_mm = float(view.outer_radius_mm(u[None])[0])
    if np.isnan(radius_mm):
        raise InputError(
            f"no bone between {NEAREST_MM:g} and {FARTHEST_MM:g} mm from the vault centre at azimuth {azimuth_deg:g} deg, "
            f"elevation {elevation_deg:g} deg",
            hint="choose a direction that meets the vault",
        )
    point = view.centre_mm + radius_mm * u
    return (float(point[0]), float(point[1]), float(point[2]))
