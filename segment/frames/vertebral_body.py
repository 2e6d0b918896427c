"""The body of a vertebra: its endplates and walls, and the frame that stands on them.

What is measured in a frame that came from a grid carries the grid's steps. So the frame is measured in itself again and again
until it stays; which points count fades out over a width in place of ending at a limit, and each counts by the area that it
stands for. What comes out depends on the surface alone, and continuously: the bone, scanned in another pose, has the same frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from batchone.pipeline.values import FloatArray
from batchone.segment.frames.fits import Samples, frame_of, unit
from batchone.segment.frames.halves import Halves, step_to_mirror

BODY_SHARES = (0.7, 0.6, 0.8)  # of the half axes of the body: within, its endplates are looked for; the first counts
FACING = 0.8  # cosine of the angle between an endplate's normal and the body's axis from which a point belongs to it; default
LEVEL = 0.25  # of the body's height to both sides of its middle: its walls are measured there, between the endplates' rims
WALLS_WITHIN = 1.5  # of the half axes as they are known so far, its walls are looked for; default
OUTER_MM = 6.0  # below the usual height of an endplate: what faces up further inside of the body is none; default
OFF_MM = 2.0  # from an endplate's plane, a point counts a quarter: rims and pits are no part of it; project default, unverified
FADES = 0.1  # over which a share or a cosine fades; numerical
FADES_MM = 1.0  # over which a distance does; numerical
_ROUNDS = 30  # numerical: the fits settle in about ten
_THINNED = 8  # numerical: one point in so many settles the frame first
_NEARLY_STILL_MM = 1e-2  # numerical: to so much
_STILL_MM = 5e-4  # numerical: below it, which point is nearest to which changes to and fro
_ABOUT_MM = 6.0  # numerical: from a first guess of a body, its frame and size move by less
_LEAST_MM2 = 20.0  # of an endplate or a wall; smaller is none; default


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Frame (4, 4) of a vertebral body (x left, y back, z up, origin in its middle); half width and half depth, mm."""

    frame: FloatArray
    half_width_mm: float
    half_depth_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Plates:
    """Centres and outward normals of both endplates, LPS, and how far their points lie off the plane (mm)."""

    upper: FloatArray
    upper_normal: FloatArray
    upper_rms: float
    lower: FloatArray
    lower_normal: FloatArray
    lower_rms: float


def first_body(samples: Samples, canal: FloatArray, cells_mm: FloatArray) -> Body | None:
    """A first guess in front of the canal: its frame (4, 4), and the cells (n, 2) of its hole; None where there is no body."""
    local = (samples.points - canal[:3, 3]) @ canal[:3, :3]
    back = float(cells_mm[:, 1].min())
    middle = np.abs(local[:, 0]) < 3.0
    front = float(np.percentile(local[middle & (local[:, 1] < back), 1], 1)) if np.any(middle & (local[:, 1] < back)) else 0.0
    if back - front < 8.0:
        return None
    centre_y = 0.5 * (back + front)
    level = np.abs(local[:, 1] - centre_y) < 0.2 * (back - front)  # no transverse process reaches so far forward
    width = float(np.percentile(np.abs(local[level, 0]), 95)) if np.any(level) else 0.0
    if width < 6.0:
        return None
    frame = canal.copy()
    frame[:3, 3] += centre_y * canal[:3, 1]
    return Body(frame, width, 0.5 * (back - front))


def endplates(samples: Samples, body: Body, share: float) -> Plates | None:
    """The planes through what faces up and down within a share of the body's half axes; their centres lie on its axis."""
    local = (samples.points - body.frame[:3, 3]) @ body.frame[:3, :3]
    within = np.hypot(local[:, 0] / body.half_width_mm, local[:, 1] / body.half_depth_mm)
    near = within < share + FADES
    samples, local = samples.where(near), local[near]
    facing = samples.normals @ body.frame[:3, 2]
    within = samples.area_mm2 * _below(within[near], share, FADES)
    found: list[tuple[FloatArray, FloatArray, float]] = []
    for sign in (1.0, -1.0):
        weight = within * _below(-sign * facing, -FACING, FADES)
        height = sign * local[:, 2]
        some = weight > 0.0
        if weight.sum() < _LEAST_MM2:
            return None
        weight[some] *= _below(-height[some], OUTER_MM - _weighted_percentile(height[some], weight[some], 0.75), FADES_MM)
        point, normal, rms = _plane(samples.points[some], weight[some], sign * body.frame[:3, 2])
        along = body.frame[:3, 2]
        found.append((body.frame[:3, 3] + along * (((point - body.frame[:3, 3]) @ normal) / (along @ normal)), normal, rms))
    upper, lower = found
    if (upper[0] - lower[0]) @ body.frame[:3, 2] < 5.0:
        return None
    return Plates(*upper, *lower)


