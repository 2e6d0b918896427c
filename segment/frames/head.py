"""A skull's planes: the mid-sagittal plane by mirror symmetry, and the Frankfurt plane through both orbits and both ear canals.

The mid-sagittal plane is the one in which the skull is most its own mirror image; the part that has no counterpart (a defect)
does not count. Seen from the front and from the sides along it, the orbits and the openings of the ear canals are pits of
known size and place; orbitale is the lowest point of an orbit's rim, porion the highest of an ear canal's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numba as nb
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from batchone.pipeline.landmarks import Landmark, Reference
from batchone.pipeline.side_by_side import beside, side_by_side
from batchone.pipeline.values import FloatArray, IntArray, Mesh
from batchone.segment.frames.fits import angle_deg, as_vector, fit_plane, frame_of, unit

LOWER_MM = 20.0  # over the middle of the vault: orbits and ears lie below; default
POINTS = 2000  # that are mirrored; numerical
ALIKE = 0.7  # share of the points that must have a counterpart: a defect of 110 mm takes a fifth of a vault; default
ROUNDS = 40  # of mirroring and fitting again; numerical
SAME_WAY = 0.7  # cosine between a mirrored normal and that of its counterpart; numerical
DEPTH_MM = 60.0  # below the middle of the vault: further down is face and base, and often the end of the scan; default
CELL_MM = 1.0  # of a view; numerical
_SMALL = 10  # cells: a larger ball is a square, which takes a hundredth of the time; numerical
_NOTHING = -1e3  # depth where there is no bone; numerical

# pits: radius that closes them (mm), least depth (mm), area (mm2), place of their middle in the frame of a view (mm): to the
# side or front to back, and height, from the middle of the vault, and the share of its surroundings that may be without bone (a
# notch at an edge is no pit); textbook anatomy of adults with room on both sides
ORBIT = (22.0, 8.0, (200.0, 2600.0), (16.0, 46.0), (-75.0, -5.0), 0.2)
EAR = (9.0, 2.5, (8.0, 200.0), (-20.0, 30.0), (-70.0, -20.0), 0.0)
NEAR_MM = (3.0, 20.0)  # of the mid-sagittal plane: nearer lies nothing of an orbit, nor of an ear canal's opening; default
RIM_MM = 30.0  # from an orbit's middle its rim is nearer than this; default
RIM_DEG = (-20, 45)  # from straight down, inwards and outwards: the lower rim between nose and cheek bone; default
CHEEK_MM = (4.0, 8.0)  # this far below the rim, the surface lies no further behind it: else the scan ends there; default
CREST_MM = 1.0  # the rim ends where the surface comes no further out than this within 3 mm; default
RISE_MM = 5.0  # the rim stands out of the orbit by at least this; default
PAIR_MM = 10.0  # left and right pit lie this near to each other's mirror image; default


_Kind = tuple[float, float, tuple[float, float], tuple[float, float], tuple[float, float], float]
_POINTS = nb.types.Array(nb.float64, 2, "C", readonly=True)
_FACES = nb.types.Array(nb.int32, 2, "C", readonly=True)
_KEEP = nb.types.Array(nb.boolean, 1, "C", readonly=True)


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Landmarks and references of a skull; ``missing`` names the points of the Frankfurt plane that were not found."""

    landmarks: tuple[Landmark, ...]
    references: tuple[Reference, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Lower:
    """Vertices (n, 3) of a surface in a frame, mm, its triangles, which vertices belong to the lower part, and its box (2, 3)."""

    points: FloatArray
    faces: IntArray
    keep: npt.NDArray[np.bool_]
    box: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Pit:
    """A pit of a view: its cells (n, 2), and their middle in mm."""

    cells: npt.NDArray[np.int64]
    middle: FloatArray


def planes(mesh: Mesh, sigma_mm: npt.NDArray[np.float64], vault: FloatArray) -> Planes:
    """Measure a skull; ``vault`` is its frame about the middle of the vault."""
    sigma = float(np.median(sigma_mm))
    point, normal, off_mm, off_deg = mid_sagittal(mesh, vault)
    middle = vault[:3, 3] - normal * ((vault[:3, 3] - point) @ normal)
    frame = frame_of(middle, vault[:3, 2] - normal * (vault[:3, 2] @ normal), normal)
    sagittal = Reference("mid-sagittal", "plane", as_vector(middle), as_vector(normal), float(np.hypot(off_mm, sigma)), off_deg)
    lower = _lower(mesh, frame)
    (left, right), ears = beside(
        lambda: side_by_side([partial(_orbitale, lower, sign) for sign in (1.0, -1.0)]), lambda: _poria(lower)
    )
    orbits = {"left": left, "right": right}
    found = {f"orbitale-{side}": p for side, p in orbits.items()} | {f"porion-{side}": p for side, p in ears.items()}
    landmarks = tuple(
        Landmark(name, as_vector(middle + frame[:3, :3] @ one[0]), float(np.sqrt(CELL_MM**2 + one[1] ** 2 + sigma**2)))
        for name, one in found.items()
        if one is not None
    )
    missing = tuple(name for name, one in found.items() if one is None)
    if len(landmarks) < 3:
        return Planes(landmarks, (sagittal,), missing)
    return Planes(landmarks, (sagittal, _frankfurt(landmarks, frame)), missing)


def _lower(mesh: Mesh, frame: FloatArray) -> _Lower:
    """The part of the surface below ``LOWER_MM``."""
    points = np.ascontiguousarray((mesh.vertices_mm - frame[:3, 3]) @ frame[:3, :3])
    keep = points[:, 2] < LOWER_MM
    box = np.empty((2, 3))
    _bounds(points, keep, box)
    return _Lower(points, np.ascontiguousarray(mesh.faces), keep, box)


def mid_sagittal(mesh: Mesh, vault: FloatArray) -> tuple[FloatArray, FloatArray, float, float]:
    """A point of the mid-sagittal plane and its unit normal to the left; the spreads of both (mm, degrees).

    The spread comes from the halves of the points (front and back, upper and lower) laid against the mirror image by themselves.
    """
    high = (mesh.vertices_mm - vault[:3, 3]) @ vault[:3, 2] > -DEPTH_MM
    above = np.flatnonzero(high[mesh.faces[:, 0]])
    surface = _middles(mesh, above[:: max(1, len(above) // (30 * POINTS))])
    points = tuple(part[:: max(1, len(surface[0]) // POINTS)] for part in surface)
    tree = cKDTree(surface[0])
    normal, offset = _mirrored(points, surface[1], tree, vault[:3, 0], float(vault[:3, 3] @ vault[:3, 0]))
    local = (points[0] - vault[:3, 3]) @ vault[:3, :3]
    others = []
    for axis in (1, 2):
        for sign in (1.0, -1.0):
            half = sign * (local[:, axis] - np.median(local[:, axis])) > 0.0
            others.append(_mirrored(tuple(part[half] for part in points), surface[1], tree, normal, offset))
    middle = vault[:3, 3]
    off = [(d - middle @ n) - (offset - middle @ normal) for n, d in others]
    turned = [angle_deg(normal, n) for n, _ in others]
    # a half knows half as much as the whole
    spread_mm, spread_deg = (float(np.sqrt(np.mean(np.square(values)) / 2)) for values in (off, turned))
    return middle - (middle @ normal - offset) * normal, normal, spread_mm, spread_deg


def _middles(mesh: Mesh, faces: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Middle and unit normal of triangles."""
    corners = mesh.vertices_mm[mesh.faces[faces]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return corners.mean(axis=1), normals / np.maximum(np.linalg.norm(normals, axis=1), 1e-12)[:, None]


def _mirrored(
    points: tuple[FloatArray, ...], normals: FloatArray, tree: cKDTree, normal: FloatArray, offset: float
) -> tuple[FloatArray, float]:
    """Unit normal and offset of the plane that lays the points' mirror image best on the surface.

    Distances count along the surface's normals, so that the image may slide on it; Gauss-Newton steps on the plane.
    """
    own, own_normals = points
    known = np.asarray(tree.data)
    for _ in range(ROUNDS):
        height = own @ normal - offset
        image = own - 2.0 * height[:, None] * normal
        image_normals = own_normals - 2.0 * (own_normals @ normal)[:, None] * normal
        distance, index = tree.query(image)
        facing = (image_normals * normals[index]).sum(axis=1) > SAME_WAY
        near = facing & (distance <= np.quantile(distance, ALIKE))
        if near.sum() < POINTS // 20:
            break
        q, m = known[index[near]], normals[index[near]]
        first = np.cross(normal, [0.0, 0.0, 1.0] if abs(normal[2]) < 0.9 else [0.0, 1.0, 0.0])
        first /= np.linalg.norm(first)
        second = np.cross(normal, first)
        along = m @ normal
        columns = [
            -2.0 * ((own[near] @ t) * along + height[near] * (m @ t)) for t in (first, second)
        ]  # how far the image moves along the surface's normal when the plane turns
        matrix = np.column_stack([*columns, 2.0 * along])
        step = np.linalg.lstsq(matrix, -((image[near] - q) * m).sum(axis=1), rcond=None)[0]
        turned = normal + step[0] * first + step[1] * second
        length = float(np.linalg.norm(turned))
        normal, offset = turned / length, (offset + float(step[2])) / length
        if np.abs(step[:2]).max() < 1e-6:
            break
    return np.asarray(normal), offset


# --- pits --------------------------------------------------------------------------------------------------------------------


@nb.njit(nb.void(_POINTS, _KEEP, nb.float64[:, ::1]), cache=True, nogil=True)
def _bounds(points: FloatArray, keep: npt.NDArray[np.bool_], box: FloatArray) -> None:
    """Lowest and highest coordinates of some of the points."""
    box[0], box[1] = np.inf, -np.inf
    for n in range(len(points)):
        if keep[n]:
            for axis in range(3):
                box[0, axis] = min(box[0, axis], points[n, axis])
                box[1, axis] = max(box[1, axis], points[n, axis])


@nb.njit(nb.int64(_POINTS, _FACES, _KEEP, _POINTS, _POINTS, nb.float64[::1], nb.float64[:, ::1]), cache=True, nogil=True)
def _raise_cells(
    points: FloatArray,
    faces: IntArray,
    keep: npt.NDArray[np.bool_],
    axes: FloatArray,
    limits: FloatArray,
    low: FloatArray,
    out: FloatArray,
) -> int:
    """Raise every cell of a view to the highest triangle over its middle; returns the number of triangles.

    Only triangles whose vertices all belong to ``keep`` and whose first one lies within ``limits`` (lowest and highest of each
    coordinate) count. ``axes``: for across, up and out, the coordinate and its sign.
    """
    seen = 0
    corner = np.empty((3, 3))
    for f in range(faces.shape[0]):
        first = faces[f, 0]
        if not (keep[first] and keep[faces[f, 1]] and keep[faces[f, 2]]):
            continue
        inside = True
        for axis in range(3):
            inside &= limits[0, axis] < points[first, axis] and points[first, axis] < limits[1, axis]
        if not inside:
            continue
        seen += 1
        for v in range(3):
            for axis in range(3):
                corner[v, axis] = axes[1, axis] * points[faces[f, v], int(axes[0, axis])]
            for axis in range(2):
                corner[v, axis] = (corner[v, axis] - low[axis]) / CELL_MM - 0.5  # cell centres at whole numbers
        a, b, c = corner[0], corner[1], corner[2]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0.0:
            continue
        x0, x1 = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        y0, y1 = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        for i in range(int(np.ceil(x0)), int(np.floor(x1)) + 1):
            for j in range(int(np.ceil(y0)), int(np.floor(y1)) + 1):
                u = ((b[0] - i) * (c[1] - j) - (b[1] - j) * (c[0] - i)) / area
                v_ = ((c[0] - i) * (a[1] - j) - (c[1] - j) * (a[0] - i)) / area
                if u >= 0.0 and v_ >= 0.0 and u + v_ <= 1.0:
                    out[i, j] = max(out[i, j], u * a[2] + v_ * b[2] + (1.0 - u - v_) * c[2])
    return seen


class _View:
    """A surface seen along an axis: for each cell of (across, up), how far the nearest point reaches out to the viewer."""

    def __init__(self, lower: _Lower, axes: tuple[tuple[int, float], ...], limits_mm: dict[int, tuple[float, float]]) -> None:
        """``axes``: coordinate and sign of (across, up, out); ``limits_mm``: of the triangles that are seen, per coordinate."""
        corners = np.array([[sign * lower.box[end, axis] for axis, sign in axes[:2]] for end in (0, 1)])
        self.low = corners.min(axis=0) - 2.0 * CELL_MM
        size = np.ceil((corners.max(axis=0) - self.low) / CELL_MM - 0.5)
        self.out = np.full(np.where(np.isfinite(size), size, 0.0).astype(np.int64) + 3, _NOTHING)
        limits = np.array([[-np.inf] * 3, [np.inf] * 3])
        for axis, edges in limits_mm.items():
            limits[:, axis] = edges
        chosen = np.array([[float(axis) for axis, _ in axes], [sign for _, sign in axes]])
        self.triangles = int(_raise_cells(lower.points, lower.faces, lower.keep, chosen, limits, self.low, self.out))

    def place(self, cells: npt.NDArray[np.int64] | FloatArray) -> FloatArray:
        """Middle of cells, mm."""
        return np.asarray((cells + 0.5) * CELL_MM + self.low)

    def at(self, places: FloatArray) -> FloatArray:
        """How far the surface reaches out at places (n, 2), mm; nothing outside of the view."""
        cells = np.floor((places - self.low) / CELL_MM).astype(np.int64)
        inside = np.all((cells >= 0) & (cells < self.out.shape), axis=1)
        cells[~inside] = 0
        return np.where(inside, self.out[cells[:, 0], cells[:, 1]], _NOTHING)

    def pits(self, kind: _Kind) -> list[_Pit]:
        """Pits of a size and place, largest first."""
        radius_mm, depth_mm, area, across, up, open_share = kind
        reach = round(radius_mm / CELL_MM)
        padded = np.pad(self.out, reach, constant_values=_NOTHING)
        ball = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= radius_mm / CELL_MM
        how = {"footprint": ball} if reach <= _SMALL else {"size": 2 * reach + 1}
        closed = ndimage.grey_closing(padded, **how)[reach:-reach, reach:-reach]
        parts, count = ndimage.label((closed - self.out > depth_mm) & (closed > _NOTHING / 2))
        found = []
        for part in range(1, count + 1):
            cells = np.argwhere(parts == part)
            middle = self.place(cells).mean(axis=0)
            inside = across[0] <= middle[0] <= across[1] and up[0] <= middle[1] <= up[1]
            around = ndimage.binary_dilation(parts == part, iterations=2) & (parts != part)
            open_ = float(np.mean(self.out[around] < _NOTHING / 2)) > open_share  # a notch at the edge of what is seen
            if inside and not open_ and area[0] <= len(cells) * CELL_MM**2 <= area[1]:
                found.append(_Pit(cells, middle))
        return sorted(found, key=lambda pit: -len(pit.cells))


def _beside(sign: float, least_mm: float) -> tuple[float, float]:
    """Limits of what lies further than ``least_mm`` from the mid-sagittal plane on one side."""
    return (least_mm, np.inf) if sign > 0.0 else (-np.inf, -least_mm)


def _orbitale(lower: _Lower, sign: float) -> tuple[FloatArray, float] | None:
    """Lowest point of the crest of an orbit's rim, in the frame of the skull (x left, y back, z up), and its spread (mm): a rim
    that is flat there leaves it open to the sides."""
    view = _View(lower, ((0, sign), (2, 1.0), (1, -1.0)), {0: _beside(sign, NEAR_MM[0]), 1: (-np.inf, 0.0)})
    if not view.triangles:
        return None
    pits = view.pits(ORBIT)
    if not pits:
        return None
    rim = []
    for angle in np.radians(np.arange(RIM_DEG[0], RIM_DEG[1] + 1, 5.0)):
        way = np.array([np.sin(angle), -np.cos(angle)])
        places = pits[0].middle + np.arange(0.0, RIM_MM, 0.5)[:, None] * way
        out = view.at(places)
        rise = out - np.minimum.accumulate(np.where(out > _NOTHING / 2, out, np.inf))
        ahead = ndimage.maximum_filter1d(out, size=7, origin=-3) - out  # over the next 3 mm
        crest = np.flatnonzero((rise >= RISE_MM) & (ahead <= CREST_MM))
        below = min(int(crest[0]) + round(2 * CHEEK_MM[0]), len(out) - 1) if len(crest) else 0
        if len(crest) and out[crest[0]] - out[below] <= CHEEK_MM[1]:
            rim.append([*places[crest[0]], out[crest[0]]])
    if len(rim) < 10:
        return None
    smooth = ndimage.median_filter(np.array(rim), size=(5, 1), mode="nearest")  # a foramen in the rim is no rim
    low = smooth[smooth[:, 1] <= smooth[:, 1].min() + 0.5]
    across, up, reach = low.mean(axis=0)
    return np.array([sign * across, -reach, up]), float(np.sqrt(low.var(axis=0).sum()))


def _poria(lower: _Lower) -> dict[str, tuple[FloatArray, float] | None]:
    """Highest point of the opening of each ear canal: the pair of pits that are each other's mirror image."""
    views = {sign: _View(lower, ((1, 1.0), (2, 1.0), (0, sign)), {0: _beside(sign, NEAR_MM[1])}) for sign in (1.0, -1.0)}
    if not all(view.triangles for view in views.values()):
        return {"left": None, "right": None}
    pits = {sign: view.pits(EAR) for sign, view in views.items()}
    pairs = [(float(np.linalg.norm(a.middle - b.middle)), a, b) for a in pits[1.0] for b in pits[-1.0]]
    pairs = [pair for pair in pairs if pair[0] <= PAIR_MM]
    if not pairs:
        return {"left": None, "right": None}
    _, left, right = max(pairs, key=lambda pair: min(len(pair[1].cells), len(pair[2].cells)))
    return {"left": _top(views[1.0], left, 1.0), "right": _top(views[-1.0], right, -1.0)}


def _top(view: _View, pit: _Pit, sign: float) -> tuple[FloatArray, float]:
    highest = int(pit.cells[:, 1].max())
    columns = pit.cells[pit.cells[:, 1] == highest, 0]
    column = int(np.median(columns))
    across, up = view.place(np.array([[column, highest + 1]]))[0]
    point = np.array([sign * float(view.out[column, highest + 1]), across, up - 0.5 * CELL_MM])
    return point, CELL_MM * float(np.std(columns))


def _frankfurt(landmarks: tuple[Landmark, ...], frame: FloatArray) -> Reference:
    """Plane through three or four points; its spread from leaving out one of four, or from theirs where there are three."""
    points = np.array([m.point_mm for m in landmarks])
    centre, normal, _ = fit_plane(points, frame[:3, 2])
    spread = max(m.spread_mm for m in landmarks)
    turned = float(np.degrees(np.arctan2(2.0 * spread, np.ptp(points @ frame[:3, 1]) or 1.0)))
    if len(points) == 4:
        others = [unit(np.cross(p[1] - p[0], p[2] - p[0])) for p in (np.delete(points, k, axis=0) for k in range(4))]
        turned = max(turned / 2.0, float(np.mean([min(angle_deg(normal, o), angle_deg(normal, -o)) for o in others])))
    return Reference("frankfurt", "plane", as_vector(centre), as_vector(normal), spread / np.sqrt(len(points)), turned)
