"""A part's STEP file, read back with OCCT and measured against the labelled faces of the part that its features made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from batchone.design.step_reading import StepSolid, read_step, round_mm
from batchone.design.tessellation import TESSELLATION_MM
from batchone.pipeline.errors import DesignError, MachineError
from batchone.pipeline.job.readback import FILES
from batchone.pipeline.values import Finding, FloatArray, IntArray, Mesh, Part, Vector, judge

_MILLIMETRE = "millimetre"
_FACE_MM = 2.0 * TESSELLATION_MM  # triangles of a feature are so near to it, and the body made of them is simplified as closely
_LEAST_ON = 3  # vertices of a face on a solid: fewer may touch it by chance
_LEAST_TURN = 0.5  # numerical: normals of a round hole turn all about; those of a flat face or a groove mostly one way
_LEAST_FACING = 0.95  # numerical: a triangle's normal along the radius; 0.97 where each spans 0.25 rad, as those of features do
_SOURCE = "triangles of a feature lie within 0.01 mm of it, and so do those of the simplified body"
_AGAIN = "design again; if it stays, report this order"


def reread_step(part: Part, data: bytes) -> tuple[Finding, ...]:
    """Measure a STEP file against its part.

    It holds the parametric features that made faces of the part, each named after a label of the part (and what may follow):
    all functional faces of such a name, and any whose features are simple, must lie on them; every such feature must have left
    a face; and a round functional face must have a round feature.

    Raises
    ------
    MachineError
        The file cannot be read.
    """
    name = f"parts/{part.name}.step"
    try:
        units, solids = read_step(data)
    except DesignError as error:
        raise MachineError(f"{name} cannot be read back", hint=error.hint) from error
    vertices_mm = part.mesh.vertices_mm
    faces = {label: part.mesh.faces[part.face_labels == index] for index, label in enumerate(part.labels)}
    named = {label: [one for one in solids if _made(one.name, label)] for label, triangles in faces.items() if len(triangles)}
    corners = {label: vertices_mm[np.unique(faces[label])] for label, own in named.items() if own}
    broken = [one for one in solids if not one.whole]
    alien = [unit for unit in units if unit.lower() not in (_MILLIMETRE, "mm")]
    functional = [face.label for face in part.functional_faces]
    off_mm, where = _furthest([(corners[label], named[label]) for label in corners if _judged(named[label], label in functional)])
    absent = [one for label, points_mm in corners.items() for one in named[label] if not _left_a_face(one, points_mm)]
    without = [
        middle
        for label in functional
        if not named.get(label, ())
        for middle in _round_without(Mesh(vertices_mm, faces.get(label, part.mesh.faces[:0])), solids)
    ]
    return (
        _finding(f"solids in {name}", len(solids) - len(broken), low=1),
        _finding(f"length units of {name} other than millimetre", len(alien)),
        _finding(f"solids of {name} that are open, invalid or of no volume", len(broken), where=_centre(broken)),
        judge(
            FILES,
            f"largest distance of a corner of {part.name} from the solid of {name} that made its face",
            off_mm,
            "mm",
            high=_FACE_MM,
            hint=_AGAIN,
            source=_SOURCE,
            where_mm=where,
        ),
        _finding(f"solids of {name} of which {part.name} has no face", len(absent), where=_centre(absent)),
        _finding(
            f"round functional faces of {part.name} without a solid in {name}", len(without), where=next(iter(without), None)
        ),
    )


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


def _made(feature: str, label: str) -> bool:
    """Whether a feature's name says which face it made: ``escape hole 1``, ``label text``, ``scale cube``."""
    words = feature.split()
    return bool(words) and label in ("-".join(words), words[0], words[-1])


def _judged(solids: Sequence[StepSolid], functional: bool) -> bool:
    return functional or all(one.convex for one in solids)


def _furthest(faces: Sequence[tuple[FloatArray, Sequence[StepSolid]]]) -> tuple[float, Vector | None]:
    """The most that a corner is off the nearest of the solids of its face, mm, and where it is."""
    most, where = 0.0, None
    for points_mm, solids in faces:
        off_mm = np.min([one.distances_mm(points_mm) for one in solids], axis=0)
        worst = int(off_mm.argmax())
        if where is None or not off_mm[worst] <= most:
            x, y, z = points_mm[worst].tolist()
            most, where = float(off_mm[worst]), (x, y, z)
    return most, where


def _left_a_face(solid: StepSolid, points_mm: FloatArray) -> bool:
    return int((solid.distances_mm(points_mm) <= _FACE_MM).sum()) >= _LEAST_ON


def _round_without(face: Mesh, solids: Sequence[StepSolid]) -> Iterator[Vector]:
    """The middles of the round pieces of a face of which no solid has the cylinder."""
    for piece in _pieces(face.faces):
        own = Mesh(face.vertices_mm, piece)
        points_mm = face.vertices_mm[np.unique(piece)]
        cylinder = _fitted(own)
        if cylinder is None or np.abs(round_mm(points_mm, cylinder)).max() > _FACE_MM:
            continue
        rounds = [one for solid in solids for one in solid.rounds]
        if not any(np.abs(round_mm(points_mm, one)).max() <= _FACE_MM for one in rounds):
            x, y, z = points_mm.mean(axis=0).tolist()
            yield (x, y, z)


def _pieces(faces: IntArray) -> list[IntArray]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(faces) == 0:
        return []
    used, local = np.unique(faces, return_inverse=True)
    a, b, c = local.reshape(-1, 3).T
    links = coo_array((np.ones(2 * len(a), dtype=np.int8), (np.r_[a, b], np.r_[b, c])), shape=(len(used),) * 2)
    piece = connected_components(links, directed=False)[1][a]
    return [faces[piece == one] for one in range(int(piece.max()) + 1)]


def _fitted(face: Mesh) -> FloatArray | None:
    """The cylinder (7,) through a round face; None for one whose normals do not turn all about an axis."""
    corners = face.vertices_mm[face.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    wide = lengths > 0.0
    normals, lengths, middles = normals[wide], lengths[wide], corners[wide].mean(axis=1)
    sizes, directions = np.linalg.eigh(np.einsum("ij,ik->jk", normals, normals / lengths[:, None]))
    if not sizes[1] > _LEAST_TURN * sizes[2]:
        return None
    points_mm = face.vertices_mm[np.unique(face.faces)]
    middle = points_mm.mean(axis=0)
    flat = (points_mm - middle) @ directions[:, 1:]
    # x^2 + y^2 = 2 x a + 2 y b + (r^2 - a^2 - b^2)
    (a, b, rest), *_ = np.linalg.lstsq(np.column_stack([2.0 * flat, np.ones(len(flat))]), (flat**2).sum(axis=1), rcond=None)
    outward = (middles - middle) @ directions[:, 1:] - (a, b)
    outward /= np.maximum(np.linalg.norm(outward, axis=1), np.finfo(float).tiny)[:, None]
    facing = np.abs((normals / lengths[:, None] @ directions[:, 1:] * outward).sum(axis=1))
    if facing.min() < _LEAST_FACING:
        return None
    centre = middle + directions[:, 1:] @ (a, b)
    return np.array([*centre, *directions[:, 0], np.sqrt(max(rest + a * a + b * b, 0.0))])
