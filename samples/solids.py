"""Simple solids with signed distances, and how they are painted into a scan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from batchone.pipeline.values import FloatArray, Vector
from batchone.samples.scanner import Grid, Volume, share

_HALO_SIGMAS = 4.0  # beyond this many standard deviations a blurred edge is not seen


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipsoid along the axes of the object's frame; ``hu`` is its content."""

    hu: float
    centre_mm: Vector
    radii_mm: Vector

    def distance_mm(self, points_mm: FloatArray) -> FloatArray:
        """(n,) signed distance, first order near the surface (Quilez's bound)."""
        offset = points_mm - np.array(self.centre_mm)
        radii = np.array(self.radii_mm)
        k0 = _length(offset / radii)
        k1 = np.maximum(_length(offset / radii**2), 1e-9)
        return np.where(k0 < 1e-6, -float(radii.min()), k0 * (k0 - 1.0) / k1)

    def bounds_mm(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corner."""
        centre, radii = np.array(self.centre_mm), np.array(self.radii_mm)
        return centre - radii, centre + radii

    def mirrored(self) -> Ellipsoid:
        """The one on the other side (x -> -x)."""
        return replace(self, centre_mm=_flipped(self.centre_mm))


@dataclass(frozen=True, slots=True)
class Rod:
    """A straight rod with round ends, from ``start_mm`` to ``end_mm``, its radius changing evenly."""

    hu: float
    start_mm: Vector
    end_mm: Vector
    start_radius_mm: float
    end_radius_mm: float

    def distance_mm(self, points_mm: FloatArray) -> FloatArray:
        """(n,) signed distance (to the nearest cross-section's circle)."""
        start, along = np.array(self.start_mm), np.array(self.end_mm) - np.array(self.start_mm)
        offset = points_mm - start
        t = np.clip(offset @ along / max(float(along @ along), 1e-9), 0.0, 1.0)
        radius = self.start_radius_mm + t * (self.end_radius_mm - self.start_radius_mm)
        return _length(offset - t[:, None] * along) - radius

    def bounds_mm(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corner."""
        ends = np.array([self.start_mm, self.end_mm])
        radius = max(self.start_radius_mm, self.end_radius_mm)
        return ends.min(axis=0) - radius, ends.max(axis=0) + radius

    def mirrored(self) -> Rod:
        """The one on the other side (x -> -x)."""
        return replace(self, start_mm=_flipped(self.start_mm), end_mm=_flipped(self.end_mm))


@dataclass(frozen=True, slots=True)
class Block:
    """A box along the axes of the object's frame with rounded edges."""

    hu: float
    centre_mm: Vector
    half_mm: Vector
    rounding_mm: float

    def distance_mm(self, points_mm: FloatArray) -> FloatArray:
        """(n,) signed distance."""
        q = np.abs(points_mm - np.array(self.centre_mm)) - (np.array(self.half_mm) - self.rounding_mm)
        return _length(np.maximum(q, 0.0)) + np.minimum(q.max(axis=1), 0.0) - self.rounding_mm

    def bounds_mm(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corner."""
        centre, half = np.array(self.centre_mm), np.array(self.half_mm)
        return centre - half, centre + half

    def mirrored(self) -> Block:
        """The one on the other side (x -> -x)."""
        return replace(self, centre_mm=_flipped(self.centre_mm))


Solid = Ellipsoid | Rod | Block


def both_sides(*solids: Solid) -> tuple[Solid, ...]:
    """Each solid followed by the one on the other side."""
    return tuple(side for solid in solids for side in (solid, solid.mirrored()))


def paint(volume: Volume, grid: Grid, solids: Iterable[Solid], *, pose: FloatArray, fwhm_mm: float) -> None:
    """Paint solids over what is there, in order, with blurred edges.

    Parameters
    ----------
    volume
        (slices, rows, columns) HU, changed in place.
    pose
        (4, 4) motion from the frame of the solids to LPS.
    """
    sigma_mm = grid.sigma_mm(fwhm_mm)
    own = grid.seen_from(pose)
    for solid in solids:
        low_mm, high_mm = solid.bounds_mm()
        halo_mm = _HALO_SIGMAS * sigma_mm
        box = grid.box(low_mm - halo_mm, high_mm + halo_mm, pose)
        target = volume[box]
        if target.size:
            distance_mm = solid.distance_mm(own.points_mm(box))
            weight = share(distance_mm, sigma_mm).reshape(target.shape).astype(np.float32)
            target += weight * (np.float32(solid.hu) - target)


def _length(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


def _flipped(point_mm: Vector) -> Vector:
    return (-point_mm[0], point_mm[1], point_mm[2])
