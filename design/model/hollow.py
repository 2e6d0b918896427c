"""Cavities of a hollow model: an offset of the body's surface inward, on a coarse grid, exact at the wall; and escape holes.

Depths come from a distance map of the filled grid; next to the wall of the cavity they are replaced by exact distances to the
surface, so that the wall keeps its thickness although the grid is coarse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.booleans import Solid, pieces, solid_from_mesh, to_mesh, volume_mm3
from batchone.design.checks.mesh import mesh_volume_mm3
from batchone.design.cranial.rays import Scene, smooth_normals
from batchone.design.nearest import nearest_mm
from batchone.design.solid import Feature, cylinder
from batchone.design.winding import winding
from batchone.pipeline.values import FloatArray, Mesh, Vector

Float32Array = npt.NDArray[np.float32]

_LEAST_STEP_MM = 0.8  # finest grid: the wall is exact anyway, the grid only rounds the cavity's corners
_MOST_VOXELS = 12_000_000  # numerical: memory; a head gets 0.8 mm
_MARGIN_VOXELS = 2  # numerical
_OFF_LATTICE = 0.3819660112501051  # numerical: shifts columns off rounded coordinates, so that none passes through a vertex
_BAND_STEPS = 2.0  # numerical: depths within so many steps of the wall are made exact; the map errs by less than one
_LEAST_CAVITY_DIAMETERS = 2.0  # cavities narrower than this many escape holes are left solid; project default, unverified
_WALL_SHARE = 1.6  # a hole goes only where the wall is at most this many times the ordered wall
_OVERSHOOT_SHARE = 0.5  # a hole reaches half its diameter into the cavity and out of the surface
_APART_DIAMETERS = 2.0  # holes stand at least this many diameters apart


@dataclass(frozen=True, slots=True, eq=False)
class Hollow:
    """Tools that hollow a body: ``cavities`` to cut out, and the holes that lead to them."""

    cavities: tuple[Solid, ...]
    holes: tuple[Feature, ...]
    removed_mm3: float


def hollow_out(body: Solid, *, wall_mm: float, hole_mm: float, holes: int) -> Hollow:
    """Find the cavities that leave ``wall_mm`` everywhere, each with its escape holes.

    Cavities that are too narrow, or that offer no place for their holes, stay solid.

    Raises
    ------
    DesignError
        The offset surface is not closed.
    """
    mesh = to_mesh(body)[0]
    found = _offset_cavities(mesh, wall_mm, hole_mm)
    scene = Scene(mesh)
    cavities: list[Solid] = []
    bars: list[Feature] = []
    for cavity in found:
        own = _holes(to_mesh(cavity)[0], scene, wall_mm, hole_mm, holes, first=len(bars) + 1)
        if len(own) == holes:
            cavities.append(cavity)
            bars += own
    return Hollow(tuple(cavities), tuple(bars), sum(volume_mm3(cavity) for cavity in cavities))


def _offset_cavities(mesh: Mesh, wall_mm: float, hole_mm: float) -> tuple[Solid, ...]:
    low, high = mesh.vertices_mm.min(axis=0), mesh.vertices_mm.max(axis=0)
    step = max(_LEAST_STEP_MM, float(np.prod(high - low) / _MOST_VOXELS) ** (1.0 / 3.0))
    origin = (np.floor(low / step) - _MARGIN_VOXELS + _OFF_LATTICE) * step
    counts = np.ceil((high - origin) / step).astype(int) + 1 + _MARGIN_VOXELS
    inside = winding(mesh, origin, step, (int(counts[0]), int(counts[1]), int(counts[2])))
    depth = _depth_mm(inside, step)
    narrow_mm = wall_mm + 0.5 * _LEAST_CAVITY_DIAMETERS * hole_mm
    if float(depth.max()) < narrow_mm:
        return ()
    _refine(depth, inside, mesh, origin, step, wall_mm)
    surface = _level_surface(depth, wall_mm, origin, step)
    shells = pieces(solid_from_mesh(surface, "cavity"))
    return tuple(shell for shell in shells if volume_mm3(shell) > 0.0 and _deepest(depth, shell, origin, step) >= narrow_mm)


def _depth_mm(inside: npt.NDArray[np.int8], step: float) -> Float32Array:
    import SimpleITK

    image = SimpleITK.GetImageFromArray((inside > 0).astype(np.uint8))
    image.SetSpacing((step, step, step))
    distance = SimpleITK.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    return np.ascontiguousarray(SimpleITK.GetArrayFromImage(distance), dtype=np.float32)


def _refine(
    depth: Float32Array, inside: npt.NDArray[np.int8], mesh: Mesh, origin: FloatArray, step: float, wall_mm: float
) -> None:
    band = np.argwhere((inside > 0) & (np.abs(depth - wall_mm) < _BAND_STEPS * step))
    if len(band):
        depth[band[:, 0], band[:, 1], band[:, 2]] = nearest_mm(origin + band * step, mesh)


def _level_surface(depth: Float32Array, wall_mm: float, origin: FloatArray, step: float) -> Mesh:
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(depth, level=wall_mm, allow_degenerate=False)
    mesh = Mesh(origin + vertices.astype(np.float64) * step, np.ascontiguousarray(faces, dtype=np.int32))
    if mesh_volume_mm3(mesh) < 0.0:
        mesh = Mesh(mesh.vertices_mm, np.ascontiguousarray(mesh.faces[:, ::-1]))
    return mesh


def _deepest(depth: Float32Array, shell: Solid, origin: FloatArray, step: float) -> float:
    bounds = np.array(shell.manifold.bounding_box()).reshape(2, 3)
    low = np.maximum(np.floor((bounds[0] - origin) / step).astype(int), 0)
    high = np.ceil((bounds[1] - origin) / step).astype(int) + 1
    return float(depth[low[0] : high[0], low[1] : high[1], low[2] : high[2]].max())


def _holes(cavity: Mesh, scene: Scene, wall_mm: float, hole_mm: float, wanted: int, *, first: int) -> list[Feature]:
    """Bars through the wall, as far apart as the cavity allows, from one end of it to the other."""
    normals = smooth_normals(cavity)
    centres = cavity.vertices_mm[cavity.faces].mean(axis=1)
    wall = scene.first(centres, normals, _WALL_SHARE * wall_mm + hole_mm)
    good = np.flatnonzero((wall.distance_mm <= _WALL_SHARE * wall_mm) & (wall.cosine > np.sqrt(0.5)))
    if len(good) == 0:
        return []
    points = centres[good]
    middle = points.mean(axis=0)
    axis = np.linalg.eigh((points - middle).T @ (points - middle))[1][:, 2]
    axis = axis if axis[int(np.argmax(np.abs(axis)))] > 0.0 else -axis
    chosen = [int(np.argmin(points @ axis))]
    apart = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < wanted and float(apart.max()) >= _APART_DIAMETERS * hole_mm:
        chosen.append(int(np.argmax(apart)))
        apart = np.minimum(apart, np.linalg.norm(points - points[chosen[-1]], axis=1))
    over = _OVERSHOOT_SHARE * hole_mm
    bars = []
    for number, index in enumerate(chosen, start=first):
        out = normals[good[index]]
        length = float(wall.distance_mm[good[index]]) + 2.0 * over
        start = points[index] - over * out
        bars.append(
            cylinder(f"escape hole {number}", start_mm=_vector(start), axis=_vector(out), diameter_mm=hole_mm, length_mm=length)
        )
    return bars


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
