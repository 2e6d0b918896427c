"""What of a part cannot be built on what lies below it: overhangs beyond the limit, less what the process lets hang freely.

A patch of overhanging faces leans on those of its edges from which the part goes on downwards. Of it are free

* a ledge: what lies within ``free_ledge_mm`` of such an edge, seen from above;
* a bridge: what lies between two such edges at most ``free_bridge_mm`` apart;
* the roof of a hole: the same, of ``free_hole_mm`` across, where it is curved (its flat middle is a bridge);
* what is left of a patch, of its protected faces and of the others, where it is less than ``least_support_mm2`` seen from above
  and none of it is farther than ``small_reach_mm`` from such an edge: a rib is narrow however far it stands out.

Whatever leans on an edge must not lie lower than it. What begins in the air, a tip with nothing below it, is never free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import manifold3d
import numpy as np
import numpy.typing as npt
from numba import njit, prange
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from batchone.pipeline.process import Process, Supports
from batchone.pipeline.values import FloatArray, IntArray, Part
from batchone.slicer.sweep import half_edge_twins

BoolArray = npt.NDArray[np.bool_]

_SECTORS: Final = 32  # numerical: directions in which the edges about a place are told apart
_SAMPLE_MM: Final = 0.5  # numerical: large faces are looked at in places so far apart, their edges in half of it
_LEVEL: Final = 1e-9  # numerical: sine of a slope that is level
_SPECK_MM2: Final = 1e-6  # numerical: slivers that round off
_AREA_DIGITS: Final = 6  # numerical: areas that agree this far are alike


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A part's surface as :func:`overhang` takes it, the same for every direction: normals (m, 3) and areas (m,) of its faces
    in mm2, which are protected (m,), points all over those, the other half of each half-edge (3 m,), and the corners (h, 3) of
    its convex hull, mm.
    """

    part: Part
    normals: FloatArray
    areas_mm2: FloatArray
    protected: BoolArray
    kept_free: cKDTree
    twins: IntArray
    hull_mm: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Overhang:
    """Which faces (m,) overhang beyond the limit, which need a support, which of those are protected, and the area in need.

    About a tip that begins in the air all faces need one; it counts as protected where all of them are.
    """

    beyond: BoolArray
    needing: BoolArray
    functional: BoolArray
    needing_mm2: FloatArray


def protected(part: Part) -> BoolArray:
    """(m,) faces that no support may touch: the functional ones."""
    names = {face.label for face in part.functional_faces}
    return np.isin(part.face_labels, [k for k, label in enumerate(part.labels) if label in names])


