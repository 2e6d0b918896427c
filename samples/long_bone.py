"""A CT of a limb with one long bone in it, whose surface is known exactly: a closed mesh is voxelised by true distances."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from batchone.pipeline.errors import InputError
from batchone.pipeline.values import FloatArray, HuArray, IntArray, Mesh, Vector
from batchone.samples.scanner import AIR_HU, BLUR_FWHM_MM, NOISE_HU, Grid, Volume, exposed, scan_grid, share

SPACING_MM = (0.625, 0.5, 0.5)  # mm, (slice, row, column): a thin bone protocol
CORTICAL_HU, MARROW_HU, MARROW_SPREAD_HU = 1200.0, 250.0, 40.0  # HU, usual CT values; marrow with trabeculae
MUSCLE_HU, FAT_HU, SKIN_HU = 55.0, -95.0, 40.0  # HU, usual CT values
MUSCLE_MM, FAT_MM, SKIN_MM = 14.0, 6.0, 2.0  # mm, least muscle over the bone; fat and skin over that
CORTEX_MM = 3.0  # mm, thickness of a tibial shaft's cortex
AIR_MM = 6.0  # mm of air around the limb
_SMOOTH_MM = 120.0  # mm, a bone so long is smooth: tests of surfaces measure on such
_FLARE_MM, _WIDER_MM = 30.0, 7.0  # mm, how far down the upper end of a longer one flares, and how much more
_TUBEROSITY_MM, _CREST_MM = 8.0, 3.0  # mm that they stand out of an adult's tibia; a default guide then slips as on a scanned one
_UNEVEN_MM, _WAVE_MM, _WAVES = 0.4, 18.0, 48  # mm of unevenness (rms) and its wave length; waves that make it
_BLOCK = 8  # voxels along an edge of the blocks that are sorted into near, in and out
_HALO_SIGMAS = 4.0  # beyond this many standard deviations a blurred edge is not seen
_MOST_VOXELS = 200_000_000  # a volume of 400 MB; a larger one is a mistake in the unit of the mesh


@dataclass(frozen=True, slots=True, eq=False)
class BonePhantom:
    """A scan of a limb and the truth about it.

    ``hu`` (slices, rows, columns) int16, ``affine`` (column, row, slice) -> LPS mm, ``surface`` the bone's outer surface in
    LPS mm, ``cortex_mm`` the depth of its inner one.
    """

    hu: HuArray
    affine: FloatArray
    surface: Mesh
    cortex_mm: float


def long_bone(
    surface: Mesh | None = None,
    *,
    seed: int = 1,
    spacing_mm: Vector = SPACING_MM,
    cortex_mm: float = CORTEX_MM,
    noise_hu: float = NOISE_HU,
) -> BonePhantom:
    """Scan a limb around a bone.

    Parameters
    ----------
    surface
        Closed, in LPS mm; by default :func:`bone_surface`.
    seed
        Of marrow and noise: the same seed gives the same bits.
    spacing_mm
        Voxel distances along (slice, row, column).

    Raises
    ------
    InputError
        The volume would be too large.
    """
    mesh = bone_surface() if surface is None else surface
    marrow_rng, noise_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    grid = _grid_around(mesh, spacing_mm)
    volume = limb(mesh.vertices_mm.min(axis=0), mesh.vertices_mm.max(axis=0), grid)
    _add_bone(volume, mesh, grid, cortex_mm, marrow_rng)
    return BonePhantom(exposed(volume, noise_hu=noise_hu, rng=noise_rng), grid.affine, mesh, cortex_mm)


def bone_surface(length_mm: float = 120.0, *, rings: int = 240, spokes: int = 96, smooth: bool = False) -> Mesh:
    """A synthetic tibia along z, front to -y: bowed triangular shaft with a crest, unequal ends with a groove, a tuberosity.

    Closed, asymmetric, uneven as bone is, so that a guide finds one seat alone. Centred near the origin, thicker end at the top,
    about 54 mm wide there. Up to 120 mm long, or where asked, it is smooth and has no tuberosity and crest: nothing holds a
    guide on such a shaft.
    """
    t = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, rings + 2)[1:-1])
    turn = np.linspace(0.0, 2.0 * np.pi, spokes, endpoint=False)
    closing = np.sqrt(1.0 - np.abs(2.0 * t - 1.0) ** 12)
    uneven = 0.0 if smooth or length_mm <= _SMOOTH_MM else 1.0
    flared = min(0.16, _FLARE_MM / length_mm) if uneven else 0.16
    flare_mm = (11.0 + _WIDER_MM * uneven) * _bump(1.0 - t, 0.0, flared) + 7.0 * _bump(t, 0.0, 0.13)
    shape = 1.0 + 0.10 * np.cos(3.0 * turn)[None] * np.exp(-(((t - 0.5) / 0.3) ** 2))[:, None]
    groove = 0.16 * np.exp(-(((1.0 - t) / 0.2) ** 2))[:, None] * np.exp(6.0 * (np.cos(turn - 1.1) - 1.0))[None]
    from_front = (turn + 1.5 * np.pi) % (2.0 * np.pi) - np.pi
    tuberosity = _bump(1.0 - t, 0.127, 0.048)[:, None] * _bump(from_front, 0.0, 0.45)[None]
    crest = _bump(t, 0.6, 0.3)[:, None] * _bump(from_front, 0.12, 0.3)[None]
    raised_mm = (_TUBEROSITY_MM * tuberosity + _CREST_MM * crest) * uneven
    centre = np.column_stack([3.0 * np.sin(np.pi * t), 5.0 * (t - 0.5) ** 2 * 4.0, (t - 0.5) * length_mm])
    across = 1.15 + 0.2 * uneven * _bump(1.0 - t, 0.0, flared)
    around = np.stack(np.broadcast_arrays(across[:, None] * np.cos(turn), np.sin(turn), 0.0), axis=-1)
    smooth_mm = ((10.5 + flare_mm)[:, None] * (shape - groove) + raised_mm) * closing[:, None]
    uneven_mm = _uneven_mm(centre[:, None] + smooth_mm[:, :, None] * around) * uneven * closing[:, None]
    vertices = (centre[:, None] + (smooth_mm + uneven_mm)[:, :, None] * around).reshape(-1, 3)
    ends = np.array([[0.0, 5.0, -0.5 * length_mm], [0.0, 5.0, 0.5 * length_mm]])
    return Mesh(np.vstack([vertices, ends]), _tube_faces(rings, spokes))


def _bump(at: FloatArray, middle: float, width: float) -> FloatArray:
    return np.asarray(np.exp(-(((at - middle) / width) ** 2)))


def _uneven_mm(points_mm: FloatArray) -> FloatArray:
    """How far (...) a bone stands out at points (..., 3): waves in all directions, the same for every bone."""
    rng = np.random.default_rng(5)
    waves = rng.normal(size=(3, _WAVES)) * 2.0 * np.pi / _WAVE_MM
    heights = np.cos(points_mm @ waves + rng.uniform(0.0, 2.0 * np.pi, _WAVES))
    return np.asarray(_UNEVEN_MM * np.sqrt(2.0 / _WAVES) * heights.sum(axis=-1))


def _tube_faces(rings: int, spokes: int) -> IntArray:
    """Triangles of a tube of rings closed by two poles, counter-clockwise from outside."""
    here = np.arange(spokes)
    after = (here + 1) % spokes
    faces = []
    for ring in range(rings - 1):
        low, high = ring * spokes, (ring + 1) * spokes
        faces.append(np.column_stack([low + here, low + after, high + after]))
        faces.append(np.column_stack([low + here, high + after, high + here]))
    bottom, top, last = rings * spokes, rings * spokes + 1, (rings - 1) * spokes
    faces.append(np.column_stack([np.full(spokes, bottom), after, here]))
    faces.append(np.column_stack([np.full(spokes, top), last + here, last + after]))
    return np.vstack(faces).astype(np.int32)


def _grid_around(mesh: Mesh, spacing_mm: Vector) -> Grid:
    low, high = mesh.vertices_mm.min(axis=0), mesh.vertices_mm.max(axis=0)
    wide = 2.0 * (MUSCLE_MM + FAT_MM + SKIN_MM + AIR_MM)
    size = np.array([*(np.sqrt(2.0) * (high - low)[:2] + wide), (high - low)[2] + 12.0])[::-1]
    count = np.ceil(size / np.array(spacing_mm)).astype(int)
    if np.prod(count.astype(float)) > _MOST_VOXELS:
        raise InputError(
            f"the scan would have {np.prod(count.astype(float)):.3g} voxels, at most {_MOST_VOXELS:.3g}",
            hint="is the surface in mm? choose a larger spacing",
        )
    middle = 0.5 * (low + high)
    return scan_grid(
        (int(count[0]), int(count[1]), int(count[2])), spacing_mm, (float(middle[0]), float(middle[1]), float(middle[2]))
    )


def limb(low: FloatArray, high: FloatArray, grid: Grid) -> Volume:
    """Muscle, fat and skin as an elliptic cylinder along z about the box of a bone (corners, LPS mm), in air."""
    radii = np.sqrt(0.5) * (high - low)[:2] + MUSCLE_MM + FAT_MM + SKIN_MM
    layer = grid.points_mm((slice(0, 1), slice(0, grid.shape[1]), slice(0, grid.shape[2])))
    offset = layer[:, :2] - 0.5 * (low + high)[:2]
    k0, k1 = np.linalg.norm(offset / radii, axis=1), np.maximum(np.linalg.norm(offset / radii**2, axis=1), 1e-9)
    distance_mm = np.where(k0 < 1e-6, -float(radii.min()), k0 * (k0 - 1.0) / k1)
    sigma_mm = grid.sigma_mm(BLUR_FWHM_MM)
    hu = AIR_HU + (SKIN_HU - AIR_HU) * share(distance_mm, sigma_mm)
    hu += (FAT_HU - SKIN_HU) * share(distance_mm + SKIN_MM, sigma_mm)
    hu += (MUSCLE_HU - FAT_HU) * share(distance_mm + SKIN_MM + FAT_MM, sigma_mm)
    return np.repeat(hu.reshape(1, *grid.shape[1:]).astype(np.float32), grid.shape[0], axis=0)


def _add_bone(volume: Volume, mesh: Mesh, grid: Grid, cortex_mm: float, rng: np.random.Generator) -> None:
    """Cortex and marrow over what is there; exact distances near the surface, the sign alone elsewhere."""
    sigma_mm = grid.sigma_mm(BLUR_FWHM_MM)
    halo_mm = _HALO_SIGMAS * sigma_mm
    texture = gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), 1.2)
    marrow = MARROW_HU + np.float32(MARROW_SPREAD_HU / texture.std(dtype=np.float64)) * texture
    boxes, middle_mm = blocks(grid)
    half_mm = 0.5 * float(np.linalg.norm(grid.spacing_mm * _BLOCK))
    deep_mm = signed_distance_mm(mesh, middle_mm)
    inside = deep_mm < -(cortex_mm + halo_mm + half_mm)
    for n in np.flatnonzero(inside):
        volume[boxes[n]] = marrow[boxes[n]]
    near = np.flatnonzero(~inside & (deep_mm <= halo_mm + half_mm))
    points = [grid.points_mm(boxes[n]) for n in near]
    exact_mm = signed_distance_mm(mesh, np.vstack(points))  # one call: it builds its search tree anew each time
    starts = np.cumsum([0, *(len(some) for some in points)])
    for n, start, stop in zip(near, starts[:-1], starts[1:], strict=True):
        target = volume[boxes[n]]
        distance_mm = exact_mm[start:stop].reshape(target.shape)
        bone, core = share(distance_mm, sigma_mm), share(distance_mm + cortex_mm, sigma_mm)
        target += (bone * (CORTICAL_HU - target) + core * (marrow[boxes[n]] - CORTICAL_HU)).astype(np.float32)


def blocks(grid: Grid) -> tuple[list[tuple[slice, slice, slice]], FloatArray]:
    """Index boxes that tile the grid, and their middles (n, 3) in LPS mm."""
    ranges = [[slice(a, min(a + _BLOCK, n)) for a in range(0, n, _BLOCK)] for n in grid.shape]
    boxes = [(k, j, i) for k in ranges[0] for j in ranges[1] for i in ranges[2]]
    index = np.array([[0.5 * (s.start + s.stop - 1) for s in reversed(box)] for box in boxes])
    return boxes, np.asarray(index @ grid.affine[:3, :3].T + grid.affine[:3, 3])


def signed_distance_mm(mesh: Mesh, points_mm: FloatArray) -> FloatArray:
    """(n,) signed distance of points to a closed surface, negative inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its source holds an invalid escape, which some settings turn into an error
        import point_cloud_utils as pcu
    distance, _, _ = pcu.signed_distance_to_mesh(np.ascontiguousarray(points_mm), mesh.vertices_mm, mesh.faces)
    return np.asarray(distance, dtype=np.float64)
