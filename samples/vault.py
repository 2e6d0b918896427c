"""The shape of a skull vault in closed form: an egg with bosses, seen from a centre inside it.

Head frame: origin at the vault centre, x to the left, y to the back, z up, millimetres. Both surfaces are radii over the
direction u: an ellipsoid plus bumps ``amplitude * exp(sharpness * (u . d - 1))``; the inner one is the outer less a thickness
with bumps of its own. Sizes follow adult means (Howells 1973: cranial length about 180, breadth 140 to 145, height about
135 mm; Lynnerup 2001: vault thickness 4 to 9 mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray

HALF_AXES_MM = (73.5, 90.5, 71.5)  # mm, half breadth, half length, height above the centre
LOWER_HALF_AXIS_MM = 61.0  # mm, depth of the base below the centre
MEAN_THICKNESS_MM = 6.0  # mm, Lynnerup 2001
THINNEST_MM, THICKEST_MM = 4.0, 9.0  # mm, range of the vault's thickness, Lynnerup 2001
SIZE_SPREAD = 0.02  # relative spread of head size between seeds
_ROWS = tuple[tuple[float, float, float, float, float], ...]

_FORM: _ROWS = (  # direction x, y, z; amplitude mm; sharpness
    (0.80, 0.38, 0.46, 3.4, 9.0),  # left parietal boss
    (-0.80, 0.41, 0.45, 2.7, 9.0),  # right parietal boss, further back and flatter
    (0.72, -0.68, 0.10, -4.6, 7.0),  # temples: narrow forehead
    (-0.72, -0.67, 0.10, -4.4, 7.0),
    (0.35, -0.84, 0.42, 2.2, 16.0),  # frontal bosses
    (-0.35, -0.85, 0.40, 2.6, 16.0),
    (0.00, -0.98, -0.16, 2.5, 30.0),  # brow
    (0.12, 0.98, -0.12, 3.0, 14.0),  # occiput, a little to the left
    (0.00, 0.92, -0.38, 2.0, 60.0),  # inion
    (0.00, 0.72, 0.70, -2.4, 9.0),  # flat behind the vertex
    (0.97, -0.05, -0.22, -3.0, 9.0),  # flat temporal squama
    (-0.97, -0.05, -0.22, -3.0, 9.0),
    (0.00, -0.72, -0.70, -13.0, 6.0),  # floor of the anterior fossa
)
_THICKNESS: _ROWS = (
    (0.00, -0.90, 0.40, 1.6, 6.0),  # frontal
    (0.00, -0.98, -0.20, 4.5, 45.0),  # brow, room for the frontal sinus
    (0.00, 0.93, -0.35, 3.2, 22.0),  # internal occipital protuberance
    (0.00, 0.75, 0.65, 0.8, 8.0),
    (0.95, -0.15, -0.10, -2.3, 7.0),  # temporal squama
    (-0.95, -0.15, -0.10, -2.1, 7.0),
    (0.75, 0.45, 0.45, 0.5, 12.0),
    (-0.75, 0.45, 0.45, 0.9, 12.0),
)
_FORM_RANDOM = (40, 0.75, 6.0, 40.0)  # count, amplitude mm, sharpness from, to: irregularity and asymmetry of one head
_THICKNESS_RANDOM = (30, 0.30, 15.0, 90.0)  # the same for the inner table: impressions of gyri and vessels


@dataclass(frozen=True, slots=True, eq=False)
class Bumps:
    """A sum of bumps over direction: (n, 3) unit ``directions``, (n,) ``amplitudes_mm``, (n,) ``sharpness``."""

    directions: FloatArray
    amplitudes_mm: FloatArray
    sharpness: FloatArray

    def value_mm(self, u: FloatArray) -> FloatArray:
        """Value (n,) in mm along (n, 3) unit directions."""
        return np.asarray(self._heights(u) @ self.amplitudes_mm.astype(np.float32), dtype=np.float64)

    def slope_mm(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Value (n,) in mm and gradient (n, 3) in mm over direction, not yet tangential."""
        steep = (self.amplitudes_mm * self.sharpness)[:, None] * self.directions
        weights = np.column_stack([self.amplitudes_mm, steep]).astype(np.float32)
        both = np.asarray(self._heights(u) @ weights, dtype=np.float64)
        return both[:, 0], both[:, 1:]

    def _heights(self, u: FloatArray) -> npt.NDArray[np.float32]:
        """Single precision: good to 1e-5 mm at half the time."""
        towards = (self.directions * self.sharpness[:, None]).astype(np.float32)
        exponent = u.astype(np.float32) @ towards.T
        exponent -= self.sharpness.astype(np.float32)
        return np.exp(exponent, out=exponent)


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Where points lie in the wall, each (n,) mm: signed distances (negative inside) and the wall's thickness.

    ``outer_mm`` is to the outer, ``inner_mm`` to the inner surface; ``normals`` (n, 3) point outward. Distances are first
    order: exact at the surface, within 2 % up to 10 mm from it.
    """

    outer_mm: FloatArray
    inner_mm: FloatArray
    thickness_mm: FloatArray
    normals: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Vault:
    """A skull vault in its head frame."""

    half_axes_mm: FloatArray
    lower_half_axis_mm: float
    form: Bumps
    thickness: Bumps

    def egg(self, points_mm: FloatArray) -> FloatArray:
        """(n,) radius relative to the bare ellipsoid: 1 on it."""
        scaled = points_mm / self._axes(points_mm)
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", scaled, scaled)))

    def layers(self, points_mm: FloatArray) -> Layers:
        """Signed distances of (n, 3) points of the head frame to both surfaces."""
        r = np.maximum(np.sqrt(np.einsum("ij,ij->i", points_mm, points_mm)), 1e-6)
        u = points_mm / r[:, None]
        outer_mm, normals, steep, thickness_mm = self._outer(u)
        return Layers((r - outer_mm) / steep, (r - outer_mm) / steep + thickness_mm, thickness_mm, normals)

    def outer_radius_mm(self, u: FloatArray) -> FloatArray:
        """(n,) radius of the outer surface along (n, 3) unit directions."""
        return self._outer(u)[0]

    def inner_radius_mm(self, u: FloatArray) -> FloatArray:
        """(n,) radius of the inner surface along (n, 3) unit directions."""
        outer_mm, _, steep, thickness_mm = self._outer(u)
        return outer_mm - thickness_mm * steep

    def _axes(self, points_mm: FloatArray) -> FloatArray:
        axes = np.broadcast_to(self.half_axes_mm, points_mm.shape).copy()
        axes[:, 2] = np.where(points_mm[:, 2] < 0.0, self.lower_half_axis_mm, self.half_axes_mm[2])
        return axes

    def _outer(self, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Outer radius, outward normal, |grad(r - R)| at the surface, thickness."""
        curved = u / self._axes(u) ** 2
        egg_mm = 1.0 / np.sqrt(np.einsum("ij,ij->i", curved, u))
        bump_mm, slope = self.form.slope_mm(u)
        slope -= egg_mm[:, None] ** 3 * curved
        slope -= np.einsum("ij,ij->i", slope, u)[:, None] * u
        outer_mm = egg_mm + bump_mm
        gradient = u - slope / outer_mm[:, None]
        steep = np.sqrt(np.einsum("ij,ij->i", gradient, gradient))
        thickness_mm = np.clip(MEAN_THICKNESS_MM + self.thickness.value_mm(u), THINNEST_MM, None)
        return outer_mm, gradient / steep[:, None], steep, thickness_mm


def vault_shape(rng: np.random.Generator) -> Vault:
    """One head: the common form with this head's size and irregularities."""
    size = 1.0 + SIZE_SPREAD * float(np.clip(rng.standard_normal(), -2.0, 2.0))
    return Vault(
        half_axes_mm=np.array(HALF_AXES_MM) * size,
        lower_half_axis_mm=LOWER_HALF_AXIS_MM * size,
        form=_bumps(_FORM, _FORM_RANDOM, rng),
        thickness=_bumps(_THICKNESS, _THICKNESS_RANDOM, rng),
    )


def _bumps(rows: _ROWS, random: tuple[int, float, float, float], rng: np.random.Generator) -> Bumps:
    count, amplitude_mm, from_sharpness, to_sharpness = random
    fixed = np.array(rows)
    directions = np.vstack([fixed[:, :3], rng.standard_normal((count, 3))])
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    amplitudes_mm = np.concatenate([fixed[:, 3], amplitude_mm * np.clip(rng.standard_normal(count), -2.0, 2.0)])
    sharpness = np.concatenate([fixed[:, 4], rng.uniform(from_sharpness, to_sharpness, count)])
    return Bumps(directions, amplitudes_mm, sharpness)