def surface(part: Part) -> Surface:
    """What :func:`overhang` needs of a part."""
    corners = part.mesh.vertices_mm[part.mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.sqrt((cross**2).sum(axis=1))
    twins, _, _ = half_edge_twins(np.ascontiguousarray(part.mesh.faces), len(part.mesh.vertices_mm))
    normals = cross / np.where(twice > 0, twice, 1.0)[:, None]
    functional = protected(part)
    kept_free = cKDTree(middles_of(corners[functional], _SAMPLE_MM)[0])
    return Surface(part, normals, 0.5 * twice, functional, kept_free, twins, _hull_of(part.mesh.vertices_mm))


def _hull_of(points_mm: FloatArray) -> FloatArray:
    """The corners (h, 3) of the convex hull of points, mm; the points themselves where they span no volume."""
    hull = manifold3d.Manifold.hull_points(np.ascontiguousarray(points_mm)).to_mesh64().vert_properties[:, :3]
    return np.array(hull if len(hull) else points_mm, dtype=np.float64)


def overhang(of: Surface, up: FloatArray, process: Process) -> Overhang:
    """What overhangs with ``up`` (3,), a unit vector in patient LPS, and what of it needs a support."""
    if not process.needs_supports:
        none = np.zeros(len(of.normals), dtype=np.bool_)
        return Overhang(none, none, none, np.zeros(len(none)))
    height = of.part.mesh.vertices_mm @ up
    beyond = beyond_limit(of.normals, up, process.max_overhang_deg)
    hanging = np.zeros(len(of.normals))
    for from_deg, span_mm in process.free_spans:
        roof = beyond_limit(of.normals, up, from_deg)
        hanging = np.maximum(hanging, _hanging(of, up, height, roof, process, span_mm=span_mm))
    needing = hanging > 0.0
    tips = _begun_in_air(of, up, height, process.layer_mm)
    faces = of.part.mesh.faces
    tips[faces[needing]] = False
    inmost = tips.copy()
    inmost[faces[~of.protected]] = False
    functional = (needing & of.protected) | inmost[faces].any(axis=1)
    about = tips[faces].any(axis=1)
    return Overhang(beyond, needing | about, functional, of.areas_mm2 * np.where(needing, hanging, about))


def beyond_limit(normals: FloatArray, up: FloatArray, max_overhang_deg: float) -> BoolArray:
    """Which faces overhang beyond the limit, measured from the vertical: normals (n, 3), ``up`` (3,) or (3, k) as columns."""
    # numerical: a face exactly at the limit is allowed, whatever the rounding
    return np.asarray(-(normals @ up) > math.sin(math.radians(max_overhang_deg)) + 1e-9)


@dataclass(frozen=True, slots=True, eq=False)
class _Roof:
    """Faces (r,) of a roof; places (p, 3) all over them (x, y, height), the number of the face and the patch of each; and what
    patches lean on (a, 3), by patch and rising x, with the patch of each.
    """

    faces: npt.NDArray[np.int64]
    points: FloatArray
    place: npt.NDArray[np.int64]
    on: IntArray
    anchors: FloatArray
    at: IntArray

    def free(self, ledge_mm: float, span_mm: float, layer_mm: float) -> BoolArray:
        """(p,) which places lean on anchors as a ledge or a bridge."""
        anchors, at = self.anchors, self.at
        order, first = np.lexsort((anchors[:, 0], at)), np.searchsorted(np.sort(at), np.arange(int(self.on.max(initial=0)) + 2))
        free = _free(self.points, self.on, anchors[order], first, ledge_mm, span_mm, layer_mm)
        return np.asarray(free)


def _roof(of: Surface, up: FloatArray, height: FloatArray, roof: BoolArray) -> _Roof:
    mesh = of.part.mesh
    half = np.flatnonzero(np.repeat(roof, 3))
    face, other = half // 3, of.twins[half] // 3
    inner = roof[other]
    links = coo_array((np.ones(int(inner.sum()), dtype=np.int8), (face[inner], other[inner])), shape=(len(roof), len(roof)))
    patch = connected_components(links, directed=False)[1].astype(np.int64)

    rim, twin = half[~inner], of.twins[half[~inner]]
    start, end = mesh.faces.ravel()[rim], mesh.faces[rim // 3, (rim + 1) % 3]
    beside = mesh.faces[twin // 3, (twin + 2) % 3]
    carries = _rise(mesh.vertices_mm[start], mesh.vertices_mm[end], mesh.vertices_mm[beside], up) < -_LEVEL
    start, end, patch_of = start[carries], end[carries], patch[rim[carries] // 3]

    plane = _across(up)
    edges_at, edge = _along(mesh.vertices_mm[start], mesh.vertices_mm[end])
    faces = np.flatnonzero(roof).astype(np.int64)
    places, place = middles_of(mesh.vertices_mm[mesh.faces[faces]], _SAMPLE_MM)
    anchors = np.column_stack([edges_at @ plane.T, edges_at @ up])
    points = np.column_stack([places @ plane.T, places @ up])
    return _Roof(faces, points, place, patch[faces[place]], anchors, patch_of[edge])


def _hanging(of: Surface, up: FloatArray, height: FloatArray, roof: BoolArray, process: Process, *, span_mm: float) -> FloatArray:
    """(m,) share of each face of ``roof`` that is neither a ledge nor a bridge of that span."""
    found = _roof(of, up, height, roof)
    faces = found.faces
    free = found.free(process.free_ledge_mm, span_mm, process.layer_mm)
    count = np.bincount(found.place, minlength=len(faces))
    share = np.bincount(found.place, ~free, len(faces)) / count
    patch = np.zeros(len(faces), dtype=np.int64)
    patch[found.place] = found.on
    region = 2 * patch + of.protected[faces]
    seen_mm2 = -(of.normals[faces] @ up) * of.areas_mm2[faces]
    small = np.isin(patch, found.at) & (np.bincount(region, seen_mm2 * share)[region] < process.least_support_mm2)
    if small.any():
        near = found.free(process.small_reach_mm, span_mm, process.layer_mm)
        far_mm2 = np.bincount(region, seen_mm2 * np.bincount(found.place, ~near, len(faces)) / count)
        share[small & (far_mm2[region] <= _SPECK_MM2)] = 0.0
    hanging = np.zeros(len(roof))
    hanging[faces] = share
    return hanging


def clear_mm(supports: Supports) -> float:
    """How far from protected faces the middle of a support stands where it touches the part."""
    return supports.gap_mm + 0.5 * max(supports.tip_mm, supports.block.wall_mm if supports.block else 0.0)


def unreachable_mm2(of: Surface, directions: FloatArray, process: Process) -> FloatArray:
    """(k,) area beyond the limit on protected faces and so near to them that supports keep off, for ``directions`` (k, 3).

    Supports that another program makes keep off the protected faces alone.
    """
    near = of.protected
    if process.supports is not None:
        middles = of.part.mesh.vertices_mm[of.part.mesh.faces].mean(axis=1)
        clear = clear_mm(process.supports)
        near = near | (of.kept_free.query(middles, distance_upper_bound=clear)[0] < clear)
    found = [of.areas_mm2[near][beyond_limit(of.normals[near], up, process.max_overhang_deg)].sum() for up in directions]
    return np.round(np.array(found), _AREA_DIGITS)


def _rise(start: FloatArray, end: FloatArray, beside: FloatArray, up: FloatArray) -> FloatArray:
    """Slope, from edges (k, 3), (k, 3) at right angles to a point (k, 3) beside each: the sine, 1 is straight up."""
    edge = end - start
    edge /= np.maximum(np.linalg.norm(edge, axis=1), np.finfo(np.float64).tiny)[:, None]
    aside = beside - start
    aside -= (aside * edge).sum(axis=1)[:, None] * edge
    return np.asarray((aside @ up) / np.maximum(np.linalg.norm(aside, axis=1), np.finfo(np.float64).tiny))


def _across(up: FloatArray) -> FloatArray:
    """(2, 3) two unit vectors at right angles to ``up`` and to each other."""
    x = np.cross(np.eye(3)[int(np.argmin(np.abs(up)))], up)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(up, x)])


def _along(start: FloatArray, end: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Places all along edges (k, 3), (k, 3), and the edge of each."""
    pieces = np.maximum(np.ceil(np.linalg.norm(end - start, axis=1) / (0.5 * _SAMPLE_MM)), 1).astype(np.int64)
    edge = np.repeat(np.arange(len(start)), pieces)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = ((step + 0.5) / pieces[edge])[:, None]
    return start[edge] * (1.0 - share) + end[edge] * share, edge


def middles_of(corners: FloatArray, apart_mm: float) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Places all over triangles (k, 3, 3) at most so far apart, the middles of equal parts of each, and the triangle of each."""
    longest = np.sqrt(((corners - np.roll(corners, 1, axis=1)) ** 2).sum(axis=2)).max(axis=1, initial=0.0)
    cuts = np.maximum(np.ceil(longest / apart_mm), 1).astype(np.int64)
    places, faces = [], []
    for count in np.unique(cuts).tolist():
        chosen = np.flatnonzero(cuts == count)
        i, j = np.divmod(np.arange(count * count), count)
        upright = i + j < count
        share = np.where(
            upright[:, None], np.stack([i + 1 / 3, j + 1 / 3], axis=1), np.stack([count - i - 1 / 3, count - j - 1 / 3], axis=1)
        )
        share = share / count
        one, two, three = corners[chosen, 0], corners[chosen, 1], corners[chosen, 2]
        at = one[:, None] + share[None, :, :1] * (two - one)[:, None] + share[None, :, 1:] * (three - one)[:, None]
        places.append(at.reshape(-1, 3))
        faces.append(np.repeat(chosen, count * count))
    if not places:
        return np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    return np.concatenate(places), np.concatenate(faces)


@njit("b1(f8[::1], f8[:, ::1], f8, f8, f8)", cache=True)
def _leans(point: FloatArray, anchors: FloatArray, ledge_mm: float, span_mm: float, layer_mm: float) -> bool:
    """Whether a place (x, y, height) leans on anchors (a, 3), by rising x: a ledge from one, or a bridge between two."""
    reach_mm = max(ledge_mm, span_mm)
    nearest = np.full(_SECTORS, np.inf)
    lower = np.full(_SECTORS, np.inf)
    for a in range(np.searchsorted(anchors[:, 0], point[0] - reach_mm), anchors.shape[0]):
        x, y = anchors[a, 0] - point[0], anchors[a, 1] - point[1]
        if x > reach_mm:
            break
        square = x * x + y * y
        if square > reach_mm * reach_mm:
            continue
        low = anchors[a, 2] <= point[2] + layer_mm
        if low and square <= ledge_mm * ledge_mm:
            return True
        sector = int((math.atan2(y, x) / (2.0 * math.pi) + 1.0) * _SECTORS) % _SECTORS
        nearest[sector] = min(nearest[sector], square)
        if low:
            lower[sector] = min(lower[sector], square)
    for sector in range(_SECTORS):
        if lower[sector] == np.inf:
            continue
        opposite = sector + _SECTORS // 2
        over = min(nearest[(opposite - 1) % _SECTORS], nearest[opposite % _SECTORS], nearest[(opposite + 1) % _SECTORS])
        if math.sqrt(lower[sector]) + math.sqrt(over) <= span_mm:
            return True
    return False


@njit("b1[::1](f8[:, ::1], i8[::1], f8[:, ::1], i8[::1], f8, f8, f8)", cache=True, parallel=True)
def _free(
    points: FloatArray, patch: IntArray, anchors: FloatArray, first: IntArray, ledge_mm: float, span_mm: float, layer_mm: float
) -> BoolArray:
    """(p,) which places lean on the anchors of their patch, ``first[k]`` to ``first[k + 1]``."""
    free = np.zeros(points.shape[0], np.bool_)
    for p in prange(points.shape[0]):
        mine = anchors[first[patch[p]] : first[patch[p] + 1]]
        free[p] = _leans(points[p], mine, ledge_mm, span_mm, layer_mm)
    return free


def _begun_in_air(of: Surface, up: FloatArray, height: FloatArray, layer_mm: float) -> BoolArray:
    """(n,) vertices that are tips below which nothing is, for at least a layer; also where the part itself begins."""
    faces = of.part.mesh.faces
    rise = of.areas_mm2 * (of.normals @ up)
    down = np.bincount(faces.ravel(), np.repeat(rise, 3), len(height)) < 0.0
    half = np.flatnonzero(np.arange(len(of.twins)) < of.twins)
    ends = np.stack([faces.ravel()[half], faces[half // 3, (half % 3 + 1) % 3]], axis=1).astype(np.int64)
    order = np.argsort(height[ends].max(axis=1), kind="stable")
    return np.asarray(_tips(ends[order], height, layer_mm) & down)


@njit("b1[::1](i8[:, ::1], f8[::1], f8)", cache=True)
def _tips(edges: IntArray, height: FloatArray, layer_mm: float) -> BoolArray:
    """(n,) lowest vertices of what, from below, stays apart from anything that began lower until a layer above them.

    ``edges`` (k, 2) rise with their upper end.
    """
    root = np.arange(height.shape[0])
    tips = np.ones(height.shape[0], np.bool_)
    for k in range(edges.shape[0]):
        a, b = edges[k, 0], edges[k, 1]
        meet = max(height[a], height[b])
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        if a == b:
            continue
        if height[b] > height[a] or (height[b] == height[a] and b > a):
            a, b = b, a  # a began higher: it ends here
        root[a] = b
        if meet - height[a] < layer_mm:
            tips[a] = False
    return tips
