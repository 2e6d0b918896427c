"""A vertebra: canal, endplates, pedicles, and the frame of the International Society of Biomechanics (Wu et al. 2002).

The canal shows the way: seen along it, the vertebra is a ring. The direction in which its hole is largest is the canal's; the
body lies in front of it, the halves are each other's mirror image. The endplates are planes through what faces up and down in
the middle of the body. A pedicle's isthmus is the smallest section between body and arch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from batchone.pipeline.landmarks import Landmark, Reference
from batchone.pipeline.values import FloatArray, Mesh
from batchone.segment.frames.fits import Samples, angle_deg, as_vector, landmark, sampled, spread_of
from batchone.segment.frames.halves import halves
from batchone.segment.frames.pedicles import SECTION_MM, Canal, isthmus
from batchone.segment.frames.vertebral_body import BODY_SHARES, endplates, first_body, settled

SAMPLE_MM = 0.8  # points on the surface; numerical, half of the finest thing that is looked for
CELL_MM = 1.0  # of the view along the canal; numerical
TILTS_DEG = ((-48, 48), (-24, 24))  # flexion, lateral bend: kyphosis, lordosis and scoliosis of a lying patient; default
COARSE_DEG, FINE_DEG = 8, 2  # steps of the search; numerical
HOLE_MM2 = (60.0, 1000.0)  # of a vertebral canal, adult: about 150 to 500; textbook anatomy with room on both sides
TURN_DEG = 24  # about the canal: axial rotation of a lying patient; default
ABOUT_MM = 28.0  # of the canal's middle: body, pedicles and laminae, whose halves are alike; the processes' ends are not; default

_POINTS = nb.types.Array(nb.float64, 2, "C", readonly=True)


@dataclass(frozen=True, slots=True, eq=False)
class Vertebra:
    """Frame (x left, y back, z up, origin in the body's centre), landmarks and references of a vertebra."""

    frame: FloatArray
    landmarks: tuple[Landmark, ...]
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Hole:
    """The canal seen along a frame's z: its cells' centres in (x, y) mm, and how large it is."""

    cells: FloatArray
    area_mm2: float


def vertebra(mesh: Mesh, sigma_mm: npt.NDArray[np.float64], title: str) -> Vertebra | None:
    """Measure a vertebra; None where the surface is not like one (cut, or without a closed arch)."""
    samples = sampled(mesh, SAMPLE_MM)
    found = _canal(samples)
    if found is None:
        return None
    frame, hole, spread_deg = found
    frame = _squared(samples, frame)
    start = first_body(samples, frame, hole.cells)
    if start is None:
        return None
    last = settled(samples, start, halves(samples, frame[:3, 3], ABOUT_MM))
    if last is None:
        return None
    body, plates = last
    canal = _canal_along(samples, body.frame, hole, frame[:3, 3])
    size = {"half_depth_mm": body.half_depth_mm, "height_mm": float(np.linalg.norm(plates.upper - plates.lower))}
    pedicles = {side: isthmus(mesh, body.frame, canal, sign=sign, **size) for side, sign in (("left", 1.0), ("right", -1.0))}
    sigma = float(np.median(sigma_mm))
    known = [one for share in BODY_SHARES if (one := endplates(samples, body, share)) is not None]
    bodies = [0.5 * (plate.upper + plate.lower) for plate in known]
    canal_mm = frame[:3, 3] + frame[:3, 2] * ((bodies[0] - frame[:3, 3]) @ frame[:3, 2])
    first = known[0]
    landmarks = [
        landmark(f"{title}-endplate-upper", [plate.upper for plate in known], sigma),
        landmark(f"{title}-endplate-lower", [plate.lower for plate in known], sigma),
        landmark(f"{title}-body-centre", bodies, sigma),
        Landmark(f"{title}-canal-centre", as_vector(canal_mm), float(np.hypot(0.5 * CELL_MM, sigma))),
    ]
    for side, points in pedicles.items():
        if points is not None:
            landmarks.append(landmark(f"{title}-pedicle-{side}", points, float(np.hypot(0.5 * SECTION_MM, sigma))))
    references = [
        Reference(f"{title}-canal", "axis", as_vector(canal_mm), as_vector(frame[:3, 2]), 0.5 * CELL_MM, spread_deg),
        _plate(f"{title}-endplate-upper", [(p.upper, p.upper_normal) for p in known], first.upper_rms, sigma),
        _plate(f"{title}-endplate-lower", [(p.lower, p.lower_normal) for p in known], first.lower_rms, sigma),
    ]
    return Vertebra(body.frame, tuple(landmarks), tuple(references))


def _canal_along(samples: Samples, body: FloatArray, hole: _Hole, at_mm: FloatArray) -> Canal:
    """The canal seen along the body's own z; where that does not lead through, the ``hole`` at a place (3,), as it was found."""
    centre = samples.points.mean(axis=0)
    seen = _hole(np.ascontiguousarray((samples.points - centre).T), np.ascontiguousarray(body[:3, :3]))
    if seen is None:
        return Canal((body[:3, :3].T @ (at_mm - body[:3, 3]))[:2], hole.cells.std(axis=0))
    return Canal(seen.cells.mean(axis=0) + (body[:3, :3].T @ (centre - body[:3, 3]))[:2], seen.cells.std(axis=0))


def _plate(name: str, found: list[tuple[FloatArray, FloatArray]], rms_mm: float, sigma_mm: float) -> Reference:
    point, normal = found[0]
    turned = float(np.sqrt(np.mean([angle_deg(normal, other) ** 2 for _, other in found])))
    spread = spread_of([p for p, _ in found], float(np.hypot(rms_mm, sigma_mm)))
    return Reference(name, "plane", as_vector(point), as_vector(normal), spread, turned)


# --- the canal ---------------------------------------------------------------------------------------------------------------


def _tilted(flexion_deg: float, bend_deg: float) -> FloatArray:
    """Patient axes, bent to a side and then forward, (3, 3) with the axes as columns."""
    f, b = np.radians(flexion_deg), np.radians(bend_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(f), -np.sin(f)], [0, np.sin(f), np.cos(f)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    return np.asarray(about_x @ about_y)


def _canal(samples: Samples) -> tuple[FloatArray, _Hole, float] | None:
    """Frame along the canal with its origin in the hole's centre, the hole, and the spread of the direction (degrees)."""
    centre = samples.points.mean(axis=0)
    points = np.ascontiguousarray((samples.points - centre).T)
    (f0, f1), (b0, b1) = TILTS_DEG
    coarse = [(f, b) for f in range(f0, f1 + 1, COARSE_DEG) for b in range(b0, b1 + 1, COARSE_DEG)]
    best = coarse[int(np.argmax(_areas_mm2(points, coarse)))]
    reach = range(-COARSE_DEG + FINE_DEG, COARSE_DEG, FINE_DEG)
    fine = [(best[0] + f, best[1] + b) for f in reach for b in reach]
    areas_mm2 = _areas_mm2(points, fine)
    if not HOLE_MM2[0] <= areas_mm2.max() <= HOLE_MM2[1]:
        return None
    # the hole hardly changes about its best direction: the middle of all that are as good is steadier than the best
    good = np.array(fine, dtype=np.float64)[areas_mm2 >= 0.97 * areas_mm2.max()]
    middle = good.mean(axis=0)
    spread_deg = float(np.hypot(np.sqrt(((good - middle) ** 2).sum(axis=1).mean()) / np.sqrt(len(good)), 0.5 * FINE_DEG))
    frame = np.eye(4)
    frame[:3, :3] = _tilted(*middle)
    hole = _hole(points, frame[:3, :3])
    if hole is None:
        return None
    across = hole.cells.mean(axis=0)
    frame[:3, 3] = centre + frame[:3, :3] @ np.array([*across, 0.0])
    if ((centre - frame[:3, 3]) @ frame[:3, 1]) >= 0.0:  # the body must lie in front of the canal
        return None
    return frame, _Hole(hole.cells - across, hole.area_mm2), spread_deg


@nb.njit(
    nb.boolean[:, ::1](_POINTS, _POINTS, nb.float64[:, ::1], nb.float64[::1]), cache=True, nogil=True, fastmath={"nnan", "nsz"}
)
def _cells_seen(points: FloatArray, axes: FloatArray, across: FloatArray, low: FloatArray) -> npt.NDArray[np.bool_]:
    """Which cells of a view along the third of the ``axes`` (columns) hold a point (3, n).

    ``low`` gets the corner of the first cell; ``across`` (2, n) is room to work."""
    high = np.empty(2)
    for axis in range(2):
        a, b, c = axes[0, axis], axes[1, axis], axes[2, axis]
        x, y, z, along = points[0], points[1], points[2], across[axis]
        least, most = np.inf, -np.inf
        for n in range(along.shape[0]):
            at = x[n] * a + y[n] * b + z[n] * c
            along[n] = at
            least, most = min(least, at), max(most, at)
        low[axis], high[axis] = least - 2.0 * CELL_MM, most
    first, second = across[0], across[1]
    seen = np.zeros((int((high[0] - low[0]) / CELL_MM) + 3, int((high[1] - low[1]) / CELL_MM) + 3), dtype=np.bool_)
    for n in range(first.shape[0]):
        seen[nb.uint64((first[n] - low[0]) / CELL_MM), nb.uint64((second[n] - low[1]) / CELL_MM)] = True  # never below 0
    return seen


@nb.njit(nb.int64(nb.boolean[:, ::1]), cache=True, nogil=True)
def _largest_hole(seen: npt.NDArray[np.bool_]) -> int:
    """Number of cells of the largest stretch of unseen cells, side by side, that does not reach the corner (and is cleared)."""
    rows, columns = seen.shape
    places = np.empty(rows * columns, dtype=np.int64)
    largest = 0
    for first in range(rows * columns):  # the corner comes first: what is outside of the bone
        if seen[first // columns, first % columns]:
            continue
        seen[first // columns, first % columns] = True
        places[0], size, done = first, 1, 0
        while done < size:
            y, x = places[done] // columns, places[done] % columns
            done += 1
            for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= j < rows and 0 <= i < columns and not seen[j, i]:
                    seen[j, i] = True
                    places[size] = j * columns + i
                    size += 1
        if first > 0:
            largest = max(largest, size)
    return largest


@nb.njit(
    nb.void(_POINTS, nb.types.Array(nb.float64, 3, "C", readonly=True), nb.int64[::1]),
    parallel=True,
    cache=True,
    nogil=True,
)
def _hole_sizes(points: FloatArray, views: FloatArray, sizes: npt.NDArray[np.int64]) -> None:
    for n in nb.prange(views.shape[0]):
        sizes[n] = _largest_hole(_cells_seen(points, views[n], np.empty((2, points.shape[1])), np.empty(2)))


def _areas_mm2(points: FloatArray, tilts: list[tuple[int, int]]) -> FloatArray:
    """Area of the largest hole of points (3, n) seen from each of the tilted axes, 0 where there is none."""
    sizes = np.empty(len(tilts), dtype=np.int64)
    _hole_sizes(points, np.stack([_tilted(*tilt) for tilt in tilts]), sizes)
    return np.asarray(sizes * CELL_MM**2, dtype=np.float64)


def _hole(points: FloatArray, axes: FloatArray) -> _Hole | None:
    """The largest hole of points (3, n) seen along the third of the ``axes`` (columns); its cells along the first two."""
    low = np.empty(2)
    seen = _cells_seen(points, np.ascontiguousarray(axes), np.empty((2, points.shape[1])), low)
    holes, count = ndimage.label(~seen)
    if count < 2:
        return None
    sizes = np.bincount(holes.reshape(-1))
    sizes[0] = sizes[holes[0, 0]] = 0  # the bone itself, and what is outside
    largest = int(np.argmax(sizes))
    if sizes[largest] == 0:
        return None
    cells = (np.argwhere(holes == largest) + 0.5) * CELL_MM + low
    return _Hole(cells, float(sizes[largest]) * CELL_MM**2)


@nb.njit(nb.void(_POINTS, nb.float64[::1], nb.float64[::1], nb.float64[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _count_turned(points: FloatArray, cosines: FloatArray, sines: FloatArray, counts: FloatArray) -> None:
    """How many points lie in each cell (2 mm to the left, 2.5 mm to the back) of views that are turned about z."""
    for n in nb.prange(counts.shape[0]):
        c, s = cosines[n], sines[n]
        for p in range(points.shape[0]):
            x, y = c * points[p, 0] + s * points[p, 1], -s * points[p, 0] + c * points[p, 1]
            i, j = int(np.floor((x + 48.0) / 2.0)), int(np.floor((y + 60.0) / 2.5))
            if 0 <= i < counts.shape[1] and 0 <= j < counts.shape[2]:
                counts[n, i, j] += 1.0


def _squared(samples: Samples, frame: FloatArray) -> FloatArray:
    """Turn a frame about its z so that left and right half are each other's mirror image."""
    local = (samples.points - frame[:3, 3]) @ frame[:3, :3]

    def likeness(counts: FloatArray) -> float:
        one = ndimage.gaussian_filter(np.minimum(counts, 12.0), 1.0)
        return float((one * one[::-1]).sum() / max((one * one).sum(), 1e-9))

    turns = np.arange(-TURN_DEG, TURN_DEG + 1, 2.0)
    counts = np.zeros((len(turns), 48, 48))
    _count_turned(local, np.cos(np.radians(turns)), np.sin(np.radians(turns)), counts)
    values = np.array([likeness(one) for one in counts])
    k = int(np.clip(np.argmax(values), 1, len(turns) - 2))
    before, at, after = values[k - 1 : k + 2]
    bend = before - 2.0 * at + after
    best = turns[k] + (0.0 if bend >= 0.0 else 2.0 * float(np.clip(0.5 * (before - after) / bend, -1.0, 1.0)))
    c, s = np.cos(np.radians(best)), np.sin(np.radians(best))
    turned = frame.copy()
    turned[:3, :3] = frame[:3, :3] @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return turned
