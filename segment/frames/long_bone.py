"""Tibia and femur: shaft, plateau and condyles, head and epicondyles, and frames after the International Society of Biomechanics.

The axes of a long bone are looked for along its length, which is its largest principal axis; the end nearer to the patient's
head is the upper one. A bone of which an end is missing in the scan gets what its other end shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.pipeline.landmarks import Landmark, Reference
from batchone.pipeline.values import FloatArray, Mesh, Side
from batchone.segment.frames.fits import (
    Samples,
    as_vector,
    fit_line,
    fit_plane,
    fit_sphere,
    frame_of,
    landmark,
    sampled,
    spread_of,
    unit,
)

SAMPLE_MM = 1.5  # points on the surface; numerical
LEAST_MM = 40.0  # of length: shorter pieces are no end of a long bone; default
SHAFT_MM = 150.0  # of length: a shorter end of a femur is as wide as long, and its own axis is not the shaft's; default
SLICE_MM = 5.0  # sections through the shaft; numerical
SHAFT_SHARES = ((0.35, 0.75), (0.3, 0.7), (0.4, 0.8))  # of the length, from below; the first counts. Beyond, the ends flare
END_MM = (20.0, 18.0, 22.0)  # the plateau lies this near to the upper end of a tibia; the first counts; default
CONDYLE = (0.3, 0.95)  # of half the width: further in stands the eminence, further out the edge falls off; default
FACING = 0.85  # cosine to the shaft from which a point faces up or down; default
HEAD_MM = (17.0, 33.0)  # radius of a femoral head: 20 to 28 in adults; textbook anatomy with room on both sides
HEAD_TURN = (-0.2, -0.35, 0.0)  # least cosine to the head's pole of points that count: below lies the neck; the first counts
OFF_HEAD_MM = (1.0, 1.5, 0.75)  # points further off the sphere are not on it; the first counts
CONDYLES_MM = (40.0, 34.0, 46.0)  # the condyles of a femur lie this near to its lower end; the first counts; default


@dataclass(frozen=True, slots=True, eq=False)
class LongBone:
    """Frame (x left, y back, z up), landmarks and references; ``partial`` names the end that is missing, if any."""

    frame: FloatArray
    landmarks: tuple[Landmark, ...]
    references: tuple[Reference, ...]
    partial: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Bone:
    """Surface points with their place along the shaft (mm from the lower end), the bone's length, and how sure the surface is."""

    samples: Samples
    along: FloatArray
    up: FloatArray
    length_mm: float
    sigma_mm: float

    def end(self, mm: float, *, upper: bool) -> Samples:
        """The points within some mm of one end."""
        return self.samples.where(self.along > self.length_mm - mm if upper else self.along < mm)


def _bone(mesh: Mesh, sigma_mm: npt.NDArray[np.float64]) -> _Bone | None:
    samples = sampled(mesh, SAMPLE_MM)
    _, axes = np.linalg.eigh(np.cov(samples.points.T))
    up = axes[:, 2] * (1.0 if axes[2, 2] >= 0.0 else -1.0)
    if float(np.ptp(samples.points @ up)) < SHAFT_MM:
        up = np.array([0.0, 0.0, 1.0])
    along = samples.points @ up
    low, high = float(along.min()), float(along.max())
    if high - low < LEAST_MM or abs(up[2]) < 0.3:  # lying across the patient: which end is the upper one?
        return None
    return _Bone(samples, along - low, up, high - low, float(np.median(sigma_mm)))


def _shaft(bone: _Bone, title: str) -> Reference | None:
    """Line through the middles of the shaft's sections; None where there is too little of it."""
    if bone.length_mm < SHAFT_MM:
        return None
    found = []
    for low, high in SHAFT_SHARES:
        edges = np.arange(low * bone.length_mm, high * bone.length_mm, SLICE_MM)
        middles = [_section_middle(bone, edge) for edge in edges]
        known = np.array([m for m in middles if m is not None])
        if len(known) < 4:
            return None
        found.append(fit_line(known, bone.up))
    point, direction, rms = found[0]
    turned = np.degrees(np.sqrt(np.mean([np.linalg.norm(np.cross(direction, d)) ** 2 for _, d, _ in found])))
    spread_mm = float(np.hypot(rms, bone.sigma_mm))
    return Reference(f"{title}-shaft", "axis", as_vector(point), as_vector(direction), spread_mm, float(turned))


def _section_middle(bone: _Bone, edge_mm: float) -> FloatArray | None:
    """Middle of what a slice of the surface encloses: the mean over directions, so that uneven sampling does not count."""
    points = bone.samples.points[(bone.along >= edge_mm) & (bone.along < edge_mm + SLICE_MM)]
    if len(points) < 24:
        return None
    centre = points.mean(axis=0)
    x = unit(np.cross(bone.up, [0.0, 1.0, 0.0] if abs(bone.up[1]) < 0.9 else [1.0, 0.0, 0.0]))
    y = np.cross(bone.up, x)
    for _ in range(3):
        off = points - centre
        angle = np.arctan2(off @ y, off @ x)
        sector = ((angle + np.pi) / (2 * np.pi) * 24).astype(int) % 24
        means = [points[sector == k].mean(axis=0) for k in range(24) if np.any(sector == k)]
        if len(means) < 16:
            return None
        centre = np.mean(means, axis=0)
    return np.asarray(centre)


