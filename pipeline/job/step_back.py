"""A part's STEP file, read back with OCCT and measured against the labelled faces of the part that its features made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.nearest import nearest_points
from batchone.design.step_reading import StepSolid, read_step
from batchone.design.tessellation import TESSELLATION_MM
from batchone.pipeline.errors import DesignError
from batchone.pipeline.job.readback import FILES
from batchone.pipeline.job.straight_faces import is_straight
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Vector, judge

_MILLIMETRE = "millimetre"
_FACE_MM = 5.0 * TESSELLATION_MM  # the triangles of bores and slots are the same again; those of letters measure up to 0.026
_SOURCE = "twice what triangles of letters, as they are made and as they are read, lie from curved strokes (0.025 mm)"
_AGAIN = "design again; if it stays, report this order"


def reread_step(part: Part, data: bytes) -> tuple[Finding, ...]:
    """Measure a STEP file against its part; nothing but a failed finding where it cannot be read.

    It holds the parametric features that made faces of the part, each named after a label of the part (and what may follow).
    The triangles of a face must lie on the solids of its name: their corners and their middles, so that a solid that is too large
    is found as well as one too small. A face that is not functional may end on something else within its solid. Every solid must
    have left triangles on the part, every functional face must have some, and one that is cut straight must have a solid.
    """
    name = f"parts/{part.name}.step"
    try:
        units, solids = read_step(data)
    except DesignError:
        return (_finding(f"files {name} that cannot be read back", 1),)
    faces = {label: part.mesh.faces[part.face_labels == index] for index, label in enumerate(part.labels)}
    functional = [face.label for face in part.functional_faces]
    broken = [one for one in solids if not one.whole]
    alien = [unit for unit in units if unit.lower() not in (_MILLIMETRE, "mm")]
    off_mm, where, left = 0.0, None, np.zeros(len(solids), dtype=np.bool_)
    for label, own in faces.items():
        named = [index for index, one in enumerate(solids) if len(one.mesh.faces) and _made(one.name, label)]
        if not named or not len(own):
            continue
        found = _compared(Mesh(part.mesh.vertices_mm, own), [solids[index].mesh for index in named], label in functional)
        left[named] |= found.left
        if not found.off_mm <= off_mm:
            off_mm, where = found.off_mm, found.where_mm
    empty = [label for label in functional if not len(faces.get(label, ()))]
    absent = [one for one, there in zip(solids, left, strict=True) if one.whole and not there]
    without = [
        Mesh(part.mesh.vertices_mm, faces[label])
        for label in functional
        if label not in empty and not any(_made(one.name, label) for one in solids)
    ]
    missing = [face for face in without if is_straight(face)]
    return (
        _finding(f"solids in {name}", len(solids) - len(broken), low=1),
        _finding(f"length units of {name} other than millimetre", len(alien)),
        _finding(f"solids of {name} that are open, invalid or of no volume", len(broken), where=_centre(broken)),
        judge(
            FILES,
            f"largest distance of a face of {part.name} from the solid of {name} that made it",
            off_mm,
            "mm",
            high=_FACE_MM,
            hint=_AGAIN,
            source=_SOURCE,
            where_mm=where if not off_mm <= _FACE_MM else None,
        ),
        _finding(f"solids of {name} of which {part.name} has no face", len(absent), where=_centre(absent)),
        _finding(
            f"straight functional faces of {part.name} without a solid in {name}", len(missing), where=_middle(missing)
        ),
        _finding(f"functional faces of {part.name} without a triangle", len(empty)),
    )  # fmt: skip


def _finding(what: str, count: int, *, low: int = 0, where: Vector | None = None) -> Finding:
    return judge(
        FILES,
        what,
        count,
        "",
        low=low or None,
        high=None if low else 0,
        hint=_AGAIN,
        source="the approved device",
        where_mm=where,
    )


def _centre(solids: Sequence[StepSolid]) -> Vector | None:
    return solids[0].centre_mm if solids else None


def _middle(faces: Sequence[Mesh]) -> Vector | None:
    return _vector(faces[0].vertices_mm[np.unique(faces[0].faces)].mean(axis=0)) if faces else None


def _vector(point_mm: FloatArray) -> Vector:
    x, y, z = point_mm.tolist()
    return (x, y, z)


def _made(feature: str, label: str) -> bool:
    """Whether a feature's name says which face it made: ``escape hole 1``, ``label text``, ``scale cube``."""
    words = feature.split()
    return bool(words) and label in ("-".join(words), words[0], words[-1])


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """A face against its solids: the most that it is off them, mm, and where; (n,) which of them left a triangle of it."""

    off_mm: float
    where_mm: Vector
    left: npt.NDArray[np.bool_]


