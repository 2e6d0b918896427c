"""A simulated craniectomy: cuts a piece out of the vault of any head scan and keeps it as truth.

The cutter is a cone about the local outward normal. Its wall is blended into the scan with the scan's own blur, so the cut
has partial volumes like every other edge. What was bone becomes what lies beside the vault: soft tissue in a patient, air
in a bare plastic skull.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.polynomial.polynomial import polyval2d, polyvander2d
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, label

from batchone.pipeline.errors import InputError
from batchone.pipeline.values import FloatArray, HuArray, Vector
from batchone.samples.scanner import CEILING_HU, PADDING_HU, Grid, noise_field, share
from batchone.samples.skull_view import BONE_HU, SkullView, point_on_skull, skull_view

__all__ = ["Craniectomy", "Cutter", "craniectomy", "point_on_skull"]

DEEPEST_MM = 18.0  # mm below the outer surface along the axis: a 9 mm vault seen at 60 degrees
HIGHEST_MM = 5.0  # mm above it: what stands further out is not vault
AIR_BELOW_HU = -300.0  # HU, a neighbourhood darker than this is air
SOFT_TISSUE_HU = (20.0, 60.0)  # HU, range of dura, brain, muscle and scalp
NOISE_RANGE_HU = (2.0, 40.0)  # HU, believable noise
BLUR_RANGE_MM = (0.3, 1.2)  # mm, believable standard deviation of a CT edge
_EDGE_SIGMAS = 3.5  # how many of them a bone edge reaches
_SHELL_MM = 1.5  # mm, thickness of the neighbourhood that says what fills the hole: within a 4 mm scalp
_SOFT_SHARE = 0.3  # at least this share of the neighbourhood is soft tissue, else it is air
_NEAR_WALL_MM = 6.0  # mm outside the cone beyond which nothing changes
_RINGS, _SPOKES = 12, 48  # outer-surface samples over the hole
_TURNS = 4  # iterations of axis against samples
_QUARTERS = 1.349  # distance between 25 % and 75 % of a blurred edge, in standard deviations

Filling = Literal["soft tissue", "air"]


@dataclass(frozen=True, slots=True, eq=False)
class Cutter:
    """The cutting cone, in LPS mm.

    Attributes
    ----------
    centre_mm, axis
        A point of the outer surface and the unit outward direction.
    radius_mm
        At the height ``rim_mm`` above the centre: where the wall meets the outer surface, on average.
    edge_angle_deg
        Tilt of the wall against the axis: 0 = cylinder, positive = the hole narrows inwards.
    across
        (2, 3) unit vectors across the axis.
    surface
        (5, 5) coefficients of the quartic of the outer surface's height (mm) over the hole, in units of ``radius_mm``.
    """

    centre_mm: FloatArray
    axis: FloatArray
    radius_mm: float
    rim_mm: float
    edge_angle_deg: float
    across: FloatArray
    surface: FloatArray

    def depth_mm(self, points_mm: FloatArray) -> FloatArray:
        """(n,) how far below the smoothed outer surface, along the axis."""
        offset = points_mm - self.centre_mm
        return self.height_mm(offset @ self.across.T / self.radius_mm) - offset @ self.axis

    def height_mm(self, flat: FloatArray) -> FloatArray:
        """(n,) height of the smoothed outer surface at (n, 2) places across the axis, in units of ``radius_mm``."""
        return np.asarray(polyval2d(flat[:, 0], flat[:, 1], self.surface))

    def wall_distance_mm(self, points_mm: FloatArray) -> FloatArray:
        """(n,) signed distance to the cone, negative inside."""
        offset = points_mm - self.centre_mm
        height = offset @ self.axis
        angle = np.radians(self.edge_angle_deg)
        across = np.linalg.norm(offset - height[:, None] * self.axis, axis=1)
        return np.asarray((across - self.radius_mm - (height - self.rim_mm) * np.tan(angle)) * np.cos(angle))


@dataclass(frozen=True, slots=True, eq=False)
class Craniectomy:
    """An operated scan and what was taken out.

    Attributes
    ----------
    hu
        (slices, rows, columns) int16, the operated scan on the grid of the original.
    removed
        (slices, rows, columns) bool, voxels of bone that are mostly gone.
    removed_hu, removed_affine
        The removed bone alone, on a crop of the grid: original grey values inside the cut, ``background_hu`` elsewhere; its
        surface can be found at sub-voxel position.
    centre_mm, axis
        On the outer surface; unit outward normal of the smoothed surface. LPS.
    volume_mm3
        Of the removed bone up to the half value of its edge; voxels on the wall count by their share.
    blur_mm
        Standard deviation of the scan's edges, as measured, used for the cut.
    filled_outside, filled_inside
        What was found on either side of the vault and put in its place.
    """

    hu: HuArray
    removed: npt.NDArray[np.bool_]
    removed_hu: HuArray
    removed_affine: FloatArray
    background_hu: float
    cutter: Cutter
    centre_mm: Vector
    axis: Vector
    volume_mm3: float
    blur_mm: float
    filled_outside: Filling
    filled_inside: Filling


def craniectomy(
    hu: HuArray, affine: FloatArray, *, centre_mm: Vector, diameter_mm: float, edge_angle_deg: float, seed: int
) -> Craniectomy:
    """Cut a round piece out of the vault.

    Parameters
    ----------
    hu
        (slices, rows, columns) int16 HU of a head: patient, phantom, dressed or bare.
    affine
        (4, 4) (column, row, slice) -> LPS mm.
    centre_mm
        On or near the outer surface; moved onto it along the line from the vault centre.
    diameter_mm
        At the outer surface.
    edge_angle_deg
        Tilt of the wall, -30 to 45: positive narrows inwards.
    seed
        Of the noise of the filling.

    Raises
    ------
    InputError
        No skull, no bone at the centre, or a diameter or angle outside its limits.
    """
    _check(diameter_mm, edge_angle_deg)
    view = skull_view(hu, affine)
    cutter = _cutter(view, np.array(centre_mm, dtype=np.float64), 0.5 * diameter_mm, edge_angle_deg)
    box = _box(Grid(affine, (hu.shape[0], hu.shape[1], hu.shape[2])), cutter)
    crop = Grid(_cropped(affine, box), tuple(s.stop - s.start for s in box))
    return _cut(hu, view, cutter, crop, box, seed)


def _check(diameter_mm: float, edge_angle_deg: float) -> None:
    if not 5.0 <= diameter_mm <= 140.0:
        raise InputError(f"diameter is {diameter_mm:g} mm, must be 5 to 140 mm", hint="choose a hole that a vault can hold")
    if not -30.0 <= edge_angle_deg <= 45.0:
        raise InputError(f"edge angle is {edge_angle_deg:g} deg, must be -30 to 45 deg", hint="10 deg is a usual taper")


def _cutter(view: SkullView, near_mm: FloatArray, radius_mm: float, edge_angle_deg: float) -> Cutter:
    """Place the cone: centre on the surface, axis normal to the surface over the whole hole."""
    axis = near_mm - view.centre_mm
    axis /= np.linalg.norm(axis)
    reach_mm = float(view.outer_radius_mm(axis[None])[0])
    if np.isnan(reach_mm):
        raise InputError("no bone between the vault centre and the hole's centre", hint="give a point on the outer skull")
    centre = view.centre_mm + reach_mm * axis
    for _ in range(_TURNS):
        across = _across(axis)
        points = _outer_points(view, centre, axis, across, radius_mm)
        flat = points - points.mean(axis=0)
        normal = np.linalg.eigh(flat.T @ flat)[1][:, 0]
        axis = normal * np.sign(normal @ axis)
    across = _across(axis)
    points = _outer_points(view, centre, axis, across, radius_mm) - centre
    flat = points @ across.T / radius_mm
    surface = _fitted(flat, points @ axis)
    turn = np.linspace(0.0, 2.0 * np.pi, 72, endpoint=False)
    rim_mm = float(np.mean(polyval2d(np.cos(turn), np.sin(turn), surface)))
    return Cutter(centre, axis, radius_mm, rim_mm, edge_angle_deg, across, surface)


def _outer_points(view: SkullView, centre: FloatArray, axis: FloatArray, across: FloatArray, radius_mm: float) -> FloatArray:
    """(n, 3) points of the outer surface, evenly spread over the hole as seen from the vault centre."""
    turn = np.arange(_SPOKES) * (2.0 * np.pi / _SPOKES)
    ring = radius_mm * np.sqrt((np.arange(_RINGS) + 0.5) / _RINGS)
    spokes = np.column_stack([np.cos(turn), np.sin(turn)]) @ across
    u = (centre + ring[:, None, None] * spokes[None]).reshape(-1, 3) - view.centre_mm
    sag_mm = 0.5 * ring**2 / np.linalg.norm(centre - view.centre_mm)
    u -= np.repeat(sag_mm, _SPOKES)[:, None] * axis
    u /= np.linalg.norm(u, axis=1)[:, None]
    found = view.centre_mm + view.outer_radius_mm(u)[:, None] * u
    found = found[~np.isnan(found[:, 0])]
    height = (found - centre) @ axis
    kept = found[np.abs(height + 0.5 * radius_mm**2 / 80.0) < 6.0 + radius_mm**2 / 80.0]
    if kept.shape[0] < 0.5 * u.shape[0]:
        share_percent = 100.0 * kept.shape[0] / u.shape[0]
        raise InputError(
            f"only {share_percent:.0f} % of the hole's area lies on scanned vault, at least 50 %", hint="choose another place"
        )
    return kept


def _cut(hu: HuArray, view: SkullView, cutter: Cutter, crop: Grid, box: tuple[slice, slice, slice], seed: int) -> Craniectomy:
    before = hu[box].astype(np.float64)
    points = crop.points_mm((slice(0, crop.shape[0]), slice(0, crop.shape[1]), slice(0, crop.shape[2])))
    flat_wall_mm = cutter.wall_distance_mm(points)
    near = flat_wall_mm < _NEAR_WALL_MM
    flat_depth_mm = np.full(near.size, np.inf)
    flat_depth_mm[near] = cutter.depth_mm(points[near])
    wall_mm, depth_mm = flat_wall_mm.reshape(crop.shape), flat_depth_mm.reshape(crop.shape)
    bone = before >= BONE_HU
    inside = bone & (wall_mm < 2.0) & (depth_mm < DEEPEST_MM) & (depth_mm > -HIGHEST_MM)
    piece = _piece(inside, view.belongs(points[inside.ravel()]), wall_mm)
    outside_mm = distance_transform_edt(~piece, sampling=crop.spacing_mm[::-1])
    blur_mm = _blur_mm(view, cutter)
    reach_mm = _EDGE_SIGMAS * blur_mm + 0.5 * float(crop.spacing_mm.max())
    beside = ~bone & (outside_mm > reach_mm) & (outside_mm < reach_mm + _SHELL_MM) & (wall_mm < -blur_mm)
    above = _surroundings(before[beside & (depth_mm < 0.0)])
    below = _surroundings(before[beside & (depth_mm > 3.0)])
    fill, fill_noise = _blended(above, below, depth_mm)
    weight = np.where(outside_mm <= reach_mm, share(wall_mm, blur_mm), 0.0)
    rng = np.random.default_rng(seed)
    after = before + weight * (fill + fill_noise * noise_field(crop.shape, rng) - before)
    operated = hu.copy()
    changed = weight > 0.0
    operated[box][changed] = np.clip(np.rint(after[changed]), PADDING_HU, CEILING_HU).astype(np.int16)
    background_hu = 0.5 * (above[0] + below[0])
    removed = np.zeros(hu.shape, dtype=bool)
    solid = _solid(piece, before, background_hu)
    removed[box] = solid & (weight > 0.5)
    alone = np.rint(background_hu + weight * (before - background_hu)).astype(np.int16)
    centre, axis = cutter.centre_mm, cutter.axis
    return Craniectomy(
        hu=operated,
        removed=removed,
        removed_hu=alone,
        removed_affine=crop.affine,
        background_hu=background_hu,
        cutter=cutter,
        centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
        axis=(float(axis[0]), float(axis[1]), float(axis[2])),
        volume_mm3=float((solid * weight).sum() * np.prod(crop.spacing_mm)),
        blur_mm=blur_mm,
        filled_outside=above[2],
        filled_inside=below[2],
    )


def _piece(inside: npt.NDArray[np.bool_], mine: npt.NDArray[np.bool_], wall_mm: FloatArray) -> npt.NDArray[np.bool_]:
    """The connected bone of the skull in the cutter; small islands (saw dust, noise) beside the largest part stay."""
    own = np.zeros_like(inside)
    own[inside] = mine
    labels, count = label(own, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels[wall_mm < 0.0], minlength=count + 1)
    sizes[0] = 0
    if sizes.max() == 0:
        raise InputError("no bone inside the cutter", hint="give a point on the outer skull")
    kept = sizes >= 0.02 * sizes.max()  # a vault may be sawn or sutured into several parts
    kept[0] = False
    return np.asarray(kept[labels])


def _solid(piece: npt.NDArray[np.bool_], before: FloatArray, background_hu: float) -> npt.NDArray[np.bool_]:
    """The piece up to the half value of its edge, whatever its spongy inside measures."""
    half_hu = 0.5 * (background_hu + float(np.percentile(before[piece], 90.0)))
    return np.asarray((binary_dilation(piece) & (before >= half_hu)) | binary_erosion(piece))


def _surroundings(values: FloatArray) -> tuple[float, float, Filling]:
    """Typical HU, noise and kind of what lies beside the vault."""
    if values.size == 0:
        return 0.5 * sum(SOFT_TISSUE_HU), sum(NOISE_RANGE_HU) / 4.0, "soft tissue"
    soft = values[(values > AIR_BELOW_HU) & (values < BONE_HU)]
    kind: Filling = "soft tissue" if soft.size >= _SOFT_SHARE * values.size else "air"
    same = soft if kind == "soft tissue" else values[values <= AIR_BELOW_HU]
    middle = float(np.median(same))
    noise = float(np.clip(1.4826 * np.median(np.abs(same - middle)), *NOISE_RANGE_HU))
    return (float(np.clip(middle, *SOFT_TISSUE_HU)) if kind == "soft tissue" else middle), noise, kind


def _blended(
    above: tuple[float, float, Filling], below: tuple[float, float, Filling], depth_mm: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """HU and noise through the hole: from what is outside to what is inside over the upper 6 mm."""
    t = np.clip(depth_mm / 6.0, 0.0, 1.0)
    return above[0] + t * (below[0] - above[0]), above[1] + t * (below[1] - above[1])


def _blur_mm(view: SkullView, cutter: Cutter) -> float:
    """Standard deviation of the outer bone edge in this scan, from the 25 % and 75 % points of its profiles, mm."""
    points = _outer_points(view, cutter.centre_mm, cutter.axis, cutter.across, cutter.radius_mm)
    flat = (points - cutter.centre_mm) @ cutter.across.T / cutter.radius_mm
    step = 1e-3
    slopes = [(cutter.height_mm(flat + shift) - cutter.height_mm(flat - shift)) / (2.0 * step) for shift in step * np.eye(2)]
    normals = cutter.axis - np.column_stack(slopes) / cutter.radius_mm @ cutter.across
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    t = np.arange(-3.0, 3.0, 0.05)
    profile = view.sample((points[:, None] + t[None, :, None] * normals[:, None]).reshape(-1, 3)).reshape(-1, t.size)
    widths = []
    for row in profile:
        soft, peak = float(np.median(row[t > 1.8])), float(row[t < 0.5].max())
        crest = int(np.argmax(row[t < 0.5]))
        if peak - soft < BONE_HU:
            continue
        falling = np.minimum.accumulate(row[crest:])
        far, near = (int(np.searchsorted(-falling, -(soft + q * (peak - soft)))) for q in (0.25, 0.75))
        widths.append((far - near) * 0.05)
    if not widths:
        return 0.5 * sum(BLUR_RANGE_MM)
    along_mm = normals @ view.affine[:3, :3]  # each is the voxel distance times the cosine with its axis
    interpolation_mm2 = float(np.mean(np.sum(along_mm**2, axis=1))) / 6.0  # variance that trilinear sampling adds
    edge_mm2 = float(np.median(widths) / _QUARTERS) ** 2 - interpolation_mm2
    return float(np.clip(np.sqrt(max(edge_mm2, 0.0)), *BLUR_RANGE_MM))


def _fitted(flat: FloatArray, height_mm: FloatArray) -> FloatArray:
    """(5, 5) coefficients of the quartic through (n, 2) places and their heights, by least squares."""
    powers = np.add.outer(np.arange(5), np.arange(5)) <= 4
    coefficients = np.zeros((5, 5))
    terms = polyvander2d(flat[:, 0], flat[:, 1], [4, 4])[:, powers.ravel()]
    coefficients[powers] = np.linalg.lstsq(terms, height_mm, rcond=None)[0]
    return coefficients


def _across(axis: FloatArray) -> FloatArray:
    """(2, 3) unit vectors across ``axis``."""
    first = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(axis, first)])


def _box(grid: Grid, cutter: Cutter) -> tuple[slice, slice, slice]:
    half_mm = cutter.radius_mm * (1.0 + abs(np.tan(np.radians(cutter.edge_angle_deg)))) + DEEPEST_MM
    return grid.box(cutter.centre_mm - half_mm, cutter.centre_mm + half_mm, np.eye(4))


def _cropped(affine: FloatArray, box: tuple[slice, slice, slice]) -> FloatArray:
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array([box[2].start, box[1].start, box[0].start], dtype=np.float64)
    return moved
