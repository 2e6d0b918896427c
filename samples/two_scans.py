"""Two scans of one object: one surface laid on the other and compared, and one scan seen through the slices of the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import SimpleITK
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from batchone.design.nearest import nearest_points
from batchone.pipeline.values import FloatArray, Mesh, Scan, moved_points

SAMPLES = 20_000
STEPS = 60
KEPT_SHARE = 0.8  # the nearest pairs steer the registration: bone near the ends of one scan is not in the other
EDGE_MM = 6.0  # surface nearer than this to the end of either scan is a cut, not bone
SLAB_MM = 10.0
LEAST_SLAB = 500  # points that say how a slab lies
TAPS = 5  # of a slice's thickness


@dataclass(frozen=True, slots=True)
class Compared:
    """Distances from one surface to the other, mm, and the slope of the sideways residual along the table, mm per 100 mm."""

    median_mm: float
    p95_mm: float
    slope_mm: float


def registered(points_mm: FloatArray, onto: Mesh) -> FloatArray:
    """(4, 4) rigid motion that lays points on a surface: trimmed point-to-plane ICP, from where they lie."""
    normals, tree = _vertex_normals(onto), cKDTree(onto.vertices_mm)
    points = points_mm[:: max(1, len(points_mm) // SAMPLES)]
    motion = np.eye(4)
    for _ in range(STEPS):
        here = moved_points(motion, points)
        near = tree.query(here)[1]
        gap = np.einsum("ij,ij->i", onto.vertices_mm[near] - here, normals[near])
        far = np.linalg.norm(onto.vertices_mm[near] - here, axis=1)
        kept = far <= np.quantile(far, KEPT_SHARE)
        middle = here[kept].mean(axis=0)
        rows = np.hstack([np.cross(here[kept] - middle, normals[near][kept]), normals[near][kept]])
        turn = np.linalg.lstsq(rows, gap[kept], rcond=None)[0]
        step = np.eye(4)
        step[:3, :3] = Rotation.from_rotvec(turn[:3]).as_matrix()
        step[:3, 3] = middle + turn[3:] - step[:3, :3] @ middle
        motion = step @ motion
        if np.abs(turn * [100.0, 100.0, 100.0, 1.0, 1.0, 1.0]).max() < 1e-5:
            break
    return motion


def _vertex_normals(mesh: Mesh) -> FloatArray:
    corners = mesh.vertices_mm[mesh.faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [np.bincount(mesh.faces.ravel(), np.repeat(area[:, k], 3), len(mesh.vertices_mm)) for k in range(3)], axis=1
    )
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def seen_as(scan: Scan, other: Scan, motion: FloatArray) -> Scan:
    """A scan sampled on the grid of another, whose frame ``motion`` lays on its own, through slices as thick as the other's."""
    image = SimpleITK.GetImageFromArray(scan.hu)
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(scan.affine[:3, 3].tolist())
    image.SetDirection((scan.affine[:3, :3] / spacing).ravel().tolist())
    grid = motion @ other.affine
    steps = np.linalg.norm(grid[:3, :3], axis=0)
    total = np.zeros(other.hu.shape)
    for tap in (np.arange(TAPS) + 0.5) / TAPS - 0.5:
        placed = grid.copy()
        placed[:3, 3] += tap * other.record.slice_thickness_mm * grid[:3, 2] / steps[2]
        sampler = SimpleITK.ResampleImageFilter()
        sampler.SetSize([int(n) for n in other.hu.shape[::-1]])
        sampler.SetOutputSpacing(steps.tolist())
        sampler.SetOutputOrigin(placed[:3, 3].tolist())
        sampler.SetOutputDirection((grid[:3, :3] / steps).ravel().tolist())
        sampler.SetDefaultPixelValue(-1024)
        sampler.SetInterpolator(SimpleITK.sitkLinear)
        total += SimpleITK.GetArrayFromImage(sampler.Execute(image))
    return replace(scan, hu=np.rint(total / TAPS).astype(np.int16), affine=grid)


def compared(mesh: Mesh, truth: Mesh, grids: tuple[Scan, Scan], motion: FloatArray) -> Compared:
    """Compare a surface with another, after rigid registration, where both scans reach.

    Parameters
    ----------
    mesh, truth
        Both in the frame of the first scan, near each other.
    grids
        The scan of ``truth``, and the other.
    motion
        (4, 4) lays the other scan's frame on the first one's.
    """
    straight, tilted = grids
    points: FloatArray = mesh.vertices_mm[:: max(1, len(mesh.vertices_mm) // (5 * SAMPLES))]
    points = moved_points(registered(points, truth), points)
    seen = _inside(points, straight.affine, straight.hu.shape) & _inside(points, motion @ tilted.affine, tilted.hu.shape)
    points = points[seen]
    distance, face, foot = nearest_points(points, truth)
    corners = truth.vertices_mm[truth.faces[face]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    gap = np.einsum("ij,ij->i", foot - points, normal)
    return Compared(float(np.median(distance)), float(np.percentile(distance, 95)), _slope(points, normal, gap, distance))


def _inside(points_mm: FloatArray, affine: FloatArray, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Away from the first and last slice of a scan."""
    step = float(np.linalg.norm(affine[:3, 2]))
    along = moved_points(np.asarray(np.linalg.inv(affine), dtype=np.float64), points_mm)[:, 2] * step
    return np.asarray((along > EDGE_MM) & (along < (shape[0] - 1) * step - EDGE_MM))


def _slope(points: FloatArray, normal: FloatArray, gap: FloatArray, distance: FloatArray) -> float:
    """How the sideways residual grows along the table: slabs are laid on the surface one by one, a line through their shifts."""
    near = distance <= np.quantile(distance, 0.9)
    slab = np.floor(points[:, 2] / SLAB_MM).astype(int)
    heights, shifts = [], []
    for one in np.unique(slab):
        here = near & (slab == one)
        if here.sum() >= LEAST_SLAB:
            shifts.append(np.linalg.lstsq(normal[here], gap[here], rcond=None)[0][:2])
            heights.append((one + 0.5) * SLAB_MM)
    fit = np.polyfit(heights, np.array(shifts), 1)[0]
    return float(100.0 * np.linalg.norm(fit))