def _compared(face: Mesh, solids: Sequence[Mesh], functional: bool) -> _Compared:
    used, local = np.unique(face.faces, return_inverse=True)
    corners_mm = face.vertices_mm[used]
    triangles = local.reshape(-1, 3)
    points_mm = np.vstack([corners_mm, corners_mm[triangles].mean(axis=1)])
    surface = _together(solids)
    off_mm, nearest, closest_mm = nearest_points(points_mm, surface)
    on = off_mm <= _FACE_MM
    lying = on[len(used) :] & on[triangles].all(axis=1)
    owner = np.searchsorted(np.cumsum([len(one.faces) for one in solids]), nearest[len(used) :], side="right")
    left = np.bincount(owner[lying], minlength=len(solids)) > 0
    if not functional:
        a, b, c = np.moveaxis(surface.vertices_mm[surface.faces[nearest]], 1, 0)
        within = np.einsum("ij,ij->i", np.cross(b - a, c - a), points_mm - closest_mm) < 0.0
        off_mm = np.where(within, 0.0, off_mm)
        off_mm[_within(points_mm, off_mm > _FACE_MM, solids)] = 0.0  # where a corner is nearest, its triangles may disagree
    worst = int(off_mm.argmax())
    return _Compared(float(off_mm[worst]), _vector(points_mm[worst]), left)


def _together(solids: Sequence[Mesh]) -> Mesh:
    before = np.cumsum([0, *(len(one.vertices_mm) for one in solids)])
    return Mesh(
        np.vstack([one.vertices_mm for one in solids]),
        np.vstack([one.faces + first for one, first in zip(solids, before, strict=False)]).astype(np.int32),
    )


def _within(points_mm: FloatArray, asked: npt.NDArray[np.bool_], solids: Sequence[Mesh]) -> npt.NDArray[np.bool_]:
    """Which of the points that are asked for lie within a solid."""
    within = np.zeros(len(points_mm), dtype=np.bool_)
    for solid in solids if asked.any() else ():
        low, high = solid.vertices_mm.min(axis=0), solid.vertices_mm.max(axis=0)
        near = np.flatnonzero(asked & ~within & (points_mm >= low).all(axis=1) & (points_mm <= high).all(axis=1))
        within[near] = [_turns(solid, point) > 0.5 for point in points_mm[near]]
    return within


def _turns(solid: Mesh, point_mm: FloatArray) -> float:
    """How often a surface goes round a point: 1 within, 0 without (Van Oosterom and Strackee 1983)."""
    a, b, c = np.moveaxis(solid.vertices_mm[solid.faces] - point_mm, 1, 0)
    far_a, far_b, far_c = (np.linalg.norm(one, axis=1) for one in (a, b, c))
    above = np.einsum("ij,ij->i", a, np.cross(b, c))
    below = far_a * far_b * far_c
    below += np.einsum("ij,ij->i", a, b) * far_c + np.einsum("ij,ij->i", b, c) * far_a + np.einsum("ij,ij->i", c, a) * far_b
    return float(np.arctan2(above, below).sum() / (2.0 * np.pi))