def settled(samples: Samples, body: Body, mirrored: Halves) -> tuple[Body, Plates] | None:
    """The body measured in its own frame until it stays; None where it has no endplates or walls.

    z is the mean of the endplates' normals; x leads from half to half, and the middle lies in the plane between them; from front
    to back it is in the middle of the walls.
    """
    samples = _about(samples, body)
    plates = endplates(samples, body, BODY_SHARES[0])
    fewer, fewer_mirrored = _thinned(samples), mirrored.thinned(_THINNED)
    for some, asked, still_mm in ((fewer, fewer_mirrored, _NEARLY_STILL_MM), (samples, mirrored, _STILL_MM)):
        for _ in range(_ROUNDS):
            walls = None if plates is None else _walls_mm(some, body, float(np.linalg.norm(plates.upper - plates.lower)))
            if plates is None or walls is None:
                return None
            front, back, half_width = walls
            aside, angle = step_to_mirror(asked, body.frame)
            across = body.frame[:3, 0] + np.tan(angle) * body.frame[:3, 1]
            middle = 0.5 * (plates.upper + plates.lower)
            turned = frame_of(middle, unit(plates.upper_normal - plates.lower_normal), across)
            turned[:3, 3] += aside * turned[:3, 0] + 0.5 * (front + back) * turned[:3, 1]
            off = float(np.abs(turned - body.frame).max())
            body = Body(turned, half_width, 0.5 * (back - front))
            plates = endplates(some, body, BODY_SHARES[0])
            if off < still_mm:
                break
    return None if plates is None else (body, plates)


def _thinned(samples: Samples) -> Samples:
    """One in ``_THINNED`` of the points, which stand for the area of all."""
    fewer = samples.where(np.arange(len(samples.points)) % _THINNED == 0)
    return replace(fewer, area_mm2=_THINNED * fewer.area_mm2)


def _about(samples: Samples, body: Body) -> Samples:
    """What may belong to endplates or walls of a body that is not known for sure yet."""
    local = np.abs((samples.points - body.frame[:3, 3]) @ body.frame[:3, :3])
    wide, deep = (WALLS_WITHIN + FADES) * body.half_width_mm + _ABOUT_MM, (WALLS_WITHIN + FADES) * body.half_depth_mm + _ABOUT_MM
    return samples.where((local[:, 0] < wide) & (local[:, 1] < deep))


def _walls_mm(samples: Samples, body: Body, height_mm: float) -> tuple[float, float, float] | None:
    """Mean place of the front and of the back wall along y, and of the side walls from the middle, half-way up."""
    heights = np.abs((samples.points - body.frame[:3, 3]) @ body.frame[:3, 2])
    samples = samples.where(heights < LEVEL * height_mm + FADES_MM)
    local = (samples.points - body.frame[:3, 3]) @ body.frame[:3, :3]
    normal = samples.normals @ body.frame[:3, :3]
    level = samples.area_mm2 * _below(np.abs(local[:, 2]), LEVEL * height_mm, FADES_MM)
    wide, deep = local[:, 0] / body.half_width_mm, local[:, 1] / body.half_depth_mm
    middle = level * _below(np.abs(wide), 0.3, FADES) * _below(np.abs(deep), 1.3, FADES)  # the canal's far wall is further back
    sideways = level * _below(np.abs(deep), 0.3, FADES) * _below(np.abs(wide), WALLS_WITHIN, FADES)
    weights = (
        middle * _below(normal[:, 1], -FACING, FADES),
        middle * _below(-normal[:, 1], -FACING, FADES),
        sideways * _below(-np.abs(normal[:, 0]), -FACING, FADES),
    )
    if min(float(weight.sum()) for weight in weights) < _LEAST_MM2:
        return None
    front, back = (float(np.average(local[:, 1], weights=weight)) for weight in weights[:2])
    return front, back, float(np.average(np.abs(local[:, 0]), weights=weights[2]))


def _below(values: FloatArray, limit: float, width: float) -> FloatArray:
    """1 below a limit, 0 above, fading over a width about it."""
    return np.asarray(np.clip((limit - values) / width + 0.5, 0.0, 1.0))


def _weighted_percentile(values: FloatArray, weight: FloatArray, share: float) -> float:
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weight[order])
    return float(np.interp(share * passed[-1], passed, values[order]))


def _plane(points: FloatArray, weight: FloatArray, normal: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Plane through points by weight, those off it counting less: a point of it, its unit normal, RMS distance (mm)."""
    counts, centre, found, off = weight, points.mean(axis=0), normal, np.zeros(len(points))
    for _ in range(_ROUNDS):
        before = found
        centre = np.average(points, axis=0, weights=counts)
        _, axes = np.linalg.eigh((points - centre).T @ ((points - centre) * counts[:, None]))
        found = axes[:, 0] * (1.0 if axes[:, 0] @ normal >= 0.0 else -1.0)
        off = (points - centre) @ found
        if float(np.abs(found - before).max()) < _STILL_MM:
            break
        counts = weight / (1.0 + (off / OFF_MM) ** 2) ** 2
    return centre, np.asarray(found), float(np.sqrt(np.average(off**2, weights=counts)))