def _outward(side: Side) -> FloatArray:
    """Patient direction away from the midline."""
    return np.array([1.0 if side == "left" else -1.0, 0.0, 0.0])


# --- tibia -------------------------------------------------------------------------------------------------------------------


def tibia(mesh: Mesh, sigma_mm: npt.NDArray[np.float64], title: str, side: Side, *, complete: bool) -> LongBone | None:
    """Measure a tibia.

    Plateau: the plane through what faces up on both condyles; a condyle's point is the middle of its part. Ankle: the middle of
    what faces down at the lower end beside the malleolus. z runs from ankle to knee (along the shaft where the lower end is
    missing), x along the line between the condyles.
    """
    bone = _bone(mesh, sigma_mm)
    if bone is None or side == "midline":
        return None
    shaft = _shaft(bone, title)
    shaft_up = bone.up if shaft is None else np.array(shaft.direction)
    plateaus = [_plateau(bone, mm, shaft_up, side) for mm in END_MM]
    first = plateaus[0]
    if first is None:
        return None
    known = [p for p in plateaus if p is not None]
    knees = [0.5 * (p[0] + p[1]) for p in known]
    landmarks = [
        landmark(f"{title}-plateau-medial", [p[0] for p in known], bone.sigma_mm),
        landmark(f"{title}-plateau-lateral", [p[1] for p in known], bone.sigma_mm),
        landmark(f"{title}-knee-centre", knees, bone.sigma_mm),
    ]
    ankles = _ankles(bone, shaft_up) if complete and shaft is not None else []
    if ankles:
        landmarks.append(landmark(f"{title}-ankle-centre", ankles, bone.sigma_mm))
        landmarks.append(_tip(f"{title}-malleolus-medial", bone, -bone.up, bone.end(25.0, upper=False)))
    up = unit(knees[0] - ankles[0]) if ankles else shaft_up
    across = first[1] - first[0] if side == "left" else first[0] - first[1]
    turned = np.degrees(np.sqrt(np.mean([np.linalg.norm(np.cross(first[2], p[2])) ** 2 for p in known])))
    spread = spread_of(knees, float(np.hypot(first[3], bone.sigma_mm)))
    plane = Reference(f"{title}-plateau", "plane", as_vector(knees[0]), as_vector(first[2]), spread, float(turned))
    references = (plane,) if shaft is None else (shaft, plane)
    return LongBone(frame_of(knees[0], up, across), tuple(landmarks), references, "" if ankles else "lower end")


def _plateau(bone: _Bone, end_mm: float, up: FloatArray, side: Side) -> tuple[FloatArray, FloatArray, FloatArray, float] | None:
    """Middle of the medial and of the lateral part of what faces up, the plane's normal, and how far off it points are (mm)."""
    end = bone.end(end_mm, upper=True)
    width = end.points - (end.points @ up)[:, None] * up
    _, axes = np.linalg.eigh(np.cov(width.T))
    across = axes[:, 2] * (1.0 if axes[:, 2] @ _outward(side) >= 0.0 else -1.0)
    places = end.points @ across
    inner, outer = (float(edge) for edge in np.percentile(places, (1, 99)))
    place = (places - 0.5 * (inner + outer)) / (0.5 * (outer - inner))
    flat = (end.normals @ up > FACING) & (np.abs(place) > CONDYLE[0]) & (np.abs(place) < CONDYLE[1])
    if flat.sum() < 40:
        return None
    centre, normal, rms = fit_plane(end.points[flat], up)
    on = flat & (np.abs((end.points - centre) @ normal) < 4.0)
    medial, lateral = on & (place < 0.0), on & (place > 0.0)
    if medial.sum() < 15 or lateral.sum() < 15:
        return None
    return end.points[medial].mean(axis=0), end.points[lateral].mean(axis=0), normal, rms


def _ankles(bone: _Bone, up: FloatArray) -> list[FloatArray]:
    """Middle of the joint surface at the lower end, found in three ways."""
    found = []
    for mm, facing in ((22.0, FACING), (19.0, FACING - 0.05), (25.0, FACING + 0.05)):
        end = bone.end(mm, upper=False)
        flat = end.where(end.normals @ up < -facing).points
        if len(flat) < 20:
            return []
        centre, normal, _ = fit_plane(flat, -up)
        on = flat[np.abs((flat - centre) @ normal) < 3.0]  # the malleolus reaches below it
        found.append(on.mean(axis=0))
    return found


