"""Triangles without height, as booleans leave them along cuts: taken out without moving any face.

A sliver with a short side loses that side, whichever faces meet there; any other gives its middle corner to the triangle on its
longest side. What cannot be taken out so stays, and the check of the mesh counts it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, IntArray, Mesh

HEIGHT_MM = 2e-6  # numerical: lower triangles have lost their normal, once files hold single precision
_SHORT_MM = 2e-5  # numerical: a side so short may go; the mesh check takes crossings up to 1e-4 mm for rounding
_TURNED = 0.99  # numerical: cosine by which a triangle's normal may change
_ROUNDS = 30  # numerical: one sliver may hide another
_LabelArray = npt.NDArray[np.int16]
IndexArray = npt.NDArray[np.signedinteger]


def without_slivers(mesh: Mesh, labels: _LabelArray) -> tuple[Mesh, _LabelArray]:
    """A closed mesh and its face labels (m,) with fewer slivers, or as they are where there are none."""
    if len(_slivers(mesh.vertices_mm, mesh.faces)) == 0:
        return mesh, labels
    points, faces, labels = mesh.vertices_mm, mesh.faces.copy(), labels.copy()
    looked_at = np.arange(len(faces))
    for _ in range(_ROUNDS):
        found = looked_at[_slivers(points, faces[looked_at])]
        corner = np.zeros(len(points), dtype=np.bool_)
        corner[faces[found]] = True
        looked_at = np.flatnonzero(corner[faces].any(axis=1))
        if not _taken_out(points, faces, labels, found, looked_at):
            break
    kept = ~_collapsed(faces)
    used, place = np.unique(faces[kept], return_inverse=True)
    return Mesh(points[used], place.reshape(-1, 3).astype(np.int32)), labels[kept]


def _collapsed(faces: IntArray) -> npt.NDArray[np.bool_]:
    return np.asarray((faces[:, 0] == faces[:, 1]) | (faces[:, 1] == faces[:, 2]) | (faces[:, 2] == faces[:, 0]))


def _slivers(points: FloatArray, faces: IntArray) -> IntArray:
    corners = points[faces]
    sides = corners[:, [1, 2, 0]] - corners
    longest = np.sqrt(np.einsum("ijk,ijk->ij", sides, sides)).max(axis=1, initial=0.0)
    twice_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    return np.flatnonzero((twice_area <= HEIGHT_MM * np.maximum(longest, HEIGHT_MM)) & ~_collapsed(faces)).astype(np.int32)


def _taken_out(points: FloatArray, faces: IntArray, labels: _LabelArray, slivers: IndexArray, near: IndexArray) -> bool:
    """Take out slivers, none that shares a corner with one taken out before; ``near``: all faces at their corners."""
    at: dict[int, list[int]] = {}
    for face in near[~_collapsed(faces[near])].tolist():
        for corner in faces[face].tolist():
            at.setdefault(corner, []).append(face)
    touched: set[int] = set()
    changed = False
    for face in slivers.tolist():
        fan = {other for corner in faces[face].tolist() for other in at[corner]}
        if fan & touched:
            continue
        corners = faces[face].tolist()
        length = [float(np.linalg.norm(points[corners[k]] - points[corners[(k + 1) % 3]])) for k in range(3)]
        short, long = int(np.argmin(length)), int(np.argmax(length))
        done = length[short] < _SHORT_MM and _joined(points, faces, corners[short], corners[(short + 1) % 3], fan)
        if not done:
            done = _flipped(points, faces, labels, face, long, fan)
        if done:
            touched |= fan
            changed = True
    return changed


def _joined(points: FloatArray, faces: IntArray, one: int, other: int, fan: set[int]) -> bool:
    """Let the second of two corners fall onto the first, where the surface stays two-manifold and no face turns."""
    ring = {corner: {int(v) for f in fan if corner in faces[f] for v in faces[f]} - {one, other} for corner in (one, other)}
    both = [f for f in fan if one in faces[f] and other in faces[f]]
    moving = [f for f in fan if other in faces[f] and one not in faces[f]]
    if len(both) != 2 or len(ring[one] & ring[other]) != 2:
        return False
    for f in moving:
        if not _alike(points[faces[f]], points[np.where(faces[f] == other, one, faces[f])]):
            return False
    for f in fan:
        faces[f] = np.where(faces[f] == other, one, faces[f])
    return True


def _flipped(points: FloatArray, faces: IntArray, labels: _LabelArray, face: int, side: int, fan: set[int]) -> bool:
    """Turn the longest side of a sliver into the line between the two corners beside it."""
    a, b, c = (int(faces[face][(side + k) % 3]) for k in range(3))
    beside = [f for f in fan if f != face and a in faces[f] and b in faces[f]]
    if len(beside) != 1:
        return False
    (next_to,) = beside
    d = int(next(v for v in faces[next_to] if v not in (a, b)))
    if c == d or any(c in faces[f] and d in faces[f] for f in fan):
        return False
    first, second = np.array([c, a, d], dtype=np.int32), np.array([c, d, b], dtype=np.int32)
    if not all(_alike(points[faces[next_to]], points[new]) for new in (first, second)):
        return False
    faces[face], faces[next_to] = first, second
    labels[face] = labels[next_to]
    return True


def _alike(before: FloatArray, after: FloatArray) -> bool:
    """Does a triangle (3, 3) look where another did? One without height looks nowhere, and may become anything."""
    one, other = (np.cross(t[1] - t[0], t[2] - t[0]) for t in (before, after))
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return size < HEIGHT_MM**2 or float(one @ other) > _TURNED * size
