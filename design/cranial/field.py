"""The body as one implicit function on the grid, and its surface.

Negative inside. The body lies below the outer face, above the inner face, inside the hole, and nowhere nearer to bone on its way
out than the gap. Faces meet the wall in a rounded edge that only removes material.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from batchone.design.cranial.clearance import Float32Array, Occupied, seen_top_mm
from batchone.design.cranial.columns import Columns
from batchone.design.cranial.shell import RadialMap, map_distance
from batchone.design.isosurface import largest_piece, zero_mesh
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh

_LEVEL_CLEARANCE_MM = 1e-4  # numerical: keeps the surface off the grid points, so that no triangle collapses
_UNDER_RAMP_MM = 15.0  # from the rim inwards the face sinks to its full depth over this length; project default, unverified
_LABEL_SLACK_MM = 0.02  # numerical: a triangle this near to a face belongs to it
_SEEN_FROM_OUTSIDE_MM = 3.0  # how far outside the given rim the true edge of the bone is looked for; project default, unverified

_FINER = 3  # the hole's edge is looked at on columns so much finer: coarser ones move the wall by up to 0.17 mm; numerical
_CLEFT_RADIUS_MM = 2.5  # nothing is built into clefts narrower than twice this; project default, unverified

FACES = ("outer", "inner", "border", "edge", "skirt")
LabelArray = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What the body is bounded by.

    Attributes
    ----------
    outer, inner
        Healthy contours as radial maps.
    follows_bone
        True: the inner face follows ``inner``; False: it lies ``thickness_mm`` below the outer face.
    thickness_mm
        Constant thickness, or the least one where the bone is followed.
    under_mm
        How far the outer face stays below the contour away from the rim.
    gap_mm
        Least distance to bone.
    radius_mm
        Rounding of the edges between wall and faces.
    """

    outer: RadialMap
    inner: RadialMap
    follows_bone: bool
    thickness_mm: float
    under_mm: float
    gap_mm: float
    radius_mm: float


def hole_limit(shape: Shape, columns: Columns, bone: Mesh, *, least_depth_mm: float) -> FloatArray:
    """Signed distance (x, y) to the hole as it is seen from outside, negative inside.

    Bone that is seen less than ``least_depth_mm`` below the contour is intact skull or the very lip of the rim: nothing is
    built over it, so that no fin lies on the skull where the contour stands proud. Clefts that a disc of 2.5 mm radius does not
    enter (sutures, saw cuts) are no part of the hole.
    """
    from scipy import ndimage

    step = columns.step_mm / _FINER
    top = seen_top_mm(bone, columns, times=_FINER)
    i, j = np.nonzero(np.isfinite(top))
    seen = np.column_stack([columns.origin_mm[:2] + np.column_stack([i, j]) * step, top[i, j]])
    is_open = np.repeat(np.repeat(columns.used, _FINER, axis=0), _FINER, axis=1)
    is_open[i, j] &= -shape.outer.distance_mm(seen) >= least_depth_mm
    if not is_open.any():
        raise DesignError(
            "no part of the rim is open, at least 1 column must be", hint="the rim lies on intact bone: draw it again"
        )
    core = ndimage.distance_transform_edt(is_open) * step >= _CLEFT_RADIUS_MM
    pieces, count = ndimage.label(core)
    if count == 0:
        raise DesignError(
            f"the hole is nowhere {2.0 * _CLEFT_RADIUS_MM:g} mm wide", hint="does the rim lie on intact bone? draw it again"
        )
    core = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    outside = ndimage.distance_transform_edt(~core) * step - _CLEFT_RADIUS_MM
    smooth = ndimage.gaussian_filter(outside, float(_FINER))[::_FINER, ::_FINER]
    return np.ascontiguousarray(
        np.maximum(smooth + shape.gap_mm - columns.step_mm, columns.rim_distance_mm - _SEEN_FROM_OUTSIDE_MM)
    )


def sinking_mm(shape: Shape, columns: Columns) -> FloatArray:
    """How far (x, y) the outer face lies below the contour: nothing at the rim, ``under_mm`` inside."""
    ramp = np.clip(-columns.rim_distance_mm / _UNDER_RAMP_MM, 0.0, 1.0)
    return np.ascontiguousarray(shape.under_mm * ramp * ramp * (3.0 - 2.0 * ramp))


def reach_mm(shape: Shape, columns: Columns) -> float:
    """How far from the bone its distance still matters to the body: gap, rounding, and a voxel to interpolate in."""
    return shape.gap_mm + shape.radius_mm + 1.5 * columns.step_mm


