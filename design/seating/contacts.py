"""What of a guide meets bone: points of its underside, and the bone about them as a grid of signed distances.

Everything is in the guide's seat frame: z the way out, origin in the middle of the contact. What is measured here knows nothing
of guides: any body and any closed bone will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from batchone.design.contact.field import Float32Array, Lattice, lattice_over, signed_distance_mm
from batchone.design.nearest import Index
from batchone.design.triangles import area_vectors, areas_mm2, moments
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, IntArray, Mesh

STEP_MM = 0.6  # numerical: grid of the bone; 1.0 mm gives 6.6 % wrong seats where 0.6 gives 4.6 % (facts, METHODS C.9)
PAD_MM = 12.0  # numerical: a start is moved by up to 8 mm and turned; further off a guide has fallen
NEAR_MM = 5.0  # numerical: of the rest of the underside, what lies further off meets no bone within the capture range
POINTS = 1600  # numerical: one in five is asked until near a rest, and those must lie no more than 2 to 3 mm apart (METHODS C.9)
_SPACING_MM = (0.5, 1.0)  # numerical: at 2 mm single points hang in the bone and make rests that 0.5 mm does not have
OTHERS_MM = 1.0  # numerical: between places that do not carry
_SIDE = 0.3  # numerical: faces turned further up meet no bone first, turned by 15 degrees either
_PER_CELL = 16.0  # numerical: places tried in each cell before one is kept
SAMPLINGS = 4  # numerical: sets of places that starts take in turn; of one alone the share that sticks errs by 1 to 2.5 points
_SHIFTS = np.array([0.8191725134, 0.6710436067, 0.5497004779])  # numerical: steps of an even sequence in space, in cells
_PLASTIC = (0.7548776662466927, 0.5698402909980532)  # numerical: steps of an even sequence over a triangle

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Landscape:
    """Signed distances to a bone on a grid, float32, negative inside."""

    lattice: Lattice
    distance_mm: Float32Array

    def at(self, points_mm: FloatArray) -> FloatArray:
        """(n,) distances at points (n, 3), between the nodes linearly."""
        return self.lattice.at(self.distance_mm, points_mm)

    def normals(self, points_mm: FloatArray) -> FloatArray:
        """(n, 3) unit vectors away from the bone: the gradient of the distances."""
        half = 0.5 * self.lattice.step_mm
        ends = [self.at(points_mm + sign * half * axis) for axis in np.eye(3) for sign in (1.0, -1.0)]
        slope = np.column_stack([ends[0] - ends[1], ends[2] - ends[3], ends[4] - ends[5]])
        return np.asarray(slope / np.maximum(np.linalg.norm(slope, axis=1), 1e-12)[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """Other places (n, 3) of a body, and (n,) the nearest of its first places to each."""

    points_mm: FloatArray
    nearest: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Contact:
    """Where a body touches.

    Attributes
    ----------
    points_mm
        (n, 3) places of the body that may meet bone; those that carry first.
    carrying
        How many of them carry when it is seated.
    normals
        (carrying, 3) unit vectors out of the bone there.
    gap_mm
        (carrying,) distance to the bone as drawn.
    rho_mm
        Root mean square distance of the carrying places from their middle: what makes angles into lengths.
    again
        The same surfaces at other places: starts take turns, so that shares do not hang on where the places happen to lie.
    """

    points_mm: FloatArray
    carrying: int
    normals: FloatArray
    gap_mm: FloatArray
    rho_mm: float
    again: tuple[Again, ...] = ()

    def turns(self, count: int) -> IntArray:
        """(count,) which places each of so many starts takes: 0 for ``points_mm``, then those of ``again``."""
        return (np.arange(count) % (1 + len(self.again))).astype(np.int32)

    @property
    def seats_mm(self) -> FloatArray:
        """(carrying, 3) the places that carry."""
        return self.points_mm[: self.carrying]


def landscape(
    bone: Mesh, points_mm: FloatArray, *, pad_mm: float = PAD_MM, step_mm: float = STEP_MM, surface: Index | None = None
) -> Landscape:
    """Measure a bone about some points (n, 3); ``surface``: the bone ready to be asked, where the caller has it.

    Raises
    ------
    DesignError
        The bone is inside out: every sign would be wrong, and everything that follows still plausible.
    """
    volume = moments(bone)[0]
    if volume <= 0.0:
        raise DesignError(f"the bone's surface encloses {volume:.1f} mm3, more than 0", hint="report this order")
    lattice = lattice_over(points_mm.min(axis=0) - pad_mm, points_mm.max(axis=0) + pad_mm, step_mm)
    return Landscape(lattice, signed_distance_mm(bone, lattice, level_mm=0.0, surface=surface))


def contact(carrying_mm: FloatArray, others_mm: FloatArray, ground: Landscape, again_mm: tuple[FloatArray, ...] = ()) -> Contact:
    """A body from the places that carry and others that may meet bone; both (n, 3), the middle of the former at the origin.

    ``again_mm``: all its places taken anew, each (n, 3).
    """
    rho = float(np.sqrt((carrying_mm**2).sum(axis=1).mean()))
    points = np.ascontiguousarray(np.concatenate([carrying_mm, others_mm.reshape(-1, 3)]))
    tree = cKDTree(points)
    again = tuple(Again(np.ascontiguousarray(one), tree.query(one)[1].astype(np.int32)) for one in again_mm)
    return Contact(points, len(carrying_mm), ground.normals(carrying_mm), ground.at(carrying_mm), rho, again)


def spread(mesh: Mesh, chosen: BoolArray, spacing_mm: float) -> FloatArray:
    """(n, 3) places on some triangles of a surface, about so far apart, the same on every run."""
    return thinned(_dense(mesh, chosen, spacing_mm), spacing_mm)


def samplings(mesh: Mesh, chosen: BoolArray, spacing_mm: float, count: int = SAMPLINGS) -> tuple[FloatArray, ...]:
    """The same, ``count`` times at other places, those of :func:`spread` first."""
    dense = _dense(mesh, chosen, spacing_mm)
    return tuple(thinned(dense, spacing_mm, turn) for turn in range(count))


def turned_down(mesh: Mesh) -> BoolArray:
    """(faces,) those that bone may meet first."""
    normals = area_vectors(mesh)
    return np.asarray(normals[:, 2] < _SIDE * np.linalg.norm(normals, axis=1))


def _dense(mesh: Mesh, chosen: BoolArray, spacing_mm: float) -> FloatArray:
    faces = mesh.faces[chosen]
    if len(faces) == 0:
        return np.empty((0, 3))
    areas = areas_mm2(Mesh(mesh.vertices_mm, faces))
    upto = np.cumsum(areas)
    count = max(8, int(np.ceil(_PER_CELL * upto[-1] / spacing_mm**2)))
    face = np.minimum(np.searchsorted(upto, (np.arange(count) + 0.5) / count * upto[-1]), len(faces) - 1)
    s, t = (((np.arange(count) + 1) * step) % 1.0 for step in _PLASTIC)
    over = s + t > 1.0
    s, t = np.where(over, 1.0 - s, s), np.where(over, 1.0 - t, t)
    a, b, c = (mesh.vertices_mm[faces[face, k]] for k in range(3))
    return a + s[:, None] * (b - a) + t[:, None] * (c - a)


def thinned(points_mm: FloatArray, spacing_mm: float, turn: int = 0) -> FloatArray:
    """Of places (n, 3) that share a cell of a grid, the one nearest to their middle; each ``turn`` has a grid of its own."""
    if len(points_mm) == 0:
        return points_mm
    cells = np.floor(points_mm / spacing_mm + turn * _SHIFTS).astype(np.int64)
    cells -= cells.min(axis=0)
    _, cell = np.unique(np.ravel_multi_index(tuple(cells.T), tuple(cells.max(axis=0) + 1)), return_inverse=True)
    cell = cell.ravel()
    size = np.bincount(cell)
    middle = np.column_stack([np.bincount(cell, points_mm[:, k]) / size for k in range(3)])
    off = np.round(((points_mm - middle[cell]) ** 2).sum(axis=1), 9)
    order = np.lexsort((np.arange(len(cell)), off, cell))
    return np.ascontiguousarray(points_mm[order[np.r_[True, np.diff(cell[order]) > 0]]])


def spacing_mm(area_mm2: float) -> float:
    """How far apart the places on a contact of some area are taken."""
    return float(np.clip(np.sqrt(area_mm2 / POINTS), *_SPACING_MM))


def farthest(points: FloatArray, count: int) -> IntArray:
    """(count,) indices of points that lie far from each other: each the farthest from all before it."""
    chosen = [int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]
    away = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(np.argmax(away)))
        away = np.minimum(away, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen, dtype=np.int32)
