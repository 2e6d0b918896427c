"""A picture of an engraving, taken from the finished mesh: rays straight down on the face, dark where it lies deep.

What is engraved is found by the label of its faces; what is seen is found by rays from far outside, so that material before the
label hides it as it would to a reader.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.cranial.rays import Scene
from batchone.design.triangles import area_vectors
from batchone.pipeline.values import FloatArray, Mesh, Part

BoolArray = npt.NDArray[np.bool_]

LEAST_DEPTH_MM = 0.15  # shallowest engraving that is still seen; generic design guides of metal printing
PIXELS_PER_HEIGHT = 96  # numerical: the least difference of two letters of the font (I, l) is four high
_WALL = 0.5  # numerical: cosine to the reader below which a face is the wall of a letter
_NEAR_RAD = (0.09, 0.02)  # numerical: walls so near to the reading direction tell it, in two rounds
_MARGIN = 2  # numerical: pixels around the engraving
_LEAST_RIM = 12  # numerical: points on the rim that a curved ground (six numbers) needs
_EVEN = 0.25  # numerical: of a capital's height, places on the rim are so far apart
_ROUNDS, _EXACT_MM = 20, 0.005  # numerical: of the search for the ground; distances below count as none
_FLAT_MM = 0.02  # numerical: half of a flat rim lies nearer to its plane
_FAR_MM = 300.0  # numerical: rays start so far outside


@dataclass(frozen=True, slots=True, eq=False)
class Engraving:
    """A picture of an engraving.

    Attributes
    ----------
    dark
        (rows, columns) where it lies deep; the first row is the lowest.
    axes
        (3, 3) columns: to the right and up in the picture, and to the reader; whether up is up is not known yet.
    """

    dark: BoolArray
    axes: FloatArray


def pictured(part: Part, label: str, *, height_mm: float) -> Engraving | None:
    """Take a picture of what is engraved under a face label; None where nothing is.

    Parameters
    ----------
    part, label
        A finished part, and the label of the faces of its letters.
    height_mm
        Height of a capital: the picture's pixels are a fixed share of it.

    Notes
    -----
    Walls of letters stand along the direction in which they were cut, and most of them along or across the reading direction:
    both are measured on them. The ground goes through the rim of the engraving.
    """
    mine = part.face_labels == part.labels.index(label) if label in part.labels else np.zeros(len(part.mesh.faces), np.bool_)
    if not mine.any():
        return None
    middle = part.mesh.vertices_mm[np.unique(part.mesh.faces[mine])].mean(axis=0)
    mesh = Mesh((part.mesh.vertices_mm - middle).astype(np.float32).astype(np.float64), part.mesh.faces)
    axes = _axes(area_vectors(mesh)[mine])
    if axes is None:
        return None
    used = np.unique(mesh.faces[mine])
    rim = np.intersect1d(used, np.unique(mesh.faces[~mine]))
    if len(rim) < _LEAST_RIM:
        return None
    step = height_mm / PIXELS_PER_HEIGHT
    flat = mesh.vertices_mm[used] @ axes
    low, high = flat[:, :2].min(axis=0) - _MARGIN * step, flat[:, :2].max(axis=0) + _MARGIN * step
    x, y = (np.arange(low[k], high[k], step) + 0.5 * step for k in (0, 1))
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    origins = np.column_stack([places, np.full(len(places), _FAR_MM)]) @ axes.T
    distance, _ = Scene(mesh).meets(origins, np.broadcast_to(-axes[:, 2], origins.shape), 2.0 * _FAR_MM)
    seen = np.where(np.isnan(distance), -_FAR_MM, _FAR_MM - distance)
    deep = _ground_mm(_even(mesh.vertices_mm[rim] @ axes, _EVEN * height_mm), places) - seen > LEAST_DEPTH_MM
    return Engraving(deep.reshape(len(y), len(x)) & _over(flat, x, y), axes)


def _axes(areas: FloatArray) -> FloatArray | None:
    """Columns: along the letters' straight strokes, across them, to the reader."""
    size = np.linalg.norm(areas, axis=1)
    areas, size = areas[size > 0.0], size[size > 0.0]
    outward = areas.sum(axis=0)  # walls cancel each other
    if not np.linalg.norm(outward) > 0.0:
        return None
    outward = outward / np.linalg.norm(outward)
    walls = np.abs(areas @ outward) < _WALL * size
    if not walls.any():
        return None
    areas, size = areas[walls], size[walls]
    normal = np.linalg.eigh((areas / size[:, None]).T @ areas)[1][:, 0]
    normal = normal * np.sign(float(normal @ outward))
    x = np.cross(np.eye(3)[int(np.argmin(np.abs(normal)))], normal)
    x /= np.linalg.norm(x)
    y = np.cross(normal, x)
    angle = np.arctan2(areas @ y, areas @ x)
    turned = float(np.angle((size * np.exp(4j * angle)).sum())) / 4.0
    for near in _NEAR_RAD:
        off = np.angle(np.exp(4j * (angle - turned))) / 4.0
        close = np.abs(off) < near
        turned += float((size * off)[close].sum() / size[close].sum()) if close.any() else 0.0
    right = np.cos(turned) * x + np.sin(turned) * y
    return np.column_stack([right, np.cross(normal, right), normal])


def _even(rim: FloatArray, apart_mm: float) -> FloatArray:
    """(k, 3) one place of each cell: round letters have many corners, and the ground must not be that of these letters alone."""
    cells = np.floor(rim[:, :2] / apart_mm).astype(np.int64)
    return np.asarray(rim[np.unique(cells, axis=0, return_index=True)[1]])


def _ground_mm(rim: FloatArray, places: FloatArray) -> FloatArray:
    """(n,) height at places (n, 2) of the plane through the rim (k, 3), or the surface of second order where most is curved."""
    size = np.abs(rim[:, :2]).max(axis=0)
    for order in (1, 2):
        known = _terms(rim[:, :2] / size, order)
        weight = np.ones(len(rim))
        for _ in range(_ROUNDS):  # least sum of distances: what stands out of the ground counts little
            found = np.linalg.lstsq(known * weight[:, None], rim[:, 2] * weight, rcond=1e-9)[0]
            off = np.abs(known @ found - rim[:, 2])
            weight = 1.0 / np.sqrt(np.maximum(off, _EXACT_MM))
        if float(np.median(off)) <= _FLAT_MM:
            break
    return np.asarray(_terms(places / size, order) @ found)


def _terms(flat: FloatArray, order: int) -> FloatArray:
    x, y = flat.T
    first = [np.ones_like(x), x, y]
    return np.column_stack(first if order == 1 else [*first, x * x, x * y, y * y])


def _over(flat: FloatArray, x: FloatArray, y: FloatArray) -> BoolArray:
    """(rows, columns) within the box of the engraving: what lies deep beside it is the part's edge."""
    low, high = flat[:, :2].min(axis=0), flat[:, :2].max(axis=0)
    return np.asarray(((y >= low[1]) & (y <= high[1]))[:, None] & ((x >= low[0]) & (x <= high[0])))