def body_field(shape: Shape, columns: Columns, taken: Occupied, *, distance_mm: Float32Array, limit: FloatArray) -> Float32Array:
    """The implicit function (x, y, z) float32, negative inside the body."""
    from scipy import ndimage

    band = reach_mm(shape, columns)
    start = np.full(columns.shape[:2], band)
    overhung = taken.top_mm >= columns.origin_mm[2] + (columns.shape[2] - 1) * columns.step_mm
    if overhung.any():
        start = np.minimum(start, (ndimage.distance_transform_edt(~overhung) - 0.5) * columns.step_mm)
        start[overhung] = -band
    field = np.full(columns.shape, band, dtype=np.float32)
    o, i = shape.outer, shape.inner
    _evaluate(
        distance_mm, start, limit, sinking_mm(shape, columns), columns.used, columns.origin_mm, columns.step_mm,
        o.centre_mm, o.axes, o.first, o.cell, o.radius_mm, o.slope, i.radius_mm, i.slope,
        shape.follows_bone, shape.thickness_mm, shape.gap_mm, shape.radius_mm, field,
    )  # fmt: skip
    return field


def zero_surface(field: Float32Array, columns: Columns) -> tuple[Mesh, float]:
    """The largest closed surface of the field at 0, oriented outward, and the volume of what else there was (mm3)."""
    whole = zero_mesh(field, columns.origin_mm, columns.step_mm)
    if len(whole.faces) == 0:
        raise DesignError(
            "the body is empty: 0 mm3 lie inside the rim and off the bone", hint="check rim, border_gap_mm and insertion axis"
        )
    return largest_piece(whole)


def face_labels(mesh: Mesh, shape: Shape, columns: Columns) -> LabelArray:
    """Which of :data:`FACES` each triangle belongs to.

    ``border`` is the wall that faces the bone of the rim; ``skirt`` is wall below the healthy inner table, where an implant
    that is thicker than the bone has no bone beside it; ``edge`` is the rounding between wall and faces.
    """
    middle = mesh.vertices_mm[mesh.faces].mean(axis=1)
    above, below = face_distances(middle, shape, columns)
    labels = np.full(len(mesh.faces), FACES.index("border"), dtype=np.int16)
    labels[shape.inner.distance_mm(middle) < 0.0] = FACES.index("skirt")
    labels[(above > -shape.radius_mm) | (below > -shape.radius_mm)] = FACES.index("edge")
    labels[below > -_LABEL_SLACK_MM] = FACES.index("inner")
    labels[above > -_LABEL_SLACK_MM] = FACES.index("outer")
    return labels


def face_distances(points_mm: FloatArray, shape: Shape, columns: Columns) -> tuple[FloatArray, FloatArray]:
    """Signed distances (n,) of points (n, 3) beyond the outer and the inner face, negative on the body's side."""
    from scipy import ndimage

    where = ((points_mm[:, :2] - columns.origin_mm[:2]) / columns.step_mm).T
    sunk = ndimage.map_coordinates(sinking_mm(shape, columns), where, order=1, mode="nearest")
    above = shape.outer.distance_mm(points_mm) + sunk
    below = -(above + shape.thickness_mm)
    if shape.follows_bone:
        below = np.minimum(below, -shape.inner.distance_mm(points_mm))
    return above, below


@numba.njit("float64(float64, float64, float64)", cache=True)
def _rounded(p, q, radius):  # type: ignore[no-untyped-def]
    """Intersection of two half spaces whose edge is rounded by removing material."""
    u, v = p + radius, q + radius
    if radius <= 0.0 or u <= 0.0 or v <= 0.0:
        return max(p, q)
    return np.sqrt(u * u + v * v) - radius


@numba.njit(
    "void(float32[:,:,::1], float64[:,::1], float64[:,::1], float64[:,::1], boolean[:,::1], float64[::1], float64,"
    "float64[::1], float64[:,::1], float64[::1], float64, float64[:,::1], float64[:,::1], float64[:,::1], float64[:,::1],"
    "boolean, float64, float64, float64, float32[:,:,::1])",
    cache=True,
)
def _evaluate(  # type: ignore[no-untyped-def]
    distance, start, limit, sunk, used, origin, step,
    centre, axes, first, cell, outer_radius, outer_slope, inner_radius, inner_slope,
    follows, thickness, gap, radius, field,
):  # fmt: skip
    nx, ny, nz = distance.shape
    for i in range(nx):
        x = origin[0] + i * step
        for j in range(ny):
            if not used[i, j]:
                continue
            y = origin[1] + j * step
            least = start[i, j]
            for k in range(nz - 1, 0, -1):
                least = min(least, distance[i, j, k])
                wall = max(gap - least, limit[i, j])
                if wall > 2.0 * step:
                    break
                z = origin[2] + k * step
                above = map_distance(x, y, z, centre, axes, first, cell, outer_radius, outer_slope) + sunk[i, j]
                below = -(above + thickness)
                if follows:
                    below = min(below, -map_distance(x, y, z, centre, axes, first, cell, inner_radius, inner_slope))
                value = max(_rounded(wall, above, radius), _rounded(wall, below, radius))
                if abs(value) < _LEVEL_CLEARANCE_MM:
                    value = _LEVEL_CLEARANCE_MM if value >= 0.0 else -_LEVEL_CLEARANCE_MM
                field[i, j, k] = value