def _tip(name: str, bone: _Bone, direction: FloatArray, samples: Samples) -> Landmark:
    """The outermost point in a direction: the middle of all within half a millimetre of it."""
    along = samples.points @ direction
    near = samples.points[along >= along.max() - 0.5]
    spread = float(np.sqrt(((near - near.mean(axis=0)) ** 2).sum(axis=1).mean() + bone.sigma_mm**2))
    return Landmark(name, as_vector(near.mean(axis=0)), spread)


# --- femur -------------------------------------------------------------------------------------------------------------------


def femur(mesh: Mesh, sigma_mm: npt.NDArray[np.float64], title: str, side: Side, *, complete: bool) -> LongBone | None:
    """Measure a femur.

    Head: a sphere through what is round at the inner upper end. Epicondyles: the outermost points to both sides near the lower
    end. z runs from the middle of the epicondyles to the head's centre, x along the line between the epicondyles (Wu et al.
    2002); where the lower end is missing, z runs along the shaft and x towards the head.
    """
    bone = _bone(mesh, sigma_mm)
    if bone is None or side == "midline":
        return None
    shaft = _shaft(bone, title)
    inward = -_outward(side)
    heads = _heads(bone, unit(inward - (inward @ bone.up) * bone.up))
    references = [shaft] if shaft is not None else []
    if not heads:
        return None
    centres = [centre for centre, _ in heads]
    landmarks = [landmark(f"{title}-head-centre", centres, bone.sigma_mm)]
    ends = [_epicondyles(bone, mm, side) for mm in CONDYLES_MM] if complete else []
    known = [end for end in ends if end is not None]
    if known and ends[0] is not None:
        landmarks.append(landmark(f"{title}-epicondyle-medial", [end[0] for end in known], bone.sigma_mm))
        landmarks.append(landmark(f"{title}-epicondyle-lateral", [end[1] for end in known], bone.sigma_mm))
        landmarks.append(landmark(f"{title}-knee-centre", [0.5 * (end[0] + end[1]) for end in known], bone.sigma_mm))
        medial, lateral = ends[0]
        across = lateral - medial if side == "left" else medial - lateral
        frame = frame_of(centres[0], centres[0] - 0.5 * (medial + lateral), across)
        return LongBone(frame, tuple(landmarks), tuple(references))
    up = np.array(shaft.direction) if shaft is not None else bone.up
    from_shaft = centres[0] - (np.array(shaft.origin_mm) if shaft is not None else bone.samples.points.mean(axis=0))
    frame = frame_of(centres[0], up, -from_shaft if side == "left" else from_shaft)
    return LongBone(frame, tuple(landmarks), tuple(references), "lower end")


def _heads(bone: _Bone, inward: FloatArray) -> list[tuple[FloatArray, float]]:
    """Centre and radius of the head's sphere, found with different ideas of what belongs to it; empty where there is none."""
    pole = unit(inward + 0.8 * bone.up)  # the head looks inwards and up
    upper = bone.end(min(110.0, 0.7 * bone.length_mm), upper=True)
    tip = upper.points[np.argmax(upper.points @ pole)]
    found = []
    for turn, off_mm in zip(HEAD_TURN, OFF_HEAD_MM, strict=True):
        sphere = _head(upper, pole, tip, turn, off_mm)
        if sphere is None:
            return []
        found.append(sphere)
    return found


def _head(upper: Samples, pole: FloatArray, tip: FloatArray, turn: float, off_mm: float) -> tuple[FloatArray, float] | None:
    radius = 0.5 * sum(HEAD_MM)
    centre = tip - radius * pole
    for allowed in (6.0, 4.0, 3.0, 2.0, *[off_mm] * 6):
        off = upper.points - centre
        length = np.linalg.norm(off, axis=1)
        direction = off / np.maximum(length, 1e-9)[:, None]
        on = (np.abs(length - radius) < allowed) & (direction @ pole > turn) & ((direction * upper.normals).sum(axis=1) > 0.8)
        if on.sum() < 60:
            return None
        centre, radius = fit_sphere(upper.points[on])
        if not HEAD_MM[0] <= radius <= HEAD_MM[1]:
            return None
    return centre, radius


def _epicondyles(bone: _Bone, end_mm: float, side: Side) -> tuple[FloatArray, FloatArray] | None:
    """The outermost points to the inner and to the outer side near the lower end."""
    end = bone.end(end_mm, upper=False).points
    if len(end) < 100:
        return None
    flat = end - (end @ bone.up)[:, None] * bone.up
    _, axes = np.linalg.eigh(np.cov(flat.T))
    across = axes[:, 2] * (1.0 if axes[:, 2] @ _outward(side) >= 0.0 else -1.0)
    along = end @ across
    inner, outer = (end[sign * along >= (sign * along).max() - 0.5].mean(axis=0) for sign in (-1.0, 1.0))
    return inner, outer
